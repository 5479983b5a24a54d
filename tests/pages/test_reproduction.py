"""Reproduction over the shipped claims and over some of our own: verdicts, words, figures, the link, and what is wrong on file."""

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import altair as alt
import pytest
from streamlit.testing.v1 import AppTest

from engine.store import reported, verdicts
from engine.store.reported import Claim, Figure, Noise, Order, Setting, Side, Source, Unmeasured
from engine.store.verdicts import Difference, Judged, Measured, Reading
from pages.ui import claims, export, formats, reproduction, store, theme
from tests.pages import synthetic
from tests.pages.conftest import Shipped
from tests.pages.test_screens import said

SCRIPT = "pages/reproduction.py"
LOOKS = theme.looks(synthetic.catalogue()["methods"])
NAMES = claims.Names(LOOKS, synthetic.catalogue())
HERE = {"datasets": ["digits"], "models": ["cnn"]}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Claims on the synthetic study, which is of their setting: two that hold, two that do not, and those without a verdict."""
    path = tmp_path / "reported"
    path.mkdir()
    source = {"title": "A paper", "authors": "Doe et al.", "venue": "Somewhere 2026", "reference": "arXiv:1234.56789", "url": "https://example.org"}

    def one(key: str, rule: Any, **setting: Any) -> dict[str, Any]:
        return {"key": key, "statement": f"Statement {key}.", "place": "Table 1", "certainty": "none" if rule is None else "paper", "rule": rule,
                "setting": {**HERE, **setting}}

    def order(worse: str, than: str) -> dict[str, Any]:
        return {"kind": "order", "worse": {"methods": [worse], "metric": "balanced_accuracy"}, "than": {"methods": [than], "metric": "balanced_accuracy"}}

    def figures(within: float, **values: float) -> dict[str, Any]:
        return {"kind": "figures", "metric": "test_retention", "within": within, "seeds": 10, "figures": values}

    listed = [one("holds", order("ft", "msg")), one("against", order("msg", "ft")), one("figure", figures(0.02, ft=0.99)), one("wrong", figures(0.005, ft=0.9)),
              one("elsewhere", order("ga", "ct"), datasets=["cifar10"]), one("unmeasured", {"kind": "unmeasured", "needs": "poisoned data"}), one("none", None)]
    (path / "paper.json").write_text(json.dumps({"source": source, "claims": listed}), encoding="utf-8")
    third = {**source, "title": "A re-run", "authors": "somebody", "reference": "github.com/x/y at 123", "third_party": True, "about": "Not the paper's."}
    table = {**one("table", figures(0.02, ft=0.99, msg=0.9, retrained=1.0)), "certainty": "third party", "statement": "Test accuracy kept"}
    (path / "re-run.json").write_text(json.dumps({"source": third, "claims": [table]}), encoding="utf-8")
    monkeypatch.setattr(store, "REPORTED", path)
    return path


def charts(app: AppTest) -> list[Any]:
    return list(app.get("arrow_vega_lite_chart") or app.get("vega_lite_chart"))


def test_verdicts_and_the_answer(site: SimpleNamespace, full: Shipped, folder: Path) -> None:
    site.ship(full)
    app = site.open(SCRIPT)
    text = said(app)
    assert not app.exception and not app.error
    assert ("**Of 7 published claims 2 are reproduced and 2 are not**: 1 not comparable, as they speak of other settings than have run here, 1 not run and "
            "1 without a published number at hand. For 1 statement there is evidence from other settings: it points the claimed way for 1" in text)
    assert "A third party's re-run, which is not the paper's, adds 1 table or statement: 0 reproduced, 1 not." in text
    shown = app.dataframe[0].value
    assert list(shown["Verdict"]) == ["✓ reproduced", "✓ reproduced", "✗ not reproduced", "✗ not reproduced", "≠ not comparable"]
    row = shown[shown["Claim"] == "Statement figure."].iloc[0]
    assert row["Reported"] == "99.0\u202f%" and " (99." in row["Measured here"] and row["Why"] == "as claimed in Digits, small CNN"
    assert "FT 0.604 (0.592 to 0.616) against MSG 0.514 (0.502 to 0.526): as claimed (Digits, small CNN)" in set(shown["Measured here"])
    assert "Digits instead of CIFAR10" in set(shown["Why"])
    assert "10 figures and statements of 2 sources · 2 studies looked at" in text
    assert len(charts(app)) == 2 and [head.value for head in app.subheader] == ["Claim by claim", "Where the evidence points", "A third party's figures"]


def test_a_claim_in_full_and_its_link(site: SimpleNamespace, full: Shipped, folder: Path) -> None:
    site.ship(full)
    app = site.open(SCRIPT, claim="elsewhere", verdict="not comparable,not run")
    text = said(app)
    assert list(app.dataframe[0].value["Verdict"]) == ["≠ not comparable", "… not run"]
    assert "Doe et al., [A paper](https://example.org), Somewhere 2026, arXiv:1234.56789; Table 1." in text and "read in the paper" in text
    assert "**Reproduced if:** By U-LiRA balanced accuracy GA is worse than CT: the 95 % intervals" in text
    inner = app.dataframe[1].value
    assert inner.iloc[0][["Study", "Setting"]].tolist() == ["Six methods on digits", "Digits instead of CIFAR10"]
    assert app.code[0].value == "python -m engine study run data/studies/embedded.yaml"
    app.button(key="closer-close").click().run()
    assert not app.exception and "claim" not in app.query_params and app.query_params["verdict"] == "not comparable,not run"


def test_claims_without_evidence_say_what_it_takes(site: SimpleNamespace, full: Shipped, folder: Path) -> None:
    site.ship(full)
    assert "**Not run.** It takes poisoned data" in said(site.open(SCRIPT, claim="unmeasured", verdict="not run"))
    assert "**No published number at hand.**" in said(site.open(SCRIPT, claim="none", verdict="no published number at hand"))


def test_third_party_stays_apart(site: SimpleNamespace, full: Shipped, folder: Path) -> None:
    site.ship(full)
    app = site.open(SCRIPT)
    assert "somebody" not in " ".join(app.dataframe[0].value["Source"])
    table = app.dataframe[1].value
    assert list(table["Method"]) == ["FT", "MSG", "Retrained"] and list(table["Reported"]) == ["99.0\u202f%", "90.0\u202f%", "100.0\u202f%"]
    assert [verdict[2:] for verdict in table["Verdict"]] == ["reproduced", "not reproduced", "reproduced"]


def test_broken_files_are_named_and_the_others_show(site: SimpleNamespace, full: Shipped, folder: Path) -> None:
    (folder / "broken.json").write_text('{"source": {"title": 3}, "claims": []}', encoding="utf-8")
    site.ship(full)
    app = site.open(SCRIPT)
    assert not app.exception
    assert app.error[0].value == "**Left out, with all claims of its file:** broken.json: source: title: got 3, must be a text"
    assert len(app.dataframe[0].value) == 5


def test_no_claims_on_file(site: SimpleNamespace, full: Shipped, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "REPORTED", tmp_path / "nowhere")
    site.ship(full)
    app = site.open(SCRIPT)
    assert not app.exception and "nothing to hold the results against" in said(app) and "one JSON file a source" in app.info[0].value


def test_shipped_claims_over_no_results(site: SimpleNamespace, empty: Shipped) -> None:
    site.ship(empty)
    app = site.open(SCRIPT)
    text = said(app)
    assert not app.exception and "can be called reproduced or refuted yet" in text and "0 studies looked at" in text
    assert "Nothing was measured here on the same data and architecture yet" in text


def test_another_state_of_the_results_is_judged_anew(site: SimpleNamespace, full: Shipped, empty: Shipped, folder: Path) -> None:
    site.ship(empty)
    assert "None of 7 published claims" in said(site.open(SCRIPT))
    site.ship(full)
    assert "2 are reproduced" in said(site.open(SCRIPT))


# ---- words

SOURCE = Source("A paper", "Doe", "", "arXiv:1", "https://example.org", False, "")
WHERE = Setting(("cifar10",), ("resnet18",), {"cifar10": 182}, reported.RANDOM, 0.1, True, True, ("another machine",))
STUDY = {"study": "s", "title": "A study", "dataset": "digits", "model": "cnn", "done": 9, "command": "make study"}


def claim(rule: Any, **more: Any) -> Claim:
    return replace(Claim("it", SOURCE, "It works.", "Table 1", "paper", "", "", WHERE, (1, 1), rule), **more)


def number(method: str, value: float, metric: str = "retention_deviation", group: str = "") -> Measured:
    return Measured(method, "corrected", metric, "", value, value - 0.01, value + 0.01, group)


@pytest.mark.parametrize(("rule", "words"), [
    (Figure("ft", "test_accuracy", 0.9, 0.01, 10), "The 95 % interval of measured minus reported lies within ±0.01; the reported figure is of 10 seeds."),
    (Figure("ft", "test_accuracy", 0.9, 0.01, 1), "±0.01; the reported figure is of one run."),
    (Figure("ft", "test_accuracy", 0.9, 0.01, None), "is of an unknown number of seeds and is taken as exact."),
    (Order(Side(("ga", "srl"), "retention_deviation"), Side(("ft", "ct"), "retention_deviation"), 0.0),
     "By Retention Deviation GA and SRL are each worse than each of FT and CT: the 95 % intervals of the distances from the best value do not overlap."),
    (Order(Side(("ga", "ft"), "balanced_accuracy"), Side((), "mia_test"), 0.5, 0.5),
     "By U-LiRA balanced accuracy GA and FT are further from ½ than by Population attack accuracy: the 95 % intervals of the distances from the best "
     "value do not overlap. That must be so in at least 50 % of them, and the other way round in none."),
    (Noise(("msg", "ct"), ("retention_deviation",), True),
     "MSG and CT are within retraining noise by Retention Deviation and faster than retraining, with enough seeds to tell, in at least 80 % of the studies."),
    (Unmeasured("poisoned data"), "Nothing here measures it: it takes poisoned data."), (None, "There is nothing to decide on.")])
def test_rules_in_words(rule: Any, words: str) -> None:
    assert claims.rule(claim(rule), NAMES).endswith(words)


def test_settings_and_differences_in_words() -> None:
    assert claims.setting(claim(None), NAMES) == ("CIFAR10, ResNet-18, trained for 182 epochs, 10 % of the training data to forget, tuned settings, by the "
                                                  "released code, another machine.")
    assert claims.setting(claim(None, setting=Setting(None, None, {}, "people"), needs=(2, 1)), NAMES) == (
        "Dataset not at hand, architecture not at hand, people to forget; in at least 2 datasets and 1 architectures.")
    found = [Difference("dataset", "digits", ""), Difference("model", "cnn", ""), Difference("images", "4000", "all"), Difference("epochs", "nan", "182"),
             Difference("scenario", "random examples", "people"), Difference("forget_share", "0.2", "0.1"), Difference("settings", "ft, ct", "tuned"),
             Difference("variant", "msg", "official"), Difference("check", "absent", "passed"), Difference("otherwise", "", "another machine")]
    assert [claims.difference(one, WHERE, NAMES) for one in found] == [
        "Digits instead of CIFAR10", "small CNN instead of ResNet-18", "4\u202f000 images instead of all", "no epochs of training instead of 182",
        "random examples to forget instead of people", "20 % to forget instead of 10 %", "default settings of FT and CT instead of tuned ones",
        "the corrected variant of MSG instead of what the released code does", "the attack was not checked", "another machine"]
    assert claims.difference(found[0], replace(WHERE, datasets=None), NAMES) == "the claim's dataset is not at hand"


def test_what_a_study_says() -> None:
    noise = claim(Noise(("msg", "ct"), ("retention_deviation",), True))
    good = Reading(STUDY, (), verdicts.HELD, (number("msg", 0.01, group="G1"), number("ct", 0.02, group="G1")))
    assert claims.told(good, noise, NAMES) == "MSG and CT are within noise: as claimed"
    bad = replace(good, state=verdicts.AGAINST, parts=(number("msg", 0.1, group="G3"), number("ct", 0.5, "rte", "G3")))
    assert claims.told(bad, noise, NAMES) == "MSG is far by Ret. dev. and CT is slower than retraining: not as claimed"
    assert claims.numbers(bad, NAMES).startswith("MSG Ret. dev. 0.100 (0.090 to 0.110); CT Speed-up 0.5×")
    itself = claim(Order(Side(("ga",), "balanced_accuracy"), Side((), "mia_test"), 0.5))
    reading = Reading(STUDY, (), verdicts.OPEN, (number("ga", 0.6, "balanced_accuracy"), number("ga", 0.55, "mia_test")), 0.05, 0.01, 0.09, (1, 2))
    assert claims.told(reading, itself, NAMES) == ("GA: U-LiRA 0.600 (0.590 to 0.610) against Population MIA 0.550 (0.540 to 0.560): too close to tell "
                                                   "(1 of 2 pairs)")


def test_why_not() -> None:
    reading = Reading(STUDY, (), verdicts.HELD)
    wide = claim(Order(Side(("ga",), "rte"), Side(("ft",), "rte"), 0.0), needs=(2, 2))
    assert claims.why(Judged(wide, verdicts.NOT_COMPARABLE, (reading,), (reading,)), NAMES) == "its setting has run in 1 dataset and 1 architecture of 2 and 2"
    lacking = tuple((name, "rte") for name in ("ga", "ft", "ct", "srl", "msg"))
    assert claims.why(Judged(wide, verdicts.NOT_RUN, (), lacking=lacking), NAMES) == (
        "not measured: GA (Speed-up), FT (Speed-up), CT (Speed-up), SRL (Speed-up) and 1 more")
    assert claims.why(Judged(wide, verdicts.NOT_RUN, ()), NAMES) == "no study has run yet"


def test_a_table_of_figures_is_one_claim_and_as_good_as_its_worst() -> None:
    def figure(method: str, verdict: str) -> Judged:
        return Judged(claim(Figure(method, "rte", 1.0, 0.1, None), key=f"t/{method}"), verdict, ())

    (entry,) = claims.entries([figure("ft", verdicts.REPRODUCED), figure("ga", verdicts.NOT_RUN)])
    assert entry.verdict == verdicts.NOT_RUN and entry.points == ""
    assert reproduction.table([entry], NAMES).iloc[0][["Reported", "Why"]].tolist() == ["2 figures", "1 reproduced and 1 not run"]
    assert claims.entries([figure("ft", verdicts.REPRODUCED), figure("ga", verdicts.REPRODUCED)])[0].verdict == verdicts.REPRODUCED


@pytest.mark.parametrize(("states", "points"), [((verdicts.HELD, verdicts.OPEN), verdicts.HELD), ((verdicts.AGAINST,), verdicts.AGAINST), ((), ""),
                                                ((verdicts.HELD, verdicts.AGAINST), verdicts.OPEN), ((verdicts.OPEN,), verdicts.OPEN)])
def test_where_the_evidence_points(states: tuple[str, ...], points: str) -> None:
    readings = tuple(Reading(STUDY, (Difference("dataset", "digits", ""),), state) for state in states)
    assert claims.Entry("it", (Judged(claim(ORDER), verdicts.NOT_COMPARABLE, readings),)).points == points


# ---- figures

ORDER = Order(Side(("ga",), "retention_deviation"), Side(("ft",), "retention_deviation"), 0.0)


def test_directions_draws_the_nearest_of_each_place() -> None:
    parts = (number("ga", 0.1), number("ft", 0.05))
    other = {**STUDY, "dataset": "fashion_mnist"}
    readings = (Reading(STUDY, (), verdicts.HELD, parts, 0.05, 0.03, 0.07),
                Reading(STUDY, (Difference("images", "9", "all"),), verdicts.OPEN, parts, 0.9, 0.8, 1.0),
                Reading(other, (Difference("dataset", "fashion_mnist", ""),), verdicts.AGAINST, parts, -0.05, -0.07, -0.03))
    entry = claims.Entry("it", (Judged(claim(ORDER), verdicts.REPRODUCED, readings, readings[:1]),))
    for style in (theme.LIGHT, theme.DARK, theme.PAPER):
        spec = reproduction.directions([entry], NAMES, style)
        assert spec is not None
        alt.Chart.from_dict(spec)
        assert [(row["x"], row["fill"] == style.page) for row in spec["data"]["values"]] == [(0.05, False), (-0.05, True)]  # hollow elsewhere
    assert spec["data"]["values"][0]["name"] == "GA worse than FT · Digits" and "not as claimed" in reproduction.alt(spec)
    assert export.drawn(lambda style, width, below: reproduction.directions([entry], NAMES, style, width=round(width)), "PDF", 88, 1).startswith(b"%PDF")
    assert reproduction.directions([claims.Entry("it", (Judged(claim(ORDER), verdicts.NOT_RUN, ()),))], NAMES, theme.LIGHT) is None


def test_beside_shows_measured_marks_only_of_the_same_data_and_architecture() -> None:
    def one(method: str, value: float, *kinds: str) -> Judged:
        reading = Reading(STUDY, tuple(Difference(kind, "", "") for kind in kinds), verdicts.HELD, (number(method, 0.9, "test_accuracy"),))
        return Judged(claim(Figure(method, "test_accuracy", value, 0.01, 10)), verdicts.REPRODUCED, (reading,))

    spec = reproduction.beside([one("ft", 0.8), one("ga", 0.9, "settings"), one("ct", 0.7, "dataset", "model")], NAMES, theme.LIGHT)
    alt.Chart.from_dict(spec)
    rows = {row["name"]: row for row in spec["data"]["values"]}
    assert list(rows) == ["GA", "FT", "CT"]  # the highest reported on top
    assert rows["FT"]["fill"] != theme.LIGHT.page == rows["GA"]["fill"] and "x" not in rows["CT"]
    assert rows["FT"]["about"] == f"FT: reported 80.0\u202f%, measured {formats.with_interval(0.9, 0.89, 0.91, 'share')}"


def test_the_file_has_everything_at_full_precision() -> None:
    reading = Reading(STUDY, (), verdicts.HELD, (number("ft", 1 / 3, "test_accuracy"),), 0.1, 0.0, 0.2)
    figure = Judged(claim(Figure("ft", "test_accuracy", 0.9, 0.01, 10)), verdicts.REPRODUCED, (reading,), (reading,))
    entries = claims.entries([figure, Judged(claim(None, key="none"), verdicts.NO_NUMBER, ())])
    full = reproduction.full(entries, NAMES)
    row = full.iloc[0]
    assert (row["reported"], row["measured"], row["margin_hi"], row["study"], row["reference"]) == (0.9, 1 / 3, 0.2, "s", "arXiv:1")
    assert list(full["verdict"]) == ["reproduced", "no published number at hand"]
