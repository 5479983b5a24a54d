"""SalUn, saliency unlearning: random labels for the forget data, learnt by the weights that matter most to it and by no others.

    g = gradient of the mean CE over forget, in eval mode
    m = 1 for the floor(ratio * P) largest |g| of all P weights together, else 0
    loss = CE(forget + retain shuffled together),  y_forget ~ Uniform over all classes at every visit;  only weights with m = 1 move

Source: Fan et al., "SalUn: Empowering Machine Unlearning via Gradient-based Weight Saliency", ICLR 2024, arXiv:2310.12508.
As benchmarked in arXiv:2410.01276: SGD without schedule, batch-norm statistics move in training. Differs from the released code, which
counts early forget batches more than once in g, and lets weight decay and momentum move weights with m = 0.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from engine.data.loader import Splits
from engine.losses import ce
from engine.models.parts import smallest_overall
from engine.models.stack import Stack
from engine.params import Params, hp, share_of_training
from engine.registry import method
from engine.runtime import PerReplica, Rng, Run
from engine.steps import relabel


@dataclass(frozen=True, kw_only=True)
class SaliencyParams(Params):
    lr: float = hp(1e-2, within=(0, 10), search=(1e-5, 1e-1), log=True, doc="SGD step size")
    momentum: float = hp(0.0, within=(0, 1), doc="SGD momentum")
    weight_decay: float = hp(0.0, within=(0, 1), search=(1e-5, 1e-1), log=True, doc="L2 on the weights that move")
    epochs: int = hp(10, within=(1, 1000), search=share_of_training(0.2), doc="walks over retain and forget together")
    batch: int = hp(256, within=(1, 65_536), search=(64, 128, 256), doc="examples per step")
    ratio: float = hp(0.5, within=(0, 1), search=(0, 1), doc="share of all weights that move: those of largest gradient on forget")


@method("salun", label="SalUn", family="ascent", source="paper", paper="arXiv:2310.12508", reads={"retain", "forget"}, version=1, params=SaliencyParams)
def salun(stack: Stack, data: Splits, params: PerReplica, run: Run) -> Stack:
    student, n = stack.copy(), data.size("forget")
    gradient = forget_gradient(student.eval(), data, params.batch, run.rng, lambda _, examples: examples / n)
    mask = salient(gradient, params.ratio)
    run.selected(mask)
    return relabel(student.train(), data, params, run, mask=mask)


def forget_gradient(student: Stack, data: Splits, batch: int, rng: Rng, share: Callable[[int, int], float]) -> dict[str, Tensor]:
    """Sum over the batches of forget of share(number of the batch, its examples) * gradient of its mean CE; by name, [R, ...]."""
    student.zero_grad()
    for number, (x, y) in enumerate(data.batches("forget", batch, rng)):
        (share(number, y.shape[1]) * ce(student(x), y)).sum().backward()
    made = {name: torch.zeros_like(p) if p.grad is None else p.grad.clone() for name, p in student.params.items()}
    student.zero_grad()
    return made


def salient(gradient: dict[str, Tensor], ratio: Float[Tensor, " r"]) -> dict[str, Bool[Tensor, "r ..."]]:
    """Mask of the floor(ratio * P) weights of largest |gradient| of each replica, over all its parameters together."""
    weights = sum(g[0].numel() for g in gradient.values())
    return smallest_overall({name: -g.abs() for name, g in gradient.items()}, (ratio * weights).floor().long())
