"""Rows that do not fit into memory: the same bits as in memory, few reads, and a sentence where it cannot be."""

import re
import threading
from dataclasses import replace

import numpy as np
import pytest

from hfnumba.engine import SplitObjective
from hfnumba.engine import memory as engine_memory
from hfnumba.engine.evaluations import Loss
from hfnumba.engine.host import PartitionHost
from hfnumba.engine.memory import HostMemory, divide_memory, expanded_nbytes, plan_memory, reserved_nbytes
from hfnumba.engine.protocol import Companion, Problem
from hfnumba.errors import StoreError, UsageError
from hfnumba.ingest import write_frames, write_store
from hfnumba.kernels import passes
from hfnumba.network import Network
from hfnumba.objective import RowSample
from hfnumba.processors import INTERPRETER_MEMORY
from hfnumba.store.split import Split

N_PARTITIONS = 8


@pytest.fixture(params=["uint8", "float32", "frames"])
def split(request, tmp_path):
    rng = np.random.default_rng(0)
    if request.param == "frames":
        lengths = rng.integers(30, 60, 40)
        utterances = [(rng.standard_normal((n, 6), dtype=np.float32), rng.integers(0, 4, n)) for n in lengths]
        return write_frames(tmp_path / "s.zarr", {"train": utterances}, context=2, n_partitions=N_PARTITIONS)["train"]
    X = rng.integers(0, 256, (2000, 30)).astype(np.uint8)
    X = X if request.param == "uint8" else X / np.float32(255)
    return write_store(tmp_path / "s.zarr", {"train": (X, rng.integers(0, 4, 2000))}, n_partitions=N_PARTITIONS)[
        "train"
    ]


def everything(split, n_threads, memory, cache_rows=True):
    network = Network([split.n_features, 9, split.n_outputs])
    theta = network.initialize(0)
    v = np.arange(network.n_params, dtype=np.float32) / network.n_params
    found = []
    with SplitObjective(network, split, n_threads=n_threads, memory=memory, cache_rows=cache_rows) as f:
        for sample in (RowSample(300, seed=1), RowSample(300, seed=1, draw=1), None):
            point = f.linearize(theta, sample)
            found += [point.value, point.gradient, point.hessian().matvec(v), point.gauss_newton().matvec(v)]
            found += [f.values_along(theta, [v, -v], [1.0, 0.25], sample), f.value(theta)]
            theta = theta - point.gradient
    return found


def least(split, n_threads):
    """The smallest memory that is accepted, found by halving."""
    network, low, high = Network([split.n_features, 9, split.n_outputs]), 1, 2**30
    partitions = range(split.n_partitions)
    while high - low > 1:
        middle = (low + high) // 2
        plan = plan_memory(network, split, np.dtype(np.float32), middle, n_threads=n_threads, partitions=partitions)
        low, high = (middle, high) if plan is None else (low, middle)
    return high


@pytest.mark.bits
@pytest.mark.parametrize("n_threads", [1, 2, 3])
def test_the_bits_do_not_depend_on_memory(split, n_threads):
    reference = everything(split, 1, None)
    smallest = least(split, n_threads)
    for memory, cache_rows in ((smallest, True), (2 * smallest, True), (None, False)):
        for a, b in zip(everything(split, n_threads, memory, cache_rows), reference, strict=True):
            np.testing.assert_array_equal(a, b)


def counted(monkeypatch):
    """Count reads of partitions, and how many are under way or alive at once."""
    counts, lock, real = {"reads": 0}, threading.Lock(), Split.load_compact

    def load(self, j):
        with lock:
            counts["reads"] += 1
        return real(self, j)

    monkeypatch.setattr(Split, "load_compact", load)
    return counts


def test_what_fits_is_read_once_and_what_does_not_in_each_round(split, monkeypatch):
    counts = counted(monkeypatch)
    network = Network([split.n_features, 9, split.n_outputs])
    theta = network.initialize(0)
    with SplitObjective(network, split, n_threads=2) as f:
        f.value(theta)
        f.value(theta)
        assert counts["reads"] == split.n_partitions
    counts["reads"] = 0
    with SplitObjective(network, split, n_threads=2, memory=least(split, 2)) as f:
        f.value(theta)
        first = counts["reads"]
        f.value(theta)
        # A thread may have begun to read ahead what the other one takes from it.
        assert split.n_partitions <= first <= split.n_partitions + 2
        assert 0 < counts["reads"] - first <= split.n_partitions + 2


def test_products_on_a_sample_read_nothing_again(split, monkeypatch):
    counts = counted(monkeypatch)
    network = Network([split.n_features, 9, split.n_outputs])
    theta = network.initialize(0)
    taken = reserved_nbytes(network, split, np.dtype(np.float32), 1)
    total = sum(split.compact_nbytes(j) for j in range(split.n_partitions)) * (2 * split.layout.context + 1)
    with SplitObjective(network, split, n_threads=1, memory=int(total * 1.2) + taken) as f:
        operator = f.linearize(theta, RowSample(40, seed=3)).gauss_newton()
        operator.matvec(theta)
        before = counts["reads"]
        operator.matvec(theta)
        assert counts["reads"] == before


def test_a_pass_that_fails_gives_its_memory_back(split, monkeypatch):
    """However often it fails: afterwards there is room for all primal passes, and products compute none."""
    network = Network([split.n_features, 9, split.n_outputs])
    theta, real, calls = network.initialize(0), passes.gradient_pass, []

    def gradient_pass(*arguments):
        calls.append(1)
        if failing:
            raise KeyboardInterrupt
        return real(*arguments)

    monkeypatch.setattr(passes, "gradient_pass", gradient_pass)
    taken = reserved_nbytes(network, split, np.dtype(np.float32), 1)
    rows = split.n_rows * split.n_features * split.x_dtype.itemsize
    primal = split.n_rows * 2 * sum(network.sizes[1:]) * 4
    with SplitObjective(network, split, n_threads=1, memory=3 * rows + 3 * primal + taken) as f:
        failing = True
        for _ in range(50):
            with pytest.raises(KeyboardInterrupt):
                f.linearize(theta)
        failing = False
        operator = f.linearize(theta).gauss_newton()
        operator.matvec(theta)
        del calls[:]
        operator.matvec(theta)
        assert not calls


def test_too_little_memory_is_refused_with_what_would_do(split):
    network = Network([split.n_features, 9, split.n_outputs])
    with (
        SplitObjective(network, split, n_threads=2, memory=1000) as f,
        pytest.raises(UsageError, match=r"1000 bytes of memory are too few .* give --memory 1MiB.*--partitions"),
    ):
        f.value(network.initialize(0))


@pytest.mark.parametrize("n_threads", [1, 2])
@pytest.mark.parametrize(
    ("n_train", "n_test", "n_partitions"), [(900, 9000, 4), (9000, 900, 4), (9000, 9000, 1), (9000, 100, 2)]
)
def test_the_least_memory_named_is_enough_for_both_splits(tmp_path, n_train, n_test, n_partitions, n_threads):
    """Also where the test split has the larger partitions, and where its rows are taken off those of training."""
    rng = np.random.default_rng(0)
    rows = {
        name: (rng.standard_normal((n, 200), np.float32), np.arange(n) % 3)
        for name, n in (("train", n_train), ("test", n_test))
    }
    store = write_store(tmp_path / "s.zarr", rows, n_partitions=n_partitions)
    network = Network([200, 5, 3])

    def evaluate(name, memory):
        other = "test" if name == "train" else "train"
        companion = Companion(store[other], yields=other == "test")
        with SplitObjective(network, store[name], n_threads=n_threads, memory=memory, companion=companion) as f:
            return f.value(network.initialize(0))

    for name in store.splits:
        with pytest.raises(UsageError, match="100000 bytes of memory are too few") as caught:
            evaluate(name, 100_000)
        named = int(re.search(r"give --memory (\d+)MiB", str(caught.value))[1])
        for each in store.splits:
            assert evaluate(each, named * 2**20) == evaluate(each, None)


def test_a_process_with_little_memory_takes_what_its_interpreter_leaves(split, monkeypatch):
    """The limit of Dask's worker or of a container, whichever is less; never more than 90 % of what is left."""
    problem = Problem("p", Network([split.n_features, 9, split.n_outputs]), split, np.dtype(np.float32))
    monkeypatch.setattr(engine_memory, "available_memory", lambda: 2**40)
    for left in (2**20, 2**30):
        limit = INTERPRETER_MEMORY + left
        for one, share in ((problem, 0.6), (replace(problem, memory=2**39), 0.9)):
            assert HostMemory(one, 1, limit).total == int(share * left)
        assert HostMemory(replace(problem, memory=1000), 1, limit).total == 1000
    monkeypatch.setattr(engine_memory, "available_memory", lambda: limit)
    assert HostMemory(problem, 1, 2**40).total == HostMemory(problem, 1).total == int(0.6 * left)


@pytest.mark.parametrize("given", [None, 2**30])
def test_a_limit_that_is_too_low_is_refused_with_one_that_would_do(split, given):
    network = Network([split.n_features, 9, split.n_outputs])
    problem = Problem("p", network, split, np.dtype(np.float32), given)
    evaluation, vectors = Loss("theta"), {"theta": network.initialize(0)}

    def evaluate(limit):
        host = PartitionHost(problem, 2, limit)
        host.receive(vectors, ["theta"])
        host.evaluate([evaluation], range(N_PARTITIONS))
        host.close()

    for limit in (200 * 2**20, INTERPRETER_MEMORY + 1000):
        with pytest.raises(UsageError, match=rf"{-(-limit // 2**20)}MiB of memory for a process are too few") as caught:
            evaluate(limit)
        assert "beside 256MiB for the interpreter and its libraries" in str(caught.value)
        evaluate(2**20 * int(re.search(r"give each process at least (\d+)MiB", str(caught.value))[1]))


@pytest.mark.parametrize("n_threads", [1, 3])
def test_a_damaged_chunk_is_named_and_ends_the_round(split, n_threads):
    from pathlib import Path

    network = Network([split.n_features, 9, split.n_outputs])
    with SplitObjective(network, split, n_threads=n_threads, memory=least(split, n_threads)) as f:
        f.value(network.initialize(0))
        bad = Path(split.path) / "train" / split.layout.x_keys(5)[0]
        data = bad.read_bytes()
        bad.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
        with pytest.raises(StoreError, match=r"partition 5, train/X/c/5/0 has the digest"):
            f.value(network.initialize(0))
        bad.write_bytes(data)
        f.value(network.initialize(0))


@pytest.mark.parametrize("sizes", [(900, 9000, 900), (9000, 900, 900), (9000, 900, 9000)])
def test_the_least_memory_named_is_enough_for_three_splits(tmp_path, sizes):
    rng = np.random.default_rng(0)
    names = ("train", "validation", "test")
    rows = {
        name: (rng.standard_normal((n, 200), np.float32), np.arange(n) % 3)
        for name, n in zip(names, sizes, strict=True)
    }
    store = write_store(tmp_path / "s.zarr", rows, n_partitions=4)
    network = Network([200, 5, 3])

    def evaluate(name, memory):
        first, *others = (store[other] for other in names if other != name)
        companion = Companion(first, name == "train", tuple(others))
        with SplitObjective(network, store[name], n_threads=1, memory=memory, companion=companion) as f:
            return f.value(network.initialize(0))

    for name in names:
        with pytest.raises(UsageError, match="100000 bytes of memory are too few") as caught:
            evaluate(name, 100_000)
        least = int(re.search(r"give --memory (\d+)MiB", str(caught.value))[1]) * 2**20
        assert all(evaluate(other, least) == evaluate(other, None) for other in names)


def test_all_rows_of_three_splits_fit_or_those_of_training_alone(split):
    network = Network([split.n_features, 9, split.n_outputs])
    size = sum(expanded_nbytes(network, split, np.dtype(np.float32), j) for j in range(N_PARTITIONS))
    for memory in (2 * size, 4 * size, 5 * size - 8, 5 * size + 8, 2**30):
        train, other = divide_memory(network, split, split, memory, [split])
        assert (other is not None) == (3 * size <= 0.6 * memory)
        assert train == memory - (0 if other is None else 2 * size)


def test_two_splits_share_a_memory(split):
    network, total = Network([split.n_features, 9, split.n_outputs]), 0
    for memory in (1000, 2**30):
        train, test = divide_memory(network, split, split, memory)
        kind = np.dtype(np.float32)
        if test is None:
            assert train == memory
            continue
        plans = [
            plan_memory(network, split, kind, part, n_threads=2, partitions=range(N_PARTITIONS))
            for part in (train, test)
        ]
        assert all(chosen.whole for chosen in plans)
        taken = reserved_nbytes(network, split, kind, 2)
        assert sum(chosen.rows for chosen in plans) + plans[0].derived + taken == memory
        total += 1
    assert total == 1


def test_vectors_and_scratch_count_against_the_limit(split):
    """What a wide network takes beside the rows is not left for rows, samples and primal passes."""
    network, kind = Network([split.n_features, 300, split.n_outputs]), np.dtype(np.float32)
    taken, partitions = reserved_nbytes(network, split, kind, 2), range(N_PARTITIONS)
    assert taken > 2 * network.n_params * 4 + 2 * 128 * 3 * 300 * 4
    for memory in (100 * taken, 2 * taken):
        chosen = plan_memory(network, split, kind, memory, n_threads=2, partitions=partitions)
        room = 0 if chosen.whole else 2 * max(3 * split.compact_nbytes(j) for j in partitions)
        assert chosen.rows + chosen.derived + taken <= memory
        assert chosen.whole or chosen.rows + chosen.derived + taken + room >= memory
    assert plan_memory(network, split, kind, taken, n_threads=2, partitions=partitions) is None


def test_reading_takes_a_partition_and_a_chunk_file(tmp_path, monkeypatch):
    """Whether a partition fills its chunk or not: no second array of its size."""
    from hfnumba import linux
    from hfnumba.store import codec

    made, real = [], linux.empty
    monkeypatch.setattr(codec, "empty", lambda shape, dtype: made.append(real(shape, dtype)) or made[-1])
    X = np.random.default_rng(0).standard_normal((1001, 20), np.float32)
    split = write_store(tmp_path / "s.zarr", {"train": (X, np.arange(1001) % 2)}, n_partitions=4)["train"]
    sizes = [stop - start for start, stop in map(split.partition_rows, range(4))]
    assert sizes == [251, 251, 251, 248]
    for j, n in enumerate(sizes):
        made.clear()
        rows = split.load_compact(j)["X"]
        assert rows.shape == (n, 20) and rows.flags.c_contiguous and rows.flags.writeable
        assert [array.nbytes for array in made if array.ndim == 2] == [251 * 80]
    few = write_store(tmp_path / "f.zarr", {"train": (X[:7], np.arange(7) % 2)}, n_partitions=2)["train"]
    assert [few.load_compact(j)["X"].base is not None for j in range(2)] == [True, True]
