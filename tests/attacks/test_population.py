from inspect import unwrap
from math import log

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import softmax
from scipy.stats import entropy
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score, roc_auc_score
from sklearn.model_selection import StratifiedKFold
from sklearn.preprocessing import StandardScaler

from engine.attacks import scores
from engine.attacks.population import FEATURES, INFO, _boosting, _out_of_fold, _threshold, _widened, features, population
from engine.attacks.rates import rates_over_examples
from engine.errors import DataError, Diverged

NAMES = {f"{name}/threshold" for name in FEATURES if name != "phi"} | {"all/logistic", "all/boosting"}
Side = tuple[np.ndarray, np.ndarray]


def outputs(n: int, seed: int, shift: float = 0.0, k: int = 5, noise: float = 1.5) -> Side:
    """Logits of a model that is right more often than not, by `shift` surer, and labels."""
    rng = np.random.default_rng(seed)
    y = rng.integers(k, size=n)
    z = noise * rng.normal(size=(n, k))
    z[np.arange(n), y] += rng.gamma(2, 2, n) + shift
    return z, y


def attacked(members: Side, others: Side, seed: int = 0, draws: int = 20):
    return population(*members, *others, seed=seed, draws=draws)


def columns(*sides: Side) -> np.ndarray:
    return np.concatenate([np.stack([features(*side)[name] for name in FEATURES], axis=1) for side in sides])


# ---- features


def test_two_classes_by_hand():
    """p = (4/5, 1/5): right, then wrong."""
    found = features(np.log([[4.0, 1.0], [4.0, 1.0]]), np.array([0, 1]))
    assert list(found) == list(FEATURES)
    assert found["loss"] == pytest.approx([-log(0.8), -log(0.2)]) and found["phi"] == pytest.approx([log(4), -log(4)])
    assert found["confidence"] == pytest.approx([log(4), log(4)]) and found["margin"] == pytest.approx([log(4), -log(4)])
    assert found["entropy"] == pytest.approx(2 * [-0.8 * log(0.8) - 0.2 * log(0.2)])
    assert found["modified_entropy"] == pytest.approx([-2 * 0.2 * log(0.8), -2 * 0.8 * log(0.2)])


def test_features_are_their_definitions_in_a_plain_loop_and_by_others():
    z, y = outputs(60, 0)
    p, found = softmax(z, -1), features(z, y)
    for i, true in enumerate(y):
        others = [k for k in range(5) if k != true]
        modified = -(1 - p[i, true]) * log(p[i, true]) - sum(p[i, k] * log(1 - p[i, k]) for k in others)
        assert found["modified_entropy"][i] == pytest.approx(modified, rel=1e-9)
        assert found["margin"][i] == z[i, true] - max(z[i, k] for k in others)
    np.testing.assert_allclose(found["loss"], scores.cross_entropy(torch.tensor(z), torch.tensor(y)).numpy(), rtol=1e-9)
    np.testing.assert_allclose(found["phi"], scores.phi(torch.tensor(z), torch.tensor(y)).numpy(), rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(found["entropy"], entropy(p, axis=-1), rtol=1e-9)
    np.testing.assert_allclose(found["confidence"], np.log(p.max(-1) / (1 - p.max(-1))), rtol=1e-6)


def test_modified_entropy_has_the_right_terms():
    """Released code has log p for log(1 - p), or puts the true class's terms of all examples into every example."""
    z, y = outputs(60, 0)
    p, rows, right = softmax(z, -1), np.arange(60), features(z, y)["modified_entropy"]
    swapped = p * np.log(p)
    swapped[rows, y] = (1 - p[rows, y]) * np.log(p[rows, y])
    every = p * np.log(1 - p)
    every[:, y] = ((1 - p) * np.log(p))[:, y]
    assert np.abs(right + swapped.sum(-1)).max() > 0.1 and np.abs(right + every.sum(-1)).max() > 0.1


def test_modified_entropy_tells_surely_right_from_surely_wrong_and_entropy_does_not():
    found = features(np.array([[9.0, 0.0, 0.0], [9.0, 0.0, 0.0]]), np.array([0, 1]))
    assert found["modified_entropy"][0] < 0.01 and found["modified_entropy"][1] > 9
    assert found["entropy"][0] == found["entropy"][1] and found["confidence"][0] == found["confidence"][1]


def test_saturated_logits_stay_finite_and_in_order_where_a_softmax_gives_nan():
    z = np.array([[1e3, -1e3, 0.0], [2e3, -1e3, 0.0], [-1e3, 1e3, 0.0], [1e30, -1e30, 0.0], [40.0, 0.0, 0.0], [45.0, 0.0, 0.0]])
    y = np.zeros(6, dtype=np.int64)
    p = softmax(z, -1)
    with np.errstate(divide="ignore", invalid="ignore"):
        assert np.isnan((p * np.log(p)).sum(-1)).any() and np.isnan(((1 - p) * np.log(1 - p)).sum(-1)).any()
    found = features(z, y)
    assert all(np.isfinite(value).all() for value in found.values())
    assert found["loss"][:3] == pytest.approx([0, 0, 2000]) and found["modified_entropy"][2] == pytest.approx(4000 - 1000)
    assert p[4, 0] == p[5, 0] == 1 and found["confidence"][4] < found["confidence"][5] and found["loss"][4] > found["loss"][5] > 0
    assert found["entropy"][4] > found["entropy"][5] > 0 and found["modified_entropy"][4] > found["modified_entropy"][5] > 0


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 1000), st.floats(-1e3, 1e3), st.permutations(range(5)))
def test_offsets_and_names_of_classes_change_nothing(seed: int, offset: float, order: list[int]):
    z, y = outputs(5, seed)
    moved = features(z[:, order] + offset, np.argsort(order)[y])
    for name, value in features(z, y).items():
        np.testing.assert_allclose(moved[name], value, atol=1e-8, rtol=1e-8)


# ---- attacks


def test_out_of_fold_as_plain_loops_say():
    members, others = outputs(40, 0, 1.0), outputs(60, 1)
    found, x, y = attacked(members, others, seed=3), columns(members, others), np.repeat([True, False], [40, 60])
    auc, called = {name: [] for name in NAMES}, {name: np.zeros(100, bool) for name in NAMES}
    for train, test in StratifiedKFold(5, shuffle=True, random_state=3).split(x, y):
        scaler = StandardScaler().fit(x[train])
        logistic = LogisticRegression(class_weight="balanced").fit(scaler.transform(x[train]), y[train])
        boosting = HistGradientBoostingClassifier(max_iter=50, learning_rate=0.05, max_depth=3, class_weight="balanced", random_state=3)
        boosting.fit(x[train], y[train])
        judged = {"all/logistic": logistic.decision_function(scaler.transform(x)), "all/boosting": boosting.decision_function(x)}
        for i, name in enumerate(FEATURES):
            both = [(threshold_of(sign * x[train, i], y[train]), sign) for sign in (1, -1)]
            judged[f"{name}/threshold"] = max(both)[1] * x[:, i]
        for name in NAMES:
            _, cut = threshold_of(judged[name][train], y[train])
            called[name][test] = judged[name][test] > cut
            auc[name].append(roc_auc_score(y[test], judged[name][test]))
    for name in NAMES:
        assert found.attacks[name].balanced_accuracy.value == pytest.approx(balanced_accuracy_score(y, called[name])), name
        tied = 0.01 if name == "all/boosting" else 1e-9  # the mean of the folds' areas, exactly so without ties
        assert found.attacks[name].auc.value == pytest.approx(np.mean(auc[name]), abs=tied), name
    assert found.surer.value == pytest.approx(roc_auc_score(y, x[:, 1]))


def threshold_of(score: np.ndarray, member: np.ndarray) -> tuple[float, float]:
    """(balanced accuracy, threshold) of the best, tried one by one from above."""
    values = np.unique(score)[::-1]
    cuts = [np.inf, *((values[1:] + values[:-1]) / 2), -np.inf]
    return max(((np.mean(score[member] > cut) + np.mean(score[~member] <= cut)) / 2, -i, cut) for i, cut in enumerate(cuts))[::2]


@pytest.mark.parametrize(("members", "others", "ties"), [(30, 40, False), (60, 400, False), (300, 200, False), (60, 400, True)])
def test_boosting_with_bins_cut_beforehand_is_scikit_learn_s_own(members: int, others: int, ties: bool):
    """Bit for bit, below and above as many values as there are bins."""
    x, y = columns(outputs(members, 0, 1.0), outputs(others, 1)), np.arange(members + others) < members
    x = np.round(x, 1) if ties else x
    model = HistGradientBoostingClassifier(max_iter=50, learning_rate=0.05, max_depth=3, max_bins=127, class_weight="balanced", random_state=3)
    unseen = columns(outputs(50, 2))
    assert np.array_equal(_boosting(x, y, 3)(unseen), model.fit(x, y).decision_function(unseen))


def test_all_seven_are_reported_with_what_the_sample_supports():
    found = attacked(outputs(60, 0, 1.0), outputs(150, 1))
    assert set(found.attacks) == NAMES and (found.n_members, found.n_non_members) == (60, 150)  # nobody thrown away
    assert all(set(rates.tpr_at_fpr) == {0.1} and rates.smallest_fpr == pytest.approx(10 / 150) for rates in found.attacks.values())
    rows = {row["name"]: row for row in found.metrics()}
    assert {"loss/threshold/auc", "all/boosting/balanced_accuracy", "all/logistic/tpr_at_fpr_0.1", "surer", "n_members"} <= set(rows)
    assert rows["all/logistic/auc"]["value"] == found.attacks["all/logistic"].auc.value and rows["n_non_members"]["lo"] is None
    assert len(rows) == len(found.metrics()) and INFO.name == "population"


def test_a_known_leak():
    """Two classes, phi N(1, 1) against N(0, 1): threshold 1/2 calls Phi(1/2) right, AUC Phi(1 / sqrt 2)."""
    def side(n: int, mean: float, seed: int) -> Side:
        phi = np.random.default_rng(seed).normal(mean, 1, n)
        return np.stack([phi, np.zeros(n)], axis=1), np.zeros(n, dtype=np.int64)

    found = attacked(side(1000, 1, 0), side(1000, 0, 1), draws=50)
    for name in ("loss/threshold", "modified_entropy/threshold", "margin/threshold", "all/logistic", "all/boosting"):
        rates = found.attacks[name]
        assert rates.balanced_accuracy.value == pytest.approx(0.6915, abs=0.03) and rates.auc.value == pytest.approx(0.7602, abs=0.03), name
        assert rates.auc.lo < 0.7602 < rates.auc.hi and 0.03 < rates.auc.hi - rates.auc.lo < 0.09
        assert rates.tpr_at_fpr[0.1].value == pytest.approx(0.3891, abs=0.06)
    assert found.surer.value == pytest.approx(0.7602, abs=0.03)


def test_nothing_to_see_is_chance_where_in_sample_scoring_leaks():
    found, inside = [], []
    for seed in range(6):
        members, others = outputs(50, seed), outputs(50, seed + 100)
        attacks = attacked(members, others, seed=seed).attacks
        found.append([[rates.balanced_accuracy.value, rates.auc.value] for rates in attacks.values()])
        x, y = columns(members, others), np.repeat([True, False], 50)
        boosting = HistGradientBoostingClassifier(max_iter=50, learning_rate=0.05, max_depth=3, class_weight="balanced").fit(x, y)
        inside.append(roc_auc_score(y, boosting.decision_function(x)))
    assert np.mean(found, axis=0) == pytest.approx(0.5, abs=0.08) and np.mean(found) == pytest.approx(0.5, abs=0.03)
    assert np.mean(inside) > 0.75


def test_confidences_are_attacked_and_not_whether_they_are_right():
    def side(sure: float, seed: int) -> Side:
        y = np.random.default_rng(seed).integers(4, size=60)
        return (sure + np.random.default_rng(seed).random((60, 1))) * np.eye(4)[y], y

    members, others = side(8, 0), side(3, 1)
    right = np.concatenate([z.argmax(-1) == y for z, y in (members, others)])
    assert roc_auc_score(np.repeat([1, 0], 60), right) == 0.5  # what booleans would see: all predictions are right
    assert all(rates.auc.value == 1 and rates.balanced_accuracy.value > 0.98 for rates in attacked(members, others).attacks.values())


def test_non_members_count_a_model_sure_of_everything_leaks_nothing():
    """All members lie above a threshold that only looks at members, and so do all others."""
    members, others = outputs(150, 0, shift=30), outputs(150, 1, shift=30)
    found = attacked(members, others).attacks
    assert all(rates.balanced_accuracy.lo < 0.5 < rates.balanced_accuracy.hi and rates.auc.lo < 0.5 < rates.auc.hi for rates in found.values())


def test_many_non_members_do_not_drown_few_members():
    members, others = outputs(60, 0, shift=4), outputs(400, 1)
    x, y = StandardScaler().fit_transform(columns(members, others)), np.repeat([True, False], [60, 400])
    plain = LogisticRegression().fit(x, y).predict(x)
    assert np.mean(plain == y) > 0.86 and balanced_accuracy_score(y, plain) < 0.6  # looks accurate, calls hardly a member
    found = attacked(members, others)
    assert all(found.attacks[name].balanced_accuracy.value > 0.75 for name in ("loss/threshold", "all/logistic", "all/boosting"))
    assert found.attacks["all/logistic"].smallest_fpr == pytest.approx(10 / 400)  # all of them are scored


def test_forgetting_too_much_leaks_as_well_and_is_told_apart():
    under, over = (attacked(outputs(150, 0, shift), outputs(150, 1)) for shift in (3.0, -3.0))
    for found in (under, over):
        assert all(found.attacks[name].auc.value > 0.65 for name in ("loss/threshold", "margin/threshold", "all/logistic", "all/boosting"))
    assert under.surer.lo > 0.6 and over.surer.hi < 0.4


def test_the_curve_does_not_compare_scores_of_different_rules():
    """Pooled scores of five rules lose area that every single rule has."""
    ours, folds, pooled = [], [], []
    for seed in range(5):
        members, others = outputs(50, seed, 1.0), outputs(50, seed + 100)
        x, y, score = columns(members, others), np.repeat([True, False], 50), np.zeros(100)
        for train, test in StratifiedKFold(5, shuffle=True, random_state=seed).split(x, y):
            scaler = StandardScaler().fit(x[train])
            rule = LogisticRegression(class_weight="balanced").fit(scaler.transform(x[train]), y[train])
            score[test] = rule.decision_function(scaler.transform(x[test]))
            folds.append(roc_auc_score(y[test], score[test]))
        pooled.append(roc_auc_score(y, score))
        ours.append(attacked(members, others, seed=seed).attacks["all/logistic"].auc.value)
    assert np.mean(ours) == pytest.approx(np.mean(folds)) and np.mean(ours) > np.mean(pooled) + 0.005


def test_intervals_hold_where_nothing_leaks():
    """Nominally 95 %; unwidened 79 to 88 %."""
    member, wide, narrow = np.repeat([True, False], 30), [], []
    for seed in range(120):
        x = columns(outputs(60, seed))[:, :1]
        folds = list(StratifiedKFold(5, shuffle=True, random_state=seed).split(x, member))
        for score in _out_of_fold(x, member, _threshold, folds, seed):
            found = rates_over_examples(score, member, seed=seed, draws=60)
            plain = found.balanced_accuracy if set(score) <= {-1, 0, 1} else found.auc
            narrow.append(plain.lo <= 0.5 <= plain.hi)
            wide.append(_widened(plain).lo <= 0.5 <= _widened(plain).hi)
    assert np.mean(wide) > 0.93 and np.mean(narrow) < 0.9


def test_the_same_seed_repeats_and_arguments_are_left_alone():
    members, others = outputs(40, 0), outputs(50, 1)
    before = members[0].copy(), others[0].copy()
    assert attacked(members, others).metrics() == attacked(members, others).metrics() != attacked(members, others, seed=1).metrics()
    assert np.array_equal(members[0], before[0]) and np.array_equal(others[0], before[1])


def test_single_precision_is_attacked_in_double():
    members, others = outputs(40, 0), outputs(50, 1)
    narrow, wide = ([(z.astype(np.float32).astype(kind), y) for z, y in (members, others)] for kind in (np.float32, np.float64))
    assert attacked(*narrow).metrics() == attacked(*wide).metrics()


def test_a_model_that_says_the_same_of_everything_is_chance():
    y = np.zeros(30, dtype=np.int64)
    found = attacked((np.zeros((30, 3)), y), (np.zeros((30, 3)), y))
    assert all(rates.balanced_accuracy.value == rates.auc.value == 0.5 for rates in found.attacks.values()) and found.surer.value == 0.5


def test_a_ruined_model_s_huge_logits_are_still_attacked():
    members, others = outputs(40, 0), outputs(40, 1)
    found = attacked((members[0] * 1e28, members[1]), (others[0] * 1e28, others[1]))
    assert all(0 <= row["value"] <= 40 for row in found.metrics())


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e31])
def test_a_diverged_model_is_named_so(bad: float):
    z, y = outputs(20, 0)
    z[3, 2] = bad
    with pytest.raises(Diverged, match="1 of 20 member examples"):
        attacked((z, y), outputs(20, 1))
    with pytest.raises(Diverged, match="1 of 20 non-member examples"):
        attacked(outputs(20, 1), (z, y))


def test_ten_a_side_are_enough_and_nine_are_not():
    assert attacked(outputs(10, 0), outputs(10, 1)).attacks["all/boosting"].auc.value == 0.5  # too few for a tree
    assert attacked(outputs(10, 0), outputs(10, 1)).attacks["loss/threshold"].tpr_at_fpr == {}
    with pytest.raises(DataError, match="10 or more member examples, got 9"):
        attacked(outputs(9, 0), outputs(50, 1))
    with pytest.raises(DataError, match="10 or more non-member examples, got 0"):
        attacked(outputs(50, 0), outputs(0, 1))


@pytest.mark.parametrize(("members", "others", "message"), [
    ((np.zeros((20, 1)), np.zeros(20, int)), (np.zeros((20, 1)), np.zeros(20, int)), "2 or more classes"),
    ((np.zeros((20, 3)), np.full(20, 3)), outputs(20, 0, k=3), "member labels must lie in 0 to 2, got 3 to 3"),
    (outputs(20, 0, k=3), (np.zeros((20, 3)), np.full(20, -1)), "non-member labels must lie in 0 to 2"),
    (outputs(20, 0, k=3), outputs(20, 1, k=4), "of one model"),
    ((np.zeros((20, 3)), np.zeros(19, int)), outputs(20, 1, k=3), "one label an example"),
    ((np.zeros(20), np.zeros(20, int)), outputs(20, 1, k=3), "examples, classes"),
])
def test_what_cannot_be_attacked_is_refused(members: Side, others: Side, message: str):
    with pytest.raises(DataError, match=message):
        unwrap(population)(*members, *others, seed=0)
