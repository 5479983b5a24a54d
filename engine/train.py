"""The one training loop: original and retrained models, by the study's recipe.

SGD with momentum and coupled decay, cosine per epoch to zero, last epoch kept. Source: arXiv:2410.01276 and its code.
"""

from dataclasses import dataclass

from engine.data.loader import Splits
from engine.losses import ce
from engine.models.stack import Stack
from engine.optim import SGD, cosine, per_replica
from engine.params import Params, hp
from engine.runtime import Run

RECIPE_VERSION = 1


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
    stack.train()
    total = per_replica(recipe.epochs, stack.replicas)
    opt = SGD(stack, lr=recipe.lr, momentum=recipe.momentum, weight_decay=recipe.weight_decay)
    start = opt.lr
    for epoch in run.epochs(recipe.epochs, stack):
        opt.lr = cosine(start, epoch, total)
        for x, y in data.batches(split, recipe.batch, run.rng, augment=recipe.augment):
            loss = ce(stack(x), y)
            opt.zero_grad()
            loss.sum().backward()
            opt.step()
            run.log(loss=loss)
    return stack
