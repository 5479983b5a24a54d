"""Inside over stores with and without layers and relearning, and what is computed for it: who came nearer to the retrained model, in what."""

import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import altair as alt
import numpy as np
import pytest
from duckdb import DuckDBPyConnection
from scipy import stats
from streamlit.testing.v1 import AppTest

from engine.store import queries, reader, records
from pages.ui import charts, export, inside, theme
from pages.ui.inside import Evidence, Relearned
from tests.pages import synthetic
from tests.pages.conftest import Shipped, packed
from tests.pages.test_screens import said
from tests.pages.test_search import short

SCRIPT = "pages/inside.py"
LOOKS = theme.looks(synthetic.catalogue()["methods"])
METHODS = ("msg", "ft", "ga")
# what models are made to look like: JS on forget, relative weight distance, CKA of the last block, relearn epochs
LIKE = {"original": (0.030, 0.2, 0.80, 0), "msg": (0.010, 0.8, 0.90, 8), "ft": (0.090, 0.7, 0.60, 3), "ga": (0.030, 0.2, 0.80, 14),
        "retrained": (0, 0, 1, 8)}
CAP = 12


def measured(method: str, seed: int) -> dict[str, float]:
    """More of what is stored of a model; of retrained ones nothing, as the original's record has it."""
    rng = np.random.default_rng([seed, 3])
    js, weights, cka, epochs = LIKE[method]
    def relearn(epochs: float) -> dict[str, float]:
        taken = 0.0 if not epochs else epochs + seed % 2
        return {"relearn_epochs": min(taken, CAP), "relearn_reached": float(taken <= CAP)}
    looked = {"embedding_auc": {"original": 0.56, "retrained": 0.50, "msg": 0.51}.get(method, 0.56) + rng.normal(0, 0.002), "embedding_variance": 0.38}
    if method == "retrained":
        return looked
    moved = {"original": 0.0, "msg": 0.6}.get(method, 0.01)
    made = {f"moved_{part}": moved for part in ("live", "stem", "block1", "block2", "head")} | {"moved_dead": moved / 2} | looked
    made |= {"js_forget": js + rng.normal(0, 0.001), "js_test": js / 3, "activation_distance_forget": 3 * js, "agreement_forget": 1 - js,
            "agreement_test": 0.99, "zrf": 0.25 + js, "weight_distance": 15 * weights, "relative_weight_distance": weights + rng.normal(0, 0.01),
            **{f"cka_block{k}": 0.98 - k * (1 - cka) / 4 for k in range(1, 5)}, "cka_logits": cka, **relearn(epochs)}
    if method in ("msg", "ft"):
        made["live_share"] = 0.5
    behind = relearn(LIKE["retrained"][3]) | {"moved_live": 0.4, "moved_dead": 0.1, "moved_block1": 0.3}
    return made | ({f"retrained/{name}": value for name, value in behind.items()} if method == "original" else {})


def enriched(home: Path, more: Callable[[str, int], dict[str, float]], tables: Callable[[str, int], dict[str, list[records.Row]]] | None = None) -> Path:
    """A home whose models of protocol `seeds` have further metrics, and rows of further tables."""
    for folder in list((home / "runs").iterdir()):
        record = records.read(folder)
        (run,) = record.tables["runs"]
        if run["kind"] in ("original", "retrained", "unlearned"):
            shutil.rmtree(folder)
            added = [{"run_id": record.run_id, "name": name, "value": value} for name, value in more(run["method"], run["seed"]).items()]
            rows = {} if tables is None else tables(run["method"], run["seed"])
            further = {table: [{"run_id": record.run_id, **row} for row in of] for table, of in rows.items()}
            records.write(home, records.Record(record.run_id, {**record.tables, **further, "metrics": [*record.tables["metrics"], *added]}))
    return home


@pytest.fixture(scope="session")
def deep(tmp_path_factory: pytest.TempPathFactory) -> Shipped:
    """Eight seeds of three methods with everything that is measured of a model; and of one study the outputs alone."""
    home = tmp_path_factory.mktemp("deep")
    studies = {"deep": synthetic.study(home, name="deep", seeds=8, methods=METHODS, privacy=False)}
    enriched(home, measured)
    other = tmp_path_factory.mktemp("outputs")
    studies["outputs"] = synthetic.study(other, name="outputs", dataset="fashion_mnist", seeds=3, methods=METHODS, privacy=False)
    enriched(other, lambda method, seed: {name: value for name, value in measured(method, seed).items() if name.startswith(("js_", "zrf"))})
    for folder in (other / "runs").iterdir():
        shutil.copytree(folder, home / "runs" / folder.name)
    return packed(home, studies)


@pytest.fixture
def store(deep: Shipped, tmp_path: Path) -> Iterator[DuckDBPyConnection]:
    with reader.open_results(deep.file, tmp_path) as db:
        yield db


def evidence(db: DuckDBPyConnection, study: str) -> Evidence:
    results, runs, nearer = (question(db, study=study).to_dict("records") for question in (queries.results, queries.seed_runs, queries.nearer))
    return inside.evidence(results, runs, nearer, LOOKS)


# ---- the query


def test_nearer_is_paired_by_seed(store: DuckDBPyConnection, deep: Shipped) -> None:
    runs = queries.seed_runs(store, study=deep.studies["deep"]).to_dict("records")
    found = {(row["method"], row["metric"]): row for row in queries.nearer(store, study=deep.studies["deep"]).to_dict("records")}

    def values(method: str, metric: str) -> np.ndarray:
        return np.array([run[metric] for run in runs if run["method"] == method])

    def away(method: str, metric: str) -> np.ndarray:
        best = {"forget_accuracy": values("retrained", metric), "js_forget": 0.0, "cka_logits": 1.0}[metric]
        return np.abs(values(method, metric) - best)

    for method in METHODS:
        for metric in ("forget_accuracy", "js_forget", "cka_logits"):
            row, after, before = found[method, metric], away(method, metric), away("original", metric)
            gain = before - after
            assert (row["seeds"], row["before"], row["after"]) == (8, pytest.approx(before.mean()), pytest.approx(after.mean()))
            low, high = stats.t.interval(0.95, 7, gain.mean(), stats.sem(gain)) if gain.std() > 1e-9 else (gain.mean(), gain.mean())
            assert (row["gain"], row["gain_lo"], row["gain_hi"]) == pytest.approx((gain.mean(), low, high), rel=1e-3, abs=1e-9)


def test_what_retrained_models_lack_has_no_distance(store: DuckDBPyConnection, deep: Shipped) -> None:
    names = set(queries.nearer(store, study=deep.studies["deep"])["metric"])
    assert "zrf" not in names and {"relearn_epochs", "weight_distance", "cka_block4", "agreement_test", "val_accuracy"} <= names


def test_seed_runs_have_relearn_times_of_retrained_models(store: DuckDBPyConnection, deep: Shipped) -> None:
    runs = queries.seed_runs(store, study=deep.studies["deep"])
    assert list(runs.loc[runs["method"] == "retrained", "relearn_epochs"]) == [8, 9] * 4


# ---- what is computed


def test_verdicts() -> None:
    nan = float("nan")
    told = {(0.1, 0.3): "nearer", (-0.3, -0.1): "further", (-0.1, 0.1): "", (0.0, 0.0): "", (nan, nan): ""}
    assert {ends: inside.verdict({"gain_lo": ends[0], "gain_hi": ends[1]}) for ends in told} == told and inside.verdict(None) == ""


def test_relearning_counts_signs_and_knows_the_cap(store: DuckDBPyConnection, deep: Shipped) -> None:
    again = evidence(store, deep.studies["deep"]).again
    original, retrained, msg, ft, ga = (again[name, "corrected"] for name in ("original", "retrained", "msg", "ft", "ga"))
    assert (original.middle, retrained.middle, retrained.told) == ((0.0, False), (8.5, False), "8.5 (8 to 9)")
    assert (msg.sooner, msg.later, msg.verdict) == (0, 0, "") and (ft.sooner, ft.verdict) == (8, "sooner")
    assert (ga.middle, ga.told, ga.verdict) == ((12.0, True), "at least 12", "later")


@pytest.mark.parametrize(("sooner", "later", "said"), [(8, 0, "sooner"), (0, 6, "later"), (5, 0, ""), (7, 1, ""), (9, 1, "sooner"), (0, 0, ""),
                                                       (4, 4, "")])
def test_signs_must_be_more_than_chance(sooner: int, later: int, said: str) -> None:
    """Two-sided: 5 of 5 is 1/16, 6 of 6 is 1/32, 7 of 8 is 0.07, 9 of 10 is 0.021."""
    assert Relearned((1.0,), (False,), sooner, later).verdict == said


def test_two_that_never_got_there_are_equal() -> None:
    run = {"variant": "corrected", "seed": 0, "split": None, "relearn_epochs": 12.0, "relearn_reached": 0.0}
    again = inside.relearned([{**run, "method": "retrained"}, {**run, "method": "ft"}, {**run, "method": "ga", "relearn_reached": 1.0}])
    assert (again["ft", "corrected"].sooner, again["ft", "corrected"].later) == (0, 0)
    assert (again["ga", "corrected"].sooner, again["ga", "corrected"].later) == (1, 0)  # at the cap, and there


def test_the_answer(store: DuckDBPyConnection, deep: Shipped) -> None:
    of = evidence(store, deep.studies["deep"])
    said = inside.answer(of)
    assert said.startswith("**Unlearning brought what models say of the forget set nearer to retrained models for 1 of 3 methods** (nearest: MSG, "
                           "0.010 nats away, the original 0.030), and took it further away for 1;")
    assert "In weights none came nearer and 2 went further away." in said
    assert "In how the last layer arranges test images 1 came nearer and 1 went further away." in said
    assert "1 of 3 methods can learn the forget set again sooner than retrained models (FT): something was left behind; 1 need" in said


def test_the_answer_without_layers_or_outputs(store: DuckDBPyConnection, deep: Shipped, full: Shipped, tmp_path: Path) -> None:
    of = evidence(store, deep.studies["outputs"])
    said = inside.answer(of)
    assert "what models say" in said and "weights" not in said and "sooner" not in said
    with reader.open_results(full.file, tmp_path) as db:
        of = evidence(db, full.studies["embedded"])
    assert "accuracy on the forget set nearer" in inside.answer(of)
    assert inside.answer(replace(of, rows=of.rows[:1])).startswith("No method is finished")
    assert "cannot be said yet" in inside.answer(replace(of, near={}))


def test_order_is_by_nearness_between_the_references(store: DuckDBPyConnection, deep: Shipped) -> None:
    assert [row["method"] for row in evidence(store, deep.studies["deep"]).rows] == ["retrained", "msg", "ga", "ft", "original"]


def test_tables(store: DuckDBPyConnection, deep: Shipped) -> None:
    of = evidence(store, deep.studies["deep"])
    shown = inside.table(of).set_index("Method")
    assert shown.loc["MSG", "JS (forget) ↓"].endswith(" +") and shown.loc["FT", "JS (forget) ↓"].endswith(" −")
    assert shown.loc["GA", "Relearn"] == "≥ 12 −" and shown.loc["Retrained", "Relearn"] == "8.5"
    assert shown.loc["Retrained", "JS (forget) ↓"] == "–"
    full = inside.full(of)
    row = full[(full["method"] == "msg") & (full["metric"] == "js_forget")].iloc[0]
    assert row["gain_lo"] > 0 and row["value_lo"] < row["value"] < row["value_hi"] and row["before"] == pytest.approx(0.03, abs=0.002)


# ---- charts


@pytest.mark.parametrize("style", [theme.LIGHT, theme.PAPER])
def test_charts_are_valid(store: DuckDBPyConnection, deep: Shipped, style: theme.Style) -> None:
    of = evidence(store, deep.studies["deep"])
    parts = of.parts
    assert list(parts) == list(inside.PARTS)
    panels = [inside.matrix(of, style, parts=parts, picked="msg/corrected"),
              inside.profile(of, parts["Layers"], style, picked="ft/corrected"), inside.profile(of, of.moved, style, picked="msg/corrected"),
              *(inside.panel(of, metric, style, picked="ft/corrected", heading="x")
                for metric in ("forget_accuracy", "js_forget", "relearn_epochs"))]
    for panel in panels:
        alt.Chart.from_dict(charts.dressed(short(panel), style), validate=True)


def test_colour_says_nearer_or_further_and_so_does_the_sign(store: DuckDBPyConnection, deep: Shipped) -> None:
    of = evidence(store, deep.studies["deep"])
    spec = inside.matrix(of, theme.LIGHT, parts=of.parts)
    cells = {(cell["name"], cell["column"]): cell for cell in spec["data"]["values"]}
    nearer, further, equal = (cells[name, "JS · forget"] for name in ("MSG", "FT", "GA"))
    assert nearer["fill"] == theme.LIGHT.accent != further["fill"] and nearer["text"].endswith("+") and further["text"].endswith("−")
    assert equal["shade"] == 0 and equal["text"][-1].isdigit() and "cannot be told apart" in equal["told"]
    assert cells["GA", "Epochs"]["text"] == "≥ 12 −" and cells["FT", "Epochs"]["told"].endswith("epochs, sooner than retrained models")
    assert cells["Original", "JS · forget"]["shade"] == 0


def test_capped_models_are_hollow_at_the_cap(store: DuckDBPyConnection, deep: Shipped) -> None:
    of = evidence(store, deep.studies["deep"])
    spec = inside.panel(of, "relearn_epochs", theme.LIGHT)
    entries = {entry["name"]: entry for entry in spec["data"]["values"]}
    assert entries["GA"]["capped"] and not entries["FT"]["capped"]
    assert [entries["FT"][end] for end in ("x", "x_lo", "x_hi")] == [3.5, 3, 4]
    lines = [layer["data"]["values"] for layer in spec["layer"] if layer["mark"]["type"] == "rule" and "data" in layer]
    assert lines == [[{"x": 8.5}], [{"x": 0.0}]]  # retrained, original
    seeds = next(layer["data"]["values"] for layer in spec["layer"] if layer["mark"]["type"] == "point" and "data" in layer)
    assert len(seeds) == 24 and sum(seed["capped"] for seed in seeds) == 8


def test_what_moved_is_held_against_the_retrained_model_part_by_part(store: DuckDBPyConnection, deep: Shipped) -> None:
    of = evidence(store, deep.studies["deep"])
    assert of.moved == ["moved_stem", "moved_block1", "moved_block2", "moved_head"]
    points = inside.profile(of, of.moved, theme.LIGHT)["data"]["values"]
    assert {(point["name"], point["layer"]): round(point["x"], 2) for point in points if point["name"] in ("MSG", "Retrained")} == {
        ("Retrained", "block 1"): 0.3, **{("MSG", part): 0.6 for part in ("stem", "block 1", "block 2", "head")}}
    assert "Original" not in {point["name"] for point in points}
    live = inside.panel(of, "moved_live", theme.LIGHT)
    rules = [layer for layer in live["layer"] if layer["mark"]["type"] == "rule"]
    assert rules[0]["data"]["values"] == [{"x": pytest.approx(0.4)}] and rules[1]["data"]["values"] == [{"x": 0.0}]


def test_nearness_to_class_centres_is_judged_against_retrained(store: DuckDBPyConnection, deep: Shipped) -> None:
    of = evidence(store, deep.studies["deep"])
    assert inside.verdict(of.near["msg", "corrected", "embedding_auc"]) == "nearer" and of.near["msg", "corrected", "embedding_auc"]["before"] > 0.05


def test_accuracies_have_no_line_where_there_is_no_retrained_model(store: DuckDBPyConnection, deep: Shipped) -> None:
    of = evidence(store, deep.studies["deep"])
    of = replace(of, rows=[row for row in of.rows if row["method"] != "retrained"])
    for metric, lines in (("forget_accuracy", []), ("js_forget", [{"x": 0.0}]), ("cka_logits", [{"x": 1.0}])):
        rules = [layer for layer in inside.panel(of, metric, theme.LIGHT)["layer"] if layer["mark"]["type"] == "rule"]
        assert rules[0]["data"]["values"] == lines


def test_the_matrix_exports(store: DuckDBPyConnection, deep: Shipped) -> None:
    of = evidence(store, deep.studies["deep"])
    def build(style: theme.Style, width: float, below: bool) -> charts.Spec:
        return inside.matrix(of, style, parts=of.parts, width=round(width))

    assert b"MSG" in export.drawn(build, "SVG", 180, 1)


# ---- the page


def drawn(app: AppTest) -> int:
    return len(app.get("arrow_vega_lite_chart") or app.get("vega_lite_chart"))


@pytest.mark.parametrize(("part", "figures"), [("Accuracy", 4), ("Outputs", 6), ("Layers", 6), ("Features", 1), ("Weights", 5), ("Relearning", 1)])
def test_every_part(part: str, figures: int, site: SimpleNamespace, deep: Shipped) -> None:
    site.ship(deep)
    app = site.open(SCRIPT, dataset="digits", part=part, who="ft/corrected")
    assert not app.exception and not app.error and drawn(app) == 1 + figures
    assert app.segmented_control(key="part@inside").value == part and app.selectbox(key="who@inside").value == "ft/corrected"
    assert (app.query_params["part"], app.query_params["who"]) == (part, "ft/corrected")
    assert "can influence an output at this image size: MSG 50.0" in said(app)


def test_only_what_is_measured_is_offered(site: SimpleNamespace, deep: Shipped) -> None:
    site.ship(deep)
    app = site.open(SCRIPT, dataset="fashion_mnist", part="Layers", who="nobody")
    assert not app.exception and app.segmented_control(key="part@inside").options == ["Accuracy", "Outputs"]
    assert app.query_params["part"] == "Accuracy" and app.selectbox(key="who@inside").value == ""
    assert "CKA" not in said(app) and "Relearning" not in said(app)


def test_a_store_from_before_these_measures(site: SimpleNamespace, full: Shipped) -> None:
    site.ship(full)
    app = site.open(SCRIPT)
    assert not app.exception and drawn(app) == 1 + 4 and "accuracy on the forget set" in said(app)


def test_methods_can_be_chosen(site: SimpleNamespace, deep: Shipped) -> None:
    site.ship(deep)
    app = site.open(SCRIPT, dataset="digits", methods=["ft"])
    assert not app.exception and "no method" in said(app) and app.selectbox(key="who@inside").options == ["No method", "FT"]
