"""KDE by hand: what is reset, on what the first phase distils, a step of each phase."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from engine import registry
from engine.data.loader import Splits
from engine.models.catalogue import ARCHITECTURES
from engine.models.parts import reset_to_default
from engine.models.stack import Stack
from engine.registry import Method
from engine.runtime import PerReplica, Rng, Run
from engine.unlearn.kde import divided
from tests.unlearn.small import colour_splits
from tests.unlearn.test_contract import SPEC, quick, toy_model, unlearn
from tests.unlearn.test_steps import SEED, close, examples

KDE, OFFICIAL = registry.get("kde"), registry.get("kde", "official")
STILL = {"lr": 0.0, "momentum": 0.0, "weight_decay": 0.0, "retain_lr": 0.0, "retain_momentum": 0.0, "retain_weight_decay": 0.0}


def test_a_random_tenth_of_retain_is_held_out_for_each_replica() -> None:
    data = Splits.of([SPEC] * 2).restricted(KDE.reads)
    parts, n = divided(data, Rng([1, 2])), data.size("retain")
    held, rest = parts.index("held out"), parts.index("retain")
    assert held.shape[1] == n // 10 and held.shape[1] < Splits.of([SPEC]).size("val")
    for r in range(2):
        assert sorted([*held[r].tolist(), *rest[r].tolist()]) == sorted(data.index("retain")[r].tolist())
    assert not torch.equal(held[0], held[1])
    assert torch.equal(data.index("retain"), Splits.of([SPEC] * 2).index("retain")), "the data it was given was changed"


@pytest.mark.parametrize("m", [KDE, OFFICIAL], ids=["corrected", "official"])
def test_two_epochs_of_each_phase_equal_the_formula(m: Method) -> None:
    before, heat = toy_model(precision="fp64"), 4.0
    teacher, start = before[0].eval(), before.copy().train()
    reset_to_default(start, ["conv1", "fc"], Rng([SEED]).generators)
    plain = start[0]
    parts = divided(Splits.of([SPEC], dtype=torch.float64), Rng([SEED]))
    (unseen, _), = parts.ordered("held out", 1000)
    (x, y), = parts.ordered("retain", 1000)
    unseen, x, y = (unseen[0], x[0], y[0]) if m is KDE else (examples("val")[0], *examples("retain"))

    def distance(x: Tensor, logits: Tensor) -> Tensor:
        return F.kl_div(F.log_softmax(logits / heat, 1), F.softmax(teacher(x) / heat, 1).detach(), reduction="batchmean")

    opt = torch.optim.SGD(plain.parameters(), lr=0.02, momentum=0.9, weight_decay=1e-3)
    for _ in range(2):
        opt.zero_grad()
        distance(unseen, plain(unseen)).backward()
        opt.step()
    opt = torch.optim.SGD(plain.parameters(), lr=0.01, momentum=0.8, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(opt, T_max=2)
    for _ in range(2):
        opt.zero_grad()
        logits = plain(x)
        soft = -(F.softmax(teacher(x) / heat, 1).detach() * F.log_softmax(logits / heat, 1)).sum(1).mean()
        (soft + F.cross_entropy(logits, y) + distance(x, logits)).backward()
        opt.step()
        schedule.step()
    params = m.params.from_dict({"lr": 0.02, "momentum": 0.9, "weight_decay": 1e-3, "epochs": 2, "retain_lr": 0.01, "retain_momentum": 0.8,
                                 "retain_weight_decay": 1e-2, "retain_epochs": 2, "batch": 1000, "temperature": heat}, "kde")
    close(unlearn(m, before, [SEED], [params]), plain.state_dict())


@pytest.mark.parametrize(("m", "name", "fresh"), [
    (KDE, "resnet18", {"conv1.weight", "fc.weight", "fc.bias"}),
    (OFFICIAL, "resnet18", {"conv1.weight", "fc.weight", "fc.bias"}),
    (KDE, "tinyvit11m", {"patch_embed.conv1.conv.weight", "patch_embed.conv2.conv.weight", "head.fc.weight", "head.fc.bias"}),
    (OFFICIAL, "tinyvit11m", {"head.fc.weight", "head.fc.bias"}),
])
def test_stem_and_head_are_reset_but_officially_no_stem_of_another_name(m: Method, name: str, fresh: set[str]) -> None:
    before = Stack.build(ARCHITECTURES[name], channels=3, classes=3, side=32, seeds=[0])
    params = m.params.from_dict(STILL | {"epochs": 1, "retain_epochs": 1}, "kde")
    after = m.run(before, colour_splits(retain=30).restricted(m.reads), PerReplica([params]), Run(Rng([SEED])))
    assert {n for n, p in after.params.items() if not torch.equal(p, before.params[n])} == fresh
    for n in fresh:
        bound = before.params[n.replace("bias", "weight")][0, 0].numel() ** -0.5
        assert (0.9 if "weight" in n else 0) * bound < after.params[n].abs().max() <= bound


def test_a_replica_gets_the_same_bits_next_to_one_with_longer_phases() -> None:
    stack, params = toy_model(3), [quick(KDE, batch=32, epochs=e, retain_epochs=k) for e, k in ((1, 3), (3, 1), (2, 2))]
    together = unlearn(KDE, stack, [1, 2, 3], params)
    alone = unlearn(KDE, stack.like([stack.state_of(1)]), [2], params[1:2])
    assert all(torch.equal(t, together.state_of(1)[n]) for n, t in alone.state_of(0).items())
    assert together.forward_images[1] == alone.forward_images[0]
