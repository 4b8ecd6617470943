import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hfnumba import atomic, ledger
from hfnumba.errors import CheckpointError


def lines(n):
    return [{"iteration": i, "loss": 1 / (i + 3), "note": "größer\n"} for i in range(n)]


def write(path, wanted):
    for line in wanted:
        ledger.append(path, line)


def test_lines_are_read_as_they_were_written(tmp_path):
    path = tmp_path / "ledger.jsonl"
    assert ledger.read(path) == []
    write(path, lines(4))
    assert ledger.read(path) == lines(4)
    assert path.read_bytes().count(b"\n") == 4


def test_numbers_that_json_lacks_are_refused(tmp_path):
    with pytest.raises(ValueError, match="JSON compliant"):
        ledger.append(tmp_path / "l", {"iteration": 0, "loss": float("nan")})


@given(cut=st.integers(0, 400))
@settings(max_examples=40)
def test_a_torn_last_line_is_not_read(tmp_path_factory, cut):
    path = tmp_path_factory.mktemp("torn") / "l"
    write(path, lines(3))
    payload = path.read_bytes()[:cut]
    path.write_bytes(payload)
    assert ledger.read(path) == lines(3)[: payload.count(b"\n")]


@pytest.mark.parametrize("bad", [b"{", b"[]", b"{}", b'{"iteration": "1"}', b"\xff", b""])
def test_a_damaged_line_is_named(tmp_path, bad):
    path = tmp_path / "l"
    write(path, lines(2))
    path.write_bytes(path.read_bytes() + bad + b"\n")
    with pytest.raises(CheckpointError, match="line 3 of"):
        ledger.read(path)


@pytest.mark.parametrize("last", [0, 2, 3, 4])
def test_cut_ends_at_a_line_and_adds_it_if_missing(tmp_path, last):
    path = tmp_path / "l"
    write(path, lines(4))
    path.write_bytes(path.read_bytes() + b'{"iteration": 4, "los')
    ledger.cut(path, lines(5)[last])
    assert ledger.read(path) == lines(last + 1)
    write(path, lines(6)[last + 1 :])
    assert ledger.read(path) == lines(6)


def test_a_full_disk_is_said_and_the_ledger_stays_readable(tmp_path, monkeypatch):
    path = tmp_path / "l"
    write(path, lines(2))
    real, calls = os.write, []

    def half_then_full(descriptor, payload):
        calls.append(1)
        if len(calls) > 1:
            raise OSError(28, "No space left on device")
        return real(descriptor, payload[:9])

    with monkeypatch.context() as patch:
        patch.setattr(atomic.os, "write", half_then_full)
        with pytest.raises(CheckpointError, match="the disk is full"):
            ledger.append(path, lines(3)[2])
    assert ledger.read(path) == lines(2)


@pytest.mark.parametrize("exists", [True, False])
def test_a_link_in_the_place_of_a_ledger_is_not_written_to(tmp_path, exists):
    other, path = tmp_path / "other", tmp_path / "ledger.jsonl"
    if exists:
        other.write_text("precious")
    path.symlink_to(other)
    with pytest.raises(CheckpointError, match="could not be written"):
        ledger.append(path, lines(1)[0])
    assert other.exists() == exists and (not exists or other.read_text() == "precious")
