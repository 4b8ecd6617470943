"""Weights in runs: what a run with class weights records, resumes and evaluates, and what the flag takes."""

import numpy as np
import pytest
from click.testing import CliRunner

from hfnumba import ledger
from hfnumba.cli import main
from hfnumba.engine import SplitObjective
from hfnumba.errors import CheckpointError, UsageError
from hfnumba.ingest import write_store
from hfnumba.run import RunDirectory, train
from hfnumba.run.config import settings_from
from hfnumba.run.model import load_model
from hfnumba.store import open_store
from hfnumba.store.class_weights import balanced
from tests.run.test_training import BASE, Silent, comparable

GIVEN = {**BASE, "class_weights": "balanced", "l2": 0.01}


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """Classes of unequal size and rows of unequal weight, in both splits."""
    rng = np.random.default_rng(0)
    y = rng.choice(3, 240, p=[0.7, 0.2, 0.1])
    X = (rng.normal(size=(3, 8))[y] + rng.normal(size=(240, 8))).astype(np.float32)
    weights = rng.uniform(0, 3, 240)
    splits = {"train": (X[:180], y[:180], weights[:180]), "test": (X[180:], y[180:], weights[180:])}
    path = tmp_path_factory.mktemp("store") / "s.zarr"
    write_store(path, splits, n_partitions=4)
    return path


@pytest.fixture(scope="module")
def straight(store, tmp_path_factory):
    path = tmp_path_factory.mktemp("run") / "straight"
    train(store, RunDirectory(path), GIVEN, Silent())
    return path


def test_the_run_minimises_the_weighted_loss(store, straight):
    record = RunDirectory(straight).record()
    assert record.settings.class_weights == "balanced"
    assert record.store.class_weights == balanced(open_store(store)["train"])
    lines, model = ledger.read(straight / "ledger.jsonl"), load_model(straight)
    assert lines[-1]["loss"] < lines[0]["loss"]
    for split, prefix in (("train", ""), ("test", "test_")):
        rows = open_store(store)[split]
        assert model.evaluate(rows) == (lines[-1][f"{prefix}loss"], lines[-1][f"{prefix}error"])
        # The classes of the training rows weigh in the test as well.
        with SplitObjective(model.network, rows, l2=0.01, class_weights=record.store.class_weights) as f:
            assert f.value(model.theta) == lines[-1][f"{prefix}loss"]


def test_numbers_are_the_weights_they_stand_for(store, straight, tmp_path):
    numbers = balanced(open_store(store)["train"])
    train(store, RunDirectory(tmp_path / "r"), GIVEN | {"class_weights": numbers}, Silent())
    runs = [comparable(ledger.read(path / "ledger.jsonl")) for path in (straight, tmp_path / "r")]
    assert runs[0] == runs[1]


def test_resuming_goes_on_with_the_same_weights_and_takes_no_others(store, straight, tmp_path):
    directory = RunDirectory(tmp_path / "r")
    train(store, directory, GIVEN | {"max_iterations": 1}, Silent())
    for other in ((1.0, 2.0, 3.0), None):
        given = {"class_weights": other} if other else {}
        if other:
            with pytest.raises(CheckpointError, match="class_weights was 'balanced', not"):
                train(store, directory, given, Silent(), resume=True)
    train(store, directory, {"max_iterations": 3}, Silent(), resume=True)
    runs = [comparable(ledger.read(path / "ledger.jsonl")) for path in (straight, directory.path)]
    assert runs[0] == runs[1]


@pytest.mark.parametrize(
    ("weights", "complaint"),
    [
        ((1.0, 2.0), "expected a weight for each of the 3 classes, got 2"),
        ((0.0, 0.0, 0.0), "all 3 weights are 0; at least one class needs a weight"),
        ("balancd", r"setting class_weights: .*'balancd'"),
        ((1.0, -1.0, 1.0), r"setting class_weights\[1\]: expected a number of at least 0, got -1.0"),
    ],
)
def test_mistakes(store, tmp_path, weights, complaint):
    with pytest.raises(UsageError, match=complaint):
        train(store, RunDirectory(tmp_path / "r"), GIVEN | {"class_weights": weights}, Silent())
    assert not (tmp_path / "r").exists()


def test_regression_has_no_classes(tmp_path):
    path = tmp_path / "s.zarr"
    write_store(path, {"train": (np.zeros((6, 2), np.float32), np.arange(6.0))})
    for weights in ("balanced", (1.0,)):
        with pytest.raises(UsageError, match=r"class weights need classes, but .* is for regression"):
            train(path, RunDirectory(tmp_path / "r"), GIVEN | {"class_weights": weights}, Silent())


def test_the_flag(store, straight, tmp_path):
    def hf(*arguments):
        return CliRunner().invoke(main, [str(argument) for argument in ("train", store, *arguments)])

    (tmp_path / "w.txt").write_text("\n".join(map(repr, balanced(open_store(store)["train"]))))
    common = ("--hidden", 6, "--max-iterations", 3, "--seed", 1, "--threads", 1, "--l2", 0.01)
    result = hf(*common, "--class-weights", tmp_path / "w.txt", "--run", tmp_path / "r")
    assert result.exit_code == 0, result.output
    runs = [comparable(ledger.read(path / "ledger.jsonl")) for path in (straight, tmp_path / "r")]
    assert runs[0] == runs[1]
    (tmp_path / "w.txt").write_text("heavy\n")
    for value in (tmp_path / "w.txt", tmp_path / "none.txt", "1,x"):
        result = hf(*common, "--class-weights", value)
        assert result.exit_code == 2 and "expected balanced, numbers separated by commas, or a file" in result.stderr


def test_settings_of_toml_may_be_lists():
    assert settings_from({"hidden": [3], "class_weights": [1, 2.5]}).class_weights == (1.0, 2.5)


def test_memory_is_divided_with_the_weights(tmp_path):
    """Of narrow rows the weights take a large share."""
    rng = np.random.default_rng(0)
    splits = {
        name: (rng.standard_normal((n, 2)), rng.integers(0, 2, n)) for name, n in (("train", 9000), ("test", 64_000))
    }
    narrow = write_store(tmp_path / "narrow.zarr", splits, n_partitions=16)
    given = BASE | {"memory": "1GiB", "threads": 16, "class_weights": "balanced", "max_iterations": 1, "hidden": (4,)}
    train(narrow.path, RunDirectory(tmp_path / "run"), given, Silent())
