"""cg against SciPy's cg, dense solves, and what must hold at non-positive curvature."""

import numpy as np
import pytest
import scipy.sparse.linalg as sla

from hfnumba.krylov import KrylovStatus, RelativeProgress, cg
from tests.krylov.systems import Counting, definite, indefinite, symmetric, vector


@pytest.mark.parametrize("dtype, rtol", [(np.float32, 1e-3), (np.float64, 1e-8)])
def test_solves_a_definite_system(dtype, rtol):
    A, b = definite(dtype=dtype), vector(40, dtype=dtype)
    result = cg(A, b, rtol=1e-6 if dtype == np.float32 else 1e-12, maxiter=200)
    assert result.status is KrylovStatus.CONVERGED
    assert result.x.dtype == dtype
    np.testing.assert_allclose(result.x, np.linalg.solve(A, b), rtol=rtol, atol=rtol)
    assert min(result.rayleighs) >= 0.99 and result.lowest.curvature > 0


@pytest.mark.parametrize("k", [1, 2, 8, 15])
@pytest.mark.parametrize("preconditioned", [False, True])
@pytest.mark.parametrize("started", [False, True])
def test_iterates_are_scipys(k, preconditioned, started):
    A, b = definite(condition=1000.0), vector(40)
    M = np.diag(1 / np.diag(A)) if preconditioned else None
    x0 = vector(40, seed=7) if started else None
    expected, _ = sla.cg(A, b, x0=x0, rtol=0, maxiter=k, M=M)
    result = cg(A, b, x0=x0, rtol=0, maxiter=k, M=M)
    assert result.status is KrylovStatus.MAXITER
    assert result.n_matvec == k + started
    np.testing.assert_allclose(result.x, expected, rtol=1e-9, atol=1e-12)


def test_stops_at_scipys_iteration():
    A, b = definite(condition=1000.0), vector(40)
    steps = []
    sla.cg(A, b, rtol=1e-5, callback=lambda x: steps.append(x.copy()))
    result = cg(A, b, rtol=1e-5)
    assert result.status is KrylovStatus.CONVERGED
    assert abs(result.n_matvec - len(steps)) <= 1
    assert np.linalg.norm(b - A @ result.x) <= 1.001e-5 * np.linalg.norm(b)


def test_the_inverse_as_preconditioner_solves_in_one_step():
    A, b = definite(condition=1e4), vector(40)
    result = cg(A, b, M=np.linalg.inv(A))
    assert (result.status, result.n_matvec) == (KrylovStatus.CONVERGED, 1)
    np.testing.assert_allclose(result.x, np.linalg.solve(A, b), rtol=1e-7)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_negative_definite_stops_at_once_with_b(dtype):
    A, b = -definite(dtype=dtype), vector(40, dtype=dtype)
    result = cg(A, b)
    assert (result.status, result.n_matvec) == (KrylovStatus.NONPOSITIVE_CURVATURE, 1)
    assert result.iterates == () and not result.x.any()
    np.testing.assert_array_equal(result.lowest.d, b)
    assert result.lowest.curvature == pytest.approx(b @ A @ b, rel=1e-5)
    assert result.rayleighs == (result.lowest.rayleigh,)


def test_negative_definite_with_x0_and_preconditioner_gives_the_preconditioned_residual():
    A, b, x0 = -definite(), vector(40), vector(40, seed=3)
    M = np.diag(np.linspace(0.5, 2.0, 40))
    result = cg(A, b, x0=x0, M=M)
    assert (result.status, result.n_matvec) == (KrylovStatus.NONPOSITIVE_CURVATURE, 2)
    np.testing.assert_array_equal(result.x, x0)
    np.testing.assert_allclose(result.lowest.d, M @ (b - A @ x0), rtol=1e-12)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("seed", range(10))
def test_indefinite_rolls_back_to_the_iterate_before(seed, dtype):
    A, b = indefinite(seed=seed, dtype=dtype), vector(100, seed, dtype)
    operator = Counting(A)
    result = cg(operator, b)
    assert result.status is KrylovStatus.NONPOSITIVE_CURVATURE
    assert operator.count == result.n_matvec == len(result.rayleighs) <= 6
    d = result.lowest.d.astype(np.float64)
    assert d @ A.astype(np.float64) @ d == pytest.approx(result.lowest.curvature, rel=1e-4)
    assert result.lowest.curvature <= 0 and result.rayleighs[-1] == result.lowest.rayleigh
    steps = result.n_matvec - 1
    if steps:
        expected = cg(A, b, rtol=0, maxiter=steps)
        assert expected.status is KrylovStatus.MAXITER
        np.testing.assert_array_equal(result.x, expected.x)
        assert result.iterates[-1].index == steps and result.iterates[-1].x is result.x
    else:
        assert result.iterates == ()


def test_one_negative_eigenvalue_is_found():
    A, b = symmetric([-0.5, *np.linspace(1, 9, 39)]), vector(40)
    result = cg(A, b, rtol=1e-10)
    assert result.status is KrylovStatus.NONPOSITIVE_CURVATURE
    assert -0.5 * (1 + 1e-9) <= result.lowest.rayleigh <= 0


@pytest.mark.parametrize("dtype, tolerance", [(np.float32, 1e-3), (np.float64, 1e-8)])
def test_singular_consistent_system(dtype, tolerance):
    A = symmetric([0.0] * 5 + list(np.linspace(1, 10, 35)), dtype=dtype)
    b = A @ vector(40, dtype=dtype)
    result = cg(A, b, rtol=1e-5 if dtype == np.float32 else 1e-10)
    assert result.status is KrylovStatus.CONVERGED
    np.testing.assert_allclose(result.x, np.linalg.lstsq(A.astype(np.float64), b, rcond=1e-5)[0], atol=tolerance)


def test_singular_inconsistent_system_ends_at_the_null_space():
    result = cg(np.diag([1.0, 0.0]), np.array([1.0, 1.0]))
    assert result.status is KrylovStatus.NONPOSITIVE_CURVATURE
    np.testing.assert_array_equal(result.lowest.d, [0.0, 2.0])
    assert result.lowest.curvature == 0.0


@pytest.mark.parametrize("scale", [2.0**-60, 2.0**60])
@pytest.mark.parametrize("A, b", [(definite(), vector(40)), (indefinite(), vector(100))])
def test_the_curvature_test_does_not_depend_on_the_scale(A, b, scale):
    plain = cg(A, b, maxiter=12)
    scaled = cg(A * scale, b, maxiter=12)
    assert scaled.status is plain.status and scaled.n_matvec == plain.n_matvec
    np.testing.assert_array_equal(scaled.x * scale, plain.x)


def test_a_nearly_flat_positive_direction_is_not_taken_for_curvature():
    A = np.diag([1e-12, 1.0])
    result = cg(A, np.array([1.0, 0.0]))
    assert result.status is KrylovStatus.CONVERGED
    np.testing.assert_allclose(result.x, [1e12, 0.0])


def test_an_indefinite_preconditioner_is_a_breakdown():
    result = cg(definite(), vector(40), M=-np.eye(40))
    assert (result.status, result.n_matvec) == (KrylovStatus.BREAKDOWN, 0)
    assert not result.x.any() and result.lowest is None


def test_the_preconditioner_is_applied_once_an_iteration():
    M = Counting(np.diag(np.linspace(0.5, 2.0, 40)))
    assert cg(definite(), vector(40), M=M, maxiter=7).n_matvec == M.count == 7


def test_progress_stops_where_martens_says():
    A, b = symmetric(np.geomspace(1, 1e3, 200)), vector(200)
    models = [0.0]
    everything = cg(A, b, rtol=0, maxiter=100, callback=lambda x: models.append(x @ A @ x / 2 - b @ x))
    assert everything.status is KrylovStatus.MAXITER
    expected = next(
        i
        for i in range(len(models))
        if i > (k := max(10, int(np.ceil(0.1 * i))))
        and models[i] < 0
        and (models[i] - models[i - k]) / models[i] < k * 1e-3
    )
    result = cg(A, b, rtol=0, maxiter=100, progress=RelativeProgress(tolerance=1e-3))
    assert result.status is KrylovStatus.PROGRESS
    assert result.n_matvec == result.iterates[-1].index == expected > 11
    assert result.iterates[-1].model == pytest.approx(models[expected], rel=1e-9)


def test_the_model_falls_along_the_stored_iterates():
    models = [iterate.model for iterate in cg(definite(condition=1e4), vector(40)).iterates]
    assert len(models) > 5 and all(np.diff(models) < 0)
