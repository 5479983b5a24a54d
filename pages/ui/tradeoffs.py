"""Two metrics against each other: which there are, which value of each is best, and which methods no other beats in both. Pure functions."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from math import isinf
from typing import Any

import pandas as pd

from engine.store import queries, standings
from pages.ui import findings, formats
from pages.ui.formats import Row, Rows

AS_RETRAINED = ("forget_accuracy", "zrf", "relearn_epochs", "embedding_auc")  # best is what retraining has, neither more nor less
_BEST = {"up": float("inf"), "down": 0.0, "half": 0.5}
_LOG = ("rte", "unlearn_s", "image_passes")


@dataclass(frozen=True)
class Front:
    """on: `method/variant` of what no other method beats by the means, from the best in the first metric to the best in the second.
    may: of what is beaten by the means, but by no single method for certain."""

    on: tuple[str, ...]
    may: frozenset[str]


def measured(rows: Rows) -> list[str]:
    """The metrics that some method of `queries.results` has."""
    methods = [row for row in rows if row["method"] not in findings.REFERENCES]
    return [metric for metric in formats.METRICS if metric in queries.METRICS and any(not pd.isna(row[metric]) for row in methods)]


def best(metric: str, rows: Rows) -> float | None:
    """The best value of a metric, infinite where more is always better; None where nothing is, or where it is what retraining has and no
    row of `rows` says what that is."""
    if metric in AS_RETRAINED:
        retrained = findings.retrained_row(rows)
        return None if retrained is None or pd.isna(retrained[metric]) else float(retrained[metric])
    if metric == "shift":
        return 0.0
    return standings.BEST.get(metric, _BEST.get(formats.METRICS[metric].better))


def axis(metric: str) -> str:
    """Name and direction of a metric, also where the best is what retraining has."""
    known = formats.METRICS[metric]
    return f"{known.label} (best as retrained)" if metric in AS_RETRAINED else f"{known.label} (0 is best)" if metric == "shift" else known.axis


def is_log(metric: str, values: Iterable[float]) -> bool:
    """Whether these values of a metric stand on a log scale: times and their like."""
    return metric in _LOG and all(value > 0 for value in values if not pd.isna(value))


def front(rows: Rows, x: str, y: str) -> Front | None:
    """The Pareto front of the methods, references left out, by the distance of both metrics to their best values.

    What is claimed: `on` is the front of the means, no more. A method is in `may` unless some one method is better in both metrics with
    95 % intervals that do not touch. These are intervals of each metric and each method by itself, unpaired and not adjusted for the number of
    pairs, so a method in `may` has not been shown to be off the front, and none in `on` has been shown to be on it. The range of repeats counts
    as an interval; where there is none, the mean stands for it. None where one of the metrics has no best value.
    """
    aims = best(x, rows), best(y, rows)
    if aims[0] is None or aims[1] is None:
        return None
    there = [row for row in rows if row["method"] not in findings.REFERENCES and not pd.isna(row[x]) and not pd.isna(row[y])]
    spans = {key(row): (_losses(row, x, aims[0]), _losses(row, y, aims[1])) for row in there}

    def beaten(one: str) -> bool:
        (_, own_x, _), (_, own_y, _) = spans[one]
        return any(a[1] <= own_x and b[1] <= own_y and (a[1], b[1]) != (own_x, own_y) for a, b in spans.values())

    def surely_beaten(one: str) -> bool:
        (least_x, _, _), (least_y, _, _) = spans[one]
        return any(a[2] < least_x and b[2] < least_y for a, b in spans.values())

    on = sorted((one for one in spans if not beaten(one)), key=lambda one: (spans[one][0][1], spans[one][1][1], one))
    return Front(tuple(on), frozenset(one for one in spans if one not in on and not surely_beaten(one)))


def inside(rows: Rows, x: str, y: str, box: Mapping[str, Any]) -> list[str]:
    """`method/variant` of what a box holds, as Vega-Lite says it: ranges of the fields x and y. Retrained models are no point of the figure."""
    def held(row: Row) -> bool:
        return all(min(ends) <= row[metric] <= max(ends) for name, metric in (("x", x), ("y", y)) if (ends := box.get(name)))

    return [key(row) for row in rows if row["method"] != "retrained" and not pd.isna(row[x]) and not pd.isna(row[y]) and held(row)] if box else []


def where(metric: str, rows: Rows, upwards: bool) -> str:
    """Where on its axis the best of a metric is, in words; empty where it has none."""
    aim = best(metric, rows)
    if aim is None:
        return ""
    if metric in AS_RETRAINED or metric == "shift" or formats.METRICS[metric].better == "half":
        return {0.5: "near ½", 0.0: "near 0"}.get(aim, "as near retraining as can be")
    more = isinf(aim) or formats.METRICS[metric].better == "up"
    return ("at the top" if more else "at the bottom") if upwards else ("to the right" if more else "to the left")


def chosen(text: str, keys: Collection[str]) -> list[str]:
    """What an address says of a selection, without what is not there."""
    return [one for one in dict.fromkeys(text.split(",")) if one in keys]


def key(row: Row) -> str:
    return f"{row['method']}/{row['variant']}"


def _losses(row: Row, metric: str, aim: float) -> tuple[float, float, float]:
    """(best case, mean, worst case) as distances to the best value."""
    mean = float(row[metric])
    low, high = (mean if pd.isna(row[f"{metric}{end}"]) else float(row[f"{metric}{end}"]) for end in ("_lo", "_hi"))
    if isinf(aim):
        return -high, -mean, -low
    ends = sorted((abs(low - aim), abs(high - aim)))
    return (0.0 if low < aim < high else ends[0]), abs(mean - aim), ends[1]
