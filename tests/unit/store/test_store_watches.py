"""What is watched, what changed there, and what was struck off."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from bridge.core.changes import Change
from bridge.core.policy import Waiting
from bridge.store import Store

TARGET = "ls:project/7"


def at(second: float) -> str:
    return datetime(2026, 11, 20, 12, 0, int(second), int(second % 1 * 1e6), tzinfo=UTC).isoformat()


def work(*items: str, moment: str = "2026-11-20T11:59:00Z") -> list[Change]:
    return [Change(item, "work", moment) for item in items]


def seen(store: Store, kind: str = "work") -> dict[str, str]:
    return {c.item_id: c.last_at for c in store.changes(TARGET, kind)}  # type: ignore[arg-type]


def test_nothing_is_known_at_first(store: Store) -> None:
    assert store.watch(TARGET) is None
    assert store.waiting(TARGET) == Waiting()


def test_a_poll_keeps_its_cursor_and_its_changes(store: Store) -> None:
    store.put_poll(TARGET, [*work("1", "2"), Change("3", "new", "2026-11-20T11:58:00Z")], "c1", at(1), at(31))
    store.put_poll(TARGET, work("2"), "c2", at(5), at(35))
    watch = store.watch(TARGET)
    assert watch is not None
    assert (watch.cursor, watch.failures, watch.error) == ("c2", 0, "")
    assert watch.next_poll_at is not None
    assert datetime.fromisoformat(watch.next_poll_at) == datetime.fromisoformat(at(35))
    waiting = store.waiting(TARGET)
    assert waiting.new_items == 1
    moments = [datetime.fromisoformat(at(s)) for s in (1, 5)]
    assert sorted(waiting.changed) == [(moments[0], moments[0]), (moments[0], moments[1])]
    assert store.waiting("ls:project/8") == Waiting()


def test_a_failed_poll_leaves_the_cursor(store: Store) -> None:
    store.put_failed_poll(TARGET, "down", at(1), at(2))
    store.put_poll(TARGET, [], "c1", at(3), at(4))
    store.put_failed_poll(TARGET, "down", at(5), at(6))
    store.put_failed_poll(TARGET, "still down", at(7), at(8))
    watch = store.watch(TARGET)
    assert watch is not None
    assert (watch.cursor, watch.failures, watch.error) == ("c1", 2, "still down")


def test_striking_leaves_what_changed_again_meanwhile(store: Store) -> None:
    store.put_poll(TARGET, work("1", "2", "3"), "c1", at(1), at(31))
    dealt_with = seen(store)
    store.put_poll(TARGET, work("2"), "c2", at(2), at(32))
    store.strike(TARGET, "work", dealt_with)
    assert set(seen(store)) == {"2"}
    store.strike(TARGET, "work", dealt_with)
    assert set(seen(store)) == {"2"}
    store.strike(TARGET, "work", seen(store))
    store.strike(TARGET, "work", {})
    assert store.waiting(TARGET).changed == ()


@pytest.mark.parametrize("second", [1, 0.5], ids=["the same moment", "a clock that went back"])
def test_a_change_is_another_one_whatever_our_clock_says(store: Store, second: float) -> None:
    store.put_poll(TARGET, work("1"), "c1", at(1), at(31))
    dealt_with = seen(store)
    store.put_poll(TARGET, work("1"), "c2", at(second), at(32))
    store.strike(TARGET, "work", dealt_with)
    assert set(seen(store)) == {"1"}


def test_what_was_noted_in_the_future_of_a_clock_that_went_back_need_not_wait_for_it(store: Store) -> None:
    store.put_poll(TARGET, work("1"), "c1", at(50), at(59))
    store.put_poll(TARGET, [], "c2", at(3), at(9))
    assert store.waiting(TARGET).changed == ((datetime.fromisoformat(at(3)),) * 2,)


def test_kinds_are_struck_off_separately(store: Store) -> None:
    store.put_poll(TARGET, [*work("1"), Change("1", "new", "2026-11-20T11:58:00Z")], "c1", at(1), at(31))
    store.strike(TARGET, "new", seen(store, "new"))
    assert store.waiting(TARGET).new_items == 0
    assert len(store.waiting(TARGET).changed) == 1


def test_runs_answers_and_syncs(store: Store) -> None:
    store.note_run(TARGET, "run-1")
    store.note_answers(TARGET, at(5))
    waiting = store.waiting(TARGET)
    assert (waiting.run_to_push, waiting.answers, waiting.synced_at) == (True, True, None)
    store.note_run(TARGET, None)
    store.note_sync(TARGET, at(4))
    assert store.waiting(TARGET).answers, "it was noted after the sync had begun"
    store.note_sync(TARGET, at(6))
    assert store.waiting(TARGET) == Waiting(synced_at=datetime.fromisoformat(at(6)))
    store.note_answers(TARGET, at(7))
    store.note_answers(TARGET, None)
    assert not store.waiting(TARGET).answers
    assert store.watch(TARGET).cursor is None  # type: ignore[union-attr]


def test_thousands_of_changes_at_once(store: Store) -> None:
    for poll in range(2):
        store.put_poll(TARGET, work(*map(str, range(3000))), "c", at(poll), at(9))
    assert len(store.waiting(TARGET).changed) == 3000
    store.strike(TARGET, "work", seen(store))
    assert store.waiting(TARGET).changed == ()
