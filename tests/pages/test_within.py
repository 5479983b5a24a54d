"""The last part of Inside: classes, confusions and features of one method, over stores with all of it, with none, with one seed and with many classes."""

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import altair as alt
import numpy as np
import pytest
from duckdb import DuckDBPyConnection

from engine.store import insides, reader, records
from pages.ui import charts, classes, embedding, export, formats, theme
from tests.pages import synthetic
from tests.pages.conftest import Shipped, packed
from tests.pages.test_inside import LOOKS, METHODS, SCRIPT, drawn, enriched, measured
from tests.pages.test_screens import said
from tests.pages.test_search import short

NAMES = [f"kind {label}" for label in range(10)]


def tables(method: str, seed: int, count: int = 10) -> dict[str, list[records.Row]]:
    """Of each class 20 examples of each set, one taken for the next class; MSG takes five of class 3 for class 8."""
    rng = np.random.default_rng([seed, len(method)])
    rows = []
    for of in ("retain", "forget", "val", "test"):
        for label in range(count):
            wrong = {(label + 1) % count: 1} | ({8: 5 + seed % 2} if (method, label, of) == ("msg", 3, "test") else {})
            rows += [{"set": of, "label": label, "predicted": other, "count": n} for other, n in {label: 20 - sum(wrong.values()), **wrong}.items()]
    at = rng.normal(size=(30, 2))
    points = [{"example": i, "set": ("forget", "retain", "test")[i % 3], "label": i % count, "x": float(x), "y": float(y)} for i, (x, y) in enumerate(at)]
    return {"confusion": rows, "embedding": points}


@pytest.fixture(scope="session")
def within(tmp_path_factory: pytest.TempPathFactory) -> Shipped:
    """Eight seeds on digits with everything, one seed on FashionMNIST, a hundred classes with another model, and nothing of it with a third."""
    made = {}
    homes = [tmp_path_factory.mktemp(name) for name in ("whole", "alone", "hundred", "old")]
    for home, name, more in zip(homes, ("whole", "alone", "hundred", "old"),
                                ({"seeds": 8}, {"seeds": 1, "dataset": "fashion_mnist"}, {"seeds": 2, "model": "resnet18"},
                                 {"seeds": 2, "model": "resnet18_cifar"}), strict=True):
        made[name] = synthetic.study(home, name=name, methods=METHODS, privacy=False, timing=False, **more)
        if name != "old":
            enriched(home, measured, lambda method, seed, count=100 if name == "hundred" else 10: tables(method, seed, count))
        if home != homes[0]:
            for folder in (home / "runs").iterdir():
                folder.rename(homes[0] / "runs" / folder.name)
    return packed(homes[0], made)


@pytest.fixture
def store(within: Shipped, tmp_path: Path) -> Iterator[DuckDBPyConnection]:
    with reader.open_results(within.file, tmp_path) as db:
        yield db


def confusions(db: DuckDBPyConnection, study: str, method: str = "msg") -> list[dict]:
    return insides.confusion_change(db, study=study, of="test", method=method, variant="corrected").to_dict("records")


def by_class(db: DuckDBPyConnection, study: str) -> list[dict]:
    return insides.class_accuracies(db, study=study, of="test").to_dict("records")


# ---- in words


def plain(told: str) -> str:
    return told.replace(formats.THIN, " ")


def test_the_worst_class_is_picked_on_one_half_and_told_by_the_other(store: DuckDBPyConnection, within: Shipped) -> None:
    rows, pairs = by_class(store, within.studies["whole"]), confusions(store, within.studies["whole"])
    # seeds 0, 2, …: five of twenty; seeds 1, 3, …: six
    assert plain(classes.worst(rows, "MSG", "msg", "corrected", "test", NAMES)) == (
        "**On the test set MSG is furthest from retrained models on kind 3**, by −30.0 points of accuracy (−30.0 to −30.0 points).")
    assert plain(classes.grew(pairs, "MSG", "test", NAMES)) == (
        "**What grew most on the test set: MSG takes kind 3 for kind 8** more often than retrained models, by +30.0 points (+30.0 to +30.0 points).")


def test_few_seeds_say_so(store: DuckDBPyConnection, within: Shipped) -> None:
    study, numbers = within.studies["alone"], list("0123456789")
    assert "on class 3**, by −25.0 points of accuracy in the one seed that there is" in plain(
        classes.worst(by_class(store, study), "MSG", "msg", "corrected", "test", numbers))
    assert "takes class 3 for class 8** in 25.0 % of cases, retrained models in 0.0 %" in plain(classes.grew(confusions(store, study), "MSG", "test", []))
    two = by_class(store, within.studies["hundred"])
    assert "(mean of 1 seed, too few for an interval)" in classes.worst(two, "MSG", "msg", "corrected", "test", [])


def test_what_may_be_chance_says_so_and_without_retrained_models_nothing_is_said() -> None:
    row = {"method": "ft", "variant": "corrected", "label": 1, "predicted": 2, "gap": -0.01, "change": 0.02, "chosen": 0.02, "reported": 0.01,
           "reported_lo": -0.02, "reported_hi": 0.04, "reported_seeds": 5}
    assert "(−2.0 to +4.0 points, so it may be chance)" in plain(classes.worst([row], "FT", "ft", "corrected", "test", []))
    assert "No single confusion of FT on the test set is sure to have grown**: class 1 for class 2" in classes.grew([row], "FT", "test", [])
    assert "there are none of the same seeds" in classes.worst([{**row, "chosen": float("nan")}], "FT", "ft", "corrected", "test", [])
    assert "no class for another more often than retrained models do** on the validation set" in classes.grew([{**row, "chosen": -0.1}], "FT", "val", [])


# ---- charts and tables


@pytest.mark.parametrize("style", [theme.LIGHT, theme.PAPER])
def test_charts_are_valid_and_export(store: DuckDBPyConnection, within: Shipped, style: theme.Style) -> None:
    study = within.studies["whole"]
    rows, pairs = by_class(store, study), confusions(store, study)
    points = insides.embedding(store, study=study, seed=3, method="msg", variant="corrected").to_dict("records")
    keys, reach = embedding.models(points, "msg", "corrected"), embedding.spans(points)
    assert keys == [("original", "corrected"), ("msg", "corrected"), ("retrained", "corrected")]
    panels = [classes.by_class(rows, LOOKS, style, range(10), NAMES, method="msg", variant="corrected", heading="x"),
              classes.square(pairs, style, range(10), NAMES, heading="x"),
              *(embedding.panel(points, key, LOOKS, style, NAMES, reach, heading=True) for key in keys)]
    for panel in panels:
        alt.Chart.from_dict(charts.dressed(short(panel), style), validate=True)
    assert b"Retrained" in export.drawn(lambda style, width, below: charts.beside([
        embedding.panel(points, key, LOOKS, style, NAMES, reach, heading=True, size=(round(width), 100)) for key in keys]), "SVG", 180, 3)


def test_the_square_colours_what_changed_and_writes_what_is_sure(store: DuckDBPyConnection, within: Shipped) -> None:
    cells = {(cell["true"], cell["predicted"]): cell for cell in
             classes.square(confusions(store, within.studies["whole"]), theme.LIGHT, range(10), NAMES)["data"]["values"]}
    grown, lost, same = (cells["kind 3", f"kind {to}"] for to in (8, 3, 4))
    assert (grown["fill"], grown["text"]) == (classes.MORE, "+27.5") and (lost["fill"], lost["text"]) == (classes.LESS, "−27.5")
    assert same["text"] == "" and same["shade"] == 0 and grown["shade"] == pytest.approx(lost["shade"])


def test_of_a_hundred_classes_those_that_changed_most_are_drawn(store: DuckDBPyConnection, within: Shipped) -> None:
    rows, pairs = by_class(store, within.studies["hundred"]), confusions(store, within.studies["hundred"])
    shown = classes.shown(classes.of_method(rows, "msg", "corrected"))
    assert len(shown) == classes.MOST and 3 in shown
    labels = classes.furthest(pairs)
    assert len(labels) == classes.MOST_SQUARE and {3, 8} <= set(labels)


def test_tables_name_classes_and_hold_every_number(store: DuckDBPyConnection, within: Shipped) -> None:
    rows, pairs = by_class(store, within.studies["whole"]), confusions(store, within.studies["whole"])
    shown = classes.accuracies(rows, LOOKS, NAMES).set_index("Class")
    assert set(shown.columns) == {"MSG", "FT", "GA", "Original", "Retrained"} and shown.loc["kind 0", "MSG"].startswith("95.0")
    full = classes.full(pairs, NAMES)
    assert list(full.columns[:4]) == ["label", "label_name", "predicted", "predicted_name"] and len(full) == len(pairs)
    assert classes.changes(pairs, NAMES).iloc[0][["True class", "Taken for"]].tolist() == ["kind 3", "kind 8"]
    assert classes.changes([], NAMES).empty


# ---- the page


@pytest.mark.parametrize(("view", "figures", "told"), [
    ("Classes", 1, "furthest from retrained models on class 3"), ("Confusions", 1, "takes class 3 for class 8"),
    ("Embedding", 3, "nearer to retrained models than the original was")])
def test_every_view(view: str, figures: int, told: str, site: SimpleNamespace, within: Shipped) -> None:
    site.ship(within)
    app = site.open(SCRIPT, dataset="digits", model="cnn", within=view, who="msg/corrected", part="Accuracy", seed="5")
    assert not app.exception and not app.error and drawn(app) == 1 + 4 + figures
    assert told in said(app) and app.query_params["within"] == view
    if view == "Embedding":
        assert app.selectbox(key="seed@inside").value == "5" and "Centre AUC 0.5" in said(app)


@pytest.mark.parametrize("view", ["Classes", "Confusions", "Embedding"])
def test_one_seed_and_a_hundred_classes(view: str, site: SimpleNamespace, within: Shipped) -> None:
    site.ship(within)
    one = site.open(SCRIPT, dataset="fashion_mnist", model="cnn", within=view)
    assert not one.exception and not one.error and "Shown: " in said(one)
    many = site.open(SCRIPT, dataset="digits", model="resnet18", within=view, who="msg/corrected")
    assert not many.exception and not many.error
    assert ("of 100 classes" in said(many)) == (view != "Embedding")


@pytest.mark.parametrize("view", ["Classes", "Confusions", "Embedding"])
def test_models_from_before_say_how_to_record_it(view: str, site: SimpleNamespace, within: Shipped) -> None:
    site.ship(within)
    app = site.open(SCRIPT, dataset="digits", model="resnet18_cifar", within=view)
    assert not app.exception and drawn(app) == 1 + 4
    assert "Not recorded for these models" in said(app) and "LETHE_HOME=DIR python -m engine study run data/studies/old.yaml --fresh" in said(app)
