"""Leaderboard: which methods are good, consistently? Groups against retraining's own noise in every cell, and ranks by one's own weights."""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import asdict, replace

import pandas as pd
import streamlit as st

from engine.errors import BadInput
from engine.store import queries, ranks, standings
from engine.store.ranks import Comparison, Overall
from engine.store.standings import Cell, Key, Table
from pages.ui import charts, export, filters, findings, formats, page, places, store, table, trust
from pages.ui.theme import Style, look

_WEIGHT, _HEAVIEST = 1, 5
_ABREAST = 3  # cells that fit into half the page
_MARKS = "Small: seeds. Large: their mean with its 95 % t-interval. Shaded: what retraining shows by chance; the line is retraining itself."
_RANKS = "Ranks of the means, averaged over cells; cells are the blocks of Friedman's test, seeds never are."
_WORDS = {"balanced_accuracy": "U-LiRA", "indiscernibility": "Indiscernibility", "retention_deviation": "Retention Deviation", "rte": "speed-up"}


def body(view: page.View) -> None:
    choice = filters.draw("leaderboard", view.studies, view.catalogue, view.looks)
    cells = places.cells(view.studies, choice.study, choice.variant)
    rows, compared = _standings(tuple(cell.study for cell in cells), choice.variant, store.stamp(), cells)
    here = places.home(cells, choice)
    if here is None:
        return page.nothing_here(view, choice)
    doubts = {cell.study: doubt for cell in cells if (believed := trust.of(cell.study)).attacked and (doubt := believed.doubt())}
    page.lead(view.screen.question, findings.leaderboard(cells, rows, view.looks, doubts))
    _scope(view, cells, choice)
    page.notices(view, here.study)
    shown = [row for row in rows if not choice.methods or row.method in choice.methods]
    if not shown:
        st.info("None of the chosen methods is finished. Choose others on the left.", icon=":material/hourglass_empty:")
        return page.footer(view, here.study)
    _across(view, cells, shown)
    _overall(view, cells, shown, doubts)
    _differences(view, cells, compared)
    _cell(view, here, {row.key for row in shown})
    page.footer(view, here.study)


@st.cache_resource(max_entries=8, show_spinner=False)
def _standings(studies: tuple[str, ...], variant: str, stamp: Hashable, _cells: Sequence[Cell]) -> tuple[list[Overall], list[Comparison]]:
    """What the methods of these cells amount to over all of them, and the comparison by each metric."""
    return ranks.overall(_cells), [ranks.compared(_cells, metric) for metric in standings.JUDGED]


def _scope(view: page.View, cells: Sequence[Cell], choice: filters.Choice) -> None:
    """What is compared, and what its intervals do not cover."""
    models = {dataset: [" ".join([filters.label(cell.model, view.catalogue["models"]), *_share(cell)]) for cell in cells if cell.dataset == dataset]
              for dataset in dict.fromkeys(cell.dataset for cell in cells)}
    names = "; ".join(f"{filters.label(dataset, view.catalogue['datasets'])} with {formats.listed(found)}" for dataset, found in models.items())
    variants = " All variants, each as a method of its own." if choice.variant == filters.ALL_VARIANTS else f" Variant: {choice.variant}."
    hidden = " Methods that are not chosen on the left are hidden, but count in ranks and tests." if choice.methods else ""
    st.caption(f"{formats.counted(len(cells), 'cell')}: {names}. Each is a dataset with an architecture and a share to forget, by its largest "
               f"study or the one chosen."
               f"{variants}{hidden}  \nIntervals and tests cover **{formats.listed(sorted({cell.varies for cell in cells}))}**.")


def _overall(view: page.View, cells: Sequence[Cell], rows: Sequence[Overall], doubts: Mapping[str, str]) -> None:
    """Ranks by goal and the score that the visitor's weights give. doubts: study -> why its attack is in doubt."""
    st.subheader("Overall, by your weights", anchor=False)
    weights: dict[str, float] = {}
    for goal, column in zip(ranks.GOALS, st.columns(3, gap="medium"), strict=True):
        name, key = f"w_{goal}", f"w_{goal}@leaderboard"
        filters.linked(name, key, _WEIGHT, lambda text: int(text) if text.isdecimal() and int(text) <= _HEAVIEST else None)
        weights[goal] = column.slider(goal.capitalize(), 0, _HEAVIEST, key=key, help=f"How much {goal} counts. By {_measured(cells, goal)}.")
        filters.write(name, int(weights[goal]))
    try:
        scored = ranks.scored(rows, weights)
    except BadInput:
        st.info("Give a goal that was measured a weight above 0.", icon=":material/balance:")
        scored = [(row, float("nan")) for row in rows]
    shown = table.overall(scored, view.looks)
    doubted = [cell for cell in cells if cell.study in doubts and _judged_by(cells, cell, "privacy") == "balanced_accuracy"]
    st.dataframe(table.overall_styled(shown) if doubted else shown, hide_index=True, column_config=table.overall_configured(), height="content",
                 placeholder=formats.MISSING, key="overall",
                 alt="Every method with its overall score, its average rank in each goal, and in how many cells it is within retraining noise")
    with st.container(horizontal=True):
        export.table("lethe-leaderboard", _full(scored), table.overall_texts(shown), studies=[cell.study for cell in cells],
                     caption=f"Every method over {formats.counted(len(cells), 'cell')}: average ranks by goal, and their mean weighted with "
                     f"{formats.listed([f'{goal} {weight:g}' for goal, weight in weights.items()])}; 1 is best.")
    lacking = [row.key for row in rows if all(pd.isna(rank) for rank in row.ranks.values())]
    goals = "; ".join(f"{goal} by {_measured(cells, goal)}" for goal in ranks.GOALS)
    st.caption("**Score**: the mean of the three ranks, weighted as above; 1 is best. This score is ours, no paper's. Ranks are averaged over "
               f"cells ({goals}); methods that cannot be told apart in a cell share a rank there. "
               + (f"Not in every cell, hence without ranks: {_titles(view, lacking)}. " if lacking else "")
               + "".join(f"**Grey: not settled**, in {_named(view, cell).replace(' · ', ', ')} {doubts[cell.study]}. " for cell in doubted)
               + "**Consistently good**: within retraining noise in both metrics in at least 80 % of its cells, and faster than retraining in all.")


def _across(view: page.View, cells: Sequence[Cell], rows: Sequence[Overall]) -> None:
    """Every method in every cell, by both metrics; architectures of a dataset stand side by side."""
    st.subheader("In every cell", anchor=False)
    order = [row.key for row in sorted(rows, key=lambda row: (not row.consistent, -row.within / row.cells, _last_if_none(row.ranks["accuracy"])))]
    tables = {metric: {_named(view, cell): cell.table(metric) for cell in cells} for metric in standings.JUDGED}
    stacked = len(cells) > _ABREAST
    for metric, place in zip(standings.JUDGED, [st.container() for _ in tables] if stacked else st.columns(2, gap="medium"), strict=True):
        with place:
            st.markdown(f"**{formats.METRICS[metric].label}**")
            told = [f"{name.replace(' · ', ', ')}: {charts.stood(entry, metric, view.looks)}" for name, found in tables[metric].items()
                    for entry in found.entries if entry.key in order]
            if any(entry.group for found in tables[metric].values() for entry in found.entries):
                spec = charts.grid(tables[metric], order, view.looks, view.style, width=1000 if stacked else 420)
                page.chart(spec, view.style, " | ".join(told))
            else:
                notes = [found.note for found in tables[metric].values() if found.note]
                st.info(" ".join(["No groups yet.", *notes[:1]]), icon=":material/hourglass_empty:")

    def build(style: Style, width: float, below: bool) -> charts.Spec:
        return charts.beside([charts.grid(tables[metric], order, view.looks, style, width=round(width), heading=formats.METRICS[metric].label)
                              for metric in standings.JUDGED], below=below or stacked)

    with st.container(horizontal=True):
        export.figure("lethe-leaderboard-cells", build, panels=1 if stacked else 2, studies=[cell.study for cell in cells],
                      caption=f"Group and rank (1 is best) of every method in every cell, by "
                      f"{formats.listed([formats.METRICS[metric].axis for metric in standings.JUDGED])}. "
                      + "; ".join(f"{group}: {words}" for group, words in formats.GROUPS.items()) + ".")
    st.caption("Group, and rank in the cell. " + "; ".join(f"**{group}** {words}" for group, words in formats.GROUPS.items())
               + ". *Within noise* means not found to differ from retraining, not equal to it.")


def _differences(view: page.View, cells: Sequence[Cell], compared: Sequence[Comparison]) -> None:
    """Critical-difference diagrams, or why there are none."""
    st.subheader("Can methods be told apart across cells?", anchor=False)
    there = [(found, found.across) for found in compared if found.across is not None]
    for reason in dict.fromkeys(found.reason for found in compared if found.reason):
        lacking = [formats.METRICS[found.metric].label for found in compared if found.reason == reason]
        st.info(f"No critical-difference diagram for {formats.listed(lacking)}. {reason}", icon=":material/straighten:")
    if not there:
        return
    for (found, across), column in zip(there, st.columns(2, gap="medium"), strict=False):
        with column:
            words = "ranks differ between methods" if across.p <= 0.05 else "ranks do not differ more than chance would have them"
            p = "< 0.001" if across.p < 0.001 else f"= {across.p:.3f}"
            st.markdown(f"**{formats.METRICS[found.metric].label}**: {words} (Friedman {across.statistic:.1f}, p {p}).")
            told = sorted((rank, _titles(view, [key])) for rank, key in zip(across.average.tolist(), found.keys, strict=True))
            page.chart(charts.critical(found, view.looks, view.style), view.style, "; ".join(f"{name} {rank:.2f}" for rank, name in told))

    def build(style: Style, width: float, below: bool) -> charts.Spec:
        return charts.beside([charts.critical(found, view.looks, style, width=round(width), heading=formats.METRICS[found.metric].label)
                              for found, _ in there], below=below)

    with st.container(horizontal=True):
        export.figure("lethe-leaderboard-critical", build, panels=len(there), studies=[cell.study for cell in cells],
                      caption=f"Average ranks (1 is best) by {formats.listed([formats.METRICS[found.metric].axis for found, _ in there])}. {_RANKS} "
                      "Bars join methods that Nemenyi's critical difference (level 0.05) does not tell apart.")
    st.caption(f"{_RANKS} Bars join methods whose ranks are "
               "nearer than Nemenyi's critical difference (level 0.05). A method that failed has the last rank of that cell.")


def _cell(view: page.View, cell: Cell, shown: set[Key]) -> None:
    """One cell in detail: seeds, means, intervals and tests."""
    st.subheader(" ".join([f"In detail: {view.named(cell.dataset, cell.model)}", *_share(cell)]), anchor=False)
    tables = {metric: _of(cell.table(metric), shown) for metric in standings.JUDGED}
    drawn = {metric: found for metric, found in tables.items() if found.entries}
    if not drawn:
        st.info("None of the chosen methods is finished in this cell. Choose others, or another dataset or model, on the left.",
                icon=":material/hourglass_empty:")
        return
    for (metric, found), column in zip(drawn.items(), st.columns(2, gap="medium"), strict=False):
        with column:
            st.markdown(f"**{formats.METRICS[metric].label}**, {formats.counted(found.seeds, 'seed')}")
            told = " | ".join(charts.stood(entry, metric, view.looks) for entry in found.entries)
            page.chart(charts.standing(found, view.looks, view.style), view.style, told)
            if found.note:
                st.caption(found.note)
    page.legend(page.families(view, [{"method": method} for method, _ in cell.keys]), _MARKS)
    for tab, found in zip(st.tabs([formats.METRICS[metric].label for metric in drawn], key="standing"), drawn.values(), strict=True):
        with tab:
            st.dataframe(table.standing(found, view.looks), hide_index=True, column_config=table.standing_configured(found), height="content",
                         placeholder=formats.MISSING, key=f"standing-{found.metric}",
                         alt=f"Rank, group, mean, interval and seeds of every method by {formats.METRICS[found.metric].label}")

    def build(style: Style, width: float, below: bool) -> charts.Spec:
        return charts.beside([charts.standing(found, view.looks, style, width=round(width), heading=formats.METRICS[metric].label)
                              for metric, found in drawn.items()], below=below)

    with st.container(horizontal=True):
        export.figure(f"lethe-leaderboard-{cell.dataset}-{cell.model}", build, panels=len(drawn), studies=[cell.study],
                      caption=f"Every method by {formats.listed([formats.METRICS[metric].axis for metric in drawn])}. {_MARKS}")
        for metric, found in drawn.items():
            export.table(f"lethe-leaderboard-{cell.dataset}-{cell.model}-{metric.replace('_', '-')}",
                         pd.DataFrame([{"dataset": cell.dataset, "model": cell.model, "metric": metric, **asdict(entry)} for entry in found.entries]),
                         table.standing_texts(found, view.looks), label=f"Table: {formats.METRICS[metric].label}", studies=[cell.study],
                         caption=f"Every method by {formats.METRICS[metric].axis}: rank, group, mean with its 95 % interval over "
                         f"{formats.counted(found.seeds, 'seed')}, and the one-sided paired test against retraining's noise, adjusted by Holm.")
    alive = [f"{_titles(view, [key])} {formats.number(share, 'share')}" for key in cell.keys
             if key in shown and not pd.isna(share := cell.mean(key, "live_share"))]
    if alive:
        st.caption(f"Of the weights that a method selects, these can influence an output at this image size: {formats.listed(alive)}.")
    failed = [f"{_titles(view, [key])} ({why})" for key, why in cell.failed.items() if key in shown]
    waiting = [f"{_titles(view, [key])} ({have} of {formats.counted(len(cell.seeds), 'seed')})" for key, have in cell.waiting.items()]
    for words, who in (("Failed", failed), ("Not finished, hence not ranked", waiting)):
        if who:
            st.caption(f"{words}: {formats.listed(who)}.")
    _how(cell)


def _how(cell: Cell) -> None:
    with st.expander("How ranks and groups come about", icon=":material/functions:"):
        st.markdown(f"""
- **G1, within retraining noise**: the mean is at most the 95th percentile of what retraining shows, and a paired one-sided test over seeds (Holm over
  methods) does not find it worse. For Retention Deviation the noise is that of retrained models held against each other, in random pairings in which
  nobody meets itself; for Indiscernibility it is the retrained models' own values. Those pairs differ in initial weights, while a method and its
  retrained model share them, which makes the band wide; where sharing them makes no difference it is a little narrow, and another set of retrained
  models would be within it about three times out of four.
- **G2, close**: not G1, but at most half as far from retraining as the original. **G3, far**: the rest. **F, failed**: a seed without numbers,
  or less than half of retraining's test accuracy. The groups are this project's own; the study names such groups and publishes no rule.
- **Tests** are exact: all sign flips up to 12 seeds, Wilcoxon's signed ranks beyond. With {len(cell.seeds)} seeds a difference that is not found may
  still be there: *Worse than noise by* says how large it may be.
- **Ranks**: the best mean, and all that paired tests with Holm cannot separate from it, share the average of their places; then the best of the
  others, and so on. Failed methods share the last.
- **Intervals** are Student's over seeds: bootstrap intervals of about ten values are too narrow. They cover {cell.varies}.""")


def _of(found: Table, shown: set[Key]) -> Table:
    return replace(found, entries=tuple(entry for entry in found.entries if entry.key in shown))


def _full(scored: Sequence[tuple[Overall, float]]) -> pd.DataFrame:
    def flat(row: Overall, score: float) -> Mapping[str, object]:
        plain = {name: value for name, value in asdict(row).items() if name != "ranks"}
        return {**plain, "score": score, **{f"{goal}_rank": rank for goal, rank in row.ranks.items()}}

    return pd.DataFrame([flat(row, score) for row, score in scored])


def _judged_by(cells: Sequence[Cell], cell: Cell, goal: str) -> str | None:
    return ranks.goal_metric(cell, goal, ranks.common(cells))


def _measured(cells: Sequence[Cell], goal: str) -> str:
    """By which metric a goal is judged, and in how many cells where that differs."""
    found = [_judged_by(cells, cell, goal) for cell in cells]
    kinds = [metric for metric in ranks.GOALS[goal] if metric in found]
    if not kinds:
        return f"{_WORDS[ranks.GOALS[goal][0]]}, not measured yet"
    words = [_WORDS[metric] + (f" in {formats.counted(found.count(metric), 'cell')}" if found.count(metric) < len(cells) else "") for metric in kinds]
    return formats.listed(words)


def _last_if_none(rank: float) -> float:
    return float("inf") if pd.isna(rank) else rank


def _named(view: page.View, cell: Cell) -> str:
    """Parts that go below each other over a column."""
    return " · ".join((filters.label(cell.dataset, view.catalogue["datasets"]), *filters.label(cell.model, view.catalogue["models"]).split(", "),
                       *(words.strip("()") for words in _share(cell))))


def _share(cell: Cell) -> list[str]:
    """How much is forgotten, where that is not the usual tenth."""
    return [] if cell.forget_share == queries.FORGET_SHARE else [f"({100 * cell.forget_share:g} % forgotten)"]


def _titles(view: page.View, keys: Sequence[Key]) -> str:
    return formats.listed([look(view.looks, method).title(variant) for method, variant in keys])


page.show("leaderboard", body)
