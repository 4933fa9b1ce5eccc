"""The consensus is that of the people, whatever the order in which they come."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ugly import confidences, good_boxes, ugly_boxes

from bridge.core.annotations import Annotation, Item, LabelSet, Prediction, Record, Submission
from bridge.core.consensus import SAME_OBJECT, cluster_objects
from bridge.core.geometry import iou_matrix
from bridge.scorers.consensus_review import ConsensusReview

LABELS = LabelSet(("cat", "dog"))
kinds = st.sampled_from((*LABELS.names, "not in the set"))
shapes = st.one_of(good_boxes(), good_boxes(turned=False), ugly_boxes)


@st.composite
def teams(draw: st.DrawFn) -> list[Record]:
    records = []
    for i in range(draw(st.integers(0, 3))):
        work = []
        for who in ("ann", "bob", "cid")[: draw(st.integers(0, 3))]:
            drawn = draw(st.lists(st.tuples(kinds, shapes), max_size=4))
            objects = tuple(Annotation(f"{i}.{who}.{k}", label, shape) for k, (label, shape) in enumerate(drawn))
            work.append(Submission(f"{i}.{who}", who, objects))
        seen = draw(
            st.lists(st.builds(Prediction, kinds, shapes, confidences, st.sampled_from(("m", "n"))), max_size=4)
        )
        records.append(Record(Item(str(i), f"{i}.jpg", "", 640, 480), tuple(work), tuple(seen), predicted_by=("m",)))
    return records


@settings(deadline=None)
@given(teams())
def test_findings_keep_the_contract(records: list[Record]) -> None:
    found = ConsensusReview().find("t", LABELS, records)
    assert len({f.id for f in found}) == len(found)
    about = [(f.error, a) for f in found for a in f.annotation_ids]
    assert len(set(about)) == len(about)
    several = {r.item.id for r in records if len(r.submissions) > 1}
    assert {f.item_id for f in found} <= several
    assert all(0 < f.score <= 1 for f in found)


@settings(max_examples=60, deadline=None)
@given(teams(), st.randoms(use_true_random=False))
def test_the_order_of_images_people_and_predictions_does_not_matter(records: list[Record], random: object) -> None:
    def shuffled(values: tuple) -> tuple:
        values = list(values)
        random.shuffle(values)
        return tuple(values)

    mixed = [
        replace(r, submissions=shuffled(r.submissions), predictions=shuffled(r.predictions))
        for r in shuffled(tuple(records))
    ]
    # A fused box may differ in its last digit and so, rounded, in a finding's id: what is compared is what is said.
    here, there = (
        sorted((f.submission_id, str(f.error), f.annotation_ids, f.label, f.score) for f in found)
        for found in (ConsensusReview().find("t", LABELS, records), ConsensusReview().find("t", LABELS, mixed))
    )
    assert [row[:3] for row in here] == [row[:3] for row in there]
    assert [row[4] for row in here] == pytest.approx([row[4] for row in there], abs=1e-6)


@given(st.lists(st.tuples(st.integers(0, 3), good_boxes()), max_size=9), st.permutations(range(4)))
def test_clusters_hold_one_object_of_each_and_only_close_ones(rows: list, names: list[int]) -> None:
    rater = np.array([r for r, _ in rows], dtype=np.int64)
    xyxy = np.array([b.xyxy for _, b in rows]).reshape(-1, 4)
    rotation = np.array([b.rotation for _, b in rows], dtype=np.float64)
    cluster = cluster_objects(rater, xyxy, rotation)
    iou = iou_matrix(xyxy, xyxy, rotation, rotation)
    assert sorted(set(cluster.tolist())) == list(range(len(set(cluster.tolist()))))
    for c in set(cluster.tolist()):
        members = np.flatnonzero(cluster == c)
        assert len(set(rater[members].tolist())) == len(members)
        assert (iou[np.ix_(members, members)] >= SAME_OBJECT).all()
    renamed = cluster_objects(np.array(names)[rater], xyxy, rotation)
    assert (renamed == cluster).all()
