"""Who labels how: agreement over clustered objects, and errors per 100 objects of each person."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence

import pytest

from bridge.core.annotations import Annotation, Box, Item, LabelSet, Polygon, Record, Shape, Submission, Tag
from bridge.core.findings import ErrorType, Finding, Fix
from bridge.core.team import LOW_KAPPA, Person, Team, team_of

LABELS = LabelSet(("cat", "dog", "owl"))
Objects = Sequence[tuple[str, Shape]]


def box(k: int, size: float = 10.0) -> Box:
    return Box(20.0 * k, 0.0, 20.0 * k + size, size)


def record(name: str, **people: Objects) -> Record:
    """One item; each keyword is a person with labels and shapes, ``nobody`` has no name."""
    work = [
        Submission(
            f"{name}-{who}",
            "" if who == "nobody" else who,
            tuple(Annotation(f"{name}-{who}-{k}", label, shape) for k, (label, shape) in enumerate(objects)),
        )
        for who, objects in people.items()
    ]
    return Record(Item(name, name, "", 1000, 100), tuple(work))


def finding(item: str, who: str, error: ErrorType, score: float = 0.9, k: int = 0) -> Finding:
    return Finding(
        id=f"{item}-{who}-{error}-{k}",
        target="t",
        item_id=item,
        item_name=item,
        submission_id=f"{item}-{who}",
        annotation_ids=(),
        error=error,
        label="cat",
        score=score,
        reason="",
        fix=Fix("none"),
        scorer="s",
    )


def person(team: Team, name: str) -> Person:
    return next(p for p in team.people if p.name == name)


def test_full_agreement_is_one() -> None:
    objects = [("cat", box(0)), ("dog", box(1))]
    team = team_of(LABELS, [record("a", ann=objects, bob=objects)], [])
    assert (team.items, team.alpha) == (1, pytest.approx(1.0))
    assert [(c.label, c.objects, c.kappa) for c in team.classes] == [("cat", 1, 1.0), ("dog", 1, 1.0)]
    assert [(p.name, p.kappa) for p in team.people] == [("ann", 1.0), ("bob", 1.0)]


def test_a_class_that_people_see_differently_is_named() -> None:
    rows = [
        record(
            str(k),
            ann=[("cat", box(0)), ("dog", box(1))],
            bob=[("cat", box(0)), ("dog" if k % 2 else "owl", box(1))],
            cid=[("cat", box(0))],
        )
        for k in range(10)
    ]
    team = team_of(LABELS, rows, [])
    # Of dogs: 10 by ann and 5 by bob, each against two others; 5 pairs agree.
    kappa = {c.label: c.kappa for c in team.classes}
    assert kappa == {"cat": 1.0, "dog": pytest.approx(2 * 5 / (2 * 15)), "owl": 0.0}
    assert [c.label for c in team.unclear] == ["owl", "dog"]
    assert team.alpha is not None
    assert 0 < team.alpha < 1


def test_one_class_has_a_kappa_but_no_alpha() -> None:
    """With one class nearly all subjects are alike, and a few misses look like chance to alpha."""
    full = [("cat", box(k)) for k in range(50)]
    team = team_of(LABELS, [record("a", ann=full, bob=full[:-2], cid=full[1:])], [])
    assert team.alpha is None
    (cats,) = team.classes
    # 47 things all three have, 3 that two of them have.
    assert cats.kappa == pytest.approx(2 * (47 * 3 + 3) / (2 * (50 + 48 + 49)))
    assert person(team, "ann").kappa == 1.0
    assert person(team, "bob").kappa == pytest.approx(2 * 48 / (48 + 50))


def test_outlines_agree_by_their_boxes_and_tags_by_their_class() -> None:
    ring = Polygon(((0.0, 0.0), (10.0, 0.0), (10.0, 10.0), (0.0, 10.0)))
    team = team_of(LABELS, [record("a", ann=[("cat", ring)], bob=[("cat", box(0))])], [])
    assert [(c.label, c.kappa) for c in team.classes] == [("cat", 1.0)]
    tags = [record(str(k), ann=[("cat", Tag())], bob=[("cat" if k else "dog", Tag())]) for k in range(4)]
    team = team_of(LABELS, tags, [])
    assert {c.label: c.kappa for c in team.classes} == {"cat": pytest.approx(2 * 3 / 7), "dog": 0.0}
    several = [record("a", ann=[("cat", Tag()), ("dog", Tag())], bob=[("cat", Tag())])]
    assert team_of(LABELS, several, []).classes == ()


def test_errors_per_hundred_objects_also_of_people_who_work_alone() -> None:
    rows = [record("a", ann=[("cat", box(k)) for k in range(8)]), record("b", bob=[("cat", box(k)) for k in range(4)])]
    found = [
        finding("a", "ann", ErrorType.EXTRA),
        finding("a", "ann", ErrorType.EXTRA, k=1),
        finding("a", "ann", ErrorType.WRONG_CLASS, score=0.49),
        finding("a", "ann", ErrorType.DUPLICATE_IMAGE, score=1.0),
        finding("b", "bob", ErrorType.MISSING),
    ]
    team = team_of(LABELS, rows, found)
    assert (team.items, team.alpha, team.classes) == (0, None, ())
    assert [p.name for p in team.people] == ["ann", "bob"]
    assert all(p.kappa is None and p.shared == 0 for p in team.people)
    assert person(team, "ann").errors == {"missing": 0.0, "extra": 25.0, "wrong_class": 0.0, "imprecise": 0.0}
    assert person(team, "bob").errors["missing"] == 25.0


def test_who_has_no_name_or_no_objects() -> None:
    rows = [record("a", nobody=[("cat", box(0))], ann=[])]
    team = team_of(LABELS, rows, [finding("a", "nobody", ErrorType.EXTRA)])
    (ann,) = team.people
    assert (ann.objects, ann.shared, set(ann.errors.values())) == (0, 1, {None})
    assert [c.kappa for c in team.classes] == [0.0]
    assert team_of(LABELS, [], []) == Team()
    assert team_of(LABELS, [record("a", ann=[], bob=[])], []).alpha is None


def test_objects_that_cannot_be_compared_do_not_count() -> None:
    odd = [("owl of another project", box(0)), ("cat", Box(0, 0, 0, 0)), ("cat", Box(float("nan"), 0, 1, 1))]
    assert team_of(LABELS, [record("a", ann=odd, bob=odd)], []).classes == ()


def test_neither_order_nor_storage_changes_anything() -> None:
    chance = random.Random(0)
    rows = [
        record(
            str(k),
            **{
                who: [(chance.choice(LABELS.names), box(n, 9 + chance.random())) for n in range(chance.randrange(5))]
                for who in chance.sample(["ann", "bob", "cid", "dee"], 3)
            },
        )
        for k in range(12)
    ]
    team = team_of(LABELS, rows, [])
    assert Team.from_dict(json.loads(json.dumps(team.to_dict()))) == team
    mixed = [
        Record(r.item, tuple(Submission(s.id, s.annotator, s.annotations[::-1]) for s in r.submissions[::-1]))
        for r in rows[::-1]
    ]
    again = team_of(LABELS, mixed, [])
    assert again.alpha == pytest.approx(team.alpha)
    assert {c.label: c.kappa for c in again.classes} == pytest.approx({c.label: c.kappa for c in team.classes})
    assert {p.name: p.kappa for p in again.people} == pytest.approx({p.name: p.kappa for p in team.people})
    assert all(c.is_low == (c.kappa is not None and c.kappa < LOW_KAPPA) for c in team.classes)
