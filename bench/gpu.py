"""What a GPU makes of the engine: correctness, roofline, throughput of every strategy beside the plain loop, and what a study would take.

    python -m bench.gpu --out FILE [--seconds 270] [--device cpu --tiny]        (`bench/gpu.sh` runs the tests before it)

One file, written anew after every part, so that a run that is cut short leaves what it had. Rates are of whole training by the engine's
own `train`: batches, augmentation, forward, backward and step, and synchronised at both ends. A strategy that no time was left for is listed.
"""

import argparse
import dataclasses
import json
import math
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bench import plain
from bench.roofline import Work, bandwidth, matrix_rate, wait, work
from bench.tasks import TASKS, Task, training_splits
from engine.data.catalogue import get
from engine.data.loader import Splits
from engine.data.splits import DataSpec
from engine.jobs import provenance
from engine.jobs.measure import outputs
from engine.losses import ce
from engine.models import catalogue as models
from engine.models.stack import Stack
from engine.optim import SGD
from engine.runtime import Rng, Run
from engine.train import Recipe, recipe_for, train

WARMUP, CHECK = 6, 4  # steps before the clock starts, and between two looks at it
SECONDS = 2.0
GPU_TASKS = {
    "resnet18": dataclasses.replace(TASKS["resnet18"], batch=256),
    "tinyvit11m": dataclasses.replace(TASKS["resnet18"], name="tinyvit11m", title="TinyViT-11M on CIFAR-10", model="tinyvit11m", batch=256),
    "cnn": TASKS["cnn"],
}
# in the order of their promise, so that a run that ends early has the ones that matter
STRATEGIES = {
    "resnet18": [("compiled", 16), ("products", 16), ("fused", 16), ("compiled", 32), ("loop", 1), ("fused", 1), ("compiled", 64), ("products", 4)],
    "tinyvit11m": [("products", 8), ("loop", 1), ("compiled", 8), ("fused", 8)],
    "cnn": [("fused", 64), ("products", 64), ("compiled", 64), ("fused", 16)],
}
SHARE = {"resnet18": 0.5, "tinyvit11m": 0.25, "cnn": 0.25}  # of the time for throughput
TARGETS = {"seconds a ResNet-18": 10.0, "ResNet-18 over the plain loop": 50.0, "TinyViT-11M over the plain loop": 20.0}


class Enough(Exception):
    """Raised by a clock to end a training that would go on for ever."""


class Clock(Run):
    """A run that counts steps, and raises `Enough` once it has measured for long enough."""

    def __init__(self, replicas: int, device: torch.device, seconds: float) -> None:
        super().__init__(Rng(range(replicas)))
        self.device, self.seconds, self.steps, self.start, self.elapsed = device, seconds, 0, 0.0, 0.0

    def log(self, **values: Tensor) -> None:
        super().log(**values)
        self.tick()

    def tick(self, _: int = 0) -> None:
        self.steps += 1
        if self.steps == WARMUP:
            wait(self.device)
            self.start = time.perf_counter()
        if self.steps > WARMUP and (self.steps - WARMUP) % CHECK == 0:
            wait(self.device)
            self.elapsed = time.perf_counter() - self.start
            if self.elapsed >= self.seconds:
                raise Enough

    @property
    def rate(self) -> float:
        """Steps a second."""
        return (self.steps - WARMUP) / self.elapsed


class Bench:
    """What was found so far, in a file."""

    def __init__(self, out: Path, device: torch.device, seconds: float, tiny: bool) -> None:
        self.out, self.device, self.tiny = out, device, tiny
        self.deadline = time.perf_counter() + seconds
        self.found: dict[str, Any] = {"machine": provenance.machine(device.type), "versions": json.loads(provenance.versions()), "started": provenance.now(),
                                      "source": provenance.source(), "command": " ".join(["python -m bench.gpu", *sys.argv[1:]]), "parts": {}, "left_out": []}

    @contextmanager
    def part(self, name: str) -> Iterator[dict[str, Any]]:
        """A part of the file; what goes wrong in it is written down, and the others go on."""
        start, made = time.perf_counter(), dict[str, Any]()
        self.found[name] = made
        try:
            yield made
        except Exception as error:  # the boundary of a part: a machine that is lent for minutes must answer the rest
            made["error"] = f"{type(error).__name__}: {error}"
        self.found["parts"][name] = round(time.perf_counter() - start, 1)
        self.save()
        print(f"{name}: {self.found['parts'][name]} s", file=sys.stderr)

    def save(self) -> None:
        scratch = self.out.with_suffix(".tmp")
        scratch.write_text(json.dumps(self.found, indent=1), encoding="utf-8")
        scratch.replace(self.out)

    @property
    def left(self) -> float:
        return self.deadline - time.perf_counter()


# ---- correctness


def executors_agree(architecture: str, device: torch.device) -> dict[str, Any]:
    """Largest difference of logits and of gradients from the loop executor's in double precision, and of bf16 logits from single ones."""
    side, channels = (8, 1) if architecture == "cnn" else (32, 3)
    chance = torch.Generator().manual_seed(0)
    x = torch.randn(3, 8, channels, side, side, generator=chance, dtype=torch.float64).to(device)
    y = torch.randint(10, (3, 8), generator=chance).to(device)

    def passed(executor: str, precision: str) -> tuple[Tensor, Tensor]:
        stack = Stack.build(models.get(architecture), channels=channels, classes=10, side=side, seeds=range(3), executor=executor, precision=precision,
                            device=device)
        stack.seed_layers([10, 11, 12])
        logits = stack(x.to(torch.float64 if precision == "fp64" else torch.float32))
        ce(logits, y).sum().backward()
        return logits.detach(), torch.cat([p.grad.flatten() for p in stack.params.values() if p.grad is not None])

    exact, single = passed("loop", "fp64"), passed("loop", "fp32")
    made: dict[str, Any] = {"fp32 from fp64": _apart(single, exact), "bf16 from fp64": _apart(passed("loop", "bf16"), exact)}
    for executor in ("fused", "products"):
        made[f"{executor} fp64"] = _apart(passed(executor, "fp64"), exact)
        made[f"{executor} bf16"] = _apart(passed(executor, "bf16"), exact)
    made["right"] = all(max(made[f"{executor} fp64"].values()) < 1e-9 for executor in ("fused", "products"))
    return made


def _apart(found: tuple[Tensor, Tensor], exact: tuple[Tensor, Tensor]) -> dict[str, float]:
    return {name: float((f.double() - e).abs().max() / e.abs().max()) for name, f, e in zip(("logits", "gradients"), found, exact, strict=True)}


def same_draw(device: torch.device, seeds: int, epochs: int) -> dict[str, Any]:
    """Training of the small CNN on digits, several seeds, by the exact path in single precision, and by every fast one in bf16: test accuracy and
    loss on the training data, mean and deviation over seeds, and whether the means differ by more than three standard errors."""
    made: dict[str, Any] = {}
    recipe = dataclasses.replace(recipe_for("digits", "cnn"), epochs=epochs)
    for executor, precision in (("loop", "fp32"), ("fused", "bf16"), ("products", "bf16"), ("compiled", "bf16")):
        if executor == "compiled" and device.type == "cpu":
            continue  # minutes of a C++ compiler
        data = Splits.of([DataSpec("digits", "seeds", forget=0)] * seeds, device=device)
        stack = Stack.build(models.get("cnn"), channels=1, classes=10, side=8, seeds=range(seeds), executor=executor, precision=precision, device=device)
        start = time.perf_counter()
        train(stack, data, "train", recipe, Run(Rng(range(seeds))))
        wait(device)
        made[f"{executor} {precision}"] = {"seconds": time.perf_counter() - start} | {
            name: {"mean": float(v.mean()), "sd": float(v.std(ddof=1))} for name, v in
            (("test accuracy", outputs(stack, data, "test").correct.mean(1)), ("retain loss", outputs(stack, data, "retain").loss.mean(1)))}
    exact = made["loop fp32"]
    made["right"] = all(
        abs(v[name]["mean"] - exact[name]["mean"]) <= 3 * math.hypot(v[name]["sd"], exact[name]["sd"]) / math.sqrt(seeds) + 1e-3
        for v in list(made.values()) for name in ("test accuracy",))
    return made


# ---- throughput


def engine_rate(task: Task, executor: str, replicas: int, precision: str, device: torch.device, seconds: float) -> dict[str, Any]:
    """Images a second of all replicas together."""
    start = time.perf_counter()
    info, data = training_splits(task, replicas, device)
    stack = Stack.build(models.get(task.model), channels=info.channels, classes=info.classes, side=info.side, seeds=range(replicas), executor=executor,
                        precision=precision, device=device)
    stack.seed_layers(list(range(replicas)))
    clock = Clock(replicas, device, seconds)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    with suppress(Enough):
        train(stack, data, "retain", Recipe(epochs=10_000, batch=task.batch), clock)
    made = {"executor": executor, "replicas": replicas, "precision": precision, "images_per_s": clock.rate * replicas * task.batch,
            "warm_up_s": clock.start - start}
    if device.type == "cuda":
        made["memory_gib"] = torch.cuda.max_memory_allocated() / 2**30
    return made


def plain_rate(task: Task, device: torch.device, seconds: float) -> float:
    clock = Clock(1, device, seconds)
    with suppress(Enough):
        plain.train(task, "fp32", clock.tick, device)
    return clock.rate * task.batch


def hot_spots(task: Task, executor: str, replicas: int, device: torch.device) -> list[dict[str, Any]]:
    """The kernels that take longest in a few steps of the best strategy: where to go on."""
    info, data = training_splits(task, replicas, device)
    stack = Stack.build(models.get(task.model), channels=info.channels, classes=info.classes, side=info.side, seeds=range(replicas), executor=executor,
                        precision="bf16", device=device)
    opt = SGD(stack, lr=0.1, momentum=0.9, weight_decay=5e-4)
    batches = data.batches("retain", task.batch, Rng(range(replicas)), augment=True)

    def step() -> None:
        x, y = next(batches)
        opt.zero_grad()
        ce(stack(x), y).sum().backward()
        opt.step()

    for _ in range(WARMUP):
        step()
    wait(device)
    kind = torch.profiler.ProfilerActivity.CUDA if device.type == "cuda" else torch.profiler.ProfilerActivity.CPU
    with torch.profiler.profile(activities=[kind]) as profile:
        for _ in range(CHECK):
            step()
        wait(device)
    own = "self_device_time_total" if device.type == "cuda" else "self_cpu_time_total"
    rows = sorted(profile.key_averages(), key=lambda row: -getattr(row, own))[:25]
    return [{"kernel": row.key[:160], "calls_a_step": row.count / CHECK, "us_a_step": getattr(row, own) / CHECK} for row in rows]


def throughput(bench: Bench, name: str, seconds: float) -> None:
    """One task: the plain loop, then strategies while time lasts, each beside what the machine could do."""
    task, until = GPU_TASKS[name], time.perf_counter() + seconds
    with bench.part(f"throughput {name}") as made:
        info = get(task.dataset)
        cost = work(models.get(task.model), channels=info.channels, side=info.side)
        made |= {"task": task.title, "batch": task.batch, "work_per_image": cost.to_dict(), "strategies": []}
        window = 0.05 if bench.tiny else SECONDS
        made["plain_images_per_s"] = plain_rate(task, bench.device, window)
        for executor, replicas in [(e, 2) for e in ("loop", "products")] if bench.tiny else STRATEGIES[name]:
            if time.perf_counter() > until:
                bench.found["left_out"].append(f"{name}: {executor}, R = {replicas}")
                continue
            try:
                row = engine_rate(task, executor, replicas, "bf16", bench.device, window)
            except Exception as error:  # one strategy that fails must not cost the others their minutes
                made["strategies"].append({"executor": executor, "replicas": replicas, "error": f"{type(error).__name__}: {error}"[:500]})
                continue
            finally:
                if bench.device.type == "cuda":
                    torch.cuda.empty_cache()
            made["strategies"].append(row | _against(row["images_per_s"], cost, task.batch, bench.found["roofline"]))
            bench.save()
        fastest = max((row for row in made["strategies"] if "error" not in row), key=lambda row: row["images_per_s"])
        made["best"] = fastest
        made["over_plain"] = fastest["images_per_s"] / made["plain_images_per_s"]
        made["seconds_per_model"] = recipe_for(task.dataset, task.model).epochs * task.size / fastest["images_per_s"]
        made["hot_spots"] = hot_spots(task, fastest["executor"], fastest["replicas"], bench.device)


def _against(rate: float, cost: Work, batch: int, machine: dict[str, Any]) -> dict[str, float]:
    """Operations and bytes a second that the work amounts to, as shares of what the machine was measured to do."""
    return {"tflops": rate * cost.nominal / 1e12, "share_of_matrix_rate": rate * cost.shortcut / machine["matrix_rate"],
            "share_of_bandwidth": rate * cost.bytes_at(batch) / machine["bandwidth"]}


# ---- what a study would take


def projection(found: dict[str, Any]) -> dict[str, Any]:
    """From measured rates by the number of images that every part shows its models; nothing here is measured itself.

    Counts of models: arXiv:2410.01276 by its released code. A search trial of the study averages a tenth of a retraining.
    """
    rates = {name: found[f"throughput {name}"]["best"]["images_per_s"] for name in ("resnet18", "tinyvit11m") if "best" in found.get(f"throughput {name}", {})}
    made: dict[str, Any] = {"note": "arithmetic on measured rates; evaluation and attacks are not in it"}
    if "resnet18" in rates:
        half, forget, epochs = 23_750, 2_375, 91
        made["U-LiRA study on CIFAR-10"] = {
            "originals": 64 * epochs * half / rates["resnet18"] / 3600, "retrained": 640 * epochs * (half - forget) / rates["resnet18"] / 3600,
            "18 methods, a tenth of retraining each": 18 * 640 * epochs * (half - forget) / 10 / rates["resnet18"] / 3600, "unit": "hours"}
    if len(rates) == 2:
        sizes = {"mnist": (50, 51_000, 1), "fashion_mnist": (50, 51_000, 1), "cifar10": (182, 42_500, 1), "cifar100": (182, 42_500, 1),
                 "utkface": (50, 17_000, 49)}  # epochs, images, pixels over those of 32x32
        models_of = {"search": (300 * 18, 0.1), "final": (10 * 18, 0.1), "original and retrained": (20, 1.0)}
        hours = {dataset: sum(number * share * epochs * images * pixels / rate for number, share in models_of.values() for rate in rates.values()) / 3600
                 for dataset, (epochs, images, pixels) in sizes.items()}
        lira = (38_400 + 3_840) * 0.1 * 91 * 21_375 / rates["resnet18"] / 3600 + 1_280 * 91 * 22_500 / rates["resnet18"] / 3600
        made["the whole study"] = {**hours, "U-LiRA": lira, "sum": sum(hours.values()) + lira, "unit": "hours",
                                   "assumed": "UTKFace at 224x224 takes 49 times an image of 32x32; it was not run"}
    return made


def told(found: dict[str, Any]) -> str:
    """The figures that were asked for."""
    lines = []
    for name, target, key in (("resnet18", TARGETS["seconds a ResNet-18"], "seconds_per_model"),
                              ("resnet18", TARGETS["ResNet-18 over the plain loop"], "over_plain"),
                              ("tinyvit11m", TARGETS["TinyViT-11M over the plain loop"], "over_plain")):
        value = found.get(f"throughput {name}", {}).get(key)
        lines.append(f"{name} {key}: {'not measured' if value is None else f'{value:,.1f}'} (target {target:g})")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="bench.gpu", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seconds", type=float, default=270)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--tiny", action="store_true", help="the same parts at sizes that a CPU does in a minute: does it run?")
    parser.add_argument("--tests", type=int, help="exit status of the tests that ran before")
    parser.add_argument("--log", type=Path, help="what they said")
    asked = parser.parse_args(arguments)
    device = torch.device(asked.device)
    bench = Bench(asked.out, device, asked.seconds, asked.tiny)
    if asked.tests is not None:
        bench.found["tests"] = {"status": asked.tests, "said": asked.log.read_text(encoding="utf-8")[-4000:] if asked.log else ""}
    with bench.part("roofline") as made:
        made["matrix_rate"] = matrix_rate(device, *((256, 2) if asked.tiny else ()))
        made["bandwidth"] = bandwidth(device, *((1 << 20, 2) if asked.tiny else ()))
    for name in ("cnn",) if asked.tiny else ("cnn", "resnet18", "tinyvit11m"):
        with bench.part(f"executors {name}") as made:
            made |= executors_agree(name, device)
    with bench.part("same draw") as made:
        made |= same_draw(device, *((2, 1) if asked.tiny else (16, 50)))
    rest = bench.left
    for name in ("cnn",) if asked.tiny else tuple(STRATEGIES):
        throughput(bench, name, rest * SHARE[name])
    with bench.part("projection") as made:
        made |= projection(bench.found)
    print(told(bench.found))


if __name__ == "__main__":
    main()
