"""Tables: drawn on a terminal without loss of any value, aligned elsewhere."""

import re
import sys

import pytest

from hfnumba.cli.tables import print_table
from tests.tables import cells

COLUMNS = [f"column {k}" for k in range(9)]
ROWS = [[f"value {row}{k}" for k in range(9)] for row in range(2)]


def terminal(monkeypatch, width):
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", str(width))


def plain(text):
    """Remove the escape sequences of a terminal."""
    return re.sub(r"\x1b\[[0-9;]*m", "", text)


def rows_of(text):
    """Cells of the lines of a drawn table."""
    return [cells(line) for line in plain(text).splitlines() if line.strip() and "─" not in line]


@pytest.mark.parametrize("width", [40, 80, 200])
def test_no_value_is_lost_on_a_terminal(monkeypatch, capsys, width):
    terminal(monkeypatch, width)
    print_table(COLUMNS, ROWS)
    drawn = capsys.readouterr().out
    assert all(len(line) <= width for line in plain(drawn).splitlines())
    lines = [COLUMNS, *ROWS]
    assert rows_of(drawn) == (lines if width == 200 else [list(line) for line in zip(*lines, strict=True)])


def test_long_values_are_folded(monkeypatch, capsys):
    terminal(monkeypatch, 40)
    digest = "0123456789abcdef" * 4
    print_table(["property", "value"], [["digest", digest]])
    assert "".join(row[-1] for row in rows_of(capsys.readouterr().out)[1:]) == digest


def test_words_are_wrapped_between_words_and_numbers_stay_whole(monkeypatch, capsys):
    terminal(monkeypatch, 30)
    rows = [[f"a-rather-long-name-20261130-{k}", "some words on it", f"{k}00.25 %"] for k in range(4)]
    print_table(["name", "remark", "error"], rows)
    drawn = rows_of(capsys.readouterr().out)
    assert [row[-1] for row in drawn if row[-1].endswith("%")] == [row[-1] for row in rows]
    words = {word for row in drawn[1:] for cell in row for word in re.split(r"\s|(?<=-)", cell)}
    assert words - {""} == {
        "a-",
        "rather-",
        "long-",
        "name-",
        "20261130-",
        *"0123",
        "some",
        "words",
        "on",
        "it",
        "%",
    } | {row[-1].split()[0] for row in rows}


def test_optional_columns_are_left_out_from_the_last_one_where_there_is_no_room(monkeypatch, capsys):
    rows = [[f"value {k}{row}" for k in range(4)] for row in range(9)]
    for width, shown in ((38, COLUMNS[:4]), (30, [COLUMNS[0], COLUMNS[1], COLUMNS[3]]), (20, COLUMNS[:4:3])):
        terminal(monkeypatch, width)
        print_table(COLUMNS[:4], rows, optional=COLUMNS[1:3])
        drawn = rows_of(capsys.readouterr().out)
        assert drawn[0] == shown and len(drawn) == 10


def test_a_table_that_fits_in_no_way_becomes_one_for_each_row(monkeypatch, capsys):
    terminal(monkeypatch, 24)
    rows = [[f"{row}{k}000.125" for k in range(5)] for row in range(8)]
    print_table(COLUMNS[:5], rows)
    drawn = rows_of(capsys.readouterr().out)
    assert [row[-1] for row in drawn] == [cell for row in rows for cell in row]


def test_columns_are_aligned_elsewhere(capsys):
    print_table(["run", "loss"], [["first", "1.25"], ["b", "–"], ["三", "12.5"]])
    assert capsys.readouterr().out.splitlines() == ["run    loss", "first  1.25", "b         –", "三     12.5"]
    print_table(COLUMNS, ROWS)
    assert [cells(line) for line in capsys.readouterr().out.splitlines()] == [COLUMNS, *ROWS]
