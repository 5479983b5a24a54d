"""Two methods held against each other: metrics of single models paired by seed, and those of which there is one estimate, by its interval.

Pure functions over answers of `queries`; the tests are `engine.metrics.ranking`'s. Everything is compared as a loss, the distance to the best
value, which for some metrics is what the retrained model of the same seed has.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from engine.metrics import ranking
from engine.metrics.intervals import interval
from engine.metrics.ranking import Floats
from engine.store.standings import Key

Side = Literal["first", "second"]
Span = tuple[float, float, float]  # low, estimate, high
FLIPS = ranking.FLIPS  # up to so many pairs all sign flips are counted, from there on signed ranks

_RETRAINED: Key = ("retrained", "corrected")


@dataclass(frozen=True)
class Paired:
    """Two methods by one metric, over the seeds that both have.

    first, second: values, one a seed of `seeds`. gains: by how much the first is nearer to the best value, by seed, in units of the metric;
    better, lo, hi: their mean with its 95 % t-interval, NaN ends with one seed. p: of the paired two-sided test against a mean of 0. adjusted: the same
    by Holm for all metrics that were compared together.
    """

    metric: str
    seeds: tuple[int, ...]
    first: tuple[float, ...]
    second: tuple[float, ...]
    gains: tuple[float, ...]
    better: float
    lo: float
    hi: float
    p: float
    adjusted: float

    @property
    def winner(self) -> Side | None:
        """Who is better; None where the test does not tell."""
        return None if self.adjusted > ranking.ALPHA else "first" if self.better > 0 else "second"


def by_seed(runs: Iterable[Mapping[str, Any]], first: Key, second: Key, best: Mapping[str, float | None]) -> list[Paired]:
    """Two methods by each metric of `best` that both have at some seed, paired by seed and split, in its order.

    runs: rows of `queries.seed_runs`. best: the best value of a metric, infinite where more is always better; None: what the retrained model of
    the same seed has, and without one a seed does not count. Seeds that only one side finished are left out, which spares the side that failed.
    """
    values: dict[Key, dict[tuple[int, Any], Mapping[str, Any]]] = {}
    for run in runs:
        values.setdefault((str(run["method"]), str(run["variant"])), {})[int(run["seed"]), run["split"]] = run
    mine, theirs, retrained = (values.get(key, {}) for key in (first, second, _RETRAINED))
    common = sorted((at for at in mine if at in theirs), key=lambda at: (at[0], str(at[1])))
    found: list[Paired] = []
    for metric, aim in best.items():
        columns = [[float(of.get(at, {}).get(metric, np.nan)) for at in common] for of in (mine, theirs, retrained)]
        own, other, model = np.array(columns, np.float64).reshape(3, len(common))
        to = model if aim is None else np.full(len(common), aim)
        apart = _loss(other, to) - _loss(own, to)
        there = np.flatnonzero(np.isfinite(apart))
        if there.size:
            mean, deviation = float(apart[there].mean()), float(apart[there].std(ddof=1)) if there.size > 1 else np.nan
            found.append(Paired(metric, tuple(common[at][0] for at in there), tuple(own[there].tolist()), tuple(other[there].tolist()),
                                tuple(apart[there].tolist()), mean, *interval(mean, deviation, there.size), float(ranking.paired_p(apart[there])), np.nan))
    adjusted = ranking.holm(np.array([one.p for one in found], np.float64))
    return [replace(one, adjusted=float(p)) for one, p in zip(found, adjusted, strict=True)]


def can_tell(found: Iterable[Paired]) -> bool:
    """Whether any difference between the two, however large, could be found by these tests together."""
    pairs = [len(one.seeds) for one in found]
    return bool(pairs) and ranking.can_tell(max(pairs), len(pairs))


def smallest_p(pairs: int) -> float:
    """That a two-sided test of so many pairs can give."""
    return min(1.0, 2.0 ** (1 - pairs))


def apart(first: Span, second: Span, best: float) -> Side | None:
    """Who is better where each side has one estimate with an interval: told only where the intervals, as losses, do not touch. A weaker rule
    than a paired test, since nothing is paired; where an end is not known nothing is told."""
    if not np.isfinite([*first, *second]).all():
        return None
    (low, high), (other_low, other_high) = (_reach(span, best) for span in (first, second))
    return "first" if high < other_low else "second" if other_high < low else None


def _loss(value: Floats, best: Floats) -> Floats:
    return np.where(np.isinf(best), -value, np.abs(value - np.where(np.isinf(best), 0.0, best)))


def _reach(span: Span, best: float) -> tuple[float, float]:
    """Best and worst loss that an interval allows."""
    low, _, high = span
    ends = sorted(_loss(np.array([low, high]), np.full(2, best)).tolist())
    return (0.0 if low < best < high else ends[0]), ends[1]
