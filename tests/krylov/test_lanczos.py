"""lanczos against dense eigendecompositions."""

import numpy as np
import pytest
import scipy.linalg
from hypothesis import given, settings
from hypothesis import strategies as st

from hfnumba.krylov import KrylovStatus, lanczos
from tests.krylov.systems import Counting, Poisoned, definite, indefinite, symmetric, vector

DAMPINGS = (10.0, 1.0, 0.1)


def absolute(A, b, damping):
    """(|A| + damping·I)^-1 b."""
    values, V = scipy.linalg.eigh(A)
    return V @ ((V.T @ b) / (np.abs(values) + damping))


@pytest.mark.parametrize("dtype, close", [(np.float32, 3e-4), (np.float64, 1e-10)])
def test_on_the_whole_space_it_is_the_saddle_free_step(dtype, close):
    A, b = indefinite(60, dtype=dtype), vector(60, dtype=dtype)
    result = lanczos(A, b, dampings=DAMPINGS)
    assert result.n_matvec == 60
    assert [iterate.index for iterate in result.iterates] == [1, 2, 3]
    for iterate, damping in zip(result.iterates, DAMPINGS, strict=True):
        np.testing.assert_allclose(iterate.x, absolute(A.astype(float), b.astype(float), damping), atol=close)
        assert iterate.x.dtype == dtype
    np.testing.assert_allclose(result.rayleighs, scipy.linalg.eigh(A.astype(float))[0], atol=10 * close)
    assert result.x is result.iterates[-1].x


@settings(max_examples=40, derandomize=True)
@given(
    seed=st.integers(0, 10**6),
    n=st.integers(2, 30),
    k=st.integers(1, 8),
    dtype=st.sampled_from([np.float32, np.float64]),
    started=st.booleans(),
)
def test_on_a_krylov_space_it_is_the_step_of_the_projected_matrix(seed, n, k, dtype, started):
    rng = np.random.default_rng(seed)
    A, b = symmetric(rng.uniform(-3, 9, n), seed, dtype), vector(n, seed, dtype)
    x0 = vector(n, seed + 1, dtype) if started else None
    operator = Counting(A)
    result = lanczos(operator, b, dampings=DAMPINGS, x0=x0, maxiter=k)
    A64, b64 = A.astype(float), b.astype(float)
    assert operator.count == result.n_matvec == len(result.rayleighs) <= min(k + started, n)
    if n > k + started and dtype == np.float64:
        columns = [b64]
        for _ in range(k - 1):
            columns.append(A64 @ columns[-1] / np.linalg.norm(columns[-1]))
        Q = np.linalg.qr(np.stack([*columns, x0] if started else columns, axis=1))[0]
        T = Q.T @ A64 @ Q
        np.testing.assert_allclose(result.rayleighs, np.linalg.eigvalsh(T), atol=1e-5)
        for iterate, damping in zip(result.iterates, DAMPINGS, strict=True):
            np.testing.assert_allclose(iterate.x, Q @ absolute(T, Q.T @ b64, damping), atol=1e-4)
    loose = 1e-3 if dtype == np.float32 else 1e-9
    for iterate in result.iterates:
        x = iterate.x.astype(float)
        reach = loose * (1 + x @ x) * np.linalg.norm(A64)
        assert b64 @ x > 0
        assert iterate.curvature == pytest.approx(x @ A64 @ x, abs=reach)
        assert iterate.model == pytest.approx(x @ A64 @ x / 2 - b64 @ x, abs=reach)
        assert iterate.residual_norm == pytest.approx(np.linalg.norm(b64 - A64 @ x), abs=reach)
    d = result.lowest.d.astype(float)
    assert result.lowest.rayleigh == min(result.rayleighs)
    assert d @ A64 @ d / (d @ d) == pytest.approx(result.lowest.rayleigh, abs=10 * loose)


def test_on_a_definite_matrix_it_is_the_damped_newton_step():
    A, b = definite(), vector(40)
    for iterate, damping in zip(lanczos(A, b, dampings=DAMPINGS).iterates, DAMPINGS, strict=True):
        np.testing.assert_allclose(iterate.x, np.linalg.solve(A + damping * np.eye(40), b), rtol=1e-8, atol=1e-10)


def test_the_extreme_eigenvalues_come_first():
    A, b = symmetric([-5.0, *np.linspace(0.1, 1, 97), 20.0, 30.0], dtype=np.float32), vector(100, dtype=np.float32)
    values = lanczos(A, b, dampings=[1.0], maxiter=12).rayleighs
    assert values[0] == pytest.approx(-5, abs=1e-2)
    assert values[-2:] == pytest.approx((20, 30), rel=1e-3)


def test_an_invariant_space_ends_the_solve():
    A, b = symmetric([-3.0] * 5 + [2.0] * 10 + [5.0] * 10, dtype=np.float32), vector(25, dtype=np.float32)
    result = lanczos(A, b, dampings=[0.5], rtol=1e-5)
    assert (result.status, result.n_matvec) == (KrylovStatus.CONVERGED, 3)
    assert result.rayleighs == pytest.approx((-3, 2, 5), abs=1e-4)


def test_a_start_in_the_space_costs_nothing_and_another_brings_its_curvature():
    A, b = np.diag([3.0, 2.0, 1.0, -4.0]), np.array([1.0, 1.0, 1.0, 0.0])
    assert min(lanczos(A, b, dampings=[1.0]).rayleighs) > 0.99
    inside = lanczos(A, b, dampings=[1.0], x0=A @ b)
    assert inside.n_matvec == 3
    outside = lanczos(A, b, dampings=[1.0], x0=[1e-20, 0, 0, 1e-20])
    assert outside.n_matvec == 4
    assert outside.rayleighs[0] == pytest.approx(-4)


@pytest.mark.parametrize("at", [1, 2, 4])
def test_a_product_that_is_not_finite_leaves_the_space_before_it(at):
    A, b = indefinite(), vector(100)
    result = lanczos(Poisoned(A, at), b, dampings=DAMPINGS, maxiter=8)
    assert (result.status, result.n_matvec, len(result.rayleighs)) == (KrylovStatus.NONFINITE, at, at - 1)
    if at == 1:
        assert result.iterates == () and not result.x.any()
    else:
        expected = lanczos(A, b, dampings=DAMPINGS, maxiter=at - 1)
        np.testing.assert_array_equal(result.x, expected.x)
        assert result.iterates[-1].residual_norm == expected.iterates[-1].residual_norm


def test_a_product_of_the_start_that_is_not_finite_leaves_the_space_of_b():
    A, b, x0 = indefinite(), vector(100), vector(100, 5)
    result = lanczos(Poisoned(A, 4), b, dampings=DAMPINGS, x0=x0, maxiter=3)
    assert (result.status, result.n_matvec) == (KrylovStatus.NONFINITE, 4)
    np.testing.assert_array_equal(result.x, lanczos(A, b, dampings=DAMPINGS, maxiter=3).x)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    ("A", "b"),
    [
        ([[0.0, 1.0], [1.0, 0.0]], [1.0, 0.0]),
        ([[1.0, 0.0], [0.0, -1.0]], [1.0, 1.0]),
        ([[0.0, -1.0], [1.0, 0.0]], [1.0, 1.0]),
        ([[0.0, 0.0], [0.0, 0.0]], [1.0, 1.0]),
    ],
)
def test_breakdowns_are_finite_and_descend(A, b, dtype):
    A, b = np.array(A, dtype), np.array(b, dtype)
    result = lanczos(A, b, dampings=DAMPINGS)
    assert np.isfinite(result.rayleighs).all() and np.isfinite(result.lowest.d).all()
    assert len(result.iterates) == 3
    for iterate in result.iterates:
        assert np.isfinite(iterate.x).all() and b @ iterate.x > 0


def test_zero_right_hand_side():
    result = lanczos(indefinite(), np.zeros(100), dampings=[1.0], x0=vector(100))
    assert (result.status, result.n_matvec, result.iterates) == (KrylovStatus.ZERO_RHS, 0, ())
    assert not result.x.any()


def test_a_step_that_overflows_is_left_out():
    b = np.array([1e9, 0.0], np.float32)
    result = lanczos(np.zeros((2, 2), np.float32), b, dampings=[1.0, 1e-35])
    assert [iterate.index for iterate in result.iterates] == [1]
    np.testing.assert_array_equal(result.x, b)


def test_arguments_are_not_changed():
    A, b, x0 = indefinite(), vector(100), vector(100, 2)
    copies = A.copy(), b.copy(), x0.copy()
    result = lanczos(A, b, dampings=[1.0], x0=x0, maxiter=5)
    for array, copy in zip((A, b, x0), copies, strict=True):
        np.testing.assert_array_equal(array, copy)
        assert not np.shares_memory(result.x, array)


@pytest.mark.parametrize("dampings", [[], [0.0], [1.0, -1.0], [np.nan], [np.inf]])
def test_wrong_dampings_give_a_sentence(dampings):
    with pytest.raises(ValueError, match="finite dampings > 0"):
        lanczos(np.eye(2), [1.0, 1.0], dampings=dampings)
