from __future__ import annotations

import pytest

from bridge.core.splits import learned_from_first, split_name, split_of_path


@pytest.mark.parametrize(
    ("written", "name"),
    [
        ("Train", "train"),
        ("training", "train"),
        ("train2017", "train"),
        ("Validation", "val"),
        ("valid", "val"),
        ("val_2", "val"),
        ("TEST", "test"),
        (" night drive ", "night drive"),
        ("trained", "trained"),
        ("", ""),
        (None, ""),
        (7, ""),
    ],
)
def test_names(written: object, name: str) -> None:
    assert split_name(written) == name


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("images/train/1.jpg", "train"),
        ("val2017/1.jpg", "val"),
        ("train\\test\\1.jpg", "test"),
        ("train.jpg", ""),
        ("images/trains/1.jpg", ""),
        ("", ""),
    ],
)
def test_folders(path: str, name: str) -> None:
    assert split_of_path(path) == name


def test_what_is_learned_from_comes_first() -> None:
    assert sorted(["val", "train", "extra", "test"], key=learned_from_first) == ["train", "extra", "test", "val"]
