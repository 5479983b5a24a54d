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
from typing import Any

from engine.search.protocol import Answer, Ask, Found, Metrics, Search, Trial

VERSION = 2
ACCURACIES = ("retain_accuracy", "forget_accuracy", "heldout_accuracy")
AUC = "forget_heldout_auc"
EVEN = dict.fromkeys(ACCURACIES, 1.0) | {AUC: 0.5}  # an AUC runs from ½ to 1, an accuracy from 0 to 1


def search(candidates: Sequence[dict[str, Any]], places: Sequence[int]) -> Search:
    """All candidates on all places."""
    answers = yield [Ask(params, place) for params in candidates for place in places]
    n = len(places)
    trials = [judge(params, answers[i * n : (i + 1) * n]) for i, params in enumerate(candidates)]
    return Found(trials, choose(trials))


def judge(params: dict[str, Any], answers: Sequence[Answer], scales: Mapping[str, float] = EVEN) -> Trial:
    """Score one candidate by what became of it on each place; differences are measured in units of `scales`."""
    whole: list[Metrics] = [a.unlearned for a in answers if a.unlearned is not None]
    if len(whole) < len(answers):
        return Trial(params, None, {"diverged": len(answers) - len(whole)}, "diverged")
    retrained = [a.retrained for a in answers]
    gaps = {name: [abs(u[name] - r[name]) for u, r in zip(whole, retrained, strict=True)] for name in ACCURACIES}
    auc, reference = ([m[AUC] for m in group] for group in (whole, retrained))
    of_split = [mean(three) for three in zip(*([gap / scales[name] for gap in found] for name, found in gaps.items()), strict=True)]
    score = (mean(of_split) + max(of_split)) / 2 + abs(mean(auc) - mean(reference)) / scales[AUC]
    parts = {**gaps, AUC: auc, f"retrained_{AUC}": reference}
    return Trial(params, score if math.isfinite(score) else None, parts, "done")


def choose(trials: Sequence[Trial]) -> int | None:
    """Number of the best trial; the earlier one on a tie; None when all failed."""
    scored = [(t.score, i) for i, t in enumerate(trials) if t.score is not None and t.status == "done"]
    return min(scored)[1] if scored else None


def mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
