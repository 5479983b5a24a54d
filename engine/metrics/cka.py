"""Linear CKA: do two networks, or two layers, arrange the same examples in the same way? 1 = alike up to rotation and scale, 0 = unrelated.

    cka(x, y) = hsic(x, y) / sqrt(hsic(x, x) hsic(y, y)),  x and y centred

    biased      hsic(x, y) = |x^T y|_F^2                                                                   over (n - 1)^2
    debiased    hsic(x, y) = |x^T y|_F^2 - n / (n - 2) sum_i a_i b_i + sum_i a_i sum_i b_i / ((n - 1)(n - 2))    over n (n - 3)
                a_i = |x_i|^2,  b_i = |y_i|^2

Debiased unless asked otherwise. The biased form goes to 1 for anything when there are more features than examples: unrelated Gaussians get
sqrt(d1 d2 / ((d1 + n) (d2 + n))), 0.95 for 50 examples of 1,000 features. The debiased one is about 0 there, at times slightly below.

|x^T y|^2 is also the sum of the products of the two Gram matrices' entries; whichever needs fewer multiplications is taken.

Source: Kornblith et al., "Similarity of Neural Network Representations Revisited", ICML 2019, arXiv:1905.00414; unbiased HSIC from Song et
al., "Feature Selection via Dependence Maximization", JMLR 2012, written for a linear kernel of centred features; minibatches from Nguyen et
al., "Do Wide and Deep Networks Learn the Same Things?", ICLR 2021, arXiv:2010.15327.
Differs: debiased by default; minibatches need not have equal sizes and count by theirs.
"""

from collections.abc import Iterable, Mapping

import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray

from engine.errors import DataError, Diverged

Floats = NDArray[np.float64]
FEWEST = 4  # examples: below, unbiased HSIC does not exist
_TOO_LARGE = 1e60  # beyond any activation, and its fourth power still fits
_ROUNDING = 1e-12  # a variance this small a part of what it was computed from is none


def linear_cka(x: Float[np.ndarray, "n d1"], y: Float[np.ndarray, "n d2"], *, debiased: bool = True) -> float:
    """CKA of two activation matrices of the same n examples in the same order: 1 = alike, 0 = unrelated; debiased from -1 to 1.

    NaN where a side is the same for all examples, or (debiased) where all examples are equally far from each other: nothing to compare.
    Raises: DataError below 4 examples (biased: 2), without features, or when the numbers of examples differ; Diverged if an activation is
    not finite.
    """
    return _ratio(_hsics(x, y, debiased))


def minibatch_cka(batches: Iterable[tuple[np.ndarray, np.ndarray]]) -> float:
    """Debiased CKA from pairs ([b, d1], [b, d2]), one batch of examples after the other, for data that do not fit at once.

    Each batch's HSIC is unbiased, so their mean estimates the same number as all examples at once, whatever the size of a batch; it is
    noisier, as only pairs within a batch are compared. NaN as in `linear_cka`. Raises: as there, for each batch; DataError without any.
    """
    parts = [len(x) * _hsics(x, y, True) for x, y in batches]
    if not parts:
        raise DataError("CKA needs one or more batches, got none")
    return _ratio(np.sum(parts, axis=0))


def layer_cka(first: Mapping[str, np.ndarray], second: Mapping[str, np.ndarray], *, debiased: bool = True) -> dict[str, float]:
    """CKA of each layer of two networks, by its name. Activations [n, ...] of the same examples; all but the first axis are features.

    A convolution's maps at full size are many features: average them over space first, or take `minibatch_cka`.
    Raises: DataError when the two have different layers, or as `linear_cka`.
    """
    if faults := [f"layer '{name}' is only in one of the two networks" for name in sorted(first.keys() ^ second.keys())]:
        raise DataError(*faults)
    return {name: linear_cka(_flat(x), _flat(second[name]), debiased=debiased) for name, x in first.items()}


def _hsics(x: np.ndarray, y: np.ndarray, debiased: bool) -> Floats:
    """HSIC of x with y, x with x and y with y, and what the last two were computed from; without the common factor when biased."""
    x, y = _centred(x, y, FEWEST if debiased else 2)
    n, (d1, d2) = len(x), (x.shape[1], y.shape[1])
    if n * (d1 + d2) < d1 * d1 + d1 * d2 + d2 * d2:
        gram_x, gram_y = x @ x.T, y @ y.T
        xy, xx, yy = float(np.vdot(gram_x, gram_y)), float(np.vdot(gram_x, gram_x)), float(np.vdot(gram_y, gram_y))
    else:
        xy, xx, yy = (float(np.linalg.norm(a.T @ b)) ** 2 for a, b in ((x, y), (x, x), (y, y)))
    if not debiased:
        return np.array([xy, xx, yy, xx, yy])
    a, b = np.einsum("nd,nd->n", x, x), np.einsum("nd,nd->n", y, y)

    def unbiased(dot: float, a: Floats, b: Floats) -> float:
        return (dot - n / (n - 2) * float(a @ b) + float(a.sum() * b.sum()) / ((n - 1) * (n - 2))) / (n * (n - 3))

    return np.array([unbiased(xy, a, b), unbiased(xx, a, a), unbiased(yy, b, b), xx / (n * (n - 3)), yy / (n * (n - 3))])


def _ratio(hsics: Floats) -> float:
    xy, xx, yy, all_x, all_y = hsics.tolist()
    if xx <= _ROUNDING * all_x or yy <= _ROUNDING * all_y:
        return float("nan")
    return xy / (xx**0.5 * yy**0.5)


def _centred(x: np.ndarray, y: np.ndarray, fewest: int) -> tuple[Floats, Floats]:
    if x.ndim != 2 or y.ndim != 2 or len(x) != len(y) or 0 in (x.shape[1], y.shape[1]):
        raise DataError(f"CKA needs activations [examples, features] of the same examples, got {x.shape} and {y.shape}")
    if len(x) < fewest:
        raise DataError(f"CKA needs {fewest} or more examples, got {len(x)}")
    return _centre(x), _centre(y)


def _centre(x: np.ndarray) -> Floats:
    x = x.astype(np.float64)
    if not (np.abs(x) < _TOO_LARGE).all():
        raise Diverged(f"CKA: some activations are NaN, infinite or beyond {_TOO_LARGE:g}, the model diverged")
    x -= x[0].copy()  # what is constant becomes exactly 0, which a mean would miss by its rounding
    x -= x.mean(0)
    return x


def _flat(x: np.ndarray) -> np.ndarray:
    return x.reshape(len(x), -1) if x.ndim > 1 else x
