"""Parts of methods that several of them share, beside `train.descend`."""

from collections.abc import Mapping

import torch
from torch import Tensor

from engine.data.loader import Splits
from engine.losses import ce
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
