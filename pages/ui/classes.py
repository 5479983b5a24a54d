"""Class by class: how well each is known, and what is taken for what, against the retrained models of the same seeds.

The class or the confusion that a sentence names is picked on one half of the seeds, and what is said of it comes from the other.
"""

from collections.abc import Mapping, Sequence

import pandas as pd

from pages.ui import formats, vega
from pages.ui.formats import Row, Rows, listed, number
from pages.ui.theme import REFERENCES, Look, Style, look
from pages.ui.vega import Spec

SETS = {"test": "test", "forget": "forget", "retain": "retain", "val": "validation"}
MOST, MOST_SQUARE = 24, 16  # classes that can be read in one panel, and in a square of them
MORE, LESS = "#d55e00", "#0072b2"  # told apart with any colour vision
_STRONGEST = 0.6  # opacity that ink can still be read on
_FEWEST = 3  # seeds for an interval that says anything
_WORTH_TEXT = 0.0005  # below, a change would read as 0.0 points

Names = Sequence[str]  # of classes, in their order; may be shorter than there are classes


def named(label: int, names: Names) -> str:
    """A class by its name, else by its number."""
    return names[label] if label < len(names) else f"class {label}"


def points(change: float) -> str:
    """`+4.8 points`, of percent."""
    return f"{100 * change:+.1f}{formats.THIN}points".replace("-", "−")


def of_method(rows: Rows, method: str, variant: str) -> Rows:
    return [row for row in rows if (row["method"], row["variant"]) == (method, variant)]


def shown(mine: Rows, most: int = MOST) -> list[int]:
    """The classes to draw, in their order: all, or those furthest from retrained where they are too many."""
    furthest = sorted(mine, key=lambda row: -abs(row["gap"]) if not pd.isna(row["gap"]) else 0.0)[:most]
    return sorted(int(row["label"]) for row in furthest)


# ---- in words


def worst(rows: Rows, title: str, method: str, variant: str, of: str, names: Names) -> str:
    """On which class a method is furthest from retrained models, and how far. rows: of `insides.class_accuracies`."""
    there = [row for row in of_method(rows, method, variant) if not pd.isna(row["chosen"])]
    if not there:
        return f"How {title} does on single classes cannot be held against retrained models: there are none of the same seeds."
    row = max(there, key=lambda row: abs(row["chosen"]))
    told = f"**On the {SETS[of]} set {title} is furthest from retrained models on {_spoken(row['label'], names)}**"
    if not row["reported_seeds"]:
        return f"{told}, by {points(row['gap'])} of accuracy in the one seed that there is, on which it was picked as well."
    return f"{told}, by {points(row['reported'])} of accuracy {_surely(row)}."


def grew(rows: Rows, title: str, of: str, names: Names) -> str:
    """Which confusion became more frequent than retrained models have it. rows: of `insides.confusion_change`."""
    wrong = [row for row in rows if row["label"] != row["predicted"] and row["chosen"] > 0]
    if not wrong:
        return f"**{title} takes no class for another more often than retrained models do** on the {SETS[of]} set."
    row = max(wrong, key=lambda row: row["chosen"])
    pair = f"{_spoken(row['label'], names)} for {_spoken(row['predicted'], names)}"
    if not row["reported_seeds"]:
        return (f"**On the {SETS[of]} set {title} takes {pair}** in {number(row['after'], 'share')} of cases, retrained models in "
                f"{number(row['before'], 'share')}: what grew most in the one seed that there is.")
    if row["reported_lo"] > 0:
        return f"**What grew most on the {SETS[of]} set: {title} takes {pair}** more often than retrained models, by {points(row['reported'])} {_surely(row)}."
    return (f"**No single confusion of {title} on the {SETS[of]} set is sure to have grown**: {pair} grew most on one half of the seeds, and changed by "
            f"{points(row['reported'])} on the other {_surely(row)}.")


def _spoken(label: int, names: Names) -> str:
    """A class in a sentence."""
    name = named(int(label), names)
    return f"class {name}" if name.isdecimal() else name


def _surely(row: Row) -> str:
    """The interval of what was reported, and whether it could be nothing."""
    if row["reported_seeds"] < _FEWEST:
        return f"(mean of {formats.counted(row['reported_seeds'], 'seed')}, too few for an interval)"
    low, high = (points(row[f"reported_{end}"]) for end in ("lo", "hi"))
    chance = ", so it may be chance" if row["reported_lo"] <= 0 <= row["reported_hi"] else ""
    return f"({low.removesuffix(f'{formats.THIN}points')} to {high}{chance})"


# ---- tables


def full(rows: Rows, names: Names) -> pd.DataFrame:
    """Every number, for CSV, with names of classes."""
    made = pd.DataFrame(rows)
    for column in ("predicted", "label"):
        if column in made:
            made.insert(list(made.columns).index(column) + 1, f"{column}_name", [named(int(label), names) for label in made[column]])
    return made


def accuracies(rows: Rows, looks: Mapping[str, Look], names: Names) -> pd.DataFrame:
    """Every class by every method, all texts."""
    labels, keys = sorted({int(row["label"]) for row in rows}), dict.fromkeys((row["method"], row["variant"]) for row in rows)
    cells = {(row["method"], row["variant"], int(row["label"])): formats.with_interval(row["accuracy"], row["accuracy_lo"], row["accuracy_hi"], "share")
             for row in rows}
    return pd.DataFrame([{"Class": named(label, names), **{look(looks, key[0]).title(key[1]): cells.get((*key, label), formats.MISSING) for key in keys}}
                         for label in labels])


def changes(rows: Rows, names: Names) -> pd.DataFrame:
    """Every pair of classes that changed, the one that grew most first, all texts."""
    order = sorted((row for row in rows if abs(row["change"]) > _WORTH_TEXT), key=lambda row: -row["change"])
    return pd.DataFrame([{"True class": named(int(row["label"]), names), "Taken for": named(int(row["predicted"]), names),
                          "Retrained": number(row["before"], "share"), "Here": number(row["after"], "share"), "Change": points(row["change"])}
                         for row in order], columns=["True class", "Taken for", "Retrained", "Here", "Change"])


# ---- charts


def by_class(rows: Rows, looks: Mapping[str, Look], style: Style, labels: Sequence[int], names: Names, *, method: str, variant: str,
             width: int = 420, heading: str | None = None) -> Spec:
    """Accuracy on each of these classes: the method filled and the references hollow, with 95 % intervals over seeds."""
    data = []
    for row in rows:
        if row["label"] in labels and (row["method"] in REFERENCES or (row["method"], row["variant"]) == (method, variant)):
            known = look(looks, row["method"])
            low, high = (row["accuracy"] if pd.isna(row[end]) else row[end] for end in ("accuracy_lo", "accuracy_hi"))
            told = formats.with_interval(row["accuracy"], row["accuracy_lo"], row["accuracy_hi"], "share")
            gap = "" if pd.isna(row["gap"]) else f", {points(row['gap'])} from retrained"
            data.append({"class": named(int(row["label"]), names), "name": known.title(row["variant"]), "colour": known.colour, "shape": known.shape,
                         "x": row["accuracy"], "x_lo": low, "x_hi": high, "told": told + gap,
                         "about": f"{known.title(row['variant'])}, {named(int(row['label']), names)}: {told}{gap}"})
    data.sort(key=lambda point: point["name"] not in REFERENCES.values())  # drawn last, over the references
    mine, others = ([point for point in data if (point["name"] in REFERENCES.values()) == reference] for reference in (False, True))
    low, high = vega.reach([point[end] for point in data for end in ("x_lo", "x_hi")])
    at_x = {"field": "x", "type": "quantitative", "scale": {"domain": [max(low, -0.02), min(high, 1.02)], "nice": False, "zero": False, "clamp": True},
            "axis": {"title": "Accuracy (best: as retrained)", "format": ".0%" if high - low >= 0.05 else ".1%", "tickCount": 5}}
    at_y = vega.rows("class", [named(label, names) for label in labels], style)
    at_y["axis"] |= {"grid": True, "title": "Class"}
    tint, shape = {**vega.COLOUR, "legend": None}, {**vega.SHAPE, "legend": None}
    mark = {"x": at_x, "y": at_y, "shape": shape, "tooltip": [{"field": field, "title": title} for field, title in
                                                              (("class", "Class"), ("name", "Model"), ("told", "Accuracy"))], **vega.ABOUT}
    layers = [vega.layer("rule", {"x": {**at_x, "field": "x_lo"}, "x2": {"field": "x_hi"}, "y": at_y, "color": tint}, strokeWidth=style.stroke),
              vega.layer("point", {**mark, "stroke": tint}, others, fill=style.page, size=0.6 * style.point, strokeWidth=style.stroke, opacity=1),
              vega.layer("point", {**mark, "fill": tint}, mine, filled=True, size=0.8 * style.point, opacity=1)]
    return vega.chart(data, layers, width=width, height=0.8 * style.row * max(len(labels), 1), **({"title": heading} if heading else {}))


def furthest(rows: Rows, most: int = MOST_SQUARE) -> list[int]:
    """Classes of a square of confusions, in their order: all, or those whose confusions changed most where they are too many."""
    labels = {int(row[end]) for row in rows for end in ("label", "predicted")}
    moved = {label: sum(abs(row["change"]) for row in rows if label in (row["label"], row["predicted"])) for label in labels}
    return sorted(sorted(labels, key=lambda label: (-moved[label], label))[:most])


def square(rows: Rows, style: Style, labels: Sequence[int], names: Names, *, width: int = 420, heading: str | None = None) -> Spec:
    """Change of confusions among these classes, true class by predicted: orange and + where more often than retrained models, blue and −
    where less, the stronger the more; a number stands where the 95 % interval does not hold 0, or where there is but one seed."""
    drawn = [row for row in rows if row["label"] in labels and row["predicted"] in labels]
    largest = max((abs(row["change"]) for row in drawn), default=0.0) or 1.0
    order, room = [named(label, names) for label in labels], width / max(len(labels), 1)
    data = []
    for row in drawn:
        sure = abs(row["change"]) > _WORTH_TEXT and (pd.isna(row["change_lo"]) or not row["change_lo"] <= 0 <= row["change_hi"])
        pair = [named(int(row[end]), names) for end in ("label", "predicted")]
        ends = "" if pd.isna(row["change_lo"]) else f" ({points(row['change_lo'])} to {points(row['change_hi'])})"
        told = f"retrained {number(row['before'], 'share')}, here {number(row['after'], 'share')}: {points(row['change'])}{ends}"
        data.append({"true": pair[0], "predicted": pair[1], "told": told, "shade": _STRONGEST * abs(row["change"]) / largest,
                     "fill": MORE if row["change"] > 0 else LESS, "text": f"{100 * row['change']:+.1f}".replace("-", "−") if sure else "",
                     "about": f"{pair[0]} taken for {pair[1]}: {told}"})
    own = [{"true": name, "predicted": name} for name in order]
    axis = {"title": "Predicted", "grid": False, "orient": "top", "labelColor": style.ink, "labelFontSize": style.text, "labelOverlap": False,
            "labelAngle": -90 if max(map(len, order), default=0) * 0.6 * style.text > room else 0}
    at_x = {"field": "predicted", "type": "nominal", "sort": order, "scale": {"domain": order, "padding": 0.05}, "axis": axis}
    at_y = vega.rows("true", order, style)
    at_y["scale"]["padding"], at_y["axis"]["title"] = 0.05, "True class"
    place = {"x": at_x, "y": at_y}
    shade, fill = {"field": "shade", "type": "quantitative", "scale": None}, {"field": "fill", "type": "nominal", "scale": None}
    tips = [{"field": field, "title": title} for field, title in (("true", "True class"), ("predicted", "Predicted"), ("told", "Share"))]
    layers = [vega.layer("rect", {**place, "opacity": shade, "fill": fill, "tooltip": tips, **vega.ABOUT}),
              vega.layer("rect", place, own, filled=False, stroke=style.faint, strokeWidth=0.6 * style.stroke),
              vega.layer("text", {**place, "text": {"field": "text"}}, color=style.ink, fontSize=min(style.text, 0.28 * room))]
    return vega.chart(data, layers, width=width, height=0.9 * style.row * max(len(labels), 1), **({"title": heading} if heading else {}))


def about(rows: Rows, looks: Mapping[str, Look], names: Names, labels: Sequence[int], method: str, variant: str) -> str:
    """`by_class` for those who do not see it."""
    told = [f"{named(int(row['label']), names)} {number(row['accuracy'], 'share')}" + ("" if pd.isna(row["gap"]) else f" ({points(row['gap'])})")
            for row in of_method(rows, method, variant) if row["label"] in labels]
    return f"Accuracy of {look(looks, method).title(variant)} by class, with its distance from retrained: {listed(told)}"
