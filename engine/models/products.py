"""Layers over a stack as batched matrix products: replicas after one another in [R*B, C, H, W], channels-last.

    convolution   columns [R, B*H'*W', k*k*I] @ kernel [R, k*k*I, O]

A grouped convolution (`fused.py`) leaves a GPU's matrix units idle where a group has few channels; one batched product keeps them busy,
for k*k times the memory of the map. Batch-norm is written out over each replica's rows, so that a compiler can join it to what stands
around it. Everything else is as in `Fused`, and so are the outputs and gradients, to rounding.
"""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from engine.models.fused import EPS, MOMENTUM, Fused, Taps, mostly_padding


class Products(Fused):
    """One forward pass; same vocabulary as `Fused`, images of replica r in rows r*B to (r+1)*B."""

    @staticmethod
    def arranged(x: Float[Tensor, "r b c h w"]) -> Float[Tensor, "rb c h w"]:
        return x.flatten(0, 1).contiguous(memory_format=torch.channels_last)

    def conv(self, name: str, x: Tensor, stride: int = 1, padding: int = 0) -> Tensor:
        weight = self.params[f"{name}.weight"]
        k = weight.shape[-1]
        x = _in_working_precision(x).permute(0, 2, 3, 1)  # pixels before channels, as they lie in memory
        if mostly_padding(weight, x.shape[1], x.shape[2], padding):
            return self._conv_as_product(x, weight, stride)
        if k == 1 and padding == 0:
            x, taps = x[:, ::stride, ::stride], weight[..., 0, 0]
        else:
            x, taps = _Columns.apply(x, k, stride, padding), weight.permute(0, 1, 3, 4, 2).flatten(2)
        made = torch.bmm(x.reshape(self.replicas, -1, x.shape[-1]), taps.transpose(1, 2))
        return made.view(*x.shape[:3], -1).permute(0, 3, 1, 2)

    def batch_norm(self, name: str, x: Tensor) -> Tensor:
        mean, var = self.buffers[f"{name}.running_mean"], self.buffers[f"{name}.running_var"]
        rows = x.permute(0, 2, 3, 1).reshape(self.replicas, -1, x.shape[1])
        wide = rows.to(mean.dtype)
        if self.training:
            n = rows.shape[1]
            own_var, own_mean = torch.var_mean(wide, 1, correction=0)
            with torch.no_grad():
                self.buffers[f"{name}.num_batches_tracked"] += 1
                mean.lerp_(own_mean, MOMENTUM)
                var.lerp_(own_var * (n / (n - 1)), MOMENTUM)
            mean, var = own_mean, own_var
        gain = self.params[f"{name}.weight"] * torch.rsqrt(var + EPS)
        made = (wide - mean.unsqueeze(1)) * gain.unsqueeze(1) + self.params[f"{name}.bias"].unsqueeze(1)
        return made.to(rows.dtype).view(x.shape[0], *x.shape[2:], -1).permute(0, 3, 1, 2)

    def mean_over_space(self, x: Tensor) -> Tensor:
        return x.permute(0, 2, 3, 1).flatten(1, 2).mean(1).view(self.replicas, -1, x.shape[1])

    def tokens(self, x: Tensor) -> Float[Tensor, "r b h w c"]:
        return x.permute(0, 2, 3, 1).unflatten(0, (self.replicas, -1))

    def map(self, tokens: Float[Tensor, "r b h w c"]) -> Tensor:
        return tokens.flatten(0, 1).permute(0, 3, 1, 2)

    def depthwise(self, name: str, x: Tensor, stride: int = 1) -> Tensor:
        """x: [R*B, C, H, W]. The taps one after the other; those that no pixel of a small map meets are left out."""
        tokens, weight = self.tokens(x), self.params[f"{name}.weight"].squeeze(2)  # [R, C, 3, 3]
        height, width = tokens.shape[2:4]
        down, across = (range((side - 1) // stride + 1) for side in (height, width))
        padded = F.pad(tokens, (0, 0, 1, 1, 1, 1))
        made = None
        for i in range(3):
            for j in range(3):
                if not (any(0 <= stride * n + i - 1 < height for n in down) and any(0 <= stride * n + j - 1 < width for n in across)):
                    continue
                seen = padded[:, :, i : i + stride * len(down) : stride, j : j + stride * len(across) : stride][:, :, : len(down), : len(across)]
                part = seen * weight[:, None, None, None, :, i, j]
                made = part if made is None else made + part
        assert made is not None
        return self.map(made)

    def _conv_as_product(self, x: Tensor, weight: Tensor, stride: int) -> Tensor:
        """x: [R*B, n, n, I] with n of 1 or 2 -> [R*B, O, n', n']."""
        n = x.shape[1]
        side = 1 if stride == 2 else n
        made = torch.bmm(x.reshape(self.replicas, -1, n * n * x.shape[-1]), Taps.apply(weight, n, side).transpose(1, 2))
        return made.view(x.shape[0], side, side, -1).permute(0, 3, 1, 2)


class _Columns(torch.autograd.Function):
    """[N, H, W, C] -> [N, H', W', k*k*C]: what a k x k kernel sees at each place. Its gradient adds the k*k maps up in place, where
    slices of autograd would each make a map of zeros of their own."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, k: int, stride: int, padding: int) -> Tensor:
        ctx.shape, ctx.k, ctx.stride, ctx.padding = x.shape, k, stride, padding
        padded = F.pad(x, (0, 0, padding, padding, padding, padding))
        return padded.unfold(1, k, stride).unfold(2, k, stride).permute(0, 1, 2, 4, 5, 3).flatten(3)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None, None]:
        n, h, w, c = ctx.shape
        k, stride, padding = ctx.k, ctx.stride, ctx.padding
        columns = grads[0].unflatten(3, (k, k, c))
        down, across = (step * (count - 1) + 1 for step, count in ((stride, columns.shape[1]), (stride, columns.shape[2])))
        padded = columns.new_zeros(n, h + 2 * padding, w + 2 * padding, c)
        for i in range(k):
            for j in range(k):
                padded[:, i : i + down : stride, j : j + across : stride] += columns[:, :, :, i, j]
        return padded[:, padding : padding + h, padding : padding + w], None, None, None


def _in_working_precision(x: Tensor) -> Tensor:
    """As the products will take it, so that columns are not made wider than they are read."""
    return x.to(torch.get_autocast_dtype(x.device.type)) if torch.is_autocast_enabled(x.device.type) else x
