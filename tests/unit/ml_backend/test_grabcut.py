"""The interactive model without weights: what it cuts out, and that no prompt and no image upsets it."""

from __future__ import annotations

import json
import math
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from bridge.core.annotations import Mask
from bridge.core.masks import Bools
from bridge.core.rle import coco_counts, decode_coco
from bridge.errors import ImageError, ModelError
from ml_backend.models import Prompt, Segment
from ml_backend.models.catalogue import ModelSpec, describe, load
from ml_backend.models.grabcut import MAX_PIXELS, GrabCut
from ml_backend.models.region_cut import Patch, box_prior, cut, without_holes

MODEL = GrabCut()


def scene(height: int, width: int, *ellipses: tuple[float, float, float, float], seed: int = 0) -> tuple[Any, Bools]:
    """A grainy greenish image with reddish ellipses ``(x, y, rx, ry)``, and which pixels are theirs."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width] + 0.5
    inside = np.zeros((height, width), bool)
    for cx, cy, rx, ry in ellipses:
        inside |= ((x - cx) / rx) ** 2 + ((y - cy) / ry) ** 2 < 1
    base = np.where(inside[..., None], (170, 80, 60), (70, 120, 80))
    return np.clip(base + rng.normal(0, 12, (height, width, 3)), 0, 255).astype(np.uint8), inside


def ask(image: Any, prompt: Prompt) -> Segment | None:
    return MODEL.prompt(MODEL.preprocess(image), [prompt])[0]


def mask_of(segment: Segment | None, shape: tuple[int, ...]) -> Bools:
    return np.zeros(shape[:2], bool) if segment is None else segment.mask.full(*shape[:2])


def decoded(runs: dict[str, Any]) -> Bools:
    height, width = runs["size"]
    return decode_coco(Mask(height, width, coco_counts(runs["counts"])))


def iou(a: Bools, b: Bools) -> float:
    return float((a & b).sum() / max(1, (a | b).sum()))


def test_described_as_it_is_loaded() -> None:
    card = describe(ModelSpec("grabcut"))
    model = load(ModelSpec("grabcut"))
    assert (card.role, card.classes) == ("interactor", ())
    assert model.name == card.name


@pytest.mark.parametrize("spec", [ModelSpec("grabcut", weights=Path("w.pth")), ModelSpec("grabcut", classes=("cat",))])
def test_weights_and_class_names_are_refused(spec: ModelSpec) -> None:
    for call in (describe, load):
        with pytest.raises(ModelError, match="which takes none"):
            call(spec)


@pytest.mark.parametrize(
    ("size", "ellipse"),
    [((240, 320), (150, 120, 60, 40)), ((240, 320), (60, 50, 12, 15)), ((1200, 1600), (900, 500, 300, 200))],
)
@pytest.mark.parametrize("slack", [0.0, 0.08])
def test_a_box_around_an_object_gives_the_object(size: Any, ellipse: Any, slack: float) -> None:
    image, truth = scene(*size, ellipse)
    x, y, rx, ry = ellipse
    more = 1 + slack
    box = (x - rx * more, y - ry * more, x + rx * more, y + ry * more)
    assert iou(mask_of(ask(image, Prompt(box=box)), size), truth) > 0.95


@pytest.mark.parametrize("ellipse", [(150, 120, 60, 40), (60, 50, 12, 15), (200, 130, 100, 90)])
def test_one_click_on_an_object_gives_the_object(ellipse: Any) -> None:
    image, truth = scene(240, 320, ellipse)
    segment = ask(image, Prompt(positive=(ellipse[:2],)))
    assert iou(mask_of(segment, truth.shape), truth) > 0.95


def test_a_click_takes_its_own_object_alone() -> None:
    image, _ = scene(240, 400, (90, 120, 40, 50), (300, 120, 50, 40))
    _, left = scene(240, 400, (90, 120, 40, 50))
    assert iou(mask_of(ask(image, Prompt(positive=((90, 120),))), left.shape), left) > 0.9


def test_clicks_on_two_parts_take_both() -> None:
    image, truth = scene(240, 400, (90, 120, 40, 50), (300, 120, 50, 40))
    assert iou(mask_of(ask(image, Prompt(positive=((90, 120), (300, 120)))), truth.shape), truth) > 0.9


def test_a_negative_click_takes_the_second_object_out_of_the_box() -> None:
    image, both = scene(240, 400, (110, 120, 60, 50), (290, 120, 50, 60))
    _, first = scene(240, 400, (110, 120, 60, 50))
    box = (45, 55, 345, 185)
    assert iou(mask_of(ask(image, Prompt(box=box)), both.shape), both) > 0.8
    without = mask_of(ask(image, Prompt(positive=((110, 120),), negative=((290, 120),), box=box)), both.shape)
    assert without[120, 110]
    assert not without[120, 290]
    assert iou(without, first) > iou(without, both)


def test_a_hole_that_was_clicked_away_stays_open_and_specks_do_not() -> None:
    mask = np.zeros((40, 40), bool)
    mask[5:35, 5:35] = True
    mask[10, 10] = False
    mask[20:30, 20:30] = False
    filled = without_holes(mask, 20)
    assert filled[10, 10]
    assert not filled[25, 25]
    assert not filled[0, 0]
    assert not without_holes(mask, 20, kept=[(10, 10)])[10, 10]


def test_an_image_without_edges_is_answered_by_the_prompt_alone() -> None:
    plain = np.full((100, 140, 3), 90, np.uint8)
    boxed = ask(plain, Prompt(box=(20, 20, 100, 80)))
    clicked = ask(plain, Prompt(positive=((70, 50),)))
    assert boxed is not None
    assert clicked is not None
    assert 20 <= boxed.mask.xyxy[0] < 40
    assert mask_of(clicked, plain.shape)[50, 70]


def test_confidence_tells_an_object_from_noise() -> None:
    image, _ = scene(240, 320, (150, 120, 60, 40))
    noise = np.random.default_rng(0).integers(0, 256, (240, 320, 3), np.uint8)
    for prompt in (Prompt(box=(90, 80, 210, 160)), Prompt(positive=((150, 120),))):
        clear, unclear = ask(image, prompt), ask(noise, prompt)
        assert clear is not None
        assert unclear is not None
        assert clear.confidence > unclear.confidence + 0.1


def test_answers_depend_on_nothing_else() -> None:
    image, _ = scene(150, 200, (80, 70, 40, 30), (160, 100, 20, 30))
    seen = MODEL.preprocess(image)
    before = seen.lab.copy()
    prompts = [Prompt(box=(35, 35, 125, 105)), Prompt(positive=((160, 100),)), Prompt(positive=((80, 70),))]
    alone = [MODEL.prompt(seen, [p])[0] for p in prompts]
    cv2.setRNGSeed(77)
    together = MODEL.prompt(seen, prompts[::-1])[::-1]
    with ThreadPoolExecutor(2) as pool:
        threaded = list(pool.map(lambda p: MODEL.prompt(seen, [p])[0], prompts))
    for others in (together, threaded):
        for a, b in zip(alone, others, strict=True):
            assert a is not None
            assert b is not None
            assert (a.mask.left, a.mask.top, a.confidence) == (b.mask.left, b.mask.top, b.confidence)
            assert np.array_equal(a.mask.bits, b.mask.bits)
    assert np.array_equal(seen.lab, before)


def test_large_images_are_kept_small_and_answered_in_full_size() -> None:
    size, ellipse = (4000, 6000), (2500.0, 1800.0, 800.0, 600.0)
    y, x = np.ogrid[: size[0], : size[1]]
    truth = ((x - 2500) / 800) ** 2 + ((y - 1800) / 600) ** 2 < 1
    image = np.where(truth[..., None], np.uint8(200), np.uint8(60)).repeat(3, axis=2)
    seen = MODEL.preprocess(image)
    assert seen.nbytes <= 3 * MAX_PIXELS * 1.01
    prompts = [Prompt(box=(1690, 1190, 3310, 2410)), Prompt(positive=(ellipse[:2],))]
    for segment in MODEL.prompt(seen, prompts):
        assert iou(mask_of(segment, size), truth) > 0.97


@pytest.mark.parametrize(
    "image", [np.zeros((5, 5), np.uint8), np.zeros((5, 5, 4), np.uint8), np.zeros((5, 5, 3), np.float32)]
)
def test_what_is_no_rgb_image_is_refused(image: Any) -> None:
    with pytest.raises(ImageError, match="RGB"):
        MODEL.preprocess(image)


def test_read_only_and_flipped_images_are_taken() -> None:
    image, _ = scene(60, 80, (40, 30, 15, 12))
    flipped = image[:, ::-1]
    locked = np.ascontiguousarray(flipped)
    locked.flags.writeable = False
    a, b = (ask(i, Prompt(box=(20, 15, 62, 45))) for i in (flipped, locked))
    assert a is not None
    assert b is not None
    assert np.array_equal(a.mask.bits, b.mask.bits)


UGLY = st.one_of(
    st.floats(-50, 90), st.sampled_from([0.0, -0.0, math.nan, math.inf, -math.inf, 1e300, 39.999999, 1e-300])
)
POINTS = st.lists(st.tuples(UGLY, UGLY), max_size=3).map(tuple)


@settings(max_examples=120, deadline=None)
@given(
    st.sampled_from([(40, 60), (1, 1), (1, 30), (30, 1), (2, 2), (3, 3), (0, 4), (7, 200)]),
    POINTS,
    POINTS,
    st.none() | st.tuples(UGLY, UGLY, UGLY, UGLY),
    st.integers(0, 5),
)
def test_no_prompt_upsets_it(size: tuple[int, int], positive: Any, negative: Any, box: Any, seed: int) -> None:
    height, width = size
    image = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8) // (1 + 50 * (seed % 2))
    segment = ask(image, Prompt(positive, negative, box))
    if segment is None:
        return
    assert 0 <= segment.confidence <= 1
    mask = segment.mask
    assert mask.left >= 0
    assert mask.top >= 0
    assert mask.left + mask.bits.shape[1] <= width
    assert mask.top + mask.bits.shape[0] <= height
    assert mask.bits.dtype == np.bool_
    for edge in (mask.bits[0], mask.bits[-1], mask.bits[:, 0], mask.bits[:, -1]):
        assert edge.any()
    for x, y in positive:
        if 0 <= x < width and 0 <= y < height:
            assert mask.full(height, width)[int(y), int(x)]


@pytest.mark.parametrize(
    "prompt",
    [
        Prompt(),
        Prompt(negative=((5, 5),)),
        Prompt(positive=((500, 5),)),
        Prompt(box=(200, 10, 300, 20)),
        Prompt(box=(10, 10, 10, 30)),
    ],
)
def test_prompts_that_say_nothing_get_no_answer(prompt: Prompt) -> None:
    image, _ = scene(60, 80, (40, 30, 15, 12))
    assert ask(image, prompt) is None


def test_a_patch_never_reaches_beyond_its_size() -> None:
    lab = np.zeros((300, 1000, 3), np.uint8)
    patch = Patch.of(lab, (100, 50, 900, 250), 10_000)
    assert patch.shape[0] * patch.shape[1] <= 10_400
    assert patch.places([(100, 50), (899.9, 249.9), (900, 100), (99.9, 100)]) == [
        (0, 0),
        (patch.shape[1] - 1, patch.shape[0] - 1),
    ]
    small = Patch.of(lab, (10, 10, 20, 30), 10_000)
    assert small.shape == (20, 10)


def test_the_cut_is_the_least_one() -> None:
    """On three pixels in a row the minimum can be had by trying all eight labellings."""
    from ml_backend.models.region_cut import _minimise

    rng = np.random.default_rng(0)
    for _ in range(20):
        cost = rng.normal(0, 2, (1, 3)).astype(np.float32)
        right = rng.uniform(0, 2, (1, 2)).astype(np.float32)
        found = _minimise(cost, right, np.zeros((0, 3), np.float32), np.full((1, 3), 0.5, np.float32), 400) > 0.5

        def energy(u: Any, cost: Any = cost, right: Any = right) -> float:
            return float((cost * u).sum() + (right * np.abs(np.diff(u, axis=1))).sum())

        every = [np.array([[a, b, c]], np.float32) for a in (0, 1) for b in (0, 1) for c in (0, 1)]
        assert energy(found.astype(np.float32)) == pytest.approx(min(map(energy, every)), abs=1e-3)


def test_fixed_pixels_stay_fixed() -> None:
    image, truth = scene(60, 80, (40, 30, 15, 12))
    patch = Patch.of(image, (0, 0, 80, 60), 10_000)
    prior, fixed = box_prior(patch, (25, 18, 55, 42))
    fixed[30, 40], fixed[5, 5] = -1, 1
    found = cut(patch, prior, fixed, trust=0.6, colours=16, rounds=2, steps=60)
    assert truth[30, 40]
    assert not found.mask[30, 40]
    assert found.mask[5, 5]


def test_nuclei_from_their_boxes(shared: Path) -> None:
    """A floor under the quality on real images; benchmarks/quality/interactive.py measures it."""
    coco = json.loads((shared / "data" / "nuclei" / "instances.json").read_text())
    found = []
    for image in sorted(coco["images"], key=lambda i: i["file_name"])[:8]:
        pixels = np.array(Image.open(shared / "data" / "nuclei" / "images" / image["file_name"]).convert("RGB"))
        seen = MODEL.preprocess(pixels)
        group = [a for a in coco["annotations"] if a["image_id"] == image["id"]][:3]
        prompts = [Prompt(box=(x, y, x + w, y + h)) for x, y, w, h in (a["bbox"] for a in group)]
        for a, segment in zip(group, MODEL.prompt(seen, prompts), strict=True):
            found.append(iou(mask_of(segment, pixels.shape), decoded(a["segmentation"])))
    assert np.mean(found) > 0.6
