"""Student's t without scipy: as scipy has it."""

import math

import numpy as np
import pytest
from scipy import stats

from engine.metrics.intervals import interval, t975


@pytest.mark.parametrize("freedom", [1, 2, 4, 5, 8, 9, 19, 200])
def test_t_quantile(freedom: int) -> None:
    assert t975(freedom) == pytest.approx(stats.t.ppf(0.975, freedom), rel=2e-4)


def test_interval_of_a_mean() -> None:
    values = np.array([1.0, 2.0, 4.0])
    expected = stats.t.interval(0.95, 2, values.mean(), stats.sem(values))
    assert interval(float(values.mean()), float(values.std(ddof=1)), 3) == pytest.approx(expected, rel=1e-4)


def test_one_value_has_no_interval() -> None:
    assert all(math.isnan(end) for end in interval(0.5, float("nan"), 1))
