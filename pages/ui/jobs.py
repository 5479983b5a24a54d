"""One's own runs: live while they work, their result beside the study's, and the list of all."""

import time
from typing import Any

import pandas as pd
import streamlit as st

from engine import queue
from pages.ui import charts, export, formats, page, setting
from pages.ui.formats import Rows
from pages.ui.theme import FAMILIES, Style, look

STATES = {"queued": (":material/schedule:", "waiting"), "running": (":material/play_circle:", "running"),
          "done": (":material/check_circle:", "done"), "failed": (":material/error:", "failed"),
          "cancelled": (":material/cancel:", "cancelled"), "lost": (":material/link_off:", "lost")}
COMPARED = ("test_accuracy", "forget_accuracy", "retain_accuracy", "retention_deviation", "mia_test", "indiscernibility", "unlearn_s", "rte",
            "image_passes")
STRIPS = ("test_accuracy", "forget_accuracy", "mia_test")
_LISTED = 8


def named(view: page.View, request: dict[str, Any]) -> str:
    method = look(view.looks, request.get("method", "?")).title(request.get("variant", "corrected"))
    return f"{method} on {view.named(request.get('dataset', '?'), request.get('model', '?'))}, seed {request.get('seed', '?')}"


def opened(job_id: str | None) -> None:
    """Put a job into the URL, where a reload finds it, or take it out."""
    if job_id:
        st.query_params["job"] = job_id
    else:
        st.query_params.pop("job", None)


def answer(view: page.View, now: queue.Status, seeds: Rows) -> str:
    """The sentence under the title: what became of the job, held against the study's seeds."""
    name = f"**{named(view, now.request)}**"
    found = queue.result(now.job_id) if now.state == "done" else None
    if found is None:
        return (f"{name} ended without a result: {STATES[now.state][1]}." if now.ended else
                f"{name} is under way. It goes on when this page is closed or reloaded, and when the server is restarted.")
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
    if st.button("Cancel", icon=":material/cancel:", key="job-cancel"):
        queue.cancel(job_id)
        st.rerun()


def ended_badly(view: page.View, now: queue.Status) -> None:
    """Failed, cancelled or lost: what happened, what was kept, and another try."""
    icon, word = STATES[now.state]
    kept = "Models that it had finished are kept and will be used."
    message = {"failed": now.message or "It ended with an error.", "cancelled": f"Nothing of it runs any more. {kept}",
               "lost": f"Its process ended without a word, for example because the machine was switched off. {kept}"}[now.state]
    (st.info if now.state == "cancelled" else st.error)(f"**{formats.sentence(word)}.** {message}", icon=icon)
    if st.button("Try again", icon=":material/replay:", type="primary", key="job-retry"):
        _again(now.job_id)
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
            if there:
                export.figure(name, build, panels=len(STRIPS))
            export.table(name, pd.DataFrame([{"metric": key, "value": value} for key, value in metrics.items()]), table)
            if st.button("Run it again", icon=":material/replay:", key="job-retry"):
                _again(now.job_id)
    with st.expander("What it logged while it ran"):
        if not _curve(view, now.job_id):
            st.caption("Nothing: it was stored already.")
    _provenance(view, now, found)


def listing(view: page.View, current: str | None) -> None:
    """The newest jobs, each with a way to open it."""
    found = queue.jobs(_LISTED + 1)
    st.subheader("Your runs", anchor=False)
    if not found:
        st.caption("None yet. They are listed here, and stay across reloads and restarts.")
    for now in found[:_LISTED]:
        icon, word = STATES[now.state]
        what, when, way = st.columns([6, 3, 2], vertical_alignment="center")
        what.markdown(f"{icon} {named(view, now.request)}")
        when.caption(f"{word}, {formats.ago(pd.to_datetime(now.updated, unit='s') if now.updated else None)}")
        way.button("Shown" if now.job_id == current else "Open", key=f"open-{now.job_id}", disabled=now.job_id == current,
                   on_click=opened, args=(now.job_id,), width="stretch")
    if len(found) > _LISTED:
        st.caption(f"Only the {_LISTED} newest are listed; the others are under `{queue.home() / 'jobs'}`.")


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
    if points:
        names = ", ".join(sorted({point["name"] for point in points}))
        page.chart(charts.curves(points, view.style), view.style, f"What the run logged, by epoch: {names}")
    return bool(points)


def _provenance(view: page.View, now: queue.Status, found: dict[str, Any]) -> None:
    came, known = found.get("provenance", {}), view.method(found["method"])
    usual = setting.defaults(known) if known else {}
    facts = [f"Run `{found['run_id']}`", f"setting {formats.settings(found['params'])}", *(str(came[key]) for key in ("machine", "mode") if came.get(key)),
             f"commit {str(came['commit'])[:7]}{'' if came.get('clean') else ', with uncommitted changes'}" if came.get("commit") else ""]
    st.caption(" · ".join(fact for fact in facts if fact))
    st.code(came.get("command") or setting.command({**now.request, "params": found["params"]}, usual), language="bash", wrap_lines=True)
