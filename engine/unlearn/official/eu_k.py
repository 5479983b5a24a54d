"""Differs from the corrected EU-k: fresh weights keep the original's batch-norm statistics, which stay frozen; some weights are not made fresh.

As the code released with arXiv:2410.01276 does. The network trains in eval mode, so the statistics of the original's activations go on
normalising those of the fresh weights. Layer norms are trained from their original values; attention biases are neither made fresh nor
trained (in eval mode that code reads a copy of them that has no gradient). On networks of convolutions, batch-norm and linear layers
the statistics are all that differs.
"""

from torch import nn

from engine.data.loader import Splits
from engine.models.parts import last_blocks, layer_of
from engine.models.stack import Stack
from engine.registry import method
from engine.runtime import PerReplica, Run
from engine.steps import descend_tethered
from engine.unlearn.eu_k import ExactUnlearningParams, refresh_weights

FRESH = (nn.Conv2d, nn.Linear, nn.BatchNorm2d)


@method("eu_k", variant="official", label="EU-k", family="reset", source="paper", paper="arXiv:2201.06640", reads={"retain"}, version=1,
        params=ExactUnlearningParams)
def eu_k(stack: Stack, data: Splits, params: PerReplica, run: Run) -> Stack:
    student = stack.copy().eval()
    trained = {n: mask for n, mask in last_blocks(student, params.k).items() if isinstance(layer_of(student, n), (*FRESH, nn.LayerNorm))}
    fresh = {n: mask for n, mask in trained.items() if isinstance(layer_of(student, n), FRESH)}
    refresh_weights(student, fresh, run.rng.for_purpose("fresh").generators)
    return descend_tethered(student, data, trained, params, run, augment=True)
