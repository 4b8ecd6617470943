"""Runs by the Python interface: what is written, limits, resuming, and faults at every file operation."""

import itertools
import json
import os

import numpy as np
import pytest

from hfnumba import ledger
from hfnumba.atomic import TEMPORARY
from hfnumba.checkpoint import iterations, newest_checkpoint
from hfnumba.errors import CheckpointError, ClusterError, DataError, StoreError, UsageError
from hfnumba.optim.methods import METHODS
from hfnumba.run import RunDirectory, RunRecord, train
from hfnumba.run.config import settings_from
from hfnumba.run.ending import Ending
from hfnumba.run.loop import Loop
from hfnumba.run.model import load_model
from hfnumba.run.records import NetworkRecord, StoreRecord
from hfnumba.run.settings import fixed
from tests.silent import Silent
from tests.toy_store import write_toy_store

BASE = {"hidden": (6,), "max_iterations": 3, "seed": 1, "threads": 1}


def run(store, path, resume=False, report=None, **given):
    settings = {name: value for name, value in {**BASE, **given}.items() if value is not None}
    return train(store, RunDirectory(path), settings, report or Silent(), resume=resume)


def theta(path):
    return newest_checkpoint(path / "checkpoints").tensors["theta"].tobytes()


def comparable(lines):
    return [{key: value for key, value in line.items() if key != "elapsed_s"} for line in lines]


@pytest.fixture(scope="module")
def straight(toy_store, tmp_path_factory):
    """A run that was never interrupted."""
    path = tmp_path_factory.mktemp("run") / "straight"
    run(toy_store, path)
    return path


def test_what_a_run_leaves(toy_store, straight):
    lines = ledger.read(straight / "ledger.jsonl")
    assert [line["iteration"] for line in lines] == [0, 1, 2, 3]
    contract = "iteration epoch loss error test_loss test_error grad_norm damping rho alpha direction krylov_status"
    assert {*contract.split(), "n_matvec", "rounds", "nbytes", "elapsed_s"} <= lines[0].keys()
    assert lines[-1]["loss"] < lines[0]["loss"]
    assert lines[0]["method"] == "hf-bicgstab"
    assert iterations(straight / "checkpoints") == [2, 3]
    record = RunDirectory(straight).record()
    assert record.network.sizes == (8, 6, 3)
    assert record.settings.loss == "softmax_cross_entropy"
    assert lines[0]["store_digest"] == record.store.digest == newest_checkpoint(straight / "checkpoints").store_digest


def test_a_run_tells_how_far_the_first_pass_is(toy_store, tmp_path):
    report = Silent()
    run(toy_store, tmp_path / "r", report=report, max_iterations=1, class_weights="balanced")
    assert [what for what, _ in report.steps] == ["Counting classes", "First pass over train", "First pass over test"]
    assert all(calls[-1] == (4, 4, "partitions") for _, calls in report.steps)


def test_evaluating_gives_the_ledgers_numbers(toy_store, straight):
    from hfnumba.store import open_store

    last = ledger.read(straight / "ledger.jsonl")[-1]
    model, store = load_model(straight), open_store(toy_store)
    assert model.evaluate(store["train"]) == (last["loss"], last["error"])
    assert model.evaluate(store["test"]) == (last["test_loss"], last["test_error"])


def test_predictions_err_as_often_as_evaluation_says(toy_store, straight):
    from hfnumba.store import open_store

    model, split = load_model(straight), open_store(toy_store)["test"]
    parts = [split.load(j) for j in range(split.n_partitions)]
    X, y = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    probabilities = model.predict(X)
    np.testing.assert_allclose(probabilities.sum(1), 1, rtol=1e-5)
    assert np.mean(probabilities.argmax(1) != y) == pytest.approx(model.evaluate(split)[1])


@pytest.mark.parametrize("method", METHODS)
def test_resumed_after_every_iteration_gives_the_same_bits(toy_store, tmp_path, method):
    given = {"method": method, "curvature_rows": 60}
    run(toy_store, tmp_path / "a", **given)
    for n in range(4):
        run(toy_store, tmp_path / "b", resume=n > 0, max_iterations=n, **given)
    assert theta(tmp_path / "a") == theta(tmp_path / "b")
    a, b = (ledger.read(tmp_path / name / "ledger.jsonl") for name in "ab")
    assert comparable(a) == comparable(b)


def test_limits(toy_store, tmp_path):
    assert run(toy_store, tmp_path / "i").ending is Ending.ITERATIONS
    outcome = run(toy_store, tmp_path / "e", target_error=0.99)
    assert outcome.ending is Ending.TARGET
    assert len(outcome.lines) == 1
    outcome = run(toy_store, tmp_path / "t", time_limit_s=1e-6)
    assert outcome.ending is Ending.TIME
    assert len(outcome.lines) == 1
    assert run(toy_store, tmp_path / "t", resume=True, time_limit_s=1e6).ending is Ending.ITERATIONS
    # Complete already: nothing is done, nothing is written twice.
    outcome = run(toy_store, tmp_path / "t", resume=True)
    assert outcome.ending is Ending.ITERATIONS
    assert [line["iteration"] for line in outcome.lines] == [0, 1, 2, 3]


def test_an_optimiser_that_is_done_says_so(toy_store, tmp_path):
    outcome = run(toy_store, tmp_path / "r", max_iterations=300, hidden=(), l2=1e-2)
    assert outcome.ending is Ending.OPTIMIZER
    assert "stopped" in outcome.lines[-1]["note"]
    again = run(toy_store, tmp_path / "r", resume=True, max_iterations=300, hidden=(), l2=1e-2)
    assert again.ending is Ending.OPTIMIZER
    assert again.lines == outcome.lines


def test_refusals(toy_store, straight, tmp_path):
    with pytest.raises(CheckpointError, match=r"is not empty .*--resume"):
        run(toy_store, straight)
    with pytest.raises(CheckpointError, match="seed was 1, not 2"):
        run(toy_store, straight, resume=True, seed=2)
    other = write_toy_store(tmp_path / "other.zarr", seed=9)
    with pytest.raises(CheckpointError, match="give the same data"):
        run(other, straight, resume=True)
    (tmp_path / "file").write_text("")
    with pytest.raises(CheckpointError, match="is a file"):
        run(toy_store, tmp_path / "file")
    with pytest.raises(CheckpointError, match="is not the directory of a run"):
        train(toy_store, RunDirectory(tmp_path / "none"), {}, Silent(), resume=True)


@pytest.mark.parametrize(
    ("given", "error"),
    [
        ({"hidden": (0,)}, UsageError),
        ({"method": "hf"}, UsageError),
        ({"activation": "swish"}, UsageError),
        ({"init": "zero"}, UsageError),
        ({"loss": "hinge"}, UsageError),
        ({"method": "sgd", "damping": 0.1}, UsageError),
        ({"cluster": "mpi"}, UsageError),
        ({"cluster": "local:0"}, UsageError),
        ({"cluster": "tcp://127.0.0.1"}, UsageError),
    ],
)
def test_a_mistake_leaves_nothing_behind(toy_store, tmp_path, given, error):
    with pytest.raises(error):
        run(toy_store, tmp_path / "r", **given)
    assert list(tmp_path.iterdir()) == []


def test_damaged_data_leave_nothing_behind(tmp_path):
    store = write_toy_store(tmp_path / "s.zarr")
    chunk = max((path for path in store.rglob("*") if path.is_file() and "/train/X/c/" in str(path)), key=str)
    payload = bytearray(chunk.read_bytes())
    payload[len(payload) // 2] ^= 1
    chunk.write_bytes(payload)
    with pytest.raises(StoreError, match=chunk.name):
        run(store, tmp_path / "r")
    assert not (tmp_path / "r").exists()


def test_a_directory_with_leftovers_of_a_killed_process_is_empty(toy_store, tmp_path, straight):
    path = tmp_path / "r"
    path.mkdir()
    (path / ".lock").touch()
    (path / f".config.toml.1{TEMPORARY}").write_text("torn")
    run(toy_store, path)
    assert theta(path) == theta(straight)


def test_resuming_what_never_began_begins(toy_store, tmp_path, straight):
    report = Silent()
    run(toy_store, tmp_path / "r", resume=True, report=report)
    assert any("it begins" in note for note in report.notes)
    assert theta(tmp_path / "r") == theta(straight)


def test_one_process_at_a_time(toy_store, tmp_path):
    def intrude(line):
        with pytest.raises(CheckpointError, match="another process is training"):
            run(toy_store, tmp_path / "r", resume=True, max_iterations=5)
        tried.append(1)

    tried = []
    run(toy_store, tmp_path / "r", report=Silent(intrude))
    assert len(tried) == 4


def test_lines_beyond_the_checkpoint_are_cut_and_a_missing_one_is_added(toy_store, tmp_path, straight):
    path = tmp_path / "r"
    run(toy_store, path, max_iterations=2)
    lines = ledger.read(path / "ledger.jsonl")
    for last in (lines[:2], [*lines, {**lines[-1], "iteration": 3, "loss": -1.0}]):
        (path / "ledger.jsonl").write_text("".join(json.dumps(line) + "\n" for line in last) + '{"iterat')
        run(toy_store, path, resume=True, max_iterations=2)
        assert comparable(ledger.read(path / "ledger.jsonl")) == comparable(lines)
    run(toy_store, path, resume=True)
    assert comparable(ledger.read(path / "ledger.jsonl")) == comparable(ledger.read(straight / "ledger.jsonl"))


def test_a_ledger_without_checkpoints_is_not_continued(toy_store, tmp_path):
    run(toy_store, tmp_path / "r", max_iterations=1)
    for file in (tmp_path / "r" / "checkpoints").iterdir():
        file.unlink()
    with pytest.raises(CheckpointError, match="a ledger but no checkpoint"):
        run(toy_store, tmp_path / "r", resume=True)


def test_a_ledger_without_its_first_lines_is_not_continued_but_a_missing_one_is(toy_store, tmp_path, straight):
    path = tmp_path / "r"
    run(toy_store, path, max_iterations=2)
    lines = (path / "ledger.jsonl").read_text().splitlines(keepends=True)
    for rest, named in ((lines[1:], "line 1 of"), (lines[:1], "ends at iteration 0"), ([], "has no line")):
        (path / "ledger.jsonl").write_text("".join(rest))
        with pytest.raises(CheckpointError, match=rf"{named}.*move it away to continue"):
            run(toy_store, path, resume=True)
    (path / "ledger.jsonl").unlink()
    report = Silent()
    run(toy_store, path, resume=True, report=report)
    assert "the ledger begins with iteration 2: the lines before are lost" in report.notes
    assert [line["iteration"] for line in ledger.read(path / "ledger.jsonl")] == [2, 3]
    assert theta(path) == theta(straight)


def test_a_run_whose_checkpoint_has_the_first_format_is_continued(toy_store, tmp_path, straight):
    path = tmp_path / "r"
    run(toy_store, path, max_iterations=2)
    file = path / "checkpoints" / "iteration-00002.json"
    record = json.loads(file.read_text())
    del record["sha256"], record["tensors_nbytes"]
    for damping, goes_on in ((float("nan"), False), (-1.0, False), (record["scalars"]["damping"], True)):
        scalars = record["scalars"] | {"damping": damping}
        file.write_text(json.dumps(record | {"format": 1, "scalars": scalars}))
        if not goes_on:
            with pytest.raises(CheckpointError, match="has damping = "):
                run(toy_store, path, resume=True)
    run(toy_store, path, resume=True)
    assert theta(path) == theta(straight)


def of_an_earlier_version(config, **replaced):
    """Make a ``config.toml`` one without a digest, with other values."""
    text = config.read_text().partition("\n[digests]")[0]
    for old, new in replaced.items():
        assert old in text
        text = text.replace(old, new)
    config.write_text(text)


def test_digests_that_differ_late_are_printed_whole(toy_store, tmp_path):
    run(toy_store, tmp_path / "r", max_iterations=1)
    digest = RunDirectory(tmp_path / "r").record().store.digest
    flipped = digest[:-1] + chr(ord(digest[-1]) ^ 1)
    of_an_earlier_version(tmp_path / "r" / "config.toml", **{digest: flipped})
    with pytest.raises(CheckpointError, match=f"digest {flipped} .* has {digest};"):
        run(toy_store, tmp_path / "r", resume=True)


@pytest.mark.parametrize("place", [os.mkfifo, lambda path: path.symlink_to("/dev/zero"), lambda path: path.mkdir()])
def test_what_is_no_file_is_not_read_as_a_config(tmp_path, place):
    place(tmp_path / "config.toml")
    with pytest.raises(CheckpointError, match=r"config\.toml cannot be read \(a folder, pipe or device is in .*\)"):
        RunDirectory(tmp_path).record()


def test_checkpoints_without_a_config_are_continued_with_that_of_an_equal_run(toy_store, tmp_path, straight):
    for name in ("r", "equal"):
        run(toy_store, tmp_path / name, max_iterations=2)
    (tmp_path / "r" / "config.toml").unlink()
    with pytest.raises(CheckpointError, match=r"has checkpoints but no config\.toml; restore that file"):
        run(toy_store, tmp_path / "r", resume=True)
    (tmp_path / "equal" / "config.toml").rename(tmp_path / "r" / "config.toml")
    run(toy_store, tmp_path / "r", resume=True)
    assert theta(tmp_path / "r") == theta(straight)


def test_paths_need_not_be_text(tmp_path, straight):
    folder = tmp_path / os.fsdecode(b"caf\xe9")
    folder.mkdir()
    store = write_toy_store(folder / "toy.zarr")
    run(store, folder / "r")
    assert RunDirectory(folder / "r").record().store.path.endswith("caf%E9/toy.zarr")
    run(store, folder / "r", resume=True, max_iterations=4)
    assert comparable(ledger.read(folder / "r" / "ledger.jsonl"))[:4] == comparable(
        ledger.read(straight / "ledger.jsonl")
    )


def test_a_changed_config_is_not_continued(toy_store, tmp_path):
    run(toy_store, tmp_path / "r", max_iterations=1)
    config = tmp_path / "r" / "config.toml"
    config.write_text(config.read_text().replace("l2 = 0.0", "l2 = 0.5"))
    with pytest.raises(CheckpointError, match="written for other settings"):
        run(toy_store, tmp_path / "r", resume=True, l2=0.5)


def test_a_run_of_an_earlier_version_that_named_a_setting_otherwise_is_continued(toy_store, tmp_path):
    run(toy_store, tmp_path / "a", backtracking_ratio=2.0)
    run(toy_store, tmp_path / "b", backtracking_ratio=2.0, max_iterations=1)
    config = tmp_path / "b" / "config.toml"
    config.write_text(config.read_text().replace("backtracking_ratio = 2.0", "keep = 2.0"))
    run(toy_store, tmp_path / "b", resume=True)
    assert theta(tmp_path / "a") == theta(tmp_path / "b")
    assert RunDirectory(tmp_path / "b").record().settings.backtracking_ratio == 2.0


@pytest.mark.parametrize(
    ("given", "digest"),
    [
        ({}, "89c14bdcefaf89f4c6d9deac2852958ac7e3887afdf34dae7bab131290d09d0e"),
        (
            {"backtracking_ratio": 2.0, "class_weights": [1, 2, 3], "l2": 1e-3, "method": "hf-cg", "fan_in": 3},
            "28f800af856ce3979f0677a60ae85d2e9e819c5429888d69ade72ea92645c83b",
        ),
    ],
)
def test_checkpoints_of_earlier_versions_stay_valid(given, digest):
    # Written by the version before settings were renamed; these numbers never change.
    record = RunRecord(
        settings=settings_from({"hidden": [6], "loss": "softmax_cross_entropy"} | given),
        network=NetworkRecord(sizes=(8, 6, 3), activation="tanh", loss="softmax_cross_entropy"),
        store=StoreRecord(path="", digest="", task="classification", scale=1.0, offset=0.0),
    )
    assert record.settings_digest == digest


@pytest.mark.parametrize("step", [pytest.param(1, marks=pytest.mark.slow), 17])
def test_flipped_bits_of_a_config_change_no_result(toy_store, tmp_path, step):
    run(toy_store, tmp_path, max_iterations=0)
    config, before = tmp_path / "config.toml", RunDirectory(tmp_path).record()
    payload = config.read_bytes()
    for bit in range(0, 8 * len(payload), step):
        damaged = bytearray(payload)
        damaged[bit // 8] ^= 1 << bit % 8
        config.write_bytes(damaged)
        try:
            found = load_model(tmp_path).record
        except CheckpointError:
            continue
        assert fixed(found.settings) == fixed(before.settings) and found.network == before.network
        assert found.store == before.store or found.store.path != before.store.path


@pytest.mark.parametrize(
    ("old", "new", "named"),
    [
        ("scale = 1.0", "scale = nan", "expected finite numbers"),
        ("mean = []", "mean = [1.0]", "as many means as deviations"),
        (
            "mean = []\ndeviation = []",
            "mean = [1.0]\ndeviation = [1.0]",
            "expected 8 means for this network, got 1",
        ),
        ("context = 0", "context = -1", "a context of at least 0"),
        ("sizes = [8, 6, 3]", "sizes = [8]", r"config\.toml is damaged"),
        ("[network]", "[nyetwork]", r"config\.toml is damaged: it has no table 'network'"),
        ("l2 = 0.0", "l2 = 0.5", "written for other settings"),
    ],
)
def test_an_earlier_config_that_was_changed_is_not_used(toy_store, tmp_path, old, new, named):
    run(toy_store, tmp_path, max_iterations=0)
    of_an_earlier_version(tmp_path / "config.toml", **{old: new})
    with pytest.raises(CheckpointError, match=named):
        load_model(tmp_path)


def test_a_run_of_an_earlier_version_is_used_and_continued(toy_store, tmp_path, straight):
    run(toy_store, tmp_path, max_iterations=1)
    of_an_earlier_version(tmp_path / "config.toml")
    assert load_model(tmp_path).iteration == 1
    run(toy_store, tmp_path, resume=True)
    assert theta(tmp_path) == theta(straight)
    assert "network_and_store" in (tmp_path / "config.toml").read_text()


NO_CONFIGS = ["hidden = [", "", "x = " + "[" * 100_000, "hidden = [3]\n[network]\n[store]\n[versions]\n"]


@pytest.mark.parametrize("text", NO_CONFIGS, ids=range(4))
def test_a_damaged_config_is_named(toy_store, tmp_path, text):
    (tmp_path / "config.toml").write_text(text)
    with pytest.raises(CheckpointError, match=r"config\.toml is damaged"):
        RunDirectory(tmp_path).record()


def test_a_fault_at_any_file_operation_leaves_a_run_that_can_be_continued(toy_store, tmp_path, monkeypatch, straight):
    """The k-th open, write, fsync or rename of a whole run fails; the run is continued, and ends with the same bits."""
    names = ("open", "write", "fsync", "replace")
    stopped = []

    def attempt(path, failing):
        count = 0

        def wrapped(function):
            def operation(*arguments, **keywords):
                nonlocal count
                here = str(path) in os.fsdecode(arguments[0]) if not isinstance(arguments[0], int) else True
                # Not where a file is opened to be read.
                here = here and not any(isinstance(flags, int) and flags & os.O_NONBLOCK for flags in arguments[1:])
                count += here
                if here and count == failing:
                    raise OSError(28, "No space left on device")
                return function(*arguments, **keywords)

            return operation

        with monkeypatch.context() as patch:
            for name in names:
                patch.setattr(os, name, wrapped(getattr(os, name)))
            try:
                run(toy_store, path)
            except CheckpointError as error:
                assert "the disk is full" in str(error)
                stopped.append(failing)
        return count

    total = attempt(tmp_path / "count", 0)
    assert theta(tmp_path / "count") == theta(straight)
    tried = range(1, total + 1, 3)
    assert len(tried) > 12
    assert not stopped
    for k in tried:
        path = tmp_path / str(k)
        attempt(path, k)
        run(toy_store, path, resume=True)
        assert theta(path) == theta(straight), k
        assert comparable(ledger.read(path / "ledger.jsonl")) == comparable(ledger.read(straight / "ledger.jsonl"))
    # A folder that cannot be synced is no failure; everything else is.
    assert len(stopped) > len(tried) / 2


def test_an_unreachable_cluster_leaves_nothing_behind(toy_store, tmp_path, monkeypatch):
    monkeypatch.setattr("hfnumba.launch.address.CONNECT_TIMEOUT_S", 0.5)
    with pytest.raises(ClusterError, match=r"no Dask scheduler answers at tcp://127\.0\.0\.1:9 "):
        run(toy_store, tmp_path / "r", cluster="tcp://127.0.0.1:9", threads=None)
    assert not (tmp_path / "r").exists()


def test_a_model_that_does_not_fit_the_data(straight, tmp_path):
    from hfnumba.ingest import write_store
    from hfnumba.store import open_store

    X = np.zeros((40, 5), np.float32)
    store = write_store(tmp_path / "narrow.zarr", {"train": (X, np.arange(40) % 3)})
    with pytest.raises(DataError, match=r"8 features and 3 outputs.*with 5 features and 3 outputs"):
        load_model(straight).evaluate(open_store(store.path)["train"])


@pytest.mark.bits
@pytest.mark.parametrize("n_calls", [2, 5, 9])
def test_a_run_that_stops_between_two_steps_continues_there(toy_store, tmp_path, monkeypatch, n_calls):
    """Calls are made after each step but the last of an iteration, and after each iteration."""
    settings = {"method": "kfac", "batch_rows": 16, "curvature_rows": None, "max_iterations": 3}
    run(toy_store, tmp_path / "whole", **settings)
    whole = ledger.read(tmp_path / "whole" / "ledger.jsonl")
    calls = itertools.count(1)
    with monkeypatch.context() as patched:
        patched.setattr(Loop, "_interrupted", lambda *_: Ending.SIGNAL if next(calls) >= n_calls else None)
        outcome = run(toy_store, tmp_path / "r", **settings)
    assert outcome.ending is Ending.SIGNAL
    before = newest_checkpoint(tmp_path / "r" / "checkpoints")
    assert before.ledger_line == outcome.lines[-1]
    assert before.scalars["rounds"] > before.ledger_line["rounds"]
    run(toy_store, tmp_path / "r", resume=True)
    assert comparable(ledger.read(tmp_path / "r" / "ledger.jsonl")) == comparable(whole)
    assert theta(tmp_path / "r") == theta(tmp_path / "whole")
