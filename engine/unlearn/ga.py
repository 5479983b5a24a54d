"""GA, gradient ascent: climb the loss of the forget data.

    loss = -CE(forget)

Lineage: Graves et al., "Amnesiac Machine Learning", AAAI 2021; Thudi et al., "Unrolling SGD", EuroS&P 2022, arXiv:2109.13398.
As benchmarked in arXiv:2410.01276: SGD without schedule, clipping or stop rule; batch-norm statistics move towards forget.
Retain is never read, so nothing holds the model back: with many epochs it diverges, which is recorded as a failure.
"""

from dataclasses import dataclass

from engine.data.loader import Splits
from engine.losses import ce
from engine.models.stack import Stack
from engine.optim import SGD
from engine.params import Params, hp, share_of_training
from engine.registry import method
from engine.runtime import PerReplica, Run


@dataclass(frozen=True, kw_only=True)
class GradientAscentParams(Params):
    lr: float = hp(1e-2, within=(0, 10), search=(1e-5, 1e-1), log=True, doc="SGD step size")
    momentum: float = hp(0.9, within=(0, 1), doc="SGD momentum")
    weight_decay: float = hp(5e-4, within=(0, 1), search=(1e-5, 1e-1), log=True, doc="L2 on all weights")
    epochs: int = hp(10, within=(1, 1000), search=share_of_training(0.2), doc="walks over forget")
    batch: int = hp(256, within=(1, 65_536), search=(64, 128, 256), doc="examples per step")


@method("ga", label="GA", family="ascent", source="paper", paper="arXiv:2109.13398", reads={"forget"}, version=1, params=GradientAscentParams)
def ga(stack: Stack, data: Splits, params: PerReplica, run: Run) -> Stack:
    student = stack.copy().train()
    opt = SGD(student, lr=params.lr, momentum=params.momentum, weight_decay=params.weight_decay)
    for _ in run.epochs(params.epochs, student):
        for x, y in data.batches("forget", params.batch, run.rng):
            loss = ce(student(x), y)
            opt.zero_grad()
            (-loss).sum().backward()
            opt.step()
            run.log(forget_loss=loss)
    return student
