"""What ships: results, catalogue, and the weights of digits' originals that reruns start from."""

import shutil
from typing import Any

from engine.data.catalogue import DATASETS
from engine.jobs import catalogue, home
from engine.jobs.compute import WEIGHTS
from engine.store import ingest, reader


def pack(*, only_own: bool = False) -> dict[str, Any]:
    """Write data/results.duckdb (with what it holds now, unless `only_own`), data/catalogue.json and data/checkpoints. What ships
    is the latest declaration of each study with the runs that it names.

    Raises: StoreError, RunError; what shipped before stays as it was then.
    """
    known = home.Known.here()
    ingest.ingest(known.home)
    rows = ingest.pack(known.home, None if only_own else home.shipped_file(), home.SHIPPED, declared=True)
    catalogue.publish(home.SHIPPED.parent)
    return {"file": home.SHIPPED.name, "rows": rows, "checkpoints": _checkpoints(known)}


def _checkpoints(known: home.Known) -> int:
    """Keep exactly the weights that the shipped results need: originals of the `seeds` protocol on embedded datasets."""
    embedded = [d.name for d in DATASETS.values() if d.embedded]
    db = reader.open_results(home.SHIPPED, known.home / "no-live-results")
    wanted = {run_id for (run_id,) in db.execute("SELECT run_id FROM runs WHERE kind = 'original' AND protocol = 'seeds' AND status = 'done' "
                                                 "AND list_contains(?, dataset)", [embedded]).fetchall()}
    db.close()
    home.CHECKPOINTS.mkdir(parents=True, exist_ok=True)
    for path in home.CHECKPOINTS.glob("*.pt"):
        if path.stem not in wanted:
            path.unlink()
    for run_id in wanted:
        source, target = known.home / "runs" / run_id / WEIGHTS, home.CHECKPOINTS / f"{run_id}.pt"
        if source.is_file() and not target.exists():
            shutil.copyfile(source, target)
    return len(list(home.CHECKPOINTS.glob("*.pt")))
