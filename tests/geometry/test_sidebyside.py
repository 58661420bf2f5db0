"""Small matrices side by side give what LAPACK gives one by one, and say where they cannot."""

from __future__ import annotations

import numpy as np
import pytest

from stemzoo.geometry.sidebyside import TOGETHER, inverse, marginal, times, times_transposed


def _positive(size: int, many: int) -> np.ndarray:
    """Symmetric positive definite matrices (size, size, many) of very unequal scales."""
    rng = np.random.default_rng(size)
    root = rng.normal(0, 1, (many, size, size + 3)) * np.geomspace(1e-3, 1e3, size)[:, None]
    return np.ascontiguousarray((root @ root.transpose(0, 2, 1)).transpose(1, 2, 0))


def test_inverse_and_products_are_those_of_each_matrix() -> None:
    matrices = _positive(4, 50)
    vectors = np.random.default_rng(0).normal(0, 1, (4, 50))
    one_by_one = np.linalg.inv(matrices.transpose(2, 0, 1))
    assert inverse(matrices).transpose(2, 0, 1) == pytest.approx(one_by_one, rel=1e-6)
    assert times(inverse(matrices), times(matrices, vectors)) == pytest.approx(vectors, rel=1e-6, abs=1e-6)
    assert times_transposed(matrices[:, :2], vectors) == pytest.approx(np.einsum("ijn,in->jn", matrices[:, :2], vectors))


@pytest.mark.parametrize("size", [4, 7, 31])
def test_a_marginal_covariance_is_the_corner_of_the_whole_inverse(size: int) -> None:
    matrices = _positive(size, TOGETHER + 7)
    whole = np.linalg.inv(matrices.transpose(2, 0, 1))[:, :3, :3]
    scale = np.sqrt(np.einsum("nii->ni", whole))
    relative = (marginal(matrices, 3).transpose(2, 0, 1) - whole) / (scale[:, :, None] * scale[:, None])
    assert np.abs(relative).max() < 1e-4


def test_a_matrix_that_is_not_positive_definite_is_answered_with_nan_and_harms_no_other() -> None:
    matrices = _positive(7, 7)
    whole = marginal(matrices, 4)
    matrices[:, :, 1] *= -1
    matrices[6, 6, 2] = -1.0
    matrices[0, 0, 3] = np.nan
    matrices[5, :, 4] = matrices[:, 5, 4] = 0.0
    matrices[5, 6, 5] = matrices[6, 5, 5] = 2 * np.sqrt(matrices[5, 5, 5] * matrices[6, 6, 5])  # no wrong sign shows on its diagonal
    answer = marginal(matrices, 4)
    assert np.isnan(answer[:, :, 1:6]).all()
    assert np.array_equal(answer[:, :, [0, 6]], whole[:, :, [0, 6]])


def test_matrices_that_end_beyond_all_numbers_are_nan_without_a_warning() -> None:
    rng = np.random.default_rng(0)
    root, error = rng.standard_normal((31, 2, 500)), rng.standard_normal((31, 31, 500))
    matrices = np.einsum("ian,jan->ijn", root, root) - 1e-3 * (error + error.transpose(1, 0, 2))  # of rank 2, all but
    assert np.isnan(marginal(matrices, 4)).all()
