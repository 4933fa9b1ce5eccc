"""Finding a model: the embedded one, one's own manifest, or a builder of torchvision with or without own weights.

This module imports no network library until a model is loaded, so that a server can name its model at once.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bridge.errors import ModelError
from ml_backend.models import Predictor
from ml_backend.models.manifest import Manifest, read_manifest

EMBEDDED = "embedded"
EMBEDDED_MANIFEST = Path(__file__).resolve().parent.parent / "weights" / "parts_ssdlite.json"

#: For models whose makers recommend no threshold.
DEFAULT_THRESHOLD = 0.5


@dataclass(frozen=True, slots=True)
class ModelCard:
    """What is known of a model before it is loaded.

    Attributes:
        name: what the loaded predictor's ``name`` will be.
        score_threshold: the confidence from which its makers would show a detection.
    """

    name: str
    score_threshold: float


def describe_model(spec: str = EMBEDDED, *, weights: Path | None = None) -> ModelCard:
    """Name and threshold without loading the network.

    Raises:
        ModelError: there is no such model, or its manifest or weights cannot be read.
    """
    manifest = _manifest(spec, weights)
    if manifest is not None:
        return ModelCard(manifest.name, manifest.score_threshold)
    from ml_backend.models.torchvision_detector import check_builder, coco_weights
    from ml_backend.models.weights import read_bytes

    check_builder(spec)
    if weights is None:
        return ModelCard(f"{spec}-{coco_weights(spec).name.lower().replace('_', '-')}", DEFAULT_THRESHOLD)
    return ModelCard(_own_name(spec, read_bytes(weights)), DEFAULT_THRESHOLD)


def load_predictor(
    spec: str = EMBEDDED,
    *,
    weights: Path | None = None,
    classes: Sequence[str] | None = None,
    device: str = "auto",
    score_threshold: float | None = None,
    batch_size: int | None = None,
) -> Predictor:
    """Load a model, ready to predict.

    Args:
        spec: ``embedded`` (the model that comes with labelbridge), the path of a manifest (``.json``), or the name of a
            builder of torchvision, as in ``fasterrcnn_resnet50_fpn_v2``.
        weights: a ``.safetensors`` file or a state dict saved by ``torch.save``, for a builder; without it
            torchvision's COCO weights are taken from its cache or downloaded.
        classes: the class names of ``weights``, in the order of training and without the background; without them
            weights of COCO's size get COCO's names.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:1`` ...
        score_threshold: detections below it are dropped; None takes what the model's makers recommend.
        batch_size: images per forward pass; None chooses by device.

    Raises:
        ModelError: no such model, the weights are not the ones the manifest names or do not fit, the download failed,
            or the device does not exist.
    """
    if score_threshold is not None and not 0 <= score_threshold <= 1:
        raise ModelError(f"the score threshold is {score_threshold}", expected="a number from 0 to 1")
    manifest = _manifest(spec, weights)
    if manifest is not None and classes is not None:
        raise ModelError(
            f"class names were given for {spec!r}, whose manifest names its classes",
            expected="class names only beside own weights",
            todo="Leave the class names out, or map them to the project's labels with a label map",
        )
    if weights is None and classes is not None:
        raise ModelError(
            f"class names were given for {spec!r} without weights of one's own",
            expected="class names only beside own weights: COCO's names are known",
            todo="Leave the class names out, or give the weights they belong to",
        )
    from ml_backend.models import torchvision_detector as detector
    from ml_backend.models.weights import check_digest, parse_state, read_bytes

    if manifest is not None:
        data = read_bytes(manifest.weights)
        check_digest(data, manifest.sha256, manifest.weights)
        state = parse_state(data, manifest.weights)
        network, outputs = detector.build_from_state(
            manifest.builder, state, manifest.classes, manifest.builder_args, f"the weights {manifest.weights}"
        )
        name, recommended = manifest.name, manifest.score_threshold
    elif weights is not None:
        data = read_bytes(weights)
        detector.check_builder(spec)
        state = parse_state(data, weights)
        network, outputs = detector.build_from_state(spec, state, classes, {}, f"the weights {weights}")
        name, recommended = _own_name(spec, data), DEFAULT_THRESHOLD
    else:
        network, outputs = detector.build_coco(spec), detector.coco_outputs(spec)
        name, recommended = describe_model(spec).name, DEFAULT_THRESHOLD
    return detector.TorchvisionDetector(
        network,
        name=name,
        outputs=outputs,
        device=device,
        score_threshold=recommended if score_threshold is None else score_threshold,
        batch_size=batch_size,
    )


def _manifest(spec: str, weights: Path | None) -> Manifest | None:
    if spec != EMBEDDED and not spec.lower().endswith(".json"):
        return None
    if weights is not None:
        raise ModelError(
            f"weights were given for {spec!r}, whose manifest names its own",
            expected="weights only beside the name of a torchvision builder",
            todo="Leave the weights out, or name the builder they belong to",
        )
    return read_manifest(EMBEDDED_MANIFEST if spec == EMBEDDED else Path(spec))


def _own_name(builder: str, data: bytes) -> str:
    return f"{builder}-{hashlib.sha256(data).hexdigest()[:8]}"
