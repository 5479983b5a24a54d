"""BT, bad teacher: on retain imitate the original model, on forget one that knows nothing.

    loss = KL(softmax(teacher / T) || softmax(student / T)), mean over a batch of retain and forget shuffled together
    teacher = the original model for a retain example, a freshly initialised network for a forget example

Source: Chundawat et al., "Can Bad Teaching Induce Forgetting?", AAAI 2023, arXiv:2205.08096; as benchmarked in arXiv:2410.01276: all of retain
(the paper samples part of it), Adam without schedule, no factor T^2, batch-norm statistics move.
The fresh network has the architecture of the original model, each replica its own.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from engine.data.loader import Splits
from engine.losses import kl
from engine.models.architecture import Architecture
from engine.models.stack import Stack
from engine.optim import Adam
from engine.params import Params, hp, share_of_training
from engine.registry import method
from engine.runtime import PerReplica, Run

Distance = Callable[[Tensor, Tensor, Tensor], Tensor]  # (logits of the teacher, of the student, temperature [R]) -> [R]


@dataclass(frozen=True, kw_only=True)
class BadTeacherParams(Params):
    lr: float = hp(1e-2, within=(0, 10), search=(1e-5, 1e-1), log=True, doc="Adam step size")
    weight_decay: float = hp(0.0, within=(0, 1), search=(1e-5, 1e-1), log=True, doc="L2 on all weights")
    epochs: int = hp(10, within=(1, 1000), search=share_of_training(0.2), doc="walks over retain and forget together")
    batch: int = hp(256, within=(1, 65_536), search=(64, 128, 256), doc="examples per step")
    temperature: float = hp(1.0, within=(0.01, 100), search=(0.1, 5), doc="softmax temperature of teachers and student")


@method("bt", label="BT", family="distillation", source="paper", paper="arXiv:2205.08096", reads={"retain", "forget"}, version=1,
        params=BadTeacherParams)
def bt(stack: Stack, data: Splits, params: PerReplica, run: Run) -> Stack:
    return imitate(stack, data, params, run, stack.architecture, kl)


def imitate(stack: Stack, data: Splits, params: PerReplica, run: Run, ignorant: Architecture, distance: Distance) -> Stack:
    """A student of the original model on retain and of a fresh network of architecture `ignorant` on forget."""
    student = stack.copy().train()
    good, bad = student.teacher(), fresh(student, data, run, ignorant).eval().counting_with(student)
    opt = Adam(student, lr=params.lr, weight_decay=params.weight_decay)
    for _ in run.epochs(params.epochs, student, good, bad):
        for x, _, forgotten in data.mixed("forget", "retain", params.batch, run.rng):
            with torch.no_grad():
                target = torch.where(forgotten.unsqueeze(-1), bad(x), good(x))
            loss = distance(target, student(x), params.temperature)
            opt.zero_grad()
            loss.sum().backward()
            opt.step()
            run.log(distance=loss)
    return student


def fresh(student: Stack, data: Splits, run: Run, architecture: Architecture) -> Stack:
    """Freshly initialised networks for this data, one a replica; they run as `student` does."""
    info, seeds = data.info, run.rng.for_purpose("teacher").seeds
    return Stack.build(architecture, channels=info.channels, classes=info.classes, side=info.side, seeds=seeds, executor=student.executor,
                       precision=student.precision, device=student.device)
