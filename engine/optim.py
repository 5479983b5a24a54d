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
            active = range(stack.replicas) if stack.taking_part is None else [r for r, on in enumerate(stack.taking_part.tolist()) if on]
            for r in active:
                self._step_slices(r, named)
        else:
            self._step_all(named)

    def _gradient(self, name: str, p: Tensor, r: int) -> Tensor:
        """Scaled, decayed and masked gradient of one parameter of replica r. Made in the place of `grad`: no step needs it twice, and on a
        CPU new memory for it costs more than the arithmetic."""
        assert p.grad is not None
        grad = p.grad[r]
        if name in self.grad_scale:
            grad.mul_(self.grad_scale[name][r])
        if self.weight_decay[r]:
            grad.add_(p[r], alpha=float(self.weight_decay[r]))
        if name in self.mask:
            grad.mul_(self.mask[name][r])
        return grad

    def _gradients(self, named: list[tuple[str, Tensor]]) -> list[Tensor]:
        """The same of all replicas."""
        grads = {n: p.grad for n, p in named if p.grad is not None}
        for n in grads.keys() & self.grad_scale.keys():
            grads[n].mul_(self.grad_scale[n])
        if bool(self.weight_decay.any()):
            _add(list(grads.values()), self._rate(self.weight_decay), [p for _, p in named])
        for n in grads.keys() & self.mask.keys():
            grads[n].mul_(self.mask[n])
        return list(grads.values())

    def _rate(self, values: Float[Tensor, " r"]) -> Float[Tensor, " r"] | float:
        """Values of all replicas beside the weights; a plain number where all are equal, which is faster."""
        if bool((values == values[0]).all()):
            return float(values[0])
        like = next(iter(self.stack.params.values()))
        return values.to(like.device, like.dtype)

    def _gate(self, new: Tensor, old: Tensor) -> Tensor:
        """`new` for active replicas, `old` for the others; by where, since lr = 0 would let a NaN through."""
        active = self.stack.active
        return new if active is None else torch.where(active.view(_beside(new)), new, old)

    @abstractmethod
    def _step_slices(self, r: int, named: list[tuple[str, Tensor]]) -> None:
        """Step replica r alone, with torch's own arithmetic."""

    @abstractmethod
    def _step_all(self, named: list[tuple[str, Tensor]]) -> None:
        """Step all replicas at once."""


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

    def _step_all(self, named: list[tuple[str, Tensor]]) -> None:
        names, params = [n for n, _ in named], [p for _, p in named]
        grads = self._gradients(named)
        lr, momentum, heavy = self._rate(self.lr), self._rate(self.momentum), bool(self.momentum.any())
        velocity = [self.velocity[n] for n in names]
        if self.stack.active is None:
            if heavy:
                _multiply(velocity, momentum)
                _add(velocity, 1.0, grads)
            _add(params, lr, velocity if heavy else grads, -1)
            return
        for p, v, grad in zip(params, velocity, grads, strict=True):
            if heavy:
                v.copy_(self._gate(v * _wide(momentum, v) + grad, v))
            p.copy_(self._gate(p - _wide(lr, p) * (v if heavy else grad), p))


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
        self.steps += 1 if self.stack.taking_part is None else self.stack.taking_part.long()
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

    def _step_all(self, named: list[tuple[str, Tensor]]) -> None:
        b1, b2 = self.betas
        t = self.steps.clamp(min=1).double()
        rate, root = self._rate(self.lr / (1 - b1**t)), self._rate((1 - b2**t).sqrt())
        for (name, p), grad in zip(named, self._gradients(named), strict=True):
            first, second = self.first[name], self.second[name]
            first.copy_(self._gate(first.lerp(grad, 1 - b1), first))
            second.copy_(self._gate(second * b2 + (1 - b2) * grad * grad, second))
            p.copy_(self._gate(p - _wide(rate, p) * first / (second.sqrt() / _wide(root, p) + self.eps), p))


def _add(into: list[Tensor], factor: Float[Tensor, " r"] | float, others: list[Tensor], sign: int = 1) -> None:
    """Each += sign * factor * other, in place; on a GPU one launch for many tensors."""
    if not isinstance(factor, Tensor):
        torch._foreach_add_(into, others, alpha=sign * factor)  # pyright: ignore[reportPrivateImportUsage] torch's own optimisers call it
        return
    for p, other in zip(into, others, strict=True):
        p.addcmul_(other, factor.view(_beside(p)), value=sign)


def _multiply(each: list[Tensor], factor: Float[Tensor, " r"] | float) -> None:
    """Each *= factor, in place."""
    if not isinstance(factor, Tensor):
        torch._foreach_mul_(each, factor)  # pyright: ignore[reportPrivateImportUsage] as above
        return
    for p in each:
        p.mul_(factor.view(_beside(p)))


def _wide(rate: Float[Tensor, " r"] | float, p: Tensor) -> Tensor | float:
    return rate.view(_beside(p)) if isinstance(rate, Tensor) else rate


def _beside(p: Tensor) -> tuple[int, ...]:
    """The shape in which [R] broadcasts against [R, ...]."""
    return (-1, *[1] * (p.dim() - 1))


def per_replica(value: PerReplicaFloat, replicas: int) -> Float[Tensor, " r"]:
    """`value` as one double a replica, on the host: rates are read there once a step and never wait for the device."""
    made = value.detach().cpu().double() if isinstance(value, Tensor) else torch.as_tensor(value, dtype=torch.float64)
    return made.expand(replicas).clone() if made.dim() == 0 else made


def cosine(lr: Float[Tensor, " r"], epoch: int, total: Float[Tensor, " r"]) -> Float[Tensor, " r"]:
    """Cosine from lr at epoch 0 to 0 at `total`, each replica by its own length; stays at 0 after it."""
    done = (epoch / total.double()).clamp(0, 1)
    return lr * (1 + torch.cos(torch.pi * done)) / 2
