"""The benchmark counts what it says, compares like with like, and adds to its records newest first."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from bench import attack, gpu, growth, harness, roofline, train
from bench.harness import Clock, Finished, Group, Window
from bench.plain import Images
from bench.tasks import TASKS
from bench.train import Job
from engine.attacks import u_lira
from engine.models import catalogue as models


class Gate:
    """Stands for the barrier and the event of a group of one process."""

    def __init__(self) -> None:
        self.waits, self.set_ = 0, False

    def wait(self, _: float) -> None:
        self.waits += 1

    def set(self) -> None:
        self.set_ = True

    def is_set(self) -> bool:
        return self.set_


def test_a_clock_leaves_out_the_warm_up_and_counts_whole_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    now = iter([10.0, 11.0, 12.0, 14.0])  # the start, then the end of each step that counts
    monkeypatch.setattr(harness.time, "perf_counter", lambda: next(now))
    gate: Any = Gate()
    clock = Clock(Window(warmup=2, seconds=1.5, steps=3), gate, [gate], 0)
    for images in (1_000, 1_000, 100, 100):
        clock.tick(images)
    with pytest.raises(Finished):
        clock.tick(200)
    assert clock.rate == 400 / 4.0 and gate.waits == 1


def test_a_clock_goes_on_until_all_have_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    now = iter([0.0, 2.0])
    monkeypatch.setattr(harness.time, "perf_counter", lambda: next(now))
    mine, other, gate = Gate(), Gate(), Gate()
    clock = Clock(Window(warmup=1, seconds=1.0, steps=1), gate, [mine, other], 0)  # pyright: ignore
    clock.tick(0)
    clock.tick(10)
    clock.tick(10)  # keeps the machine busy for the other, and counts no more
    other.set()
    with pytest.raises(Finished):
        clock.tick(10)
    assert clock.rate == 5.0


def broken(job: Any, _: Callable[[int], None]) -> None:
    raise ValueError(f"no such thing as {job}")


def test_a_failing_process_is_named_and_does_not_hang() -> None:
    group = Group(1, 1, broken)
    try:
        with pytest.raises(RuntimeError, match="ValueError: no such thing as x"):
            group.measure("x", Window(1, 0.0, 1))
    finally:
        group.close()


@pytest.mark.parametrize("name", TASKS)
def test_both_sides_train_on_the_same_images(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Engine and plain loop: same shape, same normalisation of the same pixels, each with its own draws of the same augmentation."""
    monkeypatch.delenv("LETHE_DATA", raising=False)
    seen: list[torch.Tensor] = []

    def watched(stack: Any, data: Any, split: str, recipe: Any, run: Any) -> None:
        seen.append(next(iter(data.batches(split, 256, run.rng, augment=recipe.augment)))[0])

    monkeypatch.setattr(train, "train", watched)
    train.stacked(TASKS[name], Job(name, "fused", "fp32", 2, 1, 1), lambda _: None)
    ours, plain = seen[0], torch.stack([Images(TASKS[name])[i][0] for i in range(256)])
    assert plain.shape == (256, 3, 32, 32) and ours.shape[1:] == plain.shape
    assert ours.mean().item() == pytest.approx(plain.mean().item(), abs=0.03)
    assert ours.std().item() == pytest.approx(plain.std().item(), rel=0.03)


def test_the_ratio_is_of_the_final_and_not_of_the_sweep() -> None:
    slow, fast = Job("cnn", "plain", "fp32", 1, 1, 2), Job("cnn", "fused", "bf16", 4, 2, 1)
    lucky = {slow: [10.0, 10.0], fast: [100.0, 90.0]}
    text = train.told("cnn", lucky, {slow: [10.0, 11.0, 12.0], fast: [30.0, 33.0, 36.0]})
    assert "**3.00 times the plain loop**" in text and "| fused | bf16 | 2 x 1 thread | 95 (90 to 100) |" in text


def test_the_baseline_is_a_plain_loop_in_single_precision_in_one_process() -> None:
    jobs = [Job("cnn", "plain", "bf16", 1, 1, 2), Job("cnn", "plain", "fp32", 1, 2, 1), Job("cnn", "plain", "fp32", 1, 1, 1)]
    assert train.best({job: [3.0 - k] for k, job in enumerate(jobs)}, train.is_baseline) == jobs[2]


def test_every_shape_of_the_task_is_measured_with_a_thread_a_core_in_all() -> None:
    jobs = train.engine_jobs("cnn", 2, quick=False)
    assert {(j.way, j.replicas, j.processes) for j in jobs} == {(w, r, p) for w in ("loop", "fused") for r in (1, 4, 8, 16) for p in (1, 2)}
    assert all(j.processes * j.threads == 2 for j in jobs)


def test_records_are_added_newest_first(tmp_path: Path) -> None:
    path = tmp_path / "RECORDS.md"
    path.write_text("# Records\n\nHow.\n", encoding="utf-8")
    for day in ("## one\n\nfirst\n", "## two\n\nsecond\n"):
        train.add(day, path)
    assert path.read_text(encoding="utf-8") == "# Records\n\nHow.\n\n## two\n\nsecond\n\n## one\n\nfirst\n"


def test_the_plain_loop_and_ours_attack_alike() -> None:
    arrays = attack.study(14, 10, 100)
    ours = u_lira.u_lira(*arrays).examples.balanced_accuracy
    plain = np.array(attack.plain(*(array[:, :30] if array.ndim == 2 else array for array in arrays)))
    assert abs(ours[:30].mean() - plain.mean()) < 0.03 and np.corrcoef(ours[:30], plain)[0, 1] > 0.6


def test_the_attack_record_says_ratio_and_growth() -> None:
    text = attack.report((64, 10, 47_500), 8.0, 1.5, 4000.0, 12, 0.55, 0.54, [((16, 10, 47_500), 2.0)])
    assert "**500 times a plain loop over examples** (target 200): 8.0 s and 1.50 GiB" in text and "| 16 x 10 | 47,500 | 7.6 | 2.0 | 263 |" in text


def test_the_work_of_the_studys_resnet_is_what_is_published() -> None:
    """37.0 million multiply-adds forward, thrice that with backward but for the image's gradient; 26.1 without the taps of 1x1 and
    2x2 maps that see padding (21.7 without those at the edges of larger maps, too, which no product can leave out)."""
    work = roofline.work(models.get("resnet18"), channels=3, side=32)
    stem = 64 * 3 * 49 * 16 * 16
    assert work.nominal == pytest.approx(2 * (3 * 37.0e6 - stem), rel=5e-3)
    assert work.shortcut == pytest.approx(2 * (3 * 26.1e6 - stem), rel=5e-3)
    assert work.bytes_at(1) - work.bytes_at(2) == work.state / 2 == 10 * 11_181_642


def test_a_run_on_a_gpu_answers_every_part_in_one_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """The same parts at tiny sizes on the CPU: rates, shares of what the machine can do, kernels, and what could not be projected."""
    monkeypatch.delenv("LETHE_DATA", raising=False)
    monkeypatch.setattr(gpu, "plain_rate", lambda task, device, seconds: 10.0)  # a loader's process outlives what pytest allows
    gpu.main(["--out", str(tmp_path / "gpu.json"), "--device", "cpu", "--tiny", "--tests", "0"])
    found = json.loads((tmp_path / "gpu.json").read_text(encoding="utf-8"))
    assert found["executors cnn"]["right"] and found["same draw"]["right"] and found["tests"]["status"] == 0
    part = found["throughput cnn"]
    assert "error" not in part and part["over_plain"] == part["best"]["images_per_s"] / 10 and part["hot_spots"]
    assert {row["executor"] for row in part["strategies"]} == {"loop", "products"} and all(row["share_of_matrix_rate"] > 0 for row in part["strategies"])
    assert "hours" not in str(found["projection"]) and "not measured (target 10)" in capsys.readouterr().out


def test_a_part_that_fails_is_written_down_and_the_others_go_on(tmp_path: Path) -> None:
    bench = gpu.Bench(tmp_path / "gpu.json", torch.device("cpu"), 10.0, tiny=True)
    with bench.part("broken"):
        raise ValueError("no such kernel")
    with bench.part("whole") as made:
        made["value"] = 1
    found = json.loads((tmp_path / "gpu.json").read_text(encoding="utf-8"))
    assert found["broken"] == {"error": "ValueError: no such kernel"} and found["whole"] == {"value": 1}


def test_the_projection_multiplies_rates_by_what_a_study_shows_its_models() -> None:
    found = {f"throughput {name}": {"best": {"images_per_s": rate}} for name, rate in (("resnet18", 1e6), ("tinyvit11m", 1e5))}
    made = gpu.projection(found)
    assert made["U-LiRA study on CIFAR-10"]["originals"] == pytest.approx(64 * 91 * 23_750 / 1e6 / 3600)
    whole = made["the whole study"]
    assert whole["cifar10"] == whole["cifar100"] == pytest.approx((5_400 * 0.1 + 180 * 0.1 + 20) * 182 * 42_500 * (1e-6 + 1e-5) / 3600)
    assert whole["sum"] > whole["U-LiRA"] > 0


def test_growth_trains_as_many_models_as_it_says(monkeypatch: pytest.MonkeyPatch) -> None:
    built: list[int] = []
    original = growth.Stack.build

    def counted(*arguments: Any, **options: Any) -> Any:
        built.append(len(options["seeds"]))
        return original(*arguments, **options)

    monkeypatch.setattr(growth.Stack, "build", counted)
    assert growth.seconds(5, 2, torch.device("cpu"), growth.Recipe(epochs=1, batch=256)) > 0
    assert built == [2, 2, 1]
