"""Explanations of runs: each cause is planted in a small run, and is found there and not in a sound run."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
from click.testing import CliRunner

from hfnumba import ledger, load_model
from hfnumba.checkpoint import write_checkpoint
from hfnumba.cli import main
from hfnumba.errors import CheckpointError
from hfnumba.ingest import write_store
from hfnumba.run import RunDirectory, train
from hfnumba.run.explain import explain
from tests.silent import Silent


def rows(n=600, seed=0):
    """Three classes of normal features of unit size that can be told apart."""
    rng = np.random.default_rng(seed)
    y = np.arange(n) % 3
    return (1.5 * rng.normal(size=(3, 10))[y] + rng.normal(size=(n, 10))).astype(np.float32), y


@pytest.fixture
def trained(tmp_path):
    """Trains on rows, a third of them for testing; returns the directory of the run."""

    def run(X, y, **given):
        n = len(X) // 3
        store = {"n_classes": 3} if y.ndim == 1 else {}
        write_store(tmp_path / "s.zarr", {"train": (X[n:], y[n:]), "test": (X[:n], y[:n])}, n_partitions=4, **store)
        settings = {"hidden": (8,), "max_iterations": 10, "threads": 1}
        train(tmp_path / "s.zarr", RunDirectory(tmp_path / "r"), settings | given, Silent())
        return tmp_path / "r"

    return run


def faults(path):
    return {finding.cause: finding.text for finding in explain(path) if not finding.good}


def test_a_sound_run_has_no_faults(trained):
    path = trained(*rows(), l2=0.01)
    assert faults(path) == {}
    found = {finding.cause: finding.text for finding in explain(path)}
    last = ledger.read(path / "ledger.jsonl")[-1]
    assert f"to {last['loss']:.4g}" in found["loss fell"] and "good model" in found and "generalises" in found


def test_a_small_curvature_sample(trained):
    found = faults(trained(*rows(), curvature_rows=4, hidden=(20,)))
    assert set(found) == {"curvature sample too small"} and "try --curvature-rows 16" in found.popitem()[1]


def test_unscaled_features_are_counted_and_named(trained):
    X, y = rows()
    X[:, 3] *= 1e4
    X[:, 7] += 100
    text = faults(trained(X, y))["unscaled features"]
    assert text.startswith("2 of 10 features") and "(number 3, number 7)" in text


def test_scaled_by_the_store_they_are_no_fault(trained, tmp_path):
    X, y = rows()
    write_store(tmp_path / "t.zarr", {"train": (X * 1e3, y)}, n_partitions=2, scale=1e-3)
    train(tmp_path / "t.zarr", RunDirectory(tmp_path / "t"), {"hidden": (8,), "threads": 1}, Silent())
    assert faults(tmp_path / "t") == {}


def test_dead_units_of_relu(trained):
    X, y = rows()
    text = faults(trained(X - 20, y, activation="relu", init="he"))["dead units"]
    assert text.startswith("8 of 8 relu units of hidden layer 1 are 0")


def test_dead_units_are_found_in_layers_of_relu_among_others(trained):
    X, y = rows()
    path = trained(X, y, hidden=(8, 20, 6), activation=("gelu", "relu", "tanh"), max_iterations=1)
    checkpoint = RunDirectory(path).newest()
    theta = checkpoint.tensors["theta"].copy()
    _, second, _, _ = load_model(path).network.layers(theta)
    # Nothing that comes out of the first layer reaches the units of the second.
    second.weights[:], second.biases[:] = 0, 1
    for n_dead in (0, 4):
        second.biases[:n_dead] = -1
        write_checkpoint(path / "checkpoints", replace(checkpoint, tensors=checkpoint.tensors | {"theta": theta}))
        found = faults(path).get("dead units", "")
        assert found.startswith("4 of 20 relu units of hidden layer 2 are 0") if n_dead else not found


def test_labels_that_are_constant(trained):
    X, y = rows()
    found = faults(trained(X, np.zeros_like(y)))
    assert set(found) == {"constant labels"} and "same class" in found["constant labels"]


def test_targets_that_are_constant(trained):
    X, _ = rows()
    assert "same target" in faults(trained(X, np.full((len(X), 1), 2.5, np.float32)))["constant labels"]


def test_an_autoencoder_has_no_labels(trained):
    X, _ = rows()
    path = trained(X, np.full((len(X), 1), 2.5, np.float32), task="autoencode")
    assert "constant labels" not in {finding.cause for finding in explain(path)}


def test_a_penalty_that_forbids_learning(trained):
    found = faults(trained(*rows(), l2=10.0))
    assert set(found) == {"l2 too large", "nothing learned"} and "--l2 10 has shrunk" in found["l2 too large"]


def test_overflow(trained):
    X, y = rows()
    text = faults(trained(X * 1e3, y, method="sgd", learning_rate=1e12))["overflow"]
    assert text.startswith("the loss grew from ") and "lower --learning-rate" in text


def test_a_loss_that_is_not_finite(trained):
    path = trained(*rows(), max_iterations=2)
    lines = ledger.read(path / "ledger.jsonl")
    ledger.write(path / "ledger.jsonl", [*lines[:-1], lines[-1] | {"loss": None}])
    assert faults(path)["overflow"].startswith("the loss was not finite in iteration 2")


def test_over_fitting(trained):
    X, _ = rows(450)
    labels = np.random.default_rng(1).integers(0, 3, 450)
    found = faults(trained(X, labels, hidden=(40,), max_iterations=25))
    assert set(found) == {"over-fitting"} and "the test loss was lowest in iteration " in found["over-fitting"]


def test_with_validation_rows_the_best_iteration_counts(trained):
    path = trained(*rows(), validation_fraction=0.2, max_iterations=4)
    lines = ledger.read(path / "ledger.jsonl")
    for unseen in (0.15, 0.4):
        changed = [
            line
            | {"loss": 1 / (k + 1), "error": 0.1 if k else 0.9, "best_iteration": min(k, 1)}
            | {"validation_loss": loss, "validation_error": unseen if k else 0.9}
            for k, (line, loss) in enumerate(zip(lines, (1.0, 0.3, 0.5, 0.6, 0.7), strict=True))
        ]
        ledger.write(path / "ledger.jsonl", changed)
        found = {finding.cause: finding for finding in explain(path)}
        course = "the validation loss was lowest in iteration 1 (0.3) and ends at 0.7"
        if unseen == 0.15:
            assert found["best iteration kept"].good and "over-fitting" not in found
            assert found["best iteration kept"].text == f"{course}: predictions use iteration 1"
        else:
            shares = "the errors of iteration 1 are 10.00% in training and 40.00% there"
            assert found["over-fitting"].text.startswith(f"{course}; {shares}")
        assert "still falling" not in found, "the loss over the training rows is not what counts"


def test_without_its_store_a_run_is_explained_from_its_ledger(trained, tmp_path):
    path = trained(*rows(), l2=10.0)
    shutil.rmtree(tmp_path / "s.zarr")
    assert set(faults(path)) == {"l2 too large"}


def test_what_cannot_be_explained_is_refused(tmp_path):
    with pytest.raises(CheckpointError):
        explain(tmp_path)


def test_the_command(trained):
    path = trained(*rows(), l2=10.0)
    plain = CliRunner().invoke(main, ["explain", str(path)])
    assert plain.exit_code == 0 and "! l2 too large: the penalty" in plain.stdout and "+ loss fell: " in plain.stdout
    found = json.loads(CliRunner().invoke(main, ["explain", str(path), "--json"]).stdout)
    assert [finding["text"] for finding in found] == [finding.text for finding in explain(path)]
    assert CliRunner().invoke(main, ["explain", str(path.parent)]).exit_code == 1
