"""Progress of an objective's first round is reported, and does not affect any sum."""

import threading

import numpy as np
import pytest

from hfnumba.engine import DaskObjective, SplitObjective
from hfnumba.engine import progress as first_round
from hfnumba.ingest import write_store
from hfnumba.network import Network
from hfnumba.store.split import Split
from tests.limits import LIMIT_S

N_PARTITIONS = 6


@pytest.fixture
def split(tmp_path):
    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((300, 5), dtype=np.float32), rng.integers(0, 3, 300)
    return write_store(tmp_path / "s.zarr", {"train": (X, y)}, n_partitions=N_PARTITIONS)["train"]


class Recorder(list):
    """Records the progress of each step, with an event for the first partition that is done."""

    def __init__(self):
        super().__init__()
        self.begun = threading.Event()

    def note(self, text):
        raise AssertionError(text)

    def progress(self, what, unit):
        assert (what, unit) == ("First pass over train", "partitions")
        calls = []
        self.append(calls)

        def progress(done, total):
            calls.append((done, total))
            if done:
                self.begun.set()

        return progress


def sums(f):
    theta = Network([5, 4, 3]).initialize(0)
    return [*f.value_and_gradient(theta), f.value(2 * theta), f.counters]


def test_the_first_round_in_this_process_is_reported_by_partition(split, monkeypatch):
    monkeypatch.setattr(first_round, "_INTERVAL_S", 0.001)
    recorder, real = Recorder(), Split.load_compact

    def load_compact(self, j):
        # Reading continues only after the first partitions were reported.
        assert j < 3 or recorder.begun.wait(LIMIT_S)
        return real(self, j)

    network = Network([5, 4, 3])
    with SplitObjective(network, split, n_threads=1) as f:
        expected = sums(f)
    monkeypatch.setattr(Split, "load_compact", load_compact)
    with SplitObjective(network, split, n_threads=1, reporter=recorder) as f:
        for a, b in zip(sums(f), expected, strict=True):
            np.testing.assert_array_equal(a, b)
    (calls,) = recorder
    assert calls == sorted(calls) and calls[-1] == (N_PARTITIONS, N_PARTITIONS)
    assert any(0 < done < N_PARTITIONS for done, _ in calls)
    assert not [thread for thread in threading.enumerate() if thread.name == "hfnumba-progress"]


def test_a_round_that_fails_is_not_reported_as_done(split, monkeypatch):
    recorder = Recorder()
    monkeypatch.setattr(Split, "load_compact", lambda self, j: 1 / 0)
    with SplitObjective(Network([5, 4, 3]), split, reporter=recorder) as f, pytest.raises(ZeroDivisionError):
        f.value(Network([5, 4, 3]).initialize(0))
    assert (N_PARTITIONS, N_PARTITIONS) not in recorder[0]
    assert not [thread for thread in threading.enumerate() if thread.name == "hfnumba-progress"]


def test_workers_report_the_number_of_partitions_done(split, client, monkeypatch):
    monkeypatch.setattr(first_round, "_INTERVAL_S", 0.001)
    recorder, network = Recorder(), Network([5, 4, 3])
    with (
        SplitObjective(network, split, n_threads=1) as serial,
        DaskObjective(network, split, client, reporter=recorder) as f,
    ):
        for a, b in zip(sums(f), sums(serial), strict=True):
            np.testing.assert_array_equal(a, b)
        assert f._engine._engine.done() == N_PARTITIONS
    (calls,) = recorder
    assert all(0 <= done <= total == N_PARTITIONS for done, total in calls) and calls[-1][0] == N_PARTITIONS
