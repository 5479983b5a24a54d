"""ROC curves of weighted scores: larger score = said to be a member. Ties count half in the area, never a coin toss.

At a false-positive rate between two thresholds the curve is read as a step (what a threshold can reach), not interpolated.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from engine.errors import DataError

FALSE_POSITIVES_NEEDED = 10
LOG_POINTS = 400
_ROUNDING = 1e-9  # summed weights may miss a rate such as 0.01 by their rounding


@dataclass(frozen=True)
class Roc:
    """From (0, 0) to (1, 1), one point for each distinct score: rates of `score >= threshold`, as fractions."""

    fpr: Float[np.ndarray, " p"]
    tpr: Float[np.ndarray, " p"]
    threshold: Float[np.ndarray, " p"]


def roc(score: Float[np.ndarray, " n"], member: Bool[np.ndarray, " n"], weight: Float[np.ndarray, " n"] | None = None) -> Roc:
    """The exact curve. `weight` (default 1 each) must be finite and not negative.

    Raises: DataError when a score is NaN, a weight is not usable, or members or non-members have no weight at all.
    """
    weight = np.ones(len(score)) if weight is None else weight
    if np.isnan(score).any():
        raise DataError(f"ROC: {np.isnan(score).sum()} of {len(score)} scores are NaN")
    if not (np.isfinite(weight) & (weight >= 0)).all():
        raise DataError("ROC: weights must be finite and not negative")
    if not (weight[member].sum() > 0 and weight[~member].sum() > 0):
        raise DataError("ROC: needs members and non-members, got only one kind")
    order = np.argsort(score)[::-1]  # in no stable way, which takes longer: points stand between runs of ties only
    threshold, tpr, fpr = np.empty(len(score) + 1), np.zeros(len(score) + 1), np.zeros(len(score) + 1)
    threshold[0], threshold[1:] = np.inf, score[order]
    signed = np.where(member, weight, -weight)[order]  # one walk through memory in random order instead of two
    del order
    np.maximum(signed, 0, out=tpr[1:])
    np.negative(signed, out=signed)
    np.maximum(signed, 0, out=fpr[1:])
    for rate in (tpr[1:], fpr[1:]):  # in place: at full size each of these takes a tenth of all memory
        np.cumsum(rate, out=rate)
        rate /= rate[-1]
    last = np.append(threshold[1:] != threshold[:-1], True)  # of each run of ties; the start is above all scores
    return Roc(fpr, tpr, threshold) if last.all() else Roc(fpr[last], tpr[last], threshold[last])


def area(curve: Roc) -> float:
    """Area under the curve: the chance that a member scores above a non-member, ties half. 1/2 = nothing leaks."""
    return float(np.sum(np.diff(curve.fpr) * (curve.tpr[1:] + curve.tpr[:-1]) / 2))


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
