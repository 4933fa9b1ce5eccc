"""Detectors of torchvision as a family: the embedded one, one's own manifest, or a builder with or without own weights.

Imports torch only where a builder must be looked up, a GPU may be at hand or a network is loaded: else a manifest is
described without it.
"""

from __future__ import annotations

import hashlib

from bridge.errors import ModelError
from ml_backend.models import Predictor
from ml_backend.models.catalogue import DEFAULT_THRESHOLD, ModelCard, ModelSpec, Role, manifest_path
from ml_backend.models.manifest import Manifest, read_manifest
from ml_backend.models.precision import choose_precision, suffix


def describe(spec: ModelSpec) -> ModelCard:
    """See :mod:`ml_backend.models`."""
    manifest = _manifest(spec)
    ending = suffix(choose_precision(spec.precision, spec.device))
    if manifest is not None:
        name, role = manifest.name + ending, _manifest_role(manifest)
        return ModelCard(name, role, manifest.classes, manifest.score_threshold, manifest.builder)
    from ml_backend.models import torchvision_detector as detector
    from ml_backend.models.weights import read_bytes

    detector.check_builder(spec.spec)
    coco = tuple(name for name in detector.coco_outputs(spec.spec) if name is not None)
    role = _role(spec.spec)
    if spec.weights is None:
        weights = detector.coco_weights(spec.spec).name.lower().replace("_", "-")
        return ModelCard(f"{spec.spec}-{weights}{ending}", role, coco, DEFAULT_THRESHOLD, f"{spec.spec}, COCO")
    name = _own_name(spec.spec, read_bytes(spec.weights)) + ending
    return ModelCard(name, role, spec.classes or coco, DEFAULT_THRESHOLD, spec.spec)


def load(spec: ModelSpec) -> Predictor:
    """See :mod:`ml_backend.models`."""
    manifest = _manifest(spec)
    _check_classes(spec, manifest)
    from ml_backend.models import torchvision_detector as detector
    from ml_backend.models.weights import check_digest, parse_state, read_bytes

    # Before anything is read: the device and the precision may be impossible here.
    device = str(detector.choose_device(spec.device))
    ending = suffix(choose_precision(spec.precision, device))
    if manifest is not None:
        data = read_bytes(manifest.weights)
        check_digest(data, manifest.sha256, manifest.weights)
        network, outputs = detector.build_from_state(
            manifest.builder,
            parse_state(data, manifest.weights),
            manifest.classes,
            manifest.builder_args,
            f"the weights {manifest.weights}",
            masks=_manifest_role(manifest) == "mask",
        )
        name, recommended = manifest.name + ending, manifest.score_threshold
    elif spec.weights is not None:
        data = read_bytes(spec.weights)
        detector.check_builder(spec.spec)
        state, masks = parse_state(data, spec.weights), _role(spec.spec) == "mask"
        network, outputs = detector.build_from_state(
            spec.spec, state, spec.classes, {}, f"the weights {spec.weights}", masks=masks
        )
        name, recommended = _own_name(spec.spec, data) + ending, DEFAULT_THRESHOLD
    else:
        network = detector.build_coco(spec.spec, masks=_role(spec.spec) == "mask")
        outputs = detector.coco_outputs(spec.spec)
        name, recommended = describe(spec).name, DEFAULT_THRESHOLD
    return detector.TorchvisionDetector(
        network,
        name=name,
        outputs=outputs,
        device=device,
        score_threshold=recommended if spec.score_threshold is None else spec.score_threshold,
        batch_size=spec.batch_size,
        precision=spec.precision,
        accelerator=spec.accelerator,
    )


def _check_classes(spec: ModelSpec, manifest: Manifest | None) -> None:
    if spec.classes is None:
        return
    if manifest is not None:
        raise ModelError(
            f"class names were given for {spec.spec!r}, whose manifest names its classes",
            expected="class names only beside own weights",
            todo="Leave the class names out, or map them to the project's labels with a label map",
        )
    if spec.weights is None:
        raise ModelError(
            f"class names were given for {spec.spec!r} without weights of one's own",
            expected="class names only beside own weights: COCO's names are known",
            todo="Leave the class names out, or give the weights they belong to",
        )


def _role(builder: str) -> Role:
    return "mask" if builder.startswith("maskrcnn_") else "rectangle"


def _manifest_role(manifest: Manifest) -> Role:
    return manifest.kind or _role(manifest.builder)


def _manifest(spec: ModelSpec) -> Manifest | None:
    path = manifest_path(spec.spec)
    if path is None:
        return None
    if spec.weights is not None:
        raise ModelError(
            f"weights were given for {spec.spec!r}, whose manifest names its own",
            expected="weights only beside the name of a torchvision builder",
            todo="Leave the weights out, or name the builder they belong to",
        )
    return read_manifest(path)


def _own_name(builder: str, data: bytes) -> str:
    return f"{builder}-{hashlib.sha256(data).hexdigest()[:8]}"
