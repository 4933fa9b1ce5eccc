"""Takes each target through the journeys that are due in it, several targets at a time."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta

from bridge.core.policy import Journey, Policy, due, next_due
from bridge.errors import Busy, LabelbridgeError, StoreError
from bridge.logs import Log
from bridge.store import Store
from bridge.store.rows import Turn

_FIRST_RETRY = timedelta(seconds=30)
_LAST_RETRY = timedelta(minutes=5)
#: When to look again though nothing is known to become due: other processes share the database.
_LONGEST_SLEEP = timedelta(seconds=30)
#: When to look again after something was in the way: a command at work on the target, a full disk.
_SHORT_SLEEP = timedelta(seconds=5)
#: A target's pause after a turn, so that one in which something is always due leaves the machine to others.
_REST = timedelta(seconds=1)


class Dispatcher:
    """Decides nothing itself: what is due is :func:`bridge.core.policy.due`, over what the store says is waiting.

    Args:
        policies: by target.
        run: takes a journey through a target and says what came of it; the target is held meanwhile.
        cut_off: which journeys through a target an earlier process began and did not end; they come first, so that a
            service that is restarted again and again gets through all of them.
        now: the time, aware.
        workers: targets at a time.
    """

    def __init__(
        self,
        store: Store,
        policies: Mapping[str, Policy],
        run: Callable[[Journey, str], str],
        cut_off: Callable[[str], Collection[str]],
        *,
        now: Callable[[], datetime],
        log: Log,
        workers: int,
    ) -> None:
        self._store = store
        self._policies = policies
        self._run = run
        self._cut_off = cut_off
        self._now = now
        self._log = log
        self._workers = workers
        self._began = now()
        self._busy: set[str] = set()
        self._later: dict[str, datetime] = {}
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._wake = threading.Event()

    def wake(self) -> None:
        """Something may have become due."""
        self._wake.set()

    def stop(self) -> None:
        """Begin no further journey; :meth:`serve` returns when those under way have ended."""
        self._stop.set()
        self._wake.set()

    def serve(self) -> None:
        """Until :meth:`stop`."""
        with ThreadPoolExecutor(self._workers, thread_name_prefix="journey") as pool:
            while not self._stop.is_set():
                self._wake.clear()
                sleep = _SHORT_SLEEP
                try:
                    sleep = self._begin(pool)
                except StoreError as error:
                    self._log.error("store_failed", **error.as_dict())
                except Exception as error:  # nobody would notice that nothing is begun any more
                    self._log.error("dispatch_broke", exc_info=error)
                self._wake.wait(sleep.total_seconds())

    def _begin(self, pool: ThreadPoolExecutor) -> timedelta:
        """Begin a turn of each target in which something is due. Returns when to look again."""
        now, wanted = self._now(), [_LONGEST_SLEEP]
        for target in self._policies:
            with self._lock:
                later = self._later.get(target, now)
                if target in self._busy or later > now:
                    wanted.append(max(later - now, timedelta()) or _LONGEST_SLEEP)
                    continue
            journeys, again = self._due(target)
            if journeys:
                with self._lock:
                    self._busy.add(target)
                pool.submit(self._turn, target)
            elif again is not None:
                wanted.append(again - now)
        return max(min(wanted), timedelta(seconds=0.1))

    def _due(self, target: str) -> tuple[tuple[Journey, ...], datetime | None]:
        """The journeys that may begin now, and when to look again if none may."""
        now, policy = self._now(), self._policies[target]
        waiting = self._store.waiting(target)
        blocked = {t.journey: datetime.fromisoformat(t.retry_at) for t in self._mine(target) if t.retry_at}
        wanted = due(policy, waiting, now)
        ready = tuple(j for j in wanted if blocked.get(j, now) <= now)
        moments = [blocked[j] for j in wanted if blocked.get(j, now) > now]
        return ready, min([*moments, *filter(None, [next_due(policy, waiting, now)])], default=None)

    def _mine(self, target: str) -> list[Turn]:
        """How journeys ended in this process. What failed under an earlier one is tried at once, as if for the first
        time: somebody may have started this one to see it mended."""
        return [turn for turn in self._store.turns(target) if turn.ended_at >= self._began.isoformat()]

    def _turn(self, target: str) -> None:
        """One journey after the other, each at most once, so that none can keep the others out."""
        done: set[Journey] = set()
        pause = _REST
        try:
            with self._store.exclusive(target):
                first = self._cut_off(target)
                while not self._stop.is_set():
                    left = [j for j in self._due(target)[0] if j not in done]
                    journey = min(left, key=lambda j: j not in first, default=None)
                    if journey is None:
                        return
                    done.add(journey)
                    self._go(journey, target)
        except Busy:
            pause = _SHORT_SLEEP
        except StoreError as error:
            self._log.error("store_failed", target=target, **error.as_dict())
            pause = _SHORT_SLEEP
        except Exception as error:  # which the pool would keep to itself
            self._log.error("turn_broke", target=target, exc_info=error)
            pause = _SHORT_SLEEP
        finally:
            with self._lock:
                self._later[target] = self._now() + pause
                self._busy.discard(target)
            self._wake.set()

    def _go(self, journey: Journey, target: str) -> None:
        began = self._now()
        try:
            outcome = self._run(journey, target)
        except Exception as error:
            self._failed(journey, target, error)
        else:
            ended = self._now()
            self._store.put_turn(Turn(target, journey, ended.isoformat(), outcome))
            seconds = round((ended - began).total_seconds(), 1)
            self._log.info("journey", journey=journey, target=target, outcome=outcome, seconds=seconds)

    def _failed(self, journey: Journey, target: str, error: Exception) -> None:
        failures = 1 + next((t.failures for t in self._mine(target) if t.journey == journey), 0)
        now = self._now()
        retry = now + min(_FIRST_RETRY * 2 ** min(failures - 1, 20), _LAST_RETRY)
        known = isinstance(error, LabelbridgeError)
        outcome = str(error) if known else f"unexpected {type(error).__name__}"
        self._log.error(
            "journey_failed",
            journey=journey,
            target=target,
            error=outcome,
            retry_at=retry.isoformat(),
            exc_info=None if known else error,
        )
        self._store.put_turn(Turn(target, journey, now.isoformat(), outcome, failures, retry.isoformat()))
