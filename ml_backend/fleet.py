"""The models that are served: each loaded when it is first needed, all of them within a budget of memory."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from bridge.errors import LabelbridgeError, NotFound
from bridge.logs import Log
from ml_backend.entry import ModelEntry
from ml_backend.inference import InferenceThread, State
from ml_backend.interaction import InteractionThreads
from ml_backend.metrics import Metrics

Engine = InferenceThread | InteractionThreads

#: Seconds for which a model that could not be loaded is not tried again.
_RETRY_S = 30.0


@dataclass(slots=True)
class _Running:
    engine: Engine
    failed_at: float | None = None
    batch_seconds: float = field(default=0.1)


class Fleet:
    """Finds the engine of a model, and starts it. Used in one event loop.

    Args:
        entries: what is served; ids must differ.
        new_detector: makes the engine of a model that finds objects on its own.
        max_bytes: of the weights that are in memory at a time. Beyond it the models that were used longest ago and
            have nothing to do are unloaded; what is in use stays, whatever it takes.
        on_failure: told, in some thread, that a model of :meth:`start` could not be loaded.
    """

    def __init__(
        self,
        entries: Sequence[ModelEntry],
        *,
        new_detector: Callable[[ModelEntry, Callable[[State, LabelbridgeError | None], None]], InferenceThread],
        max_bytes: int,
        metrics: Metrics,
        log: Log,
        on_failure: Callable[[LabelbridgeError], None] | None = None,
    ) -> None:
        self.entries = {entry.id: entry for entry in entries}
        self._new_detector = new_detector
        self._max_bytes = max_bytes
        self._metrics = metrics
        self._log = log
        self._on_failure = on_failure
        self._running: OrderedDict[str, _Running] = OrderedDict()
        self._first: tuple[str, ...] = ()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._closed = False

    def start(self, ids: Sequence[str]) -> None:
        """Load these models now; returns at once. The server is ready when they are."""
        self._loop = asyncio.get_running_loop()
        self._first = tuple(ids)
        for model in ids:
            self._engine(model)

    def close(self, timeout: float) -> None:
        """Let what runs end, for at most ``timeout`` seconds. Blocks."""
        self._closed = True
        until = time.monotonic() + timeout
        for running in list(self._running.values()):
            running.engine.close(max(0.0, until - time.monotonic()))

    @property
    def state(self) -> State:
        """Of all models that :meth:`start` named: the worst one."""
        states = [self.state_of(model) for model in self._first]
        for state in (State.FAILED, State.CLOSED, State.LOADING, State.IDLE):
            if state in states:
                return state
        return State.READY

    def state_of(self, model: str) -> State:
        running = self._running.get(model)
        return State.IDLE if running is None else running.engine.state

    def error_of(self, model: str) -> LabelbridgeError | None:
        """Why the model could not be loaded."""
        running = self._running.get(model)
        return None if running is None else running.engine.error

    @property
    def waiting(self) -> int:
        """Images and prompts that wait for all models."""
        return sum(running.engine.waiting for running in list(self._running.values()))

    def detector(self, model: str) -> InferenceThread:
        """The engine of a model that finds objects on its own, started where it was not.

        Raises:
            NotFound: there is no such model.
        """
        engine = self._engine(model)
        if not isinstance(engine, InferenceThread):
            raise _wrong_kind(model, "answers prompts and finds nothing on its own", "a detector")
        return engine

    def interactor(self, model: str) -> InteractionThreads:
        """The engine of an interactive model, started where it was not.

        Raises:
            NotFound: there is no such model.
        """
        engine = self._engine(model)
        if not isinstance(engine, InteractionThreads):
            raise _wrong_kind(model, "finds objects on its own and takes no prompts", "an interactive model")
        return engine

    def entry(self, model: str) -> ModelEntry:
        """What is known of a model.

        Raises:
            NotFound: there is no such model.
        """
        found = self.entries.get(model)
        if found is None:
            raise NotFound(
                f"there is no model {model[:80]!r}",
                expected="one of " + ", ".join(self.entries),
                todo="GET /v1/models lists them",
            )
        return found

    def _engine(self, model: str) -> Engine:
        entry = self.entry(model)
        running = self._running.get(model)
        if running is not None and self._may_retry(running):
            del self._running[model]
            running = None
        if running is None:
            running = self._begin(entry)
        self._running.move_to_end(model)
        return running.engine

    def _begin(self, entry: ModelEntry) -> _Running:
        def on_state(state: State, error: LabelbridgeError | None) -> None:
            self._note(entry, state, error)

        engine: Engine
        if entry.interactive:
            engine = InteractionThreads(entry.source, on_state=on_state)
        else:
            engine = self._new_detector(entry, on_state)
        running = self._running[entry.id] = _Running(engine)
        engine.start()
        return running

    def _may_retry(self, running: _Running) -> bool:
        return running.failed_at is not None and time.monotonic() - running.failed_at > _RETRY_S and not self._closed

    def _note(self, entry: ModelEntry, state: State, error: LabelbridgeError | None) -> None:
        self._metrics.ready.labels(entry.id).set(state is State.READY)
        running = self._running.get(entry.id)
        if state is State.FAILED and error is not None:
            self._log.error("model_failed", model=entry.card.name, **error.as_dict())
            if running is not None:
                running.failed_at = time.monotonic()
            if self._on_failure and entry.id in self._first:
                self._on_failure(error)
            return
        self._log.info(f"model_{state}", model=entry.card.name)
        if state is State.READY and self._loop is not None:
            self._loop.call_soon_threadsafe(self._keep_within_budget)

    def _keep_within_budget(self) -> None:
        loaded = [(model, running) for model, running in self._running.items() if running.engine.state is State.READY]
        total = sum(_bytes_of(running.engine) for _, running in loaded)
        for model, running in loaded[:-1]:
            if total <= self._max_bytes:
                break
            if running.engine.waiting or not running.engine.idle:
                continue
            total -= _bytes_of(running.engine)
            del self._running[model]
            running.engine.close(0)
            self._log.info("model_unloaded", model=self.entries[model].card.name, reason="the budget of memory is full")
        self._metrics.model_bytes.set(total)


def _bytes_of(engine: Engine) -> int:
    """What the model says its weights take; a model that does not say counts as nothing."""
    return int(getattr(engine.model, "nbytes", 0) or 0)


def _wrong_kind(model: str, what: str, expected: str) -> NotFound:
    return NotFound(f"the model {model!r} {what}", expected=expected, todo="GET /v1/models says what each model is for")
