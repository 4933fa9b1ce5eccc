"""Training without a network: a trainer that remembers what it was shown, and pictures that are not alike."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from fakes.colour_detector import AskedDetector, ColourDetector
from fakes.memory_tool import MemoryTool, Objects
from fakes.pictures import HEIGHT, TRUTH, WIDTH, draw
from flow_kit import Killed
from PIL import Image

from bridge.core.predictor import Detections, Kind
from bridge.core.provenance import Provenance
from bridge.core.training import Epoch, Fit, Tell
from bridge.flows.progress import silent
from bridge.flows.sources import ImageReader
from bridge.flows.train import Bench, TrainOptions, TrainResult, train
from bridge.flows.training_record import CrossFit, open_cross_fit

SEEN, UNSEEN = 0.9, 0.4


def varied(seed: int, shows: Objects = TRUTH, width: int = WIDTH, height: int = HEIGHT) -> npt.NDArray[np.uint8]:
    """The picture of :func:`fakes.pictures.draw` on a ground of its own."""
    return draw(shows, width, height, backdrop=seed)


@dataclass
class Rememberer(AskedDetector):
    """Finds what is there, and is sure of it only in images that it was trained on."""

    shown: frozenset[bytes] = frozenset()
    classes: tuple[str, ...] = ("cat", "dog")
    name: str = "rememberer"
    kind: Kind = "rectangle"

    def predict(self, images: Sequence[npt.NDArray[np.uint8]]) -> list[Detections]:
        answers = []
        for image, found in zip(images, super().predict(images), strict=True):
            names = [ColourDetector.classes[k] for k in found.label]
            kept = [k for k, name in enumerate(names) if name in self.classes]
            label = np.array([self.classes.index(names[k]) for k in kept], np.int64)
            confidence = np.full(len(kept), SEEN if image.tobytes() in self.shown else UNSEEN)
            answers.append(Detections(found.xyxy[kept], label, confidence))
        return answers


@dataclass
class RememberedFit:
    predictor: Rememberer
    epochs: tuple[Epoch, ...]
    best: int

    def save(self, folder: Path, name: str, threshold: float, notes: Mapping[str, Any]) -> Path:
        path = folder / "manifest.json"
        (folder / "model.safetensors").write_bytes(b"weights")
        path.write_text(json.dumps({"name": f"{name}-1", "score_threshold": threshold, "training": notes}))
        return path


@dataclass
class MemoryTrainer:
    """Keeps the promises of :class:`bridge.core.training.Trainer`.

    Attributes:
        done: how many epochs were trained, by folder.
        kill_in: the folder and epoch in which the process dies, once.
        best: of each fit, where not the last epoch.
    """

    side: int = 80
    recommended: int = 3
    done: dict[str, list[int]] = field(default_factory=dict)
    kill_in: tuple[str, int] | None = None
    best: int | None = None
    fits: list[Fit] = field(default_factory=list)
    labels: tuple[str, ...] = ()
    start: Provenance | None = None

    def __call__(self, labels: Sequence[str]) -> MemoryTrainer:
        self.labels = tuple(labels)
        return self

    @property
    def recipe(self) -> Mapping[str, Any]:
        return {"trainer": "memory", "labels": list(self.labels), "start": self.start and sorted(self.start.seen)}

    def epochs(self, images: int) -> int:
        return self.recommended

    def fit(self, fit: Fit, tell: Tell) -> RememberedFit:
        self.fits.append(fit)
        fit.folder.mkdir(parents=True, exist_ok=True)
        checkpoint = fit.folder / "checkpoint.json"
        before = json.loads(checkpoint.read_text()) if checkpoint.exists() else 0
        epochs = [Epoch(n, 1.0 / n, 0.5 if fit.held_out else None, 0.5, 0.1) for n in range(1, fit.epochs + 1)]
        for epoch in epochs[before:]:
            if self.kill_in == (fit.folder.name, epoch.number):
                self.kill_in = None
                raise Killed
            self.done.setdefault(fit.folder.name, []).append(epoch.number)
            checkpoint.write_text(json.dumps(epoch.number))
            tell(epoch)
        shown = frozenset(np.array(Image.open(e.path).convert("RGB")).tobytes() for e in fit.train)
        return RememberedFit(Rememberer(shown=shown, classes=self.labels), tuple(epochs), self.best or fit.epochs)


@dataclass
class Gym:
    """A tool, a trainer and a data folder, and the training between them."""

    folder: Path
    tool: MemoryTool = field(default_factory=MemoryTool)
    trainer: MemoryTrainer = field(default_factory=MemoryTrainer)
    lines: list[str] = field(default_factory=list)
    told: list[tuple[str, int, int | None]] = field(default_factory=list)
    minutes: int = 0

    def pictures(self, count: int, *submitted: Objects, **size: int) -> list[str]:
        """New items that look different from one another, all submitted alike."""
        first = len(self.tool.images)
        return [self.tool.add_item(varied(first + k, **size), *(submitted or (TRUTH,))) for k in range(count)]

    def train(self, folds: int = 3, **options: Any) -> TrainResult:
        bench = Bench(
            self.tool,
            ImageReader(self.tool, 10**6),
            self.trainer,
            self.folder,
            self._now,
            self._progress,
            self.lines.append,
        )
        return train(bench, TrainOptions(folds=folds, **options), page_size=4)

    def predictions(self, result: TrainResult) -> CrossFit:
        return open_cross_fit(result.folder)

    def _now(self) -> str:
        self.minutes += 1
        return f"2026-11-21T10:{self.minutes:02}:00+00:00"

    def _progress(self, phase: str, done: int, total: int | None) -> None:
        silent(phase, done, total)
        self.told.append((phase, done, total))
