"""From answers of queries to what a search found and how sure that is. Pure functions over rows, as pages may not reach into the searches.

The formula of a score is `engine.search.grid`'s alone: what is needed here (a score of some of the splits, of a setting beside another) is
judged there from the stored parts. A search whose stored scores that does not give again was made by an older formula: it has no intervals.

    se^2 = (n - 1) / n sum_i (s_i - mean s)^2,    s_i: the score without tuning split i, 95 % by Student's t with n - 1 degrees of freedom

The unit of independence is the split. A score holds its worst split, for which this jackknife is rough.
"""

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import isclose, isnan, log10, nan, sqrt
from typing import Any

import numpy as np

from engine.metrics.intervals import t975
from engine.metrics.ranking import Floats
from engine.search.grid import ACCURACIES, AUC, EVEN, judge, mean
from engine.search.protocol import Answer
from engine.search.racing import ROUND, noise_floor

Row = Mapping[str, Any]
Key = tuple[str, str]  # method, variant
FINALISTS = 4  # of a search without a last look: how many of the best are compared
NEIGHBOURS = 5
_LEVELS = 6  # distinct numbers up to which each is a level of its own
_EDGE = 0.05  # of a range: so near to its end counts as its end
_SHUFFLES = 400


@dataclass(frozen=True)
class Span:
    """A number and its 95 % interval; NaN where it has none."""

    value: float
    lo: float = nan
    hi: float = nan


@dataclass(frozen=True)
class Trial:
    """One setting that was tried. number: in the order of the search, from 0. score: smaller is better, NaN unless it ran on all splits.

    seen: the score on those splits that it ran on, which is all there is where it was stopped; NaN where it diverged.
    parts: what the score is made of, one number a split.
    """

    number: int
    params: Mapping[str, Any]
    status: str
    chosen: bool
    score: float
    seen: float
    parts: Mapping[str, Any]

    @property
    def splits(self) -> int:
        return len(self.parts.get(AUC, ()))

    @property
    def again(self) -> float:
        """The score on fresh splits, which had no part in the search; NaN where it was not run on them."""
        return _number(self.parts.get("fresh_score"))

    @property
    def seed(self) -> int:
        """Of the model that it was tried on, where searches of several seeds run side by side."""
        return int(self.parts.get("seed", 0))


@dataclass(frozen=True)
class Search:
    """kind: grid | racing | deep_unlearn. trials: none while the search is not finished. units: what differences are measured in; None where
    no score can be judged again. twin: parts of a second retrained model on the splits of the search, as if it were a trial."""

    method: str
    variant: str
    run_id: str
    kind: str
    command: str
    trials: tuple[Trial, ...]
    units: Mapping[str, float] | None
    twin: Mapping[str, Any] | None

    @property
    def key(self) -> Key:
        return self.method, self.variant

    @cached_property
    def chosen(self) -> Trial | None:
        return next((trial for trial in self.trials if trial.chosen), None)

    @cached_property
    def fixed(self) -> dict[str, Any]:
        """Parameters that are the same in all trials."""
        first: Mapping[str, Any] = self.trials[0].params if self.trials else {}
        return {name: value for name, value in first.items() if all(trial.params[name] == value for trial in self.trials)}

    @property
    def rounds(self) -> list[int]:
        """Numbers at which a new round of a race begins."""
        return list(range(ROUND, len(self.trials), ROUND)) if self.kind == "racing" else []

    @property
    def splits(self) -> int:
        """How many a trial that ended ran on; 0 where a trial is one model."""
        return max((trial.splits for trial in self.trials), default=0)

    @property
    def first(self) -> int:
        """Splits that all trials ran on which did not diverge."""
        return min((trial.splits for trial in self.trials if trial.status != "diverged"), default=0)

    @cached_property
    def finalists(self) -> list[Trial]:
        """What was compared in the end, best first: those that were run again, or the best of each seed, or simply the best."""
        again = [trial for trial in self.trials if not isnan(trial.again)]
        if again:
            return sorted(again, key=lambda trial: (not trial.chosen, trial.again, trial.number))
        done = sorted((trial for trial in self.trials if trial.status == "done"), key=lambda trial: (trial.score, trial.number))
        return list({trial.seed: trial for trial in reversed(done)}.values())[::-1] if self.kind == "deep_unlearn" else done[:FINALISTS]

    def judged(self, parts: Mapping[str, Any], at: Sequence[int]) -> float:
        """The score of these parts on these splits alone; NaN where it cannot be judged."""
        if self.units is None or not at or len(parts.get(AUC, ())) <= max(at):
            return nan
        return _number(judge({}, _answers(parts, at), self.units).score)

    def span(self, parts: Mapping[str, Any]) -> Span:
        """A score with its interval, from the parts of a trial, from what was found of it on fresh splits, or from `twin`."""
        found = _span(self._left_out(parts, len(parts.get(AUC, ()))))
        return Span(found.value, max(found.lo, 0.0), found.hi)

    def worse(self, trial: Trial, *, fresh: bool = False, interval: bool = True) -> Span:
        """By how much its score is above the chosen one's, on the splits that both ran on; fresh: on those of the last look.

        interval: whether it is wanted, which takes longer. Scores as they stand where they cannot be judged again.
        """
        best = self.chosen
        if best is None:
            return Span(nan)
        mine, theirs = ((of.parts.get("fresh", {}) if fresh else of.parts) for of in (trial, best))
        both = min(len(parts.get(AUC, ())) for parts in (mine, theirs))
        if isnan(plain := self.judged(mine, range(both)) - self.judged(theirs, range(both))):
            return Span(trial.again - best.again if fresh else trial.seen - best.score)
        return _span(self._left_out(mine, both) - self._left_out(theirs, both)) if interval else Span(plain)

    def halves(self) -> list[Trial]:
        """What each half of the splits, every other one, would have chosen by itself; empty where there are no halves to ask."""
        fresh = self.finalists if self.kind == "racing" else []
        asked = [(trial, trial.parts["fresh"] if fresh else trial.parts) for trial in fresh or self.trials if trial.status == "done"]
        n = min((len(parts.get(AUC, ())) for _, parts in asked), default=0)
        found: list[Trial] = []
        for start in (0, 1) if n > 1 else ():
            scores = [(self.judged(parts, range(start, n, 2)), trial.number, trial) for trial, parts in asked]
            if any(isnan(score) for score, _, _ in scores):
                return []
            found.append(min(scores, key=lambda one: one[:2])[2])
        return found

    def _left_out(self, parts: Mapping[str, Any], n: int) -> Floats:
        """[n + 1] the score on the first n splits, then without each of them."""
        return np.array([self.judged(parts, [i for i in range(n) if i != out]) for out in range(-1, n)])


def found(searches: Iterable[Row], trials: Iterable[Row], twins: Iterable[Row]) -> list[Search]:
    """Searches of a study from rows of `queries.searches`, `queries.all_trials` and `queries.tuning_twins`, in the order of the first."""
    made: dict[str, list[Trial]] = {}
    for row in trials:
        made.setdefault(str(row["run_id"]), []).append(_trial(row))
    pairs = _pairs(twins)
    return [_judgeable(Search(str(row["method"]), str(row["variant"]), str(row["run_id"]), str(row["kind"] or ""), str(row["command"] or ""),
                              tuple(made.get(str(row["run_id"]), ())), None, None), pairs) for row in searches]


# ---- the space that was searched


@dataclass(frozen=True)
class Axis:
    """One searched parameter. levels: its values where there are few or they are words, else empty: then it runs from lo to hi."""

    name: str
    levels: tuple[Any, ...]
    lo: float
    hi: float
    log: bool

    def at(self, value: Any) -> float:
        """Place of a value on it, from 0 to 1."""
        if self.levels:
            return self.levels.index(value) / (len(self.levels) - 1)
        lo, hi, here = (log10(v) if self.log else float(v) for v in (self.lo, self.hi, value))
        return (here - lo) / (hi - lo)

    @property
    def ordered(self) -> bool:
        """Whether it has two ends with something between them."""
        return not self.levels or (len(self.levels) > 2 and not isinstance(self.levels[0], (str, bool)))


def axes(search: Search, logs: Collection[str] = ()) -> list[Axis]:
    """The parameters that differ between trials. logs: names of those that are searched on a log scale."""
    found: list[Axis] = []
    for name in search.trials[0].params if search.trials else ():
        if name in search.fixed:
            continue
        values = list(dict.fromkeys(trial.params[name] for trial in search.trials))
        numbers = all(isinstance(value, (int, float)) and not isinstance(value, bool) for value in values)
        if numbers and len(values) > _LEVELS:
            found.append(Axis(name, (), min(values), max(values), name in logs and min(values) > 0))
        else:
            found.append(Axis(name, tuple(sorted(values) if numbers else sorted(values, key=str)), nan, nan, False))
    return found


def edges(search: Search, space: Sequence[Axis]) -> list[str]:
    """Searched parameters whose chosen value lies at an end of what was tried, so that better ones may lie beyond it."""
    best = search.chosen
    return [] if best is None else [axis.name for axis in space if axis.ordered and not _EDGE < axis.at(best.params[axis.name]) < 1 - _EDGE]


def neighbours(search: Search, space: Sequence[Axis]) -> list[tuple[float, Trial]]:
    """All other settings with their distance from the chosen one, nearest first.

    distance: root mean square over the parameters of how far apart two values are as a share of what was tried; words are 0 or 1 apart.
    """
    best = search.chosen
    if best is None or not space:
        return []

    def apart(axis: Axis, params: Mapping[str, Any]) -> float:
        words = axis.levels and not isinstance(axis.levels[0], (int, float))
        mine, its = params[axis.name], best.params[axis.name]
        return float(mine != its) if words or isinstance(its, bool) else abs(axis.at(mine) - axis.at(its))

    away = [(sqrt(mean([apart(axis, trial.params) ** 2 for axis in space])), trial) for trial in search.trials if trial.params != best.params]
    return sorted(away, key=lambda pair: (pair[0], pair[1].number))


def defaults(search: Search, declared: Mapping[str, Any]) -> tuple[Trial, list[str]] | None:
    """The trial of a method's declared defaults, and which searched parameters it has otherwise as their default was not in the range.

    None where the defaults were not tried. A race tries them first, as far as its ranges have them.
    """
    names = [axis.name for axis in axes(search) if axis.name in declared]
    for trial in search.trials if names else ():
        other = [name for name in names if trial.params[name] != declared[name]]
        if not other or (search.kind == "racing" and trial.number == 0 and len(other) < len(names)):
            return trial, other
    return None


@dataclass(frozen=True)
class Summary:
    """How sure a choice is. score: of the chosen setting, on fresh splits where it was run on them, which is `fresh`.

    runners: the others that were compared in the end, with how much worse they are, on the same splits. halves: what each half of those splits
    would have chosen. near: the NEIGHBOURS that lie nearest, each with its distance and how much worse it is on the splits that both ran on.
    default: trial of the declared defaults, which parameters it has otherwise, and how much worse it is; None where they were not tried.
    """

    search: Search
    axes: tuple[Axis, ...]
    chosen: Trial
    score: Span
    fresh: bool
    runners: tuple[tuple[Trial, Span], ...]
    halves: tuple[Trial, ...]
    near: tuple[tuple[float, Trial, Span], ...]
    edges: tuple[str, ...]
    default: tuple[Trial, list[str], Span] | None

    @property
    def tied(self) -> list[Trial]:
        """Runners-up that cannot be told from the chosen one."""
        return [trial for trial, worse in self.runners if worse.lo <= 0]


def summary(search: Search, declared: Mapping[str, Any], logs: Collection[str] = ()) -> Summary | None:
    """None while the search is not finished. declared: defaults of the method's parameters; logs: names of those searched on a log scale."""
    best = search.chosen
    if best is None:
        return None
    space, fresh, usual = axes(search, logs), not isnan(best.again), defaults(search, declared)
    whole = search.span(best.parts["fresh"] if fresh else best.parts)
    score = whole if not isnan(whole.value) else Span(best.again if fresh else best.score)
    return Summary(search, tuple(space), best, score, fresh,
                   tuple((trial, search.worse(trial, fresh=fresh)) for trial in search.finalists if trial is not best), tuple(search.halves()),
                   tuple((away, trial, search.worse(trial)) for away, trial in neighbours(search, space)[:NEIGHBOURS]),
                   tuple(edges(search, space)), None if usual is None else (*usual, search.worse(usual[0])))


# ---- what matters


@dataclass(frozen=True)
class Importance:
    """share: of the variance of the trials' ranks that one parameter accounts for, 0 to 1."""

    name: str
    share: float


def importance(search: Search, space: Sequence[Axis]) -> tuple[list[Importance], float]:
    """How much each parameter decides, the most first, and what the strongest of them reaches in 19 of 20 shuffles of the ranks.

    R^2 of the trials' ranks on a parabola in the ranks of the parameter (one mean a level where it has levels): monotone effects and a best value
    in between both show, single large scores do not. Ranked by the score on the splits that all ran on, the diverged last; where several model
    seeds were searched, within each. Each parameter is looked at by itself, and a search that learns draws them together: a hint, no test.
    """
    if len(search.trials) < 4 or not space:
        return [], nan
    groups = np.array([trial.seed for trial in search.trials])
    ranks = np.zeros(len(groups))
    outcome = np.nan_to_num(np.array([_common(search, trial) for trial in search.trials]), nan=np.inf)
    for seed in np.unique(groups):
        ranks[groups == seed] = _ranks(outcome[groups == seed])
    if not ranks.any():
        return [], nan
    rng = np.random.default_rng(0)
    shuffled = np.stack([ranks, *(_within(ranks, groups, rng) for _ in range(_SHUFFLES))], 1)
    shares = np.array([_explained(_design(axis, search.trials), shuffled) for axis in space])
    made = [Importance(axis.name, float(share)) for axis, share in zip(space, shares[:, 0], strict=True)]
    return sorted(made, key=lambda one: -one.share), float(np.quantile(shares[:, 1:].max(0), 0.95))


def objectives(trial: Trial) -> tuple[Span, Span] | None:
    """(accuracies, attack) of a trial that ended, both smaller is better, with 95 % t-intervals over its splits.

    accuracies: mean difference from retrained over three accuracies, 0 to 1. attack: how far the population attack's AUC is from that on
    retrained models; for deep_unlearn 1 - Indiscernibility, of one model, without an interval.
    """
    if trial.status != "done":
        return None
    if "objectives" in trial.parts:
        *gaps, attack = trial.parts["objectives"]
        return Span(sum(gaps)), Span(attack)
    if AUC not in trial.parts:
        return None
    gaps = np.mean([trial.parts[name] for name in ACCURACIES], axis=0)
    away = _mean_span(np.subtract(trial.parts[AUC], trial.parts[f"retrained_{AUC}"]))
    ends = sorted((abs(away.lo), abs(away.hi)))
    return _mean_span(gaps), Span(abs(away.value), 0.0 if away.lo < 0 < away.hi else ends[0], ends[1])


def front(points: Sequence[tuple[float, float]]) -> list[int]:
    """Places of those that no other is at least as good as in both and better in one, by the first."""
    ahead = [i for i, (x, y) in enumerate(points) if not any((a <= x and b <= y) and (a, b) != (x, y) for a, b in points)]
    return sorted(ahead, key=lambda i: points[i])


# ---- parts


def _trial(row: Row) -> Trial:
    parts: Mapping[str, Any] = json.loads(row["parts"] or "{}")
    score = _number(row["score"])
    return Trial(int(row["trial"]), json.loads(row["params"] or "{}"), str(row["status"]), bool(row["chosen"]), score,
                 _number(parts.get("score_when_stopped")) if isnan(score) else score, parts)


def _number(value: Any) -> float:
    return nan if value is None else float(value)


def _pairs(twins: Iterable[Row]) -> list[Answer]:
    """Of each split with a twin, as a search was answered."""
    found: dict[int, tuple[dict[str, float], dict[str, float]]] = {}
    for row in twins:
        twin, first = found.setdefault(int(row["split"]), ({}, {}))
        twin[str(row["name"])], first[str(row["name"])] = float(row["twin"]), float(row["value"])
    return [Answer(twin, first) for _, (twin, first) in sorted(found.items()) if {*ACCURACIES, AUC} <= twin.keys()]


def _answers(parts: Mapping[str, Any], at: Sequence[int]) -> list[Answer]:
    """What the stored parts of a trial were made from, but for what does not count: an accuracy counts by its difference alone."""
    return [Answer({name: parts[name][i] for name in (*ACCURACIES, AUC)}, {**dict.fromkeys(ACCURACIES, 0.0), AUC: parts[f"retrained_{AUC}"][i]})
            for i in at]


def _judgeable(search: Search, pairs: Sequence[Answer]) -> Search:
    """With its units and its twin, if the stored scores follow from the stored parts."""
    units = {"grid": EVEN, "racing": noise_floor(pairs) if pairs else None}.get(search.kind)
    twin = judge({}, pairs, units).parts if units is not None and pairs else None
    full = Search(search.method, search.variant, search.run_id, search.kind, search.command, search.trials, units, twin)
    same = all(isclose(full.judged(trial.parts, range(trial.splits)), trial.seen, rel_tol=1e-9, abs_tol=1e-12)
               for trial in full.trials if not isnan(trial.seen))
    return full if same else search


def _span(left_out: Floats) -> Span:
    """From the whole and the values without each."""
    whole, rest = float(left_out[0]), left_out[1:]
    if len(rest) < 2:
        return Span(whole)
    reach = t975(len(rest) - 1) * sqrt((len(rest) - 1) * float(rest.var()))
    return Span(whole, whole - reach, whole + reach)


def _mean_span(values: Floats) -> Span:
    whole, n = float(np.mean(values)), len(values)
    reach = t975(n - 1) * float(np.std(values, ddof=1)) / sqrt(n) if n > 1 else nan
    return Span(whole, whole - reach, whole + reach)


def _common(search: Search, trial: Trial) -> float:
    """The score on the splits that all trials ran on."""
    found = search.judged(trial.parts, range(search.first))
    return trial.seen if isnan(found) else found


def _ranks(values: Floats) -> Floats:
    """From -1/2 to 1/2, ties share their mean."""
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    middle = np.cumsum(counts) - (counts + 1) / 2
    return (middle[place] - (len(values) - 1) / 2) / max(len(values) - 1, 1)


def _within(ranks: Floats, groups: np.ndarray, rng: np.random.Generator) -> Floats:
    """Shuffled among those of the same seed."""
    made = ranks.copy()
    for group in np.unique(groups):
        made[groups == group] = rng.permutation(made[groups == group])
    return made


def _design(axis: Axis, trials: Sequence[Trial]) -> Floats:
    """[n, p] columns that a parameter may act by."""
    if axis.levels:
        return np.array([[float(trial.params[axis.name] == level) for level in axis.levels] for trial in trials])
    ranks = _ranks(np.array([float(trial.params[axis.name]) for trial in trials]))
    return np.stack([ranks, ranks ** 2], 1)


def _explained(design: Floats, outcomes: Floats) -> Floats:
    """[s] R^2 of each column of outcomes [n, s], whose mean is 0, on the centred design [n, p]."""
    basis, sizes, _ = np.linalg.svd(design - design.mean(0), full_matrices=False)
    basis = basis[:, sizes > 1e-9 * max(float(sizes.max()), 1e-300)]
    return ((basis.T @ outcomes) ** 2).sum(0) / (outcomes ** 2).sum(0)
