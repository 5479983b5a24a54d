"""Advisor: what should I use? Constraints in, methods out: those that meet them all, by the upper ends of intervals, and those that almost do."""

from collections.abc import Callable, Mapping, Sequence
from math import isfinite
from typing import Any
from urllib.parse import urlencode

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from engine.store import queries
from pages.ui import advisor, candidates, charts, export, filters, formats, nav, page, places, store
from pages.ui.candidates import Candidate, Case, Limits
from pages.ui.places import PARTS
from pages.ui.theme import Style, look

_MARKS = "Shaded: what is allowed. Whiskers: intervals of the cell that counts. Faint: too much. Grey: not known."
# parameter of the URL -> label, default, most, step and format of the widget, its help
_LIMITS: dict[str, tuple[str, float, float, float, str, str]] = {
    "a_time": ("Run time, at most % of retraining's", 50.0, 1000.0, 5.0, "%g", "One model, warmed up. The upper end is the slowest of the repeats."),
    "a_loss": ("Test accuracy lost, at most points", 1.0, 100.0, 0.25, "%g",
               "Below the model retrained with the same seed. The upper end is of the 95 % t-interval over seeds."),
    "a_exposure": ("Exposure, at most this far from ½", 0.02, 0.5, 0.005, "%.3f",
                   "Of the attack's balanced accuracy, to either side. The upper end is of the 95 % interval over splits."),
}


def body(view: page.View) -> None:
    choice = filters.draw("advisor", view.studies, view.catalogue, view.looks)
    cells = places.cells(view.studies, choice.study, choice.variant)
    home = places.home(cells, choice)
    if home is None:
        return page.nothing_here(view, choice)
    names = {cell.study: places.named(cell, view.catalogue).replace(PARTS, ", ") for cell in cells}
    answer = st.container()
    limits, wanted = _asked(names)
    counted = [cell for cell in cells if (not wanted or cell.study in wanted) and (cell.keys or cell.waiting)]
    cases = candidates.cases(counted, names, limits.against)
    reads: dict[str, Sequence[str]] = {method["name"]: method["reads"] for method in view.catalogue["methods"]}
    found = candidates.judged(cases, limits, reads, choice.methods)
    with answer:
        page.lead(view.screen.question, advisor.answer(found, view.looks))
        st.caption(f"Evidence from {places.where([case.name for case in cases])}. A constraint is met where the **upper end** of the interval is "
                   "within it, never where only the mean is; where several cells have evidence, the worst of them counts.")
        page.notices(view, home.study)
    if found:
        _evidence(view, found, cases, limits)
        _lists(view, found)
        _table(view, found, reads, cases, limits)
    st.subheader("Why nothing here is certain", anchor=False)
    st.markdown("\n".join(f"- {text}" for text in advisor.caveats(found, cases, limits)))
    _ways_on(view, found, cases, limits)
    page.footer(view, home.study)


def _asked(names: Mapping[str, str]) -> tuple[Limits, list[str]]:
    """What can be accepted, and which cells count; none chosen is all."""
    splits = {name: name for name in candidates.SPLITS}
    with st.container(border=True):
        numbers = {name: _number(name, column) for name, column in zip(_LIMITS, st.columns(3, gap="medium"), strict=True)}
        first, second, third = st.columns(3, gap="medium")
        filters.linked("a_against", "against@advisor", "u_lira", lambda text: text if text in candidates.AGAINST else None)
        against = first.selectbox("Exposure is measured by", list(candidates.AGAINST), key="against@advisor",
                                  format_func=candidates.AGAINST.__getitem__,
                                  help="U-LiRA: was the example forgotten, or never seen? Against retraining: was the model unlearned, or retrained?")
        filters.write("a_against", against)
        data = _several(second, "a_data", "Data that can still be read", splits, list(splits), "Nothing",
                        "retain: what stays. forget: what is to be forgotten. val: held out, to stop or to choose by.")
        wanted = _several(third, "a_cells", "Evidence from", names, [], "All cells",
                          "A cell is a dataset with an architecture and a share to forget; the worst of them counts.")
    return Limits(numbers["a_time"] / 100, numbers["a_loss"] / 100, numbers["a_exposure"], against, tuple(data)), wanted


def _number(name: str, column: DeltaGenerator) -> float:
    label, default, most, step, form, words = _LIMITS[name]

    def read(text: str) -> float | None:
        try:
            value = float(text)
        except ValueError:
            return None
        return value if isfinite(value) and 0 <= value <= most else None

    key = f"{name}@advisor"
    filters.linked(name, key, default, read)
    value = float(column.number_input(label, 0.0, most, step=step, format=form, key=key, help=words))
    filters.write(name, f"{value:g}")
    return value


def _several(column: DeltaGenerator, name: str, label: str, options: Mapping[str, str], default: list[str], nothing: str,
             words: str) -> list[str]:
    """Some of several; what is no longer on offer is dropped."""
    key = f"{name}@advisor"
    filters.linked(name, key, default, lambda text: [part for part in text.split(",") if part in options])
    st.session_state[key] = [part for part in st.session_state[key] if part in options]
    chosen = column.multiselect(label, list(options), key=key, format_func=options.__getitem__, placeholder=nothing, help=words)
    filters.write(name, chosen)
    return chosen


def _evidence(view: page.View, found: Sequence[Candidate], cases: Sequence[Case], limits: Limits) -> None:
    """The number that decided, for every method and constraint."""
    st.subheader("The evidence that decided", anchor=False)

    def draw(name: str) -> Callable[[Style, int], charts.Spec]:
        heading = advisor.HEADINGS[name]
        return lambda style, width: advisor.figure(found, name, view.looks, style, width=width, heading=heading)

    for name, column in zip(candidates.NUMBERS, st.columns(3, gap="medium"), strict=True):
        with column:
            st.markdown(f"**{advisor.HEADINGS[name]}**")
            spec = draw(name)(view.style, 280)
            told = "; ".join(str(row["about"]) for row in spec["data"]["values"])
            page.chart({part: value for part, value in spec.items() if part != "title"}, view.style, f"{advisor.HEADINGS[name]}. {told}")
    page.legend(page.families(view, [{"method": one.key[0]} for one in found]), _MARKS)

    def build(style: Style, width: float, below: bool) -> charts.Spec:
        return charts.beside([draw(name)(style, round(width)) for name in candidates.NUMBERS], below=below)

    with st.container(horizontal=True):
        export.figure("lethe-advisor", build, panels=len(candidates.NUMBERS), studies=[case.cell.study for case in cases],
                      caption=f"What decides for every method; lower is better. Constraints: {_constraints(limits)} {_MARKS}")


def _lists(view: page.View, found: Sequence[Candidate]) -> None:
    """In words: who meets all, who almost does and what stands against it, of whom too little is known."""
    by = {status: [one for one in found if one.status == status] for status in advisor.VERDICTS}
    left, right = st.columns(2, gap="medium")
    with left:
        st.subheader("They meet every constraint", anchor=False)
        for one in by["meets"]:
            st.markdown(f":material/check_circle: **{_title(view, one)}**: {advisor.shown(one)}.")
        if not by["meets"]:
            st.markdown("None is shown to. Retraining itself always remains, at the price of its time.")
        if by["partly"]:
            st.markdown("**So far, with evidence from some of the cells**")
        for one in by["partly"]:
            st.markdown(f":material/check: **{_title(view, one)}**: {advisor.shown(one)}.")
    with right:
        st.subheader("They almost do", anchor=False)
        for one in by["almost"]:
            st.markdown(f":material/contrast: **{_title(view, one)}**: {advisor.miss(one)}.")
        if not by["almost"]:
            st.markdown("None: what misses a constraint misses two, or one by more than as much again as is allowed.")
        if by["unknown"]:
            st.markdown("**Too little is known**")
        for one in by["unknown"]:
            st.markdown(f":material/help: **{_title(view, one)}**: {advisor.reasons(one)}.")
    st.caption("*Almost*: one constraint is missed, by no more than as much again as is allowed, or by the interval alone, or by the data that is "
               "read. *So far*: met in every cell that has evidence, which are not all.")


def _table(view: page.View, found: Sequence[Candidate], reads: Mapping[str, Sequence[str]], cases: Sequence[Case], limits: Limits) -> None:
    shown = advisor.texts(found, reads, view.looks)
    st.subheader("Every method", anchor=False)
    config: Any = {"Method": st.column_config.TextColumn(pinned=True), "What stands against it": st.column_config.TextColumn(width="large")}
    st.dataframe(shown, hide_index=True, column_config=config, height="content", key="advisor-table",
                 alt="Every method with its verdict, the evidence that decided by constraint, what it reads and what stands against it")
    with st.container(horizontal=True):
        export.table("lethe-advisor", advisor.frame(found), shown, studies=[case.cell.study for case in cases],
                     caption=f"Every method with its verdict, by the upper ends of 95 % intervals. Constraints: {_constraints(limits)}")


def _ways_on(view: page.View, found: Sequence[Candidate], cases: Sequence[Case], limits: Limits) -> None:
    """The answer as a text, and where single examples are looked at."""
    def text() -> str:
        return advisor.report(found, cases, limits, view.looks, [*_sources(view, cases), f"This view: `/advisor?{query}`"])

    query = urlencode([(name, value) for name in st.query_params for value in st.query_params.get_all(name)])
    with st.container(horizontal=True, vertical_alignment="center"):
        st.download_button("Text for a report", data=text, file_name="lethe-advisor.md", mime="text/markdown", on_click="ignore",
                           icon=":material/description:", key="advisor-text", help="Constraints, verdicts, evidence and its limits, as Markdown")
        for name, label in (("privacy", "See who is still exposed"), ("consistency", "See whether it holds elsewhere"), ("lab", "Run one yourself")):
            screen = nav.screen(name)
            st.page_link(screen.script, label=f"**{label}**", icon=screen.icon, query_params=filters.link())


def _sources(view: page.View, cases: Sequence[Case]) -> list[str]:
    """Where the numbers come from, a line a cell."""
    told = []
    for case in cases:
        study, made = view.study(case.cell.study), store.rows(queries.provenance, study=case.cell.study)
        commits = sorted({str(commit)[:7] for kind in made for commit in kind["commits"]})
        machines = sorted({str(machine) for kind in made for machine in kind["machines"]})
        again = f"; made again by `{study['command']}`" if study["command"] else ""
        told.append(f"{case.name}: study “{study['title']}”, {formats.counted(study['done'], 'run')}, newest {study['newest']:%Y-%m-%d}, "
                    f"{formats.counted(len(case.cell.seeds), 'seed')}, commit {formats.listed(commits) or 'unknown'}, on "
                    f"{formats.listed(machines) or 'an unknown machine'}{again}")
    return told


def _constraints(limits: Limits) -> str:
    return f"{'; '.join(advisor.constraints(limits))}."


def _title(view: page.View, one: Candidate) -> str:
    return look(view.looks, one.key[0]).title(one.key[1])


page.show("advisor", body)
