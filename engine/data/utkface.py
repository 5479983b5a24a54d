"""UTKFace as the study uses it: aligned and cropped faces in five classes of twenty years of age, 224x224, no augmentation.

The first fifth of `default_rng(123).permutation` is test. The study numbers images in the order in which the folder lists them, which
differs between file systems; here they are sorted by name.
Source: Zhang, Song, Qi, "Age Progression/Regression by Conditional Adversarial Autoencoder", CVPR 2017, arXiv:1702.08423.
"""

import re
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch

from engine.data.dataset import Dataset, DatasetInfo, data_root
from engine.data.pictures import IMAGENET_MEAN, IMAGENET_STD, cached, named
from engine.errors import DataError

CLASSES = ("0-19", "20-39", "40-59", "60-79", "80+")
FOLDER = Path("UTKface_Aligned_cropped", "UTKFace")
IMAGES, SIDE = 23_708, 224
_AGE = re.compile(r"(\d{1,3})_")


def load(side: int = SIDE) -> Dataset:
    """Decoded on first use and memory-mapped from then on: at 224 pixels the images are 3.6 GB."""
    folder = data_root() / FOLDER
    files = _files(folder)
    order = np.random.default_rng(123).permutation(len(files))
    n_test = int(0.2 * len(files))
    order = np.concatenate([np.sort(order[n_test:]), order[:n_test]])
    files = [files[i] for i in order]
    images = torch.from_numpy(cached("utkface", files, side, folder.parent))
    return Dataset(images, torch.tensor([class_of(file.name) for file in files]), len(files) - n_test)


def at(side: int) -> DatasetInfo:
    """The same faces at another side, for networks and machines that are small."""
    if side == SIDE:
        return UTKFACE
    return replace(UTKFACE, name=f"{UTKFACE.name}@{side}", label=f"UTKFace ({side}x{side})", side=side, load=partial(load, side))


def class_of(name: str) -> int:
    """By the age in years that a file's name begins with. Raises: ValueError for a name without one."""
    if (age := _AGE.match(name)) is None:
        raise ValueError(f"{name} does not begin with an age and an underscore")
    return min(int(age[1]) // 20, len(CLASSES) - 1)


def _files(folder: Path) -> Sequence[Path]:
    """All images of the release, sorted by name. Raises: DataError saying what was found, what that usually means and where to get it."""
    files = sorted(folder.glob("*.jpg"), key=lambda path: path.name)
    if not files:
        raise DataError(f"UTKFace: {'no *.jpg in' if folder.is_dir() else 'there is no folder'} {folder}. {_where_from()}")
    faults = []
    if len(files) != IMAGES:
        usual = ("copying or unpacking ended early, or this is only a part of the release" if len(files) < IMAGES
                 else "other pictures, or a second copy of some, lie among them")
        faults.append(f"UTKFace: found {len(files):,} *.jpg in {folder}, the release has {IMAGES:,}; usually {usual}. {_where_from()}")
    if nameless := [path.name for path in files if not _AGE.match(path.name)]:
        faults.append(f"UTKFace: {len(nameless):,} names in {folder} do not begin with an age and an underscore, as 24_1_0_20170116.jpg does: "
                      f"{', '.join(named(nameless))}; give them their names back, or remove what is not from the release")
    if faults:
        raise DataError(*faults)
    return files


def _where_from() -> str:
    root = data_root()
    return (f"It cannot be downloaded from here: get 'Aligned&Cropped Faces' from https://susanqq.github.io/UTKFace/ and provide it in one of three "
            f"ways: (1) set LETHE_DATA to a folder that holds {FOLDER}/*.jpg; (2) unpack it so that they lie in {root / FOLDER}; "
            f"(3) copy or link {FOLDER.parent} from where it is, here or on another machine, into {root}.")


UTKFACE = DatasetInfo("utkface", label="UTKFace", classes=5, channels=3, side=SIDE, mean=IMAGENET_MEAN, std=IMAGENET_STD, load=load, class_names=CLASSES,
                      doc="23,708 aligned and cropped faces in five classes of age, 224x224, or as `utkface@64` at another side; no augmentation.")
