import itertools

import numpy as np
import pytest

from hfnumba import activations
from hfnumba.errors import UsageError
from hfnumba.kernels.losses import LOSS_CODES
from hfnumba.network import ACTIVATIONS, LOSSES, Network


def test_layers_are_views_that_cover_theta_once():
    network = Network([5, 4, 3])
    theta = np.zeros(network.n_params, np.float32)
    assert network.n_params == 5 * 4 + 4 + 4 * 3 + 3
    for layer in network.layers(theta):
        layer.weights[:] += 1
        layer.biases[:] += 1
    np.testing.assert_array_equal(theta, 1)


def test_weights_only_clears_biases_in_a_copy():
    network = Network([2, 3, 1])
    theta = np.ones(network.n_params, np.float32)
    assert network.weights_only(theta).sum() == 2 * 3 + 3
    assert theta.sum() == network.n_params


@pytest.mark.parametrize("scheme", ["glorot", "he", "sparse", "tiny"])
def test_initialisations_have_their_stated_spread(scheme):
    network = Network([400, 300, 10])
    theta = network.initialize(seed=3, scheme=scheme)
    np.testing.assert_array_equal(theta, network.initialize(seed=3, scheme=scheme))
    assert not np.array_equal(theta, network.initialize(seed=4, scheme=scheme))
    assert theta.dtype == np.float32
    for (weights, biases), (n_in, n_out) in zip(network.layers(theta), itertools.pairwise(network.sizes), strict=True):
        assert not biases.any()
        if scheme == "glorot":
            bound = np.sqrt(6 / (n_in + n_out))
            assert np.abs(weights).max() <= bound
            assert np.isclose(weights.std(), bound / np.sqrt(3), rtol=0.05)
        elif scheme == "he":
            assert np.isclose(weights.std(), np.sqrt(2 / n_in), rtol=0.05)
        elif scheme == "tiny":
            assert np.isclose(weights.std(), 1e-3, rtol=0.05)
        else:
            assert ((weights != 0).sum(axis=0) == 15).all()
            assert np.isclose(weights[weights != 0].std(), 1, rtol=0.2)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (([5],), "two or more"),
        (([5, 0, 3],), "positive"),
        (([5, 2.5, 3],), "whole"),
        (([5, 3], "swish"), "swish"),
        (([5, 3], "tanh", "hinge"), "hinge"),
        (([100_000, 100_000],), "too large"),
    ],
)
def test_impossible_networks_are_refused(arguments, named):
    with pytest.raises(UsageError, match=named):
        Network(*arguments)


def test_wrong_length_and_unknown_scheme_are_refused():
    network = Network([2, 2])
    with pytest.raises(UsageError, match="6 parameters"):
        list(network.layers(np.zeros(5)))
    with pytest.raises(UsageError, match="zeros"):
        network.initialize(scheme="zeros")


def test_names_and_kernel_codes_agree():
    assert set(LOSSES) == set(LOSS_CODES)


def test_every_activation_has_a_branch_of_its_own():
    """Value, and the product of its derivative with a vector, in plain Python: no two are the same functions."""
    found = set()
    for code in range(len(ACTIVATIONS)):
        z, e, second = np.array([[-1.5, 0.4]]), np.ones((1, 2)), np.zeros((1, 2))
        if activations.numbers_per_unit(code) == 4:
            value, z = z, np.zeros((1, 2))
            activations.activate_with_derivatives(code, value, np.zeros(2), z, np.zeros((1, 2)))
        else:
            activations.activate(code, z, np.zeros(2))
        activations.times_derivative(code, z, e)
        plus, rz = np.ones((1, 2)), np.ones((1, 2))
        activations.times_derivative_plus(code, z, plus, second)
        activations.directional(code, z, np.ones((1, 2)), rz, np.zeros(2), second)
        np.testing.assert_array_equal(plus, e)
        np.testing.assert_allclose(rz, e, rtol=1e-12)
        found.add((*z[0], *e[0]))
    assert len(found) == len(ACTIVATIONS)


def test_activations_are_one_name_or_one_for_each_hidden_layer():
    network = Network([4, 3, 2, 4], ["linear", "gelu"])
    assert network.activation == network.activations == ("identity", "gelu")
    assert network.primal_width == 2 * 3 + 4 * 2 + 2 * 4
    assert Network([4, 3, 2, 4], ["relu", "relu"]) == Network([4, 3, 2, 4], "relu")
    assert Network([4, 3, 2, 4], "relu").activations == ("relu", "relu")
    assert Network([4, 3, 4], "linear") == Network([4, 3, 4], "identity")
    assert Network([4, 3]).activations == Network([4, 3], []).activations == ()
    with pytest.raises(UsageError, match="one for each of the 2 hidden layers, got 3: tanh, tanh, tanh"):
        Network([4, 3, 2, 4], ["tanh"] * 3)
    with pytest.raises(UsageError, match="unknown activation 'swish'"):
        Network([4, 3, 2, 4], ["tanh", "swish"])
