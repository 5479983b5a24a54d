"""Methods announce themselves with `@method`; nobody lists them by hand.

`load()` imports every module of `engine.unlearn` once, and those of its `official` variants, then plug-ins (the files of the folder
`$LETHE_PLUGINS`, which `--plugins` sets, and what installed packages offer as entry points `lethe.methods`), and returns what they announced.
Written in a study file or an identity, a variant is `name/variant`; the corrected one is `name` alone.
"""

import difflib
import hashlib
import importlib
import importlib.metadata
import importlib.util
import inspect
import os
import pkgutil
import sys
import traceback
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cache
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
PLUGINS = "LETHE_PLUGINS"  # in the environment, so that workers and jobs, which are processes of their own, know it too
ENTRY_POINTS = "lethe.methods"
_PACKAGES = ("engine.unlearn", "engine.unlearn.official")

Walks = Callable[[Mapping[str, Any], int], float]
Unlearn = Callable[["Stack", "Splits", "PerReplica", "Run"], "Stack"]


@dataclass(frozen=True)
class Method:
    """One unlearning method as the registry knows it. variant: corrected, or official for the released benchmark code's behaviour.
    walks: over its data that a run takes as long as, from its parameters and the number of classes; None where that is its `epochs`.
    plugin: it comes from outside; then its source is part of what a result is, since nobody raises a version while trying things out."""

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
    plugin: bool
    walks: Walks | None = None

    @property
    def key(self) -> str:
        return key_of(self.name, self.variant)

    def describe(self) -> dict[str, Any]:
        """The method for the catalogue; of a method with variants also how each differs."""
        others = [m for m in load().values() if m.name == self.name and m.variant != self.variant]
        return {"name": self.name, "label": self.label, "family": self.family, "source": self.source, "paper": self.paper,
                "variants": [self.variant, *(m.variant for m in others)], "reads": sorted(self.reads), "version": self.version, "doc": self.doc,
                "params": self.params.describe(), "source_hash": self.source_hash, "plugin": self.plugin,
                "others": {m.variant: {"reads": sorted(m.reads), "version": m.version, "doc": m.doc, "params": m.params.describe(),
                                       "source_hash": m.source_hash} for m in others}}


T = TypeVar("T")

_methods: dict[str, Method] = {}


def method(name: str, *, label: str, family: str, source: str, paper: str, reads: Iterable[str], version: int, params: type[Params],
           variant: str = "corrected", walks: Walks | None = None) -> Callable[[Unlearn], Unlearn]:
    """Announce the decorated function as the unlearning method `name`. walks: see `Method`; they size tasks and tell how long is left.

    reads: the splits it is handed; all others are unreadable to it. version: raise it whenever its numbers change.
    """
    if variant not in VARIANTS or family not in FAMILIES or source not in SOURCES or not set(reads) <= set(SPLITS):
        raise ValueError(f"method {name}: family must be one of {FAMILIES}, source one of {SOURCES}, variant one of {VARIANTS}, reads within {SPLITS}")

    def announce(run: Unlearn) -> Unlearn:
        own = inspect.unwrap(run)  # a type checker's wrapper is of another file
        path = Path(inspect.getfile(own))
        doc = inspect.cleandoc(own.__globals__.get("__doc__") or "").strip()
        plugin = not run.__module__.startswith("engine.")
        known = _methods.get(key_of(name, variant))
        if known is not None and known.run.__module__ != run.__module__:
            raise BadInput(f"{path}: announces a method '{name}', and {known.run.__module__} does already; choose another name")
        _methods[key_of(name, variant)] = Method(name, variant, label, family, source, paper, frozenset(reads), version, params, run, doc,
                                hashlib.sha256(path.read_bytes()).hexdigest()[:16], plugin, walks)
        return run

    return announce


def key_of(name: str, variant: str = "corrected") -> str:
    """How a method is written in study files: `salun`, `salun/official`."""
    return name if variant == "corrected" else f"{name}/{variant}"


def load() -> dict[str, Method]:
    """All methods and variants by key, in alphabetical order. Raises: BadInput for a plug-in that cannot be loaded."""
    load_own()
    _load_installed()
    if folder := os.environ.get(PLUGINS):
        _load_folder(Path(folder))
    return dict(sorted(_methods.items()))


def load_own() -> list[Method]:
    """The methods of this repository."""
    _import_own()
    return [m for m in _methods.values() if not m.plugin]


@cache
def _import_own() -> None:
    for package in map(importlib.import_module, _PACKAGES):
        for found in pkgutil.iter_modules(package.__path__):
            importlib.import_module(f"{package.__name__}.{found.name}")


@cache  # finding entry points reads the metadata of everything installed
def _load_installed() -> None:
    for entry in importlib.metadata.entry_points(group=ENTRY_POINTS):
        entry.load()


def _load_folder(folder: Path) -> None:
    """Import each `*.py` of a folder once. Raises: BadInput, naming the file that cannot be imported and why."""
    if not folder.is_dir():
        raise BadInput(f"plugins: {folder} is not a folder; give one with method files (`python -m engine --plugins DIR new-method NAME` writes one)")
    for path in sorted(folder.glob("[!_]*.py")):
        name = f"lethe_plugins.{path.stem}"
        if name in sys.modules:
            continue
        spec = importlib.util.spec_from_file_location(name, path)
        assert spec is not None and spec.loader is not None
        sys.modules[name] = module = importlib.util.module_from_spec(spec)
        try:
            spec.loader.exec_module(module)
        except BadInput:
            del sys.modules[name]
            raise
        except Exception as error:  # the boundary to somebody else's code: whatever it is, they want to know the file and the line
            del sys.modules[name]
            line = next((f.lineno for f in reversed(traceback.extract_tb(error.__traceback__)) if f.filename == str(path)), None)
            where = path if line is None else f"{path}, line {line}"
            raise BadInput(f"plug-in {where}: {type(error).__name__}: {error}") from error


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
