"""The pipeline: columns where the simulation put them, whatever the sampling; angles on them; notices that say what was decided."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import standins

from stemzoo.errors import FrameError, ModelError
from stemzoo.geometry.matching import scores
from stemzoo.runtime.bundle import Bundle
from stemzoo.runtime.doubts import doubts_of
from stemzoo.runtime.encoder import Encoder
from stemzoo.runtime.pipeline import EncodeOptions, LocateOptions, analyze, encode, locate
from stemzoo.runtime.segmenter import Segmenter
from stemzoo.simulation import load, simulate
from stemzoo.simulation.noise import shift_rows
from stemzoo.types import Frames

LatticeFrames = tuple[Frames, np.ndarray]


def test_columns_lie_where_they_were_put(segmenter: Segmenter, lattice_frames: LatticeFrames) -> None:
    frames, truth = lattice_frames
    seen: list[tuple[str, int, int]] = []
    analysis = locate(frames, segmenter, progress=lambda *step: seen.append(step))
    (columns,) = analysis.columns
    result = scores(columns.yx, truth, 2.0)
    assert result.f1 == 1
    assert result.rmse_px < 0.12  # the bound is 2 px / √(2π·4·400 counts) = 0.02 px without background
    assert columns.fit_ok.mean() > 0.95 and (columns.sigma < 0.2).all()
    assert (np.lexsort((columns.yx[:, 1], columns.yx[:, 0])) == np.arange(len(columns))).all()
    assert analysis.segmenter == segmenter.id and analysis.sampling_factor == 1 and analysis.encoding is None and analysis.notices == ()
    assert {"read", "clean", "scale", "network", "peaks", "refine"} <= set(analysis.seconds) and min(analysis.seconds.values()) >= 0
    assert seen == [("locate", 1, 1)]


def test_the_scan_s_row_jitter_is_told(segmenter: Segmenter, lattice_frames: LatticeFrames) -> None:
    frames, _ = lattice_frames
    still = frames.frame(0)
    moved = shift_rows(still, np.random.default_rng(0).normal(0, 0.5, len(still)).astype(still.dtype))
    told = [locate(replace(frames, data=image[None]), segmenter).quality[0].row_jitter for image in (still, moved)]
    assert told[0] < 0.1
    assert told[1] == pytest.approx(0.5, rel=0.35)


@pytest.mark.parametrize("sampling", [0.1, 0.42])
def test_frames_outside_the_trained_range_come_back_in_their_own_pixels(segmenter: Segmenter, sampling: float) -> None:
    shape = (round(26 / sampling), round(31 / sampling))
    truth = standins.square_lattice(shape, 3.0 / sampling)
    frames = Frames(standins.draw(shape, truth, 0.4 / sampling, seed=2)[None], sampling, "file")
    analysis = locate(frames, segmenter)
    result = scores(analysis.columns[0].yx, truth, 0.4 / sampling)
    assert result.f1 > 0.97 and result.rmse_px * sampling < 0.03
    assert np.abs(result.bias_px * sampling).max() < 0.01
    assert analysis.sampling_factor == pytest.approx(sampling / 0.2)
    (notice,) = analysis.notices
    assert "blob@1 was trained on 0.15–0.25 Å/px, so the network saw it resampled to 0.2 Å/px" in notice
    unrefined = locate(frames, segmenter, LocateOptions(refine=False))
    coarse = scores(unrefined.columns[0].yx, truth, 0.4 / sampling)
    assert coarse.f1 > 0.97 and np.abs(coarse.bias_px).max() < 0.1  # a lost half pixel would show here, before the fit mends it
    assert not unrefined.columns[0].fit_ok.any() and np.allclose(unrefined.columns[0].sigma, 0.1 / sampling)


@pytest.mark.parametrize("sampling", [0.07, 0.2, 0.4])
def test_unknown_pixel_size_is_replaced_by_the_lattice(segmenter: Segmenter, sampling: float) -> None:
    shape = (round(30 / sampling), round(36 / sampling))
    truth = standins.square_lattice(shape, 3.2 / sampling)
    analysis = locate(Frames(standins.draw(shape, truth, 0.4 / sampling, seed=2)[None]), segmenter)
    result = scores(analysis.columns[0].yx, truth, 0.4 / sampling)
    assert result.f1 > 0.95
    assert analysis.columns[0].pixel_size is None
    assert any(
        "pixel size is unknown; the frame was brought to the network's scale by its lattice (period" in notice
        for notice in analysis.notices
    )


def test_impossible_pixel_size_is_contradicted(segmenter: Segmenter) -> None:
    shape = (128, 128)
    truth = standins.square_lattice(shape, 16.0)
    frames = Frames(standins.draw(shape, truth, 2.0, seed=2)[None], 2.0, "file")  # nm taken for Å, or a scale off by ten
    analysis = locate(frames, segmenter)
    assert scores(analysis.columns[0].yx, truth, 2.0).f1 > 0.95
    assert any(
        "pixel size of 2 Å makes the lattice period of 16 px 32 Å" in notice and "peak width" in notice for notice in analysis.notices
    )
    assert analysis.columns[0].pixel_size == 2.0
    assert analysis.sampling == pytest.approx(0.2, rel=0.3)
    assert any("The peaks are 4 Å wide (σ)" in doubt and "the pixel size may be wrong" in doubt for doubt in doubts_of(analysis))


def test_hot_pixels_and_holes_are_not_columns(segmenter: Segmenter, lattice_frames: LatticeFrames) -> None:
    frames, truth = lattice_frames
    image = frames.data[0].copy()
    rng = np.random.default_rng(4)
    image[tuple(rng.integers(3, 120, (2, 12)))] = image.max() * 50
    image[60:62, 80:82] = np.nan
    analysis = locate(replace(frames, data=image[None]), segmenter)
    result = scores(analysis.columns[0].yx, truth, 2.0)
    assert result.f1 > 0.99 and result.rmse_px < 0.15


def test_stack_with_a_frame_without_columns(segmenter: Segmenter, encoder: Encoder, lattice_frames: LatticeFrames) -> None:
    frames, truth = lattice_frames
    carbon = np.random.default_rng(6).normal(40, 1, (128, 160))
    stack = replace(frames, data=np.stack([frames.data[0], carbon, frames.data[0][::-1]]))
    analysis = analyze(stack, segmenter, encoder)
    assert [len(columns) for columns in analysis.columns] == [len(truth), 0, len(truth)]
    assert [columns.frame for columns in analysis.columns] == [0, 1, 2]
    assert "No column was found in frame 1 (probability stays below 0.5)" in analysis.notices
    assert analysis.encoding is not None and len(analysis.encoding) == 2 * len(truth)
    np.testing.assert_array_equal(np.unique(analysis.encoding.frame), [0, 2])


def test_angles_and_edges(segmenter: Segmenter, encoder: Encoder) -> None:
    """Each column has a faint companion in a known direction; the encoder must see it there, at a sampling other than its own."""
    sampling, shape = 0.16, (170, 190)
    truth = standins.square_lattice(shape, 30.0)
    angles = np.random.default_rng(8).uniform(-np.pi, np.pi, len(truth))
    companion = truth + 7.0 * np.stack([-np.sin(angles), np.cos(angles)], axis=1)
    image = standins.draw(shape, truth, 2.5) + standins.draw(shape, companion, 2.0, peak=60.0, background=0)
    analysis = analyze(
        Frames(image[None], sampling, "user"), segmenter, encoder, locate_options=LocateOptions(threshold=0.6, min_separation=3.0)
    )
    (columns,), encoding = analysis.columns, analysis.encoding
    assert encoding is not None and len(columns) == len(truth) and analysis.encoder == encoder.id
    assert analysis.window_px == pytest.approx(17 * 0.2 / sampling)
    nearest = np.linalg.norm(columns.yx[:, None] - truth[None], axis=-1).argmin(axis=1)
    error = np.angle(np.exp(1j * (encoding.angle - angles[nearest])))
    assert np.nanmedian(np.abs(error)) < 0.1
    reach = analysis.window_px / 2
    far = ((columns.yx > reach + 1) & (columns.yx < np.array(shape) - reach - 2)).all(axis=1)
    assert encoding.inside[far].all() and np.isfinite(encoding.angle[far]).all()
    near = ~encoding.inside
    assert np.isnan(encoding.angle[near]).all() and np.isnan(encoding.latents[near]).all()
    if near.any():
        assert any(f"{near.sum()} of {len(columns)} columns lie so near an edge" in notice for notice in analysis.notices)


def test_window_follows_the_scale_where_the_pixel_size_is_unknown(
    segmenter: Segmenter, encoder: Encoder, lattice_frames: LatticeFrames
) -> None:
    frames, _ = lattice_frames
    known, unknown = locate(frames, segmenter), locate(Frames(frames.data), segmenter)
    assert known.sampling == 0.2 and unknown.sampling == pytest.approx(0.2, rel=0.3)
    found = encode(unknown, encoder)
    assert found.window_px == pytest.approx(3.4 / unknown.sampling)
    from_a_table = encode(replace(unknown, sampling=None), encoder)
    assert from_a_table.window_px == found.window_px
    assert encode(known, encoder, EncodeOptions(window_px=21.0)).window_px == 21.0


def test_options_are_checked() -> None:
    with pytest.raises(ModelError, match=r"threshold is 1.5; wanted a probability between 0 and 1"):
        LocateOptions(threshold=1.5)
    with pytest.raises(ModelError, match="min_separation is -1 Å; wanted a positive length"):
        LocateOptions(min_separation=-1)


def test_a_constant_frame_is_refused_alone_and_left_empty_in_a_stack(segmenter: Segmenter, lattice_frames: LatticeFrames) -> None:
    good = lattice_frames[0].frame(0)
    flat = np.ones_like(good)
    with pytest.raises(FrameError, match="frame 1 is constant"):
        locate(Frames(np.stack([flat, flat]), 0.2, "user"), segmenter)
    found = locate(Frames(np.stack([flat, good]), 0.2, "user", path="s"), segmenter)
    alone = locate(lattice_frames[0], segmenter).columns[0]
    assert len(found.columns[0]) == 0 and found.columns[1].frame == 1 and np.array_equal(found.columns[1].yx, alone.yx)
    assert "1 of 2 frames failed and have no columns (frame 0: s: frame 0 is constant (1); there is no signal to analyse)" in found.notices
    assert found.sampling == 0.2 and len(found.quality) == 2


def test_a_stack_that_shows_nothing_is_encoded_to_nothing(segmenter: Segmenter, encoder: Encoder) -> None:
    """A blank frame, then noise, of unknown scale: there is no window to look for, least of all in the blank frame."""
    noise = np.random.default_rng(0).normal(100, 1, (96, 96))
    found = analyze(Frames(np.stack([np.ones_like(noise), noise]), None, "unknown", path="s"), segmenter, encoder)
    assert [len(columns) for columns in found.columns] == [0, 0] and found.encoding is not None and len(found.encoding) == 0
    assert any("frame 0 is constant" in notice for notice in found.notices)


def test_classes_must_match_the_graph(tmp_path: Path, lattice_frames: LatticeFrames) -> None:
    standins.save_segmenter(tmp_path / "model.onnx", {**standins.SEGMENTER_CARD, "classes": ["A", "B"]})
    with pytest.raises(ModelError, match="blob@1: its graph gives 1 classes, its card names 2"):
        locate(lattice_frames[0], Segmenter(Bundle.load(tmp_path, standins.ONE_THREAD)))


def test_single_counts_do_not_overrule_a_pixel_size(segmenter: Segmenter) -> None:
    settings = {"specimen.particle": 1.0, "dose.counts_per_column": 100.0, "frame.sampling": 0.16, "frame.size_px": 320}
    recipe = load(Path(__file__).parents[2] / "datasets" / "gold_110.toml", settings)
    image = simulate(recipe, np.random.default_rng(0)).image
    analysis = locate(Frames(image[None], 0.16, "file"), segmenter)
    assert analysis.sampling_factor == 1.0
    assert not any("pixel size" in notice for notice in analysis.notices)


def test_sparse_counts_without_a_pixel_size_become_no_columns_by_magnification(segmenter: Segmenter) -> None:
    image = np.random.default_rng(0).poisson(0.2, (512, 512)).astype(np.float32)
    analysis = locate(Frames(image[None]), segmenter)
    assert analysis.sampling_factor == 1.0
