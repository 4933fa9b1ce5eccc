"""A manifest: a JSON file that says how to rebuild a model and which weights belong to it."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from bridge.errors import ModelError
from ml_backend.models.catalogue import read_json


@dataclass(frozen=True, slots=True)
class Manifest:
    """Attributes:
    name: name and version of the model.
    builder: a builder of torchvision.models.detection.
    builder_args: its arguments; ``num_classes`` may be left out.
    classes: class names in the order of training, without the background.
    weights: the file, beside the manifest unless absolute.
    sha256: of that file, 64 hex digits.
    score_threshold: the confidence from which suggestions are worth showing.
    kind: ``rectangle`` where a network that could answer masks was trained on boxes alone; None: what the builder says.
    """

    name: str
    builder: str
    builder_args: Mapping[str, Any]
    classes: tuple[str, ...]
    weights: Path
    sha256: str
    score_threshold: float
    kind: Literal["rectangle", "mask"] | None = None


def read_manifest(path: Path) -> Manifest:
    """Read and check a manifest; keys it does not know are notes for people.

    Raises:
        ModelError: it cannot be read, or entries are missing or wrong; all of them are listed.
    """
    data = read_json(path)
    problems = _problems(data)
    if problems:
        raise ModelError(
            f"the manifest {path} cannot be used: {'; '.join(problems)}",
            expected="name, builder, classes, weights, sha256 and score_threshold",
            todo="Correct the file",
        )
    return Manifest(
        name=data["name"],
        builder=data["builder"],
        builder_args=data.get("builder_args") or {},
        classes=tuple(data["classes"]),
        weights=path.parent / data["weights"],
        sha256=data["sha256"],
        score_threshold=float(data["score_threshold"]),
        kind=data.get("kind"),
    )


def _problems(data: Any) -> list[str]:
    if not isinstance(data, dict):
        return [f"it holds {type(data).__name__}, not an object"]
    problems = [
        f"{key} is {data.get(key)!r}, not a text"
        for key in ("name", "builder", "weights")
        if not isinstance(data.get(key), str) or not data[key]
    ]
    if not re.fullmatch(r"[0-9a-fA-F]{64}", str(data.get("sha256"))):
        problems.append(f"sha256 is {data.get('sha256')!r}, not 64 hex digits")
    if not isinstance(data.get("builder_args", {}), dict | None):
        problems.append("builder_args is not an object")
    if data.get("kind") not in (None, "rectangle", "mask"):
        problems.append(f"kind is {data['kind']!r}, not rectangle or mask")
    elif data.get("kind") == "mask" and not str(data.get("builder")).startswith("maskrcnn_"):
        problems.append(f"kind is 'mask', and {data.get('builder')!r} answers no masks")
    classes = data.get("classes")
    if not isinstance(classes, list) or not classes or not all(isinstance(c, str) and c for c in classes):
        problems.append("classes is not a list of names")
    elif len(set(classes)) != len(classes):
        problems.append("classes names something twice")
    threshold = data.get("score_threshold")
    if isinstance(threshold, bool) or not isinstance(threshold, int | float) or not _is_share(float(threshold)):
        problems.append(f"score_threshold is {threshold!r}, not a number from 0 to 1")
    return problems


def _is_share(value: float) -> bool:
    return math.isfinite(value) and 0 <= value <= 1
