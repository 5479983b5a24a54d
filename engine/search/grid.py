"""The small declared search: every candidate that a study file lists, scored on tuning splits that no attack ever sees.

    gap = (|dRA| + |dFA| + |dHA|) / 3        of one tuning split
    score = (mean gap + worst gap) / 2 + 2 * |mean AUC - mean AUC of retrained|        smaller is better

d: unlearned minus retrained model of the same tuning split (R retain, F forget, H held-out half). The worst split counts as much as
the mean of all, since a setting that wrecks one model in ten has a fine mean and is of no use.
AUC: of the loss, forget against held-out; averaged over splits before the difference is taken, since one split's is mostly noise.
Ours: the reference study's four objectives (arXiv:2410.01276) with the held-out half in the place of its smaller validation set,
and the AUC in the place of the attack's accuracy, whose noise would choose lucky trials.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

VERSION = 2
ACCURACIES = ("retain_accuracy", "forget_accuracy", "heldout_accuracy")
Metrics = Mapping[str, float]


@dataclass(frozen=True)
class Trial:
    """score: None where a model of it diverged or failed."""

    params: dict[str, Any]
    score: float | None
    parts: dict[str, Any]
    status: str


def judge(params: dict[str, Any], unlearned: Sequence[Metrics | None], retrained: Sequence[Metrics]) -> Trial:
    """Score one candidate. `unlearned[i]` and `retrained[i]` are the metrics on tuning split i; None where the model diverged."""
    whole = [m for m in unlearned if m is not None]
    if len(whole) < len(unlearned):
        return Trial(params, None, {"diverged": len(unlearned) - len(whole)}, "diverged")
    gaps = {name: [abs(u[name] - r[name]) for u, r in zip(whole, retrained, strict=True)] for name in ACCURACIES}
    auc, reference = ([m["forget_heldout_auc"] for m in group] for group in (whole, retrained))
    privacy = abs(_mean(auc) - _mean(reference))
    of_split = [_mean(three) for three in zip(*gaps.values(), strict=True)]
    score = (_mean(of_split) + max(of_split)) / 2 + 2 * privacy
    parts = {**gaps, "forget_heldout_auc": auc, "retrained_forget_heldout_auc": reference}
    return Trial(params, score if math.isfinite(score) else None, parts, "done")


def choose(trials: Sequence[Trial]) -> int | None:
    """Number of the best trial; the earlier one on a tie; None when all failed."""
    scored = [(t.score, i) for i, t in enumerate(trials) if t.score is not None]
    return min(scored)[1] if scored else None


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
