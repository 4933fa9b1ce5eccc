"""How a network is trained: the figures behind :mod:`ml_backend.training.finetune`, by kind of network."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Recipe:
    """Attributes:
    peak_rate: learning rate of AdamW at its highest, for batches of 16.
    weight_decay: of weights with more than one dimension.
    clip: largest norm of a step's gradient.
    largest_batch: images per step; fewer where there are few images.
    steps: how many steps are worth their time on a small set of images.
    plain_from: from which share on views are mirrored only.
    frozen: of a single-shot network, how many of the first blocks keep the weights they start from. They work on the
        largest maps, so that they cost half of a step, and what they tell apart is the same everywhere.
    """

    peak_rate: float = 1e-3
    weight_decay: float = 0.03
    clip: float = 8.0
    largest_batch: int = 32
    steps: int = 300
    plain_from: float = 0.8
    frozen: int = 6

    def batch(self, images: int) -> int:
        """A power of two, such that a pass has about 30 steps or more; at least 4 or the largest allowed."""
        wanted = 1 << int(math.log2(max(1, images / 30)))
        return min(self.largest_batch, max(4, wanted))

    def steps_per_epoch(self, images: int) -> int:
        return -(-images // self.batch(images))

    def epochs(self, images: int) -> int:
        return min(40, max(6, round(self.steps / self.steps_per_epoch(images))))

    def rate(self, progress: float, batch: int) -> float:
        """The learning rate after this share (0 to 1) of the steps: warm-up, then a cosine down to nearly zero."""
        peak = self.peak_rate * math.sqrt(batch / 16)
        if progress < 0.05:
            return peak * (0.02 + 0.98 * progress / 0.05)
        return peak * (0.005 + 0.995 * 0.5 * (1 + math.cos(math.pi * (progress - 0.05) / 0.95)))

    def to_dict(self) -> Mapping[str, Any]:
        return asdict(self)


#: Light networks learn at a high rate; heavy ones with long heads are spoilt by it, and fit fewer images into memory.
SINGLE_SHOT = Recipe()
OTHERS = Recipe(peak_rate=2e-4, largest_batch=8, steps=900, frozen=0)
