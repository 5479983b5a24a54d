"""Ask for a job, watch it, cancel it, ask again: plain files and processes, nothing else.

    <home>/jobs/<job_id>/request.json   what was asked for
    <home>/jobs/<job_id>/status.json    where it stands; replaced as a whole, and only under the flock on `lock`
    <home>/jobs/<job_id>/curve.jsonl    one point of the progress curve a line
    <home>/jobs/<job_id>/log.txt        what the process printed
    <home>/jobs/<job_id>/result.json    what `rerun --json` prints, once it is done

A job is a process of its own session, so it outlives whoever asked. Who ends it first (the job itself, or a cancel) is settled
under the lock: later words change nothing. Needs only the standard library, so pages may import it.
"""

import fcntl
import json
import math
import os
import re
import secrets
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Any

from engine.errors import BadInput, RunError

Json = dict[str, Any]
ENDED = ("done", "failed", "cancelled", "lost")

_ROOT = Path(__file__).resolve().parents[1]
_COMMAND = [sys.executable, "-m", "engine"]
_JOB_ID = re.compile(r"\d{8}-\d{12}-[0-9a-f]{6}")
_START_S = 30.0  # from the folder to the process it takes milliseconds; longer means that whoever asked was killed between
_GRACE_S = 3.0  # for a cancelled process to go by itself
_REQUEST = {"kind": str, "method": str, "variant": str, "dataset": str, "model": str, "seed": int, "params": dict}
_MORE = ("study", "sweep", "device")  # texts that a request may have
_children: list[subprocess.Popen[bytes]] = []  # started here: to be waited for when they end


@dataclass(frozen=True)
class Status:
    """Where a job stands. Times are seconds since 1970, UTC."""

    job_id: str
    state: str  # queued | running | done | failed | cancelled | lost
    phase: str = ""  # what it is doing, in words
    done: float = 0.0  # of this phase, in the unit of `total`
    total: float = 0.0  # 0: not known
    unit: str = ""  # of `done` and `total`, in words
    rate: float | None = None  # units a second
    eta_s: float | None = None  # of this phase
    message: str = ""  # why it failed, or a note
    run_id: str | None = None  # of the run that it makes
    started: float | None = None
    updated: float | None = None
    request: Json = field(default_factory=dict)

    @property
    def ended(self) -> bool:
        return self.state in ENDED


def home() -> Path:
    """Where results of own runs, jobs and logs go: $LETHE_HOME, else `data/local` in the checkout."""
    given = os.environ.get("LETHE_HOME")
    return Path(given).expanduser().resolve() if given else _ROOT / "data" / "local"


def submit(request: Mapping[str, Any]) -> str:
    """Start a job and return its id. `request`: kind 'rerun', method, variant, dataset, model, seed and params (by name); where it matters
    also study (a name), sweep (as `rerun --sweep` takes it) and device.

    Raises: BadInput on a malformed request; RunError where the job cannot be written or started.
    """
    if faults := _faults(request):
        raise BadInput(*faults)
    now = datetime.now(UTC)
    job_id = f"{now:%Y%m%d-%H%M%S%f}-{secrets.token_hex(3)}"
    folder = home() / "jobs" / job_id
    scratch = folder.with_name(f".tmp-{job_id}")
    try:
        scratch.mkdir(parents=True)
        _replace(scratch / "request.json", dict(request))
        _replace(scratch / "status.json", {"state": "queued", "updated": now.timestamp()})
        scratch.rename(folder)
    except OSError as error:
        shutil.rmtree(scratch, ignore_errors=True)
        raise RunError(f"could not write the job to {folder.parent}: {error.strerror or error}. Nothing was started.") from error
    _reap()
    with _locked(folder) as state:  # until the process is noted, so that no cancel comes between
        if state["state"] != "queued":
            return job_id  # cancelled before it began
        try:
            with (folder / "log.txt").open("ab") as log:
                child = subprocess.Popen([*_COMMAND, "job", job_id], cwd=_ROOT, env={**os.environ, "LETHE_HOME": str(home())},
                                         stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
        except OSError as error:
            state.update(state="failed", message=f"could not be started: {error.strerror or error}")
            raise RunError(f"job {job_id} could not be started: {error.strerror or error}") from error
        _children.append(child)
        state.update(pid=child.pid, born=_born(child.pid))
    return job_id


def status(job_id: str) -> Status:
    """Where it stands now. A job whose process went without a last word is `lost`. Raises: BadInput for an unknown id."""
    return _status(_folder(job_id))


def jobs(limit: int | None = None, wanted: Callable[[Status], bool] = lambda _: True) -> list[Status]:
    """All jobs that are wanted, or the `limit` newest of them, newest first; older ones are not even read."""
    folder = home() / "jobs"
    names = sorted((name for name in os.listdir(folder) if _JOB_ID.fullmatch(name)), reverse=True) if folder.is_dir() else []
    return list(islice(filter(wanted, (_status(folder / name) for name in names)), limit))


def cancel(job_id: str) -> Status:
    """End a job and every process of its session; one that has ended stays as it is. Returns once they are gone.

    Raises: BadInput for an unknown id; RunError where its state cannot be written.
    """
    folder = _folder(job_id)
    _reap()
    with _locked(folder) as state:
        if state["state"] not in ENDED and not _is_lost(state):
            state.update(state="cancelled", message="cancelled on request", updated=time.time())
    if state["state"] == "cancelled" and _alive(state):  # also where an earlier cancel was cut short before it killed
        _kill(state)
    return _status(folder)


def retry(job_id: str) -> str:
    """Ask for the same again; returns the new job's id. Raises: BadInput while it still runs, or for an unknown id."""
    before = status(job_id)
    if not before.ended:
        raise BadInput(f"job {job_id} is still {before.state}: cancel it first, or wait for it")
    return submit(before.request)


def result(job_id: str) -> Json | None:
    """What the job found, as `rerun --json` prints it; None unless it is done. Raises: BadInput for an unknown id."""
    folder = _folder(job_id)
    return _load(folder / "result.json") if _status(folder).state == "done" else None


def curve(job_id: str) -> list[Json]:
    """Points {"epoch": int, "name": str, "value": float | None} in the order they were logged; of a sweep also "of", the parameter's value.

    Raises: BadInput.
    """
    points = []
    for line in _read(_folder(job_id) / "curve.jsonl").splitlines():
        with suppress(ValueError):  # the last line may be half-written as we look
            points.append(json.loads(line))
    return points


def log_tail(job_id: str, lines: int = 40) -> str:
    """The last lines of what its process printed. Raises: BadInput for an unknown id."""
    return "\n".join(_read(_folder(job_id) / "log.txt").splitlines()[-lines:])


def estimate(request: Mapping[str, Any], timeout_s: float | int = 60) -> Json:
    """How long the request would take and what must be trained first, as `rerun … --plan --json` tells it.

    {"seconds": float, "needs": [{"what": str, "seconds": float, "stored": bool}], "u_lira": bool, "u_lira_reason": str, …}
    Raises: BadInput with all faults of the request; RunError when the engine does not answer.
    """
    if faults := _faults(request):
        raise BadInput(*faults)
    command = [*_COMMAND, "rerun", request["method"], "--dataset", request["dataset"], "--model", request["model"],
               "--seed", str(request["seed"]), "--variant", request["variant"], "--plan", "--json"]
    for name in _MORE:
        command += [f"--{name}", request[name]] if request.get(name) else []
    for name, value in request["params"].items():
        command += ["--set", f"{name}={value if isinstance(value, str) else json.dumps(value)}"]
    try:
        ran = subprocess.run(command, cwd=_ROOT, env={**os.environ, "LETHE_HOME": str(home())}, stdin=subprocess.DEVNULL,
                             capture_output=True, text=True, timeout=timeout_s, start_new_session=True, check=False)
    except subprocess.TimeoutExpired as error:
        raise RunError(f"the engine did not say within {timeout_s:.0f} s how long this takes; the machine may be busy") from error
    except OSError as error:
        raise RunError(f"the engine could not be started: {error.strerror or error}") from error
    said = ran.stderr.strip().splitlines()
    try:
        plan = json.loads(ran.stdout or "{}")
    except ValueError as error:
        raise RunError("the engine's answer is not JSON: " + ran.stdout[:200]) from error
    if plan.get("faults"):
        raise BadInput(*plan["faults"])
    if ran.returncode == BadInput.exit_code:
        raise BadInput(*(said or ["the engine refused the request without a reason"]))
    if ran.returncode != 0 or "seconds" not in plan:
        raise RunError("the engine could not plan this: " + (said[-1] if said else f"exit code {ran.returncode}"))
    return plan


def update(job_id: str, *, phase: str | None = None, done: float | int | None = None, total: float | int | None = None,
           rate: float | int | None = None, eta_s: float | int | None = None, unit: str | None = None,
           message: str | None = None, run_id: str | None = None) -> None:
    """Said by the job's own process: where it stands. None leaves a value; a new phase starts from nothing done, no rate.

    Raises: RunError when the job was cancelled meanwhile, so that it stops by itself too, or the disk is full.
    """
    folder = _folder(job_id)
    with _locked(folder) as state:
        if state["state"] == "cancelled":
            raise RunError(f"job {job_id} was cancelled")
        if state["state"] in ENDED:
            return
        if phase is not None and phase != state.get("phase"):
            state.update(done=0.0, total=0.0, rate=None, eta_s=None)
        numbers = {"done": done, "total": total, "rate": rate, "eta_s": eta_s}
        state.update({name: float(value) for name, value in numbers.items() if value is not None})
        words = {"phase": phase, "unit": unit, "message": message, "run_id": run_id}
        state.update({name: value for name, value in words.items() if value is not None})
        if eta_s is None and state.get("rate"):
            state["eta_s"] = max(0.0, state.get("total", 0.0) - state.get("done", 0.0)) / state["rate"]
        state.update(state="running", updated=time.time(), started=state.get("started") or time.time())
        if "pid" not in state:  # whoever asked was killed before they could note it
            state.update(pid=os.getpid(), born=_born(os.getpid()))


def log_point(job_id: str, epoch: int, name: str, value: float | int, of: float | int | str | None = None) -> None:
    """Said by the job's own process: one point of a progress curve; a value that is not finite becomes null. of: which of several models.

    Raises: RunError when the disk is full.
    """
    point = {"epoch": epoch, "name": name, "value": value if math.isfinite(value) else None} | ({} if of is None else {"of": of})
    try:
        with (_folder(job_id) / "curve.jsonl").open("a", encoding="utf-8") as curve_file:
            curve_file.write(json.dumps(point) + "\n")
    except OSError as error:
        raise RunError(f"job {job_id}: could not write its progress: {error.strerror or error}") from error


def finish(job_id: str, result: Mapping[str, Any]) -> None:
    """Said by the job's own process: it is done, with this result (JSON-ready). Nothing happens where it was cancelled before.

    Raises: RunError when the disk is full.
    """
    folder = _folder(job_id)
    with _locked(folder) as state:
        if state["state"] not in ENDED:
            _replace(folder / "result.json", dict(result))
            state.update(state="done", eta_s=0.0, run_id=result.get("run_id", state.get("run_id")), updated=time.time())


def fail(job_id: str, message: str) -> None:
    """Said by the job's own process: it failed, and why. Nothing happens where it was cancelled before.

    Raises: RunError when the disk is full.
    """
    with _locked(_folder(job_id)) as state:
        if state["state"] not in ENDED:
            state.update(state="failed", message=message, updated=time.time())


def _faults(request: Mapping[str, Any]) -> list[str]:
    found = [f"{name}: got {request.get(name)!r}, must be {kind.__name__}" for name, kind in _REQUEST.items()
             if not isinstance(request.get(name), kind) or isinstance(request.get(name), bool)]
    found += [f"{name}: a job has no such field" for name in request if name not in (*_REQUEST, *_MORE)]
    found += [f"{name}: got {request[name]!r}, must be str" for name in _MORE if not isinstance(request.get(name, ""), str)]
    if not found and request["kind"] != "rerun":
        found.append(f"kind: got {request['kind']!r}, must be 'rerun'")
    return found


def _folder(job_id: str) -> Path:
    folder = home() / "jobs" / job_id
    if not _JOB_ID.fullmatch(job_id) or not folder.is_dir():
        raise BadInput(f"no job {job_id!r} under {home() / 'jobs'}")
    return folder


@contextmanager
def _locked(folder: Path) -> Generator[Json, None, None]:
    """The job's state, nobody else's until the block ends; written if the block changed it, however it ends. Raises: RunError."""
    try:
        with (folder / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            state = _state(folder)
            before = dict(state)
            try:
                yield state
            finally:
                if state != before:
                    _replace(folder / "status.json", state)
                fcntl.flock(lock, fcntl.LOCK_UN)  # a child between fork and exec may hold a copy
    except OSError as error:
        raise RunError(f"could not write the state of the job in {folder}: {error.strerror or error}") from error


def _status(folder: Path) -> Status:
    _reap()
    state = _state(folder)
    if state["state"] not in ENDED and _is_lost(state):
        state = _state(folder)  # it may have said its last word between our two looks
        if state["state"] not in ENDED:
            state.update(state="lost", message=f"its process ended without a last word; see {folder / 'log.txt'}")
    known = {name: state[name] for name in Status.__dataclass_fields__ if name in state}
    return Status(**known, job_id=folder.name, request=_load(folder / "request.json") or {})


def _state(folder: Path) -> Json:
    state = _load(folder / "status.json") or {}
    return state if "state" in state else {"state": "lost", "message": f"{folder / 'status.json'} is missing or damaged"}


def _is_lost(state: Json) -> bool:
    if "pid" not in state:
        return time.time() - state.get("updated", 0.0) > _START_S
    return not _alive(state)


def _alive(state: Json) -> bool:
    """Whether the very process that was started is there, not another one that was given its number later."""
    return "pid" in state and state.get("born") is not None and _born(state["pid"]) == state["born"]


def _born(pid: int) -> str | None:
    """When process `pid` started, as the system tells it; None when it is not there or has ended and was not yet waited for."""
    if sys.platform == "linux":
        fields = _read(Path(f"/proc/{pid}/stat")).rpartition(")")[2].split()  # the name before may hold blanks and brackets
        life, born = (fields[0], fields[19]) if fields else ("Z", "")
    else:
        told = subprocess.run(["ps", "-o", "stat=", "-o", "lstart=", "-p", str(pid)], capture_output=True, text=True, check=False,
                              env={**os.environ, "LC_ALL": "C", "TZ": "UTC"}).stdout  # the same words, whoever asks and when
        life, _, born = told.strip().partition(" ")
    return born.strip() if born and life[0] not in "ZX" else None


def _kill(state: Json) -> None:
    """End the session of a job whose first process is alive: politely, then not."""
    with suppress(ProcessLookupError, PermissionError):  # gone meanwhile; macOS says "not permitted" of one that has ended
        os.killpg(state["pid"], signal.SIGTERM)
        until = time.monotonic() + _GRACE_S
        while _alive(state) and time.monotonic() < until:
            time.sleep(0.02)
            _reap()
        os.killpg(state["pid"], signal.SIGKILL)  # the others of its session too


def _reap() -> None:
    _children[:] = [child for child in _children if child.poll() is None]


def _load(path: Path) -> Json | None:
    """The JSON object in `path`; None when it is missing or damaged."""
    try:
        found = json.loads(_read(path))
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


def _read(path: Path) -> str:
    """The text in `path`, empty when it is not there."""
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return ""


def _replace(path: Path, content: Json) -> None:
    """Write JSON so that a reader sees the old text or the new one. Raises: OSError."""
    scratch = path.with_name(f".tmp-{path.name}")
    scratch.write_text(json.dumps(content), encoding="utf-8")
    os.replace(scratch, path)
