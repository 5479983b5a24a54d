"""What is known in several places: the cells of the store, each by one metric, with what is in doubt there."""

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd
import streamlit as st

from engine.store import queries, standings
from engine.store.standings import Cell, Entry, Key, Table
from pages.ui import charts, filters, formats, store, trust
from pages.ui.formats import Row, Rows
from pages.ui.theme import Look

PARTS = " · "  # between the parts of a name that may go below each other
_CANDIDATES = 4  # of studies that are held against another


@dataclass(frozen=True)
class Place:
    """A cell by one metric. name: see PARTS. table: all entries. common: those that are in every place, ranked among themselves.
    doubt: why its attack may not be believed, where the metric is of it; grey: the same by entry."""

    cell: Cell
    name: str
    table: Table
    common: Table
    doubt: str
    grey: Mapping[Key, str]

    @property
    def plain(self) -> str:
        return self.name.replace(PARTS, ", ")

    @property
    def tells(self) -> bool:
        """Whether any two methods can be told apart here."""
        return not all(entry.tied for entry in self.common.entries)


def cells(studies: Rows, chosen: str | None, variant: str) -> list[Cell]:
    """A cell for each dataset, architecture and share to forget, by its largest study or the chosen one. studies: rows of `queries.studies`."""
    return [cell(row, variant) for row in standings.largest(studies, chosen)]


def cell(study: Row, variant: str) -> Cell:
    """What one study knows. variant: as the filters have it."""
    return _cell(_identity(study), None if variant == filters.ALL_VARIANTS else variant, store.stamp())


def home(found: Sequence[Cell], choice: filters.Choice) -> Cell | None:
    """The cell that the filters name."""
    fitting = [one for one in found if (one.dataset, one.model) == (choice.dataset, choice.model)]
    return next((one for one in fitting if one.study == choice.study), fitting[0] if fitting else None)


def places(found: Sequence[Cell], metric: str, catalogue: Mapping[str, Any]) -> list[Place]:
    """The cells that have this metric, each by it."""
    tables = {one.study: by(one, metric) for one in found}
    there = [one for one in found if tables[one.study].entries]
    keys = tuple(key for key in (there[0].keys if there else []) if all(tables[one.study].of(key) for one in there))
    made: list[Place] = []
    for one in there:
        believed = trust.of(one.study) if metric in queries.ATTACK_METRICS else None
        grey = {key: doubt for key, row in one.means.items() if believed and (doubt := believed.doubt(row))}
        made.append(Place(one, named(one, catalogue), tables[one.study], by(one, metric, keys), believed.doubt() if believed else "", grey))
    return made


def other_seeds(studies: Rows, home: Cell, variant: str) -> tuple[Cell, Cell] | None:
    """(one split, varied splits): the cell and a study in the same place whose seeds vary in the other way, with most settings in common;
    None where there is none."""
    count = {row["study"]: int(row["splits"]) for row in store.rows(queries.splits)}
    varied = home.varies == standings.ALL_VARY
    there = [row for row in studies if (row["dataset"], row["model"], row["forget_share"]) == (home.dataset, home.model, home.forget_share)
             and row["study"] in count and (count[row["study"]] > 1) != varied]
    if not there:
        return None
    best = max((cell(row, variant) for row in sorted(there, key=lambda row: -row["done"])[:_CANDIDATES]), key=lambda other: len(alike(home, other)))
    return (best, home) if varied else (home, best)


def alike(one: Cell, other: Cell) -> list[Key]:
    """Entries that ran with the same setting in both."""
    return [key for key in one.keys if key in other.keys and (params := one.means.get(key, {}).get("params")) is not None
            and params == other.means.get(key, {}).get("params")]


def named(found: Cell, catalogue: Mapping[str, Any]) -> str:
    share = [] if found.forget_share == queries.FORGET_SHARE else [f"{100 * found.forget_share:g}{formats.THIN}% forgotten"]
    return PARTS.join((filters.label(found.dataset, catalogue["datasets"]), *filters.label(found.model, catalogue["models"]).split(", "), *share))


def where(names: Sequence[str]) -> str:
    """Cells in a sentence: by name, or how many."""
    return f"{'; '.join(names[:-1])} and {names[-1]}" if 1 < len(names) < 4 else names[0] if len(names) == 1 else formats.counted(len(names), "cell")


def by(found: Cell, metric: str, keys: Iterable[Key] | None = None) -> Table:
    """`Cell.table`, where a speed-up without an interval has the range of the repeats."""
    made = found.table(metric, keys)
    if metric != "rte":
        return made
    spans = {entry.key: standings.time_share(found, entry.key) for entry in made.entries}
    return replace(made, entries=tuple(replace(entry, lo=1 / spans[entry.key][2], hi=1 / spans[entry.key][1]) if pd.isna(entry.lo) else entry
                                       for entry in made.entries))


def told(entry: Entry, place: Place, looks: Mapping[str, Look]) -> str:
    """Where an entry stands, for readers of the screen and for tooltips."""
    grey = f"; not settled: {place.grey[entry.key]}" if entry.key in place.grey else ""
    stood = charts.stood(entry, place.table.metric, looks).replace(f"rank {formats.MISSING}, ", "")  # references have none
    return f"{place.plain}: {stood}{grey}"


def _identity(study: Mapping[Any, Any]) -> tuple[str, str, str, float]:
    return str(study["study"]), str(study["dataset"]), str(study["model"]), float(study["forget_share"])


@st.cache_resource(max_entries=256, show_spinner=False)
def _cell(study: tuple[str, str, str, float], variant: str | None, stamp: Hashable) -> Cell:
    known = dict(zip(("study", "dataset", "model", "forget_share"), study, strict=True))
    return standings.cell(known, *(store.ask(question, study=study[0]) for question in standings.EVIDENCE), variant=variant)
