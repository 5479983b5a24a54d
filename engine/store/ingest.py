"""Build the live results file from the record folders. The folders are the truth and stay; the file can always be made again.

One ingester at a time (a file lock) copies the current live file, adds what is new in one transaction, gives the copy the next
number and then moves the pointer `CURRENT` to it, each step by rename. Killed at any moment it leaves the old state or the
new one, and files that readers have open are never touched.
"""

import fcntl
import hashlib
import logging
import secrets
import shutil
import time
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd

from engine.errors import BadInput, RunError, StoreError
from engine.store import reader, records, schema

log = logging.getLogger(__name__)

_KEPT = 4  # live files, the current one included: a reader that has just read CURRENT still finds its file
_CHUNK = 2000  # records in memory at once
_DAY_S = 86400.0
_DTYPES: dict[str, Any] = {"VARCHAR": "string", "BIGINT": "Int64", "DOUBLE": "Float64", "BOOLEAN": "boolean",
                           "TIMESTAMP": "datetime64[us]"}  # each with a null of its own, so that none becomes a NaN


@dataclass
class Ingested:
    """What an ingest did: run_ids that are new in the live file, run_ids that were there, and (folder, reason) not taken."""

    taken: list[str] = field(default_factory=list[str])
    known: list[str] = field(default_factory=list[str])
    refused: list[tuple[Path, str]] = field(default_factory=list[tuple[Path, str]])


def ingest(home: Path, folder: Path | None = None) -> Ingested:
    """Bring the live file of `home` up to date with its record folders; failed attempts are records too.

    folder: first copy the records in it (whole folders, arrays too) into `home`; `known` then lists only its runs.
    A damaged live file is built anew. Raises: BadInput when `folder` holds no records; StoreError when the live file is from
    a newer version; RunError when the disk is full or not writable (what there was before stays as it was).
    """
    with _alone(home):
        if folder is None:
            return _update(home)
        known, refused = _copy_in(home, folder)
        done = _update(home)
        return Ingested(done.taken, known, refused + done.refused)


def rebuild(home: Path) -> Ingested:
    """Build the live file from nothing but the record folders. Raises: RunError like `ingest`."""
    with _alone(home):
        return _publish(home, None, schema.VERSION, set())


# the latest declaration of each study and the runs that it names: no reruns, no failed attempts, nothing of settings since dropped
_DECLARED = """
    WITH latest AS (
        SELECT name, arg_max(run_id, started) AS run_id FROM studies JOIN runs USING (run_id) GROUP BY name)
    SELECT run_id FROM latest UNION SELECT member FROM members JOIN latest USING (run_id)"""


def pack(home: Path, shipped: Path | None, out: Path, *, declared: bool = False) -> dict[str, int]:
    """Write `shipped` and the live results over it into one new file `out`, which may be `shipped`. Returns rows by table.

    declared: only the latest declaration of each study, and the runs that it names.
    Raises: StoreError when either cannot be read; RunError when `out` cannot be written (one there before stays as it was).
    """
    scratch = out.with_name(f"{records.SCRATCH}{out.name}-{secrets.token_hex(4)}")
    counts: dict[str, int] = {}
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with reader.open_results(shipped, home) as db:
            _create(db, scratch, "packed")
            # what DuckDB would choose gives up on a column with a few very long strings, and leaves all of it as it is
            db.execute("PRAGMA force_compression = 'zstd'")
            for table in schema.stored():
                chosen = f" WHERE run_id IN ({_DECLARED})" if declared else ""
                db.execute(f"INSERT INTO packed.{table} FROM {table}{chosen} ORDER BY ALL")  # close rows alike: a smaller file
                counts[table] = db.execute(f"SELECT count(*) FROM packed.{table}").fetchall()[0][0]
            _close(db, "packed")
        _rename(scratch, out)
    except (OSError, duckdb.Error) as error:
        raise RunError(f"could not write {out}: {_reason(error)}. Nothing was changed.") from error
    finally:
        _remove(scratch)
    return counts


def _update(home: Path) -> Ingested:
    """`_publish` on top of the current live file, or from nothing where that one is damaged."""
    try:
        live = reader.live_file(home)
        if live is not None:
            with duckdb.connect() as db:
                version = reader.attach(db, live, "live", "it is built anew from the run folders")
                known = {run_id for (run_id,) in db.execute("SELECT run_id FROM live.ingested").fetchall()}
            return _publish(home, live, version, known)
    except reader.NewerFile:
        raise
    except (StoreError, duckdb.Error) as error:
        log.warning("%s", _reason(error))
    return _publish(home, None, schema.VERSION, set())


def _publish(home: Path, start: Path | None, version: int, known: set[str]) -> Ingested:
    """Make the next live file: a copy of `start`, of schema `version` and with the runs `known`, and what it lacks.

    Raises: OSError, duckdb.Error.
    """
    store = reader.store_folder(home)
    scratch = store / f"{records.SCRATCH}live.duckdb"
    found = list(records.folders(home))
    done = Ingested(known=[folder.name for folder in found if folder.name in known])
    new = [folder for folder in found if folder.name not in known]
    replaces = start is None and (store / "CURRENT").exists()
    if not new and version == schema.VERSION and not replaces:
        return done
    try:
        with duckdb.connect() as db:
            if start is None:
                _create(db, scratch, "live")
            else:
                shutil.copyfile(start, scratch)
                _attach(db, scratch, "live")
            db.execute("BEGIN")
            _migrate(db, version)
            for at in range(0, len(new), _CHUNK):
                _insert(db, new[at:at + _CHUNK], done)
            _roll_up(db, done.taken)
            db.execute("COMMIT")
            _close(db, "live")
        if done.taken or version < schema.VERSION or replaces:
            number = 1 + max((_number(path) for path in _live_files(store)), default=0)
            _point_to(_rename(scratch, store / f"live-{number}.duckdb"))
            for old in _live_files(store)[:-_KEPT]:
                old.unlink()
    finally:
        _remove(scratch)
    return done


def _migrate(db: duckdb.DuckDBPyConnection, version: int) -> None:
    """Bring the attached `live` from `version` to the present one."""
    if version == schema.VERSION:
        return
    db.execute("USE live")
    for step in range(version + 1, schema.VERSION + 1):
        for statement in schema.MIGRATIONS.get(step, []):
            db.execute(statement)
    db.execute("UPDATE meta SET value = ? WHERE key = 'schema_version'", [str(schema.VERSION)])
    db.execute("USE memory")


def _insert(db: duckdb.DuckDBPyConnection, folders: list[Path], done: Ingested) -> None:
    """Add the records in `folders` to the attached `live`, all rows of a table at once, and note in `done` what came of each."""
    rows: dict[str, list[records.Row]] = {}
    for folder in folders:
        try:
            content = records.read_bytes(folder)
            record = records.parse(folder, content)
        except StoreError as error:
            done.refused.append((folder, str(error)))
            continue
        for table, added in record.tables.items():
            rows.setdefault(table, []).extend(added)
        rows.setdefault("ingested", []).append({"run_id": record.run_id, "sha256": hashlib.sha256(content).hexdigest()})
        done.taken.append(record.run_id)
    for table, added in rows.items():
        columns = {name: pd.Series([_value(row.get(name), kind) for row in added], dtype=_DTYPES[kind])
                   for name, (kind, _) in schema.stored()[table].items()}
        db.register("added", pd.DataFrame(columns))
        db.execute(f"INSERT INTO live.{table} BY NAME FROM added")
        db.unregister("added")


def _roll_up(db: duckdb.DuckDBPyConnection, taken: list[str]) -> None:
    """Bring the roll-ups of the attached `live` up to date with the runs that were taken in; one that it lacks is made of all runs."""
    there = reader.columns_of(db, "live")
    for table, (columns, select) in schema.ROLLUPS.items():
        names, rows = ", ".join(f'"{name}"' for name in columns), select.format(at="live.")
        if table not in there:
            db.execute(f"CREATE TABLE live.{table} AS SELECT {names} FROM ({rows}) ORDER BY run_id")
        elif taken:
            db.execute(f"INSERT INTO live.{table} BY NAME SELECT {names} FROM ({rows}) WHERE run_id IN (SELECT unnest($taken)) ORDER BY run_id",
                       {"taken": taken})


def _value(value: Any, kind: str) -> Any:
    if value is None:
        return None
    if kind == "DOUBLE":
        return float(value)
    if kind == "TIMESTAMP":
        when = datetime.fromisoformat(value)
        return when.astimezone(UTC).replace(tzinfo=None) if when.tzinfo else when
    return value


def _copy_in(home: Path, folder: Path) -> tuple[list[str], list[tuple[Path, str]]]:
    """Copy the records in `folder` to `home`, each whole or not at all. Returns run_ids already there, and those refused.

    Raises: BadInput; OSError when `home` cannot be written (what is copied by then stays).
    """
    if not folder.is_dir():
        raise BadInput(f"{folder}: no such folder; give one that holds record folders, such as the `runs` of another LETHE_HOME")
    if (folder / "record.json").exists():
        sources = [folder.resolve()]
    else:
        sources = sorted(path for path in (folder / "runs" if (folder / "runs").is_dir() else folder).iterdir()
                         if path.is_dir() and not path.name.startswith("."))
    if not sources:
        raise BadInput(f"{folder}: holds no record folders (<run_id>/record.json)")
    known: list[str] = []
    refused: list[tuple[Path, str]] = []
    for source in sources:
        try:
            record = records.read(source)
            final = home / "runs" / record.run_id
            if records.parses(final):
                known.append(record.run_id)
                continue
            present = records.sizes(source)
            if lost := sorted(name for name, size in record.files.items() if present.get(name) != size):
                raise StoreError(f"{source}: {', '.join(lost)} missing or not as long as when recorded; copy the folder again")
            _copy(source, [*present, "record.json"], final)
        except StoreError as error:
            refused.append((source, str(error)))
    return known, refused


def _copy(source: Path, names: list[str], final: Path) -> None:
    """Raises: StoreError when a file of `source` cannot be read; OSError when `final` cannot be written."""
    scratch = final.with_name(f"{records.SCRATCH}{final.name}-{secrets.token_hex(4)}")
    try:
        for name in names:
            try:
                content = (source / name).read_bytes()
            except OSError as error:
                raise StoreError(f"{source / name}: unreadable ({_reason(error)})") from error
            (scratch / name).parent.mkdir(parents=True, exist_ok=True)
            (scratch / name).write_bytes(content)
        records.publish(scratch, final)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


@contextmanager
def _alone(home: Path) -> Generator[None, None, None]:
    """Hold the ingest lock of `home`, what killed processes left swept away.

    Raises: RunError in place of any OSError and duckdb.Error inside.
    """
    store = reader.store_folder(home)
    try:
        store.mkdir(parents=True, exist_ok=True)
        with (store / "ingest.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            try:
                _sweep(home)
                yield
            finally:
                fcntl.flock(lock, fcntl.LOCK_UN)
    except (OSError, duckdb.Error) as error:
        raise RunError(f"could not write the results under {home}: {_reason(error)}. "
                       "Every finished run is kept; make room there, then `python -m engine ingest`.") from error


def _sweep(home: Path) -> None:
    for left in reader.store_folder(home).glob(f"{records.SCRATCH}*"):  # ours alone, and we hold the lock
        _remove(left)
    for left in (home / "runs").glob(f"{records.SCRATCH}*"):  # may belong to a worker that is still writing
        if left.exists() and time.time() - left.stat().st_mtime > _DAY_S:
            shutil.rmtree(left, ignore_errors=True)


def _create(db: duckdb.DuckDBPyConnection, path: Path, name: str) -> None:
    _attach(db, path, name)
    for statement in schema.create_statements(name):
        db.execute(statement)


def _attach(db: duckdb.DuckDBPyConnection, path: Path, name: str) -> None:
    db.execute(f"ATTACH {reader.literal(path)} AS {name} ({reader.STORAGE})")


def _close(db: duckdb.DuckDBPyConnection, name: str) -> None:
    db.execute(f"CHECKPOINT {name}")  # all into the file, so that no .wal stays; DETACH would do it, but hides why it fails
    db.execute(f"DETACH {name}")


def _rename(scratch: Path, final: Path) -> Path:
    """Give a finished file its name, once it is on the disk; returns it."""
    records.sync(scratch)
    scratch.rename(final)
    records.sync(final.parent)
    return final


def _point_to(live: Path) -> None:
    scratch = live.with_name(f"{records.SCRATCH}CURRENT")
    scratch.write_text(live.name + "\n", encoding="utf-8")
    _rename(scratch, live.with_name("CURRENT"))


def _live_files(store: Path) -> list[Path]:
    """Oldest first."""
    return sorted(store.glob("live-[0-9]*.duckdb"), key=_number)


def _number(live: Path) -> int:
    return int(live.stem.removeprefix("live-"))


def _remove(scratch: Path) -> None:
    for path in (scratch, scratch.with_name(scratch.name + ".wal")):
        path.unlink(missing_ok=True)


def _reason(error: Exception) -> str:
    return (getattr(error, "strerror", None) or str(error) or type(error).__name__).splitlines()[0]
