"""A study in stretches: every prefix stands by itself, nothing is computed twice, and the shards are taken in at home."""

import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from engine.errors import BadInput
from engine.jobs import home, stretch, study
from engine.jobs.plan import Strategy
from engine.jobs.provenance import ROOT
from engine.store import ingest

STUDY = """
name: stretched
data: {dataset: digits, pool: 200}
model: cnn
recipe: {epochs: 1, batch: 64, lr: 0.1, momentum: 0.9, weight_decay: 5.0e-4}
seeds: {count: 2, mode: fast, precision: fp32}
u_lira: {splits: 6, forget_sets: 1, mode: fast, precision: fp32}
methods:
  ft: {set: {batch: 64, epochs: 1, lr: 0.01, momentum: 0.9, weight_decay: 5.0e-4}}
"""
BY = Strategy("fused", 4)


@pytest.fixture
def checked(tmp_path: Path, lethe_home: Path) -> list[study.Study]:
    (tmp_path / "study.yaml").write_text(STUDY, encoding="utf-8")
    return study.read(tmp_path / "study.yaml")


def test_blocks_are_seeds_then_a_few_splits_at_a_time(checked: list[study.Study]) -> None:
    seeds, first, rest = stretch.blocks(checked[0])
    assert {c.data.protocol for c in seeds} == {"seeds"} and len(seeds) == 2 * 3
    assert {c.data.split for c in first} == {0, 1, 2, 3} and {c.data.split for c in rest} == {4, 5}
    for block in (first, rest):  # nothing starts from an original of another block
        assert {c.original.run_id for c in block if c.kind == "unlearned"} <= {c.run_id for c in block}


def test_stretches_add_up_and_nothing_is_done_twice(checked: list[study.Study], tmp_path: Path, lethe_home: Path,
                                                    monkeypatch: pytest.MonkeyPatch) -> None:
    runs = [0]
    compute = stretch.run_task

    def counted(task: dict[str, object]) -> None:
        runs[0] += 1
        if runs[0] == 5:  # in the first block of splits
            raise KeyboardInterrupt
        compute(task)

    monkeypatch.setattr(stretch, "run_task", counted)
    with pytest.raises(KeyboardInterrupt):
        stretch.stretch(checked, tmp_path / "one", 600, set(), BY)
    first = {folder.name for folder in (tmp_path / "one" / "runs").iterdir() if not folder.name.startswith(".")}
    second = stretch.stretch(checked, tmp_path / "two", 600, first, BY)
    everything = {c.run_id for _, c in checked[0].models({m: s.settled or {} for m, s in checked[0].sought.items()})}
    assert not first & set(second) and first | set(second) == everything
    for number, names in enumerate((sorted(first), second)):
        folder = tmp_path / f"shards{number}"
        folder.mkdir()
        shards = stretch.packed(tmp_path / ("one", "two")[number] / "runs", names, folder, limit=80_000)
        assert len(shards) > 1 and all(shard.stat().st_size <= 80_000 for shard in shards)
        for shard in shards:
            with tarfile.open(shard) as archive:
                archive.extractall(lethe_home / "runs", filter="data")
    assert not list((lethe_home / "runs").glob("*/weights.pt"))
    ingest.ingest(lethe_home)
    known = home.Known(lethe_home)
    assert all(known.finished(run_id) for run_id in everything)


def test_no_time_computes_what_has_no_estimate_yet_and_then_stops(checked: list[study.Study], tmp_path: Path) -> None:
    assert stretch.stretch(checked, tmp_path, -1.0, set(), BY) == []


def test_open_settings_are_refused(tmp_path: Path, lethe_home: Path) -> None:
    (tmp_path / "study.yaml").write_text(STUDY.replace("lr: 0.01, ", "").replace("{set: {batch", "{search: {lr: [0.001, 0.1]}, set: {batch"), encoding="utf-8")
    with pytest.raises(BadInput, match="search must find those of ft"):
        list(stretch.blocks(study.read(tmp_path / "study.yaml")[0]))


@pytest.mark.parametrize("text", ["fused", "fused 0", "quick 4", "fused four"])
def test_a_strategy_is_an_executor_and_a_number(text: str) -> None:
    with pytest.raises(BadInput, match="a strategy is one of"):
        Strategy.parse(text)


def test_a_bare_machine_will_do() -> None:
    blocked = "import sys\nsys.modules.update(dict.fromkeys(('duckdb', 'optuna', 'streamlit', 'altair', 'plotly', 'ray')))\n"
    done = subprocess.run([sys.executable, "-c", f"{blocked}import engine.jobs.stretch, bench.gpu"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
