"""Rounds that workers pass on: the bits of one process, whichever worker dies, freezes or answers wrongly."""

import itertools
import logging
import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hfnumba.engine.cluster.assignment import arrange, assign
from hfnumba.engine.cluster.messages import Answer, Branch, Lost, RoundMessage
from hfnumba.engine.cluster.relay import Supply, combined
from hfnumba.engine.protocol import Result
from hfnumba.engine.tree import covering
from hfnumba.errors import DataError, UsageError
from hfnumba.launch import local
from hfnumba.objective import RowSample
from tests.engine.cluster.test_engine import assert_same_bits, everything, objective, source
from tests.engine.cluster.test_faults import (
    SILENCE_S,
    Rounds,
    lie,
    none_is_frozen,
    pids,
    refused,
    strike,
    under_fire,
)
from tests.limits import LIMIT_S, until


@pytest.fixture(scope="module")
def reference():
    with objective() as f:
        return everything(f)


def branches(n, n_partitions=None):
    runs = assign(range(n_partitions or n), {f"{k:06}": 1 for k in range(n)})
    return [Branch(address, run) for address, run in runs.items()]


def families(some):
    """Each branch of a tree with how many are just below it."""
    for branch in some:
        yield branch
        yield from families(branch.below)


@given(st.integers(1, 300), st.integers(1, 40))
def test_everybody_is_asked_once_and_nobody_asks_more_than_the_fan_in(n, fan_in):
    flat = branches(n)
    top = arrange(flat, fan_in)
    assert [m.address for family in top for m in family.members()] == [branch.address for branch in flat]
    assert [m.partitions for family in top for m in family.members()] == [branch.partitions for branch in flat]
    assert len(top) <= fan_in
    assert all(len(branch.below) <= fan_in for branch in families(top))
    if n <= fan_in:
        assert top == tuple(flat)


@given(st.integers(0, 9), st.integers(0, 3), st.integers(2, 40))
def test_with_powers_of_two_each_family_that_the_client_asks_is_one_node(k, more, fan_in):
    n, n_partitions = 1 << k, 1 << (k + more)
    for family in arrange(branches(n, n_partitions), fan_in):
        run = list(itertools.chain.from_iterable(member.partitions for member in family.members()))
        assert len(covering(run, n_partitions)) == 1


def test_members_without_one_are_without_all_below_it():
    (top,) = arrange(branches(7), 1)
    assert [m.address for m in top.members([f"{3:06}"])] == [f"{k:06}" for k in range(3)]


class Ones:
    """An evaluation of which only the shape matters here."""

    rows = None

    def results(self, problem, vectors):
        return {"ones": Result((2,), np.dtype(np.float32))}


class Four:
    class source:
        n_partitions = 4


def two(*values):
    return (np.array(values, np.float32),)


def gathered(own, *found):
    below = tuple(Branch(name, (j,)) for j, name in enumerate("bcd", start=1))
    message = RoundMessage(5, "problem", (Ones(),), (0,), (), {}, below=below)
    return combined(own, "a", found, message, Supply(Four, {}))


def test_a_relay_adds_whole_subtrees_and_names_those_that_are_lost():
    lost = Lost("c", "it left")
    answer = gathered(
        Answer(5, {(0, 0): two(1, 2)}), Answer(5, {(0, 1): two(3, 4)}), lost, Answer(5, {(0, 3): two(5, 6)})
    )
    assert answer.lost == (lost,)
    assert set(answer.nodes) == {(1, 0), (0, 3)}
    np.testing.assert_array_equal(answer.nodes[1, 0][0], [4, 6])


def test_a_relay_keeps_what_is_not_finite_apart_and_a_sum_that_overflows():
    parts = [Answer(5, {(0, j): two(j, np.nan if j == 2 else 1)}) for j in range(4)]
    answer = gathered(*parts)
    assert [address for address, _ in answer.apart] == ["c"]
    assert set(answer.nodes) == {(1, 0), (0, 3)}
    # Terms that are finite, and a sum that is not: nobody is to blame.
    answer = gathered(*[Answer(5, {(0, j): two(3e38, 0)}) for j in range(4)])
    assert answer.apart == ()
    np.testing.assert_array_equal(answer.nodes[2, 0][0], [np.inf, 0])


def test_a_relay_refuses_its_own_sums_too_and_passes_errors_on():
    rest = [Answer(5, {(0, j): two(1, 1)}) for j in (1, 2, 3)]
    assert "sums of shapes" in gathered(Answer(5, {(0, 0): (np.ones(2, np.float16),)}), *rest).failure
    assert gathered(Answer(5, {(0, 0): two(1, 1)}), *rest[:2], Answer(-1, error=DataError("told"))).error.args == (
        "told",
    )


def test_a_fan_in_of_nobody_is_refused(client):
    with pytest.raises(UsageError, match="expected fan_in to be at least 1"):
        objective(client, fan_in=0)


@pytest.mark.bits
def test_the_same_bits_through_a_relay(client, reference):
    with objective(client, fan_in=1, shared_memory=False) as f:
        assert_same_bits(everything(f), reference)
        # What the worker below has lost, its relay sends it.
        addresses = sorted(f._engine._workers.states)
        for address in addresses:
            client.run(forget, ["problem", "vectors"], f._engine._problem.id, workers=[address])
            assert_same_bits(everything(f), reference)
        assert len(f._engine._workers.states) == 2
        assert not f._engine._workers._refusals


def forget(what, problem_id, dask_worker):
    server = dask_worker.plugins["hfnumba"]._server
    if "vectors" in what and problem_id in server._problems:
        server._problems[problem_id].host.vectors.clear()
    if "problem" in what:
        server._problems.pop(problem_id).host.close()


def test_vectors_lost_in_mid_iteration_come_from_the_relay(client, reference):
    with objective(client, fan_in=1, shared_memory=False) as f:

        def between(step):
            client.run(forget, ["vectors"], f._engine._problem.id)

        assert_same_bits(everything(f, between), reference)
        assert not f._engine._workers._refusals


def test_what_the_client_sends_does_not_grow_with_the_workers(client):
    """The one below gets theta and v from its relay: of the client's connections only the relay's carries them."""
    with objective(client, fan_in=1, shared_memory=False) as f:
        point = f.linearize(np.zeros(f.n_params, np.float32), RowSample(700, seed=1, draw=4))
        asked = []
        ask = f._engine._message

        def message(branch, *rest):
            asked.append([branch.address, *(b.address for b in branch.below)])
            return ask(branch, *rest)

        f._engine._message = message
        point.hessian().matvec(np.ones(f.n_params, np.float32))
        assert asked == [sorted(f._engine._workers.states)]


def test_an_error_below_a_relay_keeps_its_class_and_words(client):
    rows = source()
    rows.y[-1] = 99
    with (
        objective(client, rows, fan_in=1, shared_memory=False) as f,
        pytest.raises(DataError, match=r"0 … 3"),
    ):
        f.value(np.zeros(f.n_params))


def test_overflow_is_an_answer_through_a_relay(client):
    with objective(client, fan_in=1, shared_memory=False) as f, objective() as serial:
        theta = np.full(f.n_params, 3e38, np.float32)
        mine, theirs = f.value_and_gradient(theta), serial.value_and_gradient(theta)
        assert not np.isfinite(mine[1]).all()
        assert_same_bits(mine, theirs)
        assert not f._engine._workers._refusals


@pytest.fixture(scope="module")
def three():
    """A chain: the first passes on to the second, that to the third."""
    with local(3) as client:
        yield client


@pytest.mark.slow
def test_no_wrong_answer_is_added_by_a_relay(three, reference, caplog):
    rng, struck = random.Random(11), []
    # A quiet cluster silences the handlers that pytest gives to Dask's logger, and this one is also ours.
    caplog.handler.setLevel(logging.NOTSET)
    with objective(three, fan_in=1, shared_memory=False) as f:
        everything(f)
        for kind, place in (("dtype", 0), ("nan", 1), ("stale", 2)):
            until(lambda: f._engine.sharing()[1] == 3)
            address = sorted(pids(three))[place]
            at = rng.randrange(6)

            def act(step, at=at, kind=kind, address=address):
                if step == at:
                    three.run(lie, kind, workers=[address])
                    struck.append(address)

            assert_same_bits(everything(f, act), reference)
            # The lie of a worker that was not asked again comes with the next rounds.
            for _ in range(3):
                if len(refused(caplog)) < len(struck):
                    assert_same_bits(everything(f), reference)
    messages = refused(caplog)
    assert len(messages) == len(struck) == 3
    assert all(address in text for address, text in zip(struck, messages, strict=True))


@pytest.mark.slow
def test_relays_and_workers_below_that_die_at_random_moments_change_no_bit(three, reference):
    rng = random.Random(13)
    with objective(three, fan_in=1, shared_memory=False) as f:
        fire = Rounds(
            lambda: strike(three, "SIGKILL", rng), 5, 0.3, rng, lambda: three.wait_for_workers(3, timeout=LIMIT_S)
        )
        under_fire(f, reference, fire)


@pytest.mark.slow
def test_relays_and_workers_below_that_freeze_are_replaced(three, reference):
    rng = random.Random(12)

    with objective(three, timeout_s=SILENCE_S, fan_in=1, shared_memory=False) as f:
        f.value(np.zeros(f.n_params))
        fire = Rounds(
            lambda: strike(three, "SIGSTOP", rng),
            3,
            0.3,
            rng,
            lambda: until(lambda: none_is_frozen(three, 3), every_s=0.2),
        )
        under_fire(f, reference, fire)
