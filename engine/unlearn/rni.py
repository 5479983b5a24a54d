"""RNI, repeated noise injection: a fresh classifier, then epochs that each train, and shake, nine tensors drawn anew; then all of them.

    head <- torch's default initialisation
    epoch e < E - fine_epochs: draw nine tensors at random that are of no norm layer; if e >= reset_epochs, floor(9 * noise_share) of them
        += N(0, sigma^2); train the nine and all norm layers with lr, momentum and weight_decay
    later epochs: train everything with fine_lr, fine_momentum and fine_weight_decay
    loss = CE(retain); each epoch starts with momentum at rest

Source: code of the NeurIPS-2023 unlearning challenge entry ranked seventh, as benchmarked in arXiv:2410.01276 (there is no paper of its own).
Batch-norm statistics move. Forget is never read. fine_lr is one value here and a list by epoch there, of which the first is our default.
Differs from the released code, which knows norm layers by "bn" in their name and so takes the others for ordinary tensors (down-sampling in
ResNet, layer norms), and which measures val accuracy every epoch only to print it. A network of fewer than nine such tensors trains them all,
and noise then goes to that share of so many as there are. With fine_epochs >= E no noise is added at all.
"""

from collections.abc import Mapping, Set
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from engine.data.loader import Splits
from engine.losses import ce
from engine.models.parts import add_noise, layer_of, reset_to_default, training_only
from engine.models.stack import KINDS, Stack
from engine.optim import SGD
from engine.params import Params, hp, share_of_training
from engine.registry import method
from engine.runtime import PerReplica, Run

DRAWN = 9


@dataclass(frozen=True, kw_only=True)
class RepeatedNoiseParams(Params):
    lr: float = hp(2e-4, within=(0, 10), search=(1e-5, 1e-1), log=True, inert=True, doc="SGD step size of the epochs with nine tensors")
    momentum: float = hp(0.9, within=(0, 1), inert=True, doc="SGD momentum of the epochs with nine tensors")
    weight_decay: float = hp(5e-4, within=(0, 1), search=(1e-5, 1e-1), log=True, inert=True, doc="L2 in the epochs with nine tensors")
    epochs: int = hp(9, within=(1, 1000), search=share_of_training(0.2), doc="walks over retain in all")
    batch: int = hp(64, within=(1, 65_536), search=(64, 128, 256), doc="examples per step")
    fine_epochs: int = hp(4, within=(0, 1000), search=share_of_training(0.2), inert=True, doc="walks at the end that train everything")
    reset_epochs: int = hp(1, within=(0, 1000), search=share_of_training(0.2), inert=True, doc="walks at the start without noise")
    noise_share: float = hp(0.7, within=(0, 1), search=(0, 1), inert=True, doc="share of the nine tensors that gets noise")
    sigma: float = hp(0.04, within=(0, 100), search=(0, 1), inert=True, doc="standard deviation of the noise")
    fine_lr: float = hp(2e-4, within=(0, 10), search=(1e-5, 1e-1), log=True, doc="SGD step size of the epochs that train everything")
    fine_momentum: float = hp(0.9, within=(0, 1), doc="SGD momentum of the epochs that train everything")
    fine_weight_decay: float = hp(5e-4, within=(0, 1), search=(1e-5, 1e-1), log=True, doc="L2 in the epochs that train everything")


@method("rni", label="RNI", family="reset", source="code", paper="arXiv:2410.01276", reads={"retain"}, version=1, params=RepeatedNoiseParams)
def rni(stack: Stack, data: Splits, params: PerReplica, run: Run) -> Stack:
    return inject(stack, data, params, run, norm_tensors(stack))


def norm_tensors(stack: Stack) -> set[str]:
    """Names of the gains and biases of all norm layers."""
    return {name for name in stack.params if isinstance(layer_of(stack, name), KINDS["norm"])}


def inject(stack: Stack, data: Splits, params: PerReplica, run: Run, norms: Set[str]) -> Stack:
    """RNI where the tensors `norms` are trained in every epoch and never drawn."""
    student, noise, choice = stack.copy().train(), run.rng.for_purpose("noise").generators, run.rng.for_purpose("tensors")
    others = [name for name in student.params if name not in norms]
    shaken = (params.noise_share * min(DRAWN, len(others))).floor()
    reset_to_default(student, student.architecture.head, run.rng.generators)
    for epoch in run.epochs(params.epochs, student):
        fine = epoch >= params.epochs - params.fine_epochs
        rank = dict(zip(others, choice.permutations(len(others)).to(fine.device).unbind(1), strict=True))
        noisy = ~fine & (epoch >= params.reset_epochs)
        for name in others:
            add_noise(student.params[name], torch.where(noisy & (rank[name] < shaken), params.sigma, 0), noise)
        trained = trained_now(student, rank, fine)
        drawing = (epoch < params.epochs) & ~fine
        run.selected({name: trained[name] & drawing.view(-1, *[1] * (trained[name].dim() - 1)) for name in others})
        opt = SGD(student, lr=torch.where(fine, params.fine_lr, params.lr), momentum=torch.where(fine, params.fine_momentum, params.momentum),
                  weight_decay=torch.where(fine, params.fine_weight_decay, params.weight_decay), mask=trained)
        with training_only(student, trained):
            for x, y in data.batches("retain", params.batch, run.rng):
                loss = ce(student(x), y)
                opt.zero_grad()
                loss.sum().backward()
                opt.step()
                run.log(loss=loss)
    return student


def trained_now(stack: Stack, rank: Mapping[str, Int[Tensor, " r"]], fine: Bool[Tensor, " r"]) -> dict[str, Bool[Tensor, "r ..."]]:
    """Mask of what is trained: everything where `fine`; else what has no rank, and the nine tensors of lowest rank."""
    made: dict[str, Tensor] = {}
    for name, p in stack.params.items():
        chosen = fine | (rank[name] < DRAWN) if name in rank else torch.ones_like(fine)
        made[name] = chosen.to(p.device).view(-1, *[1] * (p.dim() - 1)).expand(p.shape)
    return made
