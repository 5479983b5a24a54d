"""The glossary: every term of these pages in plain words, a click away on each of them, and under an address (`?glossary=u-lira`).

What a metric is stands in `formats.METRICS`, what a method or an attack is in the catalogue; the terms here say what is left to say.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import streamlit as st

from pages.ui import formats, trust
from pages.ui.formats import METRICS
from pages.ui.theme import FAMILIES
from pages.ui.vocabulary import TERMS, Term

NAME = "glossary"  # in the address: the slug of a term, or
ALL = "all"
_UNITS = {"share": "in percent", "seconds": "in seconds", "times": "a factor", "epochs": "in epochs", "count": "a count"}


@dataclass(frozen=True)
class Entry:
    """One entry as shown. text, source: Markdown. words: everything that it is found by, in small letters."""

    name: str
    group: str
    text: str
    source: str
    words: str

    @property
    def slug(self) -> str:
        return slug(self.name)


def slug(name: str) -> str:
    """`U-LiRA` -> `u-lira`."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


def entries(catalogue: Mapping[str, Any]) -> list[Entry]:
    """Every term, then every metric, attack and method that no term is about."""
    attacks = {attack["name"]: attack for attack in catalogue["attacks"]}
    told = {name for term in TERMS for name in term.attacks}
    found = [_of_term(term, [attacks[name] for name in term.attacks if name in attacks]) for term in TERMS]
    found += [_entry(known.label, "Other metrics", _measured([known])[0].removeprefix("- "), "")
              for name, known in METRICS.items() if name not in {name for term in TERMS for name in term.metrics}]
    found += [_entry(attack["label"], "Attacks", attack["doc"], _linked(attack["paper"])) for name, attack in attacks.items() if name not in told]
    found += [_of_method(method) for method in sorted(catalogue["methods"], key=lambda method: method["label"].lower())
              if method["label"] not in {term.name for term in TERMS}]
    order = list(dict.fromkeys(entry.group for entry in found))
    return sorted(found, key=lambda entry: order.index(entry.group))


def matching(found: Iterable[Entry], text: str) -> list[Entry]:
    """Those that hold every word of the text; those whose name has it come first."""
    words = text.lower().split()
    there = [entry for entry in found if all(word in entry.words for word in words)]
    return sorted(there, key=lambda entry: text.strip().lower() not in entry.name.lower()) if words else there


def ask() -> None:
    """Open it, with all terms."""
    st.query_params[NAME] = ALL


def close() -> None:
    """Away with it, from the address too."""
    st.query_params.pop(NAME, None)


def answer(catalogue: Mapping[str, Any]) -> None:
    """The glossary beside the page, where the address asks for it."""
    wanted = st.query_params.get(NAME)
    if wanted is not None:
        _drawer(entries(catalogue), wanted)


@st.dialog("Glossary", width="medium", position="right", on_dismiss=close)
def _drawer(found: Sequence[Entry], wanted: str) -> None:
    name = next((entry.name for entry in found if entry.slug == wanted), "")
    if not name and wanted != ALL:
        st.caption(f"There is no term `{wanted}`; these are all.")
    text = st.text_input("Find a term", value=name, placeholder="A term, a metric, a method", icon=":material/search:", key="glossary-find")
    shown = matching(found, text)
    if not shown:
        st.info("No term has these words. Try fewer.", icon=":material/search_off:")
    for group in dict.fromkeys(entry.group for entry in shown):
        mine = [entry for entry in shown if entry.group == group]
        st.subheader(group, anchor=False)
        st.markdown("\n\n".join(map(_shown, mine)))
    if shown:
        st.caption(f"{formats.counted(len(shown), 'term')}. To link to one, add `{NAME}={shown[0].slug}` to the address of any page.")


def _shown(entry: Entry) -> str:
    source = f":gray[{entry.source}]" if entry.source else ""
    return f"**{entry.name}.** {entry.text}" + (("\n\n" if "\n- " in entry.text else "  \n") + source if source else "")


def _of_term(term: Term, attacks: Sequence[Mapping[str, Any]]) -> Entry:
    """With what catalogue and metrics say of it: direction and unit from there alone."""
    lines = [term.text, *(attack["doc"] if attack["label"] == term.name else f"*{attack['label']}*: {attack['doc']}" for attack in attacks)]
    lines += _measured([METRICS[name] for name in term.metrics])
    lines += [f"- *{group}*: {words}." for group, words in formats.GROUPS.items()] if term.groups else []
    lines += [f"- *{formats.sentence(words)}*." for words in trust.CHECKS.values()] if term.checks else []
    papers = [attack["paper"] for attack in attacks if not any(attack["paper"] in source for source in term.sources)]
    return _entry(term.name, term.group, _paragraphs(lines), "; ".join(map(_linked, dict.fromkeys([*term.sources, *papers]))), term.also)


def _measured(metrics: Sequence[formats.Metric]) -> list[str]:
    """What metrics are, with direction and unit: a line each, or one for several that say the same, as those of layers do."""
    lines = []
    for doc, unit in dict.fromkeys((known.doc, _unit(known)) for known in metrics):
        names = "; ".join(f"*{known.axis}*" for known in metrics if (known.doc, _unit(known)) == (doc, unit))
        lines.append(f"- {names}{unit}. {doc}".rstrip())
    return lines


def _of_method(method: Mapping[str, Any]) -> Entry:
    """A method by its full name, with its family and variants."""
    first = (method["doc"] or "").partition("\n")[0]
    text = formats.sentence(first.removeprefix(f"{method['label']}, "))
    variants = method.get("variants", [])
    family = FAMILIES.get(method["family"], (method["family"], ""))[0]
    more = f" Variants: {formats.listed(variants)}." if len(variants) > 1 else ""
    return _entry(method["label"], "Methods", f"{text} *Family: {family.lower()}.*{more}", _linked(method["paper"] or ""), (method["name"],))


def _entry(name: str, group: str, text: str, source: str, also: Sequence[str] = ()) -> Entry:
    return Entry(name, group, text, source, " ".join([name, *also, slug(name), text, source]).lower())


def _unit(known: formats.Metric) -> str:
    return f", {_UNITS[known.kind]}" if known.kind in _UNITS else ""


def _paragraphs(lines: Sequence[str]) -> str:
    """Sentences run on; what begins with a dash is a list."""
    sentences, items = ([line for line in lines if line and line.startswith("- ") == listed] for listed in (False, True))
    return " ".join(sentences) + ("\n" + "\n".join(items) if items else "")


def _linked(source: str) -> str:
    """With `arXiv:…` as a link."""
    return re.sub(r"arXiv:(\d{4}\.\d{4,5})", r"[arXiv:\1](https://arxiv.org/abs/\1)", source)
