"""CFW, confuse, fine-tune, weaken: noise on the first convolutions, then class-balanced fine-tuning, then a little noise again.

    stem convolutions += N(0, sigma_1^2)
    loss = sum_i w(y_i) CE_i / sum_i w(y_i) over retain,  w(c) = n / (K * n_c): n examples, of which n_c are of class c; K classes that occur
    before the last epoch, if there are two or more: stem convolutions += N(0, sigma_2^2)

Source: code of the NeurIPS-2023 unlearning challenge entry ranked third, as benchmarked in arXiv:2410.01276 (there is no paper of its own).
SGD, cosine per epoch; batch-norm statistics move. Forget is never read. Differs from the released code, where the class weights only
rescale the loss of a batch as a whole, and where the noise finds no convolution in a network whose stem is nested.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from engine.data.loader import Splits
from engine.models.parts import add_noise
from engine.models.stack import Stack
from engine.optim import SGD, cosine
from engine.params import Params, hp, share_of_training
from engine.registry import method
from engine.runtime import PerReplica, Run
from engine.steps import class_counts, weighted_ce

ClassWeightedLoss = Callable[[Tensor, Tensor, Tensor], Tensor]  # (logits [R, B, K], labels [R, B], class weights [R, K]) -> [R]


@dataclass(frozen=True, kw_only=True)
class ConfuseFinetuneWeakenParams(Params):
    lr: float = hp(7e-4, within=(0, 10), search=(1e-5, 1e-1), log=True, doc="SGD step size at the start of the cosine")
    momentum: float = hp(0.9, within=(0, 1), doc="SGD momentum")
    weight_decay: float = hp(5e-4, within=(0, 1), search=(1e-5, 1e-1), log=True, doc="L2 on all weights")
    epochs: int = hp(4, within=(1, 1000), search=share_of_training(0.2), doc="walks over retain")
    batch: int = hp(64, within=(1, 65_536), search=(64, 128, 256), doc="examples per step")
    sigma_1: float = hp(0.6, within=(0, 100), search=(0, 1), doc="standard deviation of the noise before training")
    sigma_2: float = hp(0.005, within=(0, 100), search=(0, 1), doc="standard deviation of the noise before the last epoch")


@method("cfw", label="CFW", family="finetune", source="code", paper="arXiv:2410.01276", reads={"retain"}, version=1, params=ConfuseFinetuneWeakenParams)
def cfw(stack: Stack, data: Splits, params: PerReplica, run: Run) -> Stack:
    return confuse_and_weaken(stack, data, params, run, stack.architecture.stem, weighted_ce)


def confuse_and_weaken(stack: Stack, data: Splits, params: PerReplica, run: Run, noisy: Sequence[str], loss_of: ClassWeightedLoss) -> Stack:
    """CFW with noise on all parameters of the modules `noisy` and this loss."""
    student, noise = stack.copy().train(), run.rng.for_purpose("noise").generators
    weight, names = balanced(class_counts(data, "retain")), student.names(noisy)
    opt = SGD(student, lr=params.lr, momentum=params.momentum, weight_decay=params.weight_decay)
    start, total = opt.lr, params.epochs.cpu()
    for epoch in run.epochs(params.epochs, student):
        sigma = params.sigma_1 if epoch == 0 else torch.where(epoch == total - 1, params.sigma_2.cpu(), 0)
        for name in names:
            add_noise(student.params[name], sigma, noise)
        opt.lr = cosine(start, epoch, total)
        for x, y in data.batches("retain", params.batch, run.rng):
            loss = loss_of(student(x), y, weight)
            opt.zero_grad()
            loss.sum().backward()
            opt.step()
            run.log(loss=loss)
    return student


def balanced(counts: Float[Tensor, "r k"]) -> Float[Tensor, "r k"]:
    """Class weights n / (K * count), so that all K classes that occur weigh alike; of no meaning for those that do not."""
    return counts.sum(1, keepdim=True) / ((counts > 0).sum(1, keepdim=True) * counts.clamp(min=1))
