"""Torchvision's segmenters with real networks of random weights, and one that was taught a colour."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from torchvision import models

from bridge.core.predictor import dense_predictor
from bridge.errors import ImageError, ModelError
from ml_backend.models.catalogue import ModelSpec, describe, load, load_predictor
from ml_backend.models.segmenter_network import MAX_CELLS, Preset, TorchvisionSegmenter

BUILDER = "lraspp_mobilenet_v3_large"
CLASSES = ("red", "green")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with weights of a network for two classes, and a manifest."""
    folder = tmp_path_factory.mktemp("segmenter")
    torch.manual_seed(0)
    network = models.get_model(BUILDER, weights=None, weights_backbone=None, num_classes=3)
    save_file({k: v.contiguous() for k, v in network.state_dict().items()}, folder / "w.safetensors")
    manifest = {
        "family": "torchvision_segmenter",
        "name": "colours-1",
        "builder": BUILDER,
        "classes": list(CLASSES),
        "weights": "w.safetensors",
        "sha256": hashlib.sha256((folder / "w.safetensors").read_bytes()).hexdigest(),
        "score_threshold": 0.4,
        "preprocessing": {"resize": 64},
    }
    (folder / "m.json").write_text(json.dumps(manifest))
    return folder


class Colours(nn.Module):
    """Sees red and green where they are."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(8.0))

    def forward(self, images: torch.Tensor) -> dict[str, torch.Tensor]:
        red, green, blue = images.unbind(dim=1)
        logits = [torch.full_like(red, 0.5), red - torch.maximum(green, blue), green - torch.maximum(red, blue)]
        return {"out": self.weight * torch.stack(logits, dim=1)}


def colours(resize: int = 60) -> TorchvisionSegmenter:
    preset = Preset(resize, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
    return TorchvisionSegmenter(Colours(), name="colours", classes=CLASSES, preset=preset, device="cpu")


def picture(height: int = 60, width: int = 90) -> npt.NDArray[np.uint8]:
    """Two red squares and a green one on grey, each of a third of the height."""
    image = np.full((height, width, 3), 90, np.uint8)
    side = height // 3
    for x, y, colour in ((0, 0, (255, 0, 0)), (2 * side, 0, (255, 0, 0)), (side, 2 * side, (0, 255, 0))):
        image[y : y + side, x : x + side] = colour
    return image


@pytest.mark.parametrize("scale", [1, 3])
def test_what_hangs_together_is_an_object(scale: int) -> None:
    """Three times as large, the same network sees the same cells, and the masks are those of the image."""
    (found,) = colours().predict([picture(60 * scale, 90 * scale)])
    corners = (found.xyxy[:, :2] / scale).tolist()
    assert sorted([k, *corner] for k, corner in zip(found.label.tolist(), corners, strict=True)) == [
        [0, 0, 0],
        [0, 40, 0],
        [1, 20, 40],
    ]
    assert all(mask.bits.all() for mask in found.masks)
    assert [mask.area for mask in found.masks] == [400 * scale * scale] * 3
    assert (np.diff(found.confidence) <= 0).all()


def test_the_map_is_what_the_objects_were_made_from() -> None:
    model = dense_predictor(colours())
    assert model is not None
    ((found, chances),) = model.predict_dense([picture()])
    assert chances.shape == (3, 60, 90)
    assert chances.sum(axis=0) == pytest.approx(1.0, abs=1e-5)
    for label, mask in zip(found.label, found.masks, strict=True):
        assert (chances.argmax(axis=0)[mask.full(60, 90)] == label + 1).all()


@pytest.mark.parametrize("shape", [(2, 40_000), (4000, 3000), (1, 1), (0, 7)])
def test_the_map_is_bounded_whatever_the_image(shape: tuple[int, int]) -> None:
    ((_, chances),) = colours(520).predict_dense([np.zeros((*shape, 3), np.uint8)])
    assert chances[0].size <= MAX_CELLS * 1.1
    assert (chances[0] > 0.9).all()


def test_a_manifest_is_loaded_as_it_is_described(home: Path) -> None:
    spec = ModelSpec(str(home / "m.json"), device="cpu")
    card = describe(spec)
    assert (card.name, card.role, card.classes, card.score_threshold) == ("colours-1", "mask", CLASSES, 0.4)
    model = load_predictor(str(home / "m.json"), device="cpu", score_threshold=0.0)
    assert (model.name, model.kind, model.classes) == (card.name, "mask", CLASSES)
    dense = dense_predictor(model)
    assert dense is not None
    ((found, chances),) = dense.predict_dense([picture(120, 120)])
    assert chances.shape == (3, 64, 64)
    assert all(mask.bits.shape[0] <= 120 for mask in found.masks)
    # Torchvision's own preprocessing is the oracle.
    network = models.get_model(BUILDER, weights=None, weights_backbone=None, num_classes=3).eval()
    network.load_state_dict(load_file(home / "w.safetensors"))
    own = models.get_model_weights(BUILDER).DEFAULT.transforms(resize_size=64)
    with torch.inference_mode():
        logits = network(own(torch.from_numpy(picture(120, 120)).permute(2, 0, 1))[None])["out"][0]
    assert chances == pytest.approx(logits.softmax(dim=0).numpy(), abs=0.02)


def test_own_weights_beside_the_builders_name(home: Path) -> None:
    spec = ModelSpec(BUILDER, weights=home / "w.safetensors", classes=CLASSES, device="cpu")
    assert describe(spec).name == load(spec).name
    with pytest.raises(ModelError, match="answer 3 classes, background included, and there are 1"):
        load(ModelSpec(BUILDER, weights=home / "w.safetensors", classes=("red",), device="cpu"))


def test_outputs_for_training_are_left_out(tmp_path: Path) -> None:
    builder = "deeplabv3_mobilenet_v3_large"
    network = models.get_model(builder, weights=None, weights_backbone=None, num_classes=2, aux_loss=True).half()
    save_file({k: v.contiguous() for k, v in network.state_dict().items()}, tmp_path / "w.safetensors")
    model = load(ModelSpec(builder, weights=tmp_path / "w.safetensors", classes=("cell",), device="cpu"))
    assert not any(name.startswith("aux") for name, _ in model._network.named_children())  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"preprocessing": {"crop": 64}}, "crop is unknown: resize, mean and std can be set"),
        ({"preprocessing": {"resize": 0}}, "preprocessing.resize is 0"),
        ({"builder": "unet"}, "no segmentation model 'unet'"),
        ({"sha256": "0" * 64}, "not the ones the manifest names"),
        ({"builder_args": {"weights": "DEFAULT"}}, "ask for weights of torchvision"),
    ],
)
def test_a_bad_manifest_says_what_is_wrong(home: Path, changes: dict[str, object], says: str) -> None:
    path = home / "bad.json"
    path.write_text(json.dumps({**json.loads((home / "m.json").read_text()), **changes}))
    with pytest.raises(ModelError, match=says):
        load(ModelSpec(str(path), device="cpu"))


def test_published_weights_that_cannot_be_had_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object, **__: object) -> None:
        raise OSError("no route to host")

    monkeypatch.setattr(models, "get_model", refused)
    with pytest.raises(ModelError, match="the COCO weights of lraspp_mobilenet_v3_large cannot be had: no route"):
        load(ModelSpec(BUILDER, device="cpu"))
    assert describe(ModelSpec(BUILDER)).classes[:2] == ("aeroplane", "bicycle")


def test_what_it_cannot_do_is_refused(home: Path) -> None:
    with pytest.raises(ImageError, match="image 1"):
        colours().predict([picture(), np.zeros((4, 4), np.uint8)])
    with pytest.raises(ModelError, match="OpenVINO was asked for"):
        load(ModelSpec(str(home / "m.json"), accelerator="openvino"))
    with pytest.raises(ModelError, match="whose manifest names its classes"):
        load(ModelSpec(str(home / "m.json"), classes=("red",)))
