"""Columns placed where the photons say: all Gaussians of a frame fitted together. Owns `refine`, its options, failures and standard errors.

Maximum likelihood for Poisson plus readout noise by Fisher scoring: each pixel is weighted by the variance that the model predicts, gain
and offset learnt from the residuals (noise). The iteration is in jointfit, the model in columnmodel and background, overlaps in coupling.
NumPy only. Called by runtime.pipeline.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, Optional, Tuple

import numpy as np

from stemzoo.errors import ShapeError
from stemzoo.geometry.certainty import Certainty
from stemzoo.geometry.columnmodel import fit_amplitudes
from stemzoo.geometry.jointfit import NO_PAIRS, JointFit
from stemzoo.geometry.neighbours import nearest_distance, pairs_among
from stemzoo.geometry.pooling import Pooling
from stemzoo.geometry.progress import UNSETTLED, Starts
from stemzoo.geometry.starts import Trust
from stemzoo.geometry.width import mean_width

FLANK_REACH, FLANK_ERROR = 3.5, 0.025  # sigmas: this near to one beyond the edge, its supposed place shifts a column by about so much
AMPLITUDE = 2  # its place among a column's parameters
SAMPLE_PX = 5_000  # pixels that tell the range of a frame's intensities
FEW_CONVERGE = 0.7  # of the columns: fewer, and the frame is fitted once more with less freedom


@dataclass(frozen=True)
class RefineOptions:
    """How columns are refined.

    Args:
        width_px: sigma of the mean peak to start from; found from the frame if None.
        least_width_px: sigma below which no peak is believed to be.
        max_iterations: of the joint fit.
        max_move: largest believable distance from the start, as a fraction of the distance to the nearest column …
        max_move_sigmas: … and in sigmas of the peak.
        min_significance: smallest amplitude, in its standard errors, of a column whose position means anything.
        failed_sigma_px: least standard error given to a failed column.
        start_error: standard deviation of the starts' errors where electrons abound [sigmas of the peak], where they come from a network
            that saw this frame: fits are drawn towards them as far as that pays, and keep a column's standard error honest where it fails.
            None: starts say nothing.
    """

    width_px: Optional[float] = None
    least_width_px: float = 0.0
    max_iterations: int = 12
    max_move: float = 0.4
    max_move_sigmas: float = 1.5
    min_significance: float = 3.0
    failed_sigma_px: float = 0.3
    start_error: Optional[float] = None


class Fit(NamedTuple):
    """Refined columns, in the order of the starts.

    Args:
        yx: (n, 2) float64, px; the start where `ok` is False.
        sigma: (n, 2) float64, px, standard error; finite and positive.
        intensity: (n,) float64, integrated above the background (units of the frame × px²).
        width_px: (n,) float64, geometric mean sigma of the peak.
        background: (n,) float64, at the column, in units of the frame.
        chi2: (n,) float64, mean squared residual over the noise; about 1 where the model describes the window.
        ok: (n,) bool, whether the fit converged to something believable.
        row_jitter: px, how far the rows of the scan are shifted sideways, rms; 0 where it is not told from noise. `sigma` allows for it.
    """

    yx: np.ndarray
    sigma: np.ndarray
    intensity: np.ndarray
    width_px: np.ndarray
    background: np.ndarray
    chi2: np.ndarray
    ok: np.ndarray
    row_jitter: float = 0.0


def refine(
    image: np.ndarray,
    yx: np.ndarray,
    *,
    min_separation_px: Optional[float] = None,
    mask: Optional[np.ndarray] = None,
    options: Optional[RefineOptions] = None,
) -> Fit:
    """Return the position, standard error and intensity of each column, fitted to the raw intensities.

    Args:
        image: (H, W), any real units; non-finite pixels are ignored.
        yx: (n, 2) starts, px, within about a sigma of the truth.
        min_separation_px: of starts closer than this, only the first is fitted (half a sigma if None).
        mask: (H, W) bool, pixels not to be trusted (`cleaning.clean`).

    Raises: ShapeError if `image` is not 2-D or `yx` not (n, 2).
    Never drops a column: where the fit fails, `ok` is False, `yx` the start and `sigma` the scatter of starts about good fits, or more.
    """
    settings = options or RefineOptions()
    starts = np.asarray(yx, dtype=np.float64)
    if image.ndim != 2:
        raise ShapeError(f"refine got an image of shape {image.shape}; wanted one frame (H, W)")
    if starts.size == 0:
        starts = starts.reshape(0, 2)
    if starts.ndim != 2 or starts.shape[1] != 2:
        raise ShapeError(f"refine got positions of shape {starts.shape}; wanted (n, 2), y and x in px")
    usable = np.isfinite(image)
    if mask is not None:
        usable &= ~np.asarray(mask, dtype=bool)
    inside = np.asarray((np.isfinite(starts) & (starts > -1) & (starts < np.asarray(image.shape))).all(axis=1))
    if not inside.any() or not usable.any():
        return _nothing(starts, settings)
    return _fitted(image, usable, starts, inside, min_separation_px, settings)


def _nothing(starts: np.ndarray, settings: RefineOptions) -> Fit:
    n = len(starts)
    sigma = np.full((n, 2), max(1.0, settings.failed_sigma_px))
    return Fit(starts.copy(), sigma, np.zeros(n), np.full(n, np.nan), np.full(n, np.nan), np.full(n, np.nan), np.zeros(n, bool))


def _fitted(
    image: np.ndarray,
    usable: np.ndarray,
    starts: np.ndarray,
    inside: np.ndarray,
    min_separation_px: Optional[float],
    settings: RefineOptions,
) -> Fit:
    offset, scale = _range(image, usable)
    normal_image = np.subtract(image, offset, dtype=np.float32)  # in place from here: a frame of 8192² is a quarter of a gigabyte
    normal_image /= scale
    normal_image[~usable] = 0
    place = np.flatnonzero(inside)
    place = place[np.argsort(starts[place, 0], kind="stable")]
    nearest = _nearest(starts[place])
    near = nearest[np.isfinite(nearest)]
    width = settings.width_px or mean_width(
        normal_image, usable, starts[place], float(np.median(near)) if len(near) else 0.5 * max(image.shape)
    )
    width = max(width, settings.least_width_px)
    closest = 0.5 * width if min_separation_px is None else min_separation_px
    if near.size and near.min() <= closest:
        place = place[_first_of_each(starts[place], place, closest)]
        nearest = _nearest(starts[place])
    pooling = Pooling.for_peaks(width, float(np.percentile(near, 5)) if len(near) else np.inf, usable)
    end = pooling.yx(np.asarray(image.shape) - 0.5)
    normal_image, usable = pooling.image(normal_image, usable)
    trust = None if settings.start_error is None else Trust(settings.start_error**2)
    begin, width = Starts(place, pooling.yx(starts[place]), nearest / pooling.fold, trust), pooling.width(width)
    fit = JointFit(normal_image, usable, begin, width)
    del normal_image  # the fit has its own
    fit.run(settings.max_iterations)
    known = Certainty(fit)
    believable, over_edge = _believable(known, end, settings)
    if believable.mean() < FEW_CONVERGE and len(place) >= 8:
        again = JointFit(fit.windows.inner(fit.windows.image), usable, begin, width, careful=True)
        again.run(settings.max_iterations)
        known_again = Certainty(again)
        better, outside = _believable(known_again, end, settings)
        if better.mean() > believable.mean():
            known, believable, over_edge = known_again, better, outside
    _hold(known.fit, ~believable & ~over_edge)
    return _result(known, believable, starts, (offset, scale), pooling, settings)


def _range(image: np.ndarray, usable: np.ndarray) -> Tuple[float, float]:
    """Return a zero and a scale of the intensities of `usable` pixels (H, W)."""
    # at random: equal steps through the frame may keep to a lattice's rows, or step over them
    some = np.random.default_rng(0).integers(image.size, size=SAMPLE_PX)
    some = some[usable.ravel()[some]]
    sample = image.ravel()[some] if len(some) else image[usable]
    low, zero, high = (float(v) for v in np.percentile(sample.astype(np.float64), (1, 30, 99.5)))
    return zero, (high - low) or 1.0


def _nearest(yx: np.ndarray) -> np.ndarray:
    """Return the distance from each of the points (n, 2) to the next, (n,)."""
    extent = np.ptp(yx, axis=0) + 1.0
    return nearest_distance(yx, max(1.0, 1.2 * float(np.sqrt(extent.prod() / len(yx)))))


def _hold(fit: JointFit, failed: np.ndarray) -> None:
    """Put the columns that failed (n,) back to their starts and fit what they leave: the whole frame where they overlap with columns that
    did not, else their own intensities alone."""
    state, progress = fit.state, fit.progress
    good = ~failed & (progress.place >= 0)
    progress.held = failed
    state.yx[failed], state.log_width[failed] = progress.start[failed], 0.0
    if (failed[fit.pairs.first] & good[fit.pairs.second]).any():
        fit.evaluate()
        fit.step()
    elif failed.any():
        state.amplitude[failed] = fit_amplitudes(fit.windows, state, np.flatnonzero(failed))[0]


def _believable(known: Certainty, end: np.ndarray, settings: RefineOptions) -> Tuple[np.ndarray, np.ndarray]:
    """Return which columns (n,) converged to something that a column can be, and which only went over the edge of the frame, which ends at
    `end` (2,): their maximum was not measured, yet with them there their neighbours are explained best."""
    fit, state, progress = known.fit, known.fit.state, known.fit.progress
    error, height_error = known.errors(np.ones(2)), np.sqrt(known.covariance()[AMPLITUDE, AMPLITUDE])
    moved = np.hypot(*(state.yx - progress.start).T)
    farthest = np.maximum(np.minimum(settings.max_move * progress.nearest, settings.max_move_sigmas * fit.width), 0.7)
    significant = state.amplitude > settings.min_significance * height_error
    typical = float(np.median(state.amplitude[significant])) if significant.any() else 1.0
    possible: np.ndarray = np.isfinite(state.yx).all(axis=1) & (np.abs(state.log_width) < 0.6)
    possible &= (np.abs(state.amplitude) < 100 * typical) & (fit.windows.pixels >= 8)
    good = possible & significant & (moved <= farthest) & np.isfinite(error).all(axis=1) & (error < 0.5 * fit.width).all(axis=1)
    good &= fit.last_step <= np.maximum(UNSETTLED[0] * np.hypot(error[:, 0], error[:, 1]), UNSETTLED[1] * fit.width)
    inside = ((state.yx >= -0.5) & (state.yx <= end)).all(axis=1)
    return (good & inside) | (progress.place < 0), possible & ~inside & (moved <= settings.max_move_sigmas * fit.width)


def _result(
    known: Certainty, believable: np.ndarray, starts: np.ndarray, units: Tuple[float, float], pooling: Pooling, settings: RefineOptions
) -> Fit:
    """Return the fit in the units (zero and scale of the normalised intensities) and the order of the input."""
    fit, state, progress, (offset, scale) = known.fit, known.fit.state, known.fit.progress, units
    chi2 = fit.normal.chi2 / np.maximum(fit.windows.pixels * fit.beside.left, 1.0)
    jitter = fit.row_jitter()
    rows = np.array([0.0, jitter.error])  # which moves the start as it moves the fit
    error = np.hypot(known.errors(_misfit(chi2, fit.windows.pixels)[:, None] * fit.correlation()), rows)
    flanked = fit.pairs.first[(progress.place[fit.pairs.second] < 0) & (fit.pairs.distance < FLANK_REACH * fit.width)]
    error[flanked] = np.hypot(error[flanked], FLANK_ERROR * fit.width)
    seen = progress.place >= 0
    good = seen & believable & np.isfinite(error).all(axis=1) & (error > 0).all(axis=1)
    at, own = progress.place[seen], progress.place[good]
    over_edge = np.flatnonzero(seen & ~good & ~progress.held)
    beyond = pooling.fold * np.abs(state.yx - progress.start)[over_edge]
    state.yx[over_edge], state.log_width[over_edge] = progress.start[over_edge], 0.0
    state.amplitude[over_edge] = fit_amplitudes(fit.windows, state, over_edge)[0]
    out = _nothing(starts, settings)
    out.yx[own] = pooling.yx_back(state.yx[good])
    out.sigma[own] = np.maximum(pooling.fold * error[good], 1e-4)
    out.ok[own] = True
    out.intensity[at] = (state.amplitude * state.area())[seen] * (scale * pooling.fold**2)
    out.width_px[at] = pooling.width_back(fit.width * np.exp(state.log_width[seen]))
    out.background[at] = fit.background.at(state.yx[seen]) * scale + offset
    out.chi2[at] = chi2[seen]
    if not out.ok.all():
        scatter = settings.failed_sigma_px
        if good.sum() >= 5:
            moved = pooling.fold * np.abs(state.yx[good] - progress.start[good])
            scatter = max(scatter, 1.5 * 1.4826 * float(np.median(moved)))
        out.sigma[~out.ok] = scatter
        left, kept = known.start_errors(), seen & ~good
        if left is not None:
            out.sigma[progress.place[kept]] = np.maximum(settings.failed_sigma_px, pooling.fold * np.hypot(left[kept], rows))
        out.sigma[progress.place[over_edge]] = np.maximum(out.sigma[progress.place[over_edge]], beyond)
    return out._replace(row_jitter=pooling.fold * jitter.shift)


def _misfit(chi2: np.ndarray, pixels: np.ndarray) -> np.ndarray:
    """Return the factor (n,) by which misfit widens a standard error: √χ², where χ² is more than its own scatter above 1."""
    factor: np.ndarray = np.sqrt(np.maximum(1.0, chi2 - 2 * np.sqrt(2 / np.maximum(pixels, 2.0))))
    return factor


def _first_of_each(yx: np.ndarray, rank: np.ndarray, closest_px: float) -> np.ndarray:
    """Return which of the starts (n,) to fit: of those closer than `closest_px` only the one that came first, by `rank`."""
    pairs = pairs_among(yx, closest_px) if closest_px > 0 else NO_PAIRS
    keep = np.ones(len(yx), bool)
    # rounds, because of three in a row the first suppresses the second only, and the third stays
    open_pairs = np.ones(len(pairs.first), bool)
    decided = np.zeros(len(yx), bool)
    while open_pairs.any():
        lowest = np.full(len(yx), np.iinfo(np.int64).max)
        np.minimum.at(lowest, pairs.first[open_pairs], rank[pairs.second[open_pairs]])
        winners = ~decided & (rank < lowest)
        decided |= winners
        beaten = open_pairs & winners[pairs.second] & ~decided[pairs.first]
        keep[pairs.first[beaten]] = False
        decided[pairs.first[beaten]] = True
        open_pairs &= ~decided[pairs.first] & ~decided[pairs.second]
    return keep
