"""Whether a frame's peaks are bright, as in dark field, or dark, as in bright field and inverted exports. NumPy only. Called by quality."""

from __future__ import annotations

import numpy as np

from stemzoo.geometry.filters import blur, middle_of

SEEN_PX = 256  # side of the middle of the frame that tells it
EVERY = 2  # of its rows and columns, so many-th are looked at
ROUNDING = 1e-6  # of the brightest pixel: what varies less is no structure
FARTHEST = 6.0  # standard deviations: what is beyond, a spike or a dark row, counts as so much


def polarity(image: np.ndarray, width_px: float) -> float:
    """Return how much sharper bright is than dark in a frame: about 0.2 to 3 where its peaks are bright, as much below 0 where dark.

    A column is narrower than what lies between columns, in lattices of any kind; so the skewness of the frame's curvature, taken over half
    the width of a peak, has the sign of the peaks. Noise and slow background are symmetric, and only draw it towards 0.

    Args: image: (H, W), cleaned. width_px: sigma of the typical peak [px].
    """
    narrow = max(1.0, 0.5 * width_px)
    middle = middle_of(image, SEEN_PX).astype(np.float32)
    curvature = blur(middle, narrow, EVERY) - blur(middle, 1.4 * narrow, EVERY)
    rim = min(int(3 * narrow / EVERY), (min(curvature.shape) - 1) // 4)  # where the edges' reflection makes peaks of its own
    curvature = curvature[rim : curvature.shape[0] - rim, rim : curvature.shape[1] - rim]
    curvature = curvature - curvature.mean(dtype=np.float64)
    spread = float(curvature.std(dtype=np.float64))
    if not spread > ROUNDING * float(np.abs(middle).max()):
        return 0.0
    bounded = np.clip(curvature / spread, -FARTHEST, FARTHEST)
    return float((bounded * bounded * bounded).mean(dtype=np.float64))
