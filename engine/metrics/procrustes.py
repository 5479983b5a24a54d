"""One cloud of points turned onto another, when the axes of neither mean anything to the other.

    argmin over rotations and reflections Q of |A Q - B|, both centred:  Q = U V^T  of  A^T B = U S V^T

Source: Schoenemann, "A Generalized Solution of the Orthogonal Procrustes Problem", Psychometrika 1966.
"""

import numpy as np
from numpy.typing import NDArray

from engine.errors import DataError


def procrustes(given: NDArray[np.float64], onto: NDArray[np.float64], by: NDArray[np.bool_]) -> NDArray[np.float64]:
    """`given` [n, p] shifted and turned or mirrored, never stretched, so that its points `by` [n] come as near as can be to the same points of
    `onto` [n, p]. Raises: DataError where `by` chooses none.
    """
    if not by.any():
        raise DataError("Procrustes needs one or more points to align by, got none")
    here, there = given[by].mean(0), onto[by].mean(0)
    left, _, right = np.linalg.svd((given[by] - here).T @ (onto[by] - there))
    return (given - here) @ (left @ right) + there
