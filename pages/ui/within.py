"""The last part of Inside: one method class by class and example by example."""

from collections.abc import Callable

import streamlit as st

from engine.store import insides
from pages.ui import charts, classes, embedding, export, filters, inside, page, store
from pages.ui.formats import Row
from pages.ui.inside import Evidence
from pages.ui.theme import Style, look


def draw(view: page.View, found: Evidence, who: str | None, choice: filters.Choice) -> None:
    """One method class by class and example by example: the one that is followed, else the first."""
    st.subheader("Class by class, example by example", anchor=False)
    row = next((row for row in found.methods if f"{row['method']}/{row['variant']}" == who), found.methods[0])
    views: dict[str, Callable[[page.View, Evidence, Row, filters.Choice], bool]] = {"Classes": _classes, "Confusions": _confusions, "Embedding": _embedding}
    shown = _one_of("within", "View", list(views))
    if not views[shown](view, found, row, choice):
        _not_recorded(view, found, row, choice)
    elif not who:
        st.caption(f"Shown: {found.title(row)}. Follow another method above to see it here.")


def _one_of(name: str, title: str, options: list[str], label: Callable[[str], str] = str) -> str:
    """A choice of this page alone, in its address; the first where it says nothing."""
    filters.linked(name, f"{name}@inside", options[0], lambda text: text if text in options else None)
    if st.session_state[f"{name}@inside"] not in options:
        st.session_state[f"{name}@inside"] = options[0]
    chosen = st.segmented_control(title, options, key=f"{name}@inside", required=True, label_visibility="collapsed", format_func=label) or options[0]
    filters.write(name, chosen)
    return chosen


def _not_recorded(view: page.View, found: Evidence, row: Row, choice: filters.Choice) -> None:
    command = str(view.study(choice.study or "")["command"] or "").removesuffix(" --fresh")
    again = f" `LETHE_HOME=DIR {command} --fresh`, DIR a new folder, computes them again and records it." if command else ""
    st.info(f"Not recorded for these models ({found.title(row)}): they were measured before this was.{again}", icon=":material/history:")


def _classes(view: page.View, found: Evidence, row: Row, choice: filters.Choice) -> bool:
    """Accuracy class by class; False where nothing of it is recorded."""
    of = _one_of("set", "Set", list(classes.SETS), lambda name: classes.SETS[name].capitalize())
    rows, names = store.rows(insides.class_accuracies, study=choice.study, of=of), _class_names(view, choice)
    method, variant = row["method"], row["variant"]
    mine = classes.of_method(rows, method, variant)
    if not mine:
        return False
    labels = classes.shown(mine)
    st.markdown(classes.worst(rows, found.title(row), method, variant, of, names))
    spec = classes.by_class(rows, view.looks, view.style, labels, names, method=method, variant=variant, width=900)
    page.chart(spec, view.style, classes.about(rows, view.looks, names, labels, method, variant))
    marks = (f"Filled: {found.title(row)}. Hollow: retrained (circles) and original (diamonds). Whiskers: 95 % t-intervals over seeds. The class that is "
             "named was picked on one half of the seeds; the number is of the other.")
    part = f" {len(labels)} of {len(mine)} classes: those furthest from retrained. The table has all." if len(labels) < len(mine) else ""
    st.caption(marks + part)
    name = f"lethe-inside-{choice.dataset}-{choice.model}-classes-{of}"
    with st.container(horizontal=True):
        export.figure(name, lambda style, width, below: classes.by_class(rows, view.looks, style, labels, names, method=method, variant=variant,
                                                                         width=round(width)),
                      panels=1, studies=[choice.study or ""], caption=f"Accuracy class by class, {classes.SETS[of]} set. {marks}{part}")
        chosen = choice.of(rows)
        export.table(name, classes.full(chosen, names), classes.accuracies(chosen, view.looks, names), studies=[choice.study or ""],
                     caption=f"Accuracy class by class, {classes.SETS[of]} set, means with 95 % intervals over seeds.")
    return True


def _confusions(view: page.View, found: Evidence, row: Row, choice: filters.Choice) -> bool:
    """What is taken for what more or less often than by retrained models; False where nothing of it is recorded."""
    of = _one_of("set", "Set", list(classes.SETS), lambda name: classes.SETS[name].capitalize())
    rows = store.rows(insides.confusion_change, study=choice.study, of=of, method=row["method"], variant=row["variant"])
    if not rows:
        return False
    names, labels = _class_names(view, choice), classes.furthest(rows)
    st.markdown(classes.grew(rows, found.title(row), of, names))
    spec = classes.square(rows, view.style, labels, names, width=900)
    page.chart(spec, view.style, "; ".join(cell["about"] for cell in spec["data"]["values"] if cell["text"]) or "No confusion changed for certain")
    total = len({int(one[end]) for one in rows for end in ("label", "predicted")})
    part = f" {len(labels)} of {total} classes: those whose confusions changed most. The table has all." if len(labels) < total else ""
    marks = (f"Share of each true class that {found.title(row)} takes for a class, minus that of the retrained model of the same seed, mean over seeds, in "
             "points. Orange and +: more often; blue and −: less; the stronger, the more. A number stands where the 95 % t-interval does not hold 0 (with "
             "one seed everywhere), not adjusted for how many there are. The confusion that is named was picked on one half of the seeds; the number is "
             "of the other.")
    st.caption(marks + part)
    name = f"lethe-inside-{choice.dataset}-{choice.model}-confusions-{of}"
    with st.container(horizontal=True):
        export.figure(name, lambda style, width, below: classes.square(rows, style, labels, names, width=round(width)), panels=1,
                      studies=[choice.study or ""], caption=f"Confusions, {classes.SETS[of]} set. {marks}{part}")
        export.table(name, classes.full(rows, names), classes.changes(rows, names), studies=[choice.study or ""],
                     caption=f"Confusions of {found.title(row)} against retrained, {classes.SETS[of]} set, means over seeds.")
    return True


def _embedding(view: page.View, found: Evidence, row: Row, choice: filters.Choice) -> bool:
    """Examples among the features, before and after; False where nothing of it is recorded."""
    mine = {str(int(run["seed"])): run for run in found.runs if (run["method"], run["variant"]) == (row["method"], row["variant"])
            and run[embedding.AUC] == run[embedding.AUC]}
    if not mine:
        return False
    seed = _seed(list(mine))
    method, variant, names = row["method"], row["variant"], _class_names(view, choice)
    rows = store.rows(insides.embedding, study=choice.study, seed=int(seed), method=method, variant=variant)
    if not rows:
        return False
    keys, reach = embedding.models(rows, method, variant), embedding.spans(rows)
    one = found.near.get((method, variant, embedding.AUC))
    st.markdown(embedding.answer(one, [of for of in found.rows if (of["method"], of["variant"]) in keys], found.title(row), inside.verdict(one)))
    for key, place in zip(keys, st.columns(len(keys), gap="small"), strict=True):
        run = next((run for run in found.runs if (run["method"], run["variant"]) == key and str(int(run["seed"])) == seed), None)
        words = embedding.told(run, next((of for of in found.rows if (of["method"], of["variant"]) == key), None))
        with place:
            st.markdown(f"**{look(view.looks, key[0]).title(key[1])}**")
            page.chart(embedding.panel(rows, key, view.looks, view.style, names, reach), view.style, embedding.about(rows, key, view.looks, words))
            st.caption(words)
    marks = ("Forget: orange diamonds. Test: blue triangles. Retain: grey circles. What goes into the last layer, on the two first principal components of "
             "the original; the retrained model, which shares no axes with it, is on its own, turned or mirrored to lie as near as can be to the same "
             f"retain and test examples. One seed ({seed}); the sample is the same for all models of a split.")
    st.caption(marks)
    name = f"lethe-inside-{choice.dataset}-{choice.model}-embedding"

    def build(style: Style, width: float, below: bool) -> charts.Spec:
        size = (round(width), round(width if below else 1.1 * width))
        return charts.beside([embedding.panel(rows, key, view.looks, style, names, reach, size=size, heading=True) for key in keys], below=below)

    with st.container(horizontal=True):
        export.figure(name, build, panels=len(keys), studies=[choice.study or ""], caption=f"Examples among the features of three models. {marks}")
        export.table(name, embedding.frame(rows, names), embedding.counted(rows, view.looks, keys), studies=[choice.study or ""],
                     caption="How many examples are shown; the CSV file has all points.")
    return True


def _seed(seeds: list[str]) -> str:
    """Which seed to look at, in the address; nothing to choose where there is one."""
    filters.linked("seed", "seed@inside", seeds[0], lambda text: text if text in seeds else None)
    if st.session_state["seed@inside"] not in seeds:
        st.session_state["seed@inside"] = seeds[0]
    seed = st.selectbox("Seed", seeds, key="seed@inside", width=120)
    filters.write("seed", seed)
    return seed


def _class_names(view: page.View, choice: filters.Choice) -> list[str]:
    return next((list(known.get("class_names") or []) for known in view.catalogue["datasets"] if known["name"] == choice.dataset), [])
