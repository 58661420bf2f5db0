"""The one rule for colour: equal channels are grey, anything else is refused. NumPy only. Called by io.read, io.picture and io.tiff."""

from __future__ import annotations

import numpy as np

from stemzoo.errors import ReadError

GREY_TOLERANCE = 2
"""Grey levels by which channels of a grey picture may differ: what JPEG's chroma coding leaves."""


def grey(data: np.ndarray, path: str) -> tuple[np.ndarray, tuple[str, ...]]:
    """Return (…, 2–4) channels as one grey channel (…), and a notice.

    Args:
        data: last axis grey + alpha, RGB or RGBA; integers or floats.

    Raises: ReadError if the colour channels differ by more than `GREY_TOLERANCE` levels.
    """
    channels = data.shape[-1]
    colours = data[..., :1] if channels == 2 else data[..., :3]
    spread = colours.max(axis=-1).astype(np.float64) - colours.min(axis=-1)
    coloured = float((spread > GREY_TOLERANCE).mean())
    if coloured > 0:
        raise ReadError(
            f"{path}: {_share(coloured)} of its pixels are coloured; wanted grey intensities: a colour map or a drawn scale bar "
            "cannot be undone, so export the image as 16-bit grey tif or read the microscope's own file"
        )
    name = {2: "grey with alpha", 3: "RGB", 4: "RGBA"}[channels]
    exact = spread.max() == 0
    image = colours[..., 0] if exact else colours.mean(axis=-1).astype(np.float32)
    return np.ascontiguousarray(image), (f"the {name} picture has equal channels and was read as grey",)


def _share(share: float) -> str:
    """Return a share that is more than nothing in percent: never 0 %, and 100 % only for all.

    >>> _share(1.0), _share(0.9996), _share(0.034), _share(2e-5)
    ('100 %', '99 %', '3 %', '0.002 %')
    """
    return f"{100 * share:.1g} %" if share < 0.01 else f"{int(100 * share)} %"
