"""A record like those that the engine leaves, small."""

from collections.abc import Callable
from pathlib import Path

import pytest

from engine.store import records

Make = Callable[..., records.Record]


@pytest.fixture
def record() -> Make:
    """record("a", value=…, status=…): one run with three metrics and two points of a curve."""
    def make(run_id: str, value: float = 0.5, **run: object) -> records.Record:
        row = {"run_id": run_id, "kind": "unlearned", "method": "ft", "dataset": "digits", "model": "cnn", "seed": 3, "clean": True,
               "status": "done", "started": "2026-11-21T10:20:30.250000", "wall_s": 2, "params": "{}", **run}
        return records.Record(run_id, {
            "runs": [row],
            "metrics": [{"run_id": run_id, "name": f"metric_{k}", "value": value + k} for k in range(3)],
            "curves": [{"run_id": run_id, "epoch": epoch, "name": "loss", "value": 1 / (epoch + 1)} for epoch in range(2)]})
    return make


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home's"  # a quote, as folders may have one
