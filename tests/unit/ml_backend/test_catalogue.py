"""Finding models: manifests, weights, torchvision's names, and what is said when that fails."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import zipfile
from pathlib import Path
from typing import Any
from urllib.error import URLError

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from bridge.errors import ModelError
from ml_backend.models import torchvision_detector
from ml_backend.models.catalogue import DEFAULT_THRESHOLD, ModelSpec, describe, load_predictor
from ml_backend.models.tiled import Tiled
from ml_backend.models.torchvision_detector import TorchvisionDetector, build_network

SSDLITE = "ssdlite320_mobilenet_v3_large"
MASKS = "maskrcnn_resnet50_fpn"


@pytest.fixture(autouse=True)
def torch_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """What runs a model is another file's matter, and getting OpenVINO ready takes seconds."""
    monkeypatch.setattr("ml_backend.models.detector_runtime.is_installed", lambda: False)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with weights in half precision and the manifest that belongs to them."""
    folder = tmp_path_factory.mktemp("model")
    torch.manual_seed(0)
    network = build_network(SSDLITE, {"num_classes": 3})
    state = {k: v.half() if v.is_floating_point() else v for k, v in network.state_dict().items()}
    save_file(state, folder / "w.safetensors")
    manifest = {
        "name": "tiny-1",
        "builder": SSDLITE,
        "builder_args": {"weights": None, "weights_backbone": None, "num_classes": 3},
        "classes": ["bolt", "nut"],
        "weights": "w.safetensors",
        "sha256": hashlib.sha256((folder / "w.safetensors").read_bytes()).hexdigest(),
        "score_threshold": 0.35,
        "licence": "a note for people",
    }
    (folder / "m.json").write_text(json.dumps(manifest))
    return folder


def changed(home: Path, tmp_path: Path, **values: Any) -> str:
    manifest = {**json.loads((home / "m.json").read_text()), **values}
    manifest.setdefault("weights", "w.safetensors")
    if manifest["weights"] == "w.safetensors":
        manifest["weights"] = str(home / "w.safetensors")
    path = tmp_path / "changed.json"
    path.write_text(json.dumps({k: v for k, v in manifest.items() if v != "absent"}))
    return str(path)


def test_manifest(home: Path) -> None:
    spec = str(home / "m.json")
    card = describe(ModelSpec(spec))
    model = load_predictor(spec, device="cpu")
    assert (card.name, card.score_threshold) == ("tiny-1", 0.35)
    assert model.name == "tiny-1"
    assert model.classes == ("bolt", "nut")
    image = np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8)
    (all_,) = load_predictor(spec, device="cpu", score_threshold=0.0).predict([image])
    (found,) = model.predict([image])
    assert len(found.label) == (all_.confidence >= 0.35).sum() < len(all_.label)


@pytest.mark.parametrize(("kind", "role"), [(None, "mask"), ("mask", "mask"), ("rectangle", "rectangle")])
def test_a_manifest_may_leave_untrained_masks_out(tmp_path: Path, kind: str | None, role: str) -> None:
    args = {"num_classes": 3, "min_size": 64, "max_size": 96}
    save_file(build_network(MASKS, args).state_dict(), tmp_path / "w.safetensors")
    manifest = {
        "name": "masks-1",
        "builder": MASKS,
        "builder_args": args,
        "classes": ["bolt", "nut"],
        "weights": "w.safetensors",
        "sha256": hashlib.sha256((tmp_path / "w.safetensors").read_bytes()).hexdigest(),
        "score_threshold": 0.0,
        "kind": kind,
    }
    (tmp_path / "m.json").write_text(json.dumps(manifest))
    card = describe(ModelSpec(str(tmp_path / "m.json"), device="cpu"))
    model = load_predictor(str(tmp_path / "m.json"), device="cpu")
    assert model.kind == card.role == role
    (found,) = model.predict([np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8)])
    assert len(found.masks) == (len(found.label) if role == "mask" else 0)
    assert len(found.label) > 0


@pytest.mark.parametrize(("builder", "role"), [(MASKS, "mask"), ("keypointrcnn_resnet50_fpn", "rectangle")])
def test_a_builder_tells_what_it_answers(builder: str, role: str) -> None:
    assert describe(ModelSpec(builder, device="cpu")).role == role


def test_exchanged_weights_are_refused_before_they_are_read(home: Path, tmp_path: Path) -> None:
    data = bytearray((home / "w.safetensors").read_bytes())
    data[-1] ^= 1
    (tmp_path / "w.safetensors").write_bytes(data)
    with pytest.raises(ModelError, match="are not the ones the manifest names") as caught:
        load_predictor(changed(home, tmp_path, weights=str(tmp_path / "w.safetensors")))
    assert json.loads((home / "m.json").read_text())["sha256"] in caught.value.expected


def test_missing_weights_of_a_manifest(home: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"gone\.safetensors cannot be read"):
        load_predictor(changed(home, tmp_path, weights="gone.safetensors"))


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"classes": ["bolt"]}, "num_classes is 3 and there are 1 class names"),
        ({"classes": ["bolt"], "builder_args": {}}, "num_classes is 3 in the weights and 2 in the model"),
        ({"classes": []}, "classes is not a list of names"),
        ({"classes": ["bolt", "bolt"]}, "classes names something twice"),
        ({"sha256": "abc"}, "64 hex digits"),
        ({"score_threshold": 2}, "score_threshold is 2"),
        ({"score_threshold": "absent"}, "score_threshold is None"),
        ({"name": "absent", "builder": 7}, "name is None, not a text; builder is 7, not a text"),
        ({"builder": "resnet50"}, "there is no model 'resnet50'"),
        ({"builder_args": []}, "builder_args is not an object"),
        ({"kind": "circle"}, "kind is 'circle', not rectangle or mask"),
        ({"kind": "mask"}, f"kind is 'mask', and '{SSDLITE}' answers no masks"),
        ({"builder_args": {"num_classes": "three"}}, "torchvision cannot build"),
        ({"builder_args": {"weights": "DEFAULT"}}, "ask for weights of torchvision"),
    ],
)
def test_wrong_manifests_say_what_is_wrong(home: Path, tmp_path: Path, values: Any, words: str) -> None:
    with pytest.raises(ModelError, match=words):
        load_predictor(changed(home, tmp_path, **values), device="cpu")


@pytest.mark.parametrize(("text", "words"), [("{", "is no JSON"), ("[]", "it holds list"), (None, "cannot be read")])
def test_unreadable_manifests(tmp_path: Path, text: str | None, words: str) -> None:
    path = tmp_path / "m.json"
    if text is not None:
        path.write_text(text)
    for call in (load_predictor, lambda name: describe(ModelSpec(name))):
        with pytest.raises(ModelError, match=words):
            call(str(path))


def test_own_weights_are_named_by_their_content(home: Path) -> None:
    weights = home / "w.safetensors"
    card = describe(ModelSpec(SSDLITE, weights=weights))
    model = load_predictor(SSDLITE, weights=weights, classes=["bolt", "nut"], device="cpu")
    assert model.name == card.name == f"{SSDLITE}-{hashlib.sha256(weights.read_bytes()).hexdigest()[:8]}"
    assert card.score_threshold == DEFAULT_THRESHOLD


def test_own_weights_without_class_names(home: Path) -> None:
    with pytest.raises(ModelError, match="answer 3 classes and nobody says which"):
        load_predictor(SSDLITE, weights=home / "w.safetensors", device="cpu")


def test_own_weights_of_coco_size_get_coco_names(tmp_path: Path) -> None:
    torch.save(build_network(SSDLITE, {}).state_dict(), tmp_path / "coco.pth")
    model = load_predictor(SSDLITE, weights=tmp_path / "coco.pth", device="cpu")
    assert len(model.classes) == 80
    assert model.classes[0] == "person"


def test_a_pickled_model_is_refused_without_running_it(tmp_path: Path) -> None:
    class Bomb:
        def __reduce__(self) -> Any:
            return (Path.touch, (tmp_path / "exploded",))

    (tmp_path / "model.pth").write_bytes(pickle.dumps(Bomb(), protocol=2))
    torch.save({"model": Bomb()}, tmp_path / "model2.pth")
    for name in ("model.pth", "model2.pth"):
        with pytest.raises(ModelError, match="cannot be loaded"):
            load_predictor(SSDLITE, weights=tmp_path / name, device="cpu")
    assert not (tmp_path / "exploded").exists()


def test_weights_that_would_unpack_to_any_size_are_refused(tmp_path: Path) -> None:
    torch.save({"a": torch.zeros(10_000_000)}, tmp_path / "plain.pth")
    packed = tmp_path / "packed.pth"
    with zipfile.ZipFile(tmp_path / "plain.pth") as plain, zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as bomb:
        for name in plain.namelist():
            bomb.writestr(name, plain.read(name))
    assert packed.stat().st_size < 100_000
    with pytest.raises(ModelError, match="are compressed"):
        load_predictor(SSDLITE, weights=packed, classes=["a"], device="cpu")


def test_weights_that_never_end_are_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.pth")
    for path in (Path("/dev/zero"), tmp_path / "pipe.pth", tmp_path):
        with pytest.raises(ModelError, match="it is no file"):
            load_predictor(SSDLITE, weights=path, classes=["a"], device="cpu")


@pytest.mark.parametrize("name", ["x.safetensors", "x.pth"])
@pytest.mark.parametrize("data", [b"", b"garbage" * 100, b"\x08\x00\x00\x00\x00\x00\x00\x00{}      "])
def test_garbage_for_weights(tmp_path: Path, name: str, data: bytes) -> None:
    (tmp_path / name).write_bytes(data)
    with pytest.raises(ModelError):
        load_predictor(SSDLITE, weights=tmp_path / name, classes=["a"], device="cpu")


def test_a_state_dict_without_tensors(tmp_path: Path) -> None:
    torch.save({"epoch": 3}, tmp_path / "x.pth")
    with pytest.raises(ModelError, match="without tensors"):
        load_predictor(SSDLITE, weights=tmp_path / "x.pth", classes=["a"], device="cpu")


def test_coco_weights_that_cannot_be_downloaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    asked: list[str] = []

    def no_network(url: str, *args: Any, **options: Any) -> None:
        asked.append(url)
        raise URLError("no route to host")

    monkeypatch.setattr("torch.hub.download_url_to_file", no_network)
    with pytest.raises(ModelError) as caught:
        load_predictor(SSDLITE, device="cpu")
    file = tmp_path / "hub" / "checkpoints" / Path(asked[0]).name
    assert asked[0] in caught.value.expected
    assert str(file) in caught.value.todo


def test_coco_weights_from_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    file = tmp_path / "hub" / "checkpoints" / Path(torchvision_detector.coco_weights(SSDLITE).url).name
    file.parent.mkdir(parents=True)
    torch.save(build_network(SSDLITE, {}).state_dict(), file)
    model = load_predictor(SSDLITE, device="cpu")
    assert isinstance(model, TorchvisionDetector)
    assert model.name == describe(ModelSpec(SSDLITE)).name == f"{SSDLITE}-coco-v1"
    assert len(model.classes) == 80


def test_a_damaged_file_in_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    file = tmp_path / "hub" / "checkpoints" / Path(torchvision_detector.coco_weights(SSDLITE).url).name
    file.parent.mkdir(parents=True)
    file.write_bytes(b"PK\x03\x04 cut short")
    with pytest.raises(ModelError, match="cannot be had"):
        load_predictor(SSDLITE, device="cpu")


def test_unknown_names() -> None:
    for call in (load_predictor, lambda name: describe(ModelSpec(name))):
        with pytest.raises(ModelError, match="there is no model 'yolo99'"):
            call("yolo99")


@pytest.mark.parametrize("options", [{"weights": Path("x.pth")}, {"classes": ["a"]}])
def test_a_manifest_brings_its_own(home: Path, options: Any) -> None:
    with pytest.raises(ModelError, match="were given for"):
        load_predictor(str(home / "m.json"), **options)


def test_class_names_belong_to_own_weights() -> None:
    with pytest.raises(ModelError, match="without weights"):
        load_predictor(SSDLITE, classes=["a"])


@pytest.mark.parametrize("threshold", [-0.1, 1.5, float("nan")])
def test_threshold_out_of_range(home: Path, threshold: float) -> None:
    with pytest.raises(ModelError, match="score threshold"):
        load_predictor(str(home / "m.json"), score_threshold=threshold)


def test_models_say_what_their_weights_take(home: Path) -> None:
    """Else the server's budget of memory would count them as nothing."""
    spec = str(home / "m.json")
    network = build_network(SSDLITE, {"num_classes": 3})
    wanted = sum(p.numel() * 4 for p in network.parameters())
    model = load_predictor(spec, device="cpu")
    assert getattr(model, "nbytes", 0) == getattr(Tiled(model, 640), "nbytes", 0) == wanted
