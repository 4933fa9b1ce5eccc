"""Laws of the formats: a box that is written and read again is the same box, and odd input never raises."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from xml.sax.saxutils import escape

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from bridge.core.annotations import Box, Record
from bridge.errors import LabelbridgeError
from bridge.formats.coco import CocoDataset
from bridge.formats.voc import VocDataset
from bridge.formats.yolo import YoloDataset

WIDTH, HEIGHT = 640, 480
Row = tuple[str, tuple[float, float, float, float]]

#: The folder is written anew for each example, so that sharing it is harmless.
relaxed = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
names = st.text(st.characters(codec="utf-8", exclude_categories=["C", "Z"]), min_size=1, max_size=12)


@st.composite
def boxes(draw: st.DrawFn, whole: bool) -> tuple[float, float, float, float]:
    number = st.integers if whole else st.floats
    x1, y1 = draw(number(0, WIDTH - 2)), draw(number(0, HEIGHT - 2))
    x2, y2 = draw(number(int(x1) + 2, WIDTH)), draw(number(int(y1) + 2, HEIGHT))
    return float(x1), float(y1), float(x2), float(y2)


def read(records: list[Record]) -> list[Row]:
    (record,) = records
    assert record.problems == ()
    (submission,) = record.submissions
    assert len({a.id for a in submission.annotations}) == len(submission.annotations)
    return [(a.label, a.shape.xyxy) for a in submission.annotations if isinstance(a.shape, Box)]


@relaxed
@given(rows=st.lists(st.tuples(names, boxes(whole=False))))
def test_coco_comes_back(rows: list[Row], tmp_path: Path) -> None:
    classes = sorted({label for label, _ in rows})
    data = {
        "images": [{"id": 1, "file_name": "1.png", "width": WIDTH, "height": HEIGHT}],
        "categories": [{"id": k, "name": name} for k, name in enumerate(classes)],
        "annotations": [
            {"id": k, "image_id": 1, "category_id": classes.index(label), "bbox": [x1, y1, x2 - x1, y2 - y1]}
            for k, (label, (x1, y1, x2, y2)) in enumerate(rows)
        ],
    }
    (tmp_path / "a.json").write_text(json.dumps(data))
    found = read(CocoDataset.open(tmp_path / "a.json").records(0, 1))
    assert [label for label, _ in found] == [label for label, _ in rows]
    for (_, xyxy), (_, expected) in zip(found, rows, strict=True):
        assert xyxy == pytest.approx(expected, abs=1e-9)


@relaxed
@given(rows=st.lists(st.tuples(names, boxes(whole=True))))
def test_voc_comes_back(rows: list[Row], tmp_path: Path) -> None:
    objects = "".join(
        f"<object><name>{escape(label)}</name><bndbox><xmin>{x1 + 1:g}</xmin><ymin>{y1 + 1:g}</ymin>"
        f"<xmax>{x2:g}</xmax><ymax>{y2:g}</ymax></bndbox></object>"
        for label, (x1, y1, x2, y2) in rows
    )
    (tmp_path / "1.xml").write_text(f"<annotation>{objects}</annotation>", encoding="utf-8")
    dataset = VocDataset.open(tmp_path)
    assert read(dataset.records(0, 1)) == rows
    assert set(dataset.labels.names) == {label for label, _ in rows}


@relaxed
@given(rows=st.lists(st.tuples(names, boxes(whole=False)), min_size=1))
def test_yolo_comes_back(rows: list[Row], tmp_path: Path) -> None:
    classes = sorted({label for label, _ in rows})
    Image.new("1", (WIDTH, HEIGHT)).save(tmp_path / "1.png")
    (tmp_path / "classes.txt").write_text("\n".join(classes), encoding="utf-8")
    lines = [
        f"{classes.index(label)} {(x1 + x2) / 2 / WIDTH!r} {(y1 + y2) / 2 / HEIGHT!r} "
        f"{(x2 - x1) / WIDTH!r} {(y2 - y1) / HEIGHT!r}"
        for label, (x1, y1, x2, y2) in rows
    ]
    (tmp_path / "1.txt").write_text("\n".join(lines))
    found = read(YoloDataset.open(tmp_path).records(0, 1))
    assert [label for label, _ in found] == [label for label, _ in rows]
    for (_, xyxy), (_, expected) in zip(found, rows, strict=True):
        assert xyxy == pytest.approx(expected, abs=1e-9)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=6) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=8,
)


def entries(*keys: str) -> st.SearchStrategy[list[object]]:
    entry = st.fixed_dictionaries({}, optional={key: json_values | st.integers(0, 2) for key in keys})
    return st.lists(entry | json_values, max_size=5)


@relaxed
@given(
    images=entries("id", "file_name", "width", "height", "annotator"),
    annotations=entries("id", "image_id", "category_id", "bbox", "segmentation", "iscrowd"),
)
def test_coco_reads_anything_or_says_why_not(images: list[object], annotations: list[object], tmp_path: Path) -> None:
    data = {"images": images, "categories": [{"id": 1, "name": "cat"}], "annotations": annotations}
    (tmp_path / "a.json").write_text(json.dumps(data))
    dataset = CocoDataset.open(tmp_path / "a.json")
    records = dataset.records(0, len(dataset))
    assert len(records) >= len(images)
    assert len({r.item.id for r in records}) == len(records)
    every = [a.id for r in records for s in r.submissions for a in s.annotations]
    assert len(set(every)) == len(every)


@relaxed
@given(content=st.text(max_size=80) | st.binary(max_size=80))
def test_text_files_read_anything(content: str | bytes, tmp_path: Path) -> None:
    raw = content.encode("utf-8", "surrogatepass") if isinstance(content, str) else content
    Image.new("1", (4, 4)).save(tmp_path / "1.png")
    (tmp_path / "1.txt").write_bytes(raw)
    (tmp_path / "classes.txt").write_text("cat")
    assert len(YoloDataset.open(tmp_path).records(0, 1)) == 1
    (tmp_path / "1.xml").write_bytes(raw)
    assert len(VocDataset.open(tmp_path).records(0, 1)) == 1
    (tmp_path / "data.yaml").write_bytes(raw)
    with contextlib.suppress(LabelbridgeError):
        YoloDataset.open(tmp_path)
    (tmp_path / "data.yaml").unlink()
