from collections.abc import Callable

import numpy as np
import pytest

Arrays = tuple[np.ndarray, np.ndarray, np.ndarray]


def make_worlds(splits: int = 12, forgets: int = 3, n: int = 100, shift: float = 0.0, shared: float = 0.7, seed: int = 0) -> Arrays:
    """(phi, world, split) of a study: each split leaves half of n examples out, each of its models forgets a tenth of the rest.

    phi: own mean and deviation per example, `shared` of the variance common to a split's models; `shift` in own deviations.
    """
    rng = np.random.default_rng(seed)
    world = np.full((splits * forgets, n), -1, dtype=np.int8)
    for s in range(splits):
        order = rng.permutation(n)
        for row in world[s * forgets:(s + 1) * forgets]:
            row[order[n // 2:]] = 0
            row[rng.permutation(order[:n // 2])[:max(n // 20, 1)]] = 1
    common = np.repeat(rng.normal(size=(splits, n)), forgets, 0)
    noise = np.sqrt(shared) * common + np.sqrt(1 - shared) * rng.normal(size=world.shape)
    mu, sigma = 3 * rng.normal(size=n), np.exp(rng.normal(scale=0.5, size=n))
    return mu + sigma * (noise + shift * (world == 1)), world, np.repeat(np.arange(splits), forgets)


@pytest.fixture
def worlds() -> Callable[..., Arrays]:
    return make_worlds
