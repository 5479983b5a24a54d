"""Methods from outside: a file in a folder, or an installed package, is a method everywhere; a broken one is named."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from engine import registry, template
from engine.cli import main
from engine.data.splits import DataSpec
from engine.errors import BadInput
from engine.jobs.cells import Numeric
from engine.jobs.study import make_cell
from engine.train import Recipe

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder of plug-ins, empty; what a test announces is forgotten after it."""
    before = dict(registry.load())
    monkeypatch.setenv(registry.PLUGINS, str(tmp_path))
    yield tmp_path
    registry._methods.clear()
    registry._methods.update(before)
    for name in [name for name in sys.modules if name.startswith("lethe_plugins.")]:
        del sys.modules[name]


@pytest.mark.slow
def test_a_new_method_runs_as_it_is_everywhere(tmp_path: Path) -> None:
    """In processes of their own, as people call it."""
    environment = {**os.environ, "LETHE_HOME": str(tmp_path / "home"), "LETHE_DEVICE": "cpu", "OMP_NUM_THREADS": "1"}

    def engine(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([sys.executable, "-m", "engine", "--plugins", str(tmp_path / "mine"), *arguments], cwd=ROOT, env=environment,
                              capture_output=True, text=True, check=False)

    assert engine("new-method", "my_method").returncode == 0
    listed = {m["name"]: m for m in json.loads(engine("methods", "--json").stdout)}
    assert listed["my_method"]["label"] == "My method" and listed["my_method"]["plugin"] and not listed["ft"]["plugin"]
    made = engine("rerun", "my_method", "--dataset", "digits", "--model", "cnn", "--seed", "0", "--json")
    assert made.returncode == 0, made.stderr
    assert json.loads(made.stdout)["metrics"]["test_accuracy"] > 0.9
    again = engine("new-method", "my_method")
    assert again.returncode == 2 and "exists already" in again.stderr


def test_a_plugins_source_is_part_of_what_a_result_is(folder: Path) -> None:
    path = template.write("mine")
    numeric, data = Numeric(), DataSpec("digits", "seeds", None, None, 0)
    first = make_cell(data, "cnn", "mine", seed=0, recipe=Recipe(), numeric=numeric)
    del sys.modules["lethe_plugins.mine"], registry._methods["mine"]
    path.write_text(path.read_text(encoding="utf-8").replace("hp(0.01", "hp(0.02"), encoding="utf-8")
    changed = make_cell(data, "cnn", "mine", seed=0, recipe=Recipe(), params={"lr": 0.01}, numeric=numeric)
    assert changed.params == first.params and changed.run_id != first.run_id
    assert changed.retrained.run_id == first.retrained.run_id  # references do not depend on it


@pytest.mark.parametrize(("text", "says"), [
    ("import nothing_of_this_name", "broken.py, line 1: ModuleNotFoundError"),
    ("def f(:", "SyntaxError"),
    ("x = 1\ny = 1 / 0", "line 2: ZeroDivisionError"),
])
def test_a_broken_plugin_is_named_with_its_line(folder: Path, text: str, says: str, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "broken.py").write_text(text, encoding="utf-8")
    assert main(["methods"]) == 2
    printed = capsys.readouterr().err
    assert says in printed and "broken.py" in printed and "Traceback" not in printed


def test_a_name_that_is_taken_is_refused(folder: Path) -> None:
    (folder / "ft.py").write_text((ROOT / "engine" / "unlearn" / "ft.py").read_text(encoding="utf-8"), encoding="utf-8")
    with pytest.raises(BadInput, match="announces a method 'ft', and engine.unlearn.ft does already"):
        registry.load()


def test_a_folder_that_is_not_there_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(registry.PLUGINS, str(tmp_path / "nowhere"))
    with pytest.raises(BadInput, match="is not a folder"):
        registry.load()


@pytest.mark.parametrize(("name", "says"), [("ft", "already"), ("class", "small letters"), ("My-Method", "small letters"), ("retrained", "already")])
def test_new_method_refuses_names_that_cannot_be(folder: Path, name: str, says: str) -> None:
    with pytest.raises(BadInput, match=says):
        template.write(name)


def test_an_installed_package_offers_methods_by_an_entry_point(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = template.write("packaged")
    monkeypatch.delenv(registry.PLUGINS)
    monkeypatch.syspath_prepend(str(path.parent))
    entry = EntryPoint(name="packaged", value="packaged", group=registry.ENTRY_POINTS)
    monkeypatch.setattr("importlib.metadata.entry_points", lambda group: [entry] if group == registry.ENTRY_POINTS else [])
    registry._load_installed.cache_clear()
    assert registry.load()["packaged"].plugin
    registry._load_installed.cache_clear()
    del sys.modules["packaged"]
