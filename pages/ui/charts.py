"""Rows in, chart out: pure functions, the same for screen and paper, tested with no browser.

A chart is a Vega-Lite mapping, the grammar that altair writes. Written directly, both panels of Compare take 10 ms a redraw;
made and checked through altair they took 350 ms. The tests check every chart against altair's schema instead.
"""

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import floor, log10, sqrt
from typing import Any

import pandas as pd

from engine.store.ranks import Comparison
from engine.store.standings import Entry, Key, Table
from pages.ui import formats, labels, theme, tradeoffs, vega
from pages.ui.formats import Row, Rows
from pages.ui.theme import Look, Style, look
from pages.ui.vega import Span, Spec

PICK, BRUSH = "picked", "brushed"  # names of the selections that pages listen to: a click, and a box
MANY = 24  # more names than this in one panel cannot be read
_SHADES = {"G1": 0.85, "G2": 0.42, "G3": 0.14, "F": 0.0}  # of the accent; the group is written on it, too
_ROUND = (1, 3)  # of each decade, on a log scale
_OF_RETRAINING = ("rte", "retain_retention", "forget_retention", "val_retention", "test_retention")  # 1 is what retraining has
_UNITS = {"times": "×", "seconds": " s"}
_STEP = 24  # px, between boxes along a line: the length of a short name
_FADED = 0.25  # of its colour, what is not picked or in the box
_SMALLEST, _LARGEST = 0.4, 3.0  # areas of marks that show a third metric, in those of others


def points(results: Rows, looks: Mapping[str, Look], x: str, y: str, size: str | None = None) -> list[dict[str, Any]]:
    """One mapping per row of `queries.results` that has all these metrics: key `method/variant`, name, colour, shape, x, y, their
    `_lo` and `_hi`, size, and each metric in words as `_told`. The retrained model is left out: it is the line that others are held against."""
    found = []
    axes = {"x": x, "y": y, **({"size": size} if size else {})}
    for row in results:
        if row["method"] == "retrained" or any(pd.isna(row[metric]) for metric in axes.values()):
            continue
        known = look(looks, row["method"])
        point = {"key": f"{row['method']}/{row['variant']}", "name": known.title(row["variant"]), "colour": known.colour,
                 "shape": known.shape}
        for axis, metric in axes.items():
            point[axis] = row[metric]
            for end in ("_lo", "_hi"):
                point[axis + end] = row[metric] if pd.isna(row[metric + end]) else row[metric + end]
            point[f"{axis}_told"] = told(row, metric)
        facts = {formats.METRICS[metric].label: point[f"{axis}_told"] for axis, metric in axes.items()}
        point["about"] = "; ".join([point["name"], *(f"{label} {words}" for label, words in facts.items())])
        found.append(point)
    return found


def told(row: Row, metric: str) -> str:
    """A metric of a row in words, with its interval."""
    return formats.with_interval(row[metric], row[f"{metric}_lo"], row[f"{metric}_hi"], formats.METRICS[metric].kind)


@dataclass(frozen=True)
class Panel:
    """From values to pixels, y downwards. log, steep: whether x and y are on log scales."""

    size: tuple[int, int]
    span: Span
    rise: Span
    log: bool
    steep: bool = False

    def across(self, value: float) -> float:
        return self.size[0] * _along(value, self.span, self.log)

    def value(self, across: float) -> float:
        low, high = (log10(v) if self.log else v for v in self.span)
        at = low + across / self.size[0] * (high - low)
        return 10 ** at if self.log else at

    def down(self, value: float) -> float:
        return self.size[1] * (1 - _along(value, self.rise, self.steep))

    def obstacles(self, data: Sequence[Mapping[str, Any]], radius: float) -> list[labels.Box]:
        """Whiskers and marks as boxes."""
        found = []
        for p in data:
            x, y = self.across(p["x"]), self.down(p["y"])
            found += [(self.across(p["x_lo"]), y - 1, self.across(p["x_hi"]), y + 1),
                      (x - 1, self.down(p["y_hi"]), x + 1, self.down(p["y_lo"])), (x - radius, y - radius, x + radius, y + radius)]
        return found

    def cross(self, at: float, level: float) -> list[labels.Box]:
        """A line upwards at x and one across at y, as boxes; none where that is not known."""
        return [*([] if pd.isna(at) else [(self.across(at) - 1, 0.0, self.across(at) + 1, float(self.size[1]))]),
                *([] if pd.isna(level) else [(0.0, self.down(level) - 1, float(self.size[0]), self.down(level) + 1)])]

    def path(self, data: Sequence[Mapping[str, Any]]) -> list[labels.Box]:
        """The line through these points as small boxes."""
        spots, found = [(self.across(p["x"]), self.down(p["y"])) for p in data], []
        for (x, y), (to_x, to_y) in pairwise(spots):
            steps = max(1, round(max(abs(to_x - x), abs(to_y - y)) / _STEP))
            found += [(x + at / steps * (to_x - x) - 1, y + at / steps * (to_y - y) - 1, x + at / steps * (to_x - x) + 1,
                       y + at / steps * (to_y - y) + 1) for at in range(1, steps)]
        return found


def tradeoff(results: Rows, looks: Mapping[str, Look], style: Style, *, x: str, y: str = "test_retention", area: str | None = None,
             size: tuple[int, int] = (340, 350), picked: str | None = None, brushed: Collection[str] = (), box: bool = False,
             y_span: Span | None = None) -> Spec:
    """One panel: two metrics against each other, with intervals, names, where retraining stands and the Pareto front (`tradeoffs.front`).

    area: a third metric, as the size of the marks, with a legend; what lacks it is not drawn. picked, brushed: `method/variant` to stand out.
    box: whether BRUSH can be drawn in it, which is for screens alone.
    """
    data = points(results, looks, x, y, area)
    lit = {*brushed, *([picked] if picked else [])}
    data.sort(key=lambda p: (p["key"] in lit, p["key"] == picked))  # drawn last, over their neighbours
    for p in data:
        p["ink"] = style.ink
        if lit and p["key"] not in lit:  # mixed here: PDF files hold marks that one can see through in no certain order
            p["colour"], p["ink"] = theme.mixed(p["colour"], style.page, _FADED), theme.mixed(style.ink, style.page, _FADED)
    (log, best), (steep, level) = (_nature(metric, results) for metric in (x, y))
    band = _interval_of_retraining(results, x)
    span = vega.reach([p[f"x{end}"] for p in data for end in ("_lo", "_hi")] + [best, *band], log)
    rise = y_span or reach_of(results, y)
    at_x, at_y = position("x", x, span, log), position("y", y, rise, steep)
    panel = Panel(size, span, rise, log, steep)
    ring = {"condition": {"test": f"datum.key === {json.dumps(picked)}", "value": style.ink}, "value": style.page} if picked else {"value": style.page}
    spot = {**vega.COLOUR, "legend": None}
    front = _front(results, data, x, y)
    layers, taken = _references(best, level, band, (_word(x), _word(y)), at_x, at_y, panel, data, style)
    whisker = {"color": spot}
    mark = {"x": at_x, "y": at_y, "fill": spot, "stroke": ring, "shape": {**vega.SHAPE, "legend": None},
            **({"size": _area(area, results, style, size[0])} if area else {}), "tooltip": _tips(x, y, *([area] if area else [])), **vega.ABOUT}
    spread: Spec = {} if area else {"size": style.point}
    click = {"name": PICK, "select": {"type": "point", "fields": ["key"], "on": "click", "clear": "dblclick"}}
    frame = {"name": BRUSH, "select": {"type": "interval", "encodings": ["x", "y"], "zoom": False,
                                       "mark": {"fill": style.ink, "fillOpacity": 0.08, "stroke": style.muted, "strokeOpacity": 1}}}
    layers += [vega.layer("line", {"x": at_x, "y": at_y, "order": {"field": "place", "type": "quantitative"}}, front, color=style.muted,
                          strokeWidth=0.7 * style.stroke),
               vega.layer("rule", {"x": {**at_x, "field": "x_lo"}, "x2": {"field": "x_hi"}, "y": at_y, **whisker}, strokeWidth=style.stroke),
               vega.layer("rule", {"y": {**at_y, "field": "y_lo"}, "y2": {"field": "y_hi"}, "x": at_x, **whisker}, strokeWidth=style.stroke),
               {**vega.layer("point", mark, filled=True, opacity=1, strokeWidth=style.stroke, cursor="pointer", **spread),
                "params": [click, *([frame] if box else [])]}]
    lines = [*panel.cross(best, level), *taken, *panel.path(front)]
    layers += _names(data[:MANY], at_x, at_y, panel, lines, style, sqrt((_LARGEST if area else 1) * style.point) / 2)
    return vega.chart(data, layers, width=size[0], height=size[1])


def reach_of(results: Rows, metric: str) -> Span:
    """The range that shows a metric of all methods with their intervals, and where retraining stands."""
    log, level = _nature(metric, results)
    others = [row for row in results if row["method"] != "retrained"]
    return vega.reach([row[f"{metric}{end}"] for row in others for end in ("", "_lo", "_hi")] + [level], log)


def ranking(results: Rows, looks: Mapping[str, Look], style: Style, metric: str, *, beside: str | None = None,
            width: int = 280, heading: str | None = None) -> Spec:
    """Methods in the order of one metric, best on top, original last, with intervals; retraining is the line.

    beside: a second metric, drawn hollow in the same row and on the same scale.
    """
    data = points(results, looks, metric, metric)
    log, best = _nature(metric, results)
    data.sort(key=lambda p: (p["key"].startswith("original/"), abs(p["x"] - best) if formats.METRICS[metric].better == "half" else -p["x"]))
    band = _interval_of_retraining(results, metric)
    second = points(results, looks, metric, beside) if beside else []
    span = vega.reach([*(p[end] for p in data for end in ("x_lo", "x_hi")), *(p["y"] for p in second), best, *band], log)
    at_x = position("x", metric, span, log, ticks=4)
    at_y = vega.rows("name", [p["name"] for p in data], style)
    spot = {**vega.COLOUR, "legend": None}
    layers = _line(best, band, at_x, style)
    if second and beside:
        hollow = {"x": {**at_x, "field": "y"}, "y": at_y, "stroke": spot, "tooltip": _tips(metric, beside), **vega.ABOUT}
        layers += [vega.layer("rule", {"x": at_x, "x2": {"field": "y"}, "y": at_y}, second, color=style.faint, strokeWidth=style.stroke),
                   vega.layer("point", hollow, second, size=0.6 * style.point, strokeWidth=style.stroke, fill=style.page, opacity=1)]
    mark = {"x": at_x, "y": at_y, "fill": spot, "shape": {**vega.SHAPE, "legend": None}, "tooltip": _tips(metric), **vega.ABOUT}
    whisker = {"x": {**at_x, "field": "x_lo"}, "x2": {"field": "x_hi"}, "y": at_y, "color": spot}
    layers += [vega.layer("rule", whisker, strokeWidth=1.6 * style.stroke),
               vega.layer("point", mark, filled=True, size=style.point, opacity=1, stroke=style.page, strokeWidth=0.6 * style.stroke)]
    head = {"title": heading} if heading else {}
    return vega.chart(data, layers, width=width, height=style.row * max(len(data), 1), **head)


def strip(groups: Mapping[str, tuple[str, Sequence[float]]], style: Style, metric: str, *, mine: float | None = None,
          width: int = 420) -> Spec:
    """Single runs on one metric, a row a group, and one's own run as a line through all of them. groups: name -> (colour, values)"""
    rows = [{"group": name, "colour": colour, "value": value}
            for name, (colour, values) in groups.items() for value in values if not pd.isna(value)]
    chance = [0.5] if formats.METRICS[metric].better == "half" else []
    span = vega.reach([row["value"] for row in rows] + ([] if mine is None or pd.isna(mine) else [mine]) + chance, pad=0.1)
    at_x = {**position("x", metric, span), "field": "value"}
    at_y = vega.rows("group", list(groups), style)
    layers = _line(0.5, [], at_x, style) if chance else []
    spot = {"x": at_x, "y": at_y, "fill": {**vega.COLOUR, "legend": None}}
    layers.append(vega.layer("point", spot, filled=True, size=style.point / 2, opacity=0.7))
    if mine is not None and not pd.isna(mine):
        layers.append(vega.layer("rule", {"x": at_x}, [{"value": mine}], color=style.accent, strokeWidth=2 * style.stroke))
    return vega.chart(rows, layers, width=width, height=style.row * max(len(groups), 1))


def curves(rows: Sequence[Mapping[str, Any]], style: Style, *, size: tuple[int, int] = (420, 200)) -> Spec:
    """What a run logs while it works: one line a quantity. rows: epoch int | name str | value float"""
    names = list(dict.fromkeys(row["name"] for row in rows))
    last = max((row["epoch"] for row in rows), default=0)
    at_x = {"field": "epoch", "type": "quantitative", "scale": {"domain": [0, max(last, 1)], "nice": False},
            "axis": {"title": "Epoch", "tickMinStep": 1, "tickCount": min(last + 1, 10), "format": "d"}}
    at_y = {"field": "value", "type": "quantitative", "axis": {"title": None, "tickCount": 5},
            "scale": {"domain": list(vega.reach([row["value"] for row in rows])), "nice": False, "zero": False}}
    hue = {"field": "name", "type": "nominal", "scale": {"domain": names, "range": [style.accent, "#d55e00", "#009e73", "#9467bd", "#b8860b"]},
           "legend": {"title": None, "orient": "top", "labelFontSize": style.label, "labelColor": style.ink, "symbolType": "stroke"}}
    channels = {"x": at_x, "y": at_y, "color": hue}
    layers = [vega.layer("line", channels, strokeWidth=1.4 * style.stroke), vega.layer("point", channels, filled=True, size=style.point / 4)]
    return vega.chart(rows, layers, width=size[0], height=size[1])


def standing(table: Table, looks: Mapping[str, Look], style: Style, *, width: int = 420, heading: str | None = None) -> Spec:
    """Methods of a cell by one metric, in order of rank, with their groups: every seed small, the mean with its interval.

    Shaded: what retraining shows by chance; the line is retraining itself. Retention Deviation stands on a square-root axis.
    """
    known = formats.METRICS[table.metric]
    rows = [_stands(entry, table.metric, looks) for entry in table.entries]
    data, failed = [row for row in rows if not pd.isna(row["x"])], [row for row in rows if pd.isna(row["x"])]
    seeds = [{**row, "x": value} for row, entry in zip(rows, table.entries, strict=True) for value in entry.values if not pd.isna(value)]
    ends = [row[end] for row in data for end in ("x_lo", "x_hi")]
    low, high = vega.reach([*ends, *(row["x"] for row in seeds), table.floor, table.limit])
    root = table.metric == "retention_deviation"
    span = (0.0, high) if root else (low, min(high, 1.0) if known.better == "up" else high)
    at_x, at_y = position("x", table.metric, span), vega.rows("label", [row["label"] for row in rows], style)
    if root:
        at_x["scale"]["type"], at_x["axis"]["title"] = "sqrt", f"{known.label} (lower is better; square-root axis)"
    best = span[0] if known.better == "down" else span[1]
    band = [] if pd.isna(table.limit) else sorted((best, table.limit))
    spot, shape = {**vega.COLOUR, "legend": None}, {**vega.SHAPE, "legend": None}
    whisker = {"x": {**at_x, "field": "x_lo", "scale": {**at_x["scale"], "clamp": True}}, "x2": {"field": "x_hi"}, "y": at_y, "color": spot}
    tips = [{"field": "label", "title": "Method"}, {"field": "value", "title": known.label}]
    mark = {"x": at_x, "y": at_y, "fill": spot, "shape": shape, "tooltip": tips, **vega.ABOUT}
    layers = [*(_line(table.floor, band, at_x, style) if band else []),
              vega.layer("point", {"x": at_x, "y": at_y, "fill": spot}, seeds, filled=True, size=style.point / 4, opacity=0.35),
              vega.layer("rule", whisker, data, strokeWidth=1.6 * style.stroke),
              vega.layer("point", mark, data, filled=True, size=style.point, opacity=1, stroke=style.page, strokeWidth=0.6 * style.stroke),
              vega.layer("text", {"x": {**at_x, "field": "from"}, "y": at_y}, [{**row, "from": span[0]} for row in failed], text="no numbers",
                     align="left", color=style.muted, fontSize=style.text, dx=style.text / 3)]
    return vega.chart(rows, layers, width=width, height=style.row * max(len(rows), 1), **({"title": heading} if heading else {}))


def grid(tables: Mapping[str, Table], order: Sequence[Key], looks: Mapping[str, Look], style: Style, *, width: int = 420,
         heading: str | None = None) -> Spec:
    """Group and rank of every method (rows, in this order) in every cell (columns): the darker, the nearer to retraining.

    tables: name of a column, of parts with ` · ` between, which go below each other -> the cell by one metric.
    """
    names = {key: look(looks, key[0]).title(key[1]) for key in order}
    room, lines = width / max(len(tables), 1), max((name.count(" · ") for name in tables), default=0)
    data = [{"column": column, "name": names[entry.key], "group": formats.GROUPS[entry.group], "rank": formats.rank(entry.rank),
             "text": f"{entry.group} · {formats.rank(entry.rank)}" if room > 5 * style.label else entry.group, "shade": _SHADES[entry.group],
             "ink": style.page if entry.group == "G1" else style.ink, "about": stood(entry, table.metric, looks)}
            for column, table in tables.items() for entry in table.entries if entry.key in names and entry.group]
    axis = {"title": None, "grid": False, "orient": "top", "labelAngle": 0, "labelColor": style.ink, "labelFontSize": style.text,
            "labelExpr": "split(datum.label, ' · ')", "labelLimit": room, "labelOverlap": False, "labelPadding": (0.4 + 1.2 * lines) * style.text}
    at_x = {"field": "column", "type": "nominal", "sort": list(tables), "scale": {"domain": list(tables), "padding": 0.06}, "axis": axis}
    at_y = vega.rows("name", [names[key] for key in order], style)
    at_y["scale"]["padding"] = 0.06
    place = {"x": at_x, "y": at_y}
    shade, ink = ({"field": field, "type": kind, "scale": None} for field, kind in (("shade", "quantitative"), ("ink", "nominal")))
    tips = [{"field": field, "title": title} for field, title in (("name", "Method"), ("column", "Cell"), ("group", "Group"), ("rank", "Rank"))]
    layers = [vega.layer("rect", {**place, "opacity": shade, "tooltip": tips, **vega.ABOUT}, color=style.accent, cornerRadius=3),
              vega.layer("rect", place, filled=False, stroke=style.faint, strokeWidth=0.6 * style.stroke, cornerRadius=3),
              vega.layer("text", {**place, "text": {"field": "text"}, "color": ink}, fontSize=style.label)]
    return vega.chart(data, layers, width=width, height=style.row * max(len(order), 1), **({"title": heading} if heading else {}))


def critical(compared: Comparison, looks: Mapping[str, Look], style: Style, *, width: int = 420, heading: str | None = None) -> Spec:
    """Critical-difference diagram: average ranks over cells, best on top; a bar on the left joins methods that cannot be told apart."""
    assert compared.across is not None
    average, known = compared.across.average, {key: look(looks, key[0]) for key in compared.keys}
    rows = [{"name": known[key].title(key[1]), "rank": rank, "colour": known[key].colour, "shape": known[key].shape,
             "about": f"{known[key].title(key[1])}: average rank {rank:.2f}"}
            for rank, key in sorted(zip(average.tolist(), compared.keys, strict=True))]
    ruler = f"critical difference {compared.across.critical:.1f}"
    bars, step = compared.cliques, 0.04 * (len(rows) - 1)
    span = (1 - step * (len(bars) + 1), len(rows) + step)
    at_x = {"field": "rank", "type": "quantitative", "scale": {"domain": list(span), "nice": False, "zero": False, "clamp": True},
            "axis": {"title": f"Average rank over {compared.cells} cells (1 is best)", "values": list(range(1, len(rows) + 1, 1 + len(rows) // 12))}}
    at_y = vega.rows("name", [ruler, *(row["name"] for row in rows)], style)
    joined = [{"rank": 1 - step * (at + 1), "name": rows[first]["name"], "last": rows[last]["name"]} for at, (first, last) in enumerate(bars)]
    spot = {"x": at_x, "y": at_y, "fill": {**vega.COLOUR, "legend": None}, "shape": {**vega.SHAPE, "legend": None}, **vega.ABOUT,
            "tooltip": [{"field": "name", "title": "Method"}, {"field": "rank", "title": "Average rank", "format": ".2f"}]}
    layers = [vega.layer("rule", {"x": at_x, "y": at_y, "x2": {"field": "end"}}, [{"name": ruler, "rank": 1, "end": 1 + compared.across.critical}],
                     color=style.muted, strokeWidth=2 * style.stroke),
              vega.layer("rule", {"x": at_x, "y": at_y, "y2": {"field": "last"}}, joined, color=style.ink, strokeWidth=2 * style.stroke),
              vega.layer("point", spot, filled=True, size=style.point, opacity=1)]
    return vega.chart(rows, layers, width=width, height=style.row * (len(rows) + 1), **({"title": heading} if heading else {}))


def stood(entry: Entry, metric: str, looks: Mapping[str, Look]) -> str:
    """Where a method stands, in words."""
    known = formats.METRICS[metric]
    told = "no numbers" if pd.isna(entry.mean) else f"{known.label} {formats.with_interval(entry.mean, entry.lo, entry.hi, known.kind)}"
    group = f", {formats.GROUPS[entry.group]}" if entry.group else ""
    return f"{look(looks, entry.method).title(entry.variant)}: rank {formats.rank(entry.rank)}{group}, {told}"


def beside(panels: Sequence[Spec], *, below: bool = False) -> Spec:
    """Panels as one figure, for export."""
    cleaned = [{key: value for key, value in panel.items() if key not in ("$schema", "autosize")} for panel in panels]
    own = {"scale": dict.fromkeys(("color", "shape", "strokeDash"), "independent")}  # one name may have another look in each
    return {"$schema": vega.SCHEMA, "vconcat" if below else "hconcat": cleaned, "resolve": own}


def dressed(chart: Spec, style: Style) -> Spec:
    """`chart` in our template."""
    axis = {"labelFontSize": style.text, "titleFontSize": style.title, "labelColor": style.muted, "titleColor": style.ink,
            "titleFontWeight": "normal", "gridColor": style.line, "gridWidth": 0.6 * style.stroke, "domain": False, "ticks": False,
            "labelPadding": style.text / 2, "titlePadding": style.text * 0.8, "labelFlush": False}
    return {**chart, "config": {
        "background": style.background, "font": style.font, "view": {"stroke": None}, "axis": axis, "concat": {"spacing": 3 * style.text},
        "title": {"fontSize": style.title, "color": style.ink, "anchor": "start", "fontWeight": 600, "offset": style.text}}}


def _nature(metric: str, results: Rows) -> tuple[bool, float]:
    """Whether a metric is shown on a log scale, and where retraining stands on it; NaN where that is not known."""
    log = tradeoffs.is_log(metric, [row[metric] for row in results])
    if formats.METRICS[metric].better == "half":
        return log, 0.5
    return log, 1.0 if metric in _OF_RETRAINING else next((float(row[metric]) for row in results if row["method"] == "retrained"), float("nan"))


def level(metric: str, results: Rows) -> float:
    """Where a line says that retraining stands; NaN where that is not known."""
    return _nature(metric, results)[1]


def _word(metric: str) -> str:
    """What the line says where retraining stands."""
    return "½: the attack guesses" if formats.METRICS[metric].better == "half" else "retraining"


def _along(value: float, span: Span, log: bool) -> float:
    low, high, at = (log10(v) if log else v for v in (*span, value))
    return (at - low) / (high - low)


def position(field: str, metric: str, span: Span, log: bool = False, ticks: int = 5) -> Spec:
    """Channel of a position: full axis title, and ticks that fit the kind of number."""
    scale = {"type": "log"} if log else {"type": "linear", "zero": False}
    return {"field": field, "type": "quantitative", "axis": {"title": tradeoffs.axis(metric), **_ticks(metric, span, log, ticks)},
            "scale": {**scale, "domain": list(span), "nice": False}}


def _ticks(metric: str, span: Span, log: bool, ticks: int) -> Spec:
    """Of an axis or a legend."""
    kind, narrow = formats.METRICS[metric].kind, span[1] - span[0] < 0.05
    if log:
        decades = range(floor(log10(span[0])), floor(log10(span[1])) + 1)
        values = [float(f"{first}e{decade}") for decade in decades for first in _ROUND]
        return {"tickCount": ticks, "values": [value for value in values if span[0] <= value <= span[1]], "format": "~s" if kind == "count" else "~g",
                **({"labelExpr": f"datum.label + '{_UNITS[kind]}'"} if kind in _UNITS else {})}
    if kind == "share":
        return {"tickCount": ticks, "format": ".1%" if narrow else ".0%"}
    return {"tickCount": ticks, "format": ".3f" if narrow else ".2f" if kind in ("rate", "signed") else "~s" if kind == "count" else "~g"}


def _area(metric: str, results: Rows, style: Style, width: int) -> Spec:
    """Channel of the size of marks, with its legend: the same for all panels of these results."""
    values = [row[metric] for row in results if row["method"] != "retrained" and not pd.isna(row[metric])]
    log, (low, high) = tradeoffs.is_log(metric, values), (min(values, default=0.0), max(values, default=1.0))
    span = (low, high) if high > low else (low, low + 1.0)
    legend = {"title": tradeoffs.axis(metric), "orient": "top", "direction": "horizontal", "labelFontSize": style.text, "labelColor": style.muted,
              "titleFontSize": style.text, "titleColor": style.ink, "titleFontWeight": "normal", "titleLimit": width, "symbolType": "circle",
              "symbolOpacity": 1, "symbolFillColor": style.muted, "symbolStrokeColor": style.muted, **_ticks(metric, span, log, 3)}
    return {"field": "size", "type": "quantitative", "legend": legend,
            "scale": {**({"type": "log"} if log else {"type": "linear", "zero": False}), "domain": list(span), "nice": False,
                      "range": [_SMALLEST * style.point, _LARGEST * style.point]}}


def _front(results: Rows, data: list[dict[str, Any]], x: str, y: str) -> list[Spec]:
    """Points of the Pareto front in its order. Says of each of the data how it stands to it: on | may | off, and in words."""
    found, known = tradeoffs.front(results, x, y), {p["key"]: p for p in data}
    for p in data:
        p["front"] = "off" if found is None else "on" if p["key"] in found.on else "may" if p["key"] in found.may else "off"
        p["about"] += {"on": "; on the Pareto front by the means", "may": "; may be on the Pareto front", "off": ""}[p["front"]]
    return [{**known[key], "place": at} for at, key in enumerate(found.on) if key in known] if found else []


def _interval_of_retraining(results: Rows, metric: str) -> list[float]:
    """Lower and upper end, or nothing where there is none or it is 1 by definition."""
    for row in results:
        low, high = row[f"{metric}_lo"], row[f"{metric}_hi"]
        if row["method"] == "retrained" and metric != "rte" and not pd.isna(low) and low != high:
            return [low, high]
    return []


def _stands(entry: Entry, metric: str, looks: Mapping[str, Look]) -> dict[str, Any]:
    """One row of `standing`."""
    known, ends = look(looks, entry.method), [entry.mean if pd.isna(end) else end for end in (entry.lo, entry.hi)]
    return {"label": " · ".join(filter(None, (known.title(entry.variant), entry.group))), "colour": known.colour, "shape": known.shape,
            "x": entry.mean, "x_lo": ends[0], "x_hi": ends[1], "about": stood(entry, metric, looks),
            "value": formats.with_interval(entry.mean, entry.lo, entry.hi, formats.METRICS[metric].kind)}


def _line(best: float, band: list[float], at_x: Spec, style: Style) -> list[Spec]:
    """Where retraining stands, and its own interval as a band."""
    shaded = {"x": {**at_x, "field": "from"}, "x2": {"field": "to"}}
    return [*([vega.layer("rect", shaded, [{"from": band[0], "to": band[1]}], color=style.band)] if band else []),
            vega.layer("rule", {"x": {**at_x, "field": "best"}}, [{"best": best}], color=style.muted, strokeWidth=style.stroke)]


def _references(best: float, level: float, band: list[float], words: tuple[str, str], at_x: Spec, at_y: Spec, panel: Panel,
                data: Sequence[Mapping[str, Any]], style: Style) -> tuple[list[Spec], list[labels.Box]]:
    """Both lines of retraining with their names, the horizontal one's where it is in nobody's way, and the room that this name takes."""
    made, text = [], {"color": style.muted, "fontSize": style.text}
    if not pd.isna(best):
        here = [{"best": best, "bottom": panel.rise[0], "word": words[0]}]
        last = panel.across(best) + labels.text_width(words[0], style.text) > panel.size[0]
        made += [*_line(best, band, at_x, style),
                 vega.layer("text", {"x": {**at_x, "field": "best"}, "y": {**at_y, "field": "bottom"}, "text": {"field": "word"}}, here, baseline="bottom",
                            align="right" if last else "left", dx=(-1 if last else 1) * style.text / 3, dy=-style.text / 4, **text)]
    if pd.isna(level):
        return made, []
    half, high, line = labels.text_width(words[1], style.text) / 2, 1.3 * style.text, panel.down(level)
    middles = [panel.size[0] - half, *(share * panel.size[0] for share in (0.75, 0.5, 0.25)), half]
    sides = (("bottom", -style.text / 4, line - high), ("top", style.text / 3, line))
    spots = [(middle, *side) for side in sides for middle in middles]
    boxes = [(middle - half, top, middle + half, top + high) for middle, _, _, top in spots]
    clearest = labels.clearest(boxes, [*panel.obstacles(data, style.point ** 0.5 / 2), *panel.cross(best, float("nan"))])
    middle, baseline, shift, _ = spots[clearest]
    there = [{"level": level, "at": panel.value(middle), "name": words[1]}]
    made += [vega.layer("rule", {"y": {**at_y, "field": "level"}}, there, color=style.muted, strokeWidth=style.stroke),
             vega.layer("text", {"x": {**at_x, "field": "at"}, "y": {**at_y, "field": "level"}, "text": {"field": "name"}}, there,
                        align="center", baseline=baseline, dy=shift, **text)]
    return made, [boxes[clearest]]


def _names(data: Sequence[Mapping[str, Any]], at_x: Spec, at_y: Spec, panel: Panel, lines: Sequence[labels.Box], style: Style,
           radius: float) -> list[Spec]:
    """Names beside the points, with leader lines where they had to move away, and a question mark where a method may be on the Pareto
    front. lines: boxes to keep clear of, beside the whiskers."""
    names = [f"{p['name']}{' ?' if p['front'] == 'may' else ''}" for p in data]
    spots = labels.place([(panel.across(p["x"]), panel.down(p["y"])) for p in data], names, width=panel.size[0],
                         height=panel.size[1], font=style.label, radius=radius, lines=[*lines, *panel.obstacles(data, 0.0)])
    placed = [{**p, **vars(spot), "label": name} for p, spot, name in zip(data, spots, names, strict=True)]
    offsets = {key: {"expr": f"datum.{key}"} for key in ("dx", "dy", "align", "baseline")}
    channels = {"x": at_x, "y": at_y, "text": {"field": "label"}}
    lead = {"x": at_x, "x2": {"field": "x"}, "y": at_y, "y2": {"field": "y"}}
    return [vega.layer("rule", lead, [p for p in placed if p["leader"]], color=style.muted, strokeWidth=0.5 * style.stroke,
                   x2Offset={"expr": "datum.dx"}, y2Offset={"expr": "datum.dy"}),
            vega.layer("text", channels, placed, fontSize=style.label, color=style.page, stroke=style.page, strokeWidth=style.label / 4, **offsets),
            vega.layer("text", {**channels, "color": {"field": "ink", "type": "nominal", "scale": None}}, placed, fontSize=style.label, **offsets)]


def _tips(*metrics: str) -> list[Spec]:
    """Of marks by x, y and size, in this order."""
    return [{"field": "name", "title": "Method"}, *({"field": f"{axis}_told", "title": formats.METRICS[metric].label}
                                                    for axis, metric in zip(("x", "y", "size"), metrics, strict=False))]
