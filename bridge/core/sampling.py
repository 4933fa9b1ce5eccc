"""How many of the findings are real errors: an unbiased sample of them, and what verdicts so far promise for the next.

The top of a ranked list says nothing about the rest of it. A *stratified sample* does: the findings are divided into
strata (error type, class, band of score), and each gives its share, by chance. From the verdicts on it follows the rate
of real errors among all findings, with an interval.

*Precision* of a scorer on a class is learned as verdicts come in. With few of them it is that of all its classes
together, as if ``PRIOR_VERDICTS`` verdicts of that precision had been given for each class.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from bridge.core.annotations import digest
from bridge.core.metrics import wilson_interval
from bridge.errors import DataError

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

PRIOR_VERDICTS = 4.0
#: Two-sided normal quantile of 95 percent.
_Z = 1.959963984540054


@dataclass(frozen=True, slots=True)
class Estimate:
    """A figure and the bounds that hold it in 95 cases of 100."""

    value: float
    low: float
    high: float


def stratified_sample(keys: Sequence[str], stratum: Ints, count: int, seed: int) -> Ints:
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


def expect_hits(accepted: Ints, rejected: Ints, parent: Ints, ahead: Ints) -> Estimate:
    """How many real errors the next findings hold, from the verdicts so far.

    Findings that are reviewed first are likelier than those that follow, so groups should be no wider than a band of
    score: (scorer, error, class, band), their parent being (scorer, error, band).

    Args:
        accepted, rejected: (G,) int64, verdicts so far of each group.
        parent: (G,) int64 from 0, the groups whose precision is alike.
        ahead: (G,) int64, findings of each group among the next.

    Returns:
        ``value`` and its bounds, in findings.
    """
    alpha, beta = precision(accepted, rejected, parent)
    mean, total = alpha / (alpha + beta), alpha + beta
    expected = float(ahead @ mean)
    # Each group's hits follow a beta-binomial law: the chance of each finding, and that the precision is not known.
    spread = float((ahead * mean * (1 - mean) * (total + ahead) / (total + 1)).sum())
    # What is not known of a parent's precision, all its groups share.
    parents = int(parent.max(initial=-1)) + 1
    p_alpha = np.bincount(parent, accepted, parents) + 1
    p_beta = np.bincount(parent, rejected, parents) + 1
    p_total = p_alpha + p_beta
    p_variance = p_alpha * p_beta / (p_total**2 * (p_total + 1))
    leaning = np.bincount(parent, ahead * PRIOR_VERDICTS / total, parents)
    margin = _Z * math.sqrt(spread + float((leaning**2 * p_variance).sum()))
    return Estimate(expected, max(0.0, expected - margin), min(float(ahead.sum()), expected + margin))


def precision(accepted: Ints, rejected: Ints, parent: Ints) -> tuple[Floats, Floats]:
    """The precision of each group as a beta law: two (G,) float64, above 0; ``alpha / (alpha + beta)`` is its mean.

    Args:
        accepted, rejected, parent: as in :func:`expect_hits`.

    Raises:
        DataError: a count is negative.
    """
    if ((accepted < 0) | (rejected < 0)).any():
        raise DataError("a count of verdicts is negative", expected="0 or more accepted and rejected")
    parents = int(parent.max(initial=-1)) + 1
    hits, misses = np.bincount(parent, accepted, parents) + 1, np.bincount(parent, rejected, parents) + 1
    usual = (hits / (hits + misses))[parent]
    return accepted + PRIOR_VERDICTS * usual, rejected + PRIOR_VERDICTS * (1 - usual)


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
