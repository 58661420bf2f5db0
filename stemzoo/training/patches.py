"""Random patches with targets, cut from HDF5 datasets on reading: datasets to batches. Owns the target's shape; called by Lightning.

One clean file yields endless patches: the window, its sampling, symmetry, dose and noise hang for patch i of epoch e on (seed, e, i)
alone, whatever the number of workers, so a run can be repeated and resumed. Train and validation are split by scene.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import NamedTuple

import lightning as L
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Sampler
from torch.utils.data import Dataset as TorchDataset

from stemzoo.errors import DatasetError
from stemzoo.geometry.resample import rescale, to_rescaled
from stemzoo.training.augment import AS_STATED, recorded_anew, view
from stemzoo.training.config import SegmenterConfig
from stemzoo.training.pool import FrameFacts, FramePool, hold_back, materials_of
from stemzoo.training.saving import batches_done

_BORDER_PX = 4
KEPT_FOR_COMPARISON = 0.25
"""Share of the replayed frames that is not trained on: a network is held against its parent on them."""


class PatchBatch(NamedTuple):
    """Patches for the segmenter.

    image: (B, 1, h, w) float32, detector units. target: (B, C, h, w) float32 in [0, 1], a Gaussian of height 1 around each column.
    pixel_size: (B,) float32, Å/px. replayed: (B,) bool, of what the network knew before: columns of whichever class, in channel 0.
    """

    image: Tensor
    target: Tensor
    pixel_size: Tensor
    replayed: Tensor


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


class Patches(TorchDataset[PatchBatch]):
    """Patches drawn from some frames of a pool; index = epoch · length + i.

    A patch is cut at the sampling of its frame or, in training, at another within the trained range, and resampled to `patch_px`: of a
    simulated frame it is the expectation that is resampled, so that what is recorded from it is what the microscope would have recorded
    at that sampling. A frame from outside the trained range is brought to its nearer end, as inference would.
    """

    def __init__(self, pool: FramePool, frames: np.ndarray, config: SegmenterConfig, length: int, *, training: bool) -> None:
        self.pool, self.frames, self.config, self.length, self.training = pool, frames, config, length, training
        for i in frames:
            facts = pool.facts[int(i)]
            wanted = self._native_px(facts.pixel_size) + 2 * _BORDER_PX
            if min(facts.shape) < wanted:
                raise DatasetError(
                    f"frame {i} is {facts.shape[0]}×{facts.shape[1]} px of {facts.pixel_size:.3g} Å; patches of {config.patch_px} px at "
                    f"{config.sampling.min:g} to {config.sampling.max:g} Å/px want frames of at least {wanted} px: lower patch_px"
                )

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> PatchBatch:
        config = self.config
        rng = np.random.default_rng([config.seed, int(self.training), index])
        frame = int(rng.choice(self.frames))
        facts = self.pool.facts[frame]
        side = self._side_px(facts, rng)
        corner = np.array([rng.integers(_BORDER_PX, length - side - _BORDER_PX + 1) for length in facts.shape])
        patch = self.pool.window(frame, (int(corner[0]), int(corner[1])), side)
        yx, species = self.pool.columns(frame)
        patch, factors = rescale(patch, config.patch_px / side)
        pixel_size = facts.pixel_size / factors[0]
        target = heat(to_rescaled(yx - corner, factors), species, len(self.pool.classes), patch.shape, config.heat_sigma / pixel_size)
        recording = facts.recording
        if recording is not None:
            patch /= factors[0] ** 2  # electrons per pixel: larger pixels catch more
            recording = replace(
                recording, row_jitter_px=recording.row_jitter_px * factors[0], smoothing_px=recording.smoothing_px * factors[0]
            )
        if self.training:
            patch, target = view(patch, target, config.augmentation, pixel_size, recording, rng)
        elif recording is not None:
            patch = recorded_anew(patch, AS_STATED, pixel_size, recording, rng)
        size, known = torch.tensor(pixel_size, dtype=torch.float32), torch.tensor(False)
        return PatchBatch(torch.from_numpy(patch)[None], torch.from_numpy(target), size, known)

    def _native_px(self, pixel_size: float) -> int:
        """Side of the window in the frame [px] that is cut where the sampling is left as near as it can be to the frame's own."""
        trained = self.config.sampling
        return round(self.config.patch_px * min(max(pixel_size, trained.min), trained.max) / pixel_size)

    def _side_px(self, facts: FrameFacts, rng: np.random.Generator) -> int:
        """Side of the window in the frame [px] that becomes a patch; in training drawn anew from the samplings that may be reached."""
        native, zoom = self._native_px(facts.pixel_size), self.config.augmentation.zoom
        if not self.training or rng.random() >= self.config.augmentation.zoom_probability:
            return native
        trained, size = self.config.sampling, self.config.patch_px
        low = max(trained.min / facts.pixel_size, zoom[0])
        high = min(trained.max / facts.pixel_size, zoom[1], (min(facts.shape) - 2 * _BORDER_PX) / size)
        return round(size * math.exp(rng.uniform(math.log(low), math.log(high)))) if low < high else native


class Replayed(TorchDataset[PatchBatch]):
    """A run's own patches, a share of them exchanged for patches of what the network knew before, whatever their classes are called.

    Which are exchanged hangs on (seed, index) alone, as the patches do.
    """

    def __init__(self, own: Patches, config: SegmenterConfig) -> None:
        self.own, self.config = own, config
        pool, frames = known_before(config)
        self.known = Patches(pool, frames[0], config, len(own), training=True)

    def __len__(self) -> int:
        return len(self.own)

    def __getitem__(self, index: int) -> PatchBatch:
        if np.random.default_rng([self.config.seed, 3, index]).random() >= self.config.replay_share:
            return self.own[index]
        patch = self.known[index]
        others = torch.zeros(len(self.own.pool.classes) - 1, *patch.target.shape[1:])
        return patch._replace(target=torch.cat([patch.target, others]), replayed=torch.tensor(True))


def known_before(config: SegmenterConfig) -> tuple[FramePool, tuple[np.ndarray, np.ndarray]]:
    """Return the frames that are replayed, as of one class, and the numbers of those to train on and of those kept for a comparison."""
    pool = FramePool(config.replay, ("column",))
    return pool, hold_back([facts.scene for facts in pool.facts], KEPT_FOR_COMPARISON, np.random.default_rng([config.seed, 4]))


class EpochSampler(Sampler[int]):
    """Yields epoch · length + i, so that patches differ from epoch to epoch and a resumed run sees what it would have seen.

    Under several processes each takes every world-th patch. Lightning calls `set_epoch`.

    Args: seen: says, when an epoch's first patch is wanted, how many of its patches this process had drawn before the run was broken off.
    """

    def __init__(self, length: int, rank: int = 0, world: int = 1, epoch: int = 0, seen: Callable[[], int] = lambda: 0) -> None:
        self.length, self.rank, self.world, self.epoch, self.seen = length, rank, world, epoch, seen

    def set_epoch(self, epoch: int) -> None:
        """Begin epoch `epoch`."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.length // self.world

    def __iter__(self) -> Iterator[int]:
        start = self.epoch * self.length
        drawn = self.seen() % len(self)  # all of them where the epoch before has just ended
        return iter(range(start + self.rank + drawn * self.world, start + len(self) * self.world, self.world))


class PatchData(L.LightningDataModule):
    """Patches for the segmenter, from HDF5 datasets.

    Raises: DatasetError if the datasets are unreadable, disagree in classes, hold fewer than two frames or frames smaller than a patch.
    """

    def __init__(self, config: SegmenterConfig) -> None:
        super().__init__()
        self.config = config
        self.pool = FramePool(config.datasets, config.classes)
        self.save_hyperparameters({"materials": list(materials_of(config.datasets))}, logger=False)
        if len(self.pool) < 2:
            raise DatasetError(f"{config.datasets[0]}: one frame; training wants at least two, to validate on a frame it has not seen")
        rng = np.random.default_rng([config.seed, 2])
        scenes = [facts.scene for facts in self.pool.facts]
        self.training_frames, self.validation_frames = hold_back(scenes, config.validation_fraction, rng)
        own = Patches(self.pool, self.training_frames, config, config.batch * config.steps_per_epoch, training=True)
        self.training_set: Patches | Replayed = Replayed(own, config) if config.replay else own
        self.validation_set = Patches(self.pool, self.validation_frames, config, config.validation_patches, training=False)

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes, in the order of the target's channels."""
        return self.pool.classes

    def train_dataloader(self) -> DataLoader[PatchBatch]:
        """A new selection of patches every epoch."""
        rank, world = self._process()
        parts = world * self.config.accumulate
        if self.config.batch % parts:
            raise DatasetError(
                f"a batch of {self.config.batch} patches cannot be shared by {world} processes in {self.config.accumulate} parts each; "
                f"pass a --batch that is a multiple of {parts}"
            )
        # A loader's processes ask for the first patches at once, before Lightning says which epoch a resumed run goes on with.
        epoch = 0 if self.trainer is None else self.trainer.current_epoch
        size = self.config.batch // parts
        sampler = EpochSampler(len(self.training_set), rank, world, epoch, lambda: size * batches_done(self.trainer))
        workers = self.config.workers
        return DataLoader(
            self.training_set,
            batch_size=size,
            sampler=sampler,
            num_workers=workers,
            persistent_workers=workers > 0,
            prefetch_factor=4 if workers else None,
            drop_last=True,
        )

    def val_dataloader(self) -> DataLoader[PatchBatch]:
        """The same patches every epoch, each validated by one process."""
        rank, world = self._process()
        mine = range(rank, len(self.validation_set), world)
        return DataLoader(self.validation_set, batch_size=max(1, self.config.batch // world), sampler=mine, num_workers=0)

    def _process(self) -> tuple[int, int]:
        """Return the number of this process among how many."""
        return (0, 1) if self.trainer is None else (self.trainer.global_rank, self.trainer.world_size)
