"""TinyViT-11M: the window attention without padding against timm's own module, and the network as the stack takes it."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from engine.errors import DataError
from engine.models.catalogue import get
from engine.models.stack import Stack
from engine.models.tinyvit import WindowAttention, build

Gradients = dict[str, Tensor]


def timms() -> nn.Module:
    from timm.models.tiny_vit import tiny_vit_11m_224

    return tiny_vit_11m_224(num_classes=10, drop_path_rate=0.1)


def drawn(make: Callable[[], nn.Module], seed: int = 0) -> nn.Module:
    """In float64, every parameter random: as initialised, the attention biases and the layer norms' are zero and hide mistakes."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        module = make().double()
        with torch.no_grad():
            for p in module.parameters():
                p.copy_(torch.randn_like(p) / (p[0].numel() ** 0.5 if p.dim() > 1 else 1))
    return module


def seen(network: nn.Module, x: Tensor, training: bool) -> tuple[Tensor, Gradients, Gradients]:
    """Logits, gradients by parameter (and image) of a random function of the logits, and statistics; stochastic depth from one seed."""
    x = x.clone().requires_grad_()
    network.train(training)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        logits = network(x)
        (logits * torch.randn_like(logits)).sum().backward()
    gradients = {name: p.grad for name, p in network.named_parameters()}
    return logits.detach(), gradients | {"image": x.grad}, dict(network.state_dict())


@pytest.fixture(scope="module")
def pair() -> tuple[nn.Module, nn.Module]:
    """timm's network and ours, of the same random weights."""
    theirs, ours = drawn(timms), build(3, 10, 32).double()
    ours.load_state_dict(theirs.state_dict())
    return theirs, ours


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("side", [32, 64])
def test_outputs_gradients_and_statistics_are_timms(pair: tuple[nn.Module, nn.Module], side: int, training: bool) -> None:
    x = torch.randn(3, 3, side, side, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    state = {name: t.clone() for name, t in pair[0].state_dict().items()}
    (logits, gradients, statistics), (ours, our_gradients, our_statistics) = (seen(network, x, training) for network in pair)
    torch.testing.assert_close(ours, logits, rtol=1e-11, atol=1e-11)
    assert list(our_gradients) == list(gradients)
    for name, gradient in gradients.items():
        torch.testing.assert_close(our_gradients[name], gradient, rtol=1e-9, atol=1e-11, msg=lambda m, n=name: f"{n}: {m}")
    for name, value in statistics.items():
        torch.testing.assert_close(our_statistics[name], value, rtol=1e-11, atol=1e-11)
    for network in pair:
        network.zero_grad()
        network.load_state_dict(state)


@pytest.mark.parametrize("grid", [(1, 1), (2, 2), (7, 7), (3, 7), (14, 7), (8, 8), (9, 15), (6, 16)])
def test_attention_over_any_grid_is_attention_over_padded_windows(grid: tuple[int, int]) -> None:
    from timm.models.tiny_vit import TinyVitBlock

    theirs = drawn(lambda: TinyVitBlock(dim=32, num_heads=2, window_size=7))
    theirs.local_conv, theirs.mlp = nn.Identity(), Nothing()  # what is left is x + attention
    ours = WindowAttention(theirs.attn)
    x = torch.randn(2, *grid, 32, dtype=torch.float64, generator=torch.Generator().manual_seed(1), requires_grad=True)
    weights = torch.randn(2, *grid, 32, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    made = []
    for attended in (theirs(x) - x, ours(x)):
        gradients = torch.autograd.grad((attended * weights).sum(), [x, *theirs.attn.parameters()])
        made.append((attended, *gradients))
    for expected, got in zip(*made, strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-10, atol=1e-11)


class Nothing(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.zeros_like(x)


def test_initial_weights_names_and_sizes_are_timms_and_the_studys() -> None:
    torch.manual_seed(5)
    theirs = timms().state_dict()
    torch.manual_seed(5)
    network = build(3, 10, 32)
    ours = network.state_dict()
    assert list(ours) == list(theirs) and all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert [name for name, _ in network.named_buffers()] == [name for name in ours if "running" in name or "batches" in name]
    parameters = dict(network.named_parameters())
    assert len(parameters) == 215 and sum(p.numel() for p in parameters.values()) == 10_552_462
    assert sum(p.numel() for name, p in parameters.items() if name.endswith("attention_biases")) == 11_172
    gains = [p for name, p in parameters.items() if name.startswith("stages.0") and name.endswith("conv3.bn.weight")]
    assert len(gains) == 2 and not any(g.any() for g in gains)
    for layer in (m for m in network.modules() if isinstance(m, nn.Linear)):
        assert layer.weight.std().item() == pytest.approx(0.02, rel=0.05) and not layer.bias.any()
    rates = [round(m.drop_prob, 4) for m in network.modules() if hasattr(m, "drop_prob")]
    assert rates == [round(0.1 * block / 11, 4) for block in range(1, 12) for _ in range(1 if block == 1 else 2)]


def test_the_anatomy_is_that_of_the_released_code() -> None:
    architecture = get("tinyvit11m")
    stack = Stack.build(architecture, channels=3, classes=10, side=32, seeds=[0])
    convolutions = stack.tensors("conv")
    assert sum(w.numel() for w in convolutions.values()) == 559_392
    assert sum(w.numel() for w in convolutions.values() if w.shape[-1] == 3) == 55_584
    assert {f"{name}.weight" for name in architecture.stem} <= set(convolutions)
    assert [stack.params[f"{name}.weight"].shape[1:] for name in architecture.stem] == [(32, 3, 3, 3), (64, 32, 3, 3)]
    assert stack.names(architecture.head) == ["head.fc.weight", "head.fc.bias"]
    blocks = [stack.names(block) for block in architecture.blocks]
    rest = [n for n in stack.params if n.split(".")[0] == "patch_embed" or n.startswith(("stages.0", "stages.1.downsample", "head"))]
    assert sorted([*rest, *blocks[0], *blocks[1], *blocks[2]]) == sorted(stack.params)
    assert all(name.startswith("stages.3.blocks") for name in blocks[2])
    assert set(stack.tensors("linear")) >= {"stages.1.blocks.0.attn.qkv.weight", "head.fc.weight"}
    assert set(stack.tensors("norm")) >= {"stages.1.blocks.0.attn.norm.weight", "head.norm.weight", "patch_embed.conv1.bn.weight"}


def test_stochastic_depth_draws_do_not_depend_on_the_neighbours() -> None:
    x = torch.randn(3, 8, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    together = Stack.build(get("tinyvit11m"), channels=3, classes=10, side=32, seeds=[0, 1, 2])
    together.seed_layers([10, 11, 12])
    alone = Stack.build(get("tinyvit11m"), channels=3, classes=10, side=32, seeds=[1])
    alone.seed_layers([11])
    with torch.no_grad():
        first, second = together(x), together(x)
        assert torch.equal(alone(x[1:2])[0], first[1])
        assert torch.equal(alone(x[1:2])[0], second[1])
    assert not torch.equal(first[1], second[1])


def test_biases_of_attention_learn_in_eval_mode_and_are_each_replicas_own() -> None:
    stack = Stack.build(get("tinyvit11m"), channels=3, classes=10, side=32, seeds=[0, 0]).eval()
    x = torch.randn(1, 4, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    name = "stages.1.blocks.0.attn.attention_biases"
    same = stack(x)
    assert torch.equal(same[0], same[1])
    same.square().sum().backward()
    assert stack.params[name].grad is not None and stack.params[name].grad.abs().amax((1, 2)).min() > 0
    with torch.no_grad():
        stack.params[name][1] += torch.randn(4, 49, generator=torch.Generator().manual_seed(2))
        moved = stack(x)
    assert torch.equal(moved[0], same[0]) and not torch.equal(moved[1], same[1])


@pytest.mark.parametrize(("channels", "side"), [(1, 32), (3, 28)])
def test_other_images_are_refused(channels: int, side: int) -> None:
    with pytest.raises(DataError, match=f"tinyvit11m needs images of 3 channels and 32 pixels or more, got {channels} channels of {side} pixels"):
        build(channels, 10, side)
