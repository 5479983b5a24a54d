"""The command line. Exit codes: 0 done, 1 a failure while running, 2 bad input (all faults, no traceback), 130 interrupted.

Commands that read take --json: one document on standard output and nothing else there; logs and progress go to standard error.
What each does stands in `engine.commands`.
"""

import argparse
import json
import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from engine.commands import Handler, computing, reading
from engine.errors import LetheError
from engine.registry import PLUGINS


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
        add(kind, reading.catalogue(kind), f"list the {kind} there are")

    rerun = add("rerun", computing.rerun, "train, unlearn and measure one model")
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
    run = add("run", computing.study_run, "compute what a study asks for and is not done yet", study)
    run.add_argument("file", type=Path)
    run.add_argument("--executor", choices=["local", "ray"], default="local", help="ray: models are computed on a Ray cluster (docs/cluster.md)")
    run.add_argument("--address", help="of the Ray cluster (default: RAY_ADDRESS, else one is started on this machine)")
    run.add_argument("--workers", type=int, help="processes (default: one a core; on Ray one a GPU, where the study asks for CUDA)")
    run.add_argument("--resume", action="store_true", help="go on from what is recorded, which every run does anyway")
    run.add_argument("--exact", action="store_true", help="every model on the exact path")
    run.add_argument("--fresh", action="store_true", help="do not count the shipped results as done")
    plan = add("plan", computing.study_plan, "say what a study would compute", study)
    plan.add_argument("file", type=Path)
    plan.add_argument("--fresh", action="store_true")

    search = commands.add_parser("search", help="look at searches").add_subparsers(required=True, metavar="show")
    show = add("show", reading.search_show, "the trials of a study's search and which were chosen", search)
    show.add_argument("--study", default="embedded")
    show.add_argument("--method")

    board = add("leaderboard", reading.leaderboard, "methods of a study, best first by one metric, in groups against retraining's own noise")
    board.add_argument("--dataset", default="digits")
    board.add_argument("--model", default="cnn")
    board.add_argument("--forget-share", type=float, default=0.1, help="of what originals are trained on (default 0.1)")
    board.add_argument("--metric", default="balanced_accuracy")
    board.add_argument("--variant", choices=["corrected", "official", "all"], default="corrected")
    board.add_argument("--all", action="store_true", help="every dataset and model, and what holds across them")

    audit = add("audit", computing.audit, "attack the models of array files that you bring; nothing is trained (docs/audit.md says what such a file holds)")
    audit.add_argument("files", type=Path, nargs="*", metavar="FILE", help="an .npz or .parquet file")
    audit.add_argument("--report", type=Path, metavar="FILE.html", help="also write a report that stands alone; of one file")
    audit.add_argument("--seed", type=int, default=0, help="of the bootstrap")
    audit.add_argument("--example", type=Path, metavar="FILE", help="write a small example file and stop")

    figures = add("export-figures", reading.export_figures, "every figure and table of the app's pages as files, with captions; no browser needed")
    figures.add_argument("--page", nargs="+", action="extend", default=[], metavar="NAME", help="by its name in the address (default: all with evidence)")
    figures.add_argument("--query", default="", metavar="NAME=VALUE&…", help="what to look at, as in the address of a page: 'dataset=digits&model=cnn'")
    place = figures.add_mutually_exclusive_group()
    place.add_argument("--out", type=Path, metavar="DIR", help="a folder that is made for them (default: figures)")
    place.add_argument("--zip", type=Path, metavar="FILE", help="one file instead")
    figures.add_argument("--format", default="pdf,svg,png", metavar="KINDS", help="of figures, some of pdf,svg,png,html (default: pdf,svg,png)")
    figures.add_argument("--width", type=float, metavar="MM", help="of figures (default: 88 for one panel, 180 for several side by side)")

    take = add("ingest", computing.ingest, "take finished runs (or the record folders in DIR) into the results")
    take.add_argument("dir", type=Path, nargs="?")
    take.add_argument("--rebuild", action="store_true", help="build the results file anew from the record folders alone, after some were removed or made again")

    verify = add("verify", computing.verify, "compute stored cells again and compare bit for bit")
    verify.add_argument("--cells", type=int, default=3)

    new = add("new-method", computing.new_method, "write a method file that runs as it is into the --plugins folder")
    new.add_argument("name")
    add("doctor", reading.doctor, "versions, devices, store, disk and queue")
    pack = add("pack", computing.pack, "write shipped and own results into the file that ships, and the weights that it needs")
    pack.add_argument("--only-own", action="store_true", help="leave out what the shipped file has now")
    add("job", computing.job, "run a job of the Lab (started by the app)").add_argument("job_id")
    return parser
