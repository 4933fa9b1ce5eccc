"""Finding a model: what somebody wrote about it, the family it belongs to, and how it is described before it is loaded.

This module imports no network library, so that a server can name its models at once.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any, Literal, cast

from bridge.errors import ConfigError, LabelbridgeError, ModelError
from ml_backend.models import Interactor, Predictor

EMBEDDED = "embedded"
EMBEDDED_MANIFEST = Path(__file__).resolve().parent.parent / "weights" / "parts_ssdlite.json"

#: For models whose makers recommend no threshold.
DEFAULT_THRESHOLD = 0.5

Role = Literal["rectangle", "mask", "tag", "interactor"]
Precision = Literal["auto", "fp32", "bf16", "fp16"]
Accelerator = Literal["auto", "torch", "openvino"]

_FAMILIES = {
    "torchvision_detector": "ml_backend.models.torchvision_family",
    "torchvision_classifier": "ml_backend.models.torchvision_classifier",
    "torchvision_segmenter": "ml_backend.models.torchvision_segmenter",
    "onnx_detector": "ml_backend.models.onnx_detector",
    "segment_anything": "ml_backend.models.segment_anything",
    "grabcut": "ml_backend.models.grabcut",
    "label_studio_ml": "ml_backend.models.label_studio_ml",
    "boxes_to_masks": "ml_backend.models.boxes_to_masks",
}


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """One model, as somebody wrote it on the command line or in a models file.

    Attributes:
        spec: ``embedded``; the path of a manifest (``.json``); the name of a torchvision detection, classification or
            segmentation builder; ``sam_vit_b``, ``sam_vit_l``, ``sam_vit_h``; ``grabcut``; the path of one's own
            ``.py`` file; ``package.module:Class``, a LabelStudioMLBase; or two of these joined by ``+``: a detector,
            and the interactor that turns its boxes into masks.
        weights: a weights file, for specs that take one.
        classes: the class names of ``weights``, in the order of training and without the background.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:1`` ...
        score_threshold: detections below it are dropped; None takes what the model's makers recommend.
        batch_size: images per forward pass; None chooses by device.
        precision: of the arithmetic; ``auto`` takes bf16 where the device is fast at it.
        accelerator: what runs the network; ``auto`` takes OpenVINO on a CPU where it is installed and can run it.
        tile: side in pixels of the tiles in which larger images are looked at; None looks at whole images only.
    """

    spec: str = EMBEDDED
    weights: Path | None = None
    classes: tuple[str, ...] | None = None
    device: str = "auto"
    score_threshold: float | None = None
    batch_size: int | None = None
    precision: Precision = "auto"
    accelerator: Accelerator = "auto"
    tile: int | None = None


@dataclass(frozen=True, slots=True)
class ModelCard:
    """What is known of a model before it is loaded.

    Attributes:
        name: what the loaded model's ``name`` will be.
        role: what it answers: boxes, masks, tags, or masks for prompts.
        classes: its class names; empty for an interactor.
        score_threshold: the confidence from which its makers would show a detection.
        description: one line for people: the architecture, the data.
    """

    name: str
    role: Role
    classes: tuple[str, ...] = ()
    score_threshold: float = DEFAULT_THRESHOLD
    description: str = ""


def describe(spec: ModelSpec) -> ModelCard:
    """Name, role, classes and threshold without loading the network.

    Raises:
        ModelError: there is no such model, or its manifest or weights cannot be read.
        ConfigError: it needs a package that is not installed.
    """
    _check(spec)
    family = _family(spec)
    card = cast(ModelCard, family.describe(spec))
    if spec.tile is None:
        return card
    if card.role in ("tag", "interactor"):
        raise ModelError(f"{spec.spec!r} takes no tiles", todo="Leave the tile size out")
    return replace(card, name=f"{card.name}-tile{spec.tile}")


def load(spec: ModelSpec) -> Predictor | Interactor:
    """Load a model, ready to work.

    Raises:
        ModelError: no such model, the weights are not the ones the manifest names or do not fit, a download failed,
            or the device does not exist.
        ConfigError: it needs a package that is not installed.
    """
    _check(spec)
    loaded: Predictor | Interactor = _family(spec).load(spec)
    if spec.tile is not None:
        from ml_backend.models.tiled import Tiled

        if not is_predictor(loaded):
            raise ModelError(f"{spec.spec!r} is interactive and takes no tiles", todo="Leave the tile size out")
        tiled: Predictor = Tiled(cast(Predictor, loaded), spec.tile)
        return tiled
    return loaded


def load_predictor(
    spec: str = EMBEDDED,
    *,
    weights: Path | None = None,
    classes: Sequence[str] | None = None,
    device: str = "auto",
    score_threshold: float | None = None,
    batch_size: int | None = None,
) -> Predictor:
    """Load a model that finds objects on its own; the arguments are those of :class:`ModelSpec`.

    Raises:
        ModelError, ConfigError: as :func:`load`; also where the model is an interactor.
    """
    loaded = load(
        ModelSpec(
            spec,
            weights=weights,
            classes=None if classes is None else tuple(classes),
            device=device,
            score_threshold=score_threshold,
            batch_size=batch_size,
        )
    )
    if not is_predictor(loaded):
        raise ModelError(
            f"{spec!r} answers prompts and finds nothing on its own",
            expected="a detector, or DETECTOR+" + spec,
            todo="Name a detector",
        )
    return cast(Predictor, loaded)


def is_predictor(model: Predictor | Interactor) -> bool:
    """Whether it finds objects on its own; else it is an interactor."""
    return hasattr(model, "predict")


def manifest_path(spec: str) -> Path | None:
    """The manifest that ``spec`` means, or None."""
    if spec == EMBEDDED:
        return EMBEDDED_MANIFEST
    return Path(spec) if spec.lower().endswith(".json") else None


def read_json(path: Path) -> Any:
    """The JSON in a manifest.

    Raises:
        ModelError: it cannot be read, or is no JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ModelError(
            f"the manifest {path} cannot be read: {error.strerror or error}",
            expected="a JSON file that names a model's family, weights and sha256",
            todo="Correct the path; where it is the embedded model's, install labelbridge again",
        ) from None
    except (ValueError, RecursionError) as error:
        raise ModelError(
            f"the manifest {path} is no JSON: {error}", expected="one JSON object", todo="Correct the file"
        ) from None


def _check(spec: ModelSpec) -> None:
    threshold = spec.score_threshold
    if threshold is not None and not 0 <= threshold <= 1:
        raise ModelError(f"the score threshold is {threshold}", expected="a number from 0 to 1")


def _family(spec: ModelSpec) -> ModuleType:
    name = spec.spec
    manifest = manifest_path(name)
    if "+" in name and manifest is None:
        return _import("boxes_to_masks")
    if manifest is not None:
        data = read_json(manifest)
        family = data.get("family", "torchvision_detector") if isinstance(data, dict) else "torchvision_detector"
        if family not in _FAMILIES:
            raise ModelError(
                f"the manifest {manifest} names the family {family!r}",
                expected="one of " + ", ".join(_FAMILIES),
                todo="Correct it",
            )
        return _import(family)
    if name.lower().endswith(".py"):
        return _own_file(Path(name))
    if name.lower().endswith(".onnx"):
        raise ModelError(
            f"{name!r} is an ONNX file",
            expected="a manifest (.json) that names it, its classes and its layout",
            todo="Write one; docs/models.md shows how",
        )
    if re.fullmatch(r"[\w.]+:\w+", name):
        return _import("label_studio_ml")
    if name.startswith("sam_vit_"):
        return _import("segment_anything")
    if name == "grabcut":
        return _import("grabcut")
    accepting = (_import(family) for family in ("torchvision_classifier", "torchvision_segmenter"))
    return next((family for family in accepting if family.accepts(name)), _import("torchvision_detector"))


def _import(family: str) -> ModuleType:
    return importlib.import_module(_FAMILIES[family])


def _own_file(path: Path) -> ModuleType:
    """A family of somebody's own: running it is what they asked for by naming it."""
    found = importlib.util.spec_from_file_location(f"labelbridge_model_{path.stem}", path)
    if found is None or found.loader is None or not path.is_file():
        raise ModelError(f"there is no model file {path}", expected="a Python file with describe(spec) and load(spec)")
    module = importlib.util.module_from_spec(found)
    try:
        found.loader.exec_module(module)
    except LabelbridgeError:
        raise
    except Exception as error:
        raise ModelError(f"the model file {path} failed: {type(error).__name__}: {error}", todo="Correct it") from error
    missing = [name for name in ("describe", "load") if not callable(getattr(module, name, None))]
    if missing:
        raise ModelError(f"the model file {path} has no function {' and no '.join(missing)}", todo="Add it")
    return module


def need_extra(package: str, extra: str) -> ConfigError:
    """The error for an optional package that is not installed."""
    return ConfigError(f"the package {package} is not installed", todo=f"pip install 'labelbridge[{extra}]'")
