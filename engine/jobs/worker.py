"""How a task is computed, and one slot of the local executor: a long-lived process that takes tasks from a folder and leaves records.

    python -m engine.jobs.worker SPOOL SLOT      (started by `engine.jobs.executor`)

Claims a task by renaming its file from `todo/` to `run/`, so that two slots never take the same. Data and code stay loaded
between tasks. Needs no duckdb, Streamlit or Optuna: a bare compute machine can run it.
"""

import json
import logging
import os
import sys
import time
import traceback
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch

from engine.errors import LetheError, RunError
from engine.jobs import attack, compute, provenance
from engine.jobs.allocator import keep_memory
from engine.jobs.cells import Cell
from engine.store import records

log = logging.getLogger(__name__)
POLL_S = 0.05


def main(spool: Path, slot: int) -> None:
    """Take tasks until the spool says `stop` or its supervisor is gone."""
    keep_memory()
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    supervisor = os.getppid()
    while not (spool / "stop").exists() and os.getppid() == supervisor:
        claimed = claim(spool, slot)
        if claimed is None:
            time.sleep(POLL_S)
            continue
        task = json.loads(claimed.read_text(encoding="utf-8"))
        try:
            run_task(task, partial(_tell, spool, slot, task["name"]))
        except RunError as error:
            if not isinstance(error.__cause__, OSError):
                raise
            (spool / "stop").write_text(str(error), encoding="utf-8")  # the disk is full: nobody should go on
            return
        claimed.rename(spool / "done" / claimed.name.split("@")[0])


def claim(spool: Path, slot: int) -> Path | None:
    """The next task, now this slot's; None when there is none."""
    for name in sorted(os.listdir(spool / "todo")):
        mine = spool / "run" / f"{name}@{slot}"
        try:
            (spool / "todo" / name).rename(mine)
        except FileNotFoundError:
            continue  # another slot was quicker
        return mine
    return None


def run_task(task: dict[str, Any], heard: compute.Heard | None = None) -> None:
    """Compute a task. A stack that fails is run again cell by cell, so that one bad cell takes no neighbour with it.

    Raises: RunError, its cause an OSError, when the disk is full.
    """
    if task["what"] == "attack":
        try:
            attack.run(task["attack"], Path(task["home"]))
        except (LetheError, ValueError) as error:
            if isinstance(error.__cause__, OSError):
                raise
            log.exception("attack %s failed", task["name"])
            attack.record_failure(task["attack"], Path(task["home"]), str(error))
        return
    cells = [Cell.from_content(c) for c in task["cells"]]
    context = compute.Context(Path(task["home"]), task["study"], task["command"], tuple(Path(p) for p in task["checkpoints"]), task["references"], heard,
                              executor=task["executor"])
    try:
        compute.compute(cells, context)
    except Exception as error:  # the boundary of a job: whatever went wrong becomes a row with its reason
        if isinstance(error, RunError) and isinstance(error.__cause__, OSError):
            raise
        log.exception("task %s failed", task["name"])
        if len(cells) == 1:
            record_failure(cells, context, error)
        else:
            for cell in cells:
                run_task(task | {"cells": [cell.content], "name": cell.run_id}, heard)


def record_failure(cells: Sequence[Cell], context: compute.Context, error: BaseException | str) -> None:
    """One failed attempt a cell, under a name of its own; the cell stays to do."""
    reason = error if isinstance(error, str) else str(error) if isinstance(error, LetheError) else "".join(traceback.format_exception_only(error)).strip()
    for cell in cells:
        name = records.next_attempt(context.home, cell.run_id)
        row = compute.run_row(cell, context) | {"run_id": name, "status": "failed", "error": reason, "started": provenance.now()}
        records.write(context.home, records.Record(name, {"runs": [row]}))


def _tell(spool: Path, slot: int, task: str, epoch: int, means: dict[str, torch.Tensor]) -> None:
    """Progress of this slot, for the supervisor to draw. Ends the process where the spool is gone: nobody waits for it any more."""
    path = spool / f"progress-{slot}.json"
    scratch = path.with_suffix(".tmp")
    try:
        scratch.write_text(json.dumps({"task": task, "epochs": epoch + 1}), encoding="utf-8")
        scratch.replace(path)
    except FileNotFoundError:
        sys.exit("the spool is gone")


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(levelname)s %(message)s")
    main(Path(sys.argv[1]), int(sys.argv[2]))
