"""The places that webhooks are wanted of."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager

from bridge.logs import Log
from bridge.store import Store

_LOOK_EVERY_S = 10.0


@contextmanager
def watched(
    targets: Collection[str], store: Store, log: Log, *, every_s: float = _LOOK_EVERY_S
) -> Iterator[Callable[[], Collection[str]]]:
    """What answers at once with the targets and the projects in which their findings are reviewed.

    It is asked for each webhook, in the event loop that answers all of them, so that the database is asked in a thread
    of its own. While the database does not answer, what was known last holds.

    Args:
        every_s: seconds until a review that was just opened is among them.

    Raises:
        StoreError: the database cannot be read as the block begins.
    """
    known = _look_up(targets, store)
    stop = threading.Event()

    def keep_looking() -> None:
        nonlocal known
        while not stop.wait(every_s):
            try:
                known = _look_up(targets, store)
            except Exception as error:  # nobody would notice that it is never looked up again
                log.error("store_failed", error=str(error))

    thread = threading.Thread(target=keep_looking, name="watched")
    thread.start()
    try:
        yield lambda: known
    finally:
        stop.set()
        thread.join()


def _look_up(targets: Collection[str], store: Store) -> frozenset[str]:
    reviews = (place.ref for target in targets for place in store.reviews_of(target))
    # Where a review is a project of its own, the reference is its number.
    return frozenset(targets) | {f"ls:project/{ref}" for ref in reviews if ref.isdecimal()}
