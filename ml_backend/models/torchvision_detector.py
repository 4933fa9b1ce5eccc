"""Any detector of torchvision.models.detection, as a Predictor."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.error import URLError

import numpy as np
import numpy.typing as npt
import torch
import torchvision
from torch import Tensor, nn
from torchvision.models import detection

from bridge.errors import ImageError, ModelError
from ml_backend.models import Detections
from ml_backend.models.weights import State, classes_in, load_state

Image = npt.NDArray[np.uint8]

#: Larger images are shrunk by a whole factor first: every network here resizes to about one megapixel anyway.
MAX_PIXELS = 4_000_000

_BACKGROUND_NAMES = frozenset({"__background__", "no person", "N/A"})


def detection_builders() -> tuple[str, ...]:
    """The names of torchvision's detection builders."""
    return tuple(torchvision.models.list_models(module=detection))


class TorchvisionDetector:
    """A detection network with its class names.

    Images that share a call never influence each other: those that torchvision would pad to a common size are run
    in batches of one size only.

    Args:
        network: a torchvision detection model, with its weights.
        name: see ``Predictor.name``.
        outputs: for each label the network answers, the class name, or None for background and unused numbers.
        device: where it runs, such as ``cpu`` or ``cuda``.
        score_threshold: detections below this confidence are dropped.
        batch_size: images per forward pass; None: 1 on a CPU, where larger batches are slower per image, else 8.

    Raises:
        ModelError: the device does not exist here.
    """

    def __init__(
        self,
        network: nn.Module,
        *,
        name: str,
        outputs: Sequence[str | None],
        device: str = "auto",
        score_threshold: float = 0.5,
        batch_size: int | None = None,
    ) -> None:
        self._device = choose_device(device)
        self._network = network.to(self._device).eval()
        self._name = name
        self._classes = tuple(o for o in outputs if o is not None)
        self._class_of = np.full(len(outputs), -1, np.int64)
        self._class_of[[i for i, o in enumerate(outputs) if o is not None]] = np.arange(len(self._classes))
        self._threshold = score_threshold
        self._batch_size = batch_size or (1 if self._device.type == "cpu" else 8)

    @property
    def name(self) -> str:
        return self._name

    @property
    def classes(self) -> tuple[str, ...]:
        return self._classes

    @property
    def device(self) -> str:
        return str(self._device)

    def predict(self, images: Sequence[Image]) -> list[Detections]:
        """Detect objects.

        Args:
            images: (H, W, 3) uint8 RGB arrays; sizes may differ and one may be very large.

        Raises:
            ImageError: an array has another shape or dtype; names its place.
            ModelError: the device ran out of memory.
        """
        for i, image in enumerate(images):
            if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
                raise ImageError(
                    f"image {i} of the call has shape {image.shape} and dtype {image.dtype}",
                    expected="(H, W, 3) uint8 RGB",
                )
        answers = [Detections.none()] * len(images)
        for group in self._groups(images):
            for start in range(0, len(group), self._batch_size):
                part = group[start : start + self._batch_size]
                for i, answer in zip(part, self._run([images[i] for i in part]), strict=True):
                    answers[i] = answer
        return answers

    def _groups(self, images: Sequence[Image]) -> list[list[int]]:
        """Places of the images that may run together; images on which nothing can be seen are in no group."""
        transform: Any = self._network.transform
        groups: dict[object, list[int]] = {}
        for i, image in enumerate(images):
            height, width = image.shape[:2]
            if min(height, width) == 0 or not _survives_resize(transform, height, width):
                continue
            key = None if transform.fixed_size is not None else (height, width)
            groups.setdefault(key, []).append(i)
        return list(groups.values())

    def _run(self, images: list[Image]) -> list[Detections]:
        small = [shrink(image) for image in images]
        try:
            with torch.inference_mode():
                raw = self._network([self._tensor(image) for image, _ in small])
                found = [{k: r[k].cpu().numpy() for k in ("boxes", "scores", "labels")} for r in raw]
        except torch.OutOfMemoryError as error:
            raise ModelError(
                f"the device {self._device} has not enough memory for {len(images)} image(s): {error}",
                expected="a smaller batch, or a smaller model",
                todo="Lower the batch size, or run on another device",
            ) from None
        return [
            self._detections(r, factors, image) for r, (_, factors), image in zip(found, small, images, strict=True)
        ]

    def _tensor(self, image: Image) -> Tensor:
        # torch takes neither read-only arrays nor negative strides.
        usable = image if image.flags.writeable and image.flags.c_contiguous else image.copy(order="C")
        return torch.from_numpy(usable).to(self._device).permute(2, 0, 1).to(torch.float32).div_(255)

    def _detections(self, raw: Mapping[str, npt.NDArray[Any]], factors: tuple[int, int], image: Image) -> Detections:
        height, width = image.shape[:2]
        xyxy = raw["boxes"].astype(np.float64).reshape(-1, 4) * np.tile(factors, 2)
        confidence = raw["scores"].astype(np.float64)
        numbers = raw["labels"].astype(np.int64)
        in_range = (numbers >= 0) & (numbers < len(self._class_of))
        label = np.where(in_range, self._class_of[np.where(in_range, numbers, 0)], -1)
        finite = np.isfinite(xyxy).all(axis=1) & np.isfinite(confidence)
        xyxy = np.clip(np.where(finite[:, None], xyxy, 0.0), 0.0, (width, height, width, height))
        area = np.prod(np.maximum(xyxy[:, 2:] - xyxy[:, :2], 0.0), axis=1)
        kept = np.flatnonzero(finite & (label >= 0) & (area > 0) & (confidence >= self._threshold))
        kept = kept[np.argsort(-confidence[kept], kind="stable")]
        return Detections(xyxy[kept], label[kept], np.clip(confidence[kept], 0.0, 1.0))


def shrink(image: Image, most: int = MAX_PIXELS) -> tuple[Image, tuple[int, int]]:
    """The image reduced by whole factors (averages of blocks) to at most ``most`` pixels, and the factors (x, y).

    At most factor - 1 pixels at the right and bottom edges are not seen. Works block row by block row, so it needs
    no second copy of a large image.
    """
    height, width = image.shape[:2]
    fx = fy = 1
    while (height // fy) * (width // fx) > most:
        if width // fx >= height // fy:
            fx += 1
        else:
            fy += 1
    if fx == fy == 1:
        return image, (1, 1)
    rows, columns = height // fy, width // fx
    total = np.zeros((rows, columns, 3), np.uint32)
    for dy in range(fy):
        for dx in range(fx):
            total += image[dy : rows * fy : fy, dx : columns * fx : fx]
    half = np.uint32(fx * fy // 2)
    return ((total + half) // np.uint32(fx * fy)).astype(np.uint8), (fx, fy)


def _survives_resize(transform: Any, height: int, width: int) -> bool:
    """Whether torchvision's resizing leaves at least one pixel in each direction."""
    if transform.fixed_size is not None:
        return True
    shortest, longest = min(height, width), max(height, width)
    scale = min(transform.min_size[-1] / shortest, transform.max_size / longest)
    return bool(math.floor(shortest * scale) >= 1)


def choose_device(device: str) -> torch.device:
    """``auto`` is the first CUDA device where there is one, else the CPU.

    Raises:
        ModelError: the named device does not exist here.
    """
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        chosen = torch.device(device)
        torch.zeros(1, device=chosen)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise ModelError(
            f"the device {device!r} cannot be used: {str(error).strip().splitlines()[0]}",
            expected="auto, cpu, or cuda on a machine with an NVIDIA GPU and its driver",
            todo="Choose --device auto",
        ) from None
    return chosen


def check_builder(builder: str) -> None:
    """Raises ModelError, listing the builders, unless ``builder`` is one."""
    if builder not in detection_builders():
        raise ModelError(
            f"there is no model {builder!r}",
            expected="embedded, the path of a manifest (.json), or a builder of torchvision: "
            + ", ".join(detection_builders()),
            todo="Correct the name",
        )


def build_network(builder: str, args: Mapping[str, Any]) -> nn.Module:
    """The network from random weights; nothing is downloaded.

    Raises:
        ModelError: there is no such builder, or it does not take these arguments.
    """
    check_builder(builder)
    if args.get("weights") is not None or args.get("weights_backbone") is not None:
        raise ModelError(
            f"the arguments for {builder} ask for weights of torchvision",
            expected="weights and weights_backbone absent or null: the weights come from the model's own file",
            todo="Remove them from builder_args",
        )
    try:
        network = torchvision.models.get_model(builder, **{"weights": None, "weights_backbone": None, **args})
    except (TypeError, ValueError, RuntimeError) as error:
        raise ModelError(
            f"torchvision cannot build {builder} with {dict(args)}: {error}",
            expected="arguments that this builder takes",
            todo="Correct builder_args in the manifest",
        ) from None
    return without_unused_heads(network)


def without_unused_heads(network: nn.Module) -> nn.Module:
    """Switches off mask and key-point heads: they cost time and their answers are not used. Their weights stay."""
    heads: Any = getattr(network, "roi_heads", None)
    if heads is not None:
        heads.mask_roi_pool = None
        heads.keypoint_roi_pool = None
    return network


def coco_weights(builder: str) -> Any:
    """torchvision's best COCO weights for the builder, as its own enum member; nothing is downloaded."""
    check_builder(builder)
    return torchvision.models.get_model_weights(builder).DEFAULT


def coco_outputs(builder: str) -> tuple[str | None, ...]:
    """The class name of each number the COCO network answers; None for background and unused numbers."""
    return tuple(None if name in _BACKGROUND_NAMES else str(name) for name in coco_weights(builder).meta["categories"])


def build_coco(builder: str) -> nn.Module:
    """The network with torchvision's COCO weights, from its cache or downloaded by torchvision.

    Raises:
        ModelError: the download failed; says which file to put where.
    """
    weights = coco_weights(builder)
    cached = Path(torch.hub.get_dir()) / "checkpoints" / Path(weights.url).name
    try:
        network: nn.Module = torchvision.models.get_model(builder, weights=weights, progress=False)
    except (URLError, OSError, RuntimeError) as error:
        raise ModelError(
            f"the COCO weights of {builder} cannot be had: {error}",
            expected=f"a download from {weights.url}, or the same file in the cache as {cached}",
            todo=f"Fetch that file elsewhere and put it at {cached} (a damaged one there must be deleted), give "
            "weights of your own, or use the embedded model, which needs no download",
        ) from None
    return without_unused_heads(network)


def build_from_state(
    builder: str, state: State, classes: Sequence[str] | None, args: Mapping[str, Any], what: str
) -> tuple[nn.Module, tuple[str | None, ...]]:
    """The network with the given weights, and the class name of each number it answers.

    ``classes`` are the names without background, in the order of training. Number 0 is the background, as torchvision
    trains; weights of a network without one (RetinaNet and FCOS can be trained so) are recognised by having exactly
    as many outputs as names. Without ``classes``, weights for COCO's 91 numbers get COCO's names.

    Raises:
        ModelError: the weights do not fit the builder or the number of classes.
    """
    check_builder(builder)
    coco = coco_outputs(builder)
    asked = args.get("num_classes") or (len(classes) + 1 if classes else len(coco))
    probe = build_network(builder, {**args, "num_classes": asked})
    found = classes_in(probe, state, asked) or asked
    if classes is None:
        if found != len(coco):
            raise ModelError(
                f"{what} answer {found} classes and nobody says which",
                expected="class names, in the order of training and without the background",
                todo="Give the class names, or write a manifest",
            )
        load_state(probe, state, what, asked)
        return probe, coco
    if found == len(classes) != asked and _may_lack_background(builder):
        network = build_network(builder, {**args, "num_classes": found})
        load_state(network, state, what, found)
        return network, tuple(classes)
    load_state(probe, state, what, asked)
    if asked != len(classes) + 1:
        raise ModelError(
            f"{what}: num_classes is {asked} and there are {len(classes)} class names",
            expected="num_classes = the number of class names + 1 for the background",
            todo="Correct the class names or num_classes",
        )
    return probe, (None, *classes)


def _may_lack_background(builder: str) -> bool:
    return builder.startswith(("retinanet", "fcos"))
