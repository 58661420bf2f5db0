"""The segmenter's LightningModule: loss, metrics, optimiser. Called by `training.segmenter_run`."""

from __future__ import annotations

from typing import Any

import lightning as L
import torch
import torch.nn.functional as F
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor
from torchmetrics import MeanMetric, Metric
from torchmetrics.classification import BinaryJaccardIndex

from stemzoo.geometry.matching import match
from stemzoo.geometry.peaks import find_peaks
from stemzoo.nets.unet import SegmenterGraph, UNet
from stemzoo.training.config import SegmenterConfig
from stemzoo.training.patches import PatchBatch
from stemzoo.training.sharednorm import share_norms

THRESHOLD = 0.5
MIN_SEPARATION = 0.9
TOLERANCE = 0.5


def unet(config: SegmenterConfig, n_classes: int) -> UNet:
    """Return a network of the configured shape."""
    return UNet(n_classes, config.widths, config.fold, config.depths, config.separable)


def soft_cross_entropy(logits: Tensor, target: Tensor) -> Tensor:
    """Cross-entropy against soft labels, mean over pixels.

    Args:
        logits: (B, 1 + C, h, w), background first.
        target: (B, C, h, w) in [0, 1], the background left out.
    """
    background = (1 - target.sum(dim=1, keepdim=True)).clamp_min(0)
    labels = torch.cat([background, target], dim=1)
    labels = labels / labels.sum(dim=1, keepdim=True)
    return -(labels * F.log_softmax(logits, dim=1)).sum(dim=1).mean()


def patch_loss(logits: Tensor, batch: PatchBatch) -> Tensor:
    """Cross-entropy of a batch, mean over pixels; of replayed patches that of a column of whichever class, since theirs are others."""
    again = batch.replayed
    if logits.shape[1] == 2 or not again.any():
        return soft_cross_entropy(logits, batch.target)
    merged = torch.cat([logits[again, :1], torch.logsumexp(logits[again, 1:], dim=1, keepdim=True)], dim=1)
    known = soft_cross_entropy(merged, batch.target[again].sum(dim=1, keepdim=True))
    share = float(again.float().mean())
    return share * known + (1 - share) * soft_cross_entropy(logits[~again], batch.target[~again]) if share < 1 else known


class ColumnF1(Metric):
    """F1 of columns found against columns placed, one to one within `TOLERANCE`; states add up over processes."""

    full_state_update = False
    hits: Tensor
    found: Tensor
    placed: Tensor

    def __init__(self) -> None:
        super().__init__()
        for name in ("hits", "found", "placed"):
            self.add_state(name, torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")

    def update(self, probability: Tensor, target: Tensor, pixel_size: Tensor) -> None:
        """Count one batch; columns near the patch's border are left out on both sides."""
        for prob, truth, size in zip(probability.cpu().float().numpy(), target.cpu().numpy(), pixel_size.tolist(), strict=True):
            margin = 0.8 / size
            inner = [
                peaks.yx[((peaks.yx > margin) & (peaks.yx < prob.shape[1] - 1 - margin)).all(axis=1)]
                for peaks in (find_peaks(array, THRESHOLD, MIN_SEPARATION / size) for array in (prob, truth))
            ]
            self.hits += len(match(inner[0], inner[1], TOLERANCE / size).found)
            self.found += len(inner[0])
            self.placed += len(inner[1])

    def compute(self) -> Tensor:
        """F1 in [0, 1]."""
        return 2 * self.hits / (self.found + self.placed).clamp_min(1)


class SegmenterTask(L.LightningModule):
    """Trains a UNet on patches.

    Args:
        config: a SegmenterConfig, or its dict as a checkpoint holds it.
        classes: names of the classes, in the order of the target's channels.
    """

    def __init__(self, config: SegmenterConfig | dict[str, Any], classes: tuple[str, ...]) -> None:
        super().__init__()
        self.config = config if isinstance(config, SegmenterConfig) else SegmenterConfig.model_validate(config)
        self.save_hyperparameters({"task": "segmentation", "config": self.config.model_dump(mode="json"), "classes": list(classes)})
        self.classes = tuple(classes)
        # Channels last: several times faster on CPUs, where bfloat16 in the default layout falls back to a slow path.
        net = unet(self.config, len(classes))
        self.net = net.to(memory_format=torch.channels_last)
        self.loss = MeanMetric()
        self.iou = BinaryJaccardIndex(threshold=THRESHOLD)
        self.f1 = ColumnF1()

    def setup(self, stage: str) -> None:
        """Normalise over the batches of all processes, so that several train as one would."""
        if self.trainer.world_size > 1:
            share_norms(self.net)

    def forward(self, image: Tensor) -> Tensor:
        """Probabilities (B, C, h, w) of a column at each pixel of (B, 1, h, w), the background left out, as the exported graph's."""
        probability: Tensor = SegmenterGraph(self.net)(image)
        return probability

    def training_step(self, batch: PatchBatch, index: int) -> Tensor:
        """Loss of one batch."""
        loss = patch_loss(self.net(batch.image), batch)
        self.log("train_loss", loss, prog_bar=True, sync_dist=self.trainer.world_size > 1)
        return loss

    def validation_step(self, batch: PatchBatch, index: int) -> None:
        """Loss, IoU of the masks and F1 of the columns."""
        logits = self.net(batch.image).float()
        self.loss.update(soft_cross_entropy(logits, batch.target), weight=len(batch.image))
        probability = torch.softmax(logits, dim=1)[:, 1:]
        self.iou.update(probability.sum(dim=1), (batch.target.amax(dim=1) > THRESHOLD).int())
        self.f1.update(probability, batch.target, batch.pixel_size)
        self.log_dict({"val_loss": self.loss, "val_iou": self.iou, "val_f1": self.f1}, prog_bar=True, on_step=False, on_epoch=True)

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """AdamW under one cycle of the learning rate."""
        optimiser = torch.optim.AdamW(self.net.parameters(), lr=self.config.learning_rate, weight_decay=self.config.weight_decay)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, self.config.learning_rate, total_steps=self.config.steps, pct_start=0.15)
        return {"optimizer": optimiser, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}
