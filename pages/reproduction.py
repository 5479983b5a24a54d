"""Reproduction: do published numbers hold? Reported beside measured, claim by claim, with a verdict by rule."""

from collections.abc import Hashable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import streamlit as st

from engine.store import queries, reported, verdicts
from engine.store.reported import Figure
from pages.ui import charts, claims, export, filters, formats, page, places, reproduction, store
from pages.ui.claims import Entry, Names
from pages.ui.formats import Rows
from pages.ui.theme import Style

_ROUND = "reproduction-round"
_WIDTHS = {"Verdict": 96, "Claim": 200, "Reported": 68, "Measured here": 185, "Why": 235, "Source": 170, "How sure": 130}
_STUDIES = {"Study": 170, "Says": 230, "Setting": 230, "Numbers": 330}
_ROW = 118  # px, of a table whose texts take lines
_HOLLOW = ("Hollow and grey: measured in another setting than the claim's, so a hint and no verdict. Filled: in its setting. The interval holds every "
           "difference that the two 95 % intervals allow; of several pairs the one that decides.")
_DECIDED = (verdicts.REPRODUCED, verdicts.NOT_REPRODUCED, verdicts.NOT_COMPARABLE)


def body(view: page.View) -> None:
    names = Names(view.looks, view.catalogue)
    changed = tuple((path.name, path.stat().st_mtime_ns) for path in sorted(store.REPORTED.glob("*.json")))
    variants = tuple((method["name"], tuple(method["variants"])) for method in view.catalogue["methods"])
    found, faults = _found(store.REPORTED, changed, store.stamp(), variants, view.studies)
    page.lead(view.screen.question, claims.answer(found))
    st.caption("Every claim that is on file is held against every study here, and judged by a written rule, never by hand. What ran in another setting "
               "than the claim's is no reproduction, however well it agrees.")
    for fault in faults:
        st.error(f"**Left out, with all claims of its file:** {fault}", icon=":material/description:")
    if not found:
        st.info("Claims are read from `data/reported/`, one JSON file a source, and there is none that can be read.", icon=":material/hourglass_empty:")
        return
    papers, others = ([entry for entry in found if entry.claim.source.third_party is party] for party in (False, True))
    _claims(view, names, papers)
    _directions(view, names, papers)
    _others(view, names, others)
    _how()
    _footer(view, found)


@st.cache_resource(max_entries=4, show_spinner=False)
def _found(folder: Path, changed: Hashable, stamp: Hashable, variants: tuple[tuple[str, tuple[str, ...]], ...],
           _studies: Rows) -> tuple[list[Entry], list[str]]:
    """Every claim on file with its verdict, and what is wrong with files that are left out."""
    read, faults = reported.read(folder)
    settings = {row["study"]: row for row in store.rows(verdicts.settings)}
    evidence = [verdicts.evidence(row, settings[row["study"]],
                                  places.cell(row, filters.ALL_VARIANTS), store.rows(queries.attacks, study=row["study"]),
                                  store.rows(queries.calibration, study=row["study"]))
                for row in _studies if row["done"] and row["study"] in settings]
    return claims.entries([verdicts.judged(claim, evidence, dict(variants)) for claim in read]), faults


def _claims(view: page.View, names: Names, found: Sequence[Entry]) -> None:
    """The table of claims, and one of them in full."""
    st.subheader("Claim by claim", anchor=False)
    there = [verdict for verdict in verdicts.VERDICTS if any(entry.verdict == verdict for entry in found)]

    def read(text: str) -> list[str] | None:
        return [verdict for verdict in text.split(",") if verdict in there]

    filters.linked("verdict", "verdict@reproduction", [verdict for verdict in there if verdict in _DECIDED], read)
    wanted = st.pills("Show only", there, selection_mode="multi", key="verdict@reproduction",
                      format_func=lambda verdict: f"{reproduction.verdict(verdict)} ({sum(entry.verdict == verdict for entry in found)})")
    filters.write("verdict", wanted)
    shown = [entry for entry in found if not wanted or entry.verdict in wanted]
    texts, key = reproduction.table(shown, names), f"claims-{st.session_state.get(_ROUND, 0)}"
    picked = next((at for at, entry in enumerate(shown) if entry.key == st.query_params.get("claim")), None)
    st.dataframe(texts, hide_index=True, key=key, height=min(36 + _ROW * len(shown), 620), row_height=_ROW, selection_mode="single-row",
                 on_select=lambda: _pick(key, shown),
                 selection_default={"selection": {"rows": [picked]}} if picked is not None else None, column_config=_configured(),
                 alt="Published claims with their source, how sure it is what they say, what was measured here, and the verdict")
    with st.container(horizontal=True):
        export.table("lethe-reproduction", reproduction.full(shown, names), texts, studies=_near(shown),
                     caption="Published claims beside what was measured here, with a verdict by a written rule.")
    if picked is None:
        st.caption("Choose a row to see the claim's setting, the rule that decides, and what every study here says of it.")
    else:
        _closer(names, shown[picked])


def _configured() -> dict[str, Any]:
    return {name: st.column_config.TextColumn(name, width=width) for name, width in _WIDTHS.items()}


def _closer(names: Names, entry: Entry) -> None:
    """One claim: who says it, of what, by which rule it is judged, and what every study says."""
    claim, source = entry.claim, entry.claim.source
    with st.container(border=True, key="closer"):
        head, close = st.columns([8, 1], vertical_alignment="center")
        head.markdown(f"**{claim.statement}**")
        close.button("Close", on_click=_close, key="closer-close", type="tertiary", icon=":material/close:")
        venue = f", {source.venue}" if source.venue else ""
        third = " **A third party, not the paper.**" if source.third_party else ""
        st.markdown(f"{source.authors}, [{source.title}]({source.url}){venue}, {source.reference}; {claim.place}.{third}  \n"
                    f"**How sure we are of it:** {claims.certainty(claim)}. {source.about}")
        if claim.rule is not None:
            st.markdown(f"**Its setting.** {claims.setting(claim, names)}  \n**Reproduced if:** {claims.rule(claim, names)}"
                        + (f" {claim.note}" if claim.note else ""))
        elif claim.note:
            st.markdown(claim.note)
        one = entry.judged[0]
        if isinstance(claim.rule, Figure):
            st.dataframe(reproduction.figures(entry.judged, names), hide_index=True, height="content",
                         alt="Every figure beside what was measured in the study nearest to its setting")
        elif one.readings:
            found = reproduction.readings(one, names)
            st.dataframe(found, hide_index=True, height=min(36 + _ROW * len(found), 420), row_height=_ROW,
                         column_config={name: st.column_config.TextColumn(name, width=width) for name, width in _STUDIES.items()},
                         alt="What every study here says of the claim, the nearest to its setting first")
        else:
            st.markdown(f"**{formats.sentence(one.verdict)}.** {formats.sentence(claims.why(one, names))}")
        nearest = [reading.study["command"] for judged in entry.judged for reading in judged.readings[:1]]
        commands = dict.fromkeys(str(command) for command in nearest if command)
        if commands:
            st.caption("The study nearest to it, made again:")
            st.code("\n".join(commands), language="bash", wrap_lines=True)


def _directions(view: page.View, names: Names, found: Sequence[Entry]) -> None:
    """Claims of the kind `this is worse than that`, in one figure."""
    spec = reproduction.directions(found, names, view.style)
    if spec is None:
        return
    st.subheader("Where the evidence points", anchor=False)
    with st.container(key="wide-directions"):
        page.chart(spec, view.style, "Difference in the claimed direction, with its interval. " + reproduction.alt(spec))
    st.caption(f"Claims that one thing is worse than another, in units of their metric. {_HOLLOW}")

    def build(style: Style, width: float, below: bool) -> charts.Spec:
        return reproduction.directions(found, names, style, width=round(width)) or {}

    with st.container(horizontal=True):
        export.figure("lethe-reproduction-directions", build, panels=1, studies=sorted({row["study"] for row in spec["data"]["values"]}),
                      caption=f"Published claims that one thing is worse than another: the difference measured here in the claimed direction. {_HOLLOW}")


def _others(view: page.View, names: Names, found: Sequence[Entry]) -> None:
    """What a third party measured, apart from the papers."""
    tables = {entry.key: entry for entry in found if isinstance(entry.claim.rule, Figure)}
    if not tables:
        return
    source = next(iter(tables.values())).claim.source
    st.subheader("A third party's figures", anchor=False)
    st.markdown(f"[{source.title}]({source.url}) by {source.authors}, {source.reference}. {source.about}")
    for entry in found:
        if entry.key not in tables:
            one = entry.judged[0]
            st.markdown(f"{entry.claim.statement} **{reproduction.verdict(entry.verdict)}**: {claims.why(one, names)}.")
    filters.linked("figures", "figures@reproduction", next(iter(tables)), lambda text: text if text in tables else None)
    if st.session_state["figures@reproduction"] not in tables:
        st.session_state["figures@reproduction"] = next(iter(tables))
    chosen = st.segmented_control("Metric", list(tables), key="figures@reproduction", required=True, label_visibility="collapsed",
                                  format_func=lambda key: tables[key].claim.statement) or next(iter(tables))
    filters.write("figures", chosen)
    judged = tables[chosen].judged
    spec = reproduction.beside(judged, names, view.style)
    page.chart(spec, view.style, "Reported and measured. " + reproduction.alt(spec))
    here = any("x" in row for row in spec["data"]["values"])
    if here:
        page.legend(page.families(view, [{"method": row.claim.rule.method} for row in judged if isinstance(row.claim.rule, Figure)]),
                    "Bars: reported by the third party. Marks with 95 % intervals: measured here on the same data and architecture, hollow where the "
                    "setting differs otherwise.")
    else:
        st.caption("Bars: reported by the third party. Nothing was measured here on the same data and architecture yet.")

    def build(style: Style, width: float, below: bool) -> charts.Spec:
        return reproduction.beside(judged, names, style, width=round(width))

    texts = reproduction.figures(judged, names)
    with st.container(horizontal=True):
        caption, near = f"{tables[chosen].claim.statement} by a third party, {source.authors}, {source.reference}", _near([tables[chosen]])
        export.figure(f"lethe-{chosen}", build, panels=1, studies=near if here else [], caption=f"{caption}: bars."
                      + (" Marks with 95 % intervals: measured here on the same data and architecture, hollow in another setting." if here else ""))
        export.table(f"lethe-{chosen}", reproduction.full([tables[chosen]], names), texts, studies=near,
                     caption=f"{caption}, beside what was measured here.")
    with st.expander("As a table"):
        st.dataframe(texts, hide_index=True, height="content", alt="Every figure of the third party beside what was measured here")
        st.caption(f"**Setting.** {claims.setting(judged[0].claim, names)} **Reproduced if:** {claims.rule(judged[0].claim, names)}")


def _near(found: Sequence[Entry]) -> list[str]:
    """The studies that what is said here of these claims was measured in."""
    return sorted({str(reading.study["study"]) for entry in found for judged in entry.judged for reading in judged.readings[:1]})


def _how() -> None:
    with st.expander("How verdicts come about", icon=":material/gavel:"):
        st.markdown(f"""
- **{reproduction.verdict(verdicts.REPRODUCED)}**: in every study of the claim's setting the evidence holds it (for “consistently good” in at least
  80 % of them), in as many datasets and architectures as it speaks of.
- **{reproduction.verdict(verdicts.NOT_REPRODUCED)}**: it ran in the claim's setting, and the evidence is against it, or its intervals are too wide
  to hold it.
- **{reproduction.verdict(verdicts.NOT_COMPARABLE)}**: it was measured, but never in the claim's setting: dataset and number of images, architecture,
  epochs of training, what is forgotten and how much, tuned or default settings, and the variant that does what the released code does. An attack
  that failed its calibration, or had none, is no evidence either.
- **{reproduction.verdict(verdicts.NOT_RUN)}**: no study here measured what it takes.
- **{reproduction.verdict(verdicts.NO_NUMBER)}**: the source has tables, but no figure of theirs is at hand. Nothing is filled in from memory.

**A figure** holds where the 95 % interval of measured minus reported lies within the distance that its file allows; the interval counts the seeds on
both sides. **An order** holds where the 95 % intervals of both sides, as distances from the best value, are apart in the claimed way. **Consistently
good** holds where the methods are within retraining noise (group G1 of the Leaderboard), with enough seeds to tell. The distances, and the rules for
statements that name no metric, are ours; each claim shows its own. A table of figures counts as one claim, and is reproduced only if every figure is.""")


def _footer(view: page.View, found: Sequence[Entry]) -> None:
    sources = {entry.claim.source.reference for entry in found}
    newest = max((row["newest"] for row in view.studies if not pd.isna(row["newest"])), default=None)
    with st.container(key="foot"):
        st.caption(" · ".join([f"{formats.counted(sum(len(entry.judged) for entry in found), 'figure or statement', 'figures and statements')} of "
                               f"{formats.counted(len(sources), 'source')}", f"{formats.counted(len(view.studies), 'study', 'studies')} looked at",
                               *([f"newest result {formats.ago(newest)}"] if newest is not None else [])]))
        st.caption("The claims are the files of `data/reported/`, the rule is `engine/store/verdicts.py`.")


def _pick(key: str, shown: Sequence[Entry]) -> None:
    rows = st.session_state[key]["selection"]["rows"]
    if rows:
        st.query_params["claim"] = shown[rows[0]].key
    else:
        st.query_params.pop("claim", None)


def _close() -> None:
    st.query_params.pop("claim", None)
    st.session_state[_ROUND] = st.session_state.get(_ROUND, 0) + 1


page.show("reproduction", body)
