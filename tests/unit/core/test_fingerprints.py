"""bridge.core.fingerprints: which images are alike."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from bridge.core.fingerprints import ALIKE, group_alike, thumbnail
from bridge.errors import DataError
from bridge.images import decode

Pixels = npt.NDArray[np.uint8]


def picture(seed: int, width: int = 160, height: int = 120) -> Pixels:
    """Blotches by chance."""
    small = np.random.default_rng(seed).integers(0, 255, (9, 12, 3)).astype(np.uint8)
    return np.array(Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC))


def groups(pictures: list[Pixels], names: list[str] | None = None, largest: int = 100) -> list[int]:
    sizes = [(p.shape[1], p.shape[0]) for p in pictures]
    names = names or [f"{'abcdefghijkl'[k]}.jpg" for k in range(len(pictures))]
    return group_alike(np.stack([thumbnail(p) for p in pictures]), names, sizes, largest)[0].tolist()


def as_jpeg(pixels: Pixels, quality: int) -> Pixels:
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "JPEG", quality=quality)
    return decode(out.getvalue(), "a copy")


def moved(pixels: Pixels, by: int) -> Pixels:
    return np.roll(pixels, by, axis=1)


def test_a_thumbnail_holds_the_mean_of_each_cell() -> None:
    pixels = np.zeros((32, 64, 3), np.uint8)
    pixels[:2, :2] = 200
    pixels[30:, 60:] = (0, 255, 0)
    cells = thumbnail(pixels)
    assert cells.shape == (16, 16)
    assert (cells[0, 0], cells[0, 1], cells[15, 15]) == (100, 0, 150)


@pytest.mark.parametrize("shape", [(1, 1), (3, 200), (200, 3), (16, 16), (17, 33)])
def test_images_of_any_shape_have_one(shape: tuple[int, int]) -> None:
    assert (thumbnail(np.full((*shape, 3), 77, np.uint8)) == 77).all()


def test_copies_are_alike_whatever_was_done_to_them() -> None:
    first = picture(1)
    smaller = np.array(Image.fromarray(first).resize((80, 60)))
    brighter = (first * 0.7 + 60).astype(np.uint8)
    assert groups([first, picture(2), smaller, as_jpeg(first, 30), brighter, moved(first, 3)]) == [0, 1, 0, 0, 0, 0]


def test_different_pictures_are_not() -> None:
    assert groups([picture(k) for k in range(12)]) == list(range(12))


def test_alike_through_another_one() -> None:
    first = picture(3)
    chain = [moved(first, k) for k in (0, 8, 4)]
    assert groups([chain[0], chain[1]]) == [0, 1]
    assert groups(chain) == [0, 0, 0]


def test_numbered_neighbours_need_less() -> None:
    """Frames of one video; the same two pictures under other names are two pictures."""
    before, after = picture(3), moved(picture(3), 15)
    assert groups([before, after], ["cam_0008.jpg", "cam_0009.jpg"]) == [0, 0]
    assert groups([before, after], ["cam_0008.jpg", "other_0009.jpg"]) == [0, 1]
    assert groups([before, np.array(Image.fromarray(after).resize((161, 120)))], ["c1.jpg", "c2.jpg"]) == [0, 1]
    assert groups([picture(1), picture(2)], ["cam_0008.jpg", "cam_0009.jpg"]) == [0, 1]


def test_two_videos_with_the_same_names() -> None:
    one, other = ([moved(picture(seed), by) for by in (0, 15, 30)] for seed in (3, 4))
    names = [f"1a2b3c4{k}-frame{k % 3}.jpg" for k in range(6)]
    assert groups([*one, *other], names) == [0, 0, 0, 1, 1, 1]


def test_images_of_one_colour_are_like_nothing() -> None:
    blank = np.full((50, 50, 3), 9, np.uint8)
    assert groups([blank, blank.copy(), picture(1)]) == [0, 1, 2]


def test_a_camera_that_never_moves_does_not_make_one_group_of_all() -> None:
    still = picture(5)
    frames = []
    for k in range(10):
        frame = still.copy()
        frame[10 * k : 10 * k + 20, 20:60] = 255 * (k % 2)
        frames.append(frame)
    thumbnails, names = np.stack([thumbnail(f) for f in frames]), [f"{k}.jpg" for k in range(10)]
    together, alike = group_alike(thumbnails, names, [(160, 120)] * 10, largest=10)
    assert (len(set(together.tolist())), alike) == (1, ALIKE)
    apart, alike = group_alike(thumbnails, names, [(160, 120)] * 10, largest=5)
    assert alike > ALIKE
    assert np.bincount(apart).max() <= 5


def test_copies_that_fill_a_fold_are_taken_apart_at_last() -> None:
    together, alike = group_alike(np.stack([thumbnail(picture(1))] * 4), list("abcd"), [(160, 120)] * 4, largest=1)
    assert (together.tolist(), alike) == ([0, 1, 2, 3], 1.0)


def test_all_three_must_belong_together() -> None:
    with pytest.raises(DataError, match="1 thumbnails, 2 names and 1 sizes"):
        group_alike(np.zeros((1, 16, 16), np.uint8), ["a", "b"], [(1, 1)], 5)


def test_nothing() -> None:
    assert group_alike(np.zeros((0, 16, 16), np.uint8), [], [], 5)[0].tolist() == []


def test_real_photographs_of_one_microscope(shared: Path) -> None:
    """364 blood smears, numbered throughout: exactly one pair shows the same cells."""
    files = sorted((shared / "data" / "bccd" / "images").glob("*.jpg"))
    pictures = [decode(f.read_bytes(), f.name) for f in files]
    thumbnails = np.stack([thumbnail(p) for p in pictures])
    sizes = [(p.shape[1], p.shape[0]) for p in pictures]
    found, alike = group_alike(thumbnails, [f.name for f in files], sizes, largest=len(files) // 5)
    twins = [g for g in set(found.tolist()) if (found == g).sum() > 1]
    assert alike == ALIKE
    assert [[files[k].stem for k in np.flatnonzero(found == g)] for g in twins] == [
        ["BloodImage_00037", "BloodImage_00038"]
    ]
