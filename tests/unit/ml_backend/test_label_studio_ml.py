"""Models written for Label Studio's own server, behind our protocols."""

from __future__ import annotations

import importlib
import math
import re
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from fakes import ml_models
from hypothesis import given, settings
from hypothesis import strategies as st

from bridge.core.annotations import Box, Polygon
from bridge.core.masks import MaskCrop
from bridge.core.rle import encode_brush
from bridge.dialects.label_studio import parse_label_config
from bridge.errors import ImageError, LabelbridgeError, ModelError
from ml_backend.models import Detections, Interactor, Predictor, Prompt
from ml_backend.models.catalogue import ModelSpec, describe, load
from ml_backend.models.label_studio_ml_regions import only_prediction, read_regions, to_detections, to_mask, wire_form

Image = np.ndarray[Any, np.dtype[np.uint8]]

RECTANGLES = (
    '<View><Image name="image" value="$image"/><RectangleLabels name="label" toName="image">'
    '<Label value="cat"/><Label value="dog"/></RectangleLabels></View>'
)
BRUSHES = RECTANGLES.replace("RectangleLabels", "BrushLabels").replace('"label"', '"brush"')
POLYGONS = RECTANGLES.replace("RectangleLabels", "PolygonLabels")
SMART = BRUSHES.replace(
    "</View>",
    '<KeyPointLabels name="kp" toName="image" smart="true"><Label value="cat"/></KeyPointLabels>'
    '<RectangleLabels name="box" toName="image" smart="true"><Label value="cat"/></RectangleLabels></View>',
)
CHOICES = (
    '<View><Image name="photo" value="$photo"/><Choices name="kind" toName="photo">'
    '<Choice value="cat"/><Choice value="dog"/></Choices></View>'
)


def scene(*objects: tuple[int, tuple[int, int, int, int]], size: tuple[int, int] = (200, 100)) -> Image:
    image = np.zeros((size[1], size[0], 3), np.uint8)
    for channel, (x1, y1, x2, y2) in objects:
        image[y1:y2, x1:x2, channel] = 254
    return image


CAT, DOG = (0, (10, 20, 50, 60)), (1, (100, 30, 140, 90))


def spec(name: str, config: str | None = None, folder: Path | None = None, **options: Any) -> ModelSpec:
    if config is None or folder is None:
        return ModelSpec(f"fakes.ml_models:{name}", classes=("cat", "dog"), **options)
    path = folder / "labels.xml"
    path.write_text(config, encoding="utf-8")
    return ModelSpec(f"fakes.ml_models:{name}", weights=path, **options)


def predictor(name: str, config: str | None = None, folder: Path | None = None, **options: Any) -> Predictor:
    return cast(Predictor, load(spec(name, config, folder, **options)))


@pytest.fixture
def canned(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """``canned(answer, config)`` is what becomes of an answer on a black image of 200 x 100."""

    def see(answer: Any, config: str = RECTANGLES) -> Detections:
        monkeypatch.setattr(ml_models.Canned, "answer", answer)
        return predictor("Canned", config, tmp_path).predict([scene()])[0]

    return see


def region(kind: str = "rectanglelabels", **value: Any) -> dict[str, Any]:
    value = value or {"x": 5, "y": 20, "width": 20, "height": 40}
    names = value.pop("names", ["cat"])
    return {"id": "r", "from_name": "label", "to_name": "image", "type": kind, "value": {**value, kind: names}}


def test_the_first_generation_answers_boxes_with_its_numpy_scores() -> None:
    model = predictor("OldBoxes")
    assert (model.kind, model.classes) == ("rectangle", ("cat", "dog"))
    both, none, one = model.predict([scene(CAT, DOG), scene(), scene(CAT)])
    assert both.xyxy.tolist() == [[100, 30, 140, 90], [10, 20, 50, 60]]
    assert both.label.tolist() == [1, 0]
    assert both.confidence.tolist() == [0.75, 0.5]
    assert len(none.xyxy) == 0
    assert one.xyxy.tolist() == [[10, 20, 50, 60]]


def test_the_second_generation_answers_masks_in_the_sdks_objects(tmp_path: Path) -> None:
    model = predictor("NewMasks", BRUSHES, tmp_path)
    assert model.kind == "mask"
    (found,) = model.predict([scene(DOG)])
    assert found.label.tolist() == [1]
    assert found.confidence.tolist() == [0.875]
    assert found.xyxy.tolist() == [[100, 30, 140, 90]]
    assert np.array_equal(found.masks[0].full(100, 200), scene(DOG)[:, :, 1] > 0)


def test_a_plain_class_answers_tags_about_a_path(tmp_path: Path) -> None:
    model = predictor("Tagger", CHOICES, tmp_path)
    assert model.kind == "tag"
    found = model.predict([scene(CAT, DOG)])[0]
    assert found.xyxy.tolist() == [[0, 0, 200, 100]] * 2
    assert found.label.tolist() == [0, 1]
    assert found.confidence.tolist() == [0.6, 0.6]


def test_the_card_is_that_of_the_loaded_model(tmp_path: Path) -> None:
    for name, config, role in (
        ("OldBoxes", RECTANGLES, "rectangle"),
        ("NewMasks", BRUSHES, "mask"),
        ("NewMasks", POLYGONS, "mask"),
        ("Tagger", CHOICES, "tag"),
        ("Clicked", SMART, "interactor"),
    ):
        wanted = spec(name, config, tmp_path)
        card, model = describe(wanted), load(wanted)
        assert card.name == model.name
        assert card.role == role == getattr(model, "kind", "interactor")
        assert card.classes == (("cat", "dog") if role != "interactor" else ())
        assert card.score_threshold == 0.0


def test_a_threshold_drops_what_is_fainter() -> None:
    assert predictor("OldBoxes", score_threshold=0.6).predict([scene(CAT, DOG)])[0].label.tolist() == [1]


def test_one_object_answers_all_calls(tmp_path: Path) -> None:
    before = ml_models.NewMasks.made
    model = predictor("NewMasks", BRUSHES, tmp_path)
    for _ in range(3):
        model.predict([scene(CAT), scene(DOG)])
    assert ml_models.NewMasks.made == before + 1


def test_equal_images_have_equal_names_others_have_others_and_none_stays_behind() -> None:
    model = predictor("OldBoxes")
    ml_models.READ.clear()
    model.predict([scene(CAT), scene(DOG), scene(CAT)])
    first, second, third = ml_models.READ
    assert first == third != second
    assert not Path(first).parent.exists()


def test_a_folder_that_cannot_be_written_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    model = predictor("OldBoxes")
    monkeypatch.setattr(tempfile, "tempdir", None)
    tmp_path.rmdir()
    with pytest.raises(ModelError, match=r"cannot be written.*No such file.*TMPDIR"):
        model.predict([scene()])


def test_a_file_is_gone_after_their_code_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    model = predictor("OldBoxes")
    ml_models.READ.clear()
    monkeypatch.setattr(ml_models, "bright", None)
    with pytest.raises(ModelError, match="TypeError"):
        model.predict([scene()])
    assert not Path(ml_models.READ[0]).parent.exists()


def test_the_image_reaches_their_code_pixel_for_pixel(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    def keep(pixels: Any) -> list[Any]:
        seen.append(pixels)
        return []

    monkeypatch.setattr(ml_models, "bright", keep)
    noise = np.random.default_rng(1).integers(0, 256, (37, 53, 3), np.uint8)
    predictor("OldBoxes").predict([noise, noise[::-1, ::-1]])
    assert np.array_equal(seen[0], noise)
    assert np.array_equal(seen[1], noise[::-1, ::-1])


def test_the_name_follows_the_file_and_the_label_configuration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    module = tmp_path / "my_own_model.py"
    module.write_text("raise RuntimeError('describing runs nothing')\n")
    wanted = ModelSpec("my_own_model:Mine", classes=("a",))
    name = describe(wanted).name
    assert name.startswith("Mine-")
    assert describe(wanted).name == name
    assert describe(ModelSpec("my_own_model:Mine", classes=("b",))).name != name
    module.write_text("raise RuntimeError('version 2')\n")
    assert describe(wanted).name != name


def test_a_name_can_be_an_id() -> None:
    name = describe(spec("Größenwahn" * 9)).name
    assert re.fullmatch(r"Gr__enwahn[A-Za-z_]{30}-[0-9a-f]{12}", name)


@pytest.fixture
def forget() -> Iterator[None]:
    """Modules that tests write are not remembered."""
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        if name.startswith("odd_"):
            del sys.modules[name]
    importlib.invalidate_caches()


@pytest.mark.usefixtures("forget")
@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("import no_such_package_anywhere\n", "no_such_package_anywhere"),
        ("def (:\n", "SyntaxError"),
        ("raise ValueError('first\\nsecond')\n", "ValueError: first."),
        ("Mine = None\n", "no model class Mine"),
        ("class Mine: pass\n", "no model class Mine"),
        ("class Mine:\n def __init__(self, checkpoint): pass\n predict = None\n", "no model class Mine"),
        ("class Mine:\n def __init__(self, checkpoint): pass\n def predict(self, tasks): pass\n", "checkpoint"),
    ],
)
def test_code_that_cannot_be_loaded_is_told_in_one_line(
    source: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "odd_model.py").write_text(source)
    importlib.invalidate_caches()
    with pytest.raises(ModelError) as caught:
        load(ModelSpec("odd_model:Mine", classes=("a",)))
    assert message in str(caught.value)
    assert "second" not in str(caught.value)
    assert caught.value.todo


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("BadStart", "RuntimeError: the checkpoint is missing."),
        ("GivesUp", "SystemExit: 3"),
        ("NoPredict", "no model class"),
        ("Nobody", "no model class"),
        ("NO_CLASS", "no model class"),
    ],
)
def test_a_class_that_cannot_be_made_is_told_in_one_line(name: str, message: str) -> None:
    with pytest.raises(ModelError) as caught:
        load(spec(name))
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        (ModelSpec("no_such_module_here:Model", classes=("a",)), "no module no_such_module_here"),
        (ModelSpec("no_such_package.module:Model", classes=("a",)), "no_such_package"),
        (ModelSpec("fakes:Model", classes=("a",)), "no module fakes"),
        (ModelSpec("fakes.ml_models:OldBoxes"), "nobody says what"),
        (ModelSpec("fakes.ml_models:OldBoxes", weights=Path("model.pth")), ".xml"),
        (ModelSpec("fakes.ml_models:OldBoxes", weights=Path("/no/such.xml")), "cannot be read"),
        (ModelSpec("fakes.ml_models:OldBoxes", weights=Path("a.xml"), classes=("a",)), "both"),
    ],
)
def test_what_cannot_be_described_says_what_is_missing(wanted: ModelSpec, message: str) -> None:
    with pytest.raises(ModelError) as caught:
        describe(wanted)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    "config",
    [
        "no xml",
        "<View><Text name='t' value='$text'/></View>",
        "<View><Image name='image' value='$image'/></View>",
        "<View><Image name='image' value='$image'/><RectangleLabels name='r' toName='image'/></View>",
        "<View><Image name='image' value='$image'/><TextArea name='r' toName='image'/></View>",
    ],
)
def test_a_label_configuration_without_image_or_labels_is_refused(config: str, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="label configuration"):
        describe(spec("OldBoxes", config, tmp_path))


def test_names_are_escaped_in_the_configuration_made_from_classes() -> None:
    classes = ('R&D "best"', "<b>", "ärger")
    assert describe(ModelSpec("fakes.ml_models:OldBoxes", classes=classes)).classes == classes


def test_the_first_control_decides_and_labels_may_stand_beside_shapes(tmp_path: Path) -> None:
    shapes = (
        '<View><Image name="image" value="$image"/><Labels name="l" toName="image"><Label value="cat"/></Labels>'
        '<Polygon name="p" toName="image"/><Rectangle name="r" toName="image"/></View>'
    )
    card = describe(spec("OldBoxes", shapes, tmp_path))
    assert (card.role, card.classes) == ("mask", ("cat",))


def test_an_image_that_is_none_is_named_by_its_place() -> None:
    with pytest.raises(ImageError, match="image 1"):
        predictor("OldBoxes").predict([scene(), np.zeros((4, 4), np.uint8)])


@pytest.mark.parametrize(
    "answer",
    [
        None,
        [],
        {},
        [{}],
        [[]],
        [None],
        [{"result": None}],
        [{"result": []}],
        {"predictions": []},
        {"results": [{"result": [], "score": None}]},
    ],
)
def test_no_prediction_is_no_detection(answer: Any, canned: Any) -> None:
    assert len(canned(answer).xyxy) == 0


@pytest.mark.parametrize(
    "answer",
    [
        [{"result": [region()]}],
        {"result": [region()]},
        {"predictions": [{"result": [region()]}]},
        {"results": [[{"result": [region()]}, {"result": []}]]},
        ml_models.ModelResponse([ml_models.PredictionValue([region()])]),
        [ml_models.PredictionValue([region()])],
        ({"result": (region(),)},),
    ],
)
def test_a_prediction_is_found_in_every_wrapping(answer: Any, canned: Any) -> None:
    assert canned(answer).xyxy.tolist() == [[10, 20, 50, 60]]


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ("cat", 'its answer is "cat"'),
        (7, "its answer is 7"),
        ([{"result": "x"}], "its answer is"),
        ([{"result": [{1, 2}]}], "no JSON form"),
        ([{"result": [b"rle"]}], "no JSON form"),
        (RuntimeError("out of memory\nTraceback ..."), "Canned.predict failed: RuntimeError: out of memory."),
        (KeyError(), "Canned.predict failed: KeyError."),
        (SystemExit(1), "Canned.predict failed: SystemExit: 1."),
        ([{"result": [region(x="left", y=1, width=2, height=3)]}], "no region that Canned answered can be read"),
    ],
)
def test_an_answer_that_is_none_is_an_error_in_one_line(answer: Any, message: str, canned: Any) -> None:
    with pytest.raises(ModelError) as caught:
        canned(answer)
    assert message in str(caught.value)
    assert "Traceback" not in str(caught.value)


def test_a_stop_from_the_keyboard_stays_one(canned: Any) -> None:
    with pytest.raises(KeyboardInterrupt):
        canned(KeyboardInterrupt())


def test_one_broken_region_costs_the_others_nothing(canned: Any, caplog: pytest.LogCaptureFixture) -> None:
    broken = [
        region(x=float("nan"), y=0, width=5, height=5),
        region(x=0, y=0, width=0, height=5),
        region(x=0, y=0, width=-5, height=5),
        region(x=1e300, y=0, width=5, height=5),
        {"type": "rectanglelabels", "value": None},
        {"type": ["rectanglelabels"]},
        {"type": "relation", "from_id": "a", "to_id": "b"},
        "region",
        None,
        {**region(), "id": "other", "to_name": "text"},
        region("keypointlabels", x=1, y=1, width=1),
        region("polygonlabels", points=[[0, 0], [1, 1]]),
        region("brushlabels", format="rle", rle=[1, 2, 3]),
        region("brushlabels", format="rle"),
    ]
    for number, entry in enumerate(broken):
        if isinstance(entry, dict) and "id" in entry:
            entry["id"] = f"broken {number}"
    found = canned([{"result": [*broken, region()]}])
    assert found.xyxy.tolist() == [[10, 20, 50, 60]]
    assert len([record for record in caplog.records if "cannot be read" in record.getMessage()]) == 8


def test_labels_match_without_regard_to_case_and_strangers_are_dropped_and_told_once(
    canned: Any, caplog: pytest.LogCaptureFixture
) -> None:
    entries = [{**region(), "id": str(i)} for i in range(3)]
    for entry, label in zip(entries, ("Cat", "bird", "bird"), strict=True):
        entry["value"]["rectanglelabels"] = [label]
    assert canned([{"result": entries}]).label.tolist() == [0]
    assert [record.getMessage() for record in caplog.records if "'bird'" in record.getMessage()] != []
    assert len([record for record in caplog.records if "'bird'" in record.getMessage()]) == 1


@pytest.mark.parametrize(
    ("regional", "overall", "expected"),
    [
        (0.25, 0.5, 0.25),
        (None, 0.5, 0.5),
        (None, 0.0, 1.0),
        (None, None, 1.0),
        (3.5, None, 1.0),
        (-1, None, 0.0),
        (float("nan"), 0.5, 0.5),
        ("high", 0.5, 0.5),
        (True, 0.5, 0.5),
    ],
)
def test_the_score_of_a_region_comes_before_that_of_the_image(
    regional: Any, overall: Any, expected: float, canned: Any
) -> None:
    found = canned([{"result": [{**region(), "score": regional}], "score": overall}])
    assert found.confidence.tolist() == [expected]


def test_every_shape_is_answered_as_a_box_where_boxes_are_wanted(canned: Any) -> None:
    turned = region(x=50, y=50, width=10, height=20, rotation=90)  # about its top-left corner, 20 x 20 pixels
    ring = region("polygonlabels", points=[[5, 20], [25, 20], [25, 60]])
    mask = np.zeros((100, 200), bool)
    mask[30:40, 60:90] = True
    brush = region("brushlabels", format="rle", rle=encode_brush(mask))
    outside = region(x=90, y=90, width=50, height=50)
    entries = [{**entry, "id": str(i)} for i, entry in enumerate((turned, ring, brush, outside))]
    found = canned([{"result": entries}])
    np.testing.assert_allclose(found.xyxy, [[80, 50, 100, 70], [10, 20, 50, 60], [60, 30, 90, 40], [180, 90, 200, 100]])


def test_a_region_beside_the_image_is_dropped(canned: Any) -> None:
    assert len(canned([{"result": [region(x=120, y=0, width=10, height=10)]}]).xyxy) == 0
    assert len(canned([{"result": [region(x=120, y=0, width=10, height=10)]}], BRUSHES).xyxy) == 0


@pytest.mark.parametrize("far", [1e8, 1e307, -1e308])
def test_coordinates_far_from_the_image_are_no_region(far: float, canned: Any) -> None:
    entry = region("polygonlabels", points=[[-far, -far], [far, 0], [0, far]])
    for config in (RECTANGLES, POLYGONS):
        with pytest.raises(ModelError, match="near the image"):
            canned([{"result": [entry]}], config)


def test_every_shape_is_answered_as_a_mask_where_masks_are_wanted(canned: Any) -> None:
    box = region(x=5, y=20, width=20, height=40)
    ring = region("polygonlabels", points=[[50, 50], [60, 50], [60, 70], [50, 70]])
    found = canned([{"result": [{**box, "id": "1"}, {**ring, "id": "2"}]}], POLYGONS)
    assert [mask.xyxy for mask in found.masks] == [(10, 20, 50, 60), (100, 50, 120, 70)]
    assert [mask.area for mask in found.masks] == [1600, 400]


def test_a_brush_in_another_size_is_stretched_to_the_image(canned: Any) -> None:
    small = np.zeros((50, 100), bool)
    small[10:20, 30:40] = True
    entry = region("brushlabels", format="rle", rle=encode_brush(small))
    entry |= {"original_width": 100, "original_height": 50}
    (mask,) = canned([{"result": [entry]}], BRUSHES).masks
    assert mask.xyxy == (60, 20, 80, 40)
    assert mask.area == 400


def test_choices_about_one_region_are_no_tags_of_the_image(canned: Any) -> None:
    config = CHOICES.replace("photo", "image")
    entry = region()
    note = {**entry, "type": "choices", "value": {**entry["value"], "choices": ["dog"]}}
    own = {"id": "w", "to_name": "image", "type": "choices", "value": {"choices": ["cat"]}}
    assert canned([{"result": [note, entry, own]}], config).label.tolist() == [0]


def clicked(folder: Path) -> Interactor:
    ml_models.Clicked.asked.clear()
    return cast(Interactor, load(spec("Clicked", SMART, folder)))


def test_a_smart_configuration_with_masks_makes_an_interactor(tmp_path: Path) -> None:
    model = clicked(tmp_path)
    kept = model.preprocess(scene(CAT, DOG))
    assert kept.nbytes > 0
    prompts = [
        Prompt(positive=((15.0, 25.0),)),
        Prompt(positive=((110.0, 40.0),), negative=((15.0, 25.0),)),
        Prompt(box=(95.0, 25.0, 145.0, 95.0)),
        Prompt(positive=((80.0, 5.0),)),
        Prompt(),
        Prompt(negative=((15.0, 25.0),)),
    ]
    answers = model.prompt(kept, prompts)
    assert [None if a is None else a.mask.xyxy for a in answers] == [
        (10, 20, 50, 60),
        (100, 30, 140, 90),
        (100, 30, 140, 90),
        None,
        None,
        None,
    ]
    assert [a.confidence for a in answers if a is not None] == [0.9] * 3
    assert len(ml_models.Clicked.asked) == 4


def test_prompts_arrive_as_the_editor_sends_them(tmp_path: Path) -> None:
    model = clicked(tmp_path)
    prompt = Prompt(positive=((20.0, 30.0),), negative=((100.0, 75.0),), box=(10.0, 20.0, 50.0, 60.0))
    model.prompt(model.preprocess(scene(CAT)), [prompt])
    ((box, positive, negative),) = (context["result"] for context in ml_models.Clicked.asked)
    assert (box["type"], box["from_name"], box["to_name"]) == ("rectanglelabels", "box", "image")
    assert box["value"] == {
        "x": 5.0,
        "y": 20.0,
        "width": 20.0,
        "height": 40.0,
        "rotation": 0.0,
        "labels": ["cat"],
        "rectanglelabels": ["cat"],
    }
    assert "is_positive" not in box
    assert (positive["type"], positive["from_name"], positive["is_positive"]) == ("keypointlabels", "kp", True)
    assert (positive["value"]["x"], positive["value"]["y"]) == (10.0, 30.0)
    assert (negative["value"]["x"], negative["value"]["y"], negative["is_positive"]) == (50.0, 75.0, False)
    assert len({box["id"], positive["id"], negative["id"]}) == 3


def test_prompts_beside_the_image_are_answered_too(tmp_path: Path) -> None:
    model = clicked(tmp_path)
    kept = model.preprocess(scene((0, (190, 90, 200, 100))))
    answers = model.prompt(
        kept,
        [
            Prompt(positive=((1e6, 500.0),)),
            Prompt(box=(300.0, 300.0, 400.0, 400.0)),
            Prompt(box=(185.0, 80.0, 900.0, 900.0)),
            Prompt(positive=((195.0, 95.0),), box=(-50.0, -50.0, -10.0, -10.0)),
        ],
    )
    assert [a is not None for a in answers] == [True, False, True, True]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=15,
)
NUMBERS = st.floats() | st.integers(-200, 300) | st.none() | st.text(max_size=2) | st.integers()
KINDS = ("rectanglelabels", "rectangle", "polygonlabels", "polygon", "brushlabels", "brush", "choices", "keypoint")
VALUES = st.fixed_dictionaries(
    {},
    optional={
        **dict.fromkeys(("x", "y", "width", "height", "rotation"), NUMBERS),
        "points": st.lists(st.lists(NUMBERS, max_size=3), max_size=5) | JSON,
        "rle": st.lists(st.integers(-1, 300), max_size=30) | JSON,
        **{kind: st.lists(st.sampled_from(["cat", "dog", "bird"]), max_size=2) | JSON for kind in KINDS},
    },
)
REGIONS = st.fixed_dictionaries(
    {"type": st.sampled_from(KINDS), "value": VALUES | JSON},
    optional={
        "id": st.sampled_from(["a", "b", 3, None]),
        "to_name": st.sampled_from(["image", "text", None]),
        "score": NUMBERS,
        "original_width": st.integers(-1, 50) | JSON,
        "original_height": st.integers(-1, 50),
    },
)


@settings(max_examples=300, deadline=None)
@given(st.lists(REGIONS | JSON, max_size=5), NUMBERS | JSON, st.sampled_from([RECTANGLES, POLYGONS, CHOICES]))
def test_whatever_the_regions_hold_the_detections_keep_their_contract(result: Any, score: Any, config: str) -> None:
    parsed = parse_label_config(config.replace("photo", "image"))
    kind: Any = {RECTANGLES: "rectangle", POLYGONS: "mask", CHOICES: "tag"}[config]
    try:
        prediction = only_prediction(wire_form([{"result": result, "score": score}]))
    except LabelbridgeError:
        return
    found, _ = read_regions(prediction or {}, parsed, (40, 30))
    seen = to_detections(found, kind, ("cat", "dog"), (40, 30), 0.0)
    boxes, confidence = seen.xyxy, seen.confidence
    assert np.isfinite(boxes).all()
    assert (boxes[:, 2:] > boxes[:, :2]).all()
    assert (boxes >= 0).all()
    assert (boxes <= [40, 30, 40, 30]).all()
    assert ((confidence >= 0) & (confidence <= 1)).all()
    assert (np.diff(confidence) <= 0).all()
    assert set(seen.label.tolist()) <= {0, 1}
    assert len(seen.masks) == (len(boxes) if kind == "mask" else 0)
    for mask in seen.masks:
        assert mask.area > 0
        assert mask.full(30, 40).sum() == mask.area


def _inside(x: float, y: float, ring: list[tuple[float, float]]) -> bool:
    """The even-odd rule, one point at a time."""
    odd = False
    for (x1, y1), (x2, y2) in zip(ring, ring[1:] + ring[:1], strict=True):
        if (y1 > y) != (y2 > y) and x < x1 + (y - y1) * (x2 - x1) / (y2 - y1):
            odd = not odd
    return odd


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.integers(-30, 60), st.integers(-30, 60)), min_size=3, max_size=8))
def test_a_polygon_covers_the_pixels_whose_centres_it_holds(thirds: list[tuple[int, int]]) -> None:
    """Moved by irrational amounts, so that no edge runs through a centre: there, rounding decides."""
    ring = [(x / 3 + math.sqrt(2) / 5, y / 3 + math.sqrt(3) / 7) for x, y in thirds]
    mask = to_mask(Polygon(tuple(ring)), (16, 12))
    expected = np.array([[_inside(x + 0.5, y + 0.5, ring) for x in range(16)] for y in range(12)])
    found = np.zeros((12, 16), bool) if mask is None else mask.full(12, 16)
    assert np.array_equal(found, expected)


def test_a_turned_box_becomes_the_mask_it_covers() -> None:
    mask = to_mask(Box(10, 20, 50, 40, 90.0), (100, 100))
    assert isinstance(mask, MaskCrop)
    assert mask.xyxy == (20, 10, 40, 50)
    assert mask.area == 800
