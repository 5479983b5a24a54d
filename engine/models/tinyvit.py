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

from collections.abc import Iterator
from functools import cache
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from engine.errors import DataError
from engine.models.architecture import Architecture
from engine.models.fused import Fused


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
        tokens = self.qkv(self.norm(x)).unflatten(-1, (self.heads, 3, -1))
        padding = self.qkv(self.norm.bias).unflatten(-1, (self.heads, 3, -1))  # the layer norm of a zero token
        made = _attention(tokens.unsqueeze(0), padding.unsqueeze(0), self.attention_biases.unsqueeze(0), self.window, self.scale)
        return self.proj(made.squeeze(0))


def _attention(tokens: Float[Tensor, "r b h w heads 3 d"], padding: Float[Tensor, "r heads 3 d"], biases: Float[Tensor, "r heads offsets"],
               window: int, scale: float) -> Float[Tensor, "r b h w c"]:
    """Attention of r networks within windows: queries, keys and values of the tokens, and of a zero token."""
    rows, columns = _parts(tokens.shape[2], window), _parts(tokens.shape[3], window)
    return torch.cat([torch.cat([_attend(tokens[:, :, r, c], padding, biases, window, scale) for c in columns], 3) for r in rows], 2)


def _parts(side: int, window: int) -> list[slice]:
    """The whole windows along one axis, then what is left over."""
    whole = side - side % window
    return [part for part in (slice(0, whole), slice(whole, side)) if part.start < part.stop]


def _attend(tokens: Float[Tensor, "r b h w heads 3 d"], padding: Float[Tensor, "r heads 3 d"], biases: Float[Tensor, "r heads offsets"],
            window: int, scale: float) -> Float[Tensor, "r b h w c"]:
    """Attention in windows that all hold as many real tokens."""
    r, b, height, width, heads, _, d = tokens.shape
    h, w = min(height, window), min(width, window)
    windows = tokens.unflatten(3, (-1, w)).unflatten(2, (-1, h))  # [r, b, down, h, across, w, heads, 3, d]
    q, k, v = windows.permute(7, 0, 1, 2, 4, 6, 3, 5, 8).reshape(3, r, -1, heads, h * w, d)
    bias = _biases(biases, h, w, window)
    if bias.shape[-1] > h * w:
        _, k_pad, v_pad = padding.permute(2, 0, 1, 3).view(3, r, 1, heads, 1, d).expand(-1, -1, q.shape[1], -1, -1, -1)
        k, v = torch.cat([k, k_pad], 3), torch.cat([v, v_pad], 3)
    made = ((q * scale) @ k.transpose(3, 4) + bias.unsqueeze(1)).softmax(-1) @ v  # [r, windows, heads, h * w, d]
    made = made.view(r, b, height // h, width // w, heads, h, w, d)
    return made.permute(0, 1, 2, 5, 3, 6, 4, 7).reshape(r, b, height, width, heads * d)


def _biases(biases: Float[Tensor, "r heads offsets"], h: int, w: int, window: int) -> Float[Tensor, "r heads n m"]:
    """From each of the h * w real tokens of a window to each of them and, where there is padding, to all of that as one key."""
    n, offsets = h * w, _offsets(h, w, window, biases.device)
    # an embedding, because its gradient is summed in the same order on every device and whatever the threads
    found = F.embedding(offsets, biases.flatten(0, 1).T).permute(2, 0, 1).unflatten(0, biases.shape[:2])
    return found if n == window**2 else torch.cat([found[..., :n], found[..., n:].logsumexp(-1, keepdim=True)], -1)


@cache
def _offsets(h: int, w: int, window: int, device: torch.device) -> Int[Tensor, "n positions"]:
    """Which bias holds from each real token of a window, at its top left, to each position of it: the real ones first."""
    row, column = (t.flatten() for t in torch.meshgrid(*[torch.arange(window, device=device)] * 2, indexing="ij"))
    real = (row < h) & (column < w)
    order = torch.cat([real.nonzero(), (~real).nonzero()]).squeeze(1)
    row, column = row[order], column[order]
    n = h * w
    return (row[:n, None] - row).abs() * window + (column[:n, None] - column).abs()


_HEADS, _WINDOWS, _DEPTHS = (4, 8, 14), (7, 14, 7), (2, 6, 2)  # of the three stages with attention
_CONVOLUTIONS = 2  # blocks of the stage before them
_BLOCKS = _CONVOLUTIONS + sum(_DEPTHS)
_RATES = [float(rate) for rate in torch.linspace(0, 0.1, _BLOCKS)]  # of stochastic depth, block by block
# in the order in which a network draws: once a convolution block, twice a block with attention, nothing at rate 0
_KEPT = tuple(1 - rate for block, rate in enumerate(_RATES) for _ in range(1 if block < _CONVOLUTIONS else 2) if rate)


def fused(f: Fused, x: Tensor) -> Tensor:
    """The same network over a stack."""
    drawn = iter(range(len(_KEPT)))
    x = _normed(f, "patch_embed.conv2", F.gelu(_normed(f, "patch_embed.conv1", x, stride=2, padding=1)), stride=2, padding=1)
    for block in range(_CONVOLUTIONS):
        x = _inverted_bottleneck(f, f"stages.0.blocks.{block}", x, drawn if _RATES[block] else None)
    for stage, (heads, window, depth) in enumerate(zip(_HEADS, _WINDOWS, _DEPTHS, strict=True), 1):
        name = f"stages.{stage}.downsample"
        x = F.gelu(_depthwise(f, f"{name}.conv2", F.gelu(_normed(f, f"{name}.conv1", x)), stride=2))
        tokens = f.tokens(_normed(f, f"{name}.conv3", x))
        for block in range(depth):
            tokens = _block(f, f"stages.{stage}.blocks.{block}", tokens, heads, window, drawn)
        x = f.map(tokens)
    return f.linear("head.fc", f.layer_norm("head.norm", f.mean_over_space(x)))


def _block(f: Fused, name: str, x: Float[Tensor, "r b h w c"], heads: int, window: int, drawn: Iterator[int]) -> Float[Tensor, "r b h w c"]:
    tokens = f.over_rows(f.linear, f"{name}.attn.qkv", f.over_rows(f.layer_norm, f"{name}.attn.norm", x)).unflatten(-1, (heads, 3, -1))
    padding = f.linear(f"{name}.attn.qkv", f.params[f"{name}.attn.norm.bias"].unsqueeze(1)).squeeze(1).unflatten(-1, (heads, 3, -1))
    made = _attention(tokens, padding, f.params[f"{name}.attn.attention_biases"], window, tokens.shape[-1] ** -0.5)
    x = x + f.kept(next(drawn), f.over_rows(f.linear, f"{name}.attn.proj", made))
    x = f.tokens(_depthwise(f, f"{name}.local_conv", f.map(x)))
    made = F.gelu(f.over_rows(f.linear, f"{name}.mlp.fc1", f.over_rows(f.layer_norm, f"{name}.mlp.norm", x)))
    return x + f.kept(next(drawn), f.over_rows(f.linear, f"{name}.mlp.fc2", made))


def _inverted_bottleneck(f: Fused, name: str, x: Tensor, drawn: Iterator[int] | None) -> Tensor:
    made = F.gelu(_depthwise(f, f"{name}.conv2", F.gelu(_normed(f, f"{name}.conv1", x))))
    made = _normed(f, f"{name}.conv3", made)
    if drawn is not None:
        made = f.map(f.kept(next(drawn), f.tokens(made)))
    return F.gelu(made + x)


def _normed(f: Fused, name: str, x: Tensor, stride: int = 1, padding: int = 0) -> Tensor:
    return f.batch_norm(f"{name}.bn", f.conv(f"{name}.conv", x, stride=stride, padding=padding))


def _depthwise(f: Fused, name: str, x: Tensor, stride: int = 1) -> Tensor:
    return f.batch_norm(f"{name}.bn", f.depthwise(f"{name}.conv", x, stride=stride))


TINYVIT11M = Architecture(
    "tinyvit11m", label="TinyViT-11M", build=build, fused=fused, kept=_KEPT, stem=("patch_embed.conv1.conv", "patch_embed.conv2.conv"), head=("head.fc",),
    blocks=(("stages.1.blocks", "stages.2.downsample"), ("stages.2.blocks", "stages.3.downsample"), ("stages.3.blocks",)), maps="b h w c",
    doc="timm's TinyViT-11M, trained from scratch: convolutions, then window attention; on 32x32 inputs the study's network.")
