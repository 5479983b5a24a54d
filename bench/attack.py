"""U-LiRA at full size: vectorised, beside a plain loop over examples with the same fits, in one run; and how it grows.

    python -m bench.attack [--quick] [--record bench/RECORDS.md]      (a part of `make bench`)

The size is that of the reference study: 64 splits x 10 forget sets over 47,500 examples, about 26,000 of them scored in each model, with
1,000 bootstrap draws and the lower bound on epsilon. The plain loop takes one example after the other, as one would write it from the paper
with numpy and scipy: a Gaussian a world without the split that is scored, one value at a time, and draws of splits for the interval. It leaves
out what only ours has (weights, AUC, rates, epsilon, correction for estimated centres). It is timed on a sample of the examples and multiplied
up, since the whole would take hours.

Each size has a process of its own. In one process the smaller ones would look quicker than they are: malloc keeps arrays of up to 32 MiB for
the next one, while larger ones are mapped and cleared anew each time.
"""

import argparse
import os
import resource
import time
from concurrent.futures import ProcessPoolExecutor
from datetime import UTC, datetime
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from scipy.stats import norm

from engine.attacks import u_lira
from engine.attacks.bootstrap import DRAWS
from engine.attacks.gaussians import FORGOTTEN, NEVER

FULL = (64, 10, 47_500)
SAMPLE = 12  # examples of the plain loop
GROWTH = ((16, 10, 47_500), (32, 10, 47_500), (64, 10, 11_875), (64, 10, 23_750))
QUICK = (16, 10, 400)
TARGET = 200.0


def study(splits: int, forget_sets: int, examples: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(phi, world, split) of simulated models: halves, disjoint tenths, and a leak of 0.3 standard deviations."""
    rng = np.random.default_rng(seed)
    world = np.full((splits * forget_sets, examples), -1, np.int8)
    for s in range(splits):
        order = rng.permutation(examples)
        half, part = order[: examples // 2], examples // 20
        world[s * forget_sets : (s + 1) * forget_sets, order[examples // 2 :]] = NEVER
        for j in range(forget_sets):
            world[s * forget_sets + j, half[j * part : (j + 1) * part]] = FORGOTTEN
    phi = rng.standard_normal(world.shape, dtype=np.float32)
    phi += 0.3 * (world == FORGOTTEN)
    return phi, world, np.repeat(np.arange(splits), forget_sets)


def plain(phi: np.ndarray, world: np.ndarray, split: np.ndarray) -> list[float]:
    """Balanced accuracy of each example, fits and scores taken one by one; and its share of an interval from DRAWS draws of splits."""
    rights, rng = [], np.random.default_rng(0)
    splits = np.unique(split)
    for i in range(phi.shape[1]):
        right: dict[int, dict[int, list[float]]] = {FORGOTTEN: {}, NEVER: {}}
        for s in splits:
            fits = []
            for w in (FORGOTTEN, NEVER):
                values = phi[(split != s) & (world[:, i] == w), i]
                fits.append((values.mean(), max(values.std(), 1e-3)))
            for row in np.flatnonzero((split == s) & (world[:, i] != -1)):
                score = norm.logpdf(phi[row, i], *fits[0]) - norm.logpdf(phi[row, i], *fits[1])
                right[int(world[row, i])].setdefault(int(s), []).append(float((score > 0) == (world[row, i] == FORGOTTEN)))
        drawn = []
        for _ in range(DRAWS):
            picked = rng.choice(splits, len(splits))
            means = [[hit for s in picked for hit in right[w].get(int(s), [])] for w in (FORGOTTEN, NEVER)]
            drawn.append(sum(sum(hits) / len(hits) for hits in means if hits) / 2)
        rights.append(float(np.mean([np.mean([hit for hits in right[w].values() for hit in hits]) for w in (FORGOTTEN, NEVER)])))
    return rights


def attacked(size: tuple[int, int, int]) -> tuple[float, float, float]:
    """Seconds of the attack with all its rows, GiB of this process at most, balanced accuracy."""
    arrays = study(*size)
    start = time.perf_counter()
    found = u_lira.u_lira(*arrays)
    found.metrics()
    took = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024 / (1024 if os.uname().sysname == "Linux" else 1024 * 1024)
    return took, peak, found.balanced_accuracy.value


def alone(size: tuple[int, int, int]) -> tuple[float, float, float]:
    """The same in a process of its own."""
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        return pool.submit(attacked, size).result()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="tiny sizes, to see that it runs")
    parser.add_argument("--record", type=Path, help="add the result to this file")
    asked = parser.parse_args()
    size = QUICK if asked.quick else FULL
    ours, peak, value = alone(size)
    phi, world, split = study(*size)
    sample = np.linspace(0, size[2] - 1, min(SAMPLE, size[2])).astype(int)
    start = time.perf_counter()
    plain_value = float(np.mean(plain(phi[:, sample], world[:, sample], split)))
    loop = (time.perf_counter() - start) / len(sample) * size[2]
    del phi, world
    grown = [] if asked.quick else [(other, alone(other)[0]) for other in GROWTH]
    text = report(size, ours, peak, loop, len(sample), value, plain_value, grown)
    print(text)
    if asked.record:
        from bench.train import add  # torch and all: not while memory is measured

        add(text, asked.record)


def report(size: tuple[int, int, int], ours: float, peak: float, loop: float, sample: int, value: float, plain_value: float,
           grown: list[tuple[tuple[int, int, int], float]]) -> str:
    from engine.jobs import provenance

    rows = "".join(f"| {s} x {j} | {n:,} | {s * j * n / 1e6:.1f} | {took:.1f} | {1e9 * took / (s * j * n):.0f} |\n"
                   for (s, j, n), took in [*grown, (size, ours)])
    return f"""## {datetime.now(UTC):%Y-%m-%d}, U-LiRA ({provenance.machine('cpu')})

**{loop / ours:,.0f} times a plain loop over examples** (target {TARGET:g}): {ours:.1f} s and {peak:.2f} GiB at most, arrays included, for
{size[0]} splits x {size[1]} forget sets over {size[2]:,} examples with 1,000 bootstrap draws and epsilon, against {loop / 60:,.0f} min (from
{sample} examples).
Balanced accuracy {value:.4f}; the plain loop, on its sample, {plain_value:.4f}.

| models | examples | million values | seconds | ns a value |
| --- | --- | --- | --- | --- |
{rows}
`python -m bench.attack`
"""


if __name__ == "__main__":
    main()
