"""Which class was taken for which. Class-wise accuracy is the diagonal over the sum of its row, and is stored nowhere else."""

import numpy as np
from jaxtyping import Int

from engine.errors import DataError


def confusion(labels: Int[np.ndarray, " n"], predicted: Int[np.ndarray, " n"], classes: int) -> Int[np.ndarray, "{classes} {classes}"]:
    """How many examples of each true class (row) were predicted as each class (column).

    Raises: DataError when a class is outside 0..classes-1.
    """
    for name, given in (("label", labels), ("prediction", predicted)):
        if given.size and (given.min() < 0 or given.max() >= classes):
            raise DataError(f"confusion: each {name} must be from 0 to {classes - 1}, got {given.min()} to {given.max()}")
    return np.bincount(labels * classes + predicted, minlength=classes * classes).reshape(classes, classes)
