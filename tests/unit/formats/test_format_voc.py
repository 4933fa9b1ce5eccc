"""bridge.formats.voc: one-based inclusive corners, layouts, and files that are broken."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from bridge.core.annotations import Annotation, Box, Record
from bridge.core.findings import ErrorType
from bridge.errors import ImageError, UsageError
from bridge.formats.voc import VocDataset

BOX = "<bndbox><xmin>{}</xmin><ymin>{}</ymin><xmax>{}</xmax><ymax>{}</ymax></bndbox>"


def thing(name: str = "cat", corners: tuple[object, ...] = (11, 21, 30, 40), more: str = "") -> str:
    return f"<object><name>{name}</name>{more}{BOX.format(*corners)}</object>"


def page(*objects: str, filename: str = "1.jpg") -> str:
    size = "<size><width>100</width><height>80</height><depth>3</depth></size>"
    return f"<annotation><filename>{filename}</filename>{size}{''.join(objects)}</annotation>"


def opened(folder: Path, *pages: str, below: str = "Annotations") -> VocDataset:
    (folder / below).mkdir(parents=True, exist_ok=True)
    for k, text in enumerate(pages, 1):
        (folder / below / f"{k}.xml").write_text(text)
    return VocDataset.open(folder)


def all_of(dataset: VocDataset) -> list[Record]:
    return dataset.records(0, len(dataset))


def test_corners_are_one_based_and_inclusive(tmp_path: Path) -> None:
    (record,) = all_of(opened(tmp_path, page(thing(), thing("dog", (1, 1, 100, 80)))))
    assert record.submissions[0].annotations == (
        Annotation("1#0", "cat", Box(10, 20, 30, 40)),
        Annotation("1#1", "dog", Box(0, 0, 100, 80)),
    )
    assert (record.item.id, record.item.name, record.item.width, record.item.height) == ("1", "1.jpg", 100, 80)
    assert record.submissions[0].id == "1"


def test_fractions_difficult_and_parts(tmp_path: Path) -> None:
    part = f"<difficult>1</difficult><truncated>1</truncated><part><name>head</name>{BOX.format(1, 1, 2, 2)}</part>"
    dataset = opened(tmp_path, page(thing(corners=("1.5", " 2.25 ", "9", "1e1"), more=part)))
    assert dataset.labels.names == ("cat",)
    assert [a.shape for a in all_of(dataset)[0].submissions[0].annotations] == [Box(0.5, 1.25, 9, 10)]


def test_labels_are_sorted_and_read_from_every_file(tmp_path: Path) -> None:
    dataset = opened(tmp_path, page(thing("zebra")), "<broken", page(thing("ant"), thing("zebra"), filename="3.jpg"))
    assert dataset.labels.names == ("ant", "zebra")
    assert len(dataset) == 3


@pytest.mark.parametrize("corners", [(5, 5, 5, 5), (5, 5, 5, 9), (5, 5, 9, 5), (9, 5, 5, 9), ("nan", 1, 2, 3)])
def test_a_box_without_area_stays_for_the_data_checks(tmp_path: Path, corners: tuple[object, ...]) -> None:
    (record,) = all_of(opened(tmp_path, page(thing(corners=corners))))
    (annotation,) = record.submissions[0].annotations
    assert isinstance(annotation.shape, Box)
    assert annotation.shape.problem()


@pytest.mark.parametrize(
    ("broken", "kind"),
    [
        ("<object><name>cat</name></object>", ErrorType.DEGENERATE_SHAPE),
        ("<object><name>cat</name><bndbox><xmin>1</xmin></bndbox></object>", ErrorType.DEGENERATE_SHAPE),
        (thing(corners=("a", 1, 2, 3)), ErrorType.DEGENERATE_SHAPE),
        (thing(name=" "), ErrorType.UNKNOWN_LABEL),
        (f"<object>{BOX.format(1, 2, 3, 4)}</object>", ErrorType.UNKNOWN_LABEL),
    ],
)
def test_a_broken_object_is_a_problem_and_the_rest_goes_on(tmp_path: Path, broken: str, kind: ErrorType) -> None:
    (record,) = all_of(opened(tmp_path, page(broken, thing())))
    assert [(p.kind, p.annotation_id, p.submission_id) for p in record.problems] == [(kind, "1#0", "1")]
    assert [a.id for a in record.submissions[0].annotations] == ["1#1"]


ENTITY = (
    '<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/hostname">]><annotation><object><name>&x;</name></object></annotation>'
)
BOMB = '<!DOCTYPE a [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;">]><annotation>&b;</annotation>'


@pytest.mark.parametrize(
    "text", ["", "<annotation>", "\x00", "{}", ENTITY, BOMB, '<?xml version="1.0" encoding="no"?><a/>']
)
def test_a_broken_file_is_a_problem_of_its_item(tmp_path: Path, text: str) -> None:
    dataset = opened(tmp_path, text, page(thing(), filename="2.jpg"))
    broken, good = all_of(dataset)
    assert broken.item.id == "1"
    assert broken.submissions == ()
    assert [p.kind for p in broken.problems] == [ErrorType.DEGENERATE_SHAPE]
    assert "1.xml" in broken.problems[0].message
    assert len(good.submissions[0].annotations) == 1
    assert dataset.labels.names == ("cat",)


def test_an_annotation_file_without_objects_is_submitted_as_empty(tmp_path: Path) -> None:
    (record,) = all_of(opened(tmp_path, page()))
    assert record.submissions[0].annotations == ()


def test_a_missing_size_is_unknown(tmp_path: Path) -> None:
    (record,) = all_of(opened(tmp_path, "<annotation><size><width>nan</width><height></height></size></annotation>"))
    assert (record.item.width, record.item.height) == (None, None)
    assert record.item.name == "1.jpg"


@pytest.mark.parametrize("below", ["Annotations", "annotations", "", "labels_xml", "Annotations/train"])
def test_layouts(tmp_path: Path, below: str) -> None:
    dataset = opened(tmp_path, page(thing()), below=below)
    assert len(dataset) == 1
    item_id = "train/1" if below.endswith("train") else "1"
    assert dataset.position(item_id) == 0
    assert dataset.position("2") is None


def test_folders_that_cannot_be_chosen_between(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no XML files"):
        VocDataset.open(tmp_path)
    for name in ("a", "b"):
        opened(tmp_path / name, page(thing()), below="")
    with pytest.raises(UsageError, match="a, b"):
        VocDataset.open(tmp_path)
    opened(tmp_path, page(thing()))
    assert len(VocDataset.open(tmp_path)) == 1
    with pytest.raises(UsageError, match="not a folder"):
        VocDataset.open(tmp_path / "a" / "1.xml")
    with pytest.raises(UsageError, match="does not exist"):
        VocDataset.open(tmp_path / "c")


@pytest.mark.parametrize("place", ["JPEGImages/1.jpg", "images/1.jpg", "1.jpg", "Annotations/1.jpg"])
def test_images_are_found_beside_the_annotations(tmp_path: Path, place: str) -> None:
    dataset = opened(tmp_path, page())
    (tmp_path / place).parent.mkdir(exist_ok=True)
    (tmp_path / place).write_bytes(b"x")
    dataset = VocDataset.open(tmp_path)
    assert dataset.image_path(all_of(dataset)[0].item) == (tmp_path / place).resolve()


def test_an_image_may_go_by_the_name_of_its_annotations(tmp_path: Path) -> None:
    opened(tmp_path, page(filename="original name.bmp"))
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "1.png").write_bytes(b"x")
    dataset = VocDataset.open(tmp_path)
    assert dataset.image_path(all_of(dataset)[0].item).name == "1.png"


def test_no_path_leads_out_of_the_dataset(tmp_path: Path) -> None:
    (tmp_path / "secret.jpg").write_bytes(b"secret")
    names = ["../secret.jpg", str(tmp_path / "secret.jpg"), "a/../../secret.jpg"]
    dataset = opened(tmp_path / "data", *(page(filename=name) for name in names))
    for record in all_of(dataset):
        with pytest.raises(ImageError):
            dataset.image_path(record.item)


def test_no_link_to_an_annotation_leads_out_and_no_pipe_holds_up(tmp_path: Path) -> None:
    (tmp_path / "secret.xml").write_text(page(thing("hush")))
    data = tmp_path / "data"
    opened(data, page(thing()))
    (data / "Annotations" / "2.xml").symlink_to(tmp_path / "secret.xml")
    os.mkfifo(data / "Annotations" / "3.xml")
    dataset = VocDataset.open(data)
    assert dataset.labels.names == ("cat",)
    _, link, pipe = all_of(dataset)
    for record in (link, pipe):
        assert "leads out of the dataset, or is no file" in record.problems[0].message
        assert not record.submissions


def test_the_real_blood_cells(shared: Path) -> None:
    dataset = VocDataset.open(shared / "data" / "bccd")
    records = all_of(dataset)
    annotations = [a for r in records for a in r.submissions[0].annotations]
    assert dataset.labels.names == ("Platelets", "RBC", "WBC")
    assert (len(records), len(annotations)) == (364, 4888)
    degenerate = [a.id for a in annotations if isinstance(a.shape, Box) and a.shape.problem()]
    assert degenerate == ["BloodImage_00338#12", "BloodImage_00343#3"]
    assert dataset.image_path(records[0].item).is_file()


def test_the_split_of_an_item(tmp_path: Path) -> None:
    lists = tmp_path / "ImageSets" / "Main"
    lists.mkdir(parents=True)
    (lists / "train.txt").write_text("1\n\n")
    (lists / "val.txt").write_text("2  1\n")
    dataset = opened(tmp_path, page(), "<broken", page(filename="3.jpg"))
    assert [r.item.split for r in all_of(dataset)] == ["train", "val", ""]
    assert [r.item.split for r in all_of(opened(tmp_path / "b", page(), below="Annotations/test"))] == ["test"]
