"""A study file: what to compare, on which data, with which protocols; read, checked whole, and expanded into cells."""

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from engine import registry
from engine.data.catalogue import DATASETS
from engine.data.splits import FORGET_PARTS, DataSpec
from engine.errors import BadInput
from engine.jobs.cells import ENGINE_VERSION, REFERENCES, Cell, Numeric, pairs
from engine.models.catalogue import ARCHITECTURES
from engine.train import RECIPE_VERSION, Recipe, recipe_for

TUNING_FIRST_SPLIT = 1_000  # U-LiRA splits are 0, 1, …; tuning splits lie apart from them and are never attacked
FRESH_FIRST_SPLIT = 10_000  # and so do the splits of single fresh targets
_TOP = {"name", "title", "data", "model", "recipe", "numeric", "seeds", "u_lira", "timing", "search", "methods"}
_MODES, _PRECISIONS, _DEVICES = ("exact", "fast"), ("fp32", "bf16", "fp64"), ("cpu", "cuda")


@dataclass(frozen=True)
class Study:
    """grids: method -> the candidates of its declared search, one where nothing is searched. A variant is written `name/variant`.

    seeds: how many (0 leaves the protocol out); splits, forget_sets: of U-LiRA; tuning_splits: of the search.
    """

    name: str
    title: str
    content: str
    dataset: str
    pool: int | None
    model: str
    recipe: Recipe
    seeds: int
    splits: int
    forget_sets: int
    tuning_splits: int
    repeats: int
    numerics: Mapping[str, Numeric]
    grids: Mapping[str, list[dict[str, Any]]]

    # ---- cells

    def cell(self, protocol: str, method: str, *, seed: int, split: int | None = None, forget: int | None = 0,
             params: Mapping[str, Any] | None = None) -> Cell:
        return make_cell(DataSpec(self.dataset, protocol, self.pool, split, forget), self.model, method, seed=seed, recipe=self.recipe,
                         params=params, numeric=self.numerics[protocol])

    def tuning(self) -> Iterator[tuple[str, int, dict[str, Any], Cell]]:
        """(method, trial, params, cell) of every trial on every tuning split."""
        for method, candidates in self.grids.items():
            if len(candidates) > 1:
                for (trial, params), s in itertools.product(enumerate(candidates), range(self.tuning_splits)):
                    split = TUNING_FIRST_SPLIT + s
                    yield method, trial, params, self.cell("tuning", method, seed=split, split=split, params=params)

    def models(self, chosen: Mapping[str, Mapping[str, Any]]) -> Iterator[tuple[str, Cell]]:
        """(role, cell) of every model that the study reports, with the chosen settings."""
        for seed in range(self.seeds):
            for method in ("retrained", "original"):
                yield "seeds", self.cell("seeds", method, seed=seed)
            for method, params in chosen.items():
                yield "seeds", self.cell("seeds", method, seed=seed, params=params)
        for s in range(self.splits):
            yield "u_lira", self.cell("u_lira", "original", seed=s, split=s, forget=None)
            for forget in range(self.forget_sets):
                yield "u_lira", self.cell("u_lira", "retrained", seed=s, split=s, forget=forget)
                for method, params in chosen.items():
                    yield "u_lira", self.cell("u_lira", method, seed=s, split=s, forget=forget, params=params)


def make_cell(data: DataSpec, model: str, method: str, *, seed: int, recipe: Recipe, params: Mapping[str, Any] | None = None,
              numeric: Numeric) -> Cell:
    """A cell with the present versions of everything it depends on.

    method: a name, or `name/variant`. params: complete or partial, checked against the method's.
    """
    versions = {"engine": ENGINE_VERSION, "recipe": RECIPE_VERSION, "data": DATASETS[data.dataset].version, "model": ARCHITECTURES[model].version}
    if method in REFERENCES:
        return Cell(data, model, method, seed, pairs(recipe.to_dict()), numeric=numeric, versions=pairs(versions))
    known = registry.get(method)
    whole = known.params.from_dict(params or {}, method).to_dict()
    return Cell(data, model, known.name, seed, pairs(recipe.to_dict()), pairs(whole), variant=known.variant, numeric=numeric,
                versions=pairs(versions | {"method": known.version} | ({"source": int(known.source_hash[:8], 16)} if known.plugin else {})))


def read(path: Path, *, exact: bool = False) -> Study:
    """The study in a YAML file. exact: every protocol on the exact path.

    Raises: BadInput with all faults at once.
    """
    try:
        text = path.read_text(encoding="utf-8")
        body = yaml.safe_load(text)
    except OSError as error:
        raise BadInput(f"{path}: cannot be read ({error.strerror}); give the path of a study file such as data/studies/embedded.yaml") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise BadInput(f"{path}: is not YAML ({error})") from error
    if not isinstance(body, dict):
        raise BadInput(f"{path}: must be a mapping with {', '.join(sorted(_TOP))}; data/studies/embedded.yaml is an example")
    return _Reader(str(path)).study(body, text, exact)


class _Reader:
    """Reads one study and collects every fault on the way."""

    def __init__(self, name: str) -> None:
        self.name, self.faults = name, list[str]()

    def study(self, body: dict[str, Any], text: str, exact: bool) -> Study:
        self._known(body, _TOP, "")
        data = self._section(body, "data", {"dataset", "pool"})
        seeds = self._section(body, "seeds", {"count", "mode", "precision"})
        u_lira = self._section(body, "u_lira", {"splits", "forget_sets", "mode", "precision"})
        timing = self._section(body, "timing", {"repeats"})
        search = self._section(body, "search", {"splits"})
        numeric = self._section(body, "numeric", {"device"})
        device = self._one_of(numeric, "numeric.device", "device", _DEVICES, "cpu")
        dataset, model = self._named(data, "data.dataset", "dataset", DATASETS), self._named(body, "model", "model", ARCHITECTURES)
        recipe = self._recipe(body.get("recipe"), dataset, model)
        numerics = {"seeds": self._numeric(seeds, "seeds", device, exact, "exact"), "u_lira": self._numeric(u_lira, "u_lira", device, exact, "fast")}
        grids = self._methods(body.get("methods"))
        made = {
            "seeds": self._count(seeds, "seeds.count", "count", 0, 1000, 0),
            "splits": self._count(u_lira, "u_lira.splits", "splits", 0, TUNING_FIRST_SPLIT, 0),
            "forget_sets": self._count(u_lira, "u_lira.forget_sets", "forget_sets", 1, FORGET_PARTS, FORGET_PARTS),
            "tuning_splits": self._count(search, "search.splits", "splits", 1, 1000, 8),
            "repeats": self._count(timing, "timing.repeats", "repeats", 0, 100, 0),
        }
        pool = self._count(data, "data.pool", "pool", 20, 10_000_000, 0) or None
        name = body.get("name")
        if not (isinstance(name, str) and name.replace("_", "").replace("-", "").isalnum()):
            self.faults.append(f"name: got {name!r}, must be a word of letters, digits, _ and -")
        if self.faults:
            raise BadInput(*(f"{self.name}: {fault}" for fault in self.faults))
        assert isinstance(name, str) and dataset is not None and model is not None and recipe is not None
        return Study(name, str(body.get("title", name)), text, dataset, pool, model, recipe, numerics=numerics | {"tuning": numerics["u_lira"]},
                     grids=grids, **made)

    def _known(self, given: Mapping[str, Any], allowed: set[str], where: str) -> None:
        for key in given:
            if key not in allowed:
                self.faults.append(f"{where}{key}: not known here; allowed: {', '.join(sorted(allowed))}")

    def _section(self, body: dict[str, Any], name: str, allowed: set[str]) -> dict[str, Any]:
        given = body.get(name, {})
        if not isinstance(given, dict):
            self.faults.append(f"{name}: got {given!r}, must be a mapping with {', '.join(sorted(allowed))}")
            return {}
        self._known(given, allowed, f"{name}.")
        return given

    def _count(self, given: Mapping[str, Any], where: str, key: str, low: int, high: int, default: int) -> int:
        value = given.get(key)
        if value is None:
            return default
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            self.faults.append(f"{where}: got {value!r}, must be int in [{low}, {high}]")
            return default
        return value

    def _one_of(self, given: Mapping[str, Any], where: str, key: str, allowed: tuple[str, ...], default: str) -> str:
        value = given.get(key, default)
        if value not in allowed:
            self.faults.append(f"{where}: got {value!r}, must be one of {', '.join(allowed)}")
            return default
        return value

    def _named(self, given: Mapping[str, Any], where: str, key: str, among: Mapping[str, Any]) -> str | None:
        value = given.get(key)
        if value in among:
            return value
        try:
            registry.pick(str(value), dict(among), key, f"{key}s")
        except BadInput as error:
            self.faults.append(f"{where}: {error}")
        return None

    def _numeric(self, given: Mapping[str, Any], where: str, device: str, exact: bool, default: str) -> Numeric:
        mode = self._one_of(given, f"{where}.mode", "mode", _MODES, default)
        return Numeric("exact" if exact else mode, self._one_of(given, f"{where}.precision", "precision", _PRECISIONS, "fp32"), device)

    def _recipe(self, given: Any, dataset: str | None, model: str | None) -> Recipe | None:
        if dataset is None or model is None:
            return None
        base = recipe_for(dataset, model).to_dict()
        if given is not None and not isinstance(given, dict):
            self.faults.append(f"recipe: got {given!r}, must be a mapping with {', '.join(base)}")
            return None
        try:
            return Recipe.from_dict(base | (given or {}), "recipe")
        except BadInput as error:
            self.faults.extend(error.faults)
            return None

    def _methods(self, given: Any) -> dict[str, list[dict[str, Any]]]:
        if not isinstance(given, dict) or not given:
            self.faults.append("methods: must map method names to {set: {...}} or {search: {name: [values]}}; `python -m engine methods` lists all")
            return {}
        grids = {}
        for name, options in given.items():
            try:
                method = registry.get(str(name))
            except BadInput as error:
                self.faults.extend(f"methods.{fault}" for fault in error.faults)
                continue
            options = options or {}
            self._known(options, {"set", "search"}, f"methods.{name}.")
            fixed, grid = options.get("set") or {}, {k: v if isinstance(v, list) else [v] for k, v in (options.get("search") or {}).items()}
            candidates = [fixed | dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values())]
            grids[str(name)] = []
            seen: set[str] = set()
            for candidate in candidates:
                try:
                    grids[str(name)].append(method.params.from_dict(candidate, method.name).to_dict())
                except BadInput as error:
                    self.faults.extend(fault for fault in error.faults if fault not in seen)
                    seen.update(error.faults)
        return grids


