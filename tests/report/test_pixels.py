"""An image lies on the canvas where its axes say, pixel for pixel as matplotlib would have it."""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from stemzoo.report.pixels import Extent, Pixels, coloured

SHAPE = (20, 30)
EXTENT = (-0.5, 29.5, 19.5, -0.5)
PART = {"xlim": (4.3, 17.8), "ylim": (15.1, 2.6)}
WHOLE = {"xlim": (-0.5, 29.5), "ylim": (19.5, -0.5)}
BEYOND = {"xlim": (-6.0, 40.0), "ylim": (30.0, -9.0)}


def bare_axes(view: dict[str, tuple[float, float]], place: tuple[float, ...] = (0.1, 0.2, 0.75, 0.7)) -> Axes:
    figure = Figure(figsize=(4, 3), dpi=100, facecolor="black")
    FigureCanvasAgg(figure)
    axes = figure.add_axes(place)  # type: ignore[call-overload]
    axes.set_axis_off()
    axes.set(**view)
    return axes


def canvas(axes: Axes) -> np.ndarray:
    """Return the drawn figure (H, W, 3), float."""
    figure = axes.figure
    figure.canvas.draw()
    return np.asarray(figure.canvas.buffer_rgba())[..., :3].astype(float)  # type: ignore[attr-defined]


def with_pixels(image: np.ndarray, view: dict[str, tuple[float, float]], extent: Extent = EXTENT, smooth: bool = False) -> np.ndarray:
    axes = bare_axes(view)
    axes.add_artist(Pixels(coloured(image, "gray", (0.0, 1.0)), extent, smooth=smooth))
    return canvas(axes)


@pytest.mark.parametrize("view", [WHOLE, PART, BEYOND], ids=["whole", "part", "beyond"])
def test_squares_lie_where_matplotlib_draws_them(view: dict[str, tuple[float, float]]) -> None:
    image = np.random.default_rng(0).random(SHAPE)
    axes = bare_axes(view)
    axes.imshow(image, cmap="gray", vmin=0, vmax=1, extent=EXTENT, interpolation="nearest", aspect="auto")
    axes.set(**view)
    ours, theirs = with_pixels(image, view), canvas(axes)
    assert (np.abs(ours - theirs).max(axis=-1) > 8).mean() < 0.03, "but for a few at edges; a canvas pixel off would be a fifth"


@pytest.mark.parametrize("view", [WHOLE, PART], ids=["whole", "part"])
@pytest.mark.parametrize("smooth", [False, True])
def test_a_bright_pixel_shines_at_its_coordinates(view: dict[str, tuple[float, float]], smooth: bool) -> None:
    image = np.zeros(SHAPE)
    image[9, 12] = 1
    drawn = with_pixels(image, view, smooth=smooth)[..., 0]
    axes = bare_axes(view)
    at = axes.transData.transform((12, 9))
    y, x = np.indices(drawn.shape) + 0.5
    found = np.array([(drawn * x).sum(), (drawn * (drawn.shape[0] - y)).sum()]) / drawn.sum()
    assert found == pytest.approx(at, abs=0.6)


def test_small_pixels_are_interpolated_and_large_ones_stay_squares() -> None:
    fine, coarse = np.indices((200, 300)).sum(axis=0) % 2 * 1.0, np.indices((10, 15)).sum(axis=0) % 2 * 1.0
    for image, greys in ((fine, True), (coarse, False)):
        extent = (-0.5, image.shape[1] - 0.5, image.shape[0] - 0.5, -0.5)
        drawn = with_pixels(image, {"xlim": extent[:2], "ylim": extent[2:]}, extent, smooth=True)
        assert ((drawn > 20) & (drawn < 235)).any() == greys


def test_what_is_unknown_shows_the_paper() -> None:
    image = np.ones(SHAPE)
    image[:10] = np.nan
    drawn = with_pixels(image, WHOLE)
    assert drawn[:100, 60:300].max() == 0 and drawn[150:220, 60:300].min() == 255


def test_a_pattern_without_contrast_has_the_first_colour() -> None:
    """As a decoder that draws nothing gives it; matplotlib does the same."""
    assert (np.asarray(coloured(np.ones(SHAPE), "gray", (1.0, 1.0))) == 0).all()
    assert np.unique(np.asarray(coloured(np.ones(SHAPE), "inferno", (1.0, 1.0))).reshape(-1, 4), axis=0).tolist() == [[0, 0, 3, 255]]


def test_a_picture_out_of_sight_is_not_drawn() -> None:
    assert with_pixels(np.ones(SHAPE), {"xlim": (40, 60), "ylim": (60, 40)}).max() == 0
