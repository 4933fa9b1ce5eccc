"""A detector whose boxes become masks."""

from __future__ import annotations

import numpy as np
import pytest
from serving_kit import Flood, SquareFinder, picture

from bridge.core.predictor import region_scorer
from bridge.errors import ModelError
from bridge.images import decode
from ml_backend.models.boxes_to_masks import BoxesToMasks
from ml_backend.models.catalogue import ModelSpec, describe, load, load_predictor

IMAGE = decode(picture((0, (10, 20, 60, 50)), (1, (100, 30, 180, 90))), "picture")


def test_every_box_gets_its_mask_in_one_pass() -> None:
    model = BoxesToMasks(SquareFinder(), Flood())
    assert (model.name, model.kind, model.classes) == ("square-finder-1+flood-1", "mask", ("cat", "dog"))
    (found,) = model.predict([IMAGE])
    by_label = dict(zip(found.label.tolist(), found.masks, strict=True))
    assert by_label[0].xyxy == (10, 20, 60, 50)
    assert by_label[1].bits.all()
    assert found.xyxy.tolist() == [list(mask.xyxy) for mask in found.masks]


def test_a_detection_without_a_mask_keeps_its_box() -> None:
    class Blind(Flood):
        def prompt(self, preprocessed: object, prompts: object) -> list[None]:  # type: ignore[override]
            return [None] * len(prompts)  # type: ignore[arg-type]

    (found,) = BoxesToMasks(SquareFinder(), Blind()).predict([IMAGE])
    assert len(found.masks) == 2
    assert sorted(mask.xyxy for mask in found.masks) == [(10, 20, 60, 50), (100, 30, 180, 90)]
    assert all(mask.bits.all() for mask in found.masks)


def test_an_image_without_objects() -> None:
    (found,) = BoxesToMasks(SquareFinder(), Flood()).predict([np.zeros((40, 50, 3), np.uint8)])
    assert (len(found.label), found.masks) == (0, ())


def test_named_as_a_pair() -> None:
    card = describe(ModelSpec("embedded+grabcut"))
    assert card.role == "mask"
    assert card.name.startswith("parts-ssdlite-1+grabcut")
    model = load(ModelSpec("embedded+grabcut", device="cpu"))
    assert model.name == card.name


def test_given_boxes_are_a_question_for_the_detector() -> None:
    pair, alone = load(ModelSpec("embedded+grabcut", device="cpu")), load_predictor(device="cpu")
    asked, told = region_scorer(pair), region_scorer(alone)
    assert asked is not None
    assert told is not None
    boxes = np.array([[10.0, 20.0, 60.0, 50.0]])
    np.testing.assert_array_equal(
        asked.score_regions(IMAGE, boxes).probabilities, told.score_regions(IMAGE, boxes).probabilities
    )
    assert region_scorer(BoxesToMasks(SquareFinder(), Flood())) is None


@pytest.mark.parametrize("spec", ["embedded+embedded", "grabcut+embedded", "embedded+", "+grabcut", "a+b+c"])
def test_what_is_no_pair_is_told(spec: str) -> None:
    with pytest.raises(ModelError):
        describe(ModelSpec(spec))
