"""Arrays that are used again: by length, never two at a time, and not what somebody else may use."""

from dataclasses import dataclass

import numpy as np

from hfnumba.engine import ArrayObjective
from hfnumba.engine.buffers import Buffers
from hfnumba.engine.protocol import Result
from hfnumba.network import Network

N = 1 << 15


def test_an_array_that_was_given_is_taken_again():
    buffers = Buffers(np.dtype(np.float32), 4)
    some, other = buffers.take(N), buffers.take(N)
    assert some is not other
    buffers.give([some, other])
    assert buffers.take(N + 1).size == N + 1
    assert {id(buffers.take(N)), id(buffers.take(N))} == {id(some), id(other)}
    assert buffers.take(N).dtype == np.float32


def test_views_and_others_are_not_kept():
    buffers = Buffers(np.dtype(np.float32), 4)
    whole = np.empty(2 * N, np.float32)
    given = [whole[:N], np.empty(N), np.empty((1, N), np.float32), np.empty(3, np.float32)]
    buffers.give(given)
    taken = [buffers.take(N), buffers.take(N), buffers.take(3)]
    assert not any(np.shares_memory(array, one) for array in taken for one in given)


@dataclass(frozen=True)
class Ones:
    """An evaluation that makes its results by itself."""

    rows: None = None

    def results(self, problem, vectors):
        return {"ones": Result((N,), problem.dtype, "rows")}

    def nbytes(self, problem, vectors):
        return 0

    def prepare(self, host):
        return None

    def __call__(self, host, j, shared):
        return (np.ones(N, host.dtype),)


def test_no_more_are_kept_than_a_round_uses_at_a_time():
    f = ArrayObjective(Network([3, 2]), np.zeros((60, 3)), np.zeros(60, int), n_partitions=16, n_threads=2)
    for _ in range(20):
        (answer,) = f.evaluate(Ones())
        np.testing.assert_allclose(answer["ones"], 16 / 60)
    assert len(f._engine._host._buffers._spare[N]) <= 2 + 4
