"""The sentences: right for each way the data can be, and silent where the data do not say it."""

from typing import Any

import pytest

from pages.ui import findings, formats
from pages.ui.theme import looks
from tests.pages import synthetic

LOOKS = looks(synthetic.catalogue()["methods"])
NAN = float("nan")


def row(method: str, leak: float = NAN, kept: float = NAN, speed: float = NAN, reach: float = 0.01, mia: float = 0.5) -> dict[str, Any]:
    found: dict[str, Any] = {"method": method, "variant": "corrected", "unlearn_s": 6 / speed, "retrain_s": 6.0, "mia_test": mia}
    for name, value, half in (("balanced_accuracy", leak, reach), ("test_retention", kept, reach), ("rte", speed, 0.1)):
        found |= {name: value, f"{name}_lo": value - half, f"{name}_hi": value + half}
    return found


RETRAINED, ORIGINAL = row("retrained", 0.50, 1.0, 1.0), row("original", 0.66, 1.0)


def test_one_winner() -> None:
    rows = [RETRAINED, ORIGINAL, row("msg", 0.505, 0.99, 20), row("ft", 0.60, 0.95, 10)]
    assert findings.overview(rows, LOOKS).startswith("**MSG** is among the best on every goal.")
    assert findings.compare(rows, LOOKS).endswith("On the means **MSG** is best on all three goals.")


def test_who_is_beaten() -> None:
    rows = [RETRAINED, row("msg", 0.505, 0.99, 20), row("ft", 0.60, 0.995, 10), row("ga", 0.62, 0.98, 15), row("srl", 0.61, 0.97, 5)]
    assert findings.compare(rows, LOOKS).endswith("GA and SRL are beaten on all three goals; between the others it is a trade.")
    assert findings.compare(rows[:3], LOOKS).endswith("On the means no method beats another on all three goals: each is a trade.")


def test_ties_are_said() -> None:
    rows = [RETRAINED, row("msg", 0.55, 0.990, 20), row("ft", 0.56, 0.985, 10), row("ga", 0.64, 0.90, 40)]
    assert "**MSG** leaks least (FT too close to tell)" in findings.privacy(rows, LOOKS)
    assert "Every method here leaks more than retraining." in findings.privacy(rows, LOOKS)
    assert "**MSG** keeps most (FT too close to tell)" in findings.accuracy(rows, LOOKS)
    assert findings.speed(rows, LOOKS) == "**GA** is fastest: 40.0× as fast as retraining, 0.15\u202fs instead of 6.0\u202fs."


def test_both_sides_of_one_half_leak() -> None:
    """An attack that is wrong more often than right tells as much."""
    found = findings.leaders([row("msg", 0.40), row("ft", 0.57)], "balanced_accuracy")
    assert found and found.best["method"] == "ft" and not found.tied
    assert not findings.hides(row("msg", 0.40), RETRAINED)


def test_hiding_is_reaching_one_half_or_the_retrained_models() -> None:
    assert findings.hides(row("msg", 0.509), None)
    assert findings.hides(row("msg", 0.53), row("retrained", 0.515))
    assert not findings.hides(row("msg", 0.53), RETRAINED)
    assert "**MSG** cannot be told from retraining" in findings.privacy([RETRAINED, row("msg", 0.505), row("ft", 0.6)], LOOKS)


def test_flattery_only_where_the_cheap_attack_sees_less() -> None:
    assert "on FT it is right 52.0\u202f% of the time, U-LiRA 60.0\u202f%" in findings.flattery([RETRAINED, row("ft", 0.60, mia=0.52)], LOOKS)
    assert findings.flattery([RETRAINED, row("ft", 0.60, mia=0.60)], LOOKS) == "Here the cheap population attack sees as much as U-LiRA does."
    assert findings.flattery([RETRAINED, row("ft", 0.505, mia=0.52)], LOOKS) == ""


@pytest.mark.parametrize("rows", [[], [RETRAINED, ORIGINAL], [row("ft", kept=0.99)], [row("ft", leak=0.55)], [row("ft", speed=3)]])
def test_whatever_is_missing(rows: list[dict[str, Any]]) -> None:
    for say in (findings.overview, findings.compare, findings.privacy, findings.accuracy, findings.speed):
        text = say(rows, LOOKS)
        assert text and "nan" not in text.lower() and formats.MISSING not in text


def test_no_interval_is_a_point() -> None:
    one = {k: NAN if k.endswith(("_lo", "_hi")) else v for k, v in row("ft", 0.6, 0.99, 3).items()}
    assert "**FT** keeps most" in findings.accuracy([one], LOOKS)


@pytest.mark.parametrize(("value", "kind", "text"), [
    (0.9912, "share", "99.1\u202f%"), (0.5, "rate", "0.500"), (-0.6, "signed", "−0.60"), (12.64, "times", "12.6×"), (12300.0, "count", "12\u202f300"),
    (NAN, "rate", "–"), (None, "count", "–"), (0.032, "seconds", "32\u202fms"), (0.4, "seconds", "0.40\u202fs"), (7.25, "seconds", "7.2\u202fs"),
    (200.0, "seconds", "3\u202fmin"), (4830.0, "seconds", "1\u202fh 20\u202fmin")])
def test_numbers(value: float | None, kind: str, text: str) -> None:
    assert formats.number(value, kind) == text


def test_words() -> None:
    assert formats.listed(["A"]) == "A" and formats.listed(["A", "B", "C"]) == "A, B and C" and formats.listed([]) == ""
    assert formats.counted(1, "seed") == "1 seed" and formats.counted(1280, "model") == "1\u202f280 models"
    assert formats.with_interval(1.0, 1.0, 1.0, "share") == "100.0\u202f%"
    assert formats.settings('{"lr": 0.08, "nesterov": false}') == "lr = 0.08, nesterov = False"
    assert formats.ago(synthetic.STARTED, synthetic.STARTED.replace(day=22)) == "2 days ago" and formats.ago(None) == "at an unknown time"
