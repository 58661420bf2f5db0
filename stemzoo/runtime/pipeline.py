"""Frames to an Analysis: the only order in which scaling, network, peaks, refinement, cutting and encoding are put together.

`locate` finds and refines columns, `encode` adds angle and latents, `analyze` does both; frames are taken one at a time, so that a stack
needs the memory of one frame. Called by the CLI, the `.pyz`, watch and serve.
"""

from __future__ import annotations

import time
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Callable, Dict, Iterator, List, Optional, Tuple

import numpy as np

import stemzoo
from stemzoo.errors import FrameError, ModelError
from stemzoo.geometry.peaks import Peaks, agreement, find_peaks
from stemzoo.geometry.quality import judge
from stemzoo.geometry.refine import Fit, RefineOptions, refine
from stemzoo.geometry.resample import rescale, to_original
from stemzoo.geometry.subimages import Cutouts
from stemzoo.runtime.cleaned import Cleaned
from stemzoo.runtime.cutting import encoder_window
from stemzoo.runtime.encoder import Encoder
from stemzoo.runtime.notices import frames_lost, in_holes, over_the_edge, scale_notices, without_columns
from stemzoo.runtime.scale import Scale, find_scale
from stemzoo.runtime.segmenter import Segmenter
from stemzoo.types import Analysis, Columns, Encoding, Frames, Quality

Progress = Callable[[str, int, int], None]
START_ERROR = 0.08  # sigmas of the peak by which a network's position errs where electrons abound: 0.03 to 0.04 Å on simulated frames
NARROWEST, UNFITTED = 1.0, 0.6  # network pixels: sigma of the narrowest peak, and standard error of a position of which no fit tells
DOUBTFUL = (0.2, 0.65)  # maxima of the map between these are neither clearly columns nor clearly none


@dataclass(frozen=True)
class LocateOptions:
    """How columns are found.

    Args:
        threshold: lowest accepted probability; None takes the model's own.
        min_separation: closest accepted pair [Å]; None takes the model's own.
        refine: fit the columns against raw intensities; False keeps the network's positions (`fit_ok` False, σ half a network pixel).
    """

    threshold: Optional[float] = None
    min_separation: Optional[float] = None
    refine: bool = True

    def __post_init__(self) -> None:
        if self.threshold is not None and not 0 < self.threshold < 1:
            raise ModelError(f"threshold is {self.threshold}; wanted a probability between 0 and 1 (e.g. --threshold 0.5)")
        if self.min_separation is not None and not 0 < self.min_separation < 100:
            raise ModelError(f"min_separation is {self.min_separation} Å; wanted a positive length (e.g. 0.8)")


@dataclass(frozen=True)
class EncodeOptions:
    """How columns are encoded.

    Args:
        window_px: side of the sub-images in pixels of the frame; None takes the extent that the encoder was trained on.
    """

    window_px: Optional[float] = None


@dataclass
class Stages:
    """Wall time by stage [s]."""

    seconds: Dict[str, float] = field(default_factory=dict)

    @contextmanager
    def time(self, stage: str) -> Iterator[None]:
        """Add the time spent inside to `stage`."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[stage] = self.seconds.get(stage, 0.0) + time.perf_counter() - start


def locate(
    frames: Frames,
    segmenter: Segmenter,
    options: Optional[LocateOptions] = None,
    progress: Optional[Progress] = None,
    scale: Optional[Scale] = None,
    cleaned: Optional[Cleaned] = None,
) -> Analysis:
    """Return the columns of every frame, positions and errors in pixels of the input.

    Args:
        frames: one file's frames.
        segmenter: the network that finds columns.
        options: thresholds and refinement.
        progress: called as progress("locate", done, total) after each frame.
        scale: found before, on another frame of the same stack, and told there; None finds it on frame 0 and says so in the notices.
        cleaned: the same frames, where whoever encodes them next shall not clean the last one again.
    Returns: an Analysis without encoding; its notices say how the scale was chosen, which frames hold no column, and which of a stack have
        no signal.
    Raises: FrameError where no frame has a signal; ModelError if the network cannot run.
    """
    options, cleaned = options or LocateOptions(), cleaned or Cleaned(frames)
    stages, notices, tables = Stages(), list(frames.notices) + list(segmenter.bundle.session.notices), []
    quality: List[Quality] = []
    spec = segmenter.spec
    threshold = spec.threshold if options.threshold is None else options.threshold
    separation = spec.min_separation if options.min_separation is None else options.min_separation
    sampling: Optional[float] = None
    factor, network_sampling = 1.0, spec.nominal
    lost: Dict[int, str] = {}
    for index in range(len(frames)):
        try:
            with stages.time("read"):
                raw = frames.frame(index)
        except FrameError as error:
            lost[index] = str(error)
            if len(lost) == len(frames):
                raise
            tables.append(Columns.empty(spec.classes, frames.pixel_size, index))
            quality.append(Quality())
            continue
        with stages.time("clean"):
            image, touched = cleaned.clean(index, raw)
            del raw
        if index == len(lost):  # the first that has a signal
            if scale is None:
                with stages.time("scale"):
                    scale = find_scale(frames, image)
                notices += scale_notices(scale, segmenter)
            sampling, factor = scale.sampling, scale.factor(spec)
            network_sampling = spec.nominal if sampling is None else sampling / factor
        with stages.time("resample"):
            scaled, factors = rescale(image, factor) if factor != 1 else (image, (1.0, 1.0))
        with stages.time("network"):
            probability, members = segmenter.maps(scaled)
        with stages.time("peaks"):
            maxima = find_peaks(probability, min(threshold, DOUBTFUL[0]), separation / network_sampling)
            chosen = maxima.confidence >= threshold
            peaks = Peaks(to_original(maxima.yx[chosen], factors), maxima.species[chosen], spec.confidence(maxima.confidence[chosen]))
            agreed = agreement(members, maxima.yx[chosen], threshold) if len(members) else None
        del scaled, probability, members
        with stages.time("refine"):
            empty = Columns.empty(spec.classes, frames.pixel_size, index)
            columns, fit = _with_peaks(empty, peaks, agreed, 1 / factor, (image, touched) if options.refine else None)
            tables.append(columns)
        with stages.time("quality"):
            width_px = None if fit is None or not fit.ok.any() else float(np.median(fit.width_px[fit.ok]))
            # By the stated pixel size even where a stand-in took its place for the network: what is wrong with it must show.
            angstrom = sampling if frames.pixel_size is None else frames.pixel_size
            width = None if width_px is None or angstrom is None else width_px * angstrom
            sure = int((maxima.confidence > DOUBTFUL[1]).sum())
            judged = judge(image, columns.yx, sure, len(maxima.confidence) - sure, width, width_px)
            disputed = None if agreed is None else float((agreed < 1).mean()) if len(agreed) else 0.0
            quality.append(replace(judged, disputed=disputed, row_jitter=0.0 if fit is None else fit.row_jitter))
        if progress is not None:
            progress("locate", index + 1, len(frames))
    if lost:
        notices.append(frames_lost(lost, len(frames)))
    without = [index for index, columns in enumerate(tables) if not len(columns) and index not in lost]
    if without:
        notices.append(without_columns(without, len(frames), threshold))
    return Analysis(
        frames=frames,
        columns=tuple(tables),
        segmenter=segmenter.id,
        sampling_factor=factor,
        notices=tuple(notices),
        seconds=stages.seconds,
        version=stemzoo.__version__,
        sampling=sampling,
        quality=tuple(quality),
    )


def _with_peaks(
    table: Columns,
    peaks: Peaks,
    agreed: Optional[np.ndarray],
    pixel: float,
    fit_to: Optional[Tuple[np.ndarray, np.ndarray]],
) -> Tuple[Columns, Optional[Fit]]:
    """Return `table` with the peaks [px of the frame] as columns, sorted by y then x, and their fit in the order of the peaks.

    Args:
        agreed: (n,) share of an ensemble's networks that find each peak; None for a single network.
        pixel: the network's, in pixels of the frame.
        fit_to: the cleaned frame (H, W) and the mask of pixels not to be trusted; None leaves the peaks where they are.
    """
    n = len(peaks.yx)
    yx, sigma, intensity, ok = peaks.yx, np.full((n, 2), 0.5 * pixel), np.zeros(n), np.zeros(n, dtype=bool)
    fit: Optional[Fit] = None
    if fit_to is not None and n:
        settings = RefineOptions(start_error=START_ERROR, least_width_px=NARROWEST * pixel, failed_sigma_px=UNFITTED * pixel)
        fit = refine(fit_to[0], yx, mask=fit_to[1], options=settings)
        yx, sigma, intensity, ok = fit.yx, fit.sigma, fit.intensity, fit.ok
    order = np.lexsort((yx[:, 1], yx[:, 0]))
    table = replace(
        table,
        yx=yx[order],
        sigma=sigma[order],
        species=peaks.species[order],
        intensity=intensity[order],
        confidence=peaks.confidence[order],
        fit_ok=ok[order],
        agreement=None if agreed is None else agreed[order],
    )
    return table, fit


def encode(
    analysis: Analysis,
    encoder: Encoder,
    options: Optional[EncodeOptions] = None,
    progress: Optional[Progress] = None,
    cleaned: Optional[Cleaned] = None,
) -> Analysis:
    """Return the analysis with angle and latents of every column.

    A column whose window reaches over the edge of its frame keeps its row with `inside=False` and NaN; one around which too many pixels
    were not measured keeps it with NaN.
    Args: progress: called as progress("encode", done, total) after each frame; cleaned: what `locate` was given.
    Raises: ShapeError if the window does not fit the frame; ModelError if the network cannot run.
    """
    options = options or EncodeOptions()
    stages, notices = Stages(dict(analysis.seconds)), list(dict.fromkeys((*analysis.notices, *encoder.bundle.session.notices)))
    window = options.window_px
    if window is None:
        with stages.time("scale"):
            window, said = encoder_window(analysis, encoder)
        notices += [text for text in said if text not in notices]
    cleaned = cleaned or Cleaned(analysis.frames)
    frames, parts, unmeasured = cleaned.frames(), [], 0
    for index, columns in enumerate(analysis.columns):
        with stages.time("cut"):
            windows = Cutouts(frames, replace(columns, frame=index), window, encoder.spec.window_px)
            hidden = cleaned.unmeasured(index, columns.yx, window) & windows.inside
        with stages.time("encode"):
            parts.append(encoder.encode_windows(windows, ~hidden))
        unmeasured += int(hidden.sum())
        if progress is not None:
            progress("encode", index + 1, len(analysis.columns))
    encoding = Encoding.joined(parts)
    outside = int((~encoding.inside).sum())
    if outside:
        notices.append(over_the_edge(outside, len(encoding), window))
    if unmeasured:
        notices.append(in_holes(unmeasured, len(encoding), window))
    return replace(
        analysis,
        encoding=encoding,
        encoder=encoder.id,
        window_px=window,
        notices=tuple(notices),
        seconds=stages.seconds,
        version=stemzoo.__version__,
    )


def analyze(
    frames: Frames,
    segmenter: Segmenter,
    encoder: Optional[Encoder] = None,
    *,
    locate_options: Optional[LocateOptions] = None,
    encode_options: Optional[EncodeOptions] = None,
    progress: Optional[Progress] = None,
) -> Analysis:
    """Return columns and, with an encoder, their angles and latents. Arguments and errors as in `locate` and `encode`."""
    cleaned = Cleaned(frames)
    analysis = locate(frames, segmenter, locate_options, progress, cleaned=cleaned)
    return analysis if encoder is None else encode(analysis, encoder, encode_options, progress, cleaned)
