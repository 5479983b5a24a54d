"""Stores for the tests of pages: made once from synthetic records, copied for each test that changes one."""

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import pytest
import streamlit as st
from duckdb import DuckDBPyConnection
from streamlit.testing.v1 import AppTest

from engine.store import ingest, reader
from pages.ui import pictures, store
from tests.pages import synthetic

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Shipped:
    """A results file and the studies in it."""

    file: Path
    catalogue: Path
    studies: dict[str, str]  # name -> run_id


@pytest.fixture(scope="session")
def full(tmp_path_factory: pytest.TempPathFactory) -> Shipped:
    """Two studies: a whole one on digits, and one on FashionMNIST that is partial, has failures and a doubtful calibration."""
    home = tmp_path_factory.mktemp("full")
    studies = {"embedded": synthetic.study(home),
               "fashion": synthetic.study(home, name="fashion", title="Six methods on FashionMNIST", dataset="fashion_mnist", seeds=5, missing=1,
                                          diverged=("ga",), failed=("srl",), calibrated="too few models", started=synthetic.STARTED.replace(month=10))}
    return packed(home, studies)


@pytest.fixture(scope="session")
def attacked(tmp_path_factory: pytest.TempPathFactory) -> Shipped:
    """Studies with every attack: a sound one on digits, one whose calibration failed, and one that was never calibrated."""
    home = tmp_path_factory.mktemp("attacked")
    studies = {name: synthetic.study(home, name=name, title=f"Attacks, {name}", dataset=dataset, model=model, seeds=3, methods=("msg", "ft", "ga"),
                                     calibrated=calibrated, every_attack=True, over_forgets=("ga",))
               for name, dataset, model, calibrated in (("sound", "digits", "cnn", "passed"), ("broken", "fashion_mnist", "cnn", "failed"),
                                                        ("unchecked", "fashion_mnist", "resnet18", "absent"))}
    return packed(home, studies)


@pytest.fixture(scope="session")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Shipped:
    """A sound file with nothing in it."""
    return packed(tmp_path_factory.mktemp("empty"), {})


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory) -> Shipped:
    """One seed of one method, neither attacked nor timed: no intervals, no privacy, no speed."""
    home = tmp_path_factory.mktemp("small")
    return packed(home, {"embedded": synthetic.study(home, seeds=1, methods=("ft",), privacy=False, timing=False)})


def packed(home: Path, studies: dict[str, str]) -> Shipped:
    synthetic.publish(home)
    ingest.ingest(home)
    file = home / "shipped" / "results.duckdb"
    ingest.pack(home, None, file)
    shutil.copy(home / "catalogue.json", file.parent / "catalogue.json")
    return Shipped(file, file.parent / "catalogue.json", studies)


@pytest.fixture
def db(full: Shipped, tmp_path: Path) -> Iterator[DuckDBPyConnection]:
    with reader.open_results(full.file, tmp_path) as connection:
        yield connection


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SimpleNamespace]:
    """The app over a store: `site.ship(shipped)` chooses it, `site.open(script)` runs a page, `site.home` is $LETHE_HOME."""
    home = tmp_path / "home"
    monkeypatch.setenv("LETHE_HOME", str(home))
    monkeypatch.setattr(pictures, "ask", lambda dataset, examples, attempt=0: None)  # else each page that shows examples starts an engine

    def ship(shipped: Shipped) -> None:
        monkeypatch.setattr(store, "SHIPPED", shipped.file)
        monkeypatch.setattr(store, "CATALOGUE", shipped.catalogue)

    def open_page(script: str = "app.py", **query: str | list[str]) -> AppTest:
        app = AppTest.from_file(str(ROOT / "app.py"), default_timeout=30)
        for name, value in query.items():
            app.query_params[name] = value
        if script != "app.py":
            app.switch_page(script)
        return app.run()

    yield SimpleNamespace(home=home, ship=ship, open=open_page, file=lambda: store.SHIPPED)
    st.cache_data.clear()
    st.cache_resource.clear()
