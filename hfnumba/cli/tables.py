"""Tables and numbers for the terminal."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import click

from hfnumba.errors import printable
from hfnumba.ledger import Line


def number(value: float | None) -> str:
    """Format to four significant digits; a dash for None."""
    return "–" if value is None else f"{value:.4g}"


def percent(value: float | None) -> str:
    """Format a share as a percentage; a dash for None."""
    return "–" if value is None else f"{100 * value:.2f} %"


def print_table(columns: Sequence[str], rows: Sequence[Sequence[str]], err: bool = False) -> None:
    """Print a table: drawn on a terminal, otherwise tab-separated.

    On a terminal that is too narrow, a table with more columns than rows is transposed, and long values are folded.
    """
    rows = [[printable(cell) for cell in row] for row in rows]
    if not (sys.stderr if err else sys.stdout).isatty():
        for row in [columns, *rows]:
            click.echo("\t".join(row), err=err)
        return
    from rich.console import Console
    from rich.table import Column, Table

    console = Console(stderr=err, markup=False, emoji=False)
    lines = [columns, *rows]
    width = sum(3 + max(map(len, column)) for column in zip(*lines, strict=True)) + 1
    if width > console.width and len(lines) < len(columns):
        lines = list(zip(*lines, strict=True))
    table = Table(*(Column(name, overflow="fold") for name in lines[0]))
    for line in lines[1:]:
        table.add_row(*line)
    console.print(table)


def best_by_validation(lines: Sequence[Line]) -> Line | None:
    """Return the first line with the lowest validation loss; None if there is none."""
    known = [line for line in lines if line.get("validation_loss") is not None]
    return min(known, key=lambda line: line["validation_loss"]) if known else None


def print_summary(lines: Sequence[Line]) -> None:
    """Print the first, the best by validation loss (where there is one) and the last iteration of a run on stderr."""
    if not lines:
        return
    best = best_by_validation(lines)
    chosen = [("start", lines[0]), *([] if best is None else [("best validation loss", best)]), ("end", lines[-1])]
    validation = [] if best is None else ["validation loss", "validation error"]
    columns = ["", "iteration", "loss", "error", *validation, "test loss", "test error"]
    columns += ["passes", "rounds", "MB", "seconds"]
    print_table(
        columns,
        [
            [
                name,
                str(line["iteration"]),
                number(line["loss"]),
                percent(line["error"]),
                *([number(line.get("validation_loss")), percent(line.get("validation_error"))] if validation else []),
                number(line["test_loss"]),
                percent(line["test_error"]),
                f"{line['epoch']:.1f}",
                str(line["rounds"]),
                f"{line['nbytes'] / 1e6:.1f}",
                f"{line['elapsed_s']:.1f}",
            ]
            for name, line in chosen
        ],
        err=True,
    )
