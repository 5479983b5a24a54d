"""The one training loop, `descend`: original and retrained models by the study's recipe, and every method that ends in fine-tuning.

The recipe: SGD with momentum and coupled decay, cosine per epoch to zero, last epoch kept. Source: arXiv:2410.01276 and its code.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from engine.data.loader import Splits
from engine.losses import ce
from engine.models.stack import Stack
from engine.optim import SGD, cosine
from engine.params import Params, hp
from engine.runtime import PerReplica, Run

RECIPE_VERSION = 1
Schedule = Callable[[Float[Tensor, " r"], int, Float[Tensor, " r"]], Float[Tensor, " r"]]  # (rate at the start, epoch, epochs in all) -> rate


@dataclass(frozen=True, kw_only=True)
class Recipe(Params):
    """How an original or retrained model is trained."""

    epochs: int = hp(50, within=(1, 10_000), doc="walks over the training data")
    batch: int = hp(256, within=(1, 65_536), doc="examples per step")
    lr: float = hp(0.1, within=(0, 10), doc="SGD step size at the start of the cosine")
    momentum: float = hp(0.9, within=(0, 1), doc="SGD momentum")
    weight_decay: float = hp(5e-4, within=(0, 1), doc="L2 on all weights")
    augment: bool = hp(True, doc="the dataset's training augmentation, where it has one")


def recipe_for(dataset: str, model: str) -> Recipe:
    """The study's recipe where it has one, the small CNN's otherwise."""
    if model == "cnn":
        return Recipe(batch=64)
    return Recipe(epochs=182) if dataset.startswith("cifar") else Recipe()


def train(stack: Stack, data: Splits, split: str, recipe: Recipe, run: Run) -> Stack:
    """Train a stack in place on `split` (`train` or `retain`) and return it."""
    return descend(stack.train(), data, split, PerReplica([recipe] * stack.replicas), run, augment=recipe.augment)


def descend(stack: Stack, data: Splits, split: str, params: PerReplica, run: Run, *, schedule: Schedule = cosine, augment: bool = False,
            mask: Mapping[str, Tensor] | None = None, grad_scale: Mapping[str, Tensor] | None = None) -> Stack:
    """Walk over `split` down its cross-entropy with SGD, in place, and return the stack; in the mode (train, eval) that it is in.

    params: lr, momentum, weight_decay and epochs [R], and batch. schedule: the rate of each epoch. mask, grad_scale: as in `SGD`.
    """
    opt = SGD(stack, lr=params.lr, momentum=params.momentum, weight_decay=params.weight_decay, mask=mask, grad_scale=grad_scale)
    start, total = opt.lr, params.epochs.cpu()
    for epoch in run.epochs(params.epochs, stack):
        opt.lr = schedule(start, epoch, total)
        for x, y in data.batches(split, params.batch, run.rng, augment=augment):
            loss = ce(stack(x), y)
            opt.zero_grad()
            loss.sum().backward()
            opt.step()
            run.log(loss=loss)
    return stack
