"""Kinds of local structure: clusters of columns in latent space, their number chosen by the Bayesian information criterion.

Owns the mixture, `clusters.csv` and the figure; called by report.pictures. A proposal to look at, no truth: latents that vary smoothly are
cut into pieces by any mixture.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure

from stemzoo.report import style
from stemzoo.report.field import Field
from stemzoo.report.figures import show_classes
from stemzoo.report.legends import OUTSIDE_GREY
from stemzoo.types import Encoding

FILE = "clusters.csv"
MOST_CLUSTERS = 8
FITTED = 3000  # columns that the mixtures are fitted to, spread evenly; all are assigned


@dataclass(frozen=True, slots=True)
class Clusters:
    """Columns by kind.

    Args:
        label: (N,) int, the largest cluster first; -1 for a column without latents. probability: (N,) of that label.
        bic: (K,) criterion for 1 … K clusters; the smallest was taken.
    """

    label: np.ndarray
    probability: np.ndarray
    bic: np.ndarray

    @property
    def n(self) -> int:
        """How many clusters there are."""
        return int(self.label.max()) + 1


def find_clusters(encoding: Encoding) -> Clusters | None:
    """Return the columns' clusters by a mixture of full Gaussians over the latents; None for fewer than 32 columns with latents.

    Source: G. Schwarz, Ann. Stat. 6 (1978) 461, for the criterion.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.mixture import GaussianMixture

    known = np.flatnonzero(np.isfinite(encoding.latents).all(axis=1))
    if len(known) < 32:
        return None
    latents = np.asarray(encoding.latents[known], dtype=np.float64)
    scaled = (latents - latents.mean(axis=0)) / np.maximum(latents.std(axis=0), 1e-9)
    part = scaled[:: -(-len(scaled) // FITTED)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        mixtures = [
            GaussianMixture(k, reg_covar=1e-4, n_init=2, random_state=0).fit(part)
            for k in range(1, min(MOST_CLUSTERS, len(part) // 16) + 1)
        ]
    bic = np.array([mixture.bic(part) for mixture in mixtures])
    chances = mixtures[int(bic.argmin())].predict_proba(scaled)
    order = np.argsort(-np.bincount(chances.argmax(axis=1), minlength=chances.shape[1]), kind="stable")
    chances = chances[:, order]
    label, probability = np.full(len(encoding), -1), np.full(len(encoding), np.nan)
    label[known], probability[known] = chances.argmax(axis=1), chances.max(axis=1)
    return Clusters(label, probability, bic)


def write_clusters(path: Path, encoding: Encoding, clusters: Clusters) -> None:
    """Write frame, column, cluster (from 1; empty without latents) and its probability."""
    rows = ["frame,column,cluster,probability"]
    for frame, column, label, chance in zip(encoding.frame, encoding.column, clusters.label, clusters.probability, strict=True):
        rows.append(f"{frame},{column},{label + 1},{chance:.4f}" if label >= 0 else f"{frame},{column},,")
    path.write_text("\n".join(rows) + "\n", encoding="utf-8")


def colours_of(label: np.ndarray) -> np.ndarray:
    """Return RGBA (N, 4), grey for -1."""
    palette = np.array([to_rgba(colour) for colour in style.CLASS_COLOURS])
    colours = palette[label % len(palette)]
    colours[label < 0] = to_rgba(OUTSIDE_GREY)
    return np.asarray(colours)


def cluster_figure(field: Field, clusters: Clusters, first: slice) -> Figure:
    """Return the map of frame 0 by cluster; `first` are its rows."""
    label = clusters.label[first]
    counts = np.bincount(label[label >= 0], minlength=clusters.n)
    rows = [(f"kind {k + 1}", style.CLASS_COLOURS[k % len(style.CLASS_COLOURS)], int(count)) for k, count in enumerate(counts)]
    caption = f"Gaussian mixture over the latents; {clusters.n} of 1 to {len(clusters.bic)} clusters has the smallest BIC"
    return show_classes(field, colours_of(label), rows, "Kinds of local structure", caption)
