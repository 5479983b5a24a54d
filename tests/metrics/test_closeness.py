from inspect import unwrap
from math import log, sqrt

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import jensenshannon
from scipy.special import softmax

from engine.errors import DataError, Diverged
from engine.metrics.closeness import (
    activation_distance,
    agreement,
    churn,
    excess_churn,
    js_divergence,
    relative_weight_distance,
    remaining_weight_distance,
    weight_distance,
    zrf,
)

SURE = np.array([[1e3, -1e3], [1e3, -1e3]])  # p = (1, 0) to the last digit and far beyond
ALL = (js_divergence, activation_distance, zrf, agreement, churn)


def logits(*shape: int, seed: int = 0, scale: float = 3.0) -> np.ndarray:
    return scale * np.random.default_rng(seed).normal(size=shape)


@st.composite
def two_outputs(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    k = draw(st.integers(2, 5))
    row = st.lists(st.floats(-1e4, 1e4), min_size=k, max_size=k)
    return np.array([draw(row)]), np.array([draw(row)])


# ---- outputs


def test_sure_of_different_classes_is_as_far_as_it_goes():
    assert js_divergence(SURE, -SURE) == pytest.approx([log(2), log(2)], abs=1e-15)
    assert activation_distance(SURE, -SURE) == pytest.approx(sqrt(2)) and churn(SURE, -SURE) == 1
    assert zrf(SURE, -SURE) == pytest.approx(0, abs=1e-15)


def test_two_classes_by_hand():
    """p = (3/4, 1/4), q = (1/4, 3/4), m = (1/2, 1/2): KL(p | m) = ln 2 - h(1/4)."""
    p, q = np.log([[3.0, 1.0]]), np.log([[1.0, 3.0]])
    assert js_divergence(p, q) == pytest.approx(0.75 * log(1.5) + 0.25 * log(0.5))
    assert activation_distance(p, q) == pytest.approx(sqrt(2) / 2)
    assert zrf(p, q) == pytest.approx(1 - (0.75 * log(1.5) + 0.25 * log(0.5)) / log(2))


def test_agrees_with_scipy_and_with_a_plain_loop():
    a, b = logits(4, 30, 6), logits(4, 30, 6, seed=1)
    p, q = softmax(a, -1), softmax(b, -1)
    np.testing.assert_allclose(js_divergence(a, b), jensenshannon(p, q, axis=-1) ** 2, atol=1e-12)
    distance = [np.mean([sqrt(sum((p[m, n] - q[m, n]) ** 2)) for n in range(30)]) for m in range(4)]
    np.testing.assert_allclose(activation_distance(a, b), distance, atol=1e-12)
    same = [np.mean([np.argmax(a[m, n]) == np.argmax(b[m, n]) for n in range(30)]) for m in range(4)]
    np.testing.assert_allclose(agreement(a, b), same)
    np.testing.assert_allclose(zrf(a, b), 1 - np.mean(jensenshannon(p, q, base=2, axis=-1) ** 2, axis=-1), atol=1e-12)


def test_the_swapped_divergence_of_released_code_is_infinite_where_ours_is_not():
    p, q = softmax(SURE, -1), softmax(-SURE, -1)
    with np.errstate(divide="ignore", invalid="ignore"):
        released = ((p + q) / 2 * (np.log((p + q) / 2) - np.log(p))).sum(-1)  # KL(m | p) for KL(p | m)
    assert np.isinf(released).all() and np.isfinite(js_divergence(SURE, -SURE)).all()


@settings(max_examples=60, deadline=None)
@given(two_outputs(), st.floats(-1e3, 1e3))
def test_js_is_bounded_symmetric_and_ignores_offsets(case: tuple[np.ndarray, np.ndarray], offset: float):
    a, b = case
    found = js_divergence(a, b)
    assert 0 <= found <= log(2) and js_divergence(b, a) == found and js_divergence(a, a) == 0
    assert js_divergence(a + offset, b) == pytest.approx(found, abs=1e-8)


def test_nearly_equal_outputs_are_nearly_0_and_never_below():
    a = logits(50, 10)
    found = js_divergence(a, a + 1e-9 * logits(50, 10, seed=1))
    assert (found >= 0).all() and (found < 1e-15).all()


def test_models_are_measured_as_one_by_one_and_one_goes_with_many():
    many, one = logits(2, 3, 20, 5), logits(20, 5, seed=1)
    for measure in ALL:
        found = measure(many, one)
        assert found.shape[:2] == (2, 3) and np.array_equal(found[1, 2], measure(many[1, 2], one))
        assert np.array_equal(measure(one, many), measure(np.broadcast_to(one, many.shape), many))
        assert measure(one, one).shape == found.shape[2:]


def test_single_precision_is_computed_in_double():
    a, b = logits(20, 5).astype(np.float32), logits(20, 5, seed=1).astype(np.float32)
    for measure in ALL:
        np.testing.assert_array_equal(measure(a, b), measure(a.astype(np.float64), b.astype(np.float64)))


def test_zrf_of_the_untrained_network_itself_is_1():
    assert zrf(logits(20, 5), logits(20, 5)) == 1


def test_churn_counts_examples_and_ties_go_to_the_lower_class():
    a = np.array([[2.0, 1.0, 0.0], [0.0, 1.0, 2.0], [1.0, 1.0, 0.0], [0.0, 5.0, 1.0]])
    b = np.array([[9.0, 1.0, 0.0], [2.0, 1.0, 0.0], [3.0, 1.0, 0.0], [0.0, 1.0, 5.0]])
    assert churn(a, b) == 0.5 and agreement(a, b) == 0.5


def test_churn_above_the_floor_of_a_second_retrained_model():
    retrained, again, unlearned = np.zeros((3, 10, 2))
    for model, ones in ((again, 2), (unlearned, 5)):
        model[:ones, 1] = 1
    assert excess_churn(unlearned, retrained, again) == pytest.approx(0.3)
    assert excess_churn(again, retrained, again) == 0 and excess_churn(retrained, retrained, again) == pytest.approx(-0.2)


@pytest.mark.parametrize("measure", ALL)
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_diverged_model_is_named_so(measure, bad: float):
    spoiled = logits(3, 4, 5)
    spoiled[1, 2, 3] = bad
    with pytest.raises(Diverged, match="not finite"):
        measure(spoiled, logits(4, 5))
    with pytest.raises(Diverged, match="not finite"):
        measure(logits(4, 5), spoiled)


@pytest.mark.parametrize(("first", "second", "message"), [
    ((0, 5), (0, 5), "one or more models and examples"),
    ((4, 1), (4, 1), "two or more classes"),
    ((0, 4, 5), (4, 5), "one or more models"),
])
def test_what_cannot_be_compared_is_refused(first: tuple[int, ...], second: tuple[int, ...], message: str):
    with pytest.raises(DataError, match=message):
        js_divergence(np.zeros(first), np.zeros(second))


@pytest.mark.parametrize(("first", "second", "message"), [
    ((4, 5), (4, 6), "same examples and classes"),
    ((3, 5), (4, 5), "same examples and classes"),
    ((5,), (5,), "same examples and classes"),
    ((2, 4, 5), (3, 4, 5), "one model with one or many"),
])
def test_shapes_that_the_annotations_refuse_in_tests_have_a_message_outside_of_them(first, second, message):
    with pytest.raises(DataError, match=message):
        unwrap(js_divergence)(np.zeros(first), np.zeros(second))


# ---- weights


def test_weight_distance_is_that_of_the_flat_vectors():
    a = {"conv": logits(3, 2, 3, 3), "bias": logits(3, seed=1)}
    b = {"bias": logits(3, seed=2), "conv": logits(3, 2, 3, 3, seed=3)}
    flat = [np.concatenate([side["conv"].ravel(), side["bias"]]) for side in (a, b)]
    apart = pytest.approx(np.linalg.norm(flat[0] - flat[1]))
    assert weight_distance(a, b) == apart and weight_distance(*flat) == apart
    assert weight_distance(a, a) == 0 and weight_distance(np.array([3.0, 0.0]), np.array([0.0, 4.0])) == 5


def test_weight_distance_over_a_norm_and_over_the_original_s():
    retrained, original = np.array([3.0, 4.0]), np.array([3.0, 14.0])
    assert relative_weight_distance(np.array([3.0, 9.0]), retrained) == 1
    assert remaining_weight_distance(np.array([3.0, 9.0]), retrained, original) == 0.5
    assert remaining_weight_distance(original, retrained, original) == 1 and remaining_weight_distance(retrained, retrained, original) == 0
    assert remaining_weight_distance(np.array([3.0, 24.0]), retrained, original) == 2


def test_a_ratio_that_does_not_exist_is_nan():
    assert np.isnan(relative_weight_distance(np.ones(2), np.zeros(2)))
    assert np.isnan(remaining_weight_distance(np.zeros(2), np.ones(2), np.ones(2)))


def test_counters_are_no_weights():
    a, b = ({"w": np.zeros(2, np.float32), "batches": np.array(seen)} for seen in (10, 500))
    assert weight_distance(a, b) == 0


@pytest.mark.parametrize(("first", "second", "message"), [
    ({"w": np.zeros(2), "b": np.zeros(1)}, {"w": np.zeros(2)}, "'b' are only in one"),
    ({"w": np.zeros(2)}, {"w": np.zeros((2, 1))}, r"'w' have shapes \(2,\) and \(2, 1\)"),
    ({"n": np.array(3)}, {"n": np.array(4)}, "at least one array of floats"),
    (np.zeros((2, 3)), np.zeros((2, 3)), "one flat vector"),
])
def test_weights_that_do_not_go_together_are_refused(first, second, message: str):
    with pytest.raises(DataError, match=message):
        weight_distance(first, second)


def test_weights_that_are_not_finite_are_a_diverged_model():
    with pytest.raises(Diverged, match="weights are not finite"):
        weight_distance(np.array([0.0, np.nan]), np.zeros(2))
