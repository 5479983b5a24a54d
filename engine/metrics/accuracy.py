"""Top-1 accuracy, and how far an unlearned model's accuracies are from the retrained model's of the same seed.

    retention = accuracy(unlearned) / accuracy(retrained)                               1 = as retrained
    retention deviation = |retain - 1| + |forget - 1| + |test - 1|   (of retentions)    0 = as retrained

Source: the ratios are those of the released code of Cadet et al., "Deep Unlearn", EuroS&P 2025, arXiv:2410.01276; their sum
is a reconstruction from works that cite it. Matched by seed, and averaged only afterwards.
"""

import numpy as np
from jaxtyping import Float, Int

from engine.errors import DataError, Diverged


def top1_accuracy(logits: Float[np.ndarray, "*m n k"], y: Int[np.ndarray, " n"]) -> Float[np.ndarray, "*m"]:
    """Share of examples whose largest logit is the true class's, per model: fraction in [0, 1]. Ties go to the lower class.

    Raises: DataError without examples; Diverged if any logit is not finite (its argmax would be an arbitrary class).
    """
    if not y.size:
        raise DataError("accuracy needs at least one example, got none")
    if not np.isfinite(logits).all():
        raise Diverged("accuracy: some logits are not finite, the model diverged")
    return np.asarray((logits.argmax(-1) == y).mean(-1, dtype=np.float64))


def retention(unlearned: float, retrained: float) -> float:
    """Accuracy of the unlearned model relative to the retrained one's on the same split: below 1 = worse than retrained.

    NaN where the retrained model gets nothing right: no ratio exists (a whole class forgotten, say); the store shows it as
    missing. Raises: DataError unless both are fractions in [0, 1].
    """
    if not (0 <= unlearned <= 1 and 0 <= retrained <= 1):
        raise DataError(f"retention needs two accuracies in [0, 1], got {unlearned} and {retrained}")
    return unlearned / retrained if retrained else float("nan")


def retention_deviation(retain: float, forget: float, test: float) -> float:
    """Summed distance of the three retentions from 1: 0 is best; NaN where one of them does not exist.

    Forgetting too much (forget retention below 1) counts like forgetting too little.
    """
    return abs(retain - 1) + abs(forget - 1) + abs(test - 1)
