"""The live page: plain HTML, CSS and modules of JavaScript, used as they lie here. Owns the folder, and the report's colours for it.

Called by live.pages.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

PAGE = Path(__file__).parent
STEPS = 256


@cache
def colours() -> dict[str, list[list[int]]]:
    """Return the report's colour maps, 256 × RGB in 0–255: `angle` goes round, `latent` is sequential."""
    import matplotlib
    import numpy as np

    from stemzoo.report.style import LATENT_MAP, cyclic_map

    at = np.arange(STEPS)
    maps = {"angle": cyclic_map()(at / STEPS), "latent": matplotlib.colormaps[LATENT_MAP](at / (STEPS - 1))}
    return {name: np.round(255 * np.asarray(rgba)[:, :3]).astype(int).tolist() for name, rgba in maps.items()}
