"""NG+, NegGrad+: down the retain loss and up the forget loss, in one step.

    loss = alpha * CE(retain) - (1 - alpha) * CE(forget)

Source: Kurmanji et al., "Towards Unbounded Machine Unlearning", NeurIPS 2023, arXiv:2302.09880 (a baseline there).
One epoch is one walk over retain with forget cycled, reshuffled each time round; no schedule; batch-norm statistics are
frozen, as in the released code, whose optional pull towards the original weights has strength 0 and is left out.
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
class NegGradPlusParams(Params):
    lr: float = hp(1e-2, within=(0, 10), search=(1e-5, 1e-1), log=True, doc="SGD step size")
    momentum: float = hp(0.9, within=(0, 1), doc="SGD momentum")
    weight_decay: float = hp(0.0, within=(0, 1), search=(1e-5, 1e-1), log=True, doc="L2 on all weights")
    epochs: int = hp(10, within=(1, 1000), search=share_of_training(0.2), doc="walks over retain")
    batch: int = hp(256, within=(1, 65_536), search=(64, 128, 256), doc="examples per step, from each split")
    alpha: float = hp(0.95, within=(0, 1), search=(0, 1), doc="weight of the retain loss")


@method("ng_plus", label="NG+", family="ascent", source="paper", paper="arXiv:2302.09880", reads={"retain", "forget"}, version=1, params=NegGradPlusParams)
def ng_plus(stack: Stack, data: Splits, params: PerReplica, run: Run) -> Stack:
    student = stack.copy().eval()
    opt = SGD(student, lr=params.lr, momentum=params.momentum, weight_decay=params.weight_decay)
    for _ in run.epochs(params.epochs, student):
        for (x_r, y_r), (x_f, y_f) in data.paired("retain", "forget", params.batch, run.rng):
            keep, drop = ce(student(x_r), y_r), ce(student(x_f), y_f)
            opt.zero_grad()
            (params.alpha * keep - (1 - params.alpha) * drop).sum().backward()
            opt.step()
            run.log(retain_loss=keep, forget_loss=drop)
    return student
