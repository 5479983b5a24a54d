"""Population attacks: one rule for all examples tells what was forgotten from what was never seen, by one model's outputs.

    loss               -log p_y
    phi                log(p_y / (1 - p_y))
    confidence         max_k p_k, as its log-odds: the same order, without the ties where it would round to 1
    entropy            -sum_k p_k log p_k
    modified_entropy   -(1 - p_y) log p_y - sum_{k != y} p_k log(1 - p_k)
    margin             z_y - max_{k != y} z_k

    <feature>/threshold   above or below one value; phi has none of its own, its order is that of the loss
    all/logistic          logistic regression on all six, standardised
    all/boosting          gradient boosting on all six

1/2 = nothing leaks. All logarithms come from logits, never from a rounded softmax. Every example is scored by a rule that did not see
it (5 stratified folds), and the value above which members are called is the best for balanced accuracy on the other four folds. Members
and non-members weigh the same in sum, whatever their numbers; nothing is thrown away.

The curve is over ranks within a fold, of all its examples together: scores of rules from different folds are not comparable, and a
member of one fold helped to train the rule that scored the other's non-members. Pooled as they are, they cost about 0.02 of AUC with
100 examples a side (simulated); over ranks, the AUC is the mean of the folds' (but for ties).

Intervals draw examples, fits as they are, and are then widened by sqrt(2): an example also moves the rules that score others, each pair
of examples enters twice, and where nothing leaks that doubles the variance (as in `u_lira`). Simulated without a leak, 20 to 100
examples a side, they hold 92 to 98 % of the time; unwidened, 79 to 88 %.

The two sides must come from the same distribution, or an attack finds that difference and no leak: classes above all. So labels are no
feature. The largest of the seven is no honest number of this model: choose on other models, report on this.

Source: modified entropy from Song and Mittal, "Systematic Evaluation of Privacy Risks of Machine Learning Models", USENIX Security
2021, arXiv:2003.10595; the loss from Yeom et al., "Privacy Risk in Machine Learning", CSF 2018, arXiv:1709.01604; phi from Carlini et
al., S&P 2022, arXiv:2112.03570.
Differs: no shadow models, rules are fitted on other examples of the same model: an auditor can, an outsider seldom. One threshold for all
classes (there one a class: a hundred examples have ten of each).
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.stats import rankdata
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from engine.attacks.bootstrap import DRAWS, Estimate
from engine.attacks.gaussians import TOO_LARGE
from engine.attacks.info import AttackInfo
from engine.attacks.rates import Metric, Rates, count, metric, rates_over_examples
from engine.errors import DataError, Diverged
from engine.metrics.roc import roc

INFO = AttackInfo(
    name="population",
    label="Population attacks",
    doc="Six features of one model's outputs, by threshold, logistic regression and boosting; scored out of fold. Balanced accuracy 1/2 is best.",
    paper="arXiv:2003.10595",
    version=1,
)

FOLDS = 5
FEWEST = 10  # examples a side: two a fold
FIT_NOISE = 2**0.5  # of the intervals, see above
BINS = 127  # of each feature, in boosting
FEATURES = ("loss", "phi", "confidence", "entropy", "modified_entropy", "margin")

Rule = Callable[[Float[np.ndarray, "n f"]], Float[np.ndarray, " n"]]  # larger = member
Fit = Callable[[Float[np.ndarray, "n f"], Bool[np.ndarray, " n"], int], Rule]


@dataclass(frozen=True)
class PopulationResult:
    """`attacks`: by name (`loss/threshold`), intervals over examples: how sure the number is for this model and other such examples.
    They do not cover how models vary with seed and split, nor what another fit on other examples would give.

    `surer`: chance that phi of a member is above that of a non-member: below 1/2 says over-forgotten, above under-forgotten.
    """

    attacks: dict[str, Rates]
    surer: Estimate
    n_members: int
    n_non_members: int

    def metrics(self) -> list[Metric]:
        """Rows as the store keeps them, `loss/threshold/auc` and so on. Rates that the sample cannot support have none."""
        rows = [Metric(name=f"{name}/{row['name']}", value=row["value"], lo=row["lo"], hi=row["hi"])
                for name, rates in self.attacks.items() for row in rates.metrics()]
        return [*rows, metric("surer", self.surer), count("n_members", self.n_members), count("n_non_members", self.n_non_members)]


def population(member_logits: Float[np.ndarray, "members k"], member_labels: Int[np.ndarray, " members"],
               non_member_logits: Float[np.ndarray, "others k"], non_member_labels: Int[np.ndarray, " others"], *,
               seed: int, draws: int = DRAWS) -> PopulationResult:
    """Attack one model: members are what it was to forget, non-members what it never saw. Larger = more leaked, in either direction.

    `seed` draws the folds and the intervals, so point estimates move with it a little.
    Raises: DataError for fewer than 10 examples a side, fewer than two classes, or shapes and labels that do not fit; Diverged if a logit is
    not finite.
    """
    _check(member_logits, member_labels, non_member_logits, non_member_labels)
    x = np.concatenate([_columns(member_logits, member_labels), _columns(non_member_logits, non_member_labels)])
    member = np.arange(len(x)) < len(member_labels)
    folds = list(StratifiedKFold(FOLDS, shuffle=True, random_state=seed).split(x, member))
    plans: dict[str, tuple[slice, Fit]] = {f"{name}/threshold": (slice(i, i + 1), _threshold)
                                           for i, name in enumerate(FEATURES) if name != "phi"}
    plans |= {"all/logistic": (slice(None), _logistic), "all/boosting": (slice(None), _boosting)}

    def attack(columns: slice, fit: Fit) -> Rates:
        rank, called = _out_of_fold(x[:, columns], member, fit, folds, seed)
        decided = rates_over_examples(called, member, seed=seed, draws=draws)
        ranked = rates_over_examples(rank, member, seed=seed, draws=draws)
        return replace(ranked, balanced_accuracy=_widened(decided.balanced_accuracy), auc=_widened(ranked.auc),
                       tpr_at_fpr={q: _widened(tpr) for q, tpr in ranked.tpr_at_fpr.items()})

    surer = rates_over_examples(x[:, FEATURES.index("phi")], member, seed=seed, draws=draws).auc
    return PopulationResult({name: attack(*plan) for name, plan in plans.items()}, surer, int(member.sum()), int((~member).sum()))


def features(logits: Float[np.ndarray, "n k"], y: Int[np.ndarray, " n"]) -> dict[str, Float[np.ndarray, " n"]]:
    """The six features of each example, from finite logits; nats but for margin (logits). A member is expected to have a larger phi,
    confidence and margin, and a smaller loss, entropy and modified entropy; forgetting too much turns that round."""
    z = logits.astype(np.float64)
    log_p, log_rest = _log_probabilities(z)
    p, rest = np.exp(log_p), np.exp(log_rest)
    mine = np.arange(z.shape[1]) == y[:, None]
    odds = log_p - log_rest
    return {"loss": -log_p[mine], "phi": odds[mine], "confidence": odds.max(1), "entropy": -(p * log_p).sum(1),
            "modified_entropy": -np.where(mine, rest * log_p, p * log_rest).sum(1), "margin": z[mine] - np.where(mine, -np.inf, z).max(1)}


def _log_probabilities(z: Float[np.ndarray, "n k"]) -> tuple[Float[np.ndarray, "n k"], Float[np.ndarray, "n k"]]:
    """log p and log(1 - p) of every class. Of the likeliest class, whose p may round to 1, both come from its log-odds; the others have
    p of at most 1/2, where log(1 - p) loses nothing."""
    top = np.arange(z.shape[1]) == z.argmax(1)[:, None]
    others = np.logaddexp.reduce(np.where(top, -np.inf, z), axis=1)
    odds = (z[top] - others)[:, None]
    log_p = np.where(top, -np.logaddexp(0, -odds), z - np.logaddexp(z[top], others)[:, None])
    return log_p, np.where(top, -np.logaddexp(0, odds), np.log1p(-np.where(top, 0, np.exp(log_p))))


def _columns(logits: Float[np.ndarray, "n k"], y: Int[np.ndarray, " n"]) -> Float[np.ndarray, "n 6"]:
    found = features(logits, y)
    return np.stack([found[name] for name in FEATURES], axis=1)


def _out_of_fold(x: Float[np.ndarray, "n f"], member: Bool[np.ndarray, " n"], fit: Fit, folds: list[tuple[np.ndarray, np.ndarray]],
                 seed: int) -> tuple[Float[np.ndarray, " n"], Float[np.ndarray, " n"]]:
    """Of each example by the rule that did not see it: its rank within the fold, in (0, 1), and whether it is called a member: 1, -1, or
    0 right on the threshold."""
    rank, called = np.zeros(len(x)), np.zeros(len(x))
    for train, test in folds:
        rule = fit(x[train], member[train], seed)
        score = rule(x[test])
        rank[test] = (rankdata(score) - 0.5) / len(test)
        called[test] = np.sign(score - _best_threshold(rule(x[train]), member[train]))
    return rank, called


def _best_threshold(score: Float[np.ndarray, " n"], member: Bool[np.ndarray, " n"]) -> float:
    """Half-way between the two scores where "member above it" has the best balanced accuracy; infinite where calling all alike is best."""
    curve = roc(score, member)
    best = int(np.argmax(curve.tpr - curve.fpr))
    below = np.append(curve.threshold, -np.inf)
    return float((below[best] + below[best + 1]) / 2)


def _threshold(x: Float[np.ndarray, "n f"], member: Bool[np.ndarray, " n"], seed: int) -> Rule:
    """One feature as it is, or turned round where the best threshold calls members below it."""
    curve = roc(x[:, 0], member)
    lead = curve.tpr - curve.fpr
    sign = 1.0 if lead.max() >= -lead.min() else -1.0
    return lambda x: sign * x[:, 0]


def _logistic(x: Float[np.ndarray, "n f"], member: Bool[np.ndarray, " n"], seed: int) -> Rule:
    model = make_pipeline(StandardScaler(), LogisticRegression(class_weight="balanced", max_iter=1000))
    return model.fit(x, member).decision_function


def _boosting(x: Float[np.ndarray, "n f"], member: Bool[np.ndarray, " n"], seed: int) -> Rule:
    """Few and shallow trees, and few bins: with some hundred examples and a weak leak, more of them find noise."""
    weight = np.where(member, len(x) / (2 * member.sum()), len(x) / (2 * (~member).sum()))
    edges = [_edges(column, weight) for column in x.T]

    def binned(x: Float[np.ndarray, "n f"]) -> Float[np.ndarray, "n f"]:
        return np.stack([np.searchsorted(cut, column) for cut, column in zip(edges, x.T, strict=True)], axis=1).astype(np.float64)

    model = HistGradientBoostingClassifier(max_iter=50, learning_rate=0.05, max_depth=3, max_bins=BINS, min_samples_leaf=20, random_state=seed)
    model.set_params(early_stopping=False)  # else a tenth is held back from 10,000 examples on; a declared type forbids it above
    model.fit(binned(x), member, sample_weight=weight)
    return lambda x: model.decision_function(binned(x))


def _edges(x: Float[np.ndarray, " n"], weight: Float[np.ndarray, " n"]) -> Float[np.ndarray, " e"]:
    """Where scikit-learn cuts a feature into bins, at weighted quantiles: all in one pass, as there they take six times as long as all trees."""
    values = np.unique(x)
    if len(values) <= BINS:
        return (values[1:] + values[:-1]) / 2
    order = np.argsort(x)
    ordered, below = x[order], np.cumsum(weight[order])
    wanted = np.linspace(0, 100, BINS + 1)[1:-1] / 100 * below[-1]
    at = np.minimum(np.searchsorted(below, wanted), len(x) - 1)
    between = below[at] - wanted <= np.finfo(np.float64).eps  # a quantile right between two examples
    return np.unique(np.where(between, (ordered[at] + ordered[np.minimum(at + 1, len(x) - 1)]) / 2, ordered[at]))


def _widened(found: Estimate) -> Estimate:
    lo, hi = (float(np.clip(found.value + FIT_NOISE * (end - found.value), 0, 1)) for end in (found.lo, found.hi))
    return Estimate(found.value, lo, hi)


def _check(member_logits: np.ndarray, member_labels: np.ndarray, non_member_logits: np.ndarray, non_member_labels: np.ndarray) -> None:
    """Raises: see `population`; DataError with all faults at once."""
    sides = (("member", member_logits, member_labels), ("non-member", non_member_logits, non_member_labels))
    faults = [fault for side in sides for fault in _faults(*side)]
    if not faults and member_logits.shape[1] != non_member_logits.shape[1]:
        faults.append(f"members have {member_logits.shape[1]} classes and non-members {non_member_logits.shape[1]}: they must be of one model")
    if faults:
        raise DataError(*faults)
    for side, logits, _ in sides:
        if bad := int((~(np.abs(logits.astype(np.float64)) < TOO_LARGE)).any(1).sum()):
            raise Diverged(f"population: {bad} of {len(logits)} {side} examples have logits that are NaN, infinite or beyond {TOO_LARGE:g}, "
                           "the model diverged")


def _faults(side: str, logits: np.ndarray, labels: np.ndarray) -> Iterator[str]:
    if logits.ndim != 2 or labels.shape != logits.shape[:1]:
        yield f"{side} logits must be [examples, classes] with one label an example, got {logits.shape} and {labels.shape}"
    elif logits.shape[1] < 2:
        yield f"population needs 2 or more classes, got {side} logits of shape {logits.shape}"
    elif len(labels) < FEWEST:
        yield f"population needs {FEWEST} or more {side} examples, got {len(labels)}"
    elif labels.min() < 0 or labels.max() >= logits.shape[1]:
        yield f"{side} labels must lie in 0 to {logits.shape[1] - 1}, got {labels.min()} to {labels.max()}"
