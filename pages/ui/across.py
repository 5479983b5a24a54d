"""Figures over many cells: heat-maps of methods by cells, and means with every seed as a point. Pure functions, as in `charts`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import log10, sqrt

import pandas as pd

from engine.store import standings
from engine.store.standings import Entry, Key
from pages.ui import charts, formats, labels, vega
from pages.ui.places import PARTS, Place, told
from pages.ui.theme import Look, Style, look
from pages.ui.vega import Spec

REFERENCES: tuple[Key, ...] = (("retrained", "corrected"), ("original", "corrected"))
_LOG = ("rte",)
_TIMES = (0.1, 0.3, 1, 3, 10, 30, 100, 300, 1000)
_DARKEST = 0.55  # of the accent, under a text in ink on either theme


def heat(found: Sequence[Place], keys: Sequence[Key], looks: Mapping[str, Look], style: Style, *, ranks: bool, width: int = 420,
         picked: Key | None = None, heading: str | None = None) -> Spec:
    """Methods (rows) in cells (columns): rank among the methods that are in all, or the metric itself with its interval, then also of
    retrained and original models. The stronger the colour the better; grey: not settled. Where there is no room, intervals are left to
    the tooltip."""
    metric = found[0].table.metric
    room, small = width / len(found), max(style.text - 1, 7)
    shown = {place.name: [entry for entry in _entries(place, ranks) if entry.key in keys or entry.key in REFERENCES] for place in found}
    means = [entry.mean for entries in shown.values() for entry in entries if not pd.isna(entry.mean) and entry.group != "F"]
    names = [look(looks, method).title(variant) for method, variant in [*keys, *(() if ranks else REFERENCES)]]
    data = []
    for place in found:
        for entry in shown[place.name]:
            known, failed, grey = look(looks, entry.method), entry.group == "F", entry.key in place.grey
            number, ends = _numbers(entry, metric, ranks)
            near = _order(entry.rank, len(place.common.entries)) if ranks else _near(metric, entry.mean, means)
            data.append({"column": place.name, "name": known.title(entry.variant), "key": "/".join(entry.key),
                         "about": told(entry, place, looks), "text": "failed" if failed else number, "under": "" if failed else ends,
                         "shade": 0.0 if failed or grey else 0.03 + _DARKEST * near, "ink": style.muted if failed or grey else style.ink,
                         "edge": style.accent if entry.key == picked else style.faint})
    widest = max((labels.text_width(row["under"], small) for row in data), default=0.0)
    split = 0 < widest < 0.96 * room
    lines = max(place.name.count(PARTS) for place in found)
    upright = any(labels.text_width(part, style.text) > room for place in found for part in place.name.split(PARTS))
    turned = {"labelAngle": -90, "labelAlign": "left", "labelBaseline": "middle", "labelPadding": 0.4 * style.text,
              "labelOffset": -0.6 * lines * style.text}
    level = {"labelAngle": 0, "labelPadding": (0.4 + 1.2 * lines) * style.text}
    axis = {"title": None, "grid": False, "orient": "top", "labelColor": style.ink, "labelFontSize": style.text, "labelOverlap": False,
            "labelExpr": f"split(datum.label, '{PARTS}')", "labelLimit": 20 * style.text, **(turned if upright else level)}
    columns = [place.name for place in found]
    at_x = {"field": "column", "type": "nominal", "sort": columns, "scale": {"domain": columns, "padding": 0.04}, "axis": axis}
    at_y = vega.rows("name", names, style)
    at_y["scale"]["padding"] = 0.05
    at = {"x": at_x, "y": at_y}
    shade, ink, edge = ({"field": field, "type": kind, "scale": None} for field, kind in
                        (("shade", "quantitative"), ("ink", "nominal"), ("edge", "nominal")))
    click = {"name": charts.PICK, "select": {"type": "point", "fields": ["key"], "on": "click", "clear": "dblclick"}}
    field = {**at, "stroke": edge, "tooltip": {"field": "about"}, **vega.ABOUT}
    layers = [vega.layer("rect", {**at, "opacity": shade}, color=style.accent, cornerRadius=3),
              {**vega.layer("rect", field, fill="transparent", strokeWidth=0.6 * style.stroke, cornerRadius=3, cursor="pointer"), "params": [click]},
              vega.layer("text", {**at, "text": {"field": "text"}, "color": ink}, fontSize=style.label, dy=-0.55 * small if split else 0)]
    if split:
        layers.append(vega.layer("text", {**at, "text": {"field": "under"}, "color": ink}, [row for row in data if row["under"]],
                                 fontSize=small, dy=0.75 * small))
    height = round((1.35 if split else 1.0) * style.row) * max(len(names), 1)
    return vega.chart(data, layers, width=width, height=height, **({"title": heading} if heading else {}))


@dataclass(frozen=True)
class Mark:
    """One mean in a figure of means. row: where it stands; group: which of several in that row."""

    row: str
    group: str
    entry: Entry
    colour: str
    shape: str
    limit: float
    about: str


def mark(place: Place, entry: Entry, looks: Mapping[str, Look], style: Style, row: str, group: str = "") -> Mark:
    """Grey where it is not settled."""
    known = look(looks, entry.method)
    colour = style.faint if entry.key in place.grey else known.colour
    return Mark(row, group, entry, colour, known.shape, place.table.limit, told(entry, place, looks))


def dots(marks: Sequence[Mark], rows: Sequence[str], metric: str, style: Style, *, groups: Sequence[str] = ("",), width: int = 420,
         heading: str | None = None) -> Spec:
    """Means with their intervals, every seed small beside them; upright ticks: the most that retraining shows there by chance.

    groups: told apart within a row by place and filling, in this order from top to bottom.
    """
    there = [one for one in marks if not pd.isna(one.entry.mean)]
    data = [{"row": one.row, "group": one.group, "x": one.entry.mean, "x_lo": _or(one.entry.lo, one.entry.mean),
             "x_hi": _or(one.entry.hi, one.entry.mean), "limit": one.limit, "colour": one.colour, "shape": one.shape, "about": one.about}
            for one in there]
    seeds = [{"row": one.row, "group": one.group, "x": value, "colour": one.colour} for one in marks for value in one.entry.values
             if not pd.isna(value)]
    limits = [row for row in data if not pd.isna(row["limit"])]
    at_x = _axis(metric, [row[end] for row in data for end in ("x_lo", "x_hi", "limit")] + [row["x"] for row in seeds])
    span, best = at_x["scale"]["domain"], standings.BEST[metric]
    lost = [{"row": one.row, "group": one.group, "from": span[0]} for one in marks if pd.isna(one.entry.mean)]
    at_y, lines = vega.rows("row", rows, style), max((name.count(PARTS) for name in rows), default=0)
    at_y["axis"] |= {"labelExpr": f"split(datum.label, '{PARTS}')"}
    apart, filled, legend = _grouped(groups, style)
    hue, at = {**vega.COLOUR, "legend": None}, {"y": at_y, **apart}
    whisker = {**at, "x": {**at_x, "field": "x_lo", "scale": {**at_x["scale"], "clamp": True}}, "x2": {"field": "x_hi"}, "color": hue}
    mean = {**at, "x": at_x, **filled, "fill": hue, "stroke": hue, "shape": {**vega.SHAPE, "legend": None}, "tooltip": {"field": "about"},
            **vega.ABOUT}
    line = [vega.layer("rule", {"x": {**at_x, "field": "best"}}, [{"best": best}], color=style.muted, strokeWidth=style.stroke)]
    layers = [*(line if span[0] <= best <= span[1] else []),
              vega.layer("tick", {**at, "x": {**at_x, "field": "limit"}}, limits, color=style.muted, thickness=style.stroke, size=0.5 * style.row),
              vega.layer("point", {**at, "x": at_x, "fill": hue}, seeds, filled=True, size=style.point / 5, opacity=0.4),
              vega.layer("rule", whisker, data, strokeWidth=1.4 * style.stroke),
              vega.layer("point", mean, data, opacity=1, strokeWidth=style.stroke, size=(0.7 if legend else 1.0) * style.point), *legend,
              vega.layer("text", {**at, "x": {**at_x, "field": "from"}}, lost, text="no numbers", align="left", color=style.muted,
                         fontSize=style.text, dx=style.text / 3)]
    step = round(max(style.row, (1.35 * (lines + 1) + 0.6) * style.label if lines else 0, 0.65 * style.row * len(groups)))
    own = {"resolve": {"scale": {"fill": "independent"}}, **({"title": heading} if heading else {})}
    return vega.chart(data, layers, width=width, height=step * max(len(rows), 1), **own)


def _grouped(groups: Sequence[str], style: Style) -> tuple[Spec, Spec, list[Spec]]:
    """Channels that tell groups apart, their places and their filling, and a layer for the legend, as that of an opacity shows none. Empty where
    there is one group."""
    last = len(groups) - 1
    if not last:
        return {}, {}, []
    key = {"title": None, "orient": "top", "labelFontSize": style.text, "labelColor": style.ink, "symbolStrokeColor": style.muted, "symbolOpacity": 1,
           "symbolType": "circle", "symbolSize": style.point, "symbolStrokeWidth": style.stroke, "labelLimit": 30 * style.text}
    shared, domain = {"field": "group", "type": "nominal"}, list(groups)
    filled = {"fillOpacity": {**shared, "legend": None, "scale": {"domain": domain, "range": [1 - at / last for at in range(last + 1)]}}}
    tints = [style.muted, *[style.faint] * (last - 1), style.page]
    legend = {"fill": {**shared, "legend": key, "scale": {"domain": domain, "range": tints}}}
    return {"yOffset": {**shared, "scale": {"domain": domain}}}, filled, [vega.layer("point", legend, opacity=0)]


def _axis(metric: str, values: Sequence[float]) -> Spec:
    """Channel of a position that holds the values, with name, unit and direction."""
    known, best, log, root = formats.METRICS[metric], standings.BEST[metric], metric in _LOG, metric == "retention_deviation"
    low, high = vega.reach([*values, *([best] if best == 0.5 else [])], log)
    span = (0.0, high) if root else (low, min(high, 1.0) if best == 1 else high)
    narrow = span[1] - span[0] < 0.05
    form = (".1%" if narrow else ".0%") if known.kind == "share" else ".3f" if narrow else ".2f"
    axis: Spec = {"title": known.axis, "tickCount": 4, "format": form}
    if log:
        axis |= {"values": [tick for tick in _TIMES if span[0] <= tick <= span[1]], "format": "~g", "labelExpr": "datum.label + '×'"}
    if log or root:
        axis["title"] = axis["title"].replace(")", "; log axis)" if log else "; square-root axis)")
    scale = {"type": "log" if log else "sqrt" if root else "linear", "domain": list(span), "nice": False}
    return {"field": "x", "type": "quantitative", "axis": axis, "scale": scale if log else {**scale, "zero": False}}


def _entries(place: Place, ranks: bool) -> list[Entry]:
    """What a column shows; beside the methods what the references have of the metric itself."""
    if ranks:
        return list(place.common.entries)
    metric = place.table.metric
    there = [key for key in REFERENCES if not pd.isna(place.cell.mean(key, metric))]
    return [*place.table.entries, *(Entry(*key, *(float(place.cell.means[key][f"{metric}{end}"]) for end in ("", "_lo", "_hi")), rank=float("nan"),
                                          tied=False, group=None, why="") for key in there)]


def _numbers(entry: Entry, metric: str, ranks: bool) -> tuple[str, str]:
    """The number and its interval as texts, empty where there is none."""
    if ranks:
        low, high = entry.rank_lo, entry.rank_hi
        return formats.rank(entry.rank), "" if pd.isna(low) else formats.rank(low) if low == high else f"{formats.rank(low)} to {formats.rank(high)}"
    kind = formats.METRICS[metric].kind
    ends = "" if pd.isna(entry.lo) or entry.lo == entry.hi else f"{formats.bare(formats.number(entry.lo, kind))} to {formats.number(entry.hi, kind)}"
    return formats.number(entry.mean, kind), ends


def _near(metric: str, value: float, means: Sequence[float]) -> float:
    """How good a value is among those shown, 0 to 1."""
    if pd.isna(value) or not means:
        return 0.0
    if (best := standings.BEST[metric]) != float("inf"):
        most = max(abs(mean - best) for mean in means)
        return 1 - sqrt(min(abs(value - best) / most, 1.0)) if most > 0 else 1.0
    low, high, at = (log10(end) if metric in _LOG else end for end in (min(means), max(means), value))
    return min(max((at - low) / (high - low), 0.0), 1.0) if high > low else 1.0


def _order(rank: float, methods: int) -> float:
    return 1 - (rank - 1) / (methods - 1) if methods > 1 and not pd.isna(rank) else 0.0


def _or(end: float, value: float) -> float:
    return value if pd.isna(end) else end
