"""One view over the shipped and the live file, and one clear message for every file that cannot be read."""

import subprocess
import sys
import threading
from pathlib import Path

import duckdb
import pytest

from engine.errors import StoreError
from engine.store import ingest, reader, records, schema


@pytest.fixture
def shipped(tmp_path, record) -> Path:
    """A shipped file with runs `a` and `b`."""
    source = tmp_path / "source"
    for run_id in "ab":
        records.write(source, record(run_id, value=1.0))
    ingest.ingest(source)
    ingest.pack(source, None, tmp_path / "results.duckdb")
    return tmp_path / "results.duckdb"


def rows(shipped: Path | None, home: Path, query: str) -> list[tuple]:
    with reader.open_results(shipped, home) as db:
        return db.execute(query).fetchall()


def damage(path: Path) -> None:
    """Flip one byte in every 512, save in the headers."""
    content = bytearray(path.read_bytes())
    for at in range(3 * 4096 + 20, len(content), 512):
        content[at] ^= 0xFF
    path.write_bytes(content)


def test_the_shipped_file_alone_is_enough(shipped, home):
    assert rows(shipped, home, "SELECT run_id FROM runs ORDER BY ALL") == [("a",), ("b",)]
    assert rows(shipped, home, "SELECT count(*) FROM metrics") == [(6,)]
    assert not home.exists()  # reading makes nothing


def test_every_table_is_there_with_its_columns_and_types_even_where_nothing_is(home):
    with reader.open_results(None, home) as db:
        for table, columns in schema.TABLES.items():
            told = db.execute(f"DESCRIBE {table}").fetchall()
            assert [(name, kind) for name, kind, *_ in told] == [(name, kind) for name, (kind, _) in columns.items()]
            assert db.execute(f"SELECT count(*) FROM {table}").fetchall() == [(0,)]


def test_live_runs_join_the_shipped_and_hide_those_of_the_same_id(shipped, home, record):
    records.write(home, record("c", value=3.0))
    ingest.ingest(home)
    assert rows(shipped, home, "SELECT run_id, value FROM metrics WHERE name = 'metric_0' ORDER BY ALL") == [("a", 1), ("b", 1), ("c", 3)]
    shorter = record("b", value=2.0)
    del shorter.tables["curves"]
    records.write(home, shorter)
    ingest.ingest(home)
    assert rows(shipped, home, "SELECT run_id, value FROM metrics WHERE name = 'metric_0' ORDER BY ALL") == [("a", 1), ("b", 2), ("c", 3)]
    assert rows(shipped, home, "SELECT run_id, count(*) FROM curves GROUP BY ALL ORDER BY ALL") == [("a", 2), ("c", 2)]  # all of b's
    assert rows(shipped, home, "SELECT count(*) FROM runs") == [(3,)]


def test_the_stamp_changes_when_what_is_shown_does_and_only_then(shipped, home, record):
    seen = [reader.stamp(shipped, home)]
    for run_id in "cd":
        records.write(home, record(run_id))
        ingest.ingest(home)
        seen.append(reader.stamp(shipped, home))
        ingest.ingest(home)
        assert reader.stamp(shipped, home) == seen[-1]
    shipped.write_bytes(shipped.read_bytes())
    seen.append(reader.stamp(shipped, home))
    shipped.unlink()
    seen.append(reader.stamp(shipped, home))
    (home / "store" / "CURRENT").write_text("nonsense")
    seen.append(reader.stamp(shipped, home))
    assert len(set(seen)) == len(seen)


def test_a_missing_shipped_file_is_told(shipped, home):
    shipped.unlink()
    with pytest.raises(StoreError, match=r"results.duckdb: no such results file; .*git checkout"):
        reader.open_results(shipped, home)


@pytest.mark.parametrize("how", ["text", "empty", "cut", "flipped", "folder"])
def test_a_corrupt_file_is_told_with_what_to_do(shipped, home, record, how):
    records.write(home, record("c"))
    ingest.ingest(home)
    live = reader.live_file(home)
    assert live is not None
    for path, remedy in ((live, "python -m engine ingest"), (shipped, "git checkout")):
        whole = path.read_bytes()
        if how == "text":
            path.write_text("not a database")
        elif how == "empty":
            path.write_bytes(b"")
        elif how == "cut":
            path.write_bytes(whole[:len(whole) // 2])
        elif how == "flipped":
            damage(path)
        else:
            path.unlink()
            path.mkdir()
        with pytest.raises(StoreError, match=rf"{path.name}: (damaged or unreadable|no such results file).*{remedy}") as told:
            reader.open_results(shipped, home)
        assert len(str(told.value).splitlines()) == 1
        path.rmdir() if how == "folder" else path.unlink()
        path.write_bytes(whole)
    reader.open_results(shipped, home).close()


def test_another_kind_of_database_is_told(shipped, home, tmp_path):
    for made in ("CREATE TABLE t (a INTEGER)", "CREATE TABLE runs (run_id VARCHAR); CREATE TABLE meta (key VARCHAR, value VARCHAR)"):
        other = tmp_path / "other.duckdb"
        other.unlink(missing_ok=True)
        with duckdb.connect(str(other)) as db:
            db.execute(made)
        with pytest.raises(StoreError, match=r"other.duckdb: (a database, but not|does not say)"):
            reader.open_results(other, home)


def test_a_file_of_a_newer_version_is_told(shipped, home):
    with duckdb.connect(str(shipped)) as db:
        db.execute("UPDATE meta SET value = '99'")
    with pytest.raises(StoreError, match=f"newer version of Lethe .schema 99, this one reads up to {schema.VERSION}.; update"):
        reader.open_results(shipped, home)


@pytest.mark.parametrize("which", ["shipped", "live"])
def test_an_older_file_reads_with_null_for_what_it_lacks(shipped, home, record, which):
    records.write(home, record("c"))
    ingest.ingest(home)
    live = reader.live_file(home)
    with duckdb.connect(str(shipped if which == "shipped" else live)) as db:
        for statement in ("ALTER TABLE runs DROP COLUMN threads", "DROP TABLE members", "UPDATE meta SET value = '0'"):
            db.execute(statement)
    assert rows(shipped, home, "SELECT run_id, threads FROM runs ORDER BY ALL") == [("a", None), ("b", None), ("c", None)]
    assert rows(shipped, home, "SELECT count(*) FROM members") == [(0,)]


def test_a_file_that_another_program_writes_to_is_told(shipped, home):
    code = "import duckdb, sys; db = duckdb.connect(sys.argv[1]); print('open', flush=True); sys.stdin.read()"
    with subprocess.Popen([sys.executable, "-c", code, str(shipped)], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout and other.stdout.readline() == b"open\n"
        with pytest.raises(StoreError, match="another program has it open for writing; close that program"):
            reader.open_results(shipped, home)
        other.communicate()
    reader.open_results(shipped, home).close()


@pytest.mark.parametrize("content", ["", "../../etc/passwd", "live-1.duckdb.bak", "\0"])
def test_a_damaged_pointer_is_told(home, record, content):
    records.write(home, record("c"))
    ingest.ingest(home)
    (home / "store" / "CURRENT").write_text(content)
    with pytest.raises(StoreError, match="CURRENT: names no live file .*python -m engine ingest"):
        reader.open_results(None, home)


def test_a_live_file_that_went_missing_is_told(home, record):
    records.write(home, record("c"))
    ingest.ingest(home)
    (home / "store" / "live-1.duckdb").unlink()
    with pytest.raises(StoreError, match="no such results file; .*python -m engine ingest"):
        reader.open_results(None, home)


def test_a_reader_overtaken_by_the_ingester_takes_the_newer_file(home, record, monkeypatch):
    records.write(home, record("a"))
    ingest.ingest(home)
    looks = iter([home / "store" / "live-0.duckdb"])  # what CURRENT named a moment ago, removed since
    real = reader.live_file
    monkeypatch.setattr(reader, "live_file", lambda at: next(looks, None) or real(at))
    assert rows(None, home, "SELECT run_id FROM runs") == [("a",)]


def test_threads_with_a_cursor_each_all_read_right(shipped, home):
    wrong: list[object] = []

    def ask(db: duckdb.DuckDBPyConnection) -> None:
        for k in range(30):
            got = db.cursor().execute("SELECT value FROM metrics WHERE run_id = 'a' AND name = ?", [f"metric_{k % 3}"]).fetchall()
            if got != [(1.0 + k % 3,)]:
                wrong.append(got)

    with reader.open_results(shipped, home) as db:
        threads = [threading.Thread(target=ask, args=(db,)) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert not wrong
