"""A plane that is known is found, and nearness to class centres is counted as it is."""

import numpy as np
import pytest
from sklearn.decomposition import PCA

from engine.errors import DataError, Diverged
from engine.metrics.embedding import centre_auc, principal_axes


def chance(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


# ---- axes


def test_a_plane_in_space_is_found_and_nothing_is_left() -> None:
    basis = np.linalg.qr(chance().normal(size=(5, 2)))[0].T
    flat = chance(1).normal(size=(40, 2)) * [3, 1]
    points = flat @ basis + 7
    axes = principal_axes(points)
    assert axes.variance(points) == pytest.approx(1, abs=1e-12)
    seen = axes.project(points)
    np.testing.assert_allclose(np.linalg.norm(seen[:, None] - seen, axis=-1), np.linalg.norm(flat[:, None] - flat, axis=-1), atol=1e-9)
    assert seen.mean(0) == pytest.approx([0, 0], abs=1e-9) and seen.var(0)[0] > seen.var(0)[1]


def test_by_hand_and_the_sign_is_that_of_the_largest_entry() -> None:
    points = np.array([[0.0, 0, 0], [-4, 0, 0], [0, -2, 0], [-4, -2, 0], [-2, -1, 0.5], [-2, -1, -0.5]])
    axes = principal_axes(points)
    np.testing.assert_allclose(axes.rows, [[1, 0, 0], [0, 1, 0]], atol=1e-12)
    assert axes.variance(points) == pytest.approx(20 / 20.5)
    np.testing.assert_allclose(principal_axes(-points).rows, axes.rows, atol=1e-12)
    np.testing.assert_allclose(axes.project(points[:1]), [[2, 1]], atol=1e-12)


def test_as_scikit_learn_s_but_for_the_sign() -> None:
    points = chance().normal(size=(30, 8)) @ chance(1).normal(size=(8, 8))
    axes, theirs = principal_axes(points), PCA(2, svd_solver="full").fit(points)
    np.testing.assert_allclose(np.abs((axes.rows * theirs.components_).sum(1)), 1, atol=1e-9)
    assert axes.variance(points) == pytest.approx(theirs.explained_variance_ratio_.sum())


def test_other_points_on_these_axes_have_a_share_of_their_own() -> None:
    axes = principal_axes(np.array([[2.0, 0, 0], [-2, 0, 0], [0, 1, 0], [0, -1, 0]]))
    assert axes.variance(np.array([[0.0, 5, 1], [0, 5, -1]])) == 0
    assert axes.variance(np.array([[0.0, 1, 1], [0, -1, -1]])) == pytest.approx(0.5)
    assert np.isnan(axes.variance(np.ones((3, 3))))


def test_axes_refuse_what_has_none() -> None:
    with pytest.raises(DataError, match="two or more"):
        principal_axes(np.ones((1, 4)))
    with pytest.raises(Diverged):
        principal_axes(np.array([[1.0, np.nan], [0, 1]]))


# ---- centres


def test_by_hand_the_nearest_centre_counts_whatever_the_class() -> None:
    known, labels = np.array([[0.0, 0], [2, 0], [10, 0], [10, 2]]), np.array([3, 3, 5, 5])  # centres (1, 0) and (10, 1)
    members, others = np.array([[1.0, 1], [10, 3]]), np.array([[10.0, 2.5], [1, 5], [10, 3]])  # 1 and 2 away; 1.5, 5 and 2
    assert centre_auc(members, others, known, labels) == pytest.approx((3 + 1 + 0.5) / 6)


def test_two_draws_of_one_distribution_lie_alike_and_what_was_drawn_together_lies_nearer() -> None:
    centres, labels = 5 * chance(9).normal(size=(10, 4)), np.arange(300) % 10
    draws = [centres[labels] + chance(seed).normal(size=(300, 4)) for seed in range(40)]
    alike = [centre_auc(*trio, labels) for trio in zip(draws, draws[1:], draws[2:], strict=False)]
    assert np.mean(alike) == pytest.approx(0.5, abs=0.02)
    tighter = centres[labels] + 0.5 * chance(50).normal(size=(300, 4))
    assert centre_auc(tighter, draws[0], draws[1], labels) > 0.8 and centre_auc(draws[0], tighter, draws[1], labels) < 0.2


def test_neither_shifting_nor_turning_nor_stretching_the_space_matters() -> None:
    sides = [chance(seed).normal(size=(60, 5)) for seed in range(3)]
    labels, basis = np.arange(60) % 4, np.linalg.qr(chance(7).normal(size=(5, 5)))[0]
    assert centre_auc(*(3 * side @ basis + 50 for side in sides), labels) == pytest.approx(centre_auc(*sides, labels), abs=1e-9)


def test_centres_refuse_none_and_what_is_not_finite() -> None:
    some, none, labels = np.zeros((4, 2)), np.zeros((0, 2)), np.zeros(4, dtype=np.int64)
    with pytest.raises(DataError, match="got 4, 0 and 4"):
        centre_auc(some, none, some, labels)
    with pytest.raises(Diverged):
        centre_auc(np.full((4, 2), np.inf), some, some, labels)
