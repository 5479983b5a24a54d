"""Privacy: who is still exposed? Every attack side by side, how it spreads over examples, and the examples that are exposed most."""

from collections.abc import Callable, Mapping, Sequence

import pandas as pd
import streamlit as st

from engine.store import queries, schema
from pages.ui import attacks, charts, examples, export, filters, findings, formats, leaks, page, store, table, trust
from pages.ui.attacks import Numbers
from pages.ui.formats import Row, Rows
from pages.ui.leaks import Key
from pages.ui.theme import REFERENCES, Look, Style, look

RETRAINED, ORIGINAL = ("retrained", "corrected"), ("original", "corrected")
CURVES = {"u_lira": "Forgotten or never seen (U-LiRA)", "versus_retrained": "Unlearned or retrained"}
CEILINGS = {"lira": "LiRA on original", "rmia": "RMIA on original"}
_MOST = 5  # methods in one figure
_ROUND = "privacy-round"
_COLOURS = ("The stronger the colour, the more an attack sees; blank: no more than in retrained models (its interval reaches ½ or theirs). "
            "↑ forgotten examples score higher than they should: not forgotten enough. ↓ lower: forgotten too much, which gives them away as well.")
_DOTS = "Dots: the smallest false-positive rate that so many models can tell; below it nothing is drawn. Dashed diagonal: guessing."
_FILLED = "Filled: retrained models, of which nothing leaks; so wide is chance."
_CLASSES = "Over all splits, with 95 % intervals. The worst of many classes looks bad by chance as well: hold it against the retrained models."

Looks = Callable[[Style], Mapping[str, Look]]  # on screen or on paper, grey where the attack is in doubt


def body(view: page.View) -> None:
    choice = filters.draw("privacy", view.studies, view.catalogue, view.looks)
    if choice.study is None:
        return page.nothing_here(view, choice)
    rows = table.ordered(choice.of(store.rows(queries.results, study=choice.study)))
    found = attacks.numbers(choice.of(store.rows(queries.attacks, study=choice.study)))
    believed, there, made = trust.of(choice.study), _attacked(rows), attacks.matrix(rows, found)
    answer = findings.exposure(rows, attacks.of_attack(found, "exposure"), attacks.unlike_retrained(made), view.looks)
    page.lead(view.screen.question, answer + believed.caveat())
    st.caption(f"{view.named(choice.dataset, choice.model)}. A method leaks where an attack tells the examples that it forgot from examples that the "
               "model never saw. Retrained models show what can be reached, originals what there was to find.")
    page.notices(view, choice.study)
    _side_by_side(view, rows, found, made, believed, choice)
    if there:
        looked = _look(view, there)
        _curves(view, lambda style: believed.looks(view.looks, rows, style), looked, choice)
        examples.show(view, found, looked, choice)
        _classes(view, lambda style: believed.looks(view.looks, rows, style), found, looked, choice)
    else:
        st.info("No attack on single examples (U-LiRA) has finished for these methods: there are no curves and no examples to show yet.",
                icon=":material/hourglass_empty:")
    bounds, health = st.columns(2, gap="medium")
    with bounds:
        _bounds(view, lambda style: believed.looks(view.looks, rows, style), found, choice)
    with health:
        st.subheader("Can the attacks be believed?", anchor=False)
        trust.health(believed)
    page.footer(view, choice.study)


def _attacked(rows: Rows) -> list[Key]:
    """Methods that can be looked at closely, those that leak most first."""
    attacked = [row for row in rows if row["method"] not in REFERENCES and not pd.isna(row["balanced_accuracy"])]
    return [(row["method"], row["variant"]) for row in sorted(attacked, key=lambda row: -abs(row["balanced_accuracy"] - 0.5))]


def _side_by_side(view: page.View, rows: Rows, found: Numbers, made: attacks.Matrix, believed: trust.Trust, choice: filters.Choice) -> None:
    """Methods by attacks; a click on a row looks at that method below."""
    st.subheader("Every attack side by side", anchor=False)
    columns = attacks.shown(made)
    if not columns:
        st.info("No attack has finished yet.", icon=":material/hourglass_empty:")
        return
    doubted = {(row["method"], row["variant"]): doubt for row in rows if (doubt := believed.doubt(row))}
    key = f"attacks-{st.session_state.get(_ROUND, 0)}"
    told = " | ".join(f"{look(view.looks, method).title(variant)}: " + "; ".join(f"{column.title} {cell.told}" for column, cell in cells.items())
                      for (method, variant), cells in made.items())
    with st.container(key="wide-attacks"):
        spec = leaks.matrix(made, view.looks, view.style, doubted=doubted, columns=columns, picked=st.query_params.get("who"))
        page.chart(spec, view.style, told, key=key, on_select=lambda: _pick(key, _attacked(rows)), selection_mode=[charts.PICK])
    st.caption(f"{_COLOURS} Point at a number for its interval, click it to look at the method below.{_ceilings(found)}")
    if few := attacks.without_numbers(found, list(made)):
        names = _attack_names(view)
        st.caption("Without numbers: " + "; ".join(f"{names.get(attack, attack)} on {look(view.looks, method).title(variant)} ({why})"
                                                   for (method, variant, attack), why in few.items()) + ".")

    def build(style: Style, width: float, below: bool) -> charts.Spec:
        def part(columns: Sequence[attacks.Column], width: float) -> charts.Spec:
            return leaks.matrix(made, view.looks, style, doubted=doubted, columns=columns, width=round(width))

        halves = [[column for column in columns if (column.group in (attacks.LIKE, attacks.BOUND)) == last] for last in (False, True)]
        if below and all(halves):
            return charts.beside([part(half, width) for half in halves], below=True)
        return part(columns, width if below else 2 * width)

    name = f"lethe-privacy-{choice.dataset}-{choice.model}"
    with st.container(horizontal=True):
        export.figure(name, build, panels=2, studies=[choice.study or ""], caption=f"Every attack on every method. {_COLOURS}")
        export.table(name, pd.DataFrame([row for names in found.values() for row in names.values()]), table.attacks(made, view.looks),
                     studies=[choice.study or ""], caption="Every attack on every method, with 95 % intervals; headings say what is best.")


def _ceilings(found: Numbers) -> str:
    """What membership attacks see of models that unlearned nothing."""
    told = [f"{label} {formats.with_interval(row['value'], row['lo'], row['hi'], 'rate')}" for attack, label in CEILINGS.items()
            if (row := found.get((*ORIGINAL, attack), {}).get("balanced_accuracy"))]
    return f"  \nCeilings, membership attacks where nothing was unlearned: {formats.listed(told)}." if told else ""


def _look(view: page.View, there: Sequence[Key]) -> list[Key]:
    """Which methods the figures below show: at first the one that leaks most and the one that leaks least."""
    names = {"/".join(key): key for key in there}

    def read(text: str) -> list[str] | None:
        return [name for name in dict.fromkeys(text.split(",")) if name in names][:_MOST] or None

    extremes = list(dict.fromkeys(["/".join(there[0]), "/".join(there[-1])]))
    filters.linked("look", "look@privacy", extremes, read)
    kept = [name for name in st.session_state["look@privacy"] if name in names]  # the study may be another now
    st.session_state["look@privacy"] = kept or extremes
    chosen = st.multiselect("Look closer at", list(names), key="look@privacy", max_selections=_MOST, placeholder="Choose methods",
                            format_func=lambda name: look(view.looks, names[name][0]).title(names[name][1]))
    filters.write("look", chosen)
    return [names[name] for name in chosen]


def _curves(view: page.View, looks: Looks, looked: Sequence[Key], choice: filters.Choice) -> None:
    """ROC on logarithmic axes, and how the attack's accuracy is spread over examples."""
    assert choice.study is not None
    left, right = st.columns(2, gap="medium")
    with left:
        st.subheader("How many are found, at which price", anchor=False)
        filters.linked("roc", "roc@privacy", "u_lira", lambda text: text if text in CURVES else None)
        attack = st.segmented_control("Question", list(CURVES), key="roc@privacy", format_func=CURVES.__getitem__, required=True,
                                      label_visibility="collapsed") or "u_lira"
        filters.write("roc", attack)
    points = {name: store.rows(queries.curves, study=choice.study, attack=name) for name in (attack, *(CEILINGS if attack == "u_lira" else ()))}
    counts = store.rows(queries.spread, study=choice.study)

    def roc(style: Style, size: tuple[int, int]) -> charts.Spec | None:
        line = leaks.lines([*looked, RETRAINED, ORIGINAL], looks(style), more=CEILINGS)
        found = {key: _of(points[attack], key) if key[1] else points.get(key[0], []) for key in line}
        ways = {line[key]: rows for key, rows in found.items() if rows}
        return leaks.roc(ways, style, size=size) if ways else None

    def spread(style: Style, size: tuple[int, int]) -> charts.Spec | None:
        line = leaks.lines([*looked, RETRAINED], looks(style))
        bins = {line[key]: found for key in line if (found := _of(counts, key))}
        return leaks.spread(bins, style, retrained=line[RETRAINED], size=size) if bins else None

    with left:
        if spec := roc(view.style, (420, 340)):
            starts = {p["name"]: p["about"] for p in reversed(spec["data"]["values"])}
            page.chart(spec, view.style, "ROC on logarithmic axes, from the smallest rate that the models can support. " + "; ".join(starts.values()))
            st.caption(_DOTS)
        else:
            st.info("This attack has left no curve for these methods.", icon=":material/hourglass_empty:")
    with right:
        st.subheader("How it spreads over examples", anchor=False)
        st.caption(f"{_FILLED} What reaches further right is exposed.")
        if spec := spread(view.style, (420, 340)):
            page.chart(spec, view.style, "U-LiRA's balanced accuracy over examples. " + "; ".join(
                f"{look(view.looks, key[0]).title(key[1])}: {formats.number(_beyond(found), 'share')} of examples at 0.75 or more"
                for key in (*looked, RETRAINED) if (found := _of(counts, key))))
        else:
            st.info("No attack has left numbers of single examples yet.", icon=":material/hourglass_empty:")

    def build(style: Style, width: float, below: bool) -> charts.Spec:
        return charts.beside([spec for draw in (roc, spread) if (spec := draw(style, (round(width), round(0.8 * width))))], below=below)

    with st.container(horizontal=True):
        export.figure(f"lethe-privacy-curves-{choice.dataset}-{choice.model}", build, panels=2, studies=[choice.study],
                      caption=f"{CURVES[attack]}: true- against false-positive rate, lower is better; both logarithmic. {_DOTS} And U-LiRA's balanced "
                      f"accuracy over examples, ½ is best. {_FILLED}")


def _classes(view: page.View, looks: Looks, found: Numbers, looked: Sequence[Key], choice: filters.Choice) -> None:
    """Exposure by class, where the attack has it."""
    by_class = {key: rows for key in (*looked, RETRAINED) if (rows := attacks.classes(found, *key))}
    if not by_class:
        return
    names = examples.class_names(view, choice.dataset)

    def draw(style: Style, width: int) -> charts.Spec:
        known = looks(style)
        line = leaks.lines(list(by_class), known)
        found = {line[key]: rows for key, rows in by_class.items()}
        return leaks.classes(found, names, {line[key]: look(known, key[0]) for key in line}, style, width=width)

    st.subheader("Exposed by class", anchor=False)
    spec = draw(view.style, 900)
    page.chart(spec, view.style, "Balanced accuracy of U-LiRA by class. " + "; ".join(str(p["about"]) for p in spec["data"]["values"]))
    page.legend(page.families(view, [{"method": method} for method, _ in by_class]), _CLASSES)
    with st.container(horizontal=True):
        export.figure(f"lethe-privacy-classes-{choice.dataset}-{choice.model}", lambda style, width, below: draw(style, round(width)), panels=1,
                      studies=[choice.study or ""], caption=f"{formats.METRICS['balanced_accuracy'].axis} by class. {_CLASSES}")


def _bounds(view: page.View, looks: Looks, found: Numbers, choice: filters.Choice) -> None:
    """What epsilon the attacks show, and what they could show."""
    st.subheader("What ε the attacks show", anchor=False)
    bounds = list(attacks.epsilons(found))
    if not bounds:
        st.info("No attack has given a bound on ε yet.", icon=":material/hourglass_empty:")
        return
    names = _attack_names(view)

    def draw(style: Style, width: int) -> charts.Spec:
        return leaks.epsilons(bounds, names, looks(style), style, width=width)

    spec = draw(view.style, 420)
    page.chart(spec, view.style, "Lower bounds on ε. " + "; ".join(str(p["about"]) for p in spec["data"]["values"]))
    ends = formats.listed(sorted({f"{most:.2f}" for *_, most in bounds}))
    said = (f"Lower bounds at 95 %, over splits, for δ = 1e-5; 0 is nothing shown. So many splits can show {ends} at most (dashed), whatever leaks: "
            "a small bound is no proof of privacy.")
    st.caption(said)
    with st.container(horizontal=True):
        export.figure(f"lethe-privacy-epsilon-{choice.dataset}-{choice.model}", lambda style, width, below: draw(style, round(width)), panels=1,
                      studies=[choice.study or ""], caption=f"What ε the attacks show, lower is better. {said}")


def _attack_names(view: page.View) -> dict[str, str]:
    return {attack["name"]: attack["label"] for attack in view.catalogue["attacks"]}


def _of(rows: Rows, key: Key) -> list[Row]:
    return [row for row in rows if (row["method"], row["variant"]) == key]


def _beyond(counts: Rows, bound: float = 0.75) -> float:
    """Share of the examples that the attack is right about so often."""
    return sum(row["examples"] for row in counts if row["bin"] >= bound * schema.BINS) / max(sum(row["examples"] for row in counts), 1)


def _pick(key: str, there: Sequence[Key]) -> None:
    """Look at the method that was clicked, beside those that are looked at already."""
    points = st.session_state[key]["selection"].get(charts.PICK, [])
    wanted = points[0].get("key") if points else None
    if wanted in {"/".join(key) for key in there}:
        before = [name for name in st.query_params.get("look", "").split(",") if name and name != wanted]
        st.query_params["look"] = ",".join([wanted, *before][:_MOST])
        st.query_params["who"] = wanted
    st.session_state[_ROUND] = st.session_state.get(_ROUND, 0) + 1


page.show("privacy", body)
