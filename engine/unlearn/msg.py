"""MSG, masked small gradients: redraw the convolution weights that matter least to telling forget from retain, then fine-tune.

    G = grad CE(random retain subset of the size of forget) - grad CE(forget), accumulated without stepping
    per convolution: the round(ratio * n) weights of smallest |G| <- N(0, 2 / fan_out);  the others keep theirs
    loss = CE(retain); gradients of kept convolution weights are scaled by 0.1, before decay and momentum
    lr at epoch s = 1..E: lr * s / A up to A = floor((E + 1) / 2), then lr * (E + 1 - s) / (E + 1 - A)

Source: code of the NeurIPS-2023 unlearning challenge entry ranked second, as benchmarked in arXiv:2410.01276 (there is no paper of its own).
Differs from the released code: there the two gradients are sums of batch means, with 64 examples a batch on retain and the tuned
batch on forget, so the tuned batch size changed their balance and so the mask; here both are means over as many examples.
As there, batch-norm statistics move in the gradient pass and in fine-tuning.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from engine.data.loader import Splits
from engine.losses import ce
from engine.models.parts import kaiming_normal_fan_out, redraw, smallest
from engine.models.stack import Stack
from engine.params import Params, hp, share_of_training
from engine.registry import method
from engine.runtime import PerReplica, Rng, Run
from engine.train import descend

KEPT_SCALE = 0.1


@dataclass(frozen=True, kw_only=True)
class MaskedSmallGradientsParams(Params):
    lr: float = hp(1e-3, within=(0, 10), search=(1e-5, 1e-1), log=True, doc="SGD step size at the peak of the triangle")
    momentum: float = hp(0.9, within=(0, 1), doc="SGD momentum")
    weight_decay: float = hp(5e-4, within=(0, 1), search=(1e-5, 1e-1), log=True, doc="L2 on all weights")
    epochs: int = hp(5, within=(1, 1000), search=share_of_training(0.2), doc="walks over retain")
    batch: int = hp(64, within=(1, 65_536), search=(64, 128, 256), doc="examples per step")
    ratio: float = hp(0.3, within=(0, 1), search=(0, 1), doc="share of each convolution's weights that is redrawn")


@method("msg", label="MSG", family="reset", source="code", paper="arXiv:2410.01276", reads={"retain", "forget"}, version=1, params=MaskedSmallGradientsParams)
def msg(stack: Stack, data: Splits, params: PerReplica, run: Run) -> Stack:
    student = stack.copy().train()
    return reborn(student, contrast_gradient(student, data, params.batch, run.rng), data, params, run)


def reborn(student: Stack, gradient: dict[str, Tensor], data: Splits, params: PerReplica, run: Run) -> Stack:
    """Redraw the convolution weights of smallest |gradient|, then fine-tune, in place; gradient: by convolution name, [R, ...]."""
    scale: dict[str, Tensor] = {}
    redrawn: dict[str, Tensor] = {}
    for name, weight in student.tensors("conv").items():
        flat = gradient[name].abs().flatten(1)
        mask = smallest(flat, torch.round(params.ratio * flat.shape[1]).long()).view_as(weight)
        redraw(weight, mask, kaiming_normal_fan_out, run.rng.generators)
        scale[name], redrawn[name] = torch.where(mask, 1.0, KEPT_SCALE).to(weight.dtype), mask
    run.selected(redrawn)
    return descend(student, data, "retain", params, run, schedule=triangle, grad_scale=scale)


def contrast_gradient(student: Stack, data: Splits, batch: int, rng: Rng) -> dict[str, Tensor]:
    """Mean gradient of CE on a random retain subset of forget's size, minus that on forget; by convolution name, [R, ...]."""
    n = min(data.size("forget"), data.size("retain"))
    student.zero_grad()
    for split, sign in (("retain", 1.0), ("forget", -1.0)):
        seen = 0
        for x, y in data.batches(split, min(batch, n), rng):
            x, y = x[:, : n - seen], y[:, : n - seen]
            (sign * ce(student(x), y) * (y.shape[1] / n)).sum().backward()
            seen += y.shape[1]
            if seen == n:
                break
    made = {name: torch.zeros_like(w) if w.grad is None else w.grad.clone() for name, w in student.tensors("conv").items()}
    student.zero_grad()
    return made


def triangle(lr: Tensor, epoch: int, total: Tensor) -> Tensor:
    """The rate of 0-based `epoch`: up to the middle, down towards zero after it; [R]."""
    step, top, end = epoch + 1, ((total + 1) / 2).floor(), total + 1
    return torch.where(step <= top, lr * step / top, (lr * (end - step) / (end - top)).clamp(min=0))
