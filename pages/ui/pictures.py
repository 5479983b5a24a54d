"""Pictures of single examples, as addresses that hold the whole picture; fetched in the background by a process that may load the data."""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import Future
from importlib.util import find_spec
from typing import Any

import streamlit as st

from engine.errors import RunError
from pages.ui.asker import Asker
from pages.ui.store import ROOT

Pictures = dict[int, str]  # example -> `data:image/png;base64,…`
Waiting = Future[Pictures]
MISSING = "Pictures need the engine's libraries, which are not installed here (`make setup` installs them)."
_PATIENCE_S = 120


def fetch(request: dict[str, Any]) -> Pictures:
    """The pictures of request["examples"] in request["dataset"]. Nothing is downloaded for it. Raises: RunError with the reason."""
    command = [sys.executable, "-m", "engine.data.thumbnails", request["dataset"], *map(str, request["examples"])]
    try:
        ran = subprocess.run(command, cwd=ROOT, env={**os.environ, "LETHE_OFFLINE": "1", "OMP_NUM_THREADS": "1"}, stdin=subprocess.DEVNULL,
                             capture_output=True, text=True, timeout=_PATIENCE_S, check=False)
    except subprocess.TimeoutExpired as error:
        raise RunError(f"the data could not be read within {_PATIENCE_S} s; the machine may be busy") from error
    except OSError as error:
        raise RunError(f"the engine could not be started: {error.strerror or error}") from error
    if ran.returncode:
        raise RunError((ran.stderr.strip().splitlines() or [f"exit code {ran.returncode}"])[-1])
    return {int(example): f"data:image/png;base64,{picture}" for example, picture in json.loads(ran.stdout).items()}


@st.cache_resource(show_spinner=False)
def asker() -> Asker[Pictures]:
    return Asker(fetch)


def ask(dataset: str, examples: Sequence[int], attempt: int = 0) -> Waiting | None:
    """The pictures, now or later; None where they cannot be had at all. attempt: another number asks anew."""
    if find_spec("torch") is None:  # asked for without importing it
        return None
    return asker().ask({"dataset": dataset, "examples": sorted(examples)}, attempt)
