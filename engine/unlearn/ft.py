"""FT, fine-tuning: go on training on the retain data alone and let the forget data fade.

    loss = CE(retain)

Baseline of the Deep Unlearn study, arXiv:2410.01276. SGD, cosine per epoch; batch-norm statistics move. Forget is never read.
"""

from dataclasses import dataclass

from engine.data.loader import Splits
from engine.models.stack import Stack
from engine.params import Params, hp, share_of_training
from engine.registry import method
from engine.runtime import PerReplica, Run
from engine.train import descend


@dataclass(frozen=True, kw_only=True)
class FineTuneParams(Params):
    lr: float = hp(0.1, within=(0, 10), search=(1e-5, 1e-1), log=True, doc="SGD step size at the start of the cosine")
    momentum: float = hp(0.9, within=(0, 1), doc="SGD momentum")
    weight_decay: float = hp(5e-4, within=(0, 1), search=(1e-5, 1e-1), log=True, doc="L2 on all weights")
    epochs: int = hp(5, within=(1, 1000), search=share_of_training(0.2), doc="walks over retain")
    batch: int = hp(256, within=(1, 65_536), search=(64, 128, 256), doc="examples per step")


@method("ft", label="FT", family="finetune", source="paper", paper="arXiv:2410.01276", reads={"retain"}, version=1, params=FineTuneParams)
def ft(stack: Stack, data: Splits, params: PerReplica, run: Run) -> Stack:
    return descend(stack.copy().train(), data, "retain", params, run)
