"""Operators against dense matrices: sums, multiples, shifts, diagonals, Kronecker products, and their inverses."""

import subprocess
import sys
import tracemalloc

import numpy as np
import pytest
import scipy.linalg
import scipy.sparse.linalg as sla
from hypothesis import given, settings
from hypothesis import strategies as st

from hfnumba.krylov import (
    BlockDiagonalOperator,
    DiagonalOperator,
    FunctionOperator,
    KroneckerOperator,
    Operator,
    as_operator,
    cg,
    minres,
    shifted,
)
from tests.krylov.systems import Counting, definite, indefinite, symmetric, vector

DTYPES = pytest.mark.parametrize("dtype", [np.float32, np.float64])


class Own(Operator):
    """The least a subclass has to define."""

    def __init__(self, A):
        self.A = A

    @property
    def shape(self):
        return self.A.shape

    @property
    def dtype(self):
        return self.A.dtype

    def matvec(self, v):
        return self.A @ v


def dense(operator):
    return operator @ np.eye(operator.shape[0], dtype=operator.dtype)


def factor(n, seed, dtype=np.float64):
    return symmetric(np.random.default_rng(seed).uniform(0.5, 5.0, n), seed, dtype)


def structured(dtype=np.float64):
    """Operators with an inverse and the dense matrices they stand for."""
    A, G, d = factor(5, 1, dtype), factor(3, 2, dtype), np.linspace(1, 2, 4).astype(dtype)
    kronecker, diagonal = (KroneckerOperator(A, G), np.kron(A, G)), (DiagonalOperator(d), np.diag(d))
    blocks = [kronecker, diagonal, (KroneckerOperator(G, A), np.kron(G, A))]
    block = BlockDiagonalOperator([operator for operator, _ in blocks])
    return {
        "kronecker": kronecker,
        "diagonal": diagonal,
        "blocks": (block, scipy.linalg.block_diag(*(matrix for _, matrix in blocks))),
    }


OPERATORS = {"function": (as_operator(indefinite(9)), indefinite(9)), "own": (Own(definite(7)), definite(7))}
OPERATORS |= structured()
ALL = pytest.mark.parametrize("name", OPERATORS)
STRUCTURED = pytest.mark.parametrize("name", structured())


@ALL
def test_products_are_those_of_the_dense_matrix(name):
    H, matrix = OPERATORS[name]
    n = len(matrix)
    v, V = vector(n), np.random.default_rng(3).standard_normal((n, 4))
    assert H.shape == (n, n) and H.dtype == np.float64
    np.testing.assert_allclose(H @ v, matrix @ v, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(H @ V, matrix @ V, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(H @ np.asfortranarray(V), matrix @ V, rtol=1e-12, atol=1e-12)
    np.testing.assert_array_equal(H @ v, H.matvec(v))
    assert (H @ np.empty((n, 0))).shape == (n, 0)
    np.testing.assert_allclose(H.to_scipy() @ V, matrix @ V, rtol=1e-12, atol=1e-12)


@ALL
def test_a_matrix_costs_a_product_for_each_column(name):
    H, matrix = OPERATORS[name]
    counting = Counting(matrix)
    operator = FunctionOperator(len(matrix), counting.matvec, np.float64)
    np.testing.assert_allclose(operator @ np.ones((len(matrix), 3)), H @ np.ones((len(matrix), 3)), rtol=1e-10)
    assert counting.count == 3


@ALL
@DTYPES
@settings(max_examples=20)
@given(seed=st.integers(0, 10**6), a=st.floats(-10, 10), b=st.floats(-10, 10))
def test_linear_symmetric_and_without_side_effects(name, dtype, seed, a, b):
    H = OPERATORS[name][0] if name in ("function", "own") else structured(dtype)[name][0]
    n = H.shape[0]
    u, v = vector(n, seed, dtype), vector(n, seed + 1, dtype)
    copies = u.copy(), v.copy()
    close = 1e-4 if dtype == np.float32 else 1e-11
    size = 100 * float(np.linalg.norm(u) * np.linalg.norm(v))
    mixed = (dtype(a) * u + dtype(b) * v).astype(dtype)
    np.testing.assert_allclose(H @ mixed, dtype(a) * (H @ u) + dtype(b) * (H @ v), atol=close * size)
    assert u @ (H @ v) == pytest.approx(v @ (H @ u), abs=close * size)
    np.testing.assert_array_equal((u, v), copies)
    if name not in ("function", "own"):
        assert (H @ v).dtype == H.dtype == dtype


@STRUCTURED
@DTYPES
def test_the_inverse_undoes_the_product(name, dtype):
    H, matrix = structured(dtype)[name]
    inverse = H.inverse()
    v = vector(len(matrix), dtype=dtype)
    close = 1e-4 if dtype == np.float32 else 1e-12
    np.testing.assert_allclose(inverse @ (H @ v), v, rtol=close, atol=close)
    np.testing.assert_allclose(H @ (inverse @ v), v, rtol=close, atol=close)
    np.testing.assert_allclose(inverse.inverse() @ v, H @ v, rtol=10 * close, atol=10 * close)
    np.testing.assert_allclose(dense(inverse), np.linalg.inv(matrix.astype(float)), rtol=close, atol=close)
    assert inverse.shape == H.shape and inverse.dtype == dtype


@pytest.mark.parametrize("solver", [cg, minres])
def test_the_inverse_is_a_preconditioner(solver):
    H, matrix = structured()["blocks"]
    b = vector(len(matrix))
    result = solver(H, b, M=H.inverse())
    assert result.n_matvec == 1
    np.testing.assert_allclose(result.x, np.linalg.solve(matrix, b), rtol=1e-9)


@DTYPES
def test_the_layout_is_that_of_a_layer(dtype):
    """Theta holds W (n_in, n_out) row-major, then b: the gradient of a row is the outer product of [a, 1] and delta."""
    rng = np.random.default_rng(0)
    a, delta = rng.standard_normal((50, 4)).astype(dtype), rng.standard_normal((50, 3)).astype(dtype)
    inputs = np.hstack([a, np.ones((50, 1), dtype)])
    W = rng.standard_normal((4, 3)).astype(dtype)
    v = np.concatenate([W.ravel(), np.ones(3, dtype)])
    A, G = inputs.T @ inputs / 50, delta.T @ delta / 50
    expected = np.kron(A, G) @ v
    np.testing.assert_allclose(KroneckerOperator(A, G) @ v, expected, rtol=1e-4, atol=1e-4)
    (row,), (out,) = inputs[:1], delta[:1]
    gradient = np.concatenate([np.outer(a[0], delta[0]).ravel(), delta[0]])
    rank_one = KroneckerOperator(np.outer(row, row), np.outer(out, out))
    np.testing.assert_allclose(rank_one @ v, gradient * (gradient @ v), rtol=1e-3, atol=1e-5)


def test_a_kronecker_product_is_never_made_dense():
    A, G, v = factor(300, 1), factor(200, 2), vector(60_000)
    H = KroneckerOperator(A, G)
    tracemalloc.start()
    try:
        H.matvec(v)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 4 * v.nbytes


@ALL
def test_sums_multiples_and_shifts(name):
    H, matrix = OPERATORS[name]
    n = len(matrix)
    v, identity, other = vector(n), np.eye(n), indefinite(n, 4)
    cases = [
        (H + 0.1, matrix + 0.1 * identity),
        (0.1 + H, matrix + 0.1 * identity),
        (2 * H, 2 * matrix),
        (H * np.float32(2), 2 * matrix),
        (np.float64(0.5) * H, matrix / 2),
        (np.int64(3) + H, matrix + 3 * identity),
        (H + as_operator(other), matrix + other),
        (H + sla.aslinearoperator(other), matrix + other),
        (sla.aslinearoperator(other) + H, matrix + other),
        (2 * (H + 0.1) + H, 3 * matrix + 0.2 * identity),
    ]
    for operator, expected in cases:
        assert isinstance(operator, Operator) and operator.dtype == np.float64
        np.testing.assert_allclose(operator @ v, expected @ v, rtol=1e-12, atol=1e-12)


@DTYPES
@pytest.mark.parametrize("n", [1, 7, 40_000, 100_001])
def test_a_shifted_product_has_the_bits_of_the_sum(n, dtype):
    d, v = vector(n, 1, dtype), vector(n, 2, dtype)
    expected = d * v + dtype(0.3) * v
    found = shifted(DiagonalOperator(d), 0.3).matvec(v)
    assert found.dtype == dtype
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal((DiagonalOperator(d) + 0.3) @ v, expected)


def test_a_shifted_product_makes_no_second_vector():
    n = 1_000_000
    d, v = np.ones(n, np.float32), np.ones(n, np.float32)
    H = DiagonalOperator(d) + 0.5
    tracemalloc.start()
    try:
        H.matvec(v)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 1.1 * v.nbytes


@pytest.mark.parametrize("wrap", [as_operator, sla.aslinearoperator])
def test_a_shift_of_an_integer_matrix_is_not_cut_down(wrap):
    operator = shifted(wrap(np.eye(2, dtype=int)), 0.5)
    np.testing.assert_array_equal(operator.matvec(np.ones(2)), [1.5, 1.5])
    np.testing.assert_array_equal(operator.matvec(np.ones(2, int)), [1.5, 1.5])


def test_a_float64_vector_keeps_its_digits_in_a_float32_operator():
    v = np.array([1 / 3, 1.0])
    H = DiagonalOperator(np.ones(2, np.float32))
    np.testing.assert_array_equal((H + 0.5) @ v, v + np.float32(0.5) * v)
    np.testing.assert_array_equal((H + DiagonalOperator(np.ones(2))) @ v.astype(np.float32), 2 * v.astype(np.float32))


class Aliasing:
    """The identity, as SciPy has it: the product is the argument itself."""

    shape, dtype = (3, 3), np.dtype(np.float64)

    def matvec(self, v):
        return v


def read_only(v):
    product = v.copy()
    product.flags.writeable = False
    return product


@pytest.mark.parametrize(
    "identity",
    [Aliasing(), sla.aslinearoperator(scipy.sparse.eye_array(3)), FunctionOperator(3, read_only, float)],
    ids=["aliasing", "scipy", "read-only"],
)
def test_a_product_that_is_the_argument_is_not_written_to(identity):
    v = np.array([1.0, 2.0, 3.0])
    for operator in (shifted(identity, 1.0), DiagonalOperator(np.ones(3)) + identity):
        np.testing.assert_array_equal(operator @ v, [2.0, 4.0, 6.0])
    np.testing.assert_array_equal(shifted(shifted(identity, 1.0), 1.0) @ v, [3.0, 6.0, 9.0])
    np.testing.assert_array_equal(v, [1.0, 2.0, 3.0])


@pytest.mark.parametrize("solver", [cg, minres])
@pytest.mark.parametrize("started", [False, True])
def test_an_identity_that_returns_its_argument_is_a_preconditioner(solver, started):
    A, b = symmetric([1.0, 2.0, 4.0]), vector(3)
    x0 = vector(3, 5) if started else None
    plain, preconditioned = solver(A, b, x0=x0), solver(A, b, x0=x0, M=Aliasing())
    np.testing.assert_allclose(preconditioned.x, plain.x, rtol=1e-12)
    assert preconditioned.status is plain.status
    np.testing.assert_allclose(solver(Aliasing(), b, x0=x0).x, b, rtol=1e-12)


@pytest.mark.parametrize(
    "expression, words",
    [
        (lambda H: H @ np.ones(2), "a vector of shape"),
        (lambda H: H @ np.ones((2, 3)), "a vector of shape"),
        (lambda H: H @ np.ones((3, 3, 1)), "a vector of shape"),
        (lambda H: H + as_operator(np.eye(2)), "operators of one shape"),
        (lambda H: DiagonalOperator(np.eye(2)), "diagonal of shape"),
        (lambda H: DiagonalOperator([1.0, np.nan]), "finite numbers in diagonal"),
        (lambda H: DiagonalOperator(["a"]), "real numbers in diagonal"),
        (lambda H: DiagonalOperator([1.0, 0.0, 2.0]).inverse(), "at 1; add a damping"),
        (lambda H: DiagonalOperator(np.array([1e-40], np.float32)).inverse(), "at 0; add a damping"),
        (lambda H: KroneckerOperator(np.ones((2, 3)), np.eye(2)), "square matrix A"),
        (lambda H: KroneckerOperator(np.eye(2), [[1.0, 2.0], [0.0, 1.0]]), "symmetric matrix G"),
        (lambda H: KroneckerOperator([[np.inf]], np.eye(2)), "finite numbers in A"),
        (lambda H: KroneckerOperator(np.eye(2), np.diag([1.0, -2.0])).inverse(), r"factor G.* -2.0e\+00; add a damp"),
        (lambda H: KroneckerOperator(np.zeros((2, 2)), np.eye(2)).inverse(), "positive definite factor A"),
        (lambda H: KroneckerOperator(np.full((1, 1), 1e-40, np.float32), [[1.0]]).inverse(), "factor A"),
        (lambda H: BlockDiagonalOperator([]), "at least one block"),
        (lambda H: BlockDiagonalOperator([sla.aslinearoperator(np.ones((2, 3)))]), "square blocks"),
        (lambda H: BlockDiagonalOperator([H]).inverse(), "FunctionOperator as block 0"),
        (lambda H: BlockDiagonalOperator([DiagonalOperator([0.0])]).inverse(), "block 0: expected a diagonal"),
    ],
)
def test_wrong_operators_give_a_sentence(expression, words):
    with pytest.raises(ValueError, match=words):
        expression(as_operator(np.eye(3)))


@pytest.mark.parametrize("other", ["a", None, np.eye(3)])
def test_what_is_no_number_or_operator_is_a_type_error(other):
    H = as_operator(np.eye(3))
    for expression in (lambda: H + other, lambda: other + H, lambda: H * other, lambda: other * H, lambda: H @ H):
        with pytest.raises(TypeError):
            expression()


def test_a_subclass_must_be_complete():
    with pytest.raises(TypeError, match="abstract"):
        type("Half", (Operator,), {"matvec": lambda self, v: v})()


def test_shift_adds_to_every_rayleigh_quotient():
    A, b = definite(), vector(40)
    damped = shifted(as_operator(A), 0.5)
    np.testing.assert_allclose(damped.matvec(b), A @ b + 0.5 * b)
    assert cg(damped, b, maxiter=1).rayleighs[0] == pytest.approx(cg(A, b, maxiter=1).rayleighs[0] + 0.5)


def test_to_scipy_is_the_same_operator():
    A = definite()
    eigenvalue = sla.eigsh(as_operator(A).to_scipy(), k=1, which="LA", return_eigenvectors=False)
    assert eigenvalue[0] == pytest.approx(50.0)


def test_importing_loads_neither_scipy_nor_numba_nor_dask():
    code = "import sys, hfnumba.krylov; print([m for m in ('scipy', 'numba', 'dask') if m in sys.modules])"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"
