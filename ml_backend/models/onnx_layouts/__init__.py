"""Layouts: how the outputs of an ONNX detector are read.

The same numbers mean different things in different files, and guessing would give boxes that are nearly right; so a
manifest declares one of these. A layout is a module with

- ``PREPROCESSING`` and ``NMS_IOU``: what its networks were trained with, and the overlap from which two boxes of one
  class are one object (None where the network sees to that itself). A manifest may say otherwise.
- ``OUTPUT_ROLES``: what a manifest's ``outputs`` may name; empty where the order of the outputs says it all.
- ``fit(trial, declared) -> decode``: given the outputs for a grey image, it MUST raise
  :class:`~ml_backend.models.onnx_layouts.layout.Misfit` unless their number, shapes and ranges are those of the layout,
  and else answer a function from outputs to one Candidates per image. ``decode`` MUST NOT raise, whatever the numbers;
  it is called with numpy's warnings off.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import cast

from ml_backend.models.onnx_layouts import boxes, detr, picodet, yolov8, yolox
from ml_backend.models.onnx_layouts.layout import Candidates, Declared, Decode, Layout, Misfit, Outputs

LAYOUTS = MappingProxyType(
    {
        "yolox": cast(Layout, yolox),
        "picodet": cast(Layout, picodet),
        "yolov8": cast(Layout, yolov8),
        "detr": cast(Layout, detr),
        "boxes": cast(Layout, boxes),
    }
)

__all__ = ["LAYOUTS", "Candidates", "Declared", "Decode", "Layout", "Misfit", "Outputs"]
