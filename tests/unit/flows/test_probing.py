"""What a model is asked about the boxes that people drew, and how its answers travel to the scorer."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from fakes.colour_detector import AskedDetector, ColourDetector
from fakes.memory_tool import MemoryTool
from fakes.pictures import CAT, DOG, ELSEWHERE, HEIGHT, LOOSE_CAT, TRUTH, WIDTH, draw
from flow_kit import Desk, Killed
from hypothesis import given, settings
from hypothesis import strategies as st
from training_kit import Gym, Rememberer, varied

from bridge.core.annotations import (
    Annotation,
    Box,
    Item,
    LabelSet,
    Polygon,
    Probe,
    Record,
    Submission,
    record_from_dict,
    record_to_dict,
)
from bridge.core.objects import build_workload
from bridge.core.predictor import region_scorer
from bridge.core.probes import Probes
from bridge.flows.cross_fit import CrossFitPredictions
from bridge.flows.probing import ask, boxes_to_ask
from bridge.flows.sources import ImageReader, ModelPredictions
from bridge.flows.training_record import latest

BOTH = {"cat": "cat", "dog": "dog"}
WRONG = (("dog", CAT), ("cat", ELSEWHERE), ("cat", LOOSE_CAT))


@dataclass
class Scripted:
    """Answers every box with the same probabilities and a box one pixel to the right; notes what it was asked."""

    probabilities: Sequence[float]
    asked: list[tuple[int, ...]] = field(default_factory=list)

    def score_regions(self, image: npt.NDArray[np.uint8], boxes: npt.NDArray[np.float64]) -> Probes:
        self.asked.append((*image.shape[:2], len(boxes)))
        rows = np.tile(np.array(self.probabilities, float), (len(boxes), 1))
        return Probes(rows, boxes + np.array([1.0, 0.0, 1.0, 0.0]))


def source(tool: MemoryTool, batch: int = 2, label_of: dict[str, str] | None = None) -> ModelPredictions:
    reader = ImageReader(tool, 10**6)
    return ModelPredictions(reader, AskedDetector(), BOTH if label_of is None else label_of, batch, probes=True)


def record(*submissions: Sequence[tuple[str, object]]) -> Record:
    people = [
        Submission(f"{s}", "", tuple(Annotation(f"{s}:{k}", *one) for k, one in enumerate(objects)))  # type: ignore[arg-type]
        for s, objects in enumerate(submissions)
    ]
    return Record(Item("1", "a.png", ""), tuple(people))


class TestTheQuestion:
    def test_is_about_the_upright_boxes_of_all_people_each_once(self) -> None:
        turned, flat = replace(DOG, rotation=5.0), Box(3, 3, 3, 9)
        ring = Polygon(((0, 0), (9, 0), (9, 9)))
        people = record([("cat", CAT), ("cat", turned), ("dog", ring), ("cat", flat)], [("dog", CAT), ("dog", DOG)])
        assert boxes_to_ask(people, BOTH) == [CAT.xyxy, DOG.xyxy]

    def test_leaves_out_labels_that_the_model_does_not_know(self) -> None:
        assert boxes_to_ask(record([("cat", CAT), ("owl", DOG)]), BOTH) == [CAT.xyxy]

    def test_is_not_put_where_there_is_no_box(self) -> None:
        scorer = Scripted([1.0])
        assert ask(scorer, draw(), [], {}, ()) == ()
        assert scorer.asked == []


class TestTheAnswer:
    def test_is_told_in_labels_of_the_target(self) -> None:
        """Classes of one label add up; one without a label is nothing of the project's, and so is the background."""
        scorer = Scripted([0.1, 0.2, 0.3, 0.4])
        label_of = {"car": "vehicle", "bus": "vehicle"}
        (probe,) = ask(scorer, draw(), [CAT.xyxy], label_of, ("car", "tree", "bus"))
        assert probe == Probe(CAT.xyxy, (("vehicle", 0.6),), (11, 10, 61, 50))
        workload = build_workload("t", LabelSet(("person", "vehicle")), [_with(record([("vehicle", CAT)]), probe)])
        assert workload.probes is not None
        np.testing.assert_allclose(workload.probes.probabilities, [[0.4, 0.0, 0.6]])

    def test_is_in_pixels_of_the_original(self) -> None:
        image = draw((), WIDTH // 2, HEIGHT // 4)
        (probe,) = ask(Scripted([0.0, 1.0]), image, [(150, 10, 159, 50)], {"cat": "cat"}, ("cat",), (WIDTH, HEIGHT))
        assert probe.xyxy == (152, 10, WIDTH, 50)

    def test_of_a_box_without_one_is_left_out(self) -> None:
        boxes = [CAT.xyxy, (500.0, 500.0, 600.0, 600.0)]
        assert [p.box for p in ask(AskedDetector(), draw(), boxes, BOTH, ("cat", "dog"))] == [CAT.xyxy]

    @settings(deadline=None, max_examples=50)
    @given(st.lists(st.sampled_from([CAT, DOG, ELSEWHERE, LOOSE_CAT]), min_size=1, unique=True), st.data())
    def test_does_not_depend_on_the_other_boxes(self, boxes: list[Box], data: st.DataObject) -> None:
        cut = data.draw(st.integers(0, len(boxes)))
        asked = [box.xyxy for box in boxes]
        parts = [ask(AskedDetector(), draw(), part, BOTH, ("cat", "dog")) for part in (asked[:cut], asked[cut:])]
        assert parts[0] + parts[1] == ask(AskedDetector(), draw(), asked, BOTH, ("cat", "dog"))


class TestTheJourney:
    def test_brings_the_answers_to_the_scorer(self, desk: Desk) -> None:
        desk.picture(WRONG, TRUTH)
        result = desk.score(source(desk.tool))
        assert result.counts.probed == 4  # both people drew the cat's box
        workload = build_workload(
            "t", LabelSet(("dog", "cat")), [r for c in desk.store.chunks(result.run_id) for r in c]
        )
        assert workload.probes is not None
        filled = (50 * 40) / (75 * 45)
        expected = [[0, 0, 1], [1, 0, 0], [1 - filled, 0, filled], [0, 0, 1], [0, 1, 0]]
        np.testing.assert_allclose(workload.probes.probabilities, expected, atol=1e-4)
        np.testing.assert_array_equal(workload.probes.xyxy[[0, 2, 3, 4]], [b.xyxy for b in (CAT, CAT, CAT, DOG)])
        assert desk.store.run(result.run_id).counts["probed"] == 4

    @pytest.mark.parametrize(("batch", "page_size"), [(1, 1), (2, 3), (100, 100)])
    def test_does_not_depend_on_pages_and_batches(self, desk: Desk, batch: int, page_size: int) -> None:
        for submitted in (WRONG, TRUTH, (), WRONG):
            desk.picture(submitted)
        one = desk.score(source(desk.tool), page_size=2)
        other = desk.score(source(desk.tool, batch), page_size=page_size)
        assert other.counts == one.counts
        assert other.snapshot == one.snapshot
        first, second = ([r for c in desk.store.chunks(run.run_id) for r in c] for run in (one, other))
        assert first == second
        assert sum(len(r.probes) for r in first) == 8

    @pytest.mark.parametrize("step", ["page 0", "page 1", "score"])
    def test_goes_on_where_it_was_killed(self, desk: Desk, step: str) -> None:
        for _ in range(4):
            desk.picture(WRONG)
        desk.durable.kill_after = step
        with pytest.raises(Killed):
            desk.score(source(desk.tool))
        assert desk.score(source(desk.tool)).counts.probed == 12
        assert len(desk.store.runs()) == 1

    def test_reads_each_image_once(self, desk: Desk) -> None:
        for _ in range(3):
            desk.picture(WRONG)
        desk.score(source(desk.tool))
        assert desk.tool.calls["read_image"] == 3

    def test_asks_nothing_of_a_model_that_cannot_answer(self, desk: Desk) -> None:
        desk.picture(WRONG)
        plain = replace(source(desk.tool), predictor=ColourDetector())
        assert region_scorer(plain.predictor) is None
        assert desk.score(plain).counts.probed == 0

    def test_asks_nothing_unless_told_to(self, desk: Desk) -> None:
        """Pre-labelling runs the same model over labelled items too, and has no use for the answers."""
        desk.picture(WRONG)
        attached, _ = replace(source(desk.tool), probes=False).attach(desk.tool.read_page(None, 9).records)
        assert attached[0].probes == ()


def test_a_snapshot_of_an_older_version_has_no_answers() -> None:
    probed = _with(record([("cat", CAT)]), Probe(CAT.xyxy, (("cat", 0.5),), DOG.xyxy))
    data = json.loads(json.dumps(record_to_dict(probed)))
    assert record_from_dict(data) == probed
    del data["probes"]
    assert record_from_dict(data) == replace(probed, probes=())


class TestTheWorkload:
    def test_without_any_answer_has_no_probes(self) -> None:
        assert build_workload("t", LabelSet(("cat",)), [record([("cat", CAT)])]).probes is None

    def test_has_a_row_of_nan_where_nothing_was_asked(self) -> None:
        objects = [("cat", CAT), ("cat", replace(CAT, rotation=3.0)), ("dog", CAT), ("dog", DOG)]
        probed = _with(record(objects), Probe(CAT.xyxy, (("dog", 0.25), ("owl", 0.5)), DOG.xyxy))
        probes = build_workload("t", LabelSet(("cat", "dog")), [probed]).probes
        assert probes is not None
        np.testing.assert_array_equal(np.isnan(probes.probabilities).all(axis=1), [False, True, False, True])
        np.testing.assert_array_equal(np.isnan(probes.xyxy).all(axis=1), [False, True, False, True])
        np.testing.assert_array_equal(probes.probabilities[0], [0.75, 0.0, 0.25])
        np.testing.assert_array_equal(probes.probabilities[2], probes.probabilities[0])


class TestCrossFit:
    @pytest.fixture
    def gym(self, desk: Desk, tmp_path: Path) -> Gym:
        gym = Gym(tmp_path / "training", desk.tool)
        gym.pictures(5, WRONG, TRUTH)
        return gym

    def test_each_box_was_asked_of_the_model_that_has_not_seen_it(self, gym: Gym) -> None:
        gym.train()
        attached, _ = cross_fit(gym).attach(records(gym))
        assert [[p.box for p in r.probes] for r in attached] == [[b.xyxy for b in (CAT, ELSEWHERE, LOOSE_CAT, DOG)]] * 5
        cat, nothing, *_ = attached[0].probes
        assert dict(cat.chances)["cat"] > 0.9  # of the small copies, in which JPEG blurs edges
        assert nothing.chances == ()
        assert gym.tool.calls["read_image"] == 5  # all of them to train

    def test_models_answered_out_of_sample(self, gym: Gym, monkeypatch: pytest.MonkeyPatch) -> None:
        asked: list[bool] = []

        def note(self: Rememberer, image: npt.NDArray[np.uint8], boxes: npt.NDArray[np.float64]) -> Probes:
            asked.append(image.tobytes() in self.shown)
            return AskedDetector.score_regions(self, image, boxes)

        monkeypatch.setattr(Rememberer, "score_regions", note)
        gym.train()
        assert asked == [False] * 5

    def test_answers_are_in_pixels_of_the_original(self, gym: Gym) -> None:
        """The trainer looks at small copies."""
        gym.tool.images.clear()
        gym.tool.people.clear()
        large = [(label, Box(*(4 * v for v in box.xyxy))) for label, box in TRUTH]
        for seed in range(4):
            gym.tool.add_item(varied(seed, large, 4 * WIDTH, 4 * HEIGHT), large)
        gym.train(folds=2)
        attached, _ = cross_fit(gym).attach(records(gym))
        for probe, (label, box) in zip(attached[0].probes, large, strict=True):
            assert dict(probe.chances)[label] > 0.8
            np.testing.assert_allclose(probe.xyxy, box.xyxy, atol=4 * 160 / gym.trainer.side)

    def test_a_box_that_moved_since_has_no_answer_and_one_that_was_renamed_keeps_it(self, gym: Gym) -> None:
        gym.train()
        gym.tool.submit("1", [Annotation("1a:0", "cat", CAT), Annotation("1a:1", "cat", replace(ELSEWHERE, x1=90.0))])
        attached, _ = cross_fit(gym).attach(records(gym))
        assert [p.box for p in attached[0].probes] == [CAT.xyxy, DOG.xyxy]  # the dog is somebody else's

    def test_new_images_are_asked_of_the_final_model(self, gym: Gym) -> None:
        gym.train()
        gym.tool.add_item(varied(50), TRUTH)
        attached, _ = cross_fit(gym).attach(records(gym))
        assert [p.box for p in attached[-1].probes] == [CAT.xyxy, DOG.xyxy]

    @pytest.mark.parametrize("part", ["fold 1 of 3", "fold 3 of 3", "final model"])
    def test_a_killed_training_keeps_its_answers(self, gym: Gym, part: str) -> None:
        gym.trainer.kill_in = (part.replace(" ", "-"), 1)
        with pytest.raises(Killed):
            gym.train()
        gym.train()
        attached, _ = cross_fit(gym).attach(records(gym))
        assert [len(r.probes) for r in attached] == [4] * 5

    def test_a_training_of_an_older_version_has_none(self, gym: Gym) -> None:
        (gym.train().folder / "probes.json").unlink()
        attached, _ = cross_fit(gym).attach(records(gym))
        assert {r.probes for r in attached} == {()}


def cross_fit(gym: Gym) -> CrossFitPredictions:
    final = ModelPredictions(ImageReader(gym.tool, 10**6), Rememberer(name="final"), BOTH, 2, 0.05, probes=True)
    return CrossFitPredictions(latest(gym.folder, gym.tool.target), 0.05, final)


def records(gym: Gym) -> list[Record]:
    return list(gym.tool.read_page(None, 100).records)


def _with(plain: Record, *probes: Probe) -> Record:
    return replace(plain, predicted_by=("m",), probes=probes)
