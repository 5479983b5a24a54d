"""One model again: the Lab's and the command line's `rerun`. A small study of its own, on the exact path, one model at a time.

It plans what it depends on (the retrained and the original model of that seed), uses what is stored or shipped, and says
before it starts how long the rest will take.
"""

import json
import math
import shlex
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from engine import registry
from engine.attacks import u_lira
from engine.data.catalogue import get as dataset_info
from engine.data.catalogue import loaded
from engine.data.splits import DataSpec, audited, pool_of
from engine.errors import BadInput, RunError
from engine.jobs import attack, catalogue, home, plan, provenance
from engine.jobs import study as study_files
from engine.jobs.allocator import keep_memory
from engine.jobs.calibrate import Calibration, device_kind
from engine.jobs.cells import Cell, Numeric
from engine.jobs.compute import SCORES, Context, Heard, compute, run_row
from engine.jobs.progress import Progress, Told
from engine.jobs.study import FRESH_FIRST_SPLIT, Study, make_cell
from engine.jobs.timing import time_cell, timing_id
from engine.models import catalogue as models
from engine.store import ingest, reader, records
from engine.train import recipe_for

REPEATS = 3


@dataclass(frozen=True)
class Asked:
    """A rerun as it was asked for, checked. stored: the study whose data and recipe it follows, if there is one. named: it was asked for."""

    cell: Cell
    stored: Study | None
    named: bool
    shadows: str | None  # run_id of the U-LiRA attack whose settings equal these, or None
    why_no_shadows: str

    @property
    def target(self) -> Cell:
        """The same method and settings on a fresh random half of the pool, which no stored shadow was trained on."""
        assert self.stored is not None
        split = FRESH_FIRST_SPLIT + self.cell.seed
        return self.stored.cell("u_lira", self.cell.key, seed=split, split=split, params=dict(self.cell.params))


def ask(method: str, dataset: str, model: str, seed: int, *, variant: str = "corrected", params: Mapping[str, Any] | None = None,
        study: str | None = None, device: str | None = None) -> Asked:
    """Check a rerun before anything is trained. study: name of the one whose data and recipe it follows; None for the first that fits.
    device: cpu or cuda; None or auto for what the machine has.

    Raises: BadInput with all faults at once.
    """
    faults: list[str] = []

    def tried(check: Callable[[], Any]) -> Any:
        try:
            return check()
        except BadInput as error:
            faults.extend(error.faults)
            return None

    known = None if method in ("original", "retrained") else tried(lambda: registry.get(method, variant))
    info = tried(lambda: dataset_info(dataset))
    tried(lambda: models.get(model))
    if known is not None:
        tried(lambda: known.params.from_dict(params or {}, method))
    elif params and not faults:
        faults.append(f"{method} has no hyper-parameters; leave --set out")
    if not isinstance(seed, int) or not 0 <= seed < 10_000:
        faults.append(f"seed: got {seed!r}, must be int in [0, 9999]")
    where = tried(lambda: device_kind(device))
    if faults:
        raise BadInput(*faults)
    dataset = info.name  # of a folder, the same from wherever it is named
    fitting = studies_of(dataset, model, study)
    stored = fitting[0] if fitting else None
    recipe = stored.recipe if stored else recipe_for(dataset, model)
    data = stored.data("seeds", seed) if stored else DataSpec(dataset, "seeds", forget=0)
    key = method if known is None else known.key
    cell = make_cell(data, model, key, seed=seed, recipe=recipe, params=params, numeric=Numeric(device=where))
    shadows, why = _shadows(cell, fitting)
    return Asked(cell, stored, study is not None, shadows, why)


def studies_of(dataset: str, model: str, name: str | None = None) -> list[Study]:
    """The studies in data/studies on this data and model, or the one of this name, there or in the results.

    Raises: BadInput for a name that no study on this data and model has.
    """
    known = [s for path in sorted(home.STUDIES.glob("*.yaml")) for s in study_files.read(path) if (s.dataset, s.model) == (dataset, model)]
    if name is None:
        return known
    known += [s for s in _stored_studies() if (s.dataset, s.model) == (dataset, model)]
    if found := [s for s in known if s.name == name]:
        return found[:1]
    raise BadInput(f"no study named '{name}' on {dataset} with {model}; there are: {', '.join(sorted({s.name for s in known})) or 'none'}")


def _stored_studies() -> list[Study]:
    """As the results have them, newest first; those whose file an older engine read and this one does not are left out."""
    db = reader.open_results(home.shipped_file(), home.Known.here().home)
    texts = db.execute("SELECT DISTINCT content FROM studies").fetchall()
    db.close()
    found: list[Study] = []
    for (text,) in texts:
        with suppress(BadInput):
            found.extend(study_files.parse(text, "a stored study"))
    return found


def estimate(asked: Asked) -> dict[str, Any]:
    """How long it will take and what it must train first, in seconds on this machine."""
    outlook = Outlook(asked.cell)
    cell, known = asked.cell, outlook.known
    done = known.finished(cell.run_id)
    outlook.references(cell, done)
    outlook.need(f"{cell.method} itself", cell, done)
    timed = known.finished(timing_id(cell, REPEATS, torch.get_num_threads()))
    outlook.need("timing, one model at a time", cell, timed, REPEATS + 1)
    retrain = known.finished(timing_id(cell.retrained, REPEATS, torch.get_num_threads()))
    outlook.need("timing of retraining", cell.retrained, retrain, most=30.0)
    outlook.target(asked)
    return outlook.document() | {"reused": done, "u_lira": asked.shadows is not None, "u_lira_reason": asked.why_no_shadows}


class Outlook:
    """What must be computed, and how many seconds each of that takes here. cell: of the shape of all that is asked about."""

    def __init__(self, cell: Cell) -> None:
        self.known = home.Known.here()
        self._calibration, self._device = Calibration(self.known.home), cell.numeric.device
        self._needs: list[dict[str, Any]] = []
        torch.set_num_threads(self._calibration.threads(cell))

    def need(self, what: str, cell: Cell, stored: bool, times: float = 1.0, most: float = math.inf) -> None:
        seconds = 0.0 if stored else min(times * plan.work(cell) / self._calibration.rate(cell), most)
        self._needs.append({"what": what, "seconds": seconds, "stored": stored})

    def references(self, cell: Cell, done: bool) -> None:
        """The models of the same seed that it is made from and held against. done: it is there itself."""
        if cell.kind != "retrained":
            self.need(f"retrained model of seed {cell.seed}", cell.retrained, done or self.known.finished(cell.retrained.run_id))
        if cell.kind == "unlearned":
            self.need(f"original model of seed {cell.seed}", cell.original, self.known.has_weights(cell.original))

    def target(self, asked: Asked) -> None:
        """The fresh model that U-LiRA attacks, where stored shadows have these settings."""
        if asked.shadows is not None:
            self.need("original of a fresh half, for U-LiRA", asked.target.original, self.known.has_weights(asked.target.original))
            self.need(f"{asked.cell.method} on the fresh half", asked.target, self.known.has_scores(asked.target))

    def document(self) -> dict[str, Any]:
        overhead = 4.0  # starting the process and evaluating
        return {"seconds": sum(n["seconds"] for n in self._needs) + overhead, "needs": self._needs, "faults": [], "device": self._device,
                "devices": ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]}


def rerun(asked: Asked, *, store: bool = True, heard: Heard | None = None, told: Told | None = None) -> dict[str, Any]:
    """Compute what is missing and return the result, in the form of `rerun --json`.

    store: False computes the model afresh in a temporary place and records nothing. told: hears of progress instead of the terminal.
    Raises: RunError.
    """
    if store:
        return Rerun(asked, home.Known.here(), heard, told).result()
    with tempfile.TemporaryDirectory(prefix="lethe-") as scratch:
        return Rerun(asked, home.Known(Path(scratch), fresh=False), heard, told, again=True).result()


class Rerun:
    """One rerun at work. again: even what is stored is computed, and nothing is taken into the results."""

    def __init__(self, asked: Asked, known: home.Known, heard: Heard | None, told: Told | None, again: bool = False) -> None:
        self.asked, self.cell, self.known, self.heard, self.told, self.again = asked, asked.cell, known, heard, told, again
        self.command = f"python -m engine {command(asked)}"
        keep_memory()
        torch.set_num_threads(Calibration(home.Known.here().home).threads(asked.cell))

    def result(self) -> dict[str, Any]:
        catalogue.publish(self.known.home)
        cell = self.cell
        reused = not self.again and self.known.finished(cell.run_id)
        if not reused:
            self.train_missing()
            self._compute(cell, cell.method if cell.kind == "unlearned" else f"training the {cell.method} model of seed {cell.seed}", self.heard)
        metrics = dict(self._metrics(cell.run_id))
        metrics |= self._timing()
        made: dict[str, Any] = {"run_id": cell.run_id, "method": cell.method, "variant": cell.variant, "dataset": cell.data.dataset, "model": cell.model,
                                "seed": cell.seed, "params": dict(cell.params), "metrics": metrics, "reused": reused,
                                "provenance": came_from(cell, self.command)}
        if self.asked.shadows is not None:
            made["u_lira"] = self.attack_target()
        else:
            made["u_lira_reason"] = self.asked.why_no_shadows
        if not self.again:
            ingest.ingest(self.known.home)
        return made

    def train_missing(self) -> None:
        """The models that it is made from and held against, as far as they are not stored."""
        cell = self.cell
        if cell.kind != "retrained" and not self.known.finished(cell.retrained.run_id):
            self._compute(cell.retrained, f"training the retrained model of seed {cell.seed}")
        if cell.kind == "unlearned" and not self.known.has_weights(cell.original):
            self._compute(cell.original, f"training the original model of seed {cell.seed}")

    def _compute(self, cell: Cell, phase: str, heard: Heard | None = None) -> None:
        progress = self.progress(phase, plan.epochs(cell), "epochs")

        def both(epoch: int, means: dict[str, torch.Tensor]) -> None:
            progress.show(epoch + 1)
            if heard is not None:
                heard(epoch, means)

        record, = compute([cell], Context(self.known.home, "rerun", self.command, (home.CHECKPOINTS,), self.known.references([cell]), both))
        row = record.tables["runs"][0]
        if row["status"] != "done":
            raise RunError(f"{cell.method} diverged: {row['error']}. It is recorded as a failure (run {cell.run_id}); try a smaller lr or fewer epochs.")

    def progress(self, phase: str, total: float, unit: str) -> Progress:
        """Of a step that begins now, already shown. total: 0 where it is not known."""
        made = Progress(phase, total, unit, also=self.told, quiet=self.told is not None)
        made.show(0)
        return made

    def _metrics(self, run_id: str) -> dict[str, float]:
        metrics = self.known.metrics(run_id)
        if not metrics:
            raise RunError(f"run {run_id} diverged when it was computed; try a smaller lr or fewer epochs")
        return metrics

    def _timing(self) -> dict[str, float]:
        """unlearn_s and rte, from dedicated runs on this machine."""
        context = Context(self.known.home, "rerun", self.command, (home.CHECKPOINTS,))
        reference = timing_id(self.cell.retrained, REPEATS, torch.get_num_threads())
        if not self.known.finished(reference):
            self.progress("timing the epochs of retraining", 0, "epochs")
            time_cell(self.cell.retrained, context, REPEATS)
        own = timing_id(self.cell, REPEATS, torch.get_num_threads())
        if not self.known.finished(own):
            retrain = self.known.metrics(reference)
            if self.cell.kind == "unlearned" and not self.known.has_weights(self.cell.original):
                self._compute(self.cell.original, f"training the original model of seed {self.cell.seed}")
            self.progress(f"timing {self.cell.method}, {REPEATS} times", 0, "runs")
            time_cell(self.cell, context, REPEATS, (retrain["retrain_s"], int(retrain["retrain_epochs_timed"])))
        return {name: value for name, value in self.known.metrics(own).items() if name in ("unlearn_s", "retrain_s", "rte")}

    def attack_target(self) -> dict[str, Any]:
        """Score a fresh model of these settings against the stored shadows' Gaussians."""
        target = self.asked.target
        if not self.known.has_weights(target.original):
            self._compute(target.original, "training the original of a fresh half, for U-LiRA")
        if not self.known.has_scores(target):
            self._compute(target, f"{target.method} on the fresh half, for U-LiRA")
        pool = pool_of(loaded(target.data.dataset).n_train, target.data.pool)
        phi = np.load(self.known.home / "runs" / target.run_id / SCORES)
        world = attack.world_of(target, pool)
        stored = _gaussians(self.asked.shadows or "", audited(pool))
        result = u_lira.score_target(phi, world, mu_forgotten=stored["mu_forgotten"], sigma_forgotten=stored["sigma_forgotten"],
                                     mu_never=stored["mu_never"], sigma_never=stored["sigma_never"])
        content = {"kind": "attack", "attack": "u_lira_target", "version": u_lira.INFO.version, "target": target.run_id, "shadows": self.asked.shadows}
        run_id = records.identity(content)
        estimates = {"balanced_accuracy": result.balanced_accuracy, "auc": result.auc}
        row = run_row(target, Context(self.known.home, "rerun", self.command)) | {
            "run_id": run_id, "kind": "attack", "attack": "u_lira_target", "cell": json.dumps(content, sort_keys=True), "status": "done",
            "started": provenance.now()}
        rows = [{"run_id": run_id, **m} for m in result.metrics()]
        records.write(self.known.home, records.Record(run_id, {"runs": [row], "metrics": rows}))
        return {"run_id": run_id, "split": target.data.split, "shadows": self.asked.shadows, "interval": result.interval,
                "n_forgotten": result.n_forgotten, "n_never": result.n_never,
                **{n: {"value": e.value, "lo": e.lo, "hi": e.hi} for n, e in estimates.items()}}


def came_from(cell: Cell, command: str) -> dict[str, Any]:
    """What a result says of where it comes from."""
    return {"command": command, "machine": provenance.machine(cell.numeric.device), "versions": json.loads(provenance.versions()),
            "pool": cell.data.pool, "recipe": dict(cell.recipe), "mode": cell.numeric.mode, "precision": cell.numeric.precision, **provenance.source()}


def _shadows(cell: Cell, fitting: Sequence[Study]) -> tuple[str | None, str]:
    """(run_id of the stored attack on these very settings, or None; why there is none). fitting: the study that is followed, and others on the
    same data and model, whose shadows serve too where they were trained alike."""
    if cell.kind != "unlearned":
        return None, "references are attacked in the study itself"
    if not fitting:
        return None, "there is no study with stored shadows on this data and model"
    db = reader.open_results(home.shipped_file(), home.Known.here().home)
    stored, numeric = fitting[0], fitting[0].numerics["u_lira"]
    alike = [s.name for s in fitting if (s.pool, s.forget_share, s.recipe) == (stored.pool, stored.forget_share, stored.recipe)]
    rows = db.execute(
        "SELECT run_id, params, mode, precision, device FROM runs WHERE kind = 'attack' AND attack = 'u_lira' AND status = 'done' AND dataset = ? "
        "AND model = ? AND method = ? AND variant = ? AND list_contains(?, study)",
        [cell.data.dataset, cell.model, cell.method, cell.variant, alike]).fetchall()
    db.close()
    for run_id, params, *how in rows:
        if json.loads(params) == dict(cell.params) and how == [numeric.mode, numeric.precision, numeric.device]:
            return run_id, ""
    if not rows:
        return None, f"{' and '.join(alike)} have no U-LiRA shadows of {cell.method}"
    theirs = json.loads(rows[0][1])
    differing = ", ".join(f"{name}={value}" for name, value in theirs.items() if dict(cell.params).get(name) != value)
    return None, f"the stored shadows of {cell.method} have other settings ({differing})"


def _gaussians(run_id: str, pool: np.ndarray) -> dict[str, np.ndarray]:
    """Stored means and deviations of both worlds, in the order of the pool; NaN where there are none."""
    db = reader.open_results(home.shipped_file(), home.Known.here().home)
    frame = db.execute("SELECT example, mu_forgotten, sigma_forgotten, mu_never, sigma_never FROM examples WHERE run_id = ?", [run_id]).df()
    db.close()
    return {str(name): column.to_numpy(float) for name, column in frame.set_index("example").reindex(pool).items()}


def command(asked: Asked, without: str = "") -> str:
    """The arguments that ask for it again. without: a parameter that is left out."""
    cell = asked.cell
    words = ["rerun", cell.method, "--dataset", cell.data.dataset, "--model", cell.model, "--seed", str(cell.seed)]
    words += ["--variant", cell.variant] if cell.variant != "corrected" else []
    words += ["--study", asked.stored.name] if asked.named and asked.stored else []
    words += ["--device", cell.numeric.device] if cell.numeric.device != device_kind() else []
    for name, value in cell.params:
        words += ["--set", f"{name}={value}"] if name != without else []
    return shlex.join(words)
