"""Files of somebody else: what they name is not run, opened or connected to."""

import asyncio
import re
import threading
from pathlib import Path

import pytest
from click.testing import CliRunner

from hfnumba.cli import main
from hfnumba.errors import UsageError
from hfnumba.run import RunDirectory, train
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
