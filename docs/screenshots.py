"""Every page of the app as a picture, in light and dark and on a telephone, to be looked at before a release.

    python -m docs.screenshots OUT [--pages compare,privacy] [--home DIR]

writes OUT/<page>-<theme>-<width>.png, whole pages, over the results that ship and those under DIR (an empty folder of its own where none is given).
"""

import argparse
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Literal

from playwright.sync_api import Browser, Page, TimeoutError, sync_playwright

from bench.app import serving
from engine.errors import BadInput, LetheError, RunError
from pages.ui.nav import PAGES, Screen

Theme = Literal["light", "dark"]
VIEWS: tuple[tuple[Theme, int], ...] = (("light", 1280), ("dark", 1280), ("light", 420))  # width in px
_PATIENCE_MS = 120_000
_BETWEEN_MS = 700  # two looks between which a settled page does not change
# a caption that ends in dots says that the engine was asked for something
_ANSWERED = """!document.querySelector('[data-testid=stSkeletonElement]')
    && ![...document.querySelectorAll('[data-testid=stCaptionContainer]')].some(caption => caption.innerText.trim().endsWith('…'))"""
_TALLEST = 16_000  # px that Chromium can draw at once


def chromium() -> str | None:
    """Where Chromium or Chrome is, if it is on the PATH."""
    return next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome"))), None)


@contextmanager
def launched() -> Iterator[Browser]:
    """A browser without a window. Raises: RunError where there is none."""
    path = chromium()
    if path is None:
        raise RunError("no Chrome or Chromium on the PATH: apt-get install chromium, or brew install chromium")
    with sync_playwright() as playwright:
        flags = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--disable-background-networking"]
        browser = playwright.chromium.launch(executable_path=path, args=flags)
        yield browser
        browser.close()


def settled(page: Page) -> None:
    """Wait until the script has run, nothing is a placeholder any more, and the page has stopped growing."""
    page.wait_for_selector("[data-testid=stApp][data-test-script-state=notRunning]", timeout=_PATIENCE_MS)
    page.wait_for_function("document.fonts.status === 'loaded' && !document.querySelector('[data-testid=stSkeleton]')", timeout=_PATIENCE_MS)
    before = None
    while (now := page.locator("[data-testid=stMain]").evaluate("main => [main.scrollHeight, main.querySelectorAll('svg, canvas, img').length]")) != before:
        before = now
        page.wait_for_timeout(_BETWEEN_MS)
        page.wait_for_selector("[data-testid=stApp][data-test-script-state=notRunning]", timeout=_PATIENCE_MS)


def take(browser: Browser, url: str, theme: Theme, width: int, path: Path) -> None:
    """One page from its top to its foot."""
    visitor = browser.new_context(color_scheme=theme, viewport={"width": width, "height": 1000}, reduced_motion="reduce")
    page = visitor.new_page()
    page.goto(url)
    settled(page)
    with suppress(TimeoutError):  # else the picture shows what people see meanwhile
        page.wait_for_function(_ANSWERED, timeout=_PATIENCE_MS)
    for _ in range(2):  # the page scrolls in a box of its own, and what comes into sight may make it higher
        height = page.locator("[data-testid=stMain]").evaluate("main => main.scrollHeight")
        page.set_viewport_size({"width": width, "height": min(height, _TALLEST)})
        settled(page)
    page.screenshot(path=path)
    visitor.close()


def pictures(out: Path, screens: Sequence[Screen], home: Path) -> None:
    """All views of these pages. Raises: LetheError."""
    out.mkdir(parents=True, exist_ok=True)
    with launched() as browser, serving(home) as (port, _):
        for screen in screens:
            for theme, width in VIEWS:
                path = out / f"{screen.name}-{theme}-{width}.png"
                take(browser, f"http://localhost:{port}/{'' if screen.name == 'overview' else screen.name}", theme, width, path)
                print(path)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m docs.screenshots", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("out", type=Path, help="folder of the pictures")
    parser.add_argument("--pages", help=f"some of {','.join(screen.name for screen in PAGES)}, joined by commas; else all")
    parser.add_argument("--home", type=Path, help="results beside those that ship")
    given = parser.parse_args(arguments)
    wanted = given.pages.split(",") if given.pages else [screen.name for screen in PAGES]
    try:
        if unknown := sorted(set(wanted) - {screen.name for screen in PAGES}):
            raise BadInput(f"--pages {','.join(unknown)}: no such page; there are: {', '.join(screen.name for screen in PAGES)}")
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as empty:
            pictures(given.out, [screen for screen in PAGES if screen.name in wanted], given.home or Path(empty))
    except LetheError as error:
        print(error, file=sys.stderr)
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
