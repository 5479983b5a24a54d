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
                "population/all/logistic/auc", "population/all/boosting/auc", "population/surer", "population_val/all/logistic/auc",
                "population_val/all/boosting/auc", "population_val/surer",
                "js_forget", "js_test", "activation_distance_forget", "agreement_forget", "agreement_test", "zrf", "weight_distance",
                "relative_weight_distance", "cka_block1", "cka_block2", "cka_block3", "cka_block4", "cka_logits", "relearn_epochs", "relearn_reached",
                "embedding_auc", "embedding_variance", "moved_live", "moved_dead", "moved_stem", "moved_block1", "moved_block2", "moved_block3",
                "moved_block4", "moved_head")
TIME_METRICS = ("unlearn_s", "retrain_s", "rte")
ATTACK_METRICS = ("balanced_accuracy", "auc", "tpr_at_fpr_0.1", "tpr_at_fpr_0.01", "tpr_at_fpr_0.001",
                  "shift", "n_models", "n_splits", "n_examples")
METRICS = (*SEED_METRICS, *TIME_METRICS, *ATTACK_METRICS)
REFERENCES = ("retrained", "original")
# how metrics say that a model is like the retrained one: at 0, at 1, or at that one's own value
_APART = ["js_forget", "js_test", "activation_distance_forget", "weight_distance", "relative_weight_distance"]
_ALIKE = ["agreement_forget", "agreement_test", "cka_block1", "cka_block2", "cka_block3", "cka_block4", "cka_logits"]
_AS_RETRAINED = ["retain_accuracy", "forget_accuracy", "val_accuracy", "test_accuracy", "zrf", "relearn_epochs", "embedding_auc"]
CURVE_POINTS = 100  # of `curves`, about
FORGET_SHARE = 0.1  # of cells that do not name one: see engine.data.splits, which needs more than pages may load


def _shown(study: str | None) -> str:
    """Of a study, or of each, what is done and not just a model that an attack or a search has looked at: those are nearly all."""
    return f"""
mine AS (
    SELECT m.study, m.role, r.* EXCLUDE (study)
    FROM (SELECT DISTINCT run_id AS study, member, role FROM members WHERE role NOT IN ('u_lira', 'tuning'){"" if study is None else " AND run_id = $study"}) m
    JOIN shown_runs r ON r.run_id = m.member WHERE r.status = 'done')
"""


def _measured(study: str | None) -> str:
    """The same, and their metrics. What is known of a retrained model only once there is an original lies in the original's record, as
    retrained/<name>."""
    return _shown(study) + """,
own AS (SELECT study, run_id, name, value FROM shown_metrics JOIN (SELECT DISTINCT study, run_id FROM mine) USING (run_id)),
measured AS (
    FROM own WHERE NOT starts_with(name, 'retrained/')
    UNION ALL
    SELECT r.study, r.run_id, substr(name, 11), value FROM mine o JOIN own USING (study, run_id)
    JOIN mine r ON r.study = o.study AND r.kind = 'retrained' AND r.role = 'seeds' AND r.seed = o.seed AND r.split IS NOT DISTINCT FROM o.split
    WHERE o.kind = 'original' AND o.role = 'seeds' AND starts_with(name, 'retrained/'))
"""


def _attacks(study: str | None) -> str:
    """The same, and of them the newest run of each attack."""
    return _shown(study) + """,
attacks AS (
    FROM mine WHERE kind = 'attack'
    QUALIFY row_number() OVER (PARTITION BY study, method, variant, attack ORDER BY started DESC, run_id) = 1)
"""


_SHOWN, _ATTACKS = _shown("one"), _attacks("one")


def studies(db: DuckDBPyConnection) -> pd.DataFrame:
    """Every declared study, newest first; a study whose file was changed appears once per version.

    study str run_id | name str | title str | dataset str | model str | forget_share float, of what originals are trained on
    | started UTC | newest UTC, of its runs | command str | planned int cells | done int | failed int, cells that ended in a failure and have no result
    | diverged int, those of the failed that ended for good: the same cell would diverge again
    """
    return _ask(db, """
        WITH cells AS (
            SELECT m.run_id AS study, m.member, any_value(r.dataset) AS dataset, any_value(r.model) AS model,
                   coalesce(bool_or(r.status = 'done'), false) AS done, coalesce(bool_or(r.status = 'diverged'), false) AS diverged,
                   max(r.started) AS started
            FROM members m LEFT JOIN runs r ON r.run_id = m.member GROUP BY ALL),
        failures AS (SELECT DISTINCT split_part(run_id, '.failed-', 1) AS member FROM runs WHERE status <> 'done'),
        few AS (SELECT m.run_id AS study, max(r.forget_share) AS share FROM members m JOIN shown_runs r ON r.run_id = m.member
                WHERE m.role = 'seeds' GROUP BY m.run_id),
        many AS (SELECT m.run_id AS study, max(CAST(r.cell ->> '$.data.forget_share' AS DOUBLE)) AS share FROM members m JOIN runs r ON r.run_id = m.member
                 WHERE m.run_id NOT IN (SELECT study FROM few) GROUP BY m.run_id),  -- of studies without seeds
        shares AS (FROM few UNION ALL FROM many)
        SELECT s.run_id AS study, s.name, coalesce(nullif(s.title, ''), s.name) AS title,
               coalesce(any_value(own.dataset), any_value(c.dataset)) AS dataset,
               coalesce(any_value(own.model), any_value(c.model)) AS model,
               coalesce(any_value(shares.share), $usual) AS forget_share,
               any_value(own.started) AS started, max(c.started) FILTER (c.done) AS newest, any_value(own.command) AS command,
               count(c.member) AS planned, count(c.member) FILTER (c.done) AS done,
               count(c.member) FILTER (NOT c.done AND f.member IS NOT NULL) AS failed,
               count(c.member) FILTER (c.diverged) AS diverged
        FROM studies s LEFT JOIN shown_runs own ON own.run_id = s.run_id LEFT JOIN cells c ON c.study = s.run_id
        LEFT JOIN failures f ON f.member = c.member LEFT JOIN shares ON shares.study = s.run_id
        GROUP BY s.run_id, s.name, s.title ORDER BY started DESC NULLS LAST, s.run_id""", {"usual": FORGET_SHARE})


def results(db: DuckDBPyConnection, *, study: str | None = None) -> pd.DataFrame:
    """What a study found: one row per (method, variant), the references included, with every metric of METRICS.

    method str | variant str | source str | seeds int, how many are done | params JSON
    | for each metric: <metric>, <metric>_lo, <metric>_hi. Means and 95 % t-intervals over seeds for SEED_METRICS, median
    and range of the repeats for TIME_METRICS, estimate and 95 % bootstrap interval over splits for ATTACK_METRICS (U-LiRA).
    study: see EVERYWHERE.
    """
    rows = _ask(db, f"""
        WITH {_measured(study)},
        per_seed AS (
            SELECT study, method, variant, name, avg(value) AS value, stddev_samp(value) AS deviation, count(*) AS n,
                   NULL::DOUBLE AS lo, NULL::DOUBLE AS hi
            FROM mine JOIN measured USING (study, run_id)
            WHERE role = 'seeds' AND kind IN ('original', 'retrained', 'unlearned') AND isfinite(value) GROUP BY ALL),
        single AS (
            SELECT study, method, variant, name, value, NULL::DOUBLE AS deviation, 1 AS n, lo, hi
            FROM mine JOIN shown_metrics USING (run_id)
            WHERE (kind = 'timing' OR (kind = 'attack' AND attack = 'u_lira')) AND isfinite(value)
            QUALIFY row_number() OVER (PARTITION BY study, method, variant, name ORDER BY started DESC) = 1)
        FROM per_seed UNION ALL BY NAME FROM single""", _given(study))
    heads = _ask(db, f"""
        WITH {_shown(study)}
        SELECT study, method, variant, any_value(source) AS source,
               count(DISTINCT seed) FILTER (role = 'seeds' AND kind <> 'attack') AS seeds,
               arg_max(params, started) FILTER (kind = 'unlearned' AND role = 'seeds') AS params
        FROM mine WHERE kind IN ('original', 'retrained', 'unlearned', 'timing', 'attack')
        GROUP BY study, method, variant ORDER BY study, method, variant""", _given(study))
    return _one(_spread(heads, rows), study)


def seed_runs(db: DuckDBPyConnection, *, study: str | None = None) -> pd.DataFrame:
    """The models behind the means: one row per finished seed run of a study.

    dataset str | model str | method str | variant str | seed int | split int | forget int | run_id str | kind str
    | every metric of SEED_METRICS | started UTC | amortised_s | mode | executor | replicas | precision | device | threads | machine
    | commit | clean bool | command | params JSON. study: see EVERYWHERE.
    """
    heads = _ask(db, f"""
        WITH {_shown(study)}
        SELECT DISTINCT ON (study, run_id) study, dataset, model, method, variant, seed, split, forget, run_id, kind, started, amortised_s, mode,
               executor, replicas, precision, device, threads, machine, "commit", clean, command, params
        FROM mine WHERE role = 'seeds' AND kind IN ('original', 'retrained', 'unlearned')
        ORDER BY study, method, variant, seed, run_id""", _given(study))
    values = _ask(db, f"WITH {_measured(study)} PIVOT measured ON name IN {SEED_METRICS} USING any_value(value) GROUP BY study, run_id", _given(study))
    return _one(heads.merge(values, how="left", on=["study", "run_id"]), study)


def twins(db: DuckDBPyConnection, *, study: str | None = None) -> pd.DataFrame:
    """Second retrained models, where splits vary with the seed: what retraining's noise is in one split.

    split int | run_id str | retain_accuracy, forget_accuracy, test_accuracy float. study: see EVERYWHERE.
    """
    return _one(_ask(db, f"""
        WITH {_shown(study)}
        SELECT study, split, run_id, max(value) FILTER (name = 'retain_accuracy') AS retain_accuracy,
               max(value) FILTER (name = 'forget_accuracy') AS forget_accuracy, max(value) FILTER (name = 'test_accuracy') AS test_accuracy
        FROM mine JOIN shown_metrics USING (run_id) WHERE role = 'twin' GROUP BY study, split, run_id ORDER BY study, split""", _given(study)), study)


def other_runs(db: DuckDBPyConnection, *, study: str, method: str, variant: str) -> pd.DataFrame:
    """What else stands behind a method's row: its timing, its attack and its search.

    kind str | run_id str | attack str | started UTC | wall_s float | machine str | commit str | clean bool | command str
    """
    return _ask(db, f"""
        WITH {_SHOWN}
        SELECT DISTINCT kind, run_id, attack, started, wall_s, machine, "commit", clean, command FROM mine
        WHERE method = $method AND kind IN ('timing', 'attack', 'search') AND variant = $variant
        ORDER BY kind, started""", {"study": study, "method": method, "variant": variant})


def trials(db: DuckDBPyConnection, *, study: str, method: str, variant: str = "corrected") -> pd.DataFrame:
    """The search that chose a method's setting: one row a trial, best first.

    trial int | params JSON | score float, smaller is better | status str | chosen bool | run_id str
    """
    return _ask(db, f"""
        WITH {_SHOWN}
        SELECT t.trial, t.params, t.score, t.status, t.chosen, t.run_id FROM trials t JOIN mine ON mine.run_id = t.run_id
        WHERE mine.method = $method AND mine.variant = $variant ORDER BY t.score NULLS LAST, t.trial""",
                {"study": study, "method": method, "variant": variant})


def calibration(db: DuckDBPyConnection, *, study: str | None = None) -> pd.DataFrame:
    """Whether the attack itself can be believed: one row a check.

    method str, what was attacked | attack str | name str | outcome str passed | failed | too few models | value | lo | hi
    | bound str, in words | run_id str. study: see EVERYWHERE.
    """
    return _one(_ask(db, f"""
        WITH {_shown(study)}
        SELECT DISTINCT mine.study, mine.method, mine.attack, c.name, c.outcome, c.value, c.lo, c.hi, c.bound, c.run_id
        FROM calibration c JOIN mine ON mine.run_id = c.run_id ORDER BY mine.study, c.name""", _given(study)), study)


def attacks(db: DuckDBPyConnection, *, study: str | None = None) -> pd.DataFrame:
    """Everything that the newest run of each attack found on each method's models: one row a number.

    method str | variant str | attack str | name str, None in the only row of an attack without numbers | value | lo | hi, 95 % interval
    | error str, why it has none | run_id str. study: see EVERYWHERE.
    """
    return _one(_ask(db, f"""
        WITH {_attacks(study)}
        SELECT study, method, variant, attack, m.name, m.value, m.lo, m.hi, error, attacks.run_id FROM attacks
        LEFT JOIN shown_metrics m USING (run_id)
        ORDER BY study, method, variant, attack, m.name""", _given(study)), study)


def curves(db: DuckDBPyConnection, *, study: str, attack: str) -> pd.DataFrame:
    """ROC curves of an attack, thinned to about CURVE_POINTS a method; nothing below the smallest rate that the models can support.

    method str | variant str | fpr float | tpr float, larger = more leaked | smallest_fpr float | run_id str
    """
    return _ask(db, f"""
        WITH {_ATTACKS}, points AS (
            SELECT a.method, a.variant, r.fpr, r.tpr, coalesce(s.value, min(r.fpr) OVER whole) AS smallest_fpr, a.run_id,
                   row_number() OVER (whole ORDER BY r.fpr) - 1 AS place, count(*) OVER whole AS n
            FROM attacks a JOIN roc r USING (run_id) LEFT JOIN shown_metrics s ON s.run_id = a.run_id AND s.name = 'smallest_fpr'
            WHERE a.attack = $attack WINDOW whole AS (PARTITION BY a.run_id))
        SELECT method, variant, fpr, tpr, smallest_fpr, run_id FROM points
        WHERE fpr >= smallest_fpr AND (place % greatest(n // $most, 1) = 0 OR place = n - 1)
        ORDER BY method, variant, fpr""", {"study": study, "attack": attack, "most": CURVE_POINTS})


def spread(db: DuckDBPyConnection, *, study: str) -> pd.DataFrame:
    """How U-LiRA's balanced accuracy is spread over examples: one row a method and bin that has any.

    method str | variant str | bin int, of `schema.BINS`, each 1 / BINS wide | examples int
    """
    return _ask(db, f"""
        WITH {_ATTACKS}
        SELECT method, variant, bin, examples FROM attacks JOIN example_bins USING (run_id) WHERE attack = 'u_lira'
        ORDER BY ALL""", {"study": study})


def exposed(db: DuckDBPyConnection, *, study: str, method: str, variant: str) -> pd.DataFrame:
    """The most exposed examples of a method: chosen on one half of the splits, in the order of that half, reported on the other.

    example int | label int | halves int, 1 or 2, that chose it | chosen float, balanced accuracy where it was chosen, where noise alone
    looks exposed | reported float, on the other half; both are means where both halves chose it | all_splits, retrained float, U-LiRA's of this method's
    and of retrained models over all splits | mu_forgotten, sigma_forgotten, mu_never, sigma_never, nats | n_forgotten, n_never int
    | the last six again as retrained_<name>
    """
    worlds = ("mu_forgotten", "sigma_forgotten", "mu_never", "sigma_never", "n_forgotten", "n_never")
    return _ask(db, f"""
        WITH {_ATTACKS},
        listed AS (
            SELECT example, any_value(label) AS label, count(*) AS halves, avg(chosen) AS chosen, avg(balanced_accuracy) AS reported
            FROM examples JOIN attacks USING (run_id)
            WHERE attack = 'exposure' AND method = $method AND variant = $variant AND half IS NOT NULL GROUP BY example),
        scored AS (
            SELECT e.*, method, variant FROM examples e JOIN attacks USING (run_id)
            WHERE attack = 'u_lira' AND ((method = $method AND variant = $variant) OR method = 'retrained') AND e.example IN (SELECT example FROM listed))
        SELECT l.*, mine.balanced_accuracy AS all_splits, r.balanced_accuracy AS retrained,
               {", ".join(f"mine.{name}" for name in worlds)}, {", ".join(f"r.{name} AS retrained_{name}" for name in worlds)}
        FROM listed l LEFT JOIN scored mine ON mine.example = l.example AND mine.method = $method AND mine.variant = $variant
        LEFT JOIN scored r ON r.example = l.example AND r.method = 'retrained'
        ORDER BY chosen DESC, halves DESC, l.example""", {"study": study, "method": method, "variant": variant})


def listed(db: DuckDBPyConnection, *, study: str) -> pd.DataFrame:
    """Every example that is among the most exposed of any method.

    example int, each once
    """
    return _ask(db, f"""
        WITH {_ATTACKS}
        SELECT DISTINCT example FROM examples JOIN attacks USING (run_id) WHERE attack = 'exposure' AND half IS NOT NULL ORDER BY example""",
                {"study": study})


def failures(db: DuckDBPyConnection, *, study: str | None = None) -> pd.DataFrame:
    """Cells of a study that ended in a failure and have no result yet: one row a cell, its last attempt.

    role str | kind str | method str | variant str | seed int | split int | status diverged | failed | error str
    | attempts int | run_id str, of the attempt | command str. study: see EVERYWHERE.
    """
    where = "" if study is None else "WHERE m.run_id = $study"
    return _one(_ask(db, f"""
        WITH bad AS (SELECT * EXCLUDE (study), split_part(run_id, '.failed-', 1) AS member FROM runs WHERE status <> 'done'),
        done AS (SELECT run_id AS member FROM runs SEMI JOIN (SELECT DISTINCT member AS run_id FROM bad) USING (run_id) WHERE status = 'done'),
        tried AS (SELECT m.run_id AS study, m.role, bad.* FROM bad ANTI JOIN done USING (member) JOIN members m USING (member) {where})
        SELECT study, any_value(role) AS role, any_value(kind) AS kind, any_value(method) AS method, any_value(variant) AS variant,
               any_value(seed) AS seed, any_value(split) AS split, arg_max(status, started) AS status,
               arg_max(error, started) AS error, count(*) AS attempts, arg_max(run_id, started) AS run_id,
               any_value(command) AS command
        FROM tried GROUP BY study, member ORDER BY study, method, seed, split""", _given(study)), study)


def provenance(db: DuckDBPyConnection, *, study: str | None = None) -> pd.DataFrame:
    """Where a study's numbers come from: one row a kind of run.

    kind str | protocol str | runs int | seeds int | splits int | oldest UTC | newest UTC | hours float, of one process
    | dirty int, runs made with uncommitted changes | commits list | machines list | devices list | modes list. study: see EVERYWHERE.
    """
    where = "" if study is None else "WHERE run_id = $study"
    return _one(_ask(db, f"""
        WITH once AS (SELECT m.study, r.* EXCLUDE (study) FROM (SELECT DISTINCT run_id AS study, member FROM members {where}) m
                      JOIN runs r ON r.run_id = m.member WHERE status = 'done')
        SELECT study, kind, protocol, count(*) AS runs, count(DISTINCT seed) AS seeds, count(DISTINCT split) AS splits,
               min(started) AS oldest, max(started) AS newest, sum(amortised_s) / 3600 AS hours,
               count(*) FILTER (NOT clean) AS dirty, list(DISTINCT "commit") FILTER ("commit" IS NOT NULL) AS commits,
               list(DISTINCT machine) FILTER (machine IS NOT NULL) AS machines,
               list(DISTINCT device) FILTER (device IS NOT NULL) AS devices, list(DISTINCT mode) FILTER (mode IS NOT NULL) AS modes
        FROM once GROUP BY study, kind, protocol ORDER BY study, kind, protocol""", _given(study)), study)


def method_versions(db: DuckDBPyConnection, *, study: str | None = None) -> pd.DataFrame:
    """Which version of each method made its newest rows, to tell which are older than the method is now.

    method str | variant str | version float, NaN where the cell does not say. study: see EVERYWHERE.
    """
    return _one(_ask(db, f"""
        WITH {_shown(study)}
        SELECT study, method, variant, CAST(arg_max(version, started) AS DOUBLE) AS version FROM mine
        WHERE role = 'seeds' AND kind = 'unlearned' GROUP BY ALL ORDER BY ALL""", _given(study)), study)


def splits(db: DuckDBPyConnection) -> pd.DataFrame:
    """On how many splits the seeds of each study are: more than one where splits vary with the seed.

    study str | splits int, of retrained models that are done
    """
    return _ask(db, """
        SELECT m.run_id AS study, count(DISTINCT r.split) AS splits FROM members m JOIN shown_runs r ON r.run_id = m.member
        WHERE m.role = 'seeds' AND r.kind = 'retrained' AND r.status = 'done' GROUP BY m.run_id ORDER BY m.run_id""", {})


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


def searches(db: DuckDBPyConnection, *, study: str) -> pd.DataFrame:
    """The searches that a study declares, done or not.

    method str | variant str | run_id str | done bool | kind str grid | racing | deep_unlearn; None until it is done | command str
    """
    return _ask(db, """
        WITH declared AS (SELECT DISTINCT member, method FROM members WHERE run_id = $study AND role = 'search')
        SELECT coalesce(r.method, split_part(d.method, '/', 1)) AS method,
               coalesce(r.variant, nullif(split_part(d.method, '/', 2), ''), 'corrected') AS variant, d.member AS run_id,
               r.run_id IS NOT NULL AS done,
               CASE WHEN json_array_length(r.cell -> '$.candidates') > 0 THEN 'grid'  -- a list is tried whole, however others are searched
                    WHEN r.run_id IS NOT NULL THEN coalesce(r.cell ->> '$.how.kind', 'grid') END AS kind, r.command
        FROM declared d LEFT JOIN runs r ON r.run_id = d.member AND r.status = 'done' ORDER BY ALL""", {"study": study})


def all_trials(db: DuckDBPyConnection, *, study: str) -> pd.DataFrame:
    """Every trial of every search of a study, in the order in which they were made.

    run_id str, of the search | trial int | params JSON | score float, smaller is better, NaN unless done | parts JSON, by tuning split
    | status str done | stopped | diverged | chosen bool
    """
    return _ask(db, f"""
        WITH {_SHOWN}, found AS (SELECT DISTINCT run_id FROM mine WHERE kind = 'search')
        SELECT t.run_id, t.trial, t.params, t.score, t.parts, t.status, t.chosen FROM trials t JOIN found USING (run_id)
        ORDER BY t.run_id, t.trial""", {"study": study})


def tuning_twins(db: DuckDBPyConnection, *, study: str) -> pd.DataFrame:
    """Both retrained models of each tuning split that has a second one: what searches measure the noise of retraining by.

    split int | name str of a metric | value float, of the first | twin float, of the second
    """
    return _ask(db, """
        WITH mine AS (FROM runs WHERE status = 'done' AND kind = 'retrained'
                      AND run_id IN (SELECT member FROM members WHERE run_id = $study AND role = 'tuning')),
        retrained AS (SELECT run_id, split, seed, name, value FROM mine JOIN metrics USING (run_id) WHERE isfinite(value))
        SELECT a.split, a.name, a.value, b.value AS twin
        FROM retrained a JOIN retrained b ON b.split = a.split AND b.name = a.name AND b.seed > a.seed ORDER BY ALL""", {"study": study})


def nearer(db: DuckDBPyConnection, *, study: str) -> pd.DataFrame:
    """Whether unlearning moved models towards the retrained ones: one row per (method, variant, metric), paired by seed.

    A distance is from the retrained model of the same seed: of accuracies, ZRF and relearn time the absolute difference; of what is
    itself a comparison with that model (Jensen-Shannon, weights, agreement, CKA) how far it is from what that model has, 0 or 1.

    method str | variant str | metric str of SEED_METRICS | seeds int | before float, distance of the original | after float, of the method
    | gain, gain_lo, gain_hi float, before minus after with its 95 % t-interval over seeds: larger = moved nearer
    """
    rows = _ask(db, f"""
        WITH {_measured(study)},
        one AS (SELECT method, variant, kind, seed, split, name, value FROM mine JOIN measured USING (study, run_id)
                WHERE role = 'seeds' AND kind IN ('original', 'retrained', 'unlearned') AND name IN (SELECT unnest($names)) AND isfinite(value)),
        away AS (
            SELECT o.*, abs(o.value - CASE WHEN o.name IN (SELECT unnest($alike)) THEN 1 WHEN o.name IN (SELECT unnest($apart)) THEN 0
                                           ELSE r.value END) AS away
            FROM one o LEFT JOIN one r ON r.kind = 'retrained' AND r.name = o.name AND r.seed = o.seed AND r.split IS NOT DISTINCT FROM o.split)
        SELECT m.method, m.variant, m.name AS metric, count(*) AS seeds, avg(o.away) AS before, avg(m.away) AS after,
               avg(o.away - m.away) AS gain, stddev_samp(o.away - m.away) AS deviation
        FROM away m JOIN away o ON o.kind = 'original' AND o.name = m.name AND o.seed = m.seed AND o.split IS NOT DISTINCT FROM m.split
        WHERE m.kind = 'unlearned' AND m.away IS NOT NULL AND o.away IS NOT NULL
        GROUP BY ALL ORDER BY ALL""", {"study": study, "names": [*_APART, *_ALIKE, *_AS_RETRAINED], "apart": _APART, "alike": _ALIKE})
    ends = [interval(row["gain"], row["deviation"], row["seeds"]) for row in rows.to_dict("records")]
    return rows.drop(columns="deviation").assign(gain_lo=[low for low, _ in ends], gain_hi=[high for _, high in ends])


def _spread(heads: pd.DataFrame, rows: pd.DataFrame) -> pd.DataFrame:
    """One row per (study, method, variant) with three columns a metric, from one row per (study, method, variant, metric)."""
    names = ["study", "method", "variant", "name", "value", "lo", "hi", "deviation", "n"]
    cells: dict[tuple[str, str, str], dict[str, float]] = {}
    for study, method, variant, name, value, lo, hi, deviation, n in zip(*(rows[name].tolist() for name in names), strict=True):
        if not pd.isna(deviation):
            lo, hi = interval(value, deviation, n)
        cells.setdefault((study, method, variant), {}).update({name: value, f"{name}_lo": lo, f"{name}_hi": hi})
    columns = [f"{metric}{end}" for metric in METRICS for end in ("", "_lo", "_hi")]
    found = [cells.get(key, {}) for key in zip(heads["study"], heads["method"], heads["variant"], strict=True)]
    return pd.concat([heads, pd.DataFrame(found, columns=columns, index=heads.index, dtype=float)], axis=1)


def _given(study: str | None) -> dict[str, Any]:
    return {} if study is None else {"study": study}


def _one(rows: pd.DataFrame, study: str | None) -> pd.DataFrame:
    """Of one study, which needs not be said in every row."""
    return rows if study is None else rows.drop(columns="study")


# what pages ask of many studies: without `study` the answer holds every study's rows, each with its run_id as column `study` in front, for
# little more than one study's takes
EVERYWHERE = (results, seed_runs, twins, calibration, attacks, failures, provenance, method_versions)


def _ask(db: DuckDBPyConnection, sql: str, values: dict[str, Any]) -> pd.DataFrame:
    """Raises: StoreError, for a file that opened but cannot be read through."""
    try:
        return db.execute(sql, values).df()
    except duckdb.Error as error:
        raise StoreError(f"The results cannot be read: {str(error).splitlines()[0]}. `python -m engine doctor` says which file is "
                         "damaged; `python -m engine ingest` builds the local one again from its run folders, and "
                         "`git checkout data/results.duckdb` restores the shipped one.") from error
