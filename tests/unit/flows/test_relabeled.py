"""An object that a fix has changed says so in later snapshots and in exports: by which finding, model and reviewer."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fakes.colour_detector import NAME
from fakes.pictures import CAT, DOG, ELSEWHERE, TRUTH
from flow_kit import Desk
from typer.testing import CliRunner

from bridge import wiring
from bridge.cli import app
from bridge.core.annotations import Annotation, Record, record_from_dict, record_to_dict, snapshot_hash
from bridge.core.findings import Fix
from bridge.flows.relabeled import AcceptedFixes
from bridge.formats.coco import CocoDataset


@pytest.fixture
def fixed(desk: Desk) -> Desk:
    """Four pictures, each with an error that was found, accepted and repaired; and one that was right."""
    desk.picture((("dog", CAT), ("dog", DOG)))  # the cat has the wrong class
    desk.picture((("cat", CAT),))  # the dog is missing
    desk.picture((*TRUTH, ("cat", ELSEWHERE)))  # there is an extra cat
    desk.picture(TRUTH)
    desk.score()
    desk.push()
    for minute, found in enumerate(desk.findings(states=["pushed"])):
        desk.tool.answer(found.finding.id, "accept", minute=minute)
    desk.sync()
    assert desk.states() == ["verified"] * 3
    return desk


def objects(desk: Desk) -> dict[str, list[Annotation]]:
    """The objects of the latest snapshot by item."""
    run = desk.store.latest_run(desk.tool.target)
    assert run
    records = [record for chunk in desk.store.chunks(run.id) for record in chunk]
    return {r.item.id: [a for s in r.submissions for a in s.annotations] for r in records}


def test_later_snapshots_say_where_an_object_came_from(fixed: Desk) -> None:
    assert not any(a.relabeled for found in objects(fixed).values() for a in found)
    fixed.score()
    told = {
        (item, a.label, r.finding, r.model, r.accepted_by)
        for item, found in objects(fixed).items()
        for a in found
        for r in a.relabeled
    }
    wrong, missing = fixed.finding("1", "wrong_class"), fixed.finding("2", "missing")
    assert told == {
        ("1", "cat", wrong.finding.id, NAME, "ann"),
        ("2", "dog", missing.finding.id, NAME, "ann"),
    }


def test_where_it_came_from_is_no_part_of_the_work(fixed: Desk) -> None:
    """The snapshot's hash is that of what people submitted, and nobody takes the object for a changed one."""
    marked = fixed_record(fixed, "1")
    plain = fixed.tool.read_records(["1"])["1"]
    assert marked == plain
    assert snapshot_hash([marked]) == snapshot_hash([plain])
    assert record_to_dict(marked)["submissions"] == record_to_dict(plain)["submissions"]
    told = json.loads(json.dumps(record_to_dict(marked)))
    assert record_to_dict(record_from_dict(told)) == told
    assert len(told["relabeled"]) == 1
    assert "relabeled" not in record_to_dict(plain)


def fixed_record(desk: Desk, item: str) -> Record:
    return AcceptedFixes.of(desk.store, desk.tool.target).mark(desk.tool.read_records([item])[item])


def relabeled(desk: Desk, item: str) -> dict[str, int]:
    """How many fixes the object with each label shows."""
    return {a.label: len(a.relabeled) for s in fixed_record(desk, item).submissions for a in s.annotations}


def test_what_a_person_changed_since_shows_the_fix_no_more(fixed: Desk) -> None:
    fixed.tool.submit("1", [replace(a, label="dog") for a in fixed.tool.people["1"][0].annotations])
    assert relabeled(fixed, "1") == {"dog": 0}


def test_a_label_stays_the_fixes_where_only_the_box_was_moved(fixed: Desk) -> None:
    assert relabeled(fixed, "1") == {"cat": 1, "dog": 0}
    fixed.tool.submit("1", [replace(a, shape=ELSEWHERE) for a in fixed.tool.people["1"][0].annotations])
    assert relabeled(fixed, "1") == {"cat": 1, "dog": 0}


def test_a_reviewers_own_version(desk: Desk) -> None:
    desk.picture((("cat", CAT),))
    desk.score()
    desk.push()
    (found,) = desk.findings(states=["pushed"])
    desk.tool.answer(found.finding.id, "edit", minute=1, fix=Fix("add", "dog", ELSEWHERE))
    desk.sync()
    assert relabeled(desk, "1") == {"cat": 0, "dog": 1}


def test_export(fixed: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fixed.picture()  # nobody has submitted this one
    fixed.tool.submit("4", [*fixed.tool.people["4"][0].annotations, Annotation("4a:9", "bird", DOG)])
    monkeypatch.setenv("LABELBRIDGE_HOME", str(tmp_path))
    monkeypatch.setattr(wiring, "open_target", lambda *_: fixed.tool)
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(app, ["export", fixed.tool.target, "-o", "coco.json", "--json"])
    assert done.exit_code == 0, done.exception
    assert json.loads(done.stdout) == {
        "file": "coco.json",
        "images": 4,
        "objects": 9,
        "relabeled": 2,
        "several": 0,
        "left_out": {},
    }
    data: dict[str, Any] = json.loads(Path("coco.json").read_text())
    wrong = fixed.finding("1", "wrong_class").finding.id
    provenance = [a["provenance"] for a in data["annotations"] if a["image_id"] == 1]
    assert [r["finding"] for p in provenance for r in p["relabeled"]] == [wrong]
    assert {p["annotator"] for p in provenance} == {"person 0"}
    assert data["info"]["audit_head"] == str(fixed.store.audit_head())
    again = CocoDataset.open(Path("coco.json"))
    assert again.labels.names == ("cat", "dog", "bird")
    read = again.records(0, len(again))
    assert [[(a.label, a.shape) for a in r.submissions[0].annotations] for r in read] == [
        fixed.tool.objects(item) for item in "1234"
    ]
    assert {r.submissions[0].annotator for r in read} == {"person 0"}
