"""Square windows cut around columns, interpolated so that each column lies exactly in the middle. NumPy only.

`cut` returns all at once, for whoever learns from them; `Cutouts` cuts some at a time, for runtime.encoder. Called by runtime.pipeline and
by the training data module that fits an rVAE to one frame.
"""

from __future__ import annotations

from typing import Optional, Sequence, Tuple, Union

import numpy as np

from stemzoo.errors import ShapeError
from stemzoo.geometry.resample import rescale, to_rescaled
from stemzoo.types import Columns, Frames, SubImages

CHUNK_PX = 240_000  # interpolated pixels at a time: they and their weights fit a processor's cache
TAPS = 4  # pixels along one axis that a sample is made of


def cut(frames: Frames, columns: Union[Columns, Sequence[Columns]], window_px: float, size: Optional[int] = None) -> SubImages:
    """Return one S × S window per column, in the order frame, column; float32.

    Args:
        frames: the stack that the columns were found in.
        columns: one Columns per frame, or a single one for one frame; `Columns.frame` says which.
        window_px, size: as in `Cutouts`, which also says where the column lies.

    What reaches over the edge of the frame is filled by reflection and marked `inside=False`. Raises: as `Cutouts`.
    """
    tables = [columns] if isinstance(columns, Columns) else list(columns)
    samples, step = _sampling(frames, window_px, size)
    n = sum(len(table) for table in tables)
    data, inside = np.empty((n, samples, samples), np.float32), np.empty(n, bool)
    start = 0
    for table in tables:
        stop = start + len(table)
        if len(table):
            windows = Cutouts(frames, table, window_px, size)
            inside[start:stop] = windows.inside
            windows.cut(np.arange(len(table)), data[start:stop])
        start = stop
    return SubImages(
        data=data,
        frame=np.concatenate([np.full(len(t), t.frame, np.int64) for t in tables] or [np.zeros(0, np.int64)]),
        column=np.concatenate([np.arange(len(t), dtype=np.int64) for t in tables] or [np.zeros(0, np.int64)]),
        inside=inside,
        pixel_size=None if frames.pixel_size is None else frames.pixel_size * step,
    )


class Cutouts:
    """The sub-images of one frame's columns, each cut when it is asked for; several threads may ask.

    The column lies at ((S − 1) / 2, (S − 1) / 2) and samples are window_px / S apart; interpolation is cubic.

    Args:
        frames: the stack that the columns were found in, cleaned: pixels that are not finite spread over the samples that touch them.
        columns: those of the frame `columns.frame`.
        window_px: side of the window in pixels of the frame, may be fractional.
        size: samples S per side; round(window_px) if None. Where S samples are coarser than the frame, the frame is averaged first.

    Raises: ShapeError if the window is smaller than 2 samples or larger than four times the frame.
    """

    def __init__(self, frames: Frames, columns: Columns, window_px: float, size: Optional[int] = None) -> None:
        self.frame, self.window_px = columns.frame, window_px
        self.samples, step = _sampling(frames, window_px, size)
        reach = step * (self.samples - 1) / 2
        within = (columns.yx - reach >= 0) & (columns.yx + reach <= np.asarray(frames.shape) - 1)
        self.inside: np.ndarray = np.all(within, axis=1)
        self._centres, self._steps = np.asarray(columns.yx, dtype=np.float64), (step, step)
        if not len(columns):
            return  # nor need the frame show anything
        image = np.asarray(frames.frame(columns.frame), dtype=np.float32)
        if step > 1:
            image, factors = rescale(image, 1 / step)
            self._centres = to_rescaled(self._centres, factors)
            self._steps = (step * factors[0], step * factors[1])  # whole pixels make the factors differ from 1 / step by a hair
        self._image, before = _continued(image, self._centres, [(self.samples - 1) / 2 * each for each in self._steps])
        self._centres = self._centres + before

    def __len__(self) -> int:
        return len(self._centres)

    def cut(self, rows: np.ndarray, out: Optional[np.ndarray] = None) -> np.ndarray:
        """Return the windows of the columns `rows` (n,), (n, S, S) float32, written to `out` where it is given. What reaches over the edge
        of the frame is filled by reflection."""
        result: np.ndarray = np.empty((len(rows), self.samples, self.samples), np.float32) if out is None else out
        many = max(1, CHUNK_PX // self.samples**2)
        for start in range(0, len(rows), many):
            centres = self._centres[rows[start : start + many]]
            row_weight, row = _weights(centres[:, 0], self._steps[0], self.samples)
            col_weight, col = _weights(centres[:, 1], self._steps[1], self.samples, across=True)
            patch = _patches(self._image, row_weight.shape[2], col_weight.shape[1])[row, col]
            np.matmul(np.matmul(row_weight, patch), col_weight, out=result[start : start + many])
        return result


def _sampling(frames: Frames, window_px: float, size: Optional[int]) -> Tuple[int, float]:
    """Return the samples along the side of a window and the pixels of the frame from one to the next. Raises: as `Cutouts`."""
    samples, limit = round(float(window_px)) if size is None else int(size), 4 * min(frames.shape)
    if samples < 2 or not 2 <= window_px <= limit:
        got = f"a window of {window_px:g} px with {samples} samples"
        raise ShapeError(f"{frames.path}: {got} cannot be cut; wanted 2 to {limit} px (four times the frame) and 2 samples or more")
    return samples, window_px / samples


def _continued(image: np.ndarray, centres: np.ndarray, reach: Sequence[float]) -> Tuple[np.ndarray, np.ndarray]:
    """Return the image continued by reflection so far that windows reaching `reach` px from their centres lie inside, and the (2,) pixels
    added before it."""
    least, most = centres.min(axis=0) - reach, centres.max(axis=0) + reach
    before = np.maximum(0, np.ceil(TAPS - least)).astype(np.int64)
    after = np.maximum(0, np.ceil(most + TAPS + 1 - image.shape)).astype(np.int64)
    return np.pad(image, list(zip(before, after)), mode="symmetric"), before


def _patches(image: np.ndarray, rows: int, cols: int) -> np.ndarray:
    """Return a view (H', W', rows, cols) of every patch of a contiguous image: picking patches from it copies whole rows of pixels."""
    shape = (image.shape[0] - rows + 1, image.shape[1] - cols + 1, rows, cols)
    view: np.ndarray = np.lib.stride_tricks.as_strided(image, shape, image.strides * 2, writeable=False)
    return view


def _weights(centre: np.ndarray, step: float, samples: int, across: bool = False) -> Tuple[np.ndarray, np.ndarray]:
    """Return, along one axis, what each pixel of a patch counts for each sample, (n, S, P) float32 or, `across`, (n, P, S), and the patch's
    first pixel (n,).

    Four in a row are not zero, Keys' cubic (resample.cubic) at the distances 1 + t, t, 1 − t and 2 − t; written out, both axes are two
    products of matrices, quicker than picking the four.
    """
    position = centre[:, None] + (np.arange(samples) - (samples - 1) / 2) * step
    whole = np.floor(position)
    t = (position - whole).astype(np.float32)
    base = whole.astype(np.int64) - 1
    first = base - base[:, :1]
    span = int(np.ceil((samples - 1) * step)) + TAPS  # the same for all windows: which are cut together changes no bit
    weight = np.zeros((len(centre), span, samples) if across else (len(centre), samples, span), np.float32)
    along_sample, along_pixel = (1, samples) if across else (span, 1)
    place = (np.arange(len(centre))[:, None] * (span * samples) + np.arange(samples) * along_sample + first * along_pixel).ravel()
    u = 1 - t
    edge = -0.5 * t * u
    for tap, value in enumerate((edge * u, 1 - t * t * (2.5 - 1.5 * t), 1 - u * u * (2.5 - 1.5 * u), edge * t)):
        weight.ravel()[place + tap * along_pixel] = value.ravel()
    return weight, base[:, 0]
