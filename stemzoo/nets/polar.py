"""The rotationally invariant VAE on a polar grid, stemzoo's own form: every angle is compared exactly. Called by training and export.

On rings a rotation is a shift, so the likelihood of *all* angles is one short Fourier sum (`nets.polar_grid`). The angle is therefore not
guessed by the encoder but marginalised in training and read off its posterior afterwards; a small offset of the column from the middle is
marginalised as well, in closed form, to first order around the nearest whole pixel. What is left for networks to learn is small: an encoder
that sees no orientation (circular convolutions, pooled) and a decoder from latents to one pattern in its own orientation.

The angle's gauge is fixed by the pattern itself: a reference pattern has the phase of its n-th circular harmonic (integrated over the
window) at 0, n being its order of symmetry. Two trainings on the same kind of column hence agree on the angle. Between columns of
different kinds the angle compares each with its own reference.

Source: rVAE: T. Bepler et al., NeurIPS 2019, arXiv:1909.11663; S. V. Kalinin et al., Sci. Adv. 7, eabd5084 (2021).
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stemzoo.nets.polar_grid import PolarGrid

ORDERS = (1, 2, 3, 4, 6)  # rotational symmetries that a motif is tested for
TURNS = 32  # angles on which the encoder looks at a ring
SATURATION = 8.0  # normalised intensities are cut off here, so that foreign input cannot overflow the graph
LEAST_NOISE = 1e-3  # rings and orders draw no sub-image better than to a thousandth of its variance
SYMMETRIC = 0.025  # share of its angular power that a pattern may lose when turned by 2π/n and still count as n-fold
LANDMARKS = 256  # training latents kept to tell symmetry and gauge by
NEAR = 0.4  # latent distance over which landmarks are averaged
INDISTINGUISHABLE = 9.0  # squared distance, in noise units, below which two orientations cannot be told apart in one sub-image


class Posterior(NamedTuple):
    """Log-posterior of the angle as spectra over orders, and what it was computed from.

    even, odd: (N, 6, M) cosine and sine coefficients of: misfit q, its coupling to an offset b1, b2, and that offset's information A11,
    A22, A12. pattern: (N, 3, D) decoded pattern, and its derivatives along x and y.
    """

    even: Tensor
    odd: Tensor
    pattern: Tensor


class Peak(NamedTuple):
    """The posterior's highest peak. angle, information = 1/variance, value: (N,). offset: (N, 2) of the column, right and down [px]."""

    angle: Tensor
    information: Tensor
    value: Tensor
    offset: Tensor


class PolarRVAE(nn.Module):
    """Encoder, decoder and exact angle posterior for square sub-images.

    Args:
        window_px: side S of the sub-images.
        latents: how many numbers describe a column beside its angle.
        width: size of the hidden layers.
        offset_px: prior standard deviation of a column's offset from the middle, per axis [px]; offsets beyond 1.5 px are not followed.
        per_image: normalise each sub-image by its own mean and spread instead of the training set's. Then latents know nothing of gain,
            background or thickness, and the encoder may be used on frames in any units.
    """

    def __init__(self, window_px: int, latents: int = 2, width: int = 64, offset_px: float = 0.6, per_image: bool = False) -> None:
        super().__init__()
        self.config: dict[str, Any] = {
            "form": "polar", "window_px": window_px, "latents": latents, "width": width, "offset_px": offset_px, "per_image": per_image,
        }  # fmt: skip
        self.window_px, self.latents, self.per_image = window_px, latents, per_image
        self.prior = offset_px**-2
        grid = PolarGrid(window_px)
        self.n_inner, self.n_masked, self.n_half, self.n_angles = grid.n_inner, grid.n_masked, grid.size // 2, grid.n_angles
        channels = width // 2
        self.first = nn.Linear(5 * self.n_inner, channels)
        self.second = nn.Linear(5 * channels, width)
        self.head = nn.Sequential(nn.Linear(2 * width, width), nn.SiLU(), nn.Linear(width, 2 * latents))
        self.hidden = nn.Sequential(nn.Linear(latents, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU())
        self.pattern = nn.Linear(width, grid.size)
        self.log_noise = nn.Parameter(torch.tensor(-1.0))
        self.inflation = nn.Sequential(nn.Linear(latents, 32), nn.Tanh(), nn.Linear(32, 1))
        for parameter in self.inflation[2].parameters():
            nn.init.zeros_(parameter)
        self.register_buffer("mean", torch.tensor(0.0))
        self.register_buffer("std", torch.tensor(1.0))
        self.register_buffer("landmarks", torch.zeros(LANDMARKS, latents))
        self._matrices(grid)

    mean: Tensor
    std: Tensor
    landmarks: Tensor
    projection: Tensor
    gradient: Tensor
    orders: Tensor
    ring_sum: Tensor
    cosines: Tensor
    sines: Tensor
    rings: Tensor
    corner_values: Tensor
    corner_energy: Tensor
    corner_even: Tensor
    corner_odd: Tensor
    seen: Tensor
    moment: Tensor
    rendering: Tensor

    def _matrices(self, grid: PolarGrid) -> None:
        """Hold the grid's fixed matrices as buffers that are rebuilt, not saved."""
        ring, order = grid.ring_and_order
        every = np.arange(grid.n_orders)
        turns = np.outer(every, np.arange(grid.n_angles) * 2 * np.pi / grid.n_angles)
        outer = np.arange(grid.n_inner, len(grid.radii_px))
        corner = np.tile(ring >= grid.n_inner, 2)
        quarter = grid.n_angles // 4
        mask = grid.mask(grid.n_angles)
        weight = (mask[outer] * (grid.area_px[outer] / grid.n_angles)[:, None])[:, :quarter]
        fourfold = every[::4]
        phase = np.outer(np.arange(quarter) * 2 * np.pi / grid.n_angles, fourfold)
        # (rings, orders): the mask repeats every quarter and is even
        harmonics = weight @ np.cos(phase) * np.where(fourfold == 0, 1, 2) / quarter
        place = np.eye(grid.n_orders)[fourfold]
        even = (harmonics[:, None, :] * np.cos(phase)).reshape(-1, len(fourfold)) @ place
        odd = (-harmonics[:, None, :] * np.sin(phase)).reshape(-1, len(fourfold)) @ place
        fixed = {
            "projection": grid.projection,
            "gradient": grid.gradient,
            "orders": every,
            "ring_sum": (order[:, None] == every).astype(float),
            "cosines": np.cos(turns),
            "sines": np.sin(turns),
            "rings": grid.synthesis(TURNS, np.arange(grid.n_inner), max_order=TURNS // 2 - 1),
            "corner_values": grid.synthesis(grid.n_angles, outer)[corner],
            "corner_energy": (grid.samples(outer, grid.n_angles) * np.sqrt(np.tile(weight, 4))[..., None]).reshape(-1, grid.window_px**2).T,
            "corner_even": even,
            "corner_odd": odd,
            "seen": np.tile(mask.mean(axis=1)[ring], 2),
            "moment": np.where(ring < grid.n_inner, np.sqrt(grid.area_px[ring]), 0),  # integrates a harmonic over the disc
            "rendering": grid.rendering,
        }
        for name, array in fixed.items():
            self.register_buffer(name, torch.tensor(np.ascontiguousarray(array), dtype=torch.float32), persistent=False)

    # -- sub-images in, coefficients out ------------------------------------------------------------------------------------------------

    def normalise(self, subimages: Tensor) -> Tensor:
        """Return raw (N, S, S) intensities in units of the training set's spread, or of each sub-image's own."""
        if self.per_image:
            mean = subimages.mean(dim=(1, 2), keepdim=True)
            centred = subimages - mean
            return (centred / (centred.square().mean(dim=(1, 2), keepdim=True).sqrt() + 1e-12)).clamp(-SATURATION, SATURATION)
        return ((subimages - self.mean) / self.std).clamp(-SATURATION, SATURATION)

    def coefficients(self, images: Tensor, step: Tensor | None = None) -> Tensor:
        """Return (N, D) coefficients of normalised sub-images, re-cut `step` (N, 2) whole pixels to the right and down (-1, 0 or 1)."""
        if step is not None:
            images = _recut(_recut(images, step[:, 1, None, None], dim=1), step[:, 0, None, None], dim=2)
        return images.flatten(1) @ self.projection

    def energy(self, images: Tensor, coefficients: Tensor, step: Tensor) -> Tensor:
        """Return (N,) the sum of squares that the window sees: of the inner rings' coefficients, and of the outer rings under the mask."""
        images = _recut(_recut(images, step[:, 1, None, None], dim=1), step[:, 0, None, None], dim=2)
        half, tail = self.n_half, self.n_masked
        inner = coefficients[:, : half - tail].square().sum(1) + coefficients[:, half:-tail].square().sum(1)
        return inner + (images.flatten(1) @ self.corner_energy).square().sum(1)

    # -- encoder and decoder ------------------------------------------------------------------------------------------------------------

    def encode(self, coefficients: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and log standard deviation of the latents, (N, Z) each; both are the same for a turned sub-image."""
        rings = (coefficients @ self.rings).reshape(-1, self.n_inner, TURNS).transpose(1, 2)
        hidden = F.relu(self.second(_windows(F.relu(self.first(_windows(rings))))))
        mean, log_sigma = self.head(torch.cat([hidden.mean(1), hidden.amax(1)], 1)).chunk(2, 1)
        return mean, log_sigma

    def decode(self, latents: Tensor) -> Tensor:
        """Return (N, 3, D): the pattern and its derivatives along x and y, in the pattern's own orientation."""
        weight, bias = self._decoding()
        hidden: Tensor = self.hidden(latents)
        return (hidden @ weight + bias).reshape(-1, 3, 2 * self.n_half)

    def _decoding(self) -> tuple[Tensor, Tensor]:
        weight, bias = self.pattern.weight.T, self.pattern.bias
        return torch.cat([weight, weight @ self.gradient], 1), torch.cat([bias, bias @ self.gradient])

    @property
    def noise(self) -> Tensor:
        """Variance of a coefficient's noise, in units of the images' variance."""
        return self.log_noise.clamp(min=math.log(LEAST_NOISE)).exp()

    # -- the angle ----------------------------------------------------------------------------------------------------------------------

    def posterior(self, coefficients: Tensor, latents: Tensor, step: Tensor) -> Posterior:
        """Return the posterior of the angle under a uniform prior, the offset marginalised; `step` as the coefficients were cut.

        With x the sub-image, y the pattern turned by θ and g its gradient, both Gaussian in noise and in the offset d,
        -2 log p = |x - y|² / v - bᵀ A⁻¹ b + log |A| + const, with b = g·(x - y) / v and A = g·g / v + prior.
        """
        decoded = self.decode(latents)
        precision = 1 / self.noise
        scaled, half, tail = decoded * precision, self.n_half, self.n_masked
        xc, xs, yc, ys = coefficients[:, None, :half], coefficients[:, None, half:], scaled[..., :half], scaled[..., half:]
        even, odd = (xc * yc + xs * ys) @ self.ring_sum, (xs * yc - xc * ys) @ self.ring_sum
        left, right = [0, 0, 0, 1, 2, 1], [0, 1, 2, 1, 2, 2]
        whole = torch.cat([decoded[..., : half - tail], decoded[..., half:-tail]], -1)
        inner = torch.stack([(whole[:, a] * whole[:, b]).sum(-1) for a, b in zip(left, right, strict=True)], 1)[..., None] * precision
        corner = torch.cat([decoded[..., half - tail : half], decoded[..., -tail:]], -1) @ self.corner_values
        product = torch.stack([corner[:, a] * corner[:, b] for a, b in zip(left, right, strict=True)], 1) * precision
        product = product.reshape(len(left) * product.shape[0], -1, 4, self.n_angles // 4).sum(2).reshape(product.shape[0], len(left), -1)
        self_even, self_odd = product @ self.corner_even, product @ self.corner_odd
        right_px, down_px = step[:, 0], step[:, 1]
        zero = torch.zeros_like(right_px)
        known = zero + self.prior
        at_zero = torch.stack([self.prior * (right_px**2 + down_px**2), zero, zero, known, known, zero], 1)[..., None]
        # The prior is on the whole offset, of which `step` is already taken: its mean turns with the angle, a term of order 1.
        even1 = self.prior * torch.stack([zero, right_px, -down_px, zero, zero, zero], 1)[..., None]
        odd1 = self.prior * torch.stack([zero, -down_px, -right_px, zero, zero, zero], 1)[..., None]
        cross = even.new_tensor([-2.0, 1.0, 1.0])[:, None]
        own = even.new_tensor([1.0, -1.0, -1.0, 1.0, 1.0, 1.0])[:, None]
        first, second = (self.orders == 0).float(), (self.orders == 1).float()
        even = F.pad(cross * even, (0, 0, 0, 3)) + own * (self_even + inner * first) + at_zero * first + even1 * second
        odd = F.pad(cross * odd, (0, 0, 0, 3)) + own * self_odd + odd1 * second
        return Posterior(even, odd, decoded)

    def log_likelihood(self, posterior: Posterior) -> Tensor:
        """Return (N, T): log p(sub-image | latents, angle) at T equally spaced angles, less what `constant` gives."""
        q, b1, b2, a11, a22, a12 = (posterior.even @ self.cosines + posterior.odd @ self.sines).unbind(1)
        determinant = (a11 * a22 - a12**2).clamp(min=self.prior**2)
        gain = (a22 * b1**2 + a11 * b2**2 - 2 * a12 * b1 * b2) / determinant
        return -0.5 * (q - gain + determinant.log())

    def constant(self, energy: Tensor) -> Tensor:
        """Return (N,) what of the log-likelihood does not hang on the angle; kept apart, or it would drown the rest in float32."""
        return math.log(self.prior) - 0.5 * (energy / self.noise + self.seen.sum() * (self.noise.log() + math.log(2 * math.pi)))

    def peak(self, posterior: Posterior, log_likelihood: Tensor, newton_steps: int = 3) -> Peak:
        """Return the highest peak, found on the grid and refined between its angles by Newton's method on the Fourier sums."""
        angle = log_likelihood.argmax(1).to(log_likelihood.dtype) * (2 * math.pi / self.n_angles)
        limit, even, odd, orders = math.pi / self.n_angles, posterior.even, posterior.odd, self.orders
        for step in range(newton_steps + 1):
            phase = angle[:, None] * orders
            cosine, sine = phase.cos()[:, None], phase.sin()[:, None]
            value = (even * cosine + odd * sine).sum(2)
            slope = ((odd * cosine - even * sine) * orders)[:, :3].sum(2)
            curve = -((even * cosine + odd * sine) * orders**2)[:, :3].sum(2)
            a11, a22, a12 = value[:, 3:].unbind(1)
            determinant = (a11 * a22 - a12**2).clamp(min=self.prior**2)

            def inverse(u: Tensor, w: Tensor, a: tuple[Tensor, ...] = (a11, a22, a12, determinant)) -> Tensor:
                return (a[1] * u[:, 1] * w[:, 1] + a[0] * u[:, 2] * w[:, 2] - a[2] * (u[:, 1] * w[:, 2] + u[:, 2] * w[:, 1])) / a[3]

            gradient = -0.5 * slope[:, 0] + inverse(value, slope)
            hessian = -0.5 * curve[:, 0] + inverse(slope, slope) + inverse(value, curve)
            if step < newton_steps:
                angle = angle + (gradient / (-hessian).clamp(min=1e-2)).clamp(-limit, limit)
        height = -0.5 * (value[:, 0] - inverse(value, value) + determinant.log())
        along, across = (a12 * value[:, 2] - a22 * value[:, 1]) / determinant, (a12 * value[:, 1] - a11 * value[:, 2]) / determinant
        cosine, sine = angle.cos(), angle.sin()
        offset = torch.stack([along * cosine - across * sine, -(along * sine + across * cosine)], 1)
        return Peak(angle, (-hessian).clamp(min=1e-6), height, offset)

    # -- what the pattern says of itself -------------------------------------------------------------------------------------------------

    def log_inflation(self, latents: Tensor) -> Tensor:
        """Return (N,) log of the factor by which the angle's variance exceeds that of white noise (disorder is not white); 0 untrained."""
        value: Tensor = self.inflation(latents)
        return value[:, 0]

    def symmetry_and_gauge(self, decoded: Tensor, log_inflation: Tensor) -> tuple[Tensor, Tensor]:
        """Return the order n of each pattern and the angle (N,) at which its n-th harmonic points; order 1 where it has no structure.

        A pattern is n-fold if turning it by 2π/n changes it by less than a small share of its angular power, or by less than one sub-image
        could tell; what a shift of the pattern would explain does not count.
        Only rings inside the window are asked: of the corners, a crystal in one orientation shows each ring at some angles alone.

        Args: decoded: (N, 3, D) as `decode` gives it.
        """
        half, seen = self.n_half, (self.moment > 0).to(decoded.dtype)
        cosine, sine = decoded[..., :half], decoded[..., half:]
        weighted_cosine, weighted_sine = cosine * seen, sine * seen
        # (N, 3, M): the pattern turned against itself, and against its gradients
        even = (weighted_cosine[:, :1] * cosine + weighted_sine[:, :1] * sine) @ self.ring_sum
        odd = (weighted_sine[:, :1] * cosine - weighted_cosine[:, :1] * sine) @ self.ring_sum
        a11, a22 = ((weighted_cosine[:, j] * cosine[:, j] + weighted_sine[:, j] * sine[:, j]).sum(1) + 1e-6 for j in (1, 2))
        a12 = (weighted_cosine[:, 1] * cosine[:, 2] + weighted_sine[:, 1] * sine[:, 2]).sum(1)
        determinant = (a11 * a22 - a12**2).clamp(min=1e-9)
        total = (even[:, 0] * (self.orders > 0)).sum(1)
        noise = self.noise * torch.exp(log_inflation)
        moments = (cosine[:, 0] * self.moment) @ self.ring_sum, (sine[:, 0] * self.moment) @ self.ring_sum
        order, gauge = torch.ones_like(total), torch.atan2(moments[1][:, 1], moments[0][:, 1] + 1e-12)
        for n in ORDERS[1:]:
            turn = 2 * math.pi / n
            change = 2 * (even[:, 0] * (1 - torch.cos(turn * self.orders))).sum(1)
            b1, b2 = (even[:, 1:] * (1 - torch.cos(turn * self.orders)) + odd[:, 1:] * torch.sin(turn * self.orders)).sum(2).unbind(1)
            change = change - (a22 * b1**2 + a11 * b2**2 - 2 * a12 * b1 * b2) / determinant
            same = (change < 2 * SYMMETRIC * total) | (change < INDISTINGUISHABLE * noise)
            same = same & (total > 0.5 * INDISTINGUISHABLE * noise)
            order = torch.where(same, torch.full_like(order, n), order)
            gauge = torch.where(same, torch.atan2(moments[1][:, n], moments[0][:, n] + 1e-12) / n, gauge)
        return order, gauge

    def gauge_table(self) -> Tensor:
        """Return (LANDMARKS, 15): at each landmark the order as one of `ORDERS`, and cosine and sine of n times the gauge in its place."""
        order, gauge = self.symmetry_and_gauge(self.decode(self.landmarks), self.log_inflation(self.landmarks))
        chosen = (order[:, None] == order.new_tensor(ORDERS)).to(order.dtype)
        return torch.cat([chosen, chosen * torch.cos(order * gauge)[:, None], chosen * torch.sin(order * gauge)[:, None]], 1)

    def look_up(self, latents: Tensor, table: Tensor) -> tuple[Tensor, Tensor]:
        """Return order and gauge (N,) of latents (N, Z) as their nearest landmarks have it, averaged.

        One sub-image's own pattern would do, were its latents free of noise; the average keeps that noise out of the angle.
        """
        distance = latents.square().sum(1, keepdim=True) - 2 * latents @ self.landmarks.T + self.landmarks.square().sum(1)
        votes, cosine, sine = (torch.softmax(-distance / (2 * NEAR**2), 1) @ table).chunk(3, 1)
        best = (votes == votes.amax(1, keepdim=True)).to(votes.dtype)
        best = best / best.sum(1, keepdim=True)
        order = (best @ votes.new_tensor(ORDERS)).round()
        return order, torch.atan2((best * sine).sum(1), (best * cosine).sum(1) + 1e-12) / order

    def render(self, pattern: Tensor, angle: Tensor) -> Tensor:
        """Return (N, S, S): patterns (N, D) turned counter-clockwise by `angle` (N,), in normalised intensities."""
        order = self.ring_sum @ self.orders
        cosine, sine = torch.cos(angle[:, None] * order), torch.sin(angle[:, None] * order)
        even, odd = pattern[:, : self.n_half], pattern[:, self.n_half :]
        turned = torch.cat([even * cosine - odd * sine, odd * cosine + even * sine], 1)
        return (turned @ self.rendering).reshape(-1, self.window_px, self.window_px)


def _windows(rings: Tensor) -> Tensor:
    """Return (N, T, 5C): each angle of (N, T, C) with its two neighbours on either side, around the circle."""
    n = rings.shape[1]
    wrapped = torch.cat([rings[:, -2:], rings, rings[:, :2]], 1)
    return torch.cat([wrapped[:, k : k + n] for k in range(5)], 2)


def _recut(images: Tensor, step: Tensor, dim: int) -> Tensor:
    """Return images moved by -1, 0 or 1 px against `dim`, the row that comes in being a mirror image."""
    n = images.shape[dim]
    ahead = torch.cat([images.narrow(dim, 1, n - 1), images.narrow(dim, n - 2, 1)], dim)
    behind = torch.cat([images.narrow(dim, 1, 1), images.narrow(dim, 0, n - 1)], dim)
    return torch.where(step > 0.5, ahead, torch.where(step < -0.5, behind, images))
