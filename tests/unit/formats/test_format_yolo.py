"""bridge.formats.yolo: layouts of the folder, lines of the text files, and sizes from image headers."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from PIL import Image

from bridge.core.annotations import Annotation, Box, Record
from bridge.core.findings import ErrorType
from bridge.errors import DataError, ImageError, UsageError
from bridge.formats.yolo import YoloDataset


def picture(path: Path, width: int = 100, height: int = 50) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (width, height)).save(path)
    return path


def text(path: Path, content: str = "0 0.5 0.5 0.2 0.4\n") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)
    return path


def opened(folder: Path, lines: str) -> YoloDataset:
    picture(folder / "images" / "1.png")
    text(folder / "labels" / "1.txt", lines)
    text(folder / "classes.txt", "cat\ndog\n")
    return YoloDataset.open(folder)


def all_of(dataset: YoloDataset) -> list[Record]:
    return dataset.records(0, len(dataset))


def boxes(record: Record) -> list[Box]:
    return [a.shape for a in record.submissions[0].annotations if isinstance(a.shape, Box)]


def test_lines_become_boxes_in_pixels(tmp_path: Path) -> None:
    dataset = opened(tmp_path, "0 0.5 0.5 0.2 0.4\r\n\r\n1 0.25 0.5 0.5 1\n")
    (record,) = all_of(dataset)
    assert dataset.labels.names == ("cat", "dog")
    assert (record.item.id, record.item.name) == ("images/1.png", "1.png")
    assert (record.item.width, record.item.height) == (100, 50)
    assert record.submissions[0].annotations == (
        Annotation("images/1.png#0", "cat", Box(40, 15, 60, 35)),
        Annotation("images/1.png#2", "dog", Box(0, 0, 50, 50)),
    )
    assert dataset.position("images/1.png") == 0
    assert dataset.position("images/2.png") is None


def test_sizes_are_those_of_the_upright_image(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    opened(tmp_path, "0 0.5 0.5 0.2 0.4")
    Image.new("RGB", (100, 50)).save(tmp_path / "images" / "1.png", exif=exif)
    (record,) = all_of(YoloDataset.open(tmp_path))
    assert (record.item.width, record.item.height) == (50, 100)
    assert boxes(record) == [Box(20, 30, 30, 70)]


def test_a_polygon_counts_by_its_envelope(tmp_path: Path) -> None:
    (record,) = all_of(opened(tmp_path, "1 0.1 0.2 0.5 0.2 0.3 0.8\n0 0.1 0.1 0.2 0.1 0.2 0.2 0.1 0.2"))
    assert boxes(record) == [Box(10, 10, 50, 40), Box(10, 5, 20, 10)]


@pytest.mark.parametrize("line", ["0 0.5 0.5 0 0.4", "0 0.5 0.5 -0.1 0.4", "0 nan 0.5 0.1 0.4", "1 inf 0 0.1 0.1"])
def test_odd_boxes_are_kept_for_the_data_checks(tmp_path: Path, line: str) -> None:
    (record,) = all_of(opened(tmp_path, line))
    (box,) = boxes(record)
    assert box.problem()


@pytest.mark.parametrize(
    ("line", "kind"),
    [
        ("0 0.5 0.5 0.2", ErrorType.DEGENERATE_SHAPE),
        ("0 0.5 0.5 0.2 0.4 0.9", ErrorType.DEGENERATE_SHAPE),
        ("0", ErrorType.DEGENERATE_SHAPE),
        ("0 0.5 0.5 0.2 x", ErrorType.DEGENERATE_SHAPE),
        ("0 nan 0.2 0.5 0.2 0.3 0.8", ErrorType.DEGENERATE_SHAPE),
        ("cat 0.5 0.5 0.2 0.4", ErrorType.DEGENERATE_SHAPE),
        ("2 0.5 0.5 0.2 0.4", ErrorType.UNKNOWN_LABEL),
        ("-1 0.5 0.5 0.2 0.4", ErrorType.UNKNOWN_LABEL),
        ("0.5 0.5 0.5 0.2 0.4", ErrorType.UNKNOWN_LABEL),
        ("nan 0.5 0.5 0.2 0.4", ErrorType.UNKNOWN_LABEL),
        ("1e99 0.5 0.5 0.2 0.4", ErrorType.UNKNOWN_LABEL),
        ("\ufffd\x00", ErrorType.DEGENERATE_SHAPE),
    ],
)
def test_a_bad_line_is_a_problem_and_the_rest_goes_on(tmp_path: Path, line: str, kind: ErrorType) -> None:
    (record,) = all_of(opened(tmp_path, line + "\n0 0.5 0.5 0.2 0.4"))
    assert [(p.kind, p.annotation_id) for p in record.problems] == [(kind, "images/1.png#0")]
    assert [a.id for a in record.submissions[0].annotations] == ["images/1.png#1"]


def test_an_empty_file_was_looked_at_and_no_file_was_not(tmp_path: Path) -> None:
    opened(tmp_path, "")
    picture(tmp_path / "images" / "2.png")
    empty, without = all_of(YoloDataset.open(tmp_path))
    assert empty.submissions[0].annotations == ()
    assert without.submissions == ()
    assert without.item.width == 100


def test_labels_without_an_image_are_a_problem(tmp_path: Path) -> None:
    opened(tmp_path, "")
    text(tmp_path / "labels" / "alone.txt")
    _, record = all_of(YoloDataset.open(tmp_path))
    assert [p.kind for p in record.problems] == [ErrorType.NO_IMAGE]
    assert record.submissions == ()


def test_an_image_that_cannot_be_read_is_a_problem(tmp_path: Path) -> None:
    opened(tmp_path, "0 0.5 0.5 0.2 0.4")
    (tmp_path / "images" / "1.png").write_bytes(b"no image")
    (record,) = all_of(YoloDataset.open(tmp_path))
    assert [p.kind for p in record.problems] == [ErrorType.UNREADABLE_IMAGE]
    assert record.submissions == ()


@pytest.mark.parametrize(
    "config",
    [
        "names: [cat, dog]\ntrain: images/train\nval: images/val\n",
        "names: {0: cat, 1: dog}\npath: .\ntrain: [images/train, images/val]\n",
        "names:\n  - cat\n  - dog\npath: /home/somebody/elsewhere\ntrain: images/train\nval: ../images/val\n",
        "names: [cat, dog]\npath: ../datasets\ntrain: images\n",
        "names: [cat, dog]\n",
        "names: [cat, dog]\ntrain: train.txt\nval: val.txt\n",
    ],
)
def test_configurations(tmp_path: Path, config: str) -> None:
    for split, k in (("train", 1), ("val", 2)):
        picture(tmp_path / "images" / split / f"{k}.png")
        text(tmp_path / "labels" / split / f"{k}.txt", f"{k - 1} 0.5 0.5 0.2 0.4\n")
        text(tmp_path / f"{split}.txt", f"./images/{split}/{k}.png\n")
    file = text(tmp_path / "data.yaml", config)
    for path in (tmp_path, file):
        dataset = YoloDataset.open(path)
        assert dataset.labels.names == ("cat", "dog")
        assert [r.item.id for r in all_of(dataset)] == ["images/train/1.png", "images/val/2.png"]
        assert [[a.label for a in r.submissions[0].annotations] for r in all_of(dataset)] == [["cat"], ["dog"]]
        assert dataset.image_path(all_of(dataset)[1].item).is_file()


def test_the_layout_with_images_inside_each_split(tmp_path: Path) -> None:
    for split in ("train", "valid"):
        picture(tmp_path / split / "images" / "1.png")
        text(tmp_path / split / "labels" / "1.txt")
    text(tmp_path / "data.yaml", "names: [cat]\ntrain: ../train/images\nval: ../valid/images\n")
    records = all_of(YoloDataset.open(tmp_path))
    assert [r.item.id for r in records] == ["train/images/1.png", "valid/images/1.png"]
    assert [r.item.name for r in records] == ["train/images/1.png", "valid/images/1.png"]
    assert [len(boxes(r)) for r in records] == [1, 1]


def test_images_in_another_folder_pair_by_file_name(tmp_path: Path) -> None:
    data, pictures = tmp_path / "data", tmp_path / "pictures"
    text(data / "classes.txt", "cat")
    text(data / "labels" / "train" / "1.txt")
    text(data / "labels" / "train" / "2.txt", "0 0.1 0.1 0.1 0.1\n" * 2)
    text(data / "labels" / "val" / "2.txt", "0 0.1 0.1 0.1 0.1\n" * 3)
    picture(pictures / "1.png")
    picture(pictures / "val" / "2.png")
    records = all_of(YoloDataset.open(data, pictures))
    assert [(r.item.id, len(boxes(r))) for r in records if r.submissions] == [("1.png", 1), ("val/2.png", 3)]
    assert [r.item.id for r in records if r.problems] == ["train/2.txt"]


def test_images_with_labels_in_the_same_folder(tmp_path: Path) -> None:
    text(tmp_path / "obj.names", "cat\n\ndog\n\n")
    picture(tmp_path / "1.png")
    text(tmp_path / "1.txt", "2 0.5 0.5 0.2 0.4")
    dataset = YoloDataset.open(tmp_path)
    assert dataset.labels.names == ("cat", "class 1", "dog")
    assert [a.label for a in all_of(dataset)[0].submissions[0].annotations] == ["dog"]


def test_no_link_to_a_file_of_labels_leads_out(tmp_path: Path) -> None:
    secret = tmp_path / "secret.txt"
    secret.write_text("0 0.5 0.5 0.2 0.4\nroot:hush\n")
    data = tmp_path / "data"
    opened(data, "0 0.5 0.5 0.2 0.4")
    (data / "labels" / "1.txt").unlink()
    (data / "labels" / "1.txt").symlink_to(secret)
    (record,) = all_of(YoloDataset.open(data))
    (problem,) = record.problems
    assert "leads out of the dataset" in problem.message
    assert "hush" not in str(record)
    (data / "data.yaml").unlink(missing_ok=True)
    (data / "classes.txt").unlink(missing_ok=True)
    (data / "classes.txt").symlink_to(secret)
    with pytest.raises(DataError, match="leads out") as caught:
        YoloDataset.open(data)
    assert "hush" not in str(caught.value)


def test_a_pipe_among_the_labels_holds_up_nobody(tmp_path: Path) -> None:
    opened(tmp_path, "0 0.5 0.5 0.2 0.4")
    (tmp_path / "labels" / "1.txt").unlink()
    os.mkfifo(tmp_path / "labels" / "1.txt")
    (record,) = all_of(YoloDataset.open(tmp_path))
    assert "no file" in record.problems[0].message


@pytest.mark.parametrize("names", ["[*j]", "*j"])
def test_aliases_do_not_grow_into_class_names(tmp_path: Path, names: str) -> None:
    lines = ["a: &a [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"{n}: &{n} [{', '.join([f'*{m}'] * 10)}]" for n, m in zip("bcdefghij", "abcdefghi", strict=True)]
    opened(tmp_path, "0 0.5 0.5 0.2 0.4")
    text(tmp_path / "data.yaml", "\n".join([*lines, f"names: {names}\n"]))
    with pytest.raises(DataError, match="is not YAML"):
        YoloDataset.open(tmp_path)


def test_nothing_outside_the_dataset_is_read(tmp_path: Path) -> None:
    picture(tmp_path / "outside" / "images" / "1.png")
    data = tmp_path / "data"
    data.mkdir()
    (data / "link").symlink_to(tmp_path / "outside")
    for place in ("../outside/images", str(tmp_path / "outside" / "images"), "link/images"):
        text(data / "data.yaml", f"names: [cat]\ntrain: {place}\n")
        with pytest.raises(UsageError, match="not below"):
            YoloDataset.open(data)
    text(data / "data.yaml", "names: [cat]\ntrain: list.txt\n")
    text(data / "list.txt", f"../outside/images/1.png\n{tmp_path}/outside/images/1.png\nlink/images/1.png\n")
    dataset = YoloDataset.open(data)
    for record in all_of(dataset):
        assert [p.kind for p in record.problems] == [ErrorType.NO_IMAGE]
        with pytest.raises(ImageError):
            dataset.image_path(record.item)


@pytest.mark.parametrize(
    "config",
    [
        "",
        "[]",
        "names: []",
        "names: 3",
        "names: {a: cat}",
        "names: {-1: cat}",
        "{",
        "a: !!python/object:x.y {}",
        "names: {999999999: a}",
    ],
)
def test_a_configuration_without_names_is_refused(tmp_path: Path, config: str) -> None:
    picture(tmp_path / "images" / "1.png")
    text(tmp_path / "data.yaml", config)
    with pytest.raises(DataError, match=r"data\.yaml"):
        YoloDataset.open(tmp_path)


def test_folders_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="class names"):
        YoloDataset.open(tmp_path)
    text(tmp_path / "classes.txt", "cat")
    with pytest.raises(UsageError, match="no images and no label files"):
        YoloDataset.open(tmp_path)
    with pytest.raises(UsageError, match="no YOLO configuration"):
        YoloDataset.open(tmp_path / "classes.txt")
    with pytest.raises(UsageError, match="does not exist"):
        YoloDataset.open(tmp_path / "nothing")
    text(tmp_path / "classes.txt", "")
    with pytest.raises(DataError, match="empty"):
        YoloDataset.open(tmp_path)
    for name in ("a.yaml", "b.yaml"):
        text(tmp_path / name, "names: [cat]")
    with pytest.raises(UsageError, match=r"a\.yaml, b\.yaml"):
        YoloDataset.open(tmp_path)


def test_names_that_repeat_are_one_class(tmp_path: Path) -> None:
    opened(tmp_path, "1 0.5 0.5 0.2 0.4")
    text(tmp_path / "classes.txt", "cat\ncat\n")
    dataset = YoloDataset.open(tmp_path)
    assert dataset.labels.names == ("cat",)
    assert [a.label for a in all_of(dataset)[0].submissions[0].annotations] == ["cat"]


def test_the_split_is_what_the_configuration_says_or_a_folder(tmp_path: Path) -> None:
    for folder in ("train", "val"):
        picture(tmp_path / "images" / folder / f"{folder}.png")
        text(tmp_path / "labels" / folder / f"{folder}.txt")
    text(tmp_path / "classes.txt", "cat\n")
    assert [r.item.split for r in all_of(YoloDataset.open(tmp_path))] == ["train", "val"]
    text(tmp_path / "data.yaml", "names: [cat]\ntrain: images/val\ntest: images/train\n")
    by_name = {r.item.name: r.item.split for r in all_of(YoloDataset.open(tmp_path))}
    assert by_name == {"val.png": "train", "train.png": "test"}
