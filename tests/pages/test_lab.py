"""The Lab, with an engine that answers at once: the form, the estimate, and everything that can become of a job."""

import json
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import altair as alt
import pytest
from streamlit.testing.v1 import AppTest

from engine import queue
from pages.ui import charts, jobs, response, setting, sweep, theme
from pages.ui.response import Level, Point
from tests.pages import fake_engine, synthetic
from tests.pages.conftest import Shipped
from tests.pages.test_screens import said

LAB = "pages/lab.py"


@pytest.fixture
def lab(site: SimpleNamespace, full: Shipped, monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    monkeypatch.setattr(queue, "_COMMAND", [sys.executable, str(Path(__file__).with_name("fake_engine.py"))])
    site.ship(full)
    return site


def once(app: AppTest, condition: Any, seconds: float = 20.0) -> AppTest:
    """Run the page until it is so."""
    until = time.monotonic() + seconds
    while not condition(app):
        assert time.monotonic() < until, said(app)
        time.sleep(0.1)
        app.run()
        assert not app.exception
    return app


def button(app: AppTest, label: str) -> Any:
    return next(found for found in app.button if found.label == label)


def started(lab: SimpleNamespace, seed: int, **query: str) -> AppTest:
    app = once(lab.open(LAB, method="msg", seed=str(seed), **query), lambda a: any(b.label == "Start" for b in a.button))
    return button(app, "Start").click().run()


def left(home: Path, at: int, *, state: str = "done", **request: Any) -> str:
    """A job as it lies on disk when it is over; its id."""
    asked = {"kind": "rerun", "method": "msg", "variant": "corrected", "dataset": "digits", "model": "cnn", "seed": at,
             "params": synthetic.PARAMS["msg"], **request}
    job_id = f"20261121-{at:012d}-abcdef"
    folder = home / "jobs" / job_id
    folder.mkdir(parents=True)
    found = {**{name: asked[name] for name in asked if name != "kind"}, "run_id": f"{at:016x}",
             "metrics": {**fake_engine.METRICS, "test_accuracy": 0.9 + at / 100},
             "reused": False, "provenance": {}, "u_lira": {"balanced_accuracy": {"value": 0.5 + at / 100, "lo": 0.4, "hi": 0.6}}}
    for name, content in (("request", asked), ("status", {"state": state, "updated": float(at)}), ("result", found)):
        (folder / f"{name}.json").write_text(json.dumps(content), encoding="utf-8")
    return job_id


def names(app: AppTest) -> list[str]:
    """The runs in the list, as they are shown."""
    return [text.value.split("  ")[0].partition(": ")[2] for text in app.markdown if ":small[" in text.value]


def charted(app: AppTest) -> int:
    return len(app.get("arrow_vega_lite_chart") or app.get("vega_lite_chart"))


def test_form_is_what_the_method_declares(lab: SimpleNamespace) -> None:
    app = lab.open(LAB, method="msg")
    numbers = {widget.label: widget for widget in app.number_input}
    assert set(numbers) == {"Seed", "lr", "epochs", "batch", "share"}
    assert (numbers["lr"].value, numbers["lr"].min, numbers["lr"].max) == (0.08, 0.0, 10.0)  # the study's value, the method's bounds
    assert numbers["Seed"].value == 10  # the first that is not in the study
    assert [toggle.label for toggle in app.toggle] == ["nesterov"]
    assert next(box for box in app.selectbox if box.label == "reset").options == ["smallest", "random"]
    assert "Default: 0.01" in numbers["lr"].help and "SGD step size" in numbers["lr"].help


def test_settings_are_filled_in_and_told_apart(lab: SimpleNamespace) -> None:
    app = lab.open(LAB, method="msg")
    assert "The study's setting." in said(app)
    button(app, "Use the method's defaults").click().run()
    assert {n.label: n.value for n in app.number_input}["lr"] == 0.01
    assert "Not the study's setting: lr (0.01 instead of 0.08) and epochs (5 instead of 4)" in said(app)
    button(app, "Use the study's settings").click().run()
    assert {n.label: n.value for n in app.number_input}["lr"] == 0.08


def test_estimate_before_the_start(lab: SimpleNamespace) -> None:
    app = once(lab.open(LAB, method="msg"), lambda a: a.metric)
    assert app.metric[0].value == "12\u202fs"
    assert "original model: about 5.0\u202fs" in said(app) and "retrained model: stored" in said(app)
    assert "also scored by U-LiRA" in said(app)
    next(n for n in app.number_input if n.label == "lr").set_value(0.5).run()
    once(app, lambda a: "Only population attacks apply" in said(a))


def test_faults_are_said_in_place(lab: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the form does not catch, the engine does; nothing can be started then."""
    monkeypatch.setattr(setting, "of_study", lambda *_: {**synthetic.PARAMS["msg"], "epochs": 1})
    monkeypatch.setitem(setting._WIDGETS, "int", lambda param, key: 0 if param["name"] == "epochs" else 64)
    app = once(lab.open(LAB, method="msg"), lambda a: a.error)
    assert "msg.epochs: got 0" in app.error[0].value
    assert not any(b.label == "Start" for b in app.button)


def test_run_to_the_result_and_reload(lab: SimpleNamespace) -> None:
    app = once(started(lab, 4), lambda a: any(b.label == "Run it again" for b in a.button))
    text = said(app)
    assert "reaches 96.6\u202f% test accuracy, inside the range of the study's 10 seeds" in text
    assert "fresh target of U-LiRA" in text and "0.520 (0.440 to 0.600)" in text
    table = app.dataframe[0].value
    assert list(table.columns) == ["Metric", "Your run", "MSG, study", "Retrained"]
    assert table["Your run"].iloc[0] == "96.6\u202f%"
    job = app.query_params["job"]
    again = lab.open(LAB, job=job)  # a browser reload, or another browser, or the server restarted
    assert "reaches 96.6" in said(again)
    assert "Your runs" in said(again) and "MSG on Digits, small CNN, seed 4" in said(again)


def test_failure_says_why_and_can_be_repeated(lab: SimpleNamespace) -> None:
    app = once(started(lab, 7), lambda a: a.error)
    assert "Try a smaller lr" in app.error[0].value
    first = app.query_params["job"]
    button(app, "Try again").click().run()
    assert app.query_params["job"] != first
    once(app, lambda a: a.error)


def test_cancel(lab: SimpleNamespace) -> None:
    app = started(lab, 8)
    once(app, lambda a: any(b.label == "Cancel" for b in a.button))
    button(app, "Cancel").click().run()
    assert "Cancelled" in app.info[0].value
    assert queue.status(app.query_params["job"]).state == "cancelled"


def test_killed_worker(lab: SimpleNamespace) -> None:
    app = once(started(lab, 9), lambda a: a.error)
    assert "Lost" in app.error[0].value and "kept" in app.error[0].value


def test_unknown_job(lab: SimpleNamespace) -> None:
    app = lab.open(LAB, job="20260101-000000000000-abcdef")
    assert "no job" in app.warning[0].value and app.title[0].value == "What happens if I run it myself?"


def test_without_torch(lab: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    found = __import__("importlib.util").util.find_spec
    monkeypatch.setattr("importlib.util.find_spec", lambda name, *rest: None if name == "torch" else found(name, *rest))
    app = lab.open(LAB)
    assert "not installed" in app.warning[0].value and not any(b.label == "Start" for b in app.button)


def test_command_line_of_a_request() -> None:
    request = {"method": "msg", "dataset": "digits", "model": "cnn", "seed": 3, "variant": "corrected",
               "params": {"lr": 0.08, "epochs": 5, "nesterov": True, "reset": "random"}}
    assert setting.command(request, {"lr": 0.01, "epochs": 5, "nesterov": False, "reset": "smallest"}) == (
        "python -m engine rerun msg --dataset digits --model cnn --seed 3 --set lr=0.08 --set nesterov=true --set reset=random")


def test_other_dataset_has_no_study_to_compare(lab: SimpleNamespace) -> None:
    app = lab.open(LAB, dataset="fashion_mnist", model="resnet18")
    assert button(app, "Use the study's settings").disabled
    assert {n.label: n.value for n in app.number_input}["lr"] == 0.01  # the method's default


SWEEP = "lr=0.01:1:3"


def test_a_link_opens_the_form_of_a_sweep(lab: SimpleNamespace) -> None:
    app = once(lab.open(LAB, method="msg", sweep=SWEEP), lambda a: a.metric)
    numbers = {widget.label: widget.value for widget in app.number_input}
    assert (numbers["From"], numbers["To"], numbers["Values"]) == (0.01, 1.0, 3) and "lr" not in numbers  # one place to set it
    text = said(app)
    assert "**lr**: several values, chosen below" in text and "by factors" in text
    assert "**3 runs**, with lr at 0.01, 0.1 and 1" in text and "All others as in the study's setting" in text
    assert f"--sweep {SWEEP}" in app.code[0].value and "--set lr" not in app.code[0].value
    next(n for n in app.number_input if n.label == "Values").set_value(7).run()
    assert app.query_params["sweep"] == "lr=0.01:1:7"
    app.selectbox(key="sweep-msg").set_value(None).run()
    assert "sweep" not in app.query_params and {n.label: n.value for n in app.number_input}["lr"] == 0.08  # as it was before


def test_a_sweep_of_choices_offers_them_and_of_numbers_what_is_worth_trying(lab: SimpleNamespace) -> None:
    app = lab.open(LAB, method="msg")
    assert app.selectbox(key="sweep-msg").options == ["lr", "epochs", "batch", "share", "nesterov", "reset"]
    app.selectbox(key="sweep-msg").set_value("reset").run()
    assert app.multiselect(key="sweep-msg-reset-values").value == ["smallest", "random"]
    assert app.query_params["sweep"] == "reset=smallest,random"
    app.selectbox(key="sweep-msg").set_value("nesterov").run()
    assert app.query_params["sweep"] == "nesterov=false,true"
    app.selectbox(key="sweep-msg").set_value("epochs").run()
    assert app.query_params["sweep"] == "epochs=1:10:5"
    assert sweep._worth({"name": "a", "type": "float", "default": 0.5, "low": 0, "high": 1, "log": False, "search": (0, 1)}) == (0, 1)


def test_a_sweep_in_words() -> None:
    assert sweep.words(SWEEP) == "lr from 0.01 to 1"
    assert sweep.words("lr=0.0824760464,0.3,1e-05") == "lr = 0.08248, 0.3, 1e-05" and sweep.words("reset=smallest,random") == "reset = smallest, random"


@pytest.mark.parametrize("text", ["lr=", "lr=a:b:c", "nothing=1:2:3", "reset=other", "lr=1:2"])
def test_a_link_that_makes_no_sense_breaks_nothing(lab: SimpleNamespace, text: str) -> None:
    assert not lab.open(LAB, method="msg", sweep=text).exception


def test_a_sweep_to_the_result_with_one_value_diverged(lab: SimpleNamespace) -> None:
    app = once(started(lab, 4, sweep=SWEEP), lambda a: any(b.label == "Run it again" for b in a.button))
    text = said(app)
    assert "Test accuracy runs from 95.1\u202f% (lr = 0.01) to 96.0\u202f% (0.1); retraining has 96.6\u202f%" in text and "1 of 3 values diverged" in text
    table = app.dataframe[0].value
    assert list(table["lr"]) == ["0.01", "0.1", "1", "Retrained", "Original", "MSG, study"]
    assert list(table["State"])[:3] == ["", "", "diverged"] and table["Test acc. ↑"].iloc[2] == "–"
    assert "(" in table["Forget acc."].iloc[3]  # retrained, with the range over the study's seeds
    assert charted(app) == 4  # three metrics and the curves
    assert "dashed: the study's lr, and hollow what it found there" in text
    app.button_group(key="sweep-metrics").set_value(["image_passes"]).run()
    assert charted(app) == 2 and not app.exception
    again = lab.open(LAB, job=app.query_params["job"])
    assert "1 of 3 values diverged" in said(again) and "seed 4, lr from 0.01 to 1" in names(again)[0]


def test_a_sweep_of_which_nothing_is_left_says_so(lab: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    found = fake_engine.swept({"method": "msg", "variant": "corrected", "dataset": "digits", "model": "cnn", "seed": 1, "params": {}})
    lost = {**found, "points": [{**point, "status": "diverged", "metrics": {}} for point in found["points"]]}
    job = left(lab.home, 1, sweep=SWEEP)
    (lab.home / "jobs" / job / "result.json").write_text(json.dumps(lost), encoding="utf-8")
    app = lab.open(LAB, job=job)
    assert "All of 3 values diverged" in said(app) and "Every value diverged" in app.error[0].value and not app.exception


def test_a_running_sweep_shows_a_line_a_value_and_can_be_cancelled(lab: SimpleNamespace) -> None:
    app = once(started(lab, 8, sweep=SWEEP), lambda a: charted(a) > 0)
    button(app, "Cancel").click().run()
    assert "Cancelled" in app.info[0].value
    assert {point["of"] for point in queue.curve(app.query_params["job"])} == {0.01, 0.1, 1.0}
    assert queue.status(app.query_params["job"]).request["sweep"] == SWEEP  # which another try asks for again


def test_a_clone_is_the_form_with_the_request(lab: SimpleNamespace) -> None:
    params = {**synthetic.PARAMS["msg"], "lr": 0.5, "reset": "random"}
    job = left(lab.home, 12, params=params, state="failed")
    app = lab.open(LAB, job=job)
    button(app, "Clone").click().run()
    assert app.query_params["clone"] == job and "job" not in app.query_params
    numbers = {widget.label: widget for widget in app.number_input}
    assert (numbers["lr"].value, numbers["Seed"].value) == (0.5, 12)
    assert next(box for box in app.selectbox if box.label == "reset").value == "random"
    numbers["lr"].set_value(0.3).run()
    assert {n.label: n.value for n in app.number_input}["lr"] == 0.3  # filled once, then one's own
    fresh = lab.open(LAB, clone=job)  # the link, in another browser
    assert {n.label: n.value for n in fresh.number_input}["lr"] == 0.5
    fresh = once(fresh, lambda a: any(b.label == "Start" for b in a.button))
    button(fresh, "Start").click().run()
    assert "clone" not in fresh.query_params and queue.status(fresh.query_params["job"]).request["params"] == params


def test_a_clone_of_a_sweep_is_a_sweep(lab: SimpleNamespace) -> None:
    job = left(lab.home, 3, sweep="share=0.1:0.9:5", params={"lr": 0.2}, dataset="fashion_mnist")
    app = lab.open(LAB, clone=job)
    numbers = {widget.label: widget.value for widget in app.number_input}
    assert (numbers["From"], numbers["To"], numbers["Values"], numbers["lr"]) == (0.1, 0.9, 5, 0.2)
    assert app.query_params["dataset"] == "fashion_mnist"
    other = left(lab.home, 4, method="ft", params=synthetic.PARAMS["ft"])
    app.run()
    app.button(key=f"clone-{other}").click().run()  # from the list: a single run of another method
    assert app.query_params["method"] == "ft" and app.query_params["dataset"] == "digits" and "sweep" not in app.query_params


@pytest.mark.parametrize(("link", "says"), [("20260101-000000000000-abcdef", "no job"), ("of a plug-in", "is its plug-in there?")])
def test_a_clone_that_cannot_be_is_told(lab: SimpleNamespace, link: str, says: str) -> None:
    app = lab.open(LAB, clone=left(lab.home, 1, method="mine") if link == "of a plug-in" else link)
    assert says in app.warning[0].value and not app.exception


def test_finished_runs_stand_side_by_side(lab: SimpleNamespace) -> None:
    first, second = left(lab.home, 1), left(lab.home, 2, method="ft", params=synthetic.PARAMS["ft"])
    left(lab.home, 3, state="failed")
    left(lab.home, 4, sweep=SWEEP)
    app = lab.open(LAB)
    boxes = {box.key: box for box in app.checkbox}
    assert [box.disabled for box in boxes.values()] == [True, True, False, False]  # neither a failed one nor a sweep
    assert button(app, "Compare the chosen").disabled
    boxes[f"pick-{first}"].check()
    boxes[f"pick-{second}"].check().run()
    button(app, "Compare the chosen").click().run()
    assert app.query_params["jobs"] == f"{second},{first}"
    table = app.dataframe[0].value
    assert list(table.columns) == ["", "A: FT", "B: MSG", "FT, study", "MSG, study", "Retrained"]
    by_name = table.set_index("")
    assert list(by_name.index[:3]) == ["Method", "Seed", "lr"] and "batch" not in by_name.index  # what is the same is left out
    assert by_name.loc["share", "A: FT"] == "–" and by_name.loc["lr", "MSG, study"] == "0.08"
    assert by_name.loc["Test acc. ↑", "B: MSG"] == "91.0\u202f%" and by_name.loc["U-LiRA → ½", "B: MSG"] == "0.510 (0.400 to 0.600)"
    assert "differ in method, seed, lr" in said(app) and "from 91.0\u202f% to 92.0\u202f%" in said(app)
    button(app, "Plan another").click().run()
    assert "jobs" not in app.query_params and any(b.label == "Use the method's defaults" for b in app.button)


def test_a_comparison_is_a_link_and_leaves_out_what_cannot_stand_in_it(lab: SimpleNamespace) -> None:
    fine, other, swept = left(lab.home, 1), left(lab.home, 2, dataset="fashion_mnist"), left(lab.home, 3, sweep=SWEEP)
    app = lab.open(LAB, jobs=f"{fine},{other},{swept},20260101-000000000000-abcdef")
    assert len(app.warning) == 2 and "left out" in app.warning[0].value + app.warning[1].value
    assert {"MSG, study, Digits, small CNN", "Retrained, FashionMNIST, small CNN"} <= set(app.dataframe[0].value.columns)


def test_every_run_can_be_reached_and_found(lab: SimpleNamespace) -> None:
    for at in range(1, 13):
        left(lab.home, at, **({"state": "failed", "method": "ft", "params": {}} if at in (2, 5) else {}))
    app = lab.open(LAB)
    assert len(names(app)) == 8 and names(app)[0].endswith("seed 12")
    button(app, "Show more").click().run()
    assert len(names(app)) == 12 and not any(b.label == "Show more" for b in app.button)
    app.multiselect(key="jobs-states").set_value(["failed"]).run()
    assert names(app) == ["FT on Digits, small CNN, seed 5", "FT on Digits, small CNN, seed 2"]
    app.multiselect(key="jobs-methods").set_value(["msg"]).run()
    assert names(app) == [] and "None of this kind." in said(app)


def test_runs_of_one_method_are_told_apart_by_their_settings(lab: SimpleNamespace) -> None:
    left(lab.home, 1, params={"lr": 0.5, "epochs": 5})
    assert any("done" in text.value and "lr = 0.5" in text.value and "epochs" not in text.value for text in lab.open(LAB).markdown)


def test_a_device_is_a_choice_where_there_are_two(lab: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "Runs on" not in {group.label for group in once(lab.open(LAB, method="msg"), lambda a: a.metric).button_group}
    monkeypatch.setenv("FAKE_DEVICES", "cpu,cuda")
    app = once(lab.open(LAB, method="msg", seed="3"), lambda a: any(group.label == "Runs on" for group in a.run().button_group))
    next(group for group in app.button_group if group.label == "Runs on").set_value("cpu").run()
    assert app.query_params["device"] == "cpu" and "--device cpu" in app.code[0].value


def test_the_report_holds_request_result_and_curves(lab: SimpleNamespace) -> None:
    job = left(lab.home, 1)
    now, found = queue.status(job), queue.result(job)
    assert found is not None
    document = json.loads(jobs.report(now, found))
    assert document["request"]["seed"] == 1 and document["result"]["metrics"]["test_accuracy"] == 0.91 and document["curve"] == []
    assert any(element.label == "Report" for element in lab.open(LAB, job=job).get("download_button"))


@pytest.mark.parametrize("style", [theme.LIGHT, theme.DARK, theme.PAPER])
def test_the_charts_of_a_sweep_are_valid(style: theme.Style) -> None:
    levels = [Level("retrained", 0.97, 0.96, 0.98), Level("original", 0.99, 0.99, 0.99)]
    points = [Point(0.01, 0.9, "a"), Point(0.1, 0.95, "b"), Point(1.0, float("nan"), "c")]
    panels = [response.response(points, levels, style, "test_accuracy", parameter="lr", log=True, colour="#9467bd", study=0.08, theirs=levels[0]),
              response.response([Point("smallest", 20.0, "a"), Point("random", 30.0, "b")], levels[:1], style, "image_passes", parameter="reset",
                                log=False, colour="#9467bd"),
              response.courses([{"epoch": e, "name": "loss", "value": v, "of": of} for e in (0, 1) for of, v in ((0.1, 1.0), (1.0, 1e9))], style,
                               parameter="lr")]
    for panel in panels:
        alt.Chart.from_dict(charts.dressed(panel, style), validate=True)
    swept = panels[0]
    assert [layer["data"]["values"][0]["about"] for layer in swept["layer"] if layer["mark"].get("shape") == "cross"] == ["lr = 1: diverged"]
    assert swept["layer"][-1]["encoding"]["x"]["axis"]["values"] == [0.01, 0.1, 1.0]  # a tick at each value
    assert panels[2]["layer"][0]["encoding"]["y"]["scale"]["type"] == "log"  # one value that diverges does not flatten the others
