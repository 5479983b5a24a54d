from collections.abc import Callable

import numpy as np
import pytest

from engine.attacks.calibration import original_has_power, planted_shift, retrained_at_chance, shuffled, shuffled_at_chance
from engine.attacks.u_lira import u_lira
from engine.errors import DataError

Worlds = Callable[..., tuple[np.ndarray, np.ndarray, np.ndarray]]
STUDY = {"splits": 24, "forgets": 6, "n": 1000}


def test_retrained_models_are_equivalent_to_chance_and_leaking_ones_are_not(worlds: Worlds):
    passed, failed = (retrained_at_chance(u_lira(*worlds(**STUDY, shift=shift))) for shift in (0.0, 1.0))
    assert passed["outcome"] == "passed" and 0.48 <= passed["lo"] < passed["value"] < passed["hi"] <= 0.52
    assert failed["outcome"] == "failed" and failed["lo"] > 0.52
    assert passed["bound"] == "95 % interval of balanced accuracy inside 0.480 to 0.520"


def test_an_interval_that_is_too_wide_decides_nothing(worlds: Worlds):
    wide = u_lira(*worlds(splits=10, forgets=2, n=60))
    assert retrained_at_chance(wide)["outcome"] == "too few models"
    assert original_has_power(wide)["outcome"] == "too few models"
    assert retrained_at_chance(wide, delta=0.4)["outcome"] == "passed"


def test_five_splits_decide_nothing_however_clear(worlds: Worlds):
    clear = u_lira(*worlds(splits=5, forgets=10, n=2000, shift=4.0))
    assert original_has_power(clear)["outcome"] == "too few models" and clear.balanced_accuracy.lo > 0.52


def test_power_is_shown_by_the_lower_end(worlds: Worlds):
    weak, strong = (u_lira(*worlds(**STUDY, shift=shift)) for shift in (0.0, 1.0))
    assert original_has_power(strong)["outcome"] == "passed"
    assert original_has_power(weak)["outcome"] == "failed"
    assert original_has_power(strong, margin=0.3)["outcome"] == "failed"


@pytest.mark.parametrize(("size", "expected"), [(1.0, 0.691), (2.0, 0.841)])
def test_a_planted_shift_is_found_again(worlds: Worlds, size: float, expected: float):
    found = planted_shift(*worlds(**STUDY), shift=size)
    assert found["outcome"] == "passed" and found["value"] == pytest.approx(expected, abs=0.03)
    assert f"known centres: {expected:.3f}" in found["bound"]


def test_with_few_splits_less_is_expected_of_the_attack(worlds: Worlds):
    found = planted_shift(*worlds(splits=8, forgets=6, n=3000))
    assert found["outcome"] == "passed" and found["value"] < 0.65  # 0.691 with centres that are known


def test_heavy_and_skewed_phi_is_judged_by_what_it_can_give():
    """One shift of sigma is more than a sigma's worth where most values lie close together: the bound moves with it."""
    rng = np.random.default_rng(0)
    split, n = np.repeat(np.arange(30), 4), 400
    world = np.where(rng.random((30, n)) < 0.5, 1, 0)[split].astype(np.int8)
    phi = 2 - np.repeat(rng.exponential(size=(30, n)) ** 1.5, 4, axis=0) + 0.1 * rng.normal(size=world.shape)
    found = planted_shift(phi, world, split)
    assert found["outcome"] == "passed" and found["value"] > 0.705


@pytest.mark.parametrize("leak", [-0.8, 0.8])
def test_a_leak_that_was_there_before_spoils_the_planted_one(worlds: Worlds, leak: float):
    assert planted_shift(*worlds(**STUDY, shift=leak))["outcome"] == "failed"


def test_planting_needs_a_positive_shift_and_leaves_phi_alone(worlds: Worlds):
    phi, world, split = worlds(n=40)
    before = phi.copy()
    planted_shift(phi, world, split)
    np.testing.assert_array_equal(phi, before)
    with pytest.raises(DataError, match="positive"):
        planted_shift(phi, world, split, shift=0.0)


def test_dealt_anew_a_strong_leak_is_gone_and_groups_stay_whole(worlds: Worlds):
    phi, world, split = worlds(**STUDY, shift=2.0)
    assert u_lira(phi, world, split).balanced_accuracy.value > 0.75
    assert shuffled_at_chance(phi, world, split)["outcome"] == "passed"
    dealt = shuffled(world, split)
    assert ((dealt == -1) == (world == -1)).all() and (dealt != world).any()
    for s in range(STUDY["splits"]):
        for code in (0, 1):  # every group has one world only
            new = np.where(world[split == s] == code, dealt[split == s], -1)
            assert ((new == 1).any(0) & (new == 0).any(0)).sum() == 0
    forgotten = [np.stack([(w[split == s] == 1).any(0) for s in range(STUDY["splits"])]).sum(0) for w in (world, dealt)]
    assert (forgotten[0] == forgotten[1]).all() and (shuffled(world, split) == dealt).all()
