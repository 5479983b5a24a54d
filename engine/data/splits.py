"""Who is in retain, forget, val and test: index arrays into a dataset, by the study's procedure and by U-LiRA's.

Source: the Deep Unlearn study (arXiv:2410.01276) and its released code; `half` and `forget_part` differ from it as stated.
Its one split is drawn with the seed 123; other seeds draw others, by the same procedure.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Int

from engine.errors import BadInput

THE_STUDYS = 123
FORGET_SHARE = 0.1
AUDIT_ALL, AUDITED = 10_000, 2_000  # examples
Indices = Int[np.ndarray, " _"]  # every one of its own length


@dataclass(frozen=True)
class DataSpec:
    """Which examples play which part.

    pool: use only so many training images (the first of `RandomState(123).permutation`), or None for all.
    protocol: `seeds` (the study's one split, or number `split` of others), `u_lira` or `tuning` (a random half of the pool, number `split`).
    forget: number of the forget set; None for a model that forgets nothing.
    forget_share: of what the original is trained on, how much one forget set has.
    """

    dataset: str
    protocol: str
    pool: int | None = None
    split: int | None = None
    forget: int | None = None
    forget_share: float = FORGET_SHARE


def held_out(n: int, ratio: float, seed: int = THE_STUDYS) -> tuple[Indices, Indices]:
    """(kept, held out) positions of 0..n-1: the first ceil(ratio n) of `RandomState(seed).permutation(n)` are held out.

    The same as scikit-learn's `train_test_split(random_state=seed)`, in that order.
    """
    order = np.random.RandomState(seed).permutation(n)
    cut = int(np.ceil(ratio * n))
    return order[cut:], order[:cut]


def pool_of(n_train: int, pool: int | None) -> Indices:
    """The training images that a study uses. Raises: BadInput when there are not so many."""
    if pool is None:
        return np.arange(n_train)
    if not 20 <= pool <= n_train:
        raise BadInput(f"data.pool: got {pool}, must be from 20 to {n_train}, the number of training images")
    return np.sort(np.random.RandomState(THE_STUDYS).permutation(n_train)[:pool])


def audited(pool: Indices) -> Indices:
    """The examples of a pool whose scores U-LiRA models keep: all, or a fixed few where all would be gigabytes a method."""
    if len(pool) <= AUDIT_ALL:
        return pool
    return np.sort(pool[np.random.default_rng(0).permutation(len(pool))[:AUDITED]])


def indices(spec: DataSpec, n_train: int, n_test: int) -> dict[str, Indices]:
    """Split name -> dataset indices.

    seeds: retain, forget, val, test (15 % of the pool are val, `forget_share` of the rest forget).
    u_lira, tuning: retain, forget, heldout (the other half), val and test (halves of the test images, which are outside the pool);
    `pool` in the order that scores are stored in.
    With `forget` None, forget is empty and retain is all training data.
    """
    pool, test = pool_of(n_train, spec.pool), np.arange(n_train, n_train + n_test)
    if spec.protocol == "seeds":
        seed = THE_STUDYS if spec.split is None else spec.split
        train, val = (pool[part] for part in held_out(len(pool), 0.15, seed))
        kept, dropped = (train[part] for part in held_out(len(train), spec.forget_share, seed))
        if spec.forget is None:
            kept, dropped = train, train[:0]
        return {"retain": kept, "forget": dropped, "val": val, "test": test}
    if spec.split is None:
        raise ValueError(f"protocol {spec.protocol} needs a split number")
    train, heldout = half(pool, spec.split)
    kept, dropped = (train, train[:0]) if spec.forget is None else forget_part(train, spec.split, spec.forget, spec.forget_share)
    test, val = (test[part] for part in held_out(n_test, 0.5))
    return {"retain": kept, "forget": dropped, "heldout": heldout, "val": val, "test": test, "pool": pool}


def half(pool: Indices, split: int) -> tuple[Indices, Indices]:
    """(train, held out): the two halves of `default_rng(split).permutation(pool)`, the study's procedure."""
    order = np.random.default_rng(split).permutation(pool)
    return order[: len(pool) // 2], order[len(pool) - len(pool) // 2 :]


def forget_sets(share: float) -> int:
    """How many disjoint forget sets of this share there are."""
    return int(1 / share + 1e-9)


def forget_part(train: Indices, split: int, forget: int, share: float = FORGET_SHARE) -> tuple[Indices, Indices]:
    """(retain, forget): forget set number `forget` of as many disjoint ones of this share as there are.

    The study draws each forget set independently; disjoint ones use every example of a half equally often, so with all
    of them each example is forgotten at most once a split in which it was trained on.
    Raises: BadInput when there are not so many, or when one would be empty.
    """
    if not 0 <= forget < forget_sets(share):
        raise BadInput(f"forget set: got {forget}, must be from 0 to {forget_sets(share) - 1}, as each has {share:.3g} of the training half")
    size = int(len(train) * share + 1e-9)
    if not size:
        raise BadInput(f"forget_share: got {share:.3g} of {len(train)} examples, which is none; give a larger share or pool")
    order = np.random.default_rng([split, 1]).permutation(train)
    part = slice(forget * size, (forget + 1) * size)
    return np.concatenate([order[: part.start], order[part.stop :]]), order[part]
