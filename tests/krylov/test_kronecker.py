"""The K-FAC preconditioner: against dense matrices, and on factors that are singular, indefinite or not finite."""

import numpy as np
import pytest
from scipy.linalg import block_diag, lapack

from hfnumba.krylov import lapack as ours
from hfnumba.krylov.kronecker import kfac

SHAPES = ((7, 4), (4, 3), (3, 1))


def packed(matrix, dtype):
    return lapack.dtrttf(np.asfortranarray(matrix), uplo="L")[0].astype(dtype)


def random_factors(dtype=np.float64, rank=None):
    """Factors of three layers, and the damped dense matrices that they stand for."""
    rng, factors, moments = np.random.default_rng(0), {}, []
    for layer, (n_in, n_out) in enumerate(SHAPES, start=1):
        rows = np.hstack([rng.normal(size=(rank or 50, n_in)), np.ones((rank or 50, 1))])
        deltas = rng.normal(size=(rank or 50, n_out)) * 0.1
        A, G = rows.T @ rows / len(rows), deltas.T @ deltas / len(deltas)
        factors |= {f"A{layer}": packed(A[:-1, :-1], dtype), f"a{layer}": A[-1, :-1].astype(dtype)}
        factors[f"G{layer}"] = packed(G, dtype)
        moments.append((A, G))
    return factors, moments


def dense(moments, damping):
    blocks = []
    for A, G in moments:
        ratio = np.sqrt((np.trace(A) / len(A)) / (np.trace(G) / len(G)))
        left, right = A + ratio * np.sqrt(damping) * np.eye(len(A)), G + np.sqrt(damping) / ratio * np.eye(len(G))
        blocks.append(np.kron(left, right))
    return block_diag(*blocks)


@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float64, 1e-10), (np.float32, 1e-3)])
@pytest.mark.parametrize("rank", [None, 2])
def test_products_against_a_dense_inverse(rank, dtype, tolerance):
    factors, moments = random_factors(dtype, rank)
    M, F = kfac(0.1, **factors), dense(moments, 0.1)
    v = np.random.default_rng(1).normal(size=len(F)).astype(dtype)
    expected = np.linalg.solve(F, v)
    found = M.matvec(v)
    assert found.dtype == dtype
    assert M.n_increased == 0
    np.testing.assert_allclose(found, expected, atol=tolerance * np.abs(expected).max())
    # The two halves: F = LL'.
    np.testing.assert_allclose(M.solve_upper(M.solve_lower(v)), expected, atol=tolerance * np.abs(expected).max())
    np.testing.assert_allclose(M.solve_upper(M.multiply_upper(v)), v, atol=tolerance * np.abs(v).max())
    half = M.solve_lower(v).astype(np.float64)
    np.testing.assert_allclose(half @ half, v @ expected, rtol=10 * tolerance)


def test_penalty_adds_to_the_damping():
    factors, moments = random_factors()
    v, penalty = np.ones(len(dense(moments, 1))), np.zeros(len(dense(moments, 1)))
    penalty[0] = 0.4
    np.testing.assert_allclose(kfac(0.1, penalty, **factors).matvec(v), kfac(0.5, **factors).matvec(v))


@pytest.mark.parametrize("fault", ["zero", "nan", "indefinite"])
def test_unusable_factors_leave_a_finite_positive_operator(fault):
    factors, _ = random_factors(np.float32)
    factors["G2"] = {
        "zero": factors["G2"] * 0,
        "nan": np.full_like(factors["G2"], np.nan),
        "indefinite": packed(np.diag([1.0, -1.0, 1.0]), np.float32),
    }[fault]
    M = kfac(1e-4, **factors)
    v = np.random.default_rng(2).normal(size=M.shape[0]).astype(np.float32)
    product = M.matvec(v)
    assert np.isfinite(product).all()
    assert v @ product > 0
    assert M.n_increased == (fault == "indefinite")


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("side", ["L", "R"])
@pytest.mark.parametrize("transpose", [False, True])
def test_lapack_against_numpy(side, transpose, dtype):
    rng = np.random.default_rng(0)
    n = 5 if side == "L" else 3
    A = rng.normal(size=(n, n)) + n * np.eye(n)
    factor = np.asfortranarray(A @ A.T, dtype=dtype)
    expected = np.linalg.cholesky(A @ A.T)
    assert ours.cholesky(factor)
    np.testing.assert_allclose(np.tril(factor), expected, rtol=1e-5)
    right = np.asfortranarray(rng.normal(size=(5, 3)), dtype=dtype)
    L = expected.T if transpose else expected
    solution = np.linalg.solve(L, right) if side == "L" else np.linalg.solve(L.T, right.T).T
    ours.solve_triangular(factor, right, side=side, transpose=transpose)
    np.testing.assert_allclose(right, solution, rtol=1e-4, atol=1e-6)
    assert not ours.cholesky(np.asfortranarray(np.diag([1.0, -1.0, 1.0]), dtype=dtype))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("side", ["L", "R"])
def test_products_with_an_inverse_against_numpy(side, dtype):
    rng = np.random.default_rng(0)
    n = 5 if side == "L" else 3
    A = rng.normal(size=(n, n)) + n * np.eye(n)
    factor = np.asfortranarray(A @ A.T, dtype=dtype)
    assert ours.cholesky(factor)
    kept, inverted = factor.copy(), ours.inverse(factor)
    np.testing.assert_allclose(np.tril(inverted), np.tril(np.linalg.inv(A @ A.T)), rtol=1e-4, atol=1e-6)
    np.testing.assert_array_equal(factor, kept)
    # Some rows of larger matrices.
    right, out = (np.asfortranarray(rng.normal(size=(8, 3)), dtype=dtype)[2:7] for _ in range(2))
    ours.multiply_symmetric(inverted, right, out, side=side)
    expected = np.linalg.solve(A @ A.T, right) if side == "L" else np.linalg.solve(A @ A.T, right.T).T
    np.testing.assert_allclose(out, expected, rtol=1e-4, atol=1e-6)


def test_ill_conditioned_factors_are_solved_for():
    """So the operator stays positive along the eigenvectors of the largest eigenvalues."""
    rng = np.random.default_rng(0)
    directions = np.linalg.qr(rng.normal(size=(60, 60)))[0]
    matrix = directions * np.logspace(0, 5.5, 60) @ directions.T
    packing = {"A1": packed(np.eye(40), np.float32), "a1": np.zeros(40, np.float32), "G1": packed(matrix, np.float32)}
    M = kfac(1e-6, **packing)
    assert ours.inverse(M.layers[0].G) is None
    v = np.kron(np.ones(41), directions[:, -1]).astype(np.float32)
    assert v @ M.matvec(v) > 0
    product = M.matvec(v).reshape(41, 60)[:40]
    # The damping is small beside 1 and the largest eigenvalue.
    np.testing.assert_allclose(product @ directions[:, -1], 10**-5.5, rtol=1e-3)


@pytest.mark.parametrize("names", [("A1",), ("G1",), ("A2", "G2")])
def test_a_factor_known_by_its_diagonal_is_a_diagonal_matrix(names):
    factors, moments = random_factors()
    for name in names:
        kind, layer = "AG".index(name[0]), int(name[1])
        diagonal = moments[layer - 1][kind].diagonal().copy()
        moments[layer - 1] = tuple(np.diag(M.diagonal()) if i == kind else M for i, M in enumerate(moments[layer - 1]))
        del factors[name]
        factors[f"diag_{name}"] = diagonal[:-1] if kind == 0 else diagonal
    M, F = kfac(0.1, **factors), dense(moments, 0.1)
    v = np.random.default_rng(1).normal(size=len(F))
    np.testing.assert_allclose(M.matvec(v), np.linalg.solve(F, v), rtol=1e-8)
    np.testing.assert_allclose(M.solve_upper(M.solve_lower(v)), np.linalg.solve(F, v), rtol=1e-8)
    np.testing.assert_allclose(M.solve_upper(M.multiply_upper(v)), v, rtol=1e-8)
