from inspect import unwrap
from math import sqrt

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import ortho_group

from engine.errors import DataError, Diverged
from engine.metrics.cka import layer_cka, linear_cka, minibatch_cka


def activations(n: int, d: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n, d))


def related(n: int, d1: int, d2: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Two sides with a common part and offsets."""
    x, y = activations(n, d1, seed) + 3, activations(n, d2, seed + 1000)
    y[:, 0] += x[:, 0]
    return x, y


def as_defined(x: np.ndarray, y: np.ndarray, debiased: bool) -> float:
    """From Gram matrices, term by term: tr(K H L H), or Song et al.'s unbiased estimator of raw activations."""
    n, gram = len(x), (x @ x.T, y @ y.T)
    centre, one = np.eye(n) - 1 / n, np.ones(n)

    def biased(k: np.ndarray, other: np.ndarray) -> float:
        return np.trace(k @ centre @ other @ centre)

    def unbiased(k: np.ndarray, other: np.ndarray) -> float:
        k, other = k - np.diag(np.diag(k)), other - np.diag(np.diag(other))
        inner = np.trace(k @ other) + (one @ k @ one) * (one @ other @ one) / ((n - 1) * (n - 2)) - 2 / (n - 2) * (one @ k @ other @ one)
        return inner / (n * (n - 3))

    hsic = unbiased if debiased else biased
    return hsic(*gram) / sqrt(hsic(gram[0], gram[0]) * hsic(gram[1], gram[1]))


@pytest.mark.parametrize("debiased", [True, False])
@pytest.mark.parametrize(("n", "d1", "d2"), [(30, 5, 7), (12, 100, 60), (4, 3, 2), (20, 40, 1), (6, 1, 1)])
def test_is_what_the_definition_says_in_feature_and_in_gram_space(n: int, d1: int, d2: int, debiased: bool):
    x, y = related(n, d1, d2)
    assert linear_cka(x, y, debiased=debiased) == pytest.approx(as_defined(x, y, debiased), rel=1e-8, abs=1e-10)


def test_by_hand():
    """One feature each: biased CKA is the squared correlation."""
    x, y = np.array([[0.0], [1.0], [2.0]]), np.array([[1.0], [0.0], [2.0]])
    assert linear_cka(x, y, debiased=False) == pytest.approx(0.25)
    assert linear_cka(x, 5 - 3 * x, debiased=False) == pytest.approx(1)


@settings(max_examples=30, deadline=None)
@given(st.integers(5, 12), st.integers(2, 20), st.integers(0, 1000), st.floats(0.01, 100), st.booleans())
def test_rotation_scale_and_offset_change_nothing(n: int, d: int, seed: int, scale: float, debiased: bool):
    x, y = related(n, d, 3, seed)
    turned = scale * x @ ortho_group(d, seed=seed).rvs() + seed
    assert linear_cka(x, turned, debiased=debiased) == pytest.approx(1)
    found = linear_cka(x, y, debiased=debiased)
    assert linear_cka(turned, y, debiased=debiased) == pytest.approx(found, abs=1e-6)
    assert linear_cka(y, x, debiased=debiased) == pytest.approx(found) and abs(found) <= 1 + 1e-9


@pytest.mark.parametrize(("n", "d1", "d2"), [(50, 1000, 1000), (50, 400, 2000), (200, 20, 20)])
def test_unrelated_gaussians_are_0_debiased_and_near_1_biased_where_features_are_many(n: int, d1: int, d2: int):
    pairs = [(activations(n, d1, seed), activations(n, d2, seed + 1000)) for seed in range(10)]
    assert np.mean([linear_cka(*pair) for pair in pairs]) == pytest.approx(0, abs=0.02)
    assert np.mean([linear_cka(*pair, debiased=False) for pair in pairs]) == pytest.approx(sqrt(d1 * d2 / ((d1 + n) * (d2 + n))), abs=0.01)


def test_a_known_common_part():
    """y = (x_1, noise), all of variance 1: HSIC is the sum of squared covariances, so CKA = 1 / sqrt(4 * 2)."""
    x = activations(20_000, 4)
    y = np.stack([x[:, 0], activations(20_000, 1, seed=1)[:, 0]], axis=1)
    assert linear_cka(x, y) == pytest.approx(1 / sqrt(8), abs=0.02)


def test_minibatches_estimate_the_same_number_and_one_batch_is_all():
    x, y = related(2000, 10, 10)
    y[:, :5] += x[:, :5]
    cuts = np.cumsum([100, 300, 40, 60, 500])
    split = minibatch_cka(zip(np.split(x, cuts), np.split(y, cuts), strict=True))
    assert split == pytest.approx(linear_cka(x, y), abs=0.01)
    assert minibatch_cka([(x, y)]) == pytest.approx(linear_cka(x, y))
    means = np.mean([minibatch_cka((activations(10, 200, i), activations(10, 200, i + 500)) for i in range(j, j + 10)) for j in range(0, 100, 10)])
    assert means == pytest.approx(0, abs=0.03)


def test_layers_are_compared_by_name_and_flattened():
    first = {"conv": activations(30, 48).reshape(30, 3, 4, 4), "head": activations(30, 5, seed=1)}
    second = {"head": activations(30, 9, seed=2), "conv": 2 * first["conv"]}
    found = layer_cka(first, second)
    assert list(found) == ["conv", "head"] and found["conv"] == pytest.approx(1)
    assert found["head"] == linear_cka(first["head"], second["head"])
    assert layer_cka(first, second, debiased=False)["head"] == linear_cka(first["head"], second["head"], debiased=False)
    with pytest.raises(DataError, match="'conv' is only in one"):
        layer_cka(first, {"head": second["head"]})


@pytest.mark.parametrize("debiased", [True, False])
def test_a_dead_layer_has_none(debiased: bool):
    dead = np.full((10, 3), 0.1, np.float32)
    assert np.isnan(linear_cka(dead, activations(10, 3), debiased=debiased)) and np.isnan(linear_cka(dead, dead, debiased=debiased))


def test_equally_far_examples_have_none_debiased():
    assert np.isnan(linear_cka(np.eye(20), activations(20, 3))) and np.isnan(minibatch_cka([(np.eye(20), activations(20, 3))]))


def test_single_precision_and_large_offsets_and_arguments_left_alone():
    x, y = related(50, 8, 6)
    narrow = x.astype(np.float32)
    assert linear_cka(narrow, y) == pytest.approx(linear_cka(x, y), abs=1e-6) and np.array_equal(narrow, x.astype(np.float32))
    assert linear_cka(x + 1e6, y) == pytest.approx(linear_cka(x, y), abs=1e-6)
    assert linear_cka(1e30 * x, 1e-30 * y) == pytest.approx(linear_cka(x, y))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -1e200])
def test_a_diverged_model_is_named_so(bad: float):
    spoiled = activations(10, 3)
    spoiled[4, 1] = bad
    with pytest.raises(Diverged, match="NaN, infinite or beyond"):
        linear_cka(activations(10, 2), spoiled)
    with pytest.raises(Diverged):
        linear_cka(spoiled.astype(np.float64), activations(10, 2))


@pytest.mark.parametrize(("x", "y", "debiased", "message"), [
    ((3, 2), (3, 2), True, "4 or more examples, got 3"),
    ((1, 2), (1, 2), False, "2 or more examples, got 1"),
    ((0, 2), (0, 2), True, "4 or more examples, got 0"),
    ((9, 0), (9, 2), True, "activations"),
    ((9, 2), (8, 2), True, "same examples"),
    ((9, 2), (9,), True, "same examples"),
])
def test_what_cannot_be_compared_is_refused(x: tuple[int, ...], y: tuple[int, ...], debiased: bool, message: str):
    with pytest.raises(DataError, match=message):
        unwrap(linear_cka)(np.zeros(x), np.zeros(y), debiased=debiased)


def test_batches_are_checked_too():
    with pytest.raises(DataError, match="one or more batches"):
        minibatch_cka([])
    with pytest.raises(DataError, match="4 or more examples, got 2"):
        minibatch_cka([(activations(10, 3), activations(10, 2)), (activations(2, 3), activations(2, 2))])
