"""MNIST and CIFAR-100 through torchvision: order, labels, pixels, augmentation, recipe; from small files in the real layout, and the real MNIST."""

import hashlib
import pickle
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torchvision import datasets

from engine.data.catalogue import get, loaded
from engine.data.cifar100 import CLASSES
from engine.data.dataset import data_root, resized
from engine.data.loader import Splits
from engine.data.splits import DataSpec
from engine.errors import DataError
from engine.runtime import Rng
from engine.train import recipe_for

SIZES = {"train": 60, "t10k": 12}


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty folder of datasets; what a test reads there is forgotten after it."""
    monkeypatch.setenv("LETHE_DATA", str(tmp_path))
    loaded.cache_clear()
    yield tmp_path
    loaded.cache_clear()


def write_mnist(root: Path) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """(images, labels) of each part, as idx files: big-endian magic number and sizes, then the bytes."""
    chance, made = np.random.default_rng(0), {}
    folder = root / "MNIST" / "raw"
    folder.mkdir(parents=True)
    for part, n in SIZES.items():
        images, labels = chance.integers(256, size=(n, 28, 28), dtype=np.uint8), (np.arange(n) % 10).astype(np.uint8)
        (folder / f"{part}-images-idx3-ubyte").write_bytes(np.array([0x803, n, 28, 28], ">i4").tobytes() + images.tobytes())
        (folder / f"{part}-labels-idx1-ubyte").write_bytes(np.array([0x801, n], ">i4").tobytes() + labels.tobytes())
        made[part] = images, labels
    return made


def write_cifar100(root: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, np.ndarray]:
    """Flat images [n, 3072] of each part, pickled as the release is. torchvision is told the checksums of these files instead of the
    release's, and so checks them all the same."""
    chance, made = np.random.default_rng(0), {}
    folder = root / "cifar-100-python"
    folder.mkdir(parents=True)
    for part, n in (("train", 200), ("test", 100)):
        made[part] = chance.integers(256, size=(n, 3072), dtype=np.uint8)
        fine = [i % 100 for i in range(n)]
        content = {"data": made[part], "fine_labels": fine, "coarse_labels": [label // 5 for label in fine]}
        (folder / part).write_bytes(pickle.dumps(content))
    (folder / "meta").write_bytes(pickle.dumps({"fine_label_names": list(CLASSES)}))
    sums = {path.name: hashlib.md5(path.read_bytes()).hexdigest() for path in folder.iterdir()}
    monkeypatch.setattr(datasets.CIFAR100, "train_list", [["train", sums["train"]]])
    monkeypatch.setattr(datasets.CIFAR100, "test_list", [["test", sums["test"]]])
    monkeypatch.setattr(datasets.CIFAR100, "meta", {"filename": "meta", "key": "fine_label_names", "md5": sums["meta"]})
    return made


def no_network(*_: object, **__: object) -> None:
    raise RuntimeError("no network")


def test_mnist_is_train_then_test_resized_as_fashion_mnist_is(root: Path) -> None:
    made = write_mnist(root)
    data = loaded("mnist")
    images = torch.from_numpy(np.concatenate([made["train"][0], made["t10k"][0]])).unsqueeze(1)
    assert (data.n_train, len(data)) == (60, 72) and data.images.shape == (72, 1, 32, 32)
    assert torch.equal(data.images, resized(images, 32))
    assert data.labels.tolist() == [*(i % 10 for i in range(60)), *(i % 10 for i in range(12))]


def test_mnist_trains_on_mirrored_digits_with_three_equal_channels(root: Path) -> None:
    write_mnist(root)
    info, splits = get("mnist"), Splits.of([DataSpec("mnist", "seeds", forget=0)])
    (plain, _), = splits.ordered("retain", 100)
    x, _ = next(splits.batches("retain", 100, Rng([0]), augment=True))
    assert (info.flip, info.crop) == (True, 0) and x.shape[2:] == (3, 32, 32)
    assert torch.equal(x[:, :, 0], x[:, :, 2])
    known = {image.numpy().tobytes(): "plain" for image in plain[0]} | {image.flip(-1).contiguous().numpy().tobytes(): "mirrored" for image in plain[0]}
    met = [known[image.contiguous().numpy().tobytes()] for image in x[0]]
    assert set(met) == {"plain", "mirrored"}


def test_a_truncated_mnist_is_an_error_in_words(root: Path) -> None:
    write_mnist(root)
    path = root / "MNIST" / "raw" / "train-images-idx3-ubyte"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(DataError, match=r"MNIST: could neither be read from .*shape.*\(1\) set LETHE_DATA.*\(2\).*delete what is damaged"):
        loaded("mnist")


def test_cifar100_is_train_then_test_with_fine_labels(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = write_cifar100(root, monkeypatch)
    data, info = loaded("cifar100"), get("cifar100")
    expected = np.concatenate([made["train"], made["test"]]).reshape(-1, 3, 32, 32)
    assert data.n_train == 200 and np.array_equal(data.images.numpy(), expected)
    assert data.labels.tolist() == [i % 100 for i in range(200)] + list(range(100))
    assert (info.classes, info.flip, info.crop) == (100, True, 4)
    assert len(set(info.class_names)) == 100 and list(info.class_names) == sorted(info.class_names)  # fine labels are numbered by name


def test_a_damaged_cifar100_is_refused_not_read(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_cifar100(root, monkeypatch)
    path = root / "cifar-100-python" / "train"
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    monkeypatch.setattr(datasets.CIFAR100, "download", no_network)
    with pytest.raises(DataError, match=r"CIFAR100: could neither be read from .*no network.*cifar-100-python"):
        loaded("cifar100")


@pytest.mark.parametrize(("dataset", "epochs"), [("mnist", 50), ("fashion_mnist", 50), ("utkface", 50), ("cifar10", 182), ("cifar100", 182),
                                                 ("folder:/data/cifar-photos@32", 50)])
def test_the_recipe_is_the_studys(dataset: str, epochs: int) -> None:
    study = recipe_for(dataset, "resnet18")
    assert (study.epochs, study.batch, study.lr, study.momentum, study.weight_decay) == (epochs, 256, 0.1, 0.9, 5e-4)
    assert (recipe_for(dataset, "cnn").epochs, recipe_for(dataset, "cnn").batch) == (50, 64)


@pytest.mark.data
def test_the_real_mnist_has_its_class_counts() -> None:
    if not (data_root() / "MNIST" / "raw").is_dir():
        pytest.skip("no MNIST under LETHE_DATA")
    data = loaded("mnist")
    assert (data.n_train, len(data)) == (60_000, 70_000) and data.images.shape[1:] == (1, 32, 32)
    assert data.labels[:60_000].bincount().tolist() == [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    assert data.labels[60_000:].bincount().tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    info = get("mnist")
    pixels = data.images[:10_000].float() / info.scale
    assert float(pixels.mean()) == pytest.approx(info.mean[0], abs=0.01) and float(pixels.std()) == pytest.approx(info.std[0], abs=0.02)
