"""CF-k, catastrophic forgetting of the last k blocks: fine-tune only the end of the network on the retain data.

    loss = CE(retain) + (pull / 2) * ||w - w_original||^2,  w: the weights of the last k blocks and the head; all others are frozen
    lr at 0-based epoch e of E: lr * lr_decay^n, n = how many of 0.5 E, 0.8 E and 0.9 E, rounded down, e is beyond

Source: Goel et al., "Towards Adversarial Evaluations for Inexact Machine Unlearning", 2022, arXiv:2201.06640.
As benchmarked in arXiv:2410.01276: plain SGD, without momentum or decay; batch-norm statistics are frozen; the pull.
An architecture with fewer than k blocks is trained in all of them; what lies outside its blocks and head stays. Forget is never read.
On TinyViT attention biases learn like other weights, which they cannot in the released code: in eval mode it reads a copy without gradient.
"""

from dataclasses import dataclass

from engine.data.loader import Splits
from engine.models.parts import last_blocks
from engine.models.stack import Stack
from engine.params import Params, hp, share_of_training
from engine.registry import method
from engine.runtime import PerReplica, Run
from engine.steps import descend_tethered


@dataclass(frozen=True, kw_only=True)
class CatastrophicForgettingParams(Params):
    lr: float = hp(1e-2, within=(0, 10), search=(1e-5, 1e-1), log=True, doc="SGD step size at the start")
    lr_decay: float = hp(0.1, within=(0, 1), search=(0, 1), inert=True, doc="factor on the step size after half, 0.8 and 0.9 of the epochs")
    epochs: int = hp(10, within=(1, 1000), search=share_of_training(0.2), doc="walks over retain")
    batch: int = hp(256, within=(1, 65_536), search=(64, 128, 256), doc="examples per step")
    k: int = hp(1, within=(1, 10), search=(1, 4), doc="blocks that are trained, counted from the head; all where there are fewer")
    pull: float = hp(0.1, within=(0, 10), search=(1e-5, 1e-1), log=True, doc="strength of the pull towards the original weights")


@method("cf_k", label="CF-k", family="finetune", source="paper", paper="arXiv:2201.06640", reads={"retain"}, version=1, params=CatastrophicForgettingParams)
def cf_k(stack: Stack, data: Splits, params: PerReplica, run: Run) -> Stack:
    student = stack.copy().eval()
    return descend_tethered(student, data, last_blocks(student, params.k), params, run)
