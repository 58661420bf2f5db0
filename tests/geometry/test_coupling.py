"""The joint step of overlapping columns and the background under them is the one that a dense solver finds."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from stemzoo.geometry import coupling
from stemzoo.geometry.coupling import Joint, joint_step
from stemzoo.geometry.jointfit import JointFit


@pytest.fixture(params=[("square", 16.0), ("dumbbell", 6.5)], ids=["apart", "overlapping"])
def fit(request: pytest.FixtureRequest, begin: Callable[[str, float, int, float], JointFit]) -> JointFit:
    """A fit of a small frame about to take its first step."""
    fit = begin(*request.param, 70, 40.0)
    fit.couple()
    return fit


def _matrices(fit: JointFit) -> tuple[np.ndarray, np.ndarray]:
    """Return the joint matrix and what stands for its inverse, both dense."""
    joint = Joint(fit.equations(), fit.background, fit.progress.damping)
    unit = np.eye(4 * len(fit.state.yx) + fit.background.values.size + 1)
    return np.array([joint.times(one) for one in unit]), np.array([joint.nearly_solved(one) for one in unit])


def _assembled(fit: JointFit) -> np.ndarray:
    """Return the joint matrix, dense, block by block from the equations."""
    equations, background = fit.equations(), fit.background
    n, nodes = len(fit.state.yx), background.values.size
    matrix = np.zeros((4 * n + nodes, 4 * n + nodes))
    extra = equations.stiff + fit.progress.damping * np.einsum("aan->an", equations.own)
    for a in range(4):
        for b in range(4):
            block = np.diag(equations.own[a, b])
            block[equations.pairs.first, equations.pairs.second] = equations.coupling[a, b]
            matrix[a * n : (a + 1) * n, b * n : (b + 1) * n] = block
        for k in range(9):
            matrix[a * n + np.arange(n), 4 * n + equations.node[k]] = equations.lift[a, k]
    matrix[4 * n :, : 4 * n] = matrix[: 4 * n, 4 * n :].T
    matrix[4 * n :, 4 * n :] = [background.product(unit) for unit in np.eye(nodes)]
    of_width = np.concatenate([np.zeros(3 * n), equations.sharing, np.zeros(nodes)])  # what the common width adds to each log width
    unknowns = np.column_stack([np.eye(len(matrix)), of_width])
    return unknowns.T @ matrix @ unknowns + np.diag(np.concatenate([extra.ravel(), np.zeros(nodes + 1)]))


def test_the_joint_matrix_is_made_of_its_blocks(fit: JointFit) -> None:
    expected = _assembled(fit)
    assert _matrices(fit)[0] == pytest.approx(expected, abs=1e-9 * np.abs(expected).max())


def test_the_step_is_that_of_a_dense_solver(fit: JointFit, monkeypatch: pytest.MonkeyPatch) -> None:
    matrix, _ = _matrices(fit)
    equations = fit.equations()
    score = fit.background.score(*(fit.windows.inner(part) for part in (fit.beside.residual, fit.beside.weight)))
    right = np.concatenate([(equations.gradient + equations.pull).ravel(), score, [equations.gradient[3] @ equations.sharing]])
    exact = np.linalg.solve(matrix, right)
    for tolerance, enough, allowed in ((0.0, coupling.ENOUGH, 0.02), (coupling.TOLERANCE, 0.0, 0.04), (1e-14, 0.0, 1e-5)):
        monkeypatch.setattr(coupling, "TOLERANCE", tolerance)
        monkeypatch.setattr(coupling, "ENOUGH", enough)
        step = joint_step(equations, fit.background, score, fit.progress.damping, 500)
        left = np.concatenate([step.columns.ravel(), step.nodes, [step.width]]) - exact
        assert np.sqrt(left @ matrix @ left / len(left)) < allowed  # in standard errors, mean over the unknowns


def test_the_joint_matrix_and_what_stands_for_its_inverse_are_symmetric_and_positive(fit: JointFit) -> None:
    for made in _matrices(fit):
        assert made == pytest.approx(made.T, abs=1e-5 * np.abs(made).max())
        assert np.linalg.eigvalsh((made + made.T) / 2).min() > 0


def test_what_stands_for_the_inverse_is_near_it(fit: JointFit) -> None:
    matrix, inverse = _matrices(fit)
    spread = np.linalg.eigvals(inverse @ matrix).real
    assert spread.max() / spread.min() < 25  # 150 with the diagonals of the shared unknowns alone
