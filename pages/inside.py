"""Inside: what changed in the model? Accuracies, outputs, layers, weights and what can be relearned, against the original and the retrained model;
class by class and example by example."""

import streamlit as st

from engine.store import queries
from pages.ui import charts, export, filters, inside, page, store, within
from pages.ui.formats import METRICS
from pages.ui.inside import Evidence
from pages.ui.theme import REFERENCES, Style

_ABREAST = {"Accuracy": 4, "Outputs": 3, "Layers": 3, "Features": 1, "Weights": 2, "Relearning": 1}
_BLOCKS = {True: [["Accuracy", "Outputs"], ["Layers", "Features", "Weights", "Relearning"]],  # of the exported matrix, so that it can be read
           False: [["Accuracy"], ["Outputs"], ["Layers", "Features"], ["Weights", "Relearning"]]}
_WIDE = 300  # points
_ROUND = "inside-round"
_COLOURS = ("**+** and blue: nearer to the retrained model of the same seed than the original was; **−** and orange: further away; the stronger, the "
            "more. Blank: cannot be told (the 95 % interval of the paired difference over seeds holds 0; not adjusted for how many there are, so about "
            "one blank cell in twenty would be coloured by chance).")
_MARKS = "Small: seeds. Large: their mean with its 95 % t-interval. Line: retrained, shaded its interval. Dashed: original."
_TIMED = "Line: retrained, shaded the range of its seeds. Dashed: original."
_NOTES = {
    "Outputs": "Each model is held against the retrained model of its own seed, so 0 (agreement: 1) would be that very model; a retrained model of "
               "another seed is not there either. Churn, where predictions differ, is 1 − agreement. ZRF of retrained models is not measured.",
    "Layers": "After each block and of the logits, on test images. 1 would be the retrained model of the same seed itself.",
    "Features": "Chance that a forget example lies nearer to a class centre, the mean of a class's retain examples, than a test example does, among "
                "what goes into the last layer. Networks draw what they were trained on together; retrained models show what is usual without that.",
    "Weights": "A retrained model of the same seed began at the same weights, so even the original is near; redrawing weights goes away from both. "
               "Moved: how far from the original of the same seed, over its norm. Dead weights can influence no output at this image size, so moving "
               "them is no unlearning; parts count by their live weights.",
    "Relearning": "Epochs of fine-tuning on forget until a model knows it as well as the original did. Large: the median over seeds, with their "
                  "range. Hollow: not there at the cap, so at least that. Sooner than retrained models: something was left behind. Held against "
                  "them by the sign test over seeds.",
}


def body(view: page.View) -> None:
    choice = filters.draw("inside", view.studies, view.catalogue, view.looks)
    if choice.study is None:
        return page.nothing_here(view, choice)
    results, runs, nearer = (choice.of(store.rows(question, study=choice.study)) for question in (queries.results, queries.seed_runs, queries.nearer))
    found = inside.evidence(results, runs, nearer, view.looks)
    page.lead(view.screen.question, inside.answer(found))
    st.caption(f"{view.named(choice.dataset, choice.model)}. Every model is compared with the retrained model of the same seed, and with where the "
               "original was before it unlearned.")
    page.notices(view, choice.study)
    if found.parts:
        who = _who(found)
        _matrix(view, found, who, choice)
        _closer(view, found, who, choice)
        within.draw(view, found, who, choice)
    else:
        st.info("No unlearned model of this study is finished yet: there is nothing to compare.", icon=":material/hourglass_empty:")
    page.footer(view, choice.study)


def _who(found: Evidence) -> str | None:
    """The method that is followed through the figures, if any."""
    names = {f"{row['method']}/{row['variant']}": found.title(row) for row in found.methods}
    filters.linked("who", "who@inside", "", lambda text: text if text in names else None)
    if st.session_state["who@inside"] not in names:  # the study may be another now
        st.session_state["who@inside"] = ""
    who = st.selectbox("Follow", ["", *names], key="who@inside", format_func=lambda name: names.get(name, "No method"), width=260)
    filters.write("who", who)
    return who or None


def _matrix(view: page.View, found: Evidence, who: str | None, choice: filters.Choice) -> None:
    """Every method by every measure; a click looks closer at a measure and follows the method."""
    st.subheader("Nearer to the retrained model, or further?", anchor=False)
    parts, key = found.parts, f"matrix-{st.session_state.get(_ROUND, 0)}"
    spec = inside.matrix(found, view.style, parts=parts, picked=who)
    with st.container(key="wide-matrix"):
        page.chart(spec, view.style, " | ".join(p["about"] for p in spec["data"]["values"]), key=key, on_select=lambda: _pick(key),
                   selection_mode=[charts.PICK])
    st.caption(f"{_COLOURS} Further is not worse by itself: a model that was retrained from another seed would not be near either."
               + (" Relearning: − where it differs from what retrained models need." if "Relearning" in parts else "")
               + " Accuracies and agreement in percent. Point at a number for its interval; click it to look closer below.")

    def build(style: Style, width: float, below: bool) -> charts.Spec:
        there = [{part: parts[part] for part in block if part in parts} for block in _BLOCKS[width > _WIDE]]
        return charts.beside([inside.matrix(found, style, parts=block, width=round(width)) for block in there if block], below=True)

    name = f"lethe-inside-{choice.dataset}-{choice.model}"
    with st.container(horizontal=True):
        export.figure(name, build, panels=1, studies=[choice.study or ""], caption=f"Every method by every measure. {_COLOURS}".replace("**", ""))
        export.table(name, inside.full(found), inside.table(found), studies=[choice.study or ""],
                     caption="Every method by every measure, means over seeds. +: nearer to the retrained model than the original was; −: further.")
    if alive := inside.alive(found):
        st.caption(alive)


def _closer(view: page.View, found: Evidence, who: str | None, choice: filters.Choice) -> None:
    """One part seed by seed."""
    st.subheader("Seed by seed", anchor=False)
    parts = found.parts
    first = next(iter(parts))
    filters.linked("part", "part@inside", first, lambda text: text if text in parts else None)
    if st.session_state["part@inside"] not in parts:
        st.session_state["part@inside"] = first
    part = st.segmented_control("Part", list(parts), key="part@inside", required=True, label_visibility="collapsed") or first
    filters.write("part", part)
    metrics, abreast = parts[part], _ABREAST[part]
    if part == "Layers":
        spec = inside.profile(found, metrics, view.style, picked=who, size=(900, 320))
        page.chart(spec, view.style, "CKA with the retrained model, layer by layer. " + "; ".join(p["about"] for p in spec["data"]["values"]))
        st.caption("Dashed: the original." + ("" if who else " Follow a method above to see it with its intervals."))
    if part == "Weights" and found.moved:
        spec = inside.profile(found, found.moved, view.style, picked=who, size=(900, 280))
        page.chart(spec, view.style, "How far live weights moved from the original, part by part. " + "; ".join(p["about"] for p in spec["data"]["values"]))
        st.caption("Dashed: the retrained model." + ("" if who else " Follow a method above to see it with its intervals."))
    for start in range(0, len(metrics), abreast):
        for metric, place in zip(metrics[start:start + abreast], st.columns(abreast, gap="small"), strict=False):
            with place:
                st.markdown(f"**{METRICS[metric].label}**", help=METRICS[metric].doc or None)
                spec = inside.panel(found, metric, view.style, picked=who, width=900 // abreast)
                page.chart(spec, view.style, "; ".join(p["about"] for p in spec["data"]["values"]))
    marks = _TIMED if part == "Relearning" else _MARKS
    page.legend(page.families(view, found.methods), marks)
    if part in _NOTES:
        st.caption(_NOTES[part])

    def build(style: Style, width: float, below: bool) -> charts.Spec:
        panels = [inside.panel(found, metric, style, width=round(width), heading=METRICS[metric].label) for metric in metrics]
        along = {"Layers": metrics, "Weights": found.moved}.get(part)
        panels += [inside.profile(found, along, style, picked=who, size=(round(width), round(0.7 * width)))] if along else []
        wide = 1 if below else min(2, len(panels))
        return charts.beside([charts.beside(panels[start:start + wide]) for start in range(0, len(panels), wide)], below=True)

    with st.container(horizontal=True):
        export.figure(f"lethe-inside-{choice.dataset}-{choice.model}-{part.lower()}", build, panels=min(2, len(metrics)),
                      studies=[choice.study or ""], caption=f"{part}, method by method. {marks} {_NOTES.get(part, '')}".strip())


def _pick(key: str) -> None:
    """Follow the method that was clicked, and look closer at the part of that measure."""
    points = st.session_state[key]["selection"].get(charts.PICK, [])
    if points:
        st.query_params["part"] = points[0]["part"]
        if points[0]["key"].split("/")[0] not in REFERENCES:
            st.query_params["who"] = points[0]["key"]
    st.session_state[_ROUND] = st.session_state.get(_ROUND, 0) + 1


page.show("inside", body)
