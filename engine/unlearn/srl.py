"""SRL, successive random labels: train on everything, with a fresh random label for each forget example at every visit.

    loss = CE(forget + retain shuffled together),  y_forget ~ Uniform over all classes

Lineage: Golatkar et al., "Eternal Sunshine of the Spotless Net", CVPR 2020, arXiv:1911.04933; as benchmarked in arXiv:2410.01276:
the true class may be drawn, SGD without schedule, batch-norm statistics move.
"""

from dataclasses import dataclass

from engine.data.loader import Splits
from engine.models.stack import Stack
from engine.params import Params, hp, share_of_training
from engine.registry import method
from engine.runtime import PerReplica, Run
from engine.steps import relabel


@dataclass(frozen=True, kw_only=True)
class RandomLabelParams(Params):
    lr: float = hp(0.1, within=(0, 10), search=(1e-5, 1e-1), log=True, doc="SGD step size")
    momentum: float = hp(0.9, within=(0, 1), doc="SGD momentum")
    weight_decay: float = hp(5e-4, within=(0, 1), search=(1e-5, 1e-1), log=True, doc="L2 on all weights")
    epochs: int = hp(5, within=(1, 1000), search=share_of_training(0.2), doc="walks over retain and forget together")
    batch: int = hp(256, within=(1, 65_536), search=(64, 128, 256), doc="examples per step")


@method("srl", label="SRL", family="ascent", source="paper", paper="arXiv:1911.04933", reads={"retain", "forget"}, version=1, params=RandomLabelParams)
def srl(stack: Stack, data: Splits, params: PerReplica, run: Run) -> Stack:
    return relabel(stack.copy().train(), data, params, run)
