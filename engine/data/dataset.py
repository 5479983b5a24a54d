"""What a dataset is to the rest: raw uint8 images and labels of train and test in one index space, and how to normalise them."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Int64, UInt8
from torch import Tensor
from torch.nn import functional as F

from engine.errors import BadInput, DataError

SMALLEST, LARGEST = 8, 1024  # sides of images that may be asked for
_UNREADABLE = (RuntimeError, OSError, ValueError, TypeError, LookupError, AssertionError, EOFError)  # torchvision's, of missing or damaged files


@dataclass(frozen=True)
class Dataset:
    """images: grey images keep one channel here and are repeated to `channels` on the device. `n_train` first entries are the
    official training set (or its stand-in), the rest the test set. mean, std: per channel, of image / scale."""

    images: UInt8[Tensor, "n c h w"]
    labels: Int64[Tensor, " n"]
    n_train: int

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True)
class DatasetInfo:
    """A dataset by name. flip, crop: the study's training augmentation (horizontal flip; zero padding before a random crop)."""

    name: str
    label: str
    classes: int
    channels: int
    side: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    load: Callable[[], Dataset]
    doc: str
    class_names: tuple[str, ...]
    scale: int = 255
    flip: bool = False
    crop: int = 0
    embedded: bool = False
    version: int = 1

    def describe(self) -> dict[str, Any]:
        return {"name": self.name, "label": self.label, "classes": self.classes, "shape": [self.channels, self.side, self.side], "doc": self.doc,
                "embedded": self.embedded, "class_names": list(self.class_names)}


def data_root() -> Path:
    """Where datasets lie: `$LETHE_DATA`, else a cache folder of this user."""
    if given := os.environ.get("LETHE_DATA"):
        return Path(given).expanduser()
    return cache_root() / "data"


def cache_root() -> Path:
    """What belongs to this user and can be made again."""
    return Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "lethe"


def from_torchvision(kind: str, folder: str, **options: Any) -> tuple[Any, Any]:
    """torchvision's train and test set of class `kind`: found under the data root, else downloaded there with a progress bar.

    Raises: DataError naming the three ways to provide the data.
    """
    from torchvision import (
        datasets,  # only here: digits and the command line's help need no torchvision
    )

    root, make = data_root(), getattr(datasets, kind)
    try:
        return make(root, train=True, download=False, **options), make(root, train=False, download=False, **options)
    except _UNREADABLE:  # not there or damaged: what has checksums a download also repairs
        if os.environ.get("LETHE_OFFLINE"):
            raise DataError(f"{kind} is not in {root} (or damaged); LETHE_DATA names the folder that holds it") from None
    try:
        root.mkdir(parents=True, exist_ok=True)
        return make(root, train=True, download=True, **options), make(root, train=False, download=True, **options)
    except _UNREADABLE as error:
        raise DataError(
            f"{kind}: could neither be read from {root} nor downloaded ({str(error) or 'it is there, but damaged'}). Provide it in one of three ways: "
            f"(1) set LETHE_DATA to a folder that holds it in torchvision's layout ({folder}); "
            f"(2) connect this machine to the network, delete what is damaged and run again, it is then downloaded to {root}; "
            f"(3) copy {folder} from another machine into {root}. `--dataset digits` needs no files."
        ) from error


def sided(name: str) -> tuple[str, int | None]:
    """A dataset's name without its side, and the side: `utkface@64` -> (utkface, 64). Raises: BadInput."""
    base, _, side = name.rpartition("@")
    if not (base and side.isdecimal()):
        return name, None
    if not SMALLEST <= int(side) <= LARGEST:
        raise BadInput(f"dataset '{name}': got a side of {side}, must be from {SMALLEST} to {LARGEST} pixels")
    return base, int(side)


def resized(images: UInt8[Tensor, "n c h w"], side: int) -> UInt8[Tensor, "n c s s"]:
    """Bilinear with antialiasing, as torchvision's Resize does on tensors."""
    if images.shape[-1] == side:
        return images
    return torch.cat([F.interpolate(part, (side, side), mode="bilinear", antialias=True) for part in images.split(10_000)])
