"""Search over studies with each kind of search, with an old one whose parts say nothing, and with none; and what is computed from trials."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import hypot, isnan, log10
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import altair as alt
import numpy as np
import pytest
from duckdb import DuckDBPyConnection
from streamlit.testing.v1 import AppTest

from engine.params import Params, hp
from engine.search import deep_unlearn, grid, racing
from engine.search.protocol import Answer, Ask, Found, Search
from engine.search.space import Space
from engine.store import queries, reader, records, searches
from engine.store.searches import Span, Summary, Trial
from pages.ui import charts, export, theme, trials, tuning
from tests.pages import synthetic
from tests.pages.conftest import Shipped, packed
from tests.pages.test_screens import said

SCRIPT = "pages/search.py"
LOOKS = theme.looks(synthetic.catalogue()["methods"])
PLACES, FRESH = range(1000, 1004), range(1004, 1008)
NAMES = (*grid.ACCURACIES, grid.AUC)
DECLARED: dict[str, Any] = {"lr": 1e-4, "epochs": 5, "batch": 64}


@dataclass(frozen=True, kw_only=True)
class Toy(Params):
    lr: float = hp(1e-4, within=(0, 10), search=(1e-5, 1e-1), log=True, doc="step size")
    epochs: int = hp(5, within=(1, 1000), search=(1, 10), doc="walks")
    batch: int = hp(64, within=(1, 1000), search=(32, 64, 128), doc="examples per step")
    momentum: float = hp(0.9, within=(0, 1), doc="not searched")


SPACE = Space(Toy, {}, {}, epochs=50)


def world(ask: Ask) -> Answer:
    """Best at lr = 0.01, whatever the rest; diverges above 0.05; the noise of each split is its own."""
    noise = dict(zip((*NAMES, "val_accuracy", "mia_val"), np.random.default_rng([ask.place, 7]).normal(0, 0.004, 6).tolist(), strict=True))
    retrained = {name: (0.5 if name in (grid.AUC, "mia_val") else 0.9) + value for name, value in noise.items()}
    if ask.params is None:
        return Answer({name: value + 0.01 * (-1) ** ask.place for name, value in retrained.items()}, retrained)
    if ask.params["lr"] > 0.05:
        return Answer(None, retrained)
    off = 0.05 * abs(log10(ask.params["lr"]) + 2) + 0.002 * np.random.default_rng([ask.place, ask.params["epochs"]]).random()
    return Answer({name: value - off for name, value in retrained.items()}, retrained)


def run(search: Search) -> Found:
    asked = next(search)
    while True:
        try:
            asked = search.send([world(ask) for ask in asked])
        except StopIteration as end:
            return end.value


def write(home: Path, found: dict[str, tuple[str, Found | None]]) -> str:
    """A study of these searches: method -> (kind, what it found; None while it is not finished). Returns its run_id."""
    members, own = [], "searched"

    def put(run_id: str, kind: str, method: str, tables: dict[str, list[dict[str, Any]]], **more: Any) -> None:
        row = synthetic._run(run_id, kind, own, "digits", "cnn", method, synthetic.STARTED, **more)
        records.write(home, records.Record(run_id, {"runs": [row], **tables}))

    for place in PLACES:
        answer = world(Ask(None, place))
        assert answer.unlearned is not None
        for seed, metrics in ((place, answer.retrained), (place + 100_000, answer.unlearned)):
            run_id = f"{own}-twin-{seed}"
            members.append({"run_id": own, "member": run_id, "role": "tuning", "method": "retrained"})
            put(run_id, "retrained", "retrained", {"metrics": [{"run_id": run_id, "name": name, "value": value} for name, value in metrics.items()]},
                protocol="tuning", seed=seed, split=place)
    for method, (kind, made) in found.items():
        run_id = f"{own}-search-{method}"
        members.append({"run_id": own, "member": run_id, "role": "search", "method": method})
        if made is None:
            continue
        rows = [{"run_id": run_id, "trial": i, "params": json.dumps(t.params), "score": t.score, "parts": json.dumps(t.parts), "status": t.status,
                 "chosen": i == made.best} for i, t in enumerate(made.trials)]
        listed = kind == "grid"
        put(run_id, "search", method, {"trials": rows}, protocol="tuning", params="{}", command="python -m engine study run searched.yaml",
            cell=json.dumps({"kind": "search", "candidates": [DECLARED] if listed else [], "how": {"kind": "racing" if listed else kind}}))
    put(own, "study", "study", {"members": members, "studies": [{"run_id": own, "name": own, "title": "Searches", "content": "name: searched\n"}]})
    return own


GRID = [{"lr": lr, "epochs": epochs, "batch": 64, "momentum": 0.9} for lr in (1e-4, 1e-3, 1e-2, 1e-1) for epochs in (2, 5, 10)]


@pytest.fixture(scope="session")
def searched(tmp_path_factory: pytest.TempPathFactory) -> Shipped:
    """A race, a list with settings that diverge, the reference study's search, and one that is not finished."""
    home = tmp_path_factory.mktemp("searched")
    return packed(home, {"searched": write(home, {
        "msg": ("racing", run(racing.search(SPACE, PLACES, FRESH, trials=40, keep=3))), "ft": ("grid", run(grid.search(GRID, PLACES))),
        "ga": ("deep_unlearn", run(deep_unlearn.search(SPACE, seeds=2, trials=20))), "srl": ("racing", None)})})


@pytest.fixture
def store(searched: Shipped, tmp_path: Path) -> Iterator[DuckDBPyConnection]:
    with reader.open_results(searched.file, tmp_path) as db:
        yield db


def rows(db: DuckDBPyConnection, question: Callable[..., Any], study: str) -> list[dict[str, Any]]:
    frame = question(db, study=study)
    return [{name: None if value is None or value != value else value for name, value in row.items()} for row in frame.to_dict("records")]


def found(db: DuckDBPyConnection, study: str = "searched", *, twins: bool = True) -> dict[str, searches.Search]:
    made = [rows(db, question, study) for question in (queries.searches, queries.all_trials, queries.tuning_twins)]
    return {search.method: search for search in searches.found(made[0], made[1], made[2] if twins else [])}


def summary(search: searches.Search) -> Summary:
    made = searches.summary(search, DECLARED, ["lr"])
    assert made is not None
    return made


# ---- queries


def test_searches_are_told_with_their_kind(store: DuckDBPyConnection) -> None:
    kinds = {row["method"]: (row["kind"], row["done"]) for row in rows(store, queries.searches, "searched")}
    assert kinds == {"ft": ("grid", True), "ga": ("deep_unlearn", True), "msg": ("racing", True), "srl": (None, False)}


def test_an_old_search_was_a_list(db: DuckDBPyConnection, full: Shipped) -> None:
    assert set(queries.searches(db, study=full.studies["embedded"])["kind"]) == {"grid"}


def test_twins_are_pairs_of_a_split(store: DuckDBPyConnection) -> None:
    pairs = rows(store, queries.tuning_twins, "searched")
    assert len(pairs) == len(PLACES) * 6
    assert {round(abs(row["twin"] - row["value"]), 9) for row in pairs} == {0.01}


def test_a_study_that_is_not_there(db: DuckDBPyConnection) -> None:
    for question in (queries.searches, queries.all_trials, queries.tuning_twins, queries.nearer):
        assert question(db, study="none").empty


# ---- what is computed


def test_scores_are_judged_again_as_the_search_did(store: DuckDBPyConnection) -> None:
    for method in ("msg", "ft"):
        search = found(store)[method]
        assert search.units is not None
        for trial in search.trials:
            if not isnan(trial.seen):
                assert search.judged(trial.parts, range(trial.splits)) == pytest.approx(trial.seen, rel=1e-12)
    race = found(store)["msg"]
    assert race.units == pytest.approx({name: 0.01 / (2 if name == grid.AUC else 1) for name in NAMES})  # the AUC's is of a mean over four splits
    assert (race.first, race.splits, race.rounds) == (1, 4, [16, 32])


def test_without_twins_there_are_scores_and_no_intervals(store: DuckDBPyConnection) -> None:
    race = found(store, twins=False)["msg"]
    made = summary(race)
    assert race.units is None and race.twin is None and isnan(made.score.lo) and made.score.value == made.chosen.again
    trial, worse = made.runners[0]
    assert worse.value == trial.again - made.chosen.again and isnan(worse.lo) and not made.halves and not made.tied


def test_scores_of_another_formula_are_not_judged_again(store: DuckDBPyConnection) -> None:
    made = [rows(store, question, "searched") for question in (queries.searches, queries.all_trials, queries.tuning_twins)]
    changed = [{**row, "score": row["score"] and 2 * row["score"]} for row in made[1]]
    assert all(search.units is None for search in searches.found(made[0], changed, made[2]))


def test_the_jackknife_of_a_mean_is_the_t_interval() -> None:
    values = np.array([1.0, 2.0, 4.0, 7.0])
    span = searches._span(np.array([values.mean(), *(np.delete(values, i).mean() for i in range(4))]))
    mean = searches._mean_span(values)
    assert (span.value, span.lo, span.hi) == pytest.approx((mean.value, mean.lo, mean.hi))


def test_a_score_is_never_below_nothing(store: DuckDBPyConnection) -> None:
    assert all(search.span(trial.parts).lo >= 0 for search in found(store).values() if search.units for trial in search.trials if trial.splits > 1)


def test_the_race_found_the_best_and_says_what_else_it_might_have_been(store: DuckDBPyConnection) -> None:
    made = summary(found(store)["msg"])
    assert made.fresh and made.score.value == pytest.approx(made.chosen.again) and len(made.runners) == 2 and len(made.halves) == 2
    assert all(worse.value >= 0 for _, worse in made.runners)
    assert [worse.value for _, worse in made.runners] == sorted(worse.value for _, worse in made.runners)
    assert abs(log10(made.chosen.params["lr"]) + 2) < 0.3
    trial, other, worse = made.default or pytest.fail("the defaults are tried first")
    assert (trial.number, other) == (0, []) and worse.value > 1
    assert [away for away, _, _ in made.near] == sorted(away for away, _, _ in made.near) and len(made.near) == searches.NEIGHBOURS


def test_a_setting_against_itself_is_no_worse(store: DuckDBPyConnection) -> None:
    search = found(store)["ft"]
    assert search.chosen is not None and search.worse(search.chosen) == Span(0.0, 0.0, 0.0)


def test_each_seed_has_its_best(store: DuckDBPyConnection) -> None:
    made = summary(found(store)["ga"])
    assert made.search.units is None and not made.fresh and {made.chosen.seed, *(trial.seed for trial, _ in made.runners)} == {0, 1}
    assert made.chosen.score == min(trial.score for trial in made.search.trials if trial.status == "done")


def trial(number: int, score: float, status: str = "done", chosen: bool = False, parts: dict[str, Any] | None = None, **params: Any) -> Trial:
    return Trial(number, params, status, chosen, score, score, parts or {})


def made_up(*tried: Trial, kind: str = "grid") -> searches.Search:
    return searches.Search("ft", "corrected", "id", kind, "", tried, None, None)


def test_importance_sees_straight_bent_and_categorical_and_nothing_else() -> None:
    rng = np.random.default_rng(0)
    spots = rng.random((60, 4))
    tried = [trial(i, float(score), bent=float(b), straight=float(s), word="low" if w < 0.5 else "high", nothing=float(n))
             for i, (b, s, w, n) in enumerate(spots) for score in [4 * (b - 0.5) ** 2 + 0.5 * s + 0.5 * (w < 0.5)]]
    search = made_up(*tried)
    shares, chance = searches.importance(search, searches.axes(search))
    share = {one.name: one.share for one in shares}
    assert min(share["bent"], share["straight"], share["word"]) > chance > share["nothing"]
    assert sum(share.values()) < 1.3 and [one.share for one in shares] == sorted(share.values(), reverse=True)


def test_importance_counts_what_diverged_as_worst() -> None:
    tried = [trial(i, float("nan") if i >= 20 else 1.0, "diverged" if i >= 20 else "done", lr=float(i)) for i in range(30)]
    shares, chance = searches.importance(made_up(*tried), searches.axes(made_up(*tried)))
    assert shares[0].share > 0.5 > chance


def test_importance_of_nothing() -> None:
    tried = [trial(i, 1.0, lr=float(i)) for i in range(8)]
    search = made_up(*tried)
    assert searches.importance(search, searches.axes(search))[0] == []  # all scores are equal
    assert searches.importance(made_up(), [])[0] == []


def test_axes_edges_and_distances() -> None:
    tried = [trial(i, 1.0 + i, chosen=i == 0, lr=10.0 ** -i, epochs=1 + i, steps=(1, 2, 4)[i % 3], word="ab"[i % 2], same=3) for i in range(10)]
    search = made_up(*tried)
    space = {axis.name: axis for axis in searches.axes(search, ["lr"])}
    assert list(space) == ["lr", "epochs", "steps", "word"] and search.fixed == {"same": 3}
    assert space["lr"].log and space["lr"].at(1e-9) == 0 and space["lr"].at(1e-3) == pytest.approx(2 / 3)
    assert space["steps"].levels == (1, 2, 4) and space["steps"].at(2) == 0.5 and space["epochs"].at(10) == 1
    assert searches.edges(search, list(space.values())) == ["lr", "epochs", "steps"]  # of two words neither is an end
    away = {one.number: distance for distance, one in searches.neighbours(search, list(space.values()))}
    assert len(away) == 9 and list(away.values()) == sorted(away.values())
    assert away[1] == pytest.approx(hypot(1 / 9, 1 / 9, 0.5, 1) / 2)  # words are equal or as far apart as can be


def test_defaults_must_be_what_was_tried() -> None:
    tried = [trial(0, 1.0, lr=0.1, decay=0.3), trial(1, 2.0, lr=0.2, decay=0.5)]
    assert searches.defaults(made_up(*tried), {"lr": 0.2, "decay": 0.5}) == (tried[1], [])
    assert searches.defaults(made_up(*tried), {"lr": 0.1, "decay": 0.0}) is None  # a list says what it tried
    assert searches.defaults(made_up(*tried, kind="racing"), {"lr": 0.1, "decay": 0.0}) == (tried[0], ["decay"])  # 0 is in no logarithmic range
    assert searches.defaults(made_up(*tried, kind="racing"), {"lr": 0.3, "decay": 0.0}) is None


def test_objectives_and_their_front(store: DuckDBPyConnection) -> None:
    both = found(store)
    accuracies, attack = searches.objectives(summary(both["ft"]).chosen) or pytest.fail("it ended")
    assert 0 <= accuracies.lo <= accuracies.value <= accuracies.hi and 0 <= attack.lo <= attack.value <= attack.hi
    best = summary(both["ga"]).chosen
    accuracies, attack = searches.objectives(best) or pytest.fail("it ended")
    assert (accuracies.value, attack.value) == pytest.approx((sum(best.parts["objectives"][:3]), best.parts["objectives"][3])) and isnan(attack.lo)
    assert searches.objectives(trial(0, float("nan"), "diverged")) is None
    assert searches.front([(0, 3), (1, 1), (2, 1), (3, 0), (3, 2)]) == [0, 1, 3] and searches.front([(1, 1), (1, 1)]) == [0, 1]


# ---- charts


def short(spec: Any) -> Any:
    """The same chart of two rows: the schema is slow over many, and they are all alike."""
    if isinstance(spec, dict):
        return {name: part[:2] if name == "values" and isinstance(part, list) else short(part) for name, part in spec.items()}
    return [short(part) for part in spec] if isinstance(spec, list) else spec


@pytest.mark.parametrize("style", [theme.LIGHT, theme.PAPER])
def test_charts_are_valid(store: DuckDBPyConnection, style: theme.Style) -> None:
    for method in ("ft", "ga"):  # settings that diverged, and objectives of single models
        search = found(store)[method]
        made = summary(search)
        shares, chance = searches.importance(search, made.axes)
        panels = [trials.chosen([made], LOOKS, style), trials.progress(search, style, "#0072b2", picked=3),
                  trials.parallel(search, made.axes, style, "#0072b2", picked=3, heading="x"), trials.importance(shares, chance, style),
                  trials.runners(made, style, "#0072b2"), trials.around(made, style, "#0072b2"),
                  *(trials.against(search, axis, style, "#0072b2", heading=axis.name) for axis in made.axes[:2]),
                  trials.trade(search, style, "#0072b2")]
        for panel in panels:
            alt.Chart.from_dict(charts.dressed(short(panel), style), validate=True)


def test_every_trial_is_drawn_and_what_diverged_is_told(store: DuckDBPyConnection) -> None:
    search = found(store)["ft"]
    drawn = trials.progress(search, theme.LIGHT, "#0072b2")["data"]["values"]
    assert len(drawn) == len(GRID) and sum(row["shape"] == "cross" for row in drawn) == 3
    top = max(row["y"] for row in drawn)
    assert all((row["y"] == top) == (row["shape"] == "cross") for row in drawn)
    assert any("diverged; lr = 0.1, epochs = 2" in row["about"] for row in drawn)
    lines = {point["trial"] for layer in trials.parallel(search, summary(search).axes, theme.LIGHT, "#0072b2")["layer"]
             if layer["mark"]["type"] == "line" for point in layer["data"]["values"]}
    assert lines == set(range(len(GRID)))


def test_the_best_so_far_only_falls(store: DuckDBPyConnection) -> None:
    steps = next(layer for layer in trials.progress(found(store)["ga"], theme.LIGHT, "#0072b2")["layer"] if layer["mark"]["type"] == "line")
    for seed in (0, 1):
        line = [point["y"] for point in steps["data"]["values"] if point["seed"] == seed]
        assert line == sorted(line, reverse=True)


def test_figures_export(store: DuckDBPyConnection) -> None:
    made = summary(found(store)["msg"])
    for build in (lambda style, width, below: trials.parallel(made.search, made.axes, style, "#0072b2", size=(round(width), 120)),
                  lambda style, width, below: trials.around(made, style, "#0072b2", size=(round(width), 120))):
        assert export.drawn(build, "SVG", 88, 1).startswith(b"<svg")


# ---- in words


def test_the_answer_counts_what_is_settled(store: DuckDBPyConnection) -> None:
    both = found(store)
    made = [summary(both[name]) for name in ("msg", "ft")]
    said = tuning.answer(made, [both["srl"]], LOOKS)
    assert said.startswith("Settings of 2 methods were found by racing and trying a list: 52 trials,") and "1 search of SRL not finished yet." in said
    assert "settled" in said and "The declared defaults are clearly worse than the chosen setting for" in said
    assert tuning.answer([], [], LOOKS).startswith("Nothing was searched")
    assert tuning.answer([], [both["srl"]], LOOKS) == "1 search of SRL not finished yet."


def test_why_says_each_finding_once(store: DuckDBPyConnection) -> None:
    race = "\n".join(tuning.why(summary(found(store)["msg"])))
    assert "that ran again on 4 fresh splits it scored least there" in race and "A second retrained model scores" in race
    assert "**Defaults**: the declared ones (trial 0) are worse by" in race and "**Neighbours**: the 5 nearest settings that were tried" in race
    norm = "\n".join(tuning.why(summary(found(store)["ga"])))
    assert "second retrained" not in norm and "**Runners-up**" not in norm and "**By halves**" not in norm  # no intervals, no splits


def test_tables_hold_every_method_and_trial(store: DuckDBPyConnection) -> None:
    made = [summary(search) for search in found(store).values() if search.trials]
    shown, full = tuning.table(made, LOOKS), tuning.full(made)
    assert list(shown["Method"]) == ["FT", "GA", "MSG"] and set(tuning.HELP) == set(shown.columns) - {"Method"}
    assert full["diverged"].tolist()[0] == 3 and full["next_worse_lo"].notna().tolist() == [True, False, True]
    every = tuning.trial_table(made[0].search)
    assert list(every["Score"].dropna()) == sorted(every["Score"].dropna()) and every["Status"].iloc[-1] == "diverged" and len(every) == len(GRID)
    assert "–" in tuning.texts(every)["Score"].tolist()


# ---- the page


def drawn(app: AppTest) -> int:
    return len(app.get("arrow_vega_lite_chart") or app.get("vega_lite_chart"))


def test_every_part(site: SimpleNamespace, searched: Shipped) -> None:
    site.ship(searched)
    app = site.open(SCRIPT, of="msg/corrected")
    assert not app.exception and not app.error
    assert [head.value for head in app.subheader] == [
        "What was chosen, and how sure that is", "One search in detail", "As it went", "Compared in the end", "All parameters at once",
        "Which parameters matter", "Score against each parameter", "Around the chosen setting", "Accuracy against the attack", "Every trial"]
    assert drawn(app) == 3 + 2 + 1 + 1 + 3 + 2  # chosen by kind; course; parallel; importance; three parameters; around and trade
    assert "Not searched: momentum = 0.9." in said(app) and "1 search of SRL not finished yet." in said(app)
    assert len(app.dataframe[1].value) == 40
    labels = [block.proto.popover.label for block in app.get("popover")]
    assert labels.count("Export figure") == 6 and labels.count("Export table") == 1 and labels.count("Export trials") == 1


@pytest.mark.parametrize("of", ["ft/corrected", "ga/corrected"])
def test_other_kinds(of: str, site: SimpleNamespace, searched: Shipped) -> None:
    site.ship(searched)
    app = site.open(SCRIPT, of=of)
    assert not app.exception and app.selectbox(key="of@search").value == of


def test_the_url_restores_the_view(site: SimpleNamespace, searched: Shipped) -> None:
    site.ship(searched)
    app = site.open(SCRIPT, of="ft/corrected", trial="10")
    assert app.selectbox(key="of@search").value == "ft/corrected" and "Looked at: trial 10: diverged; lr = 0.1, epochs = 5" in said(app)
    app.button(key="clear-trial").click().run()
    assert "trial" not in app.query_params and "Looked at" not in said(app)
    app.selectbox(key="of@search").set_value("ga/corrected").run()
    assert not app.exception and app.query_params["of"] == "ga/corrected"


def test_what_the_url_gets_wrong_is_left_aside(site: SimpleNamespace, searched: Shipped) -> None:
    site.ship(searched)
    for trial in ("999", "-1", "many"):
        app = site.open(SCRIPT, of="nobody", trial=trial)
        assert not app.exception and "Looked at" not in said(app)
    app.multiselect(key="methods@search").set_value(["ft"]).run()
    assert not app.exception and app.query_params["of"] == "ft/corrected"


def test_a_search_whose_parts_are_lost(site: SimpleNamespace, full: Shipped) -> None:
    """As in the oldest stores: scores and settings are all there is."""
    site.ship(full)
    app = site.open(SCRIPT)
    text = said(app)
    assert not app.exception and "Settings of 6 methods were found by trying a list: 72 trials, none of which failed." in text
    assert "settled" not in text and "Accuracy against the attack" not in text


def test_nothing_was_searched(site: SimpleNamespace, tmp_path: Path) -> None:
    site.ship(packed(tmp_path / "none", {"none": write(tmp_path / "none", {})}))
    assert "Nothing was searched in this study" in said(site.open(SCRIPT))


def test_nothing_has_finished(site: SimpleNamespace, tmp_path: Path) -> None:
    site.ship(packed(tmp_path / "begun", {"begun": write(tmp_path / "begun", {"srl": ("racing", None)})}))
    text = said(site.open(SCRIPT))
    assert "1 search of SRL not finished yet." in text and "stored when it ends" in text
