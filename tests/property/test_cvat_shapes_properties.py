"""Laws of CVAT's shapes: what is written reads the same, and nothing that CVAT may store stops the reading."""

from __future__ import annotations

from typing import Any

import numpy as np
import shapely
from cvat_sdk.masks import decode_mask, encode_mask
from hypothesis import assume, example, given
from hypothesis import strategies as st
from ugly import anything, good_boxes
from ugly import shapes as any_shapes

from bridge.core.annotations import Box, Mask, Polygon, Shape, revision_of
from bridge.core.rle import decode_coco, encode_coco
from bridge.dialects.cvat_labels import Attribute, CvatLabels, Label
from bridge.dialects.cvat_new_shapes import (
    mask_to_points,
    new_object,
)
from bridge.dialects.cvat_shapes import (
    FrameObjects,
    annotation_id_of,
    entry_revision,
    mask_from_points,
    read_frame,
    split_frames,
)
from bridge.dialects.cvat_tracks import read_tracks
from bridge.errors import DataError

SIZE = (60, 60)
TYPES = ("any", "rectangle", "polygon", "mask", "ellipse", "tag", "skeleton", "points")
KINDS = tuple(Label(i, kind, kind, (Attribute(50 + i, "score", "text"),)) for i, kind in enumerate(TYPES, 1))
LABELS = CvatLabels(KINDS, {k.id: k for k in KINDS}, {k.name: k for k in KINDS})

json_values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-3, 60), anything, st.just(10**400), st.text(max_size=5)),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=8,
)
points = st.one_of(
    st.lists(st.one_of(st.integers(0, 59), anything), max_size=9),
    st.lists(st.integers(0, 9).map(float), min_size=4, max_size=8),
    json_values,
)
entries = st.fixed_dictionaries(
    {},
    optional={
        "id": st.integers(0, 5) | json_values,
        "label_id": st.integers(0, 9) | json_values,
        "type": st.sampled_from((*TYPES, "polyline", "cuboid")) | json_values,
        "frame": st.integers(0, 4) | json_values,
        "source": st.sampled_from(("auto", "semi-auto", "manual", "file")) | json_values,
        "points": points,
        "rotation": anything | json_values,
        "occluded": st.booleans() | json_values,
        "outside": st.booleans() | json_values,
        "attributes": st.lists(st.fixed_dictionaries({"spec_id": st.integers(50, 60), "value": json_values}))
        | json_values,
        "elements": json_values,
        "score": json_values,
    },
)


@st.composite
def bitmaps(draw: st.DrawFn) -> np.ndarray:
    height, width = draw(st.integers(1, 30)), draw(st.integers(1, 30))
    noise = np.random.default_rng(draw(st.integers(0, 2**32 - 1))).random((height, width))
    mask = noise < draw(st.sampled_from((0.02, 0.5, 0.98, 1.0)))
    mask[draw(st.integers(0, height - 1)), draw(st.integers(0, width - 1))] = True
    mask[: draw(st.integers(0, height - 1))] &= draw(st.booleans())
    mask[:, : draw(st.integers(0, width - 1))] &= draw(st.booleans())
    return mask


@given(bitmaps())
def test_masks_round_trip_and_the_sdk_agrees(mask: np.ndarray) -> None:
    assume(mask.any())
    height, width = mask.shape
    written = mask_to_points(encode_coco(mask))
    np.testing.assert_array_equal(decode_mask(written, image_width=width, image_height=height), mask)
    theirs = encode_mask(mask)
    assert mask_from_points(written, height, width) == mask_from_points(theirs, height, width) == encode_coco(mask)


@given(st.one_of(good_boxes(), any_shapes), st.sampled_from(TYPES), st.floats(0, 1))
@example(Polygon(((0.0, 0.0), (0.0, 1e-160), (0.3, 0.3))), "any", 0.0)
@example(Polygon(((0.0, 0.0), (0.0, 1e-160), (1e-160, 0.0))), "any", 0.0)
@example(Box(-5.0, 1.0, 0.003, 5.0, 180.0), "any", 0.0)
@example(Box(0.0, 0.0, 1.7e308, 1.7e308, 640.0), "any", 0.0)
@example(Box(0.0, 0.0, 1.7e308, 1.7e308, 640.0), "polygon", 0.0)
@example(Box(0.0, 0.0, 0.3, 640.0, 5e-324), "any", 0.0)
@example(Box(1.0, 1.0, 1.004, 5.0), "ellipse", 0.0)
def test_what_is_written_is_ours_and_reads_the_same_or_says_why(shape: Shape, label: str, confidence: float) -> None:
    try:
        new = new_object(label, shape, 3, LABELS, SIZE, confidence=confidence, server_score=True)
    except DataError:
        return
    entry = {**new.body, "id": 1}
    reading = read_frame(FrameObjects(**{new.place: [entry]}), LABELS, SIZE)
    assert not reading.problems
    (again,) = reading.annotations
    assert again.label == label
    for attribute in new.body["attributes"]:
        assert abs(float(attribute["value"]) - confidence) <= 5e-5
    if new.place == "tags":
        return
    assert new.body["type"] in LABELS.by_name[label].takes
    written = new_object(label, again.shape, 3, LABELS, SIZE, confidence=confidence, server_score=True)
    assert entry_revision(written.body, LABELS) == entry_revision(entry, LABELS)


@given(good_boxes())
def test_a_box_in_the_frame_keeps_its_revision(box: Box) -> None:
    entry = {**new_object("any", box, 3, LABELS, SIZE).body, "id": 1}
    (again,) = read_frame(FrameObjects(shapes=[entry]), LABELS, SIZE).annotations
    kept = Box(*box.xyxy, box.rotation % 360)
    assert again.revision == revision_of("any", kept)


@given(st.lists(st.tuples(st.integers(-40, 100), st.integers(-40, 100)), min_size=3, max_size=7))
def test_a_cut_polygon_is_the_part_in_the_frame(ring: list[tuple[int, int]]) -> None:
    """Tolerance: points are rounded to 1/100 pixel, along at most 7 sides of 200 pixels."""
    whole = shapely.Polygon(ring)
    assume(whole.is_valid)
    inside = whole.intersection(shapely.box(0, 0, *SIZE)).area
    try:
        body = new_object("polygon", Polygon(tuple((float(x), float(y)) for x, y in ring)), 0, LABELS, SIZE).body
    except DataError:
        assert inside == 0
        return
    pairs = np.array(body["points"]).reshape(-1, 2)
    assert ((pairs >= 0) & (pairs <= SIZE)).all()
    x, y = pairs.T
    area = abs(float(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1)))) / 2
    assert abs(area - inside) <= 15


@given(st.lists(entries, max_size=4), st.lists(entries, max_size=3))
def test_nothing_that_is_stored_stops_the_reading(shapes: list[dict[str, Any]], tags: list[dict[str, Any]]) -> None:
    frames, _ = split_frames({"shapes": [*shapes, None, 3], "tags": tags})
    for objects in frames.values():
        for size in (SIZE, None):
            reading = read_frame(objects, LABELS, size)
            ids = [a.id for a in reading.annotations]
            assert len(set(ids)) == len(ids)
            told = {*ids, *reading.passed_over, *(p.annotation_id for p in reading.problems)}
            assert {annotation_id_of("shape", entry) for entry in objects.shapes} <= told
    for entry in (*shapes, *tags):
        assert entry_revision(entry, LABELS)


@given(st.lists(entries, max_size=4), json_values, st.integers(0, 5), st.integers(0, 9))
def test_nothing_in_a_track_stops_the_reading(keys: list[dict[str, Any]], elements: Any, start: int, stop: int) -> None:
    track = {"id": 1, "label_id": 1, "source": "manual", "shapes": keys, "elements": elements}
    for tracks in ([track], elements, [track, elements]):
        reading = read_tracks(tracks, range(start, stop), LABELS, lambda frame: SIZE)
        frames = [o.frame for o in reading.objects]
        assert frames == sorted(set(frames))
        assert all(start <= frame < stop for frame in frames)


@given(bitmaps(), st.integers(0, 2**32 - 1))
def test_any_edit_of_a_mask_changes_its_revision(mask: np.ndarray, seed: int) -> None:
    assume(mask.any())
    other = mask.copy()
    other.flat[seed % mask.size] ^= True
    assume(other.any())
    one, two = ({"type": "mask", "points": mask_to_points(encode_coco(m))} for m in (mask, other))
    assert entry_revision(one, LABELS) != entry_revision(two, LABELS)
    assert decode_coco(Mask(*mask.shape, encode_coco(mask).counts)).sum() == mask.sum()
