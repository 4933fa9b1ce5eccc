"""What a listing's log notices, against a tool in memory whose clocks and commits are as bad as they get."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import pytest
from fakes.task_listing import Tasks
from hypothesis import given, settings
from hypothesis import strategies as st

from bridge.core.id_ranges import IdRanges
from bridge.tools.change_log import NEWEST, REQUESTS, ChangeLog, News


@dataclass
class Reader:
    """Follows tasks as the reconciler does: with nothing but the text of the log from one call to the next."""

    tasks: Tasks
    text: str | None = None
    requests: int = 0

    def read(self) -> Counter[tuple[str, int]]:
        found: list[News] = []
        before = self.tasks.requests
        while True:
            at = self.tasks.requests
            log = ChangeLog.read(self.text, page=200)
            found += log.follow(self.tasks)
            self.text = log.text
            assert self.tasks.requests - at <= REQUESTS
            if not log.more:
                break
        self.requests = self.tasks.requests - before
        return Counter((news.what, news.id) for news in found)


@pytest.fixture
def tasks() -> Tasks:
    return Tasks()


@pytest.fixture
def reader(tasks: Tasks) -> Reader:
    return Reader(tasks)


def later(tasks: Tasks, seconds: float = 20.0) -> None:
    tasks.seconds += seconds


@pytest.mark.parametrize("count", [0, 3, NEWEST, 5000])
def test_everything_is_new_at_first_and_then_one_request_sees_that_nothing_changed(
    tasks: Tasks, reader: Reader, count: int
) -> None:
    ids = tasks.add(count)
    assert reader.read() == Counter(("new", i) for i in ids)
    for _ in range(3):
        later(tasks)
        assert reader.read() == Counter()
        assert reader.requests == 1


@pytest.mark.parametrize("count", [1, NEWEST + 50, 3000])
def test_each_change_is_told_once_however_many_there_are(tasks: Tasks, reader: Reader, count: int) -> None:
    ids = tasks.add(5000)
    reader.read()
    later(tasks)
    for number in ids[:count]:
        tasks.change(number)
    assert reader.read() == Counter(("changed", i) for i in ids[:count])
    for _ in range(20):
        later(tasks, 30)
        assert reader.read() == Counter()
    assert reader.requests == 1


def test_the_text_stays_small(tasks: Tasks, reader: Reader) -> None:
    for number in tasks.add(20_000)[:1500]:
        tasks.change(number)
    for _ in range(12):
        later(tasks, 60)
        reader.read()
    assert len(reader.text or "") < 8000


def test_what_is_deleted_is_found_in_few_requests(tasks: Tasks, reader: Reader) -> None:
    tasks.add(20_000)
    reader.read()
    del tasks.entries[7], tasks.entries[12_345]
    assert reader.read() == Counter([("gone", 7), ("gone", 12_345)])
    assert reader.requests < 20


def test_all_but_one_deleted(tasks: Tasks, reader: Reader) -> None:
    ids = tasks.add(7000)
    reader.read()
    tasks.entries = {5: tasks.entries[5]}
    assert reader.read() == Counter(("gone", i) for i in ids if i != 5)


def test_another_task_with_the_same_id_is_another_task(tasks: Tasks, reader: Reader) -> None:
    tasks.change(tasks.add(10)[-1])
    reader.read()
    later(tasks)
    del tasks.entries[10]
    tasks.add(1)
    assert reader.read() == Counter([("replaced", 10)])
    assert reader.read() == Counter()


def test_what_becomes_visible_late_is_found_below_the_newest_page(tasks: Tasks, reader: Reader) -> None:
    ids = tasks.add(1000)
    reader.read()
    later(tasks, 1000)
    for number in ids[:300]:
        tasks.change(number)
    reader.read()
    later(tasks)
    tasks.change(900, skew=-80)  # a slow clock, or a transaction that took long
    assert reader.read() == Counter()
    for _ in range(12):
        later(tasks)
        found = reader.read()
        if found:
            break
    assert found == Counter([("changed", 900)])


def test_new_tasks_that_were_made_long_ago_are_found_by_their_number(tasks: Tasks, reader: Reader) -> None:
    tasks.add(2000, first=1000)
    reader.read()
    tasks.add(300, first=10, skew=-5000)
    assert reader.read() == Counter(("new", i) for i in range(10, 310))


@pytest.mark.parametrize("clock", [-7200.0, 0.0, 7200.0])
def test_a_wrong_date_in_the_answers_loses_nothing(tasks: Tasks, reader: Reader, clock: float) -> None:
    tasks.date_is_off_s = clock
    ids = tasks.add(3000)
    reader.read()
    for count in (1, 150, 1000, 20):
        later(tasks)
        for number in ids[:count]:
            tasks.change(number)
        assert reader.read() == Counter(("changed", i) for i in ids[:count])


def test_work_that_is_taken_back_at_once_is_told(tasks: Tasks, reader: Reader) -> None:
    (number,) = tasks.add()
    reader.read()
    tasks.change(number)
    assert reader.read() == Counter({("changed", number): 1})
    later(tasks, 0.5)
    tasks.change(number)
    tasks.untouch(number)
    assert reader.read() == Counter({("changed", number): 1})
    assert reader.read() == Counter()


def test_an_unreadable_text_reads_everything_again(tasks: Tasks, reader: Reader) -> None:
    tasks.add(5)
    for text in ("", "no JSON", "[]", '{"known": 3}', "null"):
        reader.text = text
        assert len(reader.read()) == 5


DEEDS = st.sampled_from(["change", "late", "add", "many", "delete", "recycle", "wait", "long"])


@given(st.lists(st.tuples(DEEDS, st.integers(0, 10**6), st.booleans()), max_size=60), st.booleans())
@settings(max_examples=60, deadline=None)
def test_nothing_is_lost_and_nothing_is_told_twice(deeds: list[tuple[str, int, bool]], tells_time: bool) -> None:
    tasks = Tasks(tells_time=tells_time)
    tasks.add(150)
    reader = Reader(tasks)
    known, told = set[int](), Counter[tuple[str, int]]()
    expected = Counter[int]()
    later(tasks, 500)

    def read() -> None:
        for (what, number), times in reader.read().items():
            told[what, number] += times
            known.discard(number) if what == "gone" else known.add(number)

    read()
    told.clear()
    dirty: set[int] = set()
    for what, chosen, reads in deeds:
        later(tasks, 1)
        there = sorted(tasks.entries)
        number = there[chosen % len(there)] if there else 0
        match what:
            case "change" | "late" if there:
                tasks.change(number, skew=-30 if what == "late" else 0)
                dirty.add(number)
            case "add" | "many":
                tasks.add(1 if what == "add" else 220)
            case "delete" if there:
                del tasks.entries[number]
                dirty.discard(number)
            case "recycle" if there:
                del tasks.entries[there[-1]]
                dirty.discard(there[-1])
                tasks.add(1)
            case "long":
                later(tasks, 300)
        if reads:
            read()
            expected.update(dirty)
            dirty.clear()
    expected.update(dirty)
    for _ in range(10):
        later(tasks, 100)
        if not tells_time and tasks.entries:  # then only what changes moves the tool's clock on
            tasks.change(max(tasks.entries))
        read()
    assert known == set(tasks.entries), "every new and every deleted task was told"
    for number in expected.keys() & set(tasks.entries) - {max(tasks.entries)}:
        assert told["changed", number] or told["new", number] or told["replaced", number], number
        assert told["changed", number] <= expected[number], number


@given(st.lists(st.tuples(st.booleans(), st.integers(1, 30))))
def test_ranges_are_a_set(steps: list[tuple[bool, int]]) -> None:
    ranges, plain = IdRanges(), set[int]()
    for adds, number in steps:
        ranges.add(number) if adds else ranges.discard(number)
        plain.add(number) if adds else plain.discard(number)
    assert IdRanges(str(ranges)).between(1, 30) == sorted(plain) == ranges.between(1, 30)
    assert len(ranges) == len(plain)
    for first, last in ((1, 30), (5, 12), (7, 7)):
        here = sorted(n for n in plain if first <= n <= last)
        assert ranges.between(first, last, 3) == here[:3]
        assert ranges.count(first, last) == len(here)
        if here:
            assert ranges.middle(first, last) == here[(len(here) - 1) // 2]
    assert [n for n in range(32) if n in ranges] == sorted(plain)
