"""Attack runs: gather the scores that models left, say who is in which world, attack, and record the result with its calibration."""

import hashlib
import inspect
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Int

from engine.attacks import suite
from engine.attacks.models import Models
from engine.attacks.suite import Found
from engine.data.catalogue import loaded
from engine.data.splits import audited, forget_part, half, pool_of
from engine.errors import DataError, RunError
from engine.jobs import provenance
from engine.jobs.cells import Cell
from engine.jobs.compute import SCORES
from engine.store import records

SEED = 0


def requests(cells: Sequence[Cell], references: Mapping[str, Sequence[Cell]], study: str, command: str) -> list[dict[str, Any]]:
    """What a worker needs for every attack on all models of one method, as plain values; `run_id` names the attack.

    references: retrained and original models by kind, for attacks that take them beside unlearned ones.
    """
    made = []
    for name, (info, _) in suite.ATTACKS[cells[0].kind].items():
        content = {"kind": "attack", "attack": name, "version": info.version, "seed": SEED, "members": sorted(c.run_id for c in cells)}
        beside = {kind: references[kind] for kind in suite.BESIDE.get(name, ())}
        if beside:
            content["against"] = sorted(c.run_id for group in beside.values() for c in group)
        made.append({"run_id": records.identity(content), "content": content, "attack": name, "cells": [c.content for c in cells],
                     "beside": {kind: [c.content for c in group] for kind, group in beside.items()}, "study": study, "command": command})
    return made


def needed(asked: dict[str, Any]) -> set[str]:
    """The runs whose scores an attack reads."""
    return {*asked["content"]["members"], *asked["content"].get("against", [])}


def run(asked: dict[str, Any], home: Path) -> None:
    """One attack on all models of one method; leaves one record, without numbers and with the reason where there are too few models.

    Raises: RunError when scores are missing or all models diverged.
    """
    started, clock = provenance.now(), time.perf_counter()
    cells = [Cell.from_content(c) for c in asked["cells"]]
    first = cells[0]
    data = loaded(first.data.dataset)
    pool = pool_of(data.n_train, first.data.pool)
    names = audited(pool)
    labels = data.labels.numpy()[names]
    mine = replace(_models(cells, home, pool), labels=labels)
    beside = {kind: _models([Cell.from_content(c) for c in group], home, pool) for kind, group in asked["beside"].items()}
    try:
        found, reason = suite.ATTACKS[first.kind][asked["attack"]][1](mine, beside, SEED), None
    except DataError as error:  # our own arrays are sound: there are too few of them
        found, reason = Found([]), str(error)
    tables = tables_of(found, asked["run_id"], names, labels)
    wall = time.perf_counter() - clock
    row = _row(asked, first) | {"status": "done", "error": reason, "started": started, "wall_s": wall, "amortised_s": wall}
    records.write(home, records.Record(asked["run_id"], {"runs": [row]} | tables))


def record_failure(asked: dict[str, Any], home: Path, reason: str) -> None:
    """A failed attempt at an attack, under a name of its own; the attack stays to do."""
    run_id = records.next_attempt(home, asked["run_id"])
    row = _row(asked, Cell.from_content(asked["cells"][0])) | {"run_id": run_id, "status": "failed", "error": reason, "started": provenance.now()}
    records.write(home, records.Record(run_id, {"runs": [row]}))


def plain_row(content: dict[str, Any], name: str, kind: str, command: str) -> dict[str, Any]:
    """What the row in `runs` says of any attack. kind: of the models; content: everything that its identity is the hash of."""
    source = Path(inspect.getfile(suite.ATTACKS[kind][name][1])).read_bytes() + Path(inspect.getfile(suite.module_of(name))).read_bytes()
    return {
        "run_id": records.identity(content), "kind": "attack", "method": kind, "attack": name, "cell": json.dumps(content, sort_keys=True),
        "status": "done", "device": "cpu", "threads": torch.get_num_threads(), "command": command,
        "source_hash": hashlib.sha256(source).hexdigest()[:16], "machine": provenance.machine("cpu"), "versions": provenance.versions(),
        **provenance.source(),
    }


def _row(asked: dict[str, Any], first: Cell) -> dict[str, Any]:
    return plain_row(asked["content"], asked["attack"], first.kind, asked["command"]) | {
        "study": asked["study"], "dataset": first.data.dataset, "model": first.model, "method": first.method, "variant": first.variant,
        "protocol": "u_lira", "seed": SEED, "params": json.dumps(dict(first.params), sort_keys=True), "mode": first.numeric.mode,
        "precision": first.numeric.precision, "device": first.numeric.device,
    }


def tables_of(found: Found, run_id: str, names: Int[np.ndarray, " n"], labels: Int[np.ndarray, " n"] | None) -> dict[str, list[records.Row]]:
    """The rows of an attack's result, by table. names, labels: of the examples, in the order of its arrays."""
    made: dict[str, list[records.Row]] = {
        "metrics": [{"run_id": run_id, **m} for m in found.metrics if np.isfinite(m["value"])],
        "calibration": [{"run_id": run_id, **check} for check in found.checks],
    }
    if found.examples is not None:
        columns = {f.name: getattr(found.examples, f.name).tolist() for f in fields(found.examples)}
        made["examples"] = [{"run_id": run_id, "example": int(names[i]), "label": None if labels is None else int(labels[i])}
                            | {name: v[i] if np.isfinite(v[i]) else None for name, v in columns.items()} for i in range(len(names))]
    if (listed := found.listed) is not None:
        made["examples"] = [{"run_id": run_id, "example": int(names[i]), "label": None if labels is None else int(labels[i]), "half": half,
                             "chosen": float(listed.chosen[half, k]), "balanced_accuracy": float(listed.reported[half, k])}
                            for half in (0, 1) for k, i in enumerate(listed.example[half])]
    if found.curve is not None:
        made["roc"] = [{"run_id": run_id, "fpr": float(f), "tpr": float(t)} for f, t in zip(found.curve.fpr, found.curve.tpr, strict=True)]
    return made


def world_of(cell: Cell, pool: Int[np.ndarray, " n"]) -> Int[np.ndarray, " n"]:
    """1: in this model's forget request (of an original: trained on); 0: never seen; -1: neither. Of the examples of the pool that are audited."""
    assert cell.data.split is not None
    train, heldout = half(pool, cell.data.split)
    mine = train if cell.data.forget is None else forget_part(train, cell.data.split, cell.data.forget, cell.data.forget_share)[1]
    world = np.full(len(pool), -1, np.int8)
    world[np.searchsorted(pool, mine)] = 1
    world[np.searchsorted(pool, heldout)] = 0
    return world[np.searchsorted(pool, audited(pool))]


def _models(cells: Sequence[Cell], home: Path, pool: Int[np.ndarray, " n"]) -> Models:
    """Those that left scores; a diverged one has none."""
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
    phi = np.stack(found)
    if phi.shape[1] != (expected := len(audited(pool))):
        raise RunError(f"scores of {phi.shape[1]} examples, but {expected} of the pool are audited; delete these runs and run the study again")
    return Models(phi, np.stack([world_of(c, pool) for c in kept]), np.array([c.data.split for c in kept]))
