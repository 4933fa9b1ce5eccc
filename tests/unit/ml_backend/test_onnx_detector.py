"""ONNX detectors: real networks on real photos, and small networks written here that find a bright rectangle."""

from __future__ import annotations

import hashlib
import json
import re
import sys
import time
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any, get_args

import numpy as np
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx_kit import block, external_tensor, model, node, number, tensor, value

from bridge.core.geometry import iou_matrix
from bridge.core.metrics import average_precision
from bridge.core.predictor import Detections, Predictor
from bridge.errors import ConfigError, ImageError, ModelError
from bridge.images import decode
from ml_backend.models.catalogue import ModelSpec, describe, load, load_predictor
from ml_backend.models.onnx_file import has_external_data, with_constant_weights
from ml_backend.models.onnx_input import Colour, Preprocessing, Resize, to_input
from ml_backend.models.onnx_layouts import LAYOUTS
from ml_backend.models.onnx_manifest import OnnxManifest, read_onnx_manifest

Write = Callable[..., str]

REAL = {
    "picodet": ("picodet_s_416_coco.onnx", "cdab77bdde16e4f76bec734c4e5791801d1739e4c7ec1995e0e110e04300d0c2"),
    "yolox": ("yolox_nano_416_coco.onnx", "695e750a5d5754bb5a8d5325643b59282191a7e7a564e435a415fd3c578eab14"),
}


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """``write(data, **entries)`` puts a model and its manifest into a folder; answers the manifest's path."""

    def put(data: bytes, **entries: Any) -> str:
        (tmp_path / "m.onnx").write_bytes(data)
        manifest = {
            "family": "onnx_detector",
            "name": "tiny-1",
            "weights": "m.onnx",
            "sha256": hashlib.sha256(data).hexdigest(),
            "classes": ["red", "green", "blue"],
            "score_threshold": 0.3,
            "layout": "boxes",
            "outputs": {"boxes": "boxes", "scores": "scores", "labels": "labels"},
            **entries,
        }
        (tmp_path / "m.json").write_text(json.dumps({k: v for k, v in manifest.items() if v != "absent"}))
        return str(tmp_path / "m.json")

    return put


def rectangle_finder(
    batch: int | str = 1, height: int | str = 60, width: int | str = 80, dtype: str = "float32", rank: int = 4
) -> bytes:
    """One box around everything that is not black; its label is the strongest channel, its score the brightest value.

    As a network with fixed post-processing would, in the layout ``boxes``.
    """
    steps = [
        node("Cast", ["image" if rank == 4 else "batched"], ["x"], to=1),
        node("ReduceMax", ["x"], ["bright"], axes=[1], keepdims=0),
        node("ReduceMax", ["bright"], ["columns"], axes=[1], keepdims=0),
        node("ReduceMax", ["bright"], ["rows"], axes=[2], keepdims=0),
        node("ReduceMax", ["bright"], ["peak"], axes=[1, 2], keepdims=0),
        node("Unsqueeze", ["peak", "one"], ["scores"]),
        node("ReduceMean", ["x"], ["channels"], axes=[2, 3], keepdims=0),
        node("ArgMax", ["channels"], ["labels"], axis=1, keepdims=1),
    ]
    if rank == 3:
        steps.insert(0, node("Unsqueeze", ["image", "zero"], ["batched"]))
    for name in ("columns", "rows"):
        steps += [
            node("Greater", [name, "dark"], [f"{name} lit"]),
            node("Cast", [f"{name} lit"], [f"{name} shown"], to=1),
            node("ArgMax", [f"{name} shown"], [f"{name} first"], axis=1, keepdims=1),
            node("ArgMax", [f"{name} shown"], [f"{name} last"], axis=1, keepdims=1, select_last_index=1),
            node("Add", [f"{name} last", "one"], [f"{name} end"]),
        ]
    corners = ["columns first", "rows first", "columns end", "rows end"]
    steps += [
        node("Concat", corners, ["whole"], axis=1),
        node("Cast", ["whole"], ["corners"], to=1),
        node("Unsqueeze", ["corners", "one"], ["boxes"]),
    ]
    constants = {"dark": np.float32(0.5 / 255), "one": np.array([1]), "zero": np.array([0])}
    shape = [batch, 3, height, width][4 - rank :]
    outputs = [value("boxes", "float32", [batch, 1, 4]), value("scores", "float32", [batch, 1])]
    outputs.append(value("labels", "int64", [batch, 1]))
    return model(steps, [value("image", dtype, shape)], outputs, constants)


def fixed_answer(outputs: dict[str, np.ndarray], batch: int | str = "n", side: int = 64) -> bytes:
    """Answers ``outputs`` (each for one image) whatever it sees, for as many images as it is given."""
    steps = [node("ReduceMean", ["image"], ["means"], axes=[1, 2, 3], keepdims=0)]
    steps.append(node("Mul", ["means", "nothing"], ["zeros"]))
    constants: dict[str, np.ndarray] = {"nothing": np.float32(0), "axes": np.array([1, 2])}
    for name, array in outputs.items():
        constants[f"{name} values"] = array[None].astype(np.float32)
        steps += [
            node("Unsqueeze", ["zeros", "axes"], [f"{name} zeros"]),
            node("Add", [f"{name} values", f"{name} zeros"], [name]),
        ]
    found = [value(name, "float32", [batch, *array.shape]) for name, array in outputs.items()]
    return model(steps, [value("image", "float32", [batch, 3, side, side])], found, constants)


def draw(height: int, width: int, xyxy: tuple[int, int, int, int], channel: int = 0) -> np.ndarray:
    image = np.zeros((height, width, 3), np.uint8)
    image[xyxy[1] : xyxy[3], xyxy[0] : xyxy[2], channel] = 255
    return image


def finder(write: Write, data: bytes | None = None, **entries: Any) -> Predictor:
    entries.setdefault("preprocessing", {"fill": 0, **entries.pop("changes", {})})
    return load_predictor(write(data or rectangle_finder(), **entries), device="cpu")


# Real networks on real photos.


def real_manifest(shared: Path, folder: Path, layout: str, file: str = "") -> str:
    weights, digest = REAL[file or layout]
    manifest = {
        "family": "onnx_detector",
        "name": f"{layout}-coco-1",
        "weights": str(shared / "data/weights" / weights),
        "sha256": digest,
        "classes": (shared / "data/weights/coco80.names").read_text().split("\n")[:80],
        "score_threshold": 0.4,
        "layout": layout,
    }
    path = folder / f"{layout}.json"
    path.write_text(json.dumps(manifest))
    return str(path)


def average_precisions(truth: list[tuple[str, np.ndarray, list[str]]], found: dict[str, Detections], model: Predictor):
    """AP at IoU 0.5 of each class that is in ``truth`` (file, boxes, labels)."""
    answer = {}
    for label in sorted({name for *_, names in truth for name in names}):
        wanted = {file: boxes[[n == label for n in names]] for file, boxes, names in truth}
        taken = {file: np.zeros(len(boxes), bool) for file, boxes in wanted.items()}
        rows = [
            (confidence, file, box)
            for file, one in found.items()
            for box, index, confidence in zip(one.xyxy, one.label, one.confidence, strict=True)
            if model.classes[index] == label
        ]
        hits = []
        for _, file, box in sorted(rows, key=lambda row: -row[0]):
            overlap = np.where(taken[file], 0.0, iou_matrix(box[None], wanted[file])[0])
            hits.append(overlap.size > 0 and overlap.max() >= 0.5)
            if hits[-1]:
                taken[file][overlap.argmax()] = True
        answer[label] = average_precision(np.array(hits, bool), sum(map(len, wanted.values())))
    return answer


@pytest.mark.slow
@pytest.mark.parametrize(("layout", "least"), [("picodet", 0.755), ("yolox", 0.735)])
def test_real_networks_find_what_is_on_real_photos(shared: Path, tmp_path: Path, layout: str, least: float) -> None:
    model = load_predictor(real_manifest(shared, tmp_path, layout), device="cpu", score_threshold=0.01)
    folder = shared / "data/formats_voc100"
    coco = json.loads((folder / "gts/coco_format_v2/instances_v2.json").read_text())
    names = {one["id"]: one["name"] for one in coco["categories"]}
    assert set(names.values()) <= set(model.classes)
    truth, found, spent = [], {}, 0.0
    for entry in coco["images"]:
        own = [one for one in coco["annotations"] if one["image_id"] == entry["id"]]
        boxes = np.array([one["bbox"] for one in own], float).reshape(-1, 4)
        boxes[:, 2:] += boxes[:, :2]
        truth.append((entry["file_name"], boxes, [names[one["category_id"]] for one in own]))
        image = decode((folder / "images" / entry["file_name"]).read_bytes(), entry["file_name"])
        began = time.perf_counter()
        (found[entry["file_name"]],) = model.predict([image])
        spent += time.perf_counter() - began
    assert len(truth) == 100
    each = average_precisions(truth, found, model)
    mean = sum(each.values()) / len(each)
    print(f"{layout}: AP50 {mean:.3f} over {len(each)} classes, person {each['person']:.3f}; {spent * 10:.1f} ms/image")
    assert len(each) == 20
    # A wrong order of colours or a wrong way to resize costs 0.02 and more.
    assert mean >= least


@pytest.mark.parametrize("file", list(REAL))
@pytest.mark.parametrize("layout", ["yolox", "picodet", "yolov8", "detr", "boxes"])
def test_a_layout_that_is_not_the_files_fails_at_load(shared: Path, tmp_path: Path, file: str, layout: str) -> None:
    path = real_manifest(shared, tmp_path, layout, file)
    if file == layout:
        assert load(ModelSpec(path, device="cpu")).name == describe(ModelSpec(path)).name
        return
    with pytest.raises(ModelError, match=f"do not fit the layout '{layout}'") as caught:
        load(ModelSpec(path, device="cpu"))
    shapes = {"yolox": "'output' (1, 3549, 85) float32", "picodet": "'save_infer_model/scale_0.tmp_1' (1, 2704, 80)"}
    assert shapes[file] in caught.value.found


def test_weights_that_are_listed_as_inputs_become_constants_and_answers_stay(shared: Path) -> None:
    data = (shared / "data/weights" / REAL["picodet"][0]).read_bytes()
    image = np.random.default_rng(0).random((1, 3, 416, 416), dtype=np.float32)
    answers = []
    for some in (data, with_constant_weights(data)):
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4
        session = onnxruntime.InferenceSession(some, options, providers=["CPUExecutionProvider"])
        answers.append((len(session.get_overridable_initializers()), session.run(None, {"image": image})))
    (before, wanted), (after, found) = answers
    assert before > 100
    assert after == 0
    for a, b in zip(wanted, found, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-4)
    assert with_constant_weights(with_constant_weights(data)) == with_constant_weights(data)


# Small networks: preprocessing and the way back to the image.


@settings(deadline=None, max_examples=60)
@given(
    st.sampled_from(["stretch", "letterbox", "letterbox_centred"]),
    st.integers(20, 400),
    st.integers(20, 400),
    st.tuples(st.floats(0, 0.8), st.floats(0, 0.8), st.floats(0.15, 1), st.floats(0.15, 1)),
)
def test_boxes_come_back_where_the_object_is(
    tmp_path_factory: pytest.TempPathFactory, resize: str, height: int, width: int, shares: tuple[float, ...]
) -> None:
    model = resizing_finder(tmp_path_factory, resize)
    x1, y1 = int(shares[0] * width), int(shares[1] * height)
    truth = (x1, y1, min(width, x1 + max(3, int(shares[2] * width))), min(height, y1 + max(3, int(shares[3] * height))))
    (found,) = model.predict([draw(height, width, truth, channel=1)])
    assert found.label.tolist() == [1]
    # One pixel of the input, which is 80 x 60, on each side: resizing blurs edges by that much.
    factor = (width / 80, height / 60) if resize == "stretch" else (max(width / 80, height / 60),) * 2
    slack = np.tile(factor, 2) * 1.6 + 1
    assert (np.abs(found.xyxy[0] - truth) <= slack).all(), (found.xyxy[0], truth, slack)
    assert (found.xyxy >= 0).all()
    assert (found.xyxy <= (width, height, width, height)).all()


_FINDERS: dict[str, Predictor] = {}


def resizing_finder(folders: pytest.TempPathFactory, resize: str) -> Predictor:
    """Made once: hypothesis calls its test many times."""
    if resize not in _FINDERS:
        folder = folders.mktemp(resize)
        data = rectangle_finder()
        (folder / "m.onnx").write_bytes(data)
        manifest = {
            "family": "onnx_detector",
            "name": "t",
            "weights": "m.onnx",
            "sha256": hashlib.sha256(data).hexdigest(),
            "classes": ["red", "green", "blue"],
            "score_threshold": 0.0,
            "layout": "boxes",
            "outputs": {"boxes": "boxes", "scores": "scores", "labels": "labels"},
            "preprocessing": {"resize": resize, "fill": 0},
        }
        (folder / "m.json").write_text(json.dumps(manifest))
        _FINDERS[resize] = load_predictor(str(folder / "m.json"), device="cpu")
    return _FINDERS[resize]


def test_a_hundred_megapixels_are_shrunk_first_and_boxes_come_back_in_full_pixels(write: Write) -> None:
    image = np.zeros((10_000, 10_000, 3), np.uint8)
    image[2000:6000, 1000:9000, 2] = 255
    (found,) = finder(write).predict([image])
    assert found.label.tolist() == [2]
    np.testing.assert_allclose(found.xyxy, [[1000, 2000, 9000, 6000]], atol=200)


def test_pixels_that_shrinking_leaves_out_are_not_stretched_over() -> None:
    odd = np.zeros((3001, 4003, 3), np.uint8)
    how = Preprocessing("stretch")
    _, (placement,) = to_input([odd], 80, 60, how)
    # Both sides are halved, so that the last row and the last column are not seen.
    np.testing.assert_allclose(placement.to_image(np.array([[0.0, 0, 80, 60]])), [[0, 0, 4002, 3000]])
    _, (exact,) = to_input([np.zeros((7, 9, 3), np.uint8)], 80, 60, how)
    np.testing.assert_allclose(exact.to_image(np.array([[0.0, 0, 80, 60]])), [[0, 0, 9, 7]])


def test_images_that_are_a_line_or_nothing(write: Write) -> None:
    line, column = draw(1, 3000, (1000, 0, 2000, 1)), draw(3000, 1, (0, 1000, 1, 2000))
    nothing = np.zeros((0, 5, 3), np.uint8)
    a, b, c = finder(write, changes={"resize": "letterbox"}).predict([line, column, nothing])
    np.testing.assert_allclose(a.xyxy, [[1000, 0, 2000, 1]], atol=60)
    np.testing.assert_allclose(b.xyxy, [[0, 1000, 1, 2000]], atol=80)
    assert len(c.label) == 0


def test_colours_range_mean_and_std_reach_the_network(write: Write) -> None:
    image = draw(60, 80, (10, 10, 40, 40), channel=0)
    (rgb,) = finder(write).predict([image])
    (bgr,) = finder(write, changes={"colour": "bgr"}).predict([image])
    assert (rgb.label.tolist(), bgr.label.tolist()) == ([0], [2])
    assert rgb.confidence.tolist() == [1]
    # The score is the brightest value: (1 - 0.4) / 2, or half of white where red is halved.
    (normalised,) = finder(write, changes={"mean": [0.4, 0, 0], "std": [2, 1, 1]}).predict([image])
    np.testing.assert_allclose(normalised.confidence, [0.3], atol=1e-6)
    grey = np.full((60, 80, 3), 51, np.uint8)
    (dim,) = finder(write, score_threshold=0.1).predict([grey])
    np.testing.assert_allclose(dim.confidence, [0.2], atol=1e-6)
    # Of white as 255 the score would be no probability, which the trial run at load tells.
    with pytest.raises(ModelError, match="not from 0 to 1"):
        finder(write, changes={"range": 255})


def test_the_fill_of_a_letterbox(write: Write) -> None:
    tall = draw(120, 80, (20, 20, 60, 100))
    (black,) = finder(write, changes={"resize": "letterbox_centred"}).predict([tall])
    (grey,) = finder(write, changes={"resize": "letterbox_centred", "fill": 200}).predict([tall])
    np.testing.assert_allclose(black.xyxy, [[20, 20, 60, 100]], atol=4)
    # With a bright fill the finder sees everything, the fill included; what lies beside the image is cut off.
    assert grey.xyxy.tolist() == [[0, 0, 80, 120]]


def scene(seed: int) -> np.ndarray:
    random = np.random.default_rng(seed)
    height, width = random.integers(60, 300, 2)
    x, y = random.integers(0, width // 2), random.integers(0, height // 2)
    return draw(height, width, (x, y, x + width // 3, y + height // 3), channel=int(random.integers(3)))


@pytest.mark.parametrize("batch", ["n", 1, 4])
def test_answers_do_not_depend_on_how_images_are_batched(write: Write, batch: int | str) -> None:
    images = [scene(seed) for seed in range(7)]
    spec = write(rectangle_finder(batch), preprocessing={"fill": 0})
    together = load_predictor(spec, device="cpu", batch_size=3).predict(images)
    assert all(len(found.label) == 1 for found in together)
    assert len({tuple(found.xyxy[0]) for found in together}) == 7
    alone = load_predictor(spec, device="cpu")
    for image, found in zip(images, together, strict=True):
        (one,) = alone.predict([image])
        np.testing.assert_array_equal(found.xyxy, one.xyxy)
        np.testing.assert_array_equal(found.label, one.label)


def test_a_file_that_fixes_the_batch_inside_gets_one_image_at_a_time(write: Write) -> None:
    table = np.array([[[32.0], [32], [16], [8], [0.1], [0.8], [0]]], np.float32)
    names = [value("image", "float32", ["n", 3, 64, 64])], [value("out", "float32", [1, 7, 1])]
    data = model([node("Identity", ["table"], ["out"])], *names, {"table": table})
    spec = write(data, layout="yolov8", outputs="absent")
    found = load_predictor(spec, device="cpu", batch_size=4).predict([np.zeros((64, 64, 3), np.uint8)] * 3)
    assert [one.label.tolist() for one in found] == [[1]] * 3


@pytest.mark.parametrize(
    ("data", "changes"),
    [
        (rectangle_finder(rank=3), {}),
        (rectangle_finder(dtype="float16"), {}),
        (rectangle_finder(height="h", width="w"), {"size": [80, 60]}),
        (rectangle_finder(height="h", width="w"), {"size": 70}),
        (rectangle_finder("n", "h", 80), {"size": [80, 40]}),
    ],
    ids=["one image without a batch", "half floats", "free size", "free square", "free height"],
)
def test_inputs_of_other_kinds(write: Write, data: bytes, changes: dict[str, Any]) -> None:
    truth = (40, 20, 120, 90)
    (found,) = finder(write, data, changes=changes).predict([draw(120, 160, truth)])
    np.testing.assert_allclose(found.xyxy, [truth], atol=7)


def test_whole_numbers_as_input(write: Write) -> None:
    # The finder's score is the brightest value: up to 255 here, so that it has to be divided.
    step = block(1, node("Div", ["scores", "white"], ["shares"])) + block(5, tensor("white", np.float32(255)))
    data = rectangle_finder(dtype="uint8") + block(7, step + block(12, value("shares", "float32", [1, 1])))
    outputs = {"boxes": "boxes", "scores": "shares", "labels": "labels"}
    (found,) = finder(write, data, changes={"range": 255}, outputs=outputs).predict([draw(60, 80, (8, 6, 16, 12))])
    np.testing.assert_allclose(found.xyxy, [[8, 6, 16, 12]])
    np.testing.assert_allclose(found.confidence, [1])
    with pytest.raises(ModelError, match="is uint8, and the preprocessing gives fractions"):
        finder(write, data, outputs=outputs)


def test_other_inputs_get_their_fixed_values(write: Write) -> None:
    steps = [
        node("Mul", ["table", "size"], ["boxes"]),
        node("ReduceMean", ["image"], ["mean"], axes=[1, 2, 3], keepdims=0),
        node("Unsqueeze", ["mean", "axes"], ["raw"]),
        node("Sigmoid", ["raw"], ["scores"]),
    ]
    constants = {
        "table": np.array([[[0.1, 0.2, 0.5, 0.6]]], np.float32),
        "axes": np.array([1]),
        "labels": np.array([[1]]),
    }
    steps.append(node("Identity", ["labels"], ["out labels"]))
    inputs = [value("image", "float32", [1, 3, 50, 100]), value("size", "float32", [1, 4])]
    outputs = [value("boxes", "float32", [1, 1, 4]), value("scores", "float32", [1, 1])]
    data = model(steps, inputs, [*outputs, value("out labels", "int64", [1, 1])], constants)
    names = {"boxes": "boxes", "scores": "scores", "labels": "out labels"}
    size = {"size": [[100, 50, 100, 50]]}
    (found,) = finder(write, data, outputs=names, other_inputs=size).predict([draw(500, 1000, (0, 0, 9, 9))])
    np.testing.assert_allclose(found.xyxy, [[100, 100, 500, 300]], rtol=1e-5)
    assert found.label.tolist() == [1]
    with pytest.raises(ModelError, match=r"'image' tensor\(float\) \(1, 3, 50, 100\); 'size' tensor\(float\) \(1, 4\)"):
        finder(write, data, outputs=names)
    with pytest.raises(ModelError, match="other_inputs gives 'depth'"):
        finder(write, data, outputs=names, other_inputs={**size, "depth": 3})
    with pytest.raises(ModelError, match="cannot run"):
        finder(write, data, outputs=names, other_inputs={"size": [[1, 2, 3]]})


def test_yolov8_end_to_end(write: Write) -> None:
    table = np.zeros((7, 6), np.float32)
    table[:, 0] = [32, 32, 16, 8, 0.1, 0.8, 0]
    table[:, 1] = [33, 32, 16, 8, 0.1, 0.75, 0]  # nearly the same place
    table[:, 2] = [33, 32, 16, 8, 0.7, 0.1, 0]  # another class
    table[:, 3] = [10, 20, 4, 4, 0, 0, 0.29]  # below the threshold
    table[:, 4] = [32, 48, 16, 20, 0.6, 0, 0]  # partly beside the image
    table[:, 5] = [32, 4, 16, 8, 0.5, 0, 0]  # wholly beside it
    spec = write(fixed_answer({"out": table}), layout="yolov8", outputs="absent", nms_iou=0.5)
    images = [np.zeros((100, 200, 3), np.uint8)] * 2
    for found in load_predictor(spec, device="cpu", batch_size=2).predict(images):
        # 64 pixels of the input are 200 of the image, which lies between the rows 16 and 48.
        np.testing.assert_allclose(found.confidence, [0.8, 0.7, 0.6], rtol=1e-6)
        assert found.label.tolist() == [1, 0, 0]
        np.testing.assert_allclose(found.xyxy[[0, 2]], [[75, 37.5, 125, 62.5], [75, 68.75, 125, 100]])


def test_detr_end_to_end(write: Write) -> None:
    logits = np.array([[9, 0, 0, 0, 0], [0, 0, 0, 0, 9], [0, 0, 0, 7, 0], [0, 0, 8, 0, 0]], np.float32)
    boxes = np.array([[0.5, 0.5, 0.5, 0.5], [0.1, 0.1, 0.1, 0.1], [0.5, 0.5, 0.5, 0.5], [0.5, 0.5, 0.5, 0.5]])
    classes = ["red", "green", None, "blue"]
    data = fixed_answer({"logits": logits, "boxes": boxes}, batch=1)
    model = load_predictor(write(data, layout="detr", outputs="absent", classes=classes), device="cpu")
    assert model.classes == ("red", "green", "blue")
    (found,) = model.predict([np.zeros((100, 200, 3), np.uint8)])
    # The second query is no object, the fourth a number that is no class; nothing suppresses the same box twice.
    assert found.label.tolist() == [0, 2]
    np.testing.assert_allclose(found.xyxy, [[50, 25, 150, 75]] * 2, rtol=1e-6)


def test_answers_obey_the_protocol_whatever_the_network_says(write: Write) -> None:
    random = np.random.default_rng(0)
    table = random.uniform(-10, 80, (7, 5000)).astype(np.float32)
    table[4:] = random.random((3, 5000))
    table[:4, ::7] = np.nan
    table[:4, ::11] = np.inf
    spec = write(fixed_answer({"out": table}), layout="yolov8", outputs="absent", nms_iou=1.0)
    (found,) = load_predictor(spec, device="cpu", score_threshold=0.0).predict([np.zeros((90, 50, 3), np.uint8)])
    assert len(found.label) == 300
    assert (found.xyxy >= 0).all()
    assert (found.xyxy <= (50, 90, 50, 90)).all()
    assert (found.xyxy[:, 2:] > found.xyxy[:, :2]).all()
    assert (np.diff(found.confidence) <= 0).all()
    assert (found.xyxy.dtype, found.label.dtype, found.confidence.dtype) == (np.float64, np.int64, np.float64)


@pytest.mark.parametrize(
    "image", [np.zeros((5, 5), np.uint8), np.zeros((5, 5, 4), np.uint8), np.zeros((5, 5, 3), np.float32)]
)
def test_arrays_that_are_no_rgb_images_are_named(write: Write, image: Any) -> None:
    with pytest.raises(ImageError, match="image 1 of the call"):
        finder(write).predict([np.zeros((8, 8, 3), np.uint8), image])


# Files and manifests.


def test_card(write: Write, tmp_path: Path) -> None:
    (tmp_path / "names.txt").write_text("red\ngreen \nblue\n\n")
    spec = write(rectangle_finder(), classes="absent", classes_file="names.txt")
    card = describe(ModelSpec(spec))
    assert (card.name, card.role, card.classes) == ("tiny-1", "rectangle", ("red", "green", "blue"))
    assert card.score_threshold == 0.3
    assert load(ModelSpec(spec, device="cpu")).name == card.name


def test_the_document_names_every_key_and_layout_and_its_example_is_right(tmp_path: Path) -> None:
    text = (Path(__file__).resolve().parents[3] / "docs/models.md").read_text(encoding="utf-8")
    keys = [field.name for kind in (OnnxManifest, Preprocessing) for field in fields(kind)]
    words = [*LAYOUTS, *get_args(Resize), *get_args(Colour), "classes_file", "coordinates", "normalised"]
    assert [key for key in [*keys, *words] if f"`{key}`" not in text and f'"{key}"' not in text] == []
    for layout, module in LAYOUTS.items():
        (row,) = (line for line in text.splitlines() if line.startswith(f"| `{layout}` |"))
        assert f"{module.PREPROCESSING.resize}, {module.PREPROCESSING.colour}, {module.PREPROCESSING.range}" in row
        assert row.endswith(f"| {module.NMS_IOU or 'none'} |")
    (example,) = (block for block in re.findall(r"```json\n(.*?)```", text, re.DOTALL) if "onnx_detector" in block)
    (tmp_path / "coco80.names").write_text("person\ncar\n")
    (tmp_path / "m.json").write_text(example.replace("…", "0" * 64))
    assert read_onnx_manifest(tmp_path / "m.json").layout == "yolox"


@pytest.mark.parametrize(
    ("entries", "words"),
    [
        ({"name": ""}, "name is '', not a text"),
        ({"weights": None}, "weights is None"),
        ({"sha256": "12"}, "64 hex digits"),
        ({"score_threshold": 1.5}, r"score_threshold is 1\.5"),
        ({"score_threshold": True}, "score_threshold is True"),
        ({"nms_iou": "x"}, "nms_iou is 'x'"),
        ({"layout": "yolov99"}, "not one of yolox, picodet, yolov8, detr, boxes"),
        ({"layout": ["boxes"]}, "layout is"),
        ({"classes": "absent"}, "either classes or classes_file"),
        ({"classes_file": "names.txt"}, "either classes or classes_file"),
        ({"classes": "absent", "classes_file": "gone.txt"}, "classes_file cannot be read"),
        ({"classes": "absent", "classes_file": 3}, "classes_file is 3"),
        ({"classes": "absent", "classes_file": "/etc/passwd"}, "not in the manifest's folder"),
        ({"classes": "absent", "classes_file": "../secret.txt"}, "not in the manifest's folder"),
        ({"classes": "absent", "classes_file": "gaps.txt"}, "empty line"),
        ({"classes": "red"}, "classes is not a list of names"),
        ({"classes": [None]}, "there are no class names"),
        ({"classes": ["a", None, "a"]}, "the class names a stand there twice"),
        ({"outputs": {"boxes": "b"}}, "not an object with the names of boxes, scores, labels"),
        ({"outputs": {"boxes": 1, "scores": 2, "labels": 3}}, "not an object with the names"),
        ({"layout": "yolox"}, "knows its outputs by their order"),
        ({"outputs": {}}, "must name them"),
        ({"outputs": {"boxes": "boxes", "scores": "score", "labels": "labels"}}, "there is no output 'score'"),
        ({"coordinates": "percent"}, "neither pixels nor normalised"),
        ({"other_inputs": [1]}, "other_inputs is not an object"),
        ({"preprocessing": []}, "preprocessing is not an object"),
        ({"preprocessing": {"size": 0}}, r"preprocessing\.size is 0"),
        ({"preprocessing": {"size": [80, 60, 3]}}, r"preprocessing\.size is \[80, 60, 3\]"),
        ({"preprocessing": {"size": [60, 80]}}, r"size is 60 x 80 and the input of .* is \(1, 3, 60, 80\)"),
        ({"preprocessing": {"resize": "crop"}}, "one of stretch, letterbox, letterbox_centred"),
        ({"preprocessing": {"colour": ["rgb"]}}, "one of rgb, bgr"),
        ({"preprocessing": {"range": 256}}, "not 1 or 255"),
        ({"preprocessing": {"mean": [1, 2]}}, "not three numbers"),
        ({"preprocessing": {"std": [1, 0, 1]}}, "not three numbers"),
        ({"preprocessing": {"fill": -1}}, "from 0 to 255"),
        ({"preprocessing": {"scale": 2}}, r"preprocessing\.scale is unknown"),
    ],
)
def test_wrong_manifests_say_what_is_wrong(write: Write, tmp_path: Path, entries: Any, words: str) -> None:
    (tmp_path / "gaps.txt").write_text("a\n\nb\n")
    with pytest.raises(ModelError, match=words):
        load_predictor(write(rectangle_finder(), **entries), device="cpu")


def test_a_free_size_must_be_chosen(write: Write) -> None:
    with pytest.raises(ModelError, match="takes images of any size"):
        finder(write, rectangle_finder(height="h", width="w"))


def test_inputs_that_are_no_image(write: Write) -> None:
    image, same = (value(name, "float32", [1, 60, 80, 3]) for name in ("image", "same"))
    channels_last = model([node("Identity", ["image"], ["same"])], [image], [same])
    with pytest.raises(ModelError, match=r"'image' tensor\(float\) \(1, 60, 80, 3\)"):
        finder(write, channels_last)


def test_exchanged_weights_are_refused_before_they_are_read(write: Write, tmp_path: Path) -> None:
    spec = write(rectangle_finder())
    (tmp_path / "m.onnx").write_bytes(b"something else")
    with pytest.raises(ModelError, match="are not the ones the manifest names"):
        load_predictor(spec, device="cpu")
    (tmp_path / "m.onnx").unlink()
    with pytest.raises(ModelError, match=r"m\.onnx cannot be read"):
        load_predictor(spec, device="cpu")


@pytest.mark.parametrize("cut", [0, 1, 10, 100, 500, -1])
def test_files_that_are_no_onnx_models(write: Write, cut: int) -> None:
    with pytest.raises(ModelError, match="cannot load"):
        finder(write, rectangle_finder()[:cut] or b"\x00")


def external(how: str, location: str) -> bytes:
    numbers = external_tensor("w", np.arange(4, dtype=np.float32), location)
    inputs, outputs = [value("image", "float32", [1, 3, 2, 2])], [value("y", "float32", [1, 3, 2, 4])]
    use = node("MatMul", ["image", "w"], ["y"])
    if how == "initializer":
        return model([use], inputs, outputs, tensors=[numbers])
    if how == "constant":
        return model([node("Constant", [], ["w"], value=numbers), use], inputs, outputs)
    inner = block(1, node("Constant", [], ["w"], value=numbers)) + block(2, "inner")
    inner += block(12, value("w", "float32", [4]))
    branch = block(5, block(1, "then_branch") + block(6, inner) + number(20, 5))
    return model([node("If", ["c"], ["w"]) + branch], inputs, outputs, {"c": np.array(1)})


@pytest.mark.parametrize("how", ["initializer", "constant", "branch"])
@pytest.mark.parametrize("location", ["beside.bin", "../secret.bin", "/etc/hostname"])
def test_numbers_in_other_files_are_refused(write: Write, tmp_path: Path, how: str, location: str) -> None:
    (tmp_path / "beside.bin").write_bytes(np.arange(4, dtype=np.float32).tobytes())
    data = external(how, location)
    assert has_external_data(data)
    with pytest.raises(ModelError, match="keep some of their numbers in other files"):
        finder(write, data)


def test_numbers_in_other_files_are_found_wherever_tensors_can_be() -> None:
    numbers = external_tensor("w", np.zeros(4, np.float32), "beside.bin")
    sparse = block(1, numbers)
    attributes = [block(10, numbers), block(22, sparse), block(23, block(2, numbers))]
    for attribute in attributes:
        assert has_external_data(block(7, block(1, block(5, attribute))))
        assert has_external_data(block(25, block(7, block(5, attribute))))
        assert has_external_data(block(25, block(11, attribute)))
    assert has_external_data(block(7, block(15, sparse)))
    assert not has_external_data(block(7, block(15, block(1, tensor("w", np.zeros(4, np.float32))))))


@pytest.mark.parametrize("how", ["initializer", "constant", "branch"])
def test_a_group_does_not_hide_them(write: Write, tmp_path: Path, how: str) -> None:
    # Groups are long out of use; ONNX Runtime still skips them wherever they stand.
    group = bytes([(15 << 3) | 3]) + number(2, 7) + bytes([(15 << 3) | 4])
    (tmp_path / "beside.bin").write_bytes(np.arange(4, dtype=np.float32).tobytes())
    data = group + external(how, "beside.bin")
    assert has_external_data(data)
    with pytest.raises(ModelError, match="keep some of their numbers in other files"):
        finder(write, data)
    assert finder(write, group + rectangle_finder()).classes == ("red", "green", "blue")


def test_models_without_external_data_are_told_from_those_with(shared: Path) -> None:
    assert not has_external_data(rectangle_finder())
    for file, _ in REAL.values():
        assert not has_external_data((shared / "data/weights" / file).read_bytes())
    assert not has_external_data(b"\xff\xff\xff no message")


@pytest.mark.parametrize(
    ("device", "words"),
    [("cuda", "built without CUDA"), ("cuda:1", "built without CUDA"), ("abacus", "no such device")],
)
def test_devices_that_are_not_there(write: Write, device: str, words: str) -> None:
    if "CUDAExecutionProvider" in onnxruntime.get_available_providers() and device != "abacus":
        pytest.skip("it is there")
    with pytest.raises(ModelError, match=words):
        load_predictor(write(rectangle_finder()), device=device)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"weights": Path("w.onnx")}, "weights were given"),
        ({"classes": ("a",)}, "class names were given"),
        ({"accelerator": "openvino"}, "cannot run on OpenVINO"),
        ({"precision": "bf16"}, "cannot run in bf16"),
    ],
)
def test_specs_that_contradict_the_manifest(write: Write, options: Any, words: str) -> None:
    with pytest.raises(ModelError, match=words):
        load(ModelSpec(write(rectangle_finder()), **options))


def test_without_onnxruntime(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = ModelSpec(write(rectangle_finder()), device="cpu")
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    for call in (describe, load):
        with pytest.raises(ConfigError, match="onnxruntime is not installed") as caught:
            call(spec)
        assert "labelbridge[onnx]" in caught.value.todo
