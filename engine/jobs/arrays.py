"""The array files that an audit takes: scores of many models at many examples, as anybody can write them.

`.npz` with the arrays below, or Parquet with the same names as columns, one row a model and example (`model`, `example` number them):

    phi     [m, n] float    logit-scaled confidence of the true class; or logits [m, n, k] float with labels [n] int
    world   [m, n] int      1: in this model's forget request (of a retrained model: left out of its training; of an original: trained on),
                            0: never seen by this model nor by the one it came from, -1: neither
    split   [m] int         models that share training data have the same number
    kind    [m] str         unlearned (default) | retrained | original
    labels  [n] int         true classes, for exposure by class (optional beside phi)
    example [n] int         how the examples are called (default: their place)

Pickles are never loaded.
"""

import hashlib
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int

from engine.attacks.scores import phi as phi_of
from engine.errors import BadInput

KINDS = ("unlearned", "retrained", "original")
_NAMES = ("phi", "logits", "labels", "world", "split", "kind", "example")
_BLOCK = 8  # models whose logits are widened at a time


@dataclass(frozen=True)
class Arrays:
    """What a file holds, checked: m models at n examples. digest: hash of the file."""

    path: Path
    digest: str
    phi: Float[np.ndarray, "m n"]
    world: Int[np.ndarray, "m n"]
    split: Int[np.ndarray, " m"]
    kind: np.ndarray
    labels: Int[np.ndarray, " n"] | None
    example: Int[np.ndarray, " n"]

    def of(self, kind: str) -> tuple[Float[np.ndarray, "k n"], Int[np.ndarray, "k n"], Int[np.ndarray, " k"]]:
        """(phi, world, split) of the models of one kind."""
        mine = self.kind == kind
        return self.phi[mine], self.world[mine], self.split[mine]


def read(path: Path) -> Arrays:
    """One file. Raises: BadInput with all that is wrong with it."""
    try:
        with path.open("rb") as whole:
            digest = hashlib.file_digest(whole, "sha256").hexdigest()[:16]
        given = _parquet(path) if path.suffix == ".parquet" else _npz(path)
    except OSError as error:
        raise BadInput(f"{path}: cannot be read ({error.strerror or error}); give an .npz or .parquet file (`python -m engine audit --example FILE` "
                       "writes one)") from error
    faults = [f"{name}: not known here; allowed: {', '.join(_NAMES)}" for name in given if name not in _NAMES]
    faults += [f"{name}: is missing" for name in ("world", "split") if name not in given]
    if ("phi" in given) == ("logits" in given):
        faults.append("needs phi or logits, and not both")
    if "logits" in given and "labels" not in given:
        faults.append("logits need labels: the true class of each example")
    shape = given["world"].shape if "world" in given else ()
    expected = {"phi": shape, "logits": (*shape, *given["logits"].shape[2:3]) if "logits" in given else (), "labels": shape[1:],
                "split": shape[:1], "kind": shape[:1], "example": shape[1:]}
    if "world" in given and len(shape) != 2:
        faults.append(f"world: got shape {shape}, must be [models, examples]")
    else:
        faults += [f"{name}: got shape {given[name].shape}, must be {expected[name]} to fit world" for name in given
                   if name in expected and given[name].shape != expected[name]]
    faults += [f"{name}: got {given[name].dtype}, must be whole numbers" for name in ("world", "split", "labels", "example")
               if name in given and not np.issubdtype(given[name].dtype, np.integer)]
    faults += [f"{name}: got {given[name].dtype}, must be floating-point numbers{hint}" for name, hint in (("phi", _BOOLEANS), ("logits", ""))
               if name in given and not np.issubdtype(given[name].dtype, np.floating)]
    if not faults:
        faults += [f"world: got {value}, must be 1, 0 or -1" for value in sorted(set(np.unique(given["world"]).tolist()) - {-1, 0, 1})[:5]]
        kinds = set(map(str, given["kind"])) if "kind" in given else set()
        faults += [f"kind: got {kind!r}, must be one of {', '.join(KINDS)}" for kind in sorted(kinds - set(KINDS))[:5]]
        if "logits" in given and not 2 <= given["logits"].shape[2] > given["labels"].max(initial=0) >= given["labels"].min(initial=0) >= 0:
            faults.append(f"labels: must be from 0 to {given['logits'].shape[2] - 1}, the last of the classes of logits")
    if faults:
        raise BadInput(*(f"{path}: {fault}" for fault in faults))
    models, examples = given["world"].shape
    phi = given["phi"] if "phi" in given else _phi(given["logits"], given["labels"])
    return Arrays(path, digest, phi, given["world"].astype(np.int8), given["split"].astype(np.int64),
                  given["kind"].astype(str) if "kind" in given else np.full(models, "unlearned"), given.get("labels"),
                  (given["example"] if "example" in given else np.arange(examples)).astype(np.int64))


_BOOLEANS = ": log(p / (1 - p)) of the true class, not whether the prediction was right"


def _npz(path: Path) -> dict[str, np.ndarray]:
    try:
        found = np.load(path, allow_pickle=False)
        if isinstance(found, np.ndarray):
            raise BadInput(f"{path}: is a single array; give an .npz file with world, split and phi or logits (np.savez)")
        with found:
            return {name: found[name] for name in found}
    except (ValueError, zipfile.BadZipFile, EOFError) as error:
        reason = "it holds Python objects, which are never loaded" if "pickle" in str(error) else str(error)
        raise BadInput(f"{path}: is no .npz file of plain arrays ({reason}); write it with np.savez") from error


def _parquet(path: Path) -> dict[str, np.ndarray]:
    """Rows of one model and example each, put into arrays. A pair that has no row is world -1."""
    try:
        rows = pd.read_parquet(path)
    except (ValueError, OSError) as error:
        raise BadInput(f"{path}: is no Parquet file ({error})") from error
    faults = [f"{path}: column {name} is missing" for name in ("model", "example", "world", "split") if name not in rows]
    if not faults and rows.duplicated(["model", "example"]).any():
        faults.append(f"{path}: some pairs of model and example have two rows or more")
    if not faults:
        faults += [f"{path}: {name} differs between rows of one {of}" for name, of in (("split", "model"), ("kind", "model"), ("labels", "example"))
                   if name in rows and (rows.groupby(of)[name].nunique() > 1).any()]
    if faults:
        raise BadInput(*faults)
    model, example = (np.unique(rows[name], return_inverse=True) for name in ("model", "example"))
    shape, at = (len(model[0]), len(example[0])), (model[1], example[1])

    def spread(values: np.ndarray, empty: float) -> np.ndarray:
        made = np.full((*shape, *values.shape[1:]), empty, values.dtype)
        made[at] = values
        return made

    made: dict[str, np.ndarray] = {"world": spread(rows["world"].to_numpy(), -1), "example": example[0]}
    for name in rows.columns.difference(["world", "example", "model"]):
        column: Any = rows[name].to_numpy()
        if name in ("split", "kind"):
            first = np.zeros(shape[0], dtype=np.int64)
            first[model[1]] = np.arange(len(rows))
            made[name] = column[first]
        elif name == "labels":
            first = np.zeros(shape[1], dtype=np.int64)
            first[example[1]] = np.arange(len(rows))
            made[name] = column[first]
        else:
            made[str(name)] = spread(np.stack(column) if name == "logits" else column, 0)
    return made


def _phi(logits: Float[np.ndarray, "m n k"], labels: Int[np.ndarray, " n"]) -> Float[np.ndarray, "m n"]:
    """A few models at a time: half precision is widened on the way."""
    y, wide = torch.from_numpy(labels.astype(np.int64)), np.result_type(logits.dtype, np.float32)
    made = np.empty(logits.shape[:2], wide)
    for start in range(0, len(logits), _BLOCK):
        made[start : start + _BLOCK] = phi_of(torch.from_numpy(logits[start : start + _BLOCK].astype(wide)), y).numpy()
    return made


def write_example(path: Path, *, splits: int = 24, forget_sets: int = 6, examples: int = 1000, shift: float = 0.7, seed: int = 0) -> None:
    """A small file with all three kinds of models, of simulated confidences: unlearned models are `shift` standard deviations too sure of
    what they were asked to forget. Raises: BadInput when the file exists or cannot be written."""
    rng = np.random.default_rng(seed)
    mu, sigma = 3 + 2 * rng.normal(size=examples), np.exp(0.4 * rng.normal(size=examples))
    phi, world, split, kind = [], [], [], []
    for s in range(splits):
        order = rng.permutation(examples)
        half, size = order[: examples // 2], examples // 20
        never = np.full(examples, -1, np.int8)
        never[order[examples // 2 :]] = 0
        for j in range(forget_sets + 1):
            forgotten = half if j == forget_sets else half[j * size : (j + 1) * size]
            mine = never.copy()
            mine[forgotten] = 1
            for name, leak in (("original", 2.0),) if j == forget_sets else (("unlearned", shift), ("retrained", 0.0)):
                phi.append(mu + sigma * (rng.normal(size=examples) + leak * (mine == 1)))
                world.append(mine)
                split.append(s)
                kind.append(name)
    arrays = {"phi": np.array(phi, np.float32), "world": np.array(world), "split": np.array(split), "kind": np.array(kind),
              "labels": rng.integers(10, size=examples)}
    if path.exists():
        raise BadInput(f"{path}: exists already; give a new name")
    if path.suffix not in (".npz", ".parquet"):
        raise BadInput(f"{path}: must end in .npz or .parquet")
    try:
        if path.suffix == ".npz":
            np.savez_compressed(path, **arrays)
        else:
            _long(arrays).to_parquet(path, index=False)
    except OSError as error:
        raise BadInput(f"{path}: cannot be written ({error.strerror or error})") from error


def _long(arrays: Mapping[str, np.ndarray]) -> pd.DataFrame:
    """One row a used pair."""
    model, example = np.nonzero(arrays["world"] != -1)
    return pd.DataFrame({"model": model, "example": example, "phi": arrays["phi"][model, example], "world": arrays["world"][model, example],
                         "split": arrays["split"][model], "kind": arrays["kind"][model], "labels": arrays["labels"][example]})
