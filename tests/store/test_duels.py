"""Two methods paired by seed: who is better, by how much, and what so few seeds can tell. Rows made by hand."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from engine.store import duels
from engine.store.duels import Paired
from engine.store.standings import Key

NAN, INF = float("nan"), float("inf")
A, B, RETRAINED = ("a", "corrected"), ("b", "corrected"), ("retrained", "corrected")


def runs(key: Key, *, seeds: Sequence[int] | None = None, splits: bool = False, **values: Sequence[float]) -> list[dict[str, Any]]:
    """One row a seed, as `queries.seed_runs` has them."""
    count = len(next(iter(values.values())))
    return [{"method": key[0], "variant": key[1], "seed": seed, "split": seed if splits else None, **{name: value[at] for name, value in values.items()}}
            for at, seed in enumerate(seeds or range(count))]


def only(found: list[Paired]) -> Paired:
    (one,) = found
    return one


def test_a_difference_of_every_seed_is_found_with_its_interval() -> None:
    rng = np.random.default_rng(0)
    base = 0.9 + rng.normal(0, 0.05, 10)  # seeds differ far more than the methods: only pairing sees it
    apart = 0.01 + rng.normal(0, 0.002, 10)
    one = only(duels.by_seed([*runs(A, acc=base + apart), *runs(B, acc=base)], A, B, {"acc": INF}))
    reach = 2.262157 * apart.std(ddof=1) / np.sqrt(10)  # Student's t, 9 degrees of freedom
    assert (one.better, one.lo, one.hi) == pytest.approx((apart.mean(), apart.mean() - reach, apart.mean() + reach), rel=1e-4)
    assert one.p == one.adjusted == duels.smallest_p(10) == 2 / 1024 and one.winner == "first" and one.seeds == tuple(range(10))
    other = only(duels.by_seed([*runs(A, acc=base + apart), *runs(B, acc=base)], B, A, {"acc": INF}))
    assert other.better == -one.better and other.winner == "second" and (other.lo, other.hi) == (-one.hi, -one.lo)


@pytest.mark.parametrize(("best", "first", "second", "better"), [
    (INF, 0.9, 0.8, 0.1), (0.0, 0.9, 0.8, -0.1), (1.0, 0.9, 0.8, 0.1), (0.5, 0.45, 0.6, 0.05), (0.5, 0.6, 0.6, 0.0), (None, 0.9, 0.8, -0.06)])
def test_better_is_nearer_to_the_best_value(best: float | None, first: float, second: float, better: float) -> None:
    """None: what the retrained model has, here 0.82."""
    rows = [*runs(A, m=[first] * 8), *runs(B, m=[second] * 8), *runs(RETRAINED, m=[0.82] * 8)]
    one = only(duels.by_seed(rows, A, B, {"m": best}))
    assert one.better == pytest.approx(better) and one.winner == (None if better == 0 else "first" if better > 0 else "second")


def test_only_common_seeds_are_paired() -> None:
    rows = [*runs(A, seeds=(3, 0, 1, 7), m=[3.0, 0.0, 1.0, 7.0]), *runs(B, seeds=(0, 3, 4, 1), m=[0.5, 3.5, 9.0, NAN])]
    one = only(duels.by_seed(rows, A, B, {"m": INF}))
    assert one.seeds == (0, 3) and one.first == (0.0, 3.0) and one.second == (0.5, 3.5) and one.better == -0.5
    assert duels.by_seed(rows, A, ("c", "corrected"), {"m": INF}) == []
    assert duels.by_seed(rows, A, B, {"m": None}) == []  # no retrained model to be near to
    assert only(duels.by_seed(rows, A, B, {"m": INF, "other": 0.0})).metric == "m"


def test_a_seed_with_another_split_is_no_pair() -> None:
    rows = [*runs(A, m=[1.0, 2.0], splits=True), *runs(B, m=[1.0, 2.0], seeds=(1, 2), splits=True)]
    rows += [{**rows[0], "method": "b", "split": 5}]
    assert only(duels.by_seed(rows, A, B, {"m": INF})).seeds == (1,)


def test_variants_of_one_method_are_two() -> None:
    rows = [*runs(A, m=[1.0] * 6), *runs(("a", "official"), m=[2.0] * 6)]
    assert only(duels.by_seed(rows, A, ("a", "official"), {"m": 0.0})).winner == "first"


def test_one_seed_tells_nothing() -> None:
    one = only(duels.by_seed([*runs(A, m=[1.0]), *runs(B, m=[2.0])], A, B, {"m": INF}))
    assert one.better == -1 and np.isnan([one.lo, one.hi]).all() and one.p == 1 and one.winner is None


def test_holm_counts_every_metric_that_is_compared() -> None:
    """Six seeds can tell one metric; of two no longer, whatever the difference."""
    values = {"m": [1.0] * 6, "k": [1.0] * 6}
    rows = [*runs(A, **values), *runs(B, **{name: [2.0] * 6 for name in values})]
    one, two = duels.by_seed(rows, A, B, {"m": INF}), duels.by_seed(rows, A, B, {"m": INF, "k": INF})
    assert duels.can_tell(one) and one[0].winner == "second" and one[0].adjusted == duels.smallest_p(6) == 1 / 32
    assert not duels.can_tell(two) and [pair.winner for pair in two] == [None, None] and two[0].adjusted == 1 / 16
    assert not duels.can_tell([]) and not duels.can_tell(duels.by_seed(rows[:5] + rows[6:11], A, B, {"m": INF}))


def test_many_seeds_are_tested_by_signed_ranks() -> None:
    rng = np.random.default_rng(1)
    apart = rng.normal(0.4, 1, 14)
    one = only(duels.by_seed([*runs(A, m=apart), *runs(B, m=np.zeros(14))], A, B, {"m": INF}))
    ranks, signs = np.abs(apart).argsort().argsort() + 1, np.arange(1 << 14)[:, None] >> np.arange(14) & 1
    sums, found = signs @ ranks, ranks[apart > 0].sum()
    assert one.p == pytest.approx(2 * min((sums >= found).mean(), (sums <= found).mean())) and 0.01 < one.p < 0.5


@pytest.mark.parametrize(("first", "second", "best", "winner"), [
    ((0.49, 0.50, 0.51), (0.58, 0.60, 0.62), 0.5, "first"),
    ((0.49, 0.50, 0.51), (0.44, 0.45, 0.46), 0.5, "first"),     # below one half leaks as much as above
    ((0.38, 0.40, 0.42), (0.58, 0.60, 0.62), 0.5, None),
    ((0.49, 0.50, 0.53), (0.52, 0.55, 0.58), 0.5, None),        # they touch
    ((3.0, 4.0, 5.0), (10.0, 12.0, 14.0), INF, "second"),
    ((3.0, 4.0, 5.0), (10.0, 12.0, 14.0), 0.0, "first"),
    ((NAN, 4.0, NAN), (10.0, 12.0, 14.0), INF, None)])
def test_intervals_tell_only_where_they_do_not_touch(first: duels.Span, second: duels.Span, best: float, winner: str | None) -> None:
    assert duels.apart(first, second, best) == winner
    assert duels.apart(second, first, best) == {"first": "second", "second": "first", None: None}[winner]
