"""Layers over a stack: R networks in one pass, channels of all replicas side by side in [B, R*C, H, W].

Grouped convolutions and a batch-norm over R*C channels compute for every replica exactly what its own layer would, up to
the order of sums. Only for networks that never mix channels across the group border: a concatenation or a channel shuffle
would convert without an error and be wrong, so an architecture states its own `fused` forward and tests compare it in float64.

Where the map is so small that a 3x3 kernel sees mostly padding, the convolution is the matrix product of the taps that meet
real pixels; the rest of the kernel gets gradient zero, as it does in the plain convolution.
"""

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

MOMENTUM, EPS = 0.1, 1e-5  # of every batch-norm: torch's own


def mostly_padding(weight: Tensor, height: int, width: int, padding: int) -> bool:
    """Whether a convolution sees a map so small that the product of the taps that meet pixels serves better."""
    return weight.shape[-1] == 3 and padding == 1 and (height, width) in ((1, 1), (2, 2))


class Fused:
    """One forward pass: `params` and `buffers` by ordinary name, each [R, *shape]; `drawn`: what stochastic depth keeps, see `kept`."""

    def __init__(self, params: dict[str, Tensor], buffers: dict[str, Tensor], replicas: int, training: bool,
                 drawn: Float[Tensor, "k r b"] | None = None) -> None:
        self.params, self.buffers, self.replicas, self.training, self.drawn = params, buffers, replicas, training, drawn

    @staticmethod
    def arranged(x: Float[Tensor, "r b c h w"]) -> Tensor:
        """Images as these layers take them."""
        return x.transpose(0, 1).flatten(1, 2).contiguous(memory_format=torch.channels_last)

    def conv(self, name: str, x: Tensor, stride: int = 1, padding: int = 0) -> Tensor:
        """Bias-free convolution. x: [B, R*I, H, W] -> [B, R*O, H', W']."""
        weight = self.params[f"{name}.weight"]
        if mostly_padding(weight, x.shape[2], x.shape[3], padding):
            return self._conv_as_product(x, weight, stride)
        if weight.shape[-1] == 1 and x.shape[-2:] == (2, 2) and stride == 2:
            return self._matrix_product(x[..., :1, :1], weight[..., 0, 0])
        flat = weight.reshape(-1, *weight.shape[2:])
        if x.shape[1] > self.replicas:  # a single channel a replica cannot be marked channels-last by its strides
            flat = flat.contiguous(memory_format=torch.channels_last)
        return F.conv2d(x, flat, stride=stride, padding=padding, groups=self.replicas)

    def batch_norm(self, name: str, x: Tensor) -> Tensor:
        """Batch-norm of every replica's channels by its own statistics; in training moves the running ones."""
        if self.training:
            self.buffers[f"{name}.num_batches_tracked"] += 1
        mean, var = self.buffers[f"{name}.running_mean"], self.buffers[f"{name}.running_var"]
        return F.batch_norm(x, mean.view(-1), var.view(-1), self.params[f"{name}.weight"].reshape(-1), self.params[f"{name}.bias"].reshape(-1),
                            self.training, momentum=MOMENTUM, eps=EPS)

    def linear(self, name: str, x: Tensor) -> Tensor:
        """x: [R, B, I] -> [R, B, O]."""
        return torch.baddbmm(self.params[f"{name}.bias"].unsqueeze(1), x, self.params[f"{name}.weight"].transpose(1, 2))

    def mean_over_space(self, x: Tensor) -> Tensor:
        """[B, R*C, H, W] -> [R, B, C]: global average pooling and the way back to one batch a replica."""
        rows = x.permute(0, 2, 3, 1).flatten(1, 2).mean(1)  # in the order of memory, so that the gradient is, too
        return rows.view(x.shape[0], self.replicas, -1).transpose(0, 1)

    # ---- for networks of tokens

    def tokens(self, x: Tensor) -> Float[Tensor, "r b h w c"]:
        """From images as these layers take them."""
        return x.permute(0, 2, 3, 1).unflatten(3, (self.replicas, -1)).permute(3, 0, 1, 2, 4)

    def map(self, tokens: Float[Tensor, "r b h w c"]) -> Tensor:
        """And back."""
        return tokens.permute(1, 2, 3, 0, 4).flatten(3).permute(0, 3, 1, 2)

    def depthwise(self, name: str, x: Tensor, stride: int = 1) -> Tensor:
        """Bias-free 3x3 convolution of each channel by itself, padded by 1. x: [B, R*C, H, W]."""
        weight = self.params[f"{name}.weight"].flatten(0, 1)
        return F.conv2d(x, weight, stride=stride, padding=1, groups=len(weight))

    def layer_norm(self, name: str, x: Float[Tensor, "r n c"]) -> Float[Tensor, "r n c"]:
        """By torch's eps, each replica with its own gain and bias."""
        weight, bias = self.params[f"{name}.weight"], self.params[f"{name}.bias"]
        return F.layer_norm(x, x.shape[-1:], eps=EPS) * weight.unsqueeze(1) + bias.unsqueeze(1)

    def over_rows(self, layer: Callable[[str, Tensor], Tensor], name: str, x: Float[Tensor, "r b h w c"]) -> Tensor:
        """`linear` or `layer_norm` of every token."""
        return layer(name, x.flatten(1, 3)).unflatten(1, x.shape[1:4])

    def kept(self, draw: int, x: Float[Tensor, "r b h w c"]) -> Float[Tensor, "r b h w c"]:
        """Stochastic depth: this branch of the images that keep it, scaled up by how rarely they do, and zero of the others."""
        return x if self.drawn is None else x * self.drawn[draw].to(x.dtype).view(*x.shape[:2], 1, 1, 1)

    def _matrix_product(self, x: Tensor, weight: Tensor) -> Tensor:
        """x: [B, R*I, 1, 1], weight [R, O, I] -> [B, R*O, 1, 1]."""
        rows = x.reshape(x.shape[0], self.replicas, -1).transpose(0, 1)
        return torch.bmm(rows, weight.transpose(1, 2)).transpose(0, 1).reshape(x.shape[0], -1, 1, 1)

    def _conv_as_product(self, x: Tensor, weight: Tensor, stride: int) -> Tensor:
        """A padded 3x3 convolution of a 1x1 or 2x2 map: each output pixel sees each input pixel through one tap.

        Pixels before channels throughout, as they lie in memory, so that little is copied.
        """
        b, n, r, o = x.shape[0], x.shape[-1], *weight.shape[:2]
        side = 1 if stride == 2 else n
        rows = x.permute(0, 2, 3, 1).reshape(b, n * n, r, -1).permute(2, 0, 1, 3).reshape(r, b, -1)  # [R, B, n*n*I]
        made = torch.bmm(rows, Taps.apply(weight, n, side).transpose(1, 2))  # [R, B, side*side*O]
        return made.view(r, b, side * side, o).permute(1, 2, 0, 3).reshape(b, side, side, r * o).permute(0, 3, 1, 2)


class Taps(torch.autograd.Function):
    """Weights [R, O, I, 3, 3] -> the matrix [R, side*side*O, n*n*I] from the pixels of an n x n map to the first side x side of its
    padded convolution. Its gradient is written straight into one zero kernel, where slices would each make one of their own."""

    @staticmethod
    def forward(ctx: Any, weight: Tensor, n: int, side: int) -> Tensor:
        ctx.shape, ctx.n, ctx.side = weight.shape, n, side
        kernel = weight.permute(0, 1, 3, 4, 2)  # [R, O, 3, 3, I]
        taps = [kernel[:, :, 1 - y : 1 - y + n, 1 - z : 1 - z + n] for y in range(side) for z in range(side)]
        return torch.stack(taps, 1).view(weight.shape[0], side * side * weight.shape[1], -1)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        (r, o, i, h, w), n, side = ctx.shape, ctx.n, ctx.side
        taps = grads[0].view(r, side * side, o, n, n, i)
        kernel = taps.new_zeros(r, o, h, w, i)
        for k in range(side * side):
            y, z = divmod(k, side)
            kernel[:, :, 1 - y : 1 - y + n, 1 - z : 1 - z + n] += taps[:, k]
        return kernel.permute(0, 1, 4, 2, 3), None, None
