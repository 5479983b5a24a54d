"""Run a whole study: search, models, timing, attacks; skip what is done, go on after a kill, ingest on the way."""

import json
import logging
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from engine import registry
from engine.errors import RunError
from engine.jobs import attack, catalogue, home, plan, provenance
from engine.jobs.calibrate import Calibration
from engine.jobs.cells import Cell
from engine.jobs.compute import Context, run_row
from engine.jobs.executor import Local
from engine.jobs.progress import Progress
from engine.jobs.ray_executor import RayCluster
from engine.jobs.study import Study
from engine.jobs.timing import retrain_seconds, time_cell, timing_id
from engine.search.protocol import Answer, Ask, Found
from engine.store import ingest, records

log = logging.getLogger(__name__)
INGEST_EVERY_S, INGEST_PAUSE = 20.0, 10.0  # and no sooner than so many times as long as the last one took: that grows with what is there
Executor = Local | RayCluster


@dataclass
class Counts:
    """Of cells (models, timings, searches, attacks)."""

    planned: int = 0
    done: int = 0
    skipped: int = 0
    failed: int = 0
    failures: list[str] = field(default_factory=list)


class Driver:
    """One study, on this machine or on a cluster. workers: processes; the cores are shared out evenly among them.

    cluster: address of a Ray cluster that computes the models, or `local` to start one here; attacks and timings run on this machine all the same.
    """

    def __init__(self, study: Study, *, workers: int | None = None, fresh: bool = False, quiet: bool = False, cluster: str | None = None) -> None:
        self.study, self.quiet, self.counts = study, quiet, Counts()
        self.workers, self.cluster = workers, cluster
        self.known = home.Known.here(fresh=fresh)
        self.command = provenance.command_line()
        self.calibration = Calibration(self.known.home)
        self.timing_threads = self.calibration.threads(study.cell("seeds", "retrained", seed=0))
        self._ingested, self._ingest_s = 0.0, 0.0
        self._tuned: dict[str, str] = {}  # every run behind the searches, with its method

    def run(self) -> Counts:
        """Everything that the study asks for. Raises: RunError when the disk is full, workers keep dying or the cluster is gone."""
        catalogue.publish(self.known.home)
        with self._executor() as executor:
            torch.set_num_threads(executor.threads)  # so that what is measured here holds for the workers
            chosen = self.search(executor)
            wanted = list(self.study.models(chosen))
            attacks = self._attacks(wanted)
            timed = self._timed(chosen)
            self._declare(wanted, chosen, attacks, timed)
            attacked = set[str]().union(*(attack.needed(a) for a in attacks if not self.known.finished(a["run_id"])))
            self._models(executor, [c for role, c in wanted if role != "u_lira"], [c for role, c in wanted if role == "u_lira" and c.run_id in attacked],
                         skipped=sum(role == "u_lira" and c.run_id not in attacked for role, c in wanted))
            self._attack(executor, attacks)
        self._time(timed)
        self._ingest()
        return self.counts

    def _executor(self) -> Executor:
        cores = os.cpu_count() or 1
        here = cores if self.cluster or not self.workers else self.workers
        threads = max(1, cores // here)
        local = Local(self.known.home, here, threads, self.study.name, self.command, (home.CHECKPOINTS,), self._ingest_now_and_then)
        if not self.cluster:
            return local
        return RayCluster(local, self.cluster, self.study.cell("seeds", "retrained", seed=0).numeric.device, self.workers)

    # ---- phases

    def search(self, executor: Executor) -> dict[str, dict[str, Any]]:
        """Each method's settings: what its search chose, or what the study sets. Raises: RunError when all candidates of a method fail.

        The searches of all methods go on in step, so that what they ask for shares stacks and processes.
        """
        chosen = {method: sought.settled for method, sought in self.study.sought.items() if sought.settled is not None}
        searches = self.study.searches()
        asked = {method: next(search) for method, search in searches.items()}
        while asked:
            cells = {c.run_id: c for method, asks in asked.items() for a in asks for c in (self.study.asked(method, a), self.study.reference(a))}
            self._run_cells(executor, "search", list(cells.values()))
            for method, asks in list(asked.items()):
                for own in (self.study.asked(method, a) for a in asks):
                    behind = (own, own.retrained, own.original) if own.kind == "unlearned" else (own,)
                    self._tuned.update({c.run_id: method for c in behind})
                try:
                    asked[method] = searches[method].send([self._answer(method, a) for a in asks])
                except StopIteration as end:
                    del asked[method]
                    chosen[method] = self._record_search(method, end.value)
        return {method: chosen[method] for method in self.study.sought}

    def _answer(self, method: str, ask: Ask) -> Answer:
        """Raises: RunError where the reference failed, without which nothing can be judged."""
        cell, reference = self.study.asked(method, ask), self.study.reference(ask)
        if not (self.known.finished(reference.run_id) and self.known.metrics(reference.run_id)):
            raise RunError(f"search: the retrained model {reference.run_id} failed; see the log, and run the study again")
        whole = self.known.metrics(cell.run_id) if self.known.finished(cell.run_id) else {}
        return Answer(whole or None, self.known.metrics(reference.run_id))

    def _record_search(self, method: str, found: Found) -> dict[str, Any]:
        """Keep all trials; returns the chosen setting."""
        if found.best is None:
            raise RunError(f"search: all {len(found.trials)} settings of {method} failed; widen its search in the study file")
        content = self.study.search_content(method)
        run_id, best = records.identity(content), found.trials[found.best].params
        self.counts.planned += 1
        if self.known.locally(run_id):
            self.counts.skipped += 1
            return best
        known = registry.get(method)
        row = self._row(run_id, "search", content) | {"method": known.name, "variant": known.variant, "protocol": "tuning",
                                                     "params": json.dumps(best, sort_keys=True)}
        rows = [{"run_id": run_id, "trial": i, "params": json.dumps(t.params, sort_keys=True), "score": t.score, "parts": json.dumps(t.parts),
                 "status": t.status, "chosen": i == found.best} for i, t in enumerate(found.trials)]
        records.write(self.known.home, records.Record(run_id, {"runs": [row], "trials": rows}))
        self.counts.done += 1
        return best

    def _models(self, executor: Executor, seeds: list[Cell], u_lira: list[Cell], skipped: int) -> None:
        self.counts.planned += skipped
        self.counts.skipped += skipped
        self._run_cells(executor, "seeds", seeds)
        self._run_cells(executor, "U-LiRA models", u_lira, need_scores=True)

    def _run_cells(self, executor: Executor, phase: str, cells: Sequence[Cell], need_scores: bool = False) -> None:
        """Retrained, then originals, then unlearned; each in stacks of its shape."""
        asked = {c.run_id for c in cells}
        todo = home.pending(cells, self.known, need_scores)
        self.counts.planned += len(asked)
        self.counts.skipped += len(asked - {c.run_id for c in todo})
        for stage in plan.stages(todo):
            tasks = plan.tasks(stage, self.calibration.strategy, executor.workers)
            if tasks:
                name = f"{phase}, {stage[0].kind}"
                executor.run(tasks, self.known.references(stage), Progress(name, sum(t.work for t in tasks), "images", quiet=self.quiet))
        for cell in todo:
            if self.known.locally(cell.run_id):
                self.counts.done += cell.run_id in asked
            else:
                self.counts.failed += cell.run_id in asked
                self.counts.failures.append(cell.run_id)

    def _attacks(self, wanted: Sequence[tuple[str, Cell]]) -> list[dict[str, Any]]:
        """Every attack on each method, as requests."""
        by_method: dict[str, list[Cell]] = {}
        for role, cell in wanted:
            if role == "u_lira":
                by_method.setdefault(cell.key, []).append(cell)
        return [asked for cells in by_method.values() for asked in attack.requests(cells, by_method, self.study.name, self.command)]

    def _attack(self, executor: Executor, attacks: Sequence[dict[str, Any]]) -> None:
        todo = [a for a in attacks if not self.known.finished(a["run_id"])]
        self.counts.planned += len(attacks)
        self.counts.skipped += len(attacks) - len(todo)
        if todo:
            executor.run_attacks(todo, Progress("attacks", len(todo), "attacks", quiet=self.quiet))
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

    def _declare(self, wanted: Sequence[tuple[str, Cell]], chosen: dict[str, dict[str, Any]], attacks: Sequence[dict[str, Any]],
                 timed: Sequence[Cell]) -> None:
        """The study's own record: which runs belong to it, done or not yet."""
        members = [(c.run_id, role, c.key) for role, c in wanted]
        members += [(a["run_id"], "attack", Cell.from_content(a["cells"][0]).key) for a in attacks]
        members += [(timing_id(c, self.study.repeats, self.timing_threads), "timing", c.key) for c in timed]
        members += [(run_id, "tuning", method) for run_id, method in self._tuned.items()]
        members += [(records.identity(self.study.search_content(method)), "search", method) for method in self.study.searches()]
        content = {"kind": "study", "content": self.study.content, "members": sorted(m[0] for m in members)}
        run_id = records.identity(content)
        content["members"] = len(members)
        rows = [{"run_id": run_id, "member": member, "role": role, "method": method} for member, role, method in members]
        study = {"run_id": run_id, "name": self.study.name, "title": self.study.title, "content": self.study.content}
        records.write(self.known.home, records.Record(run_id, {"runs": [self._row(run_id, "study", content)], "studies": [study], "members": rows}))
        self._ingest()

    def _row(self, run_id: str, kind: str, content: dict[str, Any]) -> dict[str, Any]:
        like = self.study.cell("seeds", "retrained", seed=0)
        row = run_row(like, Context(self.known.home, self.study.name, self.command))
        return row | {"run_id": run_id, "kind": kind, "method": None, "source": None, "seed": None, "forget": None, "params": "{}", "protocol": None,
                      "cell": json.dumps(content, sort_keys=True), "status": "done", "started": provenance.now()}

    def _ingest_now_and_then(self) -> None:
        if time.monotonic() - self._ingested > max(INGEST_EVERY_S, INGEST_PAUSE * self._ingest_s):
            self._ingest()

    def _ingest(self) -> None:
        started = time.monotonic()
        for path, reason in ingest.ingest(self.known.home).refused:
            log.warning("not taken into the results: %s: %s", path, reason)
        self._ingested = time.monotonic()
        self._ingest_s = self._ingested - started


def planned(study: Study, *, fresh: bool = False) -> dict[str, Any]:
    """What `study run` would do, without doing it: cells by role, how many are done, images to train on."""
    known = home.Known.here(fresh=fresh)
    settled = {method: s.candidates[0] if s.candidates else s.space.params(**s.space.fixed).to_dict() for method, s in study.sought.items()}
    searches = study.searches()
    tuning = [c for method, search in searches.items() for a in next(search) for c in (study.asked(method, a), study.reference(a))]
    models = [c for _, c in study.models(settled)]
    everything = {c.run_id: c for c in (*tuning, *(c.original for c in tuning if c.kind == "unlearned"), *models)}
    todo = [c for c in everything.values() if not known.finished(c.run_id)]
    open_ended = any(not study.sought[method].candidates for method in searches)
    note = "settings come from the search, so unlearned models are counted with each method's first candidate" if searches else ""
    return {"study": study.name, "planned": len(everything), "done": len(everything) - len(todo), "images": sum(plan.work(c) for c in todo),
            "note": note + ("; of the search only the first round is counted" if open_ended else "")}
