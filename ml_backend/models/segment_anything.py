"""SAM, by the package ``segment-anything``: image and clicks or a box -> mask.

The image encoder takes seconds on a CPU and runs once per image; the mask decoder takes milliseconds per prompt. The
package's ``SamPredictor`` keeps the image it saw last, so that two users would take it from each other; here its
networks are called directly, and the caller keeps what the encoder gave.

Kirillov et al., "Segment Anything", 2023.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image as PillowImage
from torch import Tensor, nn
from torch.nn import functional

from bridge.core.masks import MaskCrop
from bridge.errors import ModelError
from ml_backend.models import Prompt, Segment
from ml_backend.models.catalogue import ModelCard, ModelSpec, need_extra
from ml_backend.models.checkpoints import Checkpoint, find
from ml_backend.models.precision import Arithmetic, choose_precision, suffix
from ml_backend.models.torchvision_detector import choose_device
from ml_backend.models.weights import State, parse_state, read_bytes

Image = npt.NDArray[np.uint8]

_HOST = "https://dl.fbaipublicfiles.com/segment_anything"

#: The checkpoints that its makers published.
CHECKPOINTS = {
    "sam_vit_b": Checkpoint(
        f"{_HOST}/sam_vit_b_01ec64.pth", "ec2df62732614e57411cdcf32a23ffdf28910380d03139ee0f4fcbe91eb8c912"
    ),
    "sam_vit_l": Checkpoint(
        f"{_HOST}/sam_vit_l_0b3195.pth", "3adcc4315b642a4d2101128f611684e8734c41232a17c648ed1693702a49a622"
    ),
    "sam_vit_h": Checkpoint(
        f"{_HOST}/sam_vit_h_4b8939.pth", "a7bf3b02f3ebf1267aba913ff637d9a2d5c33d3173bb679e46d9f338c26f262e"
    ),
}

#: Width of the encoder's tokens: tells the variants apart.
_WIDTHS = {768: "sam_vit_b", 1024: "sam_vit_l", 1280: "sam_vit_h"}
_WIDTH_OF = "image_encoder.patch_embed.proj.weight"

#: Prompts that are decoded at a time: each takes a copy of the embedding.
_AT_A_TIME = 8
#: Pixels of a mask that are computed at a time.
_BLOCK = 4_000_000


def describe(spec: ModelSpec) -> ModelCard:
    """See :mod:`ml_backend.models`."""
    _check(spec)
    arithmetic = choose_precision(spec.precision, spec.device)
    # Naming a published checkpoint needs no download; whoever loads it checks that it is the one.
    digest = CHECKPOINTS[spec.spec].sha256 if spec.weights is None else _sha256(read_bytes(spec.weights))
    return ModelCard(_name(spec.spec, digest, arithmetic), "interactor", description="Segment Anything: clicks, boxes")


def load(spec: ModelSpec) -> SegmentAnything:
    """See :mod:`ml_backend.models`."""
    _check(spec)
    try:
        from segment_anything import sam_model_registry
    except ImportError:
        raise need_extra("segment-anything", "sam") from None
    folder = Path(torch.hub.get_dir()) / "checkpoints"
    path = spec.weights if spec.weights is not None else find(CHECKPOINTS[spec.spec], folder)
    data = read_bytes(path)
    state = parse_state(data, path)
    _check_variant(spec.spec, state, path)
    network: nn.Module = sam_model_registry[spec.spec.removeprefix("sam_")](checkpoint=None)
    _load_state(network, state, path)
    arithmetic = choose_precision(spec.precision, spec.device)
    return SegmentAnything(
        network, name=_name(spec.spec, _sha256(data), arithmetic), device=spec.device, arithmetic=arithmetic
    )


@dataclass(frozen=True, slots=True, eq=False)
class Embedding:
    """What the image encoder gave.

    Attributes:
        features: (1, C, h, w) on the model's device; in half precision where the encoder ran in it.
        height, width: of the image, pixels.
        scale: pixels of the network's input per pixel of the image, (x, y).
        seen: rows and columns of the network's square input that the image takes.
    """

    features: Tensor
    height: int
    width: int
    scale: tuple[float, float]
    seen: tuple[int, int]

    @property
    def nbytes(self) -> int:
        return self.features.nbytes


class SegmentAnything:
    """A SAM network as an Interactor.

    A single positive point is ambiguous (a wheel, or the car?): of the three masks that the network offers for it, the
    one with the best predicted IoU is taken. Boxes and several points get the one mask that is meant for them. That
    predicted IoU is the confidence.

    Args:
        network: ``segment_anything.modeling.Sam``, with its weights.
        name: see ``Interactor.name``.
        device: as in :class:`~ml_backend.models.catalogue.ModelSpec`.
        arithmetic: of the image encoder; the mask decoder always runs in fp32.

    Raises:
        ModelError: the device does not exist here.
    """

    def __init__(self, network: Any, *, name: str, device: str = "auto", arithmetic: Arithmetic = "fp32") -> None:
        self._device = choose_device(device)
        self._network = network
        self._network.to(self._device).eval()
        self._side = int(self._network.image_encoder.img_size)
        self._arithmetic = arithmetic
        self._name = name
        self.nbytes = sum(p.nbytes for p in network.parameters())

    @property
    def name(self) -> str:
        return self._name

    def preprocess(self, image: Image) -> Embedding:
        """Run the image encoder on an (H, W, 3) uint8 RGB image.

        Raises:
            ModelError: the device ran out of memory.
        """
        height, width = image.shape[:2]
        scale = self._side / max(height, width)
        rows, columns = max(1, int(height * scale + 0.5)), max(1, int(width * scale + 0.5))
        small = PillowImage.fromarray(image).resize((columns, rows), PillowImage.Resampling.BILINEAR)
        pixels = torch.from_numpy(np.array(small)).to(self._device).permute(2, 0, 1).to(torch.float32)
        try:
            with torch.inference_mode(), self._autocast():
                features = self._network.image_encoder(self._network.preprocess(pixels)[None])
        except torch.OutOfMemoryError as error:
            raise ModelError(
                f"the device {self._device} has not enough memory for the image encoder: {error}",
                expected="a smaller variant, or another device",
                todo="Serve sam_vit_b, or run on another device",
            ) from None
        return Embedding(features, height, width, (columns / width, rows / height), (rows, columns))

    def prompt(self, preprocessed: Embedding, prompts: Sequence[Prompt]) -> list[Segment | None]:
        """Run the mask decoder; see :class:`~ml_backend.models.interactor.Interactor`."""
        answers: list[Segment | None] = [None] * len(prompts)
        alike: dict[tuple[int, bool, bool], list[int]] = {}
        for k, prompt in enumerate(prompts):
            if not prompt.empty:
                points = len(prompt.positive) + len(prompt.negative)
                single = points == 1 and prompt.box is None
                alike.setdefault((points, prompt.box is not None, single), []).append(k)
        for (_, _, single), group in alike.items():
            for start in range(0, len(group), _AT_A_TIME):
                part = group[start : start + _AT_A_TIME]
                found = self._decode(preprocessed, [prompts[k] for k in part], several=single)
                for k, segment in zip(part, found, strict=True):
                    answers[k] = segment
        return answers

    def _decode(self, seen: Embedding, prompts: Sequence[Prompt], *, several: bool) -> list[Segment | None]:
        """Prompts with equally many points, all with a box or all without."""
        with torch.inference_mode():
            sparse, dense = self._network.prompt_encoder(
                points=self._points(seen, prompts), boxes=self._boxes(seen, prompts), masks=None
            )
            logits, quality = self._network.mask_decoder(
                image_embeddings=seen.features.float(),
                image_pe=self._network.prompt_encoder.get_dense_pe(),
                sparse_prompt_embeddings=sparse,
                dense_prompt_embeddings=dense,
                multimask_output=several,
            )
            best = quality.argmax(dim=1)
            rows = torch.arange(len(prompts), device=best.device)
            chosen, confidence = logits[rows, best], quality[rows, best].float().cpu().tolist()
            found: list[Segment | None] = []
            for one, value in zip(chosen, confidence, strict=True):
                mask = self._mask(one, seen)
                found.append(None if mask is None else Segment(mask, min(max(value, 0.0), 1.0)))
        return found

    def _points(self, seen: Embedding, prompts: Sequence[Prompt]) -> tuple[Tensor, Tensor] | None:
        if not (prompts[0].positive or prompts[0].negative):
            return None
        points = torch.tensor([[*p.positive, *p.negative] for p in prompts], dtype=torch.float32)
        labels = torch.tensor([[1] * len(p.positive) + [0] * len(p.negative) for p in prompts], dtype=torch.int64)
        return (points * torch.tensor(seen.scale)).to(self._device), labels.to(self._device)

    def _boxes(self, seen: Embedding, prompts: Sequence[Prompt]) -> Tensor | None:
        if prompts[0].box is None:
            return None
        boxes = torch.tensor([p.box for p in prompts], dtype=torch.float32)
        return (boxes * torch.tensor(seen.scale * 2)).to(self._device)

    def _mask(self, logits: Tensor, seen: Embedding) -> MaskCrop | None:
        """(h, w) logits of low resolution -> the mask in pixels of the image, by bilinear interpolation in two steps,
        as the network was trained. Only the part that holds the object is computed, in blocks."""
        side = (self._side, self._side)
        whole = functional.interpolate(logits[None, None], side, mode="bilinear", align_corners=False)[0, 0]
        part = whole[: seen.seen[0], : seen.seen[1]].cpu().numpy()
        rows, columns = np.flatnonzero((part > 0).any(axis=1)), np.flatnonzero((part > 0).any(axis=0))
        if not rows.size:
            return None
        top, bottom = _span(rows, seen.scale[1], seen.height)
        left, right = _span(columns, seen.scale[0], seen.width)
        bits = np.empty((bottom - top, right - left), np.bool_)
        across = _taps(left, right, seen.scale[0], part.shape[1])
        step = max(1, _BLOCK // (right - left))
        for start in range(top, bottom, step):
            end = min(bottom, start + step)
            down = _taps(start, end, seen.scale[1], part.shape[0])
            bits[start - top : end - top] = _interpolated(part, down, across) > 0
        return MaskCrop.of(bits, left, top)

    def _autocast(self) -> AbstractContextManager[Any]:
        if self._arithmetic == "fp32":
            return nullcontext()
        dtype = torch.bfloat16 if self._arithmetic == "bf16" else torch.float16
        return torch.autocast(self._device.type, dtype=dtype)


_Taps = tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[Any]]


def _span(positive: npt.NDArray[np.int64], scale: float, size: int) -> tuple[int, int]:
    """Pixels of the image that positive pixels of the smaller one can reach, half-open."""
    first = math.floor((float(positive[0]) - 1) / scale) - 1
    last = math.ceil((float(positive[-1]) + 2) / scale) + 1
    return max(0, first), min(size, last)


def _taps(start: int, end: int, scale: float, size: int) -> _Taps:
    """For pixels ``start`` to ``end`` the two source pixels and the weight of the second, centres aligned by halves."""
    at = np.maximum((np.arange(start, end) + 0.5) * scale - 0.5, 0.0)
    low = np.minimum(at.astype(np.int64), size - 1)
    high = np.minimum(low + 1, size - 1)
    return low, high, (at - low).astype(np.float32)


def _interpolated(part: npt.NDArray[np.float32], down: _Taps, across: _Taps) -> npt.NDArray[np.float32]:
    low, high, weight = across
    # Only the source rows that are needed, however wide the target is.
    first, last = int(down[0].min()), int(down[1].max()) + 1
    rows = part[first:last]
    wide: npt.NDArray[Any] = rows[:, low] * (1 - weight) + rows[:, high] * weight
    below = down[2][:, None]
    result: npt.NDArray[np.float32] = wide[down[0] - first] * (1 - below) + wide[down[1] - first] * below
    return result


def _check(spec: ModelSpec) -> None:
    if spec.spec not in CHECKPOINTS:
        raise ModelError(f"there is no model {spec.spec!r}", expected="one of " + ", ".join(CHECKPOINTS))
    if spec.classes:
        raise ModelError(
            f"class names were given for {spec.spec!r}, which has no classes",
            expected="no class names: the annotator says what it is",
            todo="Leave them out",
        )


def _check_variant(wanted: str, state: State, path: Path) -> None:
    weight = state.get(_WIDTH_OF)
    if weight is None:
        raise ModelError(
            f"the weights {path} are no checkpoint of SAM: they have no {_WIDTH_OF}",
            expected="a checkpoint of segment-anything",
            todo=f"Give the file {CHECKPOINTS[wanted].file}, or one trained from it",
        )
    found = _WIDTHS.get(int(weight.shape[0]), "another variant")
    if found != wanted:
        raise ModelError(
            f"the weights {path} are of {found}, not of {wanted}",
            expected=f"weights of {wanted}",
            todo=f"Name the model {found}" if found in CHECKPOINTS else "Give other weights",
        )


def _load_state(network: nn.Module, state: State, path: Path) -> None:
    try:
        network.load_state_dict(state, strict=True)
    except RuntimeError as error:
        lines = [line.strip() for line in str(error).splitlines()[1:3]]
        raise ModelError(
            f"the weights {path} do not fit: {' '.join(lines)[:300]}",
            expected="a complete checkpoint of segment-anything",
            todo="Fetch the file again",
        ) from None


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _name(spec: str, digest: str, arithmetic: Arithmetic) -> str:
    return f"{spec.replace('_', '-')}-{digest[:8]}{suffix(arithmetic)}"
