"""Projects in memory, their people, and a clock that only the world moves: hours of the reconciler in seconds.

A poll happens in no time, but ends as much later as its requests would have taken. So thousands of polls a second are
possible, in one thread, and each run of the same world is the same.
"""

from __future__ import annotations

import heapq
import io
import itertools
import random
from collections import Counter
from collections.abc import Callable, Collection
from concurrent.futures import Executor, Future
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from fakes.task_listing import NOON, Tasks

from bridge.core.changes import Change
from bridge.errors import LabelbridgeError, ToolError, ToolUnreachable
from bridge.logs import json_logger
from bridge.pace import Pace
from bridge.service.reconciler import Reconciler
from bridge.service.rhythm import Rhythm
from bridge.store import Hint, Store
from bridge.tools import AnnotationTool, Changes
from bridge.tools.change_log import ChangeLog, Listed


@dataclass
class Project:
    """A project that people work in.

    Attributes:
        trouble: what its requests fail with; None: they do not.
        takes_s: what a request takes.
    """

    target: str
    tasks: Tasks = field(default_factory=Tasks)
    trouble: LabelbridgeError | None = None
    takes_s: float = 0.2


@dataclass
class Noticed:
    """What became of the changes.

    Attributes:
        pending: when each item changed that was not noticed since, by target and item.
        changes, notes: how often each changed, and was noted after it had been struck off.
        latencies: seconds from a change to its notice, with the target.
    """

    pending: dict[tuple[str, str], float] = field(default_factory=dict)
    changes: Counter[tuple[str, str]] = field(default_factory=Counter)
    notes: Counter[tuple[str, str]] = field(default_factory=Counter)
    latencies: list[tuple[str, float]] = field(default_factory=list)


class World(Executor):
    """The world, and the executor that the reconciler reads it with.

    Attributes:
        seconds: the time. Our clock is off by ``clock_is_off`` seconds, the tools' by ``tool_is_off``.
        server_trouble: what every request fails with.
        requests: the moments of all requests.
    """

    def __init__(self, store: Store, targets: Collection[str], seed: int = 0, tasks: int = 50) -> None:
        self.store = store
        self.seconds = 0.0
        self.clock_is_off = 0.0
        self.tool_is_off = 0.0
        self.server_trouble: LabelbridgeError | None = None
        self.random = random.Random(seed)
        self.noticed = Noticed()
        self.requests: list[tuple[float, str]] = []
        self.projects = {target: Project(target) for target in targets}
        for project in self.projects.values():
            project.tasks.add(tasks)
        self.log = io.StringIO()
        self._cost = 0.0
        self._order = itertools.count()
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._pace = Pace(5.0, 10, sleep=self._spend, clock=lambda: self.seconds + self._cost)
        self.start()

    # --- the service ------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Start the service anew, as after a crash: what it was reading is lost."""
        self._generation = object()
        self.reconciler = Reconciler(
            self.store,
            self._open,
            list(self.projects),
            self.now,
            json_logger(self.log, level=50),
            rhythm=Rhythm(idle_s=60.0),
            monotonic=lambda: self.seconds,
            chance=self.random.random,
            pool=self,
        )

    def now(self) -> datetime:
        return NOON + timedelta(seconds=self.seconds + self.clock_is_off)

    def step(self) -> None:
        """What the service does at this moment; what it found is dealt with at once."""
        for target in self.reconciler.step():
            self.deal_with(target)

    def deal_with(self, target: str) -> None:
        for kind in ("new", "work"):
            found = self.store.changes(target, kind)  # type: ignore[arg-type]
            self.store.strike(target, kind, {c.item_id: c.last_at for c in found})  # type: ignore[arg-type]
            for change in found if kind == "work" else ():
                key = (target, change.item_id)
                self.noticed.notes[key] += 1
                changed = self.noticed.pending.pop(key, None)
                if changed is not None:
                    self.noticed.latencies.append((target, self.seconds - changed))

    # --- time -------------------------------------------------------------------------------------------------------

    def at(self, seconds: float, deed: Callable[[], None]) -> None:
        heapq.heappush(self._events, (seconds, next(self._order), deed))

    def run(self, until: float) -> None:
        """Let the time pass."""
        while self.seconds < until:
            self.step()
            coming = self._events[0][0] if self._events else until
            self.seconds = min(max(coming, self.seconds), self.seconds + max(self.reconciler.idle_s(), 0.001), until)
            while self._events and self._events[0][0] <= self.seconds:
                heapq.heappop(self._events)[2]()
        self.step()

    # --- people -----------------------------------------------------------------------------------------------------

    def change(self, target: str, number: int, *, webhook: bool = False, skew: float = 0.0) -> None:
        tasks = self._tasks(target)
        tasks.change(number, skew)
        self._note(target, number)
        if webhook:
            self.hint(target)

    def add(self, target: str) -> None:
        self._tasks(target).add()

    def delete(self, target: str, number: int) -> None:
        del self._tasks(target).entries[number]
        self._note(target, number)

    def hint(self, *places: str) -> None:
        number = next(self._order)
        at = self.now().isoformat()
        self.store.put_hints([Hint("label-studio", places, "ANNOTATION_UPDATED", None, f"{number:064x}", at)])

    def _note(self, target: str, number: int) -> None:
        self.noticed.pending.setdefault((target, str(number)), self.seconds)
        self.noticed.changes[target, str(number)] += 1

    def _tasks(self, target: str) -> Tasks:
        tasks = self.projects[target].tasks
        tasks.seconds = self.seconds + self.tool_is_off
        return tasks

    # --- tools ------------------------------------------------------------------------------------------------------

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Run it now; it ends when its requests would have been answered."""
        self._cost = 0.0
        done: Future[Any] = Future()
        generation = self._generation
        try:
            result = fn(*args, **kwargs)
            end = lambda: done.set_result(result)  # noqa: E731
        except Exception as error:
            failure = error
            end = lambda: done.set_exception(failure)  # noqa: E731
        self.at(self.seconds + self._cost, lambda: end() if generation is self._generation else None)
        return done

    def _open(self, target: str) -> AnnotationTool:
        return _Tool(self, target)  # type: ignore[return-value]  (only its changes are read)

    def ask(self, target: str) -> Tasks:
        """One request."""
        self._pace.wait()
        self.requests.append((self.seconds + self._cost, target))
        project = self.projects[target]
        self._spend(project.takes_s)
        trouble = self.server_trouble or project.trouble
        if trouble is not None:
            raise trouble
        return self._tasks(target)

    def _spend(self, seconds: float) -> None:
        self._cost += seconds


@dataclass
class _Tool:
    world: World
    target: str

    def read_changes(self, cursor: str | None) -> Changes:
        """As Label Studio's."""
        log = ChangeLog.read(cursor)
        items = []
        for news in log.follow(self):
            if news.what in ("new", "replaced"):
                items.append(Change(str(news.id), "new", news.moment))
            if news.what != "new" or (news.entry and news.entry.touched):
                items.append(Change(str(news.id), "work", news.moment))
        return Changes(tuple(items), log.text, log.more)

    def newest(self, limit: int) -> Listed:
        return self.world.ask(self.target).newest(limit)

    def changed_since(self, moment: str, after: int, limit: int) -> Listed:
        return self.world.ask(self.target).changed_since(moment, after, limit)

    def between(self, first: int, last: int, limit: int) -> Listed:
        return self.world.ask(self.target).between(first, last, limit)


def down() -> ToolUnreachable:
    return ToolUnreachable("nothing answers")


def busy(retry_after_s: float) -> ToolUnreachable:
    error = ToolUnreachable("too many requests")
    error.retry_after_s = retry_after_s
    return error


def broken() -> ToolError:
    return ToolError("Label Studio answered 500")
