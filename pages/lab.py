"""Lab: what happens if I run it myself? Choose, see what it will take, start, watch, and hold the result against the study."""

from importlib.util import find_spec
from typing import Any

import streamlit as st

from engine import queue
from engine.errors import BadInput, LetheError
from engine.store import queries
from pages.ui import abreast, estimates, filters, formats, jobs, page, setting, store, sweep
from pages.ui.formats import Rows

_LAST_SEED = 9999
NO_TORCH = """Running models needs the engine's libraries, which are not installed here; browsing results does not. To install them:

```bash
make setup                                  # everything, or by hand:
.venv/bin/python -m pip install -r requirements.txt
```
Without a GPU the small CPU build of torch is enough; the README says how to get it. Then restart the app."""


def body(view: page.View) -> None:
    _cloned(view)
    choice = filters.draw("lab", view.studies, view.catalogue, view.looks, everything=True)
    now, several = _job(), _several(view, choice)
    if now is None and several:
        page.lead(view.screen.question, abreast.answer(view, several))
        _head("Side by side")
        abreast.draw(view, several)
    elif now is None:
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
    jobs.listing(view, now.job_id if now else None, tuple(run.job_id for run in several))
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
    """The job that the URL names."""
    wanted = st.query_params.get("job")
    return jobs.found_at(wanted) if wanted else None


def _several(view: page.View, choice: filters.Choice) -> list[abreast.Beside]:
    """The finished runs that the URL names, each with the study to hold it against; those that cannot stand in a table are said and left aside."""
    made: list[abreast.Beside] = []
    for job_id in dict.fromkeys(filter(None, st.query_params.get("jobs", "").split(","))):
        now = jobs.found_at(job_id)
        found = queue.result(job_id) if now else None
        if found and "sweep" not in found:
            made.append(abreast.Beside(job_id, found, _study(_study_of(view, choice, found["dataset"], found["model"]))[0]))
        elif now:
            st.warning(f"{jobs.named(view, now.request)} is not a finished single run, so it is left out.", icon=":material/view_column:")
    return made[:abreast.MOST]


def _cloned(view: page.View) -> None:
    """Fill the form with what the job asked for that the URL names; once, so that it can be changed then. Before any widget is drawn."""
    wanted = st.query_params.get("clone")
    if not wanted or st.session_state.get("cloned") == wanted:
        return
    st.session_state["cloned"] = wanted
    now = jobs.found_at(wanted)
    request = now.request if now else {}
    known = view.method(request.get("method", ""))
    if known is None:
        if now:
            st.warning(f"The method of {jobs.named(view, request)} is not known now; is its plug-in there?", icon=":material/extension_off:")
        return
    place = {name: request[name] for name in ("dataset", "model")}
    study = next((row["study"] for row in view.studies if row["name"] == request.get("study") and place.items() <= row.items()), None)
    device = request.get("device") or ("auto" if len(estimates.devices()) > 1 else None)
    for name, value in {**place, "study": study, "method": known["name"], "seed": str(request["seed"]), "device": device}.items():
        if value:
            st.query_params[name] = value
        else:
            st.query_params.pop(name, None)
    if request["variant"] in known.get("variants", []):
        st.session_state[_variant_key(known["name"])] = request["variant"]
    method = setting.declared(known, request["variant"])
    setting.fill(method, "/".join(place.values()), request["params"])
    sweep.fill(method, request.get("sweep"))


def _variant_key(method: str) -> str:
    return f"variant-of-{method}"


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
        st.session_state.setdefault(_variant_key(name), variant)
        variant = st.segmented_control("Variant", variants, required=True, key=_variant_key(name)) or variant
    method = setting.declared(method, variant)
    st.caption((method["doc"] or "").partition("\n")[0])
    where = f"{choice.dataset}/{choice.model}"
    theirs, usual = setting.of_study(results, name, variant), setting.defaults(method)
    with st.container(horizontal=True):
        st.button("Use the study's settings", icon=":material/inventory_2:", disabled=theirs is None, on_click=setting.fill, args=(method, where, theirs),
                  help="What the study's models were made with, chosen by its search." if theirs else
                  "No study on this dataset and model has this method yet.")
        st.button("Use the method's defaults", icon=":material/restart_alt:", on_click=setting.fill, args=(method, where, usual))
    varied = sweep.varied(method)
    params = setting.form(method, where, theirs or usual, without=varied)
    swept = sweep.form(method)
    alike = None if theirs is None else setting.differences(params, theirs)
    request = {"kind": "rerun", "method": name, "variant": variant, "dataset": choice.dataset, "model": choice.model, "seed": seed, "params": params,
               **view.follows(choice.study), **({"sweep": swept} if swept else {}), **_device()}
    st.caption("The same from the command line:")
    st.code(setting.command(request, usual), language="bash", wrap_lines=True)
    return request, alike


def _device() -> dict[str, str]:
    """Where it is computed, which is a question only where there is more than one place."""
    if len(estimates.devices()) < 2:
        return {}
    names = {"auto": "Default", "cpu": "CPU", "cuda": "GPU"}
    filters.linked("device", "device@lab", "auto", lambda text: text if text in names else None)
    device = st.segmented_control("Runs on", list(names), required=True, key="device@lab", format_func=names.__getitem__,
                                  help="Results of one device are not those of another: they differ by rounding, and are stored apart") or "auto"
    filters.write("device", device)
    return {"device": device} if device != "auto" else {}


def _before(request: dict[str, Any], alike: list[str] | None) -> None:
    """What it will take, said before it starts, and the button that starts it."""
    st.subheader("Before it starts", anchor=False)
    if alike:
        st.caption(f":material/difference: Not the study's setting: {formats.listed(alike)}.")
    elif alike is not None:
        st.caption(":material/check: The study's setting." if "sweep" not in request else ":material/check: All others as in the study's setting.")
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
        takes = "a moment" if plan.get("reused") and not missing else formats.duration(plan["seconds"])
        st.metric("This will take about", takes)
        if "sweep" in plan:
            values = formats.listed([formats.plain(value) for value in plan["sweep"]["values"]])
            st.markdown(f":material/tune: **{formats.counted(len(plan['sweep']['values']), 'run')}**, with {plan['sweep']['name']} at {values}. "
                        "They start from the same original model; run time is not measured, image passes are counted.")
        st.markdown("  \n".join(f":material/{'check' if need['stored'] else 'model_training'}: {need['what']}: "
                                + ("stored" if need["stored"] else f"about {formats.duration(need['seconds'])}") for need in plan["needs"])
                    or "Nothing must be trained first.")
        if plan.get("device") == "cuda":
            st.markdown(":material/memory: Runs on the **GPU**.")
        if plan["u_lira"] and "sweep" in plan:
            st.markdown(":material/target: One of the values has a stored study's settings, so a fresh model of it is **also scored by U-LiRA**.")
        elif plan["u_lira"]:
            st.markdown(":material/target: These are a stored study's settings, so a fresh model is **also scored by U-LiRA** against the stored "
                        "shadow models.")
        else:
            st.markdown(f":material/target: **Only population attacks apply**: {plan.get('u_lira_reason') or 'no stored shadow models have these settings'}.")
    if st.button("Start", type="primary", icon=":material/play_arrow:", key="job-start"):
        try:
            jobs.opened(queue.submit(request))
        except LetheError as error:
            st.error(f"It did not start: {error}", icon=":material/error:")
        else:
            st.rerun()


def _head(text: str) -> None:
    """What is shown in the form's place, and a way back to the form."""
    head, close = st.columns([5, 1], vertical_alignment="center")
    head.subheader(text, anchor=False)
    close.button("Plan another", icon=":material/add:", key="job-close", width="stretch", on_click=jobs.opened)


def _follow(view: page.View, now: queue.Status, results: Rows, seeds: Rows) -> None:
    """The job that is open: live, ended badly, or its result."""
    _head(f"{jobs.STATES[now.state][0] if now.ended else ':material/play_circle:'} {jobs.named(view, now.request)}")
    if not now.ended:
        jobs.watch(view, now.job_id)
    elif now.state == "done":
        jobs.result(view, now, seeds, results)
    else:
        jobs.ended_badly(view, now)


page.show("lab", body)
