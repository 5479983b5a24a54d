"""The form of a method's hyper-parameters, made from what it declares, and the request that it amounts to."""

import json
import shlex
from collections.abc import Callable, Mapping, Sequence
from math import floor, log10
from typing import Any

import streamlit as st

from pages.ui import formats

Params = dict[str, Any]
_MEMORY = "settings"


def defaults(method: Mapping[str, Any]) -> Params:
    return {param["name"]: param["default"] for param in method["params"]}


def of_study(rows: Sequence[Mapping[str, Any]], method: str, variant: str) -> Params | None:
    """The setting that a study used, from rows of `queries.results`; None where it has no such method."""
    found = (row["params"] for row in rows if row["method"] == method and row["variant"] == variant and row["params"])
    return next((json.loads(params) for params in found), None)


def declared(method: Mapping[str, Any], variant: str) -> Mapping[str, Any]:
    """A variant's own parameters, under a name of its own, so that its widgets are; the method itself where they are the same."""
    other = method.get("others", {}).get(variant)
    return {**method, **other, "name": f"{method['name']}/{variant}"} if other else method


def form(method: Mapping[str, Any], where: str, start: Params, *, without: str | None = None) -> Params:
    """One widget a parameter, bounds and meaning as declared. Returns the values as they stand.

    where: dataset and model. without: a parameter that is chosen elsewhere. They begin at `start`, and at what they were left at when the
    form was away meanwhile.
    """
    memory: dict[str, Params] = st.session_state.setdefault(_MEMORY, {})
    start = memory.get(f"{method['name']}/{where}", start)
    values: Params = {}
    columns = st.columns(2)
    for at, param in enumerate(method["params"]):
        if param["name"] == without:
            columns[at % 2].markdown(f"**{without}**: several values, chosen below")
            continue
        key = _key(method, where, param)
        if key not in st.session_state:
            st.session_state[key] = _typed(param, start.get(param["name"], param["default"]))
        with columns[at % 2]:
            values[param["name"]] = _WIDGETS.get(param["type"], _text)(param, key)
    memory[f"{method['name']}/{where}"] = {**start, **values}
    return values


def fill(method: Mapping[str, Any], where: str, values: Params) -> None:
    """Set every widget of the form: a callback of the buttons beside it."""
    for param in method["params"]:
        st.session_state[_key(method, where, param)] = _typed(param, values.get(param["name"], param["default"]))


def differences(values: Params, other: Params) -> list[str]:
    """Where two settings differ, in words: `lr (0.05 instead of 0.08)`."""
    return [f"{name} ({formats.plain(value)} instead of {formats.plain(other.get(name))})"
            for name, value in values.items() if value != other.get(name)]


def command(request: Mapping[str, Any], usual: Params) -> str:
    """The command line that does what a request asks for; parameters at their default are left out."""
    words = ["python", "-m", "engine", "rerun", request["method"], "--dataset", request["dataset"], "--model", request["model"],
             "--seed", str(request["seed"])]
    words += ["--variant", request["variant"]] if request["variant"] != "corrected" else []
    for name in ("study", "sweep", "device"):
        words += [f"--{name}", request[name]] if request.get(name) else []
    for name, value in request["params"].items():
        if value != usual.get(name):
            words += ["--set", f"{name}={value if isinstance(value, str) else json.dumps(value)}"]
    return shlex.join(words)


def _key(method: Mapping[str, Any], where: str, param: Mapping[str, Any]) -> str:
    return f"param-{method['name']}/{where}/{param['name']}"


def _typed(param: Mapping[str, Any], value: Any) -> Any:
    """The value as its widget wants it."""
    return {"float": float, "int": int, "bool": bool}.get(param["type"], lambda v: v)(value)


def _help(param: Mapping[str, Any]) -> str:
    allowed = f" Allowed: {param['low']:g} to {param['high']:g}." if param["low"] is not None else ""
    search = param.get("search")
    worth = f" Worth trying: {' to '.join(formats.plain(v) for v in search)}." if isinstance(search, (list, tuple)) and len(search) == 2 else ""
    return f"{formats.sentence(param['doc'])}.{allowed}{worth} Default: {formats.plain(param['default'])}."


def _float(param: Mapping[str, Any], key: str) -> float:
    size = abs(param["default"]) or 0.1
    step = 10.0 ** floor(log10(size)) if param["log"] or size > 1 else min(0.05, size)
    low, high = (None if end is None else float(end) for end in (param["low"], param["high"]))
    return st.number_input(param["name"], min_value=low, max_value=high, step=step, format="%.4g", key=key, help=_help(param))


def _int(param: Mapping[str, Any], key: str) -> int:
    low, high = (None if end is None else int(end) for end in (param["low"], param["high"]))
    return int(st.number_input(param["name"], min_value=low, max_value=high, step=1, key=key, help=_help(param)))


def _bool(param: Mapping[str, Any], key: str) -> bool:
    return st.toggle(param["name"], key=key, help=_help(param))


def _choice(param: Mapping[str, Any], key: str) -> Any:
    return st.selectbox(param["name"], param["choices"], key=key, help=_help(param))


def _text(param: Mapping[str, Any], key: str) -> str:
    return st.text_input(param["name"], key=key, help=_help(param))


KINDS = ("float", "int", "bool", "choice")
_WIDGETS: dict[str, Callable[[Mapping[str, Any], str], Any]] = {"float": _float, "int": _int, "bool": _bool, "choice": _choice}
