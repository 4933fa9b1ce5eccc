"""Torchvision's classifiers with real networks of random weights; torchvision's own preset is the oracle."""

from __future__ import annotations

import hashlib
import json
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any, cast
from urllib.error import URLError

import numpy as np
import pytest
import torch
from PIL import Image as PilImage
from safetensors.torch import save_file
from torchvision import models

from bridge.core.predictor import Predictor
from bridge.errors import ImageError, ModelError
from ml_backend.models import Detections, classifier_network
from ml_backend.models.catalogue import DEFAULT_THRESHOLD, ModelSpec, describe, load, load_predictor
from ml_backend.models.pixels import MAX_PIXELS
from ml_backend.models.torchvision_classifier import accepts

SMALL = "resnet18"
CLASSES = ("cat", "dog", "owl")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the weights of a network for three classes, twice, and a manifest."""
    folder = tmp_path_factory.mktemp("classifier")
    torch.manual_seed(0)
    network = models.resnet18(num_classes=3)
    _spread(network)
    torch.save(network.state_dict(), folder / "w.pth")
    save_file({k: v.contiguous() for k, v in network.state_dict().items()}, folder / "w.safetensors")
    manifest = {
        "family": "torchvision_classifier",
        "name": "animals-1",
        "builder": SMALL,
        "classes": list(CLASSES),
        "weights": "w.safetensors",
        "sha256": hashlib.sha256((folder / "w.safetensors").read_bytes()).hexdigest(),
        "score_threshold": 0.1,
    }
    (folder / "m.json").write_text(json.dumps(manifest))
    return folder


def _spread(network: models.ResNet) -> None:
    """Random weights answer nearly the same whatever they see: make logits differ by about one between images."""
    preset = models.ResNet18_Weights.DEFAULT.transforms()
    with torch.inference_mode():
        images = torch.stack([preset(PilImage.fromarray(smooth(224, 224, seed))) for seed in range(100, 108)])
        logits = network.eval()(images)
    scale = 1.5 / float(logits.std(0).mean())
    network.fc.weight.data *= scale
    network.fc.bias.data = (network.fc.bias.data - logits.mean(0)) * scale


def changed(home: Path, tmp_path: Path, **values: Any) -> str:
    manifest = {**json.loads((home / "m.json").read_text()), "weights": str(home / "w.safetensors"), **values}
    path = tmp_path / "changed.json"
    path.write_text(json.dumps(manifest))
    return str(path)


def own(home: Path, threshold: float = 0.0, **options: Any) -> Predictor:
    settings = {"precision": "fp32", "accelerator": "torch", **options}
    spec = ModelSpec(SMALL, home / "w.pth", CLASSES, "cpu", threshold, **settings)
    return cast(Predictor, load(spec))


def by_manifest(spec: str, threshold: float | None = None) -> Predictor:
    exact = ModelSpec(spec, device="cpu", score_threshold=threshold, precision="fp32", accelerator="torch")
    return cast(Predictor, load(exact))


def smooth(height: int, width: int, seed: int = 0) -> np.ndarray:
    """A picture without fine detail, on which every good way to resize agrees."""
    coarse = np.random.default_rng(seed).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    return np.asarray(PilImage.fromarray(coarse).resize((width, height), PilImage.Resampling.BICUBIC))


def probabilities(found: Detections) -> np.ndarray:
    answer = np.zeros(len(CLASSES))
    answer[found.label] = found.confidence
    return answer


def expected(home: Path, image: np.ndarray) -> np.ndarray:
    """What torchvision itself says: its preset on a Pillow image, its network, softmax."""
    network = models.resnet18(num_classes=3)
    network.load_state_dict(torch.load(home / "w.pth", weights_only=True))
    preset = models.ResNet18_Weights.DEFAULT.transforms()
    with torch.inference_mode():
        return network.eval()(preset(PilImage.fromarray(image))[None]).softmax(1)[0].double().numpy()


@pytest.mark.parametrize("accelerator", ["torch", "openvino"])
def test_probabilities_are_torchvisions_own(home: Path, accelerator: str) -> None:
    images = [smooth(*size) for size in [(480, 640), (640, 480), (224, 224), (100, 90), (300, 1500)]]
    for image, found in zip(images, own(home, accelerator=accelerator).predict(images), strict=True):
        np.testing.assert_allclose(probabilities(found), expected(home, image), atol=0.01)
        # The oracle must be able to tell one image from another.
        assert np.abs(probabilities(found) - expected(home, 255 - image)).max() > 0.05


def test_tags_cover_the_image_in_falling_order_from_the_threshold_on(home: Path) -> None:
    image = smooth(60, 80, 3)
    (everything,) = own(home).predict([image])
    assert sorted(everything.label) == [0, 1, 2]
    assert everything.label.dtype == np.int64
    assert everything.xyxy.tolist() == [[0, 0, 80, 60]] * 3
    assert (np.diff(everything.confidence) <= 0).all()
    np.testing.assert_allclose(everything.confidence.sum(), 1, atol=1e-6)
    middle = everything.confidence[1]
    model = own(home, threshold=middle)
    (best,) = model.predict([image])
    assert best.label.tolist() == everything.label[:2].tolist()
    assert (model.kind, model.classes) == ("tag", CLASSES)


@pytest.mark.parametrize("accelerator", ["torch", "openvino"])
def test_batching_does_not_change_answers(home: Path, accelerator: str) -> None:
    images = [smooth(90, 120, 1), smooth(300, 80, 2), np.zeros((0, 7, 3), np.uint8), smooth(90, 120, 4)]
    together = own(home, batch_size=3, accelerator=accelerator).predict(images)
    assert [len(found.label) for found in together] == [3, 3, 0, 3]
    for image, found in zip(images, together, strict=True):
        (alone,) = own(home).predict([image])
        np.testing.assert_allclose(found.confidence, alone.confidence, atol=1e-5)
        np.testing.assert_array_equal(found.label, alone.label)


def test_a_strip_of_pixels_and_a_huge_image_take_little_memory(home: Path) -> None:
    seen: list[tuple[int, ...]] = []
    model: Any = own(home)
    preset = model._preset
    model._preset = lambda tensor: (seen.append(tuple(tensor.shape)), preset(tensor))[1]
    # Views of one pixel: the test itself needs no gigabytes.
    pixel = np.zeros(3, np.uint8)
    images = [np.broadcast_to(pixel, (*size, 3)) for size in [(1, 1_000_000), (1_000_000, 2), (10_000, 12_000)]]
    answers = model.predict(images)
    assert [len(found.label) for found in answers] == [3, 3, 3]
    assert answers[0].xyxy[0].tolist() == [0, 0, 1_000_000, 1]
    assert all(rows * columns <= MAX_PIXELS for _, rows, columns in seen)
    assert all(max(shape[1:]) <= 8 * min(shape[1:]) for shape in seen)


def test_the_middle_of_a_strip_is_what_counts(home: Path) -> None:
    strip = np.zeros((40, 2000, 3), np.uint8)
    strip[:, 960:1040] = smooth(40, 80, 5)
    (found,) = own(home).predict([strip])
    np.testing.assert_allclose(probabilities(found), expected(home, strip), atol=0.01)


def test_read_only_and_flipped_arrays_are_taken(home: Path) -> None:
    flipped = smooth(60, 80)[:, ::-1]
    locked = np.ascontiguousarray(flipped)
    locked.flags.writeable = False
    a, b = own(home).predict([flipped, locked])
    np.testing.assert_allclose(a.confidence, b.confidence, atol=1e-6)


@pytest.mark.parametrize(
    "image", [np.zeros((5, 5), np.uint8), np.zeros((5, 5, 4), np.uint8), np.zeros((5, 5, 3), np.float32)]
)
def test_arrays_that_are_no_rgb_images_are_named(home: Path, image: Any) -> None:
    with pytest.raises(ImageError, match="image 1 of the call"):
        own(home).predict([smooth(8, 8), image])


def test_manifest_and_its_card(home: Path) -> None:
    spec = ModelSpec(str(home / "m.json"), device="cpu", precision="fp32")
    card, model = describe(spec), load(spec)
    assert (card.name, card.role, card.classes, card.score_threshold) == ("animals-1", "tag", CLASSES, 0.1)
    assert model.name == card.name
    image = smooth(200, 300, 6)
    (found,) = by_manifest(spec.spec).predict([image])
    wanted = expected(home, image)
    assert sorted(found.label) == np.flatnonzero(wanted >= 0.1).tolist()


def test_a_manifest_is_described_without_torch(home: Path) -> None:
    code = (
        "import sys; from ml_backend.models.catalogue import ModelSpec, describe; "
        f"describe(ModelSpec({str(home / 'm.json')!r}, device='cpu')); sys.exit('torch' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_multi_label_network_answers_each_class_on_its_own(home: Path, tmp_path: Path) -> None:
    image = smooth(200, 300, 6)
    spec = changed(home, tmp_path, multi_label=True)
    (found,) = by_manifest(spec, 0.0).predict([image])
    odds = probabilities(found) / (1 - probabilities(found))
    # The same logits: odds of sigmoids are proportional to what softmax answers.
    np.testing.assert_allclose(odds / odds.sum(), expected(home, image), atol=0.01)
    assert abs(found.confidence.sum() - 1) > 0.01


def test_preprocessing_of_a_manifest_is_obeyed(home: Path, tmp_path: Path) -> None:
    image = smooth(400, 300, 7)
    changes = {"resize": 100, "crop": 64, "mean": [0.5, 0.5, 0.5], "std": [0.25, 0.25, 0.25]}
    spec = changed(home, tmp_path, preprocessing=changes, score_threshold=0.0)
    (found,) = by_manifest(spec).predict([image])
    small = PilImage.fromarray(image).resize((100, 133), PilImage.Resampling.BILINEAR).crop((18, 34, 82, 98))
    network = models.resnet18(num_classes=3)
    network.load_state_dict(torch.load(home / "w.pth", weights_only=True))
    tensor = torch.from_numpy((np.asarray(small) / 255 - 0.5) / 0.25).float().permute(2, 0, 1)
    with torch.inference_mode():
        wanted = network.eval()(tensor[None]).softmax(1)[0].numpy()
    np.testing.assert_allclose(probabilities(found), wanted, atol=0.01)
    assert np.abs(wanted - expected(home, image)).max() > 0.03


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"classes": ["cat", "dog"]}, "answer 3 classes and there are 2 class names"),
        ({"builder": "resnet34"}, "do not fit the model"),
        ({"builder": "fasterrcnn_resnet50_fpn"}, "there is no classification model 'fasterrcnn_resnet50_fpn'"),
        ({"builder_args": {"weights": "DEFAULT"}}, "ask for weights of torchvision"),
        ({"builder_args": {"colour": 1}}, "torchvision cannot build resnet18"),
        ({"multi_label": "yes"}, "multi_label is 'yes', not true or false"),
        ({"preprocessing": [1]}, "preprocessing is not an object"),
        ({"preprocessing": {"resize": 0}}, r"preprocessing\.resize is 0"),
        ({"preprocessing": {"std": [1, 0, 1]}}, r"preprocessing\.std is \[1, 0, 1\]"),
        ({"preprocessing": {"size": 5}}, r"preprocessing\.size is unknown"),
        ({"sha256": "0" * 64}, "are not the ones the manifest names"),
        ({"name": None}, "name is None"),
    ],
)
def test_wrong_manifests_say_what_is_wrong(home: Path, tmp_path: Path, values: Any, words: str) -> None:
    with pytest.raises(ModelError, match=words):
        load_predictor(changed(home, tmp_path, **values), device="cpu")


def test_own_weights_are_named_by_their_content(home: Path) -> None:
    spec = ModelSpec(SMALL, home / "w.pth", CLASSES, "cpu", precision="fp32")
    card = describe(spec)
    assert load(spec).name == card.name == f"{SMALL}-{hashlib.sha256((home / 'w.pth').read_bytes()).hexdigest()[:8]}"
    assert (card.role, card.classes, card.score_threshold) == ("tag", CLASSES, DEFAULT_THRESHOLD)


def test_own_weights_without_class_names(home: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="answer 3 classes and nobody says which"):
        load_predictor(SMALL, weights=home / "w.pth", device="cpu")
    torch.save(models.resnet18().state_dict(), tmp_path / "imagenet.pth")
    model = load_predictor(SMALL, weights=tmp_path / "imagenet.pth", device="cpu")
    assert len(model.classes) == 1000
    assert model.classes[0] == "tench"


@pytest.mark.parametrize("side_outputs", [True, False])
def test_networks_with_side_outputs_load_with_and_without_them(tmp_path: Path, side_outputs: bool) -> None:
    network = models.googlenet(num_classes=3, init_weights=False, aux_logits=side_outputs)
    torch.save(network.state_dict(), tmp_path / "g.pth")
    model = load_predictor("googlenet", weights=tmp_path / "g.pth", classes=CLASSES, device="cpu", score_threshold=0.0)
    (found,) = model.predict([smooth(50, 50)])
    assert len(found.label) == 3


def test_half_precision_answers_nearly_the_same_under_another_name(home: Path) -> None:
    half, full = own(home, precision="bf16"), own(home)
    image = smooth(200, 200, 8)
    (a,), (b,) = half.predict([image]), full.predict([image])
    np.testing.assert_allclose(probabilities(a), probabilities(b), atol=0.05)
    assert (a.confidence != b.confidence).any()
    spec = ModelSpec(SMALL, home / "w.pth", CLASSES, "cpu", precision="bf16")
    assert half.name == describe(spec).name == f"{full.name}-bf16"


def test_classification_builders_are_told_from_detectors() -> None:
    assert accepts("resnet50")
    assert accepts("vit_b_16")
    assert not accepts("fasterrcnn_resnet50_fpn")
    assert not accepts("deeplabv3_resnet50")
    assert not accepts("ResNet50")
    assert all(accepts(name) for name in classifier_network.classification_builders())


@pytest.mark.parametrize("builder", classifier_network.classification_builders())
def test_every_builder_has_imagenet_names_and_a_preset(builder: str) -> None:
    card = describe(ModelSpec(builder))
    assert card.role == "tag"
    assert len(card.classes) == len(set(card.classes)) == 1000
    assert card.name.startswith(f"{builder}-imagenet1k")
    assert classifier_network.preset(builder, {}).crop_size[0] >= 224


def test_imagenet_weights_that_cannot_be_downloaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    asked: list[str] = []

    def no_network(url: str, *args: Any, **options: Any) -> None:
        asked.append(url)
        raise URLError("no route to host")

    monkeypatch.setattr("torch.hub.download_url_to_file", no_network)
    with pytest.raises(ModelError, match="ImageNet weights of resnet18 cannot be had") as caught:
        load_predictor(SMALL, device="cpu")
    assert asked[0] in caught.value.expected
    assert str(tmp_path / "hub" / "checkpoints" / Path(asked[0]).name) in caught.value.todo


def test_imagenet_weights_from_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    file = tmp_path / "hub" / "checkpoints" / Path(models.ResNet18_Weights.DEFAULT.url).name
    file.parent.mkdir(parents=True)
    torch.save(models.resnet18().state_dict(), file)
    spec = ModelSpec(SMALL, device="cpu", score_threshold=0.0, precision="fp32")
    model = cast(Predictor, load(spec))
    assert model.name == describe(spec).name == f"{SMALL}-imagenet1k-v1"
    (found,) = model.predict([smooth(64, 64)])
    assert len(found.label) == 1000


def test_a_program_in_the_cache_is_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Bomb:
        def __reduce__(self) -> Any:
            return (Path.touch, (tmp_path / "exploded",))

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    file = tmp_path / "hub" / "checkpoints" / Path(models.ResNet18_Weights.DEFAULT.url).name
    file.parent.mkdir(parents=True)
    file.write_bytes(pickle.dumps(Bomb(), protocol=2))
    with pytest.raises(ModelError, match="cannot be had"):
        load_predictor(SMALL, device="cpu")
    assert not (tmp_path / "exploded").exists()


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        (ModelSpec(SMALL, classes=CLASSES), "without weights of one's own"),
        (ModelSpec(SMALL, device="cpu", precision="fp16"), "fp16 was asked for on a CPU"),
        (ModelSpec("m.json", classes=CLASSES), "whose manifest names its classes"),
        (ModelSpec("m.json", weights=Path("w.pth")), "whose manifest names its own"),
    ],
)
def test_specs_that_contradict_themselves(home: Path, spec: ModelSpec, words: str) -> None:
    if spec.spec == "m.json":
        spec = ModelSpec(str(home / "m.json"), spec.weights, spec.classes)
    with pytest.raises(ModelError, match=words):
        load(spec)
