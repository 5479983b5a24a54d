"""Unlearned against retrained, per example: can a model that unlearned x be told from one that was retrained without x?

    world 1: theta = unlearn(train(D), F)    world 0: theta = train(D \\ F)       the same split D, the same forget set F, x in F
    log N(phi(theta; x); unlearned) - log N(phi(theta; x); retrained) > 0         read by the attack of `u_lira`, cross-fitted by split

1/2 balanced accuracy = as if retrained. This is the other hypothesis than U-LiRA's, and answers another question:

    U-LiRA        forgotten or never seen, in models that have all unlearned something: does x leak?
    this          unlearned or retrained, x being gone from both: is the procedure as good as retraining?

What unlearning does to every output (noise, other confidence, fewer epochs) is in both of U-LiRA's worlds and cancels there. Here it
counts: far from 1/2 says "not like retraining", and only together with U-LiRA also "because of x". In the result, whatever is
named `forgotten` is of unlearned models and whatever is named `never` of retrained ones; `shift` is in standard deviations of the
retrained world, positive = surer of x than retraining would be (under-forgotten), negative = less sure (over-forgotten).

Pairs. Row k of both arrays has the same split, forget set and, in our studies, initial weights, so its two values move together.
The attacker is shown one model at a time, so what is estimated does not change; but the two centres of an example err to the same
side, their difference less, and a draw of splits takes both rows: the attack tells smaller differences, with narrower intervals,
than from independent models. Leaving out a split leaves out both rows: a twin left in would draw the other centre to the value.

Control: models retrained a second time, with other initial weights, in place of the unlearned ones. They must come out at 1/2. They
are no pairs, so their interval is the wider one: passing it is not made easier by the pairing.

Source: the definition of Triantafillou et al., "Are we making progress in unlearning?", 2024, arXiv:2406.09073 (per example,
distributions of unlearned and retrained models), with the attack of Hayes et al., SaTML 2025, arXiv:2403.01218.
Differs: fits and weights of `gaussians`, cross-fitted over splits; balanced accuracy, AUC and rates, where the former reports epsilon.
"""

from dataclasses import replace

import numpy as np
from jaxtyping import Bool, Float, Int

from engine.attacks.bootstrap import DRAWS
from engine.attacks.gaussians import FORGOTTEN, NEVER, NOT_USED
from engine.attacks.info import AttackInfo
from engine.attacks.u_lira import ULiraResult, cross_fit, measure
from engine.errors import DataError

INFO = AttackInfo(
    name="versus_retrained",
    label="Against retrained",
    doc="Per example: likelihood ratio of models that unlearned it and models retrained without it. Balanced accuracy 1/2 is best.",
    paper="arXiv:2406.09073",
    version=1,
)

UNLEARNED, RETRAINED = FORGOTTEN, NEVER  # what the two codes of `world` stand for here


def versus_retrained(phi_unlearned: Float[np.ndarray, "m n"], phi_retrained: Float[np.ndarray, "m n"], used: Bool[np.ndarray, "m n"],
                     split: Int[np.ndarray, " m"], *, seed: int = 0, draws: int = DRAWS) -> ULiraResult:
    """Attack m pairs of models at n examples. used: x is in the forget set of that row; split: models that share training data.

    Rows of both arrays belong together: same split and forget set. `n_models` counts both. The seed moves nothing but the intervals.
    Raises: DataError for arrays that do not fit together, and as `u_lira.cross_fit`.
    """
    found = measure(cross_fit(*side_by_side(phi_unlearned, phi_retrained, used, split)), seed=seed, draws=draws)
    return replace(found, n_models=2 * int(used.any(1).sum()))


def side_by_side(phi_unlearned: Float[np.ndarray, "m n"], phi_retrained: Float[np.ndarray, "m n"], used: Bool[np.ndarray, "m n"],
                 split: Int[np.ndarray, " m"]) -> tuple[Float[np.ndarray, "p n"], Int[np.ndarray, "p n"], Int[np.ndarray, " p"]]:
    """(phi, world, split) as one attack takes them (`cross_fit`, `exposure.fit_halves`), world 1 for unlearned and 0 for retrained.

    A forget set is a small part of a row, and an attack knows models by their split alone. So values of one split share rows where
    their forget sets do not overlap: the same result from a tenth of the memory with disjoint tenths.
    Raises: DataError when shapes differ, or nothing is used.
    """
    _check(phi_unlearned, phi_retrained, used, split)
    phis, worlds, splits = [], [], []
    for s in np.unique(split[used.any(1)]):
        rows = split == s
        place = np.where(used[rows], np.cumsum(used[rows], 0), 0)  # 1 for the first value that an example has in this split, 0 for none
        for k in range(1, int(place.max()) + 1):
            mine = place == k
            for phi, code in ((phi_unlearned, UNLEARNED), (phi_retrained, RETRAINED)):
                phis.append(np.where(mine, phi[rows], 0).sum(0))
                worlds.append(np.where(mine.any(0), code, NOT_USED).astype(np.int8))
                splits.append(s)
    return np.stack(phis), np.stack(worlds), np.array(splits)


def _check(phi_unlearned: np.ndarray, phi_retrained: np.ndarray, used: np.ndarray, split: np.ndarray) -> None:
    if phi_unlearned.ndim != 2 or not phi_unlearned.shape == phi_retrained.shape == used.shape or split.shape != used.shape[:1]:
        raise DataError("phi of unlearned and of retrained models and `used` must all be [models, examples] with the same rows, and split "
                        f"[models]: got {phi_unlearned.shape}, {phi_retrained.shape}, {used.shape} and {split.shape}")
    if not used.any():
        raise DataError("no example is used in any row: `used` must mark the examples in the forget set of each row")
