"""The rotationally invariant VAE on a polar grid, stemzoo's own form: every angle is compared exactly. Called by training and nets.graphs.

On rings a rotation is a shift, so the likelihood of *all* angles is one short Fourier sum (`nets.polar_grid`). The angle is therefore not
guessed by the encoder but marginalised in training and read off its posterior afterwards; a small offset of the column from the middle is
marginalised as well, in closed form, to first order around the nearest whole pixel. What is left for networks to learn is small: an encoder
that sees no orientation (templates compared at every angle, pooled) and a decoder from latents to one pattern in its own orientation.

The angle's zero is set by the pattern itself (`nets.gauge`).

Source: rVAE: T. Bepler et al., NeurIPS 2019, arXiv:1909.11663; S. V. Kalinin et al., Sci. Adv. 7, eabd5084 (2021).
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stemzoo.nets.mirror import PARITIES, fold, unfold
from stemzoo.nets.polar_grid import PolarGrid
from stemzoo.nets.polar_matrices import TURNS, compared, matrices
from stemzoo.nets.posterior import Peak, Posterior, Table, between, find_peak, offset_at, tabulate

SATURATION = 8.0  # normalised intensities are cut off here, so that foreign input cannot overflow the graph
LEAST_NOISE = 1e-3  # rings and orders draw no sub-image better than to a thousandth of its variance
PAIRS = ((0, 0), (0, 1), (0, 2), (1, 1), (2, 2), (1, 2))  # of pattern, x- and y-derivative: misfit, b1, b2, A11, A22, A12
LANDMARKS = 256  # training latents kept to tell symmetry and gauge by


class Templates(NamedTuple):
    """What the encoder compares sub-images with, (C, T / 4 · K) each for K templates: coefficients of order 0, 4, 8 …, of order 2, 6, 10 …,
    and odd ones, to answers on the first quarter of a circle; and odd ones to those on the second."""

    fourfold: Tensor
    twofold: Tensor
    odd: Tensor
    across: Tensor


class Fixed(NamedTuple):
    """What follows from the weights alone and is worked out once where they no longer change.

    drawing (K + 1, 3D) and corners (K + 1, 3P): hidden layer, and a 1, to the pattern with its derivatives, as coefficients and as values
    on the outer rings. squares: (K + 1, 6K + 6), hidden layer to what, multiplied by it again, gives the energies of pattern and
    derivatives on inner rings.
    """

    templates: Templates
    drawing: Tensor
    corners: Tensor
    squares: Tensor


class Drawn(NamedTuple):
    """A decoded pattern. hidden: (N, K + 1), the decoder's last hidden layer, and a 1. pattern: (N, 3, D) coefficients of it and of its
    derivatives along x and y. corner: (N, 3, P), their values on the outer rings. own: (N, 6, 2M), its own part of the posterior."""

    hidden: Tensor
    pattern: Tensor
    corner: Tensor
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
        symmetry: one of `ORDERS`, which every pattern is taken for; None takes each pattern's own.
    """

    def __init__(
        self,
        window_px: int,
        latents: int = 2,
        width: int = 64,
        offset_px: float = 0.6,
        per_image: bool = False,
        symmetry: int | None = None,
    ) -> None:
        super().__init__()
        self.config: dict[str, Any] = {
            "form": "polar", "window_px": window_px, "latents": latents, "width": width, "offset_px": offset_px, "per_image": per_image,
            "symmetry": symmetry,
        }  # fmt: skip
        self.window_px, self.latents, self.per_image, self.symmetry = window_px, latents, per_image, symmetry
        self.prior = offset_px**-2
        grid = PolarGrid(window_px)
        self.n_half, self.n_angles, self.n_orders = grid.size // 2, grid.n_angles, grid.n_orders
        odd = grid.ring_and_order[1][compared(grid)] % 2
        n_even, n_odd = int((odd == 0).sum()), int(odd.sum())
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
        for name, matrix in matrices(grid).items():
            self.register_buffer(name, matrix, persistent=False)

    mean: Tensor
    std: Tensor
    landmarks: Tensor
    gradient: Tensor
    orders: Tensor
    order_of: Tensor
    ring_sum: Tensor
    waves: Tensor
    fourfold_columns: Tensor
    fourfold_rows: Tensor
    fourfold_turns: Tensor
    twofold_columns: Tensor
    twofold_rows: Tensor
    twofold_turns: Tensor
    odd_columns: Tensor
    odd_turns: Tensor
    inner_columns: Tensor
    corner_columns: Tensor
    corner_values: Tensor
    corner_spectrum: Tensor
    own_spectrum: Tensor
    own_sign: Tensor
    cross_sign: Tensor
    offset_prior: Tensor
    seen: Tensor
    moment: Tensor

    def blocks(self, name: str) -> list[Tensor]:
        """Return the four matrices of a name, one for each of `nets.mirror.PARITIES`."""
        return [self.get_buffer(f"{name}_{block}") for block in range(len(PARITIES))]

    # -- sub-images in, coefficients out ------------------------------------------------------------------------------------------------

    def normalise(self, subimages: Tensor) -> Tensor:
        """Return raw (N, S, S) intensities in units of the training set's spread, or of each sub-image's own."""
        if self.per_image:
            mean = subimages.mean(dim=(1, 2), keepdim=True)
            centred = subimages - mean
            return (centred / (centred.square().mean(dim=(1, 2), keepdim=True).sqrt() + 1e-12)).clamp(-SATURATION, SATURATION)
        return ((subimages - self.mean) * (1 / self.std)).clamp(-SATURATION, SATURATION)

    def coefficients(self, images: Tensor) -> Tensor:
        """Return (N, D) coefficients of normalised sub-images."""
        return self.read(fold(images))

    def read(self, folded: list[Tensor]) -> Tensor:
        """Return (N, D) coefficients of normalised sub-images that were folded (`nets.mirror`)."""
        return torch.cat([part @ reading for part, reading in zip(folded, self.blocks("reading"), strict=True)], 1)

    def energy(self, images: Tensor, coefficients: Tensor) -> Tensor:
        """Return (N,) the sum of squares that the window sees: of the inner rings' coefficients, and of the outer rings under the mask."""
        inner = coefficients.index_select(1, self.inner_columns).square().sum(1)
        corners = [(part @ form).square().sum(1) for part, form in zip(fold(images), self.blocks("energy"), strict=True)]
        return inner + torch.stack(corners).sum(0)

    # -- encoder and decoder ------------------------------------------------------------------------------------------------------------

    def fixed(self) -> Fixed:
        """Return what follows from the weights alone."""
        pattern = torch.cat([self.pattern.weight.T, self.pattern.bias[None]])
        drawing = torch.cat([pattern, pattern @ self.gradient], 1)
        split = drawing.reshape(len(drawing), 3, -1)
        inner, outer = split.index_select(2, self.inner_columns), split.index_select(2, self.corner_columns)
        squares = torch.cat([inner[:, a] @ inner[:, b].T for a, b in PAIRS], 1)
        return Fixed(self.templates(), drawing, (outer @ self.corner_values).flatten(1), squares)

    def templates(self) -> Templates:
        """Return the templates at all angles."""
        fourfold, twofold = (self.template_even.index_select(1, rows) for rows in (self.fourfold_rows, self.twofold_rows))
        odd, across = _turned(self.template_odd, self.odd_turns).chunk(2, 1)
        return Templates(_turned(fourfold, self.fourfold_turns), _turned(twofold, self.twofold_turns), odd, across)

    def compared(self, coefficients: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return those of the coefficients (N, D) that `encode` wants."""
        columns = self.fourfold_columns, self.twofold_columns, self.odd_columns
        fourfold, twofold, odd = (coefficients.index_select(1, chosen) for chosen in columns)
        return fourfold, twofold, odd

    def encode(self, fourfold: Tensor, twofold: Tensor, odd: Tensor, templates: Templates) -> tuple[Tensor, Tensor]:
        """Return mean and log standard deviation of the latents, (N, Z) each; both are the same for a turned sub-image.

        Templates are compared with the sub-image at all angles; of the answers above a threshold the mean and the mean square over angles
        are kept, in which the orientation is lost. Half a turn leaves even orders as they are and negates odd ones, a quarter turn leaves
        every other one of the even orders and negates the rest.

        Args: coefficients of order 0, 4, 8 …, of order 2, 6, 10 …, and of odd order, as `compared` picks them.
        """
        upright = fourfold @ templates.fourfold + self.threshold.repeat(TURNS // 4)
        crossed = twofold @ templates.twofold
        first, second = [], []
        for even, turned in ((upright + crossed, odd @ templates.odd), (upright - crossed, odd @ templates.across)):
            here, behind = F.relu(even + turned), F.relu(even - turned)
            first.append(here + behind)
            second.append(here.square() + behind.square())
        answers = [(a + b).reshape(-1, TURNS // 4, len(self.threshold)).sum(1) for a, b in (first, second)]
        answer = self.head(torch.cat(answers, 1) / TURNS)
        return answer[:, : self.latents], answer[:, self.latents :]

    def decode(self, latents: Tensor, fixed: Fixed) -> Drawn:
        """Return what the decoder draws, in the pattern's own orientation."""
        hidden = torch.cat([self.hidden(latents), torch.ones_like(latents[:, :1])], 1)
        pattern = (hidden @ fixed.drawing).reshape(-1, 3, 2 * self.n_half)
        inner = ((hidden @ fixed.squares).reshape(-1, len(PAIRS), len(fixed.squares)) * hidden[:, None]).sum(2, keepdim=True)
        corner = (hidden @ fixed.corners).reshape(-1, 3, len(self.corner_spectrum))
        values = corner.unbind(1)
        products = torch.stack([values[a] * values[b] for a, b in PAIRS], 1).reshape(-1, len(self.corner_spectrum))
        seen = (products @ self.corner_spectrum).reshape(-1, len(PAIRS), self.corner_spectrum.shape[1])
        own = torch.cat([seen, inner], 2) @ self.own_spectrum
        return Drawn(hidden, pattern, corner, own * (self.own_sign / self.noise))

    @property
    def noise(self) -> Tensor:
        """Variance of a coefficient's noise, in units of the images' variance."""
        return self.log_noise.clamp(min=math.log(LEAST_NOISE)).exp()

    # -- the angle ----------------------------------------------------------------------------------------------------------------------

    def posterior(self, coefficients: Tensor, drawn: Drawn, step: Tensor | None = None) -> Posterior:
        """Return the posterior of the angle under a uniform prior, the offset marginalised.

        The prior is on the whole offset, of which `step` (N, 2) is already taken where sub-images were cut anew: its mean turns with the
        angle, a term of order 1.
        """
        x = (coefficients * (1 / self.noise))[:, None]
        even, odd = x[..., : self.n_half], x[..., self.n_half :]
        cosine, sine = drawn.pattern[..., : self.n_half], drawn.pattern[..., self.n_half :]
        spectrum = torch.cat([(even * cosine + odd * sine) @ self.ring_sum, (odd * cosine - even * sine) @ self.ring_sum], 2)
        crossed = F.pad(spectrum * self.cross_sign, (0, 0, 0, 3))
        known = self.prior * self.offset_prior
        if step is None:
            prior = known[3]
        else:
            offset = torch.cat([step.square().sum(1, keepdim=True), step], 1)
            prior = offset @ known[:3] + known[3]
        return Posterior(drawn.own + crossed + prior.reshape(-1, len(PAIRS), 2 * self.n_orders), drawn.pattern)

    def tabulate(self, posterior: Posterior) -> Table:
        """Return log p(sub-image | latents, angle) at T equally spaced angles, less what `constant` gives, and the offsets there."""
        return tabulate(posterior.spectrum, self.waves, self.prior)

    def constant(self, energy: Tensor) -> Tensor:
        """Return (N,) what of the log-likelihood does not hang on the angle; kept apart, or it would drown the rest in float32."""
        return math.log(self.prior) - 0.5 * (energy / self.noise + self.seen.sum() * (self.noise.log() + math.log(2 * math.pi)))

    def peak(self, posterior: Posterior, table: Table, newton_steps: int = 0) -> Peak:
        """Return the highest peak, found on the grid and refined between its angles by so many steps and one last."""
        best = table.log_likelihood.argmax(1)
        spacing = 2 * math.pi / self.n_angles
        angle = (best.to(table.along.dtype) + between(table.log_likelihood, best)) * spacing
        return find_peak(posterior.spectrum, angle, self.orders, self.prior, newton_steps, spacing / 2)

    def coarse(self, table: Table) -> tuple[Tensor, Tensor]:
        """Return the best angle of the grid (N,) and the column's offset there (N, 2), right and down [px]."""
        best = table.log_likelihood.argmax(1, keepdim=True)
        angle = best[:, 0].to(table.along.dtype) * (2 * math.pi / self.n_angles)
        return angle, offset_at(angle, table.along.gather(1, best)[:, 0], table.across.gather(1, best)[:, 0])

    # -- what the pattern says of itself -------------------------------------------------------------------------------------------------

    def log_inflation(self, latents: Tensor) -> Tensor:
        """Return (N,) log of the factor by which the angle's variance exceeds that of white noise (disorder is not white); 0 untrained."""
        value: Tensor = self.inflation(latents)
        return value[:, 0]

    def render(self, pattern: Tensor, angle: Tensor) -> Tensor:
        """Return (N, S, S): patterns (N, D) turned counter-clockwise by `angle` (N,), in normalised intensities."""
        cosine, sine = torch.cos(angle[:, None] * self.order_of), torch.sin(angle[:, None] * self.order_of)
        even, odd = pattern[:, : self.n_half], pattern[:, self.n_half :]
        turned = [even * cosine - odd * sine, odd * cosine + even * sine]
        n_even = len(self.get_buffer("drawing_0"))
        quarters = [part for half in turned for part in (half[:, :n_even], half[:, n_even:])]
        return unfold([part @ drawing for part, drawing in zip(quarters, self.blocks("drawing"), strict=True)], self.window_px)


def _turned(templates: Tensor, turns: Tensor) -> Tensor:
    """Return (2C, T · K), coefficients to answers, from templates (2, C, K) and their turns (2, C, T, 2)."""
    both = templates.transpose(0, 1)
    return (turns @ both[None]).reshape(2 * templates.shape[1], -1)
