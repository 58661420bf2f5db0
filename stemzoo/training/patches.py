"""Random patches with targets, cut from HDF5 datasets on reading: datasets to batches. Owns the target's shape; called by Lightning.

One clean file yields endless patches: the window, the symmetry, dose and noise of patch i of epoch e hang on (seed, e, i)
alone, whatever the number of workers, so a run can be repeated and resumed. Train and validation are split by frame.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import lightning as L
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Sampler
from torch.utils.data import Dataset as TorchDataset
from torchvision import tv_tensors

from stemzoo.errors import DatasetError
from stemzoo.io.datasets import Dataset
from stemzoo.training.augment import RecordAnew, views
from stemzoo.training.config import Augmentation, SegmenterConfig

_BORDER_PX = 4


class PatchBatch(NamedTuple):
    """Patches for the segmenter.

    image: (B, 1, h, w) float32, detector units. target: (B, C, h, w) float32 in [0, 1], a Gaussian of height 1 around each column.
    pixel_size: (B,) float32, Å/px.
    """

    image: Tensor
    target: Tensor
    pixel_size: Tensor


def heat(yx: np.ndarray, species: np.ndarray, n_classes: int, shape: tuple[int, int], sigma_px: float) -> np.ndarray:
    """Return (C, h, w) float32: around each column a Gaussian of height 1 and width `sigma_px`, the highest where several meet.

    Args:
        yx: (n, 2) px; columns outside the patch still reach into it.
    """
    reach = int(np.ceil(4 * sigma_px))
    target = np.zeros((n_classes, shape[0] + 2 * reach, shape[1] + 2 * reach), dtype=np.float32)
    base = np.round(yx).astype(np.int64)
    near = ((base >= -reach // 2) & (base < np.array(shape) + reach // 2)).all(axis=1)
    yx, species, base = yx[near], species[near], base[near]
    offset = np.arange(-reach // 2, reach // 2 + 1)
    profile = np.exp(-((base[:, :, None] + offset - yx[:, :, None]) ** 2) / (2 * sigma_px**2)).astype(np.float32)
    rows, cols = base[:, 0, None] + offset + reach, base[:, 1, None] + offset + reach
    np.maximum.at(target, (species[:, None, None], rows[:, :, None], cols[:, None, :]), profile[:, 0, :, None] * profile[:, 1, None, :])
    return np.ascontiguousarray(target[:, reach : reach + shape[0], reach : reach + shape[1]])


class FramePool:
    """The frames of several datasets, numbered through, with their species mapped on to one list of classes."""

    def __init__(self, paths: tuple[str, ...], classes: tuple[str, ...] | None) -> None:
        if not paths:
            raise DatasetError("no dataset given; wanted one or more HDF5 files made by `stemzoo data simulate`")
        self.datasets = [Dataset(path) for path in paths]
        found = tuple(dict.fromkeys(name for dataset in self.datasets for name in dataset.classes))
        self.classes = classes or found
        merged = len(self.classes) == 1
        unknown = () if merged else tuple(name for name in found if name not in self.classes)
        if unknown:
            raise DatasetError(
                f"the datasets hold the classes {', '.join(found)}, of which {', '.join(unknown)} are not among {', '.join(self.classes)}"
            )
        self._maps = [np.array([0 if merged else self.classes.index(name) for name in d.classes], dtype=np.int64) for d in self.datasets]
        self._index = [(number, frame) for number, dataset in enumerate(self.datasets) for frame in range(len(dataset))]
        self.pixel_sizes = np.array([self.datasets[d].attributes(f)["pixel_size"] for d, f in self._index])

    def __len__(self) -> int:
        return len(self._index)

    def shape(self, index: int) -> tuple[int, int]:
        """(H, W) of a frame."""
        number, frame = self._index[index]
        return self.datasets[number].shape(frame)

    def columns(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """(N, 2) yx px and (N,) class of a frame."""
        number, frame = self._index[index]
        yx, species = self.datasets[number].columns(frame)
        return yx, self._maps[number][species]

    def window(self, index: int, corner: tuple[int, int], size_px: int) -> tuple[np.ndarray, bool]:
        """(h, w) float32 and whether it holds expected electrons rather than a recorded image."""
        number, frame = self._index[index]
        dataset = self.datasets[number]
        simulated = dataset.has_expected(frame)
        return dataset.window(frame, corner, (size_px, size_px), "expected" if simulated else "image"), simulated


class Patches(TorchDataset[PatchBatch]):
    """Patches drawn from some frames of a pool; index = epoch · length + i."""

    def __init__(self, pool: FramePool, frames: np.ndarray, config: SegmenterConfig, length: int, *, training: bool) -> None:
        self.pool, self.frames, self.config, self.length, self.training = pool, frames, config, length, training
        size = config.patch_px + 2 * _BORDER_PX
        small = [i for i in frames if min(pool.shape(int(i))) < size]
        if small:
            raise DatasetError(
                f"frame {small[0]} is {pool.shape(int(small[0]))} px; patches of {config.patch_px} px want frames of at least {size} px"
            )

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> PatchBatch:
        config = self.config
        rng = np.random.default_rng([config.seed, int(self.training), index])
        frame = int(rng.choice(self.frames))
        height, width = self.pool.shape(frame)
        corner = np.array([rng.integers(_BORDER_PX, side - config.patch_px - _BORDER_PX + 1) for side in (height, width)])
        patch, simulated = self.pool.window(frame, (int(corner[0]), int(corner[1])), config.patch_px)
        pixel_size = float(self.pool.pixel_sizes[frame])
        yx, species = self.pool.columns(frame)
        target = heat(yx - corner, species, len(self.pool.classes), patch.shape, config.heat_sigma / pixel_size)
        image, mask = tv_tensors.Image(torch.from_numpy(patch)[None]), tv_tensors.Mask(torch.from_numpy(target))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(int(rng.integers(2**62)))
            if self.training:
                image, mask = views(config.augmentation, pixel_size, simulated)(image, mask)
            elif simulated:
                image = RecordAnew(Augmentation(dose_factor=(1, 1), hot_fraction=(0, 0), readout=(0, 0)), pixel_size)(image)
        return PatchBatch(image.as_subclass(Tensor), mask.as_subclass(Tensor), torch.tensor(pixel_size, dtype=torch.float32))


class EpochSampler(Sampler[int]):
    """Yields epoch · length + i, so that patches differ from epoch to epoch and a resumed run sees what it would have seen.

    Under several processes each takes every world-th patch. Lightning calls `set_epoch`.
    """

    def __init__(self, length: int, rank: int = 0, world: int = 1) -> None:
        self.length, self.rank, self.world, self.epoch = length, rank, world, 0

    def set_epoch(self, epoch: int) -> None:
        """Begin epoch `epoch`."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.length // self.world

    def __iter__(self) -> Iterator[int]:
        start = self.epoch * self.length
        return iter(range(start + self.rank, start + len(self) * self.world, self.world))


class PatchData(L.LightningDataModule):
    """Patches for the segmenter, from HDF5 datasets.

    Raises: DatasetError if the datasets are unreadable, disagree in classes, hold fewer than two frames or frames smaller than a patch.
    """

    def __init__(self, config: SegmenterConfig) -> None:
        super().__init__()
        self.config = config
        self.pool = FramePool(config.datasets, config.classes)
        if len(self.pool) < 2:
            raise DatasetError(f"{config.datasets[0]}: one frame; training wants at least two, to validate on a frame it has not seen")
        order = np.random.default_rng([config.seed, 2]).permutation(len(self.pool))
        held_back = max(1, round(config.validation_fraction * len(order)))
        self.validation_frames, self.training_frames = np.sort(order[:held_back]), np.sort(order[held_back:])
        self.training_set = Patches(self.pool, self.training_frames, config, config.batch * config.steps_per_epoch, training=True)
        self.validation_set = Patches(self.pool, self.validation_frames, config, config.validation_patches, training=False)

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes, in the order of the target's channels."""
        return self.pool.classes

    def train_dataloader(self) -> DataLoader[PatchBatch]:
        """A new selection of patches every epoch."""
        world = self.trainer.world_size if self.trainer is not None else 1
        rank = self.trainer.global_rank if self.trainer is not None else 0
        sampler = EpochSampler(len(self.training_set), rank, world)
        workers = self.config.workers
        return DataLoader(
            self.training_set,
            batch_size=max(1, self.config.batch // world),
            sampler=sampler,
            num_workers=workers,
            persistent_workers=workers > 0,
            prefetch_factor=4 if workers else None,
            drop_last=True,
        )

    def val_dataloader(self) -> DataLoader[PatchBatch]:
        """The same patches every epoch."""
        return DataLoader(self.validation_set, batch_size=self.config.batch, num_workers=0)
