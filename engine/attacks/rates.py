"""What every attack reports of its scores: balanced accuracy, AUC and true-positive rates, each with an interval over what is independent."""

from dataclasses import dataclass
from typing import TypedDict

import numpy as np
from jaxtyping import Bool, Float, Int

from engine.attacks import bootstrap
from engine.attacks.bootstrap import DRAWS, Estimate
from engine.metrics.roc import area, log_spaced, roc, smallest_fpr, tpr_at_fpr

FPRS = (0.1, 0.01, 0.001)
_COARSEST = 0.1  # where a curve starts that can resolve no rate: one decade is drawn


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

    def metrics(self) -> list[Metric]:
        """Rows as the store keeps them. Rates that the sample cannot support have none."""
        return [metric("balanced_accuracy", self.balanced_accuracy), metric("auc", self.auc),
                *(metric(f"tpr_at_fpr_{q:g}", tpr) for q, tpr in self.tpr_at_fpr.items()), count("smallest_fpr", self.smallest_fpr)]


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
    table = bootstrap.binned(score, member, weight, cluster, bootstrap.edges(curve, smallest_fpr(independent)))
    smallest = bootstrap.resolution(table, independent)
    supported = _supported(smallest)
    drawn, clusters = bootstrap.resampled(table, times, supported).widened(widen), times.shape[1]
    fpr, tpr = log_spaced(curve, min(smallest, _COARSEST))
    return Rates(balanced_accuracy=bootstrap.estimate(_called(score, member, weight), drawn.balanced_accuracy, clusters),
                 auc=bootstrap.estimate(area(curve), drawn.auc, clusters),
                 tpr_at_fpr={q: bootstrap.estimate(tpr_at_fpr(curve, q), drawn.tpr_at_fpr[q], clusters) for q in supported},
                 smallest_fpr=smallest, fpr=fpr, tpr=tpr)


def rates_over_examples(score: Float[np.ndarray, " n"], member: Bool[np.ndarray, " n"], *, seed: int = 0, draws: int = DRAWS) -> Rates:
    """Of one model's scores (larger = member, called one above 0), drawn by single examples: how sure the numbers are for this one
    model on such examples, not how they vary between models."""
    curve, n = roc(score, member), len(score)
    smallest = min(smallest_fpr(float((~member).sum())), 1.0)
    supported = _supported(smallest)
    one = np.zeros(n, dtype=np.int64)
    table = bootstrap.binned(score, member, np.ones(n), one, bootstrap.edges(curve, min(smallest, _COARSEST)))
    drawn = bootstrap.resampled_examples(table, seed, supported, draws)
    fpr, tpr = log_spaced(curve, min(smallest, _COARSEST))
    return Rates(balanced_accuracy=bootstrap.estimate(_called(score, member, np.ones(n)), drawn.balanced_accuracy, n),
                 auc=bootstrap.estimate(area(curve), drawn.auc, n),
                 tpr_at_fpr={q: bootstrap.estimate(tpr_at_fpr(curve, q), drawn.tpr_at_fpr[q], n) for q in supported},
                 smallest_fpr=smallest, fpr=fpr, tpr=tpr)


def _supported(smallest: float) -> list[float]:
    return [q for q in FPRS if q >= smallest * (1 - 1e-9)]


def _called(score: Float[np.ndarray, " n"], member: Bool[np.ndarray, " n"], weight: Float[np.ndarray, " n"]) -> float:
    """Balanced accuracy of "member above 0", a score of exactly 0 counting half."""
    said = (score > 0) + (score == 0) / 2
    return float(np.average(said[member], weights=weight[member]) + 1 - np.average(said[~member], weights=weight[~member])) / 2
