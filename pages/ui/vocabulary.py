"""The words of this field, and of these pages, in plain words. `glossary` adds what metrics, attacks and methods say of themselves."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Term:
    """One term. text: what it means, which way is better where that matters, and the unit. also: other words that it is looked up by.

    metrics: names in `formats.METRICS` that it is the place for; attacks: names in the catalogue. groups, checks: list those of the Leaderboard,
    and those of the calibration.
    """

    name: str
    group: str
    text: str
    sources: tuple[str, ...] = ()
    also: tuple[str, ...] = ()
    metrics: tuple[str, ...] = ()
    attacks: tuple[str, ...] = ()
    groups: bool = False
    checks: bool = False


_STUDY = "Cadet et al., Deep Unlearn, EuroS&P 2025, arXiv:2410.01276"
_ACCURACIES = ("test_retention", "test_accuracy", "forget_accuracy", "retain_accuracy", "val_accuracy")

TERMS = (
    # ---- the question
    Term("Unlearning", "The question", "Changing a trained model so that it behaves as if some of its training examples had never been there, at less "
         "than the price of training it again."),
    Term("Original", "The question", "The model before unlearning, trained on retain and forget together. Shows how much there was to forget."),
    Term("Retrained", "The question", "A model trained from scratch without the forget examples: exact, slow, and the reference for everything here. Nothing "
         "can be expected to be better at forgetting than it.", also=("retraining", "gold standard")),
    Term("Over-forgetting", "The question", "A model that is less sure of a forgotten example than of one it has never seen. That gives the example away "
         "just as under-forgetting does, so scores are best in the middle, not at an end.", also=("under-forgetting", "streisand")),
    # ---- data and models
    Term("Forget, retain, val and test", "Data and models", "The four parts of the data. *Forget*: to be forgotten. *Retain*: the rest of the training "
         "data. *Val*: held out, to stop or to choose by. *Test*: held out, for the final accuracy. No method reads test.",
         also=("forget set", "retain set", "validation", "split")),
    Term("Split", "Data and models", "Who is in which part of the data. U-LiRA needs many: split s is a random half of the training data, so that "
         "every example is trained on in some models and not in others. Splits are independent of each other, examples of one split are not: intervals of "
         "attacks are over splits.", also=("random half", "protocol", "u_lira")),
    Term("Seed", "Data and models", "A number from which initial weights, data order and every other draw of a model follow. Models of several seeds share "
         "one split unless a study varies it, so an interval over seeds says nothing of other splits."),
    Term("Forget share", "Data and models", "How much of the training data is to be forgotten; a tenth unless said otherwise."),
    Term("Cell", "Data and models", "A dataset with an architecture and a share to forget. Whether a method is good is judged in each."),
    Term("Study and run", "Data and models", "A *study* is a file that says what is computed; a *run* is one thing that was: a model, an attack, a timing. "
         "Every number has the run that made it.", also=("record", "provenance", "run id")),
    Term("Corrected and official variant", "Data and models", "*Corrected* does what a method's paper defines. *Official* repeats what the released "
         "code of the reference study does where that differs.", sources=(_STUDY,), also=("variant",)),
    Term("Exact and fast", "Data and models", "How a stack of models is computed. *Exact*: each model gives the same bits as alone, in one build of torch on "
         "one kind of processor. *Fast*: equal to rounding at each step, and after training an equally valid draw.",
         also=("mode", "executor", "loop", "fused", "compiled", "products", "stack", "replica")),
    Term("Live weights", "Data and models", "Weights that can influence an output at this image size; the others only ever meet padding. A method that picks "
         "weights to change may pick dead ones, and then changes less than it seems to.", also=("dead weights", "padding"), metrics=("live_share",)),
    Term("Stale", "Data and models", "Computed by an older version of a method than is here now."),
    # ---- attacks
    Term("Membership inference attack", "Attacks", "Tells from a model's outputs whether an example was in its training data. Here it must tell forgotten "
         "examples from those that were never seen.", sources=("Shokri et al., S&P 2017, arXiv:1610.05820",), also=("mia",)),
    Term("Logit-scaled confidence (phi)", "Attacks", "log(p / (1 − p)) of the true class: how sure a model is, in nats, unbounded; larger = surer. "
         "Most attacks read this one number.", sources=("Carlini et al., S&P 2022, arXiv:2112.03570",), also=("φ", "score", "margin")),
    Term("Shadow models", "Attacks", "Models that the attacker trains to learn what scores look like in either case. Here the models of all other splits.",
         also=("shadow", "reference models", "target")),
    Term("U-LiRA", "Attacks", "The strong attack: for each example it compares models that forgot it with models that never saw it. Needs hundreds of models.",
         sources=("Hayes et al., SaTML 2025, arXiv:2403.01218",), also=("ulira", "per-example attack", "likelihood ratio"),
         metrics=("balanced_accuracy", "auc"), attacks=("u_lira",)),
    Term("Population MIA", "Attacks", "The cheap attack, which most papers report: one rule for all examples, one model at a time. Where it sees nothing "
         "U-LiRA may see a lot.", sources=(_STUDY, "six features: Song and Mittal, USENIX Security 2021, arXiv:2003.10595"),
         also=("population attack", "cheap attack", "surer"),
         metrics=("mia_test", "mia_val", "population/all/logistic/auc", "population/surer"), attacks=("population_mia", "population")),
    Term("Against retrained", "Attacks", "Another question than U-LiRA's: not whether an example left a trace, but whether unlearning did what retraining "
         "would have done. A model may pass one and fail the other.",
         sources=("Triantafillou et al., 2024, arXiv:2406.09073",), also=("versus retrained", "NeurIPS 2023"), attacks=("versus_retrained",)),
    Term("RULI", "Attacks", "Asks both questions, and asks them of memorised examples apart, which random ones hide.",
         sources=("Naderloui et al., USENIX Security 2025, arXiv:2506.13009",), also=("efficacy", "privacy", "vulnerable", "memorised"),
         metrics=("privacy_random_balanced_accuracy", "privacy_vulnerable_balanced_accuracy"), attacks=("ruli",)),
    Term("LiRA", "Attacks", "U-LiRA's parent, run here on original models as a ceiling: what there is to see where nothing was unlearned.",
         sources=("Carlini et al., S&P 2022, arXiv:2112.03570",), also=("ceiling",), attacks=("lira",)),
    Term("RMIA", "Attacks", "As LiRA a ceiling on original models, good with few of them.",
         sources=("Zarifzadeh et al., ICML 2024, arXiv:2312.03262",), also=("ceiling",), attacks=("rmia",)),
    Term("Online and offline", "Attacks", "*Online*: the attacker has models of both worlds. *Offline*: only of those that never saw the example, so what "
         "was forgotten too much is not seen.", sources=("Carlini et al., S&P 2022, arXiv:2112.03570",)),
    Term("Exposure", "Attacks", "How well U-LiRA does on the examples that are most at risk. An average over all examples hides them.",
         sources=("Grimes et al., DLSP 2024, arXiv:2405.19211",), also=("exposed", "worst examples"), attacks=("exposure",)),
    Term("Calibration checks", "Attacks", "Whether the attack can be believed, on models whose answer is known. What fails a check, or has too few models "
         "for one, is shown in grey:", also=("calibrated", "not settled", "grey"), checks=True),
    # ---- numbers of attacks
    Term("Balanced accuracy", "Numbers of attacks", "The mean of how often an attack is right in each of the two worlds. ½ = guessing, 1 = always "
         "right; here ½ is best."),
    Term("ROC, TPR at FPR", "Numbers of attacks", "How many are rightly found (true-positive rate) for each rate of false alarms (false-positive "
         "rate); both axes logarithmic, as what matters is found at few alarms. AUC is the area below: ½ = guessing. So many models can tell only "
         "rates above a smallest one; nothing is drawn below it.", sources=("Carlini et al., S&P 2022, arXiv:2112.03570",),
         also=("auc", "true positive", "false positive", "curve"), metrics=("tpr_at_fpr_0.01",)),
    Term("Shift", "Numbers of attacks", "Which way an attack's success points.", metrics=("shift",)),
    Term("Epsilon lower bound", "Numbers of attacks", "How much privacy loss an attack has shown: rates of a mechanism that is (ε, δ)-private cannot "
         "be further apart than ε allows. At 95 %, over splits, δ = 1e-5; 0 = nothing shown, larger = more leaked. Few splits can show little whatever "
         "leaks, so a small bound proves no privacy.",
         sources=("Gonzalez et al., NeurIPS 2025, arXiv:2509.07055", "Kairouz et al., ICML 2015, arXiv:1311.0776"),
         also=("ε", "differential privacy", "delta")),
    Term("Forgetting quality", "Numbers of attacks", "The score of the NeurIPS 2023 unlearning competition. 1 = as if retrained; retraining itself, held "
         "against other retrained models, is the floor to compare with.",
         sources=("Triantafillou et al., 2024, arXiv:2406.09073",), also=("competition",), attacks=("forgetting_quality",)),
    Term("KLoM", "Numbers of attacks", "KL divergence of margins, in nats. 0 = the same outputs as retrained models; few models look far apart by chance, "
         "hence the floor beside it.", sources=("Georgiev et al., ICLR 2025, arXiv:2410.23232",),
         also=("KL divergence of margins",), attacks=("klom",)),
    # ---- accuracy and time
    Term("Accuracy", "Accuracy and time", "Share of examples that a model classifies rightly.", also=("retention",), metrics=_ACCURACIES),
    Term("Retention Deviation", "Accuracy and time", "How well accuracy is kept where it should be, and lost where retraining loses it.", sources=(_STUDY,),
         metrics=("retention_deviation",)),
    Term("Indiscernibility", "Accuracy and time", "The population attack's accuracy, turned so that more is better.", sources=(_STUDY,),
         metrics=("indiscernibility",)),
    Term("RTE", "Accuracy and time", "Run-time efficiency: the speed-up over retraining. Both are timed alone on one machine, warmed up.", sources=(_STUDY,),
         also=("run time", "speed", "seconds", "run-time efficiency"), metrics=("rte", "unlearn_s", "image_passes")),
    # ---- closeness to retraining
    Term("JS divergence", "Closeness to retraining", "Jensen-Shannon divergence: how far apart two models' softmax outputs are.",
         sources=("Lin, IEEE Transactions on Information Theory 1991",), also=("Jensen-Shannon",),
         metrics=("js_forget", "js_test")),
    Term("Activation distance", "Closeness to retraining", "How far outputs are from the retrained model's.",
         sources=("Chundawat et al., AAAI 2023, arXiv:2205.08096",), metrics=("activation_distance_forget",)),
    Term("Agreement and churn", "Closeness to retraining", "Churn is 1 − agreement.", sources=("Milani Fard et al., NIPS 2016",),
         metrics=("agreement_forget", "agreement_test")),
    Term("ZRF", "Closeness to retraining", "0 to 1; 1 would be as random as a network that was never trained.",
         sources=("Chundawat et al., AAAI 2023, arXiv:2205.08096",), metrics=("zrf",)),
    Term("Weight distance", "Closeness to retraining", "How far weights are from the retrained model's. A model of another seed is far too, so far is "
         "not bad by itself.", sources=("Thudi et al., EuroS&P 2022, arXiv:2109.13398",), metrics=("weight_distance", "relative_weight_distance")),
    Term("Weights moved", "Closeness to retraining", "How far a method went from the original, live and dead weights apart: what happens to dead ones is no "
         "unlearning.", also=("movement", "dead weights"), metrics=("moved_live", "moved_dead", "moved_stem", "moved_block1", "moved_block2", "moved_block3",
                                                               "moved_block4", "moved_head")),
    Term("Class centres", "Closeness to retraining", "A class centre is the mean of a class's retain examples among the features before the last layer. What a "
         "network was trained on lies near one. The map of examples shows the two directions of largest variance (principal components); what it shows "
         "may be less than there is.", also=("embedding", "PCA", "features", "map"), metrics=("embedding_auc", "embedding_variance")),
    Term("Confusion", "Closeness to retraining", "Which class was taken for which, by true class and prediction.", also=("confusion matrix", "by class")),
    Term("CKA", "Closeness to retraining", "Centred kernel alignment: whether two networks see the same likenesses among images, layer by layer.",
         sources=("Kornblith et al., ICML 2019, arXiv:1905.00414",), metrics=tuple(f"cka_{at}" for at in ("block1", "block2", "block3", "block4", "logits"))),
    Term("Relearn time", "Closeness to retraining", "What looks forgotten but comes back at once was hidden, not gone.",
         sources=("Golatkar et al., ECCV 2020, arXiv:2003.02960",), also=("relearning",), metrics=("relearn_epochs", "relearn_reached")),
    # ---- statistics
    Term("95 % interval", "Statistics", "Would hold the true value in 19 of 20 repetitions of the whole experiment. Over seeds (Student's t) for "
         "accuracies, over splits for attacks; the range of repeats for time. Where two intervals overlap, too close to tell.",
         also=("confidence interval", "ci")),
    Term("Within retraining noise", "Statistics", "Not found to differ from retraining more than retrained models differ among themselves. Not found "
         "is not the same as equal: few seeds find little. The groups of the Leaderboard, by a rule of this project:",
         also=("G1", "G2", "G3", "group", "noise"), groups=True),
    Term("Paired test", "Statistics", "Compares two methods seed by seed, as models of one seed share their start. Exact: all sign flips up to 12 seeds, "
         "Wilcoxon's signed ranks beyond.", also=("Wilcoxon", "sign test", "p")),
    Term("Holm", "Statistics", "Correction for many tests at once: the smallest p is held against the strictest level, and so on. A p of 0.05 after "
         "Holm means at most 5 % chance of even one false finding.",
         sources=("Holm, Scandinavian Journal of Statistics 1979",), also=("multiple testing", "adjusted p")),
    Term("Rank", "Statistics", "Place among the methods of a cell; 1 is best. Methods that tests cannot tell apart share the average of their places."),
    Term("Friedman and Nemenyi", "Statistics", "Friedman's test asks whether ranks differ at all over cells; Nemenyi's says how far two "
         "average ranks must be apart.", sources=("Demsar, JMLR 2006",), also=("Friedman", "Nemenyi")),
    Term("Critical difference", "Statistics", "How far apart two average ranks must be to differ at level 0.05 (Nemenyi). Bars in the diagram join "
         "methods that are nearer. Cells are the blocks, never seeds.", sources=("Demsar, JMLR 2006",)),
    Term("Pareto front", "Statistics", "What no other beats in every respect. Off the front, something else is at least as good in all and better in one.",
         also=("trade-off", "dominated")),
    Term("Consistently good", "Statistics", "Within retraining noise in both metrics in at least 80 % of a method's cells, and faster than retraining in all."),
    # ---- searches and claims
    Term("Trial", "Searches and claims", "One setting of a method's hyper-parameters and what it scored, on tuning splits that no attack on reported models "
         "ever sees.", also=("hyper-parameter", "setting", "tuning", "search")),
    Term("Racing", "Searches and claims", "Rounds of settings; the better half of each runs on all tuning splits, and the best again on fresh ones, "
         "which alone decide. Scores are distances from retraining, in units of its noise; lower is better."),
    Term("NSGA-III", "Searches and claims", "The reference study's search: four objectives at once, one model a trial.",
         sources=(_STUDY, "Deb and Jain, IEEE TEVC 2014"), also=("deep_unlearn",)),
    Term("Importance", "Searches and claims", "How much of the variance of the trials' ranks one parameter explains by itself; larger = matters more. "
         "Shaded: what chance reaches."),
    Term("Verdict", "Searches and claims", "Whether a published claim holds here, by a written rule and never by hand. Measured in another setting "
         "than the claim's it is *not comparable*, however well it agrees.", also=("reproduced", "reproduction", "claim")),
)
