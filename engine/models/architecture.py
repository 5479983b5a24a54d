"""What an architecture is to the rest: a name, a builder of one ordinary module, and its forward over a stack if it has one."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from torch import Tensor, nn

if TYPE_CHECKING:
    from engine.models.fused import Fused


@dataclass(frozen=True)
class Architecture:
    """build(channels, classes, side) gives one network; fused(f, x [B, R*C, H, W]) -> logits [R, B, K] is that network over
    a stack, or None where only the loop executor serves. Raise `version` whenever its numbers change.

    What methods need to know of its anatomy, as names of modules: stem, the convolutions that see the image; blocks, from the
    image to the head, each all the modules that belong to it; head, the classifier. kept: of a network with stochastic depth, the
    probabilities with which it keeps each of its branches, in the order in which a forward pass draws them. maps: how blocks hand on
    feature maps.
    """

    name: str
    label: str
    build: Callable[[int, int, int], nn.Module]
    fused: "Callable[[Fused, Tensor], Tensor] | None"
    doc: str
    stem: tuple[str, ...]
    blocks: tuple[tuple[str, ...], ...]
    head: tuple[str, ...]
    kept: tuple[float, ...] = ()
    version: int = 1
    maps: Literal["b c h w", "b h w c"] = "b c h w"

    @property
    def after_blocks(self) -> tuple[str, ...]:
        """Of each block the module that is handed what it makes: the next block's first, or the head's."""
        return (*(block[0] for block in self.blocks[1:]), self.head[0])

    def describe(self) -> dict[str, Any]:
        return {"name": self.name, "label": self.label, "doc": self.doc, "version": self.version,
                "executors": ["loop", *(("fused", "products", "compiled") if self.fused else ())]}
