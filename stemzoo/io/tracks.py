"""tracks.csv: the columns' courses through a stack, a row for each column of each frame. Owns its fields and digits.

Ordered by track, then frame. An unknown number is an empty cell, as in columns.csv. Called by analyze.pieces.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from stemzoo.types import Analysis, Tracks

FILE = "tracks.csv"
ROWS = 1 << 16  # that are made into text at a time


def write_tracks(path: Path, analysis: Analysis, tracks: Tracks) -> None:
    """Write the table; `drift_*_px` is the frame's displacement against the first. Raises: OSError."""
    encoding = analysis.encoding
    counts = [len(columns) for columns in analysis.columns]
    frame = np.repeat([columns.frame for columns in analysis.columns], counts)
    track = np.concatenate(tracks.track)
    order = np.lexsort((frame, track))
    cells = [track, frame, np.concatenate([np.arange(n) for n in counts])]
    cells += list(np.concatenate([columns.yx for columns in analysis.columns]).T)
    cells += list(np.repeat(tracks.drift, counts, axis=0).T)
    header, row = "track,frame,column,y_px,x_px,drift_y_px,drift_x_px", "%d,%d,%d,%.6f,%.6f,%.4f,%.4f"
    if encoding is not None:
        cells += [encoding.folded, *encoding.latents.T]
        header += ",angle_rad" + "".join(f",z{k + 1}" for k in range(encoding.latents.shape[1]))
        row += ",%.8g" * (1 + encoding.latents.shape[1])
    with path.open("w", encoding="utf-8") as file:
        file.write(header + "\n")
        for first in range(0, len(order), ROWS):
            chosen = order[first : first + ROWS]
            values = [array[chosen].tolist() for array in cells]
            text = (row + "\n") * len(chosen) % tuple(value for line in zip(*values, strict=True) for value in line)
            file.write(text.replace(",nan", ","))
