"""Run time, measured apart: one model at a time, warmed up, synchronised, nothing else running, several repeats.

Retraining is timed by its epochs: each does the same work, so the median epoch times their number is the whole, and a
retraining of hours needs not be repeated. At least three epochs, and as many more as fit into the time allowed.
"""

import itertools
import json
import statistics
import time
from contextlib import suppress
from typing import Any

import torch

from engine.data.loader import Splits
from engine.jobs import provenance
from engine.jobs.allocator import keep_memory
from engine.jobs.cells import Cell
from engine.jobs.compute import Context, device_of, execute, run_row, starting_stack
from engine.models.stack import PRECISIONS
from engine.runtime import Rng, Run, seed_of
from engine.store import records

RETRAIN_BUDGET_S = 20.0
LEAST_EPOCHS = 3


class _EnoughEpochs(Exception):
    """Raised from inside a training run once enough of its epochs are timed."""


def timing_id(cell: Cell, repeats: int, threads: int) -> str:
    return records.identity(timing_content(cell, repeats, threads))


def timing_content(cell: Cell, repeats: int, threads: int) -> dict[str, Any]:
    """A timing is about a machine, so the machine is part of what it is."""
    return {"kind": "timing", "of": cell.content, "repeats": repeats, "machine": provenance.machine(cell.numeric.device), "threads": threads}


def retrain_seconds(cell: Cell, context: Context) -> tuple[float, int]:
    """(seconds of the whole recipe, epochs that were timed)."""
    retrained = cell if cell.kind == "retrained" else cell.retrained
    data = Splits.of([retrained.data], device=device_of(retrained), dtype=PRECISIONS[retrained.numeric.precision])
    stamps: list[float] = []

    def heard(epoch: int, means: dict[str, torch.Tensor]) -> None:
        synchronise(retrained)
        stamps.append(time.perf_counter())
        if len(stamps) > LEAST_EPOCHS and stamps[-1] - stamps[0] > RETRAIN_BUDGET_S:
            raise _EnoughEpochs

    epochs = dict(retrained.recipe)["epochs"]
    stack = starting_stack([retrained], data, context)
    with suppress(_EnoughEpochs):
        execute([retrained], stack, data, Run(Rng([seed_of("order", retrained.run_id)]), heard))
    steps = [b - a for a, b in itertools.pairwise(stamps)]  # the first epoch warms up and is not counted
    return statistics.median(steps) * epochs if steps else 0.0, len(steps)


def unlearn_seconds(cell: Cell, context: Context, repeats: int) -> list[float]:
    """Seconds of each of `repeats` runs of the method on one model, after one that warms up; the model's copy included."""
    data = Splits.of([cell.data], device=device_of(cell), dtype=PRECISIONS[cell.numeric.precision])
    stack = starting_stack([cell], data, context)
    taken = []
    for _ in range(repeats + 1):
        run = Run(Rng([seed_of("order", cell.run_id)]))
        synchronise(cell)
        start = time.perf_counter()
        execute([cell], stack, data, run)
        synchronise(cell)
        taken.append(time.perf_counter() - start)
    return taken[1:]


def time_cell(cell: Cell, context: Context, repeats: int, retrain: tuple[float, int] | None = None) -> records.Record:
    """Measure and publish the timing of one cell of protocol `seeds`. `retrain`: its retraining, where it is already timed here."""
    keep_memory()
    started, clock = provenance.now(), time.perf_counter()
    retrain_s, epochs = retrain or retrain_seconds(cell, context)
    taken = [retrain_s] if cell.kind == "retrained" else unlearn_seconds(cell, context, repeats)
    middle = statistics.median(taken)
    content = timing_content(cell, repeats, torch.get_num_threads())
    run_id = records.identity(content)
    wall = time.perf_counter() - clock
    row = run_row(cell, context) | {
        "run_id": run_id, "kind": "timing", "protocol": "timing", "cell": json.dumps(content, sort_keys=True), "status": "done", "error": None,
        "replicas": 1, "slot": 0, "started": started, "wall_s": wall, "amortised_s": wall,
    }
    metrics = [{"name": "unlearn_s", "value": middle, "lo": min(taken), "hi": max(taken)}, {"name": "retrain_s", "value": retrain_s},
               {"name": "rte", "value": retrain_s / middle}, {"name": "repeats", "value": len(taken)}, {"name": "retrain_epochs_timed", "value": epochs}]
    record = records.Record(run_id, {"runs": [row], "metrics": [{"run_id": run_id, "lo": None, "hi": None} | m for m in metrics]})
    records.write(context.home, record)
    return record


def synchronise(cell: Cell) -> None:
    if cell.numeric.device == "cuda":
        torch.cuda.synchronize()
