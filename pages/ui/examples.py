"""The most exposed examples of a method: their pictures, what two halves of the splits say of them, and the two worlds of one of them."""

from collections.abc import Mapping, Sequence
from html import escape

import pandas as pd
import streamlit as st

from engine.errors import LetheError
from engine.store import queries
from pages.ui import attacks, charts, export, filters, formats, leaks, page, pictures, store, table
from pages.ui.attacks import Numbers
from pages.ui.formats import Row, Rows
from pages.ui.leaks import Key
from pages.ui.theme import Look, Style, look

UNSEEN = "unseen"  # in the session: nobody looks, so no pictures are fetched
_SHOWN = 40  # of what is listed
_ROW = 58  # px, with a picture in it
_WORST = {"worst_0.01": "worst 1\u202f% of examples", "worst_0.05": "worst 5\u202f%", "worst_0.1": "worst 10\u202f%",
          "worst_0.05_same_data": "worst 5\u202f%, chosen and reported on the same splits"}


def show(view: page.View, found: Numbers, looked: Sequence[Key], choice: filters.Choice) -> None:
    """The section of the page. looked: the methods to choose from; found: of all attacks."""
    assert choice.study is not None
    st.subheader("The most exposed examples", anchor=False)
    method, variant = _whose(view, looked)
    known, classes = look(view.looks, method), class_names(view, choice.dataset)
    listed = store.rows(queries.exposed, study=choice.study, method=method, variant=variant)[:_SHOWN]
    if not listed:
        st.info("The most exposed examples of this method are not listed: choosing them on one half of the splits and reporting on the other is an attack "
                "of its own (`exposure`), which this study has not made.", icon=":material/hourglass_empty:")
        return
    st.markdown(_worst(found, (method, variant), known.title(variant)))
    seen = _pictures(choice.dataset, [row["example"] for row in store.rows(queries.listed, study=choice.study)])
    wanted = st.query_params.get("example")
    place = next((at for at, row in enumerate(listed) if str(row["example"]) == wanted), 0)
    left, right = st.columns([4, 3], gap="medium")
    with left:
        key = f"examples-{method}-{variant}"
        st.dataframe(table.exposed(listed, classes, seen), hide_index=True, column_config=table.exposed_configured(bool(seen)), key=key, row_height=_ROW,
                     height=8 * _ROW, selection_mode="single-row-required", on_select=lambda: _pick(key, listed), placeholder=formats.MISSING,
                     selection_default={"selection": {"rows": [place]}}, alt="The most exposed examples, with what was chosen and what is reported")
        st.caption("Chosen on one half of the splits, where noise alone looks exposed: believe the other half. Retrained: U-LiRA on the same example in "
                   "retrained models. Choose a row to see its two worlds.")
    row = listed[place]
    with right:
        _worlds(view, row, classes, seen.get(row["example"]), known, variant)

    def build(style: Style, width: float, below: bool) -> charts.Spec:
        return charts.beside(_panels(row, style, known, variant, round(width)), below=True)

    with st.container(horizontal=True):
        if has_worlds(row):
            export.figure(f"lethe-privacy-{method}-example-{row['example']}", build, panels=1, studies=[choice.study],
                          caption=f"Logit-scaled confidence in example {row['example']} (larger: surer), of models of {known.title(variant)} that forgot it "
                          "and of models that never saw it; below, of retrained models.")
        export.table(f"lethe-privacy-{method}-examples", store.ask(queries.exposed, study=choice.study, method=method, variant=variant),
                     table.exposed_texts(table.exposed(listed, classes, {})), studies=[choice.study],
                     caption=f"The examples that {known.title(variant)} exposes most, by U-LiRA's balanced accuracy (½ is best): on the half of the splits "
                     "that chose them, which flatters the attack; on the other half; and in retrained models.")


def class_names(view: page.View, dataset: str) -> dict[int, str]:
    """Label -> name, as far as the catalogue knows."""
    known = next((entry for entry in view.catalogue["datasets"] if entry["name"] == dataset), {})
    return dict(enumerate(known.get("class_names", [])))


def has_worlds(row: Row) -> bool:
    return not (pd.isna(row["mu_forgotten"]) or pd.isna(row["mu_never"]))


def _whose(view: page.View, looked: Sequence[Key]) -> Key:
    names = {"/".join(key): key for key in looked}
    filters.linked("who", "who@privacy", next(iter(names)), lambda text: text if text in names else None)
    if st.session_state["who@privacy"] not in names:
        st.session_state["who@privacy"] = next(iter(names))
    who = st.segmented_control("Of", list(names), key="who@privacy", required=True, label_visibility="collapsed",
                               format_func=lambda name: look(view.looks, names[name][0]).title(names[name][1])) or next(iter(names))
    filters.write("who", who)
    return names[who]


def _worst(found: Numbers, key: Key, name: str) -> str:
    """How right the attack is about the most exposed examples, as they are chosen: a table in Markdown."""
    exposure = attacks.of_attack(found, "exposure")
    mine, theirs = exposure.get(key, {}), exposure.get(("retrained", "corrected"), {})

    def told(rows: Mapping[str, Row], metric: str) -> str:
        return formats.with_interval(rows[metric]["value"], rows[metric]["lo"], rows[metric]["hi"], "rate") if metric in rows else formats.MISSING

    lines = [f"| {words} | {told(mine, metric)} | {told(theirs, metric)} |" for metric, words in _WORST.items() if metric in mine]
    head = f"| Balanced accuracy of U-LiRA | {name} | Retrained |\n| :-- | --: | --: |\n"
    return head + "\n".join(lines) if lines else ""


def _worlds(view: page.View, row: Row, classes: Mapping[int, str], picture: str | None, known: Look, variant: str) -> None:
    """What models say of one example, in both worlds; the same of retrained models below."""
    label = formats.MISSING if pd.isna(row["label"]) else classes.get(row["label"], str(row["label"]))
    image = f'<img src="{picture}" alt="Example {row["example"]}, class {escape(label)}">' if picture else ""
    models = [f"{formats.counted(row[f'n_{world}'], 'model')} {did} it" for world, did in (("forgotten", "forgot"), ("never", "never saw"))]
    counts = ",<br>".join(models) if has_worlds(row) else ""
    st.html(f'<div class="lethe-example">{image}<div><b>Example {row["example"]}</b>, class {escape(label)}<br>{counts}</div></div>')
    if not has_worlds(row):
        st.info("U-LiRA has no two worlds of this example.", icon=":material/hourglass_empty:")
        return
    for spec in _panels(row, view.style, known, variant, 380):
        told = dict.fromkeys(str(p["about"]) for p in spec["data"]["values"])
        page.chart(spec, view.style, f"{spec['title']}, scores of example {row['example']}. " + "; ".join(told))


def _panels(row: Row, style: Style, known: Look, variant: str, width: int) -> list[charts.Spec]:
    """The method's two worlds, and those of retrained models on the same axis."""
    span, size = leaks.span_of(row), (width, round(0.27 * width))
    panels = [leaks.worlds(row, style, known.colour, retrained=False, span=span, heading=known.title(variant), size=size)]
    if not pd.isna(row["retrained_mu_forgotten"]):
        panels.append(leaks.worlds(row, style, style.ink, retrained=True, span=span, heading="Retrained", size=size))
    return panels


def _pictures(dataset: str, examples: Sequence[int]) -> pictures.Pictures:
    """Those that are here. While they are fetched the page stays as it is and looks again; what hinders them is said."""
    if st.session_state.get(UNSEEN):
        return {}
    attempt = st.session_state.setdefault("pictures-attempt", 0)
    asked = pictures.ask(dataset, examples, attempt)
    if asked is None:
        st.caption(f":material/image_not_supported: {pictures.MISSING}")
        return {}
    if not asked.done():
        _wait(asked)
        return {}
    try:
        return asked.result()
    except LetheError as error:
        with st.container(horizontal=True, vertical_alignment="center"):
            st.caption(f":material/image_not_supported: No pictures: {error}")
            if st.button("Try again", type="tertiary", key="pictures-again"):
                st.session_state["pictures-attempt"] = attempt + 1
                st.rerun()
        return {}


@st.fragment(run_every=0.5)
def _wait(asked: "pictures.Waiting") -> None:
    if asked.done():
        st.rerun()
    st.caption(":material/image: The pictures are being fetched …")


def _pick(key: str, listed: Rows) -> None:
    rows = st.session_state[key]["selection"]["rows"]
    if rows:
        st.query_params["example"] = str(listed[rows[0]]["example"])
