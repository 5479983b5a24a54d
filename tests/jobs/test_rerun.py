"""A rerun: planned, computed once, found again; with settings of a stored study also attacked as a fresh target."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from engine.cli import main
from engine.errors import BadInput
from engine.jobs import catalogue, home, rerun, sweep
from engine.jobs.study import Study
from engine.jobs.study import read as read_study
from engine.train import Recipe

STUDY = """
name: small
data: {dataset: digits, pool: 300}
model: cnn
recipe: {epochs: 2, batch: 32}
seeds: {count: 1}
u_lira: {splits: 4, forget_sets: 2, mode: fast}
methods:
  ft: {set: {batch: 32, epochs: 1}}
"""
METRICS = {"retain_accuracy", "forget_accuracy", "val_accuracy", "test_accuracy", "retention_deviation", "mia_val", "mia_test", "indiscernibility",
           "rte", "unlearn_s", "image_passes"}


@pytest.fixture
def small(tmp_path: Path, lethe_home: Path, monkeypatch: pytest.MonkeyPatch) -> Study:
    (tmp_path / "studies").mkdir()
    (tmp_path / "studies" / "small.yaml").write_text(STUDY)
    monkeypatch.setattr("engine.jobs.home.STUDIES", tmp_path / "studies")
    return read_study(tmp_path / "studies" / "small.yaml")[0]


def asked(json_out: str) -> dict[str, object]:
    return json.loads(json_out)


@pytest.mark.slow
def test_rerun_prints_the_contract_and_is_found_again(small: Study, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["rerun", "ft", "--dataset", "digits", "--model", "cnn", "--seed", "0", "--set", "batch=32", "--set", "epochs=1", "--json"]
    assert main([*arguments, "--plan"]) == 0
    plan = asked(capsys.readouterr().out)
    needs = {n["what"]: n["stored"] for n in plan["needs"]}  # type: ignore[attr-defined, index]
    assert isinstance(plan["seconds"], float) and needs["retrained model of seed 0"] is False
    assert main(arguments) == 0
    first = asked(capsys.readouterr().out)
    assert set(first) >= {"run_id", "method", "variant", "dataset", "model", "seed", "params", "metrics", "provenance"}
    assert isinstance(first["metrics"], dict) and set(first["metrics"]) >= METRICS and first["reused"] is False
    assert first["metrics"]["rte"] == pytest.approx(first["metrics"]["retrain_s"] / first["metrics"]["unlearn_s"])
    assert main(arguments) == 0
    again = asked(capsys.readouterr().out)
    assert again["reused"] is True and again["metrics"] == first["metrics"]
    assert main([*arguments, "--no-store"]) == 0
    afresh = asked(capsys.readouterr().out)
    assert isinstance(afresh["metrics"], dict)
    measured = METRICS - {"rte", "unlearn_s"}
    assert {m: afresh["metrics"][m] for m in measured} == {m: first["metrics"][m] for m in measured}  # bit for bit
    assert main(["verify", "--cells", "3", "--json"]) == 0
    checked = asked(capsys.readouterr().out)
    assert checked["checked"] == checked["equal"] == 3 and checked["different"] == []


@pytest.mark.slow
def test_settings_of_a_stored_study_are_attacked_on_a_fresh_target(small: Study, lethe_home: Path) -> None:
    from engine.jobs import driver

    assert driver.Driver(small, workers=1, fresh=True, quiet=True).run().failed == 0
    same = rerun.ask("ft", "digits", "cnn", 3, params={"batch": 32, "epochs": 1})
    assert same.shadows is not None and rerun.estimate(same)["u_lira"] is True
    found = rerun.rerun(same)["u_lira"]
    assert found["split"] == 10_003 and 0 <= found["balanced_accuracy"]["lo"] <= found["balanced_accuracy"]["hi"] <= 1
    assert 0 < found["n_forgotten"] <= 15 and 0 < found["n_never"] <= 150  # those that the few shadows have Gaussians for
    other = rerun.ask("ft", "digits", "cnn", 3, params={"batch": 32, "epochs": 2})
    assert other.shadows is None and "epochs=1" in other.why_no_shadows


def test_a_rerun_follows_the_pool_and_recipe_of_the_stored_study(small: Study) -> None:
    cell = rerun.ask("ft", "digits", "cnn", 0).cell
    assert cell.data.pool == 300 and dict(cell.recipe) == replace(Recipe(), epochs=2, batch=32).to_dict()


def test_a_rerun_follows_the_study_that_is_named(small: Study, tmp_path: Path) -> None:
    (tmp_path / "studies" / "z.yaml").write_text(STUDY.replace("small", "other").replace("pool: 300", "pool: 200, forget_share: 0.2"))
    asked = rerun.ask("ft", "digits", "cnn", 0, study="other")
    assert (asked.cell.data.pool, asked.cell.data.forget_share) == (200, 0.2) and "--study other" in rerun.command(asked)
    assert "--study" not in rerun.command(rerun.ask("ft", "digits", "cnn", 0))
    with pytest.raises(BadInput, match="no study named 'mine' on digits with cnn; there are: .*small"):
        rerun.ask("ft", "digits", "cnn", 0, study="mine")


@pytest.mark.slow
def test_a_sweep_is_one_rerun_a_value_and_the_others_stand_where_one_diverges(small: Study, lethe_home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    what = ["rerun", "ft", "--dataset", "digits", "--model", "cnn", "--seed", "0", "--set", "batch=32", "--set", "epochs=1"]
    assert main([*what, "--sweep", "lr=0.01,0.1,10", "--plan", "--json"]) == 0
    plan = asked(capsys.readouterr().out)
    assert plan["sweep"] == {"name": "lr", "log": True, "values": [0.01, 0.1, 10.0]}
    assert [n["what"] for n in plan["needs"]][-3:] == ["ft with lr = 0.01", "ft with lr = 0.1", "ft with lr = 10"]  # type: ignore[index, attr-defined]
    heard: list[tuple[object, int, str]] = []
    others = {"batch": 32, "epochs": 4, "weight_decay": 1.0}
    swept = sweep.ask("ft", "digits", "cnn", 0, "lr=0.01,0.1,10", params=others)
    found = sweep.run(swept, heard=lambda value, epoch, name, mean: heard.append((value, epoch, name)))
    assert heard == [(value, epoch, "loss") for epoch in range(4) for value in (0.01, 0.1, 10.0)]
    assert [point["status"] for point in found["points"]] == ["done", "done", "diverged"] and not found["points"][2]["metrics"]
    assert set(found["references"]) == {"retrained", "original"} and "unlearn_s" not in found["points"][0]["metrics"]
    alone = rerun.ask("ft", "digits", "cnn", 0, params={**others, "lr": 0.1})
    assert found["points"][1]["run_id"] == alone.cell.run_id  # an ordinary run, which a rerun of that value finds
    fresh, stored = rerun.rerun(alone, store=False)["metrics"], found["points"][1]["metrics"]
    assert all(fresh[name] == stored[name] for name in METRICS - {"rte", "unlearn_s"})  # bit for bit, though it shared a stack
    again = sweep.run(swept)
    assert [point["reused"] for point in again["points"]] == [True] * 3 and again["points"][2]["status"] == "diverged"
    assert "lr=0.01,0.1,10.0" in again["provenance"]["command"] and "diverged" in sweep.text(again)
    assert home.Known.here().finished(found["points"][2]["run_id"])  # the failure is on record


@pytest.mark.parametrize(("method", "given", "values"), [
    ("ft", "lr=0.001:0.1:5", [0.001, 0.00316, 0.01, 0.0316, 0.1]), ("ng_plus", "alpha=0.1:0.9:3", [0.1, 0.5, 0.9]), ("ft", "epochs=1:3:9", [1, 2, 3]),
    ("ft", "batch=64,256", [64, 256])])
def test_values_are_spaced_as_the_parameter_is_declared(small: Study, method: str, given: str, values: list[float]) -> None:
    assert sweep.ask(method, "digits", "cnn", 0, given).values == values


@pytest.mark.parametrize(("arguments", "says"), [
    (["rerun", "ft", "--dataset", "digits", "--model", "cnn", "--seed", "0", "--sweep", "lr=0:20:12", "--set", "epochs=0"],
     ["--sweep lr: got 12 values, must be int in [2, 9]", "must begin above 0", "ft.epochs: got 0"]),
    (["rerun", "ft", "--dataset", "digits", "--model", "cnn", "--seed", "0", "--sweep", "lr=1:20:3", "--set", "lr=1"],
     ["ft.lr: got 20.0, must be float in [0, 10]", "lr: given by --set and by --sweep"]),
    (["rerun", "ft", "--dataset", "digits", "--model", "cnn", "--seed", "0", "--sweep", "rate=1:2:3"], ["ft has no parameter 'rate'; it has: lr"]),
    (["rerun", "ft", "--dataset", "digits", "--model", "cnn", "--seed", "0", "--sweep", "lr=1:2"], ["must be NAME=LOW:HIGH:COUNT, two numbers"]),
    (["rerun", "ft", "--dataset", "digits", "--model", "cnn", "--seed", "0", "--sweep", "lr"], ["must be NAME=LOW:HIGH:COUNT or NAME=VALUE"]),
    (["rerun", "ft", "--dataset", "digits", "--model", "cnn", "--seed", "0", "--sweep", "lr=0.1,0.1"], ["is one value"]),
    (["rerun", "ft", "--dataset", "digits", "--model", "cnn", "--seed", "0", "--sweep", "lr=0.1,0.2", "--no-store"], ["the runs of a sweep are recorded"]),
    (["rerun", "retrained", "--dataset", "digits", "--model", "cnn", "--seed", "0", "--sweep", "lr=0.1,0.2"], ["retrained has no hyper-parameters"]),
    (["rerun", "ng_plus", "--dataset", "digits", "--model", "cnn", "--seed", "0", "--set", "alpha=1.4", "--set", "epochs=0"],
     ["ng_plus.epochs: got 0, must be int in [1, 1000] (walks over retain)", "ng_plus.alpha: got 1.4, must be float in [0, 1] (weight of the retain loss)"]),
    (["rerun", "ng_pluss", "--dataset", "digit", "--model", "cn", "--seed", "-1"],
     ["did you mean 'ng_plus'?", "did you mean 'digits'?", "did you mean 'cnn'?", "seed: got -1"]),
    (["rerun", "ft", "--dataset", "digits", "--model", "resnet18", "--seed", "0", "--no-store"], ["resnet18 needs images of 3 channels"]),
    (["rerun", "ft", "--dataset", "digits", "--model", "cnn", "--seed", "0", "--set", "lr"], ["--set lr: must be NAME=VALUE"]),
    (["study", "run", "nowhere.yaml"], ["nowhere.yaml: cannot be read"]),
    (["verify", "--cells", "0"], ["--cells: got 0"]),
    (["leaderboard", "--metric", "nonsense"], ["no metric named 'nonsense'"]),
    (["search", "show", "--study", "nothing"], ["no search of study 'nothing'"]),
])
def test_bad_input_is_one_message_and_exit_code_2(arguments: list[str], says: list[str], lethe_home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 2
    printed = capsys.readouterr()
    assert printed.out == "" and "Traceback" not in printed.err
    for part in says:
        assert part in printed.err


@pytest.mark.parametrize("kind", ["methods", "datasets", "models", "attacks", "scenarios"])
def test_what_exists_is_one_json_document(kind: str, lethe_home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([kind, "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert rows == json.loads(json.dumps(catalogue.build()[kind]))
    assert all({"name", "label"} <= set(row) for row in rows)
    assert json.loads((lethe_home / "catalogue.json").read_text(encoding="utf-8"))[kind] == rows  # where the app reads it


def test_an_unusable_device_is_refused(lethe_home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("LETHE_DEVICE", "tpu")
    assert main(["rerun", "ft", "--dataset", "digits", "--model", "cnn", "--seed", "0"]) == 2
    assert "must be cpu, cuda or auto" in capsys.readouterr().err


@pytest.mark.parametrize("content", [b"", b"not a database", b"\x00" * 5000])
def test_a_damaged_results_file_is_one_message(content: bytes, tmp_path: Path, lethe_home: Path, monkeypatch: pytest.MonkeyPatch,
                                               capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "bad.duckdb").write_bytes(content)
    monkeypatch.setattr("engine.jobs.home.SHIPPED", tmp_path / "bad.duckdb")
    assert main(["leaderboard"]) == 2
    printed = capsys.readouterr()
    assert "bad.duckdb" in printed.err and "Traceback" not in printed.err and printed.out == ""


def test_a_home_that_cannot_be_written_is_one_message(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("LETHE_HOME", str(tmp_path / "file" / "home"))
    assert main(["doctor"]) == 1
    assert "Not a directory" in capsys.readouterr().err
