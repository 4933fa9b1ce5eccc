"""bridge.core.near_duplicates: which images are one picture, on drawn scenes and on photographs."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from fakes.copies import WAYS
from PIL import Image

from bridge.core.fingerprints import alike_pairs, steps, thumbnail
from bridge.core.near_duplicates import Alike, find_alike
from bridge.scenes import draw_scene

Pixels = npt.NDArray[np.uint8]


@pytest.fixture(scope="module")
def scenes() -> list[Pixels]:
    return [draw_scene(seed, 240, 180).image for seed in range(24)]


def compare(images: list[Pixels]) -> Alike:
    return find_alike(np.stack([thumbnail(image) for image in images]))


def pairs(alike: Alike) -> set[tuple[int, int]]:
    """Pairs of images, by their places."""
    together = set(zip(alike.first.tolist(), alike.second.tolist(), strict=True))
    nodes = alike.node.tolist()
    return {
        (i, j)
        for i, j in itertools.combinations(range(len(nodes)), 2)
        if nodes[i] >= 0 and (nodes[i] == nodes[j] or (min(nodes[i], nodes[j]), max(nodes[i], nodes[j])) in together)
    }


@pytest.mark.parametrize("way", WAYS)
def test_copies_are_found_and_nothing_else(scenes: list[Pixels], way: str) -> None:
    count = len(scenes)
    alike = compare([*scenes, *map(WAYS[way], scenes)])
    assert pairs(alike) == {(k, k + count) for k in range(count)}
    assert alike.score.min() > 0.75


@pytest.mark.parametrize("folder", ["bccd/images", "formats_voc100/images"])
def test_photographs(shared: Path, folder: str) -> None:
    """Blood smears of one microscope, which look much the same, and photographs of anything."""
    files = [f for f in sorted((shared / "data" / folder).iterdir()) if f.name != "BloodImage_00038.jpg"][:60]
    images = [np.asarray(Image.open(file).convert("RGB")) for file in files]
    for way in WAYS.values():
        assert pairs(compare([*images, *map(way, images)])) == {(k, k + 60) for k in range(60)}


def test_a_picture_that_bccd_has_twice(shared: Path) -> None:
    files = [shared / "data" / "bccd" / "images" / f"BloodImage_000{k}.jpg" for k in (36, 37, 38, 39)]
    images = [np.asarray(Image.open(file).convert("RGB")) for file in files]
    assert pairs(compare(images)) == {(1, 2)}


def test_the_same_thumbnail_is_one_node_and_a_single_colour_none(scenes: list[Pixels]) -> None:
    grey = np.full((20, 30, 3), 99, np.uint8)
    alike = compare([scenes[0], grey, scenes[1], scenes[0], grey])
    assert (alike.node < 0).tolist() == [False, True, False, False, True]
    assert alike.node[0] == alike.node[3] != alike.node[2]
    assert len(alike.first) == 0
    assert compare([grey, grey]).centres().tolist() == []


def test_a_long_pan_is_not_one_group() -> None:
    """Each frame is like the next one, and the last is not like the first."""
    wide = np.random.default_rng(1).integers(0, 256, (24, 120)).astype(np.uint8)
    strip = np.asarray(Image.fromarray(wide).resize((2400, 480), Image.Resampling.BICUBIC))
    frames = [np.repeat(strip[:, x : x + 480, None], 3, axis=2) for x in range(0, 1800, 12)]
    alike = compare(frames)
    assert pairs(alike) >= set(itertools.pairwise(range(len(frames))))
    sizes = np.bincount(alike.centres()[alike.node])
    assert 3 <= sizes.max() <= 8


def test_where_all_images_look_much_the_same_a_copy_still_does(scenes: list[Pixels]) -> None:
    """As with X-rays: one body, and a little of each person."""
    rng = np.random.default_rng(0)
    body = rng.integers(60, 180, (16, 16))
    people = [(body + rng.integers(-30, 31, (16, 16))).astype(np.uint8) for _ in range(60)]
    copy = (people[0] * 0.9 + 9).astype(np.uint8)
    vectors = steps(np.stack(people))
    assert np.quantile((vectors @ vectors.T)[np.triu_indices(60, 1)], 0.9) > 0.75
    assert pairs(find_alike(np.stack([*people, copy]))) == {(0, 60)}


def test_pairs_are_bounded() -> None:
    rng = np.random.default_rng(0)
    body = rng.integers(60, 180, (16, 16))
    vectors = steps(np.stack([(body + rng.integers(-5, 6, (16, 16))).astype(np.uint8) for _ in range(100)]))
    assert len(alike_pairs(vectors, 0.5)[0]) == 4950
    first, second, alike = alike_pairs(vectors, 0.5, most=50)
    assert 40 <= len(first) <= 50
    whole = alike_pairs(vectors, 0.5)
    assert alike.min() >= np.sort(whole[2])[-50]
    assert (first < second).all()


def test_pairs_across_blocks_are_found() -> None:
    vectors = steps(np.random.default_rng(0).integers(0, 256, (5000, 16, 16)).astype(np.uint8))
    vectors[[4999, 2100]] = vectors[[3, 4000]]
    first, second, _ = alike_pairs(vectors, 0.9)
    assert sorted(zip(first.tolist(), second.tolist(), strict=True)) == [(3, 4999), (2100, 4000)]
