"""Jobs are plain files and processes: they outlive who asked, end once, and whoever looks sees where they stand."""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from engine import queue
from engine.errors import BadInput, RunError

REQUEST = {"kind": "rerun", "method": "ft", "variant": "corrected", "dataset": "digits", "model": "cnn", "seed": 3, "params": {"lr": 0.1}}

# Stands in for `python -m engine`: what it does for a job is told by the parameter "act".
ENGINE = """
import json, os, signal, subprocess, sys, time
from engine import queue
if sys.argv[1] == "rerun":
    act = dict(a.split("=") for a in sys.argv if "=" in a).get("act")
    print("a log line", file=sys.stderr)
    if act == "refuse": sys.exit(print("ft.lr: got 7, must be smaller", file=sys.stderr) or 2)
    if act == "crash": sys.exit(1)
    if act == "sleep": time.sleep(60)
    plan = {"seconds": 1.5, "needs": [], "u_lira": True, "u_lira_reason": "", "faults": ["no model 'x'"] if act == "faults" else []}
    sys.exit(print("not JSON" if act == "babble" else json.dumps(plan | {"argv": sys.argv[1:], "home": os.environ["LETHE_HOME"]})))
job = sys.argv[2]
act = queue.status(job).request["params"]["act"]
print("working in", os.getcwd(), flush=True)
if act == "crash": os.kill(os.getpid(), signal.SIGKILL)
if act == "mute": time.sleep(60)
queue.update(job, phase="train", done=0, total=4, rate=2.0)
if act == "stubborn": signal.signal(signal.SIGTERM, signal.SIG_IGN)
if act in ("sleep", "stubborn"):
    other = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    queue.update(job, phase="wait", message=str(other.pid))
    time.sleep(60)
for epoch in range(4):
    queue.log_point(job, epoch, "loss", 1 / (epoch + 1) if epoch else float("nan"))
    queue.update(job, done=epoch + 1)
if act == "slow": time.sleep(1.5)
queue.fail(job, "boom") if act == "fail" else queue.finish(job, {"run_id": "abc", "metrics": {"test_accuracy": 0.5}})
"""


@pytest.fixture(autouse=True)
def fake_engine(tmp_path, monkeypatch) -> Iterator[None]:
    monkeypatch.setenv("LETHE_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(queue, "_COMMAND", [sys.executable, "-c", ENGINE])
    yield
    for job in queue.jobs():
        queue.cancel(job.job_id)


def ask(act: str) -> str:
    return queue.submit({**REQUEST, "params": {"act": act}})


def wait(job_id: str, until: Callable[[queue.Status], bool] = lambda status: status.ended, seconds: float = 30) -> queue.Status:
    stop = time.monotonic() + seconds
    while not until(status := queue.status(job_id)):
        assert time.monotonic() < stop, status
        time.sleep(0.02)
    return status


def running(pid: int) -> bool:
    return queue._born(pid) is not None


def job_file(job_id: str, name: str) -> Path:
    return queue.home() / "jobs" / job_id / name


def test_a_job_runs_and_leaves_its_result():
    job = ask("done")
    first = queue.status(job)
    assert first.state in ("queued", "running") and first.request == {**REQUEST, "params": {"act": "done"}}
    ended = wait(job)
    assert (ended.state, ended.run_id, ended.phase, ended.done, ended.total, ended.rate, ended.eta_s) == ("done", "abc", "train", 4, 4, 2, 0)
    assert ended.started and ended.updated and ended.started <= ended.updated
    assert queue.result(job) == {"run_id": "abc", "metrics": {"test_accuracy": 0.5}}
    assert queue.curve(job) == [{"epoch": k, "name": "loss", "value": 1 / (k + 1) if k else None} for k in range(4)]
    assert queue.log_tail(job) == f"working in {Path(queue.__file__).parents[1]}"


def test_progress_says_how_long_it_still_takes():
    job = ask("sleep")
    waiting = wait(job, lambda status: status.phase == "wait")
    assert (waiting.state, waiting.done, waiting.total, waiting.rate, waiting.eta_s) == ("running", 0, 0, None, None)
    queue.update(job, total=30, done=10, rate=4.0)
    assert queue.status(job).eta_s == 5.0
    queue.update(job, done=28)
    assert queue.status(job).eta_s == 0.5 and queue.status(job).phase == "wait"


def test_a_failure_is_told():
    ended = wait(ask("fail"))
    assert (ended.state, ended.message) == ("failed", "boom") and queue.result(ended.job_id) is None


def test_a_killed_process_is_a_lost_job_and_can_be_asked_for_again():
    job = ask("crash")
    ended = wait(job)
    assert ended.state == "lost" and "log.txt" in ended.message and "working in" in queue.log_tail(job)
    assert queue.cancel(job).state == "lost"
    again = queue.retry(job)
    assert again != job and queue.status(again).request == ended.request
    assert [status.job_id for status in queue.jobs()] == [again, job] and len(queue.jobs(limit=1)) == 1


def test_another_process_with_the_same_number_is_not_the_job():
    job = ask("sleep")
    wait(job, lambda status: status.phase == "wait")
    state = json.loads(job_file(job, "status.json").read_text())
    job_file(job, "status.json").write_text(json.dumps({**state, "pid": os.getpid()}))
    assert queue.status(job).state == "lost"
    assert queue.cancel(job).state == "lost"  # and this process lives on
    job_file(job, "status.json").write_text(json.dumps(state))


@pytest.mark.parametrize("act", ["sleep", "stubborn"])
def test_cancel_ends_the_whole_session(act, monkeypatch):
    monkeypatch.setattr(queue, "_GRACE_S", 0.5)
    job = ask(act)
    other = int(wait(job, lambda status: bool(status.message)).message)
    pid = json.loads(job_file(job, "status.json").read_text())["pid"]
    assert running(pid) and running(other)
    assert queue.cancel(job).state == "cancelled"
    stop = time.monotonic() + 5
    while running(pid) or running(other):
        assert time.monotonic() < stop
    assert queue.cancel(job).state == queue.status(job).state == "cancelled"


def test_after_a_cancel_the_job_can_say_nothing_more():
    job = ask("sleep")
    queue.cancel(job)
    with pytest.raises(RunError, match="was cancelled"):
        queue.update(job, done=1)
    queue.finish(job, {"run_id": "late"})
    queue.fail(job, "late")
    assert queue.status(job).state == "cancelled" and queue.result(job) is None and not job_file(job, "result.json").exists()


def test_a_finished_job_cannot_be_cancelled():
    job = ask("done")
    wait(job)
    assert queue.cancel(job).state == "done" and queue.result(job)


def test_cancelled_from_many_sides_at_once():
    job = ask("sleep")
    found: list[str] = []
    threads = [threading.Thread(target=lambda: found.append(queue.cancel(job).state)) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == ["cancelled"] * 6


def test_cancel_and_finish_at_once_agree_on_one_end():
    for delay in (0.2, 0.3, 0.4, 0.5):
        job = ask("done")
        time.sleep(delay)
        state = queue.cancel(job).state
        assert state in ("cancelled", "done") and (queue.result(job) is not None) == (state == "done")
        time.sleep(0.05)
        assert queue.status(job).state == state


def test_a_cancel_that_was_cut_short_is_completed_by_the_next():
    job = ask("mute")
    state = json.loads(job_file(job, "status.json").read_text())
    job_file(job, "status.json").write_text(json.dumps({**state, "state": "cancelled"}))  # said, and killed before it killed
    assert running(state["pid"])
    queue.cancel(job)
    assert not running(state["pid"])


def test_a_job_outlives_the_process_that_asked():
    code = ("import os, signal, sys; from engine import queue; queue._COMMAND = [sys.executable, '-c', sys.argv[1]]; "
            f"print(queue.submit({ {**REQUEST, 'params': {'act': 'slow'}} !r}), flush=True); os.kill(0, signal.SIGKILL)")
    asked = subprocess.run([sys.executable, "-c", code, ENGINE], capture_output=True, text=True, start_new_session=True, check=False)
    assert asked.returncode == -signal.SIGKILL
    assert wait(asked.stdout.strip()).state == "done"


def test_killed_between_writing_and_starting_a_job(monkeypatch):
    def killed(*_: object, **__: object) -> None:
        raise KeyboardInterrupt
    with monkeypatch.context() as patch:
        patch.setattr(subprocess, "Popen", killed)
        with pytest.raises(KeyboardInterrupt):
            ask("done")
    [job] = queue.jobs()
    assert job.state == "queued"
    monkeypatch.setattr(queue, "_START_S", 0.0)
    assert queue.status(job.job_id).state == "lost"
    monkeypatch.undo()
    assert not job_file(job.job_id, "result.json").exists()


def test_a_job_whose_asker_was_killed_before_noting_it_notes_itself(monkeypatch):
    job = ask("mute")
    state = json.loads(job_file(job, "status.json").read_text())
    job_file(job, "status.json").write_text(json.dumps({"state": "queued", "updated": 0.0}))
    assert queue.status(job).state == "lost"
    queue.update(job, phase="train")  # as the job's process would
    noted = json.loads(job_file(job, "status.json").read_text())
    assert noted["pid"] == os.getpid() and queue.status(job).state == "running"
    job_file(job, "status.json").write_text(json.dumps(state))


@pytest.mark.parametrize("damage", ["", "[]", "{}", '{"state": "runn'])
def test_a_damaged_status_hides_no_other_job(damage):
    good, bad = ask("done"), ask("done")
    wait(good)
    wait(bad)
    job_file(bad, "status.json").write_text(damage)
    assert {status.job_id: status.state for status in queue.jobs()} == {good: "done", bad: "lost"}
    assert "missing or damaged" in queue.status(bad).message
    assert queue.status(queue.retry(bad)).state in ("queued", "running")


@pytest.mark.parametrize("job_id", ["", "nope", "../jobs", "20260101-000000000000-abcdef"])
def test_an_unknown_job_is_bad_input(job_id):
    for call in (queue.status, queue.cancel, queue.retry, queue.result, queue.curve, queue.log_tail, queue.update):
        with pytest.raises(BadInput, match="no job "):
            call(job_id)


def test_a_malformed_request_is_told_whole_and_starts_nothing():
    with pytest.raises(BadInput) as told:
        queue.submit({**REQUEST, "seed": True, "method": None, "colour": "red"})
    assert len(told.value.faults) == 3 and queue.jobs() == []
    with pytest.raises(BadInput, match="kind: got 'study', must be 'rerun'"):
        queue.submit({**REQUEST, "kind": "study"})


def test_only_an_ended_job_can_be_retried():
    job = ask("sleep")
    with pytest.raises(BadInput, match=r"is still (queued|running): cancel it first"):
        queue.retry(job)


def test_a_full_disk_starts_nothing_and_says_so(monkeypatch):
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")
    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", full)
        with pytest.raises(RunError, match="No space left on device. Nothing was started"):
            ask("done")
    assert os.listdir(queue.home() / "jobs") == []
    job = ask("sleep")
    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", full)
        for call in (lambda: queue.update(job, done=1), lambda: queue.finish(job, {}), lambda: queue.fail(job, "x"), lambda: queue.cancel(job)):
            with pytest.raises(RunError, match="No space left"):
                call()
    assert queue.status(job).state in ("queued", "running") and queue.result(job) is None


def test_an_engine_that_cannot_be_started_is_a_failed_job(monkeypatch):
    monkeypatch.setattr(queue, "_COMMAND", ["/nowhere/python"])
    with pytest.raises(RunError, match="could not be started: No such file"):
        ask("done")
    assert [status.state for status in queue.jobs()] == ["failed"]
    with pytest.raises(RunError, match="could not be started"):
        queue.estimate(REQUEST)


def test_estimate_asks_the_engine_with_every_parameter():
    plan = queue.estimate({**REQUEST, "params": {"lr": 1e-3, "freeze": True, "kind": "slow one", "act": "fine"}})
    assert plan["seconds"] == 1.5 and plan["home"] == str(queue.home())
    assert plan["argv"] == ["rerun", "ft", "--dataset", "digits", "--model", "cnn", "--seed", "3", "--variant", "corrected", "--plan", "--json",
                            "--set", "lr=0.001", "--set", "freeze=true", "--set", "kind=slow one", "--set", "act=fine"]


@pytest.mark.parametrize(("act", "error", "told"), [
    ("faults", BadInput, "no model 'x'"), ("refuse", BadInput, "ft.lr: got 7, must be smaller"),
    ("crash", RunError, "could not plan this: a log line"), ("babble", RunError, "not JSON"), ("sleep", RunError, "within 2 s")])
def test_estimate_passes_faults_on(act, error, told):
    with pytest.raises(error, match=told):
        queue.estimate({**REQUEST, "params": {"act": act}}, timeout_s=2 if act == "sleep" else 60)


@pytest.mark.parametrize("platform", ["linux", "darwin"])
def test_a_process_is_known_by_its_start_until_it_ends(monkeypatch, platform):
    if shutil.which("ps") is None if platform == "darwin" else sys.platform != "linux":
        pytest.skip(f"no way here to ask as on {platform}")
    monkeypatch.setattr(queue, "sys", SimpleNamespace(platform=platform))
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        born = queue._born(child.pid)
        assert born and born == queue._born(child.pid) and queue._born(os.getpid()) not in (None, "")
        assert child.stdin
        child.stdin.write(b"\n")
        child.stdin.flush()
        stop = time.monotonic() + 20
        while queue._born(child.pid) is not None:  # ended, though nobody has waited for it yet
            assert time.monotonic() < stop
            time.sleep(0.02)
    assert queue._born(child.pid) is None


def test_home_is_where_the_environment_says(monkeypatch, tmp_path):
    assert queue.home() == tmp_path / "home"
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LETHE_HOME", "near")
    assert queue.home() == tmp_path / "near"
    monkeypatch.delenv("LETHE_HOME")
    assert queue.home() == Path(queue.__file__).parents[1] / "data" / "local"


def test_the_queue_needs_the_standard_library_alone():
    code = "import sys, engine.queue; print({'torch', 'duckdb', 'pandas', 'numpy', 'streamlit'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "set()"


def test_jobs_are_found_by_what_is_asked_and_older_ones_not_read(monkeypatch):
    first, second = ask("done"), ask("fail")
    wait(first)
    wait(second)
    assert [status.job_id for status in queue.jobs(wanted=lambda status: status.state == "failed")] == [second]
    read = queue._status
    seen: list[str] = []
    monkeypatch.setattr(queue, "_status", lambda folder: (seen.append(folder.name), read(folder))[1])
    assert [status.job_id for status in queue.jobs(1, lambda status: status.state == "failed")] == [second] and seen == [second]


def test_a_sweep_is_a_request_and_its_points_say_of_which_value():
    plan = queue.estimate({**REQUEST, "sweep": "lr=0.01:1:3", "device": "cpu", "study": "mine", "params": {}})
    assert plan["argv"][-6:] == ["--study", "mine", "--sweep", "lr=0.01:1:3", "--device", "cpu"]
    with pytest.raises(BadInput, match="sweep: got 3, must be str"):
        queue.submit({**REQUEST, "sweep": 3})
    job = ask("sleep")
    wait(job, lambda status: status.phase == "wait")
    queue.log_point(job, 0, "loss", 1.5, 0.01)
    assert queue.curve(job) == [{"epoch": 0, "name": "loss", "value": 1.5, "of": 0.01}]
