"""A frame is cleaned when it is read, and once for those who take it one after the other."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from stemzoo.geometry.cleaning import clean
from stemzoo.runtime import cleaned, cutting, pipeline
from stemzoo.runtime.cleaned import Cleaned
from stemzoo.runtime.encoder import Encoder
from stemzoo.runtime.segmenter import Segmenter
from stemzoo.types import Frames


def test_the_frame_that_was_cleaned_last_is_not_cleaned_again(monkeypatch: pytest.MonkeyPatch) -> None:
    data = np.random.default_rng(0).poisson(100, (2, 32, 32)).astype(np.float32)
    data[:, 5, 5] = 1e6
    done: list[float] = []
    monkeypatch.setattr(cleaned, "clean", lambda raw: done.append(float(raw[0, 0])) or clean(raw))
    frames = Frames(data)
    one = Cleaned(frames)
    image, touched = one.clean(0, frames.frame(0))
    assert touched[5, 5] and image[5, 5] < 200
    assert np.array_equal(one.frames().frame(0), image) and len(done) == 1
    assert np.array_equal(one.frames().frame(1), clean(data[1])[0]) and len(done) == 2
    assert np.array_equal(one.frames().frame(0), image) and len(done) == 3


def test_a_hole_is_its_frames_own_in_whatever_order_they_are_asked_for() -> None:
    data = np.random.default_rng(0).poisson(100, (2, 64, 64)).astype(np.float32)
    data[0, 10:30, 10:30] = np.nan
    one, yx = Cleaned(Frames(data)), np.array([[20.0, 20.0], [45.0, 45.0]])
    assert [one.unmeasured(index, yx, 12.0).tolist() for index in (0, 1, 0)] == [[True, False], [False, False], [True, False]]


def test_columns_in_a_hole_are_counted_and_get_no_angle(
    segmenter: Segmenter, encoder: Encoder, lattice_frames: tuple[Frames, np.ndarray]
) -> None:
    frames, _ = lattice_frames
    data = np.array(frames.frame(0))
    data[40:80, 60:110] = np.nan
    data[5, 5] = 1e7
    analysis = pipeline.encode(pipeline.locate(replace(frames, data=data[None]), segmenter), encoder)
    assert analysis.encoding is not None and analysis.window_px is not None
    yx, half = analysis.columns[0].yx, analysis.window_px / 2
    free = (yx[:, 0] + half < 40) | (yx[:, 0] - half > 79) | (yx[:, 1] + half < 60) | (yx[:, 1] - half > 109)
    deep = (yx[:, 0] > 40) & (yx[:, 0] < 79) & (yx[:, 1] > 60) & (yx[:, 1] < 109)
    inside, angle = analysis.encoding.inside, analysis.encoding.angle
    assert (free & inside).sum() > 20 and np.isfinite(angle[free & inside]).all()
    assert np.isnan(angle[deep]).all() and np.isnan(analysis.encoding.latents[deep]).all()
    n = int((inside & np.isnan(angle)).sum())
    assert n > 0 and any(text.startswith(f"{n} of {len(yx)} columns have too many pixels") for text in analysis.notices)
    learned = cutting.subimages(analysis, analysis.window_px).inside
    assert np.array_equal(learned, inside & np.isfinite(angle))
