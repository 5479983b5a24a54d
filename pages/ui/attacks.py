"""Every attack on every method as one table: what each number is, what is best, and what it is held against."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from math import log
from typing import Literal

import pandas as pd

from pages.ui import findings, formats
from pages.ui.formats import Row, Rows

Numbers = Mapping[tuple[str, str, str], Mapping[str | None, Row]]  # (method, variant, attack) -> name -> row of `queries.attacks`
Kind = Literal["half", "quality", "klom", "epsilon"]

CHEAP, LEAK, LIKE, BOUND = "One model, one rule", "Single examples: did they leak?", "As if retrained?", "Bound"
_PLAIN_QUALITY = 0.85  # forgetting quality where there is nothing to tell: 0.85 to 0.95, by the number of models
_KLOM_MOST = -log(1e-5)  # nats: what a bin that retraining never has adds
_BEST = {"half": "½ is best", "quality": "1 is best", "klom": "0 is best", "epsilon": "0 is best"}


@dataclass(frozen=True)
class Column:
    """One number as a column. attacks: the first of them that has it counts; none: it is a metric of `queries.results`. header: lines
    with ` · ` between. doc: for a tooltip."""

    metric: str
    attacks: tuple[str, ...]
    header: str
    group: str
    kind: Kind
    doc: str

    @property
    def title(self) -> str:
        return self.header.replace(" · ", " ")

    @property
    def best(self) -> str:
        return _BEST[self.kind]


COLUMNS = (
    Column("mia_test", (), "Population · MIA", CHEAP, "half", "accuracy of one threshold on the loss"),
    Column("population/all/logistic/auc", (), "Logistic, · AUC", CHEAP, "half", "AUC of logistic regression on six features of the outputs"),
    Column("balanced_accuracy", ("u_lira",), "U-LiRA", LEAK, "half", "balanced accuracy, forgotten against never seen"),
    Column("worst_0.05", ("exposure",), "U-LiRA, · worst 5 %", LEAK, "half",
           "balanced accuracy on the 5 % most exposed examples, chosen on other splits"),
    Column("privacy_random_balanced_accuracy", ("ruli",), "RULI", LEAK, "half", "balanced accuracy on all examples, by kernel densities"),
    Column("privacy_vulnerable_balanced_accuracy", ("ruli",), "RULI, · memorised", LEAK, "half",
           "balanced accuracy on the 10 % that originals memorise most"),
    Column("balanced_accuracy", ("versus_retrained",), "Against · retrained", LIKE, "half", "balanced accuracy, unlearned against retrained models"),
    Column("forgetting_quality", ("forgetting_quality",), "Forgetting · quality", LIKE, "quality", "F; 0.85 to 0.95 where there is nothing to tell"),
    Column("klom_forget_halved_p95", ("klom",), "KLoM, · p95", LIKE, "klom",
           "nats, 95th percentile over examples, half of the splits against the other half, as retraining is held against itself"),
    Column("epsilon_lower_bound", ("u_lira", "exposure"), "ε, · at least", BOUND, "epsilon", "lower bound at 95 % from U-LiRA's errors"),
)


@dataclass(frozen=True)
class Cell:
    """One number. seen: whether the attack finds something that retraining does not show, None where that is not known. leak: how much
    of what there is to see, 0 to 1. shift: standard deviations, of attacks that have one. note: why there is no number, or more on it."""

    value: float
    lo: float
    hi: float
    seen: bool | None
    leak: float
    shift: float = float("nan")
    note: str = ""

    @property
    def told(self) -> str:
        return formats.with_interval(self.value, self.lo, self.hi, "rate")

    @property
    def reading(self) -> str:
        """What it says, in words."""
        if pd.isna(self.value):
            return f"no number: {self.note}"
        verdict = {True: "sees more than in retrained models", False: "cannot be told from retraining", None: ""}[self.seen]
        way = findings.direction(self.shift) if self.seen else ""
        return "; ".join(filter(None, (verdict, f"forgotten examples {way}" if way else "", self.note)))


Matrix = Mapping[tuple[str, str], Mapping[Column, Cell]]  # (method, variant) -> column -> number


def numbers(rows: Rows) -> Numbers:
    """Rows of `queries.attacks` by what they are of. An attack without numbers is there, with the name None alone."""
    found: dict[tuple[str, str, str], dict[str | None, Row]] = {}
    for row in rows:
        found.setdefault((row["method"], row["variant"], row["attack"]), {})[row["name"]] = row
    return found


def matrix(rows: Rows, found: Numbers) -> Matrix:
    """Every number, for the columns that any method has. rows: of `queries.results`, in the order wanted."""
    retrained = findings.retrained_row(rows)
    yardstick = {column: _cell(column, retrained, found, None) for column in COLUMNS} if retrained is not None else {}
    made = {(row["method"], row["variant"]): {column: cell for column in COLUMNS if (cell := _cell(column, row, found, yardstick.get(column)))}
            for row in rows}
    if retrained is not None:  # what others are held against is not held against itself
        key = (retrained["method"], retrained["variant"])
        made[key] = {column: replace(cell, seen=False) for column, cell in made[key].items()}
    there = {column for cells in made.values() for column, cell in cells.items() if not pd.isna(cell.value)}
    return {key: {column: cell for column, cell in cells.items() if column in there} for key, cells in made.items()}


def shown(made: Matrix) -> list[Column]:
    """The columns of a matrix, in their order."""
    return [column for column in COLUMNS if any(column in cells for cells in made.values())]


def of_attack(found: Numbers, attack: str) -> dict[tuple[str, str], dict[str, Row]]:
    """(method, variant) -> name -> row, of one attack."""
    return {key[:2]: {name: row for name, row in names.items() if name is not None} for key, names in found.items() if key[2] == attack}


def unlike_retrained(made: Matrix) -> tuple[int, int]:
    """How many methods can be told from retrained models, of how many that were held against them."""
    held = [cell.seen for cells in made.values() for column, cell in cells.items()
            if column.attacks == ("versus_retrained",) and not pd.isna(cell.value)]
    return held.count(True), len(held)


def epsilons(found: Numbers) -> Iterator[tuple[str, str, str, float, float]]:
    """(method, variant, attack, lower bound, what so many splits can show at most) of every attack that gives one."""
    for (method, variant, attack), names in found.items():
        if "epsilon_lower_bound" in names and "epsilon_most" in names:
            yield method, variant, attack, names["epsilon_lower_bound"]["value"], names["epsilon_most"]["value"]


def classes(found: Numbers, method: str, variant: str) -> dict[int, tuple[Row, int]]:
    """Class -> (its row of exposure, how many examples it has), in the order of the classes; none where the attack is older than that."""
    names = found.get((method, variant, "exposure"), {})
    labels = sorted(int(name[6:]) for name in names if name and name.startswith("class_") and name[6:].isdecimal())
    sizes = {label: names.get(f"class_{label}_n_examples") for label in labels}
    return {label: (names[f"class_{label}"], int(size["value"]) if size else 0) for label, size in sizes.items()}


def without_numbers(found: Numbers, keys: Sequence[tuple[str, str]]) -> dict[tuple[str, str, str], str]:
    """(method, variant, attack) -> why it has no numbers, of the methods that are asked for."""
    return {key: str(names[None]["error"] or "no number came out") for key, names in found.items()
            if None in names and key[:2] in keys}


def _cell(column: Column, row: Row, found: Numbers, retrained: Cell | None) -> Cell | None:
    """None where the attack was not made on this method."""
    if not column.attacks:
        ends = (row[column.metric], row[f"{column.metric}_lo"], row[f"{column.metric}_hi"])
        return None if pd.isna(ends[0]) else _judged(column, Cell(*ends, seen=None, leak=0.0), retrained)
    runs = [names for attack in column.attacks if (names := found.get((row["method"], row["variant"], attack)))]
    if column.kind == "klom" and row["method"] == "retrained":
        return _floor(found)
    names = next((names for names in runs if column.metric in names), None)
    if names is None:
        reason = next((str(blank["error"]) for names in runs if (blank := names.get(None)) and blank["error"]), "")
        return Cell(*[float("nan")] * 3, seen=None, leak=0.0, note=reason) if reason else None
    number = names[column.metric]
    cell = Cell(number["value"], number["lo"], number["hi"], seen=None, leak=0.0)
    if column.kind == "epsilon":
        most = names["epsilon_most"]["value"] if "epsilon_most" in names else float("nan")
        return replace(cell, seen=cell.value > 0, leak=cell.value / most if most > 0 else 0.0,
                       note=f"so many splits can show {formats.number(most, 'rate')} at most")
    if column.kind == "klom":
        whole, floor = names.get("klom_forget_p95"), names.get("klom_forget_floor_p95")
        return replace(cell, leak=max(cell.value - floor["value"], 0.0) / (_KLOM_MOST - floor["value"]) if floor else 0.0,
                       note=f"all models: {formats.with_interval(whole['value'], whole['lo'], whole['hi'], 'rate')}" if whole else "")
    shift = names["shift"]["value"] if "shift" in names else float("nan")
    return _judged(column, replace(cell, shift=shift), retrained)


def _judged(column: Column, cell: Cell, retrained: Cell | None) -> Cell:
    """With whether it sees anything, and how much."""
    lo, hi = (cell.value if pd.isna(end) else end for end in (cell.lo, cell.hi))
    known = not pd.isna(cell.lo)
    if column.kind == "quality":
        return replace(cell, seen=hi < _PLAIN_QUALITY if known else None, leak=max(_PLAIN_QUALITY - cell.value, 0.0) / _PLAIN_QUALITY)
    beside = None if retrained is None or pd.isna(retrained.lo) else (retrained.lo, retrained.hi)
    return replace(cell, seen=not findings.reaches((lo, hi), beside) if known else None, leak=min(2 * abs(cell.value - 0.5), 1.0))


def _floor(found: Numbers) -> Cell | None:
    """Retraining held against itself: every run of KLoM brings it along."""
    runs = (names for (_, _, attack), names in found.items() if attack == "klom")
    value = next((names["klom_forget_floor_p95"]["value"] for names in runs if "klom_forget_floor_p95" in names), None)
    return None if value is None else Cell(value, float("nan"), float("nan"), seen=False, leak=0.0, note="one half of the splits against the other")
