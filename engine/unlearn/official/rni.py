"""Differs from the corrected RNI: only tensors with "bn" in their name are known as those of norm layers.

As the code released with arXiv:2410.01276 does. ResNet-18's down-sampling batch-norms ("downsample.1") and TinyViT's layer norms are drawn,
shaken and frozen like ordinary weights. On the small CNN there is no difference. The val accuracy that the code prints is left out here too.
"""

from engine.data.loader import Splits
from engine.models.stack import Stack
from engine.registry import method
from engine.runtime import PerReplica, Run
from engine.unlearn.rni import RepeatedNoiseParams, inject


@method("rni", variant="official", label="RNI", family="reset", source="code", paper="arXiv:2410.01276", reads={"retain"}, version=1,
        params=RepeatedNoiseParams)
def rni(stack: Stack, data: Splits, params: PerReplica, run: Run) -> Stack:
    return inject(stack, data, params, run, {n for n in stack.params if "bn" in n})
