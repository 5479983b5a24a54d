"""What every attack reports of its scores: balanced accuracy, AUC, true-positive rates and epsilon, over what is independent."""

from dataclasses import dataclass
from typing import TypedDict

import numpy as np
from jaxtyping import Bool, Float, Int

from engine.attacks import bootstrap
from engine.attacks.bootstrap import DRAWS, Binned, Draws, Estimate
from engine.errors import DataError
from engine.metrics.epsilon import Epsilon, Shares, lower_bound, shares, thresholds
from engine.metrics.roc import Roc, area, log_spaced, roc, smallest_fpr, tpr_at_fpr, weight_below

FPRS = (0.1, 0.01, 0.001)
_COARSEST = 0.1  # where a curve starts that can resolve no rate: one decade is drawn
_SIGN = np.array([0.0, np.nextafter(0.0, 1.0)])  # the edges that tell a score below, of and above 0


class Metric(TypedDict):
    """A row of the `metrics` table, less its run_id."""

    name: str
    value: float
    lo: float | None
    hi: float | None


@dataclass(frozen=True)
class Rates:
    """Fractions, larger = more leaked. smallest_fpr: below it this sample can tell no rate. fpr, tpr: the ROC curve, log-spaced."""

    balanced_accuracy: Estimate
    auc: Estimate
    tpr_at_fpr: dict[float, Estimate]  # those of 0.1, 0.01 and 0.001 that the sample can support
    smallest_fpr: float
    fpr: Float[np.ndarray, " q"]
    tpr: Float[np.ndarray, " q"]
    shares: Shares | None  # of the clusters, at the thresholds that epsilon is chosen from; None of one model's examples

    @property
    def epsilon(self) -> Epsilon | None:
        """The lower bound that these clusters show; None of one model's examples, and where fewer than two clusters have both kinds.
        Not taken before it is asked for: it takes a tenth of a second, and what only checks an attack has no use for it."""
        return None if self.shares is None or self.shares.n_splits < 2 else lower_bound(self.shares)

    def metrics(self) -> list[Metric]:
        """Rows as the store keeps them. Rates that the sample cannot support have none."""
        bound = self.epsilon
        shown = [] if bound is None else [count("epsilon_lower_bound", bound.value), count("epsilon_most", bound.most)]
        return [metric("balanced_accuracy", self.balanced_accuracy), metric("auc", self.auc),
                *(metric(f"tpr_at_fpr_{q:g}", tpr) for q, tpr in self.tpr_at_fpr.items()), count("smallest_fpr", self.smallest_fpr), *shown]


def metric(name: str, found: Estimate) -> Metric:
    return {"name": name, "value": found.value, "lo": found.lo, "hi": found.hi}


def count(name: str, value: float) -> Metric:
    """A number that has no interval."""
    return {"name": name, "value": float(value), "lo": None, "hi": None}


def rates_over_clusters(score: Float[np.ndarray, " n"], member: Bool[np.ndarray, " n"], weight: Float[np.ndarray, " n"],
                        cluster: Int[np.ndarray, " n"], *, times: Int[np.ndarray, "d s"], independent: float, widen: float = 1.0) -> Rates:
    """Of scored pairs (larger = member, called one above 0), drawn by whole clusters, numbered from 0.

    weight: of each pair, where members and non-members have equal sums, balanced accuracy and AUC are over those weights.
    times: how often each cluster is in each draw. independent: non-members that may be held independent at the most.
    widen: factor on the intervals where draws of clusters leave out a part of the variance.
    """
    curve = roc(score, member, weight)
    edges, tried, clusters = bootstrap.edges(curve, smallest_fpr(independent)), thresholds(score), times.shape[1]
    cut = np.union1d(edges, tried)
    below = weight_below(score, member, weight, cluster, clusters, cut)

    def at(some: Float[np.ndarray, " c"]) -> Float[np.ndarray, "2 s b"]:
        return below[..., np.append(np.searchsorted(cut, some), len(cut))]

    table = bootstrap.binned(edges, at(edges))
    smallest = bootstrap.resolution(table, independent)
    drawn = bootstrap.resampled(table, times, _supported(smallest)).widened(widen)
    return _rates(curve, table, smallest, drawn, clusters, shares(tried, at(tried)))


def calls_over_clusters(called: Float[np.ndarray, " n"], member: Bool[np.ndarray, " n"], weight: Float[np.ndarray, " n"],
                        cluster: Int[np.ndarray, " n"], *, times: Int[np.ndarray, "d s"], widen: float = 1.0) -> Estimate:
    """Balanced accuracy alone, of pairs that are called member (above 0) or not (below); all else as in `rates_over_clusters`."""
    clusters = times.shape[1]
    table = bootstrap.binned(_SIGN, weight_below(called, member, weight, cluster, clusters, _SIGN))
    drawn = bootstrap.resampled(table, times, []).widened(widen)
    return bootstrap.estimate(table.balanced_accuracy, drawn.balanced_accuracy, clusters)


def rates_over_examples(score: Float[np.ndarray, " n"], member: Bool[np.ndarray, " n"], *, seed: int = 0, draws: int = DRAWS) -> Rates:
    """Of one model's scores (larger = member, called one above 0), drawn by single examples: how sure the numbers are for this one
    model on such examples, not how they vary between models."""
    curve, n = roc(score, member), len(score)
    smallest = min(smallest_fpr(float((~member).sum())), 1.0)
    edges = bootstrap.edges(curve, min(smallest, _COARSEST))
    table = bootstrap.binned(edges, weight_below(score, member, np.ones(n), np.zeros(n, dtype=np.int64), 1, edges))
    return _rates(curve, table, smallest, bootstrap.resampled_examples(table, seed, _supported(smallest), draws), n, None)


def held_out_thresholds(score: Float[np.ndarray, " n"], member: Bool[np.ndarray, " n"], weight: Float[np.ndarray, " n"],
                        cluster: Int[np.ndarray, " n"], clusters: int) -> Float[np.ndarray, " {clusters}"]:
    """For each cluster, numbered from 0, the threshold (member at or above it) with the best balanced accuracy on the half of the
    clusters that it is not in; halves are the even and the odd numbers.

    Raises: DataError when a half has no members or no non-members.
    """
    best = np.empty(2)
    for half in (0, 1):
        other = cluster % 2 != half
        if not (weight[other & member].any() and weight[other & ~member].any()):
            raise DataError("the threshold is chosen on one half of the splits and used on the other, "
                            "but one half has no members or no non-members that are scored: more splits are needed")
        curve = roc(score[other], member[other], weight[other])
        best[half] = curve.threshold[np.argmax(curve.tpr - curve.fpr)]
    return best[np.arange(clusters) % 2]


def _rates(curve: Roc, table: Binned, smallest: float, drawn: Draws, units: int, shares: Shares | None) -> Rates:
    """`units`: what was drawn, clusters or examples."""
    fpr, tpr = log_spaced(curve, min(smallest, _COARSEST))
    return Rates(balanced_accuracy=bootstrap.estimate(table.balanced_accuracy, drawn.balanced_accuracy, units),
                 auc=bootstrap.estimate(area(curve), drawn.auc, units),
                 tpr_at_fpr={q: bootstrap.estimate(tpr_at_fpr(curve, q), found, units) for q, found in drawn.tpr_at_fpr.items()},
                 smallest_fpr=smallest, fpr=fpr, tpr=tpr, shares=shares)


def _supported(smallest: float) -> list[float]:
    return [q for q in FPRS if q >= smallest * (1 - 1e-9)]
