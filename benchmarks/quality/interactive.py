"""How good an interactive model's masks are, from boxes and from simulated clicks.

``python benchmarks/quality/interactive.py COCO_JSON IMAGES [--model grabcut] [--images 60] [--objects 5]``

Prompts, each for objects with a mask: the tight box; the box with every side moved by up to 5 % of its length; one to
three clicks, each at the centre of the largest error so far (the usual simulation); the moved box with one click.
Printed for each: mean IoU with the true mask, the share of objects above 0.8, how far the confidence is from the IoU on
average, the milliseconds of CPU time per prompt (median), and how often nothing was found.

With ``--boxes-only`` COCO_JSON needs no masks, and the figures are a proxy: the IoU of the *box of the mask* with the
true box, from the moved box and from one click at the box's centre.

``--fit`` prints the weights of ml_backend/models/region_quality.py, fitted to these objects.
"""

from __future__ import annotations

import argparse
import json
import random
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from bridge.core.masks import Bools
from bridge.images import decode
from ml_backend.models import Interactor, Prompt
from ml_backend.models.catalogue import ModelSpec, load

Xyxy = tuple[float, float, float, float]
MOVED = 0.05


@dataclass(frozen=True)
class Target:
    """One object: its image's file, its box, and its mask where it has one."""

    file: str
    box: Xyxy
    truth: Bools | None
    seed: int


def read_targets(path: Path, images: int, objects: int, least_area: float, *, boxes_only: bool) -> list[Target]:
    """A sample of the objects in a COCO file, always the same one."""
    from pycocotools import mask as coco_masks

    coco = json.loads(path.read_text())
    by_image: dict[Any, list[Any]] = defaultdict(list)
    for a in coco["annotations"]:
        if not a.get("iscrowd") and a["bbox"][2] * a["bbox"][3] > 0 and a.get("area", 0) >= least_area:
            by_image[a["image_id"]].append(a)
    chance = random.Random(0)
    kept = [i for i in sorted(coco["images"], key=lambda i: str(i["file_name"])) if by_image[i["id"]]]
    chance.shuffle(kept)
    targets = []
    for image in kept[:images]:
        group = sorted(by_image[image["id"]], key=lambda a: a["id"])
        for a in chance.sample(group, min(objects, len(group))):
            x, y, w, h = a["bbox"]
            box, truth = (x, y, x + w, y + h), None
            if not boxes_only:
                size = (image["height"], image["width"])
                shape = a["segmentation"]
                runs = coco_masks.merge(coco_masks.frPyObjects(shape, *size)) if isinstance(shape, list) else shape
                if isinstance(runs["counts"], list):
                    runs = coco_masks.frPyObjects(runs, *size)
                truth = coco_masks.decode(runs).astype(bool)
                rows, columns = np.flatnonzero(truth.any(axis=1)), np.flatnonzero(truth.any(axis=0))
                if not rows.size:
                    continue
                box = (float(columns[0]), float(rows[0]), float(columns[-1] + 1), float(rows[-1] + 1))
            targets.append(Target(image["file_name"], box, truth, int(a["id"])))
    return targets


def moved(box: Xyxy, shape: tuple[int, ...], seed: int) -> Xyxy:
    """The box with each side moved by up to 5 % of its length, inside of the image."""
    width, height = box[2] - box[0], box[3] - box[1]
    by = np.random.default_rng(seed).uniform(-MOVED, MOVED, 4) * (width, height, width, height)
    limit = (shape[1], shape[0], shape[1], shape[0])
    x1, y1, x2, y2 = np.clip(np.array(box) + by, 0, limit).tolist()
    return x1, y1, x2, y2


def next_click(truth: Bools, mask: Bools) -> tuple[bool, tuple[float, float]]:
    """Whether it is a positive one, and where: the point deepest inside of what is wrong."""
    best: tuple[float, bool, tuple[float, float]] = (0.0, True, (0.0, 0.0))
    for positive, wrong in ((True, truth & ~mask), (False, mask & ~truth)):
        depth = cv2.distanceTransform(np.pad(wrong, 1).astype(np.uint8), cv2.DIST_L2, 5)[1:-1, 1:-1]
        row, column = np.unravel_index(int(depth.argmax()), depth.shape)
        if depth[row, column] > best[0]:
            best = (float(depth[row, column]), positive, (float(column) + 0.5, float(row) + 0.5))
    return best[1], best[2]


@dataclass(frozen=True)
class Answer:
    kind: str
    iou: float
    confidence: float
    seconds: float


def answers_for(model: Interactor, seen: Any, target: Target, shape: tuple[int, ...]) -> Iterator[Answer]:
    """The answers to every kind of prompt for an object with a mask."""
    assert target.truth is not None
    truth = target.truth

    def ask(kind: str, prompt: Prompt) -> tuple[Bools, Answer]:
        began = time.thread_time()
        (segment,) = model.prompt(seen, [prompt])
        seconds = time.thread_time() - began
        mask = np.zeros_like(truth) if segment is None else segment.mask.full(*truth.shape)
        iou = np.count_nonzero(mask & truth) / np.count_nonzero(mask | truth)
        return mask, Answer(kind, float(iou), -1.0 if segment is None else segment.confidence, seconds)

    yield ask("box", Prompt(box=target.box))[1]
    loose = moved(target.box, shape, target.seed)
    mask, answer = ask("box, sides moved 5 %", Prompt(box=loose))
    yield answer
    positive, at = next_click(truth, mask)
    more = Prompt(positive=(at,), box=loose) if positive else Prompt(negative=(at,), box=loose)
    yield ask("moved box + 1 click", more)[1]
    on: tuple[tuple[float, float], ...] = ()
    beside: tuple[tuple[float, float], ...] = ()
    mask = np.zeros_like(truth)
    for number in range(1, 4):
        positive, at = next_click(truth, mask)
        on, beside = ((*on, at), beside) if positive else (on, (*beside, at))
        mask, answer = ask(f"{number} click" + "s" * (number > 1), Prompt(on, beside))
        yield answer


def proxies_for(model: Interactor, seen: Any, target: Target, shape: tuple[int, ...]) -> Iterator[Answer]:
    """As :func:`answers_for` where only the box is known: how well the mask's box fits it."""
    x1, y1, x2, y2 = target.box
    prompts = {
        "moved box (box of the mask)": Prompt(box=moved(target.box, shape, target.seed)),
        "1 click at the centre (box of the mask)": Prompt(positive=(((x1 + x2) / 2, (y1 + y2) / 2),)),
    }
    for kind, prompt in prompts.items():
        began = time.thread_time()
        (segment,) = model.prompt(seen, [prompt])
        seconds = time.thread_time() - began
        iou = 0.0 if segment is None else _box_iou(segment.mask.xyxy, target.box)
        yield Answer(kind, iou, -1.0 if segment is None else segment.confidence, seconds)


def report(answers: Sequence[Answer]) -> None:
    kinds = dict.fromkeys(a.kind for a in answers)
    print(f"{'prompt':40s} {'objects':>7s} {'mIoU':>6s} {'>0.8':>6s} {'|conf-IoU|':>10s} {'ms':>6s} {'nothing':>7s}")
    for kind in kinds:
        group = [a for a in answers if a.kind == kind]
        iou = np.array([a.iou for a in group])
        found = [a for a in group if a.confidence >= 0]
        error = float(np.mean([abs(a.confidence - a.iou) for a in found])) if found else float("nan")
        spent = 1e3 * float(np.median([a.seconds for a in group]))
        print(
            f"{kind:40s} {len(group):7d} {iou.mean():6.3f} {(iou > 0.8).mean():6.3f} {error:10.3f} {spent:6.0f}"
            f" {len(group) - len(found):7d}"
        )


def fit(seen: Any, target: Target, shape: tuple[int, ...], rows: dict[str, list[tuple[Any, float]]]) -> None:
    """Collect measures and IoU of the regions that are tried for one object."""
    from ml_backend.models import grabcut

    assert target.truth is not None
    truth = target.truth
    loose = moved(target.box, shape, target.seed)
    on: tuple[tuple[float, float], ...] = ()
    beside: tuple[tuple[float, float], ...] = ()
    prompts = {"BOX_QUALITY": [Prompt(box=target.box), Prompt(box=loose)], "CLICK_QUALITY": []}
    mask = np.zeros_like(truth)
    for _ in range(3):
        positive, at = next_click(truth, mask)
        on, beside = ((*on, at), beside) if positive else (on, (*beside, at))
        prompts["CLICK_QUALITY"].append(Prompt(on, beside))
        (segment,) = grabcut.GrabCut().prompt(seen, [prompts["CLICK_QUALITY"][-1]])
        mask = np.zeros_like(truth) if segment is None else segment.mask.full(*truth.shape)
    for kind, group in prompts.items():
        for prompt in group:
            for region in grabcut.regions(seen, prompt):
                found = grabcut.in_image(seen, region.patch, region.mask)
                if found is not None:
                    whole = found.full(*truth.shape)
                    iou = np.count_nonzero(whole & truth) / np.count_nonzero(whole | truth)
                    rows[kind].append((region.measures, float(iou)))


def print_weights(rows: dict[str, list[tuple[Any, float]]], strength: float = 30.0) -> None:
    """Ridge regression of the IoU on the standardised measures and their squares."""
    for kind, pairs in rows.items():
        x, y = np.array([m for m, _ in pairs]), np.array([iou for _, iou in pairs])
        mean, spread = x.mean(axis=0), x.std(axis=0)
        spread[spread < 1e-6] = 1.0
        apart = np.clip((x - mean) / spread, -3, 3)
        design = np.hstack([np.ones((len(x), 1)), apart, apart**2])
        penalty = np.diag([0.0] + [strength] * (design.shape[1] - 1))
        weights = np.linalg.solve(design.T @ design + penalty, design.T @ y)
        error = np.abs(np.clip(design @ weights, 0, 1) - y).mean()
        print(f"#: {len(x)} regions, mean error {error:.3f}\n{kind} = Weights(\n    {weights[0]:.3f},")
        half = x.shape[1] + 1
        for values in (mean, spread, weights[1:half], weights[half:]):
            print("    (" + ", ".join(f"{v:.3f}" for v in values) + "),")
        print(")")


def _box_iou(a: Xyxy, b: Xyxy) -> float:
    common = max(0.0, min(a[2], b[2]) - max(a[0], b[0])) * max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
    areas = sum((box[2] - box[0]) * (box[3] - box[1]) for box in (a, b))
    return common / (areas - common)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("coco", type=Path, help="COCO instances, polygons or run lengths; several parts: repeat both")
    parser.add_argument("images", type=Path, help="the folder of its images")
    parser.add_argument("--model", default="grabcut", help="grabcut, sam_vit_b ...")
    parser.add_argument("--weights", type=Path)
    parser.add_argument("--images-used", type=int, default=60, dest="number")
    parser.add_argument("--objects", type=int, default=5, help="at most, per image")
    parser.add_argument("--least-area", type=float, default=1.0, help="pixels; smaller objects are left out")
    parser.add_argument("--boxes-only", action="store_true")
    parser.add_argument("--fit", action="store_true")
    options = parser.parse_args()
    targets = read_targets(
        options.coco, options.number, options.objects, options.least_area, boxes_only=options.boxes_only
    )
    model: Any = load(ModelSpec(options.model, weights=options.weights))
    answers: list[Answer] = []
    rows: dict[str, list[tuple[npt.NDArray[np.float64], float]]] = defaultdict(list)
    file, seen, shape = "", None, (0, 0)
    for target in targets:
        if target.file != file:
            file = target.file
            image = decode((options.images / file).read_bytes(), file)
            shape, seen = image.shape[:2], model.preprocess(image)
        if options.fit:
            fit(seen, target, shape, rows)
        else:
            answers += (proxies_for if options.boxes_only else answers_for)(model, seen, target, shape)
    if options.fit:
        print_weights(rows)
    else:
        print(f"{model.name}: {len({t.file for t in targets})} images, {len(targets)} objects")
        report(answers)


if __name__ == "__main__":
    main()
