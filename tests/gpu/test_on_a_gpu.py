"""On a CUDA device: executors agree, a cell leaves its record, and every method runs."""

from pathlib import Path

import pytest
import torch

from bench.gpu import executors_agree, same_draw
from engine import registry
from engine.data.loader import Splits
from engine.data.splits import DataSpec
from engine.jobs import study
from engine.jobs.compute import Context, compute
from engine.models import catalogue as models
from engine.models.stack import Stack
from engine.runtime import PerReplica, Rng, Run

pytestmark = pytest.mark.gpu

STUDY = """
name: gpu
data: {dataset: digits}
model: cnn
numeric: {device: cuda}
recipe: {epochs: 4, batch: 64, lr: 0.1, momentum: 0.9, weight_decay: 5.0e-4}
seeds: {count: 2, mode: fast, precision: bf16}
methods:
  ft: {set: {batch: 64, epochs: 1}}
"""


@pytest.mark.parametrize("architecture", ["cnn", "resnet18", "tinyvit11m"])
def test_every_executor_computes_what_the_loop_does(architecture: str) -> None:
    found = executors_agree(architecture, torch.device("cuda"))
    assert found["right"], found


def test_fast_training_is_as_good_a_draw_as_exact_training() -> None:
    found = same_draw(torch.device("cuda"), seeds=8, epochs=20)
    assert found["right"], found


@pytest.mark.parametrize("executor", ["fused", "products"])
def test_cells_leave_records(executor: str, tmp_path: Path) -> None:
    (tmp_path / "gpu.yaml").write_text(STUDY, encoding="utf-8")
    checked, = study.read(tmp_path / "gpu.yaml")
    settings = {method: sought.settled or {} for method, sought in checked.sought.items()}
    references: dict[str, dict[str, float]] = {}
    for kind in ("retrained", "original", "unlearned"):
        cells = [c for _, c in checked.models(settings) if c.kind == kind]
        assert {c.numeric.device for c in cells} == {"cuda"}
        for record in compute(cells, Context(tmp_path, references=references, executor=executor)):
            assert record.tables["runs"][0]["status"] == "done" and record.tables["runs"][0]["executor"] == executor
            metrics = {row["name"]: row["value"] for row in record.tables["metrics"]}
            assert metrics["test_accuracy"] > 0.3
            references[record.run_id] = metrics


@pytest.mark.parametrize("key", sorted(registry.load()))
def test_every_method_runs(key: str) -> None:
    method, device = registry.load()[key], torch.device("cuda")
    data = Splits.of([DataSpec("digits", "seeds", forget=0)] * 2, device=device)
    if key == "bt/official":
        pytest.skip("its teacher is a ResNet-18, which takes no 8x8 images")
    stack = Stack.build(models.get("cnn"), channels=1, classes=10, side=8, seeds=[0, 1], executor="fused", device=device)
    stack.seed_layers([0, 1])
    params = PerReplica([method.params()] * 2, device)
    made = method.run(stack, data.restricted(method.reads), params, Run(Rng([0, 1])))
    assert made.device.type == "cuda" and bool(made.finite().all())
