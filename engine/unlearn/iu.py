"""IU, influence unlearning: one Newton step that takes the forget data out of the training loss, with the Fisher information for the Hessian.

    v = |forget| / N * (mean gradient on forget - mean gradient on retain),  N = |forget| + |retain|
    F = damping * I + (1 / n) * sum of g_i g_i^T over n retain examples
    w <- w + alpha * F^-1 v

Source: Izzo et al., "Approximate Data Deletion from Machine Learning Models", AISTATS 2021, arXiv:2002.10077; F as in Singh and Alistarh,
"WoodFisher", NeurIPS 2020, arXiv:2004.14340. Gradients are those of the cross-entropy with the true labels; batch-norm is frozen.
damping = 1 is where the recursion of the code benchmarked in arXiv:2410.01276 starts from; that code then goes wrong, see the official variant.

F^-1 v is exact, by Woodbury's identity with the n gradients as rows of G: (v - G^T (n damping I + G G^T)^-1 G v) / damping. G is never whole
in memory: it is computed in blocks of rows (`gradients.at_once`), G G^T from all pairs of blocks. With m blocks each example is passed
(m + 3) / 2 times: 5.5 times for 1,000 examples on the small CNN, 85 on ResNet-18.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from engine.data.loader import Splits
from engine.gradients import Copies, at_once, mean_row, move
from engine.models.stack import Stack
from engine.params import Params, hp
from engine.registry import method
from engine.runtime import PerReplica, Run

MEAN_BATCH = 256  # of no influence but on speed


@dataclass(frozen=True, kw_only=True)
class InfluenceParams(Params):
    alpha: float = hp(0.2, within=(0, 1000), search=(0, 1), doc="share of the Newton step that is taken")
    samples: int = hp(1000, within=(1, 10_000), inert=True, doc="retain examples that the Fisher information is estimated from")
    damping: float = hp(1.0, within=(1e-6, 1e6), search=(1e-3, 1), log=True, doc="added to the Fisher information's diagonal")


@method("iu", label="IU", family="second_order", source="paper", paper="arXiv:2002.10077", reads={"retain", "forget"}, version=1,
        params=InfluenceParams,
        walks=lambda params, classes: 16)  # a gradient an example, and products of all pairs of them
def iu(stack: Stack, data: Splits, params: PerReplica, run: Run) -> Stack:
    student = stack.copy().eval()
    v = influence(student, data)
    counts = params.samples.long().cpu().clamp(max=data.size("retain"))
    x, y = next(data.batches("retain", int(counts.max()), run.rng))
    move(student, params.alpha.unsqueeze(1).to(v.dtype) * inverse_fisher(student, x, y, counts, v, params.damping.tolist()))
    return student


def influence(student: Stack, data: Splits) -> Float[Tensor, "r p"]:
    """v: by how much the mean gradient moves when forget leaves the training data."""
    forget, retain = (mean_row(student, data.ordered(split, MEAN_BATCH), data.size(split)) for split in ("forget", "retain"))
    return data.size("forget") / data.size("train") * (forget - retain)


def inverse_fisher(student: Stack, x: Float[Tensor, "r n c h w"], y: Int[Tensor, "r n"], counts: Int[Tensor, " r"], v: Float[Tensor, "r p"],
                   damping: Sequence[float]) -> Float[Tensor, "r p"]:
    """F^-1 v, F from each replica's own first counts[r] examples."""
    copies, size, sizes = Copies(student), at_once(student), counts.tolist()

    def rows(start: int, partner: int = 0) -> list[Tensor]:
        """At most `size` gradients from example `start` on, of each replica those that it counts, to go with those from `partner` on."""
        block = slice(start, start + size)
        made = copies.rows(x[:, block], y[:, block])
        real = (counts - start).clamp(0, made.shape[1])
        student.forward_images += real * (counts > partner)
        student.backward_images += real * (counts > partner)
        return [gradients[:k] for gradients, k in zip(made, real.tolist(), strict=True)]

    # the small system in double precision, each replica's by itself
    gram, along = ([v.new_zeros(*shape, dtype=torch.float64) for shape in shapes] for shapes in ([(k, k) for k in sizes], [(k,) for k in sizes]))
    for i in range(0, x.shape[1], size):
        mine = rows(i)
        for a, g, direction in zip(along, mine, v, strict=True):
            a[i : i + size] = g @ direction
        for j in range(0, i + 1, size):
            for k, g, h in zip(gram, mine, mine if i == j else rows(j, i), strict=True):
                products = (g @ h.T).double()
                k[i : i + size, j : j + size], k[j : j + size, i : i + size] = products, products.T
    weights = [torch.linalg.solve(k + len(k) * d * torch.eye(len(k)).to(k), a) for k, a, d in zip(gram, along, damping, strict=True)]
    made = v.clone()
    for i in range(0, x.shape[1], size):
        for row, g, w in zip(made, rows(i), weights, strict=True):
            row -= w[i : i + size].to(g.dtype) @ g
    return made / v.new_tensor(damping).unsqueeze(1)
