"""Losses per replica: every function maps stacked logits to one number a replica, `[R]`, never a mean across replicas."""

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F


def ce(logits: Float[Tensor, "r b k"], y: Int[Tensor, "r b"]) -> Float[Tensor, " r"]:
    """Cross-entropy in nats, mean over the batch: the gradient of each replica equals that of a model trained alone."""
    return ce_per_example(logits, y).mean(1)


def ce_per_example(logits: Float[Tensor, "r b k"], y: Int[Tensor, "r b"]) -> Float[Tensor, "r b"]:
    """Cross-entropy of every example, in nats."""
    return F.cross_entropy(logits.flatten(0, 1), y.flatten(), reduction="none").view(y.shape)


def kl(target: Float[Tensor, "r b k"], logits: Float[Tensor, "r b k"], temperature: Float[Tensor, " r"] | float = 1.0) -> Float[Tensor, " r"]:
    """KL(softmax(target / T) || softmax(logits / T)) in nats, mean over the batch; no factor T^2. `target` are logits, without gradient."""
    heat = torch.as_tensor(temperature, dtype=logits.dtype, device=logits.device).view(-1, 1, 1)
    ours, theirs = F.log_softmax(logits / heat, -1), F.log_softmax(target.detach() / heat, -1)
    return (theirs.exp() * (theirs - ours)).sum(-1).mean(1)


def contrast(logits: Float[Tensor, "r b k"], others: Float[Tensor, "r n k"], temperature: Float[Tensor, " r"] | float = 1.0) -> Float[Tensor, " r"]:
    """Mean over all pairs of -log softmax over n of (logits . others) / T, in nats; at least log n, reached where every example
    has the same dot product with each of the others. No gradient flows to `others`."""
    heat = torch.as_tensor(temperature, dtype=logits.dtype, device=logits.device).view(-1, 1, 1)
    likeness = torch.stack([ours @ theirs.T for ours, theirs in zip(logits, others.detach(), strict=True)])  # bmm's bits depend on r
    return -F.log_softmax(likeness / heat, -1).mean(-1).mean(-1)
