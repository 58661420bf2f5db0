"""How much of sub-images is structure, and how much of that a drawing explains. Owns both measures, and where they are taken.

Of an image's variance no drawing explains the noise. What a few principal components of many images explain stands for all that is not
noise; what a drawing explains is held against that, or a faint frame would look like an unknown one. Called by runtime.encoder, by analyze,
evaluate and report.
"""

from __future__ import annotations

import numpy as np

COMPONENTS = 16


def explained(images: np.ndarray, patterns: np.ndarray) -> np.ndarray:
    """Return (N,) the share of each image's variance that its pattern explains, up to gain and offset: the squared correlation.

    Units and normalisation play no part; the share is 0 where the two are opposed. Args: images, patterns: (N, P) pixels.
    """
    rows = []
    for stack in (images, patterns):
        values = np.asarray(stack, dtype=np.float64)
        values = values - values.mean(axis=1, keepdims=True)
        rows.append(values / np.maximum(np.linalg.norm(values, axis=1, keepdims=True), 1e-12))
    return np.asarray(np.clip((rows[0] * rows[1]).sum(axis=1), 0, 1) ** 2)


def explainable(images: np.ndarray, components: int = COMPONENTS) -> np.ndarray:
    """Return (N,) the share of each image's variance that is not noise: what a few principal components of all of them explain.

    Of few images fewer components are asked, or they would learn the noise. Args: images: (N, P) pixels.
    """
    scaled = np.asarray(images, dtype=np.float64)
    scaled = scaled - scaled.mean(axis=1, keepdims=True)
    scaled /= np.maximum(scaled.std(axis=1, keepdims=True), 1e-12)
    mean = scaled.mean(axis=0)
    return explained(scaled, mean + _approximated(scaled - mean, min(components, len(scaled) // 4)))


def _approximated(rows: np.ndarray, components: int) -> np.ndarray:
    """Return what the first principal components of the rows (N, P) give of them: by the eigenvectors of the smaller of the two matrices of
    their products, which takes a quarter of the time of a singular value decomposition."""
    wide = rows.shape[0] <= rows.shape[1]
    products = rows @ rows.T if wide else rows.T @ rows
    axes = np.linalg.eigh(products)[1][:, products.shape[0] - components :]
    return np.asarray(axes @ (axes.T @ rows) if wide else rows @ axes @ axes.T)


def disc(size: int) -> np.ndarray:
    """Return (size, size) bool: the inscribed disc of a window, which a turn keeps inside."""
    axis = np.arange(size) - (size - 1) / 2
    return np.asarray(np.hypot(axis[:, None], axis) <= (size - 1) / 2)
