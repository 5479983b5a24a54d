from dataclasses import asdict
from typing import Literal, get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jaxtyping import TypeCheckError
from scipy.stats import norm
from sklearn.metrics import roc_auc_score

from engine.attacks.gaussians import OWN_VARIANCE_FROM
from engine.attacks.lira import INFO, LiraResult, lira
from engine.attacks.u_lira import cross_fit, u_lira
from engine.errors import DataError
from tests.attacks.simulated import originals

Form = Literal["online", "offline"]
FORMS = get_args(Form)


def points(found: LiraResult) -> list[float]:
    rates = [tpr.value for tpr in found.tpr_at_fpr.values()]
    return [found.balanced_accuracy.value, found.auc.value, found.shift.value, found.smallest_fpr, found.n_examples, *rates]


def one_sided(phi: np.ndarray, world: np.ndarray, split: np.ndarray) -> np.ndarray:
    return cross_fit(phi, world, split, form="offline").score


@pytest.mark.parametrize("form", FORMS)
def test_two_normals_a_standard_deviation_apart(form: Form):
    """Well known centres: balanced accuracy Phi(1/2), AUC Phi(1 / sqrt 2), TPR Phi(1 - z_q); z alone orders as the ratio does."""
    rng = np.random.default_rng(1)
    world = rng.permuted(np.tile(np.arange(600)[:, None] < 300, 300), axis=0).astype(np.int8)
    found = lira(rng.normal(size=world.shape) + world, world, np.arange(600) // 5, form=form)
    assert found.balanced_accuracy.value == pytest.approx(0.6915, abs=0.005) and found.auc.value == pytest.approx(0.7602, abs=0.005)
    assert found.tpr_at_fpr[0.1].value == pytest.approx(0.3891, abs=0.01)
    assert found.tpr_at_fpr[0.01].value == pytest.approx(0.0924, abs=0.01)
    assert found.shift.value == pytest.approx(1, abs=0.02) and np.nanmean(found.examples.balanced_accuracy) == pytest.approx(0.6915, abs=0.005)
    assert (found.n_models, found.n_splits, found.n_examples) == (600, 120, 300)


@pytest.mark.parametrize("form", FORMS)
def test_both_forms_are_u_liras_on_originals(form: Form):
    arrays = originals(shift=1.0, per=2)
    assert str(asdict(lira(*arrays, form=form, seed=3))) == str(asdict(u_lira(*arrays, form=form, seed=3)))
    assert isinstance(lira(*arrays), LiraResult) and INFO.name == "lira"


@pytest.mark.parametrize("splits", [10, 2 * OWN_VARIANCE_FROM + 8])
def test_the_offline_form_agrees_with_a_plain_loop(splits: int):
    """With one model a split: each example's own non-members, by their mean and their variance, which is drawn to the median where few."""
    phi, world, split = originals(splits=splits, n=12, shift=0.7, seed=2)
    world[:4] = np.array([[0], [0], [0], [1]])  # three non-members and a member at the least
    found = one_sided(phi, world, split)
    for t in range(splits):
        rest = [[phi[s, i] for s in range(splits) if s != t and world[s, i] == 0] for i in range(12)]
        variance, df = [float(np.var(v, ddof=1)) for v in rest], [len(v) - 1 for v in rest]
        scale = [(v * d + 2 * np.median(variance)) / (d + 2) for v, d in zip(variance, df, strict=True)]
        ratio = sum(v / c * d for v, c, d in zip(variance, scale, df, strict=True)) / sum(df)
        for i in np.flatnonzero(np.isin(world.sum(0), range(2, splits - 1))):  # the others are not scored
            own = (world[:, i] == 0).sum() >= OWN_VARIANCE_FROM
            sigma = np.sqrt(variance[i] if own else ratio * scale[i])
            assert found[t, i] == pytest.approx((phi[t, i] - np.mean(rest[i])) / sigma / np.sqrt(1 + 1 / len(rest[i])), abs=1e-12)


def test_the_offline_form_reads_no_shadow_that_is_a_member():
    phi, world, split = originals(splits=40, n=20, shift=1.0)
    changed = np.where(world == 1, 1e3 * np.random.default_rng(0).normal(size=phi.shape), phi)
    never = world == 0
    assert one_sided(changed, world, split)[never] == pytest.approx(one_sided(phi, world, split)[never], abs=1e-9)


def test_the_papers_tail_probability_orders_as_z_does():
    phi, world, split = originals(splits=20, shift=1.0)
    fit, z = cross_fit(phi, world, split), one_sided(phi, world, split)
    expected = roc_auc_score((world == 1).ravel(), norm.logcdf(z).ravel(), sample_weight=fit.weight.ravel())
    assert lira(phi, world, split, form="offline").auc.value == pytest.approx(expected, abs=1e-12)


def test_only_the_online_form_finds_members_that_lie_below():
    below = originals(splits=24, shift=-2.0)
    online, offline = lira(*below), lira(*below, form="offline")
    assert online.auc.value > 0.85 and offline.auc.value < 0.15
    assert online.shift.hi < 0 and offline.shift.value == online.shift.value


@pytest.mark.parametrize("form", FORMS)
def test_nothing_to_see_is_chance(form: Form):
    found = [lira(*originals(splits=16, per=2, n=150, seed=seed), form=form, draws=100) for seed in range(10)]
    assert np.mean([r.balanced_accuracy.value for r in found]) == pytest.approx(0.5, abs=0.01)
    assert np.mean([r.auc.value for r in found]) == pytest.approx(0.5, abs=0.012)
    assert sum(r.auc.lo <= 0.5 <= r.auc.hi for r in found) >= 8


@settings(max_examples=8, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from(FORMS))
def test_order_of_models_and_examples_and_units_do_not_matter(seed: int, form: Form):
    phi, world, split = originals(splits=10, per=2, n=30, shift=0.7)
    rng = np.random.default_rng(seed)
    models, examples = rng.permutation(20), rng.permutation(30)
    one = lira(phi, world, split, form=form, draws=50)
    moved = 4 * phi + rng.normal(size=30)
    other = lira(moved[models][:, examples], world[models][:, examples], split[models], form=form, draws=50)
    assert points(one) == pytest.approx(points(other), abs=1e-9)
    assert other.examples.balanced_accuracy == pytest.approx(one.examples.balanced_accuracy[examples], abs=1e-9, nan_ok=True)


@pytest.mark.parametrize("form", FORMS)
def test_examples_without_two_splits_a_world_are_not_scored(form: Form):
    phi, world, split = originals(shift=1.0)
    world[:, 0] = np.minimum(world[:, 0], 0)  # a member nowhere: world 0 alone
    world[1:, 1] = -1  # in one model alone
    phi[world == -1] = np.nan
    found = lira(phi, world, split, form=form)
    assert found.n_examples == 58 and np.isnan(found.examples.balanced_accuracy[:2]).all()
    assert np.isfinite(points(found)).all()


@pytest.mark.parametrize("form", FORMS)
def test_equal_values_are_chance_and_a_gap_is_a_full_leak(form: Form):
    _, world, split = originals()
    same = lira(np.full(world.shape, 0.1), world, split, form=form)
    assert (same.balanced_accuracy.value, same.auc.value) == (0.5, 0.5) and np.isfinite(points(same)).all()
    gap = lira(world.astype(np.float32), world, split, form=form)
    assert (gap.balanced_accuracy.value, gap.auc.value) == (1, 1) and np.isfinite(points(gap)).all()


@pytest.mark.parametrize("form", FORMS)
def test_the_seed_moves_intervals_alone_and_nothing_is_changed(form: Form):
    arrays = originals(shift=0.5)
    before = [a.copy() for a in arrays]
    one, again, other = (lira(*arrays, form=form, seed=seed) for seed in (0, 0, 1))
    for now, then in zip(arrays, before, strict=True):
        np.testing.assert_array_equal(now, then)
    assert str(asdict(one)) == str(asdict(again)) and points(one) == points(other) and one.auc.lo != other.auc.lo
    assert [row["name"] for row in one.metrics()] == ["balanced_accuracy", "auc", "tpr_at_fpr_0.1", "smallest_fpr", "epsilon_lower_bound",
                                                      "epsilon_most", "shift", "n_models", "n_splits", "n_examples"]


@pytest.mark.parametrize("form", FORMS)
def test_what_cannot_be_attacked_is_refused(form: Form):
    phi, world, split = originals()
    for arrays, message in [((np.where(world == 1, np.nan, phi), world, split), "values of phi are NaN"),
                            ((phi, np.zeros_like(world), split), "both worlds are needed"),
                            ((phi, world, split % 2), "3 or more splits, got 2"),
                            ((phi, (split[:, None] == 0) * np.ones_like(world), split), "two or more splits in both worlds")]:
        with pytest.raises(DataError, match=message):
            lira(*arrays, form=form)


def test_an_unknown_form_is_refused():
    with pytest.raises((DataError, TypeCheckError)):  # the types' own check comes first while tests run
        lira(*originals(), form="sideways")
