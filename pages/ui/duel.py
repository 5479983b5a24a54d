"""The last part of Compare: two methods head to head, paired by seed where single models were measured."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from engine.store import duels, queries, standings
from engine.store.duels import Paired, Side, Span
from engine.store.standings import Cell, Key
from pages.ui import charts, export, filters, findings, formats, page, places, store, tradeoffs, vega
from pages.ui.filters import Choice
from pages.ui.formats import Rows
from pages.ui.theme import Look, Style, look
from pages.ui.trust import Trust
from pages.ui.vega import Spec

MAIN = ("test_retention", "retention_deviation", "forget_accuracy", "retain_accuracy", "indiscernibility")
SINGLE = ("balanced_accuracy", "auc", "rte", "unlearn_s")  # of these there is one estimate a method
_RANKINGS = ("balanced_accuracy", "retention_deviation", "test_accuracy")  # the first that two methods are in says whom to begin with
_OVER = {"main": f"The main {len(MAIN)}", "all": "All of single models"}
_RULE = ("Told apart only where the intervals do not touch: 95 % over splits for attacks, the range of repeats for times. This is another rule than the "
         "paired tests, and a weaker one: nothing is paired, nothing adjusted, and a small difference is missed more easily.")
_STATE = "duel@compare"
_APART = "not told apart"


@dataclass(frozen=True)
class Estimate:
    """Two methods by one metric of which each has one estimate with an interval. doubt: why the numbers may not be believed, else empty."""

    metric: str
    first: Span
    second: Span
    winner: Side | None
    doubt: str


@dataclass(frozen=True)
class Drawn:
    """The figure of seeds: of which metric, where retraining stands, what its marks are."""

    one: Paired
    level: float
    marks: str


@dataclass(frozen=True)
class Duel:
    """Two methods and all that is known of both. names: how they are called. main: by MAIN; shown: by what the visitor chose."""

    keys: tuple[Key, Key]
    names: tuple[str, str]
    main: Sequence[Paired]
    shown: Sequence[Paired]
    single: Sequence[Estimate]

    def name(self, side: Side) -> str:
        return self.names[side == "second"]

    @property
    def pairs(self) -> int:
        return max((len(one.seeds) for one in self.shown), default=0)


def draw(view: page.View, rows: Rows, choice: Choice, believed: Trust) -> None:
    """Which of two methods: a sentence, every metric with its test, the seeds of one metric, and what only intervals can say."""
    st.subheader("Head to head", anchor=False)
    options = {standings.title((row["method"], row["variant"])): (row["method"], row["variant"]) for row in rows if row["method"] not in findings.REFERENCES}
    if len(options) < 2:
        st.info("It takes two methods to hold one against the other. Choose more on the left.", icon=":material/compare_arrows:")
        return
    cell, runs = places.cell(view.study(choice.study or ""), choice.variant), store.rows(queries.seed_runs, study=choice.study)
    first, second, over = st.columns(3, gap="medium", vertical_alignment="bottom")
    keys = [options[name] for name in _two(view, list(options), options, cell, [first, second])]
    with over:
        every = _one_of("duel_over", "Metrics", list(_OVER), _OVER.__getitem__) == "all"
    names = [look(view.looks, method).title(variant) for method, variant in keys]
    found = _held((keys[0], keys[1]), (names[0], names[1]), runs, cell, believed, every=every)
    st.markdown(answer(found))
    if not found.shown and not found.single:
        st.info("Nothing was measured of both yet.", icon=":material/hourglass_empty:")
        return
    if found.shown:
        _tested(found, cell, runs)
    left, right = st.columns([2, 1], gap="medium")
    with left:
        _by_interval(found)
    with right:
        drawn = _seeds(view, found, cell) if found.shown else None
    _files(view, found, drawn, choice)


def answer(found: Duel) -> str:
    """Which of the two, in privacy, accuracy and speed: one sentence. A goal by a doubtful attack says so."""
    goals = {"privacy": _privacy(found), "accuracy": _paired(found, "test_retention"), "speed": _single(found, "rte")}
    told = {side: [f"{goal} ({words[1]})" for goal, words in goals.items() if words and words[0] == side] for side in ("first", "second")}
    level = [f"{goal} ({words[1]})" for goal, words in goals.items() if words and words[0] is None]
    parts = [f"**{found.name(side)}** is better in {formats.listed(told[side])}" for side in ("first", "second") if told[side]]
    lead = "It is a trade: " if len(parts) == 2 else ""
    parts += [f"no difference can be told in {formats.listed(level)}"] if level else []
    unknown = [goal for goal, words in goals.items() if words is None]
    parts += [f"{formats.listed(unknown)} {'was' if len(unknown) == 1 else 'were'} not measured of both"] if unknown else []
    return f"**{found.names[0]} or {found.names[1]}?** {formats.sentence(lead + '; '.join(parts))}."


def slopes(one: Paired, found: Duel, looks: Mapping[str, Look], style: Style, level: float, *, size: tuple[int, int] = (300, 250)) -> Spec:
    """Every seed as a line from one method to the other, dashed where the second is better, and the means. level: where retraining stands, or NaN."""
    ends = [{"name": name, "colour": known.colour, "shape": known.shape, "value": sum(values) / len(values),
             "about": f"{name}: mean {formats.number(sum(values) / len(values), formats.METRICS[one.metric].kind)}"}
            for name, key, values in zip(found.names, found.keys, (one.first, one.second), strict=True) for known in [look(looks, key[0])]]
    seeds = []
    for seed, first, second, ahead in zip(one.seeds, one.first, one.second, _ahead(one), strict=True):
        told = [formats.number(value, formats.METRICS[one.metric].kind) for value in (first, second)]
        about = f"seed {seed}: {found.names[0]} {told[0]}, {found.names[1]} {told[1]}"
        seeds += [{"seed": seed, "name": name, "value": value, "dash": [1, 0] if ahead else [4, 3], "about": about}
                  for name, value in zip(found.names, (first, second), strict=True)]
    span = vega.reach([*one.first, *one.second, level])
    at_x = {"field": "name", "type": "nominal", "sort": list(found.names), "scale": {"domain": list(found.names), "type": "point", "padding": 0.35},
            "axis": {"title": None, "grid": False, "labelAngle": 0, "labelColor": style.ink, "labelFontSize": style.label, "labelLimit": size[0] / 2}}
    at_y = charts.position("value", one.metric, span)
    dash = {"field": "dash", "type": "nominal", "scale": None, "legend": None}
    line = {"x": at_x, "y": at_y, "detail": {"field": "seed", "type": "nominal"}, "strokeDash": dash, "tooltip": {"field": "about"}, **vega.ABOUT}
    mark = {"x": at_x, "y": at_y, "fill": {**vega.COLOUR, "legend": None}, "shape": {**vega.SHAPE, "legend": None}, "tooltip": {"field": "about"}, **vega.ABOUT}
    there = [] if pd.isna(level) else [vega.layer("rule", {"y": at_y}, [{"value": level}], color=style.muted, strokeWidth=style.stroke)]
    layers = [*there, vega.layer("line", line, seeds, color=style.muted, strokeWidth=0.7 * style.stroke),
              vega.layer("point", mark, filled=True, size=1.6 * style.point, opacity=1, stroke=style.page, strokeWidth=style.stroke)]
    return vega.chart(ends, layers, width=size[0], height=size[1])


def frame(found: Duel) -> pd.DataFrame:
    """Every number of the paired comparison, one row a metric."""
    return pd.DataFrame([{**_who(found), "metric": one.metric, "pairs": len(one.seeds), "first_mean": _mean(one.first), "second_mean": _mean(one.second),
                          "better": one.better, "better_lo": one.lo, "better_hi": one.hi, "p": one.p, "p_holm": one.adjusted, "winner": one.winner or "",
                          "seeds": " ".join(map(str, one.seeds))} for one in found.shown])


def single_frame(found: Duel) -> pd.DataFrame:
    """Every number of which there is one estimate a method, one row a metric."""
    spans = [{f"{side}{end}": value for side, span in (("first", one.first), ("second", one.second))
              for end, value in zip(("_lo", "", "_hi"), span, strict=True)} for one in found.single]
    return pd.DataFrame([{**_who(found), "metric": one.metric, **span, "winner": one.winner or "", "not_settled": one.doubt}
                         for one, span in zip(found.single, spans, strict=True)])


def texts(found: Duel) -> pd.DataFrame:
    """The paired comparison as people read it, every cell a text."""
    return pd.DataFrame([{
        "Metric": _named(one.metric), "Better": found.name(one.winner) if one.winner else _APART, found.names[0]: _number(one.metric, _mean(one.first)),
        found.names[1]: _number(one.metric, _mean(one.second)), f"{found.names[0]} better by": _signed(one), "p": _p(one.p), "p (Holm)": _p(one.adjusted),
        "Pairs": str(len(one.seeds))} for one in found.shown])


def single_texts(found: Duel) -> pd.DataFrame:
    """The rest of it, where only intervals can be held against each other."""
    return pd.DataFrame([{
        "Metric": _named(one.metric), "Better": f"not settled: {one.doubt}" if one.doubt else found.name(one.winner) if one.winner else _APART,
        **{name: formats.with_interval(value, low, high, formats.METRICS[one.metric].kind)
           for name, (low, value, high) in zip(found.names, (one.first, one.second), strict=True)}} for one in found.single])


def told_at_best(found: Duel) -> str:
    """What so few pairs can tell at most; empty where a large difference would be found."""
    if duels.can_tell(found.shown):
        return ""
    pairs, tests = found.pairs, len(found.shown)
    holm = f", and for {formats.counted(tests, 'metric')} together it would have to be {0.05 / tests:.2g} or less" if tests > 1 else ""
    fewer = " By the main metrics alone one could be." if duels.can_tell(found.main) else ""
    return (f"With {formats.counted(pairs, 'pair')} of seeds the smallest p that a paired test can give is {duels.smallest_p(pairs):.2g}{holm}: "
            f"**no difference, however large, can be told here.**{fewer} The intervals still say how large it may be.")


def _two(view: page.View, options: list[str], keys: Mapping[str, Key], cell: Cell, columns: Sequence[DeltaGenerator]) -> list[str]:
    """Two methods, one in each column, in the address; both in one place of the session, so that neither can be chosen twice."""
    def read(text: str) -> list[str] | None:
        given = text.split(",")
        return given if len(set(given)) == len(given) == 2 and set(given) <= set(options) else None

    begin = _nearest_the_top(options, keys, cell)
    filters.linked("duel", _STATE, begin, read)
    if read(",".join(st.session_state[_STATE])) is None:  # hidden since, or another study
        st.session_state[_STATE] = begin
    chosen: list[str] = st.session_state[_STATE]
    for at, (title, column) in enumerate(zip(("First", "Second"), columns, strict=True)):
        key = f"duel-{at}@compare"
        st.session_state[key] = chosen[at]
        column.selectbox(title, options, key=key, on_change=_other, args=(at, key),
                         format_func=lambda name: look(view.looks, keys[name][0]).title(keys[name][1]))
    filters.write("duel", chosen)
    return chosen


def _other(at: int, key: str) -> None:
    """One side was chosen anew; who was there takes the other side where that is the one chosen."""
    before: list[str] = st.session_state[_STATE]
    new = st.session_state[key]
    other = before[at] if new == before[1 - at] else before[1 - at]
    st.session_state[_STATE] = [new, other] if at == 0 else [other, new]


def _nearest_the_top(options: list[str], keys: Mapping[str, Key], cell: Cell) -> list[str]:
    names = {key: name for name, key in keys.items()}
    for metric in _RANKINGS:
        ranked = [names[entry.key] for entry in cell.table(metric).entries if entry.key in names and entry.group != "F"]
        if len(ranked) > 1:
            return ranked[:2]
    return options[:2]


def _one_of(name: str, title: str, options: list[str], label: Callable[[str], str]) -> str:
    """A choice of this part alone, in the address; the first where it says nothing that is there."""
    key = f"{name}@compare"
    filters.linked(name, key, options[0], lambda text: text if text in options else None)
    if st.session_state[key] not in options:
        st.session_state[key] = options[0]
    chosen = st.selectbox(title, options, key=key, format_func=label)
    filters.write(name, chosen)
    return chosen


def _held(keys: tuple[Key, Key], names: tuple[str, str], runs: Rows, cell: Cell, believed: Trust, *, every: bool) -> Duel:
    """Everything that is known of both."""
    aims = {metric: None if metric in tradeoffs.AS_RETRAINED else tradeoffs.best(metric, []) for metric in formats.METRICS
            if metric in queries.SEED_METRICS and (metric in tradeoffs.AS_RETRAINED or tradeoffs.best(metric, []) is not None)}
    main = duels.by_seed(runs, *keys, {metric: aims[metric] for metric in MAIN})
    rows = [cell.means.get(key, {}) for key in keys]
    single: list[Estimate] = []
    for metric in SINGLE:
        first, second = (_span(cell, key, metric) for key in keys)
        if not any(pd.isna(span[1]) for span in (first, second)):
            doubt = next(filter(None, map(believed.doubt, rows)), "") if metric in queries.ATTACK_METRICS else ""
            single.append(Estimate(metric, first, second, None if doubt else duels.apart(first, second, standings.BEST[metric]), doubt))
    return Duel(keys, names, main, duels.by_seed(runs, *keys, aims) if every else main, single)


def _span(cell: Cell, key: Key, metric: str) -> Span:
    """An estimate with its interval; a speed-up that has none has the range of the repeats."""
    row = cell.means.get(key, {})
    low, value, high = (float(row.get(f"{metric}{end}", float("nan"))) for end in ("_lo", "", "_hi"))
    if metric == "rte" and pd.isna(low):
        share = standings.time_share(cell, key)
        low, high = 1 / share[2], 1 / share[1]
    return low, value, high


def _tested(found: Duel, cell: Cell, runs: Rows) -> None:
    """Every metric of single models with its paired test."""
    st.dataframe(texts(found), hide_index=True, column_config=_configured(found), height="content", key="duel-table",
                 alt=f"{found.names[0]} against {found.names[1]} by every metric of single models, paired by seed")
    if note := told_at_best(found):
        st.info(note, icon=":material/science:")
    st.caption(_how(found, cell, runs))


def _by_interval(found: Duel) -> None:
    """Attacks and times: one estimate a method."""
    st.markdown("**Attacks and run time**, of which each method has one estimate")
    if not found.single:
        st.info("Neither attacks nor run times of both are there yet.", icon=":material/hourglass_empty:")
        return
    st.dataframe(single_texts(found), hide_index=True, height="content", key="duel-single", column_config={"Metric": st.column_config.TextColumn(width=190)},
                 alt=f"{found.names[0]} against {found.names[1]} by attacks and run time, with intervals")
    st.caption(_RULE)


def _seeds(view: page.View, found: Duel, cell: Cell) -> Drawn:
    """The seeds of one metric."""
    metrics = {one.metric: one for one in found.shown}
    one = metrics[_one_of("duel_metric", "Seed by seed", list(metrics), lambda metric: formats.METRICS[metric].label)]
    level = charts.level(one.metric, list(cell.means.values()))
    page.chart(slopes(one, found, view.looks, view.style, level), view.style, _about(one, found))
    line = "" if pd.isna(level) else " Level line: ½." if formats.METRICS[one.metric].better == "half" else " Level line: retraining."
    marks = f"A line is a seed, dashed where {found.names[1]} is better. Large: means.{line}"
    st.caption(f"{_ahead_in(one, found)} {marks}")
    return Drawn(one, level, marks)


def _files(view: page.View, found: Duel, drawn: Drawn | None, choice: Choice) -> None:
    stem, studies, both = f"lethe-compare-{choice.dataset}-{choice.model}-duel", [choice.study or ""], " against ".join(found.names)

    def build(style: Style, width: float, below: bool) -> Spec:
        assert drawn is not None
        return slopes(drawn.one, found, view.looks, style, drawn.level, size=(round(width), round(0.8 * width)))

    with st.container(horizontal=True):
        if drawn:
            export.figure(stem, build, panels=1, studies=studies,
                          caption=f"{tradeoffs.axis(drawn.one.metric)} of {formats.listed(found.names)}, seed by seed. {drawn.marks}")
            export.table(stem, frame(found), texts(found), studies=studies,
                         caption=f"{both}, paired by seed: means, mean difference with its 95 % t-interval, paired test, and the same adjusted by Holm for "
                         f"{formats.counted(len(found.shown), 'metric')}.")
        if found.single:
            export.table(f"{stem}-intervals", single_frame(found), single_texts(found), studies=studies,
                         caption=f"{both} by attacks and run time. {_RULE}", label="Export table of intervals")


def _how(found: Duel, cell: Cell, runs: Rows) -> str:
    """What was paired, how it was tested, and what that covers."""
    have = [sum((run["method"], run["variant"]) == key for run in runs) for key in found.keys]
    uneven = "" if have == [found.pairs] * 2 else (
        f" Of {have[0]} and {formats.counted(have[1], 'seed')} these are in common; a seed that only one method finished says nothing here, which spares "
        "the one that failed.")
    rule = "all sign flips counted" if found.pairs <= duels.FLIPS else "Wilcoxon's signed ranks"
    first, second = found.names
    return (f"{formats.counted(found.pairs, 'pair')} of models with the same seed.{uneven} **Better by**: how much nearer to the best value {first} is, "
            f"mean over seeds with its 95{formats.THIN}% t-interval; below 0 {second} is nearer. p: paired test, two-sided, {rule}; **Holm** adjusts "
            f"it for the {formats.counted(len(found.shown), 'metric')} shown, and told apart is what is then at most 0.05. Tests and intervals cover "
            f"{cell.varies}.")


def _privacy(found: Duel) -> tuple[Side | None, str] | None:
    """By U-LiRA where both were attacked, else by the cheap attack, which is said."""
    attack = next((one for one in found.single if one.metric == "balanced_accuracy"), None)
    if attack is None:
        return _paired(found, "indiscernibility")
    words = " against ".join(formats.number(value, "rate") for value in _winner_first(attack.first[1], attack.second[1], attack.winner))
    return attack.winner, f"U-LiRA {words}{', not settled: ' + attack.doubt if attack.doubt else ''}"


def _paired(found: Duel, metric: str) -> tuple[Side | None, str] | None:
    one = next((one for one in found.main if one.metric == metric), None)
    if one is None:
        return None
    first, second = _winner_first(_mean(one.first), _mean(one.second), one.winner)
    kind = formats.METRICS[metric].kind
    label = formats.METRICS[metric].label
    return one.winner, f"{label[:1].lower()}{label[1:]} {formats.number(first, kind)} against {formats.number(second, kind)}"


def _single(found: Duel, metric: str) -> tuple[Side | None, str] | None:
    one = next((one for one in found.single if one.metric == metric), None)
    if one is None:
        return None
    first, second = _winner_first(one.first[1], one.second[1], one.winner)
    return one.winner, f"{formats.number(first, 'times')} against {formats.number(second, 'times')} as fast as retraining"


def _winner_first(first: float, second: float, winner: Side | None) -> tuple[float, float]:
    return (second, first) if winner == "second" else (first, second)


def _ahead(one: Paired) -> list[bool]:
    """By seed, whether the first is nearer to the best value."""
    return [gain >= 0 for gain in one.gains]


def _ahead_in(one: Paired, found: Duel) -> str:
    first, second = (sum(sign * gain > 0 for gain in one.gains) for sign in (1, -1))
    return f"{found.names[0]} is better in {first}, {found.names[1]} in {second} of {formats.counted(len(one.seeds), 'seed')}."


def _about(one: Paired, found: Duel) -> str:
    """The figure for those who do not see it."""
    kind = formats.METRICS[one.metric].kind
    values = "; ".join(f"seed {seed} {formats.number(first, kind)} and {formats.number(second, kind)}"
                       for seed, first, second in zip(one.seeds, one.first, one.second, strict=True))
    return f"{tradeoffs.axis(one.metric)}, {found.names[0]} and {found.names[1]}. {_ahead_in(one, found)} {values}"


def _configured(found: Duel) -> dict[str, Any]:
    right = {name: st.column_config.TextColumn(name, alignment="right") for name in (*found.names, "p", "p (Holm)", "Pairs")}
    gain = f"{found.names[0]} better by"
    return {**right, gain: st.column_config.TextColumn(gain, alignment="right", help="In units of the metric, mean of the differences by seed with its 95 % "
                                                       "t-interval. For metrics whose best is ½ or what retraining has: how much nearer to that.")}


def _who(found: Duel) -> dict[str, str]:
    (first, first_variant), (second, second_variant) = found.keys
    return {"first_method": first, "first_variant": first_variant, "second_method": second, "second_variant": second_variant}


def _named(metric: str) -> str:
    """In a table: with an arrow for the direction."""
    return tradeoffs.axis(metric) if metric in tradeoffs.AS_RETRAINED else f"{formats.METRICS[metric].label} {formats.METRICS[metric].arrow}"


def _number(metric: str, value: float) -> str:
    return formats.number(value, formats.METRICS[metric].kind)


def _signed(one: Paired) -> str:
    """A difference with its sign and interval; of shares in points."""
    share = formats.METRICS[one.metric].kind == "share"
    digits = {"share": 2, "rate": 3, "signed": 2, "epochs": 1}.get(formats.METRICS[one.metric].kind, 0)
    told = [f"{(100 if share else 1) * value:+,.{digits}f}".replace("-", "−").replace(",", formats.THIN) for value in (one.better, one.lo, one.hi)]
    return f"{told[0]}{' points' if share else ''}" + ("" if pd.isna(one.lo) else f" ({told[1]} to {told[2]})")


def _p(value: float) -> str:
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
