from itertools import pairwise

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hfnumba.store.layout import CHUNK_BYTES, SplitLayout, chunking


def layout(n_rows, n_features, n_partitions, dtype="uint8", n_outputs=None):
    chunk, rows = chunking(n_rows, n_features * (4 if dtype == "float32" else 1), n_partitions)
    return SplitLayout(
        n_rows=n_rows,
        n_features=n_features,
        n_outputs=n_outputs,
        x_dtype=dtype,
        y_dtype="uint8",
        chunk_rows=chunk,
        partition_rows=rows,
    )


@given(st.integers(1, 5000), st.sampled_from([1, 784, 200_000, 30 * 2**20]), st.integers(1, 64))
@settings(max_examples=150)
def test_partitions_cover_all_rows_once_in_whole_chunks(n_rows, n_features, n_partitions):
    split = layout(n_rows, n_features, n_partitions)
    bounds = [split.bounds(j) for j in range(split.n_partitions)]
    assert bounds[0][0] == 0 and bounds[-1][1] == n_rows
    assert all(stop == start for (_, stop), (start, _) in pairwise(bounds))
    assert all(stop > start for start, stop in bounds)
    assert 1 <= split.n_partitions <= n_partitions
    assert all(start % split.chunk_rows == 0 for start, _ in bounds)
    keys = list(split.all_keys())
    assert len(keys) == len(set(keys)) == split.n_chunks
    # A chunk that exceeds the limit by a whole row could have been divided.
    assert split.chunk_rows == 1 or (split.chunk_rows - 1) * n_features <= CHUNK_BYTES


@pytest.mark.parametrize(
    ("n_rows", "asked", "rows", "n_partitions"),
    [(60_000, 16, 3750, 16), (10_000, 16, 625, 16), (1437, 16, 90, 16), (100, 16, 7, 15), (3, 16, 1, 3)],
)
def test_known_partitions(n_rows, asked, rows, n_partitions):
    split = layout(n_rows, 784, asked)
    assert (split.partition_rows, split.n_partitions) == (rows, n_partitions)


def test_a_large_partition_holds_several_equal_chunks():
    split = layout(60_000, 784, 1)
    assert split.n_partitions == 1
    assert len(split.x_keys(0)) == 3
    assert split.chunk_rows * 784 <= CHUNK_BYTES
    assert split.y_key(0) == "y/c/0"


def test_a_partition_that_is_not_there():
    with pytest.raises(IndexError, match="from 0 to 14, got 15"):
        layout(100, 1, 16).bounds(15)


@pytest.mark.parametrize(
    ("changed", "complaint"),
    [({"chunk_rows": 2}, "whole chunks"), ({"n_rows": 0}, "at least 1"), ({"n_outputs": 0}, "at least 1")],
)
def test_sizes_that_cannot_be(changed, complaint):
    with pytest.raises(ValueError, match=complaint):
        msgspec.structs.replace(layout(9, 1, 3), **changed)
