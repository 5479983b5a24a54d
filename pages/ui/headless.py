"""Figures and tables of the pages as files, without a browser: the pages themselves run, and what they offer to export is taken.

    python -m pages.ui REQUEST      a process of its own for `python -m engine export-figures`, as the engine knows no page

REQUEST is JSON (`Request`). On standard output: one JSON document, what was written or what is wrong; the exit code as everywhere.
"""

import json
import os
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

from duckdb import DuckDBPyConnection
from streamlit.testing.v1 import AppTest

from engine.errors import BadInput, LetheError, RunError
from engine.store import queries
from pages.ui import bundle, examples, export, filters, formats, nav, store
from pages.ui.bundle import Files
from pages.ui.export import Collected
from pages.ui.formats import Rows

DEFAULT = tuple(screen.name for screen in nav.PAGES if screen.group == "Evidence")  # the others show figures only of what one asks there
WIDTHS = (40.0, 400.0)  # mm, of a figure
_PATIENCE_S = 600  # a page takes a second or two; a busy machine may need more
_INTERRUPTED = 130

Query = dict[str, list[str]]


@dataclass(frozen=True)
class Request:
    """pages: none is `DEFAULT`. query: of an address. kinds: of `export.FORMATS`, in any case. width: mm, of all figures; None: each its own.
    out: a folder, or zip: a file, to be made; neither may exist."""

    pages: Sequence[str] = ()
    query: str = ""
    kinds: Sequence[str] = bundle.KINDS
    width: float | None = None
    out: str | None = None
    zip: str | None = None


def write(request: Request) -> dict[str, Any]:
    """Draw and write what was asked for, all of it or nothing. Returns where it is, and figures and tables by page. Raises: LetheError."""
    store.fetch(_one_thread)
    given = _checked(request)
    screens = [nav.screen(name) for name in dict.fromkeys(request.pages or DEFAULT)]
    found = {screen: _shown(screen, given) for screen in screens}
    _answered(request, given, found)
    content: Files = {}
    for screen, shown in found.items():
        if shown.figures or shown.tables:
            content |= bundle.files(screen, shown, kinds=[kind for kind in export.FORMATS if kind in map(str.upper, request.kinds)], millimetres=request.width)
            print(f"{screen.name}: {formats.counted(len(shown.figures), 'figure')}, {formats.counted(len(shown.tables), 'table')}", file=sys.stderr)
    place = _put(content, request)
    return {"path": str(place), "files": len(content), "pages": {screen.name: {"figures": list(shown.figures), "tables": list(shown.tables)}
                                                                 for screen, shown in found.items() if shown.figures or shown.tables}}


def _one_thread(db: DuckDBPyConnection) -> None:
    """Several add up in whatever order they finish, and a mean's last digit changes from run to run."""
    db.execute("SET threads TO 1")


def _checked(request: Request) -> Query:
    """What the query says. Raises: BadInput with everything that is wrong with the request, StoreError where there are no results to draw."""
    faults = [f"--page {name}: there is no such page{_meant(name, names)}; there are: {', '.join(names)}"
              for name in request.pages if name not in (names := [screen.name for screen in nav.PAGES])]
    faults += [f"--format {kind}: must be among {', '.join(map(str.lower, export.FORMATS))}" for kind in request.kinds if kind.upper() not in export.FORMATS]
    if request.width is not None and not WIDTHS[0] <= request.width <= WIDTHS[1]:
        faults.append(f"--width: got {request.width:g}, must be in [{WIDTHS[0]:g}, {WIDTHS[1]:g}] mm (a column is 88, two are 180)")
    if request.out and request.zip:
        faults.append("--out and --zip: give one of them, a folder or a file")
    for option, place in (("--out", request.out), ("--zip", request.zip)):
        if place and os.path.lexists(place):
            faults.append(f"{option} {place}: it is there already; nothing is written over, so name another or remove it")
        elif place and not Path(place).parent.is_dir():
            faults.append(f"{option} {place}: the folder {Path(place).parent} does not exist; make it first")
    try:
        given = parse_qs(request.query.removeprefix("?"), keep_blank_values=True, strict_parsing=bool(request.query))
    except ValueError:
        given = {}
        faults.append(f"--query {request.query}: must be NAME=VALUE, joined by &, as in the address of a page")
    faults += _unknown(given, store.rows(queries.studies), store.catalogue())
    if faults:
        raise BadInput(*faults)
    return given


def _unknown(given: Query, studies: Rows, catalogue: Mapping[str, Any]) -> list[str]:
    """What the shared filters name that is not there. A page would say so; here nobody would read it."""
    datasets, models, there = given.get("dataset", []), given.get("model", []), [row for row in studies if row["dataset"]]
    fitting = [row for row in there if row["dataset"] in (datasets or [row["dataset"]])]
    known = {"dataset": [row["dataset"] for row in there], "model": [row["model"] for row in fitting or there],
             "study": [row["study"] for row in fitting if row["model"] in (models or [row["model"]])],
             "variant": [filters.ALL_VARIANTS, *(variant for method in catalogue["methods"] for variant in method.get("variants", []))],
             "methods": [method["name"] for method in catalogue["methods"]]}
    return [f"--query {name}={value}: nothing here has that{_meant(value, names)}; there are: {', '.join(names) or 'none'}"
            for name, all_names in known.items() for names in [list(dict.fromkeys(all_names))] for value in given.get(name, []) if value not in names]


def _shown(screen: nav.Screen, given: Query) -> Collected:
    """What a page shows under that address. Raises: RunError."""
    app = AppTest.from_file(str(store.ROOT / "app.py"), default_timeout=_PATIENCE_S)
    app.session_state[examples.UNSEEN] = True
    for name, values in given.items():
        app.query_params[name] = values
    if screen.script != "app.py":
        app.switch_page(screen.script)
    app.run()
    if app.exception:
        raise RunError(f"{screen.label} could not be drawn: {app.exception[0].value}")
    shown: Collected = app.session_state[export.COLLECTED]
    if app.error and not shown.figures:
        raise RunError(f"{screen.label} has nothing to draw: {app.error[0].value}")
    return shown


def _answered(request: Request, given: Query, found: Mapping[nav.Screen, Collected]) -> None:
    """Raises: BadInput where a page has no figures, or something of the query had no say in them."""
    query = request.query or "its first view"
    faults = [f"--page {screen.name}: no figures with {query}; its page in the app says why" for screen, shown in found.items()
              if request.pages and not shown.figures]
    if not request.pages and not any(shown.figures for shown in found.values()):
        faults.append(f"no page has figures with {query}; `python -m engine leaderboard --all` says which results there are")
    names = ", ".join(screen.name for screen in found)
    for name in given:
        known = sorted(set[str]().union(*(shown.parameters for shown in found.values())))
        if name not in known:
            faults.append(f"--query {name}: {names} {'has' if len(found) == 1 else 'have'} no such filter{_meant(name, known)}; there are: {', '.join(known)}")
    for screen, shown in found.items():
        after = parse_qs(shown.query, keep_blank_values=True)
        faults += [f"--query {name}={','.join(values)}: {screen.name} has nothing of that name; it would show {name}={','.join(after[name])}"
                   for name, values in given.items() if name in shown.parameters - filters.SHARED and name in after and after[name] != values]
    if faults:
        raise BadInput(*faults)


def _put(content: Files, request: Request) -> Path:
    """In its place by one rename, so that nothing is ever there by half."""
    place = Path(request.zip or request.out or "figures")
    with tempfile.TemporaryDirectory(dir=place.parent, prefix=f".{place.name}.") as folder:
        made = Path(folder) / place.name
        if request.zip:
            made.write_bytes(bundle.zipped(content))
        else:
            for name, data in content.items():
                (made / name).parent.mkdir(parents=True, exist_ok=True)
                (made / name).write_bytes(data)
        made.rename(place)
    return place


def _meant(name: str, known: Sequence[str]) -> str:
    close = get_close_matches(name, known, n=1)
    return f" (did you mean {close[0]}?)" if close else ""


def main(request: str) -> int:
    """One request, answered on standard output. Returns the exit code."""
    document: dict[str, Any]
    try:
        with redirect_stdout(sys.stderr):
            document, code = write(Request(**json.loads(request))), 0
    except LetheError as error:
        document, code = {"faults": str(error).splitlines()}, error.exit_code
    except OSError as error:
        document, code = {"faults": [f"{error.filename or 'file system'}: {error.strerror or error}; nothing was written"]}, 1
    except KeyboardInterrupt:
        return _INTERRUPTED
    print(json.dumps(document))
    return code
