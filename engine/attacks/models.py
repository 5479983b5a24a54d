"""Scores of many models: what attacks that look at several kinds of models take, each kind in one piece."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int


@dataclass(frozen=True)
class Models:
    """Models of one kind. phi: logit-scaled confidence; world: who is what in which model, by the attack's codes; split: models that share
    training data; labels: class of each example, where it is known."""

    phi: Float[np.ndarray, "m n"]
    world: Int[np.ndarray, "m n"]
    split: Int[np.ndarray, " m"]
    labels: Int[np.ndarray, " n"] | None = None

    def rows(self, rows: Sequence[int]) -> "Models":
        return Models(self.phi[rows], self.world[rows], self.split[rows], self.labels)
