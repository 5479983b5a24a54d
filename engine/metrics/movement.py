"""How far unlearning moved the weights, live and dead apart.

    |theta - theta_o| / |theta_o|      over all live weights, over all dead ones, and over the live ones of each part

theta_o: the original of the same seed, where unlearning began. Dead weights (`engine.models.live`) can influence no output: whatever happens
to them is no unlearning, and with the study's ResNet-18 at 32 pixels they are most of a distance over all weights.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Bool

from engine.errors import DataError

Weights = Mapping[str, np.ndarray]


def movement(after: Weights, before: Weights, alive: Mapping[str, Bool[np.ndarray, "..."]], parts: Mapping[str, Sequence[str]]) -> dict[str, float]:
    """By `live`, `dead` and the name of each part: 0 = as before. NaN where that has no weights, or all of them were 0.

    parts: names of parameters. Raises: DataError when the three do not have the same names and shapes.
    """
    if not after.keys() == before.keys() == alive.keys():
        raise DataError("movement needs the same weights before and after, and which of them are live; their names differ")
    if odd := [name for name in after if not after[name].shape == before[name].shape == alive[name].shape]:
        raise DataError(*(f"movement: '{name}' has shapes {before[name].shape}, {after[name].shape} and {alive[name].shape}" for name in odd))
    live = {name: _squares(after[name], before[name], alive[name]) for name in after}
    dead = [_squares(after[name], before[name], ~alive[name]) for name in after if not alive[name].all()]
    return {"live": _relative(list(live.values())), "dead": _relative(dead),
            **{part: _relative([live[name] for name in names]) for part, names in parts.items()}}


def _squares(after: np.ndarray, before: np.ndarray, where: np.ndarray) -> tuple[float, float]:
    """Sums of squares of what changed and of what was, over the chosen."""
    was = before[where].astype(np.float64)
    moved = after[where].astype(np.float64) - was
    return float(np.vdot(moved, moved)), float(np.vdot(was, was))


def _relative(squares: Sequence[tuple[float, float]]) -> float:
    moved, was = sum(m for m, _ in squares), sum(w for _, w in squares)
    return float(np.sqrt(moved / was)) if was else float("nan")
