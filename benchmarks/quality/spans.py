"""How well wrong spans of texts are found, beside a plain comparison of exact matches.

``python benchmarks/quality/spans.py [--texts N] [--seeds N]``

The texts are made up: words of random letters, among them entities of one to four words. ``ERRORS`` are planted into
the labels, and a made-up model predicts with the faults of real ones: it overlooks, invents, swaps classes and cuts or
extends spans by a word, less sure of itself when it does. Printed: the average precision of the ranked findings by the
type of error, over all of them by their right type (``typed``), and of the labels and gaps with any error (``any``).
A missing span is found by one with an F1 of characters of at least .5, any other error by a finding about that label.
A blank too much is an error to the one, none to the other: findings about such labels count neither way.

``exact`` is what a diff of the two lists says: a label that no prediction repeats is of the wrong class where one has
the same place, imprecise where one overlaps it, else extra; a prediction that overlaps no label is missing; ranked by
the confidence of that prediction.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from bridge.core.annotations import Annotation, Item, LabelSet, Prediction, Record, Submission, TextSpan
from bridge.core.findings import REVIEWED_TYPES, ErrorType
from bridge.core.metrics import average_precision
from bridge.core.spans import char_f1
from bridge.scorers.span_review import SpanReview

LABELS = LabelSet(("person", "firm", "place", "drug"))
#: Shares of the labels; a margin is a blank too much.
ERRORS = {"missing": 0.03, "extra": 0.03, "wrong_class": 0.03, "imprecise": 0.04, "margin": 0.02}
SAME_SPAN = 0.5

#: (error, submission, annotation or None, span or None, score)
Suspect = tuple[ErrorType, str, str | None, TextSpan | None, float]


@dataclass
class Truth:
    """What is wrong: the error of each annotation, and the spans that each submission lacks."""

    wrong: dict[str, ErrorType] = field(default_factory=dict)
    margins: set[str] = field(default_factory=set)
    gaps: dict[str, list[TextSpan]] = field(default_factory=dict)


class Writer:
    """A text of ``words``, and spans of whole words in it."""

    def __init__(self, rng: np.random.Generator, words: int) -> None:
        letters = np.array(list("abcdefghijklmnopqrstuvwxyz"))
        self.words = ["".join(rng.choice(letters, rng.integers(2, 11))) for _ in range(words)]
        self.text = " ".join(self.words) + " "
        self.starts = np.cumsum([0, *(len(w) + 1 for w in self.words)])

    def span(self, first: int, last: int, margin: int = 0) -> TextSpan:
        """The words from ``first`` up to but without ``last``, with so many blanks behind them."""
        first, last = max(0, first), min(len(self.words), last)
        start, end = int(self.starts[first]), int(self.starts[last]) - 1 + margin
        return TextSpan(start, end, self.text[start:end])


def slip(rng: np.random.Generator, first: int, last: int) -> tuple[int, int]:
    """Other boundaries: one word more or less at one end, never less than a word."""
    more = last - first == 1 or rng.random() < 0.5
    if rng.random() < 0.5:
        return (first - 1 if more else first + 1), last
    return first, (last + 1 if more else last - 1)


def make_text(rng: np.random.Generator, number: int, truth: Truth) -> Record:
    """A text with labels of which some are wrong, and what the model says about it."""
    page = Writer(rng, 80)
    name, labels = str(number), LABELS.names
    objects: list[Annotation] = []
    seen: list[Prediction] = []

    def label(kind: str, span: TextSpan, error: ErrorType | None = None) -> None:
        annotation = Annotation(f"{name}.{len(objects)}", kind, span)
        objects.append(annotation)
        if error:
            truth.wrong[annotation.id] = error

    def predict(kind: str, span: TextSpan, sure: tuple[float, float]) -> None:
        seen.append(Prediction(kind, span, float(rng.beta(*sure)), "made-up"))

    at = 2
    while at < 70:
        first, last = at, at + int(rng.choice([1, 1, 2, 2, 3, 4]))
        at = last + int(rng.integers(4, 12))
        kind, other = (str(k) for k in rng.choice(labels, 2, replace=False))
        span = page.span(first, last)
        error = str(rng.choice([*ERRORS, ""], p=[*ERRORS.values(), 1 - sum(ERRORS.values())]))
        match error:
            case "missing":
                truth.gaps.setdefault(name, []).append(span)
            case "wrong_class":
                label(other, span, ErrorType.WRONG_CLASS)
            case "imprecise":
                label(kind, page.span(*slip(rng, first, last)), ErrorType.IMPRECISE)
            case "margin":
                truth.margins.add(f"{name}.{len(objects)}")
                label(kind, page.span(first, last, margin=1))
            case _:
                label(kind, span)
        if error == "extra":
            label(other, page.span(last + 1, last + 1 + int(rng.integers(1, 3))), ErrorType.EXTRA)
        fate = rng.random()
        if fate < 0.78:
            predict(kind, span, (8, 2))
        elif fate < 0.88:
            predict(kind, page.span(*slip(rng, first, last)), (5, 3))
        elif fate < 0.94:
            predict(str(rng.choice([k for k in labels if k != kind])), span, (4, 3))
        if rng.random() < 0.15:
            predict(kind, span, (1, 8))  # a second thought about the same words
        if rng.random() < 0.15:
            predict(other, page.span(last + 1, last + 2), (2, 5))
    submission = Submission(name, "", tuple(objects))
    return Record(Item(name, name, "", text=page.text), (submission,), tuple(seen), predicted_by=("made-up",))


def ours(records: Sequence[Record]) -> list[Suspect]:
    return [
        (f.error, f.submission_id, f.annotation_ids[0] if f.annotation_ids else None, f.fix.shape, f.score)
        for f in SpanReview().find("made-up", LABELS, records)
    ]  # type: ignore[misc]


def exact(records: Sequence[Record]) -> list[Suspect]:
    found: list[Suspect] = []
    for record in records:
        (submission,) = record.submissions
        for a in submission.annotations:
            over = [p for p in record.predictions if _f1(a.shape, p.shape) > 0]
            if any((p.shape, p.label) == (a.shape, a.label) for p in over):
                continue
            best = max(over, key=lambda p: p.confidence, default=None)
            error = ErrorType.EXTRA if best is None else ErrorType.IMPRECISE
            if best is not None and best.shape == a.shape:
                error = ErrorType.WRONG_CLASS
            found.append((error, submission.id, a.id, None, 0.5 if best is None else best.confidence))
        for p in record.predictions:
            if all(_f1(a.shape, p.shape) == 0 for a in submission.annotations):
                found.append((ErrorType.MISSING, submission.id, None, p.shape, p.confidence))  # type: ignore[arg-type]
    return found


def _f1(a: object, b: object) -> float:
    assert isinstance(a, TextSpan)
    assert isinstance(b, TextSpan)
    return float(char_f1(np.array([(a.start, a.end)]), np.array([(b.start, b.end)]))[0, 0])


def judge(suspects: Sequence[Suspect], truth: Truth) -> dict[str, float]:
    """Average precision by type, typed and any."""
    gaps = sum(len(g) for g in truth.gaps.values())
    errors = {e: sum(1 for w in truth.wrong.values() if w is e) for e in REVIEWED_TYPES} | {ErrorType.MISSING: gaps}
    found: set[object] = set()
    seen: set[object] = set()
    typed: list[tuple[ErrorType, bool]] = []
    anything: list[bool] = []
    counted = [s for s in suspects if s[2] not in truth.margins]
    for error, submission, annotation, span, _ in sorted(counted, key=lambda s: -s[4]):
        if annotation is None:
            gap = next((g for g in truth.gaps.get(submission, ()) if _f1(g, span) >= SAME_SPAN), None)
            hit = gap is not None and (submission, gap) not in found
            found.add((submission, gap))
            anything.append(hit)
        else:
            hit = truth.wrong.get(annotation) is error
            if annotation not in seen:
                anything.append(annotation in truth.wrong)
            seen.add(annotation)
        typed.append((error, hit))
    by_type = {
        str(e): average_precision(np.array([h for x, h in typed if x is e], dtype=np.bool_), errors[e])
        for e in REVIEWED_TYPES
    }
    total = sum(errors.values())
    return by_type | {
        "typed": average_precision(np.array([h for _, h in typed], dtype=np.bool_), total),
        "any": average_precision(np.array(anything, dtype=np.bool_), total),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--texts", type=int, default=400)
    parser.add_argument("--seeds", type=int, default=5)
    options = parser.parse_args()
    methods = {"here": ours, "exact": exact}
    figures: dict[str, list[dict[str, float]]] = {name: [] for name in methods}
    for seed in range(options.seeds):
        rng, truth = np.random.default_rng(seed), Truth()
        records = [make_text(rng, k, truth) for k in range(options.texts)]
        for name, method in methods.items():
            figures[name].append(judge(method(records), truth))
    columns = list(figures["here"][0])
    print(f"{options.texts} texts, mean of {options.seeds} seeds")
    print(" " * 8 + "".join(f"{c:>13}" for c in columns))
    for name, rows in figures.items():
        print(f"{name:8}" + "".join(f"{np.mean([r[c] for r in rows]):13.3f}" for c in columns))


if __name__ == "__main__":
    main()
