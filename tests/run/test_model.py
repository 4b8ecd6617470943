"""Predictions see features as training saw them, whatever the store does with them."""

import numpy as np
import pytest

from hfnumba.engine import predict
from hfnumba.errors import DataError
from hfnumba.ingest import write_frames, write_store
from hfnumba.network import Network
from hfnumba.run import RunDirectory, train
from hfnumba.run.model import load_model
from hfnumba.store import open_store
from tests.silent import Silent
from tests.utterances import load_utterances


def trained(store, path):
    train(store, RunDirectory(path), {"hidden": [4], "max_iterations": 1}, Silent())
    return load_model(str(path))


def test_frames_are_standardised_and_spliced(tmp_path):
    rng = np.random.default_rng(0)
    utterances = [(rng.normal(5, 3, (n, 4)).astype(np.float32), rng.integers(0, 3, n)) for n in (30, 50, 20)]
    store = write_frames(tmp_path / "s.zarr", {"train": utterances}, context=2, n_partitions=2)
    model = trained(tmp_path / "s.zarr", tmp_path / "run")
    split = open_store(tmp_path / "s.zarr")["train"]
    assert store.digest == open_store(tmp_path / "s.zarr").digest
    for j in range(split.n_partitions):
        spliced = predict(model.network, model.theta, split.load(j)[0])
        by_utterance = [model.predict(X) for X, _ in load_utterances(split, j)]
        np.testing.assert_array_equal(np.concatenate(by_utterance), spliced)
    with pytest.raises(DataError, match="rows of 4 numbers"):
        model.predict(np.zeros((3, 20), np.float32))


def test_standardised_tables(tmp_path):
    rng = np.random.default_rng(0)
    X, y = rng.normal(100, 7, (80, 5)).astype(np.float32), np.arange(80) % 2
    write_store(tmp_path / "s.zarr", {"train": (X, y)}, n_partitions=2, standardise=True)
    model = trained(tmp_path / "s.zarr", tmp_path / "run")
    split = open_store(tmp_path / "s.zarr")["train"]
    expected = predict(model.network, model.theta, split.load(0)[0])
    np.testing.assert_array_equal(model.predict(split.load_stored(0)[0]), expected)


def test_blocks_of_rows_have_the_outputs_of_all_rows(tmp_path):
    rng = np.random.default_rng(0)
    utterances = [(rng.normal(5, 3, (n, 4)).astype(np.float32), rng.integers(0, 3, n)) for n in (30, 50)]
    write_frames(tmp_path / "f.zarr", {"train": utterances}, context=3, n_partitions=2)
    model = trained(tmp_path / "f.zarr", tmp_path / "run")
    X = rng.normal(5, 3, (40, 4)).astype(np.float32)
    together = model.predict(X)
    for cuts in ([], [1], [2, 3], [20, 20, 35], list(range(40))):
        parts = np.concatenate(list(model.predict_blocks(np.split(X, cuts), 4)))
        np.testing.assert_array_equal(parts, together)
    assert model.predict(X[:0]).shape == (0, 3)


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    folder = tmp_path_factory.mktemp("plain")
    rng = np.random.default_rng(0)
    X, y = rng.normal(100, 7, (80, 3)).astype(np.float32), np.arange(80) % 2
    write_store(folder / "s.zarr", {"train": (X, y)}, n_partitions=2, standardise=True)
    return trained(folder / "s.zarr", folder / "run")


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (1e300, r"feature 1 of row 1500 \(both counted from 0\) is 1e\+300, which is not finite in float32"),
        (-np.inf, "feature 1 of row 1500 .* is -inf"),
        (np.nan, "feature 1 of row 1500 .* is nan"),
    ],
)
def test_rows_without_a_prediction_are_named(plain, value, message):
    X = np.full((2000, 3), 100.0)
    X[1500, 1] = X[1700, 2] = value
    with pytest.raises(DataError, match=message):
        plain.predict(X)


def test_features_that_overflow_in_the_network_are_named():
    network = Network([2, 3])
    theta = np.full(network.n_params, 2.0, np.float32)
    with pytest.raises(DataError, match=r"outputs of the network for row 1 .*up to 3e\+38, are too large"):
        predict(network, theta, np.array([[1, 2], [3e38, 3e38]]))
    with pytest.raises(DataError, match=r"feature 0 of row 8 .* is 3e\+38, which is not finite in float32"):
        predict(network, theta, np.array([[1, 2], [3e38, 0]]), scale=10.0, first_row=7)


def test_other_kinds_of_rows(plain):
    assert plain.predict([[100, 90, 110]]).shape == (1, 2)
    with pytest.raises(DataError, match="expected rows of 3 numbers, got complex128"):
        plain.predict(np.zeros((2, 3), complex))
    hidden = np.ma.masked_equal(np.array([[100.0, 90, -999]]), -999)
    with pytest.raises(DataError, match="are masked"):
        plain.predict(hidden)
    np.testing.assert_array_equal(plain.predict(hidden.filled(100)), plain.predict(np.ma.asarray([[100.0, 90, 100]])))
