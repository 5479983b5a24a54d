"""Splits: the study's procedure against scikit-learn, U-LiRA's halves and tenths by their definition."""

import numpy as np
import pytest
from sklearn.model_selection import train_test_split

from engine.data.splits import DataSpec, audited, forget_part, forget_sets, half, held_out, indices, pool_of
from engine.errors import BadInput


@pytest.mark.parametrize("n", [1500, 4000, 60_000])
@pytest.mark.parametrize("ratio", [0.15, 0.10])
def test_held_out_is_scikit_learns_split_in_its_order(n: int, ratio: float) -> None:
    kept, out = held_out(n, ratio)
    theirs_kept, theirs_out = train_test_split(np.arange(n), test_size=ratio, random_state=123)
    assert np.array_equal(kept, theirs_kept) and np.array_equal(out, theirs_out)


@pytest.mark.parametrize(("dataset", "train", "test", "sizes"), [
    ("cifar10", 50_000, 10_000, (38_250, 4_250, 7_500, 10_000)),
    ("fashion_mnist", 60_000, 10_000, (45_900, 5_100, 9_000, 10_000)),
    ("digits", 1_500, 297, (1_147, 128, 225, 297)),
])
def test_sizes_are_those_of_the_study(dataset: str, train: int, test: int, sizes: tuple[int, ...]) -> None:
    found = indices(DataSpec(dataset, "seeds", forget=0), train, test)
    assert tuple(len(found[name]) for name in ("retain", "forget", "val", "test")) == sizes
    together = np.concatenate(list(found.values()))
    assert np.array_equal(np.sort(together), np.arange(train + test))


def test_an_original_trains_on_retain_and_forget() -> None:
    whole = indices(DataSpec("digits", "seeds"), 1_500, 297)
    parts = indices(DataSpec("digits", "seeds", forget=0), 1_500, 297)
    assert len(whole["forget"]) == 0
    assert set(whole["retain"]) == set(parts["retain"]) | set(parts["forget"])


def test_halves_are_the_studys_and_tenths_use_each_example_once() -> None:
    pool = np.arange(1_500)
    train, out = half(pool, 7)
    assert np.array_equal(train, np.random.default_rng(7).permutation(pool)[:750])
    assert not set(train) & set(out) and len(out) == 750
    forgotten = [forget_part(train, 7, j) for j in range(10)]
    assert np.array_equal(np.sort(np.concatenate([f for _, f in forgotten])), np.sort(train))
    for retain, forget in forgotten:
        assert len(forget) == 75 and not set(retain) & set(forget) and set(retain) | set(forget) == set(train)


@pytest.mark.parametrize(("share", "sets", "size"), [(0.05, 20, 37), (0.1, 10, 75), (0.3, 3, 225), (0.5, 2, 375)])
def test_forget_sets_of_a_share_are_disjoint_and_of_its_size(share: float, sets: int, size: int) -> None:
    train, _ = half(np.arange(1_500), 7)
    assert forget_sets(share) == sets
    forgotten = np.concatenate([forget_part(train, 7, j, share)[1] for j in range(sets)])
    assert len(forgotten) == sets * size == len(set(forgotten)) and set(forgotten) <= set(train)
    with pytest.raises(BadInput, match=f"must be from 0 to {sets - 1}"):
        forget_part(train, 7, sets, share)
    with pytest.raises(BadInput, match="which is none"):
        forget_part(train[:1], 7, 0, share)


def test_another_split_and_share_by_the_same_procedure() -> None:
    found = indices(DataSpec("digits", "seeds", split=5, forget=0, forget_share=0.05), 1_500, 297)
    train, val = train_test_split(np.arange(1_500), test_size=0.15, random_state=5)
    retain, forget = train_test_split(train, test_size=0.05, random_state=5)
    assert all(np.array_equal(found[name], part) for name, part in (("val", val), ("retain", retain), ("forget", forget)))


def test_u_lira_indices_cover_the_pool() -> None:
    found = indices(DataSpec("digits", "u_lira", split=3, forget=2), 1_500, 297)
    assert np.array_equal(np.sort(np.concatenate([found[n] for n in ("retain", "forget", "heldout")])), found["pool"])


@pytest.mark.parametrize("pool", [3, 1_501])
def test_a_pool_of_impossible_size_is_refused(pool: int) -> None:
    with pytest.raises(BadInput, match=r"data\.pool: got .* must be from 20 to 1500"):
        pool_of(1_500, pool)


def test_a_small_pool_is_audited_whole_and_a_large_one_by_a_fixed_sample() -> None:
    small, large = np.arange(10_000), np.arange(5, 30_005)
    assert np.array_equal(audited(small), small)
    few = audited(large)
    assert len(np.unique(few)) == 2_000 and np.isin(few, large).all() and np.array_equal(few, np.sort(few))
    assert np.array_equal(few, audited(large))
