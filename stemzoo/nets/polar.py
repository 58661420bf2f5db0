"""The rotationally invariant VAE on a polar grid, stemzoo's own form: every angle is compared exactly. Called by training and export.

On rings a rotation is a shift, so the likelihood of *all* angles is one short Fourier sum (`nets.polar_grid`). The angle is therefore not
guessed by the encoder but marginalised in training and read off its posterior afterwards; a small offset of the column from the middle is
marginalised as well, in closed form, to first order around the nearest whole pixel. What is left for networks to learn is small: an encoder
that sees no orientation (templates compared at every angle, pooled) and a decoder from latents to one pattern in its own orientation.

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

from stemzoo.nets.mirror import PARITIES, fold, parts, split_drawing, split_form, split_reading, unfold
from stemzoo.nets.polar_grid import PolarGrid
from stemzoo.nets.posterior import Peak, Posterior, find_peak, log_likelihood

ORDERS = (1, 2, 3, 4, 6)  # rotational symmetries that a motif is tested for
TURNS = 32  # angles on which the encoder compares a sub-image with its templates
SATURATION = 8.0  # normalised intensities are cut off here, so that foreign input cannot overflow the graph
LEAST_NOISE = 1e-3  # rings and orders draw no sub-image better than to a thousandth of its variance
SYMMETRIC = 0.025  # share of its angular power that a pattern may lose when turned by 2π/n and still count as n-fold
PAIRS = ((0, 0), (0, 1), (0, 2), (1, 1), (2, 2), (1, 2))  # of pattern, x- and y-derivative: misfit, b1, b2, A11, A22, A12
LANDMARKS = 256  # training latents kept to tell symmetry and gauge by
NEAR = 0.4  # latent distance over which landmarks are averaged
INDISTINGUISHABLE = 9.0  # squared distance, in noise units, below which two orientations cannot be told apart in one sub-image


class Fixed(NamedTuple):
    """What follows from the weights alone and is worked out once where they no longer change.

    even, odd: (C, T / 2 · K) coefficients of even and of odd order to the templates' answers on half a circle. drawing (K + 1, 3D) and
    corners (K + 1, 3P): hidden layer, and a 1, to the pattern with its derivatives, as coefficients and as values on the outer rings.
    squares: (K + 1, 6K + 6), hidden layer to what, multiplied by it again, gives the energies of pattern and derivatives on inner rings.
    """

    even: Tensor
    odd: Tensor
    drawing: Tensor
    corners: Tensor
    squares: Tensor


class Drawn(NamedTuple):
    """A decoded pattern and its derivatives along x and y: (N, 3, D) coefficients, and the own part of the posterior (N, 6, 2M)."""

    pattern: Tensor
    own: Tensor


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
        self.n_half, self.n_angles, self.n_orders = grid.size // 2, grid.n_angles, grid.n_orders
        ring, order = grid.ring_and_order
        compared = (ring < grid.n_inner) & (order < TURNS // 2)
        n_even, n_odd = int((compared & (order % 2 == 0)).sum()), int((compared & (order % 2 == 1)).sum())
        self.template_even = nn.Parameter(torch.randn(2, n_even, width) / math.sqrt(grid.n_inner))
        self.template_odd = nn.Parameter(torch.randn(2, n_odd, width) / math.sqrt(grid.n_inner))
        self.threshold = nn.Parameter(torch.zeros(width))
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
    gradient: Tensor
    orders: Tensor
    order_of: Tensor
    ring_sum: Tensor
    waves: Tensor
    even_columns: Tensor
    odd_columns: Tensor
    even_waves: Tensor
    odd_waves: Tensor
    inner_columns: Tensor
    corner_columns: Tensor
    corner_values: Tensor
    corner_spectrum: Tensor
    offset_prior: Tensor
    seen: Tensor
    moment: Tensor

    def _matrices(self, grid: PolarGrid) -> None:
        """Hold the grid's fixed matrices as buffers that are rebuilt, not saved."""
        ring, order = grid.ring_and_order
        inner, every, half = ring < grid.n_inner, np.arange(grid.n_orders), grid.size // 2
        turns = np.outer(every, np.arange(grid.n_angles) * 2 * np.pi / grid.n_angles)
        outer = np.arange(grid.n_inner, len(grid.radii_px))
        mask = grid.mask(grid.n_angles)
        weight = mask[outer] * (grid.area_px[outer] / grid.n_angles)[:, None]
        # (rings, orders, angles): the mask holds orders that are multiples of 4 alone, and is even
        fourfold = every[::4]
        phase = np.outer(fourfold, np.arange(grid.n_angles) * 2 * np.pi / grid.n_angles)
        harmonics = weight @ np.cos(phase).T * np.where(fourfold == 0, 1, 2) / grid.n_angles
        place = np.eye(grid.n_orders)[fourfold]
        spectrum = [
            np.einsum("rm,mt,mk->rtk", harmonics, wave, place).reshape(-1, grid.n_orders) for wave in (np.cos(phase), -np.sin(phase))
        ]
        # from |offset|², right, down and 1 to six spectra: the prior's part of misfit, coupling and information
        known = np.zeros((4, 6, 2, grid.n_orders))
        for given, row, wave, m, sign in ((0, 0, 0, 0, 1), (1, 1, 0, 1, 1), (1, 2, 1, 1, -1), (2, 2, 0, 1, -1), (2, 1, 1, 1, -1)):
            known[given, row, wave, m] = sign
        known[3, 3:5, 0, 0] = 1
        blocks = parts(order)
        fixed = {
            "offset_prior": known.reshape(4, -1),
            "gradient": grid.gradient,
            "orders": every,
            "order_of": order,
            "ring_sum": (order[:, None] == every).astype(float),
            "waves": np.concatenate([np.cos(turns), np.sin(turns)]),
            "corner_values": grid.synthesis(grid.n_angles, outer)[np.tile(~inner, 2)],
            "corner_spectrum": np.concatenate(spectrum, axis=1),
            "seen": np.tile(mask.mean(axis=1)[ring], 2),
            "moment": np.where(inner, np.sqrt(grid.area_px[ring]), 0),  # integrates a harmonic over the disc
        }
        on_circle = np.arange(TURNS // 2) * 2 * np.pi / TURNS
        compared, scale = inner & (order < TURNS // 2), np.where(order == 0, 1, np.sqrt(2)) / np.sqrt(grid.area_px[ring])
        for name, parity in (("even", 0), ("odd", 1)):
            mine = np.flatnonzero(compared & (order % 2 == parity))
            angle = order[mine, None] * on_circle
            fixed[f"{name}_waves"] = scale[mine, None] * np.stack([np.cos(angle), np.sin(angle)])
            self.register_buffer(f"{name}_columns", torch.from_numpy(np.concatenate([mine, half + mine])), persistent=False)
        for name, chosen in (("inner", np.tile(inner, 2)), ("corner", np.tile(~inner, 2))):
            self.register_buffer(f"{name}_columns", torch.from_numpy(np.flatnonzero(chosen)), persistent=False)
        corner_values = (grid.samples(outer, grid.n_angles) * np.sqrt(weight)[..., None]).reshape(-1, grid.window_px**2).T
        for block, (reading, form, drawing) in enumerate(
            zip(
                split_reading(grid.projection, grid.window_px, blocks),
                split_form(corner_values, grid.window_px),
                split_drawing(grid.rendering, grid.window_px, blocks),
                strict=True,
            )
        ):
            fixed |= {f"reading_{block}": reading, f"energy_{block}": form, f"drawing_{block}": drawing}
        for name, array in fixed.items():
            self.register_buffer(name, torch.tensor(np.ascontiguousarray(array), dtype=torch.float32), persistent=False)

    def _blocks(self, name: str) -> list[Tensor]:
        return [self.get_buffer(f"{name}_{block}") for block in range(len(PARITIES))]

    # -- sub-images in, coefficients out ------------------------------------------------------------------------------------------------

    def normalise(self, subimages: Tensor) -> Tensor:
        """Return raw (N, S, S) intensities in units of the training set's spread, or of each sub-image's own."""
        if self.per_image:
            mean = subimages.mean(dim=(1, 2), keepdim=True)
            centred = subimages - mean
            return (centred / (centred.square().mean(dim=(1, 2), keepdim=True).sqrt() + 1e-12)).clamp(-SATURATION, SATURATION)
        return ((subimages - self.mean) / self.std).clamp(-SATURATION, SATURATION)

    def coefficients(self, images: Tensor) -> Tensor:
        """Return (N, D) coefficients of normalised sub-images."""
        folded = fold(images)
        return torch.cat([part @ reading for part, reading in zip(folded, self._blocks("reading"), strict=True)], 1)

    def energy(self, images: Tensor, coefficients: Tensor) -> Tensor:
        """Return (N,) the sum of squares that the window sees: of the inner rings' coefficients, and of the outer rings under the mask."""
        inner = coefficients.index_select(1, self.inner_columns).square().sum(1)
        corners = [(part @ form).square().sum(1) for part, form in zip(fold(images), self._blocks("energy"), strict=True)]
        return inner + torch.stack(corners).sum(0)

    # -- encoder and decoder ------------------------------------------------------------------------------------------------------------

    def fixed(self) -> Fixed:
        """Return what follows from the weights alone."""
        even, odd = (
            torch.cat([_product(cosine, first) - _product(sine, second), _product(cosine, second) + _product(sine, first)]).flatten(1)
            for (first, second), (cosine, sine) in ((self.template_even, self.even_waves), (self.template_odd, self.odd_waves))
        )
        pattern = torch.cat([self.pattern.weight.T, self.pattern.bias[None]])
        drawing = torch.cat([pattern, pattern @ self.gradient], 1)
        split = drawing.reshape(len(drawing), 3, -1)
        inner, outer = split.index_select(2, self.inner_columns), split.index_select(2, self.corner_columns)
        squares = torch.cat([inner[:, a] @ inner[:, b].T for a, b in PAIRS], 1)
        return Fixed(even, odd, drawing, (outer @ self.corner_values).flatten(1), squares)

    def encode(self, coefficients: Tensor, fixed: Fixed) -> tuple[Tensor, Tensor]:
        """Return mean and log standard deviation of the latents, (N, Z) each; both are the same for a turned sub-image.

        Templates are compared with the sub-image at all angles; of the answers above a threshold the mean and the mean square over angles
        are kept, in which the orientation is lost. Half a turn leaves even orders as they are and negates odd ones.
        """
        even = coefficients.index_select(1, self.even_columns) @ fixed.even + self.threshold.repeat(TURNS // 2)
        odd = coefficients.index_select(1, self.odd_columns) @ fixed.odd
        here, behind = F.relu(even + odd), F.relu(even - odd)
        pooled = (
            torch.cat([here + behind, here.square() + behind.square()], 1).reshape(-1, 2, TURNS // 2, len(self.threshold)).sum(2) / TURNS
        )
        mean, log_sigma = self.head(pooled.flatten(1)).chunk(2, 1)
        return mean, log_sigma

    def decode(self, latents: Tensor, fixed: Fixed) -> Drawn:
        """Return what the decoder draws, in the pattern's own orientation."""
        hidden = torch.cat([self.hidden(latents), torch.ones_like(latents[:, :1])], 1)
        pattern = (hidden @ fixed.drawing).reshape(-1, 3, 2 * self.n_half)
        inner = ((hidden @ fixed.squares).reshape(-1, len(PAIRS), hidden.shape[1]) * hidden[:, None]).sum(2)
        corner = (hidden @ fixed.corners).reshape(-1, 3, len(self.corner_spectrum))
        masked = torch.stack([(corner[:, a] * corner[:, b]) @ self.corner_spectrum for a, b in PAIRS], 1)
        sign = pattern.new_tensor([1.0, -1.0, -1.0, 1.0, 1.0, 1.0])[:, None] / self.noise
        return Drawn(pattern, sign * (masked + F.pad(inner[..., None], (0, 2 * self.n_orders - 1))))

    @property
    def noise(self) -> Tensor:
        """Variance of a coefficient's noise, in units of the images' variance."""
        return self.log_noise.clamp(min=math.log(LEAST_NOISE)).exp()

    # -- the angle ----------------------------------------------------------------------------------------------------------------------

    def posterior(self, coefficients: Tensor, drawn: Drawn, step: Tensor) -> Posterior:
        """Return the posterior of the angle under a uniform prior, the offset marginalised; `step` as the coefficients were cut."""
        return Posterior(drawn.own + self.crossed(coefficients, drawn.pattern, step), drawn.pattern)

    def crossed(self, coefficients: Tensor, pattern: Tensor, step: Tensor) -> Tensor:
        """Return (N, 6, 2M): what sub-image and pattern say together, and the prior of the offset.

        The prior is on the whole offset, of which `step` is already taken: its mean turns with the angle, a term of order 1.
        """
        x = coefficients / self.noise
        ahead = torch.cat([x[:, self.n_half :], -x[:, : self.n_half]], 1)
        sums = torch.cat([self.ring_sum, self.ring_sum])
        spectrum = torch.cat([(x[:, None] * pattern) @ sums, (ahead[:, None] * pattern) @ sums], 2)
        spectrum = F.pad(spectrum * spectrum.new_tensor([-2.0, 1.0, 1.0])[:, None], (0, 0, 0, 3))
        offset = torch.cat([step.square().sum(1, keepdim=True), step, torch.ones_like(step[:, :1])], 1)
        return spectrum + (self.prior * offset @ self.offset_prior).reshape(spectrum.shape)

    def log_likelihood(self, posterior: Posterior) -> Tensor:
        """Return (N, T): log p(sub-image | latents, angle) at T equally spaced angles, less what `constant` gives."""
        return log_likelihood(posterior.spectrum, self.waves, self.prior)

    def constant(self, energy: Tensor) -> Tensor:
        """Return (N,) what of the log-likelihood does not hang on the angle; kept apart, or it would drown the rest in float32."""
        return math.log(self.prior) - 0.5 * (energy / self.noise + self.seen.sum() * (self.noise.log() + math.log(2 * math.pi)))

    def peak(self, posterior: Posterior, log_likelihood: Tensor, newton_steps: int = 3) -> Peak:
        """Return the highest peak, found on the grid and refined between its angles."""
        angle = log_likelihood.argmax(1).to(log_likelihood.dtype) * (2 * math.pi / self.n_angles)
        return find_peak(posterior.spectrum, angle, self.orders, self.prior, newton_steps, limit=math.pi / self.n_angles)

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

        Args: decoded: (N, 3, D), pattern and derivatives as `decode` gives them.
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
        order, gauge = self.symmetry_and_gauge(self.decode(self.landmarks, self.fixed()).pattern, self.log_inflation(self.landmarks))
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
        cosine, sine = torch.cos(angle[:, None] * self.order_of), torch.sin(angle[:, None] * self.order_of)
        even, odd = pattern[:, : self.n_half], pattern[:, self.n_half :]
        turned = [even * cosine - odd * sine, odd * cosine + even * sine]
        n_even = len(self.get_buffer("drawing_0"))
        quarters = [part for half in turned for part in (half[:, :n_even], half[:, n_even:])]
        return unfold([part @ drawing for part, drawing in zip(quarters, self._blocks("drawing"), strict=True)], self.window_px)


def _product(waves: Tensor, weights: Tensor) -> Tensor:
    """Return (C, T, K) from (C, T) and (C, K)."""
    return waves[:, :, None] * weights[:, None]


def recut(images: Tensor, step: Tensor, rows: Tensor | None = None) -> Tensor:
    """Return images (N, S, S) moved against `step` (N, 2), -1, 0 or 1 px to the right and down; what comes in is a mirror image.

    Args: rows: which of more images (M, S, S) the steps belong to; None: each has its own.
    """
    size = images.shape[1]
    line = torch.arange(size, device=images.device) + step[:, 1:].to(torch.int64)
    line = (size - 1) - (size - 1 - line.abs()).abs()
    first = torch.arange(len(step), device=images.device) if rows is None else rows
    moved = images.reshape(-1, size).index_select(0, (first[:, None] * size + line).reshape(-1)).reshape(-1, size, size)
    ahead = torch.cat([moved[..., 1:], moved[..., -2:-1]], 2)
    behind = torch.cat([moved[..., 1:2], moved[..., :-1]], 2)
    right = step[:, 0, None, None]
    return torch.where(right > 0.5, ahead, torch.where(right < -0.5, behind, moved))
