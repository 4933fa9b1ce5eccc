"""Pasting instance masks against torchvision's own."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.models.detection.roi_heads import paste_masks_in_image

from ml_backend.models import mask_paste as module
from ml_backend.models.mask_paste import paste


def grid(seed: int, cells: int = 28) -> np.ndarray:
    """Probabilities with an object of some shape in them."""
    random = np.random.default_rng(seed)
    rows, columns = np.mgrid[0:cells, 0:cells]
    centre, size = random.uniform(0, cells, 2), random.uniform(2, cells)
    distance = np.hypot(rows - centre[0], (columns - centre[1]) * random.uniform(0.5, 2))
    return (1 / (1 + np.exp(distance - size / 2)) * random.uniform(0.6, 1)).astype(np.float32)


def theirs(probabilities: np.ndarray, xyxy: list[float], height: int, width: int) -> np.ndarray:
    masks = torch.from_numpy(probabilities)[None, None]
    return np.asarray(paste_masks_in_image(masks, torch.tensor([xyxy]), (height, width))[0, 0])


@settings(deadline=None, max_examples=150)
@given(
    seed=st.integers(0, 10_000),
    corner=st.tuples(st.floats(0, 79, width=32), st.floats(0, 59, width=32)),
    sides=st.tuples(st.floats(0.125, 80, width=32), st.floats(0.125, 60, width=32)),
    cells=st.sampled_from([14, 28]),
)
def test_the_same_as_torchvision(
    seed: int, corner: tuple[float, float], sides: tuple[float, float], cells: int
) -> None:
    probabilities = grid(seed, cells)
    xyxy = [*corner, min(corner[0] + sides[0], 80), min(corner[1] + sides[1], 60)]
    share = theirs(probabilities, xyxy, 60, 80)
    found = paste(probabilities, np.array(xyxy, np.float32), 60, 80)
    bits = np.zeros((60, 80), bool) if found is None else found.full(60, 80)
    sure = np.abs(share - 0.5) > 1e-3
    np.testing.assert_array_equal(bits[sure], share[sure] > 0.5)
    if found is not None:
        assert found.area > 0
        assert found.left + found.bits.shape[1] <= 80
        assert found.top + found.bits.shape[0] <= 60


def test_nothing_is_no_mask() -> None:
    box = np.array([5, 5, 30, 30], np.float32)
    assert paste(np.zeros((28, 28), np.float32), box, 60, 80) is None
    assert paste(np.ones((28, 28), np.float32), np.array([200, 200, 230, 230], np.float32), 60, 80) is None


def test_strips_join_without_a_seam(monkeypatch: pytest.MonkeyPatch) -> None:
    probabilities, box = grid(3), np.array([3, 4, 70, 55], np.float32)
    whole = paste(probabilities, box, 60, 80)
    monkeypatch.setattr(module, "_STRIP", 500)
    strips = paste(probabilities, box, 60, 80)
    assert whole is not None
    assert strips is not None
    assert (whole.left, whole.top) == (strips.left, strips.top)
    np.testing.assert_array_equal(whole.bits, strips.bits)


def test_only_the_part_inside_of_the_image_is_made() -> None:
    # The whole box would be 100 billion pixels.
    found = paste(np.ones((28, 28), np.float32), np.array([-1e5, -1e5, 2e5, 2e5], np.float32), 30, 40)
    assert found is not None
    assert found.bits.shape == (30, 40)
    assert found.bits.all()
