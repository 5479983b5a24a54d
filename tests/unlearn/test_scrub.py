"""SCRUB by hand: both passes, the rates, which epoch is rewound to."""

import dataclasses

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from engine import registry
from engine.data.loader import Splits
from engine.errors import DataError
from engine.models.catalogue import ARCHITECTURES
from engine.models.stack import Stack
from engine.params import Params
from engine.registry import Method
from engine.runtime import PerReplica, Rng, Run
from engine.unlearn.official.scrub import chosen
from engine.unlearn.scrub import error, nearest, unseen_error
from tests.unlearn.small import colour_splits
from tests.unlearn.test_contract import SPEC, same, toy_model, unlearn
from tests.unlearn.test_steps import SEED, close, examples

SCRUB, OFFICIAL = registry.get("scrub"), registry.get("scrub", "official")
WHOLE = {"momentum": 0.0, "weight_decay": 0.0, "retain_batch": 1000, "forget_batch": 1000, "lr_decay": 1.0, "rewind": False}


def settings(**changes: object) -> Params:
    return SCRUB.params.from_dict(WHOLE | changes, "scrub")


def error_on(module: nn.Module, x: Tensor, y: Tensor) -> float:
    with torch.no_grad():
        return float((module.eval()(x).argmax(1) != y).double().mean())


@pytest.mark.parametrize("m", [SCRUB, OFFICIAL], ids=["corrected", "official"])
def test_two_epochs_equal_the_formula(m: Method) -> None:
    before = toy_model(precision="fp64")
    teacher, plain, heat = before[0].eval(), before[0].train(), 3.0

    def distance(x: Tensor, logits: Tensor) -> Tensor:
        target = F.softmax(teacher(x) / heat, 1).detach()
        return heat**2 * F.kl_div(F.log_softmax(logits / heat, 1), target, reduction="batchmean")

    def step(loss: Tensor) -> None:
        with torch.no_grad():
            for p, grad in zip(plain.parameters(), torch.autograd.grad(loss, list(plain.parameters())), strict=True):
                p -= 0.02 * grad

    (x_f, _), (x_r, y_r) = examples("forget"), examples("retain")
    step(-distance(x_f, plain(x_f)))  # in the first epoch alone
    for _ in range(2):
        logits = plain(x_r)
        step(0.7 * F.cross_entropy(logits, y_r) + 0.4 * distance(x_r, logits))
    after = unlearn(m, before, [SEED], [settings(lr=0.02, epochs=2, forget_epochs=1, gamma=0.7, alpha=0.4, temperature=heat)])
    close(after, plain.state_dict())


def test_the_rate_falls_at_half_at_eight_and_at_nine_tenths() -> None:
    """Ten epochs without forgetting equal phases of 5, 3, 1 and 1 epochs at their own rates, the first epoch counting as 1."""
    def run(stack: Stack, epochs: int, seed: int, lr: float, decay: float) -> Stack:
        return unlearn(SCRUB, stack, [seed], [settings(lr=lr, lr_decay=decay, epochs=epochs, forget_epochs=0, alpha=0.0)])

    whole, parts = run(toy_model(precision="fp64"), 10, SEED, 0.1, 0.5), toy_model(precision="fp64")
    for epochs, lr in ((5, 0.1), (3, 0.05), (1, 0.025), (1, 0.0125)):
        parts = run(parts, epochs, SEED, lr, 1.0)
    close(whole, parts.state_of(0))


def test_the_nearest_epoch_is_the_last_of_equals_and_officially_the_first_where_the_original_means_the_last() -> None:
    forget = torch.tensor([[0.0, 0.3, 0.1, 0.0], [0.2, 0.1, 0.1, 0.0], [0.2, 0.5, 0.3, 0.4], [0.6, 0.5, 0.2, 0.2]], dtype=torch.float64)
    unseen, epochs = torch.tensor([0.2, 0.3, 0.1, 0.2], dtype=torch.float64), torch.tensor([3, 3, 3, 2])
    assert nearest(forget, unseen, epochs).tolist() == [2, 0, 1, 2]  # the last replica has no epoch 3
    assert chosen(forget, unseen, epochs).tolist() == [1, 3, 3, 2]


def test_a_model_that_never_forgets_is_not_rewound() -> None:
    assert nearest(torch.zeros(4, 1, dtype=torch.float64), torch.tensor([0.1], dtype=torch.float64), torch.tensor([3])).tolist() == [3]


@pytest.mark.parametrize(("m", "lr"), [(SCRUB, 0.1), (OFFICIAL, 0.1), (SCRUB, 5e-4), (OFFICIAL, 5e-4)])
def test_rewinding_returns_the_weights_of_that_epoch(m: Method, lr: float) -> None:
    before, data = toy_model(precision="fp64"), Splits.of([SPEC], dtype=torch.float64)
    base = settings(lr=lr, retain_batch=64, forget_batch=8, forget_epochs=5)
    course = [before, *(unlearn(m, before, [SEED], [dataclasses.replace(base, epochs=e)]) for e in range(1, 5))]
    errors = torch.tensor([[error_on(stack[0], *examples("forget"))] for stack in course], dtype=torch.float64)
    (x, y), seen = examples("val"), examples("forget")[1]
    kept = torch.isin(y, seen)
    unseen = torch.tensor([error_on(course[-1][0], x[kept], y[kept])], dtype=torch.float64)
    torch.testing.assert_close(unseen_error(course[-1], data), unseen)
    expected = int((nearest if m is SCRUB else chosen)(errors, unseen, torch.tensor([4])))
    after = unlearn(m, before, [SEED], [dataclasses.replace(base, epochs=4, rewind=True)])
    assert same(after, course[expected])
    assert len(errors.unique()) > 1 and (m is OFFICIAL or expected < 4), "this case should have something to rewind"


def test_val_counts_only_where_its_class_is_in_forget() -> None:
    data = colour_splits(2, retain=6, forget=2, val=6)  # forget has labels 0 and 1, val 2, 0, 1, 2, 0, 1
    labels = data.labels("val")
    assert data.labels("forget")[0].tolist() == [0, 1] and labels[0].tolist() == [2, 0, 1, 2, 0, 1]
    stack = Stack.build(ARCHITECTURES["cnn"], channels=3, classes=3, side=32, seeds=[0, 1])
    (x, _), = data.ordered("val", 10)
    with torch.no_grad():
        wrong = (stack.eval()(x).argmax(-1) != labels).double()
    torch.testing.assert_close(unseen_error(stack, data), wrong[:, [1, 2, 4, 5]].mean(1))
    torch.testing.assert_close(error(stack, data, "val"), wrong.mean(1))


def test_a_val_without_the_classes_of_forget_is_refused_with_what_to_do() -> None:
    data = colour_splits(retain=3, forget=1, val=2, classes=3)  # forget has label 0, val 1 and 2
    stack = Stack.build(ARCHITECTURES["cnn"], channels=3, classes=3, side=32, seeds=[0])
    with pytest.raises(DataError, match="use rewind=false"):
        SCRUB.run(stack, data, PerReplica([settings(rewind=True)]), Run(Rng([SEED])))
    SCRUB.run(stack, data.restricted(frozenset({"retain", "forget"})), PerReplica([settings()]), Run(Rng([SEED])))


@pytest.mark.parametrize("m", [SCRUB, OFFICIAL], ids=["corrected", "official"])
def test_a_replica_gets_the_same_bits_next_to_one_that_forgets_longer_and_rewinds_elsewhere(m: Method) -> None:
    stack = toy_model(3)
    params = [settings(lr=lr, epochs=e, forget_epochs=f, retain_batch=64, forget_batch=8, rewind=True)
              for lr, e, f in ((0.1, 3, 3), (0.05, 2, 1), (5e-4, 1, 0))]
    together = unlearn(m, stack, [1, 2, 3], params)
    for r in range(3):
        alone = unlearn(m, stack.like([stack.state_of(r)]), [r + 1], [params[r]])
        assert all(torch.equal(t, together.state_of(r)[n]) for n, t in alone.state_of(0).items())
        assert (together.forward_images[r], together.backward_images[r]) == (alone.forward_images[0], alone.backward_images[0])


def test_forget_epochs_and_rewind_act() -> None:
    before, base = toy_model(), settings(lr=0.05, epochs=3, forget_epochs=1, retain_batch=64)
    once, twice = (unlearn(SCRUB, before, [0], [dataclasses.replace(base, forget_epochs=f)]) for f in (1, 2))
    assert not same(once, twice)
    assert (twice.backward_images - once.backward_images).tolist() == [len(examples("forget")[1])]
