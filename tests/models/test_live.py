"""Which weights can influence an output: against a count by geometry, and by setting the others to something absurd."""

import pytest
import torch
from torch import Tensor, nn

from engine.models.catalogue import get
from engine.models.live import LiveShare, live
from engine.models.stack import Stack


def dead(name: str, side: int, channels: int = 3) -> dict[str, int]:
    found = live(get(name), channels=channels, classes=10, side=side)
    return {key: int((~alive).sum()) for key, alive in found.items() if not alive.all()}


def taps_on_pixels(conv: nn.Conv2d, side: int) -> Tensor:
    """Which taps of a square kernel meet at least one real pixel of a square map."""
    kernel, stride, pad = conv.kernel_size[0], conv.stride[0], int(conv.padding[0])
    outputs = torch.arange((side + 2 * pad - kernel) // stride + 1)
    pixel = outputs[:, None] * stride + torch.arange(kernel) - pad
    meets = ((pixel >= 0) & (pixel < side)).any(0)
    return meets[:, None] & meets


@pytest.mark.parametrize(("name", "channels", "side"),
                         [("cnn", 1, 8), ("cnn", 3, 32), ("resnet18", 3, 32), ("resnet18", 3, 64), ("tinyvit11m", 3, 32)])
def test_live_taps_are_those_that_meet_a_pixel(name: str, channels: int, side: int) -> None:
    torch.manual_seed(0)
    network = get(name).build(channels, 10, side).eval()
    expected: dict[str, Tensor] = {}
    for key, conv in network.named_modules():
        if isinstance(conv, nn.Conv2d):
            conv.register_forward_hook(
                lambda m, seen, _, key=key: expected.update({f"{key}.weight": taps_on_pixels(m, seen[0].shape[-1]).expand_as(m.weight)}))
    network(torch.zeros(1, channels, side, side))
    found = live(get(name), channels=channels, classes=10, side=side)
    assert list(found) == [n for n, _ in network.named_parameters()]
    for key, alive in found.items():
        if key in expected:
            assert torch.equal(alive, expected.pop(key)), key
        elif key.endswith("qkv.bias"):  # a key's bias moves all logits of a query alike
            heads = len(network.get_parameter(key.replace("qkv.bias", "attention_biases")))
            assert torch.equal(alive.view(heads, 3, -1), torch.tensor([[True], [False], [True]]).expand(heads, 3, 32)), key
        else:
            assert alive.all(), key
    assert not expected


def test_the_study_s_resnet_has_62_percent_dead_weights_at_32_pixels() -> None:
    found = dead("resnet18", 32)
    assert found == {"layer4.0.conv1.weight": 512 * 256 * 5, "layer4.0.conv2.weight": 512 * 512 * 8,
                     "layer4.1.conv1.weight": 512 * 512 * 8, "layer4.1.conv2.weight": 512 * 512 * 8}
    assert sum(found.values()) == 6_946_816
    assert dead("resnet18", 64) == {}


def test_tinyvit_has_few() -> None:
    found = dead("tinyvit11m", 32)
    taps = {name: n for name, n in found.items() if name.endswith("conv.weight")}
    assert taps == {"stages.3.downsample.conv2.conv.weight": 448 * 5, "stages.3.blocks.0.local_conv.conv.weight": 448 * 8,
                    "stages.3.blocks.1.local_conv.conv.weight": 448 * 8}
    assert sum(found.values()) - sum(taps.values()) == 2 * 128 + 6 * 256 + 2 * 448  # one bias a key and channel


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("executor", ["loop", "fused"])
def test_dead_taps_set_to_1000_change_no_output_by_a_bit(executor: str, training: bool) -> None:
    alive = live(get("resnet18"), channels=3, classes=10, side=32)
    x = torch.randn(1, 6, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    stack = Stack.build(get("resnet18"), channels=3, classes=10, side=32, seeds=[0], executor=executor).train(training)
    with torch.no_grad():
        before = stack(x)
        for name, p in stack.params.items():
            p.masked_fill_(~alive[name], 1000.0)
        assert torch.equal(stack(x), before)
        stack.params["layer4.1.conv2.weight"][0, 0, 0, 1, 1] += 0.01  # a live one does
        assert not torch.equal(stack(x), before)


def test_dead_biases_of_keys_change_outputs_by_rounding_only() -> None:
    alive = live(get("tinyvit11m"), channels=3, classes=10, side=32)
    x = torch.randn(1, 4, 3, 32, 32, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    stack = Stack.build(get("tinyvit11m"), channels=3, classes=10, side=32, seeds=[0], precision="fp64").eval()
    with torch.no_grad():
        before = stack(x)
        for name, p in stack.params.items():
            p.masked_fill_(~alive[name], 10.0)
        torch.testing.assert_close(stack(x), before, rtol=1e-12, atol=1e-12)
        stack.params["stages.1.blocks.0.attn.qkv.bias"][0, 0] += 1.0  # the first query's does
        assert (stack(x) - before).abs().max() > 1e-6


def test_asking_draws_nothing_from_the_global_generator_and_is_remembered() -> None:
    before = torch.get_rng_state()
    first = live(get("cnn"), channels=3, classes=7, side=32)
    assert torch.equal(torch.get_rng_state(), before)
    assert live(get("cnn"), channels=3, classes=7, side=32) is first


def test_live_share_is_counted_per_replica_over_all_that_is_selected() -> None:
    alive = {"a": torch.tensor([True, False, False]), "b": torch.tensor([[True], [False]]), "c": torch.tensor([True])}
    mask = {"a": torch.tensor([[True, True, False], [False, True, True], [False, False, False]]),
            "b": torch.tensor([[[True], [False]], [[True], [False]], [[False], [False]]])}
    counted = LiveShare(alive, 3)
    counted(mask)
    torch.testing.assert_close(counted.share, torch.tensor([2 / 3, 1 / 3, torch.nan], dtype=torch.float64), equal_nan=True)
    counted({"a": torch.tensor([[True, False, False], [True, False, False], [False, True, False]])})
    torch.testing.assert_close(counted.share, torch.tensor([3 / 4, 2 / 4, 0.0], dtype=torch.float64))
