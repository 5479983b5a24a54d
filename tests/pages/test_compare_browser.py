"""Compare in Chromium: a box keeps some methods everywhere, a copied link restores it, a click in it still picks one."""

import pytest
from playwright.sync_api import Browser, expect

from tests.pages import test_browser
from tests.pages.conftest import Shipped
from tests.pages.test_browser import PATIENCE, Site, mark, plant, running, settled, visit, watched

pytestmark = test_browser.pytestmark
browser = test_browser.browser


def test_a_box_a_link_a_click_and_all_again(browser: Browser, full: Shipped, tmp_path_factory: pytest.TempPathFactory) -> None:
    site: Site = plant(tmp_path_factory.mktemp("compare"), full, fake=True)
    with running(site), watched(browser, site) as visitor:
        page = visit(visitor, f"{site.url}/compare?dataset=digits")
        panel = page.locator("[class*='st-key-panel-rte-'] svg.marks")
        expect(panel).to_be_visible(timeout=PATIENCE)
        panel.scroll_into_view_if_needed()
        where, fast = panel.bounding_box(), mark(page, "rte", "GA").bounding_box()
        assert where and fast
        page.mouse.move(fast["x"] - 15, fast["y"] - 15)
        page.mouse.down()
        page.mouse.move(fast["x"] + 10, fast["y"] + 10, steps=4)
        page.wait_for_timeout(400)  # who rests on the way loses nothing
        page.mouse.move(fast["x"] + 25, fast["y"] + 25, steps=4)
        assert "brush" not in page.url
        page.mouse.up()
        expect(page.get_by_text("those in the box: GA.")).to_be_visible(timeout=PATIENCE)
        settled(page)
        assert "brush=ga%2Fcorrected" in page.url and "pick=" not in page.url

        other = visit(visitor, page.url)
        expect(other.get_by_text("those in the box: GA.")).to_be_visible(timeout=PATIENCE)
        settled(other)
        mark(other, "balanced_accuracy", "MSG").click(force=True, timeout=PATIENCE)
        expect(other.get_by_text("MSG: the runs behind the point")).to_be_visible(timeout=PATIENCE)
        settled(other)
        assert "brush=ga%2Fcorrected" in other.url
        other.get_by_role("button", name="Show all").click()
        expect(other.get_by_text("those in the box")).to_have_count(0, timeout=PATIENCE)
        settled(other)
        assert "brush" not in other.url and "pick=msg%2Fcorrected" in other.url
