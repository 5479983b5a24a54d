"""MSG as released: the gradients that choose the weights are sums of batch means, 64 examples a batch on retain and the tuned batch on forget.

    G = sum over retain batches of grad CE(batch) - sum over forget batches of grad CE(batch)

So the balance of retain to forget is about batch / 64, and tuning the batch size changes the mask. Otherwise as `msg`, whose docstring has the
formulas and sources.
"""

import torch
from torch import Tensor

from engine.data.loader import Splits
from engine.losses import ce
from engine.models.stack import Stack
from engine.registry import method
from engine.runtime import PerReplica, Rng, Run
from engine.unlearn.msg import MaskedSmallGradientsParams, reborn

RETAIN_BATCH = 64


@method("msg", label="MSG", family="reset", source="code", paper="arXiv:2410.01276", reads={"retain", "forget"}, version=1,
        params=MaskedSmallGradientsParams, variant="official")
def msg(stack: Stack, data: Splits, params: PerReplica, run: Run) -> Stack:
    student = stack.copy().train()
    return reborn(student, contrast_gradient(student, data, params.batch, run.rng), data, params, run)


def contrast_gradient(student: Stack, data: Splits, batch: int, rng: Rng) -> dict[str, Tensor]:
    """Sum of batch-mean gradients of CE on a random retain subset of forget's size, minus that on forget; by convolution name, [R, ...]."""
    n = min(data.size("forget"), data.size("retain"))
    student.zero_grad()
    for start, (x, y) in zip(range(0, n, RETAIN_BATCH), data.batches("retain", min(RETAIN_BATCH, n), rng), strict=False):
        ce(student(x[:, : n - start]), y[:, : n - start]).sum().backward()
    for x, y in data.batches("forget", batch, rng):
        (-ce(student(x), y)).sum().backward()
    made = {name: torch.zeros_like(w) if w.grad is None else w.grad.clone() for name, w in student.tensors("conv").items()}
    student.zero_grad()
    return made
