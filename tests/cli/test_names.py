"""Folders and files whose names are not UTF-8, in every command that writes a path or prints one."""

import json
import os
import tomllib
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from hfnumba.cli import main
from hfnumba.ingest import build, finalise, init, write_partition
from hfnumba.kernels import cache
from hfnumba.path_text import path_text, text_path
from hfnumba.run.directory import RunDirectory
from hfnumba.store import open_store
from hfnumba.store.verify import verify


def run(*words):
    result = CliRunner().invoke(main, [str(word) for word in words])
    assert result.exit_code == 0, result.output
    return result.stdout_bytes


@pytest.fixture
def folder(tmp_path):
    """A folder with rows, whose name is that of a café in Latin-1."""
    path = tmp_path / os.fsdecode(b"caf\xe9")
    try:
        path.mkdir()
    except OSError:
        pytest.skip("this file system has names of UTF-8 only")
    y = np.arange(60) % 3
    X = np.random.default_rng(0).normal(size=(60, 4)) + y[:, None]
    np.savez(path / os.fsdecode(b"\xe9.npz"), X=X, y=y)
    np.save(path / "X.npy", X)
    np.save(path / "y.npy", y)
    (path / "t.toml").write_text(
        'name = "t"\nformat = "npy"\n[arrays.train]\nfeatures = ["X.npy"]\nlabels = ["y.npy"]\n'
    )
    return path


def test_a_store_in_steps(folder, tmp_path):
    out, n_partitions = init(folder / "t.toml", folder, folder / "a.zarr", n_partitions=3)
    for j in range(n_partitions):
        write_partition(out, j)
    store = finalise(out)
    assert verify(store) == []
    assert store.digest == build(folder / "t.toml", folder, tmp_path / "b.zarr", n_partitions=3).digest


def test_an_archive(folder):
    archive = folder / os.fsdecode(b"\xe9.npz")
    assert run("data", "build", archive, "--out", folder / "a.zarr") == os.fsencode(folder / "a.zarr") + b"\n"
    store = open_store(folder / "a.zarr")
    assert store.manifest.header.title == store.manifest.header.sources[0].name == "\N{REPLACEMENT CHARACTER}.npz"
    out, _ = init(archive, out=folder / "b.zarr", n_partitions=1)
    write_partition(out, 0)
    assert finalise(out)["train"].n_rows == store["train"].n_rows


@pytest.mark.parametrize("kind", ["csv", "parquet", "hdf5", "libsvm"])
def test_tables(folder, kind):
    rows = {"x": np.arange(60.0), "k": np.arange(60) % 2}
    if kind == "csv":
        (folder / "a").write_text("x,k\n" + "".join(f"{i},{i % 2}\n" for i in range(60)))
    elif kind == "libsvm":
        (folder / "a").write_text("".join(f"{i % 2} 1:{i}\n" for i in range(60)))
    elif kind == "parquet":
        pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
        with (folder / "a").open("wb") as file:
            pq.write_table(pa.table(rows), file)
    else:
        with (folder / "a").open("w+b") as file, pytest.importorskip("h5py").File(file, "w") as data:
            data["X"], data["y"] = rows["x"][:, None], rows["k"]
    label = "" if kind in ("hdf5", "libsvm") else 'label = "k"\n'
    (folder / "t.toml").write_text(f'name = "t"\nformat = "{kind}"\n[table]\ntrain = ["a"]\n{label}')
    store = build(folder / "t.toml", folder, folder / "a.zarr", n_partitions=1)
    assert store["train"].n_rows + store["test"].n_rows == 60 and verify(store) == []


def test_a_run(folder):
    run("data", "build", folder / "t.toml", "--source", folder, "--out", folder / "a.zarr")
    command = ("train", folder / "a.zarr", "--hidden", "3", "--run", folder / "r", "--cluster", "none")
    run(*command, "--max-iterations", "1")
    run(*command, "--max-iterations", "2", "--resume")
    config = tomllib.loads((folder / "r/config.toml").read_text("utf-8"))
    assert text_path(config["store"]["path"]) == folder / "a.zarr"
    assert text_path(RunDirectory(folder / "r").record().store.path) == folder / "a.zarr"
    assert b"2 of 2" in run("runs", folder)
    assert b"test" in run("evaluate", folder / "r", folder / "a.zarr")
    found = json.loads(run("evaluate", folder / "r", folder / "a.zarr", "--json"))
    assert (text_path(found["run"]), text_path(found["store"])) == (folder / "r", folder / "a.zarr")
    found = json.loads(run("data", "verify", folder / "a.zarr", "--json"))
    assert text_path(found["store"]) == folder / "a.zarr"
    assert run("predict", folder / "r", folder / "X.npy").count(b"\n") == 60
    assert b"is sound" in run("data", "verify", folder / "a.zarr")


@pytest.mark.slow
def test_what_is_made_of_a_run(folder):
    store, of_run = folder / "a.zarr", folder / os.fsdecode(b"r\xe9")
    run("data", "build", folder / "t.toml", "--source", folder, "--out", store)
    run("train", store, "--hidden", "3", "--run", of_run, "--max-iterations", "1", "--threads", "1")
    for command, *more in (("report",), ("plot",), ("plot", "-o", folder / "c.svg"), ("export", "--to", "npz")):
        assert (of_run if more[:1] != ["-o"] else folder) in run_path(run(command, of_run, *more)).parents
    assert b"loss" in run("watch", of_run) and run("explain", of_run)
    # JSON has Unicode only; paths are as in the run's own files.
    for words, key, path in (
        (("data", "info", store), "path", store),
        (("data", "verify", store), "store", store),
        (("evaluate", of_run, store), "run", of_run),
        (("evaluate", of_run, store), "store", store),
        (("spectrum", of_run, store, "--steps", "4", "--probes", "2", "--extreme", "1"), "run", of_run),
        (("predict", of_run, folder / "X.npy", "-o", folder / "p.csv"), "rows", folder / "X.npy"),
    ):
        assert json.loads(run(*words, "--json"))[key] == path_text(path)


def run_path(printed):
    """The path that a command has printed, of a file that is there."""
    path = Path(os.fsdecode(printed.rstrip(b"\n")))
    assert path.is_file()
    return path


def test_a_package_in_such_a_folder_has_a_cache(folder, monkeypatch):
    monkeypatch.setattr(cache, "__file__", str(folder / "cache.py"))
    assert len(cache._fingerprint()) == 16
