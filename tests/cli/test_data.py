import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from hfnumba.cli.data import data, stored
from hfnumba.errors import DataError, StoreError
from hfnumba.ingest import write_store
from hfnumba.store import open_store
from tests.tables import cells


@pytest.fixture
def archive(tmp_path):
    """An .npz file that a store can be built from."""
    rng = np.random.default_rng(0)
    path = tmp_path / "few.npz"
    np.savez(path, X=rng.integers(0, 256, (50, 4), dtype=np.uint8), y=np.arange(50) % 5)
    return path


def run(*arguments):
    return CliRunner().invoke(data, [str(argument) for argument in arguments])


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (float(np.float32(30.1)), "30.1"),
        (2020.0, "2020"),
        (16777216.0, "16777216"),
        (123456792.0, "123456792"),
        (1e300, "1e+300"),
        (1958.350559123, "1958.350559"),
        (float(np.float32(-1e30)), "-1e+30"),
    ],
)
def test_numbers_of_stores_are_those_that_were_given(value, text):
    assert stored(value) == text


def test_list():
    result = run("list")
    assert result.exit_code == 0
    assert [cells(line)[0] for line in result.stdout.splitlines()] == [
        "recipe",
        "digits",
        "fashion-mnist",
        "festvox-ru",
        "mnist",
        "synthetic-speech",
        "timit",
    ]
    recipes = json.loads(run("list", "--json").stdout)
    assert len(recipes) == 6
    assert all(recipe["licence"] for recipe in recipes)


def test_build_then_info_then_verify(archive, tmp_path):
    out = tmp_path / "a.zarr"
    result = run("build", archive, "--out", out, "--partitions", 4, "--rows", 20, "--seed", 7)
    assert result.exit_code == 0
    assert result.stdout == f"{out}\n"
    assert "20 train, 10 test rows" in result.stderr
    store = open_store(out)
    assert store.manifest.header.seed == 7 and store["train"].n_partitions == 4

    held = json.loads(run("info", out, "--json").stdout)
    assert held["digest"] == store.digest and held["name"] == "few"
    assert held["splits"]["train"] == {
        "n_rows": 20,
        "n_features": 4,
        "n_outputs": 5,
        "x_dtype": "uint8",
        "y_dtype": "uint8",
        "n_partitions": 4,
        "partition_rows": 5,
        "chunk_rows": 5,
        "context": 0,
        "weighted": False,
    }
    assert held["versions"].keys() == {"hfnumba", "numcodecs", "numpy", "zarr"} and held["recipe"]["format"] == "npz"
    assert "rows" not in json.loads(run("info", out, "--json", "--quick").stdout)
    train = held["rows"]["splits"]["train"]
    X, y = (np.concatenate(a) for a in zip(*(store["train"].load(j) for j in range(4)), strict=True))
    assert held["rows"]["classes"] == list("01234") and train["class_counts"] == np.bincount(y, minlength=5).tolist()
    assert train["minimum"] == X.min(axis=0).tolist() and train["maximum"] == X.max(axis=0).tolist()
    np.testing.assert_allclose(train["mean"], X.mean(axis=0))
    np.testing.assert_allclose(train["deviation"], X.std(axis=0))
    assert held["sources"][0]["nbytes"] == archive.stat().st_size
    plain = run("info", out).stdout
    lines = [cells(line) for line in plain.splitlines()]
    assert ["digest", store.digest] in lines and ["train", "20", "4", "5"] in [line[:4] for line in lines]
    assert ["few.npz", str(archive.stat().st_size)] in [line[:2] for line in lines]
    assert ["train", str(X.min()), str(X.max())] in [line[:3] for line in lines]
    histogram = lines[-5:]
    assert [int(row[1]) for row in histogram] == train["class_counts"]
    assert max(len(row[3]) for row in histogram) == 40
    assert "share of train" not in run("info", out, "--quick").stdout

    result = run("verify", out)
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout.startswith(f"{out} is sound: {len(store.manifest.files)} files, 30 rows")
    found = json.loads(run("verify", out, "--json").stdout)
    assert found["sound"] and found["faults"] == [] and found["digest"] == store.digest and found["n_rows"] == 30


def test_a_long_histogram_is_cut_and_regression_has_none(tmp_path):
    write_store(tmp_path / "many.zarr", {"train": (np.ones((200, 2), np.float32), np.arange(200) % 90)}, n_classes=100)
    result = run("info", tmp_path / "many.zarr")
    assert result.stderr.endswith("40 more classes; 10 classes have no training rows\n")
    assert result.stdout.splitlines()[-60].split()[:2] == ["0", "3"] and "constant features" in result.stdout
    write_store(tmp_path / "r.zarr", {"train": (np.ones((9, 2), np.float32), np.arange(9.0))})
    result = run("info", tmp_path / "r.zarr")
    assert result.exit_code == 0 and "share of train" not in result.stdout


def test_the_default_place_is_the_name_of_the_recipe(archive, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert run("build", "few.npz").exit_code == 0
    assert open_store("few.zarr")["train"].n_rows == 40


def test_the_steps(archive, tmp_path):
    out = tmp_path / "a.zarr"
    begun = run("init", archive, "--out", out, "--partitions", 3)
    assert (begun.exit_code, begun.stdout) == (0, "3\n")
    for j in range(3):
        assert run("partition", out, j).exit_code == 0
    done = run("finalise", out)
    assert (done.exit_code, done.stdout) == (0, "")
    built = run("build", archive, "--out", tmp_path / "b.zarr", "--partitions", 3)
    assert open_store(out).digest == open_store(built.stdout.strip()).digest


def test_verify_names_every_fault_and_fails(archive, tmp_path):
    out = tmp_path / "a.zarr"
    run("build", archive, "--out", out, "--partitions", 4)
    (out / "train/X/c/2/0").unlink()
    (out / "test/y/c/1").write_bytes(b"")
    result = run("verify", out)
    assert isinstance(result.exception, StoreError) and "faults found: 2" in str(result.exception)
    assert sorted(line.split()[0] for line in result.stdout.splitlines()) == ["test/y/c/1", "train/X/c/2/0"]


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (("build", "nothing"), DataError),
        (("info", "nowhere.zarr"), StoreError),
        (("verify", "nowhere.zarr"), StoreError),
        (("finalise", "nowhere.zarr"), StoreError),
        (("partition", "nowhere.zarr", 0), StoreError),
    ],
)
def test_errors_are_left_to_the_top_level(arguments, error, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert isinstance(run(*arguments).exception, error)


@pytest.mark.parametrize(
    "arguments",
    [
        ("build",),
        ("build", "digits", "--partitions", 0),
        ("build", "digits", "--rows", 0),
        ("build", "digits", "--seed", -1),
        ("build", "digits", "--seed", 2**63),
        ("partition", "a.zarr", "-1"),
        ("verify",),
    ],
)
def test_wrong_use(arguments):
    assert run(*arguments).exit_code == 2


def test_help_of_every_command():
    for command in ("list", "build", "init", "partition", "finalise", "info", "verify"):
        result = run(command, "--help")
        assert result.exit_code == 0 and "Usage:" in result.stdout


def test_the_commands_load_nothing_slow():
    slow = ("zarr", "numba", "dask", "rich", "pooch")
    code = f"import sys, hfnumba.cli.data; print([m for m in {slow} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_data_room_loads_neither_dask_nor_numba(archive, tmp_path):
    code = (
        "import sys, hfnumba.ingest as d;"
        f"d.build({str(archive)!r}, out={str(tmp_path / 'a.zarr')!r})['train'].load(0);"
        "print([m for m in ('numba', 'dask', 'distributed') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_an_interrupted_build_says_how_to_continue(archive, tmp_path, monkeypatch):
    def interrupted(*args, reporter, **settings):
        reporter.progress("Writing partitions", "partitions")(1, 4)
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("hfnumba.ingest.build", interrupted)
        result = run("build", archive, "--out", tmp_path / "a.zarr")
    assert result.exit_code == 130
    assert result.stderr == "error: interrupted; the same command continues the build\n"


def test_text_from_data_reaches_no_terminal_as_it_is(tmp_path, monkeypatch):
    """A label may hold the escapes that change what a terminal shows."""
    bad = "\x1b[2J\x1b]0;owned\x07"
    monkeypatch.chdir(tmp_path)
    Path("a.csv").write_text("x,k\n" + f"1,a\n2,{bad}\n3,[red]b\n" * 5)
    Path("t.toml").write_text('name = "t"\nformat = "csv"\n[table]\ntrain = ["a.csv"]\nlabel = "k"\n')
    for words in (("build", "t.toml", "--source", "."), ("info", "t.zarr")):
        result = run(*words)
        assert result.exit_code == 0, result.output
        assert "\x1b" not in result.output and r"\x1b[2J" in result.output and "[red]b" in result.output
    Path("a.csv").write_text(f"x,k\n1,a\n{bad},b\n")
    result = run("build", "t.toml", "--source", ".", "--out", "u.zarr")
    assert isinstance(result.exception, DataError) and r"\x1b[2J" in str(result.exception)
