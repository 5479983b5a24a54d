"""Hyper-parameters: typed, frozen, validated, and able to describe themselves to the search, the command line and the app."""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar, get_type_hints

from engine.errors import BadInput

Value = float | int | bool | str
P = TypeVar("P", bound="Params")


@dataclass(frozen=True)
class ShareOfTraining:
    """Search range of an epoch count: 1 up to ceil(share * epochs of the original training)."""

    share: float


def share_of_training(share: float) -> ShareOfTraining:
    return ShareOfTraining(share)


@dataclass(frozen=True)
class Hp:
    """What is legal (`within`, `choices`) and what is worth trying (`search`): two different ranges."""

    within: tuple[int | float, int | float] | None
    search: tuple[Value, ...] | ShareOfTraining | None
    log: bool
    choices: tuple[Value, ...] | None
    inert: bool
    doc: str


def hp(default: Value, *, doc: str, within: tuple[int | float, int | float] | None = None, search: Sequence[Value] | ShareOfTraining | None = None,
       log: bool = False, choices: Sequence[Value] | None = None, inert: bool = False) -> Any:
    """Declare one hyper-parameter of a `Params` class.

    within: smallest and largest legal value. choices: the legal values, instead of a range. search: (low, high) or the list
    of values worth trying. log: search and show on a log scale. inert: at toy size it may leave the result as it is (the
    contract tests then do not ask it to change anything).
    """
    span = search if search is None or isinstance(search, ShareOfTraining) else tuple(search)
    note = Hp(within, span, log, None if choices is None else tuple(choices), inert, doc)
    return dataclasses.field(default=default, metadata={"hp": note})


@dataclass(frozen=True, kw_only=True)
class Params:
    """Base of a method's hyper-parameters: subclass as a frozen, keyword-only dataclass of `hp(...)` fields.

    Raises: BadInput on construction, listing every value that is out of range or of the wrong type.
    """

    def __post_init__(self) -> None:
        faults: list[str] = []
        for name, kind, note in self.declared():
            value = getattr(self, name)
            if fault := _fault(value, kind, note):
                faults.append(f"{name}: got {value!r}, must be {fault} ({note.doc})")
        if faults:
            raise BadInput(*faults)

    @classmethod
    def declared(cls) -> list[tuple[str, type, Hp]]:
        hints = get_type_hints(cls)
        return [(f.name, hints[f.name], f.metadata["hp"]) for f in dataclasses.fields(cls)]

    @classmethod
    def from_dict(cls: type[P], given: Mapping[str, Any], owner: str) -> P:
        """Build from a mapping; text is read as the declared type. `owner` names the method in messages.

        Raises: BadInput with all unknown names and all bad values at once.
        """
        declared = {name: kind for name, kind, _ in cls.declared()}
        faults = [f"{owner} has no parameter '{name}'; it has: {', '.join(declared) or 'none'}" for name in given if name not in declared]
        read: dict[str, Any] = {}
        for name, kind in declared.items():
            if name in given:
                read[name] = _read(given[name], kind)
        try:
            made = cls(**read)
        except BadInput as error:
            raise BadInput(*faults, *(f"{owner}.{fault}" for fault in error.faults)) from None
        if faults:
            raise BadInput(*faults)
        return made

    def to_dict(self) -> dict[str, Value]:
        return dataclasses.asdict(self)

    @classmethod
    def describe(cls) -> list[dict[str, Any]]:
        """One plain mapping a parameter, for the catalogue: name, type, default, low, high, log, choices, search, doc."""
        rows: list[dict[str, Any]] = []
        for field, (name, kind, note) in zip(dataclasses.fields(cls), cls.declared(), strict=True):
            low, high = note.within or (None, None)
            search = {"share_of_training": note.search.share} if isinstance(note.search, ShareOfTraining) else note.search
            rows.append({"name": name, "type": "choice" if note.choices else kind.__name__, "default": field.default, "low": low, "high": high,
                         "log": note.log, "choices": note.choices, "search": search, "doc": note.doc})
        return rows


def _read(value: Any, kind: type) -> Any:
    """`value` as `kind` where that loses nothing; otherwise as it is, for the range check to refuse."""
    if isinstance(value, str) and kind is not str:
        text = value.strip()
        if kind is bool:
            return {"true": True, "false": False}.get(text.lower(), value)
        try:
            return kind(text)
        except ValueError:
            return value
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if kind is int and isinstance(value, float) and value.is_integer():
        return int(value)
    return value


def _fault(value: Any, kind: type, note: Hp) -> str | None:
    """None when `value` is legal, else what is allowed."""
    if note.choices is not None:
        return None if value in note.choices else f"one of {', '.join(map(str, note.choices))}"
    typed = isinstance(value, kind) and (kind is bool or not isinstance(value, bool))
    if note.within is None:
        return None if typed else kind.__name__
    low, high = note.within
    allowed = f"{kind.__name__} in [{low:g}, {high:g}]"
    return None if typed and low <= value <= high else allowed
