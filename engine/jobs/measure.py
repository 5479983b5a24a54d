"""One pass over each split of a stack, and every per-model number that follows from it."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from engine.attacks import population
from engine.attacks.gaussians import TOO_LARGE
from engine.attacks.population_mia import FEWEST, indiscernibility, population_mia
from engine.attacks.scores import phi
from engine.data.loader import Splits
from engine.losses import ce_per_example
from engine.metrics import closeness
from engine.metrics.accuracy import retention, retention_deviation
from engine.metrics.roc import auc
from engine.models.stack import Stack

EVALUATION_BATCH = 500
NON_MEMBERS = 2_000  # of the test images, for attacks that fit classifiers
# metrics that need the retrained model itself, which is not shipped
CLOSENESS = (*(f"{name}_{split}" for name in ("js", "activation_distance", "agreement") for split in ("forget", "test")),
             "weight_distance", "relative_weight_distance")


@dataclass(frozen=True)
class Outputs:
    """Per model and example of one split."""

    correct: Bool[np.ndarray, "r n"]
    loss: Float[np.ndarray, "r n"]
    phi: Float[np.ndarray, "r n"]
    logits: Float[np.ndarray, "r n k"]


@torch.no_grad()
def outputs(stack: Stack, data: Splits, split: str) -> Outputs:
    """Correctness, cross-entropy, logit-scaled confidence and logits, in eval mode without augmentation, in the weights' own precision."""
    training, precision = stack.training, stack.precision
    stack.eval().precision = "fp32" if precision == "bf16" else precision
    parts: list[tuple[Tensor, Tensor, Tensor, Tensor]] = []
    for x, y in data.ordered(split, EVALUATION_BATCH):
        logits = stack(x)
        own = torch.stack([phi(z, labels) for z, labels in zip(logits, y, strict=True)])
        parts.append((logits.argmax(-1) == y, ce_per_example(logits, y), own, logits))
    stack.train(training).precision = precision
    correct, loss, confidence, logits = (torch.cat(column, 1).cpu().numpy() for column in zip(*parts, strict=True))
    return Outputs(correct, loss, confidence, logits)


Metrics = dict[str, float]


def seeds_metrics(stack: Stack, data: Splits, references: Sequence[Metrics | None], retrained: Stack | None = None,
                  untrained: Stack | None = None) -> list[Metrics | None]:
    """Accuracies on the four splits, retention against the retrained model of the same seed, population attacks, for each replica.

    `references[r]`: the metrics of that retrained model, or None where replica r is itself one. With the models themselves (retrained[r])
    also how close the outputs and weights are, and with untrained ones how much like those the outputs on forget.
    None for a replica whose outputs are not finite, or beyond any logit: it diverged, and there is no number to give.
    """
    found = {split: outputs(stack, data, split) for split in ("retain", "forget", "val", "test")}
    close = _closeness(stack, found, data, retrained, untrained)
    rows: list[Metrics | None] = []
    for r in range(stack.replicas):
        if not all((np.abs(o.phi[r]) < TOO_LARGE).all() for o in found.values()):
            rows.append(None)
            continue
        row = {f"{split}_accuracy": float(o.correct[r].mean()) for split, o in found.items()}
        reference = references[r] or row
        for split in found:
            row[f"{split}_retention"] = retention(row[f"{split}_accuracy"], reference[f"{split}_accuracy"])
        row["retention_deviation"] = retention_deviation(*(row[f"{split}_retention"] for split in ("retain", "forget", "test")))
        for against in ("val", "test"):
            if min(found[split].loss.shape[1] for split in ("forget", against)) >= FEWEST:  # of fewer there is nothing to learn and test on
                row[f"mia_{against}"] = population_mia(found["forget"].loss[r], found[against].loss[r])
        if "mia_test" in row:
            row["indiscernibility"] = indiscernibility(row["mia_test"])
        rows.append(row | _population(found, data, r) | {name: float(values[r]) for name, values in close.items()})
    return rows


def _population(found: dict[str, Outputs], data: Splits, r: int) -> Metrics:
    """Population attacks with stronger features, forget against test; nothing where either is too small for them."""
    sides = [(found[split].logits[r], data.labels(split)[r].cpu().numpy()) for split in ("forget", "test")]
    if min(len(labels) for _, labels in sides) < population.FEWEST:
        return {}
    (forget, its), (test, others) = sides
    made = population.population(forget, its, test[:NON_MEMBERS], others[:NON_MEMBERS], seed=0, draws=2, boosting=False)  # seeds are the unit
    return {f"population/{row['name']}": row["value"] for row in made.metrics() if row["name"].endswith(("auc", "balanced_accuracy"))} | {
        "population/surer": made.surer.value}


def _closeness(stack: Stack, found: dict[str, Outputs], data: Splits, retrained: Stack | None, untrained: Stack | None) -> dict[str, np.ndarray]:
    """By name, one number a replica; NaN where it is not finite."""
    made: dict[str, np.ndarray] = {}
    fine = np.array([all(np.isfinite(o.logits[r]).all() for o in found.values()) for r in range(stack.replicas)])

    def keep(name: str, values: np.ndarray) -> None:
        made[name] = np.full(stack.replicas, np.nan)
        made[name][fine] = values

    if retrained is not None and fine.any():
        for split in ("forget", "test"):
            mine, theirs = found[split].logits[fine], outputs(retrained, data, split).logits[fine]
            keep(f"js_{split}", closeness.js_divergence(mine, theirs).mean(-1))
            keep(f"activation_distance_{split}", closeness.activation_distance(mine, theirs))
            keep(f"agreement_{split}", closeness.agreement(mine, theirs))
        weights = [[{name: p.detach()[r].cpu().numpy() for name, p in of.params.items()} for of in (stack, retrained)] for r in np.flatnonzero(fine)]
        keep("weight_distance", np.array([closeness.weight_distance(*pair) for pair in weights]))
        keep("relative_weight_distance", np.array([closeness.relative_weight_distance(*pair) for pair in weights]))
    if untrained is not None and fine.any():
        keep("zrf", closeness.zrf(found["forget"].logits[fine], outputs(untrained, data, "forget").logits[fine]))
    return made


def u_lira_metrics(stack: Stack, data: Splits) -> tuple[list[Metrics | None], Float[np.ndarray, "r n"]]:
    """Accuracies on retain, forget and the held-out half for each replica (None where it diverged), and phi of the whole pool
    in its order."""
    found = outputs(stack, data, "pool")
    pool = data.index("pool").cpu().numpy()
    rows: list[Metrics | None] = []
    for r in range(stack.replicas):
        if not (np.abs(found.phi[r]) < TOO_LARGE).all():
            rows.append(None)
            continue
        where = {split: _positions(pool[r], data.index(split)[r]) for split in ("retain", "forget", "heldout")}
        row = {f"{split}_accuracy": float(found.correct[r, at].mean()) for split, at in where.items() if len(at)}
        if len(where["forget"]):
            row["forget_heldout_auc"] = auc(-found.loss[r, where["forget"]], -found.loss[r, where["heldout"]])
        rows.append(row)
    return rows, found.phi.astype(np.float32)


def _positions(pool: Int[np.ndarray, " n"], members: Int[Tensor, " m"]) -> Int[np.ndarray, " m"]:
    """Where in the (sorted) pool these dataset indices stand."""
    return np.searchsorted(pool, members.cpu().numpy())
