"""What every page is made of: each script is one call of `show`, with a function that draws its body.

This is the one place that knows what to do when the results cannot be read, so no page ever shows a traceback for them.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import pandas as pd
import streamlit as st

from engine.errors import LetheError, StoreError
from engine.store import queries
from pages.ui import bundle, captions, charts, export, filters, findings, formats, glossary, nav, store, trust
from pages.ui.formats import Row, Rows
from pages.ui.theme import DARK, FAMILIES, LIGHT, Look, Style, look, looks

_CSS = """<style>
[data-testid="stMainBlockContainer"] {padding-top: 2.75rem; padding-bottom: 3rem; max-width: 1280px}
@media (max-width: 768px) {[data-testid="stMainBlockContainer"] {padding-top: 4rem}}
[data-testid="stSidebarUserContent"] {padding-top: 0.5rem}
[data-testid="stSidebarHeader"] {height: 2.25rem; margin-bottom: 0}
.lethe-brand {font-size: 1.4rem; font-weight: 700; letter-spacing: -0.01em; line-height: 1.3}
.lethe-motto, .lethe-group {font-size: 0.85rem; opacity: 0.72}
.lethe-legend {font-size: 0.85rem; opacity: 0.8; line-height: 1.6}
.lethe-hue {margin-right: 1em; white-space: nowrap}
.lethe-hue i {display: inline-block; width: 0.65em; height: 0.65em; border-radius: 50%; margin-right: 0.35em}
.lethe-group {padding: 0.75rem 0 0.1rem 0.5rem}
.st-key-glossary-open button {padding: 0.25rem 0.5rem; min-height: 0}
@media (min-width: 769px) {[class*="st-key-say-"] p {min-height: 6.2em}}
[data-testid="stSelectbox"] input, [data-testid="stNumberInput"] input {text-overflow: ellipsis}
[data-testid="stButtonGroup"] [role="radiogroup"] {flex-wrap: wrap; row-gap: 0.25rem}
[data-testid="stBaseButton-primary"] *, [data-testid="stMultiSelect"] [data-tag] * {color: var(--lethe-page)}
[class*="st-key-wide-"] {overflow-x: auto}
[class*="st-key-wide-"] > * {min-width: 50rem}
.lethe-example {display: flex; gap: 1rem; align-items: center; min-height: 96px}
.lethe-example img {width: 96px; image-rendering: pixelated; border-radius: 0.3rem}
.st-key-lead p {font-size: 1.075rem; line-height: 1.55; max-width: 62rem}
.st-key-foot {border-top: 1px solid rgba(128, 140, 160, 0.28); margin-top: 1rem; padding-top: 0.75rem}
[data-testid="stHeading"] h1 {padding-top: 0}
</style>"""


_NAMED = 2  # commits and machines, of which there may be many


@dataclass(frozen=True)
class View:
    """What a page draws from. studies: rows of `queries.studies`. catalogue: what exists. style: of charts, for the theme."""

    screen: nav.Screen
    studies: Rows
    catalogue: dict[str, Any]
    looks: dict[str, Look]
    style: Style

    def method(self, name: str) -> dict[str, Any] | None:
        return next((method for method in self.catalogue["methods"] if method["name"] == name), None)

    def study(self, study: str) -> Row:
        return next(row for row in self.studies if row["study"] == study)

    def follows(self, study: str | None) -> dict[str, str]:
        """What a request says of the study that it follows: its name, where others are on the same data and model."""
        rows = [row for row in self.studies if row["study"] == study]
        alike = {row["name"] for row in self.studies for mine in rows if (row["dataset"], row["model"]) == (mine["dataset"], mine["model"])}
        return {"study": str(rows[0]["name"])} if len(alike) > 1 else {}

    def named(self, dataset: str, model: str) -> str:
        return f"{filters.label(dataset, self.catalogue['datasets'])}, {filters.label(model, self.catalogue['models'])}"


def show(name: str, body: Callable[[View], None]) -> None:
    """Set the page up and draw its body; where results cannot be read, say so in its place."""
    screen = nav.screen(name)
    st.set_page_config(page_title=f"{screen.label} · Lethe", page_icon="💧", layout="wide")
    style = DARK if st.context.theme.type == "dark" else LIGHT
    st.html(f"<style>:root {{--lethe-page: {style.page}}}</style>{_CSS}")
    filters.say_again(name)
    filters.current(name)  # so that the links to other pages carry it
    export.begin()
    _navigation()
    try:
        catalogue = store.catalogue()
        glossary.answer(catalogue)
        body(View(screen, store.rows(queries.studies), catalogue, looks(catalogue["methods"]), style))
        bundle.offer(screen)
    except StoreError as error:
        _broken(screen, error)
    except LetheError as error:
        for fault in str(error).splitlines():
            st.error(fault, icon=":material/error:")


def lead(question: str, answer: str) -> None:
    """The question as title and its answer in a sentence or two."""
    st.title(question, anchor=False)
    with st.container(key="lead"):
        st.markdown(answer)


def chart(spec: charts.Spec, style: Style, alt: str, **more: Any) -> Any:
    """Put a chart on the page, as wide as its place. alt: what it shows, for those who do not see it."""
    room = 4 * style.text  # Streamlit fits axes into the height, our sizes are of the panel alone
    fitted = {**spec, "height": spec["height"] + room, "padding": {"left": 2, "top": 4, "right": 14, "bottom": 4}}
    if all("data" in layer for layer in spec["layer"]):
        del fitted["data"]  # the browser gives Vega the data of the whole by name, and Vega knows no name that no layer uses
    return st.vega_lite_chart(charts.dressed(fitted, style), theme=None, width="stretch", alt=alt, **more)


def families(view: View, rows: Rows) -> list[str]:
    """Families of the methods that are shown, in the order of the palette."""
    there = {look(view.looks, row["method"]).family for row in rows}
    return [family for family in FAMILIES if family in there]


def legend(families: Iterable[str], note: str) -> None:
    """The hues on the page in words, and a note on the rest. Markers need no legend: names stand beside them."""
    hues = "".join(f'<span class="lethe-hue"><i style="background:{FAMILIES[family][1]}"></i>{FAMILIES[family][0]}</span>' for family in families)
    st.html(f'<div class="lethe-legend">{hues}<span>{note}</span></div>')


def nothing_here(view: View, choice: filters.Choice) -> None:
    """Empty state: no study for this dataset and model."""
    lead(view.screen.question, f"There are no results for {view.named(choice.dataset, choice.model)} yet, so there is nothing to say.")
    with st.container(border=True):
        st.markdown("**How results get here.** A study computes every method with many seeds and attacks it; it can be stopped and "
                    "continued at any time, and this page fills as its runs finish.")
        st.code("make study                                   # the embedded study on digits, on this machine\n"
                "python -m engine study run FILE.yaml         # your own\n"
                "python -m engine ingest DIR                  # runs that another machine computed", language="bash")
        other = [f"**{row['title']}**" for row in view.studies if row["dataset"]]
        if other:
            st.markdown(f"What is there: {formats.listed(other)} (choose the dataset on the left).")
        lab = nav.screen("lab")
        st.page_link(lab.script, label="Or run a single method in the Lab", icon=lab.icon, query_params=filters.link())


def notices(view: View, study: str) -> None:
    """Partial, failed and stale: what is not as it should be with this study, said once, above the figure."""
    row = view.study(study)
    if row["done"] + row["diverged"] < row["planned"]:
        left = f"**Partial.** {formats.number(row['done'], 'count')} of {formats.counted(row['planned'], 'run')} are done; what follows is computed from those."
        st.info(f"{left} `{row['command']}` continues where it stopped." if row["command"] else left, icon=":material/hourglass_top:")
    if row["failed"]:
        failed = store.ask(queries.failures, study=study)
        methods = formats.listed([look(view.looks, name).label for name in failed["method"].dropna().unique()])
        what = "diverged" if (failed["status"] == "diverged").all() else "failed"
        with st.expander(f"{formats.counted(len(failed), 'run')} of {methods} {what}; nothing of that is in the numbers below", icon=":material/error:"):
            st.dataframe(failed[["method", "kind", "seed", "split", "status", "error", "attempts", "run_id", "command"]], hide_index=True,
                         alt="Runs that failed, with their error and the command that repeats them")
    old = _older_methods(view, study)
    if old:
        st.warning(f"**Stale.** {formats.listed(old)} changed since these rows were computed: they show what an older version did. "
                   f"`{row['command']}` computes them again.", icon=":material/history:")
    trust.notices(trust.of(study))
    for sentence in findings.worse_than_original(store.rows(queries.results, study=study), view.looks):
        st.info(sentence, icon=":material/south_east:")


def footer(view: View, study: str) -> None:
    """Where the numbers on the page come from, how sure they are and how to make them again."""
    made = captions.origin(view.study(study))
    facts = [
        f"Study “{made.title}”",
        f"{formats.counted(made.runs, 'run')}, {formats.counted(made.models, 'model')}",
        *made.size,
        f"computed {formats.ago(made.newest)}" if made.newest is not None else "",
        made.calibration,
        f"on {captions.few(made.machines, _NAMED)}" if made.machines else "",
        made.source(_NAMED),
    ]
    with st.container(key="foot"):
        st.caption(" · ".join(fact for fact in facts if fact))
        if made.command:
            st.caption(f"Make it again: `{made.command}`")


def _navigation() -> None:
    with st.sidebar, st.container(gap="xxsmall"):
        st.html('<div class="lethe-brand">Lethe</div><div class="lethe-motto">Did the model really forget?</div>')
        for group in dict.fromkeys(page.group for page in nav.PAGES):
            st.html(f'<div class="lethe-group">{group}</div>')
            for page in nav.PAGES:
                if page.group == group:
                    st.page_link(page.script, label=page.label, icon=page.icon, width="stretch", query_params=filters.link())
        st.button("Glossary", icon=":material/menu_book:", type="tertiary", on_click=glossary.ask, key="glossary-open")
    st.sidebar.divider()


def _older_methods(view: View, study: str) -> list[str]:
    """Labels of methods whose version was raised since their rows were computed."""
    now = {method["name"]: method.get("version") or 0 for method in view.catalogue["methods"]}
    return [look(view.looks, row["method"]).label for row in store.rows(queries.method_versions, study=study)
            if row["method"] in now and not pd.isna(row["version"]) and row["version"] < now[row["method"]]]


def _broken(screen: nav.Screen, error: StoreError) -> None:
    lead(screen.question, "The results cannot be read, so this page has nothing to show. Nothing was changed or lost by looking.")
    for fault in str(error).splitlines():
        st.error(fault, icon=":material/database_off:")
    with st.expander("What can be done", expanded=True):
        st.markdown("- `python -m engine doctor` checks every file and says what it found.\n"
                    "- `git checkout data/results.duckdb` brings the shipped results back.\n"
                    "- `python -m engine ingest` builds the file of your own runs again from their folders; those are the truth and were not touched.\n"
                    "- A file written by a newer version needs a newer Lethe: `git pull`, then `make setup`.")
        if st.button("Look again", icon=":material/refresh:"):
            st.rerun()
