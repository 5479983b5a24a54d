"""What to use, in words, as a table, as a figure and as a text for a report. Pure functions over candidates."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from pages.ui import consistency, formats, vega
from pages.ui.candidates import AGAINST, NUMBERS, Candidate, Case, Evidence, Finding, Limits, Status
from pages.ui.formats import counted, listed
from pages.ui.places import where
from pages.ui.theme import Look, Style, look
from pages.ui.vega import Spec

VERDICTS: dict[Status, str] = {"meets": "meets all", "partly": "meets so far", "almost": "almost", "unknown": "not known", "fails": "fails"}
HEADINGS = {"time": "Run time", "accuracy": "Accuracy lost", "exposure": "Exposure"}
_AXES = {"time": "% of retraining's (lower is better)", "accuracy": "Points (lower is better)",
         "exposure": "Distance from ½ (lower is better)"}
_COLUMNS = {"time": "Time, % of retraining ↓", "accuracy": "Accuracy lost, points ↓", "exposure": "Exposure, from ½ ↓"}
_WORDS = {"time": "run time", "accuracy": "accuracy lost", "exposure": "exposure", "data": "data"}
_HUNDREDTHS = ("time", "accuracy")  # shown as percent or points
_TICKS = {"time": (0.1, 0.3, 1, 3, 10, 30, 100, 300, 1000), "accuracy": (-30, -10, -3, -1, 0, 1, 3, 10, 30, 100)}
_LEAST = {"time": 0.001, "accuracy": 0.0001, "exposure": 0.001}  # what the last digit shows
_FEW = 3  # methods that are told of in a sentence
_WRONG = 0.025  # of the upper ends of 95 % intervals lie below the truth


def answer(found: Sequence[Candidate], looks: Mapping[str, Look]) -> str:
    """Who meets everything, who almost does, and how many do not."""
    if not found:
        return "No method has been run in these cells yet, so there is nothing to choose from."
    by, cells = {status: [one for one in found if one.status == status] for status in VERDICTS}, found[0].of
    every = "" if cells == 1 else " in both cells" if cells == 2 else f" in all {cells} cells"
    told: list[str] = []
    if by["meets"]:
        verb, whose = ("meets", "its intervals") if len(by["meets"]) == 1 else ("meet", "their intervals")
        told.append(f"**{_names(by['meets'], looks)}** {verb} every constraint{every}, by the upper ends of {whose}.")
    else:
        told.append(f"**No method is shown to meet every constraint{every}.**")
    if by["partly"]:
        verb = "meets" if len(by["partly"]) == 1 else "meet"
        known = _range([one.known for one in by["partly"]])
        told.append(f"**{_names(by['partly'], looks)}** {verb} them so far, with evidence from only {known} of the {cells} cells.")
    if by["almost"]:
        told.append(f"Almost: {'; '.join(f'**{_title(one, looks)}** ({miss(one)})' for one in by['almost'][:_FEW])}"
                    + (f"; and {len(by['almost']) - _FEW} more." if len(by["almost"]) > _FEW else "."))
    if not (by["meets"] or by["partly"] or by["almost"]):
        told.append("None comes near: what is left is retraining, or a looser constraint.")
    if by["unknown"]:
        told.append(f"Of {counted(len(by['unknown']), 'method')} too little is known.")
    if by["fails"]:
        told.append(f"{counted(len(by['fails']), 'method')} {'does' if len(by['fails']) == 1 else 'do'} not.")
    return " ".join(told)


def miss(one: Candidate) -> str:
    """Which constraint fails, and by how much."""
    (name,) = one.missed
    return _missed(name, one.findings[name], one) + _run_in(one)


def reasons(one: Candidate) -> str:
    """Everything that is missed or not known."""
    told = [one.failed] if one.failed else []
    told += [_missed(name, one.findings[name], one) for name in one.missed]
    told += [f"{_WORDS[name]} not known: {one.findings[name].why}" for name in one.unknown]
    return "; ".join(told)


def shown(one: Candidate) -> str:
    """All evidence of a method in one sentence."""
    told = "; ".join(f"{_WORDS[name]} {evidence(one, name)}" for name in NUMBERS) + _run_in(one)
    return f"{told}. {formats.sentence(reasons(one))}" if reasons(one) else told


def evidence(one: Candidate, name: str) -> str:
    """A constraint with its number, its interval, and the cell that decided."""
    found = one.findings[name]
    if name == "data" or found.worst is None:
        return {"met": "reads only what there is", "missed": f"needs {found.why}", "unknown": f"not known: {found.why}"}[found.outcome]
    where = f", {found.worst.place}" if one.cells > 1 else ""
    few = f" ({found.places} of {one.of} cells)" if 1 < found.places < one.of else ""
    doubt = f"; not settled: {found.why}" if found.outcome == "unknown" else ""
    return f"{span(name, found.worst)}{where}{few}{doubt}"


def span(name: str, one: Evidence) -> str:
    """Value and interval as people read them."""
    ends = "" if pd.isna(one.lo) or pd.isna(one.hi) else f" ({_plain(name, one.lo)} to {_number(name, one.hi)})"
    return f"{_number(name, one.value)}{ends}"


def constraints(limits: Limits) -> list[str]:
    """What was asked for, in words."""
    data = listed(limits.data) if limits.data else "nothing"
    return [f"run time at most {_number('time', limits.time)} of retraining's",
            f"test accuracy at most {_number('accuracy', limits.loss)} below retraining's, paired by seed",
            f"exposure at most {_number('exposure', limits.exposure)}: balanced accuracy from ½, {AGAINST[limits.against]}", f"data to read: {data}"]


def caveats(found: Sequence[Candidate], cases: Sequence[Case], limits: Limits) -> list[str]:
    """Why nothing here is certain, each with its size."""
    data = sorted({case.cell.dataset for case in cases})
    reach = f" {consistency.reach(len(cases))}" if len(cases) > 1 else ""
    named = f": {where([case.name for case in cases])}" if len(cases) < 4 else ""
    told = [f"**{counted(len(cases), 'cell')}**, of {counted(len(data), 'dataset')}{named}. Nothing here speaks of other data, other architectures "
            f"or larger networks.{reach}"]
    varies = listed(sorted({case.cell.varies for case in cases}))
    told.append(f"**Few seeds**: {_range([len(case.cell.seeds) for case in cases])} a method. Intervals of accuracy cover {varies}.")
    ends = sum(one.findings[name].places for one in found for name in ("accuracy", "exposure"))
    told.append(f"**{counted(ends, 'upper end')}** of 95{formats.THIN}% intervals were held against limits. One in forty lies below the truth: about "
                f"{_WRONG * ends:.1f} of them by chance. Choosing among many methods finds the lucky ones.")
    told.append("**Time** was measured on one machine; its interval is the range of the repeats, no confidence interval. Elsewhere the share may be "
                "another.")
    yardstick = [case.retrained for case in cases if case.retrained and not pd.isna(case.retrained.hi) and not case.retrained.why]
    floor = max(yardstick, key=lambda one: one.hi) if yardstick else None
    least = f" Retrained models themselves reach {_number('exposure', floor.hi)} ({floor.place})" if floor else ""
    least += (": less cannot be shown with so many splits." if floor.hi > limits.exposure else ".") if floor else ""
    told.append("**Exposure** is the mean over examples, to one kind of attack: single examples may be far more exposed, and a stronger attack may "
                f"see more.{least}")
    doubts: dict[str, dict[str, None]] = {}
    for case in cases:
        for why in {one.why: None for one in case.exposure.values() if one.why}:
            doubts.setdefault(why, {})[case.name] = None
    if doubts:
        told.append(f"**Not counted** as evidence of exposure: {'; '.join(f'in {where(list(names))} {why}' for why, names in doubts.items())}.")
    told.append("**Settings** are each study's own. Another setting of the same method is another trade-off.")
    return told


def texts(found: Sequence[Candidate], reads: Mapping[str, Sequence[str]], looks: Mapping[str, Look]) -> pd.DataFrame:
    """Every method with the evidence that decided, as people read it."""
    return pd.DataFrame([{
        "Method": _title(one, looks), "Verdict": VERDICTS[one.status],
        **{header: evidence(one, name).replace(" points", "") for name, header in _COLUMNS.items()},
        "Reads": ", ".join(sorted(reads.get(one.key[0], ()))) or formats.MISSING, "Cells": f"{one.cells} of {one.of}",
        "What stands against it": reasons(one) or formats.MISSING} for one in found])


def frame(found: Sequence[Candidate]) -> pd.DataFrame:
    """The same at full precision: for each constraint outcome, value, interval, limit, deciding cell and how many cells have evidence."""
    def flat(one: Candidate) -> dict[str, object]:
        row: dict[str, object] = {"method": one.key[0], "variant": one.key[1], "verdict": one.status, "cells": one.cells, "failed": one.failed}
        for name in NUMBERS:
            finding, blank = one.findings[name], float("nan")
            worst = finding.worst or Evidence("", blank, blank, blank)
            row |= {f"{name}_outcome": finding.outcome, name: worst.value, f"{name}_lo": worst.lo, f"{name}_hi": worst.hi,
                    f"{name}_limit": finding.limit, f"{name}_place": worst.place, f"{name}_cells": finding.places, f"{name}_why": finding.why}
        return {**row, "data_outcome": one.findings["data"].outcome, "data_why": one.findings["data"].why}

    return pd.DataFrame([flat(one) for one in found])


def report(found: Sequence[Candidate], cases: Sequence[Case], limits: Limits, looks: Mapping[str, Look], sources: Sequence[str]) -> str:
    """The answer with constraints, evidence and limits of it, as Markdown. sources: a line for each study."""
    lines = ["# Which unlearning method to use", "", answer(found, looks), "", "## Constraints", "",
             *(f"- {text}" for text in constraints(limits)), "",
             "A constraint is met where the upper end of the interval is within it, in every cell that has evidence; the worst cell counts.", ""]
    for status, words in VERDICTS.items():
        of = [one for one in found if one.status == status]
        lines += [f"## {formats.sentence(words)}", "", *(f"- **{_title(one, looks)}**: {shown(one)}." for one in of), ""] if of else []
    return "\n".join([*lines, "## Why this is not certain", "", *(f"- {text}" for text in caveats(found, cases, limits)), "", "## Sources", "",
                      *(f"- {text}" for text in sources), ""])


def figure(found: Sequence[Candidate], name: str, looks: Mapping[str, Look], style: Style, *, width: int = 280, heading: str | None = None) -> Spec:
    """One constraint: the evidence that decided for every method, in the order of the verdicts; what is allowed is shaded. Faint: missed.
    Grey: not known."""
    names = [row for words in VERDICTS.values() if (group := [one for one in found if VERDICTS[one.status] == words])
             for row in (f"{words}:", *(_title(one, looks) for one in group))]
    data = [_mark(one, name, looks, style) for one in found if one.findings[name].worst]
    lost = [{"row": _title(one, looks)} for one in found if not one.findings[name].worst]
    limit = _scale(name) * next((one.findings[name].limit for one in found), 0.0)
    low, high = vega.reach([row[end] for row in data for end in ("x_lo", "x_hi")] + [limit, *([] if name == "time" else [0.0])], name == "time")
    axis: Spec = {"title": _AXES[name], "tickCount": 4, "format": "~g"}
    axis |= {"values": [tick for tick in _TICKS[name] if low <= tick <= high]} if name in _TICKS else {}
    kind = {"time": {"type": "log"}, "accuracy": {"type": "symlog", "constant": 1}}.get(name, {"type": "linear", "zero": False})
    at_x = {"field": "x", "type": "quantitative", "axis": axis, "scale": {**kind, "domain": [low, high], "nice": False}}
    at_y, hue = vega.rows("row", names, style), {**vega.COLOUR, "legend": None}
    at_y["axis"]["labelColor"] = {"condition": {"test": "indexof(datum.value, ':') > 0", "value": style.muted}, "value": style.ink}
    strong = {"field": "strong", "type": "quantitative", "scale": None}
    allowed = [{"from": low, "limit": min(max(limit, low), high)}]
    mark = {"x": at_x, "y": at_y, "fill": hue, "shape": {**vega.SHAPE, "legend": None}, "opacity": strong, "tooltip": {"field": "about"},
            **vega.ABOUT}
    whisker = {"x": {**at_x, "field": "x_lo"}, "x2": {"field": "x_hi"}, "y": at_y, "color": hue, "opacity": strong}
    layers = [vega.layer("rect", {"x": {**at_x, "field": "from"}, "x2": {"field": "limit"}}, allowed, color=style.band),
              vega.layer("rule", {"x": {**at_x, "field": "limit"}}, allowed, color=style.accent, strokeWidth=style.stroke),
              vega.layer("rule", whisker, data, strokeWidth=1.6 * style.stroke), vega.layer("point", mark, data, filled=True, size=style.point),
              vega.layer("text", {"x": {**at_x, "field": "from"}, "y": at_y}, [{**row, "from": low} for row in lost], text="not measured",
                         align="left", color=style.muted, fontSize=style.text, dx=style.text / 3)]
    return vega.chart(data, layers, width=width, height=style.row * max(len(names), 1), **({"title": heading} if heading else {}))


def _mark(one: Candidate, name: str, looks: Mapping[str, Look], style: Style) -> dict[str, Any]:
    known, found, scale = look(looks, one.key[0]), one.findings[name], _scale(name)
    assert found.worst is not None
    ends = [found.worst.value if pd.isna(end) else end for end in (found.worst.lo, found.worst.hi)]
    return {"row": _title(one, looks), "x": scale * found.worst.value, "x_lo": scale * ends[0], "x_hi": scale * ends[1], "shape": known.shape,
            "colour": style.faint if found.outcome == "unknown" else known.colour, "strong": 0.5 if found.outcome == "missed" else 1.0,
            "about": f"{_title(one, looks)}: {evidence(one, name)}, {found.outcome}"}


def _run_in(one: Candidate) -> str:
    """Where it was not run everywhere."""
    if one.cells == one.of:
        return ""
    only = next((found.worst.place for found in one.findings.values() if found.worst), "")
    return f"; run only in {only}" if one.cells == 1 and only else f"; run in {one.cells} of {one.of} cells"


def _missed(name: str, found: Finding, one: Candidate) -> str:
    """What is missed, where, by how much, and whether only the interval reaches too far."""
    if name == "data" or found.worst is None:
        return f"it reads {found.why}"
    where = f" in {found.worst.place}" if one.cells > 1 else ""
    mean = "; the mean would do" if found.worst.value <= found.limit else ""
    over, least = found.worst.hi - found.limit, _LEAST[name]
    much = _number(name, over).replace(f"{formats.THIN}%", " points") if over >= least else f"less than {_number(name, least)}"
    return f"{_WORDS[name]} up to {_number(name, found.worst.hi)}{where}, {much} too much{mean}"


def _range(counts: Sequence[int]) -> str:
    """`5`, `5 to 10`"""
    return " to ".join(map(str, dict.fromkeys((min(counts), max(counts)))))


def _scale(name: str) -> int:
    return 100 if name in _HUNDREDTHS else 1


def _number(name: str, value: float) -> str:
    """18.2 %, 1.24 points, 0.021"""
    match name:
        case "time":
            return f"{100 * value:.1f}{formats.THIN}%" if value >= 0.01 else f"{100 * value:.2g}{formats.THIN}%"
        case "accuracy":
            return f"{100 * value:.2f} points".replace("-", "−")
        case _:
            return f"{value:.3f}"


def _plain(name: str, value: float) -> str:
    return _number(name, value).removesuffix(f"{formats.THIN}%").removesuffix(" points")


def _names(found: Sequence[Candidate], looks: Mapping[str, Look]) -> str:
    return listed([_title(one, looks) for one in found])


def _title(one: Candidate, looks: Mapping[str, Look]) -> str:
    return look(looks, one.key[0]).title(one.key[1])
