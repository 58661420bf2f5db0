"""The shipped segmenter on one scene after another that breaks networks: scales, spikes, saturation, gain, vacuum, nothing at all.

One number is held throughout: how far F1 falls below that of the same scene as it should be recorded.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from stemzoo.geometry.matching import match
from stemzoo.runtime.bundle import Bundle
from stemzoo.runtime.pipeline import LocateOptions, locate
from stemzoo.runtime.segmenter import Segmenter
from stemzoo.simulation import draw_frames
from stemzoo.simulation.frame import SimulatedFrame
from stemzoo.types import Analysis, Frames
from stemzoo.zoo.catalog import default

RECIPES = Path(__file__).parents[1] / "datasets"
FIELD = 40.0  # Å
LOSS = 0.01
MATERIALS = ("srtio3", "mos2", "silicon")


@pytest.fixture(scope="module")
def segmenter() -> Segmenter:
    return Segmenter(Bundle.load(default("segmentation")))


def scene(material: str, pixel_size: float = 0.2) -> SimulatedFrame:
    """Return the same field of a material at any sampling, 600 electrons a column."""
    settings = {
        "frame.sampling": pixel_size,
        "frame.size_px": round(FIELD / pixel_size),
        "frame.grains": 1,
        "dose.counts_per_column": 600.0,
        "optics.defocus_nm": 0.0,
        "optics.coma_nm": 0.0,
        "defects": [],
    }
    return next(draw_frames(RECIPES / f"{material}.toml", 1, 8, settings))


def f1(analysis: Analysis, truth: np.ndarray, pixel_size: float, frame: int = 0) -> float:
    """Return F1 at 0.5 Å of the columns that lie 1 Å or more inside the part of the frame that has any."""
    margin = 1.0 / pixel_size
    limit = np.minimum(np.array(analysis.frames.shape) - 1, truth.max(axis=0)) - margin
    found = analysis.columns[frame].yx
    pairs = match(found, truth, 0.5 / pixel_size)
    inner_found, inner_truth = (((yx > margin) & (yx < limit)).all(axis=1) for yx in (found, truth))
    hits = int(inner_truth[pairs.truth].sum())
    false = int(inner_found.sum()) - int(inner_found[pairs.found].sum())
    return 2 * hits / (hits + false + int(inner_truth.sum()))


def located(segmenter: Segmenter, image: np.ndarray, pixel_size: float | None) -> Analysis:
    return locate(Frames(image if image.ndim == 3 else image[None], pixel_size, "unknown" if pixel_size is None else "file"), segmenter)


@pytest.mark.parametrize("material", MATERIALS)
@pytest.mark.parametrize("pixel_size", [0.06, 0.1, 0.15, 0.3])
def test_f1_holds_from_six_hundredths_to_three_tenths_of_an_angstrom(segmenter: Segmenter, material: str, pixel_size: float) -> None:
    usual, other = scene(material), scene(material, pixel_size)
    reference = f1(located(segmenter, usual.image, 0.2), usual.yx, 0.2)
    assert reference > 0.98
    assert f1(located(segmenter, other.image, pixel_size), other.yx, pixel_size) >= reference - LOSS


@pytest.mark.parametrize("material", ["srtio3", "mos2"])
@pytest.mark.parametrize("pixel_size", [0.06, 0.1, 0.2, 0.3])
def test_a_missing_pixel_size_costs_little(segmenter: Segmenter, material: str, pixel_size: float) -> None:
    frame = scene(material, pixel_size)
    told = f1(located(segmenter, frame.image, pixel_size), frame.yx, pixel_size)
    assert f1(located(segmenter, frame.image, None), frame.yx, pixel_size) >= told - 2 * LOSS


def test_refinement_moves_no_column_of_a_blurred_frame_out_of_reach(segmenter: Segmenter) -> None:
    settings = {"frame.sampling": 0.28, "frame.size_px": 256, "frame.grains": 1, "dose.counts_per_column": 700.0, "optics.coma_nm": 40.0}
    frame = next(draw_frames(RECIPES / "batio3.toml", 1, 4, settings))
    frames = Frames(frame.image[None], 0.28, "file")
    fitted, found = (locate(frames, segmenter, LocateOptions(refine=fits)) for fits in (True, False))
    reference = f1(found, frame.yx, 0.28)
    assert reference > 0.98
    assert f1(fitted, frame.yx, 0.28) >= reference - 0.001
    assert fitted.columns[0].fit_ok.mean() > 0.9


def spoiled(image: np.ndarray, how: str) -> np.ndarray:
    """Return the image as a bad day would have recorded it."""
    rng = np.random.default_rng(3)
    image = image.astype(np.float64)
    if how.startswith("hot"):
        pixels = rng.choice(image.size, int(how.split()[1]), replace=False)
        image.ravel()[pixels] = 5 * image.max()
        return image
    if how == "saturated":
        low, high = np.percentile(image, (0, 97))
        return np.clip((image - low) / (high - low) * 65535, 0, 65535).astype(np.uint16).astype(np.float64)
    if how == "gain and offset":
        return -3e5 + 4321.0 * image
    if how == "half vacuum":
        image[:, image.shape[1] // 2 :] = rng.poisson(0.02 * image.mean(), (image.shape[0], image.shape[1] - image.shape[1] // 2))
        return image
    raise ValueError(how)


@pytest.mark.parametrize("how", ["hot 1", "hot 20", "hot 200", "saturated", "gain and offset", "half vacuum"])
def test_a_bad_day_costs_less_than_a_hundredth(segmenter: Segmenter, how: str) -> None:
    frame = scene("srtio3")
    truth = frame.yx if how != "half vacuum" else frame.yx[frame.yx[:, 1] < frame.image.shape[1] // 2]
    reference = f1(located(segmenter, frame.image, 0.2), frame.yx, 0.2)
    assert f1(located(segmenter, spoiled(frame.image, how), 0.2), truth, 0.2) >= reference - LOSS


def test_a_stack_of_very_unequal_doses_is_judged_frame_by_frame(segmenter: Segmenter) -> None:
    frame = scene("srtio3")
    faint = np.random.default_rng(0).poisson(np.maximum(frame.expected, 0) / 3).astype(np.float64)
    analysis = located(segmenter, np.stack([faint, 1000 * frame.image]), 0.2)
    alone = [f1(located(segmenter, image, 0.2), frame.yx, 0.2) for image in (faint, frame.image)]
    assert [f1(analysis, frame.yx, 0.2, index) for index in (0, 1)] == pytest.approx(alone, abs=LOSS)


@pytest.mark.parametrize("counts", [1.0, 3.0, 30.0, 1000.0])
def test_no_columns_are_invented_in_pure_noise(segmenter: Segmenter, counts: float) -> None:
    image = np.random.default_rng(4).poisson(counts, (512, 512)).astype(np.float64)
    assert len(located(segmenter, image, 0.2).columns[0]) <= 1


def test_a_gradient_and_a_lone_column(segmenter: Segmenter) -> None:
    y, x = np.mgrid[:256, :256]
    rng = np.random.default_rng(5)
    assert len(located(segmenter, rng.poisson(20 + y / 2 + x / 8).astype(float), 0.2).columns[0]) <= 1
    assert len(located(segmenter, 20 + y / 2 + x / 8, 0.2).columns[0]) == 0
    column = 60 * np.exp(-((y - 100.3) ** 2 + (x - 140.7) ** 2) / (2 * 2.3**2))
    (found,) = located(segmenter, rng.poisson(15 + column).astype(float), 0.2).columns
    assert len(found) == 1
    np.testing.assert_allclose(found.yx[0], [100.3, 140.7], atol=0.4)


@pytest.mark.slow
def test_twenty_thousand_columns_in_4096_pixels(segmenter: Segmenter) -> None:
    frame = scene("srtio3")
    tiled = np.tile(frame.image, (21, 21))[:4096, :4096]
    analysis = located(segmenter, tiled, 0.2)
    assert len(analysis.columns[0]) > 20_000
    assert analysis.columns[0].fit_ok.mean() > 0.95
