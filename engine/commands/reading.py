"""Commands that read: what there is, what was found, and whether all is well here."""

import argparse
import json
import os
import sys
from pathlib import Path
from typing import Any

from engine import queue
from engine.commands import Handler
from engine.errors import BadInput, RunError


def catalogue(kind: str) -> Handler:
    def handler(asked: argparse.Namespace) -> tuple[Any, str]:
        from engine.jobs import catalogue

        catalogue.publish(queue.home())
        rows = catalogue.build()[kind]
        return rows, "\n".join(f"{row['name']:<14} {row['label']:<22} {row['doc'].splitlines()[0] if row['doc'] else ''}" for row in rows)

    return handler


def results(*, whole: bool = False) -> Any:
    """The shipped results and those of this home over them, open for reading. whole: see `reader.open_results`."""
    from engine.jobs.home import shipped_file
    from engine.store import reader

    return reader.open_results(shipped_file(), queue.home(), whole=whole)


def search_show(asked: argparse.Namespace) -> tuple[Any, str]:
    sql = """SELECT r.method, t.trial, t.score, t.status, t.chosen, t.params, t.parts FROM trials t JOIN runs r USING (run_id)
             WHERE r.study = $study AND ($method IS NULL OR r.method = $method) ORDER BY r.method, t.score NULLS LAST, t.trial"""
    rows = results().execute(sql, {"study": asked.study, "method": asked.method}).fetchall()
    if not rows:
        raise BadInput(f"no search of study '{asked.study}'" + (f" for method '{asked.method}'" if asked.method else "") + " is stored; "
                       "`python -m engine study run data/studies/embedded.yaml` makes the embedded one")
    trials = [{"method": m, "trial": t, "score": s, "status": st, "chosen": c, "params": json.loads(p), "parts": json.loads(q)}
              for m, t, s, st, c, p, q in rows]
    lines = [f"{t['method']:<8} {'*' if t['chosen'] else ' '} {t['status'] if t['score'] is None else format(t['score'], '.4f'):>8}  "
             + " ".join(f"{k}={v}" for k, v in t["params"].items()) for t in trials]
    return {"trials": trials, "chosen": {t["method"]: t["params"] for t in trials if t["chosen"]}}, "\n".join(lines)


# metric -> column title
_BOARD = {"balanced_accuracy": "U-LiRA", "auc": "U-LiRA AUC", "mia_test": "pop. MIA", "indiscernibility": "Indisc.", "test_accuracy": "test acc.",
          "test_retention": "test ret.", "retention_deviation": "ret. dev.", "rte": "RTE", "unlearn_s": "seconds"}


def leaderboard(asked: argparse.Namespace) -> tuple[Any, str]:
    from engine.registry import pick
    from engine.store import queries, ranks, standings

    pick(asked.metric, _BOARD, "metric", "leaderboard --help")
    db = results()
    studies = standings.largest(queries.studies(db).to_dict("records"))
    mine = [s for s in studies if asked.all or (s["dataset"], s["model"], s["forget_share"]) == (asked.dataset, asked.model, asked.forget_share)]
    if not mine:
        known = ", ".join(standings.place(s["dataset"], s["model"], s["forget_share"]) for s in studies) or "none"
        raise BadInput("no study has results yet; `python -m engine study run FILE` makes some" if asked.all else
                       f"no study on {standings.place(asked.dataset, asked.model, asked.forget_share)} is stored; there are: {known}")
    cells = [standings.cell(s, *(ask(db, study=s["study"]) for ask in standings.EVIDENCE),
                            variant=None if asked.variant == "all" else asked.variant) for s in mine]
    boards, texts = zip(*(_board(cell, asked.metric) for cell in cells), strict=True)
    if not asked.all:
        return boards[0], texts[0]
    compared, rows = ranks.compared(cells, asked.metric), ranks.scored(ranks.overall(cells), dict.fromkeys(ranks.GOALS, 1.0))
    across = None if compared.across is None else {
        "friedman": compared.across.statistic, "p": compared.across.p, "critical_difference": compared.across.critical,
        "average_ranks": [{"method": m, "variant": v, "rank": r} for (m, v), r in zip(compared.keys, compared.across.average.tolist(), strict=True)]}
    overall = [{"method": row.method, "variant": row.variant, "score": _none(score), "ranks": {goal: _none(r) for goal, r in row.ranks.items()},
                "within_noise": row.within, "cells": row.cells, "consistently_good": row.consistent} for row, score in rows]
    good = [standings.title(row.key) for row, _ in rows if row.consistent]
    text = [part for cell, table in zip(cells, texts, strict=True) for part in (f"{cell.name}:", table, "")]
    text.append(f"consistently good over {len(cells)} {'cell' if len(cells) == 1 else 'cells'}: {', '.join(good) or 'none'}")
    document = {"metric": asked.metric, "cells": list(boards), "across": across, "reason": compared.reason, "overall": overall}
    return document, "\n".join([*text, *([compared.reason] if compared.reason else [])])


def _board(cell: Any, metric: str) -> tuple[dict[str, Any], str]:
    """One cell: every method with every metric, and its standing by the one that was asked for; references have no rank and no group."""
    from engine.store import standings

    table, judged = cell.table(metric), {name: cell.table(name) for name in standings.JUDGED}
    rows = []
    for key in standings.by_mean(cell, metric):
        seen, entry = cell.means.get(key, {}), table.of(key)
        shown = {name: {"mean": _none(seen.get(name)), "ci": [_none(seen.get(f"{name}_lo")), _none(seen.get(f"{name}_hi"))]} for name in _BOARD}
        place = {"rank": entry and entry.rank, "group": entry and entry.group, "tied_with_best": entry and entry.tied, "p": entry and _none(entry.p),
                 "rank_ci": entry and [_none(entry.rank_lo), _none(entry.rank_hi)], "failure": (entry and entry.why) or None}
        groups = {name: among.group for name in judged if (among := judged[name].of(key))}
        rows.append({"method": key[0], "variant": key[1], "seeds": int(seen.get("seeds", 0)), **shown[metric], **place, "groups": groups,
                     "live_share": _none(seen.get("live_share")), **shown})
    titles = ["method", "group", *_BOARD.values()]
    lines = [f"| {' | '.join(titles)} |", f"|{'---|' * len(titles)}"]
    lines += [f"| {standings.title((row['method'], row['variant']))} | {row['group'] or '–'} | {' | '.join(_interval(row[m], m) for m in _BOARD)} |"
              for row in rows]
    document = {"study": cell.study, "dataset": cell.dataset, "model": cell.model, "forget_share": cell.forget_share, "metric": metric,
                "varies": cell.varies, "note": table.note, "noise_limit": _none(table.limit),
                "waiting": {standings.title(key): seeds for key, seeds in cell.waiting.items()}, "ranking": rows}
    return document, "\n".join(lines)


def _none(value: float | None) -> float | None:
    return None if value is None or value != value else float(value)


def _interval(cell: dict[str, Any], metric: str) -> str:
    mean, (lo, hi) = cell["mean"], cell["ci"]
    if mean is None:
        return "–"
    form = "{:.3f}" if metric not in ("rte", "unlearn_s") else "{:.3g}"
    half = f" ± {form.format((hi - lo) / 2)}" if lo is not None and hi is not None and metric not in ("rte", "unlearn_s") else ""
    return form.format(mean) + half


def doctor(asked: argparse.Namespace) -> tuple[Any, str]:
    import shutil

    import torch

    from engine.data.dataset import data_root
    from engine.jobs import provenance
    from engine.jobs.calibrate import device_kind
    from engine.jobs.home import shipped_file

    home = queue.home()
    home.mkdir(parents=True, exist_ok=True)
    db = results(whole=True)
    runs = dict(db.execute("SELECT status, count(*) FROM runs GROUP BY status").fetchall())
    jobs = [s.state for s in queue.jobs()]
    document = {
        "versions": json.loads(provenance.versions()), **provenance.source(),
        "device": {"chosen": device_kind(), "cuda": torch.cuda.is_available(), "machine": provenance.machine("cpu")},
        "store": {"shipped": None if shipped_file() is None else str(shipped_file()), "home": str(home), "runs": runs},
        "data": {"LETHE_DATA": str(data_root()), "exists": data_root().is_dir()},
        "disk": {"free_bytes": shutil.disk_usage(home).free}, "queue": {state: jobs.count(state) for state in set(jobs)},
    }
    return document, "\n".join(f"{name:<9} {value}" for name, value in document.items())


def export_figures(asked: argparse.Namespace) -> tuple[Any, str]:
    """The pages draw, in a process of their own: they stand on the engine, and it knows none of them."""
    import subprocess

    zip_file, folder = (None if place is None else str(place.expanduser().resolve()) for place in (asked.zip, asked.out or Path("figures")))
    request = {"pages": asked.page, "query": asked.query, "kinds": [kind.strip() for kind in asked.format.split(",")], "width": asked.width,
               "out": None if zip_file else folder, "zip": zip_file}
    ran = subprocess.run([sys.executable, "-m", "pages.ui", json.dumps(request)], cwd=Path(__file__).resolve().parents[2],
                         env={**os.environ, "LETHE_HOME": str(queue.home())}, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True, check=False)
    try:
        document = json.loads(ran.stdout)
    except ValueError as error:
        raise RunError(f"the pages could not be run (exit code {ran.returncode}); what they said stands above, nothing was written") from error
    if ran.returncode:
        raise (BadInput if ran.returncode == BadInput.exit_code else RunError)("\n".join(document["faults"]))
    return document, f"{document['path']}: {document['files']} files of {', '.join(document['pages'])}"
