"""BT by hand: who teaches what, two steps of Adam, and how the released one differs."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from engine import registry
from engine.data.loader import Splits
from engine.errors import DataError
from engine.models.catalogue import ARCHITECTURES
from engine.models.stack import Stack
from engine.registry import Method
from engine.runtime import PerReplica, Rng, Run
from tests.unlearn.small import colour_splits
from tests.unlearn.test_contract import SPEC, quick, toy_model, unlearn
from tests.unlearn.test_steps import SEED, close, examples

BT, OFFICIAL = registry.get("bt"), registry.get("bt", "official")


def by_hand(before: Stack, bad: nn.Module, forget: Tensor, retain: Tensor, share: float) -> dict[str, Tensor]:
    """Two epochs of one batch each; the loss is `share` of the batch-mean KL."""
    plain, good, heat = before[0].train(), before[0].eval(), 2.0
    opt = torch.optim.Adam(plain.parameters(), lr=1e-3, weight_decay=0.1)
    x = torch.cat([forget, retain])
    with torch.no_grad():
        target = F.softmax(torch.cat([bad.eval()(forget), good(retain)]) / heat, 1)
    for _ in range(2):
        opt.zero_grad()
        (share * F.kl_div(F.log_softmax(plain(x) / heat, 1), target, reduction="batchmean")).backward()
        opt.step()
    return plain.state_dict()


def made(m: Method, before: Stack, data: Splits) -> Stack:
    params = m.params.from_dict({"lr": 1e-3, "weight_decay": 0.1, "epochs": 2, "batch": 1000, "temperature": 2.0}, "bt")
    return m.run(before, data.restricted(m.reads), PerReplica([params]), Run(Rng([SEED])))


def fresh(name: str, channels: int, classes: int, side: int) -> nn.Module:
    seed, = Rng([SEED]).for_purpose("teacher").seeds
    return Stack.build(ARCHITECTURES[name], channels=channels, classes=classes, side=side, seeds=[seed], precision="fp64")[0]


def test_forget_imitates_a_fresh_network_and_retain_the_original() -> None:
    before = toy_model(precision="fp64")
    (forget, _), (retain, _) = examples("forget"), examples("retain")
    after = made(BT, before, Splits.of([SPEC], dtype=torch.float64))
    close(after, by_hand(before, fresh("cnn", 1, 10, 8), forget, retain, share=1.0))
    images = 2 * (len(forget) + len(retain))
    assert (after.forward_images.item(), after.backward_images.item()) == (3 * images, images)


@pytest.mark.parametrize(("m", "bad", "share"), [(BT, "cnn", 1.0), (OFFICIAL, "resnet18", 1 / 3)], ids=["corrected", "official"])
def test_officially_the_fresh_network_is_a_resnet_and_the_loss_a_mean_over_classes_too(m: Method, bad: str, share: float) -> None:
    data = colour_splits(dtype=torch.float64)
    before = Stack.build(ARCHITECTURES["cnn"], channels=3, classes=3, side=32, seeds=[0], precision="fp64")
    (forget, _), = data.ordered("forget", 10)
    (retain, _), = data.ordered("retain", 10)
    close(made(m, before, data), by_hand(before, fresh(bad, 3, 3, 32), forget[0], retain[0], share))


def test_official_says_which_images_its_resnet_takes() -> None:
    with pytest.raises(DataError, match="resnet18 needs images of 3 channels and 32 pixels"):
        made(OFFICIAL, toy_model(precision="fp64"), Splits.of([SPEC], dtype=torch.float64))


def test_each_replica_has_a_bad_teacher_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    built: list[Stack] = []
    build: Callable[..., Stack] = Stack.build

    def remembered(*args: object, **options: object) -> Stack:
        built.append(build(*args, **options))
        return built[-1]

    before = toy_model(2)
    monkeypatch.setattr(Stack, "build", remembered)
    unlearn(BT, before, [1, 2], [quick(BT, batch=1000, epochs=1)] * 2)
    bad, = built
    assert not bad.training and not torch.equal(bad.params["conv1.weight"][0], bad.params["conv1.weight"][1])


def test_official_gives_a_replica_the_same_bits_alone_and_in_a_stack() -> None:
    data = colour_splits(2, retain=6, forget=4)
    before = Stack.build(ARCHITECTURES["cnn"], channels=3, classes=3, side=32, seeds=[0, 1])
    params = [quick(OFFICIAL, epochs=e) for e in (2, 1)]
    together = OFFICIAL.run(before, data, PerReplica(params), Run(Rng([1, 2])))
    alone = OFFICIAL.run(before.like([before.state_of(1)]), colour_splits(1, retain=6, forget=4), PerReplica(params[1:]), Run(Rng([2])))
    assert all(torch.equal(t, together.state_of(1)[n]) for n, t in alone.state_of(0).items())
