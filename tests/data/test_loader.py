"""Batches on the device: right pixels, right examples, chance that does not depend on the neighbours, undeclared splits unreadable."""

import numpy as np
import pytest
import torch
from torchvision.transforms import v2

from engine.data.dataset import Dataset, DatasetInfo
from engine.data.loader import Splits, _augmented
from engine.data.splits import DataSpec
from engine.errors import BadInput, DataError
from engine.runtime import Rng

DIGITS = DataSpec("digits", "seeds", forget=0)


def test_images_are_normalised_as_torchvision_does() -> None:
    images = torch.randint(256, (4, 3, 32, 32), dtype=torch.uint8)
    mean, std = (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)
    info = DatasetInfo("x", "x", 10, 3, 32, mean, std, lambda: None, "", ())  # type: ignore[arg-type, return-value]
    splits = Splits(info, Dataset(images, torch.zeros(4, dtype=torch.int64), 4), {"retain": torch.arange(4).unsqueeze(0)})
    (x, _), = splits.ordered("retain", 10)
    expected = v2.Normalize(list(mean), list(std))(images.float() / 255)
    torch.testing.assert_close(x[0], expected, rtol=0, atol=1e-5)


def test_a_walk_meets_every_example_once_and_each_replica_its_own_order() -> None:
    splits = Splits.of([DIGITS, DIGITS])
    walked = [torch.cat(parts, 1) for parts in zip(*splits.batches("retain", 64, Rng([1, 2])), strict=True)]
    assert walked[0].shape == (2, 1147, 1, 8, 8)
    assert not torch.equal(walked[1][0], walked[1][1])
    for r in range(2):
        assert torch.equal(walked[1][r].sort().values, splits.labels("retain")[r].sort().values)
        assert walked[0][r].double().sum().item() == pytest.approx(walked[0][0].double().sum().item(), abs=0.05)


def test_chance_is_the_same_whoever_shares_the_stack() -> None:
    together = Splits.of([DIGITS] * 3)
    alone = Splits.of([DIGITS])
    first = next(together.batches("retain", 64, Rng([5, 6, 7])))
    second = next(alone.batches("retain", 64, Rng([6])))
    assert torch.equal(first[0][1], second[0][0]) and torch.equal(first[1][1], second[1][0])


def test_pairs_cycle_the_shorter_split() -> None:
    splits = Splits.of([DIGITS])
    pairs = list(splits.paired("retain", "forget", 64, Rng([0])))
    assert len(pairs) == 18  # ceil(1147 / 64)
    assert [len(short[1][0]) for _, short in pairs[:4]] == [64, 64, 64, 64]  # 128 = 2 * 64: three walks begin within four steps
    seen = torch.cat([short[1][0] for _, short in pairs[:2]])
    assert torch.equal(seen.sort().values, splits.labels("forget")[0].sort().values)


def test_mixed_marks_who_is_to_be_forgotten() -> None:
    splits = Splits.of([DIGITS])
    marks = torch.cat([m for _, _, m in splits.mixed("forget", "retain", 64, Rng([0]))], 1)
    assert marks.shape == (1, 1275) and int(marks.sum()) == 128


def test_undeclared_splits_are_unreadable() -> None:
    splits = Splits.of([DIGITS]).restricted(frozenset({"retain"}))
    splits.size("retain")
    for split in ("forget", "val", "test", "train"):
        with pytest.raises(DataError, match="not declared"):
            splits.size(split)


def test_crop_and_flip_match_pads_and_slices_done_by_hand() -> None:
    images = torch.randint(256, (5, 3, 32, 32), dtype=torch.uint8)
    chance = torch.tensor([[0, 0, 0], [8, 8, 0], [4, 4, 0], [4, 4, 1], [1, 6, 1]])
    padded = np.pad(images.numpy(), ((0, 0), (0, 0), (4, 4), (4, 4)))
    for i, (down, right, flip) in enumerate(chance.tolist()):
        cut = padded[i, :, down:down + 32, right:right + 32]
        assert np.array_equal(_augmented(images, chance, 4)[i].numpy(), cut[..., ::-1] if flip else cut)


def test_flips_alone_need_no_crop() -> None:
    images = torch.randint(256, (2, 1, 8, 8), dtype=torch.uint8)
    made = _augmented(images, torch.tensor([[0, 0, 1], [0, 0, 0]]), 0)
    assert torch.equal(made[0], images[0].flip(-1)) and torch.equal(made[1], images[1])


def test_missing_data_names_the_three_ways(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    from torchvision import datasets

    def refused(*_: object, download: bool, **__: object) -> None:
        raise RuntimeError("no network" if download else "Dataset not found")

    monkeypatch.setenv("LETHE_DATA", str(tmp_path / "nowhere"))
    monkeypatch.setattr(datasets, "FashionMNIST", refused)
    with pytest.raises(BadInput, match=r"\(1\) set LETHE_DATA.*\(2\) connect.*\(3\) copy"):
        Splits.of([DataSpec("fashion_mnist", "seeds")])


@pytest.mark.data
@pytest.mark.parametrize(("dataset", "n"), [("fashion_mnist", 70_000), ("cifar10", 60_000)])
def test_real_data_has_the_studys_shape(dataset: str, n: int) -> None:
    from engine.data.catalogue import loaded

    data = loaded(dataset)
    assert len(data) == n and data.images.shape[-2:] == (32, 32) and data.labels.unique().tolist() == list(range(10))
    x, _ = next(Splits.of([DataSpec(dataset, "seeds", forget=0)]).batches("retain", 256, Rng([0]), augment=True))
    assert x.shape == (1, 256, 3, 32, 32) and abs(float(x.mean())) < 0.5 and 0.5 < float(x.std()) < 1.5
