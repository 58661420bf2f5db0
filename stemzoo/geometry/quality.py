"""Signs that a frame nobody annotated was not located well. Owns `judge` and the sentences it gives; NumPy only.

None of the signs needs counts or truth: columns too near each other, stretches of structure without columns, maxima of the network that are
neither here nor there, peaks of another width than the network was shown, dark peaks. Called by runtime.pipeline; the report says the
sentences.
"""

from __future__ import annotations

from typing import Dict, Optional

import numpy as np

from stemzoo.geometry.neighbours import nearest_distance
from stemzoo.geometry.polarity import polarity
from stemzoo.types import Quality

SHORT = 0.6  # of the usual distance to the nearest column
REGULAR = 0.3  # largest relative scatter of nearest distances among columns that lie on lattices
GAP = 1.6  # typical distances from the nearest column: beyond, another should have been found
STRUCTURED = 0.7  # of the contrast around columns: as much of it elsewhere is structure too
FEWEST = 12  # columns that tell what is usual
MISTRUST_SHORT, MISTRUST_GAPS, MISTRUST_UNDECIDED, MISTRUST_DISPUTED = 0.08, 0.1, 0.25, 0.1
MISTRUST_POLARITY = -0.2  # of 188 simulated frames none lies below, inverted 109 of 112 (scripts/bench_trust.py)
KNOWN_WIDTHS = (0.25, 0.95)  # Å, sigma of the peaks that networks are trained on


def judge(
    image: np.ndarray, yx: np.ndarray, accepted: int, doubtful: int, width: Optional[float] = None, width_px: Optional[float] = None
) -> Quality:
    """Return the quality of the columns of one frame.

    Args:
        image: (H, W), cleaned.
        yx: (n, 2) px, located columns.
        accepted, doubtful: how many maxima of the network's map are columns to it, and how many are neither columns nor nothing.
        width, width_px: sigma of the typical peak, in Å and in pixels of the image; None where unknown.
    """
    n = len(yx)
    undecided = doubtful / max(accepted + doubtful, 1)
    if n < FEWEST:
        return Quality(undecided=undecided, width=width)
    typical = (image.shape[0] * image.shape[1] / n) ** 0.5
    nearest = nearest_distance(yx, 1.2 * typical)  # most have a neighbour so near, and are done
    finite = nearest[np.isfinite(nearest)]
    if len(finite) < FEWEST:
        return Quality(undecided=undecided, width=width)
    usual = float(np.median(finite))
    short = float((nearest < SHORT * usual).mean())
    scatter = 1.4826 * float(np.median(np.abs(finite - usual))) / usual
    # pairs and rows stand closer than what they leave between them
    spacing = max(usual, min(typical, 2 * usual))
    gaps = _gaps(image, yx, spacing) if scatter < REGULAR else None
    return Quality(short, gaps, undecided, width, polarity=None if width_px is None else polarity(image, width_px))


def reasons(quality: Quality) -> Dict[str, str]:
    """Return why columns of this quality should not be trusted, a sentence by the name of each sign that speaks against them."""
    said: Dict[str, str] = {}
    if quality.short_pairs is not None and quality.short_pairs > MISTRUST_SHORT:
        said["short_pairs"] = (
            f"{quality.short_pairs:.0%} of the columns lie nearer than {SHORT:g} of the usual distance to another: some may be one column "
            "found twice."
        )
    if quality.gaps is not None and quality.gaps > MISTRUST_GAPS:
        said["gaps"] = (
            f"{quality.gaps:.0%} of the area with as much contrast as around the columns holds none: columns may have been missed."
        )
    if quality.undecided > MISTRUST_UNDECIDED:
        said["undecided"] = (
            f"{quality.undecided:.0%} of the network's maxima are neither clearly columns nor clearly none: the frame is noisy, or unlike "
            "what it was trained on."
        )
    if quality.disputed is not None and quality.disputed > MISTRUST_DISPUTED:
        said["disputed"] = (
            f"{quality.disputed:.0%} of the columns are not found by every network of the ensemble: the frame may be unlike what they were "
            "trained on."
        )
    if quality.polarity is not None and quality.polarity < MISTRUST_POLARITY:
        said["polarity"] = (
            "What is sharp in the frame is dark: its contrast is inverted, as in bright field, and what was found are the bright gaps "
            "between the columns; take the dark-field signal, or invert the frame."
        )
    low, high = KNOWN_WIDTHS
    if quality.width is not None and not low <= quality.width <= high:
        said["width"] = (
            f"The peaks are {quality.width:.2g} Å wide (σ), outside the {low:g}–{high:g} Å that networks are trained on: the pixel size "
            "may be wrong."
        )
    return said


def _gaps(image: np.ndarray, yx: np.ndarray, spacing: float) -> float:
    """Return the share of the structured area that lies farther than it should from any column.

    The frame is divided into squares with a side of the typical distance; a square is structured if its contrast, noise averaged out over a
    quarter of that distance, is like that of the squares around columns.
    """
    fine = max(1, round(spacing / 4))
    height, width = (length // (4 * fine) for length in image.shape)
    if min(height, width) < 3:
        return 0.0
    side = 4 * fine
    rows = image[: height * side, : width * side].reshape(height * 4, fine, width * side).sum(axis=1)
    means = sum(rows[:, first::fine] for first in range(fine)) / np.float64(fine * fine)
    contrast = means.reshape(height, 4, width, 4).std(axis=(1, 3))
    centre_y, centre_x = (np.arange(count) * side + (side - 1) / 2 for count in (height, width))
    distance = _distance_to_nearest(centre_y, centre_x, yx, side, GAP * spacing)
    occupied = distance < spacing
    if not occupied.any():
        return 0.0
    structured = contrast >= STRUCTURED * float(np.median(contrast[occupied]))
    return float((structured & (distance > GAP * spacing)).sum() / max(1, structured.sum()))


def _distance_to_nearest(centre_y: np.ndarray, centre_x: np.ndarray, yx: np.ndarray, side: int, reach: float) -> np.ndarray:
    """Return how far each square's centre (h, w) lies from the nearest column, up to about `reach`; infinity beyond."""
    steps = int(reach / side + 0.5)
    around = np.arange(-steps, steps + 1)[:, None]
    # a rim of squares that nobody asks for takes what columns near the edges write beyond them
    rows, cols = (len(centres) + 2 * steps + 2 for centres in (centre_y, centre_x))
    nearest = np.full(rows * cols, np.inf)
    index, squared = [], []
    for axis, centres in enumerate((centre_y, centre_x)):
        square = np.clip(np.floor(yx[:, axis] / side).astype(np.int64), -1, len(centres)) + around
        index.append(square + steps + 1)
        squared.append((square * side + (side - 1) / 2 - yx[:, axis]) ** 2)
    for row, dy in zip(index[0], squared[0]):
        np.minimum.at(nearest, (row * cols + index[1]).ravel(), (dy + squared[1]).ravel())
    inner: np.ndarray = np.sqrt(nearest.reshape(rows, cols)[steps + 1 :, steps + 1 :][: len(centre_y), : len(centre_x)])
    return inner
