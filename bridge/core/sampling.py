"""How many of the findings are real errors: an unbiased sample of them.

The top of a ranked list says nothing about the rest of it. A *stratified sample* does: the findings are divided into
strata (error type, class, band of score), and each gives its share, by chance. From the verdicts on it follows the rate
of real errors among all findings, with an interval.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from bridge.core.annotations import digest
from bridge.core.metrics import wilson_interval
from bridge.errors import DataError

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

#: Findings of a stratum in the sample, at least: fewer say little of how much they differ.
_LEAST_DRAWN = 4


@dataclass(frozen=True, slots=True)
class Estimate:
    """A figure and the bounds that hold it in 95 cases of 100."""

    value: float
    low: float
    high: float


def strata(keys: Sequence[Sequence[Hashable]], count: int) -> Ints:
    """Strata fine enough to tell findings apart, and each large enough for a sample to hold several of it.

    Findings with the same whole key make a stratum. Where that is too small, those with the same beginning of the key
    are taken together, and what remains is one stratum.

    Args:
        keys: (N,) texts and numbers, from coarse to fine, all of one length.
        count: how many are to be drawn.

    Returns:
        (N,) int64 from 0; the same for the same keys, whatever their order.
    """
    least = _LEAST_DRAWN * len(keys) / max(count, 1)
    chosen: list[tuple[Hashable, ...]] = [()] * len(keys)
    left = list(range(len(keys)))
    for length in range(len(keys[0]) if keys else 0, 0, -1):
        size = Counter(tuple(keys[row][:length]) for row in left)
        for row in left:
            if size[tuple(keys[row][:length])] >= least:
                chosen[row] = tuple(keys[row][:length])
        left = [row for row in left if not chosen[row]]
    number = {key: k for k, key in enumerate(sorted(set(chosen), key=repr))}
    return np.array([number[key] for key in chosen], dtype=np.int64)


def stratified_sample(keys: Sequence[str], stratum: Ints, count: int, seed: int | str) -> Ints:
    """The rows of a sample in which each stratum has its share.

    Shares are rounded so that they sum to ``count``, the largest remainders upwards; a stratum whose share is below one
    gets one as long as ``count`` allows, so that nothing goes unseen. Which rows are drawn depends on the seed and on
    what they are, not on their order.

    Args:
        keys: (N,) names of the findings, all different.
        stratum: (N,) int64.
        count: how many to draw; more than N is N.
        seed: another seed draws another sample.

    Returns:
        (min(count, N),) int64, rising.

    Raises:
        DataError: a key occurs twice, or ``count`` is negative.
    """
    if count < 0 or len(set(keys)) != len(keys):
        raise DataError(f"a sample of {count} of {len(keys)} findings", expected="0 or more of findings that differ")
    names, member, size = np.unique(stratum, return_inverse=True, return_counts=True)
    share = size * min(count, len(keys)) / max(len(keys), 1)
    draws = _rounded(share, size, min(count, len(keys)))
    chance = [digest([seed, key]) for key in keys]
    drawn: list[int] = []
    for k in range(len(names)):
        rows = sorted(np.flatnonzero(member == k).tolist(), key=lambda row: chance[row])
        drawn += rows[: draws[k]]
    return np.array(sorted(drawn), dtype=np.int64)


def estimate_rate(size: Ints, judged: Ints, real: Ints) -> Estimate:
    """The share of real errors among all findings, from the verdicts on a stratified sample.

    Each stratum counts by its size. The interval is Wilson's for as many findings as would be as informative without
    strata; that the sample is part of the whole is allowed for.

    Args:
        size: (S,) int64, findings in each stratum, at least 1.
        judged: (S,) int64, how many of them have a verdict.
        real: (S,) int64, how many of those are real errors.

    Returns:
        Shares in [0, 1]; strata without a verdict count as the others do together, and ``0.5`` in ``[0, 1]`` comes back
        when nothing was judged.

    Raises:
        DataError: not ``0 <= real <= judged <= size``.
    """
    if not ((real >= 0) & (real <= judged) & (judged <= size)).all():
        raise DataError("a stratum has more verdicts than findings", expected="0 <= real <= judged <= size in each")
    seen = judged > 0
    if not seen.any():
        return Estimate(0.5, 0.0, 1.0)
    weight = size[seen] / size[seen].sum()
    rate = float(weight @ (real[seen] / judged[seen]))
    # Two verdicts more, one of each kind, keep the variance of a stratum with one outcome above 0 (Agresti and Coull).
    smooth = (real[seen] + 1) / (judged[seen] + 2)
    unseen = 1 - judged.sum() / size.sum()
    variance = float((weight**2 * smooth * (1 - smooth) / judged[seen]).sum()) * unseen
    if variance <= 0:
        return Estimate(rate, rate, rate)
    middle = float(weight @ smooth)
    low, high = wilson_interval(rate * (worth := middle * (1 - middle) / variance), worth)
    return Estimate(rate, low, high)


def _rounded(share: Floats, size: Ints, count: int) -> list[int]:
    """Whole numbers close to ``share`` that sum to ``count``, none above its ``size``."""
    floor = np.floor(share).astype(np.int64)
    least = np.minimum(np.maximum(floor, 1), size) if count >= len(size) else floor
    while (surplus := int(least.sum()) - count) > 0:
        able = np.flatnonzero(least > 1)
        least[able[np.argsort(share[able] - least[able], kind="stable")][:surplus]] -= 1
    while (missing := count - int(least.sum())) > 0:
        room = np.flatnonzero(least < size)
        least[room[np.argsort(least[room] - share[room], kind="stable")][:missing]] += 1
    return [int(n) for n in least]
