"""Epsilon from an attack's errors: what rates show as they stand, and a lower bound that holds for a handful of splits.

(epsilon, delta)-indistinguishable says of every event E that P(E) <= e^epsilon Q(E) + delta, P of members and Q of non-members or
the other way round. So

    a rule shows       epsilon >= max(log((TPR - delta) / FPR), log((1 - FPR - delta) / (1 - TPR)))
    wealth(epsilon)  = product over splits of 1 + stake * (p - e^epsilon q - delta)
    the lower bound  = the largest epsilon up to which wealth >= 1 / (1 - level)

p and q are the shares of one split's members and non-members (or the other way round) that are at or above a threshold (or below it).

Why splits: thousands of examples share a model and err together, so Clopper-Pearson over pooled examples holds nothing. Rates of whole
splits are independent, but few, and far from normal where errors are rare: without one false positive a t-interval has no width, and
epsilon no end. Hence a bet on every split. Threshold, side and stake are chosen on the splits before it; a stake is at most
1 / (e^epsilon + delta), so wealth never turns negative; and where epsilon holds, no bet gains on average. So wealth is 1 or less on
average, and by Markov's inequality it reaches 1 / (1 - level) with a chance of at most 1 - level: exactly, for any number of independent
splits and whatever goes on inside them. It is averaged over random orders of the splits, which keeps its mean and lets no order decide.

What that costs: without a single error in s splits the bound is log((1 - delta) / ((1 - level)^(-1 / (s - 1)) - 1) - delta), returned as
`most`: 0.9 for 10 splits, 3.0 for 64, nothing below 6. For delta = 0 that is log((1 - c) / c), c the Clopper-Pearson limit of no error
in s - 1 trials: about log(s / 3), and no method can show much more that allows for a rare split in which everything goes wrong.

Simulated, the 95 % bound holds 99 to 100 % of the time: 6 to 40 splits whose examples err all together (pooled Clopper-Pearson: 56 to
78 %), or share a mood, or have Laplace scores, or were scored by U-LiRA, whose cross-fitting makes splits depend a little on each other.

Source: Gonzalez et al., "Sequentially Auditing Differential Privacy", NeurIPS 2025, arXiv:2509.07055, after Waudby-Smith and Ramdas,
"Estimating Means of Bounded Random Variables by Betting", JRSS B 2024, arXiv:2010.09686; rates and epsilon: Kairouz et al., "The
Composition Theorem for Differential Privacy", ICML 2015, arXiv:1311.0776. Differs: one bet a split, on the shares of its examples.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from engine.errors import DataError, Diverged
from engine.metrics.roc import weight_below

DELTA = 1e-5  # of (epsilon, delta), wherever nothing else is asked for
LEVEL = 0.95
ORDERS = 32
STEP = 0.01  # between the epsilons that are tried
_CUTS = 1024  # thresholds to choose from: so many that a split has next to no say in where the one lies that it is tested at
_SAMPLE = 1 << 20  # scores that the cuts are taken from
_FAR = 1e300  # where infinite scores count for, which lets them have a middle
_ENOUGH = 1e100  # more wealth is not counted, which keeps products finite
_ROUNDING = 1e-9
_ABOVE = (0, 2)  # of the four events of `Shares`
_BELOW = (1, 3)
_PARTNER = [2, 3, 0, 1]  # q of the event whose p is given


@dataclass(frozen=True)
class Epsilon:
    """value: shown at this level, larger = more leaked, 0 = nothing shown. most: what so many splits could show; value <= most.

    threshold, above: the rule that all splits choose, "member" at or above the threshold, or below it. tpr, fpr: fractions, mean over
    splits, each by the rule that the others choose. n_splits: those with members and non-members; only they are used.
    """

    value: float
    most: float
    threshold: float
    above: bool
    tpr: float
    fpr: float
    n_splits: int


@dataclass(frozen=True)
class Shares:
    """All that a bound needs of scored pairs. of: the shares of four events at each cut in every split that has both kinds: members above
    it, members below, non-members above, non-members below."""

    cut: Float[np.ndarray, " c"]
    of: Float[np.ndarray, "4 s c"]

    @property
    def n_splits(self) -> int:
        return self.of.shape[1]


def epsilon_of(tpr: Float[np.ndarray, "*n"], fpr: Float[np.ndarray, "*n"], delta: float = 0.0) -> Float[np.ndarray, "*n"]:
    """Epsilon that a rule with exactly these rates shows, from 0 up; infinite where it is right about a world without exception and
    not always wrong about the other."""
    with np.errstate(divide="ignore", invalid="ignore"):  # 0 / 0 says nothing, and fmax leaves it out
        odds = np.fmax((tpr - delta) / fpr, (1 - fpr - delta) / (1 - tpr))
        return np.log(np.fmax(odds, 1.0))


def most_of(splits: int, *, delta: float = DELTA, level: float = LEVEL) -> float:
    """The largest lower bound that so many splits can show, without a single error: 0 where they are too few to show any."""
    if splits < 2:
        return 0.0
    odds = (1 - delta) / np.expm1(-np.log1p(-level) / (splits - 1)) - delta
    return float(np.log(max(odds, 1.0)))


def epsilon_lower_bound(score: Float[np.ndarray, " n"], member: Bool[np.ndarray, " n"], weight: Float[np.ndarray, " n"],
                        cluster: Int[np.ndarray, " n"], *, delta: float = DELTA, level: float = LEVEL, seed: int = 0,
                        orders: int = ORDERS) -> Epsilon:
    """Lower bound on the largest epsilon of any example, from scored pairs of splits, numbered from 0. Larger or smaller scores may
    mean member; equal ones stay together.

    weight: of each pair inside its split; splits weigh the same. Both worlds should be made up of the same examples on average, or what
    sets the examples apart is taken for leakage. `seed` orders the splits.
    Raises: Diverged when a score is NaN; DataError when a weight, `delta` or `level` is not usable, or fewer than 2 splits have both
    members and non-members.
    """
    _check(score, weight, cluster, delta, level)
    cut = thresholds(score)
    found = shares(cut, weight_below(score, member, weight, cluster, int(cluster.max()) + 1, cut))
    if found.n_splits < 2:
        raise DataError(f"a lower bound on epsilon needs 2 or more splits with both members and non-members, got {found.n_splits}")
    return lower_bound(found, delta=delta, level=level, seed=seed, orders=orders)


def thresholds(score: Float[np.ndarray, " n"]) -> Float[np.ndarray, " c"]:
    """The thresholds to choose from, ascending: quantiles of all scores together, so that who is a member has no say in them."""
    sample = np.sort(score[::-(-len(score) // _SAMPLE)]).astype(np.float64)
    value = np.unique(np.clip(sample[np.linspace(0, len(sample) - 1, _CUTS).astype(np.int64)], -_FAR, _FAR))
    return np.append(value[:1], value[:-1] / 2 + value[1:] / 2)  # between two values, and one below which there is nothing


def shares(cut: Float[np.ndarray, " c"], below: Float[np.ndarray, "2 s c+1"]) -> Shares:
    """From the weight below each of the ascending `thresholds`, and of all (`roc.weight_below`)."""
    p, q = below[:, (below[..., -1] > 0).all(0)]
    p, q = p[:, :-1] / p[:, -1:], q[:, :-1] / q[:, -1:]
    return Shares(cut, np.stack([1 - p, p, 1 - q, q]))


def lower_bound(found: Shares, *, delta: float = DELTA, level: float = LEVEL, seed: int = 0, orders: int = ORDERS) -> Epsilon:
    """`epsilon_lower_bound` of pairs that have been summed up already, of two or more splits."""
    shares, splits = found.of, found.n_splits
    most, price = most_of(splits, delta=delta, level=level), -float(np.log1p(-level)) / splits
    tried = np.arange(0.0, most + _ROUNDING, STEP)
    rng = np.random.default_rng(seed)
    wealth = np.mean([_wealth(shares[:, rng.permutation(splits)], np.exp(tried), delta, price) for _ in range(orders)], axis=0)
    refuted = int(np.argmax(np.append(wealth * (1 - level) < 1, True)))  # how many, up to the first that is not
    kind, at = _best(shares.mean(1), delta, price)
    tpr, fpr = _held_out(shares, delta, price)
    return Epsilon(value=float(tried[max(refuted - 1, 0)]), most=most, threshold=float(found.cut[at]), above=_member_above(kind),
                   tpr=tpr, fpr=fpr, n_splits=splits)


def _wealth(shares: Float[np.ndarray, "4 s c"], odds: Float[np.ndarray, " e"], delta: float, price: float) -> Float[np.ndarray, " e"]:
    """Of one order of splits, at each e^epsilon. The stake is what would have been best before, to second order: sum / sum of squares."""
    wealth, before = np.ones(len(odds)), np.zeros(shares[:, 0].shape)
    for s in range(1, shares.shape[1]):
        before += shares[:, s - 1]
        kind, at = _best(before / s, delta, price)
        p, q = shares[kind, :s, at] - delta, shares[_PARTNER[kind], :s, at]
        squares = p @ p - 2 * odds * (p @ q) + odds**2 * (q @ q)
        stake = np.clip((p.sum() - odds * q.sum()) / np.maximum(squares, np.finfo(np.float64).tiny), 0, 1 / (odds + delta))
        gain = shares[kind, s, at] - odds * shares[_PARTNER[kind], s, at] - delta
        wealth = np.minimum(wealth * (1 + stake * gain), _ENOUGH)
    return wealth


def _best(mean: Float[np.ndarray, "4 c"], delta: float, price: float) -> tuple[int, int]:
    """Event and cut that promise the largest bound; of equal cuts the middle one. `price`: what is lost to there being few splits."""
    odds = (mean - delta) / (mean[_PARTNER] + price)
    kind = int(odds.max(1).argmax())
    equal = np.flatnonzero(odds[kind] >= odds[kind].max() - _ROUNDING)
    return kind, int(equal[len(equal) // 2])


def _held_out(shares: Float[np.ndarray, "4 s c"], delta: float, price: float) -> tuple[float, float]:
    """True- and false-positive rate, mean over splits, of the rule that all other splits choose."""
    total, splits = shares.sum(1), shares.shape[1]
    rates = np.zeros((splits, 2))
    for s in range(splits):
        kind, at = _best((total - shares[:, s]) / (splits - 1), delta, price)
        rates[s] = shares[_ABOVE if _member_above(kind) else _BELOW, s, at]
    return float(rates[:, 0].mean()), float(rates[:, 1].mean())


def _member_above(kind: int) -> bool:
    """Does this event say "member" above its threshold? It is commoner among members, or its complement is."""
    return kind in (0, 3)


def _check(score: Float[np.ndarray, " n"], weight: Float[np.ndarray, " n"], cluster: Int[np.ndarray, " n"],
           delta: float, level: float) -> None:
    faults: list[str] = []
    if not 0 <= delta < 1:
        faults.append(f"delta must lie in [0, 1), got {delta}")
    if not 0 < level < 1:
        faults.append(f"level must lie between 0 and 1, got {level}")
    if not len(score):
        faults.append("a lower bound on epsilon needs scored pairs, got none")
    elif cluster.min() < 0:
        faults.append(f"splits must be numbered from 0, got {cluster.min()}")
    if not (np.isfinite(weight) & (weight >= 0)).all():
        faults.append("weights must be finite and not negative")
    if faults:
        raise DataError(*faults)
    if bad := int(np.isnan(score).sum()):
        raise Diverged(f"epsilon: {bad} of {len(score)} scores are NaN, a model diverged")
