"""Commands that compute, record, or take in what others computed."""

import argparse
import os
import shlex
from typing import Any

from engine import queue
from engine.commands.reading import results
from engine.errors import BadInput, LetheError


def rerun(asked: argparse.Namespace) -> tuple[Any, str]:
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


def job(asked: argparse.Namespace) -> tuple[Any, str]:
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


def study_run(asked: argparse.Namespace) -> tuple[Any, str]:
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


def study_plan(asked: argparse.Namespace) -> tuple[Any, str]:
    from engine.jobs import driver, study

    documents = [driver.planned(checked, fresh=asked.fresh) for checked in study.read(asked.file)]
    lines = [f"{d['study']}: {d['planned']} models, {d['done']} done; {d['images'] / 1e6:.1f} million images to train on. {d['note']}" for d in documents]
    return _of_parts(documents), "\n".join(lines)


def audit(asked: argparse.Namespace) -> tuple[Any, str]:
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
        audit.write_report(documents[0], results(), asked.report)
    return documents, "\n\n".join(map(audit.text, documents)) + (f"\n\n{asked.report}" if asked.report else "")


def verify(asked: argparse.Namespace) -> tuple[Any, str]:
    from engine.jobs.verify import verify

    if asked.cells < 1:
        raise BadInput(f"--cells: got {asked.cells}, must be 1 or more")
    document = verify(asked.cells)
    lines = [f"{document['checked']} checked, {document['equal']} equal", *(f"  {d}" for d in document["different"]),
             *(f"  passed over, as its data is not at hand: {why}" for why in document["without_data"].values())]
    return document, "\n".join(lines)


def ingest(asked: argparse.Namespace) -> tuple[Any, str]:
    from engine.store import ingest

    if asked.rebuild and asked.dir:
        raise BadInput(f"--rebuild: builds from the record folders under {queue.home()}; take {asked.dir} in first, without it")
    done = ingest.rebuild(queue.home()) if asked.rebuild else ingest.ingest(queue.home(), asked.dir)
    document = {"taken": done.taken, "known": done.known, "refused": [{"folder": str(path), "reason": reason} for path, reason in done.refused]}
    lines = [f"{len(done.taken)} taken in, {len(done.known)} already known, {len(done.refused)} refused"]
    return document, "\n".join(lines + [f"  {path}: {reason}" for path, reason in done.refused])


def pack(asked: argparse.Namespace) -> tuple[Any, str]:
    from engine.jobs.pack import pack

    document = pack(only_own=asked.only_own)
    return document, ", ".join(f"{count} {table}" for table, count in document["rows"].items()) + f"; {document['checkpoints']} checkpoints"


def new_method(asked: argparse.Namespace) -> tuple[Any, str]:
    from engine import template

    path = template.write(asked.name)
    return {"path": str(path)}, f"{path}\nTry it: python -m engine --plugins {path.parent} rerun {asked.name} --dataset digits --model cnn --seed 0"
