"""A cell: one model that a study asks for, by everything that its numbers depend on. Its identity is the hash of that.

Plain values and no torch, so that planning is quick. Where and how fast a cell runs (stack, slot, threads, machine, commit)
is provenance and not part of it; a timing, which is about the machine, names the machine.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import Any

from engine.data.splits import FORGET_SHARE, DataSpec
from engine.store.records import identity

ENGINE_VERSION = 2  # raise when the numbers of training, batching, augmentation or evaluation change
REFERENCES = ("original", "retrained")


@dataclass(frozen=True)
class Numeric:
    """mode: exact (one replica after the other) or fast (all in one pass). precision: fp32, bf16 or fp64. device: cpu or cuda."""

    mode: str = "exact"
    precision: str = "fp32"
    device: str = "cpu"

    @property
    def executor(self) -> str:
        """The usual one; of the fast path a calibration may choose another."""
        return "loop" if self.mode == "exact" else "fused"


@dataclass(frozen=True)
class Cell:
    """method: `original`, `retrained` or a method's name. params, recipe: sorted (name, value) pairs.

    versions: of data, model, recipe, method and engine, raised by hand when numbers change; of a plug-in also its source.
    """

    data: DataSpec
    model: str
    method: str
    seed: int
    recipe: tuple[tuple[str, Any], ...]
    params: tuple[tuple[str, Any], ...] = ()
    variant: str = "corrected"
    numeric: Numeric = Numeric()
    versions: tuple[tuple[str, int], ...] = ()

    @property
    def kind(self) -> str:
        return self.method if self.method in REFERENCES else "unlearned"

    @property
    def key(self) -> str:
        """The method and its variant, as study files write them."""
        return self.method if self.variant == "corrected" else f"{self.method}/{self.variant}"

    @cached_property
    def content(self) -> dict[str, Any]:
        """The declared inputs, as plain values; of an unlearned model also the identity of the model it starts from."""
        made: dict[str, Any] = {"kind": self.kind, **asdict(self), "recipe": dict(self.recipe), "params": dict(self.params), "versions": dict(self.versions)}
        if self.data.forget_share == FORGET_SHARE:  # so that cells keep the identity that they had before shares could be chosen
            del made["data"]["forget_share"]
        if self.kind == "unlearned":
            made["parent"] = self.original.run_id
        return made

    @cached_property
    def run_id(self) -> str:
        return identity(self.content)

    @cached_property
    def original(self) -> "Cell":
        """The model that unlearning starts from. In U-LiRA one serves all forget sets of its split, of whatever share."""
        data = self.data if self.data.protocol == "seeds" else replace(self.data, forget=None, forget_share=FORGET_SHARE)
        return replace(self, data=data, method="original", params=(), variant="corrected", versions=_without_method(self.versions))

    @cached_property
    def retrained(self) -> "Cell":
        """The model trained without the forget data: the reference."""
        return replace(self, method="retrained", params=(), variant="corrected", versions=_without_method(self.versions))

    @classmethod
    def from_content(cls, content: Mapping[str, Any]) -> "Cell":
        return cls(data=DataSpec(**content["data"]), model=content["model"], method=content["method"], seed=content["seed"],
                   recipe=pairs(content["recipe"]), params=pairs(content["params"]), variant=content["variant"],
                   numeric=Numeric(**content["numeric"]), versions=pairs(content["versions"]))


def pairs(mapping: Mapping[str, Any]) -> tuple[tuple[str, Any], ...]:
    return tuple(sorted(mapping.items()))


def _without_method(versions: tuple[tuple[str, int], ...]) -> tuple[tuple[str, int], ...]:
    return tuple((name, version) for name, version in versions if name not in ("method", "source"))
