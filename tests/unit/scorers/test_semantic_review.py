"""Class maps: the patch that is wrong, and the image that holds it."""

from __future__ import annotations

import numpy as np
import pytest

from bridge.errors import DataError
from bridge.scorers.semantic_review import judge_map, pixel_quality, softmin


def scene(seed: int = 0, size: int = 48) -> tuple[np.ndarray, np.ndarray]:
    """A map with a square of class 1 on 0, and the probabilities of a model that is unsure along its outline only."""
    given = np.zeros((size, size), dtype=np.int64)
    given[10:30, 10:30] = 1
    noise = np.random.default_rng(seed).uniform(0.02, 0.1, (size, size))
    inside = np.where(given == 1, 1 - noise, noise)
    inside[10, 10:30] = inside[29, 10:30] = inside[10:30, 10] = inside[10:30, 29] = 0.02
    return given, np.stack([1 - inside, inside, np.zeros_like(inside)])


def test_cleanlab_has_the_same_softmin() -> None:
    rank = pytest.importorskip("cleanlab.segmentation.rank")
    given, probabilities = scene()
    score, quality = rank.get_label_quality_scores(given[None], probabilities[None], method="softmin", verbose=False)
    assert pixel_quality(given, probabilities) == pytest.approx(quality[0])
    assert softmin(pixel_quality(given, probabilities)) == pytest.approx(score[0])


def test_a_patch_outweighs_an_outline() -> None:
    """The model misses the outline by one pixel everywhere; that is less than a hole of 6 x 6 pixels elsewhere."""
    given, probabilities = scene()
    clean = judge_map(given, probabilities).score
    holed = given.copy()
    holed[15:21, 15:21] = 0
    # Without averaging both images have pixels that are as bad as can be.
    raw = [softmin(pixel_quality(m, probabilities)) for m in (given, holed)]
    assert raw[0] - raw[1] < 0.1
    assert judge_map(holed, probabilities).score > clean + 0.2


def test_the_regions_are_the_patches_with_the_worst_first() -> None:
    given, probabilities = scene()
    given[2:6, 40:44] = 1
    given[15:21, 16:23] = 0
    found = judge_map(given, probabilities).regions
    # The outline is a region too, long and thin; the two patches are there with box, area and classes.
    boxes = {(r.xyxy, r.area, r.given, r.likely) for r in found}
    assert ((16, 15, 23, 21), 42, 0, 1) in boxes
    assert ((40, 2, 44, 6), 16, 1, 0) in boxes
    assert all(0 < r.score <= 1 for r in found)
    assert [r.area * r.score for r in found] == sorted((r.area * r.score for r in found), reverse=True)
    assert all(r.area > 20 for r in judge_map(given, probabilities, smallest=21).regions)


def test_a_perfect_map_has_no_region() -> None:
    given, _ = scene()
    certain = np.stack([given == 0, given == 1]).astype(np.float32)
    judged = judge_map(given, certain)
    assert judged.regions == ()
    assert judged.score == pytest.approx(0)
    assert judged.quality == pytest.approx(np.ones(given.shape))


def test_turning_an_image_changes_nothing() -> None:
    given, probabilities = scene()
    given[15:21, 16:23] = 0
    turned = judge_map(np.rot90(given).copy(), np.rot90(probabilities, axes=(1, 2)).copy())
    assert turned.score == pytest.approx(judge_map(given, probabilities).score)
    assert turned.quality == pytest.approx(np.rot90(judge_map(given, probabilities).quality))


@pytest.mark.parametrize(
    ("given", "says"),
    [(np.zeros((3, 4), np.int64), "shape"), (np.full((3, 3), 2), "class 2"), (np.full((3, 3), -1), "class -1")],
)
def test_what_cannot_be_judged_is_named(given: np.ndarray, says: str) -> None:
    with pytest.raises(DataError, match=says):
        judge_map(given, np.full((2, 3, 3), 0.5))


def test_an_image_without_pixels_has_no_error() -> None:
    assert judge_map(np.zeros((0, 5), np.int64), np.zeros((2, 0, 5))).score == 0
