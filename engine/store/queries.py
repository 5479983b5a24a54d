"""What pages and the command line ask of the results: one function per question.

Every function takes a cursor over the views that `reader.open_results` makes and returns a DataFrame that has its columns
even when nothing matches. A *study* is named by the run_id of its own record; its results are its members that are done,
so a study that is still being computed shows what it has. Rates are fractions, times seconds, missing numbers NaN.
"""

import json
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd
from duckdb import DuckDBPyConnection

from engine.errors import StoreError
from engine.metrics.intervals import interval

SEED_METRICS = ("retain_accuracy", "forget_accuracy", "val_accuracy", "test_accuracy",
                "retain_retention", "forget_retention", "val_retention", "test_retention",
                "retention_deviation", "mia_val", "mia_test", "indiscernibility", "image_passes", "live_share",
                "population/all/logistic/auc", "population/surer",
                "js_forget", "js_test", "activation_distance_forget", "agreement_forget", "agreement_test", "zrf", "relative_weight_distance")
TIME_METRICS = ("unlearn_s", "retrain_s", "rte")
ATTACK_METRICS = ("balanced_accuracy", "auc", "tpr_at_fpr_0.1", "tpr_at_fpr_0.01", "tpr_at_fpr_0.001",
                  "shift", "n_models", "n_splits", "n_examples")
METRICS = (*SEED_METRICS, *TIME_METRICS, *ATTACK_METRICS)
REFERENCES = ("retrained", "original")
FORGET_SHARE = 0.1  # of cells that do not name one: see engine.data.splits, which needs more than pages may load

_MEMBERS = """
members_once AS (SELECT DISTINCT member, role, method FROM members WHERE run_id = $study),
mine AS (SELECT m.role, r.* FROM members_once m JOIN runs r ON r.run_id = m.member WHERE r.status = 'done')
"""


def studies(db: DuckDBPyConnection) -> pd.DataFrame:
    """Every declared study, newest first; a study whose file was changed appears once per version.

    study str run_id | name str | title str | dataset str | model str | forget_share float, of what originals are trained on
    | started UTC | newest UTC, of its runs | command str | planned int cells | done int | failed int, cells that ended in a failure and have no result
    | diverged int, those of the failed that ended for good: the same cell would diverge again
    """
    return _ask(db, """
        WITH cells AS (
            SELECT m.run_id AS study, m.member, any_value(r.dataset) AS dataset, any_value(r.model) AS model,
                   max(CAST(r.cell ->> '$.data.forget_share' AS DOUBLE)) AS forget_share, coalesce(bool_or(r.status = 'done'), false) AS done,
                   coalesce(bool_or(r.status = 'diverged'), false) AS diverged, max(r.started) AS started
            FROM members m LEFT JOIN runs r ON r.run_id = m.member GROUP BY ALL),
        failures AS (SELECT DISTINCT split_part(run_id, '.failed-', 1) AS member FROM runs WHERE status <> 'done')
        SELECT s.run_id AS study, s.name, coalesce(nullif(s.title, ''), s.name) AS title,
               coalesce(any_value(own.dataset), any_value(c.dataset)) AS dataset,
               coalesce(any_value(own.model), any_value(c.model)) AS model,
               coalesce(max(c.forget_share), $usual) AS forget_share,
               any_value(own.started) AS started, max(c.started) FILTER (c.done) AS newest, any_value(own.command) AS command,
               count(c.member) AS planned, count(c.member) FILTER (c.done) AS done,
               count(c.member) FILTER (NOT c.done AND f.member IS NOT NULL) AS failed,
               count(c.member) FILTER (c.diverged) AS diverged
        FROM studies s LEFT JOIN runs own ON own.run_id = s.run_id LEFT JOIN cells c ON c.study = s.run_id
        LEFT JOIN failures f ON f.member = c.member
        GROUP BY s.run_id, s.name, s.title ORDER BY started DESC NULLS LAST, s.run_id""", {"usual": FORGET_SHARE})


def results(db: DuckDBPyConnection, *, study: str) -> pd.DataFrame:
    """What a study found: one row per (method, variant), the references included, with every metric of METRICS.

    method str | variant str | source str | seeds int, how many are done | params JSON
    | for each metric: <metric>, <metric>_lo, <metric>_hi. Means and 95 % t-intervals over seeds for SEED_METRICS, median
    and range of the repeats for TIME_METRICS, estimate and 95 % bootstrap interval over splits for ATTACK_METRICS (U-LiRA).
    """
    rows = _ask(db, f"""
        WITH {_MEMBERS},
        per_seed AS (
            SELECT method, variant, name, avg(value) AS value, stddev_samp(value) AS deviation, count(*) AS n,
                   NULL::DOUBLE AS lo, NULL::DOUBLE AS hi
            FROM mine JOIN metrics USING (run_id)
            WHERE role = 'seeds' AND kind IN ('original', 'retrained', 'unlearned') AND isfinite(value) GROUP BY ALL),
        single AS (
            SELECT method, variant, name, value, NULL::DOUBLE AS deviation, 1 AS n, lo, hi
            FROM mine JOIN metrics USING (run_id)
            WHERE (kind = 'timing' OR (kind = 'attack' AND attack = 'u_lira')) AND isfinite(value)
            QUALIFY row_number() OVER (PARTITION BY method, variant, name ORDER BY started DESC) = 1)
        FROM per_seed UNION ALL BY NAME FROM single""", {"study": study})
    heads = _ask(db, f"""
        WITH {_MEMBERS}
        SELECT method, variant, any_value(source) AS source,
               count(DISTINCT seed) FILTER (role = 'seeds' AND kind <> 'attack') AS seeds,
               arg_max(params, started) FILTER (kind = 'unlearned' AND role = 'seeds') AS params
        FROM mine WHERE kind IN ('original', 'retrained', 'unlearned', 'timing', 'attack')
        GROUP BY method, variant ORDER BY method, variant""", {"study": study})
    return _spread(heads, rows)


def seed_runs(db: DuckDBPyConnection, *, study: str) -> pd.DataFrame:
    """The models behind the means: one row per finished seed run of a study.

    dataset str | model str | method str | variant str | seed int | split int | forget int | run_id str | kind str
    | every metric of SEED_METRICS | started UTC | amortised_s | mode | executor | replicas | precision | device | threads | machine
    | commit | clean bool | command | params JSON
    """
    rows = _ask(db, f"""
        WITH {_MEMBERS}
        SELECT dataset, model, method, variant, seed, split, forget, run_id, kind, name, value, started, amortised_s, mode, executor, replicas,
               precision, device, threads, machine, "commit", clean, command, params
        FROM mine LEFT JOIN metrics USING (run_id)
        WHERE role = 'seeds' AND kind IN ('original', 'retrained', 'unlearned')
        ORDER BY method, variant, seed""", {"study": study})
    keys = [c for c in rows.columns if c not in ("name", "value")]
    if rows.empty:
        return rows[keys].assign(**{m: pd.Series(dtype=float) for m in SEED_METRICS})
    wide = rows.pivot_table(index="run_id", columns="name", values="value", aggfunc="first").reindex(columns=list(SEED_METRICS))
    return rows[keys].drop_duplicates("run_id").merge(wide, how="left", left_on="run_id", right_index=True).reset_index(drop=True)


def twins(db: DuckDBPyConnection, *, study: str) -> pd.DataFrame:
    """Second retrained models, where splits vary with the seed: what retraining's noise is in one split.

    split int | run_id str | retain_accuracy, forget_accuracy, test_accuracy float
    """
    return _ask(db, f"""
        WITH {_MEMBERS}
        SELECT split, run_id, max(value) FILTER (name = 'retain_accuracy') AS retain_accuracy,
               max(value) FILTER (name = 'forget_accuracy') AS forget_accuracy, max(value) FILTER (name = 'test_accuracy') AS test_accuracy
        FROM mine JOIN metrics USING (run_id) WHERE role = 'twin' GROUP BY split, run_id ORDER BY split""", {"study": study})


def other_runs(db: DuckDBPyConnection, *, study: str, method: str, variant: str) -> pd.DataFrame:
    """What else stands behind a method's row: its timing, its attack and its search.

    kind str | run_id str | attack str | started UTC | wall_s float | machine str | commit str | clean bool | command str
    """
    return _ask(db, f"""
        WITH {_MEMBERS}
        SELECT DISTINCT kind, run_id, attack, started, wall_s, machine, "commit", clean, command FROM mine
        WHERE method = $method AND kind IN ('timing', 'attack', 'search') AND variant = $variant
        ORDER BY kind, started""", {"study": study, "method": method, "variant": variant})


def trials(db: DuckDBPyConnection, *, study: str, method: str, variant: str = "corrected") -> pd.DataFrame:
    """The search that chose a method's setting: one row a trial, best first.

    trial int | params JSON | score float, smaller is better | status str | chosen bool | run_id str
    """
    return _ask(db, f"""
        WITH {_MEMBERS}
        SELECT t.trial, t.params, t.score, t.status, t.chosen, t.run_id FROM trials t JOIN mine ON mine.run_id = t.run_id
        WHERE mine.method = $method AND mine.variant = $variant ORDER BY t.score NULLS LAST, t.trial""",
                {"study": study, "method": method, "variant": variant})


def calibration(db: DuckDBPyConnection, *, study: str) -> pd.DataFrame:
    """Whether the attack itself can be believed: one row a check.

    method str, what was attacked | attack str | name str | outcome str passed | failed | too few models | value | lo | hi
    | bound str, in words | run_id str
    """
    return _ask(db, f"""
        WITH {_MEMBERS}
        SELECT DISTINCT mine.method, mine.attack, c.name, c.outcome, c.value, c.lo, c.hi, c.bound, c.run_id
        FROM calibration c JOIN mine ON mine.run_id = c.run_id ORDER BY c.name""", {"study": study})


def failures(db: DuckDBPyConnection, *, study: str) -> pd.DataFrame:
    """Cells of a study that ended in a failure and have no result yet: one row a cell, its last attempt.

    role str | kind str | method str | variant str | seed int | split int | status diverged | failed | error str
    | attempts int | run_id str, of the attempt | command str
    """
    return _ask(db, """
        WITH tried AS (
            SELECT m.role, m.member, r.* FROM members m JOIN runs r ON split_part(r.run_id, '.failed-', 1) = m.member
            WHERE m.run_id = $study)
        SELECT any_value(role) AS role, any_value(kind) AS kind, any_value(method) AS method, any_value(variant) AS variant,
               any_value(seed) AS seed, any_value(split) AS split, arg_max(status, started) AS status,
               arg_max(error, started) AS error, count(*) AS attempts, arg_max(run_id, started) AS run_id,
               any_value(command) AS command
        FROM tried GROUP BY member HAVING NOT bool_or(status = 'done') ORDER BY method, seed, split""", {"study": study})


def provenance(db: DuckDBPyConnection, *, study: str) -> pd.DataFrame:
    """Where a study's numbers come from: one row a kind of run.

    kind str | protocol str | runs int | seeds int | splits int | oldest UTC | newest UTC | hours float, of one process
    | dirty int, runs made with uncommitted changes | commits list | machines list | devices list | modes list
    """
    return _ask(db, f"""
        WITH {_MEMBERS}, once AS (SELECT DISTINCT ON (run_id) * FROM mine)
        SELECT kind, protocol, count(*) AS runs, count(DISTINCT seed) AS seeds, count(DISTINCT split) AS splits,
               min(started) AS oldest, max(started) AS newest, sum(amortised_s) / 3600 AS hours,
               count(*) FILTER (NOT clean) AS dirty, list(DISTINCT "commit") FILTER ("commit" IS NOT NULL) AS commits,
               list(DISTINCT machine) FILTER (machine IS NOT NULL) AS machines,
               list(DISTINCT device) FILTER (device IS NOT NULL) AS devices, list(DISTINCT mode) FILTER (mode IS NOT NULL) AS modes
        FROM once GROUP BY kind, protocol ORDER BY kind, protocol""", {"study": study})


def method_versions(db: DuckDBPyConnection, *, study: str) -> pd.DataFrame:
    """Which version of each method made its newest rows, to tell which are older than the method is now.

    method str | variant str | version float, NaN where the cell does not say
    """
    rows = _ask(db, f"""
        WITH {_MEMBERS}
        SELECT method, variant, arg_max(cell, started) AS cell FROM mine
        WHERE role = 'seeds' AND kind = 'unlearned' GROUP BY ALL ORDER BY ALL""", {"study": study})
    versions = [json.loads(cell or "{}").get("versions", {}).get("method") for cell in rows["cell"]]
    return rows[["method", "variant"]].assign(version=pd.to_numeric(pd.Series(versions, index=rows.index, dtype=object)))


def catalogue(shipped: Path, home: Path) -> dict[str, Any]:
    """What exists (methods, datasets, models, attacks, scenarios), as the engine last published it: lists of plain mappings.

    The one under `home` wins over the shipped one. Both missing: all lists empty. Raises: StoreError when it is damaged.
    """
    empty: dict[str, Any] = {"methods": [], "datasets": [], "models": [], "attacks": [], "scenarios": []}
    for path in (home / "catalogue.json", shipped):
        if not path.exists():
            continue
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise StoreError(f"{path}: cannot be read ({error}). Delete it: the next engine command writes it again.") from error
        if not isinstance(found, dict):
            raise StoreError(f"{path}: not a catalogue. Delete it: the next engine command writes it again.")
        return {**empty, **found}
    return empty


def _spread(heads: pd.DataFrame, rows: pd.DataFrame) -> pd.DataFrame:
    """One row per (method, variant) with three columns a metric, from one row per (method, variant, metric)."""
    cells: dict[tuple[str, str], dict[str, float]] = {}
    for row in rows.to_dict("records"):
        lo, hi = (row["lo"], row["hi"]) if pd.isna(row["deviation"]) else interval(row["value"], row["deviation"], row["n"])
        name = row["name"]
        cells.setdefault((row["method"], row["variant"]), {}).update({name: row["value"], f"{name}_lo": lo, f"{name}_hi": hi})
    columns = [f"{metric}{end}" for metric in METRICS for end in ("", "_lo", "_hi")]
    found = [cells.get(key, {}) for key in zip(heads["method"], heads["variant"], strict=True)]
    return pd.concat([heads, pd.DataFrame(found, columns=columns, index=heads.index, dtype=float)], axis=1)


def _ask(db: DuckDBPyConnection, sql: str, values: dict[str, Any]) -> pd.DataFrame:
    """Raises: StoreError, for a file that opened but cannot be read through."""
    try:
        return db.execute(sql, values).df()
    except duckdb.Error as error:
        raise StoreError(f"The results cannot be read: {str(error).splitlines()[0]}. `python -m engine doctor` says which file is "
                         "damaged; `python -m engine ingest` builds the local one again from its run folders, and "
                         "`git checkout data/results.duckdb` restores the shipped one.") from error
