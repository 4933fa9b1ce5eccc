"""Which arithmetic a network runs in: full precision, or half of it where the device is fast at that.

Imports torch only where a GPU may be at hand, so that a server can name its models at once.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Literal

from bridge.errors import ModelError
from ml_backend.models.catalogue import Precision

Arithmetic = Literal["fp32", "bf16", "fp16"]

_CPU_FLAGS = Path("/proc/cpuinfo")

#: Processors with one of these multiply bf16 two to four times as fast as fp32; others only imitate it, slowly.
_BF16_FLAGS = frozenset({"amx_bf16", "avx512_bf16"})

#: Without any of these device files no CUDA or ROCm driver is reachable on Linux.
_GPU_FILES = ("nvidia*", "nvhost*", "nvgpu*", "nvmap", "dxg", "kfd")


def choose_precision(precision: Precision, device: str) -> Arithmetic:
    """What the arithmetic will be.

    ``auto`` is bf16 on a GPU that computes it and fp16 on an older one, bf16 on a CPU that has it, and fp32 elsewhere.

    Args:
        device: as in :class:`~ml_backend.models.catalogue.ModelSpec`; need not exist.

    Raises:
        ModelError: there is no such precision, or the device cannot compute in it.
    """
    if precision not in ("auto", "fp32", "bf16", "fp16"):
        raise ModelError(f"the precision is {precision!r}", expected="auto, fp32, bf16 or fp16")
    if precision == "fp32":
        return "fp32"
    kind = _kind(device)
    if precision == "auto":
        if kind == "cuda":
            return _gpu_precision(device)
        return "bf16" if kind == "cpu" and cpu_has_bf16() else "fp32"
    if precision == "fp16" and kind == "cpu":
        raise ModelError(
            "the precision fp16 was asked for on a CPU",
            expected="auto, fp32 or bf16 on a CPU, which does not compute in fp16",
            todo="Leave the precision out, or choose a GPU",
        )
    return precision


def suffix(arithmetic: Arithmetic) -> str:
    """What a model's name ends with, since half precision changes answers: by about 1 % of a network's outputs."""
    return "" if arithmetic == "fp32" else f"-{arithmetic}"


def cpu_has_bf16() -> bool:
    """Whether this CPU multiplies bf16 natively; False where it does not say."""
    try:
        text = _CPU_FLAGS.read_text(encoding="ascii", errors="replace")
    except OSError:
        return False
    flags = next((line for line in text.splitlines() if line.startswith("flags")), "")
    return not _BF16_FLAGS.isdisjoint(flags.partition(":")[2].split())


def _kind(device: str) -> str:
    """``cpu``, ``cuda`` or another of torch's words."""
    if device != "auto":
        return device.partition(":")[0]
    if sys.platform == "linux" and not any(any(Path("/dev").glob(name)) for name in _GPU_FILES):
        return "cpu"
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def _gpu_precision(device: str) -> Arithmetic:
    import torch

    try:
        with torch.cuda.device(torch.device("cuda" if device == "auto" else device)):
            return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"
    except (RuntimeError, AssertionError, ValueError):
        # Loading the model says that the device is not there.
        return "fp32"
