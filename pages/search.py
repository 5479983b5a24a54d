"""Search: how were settings found, and are they fragile? Every trial of every search, what was chosen, and what else it might have been."""

from collections.abc import Callable, Hashable, Sequence
from typing import Any

import streamlit as st

from engine.store import queries, searches
from engine.store.searches import Search, Summary
from pages.ui import charts, export, filters, formats, page, store, trials, tuning
from pages.ui.theme import Look, Style, look

_ABREAST = 3  # figures of single parameters
_ROUND = "search-round"
_COURSE = ("Line: the best complete trial so far. Filled: ran on all splits. Hollow: stopped early and scored on fewer splits, hence by chance too high "
           "or too low. Cross: diverged. Ringed: chosen.")
_PARALLEL = "One line a trial. Strong: the best quarter of those that ran on all splits. Grey: stopped early; dashed: diverged. Black or white: chosen."
_TRADE = "Line: the front, trials that no other beats in both. Accuracies: the mean of three."


def body(view: page.View) -> None:
    choice = filters.draw("search", view.studies, view.catalogue, view.looks)
    if choice.study is None:
        return page.nothing_here(view, choice)
    rows, waiting = _found(view, choice)
    page.lead(view.screen.question, tuning.answer(rows, waiting, view.looks))
    if rows:
        st.caption(f"{view.named(choice.dataset, choice.model)}.  \n{tuning.how(rows)}")
    page.notices(view, choice.study)
    if rows:
        _chosen(view, rows, choice)
        _closer(view, rows, choice)
    elif waiting:
        st.info("The trials of a search are stored when it ends, all at once; this page fills then.", icon=":material/hourglass_empty:")
    else:
        st.info("Choose a study with a search on the left, or add `search: {kind: racing}` to a study file and leave the parameters of a method "
                "open.", icon=":material/tune:")
    page.footer(view, choice.study)


def _found(view: page.View, choice: filters.Choice) -> tuple[list[Summary], list[Search]]:
    """Of the chosen methods: what each finished search found, the nearest to retraining first; and the searches that are not finished."""
    assert choice.study is not None
    known = {method["name"]: method["params"] for method in view.catalogue["methods"]}
    declared = {name: ({param["name"]: param["default"] for param in params}, [param["name"] for param in params if param["log"]])
                for name, params in known.items()}
    found = _summaries(choice.study, store.stamp(), declared)
    mine = [found[row["run_id"]] for row in choice.of([{"method": search.method, "variant": search.variant, "run_id": run_id}
                                                       for run_id, (search, _) in found.items()])]
    done = [summary for _, summary in mine if summary is not None]
    return sorted(done, key=lambda row: row.score.value), [search for search, summary in mine if summary is None]


@st.cache_resource(max_entries=8, show_spinner=False)
def _summaries(study: str, stamp: Hashable, declared: dict[str, tuple[dict[str, Any], list[str]]]) -> dict[str, tuple[Search, Summary | None]]:
    """By run_id of the search. Judging all trials again takes a third of a second for 18 methods, hence once for all who look."""
    found = searches.found(*(store.rows(question, study=study) for question in (queries.searches, queries.all_trials, queries.tuning_twins)))
    return {search.run_id: (search, searches.summary(search, *declared.get(search.method, ({}, [])))) for search in found}


def _chosen(view: page.View, rows: Sequence[Summary], choice: filters.Choice) -> None:
    """Every method's choice: one figure for each kind of search, as their scores differ, and the table."""
    st.subheader("What was chosen, and how sure that is", anchor=False)
    kinds = {kind: [row for row in rows if row.search.kind == kind] for kind in dict.fromkeys(row.search.kind for row in rows)}
    for kind, mine in kinds.items():
        key = f"chosen-{kind}-{st.session_state.get(_ROUND, 0)}"
        spec = trials.chosen(mine, view.looks, view.style, width=900)
        page.chart(spec, view.style, f"Scores of the chosen settings, {trials.KINDS[kind].axis}. "
                   + "; ".join(p["about"] for p in spec["data"]["values"]), key=key, on_select=lambda key=key: _pick_method(key),
                   selection_mode=[charts.PICK])
    marks = ("Filled: the chosen setting, on fresh splits where it was run on them, with its 95 % interval over splits. Hollow: the same in the "
             "search. Cross: the declared defaults, as far as they were run."
             + (" Line and shade: a second retrained model on the splits of the search, with its interval."
                if any(row.search.twin and row.fresh for row in rows) else ""))
    page.legend(page.families(view, [{"method": row.search.method} for row in rows]), marks)

    def build(style: Style, width: float, below: bool) -> charts.Spec:
        return charts.beside([trials.chosen(mine, view.looks, style, width=round(width)) for mine in kinds.values()], below=True)

    shown = tuning.table(rows, view.looks)
    name = f"lethe-search-{choice.dataset}-{choice.model}"
    with st.container(horizontal=True):
        export.figure(name, build, panels=1, studies=[choice.study or ""],
                      caption=f"What each search chose: {formats.listed([trials.KINDS[kind].axis for kind in kinds])}. {marks}")
        export.table(name, tuning.full(rows), tuning.texts(shown), studies=[choice.study or ""],
                     caption="Every search: its trials, the chosen setting, and how far others are from it, paired by split, with 95 % intervals.")
    keys, key = ["/".join(row.search.key) for row in rows], f"methods-{st.session_state.get(_ROUND, 0)}"
    st.dataframe(shown, hide_index=True, height="content", key=key, placeholder=formats.MISSING, selection_mode="single-row",
                 on_select=lambda: _pick_row(key, keys), alt="Every method with its trials, its chosen setting, and how far the others are from that",
                 column_config={"Method": st.column_config.TextColumn(pinned=True),
                                **{name: st.column_config.Column(help=words, alignment="right" if name in tuning.NUMBERS else None)
                                   for name, words in tuning.HELP.items()}})
    st.caption("Differences are paired by split, with 95 % intervals (jackknife over splits, rough as a score holds its worst split). \\*: defaults "
               "that lie outside the range were drawn. Choose a point or a row to look at its search below.")


def _closer(view: page.View, rows: Sequence[Summary], choice: filters.Choice) -> None:
    """One search in detail."""
    names = {"/".join(row.search.key): row for row in rows}
    first = next(iter(names))
    filters.linked("of", "of@search", first, lambda text: text if text in names else None)
    if st.session_state["of@search"] not in names:  # the study may be another now
        st.session_state["of@search"] = first
    st.subheader("One search in detail", anchor=False)
    of = st.selectbox("Method", list(names), key="of@search", on_change=lambda: _pick(None), label_visibility="collapsed",
                      format_func=lambda name: look(view.looks, names[name].search.method).title(names[name].search.variant)) or first
    filters.write("of", of)
    found, known = names[of], look(view.looks, names[of].search.method)
    st.markdown("\n".join(f"- {line}" for line in tuning.why(found)))
    picked = _picked(found.search)
    if picked is not None:
        with st.container(horizontal=True, vertical_alignment="center", key="picked-trial"):
            st.markdown(f":blue[**Looked at: {trials.told(found.search, found.search.trials[picked])}**]")
            st.button("Clear", on_click=_pick, args=(None,), key="clear-trial", type="tertiary", icon=":material/close:")
    name = f"lethe-search-{choice.dataset}-{choice.model}-{found.search.method}"
    studies = [choice.study or ""]
    _course(view, found, known, picked, name, studies)
    _parameters(view, found, known, picked, name, studies)
    _fragile(view, found, known, picked, name, studies)
    _table(found, known, name, studies)


def _course(view: page.View, found: Summary, known: Look, picked: int | None, name: str, studies: Sequence[str]) -> None:
    """How the search went, and what was compared in the end."""
    search = found.search
    left, right = st.columns(2, gap="medium")
    with left:
        st.subheader("As it went", anchor=False)
        _clickable(view, trials.progress(search, view.style, known.colour, picked=picked), "progress", "Every trial in the order of the search. "
                   + "; ".join(trials.told(search, trial) for trial in search.trials))
        st.caption(_COURSE + (" Dashed: a new round." if search.rounds else ""))
    with right:
        st.subheader("Compared in the end", anchor=False)
        if found.runners:
            spec = trials.runners(found, view.style, known.colour)
            page.chart(spec, view.style, "; ".join(str(p["about"]) for p in spec["data"]["values"]))
            st.caption("The best trials of the other seeds: other models, so no intervals." if search.kind == "deep_unlearn" else
                       f"Paired, on the {'fresh splits' if found.fresh else 'splits of the search'}; these chose it, so they flatter it. An interval "
                       "that reaches 0: cannot be told from the chosen one.")
        else:
            st.info("There was nothing to compare it with: no other trial ended.", icon=":material/info:")

    def build(style: Style, width: float, below: bool) -> charts.Spec:
        panels = [trials.progress(search, style, known.colour, size=(round(width), round(0.7 * width)))]
        panels += [trials.runners(found, style, known.colour, width=round(width))] if found.runners else []
        return charts.beside(panels, below=below)

    with st.container(horizontal=True):
        export.figure(f"{name}-course", build, panels=2 if found.runners else 1, studies=studies,
                      caption=f"The search for {known.title(search.variant)} as it went: {trials.kind(search).axis}. {_COURSE}"
                      + (" Beside it the best trials, against the chosen one." if found.runners else ""))


def _parameters(view: page.View, found: Summary, known: Look, picked: int | None, name: str, studies: Sequence[str]) -> None:
    """All parameters at once, what each decides, and the score against each."""
    search, space = found.search, found.axes
    st.subheader("All parameters at once", anchor=False)
    if not space:
        st.info("No parameter differs between the trials.", icon=":material/info:")
        return
    with st.container(key="wide-parallel"):
        _clickable(view, trials.parallel(search, space, view.style, known.colour, picked=picked), "parallel",
                   "Parallel coordinates, one line a trial: its parameters, and its score at the right. " + trials.told(search, found.chosen))
    st.caption(f"{_PARALLEL} Click a dot to follow its trial through all figures."
               + (f" Not searched: {formats.settings(search.fixed)}." if search.fixed else ""))
    shares, chance = searches.importance(search, space)
    order = [one.name for one in shares] or [axis.name for axis in space]
    ranked = sorted(space, key=lambda axis: order.index(axis.name))
    share = {one.name: formats.number(one.share, "share") for one in shares}
    with st.container(horizontal=True):
        export.figure(f"{name}-parallel", lambda style, width, below: trials.parallel(
            search, space, style, known.colour, size=(round(width), round(min(0.5 * width, 200)))), panels=1, studies=studies,
                      caption=f"Every trial of {known.title(search.variant)}, its parameters and at the right its score: "
                      f"{trials.kind(search).axis}. {_PARALLEL}")
    if shares:
        st.subheader("Which parameters matter", anchor=False)
        spec = trials.importance(shares, chance, view.style, width=900)
        page.chart(spec, view.style, f"Share of the ranks that each parameter accounts for; chance reaches {formats.number(chance, 'share')}. "
                   + "; ".join(p["about"] for p in spec["data"]["values"]))
        st.caption(f"From {formats.counted(len(search.trials), 'trial')}: how much of the variance of their ranks a parabola in the parameter's "
                   "ranks explains, each parameter by itself; diverged trials rank last. Shaded: what the strongest of them reaches in 19 of 20 "
                   "shuffles."
                   + ("" if search.kind == "grid" else " The search draws parameters together as it learns, so this is a hint and no test."))
        with st.container(horizontal=True):
            export.figure(f"{name}-importance", lambda style, width, below: trials.importance(shares, chance, style, width=round(width)), panels=1,
                          studies=studies, caption=f"Share of the variance of the ranks of {formats.counted(len(search.trials), 'trial')} of "
                          f"{known.title(search.variant)} that each parameter explains by itself; larger: it matters more. Shaded: what the strongest "
                          "reaches in 19 of 20 shuffles.")
    st.subheader("Score against each parameter", anchor=False)
    for start in range(0, len(ranked), _ABREAST):
        for axis, place in zip(ranked[start:start + _ABREAST], st.columns(_ABREAST, gap="medium"), strict=False):
            with place:
                st.markdown(f"**{axis.name}**" + (f" accounts for {share[axis.name]}" if share else ""))
                _clickable(view, trials.against(search, axis, view.style, known.colour, picked=picked), f"against-{axis.name}",
                           f"Score of every trial against {axis.name}; chosen: {formats.plain(found.chosen.params[axis.name])}")

    def build(style: Style, width: float, below: bool) -> charts.Spec:
        panels = [trials.against(search, axis, style, known.colour, size=(round(width), round(0.7 * width)), heading=axis.name) for axis in ranked]
        abreast = 1 if below else _ABREAST
        return charts.beside([charts.beside(panels[start:start + abreast]) for start in range(0, len(panels), abreast)], below=True)

    with st.container(horizontal=True):
        export.figure(f"{name}-parameters", build, panels=min(_ABREAST, len(ranked)), studies=studies,
                      caption=f"Every trial of {known.title(search.variant)} against each parameter: {trials.kind(search).axis}. Ringed: chosen.")


def _fragile(view: page.View, found: Summary, known: Look, picked: int | None, name: str, studies: Sequence[str]) -> None:
    """What lies around the chosen setting, and what was traded."""
    drawn: dict[str, Callable[[Style, tuple[int, int], int | None], charts.Spec | None]] = {
        "around": lambda style, size, number: trials.around(found, style, known.colour, picked=number, size=size) if found.axes else None,
        "trade": lambda style, size, number: trials.trade(found.search, style, known.colour, picked=number, size=size)}
    left, right = st.columns(2, gap="medium")
    specs = {what: draw(view.style, (420, 280), picked) for what, draw in drawn.items()}
    with left:
        if specs["around"]:
            st.subheader("Around the chosen setting", anchor=False)
            _clickable(view, specs["around"], "around", "How much worse other settings are, by their distance from the chosen one. "
                       + "; ".join(tuning.why(found)))
            st.caption("Paired with the chosen one on the splits that both ran on: these chose it, so they flatter it. Distance: root mean square "
                       "over the searched parameters. Where points close to the left are high, the choice is fragile.")
    with right:
        if specs["trade"]:
            st.subheader("Accuracy against the attack", anchor=False)
            _clickable(view, specs["trade"], "trade", "Accuracies away from retraining against the attack, of the trials that ended, with the front.")
            st.caption(f"{_TRADE} " + ("One model a trial: no intervals." if found.search.kind == "deep_unlearn" else
                          "Whiskers: 95 % t-intervals of the chosen one, over splits."))

    def build(style: Style, width: float, below: bool) -> charts.Spec:
        size = (round(width), round(0.7 * width))
        return charts.beside([spec for draw in drawn.values() if (spec := draw(style, size, None))], below=below)

    if any(specs.values()):
        with st.container(horizontal=True):
            export.figure(f"{name}-around", build, panels=sum(spec is not None for spec in specs.values()), studies=studies,
                          caption=f"Trials of {known.title(found.search.variant)}."
                          + (" How much worse than the chosen setting others are, by their distance from it, paired by split." if specs["around"] else "")
                          + (f" Accuracies away from retraining against the attack, lower is better. {_TRADE}" if specs["trade"] else ""))


def _table(found: Summary, known: Look, name: str, studies: Sequence[str]) -> None:
    """Every trial, and the command that makes the search again."""
    st.subheader("Every trial", anchor=False)
    shown = tuning.trial_table(found.search)
    key = f"trials-{found.search.method}-{st.session_state.get(_ROUND, 0)}"
    st.dataframe(shown, hide_index=True, key=key, placeholder=formats.MISSING, selection_mode="single-row", height=320,
                 on_select=lambda: _pick_trial_row(key, shown["Trial"].tolist()), alt="Every trial with its status, its scores and its setting",
                 column_config={column: st.column_config.NumberColumn(format="%.4g") for column in shown.select_dtypes("float").columns})
    with st.container(horizontal=True):
        export.table(f"{name}-trials", shown, tuning.texts(shown), label="Export trials", studies=studies,
                     caption=f"Every trial of {known.title(found.search.variant)}, with its status, scores and setting: {trials.kind(found.search).axis}.")
    if found.search.command:
        st.caption(f"Made by `{found.search.command}`, run `{found.search.run_id}`.")


def _clickable(view: page.View, spec: charts.Spec, what: str, alt: str) -> None:
    """A chart of trials: a click looks at one in all of them."""
    key = f"{what}-{st.session_state.get(_ROUND, 0)}"
    page.chart(spec, view.style, alt, key=key, on_select=lambda: _pick_trial(key), selection_mode=[charts.PICK])


def _picked(search: Search) -> int | None:
    text = st.query_params.get("trial", "")
    return int(text) if text.isdecimal() and int(text) < len(search.trials) else None


def _pick(trial: int | None) -> None:
    """Look at a trial, or at none, and draw everything anew so that all figures show it."""
    if trial is None:
        st.query_params.pop("trial", None)
    else:
        st.query_params["trial"] = str(trial)
    st.session_state[_ROUND] = st.session_state.get(_ROUND, 0) + 1


def _pick_trial(key: str) -> None:
    points = st.session_state[key]["selection"].get(charts.PICK, [])
    _pick(int(points[0]["trial"]) if points else None)


def _pick_trial_row(key: str, numbers: Sequence[int]) -> None:
    rows = st.session_state[key]["selection"]["rows"]
    _pick(numbers[rows[0]] if rows else None)


def _pick_method(key: str) -> None:
    points = st.session_state[key]["selection"].get(charts.PICK, [])
    if points:
        st.query_params["of"] = points[0]["key"]
    _pick(None)


def _pick_row(key: str, keys: Sequence[str]) -> None:
    rows = st.session_state[key]["selection"]["rows"]
    if rows:
        st.query_params["of"] = keys[rows[0]]
    _pick(None)


page.show("search", body)
