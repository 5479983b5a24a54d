"""Across cells: average ranks, what all cells agree on, and the score that weights give. Pure functions over `standings.Cell`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from engine.metrics import ranking
from engine.metrics.ranking import Floats
from engine.store.standings import JUDGED, Cell, Entry, Key, Table, as_loss, loss_span

GOALS = {"privacy": ("balanced_accuracy", "indiscernibility"), "accuracy": ("retention_deviation",), "speed": ("rte",)}  # the first that a cell has


@dataclass(frozen=True)
class Overall:
    """One method over the cells. ranks: per goal its average shared rank among those that are in every cell, NaN where it is not one of them
    or no cell has the goal. within: in how many of its `cells` it is G1 in both JUDGED metrics. slower: in how many it was not shown to
    be faster than retraining. consistent: see `ranking.consistently_good`."""

    method: str
    variant: str
    ranks: Mapping[str, float]
    within: int
    cells: int
    slower: int
    consistent: bool

    @property
    def key(self) -> Key:
        return self.method, self.variant


@dataclass(frozen=True)
class Comparison:
    """Friedman and Nemenyi on one metric. keys: in the order of `across.average`. across: None where `reason` says why not.
    cells: how many have the metric for all of the keys."""

    metric: str
    keys: tuple[Key, ...]
    cells: int
    across: ranking.Across | None
    reason: str

    @property
    def cliques(self) -> list[tuple[int, int]]:
        """First and last, in order of average rank, of those that cannot be told apart."""
        return [] if self.across is None else ranking.cliques(self.across.average, self.across.critical)


def common(cells: Sequence[Cell]) -> list[Key]:
    """Entries that are in every cell: only their ranks can be averaged."""
    return [key for key in cells[0].keys if all(key in found.keys for found in cells)] if cells else []


def goal_metric(found: Cell, goal: str, keys: Sequence[Key]) -> str | None:
    """By which metric a cell judges a goal; None where it has none for all of these."""
    return next((metric for metric in GOALS[goal] if found.has(metric, keys)), None)


def overall(cells: Sequence[Cell]) -> list[Overall]:
    """All entries of all cells; average ranks only for those that are in every cell."""
    shared = common(cells)
    by_goal: dict[str, list[Mapping[Key, float]]] = {goal: [] for goal in GOALS}
    for found in cells:
        for goal in GOALS:
            if metric := goal_metric(found, goal, shared):
                by_goal[goal].append({entry.key: entry.rank for entry in found.table(metric, shared).entries})
    judged = [{metric: found.table(metric) for metric in JUDGED} for found in cells]
    made: list[Overall] = []
    for key in sorted({key for found in cells for key in found.keys}):
        ranks = {goal: float(np.mean([r[key] for r in by_goal[goal]])) if key in shared and by_goal[goal] else np.nan for goal in GOALS}
        places = [at for at, found in enumerate(cells) if key in found.keys]
        groups = [(_group(judged[at][JUDGED[0]], key), _group(judged[at][JUDGED[1]], key)) for at in places]
        speed = [cells[at].mean(key, "rte") for at in places]
        made.append(Overall(*key, ranks, groups.count(("G1", "G1")), len(places), sum(not rte > 1 for rte in speed),
                            ranking.consistently_good(groups, speed)))
    return made


def scored(rows: Sequence[Overall], weights: Mapping[str, float]) -> list[tuple[Overall, float]]:
    """Rows with their overall score, best first: the weighted mean of average ranks, over goals that were measured; NaN for rows without ranks.

    Raises: BadInput unless weights are at least 0 and one of them is above it.
    """
    goals = [goal for goal in GOALS if any(np.isfinite(row.ranks[goal]) for row in rows)]
    if not goals:
        return [(row, np.nan) for row in rows]
    score = ranking.overall_score(np.array([[row.ranks[goal] for row in rows] for goal in goals]), [weights[goal] for goal in goals])
    return sorted(zip(rows, score.tolist(), strict=True), key=lambda pair: (np.isnan(pair[1]), pair[1], pair[0].key))


def compared(cells: Sequence[Cell], metric: str) -> Comparison:
    """Average ranks of the means over cells, and how far apart they must be."""
    keys = common(cells)
    fitting = [found for found in cells if found.has(metric, keys)]
    loss = np.array([[np.nan if key in found.failed else as_loss(metric)(found.mean(key, metric)) for key in keys] for found in fitting])
    reason = ranking.too_few(len(keys), len(fitting))
    return Comparison(metric, tuple(keys), len(fitting), None if reason else ranking.across(loss), reason)


@dataclass(frozen=True)
class Order:
    """Pairs of entries by one metric over several cells, the better one first.

    kept: told apart in two cells or more, always the same way round. turned: one way round in one cell, the other in another.
    once: told apart in a single cell. pairs: all there are; what is in none of these is told apart nowhere.
    """

    kept: tuple[tuple[Key, Key], ...]
    turned: tuple[tuple[Key, Key], ...]
    once: int
    pairs: int


def order(tables: Sequence[Table], keys: Sequence[Key]) -> Order:
    """What two cells agree on. keys: entries of all tables. Told apart are two that share no rank and whose 95 % intervals do not touch, and
    one that failed from one that did not; an entry without an interval is told apart from nothing."""
    found = [{key: (entry.rank, *_reach(entry, table.metric)) for key in keys if (entry := table.of(key))} for table in tables]

    def ahead(one: Key, other: Key) -> int:
        """In how many of the tables."""
        return sum(ends[one][0] < ends[other][0] and ends[one][2] < ends[other][1] for ends in found)

    kept: list[tuple[Key, Key]] = []
    turned: list[tuple[Key, Key]] = []
    once = 0
    for at, one in enumerate(keys):
        for other in keys[at + 1:]:
            first, second = ahead(one, other), ahead(other, one)
            pair = (one, other) if first >= second else (other, one)
            if first and second:
                turned.append(pair)
            elif first + second > 1:
                kept.append(pair)
            else:
                once += first + second
    return Order(tuple(kept), tuple(turned), once, len(keys) * (len(keys) - 1) // 2)


def wider(fixed: Cell, varied: Cell, metric: str, keys: Sequence[Key], *, draws: int = 2000) -> tuple[float, float, float]:
    """How many times as far apart seeds are where splits vary too: the median over entries of the ratio of standard deviations, with a 95 %
    bootstrap interval over seeds, all entries of a seed drawn together. NaN below three seeds, or where nothing varies."""
    there = [key for key in keys if all(key in found.values and np.isfinite(found.values[key][metric]).all() and found.values[key][metric].std() > 0
                                        for found in (fixed, varied))]
    if not there or min(len(fixed.seeds), len(varied.seeds)) < 3:
        return np.nan, np.nan, np.nan
    first, second = (np.array([found.values[key][metric] for key in there]) for found in (fixed, varied))
    rng = np.random.default_rng(0)

    def deviation(values: Floats, drawn: bool) -> Floats:
        """[entries, draws] of seeds drawn anew, or [entries, 1]."""
        seeds = values.shape[1]
        return values[:, rng.integers(seeds, size=(draws, seeds)) if drawn else np.arange(seeds)[None]].std(2, ddof=1)

    with np.errstate(divide="ignore", invalid="ignore"):  # a draw may repeat one seed throughout
        ratio = np.median(deviation(second, False) / deviation(first, False), 0)
        redrawn = np.nanmedian(deviation(second, True) / deviation(first, True), 0)
    lo, hi = np.nanpercentile(redrawn, [2.5, 97.5])
    return float(ratio[0]), float(lo), float(hi)


def _reach(entry: Entry, metric: str) -> tuple[float, float]:
    """(best, worst) loss that its interval allows."""
    if entry.group == "F":
        return np.inf, np.inf
    if np.isnan([entry.lo, entry.hi]).any():
        return -np.inf, np.inf
    best, _, worst = loss_span(metric, np.array([entry.lo, entry.mean, entry.hi]))
    return float(best), float(worst)


def _group(table: Table, key: Key) -> str | None:
    entry = table.of(key)
    return entry.group if entry else None
