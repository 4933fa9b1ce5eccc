"""Tiles: small objects in large images are found, and each object once, wherever the borders of tiles fall."""

from __future__ import annotations

import tracemalloc
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy import ndimage

from bridge import scenes
from bridge.core.geometry import iou_matrix
from bridge.core.masks import MaskCrop
from bridge.core.predictor import Kind, region_scorer
from bridge.core.probes import Probes
from bridge.errors import ImageError, ModelError
from ml_backend.models import Detections, tiled
from ml_backend.models.catalogue import ModelSpec, describe, load, load_predictor
from ml_backend.models.tile_merge import Sighting, merge
from ml_backend.models.tiled import Tiled, tile_windows

Box = tuple[int, int, int, int]


class ShortSighted:
    """Finds patches of red and of blue, in an image that it first shrinks to at most ``sight`` pixels a side.

    A patch of which no pixel of the shrunk image is full is not seen: that is what a small input does to a network.
    """

    name = "short-1"
    classes = ("red", "blue")

    def __init__(self, sight: int, kind: Kind = "rectangle") -> None:
        self.sight, self.kind = sight, kind
        self.calls: list[list[tuple[int, int]]] = []

    def predict(self, images: Sequence[np.ndarray]) -> list[Detections]:
        self.calls.append([image.shape[:2] for image in images])
        return [self.look(image) for image in images]

    def look(self, image: np.ndarray) -> Detections:
        if not image.size:
            return Detections.none()
        factor = -(-max(image.shape[:2]) // self.sight)
        small = image[::factor, ::factor]
        if factor > 1:
            rows, columns = image.shape[0] // factor, image.shape[1] // factor
            strips = image[: rows * factor, : columns * factor].reshape(rows, factor, -1).min(1)
            small = strips.reshape(rows, columns, factor, 3).min(2)
        boxes, labels, masks = [], [], []
        for label, channel in enumerate((0, 2)):
            patches, _ = ndimage.label(small[..., channel] > 200)
            for number, (rows, columns) in enumerate(ndimage.find_objects(patches), 1):
                boxes.append([columns.start, rows.start, columns.stop, rows.stop])
                labels.append(label)
                bits = np.kron(patches[rows, columns] == number, np.ones((factor, factor), bool))
                masks.append(MaskCrop(columns.start * factor, rows.start * factor, bits))
        # Larger patches are surer; pieces of an object are thus less sure than the whole, as with real detectors.
        size = np.array([np.ptp(box) + 1.0 for box in boxes]) if boxes else np.zeros(0)
        confidence = 0.5 + 0.4 * np.minimum(size / 400, 1)
        order = np.argsort(-confidence, kind="stable")
        return Detections(
            np.array(boxes, float).reshape(-1, 4)[order] * factor,
            np.array(labels, np.int64)[order],
            confidence[order],
            tuple(masks[i] for i in order) if self.kind == "mask" else (),
        )


def picture(width: int, height: int, *boxes: Box, channel: int = 0) -> np.ndarray:
    image = np.zeros((height, width, 3), np.uint8)
    for x1, y1, x2, y2 in boxes:
        image[y1:y2, x1:x2, channel] = 255
    return image


def obeys_the_protocol(found: Detections, width: int, height: int, classes: int) -> None:
    assert found.xyxy.dtype == np.float64
    assert found.xyxy.shape == (len(found.label), 4)
    assert (found.label.dtype, found.confidence.dtype) == (np.int64, np.float64)
    assert np.isfinite(found.xyxy).all()
    assert (found.xyxy >= 0).all()
    assert (found.xyxy <= (width, height, width, height)).all()
    assert (found.xyxy[:, 2:] > found.xyxy[:, :2]).all()
    assert ((found.label >= 0) & (found.label < classes)).all()
    assert (np.diff(found.confidence) <= 0).all()


# What tiles are for.


def test_what_is_too_small_in_the_whole_image_is_found_in_tiles() -> None:
    near, far = (100, 200, 118, 216), (5212, 3702, 5230, 3720)
    image = picture(6000, 4000, near, far)
    (blind,) = ShortSighted(320).predict([image])
    (found,) = Tiled(ShortSighted(320), 640).predict([image])
    assert len(blind.label) == 0
    assert len(found.label) == 2
    assert (iou_matrix(np.array([near, far], float), found.xyxy).max(axis=1) > 0.75).all()


@pytest.mark.slow
def test_the_embedded_model_finds_parts_in_a_large_photograph() -> None:
    scene = scenes.draw_scene(3, 640, 480)
    image = np.empty((4000, 6000, 3), np.uint8)
    image[:] = scene.image.mean(axis=(0, 1))
    left, top = 2900, 1800
    image[top : top + 480, left : left + 640] = scene.image
    truth = scene.xyxy + np.tile([left, top], 2)
    plain = load_predictor(device="cpu")
    tiled_model: Any = load(ModelSpec(device="cpu", tile=640))
    (blind,) = plain.predict([image])
    (found,) = tiled_model.predict([image])

    def hits(answer: Detections) -> int:
        if not len(answer.label):
            return 0
        same = np.array([[answer_label == t for t in scene.labels] for answer_label in named(plain, answer)])
        return int(((iou_matrix(answer.xyxy, truth) > 0.5) & same).any(axis=0).sum())

    assert len(truth) == 8
    assert hits(blind) == 0
    assert hits(found) >= 7
    # Each part once, and little else on the empty bench around.
    assert len(found.label) <= 11


def named(model: Any, found: Detections) -> list[str]:
    return [model.classes[i] for i in found.label]


# Each object once.


@st.composite
def separate_boxes(draw: st.DrawFn) -> list[Box]:
    """Up to 12 boxes of 20 to 150 pixels with two pixels between them, on a picture of 900 x 700."""
    boxes: list[Box] = []
    for _ in range(draw(st.integers(1, 12))):
        width, height = draw(st.integers(20, 150)), draw(st.integers(20, 150))
        x, y = draw(st.integers(0, 900 - width)), draw(st.integers(0, 700 - height))
        if all(x > b[2] + 2 or x + width + 2 < b[0] or y > b[3] + 2 or y + height + 2 < b[1] for b in boxes):
            boxes.append((x, y, x + width, y + height))
    return boxes


@settings(deadline=None, max_examples=60)
@given(separate_boxes(), st.sampled_from([1, 900]))
@example([(150, 150, 300, 300)], 1)
@example([(0, 0, 150, 150), (750, 550, 900, 700)], 1)
def test_each_object_is_found_once_wherever_the_borders_fall(boxes: list[Box], sight_of_whole: int) -> None:
    class TwoSights(ShortSighted):
        """Sees all in tiles; the whole image it sees only in half of the examples."""

        def look(self, image: np.ndarray) -> Detections:
            whole = max(image.shape[:2]) == 900
            return Detections.none() if whole and sight_of_whole == 1 else super().look(image)

    (found,) = Tiled(TwoSights(900), 200).predict([picture(900, 700, *boxes)])
    obeys_the_protocol(found, 900, 700, 2)
    assert sorted(map(tuple, found.xyxy.tolist())) == sorted(boxes)


@settings(deadline=None, max_examples=30)
@given(st.integers(150, 800), st.integers(150, 650), st.integers(0, 2**31))
def test_an_object_larger_than_tiles_is_put_together(width: int, height: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    x, y = int(random.integers(0, 901 - width)), int(random.integers(0, 701 - height))
    image = picture(900, 700, (x, y, x + width, y + height))

    class Close(ShortSighted):
        def look(self, image: np.ndarray) -> Detections:
            return Detections.none() if max(image.shape[:2]) == 900 else super().look(image)

    (found,) = Tiled(Close(900), 200).predict([image])
    np.testing.assert_array_equal(found.xyxy, [[x, y, x + width, y + height]])


def test_a_detector_that_is_some_pixels_off_does_not_tell_pieces_for_objects() -> None:
    class Shy(ShortSighted):
        """Draws its boxes six pixels too small on each side, and does not see the whole image."""

        def look(self, image: np.ndarray) -> Detections:
            if image.shape[1] == 640:
                return Detections.none()
            found = super().look(image)
            return Detections(found.xyxy + np.array([6, 6, -6, -6]), found.label, found.confidence)

    (found,) = Tiled(Shy(640), 320).predict([picture(640, 320, (180, 100, 420, 200))])
    assert found.xyxy.tolist() == [[186, 106, 414, 194]]


def test_neighbours_of_different_classes_stay_apart() -> None:
    image = picture(600, 200, (80, 50, 180, 150)) + picture(600, 200, (130, 60, 230, 140), channel=2)
    (found,) = Tiled(ShortSighted(600), 200).predict([image])
    assert sorted(zip(found.label.tolist(), map(tuple, found.xyxy.tolist()), strict=True)) == [
        (0, (80, 50, 180, 150)),
        (1, (130, 60, 230, 140)),
    ]


def test_masks_are_put_together_from_pieces() -> None:
    y, x = np.mgrid[:500, :700]
    truth = [(x - 350) ** 2 / 200**2 + (y - 260) ** 2 / 130**2 < 1, (x - 90) ** 2 + (y - 400) ** 2 < 40**2]
    image = np.zeros((500, 700, 3), np.uint8)
    image[truth[0] | truth[1], 0] = 255

    class Close(ShortSighted):
        def look(self, image: np.ndarray) -> Detections:
            return Detections.none() if image.shape[1] == 700 else super().look(image)

    model = Tiled(Close(700, "mask"), 256)
    (found,) = model.predict([image])
    assert model.kind == "mask"
    assert len(found.masks) == len(found.label) == 2
    for mask, wanted, xyxy in zip(found.masks, truth, found.xyxy, strict=True):
        assert mask.xyxy == tuple(xyxy)
        np.testing.assert_array_equal(mask.full(500, 700), wanted)


# Images that need no tiles, and the contract.


def test_small_images_get_the_predictors_own_answer_in_one_call() -> None:
    images = [picture(300, 200, (10, 10, 60, 60)), picture(320, 320, (1, 2, 30, 40)), np.zeros((0, 900, 3), np.uint8)]
    plain, inner = ShortSighted(320), ShortSighted(320)
    large = picture(500, 200, (400, 50, 450, 100))
    found = Tiled(inner, 320).predict([images[0], large, *images[1:]])
    assert inner.calls[0] == [(200, 300), (320, 320), (0, 900)]
    for one, wanted in zip([found[0], *found[2:]], [*plain.predict(images[:2]), Detections.none()], strict=True):
        np.testing.assert_array_equal(one.xyxy, wanted.xyxy)
        np.testing.assert_array_equal(one.confidence, wanted.confidence)
    assert found[1].xyxy.tolist() == [[400, 50, 450, 100]]


class Noisy:
    """Anything that the contract allows, the same for the same pixels."""

    name, classes = "noisy-1", ("a", "b", "c")

    def __init__(self, kind: Kind, count: int) -> None:
        self.kind, self.count = kind, count

    def predict(self, images: Sequence[np.ndarray]) -> list[Detections]:
        return [self.look(image) for image in images]

    def look(self, image: np.ndarray) -> Detections:
        height, width = image.shape[:2]
        random = np.random.default_rng([height, width, int(image[0, 0, 0]), self.count])
        low = random.integers(0, (width, height), (self.count, 2))
        high = np.minimum(low + random.integers(1, 90, (self.count, 2)), (width, height))
        corners = np.hstack([low, high]).tolist()
        masks = [MaskCrop(x1, y1, np.ones((y2 - y1, x2 - x1), bool)) for x1, y1, x2, y2 in corners]
        return Detections(
            np.array(corners, float).reshape(-1, 4),
            random.integers(0, 3, self.count),
            -np.sort(-random.random(self.count)),
            tuple(masks) if self.kind == "mask" else (),
        )


@settings(deadline=None, max_examples=80)
@given(
    st.integers(1, 700), st.integers(1, 700), st.integers(64, 300), st.integers(0, 40), st.sampled_from(["mask", ""])
)
def test_every_detection_lies_in_the_image(width: int, height: int, tile: int, count: int, kind: str) -> None:
    image = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    inner = Noisy("mask" if kind else "rectangle", count)
    (found,) = Tiled(inner, tile).predict([image])
    obeys_the_protocol(found, width, height, 3)
    assert len(found.masks) == (len(found.label) if kind else 0)
    for mask, box in zip(found.masks, found.xyxy, strict=bool(kind)):
        assert mask.xyxy == tuple(box)
    (again,) = Tiled(inner, tile).predict([image])
    np.testing.assert_array_equal(found.xyxy, again.xyxy)
    # Nothing is lost for something less sure.
    (whole,) = inner.predict([image])
    for label in range(3):
        ours, theirs = found.confidence[found.label == label], whole.confidence[whole.label == label]
        assert max(ours, default=0) >= max(theirs, default=0)


@settings(deadline=None, max_examples=100)
@given(st.integers(1, 20_000), st.integers(1, 20_000), st.integers(64, 2000))
@example(20_000, 20_000, 64)
def test_windows_cover_the_image_and_overlap(width: int, height: int, tile: int) -> None:
    windows = np.array(list(tile_windows(width, height, tile)))
    assert len(windows) <= 1024
    for low, high, length in ((0, 2, width), (1, 3, height)):
        spans = sorted({(w[low], w[high]) for w in windows.tolist()})
        assert (spans[0][0], spans[-1][1]) == (0, length)
        side = spans[0][1]
        assert all(b - a == side for a, b in spans)
        if len(windows) < 512:
            assert side == min(tile, length)
        for (_, end), (start, _) in pairwise(spans):
            assert end - start >= 0.2 * side - 1


def test_tiles_are_streamed_in_little_memory() -> None:
    class Counter(ShortSighted):
        def look(self, image: np.ndarray) -> Detections:
            return Detections.none()

    counter = Counter(1)
    # A view of one pixel: the test itself needs no 300 MB.
    huge = np.broadcast_to(np.zeros(3, np.uint8), (10_000, 10_000, 3))
    tracemalloc.start()
    try:
        Tiled(counter, 512).predict([huge])
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert counter.calls[0] == [(10_000, 10_000)]
    assert max(map(len, counter.calls)) <= tiled.BATCH
    assert sum(map(len, counter.calls)) > 500
    assert peak < 20_000_000


def test_what_waits_for_merging_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tiled, "MAX_DETECTIONS", 50)
    monkeypatch.setattr(tiled, "MAX_MASK_BYTES", 30_000)
    image = np.random.default_rng(0).integers(0, 256, (900, 900, 3), dtype=np.uint8)
    (boxes,) = Tiled(Noisy("rectangle", 30), 128).predict([image])
    (masks,) = Tiled(Noisy("mask", 30), 128).predict([image])
    assert 0 < len(boxes.label) <= 50
    assert 0 < sum(mask.bits.nbytes for mask in masks.masks) <= 60_000
    # The surest are kept.
    assert boxes.confidence[0] > 0.99


# Which of two sightings counts.

WINDOWS = np.array([[0, 0, 180, 100], [0, 0, 100, 100], [80, 0, 180, 100]], dtype=float)


def merged(*rows: tuple[Box, float, int, bool], labels: Sequence[int] | None = None) -> list[tuple[list[float], float]]:
    boxes, confidence, views, cut = zip(*rows, strict=True)
    numbers = np.array(labels or [0] * len(rows))
    seen = Sighting(np.array(boxes, float), numbers, np.array(confidence), np.array(views), np.array(cut), ())
    found = merge(seen, WINDOWS)
    return [(box, round(c, 3)) for box, c in zip(found.xyxy.tolist(), found.confidence.tolist(), strict=True)]


def test_the_surer_of_two_whole_sightings_stays() -> None:
    rows = [((82, 10, 95, 30), 0.6, 1, False), ((83, 10, 95, 30), 0.8, 2, False), ((82, 10, 96, 30), 0.7, 0, False)]
    assert merged(*rows) == [([83, 10, 95, 30], 0.8)]
    assert len(merged(*rows, labels=[0, 1, 2])) == 3


def test_what_one_view_tells_apart_stays_apart() -> None:
    rows = [((10, 10, 40, 30), 0.9, 1, False), ((14, 10, 44, 30), 0.8, 1, False)]
    assert len(merged(*rows)) == 2


def test_a_surer_piece_lends_its_confidence_to_the_whole() -> None:
    rows = [((85, 10, 100, 40), 0.9, 1, True), ((85, 10, 130, 40), 0.6, 2, False)]
    assert merged(*rows) == [([85, 10, 130, 40], 0.9)]


def test_a_faint_whole_does_not_hide_a_sure_piece() -> None:
    rows = [((85, 10, 100, 40), 0.9, 1, True), ((85, 10, 130, 40), 0.2, 2, False)]
    assert merged(*rows) == [([85, 10, 100, 40], 0.9), ([85, 10, 130, 40], 0.2)]


def test_a_piece_inside_of_a_surer_whole_goes() -> None:
    # Within the left tile the two do not agree: the piece is much smaller than what the whole view shows there.
    rows = [((90, 10, 100, 20), 0.5, 1, True), ((10, 5, 170, 90), 0.6, 0, False)]
    assert merged(*rows) == [([10, 5, 170, 90], 0.6)]


def test_faint_pieces_do_not_stretch_a_sure_one() -> None:
    rows = [((50, 10, 100, 40), 0.9, 1, True), ((80, 10, 150, 42), 0.1, 2, True)]
    assert merged(*rows) == [([50, 10, 100, 40], 0.9), ([80, 10, 150, 42], 0.1)]
    rows[1] = (*rows[1][:1], 0.5, *rows[1][2:])
    assert merged(*rows) == [([50, 10, 150, 42], 0.9)]


def test_two_pieces_in_one_view_are_two_objects() -> None:
    rows = [((50, 10, 100, 40), 0.9, 1, True), ((55, 12, 100, 44), 0.8, 1, True), ((80, 10, 150, 42), 0.85, 2, True)]
    assert merged(*rows) == [([50, 10, 150, 42], 0.9), ([55, 12, 100, 44], 0.8)]


def test_a_faint_piece_inside_of_what_was_put_together_goes() -> None:
    rows = [((50, 10, 100, 40), 0.9, 1, True), ((80, 10, 150, 42), 0.8, 2, True), ((85, 12, 140, 40), 0.1, 0, True)]
    assert merged(*rows) == [([50, 10, 150, 42], 0.9)]


# Set-up.


def test_name_and_card() -> None:
    model = Tiled(ShortSighted(9), 640)
    assert (model.name, model.classes, model.kind) == ("short-1-tile640", ("red", "blue"), "rectangle")
    spec = ModelSpec(device="cpu", tile=512)
    assert load(spec).name == describe(spec).name


@pytest.mark.parametrize("tile", [63, 0, -5])
def test_tiles_that_are_too_small(tile: int) -> None:
    with pytest.raises(ModelError, match=f"the tile size is {tile}"):
        Tiled(ShortSighted(9), tile)
    assert Tiled(ShortSighted(9), 64)


def test_tags_take_no_tiles() -> None:
    with pytest.raises(ModelError, match="tags whole images"):
        Tiled(ShortSighted(9, "tag"), 640)


@pytest.mark.parametrize(
    "image", [np.zeros((5, 5), np.uint8), np.zeros((5, 5, 4), np.uint8), np.zeros((500, 500, 3), np.float32)]
)
def test_arrays_that_are_no_rgb_images_are_named(image: Any) -> None:
    with pytest.raises(ImageError, match="image 1 of the call"):
        Tiled(ShortSighted(9), 64).predict([np.zeros((8, 8, 3), np.uint8), image])


# Given boxes.


class Sizing(ShortSighted):
    """Says of a box how much of it is red, and answers with the box itself; notes what it is shown."""

    def score_regions(self, image: np.ndarray, boxes: np.ndarray) -> Probes:
        self.calls.append([image.shape[:2]])
        answers = Probes.unasked(len(boxes), 2)
        for row, (x1, y1, x2, y2) in enumerate(boxes.round().astype(int).tolist()):
            if min(x1, y1) >= 0 and x2 <= image.shape[1] and y2 <= image.shape[0]:
                red = float((image[y1:y2, x1:x2, 0] > 200).mean())
                answers.probabilities[row] = [1 - red, red, 0]
                answers.xyxy[row] = boxes[row]
        return answers


def ask(model: Any, image: np.ndarray, *boxes: Box) -> Probes:
    scorer = region_scorer(model)
    assert scorer is not None
    return scorer.score_regions(image, np.array(boxes, float).reshape(-1, 4))


def test_each_box_is_asked_about_where_a_tile_shows_it_whole() -> None:
    near, far, wide = (10, 20, 60, 70), (800, 600, 860, 690), (100, 100, 500, 200)
    image = picture(900, 700, near, wide)
    inner = Sizing(900)
    answer = ask(Tiled(inner, 200), image, far, wide, near, near)
    np.testing.assert_array_equal(answer.xyxy, [far, wide, near, near])
    np.testing.assert_array_equal(answer.probabilities[:, 1], [0, 1, 1, 1])
    assert sorted(inner.calls) == [[(200, 200)], [(200, 200)], [(700, 900)]]


@settings(deadline=None, max_examples=60)
@given(separate_boxes(), st.integers(150, 500))
def test_given_boxes_are_told_in_pixels_of_the_image(boxes: list[Box], tile: int) -> None:
    answer = ask(Tiled(Sizing(900), tile), picture(900, 700, *boxes), *boxes)
    np.testing.assert_array_equal(answer.xyxy, boxes)
    np.testing.assert_array_equal(answer.probabilities, np.tile([0.0, 1.0, 0.0], (len(boxes), 1)))


def test_an_image_no_larger_than_a_tile_is_asked_about_as_it_is() -> None:
    inner = Sizing(900)
    ask(Tiled(inner, 200), picture(200, 150), (10, 10, 20, 20))
    assert inner.calls == [[(150, 200)]]


def test_no_boxes_are_asked_about() -> None:
    answer = ask(Tiled(Sizing(900), 200), picture(900, 700))
    assert (answer.probabilities.shape, answer.xyxy.shape) == ((0, 3), (0, 4))


def test_tiles_of_a_model_that_cannot_be_asked_cannot_either() -> None:
    assert region_scorer(Tiled(ShortSighted(900), 200)) is None
