"""Any semantic segmenter of torchvision.models.segmentation, as a Predictor of masks and of class maps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional
from torchvision import models
from torchvision.models import segmentation

from bridge.core.class_maps import off_grid
from bridge.core.masks import MaskCrop
from bridge.core.predictor import ClassMap
from bridge.errors import ModelError
from ml_backend.models import Detections, Kind
from ml_backend.models.catalogue import DEFAULT_THRESHOLD, Precision
from ml_backend.models.classifier_network import build_published, outputs_in, published_weights
from ml_backend.models.dense_stages import Autocast
from ml_backend.models.pixels import Image, check_images, shrink
from ml_backend.models.precision import choose_precision
from ml_backend.models.torchvision_detector import MAX_MASK_PIXELS, choose_device
from ml_backend.models.weights import State, load_state

#: Cells of a class map, about, at most; a strip of an image would otherwise be enlarged without bounds.
MAX_CELLS = 640_000
#: Cells; what is smaller is no object.
SMALLEST = 9
#: Objects in one image at most, the most confident first.
MAX_OBJECTS = 1000


@dataclass(frozen=True, slots=True)
class Preset:
    """How a network sees an image: its shorter side in pixels, and the mean and spread of channels in [0, 1]."""

    resize: int
    mean: Sequence[float]
    std: Sequence[float]


class TorchvisionSegmenter:
    """A semantic segmentation network with its class names.

    An object is what hangs together of one class, so that objects of one class that touch are one.

    Args:
        network: (B, 3, h, w) float32 -> ``out``: (B, C + 1, h, w) float32 logits, background first.
        name: see ``Predictor.name``.
        classes: C class names.
        device: where it runs, such as ``cpu`` or ``cuda``.
        precision: see :func:`~ml_backend.models.precision.choose_precision`.
        score_threshold: objects whose class is less likely in the mean over their cells are not answered.

    Attributes:
        nbytes: of the weights.

    Raises:
        ModelError: the device does not exist here or cannot compute in that precision.
    """

    kind: Kind = "mask"

    def __init__(
        self,
        network: nn.Module,
        *,
        name: str,
        classes: Sequence[str],
        preset: Preset,
        device: str = "auto",
        precision: Precision = "fp32",
        score_threshold: float = DEFAULT_THRESHOLD,
    ) -> None:
        self._device = choose_device(device)
        self.name = name
        self.classes = tuple(classes)
        self._preset = preset
        self._threshold = score_threshold
        ready: Any = network.to(self._device, memory_format=torch.channels_last).eval()  # type: ignore[call-overload]
        self.nbytes = sum(p.nbytes for p in ready.parameters())
        arithmetic = choose_precision(precision, str(self._device))
        self._network = ready if arithmetic == "fp32" else Autocast(ready, arithmetic)

    def predict(self, images: Sequence[Image]) -> list[Detections]:
        """One mask for each object.

        Args:
            images: (H, W, 3) uint8 RGB arrays; sizes may differ and one may be very large.

        Raises:
            ImageError: an array has another shape or dtype; names its place.
            ModelError: the device ran out of memory.
        """
        return [found for found, _ in self.predict_dense(images)]

    def predict_dense(self, images: Sequence[Image]) -> list[tuple[Detections, ClassMap]]:
        """See :class:`~bridge.core.predictor.DensePredictor`; one image at a time, whatever their number."""
        check_images(images)
        return [self._look(image) for image in images]

    def _look(self, image: Image) -> tuple[Detections, ClassMap]:
        if not image.size:
            nothing = np.zeros((len(self.classes) + 1, 1, 1), np.float32)
            nothing[0] = 1.0
            return Detections.none(), nothing
        try:
            with torch.inference_mode():
                logits: Tensor = self._network(self._input(image))["out"][0]
                chances: ClassMap = logits.softmax(dim=0).cpu().numpy()
        except torch.OutOfMemoryError as error:
            raise ModelError(
                f"the device {self._device} has not enough memory for an image: {error}",
                expected="a smaller model",
                todo="Run on another device",
            ) from None
        return self._detections(chances, image.shape[0], image.shape[1]), chances

    def _input(self, image: Image) -> Tensor:
        """(1, 3, h, w) float32 on the device."""
        small, _ = shrink(image)
        height, width = small.shape[:2]
        scale = min(self._preset.resize / min(height, width), (MAX_CELLS / (height * width)) ** 0.5)
        size = [max(1, round(height * scale)), max(1, round(width * scale))]
        # torch takes neither read-only arrays nor negative strides.
        usable = small if small.flags.writeable and small.flags.c_contiguous else small.copy(order="C")
        pixels = torch.from_numpy(usable).to(self._device).permute(2, 0, 1)[None].float() / 255
        pixels = functional.interpolate(pixels, size, mode="bilinear", antialias=True, align_corners=False)
        mean, std = (
            torch.tensor(v, device=self._device).view(1, 3, 1, 1) for v in (self._preset.mean, self._preset.std)
        )
        return ((pixels - mean) / std).contiguous(memory_format=torch.channels_last)

    def _detections(self, chances: ClassMap, height: int, width: int) -> Detections:
        found = sorted(_objects(chances, self._threshold), key=lambda one: -one[0])[:MAX_OBJECTS]
        labels, confidences, masks, boxes = [], [], [], []
        pixels = 0
        for confidence, label, region in found:
            mask = off_grid(region, chances.shape[1:], (height, width))
            if mask is None:
                continue
            pixels += mask.bits.size
            if pixels > MAX_MASK_PIXELS:
                break
            labels.append(label)
            confidences.append(confidence)
            masks.append(mask)
            boxes.append(mask.xyxy)
        xyxy = np.array(boxes, np.float64).reshape(-1, 4)
        return Detections(xyxy, np.array(labels, np.int64), np.array(confidences, np.float64), tuple(masks))


def _objects(chances: ClassMap, threshold: float) -> list[tuple[float, int, MaskCrop]]:
    """Confidence, class and cells of each object, in no order."""
    import cv2

    likeliest = chances.argmax(axis=0)
    found = []
    for kind in np.unique(likeliest[likeliest > 0]).tolist():
        count, number, boxes, _ = cv2.connectedComponentsWithStats((likeliest == kind).astype(np.uint8), connectivity=4)
        sums = np.bincount(number.ravel(), chances[kind].ravel(), count)
        for k in range(1, count):
            left, top, columns, rows, area = boxes[k].tolist()
            confidence = min(1.0, float(sums[k]) / area)
            if area >= SMALLEST and confidence >= threshold:
                bits: npt.NDArray[np.bool_] = number[top : top + rows, left : left + columns] == k
                found.append((confidence, kind - 1, MaskCrop(left, top, bits)))
    return found


def segmentation_builders() -> tuple[str, ...]:
    """The names of torchvision's segmentation builders."""
    return tuple(models.list_models(module=segmentation))


def voc_weights(builder: str) -> Any:
    """torchvision's weights for the builder, trained on COCO with VOC's classes, as its own enum member; nothing is
    downloaded.

    Raises:
        ModelError: there is no such segmentation builder.
    """
    return published_weights(builder, segmentation_builders(), "segmentation")


def voc_classes(builder: str) -> tuple[str, ...]:
    """The names of VOC's classes, without the background, which the networks answer first."""
    return tuple(voc_weights(builder).meta["categories"][1:])


def preset(builder: str, changes: Mapping[str, Any]) -> Preset:
    """torchvision's own preprocessing for the builder, but for ``resize``, ``mean`` and ``std`` where they differ."""
    made = voc_weights(builder).transforms()
    own = {"resize": made.resize_size[0], "mean": made.mean, "std": made.std}
    return Preset(**{**own, **changes})


def build_voc(builder: str) -> nn.Module:
    """The network with torchvision's weights, from its cache or downloaded by torchvision.

    Raises:
        ModelError: the download failed, or the file in the cache is damaged; says which file to put where.
    """
    return build_published(builder, voc_weights(builder), "COCO")


def build_from_state(
    builder: str, state: State, classes: Sequence[str], args: Mapping[str, Any], what: str
) -> nn.Module:
    """The network with the given weights; outputs that only training uses are left out.

    Raises:
        ModelError: the weights do not fit the builder or the number of classes.
    """
    count = len(classes) + 1
    network = _build(builder, {**args, "num_classes": count})
    state = {key: value for key, value in state.items() if not key.startswith("aux_classifier.")}
    found = outputs_in(network, state, count)
    if found not in (None, count):
        raise ModelError(
            f"{what} answer {found} classes, background included, and there are {len(classes)} class names",
            expected=f"{found - 1} class names, in the order of training and without the background",
            todo="Correct the class names",
        )
    load_state(network, state, what, None)
    return network


def _build(builder: str, args: Mapping[str, Any]) -> nn.Module:
    voc_weights(builder)
    if args.get("weights") is not None or args.get("weights_backbone") is not None:
        raise ModelError(
            f"the arguments for {builder} ask for weights of torchvision",
            expected="weights and weights_backbone absent or null: the weights come from the model's own file",
            todo="Remove them from builder_args",
        )
    given = {**args, "weights": None, "weights_backbone": None, "aux_loss": False}
    if builder.startswith("lraspp"):
        del given["aux_loss"]
    try:
        network: nn.Module = models.get_model(builder, **given)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ModelError(
            f"torchvision cannot build {builder} with {dict(args)}: {error}",
            expected="arguments that this builder takes",
            todo="Correct builder_args in the manifest",
        ) from None
    return network
