"""Per-model numbers: a model beside itself is as close as can be; what needs another model is left out where that is not at hand."""

from pathlib import Path

import numpy as np
import pytest
import torch

from engine.data.loader import Splits
from engine.data.splits import DataSpec
from engine.jobs.cells import Numeric
from engine.jobs.compute import Context, compute
from engine.jobs.measure import CLOSENESS, seeds_metrics
from engine.jobs.study import make_cell
from engine.models.catalogue import get
from engine.models.stack import Stack
from engine.train import Recipe

SPEC = DataSpec("digits", "seeds", pool=300, forget=0)


def stack_of(*seeds: int) -> Stack:
    return Stack.build(get("cnn"), channels=1, classes=10, side=8, seeds=seeds)


def test_a_model_is_as_close_as_can_be_to_itself_and_further_from_another() -> None:
    stack, data = stack_of(0, 1), Splits.of([SPEC, SPEC])
    first, second = seeds_metrics(stack, data, [None, None], stack_of(0, 2), stack_of(0, 2))
    assert first is not None and second is not None
    for name in CLOSENESS:
        perfect = 1.0 if name.startswith("agreement") else 0.0
        assert first[name] == pytest.approx(perfect, abs=1e-6) and second[name] != pytest.approx(perfect, abs=1e-6), name
    assert first["zrf"] == pytest.approx(1, abs=1e-6) and second["zrf"] < 1
    assert 0 <= first["population/all/logistic/auc"] <= 1 and 0 <= first["population/loss/threshold/balanced_accuracy"] <= 1


def test_without_other_models_their_numbers_are_left_out_and_a_diverged_one_has_none() -> None:
    stack, data = stack_of(0, 1), Splits.of([SPEC, SPEC])
    found, = seeds_metrics(stack_of(0), Splits.of([SPEC]), [None])
    assert found is not None and not set(found) & {*CLOSENESS, "zrf"}
    with torch.no_grad():
        next(iter(stack.params.values()))[1] = torch.nan
    fine, diverged = seeds_metrics(stack, data, [None, None], stack_of(0, 2), stack_of(3, 4))
    assert diverged is None and fine is not None and np.isfinite([fine[name] for name in CLOSENESS]).all()


def test_a_forget_set_too_small_to_be_attacked_leaves_that_out() -> None:
    found, = seeds_metrics(stack_of(0), Splits.of([DataSpec("digits", "seeds", pool=60, forget=0)]), [None])  # five to forget
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
    metrics("original", references=reference)
    assert set(CLOSENESS) <= set(metrics("ft", references=reference))
    (tmp_path / "runs" / cell("retrained").run_id / "weights.pt").unlink()
    assert not set(CLOSENESS) & set(metrics("ga", references=reference))
