"""Differs from the corrected SalUn: early forget batches count more than once in the saliency, and masked weights still decay.

As the code released with arXiv:2410.01276 does. Gradients are never cleared between the n batches of forget, so batch j = 1..n counts
n - j + 1 times; with a single batch there is no difference. The mask multiplies the gradient alone, so weight decay moves all weights.
"""

import math

from engine.data.loader import Splits
from engine.models.stack import Stack
from engine.registry import method
from engine.runtime import PerReplica, Run
from engine.steps import relabel
from engine.unlearn.salun import SaliencyParams, forget_gradient, salient


@method("salun", variant="official", label="SalUn", family="ascent", source="paper", paper="arXiv:2310.12508", reads={"retain", "forget"}, version=1,
        params=SaliencyParams)
def salun(stack: Stack, data: Splits, params: PerReplica, run: Run) -> Stack:
    student, batches = stack.copy(), math.ceil(data.size("forget") / params.batch)
    gradient = forget_gradient(student.eval(), data, params.batch, run.rng, lambda number, _: batches - number)
    mask = salient(gradient, params.ratio)
    run.selected(mask)
    return relabel(student.train(), data, params, run, grad_scale=mask)
