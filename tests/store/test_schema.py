"""A results file of an older schema is read as it is and brought up to date when it is written."""

from pathlib import Path

import duckdb
import pytest

from engine.store import ingest, reader, records, schema


def aged(path: Path, version: int) -> None:
    """Make a file of the present schema one of that version, so that what came later is not there."""
    with duckdb.connect(str(path)) as db:
        if version < 3:
            db.execute("DROP TABLE confusion; DROP TABLE embedding")
        if version < 2:
            db.execute("ALTER TABLE examples DROP COLUMN half; ALTER TABLE examples DROP COLUMN chosen")
        db.execute("UPDATE meta SET value = ? WHERE key = 'schema_version'", [str(version)])


@pytest.mark.parametrize("version", [1, 2])
def test_older_files_are_read_and_brought_up_to_date(home, record, version):
    records.write(home, record("a"))
    ingest.ingest(home)
    aged(reader.live_file(home), version)
    with reader.open_results(None, home) as db:
        assert [db.execute(f"SELECT count(*) FROM {table}").fetchone() for table in ("runs", "confusion", "embedding")] == [(1,), (0,), (0,)]
    newer = record("b")
    newer.tables["confusion"] = [{"run_id": "b", "set": "test", "label": 1, "predicted": 7, "count": 3}]
    newer.tables["embedding"] = [{"run_id": "b", "example": 9, "set": "forget", "label": 1, "x": 0.5, "y": -2.25}]
    records.write(home, newer)
    assert ingest.ingest(home).taken == ["b"]
    with reader.open_results(None, home) as db:
        assert db.execute("FROM confusion").fetchall() == [("b", "test", 1, 7, 3)]
        assert db.execute("FROM embedding").fetchall() == [("b", 9, "forget", 1, 0.5, -2.25)]
    with duckdb.connect(str(reader.live_file(home)), read_only=True) as db:
        assert db.execute("SELECT value FROM meta WHERE key = 'schema_version'").fetchall() == [(str(schema.VERSION),)]
        found = reader.columns_of(db, reader.live_file(home).stem)
        assert {table: set(columns) for table, columns in schema.stored().items()} == {table: found[table] for table in schema.stored()}


def test_a_migrated_file_has_the_types_of_a_new_one(home, record):
    records.write(home, record("a"))
    ingest.ingest(home)
    aged(reader.live_file(home), 1)
    records.write(home, record("b"))
    ingest.ingest(home)
    with duckdb.connect(str(reader.live_file(home)), read_only=True) as db:
        for table, columns in schema.TABLES.items():
            assert {(name, kind) for name, kind, *_ in db.execute(f"DESCRIBE {table}").fetchall()} == {(name, kind) for name, (kind, _) in columns.items()}
