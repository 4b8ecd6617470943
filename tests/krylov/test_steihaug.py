"""steihaug: CG inside the region, the edge outside; against dense solves of the trust-region problem."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hfnumba.krylov import KrylovStatus, cg, steihaug
from tests.krylov.systems import Counting, Poisoned, definite, indefinite, symmetric, vector


def solve_trust_region(A, b, radius):
    """The minimum of x'Ax/2 - b'x over |x| <= radius, by bisection of the multiplier in the eigenbasis."""
    values, V = np.linalg.eigh(A)
    c = V.T @ b
    low, high = max(0.0, -values[0]) + 1e-13, 1e6
    if values[0] > 0 and np.linalg.norm(c / values) <= radius:
        return V @ (c / values)
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if np.linalg.norm(c / (values + middle)) > radius else (low, middle)
    return V @ (c / (values + high))


def model(A, b, x):
    return x @ A @ x / 2 - b @ x


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("started", [False, True])
def test_in_a_wide_region_it_is_cg(dtype, started):
    A, b = definite(dtype=dtype), vector(40, dtype=dtype)
    x0 = vector(40, 3, dtype) if started else None
    result, plain = steihaug(A, b, radius=1e3, x0=x0, maxiter=20), cg(A, b, x0=x0, maxiter=20)
    np.testing.assert_array_equal(result.x, plain.x)
    assert (result.status, result.n_matvec, result.rayleighs) == (plain.status, plain.n_matvec, plain.rayleighs)


@settings(max_examples=60, derandomize=True)
@given(
    seed=st.integers(0, 10**6),
    radius=st.floats(1e-3, 1e3),
    dtype=st.sampled_from([np.float32, np.float64]),
    started=st.booleans(),
)
def test_laws(seed, radius, dtype, started):
    rng = np.random.default_rng(seed)
    A, b = symmetric(rng.uniform(-2, 8, 20), seed, dtype), vector(20, seed, dtype)
    x0 = None
    if started:
        x0 = vector(20, seed + 1, dtype)
        x0 *= dtype(rng.uniform(0, 0.9) * radius) / np.linalg.norm(x0)
    result = steihaug(A, b, radius=radius, x0=x0, maxiter=30, backtracking_ratio=1.01)
    A64, b64 = A.astype(float), b.astype(float)
    loose = 1e-3 if dtype == np.float32 else 1e-9
    models = [0.0 if x0 is None else model(A64, b64, x0.astype(float))]
    models += [model(A64, b64, iterate.x.astype(float)) for iterate in result.iterates]
    slack = loose * (1 + radius) * (np.linalg.norm(b64) + 8 * radius)
    for before, after in pairwise(models):
        assert after <= before + slack
    for iterate in result.iterates:
        x = iterate.x.astype(float)
        assert np.linalg.norm(x) <= radius * (1 + loose)
        assert iterate.model == pytest.approx(model(A64, b64, x), abs=slack)
        assert iterate.curvature == pytest.approx(x @ A64 @ x, abs=slack)
    if result.status in (KrylovStatus.BOUNDARY, KrylovStatus.NONPOSITIVE_CURVATURE):
        assert np.linalg.norm(result.x) == pytest.approx(radius, rel=loose)
    best = model(A64, b64, solve_trust_region(A64, b64, radius))
    assert models[-1] >= best - slack
    if not started:
        cauchy = steihaug(A, b, radius=radius, maxiter=1).x.astype(float)
        assert models[-1] <= model(A64, b64, cauchy) + slack


@pytest.mark.parametrize("seed", range(5))
def test_on_a_definite_system_at_least_half_of_the_decrease_there_is(seed):
    """Yuan, "On the truncated conjugate gradient method" (2000): the ratio is at least 1/2."""
    A, b = definite(condition=100.0, seed=seed), vector(40, seed)
    for radius in (0.01, 0.1, 0.3, 1.0):
        result = steihaug(A, b, radius=radius)
        best = model(A, b, solve_trust_region(A, b, radius))
        assert best <= model(A, b, result.x) <= best / 2


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_the_first_step_to_the_edge_is_along_b(sign):
    A, b = sign * definite(), vector(40)
    result = steihaug(A, b, radius=1e-3)
    wanted = KrylovStatus.BOUNDARY if sign > 0 else KrylovStatus.NONPOSITIVE_CURVATURE
    assert (result.status, result.n_matvec) == (wanted, 1)
    np.testing.assert_allclose(result.x, 1e-3 * b / np.linalg.norm(b))
    (only,) = result.iterates
    assert only.index == 1
    assert only.residual_norm == pytest.approx(np.linalg.norm(b - A @ result.x))


def test_negative_curvature_ends_on_the_edge_with_the_iterate_before_it_stored():
    A, b = symmetric(np.linspace(-1, 9, 60)), vector(60)
    operator = Counting(A)
    result = steihaug(operator, b, radius=50.0)
    plain = cg(A, b)
    assert result.status is plain.status is KrylovStatus.NONPOSITIVE_CURVATURE
    assert operator.count == result.n_matvec == plain.n_matvec == len(result.rayleighs)
    np.testing.assert_array_equal(result.iterates[-2].x, plain.x)
    np.testing.assert_array_equal(result.lowest.d, plain.lowest.d)
    step = result.x - plain.x
    np.testing.assert_allclose(step / np.linalg.norm(step), plain.lowest.d / np.linalg.norm(plain.lowest.d))


@pytest.mark.parametrize("at", [1, 2, 3])
def test_a_product_that_is_not_finite_ends_the_solve(at):
    result = steihaug(Poisoned(definite(), at), vector(40), radius=100.0)
    assert (result.status, result.n_matvec, len(result.iterates)) == (KrylovStatus.NONFINITE, at, at - 1)
    assert np.isfinite(result.x).all()


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
def test_breakdowns_end_on_the_edge(A, b, dtype):
    result = steihaug(np.array(A, dtype), np.array(b, dtype), radius=2.0)
    assert np.linalg.norm(result.x) == pytest.approx(2.0, rel=1e-6)
    assert np.array(b) @ result.x > 0


def test_zero_right_hand_side():
    result = steihaug(indefinite(), np.zeros(100), radius=1.0)
    assert (result.status, result.n_matvec, result.iterates) == (KrylovStatus.ZERO_RHS, 0, ())


@pytest.mark.parametrize("radius", [0.0, -1.0, np.nan, np.inf, 1e101])
def test_wrong_radii_give_a_sentence(radius):
    with pytest.raises(ValueError, match="radius between"):
        steihaug(np.eye(2), [1.0, 1.0], radius=radius)


def test_a_start_outside_gives_a_sentence():
    with pytest.raises(ValueError, match="shorten x0"):
        steihaug(np.eye(2), [1.0, 1.0], radius=1.0, x0=[1.0, 0.0])
