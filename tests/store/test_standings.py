"""From answers of the store to standings: who counts, who failed, who waits, and what the cells say together. Frames made by hand."""

import subprocess
import sys
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import pytest

from engine.errors import BadInput
from engine.store import queries, ranks, standings
from engine.store.standings import Cell

NAN = float("nan")
STUDY = {"study": "s1", "dataset": "digits", "model": "cnn", "forget_share": 0.1, "done": 9}
RUNS = ["dataset", "model", "method", "variant", "seed", "split", "forget", "run_id"]
FAILURES = ["role", "kind", "method", "variant", "seed", "split", "status", "error", "attempts", "run_id", "command"]
Spec = Mapping[str, Any]


def made(methods: Mapping[str, Spec], *, seeds: int = 10, study: Spec = STUDY, failures: list[dict[str, Any]] | None = None,
         variant: str | None = None, splits: bool = False, twin: bool = False) -> Cell:
    """A cell whose models differ from retraining by what is said of each method: dev (Retention Deviation), mia, kept, ulira, rte, seeds."""
    rng = np.random.default_rng(0)
    runs, heads = [], []
    for name, spec in {"retrained": {}, "original": {"dev": 0.1, "mia": 0.6, "ulira": 0.7, "rte": NAN}, **methods}.items():
        method, _, kind = name.partition("/")
        for seed in range(spec.get("seeds", seeds)):
            noise = rng.normal(0, 0.001, 4)
            kept = spec.get("kept", 1.0)
            mia = spec.get("mia", 0.5) + (noise[3] if method == "retrained" else noise[3] / 2)  # well within retraining's
            row = dict.fromkeys(queries.SEED_METRICS, NAN)
            row |= {"retain_accuracy": 0.99 + noise[0], "forget_accuracy": 0.9 + noise[1], "test_accuracy": kept * (0.9 + noise[2]),
                    "test_retention": kept, "retention_deviation": 0.0 if method == "retrained" else spec.get("dev", 0.001) + abs(noise[0]),
                    "mia_test": mia, "indiscernibility": 1 - abs(2 * mia - 1), **spec.get("at", {}).get(seed, {})}
            runs.append({"dataset": study["dataset"], "model": study["model"], "method": method, "variant": kind or "corrected", "seed": seed,
                         "split": seed if splits else None, "forget": seed if splits else 0, "run_id": f"{name}-{seed}", **row})
        own = pd.DataFrame([run for run in runs if run["run_id"].startswith(f"{name}-")])
        means = {m: own[m].mean() if len(own) else NAN for m in queries.SEED_METRICS}
        ulira, rte = spec.get("ulira", 0.5), spec.get("rte", 10.0)
        heads.append({"method": method, "variant": kind or "corrected", "seeds": len(own), **means, "balanced_accuracy": ulira,
                      "balanced_accuracy_lo": ulira - 0.01, "balanced_accuracy_hi": ulira + 0.01, "rte": rte, "rte_lo": rte * 0.9, "rte_hi": rte * 1.1})
    columns = [*dict.fromkeys(["method", "variant", "seeds", *(f"{m}{end}" for m in queries.METRICS for end in ("", "_lo", "_hi"))])]
    results = pd.DataFrame(heads).reindex(columns=columns)
    models = pd.DataFrame(runs, columns=[*RUNS, *queries.SEED_METRICS])
    seconds = [{"split": seed, "run_id": f"twin-{seed}", "retain_accuracy": 0.99, "forget_accuracy": 0.9 + twin, "test_accuracy": 0.9}
               for seed, twin in enumerate(rng.normal(0, 0.002, seeds))]
    twins = pd.DataFrame(seconds if twin else [], columns=["split", "run_id", "retain_accuracy", "forget_accuracy", "test_accuracy"])
    return standings.cell(study, results, models, pd.DataFrame(failures or [], columns=FAILURES), twins, variant=variant)


def groups(cell: Cell, metric: str) -> dict[str, str | None]:
    return {entry.method: entry.group for entry in cell.table(metric).entries}


def failure(method: str, **more: Any) -> dict[str, Any]:
    return {"role": "seeds", "kind": "unlearned", "method": method, "variant": "corrected", "seed": 3, "status": "diverged",
            "error": "weights are not finite", **more}


def test_groups_ranks_and_numbers_of_a_cell() -> None:
    cell = made({"near": {}, "half": {"dev": 0.03, "mia": 0.53, "ulira": 0.57}, "far": {"dev": 0.09, "mia": 0.58, "ulira": 0.65}})
    for metric in ("retention_deviation", "indiscernibility", "mia_test", "balanced_accuracy"):
        assert groups(cell, metric) == {"near": "G1", "half": "G2", "far": "G3"}, metric
    table = cell.table("retention_deviation")
    assert [entry.rank for entry in table.entries] == [1, 2, 3] and table.seeds == 10 and table.note == "" and table.floor == 0 < table.limit < 0.01
    near, half, _ = table.entries
    assert near.mean == pytest.approx(np.mean(near.values)) and near.lo < near.mean < near.hi and len(near.values) == 10
    assert near.tied and not half.tied and half.p < 0.05 < near.p and half.above_lo > 0
    indiscernible = cell.table("indiscernibility")
    assert indiscernible.limit < indiscernible.floor < 1 and indiscernible.entries[2].above == pytest.approx(0.16, abs=0.01)
    assert cell.table("balanced_accuracy").entries[0].lo == pytest.approx(0.49)
    assert groups(cell, "test_accuracy") == {"near": None, "half": None, "far": None}  # no distance to retraining is defined for it
    assert [entry.method for entry in made({"slow": {"rte": 2}, "fast": {"rte": 50}}).table("rte").entries] == ["fast", "slow"]


def test_both_sides_of_one_half_are_equally_far() -> None:
    cell = made({"under": {"ulira": 0.42}, "over": {"ulira": 0.55}})
    under, over = (cell.table("balanced_accuracy").of((name, "corrected")) for name in ("under", "over"))
    assert under and over and over.rank == 1 and under.rank == 2


@pytest.mark.parametrize(("spec", "why"), [
    ({"at": {2: {"test_accuracy": NAN, "retention_deviation": NAN, "indiscernibility": NAN}}}, "a seed has no number"),
    ({"kept": 0.4}, "keeps 40 % of retraining's test accuracy")])
def test_what_makes_a_method_fail(spec: Spec, why: str) -> None:
    cell = made({"good": {}, "bad": spec})
    for metric in (*standings.JUDGED, "balanced_accuracy", "rte"):
        bad = cell.table(metric).of(("bad", "corrected"))
        assert bad and (bad.group, bad.rank, bad.tied, bad.why) == ("F", 2, False, why), metric
    assert not ranks.overall([cell])[0].consistent


def test_a_seed_that_diverged_or_crashed_fails_the_method() -> None:
    cell = made({"good": {}, "bad": {"seeds": 9}}, failures=[failure("bad"), failure("never"), failure("good", role="u_lira"),
                                                             failure("original", kind="original")])
    assert cell.failed == {("bad", "corrected"): "seed 3 diverged: weights are not finite", ("never", "corrected"): "seed 3 diverged: weights are not finite"}
    assert groups(cell, "retention_deviation") == {"good": "G1", "bad": "F", "never": "F"}
    assert [entry.rank for entry in cell.table("retention_deviation").entries] == [1, 2.5, 2.5]


def test_what_is_not_finished_waits() -> None:
    cell = made({"done": {}, "underway": {"seeds": 4}, "declared": {"seeds": 0}})
    assert cell.waiting == {("underway", "corrected"): 4, ("declared", "corrected"): 0} and list(cell.keys) == [("done", "corrected")]
    assert ("underway", "corrected") in standings.by_mean(cell, "retention_deviation")  # listed, not ranked


def test_few_seeds_say_so() -> None:
    table = made({name: {"dev": 0.02 * at} for at, name in enumerate("abcdef")}, seeds=4).table("retention_deviation")
    assert "With 4 seeds and 6 methods no two can be told apart" in table.note and "No test can reject" in table.note
    assert {entry.rank for entry in table.entries} == {3.5}
    one = made({"a": {}, "b": {}}, seeds=1).table("retention_deviation")
    assert "two or more seeds" in one.note and [entry.group for entry in one.entries] == [None, None]
    assert pd.isna(one.entries[0].lo) and pd.isna(one.limit)


def test_no_retrained_model_yet() -> None:
    cell = made({}, seeds=0)
    assert list(cell.keys) == [] and "No retrained model" in cell.table("retention_deviation").note and not cell.has("rte")


def test_variants_are_methods_of_their_own() -> None:
    methods: Mapping[str, Spec] = {"ft": {}, "ft/official": {"dev": 0.09}}
    assert list(made(methods).keys) == [("ft", "corrected"), ("ft", "official")]
    assert list(made(methods, variant="official").keys) == [("ft", "official")]
    assert standings.title(("ft", "official")) == "ft/official" and standings.title(("ft", "corrected")) == "ft"


def test_order_of_methods_does_not_matter() -> None:
    methods: dict[str, Spec] = {"a": {"dev": 0.02}, "b": {"dev": 0.0}, "c": {"dev": 0.09}}
    one, other = made(methods), made(dict(reversed(methods.items())))
    assert groups(one, "retention_deviation") == groups(other, "retention_deviation")


def test_what_the_intervals_cover() -> None:
    assert made({"a": {}}).varies == "initialisation only: weights and data order vary, split and forget set do not"
    assert made({"a": {}}, splits=True).varies == "split, forget set and initialisation"


def test_largest_study_of_each_dataset_model_and_share() -> None:
    studies = [{**STUDY, "study": "empty", "done": 0}, {**STUDY, "study": "new"}, {**STUDY, "study": "old"}, {**STUDY, "study": "deep", "model": "resnet18"},
               {**STUDY, "study": "lost", "dataset": NAN}]
    assert [row["study"] for row in standings.largest(studies)] == ["new", "deep"]
    assert [row["study"] for row in standings.largest(studies, "old")] == ["old", "deep"]
    fewer = {**STUDY, "study": "fewer", "forget_share": 0.05}
    assert [row["study"] for row in standings.largest([*studies, fewer])] == ["fewer", "new", "deep"]
    assert [row["study"] for row in standings.largest([*studies, {**STUDY, "study": "large", "done": 10}])] == ["large", "deep"]
    assert made({"a": {}}, study=fewer).name == "digits/cnn, 5 % forgotten"


def test_where_splits_vary_the_noise_is_that_of_two_retrained_models_of_one_split() -> None:
    methods = {"near": {"dev": 0.001}, "far": {"dev": 0.09}}
    without = made(methods, splits=True).table("retention_deviation")
    assert "second retrained models" in without.note and without.of(("near", "corrected")).group is None  # pyright: ignore[reportOptionalMemberAccess]
    table = made(methods, splits=True, twin=True).table("retention_deviation")
    assert {entry.method: entry.group for entry in table.entries} == {"near": "G1", "far": "G3"}
    assert table.floor == 0 < table.limit < 0.01


def test_pages_need_not_wait_for_it() -> None:
    """It is read by pages, which start in seconds and work where only their own libraries are installed."""
    code = "import sys, engine.store.standings; print(*{name.partition('.')[0] for name in sys.modules})"
    loaded = set(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split())
    assert "pandas" in loaded and not {"torch", "scipy", "jaxtyping", "sklearn"} & loaded


# ---- across cells


def cells(number: int, **methods: Spec) -> list[Cell]:
    return [made(methods, study={**STUDY, "study": f"s{i}", "model": f"m{i}"}) for i in range(number)]


def test_overall_counts_cells_and_averages_ranks() -> None:
    found = cells(3, good={}, leaky={"mia": 0.58, "ulira": 0.65, "rte": 40}, slow={"rte": 0.9})
    found.append(made({"good": {"mia": 0.58}, "leaky": {}, "slow": {}, "rare": {}}, study={**STUDY, "model": "m3"}))
    rows = {row.method: row for row in ranks.overall(found)}
    assert (rows["good"].within, rows["good"].cells, rows["good"].consistent) == (3, 4, False)  # 75 % of the cells
    assert (rows["slow"].within, rows["slow"].slower, rows["slow"].consistent) == (4, 3, False)
    assert (rows["rare"].cells, rows["rare"].consistent) == (1, True) and all(np.isnan(rank) for rank in rows["rare"].ranks.values())
    assert rows["leaky"].ranks["speed"] == pytest.approx((3 * 1 + 2) / 4) and rows["leaky"].ranks["privacy"] == pytest.approx((3 * 3 + 2) / 4)
    assert ranks.common(found) == [(name, "corrected") for name in ("good", "leaky", "slow")]


def test_score_follows_the_weights() -> None:
    rows = ranks.overall(cells(1, private={"rte": 2}, quick={"mia": 0.58, "ulira": 0.65, "rte": 40}))
    by_privacy, by_speed = (ranks.scored(rows, {"privacy": p, "accuracy": 0, "speed": s})[0] for p, s in ((1, 0), (1, 3)))
    assert by_privacy[0].method == "private" and by_privacy[1] == 1
    assert by_speed[0].method == "quick" and by_speed[1] == pytest.approx((2 + 3 * 1) / 4)
    with pytest.raises(BadInput, match="at least 0"):
        ranks.scored(rows, dict.fromkeys(ranks.GOALS, 0.0))


def test_privacy_is_by_the_cheap_attack_only_where_there_is_no_other() -> None:
    attacked, bare = cells(1, a={})[0], made({"a": {"ulira": NAN, "rte": NAN}})
    keys = [("a", "corrected")]
    assert [ranks.goal_metric(cell, "privacy", keys) for cell in (attacked, bare)] == ["balanced_accuracy", "indiscernibility"]
    assert ranks.goal_metric(bare, "speed", keys) is None
    (row,) = ranks.overall([bare])
    assert np.isnan(row.ranks["speed"]) and row.slower == 1 and not row.consistent  # not shown to be faster
    assert ranks.scored([row], dict.fromkeys(ranks.GOALS, 1.0))[0][1] == 1


def test_cells_are_compared_from_six_up() -> None:
    methods: dict[str, Spec] = {"a": {}, "b": {"dev": 0.03}, "c": {"dev": 0.06}}
    few, many = (ranks.compared(cells(number, **methods), "retention_deviation") for number in (5, 6))
    assert few.across is None and "5 cells are too few" in few.reason and few.cliques == []
    assert many.across is not None and many.across.average == pytest.approx([1, 2, 3]) and many.reason == "" and many.cells == 6
    assert many.cliques == [(0, 1), (1, 2)]  # critical difference 1.35


def test_a_failure_is_last_across_cells_too() -> None:
    found = ranks.compared(cells(6, a={"kept": 0.1}, b={}, c={"dev": 0.05}), "retention_deviation")
    assert found.across is not None and dict(zip(found.keys, found.across.average, strict=True))[("a", "corrected")] == 3


def test_nothing_at_all() -> None:
    assert ranks.overall([]) == [] and ranks.common([]) == [] and ranks.scored([], dict.fromkeys(ranks.GOALS, 1.0)) == []
    assert "two or more methods" in ranks.compared([], "retention_deviation").reason
