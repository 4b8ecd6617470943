"""What is removed while a run trains is named, and the run is whole again where that is possible."""

import errno
import fcntl
import os
import shutil
import socket

import pytest

from hfnumba import ledger
from hfnumba.checkpoint import iterations, newest_checkpoint
from hfnumba.errors import CheckpointError, ClusterError
from hfnumba.run import RunDirectory, train
from hfnumba.run.lock import DirectoryLock, locked
from tests.silent import Silent

BASE = {"hidden": (6,), "max_iterations": 3, "seed": 1, "threads": 1}


def run(store, path, on_iteration=lambda line: None, resume=False, **given):
    return train(store, RunDirectory(path), BASE | given, Silent(on_iteration), resume=resume)


def comparable(path):
    return [{**line, "elapsed_s": 0} for line in ledger.read(path / "ledger.jsonl")]


@pytest.fixture(scope="module")
def straight(toy_store, tmp_path_factory):
    path = tmp_path_factory.mktemp("run") / "straight"
    run(toy_store, path)
    return path


def same(a, b):
    found = [newest_checkpoint(path / "checkpoints").tensors["theta"].tobytes() for path in (a, b)]
    return found[0] == found[1] and comparable(a) == comparable(b)


def at(iteration, action):
    return lambda line: action() if line["iteration"] == iteration else None


REMOVALS = {
    "config.toml": lambda path: (path / "config.toml").unlink(),
    "ledger.jsonl": lambda path: (path / "ledger.jsonl").unlink(),
    "safetensors": lambda path: [file.unlink() for file in path.glob("checkpoints/*.safetensors")],
    "json": lambda path: [file.unlink() for file in path.glob("checkpoints/*.json")],
    "checkpoints": lambda path: shutil.rmtree(path / "checkpoints"),
    "config.toml, ledger.jsonl, checkpoints": shutil.rmtree,
    "config.toml of": lambda path: (path / "config.toml").write_bytes(b""),
    "ledger.jsonl of the": lambda path: (path / "ledger.jsonl").write_bytes(b""),
    "checkpoints/iteration-": lambda path: [file.write_bytes(b"") for file in path.glob("checkpoints/*")],
    "ledger.jsonl of": lambda path: [(path / "ledger.jsonl").unlink(), os.mkfifo(path / "ledger.jsonl")],
}


@pytest.mark.parametrize("iteration", [0, 3])
@pytest.mark.parametrize("what", REMOVALS)
def test_what_is_removed_while_a_run_trains_is_named_and_written_again(toy_store, tmp_path, straight, what, iteration):
    path = tmp_path / "r"
    with pytest.raises(CheckpointError, match=rf"{what}.* went missing.* are written again, up to iteration"):
        run(toy_store, path, at(iteration, lambda: REMOVALS[what](path)))
    # Nothing is lost: the iteration that was computed meanwhile is there too.
    assert iterations(path / "checkpoints")[-1] == min(iteration + 1, 3)
    run(toy_store, path, resume=True)
    assert same(path, straight)


@pytest.mark.parametrize("content", [b"", b'{"iteration": 0}\n'])
def test_a_ledger_that_others_changed_is_written_again(toy_store, tmp_path, straight, content):
    path = tmp_path / "r"
    with pytest.raises(CheckpointError, match=r"ledger\.jsonl of the run in .* went missing or changed"):
        run(toy_store, path, at(2, lambda: (path / "ledger.jsonl").write_bytes(content)))
    assert same(path, straight)


def test_a_resumed_run_misses_its_checkpoint_too(toy_store, tmp_path, straight):
    path = tmp_path / "r"
    run(toy_store, path, max_iterations=1)

    class Removing(Silent):
        def begin(self, settings, line):
            shutil.rmtree(path)

    with pytest.raises(CheckpointError, match="are written again, up to iteration 1"):
        train(toy_store, RunDirectory(path), BASE, Removing(), resume=True)
    run(toy_store, path, resume=True)
    assert same(path, straight)


def test_a_run_that_took_the_place_of_another_is_not_written_over(toy_store, tmp_path):
    path = tmp_path / "r"

    def replace():
        shutil.rmtree(path)
        run(toy_store, path, seed=2)

    with pytest.raises(
        CheckpointError, match=r"not written again: another run has begun in .*r; give each run its own directory$"
    ):
        run(toy_store, path, at(1, replace))
    run(toy_store, path, resume=True, seed=2)
    assert [line["iteration"] for line in ledger.read(path / "ledger.jsonl")] == [0, 1, 2, 3]


def test_a_lock_that_was_removed_is_taken_again_unless_another_process_has_it(toy_store, tmp_path, straight):
    path = tmp_path / "r"
    run(toy_store, path, at(1, (path / ".lock").unlink))
    assert same(path, straight)
    taken = []

    def take():
        (path / ".lock").unlink()
        taken.append((path / ".lock").open("w"))
        fcntl.flock(taken[0], fcntl.LOCK_EX)

    with pytest.raises(CheckpointError, match="another process is training in"):
        run(toy_store, path, at(4, take), resume=True, max_iterations=9)
    taken[0].close()
    run(toy_store, path, resume=True, max_iterations=9)


def test_a_start_that_fails_removes_only_what_it_made(toy_store, tmp_path, monkeypatch):
    path = tmp_path / "r"

    def fail(*_):
        (path / "notes").mkdir()
        (path / "notes" / "of others.txt").write_text("kept")
        raise ClusterError("none")

    with monkeypatch.context() as patch:
        patch.setattr("hfnumba.launch.open_cluster", fail)
        with pytest.raises(ClusterError):
            run(toy_store, path)
    assert (path / "notes" / "of others.txt").read_text() == "kept"


def test_an_empty_directory_that_was_made_goes_and_one_that_was_there_stays(tmp_path):
    for path, stays in ((tmp_path / "new", False), (tmp_path / "old", True)):
        if stays:
            path.mkdir()
        with locked(path):
            assert path.is_dir()
        assert path.exists() == stays


def test_a_folder_that_vanished_with_its_lock_is_no_fault_of_its_end(tmp_path):
    with locked(tmp_path / "r"):
        shutil.rmtree(tmp_path / "r")


@pytest.fixture(params=[errno.ENOSYS, errno.ENOLCK], ids=["ENOSYS", "ENOLCK"])
def no_flock(monkeypatch, request):
    """A file system without locks, as some of clusters are, or are mounted."""

    def flock(*_):
        raise OSError(request.param, os.strerror(request.param))

    monkeypatch.setattr(fcntl, "flock", flock)


def test_without_flock_a_run_trains_and_resumes_without_a_warning(toy_store, tmp_path, straight, no_flock, recwarn):
    path = tmp_path / "r"
    run(toy_store, path, max_iterations=1)
    assert not (path / ".lock").exists()
    run(toy_store, path, resume=True)
    assert same(path, straight)
    assert not [warning for warning in recwarn if "flock" in str(warning.message)]


@pytest.mark.parametrize(
    ("content", "owner"), [("4711\nnode7\n", " of process 4711 on node7;"), ("", ";"), ("\x1b[2J 1", ";")]
)
def test_without_flock_the_lock_of_a_killed_process_of_another_machine_is_named(
    toy_store, tmp_path, straight, no_flock, content, owner
):
    path = tmp_path / "r"
    run(toy_store, path, max_iterations=1)
    (path / ".lock").write_text(content)
    with pytest.raises(CheckpointError, match=rf"the file {path}/\.lock is the lock{owner}") as e:
        run(toy_store, path, resume=True)
    assert "delete this file" in str(e.value) and str(e.value).isprintable()
    (path / ".lock").unlink()
    run(toy_store, path, resume=True)
    assert same(path, straight)


def test_without_flock_one_process_at_a_time(tmp_path, no_flock):
    with (
        locked(tmp_path / "r"),
        pytest.raises(CheckpointError, match=f"of process {os.getpid()} on {socket.gethostname()}"),
    ):
        DirectoryLock(tmp_path / "r").acquire()
