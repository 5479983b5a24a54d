"""SCRUB, scalable remembering and unlearning bound: away from the original model on forget, near it on retain; then rewind.

    KL = T^2 * KL(softmax(original / T) || softmax(student / T)), mean over the batch
    in the first `forget_epochs` epochs one walk over forget:  loss = -KL
    in every epoch one walk over retain:                       loss = gamma * CE + alpha * KL
    lr at epoch e = 1..E: lr * lr_decay ** #{m in floor(.5 E), floor(.8 E), floor(.9 E) : e > m}
    rewind (SCRUB+R): the weights after that epoch 0..E whose forget error is nearest to the last epoch's error on val images of forget's classes

Source: Kurmanji et al., "Towards Unbounded Machine Unlearning", NeurIPS 2023, arXiv:2302.09880; the rates as benchmarked in arXiv:2410.01276.
Batch-norm statistics move in both walks. `forget_epochs` is the paper's msteps. Epoch 0 is the original model; of equally near epochs the last is
taken, so that a model which never forgot too much is not rewound. With rewind=false val is not read.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from engine.data.loader import Batch, Splits
from engine.errors import DataError
from engine.losses import ce, kl
from engine.models.stack import Stack
from engine.optim import SGD
from engine.params import Params, hp, share_of_training
from engine.registry import method
from engine.runtime import PerReplica, Run
from engine.steps import stepwise

EVALUATION_BATCH = 500


@dataclass(frozen=True, kw_only=True)
class ScrubParams(Params):
    lr: float = hp(5e-4, within=(0, 10), search=(1e-5, 1e-1), log=True, doc="SGD step size at the start")
    momentum: float = hp(0.9, within=(0, 1), doc="SGD momentum")
    weight_decay: float = hp(5e-4, within=(0, 1), search=(1e-5, 1e-1), log=True, doc="L2 on all weights")
    lr_decay: float = hp(0.1, within=(0, 1), doc="factor on the step size at 50, 80 and 90 % of the epochs")
    epochs: int = hp(5, within=(1, 1000), search=share_of_training(0.2), doc="walks over retain")
    forget_epochs: int = hp(3, within=(0, 1000), search=share_of_training(0.2), inert=True, doc="first epochs that begin with a walk over forget")
    retain_batch: int = hp(32, within=(1, 65_536), search=(64, 128, 256), doc="examples per step on retain")
    forget_batch: int = hp(64, within=(1, 65_536), search=(64, 128, 256), doc="examples per step on forget")
    gamma: float = hp(1.0, within=(0, 1000), search=(0, 1), doc="weight of the cross-entropy on retain")
    alpha: float = hp(0.5, within=(0, 1000), search=(0, 1), doc="weight of the distance to the original model on retain")
    temperature: float = hp(2.0, within=(0.01, 100), search=(0.1, 5), doc="softmax temperature of that distance")
    rewind: bool = hp(True, inert=True, doc="return the epoch whose forget error is as large as on unseen images")


@dataclass(frozen=True)
class Course:
    """A run of SCRUB epoch by epoch: weights and forget error (share of wrong answers) of the original model and after each epoch.
    Rows beyond a replica's own epochs mean nothing."""

    states: list[dict[str, Tensor]]
    forget_error: Float[Tensor, "e r"]


@method("scrub", label="SCRUB", family="distillation", source="paper", paper="arXiv:2302.09880", reads={"retain", "forget", "val"}, version=1,
        params=ScrubParams,
        walks=lambda params, classes: params["epochs"] + params["forget_epochs"])
def scrub(stack: Stack, data: Splits, params: PerReplica, run: Run) -> Stack:
    student, chance = stack.copy().train(), run.rng.for_purpose("forget")
    course = learn(student, data, params, run, lambda: data.batches("forget", params.forget_batch, chance))
    if params.rewind:
        rewind(student, course, nearest(course.forget_error, unseen_error(student, data), params.epochs.long()))
    return student


def learn(student: Stack, data: Splits, params: PerReplica, run: Run, forget: Callable[[], Iterator[Batch]]) -> Course:
    """All epochs, in place; `forget` gives one walk over forget. The course is recorded only where the parameters ask to rewind."""
    teacher = student.teacher()
    opt = SGD(student, lr=params.lr, momentum=params.momentum, weight_decay=params.weight_decay)
    start, decay, total = opt.lr, params.lr_decay.cpu(), params.epochs.cpu()

    def distance(x: Tensor, logits: Tensor) -> Tensor:
        with torch.no_grad():
            target = teacher(x)
        return params.temperature.square() * kl(target, logits, params.temperature)

    def step(loss: Tensor) -> None:
        opt.zero_grad()
        loss.sum().backward()
        opt.step()

    states, errors = ([student.state()], [error(student, data, "forget")]) if params.rewind else ([], [])
    for epoch in run.epochs(params.epochs, student, teacher):
        opt.lr = stepwise(start, decay, epoch + 1, total)
        early = epoch < params.forget_epochs
        with student.among(early) as some, teacher.among(early):
            for x, _ in forget() if some else ():
                away = distance(x, student(x))
                step(-away)
                run.log(forget_distance=away)
        for x, y in data.batches("retain", params.retain_batch, run.rng):
            logits = student(x)
            near, loss = distance(x, logits), ce(logits, y)
            step(params.gamma * loss + params.alpha * near)
            run.log(retain_loss=loss, retain_distance=near)
        if params.rewind:
            states.append(student.state())
            errors.append(error(student, data, "forget"))
    return Course(states, torch.stack(errors) if errors else torch.empty(0, student.replicas))


@torch.no_grad()
def error(student: Stack, data: Splits, split: str, counted: Bool[Tensor, "r n"] | None = None) -> Float[Tensor, " r"]:
    """Share of wrong answers of each active replica on a split in index order (on those of its examples that are `counted`), in eval mode."""
    wrong = []
    training = student.training
    student.eval()
    for x, y in data.ordered(split, EVALUATION_BATCH):
        wrong.append(student(x).argmax(-1) != y)
    student.train(training)
    marked = torch.cat(wrong, 1)
    among = torch.ones_like(marked) if counted is None else counted
    return (marked & among).sum(1).double() / among.sum(1)


def unseen_error(student: Stack, data: Splits) -> Float[Tensor, " r"]:
    """Error on the val images whose class occurs in forget: how often the model errs on images like these that it never saw.

    Raises: DataError where there is no such image.
    """
    classes = torch.zeros(student.replicas, data.info.classes, dtype=torch.bool, device=data.device)
    classes.scatter_(1, data.labels("forget"), True)
    counted = classes.gather(1, data.labels("val"))
    if not bool(counted.any(1).all()):
        raise DataError("scrub: val has no image of any class of the forget set, so there is no error to rewind to; use rewind=false")
    return error(student, data, "val", counted)


def nearest(forget_error: Float[Tensor, "e r"], unseen: Float[Tensor, " r"], epochs: Int[Tensor, " r"]) -> Int[Tensor, " r"]:
    """The epoch whose forget error is nearest to the unseen error, the last of equals; epoch 0 is the original model."""
    near = nearest_epochs(forget_error, unseen, epochs)
    return (near * numbers(near)).amax(0)


def nearest_epochs(forget_error: Float[Tensor, "e r"], unseen: Float[Tensor, " r"], epochs: Int[Tensor, " r"]) -> Bool[Tensor, "e r"]:
    """Which epochs of each replica's own are as near as any."""
    gap = (forget_error - unseen).abs().masked_fill(numbers(forget_error) > epochs, torch.inf)
    return gap == gap.amin(0)


def numbers(rows: Tensor) -> Int[Tensor, "e 1"]:
    """0, 1, ..., one a row."""
    return torch.arange(len(rows), device=rows.device).unsqueeze(1)


def rewind(student: Stack, course: Course, epochs: Int[Tensor, " r"]) -> None:
    """Give each replica the weights that it had after its epoch."""
    for epoch, state in enumerate(course.states):
        student.replace(epochs == epoch, state)
