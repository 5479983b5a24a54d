"""KDE as released: the first phase distils on val, the set that then serves as unseen data, and the stem is only reset where it is `conv1`.

So val accuracy and attacks that take val for unseen are flattered. TinyViT's stem keeps its weights. Otherwise as `kde`, whose docstring has the
formulas and sources.
"""

from engine.data.loader import Splits
from engine.models.stack import Stack
from engine.registry import method
from engine.runtime import PerReplica, Run
from engine.unlearn.kde import KnowledgeDistillationParams, distil


@method("kde", label="KDE", family="distillation", source="code", paper="arXiv:2410.01276", reads={"retain", "val"}, version=1,
        params=KnowledgeDistillationParams, variant="official",
        walks=lambda params, classes: params["epochs"] + params["retain_epochs"])
def kde(stack: Stack, data: Splits, params: PerReplica, run: Run) -> Stack:
    stem = [name for name in stack.architecture.stem if name == "conv1"]
    return distil(stack, data, "val", [*stem, *stack.architecture.head], params, run)
