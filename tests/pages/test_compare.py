"""Compare: any two metrics and a third, the Pareto front and who may be on it, a box that keeps some, and two methods head to head."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import altair as alt
import duckdb
import pandas as pd
import pytest
from duckdb import DuckDBPyConnection

from engine.store import duels, queries
from engine.store.duels import Paired
from pages.ui import charts, duel, export, theme, tradeoffs
from pages.ui.duel import Duel, Estimate
from pages.ui.formats import Rows
from tests.pages import synthetic
from tests.pages.conftest import Shipped, packed
from tests.pages.test_charts import marks
from tests.pages.test_leaderboard import frame
from tests.pages.test_screens import said

LOOKS = theme.looks(synthetic.catalogue()["methods"])
SCRIPT = "pages/compare.py"
NAN = float("nan")


@pytest.fixture
def rows(db: DuckDBPyConnection, full: Shipped) -> Rows:
    return queries.results(db, study=full.studies["embedded"]).to_dict("records")


def row(method: str, **values: tuple[float, float, float] | float) -> dict[str, Any]:
    """metric -> (low, mean, high), or the mean alone."""
    found: dict[str, Any] = {"method": method, "variant": "corrected"}
    for metric, value in values.items():
        low, mean, high = value if isinstance(value, tuple) else (NAN, value, NAN)
        found |= {metric: mean, f"{metric}_lo": low, f"{metric}_hi": high}
    return found


def on(rows: Rows, x: str, y: str) -> tuple[list[str], list[str]]:
    found = tradeoffs.front(rows, x, y)
    assert found is not None
    return [key.split("/")[0] for key in found.on], sorted(key.split("/")[0] for key in found.may)


# ---- the Pareto front


def test_front_is_what_no_other_beats_in_both() -> None:
    """Nearest to one half across, the more the better upwards; the original counts for nothing."""
    there = [row("fast", balanced_accuracy=0.60, rte=50.0), row("both", balanced_accuracy=0.45, rte=20.0), row("safe", balanced_accuracy=0.51, rte=5.0),
             row("beaten", balanced_accuracy=0.44, rte=20.0), row("equal", balanced_accuracy=0.51, rte=5.0), row("none", balanced_accuracy=NAN, rte=90.0),
             row("original", balanced_accuracy=0.5, rte=99.0), row("retrained", balanced_accuracy=0.5, rte=99.0)]
    assert on(there, "balanced_accuracy", "rte") == (["equal", "safe", "both", "fast"], ["beaten"])  # as fast as the one that beats it
    assert on(there[:1], "balanced_accuracy", "rte") == (["fast"], []) and on([], "balanced_accuracy", "rte") == ([], [])


def test_may_be_on_the_front_unless_one_method_is_better_in_both_for_certain() -> None:
    best = row("best", test_retention=(0.97, 0.98, 0.99), unlearn_s=(1.0, 2.0, 3.0))
    near = row("near", test_retention=(0.95, 0.96, 0.975), unlearn_s=(4.0, 5.0, 6.0))      # its accuracy reaches into that of the best
    far = row("far", test_retention=(0.90, 0.91, 0.92), unlearn_s=(4.0, 5.0, 6.0))
    bare = row("bare", test_retention=0.98, unlearn_s=(4.0, 5.0, 6.0))                     # no interval: the mean stands for it
    assert on([best, near, far, bare], "unlearn_s", "test_retention") == (["best"], ["bare", "near"])
    assert on([far, near], "unlearn_s", "test_retention") == (["near"], ["far"])           # its time is not beaten


def test_front_by_what_retraining_has() -> None:
    there = [row("retrained", forget_accuracy=0.9, rte=1.0), row("under", forget_accuracy=0.85, rte=2.0), row("over", forget_accuracy=1.0, rte=9.0),
             row("worse", forget_accuracy=0.70, rte=2.0)]
    assert on(there, "forget_accuracy", "rte") == (["under", "over"], [])
    assert tradeoffs.front(there[1:], "forget_accuracy", "rte") is None  # what retraining has is not known
    assert tradeoffs.best("live_share", there) is None and tradeoffs.best("zrf", [row("retrained", zrf=0.7)]) == 0.7
    assert tradeoffs.best("shift", []) == 0 and tradeoffs.best("cka_logits", []) == float("inf") and tradeoffs.best("mia_val", []) == 0.5


def test_a_box_holds_what_is_in_it(rows: Rows) -> None:
    held = tradeoffs.inside(rows, "balanced_accuracy", "test_retention", {"x": [0.62, 0.50], "y": [0.985, 1.0]})
    assert set(held) == {"msg/corrected", "ct/corrected", "ng_plus/corrected", "ft/corrected"}  # and not the retrained models, which are a line
    assert tradeoffs.inside(rows, "balanced_accuracy", "test_retention", {}) == []
    assert tradeoffs.chosen("ft/corrected,gone/x,ft/corrected,ct/corrected", held) == ["ft/corrected", "ct/corrected"]


# ---- the figure


@pytest.mark.parametrize("style", [theme.LIGHT, theme.DARK, theme.PAPER])
@pytest.mark.parametrize(("x", "y", "area"), [("tpr_at_fpr_0.01", "forget_accuracy", None), ("rte", "retention_deviation", "unlearn_s"),
                                              ("image_passes", "mia_test", "test_accuracy"), ("shift", "unlearn_s", "shift")])
def test_any_metrics_make_a_valid_figure(rows: Rows, style: theme.Style, x: str, y: str, area: str | None) -> None:
    spec = charts.tradeoff(rows, LOOKS, style, x=x, y=y, area=area, picked="msg/corrected", brushed=["ft/corrected"], box=True)
    alt.Chart.from_dict(charts.dressed(spec, style), validate=True)
    (point,) = marks(spec, "point")
    for tip in point["encoding"]["tooltip"]:
        assert all(tip["field"] in p for p in spec["data"]["values"])  # a field with a dot in its name would be taken for a path
    assert ("size" in point["encoding"]) == (area is not None)


def test_the_front_is_a_line_and_who_may_be_on_it_has_a_question_mark(rows: Rows) -> None:
    spec = charts.tradeoff(rows, LOOKS, theme.LIGHT, x="balanced_accuracy")
    (line,) = marks(spec, "line")
    assert [p["name"] for p in line["data"]["values"]] == ["MSG", "FT"] and line["encoding"]["order"]["field"] == "place"
    shown = [layer for layer in marks(spec, "text") if layer["encoding"]["text"]["field"] == "label"][-1]["data"]["values"]
    assert {p["label"] for p in shown} == {"MSG", "FT", "CT ?", "NG+ ?", "GA", "SRL", "Original"}
    assert next(p["about"] for p in shown if p["name"] == "CT").endswith("; may be on the Pareto front")


def test_size_is_the_same_in_every_panel_and_has_a_legend(rows: Rows) -> None:
    one, other = (marks(charts.tradeoff(rows, LOOKS, theme.LIGHT, x=x, area="image_passes"), "point")[0]["encoding"]["size"]
                  for x in ("balanced_accuracy", "rte"))
    assert one == other and one["scale"]["type"] == "log" and one["legend"]["title"] == "Image passes (lower is better)"
    assert {p["name"] for p in charts.points(rows, LOOKS, "balanced_accuracy", "test_retention", "rte")} == {"CT", "FT", "GA", "MSG", "NG+", "SRL"}


def test_what_is_not_in_the_box_fades(rows: Rows) -> None:
    for style in (theme.LIGHT, theme.PAPER):
        spec = charts.tradeoff(rows, LOOKS, style, x="rte", brushed=["ft/corrected"])
        colours = {p["name"]: p["colour"] for p in spec["data"]["values"]}
        assert colours["FT"] == LOOKS["ft"].colour and colours["GA"] != LOOKS["ga"].colour and spec["data"]["values"][-1]["name"] == "FT"
        assert [param["name"] for param in marks(spec, "point")[0]["params"]] == [charts.PICK]  # no box on paper
    assert theme.mixed("#ff0000", "white", 0.25) == "#ffbfbf" and theme.mixed("#204060", "#204060", 0.5) == "#204060"


def test_the_same_view_gives_the_same_file(rows: Rows) -> None:
    def build(style: theme.Style, width: float, below: bool) -> charts.Spec:
        return charts.tradeoff(rows, LOOKS, style, x="rte", area="image_passes", brushed=["ft/corrected"], size=(round(width), 150))

    assert export.drawn(build, "PDF", 88.0, 1) == export.drawn(build, "PDF", 88.0, 1)


# ---- the page


def test_axes_are_chosen_and_in_the_address(site: SimpleNamespace, full: Shipped) -> None:
    site.ship(full)
    app = site.open(SCRIPT, dataset="digits", x="retention_deviation", y="forget_accuracy", area="rte")
    assert not app.exception and "Forget accuracy against Retention Deviation" in said(app)
    assert "Best is as near retraining as can be and to the left." in said(app) and "Not drawn, for want of Speed-up over retraining: Original." in said(app)
    assert len(app.get("arrow_vega_lite_chart") or app.get("vega_lite_chart")) == 2  # one panel, and the seeds
    app.selectbox(key="x@compare").set_value("shift").run()
    app.selectbox(key="y@compare").set_value("mia_test").run()
    assert (app.query_params["x"], app.query_params["y"], app.query_params["area"]) == ("shift", "mia_test", "rte") and not app.exception
    app.selectbox(key="x@compare").set_value("both").run()
    assert "Population attack accuracy against U-LiRA balanced accuracy" in said(app) and "Best is near ½ in both." in said(app)
    assert site.open(SCRIPT, dataset="digits", x="zrf", y="nothing").query_params["x"] == "both"  # not measured here


def test_a_box_keeps_some_and_all_come_back(site: SimpleNamespace, full: Shipped) -> None:
    site.ship(full)
    app = site.open(SCRIPT, dataset="digits", brush="ft/corrected,ga/corrected,gone/corrected", pick="msg/corrected")
    assert list(app.dataframe[0].value["Method"]) == ["FT", "GA"]
    assert "**2 of 8 shown**, those in the box: FT and GA." in said(app) and "MSG: the runs behind the point" in said(app)
    app.button(key="brush-clear").click().run()
    assert len(app.dataframe[0].value) == 8 and "brush" not in app.query_params and app.query_params["pick"] == "msg/corrected"
    assert "shown**" not in said(site.open(SCRIPT, dataset="digits", brush="gone/corrected"))


def test_head_to_head_begins_at_the_top_and_is_in_the_address(site: SimpleNamespace, full: Shipped) -> None:
    site.ship(full)
    app = site.open(SCRIPT, dataset="digits")
    assert app.query_params["duel"] == "msg,ct"
    assert "**MSG or CT?** No difference can be told in privacy (U-LiRA 0.514 against 0.529)" in said(app)
    app.selectbox(key="duel-0@compare").set_value("ga").run()
    assert app.query_params["duel"] == "ga,ct"
    app.selectbox(key="duel-1@compare").set_value("ga").run()
    assert app.query_params["duel"] == "ct,ga" and not app.exception  # nobody stands against itself
    text = said(app)
    assert ("**CT or GA?** It is a trade: **CT** is better in privacy (U-LiRA 0.529 against 0.631) and accuracy (test accuracy kept 98.8\u202f% against "
            "95.0\u202f%); **GA** is better in speed (46.0× against 14.0× as fast as retraining).") in text
    tested, single = app.dataframe[1].value, app.dataframe[2].value
    assert list(tested["Better"]) == ["CT", "CT", "CT", "GA", "CT"] and set(tested["Pairs"]) == {"10"}
    assert tested.loc[0, "CT better by"] == "+3.77 points (+3.60 to +3.95)"
    assert single.set_index("Metric").loc["Speed-up over retraining ↑", "Better"] == "GA" and "another rule than the paired tests" in text
    other = site.open(SCRIPT, dataset="digits", duel="srl,ft", duel_over="all", duel_metric="mia_test")
    assert "**SRL or FT?**" in said(other) and len(other.dataframe[1].value) == 10 and other.selectbox(key="duel_metric@compare").value == "mia_test"
    assert "below 0 FT is nearer" in said(other) and "for the 10 metrics shown" in said(other) and "initialisation only" in said(other)
    for bad in ("ft", "ft,ft", "ft,gone", "ft,ga,ct"):
        assert site.open(SCRIPT, dataset="digits", duel=bad).query_params["duel"] == "msg,ct"


def test_few_and_uneven_seeds_say_so(site: SimpleNamespace, full: Shipped) -> None:
    """Four seeds, of which GA lost one: only common ones are paired, and no test can tell anything."""
    site.ship(full)
    app = site.open(SCRIPT, dataset="fashion_mnist", duel="ft,ga")
    text = said(app)
    tested = frame(app, "Pairs")
    assert not app.exception and set(tested["Pairs"]) == {"3"} and set(tested["Better"]) == {"not told apart"}
    assert "Of 4 and 3 seeds these are in common" in text and "**no difference, however large, can be told here.**" in text
    assert "the smallest p that a paired test can give is 0.25" in text
    single = next(one.value for one in app.dataframe if "Better" in one.value and "Pairs" not in one.value)
    assert single["Better"].str.startswith("not settled: too few models").tolist() == [True, True, False, False]


def test_one_seed_no_attack_and_one_method(site: SimpleNamespace, small: Shipped, tmp_path_factory: pytest.TempPathFactory) -> None:
    site.ship(small)
    assert "It takes two methods" in said(site.open(SCRIPT))
    home = tmp_path_factory.mktemp("two")
    site.ship(packed(home, {"embedded": synthetic.study(home, seeds=1, methods=("ft", "ct"), privacy=False, timing=False)}))
    app = site.open(SCRIPT)
    text = said(app)
    assert not app.exception and "1 pair of models with the same seed" in text and "Neither attacks nor run times of both are there yet." in text
    assert "no difference can be told in privacy (indiscernibility" in text.lower() and "speed was not measured of both" in text
    assert text.count("Nothing to draw yet") == 2 and list(app.session_state[export.COLLECTED].figures) == ["lethe-compare-digits-cnn-duel"]


def test_two_variants_of_a_method_are_two_methods(site: SimpleNamespace, full: Shipped, tmp_path: Path) -> None:
    file, catalogue = tmp_path / "results.duckdb", json.loads(full.catalogue.read_text(encoding="utf-8"))
    shutil.copy(full.file, file)
    with duckdb.connect(str(file)) as db:
        for table in ("runs", "shown_runs"):
            db.execute(f"UPDATE {table} SET method = 'ft', variant = 'official' WHERE method = 'ct'")
    for method in catalogue["methods"]:
        method["variants"] = ["corrected", "official"] if method["name"] == "ft" else ["corrected"]
    (tmp_path / "catalogue.json").write_text(json.dumps(catalogue), encoding="utf-8")
    site.ship(Shipped(file, tmp_path / "catalogue.json", full.studies))
    app = site.open(SCRIPT, dataset="digits", variant="all", duel="ft,ft/official")
    assert not app.exception and app.query_params["duel"] == "ft,ft/official" and "**FT or FT (official)?**" in said(app)
    assert {"FT", "FT (official)", "FT better by"} <= set(app.dataframe[1].value.columns)


def test_an_empty_study_has_nothing_to_hold_against_anything(site: SimpleNamespace, full: Shipped) -> None:
    site.ship(full)
    app = site.open(SCRIPT, dataset="digits", methods=["cf_k", "msg"])
    assert not app.exception and "It takes two methods" in said(app)


# ---- words and figures of the head-to-head


def paired(metric: str, first: list[float], second: list[float], best: float) -> Paired:
    runs = [{"method": name, "variant": "corrected", "seed": seed, "split": None, metric: value}
            for name, values in (("ft", first), ("ga", second)) for seed, value in enumerate(values)]
    return duels.by_seed(runs, ("ft", "corrected"), ("ga", "corrected"), {metric: best})[0]


def held(pairs: list[Paired], single: list[Estimate]) -> Duel:
    return Duel((("ft", "corrected"), ("ga", "corrected")), ("FT", "GA"), pairs, pairs, single)


def test_the_answer_in_every_outcome() -> None:
    better = paired("test_retention", [0.99] * 8, [0.98] * 8, float("inf"))
    leaks = Estimate("balanced_accuracy", (0.49, 0.5, 0.51), (0.58, 0.6, 0.62), "first", "")
    speed = Estimate("rte", (4.0, 5.0, 6.0), (5.0, 6.0, 7.0), None, "")
    assert duel.answer(held([better], [leaks])) == ("**FT or GA?** **FT** is better in privacy (U-LiRA 0.500 against 0.600) and accuracy (test accuracy "
                                                    "kept 99.0\u202f% against 98.0\u202f%); speed was not measured of both.")
    doubted = Estimate("balanced_accuracy", leaks.first, leaks.second, None, "the attack was not checked here")
    assert duel.answer(held([], [doubted, speed])) == (
        "**FT or GA?** No difference can be told in privacy (U-LiRA 0.500 against 0.600, not settled: the attack was not checked here) and speed (5.0× "
        "against 6.0× as fast as retraining); accuracy was not measured of both.")
    assert duel.answer(held([], [])).endswith("Privacy, accuracy and speed were not measured of both.")


def test_few_pairs_with_many_metrics_could_tell_fewer() -> None:
    six = [paired(metric, [0.9] * 6, [0.8] * 6, float("inf")) for metric in ("test_accuracy", "retain_accuracy")]
    assert duel.told_at_best(held(six[:1], [])) == ""
    told = duel.told_at_best(held(six, []))
    assert "for 2 metrics together it would have to be 0.025 or less" in told and "main metrics alone" not in told
    assert "By the main metrics alone one could be." in duel.told_at_best(replace(held(six, []), main=six[:1]))


@pytest.mark.parametrize("style", [theme.LIGHT, theme.DARK, theme.PAPER])
def test_slopes(style: theme.Style) -> None:
    one = paired("mia_test", [0.52, 0.50, 0.55], [0.51, 0.56, 0.58], 0.5)
    spec = duel.slopes(one, held([one], []), LOOKS, style, 0.5)
    alt.Chart.from_dict(charts.dressed(spec, style), validate=True)
    (line,) = marks(spec, "line")
    assert [p["dash"] for p in line["data"]["values"][::2]] == [[4, 3], [1, 0], [1, 0]]  # one half is best: the second is nearer in seed 0
    assert len(marks(spec, "rule")) == 1 and not marks(duel.slopes(one, held([one], []), LOOKS, style, NAN), "rule")
    svg = export.drawn(lambda paper, width, below: duel.slopes(one, held([one], []), LOOKS, paper, 0.5, size=(round(width), 150)), "SVG", 88.0, 1).decode()
    assert "FT" in svg and "½ is best" in svg


def test_tables_of_the_duel(rows: Rows) -> None:
    one = paired("image_passes", [2000.0] * 6, [23000.0] * 6, 0.0)
    found = held([one], [Estimate("unlearn_s", (0.4, 0.5, 0.6), (1.0, 2.0, 3.0), "first", "")])
    assert duel.texts(found).loc[0, "FT better by"] == "+21\u202f000 (+21\u202f000 to +21\u202f000)" and duel.texts(found).loc[0, "Better"] == "FT"
    assert duel.single_texts(found).loc[0, "Better"] == "FT" and duel.single_frame(found).loc[0, "second_hi"] == 3.0
    full = duel.frame(found)
    assert full.loc[0, "p_holm"] == 1 / 32 and full.loc[0, "seeds"] == "0 1 2 3 4 5" and isinstance(full, pd.DataFrame)
    assert not any(ord(c) > 127 for c in export.latex(duel.texts(found)) + export.latex(duel.single_texts(found)))
