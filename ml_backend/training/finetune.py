"""Fine-tune a detector of torchvision on labelled images: the trainer behind `labelbridge train`.

Single-shot networks (SSD, SSDlite) learn by :mod:`ml_backend.training.ssd` from squares that grow during the training;
all others by torchvision's own losses. On a GPU the passes run in bfloat16 and the weights stay in float32.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import torchvision
from safetensors.torch import save as save_safetensors
from torch import nn
from torchvision.models.detection.ssd import SSD

from bridge.core.annotations import digest
from bridge.core.predictor import Predictor
from bridge.core.provenance import Provenance
from bridge.core.training import Fit, Tell
from bridge.errors import ModelError
from ml_backend.models.torchvision_detector import choose_device
from ml_backend.training.checkpoint import Checkpoint, replace_file
from ml_backend.training.loop import Plan, as_predictor, train
from ml_backend.training.recipe import OTHERS, SINGLE_SHOT, Recipe
from ml_backend.training.start import Start

#: Raised whenever the same figures would train another model.
VERSION = 3


def trainer(
    spec: str = "embedded",
    *,
    labels: Sequence[str],
    weights: Path | None = None,
    device: str = "auto",
) -> Finetuner:
    """The trainer for a network and the labels it is to learn.

    Args:
        spec: ``embedded``, the path of a manifest, or the name of a torchvision detection builder.
        labels: the class names, in the order of ``Example.label``.
        weights: to start from, for a builder; None takes torchvision's COCO weights.
        device: ``auto``, ``cpu``, ``cuda`` ...

    Raises:
        ModelError: no such network, its weights cannot be had or do not fit, or the device does not exist.
    """
    return Finetuner(Start.of(spec, weights), tuple(labels), choose_device(device))


class Finetuner:
    """A :class:`bridge.core.training.Trainer` for torchvision's detectors."""

    def __init__(self, start: Start, labels: tuple[str, ...], device: torch.device, recipe: Recipe | None = None):
        self._start = start
        self._labels = labels
        self._device = device
        torch.manual_seed(0)
        network: Any = start.network(labels)
        self._transform = network.transform
        self._recipe = recipe or (SINGLE_SHOT if isinstance(network, SSD) else OTHERS)

    @property
    def recipe(self) -> Mapping[str, Any]:
        return {
            "version": VERSION,
            "builder": self._start.builder,
            "builder_args": dict(self._start.builder_args),
            "start": self._start.digest,
            "labels": list(self._labels),
            "device": self._device.type,
            **self._recipe.to_dict(),
        }

    @property
    def start(self) -> Provenance | None:
        return self._start.provenance

    @property
    def side(self) -> int:
        fixed = self._transform.fixed_size
        return int(max(fixed) if fixed is not None else self._transform.max_size)

    def epochs(self, images: int) -> int:
        return self._recipe.epochs(images)

    def fit(self, fit: Fit, tell: Tell) -> FittedDetector:
        """See :class:`bridge.core.training.Trainer`.

        Raises:
            ModelError: nothing to train on, the device is out of memory, or the loss is no number any more.
        """
        if not fit.train:
            raise ModelError("there is no image to train on", expected="at least one labelled image")
        torch.manual_seed(fit.seed)
        plan = Plan(fit, self._recipe, self._labels, self._device, self._key(fit))
        try:
            network, done = train(self._start.network(self._labels), plan, tell)
        except torch.OutOfMemoryError as error:
            raise ModelError(
                f"the device {self._device} has not enough memory to train {self._start.builder}: {error}",
                expected="a smaller network, or a device with more memory",
                todo="Train another network with --detector, or free the device",
            ) from None
        return FittedDetector(network, self._start, plan, done)

    def _key(self, fit: Fit) -> str:
        """Names everything that decides what is trained: a checkpoint with another key belongs to something else."""
        images = [[e.path.name, e.xyxy.tolist(), e.label.tolist()] for e in (*fit.train, *fit.held_out)]
        return digest([dict(self.recipe), images, len(fit.train), fit.seed, fit.epochs, fit.patience])


class FittedDetector:
    """A :class:`bridge.core.training.Fitted`."""

    def __init__(self, network: nn.Module, start: Start, plan: Plan, done: Checkpoint):
        self._network = network
        self._start = start
        self._plan = plan
        self.epochs = done.history
        self.best = done.best

    @property
    def predictor(self) -> Predictor:
        return as_predictor(self._network, self._plan)

    def save(self, folder: Path, name: str, threshold: float, notes: Mapping[str, Any]) -> Path:
        """See :class:`bridge.core.training.Fitted`."""
        data = save_safetensors({k: v.cpu().contiguous().clone() for k, v in self._network.state_dict().items()})
        sha256 = hashlib.sha256(data).hexdigest()
        replace_file(folder / "model.safetensors", data)
        manifest = {
            "name": f"{name}-{self._start.builder.split('_')[0]}-{sha256[:8]}",
            "builder": self._start.builder,
            "builder_args": {**self._start.builder_args, "num_classes": len(self._plan.labels) + 1},
            "classes": list(self._plan.labels),
            "weights": "model.safetensors",
            "sha256": sha256,
            "score_threshold": threshold,
            "kind": "rectangle",
            "training": {**notes, "torch": torch.__version__, "torchvision": torchvision.__version__},
        }
        path = folder / "manifest.json"
        replace_file(path, (json.dumps(manifest, indent=2, ensure_ascii=False) + "\n").encode())
        return path
