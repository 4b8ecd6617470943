"""`hfnumba train --tensorboard`: the numbers of the ledger, also after a resume."""

import sys

import pytest
from click.testing import CliRunner

from hfnumba import ledger
from hfnumba.cli import main


def train(store, run, *words):
    command = ["train", str(store), "--run", str(run), "--threads", "1", "--tensorboard", *map(str, words)]
    return CliRunner().invoke(main, command)


def scalars(run):
    """Values by name and step; a later file replaces those from its first step on, as TensorBoard shows them."""
    from tensorboardX.proto.event_pb2 import Event
    from tensorboardX.record_writer import masked_crc32c

    found = {}
    for path in sorted((run / "tensorboard").iterdir()):
        data, at = path.read_bytes(), 0
        while at < len(data):
            length = int.from_bytes(data[at : at + 8], "little")
            assert int.from_bytes(data[at + 8 : at + 12], "little") == masked_crc32c(data[at : at + 8])
            event = Event.FromString(data[at + 12 : at + 12 + length])
            at += 12 + length + 4
            for value in event.summary.value:
                found[value.tag, event.step] = value.simple_value
    return found


def test_the_numbers_are_those_of_the_ledger(toy_store, tmp_path):
    pytest.importorskip("tensorboardX")
    assert train(toy_store, tmp_path / "r", "--hidden", "4", "--max-iterations", 2).exit_code == 0
    assert train(toy_store, tmp_path / "r", "--max-iterations", 3, "--resume").exit_code == 0
    found, lines = scalars(tmp_path / "r"), ledger.read(tmp_path / "r" / "ledger.jsonl")
    assert {step for _, step in found} == {0, 1, 2, 3}
    for line in lines:
        for name in ("loss", "test_error", "damping", "rounds"):
            assert found[name, line["iteration"]] == pytest.approx(line[name], rel=1e-6)
    assert ("rho", 0) not in found and ("rho", 1) in found


def test_without_tensorboardx_it_is_refused_before_anything_is_written(toy_store, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    done = train(toy_store, tmp_path / "r", "--hidden", "4")
    assert (done.exit_code, done.stdout) == (2, "") and "pip install 'hfnumba[tensorboard]'" in done.stderr
    assert not (tmp_path / "r").exists()
