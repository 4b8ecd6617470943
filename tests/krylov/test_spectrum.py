"""Spectra against dense eigenvalues; traces and diagonals against dense matrices; their stated errors."""

import json

import numpy as np
import pytest
import scipy.sparse.linalg as sla
from hypothesis import given, settings
from hypothesis import strategies as st

from hfnumba.krylov import FunctionOperator, SubmatrixOperator, as_operator, spectrum
from tests.krylov.systems import Counting, indefinite, symmetric


def spread(n, seed=0):
    """Many eigenvalues near 0 and some outliers, as Hessians of networks have; float64."""
    rng = np.random.default_rng(seed)
    values = np.concatenate([rng.normal(0, 0.02, n - 12), rng.uniform(-1, -0.3, 4), rng.uniform(1, 5, 8)])
    return symmetric(values, seed, np.float64), np.sort(values)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_extreme_eigenvalues_are_those_of_the_dense_matrix(dtype):
    A, values = spread(200)
    found = spectrum(A.astype(dtype), probes=3, steps=60, extreme=4)
    tolerance = 1e-5 if dtype == np.float32 else 1e-9
    np.testing.assert_allclose([one.value for one in found.highest], values[:-5:-1], rtol=tolerance)
    np.testing.assert_allclose([one.value for one in found.lowest], values[:4], rtol=tolerance)
    np.testing.assert_allclose(
        [one.value for one in found.highest], sla.eigsh(A, 4, which="LA")[0][::-1], rtol=tolerance
    )


@settings(deadline=None, max_examples=25)
@given(st.integers(2, 60), st.integers(2, 20), st.integers(0, 10_000))
def test_an_eigenvalue_lies_within_each_residual_and_beyond_each_ritz_value(n, steps, seed):
    A = indefinite(n, seed=seed)
    values = np.linalg.eigvalsh(A)
    found = spectrum(A, probes=2, steps=steps, extreme=steps // 2, seed=seed)
    rounding = 1e-10 * np.abs(values).max()
    for k, one in enumerate(found.lowest):
        assert values[k] <= one.value + rounding
        assert np.abs(values - one.value).min() <= one.residual + rounding
    for k, one in enumerate(found.highest):
        assert values[-1 - k] >= one.value - rounding
        assert np.abs(values - one.value).min() <= one.residual + rounding
    assert found.n_negative_at_least <= np.count_nonzero(values < 0)


def test_all_vectors_give_the_whole_spectrum_of_each_start():
    """The quadrature of n steps is the spectral measure of the start itself, and ends early where that is invariant."""
    A = np.diag([1.0, 2, 2, 3, -4])
    found = spectrum(A, probes=2, steps=40, extreme=2)
    for one in found.quadratures:
        np.testing.assert_allclose(one.nodes, [-4, 1, 2, 3], atol=1e-12)
        assert one.weights.sum() == pytest.approx(1)
    assert found.n_matvec == 8


def test_counts_lie_within_bounds_and_errors():
    A, values = spread(300, seed=3)
    points = np.array([-2, -0.5, -0.1, -0.02, 0, 0.02, 0.1, 2, 9])
    true = np.searchsorted(values, points)
    for seed in range(3):
        count = spectrum(A, probes=8, steps=40, seed=seed).count_below(points)
        slack = 4 * count.standard_error + 1e-9
        assert (count.lower - slack <= true).all() and (true <= count.upper + slack).all()
        assert (count.lower <= count.value).all() and (count.value <= count.upper).all()
    # Apart from unresolved ones the numbers are those of the dense matrix.
    sharp = spectrum(A, probes=8, steps=40)
    assert sharp.count_below(-0.2).upper - sharp.count_below(-0.2).lower < 12
    assert abs(sharp.n_negative.value - np.count_nonzero(values < -sharp.flat)) < 25


def test_density_integrates_to_shares_of_eigenvalues():
    A, values = spread(300)
    found = spectrum(A, probes=10, steps=50)
    x = np.linspace(-2, 6, 8001)
    density = found.density(x, width=0.02)
    step = x[1] - x[0]
    assert density.value.sum() * step == pytest.approx(1, abs=1e-6)
    dense = np.exp(-0.5 * ((x[:, None] - values) / 0.02) ** 2).mean(1) / (np.sqrt(2 * np.pi) * 0.02)
    # Smoothed by twice the usual width of a step, both have the same mass over intervals.
    for low, high in ((-1.2, -0.2), (-0.2, 0.2), (0.5, 6)):
        inside = (x > low) & (x < high)
        error = 4 * np.sqrt(np.square(density.standard_error[inside]).sum()) * step * np.sqrt(inside.sum()) + 2e-3
        assert abs(density.value[inside].sum() - dense[inside].sum()) * step < error


def test_probes_share_the_calls_for_products():
    A, _ = spread(50)
    calls = []

    class Many(FunctionOperator):
        def matmat(self, V):
            calls.append(V.shape[1])
            return A @ V

    found = spectrum(Many(50, lambda v: A @ v, np.float64), probes=10, steps=7, extreme=2)
    assert calls == [8] * 7 + [2] * 7 and found.n_matvec == 70


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"probes": 1}, "at least 2 probes and 2 steps, got 1 and"),
        ({"steps": 1}, "at least 2 probes and 2 steps, got 8 and 1"),
        ({"extreme": 33}, "1 to 32 extreme eigenvalues for 64 steps, got 33"),
    ],
)
def test_wrong_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        spectrum(np.eye(4), **arguments)
    with pytest.raises(ValueError, match="finite width > 0, got 0"):
        spectrum(np.eye(4)).density(0.0, width=0.0)


def test_products_that_are_not_finite():
    with pytest.raises(ArithmeticError, match="is not finite"):
        spectrum(np.diag([1.0, np.inf]))


def test_shown_in_a_notebook_and_as_json():
    found = spectrum(spread(60)[0], probes=4, steps=20)
    assert repr(found).startswith("Spectrum(order 60, eigenvalues -")
    html = found._repr_html_()
    assert "<svg" in html and "highest eigenvalues" in html and len(html) < 20_000
    values = json.loads(json.dumps(found.as_dict(), allow_nan=False))
    assert values["order"] == 60 and len(values["quadratures"]) == 4


@pytest.mark.parametrize("exact", [True, False])
def test_trace_and_diagonal(exact):
    A, values = spread(120)
    operator = as_operator(A)
    trace = operator.trace(exact=exact, probes=40)
    assert abs(trace.value - values.sum()) <= 4 * trace.standard_error + 1e-10
    diagonal = operator.diagonal(exact=exact, probes=40)
    assert diagonal.value.shape == (120,)
    if exact:
        np.testing.assert_allclose(diagonal.value, np.diag(A), atol=1e-13)
        assert not diagonal.standard_error.any() and trace.standard_error == 0
    else:
        scores = (diagonal.value - np.diag(A)) / diagonal.standard_error
        assert 0.7 < scores.std() < 1.4
        assert 0 < trace.standard_error < 0.5


def test_errors_of_the_trace_are_those_that_it_states():
    A, values = spread(120)
    found = [as_operator(A).trace(probes=30, seed=seed) for seed in range(200)]
    scores = [(one.value - values.sum()) / one.standard_error for one in found]
    # Student's t of 9 degrees of freedom has a deviation of 1.13.
    assert abs(np.mean(scores)) < 0.35 and 0.9 < np.std(scores) < 1.5


def test_few_unknowns_are_exact_and_count():
    operator = Counting(np.diag([1.0, 2, 4]))
    from hfnumba.krylov.operator import shifted

    assert shifted(operator, 1.0).trace() == (10, 0)
    with pytest.raises(ValueError, match="at least 6 probes, got 5"):
        shifted(operator, 1.0).diagonal(probes=5)


def test_submatrices():
    A = indefinite(9)
    block = SubmatrixOperator(as_operator(A), 2, 6)
    V = np.random.default_rng(0).standard_normal((4, 3))
    np.testing.assert_allclose(block @ V, A[2:6, 2:6] @ V, atol=1e-12)
    np.testing.assert_allclose(block @ V[:, 0], A[2:6, 2:6] @ V[:, 0], atol=1e-12)
    np.testing.assert_allclose((block - 0.5).diagonal(exact=True).value, np.diag(A)[2:6] - 0.5, atol=1e-12)
    with pytest.raises(ValueError, match="0 <= start < stop <= 9, got 3 and 3"):
        SubmatrixOperator(as_operator(A), 3, 3)


@pytest.mark.parametrize(
    "derived", [lambda A: A + 0.1, lambda A: A - 0.1, lambda A: -1 * A, lambda A: 2 * A, lambda A: A - A]
)
def test_products_with_columns_of_derived_operators(derived):
    A = indefinite(6)
    V = np.random.default_rng(0).standard_normal((6, 3))
    operator = derived(as_operator(A))
    columns = np.stack([operator @ V[:, j] for j in range(3)], axis=1)
    np.testing.assert_allclose(operator @ V, columns, atol=1e-13)
    np.testing.assert_allclose(operator.to_scipy() @ V, columns, atol=1e-13)
    np.testing.assert_allclose(operator.to_scipy() @ V[:, :1], columns[:, :1], atol=1e-13)
