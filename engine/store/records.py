"""A record: everything one run leaves, as plain rows by table, in one folder that appears whole or not at all.

    <home>/runs/<run_id>/record.json      {"schema": 1, "run_id": …, "files": {name: bytes}, "tables": {"runs": [row], …}}
    <home>/runs/<run_id>/*.npy, *.pt      arrays and weights that belong to it

The folders are the truth; the DuckDB files are an index over them that `ingest` can always build again. Needs neither
duckdb nor torch, so a bare compute machine can write records and send the folders home.
"""

import hashlib
import json
import math
import os
import re
import secrets
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, cast

from engine.errors import RunError, StoreError
from engine.store import schema

Row = dict[str, Any]
SCRATCH = ".tmp-"
_RUN_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")


@dataclass(frozen=True)
class Record:
    """Rows by table. `tables["runs"]` holds exactly one row, whose run_id is this record's.

    files: bytes of each file beside record.json when it was published, by relative name; `write` fills it in.
    """

    run_id: str
    tables: dict[str, list[Row]] = field(default_factory=dict[str, list[Row]])
    files: dict[str, int] = field(default_factory=dict[str, int])

    def faults(self) -> list[str]:
        """What is wrong with it, in words, one fault a table at most; empty when it can be stored."""
        if not _RUN_ID.fullmatch(self.run_id):
            return [f"record {self.run_id!r}: not a usable run_id"]
        found: list[str] = []
        if len(self.tables.get("runs", [])) != 1:
            found.append(f"record {self.run_id}: must have exactly one row in 'runs'")
        for table, rows in self.tables.items():
            columns = schema.TABLES.get(table)
            if columns is None:
                found.append(f"record {self.run_id}: no table named '{table}'")
            elif fault := next(filter(None, (_row_fault(row, self.run_id, columns) for row in rows)), None):
                found.append(f"record {self.run_id}: table '{table}' {fault}")
        return found


def write(home: Path, record: Record, files: Callable[[Path], None] | None = None) -> Path:
    """Publish a record: scratch folder, then one rename. Returns its folder; an existing one is left as it is, unless its
    record.json cannot be parsed, which is damage: then this one takes its place.

    `files(folder)` may put arrays beside the record before it is published.
    Raises: RunError when the disk is full or not writable (nothing half-written is left); ValueError on a malformed record.
    """
    record = Record(record.run_id, _plain(record.tables))
    if found := record.faults():
        raise ValueError("; ".join(found))
    runs = home / "runs"
    final = runs / record.run_id
    if parses(final):
        return final
    scratch = runs / f"{SCRATCH}{record.run_id}-{secrets.token_hex(4)}"
    try:
        scratch.mkdir(parents=True)
        if files is not None:
            files(scratch)
        body = {"schema": schema.VERSION, "run_id": record.run_id, "files": sizes(scratch), "tables": record.tables}
        (scratch / "record.json").write_text(json.dumps(body, allow_nan=False), encoding="utf-8")
        return publish(scratch, final)
    except OSError as error:
        raise RunError(f"could not record run {record.run_id} under {runs}: {error.strerror or error}. "
                       "Finished runs are kept; make room there (or set LETHE_HOME elsewhere) and start again.") from error
    finally:
        shutil.rmtree(scratch, ignore_errors=True)  # nothing there once it was published


def publish(scratch: Path, final: Path) -> Path:
    """Force a finished scratch folder to disk and give it its name; a whole record that got there first stays, and
    `scratch` with it.

    Raises: OSError.
    """
    for path in [*scratch.rglob("*"), scratch]:
        sync(path)
    if final.exists() and not parses(final):
        final.rename(final.with_name(f"{SCRATCH}damaged-{secrets.token_hex(4)}"))
    try:
        scratch.rename(final)
    except OSError:
        if not parses(final):
            raise
        return final  # another process made the same run first: the same content, nothing lost
    sync(final.parent)
    return final


def read(folder: Path) -> Record:
    """The record in `folder`, which is named by its run_id.

    Raises: StoreError when it is missing, damaged or from a newer version.
    """
    return parse(folder, read_bytes(folder))


def parse(folder: Path, content: bytes) -> Record:
    """The record that `content`, the bytes of `folder`'s record.json, holds. Raises: StoreError like `read`."""
    path = folder / "record.json"
    try:
        body = json.loads(content, parse_constant=_refuse)
        version, run_id, tables, files = body["schema"], body["run_id"], body["tables"], body["files"]
        if not (type(version) is int and isinstance(run_id, str) and _is(files, int) and _is(tables, list)
                and all(_is(row, object) for rows in tables.values() for row in rows)):
            raise TypeError("its parts are not of the right types")
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise StoreError(f"{path}: not a readable record ({type(error).__name__}: {error})") from error
    if version > schema.VERSION:
        raise StoreError(f"{path}: written by a newer version (schema {version}, this one reads up to {schema.VERSION}); "
                         "update Lethe")
    record = Record(run_id, tables, files)
    if found := record.faults():
        raise StoreError(*(f"{path}: {fault}" for fault in found))
    if run_id != folder.name:
        raise StoreError(f"{path}: is the record of run {run_id}, not of {folder.name}; give the folder its name back")
    return record


def read_bytes(folder: Path) -> bytes:
    """The bytes of its record.json. Raises: StoreError when it is missing or unreadable."""
    try:
        return (folder / "record.json").read_bytes()
    except OSError as error:
        raise StoreError(f"{folder / 'record.json'}: not a readable record ({error.strerror or error})") from error


def sizes(folder: Path) -> dict[str, int]:
    """Bytes of each file that belongs to the record in `folder`, by its name relative to it."""
    return {path.relative_to(folder).as_posix(): path.stat().st_size
            for path in sorted(folder.rglob("*")) if path.is_file() and path != folder / "record.json"}


def folders(home: Path) -> Iterator[Path]:
    """Every published record folder under `home`, oldest name first; unfinished scratch folders are skipped."""
    runs = home / "runs"
    if runs.is_dir():
        for name in sorted(os.listdir(runs)):
            if not name.startswith("."):
                yield runs / name


def next_attempt(home: Path, run_id: str) -> str:
    """The name of the next failed attempt at `run_id`: `<run_id>.failed-1`, then `-2`, …"""
    attempt = 1
    while (home / "runs" / f"{run_id}.failed-{attempt}").exists():
        attempt += 1
    return f"{run_id}.failed-{attempt}"


def parses(folder: Path) -> bool:
    """Whether it holds a record.json that is JSON; one from a newer version does, and is not ours to replace."""
    try:
        json.loads((folder / "record.json").read_bytes())
    except (OSError, ValueError):
        return False
    return True


def sync(path: Path) -> None:
    """Force a file, or the names in a folder, to disk. Raises: OSError."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def identity(content: Any) -> str:
    """16 hex digits that name `content`: the same for equal content whatever the order of its keys."""
    text = json.dumps(_plain(content), sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _plain(value: Any) -> Any:
    """JSON-ready: numpy scalars become Python's, NaN and infinities become null (a missing number, never a wrong one)."""
    if isinstance(value, dict):
        return {str(k): _plain(v) for k, v in cast("dict[Any, Any]", value).items()}
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in cast("Sequence[Any]", value)]
    if hasattr(value, "item") and getattr(value, "ndim", 0) == 0:
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def _is(value: Any, of: type) -> bool:
    """Whether it is a JSON object whose values are all `of`."""
    return isinstance(value, dict) and all(isinstance(v, of) for v in cast("dict[str, Any]", value).values())


def _row_fault(row: Row, run_id: str, columns: dict[str, tuple[str, str]]) -> str | None:
    if row.get("run_id") != run_id:
        return f"has a row of run {row.get('run_id')!r}"
    for name, value in row.items():
        if name not in columns:
            return f"has no column '{name}'"
        kind = columns[name][0]
        if value is not None and not _FITS[kind](value):
            return f"column '{name}' ({kind}) cannot hold {str(value)[:80]!r}"
    return None


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and (value.isascii() or not any("\ud800" <= c <= "\udfff" for c in value))


def _is_time(value: Any) -> bool:
    try:
        datetime.fromisoformat(value)
    except (ValueError, TypeError):
        return False
    return True


def _is_int(value: Any) -> bool:
    return type(value) is int and -(2**63) <= value < 2**63


_FITS: dict[str, Callable[[Any], bool]] = {
    "VARCHAR": _is_text,
    "BIGINT": _is_int,
    "DOUBLE": lambda value: _is_int(value) or (type(value) is float and math.isfinite(value)),
    "BOOLEAN": lambda value: type(value) is bool,
    "TIMESTAMP": _is_time,  # ISO 8601; without an offset it is UTC
}


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no JSON number")
