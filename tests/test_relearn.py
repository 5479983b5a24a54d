"""Relearning: against a plain loop, what is recorded of those that never get there, and that nothing of it counts or stays."""

import pytest
import torch
from torch.nn import functional as F

import engine.relearn
from engine.data.loader import Splits
from engine.data.splits import DataSpec
from engine.models.catalogue import get
from engine.models.stack import Stack
from engine.relearn import BATCH, CAP, DRAWS, MARGIN, MOMENTUM, RATE, relearn
from engine.runtime import Rng, Run
from engine.train import Recipe, train

DATA = Splits.of([DataSpec("digits", "seeds", pool=400, forget=0)] * 2)  # 34 to forget


def stack_of(*seeds: int, executor: str = "loop") -> Stack:
    return Stack.build(get("cnn"), channels=1, classes=10, side=8, seeds=seeds, executor=executor)


def trained(stack: Stack, split: str, epochs: int) -> Stack:
    return train(stack, DATA, split, Recipe(epochs=epochs, batch=32, lr=0.05), Run(Rng(range(stack.replicas))))


def alone(stack: Stack, r: int, goal: float, seed: int) -> tuple[int, bool]:
    """Replica r by torch's own optimiser, one model."""
    model, chance = stack[r].eval(), torch.Generator().manual_seed(seed)
    opt = torch.optim.SGD(model.parameters(), lr=RATE, momentum=MOMENTUM)
    (x, y), epoch = next(DATA.ordered("forget", 500)), 0
    x, y = x[0], y[r]
    while F.cross_entropy(model(x), y).item() > goal and epoch < CAP:
        epoch += 1
        for drawn in torch.randint(len(y), (DRAWS,), generator=chance).split(BATCH):
            opt.zero_grad()
            F.cross_entropy(model(x[drawn]), y[drawn]).backward()
            opt.step()
    return epoch, F.cross_entropy(model(x), y).item() <= goal


def test_as_a_plain_loop_says_and_the_original_needs_none() -> None:
    original, retrained = trained(stack_of(0, 1), "train", 5), trained(stack_of(0, 1), "retain", 5)
    x, y = next(DATA.ordered("forget", 500))
    goals = [(1 + MARGIN) * F.cross_entropy(original[r].eval()(x[0]), y[r]).item() for r in range(2)]
    epochs, reached = relearn(retrained, original, DATA, [7, 8])
    assert [alone(retrained, r, goals[r], seed) for r, seed in enumerate((7, 8))] == list(zip(epochs.tolist(), reached.tolist(), strict=True))
    assert reached.all() and (epochs > 0).all() and (epochs < CAP).all()
    assert [v.tolist() for v in relearn(original, original, DATA, [7, 8])] == [[0, 0], [True, True]]


def test_who_is_not_there_at_the_cap_is_recorded_as_capped_and_holds_up_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine.relearn, "CAP", 2)
    original = trained(stack_of(0, 1), "train", 10)
    hurt = original.copy()
    for p in hurt.params.values():
        p.data[1] = torch.nan
    epochs, reached = relearn(hurt, original, DATA, [0, 1])
    assert epochs.tolist() == [0, 2] and reached.tolist() == [True, False]
    epochs, reached = relearn(stack_of(3, 4), original, DATA, [0, 1])  # never trained
    assert epochs.tolist() == [2, 2] and not reached.any()


def test_neither_stack_moves_or_counts_and_draws_are_each_replica_s_own() -> None:
    original, student = trained(stack_of(0, 1), "train", 5), stack_of(5, 6).train()
    before = [(s.forward_images.clone(), s.backward_images.clone(), s.flat()) for s in (original, student)]
    both = relearn(student, original, DATA, [3, 4])
    for stack, (forward, backward, weights) in zip((original, student), before, strict=True):
        assert torch.equal(stack.forward_images, forward) and torch.equal(stack.backward_images, backward) and torch.equal(stack.flat(), weights)
    assert student.training and original.training and student.active is None
    turned = [v.tolist() for v in relearn(student.like([student.state_of(r) for r in (1, 0)]), original.like([original.state_of(r) for r in (1, 0)]),
                                         DATA, [4, 3])]
    assert turned == [v.tolist()[::-1] for v in both]


def test_the_fast_path_says_the_same_and_a_forget_set_of_each_replica_is_its_own() -> None:
    data = Splits.of([DataSpec("digits", "seeds", pool=400, split=s, forget=0) for s in (1, 2)])
    original, student = (train(stack_of(0, 1), data, split, Recipe(epochs=epochs, batch=32, lr=0.05), Run(Rng([0, 1])))
                         for split, epochs in (("train", 6), ("retain", 4)))
    found = []
    for executor in ("loop", "fused"):
        one, other = (Stack(get("cnn"), s.template, [s.state_of(r) for r in range(2)], executor=executor) for s in (student, original))
        found.append([v.tolist() for v in relearn(one, other, data, [0, 1])])
    assert found[0] == found[1] and all(found[0][1])
