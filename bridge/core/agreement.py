"""How far several raters agree, beyond what chance would give: one rating of each subject by each rater.

Ratings are (N, R) int64, one row a subject, one column a rater: classes from 0, -1 where a rater did not rate the
subject. Objects become subjects by clustering them first (:mod:`bridge.core.consensus`), "absent" being a class of its
own for a rater who saw the image but not the object.

All coefficients are 1 for full agreement, 0 for as much as by chance, below 0 for less, and None where the question has
no answer: nothing was rated twice, or only one class was ever used, so that chance would agree fully too.

Cohen's kappa, Fleiss' and alpha sink with prevalence: where nearly all subjects are of one class, a few quarrels look
like chance. Clustered objects are such subjects, for the places where nobody saw anything are not among them.
:func:`object_kappa` is made for those.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from bridge.errors import DataError

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


def cohen_kappa(a: Ints, b: Ints) -> float | None:
    """Agreement of two raters, ``(p_o - p_e) / (1 - p_e)`` (Cohen, 1960).

    ``p_o`` is the share of subjects on which they agree, ``p_e`` what it would be if each kept to the shares of their
    own classes but chose blindly.

    Args:
        a, b: (N,) int64; subjects that one of them did not rate (-1) do not count.
    """
    both = (a >= 0) & (b >= 0)
    if not both.any():
        return None
    classes = int(max(a[both].max(), b[both].max())) + 1
    share_a, share_b = (np.bincount(x[both], minlength=classes) / both.sum() for x in (a, b))
    return _beyond_chance(float((a[both] == b[both]).mean()), float(share_a @ share_b))


def fleiss_kappa(counts: Ints) -> float | None:
    """Agreement of a fixed number of raters who need not be the same ones for each subject (Fleiss, 1971).

    Args:
        counts: (N, K) int64, how many raters put each subject into each class.

    Raises:
        DataError: subjects were rated by different numbers of raters; use :func:`krippendorff_alpha` for those.
    """
    raters = counts.sum(axis=1)
    if raters.size and (raters != raters[0]).any():
        raise DataError(
            f"subjects have from {raters.min()} to {raters.max()} ratings", expected="the same number of ratings each"
        )
    if not raters.size or raters[0] < 2:
        return None
    n = int(raters[0])
    observed = float(((counts * (counts - 1)).sum(axis=1) / (n * (n - 1))).mean())
    shares = counts.sum(axis=0) / counts.sum()
    return _beyond_chance(observed, float(shares @ shares))


def krippendorff_alpha(ratings: Ints) -> float | None:
    """Nominal alpha, ``1 - D_o / D_e``, for any number of raters and with gaps (Krippendorff, 2011).

    ``D_o`` is the share of unequal pairs within subjects, each subject weighing as much as it has ratings, ``D_e``
    that among all pairs of ratings whatever the subject. Subjects with a single rating do not count.

    Args:
        ratings: (N, R) int64 as in the module's text.
    """
    counts = class_counts(ratings)
    rated = counts.sum(axis=1)
    counts = counts[rated > 1].astype(np.float64)
    if not len(counts):
        return None
    rated = counts.sum(axis=1)
    total, shares = float(rated.sum()), counts.sum(axis=0)
    agreeing = float(((counts * (counts - 1)).sum(axis=1) / (rated - 1)).sum())
    by_chance = float((shares * (shares - 1)).sum()) / (total - 1)
    return _beyond_chance(agreeing / total, by_chance / total)


def class_counts(ratings: Ints) -> Ints:
    """(N, K) int64: how many raters put each subject into each class; K is one more than the highest class."""
    classes = int(ratings.max(initial=-1)) + 1
    rows, columns = np.nonzero(ratings >= 0)
    counts = np.zeros((len(ratings), classes), dtype=np.int64)
    np.add.at(counts, (rows, ratings[rows, columns]), 1)
    return counts


def object_kappa(agreed: int, marked: int) -> float | None:
    """Kappa of two raters who mark objects: ``2 * agreed / marked``, in [0, 1].

    It is what Cohen's kappa comes to when the places at which neither marks anything count as agreement and there is
    no end to them, and is known as positive agreement or F1 (Hripcsak and Rothschild, 2005, JAMIA 12:296).

    Args:
        agreed: objects that both marked, as the same class.
        marked: objects that one marked plus those that the other did.
    """
    return 2 * agreed / marked if marked else None


def pair_kappas(ratings: Ints) -> Floats:
    """Cohen's kappa of each two raters over what both rated: (R, R) float64, symmetric, NaN where it has no answer."""
    raters = ratings.shape[1]
    matrix = np.full((raters, raters), np.nan)
    for a in range(raters):
        for b in range(a, raters):
            kappa = cohen_kappa(ratings[:, a], ratings[:, b])
            matrix[a, b] = matrix[b, a] = np.nan if kappa is None else kappa
    return matrix


def _beyond_chance(observed: float, by_chance: float) -> float | None:
    return None if by_chance >= 1.0 - 1e-12 else (observed - by_chance) / (1.0 - by_chance)
