"""Spans of a text: each way in which one can be wrong, in a text of its own."""

from __future__ import annotations

import pytest

from bridge.core.annotations import Annotation, Item, LabelSet, Prediction, Record, Submission, TextSpan
from bridge.core.findings import ErrorType, Finding, Fix
from bridge.scorers.span_review import MARGIN, SpanReview

LABELS = LabelSet(("person", "firm", "place"))
TEXT = "Ada Lovelace of Acme Corp. met Bob in New York City yesterday."
Words = list[tuple[str, str]]
TRUTH: Words = [("person", "Ada Lovelace"), ("firm", "Acme Corp"), ("person", "Bob"), ("place", "New York City")]


def span(words: str) -> TextSpan:
    start = TEXT.index(words)
    return TextSpan(start, start + len(words), words)


def record(name: str, labelled: Words, seen: list[tuple[str, str, float]], looked: tuple[str, ...] = ("m",)) -> Record:
    objects = tuple(Annotation(f"{name}-{k}", label, span(words)) for k, (label, words) in enumerate(labelled))
    found = tuple(Prediction(label, span(words), confidence, "m") for label, words, confidence in seen)
    return Record(Item(name, name, "", text=TEXT), (Submission(name, "", objects),), found, predicted_by=looked)


SEEN = [(label, words, 0.9) for label, words in TRUTH]
GOOD = [record(f"good {k}", TRUTH, SEEN) for k in range(30)]


def review(one: Record, least: float = 0.2) -> list[Finding]:
    """The findings about one text from the likeliest down."""
    found = [f for f in SpanReview().find("t", LABELS, [one, *GOOD]) if f.score >= least]
    assert {f.item_id for f in found} <= {one.item.id}
    return sorted(found, key=lambda f: -f.score)


def test_what_the_model_confirms_is_no_suspect() -> None:
    assert review(record("x", TRUTH, SEEN)) == []


def test_a_span_that_nobody_marked_is_missing() -> None:
    (found,) = review(record("x", TRUTH[:2] + TRUTH[3:], SEEN))
    assert (found.error, found.fix) == (ErrorType.MISSING, Fix("add", "person", span("Bob")))
    assert (found.score, found.annotation_ids, found.label) == (pytest.approx(0.9), (), "person")
    assert found.reason == 'The model sees person in "Bob" (0.90), but nothing is labelled.'


def test_a_span_that_no_prediction_supports_is_extra() -> None:
    (found,) = review(record("x", [*TRUTH, ("place", "yesterday")], SEEN))
    assert (found.error, found.fix, found.annotation_ids) == (ErrorType.EXTRA, Fix("delete"), ("x-4",))
    assert found.revisions == (Annotation("x-4", "place", span("yesterday")).revision,)
    assert found.score > 0.7


def test_the_same_words_under_another_label_are_of_the_wrong_class() -> None:
    (found,) = review(record("x", [("firm", "Ada Lovelace"), *TRUTH[1:]], SEEN))
    assert (found.error, found.fix) == (ErrorType.WRONG_CLASS, Fix("relabel", "person", span("Ada Lovelace")))
    assert found.reason == 'Labelled firm "Ada Lovelace"; the model says person (0.90) of "Ada Lovelace".'


def test_other_boundaries_are_imprecise_the_more_the_more_they_differ() -> None:
    (less,) = review(record("x", [*TRUTH[:3], ("place", "New York")], SEEN))
    assert (less.error, less.fix) == (ErrorType.IMPRECISE, Fix("reshape", "place", span("New York City")))
    assert less.evidence["char_f1"] == pytest.approx(16 / 21)
    assert less.evidence["iou"] == pytest.approx(8 / 13)
    (little,) = review(record("x", [*TRUTH[:3], ("place", "New York Cit")], SEEN))
    assert little.score < less.score


def test_a_fainter_prediction_that_fits_speaks_for_the_label() -> None:
    doubted = record("x", [*TRUTH[:3], ("place", "New York")], [*SEEN, ("place", "New York", 0.4)])
    (found,) = review(doubted)
    assert (found.error, found.score) == (ErrorType.IMPRECISE, pytest.approx(0.5, abs=0.05))


def test_a_blank_or_a_full_stop_too_much_is_another_and_a_weak_finding() -> None:
    for words in ("Bob ", " Bob"):
        (found,) = review(record("x", [*TRUTH[:2], ("person", words), TRUTH[3]], SEEN))
        assert (found.error, found.score) == (ErrorType.IMPRECISE, pytest.approx(0.9 * MARGIN))
        assert found.fix == Fix("reshape", "person", span("Bob"))
        assert "but for blanks and punctuation it is what the model says" in found.reason
    (found,) = review(record("x", [TRUTH[0], ("firm", "Acme Corp."), *TRUTH[2:]], SEEN))
    assert found.score == pytest.approx(0.9 * MARGIN)


def test_two_labels_on_the_same_words_do_not_accuse_each_other() -> None:
    both = [*TRUTH, ("firm", "Bob")]
    assert review(record("x", both, [*SEEN, ("firm", "Bob", 0.85)])) == []
    (found,) = review(record("x", both, SEEN))
    assert (found.error, found.annotation_ids) == (ErrorType.EXTRA, ("x-4",))


def test_a_name_within_a_name_is_a_span_of_its_own() -> None:
    assert review(record("x", [*TRUTH, ("firm", "Ada")], [*SEEN, ("firm", "Ada", 0.9)])) == []
    (found,) = review(record("x", TRUTH, [*SEEN, ("firm", "Ada", 0.9)]), least=0.1)
    assert (found.error, found.fix) == (ErrorType.MISSING, Fix("add", "firm", span("Ada")))


def test_a_text_that_no_model_saw_is_not_judged() -> None:
    assert review(record("x", [], [], looked=())) == []
    assert SpanReview().find("t", LABELS, [record("x", TRUTH, [])]) == [], "a model of other things says nothing"
    assert {f.error for f in review(record("x", TRUTH, []))} == {ErrorType.EXTRA}


def test_odd_spans_are_left_to_the_data_checks() -> None:
    odd = record("x", TRUTH, [*SEEN, ("cow", "Bob", 0.9)])
    broken = Annotation("x-9", "person", TextSpan(7, 7))
    strange = Annotation("x-8", "cow", span("yesterday"))
    work = Submission("x", "", (*odd.submissions[0].annotations, broken, strange))
    assert review(Record(odd.item, (work,), odd.predictions, predicted_by=("m",))) == []
