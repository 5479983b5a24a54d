"""CIFAR-100 with its 100 fine labels, as the study uses it: random crops after zero padding of 4, and horizontal flips in training.

Source: Krizhevsky, "Learning Multiple Layers of Features from Tiny Images", 2009.
"""

import numpy as np
import torch

from engine.data.dataset import Dataset, DatasetInfo, from_torchvision

CLASSES = (
    "apple", "aquarium_fish", "baby", "bear", "beaver", "bed", "bee", "beetle", "bicycle", "bottle", "bowl", "boy", "bridge", "bus", "butterfly",
    "camel", "can", "castle", "caterpillar", "cattle", "chair", "chimpanzee", "clock", "cloud", "cockroach", "couch", "crab", "crocodile", "cup",
    "dinosaur", "dolphin", "elephant", "flatfish", "forest", "fox", "girl", "hamster", "house", "kangaroo", "keyboard", "lamp", "lawn_mower",
    "leopard", "lion", "lizard", "lobster", "man", "maple_tree", "motorcycle", "mountain", "mouse", "mushroom", "oak_tree", "orange", "orchid",
    "otter", "palm_tree", "pear", "pickup_truck", "pine_tree", "plain", "plate", "poppy", "porcupine", "possum", "rabbit", "raccoon", "ray",
    "road", "rocket", "rose", "sea", "seal", "shark", "shrew", "skunk", "skyscraper", "snail", "snake", "spider", "squirrel", "streetcar",
    "sunflower", "sweet_pepper", "table", "tank", "telephone", "television", "tiger", "tractor", "train", "trout", "tulip", "turtle", "wardrobe",
    "whale", "willow_tree", "wolf", "woman", "worm",
)


def load() -> Dataset:
    train, test = from_torchvision("CIFAR100", "cifar-100-python/")
    images = torch.from_numpy(np.concatenate([train.data, test.data])).permute(0, 3, 1, 2).contiguous()
    return Dataset(images, torch.tensor(train.targets + test.targets), len(train))


CIFAR100 = DatasetInfo("cifar100", label="CIFAR-100", classes=100, channels=3, side=32, mean=(0.5071, 0.4865, 0.4409), std=(0.2673, 0.2564, 0.2762),
                       load=load, flip=True, crop=4, class_names=CLASSES, doc="60,000 colour images of 32x32, 100 classes; random crops and flips in training.")
