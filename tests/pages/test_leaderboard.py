"""Leaderboard over one cell and over six: its answer, groups, ranks, weights and diagrams, and the same from the command line."""

import json
import re
from pathlib import Path
from types import SimpleNamespace

import altair as alt
import pandas as pd
import pytest
from streamlit.testing.v1 import AppTest

from engine.cli import main
from engine.store import queries, ranks, reader, standings
from pages.ui import charts, export, findings, formats, table, theme
from tests.pages import synthetic
from tests.pages.conftest import Shipped, packed
from tests.pages.test_screens import said

LOOKS = theme.looks(synthetic.catalogue()["methods"])
SCRIPT = "pages/leaderboard.py"
PLACES = [(dataset, model) for dataset in ("digits", "fashion_mnist") for model in ("cnn", "resnet18", "resnet18_cifar")]


@pytest.fixture(scope="module")
def six(tmp_path_factory: pytest.TempPathFactory) -> Shipped:
    """Six cells. MSG is as retraining in all of them, CT in the first; GA fails in the third; only the first is attacked."""
    home = tmp_path_factory.mktemp("six")
    studies = {f"study-{at}": synthetic.study(
        home, name=f"study-{at}", dataset=dataset, model=model, seeds=8, methods=("msg", "ct", "ga"), privacy=at == 0, diverged=("ga",) if at == 2 else (),
        like_retrained=("msg", "ct") if at == 0 else ("msg",)) for at, (dataset, model) in enumerate(PLACES)}
    return packed(home, studies)


@pytest.fixture(scope="module")
def cells(six: Shipped, tmp_path_factory: pytest.TempPathFactory) -> list[standings.Cell]:
    with reader.open_results(six.file, tmp_path_factory.mktemp("none")) as db:
        return [standings.cell(study, *(ask(db, study=study["study"]) for ask in standings.EVIDENCE))
                for study in standings.largest(queries.studies(db).to_dict("records"))]


def frame(app: AppTest, column: str) -> pd.DataFrame:
    """The table that has this column."""
    return next(element.value for element in app.dataframe if column in element.value)


def test_one_cell(site: SimpleNamespace, small: Shipped) -> None:
    """One seed: no groups, and it says so; no diagram, and why."""
    site.ship(small)
    text = said(site.open(SCRIPT))
    assert "In the only cell so far no method is within retraining noise" in text
    assert "No groups and no intervals: they need two or more seeds." in text and "two or more methods that are in every cell" in text


def test_two_cells_are_too_few_to_compare(site: SimpleNamespace, full: Shipped) -> None:
    site.ship(full)
    app = site.open(SCRIPT)
    assert "2 cells are too few" in said(app) and "average ranks would have to be 5.3 apart" in said(app)
    assert "**initialisation only: weights and data order vary, split and forget set do not**" in said(app)
    assert "No method is consistently good" in app.markdown[0].value
    assert list(frame(app, "Score ↓").columns[:5]) == ["Method", "Score ↓", "Privacy rank", "Accuracy rank", "Speed rank"]


def test_the_answer_and_every_part(site: SimpleNamespace, six: Shipped) -> None:
    site.ship(six)
    app = site.open(SCRIPT, dataset="digits", model="resnet18_cifar")
    text = said(app)
    assert not app.exception
    assert text.count("**MSG** is consistently good") == 1 and "in at least 80 % of the 6 cells and faster than retraining in all." in text
    assert "ResNet-18 and ResNet-18, 3×3 stem" in text  # both stems
    assert "In detail: Digits, ResNet-18, 3×3 stem" in text and "Failed: GA (seed 0 diverged: weights are not finite at the end)." in text
    assert "privacy by U-LiRA in 1 cell and Indiscernibility in 5 cells" in text
    assert text.count("ranks differ between methods (Friedman") == 2
    assert len(app.get("arrow_vega_lite_chart") or app.get("vega_lite_chart")) == 6  # groups, critical differences and seeds, by two metrics
    overall = frame(app, "Score ↓").set_index("Method")
    assert overall.index[0] == "MSG" and overall.loc["MSG", "Consistently good"] == "yes" and overall.loc["CT", "Within noise in both"] == "1 of 6 cells"
    detail = frame(app, "Ret. dev. ↓").set_index("Method")
    assert detail.loc["GA", "Group"] == "F" and detail.loc["MSG", "Group"] == "G1" and len(detail.loc["MSG", "Seeds"]) == 8
    assert len(detail.loc["GA", "Seeds"]) == 7  # one seed has no number


def test_weights_change_the_order_and_are_in_the_url(site: SimpleNamespace, six: Shipped) -> None:
    site.ship(six)
    app = site.open(SCRIPT, w_privacy="0", w_accuracy="0", w_speed="3")
    assert [slider.value for slider in app.slider] == [0, 0, 3]
    fastest = frame(app, "Score ↓")
    assert list(fastest["Score ↓"]) == list(fastest["Speed rank"])
    app.slider(key="w_privacy@leaderboard").set_value(2).run()
    app.slider(key="w_speed@leaderboard").set_value(0).run()
    assert app.query_params["w_privacy"] == "2" and app.query_params["w_speed"] == "0"
    private = frame(app, "Score ↓")
    assert list(private["Score ↓"]) == list(private["Privacy rank"]) == sorted(private["Privacy rank"])
    app.slider(key="w_privacy@leaderboard").set_value(0).run()
    assert not app.exception and "a weight above 0" in said(app)


def test_a_bad_weight_in_the_url_is_left_aside(site: SimpleNamespace, six: Shipped) -> None:
    site.ship(six)
    assert [slider.value for slider in site.open(SCRIPT, w_privacy="many", w_speed="99").slider] == [1, 1, 1]


def test_the_filter_hides_and_does_not_change_ranks(site: SimpleNamespace, six: Shipped) -> None:
    site.ship(six)
    before = frame(site.open(SCRIPT), "Score ↓").set_index("Method")["Accuracy rank"].to_dict()
    app = site.open(SCRIPT, methods=["ct"])
    after = frame(app, "Score ↓").set_index("Method")["Accuracy rank"].to_dict()
    assert after == {"CT": before["CT"]} and len(before) == 3
    assert "hidden, but count in ranks" in said(app)
    assert "None of the chosen methods is finished" in said(site.open(SCRIPT, methods=["ng_plus"]))


def test_downloads(site: SimpleNamespace, six: Shipped) -> None:
    site.ship(six)
    labels = [block.proto.popover.label for block in site.open(SCRIPT).get("popover")]
    assert labels.count("Export figure") == 3 and {"Export table", "Table: Retention Deviation", "Table: Indiscernibility"} <= set(labels)


@pytest.mark.parametrize("style", [theme.LIGHT, theme.DARK, theme.PAPER])
def test_charts_are_valid(cells: list[standings.Cell], style: theme.Style) -> None:
    tables = {f"{cell.dataset} · {cell.model}": cell.table("retention_deviation") for cell in cells}
    panels = [charts.grid(tables, ranks.common(cells), LOOKS, style, heading="Groups"),
              charts.critical(ranks.compared(cells, "retention_deviation"), LOOKS, style),
              charts.standing(next(cell for cell in cells if cell.failed).table("retention_deviation"), LOOKS, style, heading="Seeds"),
              charts.standing(cells[0].table("indiscernibility"), LOOKS, style)]
    for panel in panels:
        alt.Chart.from_dict(charts.dressed(panel, style), validate=True)
    svg = export.drawn(lambda paper, width, below: charts.beside(panels[:2], below=below), "SVG", 180.0, 2).decode()
    assert "MSG" in svg and "critical difference" in svg


def test_what_the_charts_show(cells: list[standings.Cell]) -> None:
    failing = next(cell for cell in cells if cell.failed)
    found = charts.standing(failing.table("retention_deviation"), LOOKS, theme.LIGHT)
    assert [row["label"] for row in found["data"]["values"]] == ["MSG · G1", "CT · G3", "GA · F"]
    grid = charts.grid({"a": failing.table("retention_deviation")}, ranks.common(cells), LOOKS, theme.LIGHT)
    assert {row["text"] for row in grid["data"]["values"]} == {"G1 · 1", "G3 · 2", "F · 3"}
    critical = charts.critical(ranks.compared(cells, "retention_deviation"), LOOKS, theme.LIGHT)
    assert [row["name"] for row in critical["data"]["values"]] == ["MSG", "CT", "GA"]


def test_a_method_without_any_number_is_drawn_as_such() -> None:
    lost = standings.Entry("ga", "corrected", *[float("nan")] * 3, rank=2, tied=False, group="F", why="crashed", values=(float("nan"),) * 3)
    kept = standings.Entry("ft", "corrected", 0.1, 0.05, 0.15, rank=1, tied=True, group="G1", why="", values=(0.1, 0.1, 0.1))
    spec = charts.standing(standings.Table("retention_deviation", (kept, lost), 3, 0.0, 0.2, ""), LOOKS, theme.LIGHT)
    (text,) = [layer for layer in spec["layer"] if layer["mark"]["type"] == "text"]
    assert [row["label"] for row in text["data"]["values"]] == ["GA · F"]
    assert "GA: rank 2, failed, no numbers" in charts.stood(lost, "retention_deviation", LOOKS)


def test_tables_as_files(cells: list[standings.Cell]) -> None:
    shown = table.standing_texts(cells[0].table("retention_deviation"), LOOKS)
    assert "Seeds" not in shown and set(shown["Method"]) == {"MSG", "CT", "GA"} and list(shown["Rank"]) == ["1.5", "1.5", "3"]
    assert not re.search(r"[^\x00-\x7f]", export.latex(shown)) and "nan" not in export.markdown(shown)
    overall = table.overall_texts(table.overall(ranks.scored(ranks.overall(cells), dict.fromkeys(ranks.GOALS, 1.0)), LOOKS))
    assert overall.loc[0, "Method"] == "MSG" and not re.search(r"[^\x00-\x7f]", export.latex(overall))


def test_the_answer_in_words(cells: list[standings.Cell]) -> None:
    rows = ranks.overall(cells)
    assert findings.leaderboard(cells, rows, LOOKS).endswith("U-LiRA, which looks at single examples, cannot tell it from retraining either.")
    assert "None was attacked with U-LiRA yet." in findings.leaderboard(cells[1:], ranks.overall(cells[1:]), LOOKS)
    assert findings.leaderboard(cells[:1], ranks.overall(cells[:1]), LOOKS).startswith("In the only cell so far **CT and MSG** are within")
    assert findings.leaderboard(cells, [row for row in rows if row.method == "ct"], LOOKS).endswith("CT comes nearest, in 1 of 6.")
    assert findings.leaderboard([], [], LOOKS) == "No method is finished in any cell yet, so there is nothing to rank."
    for found in (findings.leaderboard(cells, [row], LOOKS) for row in rows):
        assert "nan" not in found and formats.MISSING not in found


def test_u_lira_may_find_out_what_the_cheap_attack_calls_good(full: Shipped, tmp_path: Path) -> None:
    home = tmp_path / "leaky"
    synthetic.study(home, methods=("msg", "ct"), like_retrained=("msg",), shift=0.1)
    shipped = packed(home, {})
    with reader.open_results(shipped.file, tmp_path) as db:
        (study,) = queries.studies(db).to_dict("records")
        asked = [ask(db, study=study["study"]) for ask in standings.EVIDENCE]
    asked[0].loc[asked[0]["method"] == "retrained", ["balanced_accuracy", "balanced_accuracy_lo", "balanced_accuracy_hi"]] = [0.5, 0.49, 0.51]
    cell = standings.cell(study, *asked)
    assert "But U-LiRA, which looks at single examples, finds out MSG." in findings.leaderboard([cell], ranks.overall([cell]), LOOKS)


# ---- the same from the command line


@pytest.fixture
def shown(six: Shipped, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LETHE_HOME", str(tmp_path / "home"))
    monkeypatch.setattr("engine.jobs.home.SHIPPED", six.file)


@pytest.mark.usefixtures("shown")
def test_leaderboard_of_one_cell(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["leaderboard", "--metric", "retention_deviation", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["dataset"], found["model"], found["metric"]) == ("digits", "cnn", "retention_deviation") and found["varies"].startswith("initialisation only")
    rows = {row["method"]: row for row in found["ranking"]}
    assert rows["msg"]["group"] == "G1" and rows["msg"]["rank"] == 1.5 and len(rows["msg"]["ci"]) == 2 and rows["msg"]["mean"] < found["noise_limit"]
    assert rows["ga"]["groups"] == {"retention_deviation": "G3", "indiscernibility": "G3"} and rows["retrained"]["rank"] is None
    assert rows["ga"]["balanced_accuracy"]["mean"] == pytest.approx(0.631)
    assert main(["leaderboard"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("| method | group | U-LiRA |") and {line.count("|") for line in lines[:1] + lines[2:]} == {12}
    assert "| ga | G3 |" in "\n".join(lines)


@pytest.mark.usefixtures("shown")
def test_leaderboard_of_all_cells(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["leaderboard", "--all", "--metric", "indiscernibility", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [(cell["dataset"], cell["model"]) for cell in found["cells"]] == sorted(PLACES) and found["reason"] == ""
    assert len(found["across"]["average_ranks"]) == 3 and found["across"]["critical_difference"] > 0
    assert {row["method"]: row["consistently_good"] for row in found["overall"]} == {"msg": True, "ct": False, "ga": False}
    failed = next(row for cell in found["cells"] for row in cell["ranking"] if row["failure"])
    assert (failed["method"], failed["group"], failed["rank"]) == ("ga", "F", 3) and "diverged" in failed["failure"]
    assert main(["leaderboard", "--all"]) == 0
    assert "consistently good over 6 cells: msg" in capsys.readouterr().out


@pytest.mark.usefixtures("shown")
def test_leaderboard_of_what_is_not_there(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["leaderboard", "--dataset", "cifar10"]) == 2
    assert "no study on cifar10/cnn is stored; there are: digits/cnn, digits/resnet18" in capsys.readouterr().err
