"""Laws of the model of scaling: its results where the answer is known otherwise."""

from dataclasses import replace

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from hfnumba.bench.model import (
    KINDS,
    PARTS,
    Constants,
    Rate,
    Workload,
    best_fan_in,
    best_workers,
    compute_s,
    exchanges,
    hops,
    iteration_s,
    transport_s,
    transport_share,
)
from hfnumba.engine.cluster.assignment import arrange
from hfnumba.engine.cluster.messages import Branch

RATES = {kind: Rate(1e-5 * (k + 1), 1e-3, 1e-3) for k, kind in enumerate(KINDS)}
CONSTANTS = Constants(
    **RATES,
    round_s=1e-3,
    message_s=1e-4,
    send_s_per_byte=1e-9,
    receive_s_per_byte=2e-9,
    add_s_per_byte=1e-10,
    client_s=0.25,
    scheduler_share=1e-3,
    relay_s=1e-3,
)
NO_TRANSPORT = replace(
    CONSTANTS, round_s=0, message_s=0, send_s_per_byte=0, receive_s_per_byte=0, add_s_per_byte=0, client_s=0, relay_s=0
)
WORK = Workload(
    n_params=1000, n_rows=65_536, curvature_rows=4096, n_products=11, n_candidates=6, n_alphas=9, n_partitions=1024
)
powers = st.integers(0, 10).map(lambda k: 2**k)


def test_one_worker_without_transport_only_computes():
    rows = {"gradient": 65_536, "first_product": 4096, "product": 4096, "ranking": 4096, "line": 65_536}
    counts = {"gradient": 1, "first_product": 1, "product": 10, "ranking": 1, "line": 1}
    points = {"ranking": 6, "line": 9}
    expected = sum(
        counts[kind] * (points.get(kind, 1) * (rate.row_s * rows[kind] + rate.worker_s) + 1024 * rate.partition_s)
        for kind, rate in RATES.items()
    )
    assert iteration_s(NO_TRANSPORT, WORK, 1)["iteration"] == pytest.approx(expected)
    assert transport_share(NO_TRANSPORT, WORK, 1) == 0


@given(powers)
def test_parts_and_client_are_the_iteration(p):
    found = iteration_s(CONSTANTS, WORK, p)
    assert found["iteration"] == pytest.approx(sum(found[part] for part in PARTS) + CONSTANTS.client_s)


@given(powers.filter(lambda p: p < 1024))
def test_twice_the_workers_compute_in_less_time_but_never_in_less_than_half(p):
    for exchange in exchanges(WORK):
        one, two = (compute_s(CONSTANTS, exchange, WORK, n) for n in (p, 2 * p))
        assert one / 2 <= two < one


def test_workers_beyond_the_partitions_do_not_help():
    few = replace(WORK, n_partitions=16)
    assert all(compute_s(CONSTANTS, e, few, 16) == compute_s(CONSTANTS, e, few, 1000) for e in exchanges(few))


@given(st.integers(1, 5000))
def test_a_star_needs_more_time_for_each_worker_and_the_more_bytes_the_more(p):
    small, *_, large = sorted(exchanges(WORK), key=lambda e: e.nbytes_out + e.nbytes_in)
    assert transport_s(CONSTANTS, small, p) < transport_s(CONSTANTS, small, p + 1)
    assert transport_s(CONSTANTS, small, p) < transport_s(CONSTANTS, large, p)


def asking_one_after_another(branches):
    """Count in another way: a sender is busy for one unit per receiver, and then waits for the slowest."""
    longest, waiting = 0, [(branches, 0)]
    while waiting:
        here, before = waiting.pop()
        longest = max(longest, before + len(here))
        waiting += [(b.below, before + len(here)) for b in here]
    return longest


@given(st.integers(1, 600), st.integers(1, 64))
@example(544, 1)  # deeper than Python's stack
def test_levels_and_messages_are_those_of_the_engines_tree(n_workers, fan_in):
    levels, messages = hops(n_workers, fan_in)
    top = arrange([Branch(str(k), (k,)) for k in range(n_workers)], fan_in)
    assert messages == asking_one_after_another(top)
    assert levels <= messages <= levels * fan_in
    assert hops(n_workers, None) == hops(n_workers, n_workers) == (1, n_workers)
    if fan_in == 1:
        assert (levels, messages) == (n_workers, n_workers)


def test_a_fan_in_of_nobody_is_refused():
    with pytest.raises(ValueError, match="at least 1"):
        hops(8, 0)


def test_the_star_wins_with_few_workers_and_a_tree_with_many():
    assert best_fan_in(CONSTANTS, WORK, 2) is None
    assert best_fan_in(CONSTANTS, WORK, 1024) is not None
    # If only the latency of a round costs, each level costs one.
    latency = replace(NO_TRANSPORT, relay_s=1.0)
    assert best_fan_in(latency, WORK, 1024) is None


def test_more_workers_help_until_the_client_has_no_time():
    everybody = tuple(2**k for k in range(11))
    assert best_workers(NO_TRANSPORT, WORK, everybody) == 1024
    assert 1 < best_workers(CONSTANTS, replace(WORK, n_params=1_000_000), everybody) < 1024


def test_constants_survive_json():
    assert Constants.of(CONSTANTS.as_dict()) == CONSTANTS
