"""The drawn scenes: repeatable, truthful about their boxes, and textured like photographs."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from bridge.scenes import CLASSES, Scene, draw_scene

SEEDS = range(700, 750)


@pytest.fixture(scope="module")
def scenes() -> list[Scene]:
    return [draw_scene(seed) for seed in SEEDS]


def test_the_same_seed_gives_the_same_bytes(scenes: list[Scene]) -> None:
    again = draw_scene(SEEDS[0])
    assert again.image.tobytes() == scenes[0].image.tobytes()
    assert again.xyxy.tobytes() == scenes[0].xyxy.tobytes()
    assert again.labels == scenes[0].labels


def test_global_randomness_neither_matters_nor_moves() -> None:
    np.random.seed(1)
    before = np.random.get_state()[1].copy()  # type: ignore[index]
    first = draw_scene(5)
    assert np.array_equal(before, np.random.get_state()[1])  # type: ignore[index]
    np.random.seed(2)
    assert np.array_equal(first.image, draw_scene(5).image)


def test_another_seed_gives_another_scene(scenes: list[Scene]) -> None:
    assert len({scene.image.tobytes() for scene in scenes}) == len(scenes)


@pytest.mark.parametrize(("width", "height"), [(480, 360), (320, 320), (641, 427)])
def test_the_picture_has_the_size_asked_for(width: int, height: int) -> None:
    scene = draw_scene(3, width, height)
    assert scene.image.shape == (height, width, 3)
    assert scene.image.dtype == np.uint8
    assert scene.xyxy.dtype == np.float64
    assert scene.xyxy.shape == (len(scene.labels), 4)
    assert np.all(scene.xyxy >= 0)
    assert np.all(scene.xyxy <= (width, height, width, height))


def test_boxes_lie_inside_and_are_no_slivers(scenes: list[Scene]) -> None:
    for scene in scenes:
        height, width = scene.image.shape[:2]
        assert np.all(scene.xyxy >= 0)
        assert np.all(scene.xyxy <= (width, height, width, height))
        assert np.all(scene.xyxy[:, 2:] - scene.xyxy[:, :2] >= 6)


def test_every_class_occurs_and_none_dominates(scenes: list[Scene]) -> None:
    counts = Counter(label for scene in scenes for label in scene.labels)
    assert set(counts) == set(CLASSES)
    assert max(counts.values()) < 2 * min(counts.values())


def test_scenes_hold_three_to_twelve_parts(scenes: list[Scene]) -> None:
    sizes = [len(scene.labels) for scene in scenes]
    assert min(sizes) >= 3
    assert max(sizes) <= 12
    assert len(set(sizes)) >= 6


def test_pictures_are_not_flat(scenes: list[Scene]) -> None:
    for scene in scenes:
        grey = scene.image.mean(axis=2)
        shares = np.bincount(grey.astype(np.int64).ravel(), minlength=256) / grey.size
        entropy = -float(np.sum(shares[shares > 0] * np.log2(shares[shares > 0])))
        assert entropy > 4.0
        assert grey.std() > 6.0
        blocks = grey[:352, :480].reshape(22, 16, 30, 16).std(axis=(1, 3))
        assert np.median(blocks) > 0.8


def test_pictures_differ_in_colour_and_brightness(scenes: list[Scene]) -> None:
    means = np.asarray([scene.image.mean(axis=(0, 1)) for scene in scenes])
    assert np.all(means.std(axis=0) > 20)
    assert (means.max(axis=1) - means.min(axis=1)).max() > 30


def test_a_box_is_busier_than_the_bench_beside_it(scenes: list[Scene]) -> None:
    inside, outside = [], []
    for scene in scenes:
        grey = scene.image.mean(axis=2)
        covered = np.zeros(grey.shape, dtype=bool)
        for x0, y0, x1, y1 in scene.xyxy.astype(int):
            covered[y0:y1, x0:x1] = True
            inside.append(grey[y0:y1, x0:x1].std())
        outside.append(grey[~covered].std())
    assert np.mean(inside) > 1.4 * np.mean(outside)
