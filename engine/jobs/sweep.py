"""One parameter of a method over several values, everything else as it is: what does it do?

Each value is an ordinary rerun: the same cell, on the same exact path, so what is stored is used and a rerun of one value finds it. They
start from one original and are held against one retrained model, and run as stacks where their shapes allow. One that diverges is recorded
as such and the others stand. None is timed, which has to be done one model at a time; the images that each sends through the network are counted.
"""

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from engine import registry
from engine.errors import BadInput
from engine.jobs import catalogue, home, plan, rerun
from engine.jobs.calibrate import Calibration
from engine.jobs.cells import REFERENCES
from engine.jobs.compute import Context, compute
from engine.jobs.progress import Told
from engine.params import Params
from engine.store import ingest

MOST = 9
Value = float | int | bool | str
HeardAll = Callable[[Value, int, str, float], None]  # which value, epoch, name, mean of that epoch (NaN where it logged nothing)


@dataclass(frozen=True)
class Sweep:
    """A sweep as it was asked for, checked. asked: one rerun a value, in the order of the values. log: the parameter is shown on a log scale."""

    name: str
    log: bool
    asked: tuple[rerun.Asked, ...]

    @property
    def values(self) -> list[Value]:
        return [dict(asked.cell.params)[self.name] for asked in self.asked]

    @property
    def command(self) -> str:
        given = ",".join(value if isinstance(value, str) else json.dumps(value) for value in self.values)
        return f"python -m engine {rerun.command(self.asked[0], without=self.name)} --sweep {self.name}={given}"


def ask(method: str, dataset: str, model: str, seed: int, sweep: str, *, variant: str = "corrected", params: Mapping[str, Any] | None = None,
        study: str | None = None, device: str | None = None) -> Sweep:
    """Check a sweep before anything is trained. sweep: NAME=LOW:HIGH:COUNT, evenly spaced, by factors where the parameter is declared on
    a log scale; or NAME=VALUE,VALUE,…. The others as in `rerun.ask`.

    Raises: BadInput with all faults at once.
    """
    if method in REFERENCES:
        raise BadInput(f"{method} has no hyper-parameters; leave --sweep out")
    known = registry.get(method, variant)
    given, faults, found = dict(params or {}), dict[str, None](), dict[str, rerun.Asked]()
    name, log, values = "", False, []
    try:
        name, log, values = _read(sweep, method, known.params)
    except BadInput as error:
        faults |= dict.fromkeys(error.faults)
    if name in given:
        faults[f"{name}: given by --set and by --sweep; leave one of them out"] = None
    for setting in [{**given, name: value} for value in values] or [given]:  # of a sweep that cannot be read, at least the rest
        try:
            one = rerun.ask(method, dataset, model, seed, variant=variant, params=setting, study=study, device=device)
            found.setdefault(one.cell.run_id, one)
        except BadInput as error:
            faults |= dict.fromkeys(error.faults)
    if not faults and len(found) < 2:
        faults[f"--sweep {sweep}: is one value; give 2 or more that differ, or use --set"] = None
    if faults:
        raise BadInput(*faults)
    return Sweep(name, log, tuple(found.values()))


def estimate(sweep: Sweep) -> dict[str, Any]:
    """As `rerun.estimate`, of all values together."""
    cells = [asked.cell for asked in sweep.asked]
    outlook = rerun.Outlook(cells[0])
    stored = [outlook.known.finished(cell.run_id) for cell in cells]
    outlook.references(cells[0], all(stored))
    for cell, value, done in zip(cells, sweep.values, stored, strict=True):
        outlook.need(f"{cell.method} with {sweep.name} = {_plain(value)}", cell, done)
    attacked = [asked for asked in sweep.asked if asked.shadows is not None]
    for asked in attacked:
        outlook.target(asked)
    reason = "" if attacked else f"{sweep.name} takes no value of which there are stored shadow models with these settings"
    return outlook.document() | {"reused": all(stored), "u_lira": bool(attacked), "u_lira_reason": reason, "sweep": _described(sweep)}


def run(sweep: Sweep, *, heard: HeardAll = lambda *_: None, told: Told | None = None) -> dict[str, Any]:
    """Compute what is missing and return the result, in the form of `rerun --sweep --json`. heard: every value's means, epoch by epoch.

    Raises: RunError where a reference cannot be made.
    """
    known = home.Known.here()
    catalogue.publish(known.home)
    runs = [rerun.Rerun(asked, known, None, told) for asked in sweep.asked]
    todo = [asked.cell for asked in sweep.asked if not known.finished(asked.cell.run_id)]
    if todo:
        runs[0].train_missing()
    values = {asked.cell.run_id: value for asked, value in zip(sweep.asked, sweep.values, strict=True)}
    for task in plan.tasks(todo, Calibration(known.home).strategy):
        among = ", ".join(_plain(values[cell.run_id]) for cell in task.cells)
        progress = runs[0].progress(f"{task.cells[0].method} with {sweep.name} = {among}", max(map(plan.epochs, task.cells)), "epochs")

        def report(epoch: int, means: Mapping[str, Any], task: plan.Task = task, progress: Any = progress) -> None:
            progress.show(epoch + 1)
            for r, cell in enumerate(task.cells):
                for name, mean in means.items():
                    heard(values[cell.run_id], epoch, name, float(mean[r]))

        compute(task.cells, Context(known.home, "rerun", sweep.command, (home.CHECKPOINTS,), known.references(task.cells), report))
    computed = {cell.run_id for cell in todo}
    points = [_point(one, value, one.cell.run_id not in computed) for one, value in zip(runs, sweep.values, strict=True)]
    first = sweep.asked[0].cell
    references = {cell.kind: known.metrics(cell.run_id) for cell in (first.retrained, first.original) if known.finished(cell.run_id)}
    ingest.ingest(known.home)
    return {"method": first.method, "variant": first.variant, "dataset": first.data.dataset, "model": first.model, "seed": first.seed,
            "params": {name: value for name, value in first.params if name != sweep.name}, "sweep": _described(sweep), "points": points,
            "references": references, "provenance": rerun.came_from(first, sweep.command)}


def text(document: Mapping[str, Any]) -> str:
    """A result for people: one line a value."""
    shown = ("test_accuracy", "forget_accuracy", "mia_test", "image_passes")
    lines = [f"{document['sweep']['name']:>12}  " + "  ".join(f"{name:>15}" for name in shown)]
    for point in document["points"]:
        cells = [f"{point['metrics'][name]:15.4g}" if name in point["metrics"] else f"{'–':>15}" for name in shown]
        lines.append(f"{_plain(point['value']):>12}  " + ("  ".join(cells) if point["metrics"] else f"{'diverged':>15}"))
    for kind, metrics in document["references"].items():
        lines.append(f"{kind:>12}  " + "  ".join(f"{metrics[name]:15.4g}" if name in metrics else f"{'–':>15}" for name in shown))
    return "\n".join(lines)


def _point(one: rerun.Rerun, value: Value, reused: bool) -> dict[str, Any]:
    """What became of one value. metrics: empty where it diverged."""
    metrics = one.known.metrics(one.cell.run_id)
    made = {"value": value, "run_id": one.cell.run_id, "status": "done" if metrics else "diverged", "metrics": metrics, "reused": reused}
    return made | ({"u_lira": one.attack_target()} if metrics and one.asked.shadows is not None else {})


def _described(sweep: Sweep) -> dict[str, Any]:
    return {"name": sweep.name, "log": sweep.log, "values": sweep.values}


def _read(sweep: str, method: str, params: type[Params]) -> tuple[str, bool, list[Any]]:
    """(parameter, whether it is on a log scale, values); values of a list are texts, which are checked with all other parameters."""
    declared = {name: (kind, note) for name, kind, note in params.declared()}
    name, equals, span = (part.strip() for part in sweep.partition("="))
    if not equals or not span:
        raise BadInput(f"--sweep {sweep}: must be NAME=LOW:HIGH:COUNT or NAME=VALUE,VALUE,…")
    if name not in declared:
        raise BadInput(f"{method} has no parameter '{name}'; it has: {', '.join(declared) or 'none'}")
    kind, note = declared[name]
    if ":" in span:
        return name, note.log, _between(sweep, name, kind if note.choices is None else str, note.log, span)
    values = [value.strip() for value in span.split(",")]
    if len(values) > MOST:
        raise BadInput(f"--sweep {name}: got {len(values)} values, must be {MOST} or fewer")
    return name, note.log, values


def _between(sweep: str, name: str, kind: type, log: bool, span: str) -> list[Any]:
    """Evenly spaced from LOW to HIGH, both included; to three digits between, or whole."""
    if kind not in (int, float):
        raise BadInput(f"--sweep {name}: has no range; give its values, as in {name}=VALUE,VALUE")
    try:
        lowest, highest, many = span.split(":")
        low, high, count = float(lowest), float(highest), int(many)
    except ValueError:
        raise BadInput(f"--sweep {sweep}: must be NAME=LOW:HIGH:COUNT, two numbers and how many values") from None
    faults = [f"--sweep {name}: got {count} values, must be int in [2, {MOST}]"] if not 2 <= count <= MOST else []
    if not -math.inf < low < high < math.inf:
        faults.append(f"--sweep {name}: got {low:g} to {high:g}, must go from a smaller number to a larger one")
    elif log and low <= 0:
        faults.append(f"--sweep {name}: got {low:g} to {high:g}, must begin above 0, since {name} is on a log scale; or give its values")
    if faults:
        raise BadInput(*faults)
    steps = [at / (count - 1) for at in range(count)]
    inner = [low * (high / low) ** at if log else low + (high - low) * at for at in steps[1:-1]]
    return [round(value) for value in (low, *inner, high)] if kind is int else [low, *(float(f"{value:.3g}") for value in inner), high]


def _plain(value: Value) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
