"""What the page Inside asks of the tables `confusion` and `embedding`: one function per question, as in `queries`.

Seeds are the unit, and models are paired by seed. Numbers come twice: over all seeds, and as `chosen` and `reported`, over every other seed each:
whoever picks the class or the confusion that changed most picks by the first and tells the second, which knows nothing of the choice.
"""

from typing import Any

import duckdb
import pandas as pd
from duckdb import DuckDBPyConnection

from engine.errors import StoreError
from engine.metrics.intervals import interval
from engine.metrics.procrustes import procrustes

_MINE = """
mine AS (
    SELECT DISTINCT r.run_id, r.kind, r.method, r.variant, r.seed, r.split FROM members m JOIN shown_runs r ON r.run_id = m.member
    WHERE m.run_id = $study AND m.role = 'seeds' AND r.status = 'done' AND r.kind IN ('original', 'retrained', 'unlearned'))
"""
# of one row a seed: column -> its mean, deviation and number over all, and over each half
_HALVES = """
    avg({0}) AS {0}, stddev_samp({0}) AS {0}_deviation, count({0}) AS {0}_n, avg({0}) FILTER (half = 0) AS chosen,
    avg({0}) FILTER (half = 1) AS reported, stddev_samp({0}) FILTER (half = 1) AS reported_deviation, count({0}) FILTER (half = 1) AS reported_n"""


def class_accuracies(db: DuckDBPyConnection, *, study: str, of: str) -> pd.DataFrame:
    """Accuracy of every method on each class of a set: one row per (method, variant, label), the references included.

    of: retain | forget | val | test
    method str | variant str | label int | seeds int | accuracy, accuracy_lo, accuracy_hi float, mean and 95 % t-interval over seeds
    | gap, gap_lo, gap_hi float, accuracy minus that of the retrained model of the same seed; NaN of retrained models
    | chosen, reported, reported_lo, reported_hi float, the same gap over one half of the seeds and over the other | reported_seeds int, of that one
    """
    rows = _ask(db, f"""
        WITH {_MINE},
        own AS (
            SELECT mine.*, label, CAST(coalesce(sum(count) FILTER (label = predicted), 0) / sum(count) AS DOUBLE) AS accuracy
            FROM confusion JOIN mine USING (run_id) WHERE "set" = $of GROUP BY ALL),
        held AS (
            SELECT o.*, o.accuracy - r.accuracy AS gap, (dense_rank() OVER (PARTITION BY o.method, o.variant ORDER BY o.seed, o.split) - 1) % 2 AS half
            FROM own o LEFT JOIN own r ON r.kind = 'retrained' AND o.kind <> 'retrained' AND r.label = o.label AND r.seed = o.seed
                AND r.split IS NOT DISTINCT FROM o.split)
        SELECT method, variant, label, count(*) AS seeds, avg(accuracy) AS accuracy, stddev_samp(accuracy) AS accuracy_deviation,
               count(accuracy) AS accuracy_n, {_HALVES.format("gap")}
        FROM held GROUP BY method, variant, label ORDER BY method, variant, label""", {"study": study, "of": of})
    return _with_intervals(rows, "accuracy", "gap", "reported")


def confusion_change(db: DuckDBPyConnection, *, study: str, of: str, method: str, variant: str) -> pd.DataFrame:
    """What a method takes for what, against the retrained models of the same seeds: one row for each pair of classes that occurs in either.

    A share is of the examples of the true class, so rows of one label add up to 1 (changes to 0).

    label int, true | predicted int | seeds int | before float, of retrained | after float, of the method | change, change_lo, change_hi float,
    after minus before with its 95 % t-interval: larger = taken for it more often | chosen, reported, reported_lo, reported_hi float, the
    change over one half of the seeds and over the other | reported_seeds int, of that one
    """
    rows = _ask(db, f"""
        WITH {_MINE},
        paired AS (
            SELECT m.run_id AS mine, r.run_id AS theirs, (row_number() OVER (ORDER BY m.seed, m.split) - 1) % 2 AS half
            FROM mine m JOIN mine r ON r.kind = 'retrained' AND r.seed = m.seed AND r.split IS NOT DISTINCT FROM m.split
            WHERE m.method = $method AND m.variant = $variant
                AND m.run_id IN (SELECT run_id FROM confusion) AND r.run_id IN (SELECT run_id FROM confusion)),
        shares AS (
            SELECT run_id, label, predicted, CAST(count / sum(count) OVER (PARTITION BY run_id, label) AS DOUBLE) AS share FROM confusion
            WHERE "set" = $of AND (run_id IN (SELECT mine FROM paired) OR run_id IN (SELECT theirs FROM paired))),
        pairs AS (SELECT DISTINCT label, predicted FROM shares),
        there AS (SELECT DISTINCT run_id, label FROM shares),
        held AS (
            SELECT p.label, p.predicted, half, coalesce(t.share, 0) AS before, coalesce(m.share, 0) AS after,
                   coalesce(m.share, 0) - coalesce(t.share, 0) AS change
            FROM paired JOIN there ON there.run_id = paired.theirs JOIN pairs p ON p.label = there.label
            LEFT JOIN shares m ON m.run_id = paired.mine AND m.label = p.label AND m.predicted = p.predicted
            LEFT JOIN shares t ON t.run_id = paired.theirs AND t.label = p.label AND t.predicted = p.predicted)
        SELECT label, predicted, count(*) AS seeds, avg(before) AS before, avg(after) AS after, {_HALVES.format("change")}
        FROM held GROUP BY label, predicted ORDER BY label, predicted""", {"study": study, "of": of, "method": method, "variant": variant})
    return _with_intervals(rows, "change", "reported")


def embedding(db: DuckDBPyConnection, *, study: str, seed: int, method: str, variant: str) -> pd.DataFrame:
    """Examples among the features of the original, the retrained and the unlearned model of one seed.

    All on the original's two first principal components but for the retrained model, which shares no axes with it: that one's points, on its
    own components, are shifted and turned or mirrored to lie as near as can be to the same retain and test examples of the original. It is left
    out where there is no original to lie on.

    method str | variant str | example int | set str retain | forget | test | label int | x, y float, in the features' own unit
    """
    rows = _ask(db, f"""
        WITH {_MINE}
        SELECT method, variant, example, "set", label, x, y FROM embedding JOIN mine USING (run_id)
        WHERE seed = $seed AND (kind <> 'unlearned' OR (method = $method AND variant = $variant)) ORDER BY method, variant, "set", example""",
                {"study": study, "seed": seed, "method": method, "variant": variant})
    original, retrained = rows["method"] == "original", rows["method"] == "retrained"
    if not original.any() or list(rows.loc[original, "example"]) != list(rows.loc[retrained, "example"]):
        return rows[~retrained].reset_index(drop=True)
    onto, given = (rows.loc[which, ["x", "y"]].to_numpy() for which in (original, retrained))
    rows.loc[retrained, ["x", "y"]] = procrustes(given, onto, (rows.loc[original, "set"] != "forget").to_numpy())
    return rows


def _with_intervals(rows: pd.DataFrame, *names: str) -> pd.DataFrame:
    """With `_lo` and `_hi` in the place of deviations and numbers."""
    for name in names:
        ends = [interval(row[name], row[f"{name}_deviation"], row[f"{name}_n"]) for row in rows.to_dict("records")]
        rows[f"{name}_lo"], rows[f"{name}_hi"] = [low for low, _ in ends], [high for _, high in ends]
    return rows.rename(columns={"reported_n": "reported_seeds"}).drop(columns=[f"{name}_deviation" for name in names] + [
        f"{name}_n" for name in names if name != "reported"])


def _ask(db: DuckDBPyConnection, sql: str, values: dict[str, Any]) -> pd.DataFrame:
    """Raises: StoreError, for a file that opened but cannot be read through."""
    try:
        return db.execute(sql, values).df()
    except duckdb.Error as error:
        raise StoreError(f"The results cannot be read: {str(error).splitlines()[0]}. `python -m engine doctor` says which file is damaged.") from error
