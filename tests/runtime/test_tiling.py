"""Tiles of any frame equal the frame as a whole."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stemzoo.errors import ShapeError
from stemzoo.runtime.segmenter import Segmenter
from stemzoo.runtime.tiling import evaluate, plan_axis


@given(st.integers(1, 5000), st.integers(0, 100), st.sampled_from([1, 2, 4, 8, 64]), st.integers(64, 1024))
def test_cores_cover_an_axis_once_and_see_their_context(length: int, overlap: int, stride: int, limit: int) -> None:
    axis = plan_axis(length, overlap, stride, limit)
    assert axis.cuts[0] == 0 and axis.cuts[-1] == length
    assert axis.padded % stride == 0 and 0 <= axis.padded - length < stride
    assert all(start % stride == 0 and start + axis.size <= axis.padded for start in axis.starts)
    assert axis.size <= max(limit + stride, 5 * (overlap + stride))
    for start, first, last in zip(axis.starts, axis.cuts[:-1], axis.cuts[1:], strict=True):
        assert first < last
        assert start == 0 or first - start >= overlap
        assert start + axis.size == axis.padded or start + axis.size - last >= overlap


def test_tiled_network_equals_whole_frame(segmenter: Segmenter) -> None:
    image = np.random.default_rng(0).gamma(2.0, 50.0, (333, 410)).astype(np.float32)
    whole = Segmenter(segmenter.bundle, max_tile_px=512).probabilities(image)
    tiled = Segmenter(segmenter.bundle, max_tile_px=130).probabilities(image)
    assert whole.shape == (1, 333, 410)
    assert whole.std() > 0.05
    np.testing.assert_allclose(tiled, whole, rtol=0, atol=1e-5)


def test_overlap_below_the_reach_shows(segmenter: Segmenter) -> None:
    """The comparison above can fail: with too little overlap the seams differ."""
    image = np.random.default_rng(0).gamma(2.0, 50.0, (333, 410)).astype(np.float32)
    whole = segmenter.probabilities(image)
    seams = evaluate(image, segmenter._run, overlap_px=4, stride_px=4, max_tile_px=130)
    assert np.abs(seams - whole).max() > 1e-2


def test_equal_tiles_go_in_batches_and_memory_stays_bounded() -> None:
    seen: list[tuple[int, ...]] = []

    def network(batch: np.ndarray) -> np.ndarray:
        seen.append(batch.shape)
        return np.concatenate([batch, 2 * batch], axis=1)

    image = np.arange(40 * 2000, dtype=np.float32).reshape(40, 2000)
    result = evaluate(image, network, overlap_px=8, stride_px=8, max_tile_px=128)
    np.testing.assert_array_equal(result, np.stack([image, 2 * image]))
    assert max(b * h * w for b, _, h, w in seen) <= 128 * 128
    assert len({shape[2:] for shape in seen}) == 1 and max(shape[0] for shape in seen) > 1


@pytest.mark.parametrize("shape", [(16, 16), (17, 3), (1, 1), (5, 700)])
def test_small_and_odd_frames(segmenter: Segmenter, shape: tuple[int, int]) -> None:
    image = np.random.default_rng(1).normal(100, 10, shape).astype(np.float32)
    result = segmenter.probabilities(image)
    assert result.shape == (1, *shape) and np.isfinite(result).all()


def test_refusals(segmenter: Segmenter) -> None:
    with pytest.raises(ShapeError, match=r"shape \(2, 3, 4\); wanted \(H, W\)"):
        segmenter.probabilities(np.zeros((2, 3, 4), np.float32))
    with pytest.raises(ShapeError, match="1 pixels that are not finite; clean it first"):
        segmenter.probabilities(np.where(np.eye(20) * np.arange(20) == 3, np.nan, 1).astype(np.float32))
    with pytest.raises(ShapeError, match=r"the network made \(1, 1, 8, 8\)"):
        evaluate(np.ones((16, 16), np.float32), lambda batch: batch[:, :, ::2, ::2], overlap_px=0, stride_px=1)
