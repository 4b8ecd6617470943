"""Checkpoints are read as they were written, to the bit, and a fault at any point leaves the old or the new one."""

import json
import os

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from safetensors.numpy import load_file

from hfnumba import atomic
from hfnumba.checkpoint import Checkpoint, iterations, newest_checkpoint, read_checkpoint, write_checkpoint
from hfnumba.errors import CheckpointError


def checkpoint(iteration, seed=0):
    rng = np.random.default_rng((iteration, seed))
    return Checkpoint(
        iteration=iteration,
        tensors={"theta": rng.normal(size=50).astype(np.float32), "warm_start": rng.normal(size=50)},
        scalars={"iteration": iteration, "damping": 0.1 + iteration / 3, "rounds": 7, "stopped": "", "error": None},
        store_digest="s" * 64,
        settings_digest="t" * 64,
        ledger_line={"iteration": iteration, "loss": 1 / 3},
    )


def same(a, b):
    if a is None or b is None:
        return a is b
    rest = [(c.iteration, c.scalars, c.store_digest, c.settings_digest, c.ledger_line) for c in (a, b)]
    return (
        rest[0] == rest[1]
        and a.tensors.keys() == b.tensors.keys()
        and all(a.tensors[k].tobytes() == b.tensors[k].tobytes() for k in a.tensors)
        and all(a.tensors[k].dtype == b.tensors[k].dtype for k in a.tensors)
    )


def test_round_trip_and_public_layout(tmp_path):
    written = checkpoint(3)
    path = write_checkpoint(tmp_path, written)
    assert same(newest_checkpoint(tmp_path), written)
    assert path == tmp_path / "iteration-00003.json"
    # Readable without hfnumba: the parameters are the tensor `theta`.
    np.testing.assert_array_equal(load_file(path.with_suffix(".safetensors"))["theta"], written.tensors["theta"])
    assert json.loads(path.read_text())["scalars"] == written.scalars


@given(
    theta=arrays(np.float32, st.integers(0, 20), elements=st.floats(width=32)),
    damping=st.floats(allow_nan=False),
)
@settings(max_examples=25)
def test_any_bits_survive(tmp_path_factory, theta, damping):
    folder = tmp_path_factory.mktemp("any")
    write_checkpoint(folder, Checkpoint(1, {"theta": theta[::-1]}, {"damping": damping}, "s", "t", {"iteration": 1}))
    found = newest_checkpoint(folder)
    assert found.tensors["theta"].tobytes() == theta[::-1].tobytes()
    assert found.scalars == {"damping": damping}


def test_the_newest_two_are_kept_and_leftovers_go(tmp_path):
    (tmp_path / f".iteration-00001.json.77{atomic.TEMPORARY}").write_text("torn")
    for i in range(5):
        write_checkpoint(tmp_path, checkpoint(i))
        assert iterations(tmp_path) == list(range(max(0, i - 1), i + 1))
    assert len(list(tmp_path.iterdir())) == 4
    assert same(newest_checkpoint(tmp_path), checkpoint(4))


def test_files_of_others_in_the_folder_stay(tmp_path):
    names = ("best.safetensors", "iteration-1 copy.json", "iteration-00000.safetensors.gz", "notes.tmp", "a.json")
    for name in names:
        (tmp_path / name).write_text("kept")
    for i in range(4):
        write_checkpoint(tmp_path, checkpoint(i))
    assert {path.name for path in tmp_path.iterdir() if path.read_bytes() == b"kept"} == set(names)


def test_order_is_by_number_beyond_five_digits(tmp_path):
    write_checkpoint(tmp_path, checkpoint(99_999))
    write_checkpoint(tmp_path, checkpoint(100_000))
    assert newest_checkpoint(tmp_path).iteration == 100_000


def test_nothing_is_no_checkpoint(tmp_path):
    assert newest_checkpoint(tmp_path) is None
    assert newest_checkpoint(tmp_path / "missing") is None


def flip(path):
    payload = bytearray(path.read_bytes())
    payload[len(payload) // 2] ^= 1
    path.write_bytes(payload)


def pipe(path):
    path.unlink()
    os.mkfifo(path)


def endless(path):
    path.unlink()
    path.symlink_to("/dev/zero")


@pytest.mark.parametrize(
    ("suffix", "damage"),
    [
        (".safetensors", flip),
        (".safetensors", lambda path: path.write_bytes(path.read_bytes()[:-3])),
        (".safetensors", lambda path: path.unlink()),
        (".safetensors", lambda path: path.write_bytes(b"")),
        (".json", lambda path: path.write_bytes(path.read_bytes()[:-30])),
        (".json", lambda path: path.write_bytes(b"")),
        (".json", lambda path: path.write_text("[]")),
        (".json", lambda path: path.write_text('{"format": 2}')),
        (".json", lambda path: path.write_text('{"format": 1}')),
        (".json", lambda path: path.write_text('{"format": 3}')),
        (".json", lambda path: path.write_text("[" * 100_000)),
        (".json", lambda path: path.write_bytes(b"\xff\xfe")),
        (".json", pipe),
        (".safetensors", pipe),
        (".json", endless),
        (".safetensors", endless),
        (".json", lambda path: os.truncate(path, 1 << 40)),
        (".safetensors", lambda path: os.truncate(path, 1 << 40)),
    ],
)
def test_damage_is_named_and_never_passed_over(tmp_path, suffix, damage):
    write_checkpoint(tmp_path, checkpoint(1))
    path = write_checkpoint(tmp_path, checkpoint(2))
    damage(path.with_suffix(suffix))
    with pytest.raises(CheckpointError, match="iteration-00002"):
        newest_checkpoint(tmp_path)
    assert same(read_checkpoint(tmp_path / "iteration-00001.json"), checkpoint(1))


@pytest.mark.parametrize("step", [pytest.param(1, marks=pytest.mark.slow), 13])
def test_flipped_bits_of_the_values_are_noticed_or_change_nothing(tmp_path, step):
    written = checkpoint(2)
    path = write_checkpoint(tmp_path, written)
    payload = path.read_bytes()
    unchanged = 0
    for bit in range(0, 8 * len(payload), step):
        damaged = bytearray(payload)
        damaged[bit // 8] ^= 1 << bit % 8
        path.write_bytes(damaged)
        try:
            found = read_checkpoint(path)
        except CheckpointError as error:
            assert "iteration-00002.json" in str(error)
        else:
            assert same(found, written), bit
            unchanged += 1
    # Spaces between values, for instance.
    assert unchanged < 8 * len(payload) / step / 20


def test_a_checkpoint_under_the_name_of_another_is_refused(tmp_path):
    path = write_checkpoint(tmp_path, checkpoint(2))
    for suffix in (".json", ".safetensors"):
        path.with_suffix(suffix).rename(tmp_path / f"iteration-00003{suffix}")
    with pytest.raises(CheckpointError, match=r"iteration-00003\.json is damaged"):
        newest_checkpoint(tmp_path)


def of_format_1(path, **changed):
    """Make a checkpoint one of the first format, with other values."""
    record = json.loads(path.read_text())
    del record["sha256"], record["tensors_nbytes"]
    path.write_text(json.dumps(record | {"format": 1} | changed, indent=1))


def test_a_checkpoint_of_the_first_format_is_read(tmp_path):
    of_format_1(write_checkpoint(tmp_path, checkpoint(2)))
    assert same(newest_checkpoint(tmp_path), checkpoint(2))


@pytest.mark.parametrize(
    "changed",
    [
        {"iteration": 3},
        {"iteration": -2},
        {"iteration": 2.5},
        {"scalars": {"iteration": 3}},
        {"ledger_line": {"iteration": 1}},
        {"scalars": []},
        {"store_digest": None},
        {"colour": 1},
        {"sha256": "0" * 64},
    ],
    ids=str,
)
def test_a_checkpoint_of_the_first_format_that_contradicts_itself_is_refused(tmp_path, changed):
    of_format_1(write_checkpoint(tmp_path, checkpoint(2)), **changed)
    with pytest.raises(CheckpointError, match=r"iteration-00002\.json is damaged"):
        newest_checkpoint(tmp_path)


OPERATIONS = ("open", "write", "fsync", "close", "replace", "unlink")


class Faults:
    """Counts the file operations of `atomic`, and makes the k-th of them fail, before or after it is done."""

    def __init__(self, monkeypatch, error):
        self.count, self.failing, self.late = 0, None, False
        for name in OPERATIONS:
            monkeypatch.setattr(atomic.os, name, self.wrapped(getattr(os, name), error))

    def wrapped(self, function, error):
        def operation(*arguments, **keywords):
            self.count += 1
            fails = self.count == self.failing
            if fails and not self.late:
                raise error
            result = function(*arguments, **keywords)
            if fails:
                raise error
            return result

        return operation


@pytest.mark.parametrize("late", [False, True], ids=["before", "after"])
@pytest.mark.parametrize(
    "error", [OSError(28, "No space left on device"), OSError(5, "Input/output error"), KeyboardInterrupt()]
)
def test_each_file_operation_fails_in_turn(tmp_path, monkeypatch, error, late):
    with monkeypatch.context() as patch:
        faults = Faults(patch, error)
        write_checkpoint(tmp_path / "count", checkpoint(2))
    total = faults.count
    assert total > 10
    seen = set()
    for k in range(1, total + 1):
        folder = tmp_path / str(k)
        old, new = checkpoint(1), checkpoint(2)
        write_checkpoint(folder, old)
        raised = False
        with monkeypatch.context() as patch:
            faults = Faults(patch, error)
            faults.failing, faults.late = k, late
            try:
                write_checkpoint(folder, new)
            except (CheckpointError, KeyboardInterrupt) as caught:
                raised = True
                if isinstance(error, OSError) and error.errno == 28:
                    assert "the disk is full" in str(caught)
        found = newest_checkpoint(folder)
        assert same(found, old) or same(found, new)
        if not raised:
            assert same(found, new)
        seen.add(found.iteration)
        # The next attempt works normally.
        write_checkpoint(folder, new)
        assert same(newest_checkpoint(folder), new)
        assert not [path for path in folder.iterdir() if path.suffix == atomic.TEMPORARY]
    assert seen == {1, 2}, "both outcomes must occur, or the faults were not where they should be"


def test_short_writes_are_completed(tmp_path, monkeypatch):
    write = os.write
    with monkeypatch.context() as patch:
        patch.setattr(atomic.os, "write", lambda descriptor, payload: write(descriptor, payload[:7]))
        write_checkpoint(tmp_path, checkpoint(1))
    assert same(newest_checkpoint(tmp_path), checkpoint(1))


def test_files_that_are_not_of_checkpoints_are_left_alone(tmp_path):
    """The folder may be a link to another one."""
    names = ["notes.json", "model.safetensors", "paper.tmp", "iteration-1.txt", "iteration-x.json"]
    stale = [".iteration-00001.json.77.tmp", ".iteration-00001.safetensors.a0.tmp", "iteration-00007.safetensors"]
    for name in names + stale:
        (tmp_path / name).write_text("")
    for k in (1, 2, 3):
        write_checkpoint(tmp_path, checkpoint(k))
    own = [f"iteration-0000{k}.{suffix}" for k in (2, 3) for suffix in ("json", "safetensors")]
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(names + own)
    assert same(newest_checkpoint(tmp_path), checkpoint(3))


def test_no_link_of_somebody_else_is_followed(tmp_path, monkeypatch):
    """In a folder that others can write, the name of a temporary file may be taken, by a link to any file of ours."""
    ours = tmp_path / "ours"
    ours.write_text("precious")
    taken = tmp_path / ".x.ab.tmp"
    taken.symlink_to(ours)
    with monkeypatch.context() as patch:
        patch.setattr(atomic.secrets, "token_hex", lambda n: "ab")
        with pytest.raises(FileExistsError):
            atomic.write_file(tmp_path / "x", b"new")
    assert ours.read_text() == "precious" and taken.is_symlink()
    atomic.write_file(tmp_path / "x", b"new")
    assert (tmp_path / "x").read_bytes() == b"new"
