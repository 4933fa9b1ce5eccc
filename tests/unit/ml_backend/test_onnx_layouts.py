"""Each layout reads numbers that were written by its definition, and refuses outputs that are not its own."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from torchvision.ops import batched_nms

from ml_backend.models.onnx_layouts import LAYOUTS, Candidates, Declared, Misfit
from ml_backend.models.suppression import suppress

CLASSES = 3
SIDE = 64
DECLARED = Declared(CLASSES, SIDE, SIDE)
NAMED = {"boxes": "b", "scores": "s", "labels": "l"}


def outputs_of(layout: str) -> dict[str, np.ndarray]:
    """Outputs of the right shapes for one image of 64 x 64, nothing in it."""
    if layout == "yolox":
        return {"out": np.zeros((1, 64 + 16 + 4, 5 + CLASSES), np.float32)}
    if layout == "picodet":
        cells = (64, 16, 4, 1)
        scores = {f"s{n}": np.zeros((1, n, CLASSES), np.float32) for n in cells}
        return {**scores, **{f"d{n}": np.zeros((1, n, 32), np.float32) for n in cells}}
    if layout == "yolov8":
        return {"out": np.zeros((1, 4 + CLASSES, 84), np.float32)}
    if layout == "detr":
        return {"logits": np.zeros((1, 10, CLASSES), np.float32), "boxes": np.zeros((1, 10, 4), np.float32)}
    return {"b": np.zeros((1, 5, 4)), "s": np.zeros((1, 5)), "l": np.zeros((1, 5), np.int64)}


def declared_for(layout: str) -> Declared:
    return Declared(CLASSES, SIDE, SIDE, NAMED) if layout == "boxes" else DECLARED


def read(layout: str, outputs: dict[str, np.ndarray], declared: Declared | None = None) -> Candidates:
    (found,) = LAYOUTS[layout].fit(outputs, declared or declared_for(layout))(outputs)
    return found


def best(found: Candidates) -> tuple[list[float], int, float]:
    row = int(found.confidence.argmax())
    return found.xyxy[row].round(3).tolist(), int(found.label[row]), round(float(found.confidence[row]), 4)


def test_yolox_counts_in_cells_and_logarithms() -> None:
    outputs = outputs_of("yolox")
    # The second grid (stride 16, four columns): row 2, column 1. Centre (24, 40), 32 wide and 16 high.
    outputs["out"][0, 64 + 2 * 4 + 1] = [0.5, 0.5, np.log(2), np.log(1), 0.8, 0.1, 0.2, 0.5]
    assert best(read("yolox", outputs)) == ([8, 32, 40, 48], 2, 0.4)


def test_picodet_takes_the_mean_of_a_distribution() -> None:
    outputs = outputs_of("picodet")
    # Stride 16: row 1, column 2, centre (40, 24). Sides of 1, 0, 2 and 0.5 strides.
    cell = 1 * 4 + 2
    outputs["s16"][0, cell] = [0.1, 0.7, 0.2]
    bins = np.full((4, 8), -1e4, np.float32)
    bins[0, 1] = bins[1, 0] = bins[2, 2] = 0
    bins[3, :2] = 0
    outputs["d16"][0, cell] = bins.ravel()
    assert best(read("picodet", outputs)) == ([24, 24, 72, 32], 1, 0.7)


def test_yolov8_has_a_column_per_box() -> None:
    outputs = outputs_of("yolov8")
    outputs["out"][0, :, 7] = [30, 20, 10, 4, 0.1, 0.2, 0.9]
    assert best(read("yolov8", outputs)) == ([25, 18, 35, 22], 2, 0.9)


def test_detr_with_a_column_for_no_object_is_a_softmax() -> None:
    outputs = outputs_of("detr")
    logits = np.zeros((1, 10, 5), np.float32)
    logits[..., 4] = 9
    logits[0, 4] = np.log([0.5, 7, 1, 1, 0.5])
    outputs["logits"] = logits
    outputs["boxes"][0, 4] = [0.5, 0.25, 0.5, 0.25]
    assert best(read("detr", outputs, Declared(4, 200, 100))) == ([50, 12.5, 150, 37.5], 1, 0.7)


def test_detr_with_a_column_per_class_is_a_sigmoid() -> None:
    outputs = outputs_of("detr")
    outputs["logits"][:] = -9
    outputs["logits"][0, 4] = [-9, np.log(4), -9]
    outputs["boxes"][0, 4] = [0.5, 0.25, 0.5, 0.25]
    assert best(read("detr", outputs)) == ([16, 8, 48, 24], 1, 0.8)


def test_detr_outputs_can_be_named_where_shapes_do_not_tell_them_apart() -> None:
    outputs = {"a": np.zeros((1, 10, 4), np.float32), "b": np.zeros((1, 10, 4), np.float32)}
    outputs["a"][0, 0] = [0.5, 0.5, 1, 1]
    outputs["b"][0, 0] = [9, 0, 0, 0]
    with pytest.raises(Misfit, match="must say which are which"):
        read("detr", outputs, Declared(4, SIDE, SIDE))
    named = Declared(4, SIDE, SIDE, {"logits": "b", "boxes": "a"})
    assert best(read("detr", outputs, named)) == ([0, 0, 64, 64], 0, 0.9999)


@pytest.mark.parametrize("batched", [True, False])
def test_boxes_are_read_as_they_are(batched: bool) -> None:
    outputs = outputs_of("boxes")
    outputs["b"][0, 3], outputs["s"][0, 3], outputs["l"][0, 3] = [0.25, 0, 0.5, 0.75], 0.6, 2
    if not batched:
        outputs = {name: array[0] for name, array in outputs.items()}
    assert best(read("boxes", outputs)) == ([0.25, 0, 0.5, 0.75], 2, 0.6)
    shares = Declared(CLASSES, SIDE, 2 * SIDE, NAMED, normalised=True)
    assert best(read("boxes", outputs, shares))[0] == [16, 0, 32, 96]


def test_no_layout_takes_the_outputs_of_another() -> None:
    for layout in LAYOUTS:
        for other in LAYOUTS:
            outputs = outputs_of(other)
            if layout == other:
                read(layout, outputs)
                continue
            roles = dict(zip(LAYOUTS[layout].OUTPUT_ROLES, list(outputs) * 3, strict=False))
            with pytest.raises(Misfit):
                read(layout, outputs, Declared(CLASSES, SIDE, SIDE, roles if layout == "boxes" else {}))


# Labels of finished boxes are numbers, and tell nothing of how many there are.
@pytest.mark.parametrize("layout", [layout for layout in LAYOUTS if layout != "boxes"])
@pytest.mark.parametrize("classes", [CLASSES + 2, 1])
def test_another_number_of_classes_is_refused(layout: str, classes: int) -> None:
    with pytest.raises(Misfit):
        read(layout, outputs_of(layout), Declared(classes, SIDE, SIDE))


@pytest.mark.parametrize("layout", ["yolox", "picodet"])
def test_another_input_size_is_refused(layout: str) -> None:
    with pytest.raises(Misfit):
        read(layout, outputs_of(layout), Declared(CLASSES, 2 * SIDE, SIDE))


@pytest.mark.parametrize(
    ("layout", "output", "place"),
    [("yolox", "out", np.s_[0, 3, 5]), ("yolov8", "out", np.s_[0, 5, 3]), ("picodet", "s16", np.s_[0, 3, 1])],
)
@pytest.mark.parametrize("value", [-2.5, 1.2, np.nan])
def test_scores_that_are_no_probabilities_are_refused(layout: str, output: str, place: Any, value: float) -> None:
    outputs = outputs_of(layout)
    outputs[output][place] = value
    with pytest.raises(Misfit, match="not from 0 to 1"):
        read(layout, outputs)


def test_yolox_that_was_exported_with_decoding_is_refused() -> None:
    outputs = outputs_of("yolox")
    outputs["out"][0, :, :4] = 32
    with pytest.raises(Misfit, match="in pixels already"):
        read("yolox", outputs)


@settings(deadline=None, max_examples=30)
@given(
    st.sampled_from(list(LAYOUTS)),
    arrays(np.float32, 200, elements=st.floats(width=32, allow_nan=True, allow_infinity=True)),
)
def test_any_numbers_are_decoded_without_an_error(layout: str, numbers: np.ndarray) -> None:
    outputs = outputs_of(layout)
    decode = LAYOUTS[layout].fit(outputs, declared_for(layout))
    with np.errstate(all="ignore"):
        odd = {name: np.resize(numbers, array.shape).astype(array.dtype) for name, array in outputs.items()}
        (found,) = decode(odd)
    assert found.xyxy.shape == (len(found.label), 4)
    assert found.confidence.shape == found.label.shape


@settings(deadline=None, max_examples=60)
@given(st.sampled_from([0, 1, 20, 64, 65, 400]), st.integers(0, 2**31), st.floats(0.1, 0.9))
def test_suppression_is_torchvisions(count: int, seed: int, iou: float) -> None:
    random = np.random.default_rng(seed)
    corner, size = random.uniform(0, 80, (2, count, 2))
    boxes = np.hstack([corner, corner + size / 2 + 0.5])
    label = random.integers(0, 3, count)
    confidence = random.permutation(count) / 1000
    wanted = batched_nms(torch.tensor(boxes), torch.tensor(confidence), torch.tensor(label), iou).numpy()
    assert suppress(boxes, label, confidence, iou).tolist() == wanted.tolist()


def test_boxes_without_area_remove_nothing() -> None:
    boxes = np.array([[5.0, 5, 5, 9], [5, 5, 5, 9], [0, 0, 9, 9]])
    assert suppress(boxes, np.zeros(3, np.int64), np.array([0.9, 0.8, 0.7]), 0.5).tolist() == [0, 1, 2]
