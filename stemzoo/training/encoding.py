"""The encoder's LightningModule: loss, metrics and optimiser of either form, and what a checkpoint of it is exported as.

Called by training.encoder_run and training.fitting.
"""

from __future__ import annotations

import math
from typing import Any

import lightning as L
import torch
from torch import Tensor, nn

from stemzoo.nets.graphs import DecoderGraph, EncoderGraph
from stemzoo.nets.looking import look
from stemzoo.nets.polar import PolarRVAE
from stemzoo.nets.posterior import Posterior, Table
from stemzoo.nets.recut import recut
from stemzoo.nets.rvae import RVAE, capacity_loss
from stemzoo.training.disorder import TURNS, Jackknife, deviance
from stemzoo.training.encoding_config import EncoderConfig
from stemzoo.training.readings import Readings
from stemzoo.training.subimages import SubImageBatch, SubImageData
from stemzoo.training.together import noise_like, own_of_first, rank_and_world, rows_of_all, total

OFFSET_FROM = 0.35  # share of the training after which sub-images are cut anew around their column
DISORDER_FROM = 0.5  # share after which the angle's error is calibrated, on a few sub-images of each batch
DISORDER_SAMPLE = 32
GRADIENT_CLIP = 50.0  # norm of a step's gradient; single sub-images with a hot pixel would otherwise throw the training off
EXAMPLES = 33  # sub-images kept in the checkpoint, to prove an exported graph on intensities that the encoder knows
NEIGHBOURHOOD = 0.25  # latent distance within which patterns share a centre
GAUGE = {
    "polar": "the reference is the column's own pattern, turned so that its n-th circular harmonic has phase 0 (n: its symmetry); where "
    "near and far neighbours cancel in it, weighted by a power of the radius",
    "published": "the reference is the decoder's pattern at angle 0",
}


class EncoderTask(L.LightningModule):
    """Trains an rVAE of either form.

    Args:
        config: an EncoderConfig, or its dict as a checkpoint holds it.
        window_px: side of the sub-images. pixel_size: theirs [Å/px], or None.
        n_train: how many sub-images there are to train on; each keeps its own offset. total_steps: optimiser steps to come.
    """

    def __init__(
        self, config: EncoderConfig | dict[str, Any], window_px: int, pixel_size: float | None, n_train: int, total_steps: int
    ) -> None:
        super().__init__()
        self.config = config if isinstance(config, EncoderConfig) else EncoderConfig.model_validate(config)
        self.save_hyperparameters(
            {
                "task": "encoding", "config": self.config.model_dump(mode="json"), "window_px": window_px, "pixel_size": pixel_size,
                "n_train": n_train, "total_steps": total_steps,
            }
        )  # fmt: skip
        self.window_px, self.pixel_size, self.total_steps = window_px, pixel_size, total_steps
        self.net = build(self.config, window_px)
        self.register_buffer("steps", torch.zeros(n_train, 2, dtype=torch.int8))
        self.register_buffer("examples", torch.zeros(EXAMPLES, window_px, window_px))
        self.jackknife: Jackknife | None = None
        self._ddp_params_and_buffers_to_ignore = [name for name, _ in self.named_buffers()]  # alike everywhere, and large
        self.readings: list[Readings] | None = None
        self._epoch: dict[str, list[Tensor]] = {}

    steps: Tensor
    examples: Tensor

    @classmethod
    def for_data(cls, config: EncoderConfig, data: SubImageData) -> EncoderTask:
        """Return the task whose normalisation, memory and schedule fit the data."""
        task = cls(config, data.window_px, data.pixel_size, data.n_train, epochs_for(config, data) * data.steps_per_epoch)
        bce = config.form == "published" and config.likelihood == "bce"
        task.net.mean.fill_(data.low if bce else data.mean)
        task.net.std.fill_(data.high - data.low if bce else data.std)
        task.examples.copy_(torch.from_numpy(data.examples(EXAMPLES)))
        return task

    def training_step(self, batch: SubImageBatch, index: int) -> Tensor:
        """Loss of one batch; the parts of the bound are averaged over the epoch."""
        net = self.net
        loss, parts = self._polar(net, batch) if isinstance(net, PolarRVAE) else self._published(net, batch)
        for name, value in parts.items():
            self._epoch.setdefault(name, []).append(value.detach())
        return loss

    def on_train_epoch_end(self) -> None:
        """Log the epoch's means."""
        for name, values in self._epoch.items():
            of_steps = total(torch.stack(values)) / rank_and_world()[1]
            self.log(f"train_{name}", (of_steps.sqrt() if name == "off_centre_px" else of_steps).mean())
        self._epoch = {}

    def validation_step(self, batch: SubImageBatch, index: int) -> None:
        """Negative bound of sub-images that were held back, at their best offset."""
        net = self.net
        if isinstance(net, PolarRVAE):
            images = net.normalise(batch.image)
            seen = look(net, images, net.fixed())
            mean, log_sigma, log_likelihood = seen.latents, seen.log_sigma, seen.table.log_likelihood
            constant = net.constant(net.energy(recut(images, seen.step), seen.coefficients))
            evidence = constant + torch.logsumexp(log_likelihood, 1) - math.log(net.n_angles)
            loss = (gaussian_divergence(mean, log_sigma) - evidence).mean()
        else:
            loss = torch.stack(net.bound(net.normalise(batch.image), batch.image.new_zeros(len(batch.image), net.n_code))).sum(0).mean()
        self.log("val_loss", loss, on_epoch=True, batch_size=len(batch.image), prog_bar=True, sync_dist=self.trainer.world_size > 1)

    def _polar(self, net: PolarRVAE, batch: SubImageBatch) -> tuple[Tensor, dict[str, Tensor]]:
        done = self.global_step / max(1, self.total_steps)
        if self.readings is None:
            self.readings = [Readings(net, len(self.steps), self.config.memory_mb / 2) for _ in ("as cut", "cut anew")]
        step = self.steps[batch.number]
        seen = self.readings[0].read(batch.image, batch.number)
        fixed = net.fixed()
        mean, log_sigma = net.encode(*net.compared(seen.coefficients), fixed.templates)
        latents = mean + log_sigma.exp() * noise_like(mean)
        if done >= OFFSET_FROM:
            seen = self.readings[1].read(batch.image, batch.number, step)
        posterior = net.posterior(seen.coefficients, net.decode(latents, fixed), step.to(mean.dtype))
        table = net.tabulate(posterior)
        constant = net.constant(seen.energy)
        evidence = (constant + torch.logsumexp(table.log_likelihood, 1) - math.log(net.n_angles)).mean()
        divergence = gaussian_divergence(mean, log_sigma).mean()
        angle, offset = net.coarse(table)
        whole = step + offset
        centring = off_centre(whole, angle, mean.detach())
        loss = divergence - evidence + 0.5 * self.config.centring * centring
        if done >= OFFSET_FROM:
            self.steps[rows_of_all(batch.number)] = rows_of_all(whole.detach().round().clamp(-1, 1).to(torch.int8))
        slots = (8 * self.global_step + torch.arange(8)) % len(net.landmarks)
        net.landmarks[slots] = rows_of_all(mean.detach())[:8]
        parts = {"loss": divergence - evidence, "divergence": divergence, "evidence": evidence, "off_centre_px": centring}
        if done >= DISORDER_FROM:
            some = slice(0, own_of_first(DISORDER_SAMPLE))
            with torch.no_grad():
                few = Posterior(*(tensor[some] for tensor in posterior))
                angle = net.peak(few, Table(*(tensor[some] for tensor in table)), newton_steps=1).angle
                if self.jackknife is None:
                    self.jackknife = Jackknife(net)
                ratios = self.jackknife.ratios(net, seen.coefficients[some], few, angle, first_turn=7 * self.global_step % TURNS)
            loss = loss + deviance(net.log_inflation(mean[some].detach()), ratios)
        return loss, parts

    def _published(self, net: RVAE, batch: SubImageBatch) -> tuple[Tensor, dict[str, Tensor]]:
        noise = noise_like(batch.image.new_empty(len(batch.image), net.n_code))
        misfit, place, content = net.bound(net.normalise(batch.image), noise)
        loss = misfit.mean() + place.mean() + content.mean()
        if self.config.capacity is not None:
            gamma, first, last = self.config.capacity
            capacity = first + (last - first) * min(1.0, self.global_step / max(1, self.total_steps))
            loss = misfit.mean() + place.mean() + capacity_loss(rows_of_all(content), capacity, gamma)
        return loss, {"loss": loss, "misfit": misfit.mean(), "divergence_rotation": place.mean(), "divergence": content.mean()}

    def configure_gradient_clipping(self, optimizer: torch.optim.Optimizer, *_: Any, **__: Any) -> None:
        """Clip what the first steps, far from any pattern, would throw off course."""
        self.clip_gradients(optimizer, gradient_clip_val=GRADIENT_CLIP, gradient_clip_algorithm="norm")

    def configure_optimizers(self) -> Any:
        """AdamW under one cycle; noise level and error calibration learn faster than the networks and decay towards nothing."""
        rate = self.config.learning_rate
        fast = [p for name, p in self.net.named_parameters() if name.startswith(("log_noise", "inflation"))]
        slow = [p for name, p in self.net.named_parameters() if not name.startswith(("log_noise", "inflation"))]
        groups: list[dict[str, Any]] = [{"params": slow, "lr": rate}]
        groups += [{"params": fast, "lr": 5 * rate, "weight_decay": 0.0}] if fast else []
        optimiser = torch.optim.AdamW(groups, fused=True)
        rates = [group["lr"] for group in groups]
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, rates, total_steps=self.total_steps)
        return {"optimizer": optimiser, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def gaussian_divergence(mean: Tensor, log_sigma: Tensor) -> Tensor:
    """Return (N,): KL divergence of Gaussians from the standard normal."""
    return (0.5 * (mean.square() + (2 * log_sigma).exp() - 1) - log_sigma).sum(1)


def off_centre(offset: Tensor, angle: Tensor, latents: Tensor) -> Tensor:
    """Return the mean square distance [px²] of patterns from the middle of their window.

    The middle of a pattern is not fixed by the data: offsets would take up any drift. So the offsets (N, 2) [right, down], seen in the
    pattern's own orientation and averaged over sub-images of like latents, must vanish.
    """
    cosine, sine = angle.cos(), angle.sin()
    right, up = offset[:, 0], -offset[:, 1]
    own = torch.stack([cosine * right + sine * up, cosine * up - sine * right], 1)
    weight = torch.exp(-torch.cdist(latents, rows_of_all(latents)).square() / (2 * NEIGHBOURHOOD**2))
    return ((weight / weight.sum(1, keepdim=True)) @ rows_of_all(own)).square().sum(1).mean()


def build(config: EncoderConfig, window_px: int) -> PolarRVAE | RVAE:
    """Return the untrained network of a configuration."""
    if config.form == "polar":
        return PolarRVAE(window_px, config.latents, config.width, config.offset_px, config.normalisation == "image", config.symmetry)
    return RVAE(
        window_px, config.latents, 2 * config.width, translation=config.translation, skip=config.skip, likelihood=config.likelihood,
        rotation_sigma=config.rotation_sigma, free_angle=config.free_angle,
    )  # fmt: skip


def gauge_text(config: EncoderConfig) -> str:
    """Return what a card says of the angle's zero."""
    sought = f"every pattern counts as {config.symmetry}-fold; " if config.symmetry else ""
    return sought + GAUGE[config.form]


def epochs_for(config: EncoderConfig, data: SubImageData) -> int:
    """Return how many epochs are run: those asked for, more where the set is small, fewer where it is large."""
    a_step = max(1, data.steps_per_epoch)
    epochs = max(config.epochs, math.ceil(config.min_steps / a_step))
    return epochs if config.max_steps is None else min(epochs, math.ceil(config.max_steps / a_step))


def export_parts(loaded: dict[str, Any]) -> tuple[dict[str, nn.Module], dict[str, Any]]:
    """Return the modules and the card's draft of a checkpoint of an encoder, as `training.load_for_export` wants them."""
    parameters = loaded["hyper_parameters"]
    task = EncoderTask(*(parameters[key] for key in ("config", "window_px", "pixel_size", "n_train", "total_steps")))
    task.load_state_dict(loaded["state_dict"])
    return task_parts(task)


def task_parts(task: EncoderTask) -> tuple[dict[str, nn.Module], dict[str, Any]]:
    """Return what a bundle is made of: modules `model`, `decoder` and `weights`, and the draft of the card.

    The model carries `cases`, sub-images to prove its graph on: what is far from the training set's intensities has no angle to agree on.
    Where the sub-images had no pixel size, window and sampling count pixels as Å, and the card's limits say so.
    """
    config, net = task.config, task.net.eval()
    sampling = task.pixel_size or 1.0
    draft: dict[str, Any] = {
        "task": "encoding",
        "title": "Encoder of local structure (rVAE)",
        "summary": "Gives each column an angle with its error, its order of symmetry and latents.",
        "sampling": {"min": 0.9 * sampling, "nominal": sampling, "max": 1.1 * sampling},
        "window": {"px": task.window_px, "angstrom": task.window_px * sampling},
        "latents": config.latents,
        "gauge": gauge_text(config),
        "normalisation": "each sub-image by its own mean and spread"
        if config.normalisation == "image" and config.form == "polar"
        else f"by mean {float(net.mean):.6g} and spread {float(net.std):.6g} of the training set: for intensities in its units only",
        "training": {"seed": config.seed},
    }
    if task.pixel_size is None:
        draft["limits"] = ["The training frames had no pixel size: the window is meant in pixels, and Å here are pixels."]
    model = EncoderGraph(net)
    model.cases = [{"subimages": task.examples[:n].numpy()} for n in (5, 2, 1, EXAMPLES)]
    return {"model": model, "decoder": DecoderGraph(net), "weights": net}, draft
