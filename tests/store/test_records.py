"""A record folder appears whole or not at all, and nothing unusable is ever written or read as if it were fine."""

import errno
import json
import math
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from engine.errors import RunError, StoreError
from engine.store import records, schema


def left_over(home: Path) -> list[str]:
    return [name for name in os.listdir(home / "runs") if name.startswith(".")]


def test_what_is_written_is_read_back(home, record):
    folder = records.write(home, record("a", value=1 / 3), files=lambda f: np.save(f / "phi.npy", np.zeros(5)))
    again = records.read(folder)
    assert again.tables == record("a", value=1 / 3).tables
    assert again.files == {"phi.npy": (folder / "phi.npy").stat().st_size}
    assert list(records.folders(home)) == [folder] and not left_over(home)


def test_numpy_scalars_are_stored_plain_and_missing_numbers_as_null(home, record):
    made = record("a", seed=np.int64(7), wall_s=np.float32(0.5), clean=np.bool_(False))
    made.tables["metrics"] += [{"run_id": "a", "name": "bad", "value": float("nan"), "lo": -math.inf, "hi": np.float64("nan")}]
    again = records.read(records.write(home, made)).tables
    assert [again["runs"][0][name] for name in ("seed", "wall_s", "clean")] == [7, 0.5, False]
    assert again["metrics"][-1] == {"run_id": "a", "name": "bad", "value": None, "lo": None, "hi": None}


@pytest.mark.parametrize(("column", "value"), [
    ("seed", 1.5), ("seed", True), ("seed", 2**63), ("seed", "1"), ("wall_s", "1"), ("wall_s", True), ("clean", 1), ("method", 3),
    ("method", "\ud800"), ("params", {"lr": 1}), ("started", "yesterday"), ("started", 12.0), ("mood", "good")])
def test_a_value_that_its_column_cannot_hold_is_refused_when_written(home, record, column, value):
    with pytest.raises(ValueError, match=rf"record a: table 'runs' .*'{column}'"):
        records.write(home, record("a", **{column: value}))
    assert not (home / "runs").exists()


def test_all_faults_of_a_record_are_told_at_once():
    faults = records.Record("a", {"runs": [], "moods": [], "metrics": [{"run_id": "b"}]}).faults()
    assert len(faults) == 3 and "exactly one row" in faults[0] and "moods" in faults[1] and "'b'" in faults[2]


@pytest.mark.parametrize("run_id", ["", "../a", "a/b", ".a", "a" * 200])
def test_a_run_id_must_be_a_plain_folder_name(run_id, record):
    assert "not a usable run_id" in record(run_id).faults()[0]


def test_the_first_record_of_a_run_stays(home, record):
    records.write(home, record("a", value=1.0))
    folder = records.write(home, record("a", value=2.0))
    assert records.read(folder).tables["metrics"][0]["value"] == 1.0 and not left_over(home)


@pytest.mark.parametrize("damage", ["", '{"schema": 1', None])
def test_a_damaged_record_gives_way_to_a_new_one(home, record, damage):
    folder = records.write(home, record("a"))
    (folder / "record.json").unlink() if damage is None else (folder / "record.json").write_text(damage)
    with pytest.raises(StoreError, match="not a readable record"):
        records.read(folder)
    assert records.read(records.write(home, record("a", value=2.0))).tables["metrics"][0]["value"] == 2.0


@pytest.mark.parametrize("body", [
    "[]", "null", '"text"', '{"schema": "1", "run_id": "a", "files": {}, "tables": {}}', '{"schema": 1, "run_id": "a", "files": {}}',
    '{"schema": 1, "run_id": "a", "files": {}, "tables": []}', '{"schema": 1, "run_id": "a", "files": {}, "tables": {"runs": [1]}}',
    '{"schema": 1, "run_id": ["a"], "files": {}, "tables": {"runs": []}}', '{"schema": 1, "run_id": "a", "files": {}, "tables": {}}',
    '{"schema": 1, "run_id": "a", "files": {"x": "y"}, "tables": {"runs": [{"run_id": "a"}]}}',
    '{"schema": 1, "run_id": "a", "files": {}, "tables": {"runs": [{"run_id": "a", "wall_s": NaN}]}}',
    '{"schema": 1, "run_id": "a", "files": {}, "tables": {"runs": [{"run_id": "a", "wall_s": 1e999}]}}',
    '{"schema": 1, "run_id": "b", "files": {}, "tables": {"runs": [{"run_id": "b"}]}}', "[" * 100_000, "\xff"])
def test_any_unusable_content_is_one_clear_error(home, body):
    folder = home / "runs" / "a"
    folder.mkdir(parents=True)
    (folder / "record.json").write_bytes(body.encode("latin-1"))
    with pytest.raises(StoreError, match="record.json: "):
        records.read(folder)


def test_a_newer_record_is_refused_and_never_replaced(home, record, monkeypatch):
    monkeypatch.setattr(schema, "VERSION", schema.VERSION + 1)
    folder = records.write(home, record("a", value=7.0))
    monkeypatch.undo()
    with pytest.raises(StoreError, match="newer version .*; update Lethe"):
        records.read(folder)
    records.write(home, record("a", value=1.0))
    assert json.loads((folder / "record.json").read_text())["tables"]["metrics"][0]["value"] == 7.0


def test_a_full_disk_leaves_nothing_behind_and_says_so(home, record, monkeypatch):
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")
    records.write(home, record("a"))
    for target, name in ((Path, "write_text"), (os, "fsync"), (np, "save")):
        with monkeypatch.context() as patch:
            patch.setattr(target, name, full)
            with pytest.raises(RunError, match="could not record run b .*No space left on device.*Finished runs are kept"):
                records.write(home, record("b"), files=lambda f: np.save(f / "phi.npy", np.zeros(5)))
        assert os.listdir(home / "runs") == ["a"]
    records.write(home, record("b"))


def test_an_interrupt_while_arrays_are_written_leaves_nothing(home, record):
    def interrupted(_: Path) -> None:
        raise KeyboardInterrupt
    with pytest.raises(KeyboardInterrupt):
        records.write(home, record("a"), files=interrupted)
    assert os.listdir(home / "runs") == []


def test_identity_ignores_the_order_of_keys_and_nothing_else():
    assert records.identity({"a": 1, "b": [1, 2]}) == records.identity({"b": [1, 2], "a": np.int64(1)})
    assert len({records.identity(c) for c in ({"a": 1}, {"a": 2}, {"a": [1, 2]}, {"a": [2, 1]}, {"a": "1"}, {"b": 1})}) == 6


def test_records_need_neither_duckdb_nor_torch():
    code = "import sys, engine.store.records; print({'duckdb', 'torch', 'pandas', 'numpy'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "set()"
