"""A whole study, tiny: whatever happens to its processes, the same rows come out, once each."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from engine.jobs import driver, study
from engine.jobs.provenance import ROOT
from engine.store import reader, records

TINY = """
name: tiny
title: A tiny study
data: {dataset: digits, pool: 200}
model: cnn
recipe: {epochs: 2, batch: 32}
seeds: {count: 2}
u_lira: {splits: 4, forget_sets: 2, mode: exact}
timing: {repeats: 1}
search: {splits: 1}
methods:
  ft: {set: {batch: 32}, search: {lr: [0.01, 0.1], epochs: [1, 2]}}
  ga: {set: {batch: 32, epochs: 1, lr: 0.0001}}
"""
VOLATILE = {"started", "wall_s", "amortised_s", "replicas", "slot", "command"}


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.yaml"
    path.write_text(TINY)
    return path


def rows(home: Path) -> dict[str, object]:
    """All that was recorded but for when and beside whom it ran, and but for timings, which are about the moment."""
    found = {}
    for folder in records.folders(home):
        tables = records.read(folder).tables
        if tables["runs"][0]["kind"] == "timing":
            found[folder.name] = "timing"
            continue
        found[folder.name] = [{k: v for k, v in row.items() if k not in VOLATILE} for table in tables.values() for row in table]
    return found


def command(tiny: Path, home: Path, *extra: str) -> subprocess.Popen[bytes]:
    environment = os.environ | {"LETHE_HOME": str(home), "LETHE_DEVICE": "cpu"}
    return subprocess.Popen([sys.executable, "-m", "engine", "study", "run", str(tiny), "--fresh", "--json", *extra], cwd=ROOT, env=environment,
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True)


@pytest.mark.slow
def test_a_study_runs_whole_is_skipped_when_done_and_shows_in_the_store(tiny: Path, lethe_home: Path) -> None:
    checked, = study.read(tiny)
    first = driver.Driver(checked, workers=2, fresh=True, quiet=True).run()
    assert first.failed == 0 and first.done == first.planned - first.skipped
    before = rows(lethe_home)
    second = driver.Driver(checked, workers=1, fresh=True, quiet=True).run()
    assert second.done == 0 and second.skipped == second.planned and rows(lethe_home) == before
    db = reader.open_results(None, lethe_home)
    kinds = dict(db.execute("SELECT kind, count(*) FROM runs WHERE status = 'done' GROUP BY kind").fetchall())
    assert kinds == {"retrained": 2 + 8 + 1, "original": 2 + 4 + 1, "unlearned": 2 * 2 + 2 * 8 + 4, "attack": 2 + 3 + 2 * 6, "timing": 3, "search": 1,
                     "study": 1}
    members, = db.execute("SELECT count(*) FROM members JOIN runs ON runs.run_id = member").fetchall()
    assert members[0] == 8 + 4 + 8 + 16 + (2 + 3 + 2 * 6) + 3 + 1 + 6  # every member is there, the six runs behind the search too
    orphans, = db.execute("SELECT count(*) FROM metrics WHERE run_id NOT IN (SELECT run_id FROM runs)").fetchall()
    assert orphans[0] == 0
    chosen = db.execute("SELECT params, score FROM trials WHERE chosen").fetchall()
    assert len(chosen) == 1 and chosen[0][1] == db.execute("SELECT min(score) FROM trials").fetchall()[0][0]


@pytest.mark.slow
@pytest.mark.parametrize("how", ["{kind: racing, trials: 6, splits: 2, fresh_splits: 1, keep: 2}", "{kind: deep_unlearn, trials: 3, seeds: 2}"])
def test_an_open_ended_search_chooses_keeps_all_trials_and_is_skipped_when_done(how: str, tiny: Path, lethe_home: Path) -> None:
    body = TINY.replace("search: {splits: 1}", f"search: {how}").replace("search: {lr: [0.01, 0.1], epochs: [1, 2]}", "search: {lr: [0.001, 0.1]}")
    tiny.write_text(body.replace("epochs: 1, lr: 0.0001}", "epochs: 1, lr: 0.0001}, search: false"))
    checked, = study.read(tiny)
    first = driver.Driver(checked, workers=1, fresh=True, quiet=True).run()
    assert first.failed == 0 and first.done > 0
    db = reader.open_results(None, lethe_home)
    trials = db.execute("SELECT method, json_extract(t.params, '$.lr')::DOUBLE, chosen FROM trials t JOIN runs USING (run_id)").fetchall()
    assert {method for method, *_ in trials} == {"ft"} and len(trials) == 6 and sum(chosen for *_, chosen in trials) == 1
    assert all(0.001 <= lr <= 0.1 for _, lr, _ in trials)
    used = {lr for (lr,) in db.execute("SELECT json_extract(params, '$.lr')::DOUBLE FROM runs WHERE method = 'ft' AND protocol = 'u_lira'").fetchall()}
    assert used == {lr for _, lr, chosen in trials if chosen}
    orphans, = db.execute("SELECT count(*) FROM runs WHERE kind = 'unlearned' AND run_id NOT IN (SELECT member FROM members)").fetchone() or (None,)
    assert orphans == 0  # what the search tried belongs to the study too
    phantoms, = db.execute("SELECT count(*) FROM members WHERE member NOT IN (SELECT run_id FROM runs)").fetchone() or (None,)
    assert phantoms == 0  # and nothing does that will never run
    db.close()
    again = driver.Driver(checked, workers=1, fresh=True, quiet=True).run()
    assert again.done == 0 and again.skipped == again.planned


@pytest.mark.slow
def test_killed_at_any_moment_it_resumes_to_the_same_rows(tiny: Path, tmp_path: Path) -> None:
    calm, rough = tmp_path / "calm", tmp_path / "rough"
    process = command(tiny, calm, "--workers", "2")  # as many threads a process as below: the exact path promises no more
    out, err = process.communicate(timeout=240)
    assert process.returncode == 0, err.decode()
    assert json.loads(out)["failed"] == 0
    finished: set[str] = set()
    for _ in range(3):  # killed with its workers, after it got a little further each time
        process = command(tiny, rough, "--workers", "2")
        until = time.monotonic() + 120
        while len({f.name for f in records.folders(rough)} - finished) < 6 and process.poll() is None and time.monotonic() < until:
            time.sleep(0.05)
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        now = {f.name for f in records.folders(rough)}
        assert finished <= now
        finished = now
    process = command(tiny, rough, "--workers", "2")
    out, err = process.communicate(timeout=240)
    assert process.returncode == 0, err.decode()
    assert json.loads(out)["skipped"] >= len(finished) // 2
    assert rows(rough) == rows(calm)


@pytest.mark.slow
def test_a_killed_worker_costs_nothing_but_time(tiny: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    process = command(tiny, home, "--workers", "2")
    until = time.monotonic() + 120
    while len(list(records.folders(home))) < 4 and time.monotonic() < until:
        time.sleep(0.05)
    workers = subprocess.run(["pgrep", "-P", str(process.pid), "-f", "engine.jobs.worker"], capture_output=True, text=True, check=True).stdout.split()
    os.kill(int(workers[0]), signal.SIGKILL)
    out, err = process.communicate(timeout=240)
    assert process.returncode == 0, err.decode()
    assert json.loads(out)["failed"] == 0


def test_a_full_disk_stops_the_study_with_one_message(tiny: Path, lethe_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from engine.errors import RunError
    from engine.jobs import compute
    from engine.jobs.compute import Context

    checked, = study.read(tiny)
    cell = checked.cell("seeds", "retrained", seed=0)

    def full(path: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(records, "sync", full)
    with pytest.raises(RunError, match=r"No space left on device.*Finished runs are kept"):
        compute.compute([cell], Context(lethe_home))
    assert list(records.folders(lethe_home)) == []


@pytest.mark.slow
def test_a_diverged_model_is_a_row_and_not_a_number(tmp_path: Path, lethe_home: Path) -> None:
    path = tmp_path / "wild.yaml"
    path.write_text(TINY.replace("lr: 0.0001", "lr: 10, momentum: 1.0").replace("splits: 4", "splits: 0").replace("repeats: 1", "repeats: 0")
                    .replace("epochs: 1, ", "epochs: 200, "))
    counts = driver.Driver(study.read(path)[0], workers=1, fresh=True, quiet=True).run()
    assert counts.failed == 0
    db = reader.open_results(None, lethe_home)
    found = db.execute("SELECT status, error FROM runs WHERE method = 'ga'").fetchall()
    assert found and all(status in ("diverged", "done") for status, _ in found)
    values = db.execute("SELECT count(*) FROM metrics JOIN runs USING (run_id) WHERE status = 'diverged' AND name LIKE '%accuracy'").fetchall()
    assert values[0][0] == 0
