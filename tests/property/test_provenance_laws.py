"""Laws of provenance: a training image is known again, a copy is a copy, and lowering keeps the order."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from ugly import good_boxes, names

from bridge.core.annotations import Annotation, Item, LabelSet, Prediction, Record, Submission
from bridge.core.findings import ErrorType, Finding, Fix
from bridge.core.objects import build_workload
from bridge.core.provenance import Provenance, copies, pixel_mark, place_mark
from bridge.scorers.in_sample import WORTH, lowered

pictures = arrays(np.uint8, st.tuples(st.integers(1, 4), st.integers(1, 4), st.just(3)))
items = st.builds(Item, names, names, names)


@given(st.lists(pictures, max_size=5), st.lists(items, max_size=5), names, items, pictures)
def test_exactly_what_was_seen_is_in_the_sample(
    shown: list[np.ndarray], listed: list[Item], target: str, item: Item, pixels: np.ndarray
) -> None:
    seen = {pixel_mark(p) for p in shown} | {place_mark(target, i) for i in listed}
    model = Provenance("m", (target,), seen=frozenset(seen))
    for one in listed:
        assert model.sample(target, one) == "in"
    for one in shown:
        assert model.sample("elsewhere" + target, item, one) == "in"
    known = any((i.id, i.image) == (item.id, item.image) for i in listed)
    shown_before = any(np.array_equal(p, pixels) for p in shown)
    assert model.sample(target, item, pixels) == ("in" if known or shown_before else "out")


@given(st.lists(st.tuples(st.sampled_from("ab"), good_boxes()), max_size=6), st.data())
def test_what_was_accepted_is_a_copy(objects: list, data: st.DataObject) -> None:
    accepted = [data.draw(st.booleans()) for _ in objects]
    given_ = tuple(Annotation(str(k), label, box) for k, (label, box) in enumerate(objects))
    found = tuple(Prediction(label, box, 0.5, "m") for (label, box), yes in zip(objects, accepted, strict=True) if yes)
    record = Record(Item("1", "1", "1"), (Submission("s", "", given_),), found, (), ("m",))
    workload = build_workload("t", LabelSet(("a", "b")), [record])
    is_copy = dict(zip((a.id for a in workload.annotations), copies(workload).tolist(), strict=True))
    assert all(is_copy[a.id] for a, yes in zip(given_, accepted, strict=True) if yes)


@given(st.lists(st.tuples(st.sampled_from(["seen", "new"]), st.floats(0, 1)), max_size=12))
def test_lowering_keeps_the_order_and_touches_only_what_was_seen(rows: list[tuple[str, float]]) -> None:
    before = [
        Finding(
            f"{k:016x}", "t", item, item, "s", ("a",), ErrorType.EXTRA, "cat", score, "why.", Fix("delete"), "planted"
        )
        for k, (item, score) in enumerate(rows)
    ]
    records = [Record(Item(i, "", ""), (), (), (), ("m",), (s,)) for i, s in (("seen", "in"), ("new", "out"))]
    after = lowered(before, records, independent=("consensus",))
    assert [f.id for f in after] == [f.id for f in before]
    for old, new in zip(before, after, strict=True):
        if old.item_id == "new":
            assert new == old
        else:
            assert new.score == pytest.approx(WORTH * old.score)
            assert new.reason == "why. The model was trained on this image."
            assert replace(new, score=old.score, reason=old.reason, evidence=old.evidence) == old
    seen = sorted((old.score, new.score) for old, new in zip(before, after, strict=True) if old.item_id == "seen")
    assert [new for _, new in seen] == sorted(new for _, new in seen)
    kept = [replace(f, scorer="consensus") for f in before]
    assert lowered(kept, records, independent=("consensus",)) == kept
