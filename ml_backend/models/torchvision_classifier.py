"""Classifiers of torchvision as a family: tags of the whole image, each with its probability.

Imports torch only where a builder must be looked up, a GPU may be at hand or a network is loaded: else a manifest is
described without it.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from bridge.errors import ModelError
from ml_backend.models import Predictor
from ml_backend.models.catalogue import DEFAULT_THRESHOLD, ModelCard, ModelSpec, manifest_path, read_json
from ml_backend.models.manifest import Manifest, read_manifest
from ml_backend.models.precision import choose_precision, suffix


@dataclass(frozen=True, slots=True)
class ClassifierManifest:
    """A manifest of this family.

    Attributes:
        base: what it shares with detectors.
        multi_label: each class is a question of its own (sigmoid); else exactly one class is right (softmax).
        preprocessing: ``resize``, ``crop``, ``mean``, ``std`` where they differ from the builder's own.
    """

    base: Manifest
    multi_label: bool = False
    preprocessing: Mapping[str, Any] = field(default_factory=dict)


def accepts(name: str) -> bool:
    """Whether ``name`` is a classification builder of torchvision."""
    from torchvision import models

    return name in models.list_models(module=models)


def describe(spec: ModelSpec) -> ModelCard:
    """See :mod:`ml_backend.models`."""
    manifest = _manifest(spec)
    ending = suffix(choose_precision(spec.precision, spec.device))
    if manifest is not None:
        base = manifest.base
        return ModelCard(base.name + ending, "tag", base.classes, base.score_threshold, base.builder)
    from ml_backend.models.classifier_network import imagenet_weights
    from ml_backend.models.weights import read_bytes

    weights = imagenet_weights(spec.spec)
    names = tuple(weights.meta["categories"])
    if spec.weights is None:
        name = f"{spec.spec}-{weights.name.lower().replace('_', '-')}{ending}"
        return ModelCard(name, "tag", names, DEFAULT_THRESHOLD, f"{spec.spec}, ImageNet")
    name = _own_name(spec.spec, read_bytes(spec.weights)) + ending
    return ModelCard(name, "tag", spec.classes or names, DEFAULT_THRESHOLD, spec.spec)


def load(spec: ModelSpec) -> Predictor:
    """See :mod:`ml_backend.models`."""
    manifest = _manifest(spec)
    check_spec(spec, manifest is not None, "ImageNet's")
    from ml_backend.models import classifier_network as classifier
    from ml_backend.models.torchvision_detector import choose_device
    from ml_backend.models.weights import check_digest, parse_state, read_bytes

    # Before anything is read: the device and the precision may be impossible here.
    device = str(choose_device(spec.device))
    ending = suffix(choose_precision(spec.precision, device))
    builder, recommended = spec.spec, DEFAULT_THRESHOLD
    if manifest is not None:
        base = manifest.base
        builder, name, recommended = base.builder, base.name + ending, base.score_threshold
        data = read_bytes(base.weights)
        check_digest(data, base.sha256, base.weights)
        state, what = parse_state(data, base.weights), f"the weights {base.weights}"
        network, classes = classifier.build_from_state(builder, state, base.classes, base.builder_args, what)
    elif spec.weights is not None:
        classifier.imagenet_weights(builder)
        data = read_bytes(spec.weights)
        name = _own_name(builder, data) + ending
        state, what = parse_state(data, spec.weights), f"the weights {spec.weights}"
        network, classes = classifier.build_from_state(builder, state, spec.classes, {}, what)
    else:
        network, card = classifier.build_imagenet(builder), describe(spec)
        name, classes = card.name, card.classes
    return classifier.TorchvisionClassifier(
        network,
        name=name,
        classes=classes,
        preset=classifier.preset(builder, manifest.preprocessing if manifest else {}),
        multi_label=manifest is not None and manifest.multi_label,
        device=device,
        precision=spec.precision,
        accelerator=spec.accelerator,
        score_threshold=recommended if spec.score_threshold is None else spec.score_threshold,
        batch_size=spec.batch_size,
    )


def check_spec(spec: ModelSpec, has_manifest: bool, published: str) -> None:
    """Raises ModelError where class names were given that are known; ``published`` says whose, as in ``ImageNet's``."""
    if spec.classes is None:
        return
    if has_manifest:
        raise ModelError(
            f"class names were given for {spec.spec!r}, whose manifest names its classes",
            expected="class names only beside own weights",
            todo="Leave the class names out, or map them to the project's labels with a label map",
        )
    if spec.weights is None:
        raise ModelError(
            f"class names were given for {spec.spec!r} without weights of one's own",
            expected=f"class names only beside own weights: {published} names are known",
            todo="Leave the class names out, or give the weights they belong to",
        )


def _manifest(spec: ModelSpec) -> ClassifierManifest | None:
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
    problems = preprocessing_problems(changes, ("resize", "crop"))
    if not isinstance(data.get("multi_label", False), bool):
        problems.append(f"multi_label is {data['multi_label']!r}, not true or false")
    if problems:
        raise ModelError(
            f"the manifest {path} cannot be used: {'; '.join(problems)}",
            expected="a manifest of a torchvision classifier",
            todo="Correct the file",
        )
    return ClassifierManifest(base, data.get("multi_label", False), changes)


def preprocessing_problems(changes: Any, sizes: Sequence[str]) -> list[str]:
    """What is wrong with a manifest's ``preprocessing``, which may set ``sizes`` in pixels, ``mean`` and ``std``."""
    if not isinstance(changes, dict):
        return ["preprocessing is not an object"]
    problems = []
    for key, value in changes.items():
        if key in sizes:
            if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= 2048:
                problems.append(f"preprocessing.{key} is {value!r}, not a whole number of pixels from 1 to 2048")
        elif key in ("mean", "std"):
            numbers = [v for v in value if isinstance(v, int | float)] if isinstance(value, list) else []
            if len(numbers) != 3 or not all(math.isfinite(v) and (key == "mean" or v > 0) for v in numbers):
                problems.append(f"preprocessing.{key} is {value!r}, not three numbers")
        else:
            problems.append(f"preprocessing.{key} is unknown: {', '.join(sizes)}, mean and std can be set")
    return problems


def _own_name(builder: str, data: bytes) -> str:
    return f"{builder}-{hashlib.sha256(data).hexdigest()[:8]}"
