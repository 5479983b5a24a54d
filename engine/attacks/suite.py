"""Every attack that a set of models allows, with its calibration: what a study does to its models, and an audit to those of a file.

    unlearned   u_lira (forgotten against never seen); exposure, who it finds, and by class; beside retrained models of the same splits and
                forget sets also versus_retrained, forgetting_quality and klom; ruli, best beside both
    retrained   u_lira, which must be at chance, with a planted shift, which must be found; exposure, what noise alone looks like, and
                worlds dealt anew, in which nothing must be found
    original    u_lira, which must have power; lira (offline) and rmia as ceilings: what there is to be found before anything is unlearned
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from importlib import import_module
from types import ModuleType

import numpy as np
from jaxtyping import Bool, Float, Int

from engine.attacks import calibration, exposure, forgetting_quality, klom, lira, rmia, ruli, u_lira, versus_retrained
from engine.attacks.calibration import Check
from engine.attacks.gaussians import FORGOTTEN
from engine.attacks.info import AttackInfo
from engine.attacks.models import Models
from engine.attacks.rates import Metric, Rates
from engine.errors import DataError


@dataclass(frozen=True)
class Found:
    """What one attack found. curve: its rates with their ROC curve, None where it has none. examples: of U-LiRA, listed: of exposure alone."""

    metrics: list[Metric]
    curve: Rates | None = None
    examples: u_lira.Examples | None = None
    listed: exposure.Listed | None = None
    checks: list[Check] = field(default_factory=list)


Others = Mapping[str, Models]  # by kind: models of the same splits
Attack = Callable[[Models, Others, int], Found]  # the models, what it needs beside them, seed


def _u_lira(mine: Models, others: Others, seed: int) -> Found:
    result = u_lira.u_lira(mine.phi, mine.world, mine.split, seed=seed)
    return Found(result.metrics(), result, result.examples)


def _u_lira_of_retrained(mine: Models, others: Others, seed: int) -> Found:
    result = u_lira.u_lira(mine.phi, mine.world, mine.split, seed=seed)
    return Found(result.metrics(), result, result.examples,
                 checks=[calibration.retrained_at_chance(result), calibration.planted_shift(mine.phi, mine.world, mine.split, seed=seed)])


def _u_lira_of_original(mine: Models, others: Others, seed: int) -> Found:
    result = u_lira.u_lira(mine.phi, mine.world, mine.split, seed=seed)
    return Found(result.metrics(), result, result.examples, checks=[calibration.original_has_power(result)])


def _exposure(mine: Models, others: Others, seed: int) -> Found:
    found = exposure.exposure(exposure.fit_halves(mine.phi, mine.world, mine.split), labels=mine.labels, seed=seed)
    return Found(found.metrics(), listed=found.unlearned.most_exposed)


def _exposure_of_retrained(mine: Models, others: Others, seed: int) -> Found:
    return replace(_exposure(mine, {}, seed), checks=[calibration.shuffled_at_chance(mine.phi, mine.world, mine.split, seed=seed)])


def _versus_retrained(mine: Models, others: Others, seed: int) -> Found:
    result = versus_retrained.versus_retrained(*_pairs(mine, others), seed=seed)
    return Found(result.metrics(), result)


def _forgetting_quality(mine: Models, others: Others, seed: int) -> Found:
    pairs = _pairs(mine, others)
    both = [forgetting_quality.forgetting_quality(*pairs, in_sample=in_sample, seed=seed) for in_sample in (False, True)]
    return Found([row for result in both for row in result.metrics()])


def _klom(mine: Models, others: Others, seed: int) -> Found:
    return Found(klom.klom(*_pairs(mine, others), seed=seed).metrics())


def _ruli(mine: Models, others: Others, seed: int) -> Found:
    retrained = others.get("retrained")
    if retrained is not None:
        left, right = _matched(mine, retrained)
        mine, retrained = mine.rows(left), retrained.rows(right)
    original = others.get("original")
    if original is not None:  # what they were trained on they have kept
        original = replace(original, world=np.where(original.world == FORGOTTEN, ruli.KEPT, original.world).astype(np.int8))
    return Found(ruli.ruli(mine, original=original, retrained=retrained, seed=seed).metrics())


def _lira(mine: Models, others: Others, seed: int) -> Found:
    result = lira.lira(mine.phi, mine.world, mine.split, form="offline", seed=seed)
    return Found(result.metrics(), result)


def _rmia(mine: Models, others: Others, seed: int) -> Found:
    result = rmia.rmia(mine.phi, mine.world, mine.split, gamma=1.0, seed=seed)  # at 2 nobody can be that much surer than a sure population
    return Found(result.metrics(), result)


# kind of models -> name -> (what it is, the attack)
ATTACKS: dict[str, dict[str, tuple[AttackInfo, Attack]]] = {
    "unlearned": {info.name: (info, attack) for info, attack in (
        (u_lira.INFO, _u_lira), (exposure.INFO, _exposure), (versus_retrained.INFO, _versus_retrained),
        (ruli.INFO, _ruli), (forgetting_quality.INFO, _forgetting_quality), (klom.INFO, _klom))},
    "retrained": {info.name: (info, attack) for info, attack in ((u_lira.INFO, _u_lira_of_retrained), (exposure.INFO, _exposure_of_retrained))},
    "original": {info.name: (info, attack) for info, attack in (
        (u_lira.INFO, _u_lira_of_original), (lira.INFO, _lira), (rmia.INFO, _rmia))},
}
# name -> the kinds of models that it takes beside its own; retrained ones it must have, but for RULI
BESIDE: dict[str, tuple[str, ...]] = {versus_retrained.INFO.name: ("retrained",), forgetting_quality.INFO.name: ("retrained",),
                                      klom.INFO.name: ("retrained",), ruli.INFO.name: ("retrained", "original")}
MAY_LACK = (ruli.INFO.name,)


def _pairs(mine: Models, others: Others) -> tuple[Float[np.ndarray, "m n"], Float[np.ndarray, "m n"], Bool[np.ndarray, "m n"], Int[np.ndarray, " m"]]:
    """(phi of unlearned, phi of retrained, used, split), rows of the same split and forget set side by side.

    Raises: DataError when there is no pair.
    """
    if "retrained" not in others:
        raise DataError("this attack holds unlearned models against retrained ones, and there are none")
    left, right = _matched(mine, others["retrained"])
    used = mine.world[left] == FORGOTTEN
    phi = [np.where(used, models.phi[rows], 0).astype(models.phi.dtype) for models, rows in ((mine, left), (others["retrained"], right))]
    return phi[0], phi[1], used, mine.split[left]


def _matched(mine: Models, other: Models) -> tuple[list[int], list[int]]:
    """Rows of both with the same split and forget set; those without a partner are left out. Raises: DataError when there is no pair."""
    keys = [{(int(s), np.packbits(w == FORGOTTEN).tobytes()): row for row, (s, w) in enumerate(zip(models.split, models.world, strict=True))
             if (w == FORGOTTEN).any()} for models in (mine, other)]
    shared = [key for key in keys[0] if key in keys[1]]
    if not shared:
        raise DataError("no unlearned model has a retrained one of the same split and forget set: the rows of `split` and of `world` must agree")
    return [keys[0][key] for key in shared], [keys[1][key] for key in shared]


def module_of(name: str) -> ModuleType:
    """The module of an attack."""
    return import_module(f"engine.attacks.{name}")


def infos() -> list[AttackInfo]:
    """Every attack once."""
    return list({info.name: info for kind in ATTACKS.values() for info, _ in kind.values()}.values())
