"""Numbers and words as people read them. Rates stay fractions everywhere else; only this module makes a percent."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pandas as pd

Row = Mapping[str, Any]  # one row of an answer of `engine.store.queries`
Rows = Sequence[Row]

MISSING = "–"
THIN = "\u202f"  # no line ends between a number and its unit


@dataclass(frozen=True)
class Metric:
    """How a metric is named and shown. better: up, down, half (nearest to one half) or empty. kind: see `number`."""

    label: str
    short: str
    better: str
    kind: str
    doc: str = ""

    @property
    def arrow(self) -> str:
        return _ARROWS[self.better]

    @property
    def header(self) -> str:
        return f"{self.short} {self.arrow}".strip()

    @property
    def axis(self) -> str:
        return f"{self.label} ({_WORDS[self.better]})" if self.better else self.label


_ARROWS = {"up": "↑", "down": "↓", "half": "→ ½", "": ""}
_WORDS = {"up": "higher is better", "down": "lower is better", "half": "½ is best"}

METRICS: dict[str, Metric] = {
    "balanced_accuracy": Metric("U-LiRA balanced accuracy", "U-LiRA", "half", "rate",
                                "Per-example attack: how often it tells forgotten examples from never seen ones. ½ = it can only guess."),
    "mia_test": Metric("Population attack accuracy", "Population MIA", "half", "rate",
                       "The cheap attack: one threshold on the loss for all examples, one model at a time. ½ = it can only guess."),
    "mia_val": Metric("Population attack accuracy, on val", "Pop. MIA (val)", "half", "rate"),
    "auc": Metric("U-LiRA AUC", "AUC", "half", "rate", "Area under the attack's ROC curve."),
    "tpr_at_fpr_0.01": Metric("U-LiRA TPR at 1 % FPR", "TPR at 1 %", "down", "rate", "Found with certainty: 0.01 is chance."),
    "shift": Metric("Shift of forgotten scores", "Shift", "", "signed",
                    "Mean distance of forgotten from never-seen scores, in standard deviations. "
                    "Above 0: not forgotten enough. Below 0: forgotten too much, which gives it away as well."),
    "test_retention": Metric("Test accuracy kept", "Test acc. kept", "up", "share",
                             "Test accuracy divided by that of the model retrained with the same seed."),
    "test_accuracy": Metric("Test accuracy", "Test acc.", "up", "share"),
    "forget_accuracy": Metric("Forget accuracy", "Forget acc.", "", "share",
                              "Best is what retraining has, neither more nor less."),
    "retain_accuracy": Metric("Retain accuracy", "Retain acc.", "up", "share"),
    "val_accuracy": Metric("Validation accuracy", "Val acc.", "up", "share"),
    "retention_deviation": Metric("Retention Deviation", "Ret. dev.", "down", "rate",
                                  "How far retain, forget and test accuracy are from retraining's, added up. 0 = the same."),
    "indiscernibility": Metric("Indiscernibility", "Indisc.", "up", "rate", "1 − |2·MIA − 1| per seed. 1 = the population attack guesses."),
    "rte": Metric("Speed-up over retraining", "Speed-up", "up", "times", "Seconds to retrain divided by seconds to unlearn, measured alone."),
    "unlearn_s": Metric("Time to unlearn", "Time", "down", "seconds", "Median of dedicated, warmed-up repeats."),
    "population/all/logistic/auc": Metric("Population attack AUC, six features, logistic", "Pop. AUC (logistic)", "half", "rate",
                                          "Out of fold, forget against test, one model at a time."),
    "population/surer": Metric("Forget surer than test", "Surer", "half", "rate", "Chance that a forget example scores above a test example. "
                               "Above ½: not forgotten enough. Below: forgotten too much."),
    "privacy_random_balanced_accuracy": Metric("RULI on random examples", "RULI, random", "half", "rate"),
    "privacy_vulnerable_balanced_accuracy": Metric("RULI on memorised examples", "RULI, memorised", "half", "rate"),
    "js_forget": Metric("Jensen-Shannon divergence from retrained, forget", "JS (forget)", "down", "rate", "Of the outputs, in nats: 0 to 0.693."),
    "js_test": Metric("Jensen-Shannon divergence from retrained, test", "JS (test)", "down", "rate", "Of the outputs, in nats: 0 to 0.693."),
    "activation_distance_forget": Metric("Activation distance to retrained, forget", "Act. dist.", "down", "rate",
                                         "Mean L2 distance of the softmax outputs: 0 to 1.414."),
    "agreement_forget": Metric("Agreement with retrained, forget", "Agree (forget)", "up", "share", "Examples of which both predict the same class."),
    "agreement_test": Metric("Agreement with retrained, test", "Agree (test)", "up", "share", "Examples of which both predict the same class."),
    "zrf": Metric("Zero-retrain forgetting", "ZRF", "", "rate", "How much outputs on forget are like those of an untrained network. "
                  "Best is what retraining has."),
    "weight_distance": Metric("Weight distance to retrained", "Weights (L2)", "down", "rate", "L2 over all weights, same seed."),
    "relative_weight_distance": Metric("Weight distance to retrained, relative", "Weights", "down", "rate", "L2, over the norm of the retrained weights."),
    **{f"cka_{layer}": Metric(f"CKA with retrained, {words}", f"CKA {words}", "up", "rate", "How alike the same images are arranged after this "
                              "layer; 1 = as in the retrained model of the same seed, 0 = unrelated. Linear, debiased, on test images.")
       for layer, words in (("block1", "block 1"), ("block2", "block 2"), ("block3", "block 3"), ("block4", "block 4"), ("logits", "logits"))},
    "relearn_epochs": Metric("Relearn time, epochs", "Relearn", "", "epochs", "Epochs of fine-tuning on forget until a model knows it as the "
                             "original did. Best is what retraining needs: sooner, and something was left behind. At most 12."),
    "relearn_reached": Metric("Relearned at all", "Relearned", "", "share", "Models that knew forget again in 12 epochs; the others need longer."),
    "embedding_auc": Metric("Forget nearer to class centres than test", "Centre AUC", "", "rate", "Chance that a forget example lies nearer to a class "
                            "centre than a test example, among the features before the last layer. Best is what retraining has: above it, something of "
                            "forget was left."),
    "embedding_variance": Metric("Variance that two axes hold", "Variance shown", "", "share", "Of the features before the last layer."),
    **{f"moved_{kind}": Metric(f"{kind.capitalize()} weights moved, relative", f"Moved ({kind})", "", "share",
                               f"L2 distance from the original of the same seed over its norm, of the weights that {can} influence an output at this "
                               "image size.") for kind, can in (("live", "can"), ("dead", "cannot"))},
    **{f"moved_{part}": Metric(f"Live weights moved, {words}", f"Moved ({words})", "", "share", "From the original of the same seed, over its norm.")
       for part, words in (("stem", "stem"), ("block1", "block 1"), ("block2", "block 2"), ("block3", "block 3"), ("block4", "block 4"), ("head", "head"))},
    "live_share": Metric("Live weights in the selection", "Live", "", "share",
                         "Of the weights that the method chooses to redraw, move or shake, how many can influence an output at this image size."),
    "image_passes": Metric("Image passes", "Image passes", "down", "count",
                           "Images sent forward or backward: run time without the machine."),
}

GROUPS = {"G1": "within retraining noise", "G2": "close: at most half as far from retraining as the original", "G3": "far", "F": "failed"}


def number(value: float | None, kind: str) -> str:
    """share 99.1 % | small 0.021 % | rate 0.512 | signed −0.60 | seconds 1.2 s | times 12.6× | epochs 7.3 | count 12 300; a dash when missing."""
    if value is None or pd.isna(value):
        return MISSING
    match kind:
        case "share":
            return f"{100 * value:.1f}{THIN}%"
        case "small":
            return f"{100 * value:.2g}{THIN}%"
        case "rate":
            return f"{value:z.3f}"  # never -0.000
        case "signed":
            return f"{value:+.2f}".replace("-", "−")
        case "seconds":
            return duration(value)
        case "times":
            return f"{value:.1f}×" if value < 100 else f"{value:.0f}×"
        case "epochs":
            return f"{value:.1f}"
        case _:
            return f"{value:,.0f}".replace(",", THIN)


def bare(text: str) -> str:
    """Without its percent sign, for the first of two numbers that share one."""
    return text.removesuffix(THIN + "%")


def with_interval(value: float, lo: float, hi: float, kind: str) -> str:
    """`0.512 (0.500 to 0.524)`, or the value alone where there is no interval."""
    if pd.isna(lo) or pd.isna(hi) or number(lo, kind) == number(hi, kind):
        return number(value, kind)
    return f"{number(value, kind)} ({bare(number(lo, kind))} to {number(hi, kind)})"


def rank(value: float) -> str:
    """`2`, `2.5`, `13.33`; a dash when missing."""
    return MISSING if pd.isna(value) else f"{value:.4g}"


def rate(value: float) -> str:
    """Of work done a second: 0.42, 7.3, 1 234."""
    return f"{value:.2f}" if value < 1 else f"{value:.1f}" if value < 100 else number(value, "count")


def duration(seconds: float | None) -> str:
    """32 ms | 0.40 s | 4.2 s | 48 s | 3 min | 1 h 20 min"""
    if seconds is None or pd.isna(seconds):
        return MISSING
    if seconds < 1:
        return f"{seconds:.2f}{THIN}s" if seconds >= 0.1 else f"{1000 * seconds:.0f}{THIN}ms"
    if seconds < 90:
        return f"{seconds:.1f}{THIN}s" if seconds < 10 else f"{seconds:.0f}{THIN}s"
    minutes = round(seconds / 60)
    return f"{minutes}{THIN}min" if minutes < 60 else f"{minutes // 60}{THIN}h {minutes % 60}{THIN}min"


def ago(moment: datetime | pd.Timestamp | None, now: datetime | None = None) -> str:
    """How old a UTC moment is: `just now`, `12 minutes ago`, `3 days ago`."""
    if moment is None or pd.isna(moment):
        return "at an unknown time"
    now = (now or datetime.now(UTC)).replace(tzinfo=None)
    seconds = (now - pd.Timestamp(moment).tz_localize(None).floor("ms").to_pydatetime()).total_seconds()
    for size, unit in ((365 * 86400, "year"), (30 * 86400, "month"), (86400, "day"), (3600, "hour"), (60, "minute")):
        if seconds >= size:
            return f"{counted(int(seconds // size), unit)} ago"
    return "just now"


def counted(n: int | float, noun: str, plural: str | None = None) -> str:
    """`1 seed`, `10 seeds`, `1 280 models`."""
    return f"{number(n, 'count')} {noun if n == 1 else plural or noun + 's'}"


def listed(words: Sequence[str]) -> str:
    """`A`, `A and B`, `A, B and C`."""
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}" if words else ""


def sentence(text: str) -> str:
    """With a capital at its start; the rest stays, as it may hold abbreviations."""
    return text[:1].upper() + text[1:]


def settings(params: Any) -> str:
    """A JSON text or mapping of hyper-parameters as `lr = 0.08, epochs = 4`."""
    if isinstance(params, str):
        params = json.loads(params)
    if not isinstance(params, dict) or not params:
        return "no parameters"
    return ", ".join(f"{name} = {plain(value)}" for name, value in params.items())


def plain(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
