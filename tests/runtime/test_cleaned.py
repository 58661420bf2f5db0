"""A frame is cleaned when it is read, and once for those who take it one after the other."""

from __future__ import annotations

import numpy as np
import pytest

from stemzoo.geometry.resample import clean
from stemzoo.runtime import cleaned
from stemzoo.runtime.cleaned import Cleaned
from stemzoo.types import Frames


def test_the_frame_that_was_cleaned_last_is_not_cleaned_again(monkeypatch: pytest.MonkeyPatch) -> None:
    data = np.random.default_rng(0).poisson(100, (2, 32, 32)).astype(np.float32)
    data[:, 5, 5] = 1e6
    done: list[float] = []
    monkeypatch.setattr(cleaned, "clean", lambda raw, threads: done.append(float(raw[0, 0])) or clean(raw))
    frames = Frames(data)
    one = Cleaned(frames)
    image, touched = one.clean(0, frames.frame(0))
    assert touched[5, 5] and image[5, 5] < 200
    assert np.array_equal(one.frames().frame(0), image) and len(done) == 1
    assert np.array_equal(one.frames().frame(1), clean(data[1])[0]) and len(done) == 2
    assert np.array_equal(one.frames().frame(0), image) and len(done) == 3
