"""What the server says, typed: results, models, health, refusals. Owns the API's field names and their units. Called by live.server.

Columns travel as arrays by field, in the order of `columns.csv`; numbers that are unknown are null. Positions are px of the frame sent,
the centre of pixel [0, 0] is (0, 0); angles are radians, counter-clockwise as the image is displayed.
"""

from __future__ import annotations

from typing import Annotated, Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from stemzoo.runtime.bundle import Bundle
from stemzoo.runtime.doubts import doubts_of
from stemzoo.types import Analysis

Numbers = list[float | None]
Row = Annotated[list[float], Field(min_length=16, max_length=4096)]


class Answer(BaseModel):
    """Base: no field but those named."""

    model_config = ConfigDict(extra="forbid")


class Refusal(Answer):
    """Why a request was not served: one sentence that names the object, the value got and the value wanted."""

    error: str


class Image(Answer):
    """A frame as rows of numbers; binary bodies are far quicker."""

    image: list[Row] = Field(min_length=16, max_length=4096, description="Rows of equal length, top row first.")


class ModelOut(Answer):
    """A loaded model."""

    id: str
    sha256: str
    task: str
    sampling_min: float = Field(description="Å/px, finest sampling that the model was trained on")
    sampling_max: float = Field(description="Å/px, coarsest")
    classes: list[str]
    latents: int
    provider: str = Field(description="execution provider that runs it")


class ColumnsOut(Answer):
    """Atomic columns of one frame, sorted by y then x."""

    y_px: list[float]
    x_px: list[float]
    sigma_y_px: list[float] = Field(description="standard error of y_px")
    sigma_x_px: list[float]
    species: list[int] = Field(description="index into `classes`")
    intensity: list[float]
    confidence: list[float]
    fit_ok: list[bool]
    angle_rad: Numbers | None = Field(description="null without an encoder; a null inside where the window reaches over the edge")
    angle_sigma_rad: Numbers | None
    symmetry: list[int] | None = Field(description="order n: the angle is known modulo 2π/n")
    latents: list[Numbers] | None = Field(description="one array a latent: z1, z2, …")


class FrameOut(Answer):
    """One frame's columns."""

    frame: int
    n_columns: int
    columns: ColumnsOut


class AnalysisOut(Answer):
    """Everything that one body gave."""

    name: str
    sha256: str = Field(description="of the body")
    height: int
    width: int
    pixel_size: float | None = Field(description="Å/px; null where unknown")
    pixel_size_source: str
    sampling_factor: float
    window_px: float | None
    classes: list[str]
    segmenter: str
    encoder: str | None
    frames: list[FrameOut]
    notices: list[str]
    doubts: list[str] = Field(description="what speaks against the result, a sentence each")
    seconds: dict[str, float] = Field(description="wall time by stage")
    version: str


class Health(Answer):
    """Whether the server works, and how busy it is."""

    status: str
    version: str
    waiting: int = Field(description="places taken, by waiting jobs and the running one")
    places: int
    frames_per_second: float


class News(Answer):
    """A frame on the live page."""

    id: int
    name: str
    frame: int
    height: int
    width: int
    state: str = Field(description="analysing, located, done or failed")
    columns: int | None
    why: str
    seconds: float
    at: float = Field(description="seconds since 1970")


def analysis_out(analysis: Analysis, only: int | None = None) -> AnalysisOut:
    """Return an analysis as it is sent; `only` picks one of its frames."""
    frames = analysis.frames
    chosen = range(len(analysis.columns)) if only is None else (only,)
    height, width = frames.shape
    return AnalysisOut.model_construct(
        name=frames.path,
        sha256=frames.sha256,
        height=height,
        width=width,
        pixel_size=frames.pixel_size,
        pixel_size_source=frames.pixel_size_source,
        sampling_factor=analysis.sampling_factor,
        window_px=analysis.window_px,
        classes=list(analysis.columns[0].classes),
        segmenter=analysis.segmenter.id,
        encoder=None if analysis.encoder is None else analysis.encoder.id,
        frames=[_frame_out(analysis, index) for index in chosen],
        notices=list(dict.fromkeys((*frames.notices, *analysis.notices))),
        doubts=list(doubts_of(analysis)),
        seconds={stage: round(value, 5) for stage, value in analysis.seconds.items()},
        version=analysis.version,
    )


def model_out(bundle: Bundle) -> ModelOut:
    """Return a loaded bundle as it is listed."""
    spec = bundle.spec
    return ModelOut(
        id=bundle.id.id,
        sha256=bundle.id.sha256,
        task=spec.task,
        sampling_min=spec.sampling[0],
        sampling_max=spec.sampling[1],
        classes=list(spec.classes),
        latents=spec.latents,
        provider=bundle.session.provider,
    )


def _frame_out(analysis: Analysis, index: int) -> FrameOut:
    columns, encoding = analysis.columns[index], analysis.encoding
    angle = sigma = symmetry = latents = None
    if encoding is not None:
        first = sum(len(earlier) for earlier in analysis.columns[:index])
        rows = slice(first, first + len(columns))
        angle, sigma = _list(encoding.folded[rows], 5), _list(encoding.angle_sigma[rows], 5)
        symmetry = encoding.symmetry[rows].tolist()
        latents = [_list(encoding.latents[rows, k], 5) for k in range(encoding.latents.shape[1])]
    out = ColumnsOut.model_construct(
        y_px=_list(columns.yx[:, 0], 4),
        x_px=_list(columns.yx[:, 1], 4),
        sigma_y_px=_list(columns.sigma[:, 0], 5),
        sigma_x_px=_list(columns.sigma[:, 1], 5),
        species=columns.species.tolist(),
        intensity=_list(columns.intensity, 2),
        confidence=_list(columns.confidence, 4),
        fit_ok=columns.fit_ok.tolist(),
        angle_rad=angle,
        angle_sigma_rad=sigma,
        symmetry=symmetry,
        latents=latents,
    )
    return FrameOut.model_construct(frame=columns.frame, n_columns=len(columns), columns=out)


def _list(values: np.ndarray, digits: int) -> list[Any]:
    """Return numbers rounded to so many digits after the point, None for what is not finite."""
    rounded = np.round(values.astype(np.float64), digits).tolist()
    return rounded if np.isfinite(values).all() else [value if np.isfinite(value) else None for value in rounded]
