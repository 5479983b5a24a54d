"""Run a whole study: search, models, timing, attacks; skip what is done, go on after a kill, ingest on the way."""

import json
import logging
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from engine.errors import RunError
from engine.jobs import attack, catalogue, home, plan, provenance
from engine.jobs.calibrate import Calibration
from engine.jobs.cells import Cell
from engine.jobs.compute import Context, run_row
from engine.jobs.executor import Local
from engine.jobs.progress import Progress
from engine.jobs.study import Study
from engine.jobs.timing import retrain_seconds, time_cell, timing_id
from engine.search import grid
from engine.store import ingest, records

log = logging.getLogger(__name__)
INGEST_EVERY_S = 20.0


@dataclass
class Counts:
    """Of cells (models, timings, searches, attacks)."""

    planned: int = 0
    done: int = 0
    skipped: int = 0
    failed: int = 0
    failures: list[str] = field(default_factory=list)


class Driver:
    """One study on one machine. workers: processes; the cores are shared out evenly among them."""

    def __init__(self, study: Study, *, workers: int | None = None, fresh: bool = False, quiet: bool = False) -> None:
        cores = os.cpu_count() or 1
        self.study, self.quiet, self.counts = study, quiet, Counts()
        self.workers = workers or cores
        self.threads = max(1, cores // self.workers)
        self.known = home.Known.here(fresh=fresh)
        self.command = provenance.command_line()
        self.calibration = Calibration(self.known.home)
        self.timing_threads = self.calibration.threads(study.cell("seeds", "retrained", seed=0))
        torch.set_num_threads(self.threads)
        self._ingested = 0.0

    def run(self) -> Counts:
        """Everything that the study asks for. Raises: RunError when the disk is full or workers keep dying."""
        catalogue.publish(self.known.home)
        executor = Local(self.known.home, self.workers, self.threads, self.study.name, self.command, (home.CHECKPOINTS,), self._ingest_now_and_then)
        with executor:
            chosen = self.search(executor)
            wanted = list(self.study.models(chosen))
            attacks = self._attacks(wanted)
            timed = self._timed(chosen)
            self._declare(wanted, chosen, attacks, timed)
            open_attacks = [a for a in attacks.values() if not self.known.finished(a["run_id"])]
            attacked = {c.run_id for role, c in wanted if role == "u_lira" for a in open_attacks if c.run_id in a["content"]["members"]}
            self._models(executor, [c for role, c in wanted if role == "seeds"], [c for role, c in wanted if role == "u_lira" and c.run_id in attacked],
                         skipped=sum(role == "u_lira" and c.run_id not in attacked for role, c in wanted))
            self._attack(executor, attacks)
        self._time(timed)
        self._ingest()
        return self.counts

    # ---- phases

    def search(self, executor: Local) -> dict[str, dict[str, Any]]:
        """Each method's settings: the best candidate of its declared search, or the only one. Raises: RunError when all fail."""
        chosen = {method: candidates[0] for method, candidates in self.study.grids.items() if len(candidates) == 1}
        trials = list(self.study.tuning())
        if not trials:
            return chosen
        needed = [c for *_, cell in trials for c in (cell, cell.retrained)]
        self._run_cells(executor, "search", needed)
        for method in dict.fromkeys(m for m, *_ in trials):
            own = [(trial, params, cell) for m, trial, params, cell in trials if m == method]
            judged = self._judge(own)
            best = grid.choose(judged)
            if best is None:
                raise RunError(f"search: all {len(judged)} settings of {method} failed; widen its search in the study file")
            self._record_search(method, [c.run_id for *_, c in own], judged, best)
            chosen[method] = judged[best].params
        return {method: chosen[method] for method in self.study.grids}

    def _judge(self, own: Sequence[tuple[int, dict[str, Any], Cell]]) -> list[grid.Trial]:
        judged = []
        for number in dict.fromkeys(trial for trial, *_ in own):
            cells = [c for trial, _, c in own if trial == number]
            params = next(p for trial, p, _ in own if trial == number)
            if not all(self.known.finished(c.run_id) and self.known.finished(c.retrained.run_id) for c in cells):
                judged.append(grid.Trial(params, None, {}, "failed"))
                continue
            judged.append(grid.judge(params, [self.known.metrics(c.run_id) or None for c in cells], [self.known.metrics(c.retrained.run_id) for c in cells]))
        return judged

    def _record_search(self, method: str, members: list[str], trials: Sequence[grid.Trial], best: int) -> None:
        content = {"kind": "search", "method": method, "version": grid.VERSION, "trials": sorted(members)}
        run_id = records.identity(content)
        self.counts.planned += 1
        if self.known.locally(run_id):
            self.counts.skipped += 1
            return
        name, _, variant = method.partition("/")
        row = self._row(run_id, "search", content) | {"method": name, "variant": variant or "corrected", "protocol": "tuning",
                                                     "params": json.dumps(trials[best].params, sort_keys=True)}
        rows = [{"run_id": run_id, "trial": i, "params": json.dumps(t.params, sort_keys=True), "score": t.score, "parts": json.dumps(t.parts),
                 "status": t.status, "chosen": i == best} for i, t in enumerate(trials)]
        records.write(self.known.home, records.Record(run_id, {"runs": [row], "trials": rows}))
        self.counts.done += 1

    def _models(self, executor: Local, seeds: list[Cell], u_lira: list[Cell], skipped: int) -> None:
        self.counts.planned += skipped
        self.counts.skipped += skipped
        self._run_cells(executor, "seeds", seeds)
        self._run_cells(executor, "U-LiRA models", u_lira, need_scores=True)

    def _run_cells(self, executor: Local, phase: str, cells: Sequence[Cell], need_scores: bool = False) -> None:
        """Retrained, then originals, then unlearned; each in stacks of its shape."""
        asked = {c.run_id for c in cells}
        todo = home.pending(cells, self.known, need_scores)
        self.counts.planned += len(asked)
        self.counts.skipped += len(asked - {c.run_id for c in todo})
        for stage in plan.stages(todo):
            tasks = plan.tasks(stage, self.calibration.replicas, self.workers)
            if tasks:
                name = f"{phase}, {stage[0].kind}"
                executor.run(tasks, self.known.references(stage), Progress(name, sum(t.work for t in tasks), "images", quiet=self.quiet))
        for cell in todo:
            if self.known.locally(cell.run_id):
                self.counts.done += cell.run_id in asked
            else:
                self.counts.failed += cell.run_id in asked
                self.counts.failures.append(cell.run_id)

    def _attacks(self, wanted: Sequence[tuple[str, Cell]]) -> dict[str, dict[str, Any]]:
        """The attack on each method, as a request, by method."""
        by_method: dict[str, list[Cell]] = {}
        for role, cell in wanted:
            if role == "u_lira":
                by_method.setdefault(cell.key, []).append(cell)
        return {method: attack.request(cells, self.study.name, self.command) for method, cells in by_method.items()}

    def _attack(self, executor: Local, attacks: dict[str, dict[str, Any]]) -> None:
        todo = [a for a in attacks.values() if not self.known.finished(a["run_id"])]
        self.counts.planned += len(attacks)
        self.counts.skipped += len(attacks) - len(todo)
        if todo:
            executor.run_attacks(todo, Progress("U-LiRA attacks", len(todo), "attacks", quiet=self.quiet))
        for a in todo:
            if self.known.locally(a["run_id"]):
                self.counts.done += 1
            else:
                self.counts.failed += 1
                self.counts.failures.append(a["run_id"])

    def _timed(self, chosen: dict[str, dict[str, Any]]) -> list[Cell]:
        """The cells that are timed: seed 0, one at a time, on all cores."""
        if not self.study.repeats or not self.study.seeds:
            return []
        return [self.study.cell("seeds", "retrained", seed=0), *(self.study.cell("seeds", m, seed=0, params=p) for m, p in chosen.items())]

    def _time(self, timed: Sequence[Cell]) -> None:
        todo = [c for c in timed if not self.known.finished(timing_id(c, self.study.repeats, self.timing_threads))]
        self.counts.planned += len(timed)
        self.counts.skipped += len(timed) - len(todo)
        if not todo:
            return
        torch.set_num_threads(self.timing_threads)
        progress = Progress("timing", len(todo) + 1, "methods", quiet=self.quiet)
        context = Context(self.known.home, self.study.name, self.command, (home.CHECKPOINTS,))
        retrain = retrain_seconds(todo[0], context)
        for done, cell in enumerate(todo, 1):
            progress.show(done)
            time_cell(cell, context, self.study.repeats, retrain)
            self.counts.done += 1
        progress.show(len(todo) + 1)

    # ---- records

    def _declare(self, wanted: Sequence[tuple[str, Cell]], chosen: dict[str, dict[str, Any]], attacks: dict[str, dict[str, Any]],
                 timed: Sequence[Cell]) -> None:
        """The study's own record: which runs belong to it, done or not yet."""
        members = [(c.run_id, role, c.key) for role, c in wanted]
        members += [(a["run_id"], "attack", method) for method, a in attacks.items()]
        members += [(timing_id(c, self.study.repeats, self.timing_threads), "timing", c.key) for c in timed]
        members += [(run_id, "tuning", method) for run_id, method in self._tuned().items()]
        for method in chosen:
            own = [c.run_id for m, _, _, c in self.study.tuning() if m == method]
            if own:
                content = {"kind": "search", "method": method, "version": grid.VERSION, "trials": sorted(own)}
                members.append((records.identity(content), "search", method))
        content = {"kind": "study", "content": self.study.content, "members": sorted(m[0] for m in members)}
        run_id = records.identity(content)
        content["members"] = len(members)
        rows = [{"run_id": run_id, "member": member, "role": role, "method": method} for member, role, method in members]
        study = {"run_id": run_id, "name": self.study.name, "title": self.study.title, "content": self.study.content}
        records.write(self.known.home, records.Record(run_id, {"runs": [self._row(run_id, "study", content)], "studies": [study], "members": rows}))
        self._ingest()

    def _tuned(self) -> dict[str, str]:
        """Every run behind the searches, with its method."""
        return {c.run_id: c.key for *_, cell in self.study.tuning() for c in (cell, cell.retrained, cell.original)}

    def _row(self, run_id: str, kind: str, content: dict[str, Any]) -> dict[str, Any]:
        like = self.study.cell("seeds", "retrained", seed=0)
        row = run_row(like, Context(self.known.home, self.study.name, self.command))
        return row | {"run_id": run_id, "kind": kind, "method": None, "source": None, "seed": None, "forget": None, "params": "{}", "protocol": None,
                      "cell": json.dumps(content, sort_keys=True), "status": "done", "started": provenance.now()}

    def _ingest_now_and_then(self) -> None:
        if time.monotonic() - self._ingested > INGEST_EVERY_S:
            self._ingest()

    def _ingest(self) -> None:
        for path, reason in ingest.ingest(self.known.home).refused:
            log.warning("not taken into the results: %s: %s", path, reason)
        self._ingested = time.monotonic()


def planned(study: Study, *, fresh: bool = False) -> dict[str, Any]:
    """What `study run` would do, without doing it: cells by role, how many are done, images to train on."""
    known = home.Known.here(fresh=fresh)
    settled = {method: candidates[0] for method, candidates in study.grids.items()}
    tuning = [c for *_, c in study.tuning()]
    models = [c for _, c in study.models(settled)]
    everything = {c.run_id: c for c in (*tuning, *(c.retrained for c in tuning), *(c.original for c in tuning), *models)}
    searched = bool(tuning)
    todo = [c for c in everything.values() if not known.finished(c.run_id)]
    return {"study": study.name, "planned": len(everything), "done": len(everything) - len(todo), "images": sum(plan.work(c) for c in todo),
            "note": "settings come from the search, so unlearned models are counted with each method's first candidate" if searched else ""}


