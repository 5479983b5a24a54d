"""A results store as large as the reference study, to measure the app on: rows of a study that ships, many times over, with noise.

    python -m bench.scale HOME [--models 100000] [--scores 100000000]

Nothing in it was measured. Every study in it is called SYNTHETIC, every run names the machine `synthetic`, and it is never shipped.
HOME must be empty; the app reads it with LETHE_HOME=HOME.
"""

import argparse
import sys
import time
from collections.abc import Sequence
from math import ceil
from pathlib import Path

import duckdb

from engine.errors import BadInput, LetheError
from engine.store import reader, schema
from engine.store.reader import literal

SHIPPED = Path(__file__).resolve().parents[1] / "data" / "results.duckdb"
SOURCE = "digits-18"
# the study's cells; more copies than these forget another share
PLACES = tuple((dataset, model) for model in ("resnet18", "tinyvit") for dataset in ("cifar10", "cifar100", "mnist", "fashion_mnist", "utkface"))
COMMAND = "python -m bench.scale"
NOISE = 0.02  # of a value
_APART = 100_000  # between the indices of an example and of its next copy

_NEW_ID = "md5(concat({id}, '#', $copy))[:16]"
_MEMBERS = """(SELECT member FROM members JOIN studies USING (run_id) WHERE name = $source
            UNION SELECT run_id FROM studies WHERE name = $source)"""


def scale_up(home: Path, models: int, scores: int) -> dict[str, int]:
    """Make the store; returns rows by table. Raises: BadInput where `home` holds something or a number is too small."""
    if home.exists() and any(home.iterdir()):
        raise BadInput(f"{home}: is not empty; give a folder that is new, since a synthetic store must not mix with results")
    if models < 1 or scores < 1:
        raise BadInput(f"models {models}, scores {scores}: both must be at least 1")
    store = reader.store_folder(home)
    store.mkdir(parents=True)
    live = store / "live-1.duckdb"
    with reader.open_results(SHIPPED, home) as db:
        db.execute(f"ATTACH {literal(live)} AS live ({reader.STORAGE})")
        for statement in schema.create_statements("live"):
            db.execute(statement)
        each = _count(db, f"runs WHERE run_id IN {_MEMBERS} AND kind IN ('original', 'retrained', 'unlearned') AND protocol <> 'tuning'", SOURCE)
        rows = _count(db, f"examples WHERE run_id IN {_MEMBERS} AND half IS NULL", SOURCE)
        copies = ceil(models / each)
        for copy in range(copies):
            _copy(db, copy, ceil(scores / copies / rows))
            print(f"{copy + 1} of {copies} copies of {SOURCE}", file=sys.stderr)
        for table, (columns, rows) in schema.ROLLUPS.items():
            db.execute(f"INSERT INTO live.{table} BY NAME SELECT {', '.join(columns)} FROM ({rows.format(at='live.')}) ORDER BY run_id")
        made = {table: _count(db, f"live.{table}") for table in schema.stored()}
        db.execute("CHECKPOINT live")
        db.execute("DETACH live")
    (store / "CURRENT").write_text(f"{live.name}\n", encoding="utf-8")
    return made


def _count(db: duckdb.DuckDBPyConnection, rows: str, source: str | None = None) -> int:
    return db.execute(f"SELECT count(*) FROM {rows}", {"source": source} if source else {}).fetchall()[0][0]


def _copy(db: duckdb.DuckDBPyConnection, copy: int, times: int) -> None:
    """One more study like SOURCE in a place of its own, each of its example rows `times` times."""
    dataset, model = PLACES[copy % len(PLACES)]
    share = 0.1 / (1 + copy // len(PLACES))
    values = {"source": SOURCE, "copy": copy}
    new = _NEW_ID.format(id="run_id")
    cell = "replace(replace(cell, '\"dataset\": \"digits\"', $dataset), '\"model\": \"cnn\"', $model)"
    places = {"dataset": f'"dataset": "{dataset}", "forget_share": {share}', "model": f'"model": "{model}"'}
    for table, columns in schema.TABLES.items():
        if table == "examples":
            continue
        picked = {column: f'"{column}"' for column in columns} | {"run_id": new}
        given = dict(values)
        if table == "runs":
            picked |= {"study": "concat(study, '-synthetic-', $copy)", "dataset": "$ds", "model": "$md", "cell": cell, "machine": "'synthetic'",
                       "command": f"'{COMMAND}'"}
            given |= {"ds": dataset, "md": model} | places
        elif table == "members":
            picked["member"] = _NEW_ID.format(id="member")
        elif table == "studies":
            picked |= {"name": "concat(name, '-synthetic-', $copy)", "title": "concat('SYNTHETIC ', $copy + 1, ': rows of digits-18 with noise, not measured')"}
        elif table == "metrics":
            noise = f"{NOISE} * (hash(run_id, name, $copy) % 10000 / 10000.0 - 0.5)"
            picked["value"] = f"CASE WHEN starts_with(name, 'n_') THEN value ELSE least(value * (1 + {noise}), greatest(value, 1.0)) END"
        db.execute(f"INSERT INTO live.{table} SELECT {', '.join(picked.values())} FROM {table} WHERE run_id IN {_MEMBERS}", given)
    runs = db.execute(f"SELECT run_id, bool_or(half IS NOT NULL) FROM examples WHERE run_id IN {_MEMBERS} GROUP BY run_id ORDER BY run_id",
                      {"source": SOURCE}).fetchall()
    noisy = {column: f"round({column} * (1 + {NOISE} * (hash(example, c, '{column}') % 10000 / 10000.0 - 0.5)), 4)"
             for column in ("mu_forgotten", "sigma_forgotten", "mu_never", "sigma_never")}
    noisy |= {"example": f"example + {_APART} * c", "run_id": new,
              "balanced_accuracy": "round(least(1.0, balanced_accuracy + 0.05 * (hash(example, c) % 10000 / 10000.0 - 0.5)), 4)"}
    picked_columns = ", ".join(noisy.get(column, column) for column in schema.TABLES["examples"])
    for run_id, listing in runs:  # a list of the most exposed is as short for any number of examples
        db.execute(f"INSERT INTO live.examples SELECT {picked_columns} FROM examples, range($times) AS t(c) WHERE run_id = $run_id "
                   f"ORDER BY example + {_APART} * c",
                   {"copy": copy, "times": 1 if listing else times, "run_id": run_id})


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog=COMMAND, description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("home", type=Path, help="a folder that is new or empty")
    parser.add_argument("--models", type=int, default=100_000, help="at least so many models, those of searches not counted")
    parser.add_argument("--scores", type=int, default=100_000_000, help="at least so many rows of single examples")
    given = parser.parse_args(arguments)
    began = time.perf_counter()
    try:
        made = scale_up(given.home, given.models, given.scores)
    except LetheError as error:
        parser.error(str(error))
    print(", ".join(f"{count:,} {table}" for table, count in made.items() if count))
    size = sum(path.stat().st_size for path in given.home.rglob("*") if path.is_file())
    print(f"{size / 1e6:,.0f} MB in {time.perf_counter() - began:.0f} s")


if __name__ == "__main__":
    main()
