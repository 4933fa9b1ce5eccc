"""The auto-annotation functions, run by the SDK's own driver against a small server that holds one task."""

from __future__ import annotations

import io
import logging
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fakes import bright_models
from fakes.cvat_task import ATTRIBUTE_IDS, LABEL_IDS, TASK, CvatTask
from PIL import Image
from serving_kit import picture

from bridge import images
from bridge.core.masks import MaskCrop
from bridge.core.rle import decode_cvat
from bridge.errors import ConfigError, LabelbridgeError, ModelError
from ml_backend import cvat_function
from ml_backend.models import Interactor

aa = pytest.importorskip("cvat_sdk.auto_annotation")
masks = pytest.importorskip("cvat_sdk.masks")

OWN = str(bright_models.PATH)
CAT, DOG = (0, (10, 20, 50, 60)), (1, (100, 30, 140, 90))
#: An L of two bars, filling 0.75 of its box.
HALF = [(0, (10, 20, 30, 60)), (0, (30, 40, 50, 60))]

Serve = Callable[..., CvatTask]


@pytest.fixture
def serve() -> Iterator[Serve]:
    servers: list[CvatTask] = []

    def begin(*arguments: Any, **options: Any) -> CvatTask:
        servers.append(CvatTask(*arguments, **options))
        return servers[-1]

    yield begin
    for server in servers:
        server.close()


def annotate(server: CvatTask, function: Any, folder: Path, **options: Any) -> dict[str, Any]:
    """What the SDK's driver writes to the server."""
    from cvat_sdk import Client
    from cvat_sdk.core.client import Config

    client = Client(server.url, config=Config(cache_dir=folder), logger=logging.getLogger("cvat"))
    with client:
        aa.annotate_task(client, TASK, function, **options)
    return server.written


def own(role: str, **options: Any) -> Any:
    return cvat_function.create(model=OWN, weights=role, **options)


def test_boxes_reach_the_task_under_its_own_label_ids_with_their_scores(serve: Serve, tmp_path: Path) -> None:
    server = serve({"dog": "rectangle", "cat": "any"}, {"a.png": picture(CAT), "b.png": picture(*HALF, DOG)})
    written = annotate(server, own("rectangle"), tmp_path)
    assert written["tags"] == []
    found = [(s["frame"], s["label_id"], s["type"], s["points"], s["score"], s["source"]) for s in written["shapes"]]
    dog, cat = LABEL_IDS, LABEL_IDS + 1
    assert found == [
        (0, cat, "rectangle", [10, 20, 50, 60], 1.0, "auto"),
        (1, dog, "rectangle", [100, 30, 140, 90], 1.0, "auto"),
        (1, cat, "rectangle", [10, 20, 50, 60], 0.75, "auto"),
    ]


def test_masks_come_back_pixel_for_pixel_through_the_sdks_own_decoder(serve: Serve, tmp_path: Path) -> None:
    server = serve({"cat": "mask", "dog": "mask"}, {"a.png": picture(*HALF)})
    (shape,) = annotate(server, own("mask"), tmp_path)["shapes"]
    assert shape["type"] == "mask"
    decoded = masks.decode_mask(shape["points"], image_width=200, image_height=100)
    expected = np.zeros((100, 200), bool)
    expected[20:60, 10:30] = expected[40:60, 30:50] = True
    assert np.array_equal(decoded, expected)


def test_masks_become_polygons_where_that_is_asked_for(serve: Serve, tmp_path: Path) -> None:
    server = serve({"cat": "polygon", "dog": "polygon"}, {"a.png": picture(*HALF)})
    (shape,) = annotate(server, own("mask", tolerance=0.0), tmp_path, conv_mask_to_poly=True)["shapes"]
    assert shape["type"] == "polygon"
    corners = {(10, 20), (30, 20), (30, 40), (50, 40), (50, 60), (10, 60)}
    assert set(zip(shape["points"][::2], shape["points"][1::2], strict=True)) == corners
    assert shape["score"] == 0.75


def test_tags_are_written_as_tags(serve: Serve, tmp_path: Path) -> None:
    server = serve({"cat": "tag", "dog": "tag"}, {"a.png": picture(DOG)})
    written = annotate(server, own("tag"), tmp_path)
    assert written["shapes"] == []
    assert [(t["frame"], t["label_id"], t["source"]) for t in written["tags"]] == [(0, LABEL_IDS + 1, "auto")]


@pytest.mark.parametrize(
    ("created", "asked", "expected"),
    [(None, None, 1), (0.8, None, 0), (0.7, None, 1), (0.9, 0.3, 1), (0.1, 0.8, 0), (None, 0.75, 1)],
)
def test_the_tasks_threshold_comes_before_the_functions_and_that_before_the_makers(
    created: float | None, asked: float | None, expected: int, serve: Serve, tmp_path: Path
) -> None:
    server = serve({"cat": "any", "dog": "any"}, {"a.png": picture(*HALF)})
    written = annotate(server, own("rectangle", threshold=created), tmp_path, conf_threshold=asked)
    assert len(written["shapes"]) == expected


def test_the_model_is_loaded_faint_enough_for_a_low_conf_threshold() -> None:
    dotted = np.zeros((100, 100, 3), np.uint8)
    dotted[::5, ::3, 0] = 254
    found = own("rectangle").detect(Context(conf_threshold=0.06), Image.fromarray(dotted))
    assert [round(shape.score, 3) for shape in found] == [0.071]


def test_the_score_is_kept_in_a_text_attribute_where_one_is_named(serve: Serve, tmp_path: Path) -> None:
    frames = {"a.png": picture(*HALF)}
    server = serve({"cat": "any", "dog": "any"}, frames, attributes=["other", "confidence"])
    for role, key in (("rectangle", "shapes"), ("tag", "tags")):
        server.seen.clear()
        written = annotate(server, own(role, score_attribute="confidence"), tmp_path)
        assert [a for s in written[key] for a in s["attributes"]] == [{"spec_id": ATTRIBUTE_IDS + 1, "value": "0.7500"}]


def test_a_project_without_the_attribute_is_told_so_or_goes_without(serve: Serve, tmp_path: Path) -> None:
    server = serve({"cat": "any", "dog": "any"}, {"a.png": picture(CAT)})
    function = own("rectangle", score_attribute="score")
    with pytest.raises(aa.BadFunctionError, match="attribute 'score'"):
        annotate(server, function, tmp_path)
    (shape,) = annotate(server, function, tmp_path, allow_unmatched_labels=True)["shapes"]
    assert shape["attributes"] == []
    assert shape["score"] == 1.0


def test_no_attribute_is_declared_unless_asked_for() -> None:
    assert [label.get("attributes", []) for label in own("rectangle").spec.labels] == [[], []]


def test_a_label_map_renames_classes_and_may_join_them(serve: Serve, tmp_path: Path) -> None:
    frames = {"a.png": picture(CAT, DOG)}
    server = serve({"animal": "rectangle"}, frames)
    function = own("rectangle", labels="cat=animal, dog=animal")
    assert [label.name for label in function.spec.labels] == ["animal"]
    assert [s["label_id"] for s in annotate(server, function, tmp_path)["shapes"]] == [LABEL_IDS] * 2
    other = serve({"chien": "rectangle"}, frames)
    in_a_file = tmp_path / "labels.yaml"
    in_a_file.write_text("dog: chien\n")
    written = annotate(other, own("rectangle", labels=str(in_a_file)), tmp_path / "2", allow_unmatched_labels=True)
    assert [s["points"] for s in written["shapes"]] == [[100, 30, 140, 90]]


@pytest.mark.parametrize(
    ("options", "found", "todo"),
    [
        ({"labels": "Cat=animal"}, "'Cat'", "cat, dog"),
        ({"labels": "cat"}, "'cat'", "car=vehicle"),
        ({"precision": "fp8"}, "'fp8'", "bf16"),
        ({"accelerator": "gpu"}, "'gpu'", "openvino"),
        ({"tile": -1}, "-1", "0 or more"),
        ({"tolerance": float("nan")}, "nan", "0 or more"),
        ({"threshold": 2.0}, "2.0", "from 0 to 1"),
    ],
)
def test_a_wrong_parameter_is_named_with_what_would_be_right(options: dict[str, Any], found: str, todo: str) -> None:
    with pytest.raises(LabelbridgeError) as caught:
        own("rectangle", **options)
    assert found in str(caught.value)
    assert todo in str(caught.value)


def test_a_missing_sdk_is_a_matter_of_an_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cvat_sdk.auto_annotation", None)
    with pytest.raises(ConfigError, match=r"labelbridge\[cvat\]"):
        own("rectangle")


def test_old_sdks_write_no_score_and_know_no_threshold(monkeypatch: pytest.MonkeyPatch) -> None:
    import cvat_sdk.models as models

    older = {k: v for k, v in models.LabeledShapeRequest.attribute_map.items() if k != "score"}
    monkeypatch.setattr(models.LabeledShapeRequest, "attribute_map", older)
    (shape,) = own("rectangle").detect(object(), Image.open(io.BytesIO(picture(*HALF))))
    assert "score" not in shape
    assert shape.points == [10, 20, 50, 60]


def test_old_sdks_are_too_old_for_interactors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(aa, "InteractionFunctionSpec")
    with pytest.raises(ConfigError, match=r"2\.75"):
        own("interactor")


@dataclass
class Context:
    frame_name: str = "a.png"
    conf_threshold: float | None = None
    conv_mask_to_poly: bool = False


@dataclass
class Prompts:
    pos_points: tuple[tuple[float, float], ...] = ()
    neg_points: tuple[tuple[float, float], ...] = ()
    bounding_box: tuple[tuple[float, float], tuple[float, float]] | None = None


@pytest.mark.parametrize(
    ("prompts", "expected"),
    [
        (Prompts(pos_points=((15.0, 25.0),)), (10, 20, 50, 60)),
        (Prompts(bounding_box=((90.0, 10.0), (150.0, 95.0))), (100, 30, 140, 90)),
        (Prompts(bounding_box=((150.0, 95.0), (90.0, 10.0))), (100, 30, 140, 90)),
        (Prompts(pos_points=((15.0, 25.0),), neg_points=((20.0, 30.0),)), None),
        (Prompts(pos_points=((80.0, 5.0),)), None),
        (Prompts(neg_points=((15.0, 25.0),)), None),
        (Prompts(), None),
    ],
)
def test_an_interactor_answers_prompts_with_one_mask(prompts: Prompts, expected: tuple[int, ...] | None) -> None:
    function = own("interactor")
    assert function.spec == aa.InteractionFunctionSpec(min_pos_points=0, min_neg_points=0, min_bounding_boxes=0)
    image = Image.open(io.BytesIO(picture(*HALF, DOG)))
    shapes = function.detect(object(), function.preprocess_image(object(), image), prompts)
    if expected is None:
        assert shapes == []
        return
    (shape,) = shapes
    assert shape.type == "mask"
    found = masks.decode_mask(shape.points, image_width=200, image_height=100)
    assert MaskCrop.of(found).xyxy == expected  # type: ignore[union-attr]
    assert [(a.spec_id, a.value) for a in shape.attributes] == [(0, "0.7500")]


def test_the_image_is_looked_at_once_for_many_prompts() -> None:
    looked: list[tuple[int, ...]] = []

    class Counting(bright_models.BrightInteractor):
        def preprocess(self, image: Any) -> Any:
            looked.append(image.shape)
            return super().preprocess(image)

    model: Interactor = Counting()
    function = cvat_function.InteractionFunction(model)
    kept = function.preprocess_image(None, Image.open(io.BytesIO(picture(CAT, DOG))))
    for x, y in ((15.0, 25.0), (110.0, 40.0)):
        assert len(function.detect(None, kept, Prompts(pos_points=((x, y),)))) == 1
    assert looked == [(100, 200, 3)]


def _file(image: Image.Image, kind: str, **options: Any) -> bytes:
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def _gradient(mode: str) -> Image.Image:
    values = np.arange(30 * 50, dtype=np.float32).reshape(30, 50)
    match mode:
        case "I;16":
            return Image.fromarray((values * 40).astype(np.uint16))
        case "I":
            return Image.fromarray((values * 4000 - 100).astype(np.int32))
        case "F":
            values[3, 4] = np.nan
            return Image.fromarray(values - 7.5)
        case _:
            red = (values % 256).astype(np.uint8)
            alpha = np.where(values > 700, 255, 30).astype(np.uint8)
            rgba = Image.fromarray(np.stack([red, red[::-1], red[:, ::-1], alpha], -1))
            return rgba.quantize(16) if mode == "P" else rgba.convert(mode)


def _files() -> Iterator[Any]:
    for mode in ("1", "L", "LA", "P", "RGB", "RGBA", "I;16"):
        yield pytest.param(_file(_gradient(mode), "PNG"), id=f"PNG {mode}")
    for mode in ("I", "F", "CMYK"):
        yield pytest.param(_file(_gradient(mode), "TIFF"), id=f"TIFF {mode}")
    yield pytest.param(_file(_gradient("CMYK"), "JPEG"), id="JPEG CMYK")
    for orientation in range(1, 9):
        exif = Image.Exif()
        exif[0x0112] = orientation
        yield pytest.param(_file(_gradient("RGB"), "JPEG", exif=exif), id=f"JPEG orientation {orientation}")


@pytest.mark.parametrize("data", list(_files()))
def test_a_frame_looks_as_the_same_file_does_everywhere_else(data: bytes) -> None:
    """The SDK opens frames with Pillow; CVAT measures them upright."""
    image = Image.open(io.BytesIO(data))
    image.load()
    assert np.array_equal(cvat_function.pixels(image), images.decode(data, "a"))


def test_a_frame_that_still_has_an_orientation_is_answered_upright(serve: Serve, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    lying = Image.open(io.BytesIO(picture(CAT)))
    server = serve({"cat": "any", "dog": "any"}, {"a.png": _file(lying, "PNG", exif=exif)})
    (shape,) = annotate(server, own("rectangle"), tmp_path)["shapes"]
    assert shape["points"] == [40, 10, 80, 50]  # of 100 x 200 pixels


@pytest.mark.parametrize("left", [0, 3])
def test_a_crop_that_is_not_tight_keeps_its_place(left: int) -> None:
    bits = np.zeros((5, 6), bool)
    bits[1:4, 2:5] = True
    points = cvat_function.mask_points(MaskCrop(left, 7, bits))
    expected = MaskCrop(left, 7, bits).full(20, 20)
    assert np.array_equal(decode_cvat(points, 20, 20), expected)
    assert np.array_equal(masks.decode_mask(points, image_width=20, image_height=20), expected)


def test_a_picture_on_which_the_model_fails_ends_the_run_with_its_message(serve: Serve, tmp_path: Path) -> None:
    cursed = picture((2, (0, 0, 1, 1)), size=(50, 50), level=255)
    server = serve({"cat": "any", "dog": "any"}, {"a.png": cursed})
    with pytest.raises(ModelError, match="cursed"):
        annotate(server, own("rectangle"), tmp_path)


def test_the_embedded_model_is_the_default(serve: Serve, tmp_path: Path) -> None:
    function = cvat_function.create()
    assert function.spec.labels
    assert {label.type for label in function.spec.labels} == {"rectangle"}
    server = serve({label.name: "rectangle" for label in function.spec.labels}, {"a.png": picture()})
    assert annotate(server, function, tmp_path)["shapes"] == []


def test_the_module_itself_imports_neither_the_sdk_nor_torch() -> None:
    """The command line imports it before it knows the parameters."""
    code = "import sys, ml_backend.cvat_function; print({'cvat_sdk', 'torch', 'cv2'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
