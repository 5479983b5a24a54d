"""FF by hand: the Fisher information example by example, the noise it allows, and how the released one differs."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from engine import gradients, registry
from engine.data.loader import Splits
from engine.data.splits import DataSpec
from engine.models.catalogue import ARCHITECTURES
from engine.models.stack import Stack
from engine.registry import Method
from engine.runtime import PerReplica, Rng, Run
from engine.unlearn.ff import fisher_diagonal, variance
from engine.unlearn.official.ff import fisher_of_batches
from tests.unlearn.small import colour_splits
from tests.unlearn.test_contract import toy_model
from tests.unlearn.test_steps import SEED

FF, OFFICIAL = registry.get("ff"), registry.get("ff", "official")
TINY = DataSpec("digits", "seeds", pool=20, forget=0)  # 15 retain examples


def squares(plain: nn.Module, batches: list[Tensor]) -> dict[str, Tensor]:
    """Mean over batches of sum_k mean(p_k) * (gradient of the batch's mean CE to class k)^2."""
    total = {n: torch.zeros_like(p) for n, p in plain.named_parameters()}
    for x in batches:
        share = plain(x).softmax(1).mean(0).detach()
        for k, p in enumerate(share):
            loss = F.cross_entropy(plain(x), torch.full((len(x),), k))
            for name, grad in zip(total, torch.autograd.grad(loss, list(plain.parameters()), materialize_grads=True), strict=True):
                total[name] += p * grad**2 / len(batches)
    return total


@pytest.mark.parametrize("executor", ["loop", "fused"])
def test_fisher_is_made_of_single_examples(executor: str, monkeypatch: pytest.MonkeyPatch) -> None:
    before, data = toy_model(2, executor, "fp64").eval(), Splits.of([TINY] * 2, dtype=torch.float64)
    (x, _), = data.ordered("retain", 100)
    expected = [squares(before[r].eval(), list(x[0].split(1))) for r in range(2)]
    for copies in (128, 4):  # all 15 at once, or in blocks of which the last is smaller
        monkeypatch.setattr(gradients, "COPIES", copies)
        for name, fisher in fisher_diagonal(before, data).items():
            for r in range(2):
                torch.testing.assert_close(fisher[r], expected[r][name], rtol=1e-9, atol=1e-15)
    assert before.forward_images.tolist() == [30, 30] and before.backward_images.tolist() == [300, 300]


@pytest.mark.parametrize("name", ["resnet18", "tinyvit11m"])
def test_fisher_on_large_networks(name: str) -> None:
    """Attention biases have their part, too."""
    data = colour_splits(retain=1, dtype=torch.float64)
    stack = Stack.build(ARCHITECTURES[name], channels=3, classes=3, side=32, seeds=[0], precision="fp64").eval()
    (x, _), = data.ordered("retain", 10)
    fisher, expected = fisher_diagonal(stack, data), squares(stack[0].eval(), list(x[0].split(1)))
    for key, value in expected.items():
        torch.testing.assert_close(fisher[key][0], value, rtol=1e-7, atol=1e-14)
    assert any(bool(fisher[n].any()) for n in fisher if "attention_biases" in n) == (name == "tinyvit11m")


def test_officially_fisher_is_made_of_batch_means_and_so_of_the_batch_size() -> None:
    before, data = toy_model(1, "loop", "fp64").eval(), Splits.of([TINY], dtype=torch.float64)
    sums = [fisher_diagonal(before.copy(), data)["conv3.weight"].sum()]
    for batch in (4, 8):
        parts = [x[0] for x, _ in data.batches("retain", batch, Rng([SEED]))]
        expected = squares(before[0].eval(), parts)
        found = fisher_of_batches(before, data, batch, Rng([SEED]))
        for name, value in expected.items():
            torch.testing.assert_close(found[name][0], value, rtol=1e-9, atol=1e-15)
        sums.append(found["conv3.weight"].sum())
    assert before.forward_images.tolist() == [30] and before.backward_images.tolist() == [300]
    assert sums[0] > 1.02 * sums[1] > 1.04 * sums[2]


def test_variance_by_hand() -> None:
    fisher = torch.tensor([[0.0, 1e-2], [1e-4, 0.5]], dtype=torch.float64)
    for head, clamp, factor in ((False, 1e3, 1), (True, 1e2, 10)):
        each = torch.tensor([[min(1 / (f + 1e-8), clamp) for f in row] for row in fisher.tolist()], dtype=torch.float64)
        rows = 0.3 * factor * each.mean(1, keepdim=True).expand(2, 2)
        torch.testing.assert_close(variance(fisher, 0.3, head), rows)
        torch.testing.assert_close(variance(fisher[0], 0.3, head), 0.3 * 10 * each[0])


@pytest.mark.parametrize("m", [FF, OFFICIAL], ids=["corrected", "official"])
def test_noise_has_that_variance_and_nothing_else_changes(m: Method) -> None:
    before, data = toy_model(2, "loop", "fp64"), Splits.of([TINY] * 2, dtype=torch.float64)
    given = {"alpha": 1e-3} if m is FF else {"alpha": 1e-3, "batch": 100}
    rng = Rng([3, 4])
    after = m.run(before, data.restricted(m.reads), PerReplica([m.params.from_dict(given, "ff")] * 2), Run(Rng([3, 4])))
    fisher = fisher_diagonal(before.copy().eval(), data) if m is FF else fisher_of_batches(before.copy().eval(), data, 100, rng)
    for name, weight in before.params.items():
        for r, generator in enumerate(rng.generators):
            noise = torch.randn(weight.shape[1:], generator=generator).double()
            expected = weight[r] + variance(fisher[name][r], 1e-3, name.startswith("fc.")).sqrt() * noise
            torch.testing.assert_close(after.params[name][r], expected, rtol=1e-9, atol=1e-12)
    assert all(torch.equal(t, after.buffers[n]) for n, t in before.buffers.items())


@pytest.mark.parametrize(("m", "where", "more"), [(FF, "ff", set()), (OFFICIAL, "official.ff", {"conv1.weight", "bn1.weight", "bn1.bias"})])
def test_the_head_is_the_architectures_but_officially_all_that_is_as_long_as_there_are_classes(
        m: Method, where: str, more: set[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """With 16 classes the CNN's first block of 16 channels is taken for a head."""
    heads: list[set[str]] = []
    monkeypatch.setattr(f"engine.unlearn.{where}.add_noise", lambda student, fisher, head, alpha, rng: heads.append(set(head)))
    before = Stack.build(ARCHITECTURES["cnn"], channels=3, classes=16, side=32, seeds=[0])
    m.run(before, colour_splits(retain=1, classes=16).restricted(m.reads), PerReplica([m.params()]), Run(Rng([SEED])))
    assert heads == [{"fc.weight", "fc.bias"} | more]
