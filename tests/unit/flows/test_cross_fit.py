"""bridge.flows.cross_fit: scoring by models that have not learnt from the labels they judge."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fakes.colour_detector import CONFIDENCE
from fakes.pictures import CAT, DOG, TRUTH
from flow_kit import Desk
from training_kit import UNSEEN, Gym, Rememberer, varied

from bridge.core.annotations import Annotation, Record
from bridge.errors import NotFound, StoreError
from bridge.flows.cross_fit import CrossFitPredictions
from bridge.flows.sources import ImageReader, ModelPredictions
from bridge.flows.training_record import latest

LABELS = {"cat": "cat", "dog": "dog"}


@pytest.fixture
def gym(desk: Desk, tmp_path: Path) -> Gym:
    """Six pictures, trained on; the last one lacks its dog."""
    gym = Gym(tmp_path / "training", desk.tool)
    gym.pictures(5)
    gym.pictures(1, (("cat", CAT),))
    return gym


def source(gym: Gym, threshold: float = 0.05) -> CrossFitPredictions:
    final = ModelPredictions(ImageReader(gym.tool, 10**6), Rememberer(name="final"), LABELS, 2, threshold)
    return CrossFitPredictions(latest(gym.folder, gym.tool.target), threshold, final)


def records(gym: Gym) -> list[Record]:
    return list(gym.tool.read_page(None, 100).records)


def test_each_item_gets_what_its_fold_found(gym: Gym) -> None:
    gym.train()
    attached, failures = source(gym).attach([replace(r, item=replace(r.item, width=None)) for r in records(gym)])
    assert failures == []
    assert [[(p.label, p.confidence) for p in r.predictions] for r in attached] == [
        [("cat", UNSEEN), ("dog", UNSEEN)]
    ] * 6
    assert {r.predicted_by for r in attached} == {(source(gym).model,)}
    assert [(r.item.width, r.item.height) for r in attached] == [(160, 120)] * 6


def test_a_run_names_them_and_finds_the_errors(gym: Gym, desk: Desk) -> None:
    gym.train()
    result = desk.score(source(gym))
    (run,) = desk.store.runs(gym.tool.target)
    assert run.model == source(gym).model
    assert run.options["source"] == source(gym).key
    assert desk.finding("6", "missing").finding.label == "dog"
    assert result.counts.unpredicted == 0


def test_a_new_image_is_looked_at_by_the_final_model(gym: Gym) -> None:
    gym.train()
    new = gym.tool.add_item(varied(50), TRUTH)
    before = gym.tool.calls["read_image"]
    attached, _ = source(gym).attach(records(gym))
    assert gym.tool.calls["read_image"] == before + 1
    assert [r.item.id for r in attached] == ["1", "2", "3", "4", "5", "6", new]
    assert attached[-1].predicted_by == ("final",)
    assert len(attached[-1].predictions) == 2


def test_another_image_in_the_same_place_is_new(gym: Gym) -> None:
    gym.train()
    changed = [replace(r, item=replace(r.item, image="elsewhere")) for r in records(gym)[:1]]
    assert source(gym).attach(changed)[0][0].predicted_by == ("final",)


def test_changed_annotations_keep_their_predictions(gym: Gym) -> None:
    gym.train()
    gym.tool.submit("2", [Annotation("2a:0", "dog", DOG)])
    gym.tool.add_item(varied(50), TRUTH)
    gym.tool.add_item(varied(51))
    assert source(gym).attach(records(gym)[1:2])[0][0].predicted_by == (source(gym).model,)
    changes = source(gym).training.changes(records(gym))
    assert (changes.new, changes.changed) == (1, 1)


def test_nothing_changed(gym: Gym) -> None:
    gym.train()
    changes = source(gym).training.changes(source(gym).attach(records(gym))[0])
    assert (changes.new, changes.changed) == (0, 0)


def test_faint_predictions_are_left_out(gym: Gym) -> None:
    gym.train()
    assert source(gym, UNSEEN + 0.01).attach(records(gym))[0][0].predictions == ()
    assert source(gym, UNSEEN).attach(records(gym))[0][0].predictions != ()
    assert CONFIDENCE > UNSEEN


def test_the_latest_finished_training_of_the_target_counts(gym: Gym) -> None:
    gym.train(seed=1)
    second = gym.train(seed=2)
    gym.train(folds=0)
    (gym.folder / "under way").mkdir()
    assert latest(gym.folder, gym.tool.target).folder == second.folder


@pytest.mark.parametrize("trained", ["nothing", "without folds", "another target"])
def test_not_trained(gym: Gym, trained: str) -> None:
    if trained == "without folds":
        gym.train(folds=0)
    if trained == "another target":
        gym.tool.target = "memory:2"
        gym.train()
        gym.tool.target = "memory:1"
    with pytest.raises(NotFound, match="there are no out-of-sample predictions for memory:1") as told:
        source(gym)
    assert "labelbridge train memory:1" in told.value.todo


@pytest.mark.parametrize("damage", ["cut off", "gone", "an id that is not there", "another format"])
def test_a_damaged_training(gym: Gym, damage: str) -> None:
    folder = gym.train().folder
    path = folder / "predictions.json"
    rows: list[dict[str, Any]] = json.loads(path.read_text())
    if damage == "cut off":
        path.write_text(path.read_text()[:-9])
    elif damage == "gone":
        path.unlink()
    elif damage == "an id that is not there":
        path.write_text(json.dumps([{**rows[0], "image_id": "99"}]))
    else:
        (folder / "training.json").write_text('{"format": 99}')
    with pytest.raises(StoreError) as told:
        source(gym)
    assert "rain again" in told.value.todo


class TestKeys:
    """A journey that was interrupted goes on only with the predictions it began with."""

    def test_another_threshold(self, gym: Gym) -> None:
        gym.train()
        assert source(gym, 0.05).key != source(gym, 0.1).key
        assert source(gym, 0.1).key == json.loads(json.dumps(source(gym, 0.1).key))

    def test_another_training(self, gym: Gym) -> None:
        gym.train()
        one = source(gym)
        gym.train(seed=1)
        assert source(gym).key != one.key
        assert source(gym).key[2] == one.key[2] == source(gym).model  # this trainer finds the same whatever the seed

    def test_other_predictions(self, gym: Gym) -> None:
        folder = gym.train().folder
        one = source(gym)
        path = folder / "predictions.json"
        path.write_text(path.read_text().replace(str(UNSEEN), "0.3"))
        assert source(gym).key != one.key
        shutil.rmtree(folder)
