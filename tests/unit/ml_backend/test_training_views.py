"""ml_backend.training.views: augmented views keep boxes on their objects."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from bridge.core.training import Example
from bridge.errors import ImageError
from ml_backend.training.ssd import IGNORED
from ml_backend.training.views import PARTIAL, View, batches, draw_view, recolour

BOX = (80, 30, 120, 80)


def example(
    folder: Path, box: tuple[int, int, int, int] = BOX, name: str = "a", size: tuple[int, int] = (160, 120)
) -> Example:
    """A dark picture with one bright object."""
    pixels = np.full((size[1], size[0], 3), 20, np.uint8)
    pixels[box[1] : box[3], box[0] : box[2]] = 240
    path = folder / f"{name}.png"
    Image.fromarray(pixels).save(path)
    return Example(path, np.array([box], np.float64), np.array([1]))


def bright(view: View) -> list[float]:
    """The box around what is bright in the view."""
    rows, columns = np.nonzero(view.image[..., 0] > 130)
    return [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]


@pytest.mark.parametrize("side", [None, 96, 256])
@pytest.mark.parametrize("plain", [True, False])
def test_boxes_stay_on_their_objects(tmp_path: Path, side: int | None, plain: bool) -> None:
    one = example(tmp_path)
    shapes, mirrored = set(), set()
    for seed in range(30):
        view = draw_view(np.random.default_rng(seed), one, side, plain)
        shapes.add(view.image.shape)
        assert view.image.shape == (side, side, 3) if side else view.image.shape[0] <= 120
        for box, label in zip(view.boxes.tolist(), view.labels.tolist(), strict=True):
            assert label in (2, IGNORED)
            assert np.abs(np.array(bright(view)) - box).max() <= 2.5
            mirrored.add((box[0] + box[2]) / 2 < view.image.shape[1] / 2)
    assert len(shapes) == 1 if plain or side else len(shapes) > 10
    if plain:
        assert mirrored == {True, False}


def test_an_object_of_which_too_little_is_seen_counts_for_nothing(tmp_path: Path) -> None:
    wide = example(tmp_path, (0, 0, 160, 120))
    labels = set()
    for seed in range(60):
        view = draw_view(np.random.default_rng(seed), wide, None, plain=False)
        seen = view.image.shape[0] * view.image.shape[1] / (160 * 120)
        assert view.labels.tolist() == [IGNORED if seen < PARTIAL else 2]
        labels.update(view.labels.tolist())
    assert labels == {2, IGNORED}


def test_an_object_outside_of_the_view_is_gone(tmp_path: Path) -> None:
    corner = example(tmp_path, (0, 0, 12, 12))
    counts = {len(draw_view(np.random.default_rng(seed), corner, 64, plain=False).boxes) for seed in range(30)}
    assert counts == {0, 1}


def test_what_is_narrower_than_a_pixel_is_gone(tmp_path: Path) -> None:
    thin = example(tmp_path, (10, 10, 12, 100), size=(640, 120))
    assert len(draw_view(np.random.default_rng(0), thin, 64, plain=True).boxes) == 0
    assert len(draw_view(np.random.default_rng(0), thin, None, plain=True).boxes) == 1


def test_nothing_labelled(tmp_path: Path) -> None:
    one = example(tmp_path)
    empty = Example(one.path, np.zeros((0, 4)), np.zeros(0, np.int64))
    for plain in (True, False):
        view = draw_view(np.random.default_rng(0), empty, 64, plain)
        assert (view.boxes.shape, view.labels.shape) == ((0, 4), (0,))


@pytest.mark.parametrize("content", [None, b"", b"no image"])
def test_a_file_that_cannot_be_read(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "a.png"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ImageError, match=r"the training image .*a\.png cannot be read"):
        draw_view(np.random.default_rng(0), Example(path, np.zeros((0, 4)), np.zeros(0, np.int64)), 64, plain=True)


class TestBatches:
    @pytest.fixture
    def seven(self, tmp_path: Path) -> list[Example]:
        """Their objects have different widths, by which they are told."""
        return [example(tmp_path, (20, 20, 40 + 10 * k, 80), str(k)) for k in range(7)]

    @staticmethod
    def widths(seven: list[Example], **more: int) -> list[list[int]]:
        options = {"batch": 3, "seed": (1, 1), "side": None, "plain": True, "workers": 2} | more
        drawn = batches(seven, **options)  # type: ignore[arg-type]
        return [[round(float(v.boxes[0, 2] - v.boxes[0, 0])) for v in views] for views in drawn]

    def test_each_example_is_seen_and_every_batch_is_full(self, seven: list[Example]) -> None:
        drawn = self.widths(seven)
        assert [len(views) for views in drawn] == [3, 3, 3]
        assert {width for views in drawn for width in views} == {20 + 10 * k for k in range(7)}

    def test_fewer_examples_than_a_batch(self, seven: list[Example]) -> None:
        assert [sorted(set(views)) for views in self.widths(seven[:2], batch=5)] == [[20, 30]]

    def test_the_number_of_threads_changes_nothing(self, seven: list[Example]) -> None:
        options = {"batch": 4, "seed": (3, 1), "side": 64, "plain": False}
        one, many = (
            [v.image.tobytes() for views in batches(seven, **options, workers=w) for v in views]  # type: ignore[arg-type]
            for w in (1, 5)
        )
        assert one == many

    def test_each_pass_has_an_order_of_its_own(self, seven: list[Example]) -> None:
        assert self.widths(seven) == self.widths(seven)
        assert self.widths(seven) != self.widths(seven, seed=(1, 2))  # type: ignore[arg-type]

    def test_stopped_midway(self, seven: list[Example]) -> None:
        drawn = batches(seven * 20, batch=2, seed=(0, 1), side=32, plain=True, workers=2)
        next(drawn)
        drawn.close()  # type: ignore[attr-defined]


def test_colours_are_jittered_within_their_range() -> None:
    images = torch.rand(4, 3, 8, 8, generator=torch.Generator().manual_seed(0)) * 255
    jittered = recolour(images, torch.Generator().manual_seed(1))
    assert jittered.shape == images.shape
    assert 0 <= float(jittered.min()) <= float(jittered.max()) <= 255
    assert float((jittered - images).abs().mean()) > 2
    assert torch.equal(jittered, recolour(images, torch.Generator().manual_seed(1)))
