"""Compared evaluations are equal: those of each peer give our numbers."""

from importlib.util import find_spec

import numpy as np
import pytest

from hfnumba.bench.kernels import EVALUATIONS, OUR_EVALUATIONS, flops, measure, our_evaluations, random_problem
from hfnumba.bench.peers import PEERS
from hfnumba.network import Network

NETWORK = Network((7, 6, 5, 4), "tanh")


def _numbers(result):
    """Loss and gradient come as a pair, the loss as a number, parameters in one array or several."""
    parts = result if isinstance(result, (tuple, list)) else (result,)
    return np.concatenate([np.asarray(part, np.float64).ravel() for part in parts])


@pytest.mark.parametrize("name", ["jax", "torch"])
def test_a_peer_evaluates_the_same(name):
    if find_spec(name) is None:
        pytest.skip(f"{name} is not installed")
    problem = random_problem(NETWORK, 40)
    ours, theirs = our_evaluations(problem, 1), PEERS[name](problem)
    assert list(theirs) == list(EVALUATIONS)
    assert list(ours) == list(OUR_EVALUATIONS)
    for evaluation in EVALUATIONS:
        mine, other = (_numbers(prepared[evaluation]()()) for prepared in (ours, theirs))
        np.testing.assert_allclose(other[-mine.size :], mine[-other.size :], rtol=2e-4, atol=1e-6)


def test_operations_are_counted_as_the_passes_do_them():
    forward = 7 * 6 + 6 * 5 + 5 * 4
    # Forward pass, gradients of weights, and deltas except for the input of the first layer.
    assert flops(NETWORK.sizes, "gradient") == 2 * (forward + forward + (forward - 7 * 6))
    assert flops(NETWORK.sizes, "loss") == 2 * forward
    # Forward and backward, and half of the products of inputs, and of deltas, with themselves.
    halves = sum(n * (n + 1) for n in (7, 6, 6, 5, 5, 4))
    assert flops(NETWORK.sizes, "factors") == 2 * (forward + forward - 7 * 6) + halves


def test_the_factors_that_are_measured_are_those_of_all_rows():
    problem = random_problem(NETWORK, 40)
    (answer,) = our_evaluations(problem, 1)["factors"]()()
    np.testing.assert_allclose(answer["a1"], problem.X.mean(axis=0), rtol=1e-4, atol=1e-6)


def test_jobs_take_turns():
    calls = []
    times = measure({"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}, 0.0)
    assert set(times) == {"a", "b"}
    assert min(times.values()) > 0
    order = "".join(calls)
    assert order.startswith("ab")
    assert "ab" in order[2:]
    assert "ba" in order[2:]
