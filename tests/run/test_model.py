"""Predictions see features as training saw them, whatever the store does with them."""

import numpy as np
import pytest

from hfnumba.engine import predict
from hfnumba.errors import DataError
from hfnumba.ingest import write_frames, write_store
from hfnumba.run import RunDirectory, train
from hfnumba.run.model import load_model
from hfnumba.store import open_store
from tests.silent import Silent
from tests.utterances import load_utterances


def trained(store, path):
    train(store, RunDirectory(path), {"hidden": [4], "max_iterations": 1}, Silent())
    return load_model(path)


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
