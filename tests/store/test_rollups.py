"""Roll-ups say what the rows they are made of say, however those came in."""

from dataclasses import replace
from pathlib import Path

import duckdb
import pytest

from engine.store import ingest, reader, records, schema
from tests.store.conftest import Make

ROLLUPS = list(schema.ROLLUPS)
KINDS = {"seeds": ("unlearned", "seeds"), "shadow": ("retrained", "u_lira"), "tuned": ("unlearned", "tuning"), "attack": ("attack", "u_lira"),
         "timing": ("timing", "timing"), "study": ("study", None)}


@pytest.fixture
def made(home: Path, record: Make) -> Path:
    """Runs of all kinds, taken in one after the other, the attack with examples."""
    for name, (kind, protocol) in KINDS.items():
        one = record(name, kind=kind, protocol=protocol, cell='{"data": {"forget_share": 0.05}, "versions": {"method": 3}}')
        if name == "attack":
            scores = [None, 0.0, 0.5, 0.51, 0.999, 1.0]
            rows = [{"run_id": name, "example": at, "label": 0, "balanced_accuracy": score} for at, score in enumerate(scores)]
            one = replace(one, tables={**one.tables, "examples": rows})
        records.write(home, one)
        ingest.ingest(home)
    return home


def rows(home: Path, table: str, shipped: Path | None = None) -> list[tuple[object, ...]]:
    with reader.open_results(shipped, home) as db:
        return db.execute(f"FROM {table} ORDER BY ALL").fetchall()


def test_a_page_finds_all_but_the_models_that_only_attacks_and_searches_look_at(made: Path) -> None:
    shown = {str(row[0]) for row in rows(made, "shown_runs")}
    assert shown == {"seeds", "attack", "timing", "study"} == {str(row[0]) for row in rows(made, "shown_metrics")}
    with reader.open_results(None, made) as db:
        assert db.execute("SELECT DISTINCT version, forget_share FROM shown_runs").fetchall() == [(3, 0.05)]
        assert db.execute("SELECT count(*) FROM shown_metrics ANTI JOIN metrics USING (run_id, name, value)").fetchall() == [(0,)]


def test_bins_hold_every_example_that_has_a_number(made: Path) -> None:
    assert rows(made, "example_bins") == [("attack", 0, 1), ("attack", schema.BINS // 2, 2), ("attack", schema.BINS - 1, 2)]


@pytest.mark.parametrize("table", ROLLUPS)
def test_one_by_one_all_at_once_and_packed_are_the_same(made: Path, table: str, tmp_path: Path) -> None:
    before, packed = rows(made, table), tmp_path / "packed.duckdb"
    ingest.pack(made, None, packed)
    ingest.rebuild(made)
    assert before and rows(made, table) == before == rows(tmp_path / "nowhere", table, packed) == rows(made, table, packed)


@pytest.mark.parametrize("table", ROLLUPS)
def test_a_file_from_before_reads_as_if_it_had_them_and_gets_them_at_the_next_ingest(made: Path, record: Make, table: str) -> None:
    before, live = rows(made, table), reader.live_file(made)
    with duckdb.connect(str(live)) as db:
        for name in ROLLUPS:
            db.execute(f"DROP TABLE {name}")
        db.execute("UPDATE meta SET value = '2' WHERE key = 'schema_version'")
        db.execute("DROP TABLE confusion")
        db.execute("DROP TABLE embedding")
    assert rows(made, table) == before
    records.write(made, record("new", kind="original", protocol="u_lira"))
    assert ingest.ingest(made).taken == ["new"]
    with duckdb.connect(str(reader.live_file(made)), read_only=True) as db:
        assert db.execute(f"FROM {table} ORDER BY ALL").fetchall() == before
