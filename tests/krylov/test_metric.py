"""Solvers in a metric: against CG with the same preconditioner, and against dense matrices."""

import numpy as np
import pytest

from hfnumba.krylov.cg import cg
from hfnumba.krylov.function_operator import FunctionOperator
from hfnumba.krylov.lanczos import lanczos
from hfnumba.krylov.metric import with_metric
from hfnumba.krylov.result import KrylovStatus
from hfnumba.krylov.steihaug import steihaug
from hfnumba.krylov.structured import DiagonalOperator

N = 12


class Dense:
    """The metric of a dense F = LL'."""

    def __init__(self, F):
        self.F, self.L = F, np.linalg.cholesky(F)

    def solve_lower(self, v):
        return np.linalg.solve(self.L, v)

    def solve_upper(self, v):
        return np.linalg.solve(self.L.T, v)

    def multiply_upper(self, v):
        return self.L.T @ v


def problem(*, definite):
    rng = np.random.default_rng(0)
    X, Y = rng.normal(size=(2, N, N))
    A = X @ X.T if definite else X + X.T
    return A, rng.normal(size=N), Dense(Y @ Y.T + np.eye(N)), rng.normal(size=N)


@pytest.mark.parametrize("started", [False, True])
def test_cg_in_a_metric_is_preconditioned_cg(started):
    A, b, metric, x0 = problem(definite=True)
    start = x0 if started else None
    M = FunctionOperator(N, lambda v: np.linalg.solve(metric.F, v), np.float64)
    found, expected = (with_metric(cg)(A, b, M=metric, x0=start, maxiter=6), cg(A, b, M=M, x0=start, maxiter=6))
    for one, other in zip(found.iterates, expected.iterates, strict=True):
        np.testing.assert_allclose(one.x, other.x, rtol=1e-6, atol=1e-9)
        np.testing.assert_allclose((one.curvature, one.model), (other.curvature, other.model), rtol=1e-8)


def test_the_trust_region_is_an_ellipsoid():
    A, b, metric, _ = problem(definite=False)
    result = with_metric(steihaug)(A, b, M=metric, radius=0.3)
    assert result.status in (KrylovStatus.BOUNDARY, KrylovStatus.NONPOSITIVE_CURVATURE)
    np.testing.assert_allclose(result.x @ metric.F @ result.x, 0.3**2)
    lowest = result.lowest
    np.testing.assert_allclose(lowest.d @ A @ lowest.d, lowest.curvature)
    np.testing.assert_allclose(lowest.d @ metric.F @ lowest.d, lowest.squared_norm)


def test_the_absolute_value_is_that_in_the_metric():
    A, b, metric, _ = problem(definite=False)
    result = with_metric(lanczos)(A, b, M=metric, dampings=(0.5, 2.0), rtol=0.0)
    inverse = np.linalg.inv(metric.L)
    values, vectors = np.linalg.eigh(inverse @ A @ inverse.T)
    for one, damping in zip(result.iterates, (0.5, 2.0), strict=True):
        y = vectors @ ((vectors.T @ inverse @ b) / (np.abs(values) + damping))
        np.testing.assert_allclose(one.x, inverse.T @ y, rtol=1e-7)
        np.testing.assert_allclose(one.curvature, one.x @ A @ one.x, rtol=1e-8)


def test_without_a_metric_it_is_the_solver():
    A, b, _, x0 = problem(definite=False)
    found, expected = with_metric(steihaug)(A, b, x0=0.01 * x0, radius=1.0), steihaug(A, b, x0=0.01 * x0, radius=1.0)
    np.testing.assert_array_equal(found.x, expected.x)


def test_a_diagonal_has_a_metric():
    D = DiagonalOperator(np.array([4.0, 0.25]))
    v = np.array([1.0, 3.0])
    np.testing.assert_allclose(D.solve_upper(D.solve_lower(v)), D @ v)
    np.testing.assert_allclose(D.solve_upper(D.multiply_upper(v)), v)
