"""What is trained in the benchmarks: two tasks, each with raw images as a dataset's files hold them."""

import os
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torchvision import datasets

from engine.data.catalogue import get
from engine.data.dataset import Dataset, DatasetInfo, resized
from engine.data.loader import Splits

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
def raw(task: Task) -> tuple[np.ndarray, np.ndarray]:
    """(uint8 images, labels) of a task: real ones under `$LETHE_DATA`, else noise of the same size, which costs the same to train on."""
    root = os.environ.get("LETHE_DATA")
    if root:
        found: Any = getattr(datasets, task.torchvision)(root, train=True, download=False)
        return np.asarray(found.data)[:IMAGES], np.asarray(found.targets)[:IMAGES].astype(np.int64)
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (IMAGES, *task.shape), dtype=np.uint8), rng.integers(0, 10, IMAGES)


def training_splits(task: Task, replicas: int, device: torch.device | str = "cpu") -> tuple[DatasetInfo, Splits]:
    """The same images as `retain` for a stack, on the device as the engine holds them."""
    info = get(task.dataset)
    images, labels = (torch.from_numpy(array) for array in raw(task))
    images = images.unsqueeze(1) if images.dim() == 3 else images.permute(0, 3, 1, 2).contiguous()
    index = torch.arange(len(labels)).expand(replicas, -1)
    return info, Splits(info, Dataset(resized(images, info.side), labels, len(labels)), {"retain": index}, device=device)
