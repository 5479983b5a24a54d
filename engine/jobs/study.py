"""A study file: what to compare, on which data, with which protocols; read, checked whole, and expanded into cells."""

import itertools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from engine import registry
from engine.data.catalogue import canonical
from engine.data.catalogue import get as dataset_info
from engine.data.splits import FORGET_SHARE, DataSpec, forget_sets
from engine.errors import BadInput
from engine.jobs.cells import ENGINE_VERSION, REFERENCES, Cell, Numeric, pairs
from engine.models.catalogue import ARCHITECTURES
from engine.search import deep_unlearn, grid, racing
from engine.search.protocol import Ask, Search
from engine.search.space import Space
from engine.train import RECIPE_VERSION, Recipe, recipe_for

TUNING_FIRST_SPLIT = 1_000  # U-LiRA splits are 0, 1, …; tuning splits lie apart from them and are never attacked
FRESH_FIRST_SPLIT = 10_000  # and so do the splits of single fresh targets
_TOP = {"name", "title", "data", "model", "recipe", "numeric", "seeds", "u_lira", "timing", "search", "methods"}
_TWIN = 100_000  # added to a seed: another model of the same split
# kind of search -> its settings: (default, least, most)
_SEARCHES: dict[str, dict[str, tuple[int, int, int]]] = {
    "grid": {"splits": (8, 1, 400)},
    "racing": {"trials": (48, 1, 10_000), "splits": (4, 1, 400), "fresh_splits": (8, 1, 400), "keep": (4, 1, 100)},
    "deep_unlearn": {"trials": (100, 1, 10_000), "seeds": (3, 1, 100)},
}
_VERSIONS = {"grid": grid.VERSION, "racing": racing.VERSION, "deep_unlearn": deep_unlearn.VERSION}
_VARY = ("weights", "split")
_MODES, _PRECISIONS, _DEVICES = ("exact", "fast"), ("fp32", "bf16", "fp64"), ("cpu", "cuda")


@dataclass(frozen=True)
class Sought:
    """A method's settings as a study asks for them: one candidate, a list of them, or a space to be searched (no candidates)."""

    space: Space
    candidates: tuple[dict[str, Any], ...]

    @property
    def settled(self) -> dict[str, Any] | None:
        """The setting, where nothing is searched."""
        return self.candidates[0] if len(self.candidates) == 1 else None


@dataclass(frozen=True)
class Study:
    """sought: method -> its settings. A variant is written `name/variant`. how: kind of the search and its numbers.

    seeds: how many (0 leaves the protocol out); splits, forget_sets: of U-LiRA. forget_share: of what is trained on, in one forget set.
    varied: each seed has a split and forget set of its own, not only initial weights and data order.
    """

    name: str
    title: str
    content: str
    dataset: str
    pool: int | None
    forget_share: float
    model: str
    recipe: Recipe
    seeds: int
    varied: bool
    splits: int
    forget_sets: int
    repeats: int
    numerics: Mapping[str, Numeric]
    how: Mapping[str, Any]
    sought: Mapping[str, Sought]

    # ---- cells

    def cell(self, protocol: str, method: str, *, seed: int, split: int | None = None, forget: int | None = 0,
             params: Mapping[str, Any] | None = None) -> Cell:
        return make_cell(self.data(protocol, seed, split, forget), self.model, method, seed=seed, recipe=self.recipe, params=params,
                         numeric=self.numerics[protocol])

    def data(self, protocol: str, seed: int, split: int | None = None, forget: int | None = 0) -> DataSpec:
        """Which examples play which part in a cell of this study."""
        share = FORGET_SHARE if forget is None else self.forget_share
        return DataSpec(self.dataset, protocol, self.pool, seed if protocol == "seeds" and self.varied else split, forget, share)

    def searches(self) -> dict[str, Search]:
        """A search for each method that has something to be searched."""
        how = self.how
        splits = range(TUNING_FIRST_SPLIT, TUNING_FIRST_SPLIT + how.get("splits", 0))
        fresh = range(splits.stop, splits.stop + how.get("fresh_splits", 0))
        made: dict[str, Search] = {}
        for method, sought in self.sought.items():
            if sought.settled is not None:
                continue
            if sought.candidates:
                made[method] = grid.search(sought.candidates, splits)
            elif how["kind"] == "racing":
                made[method] = racing.search(sought.space, splits, fresh, how["trials"], how["keep"])
            else:
                made[method] = deep_unlearn.search(sought.space, how["seeds"], how["trials"])
        return made

    def asked(self, method: str, ask: Ask) -> Cell:
        """The cell that a search of `method` asks for."""
        protocol, split = ("seeds", None) if self.how["kind"] == "deep_unlearn" else ("tuning", ask.place)
        if ask.params is None:
            return self.cell(protocol, "retrained", seed=ask.place + _TWIN, split=split)
        return self.cell(protocol, method, seed=ask.place, split=split, params=ask.params)

    def reference(self, ask: Ask) -> Cell:
        """The retrained model that the answer to it is compared with."""
        return self.asked("retrained", replace(ask, params={}))

    def search_content(self, method: str) -> dict[str, Any]:
        """What a search is, by all that its outcome depends on."""
        sought = self.sought[method]
        like = self.reference(Ask({}, TUNING_FIRST_SPLIT)).content
        return {"kind": "search", "method": method, "how": dict(self.how), "version": _VERSIONS[str(self.how["kind"])], "like": like,
                "method_version": registry.get(method).version, "candidates": list(sought.candidates), "fixed": dict(sought.space.fixed),
                "ranges": {name: list(values) for name, values in sought.space.ranges.items()}}

    def models(self, chosen: Mapping[str, Mapping[str, Any]]) -> Iterator[tuple[str, Cell]]:
        """(role, cell) of every model that the study reports, with the chosen settings.

        twin: a second retrained model of the same split. Where splits vary, two seeds differ by more than retraining's noise.
        """
        for seed in range(self.seeds):
            for method in ("retrained", "original"):
                yield "seeds", self.cell("seeds", method, seed=seed)
            if self.varied:
                yield "twin", replace(self.cell("seeds", "retrained", seed=seed), seed=seed + _TWIN)
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
    info = dataset_info(data.dataset)
    data = replace(data, dataset=info.name)
    versions = {"engine": ENGINE_VERSION, "recipe": RECIPE_VERSION, "data": info.version, "model": ARCHITECTURES[model].version}
    if method in REFERENCES:
        return Cell(data, model, method, seed, pairs(recipe.to_dict()), numeric=numeric, versions=pairs(versions))
    known = registry.get(method)
    whole = known.params.from_dict(params or {}, method).to_dict()
    return Cell(data, model, known.name, seed, pairs(recipe.to_dict()), pairs(whole), variant=known.variant, numeric=numeric,
                versions=pairs(versions | {"method": known.version} | ({"source": int(known.source_hash[:8], 16)} if known.plugin else {})))


def read(path: Path, *, exact: bool = False) -> list[Study]:
    """The studies in a YAML file: one, or one for each of its `parts`, which replace sections of the whole and have names of their own.

    exact: every protocol on the exact path. Raises: BadInput with all faults at once.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise BadInput(f"{path}: cannot be read ({error.strerror}); give the path of a study file such as data/studies/embedded.yaml") from error
    except UnicodeDecodeError as error:
        raise BadInput(f"{path}: is not YAML ({error})") from error
    return parse(text, str(path), exact=exact)


def parse(text: str, where: str, *, exact: bool = False) -> list[Study]:
    """The studies in the text of a study file; `where` names it in faults. Raises: BadInput as `read`."""
    try:
        body = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise BadInput(f"{where}: is not YAML ({error})") from error
    if not isinstance(body, dict):
        raise BadInput(f"{where}: must be a mapping with {', '.join(sorted(_TOP))}; data/studies/embedded.yaml is an example")
    given = body.pop("parts", None)
    if given is None:
        return [_Reader(where).study(body, text, exact)]
    if not (isinstance(given, list) and given and all(isinstance(part, dict) and part.get("name") for part in given)):
        raise BadInput(f"{where}: parts: got {given!r}, must be a list of mappings, each with a name and the sections that differ")
    made, faults = [], list[str]()
    for part in given:
        whole = {**body, **part, "name": f"{body.get('name')}-{part['name']}"}
        try:
            made.append(_Reader(f"{where}, part {part['name']}").study(whole, text, exact))
        except BadInput as error:
            faults.extend(error.faults)
    if faults:
        raise BadInput(*faults)
    return made


class _Reader:
    """Reads one study and collects every fault on the way."""

    def __init__(self, name: str) -> None:
        self.name, self.faults = name, list[str]()

    def study(self, body: dict[str, Any], text: str, exact: bool) -> Study:
        self._known(body, _TOP, "")
        data = self._section(body, "data", {"dataset", "pool", "forget_share"})
        seeds = self._section(body, "seeds", {"count", "vary", "mode", "precision"})
        u_lira = self._section(body, "u_lira", {"splits", "forget_sets", "mode", "precision"})
        timing = self._section(body, "timing", {"repeats"})
        how = self._search(body)
        numeric = self._section(body, "numeric", {"device"})
        device = self._one_of(numeric, "numeric.device", "device", _DEVICES, "cpu")
        dataset = self._named(data, "data.dataset", "dataset", canonical)
        model = self._named(body, "model", "model", lambda name: registry.pick(name, ARCHITECTURES, "model", "models").name)
        recipe = self._recipe(body.get("recipe"), dataset, model)
        fused = model is None or ARCHITECTURES[model].fused is not None
        numerics = {"seeds": self._numeric(seeds, "seeds", device, exact, "exact"),
                    "u_lira": self._numeric(u_lira, "u_lira", device, exact, "fast" if fused else "exact")}
        if not fused and any(n.mode == "fast" for n in numerics.values()):
            self.faults.append(f"mode: got fast, but {model} has no fused form; leave it out or set exact")
        sought = self._methods(body.get("methods"), str(how["kind"]), recipe.epochs if recipe else 1)
        share = self._share(data)
        made = {
            "seeds": self._count(seeds, "seeds.count", "count", 0, 1000, 0),
            "splits": self._count(u_lira, "u_lira.splits", "splits", 0, TUNING_FIRST_SPLIT, 0),
            "forget_sets": self._count(u_lira, "u_lira.forget_sets", "forget_sets", 1, forget_sets(share), forget_sets(share)),
            "repeats": self._count(timing, "timing.repeats", "repeats", 0, 100, 0),
        }
        pool = self._count(data, "data.pool", "pool", 20, 10_000_000, 0) or None
        vary = self._one_of(seeds, "seeds.vary", "vary", _VARY, "weights")
        name = body.get("name")
        if not (isinstance(name, str) and name.replace("_", "").replace("-", "").isalnum()):
            self.faults.append(f"name: got {name!r}, must be a word of letters, digits, _ and -")
        if self.faults:
            raise BadInput(*(f"{self.name}: {fault}" for fault in self.faults))
        assert isinstance(name, str) and dataset is not None and model is not None and recipe is not None
        return Study(name, str(body.get("title", name)), text, dataset, pool, share, model, recipe, varied=vary == "split",
                     numerics=numerics | {"tuning": numerics["u_lira"]}, how=how, sought=sought, **made)

    def _search(self, body: dict[str, Any]) -> dict[str, Any]:
        """The kind of search and its numbers, complete."""
        given = self._section(body, "search", {"kind", *(name for numbers in _SEARCHES.values() for name in numbers)})
        kind = self._one_of(given, "search.kind", "kind", tuple(_SEARCHES), "grid")
        self._known(given, {"kind", *_SEARCHES[kind]}, "search.")
        return {"kind": kind, **{name: self._count(given, f"search.{name}", name, least, most, default)
                                 for name, (default, least, most) in _SEARCHES[kind].items()}}

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

    def _share(self, data: Mapping[str, Any]) -> float:
        value = data.get("forget_share", FORGET_SHARE)
        if not isinstance(value, float) or not 0.001 <= value <= 0.5:
            self.faults.append(f"data.forget_share: got {value!r}, must be float in [0.001, 0.5]")
            return FORGET_SHARE
        return value

    def _one_of(self, given: Mapping[str, Any], where: str, key: str, allowed: tuple[str, ...], default: str) -> str:
        value = given.get(key, default)
        if value not in allowed:
            self.faults.append(f"{where}: got {value!r}, must be one of {', '.join(allowed)}")
            return default
        return value

    def _named(self, given: Mapping[str, Any], where: str, key: str, known: Callable[[str], str]) -> str | None:
        try:
            return known(str(given.get(key)))
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

    def _methods(self, given: Any, kind: str, epochs: int) -> dict[str, Sought]:
        if not isinstance(given, dict) or not given:
            self.faults.append("methods: must map method names to {set: {...}} or {search: {name: [values]}}; `python -m engine methods` lists all")
            return {}
        made = {}
        for name, options in given.items():
            try:
                method = registry.get(str(name))
            except BadInput as error:
                self.faults.extend(f"methods.{fault}" for fault in error.faults)
                continue
            options = options or {}
            if not isinstance(options, dict):
                self.faults.append(f"methods.{name}: got {options!r}, must be a mapping with search, set")
                continue
            self._known(options, {"set", "search"}, f"methods.{name}.")
            fixed, search = options.get("set") or {}, options.get("search", kind != "grid")
            ranges = {k: tuple(v) if isinstance(v, list) else (v,) for k, v in search.items()} if isinstance(search, dict) else {}
            if found := self._sought(method, fixed, ranges, bool(search) and kind != "grid", epochs):
                made[method.key] = found
        return made

    def _sought(self, method: registry.Method, fixed: dict[str, Any], ranges: dict[str, tuple[Any, ...]], open_ended: bool, epochs: int) -> Sought | None:
        """open_ended: searched over what the method declares, in `ranges` where they are given; else over their product.

        Every candidate, and both ends of every range, must be legal.
        """
        product = [fixed | dict(zip(ranges, values, strict=True)) for values in itertools.product(*ranges.values())]
        candidates, faults = [], list[str]()
        for candidate in product:
            try:
                candidates.append(method.params.from_dict(candidate, method.key).to_dict())
            except BadInput as error:
                faults.extend(fault for fault in error.faults if fault not in faults)
        self.faults.extend(faults)
        if faults:
            return None
        space = Space(method.params, {name: candidates[0][name] for name in fixed}, ranges, epochs)
        return Sought(space, () if open_ended and space.searched() else tuple(candidates))
