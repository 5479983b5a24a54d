"""ResNet-18, torchvision's module, with two stems.

`resnet18` is the reference study's network: the ImageNet stem (7x7 kernel, stride 2, then max-pooling) on 32x32 inputs. That choice
leaves 62 % of the weights without influence at 32x32: kernel taps that only ever see padding (engine.models.live names them).
`resnet18_cifar` has the stem that most CIFAR papers use (3x3 kernel, stride 1, no pooling): there every weight counts, at fifteen times
the multiply-adds.

Source: He et al., "Deep Residual Learning for Image Recognition", CVPR 2016, arXiv:1512.03385.
"""

from torch import Tensor, nn
from torch.nn import functional as F

from engine.errors import DataError
from engine.models.architecture import Architecture
from engine.models.fused import Fused


def build(channels: int, classes: int, side: int) -> nn.Module:
    """torchvision's resnet18 without pretraining. Raises: DataError where the input is not 3-channel or too small."""
    return _torchvision("resnet18", channels, classes, side, least=32)


def build_cifar(channels: int, classes: int, side: int) -> nn.Module:
    """The same with the CIFAR stem, drawn as torchvision draws its convolutions. Raises: DataError as `build`."""
    network = _torchvision("resnet18_cifar", channels, classes, side, least=8)
    network.conv1 = nn.Conv2d(3, 64, 3, padding=1, bias=False)
    nn.init.kaiming_normal_(network.conv1.weight, mode="fan_out", nonlinearity="relu")
    network.maxpool = nn.Identity()
    return network


def _torchvision(name: str, channels: int, classes: int, side: int, least: int) -> nn.Module:
    if channels != 3 or side < least:
        raise DataError(f"{name} needs images of 3 channels and {least} pixels or more, got {channels} channels of {side} pixels; use --model cnn")
    from torchvision.models import resnet18  # importing it takes two seconds: only where a ResNet is built

    return resnet18(weights=None, num_classes=classes)


def fused(f: Fused, x: Tensor) -> Tensor:
    """torchvision's forward over a stack."""
    x = F.relu(f.batch_norm("bn1", f.conv("conv1", x, stride=2, padding=3)))
    return _after_stem(f, F.max_pool2d(x, 3, stride=2, padding=1))


def fused_cifar(f: Fused, x: Tensor) -> Tensor:
    """The same with the CIFAR stem."""
    return _after_stem(f, F.relu(f.batch_norm("bn1", f.conv("conv1", x, padding=1))))


def _after_stem(f: Fused, x: Tensor) -> Tensor:
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
RESNET18_CIFAR = Architecture("resnet18_cifar", label="ResNet-18, CIFAR stem", build=build_cifar, fused=fused_cifar, stem=("conv1",), head=("fc",),
                              blocks=(("layer1",), ("layer2",), ("layer3",), ("layer4",)),
                              doc="ResNet-18 with a 3x3 stem of stride 1 and no pooling, as most CIFAR papers use it: fifteen times the work.")
