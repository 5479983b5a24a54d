"""BT as released: the bad teacher is a random ResNet-18 whatever the student is, and KL is averaged over batch and classes, a K-th of `bt`'s.

With the smaller loss weight decay weighs more. ResNet-18 needs images of 3 channels and 32 pixels or more, so this runs on no others.
Otherwise as `bt`, whose docstring has the formula and sources. The released code also writes a checkpoint every epoch, inside the time it
reports; that time is not spent here.
"""

from torch import Tensor

from engine.data.loader import Splits
from engine.losses import kl
from engine.models.resnet18 import RESNET18
from engine.models.stack import Stack
from engine.registry import method
from engine.runtime import PerReplica, Run
from engine.unlearn.bt import BadTeacherParams, imitate


@method("bt", label="BT", family="distillation", source="code", paper="arXiv:2205.08096", reads={"retain", "forget"}, version=1,
        params=BadTeacherParams, variant="official")
def bt(stack: Stack, data: Splits, params: PerReplica, run: Run) -> Stack:
    return imitate(stack, data, params, run, RESNET18, kl_over_classes)


def kl_over_classes(target: Tensor, logits: Tensor, temperature: Tensor) -> Tensor:
    """KL in nats, mean over batch and classes, [R]."""
    return kl(target, logits, temperature) / logits.shape[-1]
