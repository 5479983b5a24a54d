"""The small CNN: three blocks of 3x3 convolution (16, 32, 64 channels), batch-norm and ReLU; about 24 thousand weights.

2x2 max-pooling after the second block, and after the first too where the side is 16 or more; global average pooling; linear.
"""

from torch import Tensor, nn
from torch.nn import functional as F

from engine.models.architecture import Architecture
from engine.models.fused import Fused


class CNN(nn.Module):
    """x: [B, channels, side, side] -> logits [B, classes]."""

    def __init__(self, channels: int, classes: int, side: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, 16, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.conv2 = nn.Conv2d(16, 32, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(32)
        self.conv3 = nn.Conv2d(32, 64, 3, padding=1, bias=False)
        self.bn3 = nn.BatchNorm2d(64)
        self.fc = nn.Linear(64, classes)
        self.large = side >= 16

    def forward(self, x: Tensor) -> Tensor:
        x = self.bn1(self.conv1(x))
        if self.large:
            x = F.max_pool2d(x, 2)  # before relu, which then has a quarter to do: the maximum of relu is the relu of the maximum
        x = self.bn2(self.conv2(F.relu(x)))
        x = F.relu(F.max_pool2d(x, 2))
        x = F.relu(self.bn3(self.conv3(x)))
        return self.fc(x.permute(0, 2, 3, 1).flatten(1, 2).mean(1))  # in the order of memory, so that the gradient is, too


def fused(f: Fused, x: Tensor) -> Tensor:
    """The same network over a stack, channels of all replicas side by side."""
    x = f.batch_norm("bn1", f.conv("conv1", x, padding=1))
    if x.shape[-1] >= 16:
        x = F.max_pool2d(x, 2)
    x = f.batch_norm("bn2", f.conv("conv2", F.relu(x), padding=1))
    x = F.relu(F.max_pool2d(x, 2))
    x = F.relu(f.batch_norm("bn3", f.conv("conv3", x, padding=1)))
    return f.linear("fc", f.mean_over_space(x))


CNN_ARCHITECTURE = Architecture("cnn", label="Small CNN", build=CNN, fused=fused, stem=("conv1",), head=("fc",),
                                blocks=(("conv1", "bn1"), ("conv2", "bn2"), ("conv3", "bn3")), version=2,
                                doc="Three 3x3 convolutions (16, 32, 64), batch-norm, average pooling: 24 thousand weights, for quick work on a CPU.")
