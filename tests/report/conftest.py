"""A Ruddlesden–Popper-like analysis made in memory: known positions, layers that alternate in angle, a wedge in the second latent."""

from __future__ import annotations

import numpy as np
import pytest

from stemzoo.types import Analysis, Columns, Encoding, Frames, ModelId

PIXEL_SIZE = 0.16
A, C = 3.86, 20.2
FE = [(0.1, 0.0, 1), (-0.1, 0.0, 1), (0.6, 0.5, 1), (0.4, 0.5, 1)]
SR = [(0.5, 0.0, 0), (0.0, 0.5, 0), (0.317, 0.0, 0), (-0.317, 0.0, 0), (0.817, 0.5, 0), (0.183, 0.5, 0)]
SITES = FE + SR


def layered(size: int = 256, *, seed: int = 0, pixel_size: float | None = PIXEL_SIZE, frames: int = 1) -> Analysis:
    """Return an Analysis of a Sr3Fe2O7-like [100] field of `size`² px with two latents, a wedge and a few failed fits."""
    rng = np.random.default_rng(seed)
    n_a, n_c = int(size * PIXEL_SIZE / A) + 2, int(size * PIXEL_SIZE / C) + 2
    cells = np.stack(np.meshgrid(np.arange(-1, n_c), np.arange(-1, n_a), indexing="ij"), axis=-1).reshape(-1, 2)
    sites = np.array(SITES)
    yx = ((cells[:, None] + sites[None, :, :2]) * [C, A]).reshape(-1, 2) / PIXEL_SIZE
    species = np.tile(sites[:, 2].astype(int), len(cells))
    site = np.tile(np.arange(len(sites)), len(cells))
    inside = np.all((yx > 2) & (yx < size - 3), axis=1)
    order = np.flatnonzero(inside)[np.lexsort((yx[inside][:, 1].round(3), yx[inside][:, 0].round(3)))]
    yx, species, site = yx[order], species[order], site[order]
    n = len(yx)
    wedge = 0.4 + 0.6 * yx[:, 1] / size
    image = _render(yx, (np.where(species == 0, 300, 160) * wedge), size, 0.55 / PIXEL_SIZE)
    stack = rng.poisson(image[None].repeat(frames, 0) + 15).astype(np.float32)
    tables, parts = [], []
    for t in range(frames):
        ok = rng.random(n) > 0.01
        sigma = np.where(ok[:, None], rng.gamma(20, 0.002, (n, 2)), 0.6)
        confidence = np.clip(1 - rng.exponential(0.03, n), 0, 1)
        found = yx + rng.normal(0, 0.04, (n, 2))
        tables.append(Columns(found, sigma, species, 40 * wedge * (1 + species), confidence, ok, ("Sr", "Fe"), pixel_size, t))
        up = np.isin(site, [1, 2, 7, 8])
        middle = np.isin(site, [4, 5])
        angle = np.where(up, np.pi / 2, -np.pi / 2) + rng.normal(0, 0.06, n) + 0.5 * np.sin(yx[:, 1] / size * 6) * middle
        z = np.stack([species * 2.2 - 1 + 0.8 * middle + rng.normal(0, 0.12, n), wedge * 3 - 2 + rng.normal(0, 0.15, n)], axis=1)
        parts.append((np.angle(np.exp(1j * angle)), z))
    angle = np.concatenate([p[0] for p in parts])
    number = np.tile(np.arange(n), frames)
    encoding = Encoding(
        angle,
        np.full(n * frames, 0.06),
        np.ones(n * frames, dtype=np.int64),
        np.concatenate([p[1] for p in parts]).astype(np.float32),
        np.repeat(np.arange(frames), n),
        number,
        np.all((np.tile(yx, (frames, 1)) > 16) & (np.tile(yx, (frames, 1)) < size - 16), axis=1),
    )
    source = "unknown" if pixel_size is None else "file"
    data = Frames(stack, pixel_size, source, "Sr3Fe2O7_wedge.dm4", "ab" * 32, {"energy_kev": 200.0, "detector": "HAADF"}, ())
    return Analysis(
        data,
        tuple(tables),
        ModelId("adf-unet@1", "cd" * 32),
        encoding,
        ModelId("rvae-sr3fe2o7@1", "ef" * 32),
        0.8,
        24.0,
        ("The frame was resampled from 0.16 to 0.2 Å/px.",),
        {"segment": 0.41, "refine": 0.22, "encode": 0.05},
        "0.1.0",
    )


def _render(yx: np.ndarray, amplitude: np.ndarray, size: int, width: float) -> np.ndarray:
    """Return Gaussians of `amplitude` at `yx`, as a product of row and column profiles."""
    axis = np.arange(size)
    rows = np.exp(-((axis[:, None] - yx[:, 0]) ** 2) / (2 * width**2))
    cols = np.exp(-((axis[:, None] - yx[:, 1]) ** 2) / (2 * width**2))
    return (rows * amplitude) @ cols.T


def decode(latents: np.ndarray, angle: np.ndarray, size: int = 24) -> np.ndarray:
    """Stand-in for a decoder: a centre peak and one neighbour above it whose strength is the first latent; (M,) angles turn it."""
    y, x = np.mgrid[:size, :size] - (size - 1) / 2
    turn = angle[:, None, None]
    up_y, up_x = -6 * np.sin(turn + np.pi / 2), 6 * np.cos(turn + np.pi / 2)
    centre = np.exp(-(y**2 + x**2) / 12)[None] * (1.5 + 0.4 * latents[:, 1, None, None])
    side = np.exp(-((y - up_y) ** 2 + (x - up_x) ** 2) / 10) * (1 + np.tanh(latents[:, 0, None, None]))
    return (centre + side).astype(np.float32)


@pytest.fixture(scope="session")
def analysis() -> Analysis:
    return layered()
