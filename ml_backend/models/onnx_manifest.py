"""The manifest of an ONNX detector: the file, its classes, and how its inputs and outputs are to be understood."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from bridge.errors import ModelError
from ml_backend.models.catalogue import read_json
from ml_backend.models.onnx_input import Preprocessing
from ml_backend.models.onnx_layouts import LAYOUTS

_RESIZES = ("stretch", "letterbox", "letterbox_centred")
_COLOURS = ("rgb", "bgr")
#: A side of the input; larger ones would need gigabytes.
_MAX_SIDE = 4096


@dataclass(frozen=True, slots=True)
class OnnxManifest:
    """Attributes:
    name: name and version of the model.
    weights: the ``.onnx`` file, beside the manifest unless absolute.
    sha256: of that file, 64 hex digits.
    classes: the class name of each number the network answers; None for one that is no class.
    layout: how its outputs are read, one of :data:`~ml_backend.models.onnx_layouts.LAYOUTS`.
    score_threshold: the confidence from which suggestions are worth showing.
    preprocessing: the layout's own, with what the manifest changes.
    size: width and height of the input; None: what the file says.
    nms_iou: overlap from which two boxes of one class are one object; None suppresses nothing.
    outputs: names of outputs by what they hold, where the layout must be told.
    normalised: boxes are shares of the input's size.
    other_inputs: fixed values of inputs beside the image, as nested lists of numbers.
    """

    name: str
    weights: Path
    sha256: str
    classes: tuple[str | None, ...]
    layout: str
    score_threshold: float
    preprocessing: Preprocessing
    size: tuple[int, int] | None = None
    nms_iou: float | None = None
    outputs: Mapping[str, str] = field(default_factory=dict)
    normalised: bool = False
    other_inputs: Mapping[str, Any] = field(default_factory=dict)

    @property
    def class_names(self) -> tuple[str, ...]:
        return tuple(name for name in self.classes if name is not None)


def read_onnx_manifest(path: Path) -> OnnxManifest:
    """Read and check a manifest; keys it does not know are notes for people.

    Raises:
        ModelError: it cannot be read, or entries are missing or wrong; all of them are listed.
    """
    data = read_json(path)
    if not isinstance(data, dict):
        raise _unusable(path, [f"it holds {type(data).__name__}, not an object"])
    classes, problems = _classes(data, path.parent)
    problems = _problems(data) + problems
    if problems:
        raise _unusable(path, problems)
    layout = LAYOUTS[data["layout"]]
    changes = dict(data.get("preprocessing") or {})
    size = changes.pop("size", None)
    for key in ("mean", "std"):
        if key in changes:
            changes[key] = tuple(float(v) for v in changes[key])
    return OnnxManifest(
        name=data["name"],
        weights=path.parent / data["weights"],
        sha256=data["sha256"],
        classes=classes,
        layout=data["layout"],
        score_threshold=float(data["score_threshold"]),
        preprocessing=replace(layout.PREPROCESSING, **changes),
        size=None if size is None else ((size, size) if isinstance(size, int) else (size[0], size[1])),
        nms_iou=data.get("nms_iou", layout.NMS_IOU),
        outputs=data.get("outputs") or {},
        normalised=data.get("coordinates") == "normalised",
        other_inputs=data.get("other_inputs") or {},
    )


def _unusable(path: Path, problems: list[str]) -> ModelError:
    return ModelError(
        f"the manifest {path} cannot be used: {'; '.join(problems)}",
        expected="name, weights, sha256, classes or classes_file, layout and score_threshold",
        todo="Correct the file; docs/models.md lists what may stand in it",
    )


def _problems(data: Mapping[str, Any]) -> list[str]:
    problems = [
        f"{key} is {data.get(key)!r}, not a text"
        for key in ("name", "weights")
        if not isinstance(data.get(key), str) or not data[key]
    ]
    if not re.fullmatch(r"[0-9a-fA-F]{64}", str(data.get("sha256"))):
        problems.append(f"sha256 is {data.get('sha256')!r}, not 64 hex digits")
    if not _is_share(data.get("score_threshold")):
        problems.append(f"score_threshold is {data.get('score_threshold')!r}, not a number from 0 to 1")
    if data.get("nms_iou") is not None and not _is_share(data["nms_iou"]):
        problems.append(f"nms_iou is {data['nms_iou']!r}, not a number from 0 to 1, and not null")
    if data.get("coordinates", "pixels") not in ("pixels", "normalised"):
        problems.append(f"coordinates is {data['coordinates']!r}, neither pixels nor normalised")
    if not isinstance(data.get("other_inputs", {}), dict | None):
        problems.append("other_inputs is not an object of names and numbers")
    layout = data.get("layout")
    if not isinstance(layout, str) or layout not in LAYOUTS:
        problems.append(f"layout is {layout!r}, not one of {', '.join(LAYOUTS)}")
    else:
        problems += _output_problems(data.get("outputs"), layout)
    return problems + _preprocessing_problems(data.get("preprocessing"))


def _output_problems(outputs: Any, layout: str) -> list[str]:
    if not outputs:
        return []
    roles = LAYOUTS[layout].OUTPUT_ROLES
    if not roles:
        return [f"outputs is given, but the layout {layout} knows its outputs by their order"]
    named = isinstance(outputs, dict) and all(isinstance(name, str) for name in outputs.values())
    if not named or set(outputs) != set(roles):
        return [f"outputs is {outputs!r}, not an object with the names of {', '.join(roles)}"]
    return []


def _preprocessing_problems(given: Any) -> list[str]:
    if not isinstance(given, dict | None):
        return ["preprocessing is not an object"]
    problems = []
    for key, value in (given or {}).items():
        wrong = _wrong_setting(key, value)
        if wrong:
            problems.append(f"preprocessing.{key} is {value!r}, not {wrong}" if wrong != "?" else _unknown(key))
    return problems


def _unknown(key: str) -> str:
    return f"preprocessing.{key} is unknown: size, resize, colour, range, mean, std and fill can be set"


def _wrong_setting(key: str, value: Any) -> str:
    """What the setting should be; empty where it is right, a question mark where there is no such setting."""
    if key == "size":
        sides = value if isinstance(value, list) and len(value) == 2 else [value]
        right = all(_is_whole(side, 1, _MAX_SIDE) for side in sides)
        return "" if right else f"a side or [width, height] in whole pixels up to {_MAX_SIDE}"
    if key == "fill":
        return "" if _is_whole(value, 0, 255) else "a whole number from 0 to 255"
    if key == "range":
        return "" if value in (1, 255) and _is_whole(value, 1, 255) else "1 or 255"
    if key in ("mean", "std"):
        numbers = isinstance(value, list) and len(value) == 3 and all(_is_number(v) for v in value)
        return "" if numbers and (key == "mean" or min(value) > 0) else "three numbers, those of std above 0"
    words = {"resize": _RESIZES, "colour": _COLOURS}.get(key)
    if words is None:
        return "?"
    return "" if value in words else "one of " + ", ".join(words)


def _classes(data: Mapping[str, Any], folder: Path) -> tuple[tuple[str | None, ...], list[str]]:
    """The names, and what is wrong with them."""
    if ("classes" in data) == ("classes_file" in data):
        return (), ["there should be either classes or classes_file"]
    if "classes_file" in data:
        if not isinstance(data["classes_file"], str):
            return (), [f"classes_file is {data['classes_file']!r}, not a text"]
        file = (folder / data["classes_file"]).resolve()
        if not file.is_relative_to(folder.resolve()):
            # Class names are shown to everybody.
            return (), [f"classes_file is {data['classes_file']!r}, which is not in the manifest's folder"]
        try:
            names: Any = file.read_text(encoding="utf-8").rstrip().splitlines()
        except (OSError, ValueError) as error:
            return (), [f"classes_file cannot be read: {error}"]
        names = [name.strip() for name in names]
        if not all(names):
            return (), ["classes_file has an empty line between its names"]
    else:
        names = data["classes"]
    if not isinstance(names, list) or not all(name is None or (isinstance(name, str) and name) for name in names):
        return (), ["classes is not a list of names, with null for numbers that are no class"]
    known = [name for name in names if name is not None]
    if not known:
        return (), ["there are no class names"]
    twice = sorted({name for name in known if known.count(name) > 1})
    return tuple(names), [f"the class names {', '.join(twice)} stand there twice"] if twice else []


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _is_share(value: Any) -> bool:
    return _is_number(value) and 0 <= value <= 1


def _is_whole(value: Any, low: int, high: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and low <= value <= high
