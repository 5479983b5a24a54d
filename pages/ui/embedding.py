"""Where examples lie among a network's features, and what of it is more than a picture: the centre AUC."""

from collections.abc import Mapping, Sequence

import pandas as pd

from pages.ui import formats, vega
from pages.ui.classes import Names, named
from pages.ui.formats import METRICS, Row, Rows, number
from pages.ui.theme import Look, Style, look
from pages.ui.vega import Span, Spec

AUC, VARIANCE = "embedding_auc", "embedding_variance"
ORDER = ("retain", "test", "forget")  # drawn over each other
SHAPES = {"retain": "circle", "test": "triangle-up", "forget": "diamond"}
FORGET = "#d55e00"


def hues(style: Style) -> dict[str, str]:
    """By set; apart with any colour vision, and the shapes are others too."""
    return {"retain": style.faint, "test": style.accent, "forget": FORGET}


def models(rows: Rows, method: str, variant: str) -> list[tuple[str, str]]:
    """Which of original, method and retrained there are, in this order. rows: of `insides.embedding`."""
    there = {(row["method"], row["variant"]) for row in rows}
    return [key for key in (("original", "corrected"), (method, variant), ("retrained", "corrected")) if key in there]


def spans(rows: Rows) -> tuple[Span, Span]:
    """Ranges of both axes over all models, which makes their pictures comparable."""
    across, up = (vega.reach([row[axis] for row in rows], pad=0.04) for axis in ("x", "y"))
    return across, up


def panel(rows: Rows, key: tuple[str, str], looks: Mapping[str, Look], style: Style, names: Names, reach: tuple[Span, Span], *,
          size: tuple[int, int] = (260, 260), heading: bool = False) -> Spec:
    """One model's examples on two principal components: forget diamonds, test triangles, retain circles."""
    hue = hues(style)
    data = sorted(({"x": row["x"], "y": row["y"], "set": row["set"], "class": named(int(row["label"]), names), "example": row["example"]}
                   for row in rows if (row["method"], row["variant"]) == key), key=lambda point: ORDER.index(point["set"]))
    axis = {"ticks": False, "labels": False, "grid": False, "domain": True, "domainColor": style.faint}
    at = {end: {"field": end, "type": "quantitative", "scale": {"domain": list(span), "nice": False, "zero": False},
                "axis": {**axis, "title": f"{place} component" if heading or end == "x" else None}}
          for end, place, span in (("x", "First", reach[0]), ("y", "Second", reach[1]))}
    legend = {"title": None, "orient": "bottom", "labelFontSize": style.text, "labelColor": style.ink}
    by = {"field": "set", "type": "nominal", "legend": legend if heading else None}
    mark = {**at, "color": {**by, "scale": {"domain": list(ORDER), "range": [hue[name] for name in ORDER]}},
            "shape": {**by, "scale": {"domain": list(ORDER), "range": [SHAPES[name] for name in ORDER]}},
            "tooltip": [{"field": field, "title": title} for field, title in (("set", "Set"), ("class", "Class"), ("example", "Example"))]}
    title = {"title": look(looks, key[0]).title(key[1])} if heading else {}
    return vega.chart(data, [vega.layer("point", mark, filled=True, size=style.point / 4, opacity=0.75)], width=size[0], height=size[1], **title)


def told(run: Row | None, row: Row | None) -> str:
    """What the picture of one model does not tell. run: of `queries.seed_runs`, that model; row: of `queries.results`, all seeds."""
    if run is None or pd.isna(run[AUC]):
        return ""
    known = row is not None and not pd.isna(row[f"{AUC}_lo"])
    every = f"; over seeds {formats.with_interval(row[AUC], row[f'{AUC}_lo'], row[f'{AUC}_hi'], 'rate')}" if row is not None and known else ""
    return f"{METRICS[AUC].short} {number(run[AUC], 'rate')}{every}. The two axes hold {number(run[VARIANCE], 'share')} of the variance."


def answer(near: Row | None, rows: Rows, title: str, way: str) -> str:
    """Whether forgetting shows among the features, by the centre AUC over all seeds. near: of `queries.nearer`; way: its verdict; rows: of
    `queries.results`, the method's, the original's and the retrained one's."""
    values = {row["method"]: number(row[AUC], "rate") for row in rows if not pd.isna(row[AUC])}
    if near is None or len(values) < 3:
        return "Whether forgetting shows among the features cannot be said: that takes original, retrained and unlearned models of the same seeds."
    held = {"nearer": "nearer to retrained models than the original was", "further": "further from retrained models than the original was"}
    mine = next(value for method, value in values.items() if method not in ("original", "retrained"))
    return (f"**By how near forget examples lie to class centres {title} is {held.get(way, 'not told apart from the original')}**: "
            f"centre AUC {mine}, retrained {values['retrained']}, original {values['original']}.")


def about(rows: Rows, key: tuple[str, str], looks: Mapping[str, Look], words: str) -> str:
    """`panel` for those who do not see it."""
    mine = [row["set"] for row in rows if (row["method"], row["variant"]) == key]
    counts = ", ".join(f"{mine.count(name)} {name}" for name in ("forget", "test", "retain"))
    return f"{look(looks, key[0]).title(key[1])}: {counts} examples on two principal components of the features. {words}"


def frame(rows: Rows, names: Names) -> pd.DataFrame:
    """Every point, for CSV."""
    made = pd.DataFrame(rows)
    return made.assign(class_name=[named(int(label), names) for label in made["label"]])


def counted(rows: Rows, looks: Mapping[str, Look], keys: Sequence[tuple[str, str]]) -> pd.DataFrame:
    """How many examples of each set are shown, all texts."""
    return pd.DataFrame([{"Model": look(looks, key[0]).title(key[1]),
                          **{formats.sentence(name): str(sum(row["set"] == name and (row["method"], row["variant"]) == key for row in rows))
                             for name in ("forget", "test", "retain")}} for key in keys])
