"""Digits: 1,797 images of 8x8 that come with scikit-learn; needs no files, so it is the embedded default.

It has no official test set: `RandomState(123)` permutes the images and the last 297 are test.
Source: Alpaydin and Kaynak, "Optical Recognition of Handwritten Digits", UCI, 1998.
"""

from typing import Any

import numpy as np
import torch

from engine.data.dataset import Dataset, DatasetInfo

TEST = 297


def load() -> Dataset:
    from sklearn.datasets import (
        load_digits,  # importing scikit-learn takes a second: only when the data is asked for
    )

    raw: Any = load_digits()
    rows, labels = raw["data"], raw["target"]
    order = np.random.RandomState(123).permutation(len(labels))
    images = torch.from_numpy(rows[order].reshape(-1, 1, 8, 8).astype(np.uint8))
    return Dataset(images, torch.from_numpy(labels[order].astype(np.int64)), len(order) - TEST)


DIGITS = DatasetInfo("digits", label="Digits (8x8)", classes=10, channels=1, side=8, mean=(0.3053,), std=(0.3760,), scale=16, load=load, embedded=True,
                     class_names=tuple("0123456789"), doc="1,797 handwritten digits from scikit-learn; no download, no augmentation.")
