"""FashionMNIST as the study uses it: 28x28 grey resized to 32x32, three equal channels, horizontal flips in training.

Source: Xiao, Rasul, Vollgraf, "Fashion-MNIST", 2017, arXiv:1708.07747.
"""

import torch

from engine.data.dataset import Dataset, DatasetInfo, from_torchvision, resized

CLASSES = ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot")


def load() -> Dataset:
    train, test = from_torchvision("FashionMNIST", "FashionMNIST/raw/*-ubyte")
    images = torch.cat([train.data, test.data]).unsqueeze(1)
    return Dataset(resized(images, 32), torch.cat([train.targets, test.targets]).long(), len(train))


FASHION_MNIST = DatasetInfo("fashion_mnist", label="FashionMNIST", classes=10, channels=3, side=32, mean=(0.2860,) * 3, std=(0.3530,) * 3, load=load,
                            flip=True, class_names=CLASSES, doc="70,000 grey images of clothing, resized to 32x32; flips in training.")
