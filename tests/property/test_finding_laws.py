"""The state machine never loses a finding; records and findings survive storage."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule
from ugly import confidences, good_boxes, names, records, shapes

from bridge.core.annotations import (
    Prediction,
    Record,
    Shape,
    record_from_dict,
    record_to_dict,
    revision_of,
    shape_from_list,
    shape_to_list,
    snapshot_hash,
)
from bridge.core.findings import TRANSITIONS, ErrorType, Event, Finding, Fix, State, finding_id, transition
from bridge.errors import DataError

fixes = st.builds(
    Fix, st.sampled_from(("add", "delete", "relabel", "reshape", "none")), st.none() | names, st.none() | shapes
)
findings = st.builds(
    Finding,
    id=names,
    target=names,
    item_id=names,
    item_name=names,
    submission_id=names,
    annotation_ids=st.lists(names, max_size=2).map(tuple),
    error=st.sampled_from(ErrorType),
    label=names,
    score=confidences,
    reason=names,
    fix=fixes,
    scorer=names,
    current_shape=st.none() | shapes,
    revisions=st.lists(names, max_size=2).map(tuple),
    evidence=st.dictionaries(names, st.one_of(st.floats(0, 1), names, st.none()), max_size=3),
)


def through_json(value: object) -> object:
    return json.loads(json.dumps(value, allow_nan=False))


@given(records)
def test_a_record_survives_storage(record: Record) -> None:
    assert record_from_dict(through_json(record_to_dict(record))) == record


@given(findings)
def test_a_finding_survives_storage(finding: Finding) -> None:
    assert Finding.from_dict(through_json(finding.to_dict())) == finding


@given(shapes)
def test_a_shape_survives_storage_and_keeps_its_revision(shape: Shape) -> None:
    again = shape_from_list(through_json(shape_to_list(shape)))
    assert again == shape
    assert revision_of("cat", again) == revision_of("cat", shape)


@given(st.lists(records, min_size=1, max_size=3), good_boxes())
def test_the_snapshot_hash_sees_people_and_not_models(some: list[Record], box: Shape) -> None:
    before = snapshot_hash(some)
    assert snapshot_hash([record_from_dict(through_json(record_to_dict(r))) for r in some]) == before
    predicted = [replace(r, predictions=(*r.predictions, Prediction("cat", box, 0.5, "m"))) for r in some]
    assert snapshot_hash(predicted) == before
    renamed = [replace(some[0], item=replace(some[0].item, id=some[0].item.id + "x")), *some[1:]]
    assert snapshot_hash(renamed) != before


@given(good_boxes(), st.floats(-0.004, 0.004))
def test_rounding_noise_does_not_renew_a_finding(box: Shape, noise: float) -> None:
    def identity(x1: float) -> str:
        fix = Fix("add", "cat", replace(box, x1=x1))
        return finding_id("ls:project/1", "1", "2", (), ErrorType.MISSING, fix)

    assert identity(float(round(box.x1)) + noise) == identity(float(round(box.x1)))
    assert identity(float(round(box.x1)) + 1) != identity(float(round(box.x1)))


@pytest.mark.parametrize(("state", "event"), list(itertools.product(State, Event)))
def test_a_transition_is_listed_or_refused(state: State, event: Event) -> None:
    if (state, event) in TRANSITIONS:
        assert transition(state, event) is TRANSITIONS[state, event]
    else:
        with pytest.raises(DataError, match="cannot take the event"):
            transition(state, event)


def test_every_state_can_be_reached_and_none_is_a_trap() -> None:
    reached = {State.OPEN}
    for _ in State:
        reached |= {after for (before, _), after in TRANSITIONS.items() if before in reached}
    assert reached == set(State)
    assert {before for before, _ in TRANSITIONS} == set(State)


class AnyHistory(RuleBasedStateMachine):
    """Whatever happens, in whatever order: the finding is in one state, and a refused event leaves it there."""

    def __init__(self) -> None:
        super().__init__()
        self.state = State.OPEN

    @rule(event=st.sampled_from(Event))
    def take(self, event: Event) -> None:
        before = self.state
        try:
            self.state = transition(before, event)
        except DataError:
            assert (before, event) not in TRANSITIONS
        assert isinstance(self.state, State)
        # A person's verdict is never silently withdrawn, nor an undecided finding applied.
        if before in (State.ACCEPTED, State.REJECTED, State.APPLIED, State.VERIFIED):
            assert self.state is not State.WITHDRAWN
        if self.state is State.APPLIED:
            assert before in (State.ACCEPTED, State.APPLIED)
        # What was undone comes back by a person's answer only, whatever later runs find.
        if before is State.UNDONE:
            assert self.state in (State.UNDONE, State.ACCEPTED, State.REJECTED)


TestAnyHistory = AnyHistory.TestCase
