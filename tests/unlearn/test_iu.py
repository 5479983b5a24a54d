"""IU by hand: the exact inverse against a dense solve and against the true recursion, the released recursion word for word."""

import pytest
import torch
from torch import Tensor, nn

from engine import gradients, registry
from engine.data.loader import Splits
from engine.models.architecture import Architecture
from engine.models.catalogue import ARCHITECTURES
from engine.models.stack import Stack
from engine.runtime import PerReplica, Rng, Run
from engine.unlearn.iu import influence, inverse_fisher
from engine.unlearn.official.iu import released_step
from tests.unlearn.small import colour_splits
from tests.unlearn.test_contract import SPEC, quick, same, toy_model, unlearn
from tests.unlearn.test_steps import SEED, close, examples

IU, OFFICIAL = registry.get("iu"), registry.get("iu", "official")
LINEAR = Architecture("linear", label="", build=lambda channels, classes, side: nn.Sequential(nn.Flatten(), nn.Linear(channels * side * side, classes)),
                      fused=None, doc="", stem=(), blocks=(), head=("1",))  # 650 weights: a dense matrix is no trouble


def linear(replicas: int) -> Stack:
    return Stack.build(LINEAR, channels=1, classes=10, side=8, seeds=range(replicas), precision="fp64")


def row(module: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """The gradient of the mean cross-entropy, in one row."""
    grads = torch.autograd.grad(nn.functional.cross_entropy(module(x), y), list(module.parameters()))
    return torch.cat([g.flatten() for g in grads])


def step_of(module: nn.Module) -> Tensor:
    (x_f, y_f), (x_r, y_r) = examples("forget"), examples("retain")
    return len(y_f) / (len(y_f) + len(y_r)) * (row(module, x_f, y_f) - row(module, x_r, y_r))


def test_influence_is_the_weighted_difference_of_mean_gradients() -> None:
    before = toy_model(2, "loop", "fp64").eval()
    v = influence(before, Splits.of([SPEC] * 2, dtype=torch.float64))
    for r in range(2):
        torch.testing.assert_close(v[r], step_of(before[r].eval()), rtol=0, atol=1e-12)


@pytest.mark.parametrize("copies", [128, 7], ids=["one block", "blocks of 7"])
def test_the_inverse_is_a_dense_solves_and_the_true_recursions(copies: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gradients, "COPIES", copies)
    stack, counts, damping = linear(2), torch.tensor([30, 18]), [0.5, 0.02]
    x, y = next(Splits.of([SPEC] * 2, dtype=torch.float64).batches("retain", 30, Rng([1, 2])))
    v = torch.randn(2, 650, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    found = inverse_fisher(stack, x, y, counts, v, damping)
    for r, n in enumerate(counts.tolist()):
        g = torch.stack([row(stack[r], x[r, i : i + 1], y[r, i : i + 1]) for i in range(n)])
        dense = damping[r] * torch.eye(650, dtype=torch.float64) + g.T @ g / n
        torch.testing.assert_close(found[r], torch.linalg.solve(dense, v[r]), rtol=0, atol=1e-9)
        # Sherman and Morrison, one example after the other: F_m = F_{m-1} + g g^T / n
        inverse = torch.eye(650, dtype=torch.float64) / damping[r]
        for one in g:
            o = inverse @ one
            inverse -= torch.outer(o, o) / (n + one @ o)
        torch.testing.assert_close(found[r], inverse @ v[r], rtol=0, atol=1e-9)
    blocks = -(-30 // copies)
    assert stack.forward_images[0] == sum(len(range(i * copies, min(30, (i + 1) * copies))) * (blocks - i + 1) for i in range(blocks))


def test_the_whole_step_and_which_examples_it_takes() -> None:
    before, data = linear(1), Splits.of([SPEC], dtype=torch.float64)
    x, y = next(data.batches("retain", 12, Rng([SEED])))
    g = torch.stack([row(before[0], x[0, i : i + 1], y[0, i : i + 1]) for i in range(12)])
    fisher = 0.1 * torch.eye(650, dtype=torch.float64) + g.T @ g / 12
    expected = before.flat()[0] + 0.7 * torch.linalg.solve(fisher, step_of(before[0]))
    params = IU.params.from_dict({"alpha": 0.7, "samples": 12, "damping": 0.1}, "iu")
    after = unlearn(IU, before, [SEED], [params])
    torch.testing.assert_close(after.flat()[0], expected, rtol=0, atol=1e-10)
    assert not same(after, unlearn(IU, before, [SEED + 1], [params]))


def test_both_executors_agree_on_a_network_with_batch_norm() -> None:
    loop = toy_model(2, "loop", "fp64")
    fused = Stack(loop.architecture, loop.template, [loop.state_of(r) for r in range(2)], executor="fused", precision="fp64")
    for m in (IU, OFFICIAL):
        a, b = (unlearn(m, stack, [1, 2], [quick(m, samples=20)] * 2) for stack in (loop, fused))
        torch.testing.assert_close(a.flat(), b.flat(), rtol=0, atol=1e-12)
        assert all(torch.equal(t, a.buffers[n]) for n, t in loop.buffers.items())


def test_a_replica_gets_the_same_bits_next_to_one_of_more_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gradients, "COPIES", 16)
    stack, params = toy_model(3), [quick(IU, samples=s, damping=d) for s, d in ((40, 1.0), (20, 0.1), (1, 0.01))]
    together = unlearn(IU, stack, [1, 2, 3], params)
    for r in range(3):
        alone = unlearn(IU, stack.like([stack.state_of(r)]), [r + 1], params[r : r + 1])
        assert torch.equal(alone.flat()[0], together.flat()[r])
        assert (alone.forward_images[0], alone.backward_images[0]) == (together.forward_images[r], together.backward_images[r])


@pytest.mark.parametrize("copies", [128, 7], ids=["one block", "blocks of 7"])
def test_official_is_the_released_recursion(copies: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gradients, "COPIES", copies)
    monkeypatch.setattr("engine.unlearn.official.iu.SAMPLES", 25)
    before = toy_model(precision="fp64")
    plain = before[0].eval()
    (x, y), v = examples("retain"), step_of(plain)
    o, k = None, v.clone()
    for i in range(25):
        g = row(plain, x[i : i + 1], y[i : i + 1])
        if o is None:
            o = g
        else:
            t = o @ g
            k = k - (k @ g) / (1000 + t) * o
            o = o * (1 - t / (1000 + t))
    found = released_step(before.copy().eval(), Splits.of([SPEC], dtype=torch.float64), v.unsqueeze(0))
    torch.testing.assert_close(found[0], k, rtol=0, atol=1e-12)
    after = unlearn(OFFICIAL, before, [SEED], [OFFICIAL.params.from_dict({"alpha": 0.3}, "iu")])
    flat, moved = before.flat()[0], {}
    for name, p in plain.named_parameters():
        moved[name], k, flat = p.detach() + 0.3 * k[: p.numel()].view(p.shape), k[p.numel() :], flat[p.numel() :]
    close(after, moved)


@pytest.mark.parametrize("name", ["resnet18", "tinyvit11m"])
def test_large_networks(name: str) -> None:
    """Every parameter has its part in the rows, attention biases, too."""
    data = colour_splits(retain=2)
    stack = Stack.build(ARCHITECTURES[name], channels=3, classes=3, side=32, seeds=[0]).eval()
    (x, y), = data.ordered("retain", 2)
    rows, plain = gradients.Copies(stack).rows(x, y), stack[0].eval()
    for i in range(2):
        expected = row(plain, x[0, i : i + 1], y[0, i : i + 1])
        torch.testing.assert_close(rows[0, i], expected, rtol=0, atol=1e-5 * expected.abs().max().item())
    after = IU.run(stack, data.restricted(IU.reads), PerReplica([IU.params()]), Run(Rng([SEED])))
    assert bool(after.finite().all()) and not same(after, stack)
