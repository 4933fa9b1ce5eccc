"""Cutting one object out of a patch of an image: colours, edges and a notion of where the object lies.

The energy is that of GrabCut (Rother, Kolmogorov, Blake: GrabCut, 2004): per pixel how much better its colour fits the
object than the background, and between neighbours a price for cutting that is low where the colour changes; the colour
models are learnt again from each cut. Two things differ. A *prior* says for each pixel how likely the prompt makes it
part of the object, so that a cut does not vanish where object and background share colours. And the minimum is found
by Chambolle and Pock's primal-dual method (2011) on the convex relaxation, which costs the same for every picture,
where a maximum flow over the same patch may take ten times as long as over another one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from bridge.core.annotations import Xyxy
from bridge.core.masks import Bools
from ml_backend.models.interactor import Point

Floats = npt.NDArray[np.float32]
Labels = npt.NDArray[np.int8]
Pixels = npt.NDArray[np.uint8]

#: What cutting between two pixels of like colour costs, in units of log odds; and the least it ever costs, as a share.
_SMOOTHNESS = 4.0
_LEAST_SMOOTH = 0.02
#: Colours are evidence up to these log odds: a colour that occurs only in the object so far may occur beside it too.
_MOST_EVIDENCE = 2.0
#: Colours that were not seen count as this many pixels of the patch's own mixture.
_UNSEEN = 15.0
_CERTAIN = 50.0
_STEP = 0.35  # tau = sigma; convergence asks for at most 1 / sqrt(8)
_SAMPLE = 1500  # pixels from which the main colours are taken
_SEED = 1


@dataclass(frozen=True, slots=True)
class Patch:
    """A window of the image at working resolution.

    Attributes:
        window: half-open ``xyxy``, whole pixels of the image.
        lab: (h, w, 3) uint8, the window in CIE Lab, perhaps reduced.
    """

    window: tuple[int, int, int, int]
    lab: Pixels

    @classmethod
    def of(cls, lab: Pixels, window: tuple[int, int, int, int], most: int) -> Patch:
        """``window`` of the (H, W, 3) image ``lab``, reduced to about ``most`` pixels by averaging."""
        x1, y1, x2, y2 = window
        part = lab[y1:y2, x1:x2]
        scale = (most / ((y2 - y1) * (x2 - x1))) ** 0.5
        if scale >= 1:
            return cls(window, np.ascontiguousarray(part))
        size = (max(1, round((x2 - x1) * scale)), max(1, round((y2 - y1) * scale)))
        return cls(window, np.asarray(cv2.resize(part, size, interpolation=cv2.INTER_AREA), np.uint8))

    @property
    def shape(self) -> tuple[int, int]:
        return self.lab.shape[0], self.lab.shape[1]

    @property
    def scale(self) -> tuple[float, float]:
        """Pixels of the patch per pixel of the image, in x and y."""
        x1, y1, x2, y2 = self.window
        return self.lab.shape[1] / (x2 - x1), self.lab.shape[0] / (y2 - y1)

    def grid(self) -> tuple[Floats, Floats]:
        """x (1, w) and y (h, 1) of the pixels' centres, in pixels of the image."""
        fx, fy = self.scale
        x = (np.arange(self.lab.shape[1], dtype=np.float32) + 0.5) / np.float32(fx) + np.float32(self.window[0])
        y = (np.arange(self.lab.shape[0], dtype=np.float32) + 0.5) / np.float32(fy) + np.float32(self.window[1])
        return x[None, :], y[:, None]

    def places(self, points: Sequence[Point]) -> list[tuple[int, int]]:
        """The pixel ``(column, row)`` of each point of the image that lies in the window; others are left out."""
        fx, fy = self.scale
        x1, y1, x2, y2 = self.window
        last_x, last_y = self.lab.shape[1] - 1, self.lab.shape[0] - 1
        return [
            (min(last_x, int((x - x1) * fx)), min(last_y, int((y - y1) * fy)))
            for x, y in points
            if x1 <= x < x2 and y1 <= y < y2
        ]

    def distance(self, points: Sequence[Point]) -> Floats:
        """(h, w) distance of each pixel to the nearest point, in pixels of the image; far where there is none."""
        x, y = self.grid()
        nearest = np.full(self.shape, 1e9, np.float32)
        for px, py in points:
            np.minimum(nearest, np.hypot(x - np.float32(px), y - np.float32(py)), out=nearest)
        return nearest

    def change(self) -> Floats:
        """(h, w) how much the colour changes from the left or upper neighbour, grain aside, in mean changes of the
        patch, at most 6."""
        numbers = cv2.GaussianBlur(self.lab, (0, 0), 1).astype(np.float32)
        change = np.zeros(self.shape, np.float32)
        change[:, 1:] = np.sqrt(np.square(numbers[:, 1:] - numbers[:, :-1]).sum(axis=2))
        np.maximum(change[1:], np.sqrt(np.square(numbers[1:] - numbers[:-1]).sum(axis=2)), out=change[1:])
        change /= np.float32(max(1e-3, float(change.mean())))
        return np.asarray(np.minimum(change, 6), np.float32)


@dataclass(frozen=True, slots=True)
class Cut:
    """Attributes:
    inside: (h, w) float32 in [0, 1], how much of each pixel belongs to the object.
    evidence: (h, w) float32, log odds of the pixel's colour, object against background.
    """

    inside: Floats
    evidence: Floats

    @property
    def mask(self) -> Bools:
        return self.inside > 0.5


def cut(patch: Patch, prior: Floats, fixed: Labels, *, trust: float, colours: int, rounds: int, steps: int) -> Cut:
    """The object in ``patch``.

    Args:
        prior: (h, w) log odds that a pixel belongs to the object, from where it lies.
        fixed: (h, w), 1 on pixels known to belong to the object, -1 on pixels known not to, else 0.
        trust: how much the prior counts once colours are known.
        colours: into how many colours the patch is divided, at most.
        rounds: how often the colour models are learnt.
        steps: of the minimisation in each round.
    """
    place, number = _palette(patch.lab, colours)
    flat = place.ravel()
    right, down = edge_prices(patch.lab)
    inside = _logistic(prior)
    inside[fixed > 0], inside[fixed < 0] = 1, 0
    mixture = np.bincount(flat, minlength=number) / flat.size
    evidence = np.zeros(patch.shape, np.float32)
    for _ in range(rounds):
        ours = np.bincount(flat, weights=inside.ravel(), minlength=number)
        theirs = np.maximum(mixture * flat.size - ours, 0)
        ours = (ours + _UNSEEN * mixture + 1e-9) / (ours.sum() + _UNSEEN)
        theirs = (theirs + _UNSEEN * mixture + 1e-9) / (theirs.sum() + _UNSEEN)
        odds = np.clip(np.log(ours / theirs), -_MOST_EVIDENCE, _MOST_EVIDENCE).astype(np.float32)
        evidence = odds[place]
        cost = -(evidence + np.float32(trust) * prior)
        cost[fixed > 0], cost[fixed < 0] = -_CERTAIN, _CERTAIN
        inside = _minimise(cost, right, down, inside, steps)
    return Cut(inside, evidence)


def edge_prices(lab: Pixels) -> tuple[Floats, Floats]:
    """The price of cutting between each pixel and its right (h, w - 1) and lower (h - 1, w) neighbour.

    ``exp(-d^2 / (2 mean(d^2)))`` of the distance d of their colours, as in GrabCut, times the smoothness.
    """
    numbers = lab.astype(np.float32)
    right = np.square(numbers[:, 1:] - numbers[:, :-1]).sum(axis=2)
    down = np.square(numbers[1:] - numbers[:-1]).sum(axis=2)
    pairs = max(1, right.size + down.size)
    steepness = np.float32(1 / (2 * max(1e-3, float(right.sum() + down.sum()) / pairs)))

    def price(squared: Floats) -> Floats:
        kept = np.float32(_LEAST_SMOOTH) + np.float32(1 - _LEAST_SMOOTH) * np.exp(-steepness * squared)
        return np.asarray(np.float32(_SMOOTHNESS) * kept, np.float32)

    return price(right), price(down)


def box_prior(patch: Patch, box: Xyxy) -> tuple[Floats, Labels]:
    """Log odds and fixed pixels for an object in a box that fits roughly.

    Objects fill the middle of their boxes and leave the corners: over boxes of photos the share of pixels that belong
    to the object falls from about 0.88 in the middle to a third on the inscribed ellipse. Beside the box it falls off
    within 6 % of its sides, since people draw boxes that are a little small; from 12 % on nothing belongs to it.
    """
    x, y = patch.grid()
    u = (x - (box[0] + box[2]) / 2) / ((box[2] - box[0]) / 2)
    v = (y - (box[1] + box[3]) / 2) / ((box[3] - box[1]) / 2)
    beside = np.maximum(np.abs(u), np.abs(v)).astype(np.float32) - 1
    prior = (2.0 - 2.7 * (u * u + v * v)).astype(np.float32)
    prior = np.where(beside > 0, np.minimum(prior, -3 * np.clip(beside / 0.06, 0.3, 1)), prior)
    return prior.astype(np.float32), np.where(beside > 0.12, -1, 0).astype(np.int8)


def disc_prior(patch: Patch, points: Sequence[Point], radius: float) -> Floats:
    """Log odds for an object of about ``radius`` pixels of the image around the nearest of ``points``."""
    away = patch.distance(points) / np.float32(radius)
    return np.asarray(np.maximum(2.0 - 2.7 * np.square(away), -3), np.float32)


def pin(fixed: Labels, patch: Patch, points: Sequence[Point], radius: float, value: int) -> None:
    """Fix the pixels within ``radius`` (pixels of the image, at least the pixel itself) of each point to ``value``."""
    fixed[patch.distance(points) <= radius] = value
    for column, row in patch.places(points):
        fixed[row, column] = value


def connected(mask: Bools, places: Sequence[tuple[int, int]]) -> Bools:
    """The 4-connected parts of ``mask`` that hold one of the places ``(column, row)``."""
    _, number = cv2.connectedComponents(mask.astype(np.uint8), connectivity=4)
    wanted = {int(number[row, column]) for column, row in places} - {0}
    return np.isin(number, list(wanted))


def without_holes(mask: Bools, largest: float = np.inf, kept: Sequence[tuple[int, int]] = ()) -> Bools:
    """``mask`` with the holes of at most ``largest`` pixels filled, but for those that hold one of the places ``kept``
    ``(column, row)``; what touches the border is no hole."""
    count, number, stats, _ = cv2.connectedComponentsWithStats((~mask).astype(np.uint8), connectivity=4)
    rim = np.concatenate([number[0], number[-1], number[:, 0], number[:, -1]])
    open_ = {int(number[row, column]) for column, row in kept} | set(rim.tolist())
    holes = [i for i in range(1, count) if i not in open_ and stats[i, cv2.CC_STAT_AREA] <= largest]
    return mask | np.isin(number, holes)


def _logistic(odds: Floats) -> Floats:
    return (1 / (1 + np.exp(-np.clip(odds, -30, 30)))).astype(np.float32)


def _palette(lab: Pixels, colours: int) -> tuple[npt.NDArray[np.intp], int]:
    """Which of the patch's main colours each pixel has, and how many there are."""
    pixels = lab.reshape(-1, 3).astype(np.float32)
    sample = pixels[:: max(1, len(pixels) // _SAMPLE)]
    number = min(colours, len(sample))
    if number == 1:
        return np.zeros(lab.shape[:2], np.intp), 1
    cv2.setRNGSeed(_SEED)  # of this thread
    stop = (cv2.TERM_CRITERIA_EPS + cv2.TERM_CRITERIA_MAX_ITER, 8, 1.0)
    _, _, centres = cv2.kmeans(sample, number, None, stop, 1, cv2.KMEANS_PP_CENTERS)  # type: ignore[call-overload]
    distance = pixels @ (-2 * centres.T)
    distance += np.square(centres).sum(axis=1)
    return distance.argmin(axis=1).reshape(lab.shape[:2]), number


def _minimise(cost: Floats, right: Floats, down: Floats, start: Floats, steps: int) -> Floats:
    """The u in [0, 1] with the least ``sum(cost * u) + sum(right * |u's steps to the right|) + sum(down * ...)``."""
    tau = np.float32(_STEP)
    u, cost = start.copy(), tau * cost
    ahead, new = u.copy(), np.empty_like(u)
    p, q = np.zeros_like(right), np.zeros_like(down)
    least_p, least_q = -right, -down
    dx, dy = np.empty_like(right), np.empty_like(down)
    for _ in range(steps):
        np.subtract(ahead[:, 1:], ahead[:, :-1], out=dx)
        dx *= tau
        p += dx
        np.maximum(p, least_p, out=p)
        np.minimum(p, right, out=p)
        np.subtract(ahead[1:], ahead[:-1], out=dy)
        dy *= tau
        q += dy
        np.maximum(q, least_q, out=q)
        np.minimum(q, down, out=q)
        np.subtract(u, cost, out=new)
        np.multiply(p, tau, out=dx)
        new[:, :-1] += dx
        new[:, 1:] -= dx
        np.multiply(q, tau, out=dy)
        new[:-1] += dy
        new[1:] -= dy
        np.maximum(new, 0, out=new)
        np.minimum(new, 1, out=new)
        np.multiply(new, 2, out=ahead)
        ahead -= u
        u, new = new, u
    return u
