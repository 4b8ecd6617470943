"""Progress on stderr: plain lines without a terminal, bars on one."""

import os
import pty
import subprocess
import sys

import pytest

from hfnumba.cli import progress
from hfnumba.cli.progress import rate, stderr_reporter


@pytest.mark.parametrize(
    ("call", "text"),
    [
        ((5, 20, "rows", 10.0), "5 of 20 rows, 0.5 a second, 30 s left"),
        ((20_000, 80_000, "rows", 2.0), "20,000 of 80,000 rows, 10,000 a second, 6.0 s left"),
        ((3_000_000, 1_803_000_000, "bytes", 1.5), "3 of 1,803 MB, 2.0 MB/s, 15:00 left"),
        ((7, 7, "files", 2.0), "7 of 7 files, 3.5 a second, 0.0 s left"),
        # Nothing done yet, or more than the total.
        ((0, 7, "files", 2.0), "0 of 7 files, 0.0 a second"),
        ((8, 7, "files", 0.0), "8 of 7 files, 0.0 a second"),
        ((8, 7, "files", 1.0), "8 of 7 files, 8.0 a second, 0.0 s left"),
    ],
)
def test_rates(call, text):
    assert rate(*call) == text


def test_plain_lines_come_every_few_seconds(monkeypatch, capsys):
    now = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    with stderr_reporter() as reporter:
        step = reporter.progress("Reading", "rows")
        for done in range(1, 13):
            now[0] += 1
            step(done, 12)
        reporter.progress("Short", "rows")(1, 1)
    assert capsys.readouterr().err.splitlines() == [
        "Reading: 5 of 12 rows, 1.0 a second, 7.0 s left",
        "Reading: 10 of 12 rows, 1.0 a second, 2.0 s left",
    ]


def test_on_a_terminal_one_bar_is_shown_at_a_time():
    program = (
        "import sys\nfrom hfnumba.cli.progress import stderr_reporter\nwith stderr_reporter() as reporter:\n"
        "    for what in ('First', 'Second'):\n        step = reporter.progress(what, 'rows')\n"
        "        for done in range(1, 4):\n            step(done, 4)\n            sys.stdin.readline()\n"
    )
    ours, theirs = pty.openpty()
    env = os.environ | {"TERM": "xterm", "COLUMNS": "100"}
    words = [sys.executable, "-c", program]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=theirs, stderr=theirs, env=env) as process:
        os.close(theirs)
        seen = b""
        for _ in ("First", "Second"):
            for done in (b"1", b"2", b"3"):
                # It goes on when this is on the terminal.
                part = b""
                while done + b" of 4 rows" not in part:
                    part += os.read(ours, 65536)
                seen += part
                process.stdin.write(b"\n")
                process.stdin.flush()
    os.close(ours)
    assert process.returncode == 0
    lines = [line for line in seen.decode().splitlines() if "of 4 rows" in line]
    assert any("First" in line and "left" in line for line in lines)
    assert any("Second" in line for line in lines)
    assert not any("First" in line and "Second" in line for line in lines)
