"""Compare: what do I trade for what? Any two metrics against each other with what no method beats, the runs behind every point, and two
methods head to head."""

import json
from dataclasses import dataclass

import pandas as pd
import streamlit as st

from engine.store import queries
from pages.ui import charts, duel, export, filters, findings, formats, nav, page, setting, store, table, tradeoffs, trust
from pages.ui.formats import Row, Rows
from pages.ui.theme import Style, look

PANELS = {"balanced_accuracy": ("Accuracy against privacy", "Top left is best: accurate, and nothing leaks.", "attacks"),
          "rte": ("Accuracy against run time", "Top right is best: accurate, and fast.", "timings")}
RUN_COLUMNS = {"seed": "Seed", "run_id": "Run", "test_retention": "Test acc. kept", "test_accuracy": "Test acc.", "forget_accuracy": "Forget acc.",
               "retain_accuracy": "Retain acc.", "retention_deviation": "Ret. dev.", "mia_test": "Population MIA", "indiscernibility": "Indisc.",
               "started": "Started (UTC)", "amortised_s": "Seconds", "mode": "Mode", "executor": "Executor", "precision": "Precision",
               "device": "Device", "machine": "Machine", "commit": "Commit", "clean": "Clean tree", "command": "Made by"}
_BOTH, _NONE, _UP = "both", "none", "test_retention"  # two panels, privacy and speed; no third metric; what both panels have upwards
_ROUND = "compare-round"
_MARKS = ("Lines: retraining, shaded with its own interval. Whiskers: 95 % intervals, of seeds for what single models show, of splits for U-LiRA; the "
          "range of repeats for times. Thin line: through the Pareto front by the means, of the methods alone. Question mark: beaten by the means, "
          "but by no single method in both metrics with intervals that do not touch, so it may be on the front.")


@dataclass(frozen=True)
class Axes:
    """What is drawn: one panel for each metric of xs, all with y upwards. size: a third metric, or None."""

    xs: tuple[str, ...]
    y: str
    size: str | None


def body(view: page.View) -> None:
    choice = filters.draw("compare", view.studies, view.catalogue, view.looks)
    if choice.study is None:
        return page.nothing_here(view, choice)
    rows = table.ordered(choice.of(store.rows(queries.results, study=choice.study)))
    keys = [tradeoffs.key(row) for row in rows]
    picked = st.query_params.get("pick")
    picked = picked if picked in keys else None
    brushed = tradeoffs.chosen(st.query_params.get("brush", ""), keys)
    believed = trust.of(choice.study)
    page.lead(view.screen.question, findings.compare(rows, view.looks) + believed.caveat())
    page.notices(view, choice.study)
    axes = _axes(rows)
    _panels(view, rows, axes, believed, picked, brushed)
    shown = [row for row in rows if tradeoffs.key(row) in brushed] if brushed else rows
    _actions(view, rows, shown, axes, believed, brushed, choice)
    if brushed:
        _selection(view, shown, len(rows))
    _table(view, shown, believed, picked)
    if picked:
        _behind(view, rows[keys.index(picked)], choice.study)
    else:
        st.caption("Choose a point or a row to see the runs behind it; draw a box in a figure to keep some.")
    duel.draw(view, rows, choice, believed)
    page.footer(view, choice.study)


def _axes(rows: Rows) -> Axes:
    """Which metrics are drawn, by the visitor or the address."""
    there = tradeoffs.measured(rows)
    across, upwards, area = st.columns(3, gap="medium")
    with across:
        x = _metric("x", "Across", [_BOTH, *there], _BOTH, "Privacy and speed, side by side")
    with upwards:
        y = _metric("y", "Upwards", there if _UP in there else [_UP, *there], _UP, "")
    with area:
        size = _metric("area", "Size of the marks", [_NONE, *there], _NONE, "All the same")
    return Axes(tuple(PANELS) if x == _BOTH else (x,), y, None if size == _NONE else size)


def _metric(name: str, title: str, options: list[str], default: str, words: str) -> str:
    """A choice of a metric, in the address. words: what the default is called, where it is no metric."""
    key = f"{name}@compare"
    filters.linked(name, key, default, lambda text: text if text in options else None)
    if st.session_state[key] not in options:
        st.session_state[key] = default
    chosen = st.selectbox(title, options, key=key, format_func=lambda metric: tradeoffs.axis(metric) if metric in formats.METRICS else words)
    filters.write(name, chosen)
    return chosen


def _panels(view: page.View, rows: Rows, axes: Axes, believed: trust.Trust, picked: str | None, brushed: list[str]) -> None:
    """Linked panels over the same axis upwards. A click on a point picks the method, a box keeps some, in all panels and in the table."""
    rise, single = _rise(rows, axes), len(axes.xs) == 1
    for x, column in zip(axes.xs, [st.container()] if single else st.columns(2, gap="medium"), strict=True):
        with column:
            heading, best, missing = PANELS[x] if axes.y == _UP and x in PANELS else (_against(x, axes.y), _corner(rows, x, axes.y), "numbers of both metrics")
            st.subheader(heading, anchor=False)
            shown = charts.points(rows, view.looks, x, axes.y, axes.size)
            if not shown:
                st.info(f"Nothing to draw yet: this study has no {missing}, or no {formats.METRICS[axes.y].label.lower()}"
                        f"{', or not with the size' if axes.size else ''}.", icon=":material/hourglass_empty:")
                continue
            st.caption(best)
            key = f"panel-{x}-{st.session_state.get(_ROUND, 0)}"
            known = believed.looks(view.looks, rows, view.style, x)
            spec = charts.tradeoff(rows, known, view.style, x=x, y=axes.y, area=axes.size, picked=picked, brushed=brushed, box=True, y_span=rise,
                                   size=(340, 420 if single else 350))  # as on a phone: on a wide page names are further apart
            about = spec["data"]["values"]
            page.chart(spec | {"height": spec["height"] + (50 if axes.size else 0)}, view.style,
                       f"{heading}. " + " | ".join(point["about"] for point in about), key=key,
                       on_select=lambda key=key, x=x: _chosen(key, rows, x, axes.y), selection_mode=[charts.PICK, charts.BRUSH])
            st.caption(_front(view, rows, x, axes.y))
    if len(rows) > charts.MANY:
        st.caption(f"Only {charts.MANY} of {len(rows)} methods are named in the figures. Choose fewer on the left to see all names.")
    lacking = [look(view.looks, row["method"]).title(row["variant"]) for row in rows if axes.size and pd.isna(row[axes.size])]
    if lacking and axes.size:
        st.caption(f"Not drawn, for want of {formats.METRICS[axes.size].label}: {formats.listed(lacking)}.")


def _against(x: str, y: str) -> str:
    return f"{formats.METRICS[y].label} against {formats.METRICS[x].label}"


def _corner(rows: Rows, x: str, y: str) -> str:
    """Where in a panel the best is."""
    places = [place for place in (tradeoffs.where(y, rows, True), tradeoffs.where(x, rows, False)) if place]
    if not places:
        return "Neither metric has a better and a worse."
    return f"Best is {places[0]} in both." if places[0] == places[-1] and len(places) == 2 else f"Best is {formats.listed(places)}."


def _front(view: page.View, rows: Rows, x: str, y: str) -> str:
    """Who is on the Pareto front of a panel, in words."""
    found = tradeoffs.front(rows, x, y)
    if found is None:
        which = [formats.METRICS[metric].label for metric in dict.fromkeys((x, y)) if tradeoffs.best(metric, rows) is None]
        return f"No front is drawn: {formats.listed(which)} {'has' if len(which) == 1 else 'have'} no best value."
    if not found.on:
        return ""
    names = {tradeoffs.key(row): look(view.looks, row["method"]).title(row["variant"]) for row in rows}
    may = f" May be on it: {formats.listed(sorted(names[key] for key in found.may))}." if found.may else ""
    return f"On the front, by the means: **{formats.listed([names[key] for key in found.on])}**.{may}"


def _rise(rows: Rows, axes: Axes) -> charts.Span:
    """The common range of all panels: of the rows that any of them shows."""
    return charts.reach_of([row for row in rows if row["method"] == "retrained" or any(not pd.isna(row[x]) for x in axes.xs)], axes.y)


def _actions(view: page.View, rows: Rows, shown: Rows, axes: Axes, believed: trust.Trust, brushed: list[str], choice: filters.Choice) -> None:
    """What the marks mean, and figure and table as files."""
    page.legend(page.families(view, rows), _MARKS)
    drawable = [x for x in axes.xs if charts.points(rows, view.looks, x, axes.y, axes.size)]
    rise = _rise(rows, axes)

    def build(style: Style, width: float, below: bool) -> charts.Spec:
        size = (round(width), round(0.9 * width if len(drawable) > 1 else 0.6 * width))
        return charts.beside([charts.tradeoff(rows, believed.looks(view.looks, rows, style, x), style, x=x, y=axes.y, area=axes.size, size=size,
                                              brushed=brushed, y_span=rise) for x in drawable], below=below)

    name = f"lethe-compare-{choice.dataset}-{choice.model}"
    with st.container(horizontal=True):
        if drawable:
            area = f" Size of the marks: {tradeoffs.axis(axes.size)}." if axes.size else ""
            export.figure(name, build, panels=len(drawable), studies=[choice.study or ""],
                          caption=f"{tradeoffs.axis(axes.y)} of every method against "
                          f"{formats.listed([tradeoffs.axis(x) for x in drawable])}.{area} {_MARKS}")
        export.table(name, pd.DataFrame(shown), table.texts(shown, view.looks), studies=[choice.study or ""],
                     caption=f"Privacy, accuracy and speed of {'the methods in the box' if brushed else 'every method'}, means with 95 % intervals.")


def _selection(view: page.View, shown: Rows, of: int) -> None:
    """What a box has left, and the way back."""
    with st.container(horizontal=True, vertical_alignment="center"):
        names = formats.listed([look(view.looks, row["method"]).title(row["variant"]) for row in shown])
        st.markdown(f"**{len(shown)} of {of} shown**, those in the box: {names}.", width="content")
        st.button("Show all", on_click=_redraw, kwargs={"brush": None}, key="brush-clear", icon=":material/filter_alt_off:")


def _table(view: page.View, rows: Rows, believed: trust.Trust, picked: str | None) -> None:
    key, keys = f"table-{st.session_state.get(_ROUND, 0)}", [tradeoffs.key(row) for row in rows]
    doubts = {(row["method"], row["variant"]): doubt for row in rows if not pd.isna(row["balanced_accuracy"]) and (doubt := believed.doubt(row))}
    st.dataframe(table.styled(rows, view.looks, doubts), hide_index=True, column_config=table.configured(), key=key, placeholder=formats.MISSING,
                 on_select=lambda: _pick_row(key, keys), selection_mode="single-row", height="content",
                 selection_default={"selection": {"rows": [keys.index(picked)]}} if picked in keys else None,
                 alt="Every method with its privacy, accuracy and speed; the figures above show some of these columns")
    st.caption("Bold: best of those shown, or too close to the best to tell. **Population MIA** is the cheap attack that papers report most; where it "
               "stays near ½ and U-LiRA does not, it flatters the method."
               + "".join(f" **Grey: not settled**, {reason}." for reason in dict.fromkeys(doubts.values())))


def _behind(view: page.View, row: Row, study: str) -> None:
    """The runs behind a point: what was set, how it was chosen, every seed, and the command that makes one again."""
    method, variant = row["method"], row["variant"]
    name = look(view.looks, method).title(variant)
    runs = [run for run in store.rows(queries.seed_runs, study=study) if (run["method"], run["variant"]) == (method, variant)]
    with st.container(border=True, key="behind"):
        head, lab, close = st.columns([6, 2, 1], vertical_alignment="center")
        head.subheader(f"{name}: the runs behind the point", anchor=False)
        if method not in findings.REFERENCES:
            screen = nav.screen("lab")
            lab.page_link(screen.script, label="Run it in the Lab", icon=screen.icon, query_params={**filters.link(), "method": method})
        close.button("Close", on_click=_redraw, kwargs={"pick": None}, key="behind-close", type="tertiary", icon=":material/close:")
        st.markdown(_about(view, row, study))
        if not pd.isna(row["balanced_accuracy"]) and (doubt := trust.of(study).doubt(row)):
            st.markdown(f":gray[U-LiRA's numbers here are not settled: {doubt}.]")
        if runs:
            _seeds(runs, name)
        else:
            st.info("No seed of this has finished yet.", icon=":material/hourglass_empty:")
        others = store.rows(queries.other_runs, study=study, method=method, variant=variant)
        if others:
            names = {attack["name"]: attack["label"] for attack in view.catalogue["attacks"]}
            st.caption("Also behind this row: " + " · ".join(f"{names.get(other['attack']) or other['kind']} `{other['run_id']}`" for other in others))
        attacks = [other["run_id"] for who in dict.fromkeys((method, *findings.REFERENCES))
                   for other in store.rows(queries.other_runs, study=study, method=who, variant=variant if who == method else "corrected")
                   if other["kind"] == "attack"]
        if any(other["kind"] == "attack" for other in others):
            about = f"{name} on {view.named(view.study(study)['dataset'], view.study(study)['model'])}"
            st.download_button("Report", data=lambda: store.report(about, attacks), file_name=f"lethe-{method}.html", mime="text/html", on_click="ignore",
                               icon=":material/description:", key="behind-report",
                               help="Verdict, ROC on logarithmic axes, calibration, the most exposed examples and where all of it comes from, as one file")
        if runs:
            known, request = view.method(method), {**runs[0], "params": json.loads(runs[0]["params"] or "{}"), **view.follows(study)}
            st.caption("One seed again, computed afresh and not stored:")
            st.code(f"{setting.command(request, setting.defaults(known) if known else {})} --no-store", language="bash", wrap_lines=True)


def _seeds(runs: Rows, name: str) -> None:
    """One row a seed, with its provenance."""
    shares = [column for column in RUN_COLUMNS if column in formats.METRICS and formats.METRICS[column].kind == "share"]
    shown = pd.DataFrame([{title: run[column] * 100 if column in shares else run[column] for column, title in RUN_COLUMNS.items()} for run in runs])
    kinds = {**dict.fromkeys(shares, "%.1f %%"), **dict.fromkeys(("retention_deviation", "mia_test", "indiscernibility"), "%.3f"), "amortised_s": "%.2f"}
    st.dataframe(shown, hide_index=True, key="behind-runs", placeholder=formats.MISSING,
                 column_config={RUN_COLUMNS[column]: st.column_config.NumberColumn(format=kind) for column, kind in kinds.items()},
                 alt=f"The models of {name}, one row a seed, with their provenance")


def _about(view: page.View, row: Row, study: str) -> str:
    """What the method is, its setting and where that came from, and which way it errs."""
    known = view.method(row["method"])
    lines = []
    if known and known["doc"]:
        source = "" if known["source"] == "reference" else f" Source: {known['source']}{', ' + known['paper'] if known.get('paper') else ''}."
        lines.append(known["doc"].splitlines()[0] + source)
    if row["params"] and row["params"] != "{}":
        trials = store.rows(queries.trials, study=study, method=row["method"], variant=row["variant"])
        origin = f", the best of {formats.counted(len(trials), 'trial')} on splits that are never attacked" if trials else ""
        lines.append(f"Setting: {formats.settings(row['params'])}{origin}.")
    if not pd.isna(row["live_share"]):
        lines.append(f"Of the weights that it selects, {formats.number(row['live_share'], 'share')} can influence an output at this image size.")
    if not pd.isna(row["balanced_accuracy"]):
        way = findings.direction(row["shift"])
        way = f" Forgotten examples {way}." if way else ""
        lines.append(f"U-LiRA {charts.told(row, 'balanced_accuracy')}, AUC {charts.told(row, 'auc')}, from "
                     f"{formats.counted(row['n_models'], 'model')} on {formats.counted(row['n_splits'], 'split')}.{way}")
    return "  \n".join(lines)


def _redraw(**parameters: str | None) -> None:
    """Remember what was chosen in the URL, and draw figures and table anew so that all of them show it and nothing else."""
    for name, value in parameters.items():
        if value:
            st.query_params[name] = value
        else:
            st.query_params.pop(name, None)
    st.session_state[_ROUND] = st.session_state.get(_ROUND, 0) + 1


def _chosen(key: str, rows: Rows, x: str, y: str) -> None:
    """A point that was clicked, or a box; a click beside all points says neither and changes nothing."""
    found = st.session_state[key]["selection"]
    points, held = found.get(charts.PICK), tradeoffs.inside(rows, x, y, found.get(charts.BRUSH) or {})
    if points:
        _redraw(pick=points[0]["key"])
    elif held:
        _redraw(brush=",".join(held))


def _pick_row(key: str, keys: list[str]) -> None:
    rows = st.session_state[key]["selection"]["rows"]
    _redraw(pick=keys[rows[0]] if rows else None)


page.show("compare", body)
