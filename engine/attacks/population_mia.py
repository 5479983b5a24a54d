"""Population membership inference, and Indiscernibility: one loss threshold for all examples, as the reference study has it.

    accuracy of a logistic regression on the raw loss, forget examples against as many that were never trained on
    indiscernibility = 1 - |2 * accuracy - 1|                  1 = cannot be told apart, 0 = always (or always wrongly) told

The cheap attack, shown for comparison: one threshold for all examples misses what per-example attacks see.
Source: Cadet et al., "Deep Unlearn", EuroS&P 2025, arXiv:2410.01276, after its released code.
Differs: members are labelled 1 (there 0, which changes nothing in balanced data).
"""

import warnings

import numpy as np
from jaxtyping import Float
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedShuffleSplit

from engine.attacks.info import AttackInfo
from engine.errors import DataError, Diverged

INFO = AttackInfo(
    name="population_mia",
    label="Population MIA",
    doc="Logistic regression on the loss of forget against unseen examples; accuracy over ten random tenths, 1/2 is best.",
    paper="arXiv:2410.01276",
    version=1,
)

FOLDS = 10
TEST_FRACTION = 0.1
FEWEST = 10  # examples a side: below, a tenth of them holds no pair to test on


def population_mia(member_loss: Float[np.ndarray, " n"], non_member_loss: Float[np.ndarray, " m"], seed: int = 123) -> float:
    """Mean test accuracy of telling members from non-members by loss: fraction, 1/2 = chance, both directions leak.

    `seed` shuffles both sides (the longer is cut to the shorter) and draws the ten test tenths.
    Raises: Diverged if a loss is not finite; DataError below 10 examples a side.
    """
    for side, loss in (("member", member_loss), ("non-member", non_member_loss)):
        if len(loss) < FEWEST:
            raise DataError(f"population_mia needs {FEWEST} or more {side} losses, got {len(loss)}")
        if bad := int((~np.isfinite(loss)).sum()):
            raise Diverged(f"population_mia: {bad} of {len(loss)} {side} losses are not finite, the model diverged")
    rng = np.random.RandomState(seed)
    size = min(len(member_loss), len(non_member_loss))
    member, non_member = (rng.permutation(loss)[:size] for loss in (member_loss, non_member_loss))
    x = np.concatenate([member, non_member]).astype(np.float64)[:, None]
    y = np.repeat([1, 0], size)
    folds = StratifiedShuffleSplit(n_splits=FOLDS, test_size=TEST_FRACTION, random_state=seed)
    with warnings.catch_warnings():  # the study takes the fit as it is after scikit-learn's default of 100 steps
        warnings.simplefilter("ignore", ConvergenceWarning)
        fits = [LogisticRegression().fit(x[train], y[train]).score(x[test], y[test]) for train, test in folds.split(x, y)]
    return float(np.mean(fits))


def indiscernibility(mia: float) -> float:
    """1 - |2 * mia - 1|, in [0, 1]: 1 = members and non-members cannot be told apart. Per seed, then averaged: the mean of
    many is not the value at their mean accuracy.

    Raises: DataError unless `mia` is an accuracy in [0, 1].
    """
    if not 0 <= mia <= 1:
        raise DataError(f"indiscernibility needs an accuracy in [0, 1], got {mia}")
    return 1 - abs(2 * mia - 1)
