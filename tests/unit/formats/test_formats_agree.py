"""The same 273 boxes of 100 real images, written by other tools in three formats, are read as the same boxes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from bridge.core.annotations import Box
from bridge.formats import Format
from bridge.formats.coco import CocoDataset, load_results
from bridge.formats.voc import VocDataset
from bridge.formats.yolo import YoloDataset

Boxes = dict[str, list[tuple[str, tuple[float, ...]]]]


def read(dataset: Format) -> Boxes:
    """Label and corners of every object by image, in an order of their own."""
    found: Boxes = {}
    for record in dataset.records(0, len(dataset)):
        assert record.problems == ()
        shapes = [(a.label, a.shape) for s in record.submissions for a in s.annotations]
        found[record.item.name] = sorted((label, s.xyxy) for label, s in shapes if isinstance(s, Box))
    return found


@pytest.fixture(scope="module")
def folder(shared: Path) -> Path:
    return shared / "data" / "formats_voc100"


@pytest.fixture(scope="module")
def coco(folder: Path) -> Boxes:
    return read(CocoDataset.open(folder / "gts" / "coco_format_v1"))


def assert_same(found: Boxes, expected: Boxes, tolerance: float, shift: tuple[float, ...] = (0, 0, 0, 0)) -> None:
    assert sum(map(len, found.values())) == sum(map(len, expected.values())) == 273
    assert found.keys() == expected.keys()
    for name, objects in expected.items():
        assert [label for label, _ in found[name]] == [label for label, _ in objects]
        moved = np.array([xyxy for _, xyxy in found[name]]) + shift
        np.testing.assert_allclose(moved, [xyxy for _, xyxy in objects], atol=tolerance)


def test_both_forms_of_coco(folder: Path, coco: Boxes) -> None:
    assert_same(read(CocoDataset.open(folder / "gts" / "coco_format_v2")), coco, 0)


def test_yolo_within_its_six_digits(folder: Path, coco: Boxes) -> None:
    assert_same(read(YoloDataset.open(folder / "gts" / "yolo_format", folder / "images")), coco, 2e-3)


@pytest.mark.parametrize("form", ["pascalvoc_format", "imagenet_format"])
def test_voc_starts_one_pixel_earlier(folder: Path, coco: Boxes, form: str) -> None:
    """The converter that wrote the other forms took VOC's one-based corners as they stand: one pixel to the right."""
    assert_same(read(VocDataset.open(folder / "gts" / form, folder / "images")), coco, 0, shift=(1, 1, 0, 0))


def test_every_image_is_found(folder: Path) -> None:
    pictures = folder / "images"
    datasets: list[Format] = [
        CocoDataset.open(folder / "gts" / "coco_format_v2", pictures),
        VocDataset.open(folder / "gts" / "pascalvoc_format", pictures),
        YoloDataset.open(folder / "gts" / "yolo_format", pictures),
    ]
    for dataset in datasets:
        records = dataset.records(0, len(dataset))
        assert {dataset.image_path(r.item).name for r in records} == {p.name for p in pictures.iterdir()}


def test_real_detections_are_matched_by_name_and_class(folder: Path, coco: Boxes) -> None:
    index = CocoDataset.open(folder / "gts" / "coco_format_v2")
    found = load_results(folder / "dets" / "coco_format" / "coco_dets.json", index, "detector")
    hits = 0
    for name, predictions in found.items():
        for prediction in predictions:
            assert isinstance(prediction.shape, Box)
            x1, y1, x2, _ = prediction.shape.xyxy
            near = [o for o in coco[name] if abs(o[1][0] - x1) + abs(o[1][1] - y1) + abs(o[1][2] - x2) < 60]
            hits += any(label == prediction.label for label, _ in near)
    assert hits > 50
