"""Invented records of a plausible study, for the tests of queries and pages only. These numbers never ship.

Everything goes the way of real results: `records.write` into run folders, then `ingest`.
"""

import json
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np

from engine.store import records
from engine.store.records import Record, Row

COMMIT = "0123abc4567def890123abc4567def890123abcd"
STARTED = datetime(2026, 11, 20, 9, 30)

# what each method is made to look like: forget accuracy, test retention, U-LiRA, population attack, speed-up
LOOKS: dict[str, tuple[float, float, float, float, float]] = {
    "original": (1.000, 1.002, 0.662, 0.556, float("nan")),
    "retrained": (0.974, 1.000, 0.503, 0.503, 1.0),
    "ft": (0.995, 0.996, 0.604, 0.531, 9.5),
    "ct": (0.979, 0.988, 0.529, 0.511, 14.0),
    "ga": (0.931, 0.952, 0.631, 0.541, 46.0),
    "ng_plus": (0.968, 0.993, 0.561, 0.507, 11.8),
    "srl": (0.951, 0.981, 0.583, 0.489, 7.4),
    "msg": (0.976, 0.990, 0.514, 0.506, 12.6),
}
PARAMS: dict[str, dict[str, Any]] = {
    "ft": {"lr": 0.05, "epochs": 5, "batch": 64},
    "ct": {"lr": 0.1, "epochs": 4, "batch": 64},
    "ga": {"lr": 0.0004, "epochs": 3, "batch": 64},
    "ng_plus": {"lr": 0.02, "epochs": 6, "batch": 64, "alpha": 0.93},
    "srl": {"lr": 0.03, "epochs": 6, "batch": 64},
    "msg": {"lr": 0.08, "epochs": 4, "batch": 64, "share": 0.3, "nesterov": False, "reset": "smallest"},
}
METHODS = tuple(PARAMS)


def catalogue() -> dict[str, Any]:
    """What the engine publishes, cut down to what pages read."""
    def param(name: str, kind: str, default: Any, low: Any, high: Any, doc: str, **more: Any) -> Row:
        return {"name": name, "type": kind, "default": default, "low": low, "high": high, "log": False, "choices": None,
                "search": None, "doc": doc, **more}

    def method(name: str, label: str, family: str, *extra: Row) -> Row:
        shared = [param("lr", "float", 0.01, 0, 10, "SGD step size", log=True), param("epochs", "int", 5, 1, 1000, "walks over retain"),
                  param("batch", "int", 64, 1, 65536, "examples per step")]
        return {"name": name, "label": label, "family": family, "source": "paper", "paper": "arXiv:0000.00000", "variants": ["corrected"],
                "reads": ["retain"], "version": 1, "doc": f"{label}: what it does, in one line.\n\nMore.", "params": [*shared, *extra]}

    def reference(name: str, label: str) -> Row:
        return {"name": name, "label": label, "family": "reference", "source": "reference", "paper": "", "variants": ["corrected"], "reads": [],
                "version": 1, "doc": "", "params": []}

    reset = param("reset", "choice", "smallest", None, None, "which weights are drawn anew", choices=["smallest", "random"])
    return {
        "methods": [reference("original", "Original"), reference("retrained", "Retrained"),
                    method("ct", "CT", "finetune"), method("ft", "FT", "finetune"), method("ga", "GA", "ascent"),
                    method("msg", "MSG", "reset", param("share", "float", 0.3, 0, 1, "share of the weights"),
                           param("nesterov", "bool", False, None, None, "look ahead"), reset),
                    method("ng_plus", "NG+", "ascent", param("alpha", "float", 0.95, 0, 1, "weight of the retain loss")),
                    method("srl", "SRL", "ascent")],
        "datasets": [{"name": "digits", "label": "Digits", "classes": 10, "shape": [1, 8, 8], "doc": "", "embedded": True},
                     {"name": "fashion_mnist", "label": "FashionMNIST", "classes": 10, "shape": [1, 28, 28], "doc": "", "embedded": False}],
        "models": [{"name": "cnn", "label": "small CNN", "doc": ""}, {"name": "resnet18", "label": "ResNet-18", "doc": ""},
                   {"name": "resnet18_cifar", "label": "ResNet-18, 3×3 stem", "doc": ""}],
        "attacks": [], "scenarios": [],
    }


def study(home: Path, *, name: str = "embedded", title: str = "Six methods on digits", dataset: str = "digits", model: str = "cnn",
          seeds: int = 10, methods: tuple[str, ...] = METHODS, privacy: bool = True, timing: bool = True, calibrated: str = "passed",
          missing: int = 0, diverged: tuple[str, ...] = (), failed: tuple[str, ...] = (), started: datetime = STARTED, shift: float = 0.0,
          like_retrained: tuple[str, ...] = (), every_attack: bool = False, over_forgets: tuple[str, ...] = ()) -> str:
    """Write the records of one study under `home`; returns its run_id.

    missing: the last so many seeds are declared and not there yet. diverged: methods whose seed 0 ended in no numbers, for good.
    failed: methods whose seed 0 was tried and stopped by an error. shift: added to each U-LiRA result. like_retrained: methods whose
    models are as retrained ones. calibrated: outcome of the check on retrained models; absent: no checks at all. every_attack: also those
    beside U-LiRA. over_forgets: methods that leak more than the original.
    """
    written = list(_cells(name, dataset, model, seeds, methods, privacy, timing, calibrated, started, shift, like_retrained, every_attack, over_forgets))
    own = records.identity({"study": name, "dataset": dataset, "seeds": seeds, "methods": methods})
    members = [{"run_id": own, "member": record.run_id, "role": role, "method": record.tables["runs"][0]["method"]} for role, record in written]
    for role, record in written:
        run = record.tables["runs"][0]
        if role == "seeds" and run["seed"] >= seeds - missing:
            continue
        if role == "seeds" and run["method"] in diverged and run["seed"] == 0:
            record = Record(record.run_id, {"runs": [{**run, "status": "diverged", "error": "weights are not finite at the end"}]})
        if role == "seeds" and run["method"] in failed and run["seed"] == 0:
            attempt = f"{record.run_id}.failed-1"
            record = Record(attempt, {"runs": [{**run, "run_id": attempt, "status": "failed", "error": "No space left on device"}]})
        records.write(home, record)
    row = _run(own, "study", name, dataset, model, "study", started, command=f"python -m engine study run data/studies/{name}.yaml")
    records.write(home, Record(own, {"runs": [row], "members": members, "studies": [
        {"run_id": own, "name": name, "title": title, "content": f"name: {name}\ndataset: {dataset}\n"}]}))
    return own


def publish(home: Path) -> None:
    """The catalogue, where the engine puts it."""
    home.mkdir(parents=True, exist_ok=True)
    (home / "catalogue.json").write_text(json.dumps(catalogue()), encoding="utf-8")


def _run(run_id: str, kind: str, study: str, dataset: str, model: str, method: str, started: datetime, **more: Any) -> Row:
    return {"run_id": run_id, "kind": kind, "study": study, "dataset": dataset, "model": model, "method": method, "variant": "corrected",
            "source": "reference" if method in ("original", "retrained") else "paper", "status": "done", "mode": "fast", "precision": "fp32",
            "device": "cpu", "executor": "fused", "replicas": 10, "slot": 0, "threads": 1, "started": started.isoformat(sep=" "),
            "wall_s": 20.0, "amortised_s": 2.0, "commit": COMMIT, "clean": True, "source_hash": "feedbeef", "machine": "test machine, 2 cores",
            "versions": "{}", "cell": json.dumps({"kind": kind, "method": method, "versions": {"method": 1}}), **more}


def _cells(name: str, dataset: str, model: str, seeds: int, methods: tuple[str, ...], privacy: bool, timing: bool, calibrated: str,
           started: datetime, shift: float, like_retrained: tuple[str, ...], every_attack: bool,
           over_forgets: tuple[str, ...]) -> Iterator[tuple[str, Record]]:
    """(role, record) of every cell, in the order they would be made."""
    rng = np.random.default_rng(0)

    def record(kind: str, method: str, at: int, metrics: dict[str, Any], tables: dict[str, list[Row]] | None = None, **more: Any) -> Record:
        run_id = records.identity({"kind": kind, "method": method, "study": name, "dataset": dataset, **{k: more[k] for k in more if k != "params"}})
        rows = [{"run_id": run_id, "name": key, **(value if isinstance(value, dict) else {"value": value})} for key, value in metrics.items()]
        body = {table: [{"run_id": run_id, **row} for row in found] for table, found in (tables or {}).items()}
        run = _run(run_id, kind, name, dataset, model, method, started + timedelta(seconds=at), **more)
        return Record(run_id, {"runs": [run], "metrics": rows, **body})

    for place, method in enumerate(("original", "retrained", *methods)):
        kind = method if method in ("original", "retrained") else "unlearned"
        forget, retention, ulira, population, speed = (*LOOKS["retrained"][:4], LOOKS[method][4]) if method in like_retrained else LOOKS[method]
        ulira = LOOKS["original"][2] + 0.08 if method in over_forgets else ulira
        settings = json.dumps(PARAMS.get(method, {}))
        for seed in range(seeds):
            noise = rng.normal(0, 0.004, 6)
            retained = 1.0 if method == "retrained" else retention + noise[0]
            mia = float(np.clip(population + 2 * noise[1], 0, 1))
            test = 0.974 * retained
            values = {"retain_accuracy": min(1.0, 1.0 + noise[2] / 4), "forget_accuracy": min(1.0, forget + noise[3]),
                      "val_accuracy": 0.97 + noise[4], "test_accuracy": test, "retain_retention": 1.0, "forget_retention": forget / 0.974,
                      "val_retention": retained, "test_retention": retained,
                      "retention_deviation": 0.0 if method == "retrained" else abs(retained - 1) + abs(forget / 0.974 - 1),
                      "mia_val": mia, "mia_test": mia, "indiscernibility": 1 - abs(2 * mia - 1), "forward_passes": 9e4, "backward_passes": 6e4,
                      "image_passes": 15e4 / (speed if speed == speed else 1)}
            curve = [{"epoch": e, "name": "loss", "value": 1.5 * 0.6**e} for e in range(4)] if kind == "unlearned" else []
            yield "seeds", record(kind, method, 60 * place + seed, values, {"curves": curve}, protocol="seeds", seed=seed, params=settings,
                                  command=f"python -m engine rerun {method} --dataset {dataset} --model {model} --seed {seed}")
        if timing and method != "original":
            seconds = 6.0 / speed
            spread = {key: {"value": v, "lo": 0.94 * v, "hi": 1.08 * v} for key, v in
                      (("unlearn_s", seconds), ("retrain_s", 6.0), ("rte", speed))}
            yield "timing", record("timing", method, 3000 + place, spread, protocol="seeds", seed=0, params=settings)
        if privacy:
            yield "attack", _attack(record, rng, method, place, ulira + shift, calibrated)
            for found in _other_attacks(record, rng, method, place, ulira + shift) if every_attack else ():
                yield "attack", found
        if kind == "unlearned":
            found = [{"trial": t, "params": json.dumps({**PARAMS[method], "lr": 10 ** rng.uniform(-4, 0)}), "score": 0.05 + 0.02 * t,
                      "parts": "{}", "status": "done", "chosen": t == 0} for t in range(12)]
            yield "search", record("search", method, 5000 + place, {}, {"trials": found}, protocol="tuning", params="{}")


def _attack(record: Any, rng: np.random.Generator, method: str, place: int, leak: float, calibrated: str) -> Record:
    """A U-LiRA run with its ROC, its examples and, on the references, its calibration."""
    auc = 0.5 + 1.25 * (leak - 0.5)
    roc = _roc(leak)
    examples = [{"example": i, "label": i % 10, "n_forgotten": 16, "n_never": 320, "mu_forgotten": 6 + rng.normal(), "sigma_forgotten": 1.0,
                 "mu_never": 6.0, "sigma_never": 1.1, "balanced_accuracy": float(np.clip(rng.normal(leak, 0.05), 0, 1))} for i in range(60)]
    checks = {"retrained": [("retrained_at_chance", calibrated, leak, "interval within 0.47 to 0.53"),
                            ("planted_shift", "passed", 0.98, "recovered between 0.9 and 1.1 of what was planted")],
              "original": [("original_has_power", "passed", leak, "lower end above 0.55")]}.get(method, [])
    checks = checks if calibrated != "absent" else []
    rows = [{"name": n, "outcome": o, "value": v, "lo": v - 0.012, "hi": v + 0.012, "bound": b} for n, o, v, b in checks]
    metrics: dict[str, Any] = {key: {"value": v, "lo": v - reach, "hi": v + reach} for key, v, reach in
                               (("balanced_accuracy", leak, 0.012), ("auc", auc, 0.015), ("tpr_at_fpr_0.1", 0.1 + leak - 0.5, 0.02),
                                ("tpr_at_fpr_0.01", 0.01 + 0.2 * (leak - 0.5), 0.01))}
    metrics |= {"shift": -0.6 if method in ("ga", "srl") else 8 * (leak - 0.5), "n_models": 640, "n_splits": 64, "n_examples": 1500}
    tables = {"roc": roc, "examples": examples, "calibration": rows}
    return record("attack", method, 4000 + place, metrics, tables, attack="u_lira", protocol="u_lira", params=json.dumps(PARAMS.get(method, {})),
                  command="python -m engine study run data/studies/embedded.yaml")


def _roc(leak: float) -> list[Row]:
    return [{"fpr": float(f), "tpr": float(min(1.0, f ** (1 - 1.6 * abs(leak - 0.5))))} for f in np.logspace(-3, 0, 60)]


def _other_attacks(record: Any, rng: np.random.Generator, method: str, place: int, leak: float) -> Iterator[Record]:
    """What stands beside U-LiRA: exposure of methods and retrained models, ceilings of originals, the rest of methods alone."""
    def made(attack: str, metrics: dict[str, Any], tables: dict[str, list[Row]] | None = None) -> Record:
        return record("attack", method, 4000 + place, metrics, tables, attack=attack, protocol="u_lira", params=json.dumps(PARAMS.get(method, {})))

    def near(value: float, reach: float = 0.01) -> dict[str, float]:
        return {"value": value, "lo": value - reach, "hi": value + reach}

    if method == "original":
        for ceiling in ("lira", "rmia"):
            yield made(ceiling, {"balanced_accuracy": near(0.61), "smallest_fpr": 0.001}, {"roc": _roc(0.61)})
        return
    worst = 0.5 + min(3 * abs(leak - 0.5), 0.49)
    metrics: dict[str, Any] = {"epsilon_lower_bound": round(max(0.0, 8 * (leak - 0.52)), 2), "epsilon_most": 3.02, "worst_0.05_same_data": worst + 0.01}
    metrics |= {f"worst_{share:g}": near(worst - share) for share in (0.01, 0.05, 0.1)}
    metrics |= {f"class_{label}": near(leak + 0.01 * (label % 3), 0.03) for label in range(10)} | {f"class_{label}_n_examples": 6 for label in range(10)}
    chosen = [{"example": i, "label": i % 10, "half": half, "chosen": worst - 0.002 * i, "balanced_accuracy": float(np.clip(rng.normal(worst, 0.02), 0, 1))}
              for half in (0, 1) for i in range(half * 5, half * 5 + 12)]
    yield made("exposure", metrics, {"examples": chosen})
    if method == "retrained":
        return
    yield made("versus_retrained", {"balanced_accuracy": near(leak + 0.1), "shift": -0.4, "smallest_fpr": 0.001}, {"roc": _roc(leak + 0.1)})
    yield made("ruli", {"privacy_random_balanced_accuracy": near(leak), "privacy_vulnerable_balanced_accuracy": near(worst)})
    yield made("forgetting_quality", {"forgetting_quality": near(max(0.0, 0.9 - 4 * abs(leak - 0.5)))})
    yield made("klom", {"klom_forget_p95": near(5.0), "klom_forget_halved_p95": 6 + 20 * abs(leak - 0.5), "klom_forget_floor_p95": 6.1})
