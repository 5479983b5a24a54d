"""Differs from the corrected CFW: class weights only rescale each batch's loss, and noise goes to modules by their name.

As the code released with arXiv:2410.01276 does: loss = batch-mean CE * mean class weight of the batch; noise on every direct child of the
network with "conv" in its name. That is ResNet-18's stem, all three convolutions of the small CNN, and nothing of TinyViT.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from engine.data.loader import Splits
from engine.losses import ce
from engine.models.stack import Stack
from engine.registry import method
from engine.runtime import PerReplica, Run
from engine.unlearn.cfw import ConfuseFinetuneWeakenParams, confuse_and_weaken


@method("cfw", variant="official", label="CFW", family="finetune", source="code", paper="arXiv:2410.01276", reads={"retain"}, version=1,
        params=ConfuseFinetuneWeakenParams)
def cfw(stack: Stack, data: Splits, params: PerReplica, run: Run) -> Stack:
    called_conv = [name for name, _ in stack.template.named_children() if "conv" in name]
    return confuse_and_weaken(stack, data, params, run, called_conv, rescaled_ce)


def rescaled_ce(logits: Float[Tensor, "r b k"], y: Int[Tensor, "r b"], weight: Float[Tensor, "r k"]) -> Float[Tensor, " r"]:
    """Mean cross-entropy of the batch times its mean class weight."""
    return ce(logits, y) * weight.gather(1, y).mean(1, dtype=torch.float64)  # in double as in `weighted_ce`
