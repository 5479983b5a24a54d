"""One's own runs: live while they work, their result beside the study's, and the list of all."""

import json
import time
from typing import Any

import pandas as pd
import streamlit as st

from engine import queue
from engine.errors import BadInput
from pages.ui import abreast, charts, export, formats, page, setting, sweep
from pages.ui.formats import Rows
from pages.ui.theme import FAMILIES, Style, look

STATES = {"queued": (":material/schedule:", "waiting"), "running": (":material/play_circle:", "running"),
          "done": (":material/check_circle:", "done"), "failed": (":material/error:", "failed"),
          "cancelled": (":material/cancel:", "cancelled"), "lost": (":material/link_off:", "lost")}
COMPARED = ("test_accuracy", "forget_accuracy", "retain_accuracy", "retention_deviation", "mia_test", "indiscernibility", "unlearn_s", "rte",
            "image_passes")
STRIPS = ("test_accuracy", "forget_accuracy", "mia_test")
_LISTED = 8
_SHOWN = ("job", "jobs", "clone")  # in the URL: what the page shows beside the list


def named(view: page.View, request: dict[str, Any]) -> str:
    method = look(view.looks, request.get("method", "?")).title(request.get("variant", "corrected"))
    swept = f", {sweep.words(request['sweep'])}" if request.get("sweep") else ""
    return f"{method} on {view.named(request.get('dataset', '?'), request.get('model', '?'))}, seed {request.get('seed', '?')}{swept}"


def opened(job_id: str | None = None, **others: str) -> None:
    """Put a job into the URL, where a reload finds it; or `jobs`, several side by side, or `clone`, the form filled with one; or nothing."""
    wanted = {**({"job": job_id} if job_id else {}), **others}
    for name in _SHOWN:
        if name in wanted:
            st.query_params[name] = wanted[name]
        else:
            st.query_params.pop(name, None)
    st.session_state.pop("cloned", None)  # asked for anew


def found_at(job_id: str) -> queue.Status | None:
    """The job of this id. An unknown one is said and left aside."""
    try:
        return queue.status(job_id)
    except BadInput:
        st.warning(f"There is no job `{job_id}` here; it may have been made on another machine.", icon=":material/search_off:")
        return None


def answer(view: page.View, now: queue.Status, seeds: Rows) -> str:
    """The sentence under the title: what became of the job, held against the study's seeds."""
    name = f"**{named(view, now.request)}**"
    found = queue.result(now.job_id) if now.state == "done" else None
    if found is None:
        return (f"{name} ended without a result: {STATES[now.state][1]}." if now.ended else
                f"{name} is under way. It goes on when this page is closed or reloaded, and when the server is restarted.")
    if "sweep" in found:
        return f"{name}. {sweep.told(found)}"
    value = found["metrics"].get("test_accuracy")
    theirs = [row["test_accuracy"] for row in _of(seeds, found["method"], found["variant"]) if not pd.isna(row["test_accuracy"])]
    told = f"{name} reaches {formats.number(value, 'share')} test accuracy"
    if not theirs or value is None:
        return f"{told}. No study has this method on this dataset and model, so there is nothing to hold it against."
    low, high = min(theirs), max(theirs)
    where = "inside" if low <= value <= high else "above" if value > high else "below"
    return (f"{told}, {where} the range of the study's {formats.counted(len(theirs), 'seed')} "
            f"({formats.number(low, 'share')} to {formats.number(high, 'share')}).")


def watch(view: page.View, job_id: str) -> None:
    """A job that is not over: what it does, how fast, how long still, its curves, and a way to stop it."""

    @st.fragment(run_every=1.0)
    def live() -> None:
        now = queue.status(job_id)
        if now.ended:
            st.rerun()  # the whole page once more, which then shows the result
        spent = time.time() - now.started if now.started else 0.0
        facts = [formats.sentence(now.phase or "starting"),
                 f"{formats.number(now.done, 'count')} of {formats.number(now.total, 'count')} {now.unit}" if now.total else "",
                 f"{formats.rate(now.rate)} {now.unit} a second" if now.rate else "",
                 f"{formats.duration(now.eta_s)} left in this step" if now.eta_s else "",
                 f"{formats.duration(spent)} so far" if spent >= 1 else ""]
        st.progress(min(1.0, now.done / now.total) if now.total else 0.0, text=" · ".join(fact for fact in facts if fact))
        if not _curve(view, job_id):
            st.caption("Its curves appear here as soon as there is something to draw.")

    live()
    with st.container(horizontal=True):
        if st.button("Cancel", icon=":material/cancel:", key="job-cancel"):
            queue.cancel(job_id)
            st.rerun()
        _cloning(job_id)


def ended_badly(view: page.View, now: queue.Status) -> None:
    """Failed, cancelled or lost: what happened, what was kept, and another try."""
    icon, word = STATES[now.state]
    kept = "Models that it had finished are kept and will be used."
    message = {"failed": now.message or "It ended with an error.", "cancelled": f"Nothing of it runs any more. {kept}",
               "lost": f"Its process ended without a word, for example because the machine was switched off. {kept}"}[now.state]
    (st.info if now.state == "cancelled" else st.error)(f"**{formats.sentence(word)}.** {message}", icon=icon)
    with st.container(horizontal=True):
        if st.button("Try again", icon=":material/replay:", type="primary", key="job-retry"):
            _again(now.job_id)
        _cloning(now.job_id)
    if log := queue.log_tail(now.job_id):
        with st.expander("What it printed last"):
            st.code(log, language=None)
    _curve(view, now.job_id)


def result(view: page.View, now: queue.Status, seeds: Rows, study: Rows) -> None:
    """A finished run beside the study's. seeds: rows of `queries.seed_runs`, study: of `queries.results`; none where there is none."""
    found = queue.result(now.job_id)
    if found is None:
        st.error("The run is done, but its result cannot be read. Try it again.", icon=":material/error:")
        return
    if "sweep" in found:
        sweep.result(view, f"lethe-sweep-{now.job_id}", found, seeds, study)
    else:
        _single(view, found, seeds, study)
    with st.container(horizontal=True):
        if st.button("Run it again", icon=":material/replay:", key="job-retry"):
            _again(now.job_id)
        _cloning(now.job_id)
        st.download_button("Report", data=lambda: report(now, found), file_name=f"lethe-{now.job_id}.json", mime="application/json", on_click="ignore",
                           icon=":material/description:", key="job-report",
                           help="What was asked for, every metric, the curves and where all of it comes from, as one JSON file")
    with st.expander("What it logged while it ran"):
        if not _curve(view, now.job_id):
            st.caption("Nothing: it was stored already.")
    _provenance(view, now, found)


def report(now: queue.Status, found: dict[str, Any]) -> str:
    """A finished job as one JSON document: request, result with its provenance, curves."""
    return json.dumps({"job": now.job_id, "request": now.request, "result": found, "curve": queue.curve(now.job_id)}, indent=1)


def _single(view: page.View, found: dict[str, Any], seeds: Rows, study: Rows) -> None:
    """One run: among the study's seeds, and every metric beside the study's means."""
    if found.get("reused"):
        st.info("Exactly this run was stored already, so nothing had to be computed. Another seed gives a new model.", icon=":material/inventory_2:")
    _fresh_target(view, found, study)
    metrics, known = found["metrics"], look(view.looks, found["method"])
    groups = {f"{known.label}, study": (known.colour, _of(seeds, found["method"], found["variant"])),
              "Retrained": (FAMILIES["reference"][1], _of(seeds, "retrained"))}
    drawn = {metric: {name: (colour, [row[metric] for row in rows]) for name, (colour, rows) in groups.items() if rows} for metric in STRIPS}

    def build(style: Style, width: float, below: bool) -> charts.Spec:
        return charts.beside([charts.strip(drawn[metric], style, metric, mine=metrics.get(metric), width=round(width)) for metric in STRIPS],
                             below=below)

    there, name = bool(drawn[STRIPS[0]]), f"lethe-run-{found['run_id']}"
    table = _beside(found, study, known.label)
    left, right = st.columns([5, 6], gap="medium")
    with left:
        if there:
            st.markdown("**Your model** (the line) **among the study's** (one dot a seed)")
        else:
            st.caption("No study on this dataset and model yet, so there is nothing to hold your run against.")
        for metric in STRIPS if there else ():
            alt = f"{formats.METRICS[metric].label}: yours {formats.number(metrics.get(metric), formats.METRICS[metric].kind)}"
            page.chart(charts.strip(drawn[metric], view.style, metric, mine=metrics.get(metric)), view.style, alt)
    with right:
        st.dataframe(table, hide_index=True, height="content", key="job-table", alt="Every metric of your run beside the means of the study",
                     column_config={column: st.column_config.TextColumn(alignment="right") for column in table.columns[1:]})
        with st.container(horizontal=True):
            run = f"one run of {known.title(found['variant'])} on {view.named(found['dataset'], found['model'])}, seed {found['seed']}"
            if there:
                export.figure(name, build, panels=len(STRIPS), caption=f"{formats.listed([formats.METRICS[metric].axis for metric in STRIPS])} of {run}: "
                              "the line. Dots: models of the study, one a seed.")
            export.table(name, pd.DataFrame([{"metric": key, "value": value} for key, value in metrics.items()]), table,
                         caption=f"Every metric of {run}, beside means of the study with 95 % intervals.")


def listing(view: page.View, current: str | None, compared: tuple[str, ...] = ()) -> None:
    """The newest jobs, those of a state or method where that is chosen; each with a way to open it, and several to be compared."""
    st.subheader("Your runs", anchor=False)
    if not queue.jobs(1):
        st.caption("None yet. They are listed here, and stay across reloads and restarts.")
        return
    states, methods, shown = _filters(view)
    found = queue.jobs(shown + 1, lambda now: (not states or now.state in states) and (not methods or now.request.get("method") in methods))
    if not found:
        st.caption("None of this kind.")
    chosen = [now.job_id for now in found[:shown] if _listed(view, now, current, compared)]
    with st.container(horizontal=True):
        fits = abreast.FEWEST <= len(chosen) <= abreast.MOST
        st.button("Compare the chosen", icon=":material/view_column:", disabled=not fits, on_click=opened, kwargs={"jobs": ",".join(chosen)},
                  help=f"Tick {abreast.FEWEST} to {abreast.MOST} finished runs; a sweep compares its own values", key="jobs-compare")
        if len(found) > shown:
            st.button("Show more", icon=":material/expand_more:", on_click=_more, key="jobs-more")


def _filters(view: page.View) -> tuple[list[str], list[str], int]:
    """(states, methods, how many are listed); no states or methods are all."""
    names = [method["name"] for method in view.catalogue["methods"]]
    with st.container(horizontal=True):
        states = st.multiselect("State", list(STATES), format_func=lambda state: formats.sentence(STATES[state][1]), placeholder="Any state",
                                key="jobs-states", label_visibility="collapsed", width=320)
        methods = st.multiselect("Method", names, format_func=lambda name: look(view.looks, name).label, placeholder="Any method",
                                 key="jobs-methods", label_visibility="collapsed", width=320)
    return states, methods, st.session_state.get("jobs-listed", _LISTED)


def _more() -> None:
    st.session_state["jobs-listed"] = st.session_state.get("jobs-listed", _LISTED) + _LISTED


def _listed(view: page.View, now: queue.Status, current: str | None, compared: tuple[str, ...]) -> bool:
    """A row of the list; whether its box is ticked."""
    icon, word = STATES[now.state]
    name, age = named(view, now.request), formats.ago(pd.to_datetime(now.updated, unit="s") if now.updated else None)
    with st.container(horizontal=True, vertical_alignment="center"):
        st.markdown(f"{icon} {name}  \n:small[:gray[{' · '.join(filter(None, (f'{word}, {age}', _own_settings(view, now.request))))}]]", width="stretch")
        ticked = st.checkbox("Compare", value=now.job_id in compared, key=f"pick-{now.job_id}", disabled=now.state != "done" or "sweep" in now.request)
        st.button("Shown" if now.job_id == current else "Open", key=f"open-{now.job_id}", disabled=now.job_id == current, on_click=opened,
                  args=(now.job_id,))
        _cloning(now.job_id, key=f"clone-{now.job_id}")
    return ticked and now.state == "done"


def _own_settings(view: page.View, request: dict[str, Any]) -> str:
    """The parameters that are not at their default, by which runs of one method are told apart."""
    known, params = view.method(request.get("method", "")), request.get("params", {})
    usual = setting.defaults(setting.declared(known, request.get("variant", ""))) if known else {}
    own = {name: value for name, value in params.items() if value != usual.get(name)}
    return formats.settings(own) if own else ""


def _cloning(job_id: str, key: str = "job-clone") -> None:
    """A way to the form, filled with what a job asked for."""
    st.button("Clone", icon=":material/content_copy:", key=key, on_click=opened, kwargs={"clone": job_id},
              help="The form with the settings of this run, to change and start")


def _again(job_id: str) -> None:
    """Ask for the same once more and show that."""
    opened(queue.retry(job_id))
    st.rerun()


def _of(rows: Rows, method: str, variant: str | None = None) -> Rows:
    return [row for row in rows if row["method"] == method and variant in (None, row["variant"])]


def _fresh_target(view: page.View, found: dict[str, Any], study: Rows) -> None:
    """How the run fared as a fresh target of U-LiRA, or why it was not one."""
    value, low, high = _estimate(found.get("u_lira") or {}, "balanced_accuracy")
    if pd.isna(value):
        reason = found.get("u_lira_reason") or "its settings are not those of a stored study, so there are no shadow models of its kind"
        st.caption(f":material/target: Not scored by U-LiRA: {reason}.")
        return
    stored = [f"; the study has {charts.told(row, 'balanced_accuracy')} for {look(view.looks, row['method']).label}"
              for row in _of(study, found["method"], found["variant"]) if not pd.isna(row["balanced_accuracy"])]
    st.markdown(f":material/target: As a **fresh target of U-LiRA**, against the stored shadow models: balanced accuracy "
                f"**{formats.with_interval(value, low, high, 'rate')}**{''.join(stored)}. One model says less than the study's many: "
                "its interval is wide.")


def _estimate(scored: dict[str, Any], name: str) -> tuple[float, float, float]:
    """(value, lo, hi) of an attack's estimate; NaN for what is missing."""
    given = scored.get(name)
    ends = given if isinstance(given, dict) else {"value": given, "lo": scored.get("lo"), "hi": scored.get("hi")}
    value, low, high = (float("nan") if (end := ends.get(key)) is None else float(end) for key in ("value", "lo", "hi"))
    return value, low, high


def _beside(found: dict[str, Any], study: Rows, label: str) -> pd.DataFrame:
    """Every metric: of the run, of the study's runs of the same method, of retraining; as texts."""
    rows = []
    for metric in COMPARED:
        known = formats.METRICS[metric]
        row = {"Metric": known.header, "Your run": formats.number(found["metrics"].get(metric), known.kind)}
        for column, match in ((f"{label}, study", _of(study, found["method"], found["variant"])), ("Retrained", _of(study, "retrained"))):
            row[column] = charts.told(match[0], metric) if match else formats.MISSING
        rows.append(row)
    return pd.DataFrame(rows)


def _curve(view: page.View, job_id: str) -> bool:
    """What the run has logged so far; False where that is nothing."""
    points = [point for point in queue.curve(job_id) if point.get("value") is not None]
    names = ", ".join(sorted({point["name"] for point in points}))
    if points and "of" in points[0]:
        sweep.courses(view, points, queue.status(job_id).request["sweep"].partition("=")[0])
    elif points:
        page.chart(charts.curves(points, view.style), view.style, f"What the run logged, by epoch: {names}")
    return bool(points)


def _provenance(view: page.View, now: queue.Status, found: dict[str, Any]) -> None:
    came, known = found.get("provenance", {}), view.method(found["method"])
    usual = setting.defaults(known) if known else {}
    runs = [found["run_id"]] if "run_id" in found else [point["run_id"] for point in found["points"]]
    facts = [f"{'Run' if len(runs) == 1 else 'Runs'} {', '.join(f'`{run}`' for run in runs)}", f"setting {formats.settings(found['params'])}",
             *(str(came[key]) for key in ("machine", "mode") if came.get(key)),
             f"commit {str(came['commit'])[:7]}{'' if came.get('clean') else ', with uncommitted changes'}" if came.get("commit") else ""]
    st.caption(" · ".join(fact for fact in facts if fact))
    st.code(came.get("command") or setting.command({**now.request, "params": found["params"]}, usual), language="bash", wrap_lines=True)
