"""Two threads that run an interactor: one looks at images, one answers prompts meanwhile."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

import numpy as np

from bridge.errors import LabelbridgeError, ModelError, PluginError
from ml_backend.inference import Image, ModelSource, State, as_model_error
from ml_backend.models import Interactor, Prompt, Segment

T = TypeVar("T")


class InteractionThreads:
    """Runs an interactor. A prompt never waits for another image to be looked at, which can take many seconds.

    Futures that are cancelled before their turn cost nothing. They end with ``ModelError`` where the model cannot be
    loaded or run, and with ``PluginError`` where it breaks its contract.

    Args:
        source: the model.
        on_state: told each new state, from one of the threads, after it holds.
    """

    def __init__(self, source: ModelSource, *, on_state: Callable[[State, LabelbridgeError | None], None]) -> None:
        self._source = source
        self._on_state = on_state
        self._looking = ThreadPoolExecutor(1, thread_name_prefix="preprocess")
        self._answering = ThreadPoolExecutor(1, thread_name_prefix="prompt")
        self._loaded = threading.Event()
        self._model: Interactor | None = None
        self._lock = threading.Lock()
        self._under_way = 0
        self.state = State.LOADING
        self.error: LabelbridgeError | None = None

    def start(self) -> None:
        """Begin to load the model; returns at once."""
        self._looking.submit(self._load)

    @property
    def waiting(self) -> int:
        """Images and prompts in the queues and under way."""
        return self._under_way

    @property
    def idle(self) -> bool:
        """Whether nothing waits and nothing runs."""
        return self._under_way == 0

    @property
    def model(self) -> Interactor | None:
        """The model once it is loaded."""
        return self._model

    def preprocess(self, image: Image) -> Future[Any]:
        """Queue one (H, W, 3) uint8 RGB image."""
        return self._submit(self._looking, lambda model: model.preprocess(image))

    def prompt(self, preprocessed: Any, prompts: Sequence[Prompt]) -> Future[list[Segment | None]]:
        """Queue prompts about one preprocessed image."""

        def answer(model: Interactor) -> list[Segment | None]:
            segments = model.prompt(preprocessed, prompts)
            if len(segments) != len(prompts):
                raise PluginError(
                    f"the model {model.name} gave {len(segments)} answers to {len(prompts)} prompts",
                    expected="one answer per prompt, in order",
                )
            return segments

        return self._submit(self._answering, answer)

    def close(self, timeout: float | None = None) -> None:
        """Refuse what waits and what comes; what runs ends by itself, and is waited for with a ``timeout``."""
        self._enter(State.CLOSED, None)
        self._loaded.set()
        self._looking.shutdown(wait=False, cancel_futures=True)
        self._answering.shutdown(wait=False, cancel_futures=True)
        if timeout:
            for pool in (self._looking, self._answering):
                for thread in list(pool._threads):
                    thread.join(timeout)

    def _submit(self, pool: ThreadPoolExecutor, work: Callable[[Interactor], T]) -> Future[T]:
        with self._lock:
            if self.state in (State.FAILED, State.CLOSED):
                refused: Future[T] = Future()
                refused.set_exception(self._refusal())
                return refused
            self._under_way += 1
            future = pool.submit(self._run, work)
        future.add_done_callback(self._done)
        return future

    def _run(self, work: Callable[[Interactor], T]) -> T:
        self._loaded.wait()
        if self._model is None:
            raise self._refusal()
        try:
            return work(self._model)
        except LabelbridgeError:
            raise
        except Exception as error:
            raise as_model_error(error, "run") from error

    def _done(self, _future: Future[Any]) -> None:
        with self._lock:
            self._under_way -= 1

    def _load(self) -> None:
        try:
            model: Any = self._source.load()
            if model.name != self._source.name:
                raise PluginError(f"the model calls itself {model.name!r}", expected=repr(self._source.name))
            # The first call is slow (kernels are chosen, memory is taken): nobody should wait for it.
            model.prompt(model.preprocess(np.zeros((48, 64, 3), np.uint8)), [Prompt(box=(16.0, 12.0, 48.0, 36.0))])
        except LabelbridgeError as error:
            self._enter(State.FAILED, error)
        except Exception as error:
            self._enter(State.FAILED, as_model_error(error, "loaded"))
        else:
            self._model = model
            self._enter(State.READY, None)
        self._loaded.set()

    def _enter(self, state: State, error: LabelbridgeError | None) -> None:
        with self._lock:
            if self.state in (State.FAILED, State.CLOSED):
                return
            self.state, self.error = state, error
        self._on_state(state, error)

    def _refusal(self) -> LabelbridgeError:
        return self.error or ModelError("the model server is shutting down", todo="Try again in a moment")
