"""What is at hand: runs under LETHE_HOME, the file that ships, shipped weights. The driver's view of the store."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from engine import queue
from engine.jobs.cells import Cell
from engine.jobs.compute import SCORES, WEIGHTS
from engine.jobs.provenance import ROOT
from engine.store import records

SHIPPED = ROOT / "data" / "results.duckdb"
CHECKPOINTS = ROOT / "data" / "checkpoints"
STUDIES = ROOT / "data" / "studies"


def shipped_file() -> Path | None:
    """The results that ship, or None where the file is absent."""
    return SHIPPED if SHIPPED.exists() else None


@dataclass
class Known:
    """Finished runs: those under `home`, and those of the shipped file unless `fresh`."""

    home: Path
    fresh: bool = False
    _shipped: dict[str, dict[str, float]] | None = field(default=None, repr=False)

    @classmethod
    def here(cls, *, fresh: bool = False) -> "Known":
        return cls(queue.home(), fresh)

    def locally(self, run_id: str) -> bool:
        return (self.home / "runs" / run_id / "record.json").is_file()

    def finished(self, run_id: str) -> bool:
        return self.locally(run_id) or run_id in self.shipped

    def has_scores(self, cell: Cell) -> bool:
        """Whether its part in an attack is settled: scores on disk, or diverged and so without any."""
        return self.locally(cell.run_id) and ((self.home / "runs" / cell.run_id / SCORES).is_file() or not self.metrics(cell.run_id))

    def has_weights(self, cell: Cell) -> bool:
        return any(path.is_file() for path in (self.home / "runs" / cell.run_id / WEIGHTS, CHECKPOINTS / f"{cell.run_id}.pt"))

    def metrics(self, run_id: str) -> dict[str, float]:
        """Metrics of a finished run; empty where it diverged. Raises: KeyError when it is not at hand."""
        folder = self.home / "runs" / run_id
        if self.locally(run_id):
            record = records.read(folder)
            if record.tables["runs"][0]["status"] != "done":
                return {}
            return {row["name"]: row["value"] for row in record.tables.get("metrics", [])}
        return self.shipped[run_id]

    @property
    def shipped(self) -> dict[str, dict[str, float]]:
        """Metrics of every finished run in the shipped file, by run_id."""
        if self._shipped is None:
            self._shipped = {}
            if not self.fresh and shipped_file() is not None:
                from engine.store import reader  # duckdb: only where a shipped file is read, never in a worker

                db = reader.open_results(SHIPPED, self.home / "no-live-results")
                for (run_id,) in db.execute("SELECT run_id FROM runs WHERE status IN ('done', 'diverged')").fetchall():
                    self._shipped[run_id] = {}
                rows = db.execute("SELECT m.run_id, m.name, m.value FROM metrics m JOIN runs r USING (run_id) WHERE r.status = 'done'").fetchall()
                for run_id, name, value in rows:
                    self._shipped[run_id][name] = value
                db.close()
        return self._shipped

    def references(self, cells: Iterable[Cell]) -> dict[str, dict[str, float]]:
        """Metrics of the retrained models that these cells are compared with."""
        wanted = {c.retrained.run_id for c in cells if c.kind != "retrained" and c.data.protocol == "seeds"}
        return {run_id: self.metrics(run_id) for run_id in wanted if self.finished(run_id)}


def pending(cells: Sequence[Cell], known: Known, need_scores: bool = False) -> list[Cell]:
    """The cells that must be computed, with the originals whose weights they start from; each once."""
    todo: dict[str, Cell] = {}
    for cell in cells:
        if not (known.has_scores(cell) if need_scores else known.finished(cell.run_id)):
            todo[cell.run_id] = cell
    for cell in list(todo.values()):
        if cell.kind == "unlearned" and not known.has_weights(cell.original):
            todo.setdefault(cell.original.run_id, cell.original)
        if cell.kind != "retrained" and cell.data.protocol == "seeds" and not known.finished(cell.retrained.run_id):
            todo.setdefault(cell.retrained.run_id, cell.retrained)
    # an original that is trained again is compared with its reference too
    for cell in list(todo.values()):
        if cell.kind == "original" and cell.data.protocol == "seeds" and not known.finished(cell.retrained.run_id):
            todo.setdefault(cell.retrained.run_id, cell.retrained)
    return list(todo.values())
