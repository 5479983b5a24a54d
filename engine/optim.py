"""Optimisers over a stack: torch's SGD and Adam with a learning rate, momentum and decay of its own for every replica.

On the loop executor each replica is stepped by itself with torch's own arithmetic, so its bits do not depend on its
neighbours and equal `torch.optim`'s. On the fused executor all replicas are stepped at once.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from engine.models.stack import Stack

PerReplicaFloat = int | float | Sequence[int | float] | Float[Tensor, " r"]


class _Optimiser(ABC):
    """Shared by both: gradients with scale and decay, and the walk over active replicas.

    mask: by parameter name, [R, *shape] bool; where False neither gradient, decay nor momentum moves the weight.
    grad_scale: by parameter name, [R, *shape]; multiplies the gradient before decay and momentum.
    Parameters without a gradient (frozen, unused) are left as they are, as torch does.
    """

    def __init__(self, stack: Stack, lr: PerReplicaFloat, weight_decay: PerReplicaFloat, mask: Mapping[str, Tensor] | None,
                 grad_scale: Mapping[str, Tensor] | None) -> None:
        self.stack, self.lr, self.weight_decay = stack, per_replica(lr, stack.replicas), per_replica(weight_decay, stack.replicas)
        self.mask, self.grad_scale = mask or {}, grad_scale or {}

    def zero_grad(self) -> None:
        self.stack.zero_grad()

    @torch.no_grad()
    def step(self) -> None:
        stack = self.stack
        named = [(n, p) for n, p in stack.params.items() if p.grad is not None]
        if stack.executor == "loop":
            active = range(stack.replicas) if stack.active is None else [r for r, on in enumerate(stack.active.tolist()) if on]
            for r in active:
                self._step_slices(r, named)
        else:
            for n, p in named:
                self._step_all(n, p)

    def _gradient(self, name: str, p: Tensor, r: int | None) -> Tensor:
        """Scaled, decayed and masked gradient of one parameter, of replica r or of all. Made in the place of `grad`: no step needs it
        twice, and on a CPU new memory for it costs more than the arithmetic."""
        assert p.grad is not None
        grad, weight = (p.grad, p) if r is None else (p.grad[r], p[r])
        if name in self.grad_scale:
            grad.mul_(self.grad_scale[name] if r is None else self.grad_scale[name][r])
        if r is not None and self.weight_decay[r]:
            grad.add_(weight, alpha=float(self.weight_decay[r]))
        if r is None and bool(self.weight_decay.any()):
            _add(grad, self._wide(self.weight_decay, p), weight)
        if name in self.mask:
            grad.mul_(self.mask[name] if r is None else self.mask[name][r])
        return grad

    def _wide(self, values: Tensor, p: Tensor) -> Tensor | float:
        """[R] values to broadcast against [R, ...]; a plain number where all are equal, which is faster."""
        if bool((values == values[0]).all()):
            return float(values[0])
        return values.to(p.device, p.dtype).view(-1, *[1] * (p.dim() - 1))

    def _gate(self, new: Tensor, old: Tensor) -> Tensor:
        """`new` for active replicas, `old` for the others; by where, since lr = 0 would let a NaN through."""
        active = self.stack.active
        return new if active is None else torch.where(active.view(-1, *[1] * (new.dim() - 1)), new, old)

    @abstractmethod
    def _step_slices(self, r: int, named: list[tuple[str, Tensor]]) -> None:
        """Step replica r alone, with torch's own arithmetic."""

    @abstractmethod
    def _step_all(self, name: str, p: Tensor) -> None:
        """Step one parameter of all replicas at once."""


class SGD(_Optimiser):
    """torch's SGD (coupled L2 decay, no dampening): v <- m v + (g + wd w); w <- w - lr v. `lr` may be set between steps."""

    def __init__(self, stack: Stack, *, lr: PerReplicaFloat, momentum: PerReplicaFloat = 0.0, weight_decay: PerReplicaFloat = 0.0,
                 mask: Mapping[str, Tensor] | None = None, grad_scale: Mapping[str, Tensor] | None = None) -> None:
        super().__init__(stack, lr, weight_decay, mask, grad_scale)
        self.momentum = per_replica(momentum, stack.replicas)
        self.velocity = {n: torch.zeros_like(p) for n, p in stack.params.items()}

    def _step_slices(self, r: int, named: list[tuple[str, Tensor]]) -> None:
        weights = [p[r] for _, p in named]
        grads = [self._gradient(n, p, r) for n, p in named]
        if self.momentum[r]:
            velocity = [self.velocity[n][r] for n, _ in named]
            for v, grad in zip(velocity, grads, strict=True):
                v.mul_(float(self.momentum[r])).add_(grad)
            grads = velocity
        for weight, grad in zip(weights, grads, strict=True):
            weight.add_(grad, alpha=-float(self.lr[r]))

    def _step_all(self, name: str, p: Tensor) -> None:
        grad, velocity, lr = self._gradient(name, p, None), self.velocity[name], self._wide(self.lr, p)
        heavy = bool(self.momentum.any())
        if self.stack.active is None:
            if heavy:
                grad = velocity.mul_(self._wide(self.momentum, p)).add_(grad)
            _add(p, lr, grad, -1)
            return
        if heavy:
            velocity.copy_(self._gate(velocity * self._wide(self.momentum, p) + grad, velocity))
            grad = velocity
        p.copy_(self._gate(p - lr * grad, p))


class Adam(_Optimiser):
    """torch's Adam (coupled L2 decay): betas 0.9 and 0.999, eps 1e-8, bias-corrected."""

    def __init__(self, stack: Stack, *, lr: PerReplicaFloat, weight_decay: PerReplicaFloat = 0.0, mask: Mapping[str, Tensor] | None = None,
                 grad_scale: Mapping[str, Tensor] | None = None, betas: tuple[float, float] = (0.9, 0.999), eps: float = 1e-8) -> None:
        super().__init__(stack, lr, weight_decay, mask, grad_scale)
        self.betas, self.eps = betas, eps
        self.first = {n: torch.zeros_like(p) for n, p in stack.params.items()}
        self.second = {n: torch.zeros_like(p) for n, p in stack.params.items()}
        self.steps = torch.zeros(stack.replicas, dtype=torch.int64)

    def step(self) -> None:
        self.steps += 1 if self.stack.active is None else self.stack.active.cpu().long()
        super().step()

    def _step_slices(self, r: int, named: list[tuple[str, Tensor]]) -> None:
        b1, b2 = self.betas
        t = int(self.steps[r])
        for n, p in named:
            grad, first, second = self._gradient(n, p, r), self.first[n][r], self.second[n][r]
            first.lerp_(grad, 1 - b1)
            second.mul_(b2).addcmul_(grad, grad, value=1 - b2)
            scale = (second.sqrt() / (1 - b2**t) ** 0.5).add_(self.eps)
            p[r].addcdiv_(first, scale, value=-float(self.lr[r]) / (1 - b1**t))

    def _step_all(self, name: str, p: Tensor) -> None:
        b1, b2 = self.betas
        grad, first, second = self._gradient(name, p, None), self.first[name], self.second[name]
        first.copy_(self._gate(first.lerp(grad, 1 - b1), first))
        second.copy_(self._gate(second * b2 + (1 - b2) * grad * grad, second))
        t = self.steps.clamp(min=1).double()
        rate, root = self._wide(self.lr / (1 - b1**t), p), self._wide((1 - b2**t).sqrt(), p)
        p.copy_(self._gate(p - rate * first / (second.sqrt() / root + self.eps), p))


def _add(p: Tensor, factor: Tensor | float, other: Tensor, sign: int = 1) -> None:
    """p += sign * factor * other, in place."""
    if isinstance(factor, Tensor):
        p.addcmul_(other, factor, value=sign)
    else:
        p.add_(other, alpha=sign * factor)


def per_replica(value: PerReplicaFloat, replicas: int) -> Float[Tensor, " r"]:
    """`value` as one double a replica, on the host: rates are read there once a step and never wait for the device."""
    made = value.detach().cpu().double() if isinstance(value, Tensor) else torch.as_tensor(value, dtype=torch.float64)
    return made.expand(replicas).clone() if made.dim() == 0 else made


def cosine(lr: Float[Tensor, " r"], epoch: int, total: Float[Tensor, " r"]) -> Float[Tensor, " r"]:
    """Cosine from lr at epoch 0 to 0 at `total`, each replica by its own length; stays at 0 after it."""
    done = (epoch / total.double()).clamp(0, 1)
    return lr * (1 + torch.cos(torch.pi * done)) / 2
