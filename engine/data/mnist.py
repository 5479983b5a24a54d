"""MNIST as the study uses it: 28x28 grey resized to 32x32, three equal channels, and horizontal flips in training, so digits are mirrored.

Source: LeCun, Bottou, Bengio, Haffner, "Gradient-Based Learning Applied to Document Recognition", Proceedings of the IEEE, 1998.
"""

import torch

from engine.data.dataset import Dataset, DatasetInfo, from_torchvision, resized


def load() -> Dataset:
    train, test = from_torchvision("MNIST", "MNIST/raw/*-ubyte")
    images = torch.cat([train.data, test.data]).unsqueeze(1)
    return Dataset(resized(images, 32), torch.cat([train.targets, test.targets]).long(), len(train))


MNIST = DatasetInfo("mnist", label="MNIST", classes=10, channels=3, side=32, mean=(0.1307,) * 3, std=(0.3081,) * 3, load=load, flip=True,
                    class_names=tuple("0123456789"), doc="70,000 grey images of handwritten digits, resized to 32x32; flips in training, as in the study.")
