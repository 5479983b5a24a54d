"""Ranks and groups: against hand-computed cases, scipy and scikit-posthocs, and what must hold whatever the numbers are."""

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import stats

from engine.errors import BadInput, DataError
from engine.metrics import ranking
from engine.metrics.ranking import Floats

NAN = float("nan")
losses = hnp.arrays(np.float64, st.tuples(st.integers(2, 7), st.integers(2, 8)), elements=st.floats(0, 2, width=16))


def rows(*means: float, seeds: int = 10, spread: float = 0.001) -> Floats:
    """Losses with these means, of the same shape over seeds but for a little noise of each method's own."""
    noise = np.random.default_rng(0).normal(0, spread, (len(means), seeds))
    return np.array(means)[:, None] + noise - noise.mean(1, keepdims=True)


# ---- paired tests


def test_sign_flips_are_all_counted() -> None:
    """Of the eight sums of ±1 ±2 ±3, one reaches 6 and one -6; three are 2 or more and as many -2 or less."""
    assert ranking.paired_p(np.array([1.0, 2.0, 3.0])) == pytest.approx(2 / 8)
    assert ranking.paired_p(np.array([1.0, 2.0, 3.0]), one_sided=True) == pytest.approx(1 / 8)
    assert ranking.paired_p(np.array([1.0, -2.0, 3.0])) == pytest.approx(6 / 8)
    assert ranking.paired_p(np.array([-1.0, -2.0, -3.0]), one_sided=True) == pytest.approx(1)
    assert ranking.paired_p(np.zeros(6)) == 1 and ranking.paired_p(np.ones((2, 10))) == pytest.approx([2 / 1024] * 2)


def test_sign_flip_is_scipys_permutation_test() -> None:
    difference = np.random.default_rng(1).normal(0.4, 1, 9)
    for kind, one_sided in (("two-sided", False), ("greater", True)):
        theirs = stats.permutation_test((difference,), np.mean, permutation_type="samples", n_resamples=np.inf, alternative=kind).pvalue
        assert ranking.paired_p(difference, one_sided=one_sided) == pytest.approx(theirs)


@pytest.mark.parametrize("seeds", [13, 20, 31])
def test_many_seeds_are_wilcoxons(seeds: int) -> None:
    difference = np.random.default_rng(seeds).normal(0.3, 1, (2, seeds))
    for kind, one_sided in (("two-sided", False), ("greater", True)):
        theirs = [stats.wilcoxon(row, method="exact", alternative=kind).pvalue for row in difference]
        assert ranking.paired_p(difference, one_sided=one_sided) == pytest.approx(theirs)


def test_wilcoxon_with_ties_and_zeros_is_counted_too() -> None:
    difference = np.array([1.0, 1, -1, 2, 2, 3, -3, 0, 4, 5, 5, 0, 6, 7])
    there = difference[difference != 0]
    ranks = stats.rankdata(np.abs(there))
    sums = np.array([np.dot(signs, ranks) for signs in product((0, 1), repeat=len(ranks))])
    above = (sums >= ranks[there > 0].sum()).mean()
    assert ranking.paired_p(difference, one_sided=True) == pytest.approx(above)
    assert ranking.paired_p(difference) == pytest.approx(2 * above)
    assert ranking.paired_p(np.zeros(14)) == 1


def test_holm_by_hand() -> None:
    """0.01 × 4, 0.02 × 3, 0.03 × 2 (not below the one before it), 0.9."""
    assert ranking.holm(np.array([0.9, 0.01, 0.03, 0.02])) == pytest.approx([0.9, 0.04, 0.06, 0.06])
    assert ranking.holm(np.array([0.5, 0.6])) == pytest.approx([1, 1]) and ranking.holm(np.zeros(0)).size == 0


def test_what_so_many_seeds_can_tell() -> None:
    assert ranking.can_tell(10, 18, one_sided=True) and ranking.can_tell(10, 17)  # 18/1024 and 34/1024
    assert not ranking.can_tell(10, 153)  # all pairs of 18 methods: 306/1024
    assert not ranking.can_tell(5, 18, one_sided=True) and ranking.can_tell(5, 1, one_sided=True)


# ---- noise and groups


def test_derangements_leave_nothing_in_place_and_are_evenly_likely() -> None:
    drawn = ranking.derangements(4, 9000)
    assert (np.sort(drawn, 1) == np.arange(4)).all() and (drawn != np.arange(4)).all()
    kinds, times = np.unique(drawn, axis=0, return_counts=True)
    assert len(kinds) == 9 and stats.chisquare(times).pvalue > 0.001
    assert (ranking.derangements(6) == ranking.derangements(6)).all()
    with pytest.raises(DataError, match="two or more seeds"):
        ranking.derangements(1)


def test_deviations_by_hand() -> None:
    """Accuracies 1.0 and 0.8 on each split: 3 · |0.8 / 1 - 1| one way, 3 · |1 / 0.8 - 1| the other."""
    apart = ranking.deviations(np.array([[1.0, 0.8]] * 3))
    assert apart == pytest.approx(np.array([[0, 0.75], [0.6, 0]]))
    null = ranking.deviation_null(np.array([[1.0, 0.8]] * 3))
    assert null.paired == pytest.approx([0.6, 0.75]) and null.limit == pytest.approx(0.675) and null.floor == 0


def test_null_of_deviations_is_over_means_of_derangements() -> None:
    accuracy = np.random.default_rng(2).normal(0.9, 0.01, (3, 10))
    null = ranking.deviation_null(accuracy)
    apart = ranking.deviations(accuracy)
    off = apart[~np.eye(10, dtype=bool)]
    assert off.mean() < null.limit < np.quantile(off, 0.95)  # means of ten vary less than single pairs
    assert null.paired.mean() == pytest.approx(off.mean())


def test_no_ratio_to_nothing_right() -> None:
    accuracy = np.array([[1.0, 1.0], [0.0, 0.0], [0.9, 0.9]])
    assert np.isnan(ranking.deviations(accuracy)).all()


def test_null_of_own_values() -> None:
    """The same value at each seed leaves no noise; else the limit is above the mean, by less the more seeds there are."""
    flat = ranking.own_null(np.full(10, 0.02))
    assert flat.limit == pytest.approx(0.02) and flat.floor == pytest.approx(0.02)
    few, many = (ranking.own_null(np.tile([0.0, 0.1], n)) for n in (5, 50))
    assert 0.05 < many.limit < few.limit < 0.1
    with pytest.raises(DataError, match="two or more seeds"):
        ranking.own_null(np.zeros(1))


def test_groups_by_hand() -> None:
    null = ranking.Null(np.full(10, 0.01), limit=0.015, floor=0.0)
    loss = rows(0.010, 0.014, 0.03, 0.06, NAN)
    found = ranking.grouped(loss, null, original=0.08)
    assert found.group == ["G1", "G2", "G2", "G3", "F"]  # the second is below the limit, and always above the noise of its seed
    assert found.p[1:4] == pytest.approx([4 / 1024] * 3) and found.p[0] > 0.2 and np.isnan(found.p[4])
    assert found.above[:4] == pytest.approx([0, 0.004, 0.02, 0.05], abs=1e-9) and found.above_lo[0] < 0 < found.above_hi[0]
    low, high = stats.t.interval(0.95, 9, 0.004, stats.sem(loss[1]))
    assert (found.above_lo[1], found.above_hi[1]) == pytest.approx((low, high), rel=1e-3)


def test_close_is_half_the_way_from_the_original_measured_from_retraining() -> None:
    null = ranking.Null(np.full(10, 0.10), limit=0.11, floor=0.10)
    assert ranking.grouped(rows(0.149, 0.151), null, original=0.20).group == ["G2", "G3"]
    assert ranking.grouped(rows(0.15), null, original=0.10).group == ["G3"]  # an original that is no worse than retraining leaves no half way


def test_nearer_than_another_retrained_model_is_within_noise() -> None:
    """The test is one-sided: always below the noise is no reason to be thrown out."""
    null = ranking.Null(np.full(10, 0.02), limit=0.021, floor=0.0)
    assert ranking.grouped(rows(0.001, spread=1e-5), null, original=0.1).group == ["G1"]


def test_a_wide_spread_within_the_test_but_not_within_the_limit_is_not_g1() -> None:
    null = ranking.Null(np.full(10, 0.02), limit=0.021, floor=0.0)
    found = ranking.grouped(rows(0.03, spread=0.05), null, original=0.1)
    assert found.p[0] > ranking.ALPHA and found.group == ["G2"]


@given(st.integers(2, 10), st.integers(0, 2**32 - 1))
@settings(max_examples=25, deadline=None)
def test_retrained_itself_is_within_its_own_noise(seeds: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    accuracy = rng.uniform(0.5, 1, (3, seeds))
    assert ranking.grouped(np.zeros((1, seeds)), ranking.deviation_null(accuracy), original=0.5).group == ["G1"]
    own = rng.uniform(0, 0.2, seeds)
    assert ranking.grouped(own[None], ranking.own_null(own), original=0.5).group == ["G1"]


def test_how_often_fresh_retrained_models_are_within_the_noise() -> None:
    """Ten others, drawn alike but sharing nothing: about three of four by deviation, as `deviation_null` says, and most by own values."""
    rng, mean, spread = np.random.default_rng(3), np.array([[0.999], [0.873], [0.869]]), np.array([[0.0002], [0.003], [0.0026]])
    hits = np.zeros(2)
    for _ in range(60):
        ours, theirs = mean + spread * rng.normal(size=(2, 3, 10))
        null = ranking.deviation_null(ours)
        hits[0] += ranking.grouped(np.abs(theirs / ours - 1).sum(0)[None], null, 0.1).group == ["G1"]
        ours, theirs = np.abs(2 * rng.normal(0.503, 0.0055, (2, 10)) - 1)
        hits[1] += ranking.grouped(theirs[None], ranking.own_null(ours), 0.1).group == ["G1"]
    assert 0.6 <= hits[0] / 60 <= 0.92 and 0.75 <= hits[1] / 60 <= 0.99


def test_groups_by_intervals() -> None:
    loss = np.array([[0, 0.005, 0.02], [0.02, 0.03, 0.04], [0.05, 0.06, 0.07], [NAN, NAN, NAN]])
    assert ranking.interval_groups(loss, np.array([0, 0.002, 0.01]), original=0.08) == ["G1", "G2", "G3", "F"]


@pytest.mark.parametrize(("groups", "speed", "good"), [
    ([("G1", "G1")] * 4 + [("G1", "G2")], [2] * 5, True),          # 80 %
    ([("G1", "G1")] * 3 + [("G2", "G1")], [2] * 4, False),         # 75 %
    ([("G1", "G1")] * 5, [2, 2, 2, 2, 1], False), ([("G1", "G1")], [NAN], False), ([], [], False), ([("G1", None)], [3], False)])
def test_consistently_good(groups: list[tuple[str | None, str | None]], speed: list[float], good: bool) -> None:
    assert ranking.consistently_good(groups, speed) is good


# ---- ranks within a cell


def test_average_ranks_are_scipys() -> None:
    values = np.array([3.0, 1, 1, 2, 5, 5, 5])
    assert ranking.average_ranks(values) == pytest.approx(stats.rankdata(values))
    assert ranking.average_ranks(np.array([NAN, 1.0, NAN])) == pytest.approx([2.5, 1, 2.5])


def test_ranks_by_hand() -> None:
    """Two that cannot be told apart, one behind, two that cannot be told apart, one that failed."""
    loss = rows(0.0502, 0.05, 0.08, 0.12, 0.1202, NAN)
    found = ranking.seed_ranks(loss)
    assert found.rank == pytest.approx([1.5, 1.5, 3, 4.5, 4.5, 6]) and found.tied.tolist() == [True, True, False, False, False, False]
    assert (found.rank_lo[2], found.rank_hi[2]) == (3, 3) and (found.rank_lo[5], found.rank_hi[5]) == (6, 6)
    assert found.rank_lo[0] == 1 and found.rank_hi[0] == 2


def test_few_seeds_separate_nothing() -> None:
    assert ranking.seed_ranks(rows(0.1, 0.5, 0.9, seeds=4)).rank == pytest.approx([2, 2, 2])


def test_failed_methods_share_the_last_rank() -> None:
    loss = rows(0.1, NAN, 0.3, 0.01)
    found = ranking.seed_ranks(loss, np.array([False, False, False, True]))
    assert found.rank == pytest.approx([1, 3.5, 2, 3.5]) and not found.tied[3]
    everybody = ranking.seed_ranks(np.full((3, 4), NAN))
    assert everybody.rank == pytest.approx([2, 2, 2]) and not everybody.tied.any()


@given(losses, st.randoms(use_true_random=False))
@settings(max_examples=30, deadline=None)
def test_order_of_methods_does_not_matter(loss: Floats, chance: object) -> None:
    order = np.array(chance.sample(range(len(loss)), len(loss)))
    before, after = ranking.seed_ranks(loss), ranking.seed_ranks(loss[order])
    for name in ("rank", "tied", "rank_lo", "rank_hi"):
        assert getattr(after, name) == pytest.approx(getattr(before, name)[order])
    assert before.rank.sum() == pytest.approx(len(loss) * (len(loss) + 1) / 2) and before.tied.any()


@given(losses)
@settings(max_examples=20, deadline=None)
def test_identical_methods_tie(loss: Floats) -> None:
    found = ranking.seed_ranks(np.concatenate([loss, loss]))
    half = len(loss)
    for values in (found.rank, found.tied, found.rank_lo, found.rank_hi):
        assert (values[:half] == values[half:]).all()


def test_ranks_by_intervals() -> None:
    loss = np.array([[0.20, 0.25, 0.30], [0.00, 0.02, 0.04], [0.03, 0.05, 0.07], [NAN, NAN, NAN]])
    found = ranking.interval_ranks(loss)
    assert found.rank == pytest.approx([3, 1.5, 1.5, 4]) and found.tied.tolist() == [False, True, True, False] and np.isnan(found.rank_lo).all()


# ---- across cells


@pytest.mark.parametrize(("cells", "expected"), [(2, 18.6), (5, 11.8), (10, 8.3)])
def test_critical_difference_of_eighteen_methods(cells: int, expected: float) -> None:
    assert round(ranking.critical_difference(18, cells), 1) == expected


@pytest.mark.parametrize("methods", [2, 3, 10, 18, 40])
def test_studentised_range_is_scipys(methods: int) -> None:
    assert ranking._range_quantile(methods, 0.95) == pytest.approx(stats.studentized_range.ppf(0.95, methods, np.inf), rel=1e-6)


@pytest.mark.parametrize("freedom", [1, 2, 3, 8, 17])
def test_chi_square_is_scipys(freedom: int) -> None:
    for x in (0.0, 0.3, 4.0, 30.0, 200.0):
        assert ranking._chi2_above(x, freedom) == pytest.approx(stats.chi2.sf(x, freedom), rel=1e-9, abs=1e-300)


def test_friedman_by_hand() -> None:
    """Six cells, three methods, the same order in all: average ranks 1, 2, 3 and 12 · 6 / (3 · 4) · (1 + 0 + 1) = 12."""
    found = ranking.across(np.tile([0.1, 0.2, 0.3], (6, 1)))
    assert found.average == pytest.approx([1, 2, 3]) and found.statistic == pytest.approx(12) and found.p == pytest.approx(np.exp(-6))
    assert found.critical == pytest.approx(3.3145 / np.sqrt(2) * np.sqrt(3 * 4 / 36), rel=1e-4)


def test_across_agrees_with_scipy_and_posthocs() -> None:
    """Ties included. Two methods are further apart than the critical difference where Nemenyi's p is below 0.05."""
    posthocs = pytest.importorskip("scikit_posthocs")
    loss = np.round(np.random.default_rng(4).normal(np.linspace(0, 1, 6), 0.3, (12, 6)), 1)
    found = ranking.across(loss)
    theirs = stats.friedmanchisquare(*loss.T)
    assert (found.statistic, found.p) == pytest.approx((theirs.statistic, theirs.pvalue))
    p = posthocs.posthoc_nemenyi_friedman(loss).to_numpy()
    apart = np.abs(found.average[:, None] - found.average) > found.critical
    off = ~np.eye(6, dtype=bool)
    assert (apart[off] == (p[off] < 0.05)).all() and apart.any() and not apart[off].all()


def test_failed_methods_come_last_in_their_cell() -> None:
    loss = np.tile([0.1, 0.2, 0.3], (6, 1))
    loss[:, 0] = NAN
    assert ranking.across(loss).average == pytest.approx([3, 1, 2])


def test_all_alike_across_cells() -> None:
    found = ranking.across(np.ones((6, 4)))
    assert (found.statistic, found.p) == (0, 1) and found.average == pytest.approx([2.5] * 4)


def test_too_few_cells_is_said_with_the_difference_they_would_give() -> None:
    reason = ranking.too_few(18, 2)
    assert "2 cells are too few" in reason and "18.6 apart" in reason and "are 17 apart" in reason
    assert ranking.too_few(18, 6) == "" and "two or more methods" in ranking.too_few(1, 9) and "1 cell is" in ranking.too_few(6, 1)
    with pytest.raises(BadInput, match="too few"):
        ranking.across(np.ones((5, 4)))


def test_cliques_are_the_longest_runs() -> None:
    assert ranking.cliques(np.array([4.0, 1.0, 1.5, 2.4]), 1.0) == [(0, 1), (1, 2)]
    assert ranking.cliques(np.array([1.0, 1.2, 1.4]), 1.0) == [(0, 2)] and ranking.cliques(np.array([1.0, 3.0]), 1.0) == []


def test_overall_score_is_a_weighted_mean_of_ranks() -> None:
    ranks = np.array([[1.0, 2.0], [2.0, 1.0], [3.0, NAN]])
    assert ranking.overall_score(ranks, [1, 1, 2])[0] == pytest.approx((1 + 2 + 6) / 4) and np.isnan(ranking.overall_score(ranks, [1, 1, 2])[1])
    for weights in ([0, 0, 0], [1, -1, 1]):
        with pytest.raises(BadInput, match="at least 0"):
            ranking.overall_score(ranks, weights)
