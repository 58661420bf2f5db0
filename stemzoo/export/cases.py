"""Inputs on which an exported graph is held against its network. Owns four cases a task: two sizes by two batches, columns with shot noise.

The first two cases become the golden tensors, so they are small, look like data, and come from a fixed seed. Called by export.bundle.
"""

from __future__ import annotations

import numpy as np

from stemzoo.zoo.card import Card

SEED = 20240229
PERIOD = 3.9  # Å
WIDTH = 0.45  # Å, sigma of a column
COUNTS = 300.0  # in a column's peak


def cases_for(card: Card) -> list[dict[str, np.ndarray]]:
    """Return four inputs for the model of `card`, float32 raw intensities: `image` (B, 1, H, W) or `subimages` (B, S, S)."""
    rng = np.random.default_rng(SEED)
    if card.task == "segmentation":
        stride = card.stride_px or 1
        small, large = -(-48 // stride) * stride, -(-96 // stride) * stride
        shapes = ((2, small, large), (1, large, small), (1, small, small), (3, large, large))
        return [{"image": lattice_images(rng, shape, card.sampling.nominal)[:, None]} for shape in shapes]
    assert card.window is not None  # the card's own check
    side = card.window.px
    step = card.window.angstrom / side
    return [{"subimages": lattice_images(rng, (n, side, side), step, centred=True)} for n in (5, 2, 1, 33)]


def decoder_cases(card: Card) -> list[dict[str, np.ndarray]]:
    """Return four inputs for the decoder of `card`: `latents` (B, Z) of a standard normal, `angle` (B,) over the circle."""
    rng = np.random.default_rng(SEED)
    latents = card.latents or 0
    return [
        {"latents": rng.standard_normal((n, latents)).astype(np.float32), "angle": rng.uniform(-np.pi, np.pi, n).astype(np.float32)}
        for n in (5, 2, 1, 33)
    ]


def lattice_images(rng: np.random.Generator, shape: tuple[int, int, int], sampling: float, centred: bool = False) -> np.ndarray:
    """Return (B, H, W) float32 counts: a square lattice with a fainter column in each cell, turned at random, Poisson noise.

    Args: sampling [Å/px]; `centred` puts a column in the middle of each image.
    """
    _, height, width = shape
    y, x = np.mgrid[:height, :width] * sampling
    images = np.empty(shape)
    for image in images:
        angle = rng.uniform(0, np.pi)
        shift = (np.array([(height - 1) / 2, (width - 1) / 2]) * sampling) if centred else rng.uniform(0, PERIOD, 2)
        u = (np.cos(angle) * (y - shift[0]) + np.sin(angle) * (x - shift[1])) / PERIOD
        v = (-np.sin(angle) * (y - shift[0]) + np.cos(angle) * (x - shift[1])) / PERIOD
        image[:] = 0.1 * COUNTS + COUNTS * _columns(u, v) + 0.5 * COUNTS * _columns(u - 0.5, v - 0.45)
    return rng.poisson(images).astype(np.float32)


def _columns(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Return Gaussians of sigma `WIDTH` at whole numbers of u and v [periods]."""
    du, dv = u - np.round(u), v - np.round(v)
    return np.asarray(np.exp(-(du**2 + dv**2) * PERIOD**2 / (2 * WIDTH**2)))
