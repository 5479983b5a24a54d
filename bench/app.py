"""The app under visitors: its own server, spoken to as browsers do, and how long each script runs from event to end.

    python -m bench.app HOME [--visitors 20] [--seconds 120] [--record bench/RECORDS.md]

HOME holds the results: `python -m bench.scale HOME` makes as many as the reference study has. First one visitor opens every page (nothing
remembered: the server has just started, and has drawn nothing before), then the same pages again; then the visitors come, each of whom
does something about every ten seconds: a filter or another control of the page, or another page. Visitors run in this process, on the
same processors; a browser would draw besides, on a machine of its own.
"""

import argparse
import asyncio
import math
import os
import random
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from streamlit.proto.BackMsg_pb2 import BackMsg
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg
from streamlit.proto.WidgetStates_pb2 import WidgetState
from websockets.asyncio.client import ClientConnection, connect

from engine.jobs.provenance import machine, source
from engine.store import reader
from pages.ui.nav import PAGES

ROOT = Path(__file__).resolve().parents[1]
QUIET_S = 0.05  # after the end of a script: a page may ask for another run at once
PATIENCE_S = 300.0
EVERY_S = 10.0  # between two deeds of a visitor, on average
SHARED = ("dataset", "model", "study", "methods", "variant")  # filters that all pages have


@dataclass(frozen=True)
class Control:
    """A widget that a visitor may turn. values: what it can be set to."""

    id: str
    kind: str
    values: tuple[str, ...]


@dataclass
class Visitor:
    """One session: a connection, the page that it shows and the state of its widgets."""

    link: ClientConnection
    page: str = "overview"
    query: str = ""
    hashes: dict[str, str] = field(default_factory=dict[str, str])
    states: dict[str, WidgetState] = field(default_factory=dict[str, WidgetState])
    controls: dict[str, Control] = field(default_factory=dict[str, Control])
    faults: list[str] = field(default_factory=list[str])

    async def open(self, page: str) -> float:
        """Seconds until the page stands."""
        if page != self.page:
            self.page = page
            self.states.clear()
        self.controls.clear()
        return await self._run()

    async def turn(self, control: Control, value: str) -> float:
        """Seconds until the page stands with this control at `value`."""
        state = WidgetState(id=control.id)
        if control.kind == "button_group":
            state.string_array_value.data.append(value)
        else:
            state.string_value = value
        self.states[control.id] = state
        return await self._run()

    async def _run(self) -> float:
        message = BackMsg()
        message.rerun_script.query_string = self.query
        message.rerun_script.page_script_hash = self.hashes.get(self.page, "")
        message.rerun_script.context_info.timezone = "UTC"
        message.rerun_script.widget_states.widgets.extend(self.states.values())
        began = time.perf_counter()
        await self.link.send(message.SerializeToString())
        ended, running = began, True
        while True:
            try:
                content = await asyncio.wait_for(self.link.recv(), PATIENCE_S if running else QUIET_S)
            except TimeoutError:
                if running:
                    raise
                return ended - began
            assert isinstance(content, bytes)
            answer = ForwardMsg.FromString(content)
            kind = answer.WhichOneof("type")
            if kind == "new_session":
                running = True
            elif kind == "navigation":  # what the app itself says its pages are; those of the new session are Streamlit's guess
                self._know(answer)
            elif kind == "page_not_found":
                self.faults.append(f"{self.page}: not found")
            elif kind == "script_finished":
                ended, running = time.perf_counter(), False
            elif kind == "page_info_changed":
                self.query = answer.page_info_changed.query_string
            elif kind == "delta" and answer.delta.WhichOneof("type") == "new_element":
                self._see(answer)

    def _know(self, answer: ForwardMsg) -> None:
        for page in answer.navigation.app_pages:
            self.hashes["overview" if page.is_default else page.url_pathname.strip("/")] = page.page_script_hash

    def _see(self, answer: ForwardMsg) -> None:
        element = answer.delta.new_element
        kind = element.WhichOneof("type")
        if kind == "exception":
            self.faults.append(f"{self.page}: {element.exception.type}: {element.exception.message}"[:300])
        elif kind == "selectbox":
            self.controls[element.selectbox.id] = Control(element.selectbox.id, kind, tuple(element.selectbox.options))
        elif kind == "button_group" and element.button_group.required and not element.button_group.disabled:
            self.controls[element.button_group.id] = Control(element.button_group.id, kind, tuple(o.content for o in element.button_group.options))


@contextmanager
def serving(home: Path) -> Iterator[tuple[int, subprocess.Popen[bytes]]]:
    """The app over the results in `home`: (port, process)."""
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "streamlit", "run", "app.py", "--server.port", str(port), "--server.headless", "true",
               "--browser.gatherUsageStats", "false", "--server.fileWatcherType", "none"]
    process = subprocess.Popen(command, cwd=ROOT, env={**os.environ, "LETHE_HOME": str(home.resolve())}, stdin=subprocess.DEVNULL,
                               stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        until = time.monotonic() + 60
        while True:
            try:
                urllib.request.urlopen(f"http://localhost:{port}/_stcore/health", timeout=1).close()
                break
            except OSError:
                if process.poll() is not None or time.monotonic() > until:
                    raise RuntimeError("the server did not start; try it by hand: make app") from None
                time.sleep(0.1)
        yield port, process
    finally:
        process.terminate()
        process.wait(20)


async def visit(port: int) -> Visitor:
    link = await connect(f"ws://localhost:{port}/_stcore/stream", subprotocols=["streamlit"], max_size=None)  # type: ignore[list-item]
    return Visitor(link)


@dataclass
class Times:
    """Seconds, by page. faults: exceptions that visitors saw."""

    cold: dict[str, float] = field(default_factory=dict[str, float])
    again: dict[str, float] = field(default_factory=dict[str, float])
    pages: list[tuple[str, float]] = field(default_factory=list[tuple[str, float]])
    filters: list[tuple[str, float]] = field(default_factory=list[tuple[str, float]])
    faults: list[str] = field(default_factory=list[str])


async def measured(port: int, visitors: int, seconds: float) -> Times:
    times = Times()
    first = await visit(port)
    for passing in (times.cold, times.again):
        for page in PAGES:
            passing[page.name] = await first.open(page.name)
    times.faults += first.faults
    await first.link.close()
    until = time.perf_counter() + seconds
    rngs = [random.Random(seed) for seed in range(visitors)]
    await asyncio.gather(*(_wander(port, times, rng, until) for rng in rngs))
    return times


async def _wander(port: int, times: Times, rng: random.Random, until: float) -> None:
    visitor = await visit(port)
    try:
        await asyncio.sleep(rng.uniform(0, EVERY_S))
        times.pages.append(("overview", await visitor.open("overview")))
        while True:
            await asyncio.sleep(rng.expovariate(1 / EVERY_S))
            if time.perf_counter() > until:
                return
            turnable = [control for control in visitor.controls.values() if len(control.values) > 1]
            if turnable and rng.random() < 0.7:
                shared = [control for control in turnable if control.id.rpartition("-")[2].partition("@")[0] in SHARED]
                control = rng.choice(shared if shared and rng.random() < 0.5 else turnable)
                times.filters.append((visitor.page, await visitor.turn(control, rng.choice(control.values))))
            else:
                page = rng.choice(PAGES).name
                times.pages.append((page, await visitor.open(page)))
    finally:
        times.faults += visitor.faults
        await visitor.link.close()


def memory(process: subprocess.Popen[bytes]) -> tuple[float, float]:
    """(now, most) MB of the server."""
    found = dict(line.split(":", 1) for line in Path(f"/proc/{process.pid}/status").read_text(encoding="utf-8").splitlines() if ":" in line)
    return int(found["VmRSS"].split()[0]) / 1024, int(found["VmHWM"].split()[0]) / 1024


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that at least this share does not exceed; NaN of none."""
    return sorted(values)[max(0, math.ceil(share * len(values)) - 1)] if values else float("nan")


def report(times: Times, visitors: int, now: float, most: float, home: Path) -> str:
    def line(name: str) -> str:
        turned = [s for page, s in times.filters if page == name]
        opened = [s for page, s in times.pages if page == name]
        return (f"| {name} | {times.cold[name]:.2f} | {times.again[name]:.2f} | {percentile(opened, 0.95):.2f} ({len(opened)}) "
                f"| {percentile(turned, 0.5) * 1000:.0f} | {percentile(turned, 0.95) * 1000:.0f} ({len(turned)}) |")

    turned, opened = ([s for _, s in found] for found in (times.filters, times.pages))
    store = sum(path.stat().st_size for path in (home / "store").glob("*")) / 1e6
    made = source()
    with reader.open_results(None, home) as db:
        rows = {table: db.execute(f"SELECT count(*) FROM {table}").fetchall()[0][0] for table in ("runs", "metrics", "examples")}
    return "\n".join([
        f"## {datetime.now(UTC):%Y-%m-%d}, the app under {visitors} visitors ({machine('cpu')})", "",
        f"A synthetic store of {rows['runs']:,} runs, {rows['metrics']:,} metrics and {rows['examples']:,} rows of single examples ({store:,.0f} MB, "
        f"`python -m bench.scale`), beside the shipped one; `python -m bench.app`, visitors on the same processors; "
        f"commit {str(made['commit'])[:10]}{'' if made['clean'] else ', with uncommitted changes'}.", "",
        "| page | first ever, s | again, s | opened by visitors, p95 s (times) | control turned, p50 ms | p95 ms (times) |", "|---|---|---|---|---|---|",
        *(line(page.name) for page in PAGES),
        f"| all | {max(times.cold.values()):.2f} at most | {max(times.again.values()):.2f} at most | {percentile(opened, 0.95):.2f} ({len(opened)}) "
        f"| {percentile(turned, 0.5) * 1000:.0f} | {percentile(turned, 0.95) * 1000:.0f} ({len(turned)}) |", "",
        f"Memory of the server: {now:,.0f} MB at the end, {most:,.0f} MB at most. Exceptions seen: {len(times.faults)}.",
        *(f"- {fault}" for fault in sorted(set(times.faults)))])


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.app", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("home", type=Path, help="a LETHE_HOME with results, such as one made by bench.scale")
    parser.add_argument("--visitors", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=120.0)
    parser.add_argument("--record", type=Path, help="add the result to this file")
    given = parser.parse_args(arguments)
    with serving(given.home) as (port, process):
        times = asyncio.run(measured(port, given.visitors, given.seconds))
        text = report(times, given.visitors, *memory(process), given.home)
    print(text)
    if given.record:
        from bench.train import add

        add(text, given.record)


if __name__ == "__main__":
    main()
