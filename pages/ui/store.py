"""The results as pages see them: one read-only connection per state of the files, answers kept until a file changes."""

import sys
from collections.abc import Callable, Hashable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import pandas as pd
import streamlit as st
from duckdb import DuckDBPyConnection

from engine import queue
from engine.store import queries, reader
from engine.store import report as html
from pages.ui.formats import Rows

ROOT = Path(__file__).resolve().parents[2]
SHIPPED = ROOT / "data" / "results.duckdb"
CATALOGUE = ROOT / "data" / "catalogue.json"
REPORTED = ROOT / "data" / "reported"
_MEMORY = "512MB"  # that DuckDB may keep of the files; what it does not, the system does

Answer = TypeVar("Answer")


def ask(question: Callable[..., pd.DataFrame], **arguments: Hashable) -> pd.DataFrame:
    """The answer to a question of `engine.store` (a function of a cursor), as a copy of one's own. Raises: StoreError."""
    home = queue.home()
    return _answer(question.__module__, question.__name__, tuple(sorted(arguments.items())), SHIPPED, home, reader.stamp(SHIPPED, home))


def rows(question: Callable[..., pd.DataFrame], **arguments: Hashable) -> Rows:
    """`ask`, as one mapping a row: what most of a page works on, and ten times faster to go through than a wide frame. Shared, so never
    to be written to."""
    home = queue.home()
    return _rows(question.__module__, question.__name__, tuple(sorted(arguments.items())), SHIPPED, home, reader.stamp(SHIPPED, home))


def stamp() -> Hashable:
    """Changes whenever results are added."""
    return reader.stamp(SHIPPED, queue.home())


def fetch(question: Callable[..., Answer], **arguments: Any) -> Answer:
    """The same without keeping it: for files, which are asked for once. Raises: LetheError."""
    with _connection(SHIPPED, queue.home(), stamp()).cursor() as db:
        return question(db, **arguments)


def report(title: str, run_ids: Sequence[str]) -> str:
    """The report on these stored attacks, a whole HTML file. Raises: LetheError."""
    return html.html(title, fetch(html.evidence, run_ids=run_ids))


def catalogue() -> dict[str, Any]:
    """What exists, as the engine last published it. Raises: StoreError."""
    home = queue.home()
    changed = [path.stat().st_mtime_ns if path.exists() else 0 for path in (CATALOGUE, home / "catalogue.json")]
    return _catalogue(CATALOGUE, home, tuple(changed))


def _plain(column: pd.Series) -> list[Any]:
    """Its values, with None for what is missing; among floats that stays NaN, which can be compared and drawn."""
    return column.tolist() if column.dtype.kind in "fib" else column.astype(object).mask(column.isna(), None).tolist()


@st.cache_resource(max_entries=2, on_release=lambda db: db.close(), show_spinner=False)
def _connection(shipped: Path, home: Path, stamp: Hashable) -> DuckDBPyConnection:
    return reader.open_results(shipped, home, memory=_MEMORY)


@st.cache_data(ttl=600, max_size="200MB", show_spinner=False)
def _answer(module: str, question: str, arguments: tuple[tuple[str, Any], ...], shipped: Path, home: Path, stamp: Hashable) -> pd.DataFrame:
    if getattr(sys.modules[module], question) in queries.EVERYWHERE:
        by_study, nothing = _everywhere(question, shipped, home, stamp)
        return by_study.get(dict(arguments)["study"], nothing)
    with _connection(shipped, home, stamp).cursor() as db:  # a connection shared by threads gives wrong rows
        return getattr(sys.modules[module], question)(db, **dict(arguments))


@st.cache_resource(ttl=600, max_entries=32, show_spinner=False)
def _everywhere(question: str, shipped: Path, home: Path, stamp: Hashable) -> tuple[dict[str, pd.DataFrame], pd.DataFrame]:
    """The answer for every study, and one without rows: whoever looks at one study soon looks at others."""
    with _connection(shipped, home, stamp).cursor() as db:
        found: pd.DataFrame = getattr(queries, question)(db)
    whole = {str(study): rows.drop(columns="study").reset_index(drop=True) for study, rows in found.groupby("study", sort=False)}
    return whole, found.iloc[:0].drop(columns="study")


@st.cache_resource(ttl=600, max_entries=256, show_spinner=False)
def _rows(module: str, question: str, arguments: tuple[tuple[str, Any], ...], shipped: Path, home: Path, stamp: Hashable) -> Rows:
    answer = _answer(module, question, arguments, shipped, home, stamp)
    names, columns = list(answer.columns), [_plain(column) for _, column in answer.items()]  # a list: going through an Index is slow
    return [dict(zip(names, values, strict=True)) for values in zip(*columns, strict=True)]


@st.cache_data(max_entries=4, show_spinner=False)
def _catalogue(shipped: Path, home: Path, changed: tuple[int, ...]) -> dict[str, Any]:
    return queries.catalogue(shipped, home)
