"""Methods announce themselves with `@method`; nobody lists them by hand.

`load()` imports every module of `engine.unlearn` once, and those of its `official` variants, and returns what they announced.
Written in a study file or an identity, a variant is `name/variant`; the corrected one is `name` alone.
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
VARIANTS = ("corrected", "official")
_PACKAGES = ("engine.unlearn", "engine.unlearn.official")

Unlearn = Callable[["Stack", "Splits", "PerReplica", "Run"], "Stack"]


@dataclass(frozen=True)
class Method:
    """One unlearning method as the registry knows it. variant: corrected, or official for the released benchmark code's behaviour."""

    name: str
    variant: str
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

    @property
    def key(self) -> str:
        return key_of(self.name, self.variant)

    def describe(self) -> dict[str, Any]:
        """The method for the catalogue; of a method with variants also how each differs."""
        others = [m for m in load().values() if m.name == self.name and m.variant != self.variant]
        return {"name": self.name, "label": self.label, "family": self.family, "source": self.source, "paper": self.paper,
                "variants": [self.variant, *(m.variant for m in others)], "reads": sorted(self.reads), "version": self.version, "doc": self.doc,
                "params": self.params.describe(), "source_hash": self.source_hash,
                "others": {m.variant: {"reads": sorted(m.reads), "version": m.version, "doc": m.doc, "params": m.params.describe(),
                                       "source_hash": m.source_hash} for m in others}}


T = TypeVar("T")

_methods: dict[str, Method] = {}


def method(name: str, *, label: str, family: str, source: str, paper: str, reads: Iterable[str], version: int, params: type[Params],
           variant: str = "corrected") -> Callable[[Unlearn], Unlearn]:
    """Announce the decorated function as the unlearning method `name`.

    reads: the splits it is handed; all others are unreadable to it. version: raise it whenever its numbers change.
    """
    if variant not in VARIANTS or family not in FAMILIES or source not in SOURCES or not set(reads) <= set(SPLITS):
        raise ValueError(f"method {name}: family must be one of {FAMILIES}, source one of {SOURCES}, variant one of {VARIANTS}, reads within {SPLITS}")

    def announce(run: Unlearn) -> Unlearn:
        module = inspect.getmodule(run)
        path = Path(inspect.getfile(run))
        doc = (inspect.getdoc(module) or "").strip()
        _methods[key_of(name, variant)] = Method(name, variant, label, family, source, paper, frozenset(reads), version, params, run, doc,
                                hashlib.sha256(path.read_bytes()).hexdigest()[:16])
        return run

    return announce


def key_of(name: str, variant: str = "corrected") -> str:
    """How a method is written in study files: `salun`, `salun/official`."""
    return name if variant == "corrected" else f"{name}/{variant}"


def load() -> dict[str, Method]:
    """All methods and variants by key, in alphabetical order."""
    for package in map(importlib.import_module, _PACKAGES):
        for found in pkgutil.iter_modules(package.__path__):
            importlib.import_module(f"{package.__name__}.{found.name}")
    return dict(sorted(_methods.items()))


def get(name: str, variant: str = "corrected") -> Method:
    """The method called `name`, or the key `name/variant`. Raises: BadInput that names the nearest one, or the variants there are."""
    known = load()
    if name in known and key_of(name, variant) not in known:
        there = [m.variant for m in known.values() if m.name == name]
        raise BadInput(f"variant: got {variant!r}, {name} has {' and '.join(there)}")
    return pick(key_of(name, variant), known, "method", "methods")


def pick(name: str, among: dict[str, T], what: str, command: str) -> T:
    """`among[name]`, or BadInput with the nearest name and the command that lists all."""
    if name in among:
        return among[name]
    near = difflib.get_close_matches(name, among, n=1)
    hint = f"; did you mean '{near[0]}'?" if near else "."
    raise BadInput(f"no {what} named '{name}'{hint} `python -m engine {command}` lists all")
