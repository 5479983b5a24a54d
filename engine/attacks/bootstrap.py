"""Intervals for what an attack reports, by drawing whole clusters (splits, or examples) with replacement.

What an attack found is first summed into a few hundred bins of score per cluster, cut where the exact curve's rates are evenly
spread in themselves and in their logarithm. A draw is then a weighted sum of clusters, and a thousand take milliseconds. Point
estimates never come from bins, but for balanced accuracy: one bin ends at 0, where it is decided.

Intervals are *expanded* percentile intervals: plain percentiles of few clusters are too narrow, by about sqrt((S - 1) / S) and
the difference between Student's t and the normal; both are put back by reading percentiles further out.
Source: Hesterberg, "What Teachers Should Know About the Bootstrap", The American Statistician 2015, arXiv:1411.5279.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from scipy import stats

from engine.metrics import intervals
from engine.metrics.roc import FALSE_POSITIVES_NEEDED, Roc, smallest_fpr

DRAWS = 1000
COVERAGE = 0.95
_EDGES = 250  # of each of the three spacings


@dataclass(frozen=True)
class Estimate:
    """A value and the ends of its 95 % interval."""

    value: float
    lo: float
    hi: float


@dataclass(frozen=True)
class Binned:
    """Weight of members and non-members by cluster and bin, from the highest scores down; bin `tie` holds score 0 alone."""

    member: Float[np.ndarray, "s b"]
    non_member: Float[np.ndarray, "s b"]
    tie: int

    @property
    def balanced_accuracy(self) -> float:
        """Of "member above 0", a score of exactly 0 counting half: exact, as no bin reaches over 0."""
        said = []
        for total in (self.member.sum(0), self.non_member.sum(0)):
            above, tie, under = total[:self.tie].sum(), total[self.tie], total[self.tie + 1:].sum()
            said.append((above + tie / 2) / (above + tie + under))
        return float(said[0] + 1 - said[1]) / 2


@dataclass(frozen=True)
class Draws:
    """What each of d draws gives. NaN in a draw that holds no members or no non-members."""

    balanced_accuracy: Float[np.ndarray, " d"]
    auc: Float[np.ndarray, " d"]
    tpr_at_fpr: dict[float, Float[np.ndarray, " d"]]

    def widened(self, by: float) -> "Draws":
        """The same draws with their distances from their mean multiplied, kept within [0, 1]."""
        def wide(draws: Float[np.ndarray, " d"]) -> Float[np.ndarray, " d"]:
            centre = np.nanmean(draws)
            return np.clip(centre + by * (draws - centre), 0, 1)

        return Draws(wide(self.balanced_accuracy), wide(self.auc), {q: wide(tpr) for q, tpr in self.tpr_at_fpr.items()})


def edges(curve: Roc, smallest: float) -> Float[np.ndarray, " e"]:
    """Where to cut scores, ascending: at evenly spread true- and false-positive rates, at false-positive rates evenly spread in
    their logarithm from `smallest` up, and on both sides of 0."""
    even = np.linspace(0, 1, _EDGES)
    false = np.concatenate([even, np.geomspace(smallest, 1, _EDGES)])
    at = np.concatenate([np.searchsorted(curve.fpr, false), np.searchsorted(curve.tpr, even)])
    cut = curve.threshold[np.minimum(at, len(curve.threshold) - 1)]
    return np.unique(np.concatenate([cut[np.isfinite(cut)], [0.0, np.nextafter(0.0, 1.0)]]))


def binned(cut: Float[np.ndarray, " e"], below: Float[np.ndarray, "2 s e+1"]) -> Binned:
    """From the weight below each of the ascending edges `cut`, which must hold 0, and of all (`roc.weight_below`)."""
    member, non_member = np.diff(below, axis=-1, prepend=0.0)[..., ::-1]
    return Binned(member, non_member, len(cut) - int(np.searchsorted(cut, 0.0, side="right")))


def draw_clusters(clusters: int, seed: int, draws: int = DRAWS) -> Int[np.ndarray, "d s"]:
    """How often each cluster is in each draw; every row sums to `clusters`."""
    return np.random.default_rng(seed).multinomial(clusters, np.full(clusters, 1 / clusters), draws)


def resampled(table: Binned, times: Int[np.ndarray, "d s"], fprs: list[float]) -> Draws:
    """What draws of whole clusters give, cluster s taken times[d, s] times."""
    return _measure(times @ table.member, times @ table.non_member, table.tie, fprs)


def resampled_examples(table: Binned, seed: int, fprs: list[float], draws: int = DRAWS) -> Draws:
    """What draws of single examples give, each weighing 1: a draw of n examples is one multinomial draw of bins."""
    cells = np.concatenate([table.member.sum(0), table.non_member.sum(0)])
    examples = round(cells.sum())
    drawn = np.random.default_rng(seed).multinomial(examples, cells / cells.sum(), draws).astype(np.float64)
    member, non_member = np.hsplit(drawn, 2)
    return _measure(member, non_member, table.tie, fprs)


def interval(draws: Float[np.ndarray, " d"], clusters: int) -> tuple[float, float]:
    """Ends of the 95 % interval (NaN if no draw has a value); `clusters` is how many independent units were drawn from."""
    have = draws[~np.isnan(draws)]
    if not have.size:
        return float("nan"), float("nan")
    reach = stats.t.ppf((1 + COVERAGE) / 2, clusters - 1) * np.sqrt(clusters / (clusters - 1))
    lo, hi = np.quantile(have, stats.norm.cdf([-reach, reach]))
    return float(lo), float(hi)


def estimate(value: float, draws: Float[np.ndarray, " d"], clusters: int) -> Estimate:
    """The exact value with the interval of its draws."""
    return Estimate(value, *interval(draws, clusters))


def jackknife(value: float, without: Float[np.ndarray, " s"], widen: float = 1.0) -> Estimate:
    """With Student's t-interval over what `value` is without each of the independent units; NaN ends with fewer than two of these.
    widen: factor on its width."""
    units = len(without)
    return Estimate(value, *intervals.interval(value, widen * float(((units - 1) * without).std(ddof=1)), units))


def resolution(table: Binned, independent: float) -> float:
    """Smallest false-positive rate that can be told: from there up to 1, each rate q has 10 / q effective non-members.

    Effective: `independent`, what the caller holds to be independent at the most; but where the rate varies between clusters by
    more than chance allows (99 % level), because values move together inside one, only as many independent ones as would vary
    that much, q (1 - q) / variance. 1 when nothing can be told.
    """
    weight, above = table.non_member.sum(1), np.cumsum(table.non_member, 1)
    q = above.sum(0) / weight.sum()
    clusters = len(weight)
    variance = clusters / (clusters - 1) * ((above - q * weight[:, None]) ** 2).sum(0) / weight.sum() ** 2
    variance *= (clusters - 1) / stats.chi2.ppf(0.99, clusters - 1)
    smallest = min(smallest_fpr(independent), 1.0)
    short = (q >= smallest) & (q < 1) & (q * q * (1 - q) < FALSE_POSITIVES_NEEDED * variance)
    if short.any():
        smallest = float(q[q > q[short].max()].min())
    return smallest


def _measure(member: Float[np.ndarray, "d b"], non_member: Float[np.ndarray, "d b"], tie: int, fprs: list[float]) -> Draws:
    with np.errstate(invalid="ignore"):  # 0 / 0 in a draw with only one kind: NaN, which `interval` leaves out
        member, non_member = (side / side.sum(1, keepdims=True) for side in (member, non_member))
    found, alarms = np.cumsum(member, 1), np.cumsum(non_member, 1)
    called = [above[:, tie] - side[:, tie] / 2 for side, above in ((member, found), (non_member, alarms))]  # score > 0, ties half
    area = (non_member * (found - member / 2)).sum(1)
    tpr = {q: np.array([np.interp(q, f, t) for f, t in zip(alarms, found, strict=True)]) for q in fprs}
    return Draws((called[0] + 1 - called[1]) / 2, area, tpr)
