import math

import numpy as np
import pytest

from engine.errors import DataError, Diverged
from engine.metrics.accuracy import retention, retention_deviation, top1_accuracy


def test_top1_accuracy_of_a_stack():
    logits = np.array([[[2.0, 1, 0], [0, 0, 5], [1, 1, 0]], [[0, 1, 0], [1, 0, 0], [0, 3, 1]]])
    y = np.array([0, 1, 0])
    assert top1_accuracy(logits, y) == pytest.approx([2 / 3, 0])  # the tie in the third goes to class 0
    assert top1_accuracy(logits[0], y) == pytest.approx(2 / 3)


def test_accuracy_refuses_what_it_cannot_judge():
    with pytest.raises(Diverged, match="not finite"):
        top1_accuracy(np.array([[0.0, np.nan]]), np.array([1]))
    with pytest.raises(DataError, match="at least one"):
        top1_accuracy(np.zeros((0, 2)), np.zeros(0, dtype=np.int64))


def test_retention_and_its_deviation_against_published_figures():
    """FT in the third-party table of the study: RA 1.0, FA .8480, TA .8280 against .9993, .8734, .8687 gives .0767."""
    ratios = [retention(u, r) for u, r in ((1.0, 0.9993), (0.8480, 0.8734), (0.8280, 0.8687))]
    assert retention_deviation(*ratios) == pytest.approx(0.0767, abs=5e-4)


def test_retrained_is_perfect_and_both_directions_count():
    assert retention(0.8, 0.8) == 1 and retention_deviation(1.0, 1.0, 1.0) == 0
    assert retention_deviation(1.0, 1.1, 1.0) == pytest.approx(retention_deviation(1.0, 0.9, 1.0))


def test_no_ratio_to_a_model_that_gets_nothing_right():
    assert math.isnan(retention(0.3, 0.0)) and math.isnan(retention_deviation(1.0, retention(0.3, 0.0), 1.0))


def test_percent_are_refused():
    with pytest.raises(DataError, match=r"\[0, 1\]"):
        retention(83.1, 0.9)
