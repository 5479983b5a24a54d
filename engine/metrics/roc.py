"""ROC curves of weighted scores: larger score = said to be a member. Ties count half in the area, never a coin toss.

At a false-positive rate between two thresholds the curve is read as a step (what a threshold can reach), not interpolated.
"""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from jaxtyping import Bool, Float, Int, Shaped

from engine.errors import DataError

FALSE_POSITIVES_NEEDED = 10
LOG_POINTS = 400
_ROUNDING = 1e-9  # summed weights may miss a rate such as 0.01 by their rounding
_BLOCK = 1 << 18  # pairs at a time: as many as stay in a processor's cache
_SAMPLED = 256  # of each block's worth of scores, to tell where to cut


@dataclass(frozen=True)
class Roc:
    """From (0, 0) to (1, 1), one point for each distinct score: rates of `score >= threshold`, as fractions."""

    fpr: Float[np.ndarray, " p"]
    tpr: Float[np.ndarray, " p"]
    threshold: Float[np.ndarray, " p"]


def roc(score: Float[np.ndarray, " n"], member: Bool[np.ndarray, " n"], weight: Float[np.ndarray, " n"] | None = None) -> Roc:
    """The exact curve. `weight` (default 1 each) must be finite and not negative. Scores that come from the highest down are not sorted again.

    Raises: DataError when a score is NaN, a weight is not usable, or members or non-members have no weight at all.
    """
    weight = np.ones(len(score)) if weight is None else weight
    if np.isnan(score).any():
        raise DataError(f"ROC: {np.isnan(score).sum()} of {len(score)} scores are NaN")
    if not (np.isfinite(weight) & (weight >= 0)).all():
        raise DataError("ROC: weights must be finite and not negative")
    if not (score[1:] <= score[:-1]).all():
        order = np.argsort(score)[::-1]  # in no stable way, which takes longer: points stand between runs of ties only
        score, member, weight = score[order], member[order], weight[order]
    threshold, tpr, fpr = np.empty(len(score) + 1), np.zeros(len(score) + 1), np.zeros(len(score) + 1)
    threshold[0], threshold[1:] = np.inf, score
    for rate, side in ((tpr[1:], member), (fpr[1:], ~member)):  # in place: at full size each of these takes a tenth of all memory
        np.multiply(weight, side, out=rate)
        np.cumsum(rate, out=rate)
        if not rate[-1:].any():
            raise DataError("ROC: needs members and non-members, got only one kind")
        rate /= rate[-1]
    last = np.append(threshold[1:] != threshold[:-1], True)  # of each run of ties; the start is above all scores
    if not last.all():
        fpr = fpr[last]  # one after the other, as above
        tpr = tpr[last]
        threshold = threshold[last]
    return Roc(fpr, tpr, threshold)


def merged(ends: Int[np.ndarray, " r"], score: Float[np.ndarray, " n"], *others: Shaped[np.ndarray, " n"]) -> list[Shaped[np.ndarray, " n"]]:
    """Scores that come in runs, each ascending up to just before its end, as one run from the highest down, and what belongs to them.

    Range by range of score, each of as many as stay in a processor's cache: faster than to sort the whole, and in linear time.
    """
    sample = np.sort(score[::_BLOCK // _SAMPLED])
    cut = sample[np.linspace(0, len(sample), len(score) // _BLOCK + 2).astype(np.int64)[1:-1]]
    bounds = [start + np.concatenate([[0], np.searchsorted(score[start:end], cut), [end - start]])
              for start, end in pairwise([0, *ends.tolist()])]
    made, high = [np.empty_like(of) for of in (score, *others)], 0
    for k in range(len(cut), -1, -1):
        parts = [slice(run[k], run[k + 1]) for run in bounds]
        order = np.argsort(np.concatenate([score[part] for part in parts]))[::-1]
        low, high = high, high + len(order)
        for new, of in zip(made, (score, *others), strict=True):
            new[low:high] = np.concatenate([of[part] for part in parts])[order]
    return made


def weight_below(score: Float[np.ndarray, " n"], member: Bool[np.ndarray, " n"], weight: Float[np.ndarray, " n"],
                 cluster: Int[np.ndarray, " n"], clusters: int, cut: Float[np.ndarray, " c"]) -> Float[np.ndarray, "2 {clusters} c+1"]:
    """Weight of members and of non-members that score below each of the ascending cuts, by cluster (numbered from 0); last, of all."""
    bins = len(cut) + 1
    sums = np.zeros(2 * clusters * bins)
    block = max(_BLOCK, len(sums))
    for start in range(0, len(score), block):
        part = slice(start, start + block)
        place = np.searchsorted(cut, score[part], side="right")
        place += (cluster[part] + clusters * ~member[part]) * np.int64(bins)
        sums += np.bincount(place, weight[part], len(sums))
    return np.cumsum(sums.reshape(2, clusters, bins), axis=-1)


def area(curve: Roc) -> float:
    """Area under the curve: the chance that a member scores above a non-member, ties half. 1/2 = nothing leaks."""
    step = np.diff(curve.fpr)
    return float(step @ curve.tpr[1:] + step @ curve.tpr[:-1]) / 2


def auc(member: Float[np.ndarray, " n"], non_member: Float[np.ndarray, " m"]) -> float:
    """Area under the curve of two plain samples of scores, larger = member. Raises: DataError when one is empty or has a NaN."""
    score = np.concatenate([member, non_member])
    return area(roc(score, np.arange(len(score)) < len(member)))


def tpr_at_fpr(curve: Roc, fpr: float) -> float:
    """Share of members found by the best threshold whose false-positive rate is at most `fpr`: larger = more leaked."""
    return float(_tpr_at(curve, np.array([fpr]))[0])


def smallest_fpr(non_members: float) -> float:
    """Smallest false-positive rate that so many (effective, independent) non-members can resolve: ten of them must be
    expected above the threshold, so that the rate's own relative standard error is at most about a third."""
    return FALSE_POSITIVES_NEEDED / non_members


def log_spaced(curve: Roc, smallest: float, points: int = LOG_POINTS) -> tuple[Float[np.ndarray, " q"], Float[np.ndarray, " q"]]:
    """(fpr, tpr) at rates spaced evenly in the logarithm from `smallest` to 1, for a log-log plot and for storing.

    Raises: DataError unless 0 < smallest < 1.
    """
    if not 0 < smallest < 1:
        raise DataError(f"the smallest false-positive rate of a curve must lie between 0 and 1, got {smallest}")
    fpr = np.geomspace(smallest, 1.0, points)
    return fpr, _tpr_at(curve, fpr)


def _tpr_at(curve: Roc, fpr: Float[np.ndarray, " q"]) -> Float[np.ndarray, " q"]:
    return curve.tpr[np.searchsorted(curve.fpr, fpr * (1 + _ROUNDING), side="right") - 1]
