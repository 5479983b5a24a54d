"""What a search may choose: the parameters that a method declares worth trying, within the ranges of a study file if it narrows them."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil
from typing import TYPE_CHECKING, Any

from engine.params import Hp, Params, ShareOfTraining

if TYPE_CHECKING:
    import optuna


@dataclass(frozen=True)
class Space:
    """fixed: values that are not searched. ranges: by name (low, high) or the list of values to try, instead of what is declared.
    epochs: of the original training, which some ranges are a share of."""

    params: type[Params]
    fixed: Mapping[str, Any]
    ranges: Mapping[str, tuple[Any, ...]]
    epochs: int

    def searched(self) -> dict[str, tuple[type, Hp]]:
        return {name: (kind, note) for name, kind, note in self.params.declared()
                if name not in self.fixed and (name in self.ranges or note.search is not None)}

    def span(self, name: str, note: Hp) -> tuple[Any, ...]:
        """(low, high), or the values to choose from."""
        values = self.ranges.get(name, note.search)
        if isinstance(values, ShareOfTraining):
            return 1, max(1, ceil(values.share * self.epochs))
        assert values is not None
        return tuple(values)

    def suggest(self, trial: "optuna.Trial") -> dict[str, Any]:
        """One candidate, complete."""
        drawn: dict[str, Any] = {}
        for name, (kind, note) in self.searched().items():
            values = self.span(name, note)
            if not _is_range(values, kind, note):
                drawn[name] = trial.suggest_categorical(name, list(values))
            elif kind is int:
                drawn[name] = trial.suggest_int(name, *values, log=note.log)
            else:
                drawn[name] = trial.suggest_float(name, *values, log=note.log)
        return self.params(**self.fixed, **drawn).to_dict()

    def default(self) -> dict[str, Any]:
        """The declared defaults of what is searched, those that lie in the range: a search tries them first."""
        usual, found = self.params().to_dict(), {}
        for name, (kind, note) in self.searched().items():
            values = self.span(name, note)
            if values[0] <= usual[name] <= values[1] if _is_range(values, kind, note) else usual[name] in values:
                found[name] = usual[name]
        return found


def _is_range(values: tuple[Any, ...], kind: type, note: Hp) -> bool:
    return len(values) == 2 and kind in (int, float) and not note.choices
