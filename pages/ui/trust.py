"""Whether attack numbers can be believed: the one place that says so, on every page that shows them.

The checks are of the attack as a whole, on models whose answer is known, and count for every method of a study. What fails a check, or
has too few models for one, is shown all the same: grey, and with the reason.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import pandas as pd
import streamlit as st

from engine.store import queries
from engine.store.report import outcome_of
from pages.ui import formats, store
from pages.ui.formats import Row, Rows
from pages.ui.theme import Look, Style

CHECKS = {"retrained_at_chance": "against retrained models it must be at chance", "original_has_power": "against the original it must see something",
          "shuffled_at_chance": "with the two worlds dealt anew it must find nothing",
          "planted_shift": "a leak of known size must be found"}
GREY = "#8790a0"  # of a doubtful number in a table: readable on light and on dark
_REFERENCES = ("retrained", "original")
_OUTCOMES = {"passed": (":green[:material/check_circle:]", "Passed"), "failed": (":orange[:material/cancel:]", "Failed"),
             "too few models": (":gray[:material/help:]", "Too few models to say")}


@dataclass(frozen=True)
class Trust:
    """What the calibration of a study says. checks: rows of `queries.calibration`. attacked: whether there is anything to believe."""

    checks: Rows
    attacked: bool

    @property
    def outcome(self) -> str:
        """passed | failed | too few models | absent: the worst of the checks on retrained and original models."""
        return outcome_of(row for row in self.checks if row["method"] in _REFERENCES)

    def doubt(self, row: Row | None = None) -> str:
        """Why attack numbers must not be taken as they stand, in words; empty where they may. row: of one method in `queries.results`."""
        mine = [check for check in self.checks if check["method"] in _REFERENCES or (row is not None and check["method"] == row["method"])]
        outcome = outcome_of(mine)
        if outcome == "absent":
            return "the attack was not checked here"
        if outcome != "passed":
            names = formats.listed(list(dict.fromkeys(named(check) for check in mine if check["outcome"] == outcome)))
            return f"the attack failed a check: {names}" if outcome == "failed" else f"too few models to check the attack: {names}"
        if row is not None and not pd.isna(row["balanced_accuracy"]) and pd.isna(row["balanced_accuracy_lo"]):
            return "too few models for an interval"
        return ""

    def looks(self, looks: Mapping[str, Look], rows: Rows, style: Style, metric: str = "balanced_accuracy") -> dict[str, Look]:
        """The looks for a figure of a metric: grey where it is of the checked attack and in doubt."""
        doubted = {row["method"] for row in rows if metric in queries.ATTACK_METRICS and self.doubt(row)}
        return {name: replace(known, colour=style.faint) if name in doubted else known for name, known in looks.items()}

    def told(self, sentence: str, metric: str = "balanced_accuracy") -> str:
        """A sentence on a metric, grey and with the reason where it is of the checked attack and in doubt."""
        doubtful = metric in queries.ATTACK_METRICS and self.attacked and self.doubt()
        return f":gray[{sentence}] *Not settled: {doubtful}.*" if doubtful else sentence

    def caveat(self) -> str:
        """To follow an answer that rests on attack numbers among others; empty where they may be believed."""
        return f" *What this says of privacy is not settled: {self.doubt()}.*" if self.attacked and self.doubt() else ""


def named(check: Row) -> str:
    """What a check demands, in words."""
    return CHECKS.get(str(check["name"]), str(check["name"]))


def of(study: str) -> Trust:
    """Of a study's per-example attacks."""
    attacked = any(not pd.isna(row["balanced_accuracy"]) for row in store.rows(queries.results, study=study))
    return Trust(store.rows(queries.calibration, study=study), attacked)


def notices(trust: Trust) -> None:
    """Every check that did not pass, said once, above the figures."""
    for check in trust.checks:
        if check["outcome"] == "passed":
            continue
        failed = check["outcome"] == "failed"
        (st.error if failed else st.warning)(
            f"**The attack {'failed' if failed else 'has too few models for'} a check:** {named(check)}. "
            f"Measured {formats.number(check['value'], 'rate')}, needed: {check['bound']}. Its numbers are grey below.", icon=":material/rule:")
    if trust.attacked and trust.outcome == "absent":
        st.warning("**The attack was not checked here:** that takes attacks on retrained and on original models, which are not there yet. Its numbers "
                   "are grey below.", icon=":material/rule:")


def health(trust: Trust) -> None:
    """Every check with its outcome, what was measured and what it must be."""
    if not trust.checks:
        st.markdown("It was not calibrated in this study: read the privacy numbers as a lower bound on what leaks.")
    for check in sorted(trust.checks, key=lambda check: check["name"]):
        icon, outcome = _OUTCOMES.get(check["outcome"], _OUTCOMES["too few models"])
        value = formats.with_interval(check["value"], check["lo"], check["hi"], "rate")
        whose = "" if check["method"] in _REFERENCES else f" ({check['method']})"
        st.markdown(f"{icon} **{outcome}**: {named(check)}{whose}.  \n:gray[Measured {value}; {check['bound']}.]")
