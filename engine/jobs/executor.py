"""The local executor: a folder of tasks, one long-lived process a slot, and a supervisor that puts back what a dead one held.

A process pool would lose the other tasks with one killed worker; files and renames do not.
"""

import json
import logging
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from engine.errors import RunError
from engine.jobs.cells import Cell
from engine.jobs.compute import Context
from engine.jobs.plan import Task
from engine.jobs.progress import Progress
from engine.jobs.provenance import ROOT
from engine.jobs.worker import record_failure

log = logging.getLogger(__name__)
POLL_S = 0.2
ATTEMPTS = 3


@dataclass
class Local:
    """`workers` processes of `threads` threads each. after_poll is called now and then, to ingest what is finished."""

    home: Path
    workers: int
    threads: int
    study: str
    command: str
    checkpoints: tuple[Path, ...] = ()
    after_poll: Callable[[], None] = lambda: None
    _processes: dict[int, subprocess.Popen[bytes]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.spool = self.home / "queue" / f"{self.study}-{os.getpid()}"
        self.log_path = self.home / "logs" / f"{self.study}.log"

    def __enter__(self) -> "Local":
        for folder in ("todo", "run", "done"):
            (self.spool / folder).mkdir(parents=True, exist_ok=True)
        self.log_path.parent.mkdir(parents=True, exist_ok=True)
        for slot in range(self.workers):
            self._start(slot)
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._processes.values():
            process.terminate()
        for process in self._processes.values():
            try:
                process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                process.kill()
        shutil.rmtree(self.spool, ignore_errors=True)

    def run(self, tasks: Sequence[Task], references: dict[str, dict[str, float]], progress: Progress) -> None:
        """Run cells; every task ends as records, of success or of failure. Raises: RunError when the disk is full."""
        self._run([(t.name, t.work, body(t, references)) for t in tasks], progress)

    def run_attacks(self, attacks: Sequence[dict[str, Any]], progress: Progress) -> None:
        """Run attacks over scores that are on disk."""
        self._run([(a["run_id"], 1.0, {"what": "attack", "name": a["run_id"], "attack": a}) for a in attacks], progress)

    def _run(self, bodies: list[tuple[str, float, dict[str, Any]]], progress: Progress) -> None:
        common = {"home": str(self.home), "study": self.study, "command": self.command, "checkpoints": [str(p) for p in self.checkpoints]}
        works = {}
        for order, (name, work, body) in enumerate(bodies):
            works[f"{order:06d}-{name}.json"] = work
            scratch = self.spool / f"{order:06d}.tmp"
            scratch.write_text(json.dumps(body | common), encoding="utf-8")
            scratch.rename(self.spool / "todo" / f"{order:06d}-{name}.json")
        attempts: dict[str, int] = {}
        while (done := self._done()) < set(works):
            self._look_after(attempts)
            progress.show(sum(works[name] for name in done if name in works), len(done & set(works)), len(works))
            self.after_poll()
            time.sleep(POLL_S)
        progress.show(sum(works.values()), len(works), len(works))
        for name in done:
            (self.spool / "done" / name).unlink()

    def _done(self) -> set[str]:
        return set(os.listdir(self.spool / "done"))

    def _look_after(self, attempts: dict[str, int]) -> None:
        """Stop on a full disk; put back what a dead worker held, give up on a task that killed its worker every time."""
        if (self.spool / "stop").exists():
            raise RunError((self.spool / "stop").read_text(encoding="utf-8"))
        for slot, process in list(self._processes.items()):
            if process.poll() is None:
                continue
            for held in (self.spool / "run").glob(f"*@{slot}"):
                name = held.name.split("@")[0]
                attempts[name] = attempts.get(name, 0) + 1
                if attempts[name] < ATTEMPTS:
                    log.warning("a worker ended with code %s; its task is taken up again", process.returncode)
                    held.rename(self.spool / "todo" / name)
                else:
                    self._give_up(held, process.returncode)
                    held.rename(self.spool / "done" / name)
            if sum(attempts.values()) > 100:
                raise RunError(f"workers keep dying (code {process.returncode}); see {self.log_path}. Finished runs are kept; start again to go on.")
            self._start(slot)

    def _give_up(self, held: Path, code: int) -> None:
        task = json.loads(held.read_text(encoding="utf-8"))
        reason = f"its worker ended {ATTEMPTS} times with code {code} (killed from outside, or out of memory); see {self.log_path.name}"
        if task["what"] == "cells":
            record_failure([Cell.from_content(c) for c in task["cells"]], Context(self.home, self.study, self.command), reason)
        log.error("task %s given up: %s", task["name"], reason)

    def _start(self, slot: int) -> None:
        environment = os.environ | {name: str(self.threads) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS")}
        with self.log_path.open("ab") as stream:
            self._processes[slot] = subprocess.Popen(
                [sys.executable, "-m", "engine.jobs.worker", str(self.spool.resolve()), str(slot)], cwd=ROOT, env=environment,
                stdin=subprocess.DEVNULL, stdout=stream, stderr=stream)


def body(task: Task, references: dict[str, dict[str, float]]) -> dict[str, Any]:
    """A task as plain values, with the metrics of the retrained models that its cells are compared with."""
    wanted = {c.retrained.run_id for c in task.cells if c.kind != "retrained" and c.data.protocol == "seeds"}
    return {"what": "cells", "name": task.name, "cells": [c.content for c in task.cells], "executor": task.executor,
            "references": {run_id: references[run_id] for run_id in wanted if run_id in references}}
