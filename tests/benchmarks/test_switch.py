"""Training by kfac over limited links: the bits, rounds and bytes of one process."""

import subprocess

import pytest

from benchmarks.switch import Link, Switch, compare, train
from hfnumba.engine.local import LocalEngine
from hfnumba.network import Network
from tests.bench.test_model import CONSTANTS

NETWORK = Network([20, 12, 5])


def test_a_link_by_its_name():
    assert [str(Link(1.0, 0.5e-3)), str(Link(0.1, 5e-3)), str(Link(10.0, 0.0))] == [
        "1 Gbit/s, 0.5 ms",
        "100 Mbit/s, 5 ms",
        "10 Gbit/s",
    ]


def test_a_run_in_one_process_is_counted_from_its_second_iteration_on():
    found = train(NETWORK, lambda problem: LocalEngine(problem, 1))
    # Two iterations of four steps, each with an evaluation for the record.
    assert found.rounds == 2 * (4 + 1)
    n = NETWORK.n_params
    factors = sum(k * (k + 1) // 2 for k in (20, 12, 12, 5)) + 20 + 12
    assert found.nbytes_in == 2 * (4 * (4 * n + 16 + 4 * 8) + 2 * 4 * factors + 16)
    assert found.nbytes - found.nbytes_in == 2 * 4 * n * (2 * 4 + 1)


@pytest.mark.slow
def test_over_a_limited_link_the_bits_and_bytes_are_those_of_one_process():
    try:
        Switch(1).__enter__().__exit__()
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"network namespaces are not allowed here: {error}")
    # compare() refuses other bits, rounds or bytes.
    ((link, found, modelled),) = compare(NETWORK, CONSTANTS, 2, [Link(0.01, 1e-3)])
    assert link.gbit_s == 0.01
    assert 2 * found.nbytes < found.passed
    assert modelled > 0
