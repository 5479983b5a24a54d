"""One step of each method by hand: the update equals the formula, the mask selects exactly these weights."""

import pytest
import torch
from torch import Tensor, nn

from engine import registry
from engine.data.loader import Splits
from engine.models.parts import kaiming_normal_fan_out, redraw, smallest
from engine.models.stack import Stack
from engine.runtime import PerReplica, Rng, Run
from engine.unlearn.ct import transpose_kernels
from engine.unlearn.msg import contrast_gradient, triangle
from tests.unlearn.test_contract import SPEC, toy_model

SEED = 5


def one_epoch(name: str, stack: Stack, **params: float) -> Stack:
    m = registry.get(name)
    data = Splits.of([SPEC], dtype=torch.float64).restricted(m.reads)
    whole = {"epochs": 1, "batch": 1000, "momentum": 0.0, "weight_decay": 0.0, "lr": 0.01} | params
    return m.run(stack, data, PerReplica([m.params.from_dict(whole, name)]), Run(Rng([SEED])))


def examples(split: str) -> tuple[Tensor, Tensor]:
    (x, y), = Splits.of([SPEC], dtype=torch.float64).ordered(split, 1000)
    return x[0], y[0]


def stepped(module: nn.Module, loss: Tensor, lr: float) -> dict[str, Tensor]:
    grads = torch.autograd.grad(loss, list(module.parameters()))
    return {n: p.detach() - lr * g for (n, p), g in zip(module.named_parameters(), grads, strict=True)}


def close(stack: Stack, expected: dict[str, Tensor]) -> None:
    for name, value in expected.items():
        torch.testing.assert_close(stack.state_of(0)[name], value, rtol=0, atol=1e-10)


@pytest.mark.parametrize(("name", "sign", "split"), [("ft", 1.0, "retain"), ("ga", -1.0, "forget")])
def test_ft_descends_on_retain_and_ga_ascends_on_forget(name: str, sign: float, split: str) -> None:
    before = toy_model(precision="fp64")
    plain, (x, y) = before[0].train(), examples(split)
    expected = stepped(plain, sign * nn.functional.cross_entropy(plain(x), y), 0.01)
    close(one_epoch(name, before), expected)


def test_ng_plus_weighs_both_losses_with_frozen_statistics() -> None:
    before = toy_model(precision="fp64")
    plain = before[0].eval()
    (xr, yr), (xf, yf) = examples("retain"), examples("forget")
    loss = 0.8 * nn.functional.cross_entropy(plain(xr), yr) - 0.2 * nn.functional.cross_entropy(plain(xf), yf)
    after = one_epoch("ng_plus", before, alpha=0.8)
    close(after, stepped(plain, loss, 0.01))
    assert torch.equal(after.buffers["bn1.running_mean"], before.buffers["bn1.running_mean"])


def test_srl_gives_random_labels_to_forget_alone() -> None:
    before = toy_model(precision="fp64")
    plain = before[0].train()
    data, rng = Splits.of([SPEC], dtype=torch.float64), Rng([SEED])
    (x, y, marked), = data.mixed("forget", "retain", 1000, rng)
    labels = rng.for_purpose("labels").integers(10, y.shape[1])
    target = torch.where(marked, labels, y)[0]
    assert bool((target != y[0])[marked[0]].any()) and torch.equal(target[~marked[0]], y[0][~marked[0]])
    close(one_epoch("srl", before), stepped(plain, nn.functional.cross_entropy(plain(x[0]), target), 0.01))


def test_random_labels_are_uniform_over_all_classes() -> None:
    drawn = Rng([1, 2]).integers(10, 50_000)
    share = torch.stack([torch.bincount(row, minlength=10) / 50_000 for row in drawn])
    torch.testing.assert_close(share, torch.full((2, 10), 0.1), rtol=0, atol=0.006)  # over four deviations


def test_ct_swaps_height_and_width_of_each_kernel() -> None:
    before = toy_model(precision="fp64")
    after = transpose_kernels(before.copy())
    for name in ("conv1.weight", "conv2.weight", "conv3.weight"):
        assert torch.equal(after.params[name], before.params[name].transpose(-1, -2))
        assert not torch.equal(after.params[name], before.params[name])
    assert torch.equal(after.params["fc.weight"], before.params["fc.weight"])
    twice = transpose_kernels(after)
    assert torch.equal(twice.params["conv2.weight"], before.params["conv2.weight"])


def test_msg_gradient_is_that_of_the_difference_of_means() -> None:
    before = toy_model(precision="fp64")
    plain, data = before[0].train(), Splits.of([SPEC], dtype=torch.float64)
    n, rng = data.size("forget"), Rng([SEED])
    (xr, yr) = next(data.batches("retain", n, rng))
    (xf, yf) = next(data.batches("forget", n, rng))
    loss = nn.functional.cross_entropy(plain(xr[0]), yr[0]) - nn.functional.cross_entropy(plain(xf[0]), yf[0])
    expected = torch.autograd.grad(loss, plain.get_parameter("conv2.weight"))[0]
    found = contrast_gradient(before.copy().train(), data, 1000, Rng([SEED]))
    torch.testing.assert_close(found["conv2.weight"][0], expected, rtol=0, atol=1e-12)


def test_msg_balance_does_not_depend_on_the_batch_size() -> None:
    """In eval mode (no batch statistics) means over the same examples are the same whatever the batches."""
    stack, data = toy_model(precision="fp64").eval(), Splits.of([SPEC], dtype=torch.float64)
    whole, parts = contrast_gradient(stack, data, 1000, Rng([SEED])), contrast_gradient(stack, data, 5, Rng([SEED]))
    torch.testing.assert_close(parts["conv1.weight"], whole["conv1.weight"], rtol=0, atol=1e-12)


def test_msg_redraws_exactly_the_share_of_smallest_gradient_and_slows_the_rest() -> None:
    before = toy_model(precision="fp64")
    after = one_epoch("msg", before, ratio=0.25, lr=0.0)
    for name, weight in before.tensors("conv").items():
        moved = after.params[name] != weight
        assert int(moved.sum()) == round(0.25 * weight[0].numel())
    data = Splits.of([SPEC], dtype=torch.float64)
    gradient = contrast_gradient(before.copy().train(), data, 1000, Rng([SEED]))["conv2.weight"].abs()
    moved = after.params["conv2.weight"] != before.params["conv2.weight"]
    assert gradient[moved].max() <= gradient[~moved].min()


def test_msg_triangle() -> None:
    rates = [float(triangle(torch.tensor([1.0]), e, torch.tensor([5.0]))) for e in range(5)]
    assert rates == pytest.approx([1 / 3, 2 / 3, 1, 2 / 3, 1 / 3])


def test_smallest_takes_exactly_k_even_among_ties() -> None:
    scores = torch.tensor([[0.0, 0.0, 0.0, 0.0, 5.0], [3.0, 1.0, 2.0, 0.0, 4.0]])
    mask = smallest(scores, torch.tensor([2, 3]))
    assert mask.tolist() == [[True, True, False, False, False], [False, True, True, True, False]]


def test_redraw_has_kaimings_deviation_and_each_replica_its_own_numbers() -> None:
    weight = torch.zeros(2, 64, 32, 3, 3)
    redraw(weight, torch.ones_like(weight, dtype=torch.bool), kaiming_normal_fan_out, Rng([1, 2]).generators)
    assert weight.std().item() == pytest.approx((2 / (64 * 9)) ** 0.5, rel=0.02)
    assert not torch.equal(weight[0], weight[1])
