"""What a fine-tuning starts from: a network with new heads for the new labels, all else from trained weights."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from bridge.core.provenance import Provenance
from bridge.errors import ModelError
from ml_backend.models import torchvision_detector as detector
from ml_backend.models.catalogue import manifest_path, read_json
from ml_backend.models.manifest import read_manifest
from ml_backend.models.weights import State, check_digest, parse_state, read_bytes

#: Weights that share fewer of the network's tensors than this were made for another network.
_LEAST_SHARE = 0.5


@dataclass(frozen=True, slots=True)
class Start:
    """Attributes:
    builder: of torchvision.models.detection.
    builder_args: its arguments, ``num_classes`` and weights left out.
    state: the tensors to begin with.
    digest: SHA-256 (hex) that names them.
    provenance: what they were trained on by labelbridge; None where they were not.
    """

    builder: str
    builder_args: Mapping[str, Any]
    state: State
    digest: str
    provenance: Provenance | None = None

    @classmethod
    def of(cls, spec: str, weights: Path | None) -> Start:
        """What ``spec`` (embedded, a manifest, a builder) and ``weights`` (for a builder; None: COCO's) mean.

        Raises:
            ModelError: there is no such network, it is no detector of torchvision, or its weights cannot be had.
        """
        path = manifest_path(spec)
        if path is not None and weights is not None:
            raise ModelError(
                f"weights were given for {spec!r}, whose manifest names its own",
                expected="weights only beside the name of a torchvision builder",
                todo="Leave the weights out, or name the builder they belong to",
            )
        if path is not None:
            manifest = read_manifest(path)
            data = read_bytes(manifest.weights)
            check_digest(data, manifest.sha256, manifest.weights)
            args = {k: v for k, v in manifest.builder_args.items() if k not in ("num_classes", *_WEIGHTS)}
            detector.check_builder(manifest.builder)
            provenance = Provenance.from_manifest(read_json(path))
            return cls(manifest.builder, args, parse_state(data, manifest.weights), manifest.sha256, provenance)
        detector.check_builder(spec)
        if weights is not None:
            data = read_bytes(weights)
            return cls(spec, {}, parse_state(data, weights), hashlib.sha256(data).hexdigest())
        state = detector.build_coco(spec).state_dict()
        return cls(spec, {}, state, str(detector.coco_weights(spec).url))

    def network(self, labels: Sequence[str]) -> nn.Module:
        """The network for these labels; what differs in shape, the heads' last layers, keeps its random values.

        Raises:
            ModelError: the weights belong to another network.
        """
        network = detector.build_network(self.builder, {**self.builder_args, "num_classes": len(labels) + 1})
        own = network.state_dict()
        fitting = {k: v for k, v in self.state.items() if k in own and own[k].shape == v.shape}
        counted = [k for k in own if not k.endswith(".num_batches_tracked")]
        shared = sum(k in fitting for k in counted)
        if shared < _LEAST_SHARE * len(counted):
            raise ModelError(
                f"the weights to start from share only {shared} of {len(counted)} tensors with {self.builder}",
                expected="weights of the same torchvision builder",
                todo="Name the builder that the weights were trained with",
            )
        network.load_state_dict(fitting, strict=False)
        return network


_WEIGHTS = ("weights", "weights_backbone")
