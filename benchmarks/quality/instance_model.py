"""A pixel classifier that outlines nuclei: a small network on filters of the picture.

Each pixel is background, outline, or the inside of one class. Where the inside is deepest is an object, grown by the
foreground nearest to it; foreground without an inside is an object too, and so is a faint spot. The confidence for a
class is the mean probability of foreground over the object, times the share of that class in what is inside.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import cv2
import numpy as np
import numpy.typing as npt
from scipy import ndimage
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from bridge.core.annotations import Prediction
from bridge.core.rle import encode_coco

Bools = npt.NDArray[np.bool_]
Ints = npt.NDArray[np.int64]
Probabilities = npt.NDArray[np.float32]
Image = npt.NDArray[np.uint8]

PIXELS_PER_IMAGE = 250
HIDDEN = (48, 24)
EPOCHS = 20
SCALES = (1.0, 2.0, 4.0, 8.0, 16.0)
#: A pixel is foreground from the first on; a spot that never gets there is a faint object from the second on.
SURE, FAINT = 0.5, 0.2
SMALLEST = 6
LEAST_CONFIDENCE = 0.05
_CROSS = np.array([[0, 1, 0], [1, 1, 1], [0, 1, 0]], dtype=np.uint8)
BACKGROUND, OUTLINE, INSIDE = 0, 1, 2


def pixel_targets(labels: Sequence[tuple[int, Bools]], shape: tuple[int, int]) -> Ints:
    """(H, W) int64 of objects, each (class from 0, mask); one too thin for an outline is all inside."""
    target = np.full(shape, BACKGROUND, dtype=np.int64)
    for kind, mask in labels:
        inside = cv2.erode(mask.astype(np.uint8), _CROSS, borderValue=1) > 0
        target[mask] = OUTLINE
        target[inside if inside.any() else mask] = INSIDE + kind
    return target


def predicted(pictures: Sequence[Image], targets: Sequence[Ints], classes: int, seed: int) -> list[Probabilities]:
    """(2 + classes, H, W) float32 probabilities of each picture, by a classifier fitted on the other half."""
    rng = np.random.default_rng(seed)
    half = rng.permutation(len(pictures)) % 2
    columns = [_features(picture) for picture in pictures]
    out: list[Probabilities] = [np.zeros(0, np.float32)] * len(pictures)
    for fold in (0, 1):
        sample = [(k, rng.choice(targets[k].size, PIXELS_PER_IMAGE)) for k in np.flatnonzero(half != fold).tolist()]
        x = np.concatenate([columns[k][rows] for k, rows in sample])
        y = np.concatenate([targets[k].ravel()[rows] for k, rows in sample])
        model = make_pipeline(
            StandardScaler(), MLPClassifier(HIDDEN, batch_size=256, max_iter=EPOCHS, random_state=fold)
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # the number of epochs is chosen
            model.fit(x, y)
        for k in np.flatnonzero(half == fold).tolist():
            seen = np.zeros((INSIDE + classes, targets[k].size), dtype=np.float32)
            seen[model.classes_] = model.predict_proba(columns[k]).T
            out[k] = seen.reshape(-1, *targets[k].shape)
    return out


def _features(picture: Image) -> npt.NDArray[np.float32]:
    """(H * W, F): the picture at the same contrast as every other, its means, edges and contrasts at several scales."""
    values = picture.astype(np.float32)
    low, middle, high = np.percentile(values, (1, 50, 99))
    values = (values - np.float32(middle)) / np.float32(max(high - low, 1.0))
    grey = values.mean(axis=2)
    near = [cv2.GaussianBlur(grey, (0, 0), s) for s in SCALES]
    coarse = [cv2.GaussianBlur(values, (0, 0), s) for s in SCALES[::2]]
    edges = [cv2.magnitude(cv2.Sobel(m, cv2.CV_32F, 1, 0), cv2.Sobel(m, cv2.CV_32F, 0, 1)) for m in near]
    spread = [
        np.sqrt(np.maximum(cv2.GaussianBlur(grey**2, (0, 0), s) - m**2, 0)) for s, m in zip(SCALES, near, strict=True)
    ]
    kernel = np.ones((5, 5), np.uint8)
    extremes = [cv2.erode(grey, kernel), cv2.dilate(grey, kernel)]
    flat = [grey, *near, *edges, *spread, *extremes]
    return np.concatenate([values, *coarse, np.stack(flat, axis=2)], axis=2).reshape(grey.size, -1)


def class_maps(probabilities: Probabilities) -> Probabilities:
    """(1 + classes, H, W) float32: the outline goes to the classes as they share the inside nearby."""
    inside = probabilities[INSIDE:]
    near = np.maximum(np.stack([cv2.GaussianBlur(one, (0, 0), SCALES[1]) for one in inside]), 1e-6)
    return np.concatenate([probabilities[:1], inside + probabilities[OUTLINE] * near / near.sum(axis=0)])


def objects(probabilities: Probabilities, names: Sequence[str]) -> list[Prediction]:
    """What one picture's (2 + classes, H, W) probabilities show."""
    foreground = 1 - probabilities[BACKGROUND]
    found = []
    for region in _regions(foreground, probabilities[INSIDE:].sum(axis=0)):
        kinds = probabilities[INSIDE:, region].sum(axis=1)
        sure = float(foreground[region].mean())
        for name, share in zip(names, kinds / max(float(kinds.sum()), 1e-9), strict=True):
            if sure * share >= LEAST_CONFIDENCE:
                found.append(Prediction(name, encode_coco(region), min(1.0, float(sure * share)), "pixels"))
    return found


def _regions(foreground: Probabilities, inside: Probabilities) -> list[Bools]:
    sure = foreground >= SURE
    core = inside >= SURE
    depth = cv2.GaussianBlur(cv2.distanceTransform(core.astype(np.uint8), cv2.DIST_L2, 5), (0, 0), 1.0)
    seeds, count = ndimage.label(core & (depth == ndimage.maximum_filter(depth, 5)), np.ones((3, 3)))
    bodies, _ = ndimage.label(sure | (seeds > 0))
    alone = np.setdiff1d(np.unique(bodies), np.unique(bodies[seeds > 0]))
    for body in alone[alone > 0].tolist():
        count += 1
        seeds[bodies == body] = count
    if count:
        nearest = ndimage.distance_transform_edt(seeds == 0, return_distances=False, return_indices=True)
        seeds = np.where(sure, seeds[tuple(nearest)], seeds)
    faint, spots = ndimage.label(foreground >= FAINT)
    touched = set(np.unique(faint[bodies > 0]).tolist())
    regions = [seeds == k for k in range(1, count + 1)]
    regions += [faint == k for k in range(1, spots + 1) if k not in touched]
    return [region for region in regions if region.sum() >= SMALLEST]
