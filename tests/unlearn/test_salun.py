"""SalUn by hand: the gradient, the mask over all weights together, and what masked weights do."""

import math

import pytest
import torch
from torch import Tensor, nn

from engine import registry
from engine.data.loader import Splits
from engine.models.parts import smallest_overall
from engine.models.stack import Stack
from engine.runtime import Rng
from engine.unlearn.salun import forget_gradient, salient
from tests.unlearn.test_contract import SPEC, quick, toy_model, unlearn
from tests.unlearn.test_steps import SEED, examples

SALUN, OFFICIAL = registry.get("salun"), registry.get("salun", "official")


def gradient_of(module: nn.Module, x: Tensor, y: Tensor) -> list[Tensor]:
    return list(torch.autograd.grad(nn.functional.cross_entropy(module(x), y), list(module.parameters())))


def test_the_gradient_is_that_of_the_mean_whatever_the_batches() -> None:
    stack, data = toy_model(precision="fp64").eval(), Splits.of([SPEC], dtype=torch.float64)
    found = forget_gradient(stack, data, 5, Rng([SEED]), lambda _, examples: examples / data.size("forget"))
    for mine, theirs in zip(found.values(), gradient_of(stack[0], *examples("forget")), strict=True):
        torch.testing.assert_close(mine[0], theirs, rtol=0, atol=1e-12)
    assert all(p.grad is None for p in stack.params.values())


def official_gradient(before: Stack, batch: int) -> list[Tensor]:
    """The released loop in plain torch: backward of -CE without clearing, the running gradient added up after every batch."""
    plain = before[0].eval()
    made = [torch.zeros_like(p) for p in plain.parameters()]
    for x, y in Splits.of([SPEC], dtype=torch.float64).batches("forget", batch, Rng([SEED])):
        (-nn.functional.cross_entropy(plain(x[0]), y[0])).backward()
        for total, p in zip(made, plain.parameters(), strict=True):
            assert p.grad is not None
            total += p.grad
    return made


def by_hand(before: Stack, gradient: list[Tensor], ratio: float) -> list[Tensor]:
    """Mask of the floor(ratio * P) largest |gradient| over all parameters."""
    flat = torch.cat([g.abs().flatten() for g in gradient])
    k = math.floor(ratio * len(flat))
    chosen = torch.zeros_like(flat, dtype=torch.bool)
    chosen[flat.topk(k).indices] = True
    return [part.view(g.shape) for part, g in zip(chosen.split([g.numel() for g in gradient]), gradient, strict=True)]


def test_the_mask_takes_the_largest_over_all_weights_together_and_exactly_so_many() -> None:
    stack, data = toy_model(2, precision="fp64").eval(), Splits.of([SPEC] * 2, dtype=torch.float64)
    gradient = forget_gradient(stack, data, 100, Rng([1, 2]), lambda _, examples: examples / data.size("forget"))
    mask = salient(gradient, torch.tensor([0.1, 0.35], dtype=torch.float64))
    for r, ratio in enumerate((0.1, 0.35)):
        expected = by_hand(stack, [g[r] for g in gradient.values()], ratio)
        assert all(torch.equal(mine[r], theirs) for mine, theirs in zip(mask.values(), expected, strict=True))
        assert sum(int(m[r].sum()) for m in mask.values()) == math.floor(ratio * stack.flat().shape[1])
    shares = [float(m[0].double().mean()) for m in mask.values()]
    assert max(shares) > 0.3 and min(shares) < 0.05, "not the same share of every tensor"


def test_the_overall_mask_lies_in_memory_as_the_scores_do() -> None:
    scores = {n: p.detach().abs() for n, p in toy_model(2).params.items()}
    mask = smallest_overall(scores, torch.tensor([5, 24_000]))
    assert all(mask[n].stride() == s.stride() for n, s in scores.items())
    assert [sum(int(m[r].sum()) for m in mask.values()) for r in range(2)] == [5, 24_000]


@pytest.mark.parametrize("official", [False, True])
def test_a_step_equals_the_formula_and_masked_weights_move_only_in_the_official_variant(official: bool) -> None:
    before, lr, decay, ratio, batch = toy_model(precision="fp64"), 0.05, 0.2, 0.3, 1000
    m = OFFICIAL if official else SALUN
    params = m.params.from_dict({"lr": lr, "weight_decay": decay, "ratio": ratio, "epochs": 1, "batch": batch}, "salun")
    after = unlearn(m, before, [SEED], [params])
    gradient = official_gradient(before, batch) if official else gradient_of(before[0].eval(), *examples("forget"))
    mask = by_hand(before, gradient, ratio)
    data, rng = Splits.of([SPEC], dtype=torch.float64), Rng([SEED])
    rng.permutations(data.size("forget"))  # the walk over forget that found the mask
    (x, y, marked), = data.mixed("forget", "retain", batch, rng)
    target = torch.where(marked, rng.for_purpose("labels").integers(10, y.shape[1]), y)[0]
    plain = before[0].train()
    for (name, p), g, chosen in zip(plain.named_parameters(), gradient_of(plain, x[0], target), mask, strict=True):
        step = g * chosen + decay * p if official else (g + decay * p) * chosen
        torch.testing.assert_close(after.params[name][0], p.detach() - lr * step, rtol=0, atol=1e-10)
        assert official or torch.equal(after.params[name][0][~chosen], p.detach()[~chosen])


def test_official_counts_early_batches_more_than_once() -> None:
    before, data = toy_model(precision="fp64"), Splits.of([SPEC], dtype=torch.float64)
    batches = math.ceil(data.size("forget") / 8)
    assert batches == 3
    found = forget_gradient(before.copy().eval(), data, 8, Rng([SEED]), lambda number, _: batches - number)
    for mine, theirs in zip(found.values(), official_gradient(before, 8), strict=True):
        torch.testing.assert_close(mine[0], -theirs, rtol=0, atol=1e-12)
    # the variant takes its mask from that gradient: with momentum and decay 0, exactly its weights move
    params = OFFICIAL.params.from_dict({"epochs": 1, "batch": 8, "ratio": 0.2}, "salun")
    after, expected = unlearn(OFFICIAL, before, [SEED], [params]), by_hand(before, official_gradient(before, 8), 0.2)
    for (name, p), chosen in zip(before.params.items(), expected, strict=True):
        assert not bool((after.params[name] != p)[0][~chosen].any()), name
        assert bool((after.params[name] != p)[0][chosen].double().mean() > 0.99) or not bool(chosen.any()), name


def test_momentum_and_decay_leave_masked_weights_alone() -> None:
    before = toy_model()
    after = unlearn(SALUN, before, [0], [quick(SALUN, batch=32, momentum=0.9, weight_decay=0.1, ratio=0.25)])
    moved = sum(int((after.params[n] != p).sum()) for n, p in before.params.items())
    assert 0.99 * 0.25 < moved / before.flat().shape[1] <= 0.25


def test_a_replica_gets_the_same_bits_next_to_other_ratios() -> None:
    stack, params = toy_model(3), [quick(SALUN, batch=32, ratio=ratio) for ratio in (0.9, 0.2, 0.5)]
    together = unlearn(SALUN, stack, [1, 2, 3], params)
    alone = unlearn(SALUN, stack.like([stack.state_of(1)]), [2], params[1:2])
    assert all(torch.equal(t, together.state_of(1)[n]) for n, t in alone.state_of(0).items())
