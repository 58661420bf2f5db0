"""Which sampling is taken for a frame: the pixel size unless it is missing or impossible, then the lattice, then the width of the peaks."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from stemzoo.geometry.scale import ScaleEstimate
from stemzoo.runtime import scale as scale_module
from stemzoo.runtime.bundle import ModelSpec
from stemzoo.runtime.scale import Scale, find_scale
from stemzoo.types import Frames

SPEC = ModelSpec("m@1", "segmentation", (0.1, 0.3, 0.2), ("column",))


def judged(
    monkeypatch: pytest.MonkeyPatch, pixel_size: float | None, period: float | None, width: float | None, said_by: str = "file"
) -> Scale:
    """Return the scale of a frame in which the geometry finds this period and this width [px], and takes it for 0.2 Å/px."""
    source = "width" if period is None else "lattice"
    estimate = None if width is None else ScaleEstimate(0.2, 0.2, period, period, width, source)
    monkeypatch.setattr(scale_module, "scale_to_network", lambda image, nominal: estimate)
    frames = Frames(np.zeros((1, 32, 32)), pixel_size, "unknown" if pixel_size is None else said_by)
    return find_scale(frames, np.zeros((32, 32)))


@pytest.mark.parametrize(
    ("pixel_size", "period", "width", "sampling", "source"),
    [
        (0.25, 19.5, 2.2, 0.25, "file"),
        (0.25, None, None, 0.25, "file"),
        (0.29, 82.0, 1.6, 0.29, "file"),  # single atoms: the scatter of a few is no lattice
        (0.5, 30.0, 2.0, 0.5, "file"),  # a long superstructure whose peaks are as wide as columns are
        (2.0, 17.5, 2.2, 0.2, "lattice"),  # nm taken for Å
        (0.02, 17.5, 2.2, 0.2, "lattice"),
        (2.0, None, 2.25, 0.2, "width"),
        (2.0, 82.0, 2.25, 0.2, "lattice"),
        (None, 17.5, 2.2, 0.2, "lattice"),
        (None, None, 2.25, 0.2, "width"),
        (None, None, None, None, "unknown"),
    ],
)
def test_what_decides(
    monkeypatch: pytest.MonkeyPatch,
    pixel_size: float | None,
    period: float | None,
    width: float | None,
    sampling: float | None,
    source: str,
) -> None:
    scale = judged(monkeypatch, pixel_size, period, width)
    assert scale.source == source
    assert scale.sampling == sampling
    assert scale.estimated == (source in ("lattice", "width"))
    assert bool(scale.notices) == (source != "file")


def crystal(sigma_px: float, counts: float, size: int = 300) -> np.ndarray:
    """Return a noisy frame (size, size) of columns on a square lattice, six sigmas apart."""
    away = (np.arange(size) + 3.3) % (6 * sigma_px) - 3 * sigma_px
    line = np.exp(-(away**2) / (2 * sigma_px**2))
    return np.random.default_rng(0).poisson(counts * (0.2 + line[:, None] * line)).astype(np.float32)


@pytest.mark.parametrize("counts", [8.0, 300.0])
@pytest.mark.parametrize("sigma_px", [1.3, 2.0, 3.1, 4.5])
def test_a_glance_accepts_what_the_whole_search_accepts(monkeypatch: pytest.MonkeyPatch, sigma_px: float, counts: float) -> None:
    image = crystal(sigma_px, counts)
    for width in (0.01, 0.05, 3.5, 20.0):  # Å: no column is so narrow or so wide
        frames = Frames(image[None], width / sigma_px, "file")
        assert find_scale(frames, image).estimated, width
    monkeypatch.setattr(scale_module, "find_spots", lambda *_: pytest.fail("a glance does"))
    for width in (0.4, 0.5):
        assert find_scale(Frames(image[None], width / sigma_px, "file"), image) == Scale(width / sigma_px, "file")


def test_a_contradiction_says_both_lengths(monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = judged(monkeypatch, 2.0, 17.5, 2.2).notices
    assert first.startswith(
        "The pixel size of 2 Å makes the lattice period of 17.5 px 35 Å (columns have 1.2–12 Å) and the peak width (σ) of 2.2 px 4.4 Å"
    )
    assert second == "Å columns still follow the file's pixel size: check it, or pass --pixel-size Å"


def test_who_passed_a_pixel_size_is_not_told_to_pass_one(monkeypatch: pytest.MonkeyPatch) -> None:
    assert judged(monkeypatch, 2.0, 17.5, 2.2, "user").notices[1] == "Å columns still follow the pixel size that was passed: check it"


@pytest.mark.parametrize(
    ("sampling", "source", "factor"),
    [
        (0.1, "file", 1.0),
        (0.3, "user", 1.0),
        (np.nextafter(0.1, 0), "file", 1.0),  # both ends as a file's arithmetic may give them
        (0.30002, "file", 1.0),
        (0.31, "file", 1.55),
        (0.05, "file", 0.25),
        (0.2, "lattice", 1.0),
        (0.29, "lattice", 1.45),  # a stand-in near the end of the range may in truth lie outside
        (None, "unknown", 1.0),
    ],
)
def test_factor(sampling: float | None, source: str, factor: float) -> None:
    assert Scale(sampling, source, estimated=source == "lattice").factor(SPEC) == pytest.approx(factor)


def test_a_stand_in_for_a_network_of_one_sampling() -> None:
    narrow = replace(SPEC, sampling=(0.2, 0.2, 0.2))
    assert Scale(0.2, "file").factor(narrow) == 1.0
    assert Scale(0.1, "width", estimated=True).factor(narrow) == pytest.approx(0.5)
