"""bridge.formats.prediction_notes: where the predictions in a file come from."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bridge.core.provenance import Provenance
from bridge.errors import DataError
from bridge.formats.prediction_notes import notes_of, notes_path, read_notes


@pytest.fixture
def predictions(tmp_path: Path) -> Path:
    return tmp_path / "found.v2.json"


def note(predictions: Path, text: str) -> None:
    notes_path(predictions).write_text(text)


def test_beside_the_predictions(predictions: Path) -> None:
    assert notes_path(predictions).name == "found.v2.provenance.json"


def test_nothing_is_told(predictions: Path) -> None:
    assert read_notes(predictions) is None


def test_there_and_back(predictions: Path) -> None:
    model = Provenance("ssd-7", ("coco:train.json",), "5a5a", 5)
    note(predictions, json.dumps(notes_of(model, {"b.jpg", "a.jpg"})))
    assert read_notes(predictions) == (model, frozenset({"a.jpg", "b.jpg"}))


def test_only_what_was_seen_must_be_told(predictions: Path) -> None:
    note(predictions, '{"seen": []}')
    assert read_notes(predictions) == (Provenance("found.v2"), frozenset())


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[", "Expecting value"),
        ("[]", "it holds list, not an object"),
        ("{}", "seen is missing"),
        ('{"seen": [1]}', "seen holds something that is no file name"),
        ('{"seen": "a.jpg"}', "seen is 'a.jpg', not a list"),
        ('{"seen": [], "model": 3, "folds": true}', "model is 3, not of type str; folds is True, not of type int"),
        ('{"seen": [], "fold": 3}', "'fold' is not known"),
    ],
)
def test_what_is_wrong_is_named(predictions: Path, text: str, words: str) -> None:
    note(predictions, text)
    with pytest.raises(DataError) as told:
        read_notes(predictions)
    assert words in str(told.value)
    assert "found.v2.provenance.json" in str(told.value)
