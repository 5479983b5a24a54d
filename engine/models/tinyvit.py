"""TinyViT-11M as the reference study uses it: timm's module, trained from scratch on 32x32 inputs, with exact window attention without padding.

At 32x32 the three attention stages see 4x4, 2x2 and 1x1 tokens in windows of 7, 14 and 7. The network fills the windows up with zero tokens
and does not mask them. All of these have the same key and value, those of the layer norm's bias, so over the real tokens j of a window

    softmax over all positions  =  softmax over { q k_j scale + b_j  for each j,   q k_pad scale + logsumexp of b over the padding }

with values v_j and v_pad: the same outputs and gradients up to rounding, for a thirteenth of the multiply-adds at 32x32.

Source: Wu et al., "TinyViT: Fast Pretraining Distillation for Small Vision Transformers", ECCV 2022, arXiv:2207.10666, in timm's code.
The code released with the paper, which the study ran, pads in the same way and draws from the same distributions: linear weights truncated
normal with deviation 0.02, biases 0, the last batch-norm of each inverted bottleneck (MBConv) with gain 0. Stochastic depth rises linearly
from 0 to 0.1 and draws from torch's global generator.
Differs from both in eval mode, where they keep a copy of the attention biases from before, which does not learn: here they are parameters always.
In timm the layer that merges patches opens a stage, in the released code it ends the one before, and CF-k and EU-k take it with that one:
so do the `blocks` of the architecture.
"""

from functools import cache
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from engine.errors import DataError
from engine.models.architecture import Architecture


def build(channels: int, classes: int, side: int) -> nn.Module:
    """timm's tiny_vit_11m_224 without pretraining, under its names. Raises: DataError where the input is not 3-channel or too small."""
    if channels != 3 or side < 32:
        raise DataError(f"tinyvit11m needs images of 3 channels and 32 pixels or more, got {channels} channels of {side} pixels; use --model cnn")
    from timm.models.tiny_vit import tiny_vit_11m_224  # importing it takes seconds: only where a TinyViT is built

    network = tiny_vit_11m_224(num_classes=classes, drop_path_rate=0.1)
    for stage in network.stages[1:]:
        stage.blocks = nn.Sequential(*map(Block, stage.blocks))
    return network


class Block(nn.Module):
    """timm's TinyVitBlock, its parts under the same names: attention, a depth-wise 3x3 convolution, a perceptron. [B, H, W, C] -> the same."""

    def __init__(self, block: Any) -> None:
        super().__init__()
        self.attn = WindowAttention(block.attn)
        self.drop_path1 = block.drop_path1
        self.mlp = block.mlp
        self.drop_path2 = block.drop_path2
        self.local_conv = block.local_conv

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.drop_path1(self.attn(x))
        x = self.local_conv(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        return x + self.drop_path2(self.mlp(x))


class WindowAttention(nn.Module):
    """Attention within windows of `window` x `window` tokens, counted from the top left; the last ones may be filled up with zero tokens.

    `attention` is timm's, whose parameters it takes over. attention_biases: [heads, window**2], by |rows apart| * window + |columns apart|.
    """

    def __init__(self, attention: Any) -> None:
        super().__init__()
        self.heads, self.window, self.scale = attention.num_heads, attention.resolution[0], attention.scale
        self.attention_biases = attention.attention_biases
        self.norm = attention.norm
        self.qkv = attention.qkv
        self.proj = attention.proj

    def forward(self, x: Float[Tensor, "b h w c"]) -> Float[Tensor, "b h w c"]:
        tokens = self._queries_keys_values(self.norm(x))
        padding = self._queries_keys_values(self.norm.bias)  # the layer norm of a zero token
        rows, columns = self._parts(x.shape[1]), self._parts(x.shape[2])
        made = torch.cat([torch.cat([self._attend(tokens[:, r, c], padding) for c in columns], 2) for r in rows], 1)
        return self.proj(made)

    def _queries_keys_values(self, x: Float[Tensor, "*b c"]) -> Float[Tensor, "*b heads 3 d"]:
        return self.qkv(x).unflatten(-1, (self.heads, 3, -1))

    def _parts(self, side: int) -> list[slice]:
        """The whole windows along one axis, then what is left over."""
        whole = side - side % self.window
        return [part for part in (slice(0, whole), slice(whole, side)) if part.start < part.stop]

    def _attend(self, tokens: Float[Tensor, "b h w heads 3 d"], padding: Float[Tensor, "heads 3 d"]) -> Float[Tensor, "b h w c"]:
        """Attention in windows that all hold as many real tokens."""
        b, height, width = tokens.shape[:3]
        h, w = min(height, self.window), min(width, self.window)
        windows = tokens.unflatten(2, (-1, w)).unflatten(1, (-1, h))  # [b, down, h, across, w, heads, 3, d]
        q, k, v = windows.permute(6, 0, 1, 3, 5, 2, 4, 7).reshape(3, -1, self.heads, h * w, tokens.shape[-1])
        bias = self._biases(h, w)
        if bias.shape[-1] > h * w:
            _, k_pad, v_pad = padding.transpose(0, 1).unsqueeze(2).unsqueeze(1).expand(-1, len(q), -1, -1, -1)
            k, v = torch.cat([k, k_pad], 2), torch.cat([v, v_pad], 2)
        made = ((q * self.scale) @ k.transpose(2, 3) + bias).softmax(-1) @ v  # [windows, heads, h * w, d]
        made = made.view(b, height // h, width // w, self.heads, h, w, -1)
        return made.permute(0, 1, 4, 2, 5, 3, 6).reshape(b, height, width, -1)

    def _biases(self, h: int, w: int) -> Float[Tensor, "heads n m"]:
        """From each of the h * w real tokens of a window to each of them and, where there is padding, to all of that as one key."""
        n, offsets = h * w, _offsets(h, w, self.window, self.attention_biases.device)
        # an embedding, because its gradient is summed in the same order on every device and whatever the threads
        biases = F.embedding(offsets, self.attention_biases.T).permute(2, 0, 1)
        return biases if n == self.window**2 else torch.cat([biases[..., :n], biases[..., n:].logsumexp(-1, keepdim=True)], -1)


@cache
def _offsets(h: int, w: int, window: int, device: torch.device) -> Int[Tensor, "n positions"]:
    """Which bias holds from each real token of a window, at its top left, to each position of it: the real ones first."""
    row, column = (t.flatten() for t in torch.meshgrid(*[torch.arange(window, device=device)] * 2, indexing="ij"))
    real = (row < h) & (column < w)
    order = torch.cat([real.nonzero(), (~real).nonzero()]).squeeze(1)
    row, column = row[order], column[order]
    n = h * w
    return (row[:n, None] - row).abs() * window + (column[:n, None] - column).abs()


TINYVIT11M = Architecture(
    "tinyvit11m", label="TinyViT-11M", build=build, fused=None, stem=("patch_embed.conv1.conv", "patch_embed.conv2.conv"), head=("head.fc",),
    blocks=(("stages.1.blocks", "stages.2.downsample"), ("stages.2.blocks", "stages.3.downsample"), ("stages.3.blocks",)),
    doc="timm's TinyViT-11M, trained from scratch: convolutions, then window attention; on 32x32 inputs the study's network.")
