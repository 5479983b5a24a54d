"""The executor over a Ray cluster: whatever dies, the rows are a local run's. What decides that needs no Ray and is tested on a stand-in."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from engine import template
from engine.cli import main
from engine.errors import BadInput, RunError
from engine.jobs import compute, plan, ray_executor, study
from engine.jobs.cells import Cell
from engine.jobs.executor import Local
from engine.jobs.progress import Progress
from engine.jobs.provenance import ROOT
from engine.jobs.ray_executor import RayCluster, layout
from engine.store import reader, records

TINY = """
name: tiny
title: A tiny study
data: {dataset: digits, pool: 200}
model: cnn
recipe: {epochs: 1, batch: 32}
seeds: {count: 3}
u_lira: {splits: 2, forget_sets: 2, mode: exact}
search: {splits: 1}
methods:
  ft: {set: {batch: 32, epochs: 1}, search: {lr: [0.01, 0.1]}}
  ga: {set: {batch: 32, epochs: 1, lr: 0.0001}}
"""
VOLATILE = {"started", "wall_s", "amortised_s", "replicas", "slot", "command"}


def content(home: Path) -> dict[str, tuple[list[records.Row], dict[str, bytes]]]:
    """Rows and files of every record, but for when and beside whom it ran."""
    found = {}
    for folder in records.folders(home):
        record = records.read(folder)
        rows = [{k: v for k, v in row.items() if k not in VOLATILE} for table in record.tables.values() for row in table]
        found[folder.name] = rows, {name: (folder / name).read_bytes() for name in record.files}
    return found


# ---- what is refused, without Ray


def test_where_ray_is_not_installed_it_says_how_to_get_it(tmp_path: Path, lethe_home: Path, monkeypatch: pytest.MonkeyPatch,
                                                          capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "tiny.yaml").write_text(TINY)
    ray_executor._ray.cache_clear()
    monkeypatch.setitem(sys.modules, "ray", None)
    assert main(["study", "run", str(tmp_path / "tiny.yaml"), "--executor", "ray"]) == 2
    said = capsys.readouterr().err
    assert "requirements-ray.txt" in said and "docs/cluster.md" in said and "Traceback" not in said
    assert (ROOT / "requirements-ray.txt").is_file() and (ROOT / "docs" / "cluster.md").is_file()


@pytest.mark.parametrize(("given", "says"), [
    (["--address", "10.0.0.1:6379"], "--address: got '10.0.0.1:6379' with --executor local"),
    (["--executor", "ray", "--workers", "0"], "--workers: got 0, must be int in [1, 65536]"),
    (["--address", "x", "--workers", "1000"], "--workers: got 1000, must be int in [1, 256]\n--address: got 'x'"),
])
def test_arguments_that_do_not_fit_are_named_at_once(given: list[str], says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["study", "run", str(tmp_path / "none.yaml"), *given]) == 2
    assert says in capsys.readouterr().err


@pytest.mark.parametrize(("address", "says"), [("nonsense", "not HOST:PORT"), ("ray://head:10001", "not HOST:PORT"), ("127.0.0.1:1", "refused")])
def test_an_address_where_no_cluster_is_says_what_to_do(address: str, says: str, local: Local, stand_in: "StandIn") -> None:
    with pytest.raises(BadInput, match=f"no Ray cluster to work with at '{address}' .*{says}.*ray start --head"), RayCluster(local, address, "cpu"):
        pass


# ---- how workers are laid out


SMALL, GPUS = {"CPU": 6.0}, {"CPU": 16.0, "GPU": 4.0}


@pytest.mark.parametrize(("device", "nodes", "wanted", "found"), [
    ("cpu", [SMALL, SMALL], None, (12, 1, 0.0)),  # one a core
    ("cpu", [SMALL, SMALL], 4, (4, 3, 0.0)),  # the cores are shared out
    ("cpu", [SMALL, SMALL], 3, (3, 3, 0.0)),  # never more cores than leave all of them a place
    ("cuda", [GPUS, SMALL], None, (4, 4, 1.0)),  # one a GPU; nodes without one do not count
    ("cuda", [GPUS, GPUS], 2, (2, 16, 1.0)),
    ("cuda", [GPUS], 8, (8, 2, 0.5)),  # two share a GPU
    ("cuda", [{"CPU": 2.0, "GPU": 4.0}], None, (2, 1, 1.0)),  # a worker needs a core too
])
def test_workers_fill_the_nodes(device: str, nodes: list[dict[str, float]], wanted: int | None, found: tuple[int, int, float]) -> None:
    assert layout(device, nodes, wanted) == found


def test_a_layout_that_cannot_be_is_refused() -> None:
    with pytest.raises(RunError, match="has no GPU .nodes: 1.*run on cuda"):
        layout("cuda", [SMALL])
    with pytest.raises(RunError, match="has no CPU core .nodes: 0"):
        layout("cpu", [])
    with pytest.raises(BadInput, match="got 13, but the Ray cluster has room for 12 .12 cores, 0 GPUs in 2 nodes"):
        layout("cpu", [SMALL, SMALL], 13)


# ---- what happens when something fails, on a stand-in for Ray: actors are objects here, and a script says who dies when


class Lost(Exception):
    """Stands for Ray's errors of actors and nodes."""


class Raised(Lost):
    """Stands for an exception that an actor's method raised."""

    def __init__(self, cause: Exception) -> None:
        super().__init__(f"trace\n{cause}")
        self.cause = cause


class StandIn:
    """As much of Ray as the executor uses. script(actor's number, cells) may raise in place of a task; `dead` actors answer nothing."""

    exceptions = SimpleNamespace(RayError=Lost, RayTaskError=Raised, RuntimeEnvSetupError=type("Setup", (Lost,), {}))

    def __init__(self) -> None:
        self.script: Callable[[int, Sequence[Cell]], None] = lambda number, cells: None
        self.dead, self.made, self.silent, self.broken = set[int](), 0, False, False

    def init(self, address: str, **_: Any) -> None:
        pass

    def shutdown(self) -> None:
        pass

    def kill(self, actor: Any) -> None:
        pass

    def nodes(self) -> list[dict[str, Any]]:
        return [{"Alive": True, "Resources": {"CPU": 2.0}}, {"Alive": False, "Resources": {"CPU": 64.0}}]

    def get_runtime_context(self) -> Any:
        return SimpleNamespace(gcs_address="127.0.0.1:1")

    def wait(self, asked: list[Any], timeout: float) -> tuple[list[Any], list[Any]]:
        if self.broken:
            raise OSError("broken pipe to the node")
        return ([], asked) if self.silent else (asked[:1], asked[1:])

    def get(self, asked: Callable[[], Any]) -> Any:
        return asked()

    def remote(self, kind: type) -> Any:
        return SimpleNamespace(options=lambda **_: SimpleNamespace(remote=lambda *given: self._actor(kind(*given))))

    def _actor(self, slot: ray_executor.Slot) -> Any:
        number, self.made = self.made, self.made + 1

        def answer(act: Callable[[], Any]) -> Any:
            if number in self.dead:
                raise Lost(f"number {number} is dead")
            try:
                return act()
            except Lost:
                self.dead.add(number)
                raise

        def run(task: dict[str, Any], weights: dict[str, bytes]) -> Callable[[], Any]:
            def act() -> Any:
                self.script(number, [Cell.from_content(c) for c in task["cells"]])
                return slot.run(task, weights)

            return lambda: answer(act)

        return SimpleNamespace(node=SimpleNamespace(remote=lambda: lambda: answer(lambda: f"node-{number}")), run=SimpleNamespace(remote=run))


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch) -> StandIn:
    made = StandIn()
    monkeypatch.setattr(ray_executor, "_ray", lambda: made)
    return made


@pytest.fixture
def local(lethe_home: Path) -> Local:
    return Local(lethe_home, 1, 1, "tiny", "python -m engine study run tiny.yaml")


@pytest.fixture
def tiny() -> study.Study:
    return study.parse(TINY, "tiny")[0]


def run(local: Local, cells: Sequence[Cell], references: dict[str, dict[str, float]] | None = None) -> None:
    """One task a cell, in their order, on a cluster of two cores."""
    tasks = [plan.Task((cell,), 1.0, "loop") for cell in cells]
    with RayCluster(local, "local", "cpu") as cluster:
        cluster.run(tasks, references or {}, Progress("test", len(tasks), "tasks", quiet=True))


def test_records_are_what_this_machine_would_have_written(tiny: study.Study, local: Local, tmp_path: Path, stand_in: StandIn) -> None:
    cells = [tiny.cell("seeds", "retrained", seed=0), tiny.cell("seeds", "original", seed=0), tiny.cell("seeds", "ga", seed=0)]
    u_lira = [tiny.cell("u_lira", "original", seed=1, split=1, forget=None), tiny.cell("u_lira", "ga", seed=1, split=1)]
    here = tmp_path / "here"
    first, = compute.compute(cells[:1], compute.Context(here))
    references = {cells[0].run_id: {row["name"]: row["value"] for row in first.tables["metrics"]}}
    for cell in [*cells[1:], *u_lira]:
        compute.compute([cell], compute.Context(here, references=references))
    for stage in ([cells[0]], [cells[1], u_lira[0]], [cells[2], u_lira[1]]):  # each starts from weights that only the driver's disk has
        run(local, stage, references)
    found, expected = content(local.home), content(here)
    assert set(found) == set(expected) == {c.run_id for c in [*cells, *u_lira]}
    for name, (rows, files) in expected.items():
        assert found[name][1].keys() == files.keys() and all(found[name][1][f] == files[f] for f in files)
        assert found[name][0] == [row | ({"study": "tiny"} if "study" in row else {}) for row in rows]
    assert np.load(local.home / "runs" / u_lira[1].run_id / compute.SCORES).shape == (200,)


@pytest.mark.parametrize("how", [Lost("first line\nout of memory"), Raised(KeyError("out of memory"))])  # the node's doing, or a slip of ours
def test_a_task_that_kills_every_worker_is_given_up_and_its_neighbours_are_done(how: Lost, tiny: study.Study, local: Local,
                                                                                stand_in: StandIn) -> None:
    cells = [tiny.cell("seeds", "retrained", seed=seed) for seed in range(3)]

    def script(number: int, asked: Sequence[Cell]) -> None:
        if asked[0].seed == 1:
            raise how

    stand_in.script = script
    run(local, cells)
    assert set(content(local.home)) == {cells[0].run_id, cells[2].run_id, f"{cells[1].run_id}.failed-1"}
    row, = records.read(local.home / "runs" / f"{cells[1].run_id}.failed-1").tables["runs"]
    assert row["status"] == "failed" and "lost 3 times" in row["error"] and "out of memory" in row["error"]
    assert stand_in.made == 2 + 3  # each that died was replaced
    run(local, [cells[1]])  # tried again by another command
    assert f"{cells[1].run_id}.failed-2" in content(local.home)


def test_a_cell_that_fails_at_a_worker_is_a_numbered_row_here(tiny: study.Study, local: Local, stand_in: StandIn) -> None:
    cell = tiny.cell("seeds", "ga", seed=0)  # its original is not at hand
    for _ in range(2):
        run(local, [cell])
    assert set(content(local.home)) == {f"{cell.run_id}.failed-1", f"{cell.run_id}.failed-2"}
    assert "Traceback" in local.log_path.read_text()  # what was logged at the worker


def test_workers_that_died_while_they_were_free_cost_no_attempt(tiny: study.Study, local: Local, stand_in: StandIn) -> None:
    cells = [tiny.cell("seeds", "retrained", seed=seed) for seed in range(2)]
    with RayCluster(local, "local", "cpu") as cluster:
        for cell in cells:
            cluster.run([plan.Task((cell,), 1.0, "loop")], {}, Progress("test", 1, "tasks", quiet=True))
            stand_in.dead |= set(range(stand_in.made))  # the whole cluster restarts between two stages
    assert set(content(local.home)) == {c.run_id for c in cells} and stand_in.made == 4


def test_a_worker_that_cannot_work_is_left_out_and_the_others_go_on(tiny: study.Study, local: Local, stand_in: StandIn) -> None:
    cells = [tiny.cell("seeds", "retrained", seed=seed) for seed in range(2)]

    def script(number: int, asked: Sequence[Cell]) -> None:
        if number == 0:
            raise Raised(BadInput("FashionMNIST: could neither be read nor downloaded"))

    stand_in.script = script
    run(local, cells)
    assert set(content(local.home)) == {c.run_id for c in cells} and stand_in.made == 2


def test_where_no_worker_can_work_there_is_one_message(tiny: study.Study, local: Local, stand_in: StandIn) -> None:
    def script(number: int, asked: Sequence[Cell]) -> None:
        raise Raised(BadInput("FashionMNIST: could neither be read nor downloaded"))

    stand_in.script = script
    with pytest.raises(RunError, match="no worker is left. node-1: FashionMNIST: could neither.*Finished runs are kept"):
        run(local, [tiny.cell("seeds", "retrained", seed=0)])


def test_other_images_or_methods_at_a_worker_are_refused(tiny: study.Study) -> None:
    cell = tiny.cell("seeds", "retrained", seed=0)
    other = cell.content | {"versions": cell.content["versions"] | {"data": 99}}
    with pytest.raises(BadInput, match="digits and retrained have other versions here .*bring the same images"):
        ray_executor.Slot(1).run({"what": "cells", "name": "x", "cells": [other]}, {})


def test_workers_that_keep_dying_end_the_run(tiny: study.Study, local: Local, stand_in: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    def script(number: int, asked: Sequence[Cell]) -> None:
        raise Lost("preempted")

    stand_in.script = script
    monkeypatch.setattr(ray_executor, "DEATHS", 3)
    with pytest.raises(RunError, match="workers keep dying .preempted.*Finished runs are kept"):
        run(local, [tiny.cell("seeds", "retrained", seed=seed) for seed in range(3)])


@pytest.mark.parametrize(("limit", "says"), [
    ("SILENCE_S", "cluster at 'local' does not answer any more .*Connection refused"),  # nobody listens at its head
    ("PATIENCE_S", "cluster at 'local' has had no worker for"),
    ("", "cluster at 'local' does not answer any more .broken pipe to the node"),  # as Ray says it, which knows OSErrors without a number
])
def test_a_cluster_that_goes_away_ends_the_run_with_one_message(limit: str, says: str, tiny: study.Study, local: Local, stand_in: StandIn,
                                                                monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in.silent, stand_in.broken = bool(limit), not limit
    if limit:
        monkeypatch.setattr(ray_executor, limit, -1.0)
    with pytest.raises(RunError, match=f"{says}.*Finished runs are kept"):
        run(local, [tiny.cell("seeds", "retrained", seed=0)])


# ---- on a real cluster of several nodes on this machine


WHOLE = TINY.replace("epochs: 1, batch: 32}\nseeds", "epochs: 40, batch: 32}\nseeds").replace("  ga:", "  mine: {set: {epochs: 1}}\n  ga:")


@contextmanager
def nodes() -> Iterator[Any]:
    """A Ray cluster: a head that computes nothing, and two nodes of one core each."""
    from ray.cluster_utils import Cluster  # pyright: ignore[reportMissingImports]

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    session = cluster.head_node.get_session_dir_path()
    try:
        cluster.lost = [cluster.add_node(num_cpus=1) for _ in range(2)][1]
        yield cluster
    finally:
        cluster.shutdown()
        shutil.rmtree(session, ignore_errors=True)


Ask = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def ask(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Ask:
    """Runs the study, with a plug-in, in a process as a person would."""
    monkeypatch.setenv("LETHE_PLUGINS", str(tmp_path / "mine"))
    template.write("mine")
    monkeypatch.delenv("LETHE_PLUGINS")
    (tmp_path / "tiny.yaml").write_text(WHOLE)

    def command(home: Path, *extra: str) -> subprocess.Popen[str]:
        environment = os.environ | {"LETHE_HOME": str(home), "LETHE_DEVICE": "cpu", "OMP_NUM_THREADS": "1"}
        line = ["--plugins", str(tmp_path / "mine"), "study", "run", str(tmp_path / "tiny.yaml"), "--fresh", "--json", *extra]
        return subprocess.Popen([sys.executable, "-m", "engine", *line], cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                text=True)

    return command


def wait_for(home: Path, runs: int, process: subprocess.Popen[str]) -> None:
    """Until so many are recorded; the study is not over then."""
    until = time.monotonic() + 200
    while len(list(records.folders(home))) < runs and process.poll() is None and time.monotonic() < until:
        time.sleep(0.02)
    assert process.poll() is None and len(list(records.folders(home))) >= runs


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # Ray's own
class TestOnNodes:
    def test_a_node_and_then_the_driver_are_lost_and_the_rows_are_a_local_runs(self, ask: Ask, tmp_path: Path) -> None:
        calm, rough = tmp_path / "calm", tmp_path / "rough"
        with nodes() as cluster:
            first = ask(rough, "--executor", "ray", "--address", cluster.address)
            wait_for(rough, 8, first)
            cluster.remove_node(cluster.lost, allow_graceful=False)
            wait_for(rough, 16, first)  # the other one goes on
            first.send_signal(signal.SIGKILL)
            first.communicate()
            before = set(content(rough))
            second = ask(rough, "--executor", "ray", "--address", cluster.address, "--resume")
            out, err = second.communicate(timeout=240)
        assert second.returncode == 0, err
        counts = json.loads(out)
        assert counts["failed"] == 0 and counts["done"] + counts["skipped"] == counts["planned"] and counts["skipped"] > 0
        out, err = (local := ask(calm)).communicate(timeout=240)
        assert local.returncode == 0, err
        found, expected = content(rough), content(calm)
        assert before <= set(found) == set(expected)  # none lost, and no failed attempt beside them
        assert [name for name in expected if found[name] != expected[name]] == []
        db = reader.open_results(None, rough)
        assert db.execute("SELECT run_id FROM runs GROUP BY run_id HAVING count(*) > 1").fetchall() == []
        made = db.execute("SELECT count(*) FROM runs WHERE method = 'mine' AND status = 'done' AND kind = 'unlearned'").fetchall()
        assert made == [(3 + 4,)]

    def test_a_cluster_that_goes_away_leaves_one_message_and_what_is_finished(self, ask: Ask, tmp_path: Path) -> None:
        home = tmp_path / "home"
        with nodes() as cluster:
            process = ask(home, "--executor", "ray", "--address", cluster.address)
            wait_for(home, 4, process)
            cluster.remove_node(cluster.head_node, allow_graceful=False)
            _, err = process.communicate(timeout=120)
        assert process.returncode == 1
        assert "does not answer any more" in err and "Finished runs are kept" in err and "Traceback" not in err
        assert len(content(home)) >= 4
