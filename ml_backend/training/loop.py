"""The training itself: epochs of steps, a running average of the weights, and the AP on held-out images."""

from __future__ import annotations

import copy
import math
import os
import time
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torchvision.models.detection.ssd import SSD

from bridge.core.detection_ap import DetectionAP, Truth, detection_ap
from bridge.core.predictor import Detections
from bridge.core.training import Epoch, Example, Fit, Tell
from bridge.errors import ModelError
from ml_backend.models.torchvision_detector import TorchvisionDetector
from ml_backend.training.checkpoint import Checkpoint
from ml_backend.training.recipe import Recipe
from ml_backend.training.ssd import Batch, average_into, detection_loss, forward
from ml_backend.training.views import View, batches, recolour

#: Fainter detections are not worth keeping: below it a single-shot network answers every anchor.
FAINTEST = 0.01


@dataclass(frozen=True, slots=True)
class Plan:
    """What is trained, how and where; ``key`` names all of it."""

    fit: Fit
    recipe: Recipe
    labels: tuple[str, ...]
    device: torch.device
    key: str

    @property
    def batch(self) -> int:
        return self.recipe.batch(len(self.fit.train))

    @property
    def workers(self) -> int:
        """Threads that decode images: a CPU has its hands full with the network."""
        return 2 if self.device.type == "cpu" else min(12, os.cpu_count() or 2)


def train(network: nn.Module, plan: Plan, tell: Tell) -> tuple[nn.Module, Checkpoint]:
    """Train until the epochs are over or nothing gets better, and answer with the best weights.

    Args:
        network: as it is to begin; used up.

    Raises:
        ModelError: the loss is no number any more.
    """
    path = plan.fit.folder / "checkpoint.pt"
    state = _State(network, plan)
    done = Checkpoint.read(path, plan.key)
    if done is not None:
        state.restore(done)
    while done is None or not _is_over(done, plan.fit):
        done = state.epoch(done)
        done.write(path)
        tell(done.history[-1])
    state.average.load_state_dict(done.kept)
    return state.average.eval(), done


def as_predictor(network: nn.Module, plan: Plan) -> TorchvisionDetector:
    """The network as a predictor that answers faint detections too."""
    outputs = (None, *plan.labels)
    return TorchvisionDetector(
        network, name="in-training", outputs=outputs, device=str(plan.device), score_threshold=FAINTEST
    )


def in_half(backbone: nn.Module, device: str) -> None:
    """Let a backbone compute in bfloat16 and answer in float32.

    The heads stay in float32: with 8 bits of mantissa, corners would lie on a grid of two pixels.
    """
    whole = backbone.forward

    def forward(images: Tensor) -> OrderedDict[str, Tensor]:
        with torch.autocast(device, torch.bfloat16):
            features = whole(images)
        return OrderedDict((name, value.float()) for name, value in features.items())

    backbone.forward = forward


def _is_over(done: Checkpoint, fit: Fit) -> bool:
    last = done.history[-1].number
    return last >= fit.epochs or last - done.best >= fit.patience


class _State:
    """What changes while a network trains."""

    def __init__(self, network: nn.Module, plan: Plan) -> None:
        self.plan = plan
        self.network: Any = network.to(plan.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.single_shot = isinstance(network, SSD)
        self.still = self._freeze()
        self.average = copy.deepcopy(self.network).eval()
        if plan.device.type == "cuda":
            in_half(self.network.backbone, "cuda")
        learning = [weight for weight in self.network.parameters() if weight.requires_grad]
        decayed = [weight for weight in learning if weight.ndim > 1]
        others = [weight for weight in learning if weight.ndim <= 1]
        groups = [
            {"params": decayed, "weight_decay": plan.recipe.weight_decay},
            {"params": others, "weight_decay": 0.0},
        ]
        self.optimiser = torch.optim.AdamW(groups, lr=plan.recipe.peak_rate, betas=(0.9, 0.99))

    def _freeze(self) -> list[nn.Module]:
        """Stop the weights that are to stay as they are, and name the parts whose statistics stay too."""
        if not self.single_shot:
            # Means and variances of so few images would be worth less than those the weights were trained with.
            return [part for part in self.network.modules() if isinstance(part, nn.BatchNorm2d)]
        features = self.network.backbone.features
        blocks = features[0] if isinstance(features[0], nn.Sequential) else features
        still = list(blocks)[: self.plan.recipe.frozen]
        for block in still:
            block.requires_grad_(False)
        return still

    def restore(self, done: Checkpoint) -> None:
        self.network.load_state_dict(done.network)
        self.average.load_state_dict(done.average)
        self.optimiser.load_state_dict(dict(done.optimiser))

    def epoch(self, before: Checkpoint | None) -> Checkpoint:
        """One pass over the images and the checkpoint behind it."""
        started = time.monotonic()
        history = before.history if before else ()
        number = len(history) + 1
        loss = self._pass(number)
        judged = self._judge()
        epoch = Epoch(number, loss, judged.ap, judged.ap50, time.monotonic() - started)
        best = before.best if before else 0
        better = not best or epoch.ap is None or epoch.ap > (history[best - 1].ap or 0.0)
        average = _tensors(self.average)
        return Checkpoint(
            key=self.plan.key,
            history=(*history, epoch),
            best=number if better or before is None else best,
            network=_tensors(self.network),
            average=average,
            kept=average if better or before is None else before.kept,
            optimiser=self.optimiser.state_dict(),
        )

    def _pass(self, number: int) -> float:
        plan, recipe = self.plan, self.plan.recipe
        steps = recipe.steps_per_epoch(len(plan.fit.train))
        decay = min(0.999, max(0.9, 1.0 - 1.0 / steps))
        total = 0.0
        for k, (views, progress) in enumerate(self._views(number, steps)):
            # Drawn anew for each step, so that a training that is resumed draws the same.
            torch.manual_seed((plan.fit.seed * 1_000_003 + number * 10_007 + k) % 2**63)
            for group in self.optimiser.param_groups:
                group["lr"] = recipe.rate(progress, plan.batch)
            loss = self._loss(views)
            value = float(loss.detach())
            if not math.isfinite(value):
                raise ModelError(
                    f"the loss is {value} in step {k + 1} of epoch {number}",
                    expected="a finite loss",
                    todo="Start from other weights, or check the annotations for boxes far outside of their images",
                )
            self.optimiser.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(self.network.parameters(), recipe.clip)
            self.optimiser.step()
            step = (number - 1) * steps + k + 1
            average_into(self.average, self.network, min(decay, (1 + step) / (10 + step)))
            total += value
        return total / steps

    def _views(self, number: int, steps: int) -> Iterator[tuple[list[View], float]]:
        """The views of a pass and the progress (0 to 1) of the whole training before each step."""
        plan, recipe = self.plan, self.plan.recipe
        begin = (number - 1) / plan.fit.epochs
        side = None
        if self.single_shot:
            side = max(self.network.transform.fixed_size)
        drawn = batches(
            plan.fit.train,
            batch=plan.batch,
            seed=(plan.fit.seed, number),
            side=side,
            plain=begin >= recipe.plain_from,
            workers=plan.workers,
        )
        for k, views in enumerate(drawn):
            yield views, begin + k / steps / plan.fit.epochs

    def _loss(self, views: list[View]) -> Tensor:
        self.network.train()
        for part in self.still:
            part.eval()
        generator = torch.Generator().manual_seed(int(torch.randint(2**31, ()).item()))
        device = self.plan.device
        if self.single_shot:
            pixels = torch.from_numpy(np.stack([v.image for v in views])).to(device).permute(0, 3, 1, 2).float()
            mean, std = (
                torch.tensor(value, device=device).view(1, 3, 1, 1)
                for value in (self.network.transform.image_mean, self.network.transform.image_std)
            )
            images = (recolour(pixels, generator) / 255 - mean) / std
            boxes = [torch.from_numpy(v.boxes).to(device) for v in views]
            labels = [torch.from_numpy(v.labels).to(device) for v in views]
            outputs, anchors = forward(self.network, images.contiguous(memory_format=torch.channels_last))
            class_loss, box_loss = detection_loss(self.network, outputs, anchors, Batch(images, boxes, labels))
            return class_loss + box_loss
        pixels_of = [torch.from_numpy(v.image).to(device).permute(2, 0, 1).float()[None] for v in views]
        pictures = [recolour(pixels, generator)[0] / 255 for pixels in pixels_of]
        targets = [
            {
                "boxes": torch.from_numpy(v.boxes[v.labels > 0]).to(device),
                "labels": torch.from_numpy(v.labels[v.labels > 0]).to(device),
            }
            for v in views
        ]
        losses: dict[str, Tensor] = self.network(pictures, targets)
        return torch.stack(list(losses.values())).sum()

    def _judge(self) -> DetectionAP:
        held_out = self.plan.fit.held_out
        if not held_out:
            return DetectionAP(None, None, {})
        predictor = as_predictor(self.average, self.plan)
        found: list[Detections] = []
        for start in range(0, len(held_out), 32):
            found += predictor.predict([_pixels(example) for example in held_out[start : start + 32]])
        return detection_ap([Truth(example.xyxy, example.label) for example in held_out], found)


def _pixels(example: Example) -> Any:
    with Image.open(example.path) as file:
        return np.array(file.convert("RGB"))


def _tensors(network: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().cpu().clone() for name, value in network.state_dict().items()}
