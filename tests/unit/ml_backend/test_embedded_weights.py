"""The committed embedded model: the file its manifest names, and good on scenes it has never seen."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torchvision
from safetensors.torch import load_file

import ml_backend
from bridge.scenes import CLASSES, draw_scene

WEIGHTS = Path(ml_backend.__file__).parent / "weights"
FRESH_SEEDS = range(9_000_000, 9_000_020)


@pytest.fixture(scope="module")
def manifest() -> dict[str, Any]:
    content: dict[str, Any] = json.loads((WEIGHTS / "parts_ssdlite.json").read_text(encoding="utf-8"))
    return content


@pytest.fixture(scope="module")
def network(manifest: dict[str, Any]) -> Any:
    built = torchvision.models.get_model(manifest["builder"], **manifest["builder_args"])
    built.load_state_dict(load_file(WEIGHTS / manifest["weights"]), strict=True)
    return built.eval()


def test_the_manifest_names_this_very_file(manifest: dict[str, Any]) -> None:
    assert hashlib.sha256((WEIGHTS / manifest["weights"]).read_bytes()).hexdigest() == manifest["sha256"]


def test_the_file_is_small_enough_to_ship(manifest: dict[str, Any]) -> None:
    assert (WEIGHTS / manifest["weights"]).stat().st_size < 8_000_000


def test_the_manifest_describes_the_model(manifest: dict[str, Any]) -> None:
    assert tuple(manifest["classes"]) == CLASSES
    assert manifest["builder_args"]["num_classes"] == len(CLASSES) + 1
    assert 0.0 < manifest["score_threshold"] < 1.0
    assert manifest["metrics"]["held_out_scenes"] == 200
    assert 0.0 < manifest["metrics"]["AP"] < manifest["metrics"]["AP50"] <= 1.0


def test_tensors_are_half_precision_and_finite(manifest: dict[str, Any]) -> None:
    state = load_file(WEIGHTS / manifest["weights"])
    for name, value in state.items():
        if value.is_floating_point():
            assert value.dtype == torch.float16, name
            assert torch.isfinite(value).all(), name
        if name.endswith("running_var"):
            assert (value > 0).all(), name


def _overlap(box: np.ndarray, others: np.ndarray) -> np.ndarray:
    """IoU of one box (4,) with boxes (N, 4), xyxy pixels."""
    sides = np.minimum(box[2:], others[:, 2:]) - np.maximum(box[:2], others[:, :2])
    shared = np.prod(np.clip(sides, 0, None), axis=1)
    areas = np.prod(others[:, 2:] - others[:, :2], axis=1)
    joint: np.ndarray = shared / (np.prod(box[2:] - box[:2]) + areas - shared)
    return joint


def test_it_finds_the_parts_of_fresh_scenes(manifest: dict[str, Any], network: Any) -> None:
    hits = shown = parts = 0
    for seed in FRESH_SEEDS:
        scene = draw_scene(seed)
        with torch.inference_mode():
            found = network([torch.from_numpy(scene.image).permute(2, 0, 1).float() / 255])[0]
        free = np.ones(len(scene.labels), dtype=bool)
        for box, label, score in zip(found["boxes"], found["labels"], found["scores"], strict=True):
            if score < manifest["score_threshold"]:
                continue
            shown += 1
            same = np.asarray([name == manifest["classes"][int(label) - 1] for name in scene.labels])
            overlap = _overlap(box.numpy().astype(np.float64), scene.xyxy) * same * free
            if overlap.max() >= 0.5:
                hits += 1
                free[overlap.argmax()] = False
        parts += len(scene.labels)
    assert hits / parts >= 0.8, f"recall {hits}/{parts}"
    assert hits / shown >= 0.8, f"precision {hits}/{shown}"
