"""What a run tells of where its predictions come from: models known by their names, and accepted suggestions."""

from __future__ import annotations

from pathlib import Path

import pytest
from fakes.pictures import CAT, TRUTH
from flow_kit import Desk
from training_kit import Gym, varied

from bridge.core.annotations import Box, Prediction
from bridge.flows.independence import Independence, ModelOrigin
from bridge.flows.score import ScoreResult
from bridge.flows.sources import ImageReader, StoredPredictions
from bridge.flows.trained_models import TrainedModels
from bridge.scorers.consensus_review import ConsensusReview

CAT_ONLY = (("cat", CAT),)


class Office(Gym):
    """A project whose predictions are those that `prelabel` stored."""

    def stored(self, desk: Desk) -> ScoreResult:
        origins = TrainedModels(self.folder).provenance
        return desk.score(StoredPredictions(None, origins, ImageReader(self.tool, 10**6)))

    def prelabel(self, model: str, *items: str, shift: float = 0.25) -> None:
        for item in items:
            found = [(label, Box(*(v + shift for v in box.xyxy))) for label, box in TRUTH]
            self.tool.models[model, item] = tuple(Prediction(label, box, 0.9, model) for label, box in found)


@pytest.fixture
def office(desk: Desk, tmp_path: Path) -> Office:
    office = Office(tmp_path / "training", desk.tool)
    office.pictures(5)
    office.pictures(1, CAT_ONLY)
    return office


class TestStored:
    def test_by_the_name_of_their_model(self, office: Office, desk: Desk) -> None:
        record = office.train().record
        model = record["model"]
        office.prelabel(model, "1", "2", "6")
        new = office.tool.add_item(varied(70), TRUTH)
        office.prelabel(model, new)
        reads = office.tool.calls["read_image"]
        (origin,) = office.stored(desk).independence.models
        assert (origin.model, origin.inside, origin.outside, origin.unknown) == (model, 3, 1, 0)
        assert (origin.trained_on, origin.snapshot) == (("memory:1",), record["snapshot"])
        assert office.tool.calls["read_image"] == reads
        assert desk.finding("6", "missing").finding.evidence["in_sample"] is True

    @pytest.mark.parametrize("added", ["-tile640", "+grabcut-1", "-tile640+sam_vit_b-1"])
    def test_by_the_name_that_it_is_served_under(self, office: Office, desk: Desk, added: str) -> None:
        model = office.train().record["model"] + added
        office.prelabel(model, "1")
        (origin,) = office.stored(desk).independence.models
        assert (origin.model, origin.inside) == (model, 1)

    def test_of_a_model_trained_on_another_target_the_pixels_tell(self, office: Office, desk: Desk) -> None:
        office.tool.target = "memory:2"
        model = office.train().record["model"]
        office.tool.target = "memory:1"
        new, broken = office.tool.add_item(varied(70), TRUTH), office.tool.add_item(None, TRUTH)
        office.prelabel(model, "1", new, broken)
        (origin,) = office.stored(desk).independence.models
        assert (origin.inside, origin.outside, origin.unknown) == (1, 1, 1)

    def test_several_models(self, office: Office, desk: Desk) -> None:
        model = office.train().record["model"]
        office.prelabel(model, "1", "6")
        office.prelabel("a-stranger", "1", "2")
        result = office.stored(desk)
        told = {m.model: (m.inside, m.outside, m.unknown) for m in result.independence.models}
        assert told == {"a-stranger": (0, 0, 2), model: (2, 0, 0)}
        assert [model in words for words in result.independence.warnings("memory:1")] == [True]
        assert "a-stranger" in result.independence.notes()[0]

    def test_pages_make_no_difference(self, office: Office, desk: Desk) -> None:
        office.prelabel(office.train().record["model"], "1", "2", "6")
        origins = TrainedModels(office.folder).provenance
        source = StoredPredictions(None, origins, ImageReader(office.tool, 10**6))
        first, other = (desk.score(source, page_size=size) for size in (1, 100))
        assert first.independence == other.independence


def test_what_people_agree_on_does_not_count_for_less(office: Office, desk: Desk) -> None:
    """A finding of the consensus rests on the other people, not on the model."""
    office.pictures(4, TRUTH, TRUTH, CAT_ONLY)
    model = office.train().record["model"]
    office.prelabel(model, *office.tool.images)
    office.stored(desk)
    found = {f.finding.item_id: f.finding for f in desk.findings(errors=["missing"])}
    assert found["6"].evidence["in_sample"] is True
    assert found["7"].scorer == ConsensusReview().name
    assert "in_sample" not in found["7"].evidence


class TestCopies:
    def test_accepted_suggestions_are_counted_and_told(self, office: Office, desk: Desk) -> None:
        office.prelabel("m", "1", "2", shift=0.0)
        office.prelabel("m", "3")
        result = office.stored(desk)
        assert (result.independence.copies, result.independence.boxes) == (4, 6)
        (words,) = result.independence.warnings("memory:1")
        assert words.startswith("4 of 6 boxes are suggestions of the model that scores them, accepted unchanged")

    def test_hardly_any_are_not_worth_a_word(self) -> None:
        models = (ModelOrigin("m", 0, 0, 900),)
        assert Independence(models, boxes=1000, copies=10).warnings("t") == []
        assert Independence(models, boxes=1000, copies=11).warnings("t") != []


def test_there_and_back() -> None:
    whole = Independence((ModelOrigin("m", 1, 2, 3, ("ls:project/7",), "5a", 5), ModelOrigin("n", 0, 0, 1)), 9, 4)
    assert Independence.from_dict(whole.to_dict()) == whole


def test_a_run_of_before_tells_nothing() -> None:
    nothing = Independence.from_dict({})
    assert (nothing.warnings("t"), nothing.notes()) == ([], [])
