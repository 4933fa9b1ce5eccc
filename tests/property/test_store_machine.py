"""Whatever the order of calls, the store holds what a plain dictionary would, and its audit log is whole."""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from bridge.core.annotations import LabelSet
from bridge.core.findings import TRANSITIONS, UNDECIDED, ErrorType, Event, Finding, Fix, State, Verdict
from bridge.errors import DataError, NotFound
from bridge.store import PutCounts, Store

AT = "2026-11-20T12:00:00Z"
TARGETS = ("ls:project/1", "files:coco")
KEYS = [f"{n:016x}" for n in range(8)]
SCORES = st.sampled_from([0.0, 0.25, 0.5, 1.0])
HELD = {State.PUSHED, State.ACCEPTED, State.REJECTED, State.APPLIED, State.VERIFIED}


@dataclass
class Expected:
    """What one finding should be."""

    state: State
    score: float
    revision: str
    runs: list[str]
    pushes: dict[str, str] = field(default_factory=dict)
    verdicts: list[Verdict] = field(default_factory=list)


def make(key: str, score: float, revision: str) -> Finding:
    target = TARGETS[int(key, 16) % 2]
    return Finding(
        key, target, "1", "1.jpg", "s", ("a",), ErrorType.EXTRA, "bolt", score, "why", Fix("delete"), "x", None,
        (revision,),
    )  # fmt: skip


class StoreMachine(RuleBasedStateMachine):
    @initialize()
    def begin(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="lbstore"))
        self.store = Store.open(f"sqlite:///{self.folder}/labelbridge.db")
        self.found: dict[str, Expected] = {}
        self.runs: list[tuple[str, str]] = []
        self.events = 0

    def teardown(self) -> None:
        if hasattr(self, "store"):
            self.store.close()
            shutil.rmtree(self.folder)

    @rule(of=st.sampled_from(TARGETS))
    def start_run(self, of: str) -> None:
        run_id = f"r{len(self.runs)}"
        self.store.start_run(run_id, of, "", "review", "m", "x", LabelSet(("bolt",)), AT, {})
        self.runs.append((run_id, of))
        self.events += 1

    @precondition(lambda self: self.runs)
    @rule(data=st.data(), scores=st.dictionaries(st.sampled_from(KEYS), SCORES), revision=st.sampled_from("abc"))
    def put_findings(self, data: st.DataObject, scores: dict[str, float], revision: str) -> None:
        run_id, target = data.draw(st.sampled_from(self.runs))
        given = [make(key, score, revision) for key, score in scores.items() if make(key, 0, "").target == target]
        new = [f for f in given if f.id not in self.found]
        back = [f for f in given if f.id in self.found and self.found[f.id].state is State.WITHDRAWN]
        counts = self.store.put_findings(run_id, given)
        assert counts == PutCounts(len(new), len(given) - len(new), len(back))
        for finding in given:
            known = self.found.setdefault(finding.id, Expected(State.OPEN, 0.0, revision, []))
            known.score = finding.score
            if known.state not in HELD and not known.pushes:
                known.revision = revision
            if known.state is State.WITHDRAWN:
                known.state = State.REOPENED
            known.runs.append(run_id)
        self.events += len(new) + len(back)

    @precondition(lambda self: self.runs)
    @rule(data=st.data())
    def withdraw_missing(self, data: st.DataObject) -> None:
        number = data.draw(st.integers(0, len(self.runs) - 1))
        run_id, target = self.runs[number]
        earlier = {run for run, _ in self.runs[:number]}
        missing = [
            known
            for key, known in self.found.items()
            if make(key, 0, "").target == target
            and known.state in UNDECIDED
            and run_id not in known.runs
            and known.runs[-1] in earlier
        ]
        assert self.store.withdraw_missing(run_id) == len(missing)
        for known in missing:
            known.state = State.WITHDRAWN
        self.events += len(missing)

    @rule(key=st.sampled_from(KEYS), event=st.sampled_from(Event))
    def transition(self, key: str, event: Event) -> None:
        known = self.found.get(key)
        if known is None:
            with pytest.raises(NotFound):
                self.store.transition(key, event, AT, "ann")
        elif (known.state, event) not in TRANSITIONS:
            with pytest.raises(DataError):
                self.store.transition(key, event, AT, "ann")
        else:
            known.state = TRANSITIONS[known.state, event]
            assert self.store.transition(key, event, AT, "ann") is known.state
            self.events += 1

    @rule(key=st.sampled_from(KEYS), review=st.sampled_from("xy"), ref=st.sampled_from("12"))
    def record_push(self, key: str, review: str, ref: str) -> None:
        known = self.found.get(key)
        if known is None:
            with pytest.raises(NotFound):
                self.store.record_push(key, review, ref, "", AT)
            return
        new = known.pushes.get(review) != ref
        assert self.store.record_push(key, review, ref, "", AT) is new
        known.pushes[review] = ref
        self.events += new

    @rule(
        key=st.sampled_from(KEYS),
        decision=st.sampled_from(("accept", "reject", "edit")),
        minute=st.integers(0, 3),
        source=st.sampled_from("pq"),
    )
    def record_verdict(self, key: str, decision: str, minute: int, source: str) -> None:
        verdict = Verdict(key, decision, "ann", f"2026-11-20T12:0{minute}:00Z", source)  # type: ignore[arg-type]
        known = self.found.get(key)
        if known is None:
            with pytest.raises(NotFound):
                self.store.record_verdict(verdict, AT)
            return
        new = verdict not in known.verdicts
        assert self.store.record_verdict(verdict, AT) is new
        if new:
            known.verdicts.append(verdict)
        self.events += new

    @rule()
    def open_again(self) -> None:
        self.store.close()
        self.store = Store.open(f"sqlite:///{self.folder}/labelbridge.db")

    @invariant()
    def nothing_is_lost_or_doubled(self) -> None:
        if not hasattr(self, "store"):
            return
        stored = self.store.findings()
        assert [s.finding.id for s in stored] == sorted(self.found, key=lambda key: (-self.found[key].score, key))
        for one in stored:
            known = self.found[one.finding.id]
            assert one.finding == make(one.finding.id, known.score, known.revision)
            assert one.state is known.state
            assert (one.first_run, one.last_run) == (known.runs[0], known.runs[-1])
            assert {push.review_ref: push.ref for push in one.pushed} == known.pushes
            in_time = sorted(known.verdicts, key=lambda verdict: verdict.decided_at)
            assert self.store.verdicts(one.finding.id) == in_time
            assert one.verdict == (in_time[-1] if in_time else None)
        for run_id, _ in self.runs:
            linked = sorted(key for key, known in self.found.items() if run_id in known.runs)
            assert sorted(s.finding.id for s in self.store.findings(run_id=run_id)) == linked
        for review in "xy":
            refs = {key: known.pushes[review] for key, known in self.found.items() if review in known.pushes}
            assert self.store.pushed_refs(review) == refs

    @invariant()
    def the_audit_log_is_whole(self) -> None:
        if hasattr(self, "store"):
            assert self.store.verify_events() == []
            assert self.store.audit_head()[0] == self.events


StoreMachine.TestCase.settings = settings(
    max_examples=25, stateful_step_count=25, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
TestStoreMachine = StoreMachine.TestCase
