"""Tables: drawn on a terminal without loss of any value, tab-separated elsewhere."""

import re
import sys

import pytest

from hfnumba.cli.tables import print_table

COLUMNS = [f"column {k}" for k in range(9)]
ROWS = [[f"value {row}{k}" for k in range(9)] for row in range(2)]


def terminal(monkeypatch, width):
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", str(width))


def plain(text):
    """Remove the escape sequences of a terminal."""
    return re.sub(r"\x1b\[[0-9;]*m", "", text)


def cells(text):
    """Cells of the lines of a drawn table."""
    return [[cell.strip() for cell in re.split("[┃│]", line)[1:-1]] for line in text.splitlines() if line[0] in "┃│"]


@pytest.mark.parametrize("width", [40, 80, 200])
def test_no_value_is_lost_on_a_terminal(monkeypatch, capsys, width):
    terminal(monkeypatch, width)
    print_table(COLUMNS, ROWS)
    drawn = plain(capsys.readouterr().out)
    assert all(len(line) <= width for line in drawn.splitlines())
    lines = [COLUMNS, *ROWS]
    assert cells(drawn) == (lines if width == 200 else [list(line) for line in zip(*lines, strict=True)])


def test_long_values_are_folded(monkeypatch, capsys):
    terminal(monkeypatch, 40)
    digest = "0123456789abcdef" * 4
    print_table(["property", "value"], [["digest", digest]])
    assert "".join(row[1] for row in cells(plain(capsys.readouterr().out))[1:]) == digest


def test_tabs_elsewhere(capsys):
    print_table(COLUMNS, ROWS)
    assert [line.split("\t") for line in capsys.readouterr().out.splitlines()] == [COLUMNS, *ROWS]
