"""Where numbers come from, in words: at the foot of a page, and in the captions of its figures."""

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from engine.store import queries
from pages.ui import filters, formats, store, trust
from pages.ui.formats import Row


@dataclass(frozen=True)
class Origin:
    """What the numbers of a study rest on.

    seeds, splits: of its models, 0 where it has none of that kind. dirty: made with uncommitted changes. oldest, newest: None before the first run.
    """

    title: str
    runs: int
    models: int
    seeds: int
    splits: int
    oldest: pd.Timestamp | None
    newest: pd.Timestamp | None
    commits: list[str]
    dirty: bool
    machines: list[str]
    passed: int
    checks: int
    command: str

    @property
    def size(self) -> list[str]:
        """How many seeds, and splits where an attack needs them."""
        return [*([formats.counted(self.seeds, "seed")] if self.seeds else []),
                *([f"{formats.counted(self.splits, 'random half', 'random halves')} for U-LiRA"] if self.splits else [])]

    @property
    def calibration(self) -> str:
        return f"attack calibrated: {self.passed} of {formats.counted(self.checks, 'check')} passed" if self.checks else "attack not calibrated"

    def source(self, most: int) -> str:
        """The commits that made it, so many of them by name; empty where none is known."""
        return f"commit {few(self.commits, most)}{', with uncommitted changes' if self.dirty else ''}" if self.commits else ""


def origin(study: Row) -> Origin:
    """Of a row of `queries.studies`."""
    made, checks = (store.rows(question, study=study["study"]) for question in (queries.provenance, queries.calibration))
    models = [kind for kind in made if kind["kind"] in ("original", "retrained", "unlearned")]
    return Origin(
        title=study["title"], runs=sum(kind["runs"] for kind in made), models=sum(kind["runs"] for kind in models),
        seeds=max((kind["seeds"] for kind in models if kind["protocol"] == "seeds"), default=0),
        splits=max((kind["splits"] for kind in models if kind["protocol"] == "u_lira"), default=0),
        oldest=min((kind["oldest"] for kind in made), default=None), newest=max((kind["newest"] for kind in made), default=None),
        commits=sorted({str(commit)[:7] for kind in made for commit in kind["commits"]}), dirty=any(kind["dirty"] for kind in made),
        machines=sorted({str(machine) for kind in made for machine in kind["machines"]}),
        passed=sum(check["outcome"] == "passed" for check in checks), checks=len(checks),
        command=study["command"] or "")


def made_from(studies: Sequence[str]) -> str:
    """The sentences of a caption that say what a figure was made from; no ages, as a paper outlives them. studies: their run ids."""
    known = {row["study"]: row for row in store.rows(queries.studies)}
    return " ".join(_told(known[study]) for study in dict.fromkeys(studies) if study in known)


def again(studies: Sequence[str]) -> list[str]:
    """The commands that compute these studies again."""
    known = {row["study"]: row for row in store.rows(queries.studies)}
    return list(dict.fromkeys(known[study]["command"] for study in studies if study in known and known[study]["command"]))


def _told(study: Row) -> str:
    made, believed, known = origin(study), trust.of(study["study"]), store.catalogue()
    setting = ", ".join([*(filters.label(str(study[part]), known[f"{part}s"]) for part in ("dataset", "model") if study[part]),
                         f"{formats.number(study['forget_share'], 'small')} forgotten"])
    days = list(dict.fromkeys(f"{moment:%Y-%m-%d}" for moment in (made.oldest, made.newest) if moment is not None))
    facts = [f"study “{made.title}”", formats.counted(made.models, "model"), *made.size, f"computed {' to '.join(days)}" if days else "",
             made.source(len(made.commits)), made.calibration]
    doubt = f" What it says of privacy is not settled: {believed.doubt()}." if believed.attacked and believed.doubt() else ""
    return f"{setting}: {', '.join(fact for fact in facts if fact)}.{doubt}"


def few(words: list[str], most: int) -> str:
    """The first of them, and how many more there are."""
    return formats.listed(words if len(words) <= most else [*words[:most], f"{len(words) - most} more"])
