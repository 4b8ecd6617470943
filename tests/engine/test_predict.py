"""Outputs for rows do not depend on the rows beside them."""

import numpy as np
import pytest

from hfnumba.engine import predict
from hfnumba.network import Network


@pytest.mark.parametrize("sizes", [(1, 3), (20, 7, 1), (33, 100, 17, 5), (784, 400, 10)])
def test_a_row_has_the_same_bits_alone_and_among_others(sizes):
    network = Network(list(sizes))
    theta = network.initialize(3) + np.float32(0.01)
    X = np.random.default_rng(0).standard_normal((300, sizes[0]), dtype=np.float32)
    together = predict(network, theta, X)
    assert together.shape == (300, sizes[-1])
    for rows in (slice(0, 1), slice(127, 128), slice(128, 131), slice(256, 300), slice(1, 299)):
        np.testing.assert_array_equal(predict(network, theta, X[rows]), together[rows])


def test_no_rows_have_no_outputs():
    network = Network([3, 2])
    assert predict(network, network.initialize(0), np.empty((0, 3))).shape == (0, 2)
