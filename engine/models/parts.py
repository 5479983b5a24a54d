"""Choosing and redrawing weights per replica: what the methods that mask or reset are written in."""

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from engine.models.stack import Stack

Draw = Callable[[torch.Generator, torch.Size], Tensor]


def smallest(scores: Float[Tensor, "r n"], k: Int[Tensor, " r"]) -> Bool[Tensor, "r n"]:
    """Mask of the k[r] smallest scores of each replica: exactly so many, ties broken by position.

    By stable ranks and not by a threshold: weights without influence tie at zero, and a threshold would take all of them.
    """
    order = torch.argsort(scores, dim=1, stable=True)
    chosen = torch.arange(scores.shape[1], device=scores.device) < k.to(scores.device).unsqueeze(1)
    return torch.zeros_like(scores, dtype=torch.bool).scatter_(1, order, chosen)


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
