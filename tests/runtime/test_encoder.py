"""The encoder's call: angles as displayed, edge columns, decoding, refusals."""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np
import pytest

from stemzoo.errors import ModelError, ShapeError
from stemzoo.geometry.angles import difference
from stemzoo.geometry.subimages import Cutouts, cut
from stemzoo.runtime.bundle import Bundle
from stemzoo.runtime.encoder import MULTIPLE, Encoder, _parts
from stemzoo.runtime.segmenter import Segmenter
from stemzoo.runtime.session import SessionOptions
from stemzoo.runtime.structure import disc, explainable, explained
from stemzoo.types import Columns, Frames, SubImages


def dipoles(angles: np.ndarray, size: int) -> np.ndarray:
    """Return (N, S, S) patterns whose bright side points along `angles`, counter-clockwise as displayed."""
    y, x = np.mgrid[:size, :size] - (size - 1) / 2
    a = angles[:, None, None]
    return np.exp(-((x - 3 * np.cos(a)) ** 2 + (y + 3 * np.sin(a)) ** 2) / 8).astype(np.float32)


def as_subimages(data: np.ndarray, inside: np.ndarray | None = None) -> SubImages:
    n = len(data)
    return SubImages(data, np.zeros(n, int), np.arange(n), np.ones(n, bool) if inside is None else inside)


def test_angles_in_batches(encoder: Encoder) -> None:
    angles = np.linspace(-3.1, 3.1, 23)
    encoding = Encoder(encoder.bundle, batch=5).encode(as_subimages(dipoles(angles, 17)))
    assert np.abs(difference(encoding.angle, angles)).max() < 0.02
    assert encoding.angle.max() <= np.pi and encoding.angle.min() > -np.pi
    assert encoding.latents.shape == (23, 2) and encoding.latents.dtype == np.float32
    assert (encoding.symmetry == 1).all() and (encoding.angle_sigma > 0).all()
    np.testing.assert_array_equal(encoding.column, np.arange(23))


def test_windows_over_the_edge_keep_their_rows(encoder: Encoder) -> None:
    angles = np.array([0.3, 1.0, -2.0])
    encoding = encoder.encode(as_subimages(dipoles(angles, 17), np.array([True, False, True])))
    assert np.isnan(encoding.angle[1]) and np.isnan(encoding.latents[1]).all() and np.isnan(encoding.angle_sigma[1])
    assert np.abs(encoding.angle[[0, 2]] - angles[[0, 2]]).max() < 0.02


def test_no_subimages(encoder: Encoder) -> None:
    assert len(encoder.encode(as_subimages(np.zeros((0, 17, 17), np.float32)))) == 0
    assert encoder.decode(np.zeros((0, 2)), np.zeros(0)).shape == (0, 17, 17)


@pytest.mark.parametrize("threads", [1, 3])
def test_windows_are_encoded_as_the_sub_images_they_are(encoder: Encoder, threads: int) -> None:
    frames = Frames(np.random.default_rng(0).random((2, 90, 100), dtype=np.float32))
    n = 700
    yx, usable = np.random.default_rng(1).uniform(0, 89, (n, 2)), np.random.default_rng(2).random(n) < 0.9
    columns = Columns.at(yx, frame=1)
    pieces = cut(frames, columns, 25.0, 17)
    wanted = encoder.encode(replace(pieces, inside=pieces.inside & usable))
    found = Encoder(Bundle.load(encoder.bundle.folder, SessionOptions(threads=threads))).encode_windows(
        Cutouts(frames, columns, 25.0, 17), usable
    )
    for name in ("angle", "angle_sigma", "symmetry", "latents", "frame", "column"):
        assert np.array_equal(getattr(found, name), getattr(wanted, name), equal_nan=True), name
    assert np.array_equal(found.inside, pieces.inside)
    assert np.array_equal(np.isfinite(found.angle), pieces.inside & usable)


def test_a_network_that_is_not_on_the_cpu_runs_once_at_a_time(encoder: Encoder, monkeypatch: pytest.MonkeyPatch) -> None:
    several = Encoder(Bundle.load(encoder.bundle.folder, SessionOptions(threads=4)), batch=16)
    running, most, run = [0], [0], several.bundle.session.run

    def slow(inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        running[0] += 1
        most[0] = max(most[0], running[0])
        time.sleep(0.005)
        running[0] -= 1
        return run(inputs)

    monkeypatch.setattr(several.bundle.session, "run", slow)
    monkeypatch.setattr(several.bundle.session, "provider", "CUDAExecutionProvider")
    angles = np.linspace(-3, 3, 200)
    assert np.abs(difference(several.encode(as_subimages(dipoles(angles, 17))).angle, angles)).max() < 0.02
    assert most[0] == 1


@pytest.mark.parametrize("n", [1, 15, 16, 40, 625, 5000])
@pytest.mark.parametrize("threads", [1, 2, 6])
def test_threads_have_about_as_much_to_do(n: int, threads: int) -> None:
    rows = np.arange(n)
    parts = _parts(rows, 128, threads)
    assert np.array_equal(np.concatenate(parts), rows)
    sizes = [len(part) for part in parts]
    assert max(sizes) <= 128 + MULTIPLE and all(size % MULTIPLE == 0 for size in sizes[:-1])
    assert max(sizes) - min(sizes[:-1], default=max(sizes)) <= MULTIPLE
    assert len(parts) % threads == 0 or n <= MULTIPLE * threads


def test_decode(encoder: Encoder) -> None:
    patterns = Encoder(encoder.bundle, batch=2).decode(np.array([[1, 0], [2, 0], [3, 0]]), np.array([0.5, 0.0, -0.5]))
    np.testing.assert_allclose(patterns[:, 8, 8], [1.5, 2.0, 2.5])


def test_refusals(encoder: Encoder, segmenter: Segmenter) -> None:
    with pytest.raises(ShapeError, match="sub-images are 9 px wide; dipole@1 wants 17 px"):
        encoder.encode(as_subimages(np.zeros((2, 9, 9), np.float32)))
    with pytest.raises(ShapeError, match=r"dipole@1 decodes \(M, 2\) and \(M,\)"):
        encoder.decode(np.zeros((2, 3)), np.zeros(2))
    with pytest.raises(ModelError, match=r"blob@1 has no decoder.onnx"):
        _ = segmenter.bundle.decoder


def test_explained_is_a_share_that_knows_neither_gain_nor_offset() -> None:
    rng = np.random.default_rng(0)
    signal, noise = rng.normal(0, 1, (50, 400)), rng.normal(0, 1, (50, 400))
    np.testing.assert_allclose(explained(7 + 3 * signal, signal), 1)
    np.testing.assert_allclose(explained(-signal, signal), 0)
    assert explained(signal + noise, signal).mean() == pytest.approx(0.5, abs=0.03)
    assert explained(noise, signal).mean() < 0.01
    assert (explained(np.full((2, 400), 5.0), signal[:2]) == 0).all(), "a constant image has no variance to explain"


def test_noise_cannot_be_explained() -> None:
    rng = np.random.default_rng(0)
    signal = np.outer(rng.choice([-1.0, 1.0], 300), rng.normal(size=800))
    assert np.median(explainable(signal)) == pytest.approx(1)
    assert np.median(explainable(signal + rng.normal(size=(300, 800)))) == pytest.approx(0.55, abs=0.07)
    assert np.median(explainable(rng.normal(size=(300, 800)))) < 0.15


@pytest.mark.parametrize("shape", [(300, 800), (120, 60), (3, 40)])
def test_what_can_be_explained_is_what_principal_components_do(shape: tuple[int, int]) -> None:
    rng = np.random.default_rng(4)
    images = rng.normal(size=(shape[0], 5)) @ rng.normal(size=(5, shape[1])) + 0.5 * rng.normal(size=shape)
    rows = images - images.mean(axis=1, keepdims=True)
    rows /= rows.std(axis=1, keepdims=True)
    mean = rows.mean(axis=0)
    axes = np.linalg.svd(rows - mean, full_matrices=False)[2][: min(16, shape[0] // 4)]
    np.testing.assert_allclose(explainable(images), explained(rows, mean + (rows - mean) @ axes.T @ axes), atol=1e-9)


def test_an_encoder_says_how_much_it_explains_of_what_it_was_made_for_and_of_noise(encoder: Encoder) -> None:
    """The stand-in's decoder draws constant patterns: it explains nothing of anything."""
    pieces = as_subimages(dipoles(np.linspace(-3, 3, 9), 17), np.arange(9) > 0)
    assert encoder.explained(pieces, encoder.encode(pieces)) == pytest.approx(0, abs=1e-6)
    nowhere = as_subimages(pieces.data, np.zeros(9, bool))
    assert encoder.explained(nowhere, encoder.encode(nowhere)) is None


def test_the_disc_of_a_window_touches_its_edges_and_leaves_its_corners() -> None:
    for size in (8, 9):
        inside = disc(size)
        assert not inside[0, 0] and inside[size // 2, 0] == (size % 2 == 1) and inside[size // 2, size // 2]
        np.testing.assert_array_equal(inside, np.rot90(inside))
