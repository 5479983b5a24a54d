"""All datasets by name. A new one is one file and one line here."""

from functools import lru_cache

from engine.data.cifar10 import CIFAR10
from engine.data.dataset import Dataset, DatasetInfo
from engine.data.digits import DIGITS
from engine.data.fashion_mnist import FASHION_MNIST
from engine.registry import pick

DATASETS: dict[str, DatasetInfo] = {d.name: d for d in (DIGITS, FASHION_MNIST, CIFAR10)}


def get(name: str) -> DatasetInfo:
    """The dataset called `name`. Raises: BadInput that names the nearest one."""
    return pick(name, DATASETS, "dataset", "datasets")


@lru_cache(maxsize=2)
def loaded(name: str) -> Dataset:
    """Its images and labels, read once a process. Raises: BadInput, DataError."""
    return get(name).load()
