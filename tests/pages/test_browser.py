"""The app as people meet it: a server of its own, driven in Chromium. Skipped, with the reason, where there is none."""

import io
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal
from unittest import mock
from xml.etree import ElementTree
from zipfile import ZipFile

import pandas as pd
import pytest
from PIL import Image
from playwright.sync_api import Browser, BrowserContext, Locator, Page, expect

from docs.screenshots import chromium, launched
from engine import queue
from pages.ui.nav import PAGES, Screen
from tests.pages.conftest import ROOT, Shipped

CHART = "[data-testid=stVegaLiteChart]"
PATIENCE = 60_000  # milliseconds that a page may take to settle on a busy machine

pytestmark = [pytest.mark.browser, pytest.mark.slow,
              pytest.mark.skipif(chromium() is None, reason="no Chrome or Chromium on the PATH: apt-get install chromium, or brew install chromium")]


@dataclass(frozen=True)
class Site:
    """A copy of the app and where it is served."""

    tree: Path
    port: int

    @property
    def url(self) -> str:
        return f"http://localhost:{self.port}"

    @property
    def home(self) -> Path:
        return self.tree / "home"

    def printed(self) -> str:
        return (self.tree / "server.log").read_text(encoding="utf-8")


def plant(tree: Path, shipped: Shipped, *, fake: bool) -> Site:
    """A copy of the checkout with other results, so that what the tests expect does not depend on what ships.

    fake: with an engine that answers at once.
    """
    for name in ("app.py", "pages", "engine", ".streamlit"):
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, tree / name)
    for folder in ("studies", "reported"):
        shutil.copytree(ROOT / "data" / folder, tree / "data" / folder)
    shutil.copy(shipped.file, tree / "data" / "results.duckdb")
    shutil.copy(shipped.catalogue, tree / "data" / "catalogue.json")
    if fake:
        shutil.copy(Path(__file__).with_name("fake_engine.py"), tree / "engine" / "__main__.py")
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        return Site(tree, probe.getsockname()[1])


@contextmanager
def running(site: Site) -> Iterator[None]:
    """Its server, up and healthy; stopped at the end, while jobs go on."""
    environment = {**os.environ, "LETHE_HOME": str(site.home), "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-m", "streamlit", "run", "app.py", "--server.port", str(site.port), "--server.headless", "true"]
    with (site.tree / "server.log").open("ab") as log:
        process = subprocess.Popen(command, cwd=site.tree, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    try:
        until = time.monotonic() + PATIENCE / 1000
        while not _healthy(site):
            assert process.poll() is None and time.monotonic() < until, f"the server did not start: {site.printed()}"
            time.sleep(0.1)
        yield
    finally:
        process.terminate()
        process.wait(timeout=20)


def _healthy(site: Site) -> bool:
    try:
        with urllib.request.urlopen(f"{site.url}/_stcore/health", timeout=1):
            return True
    except OSError:
        return False


def cancel_all(site: Site) -> None:
    """A failed test may have left its job at work."""
    with mock.patch.dict(os.environ, LETHE_HOME=str(site.home)):
        for job in queue.jobs():
            queue.cancel(job.job_id)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with launched() as chromium:
        yield chromium


@pytest.fixture(scope="module")
def site(full: Shipped, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    site = plant(tmp_path_factory.mktemp("site"), full, fake=True)
    with running(site):
        yield site
    cancel_all(site)


@pytest.fixture
def context(browser: Browser, site: Site) -> Iterator[BrowserContext]:
    with watched(browser, site) as visitor:
        yield visitor


@contextmanager
def watched(browser: Browser, site: Site, scheme: Literal["light", "dark"] = "light", width: int = 1440) -> Iterator[BrowserContext]:
    """A visitor whose console, page errors and requests are listened to; at the end there must be nothing to complain of."""
    visitor = browser.new_context(viewport={"width": width, "height": 1300}, color_scheme=scheme)
    complaints: list[str] = []
    before = len(site.printed())

    def listen(page: Page) -> None:
        page.on("console", lambda message: complaints.append(message.text) if message.type == "error" and "404" not in message.text else None)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        # a deep link asks for its own /<page>/_stcore/… first, which is a harmless 404
        page.on("response", lambda r: complaints.append(f"{r.status} {r.url}") if r.status >= 400 and "/_stcore/" not in r.url else None)
        page.on("request", lambda r: None if r.url.startswith((site.url, "data:", "blob:")) else complaints.append(f"outside request: {r.url}"))

    visitor.on("page", listen)
    yield visitor
    visitor.close()
    assert not complaints
    assert "Traceback" not in site.printed()[before:]


def visit(context: BrowserContext, url: str) -> Page:
    page = context.new_page()
    page.goto(url)
    settled(page)
    expect(page.get_by_test_id("stException")).to_have_count(0)
    return page


def settled(page: Page) -> None:
    page.wait_for_selector("[data-testid=stApp][data-test-script-state=notRunning]", timeout=PATIENCE)
    page.wait_for_timeout(400)


def address(screen: Screen) -> str:
    return "/" if screen.name == "overview" else f"/{screen.name}"


def points(page: Page, panel: str) -> Locator:
    return page.locator(f"[class*='st-key-panel-{panel}-'] g.mark-symbol path")


def mark(page: Page, panel: str, name: str) -> Locator:
    return page.locator(f"[class*='st-key-panel-{panel}-'] path[aria-label^='{name};']")


def heading(page: Page, text: str) -> None:
    expect(page.get_by_role("heading", name=text)).to_be_visible(timeout=PATIENCE)


def test_first_page_and_navigation(context: BrowserContext, site: Site) -> None:
    began = time.monotonic()
    page = context.new_page()
    page.goto(site.url)
    heading(page, "What does the evidence say?")
    expect(page.locator(f"{CHART} g.mark-symbol")).to_have_count(4, timeout=PATIENCE)  # the hollow marks are a group of their own
    print(f"first page drawn after {time.monotonic() - began:.2f} s")
    page.get_by_role("link", name="Compare", exact=True).click()
    heading(page, "What do I trade for what?")
    page.get_by_role("link", name="Lab", exact=True).click()
    heading(page, "What happens if I run it myself?")


@pytest.mark.parametrize("screen", PAGES, ids=lambda screen: screen.name)
def test_every_page_opens_in_the_dark_on_a_telephone(browser: Browser, site: Site, screen: Screen) -> None:
    """On the first visit, with every chart drawn, and nothing sticks out."""
    with watched(browser, site, "dark", 400) as visitor:
        page = visit(visitor, site.url + address(screen))
        heading(page, screen.question)
        page.wait_for_function(f"[...document.querySelectorAll('{CHART}')].every(chart => chart.querySelector('svg, canvas'))", timeout=PATIENCE)
        assert page.evaluate("getComputedStyle(document.querySelector('[data-testid=stApp]')).colorScheme") == "dark"
        assert page.get_by_test_id("stMain").evaluate("main => main.scrollWidth <= main.clientWidth")


def chosen(box: str, option: str) -> Callable[[Page], None]:
    """A visitor who takes that option of that box."""
    def act(page: Page) -> None:
        page.get_by_role("combobox", name=box, exact=True).click()
        page.get_by_role("option", name=option, exact=True).click()
    return act


def pressed(name: str) -> Callable[[Page], None]:
    """A visitor who takes one of several that lie side by side."""
    return lambda page: page.get_by_role("radio", name=name, exact=True).click()


def typed(name: str, value: str) -> Callable[[Page], None]:
    def act(page: Page) -> None:
        page.get_by_role("spinbutton", name=name).fill(value)
        page.keyboard.press("Enter")
    return act


# page -> what a visitor does there, and how the address tells it
DEEDS: dict[str, tuple[Callable[[Page], None], str]] = {
    "overview": (chosen("Dataset", "FashionMNIST"), "dataset=fashion_mnist"),
    "compare": (chosen("Methods", "GA"), "methods=ga"),
    "leaderboard": (lambda page: page.get_by_role("slider", name="Privacy").press("ArrowRight"), "w_privacy=2"),
    "consistency": (chosen("Judged by", "Indiscernibility (higher is better)"), "c_metric=indiscernibility"),
    "privacy": (pressed("Unlearned or retrained"), "roc=versus_retrained"),
    "search": (chosen("Method", "GA"), "of=ga"),
    "inside": (chosen("Follow", "GA"), "who=ga"),
    "advisor": (typed("Test accuracy lost, at most points", "2.5"), "a_loss=2.5"),
    "reproduction": (lambda page: page.get_by_role("button", name=re.compile("not run")).click(), "not+run"),
    "lab": (chosen("Method", "GA"), "method=ga"),
    "data": (pressed("Ask in SQL"), "view=sql"),
}
VIEW = """() => {
    const all = (selector, of) => [...document.querySelectorAll(selector)].map(of)
    return {text: document.querySelector('[data-testid=stMain]').innerText, fields: all('input, textarea', field => field.value),
            chosen: all('[aria-checked=true], [aria-pressed=true], [data-testid$=Active]', one => one.innerText),
            marks: all('[data-testid=stVegaLiteChart] [aria-label]', mark => mark.ariaLabel)}
}"""


@pytest.mark.parametrize("screen", PAGES, ids=lambda screen: screen.name)
def test_every_page_opens_a_choice_acts_and_a_copied_address_restores_it(context: BrowserContext, browser: Browser, site: Site, screen: Screen) -> None:
    """Somebody else, with the address alone, sees the same texts, the same fields and the same marks in all charts."""
    act, told = DEEDS[screen.name]
    page = visit(context, site.url + address(screen))
    heading(page, screen.question)
    before = page.evaluate(VIEW)
    act(page)
    page.wait_for_url(re.compile(re.escape(told)), timeout=PATIENCE)
    settled(page)
    assert page.evaluate(VIEW) != before
    with watched(browser, site) as somebody:
        same_view(page, visit(somebody, page.url))


def same_view(page: Page, other: Page) -> None:
    """Wait until both show the same: what arrives late, like answers of the engine, may differ for a while."""
    until = time.monotonic() + PATIENCE / 1000
    while (found := other.evaluate(VIEW)) != (wanted := page.evaluate(VIEW)) and time.monotonic() < until:
        page.wait_for_timeout(300)
    assert found == wanted


def test_compare_filter_selection_and_link(context: BrowserContext, site: Site) -> None:
    page = visit(context, f"{site.url}/compare")
    expect(points(page, "balanced_accuracy")).to_have_count(7, timeout=PATIENCE)
    box = page.get_by_role("combobox", name="Methods")
    for method in ("GA", "MSG"):
        box.click()
        page.get_by_role("option", name=method, exact=True).click()
        settled(page)
    page.keyboard.press("Escape")
    expect(points(page, "balanced_accuracy")).to_have_count(3, timeout=PATIENCE)
    expect(points(page, "rte")).to_have_count(2)
    assert "methods=ga&methods=msg" in page.url

    mark(page, "balanced_accuracy", "MSG").click(force=True)
    expect(page.get_by_text("MSG: the runs behind the point")).to_be_visible(timeout=PATIENCE)
    assert "pick=msg%2Fcorrected" in page.url
    settled(page)
    mark(page, "rte", "GA").click(force=True)
    expect(page.get_by_text("GA: the runs behind the point")).to_be_visible(timeout=PATIENCE)
    settled(page)
    table = page.locator("[class*='st-key-table-'] canvas").first
    where = table.bounding_box()
    assert where
    page.mouse.click(where["x"] + 18, where["y"] + 35 + 35 * 1.5)  # rows are drawn: retrained, MSG, GA, original
    expect(page.get_by_text("MSG: the runs behind the point")).to_be_visible(timeout=PATIENCE)

    copied = page.url
    other = visit(context, copied)
    expect(other.get_by_text("MSG: the runs behind the point")).to_be_visible(timeout=PATIENCE)
    expect(points(other, "balanced_accuracy")).to_have_count(3, timeout=PATIENCE)
    page.get_by_role("link", name="Overview", exact=True).click()
    heading(page, "What does the evidence say?")
    settled(page)
    assert "methods=ga&methods=msg" in page.url
    expect(page.locator(CHART).nth(2).locator("g.mark-symbol path")).to_have_count(2, timeout=PATIENCE)


def test_privacy_looks_at_the_method_that_is_clicked(context: BrowserContext, site: Site) -> None:
    page = visit(context, f"{site.url}/privacy?dataset=digits")
    square = page.locator("[class*='st-key-wide-attacks'] path[aria-label^='FT, U-LiRA:']").first
    square.click(force=True, timeout=PATIENCE)
    settled(page)
    expect(page.get_by_role("radio", name="FT", exact=True)).to_be_visible(timeout=PATIENCE)
    assert "who=ft%2Fcorrected" in page.url and "look=ft%2Fcorrected" in page.url
    other = visit(context, page.url)
    expect(other.get_by_role("radio", name="FT", exact=True)).to_be_checked(timeout=PATIENCE)


def fetched(page: Page, button: Locator) -> tuple[str, bytes]:
    """Name and content of the file that a button gives."""
    with page.expect_download(timeout=PATIENCE) as waiting:
        button.click()
    return waiting.value.suggested_filename, Path(waiting.value.path()).read_bytes()


def valid(name: str, content: bytes) -> None:
    """Whether the file is what its name says, by a reader that is not ours where there is one."""
    match Path(name).suffix:
        case ".pdf":
            assert content.startswith(b"%PDF-") and content.rstrip().endswith(b"%%EOF") and len(re.findall(rb"/Type\s*/Page\b", content)) == 1
        case ".svg":
            assert ElementTree.fromstring(content).tag == "{http://www.w3.org/2000/svg}svg"
        case ".png":
            with Image.open(io.BytesIO(content)) as image:
                image.load()
                assert image.width > 500
        case ".html":
            assert content.lstrip().lower().startswith(b"<!doctype html>") and b' src="http' not in content
        case ".csv":
            assert len(pd.read_csv(io.BytesIO(content)))
        case ".tex":
            text = content.decode()
            assert all(text.count(rf"\begin{{{kind}}}") == text.count(rf"\end{{{kind}}}") for kind in ("figure", "table", "tabular")) and "\\begin" in text
        case ".md":
            assert "|" in content.decode() or content.startswith(b"# ")
        case other:
            raise AssertionError(f"nobody knows what a {other} should hold")


def test_downloads_of_figures_and_tables(context: BrowserContext, site: Site) -> None:
    page = visit(context, f"{site.url}/compare?dataset=digits")
    page.get_by_role("button", name="Export figure").first.click()
    for kind in ("PDF", "SVG", "PNG", "HTML"):
        page.get_by_role("radio", name=kind, exact=True).click()
        settled(page)
        name, content = fetched(page, page.get_by_role("button", name=f"Download {kind}"))
        assert name == f"lethe-compare-digits-cnn.{kind.lower()}"
        valid(name, content)
    page.keyboard.press("Escape")
    page.get_by_role("button", name="Export table").first.click()
    for kind in ("CSV", "LaTeX", "Markdown"):
        name, content = fetched(page, page.get_by_test_id("stPopoverBody").get_by_role("button", name=kind))
        valid(name, content)
        if kind == "CSV":
            found = pd.read_csv(io.BytesIO(content))
            assert len(found) == 8 and {"balanced_accuracy", "balanced_accuracy_lo", "balanced_accuracy_hi"} <= set(found)


def test_download_of_a_whole_view(context: BrowserContext, site: Site) -> None:
    page = visit(context, f"{site.url}/privacy?dataset=digits")
    name, content = fetched(page, page.get_by_role("button", name="All figures of this view"))
    assert name == "lethe-privacy.zip"
    with ZipFile(io.BytesIO(content)) as archive:
        assert archive.testzip() is None
        inside = archive.namelist()
        for entry in inside:
            valid(entry, archive.read(entry))
    figures = {Path(entry).stem for entry in inside if entry.endswith(".pdf")}
    assert len(figures) > 1 and {f"privacy/{figure}.{kind}" for figure in figures for kind in ("pdf", "svg", "png")} <= set(inside)
    assert {"privacy/captions.md", "privacy/captions.tex"} <= set(inside)


def test_downloads_of_rows(context: BrowserContext, site: Site) -> None:
    page = visit(context, f"{site.url}/data?table=metrics")
    made = {}
    for kind, read in (("Parquet", pd.read_parquet), ("CSV", pd.read_csv)):
        name, content = fetched(page, page.get_by_role("button", name=kind, exact=True))
        assert name.endswith(f".{kind.lower()}")
        made[kind] = read(io.BytesIO(content))
    assert list(made["Parquet"]) == list(made["CSV"]) and len(made["Parquet"]) == len(made["CSV"]) > 1000
    expect(page.get_by_text("Rows 1 to 100 of", exact=False)).to_contain_text(f"{len(made['CSV']):,}".replace(",", "\u202f"))


def test_lab_runs_to_the_result_and_survives_a_reload(context: BrowserContext, site: Site) -> None:
    page = visit(context, f"{site.url}/lab?method=msg&seed=3")
    page.get_by_role("button", name="Start", exact=True).click(timeout=PATIENCE)
    expect(page.get_by_role("button", name="Run it again")).to_be_visible(timeout=PATIENCE)
    assert "job=" in page.url
    expect(page.get_by_text("reaches 96.6")).to_be_visible()
    page.reload()
    expect(page.get_by_text("reaches 96.6")).to_be_visible(timeout=PATIENCE)
    expect(page.locator(CHART)).to_have_count(4, timeout=PATIENCE)  # three strips and the curves


def test_lab_report(context: BrowserContext, site: Site) -> None:
    page = ran(context, site, seed=4)
    name, content = fetched(page, page.get_by_role("button", name="Report"))
    found: dict[str, Any] = json.loads(content)
    assert name == f"lethe-{found['job']}.json" and found["request"]["seed"] == 4 and found["result"]["metrics"]["test_accuracy"] == 0.966


def test_lab_sweeps_to_the_result_and_clones_it(context: BrowserContext, browser: Browser, site: Site) -> None:
    page = visit(context, f"{site.url}/lab?method=msg&seed=2")
    chosen("Vary one parameter", "lr")(page)
    expect(page.get_by_text("3 runs", exact=False)).to_be_visible(timeout=PATIENCE)
    assert "sweep=lr" in page.url
    page.get_by_role("button", name="Start", exact=True).click()
    expect(page.get_by_role("button", name="Run it again")).to_be_visible(timeout=PATIENCE)
    expect(page.get_by_text("1 of 3 values diverged", exact=False)).to_be_visible()
    expect(page.locator(CHART)).to_have_count(4, timeout=PATIENCE)  # three metrics, and the curves
    settled(page)
    with watched(browser, site) as somebody:
        same_view(page, visit(somebody, page.url))
    page.get_by_test_id("stMain").get_by_role("button", name="Clone").first.click()
    expect(page.get_by_role("heading", name="What to run")).to_be_visible(timeout=PATIENCE)
    expect(page.get_by_role("combobox", name="Vary one parameter")).to_have_value("lr")
    assert "clone=" in page.url and "sweep=lr" in page.url


def test_lab_compares_runs(context: BrowserContext, browser: Browser, site: Site) -> None:
    for seed in (5, 6):
        page = ran(context, site, seed=seed)
    for at in (0, 1):  # the newest come first
        page.get_by_test_id("stCheckbox").nth(at).click()
        settled(page)
    page.get_by_role("button", name="Compare the chosen").click()
    heading(page, "Side by side")
    assert re.search("jobs=[^&]*(,|%2C)", page.url)
    settled(page)
    with watched(browser, site) as somebody:
        same_view(page, visit(somebody, page.url))


def ran(context: BrowserContext, site: Site, *, seed: int) -> Page:
    """The Lab with a run of that seed, done."""
    page = visit(context, f"{site.url}/lab?method=msg&seed={seed}")
    page.get_by_role("button", name="Start", exact=True).click(timeout=PATIENCE)
    expect(page.get_by_role("button", name="Run it again")).to_be_visible(timeout=PATIENCE)
    settled(page)
    return page


def test_lab_cancel(context: BrowserContext, site: Site) -> None:
    page = visit(context, f"{site.url}/lab?method=ft&seed=8")
    page.get_by_role("button", name="Start", exact=True).click(timeout=PATIENCE)
    expect(page.get_by_text("20 of 100", exact=False)).to_be_visible(timeout=PATIENCE)  # live
    expect(page.locator(f"{CHART} .mark-line").first).to_be_visible(timeout=PATIENCE)
    page.reload()  # the job goes on meanwhile
    page.get_by_role("button", name="Cancel", exact=True).click(timeout=PATIENCE)
    expect(page.get_by_text("Nothing of it runs any more")).to_be_visible(timeout=PATIENCE)
    page.get_by_role("button", name="Plan another").click()
    expect(page.get_by_role("heading", name="Before it starts")).to_be_visible(timeout=PATIENCE)


def test_server_restart_loses_nothing(browser: Browser, full: Shipped, tmp_path: Path) -> None:
    """A job that runs while the server goes down is there, and at work, when it is back."""
    site = plant(tmp_path, full, fake=True)
    visitor = browser.new_context()
    with running(site):
        page = visit(visitor, f"{site.url}/lab?method=ft&seed=8")
        page.get_by_role("button", name="Start", exact=True).click(timeout=PATIENCE)
        expect(page.get_by_role("button", name="Cancel", exact=True)).to_be_visible(timeout=PATIENCE)
    with running(site):
        page.goto(page.url)
        expect(page.get_by_text("20 of 100", exact=False)).to_be_visible(timeout=PATIENCE)
        page.get_by_role("button", name="Cancel", exact=True).click()
        expect(page.get_by_text("Nothing of it runs any more")).to_be_visible(timeout=PATIENCE)
    visitor.close()
    cancel_all(site)


@pytest.mark.timeout(900)
def test_lab_with_the_real_engine(browser: Browser, full: Shipped, tmp_path: Path) -> None:
    """One run as a visitor does it: a fresh seed of FT on digits, trained for real, beside the stored ones."""
    site = plant(tmp_path, full, fake=False)
    with running(site), watched(browser, site) as visitor:
        page = visit(visitor, f"{site.url}/lab?method=ft&seed=11")
        expect(page.get_by_text("This will take about")).to_be_visible(timeout=2 * PATIENCE)
        page.get_by_role("button", name="Start", exact=True).click()
        expect(page.get_by_role("button", name="Run it again")).to_be_visible(timeout=10 * PATIENCE)
        expect(page.get_by_text("seed 11 reaches", exact=False)).to_be_visible()
        expect(page.get_by_text("python -m engine rerun ft --dataset digits --model cnn --seed 11", exact=False)).to_be_visible()
        page.reload()
        expect(page.get_by_role("button", name="Run it again")).to_be_visible(timeout=PATIENCE)
    cancel_all(site)
