"""bridge.tools.files: datasets on disk as a target that is read, page by page, and never written."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from bridge.core.annotations import Box, Item, LabelSet, Prediction
from bridge.errors import ImageError, ToolError, UsageError
from bridge.tools import AnnotationTool, Review
from bridge.tools.files import FilesTool, open_files


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    """Five images in each of the three formats: ``coco.json``, ``voc/`` and ``yolo/``."""
    for part in ("voc/Annotations", "voc/JPEGImages", "yolo/images", "yolo/labels", "images"):
        (tmp_path / part).mkdir(parents=True)
    (tmp_path / "yolo" / "classes.txt").write_text("cat")
    annotations = []
    for k in range(5):
        for place in ("voc/JPEGImages", "yolo/images", "images"):
            Image.new("RGB", (20, 10)).save(tmp_path / place / f"{k}.png")
        (tmp_path / "yolo" / "labels" / f"{k}.txt").write_text("0 0.5 0.5 0.5 0.4")
        box = "<bndbox><xmin>6</xmin><ymin>4</ymin><xmax>15</xmax><ymax>7</ymax></bndbox>"
        (tmp_path / "voc" / "Annotations" / f"{k}.xml").write_text(
            f"<annotation><filename>{k}.png</filename><object><name>cat</name>{box}</object></annotation>"
        )
        annotations.append({"id": k, "image_id": k, "category_id": 1, "bbox": [5, 3, 10, 4]})
    coco = {
        "images": [{"id": k, "file_name": f"{k}.png"} for k in range(5)],
        "categories": [{"id": 1, "name": "cat"}],
        "annotations": annotations,
    }
    (tmp_path / "coco.json").write_text(json.dumps(coco))
    return tmp_path


@pytest.mark.parametrize("target", ["coco:{}/coco.json", "voc:{}/voc", "yolo:{}/yolo"])
def test_every_format_reads_the_same(dataset: Path, target: str) -> None:
    tool: AnnotationTool = open_files(target.format(dataset))
    info = tool.describe()
    assert (info.target, info.items, info.labels.names) == (target.format(dataset), 5, ("cat",))
    assert info.title == Path(target.format(dataset)).name
    assert not info.writable
    page = tool.read_page(None, 100)
    assert page.next is None
    assert [r.item.name for r in page.records] == [f"{k}.png" for k in range(5)]
    for record in page.records:
        (annotation,) = record.submissions[0].annotations
        assert annotation.shape == Box(5, 3, 15, 7)
        assert tool.read_records([record.item.id]) == {record.item.id: record}
        assert tool.read_image(record.item).startswith(b"\x89PNG")


def test_pages_follow_each_other(dataset: Path) -> None:
    tool = open_files(f"voc:{dataset}/voc")
    sizes, cursor, seen = [], None, []
    while True:
        page = tool.read_page(cursor, 2)
        sizes.append(len(page.records))
        seen += [r.item.id for r in page.records]
        cursor = page.next
        if cursor is None:
            break
    assert sizes == [2, 2, 1]
    assert seen == ["0", "1", "2", "3", "4"]
    assert tool.read_page("99", 2).records == ()
    assert tool.read_page("5", 2).next is None


@pytest.mark.parametrize("cursor", ["x", "-1", "", "1.5"])
def test_a_foreign_cursor_is_refused(dataset: Path, cursor: str) -> None:
    with pytest.raises(ToolError, match="no cursor"):
        open_files(f"voc:{dataset}/voc").read_page(cursor, 2)


def test_predictions_are_attached_by_name(dataset: Path) -> None:
    plain = open_files(f"voc:{dataset}/voc")
    seen = Prediction("cat", Box(0, 0, 1, 1), 0.5, "net")
    tool = FilesTool(plain.target, plain.dataset, {"0.png": (seen,), "1.png": ()}, "net")
    first, second, third, *_ = tool.read_page(None, 5).records
    assert (first.predictions, first.predicted_by) == ((seen,), ("net",))
    assert (second.predictions, second.predicted_by) == ((), ("net",))
    assert (third.predictions, third.predicted_by) == ((), ())
    assert tool.read_page(None, 1, model="net").records[0].predictions == (seen,)
    assert tool.read_page(None, 1, model="other").records[0].predicted_by == ()
    assert tool.read_records(["0"])["0"].predictions == ()


def test_an_unknown_item_is_left_out(dataset: Path) -> None:
    assert open_files(f"coco:{dataset}/coco.json").read_records(["7"]) == {}


def test_images_cannot_be_read_from_outside(dataset: Path) -> None:
    tool = open_files(f"voc:{dataset}/voc")
    for path in ("../../coco.json", str(dataset / "coco.json"), "missing.png"):
        with pytest.raises(ImageError, match=r"picture\.png"):
            tool.read_image(Item("picture", "picture.png", path))


def test_an_unreadable_image_is_named(dataset: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tool = open_files(f"voc:{dataset}/voc")
    item = tool.read_page(None, 1).records[0].item
    monkeypatch.setattr("bridge.tools.files.MAX_IMAGE_BYTES", 10)
    with pytest.raises(ImageError, match=r"0\.png"):
        tool.read_image(item)

    def refuse(_: Path) -> bytes:
        raise PermissionError(13, "Permission denied")

    monkeypatch.undo()
    monkeypatch.setattr(Path, "read_bytes", refuse)
    with pytest.raises(ImageError, match="Permission denied"):
        tool.read_image(item)


WRITES: list[Callable[[FilesTool], object]] = [
    lambda tool: tool.write_predictions("net", []),
    lambda tool: tool.open_review(LabelSet(("cat",)), "review"),
    lambda tool: tool.seats([], "anyone"),
    lambda tool: tool.push_cases(Review("1", "", True), []),
    lambda tool: tool.read_verdicts(Review("1", "", True), None),
    lambda tool: tool.withdraw_cases(Review("1", "", True), []),
    lambda tool: tool.apply_fixes([]),
    lambda tool: tool.undo_fixes([]),
]


@pytest.mark.parametrize("write", WRITES)
def test_writing_is_refused_with_what_to_do_instead(dataset: Path, write: Callable[[FilesTool], object]) -> None:
    tool = open_files(f"voc:{dataset}/voc")
    with pytest.raises(ToolError, match=r"read-only.*labelbridge report voc:.*--out"):
        write(tool)


@pytest.mark.parametrize("target", ["", "voc", "voc:", ":x", "cvat:x", "VOC:x", "ls:project/7"])
def test_words_that_name_no_dataset(target: str) -> None:
    with pytest.raises(UsageError, match="no dataset on disk"):
        open_files(target)


@pytest.mark.parametrize("kind", ["coco", "voc", "yolo"])
def test_nothing_there(tmp_path: Path, kind: str) -> None:
    with pytest.raises(UsageError, match="does not exist"):
        open_files(f"{kind}:{tmp_path}/nothing")
    with pytest.raises(UsageError, match=str(tmp_path)):
        open_files(f"{kind}:{tmp_path}")


def test_images_may_lie_elsewhere(dataset: Path) -> None:
    (dataset / "alone").mkdir()
    (dataset / "coco.json").rename(dataset / "alone" / "coco.json")
    item = Item("0", "0.png", "0.png")
    with pytest.raises(ImageError):
        open_files(f"coco:{dataset}/alone").read_image(item)
    assert open_files(f"coco:{dataset}/alone", dataset / "images").read_image(item)
