"""Arrays that are used again: by length, never two at a time, and not what somebody else may use."""

import numpy as np

from hfnumba.engine.buffers import Buffers

N = 1 << 15


def test_an_array_that_was_given_is_taken_again():
    buffers = Buffers(np.dtype(np.float32))
    some, other = buffers.take(N), buffers.take(N)
    assert some is not other
    buffers.give([some, other])
    assert buffers.take(N + 1).size == N + 1
    assert {id(buffers.take(N)), id(buffers.take(N))} == {id(some), id(other)}
    assert buffers.take(N).dtype == np.float32


def test_views_and_others_are_not_kept():
    buffers = Buffers(np.dtype(np.float32))
    whole = np.empty(2 * N, np.float32)
    given = [whole[:N], np.empty(N), np.empty((1, N), np.float32), np.empty(3, np.float32)]
    buffers.give(given)
    taken = [buffers.take(N), buffers.take(N), buffers.take(3)]
    assert not any(np.shares_memory(array, one) for array in taken for one in given)
