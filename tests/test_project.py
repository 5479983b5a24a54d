"""Promises about the repository itself: what imports what, that generated pages are fresh, that shown commands exist."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGES_KNOW = ("pages.ui", "engine.store", "engine.queue", "engine.errors")


def tracked() -> list[Path]:
    """Files that git tracks, or would; outside a checkout everything but caches."""
    listed = subprocess.run(["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode == 0:
        return [path for name in listed.stdout.split("\0") if name and (path := ROOT / name).is_file()]
    parts = ("*.py", "*.md", "Makefile", "*.toml", "*.txt", ".ci/*", "*.yaml")
    return [path for part in parts for path in ROOT.rglob(part) if ".venv" not in path.parts]


def modules_after(statement: str) -> set[str]:
    """Top-level names of what is loaded in a fresh interpreter after `statement`."""
    code = f"{statement}\nimport sys\nprint(*sorted({{name.partition('.')[0] for name in sys.modules}}))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    return set(done.stdout.splitlines()[-1].split())


# ---- who imports whom, where import-linter does not look: at run time, and in app.py


def test_browsing_loads_no_torch() -> None:
    loaded = modules_after("import engine.errors, engine.queue, engine.store.queries, engine.store.ingest, pages.ui.page, pages.ui.charts, pages.ui.export")
    assert "streamlit" in loaded and not {"torch", "torchvision", "ray", "optuna"} & loaded


def test_a_worker_loads_no_database_and_no_app() -> None:
    loaded = modules_after("import engine.jobs.worker")
    assert "torch" in loaded and not {"duckdb", "streamlit", "optuna", "altair", "ray"} & loaded


def test_errors_and_queue_need_only_the_standard_library() -> None:
    assert modules_after("import engine.queue, engine.errors") - modules_after("") <= set(sys.stdlib_module_names) | {"engine"}


@pytest.mark.parametrize("script", ["app.py", *(f"pages/{path.name}" for path in sorted((ROOT / "pages").glob("[a-z]*.py")))])
def test_a_page_knows_of_us_only_what_it_may(script: str) -> None:
    """app.py is no package, so the import contracts do not see it."""
    ours = [name for name in imported(ROOT / script) if name.partition(".")[0] in ("engine", "pages", "bench", "docs")]
    assert ours and [name for name in ours if not any(name == known or name.startswith(f"{known}.") for known in PAGES_KNOW)] == []


def imported(path: Path) -> list[str]:
    """Dotted names that a file imports, `from a import b` as a.b."""
    found: list[str] = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            found += [f"{node.module}.{alias.name}" for alias in node.names]
    return found


# ---- pages and files


def test_generated_pages_are_fresh() -> None:
    done = subprocess.run([sys.executable, "-m", "docs.generate", "--check"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_bar_in_a_cell_does_not_end_it() -> None:
    from docs.generate import table

    assert table(("a",), [("x | y",)]).splitlines()[-1] == "| x \\| y |"


def test_readme_shows_only_make_targets_that_exist() -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    shown = set(re.findall(r"\bmake ([a-z]+)", code_of(ROOT / "README.md")))
    assert {"app", "test"} <= shown <= targets


def test_readme_shows_only_commands_that_exist(capsys: pytest.CaptureFixture[str]) -> None:
    from engine.cli import main

    shown = sorted(set(re.findall(r"python -m engine (?:--plugins \S+ )?([a-z-]+)", code_of(ROOT / "README.md"))))
    assert shown and [command for command in shown if main([command, "--help"]) != 0] == [], capsys.readouterr().err


def test_readme_names_only_files_that_exist() -> None:
    links = re.findall(r"\]\((?!https?:|#)([^)#]+)", (ROOT / "README.md").read_text(encoding="utf-8"))
    assert [link for link in links if not (ROOT / link).exists()] == []


def code_of(path: Path) -> str:
    """What stands in code blocks and between backticks: commands, not prose."""
    text = path.read_text(encoding="utf-8")
    return "\n".join(re.findall(r"```.*?```", text, re.DOTALL) + re.findall(r"`[^`\n]+`", text))


def test_no_file_names_a_folder_of_the_machine_it_was_made_on() -> None:
    """Neither this checkout's place nor anybody's home, in text or in what ships."""
    homes = rb"(?<![\w.~])/(?:root|home/\w+|Users/\w+)/"
    telling = re.compile(homes if len(ROOT.parts) < 3 else homes + b"|" + re.escape(str(ROOT).encode()) + rb"(?![\w.-])")
    named = [(str(path.relative_to(ROOT)), found.group()) for path in tracked() if (found := telling.search(path.read_bytes()))]
    assert [name for name in named if name[0] != "tests/test_project.py"] == []


def test_requirements_are_pinned_and_from_one_index() -> None:
    lines = [line for line in (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines() if line and not line.lstrip().startswith("#")]
    assert lines and all(re.match(r"[a-z0-9._-]+==[^ ]+( ; .+)?$", line) for line in lines)


def test_every_requirement_of_the_project_is_pinned() -> None:
    """pyproject.toml and requirements.txt were not changed apart; both ask for versions that agree."""
    import tomllib

    from packaging.requirements import Requirement
    from packaging.version import Version

    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    pins: dict[str, list[Version]] = {}
    for name, version in re.findall(r"^([a-z0-9._-]+)==([^ \n]+)", (ROOT / "requirements.txt").read_text(encoding="utf-8"), re.MULTILINE):
        pins.setdefault(name, []).append(Version(version))
    asked = [*project["dependencies"], *(need for extra in project["optional-dependencies"].values() for need in extra)]
    for need in map(Requirement, asked):
        assert pins.get(need.name.lower()), f"{need} is not in requirements.txt: make it anew, its first lines say how"
        assert all(version in need.specifier for version in pins[need.name.lower()]), need
