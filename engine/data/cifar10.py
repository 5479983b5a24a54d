"""CIFAR-10 as the study uses it: random crops after zero padding of 4, and horizontal flips in training.

Source: Krizhevsky, "Learning Multiple Layers of Features from Tiny Images", 2009.
"""

import numpy as np
import torch

from engine.data.dataset import Dataset, DatasetInfo, from_torchvision

CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


def load() -> Dataset:
    train, test = from_torchvision("CIFAR10", "cifar-10-batches-py/")
    images = torch.from_numpy(np.concatenate([train.data, test.data])).permute(0, 3, 1, 2).contiguous()
    return Dataset(images, torch.tensor(train.targets + test.targets), len(train))


CIFAR10 = DatasetInfo("cifar10", label="CIFAR-10", classes=10, channels=3, side=32, mean=(0.4914, 0.4822, 0.4465), std=(0.2023, 0.1994, 0.2010),
                      load=load, flip=True, crop=4, class_names=CLASSES, doc="60,000 colour images of 32x32; random crops and flips in training.")
