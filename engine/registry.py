"""Methods announce themselves with `@method`; nobody lists them by hand.

`load()` imports every module of `engine.unlearn` once and returns what they announced.
"""

import difflib
import hashlib
import importlib
import inspect
import pkgutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from engine.errors import BadInput
from engine.params import Params

if TYPE_CHECKING:
    from engine.data.loader import Splits
    from engine.models.stack import Stack
    from engine.runtime import PerReplica, Run

FAMILIES = ("reference", "finetune", "ascent", "distillation", "reset", "second_order")
SOURCES = ("paper", "code", "reconstruction")
SPLITS = ("retain", "forget", "val", "test")

Unlearn = Callable[["Stack", "Splits", "PerReplica", "Run"], "Stack"]


@dataclass(frozen=True)
class Method:
    """One unlearning method as the registry knows it."""

    name: str
    label: str
    family: str
    source: str
    paper: str
    reads: frozenset[str]
    version: int
    params: type[Params]
    run: Unlearn
    doc: str
    source_hash: str

    def describe(self) -> dict[str, Any]:
        return {"name": self.name, "label": self.label, "family": self.family, "source": self.source, "paper": self.paper, "variants": ["corrected"],
                "reads": sorted(self.reads), "version": self.version, "doc": self.doc, "params": self.params.describe()}


T = TypeVar("T")

_methods: dict[str, Method] = {}


def method(name: str, *, label: str, family: str, source: str, paper: str, reads: Iterable[str], version: int,
           params: type[Params]) -> Callable[[Unlearn], Unlearn]:
    """Announce the decorated function as the unlearning method `name`.

    reads: the splits it is handed; all others are unreadable to it. version: raise it whenever its numbers change.
    """
    if family not in FAMILIES or source not in SOURCES or not set(reads) <= set(SPLITS):
        raise ValueError(f"method {name}: family must be one of {FAMILIES}, source one of {SOURCES}, reads within {SPLITS}")

    def announce(run: Unlearn) -> Unlearn:
        module = inspect.getmodule(run)
        path = Path(inspect.getfile(run))
        doc = (inspect.getdoc(module) or "").strip()
        _methods[name] = Method(name, label, family, source, paper, frozenset(reads), version, params, run, doc,
                                hashlib.sha256(path.read_bytes()).hexdigest()[:16])
        return run

    return announce


def load() -> dict[str, Method]:
    """All methods by name, in alphabetical order."""
    package = importlib.import_module("engine.unlearn")
    for found in pkgutil.iter_modules(package.__path__):
        importlib.import_module(f"engine.unlearn.{found.name}")
    return dict(sorted(_methods.items()))


def get(name: str) -> Method:
    """The method called `name`. Raises: BadInput that names the nearest one."""
    return pick(name, load(), "method", "methods")


def pick(name: str, among: dict[str, T], what: str, command: str) -> T:
    """`among[name]`, or BadInput with the nearest name and the command that lists all."""
    if name in among:
        return among[name]
    near = difflib.get_close_matches(name, among, n=1)
    hint = f"; did you mean '{near[0]}'?" if near else "."
    raise BadInput(f"no {what} named '{name}'{hint} `python -m engine {command}` lists all")
