"""Spectra of runs: against SciPy on the same operator, along a run, and in another process of a cluster."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse.linalg as sla
from click.testing import CliRunner

import hfnumba as hf
from hfnumba.cli import main
from hfnumba.errors import DataError, NumericalError, UsageError
from hfnumba.run import RunDirectory, train
from hfnumba.run.spectrum import MATRICES, SpectrumSettings, run_spectra
from tests.silent import Silent
from tests.tables import cells
from tests.toy_store import write_toy_store


@pytest.fixture(scope="module")
def toy(tmp_path_factory):
    folder = tmp_path_factory.mktemp("spectrum")
    store = write_toy_store(folder / "toy.zarr")
    given = {"hidden": [5], "max_iterations": 4, "l2": 0.01, "seed": 3, "class_weights": [1.0, 2, 3]}
    train(store, RunDirectory(folder / "run"), given, Silent())
    return folder / "run", store


def hf_cli(*words):
    return CliRunner().invoke(main, [str(word) for word in words])


@pytest.mark.parametrize("matrix", MATRICES)
def test_of_the_command_and_of_scipy(toy, matrix, tmp_path):
    run, store = toy
    result = hf_cli("spectrum", run, store, "--matrix", matrix, "--extreme", 3, "--json", "-o", tmp_path / "s.png")
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)["spectra"][0]
    model, split = hf.load_model(run), hf.open_store(store)["train"]
    with hf.SplitObjective(model.network, split, l2=0.01, class_weights=[1, 2, 3]) as objective:
        H = getattr(objective.linearize(model.theta), MATRICES[matrix])()
        expected = sla.eigsh(H.to_scipy(), 3, which="LA")[0][::-1]
        lowest = sla.eigsh(H.to_scipy(), 3, which="SA")[0]
    scale = abs(expected).max()
    np.testing.assert_allclose([one["value"] for one in found["highest"]], expected, atol=1e-4 * scale)
    np.testing.assert_allclose([one["value"] for one in found["lowest"]], lowest, atol=1e-4 * scale)
    assert found["iteration"] == 4 and (tmp_path / "s.png").stat().st_size > 10_000


def test_the_products_are_counted_as_they_come(toy):
    reporter = Silent()
    ((_, found),) = run_spectra(*toy, SpectrumSettings(steps=12, probes=3), reporter)
    name, calls = reporter.steps[-1]
    assert name == "Computing the spectrum" and calls == [(3 * k, 36, "products") for k in range(1, 13)]
    assert found.n_matvec == 36


def test_along_a_run(toy, tmp_path):
    run, store = toy
    result = hf_cli("spectrum", run, store, "--every", 3, "--steps", 12, "-o", tmp_path / "s.svg")
    assert result.exit_code == 0, result.output
    lines = [cells(line) for line in result.stdout.splitlines()]
    assert [line[0] for line in lines] == ["iteration", "0", "3", "4"] and (tmp_path / "s.svg").exists()
    # The last one is that of the checkpoint.
    (_, last), *_ = run_spectra(run, store, SpectrumSettings(steps=12))
    assert lines[-1][2] == f"{last.highest[0].value:.4g}"


def test_of_a_run_with_held_out_rows_it_is_that_of_the_others(toy, tmp_path):
    _, store = toy
    given = {"hidden": [5], "max_iterations": 3, "seed": 3, "validation_fraction": 0.3}
    train(store, RunDirectory(tmp_path / "run"), given, Silent())
    along = dict(run_spectra(tmp_path / "run", store, SpectrumSettings(every=1, steps=12)))
    newest = RunDirectory(tmp_path / "run").newest().iteration
    assert list(along) == list(range(hf.load_model(tmp_path / "run").iteration + 1))
    ((iteration, best),) = run_spectra(tmp_path / "run", store, SpectrumSettings(steps=12))
    assert best.highest[0].value == along[iteration].highest[0].value
    along = dict(run_spectra(tmp_path / "run", store, SpectrumSettings(checkpoint="newest", every=2, steps=12)))
    assert (list(along), newest) == ([0, 2, 3], 3)


def test_a_run_that_cannot_be_computed_again_is_refused(toy, tmp_path, monkeypatch):
    run, store = toy
    other = write_toy_store(tmp_path / "other.zarr", seed=1)
    with pytest.raises(DataError, match=r"is not the store that .* was trained on"):
        list(run_spectra(run, other, SpectrumSettings(every=1)))
    with pytest.raises(UsageError, match="those of the split 'train', got 'test'"):
        list(run_spectra(run, store, SpectrumSettings(every=1, split="test")))
    with pytest.raises(UsageError, match="1 to 2 extreme eigenvalues for 4 steps, got 5"):
        list(run_spectra(run, store, SpectrumSettings(steps=4)))
    initialize = hf.Network.initialize
    monkeypatch.setattr(hf.Network, "initialize", lambda self, seed, scheme: initialize(self, seed + 1, scheme))
    with pytest.raises(NumericalError, match="does not lead to its checkpoint"):
        list(run_spectra(run, store, SpectrumSettings(every=4, steps=10)))


def test_wrong_use(toy):
    assert "end in .png, .svg, .pdf, got x.gif" in hf_cli("spectrum", *toy, "-o", "x.gif").output
    assert "has no split 'dev'" in hf_cli("spectrum", *toy, "--split", "dev").output


@pytest.mark.slow
@pytest.mark.skipif("HFNUMBA_DATA" not in os.environ, reason="HFNUMBA_DATA is not set")
def test_mnist_on_two_workers_agrees_with_scipy(tmp_path):
    source = Path(os.environ["HFNUMBA_DATA"]) / "mnist"
    store, run = tmp_path / "mnist.zarr", tmp_path / "run"
    assert hf_cli("data", "build", "mnist", "--source", source, "--out", store).exit_code == 0
    assert hf_cli("train", store, "--hidden", "12", "--max-iterations", 3, "--run", run).exit_code == 0
    result = hf_cli("spectrum", run, store, "--cluster", "local:2", "--rows", 2000, "--extreme", 3, "--json")
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)["spectra"][0]
    model = hf.load_model(run)
    with hf.SplitObjective(model.network, hf.open_store(store)["train"]) as objective:
        H = objective.linearize(model.theta, 2000).hessian().to_scipy()
        highest, lowest = sla.eigsh(H, 3, which="LA")[0][::-1], sla.eigsh(H, 3, which="SA")[0]
    np.testing.assert_allclose([one["value"] for one in found["highest"]], highest, rtol=1e-3)
    np.testing.assert_allclose([one["value"] for one in found["lowest"]], lowest, rtol=1e-3)
