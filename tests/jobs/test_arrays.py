"""Array files: what they may hold, and that every fault is told at once; nothing that could run code is ever loaded."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from engine.errors import BadInput
from engine.jobs import arrays


def plain(**more: Any) -> dict[str, Any]:
    world = np.array([[1, 0, -1], [0, 1, 0]], np.int8)
    return {"phi": np.ones((2, 3)), "world": world, "split": np.array([0, 1]), **more}


def saved(path: Path, **given: Any) -> Path:
    np.savez(path, **given)
    return path


def test_logits_and_phi_give_the_same(tmp_path: Path) -> None:
    logits, labels = np.random.default_rng(0).normal(size=(2, 3, 4)).astype(np.float16), np.array([0, 3, 1])
    given = plain(labels=labels, logits=logits)
    del given["phi"]
    found = arrays.read(saved(tmp_path / "a.npz", **given))
    z = logits.astype(np.float32)
    p = np.exp(z) / np.exp(z).sum(-1, keepdims=True)
    own = np.take_along_axis(p, labels[None, :, None].repeat(2, 0), 2)[..., 0]
    np.testing.assert_allclose(found.phi, np.log(own / (1 - own)), rtol=1e-4)
    assert found.kind.tolist() == ["unlearned"] * 2 and found.example.tolist() == [0, 1, 2] and found.labels is not None


def test_npz_and_parquet_hold_the_same(tmp_path: Path) -> None:
    for suffix in ("npz", "parquet"):
        arrays.write_example(tmp_path / f"e.{suffix}", splits=4, forget_sets=2, examples=60)
    one, other = (arrays.read(tmp_path / f"e.{suffix}") for suffix in ("npz", "parquet"))
    used = one.world != -1
    assert (one.world == other.world).all() and (one.phi[used] == other.phi[used]).all() and (one.kind == other.kind).all()
    assert (one.split == other.split).all() and one.digest != other.digest
    phi, world, split = one.of("original")
    assert phi.shape == world.shape == (4, 60) and split.tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize(("changes", "says"), [
    ({"phi": None}, ["needs phi or logits"]), ({"logits": np.ones((2, 3, 4))}, ["not both"]), ({"world": None}, ["world: is missing"]),
    ({"phi": np.ones((2, 4))}, [r"phi: got shape \(2, 4\), must be \(2, 3\)"]), ({"phi": np.ones((2, 3), bool)}, ["got bool", "not whether the prediction"]),
    ({"split": np.ones(2)}, ["split: got float64, must be whole numbers"]),
    ({"split": np.arange(3), "colour": np.ones(2)}, ["split: got shape", "colour: not"]),
    ({"world": np.full((2, 3), 7)}, ["world: got 7, must be 1, 0 or -1"]), ({"kind": np.array(["unlearned", "shadow"])}, ["kind: got 'shadow'"]),
    ({"phi": None, "logits": np.ones((2, 3, 4)), "labels": np.array([0, 4, 1])}, ["labels: must be from 0 to 3"]),
])
def test_what_is_wrong_is_said(tmp_path: Path, changes: dict[str, Any], says: list[str]) -> None:
    given = {name: value for name, value in plain(**changes).items() if value is not None}
    with pytest.raises(BadInput) as caught:
        arrays.read(saved(tmp_path / "a.npz", **given))
    for part in says:
        assert re.search(part, str(caught.value)), str(caught.value)


def test_files_that_are_none(tmp_path: Path) -> None:
    (tmp_path / "text.npz").write_text("no")
    np.save(tmp_path / "one.npy", np.ones(3))
    (tmp_path / "one.npy").rename(tmp_path / "one.npz")
    np.savez(tmp_path / "objects.npz", **plain(kind=np.array([{}, {}], object)))
    (tmp_path / "bad.parquet").write_text("no")
    for name, says in (("text.npz", "no .npz file"), ("one.npz", "single array"), ("objects.npz", "never loaded"), ("bad.parquet", "no Parquet"),
                       ("nowhere.npz", "cannot be read")):
        with pytest.raises(BadInput, match=says):
            arrays.read(tmp_path / name)


def test_parquet_rows_must_agree(tmp_path: Path) -> None:
    rows = pd.DataFrame({"model": [0, 0, 1], "example": [5, 6, 5], "phi": [1.0, 2.0, 3.0], "world": [1, 0, 0], "split": [0, 0, 1]})
    for changed, says in ((rows.assign(split=[0, 1, 1]), "split differs between rows of one model"), (rows.drop(columns="world"), "column world is missing"),
                          (pd.concat([rows, rows]), "two rows or more")):
        changed.to_parquet(tmp_path / "a.parquet")
        with pytest.raises(BadInput, match=says):
            arrays.read(tmp_path / "a.parquet")
    rows.to_parquet(tmp_path / "a.parquet")
    found = arrays.read(tmp_path / "a.parquet")
    assert found.world.tolist() == [[1, 0], [0, -1]] and found.phi[1, 0] == 3 and found.example.tolist() == [5, 6]


def test_an_example_overwrites_nothing(tmp_path: Path) -> None:
    (tmp_path / "e.npz").write_text("mine")
    for name, says in (("e.npz", "exists already"), ("e.txt", "must end in"), ("none/e.npz", "cannot be written")):
        with pytest.raises(BadInput, match=says):
            arrays.write_example(tmp_path / name)
    assert (tmp_path / "e.npz").read_text() == "mine"
