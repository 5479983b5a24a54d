"""A model in Lethe: a stack of R >= 1 networks of one architecture with separate weights.

`stack(x)` maps [R, B, C, H, W] to logits [R, B, K]; a loss of shape [R] summed and differentiated gives every replica exactly
its own gradient, because no weight is shared. Two executors stand behind it: `loop` calls the one template module per replica
(exact: the same bits whoever shares the stack), `fused` runs all replicas in one pass (fast: equal to rounding).
"""

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from functools import cache

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.func import functional_call

from engine.errors import BadInput
from engine.models.architecture import Architecture
from engine.models.fused import Fused
from engine.models.products import Products

EXECUTORS = ("loop", "fused", "products", "compiled")
PRECISIONS = {"fp32": torch.float32, "bf16": torch.float32, "fp64": torch.float64}  # bf16: autocast over fp32 weights
_SHAPES = 64
KINDS: dict[str, tuple[type[nn.Module], ...]] = {"conv": (nn.Conv2d,), "linear": (nn.Linear,), "norm": (nn.BatchNorm2d, nn.LayerNorm)}


class Stack:
    """Parameters and buffers are `[R, *shape]` tensors under the template's ordinary names.

    forward_images, backward_images: images that passed each replica so far, [R]; with those of companions (`counting_with`).
    """

    def __init__(self, architecture: Architecture, template: nn.Module, states: Sequence[Mapping[str, Tensor]], *, executor: str = "loop",
                 precision: str = "fp32", device: str | torch.device = "cpu") -> None:
        if executor not in EXECUTORS or precision not in PRECISIONS:
            raise BadInput(f"executor must be one of {EXECUTORS}, precision one of {tuple(PRECISIONS)}; got {executor!r}, {precision!r}")
        if executor != "loop" and architecture.fused is None:
            raise BadInput(f"{architecture.name} has no form over a stack, which executor {executor!r} needs; use 'loop'")
        self.architecture, self.executor, self.precision = architecture, executor, precision
        self.device, dtype = torch.device(device), PRECISIONS[precision]
        self.template = copy.deepcopy(template).to(device=self.device, dtype=dtype).to(memory_format=torch.channels_last)
        self.replicas = len(states)
        names = dict(self.template.named_parameters())
        self.params = {n: _stacked([s[n] for s in states], dtype, self.device).requires_grad_() for n in names}
        self.buffers = {n: _stacked([s[n] for s in states], None if not b.is_floating_point() else dtype, self.device)
                        for n, b in self.template.named_buffers()}
        self.active: Bool[Tensor, " r"] | None = None
        self.taking_part: Bool[Tensor, " r"] | None = None  # the same on the host, where to ask does not wait for the device
        self.forward_images = torch.zeros(self.replicas, dtype=torch.int64)
        self.backward_images = torch.zeros(self.replicas, dtype=torch.int64)
        self._chance: list[Tensor] | None = None
        self._shape: torch.Size | None = None  # of the batches that `compiled` is compiled for
        self.training = True

    @classmethod
    def build(cls, architecture: Architecture, *, channels: int, classes: int, side: int, seeds: Sequence[int], executor: str = "loop",
              precision: str = "fp32", device: str | torch.device = "cpu") -> "Stack":
        """One freshly initialised network a seed; replica r is what `torch.manual_seed(seeds[r])` and the plain constructor give."""
        modules = []
        with torch.random.fork_rng(devices=[]):
            for seed in seeds:
                torch.manual_seed(seed)
                modules.append(architecture.build(channels, classes, side))
        return cls(architecture, modules[0], [m.state_dict() for m in modules], executor=executor, precision=precision, device=device)

    def like(self, states: Sequence[Mapping[str, Tensor]]) -> "Stack":
        """A stack of the same kind over other weights."""
        return Stack(self.architecture, self.template, states, executor=self.executor, precision=self.precision, device=self.device)

    # ---- running

    def __call__(self, x: Float[Tensor, "_ b c h w"]) -> Float[Tensor, "r b k"]:
        """Logits. Replicas that are gated by `only` keep weights and statistics; their logits carry no gradient.

        x may have a leading axis of 1, shared by all replicas.
        """
        seen = x.shape[1] if self.taking_part is None else x.shape[1] * self.taking_part.long()
        self.forward_images += seen  # in place: companions share the counter
        if torch.is_grad_enabled():
            self.backward_images += seen
        if x.shape[0] != self.replicas:
            x = x.expand(self.replicas, *x.shape[1:])
        auto = torch.autocast(self.device.type, torch.bfloat16) if self.precision == "bf16" else nullcontext()
        with auto:
            logits = self._loop(x) if self.executor == "loop" else self._fused(x)
        return logits.float() if self.precision == "bf16" else logits

    def _loop(self, x: Tensor) -> Tensor:
        params = {n: p.unbind(0) for n, p in self.params.items()}
        buffers = {n: b.unbind(0) for n, b in self.buffers.items()}
        active = [True] * self.replicas if self.taking_part is None else self.taking_part.tolist()
        made: list[Tensor | None] = []
        for r in range(self.replicas):
            if not active[r]:
                made.append(None)
                continue
            state = {n: p[r] for n, p in params.items()} | {n: b[r] for n, b in buffers.items()}
            with self._own_chance(r):
                made.append(functional_call(self.template, state, (x[r],)))
        shape = next((m for m in made if m is not None), None)
        if shape is None:
            raise ValueError("no replica of this stack is active")
        return torch.stack([torch.zeros_like(shape) if m is None else m for m in made])

    def _fused(self, x: Tensor) -> Tensor:
        assert self.architecture.fused is not None
        # where some are gated the pass moves copies of the statistics: autograd needs those as it saw them until the backward pass
        gated = self.training and self.active is not None
        moving = {n: b.clone() for n, b in self.buffers.items()} if gated else self.buffers
        layers = (Fused if self.executor == "fused" else Products)(self.params, moving, self.replicas, self.training, self._drawn(x.shape[1]))
        forward = self.architecture.fused
        if self.executor == "compiled" and torch.is_grad_enabled():
            self._shape = self._shape or x.shape  # a short last batch and evaluation are not worth a compilation of their own
            forward = compiling(forward) if x.shape == self._shape else forward
        logits = forward(layers, layers.arranged(x))
        if gated:
            assert self.active is not None
            for n, old in self.buffers.items():
                old.copy_(torch.where(_wide(self.active, old), moving[n], old))
        return logits

    def _drawn(self, images: int) -> Float[Tensor, "k r b"] | None:
        """What stochastic depth keeps of each branch, replica and image, drawn as the plain network draws it: 0, or 1 over its probability."""
        if not self.training or not self.architecture.kept:
            return None
        made = []
        for r in range(self.replicas):
            with self._own_chance(r):
                like = torch.empty(images, 1, 1, 1, device=self.device, dtype=PRECISIONS[self.precision])
                made.append(torch.stack([torch.empty_like(like).bernoulli_(p).div_(p).flatten() for p in self.architecture.kept]))
        return torch.stack(made, 1)

    @contextmanager
    def _own_chance(self, r: int) -> Iterator[None]:
        """Around one replica's forward pass: its own state of torch's global generator, for layers that draw from it (dropout)."""
        if self._chance is None:
            yield
            return
        shared = _generator_state(self.device)
        _set_generator_state(self.device, self._chance[r])
        try:
            yield
        finally:
            self._chance[r] = _generator_state(self.device)
            _set_generator_state(self.device, shared)

    def seed_layers(self, seeds: Sequence[int]) -> None:
        """Give each replica its own stream for layers that draw from torch's global generator."""
        shared = _generator_state(self.device)
        self._chance = []
        for seed in seeds:
            torch.manual_seed(seed)
            self._chance.append(_generator_state(self.device))
        _set_generator_state(self.device, shared)

    # ---- the vocabulary of methods

    def copy(self) -> "Stack":
        """A new stack of equal weights, in the same mode; counters start at zero."""
        made = self.like([self.state_of(r) for r in range(self.replicas)])
        made._chance = None if self._chance is None else list(self._chance)
        return made.train(self.training)

    def counting_with(self, other: "Stack") -> "Stack":
        """Count what passes here as passes of `other`, too: what a method costs includes its teachers."""
        self.forward_images, self.backward_images = other.forward_images, other.backward_images
        return self

    def teacher(self) -> "Stack":
        """A copy in eval mode whose passes count as this stack's."""
        return self.copy().eval().counting_with(self)

    def train(self, mode: bool = True) -> "Stack":
        self.training = mode
        self.template.train(mode)
        return self

    def eval(self) -> "Stack":
        """Frozen batch-norm statistics, no dropout."""
        return self.train(False)

    def only(self, active: Bool[Tensor, " r"] | None) -> "Stack":
        """Gate: from now on just these replicas change, in weights, momenta and statistics; None lifts the gate."""
        some = None if active is None or bool(active.all()) else active
        self.active = None if some is None else some.to(self.device)
        self.taking_part = None if some is None else some.cpu()
        return self

    @contextmanager
    def among(self, some: Bool[Tensor, " r"]) -> Iterator[bool]:
        """Gate further, to those of the active replicas that are in `some`, for a `with` block; gives whether there are any."""
        before = self.taking_part
        both = some.cpu() if before is None else before & some.cpu()
        try:
            self.only(both)
            yield bool(both.any())
        finally:
            self.only(before)

    def tensors(self, kind: str) -> dict[str, Float[Tensor, "r ..."]]:
        """The weights (not biases) of all layers of a kind (`conv`, `linear`, `norm`), by name."""
        return {f"{n}.weight": self.params[f"{n}.weight"] for n, m in self.template.named_modules() if isinstance(m, KINDS[kind])}

    def names(self, modules: Sequence[str]) -> list[str]:
        """Names of all parameters of these modules and of what is inside them, in the template's order."""
        return [n for n in self.params if any(n.startswith(f"{m}.") for m in modules)]

    def flat(self) -> Float[Tensor, "r p"]:
        """All parameters of each replica in one row, in the template's order; a detached copy."""
        return torch.cat([p.detach().reshape(self.replicas, -1) for p in self.params.values()], 1)

    def zero_grad(self) -> None:
        for p in self.params.values():
            p.grad = None

    def state(self) -> dict[str, Tensor]:
        """A copy of all parameters and buffers, [R, ...], for `replace`."""
        return {n: t.detach().clone() for n, t in (self.params | self.buffers).items()}

    @torch.no_grad()
    def replace(self, where: Bool[Tensor, " r"], state: Mapping[str, Tensor]) -> None:
        """Take `state` for the replicas `where`: rewinding."""
        for n, t in (self.params | self.buffers).items():
            t.copy_(torch.where(_wide(where.to(t.device), t), state[n], t))

    # ---- one replica

    @torch.no_grad()
    def reaching(self, r: int, x: Float[Tensor, "b c h w"], modules: Sequence[str]) -> tuple[list[Tensor], Float[Tensor, "b k"]]:
        """What replica r hands these modules, each reached once and in this order, when it sees x, and its logits: by the template,
        whatever the executor, and not counted."""
        seen: list[Tensor] = []
        hooks = [self.template.get_submodule(name).register_forward_pre_hook(lambda _, given: seen.append(given[0])) for name in modules]
        try:
            logits = functional_call(self.template, {n: t[r] for n, t in (self.params | self.buffers).items()}, (x,))
        finally:
            for hook in hooks:
                hook.remove()
        return seen, logits

    def state_of(self, r: int) -> dict[str, Tensor]:
        """Replica r's ordinary state dictionary, detached copies."""
        return {n: t.detach()[r].clone() for n, t in (self.params | self.buffers).items()}

    def __getitem__(self, r: int) -> nn.Module:
        """Replica r as an ordinary module with its own copy of the weights."""
        module = copy.deepcopy(self.template)
        module.load_state_dict(self.state_of(r))
        return module.train(self.training)

    def finite(self) -> Bool[Tensor, " r"]:
        """Which replicas have only finite weights and statistics."""
        fine = torch.ones(self.replicas, dtype=torch.bool, device=self.device)
        for t in (*self.params.values(), *self.buffers.values()):
            fine &= torch.isfinite(t.detach()).reshape(self.replicas, -1).all(1)
        return fine


@cache
def compiling(forward: Callable[[Fused, Tensor], Tensor]) -> Callable[[Fused, Tensor], Tensor]:
    """Compiled for each shape that it meets; the compiler keeps what it made on disk, so that later processes start in seconds."""
    torch._dynamo.config.recompile_limit = max(torch._dynamo.config.recompile_limit, _SHAPES)  # a worker lives on: each R, batch and mode is one
    return torch.compile(forward, dynamic=False)


def _stacked(tensors: Sequence[Tensor], dtype: torch.dtype | None, device: torch.device) -> Tensor:
    """[R, *shape] with every 4-d slice channels-last in memory, the layout in which convolutions are fastest."""
    made = torch.stack([t.detach().to(device, dtype) for t in tensors])
    if made.dim() != 5:
        return made
    _, o, i, h, w = made.shape  # strides spelt out: with i = 1 a permuted copy would not count as channels-last
    return torch.empty_strided(made.shape, (o * i * h * w, i * h * w, 1, w * i, i), dtype=made.dtype, device=device).copy_(made)


def _wide(mask: Tensor, like: Tensor) -> Tensor:
    """[R] -> [R, 1, 1, ...] to broadcast against `like`."""
    return mask.view(-1, *[1] * (like.dim() - 1))


def _generator_state(device: torch.device) -> Tensor:
    return torch.cuda.get_rng_state(device) if device.type == "cuda" else torch.get_rng_state()


def _set_generator_state(device: torch.device, state: Tensor) -> None:
    if device.type == "cuda":
        torch.cuda.set_rng_state(state, device)
    else:
        torch.set_rng_state(state)
