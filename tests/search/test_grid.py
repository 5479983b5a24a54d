"""The declared search: its score by hand, its choice, and what divergence does to a candidate."""

import pytest

from engine.search.grid import Trial, choose, judge

RETRAINED = [{"retain_accuracy": 1.0, "forget_accuracy": 0.9, "heldout_accuracy": 0.9, "forget_heldout_auc": 0.48},
             {"retain_accuracy": 1.0, "forget_accuracy": 0.8, "heldout_accuracy": 0.9, "forget_heldout_auc": 0.52}]


def test_the_score_by_hand() -> None:
    unlearned = [{"retain_accuracy": 0.97, "forget_accuracy": 0.96, "heldout_accuracy": 0.90, "forget_heldout_auc": 0.56},
                 {"retain_accuracy": 1.00, "forget_accuracy": 0.74, "heldout_accuracy": 0.84, "forget_heldout_auc": 0.50}]
    trial = judge({"lr": 0.1}, unlearned, RETRAINED)
    # mean |d|: retain 0.015, forget 0.06, held-out 0.03; mean AUC 0.53 against 0.50
    assert trial.score == pytest.approx((0.015 + 0.06 + 0.03) / 3 + 2 * 0.03)
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
