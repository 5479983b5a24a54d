"""Scores of models that were never trained: what several tests attack."""

import numpy as np

Arrays = tuple[np.ndarray, np.ndarray, np.ndarray]
Pairs = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]


def originals(splits: int = 12, per: int = 1, n: int = 60, shift: float = 0.0, seed: int = 0) -> Arrays:
    """(phi, world, split) of original models: each split trains `per` models on its own random half of n examples."""
    rng = np.random.default_rng(seed)
    world = np.repeat(rng.permuted(np.tile(np.arange(n) < n // 2, (splits, 1)), axis=1), per, 0).astype(np.int8)
    noise = np.sqrt(0.7) * np.repeat(rng.normal(size=(splits, n)), per, 0) + np.sqrt(0.3) * rng.normal(size=world.shape)
    mu, sigma = 3 * rng.normal(size=n), np.exp(rng.normal(scale=0.5, size=n))
    return mu + sigma * (noise + shift * world), world, np.repeat(np.arange(splits), per)


def pairs(splits: int = 32, n: int = 40, shift: float = 0.0, scale: float = 1.0, mood: float = 0.0, share: float = 1.0, seed: int = 0) -> Pairs:
    """(phi_unlearned, phi_retrained, used, split), one pair a split; `mood`: deviation of what a model adds to all examples."""
    rng = np.random.default_rng(seed)
    used = rng.random((splits, n)) < share
    unlearned, retrained = (rng.normal(size=(splits, n)) + mood * rng.normal(size=(splits, 1)) for _ in range(2))
    return unlearned * scale + shift, retrained, used, np.arange(splits)
