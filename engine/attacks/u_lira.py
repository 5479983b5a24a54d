"""U-LiRA: was this example unlearned, or was it never there? Per example, from many models in both worlds.

For each example the logit-scaled confidence phi is collected in two worlds, *forgotten* (trained on, then unlearned) and
*never seen*, and a Gaussian is fitted to each. The score of a left-out value, large = forgotten:

    online     log N(phi; forgotten) - log N(phi; never)                   > 0 is called forgotten
    offline    z = (phi - mu) / (sigma sqrt(blur)) of the never-seen       above a threshold from the other half of the splits

1/2 balanced accuracy = perfect unlearning. Both worlds' values are scored, each by Gaussians fitted without its whole split,
because the models of a split share training data: leaving out one model only would let it be recognised by its siblings. How
the Gaussians are fitted stands in `gaussians.py`.

Weights: an example counts once in each world, its groups (one split's values for it) evenly, a group's n values 1/n each. So
worlds have the same make-up of examples, and what cannot be told from chance comes out as 1/2 whatever the group sizes.
Examples with fewer than two splits in a world are not scored.

The offline form has no forgotten shadow: an attacker who cannot unlearn models of their own. It is one-sided, as membership attacks are,
and looks for a trace that was left: examples that lie *above* what models show that never saw them. What was forgotten too much lies
*below*. The offline form does not see that: no threshold is better than calling nobody, so balanced accuracy stays at 1/2 and the rates at
low false-positive rates come out below chance. What gives it away are an AUC below 1/2 and a negative `shift`; `epsilon`, which may turn a
rule round, counts it. Where both directions mix over examples, only the online form adds them up.

Intervals draw whole splits, fits as they are, and are then widened by sqrt(2): a split also moves the fits that score the others,
each pair of splits enters twice, which at no leak doubles the variance (a degenerate U-statistic) and with a strong one adds
less. Simulated, they hold 86 to 99 % of the time from six splits up; unwidened, 75 to 87 %. At low false-positive rates the
true-positive rate lies slightly above what it should with few splits (0.012 at 0.01 with 16), so read it beside the retrained
models' own.

Source: Hayes et al., "Inexact Unlearning Needs More Careful Evaluations to Avoid a False Sense of Privacy", SaTML 2025,
arXiv:2403.01218; the Gaussians after Carlini et al., S&P 2022, arXiv:2112.03570.
Differs: cross-fitted over splits instead of fresh target models; corrected for centres that are themselves estimated.
"""

from dataclasses import dataclass, replace
from typing import Literal, get_args

import numpy as np
from jaxtyping import Bool, Float, Int

from engine.attacks import bootstrap
from engine.attacks.bootstrap import DRAWS, Estimate
from engine.attacks.gaussians import FORGOTTEN, NEVER, NOT_USED, Gaussians, Groups, Variance, check, group, less_base, rows_of
from engine.attacks.info import AttackInfo
from engine.attacks.rates import (
    Metric,
    Rates,
    calls_over_clusters,
    count,
    held_out_thresholds,
    metric,
    rates_over_clusters,
    rates_over_examples,
)
from engine.errors import DataError, Diverged
from engine.metrics.roc import merged

INFO = AttackInfo(
    name="u_lira",
    label="U-LiRA",
    doc="Per example: likelihood ratio of models that unlearned it and models that never saw it. Balanced accuracy 1/2 is best.",
    paper="arXiv:2403.01218",
    version=1,
)

FIT_NOISE = 2**0.5  # of the intervals, see above

Form = Literal["online", "offline"]


@dataclass(frozen=True)
class Examples:
    """What was found for each of the n examples. NaN: nothing to say (no value in that world; not scored)."""

    n_forgotten: Int[np.ndarray, " n"]
    n_never: Int[np.ndarray, " n"]
    mu_forgotten: Float[np.ndarray, " n"]
    sigma_forgotten: Float[np.ndarray, " n"]
    mu_never: Float[np.ndarray, " n"]
    sigma_never: Float[np.ndarray, " n"]
    balanced_accuracy: Float[np.ndarray, " n"]


@dataclass(frozen=True)
class ULiraResult(Rates):
    """`shift` is in standard deviations of the never-seen world: negative says over-forgotten (less sure than of unseen examples),
    positive under-forgotten."""

    shift: Estimate
    examples: Examples
    n_models: int
    n_splits: int
    n_examples: int

    def metrics(self) -> list[Metric]:
        """Rows as the store keeps them. Rates that the sample cannot support have none."""
        return [*super().metrics(), metric("shift", self.shift), *(count(name, getattr(self, name)) for name in ("n_models", "n_splits", "n_examples"))]


@dataclass(frozen=True)
class TargetResult(Rates):
    """The attack on one fresh model."""

    n_forgotten: int
    n_never: int
    interval: str = "one model: examples resampled"


@dataclass(frozen=True)
class CrossFit:
    """Every used pair scored by Gaussians fitted without its split (see `cross_fit`); 0 where it is not scored."""

    score: Float[np.ndarray, "m n"]
    world: Int[np.ndarray, "m n"]
    place: Int[np.ndarray, " m"]  # the split of each model, numbered from 0
    groups: Groups  # of phi - base
    base: Float[np.ndarray, " n"]  # smallest phi of each example: less it, equal values stay exactly equal in sums and means

    @property
    def weight(self) -> Float[np.ndarray, "m n"]:
        """Of every pair; 0 where it is not scored."""
        made = np.empty(self.world.shape)
        for s in range(len(self.groups.count)):
            made[self.place == s] = self.weight_of(s)
        return made

    def weight_of(self, split: int) -> Float[np.ndarray, "k n"]:
        """The same of one split's models."""
        world, share = self.world[rows_of(self.place, split)], self.groups.weight(split)
        return np.where(world == NOT_USED, 0.0, np.where(world == FORGOTTEN, share[FORGOTTEN], share[NEVER]))

    def pairs(self) -> tuple[Float[np.ndarray, " p"], Bool[np.ndarray, " p"], Float[np.ndarray, " p"], Int[np.ndarray, " p"]]:
        """(score, whether it is of the forgotten world, weight, split) of the pairs that are scored, from the highest score down, as
        all that is done with them begins with that."""
        usable = self.groups.usable
        n = int(np.count_nonzero((self.world != NOT_USED) & usable))
        score, member, weight, cluster = np.empty(n), np.empty(n, bool), np.empty(n), np.empty(n, np.int32)
        ends = [0]
        for s in range(len(self.groups.count)):
            share, end = self.groups.weight(s), ends[-1]
            for row in np.flatnonzero(self.place == s):  # one at a time: whole matrices of this size would be most of the memory
                at = np.flatnonzero((self.world[row] != NOT_USED) & usable)
                code = self.world[row, at]
                start, end = end, end + len(at)
                score[start:end], member[start:end], weight[start:end] = self.score[row, at], code == FORGOTTEN, share[code, at]
            mine = slice(ends[-1], end)
            order = np.argsort(score[mine])
            score[mine], member[mine], weight[mine], cluster[mine] = score[mine][order], member[mine][order], weight[mine][order], s
            ends.append(end)
        score, member, weight, cluster = merged(np.array(ends[1:]), score, member, weight, cluster)
        return score, member, weight, cluster


def cross_fit(phi: Float[np.ndarray, "m n"], world: Int[np.ndarray, "m n"], split: Int[np.ndarray, " m"], *,
              variance: Variance = "auto", form: Form = "online") -> CrossFit:
    """Fit on all splits but one, score that one, for each. Models without any used pair are dropped. variance: see `gaussians`.

    Online the scores are log ratios, offline distances from the never-seen centre, in standard deviations.
    Raises: DataError for arrays that cannot be attacked (see `gaussians.check`), an unknown form, or when no example has two splits in each
    world: both forms score the same examples.
    """
    if form not in get_args(Form):
        raise DataError(f"form must be 'online' or 'offline', got {form!r}")
    check(phi, world, split)
    used = (world != NOT_USED).any(1)
    if not used.all():
        phi, world, split = phi[used], world[used], split[used]
    world, place = world.astype(np.int8, copy=False), np.unique(split, return_inverse=True)[1].astype(np.int64)
    splits = range(int(place.max()) + 1)
    base = np.full(phi.shape[1], np.inf)
    for s in splits:
        rows = rows_of(place, s)
        base = np.minimum(base, np.where(world[rows] == NOT_USED, np.inf, phi[rows]).min(0))
    base = np.where(np.isinf(base), 0.0, base)
    groups = group(phi, world, place, base)
    if not groups.usable.any():
        raise DataError("no example is in two or more splits in both worlds, so none can be fitted without a split and scored: "
                        "more splits or more forget sets are needed")
    known, usable = groups if form == "online" else groups.alone(NEVER), groups.usable
    made = CrossFit(np.zeros(phi.shape), world, place, groups, base)
    for s in splits:
        rows, fit = rows_of(place, s), known.fit(s, variance)
        values = less_base(phi[rows], base)
        score = fit.log_ratio(values) if form == "online" else fit.z(values, NEVER)
        score[:, ~usable] = 0.0
        made.score[rows] = score * (world[rows] != NOT_USED)
    return made


def u_lira(phi: Float[np.ndarray, "m n"], world: Int[np.ndarray, "m n"], split: Int[np.ndarray, " m"], *,
           variance: Variance = "auto", form: Form = "online", seed: int = 0, draws: int = DRAWS) -> ULiraResult:
    """Attack m models at n examples. world: 1 forgotten, 0 never seen, -1 not used; split: models that share training data.
    variance: auto, example or pooled, see `gaussians`; form: see above.

    The same arrays and seed give the same result; the seed moves nothing but the intervals.
    Raises: DataError as `cross_fit`, and offline as `rates.held_out_thresholds`.
    """
    fit = cross_fit(phi, world, split, variance=variance, form=form)
    found = measure(fit, seed=seed, draws=draws)
    return found if form == "online" else _decided(found, fit, seed, draws)


def measure(fit: CrossFit, *, seed: int = 0, draws: int = DRAWS) -> ULiraResult:
    """Everything that is reported of scored pairs."""
    groups, usable = fit.groups, fit.groups.usable
    splits, whole = len(groups.count), fit.groups.fit()
    times = bootstrap.draw_clusters(splits, seed, draws)
    found = rates_over_clusters(*fit.pairs(), times=times, independent=groups.independent(NEVER), widen=FIT_NOISE)
    shift, pulls = _shift(groups, whole)
    return ULiraResult(
        **vars(found), shift=bootstrap.estimate(shift, shift + times @ pulls, splits),
        examples=Examples(n_forgotten=groups.count[:, FORGOTTEN].sum(0), n_never=groups.count[:, NEVER].sum(0),
                          mu_forgotten=whole.mu[FORGOTTEN] + fit.base, sigma_forgotten=_where_seen(whole, FORGOTTEN),
                          mu_never=whole.mu[NEVER] + fit.base, sigma_never=_where_seen(whole, NEVER), balanced_accuracy=_per_example(fit)),
        n_models=len(fit.world), n_splits=splits, n_examples=int(usable.sum()))


def score_target(phi: Float[np.ndarray, " n"], world: Int[np.ndarray, " n"], *,
                 mu_forgotten: Float[np.ndarray, " n"], sigma_forgotten: Float[np.ndarray, " n"],
                 mu_never: Float[np.ndarray, " n"], sigma_never: Float[np.ndarray, " n"],
                 seed: int = 0, draws: int = DRAWS) -> TargetResult:
    """Attack one fresh model with stored Gaussians (`Examples`), none of whose models it is. Examples with world -1, or
    without both Gaussians, are left out.

    Raises: Diverged when phi is not finite; DataError when a stored sigma is not positive or a world has fewer than 2 examples.
    """
    mu, sigma = np.stack([mu_never, mu_forgotten]), np.stack([sigma_never, sigma_forgotten])
    used = np.isin(world, (NEVER, FORGOTTEN)) & np.isfinite(mu + sigma).all(0)
    if bad := int((~np.isfinite(phi[used])).sum()):
        raise Diverged(f"{bad} of {used.sum()} values of phi are not finite, the model diverged")
    if (sigma[:, used] <= 0).any():
        raise DataError("a stored sigma is zero or negative")
    member = world[used] == FORGOTTEN
    forgotten, never = int(member.sum()), int((~member).sum())
    if min(forgotten, never) < 2:
        raise DataError("a target needs 2 or more examples in each world that have stored Gaussians, "
                        f"got {forgotten} forgotten and {never} never seen")
    exact = Gaussians(mu[:, used], sigma[:, used], np.ones((2, len(member))))
    score = exact.log_ratio(phi[None, used].astype(np.float64))[0]
    return TargetResult(**vars(rates_over_examples(score, member, seed=seed, draws=draws)), n_forgotten=forgotten, n_never=never)


def _per_example(fit: CrossFit) -> Float[np.ndarray, " n"]:
    """Balanced accuracy at log ratio 0 of each example, a score of exactly 0 counting half; NaN where not scored."""
    called = np.zeros((2, fit.world.shape[1]))
    for s in range(len(fit.groups.count)):
        rows, share = rows_of(fit.place, s), fit.groups.weight(s)
        score, world = fit.score[rows], fit.world[rows]
        halves = np.add(score > 0, score >= 0, dtype=np.int8)
        for w in (NEVER, FORGOTTEN):
            called[w] += share[w] * (halves * (world == w)).sum(0, dtype=np.int32) / 2
    return np.where(fit.groups.usable, (called[FORGOTTEN] + 1 - called[NEVER]) / 2, np.nan)


def _decided(found: ULiraResult, fit: CrossFit, seed: int, draws: int) -> ULiraResult:
    """The same with balanced accuracies at thresholds from the other half of the splits, where 0 is none."""
    pairs, splits = fit.pairs(), len(fit.groups.count)
    threshold = held_out_thresholds(*pairs, splits)
    score, *others = pairs
    overall = calls_over_clusters(np.where(score >= threshold[others[-1]], 1.0, -1.0), *others, widen=FIT_NOISE,
                                  times=bootstrap.draw_clusters(splits, seed, draws))
    called = replace(fit, score=np.where(fit.score >= threshold[fit.place][:, None], 1.0, -1.0))
    return replace(found, balanced_accuracy=overall, examples=replace(found.examples, balanced_accuracy=_per_example(called)))


def _shift(groups: Groups, whole: Gaussians) -> tuple[float, Float[np.ndarray, " s"]]:
    """Mean of (mu_forgotten - mu_never) / sigma_never, and how much each split pulls it (to first order, summing to 0)."""
    usable: Bool[np.ndarray, " n"] = groups.usable
    mu, sigma = whole.mu[:, usable], whole.sigma[NEVER, usable]
    number = groups.number[:, usable]
    away = np.where(groups.count > 0, groups.mean - whole.mu, 0.0)[:, :, usable] / np.sqrt(number * (number - 1.0))
    return float(((mu[FORGOTTEN] - mu[NEVER]) / sigma).mean()), ((away[:, FORGOTTEN] - away[:, NEVER]) / sigma).mean(1)


def _where_seen(fit: Gaussians, world: int) -> Float[np.ndarray, " n"]:
    return np.where(np.isnan(fit.mu[world]), np.nan, fit.sigma[world])
