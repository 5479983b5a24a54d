"""What was published, claim by claim: the files of `data/reported/`, one a source, and their check.

    {"source": {"title", "authors", "venue", "reference": arXiv number or repository and commit, "url", "third_party", "about"},
     "claims": [{"key", "statement", "place": where in the source, "certainty": see CERTAINTY, "told_by", "note",
                 "setting": {"datasets", "models", "epochs": by dataset, "scenario", "forget_share", "tuned", "released", "otherwise"},
                 "needs": {"datasets", "models"}, "rule": see below, or null where no number is at hand}]}

    {"kind": "figures", "metric", "figures": by method, "within", "seeds": behind each figure}     one claim a figure
    {"kind": "order", "worse": {"methods", "metric", "attack"}, "than": the same, "best": of the metric, "least"}
    {"kind": "noise", "methods", "metrics", "faster"}
    {"kind": "unmeasured", "needs": what is not measured here, in words}

What the rules mean is said in `verdicts`. Facts that are not at hand are null: then nothing here can be called the claim's setting.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from engine.errors import BadInput
from engine.store import standings

# how sure we are of what was reported
CERTAINTY = {"paper": "read in the paper", "code": "from the authors' code", "third party": "a third party's own run",
             "relayed": "relayed by others who read the paper", "memory": "remembered, not checked against the paper", "none": "no number at hand"}
RANDOM = "random examples"  # what is forgotten where nothing else is said

_KINDS: dict[type, str] = {str: "a text", float: "a number", int: "a whole number", bool: "true or false", dict: "an object", list: "a list"}


@dataclass(frozen=True)
class Source:
    """third_party: not by the authors of what it is about. reference: arXiv number, or repository and commit. about: in a sentence, or empty."""

    title: str
    authors: str
    venue: str
    reference: str
    url: str
    third_party: bool
    about: str


@dataclass(frozen=True)
class Setting:
    """datasets, models: None where not at hand. epochs: by dataset, of training. forget_share, tuned: None where they do not matter.

    released: that the released code is what was run. otherwise: what no study here can have in common with it, in words.
    """

    datasets: tuple[str, ...] | None
    models: tuple[str, ...] | None
    epochs: Mapping[str, int]
    scenario: str = RANDOM
    forget_share: float | None = None
    tuned: bool | None = None
    released: bool = False
    otherwise: tuple[str, ...] = ()


@dataclass(frozen=True)
class Side:
    """methods: none are those of the other side, each against itself. attack: empty for U-LiRA and for what is measured of single models."""

    methods: tuple[str, ...]
    metric: str
    attack: str = ""


@dataclass(frozen=True)
class Figure:
    """value: reported, in units of the metric. within: how far off still counts as the same. seeds: behind it, None where not known."""

    method: str
    metric: str
    value: float
    within: float
    seeds: int | None


@dataclass(frozen=True)
class Order:
    """Each method of `worse` is further from the best value than each of `than`, in the share `least` of the pairs."""

    worse: Side
    than: Side
    best: float
    least: float = 1.0


@dataclass(frozen=True)
class Noise:
    """Every method is within retraining's noise in every metric, and faster than retraining if so claimed."""

    methods: tuple[str, ...]
    metrics: tuple[str, ...]
    faster: bool = False


@dataclass(frozen=True)
class Unmeasured:
    """needs: what would have to be measured, and is not, in words."""

    needs: str


Rule = Figure | Order | Noise | Unmeasured


@dataclass(frozen=True)
class Claim:
    """key: of its own among all claims. place: where in the source. told_by: who relays it, else empty. rule: None where no number is at hand.

    needs: fewest datasets and architectures on which it must hold.
    """

    key: str
    source: Source
    statement: str
    place: str
    certainty: str
    told_by: str
    note: str
    setting: Setting
    needs: tuple[int, int]
    rule: Rule | None


def read(folder: Path) -> tuple[list[Claim], list[str]]:
    """The claims of every sound file, and what is wrong with the others: one message a fault, with file and field.

    A file with a fault is left out as a whole; no folder means no claims.
    """
    claims: list[Claim] = []
    faults: list[str] = []
    for path in sorted(folder.glob("*.json")):
        try:
            found = list(_claims(_Fields.of(path)))
            twice = sorted({claim.key for claim in found} & {claim.key for claim in claims})
            if twice:
                raise BadInput(*(f"{path.name}: key {key!r} is that of another claim; give it one of its own" for key in twice))
            claims += found
        except BadInput as error:
            faults += error.faults
    return claims, faults


class _Fields:
    """An object of a file, whose fields are taken one by one: each has its type, none is left over."""

    def __init__(self, given: Any, where: str) -> None:
        if not isinstance(given, dict):
            raise BadInput(f"{where}: got {_told(given)}, must be an object with named fields")
        self.given, self.where, self.taken = cast(dict[str, Any], given), where, set[str]()

    @classmethod
    def of(cls, path: Path) -> "_Fields":
        try:
            return cls(json.loads(path.read_text(encoding="utf-8")), path.name)
        except (OSError, ValueError) as error:
            raise BadInput(f"{path.name}: cannot be read as JSON ({error}); mend the file or take it away") from error

    def take(self, name: str, kind: type, *, default: Any = ...) -> Any:
        """A field of this type; without a default it has to be there. Null stands for the default."""
        self.taken.add(name)
        value = self.given.get(name)
        if value is None and default is not ...:
            return default
        fits = isinstance(value, kind) or (kind is float and isinstance(value, int))
        if not fits or (kind in (int, float) and isinstance(value, bool)):
            raise BadInput(f"{self.where}: {name}: got {_told(value)}, must be {_KINDS[kind]}")
        return value

    def names(self, name: str, *, default: Any = ...) -> Any:
        """A list of texts, as a tuple."""
        value = self.take(name, list, default=default)
        if isinstance(value, list) and not all(isinstance(word, str) for word in cast(list[Any], value)):
            raise BadInput(f"{self.where}: {name}: got {_told(value)}, must be a list of texts")
        return tuple(cast(list[str], value)) if isinstance(value, list) else value

    def numbers(self, name: str, *, default: Any = ...) -> dict[str, float]:
        """An object of numbers."""
        value = cast(dict[str, Any], self.take(name, dict, default=default))
        for key, number in value.items():
            if isinstance(number, bool) or not isinstance(number, (int, float)):
                raise BadInput(f"{self.where}: {name}.{key}: got {_told(number)}, must be a number")
        return value

    def part(self, name: str) -> "_Fields":
        return _Fields(self.take(name, dict), f"{self.where}: {name}")

    def done(self) -> None:
        """To be called last."""
        if left := sorted(set(self.given) - self.taken):
            raise BadInput(f"{self.where}: unknown field {left[0]!r}; there are {', '.join(sorted(self.taken))}")


def _claims(file: _Fields) -> Iterator[Claim]:
    """Every claim of a file. Raises: BadInput, with the first fault of each."""
    part = file.part("source")
    source = Source(part.take("title", str), part.take("authors", str), part.take("venue", str, default=""), part.take("reference", str),
                    part.take("url", str), part.take("third_party", bool, default=False), part.take("about", str, default=""))
    part.done()
    listed: list[Any] = file.take("claims", list)
    file.done()
    faults: list[str] = []
    made: list[Claim] = []
    for at, given in enumerate(listed):
        try:
            made += _claim(_Fields(given, f"{file.where}: claims[{at}]"), source)
        except BadInput as error:
            faults += error.faults
    if faults:
        raise BadInput(*faults)
    yield from made


def _claim(given: _Fields, source: Source) -> list[Claim]:
    certainty = given.take("certainty", str)
    if certainty not in CERTAINTY:
        raise BadInput(f"{given.where}: certainty: got {certainty!r}, must be one of {', '.join(CERTAINTY)}")
    needs = _Fields(given.take("needs", dict, default={}), f"{given.where}: needs")
    least = needs.take("datasets", int, default=1), needs.take("models", int, default=1)
    needs.done()
    key = given.take("key", str)
    rules = _rules(given.part("rule")) if given.take("rule", dict, default=None) is not None else [None]
    setting = _setting(given.part("setting")) if rules != [None] else Setting(None, None, {})
    if rules == [None]:
        given.take("setting", dict, default=None)
    shared = (source, given.take("statement", str), given.take("place", str), certainty, given.take("told_by", str, default=""),
              given.take("note", str, default=""), setting, least)
    given.done()
    return [Claim(f"{key}/{rule.method}" if isinstance(rule, Figure) else key, *shared, rule) for rule in rules]


def _setting(given: _Fields) -> Setting:
    found = Setting(given.names("datasets", default=None), given.names("models", default=None),
                    {dataset: int(epochs) for dataset, epochs in given.numbers("epochs", default={}).items()},
                    given.take("scenario", str, default=RANDOM), given.take("forget_share", float, default=None),
                    given.take("tuned", bool, default=None), given.take("released", bool, default=False), given.names("otherwise", default=()))
    given.done()
    return found


def _rules(given: _Fields) -> Sequence[Rule]:
    kind = given.take("kind", str)
    if kind not in _RULES:
        raise BadInput(f"{given.where}: kind: got {kind!r}, must be one of {', '.join(_RULES)}")
    made = _RULES[kind](given)
    given.done()
    return made


def _figures(given: _Fields) -> Sequence[Rule]:
    metric, within, seeds = given.take("metric", str), float(given.take("within", float)), given.take("seeds", int, default=None)
    if within <= 0 or (seeds is not None and seeds < 1):
        raise BadInput(f"{given.where}: within must be above 0 and seeds 1 or more, got {within:g} and {seeds}")
    return [Figure(method, metric, float(value), within, seeds) for method, value in given.numbers("figures").items()]


def _order(given: _Fields) -> Sequence[Rule]:
    worse, than = (_side(given.part(name)) for name in ("worse", "than"))
    best = given.take("best", float, default=standings.BEST.get(worse.metric))
    least = float(given.take("least", float, default=1.0))
    if best is None or not worse.methods or not 0 < least <= 1:
        raise BadInput(f"{given.where}: must name methods in `worse`, the best value of {worse.metric!r} in `best`, and a share above 0 in `least`")
    return [Order(worse, than, float(best), least)]


def _side(given: _Fields) -> Side:
    found = Side(given.names("methods", default=()), given.take("metric", str), given.take("attack", str, default=""))
    given.done()
    return found


def _noise(given: _Fields) -> Sequence[Rule]:
    return [Noise(given.names("methods"), given.names("metrics"), given.take("faster", bool, default=False))]


def _unmeasured(given: _Fields) -> Sequence[Rule]:
    return [Unmeasured(given.take("needs", str))]


_RULES: dict[str, Callable[[_Fields], Sequence[Rule]]] = {"figures": _figures, "order": _order, "noise": _noise, "unmeasured": _unmeasured}


def _told(value: Any) -> str:
    return "nothing" if value is None else repr(value)[:60]
