"""Files of somebody else: what they name is not run, opened or connected to."""

import asyncio
import json
import pickle
import re
import shutil
import threading
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from hfnumba.cli import main
from hfnumba.errors import UsageError
from hfnumba.run import RunDirectory, train
from hfnumba.store import files, manifest
from hfnumba.store.reading import read_manifest
from tests.silent import Silent

SETTINGS = {"hidden": (3,), "max_iterations": 1, "threads": 1}


class Hostile:
    """What makes a file when it is unpickled."""

    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return Path.touch, (self.marker,)


@pytest.fixture
def hostile(tmp_path):
    """Address of a listener whose answer makes a file when it is unpickled, and that file."""
    from distributed.core import Server
    from distributed.protocol import to_serialize

    marker, loop, ready = tmp_path / "marker", asyncio.new_event_loop(), threading.Event()
    found = {}

    async def serve():
        def identity():
            return {"type": "Worker", "x": to_serialize(Hostile(marker))}

        server = Server({"identity": identity}, serializers=["pickle"], local_directory=str(tmp_path))
        server.handlers["identity"] = identity
        await server.listen("tcp://127.0.0.1:0")
        found.update(address=server.address, stop=asyncio.Event())
        ready.set()
        await found["stop"].wait()
        await server.close()

    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),))
    thread.start()
    ready.wait()
    yield found["address"], marker
    loop.call_soon_threadsafe(found["stop"].set)
    thread.join()
    loop.close()


def hf(*words):
    return CliRunner().invoke(main, ["train", *map(str, words)])


@pytest.fixture
def begun(toy_store, tmp_path, hostile):
    """A run whose config names the hostile address."""
    path = tmp_path / "run"
    train(toy_store, RunDirectory(path), SETTINGS, Silent())
    config = path / "config.toml"
    text, n = re.subn("(?m)^cluster = .*$", f'cluster = "{hostile[0]}"', config.read_text())
    assert n == 1
    # The workers of a cluster have their own number of threads.
    config.write_text(text.replace("threads = 1\n", ""))
    return path


@pytest.mark.parametrize("how", ["config", "resume"])
def test_an_address_from_a_file_is_not_connected_to(how, toy_store, tmp_path, begun, hostile):
    address, marker = hostile
    words = (
        ["--run", begun, "--resume"]
        if how == "resume"
        else ["--config", begun / "config.toml", "--run", tmp_path / "r"]
    )
    result = hf(toy_store, *words)
    assert result.exit_code == 2
    assert f"config.toml names the cluster '{address}', whose processes can run code as you" in result.output
    assert "add --trust-config" in result.output
    assert not marker.exists()
    # The proof is one: an address that the user gives is connected to, and what it answers is unpickled.
    for trusted in (["--cluster", address], ["--trust-config"]):
        assert hf(toy_store, *words, *trusted).exit_code == 1
        assert marker.exists()
        marker.unlink()


def test_a_run_with_an_address_goes_on_elsewhere(toy_store, begun, hostile):
    result = hf(toy_store, "--run", begun, "--resume", "--cluster", "none", "--max-iterations", 2)
    assert result.exit_code == 0, result.output
    assert not hostile[1].exists()


def test_python_does_not_connect_to_an_address_from_a_run_either(toy_store, begun, hostile):
    with pytest.raises(UsageError, match="names the cluster"):
        train(toy_store, RunDirectory(begun), {}, Silent(), resume=True)
    assert not hostile[1].exists()


def pickled(marker, path):
    path.write_bytes(pickle.dumps(Hostile(marker)))


def objects(marker, path):
    np.save(path, np.array([[Hostile(marker)]], object), allow_pickle=True)


def archive_of_objects(marker, path):
    np.savez(path, X=np.array([[Hostile(marker)]], object), y=np.zeros(1, int))


@pytest.mark.parametrize(
    ("name", "make", "commands"),
    [
        ("x.npy", pickled, ["predict {run} {file}"]),
        ("x.npy", objects, ["predict {run} {file}"]),
        ("x.npz", archive_of_objects, ["predict {run} {file}", "data build {file}"]),
    ],
)
def test_rows_are_never_unpickled(toy_store, tmp_path, name, make, commands):
    run, file, marker = tmp_path / "run", tmp_path / name, tmp_path / "marker"
    train(toy_store, RunDirectory(run), SETTINGS, Silent())
    make(marker, file)
    for command in commands:
        result = CliRunner().invoke(main, command.format(run=run, file=file).split())
        assert result.exit_code == 1 and "error: " in result.output
        assert not marker.exists()


def test_a_checkpoint_is_never_unpickled(toy_store, tmp_path):
    run, marker = tmp_path / "run", tmp_path / "marker"
    train(toy_store, RunDirectory(run), SETTINGS, Silent())
    for path in (run / "checkpoints").glob("*.safetensors"):
        pickled(marker, path)
        record = path.with_suffix(".json")
        record.write_text(
            json.dumps(json.loads(record.read_text()) | {"tensors_sha256": sha256(path.read_bytes()).hexdigest()})
        )
    for command in (f"evaluate {run} {toy_store}", f"train {toy_store} --run {run} --resume", f"runs {tmp_path}"):
        CliRunner().invoke(main, command.split())
        assert not marker.exists()


@pytest.mark.parametrize(
    "change",
    [
        {"codecs": [{"name": "numcodecs.pickle", "configuration": {}}, {"name": "bytes"}]},
        {"data_type": {"name": "numpy.object", "configuration": {}}},
    ],
)
def test_a_store_with_other_codecs_is_refused(toy_store, tmp_path, change):
    """Also where its manifest agrees with it."""
    path, marker = tmp_path / "s.zarr", tmp_path / "marker"
    shutil.copytree(toy_store, path)
    key = "train/X/zarr.json"
    (path / key).write_text(json.dumps(json.loads((path / key).read_text()) | change))
    chunk = path / "train/X/c/0/0"
    pickled(marker, chunk)
    found, _ = read_manifest(path)
    names = (key, chunk.relative_to(path).as_posix())
    records = dict(found.files) | {name: files.record((path / name).read_bytes()) for name in names}
    (path / manifest.NAME).write_bytes(manifest.sealed(found.header, records))
    for command in (f"data verify {path}", f"data info {path}", f"train {path} --hidden 3 --run {tmp_path / 'r'}"):
        result = CliRunner().invoke(main, command.split())
        assert result.exit_code == 1 and "error: " in result.output
        assert not marker.exists()


def test_types_of_python_in_parquet_are_columns_of_numbers(tmp_path):
    arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    marker = tmp_path / "marker"
    bomb = pickle.dumps(Hostile(marker))
    types = {"ARROW:extension:name": "arrow.py_extension_type", "ARROW:extension:metadata": bomb}
    schema = arrow.schema(
        [arrow.field("a", arrow.float64(), metadata=types), arrow.field("label", arrow.int64())],
        metadata={"pandas": bomb},
    )
    columns = [arrow.array([float(i) for i in range(20)]), arrow.array([0, 1] * 10)]
    parquet.write_table(arrow.table(columns, schema=schema), tmp_path / "t.parquet")
    recipe = tmp_path / "t.toml"
    recipe.write_text('name = "t"\nformat = "parquet"\n[table]\nlabel = "label"\ntrain = ["t.parquet"]\n')
    words = ["data", "build", recipe, "--source", tmp_path, "--out", tmp_path / "s.zarr"]
    assert CliRunner().invoke(main, list(map(str, words))).exit_code == 0
    assert not marker.exists()
