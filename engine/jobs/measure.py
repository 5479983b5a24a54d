"""One pass over each split of a stack, and every per-model number that follows from it."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional as F

from engine.attacks import population
from engine.attacks.gaussians import TOO_LARGE
from engine.attacks.population_mia import FEWEST, indiscernibility, population_mia
from engine.attacks.scores import phi
from engine.data.loader import Splits
from engine.data.splits import audited
from engine.losses import ce_per_example
from engine.metrics import closeness
from engine.metrics.accuracy import retention, retention_deviation
from engine.metrics.cka import layer_cka
from engine.metrics.roc import auc
from engine.models.stack import Stack
from engine.relearn import relearn

EVALUATION_BATCH = 500
NON_MEMBERS = 2_000  # of the test or val images at most, for attacks that fit classifiers
CKA_IMAGES, CKA_SIDE = 500, 4  # of the test images at most; what larger feature maps are averaged down to
# how metrics that need the retrained model itself, which is not shipped, begin
CLOSENESS = ("js_", "activation_distance_", "agreement_", "weight_distance", "relative_weight_distance", "cka_", "retrained/")


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


@dataclass(frozen=True)
class Others:
    """Models of the same seeds, replica by replica, that a stack is held against; None where they are not at hand.

    original: may be that stack itself. seeds: of what is drawn in relearning, the same for models that are compared.
    """

    retrained: Stack | None = None
    untrained: Stack | None = None
    original: Stack | None = None
    seeds: Sequence[int] = ()


def seeds_outputs(stack: Stack, data: Splits) -> dict[str, Outputs]:
    """By split, of the four."""
    return {split: outputs(stack, data, split) for split in ("retain", "forget", "val", "test")}


def seeds_metrics(stack: Stack, data: Splits, references: Sequence[Metrics | None], others: Others | None = None,
                  found: dict[str, Outputs] | None = None) -> list[Metrics | None]:
    """Accuracies on the four splits, retention against the retrained model of the same seed, population attacks, for each replica.

    `references[r]`: the metrics of that retrained model, or None where replica r is itself one. With the models themselves also how close
    outputs, activations and weights are to retrained; how much like untrained the outputs on forget; how soon it is where the original was.
    found: `seeds_outputs`, where they are at hand.
    None for a replica whose outputs are not finite, or beyond any logit: it diverged, and there is no number to give.
    """
    others = others or Others()
    found = found or seeds_outputs(stack, data)
    beside = _closeness(stack, found, data, others) | _relearning(stack, data, others)
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
        rows.append(row | _population(found, data, r) | {name: float(values[r]) for name, values in beside.items()})
    return rows


def _population(found: dict[str, Outputs], data: Splits, r: int) -> Metrics:
    """Population attacks with stronger features, forget against test and against val; nothing where either is too small for them."""
    forget, its = found["forget"].logits[r], data.labels("forget")[r].cpu().numpy()
    row: Metrics = {}
    for name, split in (("population", "test"), ("population_val", "val")):
        logits, labels = found[split].logits[r][:NON_MEMBERS], data.labels(split)[r][:NON_MEMBERS].cpu().numpy()
        if min(len(its), len(labels)) < population.FEWEST:
            continue
        made = population.population(forget, its, logits, labels, seed=0, draws=2)  # no intervals: seeds are the unit
        row |= {f"{name}/{m['name']}": m["value"] for m in made.metrics() if m["name"].endswith(("auc", "balanced_accuracy"))}
        row[f"{name}/surer"] = made.surer.value
    return row


def _closeness(stack: Stack, found: dict[str, Outputs], data: Splits, others: Others) -> dict[str, np.ndarray]:
    """By name, one number a replica; NaN where it is not finite."""
    made: dict[str, np.ndarray] = {}
    fine = np.array([all(np.isfinite(o.logits[r]).all() for o in found.values()) for r in range(stack.replicas)])

    def keep(name: str, values: np.ndarray) -> None:
        made[name] = np.full(stack.replicas, np.nan)
        made[name][fine] = values

    if others.retrained is not None and fine.any():
        theirs = {split: outputs(others.retrained, data, split).logits[fine] for split in ("forget", "test")}
        for split in theirs:
            mine = found[split].logits[fine]
            keep(f"js_{split}", closeness.js_divergence(mine, theirs[split]).mean(-1))
            keep(f"activation_distance_{split}", closeness.activation_distance(mine, theirs[split]))
            keep(f"agreement_{split}", closeness.agreement(mine, theirs[split]))
        both, rows = (stack, others.retrained), np.flatnonzero(fine).tolist()
        weights = [[{name: p.detach()[r].cpu().numpy() for name, p in of.params.items()} for of in both] for r in rows]
        keep("weight_distance", np.array([closeness.weight_distance(*pair) for pair in weights]))
        keep("relative_weight_distance", np.array([closeness.relative_weight_distance(*pair) for pair in weights]))
        alike = [layer_cka(*(_layers(of, r, data) for of in both)) for r in rows]
        for layer in alike[0]:
            keep(f"cka_{layer}", np.array([row[layer] for row in alike]))
    if others.untrained is not None and fine.any():
        keep("zrf", closeness.zrf(found["forget"].logits[fine], outputs(others.untrained, data, "forget").logits[fine]))
    return made


def _layers(stack: Stack, r: int, data: Splits) -> dict[str, Float[np.ndarray, "n d"]]:
    """Activations of replica r on test images: after each block, `block1` nearest to the image, and the logits. Maps that are larger than
    CKA_SIDE are averaged over space down to it."""
    x, _ = next(data.ordered("test", CKA_IMAGES))
    training = stack.training
    seen, logits = stack.eval().reaching(r, x[min(r, len(x) - 1)], stack.architecture.after_blocks)
    stack.train(training)
    made = {f"block{i}": _small(maps, stack.architecture.maps) for i, maps in enumerate(seen, 1)} | {"logits": logits}
    return {name: t.flatten(1).cpu().numpy() for name, t in made.items()}


def _small(x: Float[Tensor, "b *rest"], maps: str) -> Float[Tensor, "b *small"]:
    if x.dim() != 4:
        return x
    x = x.permute(0, 3, 1, 2) if maps == "b h w c" else x
    return F.adaptive_avg_pool2d(x, (min(x.shape[2], CKA_SIDE), min(x.shape[3], CKA_SIDE)))


def _relearning(stack: Stack, data: Splits, others: Others) -> dict[str, np.ndarray]:
    """Of the stack; and where it holds the originals, of the retrained models, which are measured before there is an original to reach."""
    made: dict[str, np.ndarray] = {}
    if others.original is None:
        return made
    behind = {"retrained/": others.retrained} if others.original is stack and others.retrained is not None else {}
    for name, of in ({"": stack} | behind).items():
        epochs, reached = relearn(of, others.original, data, others.seeds)
        made |= {f"{name}relearn_epochs": epochs.numpy(), f"{name}relearn_reached": reached.numpy()}
    return made


def u_lira_metrics(stack: Stack, data: Splits) -> tuple[list[Metrics | None], Float[np.ndarray, "r n"]]:
    """Accuracies on retain, forget and the held-out half for each replica (None where it diverged), and phi of the audited examples of
    the pool (all of a small one) in its order."""
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
    return rows, found.phi[:, np.searchsorted(pool[0], audited(pool[0]))].astype(np.float32)


def _positions(pool: Int[np.ndarray, " n"], members: Int[Tensor, " m"]) -> Int[np.ndarray, " m"]:
    """Where in the (sorted) pool these dataset indices stand."""
    return np.searchsorted(pool, members.cpu().numpy())
