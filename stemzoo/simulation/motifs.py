"""Sub-images with known angle: a column and its neighbours, turned, offset, disordered and recorded with a finite dose; and the bound on
any estimate of the angle.

The truth that an encoder is held against. Called by tests and `scripts/bench_rvae.py`; frames with exact truth come from
`simulation.scene`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

REACH = 1.1  # columns whose centre lies within this many half-diagonals of the window are drawn: their flanks reach into it


@dataclass(frozen=True)
class Motif:
    """A lattice seen from one of its columns.

    Args:
        name: what it is like. fold: order of its rotational symmetry.
        cell: (2, 2) lattice vectors, right and up [Å]. basis: (K, 3) columns of the cell: right, up [Å], relative brightness.
    """

    name: str
    fold: int
    cell: tuple[tuple[float, float], tuple[float, float]]
    basis: tuple[tuple[float, float, float], ...]

    def columns(self, radius: float) -> tuple[np.ndarray, np.ndarray]:
        """Return positions (K, 2), right and up of the first column of the basis [Å], and brightness (K,), up to `radius` Å away."""
        n = np.arange(-12, 13)
        cells = np.stack(np.meshgrid(n, n), -1).reshape(-1, 2) @ np.array(self.cell)
        basis = np.array(self.basis)
        place = (cells[:, None] + basis[:, :2] - basis[0, :2]).reshape(-1, 2)
        near = np.hypot(*place.T) < radius
        return place[near], np.tile(basis[:, 2], len(cells))[near]


_A = 3.9
_H = 3.16
_RP = ((0.0, 0.0, 0.5), (6.3, 1.93, 0.5), (4.5, 0.0, 1.0), (-4.5, 0.0, 1.0), (1.8, 1.93, 1.0), (-1.8, 1.93, 1.0))
MOTIFS = (
    Motif("perovskite, A site", 4, ((_A, 0.0), (0.0, _A)), ((0.0, 0.0, 1.0), (_A / 2, _A / 2, 0.5))),
    Motif("layered, A site", 1, ((12.6, 0.0), (0.0, 3.86)), (_RP[2], *_RP[:2], *_RP[3:])),
    Motif("hexagonal monolayer, metal", 3, ((_H, 0.0), (_H / 2, _H * 3**0.5 / 2)), ((0.0, 0.0, 1.0), (_H / 2, _H / 12**0.5, 0.45))),
    Motif("layered, B site", 2, ((12.6, 0.0), (0.0, 3.86)), _RP),
)


@dataclass(frozen=True)
class Recording:
    """How motifs are recorded.

    Args:
        window_px: side of the sub-images. pixel_size: [Å/px]. width: sigma of a column [Å]. dose: counts in the peak of a column of
            brightness 1. background: in units of that. disorder: rms displacement of each column per axis [Å].
        offset_px: largest offset of the whole from the middle, per axis. turn: largest angle to either side [rad].
    """

    window_px: int = 32
    pixel_size: float = 0.2
    width: float = 0.45
    dose: float = 200.0
    background: float = 0.2
    disorder: float = 0.05
    offset_px: float = 1.0
    turn: float = np.pi


@dataclass(frozen=True)
class Recorded:
    """Sub-images and their truth: images (N, S, S) float32 counts, angle (N,) [rad] counter-clockwise, kind (N,), offset (N, 2) yx [px]."""

    images: np.ndarray
    angle: np.ndarray
    kind: np.ndarray
    offset: np.ndarray


def record(n: int, seed: int, how: Recording | None = None, motifs: tuple[Motif, ...] = MOTIFS) -> Recorded:
    """Return `n` sub-images of motifs taken at random, each turned and offset at random."""
    how = how or Recording()
    rng = np.random.default_rng(seed)
    kind, angle = rng.integers(0, len(motifs), n), rng.uniform(-how.turn, how.turn, n)
    offset = rng.uniform(-how.offset_px, how.offset_px, (n, 2))
    images = np.empty((n, how.window_px, how.window_px), np.float32)
    for i in range(n):
        place, brightness = motifs[kind[i]].columns(_reach(how))
        images[i] = rng.poisson(
            how.dose * _expected(place, brightness, angle[i], offset[i], rng.normal(0, how.disorder, place.shape), how)[0]
        )
    return Recorded(images, angle, kind, offset)


def angle_bound(motif: Motif, how: Recording | None = None, n_angles: int = 7) -> float:
    """Return the Cramér–Rao bound on the angle's standard error [rad], root mean square over orientations.

    Poisson noise of the expected counts and the columns' displacements are both taken as Gaussian with known covariance C; the offset is
    unknown within its prior of precision P; pattern, dose and widths are known. With g the derivatives of the expected counts with respect
    to angle and offset, the bound is the root of [(gᵀ C⁻¹ g + P)⁻¹]₀₀. All pixels of the square window count.

    Source: S. M. Kay, Fundamentals of Statistical Signal Processing: Estimation Theory (1993), ch. 3 and 10.
    """
    how = how or Recording()
    place, brightness = motif.columns(_reach(how))
    variance = []
    for angle in np.linspace(0, 2 * np.pi / motif.fold, n_angles, endpoint=False):
        expected, slopes, turned = _expected(place, brightness, angle, np.zeros(2), np.zeros_like(place), how)
        slopes = how.dose * slopes.reshape(len(place), 2, -1)  # right, up, per px
        sideways = np.stack([-turned[:, 1], turned[:, 0]], 1) / how.pixel_size
        derivatives = np.stack([(sideways[:, :, None] * slopes).sum((0, 1)), slopes[:, 0].sum(0), slopes[:, 1].sum(0)])
        shaken = slopes.reshape(-1, how.window_px**2) * how.disorder / how.pixel_size
        covariance = np.diag(how.dose * expected.ravel()) + shaken.T @ shaken
        prior = np.diag([0.0, 3.0, 3.0]) / max(how.offset_px, 1e-3) ** 2
        variance.append(np.linalg.inv(derivatives @ np.linalg.solve(covariance, derivatives.T) + prior)[0, 0])
    return float(np.sqrt(np.mean(variance)))


def _reach(how: Recording) -> float:
    return float(REACH * how.window_px * how.pixel_size / np.sqrt(2) + 2 * how.width)


def _expected(
    place: np.ndarray, brightness: np.ndarray, angle: float, offset: np.ndarray, moved: np.ndarray, how: Recording
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the image per unit dose (S, S), its derivatives by each column's place (K, 2, S, S), and the turned places (K, 2) [Å]."""
    cosine, sine = np.cos(angle), np.sin(angle)
    turned = place @ np.array([[cosine, sine], [-sine, cosine]])
    middle, sigma = (how.window_px - 1) / 2, how.width / how.pixel_size
    right, up = ((turned + moved) / how.pixel_size).T
    pixel = np.arange(how.window_px)
    x = pixel - (middle + right + offset[1])[:, None]
    y = pixel - (middle - up + offset[0])[:, None]
    across, down = np.exp(-(x**2) / (2 * sigma**2)), np.exp(-(y**2) / (2 * sigma**2))
    image = how.background + np.einsum("k,ky,kx->yx", brightness, down, across)
    slope_x = np.einsum("k,ky,kx->kyx", brightness, down, across * x / sigma**2)
    slope_y = np.einsum("k,ky,kx->kyx", brightness, -down * y / sigma**2, across)
    return image, np.stack([slope_x, slope_y], 1), turned
