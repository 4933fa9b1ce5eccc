from __future__ import annotations

from pathlib import Path

import pytest

from bridge.dialects.label_map_file import read_label_map
from bridge.errors import ConfigError

WANTED = {"car": "vehicle", "person": "human"}


def test_all_three_ways_say_the_same(tmp_path: Path) -> None:
    (tmp_path / "map.json").write_text('{"car": "vehicle", "person": "human"}')
    (tmp_path / "map.yaml").write_text("car: vehicle\nperson: human\n")
    assert read_label_map("car=vehicle,person=human") == WANTED
    assert read_label_map(WANTED) == WANTED
    assert read_label_map(tmp_path / "map.json") == WANTED
    assert read_label_map(str(tmp_path / "map.yaml")) == WANTED


@pytest.mark.parametrize("empty", [None, "", {}])
def test_nothing_is_an_empty_map(empty: dict[str, str] | str | None) -> None:
    assert read_label_map(empty) == {}


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("a.yaml", "no: car\n", "False: 'car'"),
        ("a.yaml", "car: [van]\n", r"'car': \['van'\]"),
        ("a.yaml", "- car\n", "holds list"),
        ("a.yaml", "", "holds NoneType"),
        ("a.yaml", "a: b: c", "cannot be parsed"),
        ("a.json", "{", "cannot be parsed"),
        ("a.json", '{"car": ""}', "'car': ''"),
        ("a.yaml", "a: !!python/object/apply:os.getcwd []", "cannot be parsed"),
    ],
)
def test_files_that_are_no_map(tmp_path: Path, name: str, text: str, words: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(ConfigError, match=words):
        read_label_map(tmp_path / name)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        read_label_map(str(tmp_path / "gone.yaml"))
    (tmp_path / "latin.json").write_bytes(b'{"caf\xe9": "x"}')
    with pytest.raises(ConfigError, match="cannot be read"):
        read_label_map(tmp_path / "latin.json")
