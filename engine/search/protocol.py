"""What a search and whoever runs its models say to each other.

A search is a generator: it yields the models that it wants to see, is sent what became of them in the same order, and returns its
trials and the number of the one it chose. It knows no cells, processes or files; given the same answers it asks the same questions,
so a search that was killed goes on where it stopped by asking again for what is already there.
"""

from collections.abc import Generator, Mapping
from dataclasses import dataclass
from typing import Any

Metrics = Mapping[str, float]


@dataclass(frozen=True)
class Ask:
    """One unlearned model. place: number of a tuning split, or a model seed. params None: a second retrained model of that split with
    other initial weights, for the noise between two retrained ones."""

    params: dict[str, Any] | None
    place: int


@dataclass(frozen=True)
class Answer:
    """unlearned: its metrics, None where it diverged or its process kept dying. retrained: of the reference of the same place."""

    unlearned: Metrics | None
    retrained: Metrics


@dataclass(frozen=True)
class Trial:
    """score: smaller is better; None where a model of it diverged or failed, and where it was stopped early. status: done | stopped | diverged."""

    params: dict[str, Any]
    score: float | None
    parts: dict[str, Any]
    status: str


@dataclass(frozen=True)
class Found:
    """best: number of the chosen trial, None when all failed."""

    trials: list[Trial]
    best: int | None


Search = Generator[list[Ask], list[Answer], Found]
