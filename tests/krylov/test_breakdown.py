"""What every solver keeps to on singular, nearly singular and inconsistent systems, and at early invariance."""

import itertools

import numpy as np
import pytest
import scipy.sparse.linalg as sla
from hypothesis import example, given, settings
from hypothesis import strategies as st

from hfnumba.krylov import KrylovStatus, bicgstab, cg, lanczos, minres, steihaug
from tests.krylov.systems import symmetric, vector

ALL = [cg, minres, bicgstab, steihaug, lanczos]
TAKES_M = (cg, minres, bicgstab)
RADIUS = 1e6
SPECTRA = {
    "three": lambda small: [small, 3.5, 3.421875],
    "repeated": lambda small: [small, small, 2.0, 2.0, 5.0, 5.0, 5.0],
    "wide": lambda small: [small, *np.linspace(1, 10, 12)],
    "indefinite": lambda small: [small, *np.linspace(-3, 10, 12)],
    "decaying": lambda small: [small, *np.geomspace(1e-6, 1, 10)],
}
SMALL = [0.0, 1e-5, 1e-7, 1e-8, 1e-10, 1e-12, 1e-14, 1e-15, 1e-16, 1e-17, -1e-8, -1e-16]
SIDES = ["random", "range", "null"]
PRECONDITIONERS = ["none", "definite", "singular"]


def system(eigenvalues, seed, dtype, side, start, preconditioner):
    """Make A, b, x0 and M; b is random, in the range of A, or along the eigenvector of the first eigenvalue."""
    n = len(eigenvalues)
    A, b = symmetric(eigenvalues, seed, dtype), vector(n, seed, dtype)
    if side == "range":
        b = A @ b
    elif side == "null":
        b = np.linalg.qr(np.random.default_rng(seed).standard_normal((n, n)))[0][:, 0].astype(dtype)
    x0 = vector(n, seed + 1, dtype) * dtype(start) if start else None
    spectrum = {
        "none": None,
        "definite": np.linspace(0.5, 2, n),
        "singular": np.array([1e-17, 1e-9, *np.linspace(1, 2, n)])[:n],
    }[preconditioner]
    return A, b, x0, None if spectrum is None else symmetric(spectrum, seed + 3, dtype)


def norm(x):
    return float(np.linalg.norm(x.astype(float)))


def solve(solver, A, b, x0, M, rtol, maxiter):
    """Solve; return also the largest norm of all iterates on the way, of which not all are stored."""
    sizes = [0.0 if x0 is None else norm(x0)]
    options = {"dampings": [1.0, 1e-3]} if solver is lanczos else {"backtracking_ratio": 1.01}
    if solver is not lanczos:
        options["callback"] = lambda x: sizes.append(norm(x))
    if solver in TAKES_M:
        options["M"] = M
    if solver is steihaug:
        options["radius"] = RADIUS
    result = solver(A, b, x0=x0, rtol=rtol, maxiter=maxiter, **options)
    return result, max(sizes + [norm(iterate.x) for iterate in result.iterates])


def check(solver, A, b, x0, M, *, rtol=1e-6, maxiter=None):
    """Solve and check the laws."""
    maxiter = 3 * len(b) if maxiter is None else maxiter
    result, largest = solve(solver, A, b, x0, M, rtol, maxiter)
    eps, A64, b64 = float(np.finfo(A.dtype).eps), A.astype(float), b.astype(float)
    size_of_A = float(np.linalg.norm(A64, 2))
    start = np.zeros(len(b)) if x0 is None else x0.astype(float)
    first = norm(b64 - A64 @ start)
    lowest = max(min((abs(quotient) for quotient in result.rayleighs), default=size_of_A), 1e-300)
    # Rounding of a product with the largest iterate. The recurrence of MINRES magnifies it by the condition that it met
    # (Sleijpen, van der Vorst and Modersitzki 2000); that of any solver may with a preconditioner that is singular.
    magnified = min(max(size_of_A / lowest, 1.0), 1 / eps) if solver is minres else 1.0
    singular_M = M is not None and np.linalg.cond(M.astype(float)) > 1e6
    if singular_M:
        magnified = max(magnified, eps**-0.75)
    rounding = 50 * eps * magnified * (norm(b) + size_of_A * largest)

    assert np.isfinite(result.x).all() and np.isfinite(result.rayleighs).all()
    # Bi-CG-STAB's residual may grow, and so may its steps: only the test of rounding bounds them.
    bounding = min(lowest, max(eps * size_of_A / 100, 1e-300)) if solver is bicgstab else lowest
    bound = RADIUS if solver is steihaug else 2 * norm(start) + 30 * first / bounding
    for iterate in result.iterates:
        x = iterate.x.astype(float)
        assert norm(x) <= (1 + 1e-5) * bound
        assert abs(x @ A64 @ x - iterate.curvature) <= norm(x) * rounding
        assert abs(x @ A64 @ x / 2 - b64 @ x - iterate.model) <= norm(x) * rounding
        assert abs(norm(b64 - A64 @ x) - iterate.residual_norm) <= rounding
    if result.lowest is not None and not singular_M:  # M r may be rounding itself
        d = result.lowest.d.astype(float)
        assert abs(d @ A64 @ d - result.lowest.curvature) <= 100 * eps * np.sqrt(magnified) * size_of_A * (d @ d)

    status, residual = result.status, b64 - A64 @ result.x.astype(float)
    if status is KrylovStatus.CONVERGED and solver is not lanczos:
        assert norm(residual) <= max(rtol, eps) * (norm(b) or first) + rounding
    elif status is KrylovStatus.LEAST_SQUARES:
        gradient = A64 @ (residual if M is None else M.astype(float) @ residual)
        assert norm(gradient) <= size_of_A * (10 * np.sqrt(eps) * norm(residual) + rounding)
    elif status is KrylovStatus.NONPOSITIVE_CURVATURE and not singular_M:
        d = result.lowest.d.astype(float)
        assert d @ A64 @ d <= 80 * eps * size_of_A * (d @ d)
    elif status is KrylovStatus.MAXITER:
        n_products = result.n_matvec - (x0 is not None)
        assert n_products in ((2 * maxiter - 1, 2 * maxiter) if solver is bicgstab else (maxiter,))
    elif status is KrylovStatus.BOUNDARY:
        assert norm(result.x) == pytest.approx(RADIUS, rel=1e-5)
    elif status is KrylovStatus.BREAKDOWN:
        eigenvalues = np.linalg.eigvalsh(A64)
        singular = np.abs(eigenvalues).min() <= 1e3 * eps * size_of_A
        distinct = 1 + np.sum(np.diff(eigenvalues) > 1e3 * eps * size_of_A)
        exhausted = result.n_matvec >= distinct or norm(A64 @ b64 - b64 * (b64 @ A64 @ b64) / (b64 @ b64)) < 1e3 * eps
        assert singular or exhausted or M is not None or (solver is bicgstab and eigenvalues[0] < 0 < eigenvalues[-1])
    return result


@pytest.mark.parametrize("solver", ALL)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("spectrum", SPECTRA)
@pytest.mark.parametrize("part", [0, *(pytest.param(part, marks=pytest.mark.slow) for part in range(1, 11))])
def test_the_laws_hold_on_a_table_of_systems(solver, dtype, spectrum, part):
    """All rows of the table in eleven parts, of which one is quick."""
    preconditioners = PRECONDITIONERS if solver in TAKES_M else ["none"]
    rows = itertools.product(SMALL, SIDES, (0, 1, 1e4), preconditioners, (1e-6, 0.0))
    for seed, (small, side, start, preconditioner, rtol) in enumerate(rows):
        if seed % 11 != part:
            continue
        A, b, x0, M = system(SPECTRA[spectrum](small), seed % 7, dtype, side, start, preconditioner)
        check(solver, A, b, x0, M, rtol=rtol)


@pytest.mark.parametrize("solver, scipys", [(cg, sla.cg), (minres, sla.minres)])
@pytest.mark.parametrize("spectrum", ["three", "repeated", "wide"])
@pytest.mark.parametrize("start", [0, 1])
def test_singular_consistent_systems_are_solved_as_scipy_solves_them(solver, scipys, spectrum, start):
    for seed in range(5):
        A, b, x0, _ = system(SPECTRA[spectrum](0.0), seed, np.float64, "range", start, "none")
        expected, info = scipys(A, b, x0=x0, rtol=1e-9)
        result = check(solver, A, b, x0, None, rtol=1e-9)
        assert (result.status, info) == (KrylovStatus.CONVERGED, 0)
        np.testing.assert_allclose(result.x, expected, atol=1e-6)  # the part in the null space is that of x0


@pytest.mark.parametrize("solver", ALL)
@settings(max_examples=100, deadline=None)
@given(
    eigenvalues=st.lists(
        st.one_of(st.floats(-10, 10, width=32), st.sampled_from([*SMALL, 1.0, 2.0, 5.0])), min_size=2, max_size=20
    ),
    seed=st.integers(0, 10**6),
    dtype=st.sampled_from([np.float32, np.float64]),
    side=st.sampled_from(SIDES),
    start=st.sampled_from([0, 1, 1e4]),
    preconditioner=st.sampled_from(PRECONDITIONERS),
    rtol=st.sampled_from([0.0, 1e-6]),
)
@example([0.0, 3.5, 3.421875], 0, np.float64, "random", 1, "none", 1e-6)
@example([1e-12, 1.0, 1e-05, -1e-08], 0, np.float64, "null", 1, "none", 0.0)
@example([1e-15, *np.linspace(1, 10, 12)], 4, np.float64, "null", 1e4, "definite", 1e-6)
@example([1e-13, 1e-13, 2.0, 2.0, 5.0, 5.0, 5.0], 1, np.float64, "range", 0, "definite", 0.0)
@example([0.0, *np.linspace(1, 10, 12)], 3, np.float64, "null", 0, "none", 1e-6)
@example([0.0, 0.0, 1e-10, 0.0, 1.0, 1e-12, 0.0], 0, np.float64, "random", 0, "none", 0.0)
@example([0.0, 1e-5], 3315, np.float32, "random", 0, "singular", 0.0)
def test_the_laws_hold_on_random_systems(solver, eigenvalues, seed, dtype, side, start, preconditioner, rtol):
    if solver not in TAKES_M:
        preconditioner = "none"
    A, b, x0, M = system(eigenvalues, seed, dtype, side, start, preconditioner)
    if np.abs(eigenvalues).max() > 1e-5 and b.any():  # products of smaller numbers underflow in float32
        check(solver, A, b, x0, M, rtol=rtol)
