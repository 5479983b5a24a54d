"""The app as people meet it: a server of its own, driven in Chromium. Skipped, with the reason, where there is none."""

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

import pytest
from playwright.sync_api import Browser, BrowserContext, Locator, Page, expect, sync_playwright

from engine import queue
from tests.pages.conftest import ROOT, Shipped

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome"))), None)
FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--disable-background-networking"]
CHART = "[data-testid=stVegaLiteChart]"
PATIENCE = 60_000  # milliseconds that a page may take to settle on a busy machine

pytestmark = [pytest.mark.browser, pytest.mark.slow,
              pytest.mark.skipif(CHROMIUM is None, reason="no Chrome or Chromium on the PATH: apt-get install chromium, or brew install chromium")]


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
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield chromium
        chromium.close()


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
def watched(browser: Browser, site: Site) -> Iterator[BrowserContext]:
    """A visitor whose console, page errors and requests are listened to; at the end there must be nothing to complain of."""
    visitor = browser.new_context(viewport={"width": 1440, "height": 1300}, accept_downloads=True)
    complaints: list[str] = []

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
    assert "Traceback" not in site.printed()


def visit(context: BrowserContext, url: str) -> Page:
    page = context.new_page()
    page.goto(url)
    settled(page)
    return page


def settled(page: Page) -> None:
    page.wait_for_selector("[data-testid=stApp][data-test-script-state=notRunning]", timeout=PATIENCE)
    page.wait_for_timeout(400)


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


@pytest.mark.parametrize(("path", "question"), [("", "What does the evidence say?"), ("/compare", "What do I trade for what?"),
                                                ("/privacy", "Who is still exposed?"), ("/lab", "What happens if I run it myself?")])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_deep_links_work_on_the_first_visit(browser: Browser, site: Site, path: str, question: str, scheme: str) -> None:
    visitor = browser.new_context(color_scheme="dark" if scheme == "dark" else "light", viewport={"width": 400, "height": 900})
    page = visitor.new_page()
    page.goto(site.url + path)
    heading(page, question)
    assert page.evaluate("document.documentElement.scrollWidth") <= 400  # nothing sticks out on a phone
    visitor.close()


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


def test_compare_downloads(context: BrowserContext, site: Site) -> None:
    page = visit(context, f"{site.url}/compare?dataset=digits")
    page.get_by_role("button", name="Export figure").click()
    for kind, magic in (("PDF", b"%PDF"), ("SVG", b"<svg"), ("PNG", b"\x89PNG")):
        page.get_by_role("radio", name=kind, exact=True).click()
        settled(page)
        with page.expect_download(timeout=30_000) as waiting:
            page.get_by_role("button", name=f"Download {kind}").click()
        assert waiting.value.suggested_filename == f"lethe-compare-digits-cnn.{kind.lower()}"
        assert Path(waiting.value.path()).read_bytes().startswith(magic)
    page.keyboard.press("Escape")
    page.get_by_role("button", name="Export table").click()
    with page.expect_download(timeout=30_000) as waiting:
        page.get_by_test_id("stPopoverBody").get_by_role("button", name="CSV").click()
    content = Path(waiting.value.path()).read_text(encoding="utf-8")
    assert len(content.splitlines()) == 9 and "balanced_accuracy_lo" in content


def test_lab_runs_to_the_result_and_survives_a_reload(context: BrowserContext, site: Site) -> None:
    page = visit(context, f"{site.url}/lab?method=msg&seed=3")
    page.get_by_role("button", name="Start", exact=True).click(timeout=PATIENCE)
    expect(page.get_by_role("button", name="Run it again")).to_be_visible(timeout=PATIENCE)
    assert "job=" in page.url
    expect(page.get_by_text("reaches 96.6")).to_be_visible()
    page.reload()
    expect(page.get_by_text("reaches 96.6")).to_be_visible(timeout=PATIENCE)
    expect(page.locator(CHART)).to_have_count(4, timeout=PATIENCE)  # three strips and the curves


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
