"""Finds what changed in the watched targets by asking the tools; webhooks only say where to ask first.

Everything comes right when every webhook is lost. What was read is kept in one transaction with how far it was read
(:meth:`bridge.store.Store.put_poll`), so a poll that is cut off anywhere is made again, and nothing is noted twice.
"""

from __future__ import annotations

import math
import random
import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from queue import Empty, SimpleQueue

from bridge.errors import LabelbridgeError, ToolUnreachable
from bridge.logs import Log
from bridge.service.rhythm import Rhythm, ServerState
from bridge.store import Hint, Store
from bridge.tools import AnnotationTool, Changes

_HINTS = 500
_TOOLS = {"label-studio": "ls", "cvat": "cvat"}
#: What events of CVAT are about when a reviewer answers beside an issue.
_ANSWERS = ("issue", "comment")


@dataclass(slots=True)
class _Watch:
    """A place that is polled.

    Attributes:
        is_target: it is watched for its own sake.
        reviews: the targets whose findings are reviewed here.
        due: by the monotonic clock; ``interval`` is the pause before it.
        hinted: a webhook came since the last poll began; ``was_hinted``: that poll was made because of one.
        began: when the last poll began.
        is_running: whether it has not ended yet.
    """

    target: str
    server: ServerState
    due: float
    interval: float
    is_target: bool = False
    reviews: set[str] = field(default_factory=set)
    failures: int = 0
    hinted: bool = False
    was_hinted: bool = False
    began: float = -math.inf
    is_running: bool = False

    @property
    def place(self) -> str:
        """The target without its filters, as hints name it."""
        return self.target.partition("?")[0]


class Reconciler:
    """Polls targets, and keeps what it finds in the store.

    Only reading happens in the pool's threads; all else in the thread that calls. One poll of a target runs at a time.

    Args:
        open_tool: the tool of a target. What it opens MUST NOT wait out failures by itself: a request is made once.
        targets: what is watched. Where findings are reviewed is watched as well.
        now: our clock, aware; it may jump, as nothing is scheduled by it.
        monotonic, chance, pool: replaced in tests.
    """

    def __init__(
        self,
        store: Store,
        open_tool: Callable[[str], AnnotationTool],
        targets: Collection[str],
        now: Callable[[], datetime],
        log: Log,
        *,
        rhythm: Rhythm | None = None,
        monotonic: Callable[[], float] = time.monotonic,
        chance: Callable[[], float] = random.random,
        pool: Executor | None = None,
    ) -> None:
        self._store = store
        self._open_tool = open_tool
        self._now = now
        self._log = log
        self._rhythm = rhythm or Rhythm()
        self._monotonic = monotonic
        self._chance = chance
        self._servers: dict[str, ServerState] = {}
        self._watches: dict[str, _Watch] = {}
        self._done: SimpleQueue[tuple[_Watch, Future[Changes]]] = SimpleQueue()
        self._wake = threading.Event()
        for target in targets:
            self._watch(target).is_target = True
            self._watch_reviews(target)
        # A server that is slow holds its own threads only.
        threads = self._rhythm.at_once * max(len(self._servers), 1)
        self._pool = pool or ThreadPoolExecutor(threads, thread_name_prefix="poll")

    def run(self, stop: threading.Event, wake: threading.Event, changed: Callable[[str], None]) -> None:
        """Poll until ``stop`` is set; set ``wake`` too for it to be seen at once.

        Args:
            wake: set by whoever stores hints.
            changed: called with each target in which something new waits.
        """
        self._wake = wake
        while not stop.is_set():
            wake.clear()
            try:
                for target in sorted(self.step()):
                    changed(target)
            except Exception as error:  # nobody would notice that nothing is watched any more
                self._log.error("watch_broke", exc_info=error)
            wake.wait(self.idle_s())
        self._pool.shutdown(wait=False, cancel_futures=True)

    def poll_due(self) -> set[str]:
        """Poll what is due, wait for it, and answer with the targets in which something new waits."""
        changed = self.step()
        while any(watch.is_running for watch in self._watches.values()):
            self._wake.wait(self._rhythm.idle_s)
            self._wake.clear()
            changed |= self._collect()
        return changed

    def step(self) -> set[str]:
        """Keep what polls have read, see to hints, begin the polls that are due. Waits for nothing.

        Returns:
            The targets in which something new waits.
        """
        changed = self._collect() | self._take_hints()
        now = self._monotonic()
        waiting = [w for w in self._watches.values() if not w.is_running and w.due <= now]
        for watch in sorted(waiting, key=lambda w: (not w.hinted, w.due)):
            if watch.server.takes_one_more(now):
                self._begin(watch, now)
        return changed

    def idle_s(self) -> float:
        """Seconds until there may be something to do, were there no webhooks and no running polls."""
        now, longest = self._monotonic(), self._rhythm.idle_s
        waiting = [w for w in self._watches.values() if not w.is_running]
        due = min((max(w.due, w.server.rests_until) for w in waiting), default=now + longest)
        # What is due and does not run yet waits for a thread, and so for a poll that ends.
        return min(max(due - now, 0.0) or longest, longest)

    # --- polls ------------------------------------------------------------------------------------------------------

    def _begin(self, watch: _Watch, now: float) -> None:
        watch.was_hinted, watch.hinted = watch.hinted, False
        try:
            known = self._store.watch(watch.target)
        except LabelbridgeError as error:
            self._put_off(watch, error)
            return
        watch.began, watch.is_running = now, True
        watch.server.running += 1
        future = self._pool.submit(self._read, watch.target, known.cursor if known else None)
        future.add_done_callback(lambda done: self._ended(watch, done))

    def _read(self, target: str, cursor: str | None) -> Changes:
        return self._open_tool(target).read_changes(cursor)

    def _ended(self, watch: _Watch, future: Future[Changes]) -> None:
        self._done.put((watch, future))
        self._wake.set()

    def _collect(self) -> set[str]:
        changed: set[str] = set()
        for watch, future in self._ended_polls():
            watch.is_running = False
            watch.server.running -= 1
            try:
                changed |= self._keep(watch, future.result())
            except Exception as error:  # whatever is wrong with one target, the others go on
                self._put_off(watch, error)
        return changed

    def _ended_polls(self) -> Iterator[tuple[_Watch, Future[Changes]]]:
        while True:
            try:
                yield self._done.get_nowait()
            except Empty:
                return

    def _keep(self, watch: _Watch, changes: Changes) -> set[str]:
        """Keep what a poll read; the targets in which something new waits."""
        watch.server.answered()
        watch.failures = 0
        pause = self._pause(watch, changes)
        at, changed = self._now(), set[str]()
        if any(change.kind == "work" for change in changes.items):
            # Before the cursor moves on: cut off in between, they are noted again.
            for target in sorted(watch.reviews):
                self._store.note_answers(target, at.isoformat())
            changed |= watch.reviews
        items = changes.items if watch.is_target else ()
        next_at = at + timedelta(seconds=pause)
        self._store.put_poll(watch.target, items, changes.cursor, at.isoformat(), next_at.isoformat())
        watch.due = self._monotonic() + pause
        if watch.is_target:
            self._watch_reviews(watch.target)
            changed |= {watch.target} if items else set()
        return changed

    def _pause(self, watch: _Watch, changes: Changes) -> float:
        """Seconds until the next poll of a target that was read."""
        rhythm = self._rhythm
        took = self._monotonic() - watch.began
        if changes.more:
            return 0.0
        if changes.items or watch.was_hinted:
            # A webhook may come before what it tells can be read, so once more soon.
            watch.interval = rhythm.busy_s
        else:
            watch.interval = min(watch.interval * 2, rhythm.quiet_s)
        if watch.hinted:
            return max(rhythm.hinted_s - took, 0.0)
        return max(watch.interval * (0.9 + 0.2 * self._chance()), took / rhythm.share - took)

    def _put_off(self, watch: _Watch, error: Exception) -> None:
        """A poll failed: try again later, and ask the server less where it may be the server's fault."""
        watch.failures += 1
        watch.interval = self._rhythm.busy_s
        pause = self._rhythm.after_failures(watch.failures, self._chance())
        now = self._monotonic()
        if isinstance(error, ToolUnreachable):
            watch.server.failed(error, now)
            pause = max(pause, min(error.retry_after_s or 0.0, self._rhythm.obey_s))
        elif not isinstance(error, LabelbridgeError):
            self._log.error("poll_broke", target=watch.target, exc_info=error)
        watch.due = now + pause
        self._log.warning("poll_failed", target=watch.target, error=str(error), failures=watch.failures, retry_s=pause)
        at = self._now()
        try:
            next_at = at + timedelta(seconds=pause)
            self._store.put_failed_poll(watch.target, str(error), at.isoformat(), next_at.isoformat())
        except LabelbridgeError as store_error:
            self._log.error("store_failed", error=str(store_error))

    # --- what is watched --------------------------------------------------------------------------------------------

    def _watch(self, target: str) -> _Watch:
        """The watch of a target, made where there is none: due at once, as webhooks may have been lost before."""
        if target not in self._watches:
            kind = target.partition(":")[0]
            server = self._servers.setdefault(kind, ServerState(self._rhythm, self._chance))
            self._watches[target] = _Watch(target, server, self._monotonic(), self._rhythm.busy_s)
        return self._watches[target]

    def _watch_reviews(self, target: str) -> None:
        """Watch the projects in which the findings of a target are reviewed; issues lie in the target itself."""
        kind = target.partition(":")[0]
        for review in self._store.reviews_of(target):
            if review.ref.isdecimal():
                self._watch(f"{kind}:project/{review.ref}").reviews.add(target)

    # --- hints ------------------------------------------------------------------------------------------------------

    def _take_hints(self) -> set[str]:
        changed: set[str] = set()
        try:
            while found := self._store.waiting_hints(_HINTS):
                changed |= self._follow(one.hint for one in found)
                self._store.take_hints([one.seq for one in found], self._now().isoformat())
        except LabelbridgeError as error:
            self._log.error("store_failed", error=str(error))
        return changed

    def _follow(self, hints: Iterable[Hint]) -> set[str]:
        """Make due what hints name; the targets whose reviewers may have answered in the target itself."""
        places: set[str] = set()
        answered: set[str] = set()
        for hint in hints:
            here = hint.places or tuple(w.place for w in self._of_tool(hint.tool))
            places.update(here)
            if hint.event.endswith(_ANSWERS):
                answered.update(here)
        now, changed = self._monotonic(), set[str]()
        for watch in list(self._watches.values()):
            if watch.place in places:
                watch.hinted = True
                if not watch.failures:
                    watch.due = min(watch.due, max(now, watch.began + self._rhythm.hinted_s))
            if watch.is_target and watch.place in answered and self._store.reviews_of(watch.target):
                self._store.note_answers(watch.target, self._now().isoformat())
                changed.add(watch.target)
        return changed

    def _of_tool(self, tool: str) -> list[_Watch]:
        prefix = f"{_TOOLS.get(tool, tool)}:"
        return [watch for watch in self._watches.values() if watch.target.startswith(prefix)]
