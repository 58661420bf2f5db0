"""Lattices of known vectors under noise, gradients, vacuum and several grains; and frames that have none."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from simulated import lattice, scene

from stemzoo.errors import ShapeError
from stemzoo.geometry.lattice import find_lattice

SPACING_TO_PERIOD = {"square": 1.0, "perovskite": 2**0.5, "honeycomb": 3**0.5, "graphene": 3**0.5}


def _frame(
    kind: str, spacing: float, size: int, counts: float, sigma_of_spacing: float = 0.2, turn: float = 0.3, seed: int = 0
) -> np.ndarray:
    yx, peak = lattice(kind, spacing, size, margin_px=-10, turn=turn, seed=seed)
    y, x = np.mgrid[:size, :size] / size
    return scene(yx, peak * counts, sigma_of_spacing * spacing, (size, size), counts * (0.4 + 0.6 * y + 0.3 * x * x)).noisy(seed)


@pytest.mark.parametrize("kind", list(SPACING_TO_PERIOD))
@pytest.mark.parametrize("spacing", [6.0, 9.3, 17.7])
@pytest.mark.parametrize("counts", [3, 100])
def test_periods_are_within_half_a_percent_at_any_dose(kind: str, spacing: float, counts: float) -> None:
    found = find_lattice(_frame(kind, spacing, 300, counts))
    assert found is not None
    assert found.period_px == pytest.approx(spacing * SPACING_TO_PERIOD[kind], rel=0.005)
    assert np.hypot(*found.vectors_px[1]) == pytest.approx(found.period_px, rel=0.01)
    angle = np.degrees(np.arccos(abs(found.vectors_px[0] @ found.vectors_px[1]) / np.prod(np.hypot(*found.vectors_px.T))))
    assert angle == pytest.approx(60 if kind in ("honeycomb", "graphene") else 90, abs=1)


def test_an_oblique_cell_with_a_basis_gives_its_own_vectors() -> None:
    yx, peak = lattice("dumbbell", 6.0, 300, margin_px=-10, turn=0.1)
    found = find_lattice(scene(yx, peak * 50, 1.8, (300, 300), 20.0).noisy(0))
    assert found is not None
    assert abs(np.linalg.det(found.vectors_px)) == pytest.approx(2.8 * 4.0 * 36, rel=0.01)


def test_of_two_grains_the_larger_wins_and_the_strength_says_that_there_is_another() -> None:
    left, right = _frame("square", 11.0, 320, 60, turn=0.1), _frame("square", 11.0, 320, 60, turn=0.55)
    both = np.where(np.arange(320)[None] < 210, left, right)
    found, alone = find_lattice(both), find_lattice(left)
    assert found is not None
    assert alone is not None
    assert found.period_px == pytest.approx(11.0, rel=0.01)
    direction = np.degrees(np.arctan2(*found.vectors_px[0])) % 90
    assert direction == pytest.approx(np.degrees(np.arctan2(*alone.vectors_px[0])) % 90, abs=1)
    assert found.strength < alone.strength


def test_half_a_frame_of_vacuum_and_hot_pixels_do_not_hide_a_lattice() -> None:
    frame = _frame("perovskite", 12.0, 320, 80)
    frame[:, 190:] = np.random.default_rng(0).poisson(2, frame[:, 190:].shape)
    frame.ravel()[np.random.default_rng(1).choice(frame.size, 100)] = 5 * frame.max()
    found = find_lattice(frame)
    assert found is not None
    assert found.period_px == pytest.approx(12 * 2**0.5, rel=0.01)


@pytest.mark.parametrize("counts", [0.1, 5, 300])
def test_noise_single_atoms_gradients_and_fringes_have_no_lattice(counts: float) -> None:
    rng = np.random.default_rng(7)
    y, x = np.mgrid[:256, :256]
    atoms = scene(rng.uniform(8, 248, (40, 2)), np.full(40, 2 * counts), 2.5, (256, 256), counts)
    texture = counts * (2 + np.cos(x / 31.0) + np.sin(y / 23.0 + x / 57.0))
    for expected in (
        np.full((256, 256), counts),
        atoms.expected,
        counts * (1 + y / 100),
        texture,
        counts * (2 + np.cos(y * 0.7 + x * 0.2)),
    ):
        assert find_lattice(rng.poisson(expected)) is None
    assert find_lattice(1.0 + y + 0 * x) is None
    assert find_lattice(np.ones((64, 64))) is None


def test_a_stack_is_refused() -> None:
    with pytest.raises(ShapeError, match=r"\(2, 32, 32\)"):
        find_lattice(np.zeros((2, 32, 32)))


@pytest.mark.real
def test_real_frames_have_the_lattices_that_their_crystals_have(real_dir: Path) -> None:
    molybdenite = find_lattice(np.load(real_dir / "MoS2_stem_Exp-000-2.npy"))
    assert molybdenite is not None
    # 16 % of scan distortion: the area of the cell is what agrees with a = 3.16 Å at 0.1758 Å/px
    cell = abs(np.linalg.det(molybdenite.vectors_px))
    assert np.sqrt(cell * 2 / 3**0.5) * 9 / 51.2 == pytest.approx(3.16, rel=0.02)
    iron = find_lattice(np.load(real_dir / "Fe_bcc_100.npy"))
    assert iron is not None
    assert np.hypot(*iron.vectors_px[1]) == pytest.approx(iron.period_px, rel=0.02)
    assert 16 < iron.period_px < 17.5  # one grain's, not the coincidence lattice of both
