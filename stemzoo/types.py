"""The things that travel through stemzoo: Frames, Columns, SubImages, Encoding, Analysis, Tracks. NumPy only; frozen; checked when made.

Conventions, stated here once:

* Positions are `yx` in pixels, float64; the centre of pixel [0, 0] is (0, 0).
* Pixel size is Å/px, scan pixels are square.
* Angles are radians, counter-clockwise as the image is displayed (row 0 at the top), in (-π, π]. Where a motif has n-fold symmetry
  the angle is known only modulo 2π/n, and `symmetry` says n.
* Dose is e⁻/Å². Any other unit is in the name (`window_px`, `energy_kev`).
* Frames are (T, H, W), sub-images (N, S, S), probabilities (C, H, W) with the background left out; float32 unless said otherwise.
* Frames and columns count from 0; a column's number is unique within its frame.
* A pixel size comes from `file`, `user`, `lattice` or is `unknown`.

Each prints as one line of what it holds, for it is looked at in notebooks; the numbers are in its fields.

Part of the instrument layer: Python 3.8 syntax, hence no `slots=True`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import Any, Mapping, Optional, Sequence, Tuple, Union

import numpy as np

from stemzoo.errors import FrameError, PixelSizeError, ShapeError

PIXEL_SIZE_SOURCES = ("file", "user", "lattice", "unknown")
MIN_FRAME_PX = 16
ORDERS = (1, 2, 3, 4, 6)  # of rotational symmetry that a pattern is judged by
COLUMN_FIELDS = {
    "yx": np.float64,
    "sigma": np.float64,
    "species": np.int64,
    "intensity": np.float64,
    "confidence": np.float32,
    "fit_ok": np.bool_,
    "agreement": np.float32,
}
"""The arrays of Columns that have a row for each column, and their dtype."""
SUB_IMAGE_FIELDS = ("data", "frame", "column", "inside")
ENCODING_FIELDS = ("angle", "angle_sigma", "symmetry", "latents", "frame", "column", "inside")
Rows = Union[slice, np.ndarray]
"""A slice, a mask or numbers: some rows of a table."""


def check_pixel_size(value: Optional[float], what: str) -> Optional[float]:
    """Return `value` [Å/px] if it is None or a positive finite number, else raise PixelSizeError naming `what`."""
    if value is None:
        return None
    number = float(value)
    if not math.isfinite(number) or number <= 0:
        raise PixelSizeError(f"{what}: pixel size {value!r} Å/px is not a positive number; pass --pixel-size Å (e.g. --pixel-size 0.12)")
    return number


def _per_px(pixel_size: Optional[float]) -> str:
    return "pixel size unknown" if pixel_size is None else f"{pixel_size:.4g} Å/px"


@dataclass(frozen=True)
class Frames:
    """A stack of ADF-STEM frames from one file.

    Args:
        data: (T, H, W), any real dtype; a NumPy array or anything with `shape`, `dtype` and slicing (read lazily).
        pixel_size: Å/px, or None where unknown.
        pixel_size_source: one of `PIXEL_SIZE_SOURCES`.
        path: the file read, or a name for frames made in memory.
        sha256: of the file's bytes, hex; empty for frames made in memory.
        metadata: small, JSON-serialisable facts from the file (energy_kev, detector, signal …).
        notices: what the reader had to decide, one sentence each; the report repeats them.

    Raises: ShapeError if `data` is not 3-D or a frame is smaller than 16 px; PixelSizeError.
    """

    data: Any
    pixel_size: Optional[float] = None
    pixel_size_source: str = "unknown"
    path: str = "array"
    sha256: str = ""
    metadata: Mapping[str, Any] = field(default_factory=dict)
    notices: Tuple[str, ...] = ()

    def __post_init__(self) -> None:
        shape = tuple(self.data.shape)
        if len(shape) != 3 or 0 in shape:
            raise ShapeError(f"{self.path}: frames have shape {shape}; wanted (T, H, W), one or more images")
        if min(shape[1:]) < MIN_FRAME_PX:
            raise ShapeError(
                f"{self.path}: frame is {shape[1]}×{shape[2]} px; the smallest that can hold a column is {MIN_FRAME_PX}×{MIN_FRAME_PX} px"
            )
        check_pixel_size(self.pixel_size, self.path)
        if self.pixel_size_source not in PIXEL_SIZE_SOURCES or (self.pixel_size is None) != (self.pixel_size_source == "unknown"):
            raise PixelSizeError(f"{self.path}: pixel size {self.pixel_size} cannot have the source {self.pixel_size_source!r}")

    def __len__(self) -> int:
        return int(self.data.shape[0])

    def __repr__(self) -> str:
        size = f"{self.shape[0]}×{self.shape[1]} px {self.data.dtype}"
        return f"Frames({self.path}: {len(self)} of {size}, {_per_px(self.pixel_size)} ({self.pixel_size_source}))"

    @property
    def shape(self) -> Tuple[int, int]:
        """(H, W) of every frame."""
        return int(self.data.shape[1]), int(self.data.shape[2])

    def frame(self, index: int) -> np.ndarray:
        """Return frame `index` as (H, W) float32, contiguous.

        Raises: FrameError if no pixel is finite, or if all pixels are equal.
        """
        image = np.ascontiguousarray(self.data[index], dtype=np.float32)
        finite = np.isfinite(image)
        if not finite.any():
            raise FrameError(f"{self.path}: frame {index} has no finite pixel; check the export")
        values = image[finite] if not finite.all() else image
        if values.min() == values.max():
            raise FrameError(f"{self.path}: frame {index} is constant ({values.flat[0]:g}); there is no signal to analyse")
        return image


@dataclass(frozen=True)
class Columns:
    """Atomic columns found in one frame, sorted by y then x; the position in the arrays is the column's number.

    Args:
        yx: (n, 2) float64, px.
        sigma: (n, 2) float64, px, standard error of `yx`; positive, or NaN where another program's table does not say.
        species: (n,) int, index into `classes`.
        intensity: (n,) float64, integrated intensity above the local background (detector units × px²); NaN where unknown.
        confidence: (n,) float32 in [0, 1], probability that a column is there; NaN where unknown.
        fit_ok: (n,) bool, False where the fit failed and `yx` is the network's position.
        classes: names of the species.
        pixel_size: Å/px, or None where unknown.
        frame: number of the frame in its stack.
        agreement: (n,) float32 in [0, 1], share of an ensemble's networks that find the column; NaN for a single network.

    Raises: ShapeError if the lengths disagree.
    """

    yx: np.ndarray
    sigma: np.ndarray
    species: np.ndarray
    intensity: np.ndarray
    confidence: np.ndarray
    fit_ok: np.ndarray
    classes: Tuple[str, ...] = ("column",)
    pixel_size: Optional[float] = None
    frame: int = 0
    agreement: Optional[np.ndarray] = None

    def __post_init__(self) -> None:
        if self.agreement is None:
            object.__setattr__(self, "agreement", np.full(len(self.yx), np.nan))
        n = len(self.yx)
        for name, dtype in COLUMN_FIELDS.items():
            array: np.ndarray = np.asarray(getattr(self, name), dtype=dtype)
            shape = (n, 2) if name in ("yx", "sigma") else (n,)
            if n == 0:
                array = array.reshape(shape)
            if array.shape != shape:
                raise ShapeError(f"Columns.{name} has shape {array.shape}; wanted {shape}")
            object.__setattr__(self, name, array)
        if n and (self.species.min() < 0 or self.species.max() >= len(self.classes)):
            raise ShapeError(f"Columns.species runs from {self.species.min()} to {self.species.max()}; wanted indices into {self.classes}")
        check_pixel_size(self.pixel_size, "Columns")

    def __len__(self) -> int:
        return len(self.yx)

    def __repr__(self) -> str:
        said = [f"{len(self)} in frame {self.frame}", _per_px(self.pixel_size)]
        if len(self.classes) > 1:
            said[1:1] = [f"{int((self.species == index).sum())} {name}" for index, name in enumerate(self.classes)]
        if np.isfinite(self.sigma).any():
            said.append(f"median σ {np.nanmedian(self.sigma):.3g} px")
        failed = int((~self.fit_ok).sum())
        return f"Columns({', '.join(said)}{f', {failed} fits failed' if failed else ''})"

    @classmethod
    def empty(cls, classes: Sequence[str] = ("column",), pixel_size: Optional[float] = None, frame: int = 0) -> Columns:
        """Return a table without columns."""
        none = np.zeros(0)
        return cls(np.zeros((0, 2)), np.zeros((0, 2)), none, none, none, none, tuple(classes), pixel_size, frame)

    @classmethod
    def at(cls, yx: np.ndarray, *, pixel_size: Optional[float] = None, frame: int = 0) -> Columns:
        """Return columns at `yx` (n, 2) [px] of which nothing else is known, in that order."""
        n = len(yx)
        unknown = np.full(n, np.nan)
        return cls(yx, np.full((n, 2), np.nan), np.zeros(n), unknown, unknown, np.zeros(n), pixel_size=pixel_size, frame=frame)

    def rows(self, chosen: Rows) -> Columns:
        """Return the chosen columns, numbered anew."""
        return replace(self, **{name: getattr(self, name)[chosen] for name in COLUMN_FIELDS})


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
class SubImages:
    """Square cut-outs centred on columns.

    Args:
        data: (N, S, S) float32; the column lies at ((S - 1) / 2, (S - 1) / 2).
        frame: (N,) int, frame of each column.
        column: (N,) int, number of the column within its frame.
        inside: (N,) bool, False where the window reaches over the edge of the frame (filled by reflection; not used for training).
        pixel_size: Å/px of the sub-images, or None where unknown.
    """

    data: np.ndarray
    frame: np.ndarray
    column: np.ndarray
    inside: np.ndarray
    pixel_size: Optional[float] = None

    def __post_init__(self) -> None:
        if self.data.ndim != 3 or self.data.shape[1] != self.data.shape[2]:
            raise ShapeError(f"SubImages.data has shape {self.data.shape}; wanted (N, S, S)")
        for name in ("frame", "column", "inside"):
            if getattr(self, name).shape != (len(self.data),):
                raise ShapeError(f"SubImages.{name} has shape {getattr(self, name).shape}; wanted ({len(self.data)},)")

    def __len__(self) -> int:
        return len(self.data)

    def __repr__(self) -> str:
        size = f"{self.window_px}×{self.window_px} px, {_per_px(self.pixel_size)}"
        return f"SubImages({len(self)} of {size}, {int(self.inside.sum())} inside their frame)"

    def rows(self, chosen: Rows) -> SubImages:
        """Return the chosen sub-images."""
        return replace(self, **{name: getattr(self, name)[chosen] for name in SUB_IMAGE_FIELDS})

    @property
    def window_px(self) -> int:
        """Side S of a sub-image."""
        return int(self.data.shape[1])


@dataclass(frozen=True)
class Encoding:
    """What an encoder says of each column, in the order of the sub-images it was given.

    Args:
        angle: (N,) float64, radians in (-π, π]: by how much the gauge's reference pattern must be turned, counter-clockwise as
            displayed, to lie on the sub-image.
        angle_sigma: (N,) float64, radians, standard error of `angle`; NaN where the encoder gives none.
        symmetry: (N,) int, order n of the pattern's rotational symmetry; `angle` is known modulo 2π/n.
        latents: (N, Z) float32.
        frame, column: (N,) int, which column each row belongs to.
        inside: (N,) bool, as in SubImages.
    """

    angle: np.ndarray
    angle_sigma: np.ndarray
    symmetry: np.ndarray
    latents: np.ndarray
    frame: np.ndarray
    column: np.ndarray
    inside: np.ndarray

    def __post_init__(self) -> None:
        if self.latents.ndim != 2:
            raise ShapeError(f"Encoding.latents has shape {self.latents.shape}; wanted (N, Z)")
        for name in ("angle", "angle_sigma", "symmetry", "frame", "column", "inside"):
            if getattr(self, name).shape != (len(self.latents),):
                raise ShapeError(f"Encoding.{name} has shape {getattr(self, name).shape}; wanted ({len(self.latents)},)")

    def __len__(self) -> int:
        return len(self.latents)

    def __repr__(self) -> str:
        known = int(np.isfinite(self.angle).sum())
        return f"Encoding({len(self)} columns, {known} with angle and {self.latents.shape[1]} latents)"

    @property
    def folded(self) -> np.ndarray:
        """The angles modulo 2π/n, in (−π/n, π/n] (N,): what is known of them, and what tables and maps give."""
        period = 2 * np.pi / self.symmetry
        folded: np.ndarray = self.angle - period * np.ceil(self.angle / period - 0.5)
        return folded

    @classmethod
    def empty(cls, latents: int) -> Encoding:
        """Return the encoding of a frame without columns, by so many latents."""
        none, numbers = np.zeros(0), np.zeros(0, dtype=np.int64)
        return cls(none, none, numbers, np.zeros((0, latents), dtype=np.float32), numbers, numbers, np.zeros(0, dtype=bool))

    @classmethod
    def joined(cls, parts: Sequence[Encoding]) -> Encoding:
        """Return the encodings of several frames, one or more, as one."""
        return cls(**{name: np.concatenate([getattr(part, name) for part in parts]) for name in ENCODING_FIELDS})

    def rows(self, chosen: Rows) -> Encoding:
        """Return the chosen rows."""
        return Encoding(**{name: getattr(self, name)[chosen] for name in ENCODING_FIELDS})


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


@dataclass(frozen=True)
class Tracks:
    """Which columns of a stack are one column.

    Args:
        track: for each frame (n,) int, the number of each column's track, counted from 0 in order of first appearance.
        drift: (T, 2) px, by how much frame t lies displaced against frame 0, y and x.
    """

    track: Tuple[np.ndarray, ...]
    drift: np.ndarray

    @property
    def n(self) -> int:
        """How many tracks there are."""
        return max((int(numbers.max()) + 1 for numbers in self.track if len(numbers)), default=0)
