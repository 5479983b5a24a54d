"""Privacy over studies with every attack, with one alone and with none; and what all pages say of attacks that cannot be believed."""

from concurrent.futures import Future
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import altair as alt
import pytest
from duckdb import DuckDBPyConnection
from streamlit.testing.v1 import AppTest

from engine.errors import RunError
from engine.store import ingest, queries, ranks, reader, schema, standings
from pages.ui import attacks, charts, export, findings, formats, leaks, pictures, table, theme
from pages.ui.trust import Trust
from tests.pages import synthetic
from tests.pages.conftest import Shipped
from tests.pages.test_screens import said

SCRIPT = "pages/privacy.py"
LOOKS = theme.looks(synthetic.catalogue()["methods"])
NAN = float("nan")


@pytest.fixture
def store(attacked: Shipped, tmp_path: Any) -> Any:
    with reader.open_results(attacked.file, tmp_path) as db:
        yield db


def specs(app: AppTest) -> list[Any]:
    return list(app.get("arrow_vega_lite_chart") or app.get("vega_lite_chart"))


def rows_of(db: DuckDBPyConnection, study: str) -> tuple[list[dict[str, Any]], attacks.Numbers]:
    """Rows of results in the order of the page, and the numbers of all attacks, as the page has them."""
    found = queries.attacks(db, study=study)
    plain = found.astype(object).mask(found.isna(), None).to_dict("records")
    for row in plain:
        row |= {end: NAN if row[end] is None else row[end] for end in ("value", "lo", "hi")}
    return list(map(dict, table.ordered(queries.results(db, study=study).to_dict("records")))), attacks.numbers(plain)  # type: ignore[arg-type]


# ---- the page


def test_every_part(site: SimpleNamespace, attacked: Shipped) -> None:
    site.ship(attacked)
    app = site.open(SCRIPT, dataset="digits")
    text = said(app)
    assert not app.exception and not app.error
    assert "**U-LiRA finds out 2 of 3 methods**; the cheap attack that papers report most calls" in text
    assert "Most exposed is **GA**: on the 5\u202f% of examples that leak most the attack is right 94.0\u202f% of the time" in text
    assert "all 3 methods can be told from retrained models" in text
    assert [head.value for head in app.subheader] == [
        "Every attack side by side", "How many are found, at which price", "How it spreads over examples", "The most exposed examples", "Exposed by class",
        "What ε the attacks show", "Can the attacks be believed?"]
    assert len(specs(app)) == 7  # the matrix, two curves, two worlds, classes, epsilon
    assert "LiRA on original 0.610 (0.600 to 0.620) and RMIA on original" in text
    assert "| worst 5\u202f% | 0.940 (0.930 to 0.950) | 0.459 (0.449 to 0.469) |" in text
    assert "So many splits can show 3.02 at most" in text and text.count("**Passed**") == 3
    labels = [block.proto.popover.label for block in app.get("popover")]
    assert labels.count("Export figure") == 5 and labels.count("Export table") == 2


def test_the_url_restores_the_view(site: SimpleNamespace, attacked: Shipped) -> None:
    site.ship(attacked)
    app = site.open(SCRIPT, dataset="digits", look="ft/corrected,ga/corrected", who="ft/corrected", roc="versus_retrained", example="7")
    assert app.multiselect(key="look@privacy").value == ["ft/corrected", "ga/corrected"]
    assert app.query_params["who"] == "ft/corrected" and app.query_params["roc"] == "versus_retrained"
    assert "<b>Example 7</b>, class 7" in "".join(element.proto.body for element in app.get("html"))
    app.multiselect(key="look@privacy").set_value(["msg/corrected"]).run()
    assert not app.exception and app.query_params["look"] == "msg/corrected" and app.query_params["who"] == "msg/corrected"


def test_what_the_url_gets_wrong_is_left_aside(site: SimpleNamespace, attacked: Shipped) -> None:
    site.ship(attacked)
    app = site.open(SCRIPT, dataset="digits", look="nobody,ga", who="nobody", roc="none", example="many")
    assert not app.exception
    assert app.multiselect(key="look@privacy").value == ["ga/corrected", "msg/corrected"]  # leaks most, leaks least
    assert app.query_params["roc"] == "u_lira" and app.query_params["who"] == "ga/corrected"


def test_another_study_has_other_methods(site: SimpleNamespace, full: Shipped) -> None:
    """What was looked at and is not there gives way."""
    site.ship(full)
    app = site.open(SCRIPT, look="ga/corrected")
    app.multiselect(key="methods@privacy").set_value(["ct", "ft"]).run()
    assert not app.exception and app.multiselect(key="look@privacy").value == ["ft/corrected", "ct/corrected"]


def test_u_lira_alone(site: SimpleNamespace, full: Shipped) -> None:
    site.ship(full)
    app = site.open(SCRIPT)
    text = said(app)
    assert not app.exception and len(specs(app)) == 3
    assert "are not listed" in text and "No attack has given a bound" in text and "Exposed by class" not in text


def test_no_attack_yet(site: SimpleNamespace, small: Shipped) -> None:
    site.ship(small)
    text = said(site.open(SCRIPT))
    assert "who is exposed is not known" in text and "It was not calibrated" in text and "there are no curves" in text


def test_an_attack_without_numbers_says_why(site: SimpleNamespace, attacked: Shipped) -> None:
    """Too few models for it: the run is there, with the reason instead of numbers."""
    site.ship(attacked)
    with reader.open_results(attacked.file, site.home) as db:
        blank = db.execute("SELECT * FROM runs WHERE attack = 'ruli' AND method = 'ga' AND study = 'sound'").df().to_dict("records")[0]
    row = {str(name): None if isinstance(value, float) else value for name, value in blank.items()}
    row |= {"error": "four or more splits are needed", "started": str(blank["started"])}
    synthetic.records.write(site.home, synthetic.Record(row["run_id"], {"runs": [row]}))
    ingest.ingest(site.home)
    app = site.open(SCRIPT, dataset="digits")
    assert not app.exception and "Without numbers: ruli on GA (four or more splits are needed)." in said(app)


@pytest.mark.parametrize("state", ["waiting", "here", "failed", "impossible"])
def test_pictures(state: str, site: SimpleNamespace, attacked: Shipped, monkeypatch: pytest.MonkeyPatch) -> None:
    answer: Future[pictures.Pictures] = Future()
    if state == "here":
        answer.set_result(dict.fromkeys(range(60), "data:image/png;base64,AAAA"))
    elif state == "failed":
        answer.set_exception(RunError("FashionMNIST is not there"))
    asked: list[int] = []
    monkeypatch.setattr(pictures, "ask", lambda dataset, examples, attempt=0: asked.append(attempt) or (None if state == "impossible" else answer))
    site.ship(attacked)
    app = site.open(SCRIPT)
    assert not app.exception
    words = {"waiting": "being fetched", "here": "Choose a row", "failed": "No pictures: FashionMNIST is not there", "impossible": pictures.MISSING}
    assert words[state] in said(app)
    listed = next(element.value for element in app.dataframe if "Where chosen" in element.value)
    assert ("Picture" in listed) == (state == "here")
    assert ("AAAA" in "".join(element.proto.body for element in app.get("html"))) == (state == "here")
    if state == "failed":
        next(button for button in app.button if button.label == "Try again").click().run()
        assert asked[-1] == 1


def test_fetching_asks_a_process_and_downloads_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def run(command: list[str], **how: Any) -> SimpleNamespace:
        assert command[2:] == ["engine.data.thumbnails", "digits", "3", "5"] and how["env"]["LETHE_OFFLINE"] == "1"
        return SimpleNamespace(returncode=0, stdout='{"3": "QQ==", "5": "Qg=="}', stderr="")

    monkeypatch.setattr(pictures.subprocess, "run", run)
    assert pictures.fetch({"dataset": "digits", "examples": [3, 5]})[5] == "data:image/png;base64,Qg=="
    monkeypatch.setattr(pictures.subprocess, "run", lambda *a, **k: SimpleNamespace(returncode=2, stdout="", stderr="warning\nno such dataset\n"))
    with pytest.raises(RunError, match="no such dataset"):
        pictures.fetch({"dataset": "nothing", "examples": []})


# ---- trust, on every page that shows attack numbers


@pytest.mark.parametrize("script", ["app.py", "pages/compare.py", "pages/leaderboard.py", SCRIPT])
def test_doubtful_numbers_are_grey_and_say_why(script: str, site: SimpleNamespace, attacked: Shipped) -> None:
    """And a method that leaks by forgetting too much is said to, with its direction."""
    site.ship(attacked)
    app = site.open(script, dataset="fashion_mnist", model="cnn")
    assert not app.exception and "The attack failed a check" in app.error[0].value
    text = said(app)
    assert "the attack failed a check: against retrained models it must be at chance" in text
    assert ("Grey: not settled" in text) == (script in ("pages/compare.py", "pages/leaderboard.py"))
    assert "**GA leaks more than the model did before it unlearned** (U-LiRA 0.742, original 0.662), by forgetting too much" in text


def test_unchecked_numbers_are_doubtful_too(site: SimpleNamespace, attacked: Shipped) -> None:
    site.ship(attacked)
    app = site.open(SCRIPT, dataset="fashion_mnist", model="resnet18")
    assert not app.exception and "The attack was not checked here" in app.warning[0].value
    assert "*What this says of privacy is not settled: the attack was not checked here.*" in said(app)


def test_leaderboard_asks_only_an_attack_that_can_be_believed(site: SimpleNamespace, attacked: Shipped, tmp_path: Any) -> None:
    with reader.open_results(attacked.file, tmp_path) as db:
        cells = [standings.cell(row, *(ask(db, study=row["study"]) for ask in standings.EVIDENCE)) for row in queries.studies(db).to_dict("records")]
    good = [replace(row, within=3, cells=3, consistent=True) for row in ranks.overall(cells) if row.method == "ga"]
    doubts = dict.fromkeys(attacked.studies.values(), "it failed")
    assert "But U-LiRA, which looks at single examples, finds out GA." in findings.leaderboard(cells, good, LOOKS)
    assert "finds any of them out is not settled: it failed." in findings.leaderboard(cells, good, LOOKS, doubts)


def test_trust() -> None:
    check = {"method": "retrained", "name": "retrained_at_chance", "outcome": "passed", "value": 0.5, "lo": 0.49, "hi": 0.51, "bound": ""}
    fine = Trust([check], attacked=True)
    assert (fine.outcome, fine.doubt(), fine.caveat(), fine.told("It leaks.")) == ("passed", "", "", "It leaks.")
    row = {"method": "ga", "balanced_accuracy": 0.6, "balanced_accuracy_lo": NAN}
    assert fine.doubt(row) == "too few models for an interval"
    row["balanced_accuracy_lo"] = 0.59
    mine = {**check, "method": "ga", "outcome": "failed", "name": "planted_shift"}
    theirs = Trust([check, mine], attacked=True)
    assert theirs.outcome == "passed" and theirs.doubt() == "" and theirs.doubt(row) == "the attack failed a check: a leak of known size must be found"
    few = Trust([{**check, "outcome": "too few models"}], attacked=True)
    assert few.told("It leaks.").startswith(":gray[It leaks.] *Not settled: too few models") and few.told("Fast.", "rte") == "Fast."
    grey = few.looks(LOOKS, [row], theme.LIGHT)
    assert grey["ga"].colour == theme.LIGHT.faint and grey["ft"] == LOOKS["ft"] and few.looks(LOOKS, [row], theme.LIGHT, "rte") == LOOKS
    assert Trust([], attacked=False).caveat() == "" and "not checked" in Trust([], attacked=True).caveat()


# ---- what attacks say


def number(value: float, lo: float = NAN, hi: float = NAN) -> dict[str, Any]:
    return {"value": value, "lo": lo, "hi": hi, "error": None}


def one(method: str, mia: float = 0.5, reach: float = 0.02) -> dict[str, Any]:
    found = {"method": method, "variant": "corrected", "mia_test": mia, "mia_test_lo": mia - reach, "mia_test_hi": mia + reach}
    return found | {f"population/all/logistic/auc{end}": NAN for end in ("", "_lo", "_hi")}


def cell(made: attacks.Matrix, method: str, title: str) -> attacks.Cell:
    return next(cell for column, cell in made[method, "corrected"].items() if column.title == title)


def test_an_attack_sees_what_neither_chance_nor_retraining_explains() -> None:
    found = {("retrained", "corrected", "u_lira"): {"balanced_accuracy": number(0.49, 0.47, 0.51)},
             ("ga", "corrected", "u_lira"): {"balanced_accuracy": number(0.60, 0.59, 0.61), "shift": number(-0.5)},
             ("ft", "corrected", "u_lira"): {"balanced_accuracy": number(0.48, 0.46, 0.485)}}
    made = attacks.matrix([one("retrained", 0.52), one("ga", 0.55), one("ft", 0.6)], found)
    u_lira = {method: cell(made, method, "U-LiRA") for method in ("retrained", "ga", "ft")}
    assert [u_lira[m].seen for m in ("retrained", "ga", "ft")] == [False, True, False]  # FT is within what retraining shows
    assert u_lira["ga"].leak == pytest.approx(0.2) and "forgotten too much" in u_lira["ga"].reading
    assert [cell(made, m, "Population MIA").seen for m in ("ga", "ft")] == [False, True]
    assert [column.title for column in attacks.shown(made)] == ["Population MIA", "U-LiRA"]


def test_other_kinds_of_numbers() -> None:
    found = {("ga", "corrected", "klom"): {"klom_forget_halved_p95": number(8.0), "klom_forget_floor_p95": number(6.0), "klom_forget_p95": number(7, 6.9, 7.1)},
             ("ga", "corrected", "forgetting_quality"): {"forgetting_quality": number(0.4, 0.38, 0.42)},
             ("ft", "corrected", "forgetting_quality"): {"forgetting_quality": number(0.86, 0.84, 0.88)},
             ("ga", "corrected", "exposure"): {"epsilon_lower_bound": number(1.0), "epsilon_most": number(3.0)},
             ("ft", "corrected", "exposure"): {"epsilon_lower_bound": number(0.0), "epsilon_most": number(3.0)},
             ("ft", "corrected", "u_lira"): {"epsilon_lower_bound": number(0.5), "epsilon_most": number(2.0)},
             ("ft", "corrected", "ruli"): {None: {"value": NAN, "lo": NAN, "hi": NAN, "error": "too few splits"}}}
    made = attacks.matrix([one("retrained"), one("ga"), one("ft")], found)
    klom = cell(made, "ga", "KLoM, p95")
    assert klom.leak == pytest.approx(2 / (11.5129 - 6), rel=1e-3) and "7.000 (6.900 to 7.100)" in klom.reading
    assert cell(made, "retrained", "KLoM, p95").value == 6.0  # retraining against itself
    assert cell(made, "ga", "Forgetting quality").seen and not cell(made, "ft", "Forgetting quality").seen
    assert cell(made, "ga", "ε, at least").leak == pytest.approx(1 / 3)
    assert cell(made, "ft", "ε, at least").value == 0.5  # its own attack's, where there is one
    assert attacks.without_numbers(found, list(made)) == {("ft", "corrected", "ruli"): "too few splits"}
    assert sorted(attacks.epsilons(found)) == [("ft", "corrected", "exposure", 0.0, 3.0), ("ft", "corrected", "u_lira", 0.5, 2.0),
                                               ("ga", "corrected", "exposure", 1.0, 3.0)]


def test_classes_are_those_that_the_attack_has() -> None:
    found = {("ga", "corrected", "exposure"): {"class_10": number(0.6), "class_2": number(0.7, 0.6, 0.8), "class_2_n_examples": number(12),
                                               "class_10_n_examples": number(3), "worst_0.05": number(0.9)}}
    assert [(label, size) for label, (_, size) in attacks.classes(found, "ga", "corrected").items()] == [(2, 12), (10, 3)]
    assert attacks.classes(found, "ft", "corrected") == {}


def test_the_answer_in_words() -> None:
    def attacked_row(method: str, leak: float, mia: float, shift: float = 0.5) -> dict[str, Any]:
        return one(method, mia) | {"balanced_accuracy": leak, "balanced_accuracy_lo": leak - 0.01, "balanced_accuracy_hi": leak + 0.01, "shift": shift}

    retrained = attacked_row("retrained", 0.5, 0.5)
    rows = [retrained, attacked_row("ft", 0.6, 0.51), attacked_row("ga", 0.62, 0.6)]
    assert findings.exposure(rows, {}, (0, 0), LOOKS) == (
        "**U-LiRA finds out all 2 methods**; the cheap attack that papers report most calls 1 of those fine (FT). "
        "Most exposed is **GA**: the attack is right 62.0\u202f% of the time.")
    quiet = findings.exposure([retrained, attacked_row("msg", 0.5, 0.5)], {}, (1, 1), LOOKS)
    assert quiet == "**U-LiRA finds out no method**. Not being found out is not being like retraining: the only method can be told from retrained models."
    blank = {**attacked_row("msg", NAN, 0.6), "balanced_accuracy": NAN}
    assert "finds out 1 of 1 method" in findings.exposure([retrained, blank], {}, (0, 0), LOOKS)
    original = attacked_row("original", 0.58, 0.5)
    worse = findings.worse_than_original([original, *rows, attacked_row("srl", 0.7, 0.5, -0.6), attacked_row("ct", 0.7, 0.5, 0.0)], LOOKS)
    assert len(worse) == 3  # FT is within the original's interval
    assert "GA leaks more" in worse[0] and "not by forgetting too much: forgotten examples score 0.50 standard deviations higher" in worse[0]
    assert "by forgetting too much: forgotten examples score 0.60 standard deviations lower" in worse[1] and "neither higher nor lower" in worse[2]
    assert findings.worse_than_original(rows, LOOKS) == []


# ---- charts


def test_charts_are_valid(store: DuckDBPyConnection, attacked: Shipped) -> None:
    study, style = attacked.studies["sound"], theme.PAPER
    rows, found = rows_of(store, study)
    made, keys = attacks.matrix(rows, found), [("ga", "corrected"), ("msg", "corrected"), ("retrained", "corrected")]
    line, columns = leaks.lines(keys, LOOKS), attacks.shown(made)
    curves, bins = queries.curves(store, study=study, attack="u_lira").to_dict("records"), queries.spread(store, study=study).to_dict("records")
    row = queries.exposed(store, study=study, method="ga", variant="corrected").to_dict("records")[0]
    by_class = {line[key]: attacks.classes(found, *key) for key in keys}
    panels = [leaks.matrix(made, LOOKS, style, doubted={("ga", "corrected"): "why"}, columns=columns, picked="ga/corrected"),
              leaks.matrix(made, LOOKS, style, doubted={}, columns=columns, width=200),
              leaks.roc({line[key]: [r for r in curves if r["method"] == key[0]] for key in keys}, style),
              leaks.spread({line[key]: [r for r in bins if r["method"] == key[0]] for key in keys}, style, retrained=line[keys[2]]),
              leaks.worlds(row, style, "#123456", retrained=False, span=leaks.span_of(row), heading="GA"),
              leaks.worlds(row, style, "#123456", retrained=True, span=leaks.span_of(row)),
              leaks.classes(by_class, {0: "zero"}, {line[key]: theme.look(LOOKS, key[0]) for key in keys}, style),
              leaks.epsilons(list(attacks.epsilons(found)), {"exposure": "Most exposed"}, LOOKS, style)]
    for panel in panels:
        alt.Chart.from_dict(charts.dressed(panel, style), validate=True)
    svg = export.drawn(lambda paper, width, below: charts.beside([panels[1], panels[6]], below=True), "SVG", 88.0, 2).decode()
    assert "Forgetting quality" in svg and "zero" in svg


def test_doubt_is_grey_and_chance_is_blank(store: DuckDBPyConnection, attacked: Shipped) -> None:
    rows, found = rows_of(store, attacked.studies["sound"])
    made = attacks.matrix(rows, found)
    spec = leaks.matrix(made, LOOKS, theme.LIGHT, doubted={("ga", "corrected"): "too few models"}, columns=attacks.shown(made))
    squares = {(row["name"], row["column"]): row for row in spec["data"]["values"]}
    assert squares["GA", "U-LiRA"]["fill"] == theme.LIGHT.faint and "in doubt: too few models" in squares["GA", "U-LiRA"]["reading"]
    assert squares["GA", "U-LiRA"]["text"] == "0.74 ↓"  # forgotten too much
    assert squares["GA", "Population · MIA"]["fill"] == squares["FT", "U-LiRA"]["fill"] == theme.LIGHT.accent
    assert squares["MSG", "U-LiRA"]["shade"] == squares["Retrained", "U-LiRA"]["shade"] == 0 < squares["FT", "U-LiRA"]["shade"]


def test_nothing_is_drawn_below_the_smallest_rate() -> None:
    line = leaks.Line("GA", "#000000", (1, 0))
    rows = [{"fpr": fpr, "tpr": 2 * fpr, "smallest_fpr": 0.01} for fpr in (0.001, 0.01, 0.1, 0.5)] + [{"fpr": 0.02, "tpr": 0.0, "smallest_fpr": 0.01}]
    spec = leaks.roc({line: rows}, theme.LIGHT)
    assert [p["fpr"] for p in spec["data"]["values"]] == [0.01, 0.1, 0.5]
    (void,) = next(layer for layer in spec["layer"] if layer["mark"]["type"] == "rect")["data"]["values"]
    assert void["to"] == 0.01 and void["from"] == pytest.approx(0.001)


def test_spread_is_of_all_examples_and_lines_of_one_hue_differ() -> None:
    ga, srl = leaks.lines([("ga", "corrected"), ("srl", "corrected")], LOOKS).values()
    assert ga.colour == srl.colour and ga.dash != srl.dash
    spec = leaks.spread({ga: [{"bin": 0, "examples": 1}, {"bin": schema.BINS - 1, "examples": 3}]}, theme.LIGHT)
    shares = [p["share"] for p in spec["data"]["values"]]
    assert sum(shares[:-1]) == pytest.approx(1.0) and shares[-1] == shares[-2] == 0.75  # the last step ends at 1


def test_tables_as_files(store: DuckDBPyConnection, attacked: Shipped) -> None:
    rows, found = rows_of(store, attacked.studies["sound"])
    shown = table.attacks(attacks.matrix(rows, found), LOOKS)
    assert list(shown["Method"]) == ["Retrained", "MSG", "FT", "GA", "Original"] and shown.loc[3, "U-LiRA (½ is best)"] == "0.742 (0.730 to 0.754)"
    assert shown.loc[4, "RULI (½ is best)"] == formats.MISSING
    listed = table.exposed(queries.exposed(store, study=attacked.studies["sound"], method="ga", variant="corrected").to_dict("records"), {0: "zero"}, {})
    assert listed.loc[0, "Class"] == "zero" and "0.9" in export.markdown(table.exposed_texts(listed))
