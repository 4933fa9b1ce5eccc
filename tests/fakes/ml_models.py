"""Models as people write them for Label Studio's own server, on bases that act like those of its two generations.

All of them see what is brighter than 200: red is a cat, green a dog.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from PIL import Image

from bridge.core.rle import encode_brush

LABELS = ("cat", "dog")

#: Paths of the images that were read, in order.
READ: list[str] = []


class OldBase:
    """As in label-studio-ml 1.0.9: files of Label Studio's own disk are looked for on ours."""

    def __init__(self, label_config: str | None = None, train_output: Any = None, **kwargs: Any) -> None:
        self.label_config = label_config
        self.train_output = train_output or {}
        self.hostname = kwargs.get("hostname", "")

    def get_local_path(self, url: str, project_dir: str | None = None) -> str:
        if "?d=" not in url:
            raise ValueError(f"Invalid URL {url!r}: No scheme supplied.")
        return str(Path("/") / url.split("?d=")[1])


class NewBase:
    """As in label-studio-ml 2.0: made with a project; files come from a Label Studio server, of which there is none."""

    made = 0

    def __init__(self, project_id: str | None = None, label_config: str | None = None) -> None:
        type(self).made += 1
        if project_id is None or not project_id.isdigit():
            raise AssertionError(f"project {project_id!r}")
        self.project_id, self.label_config = project_id, label_config
        self.store: dict[str, str] = {}
        self.setup()

    def setup(self) -> None:
        pass

    def set(self, key: str, value: str) -> None:
        self.store[key] = value

    def get_local_path(self, url: str, task_id: int | None = None) -> str:
        raise FileNotFoundError(f"Can't resolve url, neither hostname or project_dir passed: {url}. ")


class PredictionValue:
    """As in label-studio-sdk 2: an object that is no dict."""

    def __init__(self, result: list[Any], score: float = 0.0) -> None:
        self.result, self.score = result, score

    def model_dump(self) -> dict[str, Any]:
        return {"model_version": None, "score": self.score, "result": self.result}


class ModelResponse:
    def __init__(self, predictions: list[Any]) -> None:
        self.predictions = predictions

    def model_dump(self) -> dict[str, Any]:
        return {"model_version": "1", "predictions": self.predictions}


def read(path: str) -> np.ndarray[Any, np.dtype[np.uint8]]:
    READ.append(path)
    return np.asarray(Image.open(path).convert("RGB"))


def bright(pixels: Any) -> list[tuple[int, int, int, int, int]]:
    """``channel, x1, y1, x2, y2`` of each colour that is there."""
    found = []
    for channel in (0, 1):
        ys, xs = np.nonzero(pixels[:, :, channel] > 200)
        if len(xs):
            found.append((channel, int(xs.min()), int(ys.min()), int(xs.max()) + 1, int(ys.max()) + 1))
    return found


def rectangle(pixels: Any, channel: int, x1: int, y1: int, x2: int, y2: int, **more: Any) -> dict[str, Any]:
    height, width = pixels.shape[:2]
    value = {"x": x1 * 100 / width, "y": y1 * 100 / height}
    value |= {"width": (x2 - x1) * 100 / width, "height": (y2 - y1) * 100 / height}
    names = {"rectanglelabels": [LABELS[channel]]}
    region = {"from_name": "label", "to_name": "image", "type": "rectanglelabels", "value": {**value, **names}}
    return region | more


class OldBoxes(OldBase):
    """Rectangles without ids; scores as numpy gives them."""

    def __init__(self, device: str = "cpu", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.device = device

    def predict(self, tasks: list[dict[str, Any]], **kwargs: Any) -> list[dict[str, Any]]:
        answers = []
        for task in tasks:
            pixels = read(self.get_local_path(task["data"]["image"]))
            regions = [rectangle(pixels, *box, score=np.float32(0.5 + 0.25 * box[0])) for box in bright(pixels)]
            answers.append({"result": regions, "score": 0.1})
        return answers


class NewMasks(NewBase):
    """Brushes in the SDK's objects, all under the same score of the whole image."""

    def setup(self) -> None:
        self.set("model_version", "1")

    def predict(self, tasks: list[dict[str, Any]], context: Any = None, **kwargs: Any) -> ModelResponse:
        pixels = read(self.get_local_path(tasks[0]["data"]["image"], task_id=tasks[0]["id"]))
        regions = [self.brush(pixels, channel) for channel, *_ in bright(pixels)]
        return ModelResponse([PredictionValue(regions, 0.875)])

    def brush(self, pixels: Any, channel: int) -> dict[str, Any]:
        height, width = pixels.shape[:2]
        rle = encode_brush(pixels[:, :, channel] > 200)
        value = {"format": "rle", "rle": rle, "brushlabels": [LABELS[channel]]}
        size = {"original_width": width, "original_height": height}
        return {
            "id": f"m{channel}",
            "from_name": "brush",
            "to_name": "image",
            "type": "brushlabels",
            "value": value,
            **size,
        }


class Clicked(NewMasks):
    """Like the segment-anything example: nothing without a context; the mask of what lies under the last point."""

    asked: ClassVar[list[Any]] = []

    def predict(self, tasks: list[dict[str, Any]], context: Any = None, **kwargs: Any) -> ModelResponse:
        type(self).asked.append(context)
        if not context or not context.get("result"):
            return ModelResponse([])
        pixels = read(self.get_local_path(tasks[0]["data"]["image"], task_id=tasks[0]["id"]))
        height, width = pixels.shape[:2]
        for prompt in context["result"]:
            assert prompt["original_width"] == width
            assert prompt["value"]["labels"]
            x, y = prompt["value"]["x"] * width / 100, prompt["value"]["y"] * height / 100
            if prompt["type"] == "rectanglelabels":
                x, y = x + prompt["value"]["width"] * width / 200, y + prompt["value"]["height"] * height / 200
            if prompt.get("is_positive", True):
                under = pixels[round(y), round(x)] > 200
        if not under.any():
            return ModelResponse([])
        weak = {**self.brush(pixels, 1 - int(under.argmax())), "id": "weak", "score": 0.1}
        return ModelResponse([[PredictionValue([weak, {**self.brush(pixels, int(under.argmax())), "score": 0.9}])]])


class Tagger:
    """No base, no arguments, no context: the address is the path of a file."""

    def predict(self, tasks: list[dict[str, Any]]) -> dict[str, Any]:
        labels = [LABELS[channel] for channel, *_ in bright(read(tasks[0]["data"]["photo"]))]
        region = {
            "from_name": "kind",
            "to_name": "photo",
            "type": "choices",
            "value": {"choices": labels},
            "score": 0.6,
        }
        return {"predictions": [{"result": [region]}]}


class Canned(NewBase):
    """Answers what it is told to; an exception it raises."""

    answer: Any = None

    def predict(self, tasks: list[dict[str, Any]], context: Any = None) -> Any:
        if isinstance(self.answer, BaseException):
            raise self.answer
        return self.answer


class BadStart(NewBase):
    def setup(self) -> None:
        raise RuntimeError("the checkpoint is missing\nlook elsewhere")

    def predict(self, tasks: Any) -> Any:
        return []


class GivesUp(NewBase):
    def setup(self) -> None:
        sys.exit(3)

    def predict(self, tasks: Any) -> Any:
        return []


class NoPredict(NewBase):
    pass


NO_CLASS = "text"
