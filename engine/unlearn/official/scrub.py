"""SCRUB as released: forget is walked in index order, and a rewind to the original model returns the last epoch instead.

Of equally near epochs the first is taken. Otherwise as `scrub`, whose docstring has the formulas and sources. The released code also evaluates
retain and val in every epoch and never uses the results; that time is not spent here.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from engine.data.loader import Splits
from engine.models.stack import Stack
from engine.registry import method
from engine.runtime import PerReplica, Run
from engine.unlearn.scrub import ScrubParams, learn, nearest_epochs, numbers, rewind, unseen_error


@method("scrub", label="SCRUB", family="distillation", source="code", paper="arXiv:2302.09880", reads={"retain", "forget", "val"}, version=1,
        params=ScrubParams, variant="official",
        walks=lambda params, classes: params["epochs"] + params["forget_epochs"])
def scrub(stack: Stack, data: Splits, params: PerReplica, run: Run) -> Stack:
    student = stack.copy().train()
    course = learn(student, data, params, run, lambda: data.ordered("forget", params.forget_batch))
    if params.rewind:
        rewind(student, course, chosen(course.forget_error, unseen_error(student, data), params.epochs.long()))
    return student


def chosen(forget_error: Float[Tensor, "e r"], unseen: Float[Tensor, " r"], epochs: Int[Tensor, " r"]) -> Int[Tensor, " r"]:
    """The first epoch whose forget error is nearest to the unseen error; where that is 0, the last epoch."""
    near = nearest_epochs(forget_error, unseen, epochs)
    first = torch.where(near, numbers(near), len(near)).amin(0)
    return torch.where(first == 0, epochs, first)
