from collections.abc import Callable
from dataclasses import asdict, replace

import numpy as np
import pytest
from jaxtyping import TypeCheckError
from scipy.stats import gaussian_kde, norm

from engine.attacks.ruli import KEPT, Models, RuliResult, kernel_fit, ruli
from engine.attacks.u_lira import measure, u_lira
from engine.errors import DataError
from engine.metrics.epsilon import most_of

Arrays = tuple[np.ndarray, np.ndarray, np.ndarray]
Worlds = Callable[..., Arrays]
CHOSEN = ["random", "vulnerable", "protected", "mixed"]


def make_study(splits: int = 32, forgets: int = 4, n: int = 200, memorised: float | np.ndarray = 0.0, left: float = 0.0,
               seed: int = 0) -> tuple[Models, Models, Models]:
    """(unlearned, original, retrained): training on an example moves phi by `memorised`, unlearning leaves `left` of that."""
    rng = np.random.default_rng(seed)
    original, world = np.zeros((splits, n), dtype=np.int8), np.zeros((splits * forgets, n), dtype=np.int8)
    for s in range(splits):
        trained = rng.permutation(n)[:n // 2]
        original[s, trained] = KEPT
        world[s * forgets:(s + 1) * forgets, trained] = KEPT
        for j, part in enumerate(np.array_split(trained, forgets)):
            world[s * forgets + j, part] = 1
    split = np.repeat(np.arange(splits), forgets)
    data = rng.normal(size=(splits, n))  # what the models of a split have in common
    phi = [np.sqrt(0.5) * data[of] + np.sqrt(0.5) * rng.normal(size=(len(of), n)) for of in (split, np.arange(splits), split)]
    return (Models(phi[0] + memorised * ((world == KEPT) + left * (world == 1)), world, split),
            Models(phi[1] + memorised * (original == KEPT), original, np.arange(splits)),
            Models(phi[2] + memorised * (world == KEPT), world, split))


def two_worlds(splits: int, n: int, shift: float = 0.0, seed: int = 0) -> Arrays:
    """One model a split, every example in world 1 in half of them, `shift` higher."""
    rng = np.random.default_rng(seed)
    world = (rng.permuted(np.tile(np.arange(splits)[:, None], n), axis=0) < splits // 2).astype(np.int8)
    return rng.normal(size=world.shape) + shift * world, world, np.arange(splits)


def ruli_of(reference: str = "original", **study: object) -> RuliResult:
    unlearned, original, retrained = make_study(**study)
    return ruli(unlearned, original=original, retrained=retrained if reference == "retrained" else None, draws=60)


def balanced(phi: np.ndarray, world: np.ndarray, split: np.ndarray) -> float:
    return measure(kernel_fit(phi, world, split), draws=20).balanced_accuracy.value


def test_densities_are_scipys_without_the_left_out_splits():
    phi, world, split = two_worlds(splits=45, n=5, shift=1.0)
    phi[0, 0] = 40.0  # far from all others: both densities are 0 there, their logarithms are not
    fit = kernel_fit(phi, world, split)
    for i in range(5):
        splits = {w: np.flatnonzero(world[:, i] == w) for w in (0, 1)}
        for s in range(45):
            own = int(world[s, i])
            rank = splits[own].tolist().index(s)
            out = {own: s, 1 - own: splits[1 - own][rank % len(splits[1 - own])]}
            density = {w: gaussian_kde(phi[[t for t in splits[w] if t != out[w]], i]) for w in (0, 1)}
            assert fit.score[s, i] == pytest.approx((density[1].logpdf(phi[s, i]) - density[0].logpdf(phi[s, i]))[0], rel=1e-10, abs=1e-10)


def test_a_split_counts_once_in_a_density_and_is_left_out_whole():
    """Three values a split in each world: scipy with weights, and the bandwidth of as many values as there are splits."""
    rng = np.random.default_rng(1)
    split = np.repeat(np.arange(20), 6)
    world = np.tile(np.array([0, 0, 0, 1, 1, 1]), 20)[:, None]
    world = np.where(rng.random(world.shape) < 0.2, -1, world).astype(np.int8)
    phi = rng.normal(size=(20, 1))[split] + rng.normal(size=world.shape) + world
    fit, rows = kernel_fit(phi, world, split), np.flatnonzero(world[:, 0] >= 0)
    for at, row in enumerate(rows[:30]):
        density = []
        for w in (0, 1):
            mine = [m for m in rows if world[m, 0] == w and split[m] != split[row]]
            groups = [np.array([phi[m, 0] for m in mine if split[m] == t]) for t in sorted({split[m] for m in mine})]
            spread = np.sqrt(np.mean([g.var() for g in groups]) + np.var([g.mean() for g in groups], ddof=1))
            values, weights = np.concatenate(groups), np.concatenate([np.full(len(g), 1 / len(g)) for g in groups])
            kernels = norm.pdf(phi[row, 0], values, spread * len(groups) ** -0.2)
            density.append(np.log((weights * kernels).sum() / len(groups)))
        assert fit.score[at, 0] == pytest.approx(density[1] - density[0], abs=1e-10)


def test_two_normals_a_standard_deviation_apart():
    """What u_lira is built for; kernels lose a little, as they widen what they do not know to be normal."""
    found = measure(kernel_fit(*two_worlds(splits=240, n=80, shift=1.0)), draws=50)
    assert found.balanced_accuracy.value == pytest.approx(norm.cdf(0.5), abs=0.012) and found.auc.value == pytest.approx(0.7602, abs=0.015)
    assert found.tpr_at_fpr[0.1].value == pytest.approx(0.3891, abs=0.03)


def test_two_humps_that_gaussians_cannot_tell_are_told():
    """Never seen: two humps at -2 and 2. Forgotten: one as wide at 0."""
    rng = np.random.default_rng(0)
    _, world, split = two_worlds(splits=120, n=60)
    humps = rng.choice([-2.0, 2.0], size=world.shape) + 0.5 * rng.normal(size=world.shape)
    phi = np.where(world == 1, np.sqrt(4.25) * rng.normal(size=world.shape), humps)
    assert u_lira(phi, world, split, draws=20).balanced_accuracy.value < 0.55
    assert balanced(phi, world, split) > 0.64


@pytest.mark.parametrize("shape", [{"splits": 6, "forgets": 4}, {"splits": 16, "forgets": 8}])
def test_nothing_to_tell_is_chance_however_few_the_splits(worlds: Worlds, shape: dict[str, int]):
    found = [measure(kernel_fit(*worlds(**shape, n=150, seed=seed)), draws=60) for seed in range(16)]
    assert np.mean([r.balanced_accuracy.value for r in found]) == pytest.approx(0.5, abs=0.02)
    assert np.mean([r.auc.value for r in found]) == pytest.approx(0.5, abs=0.02)
    assert np.mean([r.balanced_accuracy.lo <= 0.5 <= r.balanced_accuracy.hi for r in found]) > 0.8


def test_memorised_examples_are_found_and_leak_more():
    memorised = np.where(np.arange(300) < 30, 3.0, 0.0)
    found = ruli_of(n=300, memorised=memorised, left=0.5)
    assert list(found.privacy) == list(found.efficacy) == CHOSEN and found.n_vulnerable == 30
    for test in (found.privacy, found.efficacy):
        # moved by 1.5 deviations: Phi(0.75) = 0.77, less a little for densities of 15 splits
        assert test["vulnerable"].balanced_accuracy.lo > 0.65 and test["vulnerable"].balanced_accuracy.value == pytest.approx(0.75, abs=0.04)
        assert test["protected"].balanced_accuracy.lo < 0.5 < test["protected"].balanced_accuracy.hi
        assert test["random"].balanced_accuracy.value == pytest.approx(0.525, abs=0.02)
        assert test["mixed"].balanced_accuracy.value == pytest.approx(
            (test["vulnerable"].balanced_accuracy.value + test["protected"].balanced_accuracy.value) / 2, abs=0.01)
        assert test["vulnerable"].smallest_fpr > test["mixed"].smallest_fpr > test["random"].smallest_fpr


@pytest.mark.parametrize("reference", ["original", "retrained"])
def test_what_is_forgotten_is_chance_for_the_memorised_too(reference: str):
    found = [ruli_of(reference, splits=16, n=150, memorised=np.random.default_rng(0).exponential(size=150), seed=seed) for seed in range(10)]
    for test in ("privacy", "efficacy"):
        for sample in CHOSEN:
            assert np.mean([getattr(f, test)[sample].balanced_accuracy.value for f in found]) == pytest.approx(0.5, abs=0.04), (test, sample)


def test_vulnerable_by_chance_is_not_vulnerable():
    """No example is memorised more than another: the worst of the choosing half are like all others in the other."""
    found = [ruli_of(splits=12, n=150, memorised=0.0, seed=seed) for seed in range(8)]
    assert np.mean([f.privacy["vulnerable"].balanced_accuracy.value for f in found]) == pytest.approx(0.5, abs=0.03)


def test_efficacy_tells_from_retraining_what_privacy_does_not():
    """Unlearning that makes a model less sure of everything: nothing leaks, but no retrained model is like that."""
    unlearned, original, retrained = make_study()
    found = ruli(replace(unlearned, phi=unlearned.phi - 1.5), original=original, retrained=retrained, draws=100)
    assert found.privacy["random"].balanced_accuracy.value == pytest.approx(0.5, abs=0.02)
    assert found.efficacy["random"].balanced_accuracy.lo > 0.65


def test_the_choice_is_by_what_was_kept_where_there_are_no_originals():
    unlearned, _, retrained = make_study(n=300, memorised=np.where(np.arange(300) < 30, 3.0, 0.0), left=0.5)
    found = ruli(unlearned, draws=50)
    assert found.efficacy == {} and found.privacy["vulnerable"].balanced_accuracy.value == pytest.approx(0.75, abs=0.04)
    assert list(ruli(unlearned, retrained=retrained, draws=50).efficacy) == CHOSEN
    forgotten = replace(unlearned, world=np.where(unlearned.world == KEPT, -1, unlearned.world))
    assert list(ruli(forgotten, draws=50).privacy) == ["random"]


def test_too_few_splits_or_examples_choose_nobody():
    for study in ({"splits": 5, "forgets": 2}, {"n": 60}):
        found = ruli_of(**study)
        assert list(found.privacy) == list(found.efficacy) == ["random"] and found.n_vulnerable == 0


def test_rows_for_the_store():
    found = ruli_of()
    rows = {row["name"]: row for row in found.metrics()}
    assert len(rows) == len(found.metrics()) and rows["privacy_vulnerable_auc"]["value"] == found.privacy["vulnerable"].auc.value
    assert rows["efficacy_random_balanced_accuracy"]["lo"] is not None and "privacy_random_shift" not in rows
    assert rows["privacy_mixed_epsilon_lower_bound"]["value"] <= rows["efficacy_random_epsilon_most"]["value"] == most_of(32)
    assert (rows["n_models"]["value"], rows["n_splits"]["value"], rows["n_examples"]["value"], rows["n_vulnerable"]["value"]) == (128, 32, 200, 20)


def test_order_units_and_offsets_do_not_matter_and_the_seed_moves_intervals_alone():
    study = make_study(memorised=1.0, left=0.5)
    before = [a.copy() for m in study for a in (m.phi, m.world, m.split)]
    base = ruli(study[0], original=study[1], draws=50)
    for now, then in zip([a for m in study for a in (m.phi, m.world, m.split)], before, strict=True):
        np.testing.assert_array_equal(now, then)
    assert str(asdict(ruli(study[0], original=study[1], draws=50))) == str(asdict(base))
    order = np.random.default_rng(0).permutation(128)
    shuffled = Models(study[0].phi[order], study[0].world[order], study[0].split[order])
    scaled = [replace(m, phi=4 * m.phi + np.arange(200)) for m in study]
    for other in (ruli(study[0], original=study[1], seed=1, draws=50), ruli(shuffled, original=study[1], draws=50),
                  ruli(scaled[0], original=scaled[1], draws=50)):
        for test in ("privacy", "efficacy"):
            for sample in CHOSEN:
                one, two = getattr(base, test)[sample], getattr(other, test)[sample]
                assert (two.balanced_accuracy.value, two.auc.value) == pytest.approx((one.balanced_accuracy.value, one.auc.value), abs=1e-9)


def test_examples_without_two_splits_a_world_are_not_scored_and_unused_pairs_may_hold_anything(worlds: Worlds):
    phi, world, split = worlds(splits=20, n=60, shift=1.0)
    world[:, 0] = np.minimum(world[:, 0], 0)  # never forgotten
    first = np.flatnonzero(world[:, 1] == 1)[0]
    world[np.arange(len(world)) != first, 1] = np.minimum(world[np.arange(len(world)) != first, 1], 0)  # forgotten once
    fit = kernel_fit(np.where(world == -1, np.nan, phi).astype(np.float32), world, split.astype(np.int32))
    assert not fit.score[:, :2].any() and not fit.weight[:, :2].any() and np.isfinite(fit.score).all()
    assert np.allclose(fit.score, kernel_fit(phi, world, split).score, atol=1e-3)


@pytest.mark.parametrize(("gap", "expected"), [(0.0, 0.5), (1.0, 1.0)])
def test_zero_variance(worlds: Worlds, gap: float, expected: float):
    _, world, split = worlds()
    found = measure(kernel_fit(np.where(world == 1, gap, 0.0) + 0.1, world, split), draws=50)
    assert found.balanced_accuracy.value == pytest.approx(expected) and found.auc.value == pytest.approx(expected)


def test_what_cannot_be_attacked_is_refused():
    unlearned, original, retrained = make_study(splits=8, n=40)
    nan = replace(unlearned, phi=np.where(unlearned.world == 1, np.nan, unlearned.phi))
    with pytest.raises(DataError, match="values of phi are NaN"):
        ruli(nan, original=original)
    with pytest.raises(DataError, match="unlearned: world must be 2 .* got \\[3\\]"):
        ruli(replace(unlearned, world=unlearned.world + (unlearned.world == KEPT)))
    with pytest.raises(DataError, match="no example is 'forgotten'"):
        ruli(replace(unlearned, world=unlearned.world * (unlearned.world != 1)))
    with pytest.raises(DataError, match="3 or more splits, got 2"):
        ruli(replace(unlearned, split=unlearned.split % 2))
    with pytest.raises((DataError, TypeCheckError)):
        ruli(Models(unlearned.phi, unlearned.world[:, 1:], unlearned.split))
    with pytest.raises(DataError, match="same examples") as caught:
        ruli(unlearned, original=Models(original.phi[:, 1:], original.world[:, 1:], original.split),
             retrained=Models(retrained.phi[::-1], retrained.world, retrained.split[::-1]))
    assert len(caught.value.faults) == 2 and "row for row" in str(caught.value)
