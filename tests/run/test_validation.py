"""Validation rows of a run: what they choose, when they end it, and how it continues."""

import itertools
import json
import shutil

import numpy as np
import pytest

from hfnumba import ledger
from hfnumba.checkpoint import iterations, newest_checkpoint, read_checkpoint, write_checkpoint
from hfnumba.engine import SplitObjective
from hfnumba.errors import CheckpointError, NumericalError, UsageError
from hfnumba.ingest import write_store
from hfnumba.run import RunDirectory, train
from hfnumba.run.ending import Ending
from hfnumba.run.loop import Loop
from hfnumba.run.model import load_model
from hfnumba.run.validation import rows_of_run
from hfnumba.store import open_store
from tests.run.test_training import comparable, theta
from tests.silent import Silent

BASE = {"hidden": (7,), "max_iterations": 12, "seed": 1, "threads": 1}
METHODS = {
    "hf-bicgstab": {"preconditioner": "none"},
    "adam": {"batch_rows": 16, "learning_rate": 0.05},
    "kfac": {"batch_rows": 16, "record_every": 3},
}


def toy(path, names=("train", "validation", "test"), task="classification"):
    """Noisy rows, which are soon fitted too closely."""
    rng = np.random.default_rng(5)
    X = rng.normal(size=(300, 6)).astype(np.float32)
    y = (X[:, 0] + rng.normal(size=300) > 0).astype(int)
    if task == "regression":
        y = (X[:, :1] + rng.normal(size=(300, 1))).astype(np.float32)
    places = {"train": slice(100), "validation": slice(100, 200), "test": slice(200, 300)}
    write_store(path, {name: (X[places[name]], y[places[name]]) for name in names}, n_partitions=4)
    return path


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return toy(tmp_path_factory.mktemp("validation") / "three.zarr")


@pytest.fixture(scope="module")
def without(tmp_path_factory):
    return toy(tmp_path_factory.mktemp("validation") / "two.zarr", ("train", "test"))


def run(store, path, *, resume=False, **given):
    return train(store, RunDirectory(path), BASE | given, Silent(), resume=resume)


def resumed(store, path, **given):
    return train(store, RunDirectory(path), given, Silent(), resume=True)


def files(path):
    return {file.relative_to(path): file.read_bytes() for file in path.rglob("*.safetensors")}


@pytest.fixture(scope="module")
def straight(store, tmp_path_factory):
    """A run with validation rows that nothing ends early."""
    path = tmp_path_factory.mktemp("validation") / "straight"
    run(store, path)
    return path


def losses(path):
    return [line["validation_loss"] for line in ledger.read(path / "ledger.jsonl")]


def test_the_best_iteration_is_kept_beside_the_newest(straight):
    found = losses(straight)
    best = int(np.argmin(found))
    # The rows are fitted too closely, or this tests nothing.
    assert 0 < best < len(found) - 3
    named = [line["best_iteration"] for line in ledger.read(straight / "ledger.jsonl")]
    assert named == [int(np.argmin(found[:n])) for n in range(1, 14)]
    assert load_model(straight).iteration == best
    assert load_model(straight, "newest").iteration == 12
    assert iterations(straight / "checkpoints") == [11, 12]
    assert iterations(straight / "checkpoints" / "best")[-1] == best
    assert len(iterations(straight / "checkpoints" / "best")) == 2


def test_the_validation_loss_is_that_of_the_split_without_the_penalty(store, tmp_path):
    run(store, tmp_path / "r", l2=0.1, max_iterations=2)
    model, split = load_model(tmp_path / "r"), open_store(store)["validation"]
    line = ledger.read(tmp_path / "r" / "ledger.jsonl")[model.iteration]
    with SplitObjective(model.network, split) as f:
        assert f.value_and_error(model.theta) == (line["validation_loss"], line["validation_error"])
    # What `evaluate` prints has the penalty.
    assert model.evaluate(split)[0] > line["validation_loss"]
    assert model.evaluate(split)[1] == line["validation_error"]


def test_validation_rows_do_not_change_the_steps(store, without, straight, tmp_path):
    run(without, tmp_path / "r")
    assert theta(tmp_path / "r") == theta(straight)
    added = {"validation_loss": None, "validation_error": None, "best_iteration": None, "store_digest": None}
    plain, beside = (comparable(ledger.read(path / "ledger.jsonl")) for path in (tmp_path / "r", straight))
    assert [line | added for line in plain] == [line | added for line in beside]
    assert not (tmp_path / "r" / "checkpoints" / "best").exists()
    assert load_model(tmp_path / "r").iteration == 12


def test_a_run_ends_patience_iterations_after_its_best(store, straight, tmp_path):
    outcome = run(store, tmp_path / "r", early_stopping=True, patience=3, min_improvement=0.0)
    best = int(np.argmin(losses(straight)))
    assert outcome.ending is Ending.VALIDATION
    assert losses(tmp_path / "r") == losses(straight)[: best + 4]
    assert load_model(tmp_path / "r").iteration == best
    again = resumed(store, tmp_path / "r")
    assert (again.ending, len(again.lines)) == (Ending.VALIDATION, best + 4)
    assert resumed(store, tmp_path / "r", patience=4).lines[-1]["iteration"] == best + 4
    assert resumed(store, tmp_path / "r", early_stopping=False).ending is Ending.ITERATIONS
    assert comparable(ledger.read(tmp_path / "r" / "ledger.jsonl")) == comparable(
        ledger.read(straight / "ledger.jsonl")
    )
    assert files(tmp_path / "r") == files(straight)


@pytest.mark.bits
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("fraction", [None, 0.3])
def test_a_run_that_is_interrupted_anywhere_chooses_and_ends_the_same(
    store, without, tmp_path, monkeypatch, method, fraction
):
    """Also between the steps of an iteration, where the newest checkpoint is no longer that of its ledger line."""
    data = store if fraction is None else without
    settings = METHODS[method] | {"method": method, "early_stopping": True, "patience": 2, "hidden": (7,), "seed": 2}
    settings |= {} if fraction is None else {"validation_fraction": fraction}
    whole = run(data, tmp_path / "whole", **settings)
    with monkeypatch.context() as patched:
        for turn in itertools.count():
            assert turn < 100
            calls = itertools.count()
            patched.setattr(Loop, "_interrupted", lambda *_, c=calls: Ending.SIGNAL if next(c) >= 1 else None)
            outcome = run(data, tmp_path / "r", **settings) if turn == 0 else resumed(data, tmp_path / "r")
            if outcome.ending is not Ending.SIGNAL:
                break
    assert turn > 1
    assert outcome.ending is whole.ending
    assert comparable(outcome.lines) == comparable(whole.lines)
    assert theta(tmp_path / "r") == theta(tmp_path / "whole")
    assert files(tmp_path / "r" / "checkpoints" / "best") == files(tmp_path / "whole" / "checkpoints" / "best")
    found = [line["validation_loss"] for line in whole.lines]
    model = load_model(tmp_path / "r")
    assert model.iteration == int(np.argmin(found))
    rows = rows_of_run(open_store(data), model.record.settings)["validation"]
    with SplitObjective(model.network, rows) as f:
        assert f.value(model.theta) == min(found)


def test_a_share_of_the_training_rows_is_held_out(without, tmp_path):
    run(without, tmp_path / "r", early_stopping=True, max_iterations=1)
    settings = RunDirectory(tmp_path / "r").record().settings
    assert settings.validation_fraction == 0.1
    rows = rows_of_run(open_store(without), settings)
    assert {name: part.n_rows for name, part in rows.items()} == {"train": 90, "validation": 10, "test": 100}
    model, line = load_model(tmp_path / "r", "newest"), ledger.read(tmp_path / "r" / "ledger.jsonl")[-1]
    for name, prefix in (("train", ""), ("validation", "validation_"), ("test", "test_")):
        with SplitObjective(model.network, rows[name]) as f:
            np.testing.assert_allclose(f.value_and_error(model.theta), (line[f"{prefix}loss"], line[f"{prefix}error"]))


@pytest.mark.parametrize("cluster", ["none", pytest.param("local:2", marks=pytest.mark.slow)])
def test_a_run_with_little_memory_has_the_same_bits(without, tmp_path, cluster):
    given = {"early_stopping": True, "max_iterations": 3}
    run(without, tmp_path / "a", **given)
    run(without, tmp_path / "b", **given, memory="3MiB", cluster=cluster)
    assert files(tmp_path / "a") == files(tmp_path / "b")


def test_options_that_do_not_fit_are_refused(store, without, tmp_path):
    with pytest.raises(UsageError, match="has a split validation, which is used; leave out --validation-fraction"):
        run(store, tmp_path / "r", validation_fraction=0.2)
    run(without, tmp_path / "r", max_iterations=1)
    with pytest.raises(CheckpointError, match="trained on all training rows, of which --early-stopping would hold out"):
        resumed(without, tmp_path / "r", early_stopping=True)
    reporter = Silent()
    train(without, RunDirectory(tmp_path / "s"), BASE | {"patience": 3, "max_iterations": 0}, reporter)
    assert "--patience and --min-improvement have no effect without --early-stopping" in reporter.notes


def test_validation_rows_without_a_finite_loss_are_refused(tmp_path):
    X = np.random.default_rng(0).normal(size=(20, 2)).astype(np.float32)
    rows = {"train": (X, X[:, :1]), "validation": (np.full_like(X, 3e38), X[:, :1])}
    write_store(tmp_path / "s.zarr", rows, task="regression", n_partitions=2)
    with pytest.raises(NumericalError, match=r"the loss over the 20 validation rows is (inf|nan) at the start"):
        run(tmp_path / "s.zarr", tmp_path / "r", activation="relu", init="he", hidden=(60, 60))
    assert not (tmp_path / "r" / "config.toml").exists()


def test_a_best_checkpoint_that_is_gone_is_named(store, straight, tmp_path):
    shutil.copytree(straight, tmp_path / "r")
    shutil.rmtree(tmp_path / "r" / "checkpoints" / "best")
    with pytest.raises(CheckpointError, match=r"the best checkpoint of .*, of iteration .*take the newest"):
        load_model(tmp_path / "r")
    assert load_model(tmp_path / "r", "newest").iteration == 12
    assert resumed(store, tmp_path / "r", max_iterations=13).lines[-1]["iteration"] == 13


def test_the_best_checkpoint_is_that_of_the_one_that_is_left(store, straight, tmp_path):
    """Where the newest is deleted because it is damaged, the run continues from the one before it."""
    best = int(np.argmin(losses(straight)))
    run(store, tmp_path / "r", max_iterations=best)
    for suffix in ("json", "safetensors"):
        (tmp_path / "r" / "checkpoints" / f"iteration-{best:05d}.{suffix}").unlink()
    assert load_model(tmp_path / "r").iteration == int(np.argmin(losses(straight)[:best]))
    resumed(store, tmp_path / "r", max_iterations=12)
    assert files(tmp_path / "r") == files(straight)


@pytest.mark.slow
def test_a_run_whose_disk_is_full_anywhere_has_its_best_checkpoint(store, straight, tmp_path, monkeypatch):
    """Each checkpoint is written in turn, the best before the newest; then the disk is full."""
    for n_written in itertools.count():
        path, calls = tmp_path / f"{n_written}", itertools.count()

        def write(folder, checkpoint, calls=calls, n_written=n_written):
            if next(calls) == n_written:
                raise CheckpointError("the disk is full")
            return write_checkpoint(folder, checkpoint)

        with monkeypatch.context() as patched:
            patched.setattr("hfnumba.run.writer.write_checkpoint", write)
            try:
                run(store, path)
            except CheckpointError as error:
                assert str(error) == "the disk is full"
            else:
                break
        lines = ledger.read(path / "ledger.jsonl") if path.exists() else []
        if lines:
            assert load_model(path).iteration == int(np.argmin([line["validation_loss"] for line in lines]))
        run(store, path, resume=True)
        assert files(path) == files(straight)
    # One of each iteration, and one of each that was the best.
    found = [line["best_iteration"] for line in ledger.read(straight / "ledger.jsonl")]
    assert n_written == len(found) + len(set(found))


def test_a_state_that_no_run_writes_is_refused(straight, tmp_path):
    shutil.copytree(straight, tmp_path / "r")
    newest = newest_checkpoint(tmp_path / "r" / "checkpoints")
    path = tmp_path / "r" / "checkpoints" / "iteration-00012.json"
    record = json.loads(path.read_text())
    record["scalars"]["best_so_far"] = {"iteration": "two"}
    record |= {"format": 1}
    del record["sha256"], record["tensors_nbytes"]
    path.write_text(json.dumps(record))
    assert read_checkpoint(path).tensors.keys() == newest.tensors.keys()
    with pytest.raises(CheckpointError, match="no state of early stopping that a run writes"):
        load_model(tmp_path / "r")
