"""Kronecker factors: against plain NumPy and the Gauss–Newton matrix of single rows; random deltas; their bits."""

import itertools

import numpy as np
import pytest
from scipy.linalg import lapack
from scipy.special import ndtr

from hfnumba.engine import ArrayObjective
from hfnumba.engine.evaluations import KroneckerFactors
from hfnumba.kernels.kronecker import MAX_ORDER, random_deltas
from hfnumba.kernels.losses import LOSS_CODES
from hfnumba.krylov.kronecker import kfac
from hfnumba.network import LOSSES, Network
from hfnumba.objective import RowSample

SAMPLE = RowSample(300, seed=1, draw=4)


def factors_of(f, theta, rows=None, seed=()):
    with f.vectors.using(f.checked(theta)) as name:
        (factors,) = f.evaluate(KroneckerFactors(name, rows, seed))
    return factors


def square(packed):
    n = (int(np.sqrt(8 * packed.size + 1)) - 1) // 2
    lower = np.tril(lapack.dtfttr(n, packed.astype(np.float64), uplo="L")[0])
    return lower + np.tril(lower, -1).T


def problem(loss, n_rows, sizes=(6, 5, 4, 3), activation="tanh"):
    rng = np.random.default_rng(0)
    network = Network(sizes, activation, loss)
    X = rng.standard_normal((n_rows, sizes[0]))
    y = rng.integers(0, sizes[-1], n_rows) if network.takes_labels else rng.uniform(0, 1, (n_rows, sizes[-1]))
    theta = network.initialize(0, dtype=np.float64) + 0.2 * rng.standard_normal(network.n_params)
    return network, X, y, theta


def inputs_of(network, theta, X):
    """The inputs of each layer, by NumPy."""
    inputs = [X]
    for layer, name in zip(network.layers(theta), network.activations, strict=False):
        z = inputs[-1] @ layer.weights + layer.biases
        inputs.append({"tanh": np.tanh, "gelu": lambda z: z * ndtr(z), "identity": lambda z: z}[name](z))
    return inputs


@pytest.mark.bits
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("activation", ["tanh", ("gelu", "identity")])
def test_moments_of_the_inputs_against_numpy(activation, dtype, weighted):
    network, X, y, theta = problem("softmax_cross_entropy", 700, activation=activation)
    weights = np.random.default_rng(2).integers(0, 4, 700) * 0.7 if weighted else None
    f = ArrayObjective(network, X, y, dtype=dtype, n_partitions=3, weights=weights)
    factors, tolerance = factors_of(f, theta), 1e-12 if dtype == np.float64 else 1e-5
    w = np.ones(700) if weights is None else weights
    for layer, a in enumerate(inputs_of(network, theta, X), start=1):
        np.testing.assert_allclose(square(factors[f"A{layer}"]), (a.T * w) @ a / w.sum(), atol=tolerance)
        np.testing.assert_allclose(factors[f"a{layer}"], w @ a / w.sum(), atol=tolerance)
        assert factors[f"G{layer}"].dtype == dtype


@pytest.mark.parametrize(
    ("loss", "activation"), [*((loss, "tanh") for loss in LOSSES), ("softmax_cross_entropy", ("silu", "gelu"))]
)
def test_expected_product_is_the_gauss_newton_matrix_of_a_single_row(loss, activation):
    """For one row A ⊗ E[G] is exact: each layer's block of the Gauss–Newton matrix."""
    network, X, y, theta = problem(loss, 1, activation=activation)
    f = ArrayObjective(network, X, y, dtype=np.float64)
    matrix = f.linearize(theta).gauss_newton() @ np.eye(network.n_params)
    draws = [factors_of(f, theta, seed=(k,)) for k in range(4000)]
    first, means = draws[0], {name: np.mean([draw[name] for draw in draws], 0) for name in ("G1", "G2", "G3")}
    at = 0
    for layer, (n_in, n_out) in enumerate(itertools.pairwise(network.sizes), start=1):
        a = np.append(first[f"a{layer}"], 1.0)
        block = matrix[at : at + (n_in + 1) * n_out, at : at + (n_in + 1) * n_out]
        at += (n_in + 1) * n_out
        # Entries of one draw are of the size of the matrix, so the mean of 4,000 is within 5/√4000 of it.
        difference = np.abs(np.kron(np.outer(a, a), square(means[f"G{layer}"])) - block).max()
        assert difference < 0.08 * np.abs(block).max() * n_out


@pytest.mark.parametrize("loss", LOSSES)
def test_random_deltas_have_the_covariance_of_the_loss(loss):
    rng, n_draws = np.random.default_rng(0), 20000
    z = rng.normal(size=4)
    p = {"softmax_cross_entropy": np.exp(z) / np.exp(z).sum(), "sigmoid_cross_entropy": 1 / (1 + np.exp(-z))}.get(
        loss, z
    )
    exact = {
        "softmax_cross_entropy": np.diag(p) - np.outer(p, p),
        "sigmoid_cross_entropy": np.diag(p * (1 - p)),
        "squared_error": np.eye(4),
    }[loss]
    delta = np.empty((n_draws, 4))
    random_deltas(LOSS_CODES[loss], np.tile(p, (n_draws, 1)), np.uint64(7), 0, delta)
    assert np.abs(delta.mean(0)).max() < 5 / np.sqrt(n_draws)
    np.testing.assert_allclose(delta.T @ delta / n_draws, exact, atol=5 / np.sqrt(n_draws))
    part = np.empty((3, 4))
    random_deltas(LOSS_CODES[loss], np.tile(p, (3, 1)), np.uint64(7), 100, part)
    np.testing.assert_array_equal(part, delta[100:103])


def test_random_deltas_of_many_outputs_use_different_bits():
    delta = np.empty((50, 200))
    random_deltas(LOSS_CODES["squared_error"], np.zeros((50, 200)), np.uint64(3), 0, delta)
    assert set(np.unique(delta)) == {-1.0, 1.0}
    correlation = np.corrcoef(delta, rowvar=False) - np.eye(200)
    assert np.abs(correlation).max() < 0.75


@pytest.mark.bits
@pytest.mark.parametrize("rows", [None, SAMPLE])
def test_bits_do_not_depend_on_threads(rows):
    rng = np.random.default_rng(0)
    network = Network([12, 9, 4])
    X, y = rng.integers(0, 256, (1000, 12)).astype(np.uint8), rng.integers(0, 4, 1000)
    theta = network.initialize(0)
    some, others = (ArrayObjective(network, X, y, n_threads=n, n_partitions=16, scale=1 / 255) for n in (1, 3))
    expected, found = factors_of(some, theta, rows, (1,)), factors_of(others, theta, rows, (1,))
    for name, values in expected.items():
        np.testing.assert_array_equal(found[name], values)
    assert not np.array_equal(factors_of(some, theta, rows, (2,))["G1"], expected["G1"])


@pytest.mark.parametrize("weighted", [False, True])
def test_of_a_wide_layer_there_is_the_diagonal(weighted):
    n = MAX_ORDER + 1
    network = Network((n, 2, 2), loss="softmax_cross_entropy")
    rng = np.random.default_rng(0)
    X, weights = rng.standard_normal((300, n)).astype(np.float32), rng.uniform(0, 2, 300)
    f = ArrayObjective(network, X, rng.integers(0, 2, 300), weights=weights if weighted else None, n_partitions=2)
    factors = factors_of(f, network.initialize(0))
    assert set(factors) == {"diag_A1", "a1", "G1", "A2", "a2", "G2"}
    expected = np.average(X.astype(np.float64) ** 2, axis=0, weights=weights if weighted else None)
    np.testing.assert_allclose(factors["diag_A1"], expected, rtol=1e-5)
    assert np.isfinite(kfac(0.1, **factors).matvec(np.ones(network.n_params, np.float32))).all()
