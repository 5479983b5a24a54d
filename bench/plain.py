"""The baseline: the loop that a PyTorch tutorial shows and the released study runs, on the same images.

A Dataset of PIL images, torchvision's transforms, a DataLoader with one worker, torch.optim.SGD(0.1, 0.9, 5e-4). Fair to it:
its worker lives on between epochs, grey images get their three channels last, and the loss is never read.
"""

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms
from torchvision.models import resnet18

from bench.tasks import Task, raw
from engine.data.catalogue import get
from engine.models.cnn import CNN

AUGMENT: dict[str, list[Callable[[Any], Any]]] = {
    "fashion_mnist": [transforms.Resize(32), transforms.RandomHorizontalFlip(), transforms.Grayscale(3)],
    "cifar10": [transforms.RandomCrop(32, padding=4), transforms.RandomHorizontalFlip()],
}


class Images(Dataset[tuple[Tensor, int]]):
    """What torchvision's FashionMNIST and CIFAR10 do for an index: array -> PIL image -> transforms."""

    def __init__(self, task: Task) -> None:
        self.images, self.labels = raw(task)
        info = get(task.dataset)
        steps = [*AUGMENT[task.dataset], transforms.ToTensor(), transforms.Normalize(info.mean, info.std)]
        self.transform: Callable[[Image.Image], Tensor] = transforms.Compose(steps)

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.transform(Image.fromarray(self.images[index])), int(self.labels[index])


def network(name: str) -> nn.Module:
    """As its library has it."""
    if name == "tinyvit11m":
        from timm.models.tiny_vit import tiny_vit_11m_224

        return tiny_vit_11m_224(num_classes=10, drop_path_rate=0.1)
    return CNN(3, 10, 32) if name == "cnn" else resnet18(weights=None, num_classes=10)


def train(task: Task, precision: str, tick: Callable[[int], None], device: torch.device | str = "cpu") -> None:
    """Train until `tick`, called with the number of images after every step, raises. precision: fp32, or bf16 by autocast."""
    model = network(task.model).to(device)
    optimiser = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=5e-4)
    loader = DataLoader(Images(task), batch_size=task.batch, shuffle=True, num_workers=1, persistent_workers=True)
    while True:
        for x, y in loader:
            x, y = x.to(device), y.to(device)
            optimiser.zero_grad()
            with torch.autocast(torch.device(device).type, torch.bfloat16) if precision == "bf16" else nullcontext():
                loss = F.cross_entropy(model(x), y)
            loss.backward()
            optimiser.step()
            tick(len(y))
