"""Two Gaussians per example, one per world, fitted to phi of many models that come in splits.

Models of one split share their training data, so the values that one split gives for one example in one world are a *group*
of correlated draws: each of its n values weighs 1/n, and the group counts once. phi itself is never averaged, which would
lose the spread inside a split.

    mu    = mean over groups of the group's mean
    var   = mean over groups of the variance inside + variance of the groups' means (over G - 1): unbiased for any correlation
    blur  = 1 + (share of the variance that lies between groups) / G: the centre is itself estimated
    score = log N(phi; forgotten) - log N(phi; never), each distance to a centre divided by sqrt(blur)

Why blur: a left-out value is nearer to the better known of two equal centres. With 8 groups a world and no leak at all, the plain
ratio calls 49 % right and has an AUC of 0.484; with it both are 0.50 (simulated, 16 splits), and more groups make it vanish.

Variance per example (`example`) where both worlds have 16 or more groups. Below (`pooled`), two numbers per example are too noisy, and one
variance for all is worse, as spreads differ widely between examples. There: the example's scale, from both worlds together
and drawn towards the median example by two degrees of freedom, times one ratio per world, the mean over all examples.
"""

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float, Int

from engine.errors import DataError

Variance = Literal["auto", "example", "pooled"]

NEVER, FORGOTTEN, NOT_USED = 0, 1, -1  # the codes of `world`, and the places of the two worlds on axes of length 2
OWN_VARIANCE_FROM = 16
PRIOR_DF = 2
FLOOR_SHARE = 0.05  # of the typical sigma of that world: finer agreement between models is taken as chance
FLOOR_NATS = 1e-3  # where all models agree on all examples
TOO_LARGE = 1e30  # beyond any logit, and its square still fits


@dataclass(frozen=True)
class Gaussians:
    """Fitted on some of the splits. `mu` is NaN where the example has no value in that world."""

    mu: Float[np.ndarray, "2 n"]
    sigma: Float[np.ndarray, "2 n"]
    blur: Float[np.ndarray, "2 n"]

    def z(self, phi: Float[np.ndarray, "m n"], world: int) -> Float[np.ndarray, "m n"]:
        """Distance of left-out values from the centre of `world`, in the standard deviations such a value is expected to have."""
        return (phi - self.mu[world]) / (self.sigma[world] * np.sqrt(self.blur[world]))

    def log_ratio(self, phi: Float[np.ndarray, "m n"]) -> Float[np.ndarray, "m n"]:
        """Log density under `forgotten` minus under `never`: nats, larger = member, 0 = cannot say. NaN where mu is."""
        distance = (self.z(phi, NEVER) ** 2 - self.z(phi, FORGOTTEN) ** 2) / 2
        return distance + np.log(self.sigma[NEVER] / self.sigma[FORGOTTEN])


@dataclass(frozen=True)
class Groups:
    """phi summed up by split, world and example."""

    count: Int[np.ndarray, "s 2 n"]
    mean: Float[np.ndarray, "s 2 n"]
    inside: Float[np.ndarray, "s 2 n"]  # variance inside the group, divided by its n
    number: Int[np.ndarray, "2 n"]  # groups over all splits

    @property
    def usable(self) -> Bool[np.ndarray, " n"]:
        """Examples with two groups or more in both worlds: one can be left out and still be scored, whichever it is."""
        return (self.number[NEVER] >= 2) & (self.number[FORGOTTEN] >= 2)

    def weight(self, split: int) -> Float[np.ndarray, "2 n"]:
        """Of one value of this split in each world, where the values of an example weigh 1 in a world and its groups count evenly; 0
        where the example is not usable."""
        return 1 / np.maximum(self.count[split] * self.number, 1) * self.usable

    def independent(self, world: int) -> float:
        """How many values of this world may be held independent: as many as there are groups, each example weighing the same (Kish's
        formula)."""
        return float(self.usable.sum() ** 2 / (1 / self.number[world, self.usable]).sum())

    def alone(self, world: int) -> "Groups":
        """As if the other world had no values, and did not decide either whose variance is used."""
        only = np.arange(2)[:, None] == world
        return replace(self, count=self.count * only, mean=self.mean * only, inside=self.inside * only, number=self.number[[world, world]])

    def fit(self, without: int | None = None, variance_of: Variance = "auto") -> Gaussians:
        """Gaussians from all splits, or from all but one; `variance_of` as in the docstring above, or the same for all examples.

        Raises: DataError when no example has two groups left.
        """
        groups, total, square, within = self._totals.groups, self._totals.total, self._totals.square, self._totals.within
        if without is not None:  # less one, instead of all others again: a fit for every split then takes as long as one over all of them
            groups, within = groups - (self.count[without] > 0), np.maximum(within - self.inside[without], 0.0)
            total, square = total - self._totals.away[without], square - self._totals.away[without] ** 2
        spare = np.maximum(groups - 1, 0)
        if not spare.any():
            raise DataError("no example has two splits in one world, so no spread can be estimated: more splits are needed")
        with np.errstate(invalid="ignore"):  # 0 / 0: an example without a value in that world has no mean
            mu = self._totals.centre + total / groups
        between = np.where(spare > 0, np.maximum(square - total**2 / np.maximum(groups, 1), 0.0), 0.0)
        variance = within / np.maximum(groups, 1) + between / np.maximum(spare, 1)
        share = _share(between.sum() / spare.sum(), within.sum() / groups.sum())
        # by all splits, so that each value of an example is scored the same way
        own = (self.number >= OWN_VARIANCE_FROM).all(0) if variance_of == "auto" else np.full(self.number.shape[1], variance_of == "example")
        if not own.all():
            variance = np.where(own, variance, _pooled(variance, spare))
        typical = np.array([np.median(v[s > 0]) if s.any() else 0.0 for v, s in zip(variance, spare, strict=True)])
        floor = np.maximum(FLOOR_SHARE * np.sqrt(typical), FLOOR_NATS)
        return Gaussians(mu, np.maximum(np.sqrt(variance), floor[:, None]), 1 + share / np.maximum(groups, 1))

    @cached_property
    def _totals(self) -> "_Totals":
        present = self.count > 0
        groups = present.sum(0)
        centre = self.mean.sum(0) / np.maximum(groups, 1)  # a group that has no values is 0 there
        away = np.where(present, self.mean - centre, 0.0)
        return _Totals(groups, centre, away, away.sum(0), (away**2).sum(0), self.inside.sum(0))


@dataclass(frozen=True)
class _Totals:
    """Over the groups of each world and example. away: of a group's mean from `centre`, the mean of all, so that sums of squares lose nothing."""

    groups: Int[np.ndarray, "2 n"]
    centre: Float[np.ndarray, "2 n"]
    away: Float[np.ndarray, "s 2 n"]
    total: Float[np.ndarray, "2 n"]
    square: Float[np.ndarray, "2 n"]
    within: Float[np.ndarray, "2 n"]


def group(phi: Float[np.ndarray, "m n"], world: Int[np.ndarray, "m n"], place: Int[np.ndarray, " m"],
          base: Float[np.ndarray, " n"] | float = 0.0) -> Groups:
    """Sums of phi - base by split (`place` numbers them from 0), world and example; pairs of world -1 are left out."""
    shape = (int(place.max()) + 1, 2, phi.shape[1])
    count, mean, inside = np.zeros(shape, dtype=np.int64), np.zeros(shape), np.zeros(shape)
    for s in range(shape[0]):
        rows = rows_of(place, s)
        values, code = less_base(phi[rows], base), world[rows]
        for w in (NEVER, FORGOTTEN):
            used = code == w
            count[s, w] = used.sum(0, dtype=np.int32)
            n = np.maximum(count[s, w], 1)
            mean[s, w] = (values * used).sum(0) / n
            away = (values - mean[s, w]) * used
            inside[s, w] = np.einsum("mn,mn->n", away, away) / n
    return Groups(count, mean, inside, (count > 0).sum(0))


def less_base(phi: Float[np.ndarray, "k n"], base: Float[np.ndarray, " n"] | float) -> Float[np.ndarray, "k n"]:
    """phi - base in double precision, with numbers for whatever unused pairs hold: what is finite can be left out by multiplying it by 0,
    in a third of the time that choosing by such a mask takes, which looks random to a processor."""
    made = np.subtract(phi, base, dtype=np.float64)
    return np.fmin(np.fmax(made, -4 * TOO_LARGE, out=made), 4 * TOO_LARGE, out=made)


def rows_of(place: Int[np.ndarray, " m"], split: int) -> slice | Int[np.ndarray, " k"]:
    """Where a split's models stand: a slice, which copies nothing, where they stand together."""
    rows = np.flatnonzero(place == split)
    return slice(int(rows[0]), int(rows[-1]) + 1) if rows[-1] - rows[0] + 1 == len(rows) else rows


def check(phi: np.ndarray, world: np.ndarray, split: np.ndarray) -> None:
    """Are these arrays something that can be attacked? Raises: DataError listing all faults found."""
    faults = []
    if phi.ndim != 2 or phi.shape != world.shape:
        faults.append(f"phi and world must both be [models, examples], got {phi.shape} and {world.shape}")
    if split.shape != phi.shape[:1]:
        faults.append(f"split must have one entry a model, got {split.shape} for phi of shape {phi.shape}")
    if faults:
        raise DataError(*faults)
    if world.size and (world.min() < NOT_USED or world.max() > FORGOTTEN):
        unknown = sorted(set(np.unique(world).tolist()) - {NEVER, FORGOTTEN, NOT_USED})
        faults.append(f"world must be 1 (forgotten), 0 (never seen) or -1 (not used), got {unknown[:5]}")
    used = world != NOT_USED
    if bad := sum(np.count_nonzero(mine & ~(np.abs(row.astype(np.float64)) < TOO_LARGE)) for row, mine in zip(phi, used, strict=True)):
        faults.append(f"{bad} of {used.sum()} values of phi are NaN, infinite or beyond {TOO_LARGE:g}: "
                      "leave out models that diverged")
    for code, name in ((FORGOTTEN, "forgotten"), (NEVER, "never seen")):
        if not (world == code).any():
            faults.append(f"no example is '{name}' (world {code}) in any model: both worlds are needed")
    if (splits := len(np.unique(split[used.any(1)]))) < 3:
        faults.append(f"cross-fitting needs 3 or more splits, got {splits}")
    if faults:
        raise DataError(*faults)


def _pooled(variance: Float[np.ndarray, "2 n"], spare: Int[np.ndarray, "2 n"]) -> Float[np.ndarray, "2 n"]:
    """Variance of each example as its own scale times one ratio per world; `spare`: degrees of freedom behind `variance`."""
    freedom = spare.sum(0)
    scale = (variance * spare).sum(0) / np.maximum(freedom, 1)
    scale = (scale * freedom + PRIOR_DF * np.median(scale[freedom > 0])) / (freedom + PRIOR_DF)
    scale = np.maximum(scale, FLOOR_NATS**2)
    ratio = (variance / scale * spare).sum(1) / np.maximum(spare.sum(1), 1)
    return np.where(spare.any(1), ratio, 1.0)[:, None] * scale


def _share(between: float, within: float) -> float:
    """Part of the variance that lies between splits; 1, the careful end, where nothing varies."""
    return float(between / (between + within)) if between + within > 0 else 1.0
