"""All architectures by name. A new one is one file and one line here."""

from engine.models.architecture import Architecture
from engine.models.cnn import CNN_ARCHITECTURE
from engine.models.resnet18 import RESNET18, RESNET18_CIFAR
from engine.models.tinyvit import TINYVIT11M
from engine.registry import pick

ARCHITECTURES: dict[str, Architecture] = {a.name: a for a in (CNN_ARCHITECTURE, RESNET18, RESNET18_CIFAR, TINYVIT11M)}


def get(name: str) -> Architecture:
    """The architecture called `name`. Raises: BadInput that names the nearest one."""
    return pick(name, ARCHITECTURES, "model", "models")
