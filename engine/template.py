"""The method file that `python -m engine --plugins DIR new-method NAME` writes: it runs as it is, and says what to change."""

import keyword
import os
from pathlib import Path

from engine import registry
from engine.errors import BadInput, RunError

TEMPLATE = '''"""{label}: one line that says what it does.

    loss = CE(retain)        (the formula, as the paper writes it; now it is plain fine-tuning)

Source: authors, "title", venue, arXiv number. What differs from the paper, and why.
"""

from dataclasses import dataclass

from engine.data.loader import Splits
from engine.losses import ce
from engine.models.stack import Stack
from engine.optim import SGD, cosine
from engine.params import Params, hp, share_of_training
from engine.registry import method
from engine.runtime import PerReplica, Run


@dataclass(frozen=True, kw_only=True)
class {class_name}(Params):
    """within: what is legal. search: what a search tries. The form in the app and the command line are made from this."""

    lr: float = hp(0.01, within=(0, 10), search=(1e-5, 1e-1), log=True, doc="SGD step size at the start of the cosine")
    epochs: int = hp(2, within=(1, 1000), search=share_of_training(0.2), doc="walks over retain")
    batch: int = hp(64, within=(1, 65_536), search=(64, 128, 256), doc="examples per step")


# family: finetune, ascent, distillation, reset or second_order. source: paper, code or reconstruction.
# reads: the splits that it is handed, of retain, forget and val; all others are unreadable to it.
@method("{name}", label="{label}", family="finetune", source="reconstruction", paper="", reads={{"retain"}}, version=1, params={class_name})
def {name}(stack: Stack, data: Splits, params: PerReplica, run: Run) -> Stack:
    """A stack is R networks at once: x is [R, B, C, H, W], logits [R, B, K], a loss [R], params.lr [R]. Write it as if there were one.

    Return a new stack and leave the given one alone. Draw all chance from `run.rng`.
    """
    student = stack.copy().train()  # .eval() keeps batch-norm statistics as they are
    opt = SGD(student, lr=params.lr, momentum=0.9)
    start, total = opt.lr, params.epochs.cpu()
    for epoch in run.epochs(params.epochs, student):
        opt.lr = cosine(start, epoch, total)
        for x, y in data.batches("retain", params.batch, run.rng):
            loss = ce(student(x), y)
            opt.zero_grad()
            loss.sum().backward()  # each replica gets its own gradient
            opt.step()
            run.log(loss=loss)
    return student
'''


def write(name: str) -> Path:
    """Write the template as `name`.py into the folder of plug-ins. Raises: BadInput, RunError; an existing file is left alone."""
    given = os.environ.get(registry.PLUGINS)
    faults = [] if given else ["new-method: say where to, `python -m engine --plugins DIR new-method NAME`"]
    if not name.isidentifier() or keyword.iskeyword(name) or name != name.lower() or name.startswith("_"):
        faults.append(f"new-method: got {name!r}, must be a Python name in small letters such as my_method")
    elif name in {"original", "retrained", *(m.name for m in registry.load_own())}:
        faults.append(f"new-method: there is a method '{name}' already; choose another name")
    if faults:
        raise BadInput(*faults)
    path = Path(given or "") / f"{name}.py"
    text = TEMPLATE.format(name=name, label=name.replace("_", " ").capitalize(), class_name=name.title().replace("_", "") + "Params")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        raise BadInput(f"{path}: exists already and was left as it is; choose another name or remove it") from None
    except OSError as error:
        raise RunError(f"{path}: could not be written ({error.strerror or error})") from error
    return path
