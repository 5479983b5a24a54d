"""Attack runs: gather the scores that models left, say who is in which world, attack, and record the result with its calibration."""

import hashlib
import json
import time
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int

from engine.attacks import calibration, u_lira
from engine.data.catalogue import loaded
from engine.data.splits import forget_part, half, pool_of
from engine.errors import RunError
from engine.jobs import provenance
from engine.jobs.cells import Cell
from engine.jobs.compute import SCORES
from engine.store import records

SEED = 0


def request(cells: Sequence[Cell], study: str, command: str) -> dict[str, Any]:
    """What a worker needs to attack all models of one method, as plain values; `run_id` names the attack."""
    content = {"kind": "attack", "attack": u_lira.INFO.name, "version": u_lira.INFO.version, "seed": SEED, "members": sorted(c.run_id for c in cells)}
    return {"run_id": records.identity(content), "content": content, "cells": [c.content for c in cells], "study": study, "command": command}


def run(asked: dict[str, Any], home: Path) -> None:
    """U-LiRA on all models of one method; leaves one record. Raises: RunError when scores are missing, DataError."""
    started, clock = provenance.now(), time.perf_counter()
    cells = [Cell.from_content(c) for c in asked["cells"]]
    first = cells[0]
    data = loaded(first.data.dataset)
    pool = pool_of(data.n_train, first.data.pool)
    cells, scores = _scores(cells, home, len(pool))
    worlds = np.stack([world_of(c, pool) for c in cells])
    splits = np.array([c.data.split for c in cells])
    result = u_lira.u_lira(scores, worlds, splits, seed=SEED)
    run_id = asked["run_id"]
    tables = tables_of(result, run_id, pool, data.labels.numpy()[pool])
    tables["calibration"] = [c | {"run_id": run_id} for c in checks(first.kind, result, scores, worlds, splits)]
    wall = time.perf_counter() - clock
    row = _row(asked, first) | {"status": "done", "started": started, "wall_s": wall, "amortised_s": wall}
    records.write(home, records.Record(run_id, {"runs": [row]} | tables))


def checks(kind: str, result: u_lira.ULiraResult, scores: Float[np.ndarray, "m n"], worlds: Int[np.ndarray, "m n"],
           splits: Int[np.ndarray, " m"]) -> list[dict[str, Any]]:
    """Calibration rows, for the two kinds of models whose answer is known."""
    if kind == "retrained":
        return [{**calibration.retrained_at_chance(result)}, {**calibration.planted_shift(scores, worlds, splits, seed=SEED)}]
    return [{**calibration.original_has_power(result)}] if kind == "original" else []


def record_failure(asked: dict[str, Any], home: Path, reason: str) -> None:
    """A failed attempt at an attack, under a name of its own; the attack stays to do."""
    run_id = records.next_attempt(home, asked["run_id"])
    row = _row(asked, Cell.from_content(asked["cells"][0])) | {"run_id": run_id, "status": "failed", "error": reason, "started": provenance.now()}
    records.write(home, records.Record(run_id, {"runs": [row]}))


def _row(asked: dict[str, Any], first: Cell) -> dict[str, Any]:
    source = Path(u_lira.__file__).read_bytes()
    return {
        "run_id": asked["run_id"], "kind": "attack", "study": asked["study"], "dataset": first.data.dataset, "model": first.model,
        "method": first.method, "variant": first.variant, "attack": u_lira.INFO.name, "protocol": "u_lira", "seed": SEED,
        "params": json.dumps(dict(first.params), sort_keys=True), "cell": json.dumps(asked["content"], sort_keys=True), "mode": first.numeric.mode,
        "precision": first.numeric.precision, "device": first.numeric.device, "threads": torch.get_num_threads(), "command": asked["command"],
        "source_hash": hashlib.sha256(source).hexdigest()[:16], "machine": provenance.machine("cpu"), "versions": provenance.versions(),
        **provenance.source(),
    }


def tables_of(result: u_lira.ULiraResult, run_id: str, pool: Int[np.ndarray, " n"], labels: Int[np.ndarray, " n"]) -> dict[str, list[records.Row]]:
    """The rows of an attack's result, by table."""
    metrics = [{"run_id": run_id, **m} for m in result.metrics()]
    e = result.examples
    columns = {f.name: getattr(e, f.name).tolist() for f in fields(e)}
    examples = [{"run_id": run_id, "example": int(pool[i]), "label": int(labels[i])}
                | {name: v[i] if np.isfinite(v[i]) else None for name, v in columns.items()} for i in range(len(pool))]
    roc = [{"run_id": run_id, "fpr": float(f), "tpr": float(t)} for f, t in zip(result.fpr, result.tpr, strict=True)]
    return {"metrics": metrics, "examples": examples, "roc": roc}


def world_of(cell: Cell, pool: Int[np.ndarray, " n"]) -> Int[np.ndarray, " n"]:
    """1: in this model's forget request (of an original: trained on); 0: never seen; -1: neither. In the order of the pool."""
    assert cell.data.split is not None
    train, heldout = half(pool, cell.data.split)
    mine = train if cell.data.forget is None else forget_part(train, cell.data.split, cell.data.forget, cell.data.forget_share)[1]
    world = np.full(len(pool), -1, np.int8)
    world[np.searchsorted(pool, mine)] = 1
    world[np.searchsorted(pool, heldout)] = 0
    return world


def _scores(cells: Sequence[Cell], home: Path, n: int) -> tuple[list[Cell], np.ndarray]:
    """The models that left scores (a diverged one has none), and phi [m, n]."""
    kept, found = [], []
    for cell in cells:
        path = home / "runs" / cell.run_id / SCORES
        if path.is_file():
            kept.append(cell)
            found.append(np.load(path))
        elif not (home / "runs" / cell.run_id).is_dir():
            raise RunError(f"the scores of run {cell.run_id} are not in {path.parent}; run the study again, it computes what is missing")
    if not kept:
        raise RunError(f"all {len(cells)} models of {cells[0].method} diverged: there is nothing to attack")
    stacked = np.stack(found)
    if stacked.shape[1] != n:
        raise RunError(f"scores of {stacked.shape[1]} examples, but the pool has {n}; delete these runs and run the study again")
    return kept, stacked
