"""Semantic segmenters of torchvision as a family: masks of what hangs together, and the class map behind them.

Imports torch only where a builder must be looked up, a GPU may be at hand or a network is loaded: else a manifest is
described without it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

from bridge.errors import ModelError
from ml_backend.models import Predictor
from ml_backend.models.catalogue import DEFAULT_THRESHOLD, ModelCard, ModelSpec, manifest_path, read_json
from ml_backend.models.manifest import Manifest, read_manifest
from ml_backend.models.precision import choose_precision, suffix
from ml_backend.models.torchvision_classifier import check_spec, preprocessing_problems


def accepts(name: str) -> bool:
    """Whether ``name`` is a segmentation builder of torchvision."""
    from torchvision import models
    from torchvision.models import segmentation

    return name in models.list_models(module=segmentation)


def describe(spec: ModelSpec) -> ModelCard:
    """See :mod:`ml_backend.models`."""
    known = _manifest(spec)
    ending = suffix(choose_precision(spec.precision, spec.device))
    if known is not None:
        base, _ = known
        return ModelCard(base.name + ending, "mask", base.classes, base.score_threshold, base.builder)
    from ml_backend.models.segmenter_network import voc_classes, voc_weights
    from ml_backend.models.weights import read_bytes

    weights = voc_weights(spec.spec)
    if spec.weights is None:
        name = f"{spec.spec}-{weights.name.lower().replace('_', '-')}{ending}"
        return ModelCard(
            name, "mask", voc_classes(spec.spec), DEFAULT_THRESHOLD, f"{spec.spec}, COCO with VOC's classes"
        )
    name = _own_name(spec.spec, read_bytes(spec.weights)) + ending
    return ModelCard(name, "mask", spec.classes or voc_classes(spec.spec), DEFAULT_THRESHOLD, spec.spec)


def load(spec: ModelSpec) -> Predictor:
    """See :mod:`ml_backend.models`."""
    known = _manifest(spec)
    check_spec(spec, known is not None, "VOC's")
    if spec.accelerator == "openvino":
        raise ModelError(
            f"OpenVINO was asked for, and {spec.spec!r} is a segmenter",
            expected="torch for segmenters",
            todo="Leave the accelerator out",
        )
    from ml_backend.models import segmenter_network as segmenter
    from ml_backend.models.torchvision_detector import choose_device
    from ml_backend.models.weights import check_digest, parse_state, read_bytes

    # Before anything is read: the device and the precision may be impossible here.
    device = str(choose_device(spec.device))
    ending = suffix(choose_precision(spec.precision, device))
    builder, recommended = spec.spec, DEFAULT_THRESHOLD
    changes: Mapping[str, Any] = {}
    if known is not None:
        base, changes = known
        builder, name, recommended, classes = base.builder, base.name + ending, base.score_threshold, base.classes
        data = read_bytes(base.weights)
        check_digest(data, base.sha256, base.weights)
        state, what = parse_state(data, base.weights), f"the weights {base.weights}"
        network = segmenter.build_from_state(builder, state, classes, base.builder_args, what)
    elif spec.weights is not None:
        data = read_bytes(spec.weights)
        name, classes = _own_name(builder, data) + ending, spec.classes or segmenter.voc_classes(builder)
        state, what = parse_state(data, spec.weights), f"the weights {spec.weights}"
        network = segmenter.build_from_state(builder, state, classes, {}, what)
    else:
        network, card = segmenter.build_voc(builder), describe(spec)
        name, classes = card.name, card.classes
    return segmenter.TorchvisionSegmenter(
        network,
        name=name,
        classes=classes,
        preset=segmenter.preset(builder, changes),
        device=device,
        precision=spec.precision,
        score_threshold=recommended if spec.score_threshold is None else spec.score_threshold,
    )


def _manifest(spec: ModelSpec) -> tuple[Manifest, Mapping[str, Any]] | None:
    """The manifest, and what it says about the preprocessing."""
    path = manifest_path(spec.spec)
    if path is None:
        return None
    if spec.weights is not None:
        raise ModelError(
            f"weights were given for {spec.spec!r}, whose manifest names its own",
            expected="weights only beside the name of a torchvision builder",
            todo="Leave the weights out, or name the builder they belong to",
        )
    base, data = read_manifest(path), read_json(path)
    changes = data.get("preprocessing") or {}
    problems = preprocessing_problems(changes, ("resize",))
    if problems:
        raise ModelError(
            f"the manifest {path} cannot be used: {'; '.join(problems)}",
            expected="a manifest of a torchvision segmenter",
            todo="Correct the file",
        )
    return base, changes


def _own_name(builder: str, data: bytes) -> str:
    return f"{builder}-{hashlib.sha256(data).hexdigest()[:8]}"
