"""Classes, confusions and coordinates of a few invented models, counted by hand."""

from collections.abc import Iterator

import duckdb
import numpy as np
import pytest
from scipy import stats

from engine.store import ingest, insides, reader, records

Counts = dict[tuple[int, int], int]  # (label, predicted) -> examples
# by method and seed, of the test set: class 0 has ten examples, class 1 has four
MODELS: dict[tuple[str, int], Counts] = {
    ("retrained", 0): {(0, 0): 9, (0, 1): 1, (1, 1): 4}, ("retrained", 1): {(0, 0): 10, (1, 1): 3, (1, 0): 1},
    ("retrained", 2): {(0, 0): 10, (1, 1): 4}, ("original", 0): {(0, 0): 10, (1, 1): 4},
    ("ft", 0): {(0, 0): 7, (0, 1): 3, (1, 1): 4}, ("ft", 1): {(0, 0): 6, (0, 2): 4, (1, 1): 4}, ("ft", 2): {(0, 0): 8, (0, 1): 2, (1, 1): 2, (1, 0): 2},
}


def points(turned: float) -> list[dict[str, object]]:
    """Twelve examples of a model whose axes are turned by so many degrees; those to forget lie elsewhere where they are."""
    rng, a = np.random.default_rng(0), np.radians(turned)
    at = rng.normal(size=(12, 2)) + np.where(np.arange(12) < 4, 2 * (turned != 0), 0)[:, None]
    seen = at @ np.array([[np.cos(a), -np.sin(a)], [np.sin(a), np.cos(a)]]) + (5 if turned else 0)
    names = ["forget"] * 4 + ["retain"] * 4 + ["test"] * 4
    return [{"example": i, "set": name, "label": i % 2, "x": x, "y": y} for i, (name, (x, y)) in enumerate(zip(names, seen.tolist(), strict=True))]


@pytest.fixture
def db(home) -> Iterator[duckdb.DuckDBPyConnection]:
    def write(run_id: str, kind: str, more: dict[str, list[dict[str, object]]], **run: object) -> None:
        row = {"run_id": run_id, "kind": kind, "status": "done", "protocol": "seeds", "variant": "corrected", "started": "2026-11-21T10:00:00", **run}
        tables = {table: [{"run_id": run_id, **one} for one in rows] for table, rows in more.items()}
        records.write(home, records.Record(run_id, {"runs": [row], **tables}))

    for (method, seed), counts in MODELS.items():
        rows = [{"set": "test", "label": label, "predicted": predicted, "count": n} for (label, predicted), n in counts.items()]
        drawn = points({"retrained": 40.0}.get(method, 0.0)) if seed == 0 else []
        write(f"{method}-{seed}", method if method in ("original", "retrained") else "unlearned", {"confusion": rows, "embedding": drawn}, method=method,
              seed=seed)
    write("old", "unlearned", {}, method="ga", seed=0)
    write("alone", "retrained", {"embedding": points(40.0)}, method="retrained", seed=5)
    members = [{"member": name, "role": "seeds", "method": "x"} for name in ("old", "alone", *(f"{method}-{seed}" for method, seed in MODELS))]
    write("study", "study", {"members": members, "studies": [{"name": "s"}]}, method="study")
    ingest.ingest(home)
    with reader.open_results(None, home) as found:
        yield found


def test_class_accuracies_and_gaps_are_paired_by_seed(db) -> None:
    rows = {(row["method"], row["label"]): row for row in insides.class_accuracies(db, study="study", of="test").to_dict("records")}
    assert set(rows) == {(method, label) for method in ("ft", "original", "retrained") for label in (0, 1)}
    ft = rows["ft", 0]
    assert (ft["seeds"], ft["accuracy"]) == (3, pytest.approx(0.7))
    gaps = np.array([0.7 - 0.9, 0.6 - 1.0, 0.8 - 1.0])
    low, high = stats.t.interval(0.95, 2, gaps.mean(), stats.sem(gaps))
    assert (ft["gap"], ft["gap_lo"], ft["gap_hi"]) == pytest.approx((gaps.mean(), low, high), rel=1e-3)
    assert (ft["chosen"], ft["reported"]) == pytest.approx((-0.2, -0.4)) and np.isnan(ft["reported_lo"])  # seeds 0 and 2, and seed 1
    assert np.isnan(rows["retrained", 1]["gap"]) and rows["retrained", 1]["accuracy"] == pytest.approx(11 / 12)
    one = rows["original", 0]
    assert one["gap"] == pytest.approx(0.1) and np.isnan(one["gap_lo"]) and np.isnan(one["reported"])
    assert insides.class_accuracies(db, study="study", of="forget").empty


def test_confusions_that_one_side_lacks_count_as_none(db) -> None:
    rows = {(row["label"], row["predicted"]): row for row in
            insides.confusion_change(db, study="study", of="test", method="ft", variant="corrected").to_dict("records")}
    assert set(rows) == {(0, 0), (0, 1), (0, 2), (1, 0), (1, 1)} and {row["seeds"] for row in rows.values()} == {3}
    assert (rows[0, 1]["before"], rows[0, 1]["after"], rows[0, 1]["change"]) == pytest.approx((0.1 / 3, 0.5 / 3, 0.4 / 3))
    assert (rows[0, 2]["change"], rows[0, 2]["chosen"], rows[0, 2]["reported"]) == pytest.approx((0.4 / 3, 0, 0.4))
    assert rows[0, 1]["change_lo"] < rows[0, 1]["change"] < rows[0, 1]["change_hi"]
    for label in (0, 1):
        assert sum(row["change"] for (of, _), row in rows.items() if of == label) == pytest.approx(0)


def test_what_was_never_recorded_is_empty_with_its_columns(db) -> None:
    nothing = insides.confusion_change(db, study="study", of="test", method="ga", variant="corrected")
    assert nothing.empty and {"change", "change_lo", "reported_hi"} <= set(nothing.columns)
    empty = insides.class_accuracies(db, study="none", of="test")
    assert empty.empty and {"gap_lo", "reported", "accuracy_hi"} <= set(empty.columns)
    assert insides.embedding(db, study="study", seed=7, method="ft", variant="corrected").empty


def test_the_retrained_model_is_turned_by_what_neither_forgets_and_its_forget_examples_with_it(db) -> None:
    rows = insides.embedding(db, study="study", seed=0, method="ft", variant="corrected")
    at = {method: rows[rows["method"] == method].sort_values("example")[["x", "y"]].to_numpy() for method in ("original", "retrained", "ft")}
    assert len(rows) == 36 and list(rows["set"].unique()) == ["forget", "retain", "test"]
    np.testing.assert_allclose(at["ft"], at["original"])
    np.testing.assert_allclose(at["retrained"][4:], at["original"][4:], atol=1e-9)  # of points that lie alike the turn is found exactly
    np.testing.assert_allclose(at["retrained"][:4], at["original"][:4] + 2, atol=1e-9)  # and where forget lies elsewhere it stays elsewhere


def test_without_an_original_the_retrained_model_has_nothing_to_lie_on(db) -> None:
    assert insides.embedding(db, study="study", seed=5, method="ft", variant="corrected").empty
