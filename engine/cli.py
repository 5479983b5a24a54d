"""The command line. Exit codes: 0 done, 1 a failure while running, 2 bad input (all faults, no traceback), 130 interrupted.

Commands that read take --json: one document on standard output and nothing else there; logs and progress go to standard error.
Each handler imports what it needs, so that `--help` and the reading commands start quickly.
"""

import argparse
import json
import logging
import os
import shlex
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from engine import queue
from engine.errors import BadInput, LetheError, RunError
from engine.registry import PLUGINS

Handler = Callable[[argparse.Namespace], tuple[Any, str]]  # (JSON document, text for people)


def main(arguments: Sequence[str]) -> int:
    """Run one command and return its exit code."""
    parser = _parser()
    try:
        asked = parser.parse_args(arguments)
    except SystemExit as error:  # argparse has printed its message
        return int(error.code or 0)
    logging.basicConfig(level=logging.INFO if asked.verbose else logging.WARNING, format="%(levelname)s %(message)s", stream=sys.stderr)
    handler: Handler = asked.handler
    if asked.plugins:
        os.environ[PLUGINS] = str(asked.plugins.expanduser().resolve())
    try:
        document, text = handler(asked)
    except LetheError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    except OSError as error:  # a folder that cannot be read or written, a full disk: nothing a traceback would explain better
        print(f"{error.filename or 'file system'}: {error.strerror or error}; check its permissions and the room on its disk "
              "(LETHE_HOME and LETHE_DATA choose other places). Finished runs are kept.", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted; finished runs are kept, the same command goes on from there", file=sys.stderr)
        return 130
    try:
        print(json.dumps(document, indent=1, default=str) if getattr(asked, "json", False) else text)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0 if not isinstance(document, dict) or not document.get("failed") else 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m engine", description="Train, unlearn, attack; record and read the results.")
    parser.add_argument("--verbose", action="store_true", help="log what happens to standard error")
    parser.add_argument("--plugins", type=Path, metavar="DIR", help="methods from the files in DIR join the registry")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def add(name: str, handler: Handler, doc: str, among: Any = commands) -> argparse.ArgumentParser:
        made = among.add_parser(name, help=doc, description=doc)
        made.set_defaults(handler=handler)
        made.add_argument("--json", action="store_true", help="one JSON document on standard output")
        return made

    for kind in ("methods", "datasets", "models", "attacks", "scenarios"):
        add(kind, _catalogue(kind), f"list the {kind} there are")

    rerun = add("rerun", _rerun, "train, unlearn and measure one model")
    rerun.add_argument("method")
    rerun.add_argument("--dataset", required=True)
    rerun.add_argument("--model", required=True)
    rerun.add_argument("--seed", type=int, required=True)
    rerun.add_argument("--variant", default="corrected")
    rerun.add_argument("--study", help="name of the study whose data and recipe it follows, where several are on this data and model")
    rerun.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="a hyper-parameter; may be repeated")
    rerun.add_argument("--sweep", metavar="NAME=LOW:HIGH:COUNT", help="several values of one hyper-parameter, or NAME=VALUE,VALUE,… (up to 9)")
    rerun.add_argument("--device", choices=["auto", "cpu", "cuda"], help="where it is computed (default: LETHE_DEVICE, else a GPU where there is one)")
    rerun.add_argument("--no-store", action="store_true", help="compute it afresh and record nothing")
    rerun.add_argument("--plan", action="store_true", help="only say how long it would take and what must be trained first")

    study = commands.add_parser("study", help="run or plan a study file").add_subparsers(required=True, metavar="run|plan")
    run = add("run", _study_run, "compute what a study asks for and is not done yet", study)
    run.add_argument("file", type=Path)
    run.add_argument("--executor", choices=["local", "ray"], default="local", help="ray: models are computed on a Ray cluster (docs/cluster.md)")
    run.add_argument("--address", help="of the Ray cluster (default: RAY_ADDRESS, else one is started on this machine)")
    run.add_argument("--workers", type=int, help="processes (default: one a core; on Ray one a GPU, where the study asks for CUDA)")
    run.add_argument("--resume", action="store_true", help="go on from what is recorded, which every run does anyway")
    run.add_argument("--exact", action="store_true", help="every model on the exact path")
    run.add_argument("--fresh", action="store_true", help="do not count the shipped results as done")
    plan = add("plan", _study_plan, "say what a study would compute", study)
    plan.add_argument("file", type=Path)
    plan.add_argument("--fresh", action="store_true")

    search = commands.add_parser("search", help="look at searches").add_subparsers(required=True, metavar="show")
    show = add("show", _search_show, "the trials of a study's search and which were chosen", search)
    show.add_argument("--study", default="embedded")
    show.add_argument("--method")

    board = add("leaderboard", _leaderboard, "methods of a study, best first by one metric, in groups against retraining's own noise")
    board.add_argument("--dataset", default="digits")
    board.add_argument("--model", default="cnn")
    board.add_argument("--forget-share", type=float, default=0.1, help="of what originals are trained on (default 0.1)")
    board.add_argument("--metric", default="balanced_accuracy")
    board.add_argument("--variant", choices=["corrected", "official", "all"], default="corrected")
    board.add_argument("--all", action="store_true", help="every dataset and model, and what holds across them")

    audit = add("audit", _audit, "attack the models of array files that you bring; nothing is trained (docs/audit.md says what such a file holds)")
    audit.add_argument("files", type=Path, nargs="*", metavar="FILE", help="an .npz or .parquet file")
    audit.add_argument("--report", type=Path, metavar="FILE.html", help="also write a report that stands alone; of one file")
    audit.add_argument("--seed", type=int, default=0, help="of the bootstrap")
    audit.add_argument("--example", type=Path, metavar="FILE", help="write a small example file and stop")

    figures = add("export-figures", _export_figures, "every figure and table of the app's pages as files, with captions; no browser needed")
    figures.add_argument("--page", nargs="+", action="extend", default=[], metavar="NAME", help="by its name in the address (default: all with evidence)")
    figures.add_argument("--query", default="", metavar="NAME=VALUE&…", help="what to look at, as in the address of a page: 'dataset=digits&model=cnn'")
    place = figures.add_mutually_exclusive_group()
    place.add_argument("--out", type=Path, metavar="DIR", help="a folder that is made for them (default: figures)")
    place.add_argument("--zip", type=Path, metavar="FILE", help="one file instead")
    figures.add_argument("--format", default="pdf,svg,png", metavar="KINDS", help="of figures, some of pdf,svg,png,html (default: pdf,svg,png)")
    figures.add_argument("--width", type=float, metavar="MM", help="of figures (default: 88 for one panel, 180 for several side by side)")

    take = add("ingest", _ingest, "take finished runs (or the record folders in DIR) into the results")
    take.add_argument("dir", type=Path, nargs="?")
    take.add_argument("--rebuild", action="store_true", help="build the results file anew from the record folders alone, after some were removed or made again")

    verify = add("verify", _verify, "compute stored cells again and compare bit for bit")
    verify.add_argument("--cells", type=int, default=3)

    new = add("new-method", _new_method, "write a method file that runs as it is into the --plugins folder")
    new.add_argument("name")
    add("doctor", _doctor, "versions, devices, store, disk and queue")
    pack = add("pack", _pack, "write shipped and own results into the file that ships, and the weights that it needs")
    pack.add_argument("--only-own", action="store_true", help="leave out what the shipped file has now")
    add("job", _job, "run a job of the Lab (started by the app)").add_argument("job_id")
    return parser


# ---- reading


def _catalogue(kind: str) -> Handler:
    def handler(asked: argparse.Namespace) -> tuple[Any, str]:
        from engine.jobs import catalogue

        catalogue.publish(queue.home())
        rows = catalogue.build()[kind]
        return rows, "\n".join(f"{row['name']:<14} {row['label']:<22} {row['doc'].splitlines()[0] if row['doc'] else ''}" for row in rows)

    return handler


def _results() -> Any:
    from engine.jobs.home import shipped_file
    from engine.store import reader

    return reader.open_results(shipped_file(), queue.home())


def _search_show(asked: argparse.Namespace) -> tuple[Any, str]:
    sql = """SELECT r.method, t.trial, t.score, t.status, t.chosen, t.params, t.parts FROM trials t JOIN runs r USING (run_id)
             WHERE r.study = $study AND ($method IS NULL OR r.method = $method) ORDER BY r.method, t.score NULLS LAST, t.trial"""
    rows = _results().execute(sql, {"study": asked.study, "method": asked.method}).fetchall()
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


def _leaderboard(asked: argparse.Namespace) -> tuple[Any, str]:
    from engine.registry import pick
    from engine.store import queries, ranks, standings

    pick(asked.metric, _BOARD, "metric", "leaderboard --help")
    db = _results()
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


def _new_method(asked: argparse.Namespace) -> tuple[Any, str]:
    from engine import template

    path = template.write(asked.name)
    return {"path": str(path)}, f"{path}\nTry it: python -m engine --plugins {path.parent} rerun {asked.name} --dataset digits --model cnn --seed 0"


def _doctor(asked: argparse.Namespace) -> tuple[Any, str]:
    import shutil

    import torch

    from engine.data.dataset import data_root
    from engine.jobs import provenance
    from engine.jobs.calibrate import device_kind
    from engine.jobs.home import shipped_file

    home = queue.home()
    home.mkdir(parents=True, exist_ok=True)
    db = _results()
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


def _export_figures(asked: argparse.Namespace) -> tuple[Any, str]:
    """The pages draw, in a process of their own: they stand on the engine, and it knows none of them."""
    import subprocess

    zip_file, folder = (None if place is None else str(place.expanduser().resolve()) for place in (asked.zip, asked.out or Path("figures")))
    request = {"pages": asked.page, "query": asked.query, "kinds": [kind.strip() for kind in asked.format.split(",")], "width": asked.width,
               "out": None if zip_file else folder, "zip": zip_file}
    ran = subprocess.run([sys.executable, "-m", "pages.ui", json.dumps(request)], cwd=Path(__file__).resolve().parents[1],
                         env={**os.environ, "LETHE_HOME": str(queue.home())}, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True, check=False)
    try:
        document = json.loads(ran.stdout)
    except ValueError as error:
        raise RunError(f"the pages could not be run (exit code {ran.returncode}); what they said stands above, nothing was written") from error
    if ran.returncode:
        raise (BadInput if ran.returncode == BadInput.exit_code else RunError)("\n".join(document["faults"]))
    return document, f"{document['path']}: {document['files']} files of {', '.join(document['pages'])}"


# ---- auditing


def _audit(asked: argparse.Namespace) -> tuple[Any, str]:
    from engine.jobs import arrays, audit, catalogue
    from engine.store import ingest

    if asked.example is not None:
        arrays.write_example(asked.example)
        return {"path": str(asked.example)}, f"{asked.example}\nTry it: python -m engine audit {asked.example} --report report.html"
    if not asked.files:
        raise BadInput("audit: no file given; `python -m engine audit --example example.npz` writes one to try it with")
    if asked.report is not None and len(asked.files) > 1:
        raise BadInput(f"--report: a report is of one file, got {len(asked.files)}; give one file at a time")
    home = queue.home()
    catalogue.publish(home)
    documents = [audit.audit(given, home, seed=asked.seed, command=shlex.join(["python", "-m", "engine", "audit", str(path), "--seed", str(asked.seed)]))
                 for path, given in [(path, arrays.read(path)) for path in asked.files]]
    ingest.ingest(home)
    if asked.report is not None:
        audit.write_report(documents[0], _results(), asked.report)
    return documents, "\n\n".join(map(audit.text, documents)) + (f"\n\n{asked.report}" if asked.report else "")


# ---- computing


def _rerun(asked: argparse.Namespace) -> tuple[Any, str]:
    from engine.jobs import catalogue, rerun, sweep

    faults, given = [], {}
    for item in asked.set:
        name, equals, value = item.partition("=")
        if not equals:
            faults.append(f"--set {item}: must be NAME=VALUE")
        given[name.strip()] = value
    if asked.sweep and asked.no_store:
        faults.append("--no-store: the runs of a sweep are recorded; leave it out, or give one value with --set")
    if faults:
        raise BadInput(*faults)
    what = (asked.method, asked.dataset, asked.model, asked.seed)
    how: dict[str, Any] = {"variant": asked.variant, "params": given, "study": asked.study, "device": asked.device}
    swept = sweep.ask(*what, asked.sweep, **how) if asked.sweep else None
    if asked.plan:
        catalogue.publish(queue.home())  # whoever plans from a form reads it from there
        document = rerun.estimate(rerun.ask(*what, **how)) if swept is None else sweep.estimate(swept)
        return document, "\n".join([f"about {document['seconds']:.0f} s", *(f"  {n['seconds']:6.1f} s  {n['what']}{' (stored)' if n['stored'] else ''}"
                                                                            for n in document["needs"])])
    if swept is not None:
        document = sweep.run(swept)
        return document, sweep.text(document)
    document = rerun.rerun(rerun.ask(*what, **how), store=not asked.no_store)
    text = [f"run {document['run_id']}{' (stored before)' if document['reused'] else ''}"]
    text += [f"  {name:<22} {value:.4g}" for name, value in document["metrics"].items()]
    if "u_lira" in document:
        u = document["u_lira"]["balanced_accuracy"]
        text.append(f"  u_lira (one fresh model) {u['value']:.3f} [{u['lo']:.3f}, {u['hi']:.3f}]")
    return document, "\n".join(text)


def _job(asked: argparse.Namespace) -> tuple[Any, str]:
    """Run a job to its end; whatever goes wrong is in its status."""
    from engine.jobs import rerun, sweep

    job_id, request = asked.job_id, queue.status(asked.job_id).request

    def heard(epoch: int, means: dict[str, Any]) -> None:
        for name, value in means.items():
            queue.log_point(job_id, epoch, name, float(value[0]))

    def heard_all(value: sweep.Value, epoch: int, name: str, mean: float) -> None:
        queue.log_point(job_id, epoch, name, mean, value)

    def told(phase: str, done: float, total: float, unit: str, rate: float | None, eta_s: float | None) -> None:
        queue.update(job_id, phase=phase, done=done, total=total, unit=unit, rate=rate, eta_s=eta_s)

    try:
        queue.update(job_id, phase="starting")
        what = (request["method"], request["dataset"], request["model"], request["seed"])
        how: dict[str, Any] = {name: request.get(name) for name in ("variant", "params", "study", "device")}
        if "sweep" in request:
            document = sweep.run(sweep.ask(*what, request["sweep"], **how), heard=heard_all, told=told)
        else:
            checked = rerun.ask(*what, **how)
            queue.update(job_id, run_id=checked.cell.run_id)
            document = rerun.rerun(checked, heard=heard, told=told)
    except LetheError as error:
        queue.fail(job_id, str(error))
        raise
    except Exception as error:  # the boundary of a job: the page shows the reason, the log has the traceback
        queue.fail(job_id, f"{type(error).__name__}: {error}. The traceback is in the job's log.")
        raise
    queue.finish(job_id, document)
    return document, f"job {job_id} done: {', '.join(point['run_id'] for point in document.get('points', [document]))}"


def _study_run(asked: argparse.Namespace) -> tuple[Any, str]:
    from engine.jobs import driver, study

    most, faults = (256 if asked.executor == "local" else 65_536), []
    if asked.workers is not None and not 1 <= asked.workers <= most:
        faults.append(f"--workers: got {asked.workers}, must be int in [1, {most}]")
    if asked.address and asked.executor != "ray":
        faults.append(f"--address: got {asked.address!r} with --executor {asked.executor}; it is of a Ray cluster, so give --executor ray too")
    if faults:
        raise BadInput(*faults)
    cluster = (asked.address or os.environ.get("RAY_ADDRESS") or "local") if asked.executor == "ray" else None
    documents, lines = [], []
    for checked in study.read(asked.file, exact=asked.exact):
        counts = driver.Driver(checked, workers=asked.workers, fresh=asked.fresh, cluster=cluster).run()
        documents.append({"study": checked.name, "planned": counts.planned, "done": counts.done, "skipped": counts.skipped, "failed": counts.failed,
                          "failures": counts.failures})
        lines.append(f"{checked.name}: {counts.planned} planned, {counts.done} done, {counts.skipped} skipped, {counts.failed} failed")
        if counts.failed:
            lines[-1] += f"; see {queue.home() / 'logs' / f'{checked.name}.log'}, and run it again to try those anew"
    return _of_parts(documents), "\n".join(lines)


def _of_parts(documents: list[dict[str, Any]]) -> dict[str, Any]:
    """One study's document, or the sums over the parts of one file with those of each."""
    if len(documents) == 1:
        return documents[0]
    return {name: sum(d[name] for d in documents) for name, value in documents[0].items() if isinstance(value, (int, float))} | {"parts": documents}


def _study_plan(asked: argparse.Namespace) -> tuple[Any, str]:
    from engine.jobs import driver, study

    documents = [driver.planned(checked, fresh=asked.fresh) for checked in study.read(asked.file)]
    lines = [f"{d['study']}: {d['planned']} models, {d['done']} done; {d['images'] / 1e6:.1f} million images to train on. {d['note']}" for d in documents]
    return _of_parts(documents), "\n".join(lines)


def _ingest(asked: argparse.Namespace) -> tuple[Any, str]:
    from engine.store import ingest

    if asked.rebuild and asked.dir:
        raise BadInput(f"--rebuild: builds from the record folders under {queue.home()}; take {asked.dir} in first, without it")
    done = ingest.rebuild(queue.home()) if asked.rebuild else ingest.ingest(queue.home(), asked.dir)
    document = {"taken": done.taken, "known": done.known, "refused": [{"folder": str(path), "reason": reason} for path, reason in done.refused]}
    lines = [f"{len(done.taken)} taken in, {len(done.known)} already known, {len(done.refused)} refused"]
    return document, "\n".join(lines + [f"  {path}: {reason}" for path, reason in done.refused])


def _verify(asked: argparse.Namespace) -> tuple[Any, str]:
    from engine.jobs.verify import verify

    if asked.cells < 1:
        raise BadInput(f"--cells: got {asked.cells}, must be 1 or more")
    document = verify(asked.cells)
    lines = [f"{document['checked']} checked, {document['equal']} equal", *(f"  {d}" for d in document["different"]),
             *(f"  passed over, as its data is not at hand: {why}" for why in document["without_data"].values())]
    return document, "\n".join(lines)


def _pack(asked: argparse.Namespace) -> tuple[Any, str]:
    from engine.jobs.pack import pack

    document = pack(only_own=asked.only_own)
    return document, ", ".join(f"{count} {table}" for table, count in document["rows"].items()) + f"; {document['checkpoints']} checkpoints"


