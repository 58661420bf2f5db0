"""Sub-images for training an encoder: from memory, or cut from the frames of HDF5 datasets as they stream by. Owns batching.

A batch is a slice of one tensor, so feeding costs next to nothing beside the step; what does not fit `memory_mb` is read chunk by chunk.
Called by training.encoding.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import lightning as L
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset

from stemzoo.errors import DatasetError, FrameError
from stemzoo.io.datasets import Dataset
from stemzoo.training.encoding_config import EncoderConfig
from stemzoo.training.parts import Cut, Part, Rows, chunks, load, split
from stemzoo.training.pool import materials_of
from stemzoo.training.saving import batches_done
from stemzoo.training.together import rank_and_world
from stemzoo.types import SubImages

MIN_SUBIMAGES = 64  # fewer cannot tell a pattern of a thousand pixels from its noise, nor fill a few batches


class SubImageBatch(NamedTuple):
    """image: (B, S, S) float32, raw intensities. number: (B,) int64, the sub-image's number within the training set."""

    image: Tensor
    number: Tensor


class SubImageData(L.LightningDataModule):
    """Train and validation batches of an encoder.

    Args:
        parts: as `from_subimages` and `from_files` make them.
        window_px: side S. pixel_size: Å/px of the sub-images, or None.
        config: batch, seed, validation_fraction, memory_mb.

    Raises: DatasetError if there are fewer than 64 sub-images; FrameError if they are constant or not finite.
    """

    def __init__(self, parts: Sequence[Part], window_px: int, pixel_size: float | None, config: EncoderConfig) -> None:
        super().__init__()
        self.window_px, self.pixel_size, self.config = window_px, pixel_size, config
        self.save_hyperparameters({"materials": list(materials_of(config.datasets))}, logger=False)
        total = sum(part.n for part in parts)
        if total < MIN_SUBIMAGES:
            raise DatasetError(
                f"{total} sub-images lie wholly inside their frames; an encoder wants {MIN_SUBIMAGES} or more: pass more frames, a smaller "
                "--window, or a finished --encoder"
            )
        self.train_parts, self.val_parts = split(parts, config)
        self.n_train = sum(part.n for part in self.train_parts)
        self.batch = min(config.batch, self.n_train // 4)
        self.batch -= self.batch % config.processes
        capacity = config.memory_mb * 2**20 // (4 * window_px**2)
        self.train_chunks, self.val_chunks = chunks(self.train_parts, capacity), chunks(self.val_parts, capacity)
        sample = load(self.train_chunks[0])
        self.mean, self.std = _moments(sample)
        if not np.isfinite(self.mean + self.std):
            bad = int((~np.isfinite(sample)).any(axis=(1, 2)).sum())
            raise FrameError(
                f"{bad} of {len(sample)} sub-images hold NaN or infinite pixels; geometry.cleaning.clean mends a frame before cutting"
            )
        if self.std <= 1e-6 * max(abs(self.mean), 1e-30):
            raise FrameError(f"all {len(sample)} sub-images are constant ({self.mean:g}); there is no pattern to learn")
        low, high = np.quantile(sample[:: max(1, len(sample) // 500)], (0.001, 0.999))
        self.low, self.high = float(low), float(high)

    @classmethod
    def from_subimages(cls, subimages: SubImages, config: EncoderConfig) -> SubImageData:
        """Return the data module of sub-images in memory; those that reach over the edge of their frame are left out."""
        rows = np.flatnonzero(subimages.inside)
        parts, first = [], 0
        for frame in np.unique(subimages.frame[rows]):
            mine = rows[subimages.frame[rows] == frame]
            parts.append(Part(Rows(subimages.data, mine), len(mine), first, int(frame)))
            first += len(mine)
        return cls(parts, subimages.window_px, subimages.pixel_size, config)

    @classmethod
    def from_files(cls, config: EncoderConfig) -> SubImageData:
        """Return the data module of windows of `config.window` Å around the columns of the frames in `config.datasets`, cut when read."""
        if not config.datasets or config.window is None:
            lacking = "datasets (HDF5 files of stemzoo data)" if not config.datasets else "the extent of its sub-images: pass --window 8Å"
            raise DatasetError(f"an encoder's training wants {lacking}")
        parts, first, number = [], 0, 0
        for path in config.datasets:
            dataset = Dataset(path)
            for index in range(len(dataset)):
                size = float(dataset.attributes(index)["pixel_size"])
                yx, _ = dataset.columns(index)
                side = config.window / size
                reach = side / config.window_px * (config.window_px - 1) / 2
                yx = yx[((yx >= reach) & (yx <= np.array(dataset.shape(index)) - 1 - reach)).all(axis=1)]
                if len(yx):
                    parts.append(Part(Cut(dataset, index, yx, side, config.window_px), len(yx), first, number, dataset.scene(index)))
                first, number = first + len(yx), number + 1
        return cls(parts, config.window_px, config.window / config.window_px, config)

    @property
    def steps_per_epoch(self) -> int:
        """Optimiser steps in one epoch."""
        return sum(sum(part.n for part in chunk) // self.batch for chunk in self.train_chunks)

    def examples(self, n: int) -> np.ndarray:
        """Return (n, S, S) training sub-images, evenly drawn from the first that are loaded."""
        loaded = load(self.train_chunks[0])
        return np.asarray(loaded[np.linspace(0, len(loaded) - 1, n).astype(int)])

    def train_dataloader(self) -> DataLoader[SubImageBatch]:
        """Shuffled batches, all of the same length."""
        return DataLoader(_Batches(self.train_chunks, self.batch, self.config.seed, self._epoch, self._seen), batch_size=None)

    def val_dataloader(self) -> DataLoader[SubImageBatch] | list[None]:
        """Batches in order; none where nothing is held back."""
        if not self.val_parts:
            return []
        return DataLoader(_Batches(self.val_chunks, 4 * self.batch, self.config.seed, self._epoch), batch_size=None)

    def _epoch(self) -> int:
        """Return which epoch runs; asked when its first batch is wanted, for a resumed run knows it no earlier."""
        return 0 if self.trainer is None else int(self.trainer.current_epoch)

    def _seen(self) -> int:
        return batches_done(self.trainer)


class _Batches(IterableDataset[SubImageBatch]):
    """Batches from one chunk after the other; a single chunk stays in memory. Of each batch a process takes its rows (training.together).

    Args:
        seen: says, when an epoch's first batch is wanted, how many of its batches had been drawn before the run was broken off. With it,
            batches are shuffled and all of the same length; without, they come in order, the last one shorter.
    """

    def __init__(
        self,
        chunks: Sequence[Sequence[Part]],
        batch: int,
        seed: int,
        epoch: Callable[[], int],
        seen: Callable[[], int] | None = None,
    ) -> None:
        self.chunks, self.batch, self.seed, self.epoch, self.seen = chunks, batch, seed, epoch, seen
        self._held: Tensor | None = None

    def __iter__(self) -> Iterator[SubImageBatch]:
        generator, (rank, world) = torch.Generator().manual_seed(self.seed * 1_000_003 + self.epoch()), rank_and_world()
        order = range(len(self.chunks)) if self.seen is None else torch.randperm(len(self.chunks), generator=generator).tolist()
        lengths = [sum(part.n for part in chunk) for chunk in self.chunks]
        left_out = 0 if self.seen is None else self.seen() % max(1, sum(n // self.batch for n in lengths))  # all: that epoch has just ended
        for number in order:
            chunk, n = self.chunks[number], lengths[number]
            rows = torch.arange(n) if self.seen is None else torch.randperm(n, generator=generator)
            starts = range(0, n if self.seen is None else n - n % self.batch, self.batch)
            drawn = starts[left_out:]
            left_out -= len(starts) - len(drawn)
            if not drawn:
                continue
            data = self._held if self._held is not None else torch.from_numpy(load(chunk))
            if len(self.chunks) == 1:
                self._held = data
            index = torch.cat([torch.arange(part.first, part.first + part.n) for part in chunk])
            for start in drawn:
                chosen = rows[start : start + self.batch][rank::world]
                if len(chosen):  # validation's last batch may be too short for all
                    yield SubImageBatch(data[chosen], index[chosen])
            del data  # before the next chunk is loaded


def _moments(sample: np.ndarray) -> tuple[float, float]:
    """Return mean and standard deviation, in double precision without a copy in it."""
    mean = float(sample.mean(dtype=np.float64))
    blocks = np.array_split(sample, max(1, len(sample) // 1024))
    with np.errstate(invalid="ignore"):  # what is not finite is refused by name later
        return mean, float(np.sqrt(sum(np.square(block - mean, dtype=np.float64).sum() for block in blocks) / sample.size))
