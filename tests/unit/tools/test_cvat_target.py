"""Targets in CVAT: what they are, and what is said where they are none."""

from __future__ import annotations

import pytest

from bridge.errors import UsageError
from bridge.tools.cvat_target import parse_target


@pytest.mark.parametrize(
    ("text", "kind", "number", "filters"),
    [
        ("cvat:project/3", "project", 3, {}),
        ("cvat:task/12", "task", 12, {}),
        ("cvat:job/45?state=completed", "job", 45, {"state": "completed"}),
        (
            "cvat:task/1?stage=validation&state=in%20progress&assignee=a%20b",
            "task",
            1,
            {"stage": "validation", "state": "in progress", "assignee": "a b"},
        ),
        ("cvat:task/1?state=in+progress", "task", 1, {"state": "in progress"}),
        ("cvat:task/1?subset=", "task", 1, {"subset": ""}),
    ],
)
def test_targets(text: str, kind: str, number: int, filters: dict[str, str]) -> None:
    target = parse_target(text)
    assert (target.text, target.kind, target.id, target.filters) == (text, kind, number, filters)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("cvat:", "is no target"),
        ("cvat:project/0", "is no target"),
        ("cvat:project/x", "is no target"),
        ("cvat:frame/3", "is no target"),
        ("cvat:task/1/2", "is no target"),
        ("cvat:task/" + "9" * 30, "is no target"),
        ("cvat:task/1?colour=red", "no filter 'colour'"),
        ("cvat:task/1?state=done", "the state 'done'"),
        ("cvat:task/1?stage=review", "the stage 'review'"),
        ("cvat:task/1?updated_after=yesterday", "is no date"),
        ("cvat:task/1?state=new&state=completed", "cannot be read"),
    ],
)
def test_no_targets(text: str, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        parse_target(text)


def test_dates() -> None:
    target = parse_target("cvat:task/1?updated_after=2026-11-20")
    assert target.takes_job({"updated_date": "2026-11-20T00:00:00Z"})
    assert not target.takes_job({"updated_date": "2026-11-19T23:59:59.999Z"})
    assert not target.takes_job({"updated_date": None})


def test_subsets_are_the_tasks() -> None:
    target = parse_target("cvat:project/1?subset=train")
    assert target.takes_task({"subset": "train"})
    assert not target.takes_task({"subset": ""})
