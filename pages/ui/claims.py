"""Published claims in words: what decides on them, what was measured, what stands in the way, and how it all stands. Pure functions."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from engine.store import reported
from engine.store.reported import Claim, Figure, Noise, Order, Setting, Side, Unmeasured
from engine.store.verdicts import (
    AGAINST,
    HELD,
    NO_NUMBER,
    NOT_COMPARABLE,
    NOT_REPRODUCED,
    NOT_RUN,
    OPEN,
    REPRODUCED,
    VERDICTS,
    Difference,
    Judged,
    Measured,
    Reading,
)
from pages.ui import filters, formats
from pages.ui.formats import counted, listed
from pages.ui.theme import Look, look

MARKS = {REPRODUCED: "✓", NOT_REPRODUCED: "✗", NOT_COMPARABLE: "≠", NOT_RUN: "…", NO_NUMBER: "?"}  # words stand beside them
SAYS = {HELD: "as claimed", AGAINST: "not as claimed", OPEN: "too close to tell"}
_FEW = 4  # names in a sentence
_GROUP_WORDS = {"G1": "within noise", "G2": "close", "G3": "far", "F": "failed", "": "not told"}


@dataclass(frozen=True)
class Names:
    """How the catalogue calls things. looks: of methods. catalogue: what exists."""

    looks: Mapping[str, Look]
    catalogue: Mapping[str, Any]

    def method(self, name: str) -> str:
        return look(self.looks, name).label if name in self.looks else name.upper()

    def methods(self, names: Sequence[str]) -> str:
        return _few([*map(self.method, names)])

    def metric(self, name: str, *, short: bool = False) -> str:
        known = formats.METRICS.get(name)
        return name.replace("_", " ") if known is None else known.short if short else known.label

    def dataset(self, name: str) -> str:
        known = filters.label(name, self.catalogue["datasets"])
        return name.upper() if known == name else known

    def model(self, name: str) -> str:
        return filters.label(name, self.catalogue["models"])

    def place(self, reading: Reading) -> str:
        return f"{self.dataset(reading.study['dataset'])}, {self.model(reading.study['model'])}"


@dataclass(frozen=True)
class Entry:
    """Claims that are shown as one: a statement, or the figures of one table. verdict: reproduced only if every figure is."""

    key: str
    judged: tuple[Judged, ...]

    @property
    def claim(self) -> Claim:
        return self.judged[0].claim

    @property
    def verdict(self) -> str:
        found = {one.verdict for one in self.judged}
        return next(verdict for verdict in (NOT_REPRODUCED, NOT_COMPARABLE, NOT_RUN, REPRODUCED, NO_NUMBER) if verdict in found)

    @property
    def points(self) -> str:
        """Where every study here that measured it points, whatever its setting; empty where it was not measured, or is a figure of another place."""
        if any(isinstance(one.claim.rule, Figure) for one in self.judged):
            return ""
        told = {reading.state for one in self.judged for reading in one.readings}
        return (told - {OPEN}).pop() if len(told - {OPEN}) == 1 else OPEN if told else ""


def entries(judged: Sequence[Judged]) -> list[Entry]:
    """In the order of the files, those with something to say first."""
    found: dict[str, list[Judged]] = {}
    for one in judged:
        found.setdefault(one.claim.key.partition("/")[0] if isinstance(one.claim.rule, Figure) else one.claim.key, []).append(one)
    made = [Entry(key, tuple(group)) for key, group in found.items()]
    return sorted(made, key=lambda entry: VERDICTS.index(entry.verdict))


def answer(found: Sequence[Entry]) -> str:
    """Which published claims hold, and how far the others are from being decided."""
    papers, others = ([entry for entry in found if entry.claim.source.third_party is party] for party in (False, True))
    if not papers:
        return "No published claim is on file, so there is nothing to hold the results against."
    counts = {verdict: sum(entry.verdict == verdict for entry in papers) for verdict in VERDICTS}
    good, bad = counts[REPRODUCED], counts[NOT_REPRODUCED]
    if not good + bad:
        first = f"**None of {counted(len(papers), 'published claim')} can be called reproduced or refuted yet**"
    else:
        verbs = ["is" if n == 1 else "are" for n in (good, bad)]
        first = f"**Of {counted(len(papers), 'published claim')} {good} {verbs[0]} reproduced and {bad} {verbs[1]} not**"
    words = {NOT_COMPARABLE: "not comparable, as they speak of other settings than have run here", NOT_RUN: "not run",
             NO_NUMBER: "without a published number at hand"}
    rest = [f"{counts[verdict]} {text}" for verdict, text in words.items() if counts[verdict]]
    return " ".join(filter(None, (f"{first}: {listed(rest)}." if rest else f"{first}.", _elsewhere(papers), _third_party(others))))


def _elsewhere(papers: Sequence[Entry]) -> str:
    """Where the evidence of other settings points: a hint, no verdict."""
    open_ones = [entry for entry in papers if entry.verdict == NOT_COMPARABLE and entry.points]
    if not open_ones:
        return ""
    told = [f"{words} for {n}" for state, words in ((HELD, "the claimed way"), (AGAINST, "the other way"), (OPEN, "neither way"))
            if (n := sum(entry.points == state for entry in open_ones))]
    return (f"For {counted(len(open_ones), 'statement')} there is evidence from other settings: it points {listed(told)}, which is a hint and no "
            "verdict.")


def _third_party(others: Sequence[Entry]) -> str:
    if not others:
        return ""
    good, bad = (sum(entry.verdict == verdict for entry in others) for verdict in (REPRODUCED, NOT_REPRODUCED))
    told = f"{good} reproduced, {bad} not" if good + bad else "none decided yet"
    return f"A third party's re-run, which is not the paper's, adds {counted(len(others), 'table or statement', 'tables and statements')}: {told}."


def difference(found: Difference, setting: Setting, names: Names) -> str:
    """What sets a study apart, in words."""
    match found.kind:
        case "dataset" | "model":
            named = names.dataset if found.kind == "dataset" else names.model
            there = setting.datasets if found.kind == "dataset" else setting.models
            if there is None:
                return f"the claim's {'dataset' if found.kind == 'dataset' else 'architecture'} is not at hand"
            return f"{named(found.here)} instead of {' or '.join(map(named, there)) if len(there) < 3 else f'one of its {len(there)} {found.kind}s'}"
        case "images":
            return f"{formats.number(float(found.here), 'count')} images instead of all"
        case "epochs":
            return f"{found.here if found.here != 'nan' else 'no'} epochs of training instead of {found.there}"
        case "scenario":
            return f"{found.here} to forget instead of {found.there}"
        case "forget_share":
            return f"{100 * float(found.here):g} % to forget instead of {100 * float(found.there):g} %"
        case "settings":
            whose = names.methods(found.here.split(", "))
            return f"{'default' if found.there == 'tuned' else 'tuned'} settings of {whose} instead of {found.there} ones"
        case "variant":
            return f"the corrected variant of {names.methods(found.here.split(', '))} instead of what the released code does"
        case "check":
            words = {"absent": "the attack was not checked", "failed": "the attack failed a check"}
            return words.get(found.here, "too few models to check the attack")
        case _:
            return found.there


def differences(reading: Reading, setting: Setting, names: Names) -> str:
    """All of them; empty where the setting is the claim's."""
    return "; ".join(difference(found, setting, names) for found in reading.differences)


def rule(claim: Claim, names: Names) -> str:
    """What decides on a claim, in words."""
    decides = claim.rule
    if isinstance(decides, Figure):
        seeds = f"{decides.seeds} seeds" if decides.seeds and decides.seeds > 1 else "one run" if decides.seeds else "an unknown number of seeds"
        return (f"The 95 % interval of measured minus reported lies within ±{decides.within:g}; the reported figure is of {seeds}"
                f"{'' if decides.seeds else ' and is taken as exact'}.")
    if isinstance(decides, Order):
        one = f"{names.methods(decides.worse.methods)} {'is' if len(decides.worse.methods) == 1 else 'are each'}"
        measure = _measure(decides.worse, names)
        if not decides.than.methods:
            text = (f"By {measure} {names.methods(decides.worse.methods)} are further from {_best(decides.best)} than by "
                    f"{_measure(decides.than, names)}")
        else:
            text = f"By {measure} {one} worse than {'each of ' if len(decides.than.methods) > 1 else ''}{names.methods(decides.than.methods)}"
        share = "" if decides.least == 1 else f" That must be so in at least {100 * decides.least:g} % of them, and the other way round in none."
        return f"{text}: the 95 % intervals of the distances from the best value do not overlap.{share}"
    if isinstance(decides, Noise):
        metrics = listed([names.metric(metric) for metric in decides.metrics])
        faster = " and faster than retraining" if decides.faster else ""
        return (f"{names.methods(decides.methods)} are within retraining noise by {metrics}{faster}, "
                "with enough seeds to tell, in at least 80 % of the studies.")
    return f"Nothing here measures it: it takes {decides.needs}." if isinstance(decides, Unmeasured) else "There is nothing to decide on."


def setting(claim: Claim, names: Names) -> str:
    """Where a claim was made, in words."""
    known = claim.setting
    parts = [listed([*map(names.dataset, known.datasets)]) if known.datasets else "dataset not at hand",
             listed([*map(names.model, known.models)]) if known.models else "architecture not at hand",
             "trained for " + " or ".join(map(str, dict.fromkeys(known.epochs.values()))) + " epochs" if known.epochs else "",
             f"{100 * known.forget_share:g} % of the training data to forget" if known.forget_share is not None else f"{known.scenario} to forget",
             "" if known.tuned is None else "tuned settings" if known.tuned else "default settings", "by the released code" if known.released else "",
             *known.otherwise]
    needs = f"; in at least {claim.needs[0]} datasets and {claim.needs[1]} architectures" if max(claim.needs) > 1 else ""
    return formats.sentence(", ".join(filter(None, parts))) + needs + "."


def measured(found: Measured) -> str:
    """A number with its interval, as its metric is shown."""
    known = formats.METRICS.get(found.metric)
    return formats.with_interval(found.value, found.lo, found.hi, known.kind if known else "rate")


def told(reading: Reading, claim: Claim, names: Names) -> str:
    """What one study says of a claim: its numbers, and whether they are as claimed."""
    decides = claim.rule
    if isinstance(decides, Figure):
        return measured(reading.parts[0])
    if isinstance(decides, Noise):
        apart = [f"{names.method(part.method)} is {'slower than retraining' if part.metric == 'rte' else _GROUP_WORDS[part.group]}"
                 + ("" if part.metric == "rte" else f" by {names.metric(part.metric, short=True)}") for part in reading.parts if part.group != "G1"]
        return f"{_few(apart) or f'{names.methods(decides.methods)} are within noise'}: {SAYS[reading.state]}"
    one, other = reading.parts
    same = one.method == other.method
    sides = [f"{names.metric(part.metric, short=True) if same else names.method(part.method)} {measured(part)}" for part in (one, other)]
    pairs = f" ({reading.pairs[0]} of {reading.pairs[1]} pairs)" if reading.pairs[1] > 1 else ""
    whose = f"{names.method(one.method)}: " if same else ""
    return f"{whose}{sides[0]} against {sides[1]}: {SAYS[reading.state]}{pairs}"


def numbers(reading: Reading, names: Names) -> str:
    """All numbers that a reading rests on, with their intervals."""
    return "; ".join(f"{names.method(part.method)} {names.metric(part.metric, short=True)} {measured(part)}" for part in reading.parts)


def reported_as(claim: Claim) -> str:
    """The figure as published; a dash for a statement."""
    if not isinstance(claim.rule, Figure):
        return formats.MISSING
    known = formats.METRICS.get(claim.rule.metric)
    return formats.number(claim.rule.value, known.kind if known else "rate")


def certainty(claim: Claim) -> str:
    """How sure we are of what was reported."""
    return f"told by {claim.told_by}" if claim.told_by else reported.CERTAINTY[claim.certainty]


def why(judged: Judged, names: Names) -> str:
    """What the verdict rests on, or what stands in its way."""
    claim = judged.claim
    if judged.verdict in (REPRODUCED, NOT_REPRODUCED):
        states = {state: [names.place(reading) for reading in judged.fitting if reading.state == state] for state in (HELD, AGAINST, OPEN)}
        return "; ".join(f"{SAYS[state]} in {listed(places)}" for state, places in states.items() if places)
    if judged.verdict == NOT_COMPARABLE:
        if judged.fitting:
            have = [len({reading.study[what] for reading in judged.fitting}) for what in ("dataset", "model")]
            return (f"its setting has run in {counted(have[0], 'dataset')} and {counted(have[1], 'architecture')} of "
                    f"{claim.needs[0]} and {claim.needs[1]}")
        return differences(judged.readings[0], claim.setting, names)
    if isinstance(claim.rule, Unmeasured):
        return f"it takes {claim.rule.needs}"
    if judged.verdict == NOT_RUN:
        lacking = [f"{names.method(method)} ({names.metric(metric, short=True)})" for method, metric in judged.lacking]
        return f"not measured: {_few(lacking)}" if lacking else "no study has run yet"
    return ""


def _few(words: Sequence[str]) -> str:
    """All of few words, the first of many."""
    return listed([*words[:_FEW], *([f"{len(words) - _FEW} more"] if len(words) > _FEW else [])])


def _measure(side: Side, names: Names) -> str:
    return names.metric(side.metric) + (f" of {side.attack.upper()}" if side.attack else "")


def _best(value: float) -> str:
    return "½" if value == 0.5 else f"{value:g}"
