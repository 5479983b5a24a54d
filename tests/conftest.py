"""One thread a process, a LETHE_HOME of its own for every test that asks for one, and what a marked test needs to run."""

import os
import shutil
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

torch.set_num_threads(1)


@pytest.fixture
def lethe_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty LETHE_HOME; nothing that ships counts as done."""
    home = tmp_path / "home"
    monkeypatch.setenv("LETHE_HOME", str(home))
    monkeypatch.setenv("LETHE_DEVICE", "cpu")
    monkeypatch.setattr("engine.jobs.home.SHIPPED", tmp_path / "none.duckdb")
    monkeypatch.setattr("engine.jobs.home.CHECKPOINTS", tmp_path / "checkpoints")
    return home


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip, with the reason, tests whose marker names something that is not here."""
    browser = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)
    missing = {"data": None if os.environ.get("LETHE_DATA") else "LETHE_DATA is not set: no real images here",
               "browser": None if browser else "no Chromium or Chrome on the PATH",
               "gpu": None if torch.cuda.is_available() else "no CUDA device",
               "ray": None if find_spec("ray") else "Ray is not installed: make test-ray does it"}
    for item in items:
        for marker, reason in missing.items():
            if reason and item.get_closest_marker(marker):
                item.add_marker(pytest.mark.skip(reason=reason))
