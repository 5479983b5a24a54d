"""ResNet-18 with the CIFAR stem: the network of the CIFAR papers, over a stack as one by one."""

import pytest
import torch
from torch import nn

from engine.errors import DataError
from engine.losses import ce
from engine.models.catalogue import get
from engine.models.stack import Stack

CIFAR = get("resnet18_cifar")


def test_the_stem_keeps_the_side_and_the_size_is_the_known_one() -> None:
    torch.manual_seed(0)
    network = CIFAR.build(3, 10, 32)
    assert sum(p.numel() for p in network.parameters()) == 11_173_962
    sides: list[int] = []
    for name in ("conv1", "layer1", "layer2", "layer3", "layer4"):
        network.get_submodule(name).register_forward_hook(lambda _, __, made: sides.append(made.shape[-1]))
    network.eval()(torch.zeros(1, 3, 32, 32))
    assert sides == [32, 32, 16, 8, 4]


def test_names_are_those_of_the_study_s_network_in_the_same_order() -> None:
    torch.manual_seed(0)
    ours, study = CIFAR.build(3, 10, 32), get("resnet18").build(3, 10, 32)
    assert list(ours.state_dict()) == list(study.state_dict())
    assert isinstance(ours.conv1, nn.Conv2d) and ours.conv1.weight.std().item() == pytest.approx((2 / (64 * 9)) ** 0.5, rel=0.1)


def test_fused_equals_loop_at_the_side_of_cifar() -> None:
    generator = torch.Generator().manual_seed(1)
    x, y = torch.randn(2, 2, 3, 32, 32, dtype=torch.float64, generator=generator), torch.randint(10, (2, 2), generator=generator)
    made = []
    for executor in ("loop", "fused"):
        stack = Stack.build(CIFAR, channels=3, classes=10, side=32, seeds=[0, 1], precision="fp64", executor=executor)
        logits = stack(x)
        ce(logits, y).sum().backward()
        made.append((logits.detach(), {name: p.grad for name, p in stack.params.items()}))
    torch.testing.assert_close(made[1][0], made[0][0], rtol=0, atol=1e-11)
    for name, gradient in made[0][1].items():
        torch.testing.assert_close(made[1][1][name], gradient, rtol=0, atol=1e-11, msg=lambda m, n=name: f"{n}: {m}")


@pytest.mark.parametrize(("channels", "side"), [(1, 32), (3, 7)])
def test_other_images_are_refused(channels: int, side: int) -> None:
    with pytest.raises(DataError, match=f"resnet18_cifar needs images of 3 channels and 8 pixels or more, got {channels} channels of {side} pixels"):
        CIFAR.build(channels, 10, side)
