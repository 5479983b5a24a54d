"""Charts are mappings: they hold against the grammar's own schema, show what they are given, and their names do not collide."""

import re
from typing import Any

import altair as alt
import pytest
from duckdb import DuckDBPyConnection

from engine.store import queries
from pages.ui import charts, export, labels, table, theme
from pages.ui.formats import Rows
from tests.pages import synthetic
from tests.pages.conftest import Shipped

LOOKS = theme.looks(synthetic.catalogue()["methods"])


@pytest.fixture
def rows(db: DuckDBPyConnection, full: Shipped) -> Rows:
    return queries.results(db, study=full.studies["embedded"]).to_dict("records")


def marks(spec: charts.Spec, kind: str) -> list[dict[str, Any]]:
    return [layer for layer in spec["layer"] if layer["mark"]["type"] == kind]


@pytest.mark.parametrize("style", [theme.LIGHT, theme.DARK, theme.PAPER])
def test_charts_are_valid(rows: Rows, style: theme.Style) -> None:
    panels = [charts.tradeoff(rows, LOOKS, style, x=x, picked="msg/corrected") for x in ("balanced_accuracy", "rte")]
    panels += [charts.ranking(rows, LOOKS, style, "balanced_accuracy", beside="mia_test", heading="Privacy"), charts.ranking(rows, LOOKS, style, "rte"),
               charts.strip({"MSG": ("#9467bd", [0.96, 0.97]), "Retrained": ("#6b7280", [0.98])}, style, "test_accuracy", mine=0.95),
               charts.curves([{"epoch": 0, "name": "loss", "value": 1.0}, {"epoch": 1, "name": "loss", "value": 0.5}], style)]
    for panel in panels:
        alt.Chart.from_dict(charts.dressed(panel, style), validate=True)
    alt.Chart.from_dict(charts.dressed(charts.beside(panels[:2]), style), validate=True)


def test_tradeoff_shows_every_method_and_retraining(rows: Rows) -> None:
    spec = charts.tradeoff(rows, LOOKS, theme.LIGHT, x="balanced_accuracy")
    assert {p["name"] for p in spec["data"]["values"]} == {"Original", "CT", "FT", "GA", "MSG", "NG+", "SRL"}
    assert len(marks(spec, "rect")) == 1  # the interval of the retrained models
    (point,) = marks(spec, "point")
    assert point["params"][0]["name"] == charts.PICK and point["params"][0]["select"]["fields"] == ["key"]
    low, high = point["encoding"]["x"]["scale"]["domain"]
    assert low < 0.489 and low < 0.5 and high > 0.674  # all intervals, and chance
    low, high = point["encoding"]["y"]["scale"]["domain"]
    assert low < 0.95 and high > 1.0


def test_speed_is_on_a_log_scale_with_round_ticks(rows: Rows) -> None:
    x = marks(charts.tradeoff(rows, LOOKS, theme.LIGHT, x="rte"), "point")[0]["encoding"]["x"]
    assert x["scale"]["type"] == "log" and x["axis"]["values"] == [1, 3, 10, 30]
    assert x["axis"]["title"] == "Speed-up over retraining (higher is better)"


def test_colour_is_family_and_shape_tells_within(rows: Rows) -> None:
    points = {p["name"]: p for p in charts.points(rows, LOOKS, "balanced_accuracy", "test_retention")}
    assert points["CT"]["colour"] == points["FT"]["colour"] != points["GA"]["colour"] == points["SRL"]["colour"]
    assert points["CT"]["shape"] != points["FT"]["shape"]
    assert {p["colour"] for p in points.values()} <= {colour for _, colour in theme.FAMILIES.values()}


def test_looks_do_not_change_with_the_filter() -> None:
    assert theme.look(LOOKS, "msg") == theme.looks(synthetic.catalogue()["methods"])["msg"]
    assert theme.look(LOOKS, "gone").label == "gone"


def test_ranking_is_best_first_and_original_last(rows: Rows) -> None:
    names = [p["name"] for p in charts.ranking(rows, LOOKS, theme.LIGHT, "balanced_accuracy")["data"]["values"]]
    assert names == ["MSG", "CT", "NG+", "SRL", "FT", "GA", "Original"]
    assert charts.ranking(rows, LOOKS, theme.LIGHT, "rte")["data"]["values"][0]["name"] == "GA"


def test_one_seed_and_no_attack(db: DuckDBPyConnection, full: Shipped) -> None:
    """No intervals: the point alone. No metric: no point."""
    row = {**queries.results(db, study=full.studies["embedded"]).to_dict("records")[0]}
    bare = {k: (float("nan") if k.endswith(("_lo", "_hi")) or k == "rte" else v) for k, v in row.items()}
    (point,) = charts.points([bare], LOOKS, "balanced_accuracy", "test_retention")
    assert point["x"] == point["x_lo"] == point["x_hi"]
    assert charts.points([bare], LOOKS, "rte", "test_retention") == []
    alt.Chart.from_dict(charts.tradeoff([bare], LOOKS, theme.LIGHT, x="balanced_accuracy"), validate=True)


def test_names_do_not_overlap() -> None:
    """Eighteen crowded points: every name is inside, and runs into no other name and no point."""
    points = [(60 + 14 * (i % 6), 100 + 11 * (i // 6)) for i in range(18)]
    texts = [f"M{i}+" for i in range(18)]
    spots = labels.place(points, texts, width=340, height=300, font=12, radius=5)
    boxes = []
    for (x, y), text, spot in zip(points, texts, spots, strict=True):
        wide, high = labels.text_width(text, 12), 1.15 * 12
        left = x + spot.dx - {"left": 0, "right": wide, "center": wide / 2}[spot.align]
        top = y + spot.dy - {"top": 0, "bottom": high, "middle": high / 2}[spot.baseline]
        boxes.append((left, top, left + wide, top + high))
        assert left >= 0 and left + wide <= 340 and top >= 0 and top + high <= 300
    clashes = [(a, b) for i, a in enumerate(boxes) for b in boxes[i + 1:] if labels._overlap(a, b) > 0]
    assert not clashes


def test_names_of_points_on_top_of_each_other_are_not_swapped() -> None:
    upper, lower = labels.place([(100, 100), (100, 104)], ["FT", "CT"], width=300, height=200, font=12, radius=5)
    assert upper.dy < lower.dy


def test_a_lone_name_stands_right_of_its_point() -> None:
    (spot,) = labels.place([(100, 100)], ["FT"], width=300, height=200, font=12, radius=5)
    assert (spot.align, spot.baseline, spot.leader) == ("left", "middle", False)


@pytest.mark.parametrize(("width", "panels"), [("one column, 88 mm", 2), ("two columns, 180 mm", 2), ("one column, 88 mm", 1)])
def test_export_is_as_wide_as_asked(rows: Rows, width: str, panels: int) -> None:
    def build(style: theme.Style, panel: float, below: bool) -> charts.Spec:
        found = [charts.tradeoff(rows, LOOKS, style, x=x, size=(round(panel), round(panel))) for x in ("balanced_accuracy", "rte")]
        return charts.beside(found[:panels], below=below)

    millimetres = export.WIDTHS[width]
    svg = export.drawn(build, "SVG", millimetres, panels).decode()
    found = re.search(r'width="([\d.]+)mm"', svg)
    assert found and float(found[1]) == pytest.approx(millimetres, abs=0.6)
    assert 'fill="white"' in svg and "MSG" in svg
    assert min(float(size) for size in re.findall(r'font-size="([\d.]+)px"', svg)) >= 7  # points, as one px is one point here
    pdf = export.drawn(build, "PDF", millimetres, panels)
    assert pdf.startswith(b"%PDF") and b"LiberationSans" in pdf  # fonts are in it
    assert export.drawn(build, "PNG", millimetres, panels).startswith(b"\x89PNG")


def test_tables_as_files(rows: Rows) -> None:
    shown = table.texts(table.ordered(rows), LOOKS)
    assert list(shown["Method"]) == ["Retrained", "MSG", "CT", "NG+", "SRL", "FT", "GA", "Original"]
    latex = export.latex(shown)
    assert latex.count(r"\\") == 9 and r"99.1 $\pm$" in latex and r"\%" in latex and not re.search(r"[^\x00-\x7f]", latex)
    lines = export.markdown(shown).splitlines()
    assert len(lines) == 10 and {line.count("|") for line in lines} == {len(shown.columns) + 1}


def test_table_marks_the_best_and_what_cannot_be_told_from_it(rows: Rows) -> None:
    html = table.styled(table.ordered(rows), LOOKS).to_html()
    bold = set(re.findall(r"#T_\w+_row(\d+)_col1\b[^{]*\{[^}]*700", html)) | set(re.findall(r"_row(\d+)_col1[,\s]", html.partition("</style>")[0]))
    assert bold == {"1", "2"}  # U-LiRA: MSG, and CT whose interval reaches into MSG's; not the retrained models
    assert "0.514 ± 0.012" in html
