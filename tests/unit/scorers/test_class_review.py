"""Tags: which submissions are judged, what the models' words become, and the finding that a person reads."""

from __future__ import annotations

import pytest

from bridge.core.annotations import Annotation, Box, Item, LabelSet, Prediction, Record, Submission, Tag
from bridge.core.findings import ErrorType, Finding, Fix
from bridge.scorers.class_review import ClassReview

LABELS = LabelSet(("box only", "cat", "dog", "owl"))


def record(name: str, tags: list[str], seen: dict[str, float], model: str = "m") -> Record:
    given = tuple(Annotation(f"{name}-{k}", label, Tag()) for k, label in enumerate(tags))
    said = tuple(Prediction(label, Tag(), confidence, model) for label, confidence in seen.items())
    return Record(Item(name, f"{name}.jpg", ""), (Submission(name, "ann", given),), said, predicted_by=(model,))


GOOD = [
    record(f"{label} {k}", [label], {label: 0.9, other: 0.06})
    for k in range(60)
    for label, other in (("cat", "dog"), ("dog", "owl"), ("owl", "cat"))
]


def review(*records: Record) -> list[Finding]:
    return ClassReview().find("ls:project/7", LABELS, [*records, *GOOD])


def test_a_tag_that_another_class_beats_is_a_finding() -> None:
    (finding,) = review(record("x", ["dog"], {"cat": 0.95, "dog": 0.03}))
    assert finding.error is ErrorType.WRONG_CLASS
    assert (finding.item_id, finding.submission_id, finding.annotation_ids) == ("x", "x", ("x-0",))
    assert finding.fix == Fix("relabel", "cat", Tag())
    assert finding.revisions == (Annotation("x-0", "dog", Tag()).revision,)
    assert finding.score > 0.9
    assert finding.reason.startswith("Labelled dog (0.03), but the model says cat (0.95)")


def test_what_the_model_confirms_is_no_finding() -> None:
    assert review(record("x", ["cat"], {"cat": 0.7, "dog": 0.2})) == []


def test_a_model_that_names_one_class_only_says_something_about_the_others() -> None:
    (finding,) = review(record("x", ["owl"], {"cat": 0.94}))
    assert finding.evidence["given_confidence"] == pytest.approx(0.03)


def test_several_models_count_alike() -> None:
    torn = record("x", ["owl"], {"cat": 0.9, "owl": 0.1})
    other = tuple(Prediction(label, Tag(), c, "other") for label, c in (("owl", 0.98), ("cat", 0.01)))
    both = Record(torn.item, torn.submissions, torn.predictions + other)
    assert review(torn)
    assert review(both) == []


@pytest.mark.parametrize(
    "odd",
    [
        record("two tags", ["dog", "owl"], {"cat": 0.95}),
        record("no tag", [], {"cat": 0.95}),
        record("unknown", ["horse"], {"cat": 0.95}),
        record("not looked at", ["dog"], {}),
        record("odd confidence", ["dog"], {"cat": float("nan")}),
        Record(Item("b", "b", ""), (Submission("b", "", (Annotation("1", "dog", Box(0, 0, 9, 9)),)),)),
    ],
    ids=lambda r: r.item.name,
)
def test_what_cannot_be_judged_is_left_out(odd: Record) -> None:
    assert review(odd) == []


def test_no_tags_at_all() -> None:
    assert ClassReview().find("t", LABELS, []) == []
    assert ClassReview().find("t", LABELS, [record("x", ["cat"], {"cat": 0.2})]) == []


def test_the_same_answer_in_any_order() -> None:
    records = [record("x", ["dog"], {"cat": 0.95}), record("y", ["owl"], {"dog": 0.6, "owl": 0.2}), *GOOD]
    here = {f.id: f.score for f in ClassReview().find("t", LABELS, records)}
    there = {f.id: f.score for f in ClassReview().find("t", LABELS, records[::-1])}
    assert here == pytest.approx(there)
    assert len(here) == 2
