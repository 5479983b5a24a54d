"""Which executor, how many replicas, and how fast that is: measured for some seconds, remembered per machine, shape and precision."""

import json
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

from engine.data.catalogue import get as dataset_info
from engine.errors import BadInput
from engine.jobs import provenance
from engine.jobs.allocator import keep_memory
from engine.jobs.cells import Cell
from engine.jobs.compute import device_of
from engine.jobs.plan import EXACT_STACK, Strategy
from engine.losses import ce
from engine.models import catalogue as models
from engine.models.stack import PRECISIONS, Stack
from engine.optim import SGD

EXACT = {"loop": (1,)}
ON_A_CPU = {"fused": (1, 2, 4, 8, 16)}  # batched products have a half to two thirds of its rate there
ON_A_GPU = {"fused": (1, 4, 16), "products": (1, 4, 16, 32), "compiled": (4, 16, 32, 64)}
MEASURE_S = 0.4
NO_MORE = 0.8  # of the best rate of an executor: where more replicas fall below it, still more are not tried


class Calibration:
    """Images per second of training steps, all replicas together, by what was measured. One file under `home`."""

    def __init__(self, home: Path) -> None:
        self._path = home / "calibration.json"
        try:
            self._known: dict[str, dict[str, float]] = json.loads(self._path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            self._known = {}

    def strategy(self, cell: Cell) -> Strategy:
        """What trains most images a second for cells of this shape."""
        if cell.numeric.mode == "exact":
            return Strategy("loop", EXACT_STACK)
        rates = self._rates(cell)
        return Strategy.parse(max(rates, key=lambda name: rates[name]))

    def rate(self, cell: Cell) -> float:
        """Images per second of a single model in one process."""
        return self._rates(cell)[str(Strategy(cell.numeric.executor, 1))]

    def threads(self, cell: Cell) -> int:
        """1, or all cores where that trains a single model at least a fifth faster: small ones gain nothing and disturb others."""
        cores, before, rates = os.cpu_count() or 1, torch.get_num_threads(), []
        for threads in (1, cores):
            torch.set_num_threads(threads)
            rates.append(self.rate(cell))
        torch.set_num_threads(before)
        return cores if rates[1] > 1.2 * rates[0] else 1

    def _rates(self, cell: Cell) -> dict[str, float]:
        info, batch = dataset_info(cell.data.dataset), int(dict(cell.recipe)["batch"])
        shape = (cell.model, info.channels, info.side, info.classes, batch, cell.numeric.mode, cell.numeric.precision)
        key = "|".join(map(str, (provenance.machine(cell.numeric.device), torch.__version__, torch.get_num_threads(), *shape)))
        if key not in self._known:
            tried = EXACT if cell.numeric.mode == "exact" else ON_A_GPU if cell.numeric.device == "cuda" else ON_A_CPU
            self._known[key] = measure(cell, tried)
            self._save()
        return self._known[key]

    def _save(self) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        scratch = self._path.with_suffix(f".{os.getpid()}.tmp")
        scratch.write_text(json.dumps(self._known, indent=1), encoding="utf-8")
        scratch.replace(self._path)


def measure(cell: Cell, candidates: Mapping[str, Sequence[int]]) -> dict[str, float]:
    """Images per second of forward, backward and step on random images, by `executor replicas`.

    An executor's row ends where more replicas are clearly slower, or do not fit into the device's memory.
    """
    keep_memory()
    rates: dict[str, float] = {}
    for executor, numbers in candidates.items():
        best = 0.0
        for replicas in numbers:
            try:
                rate = _rate(cell, Strategy(executor, replicas))
            except torch.cuda.OutOfMemoryError:
                torch.cuda.empty_cache()
                break
            rates[str(Strategy(executor, replicas))], best = rate, max(best, rate)
            if rate < NO_MORE * best:
                break
    return rates


def _rate(cell: Cell, strategy: Strategy) -> float:
    info, batch = dataset_info(cell.data.dataset), int(dict(cell.recipe)["batch"])
    device, r = device_of(cell), strategy.replicas
    stack = Stack.build(models.get(cell.model), channels=info.channels, classes=info.classes, side=info.side, seeds=range(r), device=device,
                        executor=strategy.executor, precision=cell.numeric.precision)
    opt = SGD(stack, lr=0.01, momentum=0.9, weight_decay=5e-4)
    x = torch.randn(r, batch, info.channels, info.side, info.side, device=device, dtype=PRECISIONS[cell.numeric.precision])
    y = torch.randint(info.classes, (r, batch), device=device)
    steps, start = -2, time.perf_counter()
    while steps < 2 or time.perf_counter() - start < MEASURE_S:
        if steps == 0:
            start = time.perf_counter()  # the first two steps warm up, and compile
        opt.zero_grad()
        loss = ce(stack(x), y).sum()
        loss.backward()
        opt.step()
        loss.item()
        steps += 1
    return steps * r * batch / (time.perf_counter() - start)


def device_kind(given: str | None = None) -> str:
    """`given`, else `LETHE_DEVICE`: cpu, cuda, or auto (the default: CUDA where there is one). Raises: BadInput."""
    name, wish = ("device", given) if given is not None else ("LETHE_DEVICE", os.environ.get("LETHE_DEVICE", "auto"))
    if wish not in ("cpu", "cuda", "auto"):
        raise BadInput(f"{name}: got {wish!r}, must be cpu, cuda or auto")
    if wish == "cuda" and not torch.cuda.is_available():
        raise BadInput(f"{name}=cuda, but torch finds no CUDA device here; use cpu or auto")
    return "cuda" if wish != "cpu" and torch.cuda.is_available() else "cpu"
