"""minres against SciPy's minres and dense solves, and the laws of Liu and Roosta up to non-positive curvature."""

from itertools import pairwise

import numpy as np
import pytest
import scipy.sparse.linalg as sla
from hypothesis import given, settings
from hypothesis import strategies as st

from hfnumba.krylov import KrylovStatus, cg, minres
from tests.krylov.systems import definite, indefinite, symmetric, vector


@pytest.mark.parametrize("k", [1, 2, 8, 15])
@pytest.mark.parametrize("preconditioned", [False, True])
@pytest.mark.parametrize("started", [False, True])
def test_iterates_are_scipys(k, preconditioned, started):
    A, b = definite(condition=1000.0), vector(40)
    M = np.diag(1 / np.diag(A)) if preconditioned else None
    x0 = vector(40, seed=7) if started else None
    expected, _ = sla.minres(A, b, x0=x0, rtol=0, maxiter=k, M=M)
    result = minres(A, b, x0=x0, rtol=0, maxiter=k, M=M)
    assert result.status is KrylovStatus.MAXITER
    assert result.n_matvec == k + started
    np.testing.assert_allclose(result.x, expected, rtol=1e-8, atol=1e-11)


@pytest.mark.parametrize("dtype, rtol, close", [(np.float32, 1e-6, 1e-3), (np.float64, 1e-12, 1e-9)])
def test_solves_a_definite_system(dtype, rtol, close):
    A, b = definite(dtype=dtype), vector(40, dtype=dtype)
    result = minres(A, b, rtol=rtol, maxiter=200)
    assert result.status is KrylovStatus.CONVERGED
    assert result.x.dtype == dtype
    np.testing.assert_allclose(result.x, np.linalg.solve(A, b), rtol=close, atol=close)
    assert min(result.rayleighs) >= 0.99


def test_an_iterate_minimises_the_residual_over_the_krylov_space():
    A, b = definite(condition=1000.0), vector(40)
    K = np.linalg.qr(np.stack([np.linalg.matrix_power(A, k) @ b for k in range(5)], axis=1))[0]
    y = np.linalg.lstsq(A @ K, b)[0]
    np.testing.assert_allclose(minres(A, b, rtol=0, maxiter=5).x, K @ y, rtol=1e-6)


@settings(max_examples=40, derandomize=True)
@given(st.integers(0, 10**6), st.integers(2, 30), st.sampled_from([np.float32, np.float64]))
def test_before_negative_curvature_everything_falls_as_it_should(seed, n, dtype):
    """Liu and Roosta 2022, Theorem 3.11: residual and model fall, the iterate grows and descends."""
    rng = np.random.default_rng(seed)
    A, b = symmetric(rng.uniform(-1, 9, n), seed, dtype), vector(n, seed, dtype)
    result = minres(A, b, maxiter=6, backtracking_ratio=1.01)
    slack = 1e-4 if dtype == np.float32 else 1e-10
    for before, after in pairwise(result.iterates):
        assert after.residual_norm <= before.residual_norm * (1 + slack)
        assert after.model <= before.model + slack * abs(before.model)
        assert np.linalg.norm(after.x) >= np.linalg.norm(before.x) * (1 - slack)
    for iterate in result.iterates:
        assert b @ iterate.x > 0
        true = np.linalg.norm(b.astype(float) - A.astype(float) @ iterate.x.astype(float))
        assert iterate.residual_norm == pytest.approx(true, abs=1e3 * slack * float(np.linalg.norm(b)))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("seed", range(10))
def test_ends_at_the_residual_of_non_positive_curvature(seed, dtype):
    A, b = symmetric(np.linspace(-1, 9, 60), seed, dtype), vector(60, seed, dtype)
    result = minres(A, b)
    assert result.status is KrylovStatus.NONPOSITIVE_CURVATURE
    assert 2 <= result.n_matvec == len(result.rayleighs) <= 12
    A64, d = A.astype(float), result.lowest.d.astype(float)
    np.testing.assert_allclose(d, b - A64 @ result.x, atol=1e-4 * np.linalg.norm(b))
    assert result.lowest.curvature == pytest.approx(d @ A64 @ d, abs=1e-3 * (d @ d))
    assert d @ A64 @ d < 0 < b @ d
    steps = result.n_matvec - 1
    np.testing.assert_array_equal(result.x, minres(A, b, rtol=0, maxiter=steps).x)
    assert result.iterates[-1].index == steps
    assert all(quotient > 0 for quotient in result.rayleighs[:-1])


def test_the_curvature_of_every_residual_costs_no_product():
    A, b = definite(condition=1000.0), vector(40)
    result, residuals = minres(A, b, rtol=0, maxiter=12, backtracking_ratio=1.01), [b]
    residuals += [b - A @ iterate.x for iterate in result.iterates[:-1]]
    quotients = [r @ A @ r / (r @ r) for r in residuals]
    np.testing.assert_allclose(result.rayleighs, quotients, rtol=1e-8)


@pytest.mark.parametrize("seed", range(10))
def test_a_preconditioner_is_a_change_of_variables(seed):
    """With x = S y and M = S², all is that of S A S y = S b: iterates, curvature, and the direction that ends it."""
    A, b = indefinite(30, seed), vector(30, seed)
    scale = np.geomspace(0.2, 5.0, 30)
    result = minres(A, b, M=np.diag(scale**2))
    scaled = minres(scale[:, None] * A * scale, scale * b)
    assert (result.status, result.n_matvec) == (scaled.status, scaled.n_matvec)
    assert result.status is KrylovStatus.NONPOSITIVE_CURVATURE
    np.testing.assert_allclose(result.x, scale * scaled.x, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(result.lowest.d, scale * scaled.lowest.d, rtol=1e-9, atol=1e-12)
    d = result.lowest.d
    assert result.lowest.curvature == pytest.approx(d @ A @ d, rel=1e-8, abs=1e-12 * (d @ d))
    assert result.lowest.squared_norm == pytest.approx(d @ d)


def test_the_inverse_as_preconditioner_solves_in_one_step():
    A, b = definite(condition=1e4), vector(40)
    result = minres(A, b, M=np.linalg.inv(A))
    assert (result.status, result.n_matvec) == (KrylovStatus.CONVERGED, 1)
    np.testing.assert_allclose(result.x, np.linalg.solve(A, b), rtol=1e-7)


@pytest.mark.parametrize("diagonal, n_matvec", [([-1.0, -1.0], 0), ([0.0, 0.0], 0), ([1.0, -1.0], 1)])
def test_a_preconditioner_that_is_not_positive_is_a_breakdown(diagonal, n_matvec):
    result = minres([[1.0, 2.0], [2.0, 9.0]], [1.0, 0.0], M=np.diag(diagonal))
    assert (result.status, result.n_matvec) == (KrylovStatus.BREAKDOWN, n_matvec)
    assert not result.x.any()


def test_negative_curvature_is_met_no_later_than_conjugate_gradients_meet_it():
    """Both see it once the Krylov matrix is indefinite; MINRES's residual shows it at the same product."""
    for seed in range(20):
        A, b = symmetric(np.linspace(-1, 9, 60), seed), vector(60, seed)
        assert minres(A, b).n_matvec == cg(A, b).n_matvec


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    ("A", "b", "status"),
    [
        ([[0.0, 1.0], [1.0, 0.0]], [1.0, 0.0], KrylovStatus.NONPOSITIVE_CURVATURE),
        ([[1.0, 0.0], [0.0, -1.0]], [1.0, 1.0], KrylovStatus.NONPOSITIVE_CURVATURE),
        ([[0.0, -1.0], [1.0, 0.0]], [1.0, 1.0], KrylovStatus.NONPOSITIVE_CURVATURE),
        ([[0.0, 0.0], [0.0, 0.0]], [1.0, 1.0], KrylovStatus.LEAST_SQUARES),
        ([[2.0, 0.0], [0.0, 2.0]], [1.0, 1.0], KrylovStatus.CONVERGED),
        ([[1.0, 0.0], [0.0, 0.0]], [1.0, 1.0], KrylovStatus.LEAST_SQUARES),
    ],
)
def test_breakdowns_are_finite_and_leave_a_direction(A, b, status, dtype):
    A, b = np.array(A, dtype), np.array(b, dtype)
    result = minres(A, b)
    assert result.status is status
    assert np.isfinite(result.x).all() and np.isfinite(result.rayleighs).all()
    assert np.isfinite(result.lowest.d).all() and b @ result.lowest.d > 0


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("started", [False, True])
def test_an_inconsistent_system_ends_at_a_least_squares_solution(dtype, seed, started):
    A, b = symmetric([0.0, 0.0, *np.linspace(1, 3, 8)], seed, dtype), vector(10, seed, dtype)
    x0 = vector(10, seed + 1, dtype) if started else None
    result = minres(A, b, x0=x0, rtol=0, maxiter=50)
    assert result.status is KrylovStatus.LEAST_SQUARES
    A64, b64, x = A.astype(float), b.astype(float), result.x.astype(float)
    close = 1e-2 if dtype == np.float32 else 1e-7
    least = np.linalg.lstsq(A64, b64, rcond=1e-5)[0]
    np.testing.assert_allclose(A64 @ x, A64 @ least, atol=close)
    assert np.linalg.norm(b64 - A64 @ x) == pytest.approx(np.linalg.norm(b64 - A64 @ least), rel=close**2)
    assert abs(result.lowest.rayleigh) < close**2


def test_an_indefinite_matrix_with_a_small_or_large_right_hand_side():
    A, b = indefinite(dtype=np.float32), vector(100, dtype=np.float32)
    plain = minres(A, b)
    for scale in (2.0**-60, 2.0**40):
        scaled = minres(A, b * np.float32(scale))
        assert (scaled.status, scaled.n_matvec) == (plain.status, plain.n_matvec)
