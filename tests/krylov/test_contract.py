"""What holds for all iterative solvers: counts, dtypes, memory, arguments, curvature without products."""

import tracemalloc

import numpy as np
import pytest
import scipy.sparse
import scipy.sparse.linalg as sla
from hypothesis import example, given, settings
from hypothesis import strategies as st

from hfnumba.krylov import (
    FunctionOperator,
    KrylovStatus,
    RelativeProgress,
    bicgstab,
    cg,
    minres,
)
from hfnumba.krylov.result import Record
from hfnumba.krylov.system import prepare
from tests.krylov.systems import Counting, Poisoned, definite, indefinite, symmetric, vector

SOLVERS = pytest.mark.parametrize("solver", [cg, bicgstab, minres])
PRECONDITIONED = pytest.mark.parametrize("solver", [cg, bicgstab, minres])
DTYPES = pytest.mark.parametrize("dtype", [np.float32, np.float64])


@SOLVERS
@DTYPES
@settings(max_examples=40, deadline=None)
@given(
    eigenvalues=st.lists(st.floats(-10, 10, width=32), min_size=2, max_size=30),
    seed=st.integers(0, 10**6),
    started=st.booleans(),
)
@example(eigenvalues=[0.0, 3.5, 3.421875], seed=0, started=True)
def test_the_curvature_of_every_iterate_costs_no_product(solver, dtype, eigenvalues, seed, started):
    """x'Ax = x'(b - r), with the error that the drift of the recursive residual allows."""
    n = len(eigenvalues)
    A, b = symmetric(eigenvalues, seed, dtype), vector(n, seed, dtype)
    x0 = vector(n, seed + 1, dtype) if started else None
    sizes = [0.0 if x0 is None else float(np.linalg.norm(x0))]
    result = solver(A, b, x0=x0, maxiter=6, callback=lambda x: sizes.append(float(np.linalg.norm(x.astype(float)))))
    assert np.isfinite(result.x).all() and np.isfinite(result.rayleighs).all()
    A64, b64 = A.astype(np.float64), b.astype(np.float64)
    for iterate in result.iterates:
        x = iterate.x.astype(np.float64)
        size = np.linalg.norm(x)
        # every step rounds r by eps·|A|·(the largest x on the way); a half step has no callback, hence size
        drift = 1e3 * float(np.finfo(dtype).eps) * (float(np.linalg.norm(b)) + 10 * max(*sizes, size))
        assert abs(x @ A64 @ x - iterate.curvature) <= size * drift
        assert abs(x @ A64 @ x / 2 - b64 @ x - iterate.model) <= size * drift


@SOLVERS
def test_float32_curvature_is_good_to_a_thousandth(solver):
    for seed in range(20):
        A, b = definite(100, 1e3, seed, np.float32), vector(100, seed, np.float32)
        for iterate in solver(A, b, maxiter=20).iterates:
            x = iterate.x.astype(np.float64)
            assert iterate.curvature == pytest.approx(x @ A.astype(np.float64) @ x, rel=1e-3)


@SOLVERS
@DTYPES
@pytest.mark.parametrize("matrix", [definite, indefinite])
@pytest.mark.parametrize("started", [False, True])
def test_products_are_counted(solver, dtype, matrix, started):
    operator = Counting(matrix(n=60, dtype=dtype))
    x0 = vector(60, 5, dtype) if started else None
    result = solver(operator, vector(60, dtype=dtype), x0=x0)
    assert result.n_matvec == operator.count == len(result.rayleighs) + started
    assert result.x.dtype == dtype and all(iterate.x.dtype == dtype for iterate in result.iterates)
    assert result.lowest.d.dtype == dtype


@SOLVERS
def test_stored_iterates_lie_on_the_grid_and_are_those_of_shorter_solves(solver):
    A, b = definite(condition=1e5, n=60), vector(60)
    result = solver(A, b, rtol=0, maxiter=20)
    assert [iterate.index for iterate in result.iterates] == [1, 2, 3, 4, 5, 7, 9, 11, 14, 18, 20]
    for iterate in result.iterates:
        shorter = solver(A, b, rtol=0, maxiter=iterate.index)
        np.testing.assert_array_equal(shorter.x, iterate.x)
        assert shorter.iterates[-1].curvature == iterate.curvature
    assert result.iterates[-1].x is result.x
    doubled = solver(A, b, rtol=0, maxiter=16, backtracking_ratio=2.0)
    assert [iterate.index for iterate in doubled.iterates] == [1, 2, 4, 8, 16]


@SOLVERS
def test_x0_that_solves_costs_one_product_and_zero_x0_none(solver):
    A, b = definite(), vector(40)
    solved = solver(A, b, x0=np.linalg.solve(A, b))
    assert (solved.status, solved.n_matvec, solved.iterates) == (KrylovStatus.CONVERGED, 1, ())
    plain, zero = solver(A, b, maxiter=5), solver(A, b, x0=np.zeros(40), maxiter=5)
    assert zero.n_matvec == plain.n_matvec
    np.testing.assert_array_equal(zero.x, plain.x)


@SOLVERS
@DTYPES
def test_zero_right_hand_side(solver, dtype):
    operator = Counting(indefinite(dtype=dtype))
    result = solver(operator, np.zeros(100, dtype))
    assert (result.status, result.n_matvec, operator.count) == (KrylovStatus.ZERO_RHS, 0, 0)
    assert not result.x.any() and result.x.dtype == dtype
    assert (result.iterates, result.lowest, result.rayleighs) == ((), None, ())


@SOLVERS
def test_zero_right_hand_side_with_x0_solves_and_sees_curvature(solver):
    solved = solver(definite(), np.zeros(40), x0=vector(40), rtol=1e-10)
    assert solved.status is KrylovStatus.CONVERGED
    assert np.linalg.norm(solved.x) < 1e-8
    assert solver(indefinite(), np.zeros(100), x0=vector(100), maxiter=5).lowest.rayleigh < 0


@SOLVERS
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("at", [1, 2, 3, 4])
def test_a_product_that_is_not_finite_ends_the_solve(solver, at, value):
    A, b = definite(), vector(40)
    result = solver(Poisoned(A, at, value), b)
    assert (result.status, result.n_matvec) == (KrylovStatus.NONFINITE, at)
    assert np.isfinite(result.x).all() and np.isfinite(result.rayleighs).all()
    steps = at // 2 if solver is bicgstab else at - 1
    assert [iterate.index for iterate in result.iterates] == list(range(1, steps + 1))
    for iterate in result.iterates:
        assert iterate.curvature == pytest.approx(iterate.x @ A @ iterate.x, rel=1e-9)


@PRECONDITIONED
def test_a_first_residual_that_is_not_finite_gives_x0_back(solver):
    x0 = vector(40)
    M = Counting(np.eye(40))  # would refuse the residual
    result = solver(Poisoned(definite(), 1), vector(40), x0=x0, M=M)
    assert (result.status, result.n_matvec) == (KrylovStatus.NONFINITE, 1)
    np.testing.assert_array_equal(result.x, x0)


@SOLVERS
@DTYPES
def test_a_step_that_overflows_is_not_taken(solver, dtype):
    tiny = np.finfo(dtype).tiny
    A = np.diag(np.array([tiny, 1.0], dtype))
    result = solver(A, np.array([1e9, 0.0], dtype))
    assert result.status is KrylovStatus.NONFINITE
    assert not result.x.any() and result.iterates == ()
    assert result.lowest.rayleigh == pytest.approx(float(tiny))


@SOLVERS
def test_rtol_zero_ends_at_the_rounding_unit(solver):
    result = solver(definite(), vector(40), rtol=0, maxiter=10_000)
    assert result.status is KrylovStatus.CONVERGED
    assert result.n_matvec < 200


@SOLVERS
def test_the_callback_sees_every_iterate(solver):
    A, b = definite(condition=1e5), vector(40)
    seen = []
    result = solver(A, b, rtol=0, maxiter=9, callback=lambda x: seen.append(x.copy()))
    assert len(seen) == 9
    for iterate in result.iterates:
        np.testing.assert_array_equal(seen[iterate.index - 1], iterate.x)


@SOLVERS
def test_arguments_are_not_changed(solver):
    A, b, x0 = indefinite(), vector(100), vector(100, seed=2)
    copies = A.copy(), b.copy(), x0.copy()
    result = solver(A, b, x0=x0, maxiter=5)
    for array, copy in zip((A, b, x0), copies, strict=True):
        np.testing.assert_array_equal(array, copy)
    assert not any(np.shares_memory(result.x, array) for array in (b, x0))
    first = solver(A, b, maxiter=1)
    assert not np.shares_memory(first.lowest.d, b)


@SOLVERS
@pytest.mark.parametrize(
    "change, words",
    [
        ({"b": [1.0, np.nan, 0.0]}, "finite numbers in b"),
        ({"b": [1.0, np.inf, 0.0]}, "finite numbers in b"),
        ({"b": [1.0, 2.0]}, r"b of shape \(3,\)"),
        ({"b": [[1.0], [2.0], [3.0]]}, r"b of shape \(3,\)"),
        ({"b": [1j, 0, 0]}, "real numbers in b"),
        ({"b": ["a", "b", "c"]}, "real numbers in b"),
        ({"b": [1e-200, 0.0, 0.0]}, "scale the system"),
        ({"x0": [np.nan, 0.0, 0.0]}, "finite numbers in x0"),
        ({"x0": [1.0]}, r"x0 of shape \(3,\)"),
        ({"A": np.ones((3, 2))}, "square matrix"),
        ({"A": np.eye(3) * 1j}, "real operator"),
        ({"A": sla.aslinearoperator(np.ones((3, 2)))}, "square operator"),
        ({"rtol": -1e-3}, "rtol >= 0"),
        ({"rtol": np.nan}, "rtol >= 0"),
        ({"maxiter": 0}, "maxiter >= 1"),
        ({"maxiter": 2.5}, "maxiter >= 1"),
        ({"backtracking_ratio": 1.0}, "backtracking_ratio > 1"),
        ({"backtracking_ratio": np.nan}, "backtracking_ratio > 1"),
        ({"A": FunctionOperator(3, lambda v: v[:2], np.float64)}, r"product of shape \(3,\)"),
    ],
)
def test_wrong_arguments_give_a_sentence(solver, change, words):
    arguments = {"A": np.eye(3), "b": [1.0, 2.0, 3.0]} | change
    with pytest.raises(ValueError, match=words):
        solver(**arguments)


@PRECONDITIONED
def test_a_preconditioner_of_another_order_is_refused(solver):
    with pytest.raises(ValueError, match="M of shape"):
        solver(np.eye(3), [1.0, 2.0, 3.0], M=np.eye(2))


@SOLVERS
@pytest.mark.parametrize(
    "A, b, expected",
    [
        (np.float32, np.float32, np.float32),
        (np.float32, np.float64, np.float64),
        (np.float64, np.float32, np.float64),
        (np.int64, np.float32, np.float64),
        (np.float32, np.int64, np.float64),
        (np.float32, np.float16, np.float32),
    ],
)
def test_dtypes(solver, A, b, expected):
    result = solver(2 * np.eye(3, dtype=A), np.array([1, 2, 4], dtype=b))
    assert result.x.dtype == expected
    np.testing.assert_allclose(result.x, [0.5, 1.0, 2.0], rtol=1e-6)


@SOLVERS
def test_scipys_operators_are_operators(solver):
    A, b = definite(), vector(40)
    expected = solver(A, b).x
    np.testing.assert_allclose(solver(sla.aslinearoperator(scipy.sparse.csr_array(A)), b).x, expected, rtol=1e-5)


@pytest.mark.parametrize("solver, n_vectors", [(cg, 6), (bicgstab, 7), (minres, 9)])
@pytest.mark.parametrize("started", [False, True])
def test_memory_is_what_the_docstring_says(solver, n_vectors, started):
    """The peak in n-vectors, over the stored iterates, with an operator that allocates its product only."""
    n = 1_000_000
    A = FunctionOperator(n, lambda v: diagonal * v, np.float32)
    diagonal, b = np.linspace(1, 100, n, dtype=np.float32), vector(n, dtype=np.float32)
    x0 = vector(n, 4, np.float32) if started else None
    tracemalloc.start()
    try:
        result = solver(A, b, x0=x0, maxiter=8, rtol=0)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    stored = len(result.iterates) - 1  # the last one is x
    assert peak / b.nbytes <= n_vectors + stored + (started and solver is bicgstab) + 0.5  # other threads allocate too


def test_public_names():
    import hfnumba.krylov

    assert hfnumba.krylov.RelativeProgress is RelativeProgress
    assert all(hasattr(hfnumba.krylov, name) for name in hfnumba.krylov.__all__)


def test_the_direction_that_ends_a_solve_is_the_lowest_even_against_rounding():
    system = prepare(np.eye(2), np.ones(2), x0=None, rtol=0, maxiter=1, M=None)
    record = Record(system, 1.3)
    record.direction(np.array([1.0, 0.0]), 1e-20, 1.0)
    record.direction(np.array([0.0, 1.0]), 1e-18, 1.0, ends=True)
    result = record.finish(0, system.b, KrylovStatus.NONPOSITIVE_CURVATURE)
    np.testing.assert_array_equal(result.lowest.d, [0.0, 1.0])
    assert result.rayleighs == (1e-20, 1e-18)
