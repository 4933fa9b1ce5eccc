"""CVAT's tracks: keyframes, what lies between them, and gaps."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import pytest

from bridge.core.annotations import Box, Polygon, Shape
from bridge.dialects.cvat_labels import Attribute, CvatLabels, Label
from bridge.dialects.cvat_tracks import TrackPoint, TrackReading, read_tracks, track_on

CAR = Label(1, "car", attributes=(Attribute(5, "hue", "text"), Attribute(6, "speed", "text", mutable=True)))
LABELS = CvatLabels((CAR,), {1: CAR}, {"car": CAR})
SIZE = (100, 50)


def key(frame: int, *points: float, **changes: Any) -> dict[str, Any]:
    return {
        "id": 900 + frame,
        "type": "rectangle",
        "frame": frame,
        "points": list(points),
        "rotation": 0.0,
        "occluded": False,
        "outside": False,
        "z_order": 0,
        "attributes": [],
        **changes,
    }


def track(*keys: Any, **changes: Any) -> dict[str, Any]:
    return {
        "id": 7,
        "label_id": 1,
        "frame": 0,
        "group": 0,
        "source": "manual",
        "attributes": [],
        "elements": [],
        "shapes": list(keys),
        **changes,
    }


def read(*tracks: Any, frames: Iterable[int] = range(20), size: tuple[int, int] | None = SIZE) -> TrackReading:
    return read_tracks(list(tracks), frames, LABELS, lambda frame: size, "job-6")


def shapes(reading: TrackReading) -> dict[int, Shape]:
    assert not reading.problems
    return {o.frame: o.annotation.shape for o in reading.objects}


class TestInterpolation:
    def test_boxes_move_linearly_and_the_last_one_holds(self) -> None:
        reading = read(track(key(2, 0, 0, 10, 10), key(6, 8, 4, 18, 18)), frames=range(9))
        assert shapes(reading) == {
            2: Box(0, 0, 10, 10),
            3: Box(2, 1, 12, 12),
            4: Box(4, 2, 14, 14),
            5: Box(6, 3, 16, 16),
            6: Box(8, 4, 18, 18),
            7: Box(8, 4, 18, 18),
            8: Box(8, 4, 18, 18),
        }
        assert [o.frame for o in reading.objects if o.keyframe] == [2, 6]
        assert reading.objects[1].annotation.id == "track:7@3"
        assert {o.annotation.label for o in reading.objects} == {"car"}

    @pytest.mark.parametrize(
        ("start", "end", "middle"), [(10, 50, 30), (350, 20, 5), (20, 350, 5), (0, 0, 0), (-10, 10, 0), (5, 365, 5)]
    )
    def test_boxes_turn_the_short_way(self, start: float, end: float, middle: float) -> None:
        keys = (key(0, 0, 0, 10, 10, rotation=start), key(2, 0, 0, 10, 10, rotation=end))
        box = shapes(read(track(*keys), frames=[1]))[1]
        assert isinstance(box, Box)
        assert box.rotation == pytest.approx(middle)

    def test_polygons_move_point_by_point_or_hold(self) -> None:
        ring = key(0, 0, 0, 4, 0, 4, 4, type="polygon")
        moved = key(2, 2, 0, 6, 0, 6, 4, type="polygon")
        more = key(4, 2, 0, 6, 0, 6, 4, 2, 4, type="polygon")
        found = shapes(read(track(ring, moved, more), frames=[1, 3]))
        assert found == {1: Polygon(((1, 0), (5, 0), (5, 4))), 3: Polygon(((2, 0), (6, 0), (6, 4)))}

    def test_ellipses_move_as_the_boxes_around_them(self) -> None:
        keys = (key(0, 10, 10, 14, 8, type="ellipse"), key(2, 20, 10, 26, 8, type="ellipse"))
        assert shapes(read(track(*keys), frames=[1])) == {1: Box(10, 8, 20, 12)}

    def test_masks_hold(self) -> None:
        mask = key(0, 0, 4, 0, 0, 1, 1, type="mask")
        other = key(2, 0, 4, 5, 5, 6, 6, type="mask")
        found = shapes(read(track(mask, other), frames=range(4)))
        assert found[0] == found[1] != found[2] == found[3]

    def test_between_two_types_the_first_holds(self) -> None:
        keys = (key(0, 0, 0, 10, 10), key(2, 10, 10, 14, 8, type="ellipse"))
        assert shapes(read(track(*keys), frames=[1])) == {1: Box(0, 0, 10, 10)}

    def test_what_is_outside_ends_and_comes_back(self) -> None:
        box = (0, 0, 10, 10)
        keys = (key(1, *box), key(3, *box, outside=True), key(6, *box), key(8, *box, outside=True))
        reading = read(track(*keys))
        assert list(shapes(reading)) == [1, 2, 6, 7]

    def test_keyframes_may_stand_in_any_order(self) -> None:
        keys = [key(2, 0, 0, 10, 10), key(6, 8, 4, 18, 18)]
        assert read(track(*keys)) == read(track(*reversed(keys)))

    def test_one_frame(self) -> None:
        """What a keyframe on it would be: attributes and occlusion are those of the keyframe before."""
        fast = [{"spec_id": 6, "value": "fast"}]
        given = track(key(2, 0, 0, 10, 10, occluded=True, attributes=fast), key(6, 8, 4, 18, 18))
        assert track_on(given, 1) is None
        assert track_on(given, 6) == TrackPoint(given["shapes"][1], True, False, False)
        between, behind = track_on(given, 4), track_on(given, 9)
        assert between
        assert behind
        assert between.entry == {
            **{name: value for name, value in given["shapes"][0].items() if name != "id"},
            "frame": 4,
            "points": [4, 2, 14, 14],
        }
        assert (between.keyframe, between.repeated, between.morphing) == (False, False, False)
        assert (behind.entry["points"], behind.entry["occluded"]) == ([8, 4, 18, 18], False)

    @pytest.mark.parametrize(("frame", "repeated"), [(2, True), (4, True), (6, False), (7, False)])
    def test_one_frame_among_repeated_keyframes(self, frame: int, repeated: bool) -> None:
        box = (0, 0, 10, 10)
        here = track_on(track(key(2, *box), key(2, *box), key(6, *box), key(9, *box)), frame)
        assert here
        assert here.repeated is repeated

    def test_origin(self) -> None:
        assert read(track(key(0, 0, 0, 9, 9), source="auto")).objects[0].annotation.origin == "prediction"


class TestFrames:
    def test_only_those_asked_for_in_rising_order(self) -> None:
        one = track(key(0, 0, 0, 10, 10), key(10, 10, 10, 20, 20))
        assert [o.frame for o in read(one, frames=[9, 3, 3, 12]).objects] == [3, 9, 12]
        assert [o.frame for o in read(one, frames=range(12, 0, -4)).objects] == [4, 8, 12]
        assert read(one, frames=[]).objects == ()

    def test_a_part_is_the_same_as_that_part_of_the_whole(self) -> None:
        one = track(key(0, 0, 0, 10, 10), key(7, 7, 0, 17, 10, outside=True), key(9, 7, 0, 17, 10))
        whole = read(one).objects
        assert read(one, frames=range(5, 10)).objects == tuple(o for o in whole if 5 <= o.frame < 10)

    def test_a_long_track_costs_what_is_asked_for(self) -> None:
        one = track(key(0, 0, 0, 10, 10), key(10**15, 10, 10, 20, 20))
        assert [o.frame for o in read(one, frames=range(5 * 10**14, 5 * 10**14 + 2)).objects] == [
            5 * 10**14,
            5 * 10**14 + 1,
        ]


class TestTrouble:
    def test_a_broken_keyframe_is_reported_and_nothing_is_made_up_around_it(self) -> None:
        keys = (key(0, 0, 0, 10, 10), key(3, 1, 2), key(6, 0, 0, 10, 10))
        reading = read(track(*keys), frames=range(8))
        assert [o.frame for o in reading.objects] == [0, 6, 7]
        ((frame, problem),) = reading.problems
        assert (frame, problem.kind, problem.annotation_id) == (3, "degenerate_shape", "track:7@3")
        assert "track 7 on frame 3: it cannot be read: the rectangle has 2 coordinates" in problem.message
        assert read(track(*keys), frames=[1, 2, 4]) == TrackReading()

    def test_an_object_that_leaves_the_frame_is_reported_on_keyframes_only(self) -> None:
        reading = read(track(key(0, 90, 0, 98, 10), key(10, 190, 0, 198, 10)), frames=range(12))
        assert [o.frame for o in reading.objects] == [0]
        assert [(frame, p.kind) for frame, p in reading.problems] == [(10, "out_of_image")]

    def test_a_box_without_area_is_given_and_reported_once(self) -> None:
        reading = read(track(key(0, 5, 5, 5, 9)), frames=range(3))
        assert [o.frame for o in reading.objects] == [0, 1, 2]
        assert [frame for frame, _ in reading.problems] == [0]

    def test_a_label_that_is_gone(self) -> None:
        reading = read(track(key(0, 0, 0, 10, 10), label_id=3), frames=range(3))
        assert {o.annotation.label for o in reading.objects} == {"#3"}
        assert [(frame, p.kind) for frame, p in reading.problems] == [(0, "unknown_label")]

    def test_of_two_keyframes_on_one_frame_the_first_counts(self) -> None:
        reading = read(track(key(0, 0, 0, 10, 10), key(2, 1, 1, 9, 9), key(2, 5, 5, 9, 9)), frames=range(4))
        assert [o.annotation.shape for o in reading.objects[2:]] == [Box(1, 1, 9, 9)] * 2
        assert ["several keyframes" in p.message for _, p in reading.problems] == [True]

    def test_other_types_are_left_alone_but_not_lost(self) -> None:
        reading = read(
            track(key(0, 1, 1, type="points")),
            track(key(0, type="skeleton"), id=8),
            track(key(0, 0, 0, 9, 9), id=9, elements=[{"label_id": 4}]),
        )
        assert reading == TrackReading(passed_over={"track:7": "points", "track:8": "skeleton", "track:9": "skeleton"})

    @pytest.mark.parametrize(
        "broken",
        [
            None,
            3,
            {},
            track(),
            track(key(0, 0, 0, 9, 9), id=None),
            track(shapes=5),
            track({"type": "rectangle"}),
            track({"frame": "3"}),
        ],
    )
    def test_a_track_that_cannot_be_read_does_not_stop_the_others(self, broken: object) -> None:
        reading = read(broken, track(key(0, 0, 0, 9, 9), id=8), frames=[0])
        assert [o.annotation.id for o in reading.objects] == ["track:8@0"]
        assert [(frame, p.kind) for frame, p in reading.problems] == [(None, "degenerate_shape")]

    def test_two_tracks_of_one_id(self) -> None:
        reading = read(track(key(0, 0, 0, 9, 9)), track(key(0, 1, 1, 9, 9)), frames=[0])
        assert len(reading.objects) == len(reading.problems) == 1

    @pytest.mark.parametrize("tracks", [None, {}, "x"])
    def test_no_list(self, tracks: object) -> None:
        assert len(read_tracks(tracks, range(3), LABELS, lambda frame: SIZE).problems) == 1

    @pytest.mark.parametrize("rotation", ["x", math.nan, 10**400, [1]])
    def test_rotations_that_are_none(self, rotation: object) -> None:
        keys = (key(0, 0, 0, 9, 9, rotation=rotation), key(4, 0, 0, 9, 9, rotation=rotation))
        assert len(read(track(*keys)).problems) == 2
        ring = (key(0, 0, 0, 9, 0, 9, 9, type="polygon", rotation=rotation), key(4, 0, 0, 9, 0, 9, 9, type="polygon"))
        assert len(shapes(read(track(*ring), frames=range(6)))) == 6

    def test_masks_without_a_size(self) -> None:
        reading = read(track(key(0, 0, 4, 0, 0, 1, 1, type="mask")), frames=range(3), size=None)
        assert not reading.objects
        assert [frame for frame, _ in reading.problems] == [0]
