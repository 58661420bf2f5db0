"""Principal components beside the rVAE, on the same sub-images: how much of them each explains with how many numbers a column.

An rVAE that is no better than PCA must be seen to be so. Owns the measure, the PCA and their figure; called by `report.pictures`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure

from stemzoo.report import style
from stemzoo.report.inputs import Decode
from stemzoo.runtime.structure import disc, explained
from stemzoo.types import Encoding, SubImages

MOST = 1500  # sub-images compared; spread evenly over those there are
COMPONENTS = 16
SHOWN = 4


@dataclass(frozen=True, slots=True)
class Baseline:
    """What rVAE and PCA explain of sub-images.

    Args:
        numbers: how many numbers a column the rVAE uses: its latents and the angle.
        rvae: share of each sub-image's variance that its reconstruction explains, averaged. pca: (K,) the same for 1 … K components.
        examples: (3, SHOWN, S, S) sub-images, the rVAE's reconstructions, PCA's with as many numbers; each of mean 0 and spread 1.
        n: how many sub-images were compared.
    """

    numbers: int
    rvae: float
    pca: np.ndarray
    examples: np.ndarray
    n: int


def compare(encoding: Encoding, subimages: SubImages, decode: Decode) -> Baseline | None:
    """Return rVAE and PCA compared inside the inscribed disc of the windows, or None for fewer than 16 sub-images.

    Each sub-image is scaled to mean 0 and spread 1, and a reconstruction may be scaled and offset freely: the share explained is the
    squared correlation, so that units and normalisation play no part. PCA is fitted to the very sub-images it is judged on.
    """
    chosen = np.flatnonzero(np.asarray(subimages.inside) & np.isfinite(encoding.angle) & np.isfinite(encoding.latents).all(axis=1))
    chosen = chosen[:: max(len(chosen) // MOST, 1)][:MOST]
    if len(chosen) < COMPONENTS:
        return None
    size = subimages.window_px
    seen = disc(size).ravel()
    images = _scaled(np.asarray(subimages.data[chosen], dtype=np.float64).reshape(len(chosen), -1)[:, seen])
    drawn = decode(np.asarray(encoding.latents[chosen], np.float32), np.asarray(encoding.angle[chosen], np.float32))
    patterns = _scaled(drawn.reshape(len(chosen), -1)[:, seen].astype(np.float64))
    mean, scores, axes = _components(images, min(COMPONENTS, min(images.shape) - 1))
    numbers = encoding.latents.shape[1] + 1
    shown = np.linspace(0, len(images) - 1, SHOWN).astype(int)
    examples = np.full((3, SHOWN, size * size), np.nan)
    examples[:, :, seen] = np.stack([images[shown], patterns[shown], _scaled(mean + scores[shown, :numbers] @ axes[:numbers])])
    rvae = float(explained(images, patterns).mean())
    return Baseline(numbers, rvae, _shares(images, mean, scores, axes), examples.reshape(3, SHOWN, size, size), len(images))


def _components(images: np.ndarray, many: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the mean (P,) of images (n, P), the first components' scores (n, K) and these (K, P)."""
    from scipy.sparse.linalg import svds

    mean = images.mean(axis=0)
    left, strength, axes = svds(images - mean, many, v0=np.ones(min(images.shape)))
    return mean, (left * strength)[:, ::-1], axes[::-1]


def _shares(images: np.ndarray, mean: np.ndarray, scores: np.ndarray, axes: np.ndarray) -> np.ndarray:
    """Return (K,) what 1 … K components explain of images, averaged, as `structure.explained`: sums over scores, since no image, and so
    neither mean nor component, has a level."""
    along = axes @ mean
    together = (images @ mean)[:, None] + np.cumsum(scores * (scores + along), axis=1)
    squared = mean @ mean + np.cumsum(scores * (scores + 2 * along), axis=1)
    cosine = together / np.sqrt(np.maximum(squared * np.square(images).sum(axis=1)[:, None], 1e-24))
    shares: np.ndarray = np.square(np.clip(cosine, 0, 1)).mean(axis=0)
    return shares


def baseline_figure(found: Baseline) -> Figure:
    """Return the share explained against the number of components, the rVAE marked, and examples beside."""
    at = found.pca[min(found.numbers, len(found.pca)) - 1]
    said = f"With {found.numbers} numbers a column the rVAE explains {found.rvae:.0%} of the sub-images, PCA {at:.0%}"
    figure = style.card(11.2, 5.0, "Against principal components", said)
    axes = figure.add_axes((0.075, 0.13, 0.37, 0.66))
    style.dark_axes(axes, ("numbers a column", "variance explained [%]"))
    axes.plot(np.arange(1, len(found.pca) + 1), 100 * found.pca, color=style.CLASS_COLOURS[1], marker="o", markersize=4, label="PCA")
    axes.plot([found.numbers], [100 * found.rvae], color=style.CLASS_COLOURS[0], marker="D", markersize=9, linestyle="", label="rVAE")
    axes.set_ylim(0, 102)
    axes.legend(frameon=False, labelcolor=style.INK, loc="lower right")
    rows = ("measured", "rVAE", f"PCA, {min(found.numbers, len(found.pca))}")
    side, left = 1.025, 6.44
    limits = style.robust_limits(found.examples[0], 0.5, 99.5)
    panels = style.panels(figure)
    for row, name in enumerate(rows):
        bottom = 4.0 - (row + 1) * (side + 0.225)
        panels.text(left - 1.01, bottom + side / 2, name, color=style.INK, fontsize=11, va="center")
        for k in range(SHOWN):
            style.panel(panels, left + k * (side + 0.134), bottom, side, found.examples[row, k], "inferno", limits)
    return figure


def _scaled(rows: np.ndarray) -> np.ndarray:
    centred = rows - rows.mean(axis=1, keepdims=True)
    return np.asarray(centred / np.maximum(centred.std(axis=1, keepdims=True), 1e-12))
