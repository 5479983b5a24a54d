"""Read-only SQL over the results, for whoever asks: every query in a process of its own that can do nothing else and has to end.

    refused      what is not one SELECT statement (DESCRIBE, SUMMARIZE and SHOW TABLES count as one), or is longer than LONGEST
    impossible   files, network, extensions, settings: DuckDB's file system and external access are off, its configuration is locked; the
                 results are attached read-only before that, and the process may not write a byte to any file
    bounded      time, memory, rows and size of the answer: `Limits`

Not a thread with a timer: DuckDB notices an interrupt only between two steps, and text and lists that are being made do not count
against its memory limit. `SELECT repeat('x', 4000000000)` takes 4 GB and 20 s of a process, whatever it was told.
"""

import json
import os
import resource
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import duckdb
import pyarrow as pa

from engine.errors import BadInput, RunError, StoreError
from engine.store import reader

LONGEST = 20_000  # characters of a query
AT_ONCE = 2  # queries of all visitors together
_ROOT = Path(__file__).resolve().parents[2]
_TOO_LARGE, _REFUSED, _UNREADABLE = 1, 2, 3  # exit codes
_PIVOT = duckdb.StatementType.MULTI  # without a list of values it is two statements
_PLACES = threading.BoundedSemaphore(AT_ONCE)
_PLAIN = {"BOOLEAN", "TINYINT", "SMALLINT", "INTEGER", "BIGINT", "UTINYINT", "USMALLINT", "UINTEGER", "UBIGINT", "FLOAT", "DOUBLE", "VARCHAR",
          "TIMESTAMP"}
_LOCKED = ("temp_directory = ''", "enable_external_access = false", "disabled_filesystems = 'LocalFileSystem'", "autoload_known_extensions = false",
           "autoinstall_known_extensions = false", "allow_community_extensions = false", "python_enable_replacements = false",
           "lock_configuration = true")


class Busy(RunError):
    """Too many queries at once: the same one may be answered a moment later."""


@dataclass(frozen=True)
class Limits:
    """Of one query. seconds: from start to answer. memory_bytes: of the whole process. answer_bytes: of the rows that come back."""

    seconds: float = 10.0
    memory_bytes: int = 2_000_000_000
    rows: int = 10_000
    answer_bytes: int = 32_000_000
    threads: int = 2


@dataclass(frozen=True)
class Answer:
    """rows: at most `Limits.rows`, columns of one name told apart by a number. more: there were others, which were left out."""

    rows: pa.Table
    more: bool
    wall_s: float


def ask(sql: str, shipped: Path | None, home: Path, limits: Limits | None = None) -> Answer:
    """What the results, shipped and live as one, answer to a SELECT statement.

    Raises: BadInput on what is refused, or is no SQL that they can answer; RunError on what was stopped, Busy on what was not begun; StoreError
    on results that cannot be read.
    """
    limits = limits or Limits()
    if len(sql) > LONGEST:
        raise BadInput(f"The query has {len(sql)} characters; at most {LONGEST} are read. Make it shorter.")
    if not _PLACES.acquire(timeout=limits.seconds):
        raise Busy(f"{AT_ONCE} other queries are still running; try again in a moment.")
    started = time.monotonic()
    request = json.dumps({"sql": sql, "shipped": shipped and str(shipped), "home": str(home), "limits": asdict(limits)})
    try:
        done = subprocess.run([sys.executable, "-m", "engine.store.console"], input=request.encode(), capture_output=True, cwd=_ROOT,
                              timeout=limits.seconds, check=False)
    except subprocess.TimeoutExpired as error:
        raise RunError(f"The query was stopped after {limits.seconds:g} seconds. Ask for less: filter first, or aggregate.") from error
    finally:
        _PLACES.release()
    said = done.stderr.decode(errors="replace").strip()
    if done.returncode == _REFUSED:
        raise BadInput(said)
    if done.returncode == _UNREADABLE:
        raise StoreError(said)
    if done.returncode:
        raise RunError(f"The query was stopped: it needed more than {_in_mb(limits.memory_bytes // 4)} of memory for its data, or more than "
                       f"{_in_mb(limits.memory_bytes)} in all. Ask for less: filter first, or aggregate.")
    with pa.ipc.open_stream(done.stdout) as stream:
        rows = stream.read_all()
    return Answer(rows.replace_schema_metadata(None), (rows.schema.metadata or {})[b"more"] == b"yes", time.monotonic() - started)


def select(db: duckdb.DuckDBPyConnection, sql: str, limits: Limits) -> tuple[pa.Table, bool]:
    """The answer, and whether there is more of it, on a connection that `shut` was called for. Raises: BadInput; MemoryError."""
    try:
        kinds = [statement.type for statement in db.extract_statements(sql)]
        if kinds != [duckdb.StatementType.SELECT]:
            what = "nothing" if not kinds else f"{len(kinds)} statements" if len(kinds) > 1 else f"a statement of another kind ({kinds[0].name})"
            pivot = " PIVOT takes the values of its columns from a list: ON method IN ('ft', 'ga')." if _PIVOT in kinds else ""
            raise BadInput(f"This is {what}. Allowed is one SELECT statement, or DESCRIBE, SUMMARIZE or SHOW TABLES: the results are read-only."
                           f"{pivot}")
        return _first(_plain(db.sql(sql)).to_arrow_reader(2048), limits)
    except duckdb.OutOfMemoryException as error:
        raise MemoryError from error
    except (duckdb.Error, pa.ArrowInvalid) as error:
        raise BadInput(str(error).strip()) from error


def shut(db: duckdb.DuckDBPyConnection, limits: Limits) -> None:
    """Take away from a connection, for good, whatever reading its attached databases does not need."""
    for setting in (f"memory_limit = '{_in_mb(limits.memory_bytes // 4)}'", f"threads = {limits.threads}", *_LOCKED):
        db.execute(f"SET {setting}")


def _plain(found: duckdb.DuckDBPyRelation) -> duckdb.DuckDBPyRelation:
    """With types that every table and file format knows: large and decimal numbers as DOUBLE, lists, intervals and the like as text."""
    casts: list[str] = []
    for place, (name, kind) in enumerate(zip(_told_apart(found.columns), map(str, found.types), strict=True), start=1):
        into = None if kind in _PLAIN else "DOUBLE" if kind.startswith("DECIMAL") or kind.endswith("HUGEINT") else "VARCHAR"
        casts.append(f"CAST(#{place} AS {into}) AS {reader.quoted(name)}" if into else f"#{place} AS {reader.quoted(name)}")
    return found.project(", ".join(casts))


def _told_apart(names: list[str]) -> Iterator[str]:
    taken: set[str] = set()
    for name in names:
        own, n = name, 1
        while own in taken:
            own, n = f"{name}_{n}", n + 1
        taken.add(own)
        yield own


def _first(batches: pa.RecordBatchReader, limits: Limits) -> tuple[pa.Table, bool]:
    """As many rows as may come back."""
    found: list[pa.RecordBatch] = []
    rows = size = 0
    for batch in batches:
        found.append(batch)
        rows, size = rows + batch.num_rows, size + batch.nbytes
        if size > limits.answer_bytes:
            raise BadInput(f"The answer is larger than {_in_mb(limits.answer_bytes)}. Ask for fewer columns or rows, or aggregate.")
        if rows > limits.rows:
            break
    return pa.Table.from_batches(found, batches.schema).slice(0, limits.rows), rows > limits.rows


def _in_mb(size: int) -> str:
    return f"{size // 1_000_000}MB"


def _confined(limits: Limits) -> None:
    """What the process may take. Its own time is limited too, in case nobody is left to stop it; all its memory only where Linux counts it."""
    seconds = round(limits.seconds * limits.threads) + 1
    kinds = {resource.RLIMIT_FSIZE: 0, resource.RLIMIT_CPU: seconds} | ({resource.RLIMIT_AS: limits.memory_bytes} if sys.platform == "linux" else {})
    for kind, most in kinds.items():
        resource.setrlimit(kind, (most, most))


def main() -> int:
    """Answer the request on stdin: an Arrow stream on stdout, or a message on stderr."""
    asked = json.load(sys.stdin)
    limits = Limits(**asked["limits"])
    try:
        with reader.open_results(asked["shipped"] and Path(asked["shipped"]), Path(asked["home"])) as db:
            shut(db, limits)
            _confined(limits)
            rows, more = select(db, asked["sql"], limits)
    except MemoryError:
        return _TOO_LARGE
    except StoreError as error:
        print(error, file=sys.stderr)
        return _UNREADABLE
    except BadInput as error:
        print(error, file=sys.stderr)
        return _REFUSED
    rows = rows.replace_schema_metadata({"more": "yes" if more else "no"})
    answer = pa.BufferOutputStream()
    with pa.ipc.new_stream(answer, rows.schema) as stream:
        stream.write_table(rows)
    sys.stdout.buffer.write(answer.getvalue())
    return 0


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)  # at a proper end DuckDB's bindings may write about themselves to where messages go
