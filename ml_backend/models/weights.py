"""Reading weights: files checked by SHA-256, never unpickled as code, and errors that say what does not fit."""

from __future__ import annotations

import hashlib
import io
import pickle
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_safetensors
from torch import Tensor, nn

from bridge.errors import ModelError

State = dict[str, Tensor]


def read_bytes(path: Path) -> bytes:
    """The whole file.

    Raises:
        ModelError: it cannot be read.
    """
    try:
        if not path.is_file() and path.exists():
            raise OSError(0, "it is no file")  # a device or a pipe would never end
        return path.read_bytes()
    except OSError as error:
        raise ModelError(
            f"the weights {path} cannot be read: {error.strerror or error}",
            expected="a .safetensors file, or a state dict saved by torch.save",
            todo="Correct the path",
        ) from None


def check_digest(data: bytes, expected: str, path: Path) -> None:
    """Compare SHA-256 before a byte of ``data`` is interpreted.

    Raises:
        ModelError: it differs.
    """
    found = hashlib.sha256(data).hexdigest()
    if found != expected.lower():
        raise ModelError(
            f"the weights {path} are not the ones the manifest names: their SHA-256 is {found}",
            expected=f"SHA-256 {expected}",
            todo="Fetch the file again; it is damaged or was exchanged",
        )


def parse_state(data: bytes, path: Path) -> State:
    """The tensors in a weights file, by name.

    Checkpoints that keep the state dict under ``model``, ``state_dict`` or ``model_state_dict`` are unwrapped, and the
    prefix ``module.`` of data-parallel training is dropped.

    Raises:
        ModelError: the file holds no tensors, or something other than tensors that would run code when loaded.
    """
    state: Any = _parse_safetensors(data, path) if path.suffix.lower() == ".safetensors" else _parse_torch(data, path)
    for key in ("model", "state_dict", "model_state_dict"):
        if isinstance(state, Mapping) and isinstance(state.get(key), Mapping):
            state = state[key]
    tensors = {str(k): v for k, v in state.items() if isinstance(v, Tensor)} if isinstance(state, Mapping) else {}
    if not tensors:
        raise ModelError(
            f"the weights {path} hold {type(state).__name__} without tensors",
            expected="a state dict: parameter names and tensors",
            todo="Save the model with torch.save(model.state_dict(), file)",
        )
    if all(key.startswith("module.") for key in tensors):
        tensors = {key.removeprefix("module."): value for key, value in tensors.items()}
    return tensors


def _parse_safetensors(data: bytes, path: Path) -> State:
    try:
        return dict(load_safetensors(data))
    except (SafetensorError, ValueError, KeyError) as error:
        raise ModelError(
            f"the weights {path} are no safetensors file: {error}",
            expected="the safetensors format",
            todo="Fetch the file again",
        ) from None


def _parse_torch(data: bytes, path: Path) -> Any:
    if _is_packed(data):
        raise ModelError(
            f"the weights {path} are compressed",
            expected="a state dict as torch.save writes it, which compresses nothing: unpacked, it could be any size",
            todo="Load it and save it again with torch.save",
        )
    try:
        return torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, KeyError, TypeError, AttributeError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ModelError(
            f"the weights {path} cannot be loaded: {reason}",
            expected="a state dict of plain tensors (a whole pickled model is refused: loading it would run code)",
            todo="Save the model with torch.save(model.state_dict(), file), or as safetensors",
        ) from None


def _is_packed(data: bytes) -> bool:
    """Whether a ZIP archive holds anything that is compressed."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            return any(entry.compress_type != zipfile.ZIP_STORED for entry in archive.infolist())
    except (zipfile.BadZipFile, ValueError, NotImplementedError):
        return False  # the older form, or nothing that PyTorch reads


def load_state(network: nn.Module, state: State, what: str, classes: int | None) -> None:
    """Put ``state`` into ``network``; half-precision tensors are widened.

    Args:
        what: where the weights came from, for the message.
        classes: the number of outputs per anchor the network was built with, background included.

    Raises:
        ModelError: names or shapes differ; says for how many classes the weights were trained where that is the reason.
    """
    own = network.state_dict()
    shapes = [k for k, v in state.items() if k in own and own[k].shape != v.shape]
    # Weights saved from frozen batch norms lack this counter, which evaluation never reads.
    missing = [k for k in own if k not in state and not k.endswith(".num_batches_tracked")]
    extra = [k for k in state if k not in own]
    if shapes or missing or extra:
        found = classes_in(network, state, classes) if classes else None
        if found is not None and found != classes:
            raise ModelError(
                f"{what}: num_classes is {found} in the weights and {classes} in the model (background included)",
                expected=f"weights for {classes} classes, or {found - 1} class names",
                todo="Give the class names the weights were trained with, in that order and without the background",
            )
        raise ModelError(
            f"{what} do not fit the model: {_summary('other shapes', shapes)}; {_summary('missing', missing)}; "
            f"{_summary('unknown', extra)}",
            expected="weights of the same torchvision builder",
            todo="Name the builder that the weights were trained with, and its arguments in a manifest",
        )
    network.load_state_dict(state, strict=False)


def classes_in(network: nn.Module, state: State, classes: int) -> int | None:
    """For how many classes (background included) ``state`` was trained; None where it does not tell.

    The first dimension of a classifier's weight is outputs per anchor times classes, so the ratio to the same
    weight of ``network``, built for ``classes``, tells without knowing the number of anchors.
    """
    for key, own in network.state_dict().items():
        if ("cls_score" in key or "cls_logits" in key or "classification_head" in key) and key in state:
            other = state[key]
            if own.ndim and own.shape[1:] == other.shape[1:] and own.shape != other.shape and other.ndim:
                found, rest = divmod(other.shape[0] * classes, own.shape[0])
                return found if rest == 0 else None
    return None


def _summary(word: str, keys: list[str]) -> str:
    return f"{len(keys)} {word}" + (f" (such as {', '.join(keys[:3])})" if keys else "")
