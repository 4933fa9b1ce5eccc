"""How well images with wrong class maps are ranked, beside cleanlab's softmin on the same predictions.

``python benchmarks/quality/segmentation.py FOLDER [--seeds N] [--images N]``

FOLDER holds ``instances.json`` (COCO, run-length masks) and ``images/``. Images are halved in size; a nucleus is of the
class "grey" or "coloured", as its image is. Of two images in five one to three objects get an error each: dropped,
dilated or eroded by a quarter of the object's size, shifted by half of it, or given to the other class. The model is a
multinomial regression on pixels (colours, and their Gaussian means at four scales), fitted on the corrupted maps of one
half of the images to predict the other. Printed for each seed: the area under the precision-recall curve (average
precision) of the images, by their worst finding of the map review, by our score of the map alone, cleanlab's two, and
the plain mean.
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from bridge.core.annotations import Annotation, Item, LabelSet, Mask, Record, Submission
from bridge.core.metrics import average_precision
from bridge.core.rle import coco_counts, decode_coco, encode_coco
from bridge.scorers.map_notes import take_notes
from bridge.scorers.map_review import MapReview
from bridge.scorers.semantic_review import judge_map

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
Image = npt.NDArray[np.uint8]

CLASSES = ("grey", "coloured")
ERRORS = ("dropped", "dilated", "eroded", "shifted", "swapped")
DIRTY = 0.4
PIXELS_PER_IMAGE = 200
#: Mean difference of the highest and lowest channel from which an image is coloured.
COLOURED = 8
SMALLEST = 8


def read(folder: Path, images: int, shrink: int = 2) -> list[tuple[Image, list[Bools], int]]:
    """(BGR picture, masks of its objects, their class: 1 grey, 2 coloured), ``shrink`` times smaller."""
    coco = json.loads((folder / "instances.json").read_text())
    objects = defaultdict(list)
    for a in coco["annotations"]:
        objects[a["image_id"]].append(a["segmentation"])
    out = []
    for entry in sorted(coco["images"], key=lambda i: i["file_name"])[:images]:
        picture = cv2.imread(str(folder / "images" / entry["file_name"]))
        size = (picture.shape[1] // shrink, picture.shape[0] // shrink)
        picture = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
        masks = []
        for rle in objects[entry["id"]]:
            whole = decode_coco(Mask(*rle["size"], coco_counts(rle["counts"])))
            small = cv2.resize(np.ascontiguousarray(whole, np.uint8), size, interpolation=cv2.INTER_NEAREST) > 0
            if small.sum() >= SMALLEST:
                masks.append(small)
        spread = (picture.max(axis=2).astype(np.int64) - picture.min(axis=2)).mean()
        out.append((picture, masks, 2 if spread > COLOURED else 1))
    return out


def corrupted(
    masks: list[Bools], kind: int, wrong: set[int], rng: np.random.Generator
) -> tuple[Ints, list[tuple[int, Bools]]]:
    """(H, W) int64 class map, and its objects; those of ``wrong`` get an error each."""
    labels = np.zeros(masks[0].shape, dtype=np.int64)
    objects = []
    for k, mask in enumerate(masks):
        error = str(rng.choice(ERRORS)) if k in wrong else ""
        if error == "dropped":
            continue
        side = float(np.sqrt(mask.sum()))
        radius = max(1, round(side / 4))
        disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1, 2 * radius + 1))
        bits = mask.astype(np.uint8)
        if error == "dilated":
            bits = cv2.dilate(bits, disc)
        elif error == "eroded":
            bits = cv2.erode(bits, disc)
        elif error == "shifted":
            angle = rng.uniform(0, 2 * np.pi)
            move = np.array([[1, 0, side / 2 * np.cos(angle)], [0, 1, side / 2 * np.sin(angle)]], dtype=np.float32)
            bits = cv2.warpAffine(bits, move, bits.shape[::-1], flags=cv2.INTER_NEAREST)
        given = 3 - kind if error == "swapped" else kind
        labels[bits > 0] = given
        if bits.any():
            objects.append((given, bits > 0))
    return labels, objects


def worst_findings(objects: list[list[tuple[int, Bools]]], probabilities: list[npt.NDArray[np.float32]]) -> list[float]:
    """For each image the highest score that the map review gives to anything in it."""
    records = []
    for k, (drawn, seen) in enumerate(zip(objects, probabilities, strict=True)):
        given = tuple(Annotation(f"{k}-{n}", CLASSES[c - 1], encode_coco(mask)) for n, (c, mask) in enumerate(drawn))
        record = Record(Item(str(k), str(k), "", seen.shape[2], seen.shape[1]), (Submission(str(k), "", given),))
        records.append(replace(record, notes=take_notes(record, seen, CLASSES)))
    worst: dict[str, float] = defaultdict(float)
    for finding in MapReview().find("t", LabelSet(CLASSES), records):
        worst[finding.item_id] = max(worst[finding.item_id], finding.score)
    return [worst[record.item.id] for record in records]


def predicted(pictures: list[Image], maps: list[Ints], rng: np.random.Generator) -> list[npt.NDArray[np.float32]]:
    """(3, H, W) float32 probabilities of each image, by a model fitted on the other half."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    half = rng.permutation(len(pictures)) % 2
    columns = [_features(picture) for picture in pictures]
    out: list[npt.NDArray[np.float32]] = [np.zeros(0, np.float32)] * len(pictures)
    for fold in (0, 1):
        sample = [(k, rng.choice(maps[k].size, PIXELS_PER_IMAGE)) for k in np.flatnonzero(half != fold).tolist()]
        model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=100))
        model.fit(
            np.concatenate([columns[k][rows] for k, rows in sample]),
            np.concatenate([maps[k].ravel()[rows] for k, rows in sample]),
        )
        for k in np.flatnonzero(half == fold).tolist():
            flat = model.predict_proba(columns[k]).astype(np.float32)
            out[k] = np.ascontiguousarray(flat.T).reshape(3, *maps[k].shape)
    return out


def _features(picture: Image) -> npt.NDArray[np.float32]:
    """(H * W, F): colours less the image's median, their means at four scales, squares of both, and the median."""
    values = picture.astype(np.float32) / 255
    median = np.median(values.reshape(-1, 3), axis=0)
    scales = [values, *(cv2.GaussianBlur(values, (0, 0), s) for s in (1, 2, 4, 8))]
    near = np.concatenate([s - median for s in scales], axis=2)
    around = np.broadcast_to(median, values.shape)
    both = np.concatenate([near, near**2, around, near[..., :3] * around], axis=2)
    return np.ascontiguousarray(both.reshape(-1, both.shape[2]), dtype=np.float32)


def quality(scores: Floats, is_dirty: Bools) -> float:
    return average_precision(is_dirty[np.argsort(-scores, kind="stable")], int(is_dirty.sum()))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--images", type=int, default=224)
    options = parser.parse_args()
    from cleanlab.segmentation.rank import get_label_quality_scores

    pictures = [p for p in read(options.folder, options.images) if p[1]]
    for seed in range(options.seeds):
        rng = np.random.default_rng(seed)
        maps, objects, dirty = [], [], []
        for _, masks, kind in pictures:
            wrong: set[int] = set()
            if rng.random() < DIRTY:
                wrong = set(rng.permutation(len(masks))[: rng.integers(1, 4)].tolist())
            labels, drawn = corrupted(masks, kind, wrong, rng)
            maps.append(labels)
            objects.append(drawn)
            dirty.append(bool(wrong))
        probabilities = predicted([p[0] for p in pictures], maps, rng)
        scores: dict[str, list[float]] = defaultdict(list, {"worst finding": worst_findings(objects, probabilities)})
        for labels, seen in zip(maps, probabilities, strict=True):
            judged = judge_map(labels, seen)
            scores["ours"].append(judged.score)
            scores["mean quality"].append(1 - float(judged.quality.mean()))
            for method in ("softmin", "num_pixel_issues"):
                peer, _ = get_label_quality_scores(labels[None], seen[None], method=method, verbose=False, n_jobs=1)
                scores[f"cleanlab {method}"].append(-float(peer[0]))
        is_dirty = np.array(dirty)
        line = "   ".join(f"{name} {quality(np.array(values), is_dirty):.3f}" for name, values in scores.items())
        print(f"seed {seed}, {is_dirty.sum()} of {len(is_dirty)} images dirty: {line}", flush=True)


if __name__ == "__main__":
    main()
