"""What training one image costs at the least, and what the machine can do: floating-point operations and bytes, and both rates.

Operations: those of every convolution and product in a forward and a backward pass, counted by torch; `nominal` as the plain module has
them, `shortcut` as a stack does them, without the taps of kernels on the smallest maps that meet padding. Bytes: every such layer reads its input and
writes its output forward, and backward reads both and the output's gradient and writes the input's; norms, activations and pooling are
held to be joined to them, which nobody reaches fully. Weights, gradients and momenta are moved once a step and shared by its images.
"""

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from engine.losses import ce
from engine.models.architecture import Architecture
from engine.models.stack import Stack

COUNTED = 4  # images in the passes that are counted
OF_STATE = 5 * 4  # bytes a weight and step: weight and momentum read and written, gradient once, in single precision


@dataclass(frozen=True)
class Work:
    """Of one image: operations (a multiplication and an addition are two), bytes of activations; bytes of one replica's state a step."""

    nominal: float
    shortcut: float
    activations: float
    state: float

    def bytes_at(self, batch: int) -> float:
        """Of one image where a batch shares the state."""
        return self.activations + self.state / batch

    def to_dict(self) -> dict[str, float]:
        return asdict(self)


def work(architecture: Architecture, *, channels: int, side: int, classes: int = 10, width: int = 2) -> Work:
    """width: bytes of an activation (2 in bf16)."""
    stacks = {executor: Stack.build(architecture, channels=channels, classes=classes, side=side, seeds=[0], executor=executor).train()
              for executor in ("loop", "products" if architecture.fused else "loop")}
    counted = {}
    for executor, stack in stacks.items():
        x, y = torch.zeros(1, COUNTED, channels, side, side), torch.zeros(1, COUNTED, dtype=torch.int64)
        with FlopCounterMode(display=False) as counter:
            ce(stack(x), y).sum().backward()
        counted[executor] = counter.get_total_flops() / COUNTED
    plain = stacks["loop"]
    moved = _moved(plain.template, torch.zeros(COUNTED, channels, side, side)) / COUNTED * width
    return Work(nominal=counted["loop"], shortcut=min(counted.values()), activations=moved,
                state=OF_STATE * sum(p[0].numel() for p in plain.params.values()))


def _moved(network: nn.Module, x: Tensor) -> float:
    """Elements that the layers with weights read and write in one forward and backward pass."""
    moved = 0.0

    def count(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        nonlocal moved
        moved += 3 * inputs[0].numel() + 3 * output.numel()  # forward, backward, gradient

    hooks = [m.register_forward_hook(count) for m in network.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    with torch.no_grad():
        network.eval()(x)
    for hook in hooks:
        hook.remove()
    return moved


def matrix_rate(device: torch.device, n: int = 8192, repeats: int = 10) -> float:
    """Operations a second of a bf16 product of two n x n matrices of random numbers."""
    a, b = (torch.randn(n, n, device=device, dtype=torch.bfloat16) for _ in range(2))
    return 2 * n**3 / _seconds(lambda: a @ b, device, repeats)


def bandwidth(device: torch.device, elements: int = 1 << 30, repeats: int = 10) -> float:
    """Bytes a second that a copy within the device's memory reads and writes."""
    a = torch.empty(elements, device=device, dtype=torch.uint8)
    b = torch.empty_like(a)
    return 2 * elements / _seconds(lambda: b.copy_(a), device, repeats)


def _seconds(call: Callable[[], object], device: torch.device, repeats: int) -> float:
    """Mean of `repeats` after three that warm up."""
    for _ in range(3):
        call()
    wait(device)
    start = time.perf_counter()
    for _ in range(repeats):
        call()
    wait(device)
    return (time.perf_counter() - start) / repeats


def wait(device: torch.device) -> None:
    """Until everything that was asked of the device is done."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
