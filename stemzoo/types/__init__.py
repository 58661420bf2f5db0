"""The things that travel through stemzoo: Frames, Columns, SubImages, Encoding, Analysis, Tracks. NumPy only; frozen; checked when made.

Conventions, stated here once:

* Positions are `yx` in pixels, float64; the centre of pixel [0, 0] is (0, 0).
* Pixel size is Å/px, scan pixels are square.
* Angles are radians, counter-clockwise as the image is displayed (row 0 at the top), in (-π, π]. Where a motif has n-fold symmetry
  the angle is known only modulo 2π/n, and `symmetry` says n.
* Dose is e⁻/Å². Any other unit is in the name (`window_px`, `energy_kev`).
* Frames are (T, H, W), sub-images (N, S, S), probabilities (C, H, W) with the background left out; float32 unless said otherwise.
* Frames and columns count from 0; a column's number is unique within its frame.
* A pixel size comes from `file`, `user`, `lattice` or is `unknown`.

Each prints as one line of what it holds, for it is looked at in notebooks; the numbers are in its fields.

Part of the instrument layer: Python 3.8 syntax, hence no `slots=True`.
"""

from __future__ import annotations

from stemzoo.types.analysis import Analysis, ModelId, Quality
from stemzoo.types.columns import COLUMN_FIELDS, Columns, Rows, Tracks
from stemzoo.types.encoding import ENCODING_FIELDS, ORDERS, SUB_IMAGE_FIELDS, Encoding, SubImages
from stemzoo.types.frames import MIN_FRAME_PX, Frames
from stemzoo.types.pixel_size import PIXEL_SIZE_SOURCES, check_pixel_size

__all__ = [
    "COLUMN_FIELDS",
    "ENCODING_FIELDS",
    "MIN_FRAME_PX",
    "ORDERS",
    "PIXEL_SIZE_SOURCES",
    "SUB_IMAGE_FIELDS",
    "Analysis",
    "Columns",
    "Encoding",
    "Frames",
    "ModelId",
    "Quality",
    "Rows",
    "SubImages",
    "Tracks",
    "check_pixel_size",
]
