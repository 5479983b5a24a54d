"""FF, Fisher forgetting: noise on all weights, most of it on those that retain needs least. No training.

    F[w] = mean over retain of sum_k p_k (d CE(x, k) / d w)^2              the diagonal of the Fisher information
    v[w] = alpha * min(1 / (F[w] + 1e-8), 1e3)                             in the head at most 1e2
    v is averaged over the second axis of its tensor, and ten times as large in the head and for biases and gains of norms
    w <- w + sqrt(v[w]) * N(0, 1)

Source: Golatkar et al., "Eternal Sunshine of the Spotless Net", CVPR 2020, arXiv:1911.04933, in the form of the authors' code.
Differs from the code benchmarked in arXiv:2410.01276: that squares gradients of batch means, so its F shrinks with the batch size, and searches
alpha in [0, 1], where the noise destroys every network. Statistics of batch-norm are frozen and stay. Forget is never read.
"""

from collections.abc import Collection
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from engine.data.loader import Splits
from engine.gradients import Copies, at_once
from engine.models.stack import Stack
from engine.params import Params, hp
from engine.registry import method
from engine.runtime import PerReplica, Rng, Run


@dataclass(frozen=True, kw_only=True)
class FisherForgettingParams(Params):
    alpha: float = hp(1e-7, within=(1e-12, 1), search=(1e-9, 1e-4), log=True, doc="scale of the noise's variance")


@method("ff", label="FF", family="second_order", source="paper", paper="arXiv:1911.04933", reads={"retain"}, version=1, params=FisherForgettingParams,
        walks=lambda params, classes: 2 * classes)  # a gradient an example and class, each as long as two in a batch
def ff(stack: Stack, data: Splits, params: PerReplica, run: Run) -> Stack:
    student = stack.copy().eval()
    fisher = fisher_diagonal(student, data)
    add_noise(student, fisher, set(student.names(student.architecture.head)), params.alpha, run.rng)
    return student


def fisher_diagonal(student: Stack, data: Splits) -> dict[str, Float[Tensor, "r ..."]]:
    """F by parameter name: exact, K backward passes for each retain example by itself."""
    copies, total = Copies(student), {name: torch.zeros_like(p) for name, p in student.params.items()}
    n, classes = data.size("retain"), data.info.classes
    for x, _ in data.ordered("retain", at_once(student)):
        log_p = F.log_softmax(copies(x), -1)
        for k in range(classes):
            weighted = (log_p[..., k].detach() / 2).exp() * log_p[..., k]  # by sqrt(p), so that the square is weighted by p
            for name, grad in copies.gradients(weighted, again=k + 1 < classes).items():
                for r in range(student.replicas):  # one by one: how a sum is split may depend on the whole tensor
                    total[name][r] += grad[r].square().sum(0)
        student.forward_images += x.shape[1]
        student.backward_images += x.shape[1] * classes
    return {name: t.detach() / n for name, t in total.items()}


@torch.no_grad()
def add_noise(student: Stack, fisher: dict[str, Tensor], head: Collection[str], alpha: Float[Tensor, " r"], rng: Rng) -> None:
    """Scatter all weights around their values, in place; `head` names the parameters that are the classifier's."""
    for name, p in student.params.items():
        for r, generator in enumerate(rng.generators):
            noise = torch.randn(p.shape[1:], generator=generator).to(p.device, p.dtype)
            p[r] += variance(fisher[name][r], float(alpha[r]), name in head).sqrt() * noise


def variance(fisher: Float[Tensor, "*shape"], alpha: float, head: bool) -> Float[Tensor, "*shape"]:
    """v for one parameter of one replica."""
    v = alpha * (1 / (fisher + 1e-8)).clamp(max=1e2 if head else 1e3)
    if v.dim() > 1:
        v = v.mean(1, keepdim=True).expand_as(v)
    return 10 * v if head or v.dim() == 1 else v
