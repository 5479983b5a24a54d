"""What every run is handed beside its model and data: its own chance, its hyper-parameters per replica, and a place to report to."""

import dataclasses
import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from engine.models.stack import Stack
from engine.params import Params


def seed_of(*what: Any) -> int:
    """A 63-bit seed from what a thing is: the same on every machine, in every order of work."""
    digest = hashlib.sha256("/".join(map(str, what)).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


class Rng:
    """Chance of a stack: one generator a replica, so that a replica draws the same numbers whoever shares the stack."""

    def __init__(self, seeds: Sequence[int]) -> None:
        self.seeds = list(seeds)
        self.generators = [torch.Generator().manual_seed(seed) for seed in self.seeds]

    def permutations(self, n: int) -> Int[Tensor, "r n"]:
        return torch.stack([torch.randperm(n, generator=g) for g in self.generators])

    def integers(self, high: int, *shape: int) -> Int[Tensor, "r ..."]:
        """Uniform on 0..high-1."""
        return torch.stack([torch.randint(high, shape, generator=g) for g in self.generators])

    def for_purpose(self, purpose: str) -> "Rng":
        """Streams of their own for another purpose, so that drawing more here moves nothing there."""
        return Rng([seed_of(seed, purpose) for seed in self.seeds])


class PerReplica:
    """Hyper-parameters of a stack: floats and counts as [R] doubles, what must agree across replicas (`batch`) as one value."""

    def __init__(self, params: Sequence[Params], device: torch.device | str = "cpu") -> None:
        first = params[0]
        for field in dataclasses.fields(first):
            values = [getattr(p, field.name) for p in params]
            if is_shared(field.name, type(values[0])):
                if len(set(values)) != 1:
                    raise ValueError(f"{field.name} must be the same for all replicas of a stack, got {sorted(set(values))}")
                setattr(self, field.name, values[0])
            else:
                setattr(self, field.name, torch.tensor(values, dtype=torch.float64, device=device))

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(f"no hyper-parameter named {name!r}")


def is_shared(name: str, kind: type) -> bool:
    """Whether replicas of one stack must agree on it: batch sizes, switches and choices shape the computation itself."""
    return "batch" in name or kind in (bool, str)


Report = Callable[[int, dict[str, Float[Tensor, " r"]]], None]
Selected = Callable[[Mapping[str, Bool[Tensor, "r ..."]]], None]


class Run:
    """One execution over a stack. `report(epoch, means)` hears the mean of everything logged, once an epoch; `selected(mask)` hears of
    the weights that a method chose, by parameter name, whenever it chooses."""

    def __init__(self, rng: Rng, report: Report | None = None, selected: Selected | None = None) -> None:
        self.rng = rng
        self._report, self._selected = report, selected
        self._sums: dict[str, Tensor] = {}
        self._counts: dict[str, Tensor] = {}
        self._stack: Stack | None = None  # whose gate tells who takes part
        self._reported = 0  # epochs so far

    def epochs(self, count: Float[Tensor, " r"] | int, *stacks: Stack) -> Iterator[int]:
        """0, 1, … up to the largest count; replicas whose epochs are over are gated in all `stacks`, and the gate is lifted at the end.

        Several phases of one method are reported as one course of epochs.
        """
        counts = torch.as_tensor(count, dtype=torch.float64, device="cpu").expand(stacks[0].replicas)
        self._stack = stacks[0]
        for epoch in range(int(counts.max())):
            for stack in stacks:
                stack.only(epoch < counts)
            yield epoch
            self._flush(self._reported)
        for stack in stacks:
            stack.only(None)

    def log(self, **values: Float[Tensor, " r"]) -> None:
        """Remember one number a replica, of those that are not gated; stays on the device until the epoch ends, as a read every step
        would stall it."""
        active = self._stack.active if self._stack else None
        for name, value in values.items():
            value = value.detach().double()
            seen = torch.ones_like(value) if active is None else active.to(value)
            value = value if active is None else torch.where(active, value, 0.0)
            self._sums[name] = self._sums[name] + value if name in self._sums else value
            self._counts[name] = self._counts[name] + seen if name in self._counts else seen

    def selected(self, mask: Mapping[str, Bool[Tensor, "r ..."]]) -> None:
        """Tell which weights the method chose: a mask by parameter name. Nothing is computed where nobody listens, as in a timing."""
        if self._selected is not None:
            self._selected(mask)

    def _flush(self, epoch: int) -> None:
        """Report the means: NaN for a replica that logged nothing."""
        if self._report is not None and self._sums:
            self._report(epoch, {name: (total / self._counts[name]).cpu() for name, total in self._sums.items()})
        self._sums, self._counts, self._reported = {}, {}, epoch + 1
