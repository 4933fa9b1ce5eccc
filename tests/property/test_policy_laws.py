"""Laws of policies: nothing is due too early, whatever waits is due at last, and quiet hours are kept."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, time, timedelta
from zoneinfo import ZoneInfo

from hypothesis import assume, given
from hypothesis import strategies as st

from bridge.core.policy import Journey, Policy, PushPolicy, QuietHours, ScorePolicy, Waiting, due, next_due

#: Among them a change of half an hour, one at midnight, one that skips a day, and zones without any.
ZONES = ("Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "America/Asuncion", "Pacific/Apia", "UTC")
#: Days on which one of these puts its clock forward or back, and ordinary ones.
DAYS = [
    *(datetime(2026, 3, 8, tzinfo=UTC), datetime(2026, 3, 29, tzinfo=UTC), datetime(2026, 4, 4, tzinfo=UTC)),
    *(datetime(2026, 10, 3, tzinfo=UTC), datetime(2026, 10, 25, tzinfo=UTC), datetime(2026, 11, 1, tzinfo=UTC)),
    *(datetime(2011, 12, 29, tzinfo=UTC), datetime(2023, 10, 1, tzinfo=UTC), datetime(2026, 7, 1, tzinfo=UTC)),
]
_MINUTES = st.integers(-900, 2500)
MOMENTS = st.builds(lambda day, minutes: day + timedelta(minutes=minutes), st.sampled_from(DAYS), _MINUTES)
SPANS = st.timedeltas(timedelta(0), timedelta(days=2))
CLOCKS = st.builds(time, st.integers(0, 23), st.sampled_from([0, 15, 30, 59]))
SECONDS = st.sampled_from([0.0, 1.0, 45.0, 900.0, 7200.0])


@st.composite
def quiet_hours(draw: st.DrawFn) -> QuietHours:
    start, end = draw(CLOCKS), draw(CLOCKS)
    assume(start != end)
    return QuietHours(start, end, ZoneInfo(draw(st.sampled_from(ZONES))))


POLICIES = st.builds(
    Policy,
    prelabel=st.booleans(),
    score=st.none() | st.builds(ScorePolicy, settle_s=SECONDS, at_least=st.integers(1, 5), at_latest_s=SECONDS),
    push=st.none() | st.builds(PushPolicy, quiet=st.none() | quiet_hours()),
    sync_every_s=st.none() | SECONDS,
)


@st.composite
def waiting_things(draw: st.DrawFn, now: datetime) -> Waiting:
    """What may wait at ``now``: everything in it has happened already."""
    changed = []
    for first, between in draw(st.lists(st.tuples(SPANS, SPANS), max_size=6)):
        changed.append((now - max(first, between), now - max(first, between) + between))
    return Waiting(
        new_items=draw(st.integers(0, 2)),
        changed=tuple(changed),
        run_to_push=draw(st.booleans()),
        answers=draw(st.booleans()),
        synced_at=draw(st.none() | st.builds(lambda ago: now - ago, SPANS)),
    )


def waits(policy: Policy, waiting: Waiting) -> set[Journey]:
    """The journeys that are to come about some time, told without the clock."""
    told = {
        Journey.PRELABEL: policy.prelabel and waiting.new_items > 0,
        Journey.SCORE: policy.score is not None and len(waiting.changed) > 0,
        Journey.PUSH: policy.push is not None and waiting.run_to_push,
        Journey.SYNC: policy.sync_every_s is not None,
    }
    return {journey for journey, is_told in told.items() if is_told}


def only(policy: Policy, journey: Journey) -> Policy:
    return Policy(
        prelabel=policy.prelabel and journey is Journey.PRELABEL,
        score=policy.score if journey is Journey.SCORE else None,
        push=policy.push if journey is Journey.PUSH else None,
        sync_every_s=policy.sync_every_s if journey is Journey.SYNC else None,
    )


@given(st.data(), POLICIES, MOMENTS, SPANS)
def test_nothing_is_due_before_the_time_to_look_again(
    data: st.DataObject, policy: Policy, now: datetime, span: timedelta
) -> None:
    waiting = data.draw(waiting_things(now))
    again = next_due(policy, waiting, now)
    assert (again is None) == (not waits(policy, waiting))
    if again is None:
        assert due(policy, waiting, now + span) == ()
    else:
        assert again >= now
        assert due(policy, waiting, again)
        assert (again == now) == bool(due(policy, waiting, now))
        assert again <= now + span or due(policy, waiting, now + span) == ()


@given(st.data(), POLICIES, MOMENTS)
def test_whatever_waits_is_due_at_last(data: st.DataObject, policy: Policy, now: datetime) -> None:
    waiting = data.draw(waiting_things(now))
    for journey in waits(policy, waiting):
        moment = next_due(only(policy, journey), waiting, now)
        assert moment is not None
        assert moment <= now + timedelta(days=1, hours=3)
        assert journey in due(policy, waiting, moment)


@given(st.data(), POLICIES, MOMENTS, SPANS)
def test_what_is_due_stays_due_but_for_quiet_hours(
    data: st.DataObject, policy: Policy, now: datetime, span: timedelta
) -> None:
    waiting = data.draw(waiting_things(now))
    assert set(due(policy, waiting, now)) - {Journey.PUSH} <= set(due(policy, waiting, now + span))
    loud = replace(policy, push=replace(policy.push, quiet=None)) if policy.push else policy
    assert set(due(loud, waiting, now)) <= set(due(loud, waiting, now + span))
    assert set(due(policy, waiting, now)) - {Journey.PUSH} == set(due(loud, waiting, now)) - {Journey.PUSH}


@given(st.data(), MOMENTS, st.builds(ScorePolicy, SECONDS, st.integers(1, 5), SECONDS))
def test_a_batch_is_settled_and_large_or_old_enough(data: st.DataObject, now: datetime, policy: ScorePolicy) -> None:
    waiting = replace(data.draw(waiting_things(now)), synced_at=None)
    settled = [first for first, last in waiting.changed if (now - last).total_seconds() >= policy.settle_s]
    is_old = any((now - first).total_seconds() >= policy.at_latest_s for first in settled)
    assert bool(due(Policy(score=policy), waiting, now)) == (len(settled) >= policy.at_least or is_old)


@given(quiet_hours(), MOMENTS)
def test_it_is_quiet_when_the_clock_says_so(quiet: QuietHours, now: datetime) -> None:
    clock = now.astimezone(quiet.zone).time()
    late, early = clock >= quiet.start, clock < quiet.end
    policy, waiting = Policy(push=PushPolicy(quiet=quiet)), Waiting(run_to_push=True)
    if (late and early) if quiet.start < quiet.end else (late or early):
        assert due(policy, waiting, now) == ()
    elif due(policy, waiting, now) == ():  # only where a change of the clock is near
        offsets = {(now + timedelta(hours=h)).astimezone(quiet.zone).utcoffset() for h in range(-30, 31)}
        assert len(offsets) > 1
    over = quiet.over(now)
    assert over == now or quiet.over(over - timedelta(seconds=1)) == over
    assert quiet.over(over) == over
