import math
from collections.abc import Callable
from dataclasses import asdict

import numpy as np
import pytest
from jaxtyping import TypeCheckError
from scipy.stats import norm

from engine.attacks.exposure import LEVELS, MOST_CLASSES, Exposure, exposure, fit_halves
from engine.errors import DataError

Arrays = tuple[np.ndarray, np.ndarray, np.ndarray]
Worlds = Callable[..., Arrays]


def one_model_a_split(splits: int, shift: np.ndarray, spread: float = 1.0, seed: int = 0) -> Arrays:
    """Every example forgotten in half of the splits and never seen in the rest; forgotten ones moved by their `shift`, in deviations."""
    rng = np.random.default_rng(seed)
    world = (rng.permuted(np.tile(np.arange(splits)[:, None], len(shift)), axis=0) < splits // 2).astype(np.int8)
    noise = rng.normal(size=world.shape) * np.where(world == 1, spread, 1)
    return np.arange(len(shift)) + np.exp(rng.normal(size=len(shift))) * (noise + shift * world), world, np.arange(splits)


def of(arrays: Arrays, labels: np.ndarray | None = None, seed: int = 0, draws: int = 200) -> Exposure:
    return exposure(fit_halves(*arrays), labels=labels, seed=seed, draws=draws).unlearned


def points(found: Exposure) -> list[float]:
    worst = [v for w in found.worst.values() for v in (w.reported.value, w.same_data, w.overlap, w.n_examples)]
    return [*worst, *found.quantile, *found.most_exposed.separation[:, :5].ravel(), *found.most_exposed.reported[:, :5].ravel()]


def test_noise_looks_exposed_on_the_same_data_and_is_chance_on_the_other_half(worlds: Worlds):
    found = [of(worlds(splits=16, forgets=8, n=250, seed=seed), draws=100) for seed in range(40)]
    worst = [f.worst[0.1] for f in found]
    assert np.mean([w.reported.value for w in worst]) == pytest.approx(0.5, abs=0.012)
    assert np.mean([w.same_data for w in worst]) > 0.7 and np.mean([w.overlap for w in worst]) == pytest.approx(0.1, abs=0.04)
    assert np.mean([w.reported.lo <= 0.5 <= w.reported.hi for w in worst]) >= 0.9
    for level in (1, 4, 7):  # 5 %, the median and 95 %: as far from 1/2 as noise alone
        assert np.mean([f.quantile[level] - f.noise[level] for f in found]) == pytest.approx(0, abs=0.012)
    assert np.mean([f.quantile[7] for f in found]) > 0.65


def test_the_exposed_are_found_and_reported_at_what_they_are_worth():
    """A tenth is told by two deviations: balanced accuracy Phi(1), less a little for centres estimated from 50 values."""
    shift = np.where(np.arange(200) < 20, 2.0, 0.0)
    found = of(one_model_a_split(200, shift), labels=np.arange(200) // 20)
    assert found.worst[0.1].reported.value == pytest.approx(norm.cdf(1), abs=0.012) and found.worst[0.1].overlap == 1
    assert set(found.worst) == {0.05, 0.1} and found.worst[0.05].n_examples == 10  # 1 % of 200 is too few to report
    assert set(found.most_exposed.example[0, :20]) == set(found.most_exposed.example[1, :20]) == set(range(20))
    assert found.most_exposed.chosen[:, :20].mean() == pytest.approx(norm.cdf(1), abs=0.02)
    assert found.classes is not None and found.classes.label.tolist() == list(range(10)) and set(found.classes.n_examples) == {20}
    first, *rest = found.classes.balanced_accuracy
    assert first.lo < norm.cdf(1) < first.hi and first.value == pytest.approx(norm.cdf(1), abs=0.012)
    assert np.mean([c.value for c in rest]) == pytest.approx(0.5, abs=0.01) and sum(c.lo <= 0.5 <= c.hi for c in rest) >= 8
    assert found.quantile[LEVELS.index(0.95)] > 0.8 > found.noise[LEVELS.index(0.99)]


@pytest.mark.parametrize(("shift", "spread"), [(-2.0, 1.0), (0.0, 4.0)])
def test_over_forgetting_and_another_spread_are_exposure_as_well(shift: float, spread: float):
    phi, world, split = one_model_a_split(80, np.where(np.arange(200) < 20, shift, 0.0))
    wide = one_model_a_split(80, np.zeros(200), spread)[0]
    found = of((np.where(np.arange(200) < 20, wide if spread > 1 else phi, phi), world, split))
    assert found.worst[0.1].reported.lo > 0.65 and found.worst[0.1].overlap > 0.8


def test_retrained_models_stand_beside():
    shift = np.where(np.arange(300) < 30, 1.5, 0.0)
    leaky, clean = (fit_halves(*one_model_a_split(60, s, seed=4)) for s in (shift, 0 * shift))
    found = exposure(leaky, clean, draws=200)
    assert found.retrained is not None and found.unlearned.worst[0.1].reported.lo > 0.6
    beside = found.retrained.worst[0.1].reported
    assert beside.lo < 0.5 < beside.hi
    rows = {row["name"]: row for row in found.metrics()}
    assert rows["worst_0.1"]["value"] == found.unlearned.worst[0.1].reported.value and rows["worst_0.1"]["lo"] is not None
    assert rows["retrained_worst_0.1"]["value"] == beside.value and rows["retrained_worst_0.1_same_data"]["value"] > 0.6
    assert rows["n_splits"]["value"] == 60 and rows["retrained_n_examples"]["value"] == 300 and rows["example_quantile_0.5"]["lo"] is None
    assert "worst_0.01" not in rows and len(rows) == len(found.metrics()) == 2 * len(exposure(leaky).metrics())


def test_classes_are_rows_of_their_own_and_no_more_than_can_be_read():
    halves = fit_halves(*one_model_a_split(40, np.where(np.arange(300) < 30, 2.0, 0.0), seed=3))
    labels = np.where(np.arange(300) < 30, -1, np.arange(300) % 3)
    found = exposure(halves, halves, labels=labels, draws=100)
    rows = {row["name"]: row for row in found.metrics()}
    assert [name for name in rows if name.startswith("class")] == [f"class_{c}{part}" for c in (-1, 0, 1, 2) for part in ("", "_n_examples")]
    classes = found.unlearned.classes
    assert classes is not None and rows["class_-1"]["value"] > 0.7 and rows["class_-1"]["lo"] == classes.balanced_accuracy[0].lo
    assert rows["class_-1_n_examples"]["value"] == 30 and rows["retrained_class_1"] == {**rows["class_1"], "name": "retrained_class_1"}
    assert classes.balanced_accuracy[0].lo > 0.6 and all(of.lo < 0.5 < of.hi for of in classes.balanced_accuracy[1:])
    mean = sum(rows[f"class_{c}"]["value"] * rows[f"class_{c}_n_examples"]["value"] for c in (-1, 0, 1, 2)) / 300
    whole = exposure(halves, labels=np.zeros(300, dtype=int), draws=20).unlearned.classes
    assert whole is not None and mean == pytest.approx(whole.balanced_accuracy[0].value, abs=1e-12)
    most, more = (exposure(halves, labels=np.arange(300) % n, draws=20).unlearned.classes for n in (MOST_CLASSES, MOST_CLASSES + 1))
    assert most is not None and len(most.label) == MOST_CLASSES and more is None


def plain(phi: np.ndarray, world: np.ndarray) -> tuple[list[list[float]], list[float]]:
    """Separation by half and example, and balanced accuracy of each example over both halves: one value a split, 16 or more a world."""
    separation: list[list[float]] = [[], []]
    accuracy = []
    for i in range(phi.shape[1]):
        right: dict[int, list[float]] = {0: [], 1: []}
        for h in (0, 1):
            v = {w: [float(phi[s, i]) for s in range(len(phi)) if s % 2 == h and world[s, i] == w] for w in (0, 1)}
            mu = {w: sum(v[w]) / len(v[w]) for w in v}
            sigma = {w: math.sqrt(sum((x - mu[w]) ** 2 for x in v[w]) / (len(v[w]) - 1)) for w in v}
            wide = {w: sigma[w] * math.sqrt(1 + 1 / len(v[w])) for w in v}
            a, b = wide[0] ** 2, wide[1] ** 2
            separation[h].append((mu[0] - mu[1]) ** 2 / 4 / (a + b) + math.log((a + b) / 2 / math.sqrt(a * b)) / 2)
            for s in range(1 - h, len(phi), 2):
                z = {w: (phi[s, i] - mu[w]) / wide[w] for w in v}
                ratio = (z[0] ** 2 - z[1] ** 2) / 2 + math.log(sigma[0] / sigma[1])
                right[int(world[s, i])].append(float((ratio > 0) == (world[s, i] == 1)))
        accuracy.append((np.mean(right[0]) + np.mean(right[1])) / 2)
    return separation, accuracy


def test_agrees_with_a_plain_loop():
    phi, world, split = one_model_a_split(100, np.linspace(0, 2, 12), seed=1)
    found = of((phi, world, split))
    separation, accuracy = plain(phi, world)
    assert found.balanced_accuracy == pytest.approx(accuracy, abs=1e-12) and found.worst == {}
    for h in (0, 1):
        order = sorted(range(12), key=lambda i: -separation[h][i])
        assert found.most_exposed.example[h].tolist() == order
        assert found.most_exposed.separation[h] == pytest.approx([separation[h][i] for i in order], abs=1e-9)
    assert found.quantile == pytest.approx(np.quantile(accuracy, LEVELS))


def test_the_reported_is_the_mean_of_what_the_list_reports():
    found = of(one_model_a_split(40, np.linspace(0, 1, 150), seed=2))
    assert found.worst[0.1].n_examples == 15
    assert found.worst[0.1].reported.value == pytest.approx(found.most_exposed.reported[:, :15].mean(), abs=1e-12)
    assert found.worst[0.1].same_data == pytest.approx(np.sort(found.balanced_accuracy)[-15:].mean())


def test_groups_count_once_however_many_values_they_have(worlds: Worlds):
    phi, world, split = worlds(splits=20, forgets=3, n=200, shift=0.7, seed=3)
    rows = np.repeat(np.arange(len(split)), 4)
    assert points(of((phi[rows], world[rows], split[rows]))) == pytest.approx(points(of((phi, world, split))), abs=1e-9)


def test_order_of_models_units_and_offsets_do_not_matter(worlds: Worlds):
    phi, world, split = worlds(splits=20, forgets=4, n=200, shift=0.5)
    rng = np.random.default_rng(0)
    models, examples = rng.permutation(len(split)), rng.permutation(200)
    base = of((phi, world, split))
    assert points(of((phi[models], world[models], split[models]))) == pytest.approx(points(base), abs=1e-9)
    assert points(of((4 * phi + np.arange(200), world, split))) == pytest.approx(points(base), abs=1e-9)
    moved = of((phi[:, examples], world[:, examples], split))
    assert moved.balanced_accuracy == pytest.approx(base.balanced_accuracy[examples], abs=1e-9, nan_ok=True)
    assert examples[moved.most_exposed.example[:, :20]].tolist() == base.most_exposed.example[:, :20].tolist()


def test_seed_moves_intervals_and_noise_alone_and_nothing_is_changed(worlds: Worlds):
    arrays = worlds(splits=20, n=200)
    before = [a.copy() for a in arrays]
    one, again, other = (of(arrays, seed=seed) for seed in (0, 0, 1))
    for now, then in zip(arrays, before, strict=True):
        np.testing.assert_array_equal(now, then)
    assert str(asdict(one)) == str(asdict(again)) and points(one) == points(other)
    assert one.worst[0.1].reported.lo != other.worst[0.1].reported.lo and (one.noise != other.noise).any()


def test_examples_that_lack_a_world_in_a_half_are_not_scored():
    phi, world, split = one_model_a_split(40, np.zeros(200))
    world[:, 0] = np.where(world[:, 0] == 1, -1, world[:, 0])  # never forgotten
    world[:, 1] = np.where((world[:, 1] == 1) & (split % 2 == 0), -1, world[:, 1])  # forgotten in the other half alone
    world[:, 2] = -1
    found = of((np.where(world == -1, np.nan, phi).astype(np.float32), world, split.astype(np.int32)), labels=np.minimum(np.arange(200), 3))
    assert np.isnan(found.balanced_accuracy[:3]).all() and found.n_examples == np.isfinite(found.balanced_accuracy).sum() == 197
    assert not np.isin(found.most_exposed.example, (0, 1, 2)).any() and np.isfinite(points(found)).all()
    assert found.classes is not None and found.classes.label.tolist() == [3] and found.classes.n_examples.tolist() == [197]


@pytest.mark.parametrize(("gap", "expected"), [(0.0, 0.5), (1.0, 1.0)])
def test_zero_variance(worlds: Worlds, gap: float, expected: float):
    _, world, split = worlds(splits=20, forgets=8, n=200)
    found = of((np.where(world == 1, gap, 0.0), world, split))
    assert found.worst[0.1].reported.value == found.worst[0.1].same_data == expected and (found.quantile == expected).all()
    assert (found.worst[0.1].reported.lo, found.worst[0.1].reported.hi) == pytest.approx((expected, expected))


def test_what_cannot_be_judged_is_refused(worlds: Worlds):
    phi, world, split = worlds(splits=20, n=40)
    with pytest.raises(DataError, match="needs 4 or more splits, got 3"):
        fit_halves(phi, world, split % 3)
    with pytest.raises(DataError, match="3 or more splits, got 1"):
        fit_halves(phi, world, 0 * split)
    with pytest.raises(DataError, match="no example is in both worlds in both halves"):
        fit_halves(phi, np.where((world == 1) & (split % 2 == 0)[:, None], -1, world), split)
    with pytest.raises(DataError, match="values of phi are NaN"):
        fit_halves(np.where(world == 1, np.nan, phi), world, split)
    with pytest.raises((DataError, TypeCheckError)):
        exposure(fit_halves(phi, world, split), labels=np.zeros((40, 2), dtype=int))
    with pytest.raises(DataError, match="one entry an example, got \\(39,\\) for 40"):
        exposure(fit_halves(phi, world, split), labels=np.zeros(39, dtype=int))
