"""The charts of Search: what `engine.store.searches` found in, Vega-Lite mapping out, as in `charts`.

Of every search the same marks: filled where a trial ran on all splits, hollow where it was stopped early, a cross where it diverged, which has
no score and stands at the edge. Ringed: the chosen trial. The hue is the method's.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil, floor, isnan, log10
from typing import Any

from engine.store import searches
from engine.store.searches import Axis, Importance, Search, Span, Summary, Trial
from pages.ui import formats, labels, vega
from pages.ui.charts import PICK
from pages.ui.theme import Look, Style, look
from pages.ui.vega import Spec

_NUMBER = "format(datum.value, '.3~g')"  # an axis of its own accord writes 10 as 1e+1
_SCORE = "score ↓"
_STRENGTHS = (0.25, 0.95)  # opacity of a line through all parameters: complete, and one of the best quarter


@dataclass(frozen=True)
class Kind:
    """How a kind of search is called and what its score is. places: decimals of a score."""

    name: str
    score: str
    unit: str
    places: int

    @property
    def axis(self) -> str:
        return f"{self.score} (lower is better)"

    @property
    def short(self) -> str:
        return f"Score{', ' + self.unit if self.unit.startswith('units') else ''} (lower is better)"

    def number(self, value: float) -> str:
        return formats.MISSING if isnan(value) else f"{value:.{self.places}f}".replace("-", "−")

    def told(self, span: Span) -> str:
        """`1.89 (0.24 to 4.02)`, or the value alone."""
        value, lo, hi = map(self.number, (span.value, span.lo, span.hi))
        return value if isnan(span.lo) else f"{value} ({lo} to {hi})"


KINDS = {
    "racing": Kind("racing", "Distance from retraining, in units of its noise", "units of noise", 2),
    "grid": Kind("trying a list", "Distance from retraining", "in score", 3),
    "deep_unlearn": Kind("NSGA-III", "Norm of the four objectives", "in norm", 3),
}


def kind(search: Search) -> Kind:
    return KINDS.get(search.kind, KINDS["grid"])


def chosen(rows: Sequence[Summary], looks: Mapping[str, Look], style: Style, *, width: int = 420) -> Spec:
    """Every method's chosen setting, best on top: hollow its score in the search, filled that on fresh splits with its interval, a cross
    the declared defaults; the line is a second retrained model on the splits of the search, shaded its interval. rows: of searches of one kind."""
    of = kind(rows[0].search)
    data = []
    for row in sorted(rows, key=lambda row: row.score.value):
        known, span = look(looks, row.search.method), row.score
        usual = row.default[0].seen if row.default else float("nan")
        told = {"found": of.number(row.chosen.score), "again": of.told(span), "usual": of.number(usual)}
        ends = [span.value if isnan(end) else end for end in (span.lo, span.hi)]
        parts = [f"{known.title(row.search.variant)}: {told['again']}{' on fresh splits' if row.fresh else ''}",
                 *([f"{told['found']} in the search"] if row.fresh else []), *([f"its defaults {told['usual']}"] if row.default else [])]
        data.append({"key": "/".join(row.search.key), "name": known.title(row.search.variant), "colour": known.colour, "shape": known.shape,
                     "x": span.value, "x_lo": ends[0], "x_hi": ends[1], "first": row.chosen.score if row.fresh else None,
                     "default": None if isnan(usual) else usual, "about": ", ".join(parts),
                     **{f"{name}_told": text for name, text in told.items()}})
    twin = next((row.search.span(row.search.twin) for row in rows if row.search.twin and row.fresh), None)
    drawn = [value for row in data for value in (row["x"], row["first"], row["default"], row["x_hi"]) if value is not None]
    at_x = _score("x", of, drawn + ([twin.value] if twin else []))
    at_y = vega.rows("name", [row["name"] for row in data], style)
    tint = {**vega.COLOUR, "legend": None}
    tips = [{"field": "name", "title": "Method"}, {"field": "again_told", "title": "Score"}, {"field": "found_told", "title": "In the search"},
            {"field": "usual_told", "title": "Declared defaults"}]
    click = {"name": PICK, "select": {"type": "point", "fields": ["key"], "on": "click", "clear": "dblclick"}}
    filled = {"x": at_x, "y": at_y, "fill": tint, "shape": {**vega.SHAPE, "legend": None}, "tooltip": tips, **vega.ABOUT}
    clamped = {**at_x, "scale": {**at_x["scale"], "clamp": True}}
    known = {name: [row for row in data if row[name] is not None] for name in ("first", "default")}
    shaded = {"x": {**clamped, "field": "from"}, "x2": {"field": "to"}}
    chance = [vega.layer("rect", shaded, [] if isnan(twin.lo) else [{"from": twin.lo, "to": twin.hi}], color=style.band),
              vega.layer("rule", {"x": at_x}, [{"x": twin.value}], color=style.muted, strokeWidth=style.stroke)] if twin else []
    layers = [*chance,
              vega.layer("rule", {"x": at_x, "x2": {"field": "default"}, "y": at_y}, known["default"], color=style.line, strokeWidth=style.stroke),
              vega.layer("rule", {"x": {**clamped, "field": "x_lo"}, "x2": {"field": "x_hi"}, "y": at_y, "color": tint},
                         strokeWidth=1.6 * style.stroke),
              vega.layer("point", {"x": {**at_x, "field": "default"}, "y": at_y}, known["default"], shape="cross", angle=45,
                         filled=True, color=style.muted, size=0.6 * style.point),
              vega.layer("point", {"x": {**at_x, "field": "first"}, "y": at_y, "stroke": tint}, known["first"],
                         size=0.6 * style.point, fill=style.page, strokeWidth=style.stroke),
              {**vega.layer("point", filled, filled=True, size=style.point, stroke=style.page, strokeWidth=0.6 * style.stroke, cursor="pointer"),
               "params": [click]}]
    return vega.chart(data, layers, width=width, height=style.row * max(len(data), 1))


def progress(search: Search, style: Style, colour: str, *, picked: int | None = None, size: tuple[int, int] = (420, 280)) -> Spec:
    """Every trial in the order of the search, and the best complete one so far as steps, one line a model seed where there are several."""
    data, rise = _marks(search, style, colour, picked), _Rise.of(search)
    at_x = {"field": "trial", "type": "quantitative", "axis": {"title": "Trial, in the order of the search", "tickMinStep": 1, "grid": False},
            "scale": {"domain": [-1, len(search.trials)], "nice": False}}
    at_y = rise.channel(kind(search).short)
    best: dict[int, float] = {}
    steps = []
    for trial in search.trials:
        if trial.status == "done" and trial.score < best.get(trial.seed, float("inf")):
            best[trial.seed] = trial.score
        if trial.seed in best:
            steps.append({"trial": trial.number, "y": best[trial.seed], "seed": trial.seed})
    layers = [vega.layer("rule", {"x": {**at_x, "field": "begin"}}, [{"begin": begin - 0.5} for begin in search.rounds], color=style.faint,
                         strokeWidth=0.6 * style.stroke, strokeDash=[3, 3]),
              vega.layer("line", {"x": at_x, "y": at_y, "detail": {"field": "seed"}}, steps, interpolate="step-after", color=style.accent,
                         strokeWidth=1.4 * style.stroke),
              _points(at_x, at_y, style)]
    return vega.chart(data, layers, width=size[0], height=size[1])


def parallel(search: Search, space: Sequence[Axis], style: Style, colour: str, *, picked: int | None = None,
             size: tuple[int, int] = (900, 260), heading: str | None = None) -> Spec:
    """Every trial as a line through its parameters to its score: strong those of the best quarter, thin and grey the stopped ones, dashed the
    diverged. Each parameter runs from the least to the largest value that was tried."""
    rise, of = _Rise.of(search), kind(search)
    names = [*(axis.name for axis in space), _SCORE]
    ranked = sorted((trial for trial in search.trials if trial.status == "done"), key=lambda trial: trial.score)
    leading = {trial.number for trial in ranked[:max(1, len(ranked) // 4)]}
    about = {trial.number: told(search, trial) for trial in search.trials}

    def line(trial: Trial) -> list[dict[str, Any]]:
        places = [*(axis.at(trial.params[axis.name]) for axis in space), rise.share(trial)]
        return [{"trial": trial.number, "name": name, "place": place, "about": about[trial.number]}
                for name, place in zip(names, places, strict=True)]

    groups = {"diverged": [t for t in search.trials if t.status == "diverged"], "stopped": [t for t in search.trials if t.status == "stopped"],
              "rest": [t for t in ranked if t.number not in leading], "best": [t for t in ranked if t.number in leading]}
    strokes: dict[str, dict[str, Any]] = {
        "diverged": {"color": style.muted, "opacity": 0.5, "strokeDash": [3, 3]}, "stopped": {"color": style.faint, "opacity": 0.6},
        "rest": {"color": colour, "opacity": _STRENGTHS[0]}, "best": {"color": colour, "opacity": _STRENGTHS[1]}}
    tilted = max(labels.text_width(name, style.text) for name in names) > size[0] / len(names)
    axis = {"title": None, "grid": True, "gridColor": style.faint, "orient": "top", "labelColor": style.ink, "labelFontSize": style.text,
            "labelAngle": -30 if tilted else 0, "labelAlign": "left" if tilted else "center", "labelOverlap": False, "labelLimit": 14 * style.text}
    at_x = {"field": "name", "type": "nominal", "sort": names, "scale": {"type": "point", "domain": names, "padding": 0.35}, "axis": axis}
    at_y = {"field": "place", "type": "quantitative", "axis": None, "scale": {"domain": [-0.04, 1.04], "nice": False}}
    lines = {"x": at_x, "y": at_y, "detail": {"field": "trial"}, "order": {"value": 0}}
    spots = [spot for name, trials in groups.items() for trial in trials for spot in
             [{**p, "colour": strokes[name]["color"]} for p in line(trial)]]
    ends = [{"name": name, "place": place, "tick": text} for name, ticks in _ticks(space, search, rise, of).items() for place, text in ticks]
    looked = {number: width for number, width in ((getattr(search.chosen, "number", None), 2.4), (picked, 3.2)) if number is not None}
    over = [vega.layer("line", lines, line(trial), color=style.accent if trial.number == picked else style.ink, strokeWidth=width * style.stroke)
            for number, width in looked.items() for trial in search.trials if trial.number == number]
    click = {"name": PICK, "select": {"type": "point", "fields": ["trial"], "on": "click", "nearest": False, "clear": "dblclick"}}
    mark = {"x": at_x, "y": at_y, "fill": {**vega.COLOUR, "legend": None}, "tooltip": {"field": "about"}, **vega.ABOUT}
    layers = [*(vega.layer("line", lines, [p for trial in groups[name] for p in line(trial)], strokeWidth=style.stroke, **strokes[name])
                for name in groups if groups[name]), *over,
              {**vega.layer("point", mark, spots, filled=True, size=style.point / 4, opacity=0.8, cursor="pointer"), "params": [click]},
              vega.layer("text", {"x": at_x, "y": at_y, "text": {"field": "tick"}}, ends, align="left", dx=0.5 * style.text,
                         fontSize=0.92 * style.text, color=style.page, stroke=style.page, strokeWidth=style.text / 3),
              vega.layer("text", {"x": at_x, "y": at_y, "text": {"field": "tick"}}, ends, align="left", dx=0.5 * style.text,
                         fontSize=0.92 * style.text, color=style.muted)]
    return vega.chart([], layers, width=size[0], height=size[1], **({"title": heading} if heading else {}))


def importance(found: Sequence[Importance], chance: float, style: Style, *, width: int = 420) -> Spec:
    """What share of the ranks each parameter accounts for; shaded: what chance reaches."""
    data = [{"name": one.name, "x": one.share, "zero": 0.0, "told": formats.number(one.share, "share"),
             "about": f"{one.name}: {formats.number(one.share, 'share')}"} for one in found]
    at_x = {"field": "x", "type": "quantitative", "scale": {"domain": [0, min(1.0, 1.1 * max(chance, *(one.share for one in found)))], "nice": False},
            "axis": {"title": "Share of the ranks explained (higher = matters more)", "format": ".0%", "tickCount": 5}}
    at_y = vega.rows("name", [row["name"] for row in data], style)
    tips = [{"field": "name", "title": "Parameter"}, {"field": "told", "title": "Accounts for"}]
    layers = [vega.layer("rect", {"x": {**at_x, "field": "from"}, "x2": {"field": "to"}}, [{"from": 0, "to": min(chance, 1.0)}], color=style.band),
              vega.layer("rule", {"x": {**at_x, "field": "zero"}, "x2": {"field": "x"}, "y": at_y}, color=style.accent,
                         strokeWidth=1.6 * style.stroke),
              vega.layer("point", {"x": at_x, "y": at_y, "tooltip": tips, **vega.ABOUT}, filled=True, color=style.accent, size=style.point,
                         opacity=1)]
    return vega.chart(data, layers, width=width, height=style.row * max(len(data), 1))


def against(search: Search, axis: Axis, style: Style, colour: str, *, picked: int | None = None, size: tuple[int, int] = (270, 160),
            heading: str | None = None) -> Spec:
    """The score of every trial against one parameter."""
    rise = _Rise.of(search)
    data = [{**row, "value": search.trials[row["trial"]].params[axis.name]} for row in _marks(search, style, colour, picked)]
    if axis.levels:
        levels = [formats.plain(level) for level in axis.levels]
        data = [{**row, "value": formats.plain(row["value"])} for row in data]
        at_x: Spec = {"field": "value", "type": "nominal", "sort": levels, "scale": {"domain": levels},
                      "axis": {"title": axis.name, "labelAngle": 0, "grid": True}}
    else:
        span = vega.reach([axis.lo, axis.hi], axis.log, pad=0.04)
        title = axis.name + (" (log scale)" if axis.log else "")
        at_x = {"field": "value", "type": "quantitative", "axis": {"title": title, **_labels(span, axis.log)}, "scale": _scale(axis.log, span)}
    layers = [_points(at_x, rise.channel("Score (lower is better)"), style)]
    return vega.chart(data, layers, width=size[0], height=size[1], **({"title": heading} if heading else {}))


def runners(found: Summary, style: Style, colour: str, *, width: int = 420) -> Spec:
    """What was compared in the end: by how much each is worse than the chosen trial, paired by split."""
    of = kind(found.search)
    data = [{"name": f"trial {found.chosen.number}, chosen", "trial": found.chosen.number, "x": 0.0, "x_lo": 0.0, "x_hi": 0.0, "told": "chosen",
             "about": f"trial {found.chosen.number}, chosen"}]
    for trial, worse in found.runners:
        ends = [worse.value if isnan(end) else end for end in (worse.lo, worse.hi)]
        name = f"trial {trial.number}" + (f", seed {trial.seed}" if found.search.kind == "deep_unlearn" else "")
        data.append({"name": name, "trial": trial.number, "x": worse.value, "x_lo": ends[0], "x_hi": ends[1], "told": of.told(worse),
                     "about": f"{name}: worse by {of.told(worse)}"})
    span = vega.reach([row[end] for row in data for end in ("x", "x_lo", "x_hi")])
    at_x = {"field": "x", "type": "quantitative", "scale": {"domain": list(span), "nice": False},
            "axis": {"title": f"Worse than the chosen trial by, {of.unit} (lower is better)", **_labels(span, False)}}
    at_y = vega.rows("name", [str(row["name"]) for row in data], style)
    tips = [{"field": "name", "title": "Setting"}, {"field": "told", "title": "Worse by"}]
    layers = [vega.layer("rule", {"x": {**at_x, "field": "zero"}}, [{"zero": 0}], color=style.muted, strokeWidth=style.stroke),
              vega.layer("rule", {"x": {**at_x, "field": "x_lo"}, "x2": {"field": "x_hi"}, "y": at_y}, color=colour, strokeWidth=1.6 * style.stroke),
              vega.layer("point", {"x": at_x, "y": at_y, "tooltip": tips, **vega.ABOUT}, filled=True, color=colour, size=style.point, opacity=1)]
    return vega.chart(data, layers, width=width, height=style.row * len(data))


def around(found: Summary, style: Style, colour: str, *, picked: int | None = None, size: tuple[int, int] = (420, 280)) -> Spec:
    """How much worse every other setting is, against how far it is from the chosen one; 0 is the chosen one."""
    of, search = kind(found.search), found.search
    known = {row["trial"]: row for row in _marks(search, style, colour, picked)}
    data: list[dict[str, Any]] = [{**known[found.chosen.number], "away": 0.0, "y": 0.0}]
    for away, trial in searches.neighbours(search, found.axes):
        worse = search.worse(trial, interval=False).value
        data.append({**known[trial.number], "away": away, "y": None if isnan(worse) else worse})
    values = [row["y"] for row in data if row["y"] is not None]
    low, high = vega.reach(values)
    top = high + 0.8 * max(high - low, 1e-9) if len(values) < len(data) else high
    lost = (high * top) ** 0.5 if top > high > 0 else top
    data = [{**row, "y": lost if row["y"] is None else row["y"]} for row in data]
    unit = 1.0 if search.kind == "racing" else 0.02
    at_x = {"field": "away", "type": "quantitative", "scale": {"domain": [-0.03, 1.05 * max(row["away"] for row in data) + 0.01], "nice": False},
            "axis": {"title": "Distance from the chosen setting, as a share of what was tried", "format": ".0%", "tickCount": 5}}
    at_y = {"field": "y", "type": "quantitative", "scale": {"type": "symlog", "constant": unit, "domain": [min(low, 0.0), top], "nice": False},
            "axis": {"title": f"Worse by, {of.unit} (lower is better)", "labelExpr": f"datum.value > {high} ? 'diverged' : {_NUMBER}",
                     "values": [*_steps(unit, min(low, 0.0), high), *([lost] if top > high else [])]}}
    layers = [vega.layer("rule", {"y": {**at_y, "field": "zero"}}, [{"zero": 0}], color=style.muted, strokeWidth=style.stroke),
              _points(at_x, at_y, style)]
    return vega.chart(data, layers, width=size[0], height=size[1])


def trade(search: Search, style: Style, colour: str, *, picked: int | None = None, size: tuple[int, int] = (420, 280)) -> Spec | None:
    """Accuracies against the attack, of the trials that ended, and the front: those that no other beats in both. None where there are none."""
    known = {row["trial"]: row for row in _marks(search, style, colour, picked)}
    data = [{**known[trial.number], **{f"{axis}{end}": value for axis, span in zip("xy", both, strict=True) for end, value in
                                       (("", span.value), ("_lo", span.value if isnan(span.lo) else span.lo),
                                        ("_hi", span.value if isnan(span.hi) else span.hi))}}
            for trial in search.trials if (both := searches.objectives(trial)) is not None]
    if not data:
        return None
    ahead = [data[i] for i in searches.front([(row["x"], row["y"]) for row in data])]
    attack = "1 − Indiscernibility" if search.kind == "deep_unlearn" else "Attack AUC away from retrained"
    best = [row for row in data if search.chosen is not None and row["trial"] == search.chosen.number]
    at_x = _quantity("x", "Accuracies away from retrained (lower is better)", [*(row["x"] for row in data), *(row["x_hi"] for row in best)], ".1%")
    at_y = _quantity("y", f"{attack} (lower is better)", [*(row["y"] for row in data), *(row["y_hi"] for row in best)], ".2f")
    whisker = {"color": style.ink, "strokeWidth": style.stroke, "clip": True}
    layers = [vega.layer("line", {"x": at_x, "y": at_y}, ahead, interpolate="step-after", color=style.accent, strokeWidth=style.stroke),
              vega.layer("rule", {"x": {**at_x, "field": "x_lo"}, "x2": {"field": "x_hi"}, "y": at_y}, best, **whisker),
              vega.layer("rule", {"y": {**at_y, "field": "y_lo"}, "y2": {"field": "y_hi"}, "x": at_x}, best, **whisker), _points(at_x, at_y, style)]
    return vega.chart(data, layers, width=size[0], height=size[1])


def told(search: Search, trial: Trial) -> str:
    """A trial in words: what became of it, and its searched parameters."""
    of = kind(search)
    score = {"diverged": "diverged", "stopped": f"stopped after {formats.counted(trial.splits, 'split')} at {of.number(trial.seen)}"}.get(
        trial.status, f"score {of.number(trial.score)}")
    return f"trial {trial.number}{', chosen' if trial.chosen else ''}: {score}; {setting(search, trial)}"


def setting(search: Search, trial: Trial) -> str:
    """The searched parameters of a trial, in words."""
    return formats.settings({name: value for name, value in trial.params.items() if name not in search.fixed})


@dataclass(frozen=True)
class _Rise:
    """The scores of a search as a vertical axis: logarithmic, with room at the top for what has no score."""

    span: tuple[float, float]
    log: bool
    top: float  # where trials without a score stand

    @classmethod
    def of(cls, search: Search) -> "_Rise":
        known = [trial.seen for trial in search.trials if not isnan(trial.seen)]
        log = all(value > 0 for value in known)
        low, high = vega.reach(known, log)
        if len(known) == len(search.trials):
            return cls((low, high), log, high)
        return (cls((low, high * (high / low) ** 0.14), log, high * (high / low) ** 0.07) if log else
                cls((low, high + 0.14 * (high - low)), log, high + 0.07 * (high - low)))

    def share(self, trial: Trial) -> float:
        """Height of a trial, from 0 to 1."""
        low, high, here = (log10(v) if self.log else v for v in (*self.span, self.top if isnan(trial.seen) else trial.seen))
        return (here - low) / (high - low)

    def channel(self, title: str) -> Spec:
        """Where trials diverged, that is a tick of its own."""
        ticks = _labels(self.span, self.log)
        if self.top < self.span[1]:
            middle = (self.span[0] + self.top) / 2
            values = [tick for tick in ticks.get("values", [self.span[0], middle]) if tick < 0.9 * self.top]
            ticks = {"values": [*values, self.top], "labelExpr": f"datum.value > {0.99 * self.top} ? 'diverged' : {_NUMBER}"}
        return {"field": "y", "type": "quantitative", "axis": {"title": title, **ticks}, "scale": _scale(self.log, self.span)}


def _marks(search: Search, style: Style, colour: str, picked: int | None) -> list[dict[str, Any]]:
    """One mapping a trial: number, score and how it is drawn."""
    rise, of = _Rise.of(search), kind(search)
    made = []
    for trial in search.trials:
        looked = trial.chosen or trial.number == picked
        fill = {"done": colour, "diverged": style.muted}.get(trial.status, style.page)
        ring = style.accent if trial.number == picked else style.ink if trial.chosen else colour if trial.status == "done" else style.muted
        seen = {"diverged": "diverged", "stopped": f"{of.number(trial.seen)}, stopped early"}.get(trial.status, of.number(trial.score))
        made.append({"trial": trial.number, "y": rise.top if isnan(trial.seen) else trial.seen, "fill": fill, "ring": ring,
                     "shape": "cross" if trial.status == "diverged" else "circle", "size": style.point * (1.0 if looked else 0.4),
                     "wide": style.stroke * (2 if looked else 0.8), "score": seen, "params": setting(search, trial), "about": told(search, trial)})
    return sorted(made, key=lambda row: (row["size"], row["trial"]))


def _points(at_x: Spec, at_y: Spec, style: Style) -> Spec:
    """The marks of `_marks`, which can be clicked."""
    plain = {name: {"field": field, "type": "nominal", "scale": None} for name, field in (("fill", "fill"), ("stroke", "ring"), ("shape", "shape"))}
    sizes = {name: {"field": field, "type": "quantitative", "scale": None} for name, field in (("size", "size"), ("strokeWidth", "wide"))}
    tips = [{"field": "trial", "title": "Trial"}, {"field": "score", "title": "Score"}, {"field": "params", "title": "Setting"}]
    click = {"name": PICK, "select": {"type": "point", "fields": ["trial"], "on": "click", "clear": "dblclick"}}
    channels = {"x": at_x, "y": at_y, **plain, **sizes, "tooltip": tips, **vega.ABOUT}
    return {**vega.layer("point", channels, filled=True, opacity=0.9, cursor="pointer"), "params": [click]}


def _score(field: str, of: Kind, values: Sequence[float]) -> Spec:
    """Channel of scores along a row, logarithmic."""
    log = all(value > 0 for value in values)
    span = vega.reach(values, log, pad=0.04)
    return {"field": field, "type": "quantitative", "axis": {"title": of.axis, **_labels(span, log)}, "scale": _scale(log, span)}


def _labels(span: tuple[float, float], log: bool) -> Spec:
    """Ticks of an axis: round numbers, on a log scale 1, 3, 10 or whole decades where there are many."""
    if not log:
        return {"tickCount": 4, "labelExpr": _NUMBER}
    low, high = log10(span[0]), log10(span[1])
    steps = (1,) if high - low > 3 else (1, 3) if high - low > 1.2 else (1, 2, 5)
    ticks = [step * 10.0 ** power for power in range(floor(low), ceil(high) + 1) for step in steps]
    return {"values": [tick for tick in ticks if span[0] <= tick <= span[1]], "labelExpr": _NUMBER}


def _scale(log: bool, span: tuple[float, float]) -> Spec:
    return {"type": "log", "domain": list(span), "nice": False} if log else {"type": "linear", "zero": False, "domain": list(span), "nice": False}


def _quantity(field: str, title: str, values: Sequence[float], form: str) -> Spec:
    return {"field": field, "type": "quantitative", "axis": {"title": title, "format": form, "tickCount": 5},
            "scale": _scale(False, vega.reach(values, pad=0.04))}


def _ticks(space: Sequence[Axis], search: Search, rise: _Rise, of: Kind) -> dict[str, list[tuple[float, str]]]:
    """Places and texts on every axis of `parallel`."""
    made: dict[str, list[tuple[float, str]]] = {}
    for axis in space:
        middle = 10 ** ((log10(axis.lo) + log10(axis.hi)) / 2) if axis.log else (axis.lo + axis.hi) / 2
        values = axis.levels or ((axis.lo, axis.hi) if isinstance(axis.lo, int) else (axis.lo, middle, axis.hi))
        made[axis.name] = [(axis.at(value), f"{value:.2g}" if isinstance(value, float) else str(value)) for value in values]
    ends = sorted((trial for trial in search.trials if not isnan(trial.seen)), key=lambda trial: trial.seen)
    lost = [trial for trial in search.trials if isnan(trial.seen)][:1]
    made[_SCORE] = [(rise.share(trial), of.number(trial.seen)) for trial in (ends[:1] + ends[-1:] if ends else [])]
    made[_SCORE] += [(rise.share(trial), "diverged") for trial in lost]
    return made


def _steps(unit: float, low: float, high: float) -> list[float]:
    """Round values of a signed axis that is logarithmic away from 0."""
    ups = [unit * step for step in (1, 3, 10, 30, 100, 300, 1000)]
    return [value for value in (*(-up for up in reversed(ups)), 0.0, *ups) if low <= value <= high]
