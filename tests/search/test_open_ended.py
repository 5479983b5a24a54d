"""Searches over a space, against a landscape whose best point is known: what they ask, stop early, choose, and that they can be resumed."""

from collections.abc import Callable
from dataclasses import dataclass
from math import hypot, log10

import pytest

from engine.params import Params, hp, share_of_training
from engine.search import deep_unlearn, racing
from engine.search.protocol import Answer, Ask, Found, Metrics, Search
from engine.search.space import Space

RETRAINED: Metrics = {"retain_accuracy": 1.0, "forget_accuracy": 0.9, "heldout_accuracy": 0.9, "val_accuracy": 0.9, "forget_heldout_auc": 0.5, "mia_val": 0.5}


@dataclass(frozen=True, kw_only=True)
class Toy(Params):
    lr: float = hp(1e-4, within=(0, 10), search=(1e-5, 1e-1), log=True, doc="step size")
    epochs: int = hp(5, within=(1, 1000), search=share_of_training(0.2), doc="walks")
    batch: int = hp(256, within=(1, 1000), search=(64, 128, 256), doc="examples per step")
    momentum: float = hp(0.9, within=(0, 1), doc="not searched")


SPACE = Space(Toy, {}, {}, epochs=50)


def landscape(ask: Ask) -> Answer:
    """Best at lr = 0.01, whatever the rest; diverges above 0.05; every place has its own small offset; two retrained models are 0.01 apart."""
    if ask.params is None:
        return Answer({**RETRAINED, "forget_accuracy": 0.91, "heldout_accuracy": 0.91}, RETRAINED)
    if ask.params["lr"] > 0.05:
        return Answer(None, RETRAINED)
    off = 0.1 * abs(log10(ask.params["lr"]) + 2) + 0.001 * (ask.place % 7)
    return Answer({name: value - off * (name != "forget_heldout_auc") for name, value in RETRAINED.items()}, RETRAINED)


def run(search: Search, world: Callable[[Ask], Answer] = landscape) -> tuple[Found, list[list[Ask]]]:
    rounds = [next(search)]
    while True:
        try:
            rounds.append(search.send([world(ask) for ask in rounds[-1]]))
        except StopIteration as end:
            return end.value, rounds


def test_the_space_is_what_is_declared_or_narrowed() -> None:
    assert set(SPACE.searched()) == {"lr", "epochs", "batch"}
    assert SPACE.default() == {"lr": 1e-4, "epochs": 5, "batch": 256}
    narrowed = Space(Toy, {"batch": 64}, {"lr": (1e-3, 1e-2), "momentum": (0.0, 0.9)}, epochs=5)
    assert set(narrowed.searched()) == {"lr", "epochs", "momentum"} and narrowed.default() == {"momentum": 0.9}  # 5 epochs are over a fifth of 5


def test_racing_finds_the_optimum_stops_the_hopeless_and_looks_again_on_fresh_places() -> None:
    found, rounds = run(racing.search(SPACE, range(1000, 1004), range(1004, 1008), trials=48, keep=3))
    assert len(found.trials) == 48 and found.best is not None
    assert found.trials[0].params["lr"] == 1e-4  # the declared default is looked at first
    assert abs(log10(found.trials[found.best].params["lr"]) + 2) < 0.15
    status = [t.status for t in found.trials]
    assert status.count("stopped") >= 12 and status.count("done") >= 12
    assert all(t.score is None for t in found.trials if t.status != "done")
    assert {ask.place for ask in rounds[-1]} == set(range(1004, 1008)) and len(rounds[-1]) == 3 * 4
    assert all(ask.place < 1004 for asks in rounds[:-1] for ask in asks)
    assert found.trials[found.best].parts["fresh_score"] == min(t.parts["fresh_score"] for t in found.trials if "fresh_score" in t.parts)
    asked = sum(map(len, rounds))
    assert asked < 0.75 * 48 * 4  # than all candidates on all places


def test_a_search_that_is_run_again_asks_the_same() -> None:
    """So one that was killed goes on where it stopped: what it asked for is at hand."""
    first, second = (run(racing.search(SPACE, range(1000, 1002), range(1002, 1004), trials=24, keep=2)) for _ in range(2))
    assert first == second
    first, second = (run(deep_unlearn.search(SPACE, seeds=2, trials=10)) for _ in range(2))
    assert first == second


def test_racing_measures_in_units_of_the_noise_between_two_retrained_models() -> None:
    floor = racing.noise_floor([Answer({**RETRAINED, "forget_accuracy": 0.93, "forget_heldout_auc": 0.54}, RETRAINED),
                                Answer({**RETRAINED, "forget_accuracy": 0.89, "forget_heldout_auc": 0.5}, RETRAINED)])
    assert floor["forget_accuracy"] == pytest.approx((0.03 + 0.01) / 2)
    assert floor["forget_heldout_auc"] == pytest.approx(0.02 / 2**0.5)  # of a mean over two
    assert floor["retain_accuracy"] == racing.LEAST_FLOOR


def test_where_everything_diverges_nothing_is_chosen_and_the_search_ends() -> None:
    def lost(ask: Ask) -> Answer:
        return landscape(ask) if ask.params is None else Answer(None, RETRAINED)

    for search in (racing.search(SPACE, range(2), range(2, 4), trials=20, keep=2), deep_unlearn.search(SPACE, seeds=1, trials=3)):
        found, _ = run(search, lost)
        assert found.best is None and {t.status for t in found.trials} == {"diverged"} and all(t.score is None for t in found.trials)


def test_the_studys_protocol_counts_complete_trials_for_each_seed_and_takes_the_smallest_norm() -> None:
    found, rounds = run(deep_unlearn.search(SPACE, seeds=3, trials=12))
    done = [t for t in found.trials if t.status == "done"]
    assert [sum(t.parts["seed"] == s for t in done) for s in range(3)] == [12, 12, 12]
    assert len(found.trials) > len(done)  # those that diverged are kept, and do not count
    best = min(done, key=lambda t: t.score or 0.0)
    assert found.best is not None and found.trials[found.best] is best and best.score == pytest.approx(hypot(*best.parts["objectives"]))
    assert {ask.place for asks in rounds for ask in asks} == {0, 1, 2}


def test_its_four_objectives_by_hand() -> None:
    u = {"retain_accuracy": 0.97, "forget_accuracy": 0.96, "val_accuracy": 0.87, "mia_val": 0.53}
    assert deep_unlearn.objectives(Answer(u, RETRAINED)) == pytest.approx([0.01, 0.02, 0.01, 0.06])
    assert deep_unlearn.objectives(Answer(None, RETRAINED)) is None
