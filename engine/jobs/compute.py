"""From cells to records: one stack is built, trained or unlearned, measured, and each of its cells leaves a whole record.

Nothing here knows about queues, databases or other processes. It needs torch and what torch needs, and no duckdb.
"""

import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from engine import registry
from engine.data.catalogue import get as dataset_info
from engine.data.loader import Splits
from engine.errors import RunError
from engine.jobs import provenance
from engine.jobs.cells import Cell
from engine.jobs.insides import Inside, insides
from engine.jobs.measure import Metrics, Others, seeds_metrics, seeds_outputs, u_lira_metrics
from engine.models import catalogue as models
from engine.models.live import LiveShare, live
from engine.models.stack import PRECISIONS, Stack
from engine.runtime import PerReplica, Rng, Run, seed_of
from engine.store import records
from engine.train import Recipe, train

Heard = Callable[[int, dict[str, Tensor]], None]
WEIGHTS, SCORES = "weights.pt", "phi.npy"


@dataclass(frozen=True)
class Context:
    """Where a computation stands. checkpoints: folders in which `<run_id>.pt` of shipped models may lie. runs: where original
    models are read from, if not under `home`. executor: that of the fast path, where it is not the usual one.

    references: metrics of retrained models by run_id. heard: told the epoch's logged means, for progress and curves.
    """

    home: Path
    study: str = "rerun"
    command: str = ""
    checkpoints: tuple[Path, ...] = ()
    references: dict[str, dict[str, float]] = field(default_factory=dict)
    heard: Heard | None = None
    runs: Path | None = None
    executor: str | None = None


def compute(cells: Sequence[Cell], context: Context) -> list[records.Record]:
    """Run cells of one shape as one stack and publish a record for each. Diverged replicas are recorded as such.

    Raises: BadInput, DataError, RunError.
    """
    started, clock = provenance.now(), time.perf_counter()
    data = Splits.of([c.data for c in cells], device=device_of(cells[0]), dtype=PRECISIONS[cells[0].numeric.precision])
    stack = starting_stack(cells, data, context)
    curves: list[tuple[int, str, Tensor]] = []

    def heard(epoch: int, means: dict[str, Tensor]) -> None:
        curves.extend((epoch, name, value) for name, value in means.items())
        if context.heard is not None:
            context.heard(epoch, means)

    selected = _Selected(cells)
    made = execute(cells, stack, data, Run(Rng([seed_of("order", c.run_id) for c in cells]), heard, selected))
    images = [(int(f), int(b)) for f, b in zip(made.forward_images, made.backward_images, strict=True)]
    measured, scores, inside = _measure(cells, made, stack, data, context)
    measured = [m and {**m, **selected.metrics(r)} for r, m in enumerate(measured)]
    wall = time.perf_counter() - clock
    return [_publish(cell, r, made, context, curves, measured[r], inside[r], None if scores is None else scores[r], images[r], started, wall)
            for r, cell in enumerate(cells)]


class _Selected:
    """Listens to what a method selects. The live weights of the architecture are found only when it first does."""

    def __init__(self, cells: Sequence[Cell]) -> None:
        self._cells = cells
        self._counted: LiveShare | None = None

    def __call__(self, mask: Mapping[str, Tensor]) -> None:
        if self._counted is None:
            info = dataset_info(self._cells[0].data.dataset)
            alive = live(models.get(self._cells[0].model), channels=info.channels, classes=info.classes, side=info.side)
            self._counted = LiveShare(alive, len(self._cells))
        self._counted(mask)

    def metrics(self, r: int) -> Metrics:
        return {} if self._counted is None else {"live_share": float(self._counted.share[r])}


def starting_stack(cells: Sequence[Cell], data: Splits, context: Context) -> Stack:
    """Fresh networks for references, the original models for unlearning."""
    first, info = cells[0], dataset_info(cells[0].data.dataset)
    options: dict[str, Any] = {"executor": executor_of(first, context), "precision": first.numeric.precision, "device": data.device}
    architecture = models.get(first.model)
    if first.kind == "unlearned":
        states = [_weights(c.original, context) for c in cells]
        template = architecture.build(info.channels, info.classes, info.side)
        stack = Stack(architecture, template, states, **options)
    else:
        seeds = [seed_of("init", c.data.dataset, c.model, c.data.protocol, c.seed) for c in cells]
        stack = Stack.build(architecture, channels=info.channels, classes=info.classes, side=info.side, seeds=seeds, **options)
    stack.seed_layers([seed_of("layers", c.run_id) for c in cells])
    return stack


def execute(cells: Sequence[Cell], stack: Stack, data: Splits, run: Run) -> Stack:
    """Train or unlearn; the stack that comes back counts only its own images."""
    first = cells[0]
    if first.kind != "unlearned":
        return train(stack, data, "train" if first.kind == "original" else "retain", Recipe.from_dict(dict(first.recipe), "recipe"), run)
    method = registry.get(first.key)
    params = PerReplica([method.params.from_dict(dict(c.params), method.name) for c in cells], stack.device)
    return method.run(stack, data.restricted(method.reads), params, run)


def executor_of(cell: Cell, context: Context) -> str:
    return context.executor if context.executor and cell.numeric.mode == "fast" else cell.numeric.executor


def device_of(cell: Cell) -> torch.device:
    """Raises: RunError when the cell asks for a device that this machine lacks."""
    if cell.numeric.device == "cuda" and not torch.cuda.is_available():
        raise RunError("this run asks for a CUDA device and there is none here; set LETHE_DEVICE=cpu")
    return torch.device(cell.numeric.device)


def _weights(original: Cell, context: Context) -> dict[str, Tensor]:
    places = [(context.runs or context.home / "runs") / original.run_id / WEIGHTS, *(folder / f"{original.run_id}.pt" for folder in context.checkpoints)]
    for path in places:
        if path.is_file():
            try:
                return torch.load(path, map_location="cpu", weights_only=True)
            except (OSError, RuntimeError, ValueError, EOFError) as error:
                raise RunError(f"{path}: not readable weights ({error}); delete its folder and run again, it is then trained anew") from error
    raise RunError(f"the {original.kind} model {original.run_id} that this run starts from is not in {places[0].parent.parent}; run the study again")


def _measure(cells: Sequence[Cell], stack: Stack, start: Stack, data: Splits,
             context: Context) -> tuple[list[Metrics | None], np.ndarray | None, Sequence[Inside | None]]:
    """Metrics of every replica, None where it diverged; phi [R, n_pool] for U-LiRA; and what else is known of models of many seeds.

    start: what it was made from.
    """
    finite = stack.finite().tolist()
    if cells[0].data.protocol != "seeds":
        measured, scores = u_lira_metrics(stack, data)
        return [m if fine else None for m, fine in zip(measured, finite, strict=True)], scores, [None] * len(cells)
    references = [None if c.kind == "retrained" else context.references.get(c.retrained.run_id) for c in cells]
    if missing := [c.retrained.run_id for c, ref in zip(cells, references, strict=True) if ref is None and c.kind != "retrained"]:
        raise RunError(f"the retrained models {missing} that these runs are compared with are not at hand; run the study again")
    found, others = seeds_outputs(stack, data), _others(cells, stack, start, context)
    measured = [m if fine else None for m, fine in zip(seeds_metrics(stack, data, references, others, found), finite, strict=True)]
    inside = insides(stack, data, found, others, [m is not None for m in measured])
    return [m and {**m, **(i.metrics if i else {})} for m, i in zip(measured, inside, strict=True)], None, inside


def _others(cells: Sequence[Cell], stack: Stack, start: Stack, context: Context) -> Others:
    """What unlearned and original models are held against: retrained ones, where their weights are at hand, as many that were never
    trained, and the originals. Retrained ones are the first to be made, and held against nothing."""
    if cells[0].kind == "retrained":
        return Others()
    info = dataset_info(cells[0].data.dataset)
    seeds = [seed_of("untrained", c.data.dataset, c.model, c.seed) for c in cells]
    untrained = Stack.build(stack.architecture, channels=info.channels, classes=info.classes, side=info.side, seeds=seeds, executor=stack.executor,
                            precision=stack.precision, device=stack.device)
    try:
        retrained = stack.like([_weights(c.retrained, context) for c in cells])
    except RunError:
        retrained = None
    return Others(retrained, untrained, stack if cells[0].kind == "original" else start, [seed_of("relearn", c.retrained.run_id) for c in cells])


def _publish(cell: Cell, r: int, stack: Stack, context: Context, curves: list[tuple[int, str, Tensor]], measured: Metrics | None,
             inside: Inside | None, scores: np.ndarray | None, images: tuple[int, int], started: str, wall: float) -> records.Record:
    run_id, whole = cell.run_id, measured is not None
    metrics = {"forward_passes": images[0], "backward_passes": images[1], "image_passes": sum(images)} | (measured or {})
    row = run_row(cell, context) | {
        "status": "done" if whole else "diverged", "error": None if whole else "weights, statistics or outputs are not finite (or beyond any logit) at the end",
        "replicas": stack.replicas, "slot": r, "started": started, "wall_s": wall, "amortised_s": wall / stack.replicas,
    }
    # a ratio that does not exist (nothing right in the retrained model) leaves no row
    tables = {"runs": [row], "metrics": [{"run_id": run_id, "name": n, "value": float(v)} for n, v in metrics.items() if math.isfinite(v)]}
    if cell.data.protocol == "seeds":
        tables["curves"] = [{"run_id": run_id, "epoch": e, "name": n, "value": float(v[r])} for e, n, v in curves if bool(torch.isfinite(v[r]))]
    if inside is not None:
        tables |= {table: [{"run_id": run_id, **row} for row in rows] for table, rows in inside.tables.items()}
    record = records.Record(run_id, tables)

    def files(folder: Path) -> None:
        if whole and (cell.kind == "original" or (cell.kind == "retrained" and cell.data.protocol == "seeds")):
            torch.save(stack.state_of(r), folder / WEIGHTS)
        if scores is not None and whole:
            np.save(folder / SCORES, scores)

    records.write(context.home, record, files)
    return record


def run_row(cell: Cell, context: Context) -> dict[str, Any]:
    """What the row in `runs` says of a cell whatever becomes of it."""
    source = registry.get(cell.key) if cell.kind == "unlearned" else None
    return {
        "run_id": cell.run_id, "kind": cell.kind, "study": context.study, "dataset": cell.data.dataset, "model": cell.model, "method": cell.method,
        "variant": cell.variant, "source": source.source if source else "reference", "attack": None, "protocol": cell.data.protocol, "seed": cell.seed,
        "split": cell.data.split, "forget": cell.data.forget, "params": json.dumps(dict(cell.params), sort_keys=True),
        "cell": json.dumps(cell.content, sort_keys=True), "mode": cell.numeric.mode, "precision": cell.numeric.precision, "device": cell.numeric.device,
        "executor": executor_of(cell, context), "threads": torch.get_num_threads(), "command": context.command,
        "source_hash": source.source_hash if source else None, "machine": provenance.machine(cell.numeric.device), "versions": provenance.versions(),
        **provenance.source(),
    }
