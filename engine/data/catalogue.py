"""All datasets by name. A new one is one file and one line here. Beside these, `folder:PATH` is any folder of images."""

from functools import lru_cache

from engine.data import digits, folder, utkface
from engine.data.cifar10 import CIFAR10
from engine.data.cifar100 import CIFAR100
from engine.data.dataset import Dataset, DatasetInfo, sided
from engine.data.fashion_mnist import FASHION_MNIST
from engine.data.mnist import MNIST
from engine.registry import pick

DATASETS: dict[str, DatasetInfo] = {d.name: d for d in (digits.DIGITS, MNIST, FASHION_MNIST, CIFAR10, CIFAR100, utkface.UTKFACE)}
_OF_ANY_SIDE = {"digits": digits.at, "utkface": utkface.at}  # `digits@32`


def canonical(name: str) -> str:
    """How the dataset called `name` is called in cells. Reads no data. Raises: BadInput that names the nearest one."""
    return folder.canonical(name) if name.startswith(folder.PREFIX) else get(name).name


def get(name: str) -> DatasetInfo:
    """The dataset called `name`; a folder is read for it. Raises: BadInput that names the nearest one, DataError."""
    if name.startswith(folder.PREFIX):
        return folder.read(folder.canonical(name))
    base, side = sided(name)
    if base in _OF_ANY_SIDE and side:
        return _OF_ANY_SIDE[base](side)
    return pick(name, DATASETS, "dataset", "datasets")


@lru_cache(maxsize=2)
def loaded(name: str) -> Dataset:
    """Its images and labels, read once a process. Raises: BadInput, DataError."""
    return get(name).load()
