"""One frame's fit while it runs: all columns and the background moved together until they rest. Owns the iteration, NumPy only.

Works in normalised intensities on starts sorted by y; refine prepares those, judges the outcome and turns it into a Fit; certainty
tells how well the columns are known then.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Optional

import numpy as np

from stemzoo.geometry import priors
from stemzoo.geometry.background import Background
from stemzoo.geometry.columnmodel import CORE, State, fit_amplitudes, normal_equations, pair_blocks
from stemzoo.geometry.coupling import Equations, covariance, joint_step
from stemzoo.geometry.gram import U, V, whitening
from stemzoo.geometry.neighbours import Pairs, Vicinity
from stemzoo.geometry.progress import RESTLESS, Progress, Starts, restlessness
from stemzoo.geometry.residuals import Residuals
from stemzoo.geometry.rim import find_beyond
from stemzoo.geometry.rowjitter import RowJitter
from stemzoo.geometry.sidebyside import inverse
from stemzoo.geometry.starts import Trust
from stemzoo.geometry.windows import Windows

OVERLAP = 4.6  # sigmas: farther apart, two peaks share less than half a per cent of what is known of their positions …
COUPLED = 5.4  # … and two per cent of what is known of their widths: the step of the common width would overshoot without
BACKGROUND_SPACING = 10.0  # sigmas between nodes of the background: at 6, a column pays 10 % of its precision for the freedom, at 10, 3 %
LEARN_AT = 1  # iteration that learns how alike the widths are, and who is beyond the edge
TRUST_AT = LEARN_AT, 4  # iterations that learn how far starts can be trusted: the second where the first came too early
LEARN_SHAPE_UNTIL = 4  # last iteration that may change the ellipticity
DAMPING = (0.1, 1e-3)  # at first, and at last; relative to the diagonal of a column's normal matrix
WORSE = 1.3  # times its squared residuals before: such a step of a column is taken back …
HARMLESS = 0.01  # … unless it was of so few sigmas: without noise, residuals are so small that they grow at every turn
STALE = 0.1  # change of the noise's contrast between bright and dark, in logarithms, after which overlaps are worked out anew
CALM = 0.3  # change of the noise, in logarithms, above which what seems noise is columns that are not in place yet
UNQUIET = 0.2  # fraction of columns on the move above which overlaps are worked out anew …
LONG_STEP, FEW = 0.1, 0.01  # … as they are where more than this fraction stepped by so many sigmas
WILD, MANY = 0.8, 0.02  # sigmas: where more than this fraction of steps are longer, the equations were out of date and none is taken
TELLING = 400  # columns whose own widths tell how alike all are
CG_ITERATIONS = 30
BEYOND_STIFFNESS = 0.3  # sigmas: how far a column beyond the edge may lie from where it was guessed
LOST, LEASH = 0.25, 0.4  # sigmas: where starts say nothing, a column known worse than the one stays near its start by the other
EDGE, NO_PRIOR = 1.0, 1e6  # sigmas from the edge within which a start says nothing; squared sigmas: a prior so wide is none
HELD = 1e12  # relative stiffness that keeps a failed column at its start
NO_PAIRS = Pairs(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0))


class JointFit:
    """The fit of one frame: `run`, then read `state`, `background`, `normal` and `progress`."""

    def __init__(
        self,
        image: np.ndarray,
        usable: np.ndarray,
        begin: Starts,
        width_px: float,
        careful: bool = False,
    ) -> None:
        """Args: image (H, W) float32, 0 where not usable; usable (H, W) bool; width_px sigma of the mean peak.

        careful: hold the widths at `width_px` and the background stiff, for frames in which those cannot be told from the columns.
        """
        place, start, nearest, self.given = begin
        self.trust = self.given
        n = len(start)
        self.width = self.window_width = self.first_width = width_px
        damping = np.where(nearest < OVERLAP * width_px, DAMPING[0], DAMPING[1])
        self.progress = Progress(place, start, nearest, np.zeros(n, bool), damping, np.full(n, np.inf))
        self.state = State(start.copy(), np.ones(n), np.zeros(n), np.eye(2) * width_px**2)
        self.previous: Optional[State] = None
        self.vicinity = Vicinity()
        self.windows = Windows(image, usable, start, width_px)
        self.beside = Residuals(self.windows)
        self.state.amplitude, level = fit_amplitudes(self.windows, self.state, np.arange(n))
        spacing = (2 if careful else 1) * BACKGROUND_SPACING * width_px
        self.background = Background(self.windows.size, spacing, float(np.median(level)))
        self.width_spread = 0.005 if careful else 0.03  # of single columns' log widths: little, until the frame shows more
        self.careful, self.least_damping = careful, 0.03 if careful else DAMPING[1]
        self.last_step = np.zeros(n)
        self.settled = False  # after the first step that was taken
        self.contrast, self.stale = 0.0, True

    def run(self, max_iterations: int) -> None:
        """Iterate until the columns rest."""
        last_learning, moving = LEARN_AT, 1.0
        for iteration in range(max_iterations):
            self.evaluate(first=iteration == 0)
            self._steady()
            if iteration == LEARN_AT:
                if not self.careful:
                    self._learn_widths()
                if self._look_beyond():
                    self.evaluate(learn=False)
            if self.given is not None and iteration in TRUST_AT:
                self._learn_trust(self.given)
            unquiet = iteration > last_learning + 1 and (moving > UNQUIET or self._long_steps() > FEW)
            if self.stale or unquiet or iteration in (LEARN_AT, last_learning):
                self.couple()
            if LEARN_AT < iteration <= LEARN_SHAPE_UNTIL and self._learn_shape():
                last_learning = iteration + 1
            moving = self.step()
            if iteration > max(LEARN_AT, last_learning - 1) and moving < RESTLESS and self.beside.calmed < CALM:
                break

    def _long_steps(self) -> float:
        """Return the fraction of columns whose last step was long."""
        return float((self.last_step > LONG_STEP * self.width).mean())

    def evaluate(self, first: bool = False, learn: bool = True) -> None:
        """Compare the model with the frame: residual, the noise and the weights that follow from it, each column's normal equations."""
        self.beside.take(self.state, self.background, first, learn)
        self.normal = normal_equations(self.state, self.windows, self.beside.residual, self.beside.weight)
        # overlaps are measured in each column's own information, so only a change of the noise's dependence on the signal makes them stale
        contrast = self.beside.contrast
        self.stale = self.stale or abs(contrast - self.contrast) > STALE
        self.contrast = contrast if self.stale else self.contrast

    def couple(self) -> None:
        """Work out how columns overlap with each other and with the background: kept for later steps too, scaled to their noise and
        amplitudes."""
        self.pairs = self.vicinity.among(self.state.yx, COUPLED * self.width)
        self.blocks = pair_blocks(self.state, self.windows, self.beside.weight, self.pairs)
        self.node, by_node = self.background.about(self.state.yx, self.state.shape)
        self.lift = np.einsum("abn,bkn->akn", self.normal.plane, by_node)
        self.background.weigh(self.windows.inner(self.beside.weight))
        self.coupled, self.stale = (self._strength(), self.beside.total), False

    def _strength(self) -> np.ndarray:
        """Return the square root of each column's own information (4, n): what its couplings are measured in."""
        strength: np.ndarray = np.sqrt(np.maximum(np.einsum("iin->in", self.normal.own), 1e-30))
        return strength

    def _steady(self) -> None:
        """Take back the steps of columns that fit much worse than before, and step more carefully there; less so where all is well."""
        progress = self.progress
        worse = (self.normal.squares > WORSE * progress.squares) & (self.last_step > HARMLESS * self.width)
        if self.previous is not None and worse.mean() > FEW:
            for name in ("yx", "amplitude", "log_width"):
                getattr(self.state, name)[worse] = getattr(self.previous, name)[worse]
            self.evaluate()
        # also of those taken back: what fits worse because its surroundings moved is not its own step's doing, and would be for ever
        progress.squares = self.normal.squares
        progress.damp(worse, self.least_damping)

    def step(self) -> float:
        """Take one joint step; return the fraction of columns that it moved noticeably, those that it moved much counted for many."""
        state, background = self.state, self.background
        score = background.score(self.windows.inner(self.beside.residual), self.windows.inner(self.beside.weight))
        self.previous = replace(state)
        step = joint_step(self.equations(), background, score, self.progress.damping, CG_ITERATIONS)
        move = np.linalg.cholesky(state.shape) @ step.columns[:2]  # from sigmas to px
        length = np.hypot(*move)
        self.last_step = length
        if not np.isfinite(length).all() or (length > WILD * self.width * (1 if self.settled else 2)).mean() > MANY:
            self.progress.damping = np.minimum(10 * self.progress.damping, 10.0)
            background.damping = min(3 * background.damping, 1.0)
            self.previous = None
            return 1.0
        self.settled = True
        limit = np.minimum(1.0, 0.5 * self.width / np.maximum(length, 1e-12))
        size = np.abs(state.amplitude)
        state.yx = state.yx + (move * limit).T
        state.amplitude = state.amplitude + np.clip(step.columns[2], -0.7 * size - 0.02, 2 * size + 0.1)
        state.log_width = np.clip(state.log_width + np.clip(step.columns[3], -0.2, 0.2), -0.7, 0.7)
        background.values = background.values + step.nodes.reshape(background.count)
        self._widen(float(np.clip(step.width, -0.2, 0.2)))
        error = self.width / np.sqrt(np.maximum(self.normal.own[U, U], 1e-30))
        seen = self.progress.place >= 0
        seen[self.pairs.first[self.progress.place[self.pairs.second] < 0]] = False  # these wait for what is beyond the edge, slowly
        seen &= ((state.yx > -0.5) & (state.yx < np.asarray(self.windows.size) - 0.5)).all(axis=1)  # and these will not be believed
        if not seen.any():
            return 0.0
        return restlessness(length[seen], error[seen], self.width)

    def _widen(self, log_factor: float) -> None:
        """Make the mean peak exp(log_factor) times as wide, within what its first estimate allows; windows follow where it matters."""
        wanted = float(np.linalg.det(self.state.shape) ** 0.25) * float(np.exp(log_factor))
        self.width = float(np.clip(wanted, 0.6 * self.first_width, 1.7 * self.first_width))
        self.state.shape = self.state.shape * (self.width**2 / np.sqrt(np.linalg.det(self.state.shape)))
        if abs(self.width / self.window_width - 1) > 0.04:
            self.windows.set_width(self.width)
            self.window_width = self.width

    def equations(self) -> Equations:
        """Return the joint equations with what was learnt of widths added, failed columns held in place and those beyond the edge on a
        leash."""
        own, gradient, progress = self.normal.own, self.normal.gradient.copy(), self.progress
        stiff, pull = np.zeros_like(gradient), np.zeros_like(gradient)
        stiff[3] = 1 / self.width_spread**2
        pull[3] = -self.state.log_width / self.width_spread**2
        beyond, held = progress.place < 0, progress.held
        sharing = np.where(beyond | self.careful, 0.0, 1.0)
        away = whitening(self.state.shape) @ (progress.start - self.state.yx).T
        bound = 1 / (self._leash() if self.trust is None else self.prior(self.trust))
        for axis in (U, V):
            stiff[axis] = bound
            pull[axis] = bound * away[axis]
            stiff[axis, beyond] = BEYOND_STIFFNESS**-2
            pull[axis, beyond] = BEYOND_STIFFNESS**-2 * away[axis, beyond]
            stiff[axis, held] = HELD * (own[axis, axis, held] + 1e-12)
            gradient[axis, held] = 0
        change = self._strength() / self.coupled[0]
        blocks = self.blocks * change[:, None, self.pairs.first] * change[:, self.pairs.second]
        lift = self.lift * (change * np.sqrt(self.beside.total / self.coupled[1]))[:, None]
        plane = self.normal.plane[:, :3]
        return Equations(own, gradient, stiff, pull, sharing, blocks, self.pairs, self.node, lift, plane, self.normal.flat)

    def alone(self) -> np.ndarray:
        """Return the variance (n,) of each column's place on its own, all else known, in sigmas of the mean peak squared."""
        alone: np.ndarray = 1 / np.maximum(self.normal.own[U, U], 1e-30)
        return alone

    def prior(self, trust: Trust) -> np.ndarray:
        """Return the variance (n,) of the prior that each start is; those at the edge say nothing, as their maxima may lie beyond it."""
        return np.where(self._at_edge(), NO_PRIOR, trust.prior(self.alone()))

    def _leash(self) -> np.ndarray:
        """Return the variance (n,) of the prior on columns that the frame says next to nothing of: without it they stray into others."""
        return np.where(self.alone() > LOST**2, LEASH**2, NO_PRIOR)

    def _at_edge(self) -> np.ndarray:
        """Return which columns (n,) started so near to the frame's edge that their maximum may lie beyond it."""
        start, rim = self.progress.start, EDGE * self.width
        return np.asarray(((start < rim) | (start > np.asarray(self.windows.size) - 1 - rim)).any(axis=1))

    def _learn_widths(self) -> None:
        """Learn from what each column would say of its width on its own how alike they are."""
        some = slice(None, None, 1 + len(self.state.yx) // TELLING)
        own, plane, flat, gradient = (
            part[..., some] for part in (self.normal.own, self.normal.plane[:, :3], self.normal.flat, self.normal.gradient)
        )
        free = self.equations()._replace(own=own, plane=plane, flat=flat, stiff=np.zeros_like(gradient), pairs=NO_PAIRS)
        alone = covariance(free, self.state.yx[some].T, 0.0)
        estimate = self.state.log_width[some] + np.einsum("jn,jn->n", alone[3], gradient)
        self.width_spread = priors.learn_width(estimate, alone[3, 3]).spread

    def _learn_trust(self, given: Trust) -> None:
        """Learn how far starts can be trusted from how far from them each column would go on its own."""
        seen, (n, square) = (self.progress.place >= 0) & ~self._at_edge(), (self.state.yx.shape[0], np.diag(self.state.shape))
        alone = inverse(self.normal.own + 1e-9 * np.eye(CORE)[:, :, None])[:2]
        away = whitening(self.state.shape) @ (self.state.yx - self.progress.start).T + np.einsum("ijn,jn->in", alone, self.normal.gradient)
        variance = alone[[U, V], [U, V]] * (self.correlation() ** 2)[:, None]
        room = self.windows.many_covered / (n * np.sqrt(square.prod()))
        self.trust = given.learnt(away[:, seen], variance[:, seen], float(room))

    def correlation(self) -> np.ndarray:
        """Return the factors (2,) by which correlated noise widens the standard errors in y and x."""
        misfit = self.normal.chi2 / np.maximum(self.windows.pixels, 1)
        return self.beside.correlation(self.state, ~self.progress.held & self.progress.seen, misfit)

    def row_jitter(self) -> RowJitter:
        """Return how far rows are shifted sideways [px], and how far that moves columns."""
        return self.beside.row_jitter(self.state, ~self.progress.held & self.progress.seen)

    def _learn_shape(self) -> bool:
        """Give the mean peak the ellipticity that columns agree on, where they do so beyond noise; return whether that changed it much."""
        change = priors.learn_shape(self.normal.ellipticity, self.normal.chi2 / np.maximum(self.windows.pixels, 1))
        root = np.linalg.cholesky(self.state.shape)
        self.state.shape = root @ (np.eye(2) + change) @ root.T
        return bool(np.abs(change).max() > 0.02)

    def _look_beyond(self) -> bool:
        """Add columns beyond the edge of the frame, of which only the flank is seen, where the rim's residuals show them; return whether
        any."""
        found, amplitude = find_beyond(
            self.windows.inner(self.beside.residual),
            self.windows.inner(self.beside.weight),
            self.state.yx,
            self.width,
            float(np.median(self.state.amplitude)),
        )
        if len(found) == 0:
            return False
        state, progress, many = self.state, self.progress, len(found)
        yx = np.concatenate([state.yx, found])
        order = np.argsort(np.rint(yx[:, 0]), kind="stable")
        self.state = State(
            yx[order], np.append(state.amplitude, amplitude)[order], np.append(state.log_width, np.zeros(many))[order], state.shape
        )
        self.progress = progress.joined(found, order, DAMPING[0])
        self.previous = None
        self.last_step = np.append(self.last_step, np.zeros(many))[order]
        self.windows.place(self.progress.start, self.width)
        self.window_width = self.width
        return True
