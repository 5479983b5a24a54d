"""The synthetic store is marked and sound, and visitors measure what they say."""

import asyncio
from pathlib import Path

import duckdb
import pytest

from bench import app, scale
from engine.errors import BadInput
from engine.store import queries, reader, schema


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("large") / "home"
    scale.scale_up(made, models=13_000, scores=60_000)
    return made


def test_as_many_as_asked_each_marked_as_synthetic(home: Path) -> None:
    with reader.open_results(None, home) as db:
        studies = queries.studies(db)
        assert len(studies) == 2 and studies["title"].str.startswith("SYNTHETIC").all() and len({*zip(studies["dataset"], studies["model"], strict=True)}) == 2
        assert db.execute("SELECT DISTINCT machine, command FROM runs").fetchall() == [("synthetic", scale.COMMAND)]
        assert db.execute("SELECT count(*) >= 60_000 FROM examples").fetchall() == [(True,)]
        models = "SELECT count(*) >= 13_000 FROM runs WHERE kind IN ('original', 'retrained', 'unlearned') AND protocol <> 'tuning'"
        assert db.execute(models).fetchall() == [(True,)]
        assert db.execute("SELECT count(*) FROM members ANTI JOIN runs ON runs.run_id = member").fetchall() == [(0,)]
        results = queries.results(db, study=str(studies["study"][0]))
        assert len(results) == 20 and results["test_accuracy"].between(0, 1).all()


def test_its_rollups_are_those_that_an_ingest_makes(home: Path) -> None:
    with duckdb.connect(str(reader.live_file(home)), read_only=True) as db:
        for table, (columns, rows) in schema.ROLLUPS.items():
            made = f"SELECT {', '.join(columns)} FROM ({rows.format(at='')})"
            assert db.execute(f"SELECT count(*) FROM (({made}) EXCEPT ALL (SELECT {', '.join(columns)} FROM {table}))").fetchall() == [(0,)]


def test_it_never_mixes_with_results(home: Path) -> None:
    with pytest.raises(BadInput, match="not empty"):
        scale.scale_up(home, models=1, scores=1)


def test_percentiles() -> None:
    assert [app.percentile([3.0, 1.0, 2.0, 4.0], share) for share in (0.0, 0.5, 0.75, 0.95, 1.0)] == [1.0, 2.0, 3.0, 4.0, 4.0]


@pytest.mark.slow
def test_visitors_open_pages_and_turn_controls(home: Path) -> None:
    with app.serving(home) as (port, process):
        assert app.memory(process)[1] > 50

        async def visit() -> None:
            visitor = await app.visit(port)
            assert await visitor.open("overview") > 0 and await visitor.open("leaderboard") > 0
            datasets = next(control for control in visitor.controls.values() if "dataset@" in control.id)
            assert len(datasets.values) == 4  # two of this store and the shipped ones
            wanted = next(value for value in datasets.values if "CIFAR" in value)
            assert await visitor.turn(datasets, wanted) > 0 and "dataset=cifar" in visitor.query
            assert not visitor.faults
            await visitor.link.close()

        asyncio.run(visit())
