"""The executor over a Ray cluster: a long-lived actor for each GPU or group of cores, and a driver that hands out stacks and alone writes records.

    driver -> actor    a task: cells, metrics of references, the weights that its models start from and are compared with
    actor  -> driver   an outcome: the rows and the files of each record, and what was logged

So nodes share no file system, and a lost node takes nothing along that is finished. Ray itself neither restarts an actor nor repeats a call: the
driver counts the attempts, as the local executor does. The code travels from the driver's checkout. Attacks read the scores of all models and
run on the driver's machine, by the local executor.
"""

import contextlib
import io
import logging
import os
import shutil
import socket
import tempfile
import time
from collections import Counter, deque
from collections.abc import Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch

from engine.data.catalogue import loaded
from engine.errors import BadInput, LetheError, RunError
from engine.jobs import provenance
from engine.jobs.allocator import keep_memory
from engine.jobs.cells import Cell
from engine.jobs.compute import WEIGHTS, Context
from engine.jobs.executor import ATTEMPTS, POLL_S, Local, body
from engine.jobs.plan import Task
from engine.jobs.progress import Progress
from engine.jobs.study import make_cell
from engine.jobs.worker import record_failure, run_task
from engine.registry import PLUGINS
from engine.store import records
from engine.train import Recipe

log = logging.getLogger(__name__)
DEATHS = 100  # in a row, beyond one of every worker, without a single task finished: nothing will ever finish
PATIENCE_S = 600.0  # for a first worker: a cluster may have to start its machines
SILENCE_S, CHECK_S = 20.0, 5.0  # of the cluster's head; after 60 s Ray would end this process without a word that helps


# ---- on the nodes


@dataclass(frozen=True)
class Outcome:
    """What a task left: each record with the bytes of its files by name, and the log of it."""

    left: list[tuple[records.Record, dict[str, bytes]]]
    log: str


class Slot:
    """The actor: one process, its torch limited to `threads`. Code and data stay loaded between tasks."""

    def __init__(self, threads: int) -> None:
        keep_memory()
        torch.set_num_threads(threads)

    def node(self) -> str:
        """The name of its machine."""
        return socket.gethostname()

    def run(self, task: dict[str, Any], weights: dict[str, bytes]) -> Outcome:
        """Compute a task as a local worker does. weights: files of trained models, by run_id.

        Raises: BadInput where this node's data or methods are not the driver's; RunError, OSError on a full disk.
        """
        _same_here(Cell.from_content(task["cells"][0]))
        with tempfile.TemporaryDirectory(prefix="lethe-") as folder, _logged() as told:
            home, beside = Path(folder), Path(folder) / "weights"
            beside.mkdir()
            for run_id, content in weights.items():
                (beside / f"{run_id}.pt").write_bytes(content)
            run_task(task | {"home": folder, "checkpoints": [str(beside)]})
            left = [(record, {name: (path / name).read_bytes() for name in record.files})
                    for path in records.folders(home) for record in [records.read(path)]]
            return Outcome(left, told.getvalue())


def _same_here(cell: Cell) -> None:
    """Raises: BadInput unless data and methods of this machine give the cell the identity that it has."""
    loaded(cell.data.dataset)
    here = make_cell(cell.data, cell.model, cell.key, seed=cell.seed, recipe=Recipe.from_dict(dict(cell.recipe), "recipe"), params=dict(cell.params),
                     numeric=cell.numeric)
    if here.versions != cell.versions:
        raise BadInput(f"{cell.data.dataset} and {cell.key} have other versions here ({dict(here.versions)}) than where the study was started "
                       f"({dict(cell.versions)}); bring the same images and the same installed methods to every node")


@contextlib.contextmanager
def _logged() -> Generator[io.StringIO, None, None]:
    """Everything that is logged meanwhile."""
    told = io.StringIO()
    handler = logging.StreamHandler(told)
    handler.setFormatter(logging.Formatter("%(asctime)s %(name)s %(levelname)s %(message)s"))
    logging.getLogger().addHandler(handler)
    try:
        yield told
    finally:
        logging.getLogger().removeHandler(handler)


# ---- at the driver


@dataclass(eq=False)
class _Worker:
    """An actor as the driver sees it. asked: the answer that it owes (its node's name, or an outcome), None while it is free."""

    actor: Any
    asked: Any
    node: str = ""  # empty until it first answers
    task: Task | None = None


class RayCluster:
    """local: says where records go, and runs attacks. address: of the cluster, or `local` to start one on this machine.

    device: cpu or cuda, what the cells want; wanted: actors in all, by default as many as there is room for.
    """

    def __init__(self, local: Local, address: str, device: str, wanted: int | None = None) -> None:
        self.local, self.address, self.device, self.wanted = local, address, device, wanted
        self.workers = self.threads = 0  # known once it is connected
        self._ray = _ray()
        self._slots: list[_Worker] = []
        self._deaths, self._heard, self._seen, self._checked = 0, 0.0, 0.0, 0.0

    def __enter__(self) -> "RayCluster":
        self.local.log_path.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.ExitStack() as stack:
            self._log = stack.enter_context(self.local.log_path.open("a", encoding="utf-8"))
            stack.enter_context(contextlib.redirect_stdout(self._log))  # Ray prints there what it hears of lost nodes
            stack.callback(self._ray.shutdown)
            self._connect()
            nodes = [node["Resources"] for node in self._ray.nodes() if node["Alive"]]
            self.workers, self.threads, gpus = layout(self.device, nodes, self.wanted)
            variables = {name: str(self.threads) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS")}
            self._actor = self._ray.remote(Slot).options(num_cpus=self.threads, num_gpus=gpus, max_restarts=0, max_task_retries=0,
                                                         runtime_env={"env_vars": variables})
            for _ in range(self.workers):
                self._start()
            self._open = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._slots.clear()
        self._open.close()

    def _connect(self) -> None:
        with tempfile.TemporaryDirectory(prefix="lethe-code-") as folder:
            environment = _bundle(Path(folder))
            try:
                if self.address != "local":
                    _knock(self.address)  # Ray itself would knock for minutes
                self._ray.init(self.address, runtime_env=environment, include_dashboard=False, log_to_driver=False,
                               logging_level=logging.ERROR)
            except (RuntimeError, ValueError, OSError) as error:
                raise BadInput(f"--address: no Ray cluster to work with at '{self.address}' ({_said(error)}). Give the HOST:PORT that "
                               "`ray start --head` prints, on one of the cluster's nodes; or leave out --address and RAY_ADDRESS "
                               "to run on this machine alone") from error

    def run_attacks(self, attacks: Sequence[dict[str, Any]], progress: Progress) -> None:
        """Run attacks on this machine, where the scores are."""
        with self.local:
            self.local.run_attacks(attacks, progress)

    def run(self, tasks: Sequence[Task], references: dict[str, dict[str, float]], progress: Progress) -> None:
        """Run cells; every task ends as records, of success or of failure.

        Raises: RunError when the disk is full, when workers keep dying, or when the cluster is gone.
        """
        try:
            self._run(tasks, references, progress)
        except (OSError, self._ray.exceptions.RayError) as error:
            if isinstance(error, OSError) and error.errno is not None:
                raise  # of a file of ours; Ray's have no number
            raise self._gone(error) from error

    def _run(self, tasks: Sequence[Task], references: dict[str, dict[str, float]], progress: Progress) -> None:
        todo, attempts, ended = deque(tasks), Counter[str](), list[Task]()
        self._deaths, self._heard, self._seen = 0, time.monotonic(), time.monotonic()
        self._ask_free_ones()
        while len(ended) < len(tasks):
            progress.show(sum(t.work for t in ended), len(ended), len(tasks))
            for worker in self._slots:
                if worker.asked is None and todo:
                    self._hand(worker, todo.popleft(), references)
            for worker, answer, error in self._answers():
                if error is None:
                    ended += self._heard_from(worker, answer)
                else:
                    ended += self._lost(worker, error, todo, attempts)
            self.local.after_poll()
            self._look_after()
        progress.show(sum(t.work for t in tasks), len(tasks), len(tasks))

    # ---- one step each

    def _start(self) -> None:
        actor = self._actor.remote(self.threads)
        self._slots.append(_Worker(actor, actor.node.remote()))

    def _ask_free_ones(self) -> None:
        """Before it is given work a worker must answer: one that died while it was free would cost the task an attempt."""
        for worker in self._slots:
            if worker.asked is None:
                worker.asked = worker.actor.node.remote()

    def _hand(self, worker: _Worker, task: Task, references: dict[str, dict[str, float]]) -> None:
        plain = body(task, references) | {"study": self.local.study, "command": self.local.command}
        worker.task, worker.asked = task, worker.actor.run.remote(plain, self._weights(task.cells))

    def _weights(self, cells: Iterable[Cell]) -> dict[str, bytes]:
        """Files of the models that cells start from, and of those at hand that they are compared with."""
        wanted = {c.original.run_id for c in cells if c.kind == "unlearned"}
        wanted |= {c.retrained.run_id for c in cells if c.kind != "retrained" and c.data.protocol == "seeds"}
        places = {run_id: (self.local.home / "runs" / run_id / WEIGHTS, *(folder / f"{run_id}.pt" for folder in self.local.checkpoints))
                  for run_id in wanted}
        return {run_id: path.read_bytes() for run_id, paths in places.items() if (path := next((p for p in paths if p.is_file()), None))}

    def _answers(self) -> list[tuple[_Worker, Any, Exception | None]]:
        """What has come in: each worker with its answer, or with why it gives none."""
        owed = {worker.asked: worker for worker in self._slots if worker.asked is not None}
        found = list[tuple[_Worker, Any, Exception | None]]()
        for asked in self._ray.wait(list(owed), timeout=POLL_S)[0]:
            try:
                found.append((owed[asked], self._ray.get(asked), None))
            except self._ray.exceptions.RayError as error:
                found.append((owed[asked], None, error))
        return found

    def _heard_from(self, worker: _Worker, answer: Any) -> list[Task]:
        """Keep what a worker sends; the task that has ended thereby."""
        task, worker.task, worker.asked = worker.task, None, None
        if task is None:
            worker.node = answer
            return []
        self._deaths = 0
        self._note(answer.log)
        for record, files in answer.left:
            keep(self.local.home, record, files)
        return [task]

    def _lost(self, worker: _Worker, error: Exception, todo: deque[Task], attempts: Counter[str]) -> list[Task]:
        """Do without a worker: another takes its place, and its task. A task that was tried often enough has ended, as failed.

        One that said itself why it cannot work (no data, a full disk) is not replaced: the next one there would say the same.
        """
        task, where, cause = worker.task, worker.node or "a new node", getattr(error, "cause", None) or error
        self._slots.remove(worker)
        with contextlib.suppress(Exception):  # dead already, most often
            self._ray.kill(worker.actor)
        if isinstance(error, self._ray.exceptions.RuntimeEnvSetupError):
            raise RunError(f"the code of this checkout could not be set up on the cluster: {_said(error)}")
        if isinstance(cause, LetheError | OSError) or getattr(error, "actor_init_failed", False):
            reason = f"{where}: {_said(cause)}"
            log.warning("a worker is left out: %s", reason)
            self._note(f"{error}\n")
            if not self._slots:
                raise RunError(f"no worker is left. {reason}. Finished runs are kept; start again to go on.")
            todo.extendleft([task] if task else [])
            return []
        self._deaths += 1
        if self._deaths > DEATHS + self.workers:
            raise RunError(f"workers keep dying ({_said(cause)}). Finished runs are kept; start again to go on.")
        self._start()
        self._ask_free_ones()
        if task is None:
            return []
        attempts[task.name] += 1
        if attempts[task.name] < ATTEMPTS:
            log.warning("a worker on %s is lost; its task is taken up again", where)
            todo.appendleft(task)
            return []
        reason = f"its worker was lost {ATTEMPTS} times (killed, out of memory, or its node gone), at last on {where}: {_said(cause)}"
        record_failure(task.cells, Context(self.local.home, self.local.study, self.local.command), reason)
        log.error("task %s given up: %s", task.name, reason)
        return [task]

    def _look_after(self) -> None:
        """Raises: RunError where the cluster is gone, or has had no worker for long."""
        now = time.monotonic()
        if any(worker.node for worker in self._slots):
            self._heard = now
        elif now - self._heard > PATIENCE_S:
            raise RunError(f"the Ray cluster at '{self.address}' has had no worker for {PATIENCE_S / 60:.0f} minutes (its nodes gone, or busy with "
                           "other work; `ray status` shows both). Finished runs are kept; start again to go on.")
        if now - self._checked > CHECK_S:
            self._checked = now
            try:
                _knock(self._ray.get_runtime_context().gcs_address)
                self._seen = now
            except OSError as error:
                if now - self._seen > SILENCE_S:
                    raise self._gone(error) from error

    def _gone(self, error: Exception) -> RunError:
        return RunError(f"the Ray cluster at '{self.address}' does not answer any more ({_said(error)}). Finished runs are kept; start it and this "
                        "command again to go on.")

    def _note(self, text: str) -> None:
        self._log.write(text)
        self._log.flush()


def layout(device: str, nodes: Sequence[Mapping[str, float]], wanted: int | None = None) -> tuple[int, int, float]:
    """(workers, cores of each, share of a GPU of each) on nodes of these resources, in Ray's names.

    A worker has a GPU, or where more are wanted than there are GPUs a share of one; without GPUs a core, or as many as fewer workers leave it.
    Raises: RunError where there is no GPU or core at all, BadInput where more workers are wanted than there are cores.
    """
    have = [(int(node.get("CPU", 0)), int(node.get("GPU", 0))) for node in nodes]
    cores, gpus = sum(c for c, _ in have), sum(g for _, g in have)
    if not (gpus if device == "cuda" else cores):
        raise RunError(f"the Ray cluster has no {'GPU' if device == 'cuda' else 'CPU core'} (nodes: {len(have)}), and the study's models run on "
                       f"{device}; add a node that has, or wait until they have joined (`ray status`)")
    sharing = -(-max(1, wanted or 0) // gpus) if gpus else 1

    def room(threads: int) -> int:
        return sum(min(c // threads, g * sharing) if device == "cuda" else c // threads for c, g in have)

    workers = wanted or room(1)
    if not 1 <= workers <= room(1):
        raise BadInput(f"--workers: got {workers}, but the Ray cluster has room for {room(1)} ({cores} cores, {gpus} GPUs in {len(have)} nodes)")
    threads = max(t for t in range(1, max(c for c, _ in have) + 1) if room(t) >= workers)
    return workers, threads, 1 / sharing if device == "cuda" else 0.0


def keep(home: Path, record: records.Record, files: Mapping[str, bytes]) -> None:
    """Publish a record that came from a worker; one that is there already stays. Its code came from here, so the commit is this one's.

    A failed attempt gets the next free number, since a worker does not know of earlier ones. Raises: RunError when the disk is full.
    """
    row = record.tables["runs"][0] | provenance.source()
    name = row["run_id"]
    if row["status"] == "failed":
        name = records.next_attempt(home, name.rpartition(".failed-")[0])

    def put(folder: Path) -> None:
        for path, content in files.items():
            (folder / path).write_bytes(content)

    records.write(home, records.Record(name, record.tables | {"runs": [row | {"run_id": name}]}), put)


def _bundle(folder: Path) -> dict[str, Any]:
    """Ray's description of the environment of every worker: this checkout's engine and the plug-ins of --plugins, copied to `folder`."""
    shutil.copytree(provenance.ROOT / "engine", folder / "engine", ignore=shutil.ignore_patterns("__pycache__"))
    plugins = os.environ.get(PLUGINS)
    if plugins:
        (folder / "plugins").mkdir()
        for path in Path(plugins).glob("[!_]*.py"):
            shutil.copy(path, folder / "plugins")
    return {"working_dir": str(folder), "env_vars": {PLUGINS: "plugins" if plugins else ""}}


@cache
def _ray() -> Any:
    """Ray, which is an extra. Raises: BadInput where it is not installed."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise BadInput("--executor ray: Ray is not installed here; `.venv/bin/python -m pip install -r requirements-ray.txt` installs it "
                       "(docs/cluster.md), `--executor local` needs nothing") from error
    return ray


def _knock(address: str) -> None:
    """Raises: OSError where nobody listens at HOST:PORT, ValueError where it is none."""
    host, _, port = address.rpartition(":")
    if not host or "/" in host or not port.isdecimal():
        raise ValueError("not HOST:PORT")
    socket.create_connection((host.strip("[]"), int(port)), timeout=CHECK_S).close()


def _said(error: BaseException) -> str:
    """The last line of its message: what lies behind, where Ray has several."""
    return (str(error).strip() or type(error).__name__).splitlines()[-1].strip()
