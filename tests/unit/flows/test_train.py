"""bridge.flows.train: every image is predicted by a model that has not seen it, whatever happens on the way."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from fakes.pictures import CAT, DOG, ELSEWHERE, LOOSE_CAT, TRUTH
from flow_kit import Killed
from training_kit import UNSEEN, Gym, MemoryTrainer, varied

from bridge.core.annotations import Annotation, Box, Mask, Polygon, Tag
from bridge.core.provenance import Provenance, pixel_mark
from bridge.errors import Busy, DataError, StoreError
from bridge.flows.trained_models import manifest_provenance
from bridge.flows.training_record import copy_out, locked, read_record

CAT_ONLY = (("cat", CAT),)


@pytest.fixture
def gym(tmp_path: Path) -> Gym:
    return Gym(tmp_path / "training")


@pytest.fixture
def nine(gym: Gym) -> Gym:
    """Nine different pictures of a cat and a dog."""
    gym.pictures(9)
    return gym


class TestOutOfSample:
    def test_every_image_is_predicted_by_a_model_that_has_not_seen_it(self, nine: Gym) -> None:
        seen = nine.predictions(nine.train(folds=3)).seen
        assert sorted(seen, key=int) == [str(k) for k in range(1, 10)]
        assert {p.confidence for s in seen.values() for p in s.predictions} == {UNSEEN}
        assert {len(s.predictions) for s in seen.values()} == {2}

    def test_the_final_model_has_seen_all_of_them(self, nine: Gym) -> None:
        nine.train(folds=3)
        final = nine.trainer.fits[-1]
        assert (len(final.train), len(final.held_out)) == (9, 0)
        assert [len(fit.held_out) for fit in nine.trainer.fits[:3]] == [3, 3, 3]

    def test_a_network_that_knows_the_images_is_refused(self, nine: Gym) -> None:
        """Starting from the model of an earlier training, no fold would be out of sample."""
        nine.trainer.start = Provenance("before", ("memory:1",))
        with pytest.raises(DataError, match="no image would be out of sample"):
            nine.train()
        assert nine.train(folds=0).fresh
        nine.trainer.start = Provenance("before", ("memory:2",))
        assert nine.train().fresh

    def test_a_network_that_knows_some_of_the_images_from_elsewhere_is_refused(self, nine: Gym) -> None:
        nine.trainer.start = Provenance("before", ("memory:2",), seen=frozenset({pixel_mark(varied(3)), "0" * 16}))
        with pytest.raises(DataError, match="trained on 1 of these 9 images"):
            nine.train()
        assert not list(nine.folder.glob("*/images"))
        assert nine.train(folds=0).fresh

    def test_the_final_model_remembers_what_it_has_seen(self, nine: Gym) -> None:
        before = Provenance("before", ("memory:2",), seen=frozenset({"0" * 16}))
        nine.trainer.start = before
        model = manifest_provenance(nine.train().manifest)
        assert model is not None
        assert model.targets == ("memory:1", "memory:2")
        assert len(model.seen) == 9 * 2 + 1
        items = [record.item for record in nine.tool.read_page(None, 100).records]
        assert {model.sample("memory:1", item) for item in items} == {"in"}
        assert {model.sample("elsewhere", item, varied(k)) for k, item in enumerate(items)} == {"in"}
        assert model.sample("elsewhere", items[0]) == "unknown"
        assert model.sample("elsewhere", items[0], varied(77)) == "out"

    def test_images_held_out_from_a_single_model_are_out_of_its_sample(self, nine: Gym) -> None:
        result = nine.train(folds=0)
        model = manifest_provenance(result.manifest)
        assert model is not None
        items = [record.item for record in nine.tool.read_page(None, 100).records]
        outside = {item.id for item in items if model.sample("memory:1", item) == "out"}
        assert outside == set(nine.predictions(result).seen)
        assert len(outside) == 2

    def test_boxes_are_in_pixels_of_the_original(self, gym: Gym) -> None:
        """The trainer's side is 80, so that images of 160 pixels are kept at 120."""
        gym.pictures(4)
        result = gym.train(folds=2)
        for seen in gym.predictions(result).seen.values():
            assert (seen.item.width, seen.item.height) == (160, 120)
            found = {p.label: p.shape for p in seen.predictions}
            for label, truth in TRUTH:
                shape = found[label]
                assert isinstance(shape, Box)
                assert np.abs(np.array(shape.xyxy) - np.array(truth.xyxy)).max() < 2.5
        assert result.record["ap50"] == pytest.approx(1.0)
        assert gym.trainer.fits[0].train[0].xyxy[0].tolist() == [7.5, 7.5, 45.0, 37.5]

    def test_images_that_are_alike_share_a_fold(self, nine: Gym) -> None:
        twin = nine.tool.add_item(varied(0), CAT_ONLY)
        result = nine.train(folds=5)
        images = json.loads((result.folder / "images.json").read_text())["images"]
        fold = {image["id"]: image["fold"] for image in images}
        assert fold["1"] == fold[twin]
        assert set(fold.values()) == {1, 2, 3, 4, 5}
        assert result.record["groups"] == 9

    def test_items_that_nobody_submitted_are_left_alone(self, nine: Gym) -> None:
        nine.tool.add_item(varied(77))
        result = nine.train()
        assert result.record["images"] == 9
        assert "10" not in nine.predictions(result).seen

    def test_an_image_on_which_nothing_is_counts(self, nine: Gym) -> None:
        nine.tool.add_item(varied(77, shows=()), ())
        result = nine.train()
        assert result.record["images"] == 10
        assert nine.predictions(result).seen["10"].predictions == ()


class TestLabels:
    def test_two_annotators_outline_one_object_once(self, gym: Gym) -> None:
        gym.pictures(4, TRUTH, (("cat", LOOSE_CAT), ("dog", ELSEWHERE)))
        result = gym.train(folds=2)
        assert result.record["objects"] == 4 * 3
        assert len(gym.trainer.fits[0].train[0].xyxy) == 3

    def test_one_annotator_may_label_two_objects_that_overlap(self, gym: Gym) -> None:
        gym.pictures(4, (("cat", CAT), ("cat", LOOSE_CAT)))
        assert gym.train(folds=2).record["objects"] == 8

    def test_a_label_without_objects_is_not_trained(self, gym: Gym) -> None:
        gym.tool.labels = ("bird", "cat", "dog")
        gym.pictures(4, (("dog", DOG),))
        result = gym.train(folds=2)
        assert gym.trainer.labels == ("dog",)
        assert gym.trainer.fits[0].train[0].label.tolist() == [0]
        assert list(result.record["by_label"]) == ["dog"]
        assert {p.label for s in gym.predictions(result).seen.values() for p in s.predictions} == {"dog"}

    def test_what_is_no_box_is_left_out_and_counted(self, gym: Gym) -> None:
        shapes = (
            ("cat", Polygon(((10, 10), (60, 10), (60, 50)))),
            ("cat", Tag()),
            ("cat", Mask(1, 1, (0, 1))),
            ("cat", Box(5, 5, 5, 9)),
            ("cat", Box(float("nan"), 5, 7, 9)),
            ("horse", CAT),
        )
        for item in gym.pictures(4):
            gym.tool.submit(item, [Annotation(f"{item}:{k}", label, s) for k, (label, s) in enumerate(shapes)])
        result = gym.train(folds=2)
        assert (result.record["objects"], result.record["left_out"]) == (4, 20)
        assert gym.trainer.fits[0].train[0].xyxy.tolist() == [[7.5, 7.5, 45.0, 37.5]]

    def test_boxes_are_cut_at_the_edges_of_the_image(self, gym: Gym) -> None:
        gym.pictures(4, (("cat", Box(-50, -10, 40, 1e9)), ("dog", Box(200, 5, 300, 9))))
        gym.train(folds=2)
        assert gym.trainer.fits[0].train[0].xyxy.tolist() == [[0.0, 0.0, 30.0, 90.0]]

    def test_no_box_at_all(self, gym: Gym) -> None:
        gym.pictures(4, ())
        with pytest.raises(DataError, match="no box is submitted in memory:1: 4 submitted items"):
            gym.train()

    def test_nothing_submitted(self, gym: Gym) -> None:
        gym.tool.add_item(varied(1))
        with pytest.raises(DataError, match="0 submitted items"):
            gym.train()

    def test_too_few_images(self, nine: Gym) -> None:
        with pytest.raises(DataError, match="9 labelled images in 9 groups cannot make 10 folds"):
            nine.train(folds=10)


class TestAgain:
    def test_done_is_done(self, nine: Gym) -> None:
        first = nine.train()
        nine.tool.calls.clear()
        again = nine.train()
        assert (first.fresh, again.fresh) == (True, False)
        assert again.record == first.record
        assert nine.tool.calls["read_image"] == 0
        assert len(nine.trainer.fits) == 4

    @pytest.mark.parametrize(
        ("change", "fresh"),
        [({"seed": 1}, True), ({"epochs": 2}, True), ({"patience": 3}, True), ({"folds": 2}, True), ({}, False)],
    )
    def test_other_options_are_another_training(self, nine: Gym, change: dict[str, int], fresh: bool) -> None:
        first = nine.train()
        second = nine.train(**change)
        assert (second.folder != first.folder, second.fresh) == (fresh, fresh)

    def test_other_annotations_are_another_training(self, nine: Gym) -> None:
        first = nine.train()
        nine.tool.submit("3", [replace(nine.tool.people["3"][0].annotations[0], label="dog")])
        assert nine.train().folder != first.folder

    @pytest.mark.parametrize("place", [("fold-1-of-3", 1), ("fold-2-of-3", 2), ("fold-3-of-3", 3), ("final-model", 2)])
    def test_killed_anywhere_it_goes_on(self, nine: Gym, tmp_path: Path, place: tuple[str, int]) -> None:
        nine.trainer.kill_in = place
        with pytest.raises(Killed):
            nine.train()
        result = nine.train()
        assert nine.trainer.done == {
            part: [1, 2, 3] for part in ("fold-1-of-3", "fold-2-of-3", "fold-3-of-3", "final-model")
        }
        assert nine.tool.calls["read_image"] == 9
        whole = Gym(tmp_path / "other", nine.tool).train()
        for name in ("predictions.json", "images.json"):
            assert (result.folder / name).read_text() == (whole.folder / name).read_text()
        for key in ("ap", "ap50", "by_label", "folds", "threshold", "snapshot"):
            assert result.record[key] == whole.record[key]
        assert result.record["started_at"] < result.record["finished_at"]

    def test_killed_while_images_are_read(self, nine: Gym, monkeypatch: pytest.MonkeyPatch) -> None:
        real = nine.tool.read_image
        reads = iter(range(100))

        def dying(item: object) -> bytes:
            if next(reads) == 4:
                raise Killed
            return real(item)  # type: ignore[arg-type]

        monkeypatch.setattr(nine.tool, "read_image", dying)
        with pytest.raises(Killed):
            nine.train()
        (index,) = nine.folder.glob("*/images/index.jsonl")
        index.write_text(index.read_text()[:-20])  # the machine stopped as well: a line is cut off
        nine.trainer.kill_in = ("fold-1-of-3", 1)
        with pytest.raises(Killed):
            nine.train()
        nine.train()
        # Four, of which the last is read again, and the other five; the last attempt finds all of them.
        assert nine.tool.calls["read_image"] == 4 + 1 + 5

    def test_nothing_but_the_results_stays(self, nine: Gym) -> None:
        """Above all no copies of the images."""
        result = nine.train()
        assert sorted(p.name for p in result.folder.iterdir()) == [
            "images.json", "lock", "manifest.json", "model.safetensors",
            "predictions.json", "predictions.provenance.json", "probes.json", "training.json",
        ]  # fmt: skip

    def test_two_at_once(self, nine: Gym) -> None:
        nine.trainer.kill_in = ("fold-1-of-3", 1)
        with pytest.raises(Killed):
            nine.train()
        (folder,) = nine.folder.iterdir()
        with locked(folder, "memory:1"), pytest.raises(Busy, match="another process is training on memory:1"):
            nine.train()
        assert nine.train().fresh


class TestWhatIsTold:
    def test_lines_and_progress(self, nine: Gym) -> None:
        nine.train(epochs=2)
        assert nine.lines[0] == "fold 1 of 3  epoch 1/2  loss 1.000  AP 0.500  AP50 0.500  0 s"
        assert nine.lines[-1] == "final model  epoch 2/2  loss 0.500  0 s"
        assert len(nine.lines) == 8
        assert ("reading images", 9, 9) in nine.told
        assert ("fold 3 of 3", 2, 2) in nine.told

    def test_the_record(self, nine: Gym) -> None:
        result = nine.train(seed=4)
        record = read_record(result.folder)
        assert record == result.record
        assert record is not None
        assert record["options"] == {"folds": 3, "epochs": None, "seed": 4, "patience": 8}
        assert [fold["images"] for fold in record["folds"]] == [3, 3, 3]
        assert (record["target"], record["images"], record["objects"]) == ("memory:1", 9, 18)
        assert record["by_label"]["cat"]["objects"] == 9
        assert record["threshold"] == 0.05
        assert record["model"] == "in-memory-1"
        notes = json.loads(result.manifest.read_text())["training"]
        assert (notes["snapshot"], notes["ap50"]) == (record["snapshot"], record["ap50"])

    def test_the_final_model_takes_the_median_of_the_best_epochs(self, nine: Gym) -> None:
        nine.trainer = MemoryTrainer(best=2)
        nine.train(epochs=6)
        assert [fit.epochs for fit in nine.trainer.fits] == [6, 6, 6, 2]

    def test_an_image_that_cannot_be_read_fails_alone(self, nine: Gym) -> None:
        broken = nine.tool.add_item(None, TRUTH)
        result = nine.train()
        assert [f.item for f in result.failures] == [f"{broken}.png (item {broken})"]
        assert (result.record["images"], result.record["failures"]) == (9, 1)
        assert broken not in nine.predictions(result).seen

    def test_no_image_can_be_read(self, gym: Gym) -> None:
        gym.tool.add_item(None, TRUTH)
        with pytest.raises(DataError, match="none of the submitted images can be read"):
            gym.train()

    def test_one_model_without_folds(self, nine: Gym) -> None:
        result = nine.train(folds=0)
        (fit,) = nine.trainer.fits
        assert (len(fit.train), len(fit.held_out)) == (7, 2)
        seen = nine.predictions(result).seen
        assert len(seen) == 2
        assert {p.confidence for s in seen.values() for p in s.predictions} == {UNSEEN}

    def test_copied_out(self, nine: Gym, tmp_path: Path) -> None:
        result = nine.train()
        manifest = copy_out(result.folder, tmp_path / "a" / "b")
        assert manifest.read_bytes() == result.manifest.read_bytes()
        assert (tmp_path / "a" / "b" / "model.safetensors").exists()
        with pytest.raises(StoreError, match="cannot write"):
            copy_out(result.folder, manifest)
