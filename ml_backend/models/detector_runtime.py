"""What computes a torchvision detector: torch or OpenVINO, in full or half precision."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torchvision.models.detection import FCOS, RetinaNet
from torchvision.models.detection.generalized_rcnn import GeneralizedRCNN
from torchvision.models.detection.ssd import SSD

from bridge.errors import LabelbridgeError, ModelError
from ml_backend.models.catalogue import Accelerator
from ml_backend.models.dense_stages import Autocast, replace_stages
from ml_backend.models.given_boxes import NetworkProbe
from ml_backend.models.openvino_network import OpenVinoModule, is_installed, version
from ml_backend.models.pixels import Image
from ml_backend.models.precision import Arithmetic
from ml_backend.models.raw import Raw
from ml_backend.models.region_network import RegionNetwork, WholeNetwork
from ml_backend.models.single_shot import SingleShot

#: Images that OpenVINO is given at a time, of which it computes a few side by side.
_OPENVINO_BATCH = 16

Run = SingleShot | RegionNetwork | WholeNetwork


@dataclass(frozen=True, slots=True)
class DetectorRuntime:
    """Attributes:
    run: images, of one size where the network has no fixed one, to what it finds in each.
    probe: to what it says about given boxes; None where it cannot.
    words: what computes it, such as ``openvino 2026.4.1, fp32``; also why it is not OpenVINO where that cannot be used.
    batch_size: images that ``run`` is best given at a time.
    """

    run: Callable[[Sequence[Image]], Iterator[Raw]]
    probe: NetworkProbe | None
    words: str
    batch_size: int


def choose_runtime(
    network: Any, device: torch.device, threshold: float, arithmetic: Arithmetic, accelerator: Accelerator
) -> DetectorRuntime:
    """How to run a network that is on ``device`` in evaluation mode. Its layers may be replaced.

    Args:
        threshold: what is less confident is not answered.
        accelerator: see :class:`~ml_backend.models.torchvision_detector.TorchvisionDetector`.

    Raises:
        ModelError: OpenVINO was asked for and cannot run this network, or not on this device.
        ConfigError: OpenVINO was asked for and is not installed.
    """
    if accelerator not in ("auto", "torch", "openvino"):
        raise ModelError(f"the accelerator is {accelerator!r}", expected="auto, torch or openvino")
    on_cpu = device.type == "cpu"
    why_not = ""
    if accelerator == "openvino" or (accelerator == "auto" and on_cpu and is_installed()):
        try:
            run = _on_openvino(network, device, threshold, arithmetic)
        except LabelbridgeError as error:
            if accelerator == "openvino":
                raise
            why_not = f" ({error.found})"
        else:
            return DetectorRuntime(run, _probe(run), f"openvino {version()}, {arithmetic}", _OPENVINO_BATCH)
    words = f"torch {str(torch.__version__).partition('+')[0]}, {arithmetic}{why_not}"
    # On a CPU larger batches are slower per image: they leave its caches.
    run = _on_torch(network, threshold, arithmetic)
    return DetectorRuntime(run, _probe(run), words, 1 if on_cpu else 8)


def _probe(run: Run) -> NetworkProbe | None:
    # RetinaNet and FCOS rate each class by itself: they have no probability that nothing is there.
    return None if isinstance(run, WholeNetwork) else run.probe


def _on_torch(network: Any, threshold: float, arithmetic: Arithmetic) -> Run:
    if isinstance(network, SSD):
        return SingleShot(network, threshold, arithmetic)
    if arithmetic != "fp32":
        replace_stages(network, lambda stage, _: Autocast(stage, arithmetic))
    return RegionNetwork(network, threshold) if _has_regions(network) else WholeNetwork(network, threshold)


def _on_openvino(network: Any, device: torch.device, threshold: float, arithmetic: Arithmetic) -> Run:
    if device.type != "cpu":
        raise ModelError(
            f"the accelerator openvino was asked for on the device {device}",
            expected="OpenVINO on the CPU only",
            todo="Choose the device cpu, or leave the accelerator out",
        )
    if isinstance(network, SSD):
        return SingleShot(network, threshold, arithmetic, openvino=True)
    if not isinstance(network, GeneralizedRCNN | RetinaNet | FCOS):
        raise ModelError(
            f"OpenVINO cannot run a {type(network).__name__}",
            expected="a detector of torchvision",
            todo="Choose the accelerator torch",
        )
    replace_stages(network, partial(OpenVinoModule, arithmetic=arithmetic))
    return RegionNetwork(network, threshold) if _has_regions(network) else WholeNetwork(network, threshold)


def _has_regions(network: Any) -> bool:
    return isinstance(network, GeneralizedRCNN)
