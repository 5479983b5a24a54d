import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import beta, norm

from engine.errors import DataError, Diverged
from engine.metrics.epsilon import STEP, Epsilon, epsilon_lower_bound, epsilon_of, most_of

Scored = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]


def scored(member: np.ndarray, non_member: np.ndarray) -> Scored:
    """(score, member, weight, cluster) of scores [splits, examples] each."""
    splits = np.arange(len(member))
    cluster = np.concatenate([np.repeat(splits, member.shape[1]), np.repeat(splits, non_member.shape[1])])
    score = np.concatenate([member.ravel(), non_member.ravel()])
    return score, np.arange(len(score)) < member.size, np.ones(len(score)), cluster


def normals(shift: float, splits: int = 20, examples: int = 60, seed: int = 0) -> Scored:
    rng = np.random.default_rng(seed)
    return scored(rng.normal(shift, 1, (splits, examples)), rng.normal(0, 1, (splits, examples)))


def all_together(rng: np.random.Generator, epsilon: float, q: float, splits: int, examples: int = 20) -> Scored:
    """Scores 0 or 1, the same for all members of a split and for all its non-members: epsilon is exact, and a split says one thing."""
    member, non_member = (np.repeat(rng.random((splits, 1)) < rate, examples, 1).astype(float) for rate in (math.exp(epsilon) * q, q))
    return scored(member, non_member)


def pooled_clopper_pearson(score: np.ndarray, member: np.ndarray) -> float:
    """The usual 95 % bound from a rule fixed beforehand, score > 1/2, taking examples for independent."""
    hits, alarms, n, m = (score[member] > 0.5).sum(), (score[~member] > 0.5).sum(), member.sum(), (~member).sum()
    low = beta.ppf(0.025, hits, n - hits + 1) if hits else 0.0
    high = beta.ppf(0.975, alarms + 1, m - alarms) if alarms < m else 1.0
    return math.log(max(low / high, 1.0))


def test_rates_of_known_epsilon():
    three = np.log(3)
    assert epsilon_of(np.array([0.75, 0.5, 0.9]), np.array([0.25, 0.5, 0.7])) == pytest.approx([three, 0, three])  # randomised response
    t = 1.5  # N(1, 1) against N(0, 1), at or above t
    tpr, fpr = np.array([norm.sf(t - 1)]), np.array([norm.sf(t)])
    assert epsilon_of(tpr, fpr) == pytest.approx(np.log(tpr / fpr)) and epsilon_of(1 - fpr, 1 - tpr) == pytest.approx(np.log(tpr / fpr))
    assert epsilon_of(np.array([0.5]), np.array([0.1]), 0.1) == pytest.approx(math.log(4))
    assert epsilon_of(np.array([0.2]), np.array([0.6])) == 0  # a rule worse than chance says nothing until it is turned round


def test_rates_of_zero_and_one():
    found = epsilon_of(np.array([0.0, 1.0, 1.0, 0.4, 0.0]), np.array([0.0, 1.0, 0.0, 0.0, 1.0]))
    assert found.tolist() == [0, 0, math.inf, math.inf, 0]
    assert epsilon_of(np.array([1e-5]), np.array([0.0]), 1e-5) == 0


@pytest.mark.parametrize("splits", [6, 10, 64, 640])
def test_most_is_clopper_pearson_without_an_error(splits: int):
    limit = beta.ppf(0.95, 1, splits - 1)
    assert most_of(splits, delta=0) == pytest.approx(math.log((1 - limit) / limit))
    assert most_of(splits) < most_of(splits, delta=0) and abs(most_of(splits, delta=0) - math.log(splits / 3)) < 0.55


def test_too_few_splits_can_show_nothing():
    assert [most_of(s) for s in range(6)] == [0.0] * 6 and most_of(6) > 0
    found = epsilon_lower_bound(*normals(50, splits=5))
    assert (found.value, found.most) == (0.0, 0.0)


@pytest.mark.parametrize("splits", [6, 16, 64])
def test_perfect_separation_shows_the_most_and_never_more(splits: int):
    found = epsilon_lower_bound(*normals(50, splits=splits))
    assert found.most - 2 * STEP < found.value <= found.most == most_of(splits)
    assert (found.tpr, found.fpr, found.above, found.n_splits) == (1, 0, True, splits) and 5 < found.threshold < 47


def test_the_bound_holds_where_examples_of_a_split_err_together_and_pooled_clopper_pearson_does_not():
    """Nominally 95 % of the time; 100 % here, against about 70 % of the pooled bound."""
    for splits in (8, 16):
        cases = [all_together(np.random.default_rng(seed), 1.0, 0.2, splits) for seed in range(40)]
        assert np.mean([epsilon_lower_bound(*case, orders=4).value <= 1 for case in cases]) >= 0.95
        assert np.mean([pooled_clopper_pearson(case[0], case[1]) <= 1 for case in cases]) < 0.85


def test_the_bound_holds_where_nothing_leaks_but_splits_have_moods():
    shown = []
    for seed in range(40):
        rng = np.random.default_rng(seed)
        worlds = [rng.normal(size=(16, 30)) + 2 * rng.normal(size=(16, 1)) for _ in range(2)]
        shown.append(epsilon_lower_bound(*scored(*worlds), orders=8).value)
    assert np.mean(np.array(shown) > 0) <= 0.05


def test_more_splits_show_more_of_a_known_epsilon_and_not_more_than_it():
    """Laplace scores 1 apart: epsilon is 1, and every threshold above both centres shows all of it."""
    rng = np.random.default_rng(0)
    found = [epsilon_lower_bound(*scored(rng.laplace(1, 1, (s, 200)), rng.laplace(0, 1, (s, 200))), delta=0, orders=8) for s in (8, 24, 96)]
    assert [f.value for f in found] == sorted(f.value for f in found) and 0.75 < found[-1].value <= 1


@pytest.mark.parametrize("turn", ["score", "label", "both"])
def test_either_direction_shows_as_much(turn: str):
    score, member, weight, cluster = normals(2.0, splits=24)
    one = epsilon_lower_bound(score, member, weight, cluster)
    other = epsilon_lower_bound(score if turn == "label" else -score, member if turn == "score" else ~member, weight, cluster)
    assert one.value > 1 and other.value == pytest.approx(one.value, abs=0.1)
    assert other.above == (turn == "both") and other.tpr > 0.5 > other.fpr


def plain(case: Scored, seed: int, orders: int, delta: float, level: float) -> Epsilon:
    """The docstring, one split, event and epsilon at a time."""
    score, member, _, cluster = case
    splits, values = int(cluster.max()) + 1, sorted(set(score.tolist()))
    cuts = [values[0], *((a + b) / 2 for a, b in pairwise(values))]
    share = {(s, who, above, t): float(np.mean((score[(cluster == s) & (member == who)] >= t) == above))
             for s in range(splits) for who in (True, False) for above in (True, False) for t in cuts}

    def choose(past: list[int]) -> tuple[bool, bool, float]:
        promised = {}
        for who, above in ((True, True), (True, False), (False, True), (False, False)):
            for t in cuts:
                p, q = (sum(share[s, w, above, t] for s in past) / len(past) for w in (who, not who))
                promised[who, above, t] = (p - delta) / (q - math.log(1 - level) / splits)
        best = max(promised.values())
        kind = next(key[:2] for key, value in promised.items() if value > best - 1e-12)
        equal = [t for t in cuts if promised[(*kind, t)] > best - 1e-9]
        return (*kind, equal[len(equal) // 2])

    rng, grid = np.random.default_rng(seed), np.arange(0, most_of(splits, delta=delta, level=level), STEP)
    wealth = np.ones((orders, len(grid)))
    for o in range(orders):
        order = rng.permutation(splits).tolist()
        for i in range(1, splits):
            who, above, t = choose(order[:i])
            for e, epsilon in enumerate(grid):
                gain = [share[s, who, above, t] - math.exp(epsilon) * share[s, not who, above, t] - delta for s in order[:i + 1]]
                squares = sum(g * g for g in gain[:-1])
                stake = min(max(sum(gain[:-1]) / squares, 0), 1 / (math.exp(epsilon) + delta)) if squares else 0
                wealth[o, e] *= 1 + stake * gain[-1]
    value = 0.0
    for epsilon, have in zip(grid, wealth.mean(0), strict=True):
        if have < 1 / (1 - level):
            break
        value = epsilon
    held_out = []
    for s in range(splits):
        who, above, t = choose([r for r in range(splits) if r != s])
        held_out.append([share[s, w, above == who, t] for w in (True, False)])
    who, above, t = choose(list(range(splits)))
    return Epsilon(value, most_of(splits, delta=delta, level=level), t, above == who, *np.mean(held_out, axis=0), splits)


def test_agrees_with_a_plain_loop():
    case = normals(2.5, splits=8, examples=5, seed=3)
    case = (np.round(case[0], 1), *case[1:])
    found, expected = epsilon_lower_bound(*case, seed=5, orders=3, delta=0.001, level=0.8), plain(case, 5, 3, 0.001, 0.8)
    assert found.value == pytest.approx(expected.value) and found.value > 0.1
    assert (found.most, found.above, found.n_splits) == (expected.most, expected.above, expected.n_splits)
    assert (found.threshold, found.tpr, found.fpr) == pytest.approx((expected.threshold, expected.tpr, expected.fpr))


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 10_000))
def test_scale_of_scores_and_of_a_splits_weights_do_not_matter(seed: int):
    score, member, weight, cluster = normals(2.0, splits=12, examples=20)
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(score))
    one = epsilon_lower_bound(score, member, weight, cluster, orders=4)
    other = epsilon_lower_bound(np.exp(score)[order], member[order], (rng.random(12) + 0.5)[cluster][order], cluster[order], orders=4)
    assert other.value == pytest.approx(one.value, abs=1e-9) and other.threshold == pytest.approx(math.exp(one.threshold), rel=1e-3)


def test_the_seed_decides():
    case = normals(1.5, splits=16)
    assert epsilon_lower_bound(*case, seed=1) == epsilon_lower_bound(*case, seed=1)
    assert epsilon_lower_bound(*case, seed=1, orders=1).value != epsilon_lower_bound(*case, seed=2, orders=1).value


def test_equal_scores_say_nothing():
    score, member, weight, cluster = normals(0)
    assert epsilon_lower_bound(np.zeros_like(score), member, weight, cluster).value == 0


def test_a_weight_of_zero_and_infinite_scores():
    score, member, weight, cluster = normals(3.0)
    wrong = np.arange(len(score)) % 5 == 0
    one = epsilon_lower_bound(score[~wrong], member[~wrong], weight[~wrong], cluster[~wrong])
    other = epsilon_lower_bound(np.where(wrong, np.where(member, -np.inf, np.inf), score), member, np.where(wrong, 0.0, weight), cluster)
    assert other.value == pytest.approx(one.value, abs=0.1)


def test_splits_of_one_kind_are_left_out():
    score, member, weight, cluster = normals(3.0, splits=12)
    only = (cluster < 2) & member
    assert epsilon_lower_bound(score, member & ~only, weight, cluster).n_splits == 10
    with pytest.raises(DataError, match="2 or more splits with both members and non-members, got 0"):
        epsilon_lower_bound(score, np.ones_like(member), weight, cluster)


def test_arrays_that_cannot_be_used():
    score, member, weight, cluster = normals(1.0)
    bad = score.copy()
    bad[3] = np.nan
    with pytest.raises(Diverged, match="1 of 2400 scores are NaN"):
        epsilon_lower_bound(bad, member, weight, cluster)
    with pytest.raises(DataError) as faults:
        epsilon_lower_bound(score, member, -weight, cluster - 1, delta=1.0, level=1.0)
    assert len(faults.value.faults) == 4
    with pytest.raises(DataError, match="got none"):
        epsilon_lower_bound(score[:0], member[:0], weight[:0], cluster[:0])
