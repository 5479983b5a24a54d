"""The table of methods: numbers to the right with equal decimals, the best and its ties in bold, directions in the header."""

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import pandas as pd
import streamlit as st
from pandas.io.formats.style import Styler

from engine.store import queries, ranks, standings
from pages.ui import findings, formats, trust
from pages.ui.attacks import Matrix, shown
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


def styled(rows: Rows, looks: Mapping[str, Look], doubts: Collection[tuple[str, str]] = ()) -> Styler:
    """Sorts as numbers, reads as texts; the best value of a column and all that cannot be told from it are bold.

    doubts: (method, variant) whose numbers of the checked attack are in doubt: grey, and never bold.
    """
    shown = texts(rows, looks)
    values = pd.DataFrame({"Method": shown["Method"], **{formats.METRICS[m].header: [row[m] for row in rows] for m in COLUMNS},
                           "Seeds": [row["seeds"] for row in rows]})
    css = {header: [""] * len(rows) for header in values.columns}
    for metric in COLUMNS:
        found = findings.leaders(rows, metric) if formats.METRICS[metric].better and metric not in _UNRANKED else None
        best = [id(row) for row in (found.best, *found.tied)] if found else []
        doubtful = [metric in queries.ATTACK_METRICS and (row["method"], row["variant"]) in doubts for row in rows]
        css[formats.METRICS[metric].header] = [f"color: {trust.GREY}" if grey else "font-weight: 700" if id(row) in best else ""
                                                for row, grey in zip(rows, doubtful, strict=True)]
    made = values.style.apply(lambda _: pd.DataFrame(css, index=values.index), axis=None)
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


def standing(table: standings.Table, looks: Mapping[str, Look]) -> pd.DataFrame:
    """A cell by one metric, in order of rank; the last column holds one value a seed, for a sparkline."""
    known = formats.METRICS[table.metric]
    return pd.DataFrame([{
        "Rank": entry.rank, "Method": look(looks, entry.method).title(entry.variant), "Group": entry.group or formats.MISSING,
        known.header: entry.mean, "95 % interval": _range(entry.lo, entry.hi), "Worse than noise by": _above(entry), "p (Holm)": entry.p,
        "Rank, seeds redrawn": _redrawn(entry), "Seeds": [value for value in entry.values if not pd.isna(value)],
    } for entry in table.entries])


def standing_texts(table: standings.Table, looks: Mapping[str, Look]) -> pd.DataFrame:
    """The same as people read it, every cell a text, without the sparkline."""
    shown = standing(table, looks).drop(columns="Seeds", errors="ignore").astype(object)
    for entry, at in zip(table.entries, shown.index, strict=True):
        shown.loc[at, "Rank"] = formats.rank(entry.rank)
        shown.loc[at, formats.METRICS[table.metric].header] = formats.number(entry.mean, formats.METRICS[table.metric].kind)
        shown.loc[at, "p (Holm)"] = formats.number(entry.p, "rate")
    return shown


def standing_configured(table: standings.Table) -> dict[str, Any]:
    """Explanations, and sparklines on one scale for all methods."""
    known, values = formats.METRICS[table.metric], [value for entry in table.entries for value in entry.values if not pd.isna(value)]
    return {
        "Rank": st.column_config.NumberColumn(format="%.4g", help="Shared by methods that paired tests with Holm cannot tell from the best of them"),
        "Group": st.column_config.TextColumn(help="; ".join(f"{group}: {words}" for group, words in formats.GROUPS.items())),
        known.header: st.column_config.NumberColumn(known.header, format="%.3f", help=f"{known.label}. {known.doc}"),
        "Worse than noise by": st.column_config.TextColumn(
            help="Paired by seed with what another retrained model shows; 95 % interval. An interval that reaches far above 0 "
            "means that a difference may be there and was not found."),
        "p (Holm)": st.column_config.NumberColumn(format="%.3f", help="Paired one-sided test of that, adjusted for all methods of the cell"),
        "Rank, seeds redrawn": st.column_config.TextColumn(help="95 % of the ranks of the mean when seeds are drawn anew"),
        "Seeds": st.column_config.LineChartColumn(width=110, help="One value a seed, on the same scale for all methods",
                                                  y_min=min(values, default=0.0), y_max=max(values, default=1.0)),
    }


def overall(rows: Sequence[tuple[ranks.Overall, float]], looks: Mapping[str, Look]) -> pd.DataFrame:
    """Methods over all cells, best score first."""
    return pd.DataFrame([{
        "Method": look(looks, row.method).title(row.variant), "Score ↓": score,
        **{f"{goal.capitalize()} rank": row.ranks[goal] for goal in ranks.GOALS},
        "Within noise in both": f"{row.within} of {formats.counted(row.cells, 'cell')}",
        "Faster than retraining": f"{row.cells - row.slower} of {formats.counted(row.cells, 'cell')}",
        "Consistently good": "yes" if row.consistent else "no",
    } for row, score in rows])


def overall_styled(shown: pd.DataFrame) -> Styler:
    """The same with grey privacy ranks, where the attack behind them is in doubt."""
    numbers: dict[Any, Any] = dict.fromkeys(shown.select_dtypes("number").columns, "{:.2f}")
    return shown.style.map(lambda _: f"color: {trust.GREY}", subset=["Privacy rank"]).format(numbers, na_rep=formats.MISSING)


def overall_texts(shown: pd.DataFrame) -> pd.DataFrame:
    """The same, every cell a text."""
    texts = shown.astype(object)
    for column in shown.select_dtypes("number").columns:
        texts[column] = [formats.MISSING if pd.isna(value) else f"{value:.2f}" for value in shown[column]]
    return texts


def overall_configured() -> dict[str, Any]:
    score = st.column_config.NumberColumn("Score ↓", format="%.2f", help="Weighted mean of the three ranks; ours, 1 is best")
    found: dict[str, Any] = {"Method": st.column_config.TextColumn("Method", pinned=True), "Score ↓": score}
    for goal in ranks.GOALS:
        found[f"{goal.capitalize()} rank"] = st.column_config.NumberColumn(format="%.2f", help="Average over the cells of the rank in each")
    return found


def attacks(made: Matrix, looks: Mapping[str, Look]) -> pd.DataFrame:
    """Every method by every attack, every cell a text with its interval."""
    columns = shown(made)
    return pd.DataFrame([{"Method": look(looks, key[0]).title(key[1]),
                          **{f"{column.title} ({column.best})": cells[column].told if column in cells else formats.MISSING for column in columns}}
                         for key, cells in made.items()])


def exposed(rows: Rows, classes: Mapping[int, str], pictures: Mapping[int, str]) -> pd.DataFrame:
    """Rows of `queries.exposed`, with pictures where there are any."""
    return pd.DataFrame([{
        **({"Picture": pictures.get(row["example"], "")} if pictures else {}), "Example": row["example"],
        "Class": formats.MISSING if pd.isna(row["label"]) else classes.get(row["label"], str(row["label"])),
        "Where chosen": row["chosen"], "Other half": row["reported"], "Retrained": row["retrained"]} for row in rows])


def exposed_texts(shown: pd.DataFrame) -> pd.DataFrame:
    """The same, every cell a text."""
    numbers = shown.select_dtypes("float").columns
    return shown.astype(object).assign(**{column: [formats.number(value, "rate") for value in shown[column]] for column in numbers})


def exposed_configured(pictured: bool) -> dict[str, Any]:
    """Widths and explanations of `exposed`."""
    def rate(words: str, width: int) -> Any:
        return st.column_config.NumberColumn(format="%.3f", help=words, width=width)

    found: dict[str, Any] = {
        "Example": st.column_config.NumberColumn(format="%d", width=64, help="Index into the dataset"),
        "Class": st.column_config.TextColumn(width=48),
        "Where chosen": rate("Balanced accuracy of U-LiRA on the half of the splits that chose it: noise alone looks exposed here", 98),
        "Other half": rate("Balanced accuracy of U-LiRA on the half that had no part in the choice; ½ is best", 76),
        "Retrained": rate("U-LiRA's balanced accuracy on the same example in retrained models, over all splits", 72),
    }
    return {"Picture": st.column_config.ImageColumn("Picture", width=58), **found} if pictured else found


def _range(low: float, high: float) -> str:
    return formats.MISSING if pd.isna(low) or pd.isna(high) else f"{formats.number(low, 'rate')} to {formats.number(high, 'rate')}"


def _above(entry: standings.Entry) -> str:
    return formats.with_interval(entry.above, entry.above_lo, entry.above_hi, "rate").replace("-", "−")


def _redrawn(entry: standings.Entry) -> str:
    if pd.isna(entry.rank_lo):
        return formats.MISSING
    return formats.rank(entry.rank_lo) if entry.rank_lo == entry.rank_hi else f"{formats.rank(entry.rank_lo)} to {formats.rank(entry.rank_hi)}"


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
