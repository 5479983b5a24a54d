"""The SQL console: it answers over shipped and live results as one, and whatever else one asks of it is refused or stopped, with a reason."""

from collections.abc import Iterator
from pathlib import Path

import duckdb
import pytest

from engine.errors import BadInput, RunError, StoreError
from engine.store import console, ingest, reader, records, schema
from tests.store.conftest import Make

PATIENT = console.Limits(seconds=60)  # for a busy machine


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home whose live file holds two runs."""
    home = tmp_path_factory.mktemp("it's")  # a quote, as folders may have one
    for name in ("a", "b"):
        metrics = [{"run_id": name, "name": f"metric_{k}", "value": k} for k in range(3)]
        records.write(home, records.Record(name, {"runs": [{"run_id": name, "kind": "unlearned", "method": "ft", "status": "done"}], "metrics": metrics}))
    ingest.ingest(home)
    return home


@pytest.fixture(scope="module")
def db(stored: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    """A connection as a query gets it, in this process."""
    with reader.open_results(None, stored) as connection:
        console.shut(connection, PATIENT)
        yield connection


def test_shipped_and_live_are_one(home: Path, record: Make, tmp_path: Path) -> None:
    """A run that is in both files counts once, as the live file has it."""
    for name, value in (("a", 0.5), ("b", 0.5)):
        records.write(home, record(name, value=value))
    ingest.ingest(home)
    shipped = tmp_path / "results.duckdb"
    ingest.pack(home, None, shipped)
    other = tmp_path / "other"
    for name, value in (("b", 5.0), ("c", 0.5)):
        records.write(other, record(name, value=value))
    ingest.ingest(other)
    found = console.ask("SELECT run_id, value FROM metrics WHERE name = 'metric_0' ORDER BY run_id", shipped, other, PATIENT)
    assert found.rows.to_pydict() == {"run_id": ["a", "b", "c"], "value": [0.5, 5.0, 0.5]} and not found.more


@pytest.mark.parametrize("sql", [
    "COPY runs TO 'x.csv'", "ATTACH 'x.duckdb'", "SET threads = 1", "RESET threads", "PRAGMA database_list", "CALL pragma_version()", "INSTALL httpfs",
    "LOAD httpfs", "CREATE TABLE x AS SELECT 1", "DROP VIEW runs", "DELETE FROM live.runs", "EXPORT DATABASE 'x'", "EXPLAIN SELECT 1", "CHECKPOINT",
    "SELECT 1; SELECT 2", "", "-- nothing", "PIVOT metrics ON name USING max(value)"])
def test_only_one_select(db: duckdb.DuckDBPyConnection, sql: str) -> None:
    with pytest.raises(BadInput, match="Allowed is one SELECT statement"):
        console.select(db, sql, PATIENT)


@pytest.mark.parametrize("sql", [
    "FROM read_text('/etc/hostname')", "FROM read_csv('/etc/hostname')", "FROM read_parquet('x.parquet')", "FROM glob('*')", "FROM 'x.csv'",
    "FROM read_blob('{live}')", "FROM read_duckdb('{live}', table_name = 'runs')", "FROM sniff_csv('x.csv')", "FROM parquet_metadata('x')",
    "FROM read_text('http://localhost/')", "FROM sqlite_scan('x', 'y')", "FROM query('FROM read_text(''/etc/hostname'')')", "SELECT getenv('HOME')",
    "WITH x AS (INSERT INTO live.runs FROM live.runs RETURNING *) FROM x", "FROM stored"])
def test_no_files_no_network_no_writing(db: duckdb.DuckDBPyConnection, stored: Path, sql: str) -> None:
    """`stored` is a variable here: DuckDB must not look for tables among those of Python either."""
    live = reader.live_file(stored)
    assert live is not None
    with pytest.raises(BadInput, match="Error"):
        console.select(db, sql.format(live=str(live).replace("'", "''")), PATIENT)


def test_the_lock_holds_even_past_the_first_check(db: duckdb.DuckDBPyConnection) -> None:
    for sql in ("SET enable_external_access = true", "SET lock_configuration = false", "ATTACH 'x.duckdb'", "COPY runs TO 'x.csv'", "INSTALL httpfs",
                "DELETE FROM live.runs"):
        with pytest.raises(duckdb.Error):
            db.execute(sql)


@pytest.mark.parametrize(("sql", "rows"), [
    ("FROM runs", 2), ("DESCRIBE runs", 33), ("SUMMARIZE metrics", 5), ("SHOW TABLES", len(schema.stored()) + 1),
    ("VALUES (1), (2), (3)", 3), ("WITH a AS (SELECT 1) FROM a;", 1),
    ("PIVOT metrics ON name IN ('metric_0') USING max(value) GROUP BY run_id", 2)])
def test_what_counts_as_a_select(db: duckdb.DuckDBPyConnection, sql: str, rows: int) -> None:
    found, more = console.select(db, sql, PATIENT)
    assert found.num_rows == rows and not more


def test_types_that_every_format_knows(db: duckdb.DuckDBPyConnection) -> None:
    """And columns of one name told apart."""
    found, _ = console.select(db, "SELECT 1 AS a, 2 AS a, sum(1) AS total, 1.5 AS d, [1, 2] AS l, {'x': 1} AS s, INTERVAL 1 DAY AS i, DATE '2026-11-21' AS day",
                              PATIENT)
    assert found.to_pylist() == [{"a": 1, "a_1": 2, "total": 1.0, "d": 1.5, "l": "[1, 2]", "s": "{'x': 1}", "i": "1 day", "day": "2026-11-21"}]


def test_order_and_bounds(db: duckdb.DuckDBPyConnection) -> None:
    """The first rows of what would never end, in order; and no answer that is too large."""
    found, more = console.select(db, "SELECT range AS n FROM range(100000000000)", console.Limits(rows=5000))
    assert found["n"].to_pylist() == list(range(5000)) and more
    found, more = console.select(db, "FROM range(5000) ORDER BY range DESC", console.Limits(rows=5000))
    assert found["range"].to_pylist()[:2] == [4999, 4998] and not more
    with pytest.raises(BadInput, match="larger than 1MB. Ask for fewer columns"):
        console.select(db, "SELECT repeat('x', 1000000) FROM range(5)", console.Limits(answer_bytes=1_000_000))


def test_what_is_wrong_with_a_query_is_said(db: duckdb.DuckDBPyConnection) -> None:
    with pytest.raises(BadInput, match='(?s)"methd" not found.*Candidate bindings: "method"'):
        console.select(db, "SELECT methd FROM runs", PATIENT)


@pytest.mark.parametrize("sql", [
    "WITH RECURSIVE t AS (SELECT 1 AS n UNION ALL SELECT n + 1 FROM t) SELECT count(*) FROM t",
    "SELECT levenshtein(repeat('a', 1000000), repeat('b', 1000000))"])  # one step, which DuckDB's own interrupt would wait for
def test_time_is_bounded(stored: Path, sql: str) -> None:
    with pytest.raises(RunError, match="stopped after 1.5 seconds"):
        console.ask(sql, None, stored, console.Limits(seconds=1.5))


@pytest.mark.parametrize("sql", [
    "SELECT repeat('x', 4000000000)",  # of no concern to DuckDB's own limit
    "WITH RECURSIVE t AS (SELECT repeat('x', 1000) AS n UNION ALL SELECT n || n FROM t) SELECT max(length(n)) FROM t",
    "SELECT a.range FROM range(100000000) a ORDER BY hash(a.range)"])
def test_memory_is_bounded(stored: Path, sql: str) -> None:
    with pytest.raises(RunError, match="needed more than 500MB of memory for its data, or more than 2000MB in all"):
        console.ask(sql, None, stored, PATIENT)


def test_too_many_at_once(stored: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(console, "_PLACES", console.threading.BoundedSemaphore(1))
    with console._PLACES, pytest.raises(console.Busy, match="other queries are still running"):
        console.ask("SELECT 1", None, stored, console.Limits(seconds=0.01))


def test_too_long(stored: Path) -> None:
    with pytest.raises(BadInput, match="20001 characters; at most 20000"):
        console.ask(" " * 20_001, None, stored)


def test_results_that_cannot_be_read(stored: Path, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="gone.duckdb: no such results file"):
        console.ask("SELECT 1", tmp_path / "gone.duckdb", stored, PATIENT)
