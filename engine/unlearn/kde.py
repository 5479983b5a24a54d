"""KDE, knowledge distillation: reset the first and the last layer, then learn from the original model, first on images new to it.

    stem, head <- fresh
    `epochs` walks over a held-out part of retain:  loss = KL
    `retain_epochs` walks over the rest of retain:  loss = CE + 2 KL
    KL = KL(softmax(original / T) || softmax(student / T)), mean over the batch, no factor T^2

Source: code of the NeurIPS-2023 unlearning challenge entry ranked sixth, as benchmarked in arXiv:2410.01276 (there is no paper of its own).
Differs from the released code: that distils on val, the set that then serves as unseen data; here on a tenth of retain, drawn
anew for each replica and not used again. The released second loss adds soft cross-entropy and KL, whose gradients are equal: hence 2 KL.
SGD at a constant rate, then a new SGD with cosine per epoch; batch-norm statistics move. Forget is never read.
"""

import copy
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from engine.data.loader import Splits
from engine.losses import ce, kl
from engine.models.parts import reset_to_default
from engine.models.stack import Stack
from engine.optim import SGD, cosine
from engine.params import Params, hp, share_of_training
from engine.registry import method
from engine.runtime import PerReplica, Rng, Run


@dataclass(frozen=True, kw_only=True)
class KnowledgeDistillationParams(Params):
    lr: float = hp(9e-4, within=(0, 10), search=(1e-5, 1e-1), log=True, doc="SGD step size of the first phase")
    momentum: float = hp(0.9, within=(0, 1), doc="SGD momentum of the first phase")
    weight_decay: float = hp(5e-4, within=(0, 1), search=(1e-5, 1e-1), log=True, doc="L2 on all weights in the first phase")
    epochs: int = hp(3, within=(1, 1000), search=share_of_training(0.2), doc="walks of the first phase")
    batch: int = hp(64, within=(1, 65_536), search=(64, 128, 256), doc="examples per step")
    retain_lr: float = hp(1e-3, within=(0, 10), search=(1e-5, 1e-1), log=True, doc="SGD step size on retain at the start of the cosine")
    retain_momentum: float = hp(0.9, within=(0, 1), doc="SGD momentum on retain")
    retain_weight_decay: float = hp(5e-4, within=(0, 1), search=(1e-5, 1e-1), log=True, doc="L2 on all weights on retain")
    retain_epochs: int = hp(3, within=(1, 1000), search=share_of_training(0.2), doc="walks over retain")
    temperature: float = hp(5.0, within=(0.01, 100), search=(0.1, 5), doc="softmax temperature of teacher and student")


@method("kde", label="KDE", family="distillation", source="code", paper="arXiv:2410.01276", reads={"retain"}, version=1,
        params=KnowledgeDistillationParams,
        walks=lambda params, classes: params["epochs"] + params["retain_epochs"])
def kde(stack: Stack, data: Splits, params: PerReplica, run: Run) -> Stack:
    return distil(stack, divided(data, run.rng), "held out", [*stack.architecture.stem, *stack.architecture.head], params, run)


def divided(data: Splits, rng: Rng) -> Splits:
    """Retain in two: `held out`, a random tenth of it (at least one example), and `retain`, the rest; each replica draws its own."""
    index = data.index("retain")
    order = rng.for_purpose("held out").permutations(index.shape[1]).to(index.device)
    drawn, tenth = index.gather(1, order), max(1, index.shape[1] // 10)
    made = copy.copy(data)
    made._index = {"held out": drawn[:, :tenth], "retain": drawn[:, tenth:]}
    made._readable = None
    return made


def distil(stack: Stack, data: Splits, unseen: str, modules: Sequence[str], params: PerReplica, run: Run) -> Stack:
    """Reset `modules`, then distil from the original model on the split `unseen` and on retain."""
    student = stack.copy().train()
    teacher = student.teacher()
    reset_to_default(student, modules, run.rng.generators)

    def distance(x: Tensor, logits: Tensor) -> Float[Tensor, " r"]:
        with torch.no_grad():
            target = teacher(x)
        return kl(target, logits, params.temperature)

    opt = SGD(student, lr=params.lr, momentum=params.momentum, weight_decay=params.weight_decay)
    for _ in run.epochs(params.epochs, student, teacher):
        for x, _ in data.batches(unseen, params.batch, run.rng):
            near = distance(x, student(x))
            opt.zero_grad()
            near.sum().backward()
            opt.step()
            run.log(distance=near)

    opt = SGD(student, lr=params.retain_lr, momentum=params.retain_momentum, weight_decay=params.retain_weight_decay)
    start, total, chance = opt.lr, params.retain_epochs.cpu(), run.rng.for_purpose("retain")
    for epoch in run.epochs(params.retain_epochs, student, teacher):
        opt.lr = cosine(start, epoch, total)
        for x, y in data.batches("retain", params.batch, chance):
            logits = student(x)
            near, loss = distance(x, logits), ce(logits, y)
            opt.zero_grad()
            (loss + 2 * near).sum().backward()
            opt.step()
            run.log(retain_loss=loss, distance=near)
    return student
