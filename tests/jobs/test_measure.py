"""Per-model numbers: a model beside itself is as close as can be; what needs another model is left out where that is not at hand."""

from pathlib import Path

import numpy as np
import pytest
import torch

import engine.relearn
from engine.attacks import population
from engine.data.loader import Splits
from engine.data.splits import DataSpec
from engine.jobs.cells import Numeric
from engine.jobs.compute import Context, compute
from engine.jobs.measure import CLOSENESS, Others, outputs, seeds_metrics
from engine.jobs.study import make_cell
from engine.metrics.cka import linear_cka
from engine.models.catalogue import get
from engine.models.stack import Stack
from engine.relearn import CAP
from engine.train import Recipe
from tests.unlearn.small import colour_splits

SPEC = DataSpec("digits", "seeds", pool=60, forget=0)  # five to forget: too few for population attacks, which take long


def stack_of(*seeds: int) -> Stack:
    return Stack.build(get("cnn"), channels=1, classes=10, side=8, seeds=seeds)


def needs_retrained(row: dict[str, float]) -> set[str]:
    return {name for name in row if name.startswith(CLOSENESS)}


def test_a_model_is_as_close_as_can_be_to_itself_and_further_from_another() -> None:
    stack, data = stack_of(0, 1), Splits.of([SPEC, SPEC])
    first, second = seeds_metrics(stack, data, [None, None], Others(stack_of(0, 2), stack_of(0, 2)))
    assert first is not None and second is not None and len(needs_retrained(first)) == 12
    for name in needs_retrained(first):
        perfect = 1.0 if name.startswith(("agreement", "cka")) else 0.0
        assert first[name] == pytest.approx(perfect, abs=1e-6) and second[name] != pytest.approx(perfect, abs=1e-6), name
    assert first["zrf"] == pytest.approx(1, abs=1e-6) and second["zrf"] < 1


def test_without_other_models_their_numbers_are_left_out_and_a_diverged_one_has_none() -> None:
    stack, data = stack_of(0, 1), Splits.of([SPEC, SPEC])
    found, = seeds_metrics(stack_of(0), Splits.of([SPEC]), [None])
    assert found is not None and not needs_retrained(found) and "zrf" not in found and "relearn_epochs" not in found
    with torch.no_grad():
        next(iter(stack.params.values()))[1] = torch.nan
    fine, diverged = seeds_metrics(stack, data, [None, None], Others(stack_of(0, 2), stack_of(3, 4)))
    assert diverged is None and fine is not None and np.isfinite([fine[name] for name in needs_retrained(fine)]).all()


# ---- activations


def test_layers_that_are_turned_are_alike_and_weights_are_not() -> None:
    """Channels in another order from layer to layer: the same function, so every CKA is 1, of far weights."""
    state, turn, again = stack_of(0).state_of(0), torch.randperm(16), torch.randperm(32)
    turned = {**state, "conv1.weight": state["conv1.weight"][turn], "conv2.weight": state["conv2.weight"][again][:, turn],
              "conv3.weight": state["conv3.weight"][:, again]}
    for name in ("weight", "bias", "running_mean", "running_var"):
        turned |= {f"bn1.{name}": state[f"bn1.{name}"][turn], f"bn2.{name}": state[f"bn2.{name}"][again]}
    row, = seeds_metrics(stack_of(0).like([turned]), Splits.of([SPEC]), [None], Others(stack_of(0)))
    assert row is not None and [row[f"cka_{layer}"] for layer in ("block1", "block2", "block3", "logits")] == pytest.approx([1] * 4, abs=1e-6)
    assert row["relative_weight_distance"] > 0.5 and row["js_test"] == pytest.approx(0, abs=1e-9)


def test_activations_are_those_after_each_block_in_a_plain_loop() -> None:
    mine, theirs = stack_of(0, 1), stack_of(2, 3)
    data = Splits.of([SPEC, SPEC])
    row = seeds_metrics(mine, data, [None, None], Others(theirs))[1]
    x, _ = next(data.ordered("test", 500))

    def layers(model: torch.nn.Module) -> list[torch.Tensor]:
        net, relu, pool = model.eval(), torch.relu, torch.nn.functional.avg_pool2d
        first = relu(net.bn1(net.conv1(x[0])))  # 8 x 8
        second = relu(torch.nn.functional.max_pool2d(net.bn2(net.conv2(first)), 2))  # 4 x 4
        third = relu(net.bn3(net.conv3(second))).mean((2, 3))
        return [pool(first, 2), second, third, net.fc(third)]

    with torch.no_grad():
        pairs = [[t.flatten(1).numpy() for t in pair] for pair in zip(layers(mine[1]), layers(theirs[1]), strict=True)]
    assert row is not None
    assert [row[f"cka_{layer}"] for layer in ("block1", "block2", "block3", "logits")] == pytest.approx([linear_cka(*pair) for pair in pairs], abs=1e-5)
    assert mine.training and theirs.training and not mine.forward_images.equal(torch.zeros(2))


@pytest.mark.parametrize(("name", "blocks"), [("resnet18", 4), ("tinyvit11m", 3)])
def test_large_architectures_have_the_rows(name: str, blocks: int) -> None:
    stack = Stack.build(get(name), channels=3, classes=3, side=32, seeds=[0])
    row, = seeds_metrics(stack, colour_splits(test=6), [None], Others(stack.copy()))
    assert row is not None
    assert {layer: row[layer] for layer in row if layer.startswith("cka_")} == pytest.approx(
        {f"cka_{layer}": 1.0 for layer in [*(f"block{i}" for i in range(1, blocks + 1)), "logits"]}, abs=1e-6)


# ---- relearning, and population attacks


def test_originals_need_no_relearning_and_tell_what_retrained_ones_need(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine.relearn, "DRAWS", 64)
    stack, data = stack_of(0, 1), Splits.of([SPEC, SPEC])
    row, _ = seeds_metrics(stack, data, [None, None], Others(stack_of(2, 3), original=stack, seeds=[0, 1]))
    assert row is not None and (row["relearn_epochs"], row["relearn_reached"]) == (0, 1)
    assert 0 <= row["retrained/relearn_epochs"] <= CAP and row["retrained/relearn_reached"] in (0, 1)
    other, _ = seeds_metrics(stack_of(2, 3), data, [None, None], Others(stack_of(4, 5), original=stack, seeds=[0, 1]))
    assert other is not None and "retrained/relearn_epochs" not in other
    assert other["relearn_epochs"] == row["retrained/relearn_epochs"]  # the same models with the same draws


def test_population_attacks_are_those_of_each_side_on_its_own() -> None:
    stack, data = stack_of(0, 1), Splits.of([DataSpec("digits", "seeds", pool=300, forget=0)] * 2)
    row = seeds_metrics(stack, data, [None, None])[1]
    forget, its = outputs(stack, data, "forget").logits[1], data.labels("forget")[1].numpy()
    assert row is not None
    for name, split in (("population", "test"), ("population_val", "val")):
        found = population.population(forget, its, outputs(stack, data, split).logits[1], data.labels(split)[1].numpy(), seed=0, draws=2)
        assert row[f"{name}/surer"] == found.surer.value
        for attack in ("loss/threshold", "all/logistic", "all/boosting"):
            assert row[f"{name}/{attack}/auc"] == found.attacks[attack].auc.value
            assert row[f"{name}/{attack}/balanced_accuracy"] == found.attacks[attack].balanced_accuracy.value


def test_a_forget_set_too_small_to_be_attacked_leaves_that_out() -> None:
    found, = seeds_metrics(stack_of(0), Splits.of([SPEC]), [None])
    assert found is not None and "forget_accuracy" in found
    assert not [name for name in found if "mia" in name or "population" in name or name == "indiscernibility"]


@pytest.mark.slow
def test_records_hold_them_where_the_retrained_model_is_at_hand(tmp_path: Path) -> None:
    def cell(method: str):
        return make_cell(SPEC, "cnn", method, seed=0, recipe=Recipe(epochs=1, batch=32), numeric=Numeric())

    def metrics(method: str, **context: object) -> dict[str, float]:
        record, = compute([cell(method)], Context(tmp_path, **context))  # type: ignore[arg-type]
        return {row["name"]: row["value"] for row in record.tables["metrics"]}

    reference = {cell("retrained").run_id: metrics("retrained")}
    original, unlearned = metrics("original", references=reference), metrics("ft", references=reference)
    assert needs_retrained(original) - needs_retrained(unlearned) == {
        "retrained/relearn_epochs", "retrained/relearn_reached", *(f"retrained/moved_{part}" for part in ("live", "block1", "block2", "block3", "head"))}
    assert len(needs_retrained(unlearned)) == 12 and original["relearn_epochs"] == 0 and unlearned["relearn_reached"] in (0, 1)
    (tmp_path / "runs" / cell("retrained").run_id / "weights.pt").unlink()
    alone = metrics("ga", references=reference)
    assert not needs_retrained(alone) and "relearn_epochs" in alone
