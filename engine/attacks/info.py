"""What an attack says about itself, so that the catalogue, the docs and the app can show it without importing it."""

from dataclasses import dataclass


@dataclass(frozen=True)
class AttackInfo:
    """One per attack module, under the name INFO. Raise `version` when the same arrays would give other numbers."""

    name: str
    label: str
    doc: str
    paper: str
    version: int
