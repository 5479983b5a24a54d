"""Forgetting quality of the first NeurIPS unlearning competition: can unlearned models be told from retrained ones, example by example?

    epsilon_i = max(log((1 - delta - FPR) / FNR), log((1 - delta - FNR) / FPR))        of the best rule for example i
    H(epsilon) = 2 / 2^n, n = 1, 2, ... the bin of width 0.5 that epsilon is in;   0 from ceil(log(N - 1)) up, N models a side
    F = mean of H over forget examples                                    1 = as if retrained, towards 0 = always told
    score = F * (RA_u / RA_r) * (TA_u / TA_r)                              `final_score`, from retain and test accuracy

A rule says of a value of phi from low to high that it is of one kind of model, and of any other that it is of the other kind:

    single threshold    from the threshold up: the kind with the larger median
    double threshold    between two: the kind with the narrower range; they are as far apart as that range is wide, give or take 2 nats,
                        and the upper one is within 2 nats of the largest value of that kind

The competition takes the best of all these rules on the very models that it reports on, so that retraining itself, against other
retrained models, scores far below 1. Here the rule is chosen on one half of the splits, FPR and FNR are counted on the other half, the
same is done the other way round, and the two counts are added.

Zeros. As released, a rule with FPR = FNR = 0 has epsilon = infinity, cut to 50, and one with a single 0 is discarded as a sign of too
few models; a range that is 100 times narrower than the other gives 50 as well. `in_sample=True` does just that (an example without any
rule left gets 0, where the released code stops). Held-out rates can be 0 by chance and cannot be discarded, so they are
(errors + 1/2) / (N + 1): a perfect rule gives log(2N + 1) and H = 0 or next to it. To choose, three more errors are held against each
rule, (N - FN) / (FP + 3) or the same with FP and FN swapped: with few models the rules without an error are mostly luck.

With nothing to tell F comes out at 0.85 to 0.95 (8 to 128 models a side), in sample at 0.17 to 0.19. Where there is something to tell, more
models tell more of it, in both forms: F compares methods that have equally many models.

Interval of F: Student's t over delete-one-split jackknife values, the rules as they are, then widened by sqrt(2), as a split also moves
the rules that the others are judged by. Simulated, it holds 85 to 100 % of the time from eight splits up, unwidened 74 to 100 %.

Source: Triantafillou et al., "Are we making progress in unlearning?", 2024, arXiv:2406.09073, and its released evaluation code.
Differs: held-out rules, rates and choice as above; all thresholds between two values, where the code walks in steps of 0.01 nats.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from engine.attacks.bootstrap import Estimate, jackknife
from engine.attacks.info import AttackInfo
from engine.attacks.rates import Metric, count, metric
from engine.attacks.versus_retrained import side_by_side
from engine.errors import DataError, Diverged
from engine.metrics.accuracy import retention
from engine.metrics.epsilon import DELTA, epsilon_of

INFO = AttackInfo(
    name="forgetting_quality",
    label="Forgetting quality",
    doc="Per example: epsilon of telling unlearned from retrained models by one or two thresholds, binned to points. 1 is best.",
    paper="arXiv:2406.09073",
    version=1,
)

BIN = 0.5
CAP = 50.0  # epsilon of what is told without an error, in sample
BUFFER = 2.0  # nats
PEAKED = 0.01  # ratio of ranges
MORE_ERRORS = 3.0  # none among N is what a rate of up to 3 / N gives in one case of 20
FEWEST_HALF = 2  # values of an example in each half of the splits; twice that in sample
RULE_NOISE = 2**0.5  # of the interval, see above
_CELLS = 1_000_000  # rules times examples at a time

Floats = Float[np.ndarray, " n"]
Worth = Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]


@dataclass(frozen=True)
class ForgettingQuality:
    """quality: F, with its interval over splits (NaN in sample). epsilon, fpr, fnr: per example, fpr the share of retrained models said
    to be unlearned; NaN where it has too few models. n_values: median number of models a side that an example has."""

    quality: Estimate
    epsilon: Float[np.ndarray, " n"]
    fpr: Float[np.ndarray, " n"]
    fnr: Float[np.ndarray, " n"]
    in_sample: bool
    n_models: int
    n_splits: int
    n_examples: int
    n_values: float

    def metrics(self) -> list[Metric]:
        """Rows as the store keeps them. Those chosen and reported on the same models say so, have no interval and can stand beside the others."""
        epsilon = float(np.nanmedian(self.epsilon))
        if self.in_sample:
            return [count("forgetting_quality_in_sample", self.quality.value), count("epsilon_median_in_sample", epsilon)]
        return [metric("forgetting_quality", self.quality), count("epsilon_median", epsilon),
                *(count(name, getattr(self, name)) for name in ("n_models", "n_splits", "n_examples", "n_values"))]


@dataclass(frozen=True)
class Rules:
    """One an example: a value from low to high is said to be of an unlearned model where `unlearned_inside`, else of a retrained one."""

    low: Float[np.ndarray, " n"]
    high: Float[np.ndarray, " n"]
    unlearned_inside: Bool[np.ndarray, " n"]
    worth: Float[np.ndarray, " n"]

    def says_unlearned(self, phi: Float[np.ndarray, "m n"]) -> Bool[np.ndarray, "m n"]:
        return ((phi >= self.low) & (phi <= self.high)) == self.unlearned_inside


def forgetting_quality(phi_unlearned: Float[np.ndarray, "m n"], phi_retrained: Float[np.ndarray, "m n"], used: Bool[np.ndarray, "m n"],
                       split: Int[np.ndarray, " m"], *, in_sample: bool = False, delta: float = DELTA, seed: int = 0) -> ForgettingQuality:
    """F of m pairs of models at n examples. used: the example is in the forget set of that pair; split: models that share training
    data. Models that share none, as in the competition, have a split each. `seed` draws the halves.

    in_sample: the rule chosen on the models that are reported on, as in the competition, to compare with published numbers only.
    Raises: DataError for arrays that do not fit together or when no example has enough models; Diverged when phi is not finite.
    """
    phi, world, row_split = side_by_side(phi_unlearned, phi_retrained, used, split)
    unlearned, retrained, there, place = phi[::2], phi[1::2], world[::2] >= 0, np.unique(row_split[::2], return_inverse=True)[1]
    if bad := int((~np.isfinite(phi)).sum()):
        raise Diverged(f"forgetting quality: {bad} of {2 * there.sum()} values of phi are not finite, a model diverged")
    splits = int(place.max()) + 1
    first = np.random.default_rng(seed).permutation(splits)[place] < splits // 2
    halves = [there[first].sum(0), there[~first].sum(0)]
    enough = there.sum(0) >= 2 * FEWEST_HALF if in_sample else np.minimum(*halves) >= FEWEST_HALF
    if not enough.any():
        raise DataError(f"no example has {2 * FEWEST_HALF} or more models a side{'' if in_sample else ', half of them in each half of the splits'}: "
                        "more splits or more forget sets are needed")
    unlearned, retrained, there = unlearned[:, enough], retrained[:, enough], there[:, enough]
    if in_sample:
        rules = best_rules(unlearned, retrained, there, lambda missed, alarms, n: _as_released(missed, alarms, n, delta))
        missed, alarms, n = _errors(rules, unlearned, retrained, there, place, splits).sum(1)
        narrow, wide = np.sort([_range(kind, there) for kind in (unlearned, retrained)], axis=0)
        epsilon, fpr, fnr = np.where(narrow < PEAKED * wide, CAP, np.clip(rules.worth, 0, CAP)), alarms / n, missed / n
        quality = Estimate(float(points(epsilon, n).mean()), float("nan"), float("nan"))
    else:
        errors = np.zeros((3, splits, int(enough.sum())), dtype=np.int32)
        for half in (first, ~first):
            rules = best_rules(unlearned[half], retrained[half], there[half], _held_against)
            errors += _errors(rules, unlearned[~half], retrained[~half], there[~half], place[~half], splits)
        epsilon, fpr, fnr = _held_out(errors.sum(1), delta)
        quality = _quality(errors, delta)
    found = np.full((3, len(enough)), np.nan)
    found[:, enough] = epsilon, fpr, fnr
    return ForgettingQuality(quality, *found, in_sample=in_sample, n_models=2 * int(used.any(1).sum()), n_splits=splits,
                             n_examples=int(enough.sum()), n_values=float(np.median(there.sum(0))))


def final_score(quality: float, *, retain: tuple[float, float], test: tuple[float, float]) -> float:
    """The competition's score: F times the ratios of retain and of test accuracy, each (unlearned, retrained), means over models.

    NaN where the retrained models get nothing right. Raises: DataError unless all are fractions in [0, 1].
    """
    return quality * retention(*retain) * retention(*test)


def points(epsilon: Float[np.ndarray, " n"], models: Int[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    """H: 1 below 0.5, half of it in each further bin, 0 from the largest epsilon that so many models a side tell, ceil(log(N - 1)), up."""
    return np.where(epsilon < np.ceil(np.log(models - 1)), 0.5 ** np.floor(epsilon / BIN), 0.0)


def best_rules(unlearned: Float[np.ndarray, "g n"], retrained: Float[np.ndarray, "g n"], there: Bool[np.ndarray, "g n"],
               worth: Worth) -> Rules:
    """For each example, which must have values, the rule of largest worth(missed, alarms, models a side), the errors of both kinds."""
    top = 2 * int(there.sum(0).max())
    step = max(_CELLS // (top * (top + 3) // 2), 1)
    blocks = [_best_of_block(unlearned[:, at:at + step], retrained[:, at:at + step], there[:, at:at + step], worth)
              for at in range(0, there.shape[1], step)]
    return Rules(*(np.concatenate(parts) for parts in zip(*blocks, strict=True)))


def _best_of_block(unlearned: Float[np.ndarray, "g c"], retrained: Float[np.ndarray, "g c"], there: Bool[np.ndarray, "g c"],
                   worth: Worth) -> tuple[np.ndarray, ...]:
    """The fields of `Rules`. Inside a rule is a run of the values in ascending order, from the start-th to just before the end-th."""
    n, kinds = there.sum(0), (unlearned.astype(np.float64), retrained.astype(np.float64))
    values = np.concatenate([np.where(there, kind, np.inf) for kind in kinds])
    order = np.argsort(values, axis=0)[:2 * int(n.max())]  # those that are not there come last
    v, none, top = np.take_along_axis(values, order, 0), np.zeros((1, len(n))), len(order)
    cut = np.concatenate([none - np.inf, (v[:-1] + v[1:]) / 2, none + np.inf])
    apart = np.concatenate([none == 0, v[:-1] < v[1:], none == 0])  # equal values stay together
    before = np.stack([np.concatenate([none, np.cumsum(mine & np.isfinite(v), 0)]) for mine in (order < len(there), order >= len(there))])

    medians, ranges = [np.nanmedian(np.where(there, kind, np.nan), 0) for kind in kinds], [_range(kind, there) for kind in kinds]
    larger = medians[0] >= medians[1]  # unlearned models have the larger median; they have the narrower range:
    narrower = (ranges[0] < ranges[1]) | ((ranges[0] == ranges[1]) & ~larger)
    peak = np.where(narrower, *(np.where(there, kind, -np.inf).max(0) for kind in kinds))

    pairs = np.triu_indices(top + 1, 1)
    start, end = np.append(np.arange(top), pairs[0]), np.append(np.full(top, top), pairs[1])  # one threshold, then two
    unlearned_inside = np.concatenate([np.broadcast_to(larger, (top, len(n))), np.broadcast_to(narrower, (len(pairs[0]), len(n)))])
    inside = before[:, end] - before[:, start]
    missed, alarms = n - np.where(unlearned_inside, inside[0], inside[1]), np.where(unlearned_inside, inside[1], inside[0])
    allowed = apart[start] & apart[end]
    allowed[top:] &= _as_wide(v, *pairs, peak, np.minimum(*ranges))
    found = np.where(allowed, worth(missed, alarms, n), -np.inf)
    best, each = found.argmax(0), np.arange(len(n))
    return cut[start[best], each], cut[end[best], each], unlearned_inside[best, each], found[best, each]


def _as_wide(v: Float[np.ndarray, "t c"], start: Int[np.ndarray, " p"], end: Int[np.ndarray, " p"], peak: Float[np.ndarray, " c"],
             width: Float[np.ndarray, " c"]) -> Bool[np.ndarray, "p c"]:
    """Are there thresholds around just these values that are as far apart, and the upper one as near to the peak, as is allowed?"""
    none = np.full((1, v.shape[1]), np.inf)
    least, most = np.maximum(v[end - 1], peak - BUFFER), np.minimum(np.concatenate([v, none])[end], peak + BUFFER)  # of the upper one
    with np.errstate(invalid="ignore"):  # infinity less infinity, beyond the last value: not allowed
        return (least <= most) & (most - np.concatenate([-none, v])[start] >= width - BUFFER) & (least - v[start] <= width + BUFFER)


def _errors(rules: Rules, unlearned: Float[np.ndarray, "g n"], retrained: Float[np.ndarray, "g n"], there: Bool[np.ndarray, "g n"],
            place: Int[np.ndarray, " g"], splits: int) -> Int[np.ndarray, "3 {splits} n"]:
    """By split and example: unlearned models taken for retrained, retrained ones taken for unlearned, models a side."""
    missed, alarms = there & ~rules.says_unlearned(unlearned), there & rules.says_unlearned(retrained)
    return np.stack([[part[place == s].sum(0, dtype=np.int32) for s in range(splits)] for part in (missed, alarms, there)])


def _as_released(missed: np.ndarray, alarms: np.ndarray, n: np.ndarray, delta: float) -> np.ndarray:
    return np.where((missed == 0) == (alarms == 0), epsilon_of(1 - missed / n, alarms / n, delta), 0.0)


def _held_against(missed: np.ndarray, alarms: np.ndarray, n: np.ndarray) -> np.ndarray:
    return np.maximum((n - missed) / (alarms + MORE_ERRORS), (n - alarms) / (missed + MORE_ERRORS))


def _held_out(errors: Int[np.ndarray, "3 n"], delta: float) -> tuple[Floats, Floats, Floats]:
    """Epsilon, false-positive and false-negative rate."""
    fnr, fpr = (errors[:2] + 0.5) / (errors[2] + 1)
    return epsilon_of(1 - fnr, fpr, delta), fpr, fnr


def _quality(errors: Int[np.ndarray, "3 s n"], delta: float) -> Estimate:
    """F, and its interval from F without each split."""
    whole, splits = errors.sum(1), errors.shape[1]
    value = float(points(_held_out(whole, delta)[0], whole[2]).mean())
    without = np.array([points(_held_out(whole - errors[:, s], delta)[0], whole[2]).mean() for s in range(splits)])
    found = jackknife(value, without, RULE_NOISE)
    return Estimate(value, max(found.lo, 0.0), min(found.hi, 1.0))


def _range(values: Float[np.ndarray, "g n"], there: Bool[np.ndarray, "g n"]) -> Float[np.ndarray, " n"]:
    return np.where(there, values, -np.inf).max(0) - np.where(there, values, np.inf).min(0)
