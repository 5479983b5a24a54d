"""The charts of a sweep: what one parameter does to a metric, and the courses that its values took. As in `charts`, rows in, mapping out."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from pages.ui import formats, vega
from pages.ui.theme import DARK, Style
from pages.ui.vega import Spec

_NUMBER = "format(datum.value, '.3~g')"  # an axis of its own accord writes 10 as 1e+1
_FORMS = {"share": ".1%", "rate": ".2f", "count": "~s"}
_DECADES = 1000
_GREATEST = {"image_passes"}  # so much larger for retraining that only a log scale shows both


@dataclass(frozen=True)
class Level:
    """A reference: its value and the range that it has over seeds (or its interval), the same as the value where there is none."""

    name: str
    value: float
    lo: float
    hi: float


@dataclass(frozen=True)
class Point:
    """One value of the parameter. y: NaN where it diverged. run_id: of the run. lo, hi: of the interval, where the metric has one."""

    x: Any
    y: float
    run_id: str
    lo: float = float("nan")
    hi: float = float("nan")


def response(points: Sequence[Point], levels: Sequence[Level], style: Style, metric: str, *, parameter: str, log: bool, colour: str,
             study: Any = None, theirs: Level | None = None, size: tuple[int, int] = (300, 220)) -> Spec:
    """A metric over the values of a parameter; crosses at the foot diverged. levels: retrained and original, a line each, shaded by their range.

    study: the study's value of the parameter, a dashed line. theirs: what the study found there, hollow, where its other settings are the same.
    """
    known = formats.METRICS[metric]
    own, lost = [p for p in points if not pd.isna(p.y)], [p for p in points if pd.isna(p.y)]
    up = metric in _GREATEST
    drawn = [*levels, *([theirs] if theirs else [])]
    ends = [end for p in own for end in (p.lo, p.y, p.hi)] + [end for level in drawn for end in (level.lo, level.value, level.hi)]
    rise = vega.reach(ends, up)
    at_y: Spec = {"field": "y", "type": "quantitative", "axis": {"title": known.axis, "tickCount": 4, "format": _FORMS.get(known.kind, "~g")},
                  "scale": {"type": "log" if up else "linear", "domain": list(rise), "nice": False, "zero": False}}
    if known.kind == "rate" and rise[1] - rise[0] < 0.05:
        at_y["axis"]["format"] = ".3f"
    marked = study if study is not None else next((p.x for p in points), None)
    at_x = _across([p.x for p in points], marked, parameter, log)
    rows = [{"x": _place(p.x, at_x), "y": p.y, "value": formats.plain(p.x), "run": p.run_id, "told": told(p, metric),
             "about": f"{parameter} = {formats.plain(p.x)}: {known.label} {told(p, metric)}", **_ends(p)} for p in own]
    tips = [{"field": field, "title": title} for field, title in (("value", parameter), ("told", known.label), ("run", "Run"))]
    channels = {"x": at_x, "y": at_y}
    layers = _levels(levels, at_x, at_y, style)
    if study is not None:
        word = [{"x": _place(study, at_x), "y": rise[0], "word": "study"}]
        layers += [vega.layer("rule", {"x": at_x}, word, color=style.muted, strokeWidth=style.stroke, strokeDash=[4, 3]),
                   vega.layer("text", {**channels, "text": {"field": "word"}}, word, align="left", baseline="bottom", dx=style.text / 4,
                              dy=-style.text / 4, color=style.muted, fontSize=style.text)]
    if at_x["type"] == "quantitative":
        layers.append(vega.layer("line", channels, rows, color=colour, strokeWidth=1.4 * style.stroke))
    whisker, mark = {"x": at_x, "y": {**at_y, "field": "lo"}, "y2": {"field": "hi"}}, {**channels, "tooltip": tips, **vega.ABOUT}
    layers += [vega.layer("rule", whisker, [row for row in rows if "lo" in row], color=colour, strokeWidth=style.stroke),
               vega.layer("point", mark, rows, filled=True, color=colour, size=0.7 * style.point, opacity=1)]
    if theirs is not None and study is not None:
        ring = [{"x": _place(study, at_x), "y": theirs.value, "lo": theirs.lo, "hi": theirs.hi,
                 "about": f"the study's own setting: {formats.with_interval(theirs.value, theirs.lo, theirs.hi, known.kind)}"}]
        layers += [vega.layer("rule", whisker, ring, color=style.ink, strokeWidth=style.stroke),
                   vega.layer("point", {**channels, **vega.ABOUT}, ring, filled=True, fill=style.page, stroke=style.ink, strokeWidth=style.stroke,
                              size=style.point, opacity=1)]
    foot = [{"x": _place(p.x, at_x), "y": rise[0], "value": formats.plain(p.x), "told": "diverged", "run": p.run_id,
             "about": f"{parameter} = {formats.plain(p.x)}: diverged"} for p in lost]
    layers.append(vega.layer("point", mark, foot, shape="cross", angle=45, filled=True, color=style.ink, size=style.point, opacity=1))
    return vega.chart(rows, layers, width=size[0], height=size[1])


def told(point: Point, metric: str) -> str:
    """A value in words, with its interval."""
    return "diverged" if pd.isna(point.y) else formats.with_interval(point.y, point.lo, point.hi, formats.METRICS[metric].kind)


def courses(points: Sequence[Mapping[str, Any]], style: Style, *, parameter: str, size: tuple[int, int] = (420, 200)) -> Spec:
    """One logged quantity by epoch, a line a value of the parameter, from dark to light as the values come. points: as `queue.curve` has them."""
    order = list(dict.fromkeys(formats.plain(p["of"]) for p in points))
    rows = [{"x": p["epoch"], "y": p["value"], "of": formats.plain(p["of"])} for p in points]
    last = max(p["epoch"] for p in points)
    at_x = {"field": "x", "type": "quantitative", "scale": {"domain": [0, max(last, 1)], "nice": False},
            "axis": {"title": "Epoch", "tickMinStep": 1, "tickCount": min(last + 1, 10), "format": "d"}}
    values = [p["value"] for p in points]
    log = min(values) > 0 and max(values) > _DECADES * min(values)  # one value that is about to diverge would flatten all others
    title = points[0]["name"] + (" (log scale)" if log else "")
    at_y = {"field": "y", "type": "quantitative", "axis": {"title": title, "tickCount": 5, "labelExpr": _NUMBER},
            "scale": {"type": "log" if log else "linear", "domain": list(vega.reach(values, log)), "nice": False, "zero": False}}
    seen = [0.2, 1] if style is DARK else [0, 0.85]  # of the hues, those that stand out from the page
    hue = {"field": "of", "type": "ordinal", "sort": order, "scale": {"domain": order, "scheme": {"name": "viridis", "extent": seen}},
           "legend": {"title": parameter, "orient": "right", "labelFontSize": style.label, "titleFontSize": style.label, "labelColor": style.ink,
                      "titleColor": style.ink, "symbolType": "stroke", "symbolStrokeWidth": 2 * style.stroke, "symbolOpacity": 1}}
    channels = {"x": at_x, "y": at_y, "color": hue}
    layers = [vega.layer("line", channels, strokeWidth=1.4 * style.stroke), vega.layer("point", channels, filled=True, size=style.point / 4)]
    return vega.chart(rows, layers, width=size[0], height=size[1])


def _ends(point: Point) -> dict[str, float]:
    return {} if pd.isna(point.lo) or pd.isna(point.hi) else {"lo": point.lo, "hi": point.hi}


def _across(values: Sequence[Any], study: Any, parameter: str, log: bool) -> Spec:
    """Channel of the parameter, with a tick at each value; numbers on a scale of their own, choices and switches in the order given."""
    names = list(dict.fromkeys(map(formats.plain, [*values, study])))
    everything = [*values, study]
    if any(isinstance(value, (str, bool)) for value in everything) or (log and min(everything) <= 0):
        return {"field": "x", "type": "nominal", "sort": names, "scale": {"domain": names}, "axis": {"title": parameter, "labelAngle": 0}}
    span = vega.reach(everything, log, pad=0.06)
    kind = {"type": "log"} if log else {"type": "linear", "zero": False}
    return {"field": "x", "type": "quantitative", "scale": {**kind, "domain": list(span), "nice": False},
            "axis": {"title": parameter + (" (log scale)" if log else ""), "values": list(values), "labelExpr": _NUMBER, "labelOverlap": "greedy"}}


def _place(value: Any, at_x: Spec) -> Any:
    return value if at_x["type"] == "quantitative" else formats.plain(value)


def _levels(levels: Sequence[Level], at_x: Spec, at_y: Spec, style: Style) -> list[Spec]:
    """Lines of the references across the panel, shaded by their range, named at its right: the upper above its line, the other below."""
    layers: list[Spec] = []
    for at, level in enumerate(sorted(levels, key=lambda level: -level.value)):
        row = [{"y": level.value, "lo": level.lo, "hi": level.hi, "name": level.name}]
        dash = {"strokeDash": [1, 2]} if level.name == "original" else {}
        if level.lo < level.hi:
            layers.append(vega.layer("rect", {"y": {**at_y, "field": "lo"}, "y2": {"field": "hi"}}, row, color=style.muted, opacity=0.16))
        layers += [vega.layer("rule", {"y": at_y}, row, color=style.muted, strokeWidth=style.stroke, **dash),
                   vega.layer("text", {"y": at_y, "x": {"value": "width"}, "text": {"field": "name"}}, row, align="right",
                              baseline="top" if at else "bottom", dy=(1 if at else -1) * style.text / 4, color=style.muted, fontSize=style.text)]
    return layers
