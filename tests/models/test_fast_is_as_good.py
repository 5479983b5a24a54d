"""What the fast path promises after training: as good a draw as the exact one, in accuracy, population MIA and U-LiRA."""

from functools import cache

import numpy as np
import pytest
from scipy import stats

from engine.attacks.u_lira import u_lira
from engine.data.loader import Splits
from engine.data.splits import DataSpec, half, pool_of
from engine.jobs.measure import Metrics, seeds_metrics, u_lira_metrics
from engine.models import catalogue as models
from engine.models.stack import Stack
from engine.runtime import Rng, Run
from engine.train import Recipe, train

SEEDS, POOL, RECIPE = 10, 600, Recipe(epochs=8, batch=64)
FAST = [("fused", "fp32"), ("fused", "bf16"), ("products", "bf16")]


def trained(specs: list[DataSpec], executor: str, precision: str) -> tuple[Stack, Splits]:
    data, seeds = Splits.of(specs), range(len(specs))
    stack = Stack.build(models.get("cnn"), channels=1, classes=10, side=8, seeds=seeds, executor=executor, precision=precision)
    return train(stack, data, "train", RECIPE, Run(Rng(seeds))), data


@cache
def of_seeds(executor: str, precision: str) -> list[Metrics]:
    found = seeds_metrics(*trained([DataSpec("digits", "seeds", POOL, forget=0)] * SEEDS, executor, precision), [None] * SEEDS)
    return [row for row in found if row is not None]


@cache
def attacked(executor: str, precision: str) -> tuple[float, float, float]:
    """U-LiRA's balanced accuracy on original models of ten splits, trained on or never seen, with its interval."""
    specs = [DataSpec("digits", "u_lira", POOL, split=s) for s in range(SEEDS)]
    phi = u_lira_metrics(*trained(specs, executor, precision))[1]
    pool, world = pool_of(1_500, POOL), np.zeros(phi.shape, np.int8)
    for s in range(SEEDS):
        world[s, np.searchsorted(pool, half(pool, s)[0])] = 1
    found = u_lira(phi, world, np.arange(SEEDS)).balanced_accuracy
    return found.value, found.lo, found.hi


@pytest.mark.parametrize(("executor", "precision"), FAST)
@pytest.mark.parametrize("metric", ["test_accuracy", "forget_accuracy", "mia_test"])
def test_ten_seeds_are_spread_as_those_of_the_exact_path(executor: str, precision: str, metric: str) -> None:
    exact, fast = ([row[metric] for row in of_seeds(*way)] for way in (("loop", "fp32"), (executor, precision)))
    assert len(exact) == len(fast) == SEEDS
    assert stats.ks_2samp(exact, fast).pvalue > 0.01
    assert abs(np.mean(exact) - np.mean(fast)) <= 3 * np.hypot(np.std(exact, ddof=1), np.std(fast, ddof=1)) / SEEDS**0.5


@pytest.mark.parametrize(("executor", "precision"), FAST)
def test_u_lira_finds_as_much_in_fast_models(executor: str, precision: str) -> None:
    value, lo, hi = attacked(executor, precision)
    exact, exact_lo, exact_hi = attacked("loop", "fp32")
    assert exact_lo > 0.5  # the attack has something to find
    assert lo <= exact_hi and exact_lo <= hi and abs(value - exact) < 0.03
