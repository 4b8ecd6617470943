"""RMSE and R² of runs, and standardised targets, against scikit-learn and plain NumPy."""

import json

import msgspec
import numpy as np
import pytest
from click.testing import CliRunner
from sklearn.metrics import mean_squared_error, r2_score, root_mean_squared_error

from hfnumba import ledger
from hfnumba.cli import main
from hfnumba.errors import CheckpointError, UsageError
from hfnumba.ingest import write_store
from hfnumba.run import RunDirectory, train
from hfnumba.run.ending import Ending
from hfnumba.run.model import load_model
from hfnumba.store import open_store
from hfnumba.store.standardise import Standardisation
from tests.silent import Silent
from tests.tables import cells


def houses(n=600, n_targets=1, seed=0):
    """Linear targets far from zero with large and unequal deviations, and noise."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, 5)).astype(np.float32)
    y = X @ rng.normal(size=(5, n_targets)) + 0.3 * rng.normal(size=(n, n_targets))
    return X, (y * [90_000.0, 3.0, 0.02][:n_targets] + [400_000.0, -50.0, 7.0][:n_targets]).astype(np.float32)


def stored(folder, n_targets=1, standardise=True, **more):
    X, y = houses(n_targets=n_targets)
    splits = {"train": (X[:450], y[:450]), "test": (X[450:], y[450:])}
    return write_store(folder / "houses.zarr", splits, standardise=standardise, n_partitions=3, **more), splits


def run(store, path, **given):
    return train(store.path, RunDirectory(path), {"hidden": [8], "max_iterations": 6} | given, Silent())


@pytest.mark.parametrize("standardise", [True, False])
def test_rmse_and_r2_are_those_of_scikit_learn(tmp_path, standardise):
    store, splits = stored(tmp_path, standardise=standardise)
    line = run(store, tmp_path / "run").lines[-1]
    model = load_model(tmp_path / "run")
    for beginning, (X, y) in (("", splits["train"]), ("test_", splits["test"])):
        p = model.predict(X).astype(np.float64)
        assert line[f"{beginning}rmse"] == pytest.approx(root_mean_squared_error(y, p), rel=1e-5)
        assert line[f"{beginning}r2"] == pytest.approx(r2_score(y, p), abs=1e-5)
    measured = model.measure(store["test"])
    assert (measured.rmse, measured.r2) == pytest.approx((line["test_rmse"], line["test_r2"]), rel=1e-6)
    assert (measured.error, len(measured.targets)) == (None, 1)
    if standardise:
        assert line["test_r2"] > 0.9
        # The network is trained on targets of mean 0 and deviation 1.
        y = np.concatenate([store["train"].load(j)[1] for j in range(3)])
        np.testing.assert_allclose([y.mean(), y.std()], [0, 1], atol=1e-5)
        assert line["error"] == pytest.approx(1 - line["r2"], rel=1e-5)


@pytest.mark.parametrize("loss", ["squared_error", "sigmoid_cross_entropy"])
def test_each_of_several_targets_is_measured_in_its_own_unit(tmp_path, loss):
    store, splits = stored(tmp_path, 3)
    if loss != "squared_error":
        splits = {name: (X, (y > y.mean(axis=0)).astype(np.float32)) for name, (X, y) in splits.items()}
        store = write_store(tmp_path / "shares.zarr", splits, standardise=True, n_partitions=3)
    reporter = Silent()
    given = {"hidden": [8], "max_iterations": 6, "loss": loss}
    line = train(store.path, RunDirectory(tmp_path / "run"), given, reporter).lines[-1]
    note = "RMSE and R² are over all 3 targets, in units of their deviations; hfnumba evaluate has those of each target"
    assert (note in reporter.notes) == (loss == "squared_error")
    model = load_model(tmp_path / "run")
    X, y = splits["test"]
    p = model.predict(X).astype(np.float64)
    measured = model.measure(store["test"])
    assert [t.rmse for t in measured.targets] == pytest.approx(
        root_mean_squared_error(y, p, multioutput="raw_values"), rel=1e-5
    )
    assert [t.r2 for t in measured.targets] == pytest.approx(r2_score(y, p, multioutput="raw_values"), abs=1e-5)
    # Probabilities have both.
    expected_error = None if loss == "squared_error" else ((p > 0.5) != (y > 0.5)).mean()
    assert measured.error == (None if expected_error is None else pytest.approx(expected_error))
    s = splits["train"][1].std(axis=0, dtype=np.float64) if loss == "squared_error" else np.ones(3)
    assert measured.rmse == pytest.approx(np.sqrt(mean_squared_error(y / s, p / s)), rel=1e-5)
    assert measured.r2 == pytest.approx(r2_score(y / s, p / s, multioutput="variance_weighted"), abs=1e-5)
    assert ("test_rmse" in line) == (loss == "squared_error")
    assert line["test_error"] == pytest.approx(measured.rmse**2 if loss == "squared_error" else expected_error)


def test_rows_of_weight_zero_do_not_count(tmp_path):
    X, y = houses()
    weights = np.arange(len(X)) % 3
    store = write_store(tmp_path / "w.zarr", {"train": (X, y, weights)}, standardise=True, n_partitions=2)
    line = run(store, tmp_path / "run").lines[-1]
    p, taken = load_model(tmp_path / "run").predict(X).astype(np.float64), weights > 0
    assert line["rmse"] == pytest.approx(root_mean_squared_error(y[taken], p[taken]), rel=1e-5)
    assert line["r2"] == pytest.approx(r2_score(y[taken], p[taken]), abs=1e-5)


def test_indicators_of_classes_have_an_r2(tmp_path):
    X, y = houses()
    labels = np.digitize(y[:, 0], [300_000, 500_000])
    store = write_store(tmp_path / "c.zarr", {"train": (X, labels)}, n_partitions=2)
    line = run(store, tmp_path / "run", loss="squared_error").lines[-1]
    p, targets = load_model(tmp_path / "run").predict(X).astype(np.float64), np.eye(3)[labels]
    assert line["r2"] == pytest.approx(r2_score(targets, p, multioutput="variance_weighted"), abs=1e-5)
    measured = load_model(tmp_path / "run").measure(store["train"])
    assert [t.r2 for t in measured.targets] == pytest.approx(r2_score(targets, p, multioutput="raw_values"), abs=1e-5)


def test_a_target_that_never_changes_has_no_r2(tmp_path):
    X, _ = houses()
    store = write_store(tmp_path / "c.zarr", {"train": (X, np.full(len(X), 5.0))}, standardise=True, n_partitions=2)
    line = run(store, tmp_path / "run").lines[-1]
    assert line["r2"] is None
    assert line["rmse"] < 1
    assert load_model(tmp_path / "run").predict(X).mean() == pytest.approx(5, abs=0.5)


def test_another_store_is_measured_with_the_runs_numbers(tmp_path):
    store, _ = stored(tmp_path)
    run(store, tmp_path / "run")
    X, y = houses(seed=0)
    other = write_store(tmp_path / "o.zarr", {"train": (X[:200], y[:200])}, standardise=True, n_partitions=2)
    model = load_model(tmp_path / "run")
    measured, p = model.measure(other["train"]), model.predict(X[:200]).astype(np.float64)
    assert measured.rmse == pytest.approx(root_mean_squared_error(y[:200], p), rel=1e-5)
    assert measured.r2 == pytest.approx(r2_score(y[:200], p), abs=1e-5)
    assert model.evaluate(other["train"]) == (measured.loss, pytest.approx(2 * measured.loss, rel=1e-6))


def test_a_run_ends_at_a_target_rmse_and_is_resumed_below_it(tmp_path):
    store, _ = stored(tmp_path)
    whole = run(store, tmp_path / "whole").lines
    given = {"target_rmse": whole[3]["rmse"]}
    outcome = run(store, tmp_path / "run", **given)
    assert (outcome.ending, len(outcome.lines)) == (Ending.TARGET_RMSE, 4)
    again = train(store.path, RunDirectory(tmp_path / "run"), given, Silent(), resume=True)
    assert (again.ending, len(again.lines)) == (Ending.TARGET_RMSE, 4)
    further = train(store.path, RunDirectory(tmp_path / "run"), {"target_rmse": 0.0}, Silent(), resume=True)
    assert [line["rmse"] for line in further.lines] == [line["rmse"] for line in whole]


def test_targets_of_a_measure_that_the_loss_does_not_have_are_refused(tmp_path):
    store, _ = stored(tmp_path)
    with pytest.raises(UsageError, match=r"--target-error is not for .* whose measure is RMSE; give --target-rmse"):
        run(store, tmp_path / "run", target_error=0.1)
    labels = write_store(tmp_path / "l.zarr", {"train": (houses()[0], np.arange(600) % 2)}, n_partitions=2)
    with pytest.raises(UsageError, match=r"--target-rmse is not for .*, whose measure is error; give --target-error"):
        run(labels, tmp_path / "run", target_rmse=0.1)
    assert not (tmp_path / "run").exists()


def hf(*arguments):
    return CliRunner().invoke(main, list(map(str, arguments)))


def test_the_command_line_shows_rmse_and_r2(tmp_path):
    store, _ = stored(tmp_path)
    result = hf("train", store.path, "--hidden", 8, "--max-iterations", 2, "--run", tmp_path / "run")
    last = ledger.read(tmp_path / "run" / "ledger.jsonl")[-1]
    shown = f"RMSE {last['rmse']:.0f}, R² {last['r2']:.4f}, test RMSE {last['test_rmse']:.0f}"
    assert shown in result.stderr
    assert "%" not in result.output
    header, row = map(cells, hf("evaluate", tmp_path / "run", store.path).stdout.splitlines())
    assert header[3:] == ["loss", "RMSE", "R²"]
    assert row[4:] == [f"{last['test_rmse']:.0f}", f"{last['test_r2']:.4f}"]
    found = json.loads(hf("evaluate", tmp_path / "run", store.path, "--json").stdout)
    assert {"loss", "rmse", "r2"} <= found.keys()
    assert "error" not in found
    assert "RMSE" in hf("runs", tmp_path).stdout


def test_a_run_of_an_earlier_version_shows_the_rmse(tmp_path):
    store, _ = stored(tmp_path, standardise=False)
    lines = run(store, tmp_path / "run").lines
    old = [{key: value for key, value in line.items() if not key.endswith(("rmse", "r2"))} for line in lines]
    ledger.write(tmp_path / "run" / "ledger.jsonl", old)
    listed = cells(hf("runs", tmp_path).stdout.splitlines()[1])
    assert listed[7:] == [f"RMSE {lines[-1]['rmse']:.0f}, R² –", f"RMSE {lines[-1]['test_rmse']:.0f}, R² –"]


def test_a_damaged_record_of_targets_is_refused(tmp_path):
    store, _ = stored(tmp_path)
    run(store, tmp_path / "run")
    config = tmp_path / "run" / "config.toml"
    text = config.read_text()
    assert "target_deviation" in text
    start = text.index("target_deviation")
    config.write_text(text[:start] + text[text.index("\n", start) + 1 :])
    with pytest.raises(CheckpointError, match=r"config\.toml"):
        load_model(tmp_path / "run")


def test_stores_of_earlier_versions_keep_their_targets(tmp_path):
    store, splits = stored(tmp_path, standardise=False)
    assert "target_standardisation" not in (store.path / "manifest.json").read_text()
    y = np.concatenate([open_store(store.path)["train"].load(j)[1] for j in range(3)])
    assert sorted(y[:, 0].tolist()) == sorted(splits["train"][1][:, 0].tolist())


def test_a_manifest_with_numbers_for_other_targets_is_refused(tmp_path):
    header = stored(tmp_path)[0].manifest.header
    for scaled in (Standardisation((0.0, 0.0), (1.0, 1.0)), Standardisation((0.0,), (1.0,), (5.0,))):
        with pytest.raises(ValueError, match="a mean and a deviation for every target"):
            msgspec.structs.replace(header, target_standardisation=scaled)


def test_lines_of_an_earlier_version_have_their_measures_after_a_resume(tmp_path):
    store, _ = stored(tmp_path)
    first = run(store, tmp_path / "run", max_iterations=2).lines[0]
    path = tmp_path / "run" / "ledger.jsonl"
    start, *others = ledger.read(path)
    # It wrote neither RMSE nor R².
    earlier = {name: value for name, value in start.items() if not name.endswith(("rmse", "r2"))}
    ledger.write(path, [earlier, *others])
    outcome = train(store.path, RunDirectory(tmp_path / "run"), {"max_iterations": 3}, Silent(), resume=True)
    assert len(outcome.lines) == 4 and outcome.lines[0] == first
    assert ledger.read(path)[0] == earlier
