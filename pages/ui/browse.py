"""What one looks at on the Data page, as text for the URL: conditions on columns, and examples of queries. Pure functions."""

import json
from collections.abc import Mapping
from math import isfinite
from typing import Any

import pandas as pd

from engine.store import schema
from engine.store.tables import Where
from pages.ui import formats

Conditions = dict[str, Any]  # column -> values among which it is, a text that it holds, [low, high], or true / false

EXAMPLES = {
    "Means of a study": """SELECT r.method, r.variant, m.name, avg(m.value) AS mean, stddev_samp(m.value) AS deviation, count(*) AS seeds
FROM metrics m JOIN runs r USING (run_id)
WHERE r.study = 'digits-18' AND r.protocol = 'seeds' AND m.name IN ('test_accuracy', 'forget_accuracy')
GROUP BY ALL ORDER BY ALL""",
    "U-LiRA beside the population attack": """SELECT a.study, a.method, u.value AS u_lira, u.lo, u.hi,
       (SELECT avg(m.value) FROM metrics m JOIN runs r USING (run_id)
        WHERE r.method = a.method AND r.variant = a.variant AND r.study = a.study AND r.kind = 'unlearned' AND m.name = 'mia_test') AS population
FROM runs a JOIN metrics u USING (run_id)
WHERE a.kind = 'attack' AND a.attack = 'u_lira' AND u.name = 'balanced_accuracy' AND a.status = 'done'
ORDER BY abs(u.value - 0.5) DESC""",
    "The settings that searches chose": """SELECT r.study, r.method, t.trial, t.score, t.params
FROM trials t JOIN runs r USING (run_id)
WHERE t.chosen ORDER BY ALL""",
    "Everything that ended badly": """SELECT study, method, seed, split, status, error, command
FROM runs WHERE status <> 'done' ORDER BY study, method, seed""",
    "How long each method took": """SELECT dataset, model, method, count(*) AS models, sum(amortised_s) AS seconds, median(amortised_s) AS median_s
FROM runs WHERE kind IN ('original', 'retrained', 'unlearned')
GROUP BY ALL ORDER BY seconds DESC""",
    "Columns of a table": "DESCRIBE runs",
}


def kinds(table: str) -> dict[str, str]:
    """Columns of a table and how each is filtered: text | number | yes or no."""
    return {column: {"VARCHAR": "text", "BOOLEAN": "yes or no"}.get(kind, "number")
            for column, (kind, _) in schema.stored()[table].items() if kind != "TIMESTAMP"}


def read(text: str, table: str) -> Conditions | None:
    """Conditions as they stand in the URL; None where the text is none for this table."""
    try:
        given = json.loads(text or "{}")
    except ValueError:
        return None
    known = kinds(table)
    if not isinstance(given, dict) or not all(column in known and _fits(value, known[column]) for column, value in given.items()):
        return None
    return given


def written(conditions: Mapping[str, Any]) -> str:
    """For the URL; empty where there are none."""
    return json.dumps(conditions, ensure_ascii=False, separators=(",", ":")) if conditions else ""


def where(conditions: Mapping[str, Any]) -> Where:
    """For the questions of `engine.store.tables`."""
    made: list[tuple[str, str, Any]] = []
    for column, value in conditions.items():
        if isinstance(value, bool):
            made.append((column, "is", value))
        elif isinstance(value, str):
            made += [(column, "holds", value)] if value else []
        elif all(isinstance(one, str) for one in value):
            made += [(column, "in", tuple(value))] if value else []
        else:
            made += [(column, operator, end) for operator, end in zip((">=", "<="), value, strict=True) if end is not None]
    return tuple(made)


def described(table: str) -> pd.DataFrame:
    """The schema of a table: Column | Type | Meaning."""
    return pd.DataFrame([{"Column": column, "Type": kind, "Meaning": meaning} for column, (kind, meaning) in schema.stored()[table].items()])


def answer(sizes: Mapping[str, int], clean: int) -> str:
    """What there is to have. sizes: rows by table. clean: runs whose code is a commit without changes."""
    runs = sizes["runs"]
    if not runs:
        return "There is nothing to have yet: no run has finished."
    metrics = formats.counted(sizes["metrics"], "number")
    examples = formats.counted(sizes["examples"], "row on an example", "rows on single examples")
    made = "each" if clean == runs else f"{formats.number(clean, 'count')} of them"
    return (f"**Yes: {formats.counted(runs, 'run')} with {metrics} and {examples}**, to browse, to query and to take away as Parquet or CSV. Every row "
            f"names its run, and {made} can be made again from a commit: the command stands beside it.")


def _fits(value: Any, kind: str) -> bool:
    if kind == "yes or no":
        return isinstance(value, bool)
    if kind == "text":
        return isinstance(value, str) or (isinstance(value, list) and bool(value) and all(isinstance(one, str) for one in value))
    return isinstance(value, list) and len(value) == 2 and all(
        end is None or (isinstance(end, (int, float)) and not isinstance(end, bool) and isfinite(end)) for end in value)
