"""PCA beside the rVAE: the share explained is a squared correlation, turning is worth one number to the rVAE and many to PCA."""

from __future__ import annotations

import numpy as np
import pytest

from stemzoo.report.baseline import COMPONENTS, baseline_figure, compare
from stemzoo.runtime.structure import disc, explainable, explained
from stemzoo.types import Encoding, SubImages

from .conftest import decode


def turned(n: int, noise: float, seed: int = 0) -> tuple[Encoding, SubImages]:
    """One pattern of varying strength at all angles, in units of a detector."""
    rng = np.random.default_rng(seed)
    angle, latents = rng.uniform(-np.pi, np.pi, n), rng.normal(0, 0.5, (n, 2)).astype(np.float32)
    data = 40 * (decode(latents, angle) + noise * rng.normal(0, 1, (n, 24, 24))) + 500
    known = np.ones(n, bool)
    encoding = Encoding(angle, np.full(n, 0.01), np.ones(n, int), latents, np.zeros(n, int), np.arange(n), known)
    return encoding, SubImages(data.astype(np.float32), encoding.frame, encoding.column, known)


def test_a_turning_pattern_takes_pca_many_components() -> None:
    found = compare(*turned(400, 0.02), decode)
    assert found is not None and found.numbers == 3 and found.n == 400
    assert found.rvae > 0.98
    assert found.pca[2] < 0.95 * found.rvae < 0.95 * found.pca[-1] * 1.1
    assert (np.diff(found.pca) >= -1e-9).all() and len(found.pca) == COMPONENTS


def test_components_are_those_of_all_images_and_their_shares_what_they_redraw() -> None:
    encoding, subimages = turned(200, 0.2)
    found = compare(encoding, subimages, decode)
    assert found is not None
    images = subimages.data[:, disc(24)].astype(np.float64)
    images -= images.mean(axis=1, keepdims=True)
    images /= images.std(axis=1, keepdims=True)
    mean = images.mean(axis=0)
    left, strength, axes = np.linalg.svd(images - mean, full_matrices=False)
    for many in (1, 3, COMPONENTS):
        redrawn = mean + (left[:, :many] * strength[:many]) @ axes[:many]
        assert found.pca[many - 1] == pytest.approx(explained(images, redrawn).mean(), abs=1e-9)
    assert explainable(images).mean() == pytest.approx(found.pca[-1], abs=1e-9)


def test_an_encoder_that_knows_nothing_is_seen_to_be_worse_than_pca() -> None:
    encoding, subimages = turned(300, 0.02)
    wrong = Encoding(
        np.zeros(300), encoding.angle_sigma, encoding.symmetry, encoding.latents, encoding.frame, encoding.column, encoding.inside
    )
    found = compare(wrong, subimages, decode)
    assert found is not None and found.rvae < found.pca[found.numbers - 1]
    texts = [text.get_text() for text in baseline_figure(found).texts]
    assert any(f"{found.rvae:.0%}" in text and f"{found.pca[2]:.0%}" in text for text in texts)


def test_noise_bounds_what_can_be_explained() -> None:
    found = compare(*turned(300, 0.3), decode)
    assert found is not None
    signal = decode(np.zeros((1, 2)), np.zeros(1))[0]
    share = signal.var() / (signal.var() + 0.09)
    assert found.rvae == pytest.approx(share, abs=0.12)


def test_too_few_sub_images_have_no_baseline() -> None:
    assert compare(*turned(10, 0.1), decode) is None
