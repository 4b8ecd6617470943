"""Every activation, loss and depth against JAX's dense derivatives, differences, and closed forms."""

import numpy as np
import pytest

from hfnumba.engine import ArrayObjective, predict
from hfnumba.network import ACTIVATIONS, LOSSES, Network
from tests.laws.objective_laws import check_objective, relative
from tests.oracles import loops
from tests.oracles.jax_network import Oracle

HIDDEN = {1: [], 2: [5], 3: [5, 4], 4: [4, 5, 3]}
MIXED = [["gelu", "tanh", "identity"], ["tanh", "gelu", "silu"], ["silu", "softplus", "gelu"], ["linear"] * 3]


def problem(activation, loss, hidden, n_rows=13, n_features=6, n_outputs=3, seed=0):
    rng = np.random.default_rng(seed)
    network = Network([n_features, *hidden, n_outputs], activation, loss)
    X = rng.standard_normal((n_rows, n_features))
    y = rng.integers(0, n_outputs, n_rows) if network.takes_labels else rng.uniform(0, 1, (n_rows, n_outputs))
    theta = network.initialize(seed, dtype=np.float64) + 0.2 * rng.standard_normal(network.n_params)
    return network, X, y, theta


def columns(operator):
    return np.stack([operator.matvec(e) for e in np.eye(operator.shape[0], dtype=operator.dtype)], axis=1)


@pytest.mark.parametrize("depth", HIDDEN)
@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_against_jax(activation, loss, depth):
    network, X, y, theta = problem(activation, loss, HIDDEN[depth])
    check_against_jax(network, X, y, theta)


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("activations", MIXED, ids=",".join)
def test_layers_with_different_activations_against_jax(activations, loss):
    check_against_jax(*problem(activations, loss, HIDDEN[4]))


def check_against_jax(network, X, y, theta):
    oracle = Oracle(network, theta, X, y)
    for dtype, tolerance in ((np.float64, 1e-12), (np.float32, 2e-5)):
        point = ArrayObjective(network, X, y, dtype=dtype, n_partitions=3).linearize(theta.astype(dtype))
        assert abs(point.value - oracle.value) <= tolerance * abs(oracle.value)
        assert relative(point.gradient, oracle.gradient) <= tolerance
        assert relative(columns(point.hessian()), oracle.hessian) <= tolerance
        assert relative(columns(point.gauss_newton()), oracle.gauss_newton) <= tolerance
        if len(network.sizes) == 2:
            # A linear network: its Gauss–Newton matrix is its Hessian.
            np.testing.assert_array_equal(columns(point.hessian()), columns(point.gauss_newton()))


@pytest.mark.bits
@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("activation", [*(a for a in ACTIVATIONS if a != "relu"), ["gelu", "tanh"], ["tanh", "silu"]])
def test_central_differences(activation, loss):
    network, X, y, theta = problem(activation, loss, [5, 4])
    objective = ArrayObjective(network, X, y, dtype=np.float64, l2=0.1)
    v, h = np.random.default_rng(1).standard_normal(network.n_params), 1e-5
    point, ahead, behind = (objective.linearize(theta + s * h * v) for s in (0, 1, -1))
    assert abs((ahead.value - behind.value) / (2 * h) - point.gradient @ v) <= 1e-6 * abs(point.gradient @ v)
    assert relative(point.hessian().matvec(v), (ahead.gradient - behind.gradient) / (2 * h)) <= 1e-6


@pytest.mark.bits
@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_against_plain_loops(activation, loss):
    network, X, y, theta = problem(activation, loss, [4])
    objective = ArrayObjective(network, X, y, dtype=np.float64)
    expected = loops.value_and_error(network, theta, X, y)
    np.testing.assert_allclose(objective.value_and_error(theta), expected, rtol=1e-12)
    p = [loops.row_prediction(network, loops.row_outputs(network, theta, x)) for x in X]
    np.testing.assert_allclose(predict(network, theta, X), p, rtol=1e-12)


@pytest.mark.bits
@pytest.mark.parametrize(
    ("n_rows", "sizes"),
    [
        (1, [1, 1]),
        (1, [3, 2, 2]),
        (255, [1, 3, 2]),
        (257, [17, 33, 5]),
        (600, [5, 20, 1]),
        (40, [7, 9, 2000]),
    ],
)
def test_odd_shapes_keep_the_laws(n_rows, sizes):
    rng = np.random.default_rng(0)
    network = Network(sizes, "sigmoid", "softmax_cross_entropy" if sizes[-1] > 1 else "squared_error")
    X = rng.standard_normal((n_rows, sizes[0]))
    y = rng.integers(0, sizes[-1], n_rows) if network.takes_labels else rng.standard_normal(n_rows)
    for dtype, tolerance in ((np.float32, 1e-5), (np.float64, 1e-12)):
        theta = network.initialize(0, dtype=dtype)
        check_objective(ArrayObjective(network, X, y, dtype=dtype, n_threads=2, l2=1e-3), theta, tolerance)


def test_mean_over_any_split_of_the_rows():
    network, X, y, theta = problem("tanh", "softmax_cross_entropy", [5], n_rows=30)
    v = np.random.default_rng(2).standard_normal(network.n_params)

    def parts(rows):
        point = ArrayObjective(network, X[rows], y[rows], dtype=np.float64).linearize(theta)
        return np.concatenate(
            [[point.value], point.gradient, point.hessian().matvec(v), point.gauss_newton().matvec(v)]
        )

    whole = parts(slice(None))
    for cut in (1, 7, 29):
        mean = (cut * parts(slice(0, cut)) + (30 - cut) * parts(slice(cut, None))) / 30
        np.testing.assert_allclose(mean, whole, rtol=1e-10, atol=1e-13)


def test_zero_parameters_guess_every_class_equally():
    network = Network([4, 3, 5])
    X, y = np.random.default_rng(0).standard_normal((50, 4)), np.arange(50) % 5
    value, error = ArrayObjective(network, X, y).value_and_error(np.zeros(network.n_params, np.float32))
    assert abs(value - np.log(5)) < 1e-6
    # Of equal outputs the first is predicted: right for the rows of class 0 only.
    assert error == 0.8


def test_bytes_scaled_in_the_kernel_are_the_floats():
    rng = np.random.default_rng(0)
    network = Network([20, 8, 3])
    pixels, y = rng.integers(0, 256, (300, 20)).astype(np.uint8), rng.integers(0, 3, 300)
    scale, offset = 1 / 255, -0.5
    theta = network.initialize(0)
    by_kernel = ArrayObjective(network, pixels, y, scale=scale, offset=offset).linearize(theta)
    by_hand = ArrayObjective(network, pixels * np.float32(scale) + np.float32(offset), y).linearize(theta)
    v = rng.standard_normal(network.n_params).astype(np.float32)
    assert relative(by_kernel.gradient, by_hand.gradient) < 1e-6
    assert relative(by_kernel.hessian().matvec(v), by_hand.hessian().matvec(v)) < 1e-6


def test_integer_labels_become_indicators_for_losses_of_targets():
    network = Network([4, 3, 5], loss="squared_error")
    X, y = np.random.default_rng(0).standard_normal((50, 4)), np.arange(50) % 5
    theta = network.initialize(0)
    assert ArrayObjective(network, X, y).value(theta) == ArrayObjective(network, X, np.eye(5)[y]).value(theta)


def test_overflow_and_nan_come_out_as_such():
    network = Network([4, 3, 2])
    X, y = np.ones((10, 4)), np.zeros(10, int)
    objective = ArrayObjective(network, X, y)
    theta = network.initialize(0)
    theta[0] = np.nan
    assert np.isnan(objective.value(theta))
    assert not np.isfinite(objective.values_along(network.initialize(0), theta, [1.0])).any()
