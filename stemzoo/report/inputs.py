"""What a report shows beyond the Analysis. Called by report.html and its pictures, and by whoever writes a report."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np

from stemzoo.types import SubImages, Tracks

Decode = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""(M, Z) latents, (M,) angles → (M, S, S) patterns."""


@dataclass(frozen=True, slots=True)
class ModelNote:
    """What the page says of a model, from its card."""

    role: str
    id: str
    sha256: str
    title: str = ""
    materials: tuple[str, ...] = ()
    limits: tuple[str, ...] = ()
    citation: str = ""
    licence: str = ""


@dataclass(frozen=True, slots=True)
class ReportInputs:
    """What the page shows beyond the Analysis; each part may be missing.

    Args:
        probability: (h, w) of frame 0, probability that a column is there, at the network's sampling.
        subimages: of frame 0, in the order of its columns; for class averages.
        decode: for the manifold and reconstructions.
        tracks: the columns linked from frame to frame.
        models: from the cards. `options`: as given by the user, shown under provenance.
    """

    probability: np.ndarray | None = None
    subimages: SubImages | None = None
    decode: Decode | None = None
    tracks: Tracks | None = None
    models: tuple[ModelNote, ...] = ()
    options: Mapping[str, str] = field(default_factory=dict)
