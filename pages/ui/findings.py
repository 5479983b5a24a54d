"""The sentences under the titles: what the data on screen says, and when it is too close to tell. Pure functions over
rows of `queries.results` with the looks of the methods; every number in a sentence is one of a row."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from engine.store.ranks import Overall
from engine.store.standings import Cell, Key
from pages.ui import formats
from pages.ui.formats import Row, Rows, listed, number
from pages.ui.theme import Look, look

REFERENCES = ("original", "retrained")
DIRECTED = 0.1  # standard deviations between forgotten and never-seen scores that are worth a direction
_GOALS = ("balanced_accuracy", "test_retention", "rte")


@dataclass(frozen=True)
class Leaders:
    """The best row on a metric and all whose interval reaches into its interval: which of them is best cannot be told."""

    best: Row
    tied: list[Row]


def leaders(rows: Rows, metric: str) -> Leaders | None:
    """Among the methods, references left out. None where no method has the metric."""
    there = [row for row in rows if row["method"] not in REFERENCES and not pd.isna(row[metric])]
    if not there:
        return None
    spans = {id(row): _loss(row, metric) for row in there}
    best = min(there, key=lambda row: (spans[id(row)][1], row["method"]))
    tied = [row for row in there if row is not best and spans[id(row)][0] <= spans[id(best)][2] and spans[id(best)][0] <= spans[id(row)][2]]
    return Leaders(best, sorted(tied, key=lambda row: spans[id(row)][1]))


def hides(row: Row, retrained: Row | None, metric: str = "balanced_accuracy") -> bool:
    """Whether the attack cannot tell this method from retraining: its interval reaches ½, or that of the retrained models."""
    return reaches(_ends(row, metric), None if retrained is None or pd.isna(retrained[metric]) else _ends(retrained, metric))


def reaches(mine: tuple[float, float], retrained: tuple[float, float] | None) -> bool:
    """Whether an interval holds ½, or anything between ½ and the other end of retraining's interval."""
    ends = (0.5, *(retrained or ()))
    return mine[0] <= max(ends) and mine[1] >= min(ends)


def retrained_row(rows: Rows) -> Row | None:
    return next((row for row in rows if row["method"] == "retrained"), None)


def privacy(rows: Rows, looks: Mapping[str, Look]) -> str:
    found = leaders(rows, "balanced_accuracy")
    if found is None:
        return "This study has no per-example attack (U-LiRA) yet."
    attacked = [row for row in rows if row["method"] not in REFERENCES and not pd.isna(row["balanced_accuracy"])]
    hidden = [row for row in attacked if hides(row, retrained_row(rows))]
    value = f"the attack is right {number(found.best['balanced_accuracy'], 'share')} of the time, a coin 50 %"
    if not hidden:
        tail = _tie(found, looks, "leaks least")
        return f"{tail}: {value}. Every method here leaks more than retraining."
    names = _names(hidden, looks)
    rest = f"; the other {len(attacked) - len(hidden)} leak" if len(hidden) < len(attacked) else ""
    return (f"**{names}** cannot be told from retraining ({value}){rest}." if len(hidden) == 1 else
            f"**{names}** cannot be told from retraining{rest}.")


def exposure(rows: Rows, worst: Mapping[Key, Mapping[str, Row]], unlike: tuple[int, int], looks: Mapping[str, Look]) -> str:
    """Who is found out by the strong attack, whom of those the cheap one lets pass, and how bad it gets.

    worst: (method, variant) -> rows of attack `exposure` by name. unlike: how many methods of how many can be told from retrained models.
    """
    retrained, methods = retrained_row(rows), [row for row in rows if row["method"] not in REFERENCES]
    attacked = [row for row in methods if not pd.isna(row["balanced_accuracy"])]
    cheap = [row for row in methods if not pd.isna(row["mia_test"])]
    if not attacked:
        seen = [row for row in cheap if not hides(row, retrained, "mia_test")]
        tail = (f" The cheap attack, which looks at one model at a time, finds out {len(seen)} of {formats.counted(len(cheap), 'method')}; it misses much."
                if cheap else "")
        return f"No attack on single examples (U-LiRA) has finished here, so who is exposed is not known.{tail}"
    found = [row for row in attacked if not hides(row, retrained)]
    fooled = [row for row in found if not pd.isna(row["mia_test"]) and hides(row, retrained, "mia_test")]
    said = f"**U-LiRA finds out {_part(len(found), len(attacked))}**"
    if fooled:
        said += f"; the cheap attack that papers report most calls {'all' if len(fooled) == len(found) else len(fooled)} of those fine"
        said += f" ({_names(fooled, looks)})" if len(fooled) <= 4 else ""
    said += "." + (f" {_most_exposed(found, worst, looks)}" if found else "")
    if unlike[0] and len(found) < len(attacked):
        said += f" Not being found out is not being like retraining: {_part(*unlike)} can be told from retrained models."
    return said


def _part(some: int, total: int) -> str:
    """`3 of 5 methods`, `all 5 methods`, `none of 5 methods`; of one, `the only method` or `no method`."""
    if total == 1:
        return "the only method" if some else "no method"
    return f"{'all' if some == total else f'{some} of' if some else 'none of'} {formats.counted(total, 'method')}"


def _most_exposed(found: Rows, worst: Mapping[Key, Mapping[str, Row]], looks: Mapping[str, Look]) -> str:
    """On the worst examples where these were looked for, else over all."""
    shares = {_key(row): share for row in found if (share := worst.get(_key(row), {}).get("worst_0.05"))}
    if not shares:
        most = max(found, key=lambda row: abs(row["balanced_accuracy"] - 0.5))
        return f"Most exposed is **{_label(most, looks)}**: the attack is right {number(most['balanced_accuracy'], 'share')} of the time."
    key = max(shares, key=lambda key: abs(shares[key]["value"] - 0.5))
    beside = worst.get(("retrained", "corrected"), {}).get("worst_0.05")
    return (f"Most exposed is **{_keys([key], looks)}**: on the 5\u202f% of examples that leak most the attack is right "
            f"{number(shares[key]['value'], 'share')} of the time" + (f" (retrained models: {number(beside['value'], 'share')})." if beside else "."))


def worse_than_original(rows: Rows, looks: Mapping[str, Look]) -> list[str]:
    """One sentence for every method whose examples U-LiRA tells apart better than those of the original, with the direction."""
    original = next((row for row in rows if row["method"] == "original" and not pd.isna(row["balanced_accuracy"])), None)
    if original is None:
        return []
    limit = _loss(original, "balanced_accuracy")[2]
    found = []
    for row in rows:
        if row["method"] in REFERENCES or pd.isna(row["balanced_accuracy"]) or _loss(row, "balanced_accuracy")[0] <= limit:
            continue
        by = (", by forgetting too much: forgotten examples score" if row["shift"] <= -DIRECTED else
              ", though not by forgetting too much: forgotten examples score" if row["shift"] >= DIRECTED else "")
        found.append(f"**{_label(row, looks)} leaks more than the model did before it unlearned** (U-LiRA {number(row['balanced_accuracy'], 'rate')}, "
                     f"original {number(original['balanced_accuracy'], 'rate')}){by}"
                     + (f" {abs(row['shift']):.2f} standard deviations {'lower' if row['shift'] < 0 else 'higher'} than never-seen ones."
                        if by else ". Forgotten examples score neither higher nor lower on the whole: some up, some down."))
    return found


def direction(shift: float) -> str:
    """Which way forgotten examples differ from never-seen ones, in words; empty where it is too little to say. shift: in deviations."""
    if pd.isna(shift) or abs(shift) < DIRECTED:
        return ""
    return "score lower than never-seen ones: forgotten too much" if shift < 0 else "score higher than never-seen ones: not forgotten enough"


def accuracy(rows: Rows, looks: Mapping[str, Look]) -> str:
    found = leaders(rows, "test_retention")
    if found is None:
        return "No accuracy measured yet."
    return f"{_tie(found, looks, 'keeps most')}: {number(found.best['test_retention'], 'share')} of the test accuracy of retraining."


def speed(rows: Rows, looks: Mapping[str, Look]) -> str:
    found = leaders(rows, "rte")
    if found is None:
        return "Run time was not measured in this study yet."
    times = f", {formats.duration(found.best['unlearn_s'])} instead of {formats.duration(found.best['retrain_s'])}"
    times = "" if pd.isna(found.best["unlearn_s"]) else times
    return f"{_tie(found, looks, 'is fastest')}: {number(found.best['rte'], 'times')} as fast as retraining{times}."


def overview(rows: Rows, looks: Mapping[str, Look]) -> str:
    """One or two sentences: does one method do it all, and how far the cheap attack is off."""
    private, accurate, fast = (leaders(rows, metric) for metric in _GOALS)
    methods = [row for row in rows if row["method"] not in REFERENCES]
    if private is None or accurate is None:
        return f"{formats.counted(len(methods), 'method')} so far, and not yet attacked: what follows is about accuracy and speed only."
    sets = [{_key(row) for row in (found.best, *found.tied)} for found in (private, accurate, fast) if found]
    common = set.intersection(*sets)
    if common:
        first = f"**{_names([row for row in methods if _key(row) in common], looks)}** is among the best on every goal."
    else:
        last = f", {_group(fast, looks, 'is', 'are')} fastest." if fast else "."
        first = (f"No method wins on every goal: {_group(private, looks, 'hides', 'hide')} best, {_group(accurate, looks, 'keeps', 'keep')} "
                 f"the most accuracy{last}")
    return f"{first} {flattery(rows, looks)}".strip()


def flattery(rows: Rows, looks: Mapping[str, Look]) -> str:
    """How much less the cheap population attack sees than U-LiRA, where it sees least; empty where the data do not say so."""
    exposed = [row for row in rows if row["method"] not in REFERENCES and not pd.isna(row["balanced_accuracy"])
               and not pd.isna(row["mia_test"]) and not hides(row, retrained_row(rows))]
    gaps = [(abs(row["balanced_accuracy"] - 0.5) - abs(row["mia_test"] - 0.5), row) for row in exposed]
    if not gaps:
        return ""
    gap, row = max(gaps, key=lambda pair: pair[0])
    if gap < 0.01:
        return "Here the cheap population attack sees as much as U-LiRA does."
    return (f"The cheap attack flatters: on {_label(row, looks)} it is right {number(row['mia_test'], 'share')} of the time, "
            f"U-LiRA {number(row['balanced_accuracy'], 'share')}.")


def compare(rows: Rows, looks: Mapping[str, Look]) -> str:
    """What one gives up: the method nearest to retraining under attack, and which methods nothing else beats on all goals."""
    methods = [row for row in rows if row["method"] not in REFERENCES]
    if not methods:
        return "None of the chosen methods has results here. Choose others on the left."
    found = leaders(rows, "balanced_accuracy")
    if found is None:
        return f"{accuracy(rows, looks)} {speed(rows, looks)} No attack was run yet, so privacy is unknown."
    best = found.best
    first = f"**{_label(best, looks)}** leaks least (U-LiRA {number(best['balanced_accuracy'], 'rate')}"
    first += ", no more than retraining" if hides(best, retrained_row(rows)) else ""
    first += f"; {_names(found.tied, looks)} too close to tell)" if found.tied else ")"
    if not pd.isna(best["test_retention"]):
        first += f", keeps {number(best['test_retention'], 'share')} of retraining's test accuracy"
    if not pd.isna(best["rte"]):
        first += f" and is {number(best['rte'], 'times')} as fast"
    return f"{first}. {_trade(methods, looks)}".rstrip()


def leaderboard(cells: Sequence[Cell], rows: Sequence[Overall], looks: Mapping[str, Look], doubts: Mapping[str, str] | None = None) -> str:
    """Which methods are good in most cells, how little one cell can show, and whether U-LiRA agrees.

    doubts: study -> why its attack is in doubt; such a cell has no say in whom U-LiRA finds out.
    """
    if not rows:
        return "No method is finished in any cell yet, so there is nothing to rank."
    good = [row for row in rows if row.consistent]
    measure = "within retraining noise in both Retention Deviation and Indiscernibility"
    everywhere = f"in at least 80 % of the {len(cells)} cells and faster than retraining in all"
    if not good:
        near = max(row.within for row in rows)
        nearest = [row for row in rows if row.within == near]
        tail = (f"none is {measure} anywhere." if near == 0 else
                f"{_keys([row.key for row in nearest], looks)} {'comes' if len(nearest) == 1 else 'come'} nearest, in {near} of {len(cells)}.")
        return f"No method is consistently good ({measure} {everywhere}): {tail}" if len(cells) > 1 else (
            f"In the only cell so far no method is {measure} and faster than retraining.")
    names, verb = f"**{_keys([row.key for row in good], looks)}**", "is" if len(good) == 1 else "are"
    if len(cells) == 1:
        first = f"In the only cell so far {names} {verb} {measure}, and faster than retraining; one cell cannot show consistency."
    else:
        first = f"{names} {verb} consistently good: {measure} {everywhere}."
        partly = [f"{_keys([row.key], looks)} was run in only {row.cells}" for row in good if row.cells < len(cells)]
        first += f" {formats.sentence(listed(partly))}." if partly else ""
    return f"{first} {_exposed([row.key for row in good], cells, looks, doubts or {})}".rstrip()


def _exposed(good: Sequence[Key], cells: Sequence[Cell], looks: Mapping[str, Look], doubts: Mapping[str, str]) -> str:
    """Whether the attack that looks at single examples sees them all the same: Indiscernibility comes from the cheap one."""
    there = [(cell, table) for cell in cells if (table := cell.table("balanced_accuracy")).entries and cell.has("balanced_accuracy")]
    attacked = [table for cell, table in there if cell.study not in doubts]
    if there and not attacked:
        return f"Whether U-LiRA, which looks at single examples, finds any of them out is not settled: {next(iter(doubts.values()))}."
    seen = {key: sum(entry.group in ("G2", "G3") for table in attacked if (entry := table.of(key))) for key in good}
    found = [key for key in good if seen[key]]
    if not attacked:
        return "None was attacked with U-LiRA yet."
    if not found:
        return "U-LiRA, which looks at single examples, cannot tell " + ("it" if len(good) == 1 else "them") + " from retraining either."
    return f"But U-LiRA, which looks at single examples, finds out {_keys(found, looks)}."


def _keys(keys: Sequence[Key], looks: Mapping[str, Look]) -> str:
    return listed([look(looks, method).title(variant) for method, variant in keys])


def _trade(methods: Rows, looks: Mapping[str, Look]) -> str:
    """Who is beaten on every goal at once, and between whom one has to choose."""
    front = undominated(methods)
    full = [row for row in methods if not any(pd.isna(row[metric]) for metric in _GOALS)]
    beaten = [row for row in full if _key(row) not in front]
    if len(full) < 2:
        return ""
    if len(front) == 1:
        return f"On the means **{_names([row for row in full if _key(row) in front], looks)}** is best on all three goals."
    if not beaten:
        return "On the means no method beats another on all three goals: each is a trade."
    return f"On the means {_names(beaten, looks)} {'is' if len(beaten) == 1 else 'are'} beaten on all three goals; between the others it is a trade."


def undominated(rows: Rows) -> set[tuple[str, str]]:
    """(method, variant) of rows that no other row beats on leakage, kept accuracy and speed at once, by their means."""
    full = [row for row in rows if not any(pd.isna(row[metric]) for metric in _GOALS)]

    def goals(row: Row) -> tuple[float, float, float]:
        return -abs(row["balanced_accuracy"] - 0.5), row["test_retention"], row["rte"]

    def beaten(row: Row) -> bool:
        return any(all(a >= b for a, b in zip(goals(other), goals(row), strict=True)) and goals(other) != goals(row) for other in full)

    return {_key(row) for row in full if not beaten(row)}


def _key(row: Row) -> tuple[str, str]:
    return row["method"], row["variant"]


def _loss(row: Row, metric: str) -> tuple[float, float, float]:
    """(best case, value, worst case) of a metric turned so that smaller is better."""
    low, high = _ends(row, metric)
    if formats.METRICS[metric].better == "half":
        reach = sorted((abs(low - 0.5), abs(high - 0.5)))
        return (0.0 if low <= 0.5 <= high else reach[0]), abs(row[metric] - 0.5), reach[1]
    return (low, row[metric], high) if formats.METRICS[metric].better == "down" else (-high, -row[metric], -low)


def _ends(row: Row, metric: str) -> tuple[float, float]:
    low, high = row[f"{metric}_lo"], row[f"{metric}_hi"]
    return (row[metric] if pd.isna(low) else low), (row[metric] if pd.isna(high) else high)


def _tie(found: Leaders, looks: Mapping[str, Look], verb: str) -> str:
    best = f"**{_label(found.best, looks)}** {verb}"
    return best + (f" ({_names(found.tied, looks)} too close to tell)" if found.tied else "")


def _group(found: Leaders, looks: Mapping[str, Look], one: str, many: str) -> str:
    return f"**{_names([found.best, *found.tied], looks)}** {many if found.tied else one}"


def _names(rows: Rows, looks: Mapping[str, Look]) -> str:
    return listed([_label(row, looks) for row in rows])


def _label(row: Row, looks: Mapping[str, Look]) -> str:
    return look(looks, row["method"]).title(row["variant"])
