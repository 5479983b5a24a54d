import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm
from sklearn.metrics import roc_auc_score, roc_curve

from engine.errors import DataError
from engine.metrics.roc import area, auc, log_spaced, roc, smallest_fpr, tpr_at_fpr


@st.composite
def scored(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Few distinct scores, so ties are common; both kinds present."""
    n = draw(st.integers(2, 40))
    score = np.array(draw(st.lists(st.integers(-3, 3), min_size=n, max_size=n))) / 4
    member = np.array([True, False, *draw(st.lists(st.booleans(), min_size=n - 2, max_size=n - 2))])
    weight = np.array(draw(st.lists(st.floats(0.01, 10), min_size=n, max_size=n)))
    return score, member, weight


@settings(max_examples=100, deadline=None)
@given(scored())
def test_agrees_with_scikit_learn_with_weights_and_ties(case):
    score, member, weight = case
    ours = roc(score, member, weight)
    fpr, tpr, threshold = roc_curve(member, score, sample_weight=weight, drop_intermediate=False)
    np.testing.assert_allclose(ours.fpr, fpr, atol=1e-12)
    np.testing.assert_allclose(ours.tpr, tpr, atol=1e-12)
    np.testing.assert_array_equal(ours.threshold, threshold)
    assert area(ours) == pytest.approx(roc_auc_score(member, score, sample_weight=weight), abs=1e-12)


@settings(max_examples=50, deadline=None)
@given(scored(), st.floats(0.1, 10), st.integers(0, 100))
def test_only_order_and_relative_weight_matter(case, factor: float, seed: int):
    score, member, weight = case
    order = np.random.default_rng(seed).permutation(len(score))
    curve, other = roc(score, member, weight), roc(np.arctan(score[order]), member[order], weight[order] * factor)
    np.testing.assert_allclose(other.tpr, curve.tpr, atol=1e-12)
    np.testing.assert_allclose(other.fpr, curve.fpr, atol=1e-12)
    assert area(roc(score, ~member, weight)) == pytest.approx(1 - area(curve), abs=1e-12)


@settings(max_examples=50, deadline=None)
@given(scored(), st.floats(0, 1))
def test_tpr_is_what_a_threshold_reaches_within_the_rate(case, q: float):
    score, member, weight = case
    reached = [(weight[~member & (score >= t)].sum() / weight[~member].sum(), weight[member & (score >= t)].sum() / weight[member].sum())
               for t in [np.inf, *score]]
    assert tpr_at_fpr(roc(score, member, weight), q) == pytest.approx(max(t for f, t in reached if f <= q * (1 + 1e-9)))


def test_golden_numbers_of_two_normals():
    """N(1, 1) against N(0, 1), as evenly spaced quantiles: AUC Phi(1 / sqrt 2), TPR Phi(1 - z_q)."""
    grid = (np.arange(200_000) + 0.5) / 200_000
    score = np.concatenate([norm.ppf(grid) + 1, norm.ppf(grid)])
    curve = roc(score, np.arange(len(score)) < len(grid))
    assert area(curve) == pytest.approx(0.7602, abs=1e-4)
    assert tpr_at_fpr(curve, 0.01) == pytest.approx(0.0924, abs=1e-4)
    assert tpr_at_fpr(curve, 0.001) == pytest.approx(0.0183, abs=1e-4)


def test_rates_survive_rounding_of_summed_weights():
    score, member = np.arange(101.0), np.arange(101) == 100  # one member on top of 100 non-members of weight 1/100
    score[100] = 98.5
    assert tpr_at_fpr(roc(score, member, np.full(101, 0.01)), 0.01) == 1


def test_all_tied_is_chance_at_the_end_points_only():
    curve = roc(np.zeros(10), np.arange(10) < 4)
    assert area(curve) == 0.5 and tpr_at_fpr(curve, 0.5) == 0 and tpr_at_fpr(curve, 1.0) == 1


def test_plain_samples():
    assert auc(np.array([2.0, 3.0]), np.array([1.0, 2.0], dtype=np.float32)) == 0.875
    assert auc(np.array([0.0]), np.array([1.0])) == 0


@pytest.mark.parametrize(("score", "member", "weight", "message"), [
    ([0.0, 1.0], [True, True], None, "only one kind"),
    ([0.0, 1.0], [False, False], None, "only one kind"),
    ([0.0, 1.0], [True, False], [0.0, 1.0], "only one kind"),
    ([0.0, np.nan], [True, False], None, "1 of 2 scores are NaN"),
    ([0.0, 1.0], [True, False], [1.0, -1.0], "not negative"),
    ([0.0, 1.0], [True, False], [1.0, np.nan], "not negative"),
])
def test_what_has_no_curve_is_refused(score, member, weight, message):
    with pytest.raises(DataError, match=message):
        roc(np.array(score), np.array(member), None if weight is None else np.array(weight))


def test_log_spaced_points_lie_on_the_curve():
    rng = np.random.default_rng(0)
    curve = roc(rng.normal(size=3000), rng.random(3000) < 0.5)
    fpr, tpr = log_spaced(curve, 0.01)
    assert len(fpr) <= 500 and fpr[0] == pytest.approx(0.01) and fpr[-1] == pytest.approx(1) and tpr[-1] == 1
    assert np.ptp(np.diff(np.log(fpr))) < 1e-9 and (np.diff(tpr) >= 0).all()
    assert [tpr_at_fpr(curve, q) for q in fpr[::50]] == pytest.approx(list(tpr[::50]))
    with pytest.raises(DataError, match="between 0 and 1"):
        log_spaced(curve, 0.0)


def test_a_rate_needs_ten_over_it():
    assert smallest_fpr(1000.0) == pytest.approx(0.01) and smallest_fpr(999.0) > 0.01
