"""Which weights can influence an output, and what share of a selection can.

At a given input side some weights reach no output whatever their values: kernel taps that only ever meet padding (62 % of ResNet-18
with the ImageNet stem at 32x32), and the key biases of softmax attention, which move all logits of a query alike. Methods that select
the smallest gradients or magnitudes take them first, and every count or distance over all weights includes them.

A weight is live if the derivative of some output by it is not zero. Found by differentiation in double precision, in eval mode, at
random weights: once all positive on positive images, so that every path adds and no ReLU, GELU or pooling closes one on all images; then
with random signs, because positive weights make all tokens nearly alike and starve attention.
"""

from collections.abc import Mapping
from functools import cache

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from engine.models.architecture import Architecture

IMAGES = 4
ROUNDING = 1e-13  # of the largest derivative: those of key biases cancel to 1e-17, and every live weight exceeds 1e-10 in some draw


@cache
def live(architecture: Architecture, *, channels: int, classes: int, side: int) -> dict[str, Bool[Tensor, "..."]]:
    """By parameter name, of its shape: whether the weight can influence an output on images of this size. Cached: not to be changed.

    Dead taps multiply zeros alone: by a direct convolution the bits are the same whatever they are. Dead key biases change outputs by rounding.
    Raises: DataError where the architecture takes no such images.
    """
    with torch.random.fork_rng(devices=[]):  # building draws from torch's global generator, and asking must not
        network = architecture.build(channels, classes, side).double().eval()
    found = {name: torch.zeros_like(p, dtype=torch.bool) for name, p in network.named_parameters()}
    for seed, signed in enumerate((False, True, True)):
        derivatives = _derivatives(network, (IMAGES, channels, side, side), signed, torch.Generator().manual_seed(seed))
        floor = ROUNDING * max(d.abs().max() for d in derivatives.values())
        for name, derivative in derivatives.items():
            found[name] |= derivative.abs() > floor
    return found


class LiveShare:
    """What share of the weights that a method selects is live, per replica, over all its selections."""

    def __init__(self, alive: Mapping[str, Bool[Tensor, "..."]], replicas: int) -> None:
        self._alive = alive
        self._counts = torch.zeros(2, replicas, dtype=torch.int64)  # selected, and live among them

    def __call__(self, mask: Mapping[str, Bool[Tensor, "r ..."]]) -> None:
        """Count one selection, by parameter name."""
        for name, chosen in mask.items():
            alive = chosen & self._alive[name].to(chosen.device)
            self._counts += torch.stack([m.flatten(1).sum(1) for m in (chosen, alive)]).cpu()

    @property
    def share(self) -> Float[Tensor, " r"]:
        """In [0, 1]; NaN where nothing was selected."""
        selected, alive = self._counts.double()
        return alive / selected


def _derivatives(network: nn.Module, shape: tuple[int, int, int, int], signed: bool, generator: torch.Generator) -> dict[str, Tensor]:
    """Of a random positive combination of all outputs by every parameter, at weights of size U(0.5, 1.5) / fan_in, or its root if signed."""

    def magnitudes(shape: torch.Size | tuple[int, ...]) -> Tensor:
        return torch.rand(shape, generator=generator, dtype=torch.float64) + 0.5

    network.zero_grad()
    with torch.no_grad():
        for p in network.parameters():
            fan_in = p[0].numel() if p.dim() > 1 else 1
            if signed:
                p.copy_(magnitudes(p.shape) * (torch.randint(2, p.shape, generator=generator) * 2 - 1) / fan_in**0.5)
            else:
                p.copy_(magnitudes(p.shape) / fan_in)
    logits = network(magnitudes(shape))
    (logits * magnitudes(logits.shape)).sum().backward()
    return {name: p.grad for name, p in network.named_parameters() if p.grad is not None}
