"""Every page over an empty, a small, a full and a broken store: it says what there is, and never shows a traceback."""

import shutil
from pathlib import Path
from types import SimpleNamespace

import duckdb
import pytest
from streamlit.testing.v1 import AppTest

from engine.store import ingest, schema
from pages.ui.nav import PAGES
from tests.pages import synthetic
from tests.pages.conftest import Shipped

SCRIPTS = [page.script for page in PAGES]


def said(app: AppTest) -> str:
    """All texts of a page."""
    kinds = (app.title, app.subheader, app.markdown, app.caption, app.info, app.warning, app.error)
    return "\n".join(element.value for kind in kinds for element in kind)


@pytest.mark.parametrize("script", SCRIPTS)
@pytest.mark.parametrize("which", ["empty", "small", "full"])
def test_pages_stand(script: str, which: str, site: SimpleNamespace, request: pytest.FixtureRequest) -> None:
    site.ship(request.getfixturevalue(which))
    app = site.open(script)
    assert not app.exception and not app.error
    assert app.title[0].value == next(page.question for page in PAGES if page.script == script)
    assert len(said(app)) > 200


@pytest.mark.parametrize("script", SCRIPTS)
def test_missing_file(script: str, site: SimpleNamespace, empty: Shipped, tmp_path: Path) -> None:
    site.ship(Shipped(tmp_path / "gone.duckdb", empty.catalogue, {}))
    app = site.open(script)
    assert not app.exception
    assert "gone.duckdb" in app.error[0].value and "git checkout" in said(app)


@pytest.mark.parametrize("script", SCRIPTS)
def test_damaged_file(script: str, site: SimpleNamespace, full: Shipped, tmp_path: Path) -> None:
    broken = tmp_path / "results.duckdb"
    content = bytearray(full.file.read_bytes())
    content[len(content) // 2:] = b"\0" * (len(content) - len(content) // 2)
    broken.write_bytes(content)
    site.ship(Shipped(broken, full.catalogue, {}))
    app = site.open(script)
    assert not app.exception
    assert str(broken) in app.error[0].value and "doctor" in said(app)


def test_newer_file(site: SimpleNamespace, full: Shipped, tmp_path: Path) -> None:
    newer = tmp_path / "results.duckdb"
    shutil.copy(full.file, newer)
    with duckdb.connect(str(newer)) as db:
        db.execute(f"UPDATE meta SET value = '{schema.VERSION + 1}' WHERE key = 'schema_version'")
    site.ship(Shipped(newer, full.catalogue, {}))
    app = site.open()
    assert not app.exception and "newer version" in app.error[0].value


def test_damaged_catalogue(site: SimpleNamespace, full: Shipped, tmp_path: Path) -> None:
    catalogue = tmp_path / "catalogue.json"
    catalogue.write_text('{"methods": [', encoding="utf-8")
    site.ship(Shipped(full.file, catalogue, {}))
    assert "catalogue.json" in site.open().error[0].value


def test_damaged_live_file_and_back(site: SimpleNamespace, full: Shipped) -> None:
    """The file of one's own runs is an index: the page says how to build it again, and that helps."""
    site.ship(full)
    synthetic.study(site.home, name="mine", title="My own study", seeds=2)
    ingest.ingest(site.home)
    (live,) = (site.home / "store").glob("live-*.duckdb")
    live.write_bytes(b"not a database")
    app = site.open()
    assert not app.exception and "ingest" in app.error[0].value
    ingest.ingest(site.home)
    assert not site.open().error


def test_overview_answers(site: SimpleNamespace, full: Shipped) -> None:
    site.ship(full)
    app = site.open()
    text = said(app)
    assert "No method wins on every goal: **MSG and CT** hide best, **FT, MSG and NG+** keep the most accuracy, **GA** is fastest." in text
    assert "The cheap attack flatters" in text
    assert text.count("Passed") == 3
    assert "Six methods on FashionMNIST" in text  # the other study, in brief
    assert "10 seeds" in text and "commit 0123abc" in text and "study run data/studies/embedded.yaml" in text
    assert len(app.get("arrow_vega_lite_chart") or app.get("vega_lite_chart")) == 3


def test_partial_failed_and_doubtful(site: SimpleNamespace, full: Shipped) -> None:
    site.ship(full)
    app = site.open("pages/compare.py", dataset="fashion_mnist")
    assert "Partial." in app.info[0].value and "of 61 runs" in app.info[0].value
    assert "2 runs of GA and SRL failed" in app.expander[0].label
    assert set(app.expander[0].dataframe[0].value["status"]) == {"diverged", "failed"}
    assert "too few models" in app.warning[0].value
    assert "2 of 3 checks passed" in said(app)


def test_stale(site: SimpleNamespace, full: Shipped, tmp_path: Path) -> None:
    raised = tmp_path / "catalogue.json"
    raised.write_text(full.catalogue.read_text(encoding="utf-8").replace('"name": "msg", "label": "MSG", "family": "reset", "source": "paper", '
                      '"paper": "arXiv:0000.00000", "variants": ["corrected"], "reads": ["retain"], "version": 1',
                      '"name": "msg", "label": "MSG", "family": "reset", "source": "paper", "paper": "", "variants": ["corrected"], '
                      '"reads": ["retain"], "version": 2'), encoding="utf-8")
    site.ship(Shipped(full.file, raised, full.studies))
    app = site.open()
    assert "Stale" in app.warning[0].value and "MSG changed" in app.warning[0].value


def test_unknown_method_in_the_store(site: SimpleNamespace, full: Shipped, tmp_path: Path) -> None:
    """Results of a plug-in that is not there now are shown under its bare name."""
    site.ship(Shipped(full.file, tmp_path / "no-catalogue.json", full.studies))
    for script in SCRIPTS:
        app = site.open(script)
        assert not app.exception and not app.error


def test_filters_go_to_the_url_and_follow(site: SimpleNamespace, full: Shipped) -> None:
    site.ship(full)
    app = site.open("pages/compare.py")
    app.multiselect[0].set_value(["msg", "ct"]).run()
    assert app.query_params["methods"] == ["msg", "ct"] and app.query_params["dataset"] == "digits"
    assert list(app.dataframe[0].value["Method"]) == ["Retrained", "MSG", "CT", "Original"]
    app.selectbox(key="dataset@compare").set_value("fashion_mnist").run()
    app.switch_page("app.py").run()
    assert app.selectbox(key="dataset@overview").value == "fashion_mnist" and app.multiselect[0].value == ["msg", "ct"]
    assert app.query_params["methods"] == ["msg", "ct"]


def test_url_restores_the_view(site: SimpleNamespace, full: Shipped) -> None:
    site.ship(full)
    app = site.open("pages/compare.py", dataset="digits", methods=["ga", "ft"], pick="ga/corrected")
    assert app.multiselect[0].value == ["ga", "ft"]
    assert "GA: the runs behind the point" in said(app)
    runs = app.dataframe[1].value
    assert list(runs["Seed"]) == list(range(10)) and runs["Run"].is_unique
    assert app.code[0].value == "python -m engine rerun ga --dataset digits --model cnn --seed 0 --device cpu --set lr=0.0004 --set epochs=3 --no-store"


def test_a_link_wins_over_widgets(site: SimpleNamespace, full: Shipped) -> None:
    site.ship(full)
    app = site.open("pages/compare.py")
    app.multiselect[0].set_value(["msg"]).run()
    app.query_params["methods"] = ["ft"]
    app.run()
    assert app.multiselect[0].value == ["ft"]


def test_unknown_pick_is_left_aside(site: SimpleNamespace, full: Shipped) -> None:
    site.ship(full)
    assert "Choose a point or a row" in said(site.open("pages/compare.py", pick="nothing/such"))


def test_dataset_without_results(site: SimpleNamespace, full: Shipped) -> None:
    site.ship(full)
    app = site.open("pages/compare.py", dataset="cifar10", model="resnet18")
    assert "no results for cifar10, ResNet-18 yet" in said(app)
    assert "study run" in app.code[0].value


def test_many_studies_of_one_kind(site: SimpleNamespace, full: Shipped) -> None:
    """The largest is shown, the others are a choice and part of the link."""
    site.ship(full)
    mine = synthetic.study(site.home, name="mine", title="My own study", seeds=2, started=synthetic.STARTED.replace(day=21))
    ingest.ingest(site.home)
    app = site.open("pages/compare.py")
    assert "10 seeds" in said(app) and app.query_params["study"] == full.studies["embedded"]
    app.selectbox(key="study@compare").set_value(mine).run()
    assert app.query_params["study"] == mine and "2 seeds" in said(app)
