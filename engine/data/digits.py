"""Digits: 1,797 images of 8x8 that come with scikit-learn; needs no files, so it is the embedded default.

`digits@32` is the same enlarged to three channels of 32 pixels (or another side): small data for architectures that need such input.
It has no official test set: `RandomState(123)` permutes the images and the last 297 are test.
Source: Alpaydin and Kaynak, "Optical Recognition of Handwritten Digits", UCI, 1998.
"""

from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch

from engine.data.dataset import Dataset, DatasetInfo, resized

TEST, SIDE = 297, 8


def load(side: int = SIDE) -> Dataset:
    from sklearn.datasets import (
        load_digits,  # importing scikit-learn takes a second: only when the data is asked for
    )

    raw: Any = load_digits()
    rows, labels = raw["data"], raw["target"]
    order = np.random.RandomState(123).permutation(len(labels))
    images = torch.from_numpy(rows[order].reshape(-1, 1, 8, 8).astype(np.uint8))
    return Dataset(resized(images, side), torch.from_numpy(labels[order].astype(np.int64)), len(order) - TEST)


DIGITS = DatasetInfo("digits", label="Digits (8x8)", classes=10, channels=1, side=8, mean=(0.3053,), std=(0.3760,), scale=16, load=load, embedded=True,
                     class_names=tuple("0123456789"), doc="1,797 handwritten digits from scikit-learn; no download, no augmentation.")


def at(side: int) -> DatasetInfo:
    """Digits as `digits@side`, with three equal channels and CIFAR's random crops."""
    return replace(DIGITS, name=f"digits@{side}", label=f"Digits (3x{side}x{side})", channels=3, side=side, crop=side // 8, load=partial(load, side),
                   mean=DIGITS.mean * 3, std=DIGITS.std * 3, doc=f"The same digits enlarged to three channels of {side} pixels, with random crops.")
