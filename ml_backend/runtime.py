"""From image references to detections and masks: reading, decoding, caching, inference, for many requests at a time.

The event loop only keeps the books. Reading and decoding happen in a pool of threads, inference in threads of each
model. Three things bound what a server takes on: the number of requests (further ones are refused with
:class:`Overloaded`), the number of images one request has under way, and the pixels that are decoded at a time. What is
remembered has a budget of bytes.

Answers are remembered by the content of the image, and for a minute the content by its reference: between the clicks
of one annotator the image is not read again.
"""

from __future__ import annotations

import asyncio
import hashlib
import math
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from bridge.errors import LabelbridgeError, PluginError
from bridge.images import decode, size_of
from bridge.logs import Log
from ml_backend.budget import Budget
from ml_backend.entry import ModelEntry
from ml_backend.fleet import Fleet
from ml_backend.flights import Flights
from ml_backend.image_source import ImageRef
from ml_backend.inference import InferenceThread, State
from ml_backend.lru import Lru
from ml_backend.metrics import Metrics
from ml_backend.models import Detections, Prompt, Segment
from ml_backend.server_settings import ServerSettings

T = TypeVar("T")

_POOL = 8
_DISCONNECT_CHECK_S = 1.0
#: Seconds for which a reference stands for the content that was read from it.
_SAME_CONTENT_S = 60.0
_REFERENCES = 16_384
#: Images that are looked at in advance, at a time.
_AHEAD = 2


@dataclass(frozen=True, slots=True, eq=False)
class Seen:
    """What the model found in one image of ``width`` x ``height`` pixels (upright).

    ``notes`` is for dialects: what they have made of it for one project, so that they need not make it again.
    """

    detections: Detections
    width: int
    height: int
    notes: dict[Any, Any] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, slots=True)
class Segmented:
    """What an interactive model answered about one image of ``width`` x ``height`` pixels (upright): one entry per
    prompt, None where it found nothing."""

    segments: Sequence[Segment | None]
    width: int
    height: int


@dataclass(frozen=True, slots=True)
class _Prepared:
    """An image as an interactive model keeps it."""

    data: Any
    width: int
    height: int

    @property
    def nbytes(self) -> int:
        return int(self.data.nbytes)


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

    def read(self, reference: ImageRef) -> bytes:
        """The bytes of an image file. Called from several threads. Raises LabelbridgeError."""


Outcome = Seen | LabelbridgeError


Gone = Callable[[], Awaitable[bool]]
Prompts = Sequence[Prompt] | Callable[[int, int], Sequence[Prompt]]


class Runtime:
    """The models and everything that leads to them. Made and used in one event loop.

    Args:
        entries: what is served, not loaded yet; :meth:`start` begins to load the first detector and the first
            interactive model, the others are loaded when they are first asked for.
        images: where images come from.
        on_failure: told, in some thread, that a model of :meth:`start` could not be loaded.
    """

    def __init__(
        self,
        entries: Sequence[ModelEntry],
        images: Images,
        settings: ServerSettings,
        metrics: Metrics,
        log: Log,
        on_failure: Callable[[LabelbridgeError], None] | None = None,
    ) -> None:
        self._images = images
        self._settings = settings
        self._metrics = metrics
        self._log = log
        self._pool = ThreadPoolExecutor(_POOL, thread_name_prefix="image")
        self._slots = asyncio.Semaphore(max(2 * settings.max_batch, _POOL))
        self._pixels = Budget(2 * settings.max_image_pixels)
        self._digests: Lru[ImageRef, tuple[str, float]] = Lru(_REFERENCES)
        self._seen: Lru[tuple[str, str], Seen] = Lru(settings.detection_cache_bytes, _bytes_of_seen)
        self._embedded: Lru[tuple[str, str], _Prepared] = Lru(settings.embedding_cache_bytes, lambda p: p.nbytes)
        self._predicting: Flights[tuple[str, str], Outcome] = Flights()
        self._preparing: Flights[tuple[str, str], _Prepared] = Flights()
        self._ahead: set[asyncio.Task[None]] = set()
        self._requests = 0
        self._reading = 0
        self._seconds_per_image = 0.1
        self._fleet = Fleet(
            entries,
            new_detector=self._new_detector,
            max_bytes=settings.max_model_bytes,
            metrics=metrics,
            log=log,
            on_failure=on_failure,
        )
        self.entries = self._fleet.entries
        self.detector = next((e for e in entries if not e.interactive), None)
        self.interactor = next((e for e in entries if e.interactive), None)
        self._cached = metrics.images.labels("cached")
        metrics.waiting.set_function(lambda: self._fleet.waiting)
        metrics.active.set_function(lambda: self._requests)
        metrics.embedding_bytes.set_function(lambda: self._embedded.used)

    def start(self) -> None:
        """Begin to load the default models; returns at once."""
        self._fleet.start([entry.id for entry in (self.detector, self.interactor) if entry is not None])

    def close(self, timeout: float = 10.0) -> None:
        """Let what is running end, then stop. Blocks for at most ``timeout`` seconds."""
        self._fleet.close(timeout)
        self._pool.shutdown(wait=False, cancel_futures=True)

    @property
    def state(self) -> State:
        """Whether the default models are there."""
        return self._fleet.state

    def state_of(self, model: str) -> State:
        return self._fleet.state_of(model)

    def entry(self, model: str) -> ModelEntry:
        """What is known of a model. Raises NotFound."""
        return self._fleet.entry(model)

    async def look(self, model: str, references: Sequence[ImageRef], gone: Gone) -> list[Outcome]:
        """Detect objects in the images that the references name.

        Args:
            model: the id of a model that finds objects on its own.
            references: see :meth:`ml_backend.image_source.ImageSource.read`.
            gone: whether whoever asked has hung up; then the rest is not worth the work.

        Returns:
            One outcome per reference, in order: what was seen, or the error that stood in the way of this one image.
            ``Late`` where time was over before.

        Raises:
            NotFound: there is no such model.
            Overloaded: too many requests, or time was over before the model was loaded.
            ModelError: the model could not be loaded.
        """
        entry = self._fleet.entry(model)
        known = self._known(entry, references)
        if known is not None:
            self._cached.inc(len(known))
            return known
        engine = self._fleet.detector(model)
        if engine.state is State.FAILED and engine.error is not None:
            raise engine.error
        with self._admitted():
            outcomes = await self._look_in_time(entry, references, gone)
        if engine.state is State.FAILED and engine.error is not None:
            raise engine.error
        if engine.state is State.LOADING and any(isinstance(o, Late) for o in outcomes):
            raise _loading()
        return outcomes

    async def segment(self, model: str, reference: ImageRef, prompts: Prompts, gone: Gone) -> Segmented:
        """Answer prompts about one image.

        Args:
            model: the id of an interactive model.
            reference: see :meth:`ml_backend.image_source.ImageSource.read`.
            prompts: the prompts, or a function that gives them for the image's width and height in pixels.
            gone: whether whoever asked has hung up.

        Raises:
            NotFound: there is no such interactive model.
            ImageError, ToolError: the image cannot be had.
            Overloaded: too many requests, or the model is still being loaded when time is over.
            Late: time was over before.
            ModelError: the model cannot be loaded or run.
        """
        entry = self._fleet.entry(model)
        engine = self._fleet.interactor(model)
        with self._admitted():
            found = await self._in_time(self._segment(entry, reference, prompts), gone)
        if found is not None:
            return found
        if engine.state is State.LOADING:
            raise _loading()
        raise Late("there was no time left for this image", todo="Ask again: it is being looked at meanwhile")

    def prefetch(self, model: str, reference: ImageRef) -> None:
        """Look at an image in advance, where there is nothing better to do; returns at once, and never fails."""
        if len(self._ahead) >= _AHEAD:
            return

        async def look() -> None:
            try:
                await self._prepared(self._fleet.entry(model), reference)
            except LabelbridgeError:
                return  # whoever asks for it will be told

        task = asyncio.ensure_future(look())
        self._ahead.add(task)
        task.add_done_callback(self._ahead.discard)

    def _known(self, entry: ModelEntry, references: Sequence[ImageRef]) -> list[Outcome] | None:
        """The remembered answers, where there is one for every reference."""
        now, name = time.monotonic(), entry.card.name
        found: list[Outcome] = []
        for reference in references:
            # Text that is the image itself takes longer to hash than to answer anew.
            digest = None if reference.inline else self._digests.get(reference)
            if digest is None or digest[1] < now:
                return None
            seen = self._seen.get((name, digest[0]))
            if seen is None:
                return None
            found.append(seen)
        return found

    @contextmanager
    def _admitted(self) -> Iterator[None]:
        if self._requests >= self._settings.max_requests:
            self._metrics.refused.inc()
            raise Overloaded(
                f"{self._requests} requests are being answered already",
                retry_after=self._clearing_time(),
                expected=f"at most {self._settings.max_requests} at a time",
                todo="Try again later; ask about several tasks in one request",
            )
        self._requests += 1
        try:
            yield
        finally:
            self._requests -= 1

    async def _look_in_time(self, entry: ModelEntry, references: Sequence[ImageRef], gone: Gone) -> list[Outcome]:
        late = Late("there was no time left for this image", todo="Ask again: what is predicted by now is remembered")
        outcomes: list[Outcome] = [late] * len(references)
        rest = iter(enumerate(references))

        async def feed() -> None:
            for i, reference in rest:
                outcomes[i] = await self._outcome(entry, reference)

        # One request never fills the queue, so that a click is answered while a thousand tasks are predicted.
        width = min(len(references), max(self._settings.max_batch, _POOL))
        await self._in_time(_all([feed() for _ in range(width)]), gone)
        for outcome in outcomes:
            if isinstance(outcome, Late):
                self._metrics.images.labels("late").inc()
        return outcomes

    async def _in_time(self, work: Coroutine[Any, Any, T], gone: Gone) -> T | None:
        """The result of ``work``; None where time was over, or whoever asked is gone: then the work is given up."""
        task = asyncio.ensure_future(work)
        try:
            until = time.monotonic() + self._settings.predict_timeout_s
            while not task.done() and (left := until - time.monotonic()) > 0:
                await asyncio.wait([task], timeout=min(left, _DISCONNECT_CHECK_S))
                if not task.done() and await gone():
                    break
            return task.result() if task.done() else None
        finally:
            if not task.done():
                task.cancel()
                await asyncio.wait([task])

    async def _outcome(self, entry: ModelEntry, reference: ImageRef) -> Outcome:
        async with self._slots:
            outcome = await self._see(entry, reference)
        if not isinstance(outcome, Seen):
            self._metrics.images.labels("failed").inc()
        return outcome

    async def _see(self, entry: ModelEntry, reference: ImageRef) -> Outcome:
        try:
            digest, data = await self._content(reference)
        except LabelbridgeError as error:
            return error
        key = (entry.card.name, digest)
        known = self._seen.get(key)
        if known is not None:
            self._cached.inc()
            return known
        return await self._predicting.join(key, lambda: self._predict(entry, key, reference, data))

    async def _content(self, reference: ImageRef) -> tuple[str, bytes | None]:
        """The SHA-256 of the image's bytes, and these where they had to be read."""
        known = None if reference.inline else self._digests.get(reference)
        if known is not None and known[1] >= time.monotonic():
            return known[0], None
        try:
            with self._on_its_way():
                data, digest = await self._in_pool(self._read, reference)
        except LabelbridgeError:
            raise
        except Exception as error:
            raise self._unexpected(error, "reading an image") from error
        if not reference.inline:
            self._digests.put(reference, (digest, time.monotonic() + _SAME_CONTENT_S))
        return digest, data

    async def _predict(
        self, entry: ModelEntry, key: tuple[str, str], reference: ImageRef, data: bytes | None
    ) -> Outcome:
        try:
            async with self._decoded(reference, data) as image:
                detections = await asyncio.wrap_future(self._fleet.detector(entry.id).submit(image))
        except LabelbridgeError as error:
            return error
        except Exception as error:
            return self._unexpected(error, "looking at an image")
        seen = Seen(detections, image.shape[1], image.shape[0])
        self._seen.put(key, seen)
        self._metrics.images.labels("predicted").inc()
        return seen

    async def _segment(self, entry: ModelEntry, reference: ImageRef, prompts: Prompts) -> Segmented:
        prepared = await self._prepared(entry, reference)
        if callable(prompts):
            prompts = prompts(prepared.width, prepared.height)
        began = time.perf_counter()
        segments = await asyncio.wrap_future(self._fleet.interactor(entry.id).prompt(prepared.data, prompts))
        self._metrics.prompt_seconds.labels(entry.id).observe(time.perf_counter() - began)
        return Segmented(segments, prepared.width, prepared.height)

    async def _prepared(self, entry: ModelEntry, reference: ImageRef) -> _Prepared:
        digest, data = await self._content(reference)
        key = (entry.card.name, digest)
        known = self._embedded.get(key)
        if known is not None:
            self._metrics.embeddings.labels("cached").inc()
            return known
        return await self._preparing.join(key, lambda: self._prepare(entry, key, reference, data))

    async def _prepare(
        self, entry: ModelEntry, key: tuple[str, str], reference: ImageRef, data: bytes | None
    ) -> _Prepared:
        try:
            async with self._decoded(reference, data) as image:
                made = await asyncio.wrap_future(self._fleet.interactor(entry.id).preprocess(image))
        except LabelbridgeError:
            raise
        except Exception as error:
            raise self._unexpected(error, "looking at an image") from error
        prepared = _Prepared(made, image.shape[1], image.shape[0])
        self._embedded.put(key, prepared)
        self._metrics.embeddings.labels("computed").inc()
        return prepared

    @asynccontextmanager
    async def _decoded(self, reference: ImageRef, data: bytes | None) -> AsyncIterator[npt.NDArray[np.uint8]]:
        """The image, and its share of the pixels that may be in memory at a time."""
        with self._on_its_way():
            if data is None:
                data, _ = await self._in_pool(self._read, reference)
            width, height = await self._in_pool(size_of, data)
        # decode refuses what is too large; only then is the share smaller than the image.
        async with self._pixels.share(width * height):
            with self._on_its_way():
                image = await self._in_pool(decode, data, "the image", self._settings.max_image_pixels)
            yield image

    @contextmanager
    def _on_its_way(self) -> Iterator[None]:
        """Tells the inference threads that waiting a moment may fill a batch."""
        self._reading += 1
        try:
            yield
        finally:
            self._reading -= 1

    def _read(self, reference: ImageRef) -> tuple[bytes, str]:
        data = self._images.read(reference)
        return data, hashlib.sha256(data).hexdigest()

    async def _in_pool(self, function: Callable[..., T], *args: object) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._pool, function, *args)

    def _unexpected(self, error: Exception, what: str) -> LabelbridgeError:
        self._log.error("unexpected_error", what=what, exc_info=error)
        return PluginError(f"{what} failed: {type(error).__name__}", todo="See the server's log; this is a bug")

    def _clearing_time(self) -> int:
        waiting = self._fleet.waiting + self._requests
        return max(1, min(60, math.ceil(waiting * self._seconds_per_image)))

    def _new_detector(
        self, entry: ModelEntry, on_state: Callable[[State, LabelbridgeError | None], None]
    ) -> InferenceThread:
        images, seconds = self._metrics.batch_images.labels(entry.id), self._metrics.batch_seconds.labels(entry.id)

        def on_batch(number: int, spent: float) -> None:
            images.observe(number)
            seconds.observe(spent)
            self._seconds_per_image += 0.1 * (spent / number - self._seconds_per_image)

        return InferenceThread(
            entry.source,
            max_batch=self._settings.max_batch,
            max_wait_s=self._settings.max_wait_s,
            coming=lambda: self._reading,
            on_batch=on_batch,
            on_state=on_state,
        )


def _loading() -> Overloaded:
    return Overloaded(
        "the model is still being loaded", retry_after=10, todo="Try again later; /readyz says when it is there"
    )


def _bytes_of_seen(seen: Seen) -> int:
    # What Python itself takes for such an object, and the answer that is made of it, is more than the arrays.
    return seen.detections.nbytes + 512 + 512 * len(seen.detections.label)


async def _all(work: Sequence[Coroutine[Any, Any, None]]) -> None:
    await asyncio.gather(*work)
