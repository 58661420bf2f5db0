"""A gallery shows the very mistakes that the scores count, of the worst frame a material, in a picture small enough for a card."""

from __future__ import annotations

from collections.abc import Callable
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from stemzoo.errors import OutputError
from stemzoo.evaluate import frame_scores
from stemzoo.evaluate.encoding import encoded_frames
from stemzoo.evaluate.failures import encoder_failures, segmenter_failures, words_of
from stemzoo.evaluate.gallery import FALSE, MAX_BYTES, MISSED, _frames, draw_gallery


@pytest.fixture
def mistaken(dataset: Callable[..., Path], draw: Callable[..., np.ndarray], lattice: np.ndarray) -> Path:
    """Frames of two materials; in the second of `a` three columns stand in the truth that were not drawn, in that of `b` two were drawn
    that are no truth."""
    inner = lattice[((lattice > 20) & (lattice < (75, 90))).all(axis=1)]
    absent, extra = lattice + 7.5, inner[:2]
    middle = ((absent > 25) & (absent < 70)).all(axis=1)
    truth = np.concatenate([lattice, absent[middle][:3]])
    kept = lattice[~(lattice[:, None] == extra).all(axis=2).any(axis=1)]
    images = [draw((96, 112), lattice, 2.0, seed=seed) for seed in range(4)]
    return dataset(("a", images[0], lattice), ("a", images[1], truth), ("b", images[2], lattice), ("b", images[3], kept))


def test_of_each_material_the_worst_frame(segmenter: Any, mistaken: Path, lattice: np.ndarray) -> None:
    frames = list(frame_scores(segmenter, mistaken))
    failures = segmenter_failures(segmenter, mistaken, frames)
    assert [(failure.material, failure.missed, failure.false) for failure in failures] == [("a", 3, 0), ("b", 0, 2)]
    assert failures[0].f1 < failures[1].f1 < 1
    assert failures[0].where == "held_back.h5:000001" and failures[0].counts_per_column == 300
    for failure, frame in zip(failures, (frames[1], frames[3]), strict=True):
        assert failure.placed == frame.placed and failure.missed == frame.placed - frame.hits
        assert failure.false == frame.found - frame.hits
    assert len(failures[0].missed_yx) == 3, "the part shown is where the mistakes are"
    # A missed column lies between four drawn ones: the image is darker there than on what was found.
    y, x = np.round(failures[0].missed_yx).astype(int).T
    found_y, found_x = np.round(failures[0].right_yx).astype(int).T
    assert failures[0].image[y, x].max() < failures[0].image[found_y, found_x].min()


def test_of_one_material_several_frames_with_mistakes(
    segmenter: Any, dataset: Callable[..., Path], draw: Callable[..., np.ndarray], lattice: np.ndarray
) -> None:
    """Frames with 0, 1, … 5 columns of the truth left undrawn: the four worst are shown."""
    middle = lattice[((lattice > 20) & (lattice < (75, 90))).all(axis=1)]

    def without(number: int) -> np.ndarray:
        return lattice[~(lattice[:, None] == middle[:number]).all(axis=2).any(axis=1)]

    path = dataset(*(("a", draw((96, 112), without(number), 2.0, seed=number), lattice) for number in range(6)))
    failures = segmenter_failures(segmenter, path, list(frame_scores(segmenter, path)))
    assert [failure.missed for failure in failures] == [5, 4, 3, 2]


def test_materials_beyond_the_most_are_left_out(segmenter: Any, mistaken: Path) -> None:
    frames = list(frame_scores(segmenter, mistaken))
    assert [failure.material for failure in segmenter_failures(segmenter, mistaken, frames, most=1)] == ["a"]


def test_a_segmenter_that_makes_no_mistake(
    segmenter: Any, dataset: Callable[..., Path], draw: Callable[..., np.ndarray], lattice: np.ndarray, tmp_path: Path
) -> None:
    path = dataset(("a", draw((96, 112), lattice, 2.0, seed=1), lattice))
    failures = segmenter_failures(segmenter, path, list(frame_scores(segmenter, path)))
    assert [(failure.f1, failure.missed, failure.false) for failure in failures] == [(1.0, 0, 0)]
    draw_gallery(failures, "nothing to see", tmp_path / "none.jpg")


def test_the_picture(segmenter: Any, mistaken: Path, tmp_path: Path) -> None:
    failures = segmenter_failures(segmenter, mistaken, list(frame_scores(segmenter, mistaken)))
    path = draw_gallery(failures * 6, "blob@1", tmp_path / "failures.jpg")
    assert 10_000 < path.stat().st_size <= MAX_BYTES
    with Image.open(path) as picture:
        pixels = np.asarray(picture.convert("RGB")).astype(int)
        assert min(picture.size) > 400, "small in bytes, not too small to see"
    for colour in (MISSED, FALSE):
        wanted = [int(colour[place : place + 2], 16) for place in (1, 3, 5)]
        assert (np.abs(pixels - wanted).max(axis=2) < 40).sum() > 50, colour
    text = words_of(failures, path.name)
    assert f"]({path.name})" in text and "| held_back.h5:000001 | a | 300 | 0.2 | 0.9" in text
    with pytest.raises(OutputError, match=r"failures\.png: a gallery is a JPEG"):
        draw_gallery(failures, "blob@1", tmp_path / "failures.png")
    with pytest.raises(OutputError, match="cannot be written"):
        draw_gallery(failures, "blob@1", tmp_path / "nowhere" / "failures.jpg")


@pytest.mark.parametrize("frames", [1, 2, 9])
def test_no_words_lie_on_others_or_leave_the_picture(segmenter: Any, mistaken: Path, frames: int) -> None:
    failures = segmenter_failures(segmenter, mistaken, list(frame_scores(segmenter, mistaken)))
    figure = _frames((failures * 9)[:frames], "Where adf-unet-atoms-int8@12 fails")
    boxes = [text.get_window_extent() for text in figure.texts]
    assert len(boxes) == 5 + 2 * frames
    assert all(figure.bbox.x0 <= box.x0 and box.x1 <= figure.bbox.x1 for box in boxes[:5])
    for first, second in combinations(boxes, 2):
        assert min(first.x1, second.x1) <= max(first.x0, second.x0) or min(first.y1, second.y1) <= max(first.y0, second.y0)


def test_what_an_encoder_explains_least(
    encoder: Any, dataset: Callable[..., Path], draw: Callable[..., np.ndarray], lattice: np.ndarray, tmp_path: Path
) -> None:
    path = dataset(*((name, draw((96, 112), lattice, 2.0, seed=seed), lattice) for seed, name in enumerate("ab")))
    frames = list(encoded_frames(encoder, path))
    fits = encoder_failures(encoder, frames, columns=3)
    assert {fit.material for fit in fits} == {"a", "b"} and fits[0].typical <= fits[1].typical
    for fit in fits:
        share = np.concatenate([frame.explained for frame in frames if frame.material == fit.material])
        assert fit.explained.tolist() == np.sort(share[np.isfinite(share)])[:3].tolist()
        assert fit.images.shape == fit.patterns.shape == (3, 17, 17)
    assert draw_gallery(fits, "dipole@1", tmp_path / "failures.jpg").stat().st_size <= MAX_BYTES
    assert "| a | 0.0" in words_of(fits, "failures.jpg")
