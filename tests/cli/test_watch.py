"""`hfnumba watch`: what it shows, that it follows a run to its end, and sparklines."""

import os
import pty
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from hfnumba import ledger
from hfnumba.cli import main
from hfnumba.cli.sparkline import sparkline
from hfnumba.cli.watch import shown
from hfnumba.run.config import settings_from
from hfnumba.run.lock import LOCK
from hfnumba.run.overview import Overview
from tests.lines import line


@pytest.mark.parametrize(
    ("values", "width", "text"),
    [
        ((0.0, 1.0, 7.0), 9, "▁▂█"),
        ((1.0, 10.0, 100.0), 9, "▁▅█"),
        ((5.0, 5.0), 9, "▄▄"),
        ((None, 1.0, None, 2.0), 9, " ▁ █"),
        ((3.0, 1.0, 2.0), 2, "▁█"),
        ((None, float("nan")), 9, "  "),
        ((float("inf"), 1.0, 2.0), 9, " ▁█"),
        ((), 9, ""),
    ],
)
def test_sparklines(values, width, text):
    assert sparkline(values, width) == text


def lines_of(n):
    step = {"direction": "newton", "alpha": 1.0, "krylov_status": "MAXITER", "damping": 0.25, "rho": 0.75}
    return tuple(line(k, **(step if k else {}), nbytes=1_500_000 * k) for k in range(n))


@pytest.mark.parametrize("width", [60, 80, 120])
def test_the_screen_has_every_number_and_fits(width):
    settings = settings_from({"hidden": (30, 20), "max_iterations": 9})
    screen = shown(Overview(settings, lines_of(4), 2.0), Path("runs/a"), width)
    text = re.sub(r"\s+", " ", "\n".join(screen))
    assert all(len(row) <= width for part in screen for row in part.splitlines())
    for words in (
        "runs/a: hf-bicgstab, hidden 30,20",
        "iteration 3 of 9, 0.9 s so far, about 0.0 s left; last record 2.0 s ago",
        "loss 0.5 █",
        "error 22.50 % █",
        "damping 0.25 ",
        "reduction ratio 0.75 ",
        "last step newton, step length 1: solver: the iteration limit was reached",
        "rounds 42, 14.0 an iteration",
        "sent, received 4.5 MB",
    ):
        assert words in text
    assert "test error" not in text


def test_a_regression_has_no_error_rate():
    settings = settings_from({"hidden": (3,), "loss": "squared_error"})
    screen = shown(Overview(settings, lines_of(4), 2.0), Path("r"), 80)
    assert not any(row.startswith("error") for row in screen) and any(row.startswith("loss") for row in screen)


def test_before_the_first_iteration_and_after_the_last():
    assert shown(None, Path("r"), 80) == ["r: the run has not begun yet", "if no process trains there, start it again"]
    settings = settings_from({"hidden": (), "max_iterations": 3})
    assert shown(Overview(settings, (), 0.0), Path("r"), 80)[1] == "no iteration is recorded yet"
    assert "ended: the limit of iterations is reached" in " ".join(
        shown(Overview(settings, lines_of(4), 9.0), Path("r"), 80)
    )


@pytest.fixture(scope="module")
def run(toy_store, tmp_path_factory):
    path = tmp_path_factory.mktemp("runs") / "a"
    words = ["train", str(toy_store), "--hidden", "4", "--max-iterations", "3", "--threads", "1", "--run", str(path)]
    assert CliRunner().invoke(main, words).exit_code == 0
    return path


def test_without_a_terminal_it_is_shown_once(run):
    result = CliRunner().invoke(main, ["watch", str(run)])
    assert result.exit_code == 0 and "iteration       3 of 3" in result.stdout
    assert CliRunner().invoke(main, ["watch", str(run.parent)]).exit_code == 1


def test_on_a_terminal_it_follows_the_run_to_its_end(run, tmp_path):
    lines = ledger.read(run / "ledger.jsonl")
    (tmp_path / "r").mkdir()
    (tmp_path / "r" / LOCK).touch()
    ours, theirs = pty.openpty()
    # A short name, so that no line is wrapped.
    words = [sys.executable, "-m", "hfnumba", "watch", "r"]
    env = os.environ | {"TERM": "xterm", "COLUMNS": "100"}
    with subprocess.Popen(words, stdin=theirs, stdout=theirs, stderr=theirs, env=env, cwd=tmp_path) as process:
        os.close(theirs)
        seen, rest = b"", list(lines)
        while process.poll() is None:
            try:
                seen += os.read(ours, 65536)
            except OSError:
                break
            # The next line is written when the last one is on the terminal.
            if rest == list(lines) and b"has not begun yet" in seen:
                ledger.write(tmp_path / "r" / "ledger.jsonl", [rest.pop(0)])
                shutil.copy(run / "config.toml", tmp_path)
                (tmp_path / "config.toml").replace(tmp_path / "r" / "config.toml")
            elif rest and b"%d of 3" % (rest[0]["iteration"] - 1) in seen:
                ledger.append(tmp_path / "r" / "ledger.jsonl", rest.pop(0))
    os.close(ours)
    assert process.returncode == 0 and rest == []
    assert b"ended: the limit of iterations is reached" in seen
