"""Lab: what happens if I run it myself? Choose, see what it will take, start, watch, and hold the result against the study."""

from importlib.util import find_spec
from typing import Any

import streamlit as st

from engine import queue
from engine.errors import BadInput, LetheError
from engine.store import queries
from pages.ui import estimates, filters, formats, jobs, page, setting, store
from pages.ui.formats import Rows

_LAST_SEED = 9999
NO_TORCH = """Running models needs the engine's libraries, which are not installed here; browsing results does not. To install them:

```bash
make setup                                  # everything, or by hand:
.venv/bin/python -m pip install -r requirements.txt
```
Without a GPU the small CPU build of torch is enough; the README says how to get it. Then restart the app."""


def body(view: page.View) -> None:
    choice = filters.draw("lab", view.studies, view.catalogue, view.looks, everything=True)
    now = _job()
    if now is None:
        page.lead(view.screen.question, "Choose a method and its settings. Before anything starts you see how long it takes and what must be trained first; "
                  "afterwards your model stands beside the study's.")
        results, seeds = _study(choice.study)
        plan, outlook = st.columns([5, 6], gap="large")
        with plan:
            request, alike = _ask(view, choice, results, seeds)
        with outlook:
            if request is not None:
                _before(request, alike)
    else:
        results, seeds = _study(_study_of(view, choice, now.request.get("dataset"), now.request.get("model")))
        page.lead(view.screen.question, jobs.answer(view, now, seeds))
        _follow(view, now, results, seeds)
    jobs.listing(view, now.job_id if now else None)
    if choice.study is not None:
        page.footer(view, choice.study)


def _study(study: str | None) -> tuple[Rows, Rows]:
    """Its results and its single models; no rows where there is no study."""
    return store.rows(queries.results, study=study or ""), store.rows(queries.seed_runs, study=study or "")


def _study_of(view: page.View, choice: filters.Choice, dataset: Any, model: Any) -> str | None:
    """The study to hold a job against: the chosen one where it fits, else the newest on the job's dataset and model."""
    fitting = [row["study"] for row in view.studies if row["dataset"] == dataset and row["model"] == model]
    return choice.study if choice.study in fitting else next(iter(fitting), None)


def _job() -> queue.Status | None:
    """The job that the URL names. An unknown one is said and left aside."""
    wanted = st.query_params.get("job")
    if not wanted:
        return None
    try:
        return queue.status(wanted)
    except BadInput:
        st.warning(f"There is no job `{wanted}` here; it may have been made on another machine.", icon=":material/search_off:")
        return None


def _ask(view: page.View, choice: filters.Choice, results: Rows,
         seeds: Rows) -> tuple[dict[str, Any] | None, list[str] | None]:
    """The form. Returns the request, and how its setting differs from the study's (None where the study has none)."""
    known = {method["name"]: method for method in view.catalogue["methods"] if method["family"] != "reference"}
    if not known:
        st.info("No methods are known yet: the engine publishes them when it runs. `python -m engine methods` is enough.", icon=":material/menu_book:")
        return None, None
    st.subheader("What to run", anchor=False)
    left, right = st.columns([3, 2])
    filters.linked("method", "method@lab", next(iter(known)), lambda text: text if text in known else None)
    name = left.selectbox("Method", list(known), key="method@lab", format_func=lambda n: view.looks[n].label) or next(iter(known))
    filters.write("method", name)
    method = known[name]
    fresh = max((row["seed"] for row in seeds), default=-1) + 1  # the first that is not in the study
    filters.linked("seed", "seed@lab", fresh, lambda text: int(text) if text.isdecimal() and int(text) <= _LAST_SEED else None)
    seed = int(right.number_input("Seed", min_value=0, max_value=_LAST_SEED, key="seed@lab",
                                  help="Initial weights and data order. A seed of the study has its run stored already."))
    filters.write("seed", seed)
    variants = method.get("variants", ["corrected"])
    variant = variants[0]
    if len(variants) > 1:
        variant = st.segmented_control("Variant", variants, default=variant, required=True) or variant
    if variant in method.get("others", {}):
        method = {**method, **method["others"][variant], "name": f"{name}/{variant}"}  # its own parameters, and widgets of its own
    st.caption((method["doc"] or "").partition("\n")[0])
    where = f"{choice.dataset}/{choice.model}"
    theirs, usual = setting.of_study(results, name, variant), setting.defaults(method)
    with st.container(horizontal=True):
        st.button("Use the study's settings", icon=":material/inventory_2:", disabled=theirs is None, on_click=setting.fill, args=(method, where, theirs),
                  help="What the study's models were made with, chosen by its search." if theirs else
                  "No study on this dataset and model has this method yet.")
        st.button("Use the method's defaults", icon=":material/restart_alt:", on_click=setting.fill, args=(method, where, usual))
    params = setting.form(method, where, theirs or usual)
    alike = None if theirs is None else setting.differences(params, theirs)
    request = {"kind": "rerun", "method": name, "variant": variant, "dataset": choice.dataset, "model": choice.model, "seed": seed, "params": params,
               **view.follows(choice.study)}
    st.caption("The same from the command line:")
    st.code(setting.command(request, usual), language="bash", wrap_lines=True)
    return request, alike


def _before(request: dict[str, Any], alike: list[str] | None) -> None:
    """What it will take, said before it starts, and the button that starts it."""
    st.subheader("Before it starts", anchor=False)
    if alike:
        st.caption(f":material/difference: Not the study's setting: {formats.listed(alike)}.")
    elif alike is not None:
        st.caption(":material/check: The study's setting.")
    if find_spec("torch") is None:  # asked for without importing it
        st.warning(NO_TORCH, icon=":material/download:")
        return
    asked = estimates.latest(request, store.stamp())
    waiting = not asked.done()

    @st.fragment(run_every=0.4 if waiting else None)
    def ahead() -> None:
        if not asked.done():
            st.caption("Asking the engine how long this takes …")
            st.skeleton(height=170)
            return
        if waiting:
            st.rerun()  # once, so that this stops asking
        _plan(asked.result if not asked.cancelled() else None, request)

    ahead()


def _plan(answer: Any, request: dict[str, Any]) -> None:
    """The engine's answer: time, what must be trained first, and whether U-LiRA applies; or what is wrong with the request."""
    try:
        plan = answer() if answer is not None else None
    except BadInput as error:
        st.error("**This cannot be run:**\n" + "\n".join(f"- {fault}" for fault in error.faults), icon=":material/rule:")
        return
    except LetheError as error:
        plan = None
        st.warning(f"How long it takes could not be found out: {error}", icon=":material/timer_off:")
    if plan is not None:
        missing = [need for need in plan["needs"] if not need["stored"]]
        takes = "a moment, it is stored already" if plan.get("reused") and not missing else formats.duration(plan["seconds"])
        st.metric("This will take about", takes)
        st.markdown("  \n".join(f":material/{'check' if need['stored'] else 'model_training'}: {need['what']}: "
                                + ("stored" if need["stored"] else f"about {formats.duration(need['seconds'])}") for need in plan["needs"])
                    or "Nothing must be trained first.")
        if plan["u_lira"]:
            st.markdown(":material/target: These are a stored study's settings, so a fresh model is **also scored by U-LiRA** against the stored "
                        "shadow models.")
        else:
            st.markdown(f":material/target: **Only population attacks apply**: {plan.get('u_lira_reason') or 'no stored shadow models have these settings'}.")
    if st.button("Start", type="primary", icon=":material/play_arrow:", key="job-start"):
        try:
            st.query_params["job"] = queue.submit(request)
        except LetheError as error:
            st.error(f"It did not start: {error}", icon=":material/error:")
        else:
            st.rerun()


def _follow(view: page.View, now: queue.Status, results: Rows, seeds: Rows) -> None:
    """The job that is open: live, ended badly, or its result."""
    head, close = st.columns([5, 1], vertical_alignment="center")
    head.subheader(f"{jobs.STATES[now.state][0] if now.ended else ':material/play_circle:'} {jobs.named(view, now.request)}", anchor=False)
    if close.button("Plan another", icon=":material/add:", key="job-close", width="stretch"):
        jobs.opened(None)
        st.rerun()
    if not now.ended:
        jobs.watch(view, now.job_id)
    elif now.state == "done":
        jobs.result(view, now, seeds, results)
    else:
        jobs.ended_badly(view, now)


page.show("lab", body)
