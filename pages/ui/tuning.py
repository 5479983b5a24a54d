"""What Search says in words and tables, from `engine.store.searches`. Pure functions; every number in a sentence is one of a summary."""

from collections.abc import Mapping, Sequence
from math import isnan
from statistics import median

import pandas as pd

from engine.store import searches
from engine.store.searches import Search, Span, Summary
from pages.ui import formats, trials
from pages.ui.formats import counted, listed
from pages.ui.theme import Look, look

_SAID = 3  # names in a sentence


def answer(rows: Sequence[Summary], waiting: Sequence[Search], looks: Mapping[str, Look]) -> str:
    """How settings were found, for how many methods the choice is settled, and where it breaks."""
    left = f" {formats.sentence(counted(len(waiting), 'search', 'searches'))} of {_names(waiting, looks)} not finished yet." if waiting else ""
    if not rows:
        return left.strip() or "Nothing was searched in this study: its settings are written in the study file."
    kinds = list(dict.fromkeys(row.search.kind for row in rows))
    said = " ".join([f"Settings of {counted(len(rows), 'method')} were found by {listed([trials.KINDS[kind].name for kind in kinds])}: "
                     f"{counted(sum(len(row.search.trials) for row in rows), 'trial')}, {_failed(rows)}.", _settled(rows), _sharpest(rows, looks)])
    return said.rstrip() + left


def how(rows: Sequence[Summary]) -> str:
    """How a search of each kind works, and what its score is made of."""
    told = []
    for kind in dict.fromkeys(row.search.kind for row in rows):
        one = next(row.search for row in rows if row.search.kind == kind)
        told.append({
            "racing": f"**Racing**: rounds of settings, the declared defaults first. Each ran on {counted(one.first, 'tuning split')}; the better "
                      f"half of a round went on to all {one.splits}, the others were stopped. The best {len(one.finalists)} ran again on fresh "
                      "splits, and those alone decided. The score is how far accuracies (mean and worst split) and the attack's AUC are from "
                      "retraining's, in units of how far two retrained models are apart.",
            "grid": f"**Trying a list**: every setting of a list ran on {counted(one.splits, 'tuning split')}. The score is how far accuracies (mean "
                    "and worst split) and twice the attack's AUC are from retraining's. Nothing was run again: the winner's score flatters it.",
            "deep_unlearn": "**NSGA-III**, as in the reference study: one search for each model seed, four objectives, and the trial with the "
                            "smallest norm of all. A trial is one model, so its score has no interval, and the winner of many is partly luck.",
        }.get(kind, kind))
    return "  \n".join([*told, "No attack on reported models ever sees the tuning splits."
                        if any(row.search.kind != "deep_unlearn" for row in rows) else ""]).rstrip()


def why(row: Summary) -> list[str]:
    """Why this trial was chosen, and how fragile that is: one line a finding."""
    of, best = trials.kind(row.search), row.chosen
    n = len(best.parts.get("fresh", {}).get("retain_accuracy", ()))
    fresh = (f"{n} fresh splits" if n else "fresh splits") if row.fresh else f"the {row.search.splits} splits"
    lines = [f"**Chosen: trial {best.number}** ({trials.setting(row.search, best)})"
             + (f". Of the {len(row.runners) + 1} that ran again on {fresh} it scored least there: {of.told(row.score)}, in the search "
                f"{of.number(best.score)}. Being the least of several flatters it still." if row.fresh else
                f", as it scored least: {of.told(row.score)}.")]
    if row.search.twin and row.fresh:
        lines.append(f"A second retrained model scores {of.told(row.search.span(row.search.twin))} on the splits of the search: so much is chance.")
    if row.runners and not isnan(row.runners[0][1].lo):
        tied = row.tied
        lines.append(f"**Runners-up**: the next is worse by {of.told(row.runners[0][1])}. "
                     + (f"{len(tied)} of {len(row.runners)} cannot be told from the chosen one." if tied else "All of them are clearly worse."))
    if row.halves:
        same = all(trial is best for trial in row.halves)
        lines.append("**By halves**: " + (f"each half of {fresh} would have chosen it, too." if same else
                     f"by itself each half of {fresh} would have chosen {_numbers([trial.number for trial in row.halves])}."))
    if row.near:
        lines.append(_nearest(row))
    if row.default:
        lines.append(_usual(row))
    if row.edges:
        lines.append(f"**At an end of what was tried**: {listed(row.edges)}. Better values may lie beyond.")
    return lines


def table(rows: Sequence[Summary], looks: Mapping[str, Look]) -> pd.DataFrame:
    """One row a method, as people read it."""
    made = []
    for row in rows:
        of, states = trials.kind(row.search), [trial.status for trial in row.search.trials]
        made.append({
            "Method": look(looks, row.search.method).title(row.search.variant), "Trials": len(states), "Diverged": states.count("diverged"),
            "In the search ↓": of.number(row.chosen.score),
            "On fresh splits ↓": of.told(row.score) if row.fresh else formats.MISSING,
            "Next is worse by": of.told(row.runners[0][1]) if row.runners else formats.MISSING,
            "Within noise": f"{len(row.tied)} of {len(row.runners)}" if row.runners and not isnan(row.runners[0][1].lo) else formats.MISSING,
            "Halves agree": formats.MISSING if not row.halves else "yes" if all(trial is row.chosen for trial in row.halves) else "no",
            "Nearest are worse by": _middle(row), "Defaults worse by": _default(row), "At an end": listed(row.edges) or formats.MISSING})
    return pd.DataFrame(made)


def full(rows: Sequence[Summary]) -> pd.DataFrame:
    """The same for CSV: every number at full precision, with its interval."""
    made = []
    for row in rows:
        states = [trial.status for trial in row.search.trials]
        spans = {"score": row.score, "next_worse": row.runners[0][1] if row.runners else Span(float("nan")),
                 "defaults_worse": row.default[2] if row.default else Span(float("nan"))}
        made.append({"method": row.search.method, "variant": row.search.variant, "kind": row.search.kind, "run_id": row.search.run_id,
                     **{status: states.count(status) for status in ("done", "stopped", "diverged")}, "chosen": row.chosen.number,
                     "score_in_search": row.chosen.score, "fresh": row.fresh,
                     **{f"{name}{end}": value for name, span in spans.items()
                        for end, value in (("", span.value), ("_lo", span.lo), ("_hi", span.hi))},
                     "compared": len(row.runners), "within_noise": len(row.tied), "halves": " ".join(str(trial.number) for trial in row.halves),
                     "nearest_worse_median": _median(row), "defaults_but_for": " ".join(row.default[1]) if row.default else "",
                     "at_an_end": " ".join(row.edges)})
    return pd.DataFrame(made)


HELP = {
    "Trials": "Settings that were tried", "Diverged": "Settings of which a model ended without numbers",
    "In the search ↓": "Score on the splits of the search; lower is better. The winner's flatters it",
    "On fresh splits ↓": "Score of the chosen setting on splits that had no part in the search, with its 95 % interval",
    "Next is worse by": "The runner-up against the chosen one, paired by split, with its 95 % interval",
    "Within noise": "How many of the others that were compared in the end cannot be told from the chosen one",
    "Halves agree": "Whether each half of the splits would have made the same choice by itself",
    "Nearest are worse by": f"Median of the {searches.NEIGHBOURS} settings that lie nearest, those that diverged left out",
    "Defaults worse by": "The declared defaults against the chosen setting, on the splits that both ran on",
    "At an end": "Parameters chosen at an end of what was tried"}
NUMBERS = frozenset(name for name in HELP if name not in ("Within noise", "Halves agree", "At an end"))


def trial_table(search: Search) -> pd.DataFrame:
    """Every trial of a search, best first, at full precision."""
    ranked = sorted(search.trials, key=lambda trial: (isnan(trial.score), isnan(trial.seen), trial.seen, trial.number))
    return pd.DataFrame([{"Trial": trial.number, "Chosen": "yes" if trial.chosen else "", "Status": trial.status, "Score": trial.score,
                          "Score so far": trial.seen, "Fresh score": trial.again, "Splits": trial.splits, **trial.params} for trial in ranked])


def texts(shown: pd.DataFrame) -> pd.DataFrame:
    """The same, every cell a text."""
    return shown.map(lambda value: formats.MISSING if pd.isna(value) else formats.plain(value))


def _settled(rows: Sequence[Summary]) -> str:
    """How many choices are a toss-up, among those with intervals, and how many lie at an end."""
    asked = [row for row in rows if row.runners and not isnan(row.runners[0][1].lo)]
    open_ = [row for row in asked if row.tied]
    said = ""
    if asked:
        part = f"{len(open_)} of {counted(len(asked), 'method')}" if len(open_) < len(asked) else f"all {counted(len(asked), 'method')}"
        said = (f"**For {part} the choice is not settled**: another of the last settings cannot be told from the winner." if open_ else
                "**Every choice is settled**: all the settings that it was compared with in the end are clearly worse.")
    halved = [row for row in rows if row.halves]
    split = [row for row in halved if any(trial is not row.chosen for trial in row.halves)]
    if split:
        said += f" For {len(split)} of {len(halved)} half of the same splits would have chosen another."
    cornered = [row for row in rows if row.edges]
    if cornered:
        said += f" For {len(cornered)} a parameter was chosen at an end of what was tried, so better settings may lie beyond."
    return said.strip()


def _sharpest(rows: Sequence[Summary], looks: Mapping[str, Look]) -> str:
    """Whose neighbours are worst, where that is worse than noise; and what the defaults would have given."""
    units = {row.search.kind for row in rows}
    steep = [(value, row) for row in rows if not isnan(value := _median(row))]
    said = ""
    if steep and len(units) == 1:
        value, row = max(steep, key=lambda pair: pair[0])
        of = trials.kind(row.search)
        said = (f"Most fragile is **{_names([row.search], looks)}**: its {len(row.near)} nearest settings are worse by {of.number(value)} {of.unit} "
                "(median).")
    tried = [row for row in rows if row.default]
    worse = [row for row in tried if row.default and (row.default[2].lo > 0 or row.default[0].status == "diverged")]
    if tried:
        said += f" The declared defaults are clearly worse than the chosen setting for {len(worse)} of {len(tried)}."
    return said


def _nearest(row: Summary) -> str:
    of = trials.kind(row.search)
    values = sorted(worse.value for _, trial, worse in row.near if trial.status != "diverged")
    lost = [trial for _, trial, _ in row.near if trial.status == "diverged"]
    ends = [away for away, _, _ in row.near]
    said = (f"**Neighbours**: the {counted(len(row.near), 'nearest setting')} that {'was' if len(row.near) == 1 else 'were'} tried "
            f"({formats.bare(formats.number(ends[0], 'share'))} to {formats.number(ends[-1], 'share')} of the range away)")
    said += f" are worse by {of.number(median(values))} in the median, from {of.number(values[0])} to {of.number(values[-1])}" if values else ""
    return said + (f"; {len(lost)} diverged." if lost else ".")


def _usual(row: Summary) -> str:
    assert row.default is not None
    trial, other, worse = row.default
    of = trials.kind(row.search)
    apart = f", but for {listed(other)}, whose default was not in the range," if other else ""
    if trial is row.chosen:
        return f"**Defaults**: the chosen setting is the declared one{apart.rstrip(',')}."
    result = "diverged" if trial.status == "diverged" else f"are worse by {of.told(worse)}, on the splits that both ran on"
    return f"**Defaults**: the declared ones (trial {trial.number}){apart} {result}."


def _default(row: Summary) -> str:
    if row.default is None:
        return formats.MISSING
    trial, other, worse = row.default
    return "diverged" if trial.status == "diverged" else trials.kind(row.search).told(worse) + (" *" if other else "")


def _median(row: Summary) -> float:
    values = [worse.value for _, trial, worse in row.near if trial.status != "diverged"]
    return median(values) if values else float("nan")


def _middle(row: Summary) -> str:
    lost = sum(trial.status == "diverged" for _, trial, _ in row.near)
    return trials.kind(row.search).number(_median(row)) + (f", {lost} diverged" if lost else "")


def _failed(rows: Sequence[Summary]) -> str:
    states = [trial.status for row in rows for trial in row.search.trials]
    told = [f"{formats.number(states.count(state), 'count')} {words}" for state, words in (("stopped", "stopped early"), ("diverged", "diverged"))
            if state in states]
    return listed(told) if told else "none of which failed"


def _names(found: Sequence[Search], looks: Mapping[str, Look]) -> str:
    names = [look(looks, search.method).title(search.variant) for search in found]
    more = f"{len(names) - _SAID} more"
    return listed(names if len(names) <= _SAID + 1 else [*names[:_SAID], more])


def _numbers(found: Sequence[int]) -> str:
    return f"trial {found[0]}" if len(set(found)) == 1 else f"trials {listed([str(number) for number in found])}"


