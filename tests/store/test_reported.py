"""Published claims: the files that ship, what is said of files that are wrong, and the rule of the verdicts on evidence made by hand."""

import json
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.store import ingest, queries, reader, records, reported, verdicts
from engine.store.reported import Claim, Figure, Noise, Order, Setting, Side, Source, Unmeasured
from engine.store.standings import Cell
from engine.store.verdicts import AGAINST, HELD, MISSING, OPEN, Evidence
from tests.store.test_standings import made

ROOT = Path(__file__).resolve().parents[2]
SHIPPED = ROOT / "data" / "reported"
NAN = float("nan")
VARIANTS = {"ft": ["corrected"], "ga": ["corrected"], "ct": ["corrected"], "msg": ["corrected", "official"]}
Spans = Mapping[str, Mapping[str, tuple[float, float, float]]]  # method or method/variant -> metric -> (low, value, high)


# ---- the files that ship


def test_shipped_files_are_sound() -> None:
    claims, faults = reported.read(SHIPPED)
    assert not faults and len({claim.key for claim in claims}) == len(claims) > 100
    known = {method["name"] for method in json.loads((ROOT / "data" / "catalogue.json").read_text(encoding="utf-8"))["methods"]}
    for claim in claims:
        assert claim.source.url.startswith("https://") and claim.source.reference and claim.place and claim.statement
        assert (claim.rule is None) == (claim.certainty == "none")
        assert (claim.certainty == "third party") == claim.source.third_party
        assert (claim.certainty == "relayed") == bool(claim.told_by)
        assert methods_of(claim) <= known | {"unsir"}, claim.key  # UNSIR is not among the methods yet
        if isinstance(claim.rule, Figure):
            assert claim.rule.metric in queries.METRICS or claim.rule.metric == "nomus"


def test_shipped_figures_are_those_of_their_source() -> None:
    """A few of each table, and what must not be taken for the paper's."""
    claims = {claim.key: claim for claim in reported.read(SHIPPED)[0]}
    for key, value in (("re-run-retention-deviation/msg", 0.1368), ("re-run-test-accuracy/retrained", 0.8687), ("re-run-forget-accuracy/cf_k", 0.9263),
                       ("re-run-indiscernibility/iu", 0.8952), ("re-run-speed-up/ga", 390), ("unsir-retain/unsir", 0.7095), ("mufac-nomus/scrub", 0.6577)):
        assert claims[key].rule.value == value, key
    assert "re-run-test-accuracy/eu_k" not in claims and "re-run-indiscernibility/ff" not in claims  # absent there; not a number there
    paper = [claim for claim in claims.values() if claim.source.reference == "arXiv:2410.01276"]
    assert len(paper) == 9 and not any(isinstance(claim.rule, Figure) for claim in paper)  # no table of it is at hand
    # NoMUS of the last table by its definition, from test accuracy and the other half, which it prints too
    for method, mia in (("original", 0.2136), ("retrained", 0.0445), ("ft", 0.2129), ("cf_k", 0.2126), ("ga", 0.0485), ("scrub", 0.1415), ("ng_plus", 0.0953)):
        assert 0.5 * claims[f"mufac-test/{method}"].rule.value + 0.5 * (1 - 2 * mia) == pytest.approx(claims[f"mufac-nomus/{method}"].rule.value, abs=2e-4)


def methods_of(claim: Claim) -> set[str]:
    rule = claim.rule
    if isinstance(rule, Figure):
        return {rule.method}
    if isinstance(rule, Order):
        return {*rule.worse.methods, *rule.than.methods}
    return set(rule.methods) if isinstance(rule, Noise) else set()


# ---- files that are wrong

GOOD: dict[str, Any] = {
    "source": {"title": "A paper", "authors": "Doe", "reference": "arXiv:1", "url": "https://example.org"},
    "claims": [{"key": "one", "statement": "It works.", "place": "Table 1", "certainty": "paper", "setting": {"datasets": ["digits"], "models": ["cnn"]},
                "rule": {"kind": "figures", "metric": "test_accuracy", "figures": {"ft": 0.9}, "within": 0.01, "seeds": 3}}]}


def changed(path: str, value: Any) -> dict[str, Any]:
    """The good file with one field put to another value; `...` takes it away."""
    content = json.loads(json.dumps(GOOD))
    at: Any = content
    *parents, last = [int(step) if step.isdecimal() else step for step in path.split(".")]
    for step in parents:
        at = at[step]
    if value is ...:
        del at[last]
    else:
        at[last] = value
    return content


@pytest.mark.parametrize(("path", "value", "message"), [
    ("source", ..., "bad.json: source: got nothing, must be an object"),
    ("source.authors", 3, "bad.json: source: authors: got 3, must be a text"),
    ("source.year", 2026, "bad.json: source: unknown field 'year'; there are about, authors"),
    ("claims", {}, "bad.json: claims: got {}, must be a list"),
    ("claims.0", "x", "bad.json: claims[0]: got 'x', must be an object"),
    ("claims.0.place", ..., "bad.json: claims[0]: place: got nothing, must be a text"),
    ("claims.0.certainty", "sure", "bad.json: claims[0]: certainty: got 'sure', must be one of paper, code, third party"),
    ("claims.0.setting.models", "cnn", "bad.json: claims[0]: setting: models: got 'cnn', must be a list"),
    ("claims.0.setting.datasets", [1], "bad.json: claims[0]: setting: datasets: got [1], must be a list of texts"),
    ("claims.0.setting.epochs", {"digits": "many"}, "bad.json: claims[0]: setting: epochs.digits: got 'many', must be a number"),
    ("claims.0.setting.tuned", 1, "bad.json: claims[0]: setting: tuned: got 1, must be true or false"),
    ("claims.0.needs", {"datasets": 1.5}, "bad.json: claims[0]: needs: datasets: got 1.5, must be a whole number"),
    ("claims.0.rule.kind", "guess", "bad.json: claims[0]: rule: kind: got 'guess', must be one of figures, order, noise, unmeasured"),
    ("claims.0.rule.within", 0, "bad.json: claims[0]: rule: within must be above 0"),
    ("claims.0.rule.figures", {"ft": True}, "bad.json: claims[0]: rule: figures.ft: got True, must be a number"),
    ("claims.0.rule", {"kind": "order", "worse": {"methods": ["ft"], "metric": "taste"}, "than": {"metric": "taste"}},
     "bad.json: claims[0]: rule: must name methods in `worse`, the best value of 'taste' in `best`"),
])
def test_one_clear_message(tmp_path: Path, path: str, value: Any, message: str) -> None:
    """With file and field; the other files are there all the same."""
    (tmp_path / "bad.json").write_text(json.dumps(changed(path, value)), encoding="utf-8")
    (tmp_path / "good.json").write_text(json.dumps(GOOD), encoding="utf-8")
    claims, faults = reported.read(tmp_path)
    assert [claim.key for claim in claims] == ["one/ft"]
    (fault,) = faults
    assert fault.startswith(message)


def test_all_faults_of_a_file_and_none_of_its_claims(tmp_path: Path) -> None:
    content = {**GOOD, "claims": [{}, GOOD["claims"][0], {"certainty": "paper"}]}
    (tmp_path / "bad.json").write_text(json.dumps(content), encoding="utf-8")
    claims, faults = reported.read(tmp_path)
    assert not claims and [fault[:20] for fault in faults] == ["bad.json: claims[0]:", "bad.json: claims[2]:"]


def test_broken_twice_and_absent(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(json.dumps(GOOD), encoding="utf-8")
    (tmp_path / "b.json").write_text(json.dumps(GOOD), encoding="utf-8")
    (tmp_path / "c.json").write_text('{"source": ', encoding="utf-8")
    claims, faults = reported.read(tmp_path)
    assert len(claims) == 1 and faults[0].startswith("b.json: key 'one/ft' is that of another claim") and faults[1].startswith("c.json: cannot be read as JSON")
    assert reported.read(tmp_path / "nowhere") == ([], [])


# ---- the rule


def cell(spans: Spans, *, dataset: str = "cifar10", model: str = "resnet18", share: float = 0.1, failed: tuple[str, ...] = (), seeds: int = 10) -> Cell:
    """Numbers with intervals, without the seeds behind them."""
    means = {key(name): {column: value for metric, (lo, mean, hi) in found.items() for column, value in
                         ((metric, mean), (f"{metric}_lo", lo), (f"{metric}_hi", hi))} for name, found in spans.items()}
    values = {name: {metric: np.zeros(seeds) for metric in row} for name, row in means.items()}
    why = {key(name): "diverged" for name in failed}
    return Cell(dataset, model, share, f"{dataset}/{model}", tuple(range(seeds)), means, values, why, {}, "", np.empty((3, 0)))


def key(name: str) -> tuple[str, str]:
    method, _, variant = name.partition("/")
    return method, variant or "corrected"


def study(found: Cell, **more: Any) -> Evidence:
    row = {"study": found.study, "title": found.study, "dataset": found.dataset, "model": found.model, "done": 100, "command": "make study"}
    return replace(Evidence(row, found, NAN, 182.0, 91.0, reported.RANDOM, frozenset({("ft", "corrected"), ("ga", "corrected")}), {}, "passed"), **more)


def claim(rule: Any, *, needs: tuple[int, int] = (1, 1), **setting: Any) -> Claim:
    wanted: dict[str, Any] = {"datasets": ("cifar10", "mnist"), "models": ("resnet18", "tinyvit11m"), "epochs": {}, **setting}
    source = Source("A paper", "Doe", "", "arXiv:1", "https://example.org", False, "")
    return Claim("it", source, "It works.", "Table 1", "paper", "", "", Setting(**wanted), needs, rule)


def says(rule: Any, evidence: Evidence, **setting: Any) -> tuple[str, str]:
    """The verdict, and what the study says."""
    found = verdicts.judged(claim(rule, **setting), [evidence], VARIANTS)
    return found.verdict, found.readings[0].state if found.readings else MISSING


@pytest.mark.parametrize(("span", "state"), [
    ((0.885, 0.890, 0.895), HELD), ((0.870, 0.890, 0.910), OPEN), ((0.860, 0.865, 0.870), AGAINST), ((0.915, 0.92, 0.925), AGAINST), ((NAN, 0.89, NAN), OPEN)])
def test_a_figure_holds_within_its_distance(span: tuple[float, float, float], state: str) -> None:
    """Reported exactly 0.89, within 0.01."""
    rule = Figure("ft", "test_accuracy", 0.89, 0.01, None)
    verdict, said = says(rule, study(cell({"ft": {"test_accuracy": span}})))
    assert said == state and verdict == ("reproduced" if state == HELD else "not reproduced")


def test_seeds_on_both_sides_widen_the_interval() -> None:
    """Half-width h of 10 seeds against 10, 1 or so many that they add nothing: h times sqrt(2), sqrt(11) and 1."""
    evidence = study(cell({"ft": {"test_accuracy": (0.88, 0.89, 0.90)}}))
    for seeds, factor in ((10, 2**0.5), (1, 11**0.5), (None, 1.0)):
        reading = verdicts.judged(claim(Figure("ft", "test_accuracy", 0.89, 0.05, seeds)), [evidence], VARIANTS).readings[0]
        assert reading.hi == pytest.approx(0.01 * factor) and reading.lo == pytest.approx(-0.01 * factor)


ORDER = Order(Side(("ga",), "retention_deviation"), Side(("ft",), "retention_deviation"), 0.0)


@pytest.mark.parametrize(("ga", "ft", "state"), [
    ((0.10, 0.12, 0.14), (0.05, 0.06, 0.07), HELD), ((0.06, 0.08, 0.10), (0.05, 0.06, 0.07), OPEN), ((0.01, 0.02, 0.03), (0.05, 0.06, 0.07), AGAINST)])
def test_an_order_holds_where_intervals_are_apart(ga: Any, ft: Any, state: str) -> None:
    evidence = study(cell({"ga": {"retention_deviation": ga}, "ft": {"retention_deviation": ft}}))
    assert says(ORDER, evidence) == ("reproduced" if state == HELD else "not reproduced", state)
    turned = Order(ORDER.than, ORDER.worse, 0.0)
    assert says(turned, evidence)[1] == {HELD: AGAINST, OPEN: OPEN, AGAINST: HELD}[state]


@given(st.floats(0.3, 0.7), st.floats(0, 0.2), st.floats(0.3, 0.7), st.floats(0, 0.2))
def test_an_order_is_of_distances_from_the_best(a: float, reach_a: float, b: float, reach_b: float) -> None:
    """An attack below one half is as far as one above: both mirrored, nothing changes. And whoever is further by the values is never held nearer."""
    rule = Order(Side(("ga",), "balanced_accuracy"), Side(("ft",), "balanced_accuracy"), 0.5)
    spans = {"ga": (a - reach_a, a, a + reach_a), "ft": (b - reach_b, b, b + reach_b)}
    plain = study(cell({name: {"balanced_accuracy": span} for name, span in spans.items()}))
    mirrored = study(cell({name: {"balanced_accuracy": (1 - hi, 1 - mean, 1 - lo)} for name, (lo, mean, hi) in spans.items()}))
    found, other = (verdicts.judged(claim(rule), [evidence], VARIANTS).readings[0] for evidence in (plain, mirrored))
    assert found.margin == pytest.approx(other.margin, abs=1e-9) and found.lo <= found.margin <= found.hi
    assert found.state != HELD or abs(a - 0.5) > abs(b - 0.5)


def test_a_share_of_pairs_and_none_the_other_way() -> None:
    """U-LiRA against the population attack, each method against itself."""
    rule = Order(Side(("ga", "ft"), "balanced_accuracy"), Side((), "mia_test"), 0.5, 0.5)
    near, far, none = (0.49, 0.5, 0.51), (0.62, 0.64, 0.66), (0.5, 0.501, 0.502)
    one = study(cell({"ga": {"balanced_accuracy": far, "mia_test": near}, "ft": {"balanced_accuracy": none, "mia_test": near}}))
    found = verdicts.judged(claim(rule), [one], VARIANTS)
    assert found.verdict == "reproduced" and found.readings[0].pairs == (1, 2) and {part.method for part in found.readings[0].parts} == {"ga"}
    assert says(replace(rule, least=1.0), one) == ("not reproduced", OPEN)
    against = study(cell({"ga": {"balanced_accuracy": far, "mia_test": near}, "ft": {"balanced_accuracy": near, "mia_test": far}}))
    assert says(rule, against) == ("not reproduced", AGAINST)


def test_retraining_noise() -> None:
    rule = Noise(("near", "close"), ("retention_deviation", "indiscernibility"), True)
    anywhere = {"datasets": ("digits",), "models": ("cnn",)}
    good = study(made({"near": {}, "close": {"rte": 3}}))
    assert says(rule, good, **anywhere) == ("reproduced", HELD)
    assert says(rule, study(made({"near": {}, "close": {"dev": 0.05}})), **anywhere) == ("not reproduced", AGAINST)
    assert says(rule, study(made({"near": {}, "close": {"rte": 0.5}})), **anywhere) == ("not reproduced", AGAINST)
    assert says(rule, study(made({"near": {}, "close": {"rte": 1.05}})), **anywhere) == ("not reproduced", OPEN)  # its range reaches 1
    assert says(rule, study(made({"near": {}, "close": {}}, seeds=4)), **anywhere) == ("not reproduced", OPEN)  # four seeds cannot tell
    assert says(rule, study(made({"near": {}})), **anywhere) == ("not run", MISSING)


def test_one_of_many_studies_may_miss_a_claim_of_consistency_but_none_an_order() -> None:
    many = [study(made({"near": {}} if at else {"near": {"dev": 0.09}}, study={"study": f"s{at}", "dataset": "digits", "model": "cnn", "forget_share": 0.1}))
            for at in range(5)]
    rule, anywhere = Noise(("near",), ("retention_deviation",)), {"datasets": ("digits",), "models": ("cnn",)}
    assert verdicts.judged(claim(rule, **anywhere), many, {}).verdict == "reproduced"
    assert verdicts.judged(claim(rule, **anywhere), many[:4], {}).verdict == "not reproduced"
    held, open_one = ({"ga": {"retention_deviation": (value, value, value)}, "ft": {"retention_deviation": (0.05, 0.06, 0.07)}} for value in (0.1, 0.06))
    assert verdicts.judged(claim(ORDER), [*[study(cell(held))] * 9, study(cell(open_one))], VARIANTS).verdict == "not reproduced"


FT = {"ft": {"test_accuracy": (0.885, 0.89, 0.895), "balanced_accuracy": (0.5, 0.51, 0.52)}}
FIGURE = Figure("ft", "test_accuracy", 0.89, 0.01, None)


@pytest.mark.parametrize(("evidence", "setting", "kind"), [
    (study(cell(FT, dataset="digits")), {}, "dataset"),
    (study(cell(FT, model="cnn")), {}, "model"),
    (study(cell(FT)), {"datasets": None}, "dataset"),
    (study(cell(FT), images=4000.0), {}, "images"),
    (study(cell(FT), epochs=30.0), {"epochs": {"cifar10": 182}}, "epochs"),
    (study(cell(FT), epochs=NAN), {"epochs": {"cifar10": 182}}, "epochs"),
    (study(cell(FT, share=0.2)), {"forget_share": 0.1}, "forget_share"),
    (study(cell(FT)), {"scenario": "one class"}, "scenario"),
    (study(cell(FT), tuned=frozenset()), {"tuned": True}, "settings"),
    (study(cell(FT)), {"tuned": False}, "settings"),
    (study(cell(FT)), {"otherwise": ("another machine",)}, "otherwise"),
])
def test_another_setting_is_no_reproduction_however_well_it_agrees(evidence: Evidence, setting: dict[str, Any], kind: str) -> None:
    found = verdicts.judged(claim(FIGURE, **setting), [evidence], VARIANTS)
    assert found.verdict == "not comparable" and found.readings[0].state == HELD
    assert [difference.kind for difference in found.readings[0].differences] == [kind]


def test_the_setting_itself() -> None:
    setting = {"epochs": {"cifar10": 182}, "forget_share": 0.1, "tuned": True, "released": True}
    assert says(FIGURE, study(cell(FT)), **setting) == ("reproduced", HELD)
    attacked = Figure("ft", "balanced_accuracy", 0.51, 0.05, None)
    assert says(attacked, study(cell(FT)), epochs={"cifar10": 91})[0] == "reproduced"  # the epochs of the models that are attacked
    for outcome in ("failed", "too few models", "absent"):
        assert says(attacked, study(cell(FT), calibrated=outcome))[0] == "not comparable"
        assert says(FIGURE, study(cell(FT), calibrated=outcome))[0] == "reproduced"


def test_what_the_released_code_does() -> None:
    """Its variant where there is one and it ran; else what differs is said."""
    rule = Figure("msg", "test_accuracy", 0.89, 0.01, None)
    both = cell({"msg": {"test_accuracy": (0.7, 0.7, 0.7)}, "msg/official": {"test_accuracy": (0.885, 0.89, 0.895)}})
    assert says(rule, study(both), released=True) == ("reproduced", HELD)
    assert says(rule, study(both)) == ("not reproduced", AGAINST)
    found = verdicts.judged(claim(rule, released=True), [study(cell({"msg": {"test_accuracy": (0.89, 0.89, 0.89)}}))], VARIANTS)
    assert found.verdict == "not comparable" and found.readings[0].differences[0].kind == "variant"


def test_as_many_datasets_and_architectures_as_it_speaks_of() -> None:
    both = {"ga": {"retention_deviation": (0.1, 0.1, 0.1)}, "ft": {"retention_deviation": (0.05, 0.06, 0.07)}}
    one, other, third = study(cell(both)), study(cell(both, dataset="mnist")), study(cell(both, model="tinyvit11m"))
    for studies, verdict in (([one], "not comparable"), ([one, other], "not comparable"), ([one, other, third], "reproduced")):
        found = verdicts.judged(claim(ORDER, needs=(2, 2)), studies, VARIANTS)
        assert found.verdict == verdict and len(found.fitting) == len(studies)


def test_not_run_and_no_number() -> None:
    assert verdicts.judged(claim(None), [study(cell(FT))], VARIANTS).verdict == "no published number at hand"
    assert verdicts.judged(claim(Unmeasured("poisoned data")), [study(cell(FT))], VARIANTS).verdict == "not run"
    assert verdicts.judged(claim(FIGURE), [], VARIANTS).verdict == "not run"
    found = verdicts.judged(claim(Figure("unsir", "test_accuracy", 0.5, 0.1, None)), [study(cell(FT))], VARIANTS)
    assert found.verdict == "not run" and found.lacking == (("unsir", "test_accuracy"),)
    assert says(FIGURE, study(cell(FT, failed=("ft",)))) == ("not run", MISSING)  # the mean of the seeds that were left is none


def test_the_nearest_study_comes_first_and_the_fitting_one_decides() -> None:
    """The one of the setting contradicts; others agree and change nothing."""
    far, near = study(cell(FT, dataset="digits", model="cnn")), study(cell(FT, dataset="digits"))
    fitting = study(cell({"ft": {"test_accuracy": (0.6, 0.6, 0.6)}}))
    found = verdicts.judged(claim(FIGURE), [far, near, fitting], VARIANTS)
    assert found.verdict == "not reproduced" and [len(reading.differences) for reading in found.readings] == [0, 1, 2]


def test_attacks_beside_u_lira() -> None:
    rule = Order(Side(("ft",), "vulnerable", "ruli"), Side(("ft",), "random", "ruli"), 0.5)
    rows = {("ft", "corrected", "ruli", name): {"value": value, "lo": value - 0.01, "hi": value + 0.01}
            for name, value in (("vulnerable", 0.8), ("random", 0.6))}
    assert says(rule, study(cell(FT), attacks=rows)) == ("reproduced", HELD)
    assert says(rule, study(cell(FT), attacks=rows, calibrated="failed"))[0] == "not comparable"


def test_settings_of_studies_come_from_their_cells(tmp_path: Path) -> None:
    def run(run_id: str, kind: str, **content: Any) -> dict[str, Any]:
        return {"run_id": run_id, "kind": kind, "method": "ft" if kind == "search" else kind, "variant": "corrected", "status": "done",
                "cell": json.dumps(content)}

    runs = [run("s", "study"), run("a", "original", data={"pool": 4000}, recipe={"epochs": 50}), run("b", "original", data={}, recipe={"epochs": 20}),
            run("c", "search")]
    for row, role in zip(runs[1:], ("seeds", "u_lira", "search"), strict=True):
        records.write(tmp_path, records.Record(row["run_id"], {"runs": [row]}))
        runs[0].setdefault("members", []).append({"run_id": "s", "member": row["run_id"], "role": role, "method": row["method"]})
    members = runs[0].pop("members")
    records.write(tmp_path, records.Record("s", {"runs": [runs[0]], "members": members, "studies": [{"run_id": "s", "name": "s", "title": "", "content": ""}]}))
    ingest.ingest(tmp_path)
    with reader.open_results(None, tmp_path) as db:
        (row,) = verdicts.settings(db).to_dict("records")
        calibration = [{"method": "retrained", "outcome": "passed"}, {"method": "ft", "outcome": "failed"}]
        found = verdicts.evidence({"study": "s"}, row, cell(FT), [{"method": "ft", "variant": "corrected", "attack": "ruli", "name": None}], calibration)
    assert (found.images, found.epochs, found.attack_epochs, found.scenario) == (4000, 50, 20, reported.RANDOM)
    assert found.tuned == {("ft", "corrected")} and not found.attacks and found.calibrated == "passed"


def test_nothing_names_a_place_that_readers_do_not_have() -> None:
    for path in SHIPPED.glob("*.json"):
        assert not re.search(r"/(work|root|home|shared)/|spec/", path.read_text(encoding="utf-8")), path.name
