"""Do stored numbers come out again? Cells are computed once more as they were (executor, R, slot, threads, precision) and compared."""

import json
import random
import tempfile
from pathlib import Path
from typing import Any

import torch

from engine.data.catalogue import loaded
from engine.errors import DataError
from engine.jobs import home, provenance
from engine.jobs.cells import Cell
from engine.jobs.compute import Context, compute
from engine.jobs.measure import CLOSENESS
from engine.store import reader


def verify(cells: int) -> dict[str, Any]:
    """Compute up to `cells` stored runs again and compare every metric bit for bit.

    On the exact path equality is promised for one torch build, processor type and thread count; on the fast path for the same
    R and slot too, whatever the neighbours, so the other slots are filled with the same cell. A different result names what
    differs in the set-up, if anything does. Runs whose original model or data is not at hand are passed over; of data it is told.
    """
    known = home.Known.here()
    db = reader.open_results(home.shipped_file(), known.home)
    rows = db.execute("SELECT run_id, cell, replicas, slot, executor, threads, machine, versions FROM runs WHERE status = 'done' "
                      "AND kind IN ('original', 'retrained', 'unlearned') AND cell IS NOT NULL ORDER BY run_id").fetchall()
    random.Random(len(rows)).shuffle(rows)
    equal, different = 0, []
    lacking: dict[str, str] = {}  # dataset -> why it cannot be had
    for run_id, content, replicas, slot, executor, threads, machine, versions in rows:
        if equal + len(different) == cells:
            break
        cell = Cell.from_content(json.loads(content))
        if cell.data.dataset in lacking:
            continue
        if cell.run_id != run_id or (cell.kind == "unlearned" and not known.has_weights(cell.original)):
            continue  # written by other versions of a method or recipe, or nothing to start from
        try:
            loaded(cell.data.dataset)
        except DataError as error:
            lacking[cell.data.dataset] = str(error)
            continue
        stored = dict(db.execute("SELECT name, value FROM metrics WHERE run_id = ?", [run_id]).fetchall())
        again = _again(cell, known, replicas if cell.numeric.mode == "fast" else 1, slot if cell.numeric.mode == "fast" else 0, executor, threads)
        off = {name: [value, again.get(name)] for name, value in stored.items()
               if again.get(name) != value and (name in again or not name.startswith(CLOSENESS))}  # the retrained models may not be at hand
        if not off:
            equal += 1
            continue
        setup = [f"{what}: {then} then, {now} now" for what, then, now in (("machine", machine, provenance.machine(cell.numeric.device)),
                                                                         ("versions", versions, provenance.versions())) if then != now]
        different.append({"run_id": run_id, "method": cell.method, "mode": cell.numeric.mode, "metrics": off, "set-up": setup or "the same"})
    return {"checked": equal + len(different), "equal": equal, "different": different, "without_data": lacking}


def _again(cell: Cell, known: home.Known, replicas: int, slot: int, executor: str, threads: int) -> dict[str, float]:
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        with tempfile.TemporaryDirectory(prefix="lethe-") as scratch:
            context = Context(Path(scratch), "verify", checkpoints=(home.CHECKPOINTS,), runs=known.home / "runs", references=known.references([cell]),
                              executor=executor)
            made = compute([cell] * replicas, context)[slot]
    finally:
        torch.set_num_threads(before)
    return {row["name"]: row["value"] for row in made.tables["metrics"]}
