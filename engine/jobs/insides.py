"""The inside of models of protocol `seeds`: what they take for what, where examples lie among their features, how far their weights moved.

Coordinates are those of what goes into the last linear layer, on two principal components of a sample of retain, forget and test together:
those of the original for itself and for what was unlearned from it, so that points of these can be compared as they are; its own for a
retrained model, which shares no axes with them. That one is measured before there is an original, and turned onto it when it is looked at
(`engine.store.insides`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from engine.data.loader import Splits
from engine.jobs.measure import Metrics, Others, Outputs
from engine.metrics.confusion import confusion
from engine.metrics.embedding import centre_auc, principal_axes
from engine.metrics.movement import movement
from engine.models.live import live
from engine.models.stack import Stack

MEASURED, SHOWN = 500, 150  # examples of retain, forget and test each, at most; those shown are among those measured
SETS = ("retain", "forget", "test")

Row = dict[str, Any]
Features = dict[str, Float[np.ndarray, "n d"]]  # by set, the same examples in the same order for all models of a split


@dataclass(frozen=True)
class Inside:
    """Of one model. tables: rows of `confusion` and `embedding`, without their run_id."""

    metrics: Metrics
    tables: dict[str, list[Row]]


def insides(stack: Stack, data: Splits, found: Mapping[str, Outputs], others: Others, whole: Sequence[bool]) -> list[Inside | None]:
    """Of each replica that is whole; None of the others, which diverged. found: outputs of the stack by split."""
    sample = {name: _drawn(data.size(name)) for name in SETS}
    made: list[Inside | None] = [None] * stack.replicas
    for r in np.flatnonzero(whole).tolist():
        metrics, points = _embedding(stack, others.original or stack, data, sample, r)
        made[r] = Inside(metrics | _movements(stack, others, data, r), {"confusion": _confusion(found, data, r), "embedding": points})
    return made


# ---- confusion


def _confusion(found: Mapping[str, Outputs], data: Splits, r: int) -> list[Row]:
    """One row a pair of classes that occurs."""
    rows: list[Row] = []
    for name, of in found.items():
        counts = confusion(data.labels(name)[r].cpu().numpy(), of.logits[r].argmax(-1), data.info.classes)
        rows += [{"set": name, "label": int(k), "predicted": int(p), "count": int(counts[k, p])} for k, p in zip(*counts.nonzero(), strict=True)]
    return rows


# ---- embedding


def _drawn(n: int) -> Int[Tensor, " m"]:
    """Which positions of a split are looked at: the same for every model of that split, as a split's order belongs to it."""
    return torch.from_numpy(np.random.default_rng(0).permutation(n)[:MEASURED])


def _embedding(stack: Stack, original: Stack, data: Splits, sample: Mapping[str, Int[Tensor, " m"]], r: int) -> tuple[Metrics, list[Row]]:
    """Coordinates on the original's axes, what share of the variance of what is shown these hold, and whether forget lies as test does."""
    shown = {name: at[:SHOWN] for name, at in sample.items()}
    features = _features(stack, data, sample, r)
    near = {name: features[name][:SHOWN] for name in shown}
    everything = np.concatenate(list(near.values()))
    axes = principal_axes(everything if original is stack else np.concatenate(list(_features(original, data, shown, r).values())))
    known = data.labels("retain")[r, sample["retain"]].cpu().numpy()
    metrics = {"embedding_variance": axes.variance(everything),
               "embedding_auc": centre_auc(features["forget"], features["test"], features["retain"], known)}
    rows: list[Row] = []
    for name, at in shown.items():
        examples, labels = data.index(name)[r, at].tolist(), data.labels(name)[r, at].tolist()
        rows += [{"example": example, "set": name, "label": label, "x": _rounded(x), "y": _rounded(y)}
                 for example, label, (x, y) in zip(examples, labels, axes.project(near[name]).tolist(), strict=True)]
    return metrics, rows


def _features(stack: Stack, data: Splits, sample: Mapping[str, Int[Tensor, " m"]], r: int) -> Features:
    """What replica r hands its last linear layer."""
    training = stack.training
    stack.eval()
    made: Features = {}
    for name, at in sample.items():
        x, _ = data.examples(name, at)
        seen, _ = stack.reaching(r, x[r], stack.architecture.head[:1])
        made[name] = seen[0].flatten(1).cpu().numpy().astype(np.float64)
    stack.train(training)
    return made


def _rounded(value: float) -> float:
    """To 4 significant digits: more than a picture shows."""
    return float(f"{value:.4g}")


# ---- weights


def _movements(stack: Stack, others: Others, data: Splits, r: int) -> Metrics:
    """How far the weights are from the original's; beside the original, also of the retrained model, which was measured before it was there."""
    original = others.original
    if original is None:
        return {}
    alive = {name: mask.numpy() for name, mask in _live(stack, data).items()}
    inner = (*stack.architecture.blocks, stack.architecture.head)
    parts = {"stem": [name for name in stack.params if not any(name in stack.names(modules) for modules in inner)],
             **{f"block{i}": stack.names(modules) for i, modules in enumerate(stack.architecture.blocks, 1)}, "head": stack.names(stack.architecture.head)}
    behind = {"retrained/": others.retrained} if original is stack and others.retrained is not None else {}
    return {f"{of}moved_{part}": value for of, after in ({"": stack} | behind).items()
            for part, value in movement(_weights(after, r), _weights(original, r), alive, parts).items()}


def _live(stack: Stack, data: Splits) -> dict[str, Bool[Tensor, "..."]]:
    return live(stack.architecture, channels=data.info.channels, classes=data.info.classes, side=data.info.side)


def _weights(stack: Stack, r: int) -> dict[str, np.ndarray]:
    return {name: p.detach()[r].cpu().numpy() for name, p in stack.params.items()}
