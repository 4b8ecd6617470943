"""The Dask engine on real worker processes: the bits of one process, also when workers die."""

import os
import signal
import uuid

import numpy as np
import pytest

from hfnumba.engine.dask import DaskEngine, assign
from hfnumba.engine.host import Job
from hfnumba.engine.round_objective import RoundObjective
from hfnumba.engine.rows import ArraySource
from hfnumba.engine.serial import SerialEngine
from hfnumba.errors import DataError
from hfnumba.network import Network
from hfnumba.objective import RowSample
from tests.laws.objective_laws import check_objective, check_sample

F32 = np.dtype(np.float32)
NETWORK = Network([12, 9, 4])


def source(n=2200):
    rng = np.random.default_rng(0)
    X, y = rng.integers(0, 256, (n, 12)).astype(np.uint8), rng.integers(0, 4, n)
    return ArraySource.of(X, y, 11, 1 / 255, 0.0)


def objective(client=None, rows=None, timeout_s=30.0):
    job = Job(uuid.uuid4().hex, NETWORK, rows or source(), F32)
    engine = SerialEngine(job, 2) if client is None else DaskEngine(job, client, timeout_s)
    return RoundObjective(NETWORK, engine, job.source.n_rows, 0.01, F32)


def everything(f, between=lambda step: None):
    theta = NETWORK.initialize(0)
    between(0)
    point = f.linearize(theta, RowSample(700, seed=1, draw=4))
    v = np.arange(f.n_params, dtype=np.float32) / f.n_params
    out = [point.value, point.gradient]
    for step in range(1, 5):
        between(step)
        v = point.hessian().matvec(v)
        out.append(v)
    between(5)
    out.append(f.values_along(theta, [v, -v], [1.0, 0.25]))
    return out


def assert_same_bits(a, b):
    for x, y in zip(a, b, strict=True):
        np.testing.assert_array_equal(x, y)


def test_laws_and_bits_on_two_processes(client):
    with objective(client) as f, objective() as serial:
        check_objective(f, NETWORK.initialize(0), 1e-5, 700)
        check_sample(f, NETWORK.initialize(0))
        f.counters.rounds = f.counters.nbytes = f.counters.row_reads = 0
        assert_same_bits(everything(f), everything(serial))
        assert f.counters == serial.counters


def test_a_closed_objective_leaves_nothing_on_the_workers(client):
    def jobs(dask_worker):
        return len(dask_worker.plugins["hfnumba"]._server._hosts)

    f = objective(client)
    f.value(NETWORK.initialize(0))
    assert sum(client.run(jobs).values()) > 0
    before = sum(client.run(jobs).values())
    f.close()
    assert sum(client.run(jobs).values()) == before - 2


def test_an_error_on_a_worker_keeps_its_class_and_words(client):
    rows = source()
    rows.y[-1] = 99
    with objective(client, rows) as f, pytest.raises(DataError, match=r"0 … 3"):
        f.value(NETWORK.initialize(0))


def test_assignment_covers_all_partitions_in_contiguous_runs():
    for n in (1, 5, 16, 17):
        for threads in (
            {"a": 1},
            {"a": 1, "b": 1, "c": 1},
            {"a": 4, "b": 1},
            {f"w{i}": 1 for i in range(20)},
        ):
            runs = assign(range(n), threads)
            assert [j for address in sorted(runs) for j in runs[address]] == list(range(n))
            assert all(runs.values())
    assert assign(range(10), {"a": 4, "b": 1}) == {"a": tuple(range(8)), "b": (8, 9)}


def _harm(client, number):
    """A function that sends ``number`` to one worker process, and counts."""
    harmed = []

    def strike():
        pids = client.run(os.getpid, on_error="ignore")
        address = sorted(pids)[len(harmed) % len(pids)]
        os.kill(pids[address], number)
        harmed.append(address)

    return strike, harmed


@pytest.fixture
def own_client():
    from distributed import Client, LocalCluster

    with (
        LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster,
        Client(cluster) as client,
    ):
        yield client


@pytest.mark.slow
def test_killed_workers_change_no_bit(own_client):
    reference = everything(objective())
    with objective(own_client) as f:
        strike, harmed = _harm(own_client, signal.SIGKILL)
        for kill_at in range(6):
            assert_same_bits(everything(f, lambda step, at=kill_at: strike() if step == at else None), reference)
            own_client.wait_for_workers(2, timeout=30)
        assert len(harmed) == 6


@pytest.mark.slow
def test_a_frozen_worker_is_replaced(own_client):
    reference = everything(objective())
    with objective(own_client, timeout_s=3.0) as f:
        strike, harmed = _harm(own_client, signal.SIGSTOP)
        assert_same_bits(everything(f, lambda step: strike() if step == 2 else None), reference)
        assert len(harmed) == 1


@pytest.mark.slow
def test_workers_that_join_and_leave_change_no_bit(own_client):
    reference = everything(objective())
    cluster = own_client.cluster
    with objective(own_client) as f:
        sizes = {0: 2, 1: 3, 2: 1, 3: 2, 4: 4, 5: 2}
        seen = []

        def rescale(step):
            cluster.scale(sizes[step])
            own_client.wait_for_workers(min(sizes[step], 2), timeout=30)
            seen.append(step)

        assert_same_bits(everything(f, rescale), reference)
        assert seen == list(range(6))
