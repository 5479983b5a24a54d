from math import log

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, tensor

from engine.attacks.scores import cross_entropy, phi
from engine.errors import DataError

FINITE = st.floats(-50, 50)


def assert_close(found: Tensor, expected: Tensor, atol: float = 1e-9, rtol: float = 1e-6):
    np.testing.assert_allclose(found.numpy(), expected.numpy(), atol=atol, rtol=rtol)  # torch's own takes seconds to load


@st.composite
def logits_and_labels(draw: st.DrawFn, classes: int | None = None) -> tuple[Tensor, Tensor]:
    k = classes or draw(st.integers(2, 6))
    n = draw(st.integers(1, 4))
    rows = draw(st.lists(st.lists(FINITE, min_size=k, max_size=k), min_size=n, max_size=n))
    return tensor(rows, dtype=torch.float64), tensor(draw(st.lists(st.integers(0, k - 1), min_size=n, max_size=n)))


def test_phi_closed_form():  # logits (2, 0, 0): p = e^2 / (e^2 + 2)
    assert phi(tensor([[2.0, 0.0, 0.0]]), tensor([0])).item() == pytest.approx(2 - log(2))


def test_phi_does_not_saturate_where_softmax_does():
    assert phi(tensor([[200.0, 0.0, 0.0]]), tensor([0])).item() == pytest.approx(200 - log(2))
    assert phi(tensor([[-200.0, 0.0, 0.0]]), tensor([0])).item() == pytest.approx(-200 - log(2))


def test_half_precision_is_widened():
    z = tensor([[8.0, 0.5, 0.25]])
    assert phi(z.bfloat16(), tensor([0])).dtype == torch.float32
    assert_close(phi(z.bfloat16(), tensor([0])), phi(z, tensor([0])))


@settings(max_examples=50, deadline=None)
@given(logits_and_labels(), st.floats(-1e3, 1e3))
def test_phi_is_the_log_odds_and_ignores_an_offset(case: tuple[Tensor, Tensor], offset: float):
    z, y = case
    p = z.softmax(-1).gather(-1, y[:, None])[:, 0]
    sure = 1 - p > 1e-6
    assert_close(phi(z, y)[sure], (p.log() - torch.log1p(-p))[sure], atol=1e-6, rtol=1e-6)
    assert_close(phi(z + offset, y), phi(z, y), atol=1e-9, rtol=0)


@settings(max_examples=50, deadline=None)
@given(logits_and_labels(classes=2))
def test_phi_flips_with_the_class_of_two(case: tuple[Tensor, Tensor]):
    z, y = case
    assert_close(phi(z, y), -phi(z, 1 - y))


@settings(max_examples=50, deadline=None)
@given(logits_and_labels(), st.randoms(use_true_random=False))
def test_phi_ignores_the_order_of_the_other_classes(case: tuple[Tensor, Tensor], random):
    z, y = case
    order = list(range(z.shape[1]))
    random.shuffle(order)
    back = torch.argsort(tensor(order))
    assert_close(phi(z[:, order], back[y]), phi(z, y))


@settings(max_examples=50, deadline=None)
@given(logits_and_labels())
def test_cross_entropy_is_torch_s(case: tuple[Tensor, Tensor]):
    z, y = case
    assert_close(cross_entropy(z, y), torch.nn.functional.cross_entropy(z, y, reduction="none"), atol=1e-12, rtol=1e-9)


def test_cross_entropy_of_a_very_sure_model_is_small_and_not_zero():
    assert cross_entropy(tensor([[40.0, 0.0]]), tensor([0])).item() == pytest.approx(4.248354e-18, rel=1e-5)


def test_models_are_scored_as_one_by_one():
    z, y = torch.randn(3, 2, 5, 4), tensor([0, 1, 2, 3, 0])
    assert phi(z, y).shape == (3, 2, 5)
    assert_close(phi(z, y)[1, 0], phi(z[1, 0], y))
    assert_close(cross_entropy(z, y)[2, 1], cross_entropy(z[2, 1], y))


def test_one_class_is_refused():
    with pytest.raises(DataError, match="2 or more classes"):
        phi(torch.zeros(3, 1), torch.zeros(3, dtype=torch.int64))


def test_what_is_not_finite_stays_visible():
    assert phi(tensor([[float("nan"), 0.0]]), tensor([0])).isnan().all()
    assert cross_entropy(tensor([[float("nan"), 0.0]]), tensor([1])).isnan().all()
