"""FCS, forget, contrast, strengthen: make forget look like nothing, then like everything, and repair on retain.

    once, one walk over forget:           loss = KL(uniform || softmax f(forget))
    then `epochs` times
        contrast, along forget's batches: loss = mean of -log softmax over retain of f(forget) . f(retain) / T, all pairs of two batches
        strengthen, one walk over retain: loss = CE(retain)

Source: code of the NeurIPS-2023 unlearning challenge entry ranked first, as benchmarked in arXiv:2410.01276 (there is no paper of its own).
Three SGDs over the same weights, each with its own momentum. No gradient flows through f(retain) in the contrast. Rates: `lr` and
retain_lr * batch / 64 stay; the contrast's follows a cosine per step from forget_lr to eta_min. Batch-norm statistics move throughout.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from engine.data.loader import Splits
from engine.losses import ce, contrast, kl
from engine.models.stack import Stack
from engine.optim import SGD, cosine
from engine.params import Params, hp, share_of_training
from engine.registry import method
from engine.runtime import PerReplica, Run


@dataclass(frozen=True, kw_only=True)
class ForgetContrastStrengthenParams(Params):
    lr: float = hp(5e-3, within=(0, 10), search=(1e-5, 1e-1), log=True, doc="SGD step size of the first walk over forget")
    momentum: float = hp(0.9, within=(0, 1), doc="SGD momentum in that walk")
    weight_decay: float = hp(0.0, within=(0, 1), search=(1e-5, 1e-1), log=True, doc="L2 on all weights in that walk")
    epochs: int = hp(8, within=(1, 1000), search=share_of_training(0.2), doc="rounds of contrasting and strengthening")
    batch: int = hp(256, within=(1, 65_536), search=(64, 128, 256), doc="examples per step, from each split")
    forget_lr: float = hp(3e-4, within=(0, 10), search=(1e-5, 1e-1), log=True, doc="SGD step size of the contrast at the start of its cosine")
    forget_momentum: float = hp(0.9, within=(0, 1), doc="SGD momentum of the contrast")
    forget_weight_decay: float = hp(0.0, within=(0, 1), search=(1e-5, 1e-1), log=True, doc="L2 on all weights in the contrast")
    eta_min: float = hp(1e-6, within=(0, 10), search=(1e-6, 1e-1), log=True, doc="SGD step size of the contrast at the end of its cosine")
    temperature: float = hp(1.15, within=(0.01, 100), search=(0.1, 5), doc="divides the dot products of the contrast")
    retain_lr: float = hp(1e-3, within=(0, 10), search=(1e-5, 1e-1), log=True, doc="SGD step size on retain, for 64 examples a step")
    retain_momentum: float = hp(0.9, within=(0, 1), doc="SGD momentum on retain")
    retain_weight_decay: float = hp(1e-2, within=(0, 1), search=(1e-5, 1e-1), log=True, doc="L2 on all weights on retain")


@method("fcs", label="FCS", family="ascent", source="code", paper="arXiv:2410.01276", reads={"retain", "forget"}, version=1,
        params=ForgetContrastStrengthenParams,
        walks=lambda params, classes: 2 * params["epochs"])
def fcs(stack: Stack, data: Splits, params: PerReplica, run: Run) -> Stack:
    student = stack.copy().train()
    erase = SGD(student, lr=params.lr, momentum=params.momentum, weight_decay=params.weight_decay)
    blur = SGD(student, lr=params.forget_lr, momentum=params.forget_momentum, weight_decay=params.forget_weight_decay)
    repair = SGD(student, lr=params.retain_lr * params.batch / 64, momentum=params.retain_momentum, weight_decay=params.retain_weight_decay)
    first, last, taken = blur.lr, params.eta_min.cpu(), 0
    steps = params.epochs.cpu() * -(-data.size("forget") // params.batch)

    for x, _ in data.batches("forget", params.batch, run.rng):
        logits = student(x)
        erased = kl(torch.zeros_like(logits), logits)  # equal logits: the uniform distribution
        step(erase, erased)
        run.log(uniform_distance=erased)
    for _ in run.epochs(params.epochs, student):
        for (x_f, _), (x_r, _) in zip(data.batches("forget", params.batch, run.rng), data.batches("retain", params.batch, run.rng), strict=False):
            blur.lr = last + cosine(first - last, taken, steps)
            taken += 1
            logits = student(x_f)
            with torch.no_grad():
                others = student(x_r)
            blurred = contrast(logits, others, params.temperature)
            step(blur, blurred)
            run.log(contrast=blurred)
        for x, y in data.batches("retain", params.batch, run.rng):
            loss = ce(student(x), y)
            step(repair, loss)
            run.log(retain_loss=loss)
    return student


def step(opt: SGD, loss: Tensor) -> None:
    """One step of each replica down its own loss [R]."""
    opt.zero_grad()
    loss.sum().backward()
    opt.step()
