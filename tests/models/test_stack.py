"""The two executors: loop equals plain torch bit for bit, fused equals loop step by step in float64."""

from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from engine.losses import ce
from engine.models.architecture import Architecture
from engine.models.catalogue import ARCHITECTURES
from engine.models.stack import Stack, compiling
from engine.optim import SGD, Adam, cosine, per_replica

SHAPES = {"cnn": [(1, 8), (3, 32)], "resnet18": [(3, 32)], "resnet18_cifar": [(3, 8)], "tinyvit11m": [(3, 32)]}
CASES = [(a, shape) for a in ARCHITECTURES for shape in SHAPES[a]]
FUSED_CASES = [(a, shape) for a, shape in CASES if ARCHITECTURES[a].fused]
FAST = ["fused", "products"]
LRS, MOMENTA, DECAYS = [0.1, 0.05, 0.02], [0.9, 0.8, 0.0], [5e-4, 0.0, 1e-3]


def built(name: str, shape: tuple[int, int], seeds: list[int], **options: str) -> Stack:
    channels, side = shape
    return Stack.build(ARCHITECTURES[name], channels=channels, classes=10, side=side, seeds=seeds, **options)


def batches(replicas: int, shape: tuple[int, int], steps: int, size: int = 6, dtype: torch.dtype = torch.float32) -> Iterator[tuple[Tensor, Tensor]]:
    """Own data for every replica: replica r's batches do not depend on how many replicas there are."""
    channels, side = shape
    generators = [torch.Generator().manual_seed(100 + r) for r in range(replicas)]
    for _ in range(steps):
        x = torch.stack([torch.randn(size, channels, side, side, generator=g, dtype=torch.float64) for g in generators]).to(dtype)
        yield x, torch.stack([torch.randint(10, (size,), generator=g) for g in generators])


def stepping(stack: Stack, shape: tuple[int, int], steps: int, dtype: torch.dtype = torch.float32, replicas: slice = slice(None)) -> Iterator[int]:
    """Train; gives the number of every step when it is done."""
    opt = SGD(stack, lr=LRS[replicas], momentum=MOMENTA[replicas], weight_decay=DECAYS[replicas])
    stack.seed_layers([10, 11, 12][replicas])
    for step, (x, y) in enumerate(batches(3, shape, steps, dtype=dtype)):
        opt.zero_grad()
        ce(stack(x[replicas]), y[replicas]).sum().backward()
        opt.step()
        yield step


def trained(stack: Stack, shape: tuple[int, int], steps: int, replicas: slice = slice(None)) -> Stack:
    for _ in stepping(stack, shape, steps, replicas=replicas):
        pass
    return stack


@pytest.mark.parametrize(("name", "shape"), CASES)
def test_loop_equals_plain_torch_bit_for_bit(name: str, shape: tuple[int, int]) -> None:
    stack = trained(built(name, shape, [0, 1, 2]), shape, steps=3)
    for r in range(3):
        torch.manual_seed(r)
        plain = ARCHITECTURES[name].build(shape[0], 10, shape[1]).to(memory_format=torch.channels_last)
        opt = torch.optim.SGD(plain.parameters(), lr=LRS[r], momentum=MOMENTA[r], weight_decay=DECAYS[r])
        torch.manual_seed(10 + r)  # what layers draw
        for x, y in batches(3, shape, 3):
            opt.zero_grad()
            nn.functional.cross_entropy(plain(x[r]), y[r]).backward()
            opt.step()
        mine = stack.state_of(r)
        for key, value in plain.state_dict().items():
            assert torch.equal(value, mine[key]), key


@pytest.mark.parametrize(("name", "shape"), CASES)
def test_loop_gives_the_same_bits_whoever_shares_the_stack(name: str, shape: tuple[int, int]) -> None:
    together = trained(built(name, shape, [0, 1, 2]), shape, steps=2)
    alone = trained(built(name, shape, [1]), shape, steps=2, replicas=slice(1, 2))
    beside = together.state_of(1)
    for key, value in alone.state_of(0).items():
        assert torch.equal(value, beside[key]), key


@pytest.mark.parametrize("fast", FAST)
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize(("name", "shape"), FUSED_CASES)
def test_fast_gives_the_same_bits_in_the_same_slot_whatever_the_neighbours(name: str, shape: tuple[int, int], precision: str, fast: str) -> None:
    def slot_one(neighbours: int) -> dict[str, Tensor]:
        stack = built(name, shape, [neighbours, 1, neighbours + 1], executor=fast, precision=precision)
        stack.seed_layers([10, 11, 12])
        opt = SGD(stack, lr=0.1, momentum=0.9, weight_decay=5e-4)
        for x, y in batches(3, shape, 2):
            x[0] += neighbours
            opt.zero_grad()
            ce(stack(x), y).sum().backward()
            opt.step()
        return stack.state_of(1)

    first, second = slot_one(5), slot_one(9)
    for key, value in first.items():
        assert torch.equal(value, second[key]), key


@pytest.mark.parametrize("fast", FAST)
@pytest.mark.parametrize(("name", "shape"), FUSED_CASES)
def test_fast_executors_equal_loop_step_by_step_in_float64(name: str, shape: tuple[int, int], fast: str) -> None:
    loop, fused = (built(name, shape, [0, 1, 2], precision="fp64", executor=executor) for executor in ("loop", fast))
    for step, _ in zip(stepping(loop, shape, 2, torch.float64), stepping(fused, shape, 2, torch.float64), strict=True):
        state = fused.state()
        for key, value in loop.state().items():
            torch.testing.assert_close(state[key], value, rtol=0, atol=1e-9 if step else 1e-13, msg=lambda m, k=key: f"{k}: {m}")


@pytest.mark.parametrize("fast", FAST)
@pytest.mark.parametrize(("name", "shape"), FUSED_CASES)
def test_fast_logits_and_gradients_equal_loop_in_both_modes(name: str, shape: tuple[int, int], fast: str) -> None:
    (x, y), = batches(3, shape, 1, dtype=torch.float64)
    for training in (True, False):
        seen = []
        for executor in ("loop", fast):
            stack = built(name, shape, [0, 1, 2], precision="fp64", executor=executor).train(training)
            stack.seed_layers([10, 11, 12])
            logits = stack(x)
            ce(logits, y).sum().backward()
            seen.append((logits.detach(), {n: p.grad for n, p in stack.params.items()}))
        torch.testing.assert_close(seen[1][0], seen[0][0], rtol=0, atol=1e-12)
        for key, grad in seen[0][1].items():
            torch.testing.assert_close(seen[1][1][key], grad, rtol=0, atol=1e-12)


def test_dropout_draws_do_not_depend_on_the_neighbours() -> None:
    def build(channels: int, classes: int, side: int) -> nn.Module:
        return nn.Sequential(nn.Flatten(), nn.Linear(channels * side * side, 32), nn.Dropout(0.5), nn.Linear(32, classes))

    dropout = Architecture("dropout", "Dropout", build, None, "", stem=(), blocks=(), head=())
    (x, _), = batches(3, (1, 8), 1)
    together = Stack.build(dropout, channels=1, classes=10, side=8, seeds=[0, 1, 2])
    together.seed_layers([10, 11, 12])
    alone = Stack.build(dropout, channels=1, classes=10, side=8, seeds=[1])
    alone.seed_layers([11])
    first, second = together(x), together(x)
    assert torch.equal(alone(x[1:2])[0], first[1])
    assert torch.equal(alone(x[1:2])[0], second[1])
    assert not torch.equal(first, second)
    torch.manual_seed(11)
    assert torch.equal(together[1](x[1]), first[1])  # plain torch under that seed


@pytest.mark.parametrize("executor", ["loop", *FAST])
def test_gated_replicas_keep_weights_momenta_and_statistics_even_beside_nan(executor: str) -> None:
    stack = built("cnn", (1, 8), [0, 1, 2], executor=executor)
    opt = SGD(stack, lr=0.1, momentum=0.9)
    (x, y), (x2, y2) = batches(3, (1, 8), 2)
    ce(stack(x), y).sum().backward()
    opt.step()
    before, velocity = stack.state(), {n: v.clone() for n, v in opt.velocity.items()}
    stack.only(torch.tensor([True, False, True]))
    opt.zero_grad()
    x2[1] = torch.nan
    ce(stack(x2), y2).sum().backward()
    opt.step()
    for key, value in stack.state().items():
        assert torch.equal(value[1], before[key][1]), key
        if value.is_floating_point():
            assert not torch.equal(value[0], before[key][0]), key
    for key, value in opt.velocity.items():
        assert torch.equal(value[1], velocity[key][1])
    stack.only(None)
    assert stack.forward_images.tolist() == [12, 6, 12]


@pytest.mark.parametrize("executor", ["loop", "fused"])
def test_masked_weights_see_neither_gradient_decay_nor_momentum(executor: str) -> None:
    stack = built("cnn", (1, 8), [0, 1], executor=executor)
    before = stack.state()
    mask = {n: torch.zeros_like(p, dtype=torch.bool) for n, p in stack.params.items()}
    mask["conv1.weight"][0] = True
    opt = SGD(stack, lr=0.1, momentum=0.9, weight_decay=0.1, mask=mask)
    for x, y in batches(2, (1, 8), 2):
        opt.zero_grad()
        ce(stack(x), y).sum().backward()
        opt.step()
    assert not torch.equal(stack.params["conv1.weight"][0], before["conv1.weight"][0])
    assert torch.equal(stack.params["conv1.weight"][1], before["conv1.weight"][1])
    assert torch.equal(stack.params["fc.weight"], before["fc.weight"])


@pytest.mark.parametrize("executor", ["loop", "fused"])
def test_adam_equals_torch(executor: str) -> None:
    stack = built("cnn", (1, 8), [0, 1, 2], executor=executor, precision="fp64")
    opt = Adam(stack, lr=[0.01, 0.02, 0.03], weight_decay=[0.0, 0.1, 0.2])
    for x, y in batches(3, (1, 8), 3, dtype=torch.float64):
        opt.zero_grad()
        ce(stack(x), y).sum().backward()
        opt.step()
    for r in range(3):
        plain = built("cnn", (1, 8), [r], precision="fp64")[0]
        reference = torch.optim.Adam(plain.parameters(), lr=[0.01, 0.02, 0.03][r], weight_decay=[0.0, 0.1, 0.2][r])
        for x, y in batches(3, (1, 8), 3, dtype=torch.float64):
            reference.zero_grad()
            nn.functional.cross_entropy(plain(x[r]), y[r]).backward()
            reference.step()
        for key, value in plain.state_dict().items():
            torch.testing.assert_close(stack.state_of(r)[key], value, rtol=0, atol=1e-9)


def test_adam_on_the_loop_has_torchs_bits() -> None:
    stack, plain = built("cnn", (1, 8), [0]), built("cnn", (1, 8), [0])[0]
    opt, reference = Adam(stack, lr=0.01, weight_decay=0.1), torch.optim.Adam(plain.parameters(), lr=0.01, weight_decay=0.1, foreach=False)
    for x, y in batches(1, (1, 8), 3):
        opt.zero_grad()
        ce(stack(x), y).sum().backward()
        opt.step()
        reference.zero_grad()
        nn.functional.cross_entropy(plain(x[0]), y[0]).backward()
        reference.step()
    for key, value in plain.state_dict().items():
        assert torch.equal(stack.state_of(0)[key], value), key


def test_cosine_follows_each_replicas_own_length() -> None:
    rates = torch.stack([cosine(per_replica(0.1, 2), e, torch.tensor([2.0, 4.0])) for e in range(5)])
    torch.testing.assert_close(rates[:, 0], torch.tensor([0.1, 0.05, 0.0, 0.0, 0.0], dtype=torch.float64))
    plain = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.1)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(plain, T_max=4)
    for epoch in range(4):
        assert rates[epoch, 1].item() == pytest.approx(plain.param_groups[0]["lr"], abs=1e-12)
        plain.step()
        schedule.step()


def test_replace_rewinds_only_the_chosen_replicas() -> None:
    stack = built("cnn", (1, 8), [0, 1, 2])
    start = stack.state()
    trained(stack, (1, 8), 2)
    moved = stack.state()
    stack.replace(torch.tensor([False, True, False]), start)
    assert torch.equal(stack.params["fc.weight"][1], start["fc.weight"][1])
    assert torch.equal(stack.params["fc.weight"][0], moved["fc.weight"][0])


def test_torchvisions_own_state_dict_loads_and_comes_back() -> None:
    plain = ARCHITECTURES["resnet18"].build(3, 10, 32)
    stack = Stack(ARCHITECTURES["resnet18"], plain, [plain.state_dict()])
    assert stack.flat().shape == (1, 11_181_642)
    plain.load_state_dict(stack.state_of(0))
    assert set(stack.state_of(0)) == set(plain.state_dict())


@pytest.mark.filterwarnings("ignore")  # the compiler meets those of the checks of types, which run in tests alone
@pytest.mark.parametrize(("name", "shape"), [("cnn", (3, 32)), ("resnet18_cifar", (3, 8)), ("tinyvit11m", (3, 32))])
def test_compiled_equals_products(name: str, shape: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    """Traced and differentiated as the compiler does it; the code that it would generate is torch's own affair, and takes minutes."""
    traced: list[torch.Size] = []

    def backend(graph: torch.fx.GraphModule, inputs: list[Tensor]) -> Any:
        traced.extend(t.shape for t in inputs if isinstance(t, Tensor) and t.dim() == 4)
        return torch._dynamo.lookup_backend("aot_eager")(graph, inputs)

    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend=backend))
    compiling.cache_clear()
    products, compiled = (built(name, shape, [0, 1, 2], precision="fp64", executor=executor) for executor in ("products", "compiled"))
    for size in (4, 2):  # the second as a short last batch, which is not compiled
        for stack in (products, compiled):
            stack.seed_layers([10, 11, 12])
            opt = SGD(stack, lr=0.1, momentum=0.9)
            (x, y), = batches(3, shape, 1, size=size, dtype=torch.float64)
            opt.zero_grad()
            ce(stack(x), y).sum().backward()
            opt.step()
    firsts = {found[0] for found in traced}
    assert 3 * 4 in firsts and 3 * 2 not in firsts  # the full batches of three replicas went through the compiler, the short ones did not
    state = compiled.state()
    for key, value in products.state().items():
        torch.testing.assert_close(state[key], value, rtol=0, atol=1e-10, msg=lambda m, k=key: f"{k}: {m}")
    compiling.cache_clear()
