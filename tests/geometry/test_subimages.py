"""Windows cut at sub-pixel centres show the column in their very middle."""

from __future__ import annotations

import numpy as np
import pytest
from simulated import lattice, scene

from stemzoo.errors import ShapeError
from stemzoo.geometry.subimages import Cutouts, cut
from stemzoo.types import Columns, Frames


def _sampled(yx: np.ndarray, peak: np.ndarray, sigma: float, centre: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    y, x = centre[0] + offsets[:, None], centre[1] + offsets[None]
    return np.asarray(sum(a * np.exp(-((y - p[0]) ** 2 + (x - p[1]) ** 2) / (2 * sigma**2)) for p, a in zip(yx, peak, strict=True)))


@pytest.mark.parametrize(("window", "size"), [(21.0, None), (20.0, None), (17.3, 23), (16.0, 32), (40.0, 25)])
def test_sub_images_show_what_is_there_at_any_window_and_size(window: float, size: int | None) -> None:
    yx, peak = lattice("perovskite", 16, 160)
    frames = Frames(scene(yx, peak, 3.0, (160, 160)).expected.astype(np.float32)[None], 0.2, "user")
    cut_out = cut(frames, Columns.at(yx), window, size)
    samples = cut_out.window_px
    assert samples == (size or round(window))
    assert cut_out.pixel_size == pytest.approx(0.2 * window / samples)
    step = window / samples
    offsets = (np.arange(samples) - (samples - 1) / 2) * step
    tolerance = 0.01 if step <= 1 else 0.09  # coarser samples are averages
    for k in np.flatnonzero(cut_out.inside)[::7]:
        assert cut_out.data[k] == pytest.approx(_sampled(yx, peak, 3.0, yx[k], offsets), abs=tolerance)
    if samples % 2:
        middle = cut_out.data[cut_out.inside][:, samples // 2, samples // 2]
        assert middle == pytest.approx(peak[cut_out.inside], rel=0.09)


def test_windows_over_the_edge_are_marked_and_mirrored() -> None:
    ramp = np.broadcast_to(np.arange(64.0, dtype=np.float32), (64, 64))
    cut_out = cut(Frames(ramp[None]), Columns.at(np.array([[32.0, 32.0], [32.0, 2.0], [63.0, 63.0]])), 9)
    assert cut_out.inside.tolist() == [True, False, False]
    assert cut_out.data[1, 4] == pytest.approx([1, 0, 0, 1, 2, 3, 4, 5, 6], abs=1e-4)


def test_stacks_keep_frame_and_column_numbers() -> None:
    data = np.stack([np.full((32, 32), value, np.float32) + np.eye(32, dtype=np.float32) for value in (1.0, 2.0)])
    tables = [Columns.at(np.array([[10.0, 20.0]]), frame=0), Columns.at(np.array([[16.0, 5.0], [20.0, 28.0]]), frame=1)]
    cut_out = cut(Frames(data), tables, 5)
    assert cut_out.frame.tolist() == [0, 1, 1]
    assert cut_out.column.tolist() == [0, 0, 1]
    assert cut_out.data.min(axis=(1, 2)) == pytest.approx([1.0, 2.0, 2.0])
    assert len(cut(Frames(data), Columns.empty(), 5)) == 0


def test_a_window_larger_than_the_frame_works_and_absurd_ones_are_refused() -> None:
    frames = Frames(np.random.default_rng(0).random((1, 20, 24), np.float32))
    cut_out = cut(frames, Columns.at(np.array([[10.0, 12.0]])), 50, 25)
    assert np.isfinite(cut_out.data).all()
    assert not cut_out.inside.any()
    with pytest.raises(ShapeError, match=r"window of 100 px .* wanted 2 to 80 px"):
        cut(frames, Columns.at(np.array([[10.0, 12.0]])), 100)
    with pytest.raises(ShapeError, match="window of 1 px"):
        cut(frames, Columns.at(np.array([[10.0, 12.0]])), 1)


@pytest.mark.parametrize("window", [13.5, 9.0, 6.1])
def test_windows_are_the_same_however_they_are_asked_for(window: float) -> None:
    frames = Frames(np.random.default_rng(0).random((1, 64, 70), dtype=np.float32))
    columns = Columns.at(np.random.default_rng(1).uniform(0, 63, (400, 2)))
    whole, windows = cut(frames, columns, window, 9), Cutouts(frames, columns, window, 9)
    assert np.array_equal(windows.inside, whole.inside) and len(windows) == len(whole)
    some = np.flatnonzero(whole.inside)[5::7]
    assert np.array_equal(windows.cut(some), whole.data[some])
    place = np.full((len(some), 9, 9), np.nan, np.float32)
    assert windows.cut(some[::-1], place) is place and np.array_equal(place, whole.data[some[::-1]])


def test_a_frame_without_columns_has_no_windows() -> None:
    windows = Cutouts(Frames(np.zeros((1, 20, 24), np.float32)), Columns.empty(), 9)
    assert len(windows) == 0 and windows.cut(np.zeros(0, int)).shape == (0, 9, 9)
