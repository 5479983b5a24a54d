"""EU-k, exact unlearning of the last k blocks: forget them altogether and train them anew on the retain data.

    last k blocks and head <- fresh: convolutions U(-1, 1) * sqrt(6 / fan_out), linear layers U(-1, 1) * sqrt(6 / (fan_in + fan_out)),
                                     norm layers gain 1, all biases 0, running mean 0 and variance 1
    loss = CE(augmented retain) + (pull / 2) * ||w - w_fresh||^2,  w: the weights of these blocks and the head; all others are frozen
    lr at 0-based epoch e of E: lr * lr_decay^n, n = how many of 0.5 E, 0.8 E and 0.9 E, rounded down, e is beyond

Source: Goel et al., "Towards Adversarial Evaluations for Inexact Machine Unlearning", 2022, arXiv:2201.06640.
As benchmarked in arXiv:2410.01276: plain SGD, without momentum or decay; the pull, here towards the fresh weights, with which training starts.
Differs from the released code, which keeps the original's batch-norm statistics under the fresh weights and trains with them frozen, and leaves
layer norms and attention biases as they were. Here all of a block is fresh and the network trains in train mode, so batch-norm statistics move,
those of frozen blocks too. An architecture with fewer than k blocks is trained anew in all of them. Forget is never read.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from engine.data.loader import Splits
from engine.models.parts import kaiming_uniform_fan_out, last_blocks, layer_of, redraw, xavier_uniform
from engine.models.stack import Stack
from engine.params import Params, hp, share_of_training
from engine.registry import method
from engine.runtime import PerReplica, Run
from engine.steps import descend_tethered


@dataclass(frozen=True, kw_only=True)
class ExactUnlearningParams(Params):
    lr: float = hp(1e-2, within=(0, 10), search=(1e-5, 1e-1), log=True, doc="SGD step size at the start")
    lr_decay: float = hp(0.1, within=(0, 1), search=(0, 1), inert=True, doc="factor on the step size after half, 0.8 and 0.9 of the epochs")
    epochs: int = hp(10, within=(1, 1000), search=share_of_training(0.2), doc="walks over retain")
    batch: int = hp(256, within=(1, 65_536), search=(64, 128, 256), doc="examples per step")
    k: int = hp(1, within=(1, 10), search=(1, 4), doc="blocks that are trained anew, counted from the head; all where there are fewer")
    pull: float = hp(0.1, within=(0, 10), search=(1e-5, 1e-1), log=True, doc="strength of the pull towards the fresh weights")


@method("eu_k", label="EU-k", family="reset", source="paper", paper="arXiv:2201.06640", reads={"retain"}, version=1, params=ExactUnlearningParams)
def eu_k(stack: Stack, data: Splits, params: PerReplica, run: Run) -> Stack:
    student = stack.copy().train()
    chosen = last_blocks(student, params.k)
    refresh_weights(student, chosen, run.rng.for_purpose("fresh").generators)
    refresh_statistics(student, chosen)
    return descend_tethered(student, data, chosen, params, run, augment=True)


@torch.no_grad()
def refresh_weights(stack: Stack, chosen: Mapping[str, Tensor], generators: Sequence[torch.Generator]) -> None:
    """Make the chosen weights fresh in place, in the order of `chosen`, each replica from its own generator."""
    for name, mask in chosen.items():
        weight, layer, of_weight = stack.params[name], layer_of(stack, name), name.endswith(".weight")
        if of_weight and isinstance(layer, nn.Conv2d):
            redraw(weight, mask, kaiming_uniform_fan_out, generators)
        elif of_weight and isinstance(layer, nn.Linear):
            redraw(weight, mask, xavier_uniform, generators)
        else:
            weight.copy_(torch.where(mask, 1.0 if of_weight else 0.0, weight))


@torch.no_grad()
def refresh_statistics(stack: Stack, chosen: Mapping[str, Tensor]) -> None:
    """Running mean 0 and variance 1, in place, for the batch-norm layers whose gains are chosen."""
    for name, mask in chosen.items():
        layer, _, kind = name.rpartition(".")
        if kind == "weight" and isinstance(layer_of(stack, name), nn.BatchNorm2d):
            for statistic, fresh in (("running_mean", 0.0), ("running_var", 1.0)):
                values = stack.buffers[f"{layer}.{statistic}"]
                values.copy_(torch.where(mask, fresh, values))
