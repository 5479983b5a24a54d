"""ResNet-18 as the reference study uses it: torchvision's module with its ImageNet stem, on 32x32 inputs.

Source: He et al., "Deep Residual Learning for Image Recognition", CVPR 2016, arXiv:1512.03385; the study's choice of stem
leaves 62 % of the weights without influence at 32x32: kernel taps that only ever see padding.
"""

from torch import Tensor, nn
from torch.nn import functional as F

from engine.errors import DataError
from engine.models.architecture import Architecture
from engine.models.fused import Fused


def build(channels: int, classes: int, side: int) -> nn.Module:
    """torchvision's resnet18 without pretraining. Raises: DataError where the input is not 3-channel or too small."""
    if channels != 3 or side < 32:
        raise DataError(f"resnet18 needs images of 3 channels and 32 pixels or more, got {channels} channels of {side} pixels; use --model cnn")
    from torchvision.models import resnet18  # importing it takes two seconds: only where a ResNet is built

    return resnet18(weights=None, num_classes=classes)


def fused(f: Fused, x: Tensor) -> Tensor:
    """torchvision's forward over a stack."""
    x = F.relu(f.batch_norm("bn1", f.conv("conv1", x, stride=2, padding=3)))
    x = F.max_pool2d(x, 3, stride=2, padding=1)
    for layer in range(1, 5):
        for block in range(2):
            x = _basic_block(f, f"layer{layer}.{block}", x, stride=2 if layer > 1 and block == 0 else 1)
    return f.linear("fc", f.mean_over_space(x))


def _basic_block(f: Fused, name: str, x: Tensor, stride: int) -> Tensor:
    out = F.relu(f.batch_norm(f"{name}.bn1", f.conv(f"{name}.conv1", x, stride=stride, padding=1)))
    out = f.batch_norm(f"{name}.bn2", f.conv(f"{name}.conv2", out, padding=1))
    if stride != 1:
        x = f.batch_norm(f"{name}.downsample.1", f.conv(f"{name}.downsample.0", x, stride=stride))
    return F.relu(out + x)


RESNET18 = Architecture("resnet18", label="ResNet-18", build=build, fused=fused, stem=("conv1",), head=("fc",),
                        blocks=(("layer1",), ("layer2",), ("layer3",), ("layer4",)),
                        doc="torchvision's ResNet-18, trained from scratch, ImageNet stem on 32x32 inputs: exactly the study's network.")
