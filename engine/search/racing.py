"""Our search: many candidates, most of them stopped early, the best looked at again where they have not been.

1. The noise floor: how far two retrained models of the same split and other initial weights are apart. Differences are measured in
   units of it, so that no objective outweighs another by its scale.
2. Rounds of candidates by Optuna's TPE, the declared defaults first. All run on the first quarter of the tuning splits; the better half
   goes on to the others, the hopeless rest is stopped there and recorded as stopped.
3. The best few are run on fresh splits and chosen by those alone: the winner of many trials on the same splits is a lucky one.

Scored as in `engine.search.grid`. Ours; the reference study's protocol (arXiv:2410.01276) is `engine.search.deep_unlearn`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from engine.search.grid import ACCURACIES, AUC, choose, judge, mean
from engine.search.protocol import Answer, Ask, Found, Search, Trial
from engine.search.space import Space

VERSION = 1
ROUND = 16
LEAST_FLOOR = 0.002  # of an accuracy or AUC: two retrained models may agree by chance


def search(space: Space, places: Sequence[int], fresh: Sequence[int], trials: int, keep: int, seed: int = 0) -> Search:
    """places: tuning splits of the rounds. fresh: those of the last look. keep: candidates that get it."""
    import optuna  # slow to import, and a worker has no need of it

    scales = noise_floor((yield [Ask(None, place) for place in places]))
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    sampler = optuna.samplers.TPESampler(seed=seed, n_startup_trials=ROUND)
    study = optuna.create_study(sampler=sampler)
    study.enqueue_trial(space.default())
    made: list[Trial] = []
    first = list(places[: max(1, len(places) // 4)])
    while len(made) < trials:
        asked = [study.ask() for _ in range(min(ROUND, trials - len(made)))]
        candidates = [space.suggest(trial) for trial in asked]
        early = yield [Ask(params, place) for params in candidates for place in first]
        begun = [judge(params, part, scales) for params, part in zip(candidates, _parts(early, len(first)), strict=True)]
        good = _better_half(begun)
        others = [place for place in places if place not in first]
        late = (yield [Ask(candidates[i], place) for i in good for place in others]) if others and good else []
        rest = dict(zip(good, _parts(late, len(others)), strict=True)) if late else dict.fromkeys(good, ())
        for i, (trial, params) in enumerate(zip(asked, candidates, strict=True)):
            whole = judge(params, [*early[i * len(first) : (i + 1) * len(first)], *rest[i]], scales) if i in rest else begun[i]
            if i not in rest and whole.status == "done":
                whole = Trial(params, None, whole.parts | {"score_when_stopped": whole.score}, "stopped")
                trial.report(begun[i].score or 0.0, 1)
            made.append(whole)
            state = {"done": optuna.trial.TrialState.COMPLETE, "stopped": optuna.trial.TrialState.PRUNED}.get(whole.status, optuna.trial.TrialState.FAIL)
            study.tell(trial, whole.score if whole.status == "done" else None, state=state)
    return (yield from _last_look(made, fresh, keep, scales))


def _last_look(made: list[Trial], fresh: Sequence[int], keep: int, scales: Mapping[str, float]) -> Search:
    """Choose among the best `keep` by how they do on fresh splits."""
    best = sorted((i for i, t in enumerate(made) if t.status == "done" and t.score is not None), key=lambda i: made[i].score or 0.0)
    best = list({tuple(made[i].params.items()): i for i in reversed(best)}.values())[::-1][:keep]  # each setting once
    if not best:
        return Found(made, None)
    answers = yield [Ask(made[i].params, place) for i in best for place in fresh]
    again = [judge(made[i].params, part, scales) for i, part in zip(best, _parts(answers, len(fresh)), strict=True)]
    for i, second in zip(best, again, strict=True):
        made[i] = replace(made[i], parts=made[i].parts | {"fresh_score": second.score, "fresh": second.parts})
    chosen = choose(again)
    return Found(made, None if chosen is None else best[chosen])


def noise_floor(twins: Sequence[Answer]) -> dict[str, float]:
    """The scale of each objective: the mean distance of two retrained models in one split, and of the mean AUC over splits."""
    pairs = [(a.unlearned, a.retrained) for a in twins if a.unlearned is not None]
    if not pairs:
        return {**dict.fromkeys(ACCURACIES, LEAST_FLOOR), AUC: LEAST_FLOOR}
    floor: dict[str, float] = {name: mean([abs(u[name] - r[name]) for u, r in pairs]) for name in (*ACCURACIES, AUC)}
    floor[AUC] /= len(pairs) ** 0.5
    return {name: max(value, LEAST_FLOOR) for name, value in floor.items()}


def _parts(answers: Sequence[Answer], size: int) -> list[list[Answer]]:
    return [list(answers[i : i + size]) for i in range(0, len(answers), size)] if size else []


def _better_half(begun: Sequence[Trial]) -> list[int]:
    scored = sorted((t.score, i) for i, t in enumerate(begun) if t.score is not None)
    return sorted(i for _, i in scored[: max(1, -(-len(begun) // 2))])
