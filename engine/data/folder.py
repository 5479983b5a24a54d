"""Any folder of images: `folder:PATH`, one sub-folder a class, stretched to squares of 32 pixels or as `folder:PATH@64` says.

It has no official test set: `RandomState(123)` permutes the images, sorted by class and name, and the last sixth is test.
Its version is a hash of the names and contents of all images, so that results never mix with those of other images.
"""

import hashlib
import os
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch

from engine.data.dataset import Dataset, DatasetInfo, sided
from engine.data.pictures import IMAGENET_MEAN, IMAGENET_STD, decoded, named
from engine.errors import BadInput, DataError

PREFIX, SIDE = "folder:", 32
FORMATS = (".bmp", ".gif", ".jpeg", ".jpg", ".pbm", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")
LEAST_CLASSES, LEAST_IMAGES = 2, 20


def canonical(name: str) -> str:
    """The name with its whole path and its side: the same for every process, wherever it was started. Opens nothing. Raises: BadInput."""
    folder, side = _parsed(name)
    return f"{PREFIX}{folder}@{side}"


@lru_cache(maxsize=2)
def read(name: str) -> DatasetInfo:
    """The folder of a canonical name, its images read and decoded once a process.

    Raises: DataError naming a folder that is missing, has fewer than 2 classes or 20 images, a class without any, or what cannot be read.
    """
    folder, side = _parsed(name)
    classes = _classes(folder)
    files = [path for paths in classes.values() for path in paths]
    labels = np.repeat(np.arange(len(classes)), [len(paths) for paths in classes.values()])
    order = np.random.RandomState(123).permutation(len(files))
    images, digest = np.empty((len(files), 3, side, side), np.uint8), hashlib.sha256()
    for file, place, (content, pixels) in zip(files, np.argsort(order), decoded(files, side), strict=True):
        digest.update(os.fsencode(f"{file.relative_to(folder).as_posix()}\0{len(content)}\0") + content)
        images[place] = pixels
    data = Dataset(torch.from_numpy(images), torch.from_numpy(labels[order]), len(files) - len(files) // 6)
    return DatasetInfo(name, label=f"{folder.name} ({side}x{side})", classes=len(classes), channels=3, side=side, mean=IMAGENET_MEAN,
                       std=IMAGENET_STD, load=lambda: data, class_names=tuple(classes), version=int(digest.hexdigest()[:13], 16),
                       doc=f"{len(files):,} images in {len(classes)} classes from {folder}, at {side}x{side}; no augmentation.")


def _parsed(name: str) -> tuple[Path, int]:
    base, side = sided(name)
    given = base.removeprefix(PREFIX)
    if not given:
        raise BadInput(f"dataset '{name}': names no folder; write {PREFIX}PATH or {PREFIX}PATH@SIDE")
    return Path(os.path.abspath(os.path.expanduser(given))), side or SIDE


def _classes(folder: Path) -> dict[str, list[Path]]:
    """Class name -> its images, both sorted by name; whatever begins with a dot is passed over. Raises: DataError with all faults."""
    if not folder.is_dir():
        raise DataError(f"{PREFIX}{folder}: there is no such folder; give the path of one that has a sub-folder of images for each class")
    names = sorted(path.name for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    classes = {name: _images(folder / name) for name in names}
    total, empty = sum(map(len, classes.values())), [name for name, paths in classes.items() if not paths]
    faults = []
    if len(classes) < LEAST_CLASSES:
        faults.append(f"{PREFIX}{folder}: has {len(classes)} sub-folders, must have {LEAST_CLASSES} or more: one of images for each class")
    if empty:
        faults.append(f"{PREFIX}{folder}: no images in {', '.join(named(empty))}; put some there or remove it. "
                      f"An image is a file that ends in {' '.join(FORMATS)}")
    if classes and total < LEAST_IMAGES:
        faults.append(f"{PREFIX}{folder}: has {total} images in its classes, must have {LEAST_IMAGES} or more")
    if faults:
        raise DataError(*faults)
    return classes


def _images(folder: Path) -> list[Path]:
    """All in a folder and the folders in it."""
    found = (path for path in folder.rglob("*") if path.suffix.lower() in FORMATS and path.is_file())
    within = {path.relative_to(folder).as_posix(): path for path in found}
    return [path for name, path in sorted(within.items()) if not name.startswith(".") and "/." not in name]
