import json
import os
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hfnumba import atomic, ledger
from hfnumba.errors import CheckpointError
from tests.lines import line


def lines(n):
    return [line(i, loss=1 / (i + 3), note="größer\n") for i in range(n)]


def write(path, wanted):
    for one in wanted:
        ledger.append(path, one)


def test_lines_are_read_as_they_were_written(tmp_path):
    path = tmp_path / "ledger.jsonl"
    assert ledger.read(path) == []
    write(path, lines(4))
    assert ledger.read(path) == lines(4)
    assert path.read_bytes().count(b"\n") == 4


def test_numbers_that_json_lacks_are_refused(tmp_path):
    with pytest.raises(ValueError, match="JSON compliant"):
        ledger.append(tmp_path / "l", {"iteration": 0, "loss": float("nan")})


@given(cut=st.integers(0, 1500))
@settings(max_examples=40)
def test_a_torn_last_line_is_not_read(tmp_path_factory, cut):
    path = tmp_path_factory.mktemp("torn") / "l"
    write(path, lines(3))
    payload = path.read_bytes()[:cut]
    path.write_bytes(payload)
    assert ledger.read(path) == lines(3)[: payload.count(b"\n")]


DAMAGED = [
    b"{",
    b"[]",
    b"{}",
    b"\xff",
    b"",
    b"[" * 100_000,
    *(
        json.dumps(line(2, **{name: value})).encode()
        for name, value in (
            ("iteration", "2"),
            ("iteration", True),
            ("rounds", -1),
            ("epoch", None),
            ("elapsed_s", float("nan")),
            ("loss", float("inf")),
            ("test_error", "0.1"),
            ("note", None),
        )
    ),
]


@pytest.mark.parametrize("bad", DAMAGED, ids=range(len(DAMAGED)))
def test_a_damaged_line_is_named(tmp_path, bad):
    path = tmp_path / "l"
    write(path, lines(2))
    path.write_bytes(path.read_bytes() + bad + b"\n")
    with pytest.raises(CheckpointError, match=r"line 3 of .*l is not a line of a ledger"):
        ledger.read(path)


@given(bit=st.integers(0, 8 * len(json.dumps(line(1)).encode()) - 1))
@settings(max_examples=150)
def test_a_flipped_bit_is_named(tmp_path_factory, bit):
    path = tmp_path_factory.mktemp("flip") / "l"
    write(path, [line(0), line(1), line(2)])
    payload = bytearray(path.read_bytes())
    payload[payload.index(b"\n") + 1 + bit // 8] ^= 1 << bit % 8
    path.write_bytes(payload)
    with pytest.raises(CheckpointError, match=r"line [23] of"):
        ledger.read(path)


def without_checksums(path):
    path.write_bytes(re.sub(rb', "crc32": "[0-9a-f]{8}"}', b"}", path.read_bytes()))


def test_ledgers_of_versions_without_checksums_are_read_and_continued(tmp_path):
    path = tmp_path / "l"
    write(path, lines(3))
    without_checksums(path)
    assert b"crc32" not in path.read_bytes() and ledger.read(path) == lines(3)
    assert ledger.cut(path, lines(3)[2]) == lines(3)
    write(path, lines(4)[3:])
    assert ledger.read(path) == lines(4) and path.read_bytes().count(b"crc32") == 4


@pytest.mark.parametrize("change", [(b'"loss": 0.5', b'"loss": 0.4'), (b'"crc32": "', b'"crc33": "'), (b", ", b",  ")])
@pytest.mark.parametrize("i", [0, 1, 2])
def test_a_changed_value_is_named(tmp_path, change, i):
    path = tmp_path / "l"
    write(path, [line(k, loss=0.5) for k in range(3)])
    texts = path.read_bytes().splitlines(keepends=True)
    texts[i] = texts[i].replace(*change)
    path.write_bytes(b"".join(texts))
    with pytest.raises(CheckpointError, match=f"line {i + 1} of .* something in it was changed.*; restore the file"):
        ledger.read(path)


@pytest.mark.parametrize(
    ("numbers", "named"),
    [([1, 2], "line 1 of .* iteration 1, expected 0"), ([0, 2], "line 2 of .* 2, expected 1"), ([0, 0], "line 2 of")],
)
def test_a_ledger_without_some_of_its_lines_is_refused(tmp_path, numbers, named):
    path = tmp_path / "l"
    write(path, [line(i) for i in numbers])
    with pytest.raises(CheckpointError, match=rf"{named}.*move it away"):
        ledger.read(path)


@pytest.mark.parametrize("last", [0, 2, 3, 4])
def test_cut_ends_at_a_line_and_adds_it_if_missing(tmp_path, last):
    path = tmp_path / "l"
    write(path, lines(4))
    path.write_bytes(path.read_bytes() + b'{"iteration": 4, "los')
    assert ledger.cut(path, lines(5)[last]) == lines(last + 1)
    assert ledger.read(path) == lines(last + 1)
    write(path, lines(6)[last + 1 :])
    assert ledger.read(path) == lines(6)


@pytest.mark.parametrize("n", [0, 3])
def test_cut_refuses_a_ledger_that_ends_too_soon(tmp_path, n):
    path = tmp_path / "l"
    ledger.write(path, lines(n))
    with pytest.raises(CheckpointError, match=r"l (has no line|ends at iteration 2), but .* is of iteration 4"):
        ledger.cut(path, lines(5)[4])
    assert ledger.read(path) == lines(n)


def test_cut_refuses_a_line_that_lacks_something(tmp_path):
    with pytest.raises(CheckpointError, match=r"no whole line for .*l \(Object missing required field `epoch`\)"):
        ledger.cut(tmp_path / "l", {"iteration": 0})


def test_a_ledger_that_was_moved_away_begins_anew_and_says_so(tmp_path):
    path = tmp_path / "l"
    for _ in range(2):
        assert ledger.cut(path, lines(5)[4]) == [lines(5)[4] | {ledger.LOST: True}]
    write(path, lines(7)[5:])
    assert [found["iteration"] for found in ledger.read(path)] == [4, 5, 6]


@pytest.mark.parametrize("place", [os.mkfifo, lambda path: path.symlink_to("/dev/zero")])
def test_what_is_no_file_is_not_read(tmp_path, place):
    place(tmp_path / "l")
    with pytest.raises(CheckpointError, match=r"l cannot be read \(a folder, pipe or device is in .*\)"):
        ledger.read(tmp_path / "l")


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
