"""FF as released: F is made of squared gradients of batch means, so it shrinks with the batch size, and alpha is searched in [0, 1].

    F[w] = mean over retain batches of sum_k mean(p_k) * (d CE(batch, k) / d w)^2

With such an alpha the noise has deviations of ten and more, and accuracy is at chance. Every tensor whose first axis is as long as there are classes
counts as the head. The released code crashes on TinyViT, this does not. Otherwise as `ff`, whose docstring has the formulas and sources.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from engine.data.loader import Splits
from engine.models.stack import Stack
from engine.params import Params, hp
from engine.registry import method
from engine.runtime import PerReplica, Rng, Run
from engine.unlearn.ff import add_noise


@dataclass(frozen=True, kw_only=True)
class ReleasedFisherForgettingParams(Params):
    alpha: float = hp(0.2, within=(0, 1), search=(0, 1), doc="scale of the noise's variance")
    batch: int = hp(64, within=(1, 65_536), search=(64, 128, 256), doc="examples whose gradients are averaged before they are squared")


@method("ff", label="FF", family="second_order", source="code", paper="arXiv:1911.04933", reads={"retain"}, version=1,
        params=ReleasedFisherForgettingParams, variant="official",
        walks=lambda params, classes: 2 * classes)  # a gradient an example and class, each as long as two in a batch
def ff(stack: Stack, data: Splits, params: PerReplica, run: Run) -> Stack:
    student = stack.copy().eval()
    head = {name for name, p in student.params.items() if p.shape[1] == data.info.classes}
    add_noise(student, fisher_of_batches(student, data, params.batch, run.rng), head, params.alpha, run.rng)
    return student


def fisher_of_batches(student: Stack, data: Splits, batch: int, rng: Rng) -> dict[str, Float[Tensor, "r ..."]]:
    """F by parameter name, from one shuffled walk over retain: K backward passes a batch."""
    total, batches, classes = {name: torch.zeros_like(p) for name, p in student.params.items()}, 0, data.info.classes
    for x, _ in data.batches("retain", batch, rng):
        log_p = F.log_softmax(student(x), -1)
        student.backward_images += x.shape[1] * (classes - 1)  # the pass itself has counted one
        share = log_p.detach().exp().mean(1)
        for k in range(classes):
            loss = -log_p[..., k].mean(1).sum()
            grads = torch.autograd.grad(loss, list(student.params.values()), retain_graph=k + 1 < classes, materialize_grads=True)
            for mine, grad in zip(total.values(), grads, strict=True):
                mine += share[:, k].view(-1, *[1] * (grad.dim() - 1)) * grad.square()
        batches += 1
    return {name: t.detach() / batches for name, t in total.items()}
