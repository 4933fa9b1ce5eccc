"""What is written as COCO: pycocotools reads it, and finds the same pixels."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from pycocotools.coco import COCO

from bridge.core.annotations import (
    Annotation,
    Box,
    Item,
    LabelSet,
    Mask,
    Polygon,
    Record,
    Shape,
    Submission,
    Tag,
    TextSpan,
)
from bridge.core.rle import encode_coco
from bridge.formats.coco import CocoDataset
from bridge.formats.coco_writer import CocoWriter

BLOB = np.zeros((20, 30), bool)
BLOB[3:7, 5:11] = True
SHAPES: dict[str, Shape] = {
    "box": Box(1, 2, 11, 7),
    "turned": Box(10, 5, 20, 15, rotation=45),
    "polygon": Polygon(((1, 1), (9, 1), (9, 5))),
    "mask": encode_coco(BLOB),
}
NOTHING: tuple[Shape, ...] = (
    Tag(),
    TextSpan(0, 3),
    Box(1, 2, 1, 7),
    Box(1, 2, math.nan, 7),
    Polygon(((math.inf, 1), (9, 1), (9, 5))),
    Mask(2, 2, (4,)),
)


def write(path: Path, records: list[Record]) -> CocoWriter:
    with path.open("wb") as file:
        writer = CocoWriter(file, LabelSet(("nut",)), {"target": "t"})
        writer.begin()
        for record in records:
            writer.add(record)
        writer.finish()
    return writer


def record(*shapes: Shape) -> Record:
    objects = tuple(Annotation(str(k), "nut", shape) for k, shape in enumerate(shapes))
    return Record(Item("7", "a.jpg", "", 30, 20), (Submission("s", "ann", objects),))


@pytest.mark.filterwarnings("ignore:__array__ implementation")
def test_pycocotools_reads_it(tmp_path: Path) -> None:
    write(tmp_path / "a.json", [record(*SHAPES.values())])
    coco = COCO(str(tmp_path / "a.json"))
    found = dict(zip(SHAPES, coco.loadAnns(coco.getAnnIds()), strict=True))
    assert found["box"]["bbox"] == [1, 2, 10, 5]
    assert found["box"]["area"] == 50
    side = 10 * math.sqrt(2)
    assert found["turned"]["bbox"] == pytest.approx([15 - side / 2, 10 - side / 2, side, side])
    assert found["turned"]["area"] == 100
    assert coco.annToMask(found["turned"]).sum() == pytest.approx(100, abs=12)
    assert (found["polygon"]["bbox"], found["polygon"]["area"]) == ([1, 1, 8, 4], 16)
    assert (found["mask"]["bbox"], found["mask"]["area"]) == ([5, 3, 6, 4], 24)
    assert np.array_equal(coco.annToMask(found["mask"]).astype(bool), BLOB)


@pytest.mark.parametrize("shape", NOTHING, ids=lambda s: type(s).__name__)
def test_what_has_no_form_is_counted(tmp_path: Path, shape: Shape) -> None:
    writer = write(tmp_path / "a.json", [record(shape, SHAPES["box"])])
    assert (writer.objects, sum(writer.left_out.values())) == (1, 1)
    assert len(json.loads((tmp_path / "a.json").read_text())["annotations"]) == 1


def test_nothing_at_all(tmp_path: Path) -> None:
    write(tmp_path / "a.json", [Record(Item("1", "b.jpg", ""))])
    assert json.loads((tmp_path / "a.json").read_text())["images"] == []
    write(tmp_path / "a.json", [record()])
    (read,) = CocoDataset.open(tmp_path / "a.json").records(0, 9)
    assert read.submissions[0].annotations == ()


def test_several_people(tmp_path: Path) -> None:
    one = record(SHAPES["box"])
    both = Record(one.item, (*one.submissions, Submission("s2", "ben", one.submissions[0].annotations)))
    assert write(tmp_path / "a.json", [both]).several == 1
    data = json.loads((tmp_path / "a.json").read_text())
    assert [a["provenance"]["submission"] for a in data["annotations"]] == ["s", "s2"]
    assert data["images"][0]["annotator"] == "ann, ben"
