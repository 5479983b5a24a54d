"""KLoM, the KL divergence of margins: how far are the outputs of unlearned models from those of retrained ones, example by example?

    margin              phi = z_y - logsumexp of the other logits (`scores.phi`), clipped to [-100, 100]
    KLoM                sum over bins of p log(p / q),  p of unlearned models, q of retrained ones                nats, 0 = the same
    bins                20 even ones from the smallest to the largest value of both; q at least 1e-5 where p > 0, then made to sum to 1
    Gaussian            log(s_q / s_p) + (s_p^2 + (mu_p - mu_q)^2) / (2 s_q^2) - 1/2, from sample means and variances

Median, mean, 95th and 99th percentile over examples; run once each on forget, retain and unseen (`val`) examples. Large says "not like
retraining", not in which direction. A bin that q has missed adds p log(p / 1e-5), so the histogram never ends far above 11.5.

Noise floor: with few models two histograms of the same distribution are far apart. Two samples of one Gaussian have a mean KLoM of
3.9 with 16 models a side, 1.7 with 32, 0.35 with 100 and 0.02 with 1000; by the Gaussian formula 0.15, 0.07, 0.02 and 0.002. So retrained
models are also compared with themselves, one half of the splits against the other as if that half were unlearned (`floor`), beside
unlearned models against the retrained ones of the other half (`halved`): as many models, hence the same noise. What unlearning did is
the difference of these two; `full`, from all models, is what others publish.

Intervals: Student's t over delete-one-split jackknife values, bins as they are. Simulated, they hold 90 to 100 % of the time
from 16 splits up; with 8, those of the histogram's median and percentiles, which then take few values, 65 to 86 %.

Source: Georgiev, Rinberg et al., "Attribute-to-Delete: Machine Unlearning via Datamodel Matching", ICLR 2025, arXiv:2410.23232; Rinberg et
al., "Easy Data Unlearning Bench", 2026, arXiv:2602.16400, whose released code has these bins and bounds. Differs: the largest value is in
the last bin (the code drops it); floor, Gaussian and intervals are ours.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float, Int, Shaped
from scipy.special import rel_entr

from engine.attacks.bootstrap import Estimate, jackknife
from engine.attacks.gaussians import FLOOR_NATS
from engine.attacks.info import AttackInfo
from engine.attacks.rates import Metric, count, metric
from engine.errors import DataError, Diverged

INFO = AttackInfo(
    name="klom",
    label="KLoM",
    doc="Per example: KL divergence of the margins of unlearned models from those of retrained ones. 0 is best; read it beside its floor.",
    paper="arXiv:2410.23232",
    version=1,
)

BINS = 20
CLIP = 100.0
LEAST = 1e-5
FEWEST_HALF = 2  # values of an example in each half of the splits
_BLOCK = 1024  # examples at a time

Of = Literal["forget", "retain", "val"]


@dataclass(frozen=True)
class Summary:
    """Over examples, in nats. The ends of intervals are NaN where there is none."""

    median: Estimate
    mean: Estimate
    p95: Estimate
    p99: Estimate


@dataclass(frozen=True)
class Divergence:
    """full: all models, with intervals over splits. halved: unlearned models of one half of the splits against retrained ones of the
    other half, mean of both ways. floor: the same with retrained models in place of the unlearned ones. examples: `full` per example,
    NaN where it has too few models."""

    full: Summary
    halved: Summary
    floor: Summary
    examples: Float[np.ndarray, " n"]


@dataclass(frozen=True)
class Klom:
    """n_values: median number of models a side that an example has."""

    of: Of
    histogram: Divergence
    gaussian: Divergence
    n_models: int
    n_splits: int
    n_examples: int
    n_values: float

    def metrics(self) -> list[Metric]:
        """Rows as the store keeps them: klom_forget_p95, klom_forget_floor_p95, klom_gaussian_forget_p95 and so on."""
        return [*_rows(f"klom_{self.of}", self.histogram), *_rows(f"klom_gaussian_{self.of}", self.gaussian),
                *(count(f"klom_{self.of}_{name}", getattr(self, name)) for name in ("n_models", "n_splits", "n_examples", "n_values"))]


@dataclass(frozen=True)
class Side:
    """Values of models on one side of a comparison, which of them are there, and the split of each model, numbered from 0."""

    phi: Float[np.ndarray, "g n"]
    there: Bool[np.ndarray, "g n"]
    place: Int[np.ndarray, " g"]

    def only(self, rows: Bool[np.ndarray, " g"]) -> "Side":
        return Side(self.phi[rows], self.there[rows], self.place[rows])


def klom(phi_unlearned: Float[np.ndarray, "m n"], phi_retrained: Float[np.ndarray, "m n"], used: Bool[np.ndarray, "m n"],
         split: Int[np.ndarray, " m"], *, of: Of = "forget", seed: int = 0) -> Klom:
    """KLoM of m pairs of models at n examples. used: the example is in that pair's forget set, or retain set, or is unseen, as `of` says;
    split: models that share training data. `seed` draws the halves, which move neither `full` nor its intervals.

    Raises: DataError for arrays that do not fit together or when no example has enough models; Diverged when phi is not finite.
    """
    place = _place(phi_unlearned, phi_retrained, used, split)
    splits = int(place.max()) + 1
    first = (np.random.default_rng(seed).permutation(splits) < splits // 2)[place]
    columns = np.flatnonzero(np.minimum(used[first].sum(0), used[~first].sum(0)) >= FEWEST_HALF)
    if not columns.size:
        raise DataError(f"KLoM needs examples with {FEWEST_HALF} or more models a side in each half of the splits, got none: more splits are needed")
    blocks = []
    for block in np.array_split(columns, -(-columns.size // _BLOCK)):
        unlearned, retrained = (Side(np.clip(phi[:, block].astype(np.float64), -CLIP, CLIP), used[:, block], place)
                                for phi in (phi_unlearned, phi_retrained))
        blocks.append([_compare(unlearned, retrained, first, *how) for how in ((bin_counts, kl_of_bins), (moments, kl_of_moments))])
    histogram, gaussian = (_divergence([np.concatenate(parts, -1) for parts in zip(*of_one, strict=True)], columns, used.shape[1])
                           for of_one in zip(*blocks, strict=True))
    return Klom(of, histogram, gaussian, n_models=2 * int(used.any(1).sum()), n_splits=splits, n_examples=columns.size,
                n_values=float(np.median(used[:, columns].sum(0))))


def bin_counts(p: Side, q: Side) -> list[Shaped[np.ndarray, "s n b"]]:
    """How many values of p and of q there are by split, example and bin; the bins are those of both together."""
    low, high = (end(np.concatenate([np.where(side.there, side.phi, none) for side in (p, q)]), axis=0)
                 for end, none in ((np.min, np.inf), (np.max, -np.inf)))
    width = np.where(high > low, high - low, 1.0)
    shape = (_splits(p, q), len(low), BINS)
    counts = []
    for side in (p, q):
        model, example = np.nonzero(side.there)
        which = np.minimum((side.phi[model, example] - low[example]) / width[example] * BINS, BINS - 1).astype(np.int64)
        cell = np.ravel_multi_index((side.place[model], example, which), shape)
        counts.append(np.bincount(cell, minlength=int(np.prod(shape))).reshape(shape))
    return counts


def kl_of_bins(p: Shaped[np.ndarray, "n b"], q: Shaped[np.ndarray, "n b"]) -> Float[np.ndarray, " n"]:
    """KL divergence of p from q, given how many values are in each bin."""
    p, q = (counts / counts.sum(-1, keepdims=True) for counts in (p, q))
    q = np.where(p > 0, np.maximum(q, LEAST), q)
    return rel_entr(p, q / q.sum(-1, keepdims=True)).sum(-1)


def moments(p: Side, q: Side) -> list[Float[np.ndarray, "s n 3"]]:
    """By split and example: how many values of p and of q there are, their sum and their sum of squares, all less the mean of q."""
    centre = np.where(q.there, q.phi, 0.0).sum(0) / q.there.sum(0)
    sums = []
    for side in (p, q):
        away = np.where(side.there, side.phi - centre, 0.0)
        each = (side.there, away, away**2)
        sums.append(np.stack([np.stack([x[side.place == s].sum(0) for x in each], -1) for s in range(_splits(p, q))]))
    return sums


def kl_of_moments(p: Float[np.ndarray, "n 3"], q: Float[np.ndarray, "n 3"]) -> Float[np.ndarray, " n"]:
    """KL divergence of one Gaussian from the other, given the sums of `moments`. Deviations are at least 1e-3 nats."""
    (mu_p, var_p), (mu_q, var_q) = (_mean_and_variance(sums) for sums in (p, q))
    return (np.log(var_q / var_p) + (var_p + (mu_p - mu_q) ** 2) / var_q - 1) / 2


def _mean_and_variance(sums: Float[np.ndarray, "n 3"]) -> tuple[Float[np.ndarray, " n"], Float[np.ndarray, " n"]]:
    n, total, squares = np.moveaxis(sums, -1, 0)
    return total / n, np.maximum((squares - total**2 / n) / (n - 1), FLOOR_NATS**2)


def _splits(p: Side, q: Side) -> int:
    return int(max(p.place.max(), q.place.max())) + 1


def _compare(unlearned: Side, retrained: Side, first: Bool[np.ndarray, " g"], sums: Callable[[Side, Side], list[np.ndarray]],
             kl: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> tuple[Float[np.ndarray, "1 n"], Float[np.ndarray, "s n"],
                                                                        Float[np.ndarray, "1 n"], Float[np.ndarray, "1 n"]]:
    """Divergence of each example: from all models, without each split, of unlearned and of retrained models from the other half."""
    p, q = sums(unlearned, retrained)
    all_p, all_q = p.sum(0), q.sum(0)
    without = np.stack([kl(all_p - p[s], all_q - q[s]) for s in range(len(p))])
    halved, floor = (np.mean([kl(*(part.sum(0) for part in sums(side.only(half), retrained.only(~half)))) for half in (first, ~first)],
                             axis=0, keepdims=True) for side in (unlearned, retrained))
    return kl(all_p, all_q)[None], without, halved, floor


def _divergence(parts: list[np.ndarray], columns: Int[np.ndarray, " k"], n: int) -> Divergence:
    full, without, halved, floor = parts
    examples = np.full(n, np.nan)
    examples[columns] = full[0]
    return Divergence(_summary(full, without), _summary(halved), _summary(floor), examples)


def _summary(values: Float[np.ndarray, "1 n"], without: Float[np.ndarray, "s n"] | None = None) -> Summary:
    """`without`: the same without each split, for intervals."""
    def estimate(of: Callable[[np.ndarray], np.ndarray]) -> Estimate:
        value = float(of(values)[0])
        if without is None:
            return Estimate(value, float("nan"), float("nan"))
        return jackknife(value, of(without))

    return Summary(estimate(lambda kl: np.median(kl, 1)), estimate(lambda kl: kl.mean(1)),
                   estimate(lambda kl: np.percentile(kl, 95, axis=1)), estimate(lambda kl: np.percentile(kl, 99, axis=1)))


def _rows(name: str, found: Divergence) -> list[Metric]:
    return [*(metric(f"{name}_{what}", value) for what, value in vars(found.full).items()),
            *(count(f"{name}_{part}_{what}", value.value) for part, summary in (("halved", found.halved), ("floor", found.floor))
              for what, value in vars(summary).items())]


def _place(phi_unlearned: np.ndarray, phi_retrained: np.ndarray, used: np.ndarray, split: np.ndarray) -> np.ndarray:
    """Number of each model's split, from 0, among those that are used. Raises: DataError, Diverged."""
    if phi_unlearned.ndim != 2 or not phi_unlearned.shape == phi_retrained.shape == used.shape or split.shape != used.shape[:1]:
        raise DataError("phi of unlearned and of retrained models and `used` must all be [models, examples] with the same rows, and split "
                        f"[models]: got {phi_unlearned.shape}, {phi_retrained.shape}, {used.shape} and {split.shape}")
    if not used.any():
        raise DataError("no example is used in any row: `used` must mark the examples that each row is to be compared on")
    if bad := sum(int((used & ~np.isfinite(phi)).sum()) for phi in (phi_unlearned, phi_retrained)):
        raise Diverged(f"KLoM: {bad} of {2 * used.sum()} values of phi are not finite, a model diverged")
    known = np.unique(split[used.any(1)])
    return np.minimum(np.searchsorted(known, split), len(known) - 1)  # rows that are not used may have any
