"""The commands: parsing, statuses, and what goes to stdout and stderr."""

import errno
import json
import logging
import shutil
import subprocess
import sys
from unittest.mock import patch

import numpy as np
import pytest
from click.testing import CliRunner

import hfnumba
from hfnumba import ledger
from hfnumba.cli import main
from hfnumba.errors import HfnumbaError, UsageError
from tests.limits import LIMIT_S
from tests.tables import cells


def hf(*arguments):
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert "Traceback" not in result.output
    return result


@pytest.fixture(scope="module")
def finished(toy_store, tmp_path_factory):
    path = tmp_path_factory.mktemp("runs") / "first"
    result = hf("train", toy_store, "--hidden", "5,4", "--max-iterations", 2, "--threads", 1, "--run", path)
    assert result.exit_code == 0
    return path, result


def test_help_lists_every_command():
    result = hf("--help")
    assert result.exit_code == 0
    for name in (
        "demo",
        "data",
        "train",
        "evaluate",
        "predict",
        "plot",
        "runs",
        "bench",
        "check",
        "figure",
        "watch",
        "report",
        "explain",
        "cluster-scripts",
    ):
        assert f"\n  {name} " in result.stdout
        assert hf(name, "--help").exit_code == 0
    assert hf("-h").stdout == result.stdout
    assert hf("--version").stdout.startswith("hfnumba ") or hf("--version").stdout.startswith("main ")


def test_python_dash_m_is_the_same_command():
    result = subprocess.run(
        [sys.executable, "-m", "hfnumba", "--version"], capture_output=True, text=True, check=True, timeout=LIMIT_S
    )
    assert result.stdout == f"hfnumba {hfnumba.__version__}\n"


def test_train_says_what_it_does_on_stderr(finished):
    path, result = finished
    assert result.stdout == ""
    assert "running on this process, 1 thread\n" in result.stderr
    assert "iteration 2, loss " in result.stderr and "test error " in result.stderr
    assert "rounds " in result.stderr and " left" in result.stderr
    lines = result.stderr.splitlines()
    assert f"  hfnumba plot {path}" in lines and any(line.startswith(f"  hfnumba evaluate {path} ") for line in lines)
    assert "Finished: the limit of iterations is reached." in result.stderr


def test_train_prints_json(toy_store, tmp_path):
    words = ("--hidden", "3", "--max-iterations", 1, "--threads", 1, "--run", tmp_path / "r", "--json")
    found = json.loads(hf("train", toy_store, *words).stdout)
    assert (found["run"], found["resumable"]) == (str(tmp_path / "r"), False)
    assert [found["start"], found["end"]] == ledger.read(tmp_path / "r" / "ledger.jsonl")


def test_verbose_shows_details(toy_store, tmp_path):
    words = ("train", toy_store, "--hidden", "3", "--max-iterations", 1, "--threads", 1)
    log = logging.getLogger("hfnumba")
    handlers, level = list(log.handlers), log.level
    try:
        told = hf(*words, "--run", tmp_path / "a", "-v").stderr
        assert "kernels are ready after" in told and "memory of 4 partitions: 1MiB for rows, which all stay; " in told
        assert "memory of" in hf("evaluate", tmp_path / "a", toy_store, "--verbose").stderr
    finally:
        log.handlers[:] = handlers
        log.setLevel(level)
    assert "memory of" not in hf(*words, "--run", tmp_path / "b").stderr


def given_by(*arguments):
    with patch("hfnumba.cli.train.run_and_report") as called:
        result = hf("train", *arguments)
    assert result.exit_code == 0, result.output
    (_store, path, given), rest = called.call_args
    return path, given, rest["resume"]


def test_no_hidden_layer():
    assert given_by("s.zarr", "--hidden", "")[1] == {"hidden": ()}


def test_flags_go_before_the_settings_file(tmp_path):
    path = tmp_path / "a.toml"
    path.write_text('hidden = [9]\nmethod = "gn-cg"\nseed = 4\n')
    assert given_by("s.zarr", "--config", path, "--seed", 8)[1] == {"hidden": [9], "method": "gn-cg", "seed": 8}


def test_a_run_has_a_name_of_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    first, _, resume = given_by("data/mnist.zarr", "--method", "sgd")
    assert not resume
    assert first.parts[0] == "runs" and first.name.startswith("mnist-sgd-2")
    first.mkdir(parents=True)
    assert given_by("data/mnist.zarr", "--method", "sgd")[0] != first


def test_a_runs_config_repeats_it(toy_store, finished, tmp_path):
    path, _ = finished
    result = hf("train", toy_store, "--config", path / "config.toml", "--run", tmp_path / "again")
    assert result.exit_code == 0
    losses = [[line["loss"] for line in ledger.read(run / "ledger.jsonl")] for run in (path, tmp_path / "again")]
    assert losses[0] == losses[1]


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["train"], 2, "Missing argument 'STORE'"),
        (["train", "{store}", "--hidden", "3,x"], 2, "such as 400,150, got '3,x'"),
        (
            ["train", "{store}", "--hidden", "0"],
            2,
            "error: setting hidden[0]: expected a whole number of at least 1, got 0",
        ),
        (["train", "{store}", "--hidden", "3", "--method", "hf"], 2, "'hf' is not one of 'sgd', "),
        (["train", "{store}", "--hidden", "3", "--method", "hf-cgg"], 2, "Did you mean 'hf-cg'?"),
        (["train", "{store}", "--hiden", "3"], 2, "'--hidden'"),
        (["figure", "sadle"], 2, "'saddle'. Did you mean 'saddle'?"),
        (["train", "{store}", "--hidden", "3", "--max-iterations", "many"], 2, "not a valid integer"),
        (["train", "{store}", "--hidden", "3", "--resume"], 2, "error: --resume needs"),
        (["train", "{store}"], 2, "give --hidden"),
        (["train", "{store}", "--hidden", "3", "--cluster", "slurm"], 2, "--cluster slurm needs"),
        (["train", "{store}", "--hidden", "3", "--run", "{run}"], 1, "is not empty"),
        (["train", "{store}", "--seed", "5", "--resume", "--run", "{run}"], 1, "seed was 0, not 5"),
        (["train", "/nowhere.zarr", "--hidden", "3"], 1, "error: there is no store at /nowhere.zarr"),
        (["evaluate", "/nowhere", "{store}"], 1, "is not the directory of a run"),
        (["evaluate", "{run}", "{store}", "--split", "dev"], 1, "has no split 'dev'"),
        (["predict", "{run}", "/nowhere.npy"], 1, "there is no file /nowhere.npy"),
        (["predict", "{run}", "x.npy", "--out", "x.xls"], 2, "expected --out to end in .csv, .parquet, .npy, .ark"),
        (["evaluate", "{run}", "{store}", "--checkpoint", "newst"], 2, "'newest'. Did you mean 'newest'?"),
        (["export", "{run}", "--to", "onx"], 2, "'torch-state-dict'. Did you mean 'onnx'?"),
        (["spectrum", "{run}", "{store}", "--matrix", "gaus-newton"], 2, "Did you mean 'gauss-newton'?"),
        (["data", "build", "t.csv", "--task", "regresion"], 2, "'regression'. Did you mean 'regression'?"),
        (["plot", "/nowhere"], 1, "/nowhere has no ledger"),
        (["plot", "{run}", "-o", "x.gif"], 2, "ends in .png, .svg, .pdf"),
        (["plot", "{run}", "-o", "/nowhere/x.png"], 1, "could not be written"),
        (["plot"], 2, "Missing argument"),
        (["runs", "/nowhere"], 1, "there is no directory /nowhere"),
        (["nothing"], 2, "No such command"),
        (["trian"], 2, "Did you mean 'train'?"),
    ],
)
def test_wrong_use_is_one_sentence(toy_store, finished, tmp_path, monkeypatch, arguments, status, message):
    monkeypatch.chdir(tmp_path)
    words = [word.format(store=toy_store, run=finished[0]) for word in arguments]
    result = hf(*words)
    assert result.exit_code == status
    assert message in result.stderr
    assert result.stdout == ""
    assert not list(tmp_path.iterdir()), "a mistake leaves nothing behind"


def test_evaluate(toy_store, finished):
    path, _ = finished
    last = ledger.read(path / "ledger.jsonl")[-1]
    found = json.loads(hf("evaluate", path, toy_store, "--json").stdout)
    assert (found["split"], found["n_rows"], found["iteration"]) == ("test", 60, 2)
    assert (found["loss"], found["error"]) == (last["test_loss"], last["test_error"])
    found = json.loads(hf("evaluate", path, toy_store, "--split", "train", "--json").stdout)
    assert (found["loss"], found["error"]) == (last["loss"], last["error"])
    assert hf("evaluate", path, toy_store).stdout.splitlines()[1].split()[:3] == ["test", "60", "2"]


def test_predict(finished, tmp_path):
    path, _ = finished
    X = np.random.default_rng(0).normal(size=(5, 8)).astype(np.float32)
    np.save(tmp_path / "x.npy", X)
    rows = [json.loads(line) for line in hf("predict", path, tmp_path / "x.npy").stdout.splitlines()]
    assert hf("predict", path, tmp_path / "x.npy", "--out", tmp_path / "p.npy").stdout == ""
    found = json.loads(hf("predict", path, tmp_path / "x.npy", "--out", tmp_path / "p.npy", "--json").stdout)
    assert (found["n_rows"], found["n_outputs"], found["out"]) == (5, 3, str(tmp_path / "p.npy"))
    p = np.load(tmp_path / "p.npy")
    assert p.shape == (5, 3)
    assert [row["row"] for row in rows] == list(range(5))
    assert [row["class"] for row in rows] == p.argmax(1).tolist()
    assert [row["probability"] for row in rows] == p.max(1).tolist()
    np.save(tmp_path / "bad.npy", X[:, :7])
    assert "expected rows of 8 numbers" in hf("predict", path, tmp_path / "bad.npy").stderr


def test_predict_gives_the_names_of_classes(tmp_path):
    kinds = ("elm", "oak", "yew")
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(90, 2)) + 4 * (np.arange(90) % 3)[:, None], np.arange(90) % 3
    lines = [f"{a},{b},{kinds[k]}" for (a, b), k in zip(X.tolist(), y, strict=True)]
    (tmp_path / "t.csv").write_text("\n".join(["a,b,kind", *lines]) + "\n")
    (tmp_path / "t.toml").write_text('name = "t"\nformat = "csv"\n[table]\ntrain = ["t.csv"]\nlabel = "kind"\n')
    assert hf("data", "build", tmp_path / "t.toml", "--source", tmp_path, "--out", tmp_path / "t.zarr").exit_code == 0
    hf("train", tmp_path / "t.zarr", "--hidden", "4", "--max-iterations", 5, "--threads", 1, "--run", tmp_path / "r")
    np.savez(tmp_path / "x.npz", X=X)
    result = hf("predict", tmp_path / "r", tmp_path / "x.npz")
    assert f"the features of {tmp_path / 'x.npz'} are taken for a, b\n" in result.stderr
    rows = [json.loads(line) for line in result.stdout.splitlines()]
    assert [row["name"] for row in rows] == [kinds[row["class"]] for row in rows]
    assert np.mean([row["name"] == kinds[k] for row, k in zip(rows, y, strict=True)]) > 0.8
    result = hf("predict", tmp_path / "r", tmp_path / "x.npz", "--out", tmp_path / "p.npy")
    assert f"written to {tmp_path / 'p.npy'}, of the classes elm, oak, yew\n" in result.stderr
    assert np.load(tmp_path / "p.npy").argmax(1).tolist() == [row["class"] for row in rows]


def test_predictions_that_cannot_be_written(finished, tmp_path, monkeypatch):
    path, _ = finished
    np.save(tmp_path / "x.npy", np.ones((5, 8)))
    (tmp_path / "folder.npy").mkdir()
    (tmp_path / "p.npy").write_bytes(b"before")
    for out, message in (
        (tmp_path / "folder.npy", "folder.npy could not be written (Is a directory)"),
        (tmp_path / "none" / "p.npy", "p.npy could not be written (No such file or directory)"),
        ("/proc/p.npy", "/proc/p.npy could not be written ("),
    ):
        result = hf("predict", path, tmp_path / "x.npy", "--out", out)
        assert (result.exit_code, result.stdout) == (1, "") and message in result.stderr
        assert result.stderr.splitlines()[-1].startswith("error: ")
    with patch("hfnumba.atomic.os.write", side_effect=OSError(errno.ENOSPC, "No space left on device")):
        result = hf("predict", path, tmp_path / "x.npy", "--out", tmp_path / "p.npy")
    assert result.exit_code == 1 and "the disk is full: " in result.stderr and "p.npy could not be" in result.stderr
    np.save(tmp_path / "y.npy", np.full((5, 8), 1e300))
    result = hf("predict", path, tmp_path / "y.npy", "--out", tmp_path / "p.npy")
    assert result.exit_code == 1 and "feature 0 of row 0 (both counted from 0) is 1e+300" in result.stderr
    result = hf("predict", path, tmp_path / "y.npy")
    assert (result.exit_code, result.stdout) == (1, "")
    assert (tmp_path / "p.npy").read_bytes() == b"before"
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["folder.npy", "p.npy", "x.npy", "y.npy"]


def test_runs_is_a_table(finished):
    path, _ = finished
    header, row = hf("runs", path.parent).stdout.splitlines()
    assert cells(header)[:6] == ["run", "date", "store", "method", "hidden", "iterations"]
    name, date, store, *rest = cells(row)[:6]
    assert (name, store, rest) == ("first", "toy", ["hf-bicgstab", "5,4", "2 of 2"])
    (record,) = json.loads(hf("runs", path.parent, "--json").stdout)
    last = ledger.read(path / "ledger.jsonl")[-1]
    assert record["run"] == str(path) and record["hidden"] == [5, 4] and record["test_error"] == last["test_error"]
    assert record["date"].replace("T", " ").startswith(date) and record["best_iteration"] is None


def test_runs_takes_a_run_itself(finished, tmp_path, monkeypatch):
    path, _ = finished
    of_all, of_one = hf("runs", path.parent), hf("runs", path)
    assert (of_one.exit_code, of_one.stdout, of_one.stderr) == (0, of_all.stdout, "")
    monkeypatch.chdir(path)
    assert hf("runs", ".").stdout == of_all.stdout
    # One that has others in it, such as a directory of runs that was taken for a new run.
    shutil.copytree(path, tmp_path / "outer")
    shutil.copytree(path, tmp_path / "outer" / "inner")
    assert {cells(row)[0] for row in hf("runs", tmp_path / "outer").stdout.splitlines()} == {"run", "outer", "inner"}


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (PermissionError(errno.EACCES, "Permission denied"), "cannot be read (Permission denied)"),
        (FileNotFoundError(errno.ENOENT, "No such file"), "there is no directory"),
    ],
)
def test_runs_of_a_directory_that_cannot_be_listed(tmp_path, fault, message):
    with patch("pathlib.Path.iterdir", side_effect=fault):
        result = hf("runs", tmp_path)
    assert result.exit_code == 1 and message in result.stderr


def test_runs_show_the_best_validation(finished, tmp_path):
    shutil.copytree(finished[0], tmp_path / "v")
    lines = ledger.read(tmp_path / "v" / "ledger.jsonl")
    errors = zip(lines, (0.5, 0.125, 0.25), strict=True)
    ledger.write(
        tmp_path / "v" / "ledger.jsonl", [line | {"validation_error": e, "validation_loss": e} for line, e in errors]
    )
    header, row = hf("runs", tmp_path).stdout.splitlines()
    assert cells(header)[-1] == "best validation" and cells(row)[-1] == "12.50 %"


def test_runs_that_are_damaged_hide_no_others(finished, tmp_path):
    shutil.copytree(finished[0], tmp_path / "good")
    for name in ("config", "ledger", "gone"):
        shutil.copytree(finished[0], tmp_path / name)
    (tmp_path / "config" / "config.toml").write_text("hidden = [")
    (tmp_path / "ledger" / "ledger.jsonl").write_text("{}\n")
    (tmp_path / "gone" / "config.toml").unlink()
    (tmp_path / "gone" / "config.toml").symlink_to("nothing")
    result = hf("runs", tmp_path)
    assert result.exit_code == 1
    assert [cells(row)[0] for row in result.stdout.splitlines()] == ["run", "good"]
    named = [line.split()[1] for line in sorted(result.stderr.splitlines())]
    assert named == [str(tmp_path / "config" / "config.toml"), str(tmp_path / "gone"), "line"]


def test_plot_prints_the_path(finished, tmp_path):
    path, _ = finished
    result = hf("plot", path, "-o", tmp_path / "c.svg")
    assert result.stdout == f"{tmp_path / 'c.svg'}\n"
    assert (tmp_path / "c.svg").stat().st_size > 1000


@pytest.mark.parametrize(
    ("error", "status", "message"),
    [
        (HfnumbaError("what came"), 1, "error: what came\n"),
        (UsageError("what came"), 2, "error: what came\n"),
        (OSError(errno.ENOSPC, "No space", "f"), 1, "error: the disk is full (f)"),
        (MemoryError("9 GB"), 1, "error: there is not enough memory (9 GB)"),
        (ZeroDivisionError("by\nzero"), 1, "error: ZeroDivisionError: by zero (set HFNUMBA_DEBUG=1"),
        (KeyboardInterrupt(), 130, "error: interrupted\n"),
    ],
)
def test_whatever_is_raised_is_one_line(error, status, message):
    with patch("hfnumba.run.model.load_model", side_effect=error):
        result = hf("evaluate", "r", "s")
    assert result.exit_code == status
    assert result.stderr.startswith(message)
    assert result.stderr.count("\n") == 1


def test_debugging_shows_the_traceback(monkeypatch):
    monkeypatch.setenv("HFNUMBA_DEBUG", "1")
    with patch("hfnumba.run.model.load_model", side_effect=ZeroDivisionError):
        result = hf("evaluate", "r", "s")
    assert isinstance(result.exception, ZeroDivisionError)
