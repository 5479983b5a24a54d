"""The charts of Privacy: rows in, Vega-Lite mapping out, as in `charts`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import exp, floor, log10, pi, sqrt
from typing import Any

import pandas as pd

from engine.store.schema import BINS
from pages.ui import formats, vega
from pages.ui.attacks import Cell, Column, Matrix
from pages.ui.charts import PICK
from pages.ui.formats import Row, Rows
from pages.ui.theme import Look, Style, look
from pages.ui.vega import Span, Spec

Key = tuple[str, str]  # method, variant
_DASHES = ((1, 0), (6, 3), (2, 2), (9, 3, 2, 3), (1, 4), (12, 4), (4, 6), (9, 3, 2, 3, 2, 3), (3, 1))
_SHAPES = ("circle", "square", "triangle-up", "diamond", "cross")
_ABREAST, _WIDE = 10, 600  # columns that a wide matrix has room for; px
_CURVE = 81  # points of a Gaussian
_LONG = 12  # letters of a name, of which three do not fit abreast
_FAR = 3.5  # standard deviations that are drawn
_MANY_DECADES = 6  # of a rate: less is drawn as nothing


@dataclass(frozen=True)
class Line:
    """How a curve is drawn: hue of the family, and dashes that tell lines of one hue apart."""

    name: str
    colour: str
    dash: tuple[int, ...]


def lines(keys: Sequence[Key], looks: Mapping[str, Look], *, more: Mapping[str, str] | None = None) -> dict[Key, Line]:
    """One line a method, in this order. more: names of further lines, in the colour of the last, whose keys have no variant."""
    taken: dict[str, int] = {}
    made, colour = {}, ""

    def line(name: str) -> Line:
        place = taken[colour] = taken.get(colour, -1) + 1
        return Line(name, colour, _DASHES[place % len(_DASHES)])

    for method, variant in keys:
        known = look(looks, method)
        colour = known.colour
        made[method, variant] = line(known.title(variant))
    return made | {(key, ""): line(name) for key, name in (more or {}).items()}


def matrix(made: Matrix, looks: Mapping[str, Look], style: Style, *, doubted: Mapping[Key, str], columns: Sequence[Column],
           width: int = 900, picked: str | None = None) -> Spec:
    """Every method (rows, in this order) by these columns: the stronger the colour, the more the attack sees; blank where it sees no more
    than in retrained models. doubted: methods whose per-example numbers are in doubt, which are grey, and why."""
    names = {key: look(looks, key[0]).title(key[1]) for key in made}
    groups = list(dict.fromkeys(column.group for column in columns))
    domain = [name for at, group in enumerate(groups, 1) for name in (*(column.header for column in columns if column.group == group), " " * at)][:-1]
    domain += [" " * (len(groups) + place) for place in range(_ABREAST - len(domain) if width > _WIDE else 0)]  # so that few columns stay narrow
    room = width / max(len(domain), 1)
    data = [_square(key, names[key], column, cell, doubted.get(key, ""), style) for key, cells in made.items()
            for column, cell in cells.items() if column in columns]
    axis = {"title": None, "grid": False, "orient": "top", "labelColor": style.ink, "labelFontSize": style.text, "labelOverlap": False,
            "labelLimit": 12 * style.text}
    if room < 5 * style.text:  # on a narrow page of paper
        axis |= {"labelAngle": -90, "labelAlign": "left", "labelBaseline": "middle", "labelExpr": "replace(datum.label, ' · ', ' ')"}
    else:
        best = {column.header: column.best for column in columns}
        lined = "{" + ", ".join(f"{name!r}: {[*name.split(' · '), best[name]]!r}" for name in best) + "}"
        axis |= {"labelAngle": 0, "labelExpr": f"({lined})[datum.label] || ''", "labelPadding": 2.9 * style.text}
    at_x = {"field": "column", "type": "nominal", "sort": domain, "scale": {"domain": domain, "padding": 0.06}, "axis": axis}
    at_y = vega.rows("name", list(names.values()), style)
    at_y["scale"]["padding"] = 0.08
    place = {"x": at_x, "y": at_y}
    plain = {field: {"field": field, "type": kind, "scale": None}
             for field, kind in (("shade", "quantitative"), ("ink", "nominal"), ("fill", "nominal"))}
    tips = [{"field": field, "title": title} for field, title in (("name", "Method"), ("attack", "Attack"), ("told", "Value"), ("reading", "It says"))]
    ring = {"condition": {"test": f"datum.key === '{picked}'", "value": style.ink}, "value": style.faint}
    click = {"name": PICK, "select": {"type": "point", "fields": ["key"], "on": "click", "clear": "dblclick"}}
    heads = [{"column": next(column.header for column in columns if column.group == group), "group": group} for group in groups]
    rise = -5.1 * style.text if room >= 5 * style.text else -11 * style.text
    layers = [vega.layer("rect", {**place, "opacity": plain["shade"], "fill": plain["fill"]}, cornerRadius=3),
              {**vega.layer("rect", {**place, "stroke": ring, "tooltip": tips, **vega.ABOUT}, filled=True, fill="transparent",
                            strokeWidth=0.6 * style.stroke, cornerRadius=3, cursor="pointer"), "params": [click]},
              vega.layer("text", {**place, "text": {"field": "text"}, "color": plain["ink"]}, fontSize=style.label),
              vega.layer("text", {"x": {**at_x, "bandPosition": 0}, "text": {"field": "group"}}, heads, y=rise, align="left", fontWeight=600,
                         fontSize=style.text, color=style.muted)]
    return vega.chart(data, layers, width=width, height=style.row * max(len(made), 1))


def _square(key: Key, name: str, column: Column, cell: Cell, doubt: str, style: Style) -> dict[str, Any]:
    """One cell of `matrix`."""
    shade = 0.0 if cell.seen is False or pd.isna(cell.value) else sqrt(cell.leak)
    doubt = doubt if column.attacks else ""  # population attacks are not what is checked
    way = "" if not cell.seen or pd.isna(cell.shift) or abs(cell.shift) < 0.1 else " ↑" if cell.shift > 0 else " ↓"
    reading = "; ".join(filter(None, (cell.reading, f"in doubt: {doubt}" if doubt else "")))
    return {"key": "/".join(key), "name": name, "column": column.header, "text": "few" if pd.isna(cell.value) else f"{cell.value:.2f}{way}",
            "shade": shade, "fill": style.faint if doubt else style.accent,
            "ink": style.muted if doubt or not shade else style.page if shade > 0.6 else style.ink,
            "attack": f"{column.title}: {column.doc} ({column.best})", "told": cell.told, "reading": reading,
            "about": f"{name}, {column.title}: {cell.told}; {reading}"}


def roc(curves: Mapping[Line, Rows], style: Style, *, size: tuple[int, int] = (420, 340), heading: str | None = None) -> Spec:
    """True- against false-positive rate, both logarithmic. curves: rows of `queries.curves`; dots: the smallest rate that the models can
    support; left of the smallest of them is shaded."""
    data = [{"name": line.name, "fpr": row["fpr"], "tpr": row["tpr"], "fpr_told": formats.number(row["fpr"], "small"),
             "tpr_told": formats.number(row["tpr"], "small"),
             "about": f"{line.name}: with 1 in {formats.number(1 / row['fpr'], 'count')} accused wrongly, {formats.number(row['tpr'], 'small')} found"}
            for line, rows in curves.items() for row in rows if row["tpr"] > 10.0 ** -_MANY_DECADES and row["fpr"] >= row["smallest_fpr"]]
    starts = [found[0] for line in curves if (found := [p for p in data if p["name"] == line.name])]
    low = min((p["fpr"] for p in starts), default=0.1)
    at_x = _rate("fpr", "False-positive rate (wrongly accused)", low)
    at_y = _rate("tpr", "True-positive rate (found; lower is better)", min((p["tpr"] for p in data), default=0.1))
    end, bottom = at_x["scale"]["domain"][0], at_y["scale"]["domain"][0]
    chance = max(end, bottom)
    colour, dash = _legend([line for line in curves if any(p["name"] == line.name for p in data)], style)
    channels = {"x": at_x, "y": at_y, "color": colour}
    tips = [{"field": field, "title": title} for field, title in (("name", "Models"), ("fpr_told", "False-positive rate"),
                                                                  ("tpr_told", "True-positive rate"))]
    void = [{"from": end, "to": low}]
    layers = [vega.layer("rect", {"x": {**at_x, "field": "from"}, "x2": {"field": "to"}}, void, color=style.band),
              vega.layer("line", {"x": at_x, "y": at_y}, [{"fpr": chance, "tpr": chance}, {"fpr": 1, "tpr": 1}], color=style.muted, strokeDash=[4, 4],
                         strokeWidth=style.stroke),
              vega.layer("line", {**channels, "strokeDash": dash}, strokeWidth=1.6 * style.stroke, interpolate="linear"),
              vega.layer("point", channels, starts, filled=True, size=style.point / 3, opacity=1),
              vega.layer("point", {**channels, "tooltip": tips, **vega.ABOUT}, filled=True, size=style.point / 2, opacity=0)]
    return vega.chart(data, layers, width=size[0], height=size[1], **({"title": heading} if heading else {}))


def spread(groups: Mapping[Line, Rows], style: Style, *, retrained: Line | None = None, size: tuple[int, int] = (420, 340),
           heading: str | None = None) -> Spec:
    """How the attack's accuracy is spread over examples. groups: rows of `queries.spread`; the retrained models are filled."""
    data = []
    for line, rows in groups.items():
        counts = {row["bin"]: row["examples"] for row in rows}
        total = sum(counts.values())
        data += [{"name": line.name, "at": place / BINS, "share": counts.get(min(place, BINS - 1), 0) / total} for place in range(BINS + 1) if total]
    at_x = {"field": "at", "type": "quantitative", "scale": {"domain": [0, 1], "nice": False},
            "axis": {"title": "Balanced accuracy on one example (½ is best)", "format": ".2~f", "tickCount": 5}}
    at_y = {"field": "share", "type": "quantitative", "axis": {"title": "Share of examples", "format": ".0%", "tickCount": 5},
            "scale": {"domain": [0, 1.05 * max((p["share"] for p in data), default=1.0)], "nice": False}}
    colour, dash = _legend(list(groups), style)
    filled = [p for p in data if retrained and p["name"] == retrained.name]
    tips = [{"field": "name", "title": "Models"}, {"field": "at", "title": "Balanced accuracy from", "format": ".3f"},
            {"field": "share", "title": "Share of examples", "format": ".1%"}]
    layers = [vega.layer("area", {"x": at_x, "y": at_y}, filled, color=style.band, interpolate="step-after"),
              vega.layer("rule", {"x": {**at_x, "field": "half"}}, [{"half": 0.5}], color=style.muted, strokeWidth=style.stroke),
              vega.layer("line", {"x": at_x, "y": at_y, "color": colour, "strokeDash": dash}, strokeWidth=1.4 * style.stroke, interpolate="step-after"),
              vega.layer("point", {"x": at_x, "y": at_y, "tooltip": tips}, filled=True, size=style.point / 2, opacity=0)]
    return vega.chart(data, layers, width=size[0], height=size[1], **({"title": heading} if heading else {}))


def worlds(row: Row, style: Style, colour: str, *, retrained: bool, span: Span, size: tuple[int, int] = (380, 110), heading: str | None = None) -> Spec:
    """The two worlds of one example, a row of `queries.exposed`: what models that forgot it say of it, and models that never saw it."""
    prefix = "retrained_" if retrained else ""
    who = {"forgotten": "retrained without it" if retrained else "forgotten", "never": "never seen"}
    data, tops = [], []
    for world in ("never", "forgotten"):
        mu, sigma = row[f"{prefix}mu_{world}"], row[f"{prefix}sigma_{world}"]
        if pd.isna(mu) or pd.isna(sigma) or sigma <= 0:
            continue
        points = [mu + sigma * _FAR * (2 * i / (_CURVE - 1) - 1) for i in range(_CURVE)]
        tint = style.muted if world == "never" else colour
        models = row[f"{prefix}n_{world}"]
        about = f"{who[world]}: mean {mu:.2f}, deviation {sigma:.2f}, {formats.counted(models, 'model')}"
        data += [{"world": who[world], "phi": x, "density": exp(-((x - mu) / sigma) ** 2 / 2) / (sigma * sqrt(2 * pi)), "colour": tint, "about": about}
                 for x in points]
        tops.append({"world": who[world], "phi": mu, "density": 1 / (sigma * sqrt(2 * pi)), "colour": tint, "about": about})
    apart = sorted(tops, key=lambda top: top["phi"])
    for top, side in zip(apart, ("right", "left") if len(apart) == 2 else ("center",), strict=True):  # each name on its own side, if there is room
        place = (top["phi"] - span[0]) / (span[1] - span[0])
        top["align"] = "left" if place < 0.3 else "right" if place > 0.7 else side
    if len({top["align"] for top in apart}) < len(apart):
        apart[0]["lift"] = 1.2 * style.text
    at_x = {"field": "phi", "type": "quantitative", "scale": {"domain": list(span), "nice": False},
            "axis": {"title": "Score φ of the example (nats; larger = surer of its class)", "tickCount": 6}}
    at_y = {"field": "density", "type": "quantitative", "axis": None,
            "scale": {"domain": [0, 1.3 * max((p["density"] for p in tops), default=1.0)], "nice": False}}
    tint = {**vega.COLOUR, "legend": None}
    channels = {"x": at_x, "y": {**at_y, "stack": None}, "fill": tint, "detail": {"field": "world"}}
    layers = [vega.layer("area", channels, opacity=0.3, clip=True),
              vega.layer("line", {"x": at_x, "y": at_y, "stroke": tint, "detail": {"field": "world"}, "tooltip": {"field": "about"}},
                         strokeWidth=1.4 * style.stroke, clip=True),
              vega.layer("text", {"x": at_x, "y": at_y, "text": {"field": "world"}, "color": tint, **vega.ABOUT}, tops, fontSize=style.text,
                         dy={"expr": f"-{0.7 * style.text} - (datum.lift || 0)"}, dx={"expr": "({left: 3, right: -3})[datum.align] || 0"},
                         align={"expr": "datum.align"})]
    return vega.chart(data, layers, width=size[0], height=size[1], **({"title": heading} if heading else {}))


def span_of(row: Row) -> Span:
    """The scores that both panels of `worlds` show."""
    ends = [row[f"{prefix}mu_{world}"] + side * 3 * row[f"{prefix}sigma_{world}"]
            for prefix in ("", "retrained_") for world in ("forgotten", "never") for side in (-1, 1)]
    return vega.reach(ends, pad=0.02)


def classes(found: Mapping[Line, Mapping[int, tuple[Row, int]]], names: Mapping[int, str], looks: Mapping[Line, Look], style: Style, *,
            width: int = 420, heading: str | None = None) -> Spec:
    """Exposure by class: a row a class, a mark a method, with its interval; ½ is the line."""
    data = []
    for line, rows in found.items():
        for label, (row, size) in rows.items():
            lo, hi = (row["value"] if pd.isna(row[end]) else row[end] for end in ("lo", "hi"))
            told = formats.with_interval(row["value"], row["lo"], row["hi"], "rate")
            data.append({"class": names.get(label, str(label)), "who": line.name, "x": row["value"], "x_lo": lo, "x_hi": hi, "colour": line.colour,
                         "told": told, "examples": size, "about": f"class {names.get(label, label)}, {line.name}: {told}"})
    order = list(dict.fromkeys(names.get(label, str(label)) for label in sorted({label for rows in found.values() for label in rows})))
    at_x = {"field": "x", "type": "quantitative", "axis": {"title": "Balanced accuracy over a class (½ is best)", "format": ".2f", "tickCount": 5},
            "scale": {"domain": list(vega.reach([p[end] for p in data for end in ("x_lo", "x_hi")] + [0.5])), "nice": False, "zero": False}}
    at_y = vega.rows("class", order, style)
    apart = {"field": "who", "type": "nominal", "scale": {"domain": [line.name for line in found]}}
    tips = [{"field": field, "title": title} for field, title in (("class", "Class"), ("who", "Models"), ("told", "Balanced accuracy"),
                                                                  ("examples", "Examples"))]
    named = {**apart, "legend": _key(style)}
    fill = {**named, "scale": {**apart["scale"], "range": [line.colour for line in found]}}
    shape = {**named, "scale": {**apart["scale"], "range": [looks[line].shape for line in found]}}
    mark = {"x": at_x, "y": at_y, "yOffset": apart, "fill": fill, "shape": shape, "tooltip": tips, **vega.ABOUT}
    whisker = {"x": {**at_x, "field": "x_lo"}, "x2": {"field": "x_hi"}, "y": at_y, "yOffset": apart, "color": {**vega.COLOUR, "legend": None}}
    layers = [vega.layer("rule", {"x": {**at_x, "field": "half"}}, [{"half": 0.5}], color=style.muted, strokeWidth=style.stroke),
              vega.layer("rule", whisker, strokeWidth=style.stroke), vega.layer("point", mark, filled=True, size=style.point / 2, opacity=1)]
    return vega.chart(data, layers, width=width, height=max(style.row, 10 * len(found)) * max(len(order), 1), **({"title": heading} if heading else {}))


def epsilons(rows: Sequence[tuple[str, str, str, float, float]], names: Mapping[str, str], looks: Mapping[str, Look], style: Style, *,
             width: int = 420, heading: str | None = None) -> Spec:
    """Lower bounds on epsilon, largest on top, a shape an attack; the line is the most that so many splits can show. rows: of
    `attacks.epsilons`; names: of the attacks."""
    kinds = list(dict.fromkeys(attack for _, _, attack, _, _ in rows))
    data = [{"name": look(looks, method).title(variant), "attack": names.get(attack, attack), "value": value, "most": most,
             "colour": look(looks, method).colour, "about": f"{look(looks, method).title(variant)}, {names.get(attack, attack)}: ε at least {value:.2f}"}
            for method, variant, attack, value, most in rows]
    top = {name: max(p["value"] for p in data if p["name"] == name) for name in {p["name"] for p in data}}
    order = sorted(top, key=lambda name: (-top[name], name))
    ends = sorted({round(p["most"], 6) for p in data})
    at_x = {"field": "value", "type": "quantitative", "scale": {"domain": [0, 1.08 * max(ends, default=1.0)], "nice": False},
            "axis": {"title": "ε at least, at 95 % (lower is better)", "tickCount": 5, "format": ".1f"}}
    at_y = vega.rows("name", order, style)
    shape = {"field": "attack", "type": "nominal", "scale": {"domain": [names.get(kind, kind) for kind in kinds], "range": list(_SHAPES[:len(kinds)])},
             "legend": {**_key(style), "symbolFillColor": style.muted, "symbolStrokeColor": style.muted} if len(kinds) > 1 else None}
    tips = [{"field": "name", "title": "Method"}, {"field": "attack", "title": "Attack"}, {"field": "value", "title": "ε at least", "format": ".2f"},
            {"field": "most", "title": "Can be shown at most", "format": ".2f"}]
    layers = [vega.layer("rule", {"x": {**at_x, "field": "end"}}, [{"end": end} for end in ends], color=style.muted, strokeDash=[4, 4],
                         strokeWidth=style.stroke),
              vega.layer("rule", {"x": {**at_x, "field": "zero"}, "x2": {"field": "value"}, "y": at_y}, [{**p, "zero": 0} for p in data],
                         color=style.line, strokeWidth=style.stroke),
              vega.layer("point", {"x": at_x, "y": at_y, "fill": {**vega.COLOUR, "legend": None}, "shape": shape, "tooltip": tips, **vega.ABOUT},
                         filled=True, size=style.point, opacity=1)]
    return vega.chart(data, layers, width=width, height=style.row * max(len(order), 1), **({"title": heading} if heading else {}))


def _rate(field: str, title: str, least: float) -> Spec:
    """Channel of a rate on a log axis of whole decades, up to 1."""
    decades = min(max(1, -floor(log10(least) - 0.02)), _MANY_DECADES)
    return {"field": field, "type": "quantitative", "scale": {"type": "log", "domain": [10.0 ** -decades, 1], "nice": False},
            "axis": {"title": title, "values": [10.0 ** -d for d in range(decades, -1, -1)], "format": "~%"}}


def _legend(drawn: Sequence[Line], style: Style) -> tuple[Spec, Spec]:
    """Colour and dash by name, in one legend; long names in two columns, since a legend is never broken."""
    names = [line.name for line in drawn]
    columns = 2 if max(map(len, names), default=0) > _LONG else 3
    legend = {**_key(style), "columns": columns, "symbolType": "stroke", "symbolSize": (2.2 * style.text) ** 2}
    shared = {"field": "name", "type": "nominal", "legend": legend}
    return ({**shared, "scale": {"domain": names, "range": [line.colour for line in drawn]}},
            {**shared, "scale": {"domain": names, "range": [list(line.dash) for line in drawn]}})


def _key(style: Style) -> Spec:
    return {"title": None, "orient": "top", "columns": 3, "labelFontSize": style.text, "labelColor": style.ink, "symbolSize": style.point,
            "symbolStrokeWidth": 1.6 * style.stroke, "columnPadding": style.text, "labelLimit": 14 * style.text}
