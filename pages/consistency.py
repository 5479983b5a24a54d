"""Consistency: does it hold elsewhere? Ranks and values in every cell, every seed as a point, other shares to forget, other splits."""

from collections.abc import Callable, Mapping, Sequence

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from engine.store import queries
from engine.store.standings import Cell, Key
from pages.ui import across, charts, consistency, export, filters, formats, page, places
from pages.ui.places import PARTS, Place
from pages.ui.theme import Style, look

_ABREAST = 3  # cells that fit into half the page
_FIRST = "retention_deviation"
_ROUND = "consistency-round"
_MARKS = "Small: seeds. Large: their mean with its 95 % interval. Upright ticks: the most that retraining shows there by chance."


def body(view: page.View) -> None:
    choice = filters.draw("consistency", view.studies, view.catalogue, view.looks)
    cells = places.cells(view.studies, choice.study, choice.variant)
    home = places.home(cells, choice)
    if home is None:
        return page.nothing_here(view, choice)
    answer = st.container()
    by, over, follow = st.columns(3, gap="medium")
    metric, chosen = _controls(view, cells, by, over)
    found = places.places(chosen, metric, view.catalogue)
    keys = [key for key in _order(found) if not choice.methods or key[0] in choice.methods]
    with answer:
        page.lead(view.screen.question, consistency.answer(found, metric, view.looks))
        _scope(cells, chosen, found, metric, choice)
        page.notices(view, home.study)
    if keys:
        with follow:
            picked = _followed(view, keys)
        _everywhere(view, found, keys, picked)
        _seeds(view, found, keys, home, picked)
        _sizes(view, cells, home, metric, choice)
        _splits(view, home, metric, choice)
    else:
        st.info(f"None of the chosen methods has {formats.METRICS[metric].label} in these cells yet. Choose another metric, or other cells or "
                "methods.", icon=":material/hourglass_empty:")
    page.footer(view, home.study)


def _controls(view: page.View, cells: Sequence[Cell], by: DeltaGenerator, over: DeltaGenerator) -> tuple[str, list[Cell]]:
    """By which metric, and over which cells; none chosen is all."""
    known = {cell.study: places.named(cell, view.catalogue).replace(PARTS, ", ") for cell in cells}
    filters.linked("c_metric", "metric@consistency", _FIRST, lambda text: text if text in consistency.METRICS else None)
    metric = by.selectbox("Judged by", consistency.METRICS, key="metric@consistency", format_func=lambda name: formats.METRICS[name].axis)
    filters.write("c_metric", metric)
    filters.linked("c_cells", "cells@consistency", [], lambda text: [name for name in text.split(",") if name in known])
    st.session_state["cells@consistency"] = [name for name in st.session_state["cells@consistency"] if name in known]
    wanted = over.multiselect("Cells", list(known), key="cells@consistency", format_func=known.__getitem__, placeholder="All cells")
    filters.write("c_cells", wanted)
    return metric, [cell for cell in cells if not wanted or cell.study in wanted]


def _scope(cells: Sequence[Cell], chosen: Sequence[Cell], found: Sequence[Place], metric: str, choice: filters.Choice) -> None:
    """What a cell is, what its intervals cover, and what they do not."""
    covers = (formats.listed(sorted({cell.varies for cell in chosen})) if metric in queries.SEED_METRICS else
              "repeated timings of one model" if metric == "rte" else "splits, forget sets and initialisations, as the attack sees many of each")
    some = "" if len(chosen) == len(cells) else f" {len(cells) - len(chosen)} of {len(cells)} are left out by choice."
    hidden = " Methods that are not chosen on the left are hidden, but count in ranks." if choice.methods else ""
    sound = sum(not place.doubt for place in found)
    reach = consistency.reach(sound) if sound > 1 else "A second cell comes with a study on other data, another model or another share."
    st.caption(f"A cell is a dataset with an architecture and a share to forget, by its largest study or the one chosen.{some}{hidden} Told "
               f"apart: no shared rank, and 95{formats.THIN}% intervals that do not touch; they cover **{covers}**. "
               f"Settings are each study's own.  \n{reach}")


def _order(found: Sequence[Place]) -> list[Key]:
    """Methods of all places: those in most places first, then by their average place."""
    keys = sorted({entry.key for place in found for entry in place.table.entries})
    stands = {key: [at for place in found for at, entry in enumerate(place.table.entries) if entry.key == key] for key in keys}
    return sorted(keys, key=lambda key: (-len(stands[key]), sum(stands[key]) / len(stands[key]), key))


def _followed(view: page.View, keys: Sequence[Key]) -> Key:
    """The method that is shown in every cell: the one that was clicked or chosen, else the first."""
    names = {"/".join(key): key for key in keys}
    filters.linked("c_method", "method@consistency", next(iter(names)), lambda text: text if text in names else None)
    if st.session_state["method@consistency"] not in names:  # hidden since
        st.session_state["method@consistency"] = next(iter(names))
    chosen = st.selectbox("Follow one method", list(names), key="method@consistency", format_func=lambda name: _titles(view, [names[name]]))
    filters.write("c_method", chosen)
    return names[chosen]


def _everywhere(view: page.View, found: Sequence[Place], keys: Sequence[Key], picked: Key) -> None:
    """Rank and metric of every method in every cell."""
    stacked, ranked = len(found) > _ABREAST, [key for key in keys if found[0].common.of(key)]
    label = formats.METRICS[found[0].table.metric].label
    panels: dict[str, tuple[bool, Sequence[Key]]] = {label: (False, keys)}
    if len(ranked) > 1:
        panels = {"Rank among methods in all cells (1 is best)": (True, ranked), **panels}
    st.subheader("In every cell", anchor=False)
    spots = [st.container() for _ in panels] if stacked or len(panels) == 1 else st.columns(2, gap="medium")
    for (heading, (ranks, shown)), spot in zip(panels.items(), spots, strict=True):
        with spot, st.container(key=f"{'wide' if stacked else 'some'}-{'ranks' if ranks else 'values'}"):
            st.markdown(f"**{heading if ranks else formats.METRICS[found[0].table.metric].axis}**")
            key = f"heat-{ranks}-{st.session_state.get(_ROUND, 0)}"
            spec = across.heat(found, shown, view.looks, view.style, ranks=ranks, picked=picked, width=1000 if stacked else 420)
            page.chart(spec, view.style, f"{heading}. " + " | ".join(row["about"] for row in spec["data"]["values"]), key=key,
                       on_select=lambda key=key: _pick(key, keys), selection_mode=[charts.PICK])
    if len(ranked) < 2:
        st.info("There are no ranks to compare: fewer than two methods are in all of these cells. Leave one out above.", icon=":material/join_inner:")

    def build(style: Style, width: float, below: bool) -> charts.Spec:
        return charts.beside([across.heat(found, shown, view.looks, style, ranks=ranks, width=round(width), heading=heading)
                              for heading, (ranks, shown) in panels.items()], below=below or stacked)

    with st.container(horizontal=True):
        studies, axis = [place.cell.study for place in found], formats.METRICS[found[0].table.metric].axis
        ranking = "its rank among the methods that are in all cells (1 is best), and " if len(panels) > 1 else ""
        export.figure("lethe-consistency-cells", build, panels=1 if stacked else len(panels), studies=studies,
                      caption=f"Of every method in every cell {ranking}{axis}. The stronger the colour the better. Small numbers: 95 % intervals, of "
                      "ranks when seeds are drawn anew.")
        export.table("lethe-consistency-cells", consistency.frame(found), consistency.texts(found, keys, view.looks), studies=studies,
                     caption=f"{axis} of every method in every cell, with 95 % intervals.")
    redrawn = f"; below a rank, 95{formats.THIN}% of the ranks when seeds are drawn anew" if len(ranked) > 1 else ""
    grey = list(dict.fromkeys(doubt for place in found for doubt in place.grey.values()))
    unsettled = f" **Without colour: not settled**, {formats.listed(grey)}." if grey else ""
    st.caption(f"The stronger the colour the better. Small numbers: the 95{formats.THIN}% interval of the mean{redrawn}. Where columns are narrow, "
               f"point at a field for them. Click a field to follow its method below.{unsettled}")
    waiting = [f"{_titles(view, list(place.cell.waiting))} in {place.plain}" for place in found if place.cell.waiting]
    if waiting:
        st.caption(f"Not finished, hence not shown: {formats.listed(waiting)}.")


def _seeds(view: page.View, found: Sequence[Place], keys: Sequence[Key], home: Cell, picked: Key) -> None:
    """Every initialisation as a point: all methods here, and one method everywhere."""
    metric = found[0].table.metric
    here = next((place for place in found if place.cell.study == home.study), None)
    st.subheader("Every seed as a point", anchor=False)
    rows = {place.name: entry for place in found if (entry := place.table.of(picked))}

    def everywhere(style: Style, width: int) -> charts.Spec:
        marks = [across.mark(place, rows[place.name], view.looks, style, place.name) for place in found if place.name in rows]
        return across.dots(marks, list(rows), metric, style, width=width, heading=f"{_titles(view, [picked])}, every cell")

    def all_here(style: Style, width: int) -> charts.Spec:
        assert here is not None
        shown = [entry for entry in here.table.entries if entry.key in keys]
        marks = [across.mark(here, entry, view.looks, style, _titles(view, [entry.key])) for entry in shown]
        return across.dots(marks, [one.row for one in marks], metric, style, width=width, heading=f"{here.plain}, every method")

    left, right = st.columns(2, gap="medium")
    with left:
        st.markdown(f"**Every method** in {places.named(home, view.catalogue).replace(PARTS, ', ')}")
        if here and here.table.entries:
            _draw(view, all_here, here.plain)
        else:
            st.info(f"This cell has no {formats.METRICS[metric].label} yet, or was left out above.", icon=":material/hourglass_empty:")
    with right:
        st.markdown(f"**{_titles(view, [picked])}** in every cell")
        _draw(view, everywhere, _titles(view, [picked]))
    if metric not in queries.SEED_METRICS:
        st.caption("This metric is one estimate from many models, so there are no single seeds to show; its interval is "
                   + ("the range of repeated timings." if metric == "rte" else "over splits."))
    page.legend(page.families(view, [{"method": method} for method, _ in keys]), _MARKS)
    panels = [*([all_here] if here and here.table.entries else []), everywhere]

    def build(style: Style, width: float, below: bool) -> charts.Spec:
        return charts.beside([draw(style, round(width)) for draw in panels], below=below)

    with st.container(horizontal=True):
        export.figure("lethe-consistency-seeds", build, panels=len(panels), studies=[place.cell.study for place in found],
                      caption=f"{formats.METRICS[metric].axis}: every method in one cell, and {_titles(view, [picked])} in every cell. {_MARKS}")


def _sizes(view: page.View, cells: Sequence[Cell], home: Cell, metric: str, choice: filters.Choice) -> None:
    """The same data and model with more or less to forget."""
    st.subheader("With more or less to forget", anchor=False)
    here = [cell for cell in cells if (cell.dataset, cell.model) == (home.dataset, home.model)]
    found = sorted(places.places(here, metric, view.catalogue), key=lambda place: place.cell.forget_share)
    if len(found) < 2:
        there = f" so far: {100 * found[0].cell.forget_share:g}{formats.THIN}%" if found else ""
        st.info(f"{view.named(home.dataset, home.model)} has {'one share' if found else 'no share'} to forget with this metric{there}. A study with "
                "`forget_share` under `data` makes another.", icon=":material/data_usage:")
        return
    groups = {place.cell.study: f"{100 * place.cell.forget_share:g}{formats.THIN}% forgotten" for place in found}
    keys = [key for key in _order(found) if sum(place.table.of(key) is not None for place in found) > 1
            and (not choice.methods or key[0] in choice.methods)]
    _compared(view, found, groups, keys, metric, consistency.sizes(found, metric, keys, view.looks), "sizes")
    same = [key for key in keys if all(key in places.alike(found[0].cell, place.cell) for place in found[1:])]
    st.caption(f"Each share has its own study: {len(same)} of {formats.counted(len(keys), 'method')} run with the same setting in all. "
               "Retraining differs between shares too, as do its ticks.")


def _splits(view: page.View, home: Cell, metric: str, choice: filters.Choice) -> None:
    """Seeds on one split against seeds that each have their own."""
    st.subheader("With other splits, not only other seeds", anchor=False)
    pair = places.other_seeds(view.studies, home, choice.variant)
    found = places.places(pair, metric, view.catalogue) if pair else []
    if len(found) < 2:
        st.info(("Only one of the two kinds of study has this metric here." if pair else
                 "There is no study here whose seeds differ in the other way, so it is not known how far the split matters. "
                 "A study with `seeds: {vary: split}` gives each seed a split and a forget set of its own."), icon=":material/call_split:")
        return
    keys = [key for key in places.alike(found[0].cell, found[1].cell) if not choice.methods or key[0] in choice.methods]
    keys = [key for key in _order(found) if key in keys and all(place.table.of(key) for place in found)]
    if not keys:
        st.info("The studies with one split and with many have no method with the same setting in common.", icon=":material/call_split:")
        return
    groups = {found[0].cell.study: "one split, other seeds", found[1].cell.study: "other splits and seeds"}
    _compared(view, found, groups, keys, metric, consistency.over_splits(found[0], found[1], keys, view.looks), "splits")
    left_out = len(set(found[0].cell.keys) | set(found[1].cell.keys)) - len(keys)
    st.caption("Methods with the same setting in both studies"
               + (f"; {formats.counted(left_out, 'other is', 'others are')} left out." if left_out else ".")
               + " An interval over seeds on one split says nothing of other splits.")


def _compared(view: page.View, found: Sequence[Place], groups: Mapping[str, str], keys: Sequence[Key], metric: str, answer: str, name: str) -> None:
    """Methods with one mark for each of several studies, below the answer."""
    st.markdown(answer)
    if not keys:
        return

    def draw(style: Style, width: int) -> charts.Spec:
        marks = [across.mark(place, entry, view.looks, style, _titles(view, [key]), groups[place.cell.study])
                 for key in keys for place in found if (entry := place.table.of(key))]
        return across.dots(marks, [_titles(view, [key]) for key in keys], metric, style, groups=list(groups.values()), width=width)

    _draw(view, draw, answer, width=1000)
    with st.container(horizontal=True):
        caption, studies = f"{formats.METRICS[metric].axis}: {formats.listed(list(groups.values()))}.", [place.cell.study for place in found]
        export.figure(f"lethe-consistency-{name}", lambda style, width, below: draw(style, round(width)), panels=1, studies=studies,
                      caption=f"{caption} {_MARKS}")
        export.table(f"lethe-consistency-{name}", consistency.frame(found), consistency.texts(found, keys, view.looks, groups), studies=studies,
                     caption=f"{caption} Means with 95 % intervals.")


def _draw(view: page.View, draw: Callable[[Style, int], charts.Spec], about: str, width: int = 420) -> None:
    spec = draw(view.style, width)
    page.chart({name: part for name, part in spec.items() if name != "title"}, view.style,
               f"{about}. " + " | ".join(row["about"] for row in spec["data"]["values"]))


def _pick(key: str, keys: Sequence[Key]) -> None:
    """Follow the method whose field was clicked."""
    points = st.session_state[key]["selection"].get(charts.PICK, [])
    wanted = points[0].get("key") if points else None
    if wanted in {"/".join(key) for key in keys}:
        st.query_params["c_method"] = wanted
    st.session_state[_ROUND] = st.session_state.get(_ROUND, 0) + 1


def _titles(view: page.View, keys: Sequence[Key]) -> str:
    return formats.listed([look(view.looks, method).title(variant) for method, variant in keys])


page.show("consistency", body)
