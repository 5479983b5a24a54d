"""MSG as released: the balance of the two gradients hangs on the batch size, and so does the mask."""

import torch
from torch.nn import functional as F

from engine import registry
from engine.data.loader import Splits
from engine.models.catalogue import ARCHITECTURES
from engine.models.stack import Stack
from engine.runtime import Rng
from engine.unlearn.msg import contrast_gradient as corrected
from engine.unlearn.official.msg import RETAIN_BATCH, contrast_gradient
from tests.unlearn.small import colour_splits
from tests.unlearn.test_contract import SPEC, toy_model, unlearn
from tests.unlearn.test_steps import SEED

OFFICIAL = registry.get("msg", "official")


def test_gradient_is_a_difference_of_sums_of_batch_means() -> None:
    before = toy_model(precision="fp64")
    plain, data, rng = before[0].train(), Splits.of([SPEC], dtype=torch.float64), Rng([SEED])
    n = data.size("forget")
    assert n == 17 and n < RETAIN_BATCH
    loss = torch.zeros((), dtype=torch.float64)
    (x, y) = next(data.batches("retain", n, rng))
    loss = loss + F.cross_entropy(plain(x[0]), y[0])
    parts = [(x[0], y[0]) for x, y in data.batches("forget", 5, rng)]
    assert [len(y) for _, y in parts] == [5, 5, 5, 2]
    for x, y in parts:
        loss = loss - F.cross_entropy(plain(x), y)
    names = list(before.tensors("conv"))
    expected = torch.autograd.grad(loss, [plain.get_parameter(n) for n in names])
    found = contrast_gradient(before.copy().train(), data, 5, Rng([SEED]))
    for name, gradient in zip(names, expected, strict=True):
        torch.testing.assert_close(found[name][0], gradient, rtol=0, atol=1e-12)


def test_retain_is_cut_to_the_size_of_forget_in_batches_of_64() -> None:
    """In eval mode (no batch statistics): 70 examples are a mean over 64 and one over 6."""
    data = colour_splits(retain=90, forget=70, classes=10, dtype=torch.float64)
    stack = Stack.build(ARCHITECTURES["cnn"], channels=3, classes=10, side=32, seeds=[0], precision="fp64").eval()
    plain, rng = stack[0].eval(), Rng([SEED])
    (x, y), = data.batches("retain", 90, rng)
    (x_f, y_f), = data.batches("forget", 70, rng)
    loss = sum(F.cross_entropy(plain(x[0, part]), y[0, part]) for part in (slice(64), slice(64, 70))) - F.cross_entropy(plain(x_f[0]), y_f[0])
    expected = torch.autograd.grad(loss, plain.get_parameter("conv2.weight"))[0]
    torch.testing.assert_close(contrast_gradient(stack, data, 70, Rng([SEED]))["conv2.weight"][0], expected, rtol=0, atol=1e-12)
    assert stack.forward_images.tolist() == [140]


def test_with_one_batch_each_it_is_the_corrected_gradient_and_with_more_it_is_not() -> None:
    before, data = toy_model(precision="fp64").eval(), Splits.of([SPEC], dtype=torch.float64)
    mean = corrected(before, data, 17, Rng([SEED]))["conv2.weight"]
    torch.testing.assert_close(contrast_gradient(before, data, 17, Rng([SEED]))["conv2.weight"], mean, rtol=0, atol=1e-12)
    assert not torch.allclose(contrast_gradient(before, data, 5, Rng([SEED]))["conv2.weight"], mean, rtol=0.1)


def test_the_mask_takes_the_smallest_of_that_gradient_and_changes_with_the_batch() -> None:
    before, data, moved = toy_model(precision="fp64"), Splits.of([SPEC], dtype=torch.float64), {}
    for batch in (5, 17):
        params = OFFICIAL.params.from_dict({"lr": 0.0, "weight_decay": 0.0, "epochs": 1, "batch": batch, "ratio": 0.25}, "msg")
        after = unlearn(OFFICIAL, before, [SEED], [params])
        moved[batch] = after.params["conv2.weight"] != before.params["conv2.weight"]
        assert int(moved[batch].sum()) == round(0.25 * moved[batch].numel())
        gradient = contrast_gradient(before.copy().train(), data, batch, Rng([SEED]))["conv2.weight"].abs()
        assert gradient[moved[batch]].max() <= gradient[~moved[batch]].min()
    assert not torch.equal(moved[5], moved[17])
