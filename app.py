"""Overview: what does the evidence say? Three goals, three rankings, each with its answer in words."""

import pandas as pd
import streamlit as st

from engine.store import queries
from pages.ui import charts, export, filters, findings, formats, nav, page, store, trust
from pages.ui.formats import Rows
from pages.ui.theme import Style, look

GOALS = (("Privacy", "balanced_accuracy", "mia_test", findings.privacy),
         ("Accuracy", "test_retention", None, findings.accuracy),
         ("Speed", "rte", None, findings.speed))
_ELSEWHERE = 6
_MARKS = ("Filled: mean with its 95 % interval. Hollow, under Privacy: the cheap population attack on the same methods. Shaded: the interval of "
          "retrained models themselves. Each list is in its own order, best on top.")


def body(view: page.View) -> None:
    choice = filters.draw("overview", view.studies, view.catalogue, view.looks)
    if choice.study is None:
        return page.nothing_here(view, choice)
    rows = choice.of(store.rows(queries.results, study=choice.study))
    believed = trust.of(choice.study)
    page.lead(view.screen.question, findings.overview(rows, view.looks) + believed.caveat())
    st.caption(f"{view.named(choice.dataset, choice.model)}. Each method had to make a trained classifier forget some of its training examples. "
               "The ideal is retraining without them (the line in each figure), which takes long. Then an attacker tries to tell what was forgotten.")
    page.notices(view, choice.study)
    for (goal, metric, beside, say), column in zip(GOALS, st.columns(3, gap="medium"), strict=True):
        with column:
            st.subheader(goal, anchor=False)
            with st.container(key=f"say-{goal.lower()}"):
                st.markdown(believed.told(say(rows, view.looks), metric))
            if charts.points(rows, view.looks, metric, metric):
                spec = charts.ranking(rows, believed.looks(view.looks, rows, view.style, metric), view.style, metric, beside=beside)
                page.chart(spec, view.style, described(rows, view, goal, metric))
            else:
                st.info("Nothing measured yet.", icon=":material/hourglass_empty:")
    page.legend(page.families(view, rows), _MARKS)
    _ways_on(view, rows, believed, choice)
    reading, health = st.columns(2, gap="medium")
    with reading:
        _how_to_read()
    with health:
        st.subheader("Can the attack be believed?", anchor=False)
        trust.health(believed)
    _other_studies(view, choice)
    page.footer(view, choice.study)


def described(rows: Rows, view: page.View, goal: str, metric: str) -> str:
    """The ranking in words: every method with its value."""
    told = [f"{look(view.looks, row['method']).title(row['variant'])} {charts.told(row, metric)}" for row in rows if not pd.isna(row[metric])]
    return f"{goal}: {formats.METRICS[metric].axis}. " + "; ".join(told)


def _ways_on(view: page.View, rows: Rows, believed: trust.Trust, choice: filters.Choice) -> None:
    """Where to go from here, and the figure as a file."""
    there = [goal for goal in GOALS if charts.points(rows, view.looks, goal[1], goal[1])]

    def build(style: Style, width: float, below: bool) -> charts.Spec:
        return charts.beside([charts.ranking(rows, believed.looks(view.looks, rows, style, metric), style, metric, beside=beside, width=round(width),
                                             heading=goal) for goal, metric, beside, _ in there], below=below)

    with st.container(horizontal=True, vertical_alignment="center"):
        for name, label in (("compare", "**Compare the trade-offs**"), ("privacy", "**See who is exposed**"), ("lab", "**Run one yourself**")):
            st.page_link(nav.screen(name).script, label=label, icon=nav.screen(name).icon, query_params=filters.link())
        st.space("stretch")
        if there:
            export.figure(f"lethe-overview-{choice.dataset}-{choice.model}", build, panels=len(there), studies=[choice.study or ""],
                          caption=f"Every method by {formats.listed([formats.METRICS[metric].axis for _, metric, *_ in there])}. {_MARKS} "
                          "Line: retraining without the forgotten examples.")


def _how_to_read() -> None:
    st.subheader("How to read this", anchor=False)
    st.markdown("""
- **Privacy** is judged by U-LiRA: for every example it compares many models that forgot it with many that never saw it. ½ means the attack can
  only guess; retrained models define what is achievable. A model that forgets *too much* gives the example away as well.
- **The population attack** draws one line for all examples and looks at one model. It is cheap, and it misses what U-LiRA sees.
- **Two sets of models**: U-LiRA's are trained on random halves of the training data, so that every example was forgotten in some and never
  seen in others. The population attack, accuracy and speed are measured on models of the whole training set, one for each seed.
- **Accuracy** is test accuracy as a share of what retraining with the same seed reaches. **Speed** is measured alone, one model, warmed up.
- Where intervals overlap, the page says *too close to tell*, and so should you.""")


def _other_studies(view: page.View, choice: filters.Choice) -> None:
    """One line for every other study: its own answer, and a way there."""
    newest = {row["name"]: row for row in reversed(view.studies) if row["dataset"] and row["done"]}  # of a study that was changed
    others = [row for row in view.studies if newest.get(row["name"]) is row and row["name"] != view.study(choice.study or "")["name"]]
    if not others:
        return
    st.subheader("Elsewhere", anchor=False)
    for row in others[:_ELSEWHERE]:
        with st.container(border=True):
            st.markdown(f"**{row['title']}** · {formats.counted(row['done'], 'run')}, {formats.ago(row['newest'])}  \n"
                        + findings.overview(store.rows(queries.results, study=row["study"]), view.looks) + trust.of(row["study"]).caveat())
            st.page_link("app.py", label="Show it here", icon=":material/arrow_forward:",
                         query_params={"dataset": row["dataset"], "model": row["model"], "study": row["study"]})
    if len(others) > _ELSEWHERE:
        st.caption(f"{formats.counted(len(others) - _ELSEWHERE, 'older study', 'older studies')} left out here; choose dataset and model on the left.")


page.show("overview", body)
