"""CF-k by hand: who is trained, the pull towards the start, the step schedule."""

import torch
from torch import nn

from engine import registry
from engine.data.loader import Splits
from engine.models.catalogue import ARCHITECTURES
from engine.models.parts import last_blocks, training_only
from engine.models.stack import Stack
from engine.runtime import PerReplica, Rng, Run
from engine.steps import descend_tethered, stepwise
from tests.unlearn.test_contract import SPEC, quick, toy_model, unlearn
from tests.unlearn.test_steps import close, examples

CF_K = registry.get("cf_k")


def tethered(plain: nn.Module, trained: list[str], *, steps: int, lr: float, pull: float) -> dict[str, torch.Tensor]:
    """Plain torch: steps on all of retain down CE + (pull / 2) * ||w - w_start||^2, moving only these parameters."""
    x, y = examples("retain")
    weights = {n: plain.get_parameter(n) for n in trained}
    start = {n: w.detach().clone() for n, w in weights.items()}
    opt = torch.optim.SGD(weights.values(), lr=lr)
    for _ in range(steps):
        opt.zero_grad()
        distance = sum(((w - start[n]) ** 2).sum() for n, w in weights.items())
        (nn.functional.cross_entropy(plain(x), y) + pull / 2 * distance).backward()
        opt.step()
    return {n: t.detach() for n, t in plain.state_dict().items() if "tracked" not in n}


def test_steps_equal_the_formula_with_frozen_statistics() -> None:
    before = toy_model(precision="fp64")
    params = CF_K.params.from_dict({"lr": 0.05, "epochs": 2, "batch": 1000, "k": 1, "pull": 3.0}, "cf_k")
    after = unlearn(CF_K, before, [5], [params])
    trained = ["conv3.weight", "bn3.weight", "bn3.bias", "fc.weight", "fc.bias"]
    close(after, tethered(before[0].eval(), trained, steps=2, lr=0.05, pull=3.0))
    for name, t in before.state().items():
        assert torch.equal(after.state()[name], t) == (name not in trained), name
    assert all(p.requires_grad for p in after.params.values())


def test_each_replica_trains_its_own_number_of_blocks() -> None:
    masks = last_blocks(toy_model(3), torch.tensor([1.0, 2.0, 10.0]))
    assert list(masks)[:2] == ["fc.weight", "fc.bias"], "the head comes first"
    for name, chosen in {"fc.bias": [1, 1, 1], "bn3.weight": [1, 1, 1], "conv2.weight": [0, 1, 1], "bn1.bias": [0, 0, 1]}.items():
        assert masks[name].shape == toy_model(3).params[name].shape
        assert masks[name].flatten(1).all(1).tolist() == masks[name].flatten(1).any(1).tolist() == [bool(c) for c in chosen]


def test_names_that_no_replica_trains_get_no_gradient() -> None:
    stack = toy_model(2)
    masks = last_blocks(stack, torch.tensor([1.0, 2.0]))
    with training_only(stack, masks):
        assert {n for n, p in stack.params.items() if not p.requires_grad} == {"conv1.weight", "bn1.weight", "bn1.bias"}
        stack(torch.zeros(2, 3, 1, 8, 8)).sum().backward()
    assert stack.params["conv1.weight"].grad is None and stack.params["conv2.weight"].grad is not None
    assert all(p.requires_grad for p in stack.params.values())


def test_resnet_keeps_its_stem_whatever_k() -> None:
    stack = Stack.build(ARCHITECTURES["resnet18"], channels=3, classes=10, side=32, seeds=[0])
    assert {n.split(".")[0] for n in last_blocks(stack, torch.tensor([1.0]))} == {"layer4", "fc"}
    assert list(last_blocks(stack, torch.tensor([4.0]))) == list(last_blocks(stack, torch.tensor([10.0])))
    assert set(stack.params) - set(last_blocks(stack, torch.tensor([10.0]))) == {"conv1.weight", "bn1.weight", "bn1.bias"}


def test_the_rate_falls_after_half_eight_and_nine_tenths() -> None:
    lr, decay, total = torch.tensor([1.0, 2.0]), torch.tensor([0.1, 0.5]), torch.tensor([10.0, 3.0])
    rates = torch.stack([stepwise(lr, decay, e, total) for e in range(10)])
    torch.testing.assert_close(rates[:, 0], torch.tensor([1, 1, 1, 1, 1, 1, 0.1, 0.1, 0.1, 0.01]))  # beyond 5, 8 and 9
    torch.testing.assert_close(rates[:3, 1], torch.tensor([2.0, 2.0, 1.0]))  # beyond 1; not yet beyond 2, which counts twice


def test_the_decay_of_the_rate_acts() -> None:
    made = {}
    for decay in (0.0, 1.0):
        data, before = Splits.of([SPEC]), toy_model()
        params = CF_K.params.from_dict({"epochs": 3, "batch": 32, "lr_decay": decay}, "cf_k")
        made[decay] = descend_tethered(before.eval(), data, last_blocks(before, torch.ones(1)), PerReplica([params]), Run(Rng([0])))
    assert not torch.equal(made[0.0].params["fc.weight"], made[1.0].params["fc.weight"])


def test_a_replica_gets_the_same_bits_next_to_one_that_trains_more() -> None:
    stack, params = toy_model(3), [quick(CF_K, batch=32, k=k, lr_decay=d) for k, d in ((3, 0.5), (1, 0.1), (2, 0.9))]
    together = unlearn(CF_K, stack, [1, 2, 3], params)
    alone = unlearn(CF_K, stack.like([stack.state_of(1)]), [2], params[1:2])
    assert all(torch.equal(t, together.state_of(1)[n]) for n, t in alone.state_of(0).items())
