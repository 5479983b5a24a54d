"""From answers of `queries` to standings: which methods are good in one cell (`ranks`: in all of them). Pure functions over frames.

The arithmetic is `engine.metrics.ranking`'s; this is what pages and command line share, as pages may not reach into the metrics.
A cell is a dataset with an architecture and a share to forget, shown by its largest study; an entry is a method in one variant.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from engine.metrics import ranking
from engine.metrics.intervals import interval
from engine.metrics.ranking import Floats
from engine.store import queries
from engine.store.queries import FORGET_SHARE, REFERENCES, SEED_METRICS

Key = tuple[str, str]  # method, variant

# metric -> its best value; infinite where more is always better
BEST = {"retention_deviation": 0.0, "indiscernibility": 1.0, "balanced_accuracy": 0.5, "auc": 0.5, "mia_test": 0.5, "test_accuracy": 1.0,
        "test_retention": float("inf"), "rte": float("inf"), "unlearn_s": 0.0}
JUDGED = ("retention_deviation", "indiscernibility")  # the two in which a method has to be good
_BY_OWN_NOISE = ("indiscernibility", "mia_test")
_BY_INTERVAL = ("balanced_accuracy", "auc")
_COLLAPSED = 0.5  # of retraining's test accuracy
_RETENTIONS = ("retain", "forget", "test")  # the accuracies that Retention Deviation is made of
ALL_VARY = "split, forget set and initialisation"


@dataclass(frozen=True)
class Entry:
    """One method of a cell by one metric.

    mean, lo, hi: with its 95 % interval, in units of the metric. rank: shared with those that cannot be told apart; tied: with the best.
    group: G1, G2, G3, F, or None where the metric has no groups. why: of a failure, else empty.
    Of metrics that are measured by seed also, else NaN: rank_lo, rank_hi: 95 % of ranks when seeds are drawn anew. values: one a seed.
    above, above_lo, above_hi: how much worse than retraining's noise, paired by seed. p: of that test, one-sided, adjusted by Holm.
    """

    method: str
    variant: str
    mean: float
    lo: float
    hi: float
    rank: float
    tied: bool
    group: str | None
    why: str
    rank_lo: float = float("nan")
    rank_hi: float = float("nan")
    values: tuple[float, ...] = ()
    above: float = float("nan")
    above_lo: float = float("nan")
    above_hi: float = float("nan")
    p: float = float("nan")

    @property
    def key(self) -> Key:
        return self.method, self.variant


@dataclass(frozen=True)
class Table:
    """Entries of a cell by one metric, in order of rank. seeds: how many stand behind each mean, 0 where it is not measured by seed.

    floor, limit: where retraining stands, and the 95th percentile of what it would show by chance, in units of the metric.
    note: what these numbers cannot say, in words; or empty.
    """

    metric: str
    entries: tuple[Entry, ...]
    seeds: int
    floor: float
    limit: float
    note: str

    def of(self, key: Key) -> Entry | None:
        return next((entry for entry in self.entries if entry.key == key), None)


@dataclass(frozen=True)
class Cell:
    """What a study knows of its methods.

    means: per entry, references included, the row of `queries.results`. values: per entry and metric, one number a seed of `seeds`, NaN
    where that seed failed. failed: why, in words. waiting: entries that still have seeds to come, and how many they have.
    varies: what differs between the seeds, in words. twins: accuracies [3, s] on retain, forget and test of second retrained models, NaN
    where there is none; they are the noise of retraining where splits differ too.
    """

    dataset: str
    model: str
    forget_share: float
    study: str
    seeds: tuple[int, ...]
    means: Mapping[Key, Mapping[str, Any]]
    values: Mapping[Key, Mapping[str, Floats]]
    failed: Mapping[Key, str]
    waiting: Mapping[Key, int]
    varies: str
    twins: Floats
    _tables: dict[tuple[str, tuple[Key, ...]], Table] = field(default_factory=dict[tuple[str, tuple[Key, ...]], Table], repr=False, compare=False)

    @property
    def name(self) -> str:
        return place(self.dataset, self.model, self.forget_share)

    @cached_property
    def keys(self) -> tuple[Key, ...]:
        """Entries that can be ranked: all but the references and what is not finished."""
        return tuple(key for key in sorted({*self.means, *self.failed}) if key[0] not in REFERENCES and key not in self.waiting)

    def has(self, metric: str, keys: Iterable[Key] | None = None) -> bool:
        """Whether every entry, or each of these, has this metric or failed."""
        asked = self.keys if keys is None else list(keys)
        return bool(asked) and all(key in self.failed or np.isfinite(self.mean(key, metric)) for key in asked)

    def mean(self, key: Key, metric: str) -> float:
        return float(self.means.get(key, {}).get(metric, np.nan))

    def table(self, metric: str, keys: Iterable[Key] | None = None) -> Table:
        """Entries, or these of them, by one metric; those that were not measured are left out. Worked out once."""
        asked = tuple(key for key in (self.keys if keys is None else keys) if key in self.failed or np.isfinite(self.mean(key, metric)))
        if metric in SEED_METRICS and not self.seeds:
            return Table(metric, (), 0, np.nan, np.nan, "No retrained model is there yet to compare with.")
        if (metric, asked) not in self._tables:
            self._tables[metric, asked] = _by_seeds(self, metric, asked) if metric in SEED_METRICS else _by_intervals(self, metric, asked)
        return self._tables[metric, asked]


EVIDENCE = (queries.results, queries.seed_runs, queries.failures, queries.twins)  # what `cell` is made from, in its order


def cell(study: Mapping[Any, Any], results: pd.DataFrame, seeds: pd.DataFrame, failures: pd.DataFrame, twins: pd.DataFrame, *,
         variant: str | None = None) -> Cell:
    """A cell from a row of `queries.studies` and that study's answers to EVIDENCE.

    variant: only methods in this one; None for all. An entry fails when one of its seeds diverged, crashed or has no number, or when
    it keeps less than half of the test accuracy of retraining. One that has fewer seeds than retraining, without a failure, waits.
    """
    everyone = [row for row in _rows(results) if row["method"] in REFERENCES or variant in (None, row["variant"])]
    means = {(str(row["method"]), str(row["variant"])): row for row in everyone}
    there = tuple(sorted(int(seed) for seed in seeds.loc[seeds["method"] == "retrained", "seed"]))
    failed = _failures(failures, variant)
    values: dict[Key, dict[str, Floats]] = {}
    waiting: dict[Key, int] = {}
    for key, (known, numbers) in _by_entry(seeds, there).items():
        if key not in means:
            continue
        values[key] = dict(zip(SEED_METRICS, numbers, strict=True))
        if key[0] in REFERENCES or key in failed or not there:
            continue
        if known < len(there):
            waiting[key] = known
        elif not np.isfinite(values[key]["test_accuracy"]).all():
            failed[key] = "a seed has no number"
        elif (kept := float(np.nanmean(values[key]["test_retention"]))) < _COLLAPSED:
            failed[key] = f"keeps {100 * kept:.0f} % of retraining's test accuracy"
    waiting |= {key: 0 for key in means if there and key not in values and key not in failed and key[0] not in REFERENCES}
    return Cell(str(study["dataset"]), str(study["model"]), float(study["forget_share"]), str(study["study"]), there, means, values, failed, waiting,
                _varies(seeds), _twins(seeds, twins))


def _by_entry(seeds: pd.DataFrame, there: Sequence[int]) -> dict[Key, tuple[int, Floats]]:
    """How many of the seeds `there` are known, and their numbers [metric of SEED_METRICS, seed], NaN where one is not. By hand, since
    frames take longer to cut up than all that follows."""
    place = {seed: at for at, seed in enumerate(there)}
    numbers = seeds[list(SEED_METRICS)].to_numpy(np.float64)
    found: dict[Key, tuple[list[int], Floats]] = {}
    for method, variant, seed, row in zip(seeds["method"].tolist(), seeds["variant"].tolist(), seeds["seed"].tolist(), numbers, strict=True):
        known, values = found.setdefault((str(method), str(variant)), ([], np.full((len(SEED_METRICS), len(there)), np.nan)))
        if seed in place:
            known.append(seed)
            values[:, place[seed]] = row
    return {key: (len(known), values) for key, (known, values) in found.items()}


def largest(studies: Iterable[Mapping[Any, Any]], chosen: str | None = None) -> list[Mapping[Any, Any]]:
    """Of each dataset, model and share to forget the study with the most finished runs, the newest of equals, from rows of
    `queries.studies`; the chosen one before all others."""
    found: dict[tuple[str, str, float], Mapping[Any, Any]] = {}
    for study in studies:
        place = (study["dataset"], study["model"], study["forget_share"])
        if not (all(isinstance(name, str) for name in place[:2]) and study["done"]):
            continue
        best = found.get(place)
        if best is None or study["study"] == chosen or (best["study"] != chosen and study["done"] > best["done"]):
            found[place] = study
    return [found[place] for place in sorted(found)]


def place(dataset: str, model: str, forget_share: float) -> str:
    """Of a cell, in words; the usual share goes without saying."""
    return f"{dataset}/{model}" + ("" if forget_share == FORGET_SHARE else f", {100 * forget_share:g} % forgotten")


def by_mean(found: Cell, metric: str) -> list[Key]:
    """Everything in a cell, references and what is not finished included: best mean first, failures last."""
    def place(key: Key) -> tuple[bool, float, Key]:
        return key in found.failed, float(np.nan_to_num(as_loss(metric)(found.mean(key, metric)), nan=np.inf)), key
    return sorted({*found.means, *found.failed}, key=place)


def title(key: Key) -> str:
    """As study files write it: the method, and its variant unless that is the corrected one."""
    return key[0] if key[1] == "corrected" else "/".join(key)


# ---- one metric


def _by_seeds(found: Cell, metric: str, keys: Sequence[Key]) -> Table:
    """Paired by seed."""
    turned = as_loss(metric)
    values = np.array([found.values[key][metric] if key in found.values else np.full(len(found.seeds), np.nan) for key in keys])
    values = values.reshape(len(keys), len(found.seeds))
    loss, failed = turned(values), np.array([key in found.failed for key in keys], np.bool_)
    null, original, note = _null(found, metric)
    ranks = ranking.seed_ranks(loss, failed)
    groups = ranking.grouped(loss, null, original, failed) if null else None
    fine = int((np.isfinite(loss).all(1) & ~failed).sum())
    if not note and fine > 1 and not ranking.can_tell(len(found.seeds), fine - 1):
        note = f"With {len(found.seeds)} seeds and {fine} methods no two can be told apart, however different: they share one rank."
    if groups and not ranking.can_tell(len(found.seeds), fine, one_sided=True):
        note += " No test can reject either: G1 says only that the mean is within the noise."
    entries: list[Entry] = []
    for at, key in enumerate(keys):
        there = values[at][np.isfinite(values[at])]
        mean = float(there.mean()) if there.size else np.nan
        lo, hi = interval(mean, float(there.std(ddof=1)) if there.size > 1 else np.nan, there.size)
        entry = Entry(*key, mean, lo, hi, values=tuple(values[at].tolist()), rank=float(ranks.rank[at]), rank_lo=float(ranks.rank_lo[at]),
                      rank_hi=float(ranks.rank_hi[at]), tied=bool(ranks.tied[at]), group="F" if failed[at] else None, why=found.failed.get(key, ""))
        if groups:
            entry = replace(entry, group=groups.group[at], p=float(groups.p[at]), above=float(groups.above[at]),
                            above_lo=float(groups.above_lo[at]), above_hi=float(groups.above_hi[at]))
        entries.append(entry)
    sign = -1 if BEST[metric] == 1 else 1
    floor, limit = (BEST[metric] + sign * null.floor, BEST[metric] + sign * null.limit) if null else (np.nan, np.nan)
    return Table(metric, _ordered(entries, turned), len(found.seeds), float(floor), float(limit), note)


def _by_intervals(found: Cell, metric: str, keys: Sequence[Key]) -> Table:
    """Attacks and run time: one estimate a method, with an interval."""
    turned = as_loss(metric)
    spans = [_span(found, key, metric) for key in keys]
    losses = np.array([loss_span(metric, span) for span in spans]).reshape(len(keys), 3)
    losses[[key in found.failed for key in keys]] = np.nan
    ranks = ranking.interval_ranks(losses)
    groups: list[str | None] = ["F" if np.isnan(row[1]) else None for row in losses]
    floor, limit, note = np.nan, np.nan, ""
    if metric in _BY_INTERVAL:
        retrained, original = (loss_span(metric, _span(found, (name, "corrected"), metric)) for name in REFERENCES)
        if np.isfinite([retrained[1], original[1]]).all():
            groups = [*ranking.interval_groups(losses, retrained, float(original[1]))]
            floor, limit = (BEST[metric] + retrained[1], BEST[metric] + retrained[2])
        else:
            note = "No groups: the retrained or the original models have no such number here."
    entries = [Entry(*key, float(spans[at][1]), float(spans[at][0]), float(spans[at][2]), rank=float(ranks.rank[at]), tied=bool(ranks.tied[at]),
                     group=groups[at], why=found.failed.get(key, "")) for at, key in enumerate(keys)]
    return Table(metric, _ordered(entries, turned), 0, float(floor), float(limit), note)


def _null(found: Cell, metric: str) -> tuple[ranking.Null | None, float, str]:
    """Noise of retraining and mean loss of the originals; or why there are no groups, empty where the metric has none."""
    if metric not in (*_BY_OWN_NOISE, "retention_deviation"):
        return None, np.nan, ""
    retrained, original = (found.values.get((name, "corrected"), {}) for name in REFERENCES)
    if len(found.seeds) < 2:
        return None, np.nan, "No groups and no intervals: they need two or more seeds."
    if metric == "retention_deviation" and found.varies == ALL_VARY:
        return _twin_null(found)
    accuracy = np.array([retrained[f"{split}_accuracy"] for split in _RETENTIONS])
    own = as_loss(metric)(retrained[metric])
    noise = ranking.deviations(accuracy) if metric == "retention_deviation" else own
    away = as_loss(metric)(original[metric]) if original else np.array([np.nan])
    if not (np.isfinite(noise).all() and np.isfinite(away).all()):
        return None, np.nan, "No groups: the retrained or the original models lack this number at some seed."
    return ranking.deviation_null(accuracy) if metric == "retention_deviation" else ranking.own_null(own), float(away.mean()), ""


def _twin_null(found: Cell) -> tuple[ranking.Null | None, float, str]:
    """The same where every seed has its own split: there two seeds differ by more than retraining's noise."""
    retrained, original = (found.values.get((name, "corrected"), {}) for name in REFERENCES)
    own = np.array([retrained[f"{split}_accuracy"] for split in _RETENTIONS])
    apart = np.abs(found.twins / np.where(own > 0, own, np.nan) - 1).sum(0)
    away = original.get("retention_deviation", np.array([np.nan]))
    if not (np.isfinite(apart).all() and np.isfinite(away).all()):
        return None, np.nan, "No groups: splits differ between the seeds, and second retrained models or originals are missing in some."
    return ranking.twin_null(apart), float(away.mean()), ""


def as_loss(metric: str) -> Callable[[Any], Any]:
    """From a metric to what is better the smaller it is."""
    best = BEST[metric]
    return (lambda value: -value) if np.isinf(best) else (lambda value: np.abs(value - best))


def loss_span(metric: str, span: Floats) -> Floats:
    """(best case, mean, worst case) as losses, of an interval (low, mean, high); the mean alone where it has no ends."""
    low, mean, high = (span[1] if np.isnan(end) else end for end in span)
    ends = sorted(float(as_loss(metric)(end)) for end in (low, high))
    return np.array([0.0 if low < BEST[metric] < high else ends[0], float(as_loss(metric)(mean)), ends[1]])


def _span(found: Cell, key: Key, metric: str) -> Floats:
    row = found.means.get(key, {})
    return np.array([float(row.get(f"{metric}{end}", np.nan)) for end in ("_lo", "", "_hi")])


def _ordered(entries: list[Entry], turned: Callable[[Any], Any]) -> tuple[Entry, ...]:
    return tuple(sorted(entries, key=lambda entry: (entry.rank, entry.group == "F", np.nan_to_num(turned(entry.mean), nan=np.inf), entry.key)))


def _failures(failures: pd.DataFrame, variant: str | None) -> dict[Key, str]:
    """Why, per entry: the first of its seeds that failed."""
    found: dict[Key, str] = {}
    for row in _rows(failures):
        if row["role"] == "seeds" and row["kind"] == "unlearned" and variant in (None, row["variant"]):
            found.setdefault((str(row["method"]), str(row["variant"])), f"seed {int(row['seed'])} {row['status']}: {row['error']}")
    return found


def _varies(seeds: pd.DataFrame) -> str:
    """What differs between seeds. Only where split and forget set do too, an interval speaks of more than the initialisation."""
    if seeds["split"].nunique(dropna=False) > 1:  # another split has another forget set
        return ALL_VARY
    return "initialisation only: weights and data order vary, split and forget set do not"


def _twins(seeds: pd.DataFrame, twins: pd.DataFrame) -> Floats:
    """Their accuracies in the order of the seeds."""
    retrained = seeds[seeds["method"] == "retrained"].sort_values("seed")
    columns = [f"{split}_accuracy" for split in _RETENTIONS]
    known = {row["split"]: [float(row[column]) for column in columns] for row in _rows(twins)}
    return np.array([known.get(split, [np.nan] * len(columns)) for split in retrained["split"]], np.float64).T


def _rows(frame: pd.DataFrame) -> list[dict[str, Any]]:
    columns = [column.tolist() for _, column in frame.items()]
    return [dict(zip(map(str, frame.columns), row, strict=True)) for row in zip(*columns, strict=True)]


# ---- what a method costs


def accuracy_loss(found: Cell, key: Key) -> tuple[float, float, float]:
    """Test accuracy below that of retraining, paired by seed: mean and 95 % t-interval, as fractions, larger = more lost; NaN where unknown."""
    values = [found.values.get(one, {}).get("test_accuracy") for one in (("retrained", "corrected"), key)]
    if any(value is None or not value.size or not np.isfinite(value).all() for value in values):
        return np.nan, np.nan, np.nan
    retrained, mine = values
    assert retrained is not None and mine is not None
    lost = retrained - mine
    return float(lost.mean()), *interval(float(lost.mean()), float(lost.std(ddof=1)) if lost.size > 1 else np.nan, lost.size)


def time_share(found: Cell, key: Key) -> tuple[float, float, float]:
    """Run time as a share of retraining's: median, and the range of the repeats, which is no confidence interval; NaN where not timed."""
    mine, whole = (_span(found, key, metric) for metric in ("unlearn_s", "retrain_s"))
    ends = np.where(np.isnan(whole), whole[1], whole)[::-1]
    share = mine / ends
    return float(share[1]), float(share[0]), float(share[2])
