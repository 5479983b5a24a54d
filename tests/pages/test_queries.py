"""The questions to the store: right numbers, and the columns even where there is nothing."""

import json
from collections.abc import Iterator
from pathlib import Path

import duckdb
import pandas as pd
import pytest
from duckdb import DuckDBPyConnection
from scipy import stats

from engine.errors import StoreError
from engine.store import ingest, queries, reader, records
from tests.pages import synthetic
from tests.pages.conftest import Shipped

QUESTIONS = [queries.results, queries.seed_runs, queries.calibration, queries.failures, queries.provenance, queries.method_versions, queries.attacks,
             queries.spread, queries.listed]


def test_studies_are_newest_first(db: DuckDBPyConnection, full: Shipped) -> None:
    found = queries.studies(db)
    assert list(found["name"]) == ["embedded", "fashion"]
    whole, partial = found.to_dict("records")
    assert (whole["study"], whole["dataset"], whole["model"]) == (full.studies["embedded"], "digits", "cnn")
    assert whole["planned"] == whole["done"] == 80 + 7 + 8 + 6 and whole["failed"] == 0
    assert partial["planned"] == 61 and partial["done"] == 61 - 8 - 2  # a seed of all, one that diverged and one that failed
    assert (partial["failed"], partial["diverged"]) == (2, 1)


def test_results_are_means_with_t_intervals(db: DuckDBPyConnection, full: Shipped) -> None:
    found = queries.results(db, study=full.studies["embedded"]).set_index("method")
    values = queries.seed_runs(db, study=full.studies["embedded"])
    msg = values.loc[values["method"] == "msg", "test_retention"]
    low, high = stats.t.interval(0.95, len(msg) - 1, msg.mean(), msg.sem())
    row = found.loc["msg"]
    assert row["test_retention"] == pytest.approx(msg.mean(), rel=1e-12)
    assert (row["test_retention_lo"], row["test_retention_hi"]) == pytest.approx((low, high), rel=1e-4)
    assert row["seeds"] == 10 and json.loads(row["params"]) == synthetic.PARAMS["msg"]
    assert (row["balanced_accuracy"], row["balanced_accuracy_lo"]) == pytest.approx((0.514, 0.502))
    assert (row["rte"], row["rte_lo"], row["rte_hi"]) == pytest.approx((12.6, 12.6 * 0.94, 12.6 * 1.08))
    assert pd.isna(found.loc["original", "rte"]) and pd.isna(row["tpr_at_fpr_0.001"])
    assert set(found.index) == {"original", "retrained", *synthetic.METHODS}


def test_seed_runs_carry_provenance(db: DuckDBPyConnection, full: Shipped) -> None:
    found = queries.seed_runs(db, study=full.studies["embedded"])
    assert len(found) == 80 and found["run_id"].is_unique
    row = found[(found["method"] == "ft") & (found["seed"] == 3)].iloc[0]
    assert row["command"] == "python -m engine rerun ft --dataset digits --model cnn --seed 3"
    assert (row["mode"], row["executor"], row["device"], row["commit"]) == ("fast", "fused", "cpu", synthetic.COMMIT)
    assert pd.isna(row["split"]) and "forget" in row  # no split of its own: the study's


def test_failures_are_told_and_not_averaged(db: DuckDBPyConnection, full: Shipped) -> None:
    diverged, failed = queries.failures(db, study=full.studies["fashion"]).to_dict("records")
    assert (diverged["method"], diverged["seed"], diverged["status"], diverged["attempts"]) == ("ga", 0, "diverged", 1)
    assert (failed["method"], failed["status"], failed["error"]) == ("srl", "failed", "No space left on device")
    assert failed["run_id"].endswith(".failed-1") and "not finite" in diverged["error"]
    assert queries.results(db, study=full.studies["fashion"]).set_index("method").loc["ga", "seeds"] == 3
    assert queries.failures(db, study=full.studies["embedded"]).empty


def test_a_second_try_that_worked_is_no_failure(tmp_path: Path) -> None:
    study = synthetic.study(tmp_path, seeds=2, methods=("ga",), failed=("ga",))
    ingest.ingest(tmp_path)
    (path,) = [folder for folder in records.folders(tmp_path) if ".failed-" in folder.name]
    failed = records.read(path).tables["runs"][0]
    again = {**failed, "run_id": failed["run_id"].partition(".")[0], "status": "done", "error": None}
    records.write(tmp_path, records.Record(again["run_id"], {"runs": [again], "metrics": [{"run_id": again["run_id"], "name": "test_accuracy", "value": 0.9}]}))
    ingest.ingest(tmp_path)
    with reader.open_results(None, tmp_path) as db:
        assert queries.failures(db, study=study).empty and queries.studies(db)["failed"].tolist() == [0]


def test_other_runs_trials_calibration(db: DuckDBPyConnection, full: Shipped) -> None:
    study = full.studies["embedded"]
    assert list(queries.other_runs(db, study=study, method="msg", variant="corrected")["kind"]) == ["attack", "search", "timing"]
    tried = queries.trials(db, study=study, method="msg")
    assert len(tried) == 12 and tried["chosen"].tolist() == [True] + [False] * 11 and tried["score"].is_monotonic_increasing
    checks = queries.calibration(db, study=study)
    assert set(checks["name"]) == {"original_has_power", "planted_shift", "retrained_at_chance"} and set(checks["outcome"]) == {"passed"}


@pytest.fixture
def made(tmp_path: Path) -> Iterator[DuckDBPyConnection]:
    """Study `s` with three attack runs of four examples each, an older run of one of them, and an attack without numbers."""
    def run(run_id: str, attack: str, method: str, started: str = "2026-11-20 10:00:00", **more: object) -> dict[str, object]:
        return {"run_id": run_id, "kind": "attack", "study": "s", "method": method, "variant": "corrected", "attack": attack, "status": "done",
                "started": started, **more}

    def scored(run_id: str, accuracy: list[float | None], mu: float) -> list[dict[str, object]]:
        return [{"run_id": run_id, "example": i, "label": i, "n_forgotten": 2, "n_never": 3, "mu_forgotten": mu, "sigma_forgotten": 1.0, "mu_never": 0.0,
                 "sigma_never": 2.0, "balanced_accuracy": value} for i, value in enumerate(accuracy)]

    def write(run: dict[str, object], **tables: list[dict[str, object]]) -> None:
        records.write(tmp_path, records.Record(str(run["run_id"]), {"runs": [run], **tables}))

    ids = ["aa01", "aa02", "aa03", "aa04", "aa05"]
    chosen = [(0, 2, 0.9, 0.8), (0, 1, 0.7, 0.5), (1, 2, 0.8, 0.9)]  # half, example, chosen, reported
    curve = [{"run_id": "aa01", "fpr": fpr, "tpr": 0.5 + fpr / 2} for fpr in [0.0005, *(i / 1000 for i in range(1, 1001))]]
    write(run("aa01", "u_lira", "ga"), examples=scored("aa01", [0.5, 0.99, 1.0, None], 4.0), roc=curve,
          metrics=[{"run_id": "aa01", "name": "auc", "value": 0.7, "lo": 0.6, "hi": 0.8}, {"run_id": "aa01", "name": "smallest_fpr", "value": 0.001}])
    write(run("aa02", "u_lira", "ga", "2026-11-19 10:00:00"), metrics=[{"run_id": "aa02", "name": "auc", "value": 0.1}])
    write(run("aa03", "u_lira", "retrained"), examples=scored("aa03", [0.5, 0.4, 0.6, 0.5], 0.0))
    write(run("aa04", "exposure", "ga"), examples=[{"run_id": "aa04", "example": example, "label": example, "half": half, "chosen": c, "balanced_accuracy": r}
                                                   for half, example, c, r in chosen])
    write(run("aa05", "ruli", "ga", error="too few splits"))
    write({"run_id": "ee01", "kind": "study", "study": "s", "method": "study", "status": "done", "started": "2026-11-20 10:00:00"},
          studies=[{"run_id": "ee01", "name": "s", "title": "s", "content": ""}],
          members=[{"run_id": "ee01", "member": member, "role": "attack", "method": "ga"} for member in ids])
    ingest.ingest(tmp_path)
    with reader.open_results(None, tmp_path) as db:
        yield db


def test_attacks_are_those_of_the_newest_runs(made: DuckDBPyConnection) -> None:
    found = queries.attacks(made, study="ee01")
    assert found.loc[found["name"] == "auc", ["value", "lo", "hi", "run_id"]].values.tolist() == [[0.7, 0.6, 0.8, "aa01"]]
    blank = found[found["name"].isna()].set_index("attack")
    assert set(blank.index) == {"u_lira", "exposure", "ruli"} and blank.loc["ruli", "error"] == "too few splits"


def test_curves_are_thinned_and_end_where_the_models_do(made: DuckDBPyConnection) -> None:
    found = queries.curves(made, study="ee01", attack="u_lira")
    assert found["fpr"].is_monotonic_increasing and found["fpr"].min() >= 0.001 and found["fpr"].max() == 1.0
    assert 90 <= len(found) <= 110 and set(found["smallest_fpr"]) == {0.001}
    assert (found["tpr"] - 0.5 - found["fpr"] / 2).abs().max() < 1e-12
    assert list(queries.curves(made, study="none", attack="u_lira").columns) == list(found.columns)


def test_spread_counts_examples(made: DuckDBPyConnection) -> None:
    found = queries.spread(made, study="ee01")
    mine = found[found["method"] == "ga"]
    assert dict(zip(mine["bin"], mine["examples"], strict=True)) == {20: 1, 39: 2}  # 0.99 and 1 share the last, what has no number is left out
    assert found.loc[found["method"] == "retrained", "examples"].sum() == 4


def test_exposed_is_in_the_order_of_the_choice(made: DuckDBPyConnection) -> None:
    found = queries.exposed(made, study="ee01", method="ga", variant="corrected")
    assert list(found["example"]) == [2, 1] and list(found["halves"]) == [2, 1]
    assert found["chosen"].tolist() == pytest.approx([0.85, 0.7]) and found["reported"].tolist() == pytest.approx([0.85, 0.5])
    assert found.loc[0, ["all_splits", "retrained", "mu_forgotten", "retrained_mu_forgotten"]].tolist() == [1.0, 0.6, 4.0, 0.0]
    assert list(queries.listed(made, study="ee01")["example"]) == [1, 2]
    none = queries.exposed(made, study="ee01", method="ft", variant="corrected")
    assert none.empty and list(none.columns) == list(found.columns)


def test_provenance_and_versions(db: DuckDBPyConnection, full: Shipped) -> None:
    made = queries.provenance(db, study=full.studies["embedded"]).set_index("kind")
    assert made.loc["unlearned", "runs"] == 60 and made.loc["unlearned", "seeds"] == 10 and made["dirty"].sum() == 0
    assert list(made.loc["attack", "commits"]) == [synthetic.COMMIT]
    versions = queries.method_versions(db, study=full.studies["embedded"])
    assert list(versions["method"]) == sorted(synthetic.METHODS) and set(versions["version"]) == {1}


@pytest.mark.parametrize("question", QUESTIONS)
def test_columns_stay_where_nothing_matches(question: object, db: DuckDBPyConnection, full: Shipped) -> None:
    assert callable(question)
    there, none = question(db, study=full.studies["embedded"]), question(db, study="no such study")
    assert none.empty and list(none.columns) == list(there.columns)


def test_nothing_at_all(empty: Shipped, tmp_path: Path) -> None:
    with reader.open_results(empty.file, tmp_path) as db:
        assert queries.studies(db).empty and "planned" in queries.studies(db).columns


def test_a_broken_query_is_one_message(tmp_path: Path) -> None:
    with duckdb.connect() as db, pytest.raises(StoreError, match="cannot be read"):
        queries.studies(db)


def test_catalogue(full: Shipped, tmp_path: Path) -> None:
    assert {m["name"] for m in queries.catalogue(full.catalogue, tmp_path)["methods"]} >= {"ft", "msg"}
    assert queries.catalogue(tmp_path / "none.json", tmp_path)["methods"] == []
    (tmp_path / "catalogue.json").write_text('{"methods": [{"name": "own"}]}', encoding="utf-8")  # one's own wins
    found = queries.catalogue(full.catalogue, tmp_path)
    assert [m["name"] for m in found["methods"]] == ["own"] and found["datasets"] == []
    (tmp_path / "catalogue.json").write_text("[]", encoding="utf-8")
    with pytest.raises(StoreError, match="not a catalogue"):
        queries.catalogue(full.catalogue, tmp_path)
