"""Fixed linear maps between square sub-images and circular harmonics on rings. Owns the polar grid; NumPy; called by nets.polar.

A sub-image is written as f(r, φ) = Σ c[i, m] e^{imφ} on rings r_i around its centre. Coefficients are scaled so that their plain dot
product is the sum over pixels of the product of the images: white pixel noise stays white, and a likelihood needs no further weights.
Turning the image counter-clockwise by θ multiplies order m by e^{-imθ}, so every angle is compared by one short Fourier sum.

Rings beyond the inscribed disc see the corners of the square only. They are kept, with a mask that belongs to the sub-image: a quarter of
the pixels, and the most telling ones for an angle, lie there.

Coefficients are stored as two halves, cosine then sine, each holding the even orders before the odd ones (`nets.mirror` works on such
blocks), and within these by ring and then by order m; the sine of m = 0 is always zero.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

RING_PX = 1.5  # spacing of the rings in a window of up to 43 px; wider windows get coarser rings
FEW_RINGS = 10  # a small window gets more rings than that spacing gives, as far as its pixels go
BAND = 1.5  # highest spatial frequency kept, in radians per ring spacing (half of what the spacing could carry)
OUTER = 1.33  # radius of the last ring, in half-widths of the window (the corner lies at 1.41)


@dataclass(frozen=True)
class PolarGrid:
    """Rings, orders and the matrices that belong to a window of S px; everything follows from `window_px`.

    Args:
        window_px: side S of the sub-images [px].
    """

    window_px: int

    @property
    def half_px(self) -> float:
        """Radius of the inscribed disc, up to the centres of the outermost pixels [px]."""
        return (self.window_px - 1) / 2

    @property
    def n_inner(self) -> int:
        """How many rings lie wholly inside the window."""
        return int(np.clip(round(self.half_px / RING_PX), max(6, min(FEW_RINGS, int(self.half_px))), 14))

    @property
    def spacing_px(self) -> float:
        """Distance between rings [px]."""
        return self.half_px / self.n_inner

    @cached_property
    def radii_px(self) -> np.ndarray:
        """(R,) radius of each ring [px]."""
        return (np.arange(round(OUTER * self.n_inner)) + 0.5) * self.spacing_px

    @property
    def n_angles(self) -> int:
        """T, number of angles at which the posterior is tabulated."""
        return 64

    @property
    def n_orders(self) -> int:
        """M, orders kept: m = 0 … M - 1; a multiple of 4."""
        return 4 * (int(self.top_order[-1]) // 4 + 1)

    @cached_property
    def top_order(self) -> np.ndarray:
        """(R,) highest order on each ring."""
        return np.asarray(np.minimum((BAND / self.spacing_px * self.radii_px + 1).astype(int), self.n_angles // 2 - 1))

    @cached_property
    def ring_and_order(self) -> tuple[np.ndarray, np.ndarray]:
        """(H,) ring and (H,) order of each cosine (and sine) coefficient."""
        ring = np.repeat(np.arange(len(self.top_order)), self.top_order + 1)
        order = np.concatenate([np.arange(top + 1) for top in self.top_order])
        place = np.lexsort((order, ring, order % 2))
        return np.asarray(ring[place]), np.asarray(order[place])

    @property
    def size(self) -> int:
        """D = 2H, number of coefficients."""
        return 2 * len(self.ring_and_order[0])

    @property
    def area_px(self) -> np.ndarray:
        """(R,) area of each whole ring [px²]."""
        return 2 * np.pi * self.radii_px * self.spacing_px

    def basis(self, angles: np.ndarray) -> np.ndarray:
        """Return (D, len(angles)): the pattern on its ring that each coefficient of 1 stands for."""
        ring, order = self.ring_and_order
        scale = np.where(order == 0, 1.0, np.sqrt(2.0)) / np.sqrt(self.area_px[ring])
        phase = order[:, None] * angles
        return np.asarray(np.concatenate([scale[:, None] * np.cos(phase), scale[:, None] * np.sin(phase)]))

    def synthesis(self, n_angles: int, rings: np.ndarray) -> np.ndarray:
        """Return (D, len(rings) * n_angles): coefficients to values on the given rings, at equally spaced angles."""
        values = self.basis(np.arange(n_angles) * 2 * np.pi / n_angles)
        ring = np.tile(self.ring_and_order[0], 2)
        chosen = ring[:, None] == rings
        return np.asarray((values[:, None] * chosen[:, :, None]).reshape(len(ring), -1))

    def mask(self, n_angles: int) -> np.ndarray:
        """Return (R, n_angles) in [0, 1]: how much of each point of a ring the window sees.

        The edges are softened (Fejér's kernel), so that a few harmonics, all multiples of 4, hold the mask exactly and it is nowhere
        negative: a weight below zero would reward a pattern for being wrong where nobody looks.
        """
        fine = np.arange(512) * 2 * np.pi / 512
        edge = self.half_px + 0.5
        x, y = (np.abs(np.outer(self.radii_px, turn(fine))) for turn in (np.cos, np.sin))
        sharp = np.clip(edge - x, 0, 1) * np.clip(edge - y, 0, 1)
        orders = np.arange(0, self.n_orders, 4)
        harmonics = sharp @ np.cos(np.outer(fine, orders)) / len(fine) * np.where(orders == 0, 1, 2) * (1 - orders / self.n_orders)
        return np.asarray(np.clip(harmonics @ np.cos(np.outer(orders, np.arange(n_angles) * 2 * np.pi / n_angles)), 0, 1))

    @property
    def n_fine(self) -> int:
        """Angles at which the image is sampled before the band limit; a multiple of 4 so that the mask keeps its symmetry."""
        return 4 * int(np.ceil(max(128, 2 * np.pi * self.radii_px[-1] / 0.75) / 4))

    def samples(self, rings: np.ndarray, n_angles: int) -> np.ndarray:
        """Return (len(rings), n_angles, S²): a flattened sub-image to its values on rings, averaged across a ring coarser than pixels."""
        angle = np.arange(n_angles) * 2 * np.pi / n_angles
        n_across = max(1, round(self.spacing_px / RING_PX))
        across = ((np.arange(n_across) + 0.5) / n_across - 0.5) * self.spacing_px
        out = np.zeros((len(rings), n_angles, self.window_px**2))
        for number, radius in enumerate(self.radii_px[rings]):
            for a in across:
                out[number] += _cubic(self.window_px, -(radius + a) * np.sin(angle), (radius + a) * np.cos(angle)) / n_across
        return out

    @cached_property
    def projection(self) -> np.ndarray:
        """(S², D): a flattened sub-image, seen through the mask, to its coefficients; by cubic interpolation."""
        n = self.n_fine
        basis, mask, ring = self.basis(np.arange(n) * 2 * np.pi / n), self.mask(n), np.tile(self.ring_and_order[0], 2)
        out = np.zeros((self.window_px**2, self.size))
        for i in range(len(self.radii_px)):
            mine = ring == i
            out[:, mine] = (basis[mine] * (mask[i] * self.area_px[i] / n) @ self.samples(np.array([i]), n)[0]).T
        return out

    @cached_property
    def gradient(self) -> np.ndarray:
        """(D, 2D): coefficients of a pattern to those of its derivatives along x (right) and y (up), per px; pattern side, no mask."""
        n, radii, step = self.n_fine, self.radii_px, self.spacing_px
        angle = np.arange(n) * 2 * np.pi / n
        every = np.arange(len(radii))
        order = np.fft.fftfreq(n) * n
        order[n // 2] = 0
        out = np.zeros((self.size, 2, self.size))
        analysis = (self.synthesis(n, every) * np.repeat(self.area_px / n, n)).T
        for start in range(0, self.size, 128):  # rows in slices: the dense synthesis is large for wide windows
            rows = self.synthesis(n, every)[start : start + 128].reshape(-1, len(radii), n)
            across = np.fft.ifft(1j * order * np.fft.fft(rows, axis=-1), axis=-1).real / radii[:, None]
            through_centre = np.roll(rows[:, :1], n // 2, axis=-1)
            padded = np.concatenate([through_centre, rows, 2 * rows[:, -1:] - rows[:, -2:-1]], axis=1)
            along = (padded[:, 2:] - padded[:, :-2]) / (2 * step)
            right, up = along * np.cos(angle) - across * np.sin(angle), along * np.sin(angle) + across * np.cos(angle)
            out[start : start + 128, 0] = right.reshape(len(rows), -1) @ analysis
            out[start : start + 128, 1] = up.reshape(len(rows), -1) @ analysis
        return out.reshape(self.size, -1)

    @cached_property
    def rendering(self) -> np.ndarray:
        """(D, S²): coefficients of a pattern to its sub-image; cubic between rings, the last ring carried into the corners."""
        ring, order = (np.tile(array, 2) for array in self.ring_and_order)
        y, x = np.mgrid[: self.window_px, : self.window_px] - self.half_px
        first, weights = _taps(np.minimum(np.hypot(y, x).ravel() / self.spacing_px - 0.5, len(self.radii_px) - 1))
        beyond = np.where(order % 2 == 0, 1.0, -1.0)[:, None]  # on the other side of the centre a harmonic is met at half a turn
        share = np.zeros((self.size, self.window_px**2))
        for tap, weight in enumerate(weights):
            at = np.minimum(first + tap, len(self.radii_px) - 1)
            share += np.where(at < 0, beyond, 1.0) * weight * (ring[:, None] == np.where(at < 0, -1 - at, at))
        return np.asarray(self.basis(np.arctan2(-y, x).ravel()) * share)


def _cubic(size: int, down: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Return (P, size²): Keys' cubic convolution (a = -1/2) at points given relative to the centre; points outside take the edge's value.

    Source: R. Keys, IEEE Trans. Acoust. Speech Signal Process. 29 (1981) 1153.
    """
    centre = (size - 1) / 2
    out = np.zeros((len(down), size, size))
    point = np.arange(len(down))
    (top, wy), (left, wx) = (_taps(np.clip(v + centre, 0, size - 1)) for v in (down, right))
    for j in range(4):
        for i in range(4):
            rows, cols = (size - 1 - np.abs(size - 1 - np.abs(start + k)) for start, k in ((top, j), (left, i)))
            np.add.at(out, (point, rows, cols), wy[j] * wx[i])
    return out.reshape(len(down), -1)


def _taps(place: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the first of four pixels around each place and their (4, P) weights."""
    first = np.floor(place).astype(int) - 1
    u = np.abs(place - (first + np.arange(4)[:, None]))
    return first, np.where(u < 1, 1.5 * u**3 - 2.5 * u**2 + 1, -0.5 * u**3 + 2.5 * u**2 - 4 * u + 2)
