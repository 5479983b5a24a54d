"""LiRA: was this example in the training set? Per example, from models that were trained on it and models that were not.

    online     log N(phi; member) - log N(phi; non-member)                    > 0 = member
    offline    z = (phi - mu) / (sigma sqrt(blur)) of the non-members         large = member

Run on original models it is a ceiling: what a membership attack sees where nothing was unlearned. It is U-LiRA's computation with other
worlds (`u_lira.py`, `gaussians.py`): each model is the target once, and the models of all other splits are its shadows. The
hypotheses differ, and answer different questions. U-LiRA: this model unlearned the example, or never saw it; 1/2 says that it
was forgotten. LiRA: this model was trained on the example, or was not; 1/2 says that there was nothing to forget.

The offline form asks how far phi lies above what models show that never saw the example; it knows no member, neither for centre
nor for spread. The paper's score is Phi(z); z has the same order and does not round to 1. Its threshold is chosen on one half of
the splits and used on the other (`rates.held_out_thresholds`); the online form has its own, 0.

Source: Carlini et al., "Membership Inference Attacks From First Principles", S&P 2022, arXiv:2112.03570.
Differs from the released code: cross-fitted over splits instead of fresh target models; means instead of medians; variances by
the rule in `gaussians.py` instead of each example's or one for all; offline one-sided as in the paper, where the code takes the
density, which also calls members those that lie far below; one query an example.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from engine.attacks.bootstrap import DRAWS
from engine.attacks.info import AttackInfo
from engine.attacks.u_lira import Form, ULiraResult, u_lira

INFO = AttackInfo(
    name="lira",
    label="LiRA",
    doc="Per example: likelihood ratio of models that were trained on it and models that were not. Balanced accuracy 1/2 is best.",
    paper="arXiv:2112.03570",
    version=1,
)


@dataclass(frozen=True)
class LiraResult(ULiraResult):
    """As U-LiRA's; in the names of `examples`, forgotten stands for member and never for non-member. `shift` is how far members lie
    above non-members, in standard deviations of the latter."""


def lira(phi: Float[np.ndarray, "m n"], world: Int[np.ndarray, "m n"], split: Int[np.ndarray, " m"], *,
         form: Form = "online", seed: int = 0, draws: int = DRAWS) -> LiraResult:
    """Attack m models at n examples. world: 1 trained on, 0 never seen, -1 not used; split: models that share training data.

    Both forms score the same examples, those with two splits or more in each world. The seed moves nothing but the intervals.
    Raises: DataError as `u_lira`.
    """
    return LiraResult(**vars(u_lira(phi, world, split, form=form, seed=seed, draws=draws)))
