"""Early stopping, the best checkpoint and validation splits by the command line."""

import json

import numpy as np
import pytest

from hfnumba import ledger, load_model
from tests.cli.test_commands import hf
from tests.tables import cells


@pytest.fixture(scope="module")
def stopped(toy_store, tmp_path_factory):
    """A run that early stopping ended, and what it printed."""
    path = tmp_path_factory.mktemp("runs") / "stopped"
    given = ["--hidden", 20, "--early-stopping", "--patience", 2, "--threads", 1]
    result = hf("train", toy_store, *given, "--run", path)
    assert result.exit_code == 0, result.output
    return path, result


def test_a_run_names_the_best_iteration(stopped):
    path, result = stopped
    lines = ledger.read(path / "ledger.jsonl")
    best = int(np.argmin([line["validation_loss"] for line in lines]))
    assert len(lines) == best + 3
    assert "Finished: the validation loss no longer improves.\n" in result.stderr
    assert f"Predictions use iteration {best}, which has the lowest validation loss.\n" in result.stderr
    last = next(line for line in result.stderr.splitlines() if line.startswith(f"iteration {best + 2},"))
    assert f", validation loss {lines[-1]['validation_loss']:.4g} (best in iteration {best}), test error" in last
    printed = list(map(cells, result.stderr.splitlines()))
    begin = printed.index(["start", "best validation loss", "end"])
    table = {row[0]: row[1:] for row in printed[begin + 1 :] if len(row) == 4}
    assert table["iteration"] == ["0", str(best), str(best + 2)]
    assert table["validation loss"][1] == f"{lines[best]['validation_loss']:.4g}"


def test_a_run_without_validation_rows_names_no_best(toy_store, tmp_path):
    result = hf("train", toy_store, "--hidden", 3, "--max-iterations", 2, "--threads", 1, "--run", tmp_path / "r")
    assert "best" not in result.stderr
    assert "validation loss" not in result.stderr


def test_the_best_or_the_newest_is_evaluated_and_predicts(toy_store, stopped, tmp_path):
    path, _ = stopped
    lines = ledger.read(path / "ledger.jsonl")
    np.save(tmp_path / "x.npy", np.random.default_rng(0).normal(size=(4, 8)))
    for word, line in ((None, lines[-3]), ("best", lines[-3]), ("newest", lines[-1])):
        options = [] if word is None else ["--checkpoint", word]
        found = json.loads(hf("evaluate", path, toy_store, "--json", *options).stdout)
        assert (found["iteration"], found["loss"]) == (line["iteration"], line["test_loss"])
    outputs = [hf("predict", path, tmp_path / "x.npy", *options).stdout for options in ([], ["--checkpoint", "newest"])]
    assert outputs[0] != outputs[1]


def test_the_best_or_the_newest_is_exported_explained_and_has_a_spectrum(toy_store, stopped, tmp_path):
    path, _ = stopped
    for word, model in (("best", load_model(path)), ("newest", load_model(path, "newest"))):
        options = ["--checkpoint", word]
        assert hf("export", path, "--to", "npz", "-o", tmp_path / "n.npz", *options).exit_code == 0
        with np.load(tmp_path / "n.npz") as arrays:
            np.testing.assert_array_equal(arrays["b1"], next(model.network.layers(model.theta)).biases)
        spectrum = hf("spectrum", path, toy_store, "--json", "--probes", 2, "--steps", 6, "--extreme", 1, *options)
        assert json.loads(spectrum.stdout)["spectra"][0]["iteration"] == model.iteration
        seen = []
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(
                "hfnumba.run.explain.sample_facts", lambda _record, _network, theta, seen=seen: seen.append(theta)
            )
            assert hf("explain", path, *options).exit_code == 0
        np.testing.assert_array_equal(seen[0], model.theta)


def test_a_store_is_built_with_validation_rows(tmp_path):
    result = hf("data", "build", "digits", "--out", tmp_path / "d.zarr", "--validation", 0.1)
    assert "is complete: 1293 train, 144 validation, 360 test rows" in result.stderr
    result = hf("data", "build", "digits", "--out", tmp_path / "e.zarr", "--validation", 1)
    assert result.exit_code == 2
    assert "1.0 is not in the range 0<x<1" in result.stderr
    assert hf("data", "init", "digits", "--out", tmp_path / "f.zarr", "--validation", 0.1).exit_code == 0
