"""When the service does what."""

from __future__ import annotations

from datetime import UTC, datetime, time, timedelta
from zoneinfo import ZoneInfo

import pytest

from bridge.core.policy import Journey, Policy, PushPolicy, QuietHours, ScorePolicy, Waiting, due, next_due
from bridge.errors import ConfigError

NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)
BERLIN = ZoneInfo("Europe/Berlin")
NIGHT = QuietHours(time(22), time(7), BERLIN)


def ago(**span: float) -> datetime:
    return NOW - timedelta(**span)


def test_the_order_of_work() -> None:
    policy = Policy(prelabel=True, score=ScorePolicy(), push=PushPolicy(), sync_every_s=600)
    waiting = Waiting(1, ((ago(hours=1), ago(hours=1)),), run_to_push=True, answers=True)
    assert due(policy, waiting, NOW) == (Journey.PRELABEL, Journey.SYNC, Journey.SCORE, Journey.PUSH)
    assert next_due(policy, waiting, NOW) == NOW
    assert due(Policy(), waiting, NOW) == ()
    assert next_due(Policy(), waiting, NOW) is None


def test_who_is_still_drawing_is_waited_for() -> None:
    policy = Policy(score=ScorePolicy(settle_s=60, at_least=2, at_latest_s=900))
    drawing = Waiting(changed=((ago(hours=3), ago(seconds=20)),))
    assert due(policy, drawing, NOW) == ()
    assert next_due(policy, drawing, NOW) == NOW + timedelta(seconds=40)


def test_a_batch_is_full_or_old() -> None:
    policy = Policy(score=ScorePolicy(settle_s=60, at_least=2, at_latest_s=900))
    one, other = (ago(minutes=5), ago(minutes=5)), (ago(minutes=2), ago(seconds=30))
    assert next_due(policy, Waiting(changed=(one,)), NOW) == NOW + timedelta(minutes=10)
    assert next_due(policy, Waiting(changed=(one, other)), NOW) == NOW + timedelta(seconds=30)
    assert due(policy, Waiting(changed=(one, (ago(minutes=2), ago(minutes=2)))), NOW) == (Journey.SCORE,)


def test_a_sync_comes_with_answers_and_after_a_pause() -> None:
    policy = Policy(sync_every_s=600)
    assert due(policy, Waiting(), NOW) == (Journey.SYNC,)
    assert due(policy, Waiting(synced_at=ago(minutes=9)), NOW) == ()
    assert next_due(policy, Waiting(synced_at=ago(minutes=9)), NOW) == NOW + timedelta(minutes=1)
    assert due(policy, Waiting(synced_at=ago(minutes=9), answers=True), NOW) == (Journey.SYNC,)


@pytest.mark.parametrize(
    ("quiet", "now", "over"),
    [
        (NIGHT, "2026-11-20T20:59", "2026-11-20T20:59"),
        (NIGHT, "2026-11-20T21:00", "2026-11-21T06:00"),
        (NIGHT, "2026-11-21T06:00", "2026-11-21T06:00"),
        # The clock is put forward at 2:00 in this night, which is an hour shorter, and back at 3:00 in that one.
        (NIGHT, "2026-03-28T21:30", "2026-03-29T05:00"),
        (NIGHT, "2026-10-24T20:30", "2026-10-25T06:00"),
        # 2:30 comes twice: the second time counts. And not at all: it is quiet as long as in other nights.
        (QuietHours(time(22), time(2, 30), BERLIN), "2026-10-25T00:45", "2026-10-25T01:30"),
        (QuietHours(time(22), time(2, 30), BERLIN), "2026-03-28T23:00", "2026-03-29T01:30"),
        (QuietHours(time(12), time(13), ZoneInfo("UTC")), "2026-11-20T12:59", "2026-11-20T13:00"),
    ],
)
def test_quiet_hours(quiet: QuietHours, now: str, over: str) -> None:
    moment, end = (datetime.fromisoformat(text).replace(tzinfo=UTC) for text in (now, over))
    policy, waiting = Policy(push=PushPolicy(quiet=quiet)), Waiting(run_to_push=True)
    assert next_due(policy, waiting, moment) == end
    assert due(policy, waiting, moment) == ((Journey.PUSH,) if moment == end else ())


def test_quiet_hours_are_some() -> None:
    with pytest.raises(ConfigError, match="two different times"):
        QuietHours(time(7), time(7), BERLIN)
