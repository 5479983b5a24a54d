"""Per-example scores of a model's outputs: what every attack starts from. Both come from logits, never from softmax.

    phi = log(p_y / (1 - p_y)) = z_y - logsumexp(z_k, k != y)        loss = -log p_y = log(1 + exp(-phi))
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from engine.errors import DataError


def phi(logits: Float[Tensor, "*m n k"], y: Int[Tensor, " n"]) -> Float[Tensor, "*m n"]:
    """Logit-scaled confidence of the true class, log(p_y / (1 - p_y)): nats, unbounded, larger = surer = member.

    Taken as z_y - logsumexp(other z): exact where softmax would round p to 0 or 1 and the log would saturate.
    Half precision is widened to float32 first. What is not finite in the logits stays so here.
    Raises: DataError if k < 2.
    Source: Carlini et al., "Membership Inference Attacks From First Principles", S&P 2022, arXiv:2112.03570.
    """
    if logits.shape[-1] < 2:
        raise DataError(f"phi needs 2 or more classes, got logits of shape {tuple(logits.shape)}")
    wide = logits.to(torch.promote_types(logits.dtype, torch.float32))
    own = y.long().expand(wide.shape[:-1]).unsqueeze(-1)
    rest = wide.scatter(-1, own, -torch.inf).logsumexp(-1)
    return wide.gather(-1, own).squeeze(-1) - rest


def cross_entropy(logits: Float[Tensor, "*m n k"], y: Int[Tensor, " n"]) -> Float[Tensor, "*m n"]:
    """Loss of each example, -log p_y: nats, from 0 up, smaller = surer = member.

    Taken as log(1 + exp(-phi)), which keeps its relative precision where p_y rounds to 1 and -log p_y would be 0.
    Raises: DataError if k < 2.
    """
    confidence = phi(logits, y)
    return torch.logaddexp(-confidence, torch.zeros_like(confidence))
