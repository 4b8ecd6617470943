import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from hfnumba.engine import ArrayObjective
from hfnumba.engine.rows import ArraySource, as_rows, n_first, sample_indices
from hfnumba.errors import DataError, UsageError
from hfnumba.network import Network
from hfnumba.objective import RowSample

F32 = np.dtype(np.float32)


@given(st.integers(1, 500), st.integers(1, 20), st.integers(1, 600), st.integers(0, 3))
@settings(max_examples=80)
def test_samples_have_their_size_and_no_row_twice(n_rows, n_partitions, n, draw):
    n_partitions, n = min(n_partitions, n_rows), min(n, n_rows)
    source = ArraySource.of(np.zeros((n_rows, 1)), np.zeros(n_rows), n_partitions, 1.0, 0.0)
    chosen = []
    for j in range(n_partitions):
        start, stop = source.partition_rows(j)
        indices = sample_indices(RowSample(n, seed=5, draw=draw), start, stop, n_rows)
        assert (np.diff(indices) > 0).all()
        chosen.extend(start + indices)
    assert len(chosen) == len(set(chosen)) == n
    assert min(chosen) >= 0
    assert max(chosen) < n_rows


@example(5, 4, 2, 3, 0)
@given(st.integers(1, 500), st.integers(1, 20), st.integers(1, 600), st.integers(1, 600), st.integers(0, 9))
@settings(max_examples=80)
def test_the_first_part_of_a_sample_is_a_part_of_its_rows(n_rows, n_partitions, n, part, index):
    n_partitions, n = min(n_partitions, n_rows), min(n, n_rows)
    source, total = ArraySource.of(np.zeros((n_rows, 1)), np.zeros(n_rows), n_partitions, 1.0, 0.0), 0
    whole, parted = RowSample(n, seed=5, draw=1, index=index), RowSample(n, seed=5, draw=1, index=index, part=part)
    for j in range(n_partitions):
        start, stop = source.partition_rows(j)
        indices, first = sample_indices(parted, start, stop, n_rows), n_first(parted, start, stop, n_rows)
        np.testing.assert_array_equal(np.sort(indices), sample_indices(whole, start, stop, n_rows))
        assert (np.diff(indices[:first]) > 0).all() and (np.diff(indices[first:]) > 0).all()
        total += first
    # The last partition has a row of each.
    most = min(part, n)
    assert max(0, most - n_partitions) < total <= most


def test_minibatches_of_one_draw_visit_every_row_once():
    seen = [sample_indices(RowSample(10, draw=2, index=i), 0, 100, 100) for i in range(10)]
    assert sorted(np.concatenate(seen)) == list(range(100))
    other = sample_indices(RowSample(10, draw=3), 0, 100, 100)
    assert not np.array_equal(seen[0], other)


def test_partitions_follow_the_rows_not_the_machine():
    def n_partitions(n):
        return ArraySource.of(np.zeros((n, 1)), np.zeros(n), None, 1.0, 0.0).n_partitions

    assert [n_partitions(n) for n in (1, 256, 257, 1024, 1536, 4096, 60_000)] == [1, 1, 2, 2, 3, 8, 16]


@pytest.mark.parametrize(
    ("X", "y", "said"),
    [
        (np.zeros((0, 3)), [], "at least one row"),
        (np.zeros(3), [0], "shape"),
        (np.full((4, 3), np.nan), np.zeros(4), "12 of the features are NaN or infinite, the first in row 0"),
        (np.zeros((2, 3)), [0.0, np.inf], "1 of the targets are NaN or infinite, the first in row 1"),
        (np.array([["a", "b", "c"]]), [0], "numbers"),
    ],
)
def test_unusable_arrays_are_refused(X, y, said):
    with pytest.raises(DataError, match=said):
        ArraySource.of(X, y, None, 1.0, 0.0)


@pytest.mark.parametrize(
    ("X", "y", "said"),
    [
        (
            [[0.0, 1.0], [2.0, 1e300], [1e39, 0.0]],
            np.zeros((3, 1)),
            "2 of the features .* float32, .* in row 1;",
        ),
        (np.zeros((3, 2)), [[0.0], [0.0], [-1e39]], "1 of the targets .* float32, the first in row 2;"),
    ],
)
def test_numbers_beyond_the_dtype_are_refused(X, y, said):
    network = Network([2, 1], loss="squared_error")
    with pytest.raises(DataError, match=said):
        ArrayObjective(network, X, y)
    with ArrayObjective(network, X, y, dtype=np.float64) as f:
        assert np.isfinite(f.value(np.zeros(3)))


def test_partitions_must_have_rows():
    with pytest.raises(UsageError, match="from 1 to 2"):
        ArraySource.of(np.zeros((2, 1)), [0, 1], 3, 1.0, 0.0)


@pytest.mark.parametrize(
    ("network", "X", "y", "said"),
    [
        (Network([4, 2]), np.zeros((2, 3)), np.zeros(2, int), r"\(rows, 4\)"),
        (Network([3, 2]), np.zeros((2, 3)), np.zeros(3, int), "each of the 2 rows"),
        (Network([3, 2]), np.zeros((2, 3)), np.array([0, 2]), "0 … 1"),
        (Network([3, 2]), np.zeros((2, 3)), np.array([-1, 0]), "0 … 1"),
        (Network([3, 2]), np.zeros((2, 3)), np.zeros(2), "whole-number label"),
        (Network([3, 2], loss="squared_error"), np.zeros((2, 3)), np.array([0, 2]), "0 … 1"),
        (Network([3, 2], loss="squared_error"), np.zeros((2, 3)), np.zeros((2, 3)), "2 targets"),
        (Network([3, 1], loss="sigmoid_cross_entropy"), np.zeros((2, 3)), np.array([0.0, 1.5]), r"\[0, 1\]"),
    ],
)
def test_rows_that_do_not_fit_the_network_are_refused(network, X, y, said):
    with pytest.raises(DataError, match=said):
        as_rows(network, X, y, F32)
