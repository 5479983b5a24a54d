"""Splits as tensors on the device: uint8 images stay there, batches are gathered, augmented and normalised there.

One `Splits` serves a whole stack: images and labels are shared, each replica has its own index of who is in which split.
"""

import copy
from collections.abc import Iterator, Sequence

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional as F

from engine.data import splits as membership
from engine.data.catalogue import get, loaded
from engine.data.dataset import Dataset, DatasetInfo
from engine.errors import DataError
from engine.runtime import Rng

Batch = tuple[Float[Tensor, "r b c h w"], Int[Tensor, "r b"]]


class Splits:
    """Batches for a stack. Split names: retain, forget, val, test; and heldout, pool (u_lira).

    All replicas have splits of equal size: unequal batches would need padding, which corrupts batch statistics.
    """

    def __init__(self, info: DatasetInfo, data: Dataset, index: dict[str, Int[Tensor, "r n"]], *, device: str | torch.device = "cpu",
                 dtype: torch.dtype = torch.float32) -> None:
        self.info, self.device, self.dtype = info, torch.device(device), dtype
        self._index = {name: rows.to(self.device) for name, rows in index.items()}
        self._readable: frozenset[str] | None = None  # all
        self._images, self._labels = data.images.to(self.device), data.labels.to(self.device)
        std = torch.tensor(info.std, dtype=torch.float64)
        self._gain = (1 / (info.scale * std)).to(self.device, dtype).view(-1, 1, 1)
        self._shift = (torch.tensor(info.mean, dtype=torch.float64) / std).to(self.device, dtype).view(-1, 1, 1)

    @classmethod
    def of(cls, specs: Sequence[membership.DataSpec], *, device: str | torch.device = "cpu", dtype: torch.dtype = torch.float32) -> "Splits":
        """The splits of one replica a spec, all of one dataset. Raises: BadInput, DataError."""
        info, data = get(specs[0].dataset), loaded(specs[0].dataset)
        rows = [membership.indices(s, data.n_train, len(data) - data.n_train) for s in specs]
        index = {name: torch.stack([torch.from_numpy(r[name]) for r in rows]) for name in rows[0]}
        return cls(info, data, index, device=device, dtype=dtype)

    def restricted(self, reads: frozenset[str]) -> "Splits":
        """The same data with only the splits in `reads` readable: what a method is handed. The images are shared, not copied."""
        made = copy.copy(self)
        made._readable = reads
        return made

    def index(self, split: str) -> Int[Tensor, "r n"]:
        """Dataset indices of a split. `train` is retain and forget together.

        Raises: DataError for a split that does not exist here or that this method did not declare to read.
        """
        parts = ("retain", "forget") if split == "train" else (split,)
        for part in parts:
            if self._readable is not None and part not in self._readable:
                raise DataError(f"split '{part}' is not declared in this method's `reads` ({', '.join(sorted(self._readable))})")
            if part not in self._index:
                raise DataError(f"no split '{part}' here; there are: {', '.join(self._index)}")
        return torch.cat([self._index[part] for part in parts], 1)

    def size(self, split: str) -> int:
        return self.index(split).shape[1]

    def labels(self, split: str) -> Int[Tensor, "r n"]:
        return self._labels[self.index(split)]

    # ---- batches

    def batches(self, split: str, batch: int, rng: Rng, *, augment: bool = False) -> Iterator[Batch]:
        """One shuffled walk over a split; the last batch may be smaller."""
        yield from self._walk(self._shuffled(self.index(split), rng), batch, rng if augment else None)

    def paired(self, long: str, short: str, batch: int, rng: Rng) -> Iterator[tuple[Batch, Batch]]:
        """One shuffled walk over `long`, each batch with the next of `short`, which is reshuffled whenever it runs out."""
        other: Iterator[Batch] = iter(())
        for first in self.batches(long, batch, rng):
            second = next(other, None)
            if second is None:
                other = self.batches(short, batch, rng)
                second = next(other)
            yield first, second

    def mixed(self, first: str, second: str, batch: int, rng: Rng) -> Iterator[tuple[*Batch, Bool[Tensor, "r b"]]]:
        """One walk over two splits shuffled together; the third tensor marks examples of `first`."""
        index = torch.cat([self.index(first), self.index(second)], 1)
        order = rng.permutations(index.shape[1]).to(self.device)
        marked = order < self.size(first)
        walk = self._walk(index.gather(1, order), batch, None)
        for (x, y), of_first in zip(walk, marked.split(batch, 1), strict=True):
            yield x, y, of_first

    def ordered(self, split: str, batch: int) -> Iterator[Batch]:
        """One walk in index order, for evaluation. Where all replicas have the same examples x has a leading axis of 1."""
        index = self.index(split)
        shared = bool((index == index[:1]).all())
        for part in index.split(batch, 1):
            yield self._gather(part[:1] if shared else part), self._labels[part]

    def examples(self, split: str, at: Int[Tensor, " b"]) -> Batch:
        """Those at these positions of a split, of each replica, for evaluation."""
        index = self.index(split)[:, at]
        return self._gather(index), self._labels[index]

    def _shuffled(self, index: Int[Tensor, "r n"], rng: Rng) -> Int[Tensor, "r n"]:
        return index.gather(1, rng.permutations(index.shape[1]).to(self.device))

    def _walk(self, index: Int[Tensor, "r n"], batch: int, rng: Rng | None) -> Iterator[Batch]:
        if index.shape[1] == 0:
            raise DataError("an empty split has no batches")
        chance = None if rng is None else self._draw_augmentation(index.shape[1], rng)
        for start in range(0, index.shape[1], batch):
            part = index[:, start : start + batch]
            drawn = None if chance is None else chance[:, start : start + batch]
            yield self._gather(part, drawn), self._labels[part]

    def _gather(self, index: Int[Tensor, "r b"], chance: Int[Tensor, "r b 3"] | None = None) -> Float[Tensor, "r b c h w"]:
        images = self._images[index.flatten()]
        if chance is not None:
            images = _augmented(images, chance.flatten(0, 1), self.info.crop)
        x = images.to(self.dtype)
        if x.shape[1] != self.info.channels:
            x = x.expand(-1, self.info.channels, -1, -1)
        return (x * self._gain - self._shift).view(*index.shape, *x.shape[1:])

    def _draw_augmentation(self, n: int, rng: Rng) -> Int[Tensor, "r n 3"] | None:
        """(down, right, flip) for each example of an epoch; None where this dataset has no augmentation."""
        if not self.info.flip and not self.info.crop:
            return None
        shifts = rng.integers(2 * self.info.crop + 1, n, 2)
        flips = rng.integers(2, n, 1) if self.info.flip else torch.zeros(len(shifts), n, 1, dtype=torch.int64)
        return torch.cat([shifts, flips], 2).to(self.device)


def _augmented(images: Tensor, chance: Int[Tensor, "n 3"], crop: int) -> Tensor:
    """Random crop after zero padding, then horizontal flip, each image by its own draw."""
    side = images.shape[-1]
    flip = chance[:, 2].bool()
    if crop == 0:
        return torch.where(flip.view(-1, 1, 1, 1), images.flip(-1), images)
    padded = F.pad(images, (crop,) * 4)
    steps = torch.arange(side, device=images.device)
    rows = chance[:, :1] + steps
    columns = chance[:, 1:2] + torch.where(flip.unsqueeze(1), steps.flip(0), steps)
    n = torch.arange(len(images), device=images.device).view(-1, 1, 1)
    return padded.permute(0, 2, 3, 1)[n, rows.unsqueeze(2), columns.unsqueeze(1)].permute(0, 3, 1, 2)
