"""Parts of methods that several of them share, beside `train.descend`."""

from collections.abc import Mapping

import torch
from jaxtyping import Float, Int
from torch import Tensor

from engine.data.loader import Splits
from engine.losses import ce, ce_per_example
from engine.models.parts import training_only
from engine.models.stack import Stack
from engine.optim import SGD
from engine.runtime import PerReplica, Run


def relabel(student: Stack, data: Splits, params: PerReplica, run: Run, *, mask: Mapping[str, Tensor] | None = None,
            grad_scale: Mapping[str, Tensor] | None = None) -> Stack:
    """Walks over forget and retain shuffled together, in place, with a fresh uniform label for each forget example at every visit.

    params: lr, momentum, weight_decay and epochs [R], and batch; no schedule. mask, grad_scale: as in `SGD`.
    """
    labels = run.rng.for_purpose("labels")
    opt = SGD(student, lr=params.lr, momentum=params.momentum, weight_decay=params.weight_decay, mask=mask, grad_scale=grad_scale)
    for _ in run.epochs(params.epochs, student):
        for x, y, forgotten in data.mixed("forget", "retain", params.batch, run.rng):
            random = labels.integers(data.info.classes, y.shape[1]).to(y.device)
            loss = ce(student(x), torch.where(forgotten, random, y))
            opt.zero_grad()
            loss.sum().backward()
            opt.step()
            run.log(loss=loss)
    return student


def descend_tethered(student: Stack, data: Splits, chosen: Mapping[str, Tensor], params: PerReplica, run: Run, *, augment: bool = False) -> Stack:
    """Walks over retain, in place, that move only the weights in the mask `chosen`, pulled back to where they start, by plain SGD:

        loss = CE(retain) + (pull / 2) * ||w - w_start||^2 over the chosen weights

    params: lr, lr_decay, pull and epochs [R], and batch; rates by `stepwise`.
    """
    start = {name: student.params[name].detach().clone() for name in chosen}
    opt = SGD(student, lr=params.lr, mask=chosen)
    rate, decay, total = opt.lr, params.lr_decay.cpu(), params.epochs.cpu()
    with training_only(student, chosen):
        for epoch in run.epochs(params.epochs, student):
            opt.lr = stepwise(rate, decay, epoch, total)
            for x, y in data.batches("retain", params.batch, run.rng, augment=augment):
                loss = ce(student(x), y)
                distance = sum((student.params[name] - w).square().flatten(1).sum(1) for name, w in start.items())
                opt.zero_grad()
                (loss + params.pull / 2 * distance).sum().backward()
                opt.step()
                run.log(loss=loss)
    return student


def stepwise(lr: Float[Tensor, " r"], decay: Float[Tensor, " r"], epoch: int, total: Float[Tensor, " r"]) -> Float[Tensor, " r"]:
    """lr, times `decay` for each of 0.5, 0.8 and 0.9 of the epochs (rounded down) that the 0-based `epoch` is beyond; [R]."""
    milestones = torch.stack([(total * tenths / 10).floor() for tenths in (5, 8, 9)])
    return lr * decay ** (epoch > milestones).sum(0)


def class_counts(data: Splits, split: str) -> Float[Tensor, "r k"]:
    """How many examples of each class a split has."""
    labels = data.labels(split)
    made = torch.zeros(labels.shape[0], data.info.classes, dtype=data.dtype, device=labels.device)
    return made.scatter_add_(1, labels, torch.ones_like(labels, dtype=data.dtype))


def weighted_ce(logits: Float[Tensor, "r b k"], y: Int[Tensor, "r b"], weight: Float[Tensor, "r k"]) -> Float[Tensor, " r"]:
    """Cross-entropy in nats, mean over the batch weighted by the weight of each example's class, as torch's CrossEntropyLoss(weight)."""
    own = weight.gather(1, y)
    total = own.sum(1, dtype=torch.float64)  # exact for single precision, so its bits do not depend on who shares the stack
    return (own * ce_per_example(logits, y)).sum(1) / total.to(own.dtype)
