"""The tables of the results store: one definition for writing, reading, checking and docs.

Everything that ran is a *run*: training an original or retrained model, unlearning, timing, an attack, a search, and the
declaration of a study itself. A run leaves one record (`records.py`); each of its rows, in whatever table, carries the
`run_id`, and the row of `runs` with that id is its provenance.
"""

VERSION = 3  # raise on any change below and add the step to MIGRATIONS

# table -> column -> (DuckDB type, what it means)
TABLES: dict[str, dict[str, tuple[str, str]]] = {
    "runs": {
        "run_id": ("VARCHAR", "hash of what the run is (its `cell`); primary key. A failed attempt ends in `.failed-<n>`"),
        "kind": ("VARCHAR", "original | retrained | unlearned | timing | attack | search | study"),
        "study": ("VARCHAR", "name of the study that first made it, or `rerun`"),
        "dataset": ("VARCHAR", "dataset name"),
        "model": ("VARCHAR", "architecture name"),
        "method": ("VARCHAR", "method name, or `original` / `retrained`; for an attack the method it attacks"),
        "variant": ("VARCHAR", "corrected | official"),
        "source": ("VARCHAR", "paper | code | reconstruction | reference"),
        "attack": ("VARCHAR", "attack name where kind is attack, else null"),
        "protocol": ("VARCHAR", "seeds (one split, many seeds) | u_lira (random halves of the pool) | tuning (splits never attacked)"),
        "seed": ("BIGINT", "seed of initial weights and data order"),
        "split": ("BIGINT", "number of the random half (u_lira, tuning); null: the study's fixed split"),
        "forget": ("BIGINT", "number of the forget set; null where there is none"),
        "params": ("VARCHAR", "JSON: hyper-parameters"),
        "cell": ("VARCHAR", "JSON: everything that run_id is the hash of"),
        "status": ("VARCHAR", "done | stopped (early, as hopeless) | diverged"),
        "error": ("VARCHAR", "what went wrong, or why an attack has no numbers; or null"),
        "mode": ("VARCHAR", "exact (loop) | fast (fused)"),
        "precision": ("VARCHAR", "fp32 | bf16 | fp64"),
        "device": ("VARCHAR", "cpu | cuda"),
        "executor": ("VARCHAR", "loop, one replica after the other; fused, products or compiled: all in one pass"),
        "replicas": ("BIGINT", "R of the stack it ran in"),
        "slot": ("BIGINT", "its place in that stack, from 0"),
        "threads": ("BIGINT", "threads of its process"),
        "started": ("TIMESTAMP", "UTC"),
        "wall_s": ("DOUBLE", "seconds of the whole stack"),
        "amortised_s": ("DOUBLE", "wall_s / replicas"),
        "command": ("VARCHAR", "the command that makes it again"),
        "commit": ("VARCHAR", "git commit, or null outside a checkout"),
        "clean": ("BOOLEAN", "no uncommitted change in the checkout"),
        "source_hash": ("VARCHAR", "hash of the file that defines the method or attack"),
        "machine": ("VARCHAR", "processor, cores, device"),
        "versions": ("VARCHAR", "JSON: library versions"),
    },
    "metrics": {
        "run_id": ("VARCHAR", ""),
        "name": ("VARCHAR", "metric name, e.g. test_accuracy, balanced_accuracy"),
        "value": ("DOUBLE", "full precision"),
        "lo": ("DOUBLE", "lower end of the 95 % interval, or null"),
        "hi": ("DOUBLE", "upper end, or null"),
    },
    "curves": {
        "run_id": ("VARCHAR", ""),
        "epoch": ("BIGINT", "from 0"),
        "name": ("VARCHAR", "what `run.log` called it, e.g. loss"),
        "value": ("DOUBLE", "mean over the epoch's steps"),
    },
    "confusion": {
        "run_id": ("VARCHAR", "a model of protocol `seeds`"),
        "set": ("VARCHAR", "retain | forget | val | test"),
        "label": ("BIGINT", "true class"),
        "predicted": ("BIGINT", "class with the largest logit"),
        "count": ("BIGINT", "examples; a pair that does not occur has no row"),
    },
    "embedding": {
        "run_id": ("VARCHAR", "a model of protocol `seeds`; one row an example of a sample that all models of a split share"),
        "example": ("BIGINT", "index into the dataset"),
        "set": ("VARCHAR", "retain | forget | test"),
        "label": ("BIGINT", "true class"),
        "x": ("DOUBLE", "penultimate features on the first principal component, 4 digits: the original's of the same seed; a retrained model's own"),
        "y": ("DOUBLE", "on the second"),
    },
    "roc": {
        "run_id": ("VARCHAR", "an attack"),
        "fpr": ("DOUBLE", "log-spaced, at most 500"),
        "tpr": ("DOUBLE", "larger = more leaked"),
    },
    "examples": {
        "run_id": ("VARCHAR", "an attack; one row an example"),
        "example": ("BIGINT", "index into the dataset"),
        "label": ("BIGINT", "true class"),
        "n_forgotten": ("BIGINT", "models of world `forgotten`"),
        "n_never": ("BIGINT", "models of world `never_seen`"),
        "mu_forgotten": ("DOUBLE", "mean phi"),
        "sigma_forgotten": ("DOUBLE", "deviation of phi, as the attack uses it"),
        "mu_never": ("DOUBLE", ""),
        "sigma_never": ("DOUBLE", ""),
        "balanced_accuracy": ("DOUBLE", "of the attack on this example, 1/2 = not exposed; null with under two models in a world"),
        "half": ("BIGINT", "attack `exposure`: the half of the splits, 0 or 1, on which it is among the most exposed; balanced_accuracy is on the other"),
        "chosen": ("DOUBLE", "attack `exposure`: balanced accuracy on that half, which flatters"),
    },
    "calibration": {
        "run_id": ("VARCHAR", "the attack that was checked"),
        "name": ("VARCHAR", "retrained_at_chance | original_has_power | planted_shift"),
        "outcome": ("VARCHAR", "passed | failed | too few models"),
        "value": ("DOUBLE", "measured"),
        "lo": ("DOUBLE", ""),
        "hi": ("DOUBLE", ""),
        "bound": ("VARCHAR", "what it must satisfy, in words with numbers"),
    },
    "trials": {
        "run_id": ("VARCHAR", "a search"),
        "trial": ("BIGINT", "from 0"),
        "params": ("VARCHAR", "JSON"),
        "score": ("DOUBLE", "smaller is better; null where it failed"),
        "parts": ("VARCHAR", "JSON: what the score is made of, per tuning split"),
        "status": ("VARCHAR", "done | stopped (early, as hopeless) | diverged"),
        "chosen": ("BOOLEAN", ""),
    },
    "studies": {
        "run_id": ("VARCHAR", "the study's own record"),
        "name": ("VARCHAR", ""),
        "title": ("VARCHAR", ""),
        "content": ("VARCHAR", "the YAML file, whole"),
    },
    "members": {
        "run_id": ("VARCHAR", "the study's own record"),
        "member": ("VARCHAR", "run_id of a cell that belongs to it, done or not yet"),
        "role": ("VARCHAR", "seeds | twin (a second retrained model of a seed's split) | u_lira | tuning | timing | attack | search"),
        "method": ("VARCHAR", ""),
    },
}

# the ingester's own table
INGESTED = {"run_id": ("VARCHAR", "a record that is in this file"), "sha256": ("VARCHAR", "of its record.json")}

# Tables that the ingester works out of the rows that it takes in, run by run, so that no page has to go through the models that only an
# attack or a search has looked at, or through every example: table -> (columns, rows of a file as SELECT; {at}: in front of its tables).
_FEW = "NOT (r.kind IN ('original', 'retrained', 'unlearned') AND coalesce(r.protocol, '') IN ('u_lira', 'tuning'))"
BINS = 40  # of example_bins, over balanced accuracies from 0 to 1
ROLLUPS: dict[str, tuple[dict[str, tuple[str, str]], str]] = {
    "shown_runs": (
        {name: column for name, column in TABLES["runs"].items() if name != "cell"}
        | {"version": ("BIGINT", "of the method, as `cell` has it"), "forget_share": ("DOUBLE", "as `cell` has it; null: the usual one")},
        "SELECT r.* EXCLUDE (cell), TRY_CAST(TRY_CAST(cell AS JSON) ->> '$.versions.method' AS BIGINT) AS version, "
        f"TRY_CAST(TRY_CAST(cell AS JSON) ->> '$.data.forget_share' AS DOUBLE) AS forget_share FROM {{at}}runs r WHERE {_FEW}"),
    "shown_metrics": (
        TABLES["metrics"],
        f"SELECT m.* FROM {{at}}metrics m JOIN {{at}}runs r USING (run_id) WHERE {_FEW}"),
    "example_bins": (
        {"run_id": TABLES["examples"]["run_id"], "bin": ("BIGINT", f"from 0 to {BINS - 1}, each 1/{BINS} wide"),
         "examples": ("BIGINT", "whose balanced accuracy is in it; a bin without any has no row")},
        f"SELECT run_id, least(CAST(floor(balanced_accuracy * {BINS}) AS BIGINT), {BINS - 1}) AS bin, count(*) AS examples "
        "FROM {at}examples r WHERE balanced_accuracy IS NOT NULL GROUP BY ALL"),
}

# version -> statements (unqualified table names) that bring a file of version - 1 up to it
MIGRATIONS: dict[int, list[str]] = {
    2: ["ALTER TABLE examples ADD COLUMN half BIGINT", "ALTER TABLE examples ADD COLUMN chosen DOUBLE"],
    3: ['CREATE TABLE confusion (run_id VARCHAR, "set" VARCHAR, label BIGINT, predicted BIGINT, count BIGINT)',
        'CREATE TABLE embedding (run_id VARCHAR, example BIGINT, "set" VARCHAR, label BIGINT, x DOUBLE, y DOUBLE)'],
}


def stored() -> dict[str, dict[str, tuple[str, str]]]:
    """Every table of a results file: those that records fill, and the ingester's own."""
    return {**TABLES, "ingested": INGESTED, **{table: columns for table, (columns, _) in ROLLUPS.items()}}


def create_statements(catalog: str) -> list[str]:
    """CREATE TABLE for every table of the present version in the attached database `catalog`, and its version row."""
    made = [f"CREATE TABLE {catalog}.meta (key VARCHAR PRIMARY KEY, value VARCHAR)",
            f"INSERT INTO {catalog}.meta VALUES ('schema_version', '{VERSION}')"]
    for table, columns in stored().items():
        body = ", ".join(f'"{name}" {kind}' + (" PRIMARY KEY" if name == "run_id" and table in ("runs", "ingested") else "")
                         for name, (kind, _) in columns.items())
        made.append(f"CREATE TABLE {catalog}.{table} ({body})")
    return made
