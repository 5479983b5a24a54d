"""Who is most exposed, and is it more than chance? The worst examples, chosen on one half of the splits and reported on the other.

    fit         two Gaussians an example, to one half of the splits (every second one)
    separation  of an example = -log of the overlap of its two Gaussians (Bhattacharyya): centres apart count, and spreads that differ
    chosen      the 1, 5 and 10 % of examples with the largest separation
    reported    their balanced accuracy on the models of the other half, scored by the same fit; then with the halves swapped, both together

1/2 = the worst only look exposed. Chosen and reported on the same data, noise alone looks exposed: of 10,000 examples that leak
nothing some are told right in all their models. Such a number (`same_data`) stands beside the honest one, and all of it can be had
for retrained models, which leak nothing.

Why not the scores of `u_lira`, cross-fitted by split: those of one half come from fits to both halves. An example whose halves agree
by chance then scores well in both, and choosing it for that is no independent choice; choosing it by one half's Gaussians instead is,
but leaving out a split moves its own centre alone, most where centres lie far apart, and the chosen come out below 1/2 (0.476 with 16
splits and no leak). Here the reported half has a part neither in the choice nor in the fit, so without a leak 1/2 is expected exactly.

Intervals draw whole splits, the choice as it is, and are widened as in `u_lira`: a split also moves the fit that reads the other
half, and the choice. Simulated, they hold 90 to 100 % of the time from six splits up; unwidened, 82 to 98 %. `noise`: the quantiles
over examples that values with nothing to tell would give, normal ones with the same worlds, splits and share of the variance between
splits, put through the same fits. What lies beyond it is no chance.

Source: the worst-case slices (top 1, 5, 10 %) of Grimes et al., "Gone but Not Forgotten: Improved Benchmarks for Machine
Unlearning", DLSP at IEEE S&P 2024, arXiv:2405.19211; the spread over examples of Hayes et al., SaTML 2025, arXiv:2403.01218.
Differs: chosen and reported on different models.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from engine.attacks import bootstrap
from engine.attacks.bootstrap import DRAWS, Binned, Estimate
from engine.attacks.gaussians import FORGOTTEN, NEVER, NOT_USED, Gaussians, Groups, check, group
from engine.attacks.info import AttackInfo
from engine.attacks.rates import Metric, count, metric
from engine.attacks.u_lira import FIT_NOISE
from engine.errors import DataError

INFO = AttackInfo(
    name="exposure",
    label="Most exposed",
    doc="Balanced accuracy on the worst 1, 5 and 10 % of examples, chosen on one half of the splits and reported on the other. 1/2 is best.",
    paper="arXiv:2405.19211",
    version=1,
)

SHARES = (0.01, 0.05, 0.1)
FEWEST_EXAMPLES = 10  # that a share must hold to be reported
FEWEST_SPLITS = 4
LISTED = 100  # of the most exposed, from each half
MOST_CLASSES = 100  # with more, each has few examples, and the list says what noise does
LEVELS = (0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99)
NOISE_EXAMPLES = 2000  # that noise is drawn for: its quantiles need no more


@dataclass(frozen=True)
class Halves:
    """Every used value, scored by Gaussians fitted to the half of the splits that it is not in."""

    called: Float[np.ndarray, "s 2 n"]  # share of a group's values that are called forgotten, a score of exactly 0 counting half
    number: Int[np.ndarray, "2 2 n"]  # groups by half, world and example
    present: Bool[np.ndarray, "s 2 n"]  # groups that are scored: of examples that are in both worlds in both halves
    separation: Float[np.ndarray, "2 n"]  # by the fit to half h; -inf where not scored
    between: float  # share of the variance that lies between splits
    world: Int[np.ndarray, "m n"]
    place: Int[np.ndarray, " m"]  # the split of each model, numbered from 0; half h is every second from h

    @property
    def scored(self) -> Bool[np.ndarray, " n"]:
        return np.all(self.number > 0, axis=(0, 1))


@dataclass(frozen=True)
class Worst:
    """Balanced accuracy of a share of the examples."""

    n_examples: int  # chosen on each half
    reported: Estimate
    same_data: float  # of those that are worst over all splits, over all splits
    overlap: float  # part of one half's choice that the other half made as well; the share itself by chance


@dataclass(frozen=True)
class Listed:
    """The most exposed examples, from the top, in row h as chosen on half h. `chosen` is their balanced accuracy on that half, flattered
    where there is a leak, `reported` on the other half, honest. An example in both rows was chosen twice."""

    example: Int[np.ndarray, "2 k"]
    separation: Float[np.ndarray, "2 k"]
    chosen: Float[np.ndarray, "2 k"]
    reported: Float[np.ndarray, "2 k"]


@dataclass(frozen=True)
class Classes:
    """By class, over all splits; classes without a scored example are left out. The worst of many classes is worst by chance as well:
    each has its interval, and none is chosen."""

    label: Int[np.ndarray, " c"]
    n_examples: Int[np.ndarray, " c"]
    balanced_accuracy: list[Estimate]


@dataclass(frozen=True)
class Exposure:
    """Of one set of models: fractions, larger = more exposed, 1/2 = not at all."""

    worst: dict[float, Worst]  # by share; those that hold enough examples
    most_exposed: Listed
    balanced_accuracy: Float[np.ndarray, " n"]  # of each example; NaN where not scored
    quantile: Float[np.ndarray, " q"]  # of balanced accuracy over examples, at LEVELS
    noise: Float[np.ndarray, " q"]
    classes: Classes | None  # without labels, and of more than MOST_CLASSES, none
    n_splits: int
    n_examples: int


@dataclass(frozen=True)
class ExposureResult:
    unlearned: Exposure
    retrained: Exposure | None

    def metrics(self) -> list[Metric]:
        """Rows as the store keeps them, those of retrained models last. Shares with too few examples have none."""
        return [*_metrics("", self.unlearned), *(_metrics("retrained_", self.retrained) if self.retrained else [])]


def fit_halves(phi: Float[np.ndarray, "m n"], world: Int[np.ndarray, "m n"], split: Int[np.ndarray, " m"]) -> Halves:
    """Fit on each half, score the other. world: 1 forgotten, 0 never seen, -1 not used; split: models that share training data.

    Raises: DataError for arrays that cannot be attacked (see `gaussians.check`), with fewer than four splits, or when no example is in
    both worlds in both halves.
    """
    check(phi, world, split)
    rows = (world != NOT_USED).any(1)
    phi, world, place = phi[rows], world[rows].astype(np.int8), np.unique(split[rows], return_inverse=True)[1].astype(np.int64)
    if (splits := int(place.max()) + 1) < FEWEST_SPLITS:
        raise DataError(f"choosing on one half of the splits and reporting on the other needs {FEWEST_SPLITS} or more splits, got {splits}")
    lowest = np.where(world == NOT_USED, np.inf, phi).min(0)  # less it, equal values stay exactly equal in sums and means
    phi = np.where(world == NOT_USED, 0.0, phi - np.where(np.isinf(lowest), 0.0, lowest))
    groups = group(phi, world, place)
    number = np.stack([(groups.count[h::2] > 0).sum(0) for h in (0, 1)])
    scored = (number > 0).all((0, 1))
    if not scored.any():
        raise DataError("no example is in both worlds in both halves of the splits, so none can be chosen on one half and reported on the "
                        "other: more splits are needed")
    fits = [Groups(groups.count[h::2], groups.mean[h::2], groups.inside[h::2], number[h]).fit() for h in (0, 1)]
    called = np.zeros(groups.count.shape)
    for s in range(splits):
        values, code = phi[place == s], world[place == s]
        score = np.where(scored, fits[1 - s % 2].log_ratio(values), 0.0)
        said = (score > 0) + (score == 0) / 2
        for w in (NEVER, FORGOTTEN):
            called[s, w] = np.where(code == w, said, 0.0).sum(0) / np.maximum(groups.count[s, w], 1)
    separation = np.stack([np.where(scored, _separation(fit), -np.inf) for fit in fits])
    return Halves(called, number, (groups.count > 0) & scored, separation, _between(groups), world, place)


def exposure(unlearned: Halves, retrained: Halves | None = None, *, labels: Int[np.ndarray, " n"] | None = None,
             seed: int = 0, draws: int = DRAWS) -> ExposureResult:
    """Who is most exposed in unlearned models, and the same of retrained ones in their place.

    labels: class of each example, for a comparison by class. The seed moves the intervals and the drawn noise, nothing else.
    Raises: DataError when labels are not one an example.
    """
    return ExposureResult(_exposure(unlearned, labels, seed, draws), None if retrained is None else _exposure(retrained, labels, seed, draws))


def _exposure(halves: Halves, labels: Int[np.ndarray, " n"] | None, seed: int, draws: int) -> Exposure:
    splits, _, n = halves.called.shape
    if labels is not None and labels.shape != (n,):
        raise DataError(f"labels must have one entry an example, got {labels.shape} for {n} examples")
    scored = halves.scored
    order = np.argsort(-halves.separation, axis=1, kind="stable")[:, :scored.sum()]
    overall, *by_half = (_per_example(halves, of) for of in (slice(None), slice(0, None, 2), slice(1, None, 2)))
    times = bootstrap.draw_clusters(splits, seed, draws)
    worst = {}
    for share in SHARES:
        if (k := round(share * order.shape[1])) >= FEWEST_EXAMPLES:
            chosen = np.zeros((2, n), dtype=bool)
            np.put_along_axis(chosen, order[:, :k], True, axis=1)
            worst[share] = Worst(k, _estimate(halves, chosen[::-1], times), float(np.sort(overall[scored])[-k:].mean()), float(chosen.all(0).sum() / k))
    top = order[:, :LISTED]
    listed = Listed(top, *(np.take_along_axis(v, top, axis=1) for v in (halves.separation, np.stack(by_half), np.stack(by_half[::-1]))))
    return Exposure(worst, listed, overall, np.quantile(overall[scored], LEVELS), _noise(halves, seed),
                    None if labels is None else _classes(halves, labels, times), splits, order.shape[1])


def _separation(fit: Gaussians) -> Float[np.ndarray, " n"]:
    """d^2 / (4 (v1 + v2)) + log((v1 + v2) / (2 sqrt(v1 v2))) / 2: centres d apart, variances v1 and v2 of a value as it is expected."""
    never, forgotten = fit.sigma**2 * fit.blur
    apart = (fit.mu[FORGOTTEN] - fit.mu[NEVER]) ** 2
    return apart / (4 * (never + forgotten)) + np.log((never + forgotten) / (2 * np.sqrt(never * forgotten))) / 2


def _between(groups: Groups) -> float:
    """Share of the variance that lies between splits, by the groups of two and more values; 1 where there are none, and it means nothing."""
    several = groups.count >= 2
    n = np.where(several, groups.count, 2)
    spare = np.maximum(several.sum(0) - 1, 0)
    if not spare.any():
        return 1.0
    centre = np.where(several, groups.mean, 0.0).sum(0) / np.maximum(several.sum(0), 1)
    within = np.where(several, groups.inside * n / (n - 1), 0.0).sum() / several.sum()
    means = (np.where(several, groups.mean - centre, 0.0) ** 2).sum() / spare.sum()
    between = max(means - within * np.where(several, 1 / n, 0.0).sum() / several.sum(), 0.0)
    return float(between / (between + within)) if between + within > 0 else 1.0


def _per_example(halves: Halves, of: slice) -> Float[np.ndarray, " n"]:
    """Balanced accuracy over these splits, groups counting evenly; NaN where not scored."""
    with np.errstate(invalid="ignore"):  # 0 / 0
        rate = np.where(halves.present[of], halves.called[of], 0.0).sum(0) / halves.present[of].sum(0)
    return (rate[FORGOTTEN] + 1 - rate[NEVER]) / 2


def _estimate(halves: Halves, chosen: Bool[np.ndarray, "2 n"], times: Int[np.ndarray, "d s"]) -> Estimate:
    """Balanced accuracy of the examples chosen in each half, where an example weighs 1 in each world, its groups evenly."""
    splits = len(halves.called)
    sums = np.zeros((splits, 2, 2))  # split, world: weight that is called forgotten, and all
    for h in (0, 1):
        weight = halves.present[h::2][:, :, chosen[h]] / np.maximum(halves.number[h][:, chosen[h]], 1)
        sums[h::2] = np.stack([(weight * halves.called[h::2][:, :, chosen[h]]).sum(2), weight.sum(2)], 2)
    rate = sums[:, :, 0].sum(0) / sums[:, :, 1].sum(0)
    table = np.stack([sums[:, :, 0], np.zeros((splits, 2)), sums[:, :, 1] - sums[:, :, 0]], 2)  # no bin of ties: they count half already
    drawn = bootstrap.resampled(Binned(table[:, FORGOTTEN], table[:, NEVER], 1), times, []).widened(FIT_NOISE)
    return bootstrap.estimate(float(rate[FORGOTTEN] + 1 - rate[NEVER]) / 2, drawn.balanced_accuracy, splits)


def _classes(halves: Halves, labels: Int[np.ndarray, " n"], times: Int[np.ndarray, "d s"]) -> Classes | None:
    label, size = np.unique(labels[halves.scored], return_counts=True)
    if len(label) > MOST_CLASSES:
        return None
    return Classes(label, size, [_estimate(halves, np.tile(halves.scored & (labels == c), (2, 1)), times) for c in label])


def _noise(halves: Halves, seed: int) -> Float[np.ndarray, " q"]:
    """Quantiles over examples if nothing leaked."""
    scored = np.flatnonzero(halves.scored)
    some = scored[np.linspace(0, len(scored) - 1, min(len(scored), NOISE_EXAMPLES)).astype(int)]
    rng = np.random.default_rng(seed)
    common = rng.standard_normal((len(halves.called), len(some)))[halves.place]
    phi = np.sqrt(halves.between) * common + np.sqrt(1 - halves.between) * rng.standard_normal(common.shape)
    return np.quantile(_per_example(fit_halves(phi, halves.world[:, some], halves.place), slice(None)), LEVELS)


def _metrics(prefix: str, of: Exposure) -> list[Metric]:
    worst = [row for share, w in of.worst.items() for row in (
        metric(f"{prefix}worst_{share:g}", w.reported), count(f"{prefix}worst_{share:g}_same_data", w.same_data),
        count(f"{prefix}worst_{share:g}_overlap", w.overlap), count(f"{prefix}worst_{share:g}_n_examples", w.n_examples))]
    spread = [count(f"{prefix}{name}_quantile_{level:g}", value) for name, values in (("example", of.quantile), ("noise", of.noise))
              for level, value in zip(LEVELS, values, strict=True)]
    classes = [] if of.classes is None else [
        row for label, size, found in zip(of.classes.label.tolist(), of.classes.n_examples.tolist(), of.classes.balanced_accuracy, strict=True)
        for row in (metric(f"{prefix}class_{label}", found), count(f"{prefix}class_{label}_n_examples", size))]
    return [*worst, *classes, *spread, count(f"{prefix}n_splits", of.n_splits), count(f"{prefix}n_examples", of.n_examples)]
