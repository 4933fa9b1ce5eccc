"""Where the predictions in a file come from: ``NAME.provenance.json`` beside ``NAME.json``.

COCO results are a bare list, in which there is no room for it. One JSON object::

    {"model": "ssd-7", "trained_on": "coco:train.json", "snapshot": "", "folds": 0, "seen": ["a.jpg", "b.jpg"]}

``seen`` are the file names of the images that the model was trained on; empty where each image was predicted by a model
that had not seen it. All else may be left out.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from pathlib import Path
from typing import Any

from bridge.core.provenance import Provenance
from bridge.errors import DataError

_KINDS: dict[str, type] = {"model": str, "trained_on": str, "snapshot": str, "folds": int, "seen": list}


def notes_path(predictions: Path) -> Path:
    """The file that tells where the predictions in another one come from."""
    return predictions.with_name(f"{predictions.stem}.provenance.json")


def read_notes(predictions: Path) -> tuple[Provenance, frozenset[str]] | None:
    """What is told of a file of predictions, and the file names of the images seen; None where nothing is.

    Raises:
        DataError: it cannot be read; all that is wrong is listed.
    """
    path = notes_path(predictions)
    if not path.exists():
        return None
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise _unusable(path, str(error)) from error
    problems = _problems(data)
    if problems:
        raise _unusable(path, "; ".join(problems))
    targets = (data["trained_on"],) if data.get("trained_on") else ()
    provenance = Provenance(
        data.get("model") or predictions.stem, targets, data.get("snapshot", ""), data.get("folds", 0)
    )
    return provenance, frozenset(data["seen"])


def notes_of(provenance: Provenance, seen: Collection[str]) -> dict[str, Any]:
    """What to write into the file, JSON-able."""
    return {
        "model": provenance.model,
        "trained_on": provenance.targets[0] if provenance.targets else "",
        "snapshot": provenance.snapshot,
        "folds": provenance.folds,
        "seen": sorted(seen),
    }


def _problems(data: Any) -> list[str]:
    if not isinstance(data, dict):
        return [f"it holds {type(data).__name__}, not an object"]
    problems = [
        f"{key} is {data[key]!r:.80}, not {'a list' if kind is list else f'of type {kind.__name__}'}"
        for key, kind in _KINDS.items()
        if key in data and (not isinstance(data[key], kind) or isinstance(data[key], bool))
    ]
    if "seen" not in data:
        problems.append("seen is missing")
    elif isinstance(data["seen"], list) and not all(isinstance(name, str) for name in data["seen"]):
        problems.append("seen holds something that is no file name")
    return problems + [f"{key!r} is not known" for key in data if key not in _KINDS]


def _unusable(path: Path, found: str) -> DataError:
    return DataError(
        f"{path} cannot be used: {found}",
        expected='one object, as in {"model": "ssd-7", "trained_on": "coco:train.json", "seen": ["a.jpg"]}',
        todo="Correct it; or remove it, and nothing is known of where the predictions come from",
    )
