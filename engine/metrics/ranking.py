"""Which methods are good: groups against retraining's own noise, ranks within a cell, and what holds across cells.

A *cell* is a dataset with an architecture. Within it everything is a *loss* [m, s], method by seed, smaller is better, and is
compared paired by seed; Retention Deviation is one as it stands, Indiscernibility becomes 1 - Indiscernibility. A NaN is a
failure: its method is in group F and shares the last rank.

    G1  within retraining noise   mean <= q95 of what retraining shows, and the paired test (Holm over methods) does not reject
    G2  close                     not G1, but its distance to retraining is at most half of the original model's
    G3  far                       the rest
    F   failed                    no number, a crash, or less than half of retraining's test accuracy

Across cells: Friedman's test and Nemenyi's critical difference with cells as blocks. Seeds are never blocks: they share a split.

Source: the groups are ours; Cadet et al., "Deep Unlearn", EuroS&P 2025, arXiv:2410.01276, names G1 to G3 and F without a rule that
could be followed. Holm, "A Simple Sequentially Rejective Multiple Test Procedure", 1979. Demsar, "Statistical Comparisons of
Classifiers over Multiple Data Sets", JMLR 2006. Written without scipy, whose `stats` takes seconds to import: pages read this too.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from math import erf, erfc, exp, lgamma, log, sqrt

import numpy as np
from numpy.typing import NDArray

from engine.errors import BadInput, DataError
from engine.metrics.intervals import interval

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

ALPHA = 0.05
FLIPS = 12  # up to so many seeds all sign flips are counted
DRAWS = 10_000
FEWEST_CELLS = 6
CONSISTENT = 0.8
_RANK_DRAWS = 1000
_ROUNDING = 1e-9


# ---- paired tests


def paired_p(difference: Floats, *, one_sided: bool = False) -> Floats:
    """p-values [...] of paired differences [..., s] against a centre of 0; one-sided: against a centre of 0 or less.

    Up to FLIPS seeds the sign-flip test of the mean, all 2^s flips counted. With more, Wilcoxon's signed-rank test, which one
    outlying seed cannot decide; its distribution is counted too (mid-ranks for ties, zeros left out), so both tests are exact.
    """
    if difference.shape[-1] > FLIPS:
        return np.apply_along_axis(_signed_rank_p, -1, difference, one_sided)
    seeds = int(difference.shape[-1])
    flips = 1.0 - 2.0 * (np.arange(1 << seeds) >> np.arange(seeds)[:, None] & 1)
    sums: Floats = difference @ flips
    found, slack = difference.sum(-1, keepdims=True), _ROUNDING * np.abs(difference).sum(-1, keepdims=True)
    return np.asarray((sums >= found - slack if one_sided else np.abs(sums) >= np.abs(found) - slack).mean(-1))


def can_tell(seeds: int, tests: int, *, one_sided: bool = False) -> bool:
    """Whether any difference, however large, could be found: whether Holm over `tests` lets the smallest possible p through."""
    return tests * 2.0 ** (-seeds if one_sided else 1 - seeds) <= ALPHA


def holm(p: Floats) -> Floats:
    """p-values [k] adjusted for all k being looked at: reject where at most ALPHA."""
    order = np.argsort(p, kind="stable")
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(np.maximum.accumulate(p[order] * np.arange(p.size, 0, -1)), 1.0)
    return adjusted


def _signed_rank_p(difference: Floats, one_sided: bool) -> float:
    """By counting: the chance of every sum of ranks, doubled so that mid-ranks are whole."""
    there = difference[difference != 0]
    ranks = np.rint(2 * average_ranks(np.abs(there))).astype(np.int64) if there.size else np.zeros(0, np.int64)
    chance = np.zeros(int(ranks.sum()) + 1)
    chance[0] = 1.0
    for rank in ranks:
        chance = chance / 2 + np.concatenate([np.zeros(rank), chance[:-rank]]) / 2
    above = float(chance[int(ranks[there > 0].sum()):].sum())
    below = float(chance[int(ranks[there < 0].sum()):].sum())  # the distribution is symmetric
    return min(1.0, above if one_sided else 2 * min(above, below))


# ---- groups


@dataclass(frozen=True)
class Null:
    """What a perfect method would show. paired: losses [s], one a seed. limit: 95th percentile of means over seeds.
    floor: the loss of retraining itself, from which distances count."""

    paired: Floats
    limit: float
    floor: float


@lru_cache(maxsize=64)
def derangements(seeds: int, draws: int = DRAWS, seed: int = 0) -> Ints:
    """Random permutations [draws, seeds] that leave nothing in its place, all equally likely, not to be written to.

    Raises: DataError below two seeds.
    """
    if seeds < 2:
        raise DataError(f"retraining noise needs two or more seeds, got {seeds}")
    rng, found = np.random.default_rng(seed), np.zeros((0, seeds), np.int64)
    while len(found) < draws:
        tried = rng.permuted(np.tile(np.arange(seeds), (draws, 1)), axis=1)
        found = np.concatenate([found, tried[(tried != np.arange(seeds)).all(1)]])
    found.flags.writeable = False
    return found[:draws]


def deviations(accuracy: Floats) -> Floats:
    """Retention Deviation [s, s] of the model of seed i held against that of seed j. accuracy: [3, s], of retain, forget and test.

    NaN where seed j gets nothing right on a split: then no ratio exists.
    """
    against = np.where(accuracy > 0, accuracy, np.nan)
    return np.abs(accuracy[:, :, None] / against[:, None, :] - 1).sum(0)


def deviation_null(accuracy: Floats) -> Null:
    """For Retention Deviation: retrained models held against each other, from their accuracies [3, s].

    limit is over means of s pairs, each a random derangement. paired[j] averages all others held against the one of seed j.
    These pairs differ in initial weights, while a method and its retrained model share them, so the band is conservative: wider
    than it need be. Where sharing them makes no difference it is a little narrow, as all pairs are of the same s models: then
    another ten retrained models would be within it three times out of four. Raises: DataError below two seeds.
    """
    apart = deviations(accuracy)
    seeds = len(apart)
    means = apart[np.arange(seeds), derangements(seeds)].mean(1)
    return Null((apart.sum(0) - apart.diagonal()) / (seeds - 1), float(np.quantile(means, 0.95)), 0.0)


def twin_null(deviation: Floats) -> Null:
    """For Retention Deviation where every seed has a split of its own: [s], of two retrained models of that split, other initial weights.

    As in `own_null` the limit allows for both means being of s draws. Raises: DataError below two seeds.
    """
    return replace(own_null(deviation), floor=0.0)


def own_null(loss: Floats) -> Null:
    """For a metric that retrained models have themselves, such as 1 - Indiscernibility: their own losses [s].

    A derangement would leave their mean as it is, so limit is over draws with replacement: how far the mean of s draws comes to lie
    above that of s others, on top of the mean itself. Raises: DataError below two seeds.
    """
    if loss.size < 2:
        raise DataError(f"retraining noise needs two or more seeds, got {loss.size}")
    first, second = loss[np.random.default_rng(0).integers(loss.size, size=(2, DRAWS, loss.size))].mean(2)
    return Null(loss, float(loss.mean() + np.quantile(first - second, 0.95)), float(loss.mean()))


@dataclass(frozen=True)
class Groups:
    """Per method: group; p [m] of the one-sided paired test against the null, adjusted by Holm, NaN where it failed; and how far
    its losses are above the null's, mean and 95 % t-interval of the paired differences (above, above_lo, above_hi: [m])."""

    group: list[str]
    p: Floats
    above: Floats
    above_lo: Floats
    above_hi: Floats


def grouped(loss: Floats, null: Null, original: float, failed: Bools | None = None) -> Groups:
    """Groups of methods from their losses [m, s]. original: mean loss of the original models. failed: [m], a NaN says so too.

    The test is one-sided: a method nearer to retraining than another retrained model is has nothing to answer for.
    """
    fine = _fine(loss, failed)
    difference = loss - null.paired
    p = np.full(len(loss), np.nan)
    if fine.any():
        p[fine] = holm(paired_p(difference[fine], one_sided=True))
    spans = np.array([_mean_and_interval(row) for row in difference]).reshape(-1, 3)
    distance, half = loss.mean(1) - null.floor, (original - null.floor) / 2
    within = (loss.mean(1) <= null.limit + _ROUNDING) & (p > ALPHA)
    group = ["F" if not fine[i] else "G1" if within[i] else "G2" if distance[i] <= half else "G3" for i in range(len(loss))]
    return Groups(group, p, spans[:, 0], spans[:, 1], spans[:, 2])


def interval_groups(loss: Floats, retrained: Floats, original: float) -> list[str]:
    """The same where seeds cannot be paired but intervals are known, as for U-LiRA. loss: [m, 3], low, mean and high; retrained: [3].

    G1: the interval reaches into that of the retrained models.
    """
    distance, half = loss[:, 1] - retrained[1], (original - retrained[1]) / 2
    return ["F" if np.isnan(row).any() else "G1" if row[0] <= retrained[2] + _ROUNDING else "G2" if away <= half else "G3"
            for row, away in zip(loss, distance, strict=True)]


def consistently_good(groups: Sequence[tuple[str | None, str | None]], speed_up: Sequence[float]) -> bool:
    """Of one method over its cells: G1 in both metrics in at least CONSISTENT of them, and faster than retraining in all."""
    within = [pair == ("G1", "G1") for pair in groups]
    return bool(within) and sum(within) >= CONSISTENT * len(within) - _ROUNDING and all(rte > 1 for rte in speed_up)


def _mean_and_interval(row: Floats) -> tuple[float, float, float]:
    deviation = float(row.std(ddof=1)) if row.size > 1 else float("nan")
    return float(row.mean()), *interval(float(row.mean()), deviation, row.size)


def _fine(loss: Floats, failed: Bools | None) -> Bools:
    there = np.asarray(np.isfinite(loss).all(1))
    return there if failed is None else there & ~failed


# ---- ranks within a cell


@dataclass(frozen=True)
class Ranks:
    """rank [m]: from 1, shared by methods that cannot be told apart; failed methods share the last. tied [m]: cannot be told from
    the best. rank_lo, rank_hi [m]: 95 % of ranks of the mean when seeds are drawn anew; NaN where there are no seeds to draw."""

    rank: Floats
    tied: Bools
    rank_lo: Floats
    rank_hi: Floats


def average_ranks(values: Floats) -> Floats:
    """From 1 for the smallest; equal values share the average of their places, and NaN the last ones."""
    _, which, count = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(count) - (count - 1) / 2)[which]


def seed_ranks(loss: Floats, failed: Bools | None = None) -> Ranks:
    """Ranks of methods by their losses [m, s].

    The best mean, and all that paired tests with Holm cannot separate from it, share the average of the places that they take
    together; the same again for those that are left. The best is chosen by the data that test it, so a rank is no p-value.
    """
    fine = _fine(loss, failed)

    def alike(best: int, others: Ints) -> Bools:
        return holm(paired_p(loss[others] - loss[best])) > ALPHA

    order = np.lexsort([*loss.T, loss.mean(1)])  # by mean; of equal means always the same one first
    rank, tied = _shared(order[fine[order]], alike, len(loss))
    drawn = np.random.default_rng(0).integers(loss.shape[1], size=(_RANK_DRAWS, loss.shape[1]))
    means = np.where(fine[:, None], loss[:, drawn].mean(2), np.inf)
    less, same = ((means[None] < means[:, None]).sum(1), (means[None] == means[:, None]).sum(1))
    ends = np.quantile(less + 1, 0.025, axis=1, method="inverted_cdf"), np.quantile(less + same, 0.975, axis=1, method="inverted_cdf")
    return Ranks(rank, tied, *(end.astype(np.float64) for end in ends))


def interval_ranks(loss: Floats) -> Ranks:
    """The same where only intervals are known. loss: [m, 3], low, mean and high; told apart where intervals do not touch."""
    fine = _fine(loss, None)

    def alike(best: int, others: Ints) -> Bools:
        return (loss[others, 0] <= loss[best, 2]) & (loss[best, 0] <= loss[others, 2])

    order = np.lexsort((loss[:, 2], loss[:, 0], loss[:, 1]))
    unknown = np.full(len(loss), np.nan)
    return Ranks(*_shared(order[fine[order]], alike, len(loss)), unknown, unknown)


def _shared(order: Ints, alike: Callable[[int, Ints], Bools], methods: int) -> tuple[Floats, Bools]:
    """Shared ranks, and who shares the first, from methods in order, best first; what is not among them failed."""
    rank, taken, left = np.full(methods, np.nan), 0, order
    while left.size:
        same = np.concatenate([[True], alike(int(left[0]), left[1:])]) if left.size > 1 else np.array([True])
        rank[left[same]] = taken + (same.sum() + 1) / 2
        taken, left = taken + int(same.sum()), left[~same]
    tied = np.isfinite(rank) & (rank == np.nanmin(rank)) if order.size else np.zeros(methods, np.bool_)
    return np.where(np.isnan(rank), (taken + 1 + methods) / 2, rank), tied


# ---- across cells


@dataclass(frozen=True)
class Across:
    """average [m]: ranks over all cells. statistic and p: Friedman's. critical: average ranks nearer than this cannot be told apart
    (Nemenyi)."""

    average: Floats
    statistic: float
    p: float
    critical: float


def across(loss: Floats) -> Across:
    """Friedman and Nemenyi over mean losses [cells, m], NaN where a method failed: it then shares that cell's last rank.

    Raises: BadInput below FEWEST_CELLS cells or with fewer than two methods, in the words of `too_few`.
    """
    cells, methods = loss.shape
    if reason := too_few(methods, cells):
        raise BadInput(reason)
    ranks = np.apply_along_axis(average_ranks, 1, loss)
    average, spread = ranks.mean(0), ((ranks - (methods + 1) / 2) ** 2).sum()
    statistic = float((methods - 1) * cells**2 * ((average - (methods + 1) / 2) ** 2).sum() / spread) if spread else 0.0
    return Across(average, statistic, _chi2_above(statistic, methods - 1), critical_difference(methods, cells))


def too_few(methods: int, cells: int) -> str:
    """Why Friedman and Nemenyi are not asked, in words; empty where there are enough cells and methods."""
    if methods < 2:
        return "Ranks across cells need two or more methods that are in every cell."
    if cells >= FEWEST_CELLS:
        return ""
    return (f"{cells} {'cell is' if cells == 1 else 'cells are'} too few to compare methods across cells (it takes {FEWEST_CELLS}): with "
            f"{methods} methods average ranks would have to be {critical_difference(methods, cells):.1f} apart to be told apart, and the "
            f"first and the last rank are {methods - 1} apart.")


def critical_difference(methods: int, cells: int, alpha: float = ALPHA) -> float:
    """Nemenyi's: how far apart average ranks over so many cells must be for a difference at level alpha."""
    return _range_quantile(methods, 1 - alpha) / sqrt(2) * sqrt(methods * (methods + 1) / (6 * cells))


def cliques(average: Floats, critical: float) -> list[tuple[int, int]]:
    """The bars of a critical-difference diagram: longest runs (first, last) of methods, ordered by rank, that cannot be told apart."""
    ordered = np.sort(average)
    last = np.searchsorted(ordered, ordered + critical, side="right") - 1
    return [(i, int(end)) for i, end in enumerate(last) if end > i and (i == 0 or end > last[i - 1])]


def overall_score(ranks: Floats, weights: Sequence[float]) -> Floats:
    """Ours: weighted mean [m] of a method's average ranks [goals, m], smaller is better. Raises: BadInput unless weights are at least 0
    and not all 0."""
    if min(weights) < 0 or not sum(weights) > 0:
        raise BadInput(f"weights: got {', '.join(f'{w:g}' for w in weights)}; each must be at least 0 and one of them above it")
    return np.asarray(weights, np.float64) @ ranks / sum(weights)


def _chi2_above(x: float, freedom: int) -> float:
    """Chance of more than x under chi-square: a finite sum, for whole degrees of freedom."""
    half = x / 2
    if half <= 0:
        return 1.0
    start = freedom % 2 / 2
    terms = sum(exp(i * log(half) - half - lgamma(i + 1)) for i in np.arange(start, freedom / 2))
    return min(1.0, terms + (erfc(sqrt(half)) if start else 0.0))


_GRID = np.linspace(-8.0, 8.0, 161)
_DENSITY = np.exp(-_GRID**2 / 2) / sqrt(2 * np.pi)


def _normal_below(z: Floats) -> Floats:
    return np.array([(1 + erf(value / sqrt(2))) / 2 for value in z])


def _range_below(q: float, k: int) -> float:
    """Chance that k standard normal values are within q of the largest, summed over where that is: good to 12 digits."""
    between = _normal_below(_GRID) - _normal_below(_GRID - q)
    return float(k * (_DENSITY * between ** (k - 1)).sum() * (_GRID[1] - _GRID[0]))


@lru_cache(maxsize=256)
def _range_quantile(k: int, level: float) -> float:
    """q at which `_range_below` reaches the level, by halving."""
    low, high = 0.0, 20.0
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (middle, high) if _range_below(middle, k) < level else (low, middle)
    return (low + high) / 2
