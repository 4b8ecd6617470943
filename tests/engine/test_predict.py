"""Outputs for rows do not depend on the rows beside them."""

import numpy as np
import pytest

from hfnumba.engine import predict
from hfnumba.kernels import passes
from hfnumba.network import Network

RNG = np.random.default_rng(0)


@pytest.mark.bits
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("sizes", [(1, 3), (20, 7, 1), (33, 100, 17, 5), (784, 400, 10), (50, 401, 16, 2)])
def test_a_row_has_the_same_bits_alone_and_among_others(sizes, dtype):
    network = Network(list(sizes))
    theta = network.initialize(3).astype(dtype) + dtype(0.01)
    X = RNG.standard_normal((1000, sizes[0])).astype(dtype)
    together = predict(network, theta, X)
    assert together.shape == (1000, sizes[-1])
    for rows in (slice(0, 1), slice(127, 128), slice(128, 131), slice(700, 800), slice(1, 999)):
        np.testing.assert_array_equal(predict(network, theta, X[rows]), together[rows])
    order = RNG.permutation(1000)
    np.testing.assert_array_equal(predict(network, theta, X[order]), together[order])


def test_no_rows_have_no_outputs():
    network = Network([3, 2])
    assert predict(network, network.initialize(0), np.empty((0, 3))).shape == (0, 2)


def test_parameters_of_a_memory_map_need_no_other_machine_code():
    network, X = Network([3, 2]), np.ones((2, 3))
    theta = network.initialize(0)
    expected, compiled = predict(network, theta, X), list(passes.output_pass.signatures)
    theta.flags.writeable = False
    np.testing.assert_array_equal(predict(network, theta, X), expected)
    assert passes.output_pass.signatures == compiled
