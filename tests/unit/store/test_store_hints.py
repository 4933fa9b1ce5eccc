"""Hints: each kept once, taken once, and forgotten by age."""

from __future__ import annotations

import threading
from dataclasses import replace

from bridge.store import Hint, Store

AT = "2026-11-20T10:00:00+00:00"


def hint(number: int, received_at: str = AT) -> Hint:
    return Hint("cvat", (f"cvat:job/{number}", "cvat:project/3"), "update:job", AT, f"{number:064x}", received_at)


def test_a_hint_comes_back_as_it_was_put(store: Store) -> None:
    given = [hint(1), Hint("label-studio", (), "TASKS_DELETED", None, "f" * 64, "2026-11-20T11:00:00+01:00")]
    assert store.put_hints(given) == [True, True]
    first, second = store.waiting_hints(10)
    assert first.hint == replace(hint(1), received_at="2026-11-20T10:00:00.000000+00:00")
    assert (second.hint.places, second.hint.moment) == ((), None)
    assert first.seq < second.seq


def test_each_digest_is_kept_once(store: Store) -> None:
    assert store.put_hints([hint(1), hint(2), hint(1)]) == [True, True, False]
    assert store.put_hints([hint(2), hint(3)]) == [False, True]
    assert store.put_hints([]) == []
    assert [w.hint.places[0] for w in store.waiting_hints(10)] == ["cvat:job/1", "cvat:job/2", "cvat:job/3"]


def test_what_was_taken_waits_no_longer(store: Store) -> None:
    store.put_hints([hint(number) for number in range(5)])
    first, second = store.waiting_hints(2)
    store.take_hints([first.seq, second.seq], AT)
    store.take_hints([second.seq], "2027-01-01T00:00:00Z")
    assert [w.hint.digest for w in store.waiting_hints(10)] == [hint(n).digest for n in (2, 3, 4)]
    assert store.put_hints([hint(0)]) == [False]


def test_old_ones_are_forgotten_by_time_whatever_its_spelling(store: Store) -> None:
    store.put_hints(
        [hint(1, "2026-11-20T10:00:00Z"), hint(2, "2026-11-20T12:00:00+02:00"), hint(3, "2026-11-20T10:30:00Z")]
    )
    assert store.forget_hints("2026-11-20T11:15:00+01:00") == 2
    assert [w.hint.digest for w in store.waiting_hints(10)] == [hint(3).digest]
    assert store.put_hints([hint(1)]) == [True]


def test_several_writers_at_once(store: Store) -> None:
    stored: list[bool] = []
    threads = [
        threading.Thread(target=lambda k=k: stored.extend(store.put_hints([hint(n) for n in range(k, k + 30)])))
        for k in (0, 10, 20)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (stored.count(True), len(store.waiting_hints(100))) == (50, 50)
