"""From image references to detections: reading, decoding, caching and inference for many requests at a time.

The event loop only keeps the books. Reading and decoding happen in a pool of threads, inference in a thread of its own.
Three things bound what a server takes on: the number of requests (further ones are refused with :class:`Overloaded`),
the number of images one request has under way, and the pixels that are decoded at a time.
"""

from __future__ import annotations

import asyncio
import hashlib
import math
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol, TypeVar

from bridge.errors import LabelbridgeError, PluginError
from bridge.images import decode, size_of
from ml_backend.budget import Budget
from ml_backend.inference import InferenceThread, ModelSource, State
from ml_backend.logs import Log
from ml_backend.lru import Lru
from ml_backend.metrics import Metrics
from ml_backend.models import Detections, Predictor
from ml_backend.server_settings import ServerSettings

T = TypeVar("T")

_POOL = 8
_DISCONNECT_CHECK_S = 1.0


@dataclass(frozen=True, slots=True)
class Seen:
    """What the model found in one image of ``width`` x ``height`` pixels (upright)."""

    detections: Detections
    width: int
    height: int


class Late(LabelbridgeError):
    """The image was not reached before the request's time was over."""


class Overloaded(LabelbridgeError):
    """The server has all the requests it takes, or its model is not there yet.

    Attributes:
        retry_after: whole seconds after which trying again is worth it.
    """

    def __init__(self, found: str, *, retry_after: int, expected: str = "", todo: str = "") -> None:
        super().__init__(found, expected=expected, todo=todo)
        self.retry_after = retry_after


class Images(Protocol):
    """Where images come from; see :class:`ml_backend.image_source.ImageSource`."""

    def read(self, reference: str) -> bytes:
        """The bytes of an image file. Called from several threads. Raises LabelbridgeError."""


Outcome = Seen | LabelbridgeError


class Runtime:
    """One model and everything that leads to it. Made and used in one event loop.

    Args:
        source: the model, not loaded yet; :meth:`start` begins to load it in the background.
        images: where images come from.
        on_failure: told, in the inference thread, that the model could not be loaded.
    """

    def __init__(
        self,
        source: ModelSource,
        images: Images,
        settings: ServerSettings,
        metrics: Metrics,
        log: Log,
        on_failure: Callable[[LabelbridgeError], None] | None = None,
    ) -> None:
        self.name = source.name
        self._images = images
        self._settings = settings
        self._metrics = metrics
        self._log = log
        self._on_failure = on_failure
        self._pool = ThreadPoolExecutor(_POOL, thread_name_prefix="image")
        self._slots = asyncio.Semaphore(max(2 * settings.max_batch, _POOL))
        self._pixels = Budget(2 * settings.max_image_pixels)
        self._cache: Lru[tuple[str, str], Seen] = Lru(settings.cache_size)
        self._running: dict[str, asyncio.Task[Outcome]] = {}
        self._requests = 0
        self._reading = 0
        self._seconds_per_image = 0.1
        self._inference = InferenceThread(
            source,
            max_batch=settings.max_batch,
            max_wait_s=settings.max_wait_s,
            coming=lambda: self._reading,
            on_batch=self._note_batch,
            on_state=self._note_state,
        )
        metrics.waiting.set_function(lambda: self._inference.waiting)
        metrics.active.set_function(lambda: self._requests)

    def start(self) -> None:
        """Begin to load the model; returns at once."""
        self._inference.start()

    def close(self, timeout: float = 10.0) -> None:
        """Let the batch that is running end, then stop. Blocks for at most ``timeout`` seconds."""
        self._inference.close(timeout)
        self._pool.shutdown(wait=False, cancel_futures=True)

    @property
    def state(self) -> State:
        return self._inference.state

    @property
    def error(self) -> LabelbridgeError | None:
        """Why the model could not be loaded."""
        return self._inference.error

    @property
    def predictor(self) -> Predictor | None:
        """The model once it is loaded."""
        return self._inference.predictor

    async def look(self, references: Sequence[str], gone: Callable[[], Awaitable[bool]]) -> list[Outcome]:
        """Detect objects in the images that the references name.

        Args:
            references: see :meth:`ml_backend.image_source.ImageSource.read`.
            gone: whether whoever asked has hung up; then the rest is not worth the work.

        Returns:
            One outcome per reference, in order: what was seen, or the error that stood in the way of this one image.
            ``Late`` where time was over before.

        Raises:
            Overloaded: too many requests, or time was over before the model was loaded.
            ModelError: the model could not be loaded.
        """
        if self.state is State.FAILED and self.error is not None:
            raise self.error
        if self._requests >= self._settings.max_requests:
            self._metrics.refused.inc()
            raise Overloaded(
                f"{self._requests} requests for predictions are being answered already",
                retry_after=self._clearing_time(),
                expected=f"at most {self._settings.max_requests} at a time",
                todo="Try again later; ask about several tasks in one request",
            )
        self._requests += 1
        try:
            outcomes = await self._look_in_time(references, gone)
        finally:
            self._requests -= 1
        if self.state is State.FAILED and self.error is not None:
            raise self.error
        if self.state is State.LOADING and any(isinstance(o, Late) for o in outcomes):
            raise Overloaded(
                "the model is still being loaded", retry_after=10, todo="Try again later; /readyz says when it is there"
            )
        return outcomes

    async def _look_in_time(self, references: Sequence[str], gone: Callable[[], Awaitable[bool]]) -> list[Outcome]:
        late = Late("there was no time left for this image", todo="Ask again: what is predicted by now is remembered")
        outcomes: list[Outcome] = [late] * len(references)
        rest = iter(enumerate(references))

        async def feed() -> None:
            for i, reference in rest:
                outcomes[i] = await self._outcome(reference)

        # One request never fills the queue, so that a click is answered while a thousand tasks are predicted.
        width = min(len(references), max(self._settings.max_batch, _POOL))
        feeders = [asyncio.ensure_future(feed()) for _ in range(width)]
        try:
            until = time.monotonic() + self._settings.predict_timeout_s
            pending: set[asyncio.Future[None]] = set(feeders)
            while pending and (left := until - time.monotonic()) > 0:
                _, pending = await asyncio.wait(pending, timeout=min(left, _DISCONNECT_CHECK_S))
                if pending and await gone():
                    break
        finally:
            for feeder in feeders:
                feeder.cancel()
            await asyncio.gather(*feeders, return_exceptions=True)
        for outcome in outcomes:
            if isinstance(outcome, Late):
                self._metrics.images.labels("late").inc()
        return outcomes

    async def _outcome(self, reference: str) -> Outcome:
        async with self._slots:
            outcome = await self._see(reference)
        if not isinstance(outcome, Seen):
            self._metrics.images.labels("failed").inc()
        return outcome

    async def _see(self, reference: str) -> Outcome:
        try:
            with self._on_its_way():
                data, digest = await self._in_pool(self._read, reference)
        except LabelbridgeError as error:
            return error
        except Exception as error:
            return self._unexpected(error, "reading an image")
        known = self._cache.get((self.name, digest))
        if known is not None:
            self._metrics.images.labels("cached").inc()
            return known
        task = self._running.get(digest)
        if task is None:
            # Shared by all who ask about the same image, so it outlives the one who asked first.
            task = asyncio.ensure_future(self._predict(data, digest))
            self._running[digest] = task
            task.add_done_callback(lambda _: self._running.pop(digest, None))
        return await asyncio.shield(task)

    async def _predict(self, data: bytes, digest: str) -> Outcome:
        most = self._settings.max_image_pixels
        try:
            width, height = await self._in_pool(size_of, data)
            # decode refuses what is too large; only then is the share smaller than the image.
            async with self._pixels.share(width * height):
                with self._on_its_way():
                    image = await self._in_pool(decode, data, "the image", most)
                detections = await asyncio.wrap_future(self._inference.submit(image))
        except LabelbridgeError as error:
            return error
        except Exception as error:
            return self._unexpected(error, "looking at an image")
        seen = Seen(detections, width, height)
        self._cache.put((self.name, digest), seen)
        self._metrics.images.labels("predicted").inc()
        return seen

    @contextmanager
    def _on_its_way(self) -> Iterator[None]:
        """Tells the inference thread that waiting a moment may fill its batch."""
        self._reading += 1
        try:
            yield
        finally:
            self._reading -= 1

    def _read(self, reference: str) -> tuple[bytes, str]:
        data = self._images.read(reference)
        return data, hashlib.sha256(data).hexdigest()

    async def _in_pool(self, function: Callable[..., T], *args: object) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._pool, function, *args)

    def _unexpected(self, error: Exception, what: str) -> LabelbridgeError:
        self._log.error("unexpected_error", what=what, exc_info=error)
        return PluginError(f"{what} failed: {type(error).__name__}", todo="See the server's log; this is a bug")

    def _clearing_time(self) -> int:
        waiting = self._inference.waiting + self._requests
        return max(1, min(60, math.ceil(waiting * self._seconds_per_image)))

    def _note_batch(self, images: int, seconds: float) -> None:
        self._metrics.batch_images.observe(images)
        self._metrics.batch_seconds.observe(seconds)
        self._seconds_per_image += 0.1 * (seconds / images - self._seconds_per_image)

    def _note_state(self, state: State, error: LabelbridgeError | None) -> None:
        self._metrics.ready.set(state is State.READY)
        if state is State.FAILED and error is not None:
            self._log.error("model_failed", model=self.name, **error.as_dict())
            if self._on_failure:
                self._on_failure(error)
        else:
            self._log.info(f"model_{state}", model=self.name)
