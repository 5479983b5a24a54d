"""By hand, and against the distance over all weights."""

import numpy as np
import pytest

from engine.errors import DataError
from engine.metrics.closeness import relative_weight_distance
from engine.metrics.movement import movement

BEFORE = {"a": np.array([3.0, 4.0]), "b": np.array([[12.0], [6.0]])}
AFTER = {"a": np.array([3.0, 7.0]), "b": np.array([[8.0], [14.0]])}
LIVE = {"a": np.array([True, True]), "b": np.array([[True], [False]])}


def test_live_dead_and_parts_by_hand() -> None:
    found = movement(AFTER, BEFORE, LIVE, {"block1": ["a"], "head": ["b"]})
    assert found == pytest.approx({"live": 5 / 13, "dead": 8 / 6, "block1": 3 / 5, "head": 4 / 12})  # of b only what is live


def test_without_dead_weights_live_is_the_whole_distance_and_dead_does_not_exist() -> None:
    alive = {name: np.ones_like(weights, dtype=bool) for name, weights in BEFORE.items()}
    found = movement(AFTER, BEFORE, alive, {"stem": []})
    assert found["live"] == pytest.approx(relative_weight_distance(AFTER, BEFORE)) and np.isnan(found["dead"]) and np.isnan(found["stem"])


def test_nothing_moved_is_0_and_from_nothing_there_is_no_ratio() -> None:
    found = movement(BEFORE, BEFORE, LIVE, {})
    assert found == {"live": 0, "dead": 0}
    zero = {name: 0 * weights for name, weights in BEFORE.items()}
    assert np.isnan(movement(AFTER, zero, LIVE, {})["live"])


def test_weights_of_different_models_are_refused() -> None:
    with pytest.raises(DataError, match="names differ"):
        movement(AFTER, {"a": BEFORE["a"]}, LIVE, {})
    with pytest.raises(DataError, match="'a' has shapes"):
        movement({**AFTER, "a": np.ones(3)}, BEFORE, LIVE, {})
