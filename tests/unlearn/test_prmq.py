"""PRMQ by hand: which weights are pruned, what becomes of them, one step, how many steps, the rounding."""

import torch
from torch import nn
from torch.nn.utils import prune as reference

from engine import registry
from engine.data.loader import Splits
from engine.runtime import PerReplica, Rng, Run
from engine.unlearn.prmq import entropy, match, prune, quantise, smallest_weights
from tests.unlearn.test_contract import SPEC, quick, toy_model, unlearn
from tests.unlearn.test_steps import SEED, close, examples, stepped

PRMQ = registry.get("prmq")


def test_the_mask_is_that_of_torchs_global_pruning() -> None:
    stack = toy_model(2)
    mask = smallest_weights(stack, torch.tensor([0.3, 0.85], dtype=torch.float64))
    assert set(mask) == {"conv1.weight", "conv2.weight", "conv3.weight", "fc.weight", "fc.bias"}
    for r, ratio in enumerate((0.3, 0.85)):
        plain = stack[r].to(memory_format=torch.contiguous_format)
        layers = [(plain.get_submodule(n.rpartition(".")[0]), n.rpartition(".")[2]) for n in mask]
        reference.global_unstructured(layers, pruning_method=reference.L1Unstructured, amount=ratio)
        for name, (layer, kind) in zip(mask, layers, strict=True):
            assert torch.equal(mask[name][r], ~getattr(layer, f"{kind}_mask").bool()), name


def test_pruned_weights_are_redrawn_pruned_biases_zero_and_the_rest_stays() -> None:
    before = toy_model(2)
    after, mask = before.copy(), smallest_weights(before, torch.tensor([0.9, 0.5], dtype=torch.float64))
    prune(after, mask, Rng([1, 2]))
    for name, p in before.params.items():
        chosen = mask.get(name, torch.zeros_like(p, dtype=torch.bool))
        assert torch.equal(after.params[name][~chosen], p[~chosen]), name
        if name.endswith(".weight") and name in mask:
            drawn, bound = after.params[name][chosen], p[0, 0].numel() ** -0.5
            assert not bool((drawn == p[chosen]).any()) and 0.95 * bound < drawn.abs().max() <= bound, name
            assert abs(drawn.std().item() / (bound / 3**0.5) - 1) < 0.1, name
    assert bool(mask["fc.bias"].any()) and bool((after.params["fc.bias"][mask["fc.bias"]] == 0).all())


def test_a_step_equals_the_formula() -> None:
    before, (x, y) = toy_model(precision="fp64"), examples("retain")
    student = before.copy().train()
    prune(student, smallest_weights(student, torch.tensor([0.5], dtype=torch.float64)), Rng([SEED]))
    plain, original = student[0], before[0].eval()
    weight = torch.bincount(y, minlength=10).double() ** -0.1
    probabilities, target = plain(x).softmax(1), original(x).softmax(1).detach()
    distance = (-(probabilities * probabilities.log()).sum(1) + (target * target.log()).sum(1)) ** 2
    loss = nn.functional.cross_entropy(plain(x), y, weight=weight) + distance.mean()
    assert distance.mean() > 0.01
    expected = stepped(plain, loss, 0.05)
    params = PRMQ.params.from_dict({"lr": 0.05, "momentum": 0.0, "weight_decay": 0.0, "epochs": 0.5, "batch": 1000}, "prmq")
    data = Splits.of([SPEC], dtype=torch.float64)
    close(match(student, before.teacher(), data, PerReplica([params]), Run(Rng([SEED]))), expected)


def test_the_whole_method_ends_in_half_precision() -> None:
    before = toy_model()
    after = unlearn(PRMQ, before, [0], [quick(PRMQ, batch=32)])
    for name, t in (after.params | after.buffers).items():
        assert torch.equal(t, t.half().to(t.dtype)), name
    assert after.buffers["bn1.num_batches_tracked"].dtype == torch.int64


def test_epochs_may_be_fractions_and_each_replica_takes_its_own_number_of_steps() -> None:
    epochs, n = (0.0, 1.5, 2.0, 3.2), Splits.of([SPEC]).size("retain")
    assert n == 153  # three steps of 64, 64 and 25
    after = unlearn(PRMQ, toy_model(4), [1, 2, 3, 4], [PRMQ.params.from_dict({"epochs": e, "batch": 64}, "prmq") for e in epochs])
    images = [64, n + 128, 2 * n + 64, 3 * n + 64]  # 1, 4 + 1, 6 + 1 and 9 + 1 steps
    assert after.backward_images.tolist() == images
    assert after.forward_images.tolist() == [2 * i for i in images], "the original's passes count too"


def test_rounding_is_to_half_precision_and_makes_large_values_infinite() -> None:
    stack = toy_model(2)
    with torch.no_grad():
        stack.params["fc.bias"][0, 0], stack.params["fc.bias"][1, 0], stack.params["fc.bias"][1, 1] = 7e4, 0.1, 65_504.0
    quantise(stack)
    assert stack.params["fc.bias"][0, 0].item() == float("inf") and stack.finite().tolist() == [False, True]
    assert stack.params["fc.bias"][1, :2].tolist() == [0.0999755859375, 65_504.0]


def test_entropy_of_uniform_and_certain_outputs() -> None:
    found = entropy(torch.tensor([[[0.0, 0.0, 0.0, 0.0], [1e4, 0.0, 0.0, 0.0]]], dtype=torch.float64))
    torch.testing.assert_close(found, torch.tensor([[4.0, 1.0]], dtype=torch.float64).log(), rtol=0, atol=1e-12)


def test_a_replica_gets_the_same_bits_next_to_other_fractions() -> None:
    stack, params = toy_model(3), [quick(PRMQ, batch=32, epochs=e, ratio=ratio) for e, ratio in ((0.3, 0.9), (1.45, 0.99), (2.9, 0.1))]
    together = unlearn(PRMQ, stack, [1, 2, 3], params)
    alone = unlearn(PRMQ, stack.like([stack.state_of(1)]), [2], params[1:2])
    assert all(torch.equal(t, together.state_of(1)[n]) for n, t in alone.state_of(0).items())
    assert together.forward_images[1] == alone.forward_images[0]
