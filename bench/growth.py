"""How cost grows: seconds against the number of models, and images a second against the number of replicas in a stack.

    python -m bench.growth [--quick] [--device cuda] [--record bench/RECORDS.md]

Models are small CNNs on digits, trained for a few epochs by the engine's own `train`, in one process; a stack is built, trained and
evaluated as a study does it, without writing records. The number of models grows at the best R; R grows at a fixed number of models.
"""

import argparse
import time
from datetime import UTC, datetime
from pathlib import Path

import torch

from bench.roofline import wait
from engine.data.loader import Splits
from engine.data.splits import DataSpec
from engine.jobs import provenance
from engine.jobs.allocator import keep_memory
from engine.jobs.measure import outputs
from engine.models import catalogue as models
from engine.models.stack import Stack
from engine.runtime import Rng, Run
from engine.train import Recipe, train

MODELS, REPLICAS = (1, 10, 100, 1_000), (1, 2, 4, 8, 16, 32, 64)
RECIPE, AT_ONCE = Recipe(epochs=1, batch=64), 64


def seconds(number: int, replicas: int, device: torch.device, recipe: Recipe) -> float:
    """To train and evaluate so many models, in stacks of `replicas`."""
    start = time.perf_counter()
    for first in range(0, number, replicas):
        seeds = range(first, min(number, first + replicas))
        data = Splits.of([DataSpec("digits", "seeds", forget=0)] * len(seeds), device=device)
        stack = Stack.build(models.get("cnn"), channels=1, classes=10, side=8, seeds=seeds, executor="fused", device=device)
        train(stack, data, "train", recipe, Run(Rng(seeds)))
        outputs(stack, data, "test")
    wait(device)
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(prog="bench.growth", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="tiny numbers, to see that it runs; never recorded")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--record", type=Path, help="add the result to this file")
    asked = parser.parse_args()
    device = torch.device(asked.device)
    keep_memory()
    torch.set_num_threads(1)
    numbers, sizes, at_once, recipe = ((1, 2), (1, 2), 2, Recipe(epochs=1, batch=64)) if asked.quick else (MODELS, REPLICAS, AT_ONCE, RECIPE)
    seconds(1, 1, device, recipe)  # warms up
    by_replicas = {r: seconds(at_once, r, device, recipe) for r in sizes}
    best = min(by_replicas, key=lambda r: by_replicas[r])
    text = told({n: seconds(n, best, device, recipe) for n in numbers}, by_replicas, at_once, best, asked.device)
    print(text)
    if asked.record and not asked.quick:
        from bench.train import add

        add(text, asked.record)


def told(by_number: dict[int, float], by_replicas: dict[int, float], at_once: int, best: int, device: str) -> str:
    numbers = "".join(f"| {n:,} | {s:.2f} | {1e3 * s / n:.1f} |\n" for n, s in by_number.items())
    sizes = "".join(f"| {r} | {s:.2f} | {by_replicas[min(by_replicas)] / s:.2f} |\n" for r, s in by_replicas.items())
    return f"""## {datetime.now(UTC):%Y-%m-%d}, growth ({provenance.machine(device)})

Small CNNs on digits, one epoch, one process of one thread; commit {str(provenance.source()['commit'])[:10]}.

| models, in stacks of {best} | seconds | ms a model |
| --- | --- | --- |
{numbers}
| R, {at_once} models in all | seconds | times as fast as R = {min(by_replicas)} |
| --- | --- | --- |
{sizes}
Cost is linear in the number of models once a stack is full. A stack shares what a step costs whatever its size; where more replicas do not
help any more, arithmetic is all that is left, and where they hurt, their maps have outgrown the cache.

`python -m bench.growth{'' if device == 'cpu' else f' --device {device}'}`
"""


if __name__ == "__main__":
    main()
