"""Tensors inside of lists, tuples and dicts, as the parts of torchvision's detectors hand them on."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from torch import Tensor


def leaves(value: Any) -> list[Tensor]:
    """The tensors in ``value``, in order.

    Raises:
        TypeError: it holds something else.
    """
    found: list[Tensor] = []
    mapped(value, found.append)
    return found


def rebuilt(template: Any, tensors: Sequence[Tensor]) -> Any:
    """``template`` with its tensors replaced by ``tensors``, in order."""
    left: Iterator[Tensor] = iter(tensors)
    return mapped(template, lambda _: next(left))


def mapped(value: Any, change: Callable[[Tensor], Any]) -> Any:
    """``value`` with ``change`` applied to each tensor.

    Raises:
        TypeError: it holds something else.
    """
    if isinstance(value, Tensor):
        return change(value)
    if isinstance(value, dict):
        return type(value)((key, mapped(one, change)) for key, one in value.items())
    if isinstance(value, list | tuple):
        return type(value)(mapped(one, change) for one in value)
    raise TypeError(f"{type(value).__name__} is no tensor")
