"""bridge.core.provenance: what a model was trained on, and which boxes are its own."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from bridge.core.annotations import Annotation, Box, Item, LabelSet, Prediction, Record, Sample, Submission
from bridge.core.objects import build_workload
from bridge.core.provenance import Provenance, copies, pixel_mark, place_mark, tally

HERE, THERE = "ls:project/7", "coco:train.json"
CAT = Box(10.0, 20.0, 30.5, 41.25)
PIXELS = np.arange(24, dtype=np.uint8).reshape(2, 4, 3)


def item(number: int = 1, image: str = "a.jpg") -> Item:
    return Item(str(number), "a.jpg", image)


def record(
    given: Sequence[Annotation],
    predicted: Sequence[Prediction],
    number: int = 1,
    samples: tuple[Sample, ...] = (),
    models: tuple[str, ...] = ("m",),
) -> Record:
    return Record(item(number), (Submission("s", "ann", tuple(given)),), tuple(predicted), (), models, samples)


class TestSample:
    def test_by_its_place(self) -> None:
        model = Provenance("m", (HERE,), seen=frozenset({place_mark(HERE, item())}))
        assert model.sample(HERE, item()) == "in"
        assert model.sample(HERE, item(2)) == "out"
        assert model.sample(HERE, item(image="another.jpg")) == "out"

    def test_by_its_pixels_wherever_it_is(self) -> None:
        model = Provenance("m", (THERE,), seen=frozenset({pixel_mark(PIXELS)}))
        assert model.sample(HERE, item(5, "elsewhere.png"), PIXELS) == "in"
        assert model.sample(HERE, item(), PIXELS + 1) == "out"
        assert model.sample(THERE, item(9), PIXELS) == "in"

    def test_another_target_without_pixels_is_not_known(self) -> None:
        assert Provenance("m", (THERE,)).sample(HERE, item()) == "unknown"

    def test_the_shape_of_an_image_counts(self) -> None:
        assert pixel_mark(PIXELS) != pixel_mark(PIXELS.reshape(4, 2, 3))
        assert pixel_mark(PIXELS[:, ::-1][:, ::-1]) == pixel_mark(PIXELS)


class TestManifest:
    def test_there_and_back(self) -> None:
        model = Provenance("m-1", (HERE, THERE), "5a5a", seen=frozenset({"ab", "cd"}))
        manifest = {"name": "m-1", "training": {"snapshot": "5a5a", "seen": model.to_notes()}}
        assert Provenance.from_manifest(json.loads(json.dumps(manifest))) == model

    def test_it_names_no_file(self) -> None:
        """A model is handed on; what its images are called stays at home."""
        seen = frozenset({place_mark(HERE, Item("1", "Jane Doe.jpg", "Jane Doe.jpg"))})
        assert "Jane" not in json.dumps(Provenance("m", (HERE,), seen=seen).to_notes())

    @pytest.mark.parametrize(
        "manifest",
        [
            None,
            [],
            {},
            {"name": "m", "training": None},
            {"name": "m", "training": {"snapshot": "a", "seen": 3}},
            {"name": "m", "training": {"snapshot": "a", "seen": {"targets": [], "marks": 3}}},
            {"name": "m", "training": {"snapshot": "a", "seen": {"targets": None, "marks": ""}}},
        ],
    )
    def test_of_other_models_nothing_is_known(self, manifest: Any) -> None:
        assert Provenance.from_manifest(manifest) is None


def test_tally() -> None:
    records = [
        record((), (), 1, ("in", "out"), ("b", "a")),
        record((), (), 2, ("in", "unknown"), ("b", "a")),
        record((), (), 3, (), ("b",)),
        Record(item(4), (), (), (), ("b",), ("in",)),
    ]
    assert tally(records) == {"a": {"out": 1, "unknown": 1}, "b": {"in": 2, "unknown": 1}}
    assert list(tally(records)) == ["a", "b"]


class TestCopies:
    def of(self, *records: Record) -> list[bool]:
        return copies(build_workload(HERE, LabelSet(("cat", "dog")), records)).tolist()

    def test_equal_to_a_hundredth_of_a_pixel(self) -> None:
        noise = Box(*(v + 0.003 for v in CAT.xyxy))
        moved = Box(CAT.x1 + 0.02, *CAT.xyxy[1:])
        given = [Annotation(str(k), "cat", box) for k, box in enumerate((CAT, noise, moved))]
        assert self.of(record(given, [Prediction("cat", CAT, 0.4, "m")])) == [True, True, False]

    def test_label_image_and_rotation_count(self) -> None:
        given = [Annotation("1", "cat", CAT)]
        turned = Box(*CAT.xyxy, rotation=2.0)
        assert self.of(record(given, [Prediction("dog", CAT, 0.9, "m")])) == [False]
        assert self.of(record(given, [Prediction("cat", turned, 0.9, "m")])) == [False]
        assert self.of(record(given, ()), record((), [Prediction("cat", CAT, 0.9, "m")], 2)) == [False]

    def test_nothing(self) -> None:
        assert self.of(record((), ())) == []
        assert self.of(record([Annotation("1", "cat", CAT)], ())) == [False]

    def test_no_box_of_a_person_equals_one_out_of_fold(self, shared: Any) -> None:
        """Predictions out of fold on real images: why a copy is no chance."""
        folder = shared / "data" / "scoring" / "bccd_real"
        coco = json.loads((folder / "corrupted.json").read_text())
        boxes: dict[int, tuple[list[Annotation], list[Prediction]]] = {i["id"]: ([], []) for i in coco["images"]}
        for a in coco["annotations"]:
            boxes[a["image_id"]][0].append(Annotation(str(a["id"]), str(a["category_id"]), _box(a["bbox"])))
        for p in json.loads((folder / "predictions_frcnn.json").read_text()):
            boxes[p["image_id"]][1].append(Prediction(str(p["category_id"]), _box(p["bbox"]), p["score"], "m"))
        labels = LabelSet(tuple(str(c["id"]) for c in coco["categories"]))
        records = [record(given, predicted, k) for k, (given, predicted) in boxes.items()]
        found = copies(build_workload(THERE, labels, records))
        assert (len(found), found.sum()) == (2838, 0)


def _box(xywh: Sequence[float]) -> Box:
    x, y, w, h = xywh
    return Box(x, y, x + w, y + h)
