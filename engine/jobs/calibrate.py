"""How many replicas to stack and how fast that is: measured for a second or two, remembered per machine, shape and precision."""

import json
import os
import time
from pathlib import Path

import torch

from engine.data.catalogue import get as dataset_info
from engine.errors import BadInput
from engine.jobs import provenance
from engine.jobs.allocator import keep_memory
from engine.jobs.cells import Cell
from engine.jobs.compute import device_of
from engine.jobs.plan import EXACT_STACK
from engine.losses import ce
from engine.models import catalogue as models
from engine.models.stack import PRECISIONS, Stack
from engine.optim import SGD

CANDIDATES = (1, 2, 4, 8, 16)
MEASURE_S = 0.4


class Calibration:
    """Images per second of training steps, all replicas together, by what was measured. One file under `home`."""

    def __init__(self, home: Path) -> None:
        self._path = home / "calibration.json"
        try:
            self._known: dict[str, dict[str, float]] = json.loads(self._path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            self._known = {}

    def replicas(self, cell: Cell) -> int:
        """The R that trains most images a second for cells of this shape."""
        if cell.numeric.mode == "exact":
            return EXACT_STACK
        rates = self._rates(cell)
        return int(max(rates, key=lambda r: rates[r]))

    def rate(self, cell: Cell, replicas: int | None = None) -> float:
        """Images per second of one process at R `replicas`, or at the best R."""
        rates = self._rates(cell)
        return rates.get(str(replicas), max(rates.values())) if replicas else max(rates.values())

    def threads(self, cell: Cell) -> int:
        """1, or all cores where that trains a single model at least a fifth faster: small ones gain nothing and disturb others."""
        cores, before, rates = os.cpu_count() or 1, torch.get_num_threads(), []
        for threads in (1, cores):
            torch.set_num_threads(threads)
            rates.append(self.rate(cell, 1))
        torch.set_num_threads(before)
        return cores if rates[1] > 1.2 * rates[0] else 1

    def _rates(self, cell: Cell) -> dict[str, float]:
        info, batch = dataset_info(cell.data.dataset), int(dict(cell.recipe)["batch"])
        shape = (cell.model, info.channels, info.side, info.classes, batch, cell.numeric.executor, cell.numeric.precision)
        key = "|".join(map(str, (provenance.machine(cell.numeric.device), torch.__version__, torch.get_num_threads(), *shape)))
        if key not in self._known:
            tried = (1,) if cell.numeric.mode == "exact" else CANDIDATES
            self._known[key] = measure(cell, tried)
            self._save()
        return self._known[key]

    def _save(self) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        scratch = self._path.with_suffix(f".{os.getpid()}.tmp")
        scratch.write_text(json.dumps(self._known, indent=1), encoding="utf-8")
        scratch.replace(self._path)


def measure(cell: Cell, candidates: tuple[int, ...]) -> dict[str, float]:
    """Images per second of forward, backward and step on random images, for each number of replicas."""
    info, batch = dataset_info(cell.data.dataset), int(dict(cell.recipe)["batch"])
    architecture, device = models.get(cell.model), device_of(cell)
    keep_memory()
    rates = {}
    for r in candidates:
        stack = Stack.build(architecture, channels=info.channels, classes=info.classes, side=info.side, seeds=range(r), device=device,
                            executor=cell.numeric.executor, precision=cell.numeric.precision)
        opt = SGD(stack, lr=0.01, momentum=0.9, weight_decay=5e-4)
        x = torch.randn(r, batch, info.channels, info.side, info.side, device=device, dtype=PRECISIONS[cell.numeric.precision])
        y = torch.randint(info.classes, (r, batch), device=device)
        steps, start = -2, time.perf_counter()
        while steps < 2 or time.perf_counter() - start < MEASURE_S:
            if steps == 0:
                start = time.perf_counter()  # the first two steps warm up
            opt.zero_grad()
            loss = ce(stack(x), y).sum()
            loss.backward()
            opt.step()
            loss.item()
            steps += 1
        rates[str(r)] = steps * r * batch / (time.perf_counter() - start)
    return rates


def device_kind() -> str:
    """`LETHE_DEVICE`: cpu, cuda, or auto (the default: CUDA where there is one). Raises: BadInput."""
    wish = os.environ.get("LETHE_DEVICE", "auto")
    if wish not in ("cpu", "cuda", "auto"):
        raise BadInput(f"LETHE_DEVICE: got {wish!r}, must be cpu, cuda or auto")
    if wish == "cuda" and not torch.cuda.is_available():
        raise BadInput("LETHE_DEVICE=cuda, but torch finds no CUDA device here; use cpu or auto")
    return "cuda" if wish != "cpu" and torch.cuda.is_available() else "cpu"
