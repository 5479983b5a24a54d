"""PRMQ, prune, reinitialise, match, quantise: redraw the smallest weights, train with the original's entropies as a guide, round.

    of all weights and biases of convolutions and linear layers together, the round(ratio * n) of smallest |w|:
        weights <- U(-1, 1) / sqrt(fan_in),  biases <- 0
    loss = sum_i w(y_i) CE_i / sum_i w(y_i) + mean_i (H_i - H_i original)^2 over retain,  w(c) = (examples of class c)^(-0.1)
        H: entropy of the softmax, in nats; the original in eval mode
    floor(steps in an epoch * epochs) + 1 steps, then weights and statistics to half precision and back

Source: code of the NeurIPS-2023 unlearning challenge entry ranked fourth, as benchmarked in arXiv:2410.01276 (there is no paper of its own).
SGD without schedule; batch-norm statistics move; redrawn and zeroed entries are trained like all others. Forget is never read.
`epochs` may be a fraction. A value beyond half precision's 65,504 becomes infinite, which is recorded as a divergence.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from engine.data.loader import Splits
from engine.models.parts import layer_of, redraw, smallest_overall, uniform
from engine.models.stack import Stack
from engine.optim import SGD
from engine.params import Params, hp, share_of_training
from engine.registry import method
from engine.runtime import PerReplica, Rng, Run
from engine.steps import class_counts, weighted_ce

CLASS_WEIGHT_POWER = -0.1


@dataclass(frozen=True, kw_only=True)
class PruneMatchQuantiseParams(Params):
    lr: float = hp(5e-4, within=(0, 10), search=(1e-5, 1e-1), log=True, doc="SGD step size")
    momentum: float = hp(0.9, within=(0, 1), doc="SGD momentum")
    weight_decay: float = hp(5e-4, within=(0, 1), search=(1e-5, 1e-1), log=True, doc="L2 on all weights")
    epochs: float = hp(3.2, within=(0, 1000), search=share_of_training(0.2), doc="walks over retain; the last may be a part of one")
    batch: int = hp(64, within=(1, 65_536), search=(64, 128, 256), doc="examples per step")
    ratio: float = hp(0.99, within=(0, 1), search=(0, 1), doc="share of convolution and linear weights that is pruned and redrawn")


@method("prmq", label="PRMQ", family="reset", source="code", paper="arXiv:2410.01276", reads={"retain"}, version=1, params=PruneMatchQuantiseParams)
def prmq(stack: Stack, data: Splits, params: PerReplica, run: Run) -> Stack:
    student = stack.copy().train()
    teacher = student.teacher()
    smallest = smallest_weights(student, params.ratio)
    run.selected(smallest)
    prune(student, smallest, run.rng)
    return quantise(match(student, teacher, data, params, run))


def smallest_weights(stack: Stack, ratio: Float[Tensor, " r"]) -> dict[str, Bool[Tensor, "r ..."]]:
    """Mask of the round(ratio * n) entries of smallest magnitude of each replica, over its convolutions and linear layers together."""
    sizes = {n: p.detach().abs() for n, p in stack.params.items() if isinstance(layer_of(stack, n), (nn.Conv2d, nn.Linear))}
    return smallest_overall(sizes, (ratio * sum(s[0].numel() for s in sizes.values())).round().long())


@torch.no_grad()
def prune(stack: Stack, mask: dict[str, Tensor], rng: Rng) -> None:
    """Redraw the masked weights as torch's constructors would and zero the masked biases, in place."""
    for name, chosen in mask.items():
        p = stack.params[name]
        if name.endswith(".weight"):
            redraw(p, chosen, uniform(p[0, 0].numel() ** -0.5), rng.generators)
        else:
            p.masked_fill_(chosen, 0)


def match(student: Stack, teacher: Stack, data: Splits, params: PerReplica, run: Run) -> Stack:
    """Train on retain with the teacher's entropies as a second target, in place, floor(steps in an epoch * epochs) + 1 steps."""
    in_an_epoch = math.ceil(data.size("retain") / params.batch)
    steps = (in_an_epoch * params.epochs.cpu()).floor() + 1
    weight = class_counts(data, "retain").clamp(min=1) ** CLASS_WEIGHT_POWER
    opt = SGD(student, lr=params.lr, momentum=params.momentum, weight_decay=params.weight_decay)
    for epoch in run.epochs((steps / in_an_epoch).ceil(), student, teacher):
        for step, (x, y) in enumerate(data.batches("retain", params.batch, run.rng), epoch * in_an_epoch):
            with student.among(step < steps) as any_left, teacher.among(step < steps):
                if not any_left:
                    break
                logits = student(x)
                with torch.no_grad():
                    target = entropy(teacher(x))
                loss = weighted_ce(logits, y, weight) + (entropy(logits) - target).square().mean(1)
                opt.zero_grad()
                loss.sum().backward()
                opt.step()
                run.log(loss=loss)
    return student


def entropy(logits: Float[Tensor, "r b k"]) -> Float[Tensor, "r b"]:
    """Entropy of the softmax of every example, in nats."""
    log_p = F.log_softmax(logits, -1)
    return -(log_p.exp() * log_p).sum(-1)


@torch.no_grad()
def quantise(stack: Stack) -> Stack:
    """Weights and statistics rounded to half precision, in place; beyond 65,504 they become infinite."""
    for values in (*stack.params.values(), *stack.buffers.values()):
        if values.is_floating_point():
            values.copy_(values.half())
    return stack
