"""What Inside says, its charts and its tables: how models changed, held against the original and the retrained model of the same seed.

Nearer or further is judged on the distance from the retrained model, paired by seed with the original's (`queries.nearer`): where the 95 % interval
of the difference holds 0 it cannot be told. Of relearning, which ends at a cap, medians and signs count, as means would take the cap for a number.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import comb
from statistics import median
from typing import Any

import pandas as pd

from pages.ui import charts, formats, vega
from pages.ui.charts import PICK
from pages.ui.formats import METRICS, Row, Rows, listed, number
from pages.ui.theme import REFERENCES, Look, Style, look
from pages.ui.vega import Spec

Key = tuple[str, str]  # method, variant
Near = Mapping[tuple[str, str, str], Row]  # (method, variant, metric) -> row of `queries.nearer`

PARTS = {"Accuracy": ("retain_accuracy", "forget_accuracy", "val_accuracy", "test_accuracy"),
         "Outputs": ("js_forget", "js_test", "activation_distance_forget", "agreement_forget", "agreement_test", "zrf"),
         "Layers": ("cka_block1", "cka_block2", "cka_block3", "cka_block4", "cka_logits"), "Features": ("embedding_auc",),
         "Weights": ("relative_weight_distance", "weight_distance", "moved_live", "moved_dead"), "Relearning": ("relearn_epochs",)}
MOVED = ("moved_stem", "moved_block1", "moved_block2", "moved_block3", "moved_block4", "moved_head")  # from the image on
_HEADERS = {"retain_accuracy": "Retain", "forget_accuracy": "Forget", "val_accuracy": "Val", "test_accuracy": "Test", "js_forget": "JS · forget",
            "js_test": "JS · test", "activation_distance_forget": "Act. · dist.", "agreement_forget": "Agree · forget",
            "agreement_test": "Agree · test", "zrf": "ZRF", "cka_block1": "Block · 1", "cka_block2": "Block · 2", "cka_block3": "Block · 3",
            "cka_block4": "Block · 4", "cka_logits": "Logits", "embedding_auc": "Centre · AUC",
            "relative_weight_distance": "L2, · relative", "relearn_epochs": "Epochs"}
_HEADS = {"Layers": "Layers (CKA)"}
_STRONGEST = 0.55  # opacity that ink can still be read on
_FURTHER = "#d55e00"  # against the accent, for nearer: told apart with any colour vision
_IDEAL = {"down": 0.0, "up": 1.0}  # of comparisons with the retrained model: what it would have itself
_FIRST = ("js_forget", "forget_accuracy")  # what the answer begins with, and the order of methods: the first that is there
_LEVEL = 0.05
_NAMED = 4  # in a sentence


@dataclass(frozen=True)
class Relearned:
    """Relearn times of one entry. epochs: one a seed, the cap where it was not there by then. capped: of those. sooner, later: in how many
    seeds it was there before and after the retrained model; where neither got there counts for nothing."""

    epochs: tuple[float, ...]
    capped: tuple[bool, ...]
    sooner: int
    later: int

    @property
    def middle(self) -> tuple[float, bool]:
        """The median, and whether it is at the cap, so that the true one is at least that."""
        half = median(self.epochs)
        return half, all(capped for epochs, capped in zip(self.epochs, self.capped, strict=True) if epochs >= half)

    @property
    def told(self) -> str:
        half, capped = self.middle
        low, high = min(self.epochs), max(self.epochs)
        more = "+" if any(self.capped) else ""
        return f"{'at least ' if capped else ''}{half:g}" + (f" ({low:g} to {high:g}{more})" if low < high else "")

    @property
    def verdict(self) -> str:
        """sooner | later than the retrained models, by the exact sign test over seeds; empty where it cannot be told."""
        n, most = self.sooner + self.later, max(self.sooner, self.later)
        p = min(1.0, 2 * sum(comb(n, k) for k in range(most, n + 1)) / 2 ** n)
        return "" if p > _LEVEL else "sooner" if self.sooner > self.later else "later"


@dataclass(frozen=True)
class Evidence:
    """What all of the page is made from. rows: of `queries.results`, retrained first, then methods from the one whose outputs on forget are nearest
    to its, original last. runs: of `queries.seed_runs`. near: how far each is from retrained. again: relearn times, where they were measured."""

    rows: Rows
    runs: Rows
    near: Near
    again: Mapping[Key, Relearned]
    looks: Mapping[str, Look]

    @property
    def methods(self) -> list[Row]:
        """Without the references."""
        return [row for row in self.rows if row["method"] not in REFERENCES]

    @property
    def parts(self) -> dict[str, list[str]]:
        """Which metrics of each part any method has."""
        found = {part: [metric for metric in metrics if any(not pd.isna(row[metric]) for row in self.methods)] for part, metrics in PARTS.items()}
        return {part: metrics for part, metrics in found.items() if metrics}

    @property
    def moved(self) -> list[str]:
        """Which of MOVED any method has."""
        return [metric for metric in MOVED if any(not pd.isna(row[metric]) for row in self.methods)]

    def title(self, row: Row) -> str:
        return look(self.looks, row["method"]).title(row["variant"])


def evidence(results: Rows, runs: Rows, nearer: Rows, looks: Mapping[str, Look]) -> Evidence:
    """From answers of `queries.results`, `queries.seed_runs` and `queries.nearer`."""
    near = {(row["method"], row["variant"], row["metric"]): row for row in nearer}

    def place(row: Row) -> tuple[int, float, str]:
        found = [near[key]["after"] for metric in _FIRST if (key := (*_key(row), metric)) in near]
        return {"retrained": 0, "original": 2}.get(row["method"], 1), found[0] if found else float("inf"), row["method"]

    return Evidence(sorted(results, key=place), runs, near, relearned(runs), looks)


def relearned(runs: Rows) -> dict[Key, Relearned]:
    """By entry, from rows of `queries.seed_runs`, references included."""
    there = [run for run in runs if not pd.isna(run["relearn_epochs"]) and not pd.isna(run["relearn_reached"])]
    theirs = {_place(run): run for run in there if run["method"] == "retrained"}
    made: dict[Key, Relearned] = {}
    for key in dict.fromkeys((run["method"], run["variant"]) for run in there):
        mine = [run for run in there if (run["method"], run["variant"]) == key]
        pairs = [(_until(run), _until(theirs[place])) for run in mine if (place := _place(run)) in theirs]
        made[key] = Relearned(tuple(float(run["relearn_epochs"]) for run in mine), tuple(not run["relearn_reached"] for run in mine),
                              sum(own < its for own, its in pairs), sum(own > its for own, its in pairs))
    return made


def _place(run: Row) -> tuple[int, int | None]:
    """Seed and split, of which there may be none."""
    return int(run["seed"]), None if pd.isna(run["split"]) else int(run["split"])


def _until(run: Row) -> float:
    return float(run["relearn_epochs"]) if run["relearn_reached"] else float("inf")


def verdict(row: Row | None) -> str:
    """nearer | further than the original was; empty where it cannot be told. row: of `queries.nearer`."""
    if row is None or pd.isna(row["gain_lo"]):
        return ""
    return "nearer" if row["gain_lo"] > 0 else "further" if row["gain_hi"] < 0 else ""


# ---- in words


def answer(of: Evidence) -> str:
    """Whether unlearning made models like retrained ones: in what they say, within, and in what they can learn again."""
    keys = [_key(row) for row in of.methods]
    if not keys:
        return "No method is finished here yet, so there is nothing to compare."
    shown = next((metric for metric in _FIRST if any((*key, metric) in of.near for key in keys)), None)
    if shown is None:
        return "How models changed cannot be said yet: that takes original, retrained and unlearned models of the same seeds."
    words = "what models say of the forget set" if shown == "js_forget" else "accuracy on the forget set"
    ways = _ways(of, keys, shown)
    said = [f"**Unlearning brought {words} nearer to retrained models for {_part(ways['nearer'], ways['all'])}**{_best(of, ways['nearer'], shown)}, "
            f"and took it further away for {_count(ways['further'])}"
            + ("; for the others it cannot be told." if len(ways["nearer"]) + len(ways["further"]) < len(ways["all"]) else ".")]
    for metric, words in (("relative_weight_distance", "In weights"), ("cka_logits", "In how the last layer arranges test images")):
        if (inner := _ways(of, keys, metric))["all"]:
            said.append(f"{words} {_count(inner['nearer'])} came nearer and {_count(inner['further'])} went further away.")
    return " ".join([*said, *_learned(of, keys)])


def _learned(of: Evidence, keys: Sequence[Key]) -> list[str]:
    """Who can learn again what was forgotten sooner than retrained models, and who needs longer."""
    timed = [key for key in keys if key in of.again]
    if not timed or ("retrained", "corrected") not in of.again:
        return []
    sooner, later = ([key for key in timed if of.again[key].verdict == way] for way in ("sooner", "later"))
    names = f" ({_names(of, sooner)})" if 0 < len(sooner) <= _NAMED else ""
    left = f"{names}: something was left behind" if sooner else ""
    longer = f"; {len(later)} need longer" if later else ""
    return [f"{formats.sentence(_part(sooner, timed))} can learn the forget set again sooner than retrained models{left}{longer}."]


def alive(of: Evidence) -> str:
    """Which share of the weights that methods select can matter at all; empty where none selects."""
    told = [f"{of.title(row)} {charts.told(row, 'live_share')}" for row in of.rows if not pd.isna(row["live_share"])]
    return f"Of the weights that a method selects, these can influence an output at this image size: {listed(told)}." if told else ""


def told(of: Evidence, row: Row, metric: str) -> str:
    """A metric of a row in words: its value and interval, and how much nearer or further that is."""
    key = _key(row)
    if metric == "relearn_epochs" and key in of.again:
        way = of.again[key].verdict
        return f"{of.again[key].told} epochs" + (f", {way} than retrained models" if way else "")
    value = charts.told(row, metric)
    one = of.near.get((*key, metric))
    if one is None:
        return value
    way, kind = verdict(one), METRICS[metric].kind
    apart = f"{number(one['after'], kind)} from retrained, the original {number(one['before'], kind)}"
    return f"{value}; {apart}: {way or 'cannot be told apart'}"


def table(of: Evidence) -> pd.DataFrame:
    """Every method by every measure, every cell a text: the value, and + where it is nearer to the retrained model than the original, - further."""
    there = [metric for metrics in of.parts.values() for metric in metrics]
    return pd.DataFrame([{"Method": of.title(row), **{METRICS[metric].header: _cell(of, row, metric)[0] for metric in there}} for row in of.rows])


def full(of: Evidence) -> pd.DataFrame:
    """The same for CSV, at full precision, with intervals and the paired differences."""
    made = []
    for row in of.rows:
        for metric in (metric for metrics in of.parts.values() for metric in metrics):
            one: Row = of.near.get((*_key(row), metric), {})
            made.append({"method": row["method"], "variant": row["variant"], "metric": metric, "seeds": row["seeds"], "value": row[metric],
                         "value_lo": row[f"{metric}_lo"], "value_hi": row[f"{metric}_hi"],
                         **{name: one.get(name) for name in ("before", "after", "gain", "gain_lo", "gain_hi")}})
    return pd.DataFrame(made)


# ---- charts


def matrix(of: Evidence, style: Style, *, parts: Mapping[str, Sequence[str]], width: int = 900, picked: str | None = None) -> Spec:
    """Every method (rows) by every measure of these parts: blue and + where it is nearer to the retrained model than the original was, orange
    and - where it is further, the stronger the more; blank where that cannot be told."""
    shown = {part: [metric for metric in metrics if metric in _HEADERS] for part, metrics in parts.items()}
    domain = [header for at, metrics in enumerate(shown.values(), 1) for header in (*(_HEADERS[m] for m in metrics), " " * at)][:-1]
    data = [_square(of, row, part, metric, style) for row in of.rows for part, metrics in shown.items() for metric in metrics]
    room = width / max(len(domain), 1)
    narrow = room < 3.4 * style.text
    lined = "{" + ", ".join(f"{header!r}: {header.split(' · ')!r}" for header in domain if header.strip()) + "}"
    axis = {"title": None, "grid": False, "orient": "top", "labelColor": style.ink, "labelFontSize": style.text, "labelOverlap": False,
            "labelLimit": 12 * style.text, "labelAngle": -90 if narrow else 0,
            "labelExpr": "replace(datum.label, ' · ', ' ')" if narrow else f"({lined})[datum.label] || ''",
            **({"labelAlign": "left", "labelBaseline": "middle"} if narrow else {"labelPadding": 1.7 * style.text})}
    at_x = {"field": "column", "type": "nominal", "sort": domain, "scale": {"domain": domain, "padding": 0.05}, "axis": axis}
    at_y = vega.rows("name", [of.title(row) for row in of.rows], style)
    at_y["scale"]["padding"] = 0.08
    place = {"x": at_x, "y": at_y}
    kinds = (("shade", "quantitative"), ("ink", "nominal"), ("fill", "nominal"))
    plain = {field: {"field": field, "type": kind, "scale": None} for field, kind in kinds}
    ring = {"condition": {"test": f"datum.key === '{picked}'", "value": style.ink}, "value": style.faint}
    tips = [{"field": field, "title": title} for field, title in (("name", "Method"), ("measure", "Measure"), ("told", "Value"))]
    click = {"name": PICK, "select": {"type": "point", "fields": ["key", "part"], "on": "click", "clear": "dblclick"}}
    heads = [{"column": _HEADERS[metrics[0]], "part": _HEADS.get(part, part)} for part, metrics in shown.items() if metrics]
    layers = [vega.layer("rect", {**place, "opacity": plain["shade"], "fill": plain["fill"]}, cornerRadius=3),
              {**vega.layer("rect", {**place, "stroke": ring, "tooltip": tips, **vega.ABOUT}, filled=True, fill="transparent",
                            strokeWidth=0.6 * style.stroke, cornerRadius=3, cursor="pointer"), "params": [click]},
              vega.layer("text", {**place, "text": {"field": "text"}, "color": plain["ink"]}, fontSize=min(style.label, 0.24 * room)),
              vega.layer("text", {"x": {**at_x, "bandPosition": 0}, "text": {"field": "part"}}, heads, y=(-8.5 if narrow else -3.9) * style.text,
                         align="left", fontWeight=600, fontSize=style.text, color=style.muted)]
    return vega.chart(data, layers, width=width, height=style.row * max(len(of.rows), 1))


def panel(of: Evidence, metric: str, style: Style, *, width: int = 260, picked: str | None = None, heading: str | None = None) -> Spec:
    """Methods by one measure: seeds small, the mean with its 95 % interval. Line: retraining, shaded its interval; dashed: the original.

    Of relearning the median, with the range of seeds; hollow where that is at the cap, so that the true one is at least that.
    """
    timed, known = metric == "relearn_epochs", METRICS[metric]
    there = [row for row in of.rows if not pd.isna(row[metric])]
    entries = [_entry(of, row, metric) for row in there if row["method"] not in REFERENCES]
    lines = {row["method"]: _entry(of, row, metric) for row in there if row["method"] in REFERENCES}
    names = {entry["key"]: entry for entry in entries}
    seeds = [{**names[key], "x": run[metric], "capped": timed and not run["relearn_reached"]} for run in of.runs
             if (key := "/".join(_key(run))) in names and not pd.isna(run[metric])]
    own, before = lines.get("retrained"), lines.get("original")
    best = own["x"] if own else _IDEAL.get(known.better) if not metric.endswith("_accuracy") else None
    ends = [value for entry in (*entries, *lines.values()) for value in (entry["x"], entry["x_lo"], entry["x_hi"])]
    span = vega.reach([*ends, *(seed["x"] for seed in seeds), *([] if best is None else [best])])
    at_x, at_y = _along(metric, span), vega.rows("name", [entry["name"] for entry in entries], style)
    shade = {"condition": {"test": f"datum.key === '{picked}'", "value": 1}, "value": 0.35} if picked in names else {"value": 1}
    tint = {**vega.COLOUR, "legend": None}
    hollow = {"fill": {"condition": {"test": "datum.capped", "value": style.page}, **tint}, "stroke": tint}
    mark = {"x": at_x, "y": at_y, **hollow, "shape": {**vega.SHAPE, "legend": None}, "opacity": shade, **vega.ABOUT,
            "tooltip": [{"field": "name", "title": "Method"}, {"field": "told", "title": known.label}]}
    band = [{"from": own["x_lo"], "to": own["x_hi"]}] if own and own["x_lo"] < own["x_hi"] else []
    layers = [vega.layer("rect", {"x": {**at_x, "field": "from"}, "x2": {"field": "to"}}, band, color=style.band),
              vega.layer("rule", {"x": at_x}, [] if best is None else [{"x": best}], color=style.muted, strokeWidth=style.stroke),
              vega.layer("rule", {"x": at_x}, [{"x": before["x"]}] if before else [], color=style.muted, strokeWidth=style.stroke, strokeDash=[4, 3]),
              vega.layer("point", {"x": at_x, "y": at_y, **hollow, "opacity": {**shade, "value": 0.4}}, seeds, filled=True, size=style.point / 5,
                         strokeWidth=0.5 * style.stroke),
              vega.layer("rule", {"x": {**at_x, "field": "x_lo"}, "x2": {"field": "x_hi"}, "y": at_y, "color": tint, "opacity": shade},
                         strokeWidth=1.6 * style.stroke),
              vega.layer("point", mark, filled=True, size=0.8 * style.point, strokeWidth=style.stroke)]
    return vega.chart(entries, layers, width=width, height=0.8 * style.row * max(len(entries), 1), **({"title": heading} if heading else {}))


def profile(of: Evidence, metrics: Sequence[str], style: Style, *, picked: str | None = None, size: tuple[int, int] = (420, 280)) -> Spec:
    """Part by part, nearest to the image first: every method a thin line, the picked one strong with its intervals. Of CKA with the retrained
    model the original is dashed, and 1 a line; of how far weights moved from the original the retrained model is."""
    moved = metrics[0] in MOVED
    dashed, itself = ("retrained", "original") if moved else ("original", "retrained")
    names = {metric: METRICS[metric].label.split(", ")[1] for metric in metrics}
    data = [{**_entry(of, row, metric), "layer": names[metric]} for row in of.rows if row["method"] != itself
            for metric in metrics if not pd.isna(row[metric])]
    reached = [value for point in data for value in (point["x_lo"], point["x_hi"])]
    span = (0.0, 1.04 * max(reached) or 1.0) if moved else vega.reach([*reached, 1.0], pad=0.04)
    at_x = {"field": "layer", "type": "nominal", "sort": list(names.values()), "scale": {"type": "point", "padding": 0.4},
            "axis": {"title": "Part, from the image on" if moved else "Layer, from the image on", "labelAngle": 0}}
    title = "Moved from the original (square-root axis)" if moved else "CKA with retrained (higher is more alike)"
    at_y = {"field": "x", "type": "quantitative", "axis": {"title": title, "format": ".0%" if moved else ".2f", "tickCount": 5},
            "scale": {"domain": list(span), "nice": False, "zero": False, **({"type": "sqrt", "clamp": True} if moved else {})}}
    tint, whole = {**vega.COLOUR, "legend": None}, {"detail": {"field": "key"}}
    reference = [point for point in data if point["key"].startswith(f"{dashed}/")]
    others = [point for point in data if not point["key"].startswith(f"{dashed}/")]
    strong = [point for point in others if point["key"] == picked]
    ends = [{**points[-1]} for points in (strong, reference) if points]
    tips = [{"field": field, "title": title} for field, title in (("name", "Method"), ("layer", "Layer"), ("told", "Moved" if moved else "CKA"))]
    layers = [vega.layer("rule", {"y": {**at_y, "field": "one"}}, [] if moved else [{"one": 1.0}], color=style.muted, strokeWidth=style.stroke),
              vega.layer("line", {"x": at_x, "y": at_y, "stroke": tint, **whole}, others, strokeWidth=style.stroke, opacity=0.3 if strong else 0.8),
              vega.layer("line", {"x": at_x, "y": at_y}, reference, color=style.muted, strokeWidth=1.6 * style.stroke, strokeDash=[4, 3]),
              vega.layer("line", {"x": at_x, "y": at_y, "stroke": tint}, strong, strokeWidth=2.4 * style.stroke),
              vega.layer("rule", {"x": at_x, "y": {**at_y, "field": "x_lo"}, "y2": {"field": "x_hi"}, "color": tint}, strong,
                         strokeWidth=1.6 * style.stroke),
              vega.layer("point", {"x": at_x, "y": at_y, "fill": tint, "tooltip": tips, **vega.ABOUT}, filled=True, size=style.point / 3,
                         opacity=0.9),
              vega.layer("text", {"x": at_x, "y": at_y, "text": {"field": "name"}, "color": tint}, ends, align="left", dx=style.text / 2,
                         dy=-style.text / 2, fontSize=style.label, fontWeight=600)]
    return vega.chart(data, layers, width=size[0], height=size[1])


# ---- parts


def _key(row: Row) -> Key:
    return row["method"], row["variant"]


def _cell(of: Evidence, row: Row, metric: str) -> tuple[str, str, float]:
    """Text, verdict and strength, 0 to 1, of one cell of `matrix`."""
    key = _key(row)
    if pd.isna(row[metric]):
        return formats.MISSING, "", 0.0
    if metric == "relearn_epochs" and key in of.again:
        (half, capped), way = of.again[key].middle, of.again[key].verdict if row["method"] not in REFERENCES else ""
        return f"{'≥ ' if capped else ''}{half:g}" + (" −" if way else ""), "further" if way else "", 0.5
    one = of.near.get((*key, metric))
    way = verdict(one)
    strength = abs(one["gain"]) / max(one["before"], one["after"], 1e-12) if one and way else 0.0
    value = formats.bare(number(row[metric], METRICS[metric].kind))
    return value + {"nearer": " +", "further": " −"}.get(way, ""), way, 0.25 + 0.75 * strength


def _square(of: Evidence, row: Row, part: str, metric: str, style: Style) -> dict[str, Any]:
    """One cell of `matrix`, drawn."""
    text, way, strength = _cell(of, row, metric)
    label, value = METRICS[metric].label, told(of, row, metric)
    return {"key": "/".join(_key(row)), "name": of.title(row), "column": _HEADERS[metric], "part": part, "text": text,
            "shade": _STRONGEST * strength if way else 0, "fill": {"nearer": style.accent, "further": _FURTHER}.get(way, style.page),
            "ink": style.muted if row["method"] in REFERENCES else style.ink, "measure": label, "told": value,
            "about": f"{of.title(row)}, {label}: {value}"}


def _entry(of: Evidence, row: Row, metric: str) -> dict[str, Any]:
    """A method, or a reference, by one measure."""
    known, key = look(of.looks, row["method"]), _key(row)
    made = {"key": "/".join(key), "name": of.title(row), "colour": known.colour, "shape": known.shape, "capped": False,
            "about": f"{of.title(row)}, {METRICS[metric].label}: {told(of, row, metric)}"}
    if metric == "relearn_epochs" and key in of.again:
        half, capped = of.again[key].middle
        epochs = of.again[key].epochs
        return {**made, "x": half, "x_lo": min(epochs), "x_hi": max(epochs), "told": of.again[key].told, "capped": capped}
    ends = [row[metric] if pd.isna(row[f"{metric}{end}"]) else row[f"{metric}{end}"] for end in ("_lo", "_hi")]
    return {**made, "x": row[metric], "x_lo": ends[0], "x_hi": ends[1], "told": charts.told(row, metric)}


def _along(metric: str, span: vega.Span) -> Spec:
    known, fine = METRICS[metric], span[1] - span[0] < 0.05
    form = (".1%" if fine else ".0%") if known.kind == "share" else ".3~g" if span[1] > 2 else ".3f" if fine else ".2f"
    title = known.label if metric.startswith("moved_") else f"{known.short}, {known.axis.removeprefix(known.label).strip(' ()') or 'best: as retrained'}"
    return {"field": "x", "type": "quantitative", "axis": {"title": title, "labelExpr": f"format(datum.value, '{form}')", "tickCount": 4},
            "scale": {"domain": list(span), "nice": False, "zero": False}}


def _ways(of: Evidence, keys: Sequence[Key], metric: str) -> dict[str, list[Key]]:
    there = [key for key in keys if (*key, metric) in of.near]
    return {"all": there, **{way: [key for key in there if verdict(of.near[(*key, metric)]) == way] for way in ("nearer", "further")}}


def _part(some: Sequence[Key], among: Sequence[Key]) -> str:
    if len(among) == 1:
        return "the only method" if some else "no method"
    return f"{'all' if len(some) == len(among) else f'{len(some)} of' if some else 'none of'} {formats.counted(len(among), 'method')}"


def _count(found: Sequence[Key]) -> str:
    return str(len(found)) if found else "none"


def _best(of: Evidence, keys: Sequence[Key], metric: str) -> str:
    """Who came nearest, and how far."""
    if not keys:
        return ""
    key = min(keys, key=lambda key: of.near[(*key, metric)]["after"])
    one, kind = of.near[(*key, metric)], METRICS[metric].kind
    unit = " nats" if metric.startswith("js_") else ""
    return f" (nearest: {_names(of, [key])}, {number(one['after'], kind)}{unit} away, the original {number(one['before'], kind)})"


def _names(of: Evidence, keys: Sequence[Key]) -> str:
    return listed([look(of.looks, method).title(variant) for method, variant in keys])
