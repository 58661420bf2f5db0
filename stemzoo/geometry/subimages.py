"""Square windows cut around columns, interpolated so that each column lies exactly in the middle. Owns `cut`; NumPy only.

Called by runtime.pipeline before an encoder, and by the training data module that fits an rVAE to one frame.
"""

from __future__ import annotations

from typing import Iterator, NamedTuple, Optional, Sequence, Tuple, Union

import numpy as np

from stemzoo.errors import ShapeError
from stemzoo.geometry.parallel import spread
from stemzoo.geometry.resample import rescale, to_rescaled
from stemzoo.types import Columns, Frames, SubImages

CHUNK_PX = 240_000  # interpolated pixels at a time: they and their weights fit a processor's cache
TAPS = 4  # pixels along one axis that a sample is made of


def cut(
    frames: Frames,
    columns: Union[Columns, Sequence[Columns]],
    window_px: float,
    size: Optional[int] = None,
    outside: bool = True,
    threads: int = 1,
) -> SubImages:
    """Return one S × S window per column, in the order frame, column; float32.

    Args:
        frames: the stack that the columns were found in.
        columns: one Columns per frame, or a single one for one frame; `Columns.frame` says which.
        window_px: side of the window in pixels of the frame, may be fractional.
        size: samples S per side; round(window_px) if None. Where S samples are coarser than the frame, the frame is averaged first.
        outside: also fill windows that reach over the edge of the frame; False leaves them 0 and saves the time.
        threads: that the work is divided among.

    The column lies at ((S − 1) / 2, (S − 1) / 2) and samples are window_px / S apart. What reaches over the edge of the frame is filled by
    reflection and marked `inside=False`.
    Raises: ShapeError if the window is smaller than 2 samples or larger than four times the frame.
    """
    tables = [columns] if isinstance(columns, Columns) else list(columns)
    samples = round(float(window_px)) if size is None else int(size)
    limit = 4 * min(frames.shape)
    if samples < 2 or not 2 <= window_px <= limit:
        got = f"a window of {window_px:g} px with {samples} samples"
        raise ShapeError(f"{frames.path}: {got} cannot be cut; wanted 2 to {limit} px (four times the frame) and 2 samples or more")
    step = window_px / samples
    n = sum(len(table) for table in tables)
    data = (np.empty if outside else np.zeros)((n, samples, samples), np.float32)
    inside = np.empty(n, bool)
    start = 0
    for table in tables:
        stop = start + len(table)
        if len(table):
            reach = step * (samples - 1) / 2
            last = np.asarray(frames.shape) - 1
            inside[start:stop] = ((table.yx - reach >= 0) & (table.yx + reach <= last)).all(axis=1)
            rows = np.arange(start, stop) if outside else start + np.flatnonzero(inside[start:stop])
            windows(frames.frame(table.frame), table.yx[rows - start], step, _Places(data, rows, threads))
        start = stop
    return SubImages(
        data=data,
        frame=np.concatenate([np.full(len(t), t.frame, np.int64) for t in tables] or [np.zeros(0, np.int64)]),
        column=np.concatenate([np.arange(len(t), dtype=np.int64) for t in tables] or [np.zeros(0, np.int64)]),
        inside=inside,
        pixel_size=None if frames.pixel_size is None else frames.pixel_size * step,
    )


class _Places(NamedTuple):
    """Where windows go: `rows` (n,) of `data` (N, S, S), filled by so many threads."""

    data: np.ndarray
    rows: np.ndarray
    threads: int


def windows(image: np.ndarray, yx: np.ndarray, step: float, out: _Places) -> None:
    """Write into `out` the image (H, W) sampled every `step` px around each of yx (n, 2); cubic, reflected at the edges.

    Pixels that are not finite spread over the four samples that touch them: clean the frame first.
    """
    centres = np.asarray(yx, dtype=np.float64)
    if step > 1:
        image, factors = rescale(image, 1 / step)
        centres = to_rescaled(centres, factors)
        steps = (step * factors[0], step * factors[1])  # whole pixels make the factors differ from 1 / step by a hair
    else:
        image, steps = np.asarray(image, dtype=np.float32), (step, step)
    n, samples = len(out.rows), out.data.shape[1]
    if n == 0:
        return
    image, before = _continued(image, centres, [(samples - 1) / 2 * each for each in steps])
    centres = centres + before

    def fill(chunk: slice) -> None:
        row_weight, row = _weights(centres[chunk, 0], steps[0], samples)
        col_weight, col = _weights(centres[chunk, 1], steps[1], samples, across=True)
        patch = _patches(image, row_weight.shape[2], col_weight.shape[1])[row, col]
        out.data[out.rows[chunk]] = np.matmul(np.matmul(row_weight, patch), col_weight)

    spread(fill, _chunks(n, samples), out.threads)


def _chunks(n: int, samples: int) -> Iterator[slice]:
    many = max(1, CHUNK_PX // (samples * samples))
    for start in range(0, n, many):
        yield slice(start, min(start + many, n))


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
    span = int(first.max()) + TAPS
    weight = np.zeros((len(centre), span, samples) if across else (len(centre), samples, span), np.float32)
    along_sample, along_pixel = (1, samples) if across else (span, 1)
    place = (np.arange(len(centre))[:, None] * (span * samples) + np.arange(samples) * along_sample + first * along_pixel).ravel()
    u = 1 - t
    edge = -0.5 * t * u
    for tap, value in enumerate((edge * u, 1 - t * t * (2.5 - 1.5 * t), 1 - u * u * (2.5 - 1.5 * u), edge * t)):
        weight.ravel()[place + tap * along_pixel] = value.ravel()
    return weight, base[:, 0]
