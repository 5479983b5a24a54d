"""A turned copy comes back, nothing is stretched, and who aligns is not who is looked at."""

import numpy as np
import pytest
from scipy.spatial import procrustes as scipys

from engine.errors import DataError
from engine.metrics.procrustes import procrustes

ALL = np.ones(40, dtype=bool)


def chance(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def turn(degrees: float) -> np.ndarray:
    a = np.radians(degrees)
    return np.array([[np.cos(a), -np.sin(a)], [np.sin(a), np.cos(a)]])


@pytest.mark.parametrize("mirrored", [False, True])
def test_a_turned_shifted_copy_comes_back(mirrored: bool) -> None:
    onto = chance().normal(size=(40, 2))
    given = (onto * ([1, -1] if mirrored else [1, 1])) @ turn(130) + [5, -3]
    np.testing.assert_allclose(procrustes(given, onto, ALL), onto, atol=1e-9)


def test_it_aligns_by_the_chosen_and_takes_the_others_with_them() -> None:
    onto, by = chance().normal(size=(40, 2)), np.arange(40) < 25
    moved = np.where(by[:, None], onto, onto + np.array([10, 0]))
    np.testing.assert_allclose(procrustes(moved @ turn(77) - 4, onto, by), moved, atol=1e-9)


def test_it_never_stretches_and_is_as_near_as_scipy_s_turn() -> None:
    given, onto = chance().normal(size=(40, 2)), chance(1).normal(size=(40, 2))
    found = procrustes(given, onto, ALL)
    np.testing.assert_allclose(np.linalg.norm(found - found.mean(0)), np.linalg.norm(given - given.mean(0)))
    theirs = scipys(onto, given)[1]  # scaled to its own best, which the turn does not depend on
    mine = (found - found.mean(0)) / np.linalg.norm(found - found.mean(0))
    np.testing.assert_allclose(mine, theirs / np.linalg.norm(theirs), atol=1e-9)


def test_without_points_to_align_by_it_says_so() -> None:
    with pytest.raises(DataError, match="got none"):
        procrustes(np.zeros((40, 2)), np.zeros((40, 2)), ~ALL)
