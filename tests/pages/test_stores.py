"""Every page over stores that are large, half broken or of an older version; `test_screens` has those that are empty, small and sound."""

import shutil
from pathlib import Path
from types import SimpleNamespace

import duckdb
import pytest
from streamlit.testing.v1 import AppTest

from bench import scale
from engine.store import reader, schema
from pages.ui.nav import PAGES, Screen
from tests.pages.conftest import Shipped
from tests.pages.test_screens import said

LATER = ("confusion", "embedding", *schema.ROLLUPS)  # tables that versions 1 and 2 had not yet
ERASED = {  # whose numbers are gone, as where a disk lost them
    "retrained": "kind = 'retrained'", "one method": "method = 'ft' AND kind = 'unlearned'", "one attack": "method = 'msg' AND kind = 'attack'",
    "one speed": "method = 'ct' AND kind = 'timing'"}

every_page = pytest.mark.parametrize("screen", PAGES, ids=lambda screen: screen.name)


def asks(app: AppTest, screen: Screen) -> bool:
    """Whether the page stands and says its question."""
    return not app.exception and app.title[0].value == screen.question


@pytest.fixture(scope="module")
def large(full: Shipped, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with ten places more, each with a study of the size of a real one."""
    home = tmp_path_factory.mktemp("large")
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(scale, "SHIPPED", full.file)
        patched.setattr(scale, "SOURCE", "embedded")
        made = scale.scale_up(home, models=80 * len(scale.PLACES), scores=50_000)
    assert made["studies"] == len(scale.PLACES) and made["examples"] >= 50_000
    return home


@pytest.fixture(scope="module")
def torn(full: Shipped, tmp_path_factory: pytest.TempPathFactory) -> Shipped:
    """Of one study some runs have lost their numbers, and no run of the other has come."""
    file = tmp_path_factory.mktemp("torn") / "results.duckdb"
    shutil.copy(full.file, file)
    with duckdb.connect(str(file)) as db:
        for rows in ERASED.values():
            for table in ("metrics", "shown_metrics"):
                db.execute(f"DELETE FROM {table} WHERE run_id IN (SELECT run_id FROM runs WHERE dataset = 'digits' AND {rows})")
        db.execute("DELETE FROM roc WHERE run_id IN (SELECT run_id FROM runs WHERE method = 'ga')")
        for table in schema.stored():
            db.execute(f"DELETE FROM {table} WHERE run_id IN (SELECT member FROM members WHERE members.run_id = ?)", [full.studies["fashion"]])
    return Shipped(file, full.catalogue, full.studies)


def older(shipped: Shipped, folder: Path, version: int) -> Shipped:
    """The same results as that version of the schema had them."""
    file = folder / f"version-{version}" / shipped.file.name
    file.parent.mkdir()
    shutil.copy(shipped.file, file)
    with duckdb.connect(str(file)) as db:
        for table in LATER:
            db.execute(f"DROP TABLE {table}")
        for column in ("half", "chosen") if version == 1 else ():
            db.execute(f"ALTER TABLE examples DROP COLUMN {column}")
        db.execute("UPDATE meta SET value = ? WHERE key = 'schema_version'", [str(version)])
    return Shipped(file, shipped.catalogue, shipped.studies)


def live(home: Path, content: Path) -> None:
    """That file as the one of one's own runs."""
    folder = reader.store_folder(home)
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(content, folder / "live-1.duckdb")
    (folder / "CURRENT").write_text("live-1.duckdb\n", encoding="utf-8")


@every_page
def test_large(screen: Screen, site: SimpleNamespace, empty: Shipped, large: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    site.ship(empty)
    monkeypatch.setenv("LETHE_HOME", str(large))
    app = site.open(screen.script)
    assert asks(app, screen) and not app.error and len(said(app)) > 200


@every_page
def test_numbers_are_missing(screen: Screen, site: SimpleNamespace, torn: Shipped) -> None:
    """What is left is shown; where nothing is, the page says what would fill it."""
    site.ship(torn)
    for dataset in ("digits", "fashion_mnist"):
        app = site.open(screen.script, dataset=dataset, model="cnn")
        assert asks(app, screen) and not app.error and len(said(app)) > 200


@every_page
def test_live_file_cannot_be_read(screen: Screen, site: SimpleNamespace, full: Shipped, tmp_path: Path) -> None:
    """Damaged, or of a newer version: the page says so and what to do, whatever the shipped file holds."""
    site.ship(full)
    noise, newer = tmp_path / "noise", tmp_path / "newer.duckdb"
    noise.write_bytes(b"not a database")
    shutil.copy(full.file, newer)
    with duckdb.connect(str(newer)) as db:
        db.execute("UPDATE meta SET value = ? WHERE key = 'schema_version'", [str(schema.VERSION + 1)])
    for content, remedy in ((noise, "python -m engine ingest"), (newer, "git pull")):
        live(site.home, content)
        app = site.open(screen.script)
        assert asks(app, screen) and "live-1.duckdb" in app.error[0].value and remedy in said(app)


@every_page
def test_older_file_says_the_same(screen: Screen, site: SimpleNamespace, full: Shipped, tmp_path: Path) -> None:
    """What it lacks is worked out or absent, and no page notices: these studies have nothing that later versions added."""
    told = []
    for shipped in (full, older(full, tmp_path, 1)):
        site.ship(shipped)
        app = site.open(screen.script, dataset="digits", model="cnn")
        assert asks(app, screen) and not app.error
        told.append(said(app))
    assert told[0] == told[1]


def test_second_version(site: SimpleNamespace, attacked: Shipped, tmp_path: Path) -> None:
    """It has the most exposed examples already, which one page shows; the first had not, and the page stands without them."""
    told = {}
    for name, shipped in (("now", attacked), *((version, older(attacked, tmp_path, version)) for version in (1, 2))):
        site.ship(shipped)
        app = site.open("pages/privacy.py", dataset="digits", model="cnn")
        assert not app.exception and not app.error
        told[name] = said(app)
    assert told[2] == told["now"] != told[1]
