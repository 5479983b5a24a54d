"""IU as released: the recursion only ever rescales its first vector, so the step is v minus a multiple of the first example's gradient.

    o = g_1, k = v;  for each later example g:  t = o . g;  k <- k - (k . g) / (1000 + t) * o;  o <- o * (1 - t / (1000 + t));  w <- w + alpha * k

over the first 1,002 retain examples in index order. o and v - k stay multiples of g_1, so all that is needed of a later example are its dot
products with g_1 and v: the same numbers, in blocks of examples. Nothing here is random. The released code crashes on TinyViT, this does not.
v and the sources are those of `iu`.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from engine.data.loader import Splits
from engine.gradients import Copies, at_once, move
from engine.models.stack import Stack
from engine.params import Params, hp
from engine.registry import method
from engine.runtime import PerReplica, Run
from engine.unlearn.iu import influence

SAMPLES, SCALE = 1002, 1000


@dataclass(frozen=True, kw_only=True)
class ReleasedInfluenceParams(Params):
    alpha: float = hp(0.2, within=(0, 1000), search=(0, 1), doc="share of the step that is taken")


@method("iu", label="IU", family="second_order", source="code", paper="arXiv:2002.10077", reads={"retain", "forget"}, version=1,
        params=ReleasedInfluenceParams, variant="official",
        walks=lambda params, classes: 16)  # a gradient an example, and products of all pairs of them
def iu(stack: Stack, data: Splits, params: PerReplica, run: Run) -> Stack:
    student = stack.copy().eval()
    move(student, params.alpha.unsqueeze(1).to(student.flat().dtype) * released_step(student, data, influence(student, data)))
    return student


def released_step(student: Stack, data: Splits, v: Float[Tensor, "r p"]) -> Float[Tensor, "r p"]:
    """k after the whole recursion."""
    copies, parts, first, seen = Copies(student), [], v, 0
    for x, y in data.ordered("retain", at_once(student)):
        x, y = x[:, : SAMPLES - seen], y[:, : SAMPLES - seen]
        rows = copies.rows(x, y)
        first = rows[:, 0].clone() if seen == 0 else first
        parts.append(torch.stack([gradients @ torch.stack([g, direction], 1) for gradients, g, direction in zip(rows, first, v, strict=True)]))
        seen += y.shape[1]
        student.forward_images += y.shape[1]
        student.backward_images += y.shape[1]
        if seen == SAMPLES:
            break
    by_first, by_v = torch.cat(parts, 1).double().unbind(2)  # g . g_1 and g . v, each [R, n]
    o, k = torch.ones_like(by_v[:, 0]), torch.zeros_like(by_v[:, 0])  # o * g_1 is the recursion's o, and v - k * g_1 its k
    for n in range(1, seen):
        t = o * by_first[:, n]
        k = k + (by_v[:, n] - k * by_first[:, n]) / (SCALE + t) * o
        o = o * (1 - t / (SCALE + t))
    return v - k.unsqueeze(1).to(v.dtype) * first
