"""Figures to bytes: PNG files for slides, and what the page carries inside it. Called by `report.pictures`.

A dark plate enters the page as JPEG with full colour resolution, so that thin coloured rings survive at a third of the PNG's size;
a plot on white enters as a drawing whose ink follows the page's light or dark colours.
"""

from __future__ import annotations

import base64
import io
import re
from pathlib import Path

from matplotlib.figure import Figure
from PIL import Image

from stemzoo.report import style

THEME = {
    style.PLOT_INK: "var(--ink)",
    style.PLOT_MUTED: "var(--muted)",
    style.PLOT_GRID: "var(--line)",
    style.PLOT_FILL: "var(--blue)",
    style.PLOT_MARK: "var(--red)",
}


def picture_of(figure: Figure) -> Image.Image:
    """Return the figure, drawn at its own resolution."""
    canvas = figure.canvas
    canvas.draw()
    drawn = canvas.buffer_rgba()  # type: ignore[attr-defined]
    return Image.frombuffer("RGBX", canvas.get_width_height(), drawn, "raw", "RGBX", 0, 1).convert("RGB")


def write_png(picture: Image.Image, path: Path) -> None:
    """Write the picture of a figure. Lets other threads work meanwhile. Raises: OSError."""
    picture.save(path, compress_level=3, dpi=(style.DPI, style.DPI))


def save_png(figure: Figure, path: Path) -> Image.Image:
    """Write the figure as PNG at its own resolution and return the picture. Raises: OSError."""
    picture = picture_of(figure)
    write_png(picture, path)
    return picture


def as_jpeg(picture: Image.Image) -> str:
    """Return the picture as a data URI."""
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=88, subsampling=0)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def as_drawing(figure: Figure) -> str:
    """Return a figure that was drawn before as an <svg> element with the page's colour variables and font, without a prologue or fixed
    size."""
    figure.set_layout_engine("none")  # all has its place since it was drawn first
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", facecolor="none", metadata={"Date": None, "Creator": None})
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", svg, count=1)
    svg = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", svg, count=1)
    svg = re.sub(r"font: ([^;\"]*?px) [^;\"]*", r"font: \1 inherit-face", svg).replace("inherit-face", "var(--face)")
    for colour, name in THEME.items():
        svg = svg.replace(colour, name)
    return svg
