"""What a model is like inside: counted, projected and measured on models that are small or made on purpose, and recorded end to end."""

from pathlib import Path

import numpy as np
import pytest
import torch

from engine.data.loader import Splits
from engine.data.splits import DataSpec
from engine.jobs import insides as module
from engine.jobs.cells import Cell, Numeric
from engine.jobs.compute import Context, compute
from engine.jobs.insides import Inside, insides
from engine.jobs.measure import Others, outputs, seeds_outputs
from engine.jobs.study import make_cell
from engine.metrics.embedding import centre_auc, principal_axes
from engine.models.catalogue import get
from engine.models.live import live
from engine.models.stack import Stack
from engine.store import ingest, records
from engine.store.reader import open_results
from engine.train import Recipe
from tests.unlearn.small import colour_splits

SPEC = DataSpec("digits", "seeds", pool=200, forget=0)  # 17 to forget


def stack_of(*seeds: int) -> Stack:
    return Stack.build(get("cnn"), channels=1, classes=10, side=8, seeds=seeds)


def inside(stack: Stack, data: Splits, others: Others | None = None) -> list[Inside]:
    found = insides(stack, data, seeds_outputs(stack, data), others or Others(), [True] * stack.replicas)
    return [one for one in found if one is not None]


def points(of: Inside, name: str) -> np.ndarray:
    return np.array([[row["x"], row["y"]] for row in of.tables["embedding"] if row["set"] == name])


def features(stack: Stack, r: int, data: Splits, name: str) -> np.ndarray:
    """What goes into `fc`, by an ordinary module and for the whole split."""
    model, seen = stack[r].eval(), []
    model.fc.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    with torch.no_grad():
        for x, _ in data.ordered(name, 500):
            model(x[min(r, len(x) - 1)])
    return torch.cat(seen).double().numpy()


# ---- confusion


def test_confusion_counts_every_example_and_its_diagonal_is_the_accuracy() -> None:
    stack, data = stack_of(0, 1), Splits.of([SPEC, SPEC])
    for r, one in enumerate(inside(stack, data)):
        rows = one.tables["confusion"]
        assert all(row["count"] > 0 for row in rows) and len({(row["set"], row["label"], row["predicted"]) for row in rows}) == len(rows)
        for name in ("retain", "forget", "val", "test"):
            mine = [row for row in rows if row["set"] == name]
            assert sum(row["count"] for row in mine) == data.size(name)
            right = sum(row["count"] for row in mine if row["label"] == row["predicted"])
            assert right / data.size(name) == pytest.approx(outputs(stack, data, name).correct[r].mean())
            assert {row["label"] for row in mine} == set(data.labels(name)[r].tolist())


# ---- embedding


def test_coordinates_are_the_features_on_the_original_s_components_to_4_digits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SHOWN", 10_000)  # all of each
    stack, original, data = stack_of(2, 3), stack_of(0, 1), Splits.of([SPEC, SPEC])
    one = inside(stack, data, Others(original=original))[1]
    theirs, mine = ({name: features(of, 1, data, name) for name in module.SETS} for of in (original, stack))
    axes, everything = principal_axes(np.concatenate(list(theirs.values()))), np.concatenate(list(mine.values()))
    for name in module.SETS:
        found = {row["example"]: (row["x"], row["y"]) for row in one.tables["embedding"] if row["set"] == name}
        in_order = [found[example] for example in data.index(name)[1].tolist()]
        np.testing.assert_allclose(in_order, axes.project(mine[name]), rtol=1e-3, atol=1e-5)
    assert one.metrics["embedding_variance"] == pytest.approx(axes.variance(everything), rel=1e-4)
    assert one.metrics["embedding_auc"] == pytest.approx(centre_auc(mine["forget"], mine["test"], mine["retain"], data.labels("retain")[1].numpy()), abs=1e-3)


def test_a_retrained_model_has_axes_of_its_own_and_an_unlearned_one_that_is_the_original_still_lies_on_it() -> None:
    stack, data = stack_of(0), Splits.of([SPEC])
    own, again = inside(stack, data)[0], inside(stack.copy(), data, Others(original=stack))[0]
    assert own.tables["embedding"] == again.tables["embedding"] and own.metrics["embedding_variance"] == again.metrics["embedding_variance"]
    everything = np.concatenate([points(own, name) for name in module.SETS])
    np.testing.assert_allclose(everything.mean(0), 0, atol=1e-3)
    assert everything.var(0)[0] > everything.var(0)[1]


def test_the_sample_is_of_each_set_at_most_so_many_drawn_once_for_a_split(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SHOWN", 12)
    specs = [SPEC, DataSpec("digits", "seeds", pool=200, forget=0, split=7)]
    data, once = Splits.of(specs), Splits.of([SPEC])
    first, second = ([(row["set"], row["example"], row["label"]) for row in one.tables["embedding"]] for one in inside(stack_of(0, 1), data))
    (other,) = ([(row["set"], row["example"], row["label"]) for row in one.tables["embedding"]] for one in inside(stack_of(5), once))
    assert first == other and first != second and len(first) == 36
    for r, sample in enumerate((first, second)):
        for name in module.SETS:
            where = dict(zip(data.index(name)[r].tolist(), data.labels(name)[r].tolist(), strict=True))
            mine = [(example, label) for of, example, label in sample if of == name]
            assert len(mine) == 12 and all(where[example] == label for example, label in mine)


def test_a_diverged_model_has_nothing_and_the_others_theirs() -> None:
    stack, data = stack_of(0, 1), Splits.of([SPEC, SPEC])
    with torch.no_grad():
        next(iter(stack.params.values()))[1] = torch.nan
    first, second = insides(stack, data, seeds_outputs(stack, data), Others(original=stack_of(0, 1)), [True, False])
    assert second is None and first is not None and np.isfinite([first.metrics[f"embedding_{name}"] for name in ("auc", "variance")]).all()


# ---- weights


def test_dead_and_live_weights_of_the_study_s_resnet_are_told_apart() -> None:
    original, data = Stack.build(get("resnet18"), channels=3, classes=3, side=32, seeds=[0]), colour_splits(test=6)
    alive, stack = live(get("resnet18"), channels=3, classes=3, side=32), original.copy()
    with torch.no_grad():
        for name, p in stack.params.items():
            p[:, ~alive[name]] *= 1.5  # half of it again, where no output can tell
        stack.params["layer2.0.conv1.weight"] *= 0.75
    found = inside(stack, data, Others(original=original))[0].metrics
    assert found["moved_dead"] == pytest.approx(0.5) and 0 < found["moved_live"] < 0.25
    assert [found[f"moved_{part}"] for part in ("stem", "block1", "block3", "block4", "head")] == [0] * 5 and 0 < found["moved_block2"] < 0.25


def test_the_original_has_not_moved_and_tells_how_far_the_retrained_model_is() -> None:
    original, retrained, data = stack_of(0, 1), stack_of(2, 3), Splits.of([SPEC, SPEC])
    found = inside(original, data, Others(retrained, original=original))[1].metrics
    other = inside(retrained, data, Others(original=original))[1].metrics
    parts = {"live", "block1", "block2", "block3", "head", "dead", "stem"}
    assert {name.removeprefix("moved_") for name in other if name.startswith("moved_")} == parts
    for part in parts - {"dead", "stem"}:  # of which the small CNN has none
        assert found[f"moved_{part}"] == 0 and found[f"retrained/moved_{part}"] == other[f"moved_{part}"] > 0.5
    assert np.isnan(other["moved_dead"]) and np.isnan(other["moved_stem"])


# ---- all the way


def test_records_hold_them_and_the_store_takes_them(tmp_path: Path) -> None:
    def cell(method: str) -> Cell:
        return make_cell(SPEC, "cnn", method, seed=0, recipe=Recipe(epochs=1, batch=32), numeric=Numeric())

    def made(method: str, **context: object) -> records.Record:
        record, = compute([cell(method)], Context(tmp_path, **context))  # type: ignore[arg-type]
        return record

    retrained = made("retrained")
    metrics = {row["name"]: row["value"] for row in retrained.tables["metrics"]}
    assert {"embedding_variance", "embedding_auc"} <= metrics.keys() and not [name for name in metrics if "moved" in name]
    of = {"retrained": retrained} | {method: made(method, references={cell("retrained").run_id: metrics}) for method in ("original", "ga")}
    for method, record in of.items():
        found = {row["name"]: row["value"] for row in record.tables["metrics"]}
        counts = [row for row in record.tables["confusion"] if row["set"] == "test"]
        assert sum(row["count"] for row in counts if row["label"] == row["predicted"]) == pytest.approx(found["test_accuracy"] * 297), method
        assert len(record.tables["embedding"]) == 150 + 17 + 150, method
    assert ingest.ingest(tmp_path).refused == []
    with open_results(None, tmp_path) as db:
        assert db.execute("SELECT method, count(*) FROM embedding JOIN runs USING (run_id) GROUP BY ALL ORDER BY ALL").fetchall() == [
            (method, len(of[method].tables["embedding"])) for method in ("ga", "original", "retrained")]
        assert db.execute("SELECT sum(count) FROM confusion WHERE \"set\" = 'val'").fetchall() == [(3 * 30,)]
        assert db.execute("SELECT name FROM metrics JOIN runs USING (run_id) WHERE method = 'original' AND name LIKE 'retrained/moved%' ORDER BY ALL"
                          ).fetchall() == [(f"retrained/moved_{part}",) for part in ("block1", "block2", "block3", "head", "live")]
