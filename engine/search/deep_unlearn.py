"""The reference study's search: NSGA-III over four objectives, once for each of the first model seeds, and the smallest norm of all.

    |dRA| / 3,  |dFA| / 3,  |dVA| / 3,  1 - Indiscernibility(population MIA, val against forget)        all minimised

d: unlearned minus retrained model of the same seed. Each seed's search ends with `trials` complete ones; of each the trial with the
smallest Euclidean norm of the four is taken, and of those the one with the smallest.
Source: arXiv:2410.01276 and its released code. Differs: a candidate that diverges is a recorded failure and does not count as
complete (there its objectives are infinite and it does), and a search that is resumed does not repeat its random draws.
What it shares with the study, knowingly: the winner of hundreds of trials on the same data is partly luck; ours is `engine.search.racing`.
"""

import math
import warnings
from typing import Any

from engine.attacks.population_mia import indiscernibility
from engine.search.protocol import Answer, Ask, Found, Search, Trial
from engine.search.space import Space

VERSION = 1
ACCURACIES = ("retain_accuracy", "forget_accuracy", "val_accuracy")
MOST_FAILURES = 10  # times the trials asked for: a space in which nothing works ends


def search(space: Space, seeds: int, trials: int) -> Search:
    """One study a model seed 0..seeds-1, all in step."""
    import optuna  # slow to import, and a worker has no need of it

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)  # the study used it, so it is what it is
        samplers = [optuna.samplers.NSGAIIISampler(seed=seed) for seed in range(seeds)]
    studies = [optuna.create_study(directions=[optuna.study.StudyDirection.MINIMIZE] * 4, sampler=sampler) for sampler in samplers]
    generation = 50  # the sampler's population: asked for together, since within one nobody learns from another
    made: list[Trial] = []
    complete, tried = [0] * seeds, [0] * seeds
    while wanting := [s for s in range(seeds) if complete[s] < trials and tried[s] < trials * MOST_FAILURES]:
        asked = [(s, studies[s].ask()) for s in wanting for _ in range(min(generation, trials - complete[s]))]
        candidates = [space.suggest(trial) for _, trial in asked]
        answers = yield [Ask(params, s) for (s, _), params in zip(asked, candidates, strict=True)]
        for (s, trial), params, answer in zip(asked, candidates, answers, strict=True):
            tried[s] += 1
            four = objectives(answer)
            if four is None:
                studies[s].tell(trial, state=optuna.trial.TrialState.FAIL)
                made.append(Trial(params, None, {"seed": s}, "diverged"))
                continue
            complete[s] += 1
            studies[s].tell(trial, four)
            made.append(Trial(params, math.hypot(*four), {"seed": s, "objectives": four}, "done"))
    return Found(made, best(made))


def objectives(answer: Answer) -> list[float] | None:
    """The four; None where the model diverged, or has no population attack."""
    u, r = answer.unlearned, answer.retrained
    if u is None or "mia_val" not in u:  # fewer forget examples than the attack can learn from
        return None
    return [*(abs(u[name] - r[name]) / 3 for name in ACCURACIES), 1 - indiscernibility(u["mia_val"])]


def best(trials: list[Trial]) -> int | None:
    """Number of the complete trial with the smallest norm: the smallest of each seed's smallest."""
    scored: list[tuple[Any, int]] = [(t.score, i) for i, t in enumerate(trials) if t.score is not None]
    return min(scored)[1] if scored else None
