"""Laws of the model of the time to a target."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hfnumba.bench.model import transport_s
from hfnumba.bench.round_costs import RoundCost
from hfnumba.bench.targets import Training, crossings, on_network, training_s
from tests.bench.test_model import CONSTANTS, NO_TRANSPORT

COST = RoundCost(nbytes_out=2e6, nbytes_in=3e6, client_s=0.01)
TRAINING = Training("kfac", 30, 400.0, 3.0, COST)
powers = st.integers(0, 10).map(lambda k: 2**k)


def test_one_worker_without_transport_takes_the_measured_time():
    assert training_s(NO_TRANSPORT, TRAINING, 1) == pytest.approx(3.0)


@given(powers)
def test_workers_share_what_is_not_work_of_the_client(p):
    assert training_s(NO_TRANSPORT, TRAINING, p) == pytest.approx(0.3 + 2.7 / p)
    busy = replace(TRAINING, round_cost=replace(COST, client_s=1.0))
    assert training_s(NO_TRANSPORT, busy, p) == pytest.approx(3.0)


@given(powers)
def test_each_round_costs_its_transport_by_the_fastest_tree(p):
    beyond = training_s(CONSTANTS, TRAINING, p) - training_s(NO_TRANSPORT, TRAINING, p)
    tried = [transport_s(CONSTANTS, COST, p, f) for f in (None, 2, 4, 8)]
    assert beyond <= 30 * min(tried) * (1 + 1e-9)
    if p == 1:
        assert beyond == pytest.approx(30 * tried[0])


def test_a_network_has_its_own_bandwidth_and_latency_unless_the_processor_is_slower():
    slow = on_network(CONSTANTS, 0.1, 5e-3)
    assert (slow.send_s_per_byte, slow.receive_s_per_byte) == (pytest.approx(8e-8), pytest.approx(8e-8))
    assert (slow.round_s, slow.relay_s) == (CONSTANTS.round_s + 1e-2, CONSTANTS.relay_s + 1e-2)
    assert on_network(CONSTANTS, 1e6) == CONSTANTS
    star = transport_s(slow, COST, 4)
    by_hand = slow.round_s + 4 * (slow.message_s + 8e-8 * 5e6 + slow.add_s_per_byte * 3e6)
    assert star == pytest.approx(by_hand)


def test_crossings_are_where_another_method_is_the_faster_one():
    workers = (1, 2, 4, 8)
    assert crossings(workers, [1, 1, 1, 1], [2, 2, 2, 2]) == []
    assert crossings(workers, [3, 2, 1, 1], [2, 2, 2, 2]) == [4]
    assert crossings(workers, [1, 3, 1, 3], [2, 2, 2, 2]) == [2, 4, 8]
