"""Tables and numbers for the terminal."""

from __future__ import annotations

import re
import shutil
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import click

from hfnumba.errors import printable
from hfnumba.ledger import Line
from hfnumba.metrics import metrics_in

_GAP = 2
_NUMBER = re.compile(r"–?|[-+]?[\d.,]+(e[-+]?\d+)?( %| of \d+)?|– of \d+|\d{4}-\d\d-\d\d \d\d:\d\d")
"""Numbers, shares, counts and dates; a dash stands for none."""
_BREAK = re.compile(r"(?<=\s)|(?<=\w-)(?<!\de-)(?=\w)")
"""Places in a text where a line may end: after a space, and after a hyphen that is no sign of an exponent."""


def number(value: float | None) -> str:
    """Format to four significant digits; a dash for None."""
    return "–" if value is None else f"{value:.4g}"


def hanging(start: str, text: str) -> str:
    """Return a line of stdout, wrapped on a terminal so that the text stays right of its start."""
    if not sys.stdout.isatty():
        return start + text
    width = shutil.get_terminal_size().columns - len(start)
    return start + _wrapped(text, max(width, 20)).replace("\n", "\n" + " " * len(start))


def print_table(
    columns: Sequence[str], rows: Sequence[Sequence[str]], err: bool = False, optional: Sequence[str] = ()
) -> None:
    """Print a table with aligned columns; numbers are aligned at the right, and are never split or shortened.

    Without a terminal each row is one line. On a terminal that is too narrow, ``optional`` columns are left out, the
    last of them first, or a table with more columns than rows is transposed; if that is not enough, words are wrapped.
    """
    table = _Table(tuple(columns), tuple(tuple(map(printable, row)) for row in rows))
    if (sys.stderr if err else sys.stdout).isatty():
        _draw(table, optional, err)
        return
    for line in table.lines():
        click.echo(line, err=err)


def transposed(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> tuple[list[str], list[list[str]]]:
    """Exchange rows and columns: the first column becomes the header."""
    header, *lines = zip(columns, *rows, strict=True)
    return list(header), [list(line) for line in lines]


@dataclass(frozen=True)
class _Table:
    """Header and rows, and the widths of their columns."""

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    def without(self, names: Sequence[str]) -> _Table:
        """Return the table without some columns."""
        kept = [k for k, name in enumerate(self.columns) if name not in names]
        return _Table(*(tuple(self.columns[k] for k in kept), tuple(tuple(row[k] for k in kept) for row in self.rows)))

    def turned(self) -> _Table:
        """Return the table with rows and columns exchanged."""
        columns, rows = transposed(self.columns, self.rows)
        return _Table(tuple(columns), tuple(map(tuple, rows)))

    def numeric(self) -> list[bool]:
        """Whether all cells of each column are numbers."""
        return [all(map(_NUMBER.fullmatch, cells)) for cells in zip(*self.rows, strict=True)] or [
            False for _ in self.columns
        ]

    def widths(self) -> list[int]:
        """Width of each column on one line."""
        return [max(map(_cells, column)) for column in zip(self.columns, *self.rows, strict=True)]

    def least_widths(self) -> list[int]:
        """Width of each column with every word on a line of its own, but numbers whole."""
        least = []
        for is_numeric, (name, *cells) in zip(self.numeric(), zip(self.columns, *self.rows, strict=True), strict=True):
            words = [*_BREAK.split(name), *(cells if is_numeric else [w for cell in cells for w in _BREAK.split(cell)])]
            least.append(max(_cells(word.rstrip()) for word in words))
        return least

    def lines(self) -> Iterator[str]:
        """Yield the header and the rows with padded cells."""
        numeric, widths = self.numeric(), self.widths()
        for row in (self.columns, *self.rows):
            padded = [
                " " * (width - _cells(cell)) + cell if right else cell + " " * (width - _cells(cell))
                for cell, width, right in zip(row, widths, numeric, strict=True)
            ]
            yield (" " * _GAP).join(padded).rstrip()


def _cells(text: str) -> int:
    from rich.cells import cell_len

    return cell_len(text)


def _total(widths: Sequence[int]) -> int:
    return sum(widths) + _GAP * (len(widths) - 1)


def _draw(table: _Table, optional: Sequence[str], err: bool) -> None:
    """Draw a table with one line a row if that fits, else with wrapped words, else one row after another."""
    from rich.console import Console

    console = Console(stderr=err, markup=False, emoji=False, highlight=False)
    forms = [table.without(optional[len(optional) - k :]) for k in range(len(optional) + 1)]
    smallest = [forms[-1]]
    if len(table.rows) + 1 < len(table.columns):
        smallest.append(table.turned())
    for form in (*forms, *smallest[1:]):
        if _total(form.widths()) <= console.width:
            console.print(_drawing(form, form.widths()))
            return
    for form in smallest:
        if _total(form.least_widths()) <= console.width or len(form.columns) <= 3:
            console.print(_drawing(form, _narrowed(form, console.width)))
            return
    for row in table.rows:
        _draw(_Table((table.columns[0], row[0]), tuple(zip(table.columns[1:], row[1:], strict=True))), (), err)
        console.print()


def _narrowed(table: _Table, width: int) -> list[int]:
    """Take width from the widest columns that can do with less, then from the widest texts, whose words are folded."""
    widths = table.widths()
    for least in (table.least_widths(), [w if right else 1 for w, right in zip(widths, table.numeric(), strict=True)]):
        while _total(widths) > width and widths != least:
            k = max((k for k in range(len(widths)) if widths[k] > least[k]), key=widths.__getitem__, default=None)
            if k is None:
                break
            widths[k] -= 1
    return widths


def _drawing(table: _Table, widths: Sequence[int]) -> object:
    from rich import box
    from rich.table import Column, Table

    rows = [[_wrapped(cell, width) for cell, width in zip(row, widths, strict=True)] for row in table.rows]
    drawn = Table(
        *(
            Column(name, width=width, overflow="fold", justify="right" if right else "left")
            for name, width, right in zip(table.columns, widths, table.numeric(), strict=True)
        ),
        box=box.SIMPLE_HEAD,
        show_edge=False,
        padding=(0, _GAP - 1, 0, 0),
        pad_edge=False,
        # Where most rows take several lines, a blank line separates them.
        leading=int(2 * sum(any("\n" in cell for cell in row) for row in rows) > len(rows)),
    )
    for row in rows:
        drawn.add_row(*row)
    return drawn


def _wrapped(text: str, width: int) -> str:
    """Break a text into lines of at most ``width`` cells, unless a word is longer."""
    lines = [""]
    for word in _BREAK.split(text):
        if lines[-1] and _cells((lines[-1] + word).rstrip()) > width:
            lines.append("")
        lines[-1] += word
    return "\n".join(line.rstrip() for line in lines)


def best_by_validation(lines: Sequence[Line]) -> Line | None:
    """Return the first line with the lowest validation loss; None if there is none."""
    known = [line for line in lines if line.get("validation_loss") is not None]
    return min(known, key=lambda line: line["validation_loss"]) if known else None


def print_summary(lines: Sequence[Line]) -> None:
    """Print the first, the best by validation loss (where there is one) and the last iteration of a run on stderr."""
    if not lines:
        return
    metrics = metrics_in(lines[-1])
    best = best_by_validation(lines)
    chosen = [("start", lines[0]), *([] if best is None else [("best validation loss", best)]), ("end", lines[-1])]
    names = [metric.name for metric in metrics]
    parts = ["", *([] if best is None else ["validation_"]), "test_"]
    columns = ["", "iteration"]
    for part in parts:
        columns += [f"{part}{name}".replace("_", " ") for name in ("loss", *names)]
    columns += ["passes", "rounds", "MB", "seconds"]
    table = transposed(
        columns,
        [
            [
                name,
                str(line["iteration"]),
                *(
                    text
                    for part in parts
                    for text in (
                        number(line.get(f"{part}loss")),
                        *(metric.text(line.get(f"{part}{metric.key}")) for metric in metrics),
                    )
                ),
                f"{line['epoch']:.1f}",
                str(line["rounds"]),
                f"{line['nbytes'] / 1e6:.1f}",
                f"{line['elapsed_s']:.1f}",
            ]
            for name, line in chosen
        ],
    )
    print_table(*table, err=True)
