"""Choosing, freezing and redrawing weights per replica: what the methods that mask or reset are written in.

A choice of weights is a mask by parameter name, each [R, *shape] bool.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from engine.models.stack import Stack

Draw = Callable[[torch.Generator, torch.Size], Tensor]


def smallest(scores: Float[Tensor, "r n"], k: Int[Tensor, " r"]) -> Bool[Tensor, "r n"]:
    """Mask of the k[r] smallest scores of each replica: exactly so many, ties broken by position.

    By stable ranks and not by a threshold: weights without influence tie at zero, and a threshold would take all of them.
    """
    mask = torch.zeros_like(scores, dtype=torch.bool)
    for row, count, chosen in zip(scores, k.tolist(), mask, strict=True):  # one at a time: a sort takes several times the memory of its input
        chosen[torch.argsort(row, stable=True)[:count]] = True
    return mask


def smallest_overall(scores: Mapping[str, Float[Tensor, "r ..."]], k: Int[Tensor, " r"]) -> dict[str, Bool[Tensor, "r ..."]]:
    """`smallest` among all tensors of a replica together, by name; in the memory layout of the scores."""
    flat = smallest(torch.cat([s.flatten(1) for s in scores.values()], 1), k)
    parts = flat.split([s[0].numel() for s in scores.values()], 1)
    return {name: torch.empty_like(s, dtype=torch.bool).copy_(part.view(s.shape)) for (name, s), part in zip(scores.items(), parts, strict=True)}


def last_blocks(stack: Stack, k: Float[Tensor, " r"]) -> dict[str, Bool[Tensor, "r ..."]]:
    """Mask of the head and of each replica's last k[r] blocks (of all, where there are fewer); without names that no replica chooses.

    From the head backwards: what a replica draws in this order does not depend on how deep its neighbours go.
    """
    groups = [stack.architecture.head, *reversed(stack.architecture.blocks)]
    made: dict[str, Tensor] = {}
    for depth, modules in enumerate(groups):
        chosen = (k >= depth).to(stack.device)
        if bool(chosen.any()):
            shapes = {n: stack.params[n].shape for n in stack.names(modules)}
            made |= {n: chosen.view(-1, *[1] * (len(shape) - 1)).expand(shape) for n, shape in shapes.items()}
    return made


def layer_of(stack: Stack, parameter: str) -> nn.Module:
    """The module of the template that holds this parameter itself."""
    return stack.template.get_submodule(parameter.rpartition(".")[0])


@contextmanager
def training_only(stack: Stack, mask: Mapping[str, Tensor]) -> Iterator[None]:
    """Within the block, no gradient for parameters of which no replica chooses anything. With `SGD(mask=mask)` nothing else moves."""
    for name, p in stack.params.items():
        p.requires_grad_(name in mask and bool(mask[name].any()))
    try:
        yield
    finally:
        for p in stack.params.values():
            p.requires_grad_()


@torch.no_grad()
def add_noise(weight: Float[Tensor, "r ..."], sigma: Float[Tensor, " r"], generators: Sequence[torch.Generator]) -> None:
    """Add N(0, sigma[r]^2) in place, each replica from its own generator; where sigma is 0 nothing is drawn."""
    for r, (deviation, generator) in enumerate(zip(sigma.tolist(), generators, strict=True)):
        if deviation:
            weight[r] += deviation * torch.randn(weight.shape[1:], generator=generator).to(weight.device, weight.dtype)


@torch.no_grad()
def redraw(weight: Float[Tensor, "r ..."], mask: Bool[Tensor, "r ..."] | None, draw: Draw, generators: Sequence[torch.Generator]) -> None:
    """Replace the masked entries (None: all) in place by `draw(generator, shape)`, each replica from its own generator."""
    for r, generator in enumerate(generators):
        fresh = draw(generator, weight.shape[1:]).to(weight.device, weight.dtype)
        weight[r] = fresh if mask is None else torch.where(mask[r], fresh, weight[r])


@torch.no_grad()
def reset_to_default(stack: Stack, modules: Sequence[str], generators: Sequence[torch.Generator]) -> None:
    """Redraw these convolutions and linear layers as torch's constructors do: U(-1, 1) / sqrt(fan_in) for weights and biases."""
    for name in modules:
        weight = stack.params[f"{name}.weight"]
        bound = weight[0, 0].numel() ** -0.5
        redraw(weight, None, uniform(bound), generators)
        if f"{name}.bias" in stack.params:
            redraw(stack.params[f"{name}.bias"], None, uniform(bound), generators)


def uniform(bound: float) -> Draw:
    """U(-bound, bound)."""
    return lambda generator, shape: (torch.rand(shape, generator=generator) * 2 - 1) * bound


def kaiming_normal_fan_out(generator: torch.Generator, shape: torch.Size) -> Tensor:
    """He et al. (2015) for ReLU by fan-out: N(0, 2 / (out * kh * kw)); `shape` is [out, in, kh, kw]."""
    fan_out = shape[0] * shape[2:].numel()
    return torch.randn(shape, generator=generator) * (2.0 / fan_out) ** 0.5


def kaiming_uniform_fan_out(generator: torch.Generator, shape: torch.Size) -> Tensor:
    """He et al. (2015) for ReLU by fan-out: U(-1, 1) * sqrt(6 / (out * kh * kw)); `shape` is [out, in, kh, kw]."""
    fan_out = shape[0] * shape[2:].numel()
    return uniform((6.0 / fan_out) ** 0.5)(generator, shape)


def xavier_uniform(generator: torch.Generator, shape: torch.Size) -> Tensor:
    """Glorot and Bengio (2010): U(-1, 1) * sqrt(6 / (in + out)); `shape` is [out, in]."""
    return uniform((6.0 / sum(shape)) ** 0.5)(generator, shape)
