"""What the tests of the model server share: a plain-Python model, pictures, and a handle on a running server."""

from __future__ import annotations

import base64
import io
import json
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import requests
from PIL import Image
from scipy import ndimage

from bridge.core.masks import MaskCrop
from ml_backend.entry import ModelEntry
from ml_backend.models import Detections, Kind, Prompt, Segment
from ml_backend.models.catalogue import ModelCard

CONFIG = (
    '<View><Image name="image" value="$image"/><RectangleLabels name="label" toName="image" smart="true">'
    '<Label value="cat"/><Label value="dog"/></RectangleLabels></View>'
)


class SquareFinder:
    """A real little model: the bounding box of all pixels brighter than 200.

    A red object is a cat, a green one a dog; confidence is its fill. ``gate`` holds calls back until it is set, and a
    picture whose first pixel has blue 255 makes it fail.
    """

    name = "square-finder-1"
    classes = ("cat", "dog")
    kind: Kind = "rectangle"

    def __init__(self, gate: threading.Event | None = None) -> None:
        self.batches: list[int] = []
        self.gate = gate

    def predict(self, images: Sequence[npt.NDArray[np.uint8]]) -> list[Detections]:
        if self.gate is not None:
            self.gate.wait(30)
        self.batches.append(len(images))
        return [self._one(image) for image in images]

    def _one(self, image: npt.NDArray[np.uint8]) -> Detections:
        if image[0, 0, 2] == 255:
            raise ValueError("this picture is cursed")
        boxes, labels, confidences = [], [], []
        for channel in (0, 1):
            ys, xs = np.nonzero(image[:, :, channel] > 200)
            if len(xs):
                x1, y1, x2, y2 = xs.min(), ys.min(), xs.max() + 1, ys.max() + 1
                boxes.append([x1, y1, x2, y2])
                labels.append(channel)
                confidences.append(len(xs) / ((x2 - x1) * (y2 - y1)))
        order = np.argsort(-np.array(confidences), kind="stable")
        return Detections(
            np.array(boxes, float).reshape(-1, 4)[order],
            np.array(labels, np.int64)[order],
            np.array(confidences, float)[order],
        )


def picture(
    *objects: tuple[int, tuple[int, int, int, int]],
    size: tuple[int, int] = (200, 100),
    kind: str = "PNG",
    level: int = 254,
) -> bytes:
    """An image file with filled rectangles: ``(channel, (x1, y1, x2, y2))`` each."""
    pixels = np.zeros((size[1], size[0], 3), np.uint8)
    for channel, (x1, y1, x2, y2) in objects:
        pixels[y1:y2, x1:x2, channel] = level
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, kind)
    return out.getvalue()


#: A whole picture on which :class:`SquareFinder` fails.
CURSED = picture((2, (0, 0, 1, 1)), size=(50, 50), level=255)


def data_uri(data: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(data).decode()


def task(number: int, image: Any) -> dict[str, Any]:
    return {"id": number, "data": {"image": image}}


@dataclass
class Running:
    """A server that answers on ``url``; ``lines`` are its log."""

    url: str
    log: io.StringIO
    stop_soon: Callable[[], None]
    http: requests.Session = field(default_factory=requests.Session)

    def get(self, path: str, **options: Any) -> requests.Response:
        return self.http.get(self.url + path, timeout=60, **options)

    def post(self, path: str, body: Any = None, **options: Any) -> requests.Response:
        return self.http.post(self.url + path, json=body, timeout=60, **options)

    def predict(self, tasks: Any, **more: Any) -> requests.Response:
        return self.post("/predict", {"tasks": tasks, "label_config": CONFIG, "project": "6.1795191177", **more})

    def results(self, tasks: Any, **more: Any) -> list[Any]:
        answer = self.predict(tasks, **more)
        assert answer.status_code == 200, answer.text
        found: list[Any] = answer.json()["results"]
        return found

    @property
    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.log.getvalue().split("\n") if line]

    def events(self, name: str) -> list[dict[str, Any]]:
        return [line for line in self.lines if line["event"] == name]

    def counted(self, metric: str) -> float:
        """The value of a metric, written as Prometheus shows it."""
        for line in self.get("/metrics").text.splitlines():
            if line.startswith(metric + " "):
                return float(line.split()[-1])
        return 0.0

    def wait_until_ready(self) -> None:
        for _ in range(600):
            if self.get("/readyz").status_code == 200:
                return
            threading.Event().wait(0.05)
        raise AssertionError("the model was not ready within 30 s")


Start = Callable[..., "Running"]


class Flood:
    """A real little interactor: the patch of pixels of the same colour as the one that is pointed at.

    Of a box its middle counts. ``looked`` counts the images it was shown, ``gate`` holds that back until it is set.
    """

    name = "flood-1"

    def __init__(self, gate: threading.Event | None = None) -> None:
        self.looked = 0
        self.gate = gate

    def preprocess(self, image: npt.NDArray[np.uint8]) -> npt.NDArray[np.int64]:
        if self.gate is not None:
            self.gate.wait(30)
        self.looked += 1
        if image[0, 0, 2] == 255:
            raise ValueError("this picture is cursed")
        return image.astype(np.int64) @ np.array([65536, 256, 1])

    def prompt(self, preprocessed: npt.NDArray[np.int64], prompts: Sequence[Prompt]) -> list[Segment | None]:
        return [self._one(preprocessed, prompt) for prompt in prompts]

    def _one(self, colours: npt.NDArray[np.int64], prompt: Prompt) -> Segment | None:
        if prompt.box:
            x, y = (prompt.box[0] + prompt.box[2]) / 2, (prompt.box[1] + prompt.box[3]) / 2
        elif prompt.positive:
            x, y = prompt.positive[-1]
        else:
            return None
        height, width = colours.shape
        if not (0 <= x < width and 0 <= y < height) or colours[int(y), int(x)] == 0:
            return None
        patches, _ = ndimage.label(colours == colours[int(y), int(x)])
        mask = MaskCrop.of(patches == patches[int(y), int(x)])
        return None if mask is None else Segment(mask, 0.9)


def flood(id_: str = "flood", model: Flood | None = None) -> ModelEntry:
    made = model or Flood()
    return ModelEntry(id_, ModelCard(Flood.name, "interactor"), lambda: made)
