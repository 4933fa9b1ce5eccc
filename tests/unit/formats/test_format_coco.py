"""bridge.formats.coco: what is read, what becomes a problem, and results matched by name."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from bridge.core.annotations import Annotation, Box, Prediction, Record
from bridge.core.findings import ErrorType
from bridge.errors import DataError, ImageError, UsageError
from bridge.formats.coco import CocoDataset, load_results

CATEGORIES = [{"id": 3, "name": "cat"}, {"id": 1, "name": "dog"}]


def image(key: int | str, name: str = "", **more: Any) -> dict[str, Any]:
    return {"id": key, "file_name": name or f"{key}.jpg", "width": 100, "height": 50, **more}


def obj(key: Any, of: Any, category: Any = 3, bbox: Any = (1, 2, 3, 4), **more: Any) -> dict[str, Any]:
    return {"id": key, "image_id": of, "category_id": category, "bbox": list(bbox), **more}


def opened(
    folder: Path, images: list[Any], annotations: list[Any] | None = None, categories: Any = None
) -> CocoDataset:
    data: dict[str, Any] = {"images": images, "categories": CATEGORIES if categories is None else categories}
    if annotations is not None:
        data["annotations"] = annotations
    (folder / "labels.json").write_text(json.dumps(data))
    return CocoDataset.open(folder / "labels.json")


def all_of(dataset: CocoDataset) -> list[Record]:
    return dataset.records(0, len(dataset))


def test_one_record_per_image_in_file_order(tmp_path: Path) -> None:
    dataset = opened(tmp_path, [image(7), image(2)], [obj(10, 2), obj(11, 7, 1), obj(12, 2, 1, (0, 0, 10.5, 5))])
    first, second = all_of(dataset)
    assert dataset.labels.names == ("cat", "dog")
    assert (first.item.id, first.item.name, first.item.width, first.item.height) == ("7", "7.jpg", 100, 50)
    assert first.submissions[0].annotations == (Annotation("11", "dog", Box(1, 2, 4, 6)),)
    assert [a.id for a in second.submissions[0].annotations] == ["10", "12"]
    assert second.submissions[0].annotations[1].shape == Box(0, 0, 10.5, 5)
    assert second.submissions[0].id == "2"
    assert dataset.position("2") == 1
    assert dataset.position("3") is None
    assert dataset.records(1, 99) == [second]
    assert dataset.records(5, 9) == []


def test_an_image_without_annotations_is_submitted_as_empty(tmp_path: Path) -> None:
    (record,) = all_of(opened(tmp_path, [image(1)], []))
    assert record.submissions[0].annotations == ()


def test_a_file_without_annotations_is_not_submitted(tmp_path: Path) -> None:
    (record,) = all_of(opened(tmp_path, [image(1)], None))
    assert record.submissions == ()


def test_the_annotator_is_kept(tmp_path: Path) -> None:
    records = all_of(opened(tmp_path, [image(1, annotator=4), image(2, annotator="ann"), image(3)], []))
    assert [r.submissions[0].annotator for r in records] == ["4", "ann", ""]


def test_crowds_are_left_out(tmp_path: Path) -> None:
    (record,) = all_of(opened(tmp_path, [image(1)], [obj(1, 1, iscrowd=1), obj(2, 1, iscrowd=0)]))
    assert [a.id for a in record.submissions[0].annotations] == ["2"]


def test_polygons_count_only_without_a_box(tmp_path: Path) -> None:
    rings = [[10, 10, 20, 10, 20, 30], [5, 12, 6, 12, 6, 13]]
    without = {"id": 2, "image_id": 1, "category_id": 3, "segmentation": rings}
    (record,) = all_of(
        opened(
            tmp_path, [image(1)], [obj(1, 1, segmentation=rings), without, obj(3, 1, bbox=()) | {"segmentation": rings}]
        )
    )
    shapes = [a.shape for a in record.submissions[0].annotations]
    assert shapes == [Box(1, 2, 4, 6), Box(5, 10, 20, 30), Box(5, 10, 20, 30)]


@pytest.mark.parametrize("bbox", [[1, 2, 0, 4], [1, 2, -3, 4], [math.nan, 2, 3, 4], [1, 2, math.inf, 4]])
def test_odd_boxes_are_kept_for_the_data_checks(tmp_path: Path, bbox: list[float]) -> None:
    (record,) = all_of(opened(tmp_path, [image(1)], [obj(1, 1, bbox=bbox)]))
    (annotation,) = record.submissions[0].annotations
    assert isinstance(annotation.shape, Box)
    assert annotation.shape.problem()


@pytest.mark.parametrize(
    "bbox", [[1, 2, 3], [1, 2, 3, "4"], [1, 2, 3, None], ["a"], [True, 2, 3, 4], [10**400, 0, 1, 1]]
)
def test_a_box_that_is_no_four_numbers_is_a_problem_of_its_item(tmp_path: Path, bbox: list[Any]) -> None:
    (record,) = all_of(opened(tmp_path, [image(1)], [obj(1, 1, bbox=bbox), obj(2, 1)]))
    (problem,) = record.problems
    assert (problem.kind, problem.annotation_id, problem.submission_id) == (ErrorType.DEGENERATE_SHAPE, "1", "1")
    assert [a.id for a in record.submissions[0].annotations] == ["2"]


@pytest.mark.parametrize(
    "segmentation", [[], {"counts": [1, 2], "size": [1, 3]}, [[1, 2]], [[1, 2, 3, 4, 5]], [["a"] * 6], "x"]
)
def test_neither_box_nor_polygon_is_a_problem(tmp_path: Path, segmentation: Any) -> None:
    entry = {"id": 1, "image_id": 1, "category_id": 3, "segmentation": segmentation}
    (record,) = all_of(opened(tmp_path, [image(1)], [entry]))
    assert [p.kind for p in record.problems] == [ErrorType.DEGENERATE_SHAPE]


@pytest.mark.parametrize("category", [99, None, [3], "3"])
def test_an_unknown_category_is_a_problem(tmp_path: Path, category: Any) -> None:
    (record,) = all_of(opened(tmp_path, [image(1)], [obj(1, 1, category)]))
    assert [(p.kind, p.annotation_id) for p in record.problems] == [(ErrorType.UNKNOWN_LABEL, "1")]


def test_annotations_of_unlisted_images_come_as_one_problem_each(tmp_path: Path) -> None:
    stray = [obj(1, 77), obj(2, 77), obj(3, 78), "text", {"id": 4}, obj(5, 1)]
    known, *strays = all_of(opened(tmp_path, [image(1)], stray))
    assert [a.id for a in known.submissions[0].annotations] == ["5"]
    assert [r.submissions for r in strays] == [()] * len(strays)
    assert {p.kind for r in strays for p in r.problems} == {ErrorType.NO_IMAGE}
    assert any("2 annotations belong to image 77" in p.message for r in strays for p in r.problems)
    assert len({r.item.id for r in strays}) == len(strays)


def test_broken_images_are_named_and_the_rest_goes_on(tmp_path: Path) -> None:
    entries = [
        image(1),
        image(1, "twice.jpg"),
        {"file_name": "noid.jpg"},
        {"id": 5},
        "text",
        image(6, width="a", height=-1),
    ]
    records = all_of(opened(tmp_path, entries, [obj(1, 1), obj(2, 5), obj(3, 6)]))
    assert [[p.kind for p in r.problems] for r in records] == [
        [], [ErrorType.DUPLICATE_IMAGE], [ErrorType.NO_IMAGE], [ErrorType.NO_IMAGE], [ErrorType.NO_IMAGE], []
    ]  # fmt: skip
    assert len({r.item.id for r in records}) == 6
    assert len(records[3].submissions[0].annotations) == 1
    assert (records[5].item.width, records[5].item.height) == (None, None)


def test_annotation_ids_are_unique_and_stable(tmp_path: Path) -> None:
    anonymous = [{k: v for k, v in obj(0, 1).items() if k != "id"} for _ in range(2)]
    entries = [obj(5, 1), obj(5, 1), *anonymous]
    dataset = opened(tmp_path, [image(1)], entries)
    ids = [a.id for a in all_of(dataset)[0].submissions[0].annotations]
    assert ids == ["5", "5#2", "1#1", "1#2"]


def test_categories_that_share_a_name_are_one_class(tmp_path: Path) -> None:
    twice = [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}, {"id": 9, "name": "cat"}]
    dataset = opened(tmp_path, [image(1)], [obj(1, 1, 9), obj(2, 1, 2)], twice)
    assert dataset.labels.names == ("cat", "dog")
    assert [a.label for a in all_of(dataset)[0].submissions[0].annotations] == ["cat", "dog"]


def test_items_that_share_a_file_name_are_called_by_their_path(tmp_path: Path) -> None:
    entries = [image(1, "a/1.jpg"), image(2, "b/1.jpg"), image(3, "b/2.jpg"), image(4, "b\\3.jpg"), image(5, "b/1.jpg")]
    names = [r.item.name for r in all_of(opened(tmp_path, entries, []))]
    assert names == ["a/1.jpg", "b/1.jpg", "2.jpg", "3.jpg", "b/1.jpg (2)"]


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "3", "{}", '{"images": []}', '{"images": {}, "categories": []}', "\ufeff\x00", "[" * 100_000],
)
def test_what_is_no_coco_file_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "labels.json").write_text(text)
    with pytest.raises(DataError, match=r"labels\.json"):
        CocoDataset.open(tmp_path / "labels.json")


@pytest.mark.parametrize("category", [{"id": 1}, {"name": "cat"}, {"id": 1, "name": ""}, {"id": 1, "name": 3}, "cat"])
def test_a_broken_category_is_refused_by_place(tmp_path: Path, category: Any) -> None:
    with pytest.raises(DataError, match=r"categories\[0\]"):
        opened(tmp_path, [image(1)], [], [category])


def test_a_folder_is_searched_for_its_one_file(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no JSON file"):
        CocoDataset.open(tmp_path)
    with pytest.raises(UsageError, match="does not exist"):
        CocoDataset.open(tmp_path / "nothing")
    opened(tmp_path, [image(1)], [])
    assert len(CocoDataset.open(tmp_path)) == 1
    (tmp_path / "other.json").write_text("{}")
    with pytest.raises(UsageError, match=r"labels\.json, other\.json"):
        CocoDataset.open(tmp_path)
    (tmp_path / "annotations").mkdir()
    (tmp_path / "annotations" / "captions_val.json").write_text("{}")
    (tmp_path / "labels.json").rename(tmp_path / "annotations" / "instances_val.json")
    assert len(CocoDataset.open(tmp_path)) == 1


@pytest.mark.parametrize("place", ["1.jpg", "images/1.jpg", "deep/1.jpg"])
def test_images_are_found_beside_the_file(tmp_path: Path, place: str) -> None:
    (tmp_path / place).parent.mkdir(exist_ok=True)
    (tmp_path / place).write_bytes(b"x")
    dataset = opened(tmp_path, [image(1, "deep/1.jpg")], [])
    assert dataset.image_path(all_of(dataset)[0].item) == (tmp_path / place).resolve()


def test_images_are_found_in_the_folder_of_the_split(tmp_path: Path) -> None:
    (tmp_path / "annotations").mkdir()
    (tmp_path / "train2017").mkdir()
    (tmp_path / "train2017" / "1.jpg").write_bytes(b"x")
    opened(tmp_path, [image(1)], [])
    (tmp_path / "labels.json").rename(tmp_path / "annotations" / "instances_train2017.json")
    dataset = CocoDataset.open(tmp_path)
    assert dataset.image_path(all_of(dataset)[0].item).parent.name == "train2017"


def test_no_path_leads_out_of_the_dataset(tmp_path: Path) -> None:
    secret = tmp_path / "secret.jpg"
    secret.write_bytes(b"secret")
    inside = tmp_path / "data"
    inside.mkdir()
    (inside / "link.jpg").symlink_to(secret)
    written = [
        "../secret.jpg",
        str(secret),
        "link.jpg",
        "a/../../secret.jpg",
        "..\\secret.jpg",
        "x\0.jpg",
        "n" * 400,
        "",
    ]
    dataset = opened(inside, [image(k, name) for k, name in enumerate(written)], [])
    for record in all_of(dataset):
        with pytest.raises(ImageError):
            dataset.image_path(record.item)


def test_an_absolute_path_counts_inside_the_images_folder_only(tmp_path: Path) -> None:
    folder = tmp_path / "pictures"
    folder.mkdir()
    (folder / "1.jpg").write_bytes(b"x")
    for name in (str(folder / "1.jpg"), "/somewhere/else/1.jpg", "C:\\data\\1.jpg"):
        opened(tmp_path, [image(1, name)], [])
        dataset = CocoDataset.open(tmp_path / "labels.json", folder)
        assert dataset.image_path(all_of(dataset)[0].item) == (folder / "1.jpg").resolve()


def test_the_images_folder_must_be_one(tmp_path: Path) -> None:
    opened(tmp_path, [image(1)], [])
    with pytest.raises(UsageError, match="not a folder"):
        CocoDataset.open(tmp_path / "labels.json", tmp_path / "labels.json")


def results(folder: Path, data: Any) -> Path:
    (folder / "results.json").write_text(json.dumps(data))
    return folder / "results.json"


def test_a_list_of_results_is_matched_by_item_name(tmp_path: Path) -> None:
    dataset = opened(tmp_path, [image(1, "a/x.jpg"), image(2, "a/y.jpg")], [])
    rows = [obj(0, 2, 1, score=0.25), obj(0, 2, 3, (0, 0, 1, 1), score=1), obj(0, 2, 3, score=0)]
    found = load_results(results(tmp_path, rows), dataset, "net-1")
    assert list(found) == ["y.jpg"]
    assert len(found) == 1
    assert "x.jpg" not in found
    assert found["y.jpg"] == (
        Prediction("dog", Box(1, 2, 4, 6), 0.25, "net-1"),
        Prediction("cat", Box(0, 0, 1, 1), 1.0, "net-1"),
        Prediction("cat", Box(1, 2, 4, 6), 0.0, "net-1"),
    )
    with pytest.raises(KeyError):
        found["x.jpg"]


def test_a_whole_file_with_scores_brings_its_own_ids(tmp_path: Path) -> None:
    dataset = opened(tmp_path, [image(1, "x.jpg")], [])
    whole = {
        "images": [image("k", "other/x.jpg"), image("l", "y.jpg")],
        "categories": [{"id": 3, "name": "dog"}, {"id": 1, "name": "cat"}],
        "annotations": [obj(1, "k", 3, score=0.5)],
    }
    for index in (dataset, None):
        found = load_results(results(tmp_path, whole), index, "net")
        assert found["x.jpg"][0].label == "dog"
        assert found["y.jpg"] == ()


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"image_id": 9, "category_id": 3, "bbox": [1, 2, 3, 4], "score": 0.5}, "unknown image_id.*9"),
        ({"image_id": 1, "category_id": 8, "bbox": [1, 2, 3, 4], "score": 0.5}, "unknown category_id.*8"),
        ({"image_id": 1, "category_id": 3, "bbox": [1, 2, 3, 4]}, "entry 1 .* is no prediction"),
        ({"image_id": 1, "category_id": 3, "bbox": [1, 2, 3], "score": 0.5}, "entry 1 .* is no prediction"),
        ({"image_id": 1, "category_id": 3, "score": 0.5}, "entry 1 .* is no prediction"),
        ({"image_id": [1], "category_id": 3, "bbox": [1, 2, 3, 4], "score": 0.5}, "entry 1 .* is no prediction"),
        ("text", "entry 1 .* is no prediction"),
        ({"image_id": 1, "category_id": 3, "bbox": [1, 2, 3, 4], "score": "high"}, "entry 1 .* is no prediction"),
        ({"image_id": 1, "category_id": 3, "bbox": [1, 2, 3, 4], "score": 1.5}, r"entry 1 .* score 1\.5"),
        ({"image_id": 1, "category_id": 3, "bbox": [1, 2, 3, 4], "score": math.nan}, "entry 1 .* score nan"),
    ],
)
def test_broken_results_are_named(tmp_path: Path, row: Any, message: str) -> None:
    dataset = opened(tmp_path, [image(1)], [])
    good = {"image_id": 1, "category_id": 3, "bbox": [1, 2, 3, 4], "score": 0.5}
    with pytest.raises(DataError, match=message):
        load_results(results(tmp_path, [good, row]), dataset, "net")


def test_results_without_their_dataset_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="list of results"):
        load_results(results(tmp_path, []), None, "net")
    with pytest.raises(DataError, match="holds"):
        load_results(results(tmp_path, {"images": []}), None, "net")
    dataset = opened(tmp_path, [image(1)], [])
    with pytest.raises(DataError, match="no prediction"):
        load_results(tmp_path / "labels.json", opened(tmp_path, [image(1)], [obj(1, 1)]), "net")
    assert len(load_results(results(tmp_path, []), dataset, "net")) == 0


def test_real_labels_and_predictions(shared: Path) -> None:
    folder = shared / "data" / "scoring" / "bccd_real"
    dataset = CocoDataset.open(folder / "corrupted.json")
    records = all_of(dataset)
    assert (len(records), sum(len(r.submissions[0].annotations) for r in records)) == (221, 2838)
    assert set(dataset.labels.names) == {"RBC", "WBC", "Platelets"}
    assert records[0].item.name == "BloodImage_00370.jpg"
    assert records[0].submissions[0].annotations[0].shape == Box(18, 68, 133, 164)
    found = load_results(folder / "predictions_frcnn.json", dataset, "frcnn")
    assert sum(len(p) for p in found.values()) == 15552
    assert {r.item.name for r in records} >= set(found)


def test_annotators_of_a_real_file(shared: Path) -> None:
    dataset = CocoDataset.open(shared / "data" / "scoring" / "txlpbc" / "corrupted.json")
    records = all_of(dataset)
    assert (len(records), sum(len(r.submissions[0].annotations) for r in records)) == (1372, 24965)
    assert len({r.submissions[0].annotator for r in records}) == 6


def test_the_split_of_an_image(tmp_path: Path) -> None:
    images = [
        {"id": 1, "file_name": "train2017/1.jpg"},
        {"id": 2, "file_name": "train2017/2.jpg", "split": "Validation"},
        {"id": 3, "file_name": "3.jpg", "subset": "night"},
        {"id": 4, "file_name": "4.jpg", "split": 7},
    ]
    file = tmp_path / "labels.json"
    file.write_text(json.dumps({"images": images, "annotations": [], "categories": []}))
    assert [r.item.split for r in CocoDataset.open(file).records(0, 4)] == ["train", "val", "night", ""]
