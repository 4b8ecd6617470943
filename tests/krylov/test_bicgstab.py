"""bicgstab against SciPy's bicgstab and dense solves, its breakdowns, and the curvature it finds."""

import numpy as np
import pytest
import scipy.sparse.linalg as sla

from hfnumba.krylov import KrylovStatus, bicgstab
from tests.krylov.systems import Counting, definite, indefinite, symmetric, vector


@pytest.mark.parametrize("k", [1, 2, 8])
@pytest.mark.parametrize("preconditioned", [False, True])
@pytest.mark.parametrize("started", [False, True])
def test_iterates_are_scipys(k, preconditioned, started):
    A, b = definite(condition=200.0), vector(40)
    M = np.diag(1 / np.linspace(1.0, 3.0, 40)) if preconditioned else None
    x0 = vector(40, seed=7) if started else None
    expected, _ = sla.bicgstab(A, b, x0=x0, rtol=0, maxiter=k, M=M)
    result = bicgstab(A, b, x0=x0, rtol=0, maxiter=k, M=M)
    assert result.status is KrylovStatus.MAXITER
    assert result.n_matvec == 2 * k + started
    assert len(result.rayleighs) == 2 * k
    np.testing.assert_allclose(result.x, expected, rtol=1e-8, atol=1e-11)


def test_the_first_iterates_are_scipys_on_an_indefinite_system():
    A, b = indefinite(seed=1), vector(100, seed=2)
    expected, _ = sla.bicgstab(A, b, rtol=0, maxiter=4)
    np.testing.assert_allclose(bicgstab(A, b, rtol=0, maxiter=4).x, expected, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("dtype, rtol, close", [(np.float32, 1e-5, 1e-3), (np.float64, 1e-12, 1e-8)])
def test_solves_definite_and_negative_definite_systems(sign, dtype, rtol, close):
    A, b = sign * definite(dtype=dtype), vector(40, dtype=dtype)
    result = bicgstab(A, b, rtol=rtol, maxiter=200)
    assert result.status is KrylovStatus.CONVERGED
    assert result.x.dtype == dtype
    np.testing.assert_allclose(result.x, np.linalg.solve(A, b), rtol=close, atol=close)
    assert all(sign * quotient > 0 for quotient in result.rayleighs)


def test_solves_an_indefinite_system_of_few_eigenvalues():
    A, b = symmetric([-3.0] * 5 + [-1.0] * 5 + [2.0] * 10 + [5.0] * 10), vector(30)
    result = bicgstab(A, b, rtol=1e-11, maxiter=30)
    assert result.status is KrylovStatus.CONVERGED
    np.testing.assert_allclose(result.x, np.linalg.solve(A, b), rtol=1e-6, atol=1e-8)


def test_a_singular_consistent_system():
    A = symmetric([0.0] * 5 + list(np.linspace(1, 10, 35)))
    b = A @ vector(40)
    result = bicgstab(A, b, rtol=1e-10, maxiter=100)
    assert result.status is KrylovStatus.CONVERGED
    np.testing.assert_allclose(result.x, np.linalg.lstsq(A, b, rcond=1e-10)[0], atol=1e-7)


def test_the_inverse_as_preconditioner_solves_with_one_product():
    A, b = indefinite(), vector(100)
    result = bicgstab(A, b, M=np.linalg.inv(A))
    assert (result.status, result.n_matvec) == (KrylovStatus.CONVERGED, 1)
    assert result.iterates[-1].index == 1 and result.iterates[-1].x is result.x
    np.testing.assert_allclose(result.x, np.linalg.solve(A, b), rtol=1e-6, atol=1e-8)


def test_no_early_breakdown_in_float32():
    """What SciPy solves is solved; the true residual is judged by its median, as the recursive one drifts."""
    residuals, solved_by_scipy = [], 0
    for seed in range(30):
        A, b = indefinite(seed=seed, dtype=np.float32), vector(100, seed, np.float32)
        solved_by_scipy += (info := sla.bicgstab(A, b, rtol=1e-5, maxiter=2000)[1]) == 0
        result = bicgstab(A, b, rtol=1e-5, maxiter=2000)
        assert info != 0 or result.status is KrylovStatus.CONVERGED, seed
        residuals.append(np.linalg.norm(A @ result.x - b) / np.linalg.norm(b))
    assert solved_by_scipy >= 25
    assert np.median(residuals) < 1e-3


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("scale", [1e-25, 1e-12, 1e12])
def test_a_small_or_large_right_hand_side_is_not_a_breakdown(dtype, scale):
    A, b = indefinite(dtype=dtype), vector(100, dtype=dtype) * dtype(scale)
    result = bicgstab(A, b, maxiter=10)
    assert (result.status, result.n_matvec) == (KrylovStatus.MAXITER, 20)


@pytest.mark.parametrize("scale", [2.0**-40, 2.0**40])
def test_scaling_the_matrix_scales_the_iterates(scale):
    A, b = indefinite(), vector(100)
    plain, scaled = bicgstab(A, b, maxiter=20), bicgstab(A * scale, b, maxiter=20)
    assert scaled.status is plain.status
    np.testing.assert_array_equal(scaled.x * scale, plain.x)


ANGLE = np.pi / 3
BREAKDOWNS = {
    "exchange": ([[0.0, 1.0], [1.0, 0.0]], [1.0, 0.0], KrylovStatus.BREAKDOWN, 1),
    "plus and minus": ([[1.0, 0.0], [0.0, -1.0]], [1.0, 1.0], KrylovStatus.BREAKDOWN, 1),
    "quarter turn": ([[0.0, -1.0], [1.0, 0.0]], [1.0, 1.0], KrylovStatus.BREAKDOWN, 1),
    "rounded quarter turn": (
        [[np.cos(np.pi / 2), -1.0], [1.0, np.cos(np.pi / 2)]],
        [1.0, 0.0],
        KrylovStatus.BREAKDOWN,
        1,
    ),
    # s = (0, 2) and As = (4, 0): omega = 0 after a step along p
    "omega": ([[-1.0, 2.0], [2.0, 0.0]], [1.0, 0.0], KrylovStatus.BREAKDOWN, 2),
    # (r, r0*) = 0 after one iteration, which no symmetric matrix can give
    "rho": ([[1.0, 0, 0], [1.0, 1.0, 1.0], [0, 1.0, 1.0]], [1.0, 0, 0], KrylovStatus.BREAKDOWN, 2),
    "null space": ([[1.0, 0.0], [0.0, 0.0]], [1.0, 1.0], KrylovStatus.BREAKDOWN, 3),
    "sixth of a turn": (
        [[np.cos(ANGLE), -np.sin(ANGLE)], [np.sin(ANGLE), np.cos(ANGLE)]],
        [1.0, 0.0],
        KrylovStatus.CONVERGED,
        3,
    ),
}


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", BREAKDOWNS)
def test_breakdowns_are_finite_and_leave_a_direction(name, dtype):
    A, b, status, n_matvec = BREAKDOWNS[name]
    A, b = np.array(A, dtype), np.array(b, dtype)
    result = bicgstab(A, b, maxiter=10)
    assert (result.status, result.n_matvec) == (status, n_matvec)
    assert np.isfinite(result.x).all() and np.isfinite(result.rayleighs).all()
    assert np.isfinite(result.lowest.d).all() and result.lowest.d.any()
    assert result.lowest.curvature == pytest.approx(result.lowest.d @ A @ result.lowest.d, abs=1e-6)


def test_a_breakdown_of_omega_keeps_the_half_step():
    A, b = np.array([[-1.0, 2.0], [2.0, 0.0]]), np.array([1.0, 0.0])
    result = bicgstab(A, b)
    (half,) = result.iterates
    assert half.index == 1 and half.x is result.x
    np.testing.assert_allclose(result.x, [-1.0, 0.0])
    assert half.curvature == pytest.approx(result.x @ A @ result.x)
    assert half.residual_norm == pytest.approx(np.linalg.norm(b - A @ result.x))


def test_an_orthogonal_residual_at_the_limit_of_iterations_is_no_breakdown():
    A, b, _, _ = BREAKDOWNS["rho"]
    assert bicgstab(A, b, maxiter=1).status is KrylovStatus.MAXITER


def test_a_zero_preconditioner_is_a_breakdown():
    result = bicgstab(definite(), vector(40), M=np.zeros((40, 40)))
    assert (result.status, result.lowest, result.rayleighs) == (KrylovStatus.BREAKDOWN, None, ())
    assert not result.x.any()


def test_an_underflow_of_the_square_of_As_is_a_breakdown():
    result = bicgstab(np.diag([0.0, 9.5e-178]), vector(2), maxiter=6)
    assert result.status is KrylovStatus.BREAKDOWN
    assert np.isfinite(result.x).all() and result.lowest is not None


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("seed", range(15))
def test_the_sign_of_the_curvature_is_found_within_few_products(seed, dtype):
    A, b = indefinite(seed=seed, dtype=dtype), vector(100, seed, dtype)
    result = bicgstab(A, b, maxiter=3)
    assert result.n_matvec == 6 and min(result.rayleighs) < 0 < max(result.rayleighs)
    assert result.lowest.rayleigh == min(result.rayleighs)
    d = result.lowest.d.astype(np.float64)
    assert d @ A.astype(np.float64) @ d / (d @ d) == pytest.approx(result.lowest.rayleigh, rel=1e-4)


def test_all_directions_are_those_of_the_textbook():
    """p_j and s_j from a plain transcription of Saad's Algorithm 7.7."""
    A, b = indefinite(seed=1), vector(100, seed=2)
    x, r, p = np.zeros(100), b.copy(), b.copy()
    quotients = []
    for _ in range(4):
        alpha = (r @ b) / (A @ p @ b)
        s = r - alpha * (A @ p)
        omega = (A @ s @ s) / (A @ s @ A @ s)
        x = x + alpha * p + omega * s
        new = s - omega * (A @ s)
        quotients += [p @ A @ p / (p @ p), s @ A @ s / (s @ s)]
        p = new + (new @ b) / (r @ b) * alpha / omega * (p - omega * (A @ p))
        r = new
    result = bicgstab(A, b, maxiter=4, rtol=0)
    np.testing.assert_allclose(result.rayleighs, quotients, rtol=1e-6, atol=1e-8)
    np.testing.assert_allclose(result.x, x, rtol=1e-6, atol=1e-8)


def test_the_budget_is_two_products_an_iteration():
    operator = Counting(indefinite())
    result = bicgstab(operator, vector(100), maxiter=7, rtol=0)
    assert operator.count == result.n_matvec == 14
