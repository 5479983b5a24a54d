"""Data: tables to browse under conditions, as files, in SQL, and the run behind a row; from the link and back."""

import io
import json
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pyarrow.parquet
import pytest
from duckdb import DuckDBPyConnection
from streamlit.testing.v1 import AppTest

from engine.errors import BadInput
from engine.store import console, ingest, reader, schema, tables
from pages.ui import browse
from tests.pages import synthetic
from tests.pages.conftest import Shipped
from tests.pages.test_screens import said

SCRIPT = "pages/data.py"


def rows_shown(app: AppTest) -> pd.DataFrame:
    return app.dataframe[0].value


# ---- browsing


def test_browse(site: SimpleNamespace, full: Shipped, db: DuckDBPyConnection) -> None:
    site.ship(full)
    (total,) = db.execute("SELECT count(*) FROM runs").fetchall()[0]
    app = site.open(SCRIPT)
    text = said(app)
    assert not app.exception and not app.error
    assert f"**Yes: {total} runs with" in text and "each can be made again from a commit" in text
    assert list(rows_shown(app).columns) == list(schema.TABLES["runs"]) and len(rows_shown(app)) == 100
    assert f"Rows 1 to 100 of {total}." in text and f"All {total} rows, every column whole." in text
    app.number_input(key="page@data").set_value(2).run()
    assert len(rows_shown(app)) == total - 100 and app.query_params["page"] == "2"
    app.selectbox(key="table@data").set_value("metrics").run()
    assert list(rows_shown(app).columns) == ["run_id", "name", "value", "lo", "hi"] and not app.exception


def test_conditions_go_to_the_link_and_back(site: SimpleNamespace, full: Shipped) -> None:
    site.ship(full)
    app = site.open(SCRIPT)
    app.multiselect(key="only-runs").set_value(["method", "seed", "machine"]).run()
    assert len(rows_shown(app)) == 100 and "where" not in app.query_params  # chosen, but nothing said of them yet
    app.multiselect(key="only-runs").set_value(["method", "seed", "clean", "machine"]).run()
    app.multiselect(key="only-runs-method").set_value(["ga", "ft"]).run()
    app.number_input(key="only-runs-seed-from").set_value(3).run()
    app.multiselect(key="only-runs-machine").set_value(["test machine, 2 cores"]).run()
    shown = rows_shown(app)
    assert set(shown["method"]) == {"ga", "ft"} and shown["seed"].min() == 3
    assert json.loads(app.query_params["where"]) == {"method": ["ga", "ft"], "seed": [3.0, None], "clean": True, "machine": ["test machine, 2 cores"]}
    again = site.open(SCRIPT, where=app.query_params["where"], order="seed", down="True", size="50")
    pd.testing.assert_frame_equal(rows_shown(again).sort_values("run_id", ignore_index=True), shown.sort_values("run_id", ignore_index=True))
    assert rows_shown(again)["seed"].is_monotonic_decreasing and again.multiselect(key="only-runs-method").value == ["ga", "ft"]


def test_a_condition_follows_to_a_table_that_has_the_column(site: SimpleNamespace, full: Shipped) -> None:
    site.ship(full)
    app = site.open(SCRIPT, where=json.dumps({"run_id": "a", "kind": ["attack"]}))
    app.selectbox(key="table@data").set_value("roc").run()
    assert not app.exception and app.multiselect(key="only-roc").value == ["run_id"]
    assert json.loads(app.query_params["where"]) == {"run_id": "a"} and all("a" in run_id for run_id in rows_shown(app)["run_id"])


@pytest.mark.parametrize("where", ["nonsense", "[]", '{"nothing": "x"}', '{"seed": "x"}', '{"method": 3}', '{"clean": [1, 2]}', '{"seed": [1, true]}'])
def test_a_link_that_is_wrong_is_left_aside(site: SimpleNamespace, full: Shipped, where: str) -> None:
    site.ship(full)
    app = site.open(SCRIPT, where=where, table="runs", page="no", size="7", order="nothing", view="none")
    assert not app.exception and not app.error and len(rows_shown(app)) == 100


def test_nothing_there(site: SimpleNamespace, empty: Shipped, full: Shipped) -> None:
    site.ship(empty)
    app = site.open(SCRIPT)
    assert not app.exception and "nothing to have yet" in said(app) and "fills as runs finish" in app.info[0].value
    site.ship(full)
    assert "No row meets these conditions" in site.open(SCRIPT, where='{"run_id":"zzz"}').info[0].value


def test_a_row_shows_its_run(site: SimpleNamespace, full: Shipped) -> None:
    site.ship(full)
    app = site.open(SCRIPT, table="metrics")
    run_id = rows_shown(app)["run_id"][0]
    app.query_params["run"] = run_id
    app.run()
    assert not app.exception and "The run behind the row" in [head.value for head in app.subheader] and f"`{run_id}`" in said(app)
    app.button(key="behind-close").click().run()
    assert "run" not in app.query_params


# ---- one run


def test_the_command_behind_a_number(site: SimpleNamespace, full: Shipped, db: DuckDBPyConnection) -> None:
    site.ship(full)
    (run_id,) = db.execute("SELECT run_id FROM runs WHERE method = 'ga' AND seed = 3 AND kind = 'unlearned' AND dataset = 'digits'").fetchall()[0]
    app = site.open(SCRIPT, view="run", run=run_id)
    assert not app.exception
    assert app.code[0].value == f"git checkout {synthetic.COMMIT}\npython -m engine rerun ga --dataset digits --model cnn --seed 3"
    text = said(app)
    assert "test machine, 2 cores" in text and "**Method** ga" in text
    assert "test_accuracy" in set(rows_shown(app)["name"])
    assert "uncommitted" not in text


def test_the_run_is_not_there(site: SimpleNamespace, full: Shipped) -> None:
    site.ship(full)
    assert "Paste a run_id" in site.open(SCRIPT, view="run").info[0].value
    app = site.open(SCRIPT, view="run", run="gone")
    assert not app.exception and "There is no run `gone` here" in app.warning[0].value


def test_uncommitted_changes_are_said(site: SimpleNamespace, empty: Shipped) -> None:
    site.ship(empty)
    row = {"run_id": "mine", "kind": "original", "status": "done", "clean": False, "started": "2026-11-21T10:00:00", "wall_s": 1.0}
    synthetic.records.write(site.home, synthetic.Record("mine", {"runs": [row]}))
    ingest.ingest(site.home)
    app = site.open(SCRIPT, view="run", run="mine")
    text = said(app)
    assert not app.exception and "uncommitted changes" in text and "No command was recorded" in text and "no rows in `metrics`" in text
    assert "0 of them can be made again from a commit" in text


# ---- SQL


def test_ask_in_sql(site: SimpleNamespace, full: Shipped) -> None:
    site.ship(full)
    app = site.open(SCRIPT, view="sql")
    assert not app.dataframe[1:] and "SELECT" in app.text_area(key="sql@data").value  # an example stands there and waits
    app.text_area(key="sql@data").set_value("SELECT kind, count(*) AS n FROM runs GROUP BY kind ORDER BY kind")
    next(button for button in app.button if button.label == "Run").click().run()
    assert not app.exception and not app.error
    answer = app.dataframe[1].value
    assert list(answer.columns) == ["kind", "n"] and "study" in set(answer["kind"])
    assert app.query_params["sql"].startswith("SELECT kind")
    again = site.open(SCRIPT, view="sql", sql=app.query_params["sql"])  # a link restores the answer too
    pd.testing.assert_frame_equal(again.dataframe[1].value, answer)


def test_sql_that_is_refused_cut_or_without_rows(site: SimpleNamespace, full: Shipped, monkeypatch: pytest.MonkeyPatch) -> None:
    site.ship(full)
    app = site.open(SCRIPT, view="sql", sql="SELECT methd FROM runs")
    assert not app.exception and '"methd" not found' in app.error[0].value and "Candidate bindings" in app.code[0].value
    assert "Allowed is one SELECT statement" in site.open(SCRIPT, view="sql", sql="DROP TABLE runs").error[0].value
    assert "No row" in site.open(SCRIPT, view="sql", sql="SELECT 1 WHERE false").info[0].value
    app = site.open(SCRIPT, view="sql", sql="FROM range(1000000)")
    assert "Only the first 10\u202f000 rows" in app.warning[0].value and len(app.dataframe[1].value) == 10_000

    def busy(*_: Any) -> console.Answer:
        raise console.Busy("2 other queries are still running; try again in a moment.")

    monkeypatch.setattr(console, "ask", busy)
    assert "still running" in site.open(SCRIPT, view="sql", sql="SELECT 2").warning[0].value


@pytest.mark.parametrize("name", browse.EXAMPLES)
def test_examples_are_sql(name: str, db: DuckDBPyConnection) -> None:
    assert db.execute(browse.EXAMPLES[name]).description


# ---- the questions behind it


def test_conditions_of_every_kind(db: DuckDBPyConnection) -> None:
    everything = int(tables.count(db, table="runs")["rows"][0])
    for where, sql in (((("method", "in", ("ga", "ft")),), "method IN ('ga', 'ft')"), ((("seed", ">=", 2), ("seed", "<=", 4)), "seed BETWEEN 2 AND 4"),
                       ((("command", "holds", "RERUN"),), "command ILIKE '%rerun%'"), ((("clean", "is", False),), "NOT clean")):
        expected = db.execute(f"SELECT run_id FROM runs WHERE {sql}").df()["run_id"]
        assert int(tables.count(db, table="runs", where=where)["rows"][0]) == len(expected) <= everything
        assert set(tables.page(db, table="runs", where=where, limit=1000)["run_id"]) == set(expected)


def test_pages_hold_every_row_once(db: DuckDBPyConnection) -> None:
    """Also in an order with many ties."""
    total = int(tables.count(db, table="metrics")["rows"][0])
    for order in ("", "name"):
        parts = [tables.page(db, table="metrics", order=order, limit=500, offset=offset) for offset in range(0, total, 500)]
        assert len(pd.concat(parts)[["run_id", "name"]].drop_duplicates()) == total


def test_what_a_table_does_not_have(db: DuckDBPyConnection) -> None:
    for ask in (lambda: tables.page(db, table="secrets"), lambda: tables.page(db, table="runs", order="seed; DROP VIEW runs"),
                lambda: tables.count(db, table="runs", where=(("x' OR true", "is", True),)),
                lambda: tables.count(db, table="runs", where=(("seed", "like", 1),)), lambda: tables.choices(db, table="runs", column="nothing")):
        with pytest.raises(BadInput, match="no table|no column|no operator"):
            ask()
    assert int(tables.count(db, table="runs", where=(("method", "holds", "' OR true --"),))["rows"][0]) == 0


def test_too_many_rows(db: DuckDBPyConnection, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "MOST", 10)
    monkeypatch.setattr(tables, "_SORTED", 10)
    monkeypatch.setattr(tables, "CHOICES", 3)
    with pytest.raises(BadInput, match="more than the 10 of one file; add a condition"):
        tables.whole(db, table="runs")
    with pytest.raises(BadInput, match="more than 10 rows are not put in order"):
        tables.page(db, table="runs", order="seed")
    assert tables.choices(db, table="runs", column="method").empty and list(tables.choices(db, table="runs", column="dataset")["value"]) == [
        "digits", "fashion_mnist"]


def test_long_texts_are_cut_on_the_page_and_whole_in_files(site: SimpleNamespace) -> None:
    synthetic.records.write(site.home, synthetic.Record("long", {"runs": [{"run_id": "long", "kind": "original", "status": "done", "cell": "x" * 5000}]}))
    ingest.ingest(site.home)
    with reader.open_results(None, site.home) as found:
        assert len(tables.page(found, table="runs")["cell"][0]) == 301 and len(tables.whole(found, table="runs")["cell"][0].as_py()) == 5000


def test_files_hold_what_the_table_holds(db: DuckDBPyConnection) -> None:
    where = (("method", "in", ("ga",)),)
    rows = tables.whole(db, table="runs", where=where)
    expected = db.execute("SELECT * FROM runs WHERE method = 'ga'").df()
    parquet = pyarrow.parquet.read_table(io.BytesIO(tables.parquet(rows)))
    assert parquet.equals(rows) and parquet.num_rows == len(expected)
    read = pd.read_csv(io.BytesIO(tables.csv(rows)))
    assert list(read.columns) == list(expected.columns) and list(read["run_id"]) == list(expected["run_id"])
    numbers = tables.whole(db, table="metrics")
    assert pd.read_csv(io.BytesIO(tables.csv(numbers)))["value"].equals(numbers.to_pandas()["value"])  # to the last bit


def test_what_a_run_left(db: DuckDBPyConnection) -> None:
    (run_id,) = db.execute("SELECT run_id FROM runs WHERE attack = 'u_lira' AND method = 'ft' AND dataset = 'digits'").fetchall()[0]
    assert dict(tables.belongings(db, run_id=run_id).itertuples(index=False)) == {"metrics": 8, "roc": 60, "examples": 60}
    assert tables.run(db, run_id=run_id)["method"][0] == "ft" and tables.run(db, run_id="gone").empty
    sizes = dict(tables.sizes(db).itertuples(index=False))
    assert list(sizes) == list(schema.stored()) and sizes["runs"] == len(db.execute("FROM runs").fetchall())


def test_kinds_and_links_of_conditions() -> None:
    assert {"run_id": "text", "seed": "number", "clean": "yes or no"}.items() <= browse.kinds("runs").items() and "started" not in browse.kinds("runs")
    given = {"method": ["ga"], "seed": [1, None], "clean": False, "cell": "x"}
    assert browse.read(browse.written(given), "runs") == given and browse.written({}) == "" and browse.read("", "runs") == {}
    assert browse.where(given) == (("method", "in", ("ga",)), ("seed", ">=", 1), ("clean", "is", False), ("cell", "holds", "x"))
    assert browse.where({"method": [], "cell": "", "seed": [None, None]}) == ()
    assert list(browse.described("roc")["Column"]) == ["run_id", "fpr", "tpr"]
