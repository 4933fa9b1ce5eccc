"""One thread that loads the model and then runs it on whatever waits, a few images at a time."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, InvalidStateError
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np
import numpy.typing as npt

from bridge.errors import LabelbridgeError, ModelError, PluginError
from ml_backend.models import Detections, Interactor, Predictor

Image = npt.NDArray[np.uint8]


class State(StrEnum):
    IDLE = "idle"
    LOADING = "loading"
    READY = "ready"
    FAILED = "failed"
    CLOSED = "closed"


@dataclass(frozen=True, slots=True)
class ModelSource:
    """A model that is not loaded yet.

    Attributes:
        name: what the loaded predictor's ``name`` will be; the server must tell it before the model is there.
        load: loads it; called once, in the inference thread.
    """

    name: str
    load: Callable[[], Predictor | Interactor]


@dataclass(frozen=True, slots=True)
class _Job:
    image: Image
    answer: Future[Detections]


class InferenceThread:
    """Runs a predictor on single images handed in from anywhere, in small batches.

    A batch that fails is run again image by image, so one bad image costs its neighbours time and nothing else.

    Args:
        source: the model.
        max_batch: images given to the predictor at a time.
        max_wait_s: how long a batch that is not full waits, while ``coming`` says that more images are on their way.
        coming: how many images are being read right now; asked from the inference thread.
        on_batch: told the number of images and the seconds of each batch.
        on_state: told each new state, from the inference thread, after it holds.
    """

    def __init__(
        self,
        source: ModelSource,
        *,
        max_batch: int,
        max_wait_s: float,
        coming: Callable[[], int],
        on_batch: Callable[[int, float], None],
        on_state: Callable[[State, LabelbridgeError | None], None],
    ) -> None:
        self._source = source
        self._max_batch = max_batch
        self._max_wait_s = max_wait_s
        self._coming = coming
        self._on_batch = on_batch
        self._on_state = on_state
        self._queue: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._predictor: Predictor | None = None
        self._thread = threading.Thread(target=self._main, name="inference", daemon=True)
        self._running = False
        self.state = State.LOADING
        self.error: LabelbridgeError | None = None

    def start(self) -> None:
        """Begin to load the model; returns at once."""
        self._thread.start()

    @property
    def waiting(self) -> int:
        """Images in the queue."""
        return self._queue.qsize()

    @property
    def idle(self) -> bool:
        """Whether nothing waits and nothing runs."""
        return self._queue.empty() and not self._running

    @property
    def model(self) -> Predictor | None:
        """The model once it is loaded."""
        return self._predictor

    def submit(self, image: Image) -> Future[Detections]:
        """Queue one (H, W, 3) uint8 RGB image. While the model is still loading, the answer waits for it.

        The future ends with ``ModelError`` where the model cannot be loaded or run, and with ``PluginError`` where it
        breaks its contract.
        """
        answer: Future[Detections] = Future()
        with self._lock:
            if self.state in (State.FAILED, State.CLOSED):
                answer.set_exception(self._refusal())
            else:
                self._queue.put(_Job(image, answer))
        return answer

    def close(self, timeout: float | None = None) -> None:
        """Finish what is queued, then stop. Later images are refused."""
        self._queue.put(None)
        if self._thread.is_alive():
            self._thread.join(timeout)
        self._end(State.CLOSED, self.error)
        # _end may have taken the word to stop out of the queue.
        self._queue.put(None)

    def _main(self) -> None:
        try:
            predictor: Any = self._source.load()
            if predictor.name != self._source.name:
                raise PluginError(f"the model calls itself {predictor.name!r}", expected=repr(self._source.name))
            # The first call is slow (kernels are chosen, memory is taken): nobody should wait for it.
            predictor.predict([np.zeros((240, 320, 3), np.uint8)])
        except LabelbridgeError as error:
            self._end(State.FAILED, error)
            return
        except Exception as error:
            self._end(State.FAILED, as_model_error(error, "loaded"))
            return
        self._predictor = predictor
        self._enter(State.READY, None)
        while batch := self._next_batch():
            self._running = True
            self._run(predictor, batch)
            self._running = False

    def _next_batch(self) -> list[_Job]:
        """Images that wait, at least one; empty when the end was asked for."""
        first = self._queue.get()
        if first is None:
            return []
        batch = [first]
        until = time.monotonic() + self._max_wait_s
        while len(batch) < self._max_batch:
            try:
                job = self._queue.get_nowait()
            except queue.Empty:
                left = until - time.monotonic()
                if left <= 0 or self._coming() <= 0:
                    break
                try:
                    job = self._queue.get(timeout=left)
                except queue.Empty:
                    break
            if job is None:
                self._queue.put(None)
                break
            batch.append(job)
        return batch

    def _run(self, predictor: Predictor, batch: list[_Job]) -> None:
        wanted = [job for job in batch if job.answer.set_running_or_notify_cancel()]
        if not wanted:
            return
        began = time.perf_counter()
        try:
            answers = _predict(predictor, [job.image for job in wanted])
        except Exception as error:
            if len(wanted) == 1:
                _fail(wanted[0], error)
            else:
                for job in wanted:
                    self._run_one(predictor, job)
        else:
            for job, answer in zip(wanted, answers, strict=True):
                job.answer.set_result(answer)
        self._on_batch(len(wanted), time.perf_counter() - began)

    def _run_one(self, predictor: Predictor, job: _Job) -> None:
        try:
            job.answer.set_result(_predict(predictor, [job.image])[0])
        except Exception as error:
            _fail(job, error)

    def _enter(self, state: State, error: LabelbridgeError | None) -> None:
        with self._lock:
            if self.state in (State.FAILED, State.CLOSED):
                return
            self.state, self.error = state, error
        self._on_state(state, error)

    def _end(self, state: State, error: LabelbridgeError | None) -> None:
        """Enter a last state and refuse what still waits."""
        self._enter(state, error)
        while True:
            try:
                job = self._queue.get_nowait()
            except queue.Empty:
                return
            if job is not None and job.answer.set_running_or_notify_cancel():
                _fail(job, self._refusal())

    def _refusal(self) -> LabelbridgeError:
        return self.error or ModelError("the model server is shutting down", todo="Try again in a moment")


def _predict(predictor: Predictor, images: list[Image]) -> list[Detections]:
    answers = predictor.predict(images)
    if len(answers) != len(images):
        raise PluginError(
            f"the model {predictor.name} gave {len(answers)} answers for {len(images)} images",
            expected="one answer per image, in order",
        )
    return answers


def _fail(job: _Job, error: Exception) -> None:
    shown = error if isinstance(error, LabelbridgeError) else as_model_error(error, "run")
    try:
        job.answer.set_exception(shown)
    except InvalidStateError:  # pragma: no cover - an answer is given once
        return


def as_model_error(error: Exception, what: str) -> LabelbridgeError:
    """What a model raised, in one line."""
    text: Any = str(error).strip().splitlines()
    reason = f"{type(error).__name__}: {text[0]}" if text else type(error).__name__
    return ModelError(f"the model could not be {what}: {reason}", todo="Look at the server's log")
