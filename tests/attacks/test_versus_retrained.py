from collections.abc import Callable
from dataclasses import asdict

import numpy as np
import pytest
from jaxtyping import TypeCheckError
from scipy.stats import norm

from engine.attacks.u_lira import ULiraResult, u_lira
from engine.attacks.versus_retrained import side_by_side, versus_retrained
from engine.errors import DataError

Worlds = Callable[..., tuple[np.ndarray, np.ndarray, np.ndarray]]
Pairs = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]


def make_pairs(splits: int = 20, forgets: int = 4, n: int = 200, shift: float = 0.0, paired: float = 0.5, disjoint: bool = True,
               seed: int = 0) -> Pairs:
    """(phi_unlearned, phi_retrained, used, split): `paired` of the variance is common to the two rows of a pair."""
    rng = np.random.default_rng(seed)
    used = np.zeros((splits * forgets, n), dtype=bool)
    for s in range(splits):
        part = np.array_split(rng.permutation(n)[:n // 2], forgets)
        for j in range(forgets):
            used[s * forgets + j, part[j] if disjoint else rng.permutation(n)[:n // 3]] = True
    mu, sigma = 3 * rng.normal(size=n), np.exp(rng.normal(scale=0.5, size=n))
    common = np.sqrt(paired) * rng.normal(size=used.shape)
    noise = [common + np.sqrt(1 - paired) * rng.normal(size=used.shape) for _ in range(2)]
    return mu + sigma * (noise[0] + shift), mu + sigma * noise[1], used, np.repeat(np.arange(splits), forgets)


def points(found: ULiraResult) -> list[float]:
    return [found.balanced_accuracy.value, found.auc.value, found.shift.value, found.smallest_fpr, *(t.value for t in found.tpr_at_fpr.values())]


@pytest.mark.parametrize("paired", [0.0, 0.9])
def test_two_normals_a_standard_deviation_apart(paired: float):
    """Balanced accuracy Phi(1/2), AUC Phi(1 / sqrt 2), however the rows of a pair move together: one model is seen at a time."""
    found = versus_retrained(*make_pairs(splits=400, forgets=2, n=150, shift=1.0, paired=paired))
    assert found.balanced_accuracy.value == pytest.approx(norm.cdf(0.5), abs=0.008) and found.auc.value == pytest.approx(0.7602, abs=0.008)
    assert found.tpr_at_fpr[0.01].value == pytest.approx(0.0924, abs=0.012) and found.shift.value == pytest.approx(1, abs=0.03)
    assert (found.n_models, found.n_splits, found.n_examples) == (1600, 400, 150)


def test_a_second_retraining_is_chance_and_its_intervals_hold():
    found = [versus_retrained(*make_pairs(splits=12, forgets=3, n=90, paired=0, seed=seed), draws=150) for seed in range(60)]
    assert np.mean([r.balanced_accuracy.value for r in found]) == pytest.approx(0.5, abs=0.005)
    assert np.mean([r.auc.value for r in found]) == pytest.approx(0.5, abs=0.005)
    assert np.mean([r.balanced_accuracy.lo <= 0.5 <= r.balanced_accuracy.hi for r in found]) > 0.88


def test_pairs_that_move_together_are_chance_with_narrower_intervals():
    loose, tight = ([versus_retrained(*make_pairs(splits=16, n=100, paired=paired, seed=seed), draws=200) for seed in range(20)]
                    for paired in (0.0, 0.95))
    width = [np.mean([r.balanced_accuracy.hi - r.balanced_accuracy.lo for r in found]) for found in (loose, tight)]
    assert width[1] < 0.8 * width[0]
    assert np.mean([r.balanced_accuracy.value for r in tight]) == pytest.approx(0.5, abs=0.005)
    assert np.mean([r.balanced_accuracy.lo <= 0.5 <= r.balanced_accuracy.hi for r in tight]) >= 0.85


def test_the_twin_of_a_left_out_model_gives_nothing_away():
    """Left out one model at a time, twins would be recognised by each other: they lie close, so the other world looks likelier."""
    unlearned, retrained, used, split = make_pairs(splits=16, paired=0.98)
    phi, world, stacked = side_by_side(unlearned, retrained, used, split)
    alone = u_lira(phi, world, np.arange(len(stacked)))
    assert alone.auc.value < 0.47 and versus_retrained(unlearned, retrained, used, split).auc.value == pytest.approx(0.5, abs=0.02)


def test_models_that_are_their_own_twins_are_exactly_chance():
    unlearned, _, used, split = make_pairs()
    found = versus_retrained(unlearned, unlearned, used, split)
    assert found.balanced_accuracy.value == pytest.approx(0.5, abs=1e-12) and found.auc.value == pytest.approx(0.5, abs=1e-12)
    assert found.shift.value == pytest.approx(0, abs=1e-12) and found.epsilon is not None and found.epsilon.value == 0


def test_epsilon_shows_more_the_further_from_retraining():
    shown = [versus_retrained(*make_pairs(splits=40, n=150, shift=shift), draws=50).epsilon for shift in (0.5, 1.5, 4.0)]
    values = [of.value for of in shown if of is not None]
    assert values == sorted(values) and values[0] > 0 and values[2] > 2 and {of.n_splits for of in shown if of is not None} == {40}


@pytest.mark.parametrize("disjoint", [True, False])
def test_rows_shared_within_a_split_change_nothing(disjoint: bool):
    unlearned, retrained, used, split = make_pairs(n=60, shift=0.5, disjoint=disjoint)
    unlearned[3], used[3] = np.nan, False  # a row that is not used at all
    plain = u_lira(np.concatenate([unlearned, retrained]), np.concatenate([np.where(used, 1, -1), np.where(used, 0, -1)]), np.tile(split, 2))
    found = versus_retrained(np.where(used, unlearned, np.nan), retrained.astype(np.float64), used, split)
    assert points(found) == pytest.approx(points(plain), abs=1e-9) and found.n_models == plain.n_models == 2 * (len(split) - 1)
    assert found.balanced_accuracy.lo == pytest.approx(plain.balanced_accuracy.lo, abs=1e-9)
    assert found.examples.balanced_accuracy == pytest.approx(plain.examples.balanced_accuracy, abs=1e-9, nan_ok=True)
    packed = side_by_side(unlearned, retrained, used, split)[0]
    assert (len(packed) == 2 * 20) if disjoint else (len(packed) > 2 * 20)


def test_a_side_effect_on_every_output_is_told_here_and_not_by_u_lira(worlds: Worlds):
    """All unlearned models are less sure by a standard deviation, of forgotten and of unseen examples alike."""
    phi, world, split = worlds(splits=30, forgets=4, n=400, seed=1)
    unlearned = phi - np.std(phi, axis=0)
    assert u_lira(unlearned, world, split).balanced_accuracy.value == pytest.approx(0.5, abs=0.02)
    found = versus_retrained(unlearned, phi, world == 1, split)
    assert found.balanced_accuracy.lo > 0.6 and found.shift.hi < -0.5


def test_the_sign_of_the_shift_tells_over_from_under_forgetting():
    under, over = (versus_retrained(*make_pairs(shift=shift)) for shift in (1.0, -1.0))
    assert under.shift.lo > 0.5 and over.shift.hi < -0.5 and min(under.balanced_accuracy.lo, over.balanced_accuracy.lo) > 0.55


def test_seed_moves_intervals_alone_and_nothing_is_changed():
    pairs = make_pairs(shift=0.5)
    before = [a.copy() for a in pairs]
    one, again, other = (versus_retrained(*pairs, seed=seed) for seed in (0, 0, 1))
    for now, then in zip(pairs, before, strict=True):
        np.testing.assert_array_equal(now, then)
    assert str(asdict(one)) == str(asdict(again)) and points(one) == points(other) and one.auc.lo != other.auc.lo


def test_narrow_types_zero_variance_and_ties_do():
    unlearned, retrained, used, split = make_pairs(n=60)
    small = versus_retrained(unlearned.astype(np.float32), retrained.astype(np.float32), used, split.astype(np.int32))
    assert small.auc.value == pytest.approx(versus_retrained(unlearned, retrained, used, split).auc.value, abs=1e-4)
    flat = np.full(used.shape, 2.5)
    assert versus_retrained(flat, flat, used, split).balanced_accuracy.value == 0.5
    assert versus_retrained(flat + 1, flat, used, split).balanced_accuracy.value == 1


def test_what_cannot_be_compared_is_refused():
    unlearned, retrained, used, split = make_pairs(n=20)
    with pytest.raises((DataError, TypeCheckError), match="same rows|Type-check"):  # the shapes' own check comes first while tests run
        versus_retrained(unlearned[:-1], retrained, used, split)
    with pytest.raises(DataError, match="no example is used"):
        versus_retrained(unlearned, retrained, np.zeros_like(used), split)
    with pytest.raises(DataError, match="values of phi are NaN"):
        versus_retrained(np.where(used, np.nan, unlearned), retrained, used, split)
    with pytest.raises(DataError, match="3 or more splits, got 2"):
        versus_retrained(unlearned, retrained, used, split % 2)
    with pytest.raises(DataError, match="no example is in two or more splits"):
        versus_retrained(unlearned, retrained, used & (np.arange(20) % 20 == split[:, None]), split)
