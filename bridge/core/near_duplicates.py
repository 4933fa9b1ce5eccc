"""Images that show one picture: recompressed, resized, brighter, slightly cropped, or frames that follow one another.

Thumbnails are compared as :mod:`bridge.core.fingerprints` says. Pairs that are half alike are compared once more with
one of the two cropped a little, which lifts a copy that was cropped by a tenth from .5 to .9, and pairs of different
pictures to .55 at most. Where all images of a target look much the same (X-rays, a camera that never moves), pairs have
to be more alike than is usual for it. The constants were set on photographs and blood smears;
``benchmarks/quality/duplicates.py`` measures them.
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from bridge.core.fingerprints import CELLS, alike_pairs, steps

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]

#: How alike a pair has to be, cropped at best, to be as likely one picture as not; and how fast that becomes sure.
_EVEN, _SLOPE = 0.65, 0.04
#: Pairs below this are not compared with crops.
_CANDIDATE = 0.45
#: The middle of a crop, and how much of the width and height it keeps.
_KEPT = (0.95, 0.9)
_PLACES = (-1.0, 0.0, 1.0)
_CHUNK = 4096
#: What is usual is told from so many images; fewer than the first number tell nothing.
_USUAL_FROM, _USUAL_OF = 20, 1500
#: How far above the median pair a pair has to be, in distances from the median down to the 16th percentile. Copies lie
#: above the median, so that they do not count in it.
_UNUSUAL = 4.0
#: Never asked for more than this.
_SURE = 0.97
#: Pairs per image that are kept at most.
_MOST = 40


@dataclass(frozen=True, slots=True)
class Alike:
    """Which images show one picture.

    Attributes:
        node: (N,) int64: images with the very same thumbnail are one node, numbered by what they show, so that the
            order of images does not matter; -1 for an image of a single colour, which is like no other.
        first, second: (P,) int64 nodes.
        score: (P,) float64 in [0.5, 1], the degree to which the two are one picture.
    """

    node: Ints
    first: Ints
    second: Ints
    score: npt.NDArray[np.float64]

    def centres(self) -> Ints:
        """(nodes,) int64: the node around which each one's group lies.

        Each member is directly alike to its centre, so that a long video does not become one group (star clustering:
        Aslam, Pelekhov, Rus 2004). The node with most likeness around it comes first.
        """
        count = int(self.node.max(initial=-1)) + 1
        near: defaultdict[int, list[tuple[int, float]]] = defaultdict(list)
        for a, b, score in zip(self.first.tolist(), self.second.tolist(), self.score.tolist(), strict=True):
            near[a].append((b, score))
            near[b].append((a, score))
        weight = {a: round(sum(score for _, score in others), 6) for a, others in near.items()}
        centres = np.arange(count, dtype=np.int64)
        taken: set[int] = set()
        for a in sorted(near, key=lambda a: (-weight[a], a)):
            if a not in taken:
                members = [a, *(b for b, _ in near[a] if b not in taken)]
                centres[members] = a
                taken.update(members)
        return centres


def find_alike(thumbnails: npt.NDArray[np.uint8]) -> Alike:
    """Compare all images with one another.

    Args:
        thumbnails: (N, 16, 16) uint8, from :func:`bridge.core.fingerprints.thumbnail`.
    """
    flat, inverse = np.unique(thumbnails.reshape(-1, CELLS * CELLS), axis=0, return_inverse=True)
    vectors = steps(flat.reshape(-1, CELLS, CELLS))
    plain = ~vectors.any(axis=1)
    flat, vectors = flat[~plain], vectors[~plain]
    numbers = np.where(plain, -1, np.cumsum(~plain) - 1)
    even = _even(vectors)
    first, second, alike = alike_pairs(vectors, min(_CANDIDATE, even), _MOST * max(1, len(thumbnails)))
    pictures = flat.reshape(-1, CELLS, CELLS)
    parts = range(0, len(first), _CHUNK)
    best = [_alike_cropped(pictures[first[k : k + _CHUNK]], pictures[second[k : k + _CHUNK]]) for k in parts]
    alike = np.maximum(alike, np.concatenate([np.zeros(0, np.float32), *best]))
    score = 1.0 / (1.0 + np.exp((even - alike.astype(np.float64)) / _SLOPE))
    kept = score >= 0.5
    return Alike(numbers[inverse.reshape(-1)].astype(np.int64), first[kept], second[kept], score[kept])


def _even(vectors: Floats) -> float:
    """How alike a pair of these images has to be to be as likely one picture as not."""
    if len(vectors) < _USUAL_FROM:
        return _EVEN
    sample = vectors[np.linspace(0, len(vectors) - 1, min(len(vectors), _USUAL_OF)).astype(np.int64)]
    pairs = (sample @ sample.T)[np.triu_indices(len(sample), 1)]
    low, middle = np.quantile(pairs, (0.16, 0.5))
    return float(np.clip(middle + _UNUSUAL * (middle - low), _EVEN, _SURE))


def _crops() -> list[tuple[Floats, Floats]]:
    """Matrices that resample the rows and the columns of a thumbnail as if the image had been cropped."""
    made = []
    for kept, down, across in itertools.product(_KEPT, _PLACES, _PLACES):
        slack = (1.0 - kept) / 2.0 * CELLS
        made.append((_resampling(kept, down * slack), _resampling(kept, across * slack)))
    return made


def _resampling(kept: float, moved: float) -> Floats:
    """(16, 16): linear interpolation at the middles of the cells of a crop."""
    at = (np.arange(CELLS) + 0.5 - CELLS / 2) * kept + CELLS / 2 - 0.5 + moved
    at = at.clip(0, CELLS - 1)
    left = np.minimum(at.astype(np.int64), CELLS - 2)
    matrix = np.zeros((CELLS, CELLS), np.float32)
    rows = np.arange(CELLS)
    matrix[rows, left] = 1.0 - (at - left)
    matrix[rows, left + 1] = at - left
    return matrix


def _alike_cropped(first: npt.NDArray[np.uint8], second: npt.NDArray[np.uint8]) -> Floats:
    """(P,) how alike pairs of thumbnails are at best, when either of the two is cropped."""
    best = np.full(len(first), -1.0, np.float32)
    for whole, other in ((first, second), (second, first)):
        theirs = steps(other)
        pixels = whole.astype(np.float32)
        for down, across in _crops():
            cropped = (down @ pixels @ across.T).astype(np.float32)
            best = np.maximum(best, (steps(cropped) * theirs).sum(axis=1))
    return best
