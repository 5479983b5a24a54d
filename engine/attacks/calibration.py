"""Can this attack be believed here? Four checks against models, and worlds, whose answer is known.

    retrained_at_chance   retrained models leak nothing: the interval must lie inside 1/2 +- delta
    original_has_power    original models do leak: the interval must lie above 1/2 + margin
    planted_shift         retrained models, with a known shift added to phi of forgotten examples: it must be found again
    shuffled_at_chance    any models, whose values are dealt anew to the two worlds: nothing is left to find

Each ends as `passed`, `failed` (the whole interval contradicts it) or `too few models` (the interval allows both, or fewer
than six splits: simulated 95 % intervals hold 86 to 99 % of the time from six splits up, down to 79 % with four).
A method far from chance is no failed check: forgetting too much leaks as well, and `shift` tells the two apart.
"""

from typing import Literal, TypedDict

import numpy as np
from jaxtyping import Float, Int
from scipy.stats import norm

from engine.attacks.bootstrap import DRAWS, Estimate
from engine.attacks.gaussians import FORGOTTEN, NEVER, NOT_USED
from engine.attacks.u_lira import CrossFit, ULiraResult, cross_fit, measure
from engine.errors import DataError

Outcome = Literal["passed", "failed", "too few models"]
DELTA = 0.02
MARGIN = 0.02
TOLERANCE = 0.05
FEWEST_SPLITS = 6


class Check(TypedDict):
    """A row of the `calibration` table, less its run_id."""

    name: str
    outcome: Outcome
    value: float
    lo: float
    hi: float
    bound: str


def retrained_at_chance(retrained: ULiraResult, delta: float = DELTA) -> Check:
    """Are the retrained models equivalent to chance? Not "not different from": a wide interval around 1/2 says nothing."""
    return _check("retrained_at_chance", retrained, retrained.balanced_accuracy, 0.5 - delta, 0.5 + delta,
                  f"95 % interval of balanced accuracy inside {0.5 - delta:.3f} to {0.5 + delta:.3f}")


def original_has_power(original: ULiraResult, margin: float = MARGIN) -> Check:
    """Does the attack see the training data of models that never unlearned anything? Else silence about others means nothing."""
    return _check("original_has_power", original, original.balanced_accuracy, 0.5 + margin, 1.0,
                  f"95 % interval of balanced accuracy above {0.5 + margin:.3f}")


def planted_shift(phi: Float[np.ndarray, "m n"], world: Int[np.ndarray, "m n"], split: Int[np.ndarray, " m"], *,
                  shift: float = 1.0, tolerance: float = TOLERANCE, seed: int = 0, draws: int = DRAWS) -> Check:
    """Add `shift` * sigma_never(i) to phi of the forgotten world of *retrained* models, and attack the whole anew.

    Gaussian phi and exactly known Gaussians would give a balanced accuracy of Phi(shift / 2): 0.691 for 1. Neither holds, so the
    bound is what a judge who knows the shift gets on these very never-seen values, standardised by fits without their split,
    less the examples whose two centres are expected to come out in the wrong order with so few splits. A leak that the retrained
    models had before, or an attack that loses or invents one, moves the measured value off the bound.
    Raises: DataError as `u_lira`, or when `shift` is not positive.
    """
    if shift <= 0:
        raise DataError(f"the planted shift must be positive, got {shift}")
    before = cross_fit(phi, world, split)
    sigma = before.groups.fit().sigma[NEVER]
    after = cross_fit(np.where(world == FORGOTTEN, phi + shift * sigma, phi), world, split)
    expected = _judge_who_knows(before, phi[(world != NOT_USED).any(1)], shift)
    result = measure(after, seed=seed, draws=draws)
    return _check("planted_shift", result, result.balanced_accuracy, expected - tolerance, expected + tolerance,
                  f"95 % interval of balanced accuracy within {tolerance:.3f} of {expected:.3f}, what a shift of {shift:g} sigma "
                  f"gives on these values (Gaussian with known centres: {norm.cdf(shift / 2):.3f})")


def shuffled_at_chance(phi: Float[np.ndarray, "m n"], world: Int[np.ndarray, "m n"], split: Int[np.ndarray, " m"], *,
                       delta: float = DELTA, seed: int = 0, draws: int = DRAWS) -> Check:
    """Deal the worlds of each example anew among its groups (all its values in one split and world), and attack the whole.

    Group by group, since values of one split belong together; how many groups a world has stays as it is. What leaks here is the
    attack's own: a fit that has seen what it scores, or a score that counts how a world is made up. Raises: DataError as `u_lira`.
    """
    result = measure(cross_fit(phi, shuffled(world, split, seed), split), seed=seed, draws=draws)
    return _check("shuffled_at_chance", result, result.balanced_accuracy, 0.5 - delta, 0.5 + delta,
                  f"95 % interval of balanced accuracy, worlds dealt anew, inside {0.5 - delta:.3f} to {0.5 + delta:.3f}")


def shuffled(world: Int[np.ndarray, "m n"], split: Int[np.ndarray, " m"], seed: int = 0) -> Int[np.ndarray, "m n"]:
    """The same codes, dealt anew to the groups of each example: every value of a group gets the group's new world."""
    place = np.unique(split, return_inverse=True)[1]
    splits, codes = range(int(place.max()) + 1), (NEVER, FORGOTTEN)
    there = np.stack([(world[place == s] == code).any(0) for s in splits for code in codes])  # [2 s, n]
    forgotten = there[FORGOTTEN::2].sum(0)
    chance = np.where(there, np.random.default_rng(seed).random(there.shape), np.inf)
    dealt = np.where(chance.argsort(0).argsort(0) < forgotten, FORGOTTEN, NEVER)
    made = np.full_like(world, NOT_USED)
    for s in splits:
        rows = place == s
        for code in codes:
            made[rows] = np.where(world[rows] == code, dealt[2 * s + code], made[rows])
    return made


def _judge_who_knows(fit: CrossFit, phi: Float[np.ndarray, "m n"], shift: float) -> float:
    """Balanced accuracy of "nearer to mu + shift * sigma than to mu", shown never-seen values as they are and shifted."""
    right = total = 0.0
    for s in range(len(fit.groups.count)):
        rows, weight = fit.place == s, fit.weight_of(s)
        never = (fit.world[rows] == NEVER) & (weight > 0)
        z = fit.groups.fit(s).z(phi[rows].astype(np.float64) - fit.base, NEVER)[never]
        right += float((((z > -shift / 2) * 0.5 + (z < shift / 2) * 0.5) * weight[never]).sum())
        total += float(weight[never].sum())
    known = right / total
    noise = (fit.groups.fit().blur - 1).sum(0)[fit.groups.usable]  # variance of the distance between the centres, in sigma^2
    ordered = norm.cdf(shift / np.sqrt(np.maximum(noise, np.finfo(float).tiny))).mean()
    return float(0.5 + (known - 0.5) * (2 * ordered - 1))


def _check(name: str, attack: ULiraResult, found: Estimate, low: float, high: float, bound: str) -> Check:
    """Inside the bounds, outside, or undecided."""
    outcome: Outcome = "too few models"
    if attack.n_splits >= FEWEST_SPLITS:
        if low <= found.lo and found.hi <= high:
            outcome = "passed"
        elif found.hi < low or found.lo > high:
            outcome = "failed"
    return Check(name=name, outcome=outcome, value=found.value, lo=found.lo, hi=found.hi, bound=bound)
