"""A few random colour images: what the large architectures are tried on."""

import torch

from engine.data.dataset import Dataset, DatasetInfo
from engine.data.loader import Splits


def colour_splits(replicas: int = 1, *, retain: int = 4, forget: int = 3, val: int = 3, test: int = 0, classes: int = 3,
                  dtype: torch.dtype = torch.float32) -> Splits:
    """32x32 images with random labels; all replicas share retain, forget, val and test."""
    sizes, chance = {"retain": retain, "forget": forget, "val": val, "test": test}, torch.Generator().manual_seed(0)
    n = sum(sizes.values())
    data = Dataset(torch.randint(256, (n, 3, 32, 32), generator=chance, dtype=torch.uint8), torch.arange(n) % classes, n)
    info = DatasetInfo("noise", "Noise", classes, 3, 32, (0.5,) * 3, (0.3,) * 3, lambda: data, "random pixels", tuple(map(str, range(classes))))
    parts = torch.arange(n).split(list(sizes.values()))
    return Splits(info, data, {name: part.repeat(replicas, 1) for name, part in zip(sizes, parts, strict=True)}, dtype=dtype)
