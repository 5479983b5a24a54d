"""CT, convolution transpose: swap height and width of every convolution kernel, then fine-tune on retain.

    W[o, i, y, x] <- W[o, i, x, y]  (nothing for 1x1),  then  loss = CE(retain)

Source: code of the NeurIPS-2023 unlearning challenge entry ranked fifth, as benchmarked in arXiv:2410.01276 (there is no paper of its own).
SGD, cosine per epoch; batch-norm statistics move. Forget is never read.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool
from torch import Tensor

from engine.data.loader import Splits
from engine.models.stack import Stack
from engine.params import Params, hp, share_of_training
from engine.registry import method
from engine.runtime import PerReplica, Run
from engine.train import descend


@dataclass(frozen=True, kw_only=True)
class ConvolutionTransposeParams(Params):
    lr: float = hp(1e-3, within=(0, 10), search=(1e-5, 1e-1), log=True, doc="SGD step size at the start of the cosine")
    momentum: float = hp(0.9, within=(0, 1), doc="SGD momentum")
    weight_decay: float = hp(5e-4, within=(0, 1), search=(1e-5, 1e-1), log=True, doc="L2 on all weights")
    epochs: int = hp(3, within=(1, 1000), search=share_of_training(0.2), doc="walks over retain")
    batch: int = hp(64, within=(1, 65_536), search=(64, 128, 256), doc="examples per step")


@method("ct", label="CT", family="finetune", source="code", paper="arXiv:2410.01276", reads={"retain"}, version=1, params=ConvolutionTransposeParams)
def ct(stack: Stack, data: Splits, params: PerReplica, run: Run) -> Stack:
    student = transpose_kernels(stack.copy()).train()
    run.selected(moved_taps(student))
    return descend(student, data, "retain", params, run)


@torch.no_grad()
def transpose_kernels(stack: Stack) -> Stack:
    """Every convolution weight [R, O, I, h, w] with h and w swapped, in place."""
    for weight in stack.tensors("conv").values():
        weight.copy_(weight.transpose(-1, -2).clone())
    return stack


def moved_taps(stack: Stack) -> dict[str, Bool[Tensor, "r o i h w"]]:
    """Mask of the convolution weights that a transposition moves: all but those on the diagonal of their kernel."""
    return {name: ~torch.eye(*w.shape[-2:], dtype=torch.bool, device=w.device).expand(w.shape) for name, w in stack.tensors("conv").items()}
