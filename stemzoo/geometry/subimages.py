"""Square windows cut around columns, interpolated so that each column lies exactly in the middle. Owns `cut`; NumPy only.

Called by runtime.pipeline before an encoder, and by the training data module that fits an rVAE to one frame.
"""

from __future__ import annotations

from typing import Iterator, Optional, Sequence, Tuple, Union

import numpy as np

from stemzoo.errors import ShapeError
from stemzoo.geometry.resample import cubic, reflect, rescale, to_rescaled
from stemzoo.types import Columns, Frames, SubImages

CHUNK_PX = 2_000_000  # interpolated pixels at a time: bounds the working memory


def cut(frames: Frames, columns: Union[Columns, Sequence[Columns]], window_px: float, size: Optional[int] = None) -> SubImages:
    """Return one S × S window per column, in the order frame, column; float32.

    Args:
        frames: the stack that the columns were found in.
        columns: one Columns per frame, or a single one for one frame; `Columns.frame` says which.
        window_px: side of the window in pixels of the frame, may be fractional.
        size: samples S per side; round(window_px) if None. Where S samples are coarser than the frame, the frame is averaged first.

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
    data = np.empty((n, samples, samples), np.float32)
    inside = np.empty(n, bool)
    start = 0
    for table in tables:
        stop = start + len(table)
        if len(table):
            windows(frames.frame(table.frame), table.yx, step, out=data[start:stop])
            reach = step * (samples - 1) / 2
            last = np.asarray(frames.shape) - 1
            inside[start:stop] = ((table.yx - reach >= 0) & (table.yx + reach <= last)).all(axis=1)
        start = stop
    return SubImages(
        data=data,
        frame=np.concatenate([np.full(len(t), t.frame, np.int64) for t in tables] or [np.zeros(0, np.int64)]),
        column=np.concatenate([np.arange(len(t), dtype=np.int64) for t in tables] or [np.zeros(0, np.int64)]),
        inside=inside,
        pixel_size=None if frames.pixel_size is None else frames.pixel_size * step,
    )


def windows(image: np.ndarray, yx: np.ndarray, step: float, out: np.ndarray) -> None:
    """Write into `out` (n, S, S) the image (H, W) sampled every `step` px around each of yx (n, 2); cubic, reflected at the edges.

    Pixels that are not finite spread over the four samples that touch them: clean the frame first.
    """
    centres = np.asarray(yx, dtype=np.float64)
    if step > 1:
        image, factors = rescale(image, 1 / step)
        centres = to_rescaled(centres, factors)
        steps = (step * factors[0], step * factors[1])  # whole pixels make the factors differ from 1 / step by a hair
    else:
        image, steps = np.asarray(image, dtype=np.float32), (step, step)
    n, samples = len(out), out.shape[1]
    for start, stop in _chunks(n, samples):
        row_weight, rows = _weights(centres[start:stop, 0], steps[0], samples, image.shape[0])
        col_weight, cols = _weights(centres[start:stop, 1], steps[1], samples, image.shape[1])
        patch = image[rows[:, :, None], cols[:, None, :]]
        np.matmul(np.matmul(row_weight, patch), col_weight.transpose(0, 2, 1), out=out[start:stop])


def _chunks(n: int, samples: int) -> Iterator[Tuple[int, int]]:
    many = max(1, CHUNK_PX // (samples * samples))
    for start in range(0, n, many):
        yield start, min(start + many, n)


def _weights(centre: np.ndarray, step: float, samples: int, length: int) -> Tuple[np.ndarray, np.ndarray]:
    """Return, along one axis, what each pixel of a patch counts for each sample (n, S, P) float32, and the patch's pixels (n, P).

    Four in a row are not zero; written out, both axes are two products of matrices, quicker than picking the four.
    """
    position = centre[:, None] + (np.arange(samples) - (samples - 1) / 2) * step
    base = np.floor(position).astype(np.int64) - 1
    origin = base[:, :1]
    first = base - origin
    span = int(first.max()) + 4
    weight = np.zeros((len(centre), samples, span), np.float32)
    flat = np.arange(first.size) * span + first.ravel()
    for tap in range(4):
        weight.ravel()[flat + tap] = cubic(position - base - tap).ravel()
    return weight, reflect(origin + np.arange(span), length)
