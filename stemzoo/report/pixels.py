"""Images on an axes, scaled to the canvas by Pillow: matplotlib's own images take 50 ms each, half of all the time that a report took.

Owns how an image is scaled and coloured. Called by whatever in `stemzoo.report` shows an image; matplotlib draws what lies over it.
"""

from __future__ import annotations

import numpy as np
from matplotlib import colormaps
from matplotlib.artist import Artist
from matplotlib.backend_bases import RendererBase
from PIL import Image

Extent = tuple[float, float, float, float]
"""left, right, bottom, top of an image in the coordinates of its axes."""
LARGE = 3.0  # canvas pixels a pixel from which a pixel is shown as a square, as it was measured


class Pixels(Artist):
    """A picture over `extent`, cut off at the edge of the axes; `smooth` interpolates it where its pixels are small on the canvas."""

    def __init__(self, picture: Image.Image, extent: Extent, *, smooth: bool = False, zorder: float = 0) -> None:
        super().__init__()
        self.picture, self.extent, self.smooth = picture, extent, smooth
        self.set_zorder(zorder)
        self.set_in_layout(False)

    def draw(self, renderer: RendererBase) -> None:
        """Scale what is seen of the picture to the pixels that it takes up on the canvas, and put it there."""
        axes = self.axes
        assert axes is not None
        left, right, bottom, top = self.extent
        (x0, y0), (x1, y1) = axes.transData.transform([(left, bottom), (right, top)])
        seen = axes.bbox
        x, y = round(max(x0, seen.x0)), round(max(y0, seen.y0))
        width, height = round(min(x1, seen.x1)) - x, round(min(y1, seen.y1)) - y
        if width < 1 or height < 1:
            return
        across, down = self.picture.width / (x1 - x0), self.picture.height / (y1 - y0)
        first, last = max((x - x0) * across, 0), min((x + width - x0) * across, self.picture.width)
        upper, lower = max((y1 - y - height) * down, 0), min((y1 - y) * down, self.picture.height)
        how = Image.Resampling.BILINEAR if self.smooth and across > 1 / LARGE else Image.Resampling.NEAREST
        shown = self.picture.resize((width, height), how, (first, upper, last, lower)).convert("RGBA")
        context = renderer.new_gc()
        renderer.draw_image(context, x, y, np.array(shown.transpose(Image.Transpose.FLIP_TOP_BOTTOM)))
        context.restore()


def coloured(values: np.ndarray, cmap: str, limits: tuple[float, float]) -> Image.Image:
    """Return values (H, W) as a picture in the colours of a map that ends at `limits`, the first of them where these are equal; NaN is
    transparent."""
    low, high = limits
    levels = np.clip((values - low) * (255 / (high - low) if high > low else 0.0), 0, 255)
    if cmap == "gray" and np.isfinite(levels).all():
        return Image.fromarray(levels.astype(np.uint8))
    return Image.fromarray(np.asarray(colormaps[cmap](np.ma.masked_invalid(levels / 255), bytes=True)))
