"""Columns placed where the photons say: all Gaussians of a frame fitted together. Owns `refine`, its options, failures and standard errors; NumPy only.

Maximum likelihood for Poisson plus readout noise by Fisher scoring: each pixel is weighted by the variance that the model predicts, gain and offset
learnt from the residuals (noise). Overlapping columns are solved jointly (coupling); the model is in columnmodel. Called by runtime.pipeline.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple, Optional

import numpy as np

from stemzoo.errors import ShapeError
from stemzoo.geometry import noise, priors
from stemzoo.geometry.background import Background
from stemzoo.geometry.columnmodel import (
    CORE,
    State,
    Windows,
    background_blocks,
    fit_amplitudes,
    normal_equations,
    pair_blocks,
    render,
    residual_windows,
)
from stemzoo.geometry.coupling import Equations, covariance, joint_step
from stemzoo.geometry.neighbours import Pairs, nearest_distance, pairs_among
from stemzoo.geometry.width import mean_width

SAMPLE_PX = 60_000  # pixels that the noise model is fitted to
OVERLAP = 4.6  # sigmas: farther apart, two peaks share less than half a per cent of their information
BACKGROUND_SPACING = 10.0  # sigmas between nodes of the background: at 6, a column pays 10 % of its precision for the freedom, at 10, 3 %
LEARN_AT = (1, 2)  # iterations that learn the ellipticity and how alike the widths are
DAMPING = (0.1, 1e-3)  # at first, and at last; relative to the diagonal of a column's normal matrix
WORSE = 1.3  # times its squared residuals before: such a step of a column is taken back
OUTLIER = 4.0  # standard deviations beyond which a residual pulls with the same force
RESTING = 0.1  # standard errors: a smaller step of a column is its last …
RESTLESS = 0.03  # … and of the fit, when no more than this fraction of columns steps farther
UNSETTLED = 0.5  # standard errors: a column that still moves by more has not converged
CG_ITERATIONS = 30
NO_PAIRS = Pairs(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0))
HELD = 1e12  # relative stiffness that keeps a failed column at its start


@dataclass(frozen=True)
class RefineOptions:
    """How columns are refined.

    Args:
        width_px: sigma of the mean peak to start from; found from the frame if None.
        max_iterations: of the joint fit.
        max_move: largest believable distance from the start, as a fraction of the distance to the nearest column …
        max_move_sigmas: … and in sigmas of the peak.
        min_significance: smallest amplitude, in its standard errors, of a column whose position means anything.
        failed_sigma_px: least standard error given to a failed column.
        threads: chunks of columns worked on at a time.
    """

    width_px: Optional[float] = None
    max_iterations: int = 8
    max_move: float = 0.4
    max_move_sigmas: float = 1.5
    min_significance: float = 3.0
    failed_sigma_px: float = 0.3
    threads: int = 2


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
    """

    yx: np.ndarray
    sigma: np.ndarray
    intensity: np.ndarray
    width_px: np.ndarray
    background: np.ndarray
    chi2: np.ndarray
    ok: np.ndarray


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
        mask: (H, W) bool, pixels not to be trusted (`resample.clean`).

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
    finite = np.isfinite(image)
    usable = finite if mask is None else finite & ~mask
    inside = np.isfinite(starts).all(axis=1) & ((starts > -1) & (starts < np.asarray(image.shape))).all(axis=1)
    if not inside.any() or not usable.any():
        return _nothing(starts, settings)
    fit = _Fit(image, usable, starts, inside, min_separation_px, settings)
    fit.run()
    return fit.result()


def _nothing(starts: np.ndarray, settings: RefineOptions) -> Fit:
    n = len(starts)
    sigma = np.full((n, 2), max(1.0, settings.failed_sigma_px))
    return Fit(starts.copy(), sigma, np.zeros(n), np.full(n, np.nan), np.full(n, np.nan), np.full(n, np.nan), np.zeros(n, bool))


class _Fit:
    """One frame's fit while it runs: the fitted subset of starts, sorted by y, in normalised intensities."""

    def __init__(
        self,
        image: np.ndarray,
        usable: np.ndarray,
        starts: np.ndarray,
        inside: np.ndarray,
        min_separation_px: Optional[float],
        settings: RefineOptions,
    ) -> None:
        self.settings, self.starts = settings, starts
        values = image[usable]
        low, self.offset, high = (
            float(v) for v in np.percentile(values[:: max(1, values.size // 200_000)].astype(np.float64), (1, 30, 99.5))
        )
        self.scale = (high - low) or 1.0
        self.image = np.where(usable, (image - self.offset) / self.scale, 0.0).astype(np.float32)
        self.usable = usable
        order = np.flatnonzero(inside)
        order = order[np.argsort(starts[order, 0], kind="stable")]
        nearest = nearest_distance(starts[order], 8.0)
        typical = float(np.median(nearest[np.isfinite(nearest)])) if np.isfinite(nearest).any() else 0.5 * max(image.shape)
        self.width = settings.width_px or mean_width(self.image, usable, starts[order], typical)
        closest = 0.5 * self.width if min_separation_px is None else min_separation_px
        self.order = order[_first_of_each(starts[order], order, closest)]
        at = starts[self.order]
        self.nearest = nearest_distance(at, 2 * self.width)
        n = len(at)
        self.state = State(at.copy(), np.ones(n), np.zeros(n), np.eye(2) * self.width**2)
        self.windows = Windows(self.image, usable, at, self.width, settings.threads)
        self.state.amplitude, level = fit_amplitudes(self.windows, self.state)
        self.background = Background(self.windows.size, BACKGROUND_SPACING * self.width, float(np.median(level)))
        self.held = np.zeros(n, bool)
        self.variance = noise.flat(1.0)
        self.window_width = self.first_width = self.width
        self.damping = np.full(n, DAMPING[0])
        self.previous: Optional[State] = None
        self.squares = np.full(n, np.inf)
        self.width_spread = 0.03  # of single columns' log widths: little, until the frame shows more
        self.pairs, self.blocks = NO_PAIRS, np.zeros((0, CORE, CORE))
        self.node, self.lift = np.zeros((n, 1), np.int64), np.zeros((n, CORE, 1))
        self.move_limit = np.maximum(np.minimum(settings.max_move * self.nearest, settings.max_move_sigmas * self.width), 0.7)
        self.smallest = 1e-8  # variance, in normalised units: rounding of an 8-bit frame is 1e-6, of a float32 one 1e-14

    def run(self) -> None:
        """Iterate until the columns rest, then let those that failed return to their starts and the others settle around them."""
        for iteration in range(self.settings.max_iterations):
            self._evaluate(first=iteration == 0, shape_too=iteration in LEARN_AT)
            self._steady()
            if iteration in LEARN_AT:
                self._learn()
            self._couple()
            moving = self._step()
            if iteration > max(LEARN_AT) and moving < RESTLESS:
                break
        self._evaluate()
        self._judge()
        if self.held.any():
            for _ in range(2):
                self._step()
                self._evaluate()

    def _couple(self) -> None:
        """Work out which columns overlap and how: used for several steps, scaled to the noise and the amplitudes of each."""
        near = pairs_among(self.state.yx, OVERLAP * self.width)
        order = np.lexsort((near.second, near.first))
        self.pairs = Pairs(near.first[order], near.second[order], near.distance[order])
        self.blocks = pair_blocks(self.state, self.windows, self.weight, self.pairs)
        self.node, self.lift = background_blocks(self.state, self.windows, self.weight, self.background)

    def _evaluate(self, first: bool = False, shape_too: bool = False) -> None:
        """Compare the model with the frame: residual, noise and the weights that follow from it, normal equations."""
        windows = self.windows
        expected = render(self.state, windows)
        self.background.draw(windows.inner(expected))
        self.residual = windows.image - expected
        rows = self._sample()
        squared = self.residual.ravel()[rows].astype(np.float64) ** 2
        # a fit follows part of the noise: the residuals of m pixels with k parameters carry (m − k) / m of it
        self.left = max(0.25, 1 - CORE * len(self.state.yx) / max(1, np.count_nonzero(windows.covered)))
        if first:
            self.variance = noise.flat(max(float(squared.mean()), self.smallest))
        else:
            self.variance = noise.fit_variance(expected.ravel()[rows].astype(np.float64), squared / self.left, self.smallest)
        variance = self.variance(expected)
        self.weight = windows.covered / variance
        if not first:
            far = np.abs(self.residual) / np.sqrt(variance)
            self.weight *= OUTLIER / np.maximum(far, OUTLIER)
        self.normal = normal_equations(self.state, windows, self.residual, self.weight, shape_too)

    def _sample(self) -> np.ndarray:
        """Return flat positions of pixels that the noise is learnt from: not near the frame's edge, beyond which columns may lie that nobody sees."""
        windows = self.windows
        inner = np.zeros_like(windows.covered)
        rim = min(int(3 * self.width), min(windows.size) // 4)
        core = slice(windows.pad + rim, -windows.pad - rim)
        inner[core, core] = windows.covered[core, core]
        flat = np.flatnonzero(inner if inner.any() else windows.covered)
        return flat[:: max(1, len(flat) // SAMPLE_PX)]

    def _steady(self) -> None:
        """Take back the steps of columns that fit much worse than before, and step more carefully there; less so where all is well."""
        worse = self.normal.squares > WORSE * self.squares
        if self.previous is not None and worse.any():
            for name in ("yx", "amplitude", "log_width"):
                getattr(self.state, name)[worse] = getattr(self.previous, name)[worse]
            self.squares = np.where(worse, self.squares, self.normal.squares)
            self._evaluate()
        else:
            self.squares = self.normal.squares
        self.damping = np.where(worse, np.minimum(10 * self.damping, 10.0), np.maximum(0.2 * self.damping, DAMPING[1]))

    def _step(self) -> float:
        """Take one joint step; return the fraction of columns that it moved noticeably."""
        state, background = self.state, self.background
        background.weigh(self.windows.inner(self.weight))
        score = background.score(self.windows.inner(self.weight * self.residual))
        self.previous = replace(state)
        step = joint_step(self._equations(), background, score, self.damping, CG_ITERATIONS)
        length = np.hypot(step.columns[:, 0], step.columns[:, 1])
        limit = np.minimum(1.0, 0.5 * self.width / np.maximum(length, 1e-12))
        state.yx = state.yx + step.columns[:, :2] * limit[:, None]
        state.amplitude = state.amplitude + np.clip(
            step.columns[:, 2], -0.7 * np.abs(state.amplitude) - 0.02, 2 * np.abs(state.amplitude) + 0.1
        )
        state.log_width = np.clip(state.log_width + np.clip(step.columns[:, 3], -0.2, 0.2), -0.7, 0.7)
        self._widen(float(np.clip(step.width, -0.2, 0.2)))
        background.values = background.values + step.nodes.reshape(background.count)
        self.last_step = length
        error = 1 / np.sqrt(np.maximum(self.normal.matrix[:, 0, 0], 1e-30))
        return float((length > np.maximum(RESTING * error, 1e-4)).mean())

    def _widen(self, log_factor: float) -> None:
        """Make the mean peak exp(log_factor) times as wide; windows follow where it matters."""
        self.state.shape = self.state.shape * np.exp(2 * log_factor)
        self.width = float(np.linalg.det(self.state.shape) ** 0.25)
        believable = float(np.clip(self.width, 0.6 * self.first_width, 1.7 * self.first_width))
        self.state.shape *= (believable / self.width) ** 2
        self.width = believable
        if abs(self.width / self.window_width - 1) > 0.04:
            self.windows.set_width(self.width)
            self.window_width = self.width

    def _equations(self) -> Equations:
        """Return the joint equations with what was learnt of widths added, and failed columns held in place."""
        own, gradient = self.normal.matrix[:, :CORE, :CORE], self.normal.gradient.copy()
        stiff, pull = np.zeros_like(gradient), np.zeros_like(gradient)
        stiff[:, 3] = 1 / self.width_spread**2
        pull[:, 3] = -self.state.log_width / self.width_spread**2
        for axis in (0, 1):
            stiff[self.held, axis] = HELD * own[self.held, axis, axis]
            gradient[self.held, axis] = 0
        plane, flat = self.normal.matrix[:, :CORE, CORE:], self.normal.matrix[:, CORE:, CORE:]
        return Equations(own, gradient, stiff, pull, self.blocks, self.pairs, self.node, self.lift, plane, flat)

    def _learn(self) -> None:
        """Learn from what each column would say of its width on its own how alike they are; give the mean peak the ellipticity they agree on."""
        free = self._equations()._replace(pairs=NO_PAIRS, stiff=np.zeros_like(self.normal.gradient))
        alone = covariance(free, self.state.yx)
        estimate = self.state.log_width + np.einsum("nj,nj->n", alone[:, 3], self.normal.gradient)
        self.width_spread = priors.learn_width(estimate, alone[:, 3, 3]).spread
        misfit = self.normal.chi2 / np.maximum(self.normal.pixels, 1)
        score, information = self.normal.ellipticity[misfit <= np.percentile(misfit, 90)].sum(axis=0).T
        stretch, shear = np.clip(score / np.maximum(information, 1e-30), -0.15, 0.15) * (score**2 > 9 * information)
        shape = self.state.shape
        self.state.shape = shape + np.array([[2 * stretch * shape[0, 0], shear], [shear, -2 * stretch * shape[1, 1]]])

    def _judge(self) -> None:
        """Decide which columns failed, and put those back to their starts."""
        state, start = self.state, self.starts[self.order]
        error = np.sqrt(np.einsum("nii->ni", covariance(self._equations(), self.state.yx)))
        moved = np.hypot(*(state.yx - start).T)
        significant = state.amplitude > self.settings.min_significance * error[:, 2]
        typical = np.median(state.amplitude[significant]) if significant.any() else 1.0
        good = np.isfinite(error).all(axis=1) & np.isfinite(state.yx).all(axis=1) & (moved <= self.move_limit)
        good &= significant & (state.amplitude < 100 * typical) & (np.abs(state.log_width) < 0.6)
        good &= (error[:, :2] < 0.5 * self.width).all(axis=1) & (self.normal.pixels >= 8)
        good &= self.last_step <= np.maximum(UNSETTLED * np.hypot(error[:, 0], error[:, 1]), 0.01)
        self.held = ~good
        state.yx[self.held] = start[self.held]
        state.log_width[self.held] = 0.0

    def result(self) -> Fit:
        """Return the fit in the units and the order of the input."""
        state, n = self.state, len(self.starts)
        reduced_chi2 = self.normal.chi2 / np.maximum(self.normal.pixels * self.left, 1.0)
        error = np.sqrt(np.einsum("nii->ni", covariance(self._equations(), self.state.yx))[:, :2])
        error *= self._misfit(reduced_chi2)[:, None] * self._correlation()
        good = ~self.held & np.isfinite(error).all(axis=1) & (error > 0).all(axis=1)
        at = self.order
        out = _nothing(self.starts, self.settings)
        out.yx[at[good]] = state.yx[good]
        out.sigma[at[good]] = np.maximum(error[good], 1e-4)
        out.intensity[at] = state.amplitude * state.area() * self.scale
        out.width_px[at] = self.width * np.exp(state.log_width)
        out.background[at] = self.background.at(state.yx) * self.scale + self.offset
        out.chi2[at] = reduced_chi2
        out.ok[at[good]] = True
        failed = ~out.ok
        if failed.any():
            scatter = self.settings.failed_sigma_px
            if good.sum() >= 5:
                scatter = max(scatter, 1.5 * 1.4826 * float(np.median(np.abs(state.yx[good] - self.starts[at[good]]))))
            out.sigma[failed] = scatter
        assert len(out.yx) == n
        return out

    def _misfit(self, reduced_chi2: np.ndarray) -> np.ndarray:
        """Return the factor (n,) by which misfit widens a standard error: √χ², where χ² is more than its own scatter above 1."""
        scatter = np.sqrt(2 / np.maximum(self.normal.pixels, 2.0))
        return np.sqrt(np.maximum(1.0, reduced_chi2 - 2 * scatter))

    def _correlation(self) -> np.ndarray:
        """Return the factors (2,) by which correlated noise widens the standard errors in y and x."""
        rim = 4 * self.width
        inner = ((self.state.yx > rim) & (self.state.yx < np.asarray(self.windows.size) - rim)).all(axis=1)
        misfit = self.normal.chi2 / np.maximum(self.normal.pixels, 1)
        free = ~self.held & (inner if inner.any() else True)
        if not free.any():
            return np.ones(2)
        free &= misfit <= np.percentile(misfit[free], 75)
        which = np.flatnonzero(free)
        which = which[:: max(1, len(which) // 200)]
        return noise.correlation_inflation(
            *residual_windows(self.state, self.windows, self.residual, self.weight, which), shape=self.state.shape
        )


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
