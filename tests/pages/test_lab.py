"""The Lab, with an engine that answers at once: the form, the estimate, and everything that can become of a job."""

import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from engine import queue
from pages.ui import setting
from tests.pages import synthetic
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


def started(lab: SimpleNamespace, seed: int) -> AppTest:
    app = once(lab.open(LAB, method="msg", seed=str(seed)), lambda a: any(b.label == "Start" for b in a.button))
    return button(app, "Start").click().run()


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
