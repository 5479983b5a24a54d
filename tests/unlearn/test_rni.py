"""RNI by hand: the fresh head, the nine tensors, the noise and its schedule, two epochs of steps."""

import dataclasses

import torch
from torch import Tensor, nn

from engine import registry
from engine.models.architecture import Architecture
from engine.models.catalogue import ARCHITECTURES
from engine.models.parts import reset_to_default
from engine.models.stack import Stack
from engine.runtime import Rng
from engine.unlearn.rni import norm_tensors, trained_now
from tests.unlearn.test_contract import quick, same, toy_model, unlearn
from tests.unlearn.test_steps import SEED, close, examples

RNI, OFFICIAL = registry.get("rni"), registry.get("rni", "official")


class Deep(nn.Module):
    """Fifteen tensors outside norm layers, and norm layers of three kinds of name."""

    def __init__(self, channels: int, classes: int, side: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, 8, 8, bias=False)
        self.bn1 = nn.BatchNorm2d(8)
        self.downsample = nn.Sequential(nn.Conv2d(8, 8, 1, bias=False), nn.BatchNorm2d(8))
        self.norm = nn.LayerNorm(8)
        self.layers = nn.Sequential(*[nn.Linear(8, 8) for _ in range(6)])
        self.fc = nn.Linear(8, classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.layers(self.norm(self.downsample(self.bn1(self.conv1(x))).flatten(1))))


DEEP = Architecture("deep", label="", build=Deep, fused=None, doc="", stem=("conv1",), blocks=(("layers",),), head=("fc",))
NORMS = {"bn1.weight", "bn1.bias", "downsample.1.weight", "downsample.1.bias", "norm.weight", "norm.bias"}


def deep(replicas: int = 1) -> Stack:
    return Stack.build(DEEP, channels=1, classes=10, side=8, seeds=range(replicas))


def with_fresh_head(stack: Stack, seeds: list[int]) -> Stack:
    made = stack.copy()
    reset_to_default(made, ["fc"], Rng(seeds).generators)
    return made


def moved(before: Stack, after: Stack) -> list[set[str]]:
    return [{n for n, p in before.params.items() if not torch.equal(p[r], after.params[n][r])} for r in range(before.replicas)]


def test_norm_tensors_are_found_by_kind_and_officially_by_name() -> None:
    assert norm_tensors(deep()) == NORMS
    resnet = Stack.build(ARCHITECTURES["resnet18"], channels=3, classes=10, side=32, seeds=[0])
    named = {n for n in resnet.params if "bn" in n}
    missed = {f"layer{i}.0.downsample.1.{kind}" for i in (2, 3, 4) for kind in ("weight", "bias")}
    assert norm_tensors(resnet) - named == missed and named < norm_tensors(resnet) and len(norm_tensors(resnet)) == 40


def test_nine_tensors_and_the_norm_layers_move_each_replica_by_its_own_draw() -> None:
    before, seeds = deep(3), [1, 2, 3]
    start = with_fresh_head(before, seeds)
    others = sorted(set(before.params) - NORMS)
    seen = []
    for m, norms in ((RNI, NORMS), (OFFICIAL, {"bn1.weight", "bn1.bias"})):
        changed = moved(start, unlearn(m, before, seeds, [m.params.from_dict({"epochs": 1, "fine_epochs": 0, "lr": 0.1, "batch": 1000}, "rni")] * 3))
        assert all(norms <= names and len(names - norms) == 9 for names in changed)
        assert len({frozenset(names) for names in changed}) == 3
        seen.append(set().union(*(names - norms for names in changed)))
    assert seen[0] <= set(others) and not seen[1] <= set(others), "officially the other norm layers are drawn, too"


def test_the_mask_is_everything_where_fine_and_else_the_lowest_nine() -> None:
    stack = deep(2)
    others = [n for n in stack.params if n not in NORMS]
    rank = {name: torch.tensor([i, len(others) - 1 - i]) for i, name in enumerate(others)}
    mask = trained_now(stack, rank, torch.tensor([False, False]))
    assert {n for n in others if bool(mask[n][0].all())} == set(others[:9]) and {n for n in others if bool(mask[n][1].all())} == set(others[-9:])
    assert all(bool(mask[n].all()) for n in NORMS) and not bool(mask[others[-1]][0].any())
    mask = trained_now(stack, rank, torch.tensor([True, False]))
    assert all(bool(m[0].all()) for m in mask.values()) and not all(bool(m[1].all()) for m in mask.values())


def test_noise_goes_to_its_share_of_the_nine_after_the_reset_epochs() -> None:
    before, seeds = deep(3), [1, 2, 3]
    start = with_fresh_head(before, seeds)
    still = {"epochs": 2, "fine_epochs": 0, "lr": 0.0, "batch": 1000, "sigma": 0.3}
    runs = [still | {"reset_epochs": 2}, still | {"reset_epochs": 1, "noise_share": 0.7}, still | {"reset_epochs": 1, "noise_share": 0.3}]
    after = unlearn(RNI, before, seeds, [RNI.params.from_dict(p, "rni") for p in runs])
    changed = moved(start, after)
    assert [len(names) for names in changed] == [0, 6, 2] and not changed[1] & NORMS  # floor(9 * 0.7), floor(9 * 0.3)
    noise = torch.cat([(after.params[n] - start.params[n])[1].flatten() for n in changed[1]])
    assert abs(noise.std().item() / 0.3 - 1) < 5 / (2 * len(noise)) ** 0.5 and bool((noise != 0).all())


def test_with_fewer_than_nine_tensors_noise_goes_to_that_share_of_them() -> None:
    before = toy_model()
    still = {"epochs": 1, "fine_epochs": 0, "reset_epochs": 0, "lr": 0.0, "batch": 1000, "noise_share": 0.7}
    assert len(moved(with_fresh_head(before, [4]), unlearn(RNI, before, [4], [RNI.params.from_dict(still, "rni")]))[0]) == 3  # floor(5 * 0.7)


def test_steps_equal_the_formula_and_momentum_starts_anew_each_epoch() -> None:
    before, (x, y) = toy_model(precision="fp64"), examples("retain")
    plain = with_fresh_head(before, [SEED])[0].train()
    for lr, momentum, decay in ((0.01, 0.9, 0.1), (0.02, 0.5, 0.2)):  # all five tensors are drawn, so both epochs train everything
        opt = torch.optim.SGD(plain.parameters(), lr=lr, momentum=momentum, weight_decay=decay)
        nn.functional.cross_entropy(plain(x), y).backward()
        opt.step()
        opt.zero_grad()
    params = {"epochs": 2, "fine_epochs": 1, "reset_epochs": 1, "batch": 1000, "lr": 0.01, "momentum": 0.9, "weight_decay": 0.1,
              "fine_lr": 0.02, "fine_momentum": 0.5, "fine_weight_decay": 0.2}
    after = unlearn(RNI, before, [SEED], [RNI.params.from_dict(params, "rni")])
    close(after, {n: t.detach() for n, t in plain.state_dict().items() if "tracked" not in n})


def test_each_hyper_parameter_acts_where_there_are_epochs_for_it() -> None:
    before, base = toy_model(), quick(RNI, batch=64, epochs=3, fine_epochs=1, reset_epochs=1)
    reference = unlearn(RNI, before, [0], [base])
    for name, other in {"lr": 1e-3, "momentum": 0.1, "weight_decay": 0.1, "fine_epochs": 2, "reset_epochs": 0, "noise_share": 0.3, "sigma": 0.1,
                        "fine_lr": 1e-3, "fine_momentum": 0.1, "fine_weight_decay": 0.1}.items():
        assert not same(reference, unlearn(RNI, before, [0], [dataclasses.replace(base, **{name: other})])), name


def test_a_replica_gets_the_same_bits_next_to_other_phases() -> None:
    stack = deep(3)
    params = [quick(RNI, batch=32, epochs=e, fine_epochs=f, reset_epochs=r, noise_share=s) for e, f, r, s in ((2, 2, 0, 1.0), (3, 1, 1, 0.5), (4, 0, 0, 0.2))]
    together = unlearn(RNI, stack, [1, 2, 3], params)
    alone = unlearn(RNI, stack.like([stack.state_of(1)]), [2], params[1:2])
    assert all(torch.equal(t, together.state_of(1)[n]) for n, t in alone.state_of(0).items())
