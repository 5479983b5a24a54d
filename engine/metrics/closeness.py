"""How close a model's outputs and weights are to a retrained model's: from logits and weights, per model, 0 = the same unless said otherwise.

    js                   KL(p | m) / 2 + KL(q | m) / 2,  m = (p + q) / 2      nats, 0 to ln 2, p and q two models' softmax
    activation distance  mean over examples of |p - q|                        L2 norm, 0 to sqrt 2
    zrf                  1 - mean over forget of js(p, q) / ln 2              q: an untrained network; 0 to 1, 1 = as if untrained
    churn                share of examples with another predicted class      1 - agreement
    weight distance      |theta_u - theta_r|                                  also over |theta_r|, or over |theta_o - theta_r|

No number here is good or bad by itself: two retrained models with other seeds differ too. Ask the same of a second retrained model
against the first: that is the floor (`excess_churn` subtracts it), and only what lies above it says something. For zrf the value to
compare with is that of a retrained model, not 1: it has never seen forget and still is no untrained network.

Source: zrf and activation distance from Chundawat et al., "Can Bad Teaching Induce Forgetting?", AAAI 2023, arXiv:2205.08096; churn
from Milani Fard et al., "Launch and Iterate", NIPS 2016; weight distance from Thudi et al., "Unrolling SGD", EuroS&P 2022,
arXiv:2109.13398 (verification error there).
Differs: zrf takes js in bits, so that it fills 0 to 1. The code released with it has the two sides of KL swapped, which is infinite
where a softmax rounds to 0, and divides by the number of classes as well. Code in the line of Golatkar et al., "Forgetting Outside
the Box", ECCV 2020, arXiv:2003.02960, takes activation distance in the L1 norm; L2 here as in the later paper.
"""

from collections.abc import Callable, Mapping
from math import log

import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray

from engine.errors import DataError, Diverged

Floats = NDArray[np.float64]
LN2 = log(2)


def js_divergence(first: Float[np.ndarray, "*#m n k"], second: Float[np.ndarray, "*#m n k"]) -> Float[np.ndarray, "*m n"]:
    """Jensen-Shannon divergence of each example's two outputs, from logits: nats, 0 = equal, ln 2 = nothing in common. Symmetric.

    One model against many is fine: [n k] against [m n k]. Raises: DataError for logits that do not go together; Diverged if any is not
    finite.
    """
    return _by_model(_js, first, second)


def activation_distance(first: Float[np.ndarray, "*#m n k"], second: Float[np.ndarray, "*#m n k"]) -> Float[np.ndarray, "*m"]:
    """Mean over examples of the L2 distance between two models' softmax outputs: 0 = equal, sqrt 2 = sure of different classes.

    Raises: as `js_divergence`.
    """
    def distance(a: Floats, b: Floats) -> Floats:
        return np.linalg.norm(np.exp(_log_softmax(a)) - np.exp(_log_softmax(b)), axis=-1)

    return np.asarray(_by_model(distance, first, second).mean(-1))


def zrf(unlearned: Float[np.ndarray, "*#m n k"], untrained: Float[np.ndarray, "*#m n k"]) -> Float[np.ndarray, "*m"]:
    """Zero-retrain forgetting of logits on forget, against a randomly initialised network: 0 to 1, larger = more like untrained.

    Good is what a retrained model gets, not 1: far above it is forgetting too much. Raises: as `js_divergence`.
    """
    return np.asarray(1 - js_divergence(unlearned, untrained).mean(-1) / LN2)


def agreement(first: Float[np.ndarray, "*#m n k"], second: Float[np.ndarray, "*#m n k"]) -> Float[np.ndarray, "*m"]:
    """Share of examples of which two models predict the same class, right or wrong: 1 = always. Ties go to the lower class.

    Raises: as `js_divergence`.
    """
    def same(a: Floats, b: Floats) -> Floats:
        return (a.argmax(-1) == b.argmax(-1)).astype(np.float64)

    return np.asarray(_by_model(same, first, second).mean(-1))


def churn(first: Float[np.ndarray, "*#m n k"], second: Float[np.ndarray, "*#m n k"]) -> Float[np.ndarray, "*m"]:
    """Share of examples of which two models predict different classes: 1 - agreement. Raises: as `js_divergence`."""
    return np.asarray(1 - agreement(first, second))


def excess_churn(unlearned: Float[np.ndarray, "*#m n k"], retrained: Float[np.ndarray, "*#m n k"],
                 again: Float[np.ndarray, "*#m n k"]) -> Float[np.ndarray, "*m"]:
    """Churn of the unlearned against the retrained model above that of a second retrained model: -1 to 1, 0 = as far as another seed.

    Negative where unlearned and retrained share what `again` does not, such as their initial weights. Raises: as `js_divergence`.
    """
    return np.asarray(churn(unlearned, retrained) - churn(again, retrained))


# ---- weights

Weights = Mapping[str, np.ndarray] | np.ndarray


def weight_distance(first: Weights, second: Weights) -> float:
    """L2 distance between the weights of two models, as name -> array or as one flat vector: 0 = equal.

    Arrays that are not of floats are left out (counters of batch norm); its running statistics count where they are handed in.
    Raises: DataError when names or shapes differ; Diverged if a weight is not finite.
    """
    return float(np.sqrt(sum(_squared(a - b) for a, b in _paired(first, second))))


def relative_weight_distance(unlearned: Weights, retrained: Weights) -> float:
    """Weight distance over the norm of the retrained weights, for models of different sizes. NaN where that norm is 0.

    Raises: as `weight_distance`.
    """
    norm = float(np.sqrt(sum(_squared(b) for _, b in _paired(unlearned, retrained))))
    return weight_distance(unlearned, retrained) / norm if norm else float("nan")


def remaining_weight_distance(unlearned: Weights, retrained: Weights, original: Weights) -> float:
    """Weight distance over that of the original model: 0 = retrained, 1 = no nearer to it than the original was, above 1 = further.

    NaN where original and retrained are equal. Raises: as `weight_distance`.
    """
    whole = weight_distance(original, retrained)
    return weight_distance(unlearned, retrained) / whole if whole else float("nan")


# ---- parts


def _js(a: Floats, b: Floats) -> Floats:
    """Sum over classes of m (ln 2 - h), h the entropy of the odds p : q. No term is negative, and none needs the logarithm of a
    probability that may have rounded to 0 or 1."""
    log_p, log_q = _log_softmax(a), _log_softmax(b)
    apart = np.abs(log_p - log_q)
    odds = np.exp(-apart)
    h = np.log1p(odds) + apart * odds / (1 + odds)
    return np.clip(((np.exp(log_p) + np.exp(log_q)) / 2 * (LN2 - h)).sum(-1), 0, LN2)


def _log_softmax(z: Floats) -> Floats:
    z = z - z.max(-1, keepdims=True)
    return z - np.log(np.exp(z).sum(-1, keepdims=True))


def _by_model(measure: Callable[[Floats, Floats], Floats], first: np.ndarray, second: np.ndarray) -> Floats:
    """What `measure` says of each example, [*m n]: one model after the other, as a whole stack in double precision would not fit."""
    given = f"got {first.shape} and {second.shape}"
    if first.ndim < 2 or second.ndim < 2 or first.shape[-2:] != second.shape[-2:]:
        raise DataError(f"closeness needs logits [..., examples, classes] of the same examples and classes, {given}")
    if 0 in first.shape + second.shape or first.shape[-1] < 2:
        raise DataError(f"closeness needs one or more models and examples and two or more classes, {given}")
    try:
        models = np.broadcast_shapes(first.shape[:-2], second.shape[:-2])
    except ValueError:
        raise DataError(f"closeness compares one model with one or many, or as many with as many, {given}") from None
    first, second = (np.broadcast_to(side, models + side.shape[-2:]) for side in (first, second))

    def one(i: tuple[int, ...]) -> Floats:
        a, b = first[i].astype(np.float64), second[i].astype(np.float64)
        if not (np.isfinite(a).all() and np.isfinite(b).all()):
            raise Diverged("closeness: some logits are not finite, the model diverged")
        return measure(a, b)

    return np.stack([one(i) for i in np.ndindex(models)]).reshape(models + first.shape[-2:-1])


def _paired(first: Weights, second: Weights) -> list[tuple[Floats, Floats]]:
    """Arrays of the same name. Raises: see `weight_distance`."""
    if any(isinstance(side, np.ndarray) and side.ndim != 1 for side in (first, second)):
        raise DataError("weight distance takes name -> array, or one flat vector a model")
    a, b = ({"weights": side} if isinstance(side, np.ndarray) else dict(side) for side in (first, second))
    if faults := [f"weights of '{name}' are only in one of the two models" for name in sorted(a.keys() ^ b.keys())]:
        raise DataError(*faults)
    names = [name for name in a if np.issubdtype(a[name].dtype, np.floating)]
    if odd := [name for name in names if a[name].shape != b[name].shape]:
        raise DataError(*(f"weights of '{name}' have shapes {a[name].shape} and {b[name].shape}" for name in odd))
    if not names:
        raise DataError("weight distance needs at least one array of floats, got none")
    pairs = [(a[name].astype(np.float64), b[name].astype(np.float64)) for name in names]
    if not all(np.isfinite(side).all() for pair in pairs for side in pair):
        raise Diverged("weight distance: some weights are not finite, the model diverged")
    return pairs


def _squared(x: Floats) -> float:
    return float(np.vdot(x, x))
