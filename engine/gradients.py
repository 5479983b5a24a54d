"""Gradients as numbers to compute with: of single examples, and of a whole split.

Of single examples: each network of a stack as many times over as there are examples, since the gradient of a copy is its own. That is exact,
for every architecture and on both executors, and the fused one runs all copies in one pass; the price is memory for the copies.
"""

from collections.abc import Iterable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from engine.data.loader import Batch
from engine.losses import ce, ce_per_example
from engine.models.stack import Stack

NUMBERS = 2**26  # in all copies of one network: a quarter of a gigabyte in single precision, and as much again for the gradients
COPIES = 128


def at_once(stack: Stack) -> int:
    """How many examples to take at a time: by the size of the network alone, so that a replica's numbers do not depend on its neighbours."""
    return max(1, min(COPIES, NUMBERS // sum(p[0].numel() for p in stack.params.values())))


class Copies:
    """The networks of a stack in eval mode, one copy for each of the examples that it is called with.

    Counts no passes: only who calls it knows for which replicas they are wanted.
    """

    def __init__(self, stack: Stack) -> None:
        self._stack, self._wide = stack, stack.copy().eval()

    def __call__(self, x: Float[Tensor, "_ b c h w"]) -> Float[Tensor, "r b k"]:
        """Logits; x may have a leading axis of 1, shared by all replicas."""
        r, b = self._stack.replicas, x.shape[1]
        if self._wide.replicas != r * b:
            states = [self._stack.state_of(i) for i in range(r)]
            self._wide = self._stack.like([state for state in states for _ in range(b)]).eval()
        alone = x.expand(r, -1, -1, -1, -1).flatten(0, 1).unsqueeze(1)
        return self._wide(alone).view(r, b, -1)

    def gradients(self, losses: Float[Tensor, "r b"], *, again: bool = False) -> dict[str, Float[Tensor, "r b ..."]]:
        """Of each loss of the last call by its own copy's parameters. again: more losses of this call will follow."""
        params = self._wide.params
        made = torch.autograd.grad(losses.sum(), list(params.values()), retain_graph=again, materialize_grads=True)
        return {name: grad.unflatten(0, losses.shape) for name, grad in zip(params, made, strict=True)}

    def rows(self, x: Float[Tensor, "_ b c h w"], y: Int[Tensor, "r b"]) -> Float[Tensor, "r b p"]:
        """The gradient of each example's cross-entropy, all parameters in one row as in `Stack.flat`."""
        made = self.gradients(ce_per_example(self(x), y))
        return torch.cat([grad.flatten(2) for grad in made.values()], 2)


def mean_row(stack: Stack, batches: Iterable[Batch], size: int) -> Float[Tensor, "r p"]:
    """The gradient of the mean cross-entropy over `size` examples, all parameters in one row; in the mode that the stack is in."""
    total = torch.zeros_like(stack.flat())
    for x, y in batches:
        loss = ce(stack(x), y) * (y.shape[1] / size)
        made = torch.autograd.grad(loss.sum(), list(stack.params.values()), materialize_grads=True)
        total += torch.cat([grad.flatten(1) for grad in made], 1)
    return total


@torch.no_grad()
def move(stack: Stack, rows: Float[Tensor, "r p"]) -> None:
    """Add a row to all parameters of each replica, in place."""
    parts = rows.split([p[0].numel() for p in stack.params.values()], 1)
    for p, part in zip(stack.params.values(), parts, strict=True):
        p += part.view(p.shape)
