"""Published claims beside what was measured, as tables and as figures. Pure functions over judged claims."""

from collections.abc import Iterator, Sequence
from math import isfinite
from typing import Any

import pandas as pd

from engine.store.reported import Figure, Order
from engine.store.verdicts import VERDICTS, Judged, Reading
from pages.ui import claims, formats, vega
from pages.ui.claims import MARKS, Entry, Names
from pages.ui.formats import counted, listed
from pages.ui.theme import Style, look
from pages.ui.vega import Spec

_FILL = {"field": "fill", "type": "nominal", "scale": None, "legend": None}


# ---- tables


def table(found: Sequence[Entry], names: Names) -> pd.DataFrame:
    """One row a claim, every cell a text."""
    return pd.DataFrame([_row(entry, names) for entry in found])


def _row(entry: Entry, names: Names) -> dict[str, str]:
    claim, one, size = entry.claim, entry.judged[0], len(entry.judged)
    states, nearest = [judged.verdict for judged in entry.judged], one.readings[0] if one.readings and size == 1 else None
    return {"Verdict": verdict(entry.verdict), "Claim": claim.statement,
            "Reported": claims.reported_as(claim) if size == 1 else counted(size, "figure"),
            "Measured here": formats.MISSING if nearest is None else f"{claims.told(nearest, claim, names)} ({names.place(nearest)})",
            "Why": claims.why(one, names) if size == 1 else listed([f"{states.count(state)} {state}" for state in VERDICTS if state in states]),
            "Source": f"{claim.source.authors}, {claim.source.reference}", "How sure": claims.certainty(claim)}


def figures(judged: Sequence[Judged], names: Names) -> pd.DataFrame:
    """Reported beside measured, one row a figure, every cell a text. Measured: by the study nearest to the setting."""
    return pd.DataFrame([{
        "Method": names.method(_figure(one).method), "Reported": claims.reported_as(one.claim),
        "Measured here": claims.told(one.readings[0], one.claim, names) if one.readings else formats.MISSING,
        "Measured on": names.place(one.readings[0]) if one.readings else formats.MISSING,
        "Verdict": verdict(one.verdict), "Why": claims.why(one, names)} for one in judged])


def readings(judged: Judged, names: Names) -> pd.DataFrame:
    """What every study says of a claim, the nearest to its setting first."""
    return pd.DataFrame([{"Study": reading.study["title"], "Says": claims.told(reading, judged.claim, names),
                          "Setting": _setting(reading, judged, names), "Numbers": claims.numbers(reading, names)} for reading in judged.readings])


def full(found: Sequence[Entry], names: Names) -> pd.DataFrame:
    """Every statement and figure with the study nearest to its setting, at full precision, for a file."""
    return pd.DataFrame([_whole(one, names) for entry in found for one in entry.judged])


def _whole(one: Judged, names: Names) -> dict[str, Any]:
    claim, source = one.claim, one.claim.source
    row: dict[str, Any] = {
        "key": claim.key, "verdict": one.verdict, "why": claims.why(one, names), "statement": claim.statement, "source": source.title,
        "authors": source.authors, "reference": source.reference, "third_party": source.third_party, "place": claim.place,
        "certainty": claim.certainty, "told_by": claim.told_by, "setting": claims.setting(claim, names), "rule": claims.rule(claim, names)}
    row |= {"metric": claim.rule.metric, "method": claim.rule.method, "reported": claim.rule.value} if isinstance(claim.rule, Figure) else {}
    if not one.readings:
        return row
    nearest = one.readings[0]
    if isinstance(claim.rule, Figure):
        row |= {"measured": nearest.parts[0].value, "lo": nearest.parts[0].lo, "hi": nearest.parts[0].hi}
    numbers = "; ".join(f"{part.method}/{part.variant} {part.metric} {part.value!r} [{part.lo!r}, {part.hi!r}]" for part in nearest.parts)
    return {**row, "margin": nearest.margin, "margin_lo": nearest.lo, "margin_hi": nearest.hi, "says": nearest.state,
            "study": nearest.study["study"], "numbers": numbers}


def verdict(found: str) -> str:
    """With its mark."""
    return f"{MARKS[found]} {found}"


# ---- figures


def directions(found: Sequence[Entry], names: Names, style: Style, *, width: int = 900) -> Spec | None:
    """How far the evidence is from each claimed order: one row a claim and place, right of the line as claimed. None where there is nothing."""
    data = sorted((row for entry in found for one in entry.judged for row in _ways(one, names, style)), key=lambda row: -row["x"])
    if not data:
        return None
    at_x = {"field": "x", "type": "quantitative", "axis": {"title": "Difference (right of 0: as claimed)", "tickCount": 6},
            "scale": {"domain": list(vega.reach([row[end] for row in data for end in ("x_lo", "x_hi")] + [0.0])), "nice": False, "zero": False}}
    at_y = vega.rows("name", list(dict.fromkeys(row["name"] for row in data)), style)
    at_y["axis"]["labelLimit"] = 18 * style.label
    spot = {**vega.COLOUR, "legend": None}
    tips = [{"field": field, "title": title} for field, title in (("claim", "Claim"), ("told", "Measured"), ("place", "On"), ("setting", "Setting"))]
    mark = {"x": at_x, "y": at_y, "stroke": spot, "fill": _FILL, "tooltip": tips, **vega.ABOUT}
    layers = [vega.layer("rule", {"x": {**at_x, "field": "zero"}}, [{"zero": 0}], color=style.muted, strokeWidth=style.stroke),
              vega.layer("rule", {"x": {**at_x, "field": "x_lo"}, "x2": {"field": "x_hi"}, "y": at_y, "color": spot}, strokeWidth=style.stroke),
              vega.layer("point", mark, filled=True, size=0.7 * style.point, opacity=1, strokeWidth=style.stroke)]
    return vega.chart(data, layers, width=width, height=style.row * len({row["name"] for row in data}))


def _ways(one: Judged, names: Names, style: Style) -> Iterator[dict[str, Any]]:
    """One row a place, by the study there that is nearest to the setting."""
    if not isinstance(one.claim.rule, Order):
        return
    nearest = {(reading.study["dataset"], reading.study["model"]): reading for reading in reversed(one.readings) if isfinite(reading.lo)}
    for reading in nearest.values():
        worse, than = reading.parts
        pair = (f"{names.method(worse.method)}, {names.metric(worse.metric, short=True)}" if worse.method == than.method else
                f"{names.method(worse.method)} worse than {names.method(than.method)}")
        told, colour = claims.told(reading, one.claim, names), style.muted if reading.differences else style.accent
        yield {"name": f"{pair} · {names.dataset(reading.study['dataset'])}", "x": reading.margin, "x_lo": reading.lo, "x_hi": reading.hi,
               "claim": one.claim.statement, "told": told, "place": names.place(reading), "setting": _setting(reading, one, names),
               "study": reading.study["study"], "colour": colour, "fill": style.page if reading.differences else colour,
               "about": f"{one.claim.statement} {names.place(reading)}: {told}"}


def beside(judged: Sequence[Judged], names: Names, style: Style, *, width: int = 900) -> Spec:
    """Reported figures of one metric and, where the same dataset and architecture ran here, the measured ones with their intervals."""
    metric = _figure(judged[0]).metric
    known, log = formats.METRICS.get(metric), metric == "rte"
    data = sorted((_pair(one, names, style) for one in judged), key=lambda row: row["reported"], reverse=known is not None and known.better == "up")
    here = [row for row in data if "x" in row]
    ends = [row["reported"] for row in data] + [row[end] for row in here for end in ("x_lo", "x_hi")]
    at_x = {"field": "x", "type": "quantitative", "axis": {"title": known.axis if known else names.metric(metric), "tickCount": 6},
            "scale": {"domain": list(vega.reach(ends, log)), "nice": False, "zero": False, **({"type": "log"} if log else {})}}
    at_y = vega.rows("name", [row["name"] for row in data], style)
    spot, shape = {**vega.COLOUR, "legend": None}, {**vega.SHAPE, "legend": None}
    tips = [{"field": field, "title": title}
            for field, title in (("name", "Method"), ("told_reported", "Reported"), ("told", "Measured"), ("setting", "Setting"))]
    channels = {"y": at_y, "tooltip": tips, **vega.ABOUT}
    layers = [vega.layer("rule", {"x": {**at_x, "field": "x_lo"}, "x2": {"field": "x_hi"}, "y": at_y, "color": spot}, here,
                         strokeWidth=1.6 * style.stroke),
              vega.layer("point", {**channels, "x": at_x, "stroke": spot, "shape": shape, "fill": _FILL}, here, filled=True, size=0.8 * style.point,
                         opacity=1, strokeWidth=style.stroke),
              vega.layer("tick", {**channels, "x": {**at_x, "field": "reported"}}, color=style.ink, thickness=1.6 * style.stroke,
                         size=0.6 * style.row)]
    return vega.chart(data, layers, width=width, height=style.row * len(data))


def _pair(one: Judged, names: Names, style: Style) -> dict[str, Any]:
    """One row of `beside`."""
    figure = _figure(one)
    known, name, told = look(names.looks, figure.method), names.method(figure.method), claims.reported_as(one.claim)
    row = {"name": name, "colour": known.colour, "shape": known.shape, "reported": figure.value, "told_reported": told}
    near = next((reading for reading in one.readings if not {"dataset", "model"} & {found.kind for found in reading.differences}), None)
    if near is None:
        return {**row, "about": f"{name}: reported {told}"}
    part = near.parts[0]
    lo, hi = (part.value if pd.isna(end) else end for end in (part.lo, part.hi))
    return {**row, "x": part.value, "x_lo": lo, "x_hi": hi, "fill": style.page if near.differences else known.colour, "told": claims.measured(part),
            "setting": _setting(near, one, names), "about": f"{name}: reported {told}, measured {claims.measured(part)}"}


def alt(spec: Spec) -> str:
    """Every mark in words."""
    return "; ".join(str(row["about"]) for row in spec["data"]["values"])


def _figure(judged: Judged) -> Figure:
    assert isinstance(judged.claim.rule, Figure)
    return judged.claim.rule


def _setting(reading: Reading, one: Judged, names: Names) -> str:
    return claims.differences(reading, one.claim.setting, names) or "the claim's"
