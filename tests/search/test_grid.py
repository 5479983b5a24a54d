"""The declared search: its score by hand, its choice, and what divergence does to a candidate."""

from collections.abc import Sequence

import pytest

from engine.search import grid
from engine.search.grid import choose
from engine.search.protocol import Answer, Ask, Metrics, Trial

RETRAINED = [{"retain_accuracy": 1.0, "forget_accuracy": 0.9, "heldout_accuracy": 0.9, "forget_heldout_auc": 0.48},
             {"retain_accuracy": 1.0, "forget_accuracy": 0.8, "heldout_accuracy": 0.9, "forget_heldout_auc": 0.52}]


def judge(params: dict[str, float], unlearned: Sequence[Metrics | None], retrained: Sequence[Metrics]) -> Trial:
    return grid.judge(params, [Answer(u, r) for u, r in zip(unlearned, retrained, strict=True)])


def test_the_score_by_hand() -> None:
    unlearned = [{"retain_accuracy": 0.97, "forget_accuracy": 0.96, "heldout_accuracy": 0.90, "forget_heldout_auc": 0.56},
                 {"retain_accuracy": 1.00, "forget_accuracy": 0.74, "heldout_accuracy": 0.84, "forget_heldout_auc": 0.50}]
    trial = judge({"lr": 0.1}, unlearned, RETRAINED)
    # gaps: (0.03 + 0.06 + 0.00) / 3 and (0.00 + 0.06 + 0.06) / 3; mean AUC 0.53 against 0.50
    assert trial.score == pytest.approx((0.035 + 0.04) / 2 + 2 * 0.03)
    assert trial.status == "done"


def test_retraining_itself_scores_zero() -> None:
    assert judge({}, RETRAINED, RETRAINED).score == 0


def test_a_candidate_that_diverged_anywhere_has_no_score_and_is_never_chosen() -> None:
    lost = judge({}, [RETRAINED[0], None], RETRAINED)
    assert (lost.score, lost.status, lost.parts) == (None, "diverged", {"diverged": 1})
    assert choose([lost, Trial({}, 0.5, {}, "done")]) == 1
    assert choose([lost]) is None


def test_the_earlier_of_two_equals_is_chosen() -> None:
    assert choose([Trial({}, 0.2, {}, "done"), Trial({}, 0.1, {}, "done"), Trial({}, 0.1, {}, "done")]) == 1


def test_one_wrecked_model_outweighs_a_slightly_better_mean() -> None:
    off = [{name: value - 0.03 * (name != "forget_heldout_auc") for name, value in m.items()} for m in RETRAINED * 4]
    wrecked = [*(RETRAINED * 4)[:-1], {**RETRAINED[1], "retain_accuracy": 0.9, "heldout_accuracy": 0.8}]
    assert choose([judge({}, wrecked, RETRAINED * 4), judge({}, off, RETRAINED * 4)]) == 1


def test_every_candidate_is_asked_for_on_every_place_and_the_best_is_found() -> None:
    search = grid.search([{"lr": 0.1}, {"lr": 0.2}], [7, 8])
    assert next(search) == [Ask({"lr": 0.1}, 7), Ask({"lr": 0.1}, 8), Ask({"lr": 0.2}, 7), Ask({"lr": 0.2}, 8)]
    worse = {**RETRAINED[0], "retain_accuracy": 0.5}
    with pytest.raises(StopIteration) as end:
        search.send([Answer(worse, RETRAINED[0])] * 2 + [Answer(RETRAINED[0], RETRAINED[0])] * 2)
    assert end.value.value.best == 1 and [t.status for t in end.value.value.trials] == ["done", "done"]
