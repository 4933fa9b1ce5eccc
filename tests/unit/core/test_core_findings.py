from __future__ import annotations

import math

import pytest

from bridge.core.annotations import Box
from bridge.core.findings import REVIEWED_TYPES, ErrorType, Event, Finding, Fix, State, finding_id, transition
from bridge.errors import DataError


def finding(score: float) -> Finding:
    return Finding("f", "t", "1", "a.jpg", "s", (), ErrorType.MISSING, "cat", score, "why", Fix("none"), "x-1")


@pytest.mark.parametrize("score", [-0.01, 1.01, math.nan, math.inf])
def test_a_score_is_a_share(score: float) -> None:
    with pytest.raises(DataError, match="the score of finding f"):
        finding(score)


def test_the_four_reviewed_types_are_not_data_checks() -> None:
    assert [e for e in ErrorType if not e.is_data_check] == list(REVIEWED_TYPES)


def test_the_usual_way_of_a_finding_and_back() -> None:
    state = State.OPEN
    for event in (Event.PUSH, Event.ACCEPT, Event.APPLY, Event.VERIFY, Event.REOPEN, Event.PUSH, Event.REJECT):
        state = transition(state, event)
    assert state is State.REJECTED
    # A reviewer may think again, and a conflict may still be decided.
    assert transition(state, Event.ACCEPT) is State.ACCEPTED
    assert transition(transition(State.ACCEPTED, Event.CONFLICT), Event.ACCEPT) is State.ACCEPTED


def test_a_refused_event_says_what_would_be_taken() -> None:
    with pytest.raises(DataError, match="a finding that is applied cannot take the event push") as caught:
        transition(State.APPLIED, Event.PUSH)
    assert caught.value.expected == "one of: verify, reopen, undo"


def test_an_id_depends_on_the_suspicion_and_nothing_else() -> None:
    box = Box(1.0, 2.0, 30.0, 40.0)
    base = ("ls:project/7", "1", "9", ("b", "a"), ErrorType.IMPRECISE, Fix("reshape", "cat", box))
    same = finding_id(*base)
    assert finding_id(*base[:3], ("a", "b"), *base[4:]) == same
    assert finding_id(*base[:5], Fix("reshape", "cat", Box(1.3, 2.0, 30.0, 40.0))) == same
    others = [
        ("ls:project/8", *base[1:]),
        (base[0], "2", *base[2:]),
        (*base[:2], "8", *base[3:]),
        (*base[:3], ("a",), *base[4:]),
        (*base[:4], ErrorType.EXTRA, base[5]),
        (*base[:5], Fix("reshape", "dog", box)),
        (*base[:5], Fix("delete", "cat", box)),
        (*base[:5], Fix("reshape", "cat", Box(2.0, 2.0, 30.0, 40.0))),
    ]
    assert len({same, *(finding_id(*other) for other in others)}) == 9
