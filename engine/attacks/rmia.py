"""RMIA: does this model favour an example over other examples by more than reference models would let us expect?

    ratio(x) = Pr(x | model) / Pr(x)            Pr(x | model) = p = sigmoid(phi), the confidence in the true class
    score(x) = share of population points z with ratio(x) / ratio(z) >= gamma        in [0, 1], larger = member

    online     Pr(x) = (mean p of references trained on x + mean p of references not trained on x) / 2
    offline    Pr(x) = ((1 + a) * mean p of references not trained on x + (1 - a)) / 2

Run on original models it is a ceiling: what a membership attack sees where nothing was unlearned. Each model is the target once;
its references are the models of all other splits, each split counting once. Everything stays in logarithms, each example's p
divided by its largest: confidences that round to 0 or 1 keep their ratios, and equal ones stay exactly equal whatever the number
of references.

Examples are halved, every second in the order of their largest p, and the population of an x in one half is what the model was not
trained on in the other. So members and non-members meet the same population and never themselves. Only leaving x out of its own
population would show who was in it: with 60 points and nothing to see, the AUC comes out as 0.48 (simulated).

A score has no natural threshold. For balanced accuracy it is the best one on one half of the splits (in the order of their names,
every second), used on the other half, and the other way round; AUC and true-positive rates need none. Weights and intervals are
those of U-LiRA (`u_lira.py`). False-positive rates below the share of non-members that tie at the highest score cannot be told.

`gamma` 2 is the paper's; a leak that moves no ratio by that factor is not seen. With 1, as in the authors' later tool, the score is
the rank of ratio(x) in the population. That sees more where p is near 1, as in well fitted models: an AUC of 0.68 against 0.52,
simulated with phi around 6 and a leak of one standard deviation.

`a` says how much surer models are of what they were trained on, p_in = a * p_out + 1 - a: 0.3 is theirs for CIFAR-10; 1, theirs
where nothing is known, takes both as equal.

Simulated with 8 to 32 splits, the intervals hold 94 to 100 % of the time, and 81 to 100 % were they not widened as U-LiRA's are.

Source: Zarifzadeh, Liu and Shokri, "Low-Cost High-Power Membership Inference Attacks", ICML 2024, arXiv:2312.03262.
Differs from the released code: softmax of one query instead of a Taylor soft margin over augmented ones; plain means instead of
trimmed ones; `>= gamma` as in the paper, there `>`; population and scored examples are kept apart (above).
"""

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float, Int

from engine.attacks import bootstrap
from engine.attacks.bootstrap import DRAWS
from engine.attacks.gaussians import FORGOTTEN, NEVER, NOT_USED, Groups, check, group
from engine.attacks.info import AttackInfo
from engine.attacks.rates import Metric, Rates, calls_over_clusters, count, held_out_thresholds, rates_over_clusters
from engine.attacks.u_lira import FIT_NOISE
from engine.errors import DataError
from engine.metrics.roc import FALSE_POSITIVES_NEEDED

INFO = AttackInfo(
    name="rmia",
    label="RMIA",
    doc="Share of unseen examples whose confidence, relative to reference models, x exceeds by a factor. Balanced accuracy 1/2 is best.",
    paper="arXiv:2312.03262",
    version=1,
)

MEMBER, NON_MEMBER = FORGOTTEN, NEVER  # the codes of `world`, by what they mean for a model that unlearned nothing
GAMMA = 2.0
OFFLINE_A = 0.3
_LEAST = -700.0  # nats below an example's surest model, beyond which a confidence is taken as that: exp of it is not yet 0


@dataclass(frozen=True)
class RmiaResult(Rates):
    """`examples`: balanced accuracy of each example at the threshold from the other half of the splits, NaN where not scored."""

    examples: Float[np.ndarray, " n"]
    n_models: int
    n_splits: int
    n_examples: int

    def metrics(self) -> list[Metric]:
        """Rows as the store keeps them. Rates that the sample cannot support have none."""
        return [*super().metrics(), *(count(name, getattr(self, name)) for name in ("n_models", "n_splits", "n_examples"))]


@dataclass(frozen=True)
class Scored:
    """Every used pair scored by references outside its split; weight 0 where it is not scored."""

    score: Float[np.ndarray, "m n"]
    weight: Float[np.ndarray, "m n"]
    world: Int[np.ndarray, "m n"]
    place: Int[np.ndarray, " m"]  # the split of each model, numbered from 0
    groups: Groups  # of p divided by the largest p of its example


def rmia(phi: Float[np.ndarray, "m n"], world: Int[np.ndarray, "m n"], split: Int[np.ndarray, " m"], *,
         form: Literal["online", "offline"] = "online", gamma: float = GAMMA, a: float = OFFLINE_A,
         seed: int = 0, draws: int = DRAWS) -> RmiaResult:
    """Attack m models at n examples. world: 1 trained on, 0 never seen, -1 not used; split: models that share training data.

    `a` is read by the offline form alone. The seed moves nothing but the intervals.
    Raises: DataError as `score_pairs`, or when one half of the splits has no members or no non-members to choose a threshold on.
    """
    found = score_pairs(phi, world, split, form=form, gamma=gamma, a=a)
    groups, scored, splits = found.groups, found.weight > 0, len(found.groups.count)
    score, weight, member = found.score[scored], found.weight[scored], found.world[scored] == MEMBER
    cluster = np.broadcast_to(found.place[:, None], scored.shape)[scored]
    independent = groups.independent(NON_MEMBER)
    tied = np.average(score[~member] == score.max(), weights=weight[~member])
    independent /= max(1.0, tied * independent / FALSE_POSITIVES_NEEDED)
    times = bootstrap.draw_clusters(splits, seed, draws)
    called = np.where(score >= held_out_thresholds(score, member, weight, cluster, splits)[cluster], 1.0, -1.0)
    ranked = rates_over_clusters(score, member, weight, cluster, times=times, independent=float(independent), widen=FIT_NOISE)
    decided = calls_over_clusters(called, member, weight, cluster, times=times, widen=FIT_NOISE)
    # each example's members weigh 1 together, and so do its non-members
    right = np.bincount(np.nonzero(scored)[1], np.where((called > 0) == member, weight, 0.0), scored.shape[1]) / 2
    return RmiaResult(**vars(replace(ranked, balanced_accuracy=decided)), examples=np.where(groups.usable, right, np.nan),
                      n_models=len(found.world), n_splits=splits, n_examples=int(groups.usable.sum()))


def score_pairs(phi: Float[np.ndarray, "m n"], world: Int[np.ndarray, "m n"], split: Int[np.ndarray, " m"], *,
                form: Literal["online", "offline"] = "online", gamma: float = GAMMA, a: float = OFFLINE_A) -> Scored:
    """Score each split's models with the others as references. Models without any used pair are dropped; examples that have
    fewer than two splits in a world are neither scored nor population, in both forms, so that both speak of the same examples.

    Raises: DataError for arrays that cannot be attacked (see `gaussians.check`), parameters out of range, when no example has two
    splits in each world, or when a model has no non-members to compare with in one half of the examples.
    """
    _check_parameters(form, gamma, a)
    check(phi, world, split)
    used = (world != NOT_USED).any(1)
    world, place = world[used].astype(np.int8), np.unique(split[used], return_inverse=True)[1].astype(np.int64)
    log_p = -np.logaddexp(0.0, -np.where(world == NOT_USED, 0.0, phi[used].astype(np.float64)))
    surest = np.where(world == NOT_USED, -np.inf, log_p).max(0)
    surest = np.where(np.isinf(surest), 0.0, surest)
    log_p = np.where(world == NOT_USED, 0.0, log_p - surest)
    groups = group(np.exp(np.maximum(log_p, _LEAST)), world, place)
    if not groups.usable.any():
        raise DataError("no example is in two or more splits in both worlds, so none has references of both kinds outside a split: "
                        "more splits are needed")
    half = np.argsort(np.argsort(np.where(groups.usable, surest, np.inf), kind="stable")) % 2
    population = (world == NON_MEMBER) & groups.usable
    if alone := int((~np.all([(population & (half == h)).any(1) for h in (0, 1)], axis=0)).sum()):
        raise DataError(f"{alone} of {len(world)} models have no population to compare with, as too few of their never-seen examples (world 0) "
                        "can be scored: leave these models out")
    score, weight = np.zeros(world.shape), np.zeros(world.shape)
    for s in range(len(groups.count)):
        share = groups.weight(s)
        prior = _log_prior(groups, s, surest, None if form == "online" else a)
        for m in np.flatnonzero(place == s):
            found = _beaten(log_p[m] - prior, population[m], half, float(np.log(gamma)))
            mine = (world[m] != NOT_USED) & groups.usable
            score[m] = np.where(mine, found, 0.0)
            weight[m] = np.where(mine, np.where(world[m] == MEMBER, share[MEMBER], share[NON_MEMBER]), 0.0)
    return Scored(score, weight, world, place, groups)


def _log_prior(groups: Groups, without: int, surest: Float[np.ndarray, " n"], a: float | None) -> Float[np.ndarray, " n"]:
    """Log Pr(x) - `surest` from all splits but one: online where `a` is None. Any number where the example is not usable."""
    total = groups.mean[:without].sum(0) + groups.mean[without + 1:].sum(0)  # a group that has no values is 0 there
    mean = total / np.maximum(groups.number - (groups.count[without] > 0), 1)
    mean = np.where(groups.usable, mean, 1.0)
    if a is None:
        return np.log((mean[MEMBER] + mean[NON_MEMBER]) / 2)
    constant = np.log((1 - a) / 2) if a < 1 else -np.inf
    return np.logaddexp(np.log((1 + a) / 2) + np.log(mean[NON_MEMBER]), constant - surest)


def _beaten(log_ratio: Float[np.ndarray, " n"], population: Bool[np.ndarray, " n"], half: Int[np.ndarray, " n"],
            log_gamma: float) -> Float[np.ndarray, " n"]:
    """Share of the other half's population whose log ratio is at most x's less `log_gamma`."""
    share = np.empty(len(log_ratio))
    for mine in (0, 1):
        other = np.sort(log_ratio[population & (half != mine)])
        share[half == mine] = np.searchsorted(other, log_ratio[half == mine] - log_gamma, side="right") / len(other)
    return share


def _check_parameters(form: str, gamma: float, a: float) -> None:
    faults = []
    if form not in ("online", "offline"):
        faults.append(f"form must be 'online' or 'offline', got {form!r}")
    if not 1 <= gamma < np.inf:
        faults.append(f"gamma must be a finite number from 1 up, got {gamma}")
    if not 0 <= a <= 1:
        faults.append(f"a must be in [0, 1], got {a}")
    if faults:
        raise DataError(*faults)
