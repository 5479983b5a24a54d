"""Losses by closed form and against plain torch, each replica by itself."""

import math

import pytest
import torch
from torch.nn import functional as F

from engine.losses import ce, ce_per_example, contrast, kl


def drawn(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def test_cross_entropy_is_torchs_a_replica() -> None:
    logits, y = drawn(3, 5, 4), torch.arange(15).view(3, 5) % 4
    for r in range(3):
        torch.testing.assert_close(ce(logits, y)[r], F.cross_entropy(logits[r], y[r]))
        torch.testing.assert_close(ce_per_example(logits, y)[r], F.cross_entropy(logits[r], y[r], reduction="none"))


def test_kl_closed_form() -> None:
    """Between (3/4, 1/4) and (1/2, 1/2): 3/4 log(3/2) + 1/4 log(1/2)."""
    target, logits = torch.tensor([[[math.log(3.0), 0.0]]]), torch.zeros(1, 1, 2)
    assert kl(target, logits).item() == pytest.approx(0.75 * math.log(1.5) + 0.25 * math.log(0.5))
    assert kl(target, target).item() == 0


def test_kl_is_torchs_at_each_replicas_own_temperature() -> None:
    target, logits, heat = drawn(2, 5, 4), drawn(2, 5, 4).flip(1), torch.tensor([0.5, 3.0])
    for r in range(2):
        expected = F.kl_div(F.log_softmax(logits[r] / heat[r], -1), F.softmax(target[r] / heat[r], -1), reduction="batchmean")
        torch.testing.assert_close(kl(target, logits, heat)[r], expected)


def test_kl_gives_its_target_no_gradient() -> None:
    target, logits = drawn(1, 3, 4).requires_grad_(), drawn(1, 3, 4).flip(1).requires_grad_()
    kl(target, logits).sum().backward()
    assert target.grad is None and logits.grad is not None and bool(logits.grad.any())


def test_contrast_is_log_n_for_equal_likeness_and_a_softmax_over_the_others_else() -> None:
    others = drawn(1, 1, 4).expand(1, 6, 4)
    assert contrast(drawn(1, 3, 4), others).item() == pytest.approx(math.log(6))
    # dot products (2, 0) at T = 2: softmax (e, 1) / (e + 1), whose mean -log is log(e + 1) - 1/2
    found = contrast(torch.tensor([[[2.0, 0.0]]]), torch.tensor([[[1.0, 5.0], [0.0, 7.0]]]), 2.0)
    assert found.item() == pytest.approx(math.log(math.e + 1) - 0.5)


def test_contrast_is_the_released_formula_with_gradient_for_the_first_alone() -> None:
    ours, theirs, heat = drawn(2, 3, 4).requires_grad_(), drawn(2, 5, 4).flip(1).requires_grad_(), torch.tensor([1.15, 2.0])
    found = contrast(ours, theirs, heat)
    for r in range(2):
        torch.testing.assert_close(found[r], (-1 * torch.nn.LogSoftmax(dim=-1)(ours[r] @ theirs[r].T / heat[r])).mean())
    found.sum().backward()
    assert theirs.grad is None and ours.grad is not None and bool(ours.grad.any())
