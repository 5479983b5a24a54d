"""From cells to tasks: which cells are still to do, which run together as one stack, and how much work that is."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from engine import registry
from engine.data.catalogue import get, loaded
from engine.data.splits import DataSpec, indices
from engine.errors import BadInput
from engine.jobs.cells import Cell
from engine.models.stack import EXECUTORS
from engine.runtime import is_shared
from engine.store.records import identity

EXACT_STACK = 8  # replicas of a loop stack: they run one after another, so this only sizes a task


@dataclass(frozen=True)
class Strategy:
    """How a stack is run: by which executor (see `engine.models.stack`), and how many replicas at most."""

    executor: str
    replicas: int

    def __str__(self) -> str:
        return f"{self.executor} {self.replicas}"

    @classmethod
    def parse(cls, text: str) -> "Strategy":
        """Raises: BadInput."""
        executor, _, replicas = text.partition(" ")
        if executor not in EXECUTORS or not replicas.isdecimal() or int(replicas) < 1:
            raise BadInput(f"a strategy is one of {', '.join(EXECUTORS)} and a number of replicas, such as 'fused 8'; got {text!r}")
        return cls(executor, int(replicas))


@dataclass(frozen=True)
class Task:
    """Cells of one shape that run as one stack. work: images that its training steps will see."""

    cells: tuple[Cell, ...]
    work: float
    executor: str

    @property
    def name(self) -> str:
        return identity([c.run_id for c in self.cells])


def stack_key(cell: Cell) -> tuple[Any, ...]:
    """Cells with the same key have the same shapes throughout and may share a stack."""
    shared = tuple((n, v) for n, v in cell.params if is_shared(n, type(v)))
    data = (cell.data.dataset, cell.data.protocol in ("u_lira", "tuning"), cell.data.pool, cell.data.forget is None, cell.data.forget_share)
    return (cell.method, cell.variant, *data, cell.data.protocol, cell.model, cell.recipe, cell.numeric, shared)


def tasks(cells: Iterable[Cell], strategy: Callable[[Cell], Strategy], slots: int = 1) -> list[Task]:
    """Stacks of at most as many cells of equal shape as `strategy(cell)` says, sorted by epochs so that few are gated; longest task first.

    Few cells are shared out evenly among `slots` processes.
    """
    groups: dict[tuple[Any, ...], dict[str, Cell]] = defaultdict(dict)
    for cell in cells:
        groups[stack_key(cell)].setdefault(cell.run_id, cell)
    made = []
    for group in groups.values():
        ordered = sorted(group.values(), key=lambda c: (epochs(c), c.data.split or 0, c.data.forget or 0, c.seed))
        chosen = strategy(ordered[0])
        rounds = -(-len(ordered) // (chosen.replicas * slots))  # in each every process has one stack, of the same size
        size = -(-len(ordered) // (rounds * slots))
        for start in range(0, len(ordered), size):
            part = tuple(ordered[start : start + size])
            made.append(Task(part, sum(work(c) for c in part), chosen.executor))
    return sorted(made, key=lambda t: -t.work)


def work(cell: Cell) -> float:
    """Images that the training steps of a cell see, or would see in the time that it takes: from its walks and the splits it reads."""
    sizes = split_sizes(cell.data)
    if cell.kind == "original":
        return epochs(cell) * (sizes["retain"] + sizes["forget"])
    if cell.kind == "retrained":
        return epochs(cell) * sizes["retain"]
    method = registry.get(cell.key)
    walks = method.walks(dict(cell.params), get(cell.data.dataset).classes) if method.walks else epochs(cell)
    return walks * sum(sizes.get(split, 0) for split in method.reads)


def split_sizes(spec: DataSpec) -> dict[str, int]:
    data = loaded(spec.dataset)
    return {name: len(rows) for name, rows in indices(spec, data.n_train, len(data) - data.n_train).items()}


def epochs(cell: Cell) -> float:
    """Walks over its data that a cell declares."""
    return float(dict(cell.recipe if cell.kind != "unlearned" else cell.params).get("epochs", 1))


def stages(cells: Sequence[Cell]) -> list[list[Cell]]:
    """In the order in which they need each other: retrained (the reference of metrics), original, unlearned."""
    return [[c for c in cells if c.kind == kind] for kind in ("retrained", "original", "unlearned")]


