import numpy as np
import pytest

from engine.attacks.bootstrap import (
    Binned,
    binned,
    draw_clusters,
    edges,
    interval,
    jackknife,
    resampled,
    resampled_examples,
    resolution,
)
from engine.metrics import roc as roc_module
from engine.metrics.roc import area, roc, tpr_at_fpr, weight_below


def sample(seed: int = 0, n: int = 4000, clusters: int = 20) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    member, cluster = rng.random(n) < 0.4, rng.integers(0, clusters, n)
    score = rng.normal(size=n) + member
    score[:50] = 0.0
    return score, member, rng.random(n) + 0.5, cluster


def table_of(score: np.ndarray, member: np.ndarray, weight: np.ndarray, cluster: np.ndarray, cut: np.ndarray) -> Binned:
    return binned(cut, weight_below(score, member, weight, cluster, int(cluster.max()) + 1, cut))


def test_weight_below_is_counted_by_hand(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(roc_module, "_BLOCK", 300)  # less than there are
    score, member, weight, cluster = sample(n=1000, clusters=5)
    cut = np.array([-1.0, 0.0, np.nextafter(0.0, 1.0), 0.7, np.inf])
    score[:3] = -np.inf, np.inf, 0.7
    found = weight_below(score, member, weight, cluster, 7, cut)
    assert found.shape == (2, 7, 6) and not found[:, 5:].any()  # two clusters have nothing
    for side, mine in enumerate((member, ~member)):
        for s in range(5):
            of = mine & (cluster == s)
            assert found[side, s] == pytest.approx([*(weight[of & (score < t)].sum() for t in cut), weight[of].sum()], abs=1e-12)
    order = np.argsort(score)[::-1]
    assert weight_below(score[order], member[order], weight[order], cluster[order], 7, cut) == pytest.approx(found, abs=1e-12)
    table = table_of(score, member, weight, cluster, cut[1:3])
    assert table.member.sum(1) == pytest.approx(found[0, :5, -1]) and table.tie == 1
    called = (score > 0) + (score == 0) / 2
    rates = [np.average(called[side], weights=weight[side]) for side in (member, ~member)]
    assert table.balanced_accuracy == pytest.approx((rates[0] + 1 - rates[1]) / 2, abs=1e-12)


@pytest.mark.parametrize("block", [1 << 18, 300, 256])
def test_runs_are_merged_from_the_highest_down_with_what_belongs_to_them(monkeypatch: pytest.MonkeyPatch, block: int):
    monkeypatch.setattr(roc_module, "_BLOCK", block)
    rng = np.random.default_rng(0)
    score, ends = np.round(rng.normal(size=1000), 1), np.array([400, 400, 990, 1000])  # many ties, an empty run
    for run in np.split(np.arange(1000), ends[:-1]):
        score[run] = np.sort(score[run])
    name = rng.permutation(1000)
    merged, names = roc_module.merged(ends, score, name)
    assert (np.diff(merged) <= 0).all() and sorted(names) == list(range(1000))
    assert (score[np.argsort(name)][names] == merged).all()
    assert [of.shape for of in roc_module.merged(np.array([1]), score[:1], name[:1])] == [(1,), (1,)]


def test_a_jackknife_of_means_is_the_textbooks_interval():
    value = np.random.default_rng(0).normal(size=9)
    without = (value.sum() - value) / 8
    found = jackknife(float(value.mean()), without)
    reach = 2.3060 * value.std(ddof=1) / 3
    assert (found.value, found.lo, found.hi) == pytest.approx((value.mean(), value.mean() - reach, value.mean() + reach), abs=1e-4)
    wide = jackknife(float(value.mean()), without, 2.0)
    assert wide.hi - wide.value == pytest.approx(2 * (found.hi - found.value))


def test_a_draw_of_bins_is_the_exact_curve_of_the_drawn_clusters():
    score, member, weight, cluster = sample()
    table = table_of(score, member, weight, cluster, edges(roc(score, member, weight), 0.001))
    times = draw_clusters(20, seed=1, draws=5)
    drawn = resampled(table, times, [0.1, 0.01])
    for d in range(5):
        w = weight * times[d, cluster]
        exact = roc(score, member, w)
        called = (score > 0) + (score == 0) / 2
        right = (np.average(called[member], weights=w[member]) + 1 - np.average(called[~member], weights=w[~member])) / 2
        assert drawn.balanced_accuracy[d] == pytest.approx(right, abs=1e-12)
        assert drawn.auc[d] == pytest.approx(area(exact), abs=1e-4)
        assert drawn.tpr_at_fpr[0.1][d] == pytest.approx(tpr_at_fpr(exact, 0.1), abs=5e-3)
        assert drawn.tpr_at_fpr[0.01][d] == pytest.approx(tpr_at_fpr(exact, 0.01), abs=5e-3)


def test_every_draw_has_as_many_clusters_and_the_seed_decides():
    times = draw_clusters(7, seed=3, draws=100)
    assert (times.sum(1) == 7).all() and (times == draw_clusters(7, seed=3, draws=100)).all()
    assert (times != draw_clusters(7, seed=4, draws=100)).any()


def test_drawing_examples_gives_the_textbook_spread():
    score, member, _, _ = sample(n=2000)
    table = table_of(score, member, np.ones(2000), np.zeros(2000, dtype=np.int64), edges(roc(score, member), 0.01))
    drawn = resampled_examples(table, seed=0, fprs=[0.1], draws=2000)
    rates = [np.mean((score[side] > 0) + (score[side] == 0) / 2) for side in (member, ~member)]
    se = np.sqrt(sum(p * (1 - p) / side.sum() for p, side in zip(rates, (member, ~member), strict=True))) / 2
    assert drawn.balanced_accuracy.std() == pytest.approx(se, rel=0.1)
    assert drawn.balanced_accuracy.mean() == pytest.approx((rates[0] + 1 - rates[1]) / 2, abs=0.002)


@pytest.mark.parametrize("clusters", [6, 10, 40])
def test_intervals_of_a_mean_hold_as_often_as_they_say(clusters: int):
    rng = np.random.default_rng(clusters)
    held = 0
    for trial in range(400):
        value = rng.normal(size=clusters)
        lo, hi = interval(draw_clusters(clusters, trial, 400) @ value / clusters, clusters)
        held += lo <= 0 <= hi
    assert 0.91 < held / 400 < 0.99


def test_draws_without_a_value_are_left_out():
    assert interval(np.array([0.4, np.nan, 0.4]), 5) == (0.4, 0.4)
    assert np.isnan(interval(np.array([np.nan, np.nan]), 5)).all()


def test_a_draw_without_members_has_no_value():
    table = table_of(np.array([1.0, 0.5, 0.2]), np.array([True, False, False]), np.ones(3), np.array([0, 1, 2]),
                     np.array([0.0, 5e-324, 0.3, 0.8]))
    drawn = resampled(table, np.array([[0, 2, 1], [1, 1, 1]]), [0.1])
    assert np.isnan(drawn.auc[0]) and drawn.auc[1] == 1
    wide = drawn.widened(2.0)
    assert np.isnan(wide.auc[0]) and wide.auc[1] == 1


def test_values_that_move_together_resolve_less():
    rng = np.random.default_rng(0)
    cluster = np.repeat(np.arange(20), 500)
    member = np.tile(np.arange(500) < 100, 20)
    found = []
    for mood in (0.0, 1.0):
        score = rng.normal(size=10_000) + mood * rng.normal(size=20)[cluster]
        table = table_of(score, member, np.ones(10_000), cluster, edges(roc(score, member), 0.001))
        found.append(resolution(table, 8000.0))
    assert found[0] == pytest.approx(10 / 8000) and found[1] > 2 * found[0]
