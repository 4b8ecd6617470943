"""The Dask engine on real worker processes: the bits of one process, also when workers die."""

import shutil
import uuid

import numpy as np
import pytest
from distributed import Client, LocalCluster
from distributed.protocol import Serialize, dumps, loads

from hfnumba.engine import DaskObjective
from hfnumba.engine.cluster.assignment import assign
from hfnumba.engine.cluster.engine import DaskEngine
from hfnumba.engine.cluster.messages import Answer, packed, unpacked
from hfnumba.engine.cluster.shared_memory import SharedMemoryError
from hfnumba.engine.local import LocalEngine
from hfnumba.engine.objective import RoundObjective
from hfnumba.engine.protocol import Problem
from hfnumba.engine.rows import ArraySource
from hfnumba.errors import ClusterError, DataError, StoreError
from hfnumba.network import Network
from hfnumba.objective import RowSample, Trial
from hfnumba.store import open_store
from tests.laws.objective_laws import check_objective, check_sample

F32 = np.dtype(np.float32)
NETWORK = Network([12, 9, 4])


def source(n=2200):
    rng = np.random.default_rng(0)
    X, y = rng.integers(0, 256, (n, 12)).astype(np.uint8), rng.integers(0, 4, n)
    return ArraySource.of(X, y, 11, 1 / 255, 0.0)


def objective(client=None, rows=None, timeout_s=30.0, **options):
    problem = Problem(uuid.uuid4().hex, NETWORK, rows or source(), F32)
    engine = LocalEngine(problem, 2) if client is None else DaskEngine(problem, client, timeout_s, **options)
    return RoundObjective(problem, engine, 0.01)


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
    sample = RowSample(600, seed=1, draw=5, part=200)
    kept = f.retain(theta)
    step = f.minibatch(theta + v, sample, factor_seed=(3,), trial=Trial(theta, v))
    out += [step.value, step.gradient, step.before, step.after, step.curvature, *step.factors.values()]
    del kept
    return out


def assert_same_bits(a, b):
    for x, y in zip(a, b, strict=True):
        np.testing.assert_array_equal(x, y)


def test_a_worker_that_could_not_load_the_libraries_is_refused():
    with (
        LocalCluster(n_workers=1, memory_limit="200MB", processes=False, dashboard_address=None) as cluster,
        Client(cluster, set_as_default=False) as client,
        pytest.raises(ClusterError, match=r"1 of 1 workers have a memory limit below the .* has 191MiB"),
    ):
        objective(client)


@pytest.mark.bits
def test_laws_and_bits_on_two_processes(client):
    with objective(client) as f, objective() as serial:
        check_objective(f, NETWORK.initialize(0), 1e-5, 700)
        check_sample(f, NETWORK.initialize(0))
        f.counters.rounds = f.counters.nbytes = f.counters.row_reads = 0
        assert_same_bits(everything(f), everything(serial))
        assert f.counters == serial.counters


def test_a_closed_objective_leaves_nothing_on_the_workers(client):
    def jobs(dask_worker):
        return len(dask_worker.plugins["hfnumba"]._server._problems)

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


def test_a_worker_that_cannot_see_the_store_is_named(client, toy_store, tmp_path):
    path = shutil.copytree(toy_store, tmp_path / "toy.zarr")
    split = open_store(path)["train"]
    path.rename(tmp_path / "elsewhere.zarr")
    network = Network([split.n_features, 5, split.n_outputs])
    named = r"toy\.zarr.*\(on worker \d at tcp://127\.0\.0\.1:\d+; every worker must be able to read the store"
    with DaskObjective(network, split, client) as f, pytest.raises(StoreError, match=named):
        f.value(network.initialize(0))


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


@pytest.mark.bits
def test_the_same_bits_and_bytes_with_and_without_shared_memory(client, monkeypatch):
    with objective(client) as f:
        f.counters.rounds = f.counters.nbytes = f.counters.row_reads = 0
        seen, shared = everything(f), f._engine.sharing()
        counters = f.counters
    assert shared == (2, 2)
    with objective(client, shared_memory=False) as f:
        unused = everything(f)
        assert f.counters == counters
        assert f._engine.sharing() == (0, 2)
    monkeypatch.setattr("hfnumba.engine.cluster.greeting.Box", _no_box)
    with objective(client) as f:
        sent, shared = everything(f), f._engine.sharing()
        assert f.counters == counters
    assert shared == (0, 2)
    assert_same_bits(seen, sent)
    assert_same_bits(seen, unused)


def _no_box(*_):
    raise SharedMemoryError("no memory of this kind")


@pytest.mark.parametrize(
    "what", ["hfnumba.engine.cluster.shared_memory.Box", "hfnumba.engine.cluster.engine.Windows.open"]
)
def test_shared_memory_that_fails_later_is_done_without(client, monkeypatch, what):
    with objective(client) as f:
        monkeypatch.setattr(what, _no_box)
        assert_same_bits(everything(f), everything(objective()))


def test_a_worker_that_cannot_open_a_box_gets_the_vector(client):
    client.run(_blind, True)
    try:
        with objective(client) as f:
            f._engine.sharing()
            for state in f._engine._workers.states.values():
                state.shares_memory = True
            assert_same_bits(everything(f), everything(objective()))
            assert f._engine.sharing() == (0, 2)
    finally:
        client.run(_blind, False)


def _blind(blind):
    from hfnumba.engine.cluster import shared_memory as shared

    if blind:
        shared.Windows.open_before = shared.Windows.open
        shared.Windows.open = _no_box
    else:
        shared.Windows.open = shared.Windows.open_before


def test_overflow_is_an_answer(client):
    """A theta that overflows gives the same infinities or NaN as in one process, and no worker is refused."""
    with objective(client) as f, objective() as serial:
        theta = np.full(f.n_params, 3e38, np.float32)
        mine, theirs = f.value_and_gradient(theta), serial.value_and_gradient(theta)
        assert not np.isfinite(mine[1]).all()
        assert_same_bits(mine, theirs)
        assert sum(f._engine._workers._refusals.values()) == 0


@pytest.mark.parametrize(("size", "kind"), [(0, bytes), (3, bytes), (100_000, Serialize)])
def test_messages_travel_as_bytes_unless_they_have_large_arrays(size, kind):
    array = np.arange(size, dtype=np.float32)
    travelling = packed(Answer(4, {(1, 2): (array, array[:1])}))
    assert isinstance(travelling, kind)
    (received,) = loads(dumps([travelling]))
    answer = unpacked(received)
    assert (answer.number, list(answer.nodes)) == (4, [(1, 2)])
    assert_same_bits(answer.nodes[1, 2], (array, array[:1]))
