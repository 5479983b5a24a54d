"""RULI: efficacy and privacy of unlearning, per example, by kernel densities; on memorised examples as well as on random ones.

Each example is in three worlds: kept in training, unlearned, never seen. A left-out value x of phi is called unlearned where

    privacy     log p(x; unlearned) - log p(x; never seen by the unlearned model) > 0         does the unlearned model leak?
    efficacy    log p(x; unlearned) - log p(x; model trained without x, nothing unlearned) > 0    is it as good as retraining?
    p(x; w) = mean over splits of the mean over the split's values v of N(x; v, h_w^2),    h_w = sigma_w * splits_w^(-1/5)

    vulnerable  the 10 % of examples with the largest mean of p_kept / (p_kept + p_never) over models that kept them: memorised ones
    protected   as many for which that is nearest to 1/2        mixed  both together        random  all, as forget sets are random

1/2 balanced accuracy = perfect. Vulnerable and protected are chosen from the original models of one half of the splits (every second)
and reported on the unlearned models of the other half, then the halves are swapped and taken together. `kept` has a part in the choice
alone, as in the paper. Without originals the choice is by what the unlearned models themselves kept.

Leaving out: a value is scored by densities without its whole split. An example is mostly in one world in a split, so this takes a split
from one world alone, and a density of fewer values is lower where it was not fitted: nothing to tell would come out below chance. So
the other world then leaves out a split too, the one of the same rank. Without a leak neither density knows which world the value is
from, and 1/2 is expected exactly, however few the splits. Sums are taken in logarithms: far from all values both densities round to 0,
and their ratio would be NaN, mostly for easy examples.

Efficacy is read against `retrained` models (same split and forget set) where they are given, else against originals that never saw x,
as released. Those were trained on the whole of a split, retrained models on what a forget set leaves of it, so that even retraining
need not be at 1/2 there.

Source: Naderloui et al., "Rectifying Privacy and Efficacy Measurements in Machine Unlearning: A New Inference Attack Perspective",
USENIX Security 2025, arXiv:2506.13009, after the released code.
Differs: there one target model, here every model, cross-fitted by split. Bandwidth by Scott's rule, a split counting once, with the
spread of `gaussians`, as for text there (for images it is 1 nat for all, wider than many examples' spread). Vulnerable by share and
over many models, where one target's false-positive rate of 0.01 % decides. Forget sets here are random, so `mixed` mixes what is
reported, not what is trained on.
"""

from collections.abc import Iterator
from dataclasses import dataclass, fields, replace

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.special import expit

from engine.attacks import bootstrap, gaussians
from engine.attacks.bootstrap import DRAWS
from engine.attacks.gaussians import FORGOTTEN, NEVER, NOT_USED, PRIOR_DF, Groups, check
from engine.attacks.info import AttackInfo
from engine.attacks.models import Models
from engine.attacks.rates import Metric, Rates, count, rates_over_clusters
from engine.attacks.u_lira import FIT_NOISE, CrossFit, ULiraResult, cross_fit, measure
from engine.attacks.versus_retrained import side_by_side
from engine.errors import DataError

INFO = AttackInfo(
    name="ruli",
    label="RULI",
    doc="Per example, by kernel densities: unlearned against never seen (privacy) and retrained (efficacy), on memorised and random examples.",
    paper="arXiv:2506.13009",
    version=1,
)

KEPT = 2  # the third code of `world`
SHARE = 0.1  # of the examples, that are called vulnerable
FEWEST_EXAMPLES = 10  # chosen on a half, or nobody is
FEWEST_SPLITS = 3  # in a half to choose from
BLOCK = 2**18  # kernels that are computed at once: as many as stay in a processor's cache


@dataclass(frozen=True)
class RuliResult:
    """By sample: random, and where examples could be chosen vulnerable, protected and mixed. Larger = more leaked."""

    privacy: dict[str, Rates]
    efficacy: dict[str, Rates]  # empty without models to compare with
    n_vulnerable: int  # chosen on each half
    n_models: int
    n_splits: int
    n_examples: int

    def metrics(self) -> list[Metric]:
        """Rows as the store keeps them, such as privacy_vulnerable_auc. Rates that the sample cannot support have none."""
        rows = [Metric(name=f"{test}_{sample}_{row['name']}", value=row["value"], lo=row["lo"], hi=row["hi"])
                for test, found in (("privacy", self.privacy), ("efficacy", self.efficacy)) for sample, rates in found.items()
                for row in rates.metrics()]
        return [*rows, *(count(name, getattr(self, name)) for name in ("n_vulnerable", "n_models", "n_splits", "n_examples"))]


def ruli(unlearned: Models, *, original: Models | None = None, retrained: Models | None = None, seed: int = 0, draws: int = DRAWS) -> RuliResult:
    """Both tests on unlearned models; splits have the same names in all three.

    original: what was trained and unlearned nothing, world 2 or 0. retrained: row for row as `unlearned`; worlds are read from there.
    Vulnerable examples are chosen where each half has three or more splits and 100 or more examples with two of them in each world.
    The seed moves nothing but the intervals.
    Raises: DataError as `u_lira.cross_fit`, or when the arrays do not fit together.
    """
    _check(unlearned, original, retrained)
    names, here = np.unique(unlearned.split), replace(unlearned, world=_two(unlearned.world, FORGOTTEN))
    check(here.phi, here.world, here.split)
    chosen = _choose(original or unlearned, names)
    privacy, whole = _test(here, names, chosen, seed, draws)
    pair = _without(unlearned, original, retrained)
    return RuliResult(privacy, _test(pair, names, chosen, seed, draws)[0] if pair else {},
                      int(chosen["vulnerable"].sum(1).min()) if chosen else 0, whole.n_models, whole.n_splits, whole.n_examples)


def kernel_fit(phi: Float[np.ndarray, "m n"], world: Int[np.ndarray, "m n"], split: Int[np.ndarray, " m"]) -> CrossFit:
    """`u_lira.cross_fit` with kernel densities in place of Gaussians: world 1 against world 0. Raises: DataError as there."""
    fit = cross_fit(phi, world, split)
    _score(fit, phi[(world != NOT_USED).any(1)])
    return fit


def _score(fit: CrossFit, phi: Float[np.ndarray, "m n"]) -> None:
    """Write over the Gaussians' scores (large, and just made): log density under world 1 minus under world 0, nats; 0 where not scored."""
    groups, place = fit.groups, fit.place.astype(np.int16)
    others = np.maximum(groups.number - 1, 1)  # splits in each density: always one less than there are
    left = _left_out(groups)
    width = _sigma(groups, left) * others**-0.2
    value = -np.log(np.maximum(groups.count, 1) * others)  # log weight of one value
    for columns in _blocks(fit.world, groups.usable):
        at = [_places(fit.world[:, columns], w) for w in (NEVER, FORGOTTEN)]
        values = [np.where(there, phi[rows, columns] - fit.base[columns], 0.0) for rows, there in at]
        for own, (rows, filled) in enumerate(at):
            home, density = fit.place[rows], []
            for w, (kernels, there) in enumerate(at):
                weight = np.where(there, value[fit.place[kernels], w, columns], -np.inf)
                kept = place[kernels] != left[home, own, w, columns][:, None]
                h = width[home, own, w, columns]
                density.append(_log_sum(values[own], values[w], h, np.where(kept, weight, -np.inf)) - np.log(h))
            fit.score[rows, columns] = np.where(filled, density[FORGOTTEN] - density[NEVER], fit.score[rows, columns])


def _sigma(groups: Groups, left: Int[np.ndarray, "s 2 2 n"]) -> Float[np.ndarray, "s 2 2 n"]:
    """Spread of each world (axis 2) without what is left out, for a value of each split and world (axes 0 and 1).

    After `gaussians`, but not by `Groups.fit`: with few splits that pools both worlds, and the one whose own split is not left out would
    know the value that is scored. Here the scale of an example is pooled from what is left of both.
    """
    present, some = groups.count > 0, np.maximum(groups.number, 1)
    mean = np.where(present, groups.mean - groups.mean.sum(0) / some, 0.0)
    rest = np.maximum(groups.number - present, 1)
    total, square, inside = mean.sum(0) - mean, (mean**2).sum(0) - mean**2, groups.inside.sum(0) - groups.inside
    variance = np.maximum(inside / rest + (square - total**2 / rest) / np.maximum(rest - 1, 1), 0.0)
    variance, spare = (np.take_along_axis(of[:, None], left, axis=0) for of in (variance, rest - 1))
    whole = groups.fit().sigma[:, groups.usable] ** 2
    ratio, typical = np.median(whole / whole.mean(0), axis=1)[:, None], np.median(whole, axis=1)[:, None]
    scale = (variance / ratio * spare).sum(2, keepdims=True) + PRIOR_DF * np.median(whole.mean(0))
    pooled = ratio * scale / (spare.sum(2, keepdims=True) + PRIOR_DF)
    own = (groups.number >= gaussians.OWN_VARIANCE_FROM).all(0)
    floor = np.maximum(gaussians.FLOOR_SHARE * np.sqrt(typical), gaussians.FLOOR_NATS)
    return np.maximum(np.sqrt(np.where(own, variance, pooled)), floor)


def _log_sum(x: Float[np.ndarray, "x b"], v: Float[np.ndarray, "v b"], h: Float[np.ndarray, "x b"],
             weight: Float[np.ndarray, "x v b"]) -> Float[np.ndarray, "x b"]:
    """Log of the sum over v of exp(weight - ((x - v) / h)^2 / 2); some weight is above -inf."""
    kernel = x[:, None] - v
    kernel *= kernel
    kernel *= (-0.5 / h**2)[:, None]
    kernel += weight
    top = kernel.max(1)
    kernel -= top[:, None]
    return top + np.log(np.exp(kernel, out=kernel).sum(1))


def _left_out(groups: Groups) -> Int[np.ndarray, "s 2 2 n"]:
    """Which split a value leaves out of each world's density (axis 2), by its own split and world (axes 0 and 1).

    Its own split; for the other world, if that has nothing in this split, the one whose rank among the splits of that world is the same.
    """
    present = groups.count > 0
    rank, order = np.cumsum(present, 0) - 1, np.argsort(~present, axis=0, kind="stable")
    own = np.arange(len(present))[:, None]
    left = np.empty((len(present), 2, 2, present.shape[2]), dtype=np.int16)
    for w, other in ((NEVER, FORGOTTEN), (FORGOTTEN, NEVER)):
        twin = np.take_along_axis(order[:, other], rank[:, w] % np.maximum(groups.number[other], 1), axis=0)
        left[:, w, w], left[:, w, other] = own, np.where(present[:, other], own, twin)
    return left


def _blocks(world: Int[np.ndarray, "m n"], usable: Bool[np.ndarray, " n"]) -> Iterator[Int[np.ndarray, " b"]]:
    """Usable examples, so few at once that there are about BLOCK kernels between their values."""
    columns = np.flatnonzero(usable)
    most = int((world[:, columns] != NOT_USED).sum(0).max())
    size = max(BLOCK // most**2, 1)
    return (columns[i:i + size] for i in range(0, len(columns), size))


def _places(world: Int[np.ndarray, "m b"], code: int) -> tuple[Int[np.ndarray, "v b"], Bool[np.ndarray, "v b"]]:
    """Rows of the values in that world, example by example from the top, and whether there is one."""
    there = world == code
    rows = np.argsort(~there, axis=0, kind="stable")[:there.sum(0).max()]
    return rows, np.take_along_axis(there, rows, axis=0)


def _choose(source: Models, names: Int[np.ndarray, " s"]) -> dict[str, Bool[np.ndarray, "2 n"]]:
    """Examples by sample, in row h as chosen on the splits `names[h::2]`. Empty when these are too few to choose from."""
    world, n = _two(source.world, KEPT), source.phi.shape[1]
    vulnerable, protected = np.zeros((2, n), dtype=bool), np.zeros((2, n), dtype=bool)
    for h in (0, 1):
        rows = np.isin(source.split, names[h::2])
        splits = np.unique(source.split[rows])
        number = [sum((world[source.split == s] == w).any(0) for s in splits) for w in (NEVER, FORGOTTEN)]
        scored = np.flatnonzero(np.min(number, axis=0) >= 2)
        if len(splits) < FEWEST_SPLITS or (k := round(SHARE * len(scored))) < FEWEST_EXAMPLES:
            return {}
        fit = kernel_fit(source.phi[rows], world[rows], source.split[rows])
        memorised = np.where(fit.world == FORGOTTEN, fit.weight * expit(fit.score), 0.0).sum(0)
        ranked = scored[np.argsort(-memorised[scored], kind="stable")]
        rest = ranked[k:]
        vulnerable[h, ranked[:k]] = True
        protected[h, rest[np.argsort(np.abs(memorised[rest] - 0.5), kind="stable")[:k]]] = True
    return {"vulnerable": vulnerable, "protected": protected, "mixed": vulnerable | protected}


def _test(models: Models, names: Int[np.ndarray, " s"], chosen: dict[str, Bool[np.ndarray, "2 n"]], seed: int,
          draws: int) -> tuple[dict[str, Rates], ULiraResult]:
    """World 1 against world 0, by sample; and all of the first."""
    fit = kernel_fit(models.phi, models.world, models.split)
    whole = measure(fit, seed=seed, draws=draws)
    half = np.isin(np.unique(models.split[(models.world != NOT_USED).any(1)]), names[1::2]).astype(np.int64)
    random = Rates(**{field.name: getattr(whole, field.name) for field in fields(Rates)})
    return {"random": random} | {sample: _rates(fit, half, of, seed, draws) for sample, of in chosen.items()}, whole


def _rates(fit: CrossFit, half: Int[np.ndarray, " s"], chosen: Bool[np.ndarray, "2 n"], seed: int, draws: int) -> Rates:
    """Of examples chosen on the other half; each weighs 1 in each world in each half. half: of each split. Raises: DataError for none."""
    score, member, weight, cluster = [], [], [], []
    units, groups = 0, 0.0
    for h in (0, 1):
        rows, of = np.flatnonzero(half[fit.place] == h), np.flatnonzero(chosen[1 - h])
        share, world = fit.weight[np.ix_(rows, of)], fit.world[np.ix_(rows, of)]
        mass = np.stack([np.where(world == w, share, 0.0).sum(0) for w in (NEVER, FORGOTTEN)])
        both = (mass > 0).all(0)
        used = (share > 0) & both
        at = np.nonzero(used)
        score.append(fit.score[np.ix_(rows, of)][used])
        member.append(world[used] == FORGOTTEN)
        weight.append(share[used] / mass[member[-1].astype(int), at[1]])
        cluster.append(fit.place[rows][at[0]])
        units += int(both.sum())
        groups += float((1 / (fit.groups.count[half == h][:, NEVER, of[both]] > 0).sum(0)).sum())
    if not units:
        raise DataError("none of the chosen examples is in both worlds on the other half of the splits: more splits are needed")
    return rates_over_clusters(*map(np.concatenate, (score, member, weight, cluster)), times=bootstrap.draw_clusters(len(half), seed, draws),
                               independent=units**2 / groups, widen=FIT_NOISE)


def _two(world: Int[np.ndarray, "m n"], member: int) -> Int[np.ndarray, "m n"]:
    """World 1 for `member`, 0 for never seen, -1 for the rest."""
    return np.where(world == member, FORGOTTEN, np.where(world == NEVER, NEVER, NOT_USED)).astype(np.int8)


def _without(unlearned: Models, original: Models | None, retrained: Models | None) -> Models | None:
    """Unlearned examples in world 1, models trained without them in world 0; None where there are none."""
    forgotten = unlearned.world == FORGOTTEN
    if retrained:
        return Models(*side_by_side(unlearned.phi, retrained.phi, forgotten, unlearned.split))
    if original:
        world = np.concatenate([np.where(forgotten, FORGOTTEN, NOT_USED), np.where(original.world == NEVER, NEVER, NOT_USED)]).astype(np.int8)
        return Models(np.concatenate([unlearned.phi, original.phi]), world, np.concatenate([unlearned.split, original.split]))
    return None


def _check(unlearned: Models, original: Models | None, retrained: Models | None) -> None:
    faults = []
    for name, of in (("unlearned", unlearned), ("original", original), ("retrained", retrained)):
        if of and (of.phi.ndim != 2 or of.phi.shape != of.world.shape or of.split.shape != of.phi.shape[:1]):
            faults.append(f"{name}: phi and world must both be [models, examples] and split [models], got {of.phi.shape}, {of.world.shape} "
                          f"and {of.split.shape}")
        elif of and (unknown := sorted(set(np.unique(of.world).tolist()) - {KEPT, FORGOTTEN, NEVER, NOT_USED})):
            faults.append(f"{name}: world must be 2 (kept), 1 (forgotten), 0 (never seen) or -1 (not used), got {unknown[:5]}")
    if original and original.phi.shape[1:] != unlearned.phi.shape[1:]:
        faults.append(f"original and unlearned models must have the same examples, got {original.phi.shape[1:]} and {unlearned.phi.shape[1:]}")
    if retrained and (retrained.phi.shape != unlearned.phi.shape or not np.array_equal(retrained.split, unlearned.split)):
        faults.append("retrained models must be given row for row as unlearned ones: same splits, same forget sets")
    if faults:
        raise DataError(*faults)
