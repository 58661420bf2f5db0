"""Analysis: all that one input file gave, with Quality, how far its columns can be trusted, and the models that gave it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Mapping, Optional, Tuple

from stemzoo.errors import ShapeError
from stemzoo.types.columns import Columns
from stemzoo.types.encoding import Encoding
from stemzoo.types.frames import Frames


@dataclass(frozen=True)
class Quality:
    """Signs, without counts or truth, of how far the columns of one frame can be trusted; geometry.quality finds and words them.

    Args:
        short_pairs: share of columns much nearer to another than is usual; None for too few columns.
        gaps: share of the structured area that lies far from any column; None for too few columns or columns on no lattice.
        undecided: share of the network's maxima that are neither clearly columns nor clearly none.
        width: sigma of the typical peak [Å]; None where unknown.
        disputed: share of the columns that not all networks of an ensemble find; None for a single network.
        row_jitter: how far the scan shifts its rows sideways, rms [px]; 0 where it is not told from noise.
        polarity: how much sharper bright than dark is in the frame, negative where its contrast is inverted; None where unknown.
    """

    short_pairs: Optional[float] = None
    gaps: Optional[float] = None
    undecided: float = 0.0
    width: Optional[float] = None
    disputed: Optional[float] = None
    row_jitter: float = 0.0
    polarity: Optional[float] = None


@dataclass(frozen=True)
class ModelId:
    """Which model produced a result: `name@version` and the sha256 of its `model.onnx`."""

    id: str
    sha256: str


@dataclass(frozen=True)
class Analysis:
    """Everything one input file gave: what `columns.csv`, `analysis.h5` and the report are written from.

    Args:
        frames: the input.
        columns: one Columns per frame, in order.
        segmenter: the model that found the columns.
        encoding: one row per column over all frames, in the order frame, column; None after `locate`.
        encoder: the model behind `encoding`.
        sampling_factor: network pixels per frame pixel (1 where the frame was not resampled).
        window_px: side of the sub-images in pixels of the frame; None after `locate`.
        notices: what the reader and the pipeline decided or warn of, one sentence each.
        seconds: wall time by stage.
        version: of stemzoo.
        sampling: Å/px taken for the frames when they were brought to a network's scale: the pixel size or, where that is missing or
            impossible, a stand-in from the lattice or the peaks, never used for a length in Å. None where nothing told.
        quality: one Quality per frame, in order; empty where nobody judged.
        doubts: what else speaks against the result, one sentence each: of the encoder, or as it was said when the result was written.
    """

    frames: Frames
    columns: Tuple[Columns, ...]
    segmenter: ModelId
    encoding: Optional[Encoding] = None
    encoder: Optional[ModelId] = None
    sampling_factor: float = 1.0
    window_px: Optional[float] = None
    notices: Tuple[str, ...] = ()
    seconds: Mapping[str, float] = field(default_factory=dict)
    version: str = ""
    sampling: Optional[float] = None
    quality: Tuple[Quality, ...] = ()
    doubts: Tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if len(self.columns) != len(self.frames):
            raise ShapeError(f"Analysis has columns for {len(self.columns)} frames; the input has {len(self.frames)}")
        n = sum(len(c) for c in self.columns)
        if self.encoding is not None and len(self.encoding) != n:
            raise ShapeError(f"Analysis.encoding has {len(self.encoding)} rows; there are {n} columns")

    def __repr__(self) -> str:
        said = f"{sum(len(columns) for columns in self.columns)} columns by {self.segmenter.id}"
        encoded = "" if self.encoding is None or self.encoder is None else f", {self.encoding!r} by {self.encoder.id}"
        return f"Analysis({self.frames!r}, {said}{encoded}, {len(self.notices)} notices)"
