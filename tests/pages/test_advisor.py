"""Advisor: the rules of a verdict on numbers made by hand, and the page over a sound, a half-filled and a doubtful store."""

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import altair as alt
import numpy as np
import pytest
from streamlit.testing.v1 import AppTest

from engine.store import standings
from engine.store.standings import Cell, Key
from pages.ui import advisor, candidates, charts, export, formats, theme
from pages.ui.candidates import Candidate, Case, Evidence, Limits
from tests.pages import synthetic
from tests.pages.conftest import Shipped, packed
from tests.pages.test_screens import said

LOOKS = theme.looks(synthetic.catalogue()["methods"])
SCRIPT = "pages/advisor.py"
NAN = float("nan")
FT, MSG, RETRAINED = ("ft", "corrected"), ("msg", "corrected"), ("retrained", "corrected")
READS = {"ft": ("retain",), "msg": ("forget", "retain"), "ga": ("forget",)}
LIMITS = Limits(time=0.5, loss=0.01, exposure=0.02, against="u_lira", data=candidates.SPLITS)


def cell(lost: Mapping[Key, Sequence[float]], time: float = 0.2, failed: Mapping[Key, str] | None = None, waiting: Mapping[Key, int] | None = None,
         dataset: str = "digits") -> Cell:
    """One where retraining is right 95 % of the time; lost: what each method loses, one number a seed. Timed within a tenth of `time`."""
    seeds = tuple(range(len(next(iter(lost.values())))))
    values = {key: {"test_accuracy": 0.95 - np.array(one)} for key, one in lost.items()} | {RETRAINED: {"test_accuracy": np.full(len(seeds), 0.95)}}
    span: dict[str, Any] = {"unlearn_s": 10 * time, "unlearn_s_lo": 9 * time, "unlearn_s_hi": 11 * time, "retrain_s": 10.0, "retrain_s_lo": NAN,
                            "retrain_s_hi": NAN}
    return Cell(dataset, "cnn", 0.1, f"study-{dataset}", seeds, {key: {**span, "method": key[0]} for key in (*lost, RETRAINED)}, values, failed or {},
                waiting or {}, "initialisation only", np.zeros((3, 0)))


def case(name: str, lost: Sequence[float], exposed: tuple[float, float, float], key: Key = FT, why: str = "", **more: Any) -> Case:
    return Case(cell({key: lost}, **more), name, {key: Evidence(name, *exposed, why=why)})


def only(*cases: Case, limits: Limits = LIMITS) -> Candidate:
    """The one method of these."""
    (found,) = candidates.judged(cases, limits, READS)
    return found


SURE, LITTLE = [0.004, 0.005, 0.006, 0.005], (0.005, 0.0, 0.01)  # half a point lost, give or take little; hardly exposed


# ---- the rules


def test_the_upper_end_decides_not_the_mean() -> None:
    assert only(case("A", SURE, LITTLE)).status == "meets"
    wide = only(case("A", [-0.02, 0.03, -0.01, 0.02], LITTLE))  # half a point again, but nobody knows
    found = wide.findings["accuracy"]
    assert found.outcome == "missed" and found.worst and found.worst.value == pytest.approx(0.005) and wide.status == "almost"
    assert advisor.miss(wide).startswith("accuracy lost up to ") and advisor.miss(wide).endswith(" too much; the mean would do")
    assert only(case("A", SURE, (0.015, 0.01, 0.021))).findings["exposure"].outcome == "missed"
    assert only(case("A", SURE, LITTLE, time=0.46)).missed == ["time"]  # 0.46 on average, 0.506 at the slowest


def test_the_worst_cell_counts_and_is_named() -> None:
    found = only(case("Easy", SURE, LITTLE), case("Hard", SURE, (0.05, 0.045, 0.055), dataset="other"))
    assert found.status == "fails" and found.missed == ["exposure"] and "in Hard, 0.035 too much" in advisor.reasons(found)
    assert advisor.evidence(found, "exposure") == "0.050 (0.045 to 0.055), Hard"


def test_almost_is_one_constraint_by_little() -> None:
    assert only(case("A", SURE, (0.03, 0.02, 0.04))).status == "almost"
    assert only(case("A", SURE, (0.03, 0.02, 0.041))).status == "fails"
    two = only(case("A", [0.012, 0.013, 0.012, 0.013], (0.03, 0.02, 0.04)))
    assert two.status == "fails" and two.missed == ["accuracy", "exposure"]


def test_data_that_is_not_there() -> None:
    gone = Limits(0.5, 0.01, 0.02, "u_lira", ("retain",))
    assert only(case("A", SURE, LITTLE), limits=gone).status == "meets"
    msg = only(case("A", SURE, LITTLE, key=MSG), limits=gone)
    assert msg.status == "almost" and advisor.miss(msg) == "it reads forget"
    (stranger,) = candidates.judged([case("A", SURE, LITTLE, key=("mine", "corrected"))], LIMITS, READS)
    assert stranger.status == "unknown" and "not in the catalogue" in advisor.reasons(stranger)


def test_what_is_in_doubt_is_no_evidence() -> None:
    doubted = only(case("A", SURE, LITTLE, why="the attack failed a check"))
    assert doubted.status == "unknown" and advisor.reasons(doubted) == "exposure not known: the attack failed a check"
    assert "not settled: the attack failed a check" in advisor.evidence(doubted, "exposure")
    both = only(case("A", SURE, LITTLE), case("B", SURE, (0.4, 0.39, 0.41), why="the attack failed a check", dataset="other"))
    assert both.status == "partly" and both.known == 1  # the doubtful number counts neither for nor against
    no_interval = only(Case(cell({FT: [0.005]}), "A", {FT: Evidence("A", 0.005, NAN, NAN)}))
    assert no_interval.unknown == ["accuracy", "exposure"] and "no interval" in advisor.reasons(no_interval)


def test_not_run_everywhere_is_not_met_everywhere() -> None:
    one, other = case("A", SURE, LITTLE), case("B", SURE, LITTLE, key=MSG, dataset="other")
    found = {candidate.key: candidate for candidate in candidates.judged([one, other], LIMITS, READS)}
    assert {candidate.status for candidate in found.values()} == {"partly"} and found[FT].cells == 1
    text = advisor.answer(list(found.values()), LOOKS)
    assert text.startswith("**No method is shown to meet every constraint in both cells.** **FT and MSG** meet them so far")
    assert advisor.shown(found[FT]).endswith("; run only in A")


def test_failed_and_waiting() -> None:
    failed = only(Case(cell({FT: SURE}, failed={FT: "seed 0 diverged"}), "A", {FT: Evidence("A", *LITTLE)}))
    assert failed.status == "fails" and advisor.reasons(failed) == "seed 0 diverged in A"
    waiting = only(Case(cell({FT: SURE}, waiting={FT: 2}), "A", {FT: Evidence("A", *LITTLE)}))
    assert waiting.status == "unknown" and advisor.reasons(waiting) == "accuracy lost not known: not measured"


def test_both_sides_of_one_half_are_exposed() -> None:
    assert candidates.apart(0.47, 0.45, 0.49) == pytest.approx((0.03, 0.01, 0.05))
    assert candidates.apart(0.505, 0.49, 0.52) == pytest.approx((0.005, 0.0, 0.02))
    assert candidates.apart(0.51, NAN, NAN)[0] == pytest.approx(0.01) and np.isnan(candidates.apart(0.51, NAN, NAN)[2])


def test_costs_are_paired_and_end_at_the_slowest() -> None:
    """Losses 1, 2 and 3 points: mean 2, t-interval over three seeds 2 ± 4.303 / sqrt 3; run time between 1.8 and 2.2 s of 10 s."""
    found = cell({FT: [0.01, 0.02, 0.03]})
    assert standings.accuracy_loss(found, FT) == pytest.approx((0.02, 0.02 - 0.0248421, 0.02 + 0.0248421), abs=1e-6)
    assert standings.time_share(found, FT) == pytest.approx((0.2, 0.18, 0.22))
    assert np.isnan(standings.accuracy_loss(found, MSG)).all() and np.isnan(standings.time_share(found, MSG)).all()
    assert standings.accuracy_loss(cell({FT: [0.01]}), FT)[0] == pytest.approx(0.01) and np.isnan(standings.accuracy_loss(cell({FT: [0.01]}), FT)[2])


def test_the_best_come_first() -> None:
    case_ = Case(cell({FT: SURE, MSG: SURE, ("ga", "corrected"): [0.2, 0.21, 0.2, 0.21]}), "A", {
        FT: Evidence("A", 0.01, 0.0, 0.019), MSG: Evidence("A", *LITTLE), ("ga", "corrected"): Evidence("A", 0.2, 0.19, 0.21)})
    found = candidates.judged([case_], LIMITS, READS)
    assert [one.key[0] for one in found] == ["msg", "ft", "ga"]
    assert [one.key[0] for one in candidates.judged([case_], LIMITS, READS, ["ft"])] == ["ft"]
    assert advisor.answer(found, LOOKS) == "**MSG and FT** meet every constraint, by the upper ends of their intervals. 1 method does not."
    assert advisor.answer([], LOOKS).startswith("No method has been run")
    assert "None comes near" in advisor.answer([found[2]], LOOKS)


# ---- what is shown and taken along


@pytest.fixture
def mixed() -> tuple[list[Case], list[Candidate]]:
    exposed = {FT: Evidence("A", *LITTLE), MSG: Evidence("A", 0.3, 0.29, 0.31, why="no check")}
    cases = [Case(cell({FT: SURE, MSG: [0.03, 0.04, 0.03, 0.04]}), "A", exposed, retrained=Evidence("A", 0.02, 0.01, 0.03)),
             case("B", [-0.01, 0.0, -0.01, 0.0], LITTLE, dataset="other")]
    return cases, candidates.judged(cases, LIMITS, READS)


@pytest.mark.parametrize("style", [theme.LIGHT, theme.DARK, theme.PAPER])
def test_figures(mixed: tuple[list[Case], list[Candidate]], style: theme.Style) -> None:
    for name in candidates.NUMBERS:
        spec = advisor.figure(mixed[1], name, LOOKS, style, heading="H")
        alt.Chart.from_dict(charts.dressed(spec, style), validate=True)
    rows = {row["row"]: row for row in advisor.figure(mixed[1], "exposure", LOOKS, style)["data"]["values"]}
    assert rows["MSG"]["colour"] == style.faint and rows["FT"]["strong"] == 1 and rows["FT"]["about"].endswith("met")
    svg = export.drawn(lambda paper, width, below: charts.beside([advisor.figure(mixed[1], name, LOOKS, paper, width=round(width))
                                                                  for name in candidates.NUMBERS], below=below), "SVG", 180.0, 3).decode()
    assert "meets all:" in svg and "lower is better" in svg


def test_tables_and_text(mixed: tuple[list[Case], list[Candidate]]) -> None:
    cases, found = mixed
    shown, full = advisor.texts(found, READS, LOOKS), advisor.frame(found)
    assert list(shown["Verdict"]) == ["meets all", "fails"] and list(shown["Reads"]) == ["retain", "forget, retain"]
    assert not re.search(r"[^\x00-\x7f]", export.latex(shown)) and "nan" not in export.markdown(shown)
    assert full.loc[0, "exposure_hi"] == 0.01 and full.loc[1, "exposure_outcome"] == "unknown" and full.loc[1, "exposure_why"] == "no check"
    text = advisor.report(found, cases, LIMITS, LOOKS, ["A: study"])
    for part in ("## Constraints", "- run time at most 50.0\u202f% of retraining's", "## Meets all", "- **FT**: run time 20.0\u202f%", "## Fails",
                 "## Why this is not certain", "- A: study", "0.030 (A): less cannot be shown with so many splits", "in A no check"):
        assert part in text
    assert "nan" not in text and formats.MISSING not in text


def test_caveats_count_what_was_looked_at(mixed: tuple[list[Case], list[Candidate]]) -> None:
    """Accuracy three times and exposure twice: FT in both cells, MSG in one, where its exposure does not count."""
    assert any(text.startswith("**5 upper ends**") and "about 0.1 of them" in text for text in advisor.caveats(mixed[1], mixed[0], LIMITS))


# ---- the page


@pytest.fixture(scope="module")
def advised(tmp_path_factory: pytest.TempPathFactory) -> Shipped:
    """Digits, sound; FashionMNIST, whose attack is in doubt and which lacks GA. MSG reads forget too, GA nothing else."""
    home = tmp_path_factory.mktemp("advised")
    made = (("digits", "digits", ("msg", "ft", "ga"), "passed"), ("fashion", "fashion_mnist", ("msg", "ft"), "failed"))
    studies = {name: synthetic.study(home, name=name, title=name, dataset=dataset, seeds=5, methods=methods, like_retrained=("msg",),
                                     calibrated=calibrated, every_attack=name == "digits") for name, dataset, methods, calibrated in made}
    shipped = packed(home, studies)
    known = json.loads(shipped.catalogue.read_text(encoding="utf-8"))
    for method in known["methods"]:
        method["reads"] = list(READS.get(method["name"], ()))
    shipped.catalogue.write_text(json.dumps(known), encoding="utf-8")
    return shipped


def table(app: AppTest) -> dict[str, dict[str, str]]:
    """Method -> column -> text, in the order of the page."""
    shown = next(element.value for element in app.dataframe if "Verdict" in element.value)
    return {row["Method"]: {str(name): str(text) for name, text in row.items()} for row in shown.to_dict("records")}


def test_the_answer(site: SimpleNamespace, advised: Shipped) -> None:
    site.ship(advised)
    app = site.open(SCRIPT, a_cells=advised.studies["digits"])
    assert not app.exception and app.markdown[0].value.startswith("**MSG** meets every constraint, by the upper ends of its intervals.")
    assert next(iter(table(app))) == "MSG" and "**1 cell**, of 1 dataset" in said(app)
    labels = [block.proto.popover.label for block in app.get("popover")]
    assert "Export figure" in labels and "Export table" in labels
    assert len(app.get("arrow_vega_lite_chart") or app.get("vega_lite_chart")) == 3


def test_cells_without_sound_evidence_are_not_counted(site: SimpleNamespace, advised: Shipped) -> None:
    site.ship(advised)
    app = site.open(SCRIPT)
    answer = app.markdown[0].value
    assert answer.startswith("**No method is shown to meet every constraint in both cells.** **MSG** meets them so far, with evidence from only 1")
    assert "**Not counted** as evidence of exposure: in FashionMNIST, small CNN the attack failed a check" in said(app)
    only_doubtful = site.open(SCRIPT, a_cells=advised.studies["fashion"])
    assert table(only_doubtful)["MSG"]["Verdict"] == "not known"


def test_limits_change_the_answer_and_the_url_restores_them(site: SimpleNamespace, advised: Shipped) -> None:
    site.ship(advised)
    query = {"a_time": "20", "a_loss": "6", "a_exposure": "0.15", "a_data": "forget", "a_cells": advised.studies["digits"]}
    app = site.open(SCRIPT, **query)
    assert [number.value for number in app.number_input] == [20, 6, 0.15]
    assert {name: row["Verdict"] for name, row in table(app).items()} == {"GA": "meets all", "MSG": "almost", "FT": "almost"}
    assert {name: app.query_params[name] for name in query} == query
    app.number_input(key="a_loss@advisor").set_value(0.5).run()
    assert app.query_params["a_loss"] == "0.5" and table(app)["GA"]["Verdict"] == "fails"
    app.multiselect(key="a_data@advisor").set_value([]).run()
    assert app.query_params["a_data"] == "" and table(app)["MSG"]["Verdict"] != "meets all"


def test_exposure_against_retraining(site: SimpleNamespace, advised: Shipped) -> None:
    """Another attack, another number: here a tenth more of balanced accuracy."""
    site.ship(advised)
    app = site.open(SCRIPT, a_against="versus_retrained", a_cells=advised.studies["digits"], a_exposure="0.12")
    assert table(app)["MSG"]["Verdict"] == "meets all" and table(app)["MSG"]["Exposure, from ½ ↓"].startswith("0.103")
    elsewhere = site.open(SCRIPT, a_against="versus_retrained", a_cells=advised.studies["fashion"])
    assert "not measured" in table(elsewhere)["MSG"]["Exposure, from ½ ↓"]


def test_nonsense_in_the_url_is_left_aside(site: SimpleNamespace, advised: Shipped) -> None:
    site.ship(advised)
    app = site.open(SCRIPT, a_time="soon", a_loss="nan", a_exposure="7", a_against="nobody", a_data="retain,secrets", a_cells="gone")
    assert not app.exception and [number.value for number in app.number_input] == [50, 1, 0.02]
    assert app.multiselect(key="a_data@advisor").value == ["retain"] and app.multiselect(key="a_cells@advisor").value == []


def test_one_seed_is_no_evidence(site: SimpleNamespace, small: Shipped) -> None:
    site.ship(small)
    app = site.open(SCRIPT)
    assert "Of 1 method too little is known." in app.markdown[0].value
    reasons = table(app)["FT"]["What stands against it"]
    assert reasons.startswith("run time not known: not measured; accuracy lost not known: no interval: it takes two or more")


def test_half_filled(site: SimpleNamespace, full: Shipped, tmp_path: Path) -> None:
    """Failed runs fail a method; a catalogue that is gone leaves open what is read."""
    site.ship(full)
    assert "seed 0 diverged: weights are not finite at the end in FashionMNIST" in table(site.open(SCRIPT))["GA"]["What stands against it"]
    site.ship(Shipped(full.file, tmp_path / "none.json", full.studies))
    stranger = table(site.open(SCRIPT, a_exposure="0.5", a_loss="50"))["ft"]
    assert stranger["Verdict"] == "not known" and "not in the catalogue" in stranger["What stands against it"]
