"""Several finished runs side by side: the settings that differ, then every metric, beside the study and retraining."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
import streamlit as st

from pages.ui import charts, export, formats, page
from pages.ui.formats import Rows
from pages.ui.theme import look

FEWEST, MOST = 2, 5
_FIRST = ("balanced_accuracy", "test_accuracy", "forget_accuracy", "retain_accuracy", "retention_deviation", "mia_test", "indiscernibility",
          "unlearn_s", "rte", "image_passes")
_FACTS = {"method": "Method", "variant": "Variant", "dataset": "Dataset", "model": "Model", "seed": "Seed"}


@dataclass(frozen=True)
class Beside:
    """A finished run, and the study that it is held against. found: as `queue.result` has it. study: rows of `queries.results`, none without one."""

    job_id: str
    found: Mapping[str, Any]
    study: Rows

    def of(self, method: str, variant: str = "corrected") -> formats.Row | None:
        return next((row for row in self.study if (row["method"], row["variant"]) == (method, variant)), None)


def answer(view: page.View, runs: Sequence[Beside]) -> str:
    """How the runs differ, in words."""
    differ = [name.lower() if name in _FACTS.values() else name for name, values in _settings(view, runs).items() if len(set(values)) > 1]
    tests = sorted(run.found["metrics"]["test_accuracy"] for run in runs if "test_accuracy" in run.found["metrics"])
    reach = f" Test accuracy runs from {formats.number(tests[0], 'share')} to {formats.number(tests[-1], 'share')}." if tests else ""
    what = f"They differ in {formats.listed(differ)}" if differ else "They have the same settings"
    return (f"**{formats.counted(len(runs), 'run')}** side by side. {what}.{reach} Each is one model: the study's intervals over seeds tell what a "
            "difference is worth.")


def draw(view: page.View, runs: Sequence[Beside]) -> None:
    """The table and its files."""
    table = shown(view, runs)
    st.dataframe(table, hide_index=True, height="content", key="abreast-table", alt="Settings and metrics of the chosen runs, a column a run",
                 column_config={column: st.column_config.TextColumn(width=165 if column else 150, pinned=not column) for column in table.columns})
    full = pd.DataFrame([{"job": run.job_id, "run_id": run.found["run_id"], **{name: run.found[name] for name in _FACTS}, **run.found["params"],
                          **run.found["metrics"]} for run in runs])
    export.table("lethe-runs", full, table, caption="Single runs: settings that differ, then every metric; beside them means over the study's seeds.")
    st.caption("Settings that differ come first; those that are the same for all are left out.")


def shown(view: page.View, runs: Sequence[Beside]) -> pd.DataFrame:
    """Rows: settings that differ, then metrics. Columns: the runs, then what the study has for their methods, and retraining. All texts."""
    columns = {f"{at}: {look(view.looks, run.found['method']).title(run.found['variant'])}": run for at, run in zip("ABCDE", runs, strict=False)}
    references = _references(view, runs)
    rows = [{"": name, **dict(zip(columns, values, strict=True)), **{title: setting.get(name, "") for title, (_, setting) in references.items()}}
            for name, values in _settings(view, runs).items() if len(set(values)) > 1]
    for metric in [*_FIRST, *(name for name in formats.METRICS if name not in _FIRST)]:
        known = formats.METRICS[metric]
        values = {title: _value(run.found, metric) for title, run in columns.items()}
        if set(values.values()) != {formats.MISSING}:
            rows.append({"": known.header, **values, **{title: charts.told(row, metric) if metric in row else formats.MISSING
                                                        for title, (row, _) in references.items()}})
    return pd.DataFrame(rows)


def _settings(view: page.View, runs: Sequence[Beside]) -> dict[str, list[str]]:
    """Every setting of every run, by name, as texts; a dash for a parameter that a method does not have."""
    made = {title: [str(run.found[name]) for run in runs] for name, title in _FACTS.items()}
    made["Method"] = [look(view.looks, name).label for name in made["Method"]]
    for name in dict.fromkeys(name for run in runs for name in run.found["params"]):
        made[name] = [formats.plain(run.found["params"][name]) if name in run.found["params"] else formats.MISSING for run in runs]
    return made


def _references(view: page.View, runs: Sequence[Beside]) -> dict[str, tuple[formats.Row, dict[str, str]]]:
    """By title: a row of a study, and its setting in words; those of the methods that are compared, then retraining."""
    places = {(run.found["dataset"], run.found["model"]) for run in runs}
    made: dict[str, tuple[formats.Row, dict[str, str]]] = {}
    for kind in ("study", "retrained"):
        for run in runs:
            method, variant = (run.found["method"], run.found["variant"]) if kind == "study" else ("retrained", "corrected")
            row, known = run.of(method, variant), look(view.looks, method)
            where = f", {view.named(run.found['dataset'], run.found['model'])}" if len(places) > 1 else ""
            if row is not None:
                setting = json.loads(row["params"]) if row["params"] and kind == "study" else {}
                made.setdefault(f"{known.title(variant)}{', study' if kind == 'study' else ''}{where}",
                                (row, {name: formats.plain(value) for name, value in setting.items()}))
    return made


def _value(found: Mapping[str, Any], metric: str) -> str:
    kind, scored = formats.METRICS[metric].kind, found.get("u_lira", {}).get(metric)
    if isinstance(scored, dict):
        return formats.with_interval(scored["value"], scored["lo"], scored["hi"], kind)
    return formats.number(found["metrics"].get(metric), kind)
