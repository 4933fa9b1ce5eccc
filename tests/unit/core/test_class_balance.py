from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.spatial.distance import jensenshannon

from bridge.core.annotations import Annotation, Box, Item, LabelSet, Polygon, Prediction, Record, Submission, Tag
from bridge.core.class_balance import ClassBalance, count_balance, jensen_shannon, warnings_of

LABELS = LabelSet(("cat", "dog", "owl", "yak"))


def record(
    name: str, labels: str, split: str = "", said: str = "", confidence: float = 0.9, side: float = 10
) -> Record:
    """One item; labels are named by their first letter."""
    full = {label[0]: label for label in LABELS.names}
    annotations = tuple(
        Annotation(f"{name}{k}", full[c], Box(0, 0, side * (k + 1), side)) for k, c in enumerate(labels)
    )
    predictions = tuple(Prediction(full[c], Box(0, 0, 9, 9), confidence, "m") for c in said)
    item = Item(name, f"{name}.jpg", "", 100, 100, split)
    return Record(item, (Submission(name, "ann", annotations),), predictions, predicted_by=("m",) if said else ())


def balance(*records: Record) -> ClassBalance:
    return count_balance(LABELS, records)


def test_counts() -> None:
    found = balance(record("1", "ccd", said="cc"), record("2", "c", said="co", confidence=0.3))
    cat, dog, owl, _ = found.classes
    assert (cat.objects, cat.images, cat.predicted, cat.ever_predicted) == (3, 2, 2, True)
    assert (dog.objects, dog.images, dog.predicted, dog.ever_predicted) == (1, 1, 0, False)
    assert (owl.objects, owl.predicted, owl.ever_predicted) == (0, 0, True)
    assert found.ratio == 3
    assert (found.unlabelled, found.never_predicted, found.only_predicted) == (("owl", "yak"), ("dog",), ())


def test_a_class_that_nobody_labels_though_the_model_is_sure() -> None:
    assert balance(record("1", "c", said="cy")).only_predicted == ("yak",)


def test_the_effective_number_of_classes() -> None:
    assert balance(record("1", "ccdd")).effective == pytest.approx(2)
    assert balance(record("1", "cccd")).effective == pytest.approx(2 ** -(0.75 * math.log2(0.75) - 0.5))
    nothing = balance()
    assert (nothing.effective, nothing.ratio, nothing.splits) == (0, None, ())


def test_rare_classes_come_rarest_first() -> None:
    found = balance(record("1", "c" * 100 + "d" + "oo"))
    assert found.rare == ("dog", "owl")
    assert balance(record("1", "c" * 9 + "d")).rare == ()


def test_sizes_are_parts_of_the_image() -> None:
    outline = Annotation("p", "dog", Polygon(((0, 0), (50, 0), (50, 50))))
    odd = (Annotation("t", "owl", Tag()), Annotation("n", "yak", Box(5, 5, 5, 5)))
    more = Record(Item("2", "2.jpg", "", 100, 100), (Submission("2", "ann", (outline, *odd)),))
    cat, dog, owl, yak = balance(record("1", "cc", side=40), more).classes
    assert (cat.smallest, cat.largest) == (pytest.approx(0.4), pytest.approx(math.sqrt(0.32)))
    assert dog.largest == pytest.approx(0.5)
    assert [c.largest for c in (owl, yak)] == [None, None]


def test_splits() -> None:
    found = balance(record("1", "ccdd", "train"), record("2", "cc", "val"), record("3", "cy"), record("4", "", "test"))
    assert [s.name for s in found.splits] == ["train", "test", "val", ""]
    train, test, val, none = found.splits
    assert (train.items, train.objects, train.absent) == (1, 4, ("yak",))
    assert (test.objects, test.divergence) == (0, None)
    assert val.absent == ("dog", "yak")
    assert none.absent == ("dog",)
    assert val.divergence == pytest.approx(jensenshannon([2, 0, 0, 0], [3, 2, 0, 1], base=2) ** 2)
    assert found.classes[0].by_split == (2, 0, 2, 1)


def test_a_single_split_has_nothing_to_differ_from() -> None:
    (only,) = balance(record("1", "cd", "train")).splits
    assert (only.divergence, only.absent) == (None, ())


@pytest.mark.parametrize(("p", "q"), [((1, 0), (0, 5)), ((1, 2, 3), (2, 4, 6)), ((1, 9, 0), (3, 3, 1))])
def test_the_divergence_is_scipys(p: tuple[float, ...], q: tuple[float, ...]) -> None:
    mine = jensen_shannon(np.array(p, float), np.array(q, float))
    assert mine == pytest.approx(jensenshannon(p, q, base=2) ** 2, abs=1e-12)
    assert 0 <= mine <= 1


def test_what_a_lead_should_know_first() -> None:
    found = balance(
        record("1", "d" + "c" * 60, "train", said="c"), record("2", "c", "val", said="y"), record("3", "c", "test")
    )
    assert warnings_of(found) == [
        "Labelled, but the model never predicts them: dog.",
        "Predicted with confidence, but nobody labels them: yak.",
        "Not in the split 'test', though in others: dog.",
        "Not in the split 'val', though in others: dog.",
        "Rare, with less than a tenth of an even share: dog.",
    ]
    assert warnings_of(balance(record("1", "cdoy"))) == []
