"""What a network that is fine-tuned must not forget: frames of every material of the zoo's mixture, and whether it did.

Called by the CLI, which simulates the frames, and by `training.segmenter_run`, which compares.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from stemzoo.simulation import simulate_dataset
from stemzoo.simulation.loading import shipped
from stemzoo.training.config import SegmenterConfig
from stemzoo.training.patches import Patches, known_before
from stemzoo.training.segmentation import ColumnF1

FRAMES = 64
SIZE_PX = 256
SEED = 70_000
FORGOTTEN = 0.02
PATCHES_EACH = 4
_FINEST = 0.2


@dataclass(frozen=True)
class Memory:
    """F1 at 0.5 Å of a network and of its parent, on patches of frames of other materials that neither was fine-tuned on.

    Args:
        parent, child: F1 of both, on the same patches.
        frames: how many frames the patches are of.
    """

    parent: float
    child: float
    frames: int

    @property
    def forgot(self) -> bool:
        """Whether the child finds less than its parent by more than `FORGOTTEN`."""
        return self.child < self.parent - FORGOTTEN

    def __str__(self) -> str:
        said = f"on {self.frames} frames of the zoo's materials F1 {self.child:.3f}, its parent {self.parent:.3f}"
        if not self.forgot:
            return said
        return f"{said}: it forgot what it knew; keep it to its own material, or train with a higher replay_share or a lower learning_rate"


def simulate_known(out: Path, config: SegmenterConfig, frames: int = FRAMES) -> Path:
    """Return the dataset `out` of every material of the zoo's mixture, made unless it is there, at samplings that the run trains on."""
    low, high = max(config.sampling.min, min(_FINEST, config.sampling.max)), config.sampling.max
    settings = {"frame.size_px": max(SIZE_PX, 2 * config.patch_px), "frame.sampling": [low, max(high, low)]}
    return out if out.exists() else simulate_dataset(shipped() / "universal.toml", frames, out, SEED, settings=settings)


def compare(parent: nn.Module, child: nn.Module, config: SegmenterConfig) -> Memory:
    """Return what two networks find on the replayed frames that are kept for it; their probabilities are summed over classes."""
    pool, (_, kept) = known_before(config)
    patches = Patches(pool, kept, config, PATCHES_EACH * len(kept), training=False)
    scores = []
    for net in (parent, child):
        net = net.eval().cpu().float()
        metric = ColumnF1()
        with torch.inference_mode():
            for index in range(len(patches)):
                patch = patches[index]
                probability = torch.softmax(net(patch.image[None]), dim=1)[:, 1:].sum(dim=1, keepdim=True)
                metric.update(probability, patch.target[None], patch.pixel_size[None])
        scores.append(float(metric.compute()))
    return Memory(scores[0], scores[1], len(kept))
