"""Training throughput: both executors of the engine beside a plain PyTorch loop, in turns, in one run.

    python -m bench.train [--quick] [--record bench/RECORDS.md --note "what changed"]      (`make bench`)

Everything is measured whole: reading batches, augmentation, forward, backward and step, by the engine's own `train`. A sweep
over executor, precision, replicas and processes takes turns with the plain loop; then the best of the sweep and the best plain
loop are measured against each other afresh, so that the ratio that is stated owes nothing to having picked the luckiest of many.
"""

import argparse
import os
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import torch
from torch import Tensor

from bench import plain
from bench.harness import Group, Window
from bench.tasks import TASKS, Task, training_splits
from engine.jobs import provenance
from engine.jobs.allocator import keep_memory
from engine.models import catalogue as models
from engine.models.stack import Stack
from engine.runtime import Rng, Run
from engine.train import Recipe, recipe_for, train

REPLICAS = (1, 4, 8, 16)
WINDOW = {"cnn": Window(warmup=2, seconds=0.8, steps=3), "resnet18": Window(warmup=1, seconds=1.0, steps=1)}
QUICK = Window(warmup=1, seconds=0.0, steps=1)
SWEEPS, FINALS, BETWEEN = 1, 5, 16  # BETWEEN: engine measurements between two of the plain loop
TARGETS = {"cnn": 3.0, "resnet18": 1.6}


@dataclass(frozen=True)
class Job:
    """way: plain, loop or fused. precision: fp32 or bf16. The group of processes it runs in is part of what it is."""

    task: str
    way: str
    precision: str
    replicas: int
    processes: int
    threads: int

    def __str__(self) -> str:
        stack = "" if self.way == "plain" else f", R = {self.replicas}"
        return f"{self.way}, {self.precision}{stack}, {placed(self)}"


Rates = dict[Job, list[float]]  # images per second, one number a measurement


def placed(job: Job) -> str:
    return f"{job.processes} x {job.threads} thread{'s' if job.threads > 1 else ''}"


def work(job: Job, tick: Callable[[int], None]) -> None:
    """Train as the job says until `tick` raises."""
    task = TASKS[job.task]
    if job.way == "plain":
        plain.train(task, job.precision, tick)
    else:
        stacked(task, job, tick)


def stacked(task: Task, job: Job, tick: Callable[[int], None]) -> None:
    """The engine's own training loop over a stack, each replica with its own order and augmentation of the same images."""
    keep_memory()  # as the engine's workers do
    info, data = training_splits(task, job.replicas)
    stack = Stack.build(models.get(task.model), channels=info.channels, classes=info.classes, side=info.side, seeds=range(job.replicas),
                        executor=job.way, precision=job.precision)
    train(stack, data, "retain", Recipe(epochs=10_000, batch=task.batch), Timed(job.replicas, task.batch, tick))


class Timed(Run):
    """A run that tells the clock of every step, which the training loop logs anyway."""

    def __init__(self, replicas: int, batch: int, tick: Callable[[int], None]) -> None:
        super().__init__(Rng(range(replicas)))
        self.images, self.tick = replicas * batch, tick

    def log(self, **values: Tensor) -> None:
        super().log(**values)
        self.tick(self.images)


# ---- what is measured


def cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def plain_jobs(task: str, n: int) -> list[Job]:
    """The baseline as a person would start it (one process of all threads), with a core left for its loader, and in two processes."""
    places = dict.fromkeys([(1, n), (1, max(1, n // 2)), (2, max(1, n // 2))])
    return [Job(task, "plain", "fp32", 1, *place) for place in places] + [Job(task, "plain", "bf16", 1, 1, n)]


def engine_jobs(task: str, n: int, quick: bool) -> list[Job]:
    """Both executors at every R, in one process and in two; a thread a core in all."""
    return [Job(task, way, precision, r, processes, max(1, n // processes)) for processes in (1, 2) for way in ("loop", "fused")
            for precision in (("bf16",) if quick else ("fp32", "bf16")) for r in ((2,) if quick else REPLICAS)]


class Bench:
    """Groups of processes, started when first needed, and the window of each measurement."""

    def __init__(self, quick: bool) -> None:
        self.quick = quick
        self._groups: dict[tuple[int, int, bool], Group] = {}  # apart for the plain loop: what the engine sets in its processes stays there

    def measure(self, job: Job) -> float:
        place = (job.processes, job.threads, job.way == "plain")
        if place not in self._groups:
            self._groups[place] = Group(job.processes, job.threads, work)
        rate = self._groups[place].measure(job, QUICK if self.quick else WINDOW[job.task])
        print(f"  {rate:9,.0f} images/s  {job.task}: {job}", file=sys.stderr)
        return rate

    def close(self) -> None:
        for group in self._groups.values():
            group.close()

    def sweep(self, task: str, repeats: int) -> Rates:
        """All jobs, `repeats` times over, the plain loop between them."""
        n = cores()
        baselines, jobs = plain_jobs(task, n), engine_jobs(task, n, self.quick)
        rates: Rates = {job: [] for job in (*baselines, *jobs)}
        for _ in range(repeats):
            for k, job in enumerate(jobs):
                if k % BETWEEN == 0:
                    for baseline in baselines:
                        rates[baseline].append(self.measure(baseline))
                rates[job].append(self.measure(job))
        return rates

    def final(self, contenders: tuple[Job, ...], repeats: int) -> Rates:
        """The same few jobs in turns, measured afresh."""
        rates: Rates = {job: [] for job in contenders}
        for _ in range(repeats):
            for job in contenders:
                rates[job].append(self.measure(job))
        return rates


def best(rates: Rates, among: Callable[[Job], bool]) -> Job:
    """The fastest by median."""
    return max((job for job in rates if among(job)), key=lambda job: statistics.median(rates[job]))


def is_baseline(job: Job) -> bool:
    """The loop that others are compared with: one process, single precision, as the released study runs it."""
    return job.way == "plain" and job.precision == "fp32" and job.processes == 1


# ---- how it is told


def told(task: str, swept: Rates, final: Rates) -> str:
    """One task as Markdown: the ratio, the sweep as a table, the plain loops."""
    winner, baseline = best(final, lambda job: job.way != "plain"), best(final, is_baseline)
    fast, slow = statistics.median(final[winner]), statistics.median(final[baseline])
    pairs = sorted(a / b for a, b in zip(final[winner], final[baseline], strict=True))
    what, epochs = TASKS[task], recipe_for(TASKS[task].dataset, TASKS[task].model).epochs
    minute = 60 / (epochs * what.size)  # models, from images a second
    stacked_rates = {job: found for job, found in swept.items() if job.way != "plain"}
    counts = sorted({job.replicas for job in stacked_rates})
    rows: dict[tuple[str, str, str], dict[int, str]] = {}
    for job, found in stacked_rates.items():
        rows.setdefault((job.way, job.precision, placed(job)), {})[job.replicas] = spread(found)
    plains = [f"{spread(found)} ({job.precision}, {placed(job)})" for job, found in swept.items() if job.way == "plain"]
    answer = (f"**{fast / slow:.2f} times the plain loop** (target {TARGETS[task]:g}; {len(pairs)} pairs in turns, {pairs[0]:.2f} to {pairs[-1]:.2f}): "
              f"{spread(final[winner])} images/s ({winner}) against {spread(final[baseline])} ({baseline}). With {epochs} epochs of {what.size:,} "
              f"images that is {fast * minute:.3g} models a minute instead of {slow * minute:.3g}.")
    return "\n".join([
        f"### {what.title}, batch {what.batch}", "", answer, "",
        "Sweep, images/s over all replicas and processes:", "",
        "| way | precision | processes | " + " | ".join(f"R = {r}" for r in counts) + " |",
        "| --- " * (3 + len(counts)) + "|",
        *("| " + " | ".join((*head, *(cells[r] for r in counts))) + " |" for head, cells in rows.items()), "",
        f"Plain loop (a DataLoader with one worker in each process): {'; '.join(plains)}."])


def spread(found: list[float]) -> str:
    middle = f"{statistics.median(found):,.0f}"
    return middle if len(found) == 1 else f"{middle} ({min(found):,.0f} to {max(found):,.0f})"


def heading(note: str, load: float, took_s: float) -> str:
    """When, on which machine, of which commit; load: of the machine before it began, which should be near 0."""
    source = provenance.source()
    commit = "no checkout" if source["commit"] is None else source["commit"][:10] + ("" if source["clean"] else " with changes")
    pictures = "real images" if os.environ.get("LETHE_DATA") else "noise of the same size"
    return (f"## {datetime.now(UTC):%Y-%m-%d}: {note}\n\n{provenance.machine('cpu')}; torch {torch.__version__}; Python {sys.version.split()[0]}; "
            f"commit {commit}; {pictures}; load before it {load:.1f}; {took_s / 60:.0f} min in all.")


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.train", description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--quick", action="store_true", help="one step of each kind, to see that it runs; never recorded")
    parser.add_argument("--record", type=Path, metavar="FILE", help="add the result to FILE, below its introduction")
    parser.add_argument("--note", default="no change named", help="what changed since the last record")
    asked = parser.parse_args(arguments)
    started, load, parts, bench = time.monotonic(), os.getloadavg()[0], [], Bench(asked.quick)
    try:
        for task in TASKS:
            swept = bench.sweep(task, 1 if asked.quick else SWEEPS)
            contenders = (best(swept, lambda job: job.way != "plain"), best(swept, is_baseline))
            parts.append(told(task, swept, bench.final(contenders, 1 if asked.quick else FINALS)))
    finally:
        bench.close()
    section = "\n\n".join([heading(asked.note, load, time.monotonic() - started), *parts]) + "\n"
    print(section)
    if asked.record and not asked.quick:
        add(section, asked.record)
    return 0


def add(section: str, path: Path) -> None:
    """Newest first: in front of the first dated section."""
    introduction, *older = path.read_text(encoding="utf-8").split("\n## ")
    path.write_text("\n## ".join([f"{introduction.rstrip()}\n\n{section.rstrip()}\n", *older]), encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
