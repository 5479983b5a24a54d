"""Compare: what do I trade for what? Kept accuracy against leakage and against run time, and the runs behind every point."""

import json

import pandas as pd
import streamlit as st

from engine.store import queries
from pages.ui import charts, export, filters, findings, formats, nav, page, setting, store, table, trust
from pages.ui.formats import Row, Rows
from pages.ui.theme import Style, look

PANELS = (("balanced_accuracy", "Accuracy against privacy", "Top left is best: accurate, and nothing leaks.", "attacks"),
          ("rte", "Accuracy against run time", "Top right is best: accurate, and fast.", "timings"))
RUN_COLUMNS = {"seed": "Seed", "run_id": "Run", "test_retention": "Test acc. kept", "test_accuracy": "Test acc.", "forget_accuracy": "Forget acc.",
               "retain_accuracy": "Retain acc.", "retention_deviation": "Ret. dev.", "mia_test": "Population MIA", "indiscernibility": "Indisc.",
               "started": "Started (UTC)", "amortised_s": "Seconds", "mode": "Mode", "executor": "Executor", "precision": "Precision",
               "device": "Device", "machine": "Machine", "commit": "Commit", "clean": "Clean tree", "command": "Made by"}
_ROUND = "compare-round"
_MARKS = ("Lines: retraining, shaded with its own interval. Whiskers: 95 % intervals, of seeds for accuracy, of splits for U-LiRA; the range of "
          "repeats for speed.")


def body(view: page.View) -> None:
    choice = filters.draw("compare", view.studies, view.catalogue, view.looks)
    if choice.study is None:
        return page.nothing_here(view, choice)
    rows = table.ordered(choice.of(store.rows(queries.results, study=choice.study)))
    keys = [f"{row['method']}/{row['variant']}" for row in rows]
    picked = st.query_params.get("pick")
    picked = picked if picked in keys else None
    believed = trust.of(choice.study)
    page.lead(view.screen.question, findings.compare(rows, view.looks) + believed.caveat())
    page.notices(view, choice.study)
    _panels(view, rows, believed, picked)
    _actions(view, rows, believed, choice)
    _table(view, rows, keys, believed, picked)
    if picked:
        _behind(view, rows[keys.index(picked)], choice.study)
    else:
        st.caption("Choose a point or a row to see the runs behind it.")
    page.footer(view, choice.study)


def _panels(view: page.View, rows: Rows, believed: trust.Trust, picked: str | None) -> None:
    """Two linked panels over the same accuracy axis; a click on a point picks the method in both and in the table."""
    rise = _rise(rows)
    for (metric, heading, best, missing), column in zip(PANELS, st.columns(2, gap="medium"), strict=True):
        with column:
            st.subheader(heading, anchor=False)
            shown = charts.points(rows, view.looks, metric, "test_retention")
            if not shown:
                st.info(f"Nothing to draw yet: this study has no {missing}, or no accuracies.", icon=":material/hourglass_empty:")
                continue
            st.caption(best)
            key = f"panel-{metric}-{st.session_state.get(_ROUND, 0)}"
            known = believed.looks(view.looks, rows, view.style, metric)
            page.chart(charts.tradeoff(rows, known, view.style, x=metric, picked=picked, y_span=rise), view.style,
                       f"{heading}. " + " | ".join(point["about"] for point in shown), key=key, on_select=lambda key=key: _pick_point(key),
                       selection_mode=[charts.PICK])
    if len(rows) > charts.MANY:
        st.caption(f"Only {charts.MANY} of {len(rows)} methods are named in the figures. Choose fewer on the left to see all names.")


def _rise(rows: Rows) -> charts.Span:
    """The common range of both panels: of the rows that either of them shows."""
    return charts.reach_of([row for row in rows if any(not pd.isna(row[metric]) for metric, *_ in PANELS)], ["test_retention"])


def _actions(view: page.View, rows: Rows, believed: trust.Trust, choice: filters.Choice) -> None:
    """What the marks mean, and figure and table as files."""
    page.legend(page.families(view, rows), _MARKS)
    drawable = [metric for metric, *_ in PANELS if charts.points(rows, view.looks, metric, "test_retention")]
    rise = _rise(rows)

    def build(style: Style, width: float, below: bool) -> charts.Spec:
        size = (round(width), round(0.9 * width))
        return charts.beside([charts.tradeoff(rows, believed.looks(view.looks, rows, style, metric), style, x=metric, size=size, y_span=rise)
                              for metric in drawable], below=below)

    name = f"lethe-compare-{choice.dataset}-{choice.model}"
    with st.container(horizontal=True):
        if drawable:
            export.figure(name, build, panels=len(drawable), studies=[choice.study or ""],
                          caption=f"{formats.METRICS['test_retention'].axis} of every method against "
                          f"{formats.listed([formats.METRICS[metric].axis for metric in drawable])}. {_MARKS}")
        export.table(name, pd.DataFrame(rows), table.texts(rows, view.looks), studies=[choice.study or ""],
                     caption="Privacy, accuracy and speed of every method, means with 95 % intervals.")


def _table(view: page.View, rows: Rows, keys: list[str], believed: trust.Trust, picked: str | None) -> None:
    key = f"table-{st.session_state.get(_ROUND, 0)}"
    doubts = {(row["method"], row["variant"]): doubt for row in rows if not pd.isna(row["balanced_accuracy"]) and (doubt := believed.doubt(row))}
    st.dataframe(table.styled(rows, view.looks, doubts), hide_index=True, column_config=table.configured(), key=key, placeholder=formats.MISSING,
                 on_select=lambda: _pick_row(key, keys), selection_mode="single-row", height="content",
                 selection_default={"selection": {"rows": [keys.index(picked)]}} if picked else None,
                 alt="Every method with its privacy, accuracy and speed; the figures above show three of these columns")
    st.caption("Bold: best, or too close to the best to tell. **Population MIA** is the cheap attack that papers report most; where it stays near ½ "
               "and U-LiRA does not, it flatters the method."
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
        close.button("Close", on_click=_pick, args=(None,), key="behind-close", type="tertiary", icon=":material/close:")
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


def _pick(key: str | None) -> None:
    """Remember the choice in the URL, and draw figures and table anew so that all three show it and nothing else."""
    if key:
        st.query_params["pick"] = key
    else:
        st.query_params.pop("pick", None)
    st.session_state[_ROUND] = st.session_state.get(_ROUND, 0) + 1


def _pick_point(key: str) -> None:
    points = st.session_state[key]["selection"].get(charts.PICK, [])
    _pick(points[0]["key"] if points else None)


def _pick_row(key: str, keys: list[str]) -> None:
    rows = st.session_state[key]["selection"]["rows"]
    _pick(keys[rows[0]] if rows else None)


page.show("compare", body)
