"""The table of methods: numbers to the right with equal decimals, the best and its ties in bold, directions in the header."""

from collections.abc import Callable, Mapping
from typing import Any

import pandas as pd
import streamlit as st
from pandas.io.formats.style import Styler

from pages.ui import findings, formats
from pages.ui.formats import Row, Rows
from pages.ui.theme import Look, look

COLUMNS = ("balanced_accuracy", "mia_test", "test_retention", "forget_accuracy", "retention_deviation", "indiscernibility", "rte",
           "unlearn_s", "image_passes")
_WITH_INTERVAL = ("balanced_accuracy", "test_retention")
_UNRANKED = ("mia_test",)  # a low value of the attack that flatters is no merit


def ordered(rows: Rows) -> list[Row]:
    """Rows as they are shown: retrained, then methods from the one that leaks least, then original."""
    def place(row: Row) -> tuple[int, float, str]:
        leak = row["balanced_accuracy"]
        return {"retrained": 0, "original": 2}.get(row["method"], 1), 1.0 if pd.isna(leak) else abs(leak - 0.5), row["method"]
    return sorted(rows, key=place)


def texts(rows: Rows, looks: Mapping[str, Look]) -> pd.DataFrame:
    """The table as people read it, every cell a text."""
    shown = {"Method": [look(looks, row["method"]).title(row["variant"]) for row in rows]}
    shown |= {formats.METRICS[metric].header: [_cell(row, metric) for row in rows] for metric in COLUMNS}
    return pd.DataFrame({**shown, "Seeds": [formats.number(row["seeds"], "count") for row in rows]})


def styled(rows: Rows, looks: Mapping[str, Look]) -> Styler:
    """Sorts as numbers, reads as texts; the best value of a column and all that cannot be told from it are bold."""
    shown = texts(rows, looks)
    values = pd.DataFrame({"Method": shown["Method"], **{formats.METRICS[m].header: [row[m] for row in rows] for m in COLUMNS},
                           "Seeds": [row["seeds"] for row in rows]})
    bold = {header: [""] * len(rows) for header in values.columns}
    for metric in COLUMNS:
        found = findings.leaders(rows, metric) if formats.METRICS[metric].better and metric not in _UNRANKED else None
        best = [id(row) for row in (found.best, *found.tied)] if found else []
        bold[formats.METRICS[metric].header] = ["font-weight: 700" if id(row) in best else "" for row in rows]
    made = values.style.apply(lambda _: pd.DataFrame(bold, index=values.index), axis=None)
    for metric in COLUMNS:
        made.format(_number(formats.METRICS[metric].kind), subset=[formats.METRICS[metric].header])
    for header in (formats.METRICS[metric].header for metric in _WITH_INTERVAL):
        for at, text in enumerate(shown[header]):
            made.format(_always(text), subset=(at, header))  # the interval is of the row, not of the value alone
    return made


def configured() -> dict[str, Any]:
    """Widths, explanations and alignment of the columns."""
    found: dict[str, Any] = {"Method": st.column_config.TextColumn("Method", pinned=True)}
    for metric in COLUMNS:
        known = formats.METRICS[metric]
        found[known.header] = st.column_config.NumberColumn(known.header, help=f"{known.label}. {known.doc}", alignment="right")
    found["Seeds"] = st.column_config.NumberColumn("Seeds", help="Models with different initial weights behind the means", alignment="right")
    return found


def _cell(row: Row, metric: str) -> str:
    value, low, high = (row[f"{metric}{end}"] for end in ("", "_lo", "_hi"))
    text = formats.number(value, formats.METRICS[metric].kind)
    if metric not in _WITH_INTERVAL or pd.isna(low) or pd.isna(high) or low == high:
        return text
    reach = formats.number((high - low) / 2, formats.METRICS[metric].kind)
    return f"{formats.bare(text)} ± {reach}"


def _number(kind: str) -> Callable[[Any], str]:
    return lambda value: formats.number(value, kind)


def _always(text: str) -> Callable[[object], str]:
    return lambda _: text
