import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import entropy

from engine.attacks.klom import INFO, Klom, Side, bin_counts, kl_of_bins, klom
from engine.errors import DataError, Diverged
from tests.attacks.simulated import pairs


@pytest.mark.parametrize(("shift", "scale", "divergence"), [
    (0.0, 1.0, 0.0), (1.0, 1.0, 0.5), (0.0, 0.5, math.log(2) + 1 / 8 - 1 / 2), (-1.0, 2.0, -math.log(2) + 5 / 2 - 1 / 2),
])
def test_gaussians_of_known_divergence(shift: float, scale: float, divergence: float):
    found = klom(*pairs(600, 40, shift=shift, scale=scale))
    assert found.gaussian.full.median.value == pytest.approx(divergence, abs=0.05 + 0.02 * divergence)
    assert found.histogram.full.median.value == pytest.approx(divergence, abs=0.06 + 0.25 * divergence)  # q's empty bins count as 1e-5


def test_bins_of_known_divergence():
    p, q = np.array([[2, 2], [4, 0], [4, 0], [1, 3]]), np.array([[1, 3], [4, 0], [0, 8], [2, 6]])
    expected = [0.5 * math.log(2) + 0.5 * math.log(2 / 3), 0, math.log((1 + 1e-5) / 1e-5), 0]
    assert kl_of_bins(p, q) == pytest.approx(expected)


def plain(p: np.ndarray, q: np.ndarray) -> float:
    """One example, with numpy's histogram and scipy's entropy."""
    p, q = np.clip(p, -100, 100), np.clip(q, -100, 100)
    ends = min(p.min(), q.min()), max(p.max(), q.max())
    p, q = (np.histogram(side, 20, ends)[0] / len(side) for side in (p, q))
    return float(entropy(p, np.where(p > 0, np.maximum(q, 1e-5), q)))


def test_agrees_with_a_plain_loop():
    unlearned, retrained, used, split = pairs(24, 12, shift=1.0, scale=2.0, share=0.8, seed=1)
    unlearned[3, 4] = 250.0
    split = split // 2 + 7
    found = klom(unlearned, retrained, used, split, seed=5)
    first = (np.random.default_rng(5).permutation(12) < 6)[split - 7]
    full, halved, floor, gaussian = [], [], [], []
    for i in range(12):
        u, r = (np.clip(phi[used[:, i], i], -100, 100) for phi in (unlearned, retrained))
        full.append(plain(u, r))
        gaussian.append(math.log(r.std(ddof=1) / u.std(ddof=1)) + (u.var(ddof=1) + (u.mean() - r.mean()) ** 2) / (2 * r.var(ddof=1)) - 0.5)
        here = first[used[:, i]]
        halved.append((plain(u[here], r[~here]) + plain(u[~here], r[here])) / 2)
        floor.append((plain(r[here], r[~here]) + plain(r[~here], r[here])) / 2)
    assert found.histogram.examples == pytest.approx(full) and found.gaussian.examples == pytest.approx(gaussian)
    for summary, values in ((found.histogram.full, full), (found.histogram.halved, halved), (found.histogram.floor, floor)):
        assert [summary.median.value, summary.mean.value] == pytest.approx([np.median(values), np.mean(values)])
        assert [summary.p95.value, summary.p99.value] == pytest.approx(np.percentile(values, [95, 99]).tolist())


def test_interval_is_that_of_the_jackknife():
    unlearned, retrained, used, split = pairs(9, 6, shift=1.0, share=0.9)
    split = np.minimum(split, 7)
    found = klom(unlearned, retrained, used, split).gaussian.full.mean
    used_by = np.array([klom(*(a[split != s] for a in (unlearned, retrained, used, split))).gaussian.full.mean.value for s in range(8)])
    error = np.sqrt(7 / 8 * ((used_by - used_by.mean()) ** 2).sum())
    assert found.hi - found.value == pytest.approx(2.3646 * error, rel=1e-4) and found.value - found.lo == pytest.approx(2.3646 * error, rel=1e-4)


def test_few_models_look_different_without_a_difference_and_the_floor_says_so():
    found = klom(*pairs(32, 300))
    assert found.histogram.full.mean.value > 1.4 and found.histogram.halved.mean.value > 3.5
    assert found.histogram.halved.mean.value == pytest.approx(found.histogram.floor.mean.value, rel=0.05)
    assert found.gaussian.full.mean.value < 0.1 and found.gaussian.halved.mean.value == pytest.approx(found.gaussian.floor.mean.value, abs=0.03)
    other = klom(*pairs(32, 300, shift=1.5))
    assert other.histogram.halved.mean.value > other.histogram.floor.mean.value + 1


@pytest.mark.parametrize("shape", [{"mood": 0.7}, {"shift": 1.0, "mood": 0.5}])
def test_intervals_hold(shape: dict[str, float]):
    """Nominally 95 % of the time; 96 to 100 % here."""
    found = [klom(*pairs(16, 20, **shape, seed=seed), seed=seed) for seed in range(25)]
    for summaries in ([f.histogram.full for f in found], [f.gaussian.full for f in found]):
        middle = np.mean([s.mean.value for s in summaries])
        assert np.mean([s.mean.lo <= middle <= s.mean.hi for s in summaries]) > 0.88


def test_perfect_separation_ends_at_the_least_share():
    _, retrained, used, split = pairs(20, 5)
    found = klom(np.full_like(retrained, 50), retrained, used, split)
    assert found.histogram.examples == pytest.approx(np.full(5, math.log(1e5)), abs=1e-4)
    assert np.isfinite(found.gaussian.examples).all() and (found.gaussian.examples > 100).all()


def test_identical_models_and_values_that_do_not_vary():
    phi, _, used, split = pairs(20, 5)
    for both in (phi, np.zeros_like(phi), np.round(phi)):
        found = klom(both, both, used, split)
        assert np.abs(found.histogram.examples).max() < 1e-12 and np.abs(found.gaussian.examples).max() < 1e-9
    assert klom(np.zeros_like(phi), np.zeros_like(phi), used, split).histogram.floor.mean.value == 0


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 10_000))
def test_order_does_not_matter(seed: int):
    unlearned, retrained, used, split = pairs(16, 20, shift=1.0, share=0.8)
    rng = np.random.default_rng(seed)
    rows, columns = rng.permutation(16), rng.permutation(20)
    one = klom(unlearned, retrained, used, split)
    other = klom(unlearned[rows][:, columns], retrained[rows][:, columns], used[rows][:, columns], split[rows])
    assert other.histogram.examples == pytest.approx(one.histogram.examples[columns])
    assert [row["value"] for row in other.metrics()] == pytest.approx([row["value"] for row in one.metrics()])


def test_blocks_of_examples_do_not_matter(monkeypatch: pytest.MonkeyPatch):
    whole = klom(*pairs(16, 50, share=0.8))
    monkeypatch.setattr("engine.attacks.klom._BLOCK", 7)
    assert klom(*pairs(16, 50, share=0.8)).metrics() == whole.metrics()


def test_counts_of_each_split():
    rng = np.random.default_rng(0)
    place = np.array([0, 0, 1, 2, 2, 2])
    p, q = (Side(rng.normal(size=(6, 4)), rng.random((6, 4)) < 0.7, place) for _ in range(2))
    counts = bin_counts(p, q)
    for side, found in zip((p, q), counts, strict=True):
        assert (found.sum(2) == np.stack([side.there[place == s].sum(0) for s in range(3)])).all()


def test_what_is_not_used_does_not_count_and_too_few_models_have_no_value():
    unlearned, retrained, used, split = pairs(20, 10, share=0.7)
    used[:, 0], used[5] = False, False
    used[3, 0] = True
    found = klom(unlearned, retrained, used, split)
    again = klom(*(np.where(used, phi, np.nan) for phi in (unlearned, retrained)), used, split)
    assert found.metrics() == again.metrics() and (found.n_models, found.n_splits, found.n_examples) == (38, 19, 9)
    assert np.isnan(found.histogram.examples).tolist() == [True] + [False] * 9


def test_what_the_store_gets():
    found = klom(*pairs(), of="retain")
    assert INFO.name == "klom" and isinstance(found, Klom)
    rows = {row["name"]: row for row in found.metrics()}
    assert {f"klom_{how}retain{part}_{what}" for how in ("", "gaussian_") for part in ("", "_halved", "_floor")
            for what in ("median", "mean", "p95", "p99")} < rows.keys()
    p95 = found.histogram.full.p95
    assert rows["klom_retain_p95"]["lo"] == p95.lo < p95.value < p95.hi == rows["klom_retain_p95"]["hi"]
    assert rows["klom_retain_floor_p95"]["lo"] is None and rows["klom_retain_n_models"]["value"] == 64


def test_arrays_that_cannot_be_used():
    unlearned, retrained, used, split = pairs(12, 10)
    bad = retrained.copy()
    bad[3, 2] = np.inf
    with pytest.raises(Diverged, match="1 of 240 values"):
        klom(unlearned, bad, used, split)
    with pytest.raises(DataError, match="2 or more models a side in each half"):
        klom(unlearned, retrained, used & (np.arange(12) < 3)[:, None], split)
    with pytest.raises(DataError, match="no example is used"):
        klom(unlearned, retrained, np.zeros_like(used), split)
