"""Whether published claims hold here: the rule of the verdicts.

A verdict is always by rule:

    no published number at hand   the claim has neither a figure nor a statement that could be decided
    not run                       no study here measured what it takes
    not comparable                measured, but in no study of the claim's setting, or in fewer datasets or architectures than it speaks of
    reproduced                    the evidence of every study of its setting holds the claim; of `noise` claims, of at least 80 % of them
    not reproduced                it does not: the evidence is against the claim, or its intervals are too wide to tell

The setting is dataset and number of images, architecture, epochs of training, what is forgotten and how much of it, tuned or default
settings, and the variant of a method that does what the released code does, where there is one. An attack that is not calibrated is no
evidence either. What holds a claim, by the kind of its rule:

    figure   the 95 % interval of measured minus reported lies within +- `within`. It is that of our mean times sqrt(1 + n / m): n seeds
             here, m there, which vary as ours do. Where m is not known the reported value is taken as exact.
    order    each method of one side is worse than each of the other: the 95 % intervals of their distances from the best value do not
             overlap. `least`: for this share of the pairs, and for none the other way round.
    noise    each method is within retraining's noise (group G1 of `engine.metrics.ranking`) in each metric, with enough seeds to tell, and
             faster than retraining where that is claimed.

Against a claim is an interval wholly outside, intervals apart the other way round, another group, or a slower method. Everything else
is open. Pure functions over answers of `queries`.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import inf, isfinite, isnan, nan, sqrt
from typing import Any

import pandas as pd
from duckdb import DuckDBPyConnection

from engine.metrics import ranking
from engine.store import queries
from engine.store.report import outcome_of
from engine.store.reported import RANDOM, Claim, Figure, Noise, Order, Side, Unmeasured
from engine.store.standings import Cell, Key

REPRODUCED, NOT_REPRODUCED, NOT_COMPARABLE, NOT_RUN, NO_NUMBER = VERDICTS = (
    "reproduced", "not reproduced", "not comparable", "not run", "no published number at hand")
HELD, AGAINST, OPEN, MISSING = "held", "against", "open", "missing"  # what a study says of a claim


@dataclass(frozen=True)
class Evidence:
    """What one study has to say. study: its row of `queries.studies`. images: None for the whole dataset. epochs, attack_epochs: of training
    its models, and those that are attacked; NaN where there are none. tuned: whose settings a search chose. attacks: (method, variant, attack,
    name) -> row of `queries.attacks`. calibrated: passed | failed | too few models | absent."""

    study: Mapping[str, Any]
    cell: Cell
    images: float
    epochs: float
    attack_epochs: float
    scenario: str
    tuned: frozenset[Key]
    attacks: Mapping[tuple[str, str, str, str], Mapping[str, Any]]
    calibrated: str

    @cached_property
    def entries(self) -> frozenset[Key]:
        """All that it has a number of."""
        return frozenset([*self.cell.means, *((method, variant) for method, variant, *_ in self.attacks)])


@dataclass(frozen=True)
class Measured:
    """One number of a study, with its 95 % interval. group: G1 to F where the rule is about groups; of a speed-up G1 above and G3 below 1."""

    method: str
    variant: str
    metric: str
    attack: str
    value: float
    lo: float
    hi: float
    group: str = ""


@dataclass(frozen=True)
class Difference:
    """What sets a study apart from a claim.

    kind: dataset | model | images | epochs | scenario | forget_share | settings | variant | check | otherwise
    """

    kind: str
    here: str
    there: str


@dataclass(frozen=True)
class Reading:
    """What a study says of a claim. study: its row of `queries.studies`. state: see HELD. parts: the numbers that it rests on; of an order one pair.
    margin, lo, hi: of that pair how much worse, of a figure measured minus reported; else NaN. pairs: of an order, how many hold of how many.
    lacking: (method, metric) that were not measured."""

    study: Mapping[str, Any]
    differences: tuple[Difference, ...]
    state: str
    parts: tuple[Measured, ...] = ()
    margin: float = nan
    lo: float = nan
    hi: float = nan
    pairs: tuple[int, int] = (0, 0)
    lacking: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Judged:
    """readings: of every study that measured what it takes, those nearest to its setting first. fitting: those of its very setting.
    lacking: (method, metric) that the study nearest to it has not measured, where none has all."""

    claim: Claim
    verdict: str
    readings: tuple[Reading, ...]
    fitting: tuple[Reading, ...] = ()
    lacking: tuple[tuple[str, str], ...] = ()


def settings(db: DuckDBPyConnection) -> pd.DataFrame:
    """In which setting each study ran: one row a study that has a finished original or search.

    study str | images float, NaN for the whole dataset | epochs, attack_epochs float | scenario str | tuned list of method/variant
    """
    return db.execute("""
        WITH own AS (
            SELECT DISTINCT m.run_id AS study, m.role, r.run_id, r.kind, r.method || '/' || r.variant AS entry, r.cell
            FROM members m JOIN runs r ON r.run_id = m.member
            WHERE r.status = 'done' AND ((r.kind = 'original' AND m.role IN ('seeds', 'u_lira')) OR m.role = 'search'))
        SELECT study, max(CAST(cell ->> '$.data.pool' AS DOUBLE)) FILTER (kind = 'original') AS images,
               max(CAST(cell ->> '$.recipe.epochs' AS DOUBLE)) FILTER (role = 'seeds') AS epochs,
               max(CAST(cell ->> '$.recipe.epochs' AS DOUBLE)) FILTER (role = 'u_lira') AS attack_epochs,
               any_value(cell ->> '$.data.scenario') AS scenario,
               coalesce(list(DISTINCT entry) FILTER (role = 'search'), []) AS tuned
        FROM own GROUP BY study ORDER BY study""").df()


def evidence(study: Mapping[str, Any], setting: Mapping[str, Any], cell: Cell, attacks: Iterable[Mapping[str, Any]],
             calibration: Iterable[Mapping[str, Any]]) -> Evidence:
    """From a row of `queries.studies` and one of `settings`, and the study's cell, attacks and calibration."""
    tuned = frozenset((method, variant) for method, _, variant in (str(entry).partition("/") for entry in setting["tuned"]))
    scenario = setting["scenario"]
    return Evidence(study, cell, float(setting["images"]), float(setting["epochs"]), float(setting["attack_epochs"]),
                    scenario if isinstance(scenario, str) and scenario != "random" else RANDOM, tuned,
                    {(row["method"], row["variant"], row["attack"], row["name"]): row for row in attacks if isinstance(row["name"], str)},
                    outcome_of(row for row in calibration if row["method"] in queries.REFERENCES))


def judged(claim: Claim, studies: Sequence[Evidence], variants: Mapping[str, Sequence[str]]) -> Judged:
    """The verdict on a claim. variants: of every method that there is, as the catalogue has them."""
    if claim.rule is None:
        return Judged(claim, NO_NUMBER, ())
    if isinstance(claim.rule, Unmeasured):
        return Judged(claim, NOT_RUN, ())
    found = sorted((_reading(claim, study, variants) for study in studies),
                   key=lambda reading: (reading.state == MISSING, len(reading.differences), len(reading.lacking), -reading.study["done"]))
    there = tuple(reading for reading in found if reading.state != MISSING)
    if not there:
        return Judged(claim, NOT_RUN, (), lacking=found[0].lacking if found else ())
    fitting = tuple(reading for reading in there if not reading.differences)
    covered = [len({reading.study[what] for reading in fitting}) for what in ("dataset", "model")]
    if any(have < least for have, least in zip(covered, claim.needs, strict=True)):
        return Judged(claim, NOT_COMPARABLE, there, fitting)
    held = sum(reading.state == HELD for reading in fitting)
    enough = held >= (ranking.CONSISTENT if isinstance(claim.rule, Noise) else 1.0) * len(fitting)
    return Judged(claim, REPRODUCED if enough else NOT_REPRODUCED, there, fitting)


def _reading(claim: Claim, study: Evidence, variants: Mapping[str, Sequence[str]]) -> Reading:
    """What one study says."""
    rule = claim.rule
    assert isinstance(rule, (Figure, Order, Noise))
    sides = _sides(rule)
    keys = {method: _key(method, claim, study, variants) for side in sides for method in side.methods}
    differences = tuple(_differences(claim, study, keys, variants, any(map(_attacked, sides))))
    found = {(method, side): _measured(study, keys[method], side) for side in sides for method in side.methods}
    lacking = tuple((method, side.metric) for (method, side), number in found.items() if not isfinite(number.value))
    if lacking:
        return Reading(study.study, differences, MISSING, lacking=lacking)
    if isinstance(rule, Figure):
        return _of_figure(rule, study, differences, found[rule.method, sides[0]], keys[rule.method])
    if isinstance(rule, Order):
        return _of_order(rule, study, differences, found)
    return _of_noise(rule, study, differences, [found[method, side] for side in sides for method in side.methods])


def _sides(rule: Figure | Order | Noise) -> list[Side]:
    """Everything that has to be measured."""
    if isinstance(rule, Figure):
        return [Side((rule.method,), rule.metric)]
    if isinstance(rule, Noise):
        return [Side(rule.methods, metric) for metric in (*rule.metrics, *(("rte",) if rule.faster else ()))]
    return [rule.worse, _other(rule)]


def _other(rule: Order) -> Side:
    return rule.than if rule.than.methods else Side(rule.worse.methods, rule.than.metric, rule.than.attack)


def _attacked(side: Side) -> bool:
    return bool(side.attack) or side.metric in queries.ATTACK_METRICS


def _key(method: str, claim: Claim, study: Evidence, variants: Mapping[str, Sequence[str]]) -> Key:
    """The entry that a claim is about: the variant that does what released code does where it is asked for and was run."""
    released = (method, "official")
    return released if claim.setting.released and "official" in variants.get(method, ()) and released in study.entries else (method, "corrected")


def _measured(study: Evidence, key: Key, side: Side) -> Measured:
    """A number of a study; NaN where there is none, or where the method failed."""
    row: Mapping[str, Any] = study.attacks.get((*key, side.attack, side.metric), {}) if side.attack else study.cell.means.get(key, {})
    name = "value" if side.attack else side.metric
    value, lo, hi = (float(row.get(column, nan)) for column in (name, *(("lo", "hi") if side.attack else (f"{name}_lo", f"{name}_hi"))))
    failed = key in study.cell.failed and side.metric in queries.SEED_METRICS
    return Measured(*key, side.metric, side.attack, nan if failed else value, lo, hi)


def _differences(claim: Claim, study: Evidence, keys: Mapping[str, Key], variants: Mapping[str, Sequence[str]],
                 attacked: bool) -> Iterable[Difference]:
    """Everything that sets the study apart from what is claimed."""
    wanted, cell = claim.setting, study.cell
    for kind, here, there in (("dataset", cell.dataset, wanted.datasets), ("model", cell.model, wanted.models)):
        if there is None or here not in there:
            yield Difference(kind, here, " or ".join(there or ()))
    if isfinite(study.images):
        yield Difference("images", f"{study.images:.0f}", "all")
    epochs, trained = wanted.epochs.get(cell.dataset), study.attack_epochs if attacked else study.epochs
    if epochs is not None and epochs != trained:
        yield Difference("epochs", f"{trained:.0f}", str(epochs))
    if study.scenario != wanted.scenario:
        yield Difference("scenario", study.scenario, wanted.scenario)
    elif wanted.forget_share is not None and abs(cell.forget_share - wanted.forget_share) > 1e-9:
        yield Difference("forget_share", f"{cell.forget_share:g}", f"{wanted.forget_share:g}")
    own = {method: key for method, key in keys.items() if method not in queries.REFERENCES}
    if wanted.tuned is not None:
        otherwise = sorted(method for method, key in own.items() if (key in study.tuned) != wanted.tuned)
        if otherwise:
            yield Difference("settings", ", ".join(otherwise), "tuned" if wanted.tuned else "default")
    changed = sorted(method for method, key in own.items() if wanted.released and key[1] != "official" and "official" in variants.get(method, ()))
    if changed:
        yield Difference("variant", ", ".join(changed), "official")
    if attacked and study.calibrated != "passed":
        yield Difference("check", study.calibrated, "passed")
    for words in wanted.otherwise:
        yield Difference("otherwise", "", words)


def _of_figure(rule: Figure, study: Evidence, differences: tuple[Difference, ...], found: Measured, key: Key) -> Reading:
    values = study.cell.values.get(key, {}).get(rule.metric)
    seeds = 0 if values is None else int(pd.notna(values).sum())
    reach = (found.hi - found.lo) / 2 * (sqrt(1 + seeds / rule.seeds) if rule.seeds else 1.0)
    margin = found.value - rule.value
    lo, hi = margin - reach, margin + reach  # NaN where there is no interval: then nothing is told
    state = HELD if -rule.within <= lo and hi <= rule.within else AGAINST if lo > rule.within or hi < -rule.within else OPEN
    return Reading(study.study, differences, state, (found,), margin, lo, hi)


def _of_order(rule: Order, study: Evidence, differences: tuple[Difference, ...], found: Mapping[tuple[str, Side], Measured]) -> Reading:
    than = _other(rule)
    pairs = [(found[a, rule.worse], found[b, than]) for a in rule.worse.methods for b in (than.methods if rule.than.methods else (a,))]
    margins = [_margin(pair, rule.best) for pair in pairs]
    held, against = sum(lo > 0 for lo, _, _ in margins), sum(hi < 0 for _, _, hi in margins)
    state = AGAINST if against else HELD if held >= rule.least * len(pairs) else OPEN
    pick = min if against or rule.least == 1 else max  # the pair that speaks least for the claim, where all of them must hold
    at = pick(range(len(pairs)), key=lambda place: margins[place][1])
    lo, margin, hi = margins[at]
    return Reading(study.study, differences, state, pairs[at], margin, lo, hi, (held, len(pairs)))


def _margin(pair: tuple[Measured, Measured], best: float) -> tuple[float, float, float]:
    """How much worse the first is than the second: (least, by the values, most) that their intervals allow."""
    (low_a, a, high_a), (low_b, b, high_b) = (_loss(number, best) for number in pair)
    return low_a - high_b, a - b, high_a - low_b


def _loss(number: Measured, best: float) -> tuple[float, float, float]:
    """Distance from the best value: (least, value, most) over its interval; NaN ends where it has none."""
    if best == inf:
        return -number.hi, -number.value, -number.lo
    ends = sorted((abs(number.lo - best), abs(number.hi - best)))
    inside = number.lo < best < number.hi
    return 0.0 if inside else ends[0], abs(number.value - best), ends[1]


def _of_noise(rule: Noise, study: Evidence, differences: tuple[Difference, ...], found: Sequence[Measured]) -> Reading:
    parts: list[Measured] = []
    open_ended = False
    for number in found:
        if number.metric == "rte":
            slowest, fastest = (number.value if isnan(end) else end for end in (number.lo, number.hi))
            group = "G1" if slowest > 1 else "G3" if fastest < 1 else ""
        else:
            table = study.cell.table(number.metric)
            entry = table.of((number.method, number.variant))
            group = (entry.group or "") if entry else ""
            open_ended |= table.seeds > 0 and not ranking.can_tell(table.seeds, len(table.entries), one_sided=True)
        parts.append(Measured(number.method, number.variant, number.metric, number.attack, number.value, number.lo, number.hi, group))
    if any(part.group not in ("", "G1") for part in parts):
        state = AGAINST
    else:
        state = OPEN if open_ended or any(not part.group for part in parts) else HELD
    return Reading(study.study, differences, state, tuple(parts))
