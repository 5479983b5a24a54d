"""What is looked at: dataset, model, study, variant and methods. The same choice on every page, and all of it in the URL.

Widgets belong to a page, the choice to the session: it lives under one key that is no widget's, is seeded from the URL at
the start of each run and written back at its end. So a link is always complete and a choice follows across pages.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import streamlit as st

from pages.ui import formats
from pages.ui.formats import Row, Rows
from pages.ui.theme import Look, look

ALL_VARIANTS = "all"
_CHOICE, _WRITTEN, _ALONE, _SAID = "choice", "choice-written", "alone", "said"
_OF_LAB = ("param-", "sweep-", "variant-of-")  # its widgets whose keys do not end in the page
_NAMES = ("dataset", "model", "study", "variant", "methods")
SHARED = frozenset(_NAMES)
_PICKED = ("brush", "claim", "clone", "example", "job", "jobs", "pick", "run", "sweep", "trial")  # what clicks choose and no widget holds


@dataclass(frozen=True)
class Choice:
    """study: run_id of the study that is shown, None where there is none for this dataset and model. methods: empty is all."""

    dataset: str
    model: str
    study: str | None
    variant: str
    methods: tuple[str, ...]

    def of(self, rows: Rows) -> list[Row]:
        """The rows of `queries.results` that were chosen; the references always stay."""
        return [row for row in rows if row["method"] in ("original", "retrained")
                or ((not self.methods or row["method"] in self.methods) and self.variant in (row["variant"], ALL_VARIANTS))]


def current(page: str) -> dict[str, Any]:
    """The choice at the start of a run: what the URL says, else the widgets of this page, else what the session remembers.

    A parameter that differs from what was last written came from outside (a link, the Back button) and wins over widgets.
    """
    choice: dict[str, Any] = st.session_state.setdefault(_CHOICE, {})
    written = st.session_state.get(_WRITTEN, {})
    for name in _NAMES:
        if name in st.query_params:
            given: Any = st.query_params.get_all(name) if name == "methods" else st.query_params[name]
            if given != written.get(name):
                choice[name] = given
                for key in [key for key in st.session_state if str(key).startswith(f"{name}@")]:
                    del st.session_state[key]
        if (value := st.session_state.get(f"{name}@{page}")) is not None:
            choice[name] = value
    return choice


def to_url(choice: Mapping[str, Any]) -> None:
    """Write the choice into the URL; what is at its default is left out."""
    wanted = {name: choice[name] for name in _NAMES if choice.get(name)}
    for name in _NAMES:
        new = wanted.get(name, [])
        if st.query_params.get_all(name) != ([new] if isinstance(new, str) else list(new)):
            if new:
                st.query_params[name] = new
            else:
                st.query_params.pop(name, None)
    st.session_state[_WRITTEN] = wanted


def link() -> dict[str, Any]:
    """The present choice as query parameters, for links to other pages."""
    return {name: value for name, value in st.session_state.get(_CHOICE, {}).items() if value}


def draw(page: str, studies: Rows, catalogue: Mapping[str, Any], looks: Mapping[str, Look], *, everything: bool = False) -> Choice:
    """The shared filters in the sidebar, from rows of `queries.studies`.

    everything: offer all datasets and models, not only those that have results, and no choice of methods.
    """
    choice = current(page)
    weighty = sorted(studies, key=lambda row: -(row["done"] or 0))  # where most is known comes first, of one place too; of equals the newest
    with st.sidebar.container(key="filters"):
        there = [row["dataset"] for row in weighty if row["dataset"]]
        dataset = _select(page, "dataset", "Dataset", _offered(there, catalogue["datasets"], everything), catalogue["datasets"], choice)
        there = [row["model"] for row in weighty if row["dataset"] == dataset and row["model"]]
        model = _select(page, "model", "Model", _offered(there, catalogue["models"], everything), catalogue["models"], choice)
        fitting = [row for row in weighty if row["dataset"] == dataset and row["model"] == model]
        study = _study(page, fitting, choice)
        known = [method for method in catalogue["methods"] if method["family"] != "reference"]
        variants = sorted({variant for method in known for variant in method.get("variants", ["corrected"])} or {"corrected"})
        variant, methods = variants[0], []
        if not everything:
            if len(variants) > 1:
                variant = _select(page, "variant", "Variant", [*variants, ALL_VARIANTS], [], choice)
            methods = _methods(page, [method["name"] for method in known], looks, choice)
            choice.update(variant=variant if len(variants) > 1 else "", methods=methods)
    choice.update(dataset=dataset, model=model, study=study if len(fitting) > 1 else "")
    to_url(choice)
    return Choice(dataset, model, study, variant, tuple(methods))


def say_again(page: str) -> None:
    """Before any widget is drawn: tell the browser once more what those of this page stand at that nobody has changed yet.

    A value that a script gives is told in that run only. A browser that is still drawing when the page runs again, as when an answer of the
    engine arrives, sees the second run alone, and would start the widget at a default of its own.
    """
    said: dict[str, Any] = st.session_state.setdefault(_SAID, {})
    for key in map(str, list(st.session_state)):
        if key.endswith(f"@{page}") or (page == "lab" and key.startswith(_OF_LAB)):
            value = st.session_state[key]
            if said.setdefault(key, value) == value:
                st.session_state[key] = value


def linked(name: str, key: str, default: Any, read: Callable[[str], Any]) -> None:
    """Before a widget of one page alone is drawn: start it from the URL, else from what it was, else from the default.

    read(text) gives the value, or None where the text is no good. `write` after the widget keeps both up to date.
    """
    memory: dict[str, str] = st.session_state.setdefault(_ALONE, {})
    given = st.query_params.get(name)
    if given is not None and given != memory.get(name) and read(given) is not None:
        memory[name] = given
        st.session_state.pop(key, None)
    if key not in st.session_state:
        before = read(memory[name]) if name in memory else None
        st.session_state[key] = default if before is None else before


def write(name: str, value: Any) -> None:
    """Remember what a widget of one page alone is at, in the session and in the URL. Lists: joined by commas."""
    text = ",".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)
    st.session_state.setdefault(_ALONE, {})[name] = text
    if st.query_params.get(name) != text:
        st.query_params[name] = text


def parameters() -> set[str]:
    """What the address of this page may name, once it is drawn."""
    return {*_NAMES, *_PICKED, *st.session_state.get(_ALONE, {})}


def label(name: str, entries: Rows) -> str:
    """How the catalogue calls a dataset or model."""
    return next((entry["label"] for entry in entries if entry["name"] == name), name)


def _offered(there: list[str], entries: Rows, everything: bool) -> list[str]:
    """Names that have results first; the rest of the catalogue where everything is on offer or nothing has results."""
    return list(dict.fromkeys([*there, *(entry["name"] for entry in entries if everything or not there)]))


def _select(page: str, name: str, title: str, options: list[str], entries: Rows, choice: Mapping[str, Any]) -> str:
    """A selectbox that starts from the choice. A value that is not on offer is offered too: the page then says what is missing."""
    wanted = choice.get(name) or (options[0] if options else "")
    options = [*options, wanted] if wanted and wanted not in options else options
    key = f"{name}@{page}"
    if st.session_state.get(key) not in options:
        st.session_state[key] = wanted or None
    return st.selectbox(title, options, key=key, format_func=lambda value: label(value, entries)) or wanted


def _study(page: str, fitting: Rows, choice: Mapping[str, Any]) -> str | None:
    """The largest study of this dataset and model, or which of several."""
    known = {row["study"]: f"{formats.sentence(formats.ago(row['newest']))}: {row['title']}" for row in fitting}
    if len(known) < 2:
        return next(iter(known), None)
    key = f"study@{page}"
    if st.session_state.get(key) not in known:
        st.session_state[key] = choice.get("study") if choice.get("study") in known else next(iter(known))
    return st.selectbox("Study", list(known), key=key, format_func=lambda value: known[value])


def _methods(page: str, options: list[str], looks: Mapping[str, Look], choice: Mapping[str, Any]) -> list[str]:
    key = f"methods@{page}"
    if key not in st.session_state:
        st.session_state[key] = [name for name in choice.get("methods", []) if name in options]
    return st.multiselect("Methods", options, key=key, format_func=lambda name: look(looks, name).label, placeholder="All methods")
