"""Which pictures a report has, what is said of each and which file holds it. Owns headings and captions; loads matplotlib.

Called by report.html. Stacks show their first frame and the course over the frames; what a picture is of, its caption says.
"""

from __future__ import annotations

from concurrent.futures import Executor, Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from stemzoo.io.tracks import FILE as TRACKS_FILE
from stemzoo.report import baseline, clusters, figures, patterns, plots, render, style, tracks
from stemzoo.report.field import Field, field_of
from stemzoo.report.inputs import ReportInputs
from stemzoo.types import Analysis, Encoding

MAX_LATENT_MAPS = 6
MAX_TRAVERSALS = 4


@dataclass(frozen=True, slots=True)
class Picture:
    """One figure on the page: a data URI or an <svg> element, and the file that holds it as PNG. wide: it wants the page's whole width."""

    file: str
    heading: str
    caption: str
    uri: str = ""
    svg: str = ""
    wide: bool = False


@dataclass(frozen=True, slots=True)
class Album:
    """The pictures of a report, in order: images as plates, curves as drawings. `writer` saves each to `folder` beside the drawing of the
    next.

    frame: number of the one frame of a stack that maps are of; None where there is but one.
    """

    folder: Path
    writer: Executor
    frame: int | None = None
    plates: list[Picture] = field(default_factory=list)
    drawings: list[Picture] = field(default_factory=list)
    saved: list[Future[None]] = field(default_factory=list)

    def plate(self, file: str, heading: str, caption: str, figure: Figure, of_all: bool = False) -> None:
        """Add a figure that shows images, of all frames or of the one; the page holds it as JPEG."""
        if self.frame is not None:
            caption += " All frames." if of_all else f" Frame {self.frame}."
        picture = render.picture_of(figure)
        uri = render.as_jpeg(picture)  # before it is saved beside: Pillow keeps on a picture how it is being encoded
        self._save(file, picture)
        self.plates.append(Picture(file, heading, caption, uri=uri))

    def drawing(self, file: str, heading: str, caption: str, figure: Figure, wide: bool = False) -> None:
        """Add a figure of curves; the page holds it as SVG."""
        self._save(file, render.picture_of(figure))
        self.drawings.append(Picture(file, heading, caption, svg=render.as_drawing(figure), wide=wide))

    def _save(self, file: str, picture: Image.Image) -> None:
        self.saved.append(self.writer.submit(render.write_png, picture, self.folder / file))


def draw(analysis: Analysis, inputs: ReportInputs, folder: Path) -> Album:
    """Return every picture that the analysis supports, saved to `folder`. Raises: OSError if the folder cannot be written to."""
    encoding = analysis.encoding
    with matplotlib.rc_context(style.FONT), ThreadPoolExecutor(1) as writer:
        view = field_of(analysis)
        album = Album(folder, writer, view.columns.frame if len(analysis.frames) > 1 else None)
        album.plate("frame.png", "Columns", "A ring marks each column, a cross a fit that failed.", figures.frame_figure(view))
        if inputs.probability is not None:
            caption = "The network's probability of a column; contours at 0.25, 0.5 and 0.75 on the right."
            album.plate("segmentation.png", "Segmentation", caption, figures.segmentation_figure(view, inputs.probability))
        if encoding is not None and len(view.columns) and np.isfinite(encoding.angle).any():
            _maps(album, view, encoding)
            _latent_space(album, encoding, inputs)
            _measured(album, encoding, inputs)
            _kinds(album, view, encoding)
        _curves(album, view, analysis, inputs)
    for saved in album.saved:
        saved.result()
    return album


def _maps(album: Album, view: Field, encoding: Encoding) -> None:
    """Add what the columns of the frame are, column by column."""
    shown = encoding.rows(slice(0, len(view.columns)))
    album.plate("angle.png", "Angle", _angle_caption(figures.angle_colours(shown)[1]), figures.angle_figure(view, shown))
    for k in range(min(encoding.latents.shape[1], MAX_LATENT_MAPS)):
        caption = "Each column's neighbourhood takes the colour of its latent; the histogram is the key."
        album.plate(f"latent_{k + 1}.png", f"Latent {k + 1}", caption, figures.latent_figure(view, shown.latents[:, k], k + 1))


def _latent_space(album: Album, encoding: Encoding, inputs: ReportInputs) -> None:
    """Add where columns lie in latent space, and what the decoder draws there."""
    known = encoding.rows(np.isfinite(encoding.angle) & np.isfinite(encoding.latents).all(axis=1))
    album.plate("latents.png", "Latent space", "Every column by its first two latents.", patterns.scatter_figure(known), of_all=True)
    if inputs.decode is not None:
        caption = "Read along an axis to see what that latent means."
        album.plate("manifold.png", "Latent manifold", caption, patterns.manifold_figure(known, inputs.decode), of_all=True)


def _measured(album: Album, encoding: Encoding, inputs: ReportInputs) -> None:
    """Add what the sub-images of the frame show along each latent, and what linear components would make of them."""
    pieces = inputs.subimages
    if pieces is None:
        return
    rows = encoding.rows(slice(0, len(pieces)))
    groups = [patterns.groups_of(rows, pieces, inputs.decode, k) for k in range(min(encoding.latents.shape[1], MAX_TRAVERSALS))]
    if groups and groups[0]:
        caption = "Averages of measured sub-images along each latent: what it stands for in the data."
        album.plate("patterns.png", "Measured patterns", caption, patterns.groups_figure(groups))
    against = None if inputs.decode is None else baseline.compare(rows, pieces, inputs.decode)
    if against is not None:
        caption = f"{against.n} sub-images inside the inscribed disc; PCA was fitted to these very ones."
        album.plate("baseline.png", "rVAE and PCA", caption, baseline.baseline_figure(against))


def _kinds(album: Album, view: Field, encoding: Encoding) -> None:
    """Add clusters of columns, where there are any, and write the table of them."""
    kinds = clusters.find_clusters(encoding)
    if kinds is None:
        return
    clusters.write_clusters(album.folder / clusters.FILE, encoding, kinds)
    among = "" if album.frame is None else " of all frames"
    caption = f"A proposal to look at: clusters of columns{among} in latent space; every column's is in {clusters.FILE}."
    figure = clusters.cluster_figure(view, kinds, slice(0, len(view.columns)))
    album.plate("clusters.png", "Kinds of local structure", caption, figure)


def _curves(album: Album, view: Field, analysis: Analysis, inputs: ReportInputs) -> None:
    """Add histograms, and for a stack the courses over its frames."""
    if any(np.isfinite(columns.sigma).any() for columns in analysis.columns):
        album.drawing("sigma.png", "Precision", "Standard error of each position, from the fit.", plots.sigma_figure(analysis))
    if any(np.isfinite(columns.confidence).any() for columns in analysis.columns):
        album.drawing("confidence.png", "Confidence", "Probability that a column is there.", plots.confidence_figure(analysis))
    if len(view.columns) > 1:
        album.drawing("spacing.png", "Spacing", "Distance to the nearest neighbour.", plots.spacing_figure(analysis))
    if len(analysis.frames) > 1:
        album.drawing("series.png", "Over the frames", "How the stack develops.", plots.series_figure(analysis), wide=True)
        courses = None if inputs.tracks is None else tracks.tracks_figure(analysis, inputs.tracks)
        if courses is not None:
            caption = f"Each column's latents through the stack; those that change most are named as in {TRACKS_FILE}."
            album.drawing("tracks.png", "Columns through the stack", caption, courses, wide=True)


def _angle_caption(order: int) -> str:
    arms = "An arm shows" if order == 1 else f"{order} arms show"
    return f"{arms} each column's direction on the right; the wheel turns as the image is displayed."
