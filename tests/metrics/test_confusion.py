"""By hand."""

import numpy as np
import pytest

from engine.errors import DataError
from engine.metrics.confusion import confusion


def test_counts_by_true_class_and_predicted_class() -> None:
    found = confusion(np.array([0, 0, 0, 2, 2, 1]), np.array([0, 0, 2, 2, 0, 1]), 4)
    assert found.tolist() == [[2, 0, 1, 0], [0, 1, 0, 0], [1, 0, 1, 0], [0, 0, 0, 0]]


def test_no_examples_no_counts() -> None:
    assert confusion(np.array([], dtype=np.int64), np.array([], dtype=np.int64), 2).tolist() == [[0, 0], [0, 0]]


@pytest.mark.parametrize(("labels", "predicted", "told"), [([3], [0], "label must be from 0 to 2, got 3 to 3"), ([0], [-1], "prediction must be from 0 to 2")])
def test_a_class_that_does_not_exist_is_refused(labels: list[int], predicted: list[int], told: str) -> None:
    with pytest.raises(DataError, match=told):
        confusion(np.array(labels), np.array(predicted), 3)
