"""What rounds of a method cost: bytes by counting vectors by hand."""

import itertools

import pytest

from hfnumba.bench.round_costs import measure_round
from hfnumba.network import Network
from hfnumba.optim.methods import METHODS
from hfnumba.optim.updates import UPDATE_RULES

NETWORK = Network([6, 8, 4])
N = NETWORK.n_params
FACTORS = sum(a * (a + 1) // 2 + a + b * (b + 1) // 2 for a, b in itertools.pairwise(NETWORK.sizes))
LOSS_AND_ERROR, VALUE = 16, 8


def test_a_step_of_kfac_sends_iterate_and_direction_and_gets_gradient_and_every_second_time_factors():
    cost = measure_round("kfac", NETWORK)
    assert cost.nbytes_out == 4 * 2 * N
    assert cost.nbytes_in == 4 * N + 4 * FACTORS / 2 + LOSS_AND_ERROR + 4 * VALUE


@pytest.mark.parametrize("method", UPDATE_RULES)
def test_a_step_of_a_first_order_method_sends_a_vector_and_gets_one(method):
    cost = measure_round(method, NETWORK)
    assert (cost.nbytes_out, cost.nbytes_in) == (4 * N, 4 * N + LOSS_AND_ERROR)


@pytest.mark.parametrize("loss", ["squared_error", "sigmoid_cross_entropy"])
def test_targets_of_any_loss(loss):
    assert measure_round("adam", Network([6, 8, 4], "relu", loss)).nbytes_out == 4 * N


@pytest.mark.parametrize("method", sorted(set(METHODS) - {*UPDATE_RULES, "kfac"}))
def test_other_methods_send_vectors_and_get_fewer_back(method):
    cost = measure_round(method, NETWORK)
    assert 4 * N <= cost.nbytes_out <= 4 * 10 * N
    assert 0 < cost.nbytes_in < 4 * (N + FACTORS)
    assert cost.client_s > 0
