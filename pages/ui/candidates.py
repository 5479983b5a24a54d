"""Which methods meet which constraints, and by what evidence: the upper end of an interval decides, never the mean. Pure but for `cases`."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import pandas as pd

from engine.store import queries, standings
from engine.store.standings import Cell, Key
from pages.ui import attacks, store, trust

Outcome = Literal["met", "missed", "unknown"]
Status = Literal["meets", "partly", "almost", "unknown", "fails"]

SPLITS = ("retain", "forget", "val")  # what a method may read
NUMBERS = ("time", "accuracy", "exposure")  # constraints by a number; the other is data
AGAINST = {"u_lira": "Forgotten or never seen (U-LiRA)", "versus_retrained": "Unlearned or retrained"}
_ORDER: tuple[Status, ...] = ("meets", "partly", "almost", "unknown", "fails")
_NEAR = 2.0  # times the limit: as far as a miss may be to count as almost
_NAN = float("nan")


@dataclass(frozen=True)
class Limits:
    """What can be accepted. time: of retraining's. loss: of test accuracy, a fraction. exposure: of balanced accuracy, from ½, to either side.
    against: a key of AGAINST. data: of SPLITS, what there is to read."""

    time: float
    loss: float
    exposure: float
    against: str
    data: tuple[str, ...]

    def of(self, constraint: str) -> float:
        return {"time": self.time, "accuracy": self.loss, "exposure": self.exposure}[constraint]


@dataclass(frozen=True)
class Evidence:
    """A number with its interval, larger = worse. place: the cell, in words. why: why it does not count as evidence, else empty."""

    place: str
    value: float
    lo: float
    hi: float
    why: str = ""


@dataclass(frozen=True)
class Finding:
    """One constraint. worst: the evidence with the highest upper end; where there is none, a number that does not count, or None.
    limit: what is allowed, NaN for data. places: in how many of the cells there is evidence. why: why it is not known, or what is missing."""

    outcome: Outcome
    limit: float = _NAN
    worst: Evidence | None = None
    places: int = 0
    why: str = ""


@dataclass(frozen=True)
class Candidate:
    """A method. findings: of NUMBERS and `data`. cells: in how many it was run, of how many. failed: where and why, else empty. tight: its
    highest upper end as a share of what is allowed; infinite where nothing is. near: whether what it misses it misses by little."""

    key: Key
    findings: Mapping[str, Finding]
    cells: int
    of: int
    failed: str
    tight: float
    near: bool

    @property
    def known(self) -> int:
        """In how many cells there is evidence on every constraint by a number, at most."""
        return min(self.findings[name].places for name in NUMBERS)

    @property
    def missed(self) -> list[str]:
        return [name for name, found in self.findings.items() if found.outcome == "missed"]

    @property
    def unknown(self) -> list[str]:
        return [name for name, found in self.findings.items() if found.outcome == "unknown"]

    @property
    def status(self) -> Status:
        """meets: every constraint, in every cell. partly: in every cell that has evidence, which are not all. almost: all constraints but one,
        and that one by little. unknown: misses none, but has no evidence at all of one."""
        if self.failed or len(self.missed) > 1 or (self.missed and self.unknown):
            return "fails"
        if self.missed:
            return "almost" if self.near else "fails"
        if self.unknown:
            return "unknown"
        return "meets" if self.known == self.of else "partly"


@dataclass(frozen=True)
class Case:
    """A cell and how exposed its methods are there. retrained: the same of retrained models, where it can be had."""

    cell: Cell
    name: str
    exposure: Mapping[Key, Evidence] = field(default_factory=dict[Key, Evidence])
    retrained: Evidence | None = None


def cases(cells: Sequence[Cell], names: Mapping[str, str], against: str) -> list[Case]:
    """Reads what attacks found. names: of cells, by study."""
    return [_case(cell, names[cell.study], against) for cell in cells]


def judged(found: Sequence[Case], limits: Limits, reads: Mapping[str, Sequence[str]], methods: Iterable[str] = ()) -> list[Candidate]:
    """Every method that was run in any cell, best first. reads: of methods, by name. methods: only these; none is all."""
    wanted = set(methods)
    keys = sorted({key for case in found for key in (*case.cell.keys, *case.cell.waiting) if not wanted or key[0] in wanted})
    made = [_candidate(key, found, limits, reads.get(key[0])) for key in keys]
    return sorted(made, key=lambda one: (_ORDER.index(one.status), len(one.missed), -one.cells, one.tight, one.key))


def apart(value: float, lo: float, hi: float) -> tuple[float, float, float]:
    """How far a balanced accuracy is from ½, to either side, with its interval; NaN ends stay."""
    ends = sorted((abs(lo - 0.5), abs(hi - 0.5)))
    if pd.isna(lo) or pd.isna(hi):
        return abs(value - 0.5), _NAN, _NAN
    return abs(value - 0.5), 0.0 if lo <= 0.5 <= hi else ends[0], ends[1]


def _case(cell: Cell, name: str, against: str) -> Case:
    believed = trust.of(cell.study)
    if against == "u_lira":
        spans = {key: tuple(row[f"balanced_accuracy{end}"] for end in ("", "_lo", "_hi")) for key, row in cell.means.items()}
    else:
        rows = attacks.of_attack(attacks.numbers(store.rows(queries.attacks, study=cell.study)), against)
        spans = {key: (row["value"], row["lo"], row["hi"]) for key, names in rows.items() if (row := names.get("balanced_accuracy"))}
    made = {key: Evidence(name, *apart(*span), why=believed.doubt(cell.means[key]) or ("too few models for an interval" if pd.isna(span[1]) else ""))
            for key, span in spans.items() if not pd.isna(span[0])}
    return Case(cell, name, made, made.get(("retrained", "corrected")))


def _candidate(key: Key, found: Sequence[Case], limits: Limits, reads: Sequence[str] | None) -> Candidate:
    mine = [case for case in found if key in case.cell.keys or key in case.cell.waiting]
    numbers = {"time": [Evidence(case.name, *standings.time_share(case.cell, key)) for case in mine],
               "accuracy": [Evidence(case.name, *standings.accuracy_loss(case.cell, key)) for case in mine if key not in case.cell.waiting],
               "exposure": [case.exposure[key] for case in mine if key in case.exposure]}
    findings = {name: _found(evidence, limits.of(name)) for name, evidence in numbers.items()} | {"data": _access(reads, limits.data)}
    failed = next((f"{case.cell.failed[key]} in {case.name}" for case in mine if key in case.cell.failed), "")
    known = [(one.worst, one.limit) for one in findings.values() if one.worst and one.outcome != "unknown"]
    tight = max((_use(worst.hi, limit) for worst, limit in known), default=0.0)
    near = all(worst.hi <= limit or _by_little(worst, limit) for worst, limit in known)
    return Candidate(key, findings, len(mine), len(found), failed, tight, near)


def _found(evidence: Sequence[Evidence], limit: float) -> Finding:
    """The worst cell counts."""
    there = [one for one in evidence if not pd.isna(one.value)]
    sound = [one for one in there if not one.why and not pd.isna(one.hi)]
    if not sound:
        why = next((one.why for one in there if one.why), "no interval: it takes two or more" if there else "not measured")
        return Finding("unknown", limit, there[0] if there else None, 0, why)
    worst = max(sound, key=lambda one: one.hi)
    return Finding("met" if worst.hi <= limit else "missed", limit, worst, len(sound))


def _access(reads: Sequence[str] | None, data: Sequence[str]) -> Finding:
    if reads is None:
        return Finding("unknown", why="it is not in the catalogue, so what it reads is not known")
    missing = [split for split in SPLITS if split in reads and split not in data]
    return Finding("missed" if missing else "met", why=" and ".join(missing))


def _use(upper: float, limit: float) -> float:
    return upper / limit if limit > 0 else 0.0 if upper <= 0 else float("inf")


def _by_little(worst: Evidence, limit: float) -> bool:
    """At most _NEAR times what is allowed, or the mean alone would do."""
    return worst.hi <= _NEAR * limit or worst.value <= limit
