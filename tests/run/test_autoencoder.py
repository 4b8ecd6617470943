"""Runs of autoencoders, with an activation for each layer: trained, resumed, evaluated, and asked for predictions."""

import json

import numpy as np
import pytest

from hfnumba import ledger
from hfnumba.checkpoint import newest_checkpoint
from hfnumba.errors import CheckpointError, DataError, UsageError
from hfnumba.ingest import write_store
from hfnumba.run import RunDirectory, train
from hfnumba.run.model import load_model
from hfnumba.store import open_store
from tests.cli.test_commands import hf
from tests.silent import Silent
from tests.tables import cells

GIVEN = {"hidden": (6, 2, 6), "activation": ("gelu", "linear", "tanh"), "task": "autoencode", "seed": 1, "threads": 1}


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    rng = np.random.default_rng(0)
    X, y = rng.integers(0, 256, (300, 10)).astype(np.uint8), np.arange(300) % 3
    path = tmp_path_factory.mktemp("store") / "bytes.zarr"
    write_store(path, {"train": (X[:240], y[:240]), "test": (X[240:], y[240:])}, n_partitions=2, scale=1 / 255)
    return path


def run(store, path, resume=False, **given):
    return train(store, RunDirectory(path), {**GIVEN, **given}, Silent(), resume=resume)


@pytest.mark.parametrize("loss", [None, "sigmoid_cross_entropy"])
def test_a_run_and_what_is_asked_of_it(store, tmp_path, loss):
    path = tmp_path / "r"
    run(store, path, max_iterations=3, **({} if loss is None else {"loss": loss}))
    lines, model, split = ledger.read(path / "ledger.jsonl"), load_model(path), open_store(store)["test"]
    assert model.network.sizes == (10, 6, 2, 6, 10)
    assert model.network.activations == ("gelu", "identity", "tanh")
    assert model.network.loss == loss or (loss is None and model.network.loss == "squared_error")
    assert lines[-1]["loss"] < lines[0]["loss"]
    assert model.evaluate(split) == (lines[-1]["test_loss"], lines[-1]["test_error"])
    X = np.concatenate([split.load(j)[0] for j in range(split.n_partitions)])
    squared = np.square(model.predict(X) - X / np.float32(255)).sum(axis=1).mean()
    np.testing.assert_allclose(model.squared_error(split), squared, rtol=1e-6)
    if loss is None:
        np.testing.assert_allclose(squared, 2 * lines[-1]["test_loss"], rtol=1e-6)
    found = json.loads(hf("evaluate", path, store, "--json").stdout)
    np.testing.assert_allclose(found["squared_error"], squared, rtol=1e-6)
    np.testing.assert_allclose(found["rmse"], np.sqrt(squared / 10), rtol=1e-6)
    assert cells(hf("evaluate", path, store).stdout.splitlines()[0])[-2:] == ["squared error per row", "RMSE"]


def test_it_is_resumed_with_the_same_bits_and_not_as_another_task(store, tmp_path):
    run(store, tmp_path / "a", max_iterations=3)
    run(store, tmp_path / "b", max_iterations=1)
    with pytest.raises(CheckpointError, match="activation was"):
        run(store, tmp_path / "b", resume=True, max_iterations=3, activation="tanh")
    run(store, tmp_path / "b", resume=True, max_iterations=3)
    a, b = (newest_checkpoint(tmp_path / name / "checkpoints").tensors["theta"] for name in "ab")
    np.testing.assert_array_equal(a, b)


def test_other_stores_are_evaluated_whatever_their_targets(store, tmp_path):
    run(store, tmp_path / "r", max_iterations=1)
    model, split = load_model(tmp_path / "r"), open_store(store)["train"]
    X = np.concatenate([split.load(j)[0] for j in range(split.n_partitions)])
    other = write_store(tmp_path / "o.zarr", {"train": (X, np.zeros((240, 3)))}, n_partitions=2, scale=1 / 255)["train"]
    np.testing.assert_allclose(model.evaluate(other), model.evaluate(split), rtol=1e-6)
    narrow = write_store(tmp_path / "n.zarr", {"train": (X[:, :9], np.zeros(240))}, n_partitions=2)["train"]
    with pytest.raises(DataError, match="the run is for autoencode with 10 features and 10 outputs"):
        model.evaluate(narrow)


def test_softmax_is_refused_before_anything_is_written(store, tmp_path):
    with pytest.raises(UsageError, match="an autoencoder has an output for each of its features"):
        run(store, tmp_path / "r", loss="softmax_cross_entropy")
    assert not (tmp_path / "r").exists()
