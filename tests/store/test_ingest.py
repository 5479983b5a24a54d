"""The live file holds exactly what the record folders hold, whatever was killed, full or damaged on the way."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from datetime import datetime
from pathlib import Path

import duckdb
import numpy as np
import pytest

from engine import cli
from engine.errors import BadInput, RunError, StoreError
from engine.store import ingest, reader, records, schema


def stored(home: Path, query: str = "SELECT run_id FROM runs ORDER BY ALL", shipped: Path | None = None) -> list[tuple]:
    with reader.open_results(shipped, home) as db:
        return db.execute(query).fetchall()


def run_ids(home: Path) -> str:
    return "".join(run_id for (run_id,) in stored(home))


def current(home: Path) -> Path:
    live = reader.live_file(home)
    assert live is not None
    return live


def live_files(home: Path) -> list[str]:
    return sorted(name for name in os.listdir(home / "store") if name not in ("CURRENT", "ingest.lock"))


def test_rows_arrive_exactly(home, record):
    records.write(home, record("a", value=1 / 3, wall_s=2, error="line\none \u00e9 \0 '"))
    records.write(home, record("b", started="2026-11-21T12:00:00+02:00", clean=None))
    done = ingest.ingest(home)
    assert (done.taken, done.known, done.refused) == (["a", "b"], [], [])
    assert stored(home, "SELECT name, value, lo FROM metrics WHERE run_id = 'a' ORDER BY ALL") == [
        (f"metric_{k}", 1 / 3 + k, None) for k in range(3)]
    assert stored(home, "SELECT seed, wall_s, clean, started, error, params, device FROM runs ORDER BY run_id") == [
        (3, 2.0, True, datetime(2026, 11, 21, 10, 20, 30, 250000), "line\none \u00e9 \0 '", "{}", None),
        (3, 2.0, None, datetime(2026, 11, 21, 10, 0), None, "{}", None)]


def test_only_what_is_new_is_taken_and_nothing_new_makes_no_file(home, record):
    assert ingest.ingest(home) == ingest.Ingested() and live_files(home) == []
    records.write(home, record("a"))
    ingest.ingest(home)
    records.write(home, record("b"))
    assert ingest.ingest(home) == ingest.Ingested(taken=["b"], known=["a"])
    before = reader.stamp(None, home)
    assert ingest.ingest(home) == ingest.Ingested(known=["a", "b"])
    assert reader.stamp(None, home) == before and run_ids(home) == "ab"
    assert (home / "runs" / "a" / "record.json").exists()  # the folders stay


def test_failed_attempts_are_taken_too(home, record):
    records.write(home, record("a.failed-1", status="failed", error="boom"))
    records.write(home, record("a"))
    ingest.ingest(home)
    assert stored(home, "SELECT run_id, status, error FROM runs ORDER BY ALL") == [("a", "done", None), ("a.failed-1", "failed", "boom")]


def test_a_damaged_folder_is_told_and_stops_no_other(home, record, monkeypatch):
    for run_id in "abcdef":
        records.write(home, record(run_id))
    monkeypatch.setattr(schema, "VERSION", schema.VERSION + 1)
    records.write(home, record("newer"))
    monkeypatch.undo()
    (home / "runs" / "b" / "record.json").write_text('{"schema": 1, ')
    (home / "runs" / "c" / "record.json").unlink()
    (home / "runs" / "d").rename(home / "runs" / "other")
    content = json.loads((home / "runs" / "e" / "record.json").read_text())
    content["tables"]["metrics"][1]["value"] = "high"
    (home / "runs" / "e" / "record.json").write_text(json.dumps(content))
    (home / "runs" / "stray.txt").write_text("")
    (home / "runs" / ".tmp-half").mkdir()
    done = ingest.ingest(home)
    assert done.taken == ["a", "f"] and run_ids(home) == "af"
    why = {folder.name: reason for folder, reason in done.refused}
    expected = {"b": "not a readable record", "c": "No such file", "other": "give the folder its name back", "e": "cannot hold 'high'",
                "newer": "update Lethe", "stray.txt": "not a readable record"}
    assert why.keys() == expected.keys() and all(text in why[name] for name, text in expected.items())
    records.write(home, record("b"))  # made again
    assert ingest.ingest(home).taken == ["b"]


def test_thousands_of_folders_take_seconds(home, record):
    for k in range(2500):  # more than one chunk
        made = record(f"run{k}")
        folder = home / "runs" / made.run_id
        folder.mkdir(parents=True)
        (folder / "record.json").write_text(json.dumps({"schema": schema.VERSION, "run_id": made.run_id, "files": {}, "tables": made.tables}))
    began = time.monotonic()
    assert len(ingest.ingest(home).taken) == 2500
    assert time.monotonic() - began < 30  # on a busy machine; row by row it is minutes
    assert stored(home, "SELECT count(*), count(DISTINCT run_id) FROM metrics") == [(7500, 2500)]


def test_four_live_files_are_kept_and_open_readers_go_on(home, record):
    records.write(home, record("a"))
    ingest.ingest(home)
    with reader.open_results(None, home) as db:
        for run_id in "bcdef":
            records.write(home, record(run_id))
            ingest.ingest(home)
        assert db.execute("SELECT run_id FROM runs").fetchall() == [("a",)]
    assert live_files(home) == [f"live-{n}.duckdb" for n in (3, 4, 5, 6)] and run_ids(home) == "abcdef"


@pytest.mark.parametrize("harm", ["text", "flipped", "gone", "pointer", "no pointer"])
def test_a_damaged_live_file_is_built_anew(home, record, harm):
    for run_id in "ab":
        records.write(home, record(run_id))
    ingest.ingest(home)
    live = home / "store" / "live-1.duckdb"
    if harm == "text":
        live.write_text("no database")
    elif harm == "flipped":
        content = bytearray(live.read_bytes())
        for at in range(3 * 4096 + 20, len(content), 512):
            content[at] ^= 0xFF
        live.write_bytes(content)
    elif harm == "gone":
        live.unlink()
    elif harm == "pointer":
        (home / "store" / "CURRENT").write_text("?")
    else:
        (home / "store" / "CURRENT").unlink()
    assert ingest.ingest(home).taken == ["a", "b"] and run_ids(home) == "ab"


def test_a_damaged_live_file_without_any_folder_becomes_an_empty_one(home, record):
    records.write(home, record("a"))
    ingest.ingest(home)
    current(home).write_text("no database")
    shutil.rmtree(home / "runs")
    ingest.ingest(home)
    assert run_ids(home) == ""


def test_a_live_file_that_breaks_only_when_written_to_is_built_anew(home, record):
    records.write(home, record("a"))
    ingest.ingest(home)
    with duckdb.connect(str(current(home))) as db:
        db.execute("DROP TABLE metrics")  # reads as an older file would
    records.write(home, record("b"))
    assert ingest.ingest(home).taken == ["a", "b"]
    assert stored(home, "SELECT count(*) FROM metrics") == [(6,)]


def test_rebuild_follows_the_folders(home, record):
    for run_id in "ab":
        records.write(home, record(run_id))
    ingest.ingest(home)
    shutil.rmtree(home / "runs" / "a")
    assert ingest.rebuild(home).taken == ["b"] and run_ids(home) == "b"


def test_rebuild_from_the_command_line_and_not_beside_a_folder(home, record, monkeypatch, capsys):
    monkeypatch.setenv("LETHE_HOME", str(home))
    for run_id in "ab":
        records.write(home, record(run_id))
    assert cli.main(["ingest"]) == 0
    shutil.rmtree(home / "runs" / "a")
    assert cli.main(["ingest", "--rebuild"]) == 0 and run_ids(home) == "b"
    assert cli.main(["ingest", str(home), "--rebuild"]) != 0 and "take" in capsys.readouterr().err


def test_a_newer_live_file_is_left_alone(home, record):
    records.write(home, record("a"))
    ingest.ingest(home)
    with duckdb.connect(str(current(home))) as db:
        db.execute("UPDATE meta SET value = '99'")
    records.write(home, record("b"))
    before = current(home).read_bytes()
    with pytest.raises(StoreError, match="newer version"):
        ingest.ingest(home)
    assert live_files(home) == ["live-1.duckdb"] and current(home).read_bytes() == before


def test_an_older_live_file_is_brought_up_to_date_in_its_copy(home, record, monkeypatch):
    records.write(home, record("a"))
    ingest.ingest(home)
    monkeypatch.setattr(schema, "VERSION", schema.VERSION + 1)
    monkeypatch.setitem(schema.TABLES, "runs", {**schema.TABLES["runs"], "mood": ("VARCHAR", "how it felt")})
    monkeypatch.setitem(schema.MIGRATIONS, schema.VERSION, ["ALTER TABLE runs ADD COLUMN mood VARCHAR", "UPDATE runs SET mood = 'old'"])
    assert ingest.ingest(home).known == ["a"]
    records.write(home, record("b", mood="new"))
    ingest.ingest(home)
    assert stored(home, "SELECT run_id, mood FROM runs ORDER BY ALL") == [("a", "old"), ("b", "new")]
    monkeypatch.undo()
    with duckdb.connect(str(home / "store" / "live-1.duckdb"), read_only=True) as db:
        assert "mood" not in reader.columns_of(db, "live-1")["runs"]


# --- folders from elsewhere

def deep_array(folder: Path) -> None:
    (folder / "deep").mkdir()
    np.save(folder / "deep" / "phi.npy", np.arange(9))


@pytest.fixture
def elsewhere(tmp_path, record) -> Path:
    """Another machine's home with runs `a` and `b`, the latter with arrays."""
    away = tmp_path / "away"
    records.write(away, record("a", value=1.0))
    records.write(away, record("b"), files=deep_array)
    return away


@pytest.mark.parametrize("given", ["home", "runs", "record"])
def test_records_from_elsewhere_are_copied_whole(home, elsewhere, given):
    done = ingest.ingest(home, {"home": elsewhere, "runs": elsewhere / "runs", "record": elsewhere / "runs" / "b"}[given])
    assert done.taken == (["b"] if given == "record" else ["a", "b"]) and not done.refused
    assert np.load(home / "runs" / "b" / "deep" / "phi.npy").tolist() == list(range(9))
    assert (home / "runs" / "b" / "record.json").read_bytes() == (elsewhere / "runs" / "b" / "record.json").read_bytes()
    again = ingest.ingest(home, elsewhere)
    assert "b" in again.known and again.taken == (["a"] if given == "record" else [])


def test_the_record_at_hand_stays(home, elsewhere, record):
    records.write(home, record("a", value=7.0))
    done = ingest.ingest(home, elsewhere)
    assert done.known == ["a"]  # known from elsewhere: here already, though not yet in the live file
    assert stored(home, "SELECT value FROM metrics WHERE run_id = 'a' AND name = 'metric_0'") == [(7.0,)]


def test_damaged_records_from_elsewhere_are_refused_with_the_reason(home, elsewhere, record, monkeypatch):
    monkeypatch.setattr(schema, "VERSION", schema.VERSION + 1)
    records.write(elsewhere, record("newer"))
    monkeypatch.undo()
    (elsewhere / "runs" / "b" / "deep" / "phi.npy").write_bytes(b"cut")
    (elsewhere / "runs" / "empty").mkdir()
    done = ingest.ingest(home, elsewhere)
    why = {folder.name: reason for folder, reason in done.refused}
    assert done.taken == ["a"] and os.listdir(home / "runs") == ["a"]
    assert "deep/phi.npy missing or not as long" in why["b"] and "update Lethe" in why["newer"] and "No such file" in why["empty"]


def test_a_folder_without_records_is_bad_input(home, tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("")
    for name, told in (("empty", "holds no record folders"), ("nowhere", "no such folder"), ("file", "no such folder")):
        with pytest.raises(BadInput, match=f"{name}: {told}"):
            ingest.ingest(home, tmp_path / name)


# --- pack

def test_pack_merges_live_over_shipped_into_a_file_that_older_clients_open(home, tmp_path, record):
    out = tmp_path / "new" / "results.duckdb"
    for run_id in "ab":
        records.write(home, record(run_id, value=1.0))
    ingest.ingest(home)
    assert ingest.pack(home, None, out)["metrics"] == 6
    later = tmp_path / "later"
    for run_id in "bc":
        records.write(later, record(run_id, value=2.0))
    ingest.ingest(later)
    with reader.open_results(out, home) as db:  # someone looks while it is replaced
        counts = ingest.pack(later, out, out)
        assert db.execute("SELECT count(*) FROM runs").fetchall() == [(2,)]
    assert counts["runs"] == counts["ingested"] == 3 and counts["roc"] == 0
    nobody = tmp_path / "nobody"
    query = "SELECT run_id, value FROM metrics WHERE name = 'metric_0' ORDER BY ALL"
    assert stored(nobody, query, out) == [("a", 1.0), ("b", 2.0), ("c", 2.0)]
    assert os.listdir(out.parent) == ["results.duckdb"]
    with duckdb.connect() as db:
        db.execute(f"ATTACH '{out}' AS packed (READ_ONLY)")
        assert "v1.5" in str(db.execute("SELECT tags FROM duckdb_databases() WHERE database_name = 'packed'").fetchall())


def test_what_ships_is_the_latest_declaration_of_each_study_and_its_runs(home, tmp_path, record):
    def declare(run_id: str, started: str, members: str) -> None:
        run = record(run_id, kind="study", started=started)
        rows = [{"run_id": run_id, "member": member, "role": "seeds", "method": "ft"} for member in members]
        study = {"run_id": run_id, "name": "tiny", "title": "", "content": ""}
        records.write(home, records.Record(run_id, run.tables | {"studies": [study], "members": rows}))

    for run_id in ("a", "b", "c", "a.failed-1", "rerun"):
        records.write(home, record(run_id))
    declare("old", "2026-01-01T00:00:00", "bc")
    declare("new", "2026-02-01T00:00:00", "ab")
    ingest.ingest(home)
    ingest.pack(home, None, tmp_path / "results.duckdb", declared=True)
    with reader.open_results(tmp_path / "results.duckdb", tmp_path / "nobody") as db:
        assert {run_id for (run_id,) in db.execute("SELECT run_id FROM runs").fetchall()} == {"new", "a", "b"}
        assert {run_id for (run_id,) in db.execute("SELECT run_id FROM metrics").fetchall()} == {"new", "a", "b"}


def test_pack_that_fails_leaves_the_old_file(home, tmp_path, record, monkeypatch):
    out = tmp_path / "results.duckdb"
    records.write(home, record("a"))
    ingest.ingest(home)
    ingest.pack(home, None, out)
    before = out.read_bytes()
    monkeypatch.setattr(os, "fsync", _full)
    with pytest.raises(RunError, match="could not write .*No space left"):
        ingest.pack(home, out, out)
    monkeypatch.undo()
    current(home).write_text("damaged")
    with pytest.raises(StoreError, match="python -m engine ingest"):
        ingest.pack(home, out, out)
    assert out.read_bytes() == before and not list(tmp_path.glob(".tmp-*"))


# --- full disks

def _full(*_: object, **__: object) -> None:
    raise OSError(28, "No space left on device")


@pytest.mark.parametrize(("target", "name"), [(os, "fsync"), (shutil, "copyfile"), (Path, "write_text"), (Path, "rename")])
def test_a_full_disk_loses_nothing(home, record, monkeypatch, target, name):
    records.write(home, record("a"))
    ingest.ingest(home)
    records.write(home, record("b"))
    with monkeypatch.context() as patch:
        patch.setattr(target, name, _full)
        with pytest.raises(RunError, match="No space left on device.*Every finished run is kept"):
            ingest.ingest(home)
    assert run_ids(home) == "a" and not list((home / "store").glob(".tmp-*"))
    ingest.ingest(home)
    assert run_ids(home) == "ab"


_LIMITED = """
import resource, sys
from pathlib import Path
from engine.errors import RunError
from engine.store import ingest
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), -1))
try:
    ingest.ingest(Path(sys.argv[1]))
except RunError as error:
    print(error)
"""


@pytest.mark.parametrize("limit", [10, 20_000, 300_000])
@pytest.mark.parametrize("fresh", [True, False])
def test_the_database_running_out_of_room_loses_nothing(home, record, fresh, limit):
    if not fresh:
        records.write(home, record("a"))
        ingest.ingest(home)
    records.write(home, record("b"))
    ran = subprocess.run([sys.executable, "-c", _LIMITED, str(home), str(limit)], capture_output=True, text=True, check=True)
    assert "could not write the results" in ran.stdout and "File too large" in ran.stdout and len(ran.stdout.splitlines()) == 1
    assert run_ids(home) == ("" if fresh else "a") and not list((home / "store").glob(".tmp-*"))
    ingest.ingest(home)
    assert run_ids(home) == ("b" if fresh else "ab")


# --- killed, and several at once

_STEPS = """
import shutil, sys
from pathlib import Path
from engine.store import ingest

home, away, moments = (Path(given) for given in sys.argv[1:])
CHANGES = {"os.rename", "os.remove", "os.mkdir", "os.rmdir", "shutil.copyfile"}
busy, count = False, 0

def before_each_change(event, args):
    global busy, count
    if busy or not (event in CHANGES or event == "open" and args[1] and set(args[1]) & set("wa+")):
        return
    busy = True
    shutil.copytree(home, moments / f"{count:03d}")
    busy, count = False, count + 1

sys.addaudithook(before_each_change)
ingest.ingest(home, away)
"""


def test_killed_before_any_step_the_old_state_or_the_new_one_is_there(tmp_path, record):
    """What a kill leaves is what lies on the disk then: so a copy is made before every change and each is looked at."""
    home, away, moments = tmp_path / "home", tmp_path / "away", tmp_path / "moments"
    records.write(home, record("a"))
    ingest.ingest(home)
    records.write(home, record("b"))
    records.write(away, record("c"), files=lambda f: np.save(f / "phi.npy", np.arange(3)))
    subprocess.run([sys.executable, "-c", _STEPS, str(home), str(away), str(moments)], check=True)
    found = []
    for moment in sorted(moments.iterdir()):
        found.append(run_ids(moment))
        ingest.ingest(moment, away)
        assert run_ids(moment) == "abc" and not list((moment / "store").glob(".tmp-*"))
        assert stored(moment, "SELECT count(*) FROM metrics") == [(9,)] and np.load(moment / "runs" / "c" / "phi.npy").tolist() == [0, 1, 2]
    assert set(found) == {"a", "abc"} and found == sorted(found) and len(found) > 8  # never anything between
    assert run_ids(home) == "abc"


_WORK = """
import sys
from pathlib import Path
from engine.store import ingest, records
home, name, count = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
for k in range(count):
    run_id = f"{name}{k}"
    metrics = [{"run_id": run_id, "name": f"m{i}", "value": i / 7} for i in range(20)]
    records.write(home, records.Record(run_id, {"runs": [{"run_id": run_id}], "metrics": metrics}))
    ingest.ingest(home)
    if k == 0:
        print("begun", flush=True)
"""


def worker(home: Path, name: str, count: int) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-c", _WORK, str(home), name, str(count)], stdout=subprocess.PIPE, text=True)


def test_killed_again_and_again_nothing_is_lost_or_torn(home):
    rng = np.random.default_rng(0)
    for attempt in range(5):
        with worker(home, f"try{attempt}-", 10_000) as running:
            assert running.stdout and running.stdout.readline() == "begun\n"
            time.sleep(rng.uniform(0, 0.2))
            running.send_signal(signal.SIGKILL)
        per_run = stored(home, "SELECT count(m.name) FROM runs LEFT JOIN metrics m USING (run_id) GROUP BY run_id")
        assert per_run and set(per_run) == {(20,)}
    ingest.ingest(home)
    assert [run_id for (run_id,) in stored(home)] == [folder.name for folder in records.folders(home)]


def test_two_ingesters_and_a_reader_at_once(home):
    workers = [worker(home, name, 8) for name in ("left", "right")]
    seen = 0
    while any(running.poll() is None for running in workers):
        found = stored(home, "SELECT count(*), count(DISTINCT run_id) FROM metrics")[0]
        assert found[0] == 20 * found[1] and found[1] >= seen  # whole runs, and never fewer than before
        seen = found[1]
    for running in workers:
        running.communicate()
        assert running.returncode == 0
    assert stored(home, "SELECT count(*) FROM runs") == [(16,)] == stored(home, "SELECT count(*) FROM ingested")


def test_scratch_of_the_dead_is_swept_after_a_day(home, record):
    records.write(home, record("a"))
    for name, age_s in ((".tmp-old", 90_000), (".tmp-young", 60)):
        (home / "runs" / name).mkdir()
        (home / "runs" / name / "phi.npy").write_bytes(b"")
        os.utime(home / "runs" / name, times=(time.time(), time.time() - age_s))
    ingest.ingest(home)
    assert sorted(os.listdir(home / "runs")) == [".tmp-young", "a"]
