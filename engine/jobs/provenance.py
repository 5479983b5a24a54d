"""How a number came to be: commit, versions, machine, command. Never part of a cell's identity."""

import json
import os
import platform
import subprocess
import sys
from datetime import UTC, datetime
from functools import lru_cache
from importlib import metadata
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
LIBRARIES = ("torch", "torchvision", "numpy", "scikit-learn", "pandas")


@lru_cache(maxsize=1)
def source() -> dict[str, Any]:
    """commit and whether the tree was clean; null outside a checkout."""

    def git(*arguments: str) -> str | None:
        try:
            done = subprocess.run(["git", "-C", str(ROOT), *arguments], capture_output=True, text=True, timeout=20, check=False)
        except (OSError, subprocess.TimeoutExpired):
            return None
        return done.stdout.strip() if done.returncode == 0 else None

    commit = git("rev-parse", "HEAD")
    changes = git("status", "--porcelain", "--", "engine")
    return {"commit": commit, "clean": None if commit is None or changes is None else not changes}


@lru_cache(maxsize=1)
def versions() -> str:
    """JSON of the versions that numbers may depend on."""
    found = {"python": platform.python_version()}
    for library in LIBRARIES:
        try:
            found[library] = metadata.version(library)
        except metadata.PackageNotFoundError:
            continue
    return json.dumps(found, sort_keys=True)


@lru_cache(maxsize=4)
def machine(device: str) -> str:
    """Processor, cores, and the accelerator where one is used."""
    name = f"{_processor()}, {os.cpu_count()} cores, {platform.system()} {platform.machine()}"
    if device == "cuda":
        import torch

        name += f", {torch.cuda.get_device_name()}"
    return name


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def now() -> str:
    """UTC, ISO format without offset."""
    return datetime.now(UTC).replace(tzinfo=None).isoformat(timespec="milliseconds")


def command_line() -> str:
    """The command this process was started with, as a person would type it."""
    return "python -m engine " + " ".join(sys.argv[1:])
