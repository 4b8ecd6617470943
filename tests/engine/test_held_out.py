"""Training rows held out for validation: which they are, and that nothing else is trained on or evaluated."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hfnumba.engine import ArrayObjective, DaskObjective, SplitObjective
from hfnumba.engine.held_out import hold_out, row_numbers
from hfnumba.errors import UsageError
from hfnumba.ingest import write_frames, write_store
from hfnumba.network import Network
from hfnumba.store import open_store

N_ROWS, N_FEATURES = 203, 5


def rows_of(source):
    """All rows of a source, by their first feature, which is the number of the row."""
    parts = [source.expand(source.load_compact(j))[0][:, 0] for j in range(source.n_partitions)]
    sizes = [stop - first for first, stop in map(source.partition_rows, range(source.n_partitions))]
    assert list(map(len, parts)) == sizes
    assert all(sizes)
    assert sum(sizes) == source.n_rows
    return np.concatenate(parts).astype(int)


def stored(path, n_partitions, weights=None, n_rows=N_ROWS):
    rng = np.random.default_rng(3)
    X = rng.normal(size=(n_rows, N_FEATURES)).astype(np.float32)
    X[:, 0] = np.arange(n_rows)
    y = np.arange(n_rows) % 3
    train = (X, y) if weights is None else (X, y, weights)
    write_store(path, {"train": train}, n_partitions=n_partitions, n_classes=3)
    return open_store(path)["train"]


@pytest.fixture(scope="module")
def splits(tmp_path_factory):
    folder = tmp_path_factory.mktemp("held_out")
    return {n: stored(folder / f"{n}.zarr", n) for n in (1, 4, 60)}


@settings(deadline=None)
@given(st.integers(0, 2**64), st.integers(0, 999), st.integers(0, 1000))
def test_the_numbers_of_rows_can_be_made_from_anywhere(seed, start, n):
    stop = min(1000, start + n)
    np.testing.assert_array_equal(row_numbers(seed, start, stop), row_numbers(seed, 0, 1000)[start:stop])


@pytest.mark.parametrize("fraction", [1e-9, 0.1, 0.5, 0.999])
def test_each_row_is_in_one_part_and_the_choice_is_that_of_the_seed(splits, fraction):
    chosen = {}
    for n_partitions, split in splits.items():
        train, validation = hold_out(split, fraction, seed=7)
        assert validation.n_rows == min(N_ROWS - 1, math.ceil(fraction * N_ROWS))
        found = rows_of(train), rows_of(validation)
        assert sorted(np.concatenate(found)) == list(range(N_ROWS))
        chosen[n_partitions] = set(found[1])
    assert chosen[1] == chosen[4] == chosen[60]
    other = set(rows_of(hold_out(splits[4], fraction, seed=8)[1]))
    assert (other == chosen[4]) is False


def test_every_row_is_held_out_as_often(splits):
    counts = np.zeros(N_ROWS)
    for seed in range(400):
        validation = hold_out(splits[1], 0.25, seed)[1]
        numbers = row_numbers(seed, 0, N_ROWS)
        assert np.count_nonzero(numbers < np.uint64(validation.threshold)) == validation.n_rows
        counts += numbers < np.uint64(validation.threshold)
    # 400 draws with probability 51/203 each: 100 ± 8.7; five deviations.
    assert np.abs(counts - 400 * 51 / 203).max() < 5 * 8.7


@pytest.mark.parametrize("weighted", [False, True])
def test_an_objective_over_a_part_is_that_over_its_rows(tmp_path, client, weighted):
    rng = np.random.default_rng(1)
    weights = rng.uniform(0.5, 2, N_ROWS).astype(np.float32) if weighted else None
    split = stored(tmp_path / "s.zarr", 6, weights)
    X, y = split.load(0)[0], split.load(0)[1]
    X, y = (np.concatenate([split.load(j)[i] for j in range(split.n_partitions)]) for i in (0, 1))
    stored_weights = None if weights is None else weights[X[:, 0].astype(int)]
    network = Network([N_FEATURES, 4, 3])
    theta = network.initialize(0)
    held_out = row_numbers(2, 0, N_ROWS) < np.uint64(hold_out(split, 0.3, 2)[1].threshold)
    for part, taken in zip(hold_out(split, 0.3, 2), (~held_out, held_out), strict=True):
        own = None if stored_weights is None else stored_weights[taken]
        with ArrayObjective(network, X[taken], y[taken], weights=own, dtype=np.float64) as f:
            expected = f.value_and_error(theta)
        found = []
        for n_threads in (1, 2):
            with SplitObjective(network, part, n_threads=n_threads) as f:
                found.append((f.value_and_error(theta), f.value_and_gradient(theta)[1].tobytes()))
        with DaskObjective(network, part, client) as f:
            found.append((f.value_and_error(theta), f.value_and_gradient(theta)[1].tobytes()))
        assert found[0] == found[1] == found[2]
        np.testing.assert_allclose(found[0][0], expected, rtol=1e-5)


def test_rows_that_cannot_be_divided_are_refused(tmp_path):
    rng = np.random.default_rng(0)
    utterance = (rng.normal(size=(9, 3)).astype(np.float32), np.arange(9) % 2)
    frames = write_frames(tmp_path / "f.zarr", {"train": [utterance] * 4}, context=1)["train"]
    with pytest.raises(UsageError, match=r"those of an utterance must not be divided.*--validation"):
        hold_out(frames, 0.1, 0)
    with pytest.raises(UsageError, match="1 training row, expected at least 2"):
        hold_out(stored(tmp_path / "one.zarr", 1, n_rows=1), 0.1, 0)
