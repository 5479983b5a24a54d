"""CFW by hand: class weights, where and when noise goes, one step of each variant."""

import pytest
import torch
from sklearn.utils.class_weight import compute_class_weight
from torch import nn

from engine import registry
from engine.data.loader import Splits
from engine.models.architecture import Architecture
from engine.models.catalogue import ARCHITECTURES
from engine.models.stack import Stack
from engine.runtime import Rng
from engine.steps import class_counts, weighted_ce
from engine.unlearn.cfw import balanced
from engine.unlearn.official.cfw import rescaled_ce
from tests.unlearn.test_contract import SPEC, quick, toy_model, unlearn
from tests.unlearn.test_steps import SEED, close, examples, stepped

CFW, OFFICIAL = registry.get("cfw"), registry.get("cfw", "official")
STILL = {"lr": 0.0, "momentum": 0.0, "weight_decay": 0.0, "batch": 1000}


def test_class_weights_are_sklearns_balanced_ones() -> None:
    labels = examples("retain")[1]
    counts = class_counts(Splits.of([SPEC], dtype=torch.float64), "retain")
    assert counts[0].tolist() == torch.bincount(labels, minlength=10).tolist()
    expected = compute_class_weight("balanced", classes=labels.unique().numpy(), y=labels.numpy())
    torch.testing.assert_close(balanced(counts)[0], torch.from_numpy(expected), rtol=1e-12, atol=0)


def test_a_class_that_does_not_occur_does_not_count() -> None:
    weight = balanced(torch.tensor([[6.0, 2.0, 0.0], [3.0, 3.0, 2.0]]))
    torch.testing.assert_close(weight[0, :2], torch.tensor([8 / 12, 8 / 4]))
    torch.testing.assert_close(weight[1], torch.tensor([8 / 9, 8 / 9, 8 / 6]))
    assert bool(weight.isfinite().all())


def test_the_loss_is_torchs_weighted_mean_and_the_official_one_a_rescaled_mean() -> None:
    chance = torch.Generator().manual_seed(0)
    logits, y = torch.randn(2, 7, 3, generator=chance, dtype=torch.float64), torch.tensor([[0, 0, 1, 2, 0, 1, 0], [2, 2, 2, 1, 0, 1, 2]])
    weight = torch.rand(2, 3, generator=chance, dtype=torch.float64) + 0.1
    mine, official = weighted_ce(logits, y, weight), rescaled_ce(logits, y, weight)
    for r in range(2):
        torch.testing.assert_close(mine[r], nn.CrossEntropyLoss(weight=weight[r])(logits[r], y[r]))
        torch.testing.assert_close(official[r], nn.CrossEntropyLoss()(logits[r], y[r]) * weight[r][y[r]].mean())


@pytest.mark.parametrize("official", [False, True])
def test_a_step_equals_the_formula(official: bool) -> None:
    before, (x, y) = toy_model(precision="fp64"), examples("retain")
    plain, noise = before[0].train(), Rng([SEED]).for_purpose("noise").generators[0]
    with torch.no_grad():
        for name in ("conv1.weight", "conv2.weight", "conv3.weight") if official else ("conv1.weight",):
            plain.get_parameter(name).add_(0.1 * torch.randn(plain.get_parameter(name).shape, generator=noise).double())
    weight = torch.from_numpy(compute_class_weight("balanced", classes=y.unique().numpy(), y=y.numpy()))
    loss = nn.functional.cross_entropy(plain(x), y) * weight[y].mean() if official else nn.functional.cross_entropy(plain(x), y, weight=weight)
    m = OFFICIAL if official else CFW
    params = m.params.from_dict(STILL | {"lr": 0.01, "epochs": 1, "sigma_1": 0.1}, "cfw")
    close(unlearn(m, before, [SEED], [params]), stepped(plain, loss, 0.01))


def test_noise_comes_before_training_and_before_the_last_of_several_epochs() -> None:
    before = toy_model(3)
    after = unlearn(CFW, before, [1, 2, 3], [CFW.params.from_dict(STILL | {"epochs": e, "sigma_1": 0.6, "sigma_2": 0.25}, "cfw") for e in (1, 2, 4)])
    for r, seed in enumerate((1, 2, 3)):
        noise, weight = Rng([seed]).for_purpose("noise").generators[0], before.params["conv1.weight"][r].detach().clone()
        weight += 0.6 * torch.randn(weight.shape, generator=noise)
        if r > 0:
            weight += 0.25 * torch.randn(weight.shape, generator=noise)
        assert torch.equal(after.params["conv1.weight"][r], weight)
        for name in set(before.params) - {"conv1.weight"}:
            assert torch.equal(after.params[name][r], before.params[name][r]), name


def test_noise_goes_to_any_stem_but_officially_to_direct_children_called_conv() -> None:
    class Nested(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed = nn.ModuleDict({"conv1": nn.Conv2d(1, 64, 8)})
            self.fc = nn.Linear(64, 10)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.fc(self.embed["conv1"](x).flatten(1))

    architecture = Architecture("nested", label="", build=lambda channels, classes, side: Nested(), fused=None, doc="", stem=("embed.conv1",),
                                blocks=(), head=("fc",))
    before = Stack.build(architecture, channels=1, classes=10, side=8, seeds=[0])
    still = CFW.params.from_dict(STILL | {"epochs": 1}, "cfw")
    corrected, official = unlearn(CFW, before, [0], [still]), unlearn(OFFICIAL, before, [0], [still])
    moved = corrected.params["embed.conv1.weight"] - before.params["embed.conv1.weight"]
    assert moved.std().item() == pytest.approx(0.6, rel=0.05)
    assert torch.equal(official.flat(), before.flat())


def test_on_resnet_both_variants_shake_the_stem_alone() -> None:
    stack = Stack.build(ARCHITECTURES["resnet18"], channels=3, classes=10, side=32, seeds=[0])
    assert stack.names(stack.architecture.stem) == ["conv1.weight"]
    assert [n for n, _ in stack.template.named_children() if "conv" in n] == ["conv1"]


def test_a_replica_gets_the_same_bits_next_to_other_noises() -> None:
    stack, params = toy_model(3), [quick(CFW, batch=32, epochs=e, sigma_1=s) for e, s in ((1, 0.5), (2, 0.0), (3, 0.1))]
    together = unlearn(CFW, stack, [1, 2, 3], params)
    alone = unlearn(CFW, stack.like([stack.state_of(1)]), [2], params[1:2])
    assert all(torch.equal(t, together.state_of(1)[n]) for n, t in alone.state_of(0).items())
