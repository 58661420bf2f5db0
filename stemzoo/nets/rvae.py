"""The rotationally invariant VAE in its published form, the reference that nets.polar is held against. Called by training.encoding, export.

An encoder guesses the angle, optionally an offset, and the latents, each as a Gaussian; a spatial decoder draws the sub-image pixel by
pixel from turned and shifted coordinates. It works where rotations are narrow; over the whole circle the guessed angle sticks in local
optima.

Source: T. Bepler et al., NeurIPS 2019, arXiv:1909.11663 (decoder, rotation prior); S. V. Kalinin et al., Sci. Adv. 7, eabd5084 (2021);
capacity: C. P. Burgess et al., arXiv:1804.03599; skip decoder: A. B. Dieng et al., AISTATS 2019.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

OFFSET_SIGMA = 0.1  # standard deviation of the offset's prior [half-windows]


class Code(NamedTuple):
    """What the encoder gives: means and log standard deviations (N, K) of angle, offset (if any: right, down, half-windows) and latents."""

    mean: Tensor
    log_sigma: Tensor


class Bound(NamedTuple):
    """The parts of the negative bound, (N,) each, whose sum is minimised: misfit, divergence of angle and offset, divergence of latents."""

    misfit: Tensor
    place: Tensor
    content: Tensor


class RVAE(nn.Module):
    """Encoder and spatial decoder with Gaussian angle, optional offset and latents.

    Args:
        window_px: side S of the sub-images. latents: beside angle and offset.
        width: size of the hidden layers.
        translation: also infer an offset. skip: feed the latents to every layer of the decoder.
        likelihood: `mse` or `bce`; for `bce` sub-images are scaled to 0–1.
        rotation_sigma: standard deviation of the angle's prior [rad].
        free_angle: the angle's prior lies about the angle found, and so holds its spread alone, as AtomAI has it; else about zero.
    """

    def __init__(
        self,
        window_px: int,
        latents: int = 2,
        width: int = 128,
        *,
        translation: bool = False,
        skip: bool = False,
        likelihood: str = "mse",
        rotation_sigma: float = 0.1,
        free_angle: bool = False,
    ) -> None:
        super().__init__()
        self.config: dict[str, Any] = {
            "form": "published", "window_px": window_px, "latents": latents, "width": width, "translation": translation, "skip": skip,
            "likelihood": likelihood, "rotation_sigma": rotation_sigma, "free_angle": free_angle,
        }  # fmt: skip
        self.window_px, self.latents, self.likelihood = window_px, latents, likelihood
        self.free_angle = free_angle
        self.n_offset = 2 if translation else 0
        self.n_code = n_code = 1 + self.n_offset + latents
        first, last = nn.Linear(window_px**2, width), nn.Linear(width, 2 * n_code)
        self.encoder = nn.Sequential(first, nn.Tanh(), nn.Linear(width, width), nn.Tanh(), last)
        self.place = nn.Linear(2, width)
        self.content = nn.Linear(latents, width, bias=False)
        self.layers = nn.ModuleList(nn.Linear(width, width) for _ in range(2))
        self.skips = nn.ModuleList(nn.Linear(latents, width, bias=False) for _ in range(2)) if skip else None
        self.value = nn.Linear(width, 1)
        axis = torch.linspace(-1, 1, window_px)
        prior_sigma = [rotation_sigma, *[OFFSET_SIGMA] * self.n_offset, *[1.0] * latents]
        self.register_buffer("prior_sigma", torch.tensor(prior_sigma), persistent=False)
        right, up = axis.repeat(window_px), -axis.repeat_interleave(window_px)
        self.register_buffer("grid", torch.stack([right, up], 1), persistent=False)
        self.register_buffer("mean", torch.tensor(0.0))
        self.register_buffer("std", torch.tensor(1.0))
        self.register_buffer("reference", torch.tensor(0.0))

    grid: Tensor
    prior_sigma: Tensor
    mean: Tensor
    std: Tensor
    reference: Tensor

    def normalise(self, subimages: Tensor) -> Tensor:
        """Return raw (N, S, S) intensities by the training set's mean and spread, or for `bce` between 0 and 1."""
        scaled = (subimages - self.mean) / self.std
        return scaled.clamp(0, 1) if self.likelihood == "bce" else scaled

    def encode(self, images: Tensor) -> Code:
        """Return the code of normalised sub-images."""
        return Code(*self.encoder(images.flatten(1)).chunk(2, 1))

    def draw(self, code: Tensor) -> Tensor:
        """Return patterns (N, S, S), logits for `bce`, from angle, offset and latents (N, K)."""
        angle, offset, latents = code[:, 0], code[:, 1 : 1 + self.n_offset], code[:, 1 + self.n_offset :]
        cosine, sine = torch.cos(angle)[:, None], torch.sin(angle)[:, None]
        x, y = self.grid[:, 0], self.grid[:, 1]
        if self.n_offset:
            x, y = x - offset[:, :1], y + offset[:, 1:]
        turned = torch.stack([cosine * x + sine * y, cosine * y - sine * x], 2)  # a pattern turned by θ is read at coordinates turned by -θ
        hidden = torch.tanh(self.place(turned) + self.content(latents)[:, None])
        for number, layer in enumerate(self.layers):
            extra = self.skips[number](latents)[:, None] if self.skips is not None else 0
            hidden = torch.tanh(layer(hidden) + extra)
        drawn: Tensor = self.value(hidden)
        return drawn.reshape(-1, self.window_px, self.window_px)

    def bound(self, images: Tensor, noise: Tensor) -> Bound:
        """Return the negative bound of normalised sub-images, the code drawn with `noise` (N, K), standard normal."""
        code = self.encode(images)
        drawn = self.draw(code.mean + code.log_sigma.exp() * noise)
        return Bound(self.misfit(drawn, images), *self.divergence(code))

    def misfit(self, drawn: Tensor, images: Tensor) -> Tensor:
        """Return (N,): half the summed squared difference, or the summed binary cross-entropy."""
        if self.likelihood == "bce":
            return F.binary_cross_entropy_with_logits(drawn, images, reduction="none").sum(dim=(1, 2))
        return 0.5 * (drawn - images).square().sum(dim=(1, 2))

    def divergence(self, code: Code) -> tuple[Tensor, Tensor]:
        """Return the KL divergences (N,) from the priors: of angle and offset together, and of the latents."""
        ratio, away = code.log_sigma - self.prior_sigma.log(), (code.mean / self.prior_sigma).square()
        if self.free_angle:
            away = torch.cat([torch.zeros_like(away[:, :1]), away[:, 1:]], 1)
        terms = 0.5 * (away + (2 * ratio).exp() - 1) - ratio
        n = 1 + self.n_offset
        return terms[:, :n].sum(1), terms[:, n:].sum(1)

    def angle_and_latents(self, subimages: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return angle, angle_sigma (of the guessed posterior, an optimist's), symmetry (always 1) and latents of raw sub-images."""
        code = self.encode(self.normalise(subimages))
        angle = code.mean[:, 0] - self.reference
        angle = math.pi - torch.remainder(math.pi - angle, 2 * math.pi)
        return angle, code.log_sigma[:, 0].exp(), torch.ones_like(angle).to(torch.int64), code.mean[:, 1 + self.n_offset :]

    def decode(self, latents: Tensor, angle: Tensor) -> Tensor:
        """Return patterns (M, S, S) without offset, in normalised intensities, turned by `angle` from the reference."""
        pieces = [(angle + self.reference)[:, None], torch.zeros_like(latents[:, :1]).repeat(1, self.n_offset), latents]
        drawn = self.draw(torch.cat(pieces, 1))
        return torch.sigmoid(drawn) if self.likelihood == "bce" else drawn


def capacity_loss(divergence: Tensor, capacity: float, gamma: float) -> Tensor:
    """Return γ |KL - C|, the pull of the latents' information (N,) towards `capacity` nats.

    Source: C. P. Burgess et al., arXiv:1804.03599, eq. 8.
    """
    return gamma * (divergence.mean() - capacity).abs()
