"""ml_backend.training.finetune: real networks on drawn scenes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from bridge.core.provenance import Provenance
from bridge.core.training import Epoch, Example, Fit
from bridge.errors import ModelError, StoreError
from bridge.scenes import CLASSES, draw_scene
from ml_backend.models.catalogue import EMBEDDED_MANIFEST, load_predictor
from ml_backend.models.torchvision_detector import build_network
from ml_backend.training import loop
from ml_backend.training.checkpoint import Checkpoint, replace_file
from ml_backend.training.finetune import Finetuner, FittedDetector, trainer

FASTER = "fasterrcnn_mobilenet_v3_large_320_fpn"


def small(labels: Sequence[str] = CLASSES) -> Finetuner:
    """The trainer for the embedded network, in batches of two: a step takes a tenth of a second."""
    learner = trainer(labels=labels, device="cpu")
    learner._recipe = replace(learner._recipe, largest_batch=2)
    return learner


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> list[Example]:
    """Four drawn scenes; nothing is labelled on the last one."""
    folder = tmp_path_factory.mktemp("scenes")
    examples = []
    for seed in range(4):
        scene = draw_scene(9_000_000 + seed)
        path = folder / f"{seed}.jpg"
        Image.fromarray(scene.image).save(path, quality=95)
        labels = np.array([CLASSES.index(name) for name in scene.labels], np.int64)
        examples.append(Example(path, scene.xyxy, labels))
    return [*examples[:3], Example(examples[3].path, np.zeros((0, 4)), np.zeros(0, np.int64))]


def fit(scenes: Sequence[Example], folder: Path, epochs: int = 2, held_out: int = 1, **more: int) -> Fit:
    options = {"seed": 3, "patience": 9} | more
    return Fit(scenes[held_out:], scenes[:held_out], folder, epochs=epochs, **options)


def silent(epoch: Epoch) -> None:
    pass


class TestEmbedded:
    def test_what_is_known_is_not_forgotten(self, scenes: list[Example], tmp_path: Path) -> None:
        """The same classes, so that even the heads start from the trained weights."""
        told: list[Epoch] = []
        fitted = small().fit(fit(scenes, tmp_path, epochs=1), told.append)
        assert [epoch.number for epoch in told] == [1]
        assert told[0].ap50 is not None
        assert told[0].ap50 > 0.6
        assert fitted.best == 1

    def test_killed_between_epochs_it_comes_out_the_same(self, scenes: list[Example], tmp_path: Path) -> None:
        whole = small().fit(fit(scenes, tmp_path / "a"), silent)

        def killed(epoch: Epoch) -> None:
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            small().fit(fit(scenes, tmp_path / "b"), killed)
        told: list[Epoch] = []
        again = small().fit(fit(scenes, tmp_path / "b"), told.append)
        assert [epoch.number for epoch in told] == [2]
        assert [replace(e, seconds=0) for e in again.epochs] == [replace(e, seconds=0) for e in whole.epochs]
        one, other = (f.predictor.predict([pixels(scenes[0])])[0] for f in (whole, again))
        np.testing.assert_allclose(one.xyxy, other.xyxy, atol=1e-3)
        np.testing.assert_allclose(one.confidence, other.confidence, atol=1e-5)

    def test_done_is_not_trained_again(self, scenes: list[Example], tmp_path: Path) -> None:
        small().fit(fit(scenes, tmp_path, epochs=1), silent)
        told: list[Epoch] = []
        small().fit(fit(scenes, tmp_path, epochs=1), told.append)
        assert told == []
        small().fit(fit(scenes, tmp_path, epochs=1, seed=4), told.append)
        assert [epoch.number for epoch in told] == [1]

    def test_the_saved_model_is_the_trained_one(self, scenes: list[Example], tmp_path: Path) -> None:
        fitted = small(("part", "thing")).fit(
            fit([replace(s, label=s.label % 2) for s in scenes], tmp_path, epochs=1, held_out=0), silent
        )
        assert (fitted.epochs[0].ap, fitted.best) == (None, 1)
        path = fitted.save(tmp_path / "out", "my-parts", 0.35, {"snapshot": "abc"})
        loaded = load_predictor(str(path), device="cpu", score_threshold=loop.FAINTEST)
        assert loaded.classes == ("part", "thing")
        found, again = fitted.predictor.predict([pixels(scenes[0])])[0], loaded.predict([pixels(scenes[0])])[0]
        # Of those that are equally confident, rounding decides which comes first.
        one, other = (np.column_stack((f.confidence, f.xyxy))[np.lexsort(f.xyxy.T)] for f in (found, again))
        np.testing.assert_allclose(one, other, atol=1e-2)
        manifest = json.loads(path.read_text())
        assert manifest["name"] == loaded.name == f"my-parts-ssdlite320-{manifest['sha256'][:8]}"
        assert (manifest["score_threshold"], manifest["training"]["snapshot"]) == (0.35, "abc")
        assert {"torch", "torchvision"} <= manifest["training"].keys()

    def test_a_model_knows_what_it_was_trained_on(self, scenes: list[Example], tmp_path: Path) -> None:
        fitted = small().fit(fit(scenes[:1], tmp_path, epochs=1, held_out=0), silent)
        seen = Provenance("", ("ls:project/7",), seen=frozenset({"ab", "cd"}))
        path = fitted.save(tmp_path / "out", "a", 0.5, {"snapshot": "5a5a", "seen": seen.to_notes()})
        name = json.loads(path.read_text())["name"]
        start = trainer(str(path), labels=("x",), device="cpu").start
        assert start == Provenance(name, ("ls:project/7",), "5a5a", seen=seen.seen)
        assert small().start is None

    def test_stops_when_nothing_gets_better(self, scenes: list[Example], tmp_path: Path) -> None:
        """Held-out images with objects where there are none: the AP stays zero."""
        lied = [replace(s, xyxy=np.array([[0.0, 0, 3, 3]]), label=np.array([0])) for s in scenes[:1]]
        plan = Fit(scenes[2:3], lied, tmp_path, seed=0, epochs=9, patience=2)
        fitted = small().fit(plan, silent)
        assert (fitted.best, len(fitted.epochs)) == (1, 3)

    def test_the_first_blocks_stay_as_they_are(self, scenes: list[Example], tmp_path: Path) -> None:
        fitted = small().fit(fit(scenes, tmp_path, epochs=1), silent)
        path = fitted.save(tmp_path / "out", "a", 0.5, {})
        before = load_state(EMBEDDED_MANIFEST.with_name("parts_ssdlite.safetensors"))
        after = load_state(path.with_name("model.safetensors"))
        first = [k for k in before if k.startswith(("backbone.features.0.0.", "backbone.features.0.5."))]
        later = [k for k in before if k.startswith("backbone.features.0.9.")]
        assert len(first) > 5
        assert all(torch.equal(before[k].float(), after[k].float()) for k in first)
        assert not all(torch.equal(before[k].float(), after[k].float()) for k in later)

    def test_no_image(self, tmp_path: Path) -> None:
        with pytest.raises(ModelError, match="no image to train on"):
            small().fit(fit([], tmp_path), silent)

    def test_a_loss_that_is_no_number(self, scenes: list[Example], tmp_path: Path) -> None:
        learner = small()
        learner._recipe = replace(learner._recipe, peak_rate=1e30, clip=1e30)
        with pytest.raises(ModelError, match=r"the loss is \w+ in step \d of epoch 1"):
            learner.fit(fit(scenes * 3, tmp_path, epochs=1, held_out=0), silent)

    def test_describes_itself(self) -> None:
        learner = trainer(labels=("a", "b"), device="cpu")
        assert (learner.side, learner.epochs(290)) == (320, 8)
        assert json.loads(json.dumps(learner.recipe)) == {**learner.recipe, "labels": ["a", "b"]}
        assert learner.recipe["start"] == json.loads(EMBEDDED_MANIFEST.read_text())["sha256"]


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Faster R-CNN for three classes, from random weights."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "faster.safetensors"
    save_file(build_network(FASTER, {"num_classes": 4}).state_dict(), path)
    return path


class TestOtherNetworks:
    def test_a_two_stage_network(self, scenes: list[Example], tmp_path: Path, weights: Path) -> None:
        learner = trainer(FASTER, labels=CLASSES, weights=weights, device="cpu")
        assert learner.side == 640
        learner._recipe = replace(learner._recipe, largest_batch=1)
        fitted = learner.fit(fit(scenes[:1], tmp_path, epochs=1, held_out=0), silent)
        assert isinstance(fitted, FittedDetector)
        loaded = load_predictor(str(fitted.save(tmp_path / "out", "f", 0.5, {})), device="cpu")
        assert loaded.classes == CLASSES
        statistics = "backbone.body.1.block.0.1.running_mean"
        assert torch.equal(
            load_state(weights)[statistics], load_state(tmp_path / "out" / "model.safetensors")[statistics]
        )

    def test_weights_of_another_network(self, weights: Path) -> None:
        with pytest.raises(ModelError, match=r"share only \d+ of \d+ tensors with ssdlite320"):
            trainer("ssdlite320_mobilenet_v3_large", labels=CLASSES, weights=weights, device="cpu")

    def test_weights_beside_a_manifest(self, weights: Path) -> None:
        with pytest.raises(ModelError, match="whose manifest names its own"):
            trainer("embedded", labels=CLASSES, weights=weights, device="cpu")

    @pytest.mark.parametrize("spec", ["yolov99", "sam_vit_b", "resnet50"])
    def test_no_detector_of_torchvision(self, spec: str) -> None:
        with pytest.raises(ModelError, match=f"there is no model '{spec}'"):
            trainer(spec, labels=CLASSES, device="cpu")

    def test_a_device_that_is_not_there(self) -> None:
        with pytest.raises(ModelError, match="cannot be used"):
            trainer(labels=CLASSES, device="cuda:77")


def test_half_precision_is_near_and_leaves_the_heads_alone() -> None:
    """Drives on the CPU what a GPU does."""
    torch.manual_seed(0)
    network = build_network(FASTER, {"num_classes": 3}).eval()
    images = torch.rand(1, 3, 64, 96)
    with torch.no_grad():
        whole = network.backbone(images)
        loop.in_half(network.backbone, "cpu")
        half = network.backbone(images)
    assert list(half) == list(whole)
    for name, value in half.items():
        assert value.dtype == torch.float32
        assert not torch.equal(value, whole[name])
        torch.testing.assert_close(value, whole[name], rtol=0.1, atol=0.1 * float(whole[name].abs().max()))
    assert network.roi_heads.box_head.fc6.weight.dtype == torch.float32


class TestCheckpoint:
    checkpoint = Checkpoint(
        "k", (Epoch(1, 2.5, None, None, 3.0),), 1, {"a": torch.ones(2)}, {}, {}, {"state": {0: {"step": 3}}}
    )

    def test_comes_back(self, tmp_path: Path) -> None:
        self.checkpoint.write(tmp_path / "new" / "c.pt")
        found = Checkpoint.read(tmp_path / "new" / "c.pt", "k")
        assert found is not None
        assert (found.history, found.best, found.optimiser) == (
            self.checkpoint.history, 1, self.checkpoint.optimiser,
        )  # fmt: skip
        assert torch.equal(found.network["a"], torch.ones(2))

    @pytest.mark.parametrize("damage", ["gone", "cut off", "empty", "another"])
    def test_is_not_taken_for_what_it_is_not(self, tmp_path: Path, damage: str) -> None:
        path = tmp_path / "c.pt"
        if damage != "gone":
            self.checkpoint.write(path)
        if damage == "cut off":
            path.write_bytes(path.read_bytes()[:-100])
        if damage == "empty":
            path.write_bytes(b"")
        assert Checkpoint.read(path, "other" if damage == "another" else "k") is None

    def test_a_folder_that_cannot_be_written(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_bytes(b"")
        with pytest.raises(StoreError, match="cannot write"):
            replace_file(tmp_path / "file" / "c.pt", b"")


def pixels(example: Example) -> np.ndarray:
    return np.array(Image.open(example.path).convert("RGB"))


def load_state(path: Path) -> dict[str, torch.Tensor]:
    from safetensors.torch import load_file

    return dict(load_file(path))


def test_a_trainer_is_what_the_bridge_expects() -> None:
    from bridge.core.training import Trainer

    made: Trainer = trainer(labels=("a",), device="cpu")
    assert isinstance(made, Finetuner)
