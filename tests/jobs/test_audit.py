"""An audit of a file that somebody brings: printed, stored, found again, and as a report that stands alone."""

import json
from pathlib import Path

import numpy as np
import pytest

from engine.cli import main
from engine.errors import DataError
from engine.jobs import arrays, audit
from engine.metrics.epsilon import DELTA, most_of
from engine.store import ingest, reader, report


@pytest.fixture
def example(tmp_path: Path) -> Path:
    arrays.write_example(tmp_path / "mine.npz", splits=16, forget_sets=5, examples=500)
    return tmp_path / "mine.npz"


def test_from_the_command_line(example: Path, tmp_path: Path, lethe_home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = tmp_path / "report.html"
    assert main(["audit", str(example), "--report", str(made), "--json"]) == 0
    found, = json.loads(capsys.readouterr().out)
    ours = found["attacks"]["u_lira"]
    assert ours["ci"]["balanced_accuracy"][0] > 0.5 and set(ours["tpr_at_fpr"]) >= {"0.1", "0.01"} and 0.5 < ours["auc"] < 1
    assert set(found["attacks"]) == {"u_lira", "exposure", "versus_retrained", "ruli", "forgetting_quality", "klom", "u_lira/retrained",
                                     "exposure/retrained", "u_lira/original", "lira/original", "rmia/original"}
    assert found["calibration"] in ("passed", "too few models") and found["verdict"].startswith("A trace remains") and found["warnings"] == []
    assert found["epsilon"] == ours["epsilon"] and 0 <= ours["epsilon"]["lower_bound"] <= ours["epsilon"]["most"] == most_of(16)
    assert found["attacks"]["u_lira/original"]["epsilon"]["lower_bound"] > 0.2
    bounded = {"u_lira", "versus_retrained", "u_lira/retrained", "u_lira/original", "lira/original", "rmia/original"}
    assert {name for name, of in found["attacks"].items() if "epsilon" in of} == bounded and ours["epsilon"]["delta"] == DELTA
    by_class = [name for name in found["attacks"]["exposure"] if name.startswith("class_") and not name.endswith("_n_examples")]
    assert len(by_class) == 10 and set(by_class) <= set(found["attacks"]["exposure/retrained"]["ci"])
    assert {c["name"] for c in found["checks"]} == {"retrained_at_chance", "planted_shift", "shuffled_at_chance", "original_has_power"}
    text = made.read_text()
    assert "Epsilon at least" in text and f"<td>{ours['epsilon']['lower_bound']:.2f} ({ours['epsilon']['most']:.2f})</td>" in text
    assert "A trace remains" in text and "http" not in text.replace("http://www.w3.org", "") and "<script" not in text and not list(tmp_path.glob(".*part"))
    with reader.open_results(None, lethe_home) as db:
        rows = db.execute("SELECT attack, method, protocol FROM runs WHERE kind = 'attack'").fetchall()
        assert len(rows) == len(found["runs"]) == len(found["attacks"]) and {row[2] for row in rows} == {"audit"}
    assert main(["audit", str(example), "--json"]) == 0
    again, = json.loads(capsys.readouterr().out)
    assert again["attacks"] == found["attacks"] and again["runs"] == found["runs"]  # the file and the seed decide
    assert main(["audit", str(example)]) == 0
    said = capsys.readouterr().out
    assert "calibration:" in said and "epsilon at least" in said


def test_without_references_calibration_is_absent(example: Path, tmp_path: Path, lethe_home: Path) -> None:
    whole = arrays.read(example)
    phi, world, split = whole.of("unlearned")
    np.savez(tmp_path / "alone.npz", phi=phi, world=world, split=split)
    found = audit.audit(arrays.read(tmp_path / "alone.npz"), lethe_home)
    assert not [name for name in found["attacks"]["exposure"] if name.startswith("class_")]  # no labels in the file
    assert set(found["attacks"]) == {"u_lira", "exposure", "ruli"} and found["calibration"] == "absent" and "was not checked" in found["verdict"]


def test_what_cannot_be_attacked_is_said(tmp_path: Path, lethe_home: Path) -> None:
    phi, world = np.ones((2, 30)), np.tile(np.array([0, 1, -1]), 10)[None].repeat(2, 0)
    np.savez(tmp_path / "few.npz", phi=phi, world=world, split=np.array([0, 1]))
    with pytest.raises(DataError, match="3 or more splits, got 2"):
        audit.audit(arrays.read(tmp_path / "few.npz"), lethe_home)
    assert not list(lethe_home.glob("runs/*"))


@pytest.mark.parametrize(("arguments", "says"), [([], "no file given"), (["nowhere.npz"], "cannot be read"),
                                                 (["a.npz", "b.npz", "--report", "r.html"], "one file at a time")])
def test_bad_input(arguments: list[str], says: str, lethe_home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["audit", *arguments]) == 2
    assert says in capsys.readouterr().err


@pytest.mark.parametrize(("value", "lo", "hi", "shift", "outcome", "says"), [
    (0.5, 0.49, 0.51, 0.0, "passed", "No trace was found"), (0.6, 0.58, 0.62, 0.5, "passed", "not forgotten enough"),
    (0.6, 0.58, 0.62, -0.5, "passed", "forgotten too much"), (0.53, 0.48, 0.58, 0.2, "passed", "Undecided"),
    (0.6, 0.58, 0.62, 0.5, "failed", "Not to be believed"), (0.6, 0.58, 0.62, 0.5, "absent", "was not checked"),
    (0.6, 0.58, 0.62, 0.5, "too few models", "too few models to say"), (0.6, float("nan"), float("nan"), 0.5, "passed", "too few models for an interval"),
])
def test_verdicts(value: float, lo: float, hi: float, shift: float, outcome: str, says: str) -> None:
    rows = {"balanced_accuracy": {"value": value, "lo": lo, "hi": hi}, "shift": {"value": shift, "lo": shift, "hi": shift}}
    assert says in report.verdict(rows, outcome)
    assert "no unlearned models" in report.verdict({}, outcome)


def test_a_report_escapes_what_it_is_given(example: Path, lethe_home: Path) -> None:
    found = audit.audit(arrays.read(example), lethe_home, command="<b>&")
    ingest.ingest(lethe_home)
    with reader.open_results(None, lethe_home) as db:
        text = report.html("<script>", report.evidence(db, found["runs"]), note="<i>")
        assert "<script>" not in text and "<i>" not in text.replace("<i style", "").replace("<i class", "") and "&lt;b&gt;&amp;" in text
        with pytest.raises(Exception, match="no stored run"):
            report.evidence(db, ["nothing"])
