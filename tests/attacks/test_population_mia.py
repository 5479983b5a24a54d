import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score
from sklearn.model_selection import StratifiedShuffleSplit

from engine.attacks.population_mia import indiscernibility, population_mia
from engine.errors import DataError, Diverged


def losses(n: int, scale: float, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).exponential(scale, n)


def as_specified(forget_loss: np.ndarray, unseen_loss: np.ndarray, seed: int) -> float:
    """The four sentences of the specification, one after the other."""
    rng = np.random.RandomState(seed)
    forget_loss, unseen_loss = rng.permutation(forget_loss), rng.permutation(unseen_loss)
    size = min(len(forget_loss), len(unseen_loss))
    data = [[loss] for loss in forget_loss[:size]] + [[loss] for loss in unseen_loss[:size]]
    label = [1] * size + [0] * size
    accuracies = []
    for train, test in StratifiedShuffleSplit(n_splits=10, test_size=0.1, random_state=seed).split(data, label):
        model = LogisticRegression()
        model.fit([data[i] for i in train], [label[i] for i in train])
        accuracies.append(accuracy_score([label[i] for i in test], model.predict([data[i] for i in test])))
    return sum(accuracies) / 10


@pytest.mark.parametrize(("n", "m", "scale"), [(60, 200, 1.0), (120, 40, 2.0), (50, 50, 0.02)])
def test_is_what_the_specification_says(n: int, m: int, scale: float):
    member, other = losses(n, scale, 0), losses(m, 2 * scale, 1)
    assert population_mia(member, other) == pytest.approx(as_specified(member, other, 123), abs=1e-15)
    assert population_mia(member, other, seed=5) == pytest.approx(as_specified(member, other, 5), abs=1e-15)


def test_known_answers():
    assert population_mia(losses(200, 0.01, 0), 5 + losses(300, 0.1, 1)) == 1
    assert population_mia(losses(2000, 1, 0), losses(2000, 1, 1)) == pytest.approx(0.5, abs=0.03)
    assert population_mia(np.ones(50), np.ones(70)) == 0.5
    low, high = losses(300, 1, 0), losses(300, 3, 1)
    assert population_mia(high, low) > 0.6 and population_mia(low, high) > 0.6  # either direction leaks


def test_arguments_are_left_alone_and_the_result_repeats():
    member, other = losses(80, 1, 0), losses(90, 2, 1)
    before = member.copy(), other.copy()
    assert population_mia(member, other) == population_mia(member, other)
    np.testing.assert_array_equal(member, before[0])
    np.testing.assert_array_equal(other, before[1])


@pytest.mark.parametrize("huge", [1e3, 1e10, 1e30])
def test_huge_losses_of_a_ruined_model_still_give_an_accuracy(huge: float):
    assert 0 <= population_mia(losses(50, huge, 0).astype(np.float32), losses(50, huge, 1).astype(np.float32)) <= 1


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_diverged_model_is_named_so(bad: float):
    spoiled = losses(50, 1, 0)
    spoiled[7] = bad
    with pytest.raises(Diverged, match="1 of 50 member losses are not finite"):
        population_mia(spoiled, losses(50, 1, 1))
    with pytest.raises(Diverged, match="1 of 50 non-member losses"):
        population_mia(losses(50, 1, 1), spoiled)


def test_too_few_examples_are_refused_and_ten_are_enough():
    with pytest.raises(DataError, match="10 or more member losses, got 9"):
        population_mia(losses(9, 1, 0), losses(50, 1, 1))
    with pytest.raises(DataError, match="non-member losses, got 0"):
        population_mia(losses(10, 1, 0), np.zeros(0))
    assert 0 <= population_mia(losses(10, 1, 0), losses(10, 1, 1)) <= 1


def test_indiscernibility():
    assert [indiscernibility(mia) for mia in (0.5, 0.0, 1.0, 0.75)] == [1, 0, 0, 0.5]
    with pytest.raises(DataError, match=r"\[0, 1\]"):
        indiscernibility(float("nan"))
    with pytest.raises(DataError, match="got 62.5"):
        indiscernibility(62.5)


@settings(max_examples=50)
@given(st.floats(0, 1))
def test_indiscernibility_is_symmetric_and_a_fraction(mia: float):
    assert indiscernibility(mia) == pytest.approx(indiscernibility(1 - mia)) and 0 <= indiscernibility(mia) <= 1
