"""Any classifier of torchvision.models, as a Predictor of tags."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.error import URLError

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torchvision import models

from bridge.errors import LabelbridgeError, ModelError
from ml_backend.models import Detections, Kind
from ml_backend.models.catalogue import DEFAULT_THRESHOLD, Accelerator, Precision
from ml_backend.models.dense_stages import Autocast
from ml_backend.models.openvino_network import StreamedNetwork, convert, is_installed
from ml_backend.models.pixels import Image, check_images, shrink
from ml_backend.models.precision import Arithmetic, choose_precision
from ml_backend.models.torchvision_detector import choose_device
from ml_backend.models.weights import State, load_state, parse_state, read_bytes

Floats = npt.NDArray[np.float64]

#: The networks see a square from the middle. What lies farther out than this many short sides in all is cut off
#: first: enlarging a strip of one pixel to the network's size would take gigabytes.
MAX_ASPECT = 8

#: Builders with side outputs that only training uses, and the prefixes of their weights.
_SIDE_OUTPUTS = {"googlenet": ("aux1.", "aux2."), "inception_v3": ("AuxLogits.",)}


def classification_builders() -> tuple[str, ...]:
    """The names of torchvision's classification builders."""
    return tuple(models.list_models(module=models))


class TorchvisionClassifier:
    """A classification network with its class names.

    Args:
        network: (B, 3, h, w) float32 -> (B, C) float32 logits; its layers may be changed.
        name: see ``Predictor.name``.
        classes: C class names.
        preset: (3, H, W) uint8 RGB tensor -> (3, h, w) float32, as the network was trained.
        multi_label: each class is a question of its own (sigmoid); else exactly one class is right (softmax).
        device: where it runs, such as ``cpu`` or ``cuda``.
        precision: see :func:`~ml_backend.models.precision.choose_precision`.
        accelerator: ``auto`` is OpenVINO on a CPU where it is installed and knows the network, else torch.
        score_threshold: classes below this probability are not answered.
        batch_size: images per forward pass; None: 1 on a CPU, 16 by OpenVINO, else 32.

    Attributes:
        nbytes: of the weights.

    Raises:
        ModelError: the device does not exist here or cannot compute in that precision, or OpenVINO cannot run the
            network although it was asked for.
        ConfigError: OpenVINO was asked for and is not installed.
    """

    def __init__(
        self,
        network: nn.Module,
        *,
        name: str,
        classes: Sequence[str],
        preset: Any,
        multi_label: bool = False,
        device: str = "auto",
        precision: Precision = "fp32",
        accelerator: Accelerator = "torch",
        score_threshold: float = DEFAULT_THRESHOLD,
        batch_size: int | None = None,
    ) -> None:
        self._device = choose_device(device)
        self._name = name
        self._classes = tuple(classes)
        self._preset = preset
        self._multi_label = multi_label
        self._threshold = score_threshold
        ready: Any = network.to(self._device, memory_format=torch.channels_last).eval()  # type: ignore[call-overload]
        self.nbytes = sum(p.nbytes for p in ready.parameters())
        arithmetic = choose_precision(precision, str(self._device))
        self._streams = self._on_openvino(ready, accelerator, arithmetic)
        if self._streams is None:
            # OpenVINO has a copy of the weights of its own.
            self._network = ready if arithmetic == "fp32" else Autocast(ready, arithmetic)
        self._batch_size = batch_size or (16 if self._streams else 1 if self._device.type == "cpu" else 32)

    @property
    def name(self) -> str:
        return self._name

    @property
    def classes(self) -> tuple[str, ...]:
        return self._classes

    @property
    def kind(self) -> Kind:
        return "tag"

    def predict(self, images: Sequence[Image]) -> list[Detections]:
        """One entry per class above the threshold, its box the whole image.

        Args:
            images: (H, W, 3) uint8 RGB arrays; sizes may differ and one may be very large.

        Raises:
            ImageError: an array has another shape or dtype; names its place.
            ModelError: the device ran out of memory.
        """
        check_images(images)
        answers = [Detections.none()] * len(images)
        seen = [i for i, image in enumerate(images) if image.size]
        for start in range(0, len(seen), self._batch_size):
            part = seen[start : start + self._batch_size]
            for i, probabilities in zip(part, self._run([images[i] for i in part]), strict=True):
                answers[i] = self._detections(probabilities, images[i])
        return answers

    def _on_openvino(
        self, network: nn.Module, accelerator: Accelerator, arithmetic: Arithmetic
    ) -> StreamedNetwork | None:
        """The network on OpenVINO; None where torch is to run it."""
        if accelerator == "torch" or (accelerator == "auto" and (self._device.type != "cpu" or not is_installed())):
            return None
        shape = (1, 3, *(self._preset.crop_size * 2)[:2])
        try:
            if self._device.type != "cpu":
                raise ModelError(
                    f"the accelerator openvino was asked for on the device {self._device}",
                    expected="OpenVINO on the CPU only",
                    todo="Choose the device cpu, or leave the accelerator out",
                )
            return StreamedNetwork(convert(network, [torch.ones(shape)]), shape, arithmetic)
        except LabelbridgeError:
            if accelerator == "openvino":
                raise
            return None

    def _run(self, images: list[Image]) -> Floats:
        """(B, C) float64 probabilities."""
        try:
            with torch.inference_mode():
                logits = self._by_openvino(self._streams, images) if self._streams else self._by_torch(images)
                shares = logits.sigmoid() if self._multi_label else logits.softmax(dim=1)
            return np.asarray(shares.cpu().numpy(), dtype=np.float64)
        except torch.OutOfMemoryError as error:
            raise ModelError(
                f"the device {self._device} has not enough memory for {len(images)} image(s): {error}",
                expected="a smaller batch, or a smaller model",
                todo="Lower the batch size, or run on another device",
            ) from None

    def _by_torch(self, images: list[Image]) -> Tensor:
        inputs = torch.stack([self._input(image) for image in images])
        logits: Tensor = self._network(inputs.contiguous(memory_format=torch.channels_last))
        return logits

    def _by_openvino(self, streams: StreamedNetwork, images: list[Image]) -> Tensor:
        def fill(i: int, array: npt.NDArray[np.float32]) -> None:
            array[0] = self._input(images[i]).numpy()

        return torch.from_numpy(np.concatenate([answer[0].copy() for answer in streams.run(len(images), fill)]))

    def _input(self, image: Image) -> Tensor:
        """(3, h, w) float32 on the device."""
        small, _ = shrink(_middle(image))
        # torch takes neither read-only arrays nor negative strides.
        usable = small if small.flags.writeable and small.flags.c_contiguous else small.copy(order="C")
        tensor: Tensor = self._preset(torch.from_numpy(usable).to(self._device).permute(2, 0, 1))
        return tensor

    def _detections(self, probabilities: Floats, image: Image) -> Detections:
        height, width = image.shape[:2]
        kept = np.flatnonzero(probabilities >= self._threshold)
        kept = kept[np.argsort(-probabilities[kept], kind="stable")]
        whole = np.tile(np.array([0.0, 0.0, width, height]), (len(kept), 1))
        return Detections(whole, kept.astype(np.int64), np.clip(probabilities[kept], 0.0, 1.0))


def imagenet_weights(builder: str) -> Any:
    """torchvision's best ImageNet weights for the builder, as its own enum member; nothing is downloaded.

    Raises:
        ModelError: there is no such classification builder.
    """
    return published_weights(builder, classification_builders(), "classification")


def published_weights(builder: str, builders: Sequence[str], task: str) -> Any:
    """torchvision's default weights for one of ``builders``, as its own enum member; nothing is downloaded.

    Raises:
        ModelError: the builder is none of them; ``task`` is what they are called in the message.
    """
    if builder not in builders:
        raise ModelError(
            f"there is no {task} model {builder!r}",
            expected="a builder of torchvision: " + ", ".join(builders),
            todo="Correct the name",
        )
    return models.get_model_weights(builder).DEFAULT


def preset(builder: str, changes: Mapping[str, Any]) -> Any:
    """torchvision's own preprocessing for the builder: resize, crop the middle, normalise.

    Args:
        changes: ``resize`` and ``crop`` in pixels, ``mean`` and ``std`` of channels in [0, 1], where they differ.
    """
    made = imagenet_weights(builder).transforms()
    for key, attribute in (("resize", "resize_size"), ("crop", "crop_size")):
        if key in changes:
            setattr(made, attribute, [changes[key]])
    for key in ("mean", "std"):
        if key in changes:
            setattr(made, key, list(changes[key]))
    return made


def build_imagenet(builder: str) -> nn.Module:
    """The network with torchvision's ImageNet weights; see :func:`build_published`."""
    return build_published(builder, imagenet_weights(builder), "ImageNet")


def build_published(builder: str, weights: Any, data: str) -> nn.Module:
    """The network with weights of torchvision, from its cache or downloaded by torchvision.

    Args:
        weights: torchvision's own enum member.
        data: what they were trained on, for the message.

    Raises:
        ModelError: the download failed, or the file in the cache is damaged; says which file to put where.
    """
    cached = Path(torch.hub.get_dir()) / "checkpoints" / Path(weights.url).name
    try:
        if cached.is_file():
            # torchvision would run whatever a pickle in its cache says; this refuses all but tensors.
            parse_state(read_bytes(cached), cached)
        network: nn.Module = models.get_model(builder, weights=weights, progress=False)
    except (URLError, OSError, RuntimeError, ModelError) as error:
        raise ModelError(
            f"the {data} weights of {builder} cannot be had: {error}",
            expected=f"a download from {weights.url}, or the same file in the cache as {cached}",
            todo=f"Fetch that file elsewhere and put it at {cached} (a damaged one there must be deleted), or give "
            "weights of your own",
        ) from None
    return network


def build_from_state(
    builder: str, state: State, classes: Sequence[str] | None, args: Mapping[str, Any], what: str
) -> tuple[nn.Module, tuple[str, ...]]:
    """The network with the given weights, and its class names.

    Without ``classes``, weights with as many outputs as ImageNet has classes get ImageNet's names.

    Raises:
        ModelError: the weights do not fit the builder or the number of classes.
    """
    names = tuple(classes or imagenet_weights(builder).meta["categories"])
    network = _build(builder, {**_side_outputs(builder, state), **args, "num_classes": len(names)})
    found = outputs_in(network, state, len(names))
    if found not in (None, len(names)):
        if classes is None:
            raise ModelError(
                f"{what} answer {found} classes and nobody says which",
                expected="class names, in the order of training",
                todo="Give the class names, or write a manifest",
            )
        raise ModelError(
            f"{what} answer {found} classes and there are {len(names)} class names",
            expected=f"{found} class names, in the order of training",
            todo="Correct the class names",
        )
    load_state(network, state, what, None)
    return network, names


def _build(builder: str, args: Mapping[str, Any]) -> nn.Module:
    imagenet_weights(builder)
    if args.get("weights") is not None:
        raise ModelError(
            f"the arguments for {builder} ask for weights of torchvision",
            expected="weights absent or null: the weights come from the model's own file",
            todo="Remove it from builder_args",
        )
    try:
        network: nn.Module = models.get_model(builder, **{**args, "weights": None})
    except (TypeError, ValueError, RuntimeError) as error:
        raise ModelError(
            f"torchvision cannot build {builder} with {dict(args)}: {error}",
            expected="arguments that this builder takes",
            todo="Correct builder_args in the manifest",
        ) from None
    return network


def _side_outputs(builder: str, state: State) -> dict[str, Any]:
    """Whether the weights have the outputs that only training uses: people save them with and without."""
    prefixes = _SIDE_OUTPUTS.get(builder)
    if prefixes is None:
        return {}
    return {"aux_logits": any(key.startswith(prefixes) for key in state), "init_weights": False}


def outputs_in(network: nn.Module, state: State, classes: int) -> int | None:
    """For how many classes ``state`` was trained, read from the tensors that differ from ``network``'s in their first
    dimension only; None where the difference is another one, or there is none."""
    own = network.state_dict()
    odd = {k: v.shape for k, v in state.items() if k in own and own[k].shape != v.shape}
    fits = all(
        len(shape) > 0 and own[k].shape[0] == classes and own[k].shape[1:] == shape[1:] for k, shape in odd.items()
    )
    sizes = {shape[0] for shape in odd.values() if len(shape) > 0}
    return sizes.pop() if fits and len(sizes) == 1 else None


def _middle(image: Image) -> Image:
    height, width = image.shape[:2]
    if width > MAX_ASPECT * height:
        start = (width - MAX_ASPECT * height) // 2
        return image[:, start : start + MAX_ASPECT * height]
    if height > MAX_ASPECT * width:
        start = (height - MAX_ASPECT * width) // 2
        return image[start : start + MAX_ASPECT * width]
    return image
