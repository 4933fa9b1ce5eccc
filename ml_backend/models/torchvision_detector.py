"""Any detector of torchvision.models.detection, as a Predictor."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.error import URLError

import numpy as np
import numpy.typing as npt
import torch
import torchvision
from torch import nn
from torchvision.models import detection

from bridge.core.masks import MaskCrop
from bridge.core.predictor import ScoreRegions
from bridge.core.probes import Probes
from bridge.errors import ModelError
from ml_backend.models import Detections, Kind
from ml_backend.models.catalogue import Accelerator, Precision
from ml_backend.models.detector_runtime import choose_runtime
from ml_backend.models.given_boxes import Floats, judge
from ml_backend.models.mask_paste import paste
from ml_backend.models.pixels import Image, check_images, shrink
from ml_backend.models.precision import choose_precision
from ml_backend.models.raw import Raw
from ml_backend.models.resize import target_size
from ml_backend.models.weights import State, classes_in, load_state, parse_state, read_bytes

#: Pixels of all masks of one image, at one byte each: twenty objects that fill a photo of twelve megapixels. Of more
#: than that the least confident objects are not answered.
MAX_MASK_PIXELS = 240_000_000

_BACKGROUND_NAMES = frozenset({"__background__", "no person", "N/A"})

#: torchvision's own COCO weights of these builders were trained with batch norms that add nothing to the variance.
_PLAIN_VARIANCE = frozenset(
    {"fasterrcnn_resnet50_fpn", "maskrcnn_resnet50_fpn", "keypointrcnn_resnet50_fpn", "retinanet_resnet50_fpn"}
)


def detection_builders() -> tuple[str, ...]:
    """The names of torchvision's detection builders."""
    return tuple(torchvision.models.list_models(module=detection))


class TorchvisionDetector:
    """A detection network with its class names; it answers masks where the network's mask head is on, else boxes.

    Images that share a call never influence each other: those that torchvision would pad to a common size are run
    in batches of one size only.

    Args:
        network: a torchvision detection model, with its weights. Its layers may be replaced by faster ones.
        name: see ``Predictor.name``.
        outputs: for each label the network answers, the class name, or None for background and unused numbers.
        device: where it runs, such as ``cpu`` or ``cuda``.
        score_threshold: detections below this confidence are dropped.
        batch_size: images per forward pass; None chooses by device and accelerator.
        precision: see :func:`~ml_backend.models.precision.choose_precision`.
        accelerator: ``openvino`` runs the layers on OpenVINO, whose answers in fp32 differ from torch's by rounding
            only; ``auto`` does so on a CPU where it is installed and knows the layers.

    Attributes:
        nbytes: of the weights.

    Raises:
        ModelError: the device does not exist here or cannot compute in that precision, or OpenVINO cannot run the
            network.
        ConfigError: OpenVINO was asked for and is not installed.
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
        precision: Precision = "fp32",
        accelerator: Accelerator = "torch",
    ) -> None:
        self._device = choose_device(device)
        # Channels last takes 10 to 25 % less of a CPU's time in fp32, and more so on GPUs in half precision.
        ready: Any = network.to(self._device, memory_format=torch.channels_last).eval()  # type: ignore[call-overload]
        self.nbytes = sum(p.nbytes for p in ready.parameters())
        self._transform = ready.transform
        self._name = name
        self._classes = tuple(o for o in outputs if o is not None)
        self._class_of = np.full(len(outputs), -1, np.int64)
        self._class_of[[i for i, o in enumerate(outputs) if o is not None]] = np.arange(len(self._classes))
        self._threshold = score_threshold
        heads: Any = getattr(ready, "roi_heads", None)
        self._kind: Kind = "mask" if heads is not None and heads.has_mask() else "rectangle"
        arithmetic = choose_precision(precision, str(self._device))
        self._runtime = choose_runtime(ready, self._device, score_threshold, arithmetic, accelerator)
        self._batch_size = batch_size or self._runtime.batch_size

    @property
    def name(self) -> str:
        return self._name

    @property
    def classes(self) -> tuple[str, ...]:
        return self._classes

    @property
    def kind(self) -> Kind:
        return self._kind

    @property
    def device(self) -> str:
        return str(self._device)

    @property
    def runtime(self) -> str:
        """What computes the layers and in which arithmetic, such as ``openvino 2026.4.1, fp32``; also why it is not
        OpenVINO where that cannot be used."""
        return self._runtime.words

    def predict(self, images: Sequence[Image]) -> list[Detections]:
        """Detect objects.

        Args:
            images: (H, W, 3) uint8 RGB arrays; sizes may differ and one may be very large.

        Raises:
            ImageError: an array has another shape or dtype; names its place.
            ModelError: the device ran out of memory.
        """
        check_images(images)
        answers = [Detections.none()] * len(images)
        for group in self._groups(images):
            for start in range(0, len(group), self._batch_size):
                part = group[start : start + self._batch_size]
                for i, answer in zip(part, self._run([images[i] for i in part]), strict=True):
                    answers[i] = answer
        return answers

    @property
    def score_regions(self) -> ScoreRegions | None:
        """See :class:`~bridge.core.predictor.RegionScorer`; None for RetinaNet and FCOS.

        Networks of two stages answer with their second one, as if the first had proposed the given boxes. SSD answers
        as it does at the one of all its boxes, suppressed ones included, that fits the given box best.
        """
        return None if self._runtime.probe is None else self._score_regions

    def _score_regions(self, image: Image, boxes: Floats) -> Probes:
        check_images([image])
        if self._runtime.probe is None or not self._groups([image]):
            return Probes.unasked(len(boxes), len(self._classes))
        with self._enough_memory(1), torch.inference_mode():
            return judge(self._runtime.probe, image, boxes, np.flatnonzero(self._class_of >= 0))

    def _groups(self, images: Sequence[Image]) -> list[list[int]]:
        """Places of the images that may run together; images on which nothing can be seen are in no group."""
        groups: dict[object, list[int]] = {}
        for i, image in enumerate(images):
            height, width = image.shape[:2]
            if min(height, width) == 0 or min(target_size(self._transform, height, width)) == 0:
                continue
            key = None if self._transform.fixed_size is not None else (height, width)
            groups.setdefault(key, []).append(i)
        return list(groups.values())

    def _run(self, images: list[Image]) -> list[Detections]:
        small = [shrink(image) for image in images]
        with self._enough_memory(len(images)), torch.inference_mode():
            found = self._runtime.run([image for image, _ in small])
            return [
                self._detections(raw, factors, image)
                for raw, (_, factors), image in zip(found, small, images, strict=True)
            ]

    @contextmanager
    def _enough_memory(self, images: int) -> Iterator[None]:
        try:
            yield
        except torch.OutOfMemoryError as error:
            raise ModelError(
                f"the device {self._device} has not enough memory for {images} image(s): {error}",
                expected="a smaller batch, or a smaller model",
                todo="Lower the batch size, or run on another device",
            ) from None

    def _detections(self, raw: Raw, factors: tuple[int, int], image: Image) -> Detections:
        height, width = image.shape[:2]
        xyxy = raw.boxes.astype(np.float64).reshape(-1, 4) * np.tile(factors, 2)
        confidence = raw.scores.astype(np.float64)
        numbers = raw.labels.astype(np.int64)
        in_range = (numbers >= 0) & (numbers < len(self._class_of))
        label = np.where(in_range, self._class_of[np.where(in_range, numbers, 0)], -1)
        finite = np.isfinite(xyxy).all(axis=1) & np.isfinite(confidence)
        xyxy = np.clip(np.where(finite[:, None], xyxy, 0.0), 0.0, (width, height, width, height))
        area = np.prod(np.maximum(xyxy[:, 2:] - xyxy[:, :2], 0.0), axis=1)
        kept = np.flatnonzero(finite & (label >= 0) & (area > 0) & (confidence >= self._threshold))
        kept = kept[np.argsort(-confidence[kept], kind="stable")]
        masks: tuple[MaskCrop, ...] = ()
        if self._kind == "mask" and raw.masks is not None:
            kept, masks = _masks(kept, raw.masks, xyxy.astype(np.float32), height, width)
        return Detections(xyxy[kept], label[kept], np.clip(confidence[kept], 0.0, 1.0), masks)


def _masks(
    kept: npt.NDArray[np.int64], grids: npt.NDArray[np.float32], boxes: npt.NDArray[np.float32], height: int, width: int
) -> tuple[npt.NDArray[np.int64], tuple[MaskCrop, ...]]:
    """Those of the places ``kept`` that have a mask which is not empty, and their masks, within MAX_MASK_PIXELS."""
    places: list[int] = []
    masks: list[MaskCrop] = []
    pixels = 0
    for place in kept:
        mask = paste(grids[place], boxes[place], height, width)
        if mask is None:
            continue
        pixels += mask.bits.size
        if pixels > MAX_MASK_PIXELS:
            break
        places.append(int(place))
        masks.append(mask)
    return np.asarray(places, np.int64), tuple(masks)


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


def build_network(builder: str, args: Mapping[str, Any], *, masks: bool = False) -> nn.Module:
    """The network from random weights; nothing is downloaded. Its mask head is off unless ``masks``.

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
    return without_heads(network, masks=masks)


def without_heads(network: nn.Module, *, masks: bool) -> nn.Module:
    """Switches off the key-point head, and the mask head unless ``masks``: they cost time and their answers are not
    used. Their weights stay."""
    heads: Any = getattr(network, "roi_heads", None)
    if heads is not None:
        heads.keypoint_roi_pool = None
        if not masks:
            heads.mask_roi_pool = None
    return network


def coco_weights(builder: str) -> Any:
    """torchvision's best COCO weights for the builder, as its own enum member; nothing is downloaded."""
    check_builder(builder)
    return torchvision.models.get_model_weights(builder).DEFAULT


def coco_outputs(builder: str) -> tuple[str | None, ...]:
    """The class name of each number the COCO network answers; None for background and unused numbers."""
    return tuple(None if name in _BACKGROUND_NAMES else str(name) for name in coco_weights(builder).meta["categories"])


def build_coco(builder: str, *, masks: bool = False) -> nn.Module:
    """The network with torchvision's COCO weights, from its cache or downloaded by torchvision. Its mask head is off
    unless ``masks``.

    Raises:
        ModelError: the download failed; says which file to put where.
    """
    weights = coco_weights(builder)
    cached = Path(torch.hub.get_dir()) / "checkpoints" / Path(weights.url).name
    try:
        if cached.is_file():
            # torchvision would run whatever a pickle in its cache says; this refuses all but tensors.
            parse_state(read_bytes(cached), cached)
        network: nn.Module = torchvision.models.get_model(builder, weights=weights, progress=False)
    except (URLError, OSError, RuntimeError, ModelError) as error:
        raise ModelError(
            f"the COCO weights of {builder} cannot be had: {error}",
            expected=f"a download from {weights.url}, or the same file in the cache as {cached}",
            todo=f"Fetch that file elsewhere and put it at {cached} (a damaged one there must be deleted), give "
            "weights of your own, or use the embedded model, which needs no download",
        ) from None
    return without_heads(network, masks=masks)


def build_from_state(
    builder: str,
    state: State,
    classes: Sequence[str] | None,
    args: Mapping[str, Any],
    what: str,
    *,
    masks: bool = False,
) -> tuple[nn.Module, tuple[str | None, ...]]:
    """The network with the given weights, and the class name of each number it answers. Its mask head is off unless
    ``masks``.

    ``classes`` are the names without background, in the order of training. Number 0 is the background, as torchvision
    trains; weights of a network without one (RetinaNet and FCOS can be trained so) are recognised by having exactly
    as many outputs as names. Without ``classes``, weights for COCO's 91 numbers get COCO's names.

    Raises:
        ModelError: the weights do not fit the builder or the number of classes.
    """
    check_builder(builder)
    coco = coco_outputs(builder)
    asked = args.get("num_classes") or (len(classes) + 1 if classes else len(coco))
    probe = build_network(builder, {**args, "num_classes": asked}, masks=masks)
    found = classes_in(probe, state, asked) or asked
    if classes is None:
        if found != len(coco):
            raise ModelError(
                f"{what} answer {found} classes and nobody says which",
                expected="class names, in the order of training and without the background",
                todo="Give the class names, or write a manifest",
            )
        load_state(probe, state, what, asked)
        return _as_trained(builder, probe, state), coco
    if found == len(classes) != asked and _may_lack_background(builder):
        network = build_network(builder, {**args, "num_classes": found}, masks=masks)
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


def _as_trained(builder: str, network: nn.Module, state: State) -> nn.Module:
    """The network as torchvision builds it for its own COCO weights.

    These are known by their class numbers, and by batch norms that were frozen: such weights have no counters.
    """
    if builder in _PLAIN_VARIANCE and not any(key.endswith(".num_batches_tracked") for key in state):
        for part in network.modules():
            if isinstance(part, nn.BatchNorm2d):
                part.eps = 0.0
    return network


def _may_lack_background(builder: str) -> bool:
    return builder.startswith(("retinanet", "fcos"))
