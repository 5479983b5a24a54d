"""Open the results for reading: the file that ships and the live one over it, as one set of views.

    <home>/store/CURRENT             names the live file, e.g. `live-7.duckdb`; replaced by rename, so always whole
    <home>/store/live-<n>.duckdb     never written to once it has its name (`ingest.py` makes the next one)

No process ever opens for writing a file that this module may open, so readers never wait and are never in the way.
"""

import re
from collections.abc import Hashable
from contextlib import ExitStack
from pathlib import Path

import duckdb

from engine.errors import StoreError
from engine.store import schema

STORAGE = "STORAGE_VERSION 'v1.5.0'"  # files in the format of 2.0 cannot be opened by older clients
_READ_AT_ONCE = 5_000_000  # rows of a table that are read through when a page opens the file
_LIVE_NAME = re.compile(r"live-\d+\.duckdb")
_REBUILD = "`python -m engine ingest` rebuilds it from the run folders"


class NewerFile(StoreError):
    """A results file of a schema that this version does not know: sound, so never to be built anew."""


def store_folder(home: Path) -> Path:
    """Where the live files and the pointer to the current one are."""
    return home / "store"


def live_file(home: Path) -> Path | None:
    """The live file that CURRENT names; None when nothing was ingested yet.

    Raises: StoreError when CURRENT is damaged. That the file exists is not checked.
    """
    pointer = store_folder(home) / "CURRENT"
    try:
        name = pointer.read_text(encoding="utf-8").strip()
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise StoreError(f"{pointer}: unreadable ({error}); {_REBUILD}") from error
    if not _LIVE_NAME.fullmatch(name):
        raise StoreError(f"{pointer}: names no live file ({name[:80]!r}); {_REBUILD}")
    return pointer.with_name(name)


def stamp(shipped: Path | None, home: Path) -> Hashable:
    """Equal as long as `open_results` would show the same: which files there are, with inode, time and size."""
    try:
        live = live_file(home)
    except StoreError as error:
        return _stamp(shipped), str(error)
    return _stamp(shipped), live and live.name, _stamp(live)


def open_results(shipped: Path | None, home: Path, *, memory: str | None = None, whole: bool = False) -> duckdb.DuckDBPyConnection:
    """An in-memory connection with one view a table of the schema (and `ingested`), over `shipped` and the live file of `home`.

    A run that is in the live file hides the shipped rows of the same run_id, in every table. Tables and columns that an
    older file lacks read as NULL. `shipped` None: the live file alone. Use `.cursor()` for each query where threads share it.
    memory: that DuckDB may keep, e.g. "1GB". whole: even tables of many millions of rows are read through for damage, which takes seconds.
    Raises: StoreError on a file that is missing, damaged, locked or newer than this version; no live file is fine.
    """
    while True:
        live = live_file(home)
        try:
            return _open(shipped, live, memory, None if whole else _READ_AT_ONCE)
        except StoreError:
            if live_file(home) == live:
                raise
            # an ingester moved on and removed the file between our two looks: take the new one


def attach(db: duckdb.DuckDBPyConnection, path: Path, name: str, remedy: str, *, most: int | None = None) -> int:
    """Attach the results file `path` read-only as `name`, read every block of it, and return its schema version.

    Blocks carry checksums, so damage anywhere shows here and not in the middle of a page (0.03 s for 3 million rows).
    most: of rows; a larger table is not read through, and damage in it shows when a query comes upon it.
    Raises: StoreError that ends in `remedy` where the file itself is at fault.
    """
    if not path.is_file():
        raise StoreError(f"{path}: no such results file; {remedy}")
    try:
        db.execute(f"ATTACH {literal(path)} AS {name} (READ_ONLY)")
        tables = columns_of(db, name)
        if "meta" not in tables or "run_id" not in tables.get("runs", ()):
            raise StoreError(f"{path}: a database, but not one of Lethe's results; {remedy}")
        found = db.execute(f"SELECT value FROM {name}.meta WHERE key = 'schema_version'").fetchone()
        if found is None or not str(found[0]).isdecimal():
            raise StoreError(f"{path}: does not say its schema version; {remedy}")
        if int(found[0]) > schema.VERSION:
            raise NewerFile(f"{path}: written by a newer version of Lethe (schema {found[0]}, this one reads up to "
                            f"{schema.VERSION}); update Lethe: `git pull`, then `make setup`")
        large = {table for table, rows in _sizes(db, name) if most is not None and rows > most}
        for table in tables.keys() - large:
            db.execute(f"SELECT bit_xor(hash(t)) FROM {name}.{quoted(table)} AS t").fetchall()
    except duckdb.Error as error:
        reason = str(error).splitlines()[0][:200]
        if "lock on file" in reason:
            raise StoreError(f"{path}: another program has it open for writing; close that program ({reason})") from error
        raise StoreError(f"{path}: damaged or unreadable ({reason}); {remedy}") from error
    return int(found[0])


def columns_of(db: duckdb.DuckDBPyConnection, name: str) -> dict[str, set[str]]:
    """Column names by table of the attached database `name`."""
    found: dict[str, set[str]] = {}
    asked = "SELECT table_name, column_name FROM duckdb_columns() WHERE database_name = ? AND NOT internal"
    for table, column in db.execute(asked, [name]).fetchall():
        found.setdefault(table, set()).add(column)
    return found


def _sizes(db: duckdb.DuckDBPyConnection, name: str) -> list[tuple[str, int]]:
    return db.execute("SELECT table_name, estimated_size FROM duckdb_tables() WHERE database_name = ?", [name]).fetchall()


def literal(path: Path) -> str:
    return "'" + str(path).replace("'", "''") + "'"


def quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _open(shipped: Path | None, live: Path | None, memory: str | None, most: int | None) -> duckdb.DuckDBPyConnection:
    db = duckdb.connect()
    with ExitStack() as unless_opened:
        unless_opened.callback(db.close)
        if memory is not None:
            db.execute(f"SET memory_limit = '{memory}'")
        if shipped is not None:
            attach(db, shipped, "base", "get the file again: `git checkout` restores the one that ships", most=most)
        if live is not None:
            attach(db, live, "live", _REBUILD, most=most)
        _create_views(db, [name for name, path in (("base", shipped), ("live", live)) if path is not None])
        unless_opened.pop_all()
    return db


def _create_views(db: duckdb.DuckDBPyConnection, attached: list[str]) -> None:
    both = len(attached) == 2
    db.execute("CREATE TABLE hidden AS " + ("FROM base.runs SEMI JOIN live.runs USING (run_id) SELECT run_id" if both
                                            else "SELECT ''::VARCHAR AS run_id WHERE false"))
    hides = db.execute("SELECT count(*) > 0 FROM hidden").fetchall()[0][0]  # without any, spare every query the join
    for name in attached:
        _present(db, name)
    for table, columns in schema.stored().items():
        parts = [f"FROM present_{name}.{table}" + (" ANTI JOIN hidden USING (run_id)" if hides and name == "base" else "") for name in attached]
        empty = ", ".join(f"CAST(NULL AS {kind}) AS {quoted(c)}" for c, (kind, _) in columns.items())
        db.execute(f"CREATE VIEW {table} AS " + (" UNION ALL ".join(parts) or f"SELECT {empty} WHERE false"))


def _present(db: duckdb.DuckDBPyConnection, name: str) -> None:
    """The attached file as if it had been written by the present version: a schema of views, with NULL for columns that it lacks, no
    rows for tables that it lacks, and roll-ups worked out as they are asked for."""
    there = columns_of(db, name)
    db.execute(f"CREATE SCHEMA present_{name}")
    for table, columns in schema.stored().items():
        rows = f"{name}.{table}"
        if table not in there:
            rows = f"({schema.ROLLUPS[table][1].format(at=f'present_{name}.')})" if table in schema.ROLLUPS else ""
        has = there.get(table, columns if table in schema.ROLLUPS else ())
        picked = ", ".join(f"CAST({quoted(c) if c in has else 'NULL'} AS {kind}) AS {quoted(c)}" for c, (kind, _) in columns.items())
        db.execute(f"CREATE VIEW present_{name}.{table} AS SELECT {picked}" + (f" FROM {rows}" if rows else " WHERE false"))


def _stamp(path: Path | None) -> Hashable:
    try:
        found = path.stat() if path is not None else None
    except OSError:
        return None
    return found and (found.st_ino, found.st_mtime_ns, found.st_size)
