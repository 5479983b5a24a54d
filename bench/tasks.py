"""What is trained in the benchmarks: two tasks, each with raw images as a dataset's files hold them."""

import os
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from torchvision import datasets

IMAGES = 5_120  # a multiple of both batches, so that every step is a full one


@dataclass(frozen=True)
class Task:
    """shape: of a raw image, (h, w) or (h, w, 3). size: training images of an original model, to say what one costs."""

    name: str
    title: str
    dataset: str
    model: str
    batch: int
    shape: tuple[int, ...]
    torchvision: str
    size: int


TASKS = {t.name: t for t in (
    Task("cnn", "Small CNN on FashionMNIST (28x28 grey, resized to 3x32x32, flips)", "fashion_mnist", "cnn", batch=64, shape=(28, 28),
         torchvision="FashionMNIST", size=51_000),
    Task("resnet18", "ResNet-18 on CIFAR-10 (3x32x32, random crops and flips)", "cifar10", "resnet18", batch=128, shape=(32, 32, 3),
         torchvision="CIFAR10", size=42_500),
)}


@lru_cache(maxsize=1)
def raw(name: str) -> tuple[np.ndarray, np.ndarray]:
    """(uint8 images, labels) of a task: real ones under `$LETHE_DATA`, else noise of the same size, which costs the same to train on."""
    task, root = TASKS[name], os.environ.get("LETHE_DATA")
    if root:
        found: Any = getattr(datasets, task.torchvision)(root, train=True, download=False)
        return np.asarray(found.data)[:IMAGES], np.asarray(found.targets)[:IMAGES].astype(np.int64)
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (IMAGES, *task.shape), dtype=np.uint8), rng.integers(0, 10, IMAGES)
