"""Vega-Lite as plain mappings: the few shapes that every chart is put together from."""

from collections.abc import Mapping, Sequence
from math import log10
from typing import Any

import pandas as pd

from pages.ui.theme import Style

Spec = dict[str, Any]
Span = tuple[float, float]

SCHEMA = "https://vega.github.io/schema/vega-lite/v6.json"  # a name, never fetched
COLOUR = {"field": "colour", "type": "nominal", "scale": None}
SHAPE = {"field": "shape", "type": "nominal", "scale": None}
ABOUT = {"description": {"field": "about"}}  # what a screen reader says of a mark


def chart(data: Sequence[Mapping[str, Any]], layers: list[Spec], **properties: Any) -> Spec:
    return {"$schema": SCHEMA, "data": {"values": list(data)}, "layer": layers, **properties}


def layer(mark: str, encoding: Mapping[str, Any], data: Sequence[Mapping[str, Any]] | None = None, **style: Any) -> Spec:
    return {**({} if data is None else {"data": {"values": list(data)}}), "mark": {"type": mark, **style}, "encoding": dict(encoding)}


def rows(field: str, names: Sequence[str], style: Style) -> Spec:
    """Channel of rows under names, the first on top."""
    return {"field": field, "type": "nominal", "sort": list(names), "scale": {"domain": list(names)},
            "axis": {"title": None, "grid": False, "labelColor": style.ink, "labelFontSize": style.label, "labelPadding": style.text}}


def reach(values: Sequence[float], log: bool = False, pad: float = 0.08) -> Span:
    """The smallest range around the values with a margin; never empty."""
    known = [v for v in values if not pd.isna(v) and (v > 0 or not log)] or [1.0 if log else 0.0, 1.0]
    if log:
        low, high = log10(min(known)), log10(max(known))
        room = max(high - low, 0.5)
        return 10 ** (low - pad * room), 10 ** (high + 2 * pad * room)
    room = max(max(known) - min(known), 0.01 * abs(max(known)), 1e-6)
    return min(known) - pad * room, max(known) + pad * room
