"""Consistency over one cell, two and five, one of which has another share and other splits beside it: what can be said, and what cannot."""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import altair as alt
import numpy as np
import pytest

from engine.store import queries, ranks, reader, standings
from engine.store.standings import Cell, Entry, Key, Table
from pages.ui import across, charts, consistency, export, formats, places, theme
from pages.ui.places import Place
from tests.pages import synthetic
from tests.pages.conftest import Shipped, packed
from tests.pages.test_screens import said

LOOKS = theme.looks(synthetic.catalogue()["methods"])
SCRIPT = "pages/consistency.py"
NAN = float("nan")
MSG, FT, GA = (("msg", "corrected"), ("ft", "corrected"), ("ga", "corrected"))
KEYS: list[Key] = [MSG, FT, GA]


def rewritten(home: Path, study: str, change: Callable[[dict[str, Any]], None]) -> None:
    """Change the row in `runs` of every record of a study."""
    for path in (home / "runs").glob("*/record.json"):
        body = json.loads(path.read_text(encoding="utf-8"))
        if (run := body["tables"]["runs"][0])["study"] == study:
            change(run)
            path.write_text(json.dumps(body), encoding="utf-8")


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Shipped:
    """Four cells of two datasets, in one of which FT is the best; GA diverged in one and the attack of one is in doubt. Digits with the CNN also
    with half as much to forget, and with seeds that each have a split of their own."""
    home, studies = tmp_path_factory.mktemp("many"), {}
    for at, (dataset, model) in enumerate((dataset, model) for dataset in ("digits", "fashion_mnist")
                                          for model in ("cnn", "resnet18")):
        studies[f"s{at}"] = synthetic.study(
            home, name=f"s{at}", title=f"Study {at}", dataset=dataset, model=model, seeds=6, methods=("msg", "ft", "ga"),
            like_retrained=("msg",) if at != 1 else ("ft",), diverged=("ga",) if at == 2 else (), calibrated="failed" if at == 3 else "passed")
    for name, share, split in (("half", 0.05, False), ("varied", 0.1, True)):
        studies[name] = synthetic.study(home, name=name, title=name, seeds=5, methods=("msg", "ft"), privacy=name == "half", timing=False)

        def change(run: dict[str, Any], share: float = share, split: bool = split) -> None:
            run["cell"] = json.dumps({**json.loads(run["cell"]), "data": {"forget_share": share}})
            run |= {"split": run["seed"]} if split and run.get("protocol") == "seeds" else {}

        rewritten(home, name, change)
    return packed(home, studies)


@pytest.fixture(scope="module")
def cells(many: Shipped, tmp_path_factory: pytest.TempPathFactory) -> list[Cell]:
    with reader.open_results(many.file, tmp_path_factory.mktemp("none")) as db:
        return [standings.cell(study, *(ask(db, study=study["study"]) for ask in standings.EVIDENCE))
                for study in standings.largest(queries.studies(db).to_dict("records"))]


def of(cells: list[Cell], metric: str, doubts: Mapping[str, str] | None = None) -> list[Place]:
    """As `places.places`, without a store. doubts: study -> why."""
    keys, known, why = [key for key in cells[0].keys if all(key in cell.keys for cell in cells)], synthetic.catalogue(), doubts or {}
    return [Place(cell, places.named(cell, known), places.by(cell, metric), places.by(cell, metric, keys), why.get(cell.study, ""),
                  dict.fromkeys(cell.means, why[cell.study]) if cell.study in why else {}) for cell in cells]


def table(*spans: tuple[Key, float, float, float, float], failed: Key | None = None) -> Table:
    """By Retention Deviation: (entry, mean, lo, hi, rank)."""
    best = min(span[4] for span in spans)
    entries = tuple(Entry(*key, mean, lo, hi, rank=rank, tied=rank == best, group="F" if key == failed else None, why="")
                    for key, mean, lo, hi, rank in spans)
    return Table("retention_deviation", entries, 8, 0.0, 0.01, "")


# ---- the order of methods


def test_pairs_are_kept_or_turned() -> None:
    here = table((MSG, 0.01, 0.005, 0.015, 1), (FT, 0.05, 0.04, 0.06, 2), (GA, 0.09, 0.08, 0.10, 3))
    there = table((FT, 0.01, 0.005, 0.015, 1), (MSG, 0.05, 0.04, 0.06, 2), (GA, 0.09, 0.08, 0.10, 3))
    assert ranks.order([here, here], KEYS) == ranks.Order(((MSG, FT), (MSG, GA), (FT, GA)), (), 0, 3)
    found = ranks.order([here, there], KEYS)
    assert found.turned == ((MSG, FT),) and found.kept == ((MSG, GA), (FT, GA)) and found.once == 0
    assert ranks.order([here, here, there], KEYS).turned == ((MSG, FT),)  # the side that most cells take is named first
    assert ranks.order([there, there, here], KEYS).turned == ((FT, MSG),)


def test_what_shares_a_rank_or_touches_is_not_told_apart() -> None:
    apart = table((MSG, 0.01, 0.005, 0.015, 1), (FT, 0.05, 0.04, 0.06, 2))
    shared = table((MSG, 0.01, 0.005, 0.015, 1.5), (FT, 0.05, 0.04, 0.06, 1.5))
    touching = table((MSG, 0.01, 0.005, 0.045, 1), (FT, 0.05, 0.04, 0.06, 2))
    unknown = table((MSG, 0.01, NAN, NAN, 1), (FT, 0.05, NAN, NAN, 2))
    for other in (shared, touching, unknown):
        assert ranks.order([apart, other], KEYS[:2]) == ranks.Order((), (), 1, 1)


def test_a_failure_comes_after_all_that_did_not_fail() -> None:
    lost = table((FT, 0.05, NAN, NAN, 1), (MSG, NAN, NAN, NAN, 2), failed=MSG)
    assert ranks.order([lost, lost], KEYS[:2]).kept == ()  # a single seed has no interval: nothing is told apart from it but a failure
    fine = table((FT, 0.05, 0.04, 0.06, 1), (MSG, NAN, NAN, NAN, 2), failed=MSG)
    assert ranks.order([fine, fine], KEYS[:2]).kept == ((FT, MSG),)


def test_the_answer_is_silent_where_it_must_be(cells: list[Cell]) -> None:
    found = of(cells, "retention_deviation")
    assert consistency.answer([], "retention_deviation", LOOKS).startswith("No cell has Retention Deviation yet")
    assert "Whether anything holds elsewhere cannot be said" in consistency.answer(found[:1], "retention_deviation", LOOKS)
    doubts = {cell.study: "the attack failed a check" for cell in cells}
    doubtful = of(cells, "balanced_accuracy", doubts)
    assert "No cell has U-LiRA balanced accuracy that may be believed" in consistency.answer(doubtful, "balanced_accuracy", LOOKS)
    alone = [replace(place, common=replace(place.common, entries=place.common.entries[:1])) for place in found]
    assert "only one method is in all of them" in consistency.answer(alone, "retention_deviation", LOOKS)
    blunt = [replace(place, common=table((MSG, 0.01, 0.005, 0.02, 1.5), (FT, 0.02, 0.01, 0.03, 1.5))) for place in found[:2]]
    said = consistency.answer(blunt, "retention_deviation", LOOKS)
    assert "nothing contradicts an order, and nothing confirms one" in said and "no two methods can be told apart." in said


def test_the_answer_names_what_turns_round(cells: list[Cell]) -> None:
    here = table((MSG, 0.01, 0.005, 0.015, 1), (FT, 0.05, 0.04, 0.06, 2), (GA, 0.09, 0.08, 0.10, 3))
    there = table((FT, 0.01, 0.005, 0.015, 1), (MSG, 0.05, 0.04, 0.06, 2), (GA, 0.09, 0.08, 0.10, 3))
    found = [replace(place, common=one) for place, one in zip(of(cells, "retention_deviation")[:2], (here, there), strict=True)]
    said = consistency.answer(found, "retention_deviation", LOOKS)
    assert "3 of 3 pairs of methods are told apart in both cells: **2 keep their order**, **1 turns round** (MSG against FT)." in said
    assert "No method is among the best in both: **MSG and FT** are in 1." in said
    same = [replace(place, common=here) for place in found]
    assert consistency.answer(same, "retention_deviation", LOOKS).endswith("**all keep their order**. **MSG** is among the best in both.")


def test_what_so_many_cells_can_show() -> None:
    """0.05 ** (1 / n): with that share of cells, n drawn at random would all hold once in twenty times."""
    assert "at least 22.4\u202f% of all" in consistency.reach(2) and "60.7\u202f%" in consistency.reach(6)


# ---- other shares, other splits


def test_wider_is_a_ratio_of_spreads(cells: list[Cell]) -> None:
    """Seeds pulled apart from their mean by three are three times as far apart; the interval holds that, and 1 where nothing was pulled."""
    fixed = next(cell for cell in cells if not cell.failed)

    def pulled(by: float) -> Cell:
        values = {key: {name: one.mean() + by * (one - one.mean()) for name, one in found.items()} for key, found in fixed.values.items()}
        return replace(fixed, values=values)

    ratio, lo, hi = ranks.wider(fixed, pulled(3.0), "test_accuracy", KEYS)
    assert ratio == pytest.approx(3.0) and lo < 3 < hi and lo > 1
    ratio, lo, hi = ranks.wider(fixed, fixed, "test_accuracy", KEYS)
    assert ratio == pytest.approx(1.0) and lo < 1 < hi
    assert ranks.wider(fixed, pulled(3.0), "test_accuracy", KEYS) == ranks.wider(fixed, pulled(3.0), "test_accuracy", KEYS)
    two = replace(fixed, seeds=fixed.seeds[:2], values={key: {name: one[:2] for name, one in found.items()} for key, found in fixed.values.items()})
    for other, keys in ((two, KEYS), (pulled(0.0), KEYS), (fixed, [("nobody", "corrected")])):
        assert np.isnan(ranks.wider(fixed, other, "test_accuracy", keys)).all()


def test_which_studies_vary_splits(many: Shipped, tmp_path: Path) -> None:
    with reader.open_results(many.file, tmp_path) as db:
        count = dict(queries.splits(db)[["study", "splits"]].itertuples(index=False, name=None))
    assert count[many.studies["varied"]] == 5 and max(count[study] for name, study in many.studies.items() if name != "varied") <= 1


def test_more_to_forget(cells: list[Cell]) -> None:
    small, usual = of([cell for cell in cells if (cell.dataset, cell.model) == ("digits", "cnn")], "balanced_accuracy")
    assert (small.cell.forget_share, usual.cell.forget_share) == (0.05, 0.1) and small.name == "Digits · small CNN · 5\u202f% forgotten"
    both = KEYS[:2]
    assert consistency.sizes([small, usual], "balanced_accuracy", both, LOOKS).endswith("forgotten, for 2 methods no change can be told.")
    worse = replace(usual, table=replace(usual.table, entries=tuple(replace(entry, mean=entry.mean + 0.2, lo=entry.lo + 0.2, hi=entry.hi + 0.2)
                                                                    if entry.key == FT else entry for entry in usual.table.entries)))
    assert "**FT** gets worse; for the other 1 method no change can be told." in consistency.sizes([worse, small], "balanced_accuracy", both, LOOKS)
    assert "No method has been run" in consistency.sizes([small, usual], "balanced_accuracy", [], LOOKS)


# ---- figures and tables


@pytest.mark.parametrize(("metric", "style"), [("retention_deviation", theme.LIGHT), ("rte", theme.DARK), ("balanced_accuracy", theme.PAPER)])
def test_figures_are_valid(cells: list[Cell], metric: str, style: theme.Style) -> None:
    found = of(cells, metric, {cells[0].study: "too few models"})
    marks = [across.mark(place, entry, LOOKS, style, "one", place.name) for place in found for entry in place.table.entries]
    made = [across.heat(found, KEYS, LOOKS, style, ranks=ranks, heading="H") for ranks in (True, False)]
    made += [across.dots(marks, ["one"], metric, style, groups=[place.name for place in found]),
             across.dots([replace(one, row=one.group, group="") for one in marks], [place.name for place in found], metric, style)]
    for spec in made:
        alt.Chart.from_dict(charts.dressed(spec, style), validate=True)
        assert all("nan" not in str(row["about"]) for row in spec["data"]["values"])


def test_many_cells_stay_readable(cells: list[Cell]) -> None:
    """Where an interval has no room it is left to the tooltip; where a name has none it is turned upright."""
    found = [replace(place, name=f"{place.name} · {at}") for at, place in enumerate(3 * of(cells, "retention_deviation"))]
    few, many = (across.heat(some, KEYS, LOOKS, theme.LIGHT, ranks=False, width=width) for some, width in ((found[:2], 420), (found, 700)))
    texts = [[layer for layer in spec["layer"] if layer["mark"]["type"] == "text"] for spec in (few, many)]
    assert [len(layers) for layers in texts] == [2, 1]
    angles = [spec["layer"][0]["encoding"]["x"]["axis"]["labelAngle"] for spec in (few, many)]
    assert angles == [0, -90] and all("95" not in row["text"] for row in many["data"]["values"])
    assert all(" to " in row["about"] for row in many["data"]["values"] if row["text"] not in ("failed", "0.000"))


def test_what_the_heat_map_shows(cells: list[Cell]) -> None:
    failing = next(cell for cell in cells if cell.failed)
    found = of([failing, *(cell for cell in cells if cell is not failing)], "balanced_accuracy", {failing.study: "too few models"})
    rows = across.heat(found, KEYS, LOOKS, theme.LIGHT, ranks=False, picked=MSG)["data"]["values"]
    mine = {row["name"]: row for row in rows if row["column"] == found[0].name}
    assert set(mine) == {"MSG", "FT", "GA", "Retrained", "Original"} and mine["GA"]["text"] == "failed"
    assert mine["MSG"]["shade"] == 0 and "not settled: too few models" in mine["MSG"]["about"] and mine["MSG"]["edge"] == theme.LIGHT.accent
    other = {row["name"]: row for row in rows if row["column"] == found[2].name}
    assert other["Retrained"]["shade"] > other["Original"]["shade"] and "rank" not in other["Retrained"]["about"]
    assert {row["name"] for row in across.heat(found, KEYS, LOOKS, theme.LIGHT, ranks=True)["data"]["values"]} <= {"MSG", "FT", "GA"}


def test_tables_as_files(cells: list[Cell]) -> None:
    found = of(cells, "retention_deviation")
    shown, full = consistency.texts(found, KEYS, LOOKS), consistency.frame(found)
    assert list(shown["Method"]) == ["MSG", "FT", "GA"]
    assert not re.search(r"[^\x00-\x7f]", export.latex(shown)) and "nan" not in export.markdown(shown)
    assert {"forget_share", "lo", "hi", "rank_in_common", "varies", "values"} <= set(full)
    assert len(full) == sum(len(place.table.entries) for place in found)
    svg = export.drawn(lambda style, width, below: across.heat(found, KEYS, LOOKS, style, ranks=False, width=round(width)), "SVG", 180.0, 1).decode()
    assert "MSG" in svg and "FashionMNIST" in svg


# ---- the page


def test_one_cell(site: SimpleNamespace, small: Shipped) -> None:
    site.ship(small)
    text = said(site.open(SCRIPT))
    assert "One cell has Retention Deviation so far: Digits, small CNN" in text and "A second cell comes with a study on other data" in text
    assert "There are no ranks to compare" in text and "has one share to forget with this metric so far: 10\u202f%" in text
    assert "it is not known how far the split matters" in text


def test_every_part(site: SimpleNamespace, many: Shipped) -> None:
    site.ship(many)
    app = site.open(SCRIPT, dataset="digits", model="cnn", study=many.studies["s0"])
    text = said(app)
    assert not app.exception and "in two or more of 5 cells" in text and "in at least 54.9\u202f% of all" in text
    assert "From 5\u202f% to 10\u202f% forgotten" in text and "Each share has its own study: 2 of 2 methods run with the same setting in all." in text
    assert "Where split and forget set vary too, seeds are spread" in text and "median over 2 methods" in text
    assert "Methods with the same setting in both studies; 1 other is left out." in text
    assert len(app.get("arrow_vega_lite_chart") or app.get("vega_lite_chart")) == 6
    labels = [block.proto.popover.label for block in app.get("popover")]
    assert labels.count("Export figure") == 4 and labels.count("Export table") == 3


def test_the_url_restores_it(site: SimpleNamespace, many: Shipped) -> None:
    site.ship(many)
    cells = f"{many.studies['s0']},{many.studies['s2']}"
    app = site.open(SCRIPT, c_metric="balanced_accuracy", c_cells=cells, c_method="ga/corrected", methods=["ga", "msg"])
    assert "U-LiRA balanced accuracy" in app.markdown[0].value and "told apart in both cells" in app.markdown[0].value
    assert app.selectbox(key="method@consistency").value == "ga/corrected" and app.query_params["c_cells"] == cells
    assert "Methods that are not chosen on the left are hidden, but count in ranks." in said(app)
    assert "over splits" in said(app)
    app.selectbox(key="metric@consistency").set_value("rte").run()
    assert app.query_params["c_metric"] == "rte" and "the range of repeated timings" in said(app)


def test_nonsense_in_the_url_is_left_aside(site: SimpleNamespace, many: Shipped) -> None:
    site.ship(many)
    app = site.open(SCRIPT, c_metric="beauty", c_cells="a,b", c_method="nobody/x")
    assert not app.exception and app.selectbox(key="metric@consistency").value == "retention_deviation"
    assert app.multiselect(key="cells@consistency").value == []
    assert "None of the chosen methods has Retention Deviation in these cells yet" in said(site.open(SCRIPT, methods=["ct"]))


def test_a_doubtful_cell_has_no_say(site: SimpleNamespace, many: Shipped) -> None:
    site.ship(many)
    app = site.open(SCRIPT, c_metric="balanced_accuracy")
    assert "FashionMNIST, ResNet-18 has no say: the attack failed a check" in app.markdown[0].value
    assert "**Without colour: not settled**" in said(app)


def test_half_filled(site: SimpleNamespace, full: Shipped) -> None:
    """A cell with failures, of which not every run is there."""
    site.ship(full)
    app = site.open(SCRIPT, dataset="fashion_mnist")
    assert not app.exception and "Partial." in said(app) and formats.MISSING not in app.markdown[0].value
