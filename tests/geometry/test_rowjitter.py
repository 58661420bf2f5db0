"""Rows that a scan shifts sideways: how far is told from what a fit leaves over, and standard errors of x allow for it."""

import numpy as np
import pytest
from simulated import Scene, lattice, scene

from stemzoo.geometry.refine import Fit, refine
from stemzoo.simulation.noise import shift_rows

SIZE, SIGMA = 256, 2.4


def _scanned(kind: str, spacing: float, counts: float, jitter: float, seed: int, turn: float = 0.3) -> tuple[Scene, Fit]:
    yx, amplitude = lattice(kind, spacing, SIZE, seed, turn=turn)
    truth = scene(yx, amplitude * counts, SIGMA, (SIZE, SIZE), 0.2 * counts)
    rng = np.random.default_rng(seed)
    scanned = rng.poisson(shift_rows(truth.expected, rng.normal(0, jitter, SIZE)))
    return truth, refine(scanned, truth.starts(seed))


@pytest.mark.parametrize("turn", [0.0, 0.3])  # along the rows all columns of a row share the same shifts
@pytest.mark.parametrize("jitter", [0.12, 0.5])
def test_the_rows_shift_is_told_from_one_frame(jitter: float, turn: float) -> None:
    told = [_scanned("square", 14, 800, jitter, seed, turn)[1].row_jitter for seed in range(3)]
    assert np.mean(told) == pytest.approx(jitter, rel=0.25)


@pytest.mark.parametrize("kind", ["square", "dumbbell"])
def test_a_steady_scan_shows_none(kind: str) -> None:
    told = [_scanned(kind, 8 if kind == "dumbbell" else 14, 800, 0.0, seed)[1].row_jitter for seed in range(4)]
    assert max(told) < 0.04


def test_errors_along_rows_cover_for_bright_columns_and_for_faint_ones() -> None:
    z, bright = [], []
    for seed in range(4):
        truth, fit = _scanned("perovskite", 12, 1500, 0.4, seed)
        z.append(((fit.yx - truth.yx) / fit.sigma)[fit.ok])
        bright.append((truth.peak > 1000)[fit.ok])
    errors, which = np.abs(np.concatenate(z)), np.concatenate(bright)
    for group in (which, ~which):
        assert 0.9 < (errors[group, 1] < 1.96).mean() < 0.99  # one factor for both leaves the bright at 0.8
        assert (errors[group, 0] < 1.96).mean() > 0.9


def test_only_errors_along_rows_are_widened_by_it() -> None:
    still, moved = (_scanned("square", 14, 800, jitter, 1)[1] for jitter in (0.0, 0.4))
    along, across = (np.median(fit.sigma[:, 1] / fit.sigma[:, 0]) for fit in (moved, still))
    assert along > 2.0
    assert across == pytest.approx(1.0, abs=0.1)


def test_few_columns_are_enough() -> None:
    rng = np.random.default_rng(3)
    yx = rng.uniform(20, SIZE - 20, (12, 2))
    truth = scene(yx, np.full(12, 800.0), SIGMA, (SIZE, SIZE), 100.0)
    fit = refine(rng.poisson(shift_rows(truth.expected, rng.normal(0, 0.6, SIZE))), truth.starts(0))
    assert 0.35 < fit.row_jitter < 0.85
