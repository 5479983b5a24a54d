"""An audit: attacks on the models of a file that somebody brings, printed and stored; nothing is trained."""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from engine.attacks import suite
from engine.attacks.models import Models
from engine.attacks.rates import FPRS, Metric
from engine.attacks.suite import Found
from engine.errors import DataError, Diverged
from engine.jobs import attack, provenance
from engine.jobs.arrays import KINDS, Arrays
from engine.metrics.epsilon import DELTA
from engine.store import records, report

PROTOCOL = "audit"


def audit(arrays: Arrays, home: Path, *, seed: int = 0, command: str = "") -> dict[str, Any]:
    """Every attack that the file allows; leaves one record each. Returns what `audit --json` prints for it.

    {file, digest, seed, runs, attacks: {name: {balanced_accuracy, auc, tpr_at_fpr, epsilon, ci, …}}, epsilon, calibration, checks, verdict, warnings};
    an attack on retrained or original models is named `attack/kind`; `epsilon` of all is that of `u_lira`. Raises: DataError when no attack applies at all.
    """
    models = {kind: Models(*arrays.of(kind), arrays.labels) for kind in KINDS if (arrays.kind == kind).any()}
    attacks: dict[str, Any] = {}
    found: dict[str, Found] = {}
    runs, warnings = list[str](), list[str]()
    for kind, mine in models.items():
        for name, (info, run) in suite.ATTACKS[kind].items():
            beside = {other: models[other] for other in suite.BESIDE.get(name, ()) if other in models}
            if name in suite.BESIDE and not beside and name not in suite.MAY_LACK:
                continue
            key, clock, started = name if kind == "unlearned" else f"{name}/{kind}", time.perf_counter(), provenance.now()
            try:
                found[key] = run(mine, beside, seed)
            except (DataError, Diverged) as error:
                warnings.extend(f"{key}: {fault}" for fault in str(error).splitlines())
                continue
            attacks[key] = shown(found[key].metrics)
            content = {"kind": "attack", "attack": name, "version": info.version, "seed": seed, "audit": arrays.digest, "models": kind}
            row = attack.plain_row(content, name, kind, command) | {"started": started, "wall_s": time.perf_counter() - clock}
            row |= {"study": arrays.path.name, "amortised_s": row["wall_s"], "protocol": PROTOCOL, "seed": seed}
            tables = attack.tables_of(found[key], row["run_id"], arrays.example, arrays.labels)
            records.write(home, records.Record(row["run_id"], {"runs": [row]} | tables))
            runs.append(row["run_id"])
    if not found:
        raise DataError(f"{arrays.path}: no attack applies", *warnings)
    checks = [check for result in found.values() for check in result.checks]
    outcome = report.outcome_of(checks) if checks else "absent"
    rows = {row["name"]: row for row in found["u_lira"].metrics} if "u_lira" in found else {}
    return {"file": str(arrays.path), "digest": arrays.digest, "seed": seed, "runs": runs, "attacks": attacks,
            "epsilon": attacks.get("u_lira", {}).get("epsilon"), "calibration": outcome, "checks": checks,
            "verdict": report.verdict(rows, outcome), "warnings": warnings}


def shown(metrics: list[Metric]) -> dict[str, Any]:
    """Metrics as the JSON has them: rates by FPR and epsilon under one name each, intervals apart."""
    made: dict[str, Any] = {"tpr_at_fpr": {}, "ci": {}}
    for row in metrics:
        name, rate, bound = row["name"], row["name"].removeprefix("tpr_at_fpr_"), row["name"].removeprefix("epsilon_")
        if rate != name and float(rate) in FPRS:
            made["tpr_at_fpr"][rate] = _finite(row["value"])
        elif bound in ("lower_bound", "most"):
            made.setdefault("epsilon", {"delta": DELTA})[bound] = row["value"]
        else:
            made[name] = _finite(row["value"])
        if row["lo"] is not None and row["hi"] is not None:
            made["ci"][name] = [_finite(row["lo"]), _finite(row["hi"])]
    return made


def text(document: Mapping[str, Any]) -> str:
    """The same for people."""
    lines = [f"{document['file']}: {document['verdict']}", ""]
    for name, found in document["attacks"].items():
        if "balanced_accuracy" in found:
            lo, hi = found["ci"].get("balanced_accuracy", (None, None))
            rates = "".join(f"  TPR {tpr:.3f} at FPR {rate}" for rate, tpr in found["tpr_at_fpr"].items())
            shows = f"  epsilon at least {found['epsilon']['lower_bound']:.2f}" if "epsilon" in found else ""
            lines.append(f"  {name:<22} balanced accuracy {found['balanced_accuracy']:.3f} [{lo:.3f}, {hi:.3f}]  AUC {found['auc']:.3f}{rates}{shows}")
        elif "forgetting_quality" in found:
            in_sample = f"chosen and reported on the same models: {found['forgetting_quality_in_sample']:.3f}"
            lines.append(f"  {name:<22} F {found['forgetting_quality']:.3f} ({in_sample})")
        elif "klom_forget_p95" in found:
            lines.append(f"  {name:<22} 95th percentile {found['klom_forget_p95']:.2f} nats")
    if document["epsilon"]:
        epsilon = document["epsilon"]
        lines.append(f"  epsilon                at least {epsilon['lower_bound']:.2f} (95 %) by u_lira; so many splits can show {epsilon['most']:.2f} at most")
    lines += ["", f"  calibration: {document['calibration']}"]
    lines += [f"    {check['name']}: {check['outcome']}, {check['value']:.3f} [{check['lo']:.3f}, {check['hi']:.3f}]; {check['bound']}"
              for check in document["checks"]]
    return "\n".join([*lines, *(f"  warning: {warning}" for warning in document["warnings"])])


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def write_report(document: Mapping[str, Any], db: Any, path: Path) -> None:
    """The stored attacks of an audit as one HTML file, whole or not at all."""
    made = report.html(f"Audit of {Path(document['file']).name}", report.evidence(db, document["runs"]), note=" ".join(document["warnings"]))
    scratch = path.with_name(f".{path.name}.part")
    scratch.write_text(made, encoding="utf-8")
    scratch.replace(path)

