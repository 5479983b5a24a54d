"""A study in stretches: on a machine that is lent for minutes, with no DuckDB, compute what is next and leave it to be carried home.

    python -m engine.jobs.stretch FILE --out DIR --seconds 540 [--done FILE] [--strategy "compiled 16"]

Models come in blocks that stand by themselves, because weights are too large to carry from one stretch to the next: all of `seeds`, then
a few splits of U-LiRA at a time, with their originals, retrained models and every method. So each prefix of a study is worth having, and
a stretch that ends within a block leaves the next one that block's originals to train again. Records are packed without weights into
`shard-<n>.tar`; at home, unpacked under LETHE_HOME/runs, `python -m engine ingest` takes them in, and `study run` goes on from there with
attacks and timing. `done.txt` there names what need not be computed again: carry it along as --done.
"""

import argparse
import logging
import shutil
import sys
import tarfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from engine.errors import BadInput, LetheError
from engine.jobs import home, plan, provenance, study
from engine.jobs.allocator import keep_memory
from engine.jobs.calibrate import Calibration
from engine.jobs.cells import Cell
from engine.jobs.compute import WEIGHTS
from engine.jobs.executor import body
from engine.jobs.plan import Strategy
from engine.jobs.study import Study
from engine.jobs.worker import run_task

log = logging.getLogger(__name__)
SPLITS_A_BLOCK = 4
SHARD_BYTES = 15 << 20
TAR_BLOCKS, TAR_END = 3 * 512, 10_240  # of a file, beside its content; and of an archive
RESERVE = 1.2  # a task is begun only when this many times its expected length is left
DONE = "done.txt"


def blocks(checked: Study) -> Iterator[list[Cell]]:
    """Cells that need no weights from outside. Raises: BadInput for settings that a search must find first."""
    if unsettled := [method for method, sought in checked.sought.items() if sought.settled is None]:
        raise BadInput(f"a stretch computes models of known settings, but a search must find those of {', '.join(unsettled)}: "
                       "set all of its parameters in the study file, or run the search first and write down what it chose")
    cells = [c for _, c in checked.models({method: sought.settled or {} for method, sought in checked.sought.items()})]
    seeds = [c for c in cells if c.data.protocol == "seeds"]
    if seeds:
        yield seeds
    by_split: dict[int, list[Cell]] = {}
    for cell in cells:
        if cell.data.protocol != "seeds":
            by_split.setdefault(cell.data.split or 0, []).append(cell)
    splits = sorted(by_split)
    for start in range(0, len(splits), SPLITS_A_BLOCK):
        yield [c for split in splits[start : start + SPLITS_A_BLOCK] for c in by_split[split]]


def stretch(checked: Sequence[Study], out: Path, seconds: float, done: set[str], strategy: Strategy | None = None) -> list[str]:
    """Compute blocks until the time is over or all is done; returns the new runs, which lie under `out`/runs."""
    keep_memory()
    until, known, new = time.perf_counter() + seconds, home.Known(out, fresh=True), list[str]()
    calibration = Calibration(out)
    rate = 0.0  # images a second, of the tasks so far
    for block in (b for one in checked for b in blocks(one)):
        todo = home.pending([c for c in block if c.run_id not in done], known, need_scores=False)
        for stage in plan.stages(todo):
            for task in plan.tasks(stage, (lambda _: strategy) if strategy else calibration.strategy):
                expected = task.work / rate * RESERVE if rate else 0.0
                if time.perf_counter() + expected > until:
                    return new
                start = time.perf_counter()
                run_task(body(task, known.references(task.cells)) | {"home": str(out), "study": checked[0].name, "command": provenance.command_line(),
                                                                     "checkpoints": []})
                rate = task.work / (time.perf_counter() - start)
                new += [c.run_id for c in task.cells if known.locally(c.run_id) and c.run_id not in done]
                log.info("%s: %d models in %.1f s", task.cells[0].key, len(task.cells), time.perf_counter() - start)
    return new


def packed(runs: Path, names: Sequence[str], out: Path, limit: int = SHARD_BYTES) -> list[Path]:
    """Record folders as tar files of at most `limit` bytes each, without weights."""
    shards: list[list[Path]] = []
    room = 0
    for name in names:
        files = [path for path in sorted((runs / name).iterdir()) if path.name != WEIGHTS]
        needs = sum(path.stat().st_size + TAR_BLOCKS for path in files)
        if needs > room:
            shards.append([])
            room = limit - TAR_END
        shards[-1] += files
        room -= needs
    made = []
    for number, files in enumerate(shards):
        made.append(out / f"shard-{number}.tar")
        with tarfile.open(made[-1], "w") as archive:
            for path in files:
                archive.add(path, f"{path.parent.name}/{path.name}")
    return made


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="engine.jobs.stretch", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--done", type=Path, help="run ids that need not be computed, one a line")
    parser.add_argument("--strategy", help="executor and replicas, such as 'compiled 16' (default: measured first, which takes minutes)")
    asked = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    try:
        done = set(asked.done.read_text(encoding="utf-8").split()) if asked.done else set[str]()
        work = asked.out / "work"
        new = stretch(study.read(asked.file), work, asked.seconds, done, None if asked.strategy is None else Strategy.parse(asked.strategy))
    except LetheError as error:
        sys.exit(f"error: {error}")
    shards = packed(work / "runs", new, asked.out)
    (asked.out / DONE).write_text("\n".join(sorted(done | set(new))) + "\n", encoding="utf-8")
    shutil.rmtree(work)
    print(f"{len(new)} models in {len(shards)} shards")


if __name__ == "__main__":
    main()
