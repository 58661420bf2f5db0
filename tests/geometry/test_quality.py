"""Signs that a frame was not located well: each shows where it should and stays away from frames that were."""

from __future__ import annotations

import numpy as np
import pytest
from simulated import lattice, scene

from stemzoo.geometry.quality import judge, reasons
from stemzoo.types import Quality

SIZE, SPACING, SIGMA = 240, 14.0, 2.5


def crystal(kind: str = "perovskite", counts: float = 60.0) -> tuple[np.ndarray, np.ndarray]:
    """Return a frame and its columns."""
    yx, peak = lattice(kind, SPACING, SIZE, margin_px=-5)
    inside = ((yx >= 0) & (yx <= SIZE - 1)).all(axis=1)
    return scene(yx, peak * counts, SIGMA, (SIZE, SIZE), 0.3 * counts).noisy(0), yx[inside]


@pytest.mark.parametrize("kind", ["square", "perovskite", "honeycomb", "dumbbell"])
@pytest.mark.parametrize("counts", [5.0, 200.0])
def test_nothing_speaks_against_a_crystal_whose_columns_were_all_found(kind: str, counts: float) -> None:
    image, yx = crystal(kind, counts)
    quality = judge(image, yx, accepted=len(yx), doubtful=len(yx) // 50, width=0.5)
    assert quality.short_pairs == 0
    assert quality.gaps == pytest.approx(0, abs=0.02)
    assert reasons(quality) == {}


@pytest.mark.parametrize("kind", ["square", "perovskite", "honeycomb", "dumbbell"])
@pytest.mark.parametrize("counts", [5.0, 200.0])
def test_inverted_contrast_is_said_of_every_lattice_and_of_none_as_it_is(kind: str, counts: float) -> None:
    """Of a honeycomb the gaps form a lattice with more holes than columns, and are yet blunter than columns."""
    image, yx = crystal(kind, counts)
    inverted = image.max() - image
    for background in (0.0, np.linspace(0, 3 * image.std(), SIZE)[:, None]):
        as_it_is = judge(image + background, yx, len(yx), 0, width_px=SIGMA)
        assert "polarity" not in reasons(as_it_is) and as_it_is.polarity > 0.1
        assert "contrast is inverted" in reasons(judge(inverted + background, yx, len(yx), 0, width_px=1.4 * SIGMA))["polarity"]
    assert judge(image, yx, len(yx), 0).polarity is None


@pytest.mark.parametrize("spoilt", ["noise", "dark rows", "step", "flat"])
def test_neither_noise_nor_dark_rows_nor_steps_look_inverted(spoilt: str) -> None:
    rng = np.random.default_rng(5)
    image, yx = crystal("square")
    if spoilt == "dark rows":
        image[50::60] = 0
    if spoilt == "step":
        image[:, SIZE // 2 :] *= 0.1
    if spoilt == "noise":
        image = rng.poisson(3, image.shape).astype(np.float64)
    if spoilt == "flat":
        image = np.full(image.shape, 7.0)
    quality = judge(image, yx, len(yx), 0, width_px=SIGMA)
    assert "polarity" not in reasons(quality) and quality.polarity is not None


def test_columns_missed_in_a_part_of_the_frame_leave_a_gap() -> None:
    image, yx = crystal()
    quality = judge(image, yx[yx[:, 1] < 0.6 * SIZE], accepted=len(yx), doubtful=0)
    assert quality.gaps == pytest.approx(0.37, abs=0.06)
    assert "columns may have been missed" in reasons(quality)["gaps"]


def test_vacuum_is_no_gap() -> None:
    image, yx = crystal()
    image[:, 150:] = np.random.default_rng(1).poisson(5, image[:, 150:].shape)
    assert reasons(judge(image, yx[yx[:, 1] < 150], accepted=len(yx), doubtful=0)) == {}


def test_columns_found_twice_are_short_pairs() -> None:
    image, yx = crystal()
    twice = np.concatenate([yx, yx[::5] + 3.0])
    quality = judge(image, twice, accepted=len(twice), doubtful=0)
    assert quality.short_pairs == pytest.approx(2 / 6, abs=0.05)
    assert "found twice" in reasons(quality)["short_pairs"]


def test_atoms_without_a_lattice_have_no_gaps_to_speak_of() -> None:
    yx = np.random.default_rng(3).uniform(5, SIZE - 5, (40, 2))
    assert judge(scene(yx, np.full(40, 50.0), SIGMA, (SIZE, SIZE), 20.0).noisy(0), yx, 40, 0).gaps is None


def test_a_doubtful_map_and_a_strange_width_are_said() -> None:
    assert reasons(Quality(undecided=0.4))["undecided"].startswith(
        "40% of the network's maxima are neither clearly columns nor clearly none"
    )
    assert reasons(Quality(width=0.12))["width"] == (
        "The peaks are 0.12 Å wide (σ), outside the 0.25–0.95 Å that networks are trained on: the pixel size may be wrong."
    )
    assert judge(np.zeros((32, 32)), np.zeros((0, 2)), 0, 0) == Quality()
